/*
 * VICI: messages as charon writes them and as nobody should, and a connection to a charon that the
 * test plays, which answers, is silent, or lies (attack 73).
 */
#include "netlink/charon.h"
#include "netlink/vici.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* A response with a section, a value, a list and a section within. */
static const unsigned char response[] = "\x01"
					"\x01\x03net"
					"\x03\x03key\x00\x05value"
					"\x04\x04list\x05\x00\x01"
					"a\x05\x00\x01"
					"b\x06"
					"\x01\x02in\x03\x01k\x00\x00\x02"
					"\x02";
#define RESPONSE_LENGTH (sizeof response - 1)

static int decode(const void *bytes, size_t length, struct record **message)
{
	char name[VICI_NAME_MAX];
	enum vici_packet type;

	return vici_decode(bytes, length, &type, name, message);
}

static void a_message_is_read(void **state)
{
	struct record *message = NULL;
	size_t i = 0;

	(void)state;
	assert_int_equal(decode(response, RESPONSE_LENGTH, &message), 0);
	assert_int_equal(record_count(message), 4);
	assert_string_equal(record_get(message, "net.key"), "value");
	assert_string_equal(record_next(message, "net.list[]", &i)->value, "a");
	assert_string_equal(record_next(message, "net.list[]", &i)->value, "b");
	assert_string_equal(record_get(message, "net.in.k"), "");
	record_free(message);
}

static void it_is_written_as_it_was_read(void **state)
{
	struct record *message = NULL;
	unsigned char *bytes = NULL;
	size_t length = 0;

	(void)state;
	assert_int_equal(decode(response, RESPONSE_LENGTH, &message), 0);
	assert_int_equal(vici_encode(VICI_RESPONSE, NULL, message, &bytes, &length), 0);
	assert_int_equal(length, RESPONSE_LENGTH + 4);
	assert_memory_equal(bytes, "\0\0\0", 3);
	assert_int_equal(bytes[3], RESPONSE_LENGTH);
	assert_memory_equal(bytes + 4, response, RESPONSE_LENGTH);
	OPENSSL_clear_free(bytes, length);
	record_free(message);
}

static void sections_are_closed_and_opened(void **state)
{
	static const char *const keys[] = { "a.b.c", "a.b.d",     "a.bb.c",
		                            "x",     "a.b.c.d[]", "a.b.c.d[]" };
	struct record *message = record_new(), *read = NULL;
	unsigned char *bytes = NULL;
	size_t length = 0;

	(void)state;
	for (size_t i = 0; i < COUNT(keys); i++)
		record_add(message, keys[i], "v");
	assert_int_equal(vici_encode(VICI_REQUEST, "load-conn", message, &bytes, &length), 0);
	assert_int_equal(decode(bytes + 4, length - 4, &read), 0);
	assert_int_equal(record_count(read), COUNT(keys));
	for (size_t i = 0; i < COUNT(keys); i++)
		assert_string_equal(record_field(read, i)->key, keys[i]);
	OPENSSL_clear_free(bytes, length);
	record_free(message);
	record_free(read);
}

static void what_is_cut_is_no_message(void **state)
{
	(void)state;
	for (size_t length = 0; length < RESPONSE_LENGTH; length++) {
		unsigned char *cut = malloc(length ? length : 1);
		struct record *message = NULL;

		memcpy(cut, response, length);
		if (length == 1) /* a message without elements */
			assert_int_equal(decode(cut, length, &message), 0);
		else
			assert_int_equal(decode(cut, length, &message), -EBADMSG);
		record_free(message);
		free(cut);
	}
}

static void what_does_not_fit_is_no_message(void **state)
{
	static const struct {
		const char *bytes;
		size_t length;
	} wrong[] = {
		{ "\x08", 1 },                     /* no packet */
		{ "\x01\x02", 2 },                 /* the end of no section */
		{ "\x01\x05\x00\x00", 4 },         /* an item of no list */
		{ "\x01\x04\x01l\x02", 5 },        /* a section ends in a list */
		{ "\x01\x04\x01l\x04\x01m", 7 },   /* a list in a list */
		{ "\x01\x06", 2 },                 /* the end of no list */
		{ "\x01\x09", 2 },                 /* no element */
		{ "\x01\x03\x01\x00\x00\x00", 6 }, /* a NUL in a name */
		{ "\x05x", 2 },                    /* bytes behind what has none */
		{ "\x07\x05x", 3 },                /* an event's name is cut */
	};

	(void)state;
	for (size_t i = 0; i < COUNT(wrong); i++) {
		struct record *message = NULL;

		assert_int_equal(decode(wrong[i].bytes, wrong[i].length, &message), -EBADMSG);
		assert_null(message);
	}
}

