/*
 * Frames as they arrive on a socket: pieces of whatever size, with descriptors, lengths that lie.
 * A piece of the input is a byte of length, a byte of how many descriptors go with it, and the
 * bytes. The two readers (common/channel.h, common/frame.h) must see the same records with as
 * many descriptors, and end alike; what was read is sent back, and must arrive.
 */
#include "common/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LIMIT  (64u << 10)
#define FRAMES 1024

struct seen {
	unsigned char *bytes;
	size_t length;
	unsigned fds;
};

static uv_loop_t loop;
static struct seen seen[FRAMES];
static size_t count;
static int ended; /* what the channel ended with */
static int null;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
	if (!condition)
		abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	uv_loop_init(&loop);
	null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return 0;
}

static unsigned fds_of(const int *fds)
{
	unsigned number = 0;

	for (size_t i = 0; i < FRAME_FDS; i++)
		number += fds[i] >= 0;
	return number;
}

static void received(struct channel *channel, struct record *record, int *fds, int code, void *user)
{
	struct seen *frame = &seen[count];

	(void)user;
	if (!record) {
		must(code < 0 && fds_of(fds) == 0 && !ended);
		ended = code;
		return;
	}
	must(code == 0 && !ended && count < FRAMES);
	must(record_encode(record, &frame->bytes, &frame->length) == 0);
	frame->fds = fds_of(fds);
	count++;
	must(channel_send(channel, record, fds, frame->fds) == 0);
	record_free(record);
}

/* One piece, as one sendmsg. */
static void send_piece(int fd, const uint8_t *bytes, size_t length, unsigned fds)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int) * 7)];
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = length };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fds) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * fds);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int) * fds);
		for (unsigned i = 0; i < fds; i++)
			memcpy(CMSG_DATA(&control.header) + i * sizeof(int), &null, sizeof null);
	}
	sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* FRAME is what the other reader reads from FD. */
static void same(int fd, const struct seen *frame)
{
	struct record *record = NULL;
	unsigned char *bytes = NULL;
	int fds[FRAME_FDS];
	size_t length;

	must(frame_receive(fd, &record, fds) == 0);
	must(record_encode(record, &bytes, &length) == 0);
	must(length == frame->length && memcmp(bytes, frame->bytes, length) == 0);
	must(fds_of(fds) == frame->fds);
	for (size_t i = 0; i < FRAME_FDS; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	OPENSSL_clear_free(bytes, length);
	record_free(record);
}

/* A longer body is a wrong frame for the channel, and waited for by the other. */
static bool ends_alike(int code)
{
	return code == ended || (ended == -EBADMSG && code == -EPIPE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int ends[2], others[2], next = dup(null);
	struct channel *channel;
	struct record *record = NULL;
	size_t at = 0;

	close(next);
	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, others) == 0);
	channel = channel_open(&loop, ends[0], LIMIT, received, NULL);
	must(channel != NULL);
	count = 0;
	ended = 0;
	while (at + 2 < size) {
		size_t length = data[at] < size - at - 2 ? data[at] : size - at - 2;
		unsigned fds = data[at + 1] % 8;

		send_piece(ends[1], data + at + 2, length, fds);
		send_piece(others[1], data + at + 2, length, fds);
		at += 2 + length;
		uv_run(&loop, UV_RUN_NOWAIT);
	}
	shutdown(ends[1], SHUT_WR);
	close(others[1]);
	while (!ended)
		uv_run(&loop, UV_RUN_NOWAIT);
	for (size_t i = 0; i < count; i++)
		same(others[0], &seen[i]);
	must(ends_alike(frame_receive(others[0], &record, NULL)));
	channel_close(channel);
	uv_run(&loop, UV_RUN_DEFAULT);
	for (size_t i = 0; i < count; i++) {
		same(ends[1], &seen[i]);
		OPENSSL_clear_free(seen[i].bytes, seen[i].length);
	}
	close(ends[1]);
	close(others[0]);
	at = (size_t)dup(null);
	must((int)at == next); /* no descriptor is left */
	close((int)at);
	return 0;
}
