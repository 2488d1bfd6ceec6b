/* Records: as people write them, as frames' bodies, and both when somebody means harm. */
#include "common/frame.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static struct record *parsed(const char *text, const char *bare)
{
	struct record *record = NULL;
	struct error err = { 0 };
	int r = record_parse(text, strlen(text), bare, &record, &err);

	if (r < 0)
		print_error("%s\n", err.text);
	assert_int_equal(r, 0);
	assert_non_null(record);
	return record;
}

static void refused_bytes(const char *text, size_t length, const char *sentence)
{
	struct record *record = NULL;
	struct error err = { 0 };

	assert_int_equal(record_parse(text, length, "action", &record, &err), -EINVAL);
	assert_null(record);
	assert_int_equal(err.code, -EINVAL);
	assert_string_equal(err.text, sentence);
}

static void refused(const char *text, const char *sentence)
{
	refused_bytes(text, strlen(text), sentence);
}

static void values_are_read_however_people_write_them(void **state)
{
	static const struct {
		const char *text, *value;
	} rows[] = {
		{ "key = value", "value" },
		{ "key=value\n", "value" },
		{ "\t key\t=\tvalue \t\r\n", "value" },
		{ "key = value\r\n\r\n", "value" },
		{ "\n\n  \nkey = value\n\n", "value" },
		{ "# comment\n  # another = one\nkey = value\n", "value" },
		{ "key = value # no comment\n", "value # no comment" },
		{ "key =\n", "" },
		{ "key = a = b\n", "a = b" },
		{ "key = CN=gate, O=Example\n", "CN=gate, O=Example" },
		{ "key = M\303\274ller\n", "M\303\274ller" },
		{ "key = a\tb\n", "a\tb" },
		{ "key = first\nkey = later\n", "later" },
		{ "key = \"\"\n", "" },
		{ "key = \" value \"\n", " value " },
		{ "key = \"# = \"\n", "# = " },
		{ "key = \"say \\\"hi\\\"\"\n", "say \"hi\"" },
		{ "key = \"C:\\\\x\"\n", "C:\\x" },
		{ "key = \"a\\nb\"\n", "a\\nb" },
		{ "key = a\"b\"\n", "a\"b\"" },
		{ "key = a\\\"b\n", "a\\\"b" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct record *record = parsed(rows[i].text, NULL);

		assert_string_equal(record_get(record, "key"), rows[i].value);
		assert_int_equal(record_find(record, "key")->length, strlen(rows[i].value));
		record_free(record);
	}
}

static void fields_keep_their_order_and_their_lines(void **state)
{
	struct record *record = parsed("a = 1\n# c\n\nB_2-x = 2\r\na = 3", NULL);
	size_t at = 0;

	(void)state;
	assert_int_equal(record_count(record), 3);
	assert_int_equal(record_field(record, 0)->line, 1);
	assert_string_equal(record_field(record, 1)->key, "B_2-x");
	assert_int_equal(record_field(record, 1)->line, 4);
	assert_int_equal(record_field(record, 2)->line, 5);
	assert_null(record_field(record, 3));
	assert_string_equal(record_next(record, "a", &at)->value, "1");
	assert_string_equal(record_next(record, "a", &at)->value, "3");
	assert_null(record_next(record, "a", &at));
	record_free(record);
}

static void an_empty_text_is_an_empty_record(void **state)
{
	static const char *const texts[] = { "", "\n", " \t\r\n", "# only a comment", "#\n#\n" };

	(void)state;
	for (size_t i = 0; i < COUNT(texts); i++) {
		struct record *record = parsed(texts[i], "action");

		assert_int_equal(record_count(record), 0);
		record_free(record);
	}
}

static void a_single_word_is_the_bare_keys_value(void **state)
{
	static const char *const texts[] = { "enroll", "enroll\n", "  enroll\r\n", "\nenroll\n\n" };
	struct record *record;

	(void)state;
	for (size_t i = 0; i < COUNT(texts); i++) {
		record = parsed(texts[i], "action");
		assert_int_equal(record_count(record), 1);
		assert_true(record_is(record, "action", "enroll"));
		record_free(record);
	}
	record = parsed("action = enroll\n", "action");
	assert_true(record_is(record, "action", "enroll"));
	record_free(record);
}

static void only_one_short_word_is_bare(void **state)
{
	struct record *record = NULL;
	char word[66];

	(void)state;
	refused("enroll now", "line 1 is not \"key = value\"");
	refused("enroll\nretry = 1\n", "line 1 is not \"key = value\"");
	refused("en/roll", "line 1 is not \"key = value\"");
	memset(word, 'x', sizeof word);
	refused_bytes(word, 65, "line 1 is not \"key = value\"");
	assert_int_equal(record_parse(word, 64, "action", &record, NULL), 0);
	record_free(record);
	record = NULL;
	assert_int_equal(record_parse("enroll", 6, NULL, &record, NULL), -EINVAL);
	assert_null(record);
}

static void what_is_no_setting_is_refused_with_its_line(void **state)
{
	(void)state;
	refused("a = 1\n= 2\n", "line 2 is not \"key = value\"");
	refused("a = 1\n\n# x\ntwo words = 2\n", "line 4 is not \"key = value\"");
	refused("k\303\244y = 1\n", "line 1 is not \"key = value\"");
	refused("\357\273\277a = 1\n", "line 1 is not \"key = value\"");
	refused("a.b = 1\n", "line 1 is not \"key = value\"");
	refused("a = 1\nb", "line 2 is not \"key = value\"");
}

static void quotes_must_pair_up(void **state)
{
	static const char sentence[] = "line 1: the value of a lacks its closing quote";

	(void)state;
	refused("a = \"", sentence);
	refused("a = \"b", sentence);
	refused("a = \"b\\\"", sentence);
	refused("a = \"b\" c", sentence);
	refused("a = \"b\"c\"", sentence);
	refused("a = \"b\n\"", sentence);
}

static void what_is_quoted_is_read_as_it_was(void **state)
{
	static const char *const values[] = {
		"",   "plain",         "two words", "\"so\" it says", "\"",
		"\\", " blank before", "behind\t",  "in\\side\"",     "\"\\",
	};

	(void)state;
	for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
		char line[64], *quoted = record_quote(values[i]);
		struct record *record = NULL;

		assert_non_null(quoted);
		snprintf(line, sizeof line, "a = %s", quoted);
		assert_int_equal(record_parse(line, strlen(line), NULL, &record, NULL), 0);
		assert_string_equal(record_get(record, "a"), values[i]);
		record_free(record);
		free(quoted);
	}
}

