/* A connection to charon: commands one after the other, events between them. */
#include "netlink/vici.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATIENCE_MS  2000
#define LENGTH_BYTES 4
#define READ_BYTES   (64u << 10)

struct call {
	struct call *next;
	unsigned char *bytes;
	size_t length;
	char what[VICI_NAME_MAX];
	const char *items;
	vici_answered *answered;
	int64_t about;
};

struct vici {
	int fd;
	uv_poll_t poll;
	uv_timer_t patience;
	int closing; /* handles that are not closed yet */
	struct call *first, **last;
	size_t sent; /* of the first call's bytes */
	unsigned char *in;
	size_t in_used, in_room;
	vici_event *event;
	vici_gone *gone;
	void *user;
	bool ended;
};

static void call_free(struct call *call)
{
	OPENSSL_clear_free(call->bytes, call->length);
	free(call);
}

static void end(struct vici *vici, const struct error *err)
{
	if (vici->ended)
		return;
	vici->ended = true;
	uv_poll_stop(&vici->poll);
	uv_timer_stop(&vici->patience);
	vici->gone(vici, err, vici->user);
}

static void fail(struct vici *vici, int code, const char *why)
{
	struct error err = { 0 };

	error_set(&err, code, "charon %s", why);
	end(vici, &err);
}

/* --- sending --- */

static void ready(uv_poll_t *poll, int status, int events);

static void late(uv_timer_t *timer)
{
	struct vici *vici = timer->data;
	struct error err = { 0 };

	error_set(&err, -ETIMEDOUT, "charon did not answer %s within %d s",
	          vici->first ? vici->first->what : "", PATIENCE_MS / 1000);
	end(vici, &err);
}

/* Sends of the first call what there is room for. */
static void send_first(struct vici *vici)
{
	struct call *call = vici->first;
	bool more = false;

	while (call && vici->sent < call->length && !more) {
		ssize_t length = send(vici->fd, call->bytes + vici->sent, call->length - vici->sent,
		                      MSG_DONTWAIT | MSG_NOSIGNAL);

		if (length >= 0)
			vici->sent += (size_t)length;
		else if (errno == EAGAIN)
			more = true;
		else if (errno != EINTR)
			break; /* it can no longer be read from either, which is told */
	}
	uv_poll_start(&vici->poll, more ? UV_READABLE | UV_WRITABLE : UV_READABLE, ready);
}

static void begin_first(struct vici *vici)
{
	vici->sent = 0;
	uv_timer_start(&vici->patience, late, PATIENCE_MS, 0);
	send_first(vici);
}

static int add_call(struct vici *vici, enum vici_packet type, const char *name,
                    const struct record *message, const struct call *given)
{
	struct call *call = vici->ended ? NULL : malloc(sizeof *call);
	int r = vici->ended ? -ENOTCONN : -ENOMEM;

	if (!call)
		return r;
	*call = *given;
	snprintf(call->what, sizeof call->what, "%s", name);
	r = vici_encode(type, name, message, &call->bytes, &call->length);
	if (r < 0) {
		free(call);
		return r;
	}
	*vici->last = call;
	vici->last = &call->next;
	if (vici->first == call)
		begin_first(vici);
	return 0;
}

int vici_register(struct vici *vici, const char *event)
{
	const struct call call = { 0 };

	return add_call(vici, VICI_REGISTER, event, NULL, &call);
}

int vici_call(struct vici *vici, const char *command, const struct record *message,
              const char *items, vici_answered *answered, int64_t about)
{
	const struct call call = { .items = items, .answered = answered, .about = about };

	return add_call(vici, VICI_REQUEST, command, message, &call);
}

/* --- receiving --- */

/* The first call is answered: by MESSAGE, or by why it is not known. */
static void answer(struct vici *vici, const struct record *message, const struct error *failure)
{
	struct call *call = vici->first;
	const char *why = message ? record_get(message, "errmsg") : NULL;
	bool waiting = call->next; /* one that is added to an empty queue begins at once */
	struct error err = { 0 };

	vici->first = call->next;
	if (!waiting)
		vici->last = &vici->first;
	uv_timer_stop(&vici->patience);
	if (failure)
		err = *failure;
	else if (message && record_find(message, "success") &&
	         !record_is(message, "success", "yes"))
		error_set(&err, -EIO, "charon refuses %s: %s", call->what,
		          why && *why ? why : "it does not say why");
	if (call->answered)
		call->answered(vici, call->about, NULL, message, err.code ? &err : NULL,
		               vici->user);
	call_free(call);
	if (!vici->ended && waiting)
		begin_first(vici);
}

static void take_event(struct vici *vici, const char *name, const struct record *message)
{
	const struct call *call = vici->first;

	if (call && call->items && strcmp(call->items, name) == 0) {
		uv_timer_again(&vici->patience);
		if (call->answered)
			call->answered(vici, call->about, message, NULL, NULL, vici->user);
	} else {
		vici->event(vici, name, message, vici->user);
	}
}

