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

static void a_peer_that_goes_in_mid_frame_is_told_once(void **state)
{
	static const unsigned char part[] = { 0, 0, 0, 8, 0, 1, 'a', 0, 0, 0, 1 };
	struct fixture *f = *state;

	assert_int_equal(write(f->peer, part, sizeof part), sizeof part);
	run(f);
	assert_int_equal(f->seen.code, 0);
	shutdown(f->peer, SHUT_WR);
	run(f);
	assert_int_equal(f->seen.frames, 0);
	assert_int_equal(f->seen.code, -EPIPE);
	f->seen.code = 0;
	run(f);
	assert_int_equal(f->seen.code, 0);
}

/* Frame N of the queue, or the one that the peer got. */
static struct record *numbered(long long n)
{
	static const char much[60000];
	struct record *record = record_new();

	assert_non_null(record);
	record_add_number(record, "n", n);
	record_add_bytes(record, "data", much, sizeof much);
	return record;
}

static void a_slow_reader_gets_all_in_order(void **state)
{
	struct fixture *f = *state;
	struct record *record;
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC), fds[FRAME_FDS];

	for (int i = 0; i < 40; i++) {
		record = numbered(i);
		assert_int_equal(channel_send(f->channel, record, &null, i % 3 == 0), 0);
		record_free(record);
	}
	close(null); /* the queue has its own */
	run(f);
	assert_true(channel_pending(f->channel) > 1000000);
	for (int i = 0; i < 40; i++) {
		/* what the socket holds is always more than one frame, or all there is */
		assert_int_equal(frame_receive(f->peer, &record, fds), 0);
		assert_int_equal(record_number(record, "n", -1), i);
		assert_int_equal(fds[0] >= 0, i % 3 == 0);
		close(fds[0]);
		record_free(record);
		run(f);
	}
	assert_int_equal(channel_pending(f->channel), 0);
	assert_int_equal(f->seen.code, 0);
}

static void a_queue_goes_with_its_channel(void **state)
{
	struct fixture *f = *state;
	struct record *record = numbered(0);
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC), after;

	for (int i = 0; i < 20; i++)
		assert_int_equal(channel_send(f->channel, record, &null, 1), 0);
	channel_close(f->channel);
	f->channel = NULL;
	uv_run(&f->loop, UV_RUN_DEFAULT);
	after = fcntl(null, F_DUPFD_CLOEXEC, null);
	assert_true(after <= null + 1); /* none of the duplicates is left */
	close(after);
	close(null);
	record_free(record);
}

static void nothing_is_sent_to_a_peer_that_is_gone(void **state)
{
	struct fixture *f = *state;
	struct record *record = numbered(0);

	shutdown(f->peer, SHUT_RDWR);
	assert_int_equal(channel_send(f->channel, record, NULL, 0), 0); /* the loop tells */
	run(f);
	assert_int_equal(f->seen.code, -EPIPE);
	assert_int_equal(channel_send(f->channel, record, NULL, 0), -EPIPE);
	record_free(record);
}

static void more_descriptors_than_a_frame_takes_are_refused(void **state)
{
	struct fixture *f = *state;
	struct record *record = numbered(0);
	int fds[FRAME_FDS + 1] = { 0 };

	assert_int_equal(channel_send(f->channel, record, fds, FRAME_FDS + 1), -EMSGSIZE);
	assert_int_equal(channel_pending(f->channel), 0);
	record_free(record);
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
		TEST(a_peer_that_goes_in_mid_frame_is_told_once),
		TEST(a_slow_reader_gets_all_in_order),
		TEST(a_queue_goes_with_its_channel),
		TEST(nothing_is_sent_to_a_peer_that_is_gone),
		TEST(more_descriptors_than_a_frame_takes_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