static void a_refused_line_leaves_nothing_to_free(void **state)
{
	char *key = NULL, *value = NULL;

	(void)state;
	assert_int_equal(record_parse_line("a = \"b", 6, 1, &key, &value, NULL), -EINVAL);
	assert_null(key);
	assert_null(value);
}

static void control_characters_are_refused(void **state)
{
	static const char sentence[] = "line 2 has a control character";

	(void)state;
	for (char c = 1; c < 0x20; c++) {
		char text[] = "a = 1\nb = x?y\n";

		text[11] = c;
		if (c != '\t' && c != '\n')
			refused(text, sentence);
	}
	refused("a = 1\nb = x\177y", sentence);
	refused("a = 1\nb = \033[2J", sentence);
	refused_bytes("a = 1\nb = \0x\n", 13, sentence);
	refused_bytes("a = 1\n\0", 7, sentence);
	refused_bytes("\0", 1, "line 1 has a control character");
}

static void a_secret_is_not_in_the_sentence(void **state)
{
	struct record *record = NULL;
	struct error err;

	(void)state;
	assert_int_equal(record_parse("password = \"hunter2", 19, NULL, &record, &err), -EINVAL);
	assert_null(strstr(err.text, "hunter2"));
	assert_int_equal(record_parse("hunter2 = = \001", 13, NULL, &record, &err), -EINVAL);
	assert_null(strstr(err.text, "hunter2"));
}