/* An answer is only what the first call, all of it sent, waits for. */
static int take_answer(struct vici *vici, enum vici_packet type, const struct record *message)
{
	struct error err = { 0 };
	bool waits = vici->first && vici->sent == vici->first->length;

	if (!waits || (type != VICI_RESPONSE && type != VICI_CONFIRMED && type != VICI_NO_COMMAND &&
	               type != VICI_NO_EVENT))
		return -EBADMSG;
	if (type == VICI_NO_COMMAND || type == VICI_NO_EVENT)
		error_set(&err, -ENOSYS, "this charon does not know %s", vici->first->what);
	answer(vici, message, err.code ? &err : NULL);
	return 0;
}

static int take_packet(struct vici *vici, const unsigned char *bytes, size_t length)
{
	struct record *message = NULL;
	char name[VICI_NAME_MAX];
	enum vici_packet type;
	int r = vici_decode(bytes, length, &type, name, &message);

	if (r == 0 && type == VICI_EVENT)
		take_event(vici, name, message);
	else if (r == 0)
		r = take_answer(vici, type, message);
	record_free(message);
	return r;
}

static size_t packet_length(const unsigned char *bytes)
{
	return (size_t)bytes[0] << 24 | (size_t)bytes[1] << 16 | (size_t)bytes[2] << 8 | bytes[3];
}

/* All whole packets that have come in. */
static int take_packets(struct vici *vici)
{
	size_t used = 0;
	int r = 0;

	while (r == 0 && !vici->ended && vici->in_used - used >= LENGTH_BYTES) {
		size_t length = packet_length(vici->in + used);

		if (length > VICI_PACKET_MAX)
			return -EBADMSG;
		if (vici->in_used - used - LENGTH_BYTES < length)
			break;
		used += LENGTH_BYTES + length;
		r = take_packet(vici, vici->in + used - length, length);
	}
	memmove(vici->in, vici->in + used, vici->in_used - used);
	vici->in_used -= used;
	return r;
}

static int make_room(struct vici *vici)
{
	unsigned char *more;

	if (vici->in_room - vici->in_used >= READ_BYTES)
		return 0;
	more = realloc(vici->in, vici->in_used + 2 * READ_BYTES);
	if (!more)
		return -ENOMEM;
	vici->in = more;
	vici->in_room = vici->in_used + 2 * READ_BYTES;
	return 0;
}

static void receive(struct vici *vici)
{
	ssize_t length;
	int r = make_room(vici);

	if (r < 0) {
		fail(vici, r, strerror(-r));
		return;
	}
	length = recv(vici->fd, vici->in + vici->in_used, vici->in_room - vici->in_used,
	              MSG_DONTWAIT);
	if (length < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (length <= 0) {
		fail(vici, -EPIPE, length < 0 ? strerror(errno) : "has ended");
		return;
	}
	vici->in_used += (size_t)length;
	r = take_packets(vici);
	if (r < 0)
		fail(vici, r, r == -EBADMSG ? "sent what is no message of VICI" : strerror(-r));
}

static void ready(uv_poll_t *poll, int status, int events)
{
	struct vici *vici = poll->data;

	if (status < 0) {
		fail(vici, status, strerror(-status));
		return;
	}
	if (events & UV_WRITABLE)
		send_first(vici);
	if (!vici->ended && (events & UV_READABLE))
		receive(vici);
}

/* --- its life --- */

struct vici *vici_open(uv_loop_t *loop, int fd, vici_event *event, vici_gone *gone, void *user)
{
	struct vici *vici = calloc(1, sizeof *vici);

	if (!vici)
		return NULL;
	if (uv_poll_init(loop, &vici->poll, fd) < 0) {
		free(vici);
		return NULL;
	}
	uv_timer_init(loop, &vici->patience);
	uv_timer_set_repeat(&vici->patience, PATIENCE_MS);
	vici->fd = fd;
	vici->poll.data = vici->patience.data = vici;
	vici->last = &vici->first;
	vici->event = event;
	vici->gone = gone;
	vici->user = user;
	uv_poll_start(&vici->poll, UV_READABLE, ready);
	return vici;
}

static void closed(uv_handle_t *handle)
{
	struct vici *vici = handle->data;

	if (--vici->closing == 0) {
		free(vici->in);
		free(vici);
	}
}

void vici_close(struct vici *vici)
{
	if (!vici)
		return;
	vici->ended = true;
	uv_poll_stop(&vici->poll);
	close(vici->fd);
	while (vici->first) {
		struct call *call = vici->first;

		vici->first = call->next;
		call_free(call);
	}
	vici->closing = 2;
	uv_close((uv_handle_t *)&vici->poll, closed);
	uv_close((uv_handle_t *)&vici->patience, closed);
}
