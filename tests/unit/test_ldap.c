/* What an LDAP server may say, good and bad, over a socket whose other end is the test's. */
#include "enroll/ldap.h"

#include <errno.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* LDAPMessages: the entry of message 1 with one attribute, and that it was all. */
#define NAME                                                                                       \
	"\x04\x09"                                                                                 \
	"cn=a,dc=b"
#define DONE "\x30\x0c\x02\x01\x01\x65\x07\x0a\x01\x00\x04\x00\x04\x00"

static const char done[] = DONE;

/* Answers with LENGTH bytes of TEXT, TIMES times, pausing for so many ms after each, then ends or
 * STAYS; what comes of it for a client of little patience. */
static int answered(const void *text, size_t length, int times, long pause, bool stays,
                    struct ldap_answer *answer, struct error *err)
{
	const struct ldap_request request = {
		.url = "ldap://a/dc=b", .seconds = 20, .patience = 1, .now = 1
	};
	struct timespec span = { pause / 1000, pause % 1000 * 1000000 };
	struct ldap_url url;
	int pair[2], r;
	pid_t child;

	*err = (struct error){ 0 };
	assert_int_equal(ldap_url_read(request.url, &url, NULL), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		char question[512];

		close(pair[0]);
		signal(SIGPIPE, SIG_DFL);
		if (read(pair[1], question, sizeof question) > 0)
			for (int i = 0; i < times; i++) {
				if (write(pair[1], text, length) < 0)
					break;
				nanosleep(&span, NULL);
			}
		while (stays)
			sleep(1);
		_exit(0);
	}
	close(pair[1]);
	r = ldap_ask(pair[0], &url, &request, answer, err);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	ldap_url_clear(&url);
	return r;
}

static void fails(const void *text, size_t length, int times, long pause, bool stays, int code,
                  const char *words)
{
	struct ldap_answer answer;
	struct error err;

	assert_int_equal(answered(text, length, times, pause, stays, &answer, &err), code);
	if (!strstr(err.text, words))
		fail_msg("\"%s\" is not in: %s", words, err.text);
	ldap_answer_clear(&answer);
}

/* A CRL with NUMBER (none: -1) as far as its order is concerned, the caller's. */
static unsigned char *crl_of(int number, int *length)
{
	X509_CRL *crl = X509_CRL_new();
	ASN1_INTEGER *value = ASN1_INTEGER_new();
	ASN1_TIME *now = ASN1_TIME_set(NULL, 1000000);
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	X509_REVOKED *entry = X509_REVOKED_new();
	unsigned char *der = NULL;

	ASN1_INTEGER_set(value, number);
	X509_CRL_set_version(crl, 1);
	X509_CRL_set1_lastUpdate(crl, now);
	X509_REVOKED_set_serialNumber(entry, value);
	X509_REVOKED_set_revocationDate(entry, now);
	X509_CRL_add0_revoked(crl, entry);
	if (number >= 0)
		X509_CRL_add1_ext_i2d(crl, NID_crl_number, value, 0, 0);
	assert_true(X509_CRL_sign(crl, key, NULL) > 0);
	*length = i2d_X509_CRL(crl, &der);
	assert_true(*length > 0);
	X509_CRL_free(crl);
	ASN1_INTEGER_free(value);
	ASN1_TIME_free(now);
	EVP_PKEY_free(key);
	return der;
}

/* TAG, a length of two bytes, and CONTENT behind what is in *AT. */
static void put(unsigned char **at, int tag, const void *content, size_t length)
{
	*(*at)++ = (unsigned char)tag;
	*(*at)++ = 0x82;
	*(*at)++ = (unsigned char)(length >> 8);
	*(*at)++ = (unsigned char)length;
	memmove(*at, content, length);
	*at += length;
}

/* The answer with the COUNT CRLs of these NUMBERS; its length. */
static size_t message_of(const int *numbers, size_t count, unsigned char *message)
{
	unsigned char buffers[5][4096], *at = buffers[0];
	size_t lengths[5];

	for (size_t i = 0; i < count; i++) {
		int length;
		unsigned char *der = crl_of(numbers[i], &length);

		put(&at, 0x04, der, (size_t)length);
		OPENSSL_free(der);
	}
	lengths[0] = (size_t)(at - buffers[0]);
	at = buffers[1]; /* the attribute: its name, its values */
	put(&at, 0x04, "certificateRevocationList;binary", 32);
	put(&at, 0x31, buffers[0], lengths[0]);
	lengths[1] = (size_t)(at - buffers[1]);
	at = buffers[2]; /* all of them */
	put(&at, 0x30, buffers[1], lengths[1]);
	lengths[2] = (size_t)(at - buffers[2]);
	at = buffers[3];
	memcpy(at, NAME, sizeof NAME - 1);
	at += sizeof NAME - 1;
	put(&at, 0x30, buffers[2], lengths[2]);
	lengths[3] = (size_t)(at - buffers[3]);
	at = buffers[4];
	memcpy(at, "\x02\x01\x01", 3);
	at += 3;
	put(&at, 0x64, buffers[3], lengths[3]);
	lengths[4] = (size_t)(at - buffers[4]);
	at = message;
	put(&at, 0x30, buffers[4], lengths[4]);
	memcpy(at, done, sizeof done - 1);
	return (size_t)(at - message) + sizeof done - 1;
}