static void numbers_are_numbers_or_what_is_said_otherwise(void **state)
{
	struct record *record =
		parsed("a = 12\nb = -7\nc = 12x\nd =\ne = 99999999999999999999\nf = x\n", NULL);

	(void)state;
	assert_int_equal(record_number(record, "a", 5), 12);
	assert_int_equal(record_number(record, "b", 5), -7);
	for (const char *key = "cdefg"; *key; key++)
		assert_int_equal(record_number(record, (const char[]){ *key, 0 }, 5), 5);
	record_add_number(record, "g", INT64_MIN);
	assert_true(record_number(record, "g", 5) == INT64_MIN);
	record_free(record);
}

static void set_and_remove_take_all_of_a_key(void **state)
{
	struct record *record = parsed("a = 1\nb = 2\na = 3\nc = 4\n", NULL), *copy;

	(void)state;
	record_set(record, "a", "5");
	assert_int_equal(record_count(record), 3);
	assert_string_equal(record_get(record, "a"), "5");
	record_remove(record, "b");
	assert_null(record_find(record, "b"));
	assert_string_equal(record_field(record, 0)->key, "c");
	copy = record_copy(record);
	record_append(record, copy);
	record_free(copy);
	assert_int_equal(record_count(record), 4);
	assert_string_equal(record_field(record, 3)->value, "5");
	record_free(record);
	record_free(NULL);
}

/* A record with all that is hard: bytes with NUL, nothing at all, a key twice, much. */
static struct record *sample(void)
{
	static const char much[70000];
	struct record *record = record_new();

	assert_non_null(record);
	record_add(record, "frame", "job");
	record_add_bytes(record, "der", "0\0\377\n", 4);
	record_add(record, "empty", "");
	record_add_bytes(record, "der", much, sizeof much);
	record_addf(record, "text", "%s %d", "version", 3);
	return record;
}

static void assert_same(const struct record *a, const struct record *b)
{
	assert_int_equal(record_count(a), record_count(b));
	for (size_t i = 0; i < record_count(a); i++) {
		assert_string_equal(record_field(a, i)->key, record_field(b, i)->key);
		assert_int_equal(record_field(a, i)->length, record_field(b, i)->length);
		assert_memory_equal(record_field(a, i)->value, record_field(b, i)->value,
		                    record_field(a, i)->length + 1);
	}
}

static void what_is_encoded_is_decoded(void **state)
{
	struct record *record = sample(), *back = NULL;
	unsigned char *bytes = NULL;
	size_t length;

	(void)state;
	assert_int_equal(record_encode(record, &bytes, &length), 0);
	assert_int_equal(record_decode(bytes, length, &back), 0);
	assert_same(record, back);
	OPENSSL_clear_free(bytes, length);
	record_free(back);
	record_free(record);
}

static void an_empty_record_has_no_bytes(void **state)
{
	struct record *record = record_new(), *back = NULL;
	unsigned char *bytes = NULL;
	size_t length = 1;

	(void)state;
	assert_int_equal(record_encode(record, &bytes, &length), 0);
	assert_int_equal(length, 0);
	assert_int_equal(record_decode(bytes, 0, &back), 0);
	assert_int_equal(record_count(back), 0);
	OPENSSL_free(bytes);
	record_free(back);
	record_free(record);
}

/* The bytes stand at the end of their memory, so that a sanitizer sees a read beyond them. */
static int decode(const void *bytes, size_t length, struct record **record)
{
	unsigned char *exact = malloc(length ? length : 1);
	int r;

	assert_non_null(exact);
	memcpy(exact, bytes, length);
	r = record_decode(exact, length, record);
	free(exact);
	return r;
}

static void a_body_cut_at_any_byte_is_refused(void **state)
{
	static const unsigned char body[] = { 0, 1, 'a', 0,   0, 0, 2, 'x', 'y',
		                              0, 2, 'b', 'c', 0, 0, 0, 0 };
	struct record *record = NULL;

	(void)state;
	for (size_t length = 1; length < sizeof body; length++) {
		if (length == 9) /* the whole first field */
			continue;
		assert_int_equal(decode(body, length, &record), -EBADMSG);
		assert_null(record);
	}
	assert_int_equal(decode(body, sizeof body, &record), 0);
	assert_int_equal(record_count(record), 2);
	record_free(record);
}