static void a_dot_in_a_name_is_no_section(void **state)
{
	static const char bytes[] = "\x01\x01\x03"
				    "a.b\x03\x01k\x00\x01v\x02\x03\x01x\x00\x01y";
	struct record *message = NULL;

	(void)state;
	assert_int_equal(decode(bytes, sizeof bytes - 1, &message), 0);
	assert_string_equal(record_get(message, "a_b.k"), "v");
	assert_string_equal(record_get(message, "x"), "y");
	record_free(message);
}

static void deep_sections_end_somewhere(void **state)
{
	unsigned char bytes[3001] = { 1 };
	struct record *message = NULL;

	(void)state;
	for (size_t i = 1; i < sizeof bytes; i += 3)
		memcpy(bytes + i, "\x01\x01s", 3);
	assert_int_equal(decode(bytes, sizeof bytes, &message), -EBADMSG);
}

static void what_is_too_large_is_not_sent(void **state)
{
	struct record *message = record_new();
	unsigned char *large = calloc(1, VICI_VALUE_MAX + 1), *bytes = NULL;
	size_t length = 0;

	(void)state;
	record_add_bytes(message, "data", large, VICI_VALUE_MAX);
	assert_int_equal(vici_encode(VICI_REQUEST, "x", message, &bytes, &length), 0);
	OPENSSL_clear_free(bytes, length);
	record_add_bytes(message, "data", large, VICI_VALUE_MAX + 1);
	assert_int_equal(vici_encode(VICI_REQUEST, "x", message, &bytes, &length), -EMSGSIZE);
	record_free(message);
	message = record_new();
	for (int i = 0; i < 9; i++)
		record_add_bytes(message, "data", large, VICI_VALUE_MAX);
	assert_int_equal(vici_encode(VICI_REQUEST, "x", message, &bytes, &length), -EMSGSIZE);
	record_free(message);
	free(large);
}

/* --- a connection --- */

static struct {
	uv_loop_t loop;
	struct vici *vici;
	int charon; /* its end */
	unsigned events, items, answers;
	char failure[512], gone[512];
} c;

static void event(struct vici *vici, const char *name, const struct record *message, void *user)
{
	(void)vici;
	(void)user;
	assert_string_equal(name, "child-updown");
	assert_string_equal(record_get(message, "k"), "v");
	c.events++;
}

static void gone(struct vici *vici, const struct error *err, void *user)
{
	(void)user;
	snprintf(c.gone, sizeof c.gone, "%s", err->text);
	vici_close(vici);
	c.vici = NULL;
}

static void answered(struct vici *vici, int64_t about, const struct record *item,
                     const struct record *answer, const struct error *err, void *user)
{
	(void)answer;
	(void)user;
	assert_int_equal(about, 7);
	c.items += item != NULL;
	c.answers += !item;
	if (err)
		snprintf(c.failure, sizeof c.failure, "%s", err->text);
	if (!item && c.answers == 1) /* the queue is empty: the next one goes at once, and once */
		vici_call(vici, "second", NULL, NULL, answered, 7);
}

static int setup(void **state)
{
	int fds[2];

	(void)state;
	memset(&c, 0, sizeof c);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	uv_loop_init(&c.loop);
	c.charon = fds[1];
	c.vici = vici_open(&c.loop, fds[0], event, gone, NULL);
	assert_non_null(c.vici);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	vici_close(c.vici);
	uv_run(&c.loop, UV_RUN_DEFAULT);
	close(c.charon);
	return uv_loop_close(&c.loop);
}

