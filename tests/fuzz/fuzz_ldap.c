/*
 * LDAP. First byte even: a URL; odd: what a server says to the question of message 1, with bit 1
 * set as the value of an attribute, so that the order of CRLs is reached at once.
 */
#include "enroll/ldap.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__lsan_default_suppressions(void);

/*
 * libldap forgets 4 kB of its request where the answer to it is none, and the first string of a
 * result whose second one cannot be read. (unit.ldap sees what we forget.)
 */
const char *__lsan_default_suppressions(void)
{
	return "leak:ber_memcalloc_x\nleak:ber_memalloc_x\n";
}

static void must(bool condition)
{
	if (!condition)
		abort();
}

static void read_url(const uint8_t *data, size_t size)
{
	char *text = strndup((const char *)data, size);
	struct error err = { 0 };
	struct ldap_url url;

	must(text != NULL);
	if (ldap_url_read(text, &url, &err) == 0) {
		must(*url.host && url.port > 0 && url.port <= 65535);
		must(strlen(url.dn) <= size);
		for (size_t i = 0; i < LDAP_ATTRIBUTES_MAX && url.attributes[i]; i++)
			must(*url.attributes[i]);
	} else {
		must(*err.text);
	}
	ldap_url_clear(&url);
	free(text);
}

/* TAG and a length of two bytes, in front of the LENGTH bytes at AT; they begin 4 bytes earlier. */
static uint8_t *wrap(uint8_t *at, int tag, size_t *length)
{
	at -= 4;
	at[0] = (uint8_t)tag;
	at[1] = 0x82;
	at[2] = (uint8_t)(*length >> 8);
	at[3] = (uint8_t)*length;
	*length += 4;
	return at;
}

static uint8_t *prepend(uint8_t *at, const char *bytes, size_t count, size_t *length)
{
	*length += count;
	return memcpy(at - count, bytes, count);
}

/* Two values: DATA's halves. */
static size_t make_entry(const uint8_t *data, size_t size, uint8_t *message, uint8_t **begin)
{
	static const char done[] = "\x30\x0c\x02\x01\x01\x65\x07\x0a\x01\x00\x04\x00\x04\x00";
	size_t half = size / 2, one = half, length = size - half;
	uint8_t *at = message + 256;

	memcpy(at + half + 4, data + half, length);
	wrap(at + half + 4, 0x04, &length);
	memcpy(at, data, half);
	at = wrap(at, 0x04, &one);
	length += one;
	at = wrap(at, 0x31, &length);
	at = wrap(prepend(at,
	                  "\x04\x01"
	                  "a",
	                  3, &length),
	          0x30, &length);
	at = wrap(at, 0x30, &length);
	at = wrap(prepend(at, "\x04\x00", 2, &length), 0x64, &length);
	at = wrap(prepend(at, "\x02\x01\x01", 3, &length), 0x30, &length);
	memcpy(at + length, done, sizeof done - 1);
	*begin = at;
	return length + sizeof done - 1;
}

static void converse(const uint8_t *said, size_t size, bool values)
{
	const struct ldap_request request = {
		.url = "ldap://a/b", .seconds = 3600, .patience = 3600 /* whatever else runs */
	};
	struct ldap_answer answer;
	struct error err = { 0 };
	struct ldap_url url;
	int pair[2], r;

	must(ldap_url_read(request.url, &url, NULL) == 0);
	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	must(write(pair[1], said, size) == (ssize_t)size);
	shutdown(pair[1], SHUT_WR);
	r = ldap_ask(pair[0], &url, &request, &answer, &err);
	must(r == 0 ? answer.count > 0 : *err.text != '\0');
	must(!values || r == 0);
	for (size_t i = 0; i < answer.count; i++)
		must(answer.values[i].length > 0 && answer.values[i].length <= size);
	ldap_answer_clear(&answer);
	ldap_url_clear(&url);
	close(pair[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t message[33000], *begin;

	if (size == 0 || size > 32000)
		return 0;
	if (!(*data & 1)) {
		read_url(data + 1, size - 1);
	} else if (!(*data & 2)) {
		converse(data + 1, size - 1, false);
	} else if (size > 2) {
		size = make_entry(data + 1, size - 1, message, &begin);
		converse(begin, size, true);
	}
	return 0;
}