static void lengths_that_lie_are_refused(void **state)
{
	static const struct {
		size_t length;
		unsigned char bytes[12];
	} rows[] = {
		{ 8, { 0xff, 0xff, 'a', 0, 0, 0, 1, 'x' } },
		{ 8, { 0, 1, 'a', 0xff, 0xff, 0xff, 0xff, 'x' } },
		{ 8, { 0, 1, 'a', 0x80, 0, 0, 0, 'x' } },
		{ 8, { 0, 1, 'a', 0, 0, 0, 2, 'x' } },
		{ 9, { 0, 1, 'a', 0, 0, 0, 1, 'x', 0 } },
		{ 9, { 0, 0, 0, 0, 0, 3, 'a', 'b', 'c' } },
		{ 8, { 0, 1, 0, 0, 0, 0, 1, 'x' } },
		{ 9, { 0, 2, 'a', 0, 0, 0, 0, 1, 'x' } },
		{ 8, { 0, 1, '=', 0, 0, 0, 1, 'x' } },
		{ 8, { 0, 1, '\n', 0, 0, 0, 1, 'x' } },
	};
	struct record *record = NULL;

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		assert_int_equal(decode(rows[i].bytes, rows[i].length, &record), -EBADMSG);
		assert_null(record);
	}
}

static void a_key_that_no_length_can_tell_is_not_encoded(void **state)
{
	struct record *record = record_new(), *back = NULL;
	char *key = malloc(65537);
	unsigned char *bytes = NULL;
	size_t length;

	(void)state;
	assert_non_null(key);
	memset(key, 'k', 65536);
	key[65536] = 0;
	record_add(record, key, "value");
	assert_int_equal(record_encode(record, &bytes, &length), -EMSGSIZE);
	assert_null(bytes);
	key[65535] = 0;
	record_remove(record, record_field(record, 0)->key);
	record_add(record, key, "value");
	assert_int_equal(record_encode(record, &bytes, &length), 0);
	assert_int_equal(record_decode(bytes, length, &back), 0);
	assert_same(record, back);
	OPENSSL_clear_free(bytes, length);
	free(key);
	record_free(back);
	record_free(record);
}

struct pair {
	int here, there;
};

static int connect_pair(void **state)
{
	static struct pair pair;
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return -1;
	pair = (struct pair){ fds[0], fds[1] };
	*state = &pair;
	return 0;
}

static int close_pair(void **state)
{
	struct pair *pair = *state;

	close(pair->here);
	if (pair->there >= 0)
		close(pair->there);
	return 0;
}

static void hang_up(struct pair *pair)
{
	close(pair->there);
	pair->there = -1;
}

static void *send_slowly(void *user)
{
	struct pair *pair = user;
	struct record *record = sample();
	unsigned char *bytes = NULL;
	uint32_t prefix;
	size_t length, part;

	if (record_encode(record, &bytes, &length) < 0)
		abort();
	prefix = htonl((uint32_t)length);
	for (size_t at = 0; at < 4; at++)
		if (write(pair->there, (char *)&prefix + at, 1) != 1)
			abort();
	for (size_t at = 0; at < length; at += part) {
		part = at < 100 ? 1 : 997;
		part = part < length - at ? part : length - at;
		if (write(pair->there, bytes + at, part) != (ssize_t)part)
			abort();
	}
	OPENSSL_clear_free(bytes, length);
	record_free(record);
	return NULL;
}

static void a_frame_may_come_byte_by_byte(void **state)
{
	struct pair *pair = *state;
	struct record *record = NULL, *expected = sample();
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, send_slowly, pair), 0);
	assert_int_equal(frame_receive(pair->here, &record, NULL), 0);
	pthread_join(thread, NULL);
	assert_same(record, expected);
	record_free(record);
	record_free(expected);
}

