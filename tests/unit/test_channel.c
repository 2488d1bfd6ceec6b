/* Frames on a libuv loop: whole, in order, each with its own descriptors. */
#include "common/channel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LIMIT (1u << 20)

struct seen {
	unsigned frames, with_fd;
	size_t length; /* of the last one's `data` */
	int code;      /* of the end */
	bool wrong_fd; /* a frame had what it should not have, or lacked it */
};

struct fixture {
	uv_loop_t loop;
	struct channel *channel;
	int peer;
	struct seen seen;
};

static void received(struct channel *channel, struct record *record, int *fds, int code, void *user)
{
	struct seen *seen = user;
	const struct field *data;

	(void)channel;
	if (!record) {
		seen->code = code;
		return;
	}
	seen->frames++;
	seen->with_fd += fds[0] >= 0;
	if (record_is(record, "fd", "yes") != (fds[0] >= 0) || fds[1] >= 0)
		seen->wrong_fd = true;
	data = record_find(record, "data");
	seen->length = data ? data->length : 0;
	record_free(record);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	int sockets[2];

	if (!f || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0)
		return -1;
	uv_loop_init(&f->loop);
	f->channel = channel_open(&f->loop, sockets[0], LIMIT, received, &f->seen);
	f->peer = sockets[1];
	*state = f;
	return f->channel ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	channel_close(f->channel);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	close(f->peer);
	assert_int_equal(uv_loop_close(&f->loop), 0);
	free(f);
	return 0;
}

static void run(struct fixture *f)
{
	for (int i = 0; i < 500; i++)
		uv_run(&f->loop, UV_RUN_NOWAIT);
}

/* A frame of LENGTH bytes, with a descriptor or without one. */
static void send_frame(int fd, size_t length, bool with_fd)
{
	struct record *record = record_new();
	char *data = calloc(1, length + 1);
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	assert_non_null(record);
	assert_non_null(data);
	record_add(record, "fd", with_fd ? "yes" : "no");
	record_add_bytes(record, "data", data, length);
	assert_int_equal(frame_send(fd, record, &null, with_fd ? 1 : 0), 0);
	close(null);
	free(data);
	record_free(record);
}

static void a_descriptor_stays_with_its_frame(void **state)
{
	static const bool with_fd[] = { false, true, true, false, false, true, false };
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof with_fd / sizeof with_fd[0]; i++)
		send_frame(f->peer, i * 100, with_fd[i]);
	run(f);
	assert_int_equal(f->seen.frames, 7);
	assert_int_equal(f->seen.with_fd, 3);
	assert_false(f->seen.wrong_fd);
	assert_int_equal(f->seen.code, 0);
}

static void a_long_frame_comes_in_pieces(void **state)
{
	struct fixture *f = *state;
	unsigned char *bytes = NULL;
	struct record *record = record_new();
	uint32_t prefix;
	size_t length;
	char *data = calloc(1, 100000);

	record_add_bytes(record, "data", data, 100000);
	assert_int_equal(record_encode(record, &bytes, &length), 0);
	prefix = htonl((uint32_t)length);
	assert_int_equal(write(f->peer, &prefix, 2), 2);
	run(f);
	assert_int_equal(write(f->peer, (char *)&prefix + 2, 2), 2);
	for (size_t at = 0; at < length; at += 7777) {
		size_t part = length - at < 7777 ? length - at : 7777;

		assert_int_equal(f->seen.frames, 0);
		assert_int_equal(write(f->peer, bytes + at, part), (ssize_t)part);
		run(f);
	}
	assert_int_equal(f->seen.frames, 1);
	assert_int_equal(f->seen.length, 100000);
	free(bytes);
	free(data);
	record_free(record);
}

static void a_frame_above_the_limit_ends_the_channel(void **state)
{
	struct fixture *f = *state;
	uint32_t prefix = htonl(LIMIT + 1);

	assert_int_equal(write(f->peer, &prefix, sizeof prefix), sizeof prefix);
	run(f);
	assert_int_equal(f->seen.code, -EBADMSG);
	assert_int_equal(f->seen.frames, 0);
}

static void what_is_no_record_ends_the_channel(void **state)
{
	struct fixture *f = *state;
	static const unsigned char bytes[] = { 0, 0, 0, 3, 0xff, 0xff, 0xff };

	send_frame(f->peer, 10, false);
	assert_int_equal(write(f->peer, bytes, sizeof bytes), sizeof bytes);
	run(f);
	assert_int_equal(f->seen.frames, 1);
	assert_int_equal(f->seen.code, -EBADMSG);
}

static void the_peers_end_is_told_after_its_last_frame(void **state)
{
	struct fixture *f = *state;

	send_frame(f->peer, 10, true);
	shutdown(f->peer, SHUT_WR);
	run(f);
	assert_int_equal(f->seen.frames, 1);
	assert_int_equal(f->seen.with_fd, 1);
	assert_int_equal(f->seen.code, -EPIPE);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_descriptor_stays_with_its_frame),
		TEST(a_long_frame_comes_in_pieces),
		TEST(a_frame_above_the_limit_ends_the_channel),
		TEST(what_is_no_record_ends_the_channel),
		TEST(the_peers_end_is_told_after_its_last_frame),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
