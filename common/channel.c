#include "common/channel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct outgoing {
	struct outgoing *next;
	unsigned char *bytes; /* prefix and body */
	size_t length, sent;
	int fds[FRAME_FDS];
	size_t fd_count;
};

struct channel {
	uv_poll_t poll;
	int fd;
	size_t limit;
	channel_received *received;
	void *user;
	struct outgoing *first, **last;
	size_t pending;
	unsigned char *in; /* the bytes of a frame that is not complete yet */
	size_t in_length, in_room;
	int in_fds[FRAME_FDS];
	int at_once;
	bool ended, closed, reading;
};

static void ready(uv_poll_t *poll, int status, int events);

static void watch(struct channel *channel)
{
	int events = UV_READABLE | (channel->first ? UV_WRITABLE : 0);

	if (!channel->closed && !channel->ended)
		uv_poll_start(&channel->poll, events, ready);
}

static void outgoing_free(struct outgoing *out)
{
	for (size_t i = 0; i < out->fd_count; i++)
		close(out->fds[i]);
	OPENSSL_clear_free(out->bytes, out->length);
	free(out);
}

static void close_fds(int *fds)
{
	for (size_t i = 0; i < FRAME_FDS; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
}

static void end(struct channel *channel, int code)
{
	int none[FRAME_FDS] = { -1, -1, -1, -1 };

	if (channel->ended || channel->closed)
		return;
	channel->ended = true;
	uv_poll_stop(&channel->poll);
	channel->received(channel, NULL, none, code, channel->user);
}

static ssize_t send_some(struct channel *channel, const struct outgoing *out)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int) * FRAME_FDS)];
	} control = { 0 };
	struct iovec iov = { .iov_base = out->bytes + out->sent,
		             .iov_len = out->length - out->sent };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (out->fd_count && !out->sent) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * out->fd_count);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int) * out->fd_count);
		memcpy(CMSG_DATA(&control.header), out->fds, sizeof(int) * out->fd_count);
	}
	return sendmsg(channel->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Sends what the socket takes. 0, or a negative errno when the peer is gone. */
static int flush(struct channel *channel)
{
	while (channel->first) {
		struct outgoing *out = channel->first;
		ssize_t sent = send_some(channel, out);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
		out->sent += (size_t)sent;
		channel->pending -= (size_t)sent;
		if (out->sent < out->length)
			continue;
		channel->first = out->next;
		if (!channel->first)
			channel->last = &channel->first;
		outgoing_free(out);
	}
	return 0;
}

/* Up to where the buffer is to be filled next: its frame's prefix, then all of it. */
static int frame_length(const struct channel *channel, size_t *length)
{
	uint32_t prefix;

	*length = sizeof prefix;
	if (channel->in_length < sizeof prefix)
		return 0;
	memcpy(&prefix, channel->in, sizeof prefix);
	prefix = ntohl(prefix);
	*length += prefix;
	return prefix > channel->limit ? -EBADMSG : 0;
}

/* Reports the whole frame in the buffer. */
static int deliver(struct channel *channel)
{
	struct record *record = NULL;
	int r = record_decode(channel->in + 4, channel->in_length - 4, &record);

	if (r < 0)
		return r;
	OPENSSL_cleanse(channel->in, channel->in_length);
	channel->in_length = 0;
	channel->received(channel, record, channel->in_fds, 0, channel->user);
	close_fds(channel->in_fds);
	return 0;
}

/* Room for LENGTH bytes, or at first for those that are likely to be there. */
static int grow(struct channel *channel, size_t length)
{
	size_t room = channel->in_room ? channel->in_room * 2 : 16384;
	unsigned char *bytes;

	if (channel->in_room >= length || channel->in_room - channel->in_length >= 4096)
		return 0;
	bytes = OPENSSL_clear_realloc(channel->in, channel->in_room, room);
	if (!bytes)
		return -ENOMEM;
	channel->in = bytes;
	channel->in_room = room;
	return 0;
}

/*
 * Reads one frame and not a byte of the next: what is read at once may span frames, and then
 * nobody can tell whose descriptors came with it. 1: it was delivered, 0: it is not there yet.
 */
static int receive(struct channel *channel)
{
	size_t length, room;
	long got;
	int r;

	while ((r = frame_length(channel, &length)) == 0) {
		if (channel->in_length >= sizeof(uint32_t) && channel->in_length == length) {
			r = deliver(channel);
			return r < 0 ? r : 1;
		}
		r = grow(channel, length);
		if (r < 0)
			return r;
		room = channel->in_room - channel->in_length;
		length -= channel->in_length;
		got = frame_read(channel->fd, channel->in + channel->in_length,
		                 length < room ? length : room, channel->in_fds);
		if (got == -EAGAIN)
			return 0;
		if (got <= 0)
			return got < 0 ? (int)got : -EPIPE;
		channel->in_length += (size_t)got;
	}
	return r;
}

static void channel_done(uv_handle_t *handle)
{
	struct channel *channel = handle->data;

	close(channel->fd);
	OPENSSL_clear_free(channel->in, channel->in_room);
	free(channel);
}

static void ready(uv_poll_t *poll, int status, int events)
{
	struct channel *channel = poll->data;
	int r = status < 0 ? status : 1;

	channel->reading = true;
	for (int i = 0; r > 0 && (events & UV_READABLE) && i < channel->at_once; i++)
		r = channel->closed || channel->ended ? 0 : receive(channel);
	if (r >= 0 && !channel->closed)
		r = flush(channel);
	channel->reading = false;
	if (channel->closed) {
		uv_close((uv_handle_t *)poll, channel_done);
		return;
	}
	if (r < 0)
		end(channel, r);
	else
		watch(channel);
}

struct channel *channel_open(uv_loop_t *loop, int fd, size_t limit, channel_received *received,
                             void *user)
{
	struct channel *channel = calloc(1, sizeof *channel);
	int flags = fcntl(fd, F_GETFL);

	if (!channel || flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
	    uv_poll_init(loop, &channel->poll, fd) < 0) {
		free(channel);
		return NULL;
	}
	channel->poll.data = channel;
	channel->fd = fd;
	channel->limit = limit;
	channel->received = received;
	channel->user = user;
	channel->at_once = 1;
	channel->last = &channel->first;
	for (size_t i = 0; i < FRAME_FDS; i++)
		channel->in_fds[i] = -1;
	watch(channel);
	return channel;
}

static int outgoing_new(const struct record *record, const int *fds, size_t count,
                        struct outgoing **new)
{
	struct outgoing *out = calloc(1, sizeof *out);
	unsigned char *body = NULL;
	uint32_t prefix;
	size_t length;
	int r;

	if (!out)
		return -ENOMEM;
	r = record_encode(record, &body, &length);
	if (r < 0) {
		free(out);
		return r;
	}
	prefix = htonl((uint32_t)length);
	out->length = length + sizeof prefix;
	out->bytes = OPENSSL_malloc(out->length);
	if (out->bytes) {
		memcpy(out->bytes, &prefix, sizeof prefix);
		memcpy(out->bytes + sizeof prefix, body, length);
	} else {
		r = -ENOMEM;
	}
	OPENSSL_clear_free(body, length);
	for (size_t i = 0; r == 0 && i < count; i++) {
		int fd = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);

		if (fd < 0)
			r = -errno;
		else
			out->fds[out->fd_count++] = fd;
	}
	if (r < 0) {
		outgoing_free(out);
		return r;
	}
	*new = out;
	return 0;
}

int channel_send(struct channel *channel, const struct record *record, const int *fds, size_t count)
{
	struct outgoing *out;
	int r;

	if (channel->ended || channel->closed)
		return -EPIPE;
	if (count > FRAME_FDS)
		return -EMSGSIZE;
	r = outgoing_new(record, fds, count, &out);
	if (r < 0)
		return r;
	*channel->last = out;
	channel->last = &out->next;
	channel->pending += out->length;
	flush(channel); /* that the peer is gone is told by the loop, in one place */
	watch(channel);
	return 0;
}

void channel_take(struct channel *channel, int frames)
{
	channel->at_once = frames;
}

size_t channel_pending(const struct channel *channel)
{
	return channel->pending;
}

void channel_close(struct channel *channel)
{
	struct outgoing *out;

	if (!channel || channel->closed)
		return;
	channel->closed = true;
	uv_poll_stop(&channel->poll);
	while ((out = channel->first)) {
		channel->first = out->next;
		outgoing_free(out);
	}
	close_fds(channel->in_fds);
	if (!channel->reading)
		uv_close((uv_handle_t *)&channel->poll, channel_done);
}