static bool same_file(int fd, const char *path)
{
	char link[64], target[128];
	ssize_t length;

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	length = readlink(link, target, sizeof target - 1);
	if (length < 0)
		return false;
	target[length] = 0;
	return strcmp(target, path) == 0;
}

static void two_frames_in_the_socket_are_two_each_with_its_descriptors(void **state)
{
	struct pair *pair = *state;
	struct record *record = record_new(), *got = NULL;
	int passed[] = { open("/dev/null", O_RDONLY | O_CLOEXEC),
		         open("/dev/zero", O_RDONLY | O_CLOEXEC) };
	int fds[FRAME_FDS];

	record_add(record, "frame", "x");
	assert_int_equal(frame_send(pair->there, record, passed, 2), 0);
	assert_int_equal(frame_send(pair->there, record, passed + 1, 1), 0);
	assert_int_equal(frame_receive(pair->here, &got, fds), 0);
	assert_true(same_file(fds[0], "/dev/null"));
	assert_true(same_file(fds[1], "/dev/zero"));
	assert_int_equal(fds[2], -1);
	assert_true(fcntl(fds[0], F_GETFD) & FD_CLOEXEC);
	close(fds[0]);
	close(fds[1]);
	record_free(got);
	assert_int_equal(frame_receive(pair->here, &got, fds), 0);
	assert_true(same_file(fds[0], "/dev/zero"));
	assert_int_equal(fds[1], -1);
	close(fds[0]);
	record_free(got);
	record_free(record);
	close(passed[0]);
	close(passed[1]);
}

/* The number that the next descriptor gets: the same again when none has been left open. */
static int next_fd(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	close(fd);
	return fd;
}

static void descriptors_that_nobody_takes_are_closed(void **state)
{
	struct pair *pair = *state;
	struct record *record = record_new(), *got = NULL;
	int passed[] = { 0, 0, 0, 0, 0 }, before = next_fd();

	assert_int_equal(frame_send(pair->there, record, passed, FRAME_FDS + 1), -EMSGSIZE);
	assert_int_equal(frame_send(pair->there, record, passed, FRAME_FDS), 0);
	assert_int_equal(frame_receive(pair->here, &got, NULL), 0);
	assert_int_equal(next_fd(), before);
	record_free(got);
	record_free(record);
}

static void descriptors_of_a_wrong_frame_are_closed(void **state)
{
	struct pair *pair = *state;
	struct record *record = record_new(), *got = NULL;
	uint32_t prefix = htonl(100);
	int passed[] = { 0, 0 }, fds[FRAME_FDS], before;

	record_add(record, "frame", "x");
	/* the frame is the wrong body of another one */
	assert_int_equal(write(pair->there, &prefix, sizeof prefix), sizeof prefix);
	assert_int_equal(frame_send(pair->there, record, passed, 2), 0);
	hang_up(pair);
	before = next_fd();
	assert_int_equal(frame_receive(pair->here, &got, fds), -EPIPE);
	assert_null(got);
	for (size_t i = 0; i < FRAME_FDS; i++)
		assert_int_equal(fds[i], -1);
	assert_int_equal(next_fd(), before);
	record_free(record);
}

static void too_large_a_frame_is_refused_by_both_sides(void **state)
{
	struct pair *pair = *state;
	struct record *record = record_new(), *got = NULL;
	uint32_t prefixes[] = { FRAME_MAX + 1, 0x7fffffff, 0xffffffff };
	char *much = calloc(1, FRAME_MAX);
	unsigned char byte;

	record_add_bytes(record, "a", much, FRAME_MAX - 6);
	assert_int_equal(frame_send(pair->there, record, NULL, 0), -EMSGSIZE);
	assert_int_equal(recv(pair->here, &byte, 1, MSG_DONTWAIT), -1);
	for (size_t i = 0; i < COUNT(prefixes); i++) {
		uint32_t prefix = htonl(prefixes[i]);

		assert_int_equal(write(pair->there, &prefix, sizeof prefix), sizeof prefix);
		assert_int_equal(frame_receive(pair->here, &got, NULL), -EBADMSG);
		assert_null(got);
	}
	free(much);
	record_free(record);
}