static void turn(void)
{
	for (int i = 0; i < 3; i++)
		uv_run(&c.loop, UV_RUN_NOWAIT);
}

static void says(const void *bytes, size_t length)
{
	assert_int_equal(write(c.charon, bytes, length), (ssize_t)length);
	turn();
}
#define SAYS(text) says(text, sizeof(text) - 1)

/* What charon is told, in whole. */
static void hears(const char *bytes, size_t length)
{
	char buffer[512];

	assert_int_equal(recv(c.charon, buffer, sizeof buffer, MSG_DONTWAIT), (ssize_t)length);
	assert_memory_equal(buffer, bytes, length);
}
#define HEARS(text) hears(text, sizeof(text) - 1)

static void commands_go_one_after_the_other(void **state)
{
	(void)state;
	assert_int_equal(vici_register(c.vici, "list-sa"), 0);
	assert_int_equal(vici_call(c.vici, "list-sas", NULL, "list-sa", answered, 7), 0);
	HEARS("\0\0\0\x09\x03\x07list-sa");
	SAYS("\0\0\0\x01\x05");
	HEARS("\0\0\0\x0a\x00\x08list-sas");
	SAYS("\0\0\0\x09\x07\x07list-sa\0\0\0\x14\x07\x0c"
	     "child-updown\x03\x01k\x00\x01v");
	assert_int_equal(c.items, 1);
	assert_int_equal(c.events, 1);
	SAYS("\0\0\0");
	SAYS("\x01\x01"); /* cut anywhere */
	assert_int_equal(c.answers, 1);
	HEARS("\0\0\0\x08\x00\x06second");
	SAYS("\0\0\0\x1d\x01\x03\x07success\x00\x02no\x03\x06"
	     "errmsg\x00\x05"
	     "bad\ny");
	assert_string_equal(c.failure, "charon refuses second: bad?y");
	assert_int_equal(c.answers, 2);
	assert_string_equal(c.gone, "");
}

static void what_it_does_not_know_is_refused(void **state)
{
	(void)state;
	vici_call(c.vici, "frobnicate", NULL, NULL, answered, 7);
	SAYS("\0\0\0\x01\x02");
	assert_string_equal(c.failure, "this charon does not know frobnicate");
}

static void an_answer_that_nobody_asked_for_ends_it(void **state)
{
	(void)state;
	SAYS("\0\0\0\x01\x01");
	assert_string_equal(c.gone, "charon sent what is no message of VICI");
}

static void a_length_beyond_all_ends_it(void **state)
{
	(void)state;
	SAYS("\x7f\xff\xff\xff");
	assert_string_equal(c.gone, "charon sent what is no message of VICI");
}

static void its_end_is_told(void **state)
{
	(void)state;
	shutdown(c.charon, SHUT_RDWR);
	turn();
	assert_string_equal(c.gone, "charon has ended");
}

static void silence_has_an_end(void **state)
{
	uint64_t begun = uv_hrtime();

	(void)state;
	vici_call(c.vici, "version", NULL, NULL, answered, 7);
	while (!*c.gone)
		uv_run(&c.loop, UV_RUN_ONCE);
	assert_string_equal(c.gone, "charon did not answer version within 2 s");
	assert_in_range((uv_hrtime() - begun) / 1000000, 1900, 10000);
	assert_int_equal(c.answers, 0);
}

/* --- what charon has --- */

