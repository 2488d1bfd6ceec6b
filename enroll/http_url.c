/* What HTTP needs to know of URLs: made longer, compared, and shown. */
#include "enroll/http.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
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

/* Whether HOST, as libcurl writes it, is this machine, or one that only its own link leads to. */
static enum reach { ANYWHERE, LINK, HERE } reach(const char *host)
{
	static const struct in6_addr mapped = { { { [10] = 0xff, [11] = 0xff } } };
	size_t length = strlen(host);
	char text[INET6_ADDRSTRLEN];
	struct in6_addr six;
	struct in_addr four;
	uint32_t number;

	while (length && host[length - 1] == '.')
		length--;
	if (length >= 9 && strncasecmp(host + length - 9, "localhost", 9) == 0 &&
	    (length == 9 || host[length - 10] == '.'))
		return HERE;
	snprintf(text, sizeof text, "%.*s", (int)strcspn(host + (*host == '['), "]"),
	         host + (*host == '['));
	if (inet_pton(AF_INET6, text, &six) == 1) {
		if (IN6_IS_ADDR_LOOPBACK(&six) || IN6_IS_ADDR_UNSPECIFIED(&six))
			return HERE;
		if (memcmp(&six, &mapped, 12) != 0)
			return IN6_IS_ADDR_LINKLOCAL(&six) ? LINK : ANYWHERE;
		memcpy(&four, six.s6_addr + 12, sizeof four);
	} else if (inet_pton(AF_INET, text, &four) != 1) {
		return ANYWHERE;
	}
	number = ntohl(four.s_addr);
	if (number >> 24 == 127 || number >> 24 == 0)
		return HERE;
	return number >> 16 == (169u << 8 | 254) ? LINK : ANYWHERE;
}

static bool may_name(CURLU *parts, const char *from, const char *to)
{
	static const CURLUPart forbidden[] = { CURLUPART_USER, CURLUPART_PASSWORD,
		                               CURLUPART_FRAGMENT, CURLUPART_ZONEID };
	char *scheme = NULL, *host = NULL, *other = NULL, *text = NULL;
	bool may = !curl_url_set(parts, CURLUPART_URL, to, 0) &&
	           !curl_url_get(parts, CURLUPART_SCHEME, &scheme, 0) &&
	           strcmp(scheme, "https") == 0 && !curl_url_get(parts, CURLUPART_HOST, &host, 0);

	for (size_t i = 0; may && i < COUNT(forbidden); i++) {
		may = curl_url_get(parts, forbidden[i], &text, 0) != CURLUE_OK;
		curl_free(text);
		text = NULL;
	}
	may = may && !curl_url_set(parts, CURLUPART_URL, from, 0) &&
	      !curl_url_get(parts, CURLUPART_HOST, &other, 0) &&
	      (reach(host) == ANYWHERE || strcasecmp(host, other) == 0 ||
	       (reach(host) == HERE && reach(other) == HERE));
	curl_free(scheme);
	curl_free(host);
	curl_free(other);
	return may;
}

bool http_may_name(const char *from, const char *to)
{
	CURLU *parts = curl_url();
	bool may = parts && may_name(parts, from, to);

	curl_url_cleanup(parts);
	return may;
}

char *http_url_from(const char *url, const char *reference)
{
	CURLU *parts = curl_url();
	CURLUcode code = curl_url_set(parts, CURLUPART_URL, url, 0);

	if (!code)
		code = curl_url_set(parts, CURLUPART_URL, reference, 0);
	return take_url(parts, code);
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