static void a_peer_that_is_gone_is_epipe(void **state)
{
	struct pair *pair = *state;
	struct record *record = record_new(), *got = NULL;

	record_add(record, "frame", "x");
	assert_int_equal(frame_send(pair->there, record, NULL, 0), 0);
	hang_up(pair);
	assert_int_equal(frame_receive(pair->here, &got, NULL), 0);
	record_free(got);
	got = NULL;
	assert_int_equal(frame_receive(pair->here, &got, NULL), -EPIPE);
	assert_null(got);
	assert_int_equal(frame_send(pair->here, record, NULL, 0), -EPIPE);
	record_free(record);
}

static void a_peer_that_goes_in_mid_frame_is_epipe(void **state)
{
	static const unsigned char part[] = { 0, 0, 0, 8, 0, 1, 'a', 0, 0, 0, 1 };

	(void)state;
	for (size_t length = 1; length <= sizeof part; length++) {
		struct record *got = NULL;
		int fds[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
		assert_int_equal(write(fds[1], part, length), (ssize_t)length);
		close(fds[1]);
		assert_int_equal(frame_receive(fds[0], &got, NULL), -EPIPE);
		assert_null(got);
		close(fds[0]);
	}
}

static void a_value_beside_another_is_as_far_down_or_the_only_one(void **state)
{
	struct record *record = record_new();

	(void)state;
	assert_null(record_beside(record, "user", 0));
	record_add(record, "user", "a");
	assert_string_equal(record_beside(record, "user", 0), "a");
	assert_string_equal(record_beside(record, "user", 2), "a");
	record_add(record, "password", "x");
	record_add(record, "user", "b");
	assert_string_equal(record_beside(record, "user", 0), "a");
	assert_string_equal(record_beside(record, "user", 1), "b");
	assert_null(record_beside(record, "user", 2));
	record_free(record);
}

int main(void)
{
#define PAIR(name) cmocka_unit_test_setup_teardown(name, connect_pair, close_pair)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_value_beside_another_is_as_far_down_or_the_only_one),
		cmocka_unit_test(values_are_read_however_people_write_them),
		cmocka_unit_test(fields_keep_their_order_and_their_lines),
		cmocka_unit_test(an_empty_text_is_an_empty_record),
		cmocka_unit_test(a_single_word_is_the_bare_keys_value),
		cmocka_unit_test(only_one_short_word_is_bare),
		cmocka_unit_test(what_is_no_setting_is_refused_with_its_line),
		cmocka_unit_test(quotes_must_pair_up),
		cmocka_unit_test(what_is_quoted_is_read_as_it_was),
		cmocka_unit_test(a_refused_line_leaves_nothing_to_free),
		cmocka_unit_test(control_characters_are_refused),
		cmocka_unit_test(a_secret_is_not_in_the_sentence),
		cmocka_unit_test(numbers_are_numbers_or_what_is_said_otherwise),
		cmocka_unit_test(set_and_remove_take_all_of_a_key),
		cmocka_unit_test(what_is_encoded_is_decoded),
		cmocka_unit_test(an_empty_record_has_no_bytes),
		cmocka_unit_test(a_body_cut_at_any_byte_is_refused),
		cmocka_unit_test(lengths_that_lie_are_refused),
		cmocka_unit_test(a_key_that_no_length_can_tell_is_not_encoded),
		PAIR(a_frame_may_come_byte_by_byte),
		PAIR(two_frames_in_the_socket_are_two_each_with_its_descriptors),
		PAIR(descriptors_that_nobody_takes_are_closed),
		PAIR(descriptors_of_a_wrong_frame_are_closed),
		PAIR(too_large_a_frame_is_refused_by_both_sides),
		PAIR(a_peer_that_is_gone_is_epipe),
		PAIR(a_peer_that_goes_in_mid_frame_is_epipe),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
