#include "common/ldapurl.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DN_MAX        4096
#define ATTRIBUTE_MAX 128

static const struct {
	const char *prefix;
	bool tls;
	unsigned port;
} schemes[] = { { "ldap://", false, 389 }, { "ldaps://", true, 636 } };

static size_t scheme_of(const char *text)
{
	size_t i = 0;

	while (i < COUNT(schemes) &&
	       strncasecmp(text, schemes[i].prefix, strlen(schemes[i].prefix)) != 0)
		i++;
	return i;
}

bool ldap_url_is(const char *text)
{
	return scheme_of(text) < COUNT(schemes);
}

void ldap_url_clear(struct ldap_url *url)
{
	free(url->host);
	free(url->dn);
	for (size_t i = 0; i < COUNT(url->attributes); i++)
		free(url->attributes[i]);
	*url = (struct ldap_url){ 0 };
}

static int refuse(struct error *err, const char *why, const char *text, size_t length)
{
	return error_set(err, -EINVAL, "%s: \"%.*s\"", why, length < 80 ? (int)length : 80, text);
}

/* What the two hex digits at TEXT stand for; 0 where they are none, or the NUL that no text has. */
static char unescape(const char *text, size_t length)
{
	char digits[3] = "", *end;
	long value;

	if (length >= 2)
		memcpy(digits, text, 2);
	value = isxdigit((unsigned char)*digits) ? strtol(digits, &end, 16) : 0;
	return value && end == digits + 2 ? (char)value : '\0';
}

/* The LENGTH bytes of TEXT with each %XX decoded, the caller's; NULL where one of them is none. */
static char *decode(const char *text, size_t length)
{
	char *decoded = malloc(length + 1);
	size_t used = 0;

	for (size_t i = 0; decoded && i < length; i++) {
		char c = text[i];

		if (c == '%') {
			c = unescape(text + i + 1, length - i - 1);
			i += 2;
		}
		if (!c) {
			free(decoded);
			return NULL;
		}
		decoded[used++] = c;
	}
	if (decoded)
		decoded[used] = '\0';
	return decoded;
}

static int read_port(const char *text, size_t length, struct ldap_url *url, struct error *err)
{
	unsigned port = 0;

	for (size_t i = 0; i < length && port <= 65535; i++)
		port = isdigit((unsigned char)text[i]) ? port * 10 + (unsigned)(text[i] - '0')
		                                       : 65536;
	if (!port || port > 65535)
		return refuse(err, "an LDAP URL has no such port", text, length);
	url->port = port;
	return 0;
}

/* HOST[:PORT], HOST an IPv6 address in brackets where it is one. */
static int read_server(const char *text, size_t length, struct ldap_url *url, struct error *err)
{
	const char *end = text + length, *host = text, *colon;
	size_t size;

	if (length && *text == '[') {
		const char *close = memchr(text, ']', length);

		host = text + 1;
		if (!close || (close + 1 < end && close[1] != ':'))
			return refuse(err, "an LDAP URL has no such host", text, length);
		size = (size_t)(close - host);
		colon = close + 1 < end ? close + 1 : NULL;
	} else {
		colon = memchr(text, ':', length);
		size = colon ? (size_t)(colon - text) : length;
	}
	if (!size || size > 253)
		return refuse(err, "an LDAP URL needs a host", text, length);
	for (size_t i = 0; i < size; i++)
		if (!isalnum((unsigned char)host[i]) && !strchr("-._:", host[i]))
			return refuse(err, "an LDAP URL has no such host", text, length);
	url->host = strndup(host, size);
	if (!url->host)
		return error_set(err, -ENOMEM, "no memory");
	return colon ? read_port(colon + 1, (size_t)(end - colon - 1), url, err) : 0;
}

static int read_dn(const char *text, size_t length, struct ldap_url *url, struct error *err)
{
	url->dn = length <= DN_MAX ? decode(text, length) : NULL;
	return url->dn ? 0 : refuse(err, "the DN of an LDAP URL cannot be read", text, length);
}

/* An attribute description (RFC 4512 §2.5): a name or an OID, with options. */
static int read_attribute(const char *text, size_t length, struct ldap_url *url, struct error *err)
{
	char *attribute = length && length <= ATTRIBUTE_MAX ? decode(text, length) : NULL;
	size_t count = 0;
	bool good = attribute && *attribute;

	for (const char *at = attribute; good && *at; at++)
		good = isalnum((unsigned char)*at) || strchr("-.;", *at);
	while (count < LDAP_ATTRIBUTES_MAX && url->attributes[count])
		count++;
	if (!good || count + 1 == LDAP_ATTRIBUTES_MAX) {
		free(attribute);
		return refuse(err,
		              good ? "an LDAP URL names too many attributes"
		                   : "an LDAP URL has no such attribute",
		              text, length);
	}
	url->attributes[count] = attribute;
	return 0;
}