static void sas_are_read(void **state)
{
	static const char *const fields[][2] = {
		{ "pkifs-5.uniqueid", "3" },
		{ "pkifs-5.state", "ESTABLISHED" },
		{ "pkifs-5.remote-id", "b.example" },
		{ "pkifs-5.encr-alg", "AES_GCM_16" },
		{ "pkifs-5.encr-keysize", "256" },
		{ "pkifs-5.child-sas.pkifs-5-1.spi-in", "c0000001" },
		{ "pkifs-5.child-sas.pkifs-5-1.spi-out", "c0000002" },
		{ "pkifs-5.child-sas.pkifs-5-1.encr-alg", "AES_CBC" },
		{ "pkifs-5.child-sas.pkifs-5-2.spi-in", "c0000003" },
		{ "pkifs-5.child-sas.pkifs-5-3.spi-in", "c0000005" },
		{ "pkifs-5.child-sas.pkifs-5-3.spi-out", "c0000006" },
		{ "pkifs-5.child-sas.pkifs-5-3.encr-alg", "AES_GCM_16" },
	};
	struct record *item = record_new();
	struct charon_sas sas = { 0 };

	(void)state;
	for (size_t i = 0; i < COUNT(fields); i++)
		record_add(item, fields[i][0], fields[i][1]);
	assert_false(charon_sas_read(item, "pkifs-55", &sas));
	assert_false(charon_sas_read(item, "pkifs", &sas));
	assert_true(charon_sas_read(item, "pkifs-5", &sas));
	assert_int_equal(sas.ike_count, 1);
	assert_int_equal(sas.ikes[0].id, 3);
	assert_true(sas.ikes[0].established);
	assert_string_equal(sas.peer, "b.example");
	assert_string_equal(sas.ike, "AES_GCM_16-256");
	assert_int_equal(sas.child_count, 2); /* one is not there yet */
	assert_int_equal(sas.children[1].spis.in, 0xc0000005);
	assert_int_equal(sas.children[1].ike, 3);
	assert_string_equal(sas.esp, "AES_GCM_16");
	for (int i = 0; i < 40; i++)
		charon_sas_read(item, "pkifs-5", &sas);
	assert_int_equal(sas.ike_count, CHARON_IKES);
	assert_in_range(sas.child_count, CHILDREN - 1, CHILDREN);
	record_free(item);
}

static void a_connection_has_no_policies(void **state)
{
	static const char *const expected[][2] = {
		{ "t.children.t.policies", "no" },
		{ "t.children.t.start_action", "none" },
		{ "t.children.t.reqid", "77" },
		{ "t.children.t.local_ts[]", "10.1.0.0/24[6/443]" },
		{ "t.children.t.remote_ts[]", "dynamic" },
		{ "t.children.t.esp_proposals[]", "aes256-sha256-modp2048" },
		{ "t.remote_addrs[]", "%any" },
		{ "t.remote.id", "%any" },
		{ "t.remote.cacerts[]", "CA" },
		{ "t.local.certs[]", "us" },
		{ "t.rekey_time", "14400s" },
	};
	static const char *const settings[][2] = {
		{ "local-subnet", "10.1.0.0/24:tcp:443" },
		{ "esp-proposal", "aes-256-cbc hmac-sha-256-128 group14" },
		{ "remote-address", "any" },
		{ "remote-id", "any" },
		{ "ca", "CA" },
		{ "certificate", "us" },
		{ "ike-lifetime", "14400" },
	};
	struct record *frame = record_new(), *connection;

	(void)state;
	for (size_t i = 0; i < COUNT(settings); i++)
		record_add(frame, settings[i][0], settings[i][1]);
	connection = charon_connection(frame, "t", 77);
	for (size_t i = 0; i < COUNT(expected); i++) {
		const char *value = record_get(connection, expected[i][0]);

		assert_non_null(value);
		assert_string_equal(value, expected[i][1]);
	}
	record_free(connection);
	record_free(frame);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_message_is_read),
		cmocka_unit_test(it_is_written_as_it_was_read),
		cmocka_unit_test(sections_are_closed_and_opened),
		cmocka_unit_test(what_is_cut_is_no_message),
		cmocka_unit_test(what_does_not_fit_is_no_message),
		cmocka_unit_test(a_dot_in_a_name_is_no_section),
		cmocka_unit_test(deep_sections_end_somewhere),
		cmocka_unit_test(what_is_too_large_is_not_sent),
		cmocka_unit_test_setup_teardown(commands_go_one_after_the_other, setup, teardown),
		cmocka_unit_test_setup_teardown(what_it_does_not_know_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(an_answer_that_nobody_asked_for_ends_it, setup,
		                                teardown),
		cmocka_unit_test_setup_teardown(a_length_beyond_all_ends_it, setup, teardown),
		cmocka_unit_test_setup_teardown(its_end_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(silence_has_an_end, setup, teardown),
		cmocka_unit_test(sas_are_read),
		cmocka_unit_test(a_connection_has_no_policies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