static void of_several_crls_the_newest_comes_first(void **state)
{
	static const int numbers[] = { 3, -1, 300, 7 }, sorted[] = { 300, 7, 3, -1 };
	unsigned char message[8192];
	size_t length = message_of(numbers, COUNT(numbers), message);
	struct ldap_answer answer;
	struct error err;

	(void)state;
	assert_int_equal(answered(message, length, 1, 0, false, &answer, &err), 0);
	assert_int_equal(answer.count, COUNT(sorted));
	for (size_t i = 0; i < COUNT(sorted); i++) {
		const unsigned char *at = answer.values[i].bytes;
		X509_CRL *crl = d2i_X509_CRL(NULL, &at, (long)answer.values[i].length);
		ASN1_INTEGER *number = X509_CRL_get_ext_d2i(crl, NID_crl_number, NULL, NULL);

		assert_int_equal(number ? ASN1_INTEGER_get(number) : -1, sorted[i]);
		ASN1_INTEGER_free(number);
		X509_CRL_free(crl);
	}
	ldap_answer_clear(&answer);
}

static void a_value_replaces_what_a_file_had(void **state)
{
	static const int number = 5;
	unsigned char message[2048];
	size_t length = message_of(&number, 1, message);
	struct ldap_answer answer;
	struct error err;
	FILE *file = tmpfile();
	char kept[2048];
	size_t got;

	(void)state;
	assert_int_equal(answered(message, length, 1, 0, true, &answer, &err), 0);
	assert_int_equal(write(fileno(file), kept, sizeof kept), sizeof kept);
	assert_int_equal(ldap_write(&answer, 0, fileno(file), &err), 0);
	rewind(file);
	got = fread(kept, 1, sizeof kept, file);
	assert_int_equal(got, answer.values[0].length);
	assert_memory_equal(kept, answer.values[0].bytes, got);
	fclose(file);
	ldap_answer_clear(&answer);
}

static void nothing_is_waited_for_without_end(void **state)
{
	(void)state;
	fails("", 0, 0, 0, true, -ETIMEDOUT, "ldap://a/dc=b does not answer in time");
	fails("\x30", 1, 100, 200, true, -ETIMEDOUT, "ldap://a/dc=b answers too slowly");
	fails("", 0, 0, 0, false, -EIO, "closes the connection without an answer");
	fails(done, 5, 1, 0, false, -EIO, "closes the connection");
}

/* A message of 65 MiB, it says; entries of another request, without end. */
static void no_answer_is_larger_than_the_limit(void **state)
{
	static const char large[] = "\x30\x84\x04\x10\x00\x00\x02\x01\x01\x64";
	static unsigned char many[60000];

	(void)state;
	fails(large, sizeof large - 1, 1, 0, true, -EFBIG, "sends more than 67108864 bytes");
	memcpy(many, "\x30\x82\xea\x5c\x02\x01\x01\x64\x82\xea\x55\x04\x00\x30\x82\xea\x4f", 17);
	memcpy(many + 17,
	       "\x30\x82\xea\x4b\x04\x01"
	       "a"
	       "\x31\x82\xea\x44\x04\x82\xea\x40",
	       15);
	fails(many, sizeof many, 2000, 0, true, -EFBIG, "sends more than 67108864 bytes");
}

static void what_is_no_ldap_is_no_answer(void **state)
{
	static const char http[] =
		"HTTP/1.1 400 Bad Request\r\nServer: nginx/1.22.1\r\nContent-Length: "
		"13\r\nConnection: close\r\n\r\n<html></html>";
	static const char referral[] = "\x30\x1d\x02\x01\x01\x65\x18\x0a\x01\x0a\x04\x00\x04\x00"
				       "\xa3\x0f\x04\x0dldap://c/dc=d";
	static const char refused[] = "\x30\x11\x02\x01\x01\x65\x0c\x0a\x01\x32\x04\x00\x04\x05"
				      "a\033[2J";

	(void)state;
	fails(http, sizeof http - 1, 1, 0, true, -EBADMSG, "ldap://a/dc=b does not speak LDAP");
	fails(done, sizeof done - 1, 1, 0, true, -ENODATA, "the entry has no CRL");
	fails(referral, sizeof referral - 1, 1, 0, true, -EREMOTEIO, "refers to another server");
	fails(refused, sizeof refused - 1, 1, 0, true, -EREMOTEIO,
	      "refuses the question: Insufficient access: a?[2J");
}

static void a_name_is_told_as_servers_know_it(void **state)
{
	static const struct {
		const char *key, *value;
	} parts[] = { { "C", "DE" },
		      { "O", "M\xc3\xbcller, \"AG\" + S\xc3\xb6hne" },
		      { "serialNumber", "7" },
		      { "CN", " #1" } };
	X509_NAME *name = X509_NAME_new();
	char *text;

	(void)state;
	for (size_t i = 0; i < COUNT(parts); i++)
		X509_NAME_add_entry_by_txt(name, parts[i].key, MBSTRING_UTF8,
		                           (const unsigned char *)parts[i].value, -1, -1, 0);
	text = ldap_dn(name);
	assert_string_equal(text, "CN=\\ #1,serialNumber=7,O=M\xc3\xbcller\\, \\\"AG\\\" \\+ "
	                          "S\xc3\xb6hne,C=DE");
	free(text);
	X509_NAME_free(name);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(of_several_crls_the_newest_comes_first),
		cmocka_unit_test(a_value_replaces_what_a_file_had),
		cmocka_unit_test(nothing_is_waited_for_without_end),
		cmocka_unit_test(no_answer_is_larger_than_the_limit),
		cmocka_unit_test(what_is_no_ldap_is_no_answer),
		cmocka_unit_test(a_name_is_told_as_servers_know_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