static int read_attributes(const char *text, size_t length, struct ldap_url *url, struct error *err)
{
	const char *end = text + length;
	int r = 0;

	while (r == 0 && text < end) {
		const char *comma = memchr(text, ',', (size_t)(end - text));
		size_t size = (size_t)((comma ? comma : end) - text);

		r = read_attribute(text, size, url, err);
		text += size + 1;
	}
	return r;
}

static bool is_base(const char *text, size_t length)
{
	return !length || (length == 4 && strncasecmp(text, "base", 4) == 0);
}

/* None is known here; one that is not critical may be ignored (RFC 4516 §2). */
static bool has_critical(const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (text[i] == '!' && (i == 0 || text[i - 1] == ','))
			return true;
	return false;
}

/* What stands behind the host: /DN?ATTRIBUTES?SCOPE?FILTER?EXTENSIONS, as far as it goes. */
static int read_parts(const char *text, struct ldap_url *url, struct error *err)
{
	enum { DN, ATTRIBUTES, SCOPE, FILTER, EXTENSIONS, PARTS };
	const char *at = text, *parts[PARTS];
	size_t lengths[PARTS];
	int r;

	for (size_t i = 0; i < PARTS; i++) {
		parts[i] = at + (*at != '\0');
		lengths[i] = strcspn(parts[i], "?");
		at = parts[i] + lengths[i];
	}
	if (*text && *text != '/')
		return refuse(err, "an LDAP URL has its DN behind a \"/\"", text, strlen(text));
	if (*at)
		return refuse(err, "an LDAP URL has no more parts", at, strlen(at));
	if (!is_base(parts[SCOPE], lengths[SCOPE]))
		return refuse(err, "an LDAP URL is of one entry: its scope is base, not",
		              parts[SCOPE], lengths[SCOPE]);
	if (has_critical(parts[EXTENSIONS], lengths[EXTENSIONS]))
		return refuse(err, "an LDAP URL has an extension that is critical",
		              parts[EXTENSIONS], lengths[EXTENSIONS]);
	r = read_dn(parts[DN], lengths[DN], url, err);
	return r < 0 ? r : read_attributes(parts[ATTRIBUTES], lengths[ATTRIBUTES], url, err);
}

int ldap_url_read(const char *text, struct ldap_url *url, struct error *err)
{
	size_t scheme = scheme_of(text), length;
	int r;

	*url = (struct ldap_url){ 0 };
	if (scheme == COUNT(schemes))
		return refuse(err, "this is no LDAP URL", text, strlen(text));
	url->tls = schemes[scheme].tls;
	url->port = schemes[scheme].port;
	text += strlen(schemes[scheme].prefix);
	length = strcspn(text, "/?#");
	r = read_server(text, length, url, err);
	return r < 0 ? r : read_parts(text + length, url, err);
}

bool ldap_server_is(const char *text)
{
	struct ldap_url url;
	bool is = ldap_url_read(text, &url, NULL) == 0 && !*url.dn;

	ldap_url_clear(&url);
	return is;
}

bool ldap_server_same(const char *one, const char *other)
{
	struct ldap_url a, b;
	bool readable = ldap_url_read(one, &a, NULL) == 0;
	bool same = ldap_url_read(other, &b, NULL) == 0 && readable && a.tls == b.tls &&
	            a.port == b.port && strcasecmp(a.host, b.host) == 0;

	ldap_url_clear(&a);
	ldap_url_clear(&b);
	return same;
}

char *ldap_dn(const X509_NAME *name)
{
	BIO *out = BIO_new(BIO_s_mem());
	char *bytes = NULL, *text = NULL;
	long length;

	/* characters beyond ASCII are UTF-8 (RFC 4514 §2.4) */
	if (out && X509_NAME_print_ex(out, name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) >= 0) {
		length = BIO_get_mem_data(out, &bytes);
		text = strndup(bytes, (size_t)length);
	}
	BIO_free(out);
	return text;
}

char *ldap_url_of(const char *server, const X509_NAME *name)
{
	size_t length = strlen(schemes[scheme_of(server)].prefix);
	char *dn = ldap_dn(name), *url, *to;

	url = dn ? malloc(strlen(server) + 3 * strlen(dn) + 2) : NULL;
	length += strcspn(server + length, "/?#");
	if (url) {
		to = url + sprintf(url, "%.*s/", (int)length, server);
		for (const char *from = dn; *from; from++)
			to += sprintf(to,
			              isalnum((unsigned char)*from) || strchr("=,-._", *from)
			                      ? "%c"
			                      : "%%%02X",
			              (unsigned char)*from);
		sprintf(to, "%s", server + length + (server[length] == '/')); /* attributes */
	}
	free(dn);
	return url;
}
