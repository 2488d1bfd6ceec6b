#include "common/traffic.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const struct {
	const char *name;
	unsigned char number;
} protocols[] = {
	{ "any", 0 },
	{ "icmp", IPPROTO_ICMP },
	{ "tcp", IPPROTO_TCP },
	{ "udp", IPPROTO_UDP },
	{ "gre", IPPROTO_GRE },
	{ "icmpv6", IPPROTO_ICMPV6 },
	{ "sctp", IPPROTO_SCTP },
};

/* All of TEXT (LENGTH characters) as a number up to MAX, or -1. */
static long number_of(const char *text, size_t length, long max)
{
	long number = 0;

	for (size_t i = 0; i < length; i++) {
		if (!isdigit((unsigned char)text[i]))
			return -1;
		number = number * 10 + (text[i] - '0');
		if (number > max)
			return -1;
	}
	return length ? number : -1;
}

static long protocol_of(const char *text, size_t length)
{
	for (size_t i = 0; i < COUNT(protocols); i++)
		if (strlen(protocols[i].name) == length &&
		    strncasecmp(protocols[i].name, text, length) == 0)
			return protocols[i].number;
	return number_of(text, length, 255);
}

/* ":tcp:443" behind a network. */
static int read_rest(const char *rest, struct traffic *traffic)
{
	size_t length;
	long protocol, port = 0;

	if (!*rest)
		return 0;
	if (*rest++ != ':')
		return -EINVAL;
	length = strcspn(rest, ":");
	protocol = protocol_of(rest, length);
	rest += length;
	if (*rest)
		port = strcmp(rest, ":any") == 0 ? 0 : number_of(rest + 1, strlen(rest + 1), 65535);
	if (protocol < 0 || port < 0 || (port && !protocol))
		return -EINVAL;
	traffic->protocol = (unsigned char)protocol;
	traffic->port = (uint16_t)port;
	return 0;
}

/* No bit stands behind the prefix. */
static bool is_network(const struct traffic *traffic)
{
	for (unsigned bit = traffic->length; bit < (traffic->family == AF_INET ? 32u : 128u); bit++)
		if (traffic->address[bit / 8] & 0x80 >> bit % 8)
			return false;
	return true;
}

static int read_all(const char *text, struct traffic *traffic)
{
	size_t length = strcspn(text, "/");
	const char *rest = text + length;
	char address[INET6_ADDRSTRLEN] = "";
	long prefix;

	if (!*rest && strchr(text, '.')) { /* a host of IPv4 may have a protocol behind it */
		length = strcspn(text, ":");
		rest = text + length;
	}
	if (length >= sizeof address)
		return -EINVAL;
	memcpy(address, text, length);
	traffic->family = strchr(address, ':') ? AF_INET6 : AF_INET;
	if (inet_pton(traffic->family, address, traffic->address) != 1)
		return -EINVAL;
	prefix = traffic->family == AF_INET ? 32 : 128;
	if (*rest == '/') {
		length = strspn(++rest, "0123456789");
		prefix = number_of(rest, length, prefix);
		rest += length;
	}
	if (prefix < 0)
		return -EINVAL;
	traffic->length = (unsigned char)prefix;
	return read_rest(rest, traffic);
}

int traffic_read(const char *text, struct traffic *traffic, struct error *err)
{
	*traffic = (struct traffic){ 0 };
	if (read_all(text, traffic) < 0)
		return error_set(err, -EINVAL,
		                 "\"%.80s\" is no network like 10.1.0.0/24 or fd00::/64 (:PROTOCOL "
		                 "or :PROTOCOL:PORT may follow)",
		                 text);
	if (!is_network(traffic))
		return error_set(err, -EINVAL, "\"%.80s\" has bits behind its prefix", text);
	return 0;
}

static int read_number(const char *text, char **end, uint32_t *number)
{
	unsigned long long value;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	errno = 0;
	value = strtoull(text, end, 0);
	if (errno || value > UINT32_MAX)
		return -EINVAL;
	*number = (uint32_t)value;
	return 0;
}

int mark_read(const char *text, uint32_t *value, uint32_t *mask)
{
	char *end;
	int r = read_number(text, &end, value);

	*mask = UINT32_MAX;
	if (r == 0 && *end == '/')
		r = read_number(end + 1, &end, mask);
	return r == 0 && !*end && *mask && !(*value & ~*mask) ? 0 : -EINVAL;
}
