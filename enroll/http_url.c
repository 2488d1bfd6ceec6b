/* What HTTP needs to know of URLs: made longer, compared, and shown. */
#include "enroll/http.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static char *take_url(CURLU *parts, CURLUcode code)
{
	char *url = NULL, *copy = NULL;

	if (!code && !curl_url_get(parts, CURLUPART_URL, &url, 0))
		copy = strdup(url);
	curl_free(url);
	curl_url_cleanup(parts);
	return copy;
}

char *http_url_add(const char *url, const char *name, const char *value)
{
	CURLU *parts = curl_url();
	CURLUcode code = curl_url_set(parts, CURLUPART_URL, url, 0);
	char *escaped = value ? curl_easy_escape(NULL, value, 0) : NULL;
	char *pair = NULL;

	if (value && (!escaped || asprintf(&pair, "%s=%s", name, escaped) < 0))
		code = CURLUE_OUT_OF_MEMORY;
	if (!code && pair)
		code = curl_url_set(parts, CURLUPART_QUERY, pair, CURLU_APPENDQUERY);
	curl_free(escaped);
	free(pair);
	return take_url(parts, code);
}

char *http_url_below(const char *url, const char *otherwise, const char *name)
{
	CURLU *parts = curl_url();
	CURLUcode code = curl_url_set(parts, CURLUPART_URL, url, 0);
	char *path = NULL, *below = NULL;
	size_t length;

	if (!code)
		code = curl_url_get(parts, CURLUPART_PATH, &path, 0);
	length = path ? strlen(path) : 0;
	while (length && path[length - 1] == '/')
		length--;
	if (!code && asprintf(&below, "%.*s/%s", (int)(length ? length : strlen(otherwise)),
	                      length ? path : otherwise, name) < 0)
		code = CURLUE_OUT_OF_MEMORY;
	if (!code)
		code = curl_url_set(parts, CURLUPART_PATH, below, 0);
	curl_free(path);
	free(below);
	return take_url(parts, code);
}

char *http_url_text(const char *url)
{
	static const CURLUPart private[] = { CURLUPART_USER, CURLUPART_PASSWORD, CURLUPART_QUERY,
		                             CURLUPART_FRAGMENT };
	CURLU *parts = curl_url();
	CURLUcode code = curl_url_set(parts, CURLUPART_URL, url, 0);
	char *text;

	for (size_t i = 0; i < COUNT(private); i++)
		curl_url_set(parts, private[i], NULL, 0);
	text = take_url(parts, code);
	return text ? text : strdup("a URL that cannot be read");
}

bool http_same_server(const char *one, const char *other)
{
	static const CURLUPart server[] = { CURLUPART_SCHEME, CURLUPART_HOST, CURLUPART_PORT };
	CURLU *first = curl_url(), *second = curl_url();
	bool same = !curl_url_set(first, CURLUPART_URL, one, 0) &&
	            !curl_url_set(second, CURLUPART_URL, other, 0);

	for (size_t i = 0; same && i < COUNT(server); i++) {
		char *a = NULL, *b = NULL;

		curl_url_get(first, server[i], &a, CURLU_DEFAULT_PORT);
		curl_url_get(second, server[i], &b, CURLU_DEFAULT_PORT);
		same = a && b && strcasecmp(a, b) == 0;
		curl_free(a);
		curl_free(b);
	}
	curl_url_cleanup(first);
	curl_url_cleanup(second);
	return same;
}
