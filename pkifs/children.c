#include "pkifs/children.h"

#include "common/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct child {
	struct child *next;
	struct store *store;
	const struct child_class *class;
	void *user;
	long long id;
	struct channel *channel; /* NULL until it runs */
};

struct children {
	struct child *first;
	long long last_id;
};

static void unlink_child(struct child *child)
{
	struct child **at = &child->store->children->first;

	while (*at != child)
		at = &(*at)->next;
	*at = child->next;
}

static void drop(struct child *child)
{
	unlink_child(child);
	channel_close(child->channel);
	free(child);
}

static void tell_supervisor(struct store *store, const char *frame, const char *kind, long long id)
{
	struct record *record = record_new();

	if (!record)
		return;
	record_add(record, "frame", frame);
	if (kind)
		record_add(record, "kind", kind);
	record_add_number(record, "id", id);
	channel_send(store->supervisor, record, NULL, 0);
	record_free(record);
}

struct child *child_start(struct store *store, const struct child_class *class, void *user)
{
	struct child *child = calloc(1, sizeof *child);

	if (!store->children)
		store->children = calloc(1, sizeof *store->children);
	if (!child || !store->children) {
		free(child);
		return NULL;
	}
	*child = (struct child){
		.next = store->children->first, .store = store, .class = class, .user = user
	};
	child->id = ++store->children->last_id;
	store->children->first = child;
	tell_supervisor(store, "start", class->kind, child->id);
	return child;
}

int child_send(struct child *child, const struct record *record, const int *fds, size_t count)
{
	return child->channel ? channel_send(child->channel, record, fds, count) : -ENOTCONN;
}

size_t child_pending(const struct child *child)
{
	return child->channel ? channel_pending(child->channel) : 0;
}

void child_end(struct child *child, bool kill)
{
	if (!child)
		return;
	if (kill)
		tell_supervisor(child->store, "stop", NULL, child->id);
	drop(child);
}

static void gone(struct child *child, const char *reason)
{
	child->class->gone(child, reason, child->user);
	drop(child);
}

static void received(struct channel *channel, struct record *record, int *fds, int code, void *user)
{
	struct child *child = user;

	(void)channel;
	(void)fds;
	if (record) {
		child->class->received(child, record, child->user);
		return;
	}
	if (code == -EBADMSG) {
		log_warning("the %s process sent what is no message, and is ended",
		            child->class->kind);
		tell_supervisor(child->store, "stop", NULL, child->id);
	}
	gone(child, code == -EPIPE ? "it ended" : strerror(-code));
}

bool children_received(struct store *store, const struct record *record, int *fds)
{
	bool started = record_is(record, "frame", "started");
	struct child *child = store->children ? store->children->first : NULL;
	long long id = record_number(record, "id", 0);
	int signing;

	if (!started && !record_is(record, "frame", "not-started"))
		return false;
	while (child && child->id != id)
		child = child->next;
	if (!child) {
		if (started) /* ended before it began */
			tell_supervisor(store, "stop", NULL, id);
		return true;
	}
	if (!started) {
		gone(child, record_get(record, "reason"));
		return true;
	}
	child->channel =
		channel_open(store->loop, fds[0], child->class->frame_limit, received, child);
	if (!child->channel) {
		gone(child, "out of memory");
		return true;
	}
	channel_take(child->channel, 16); /* what comes of them has one commit */
	signing = fds[1];
	fds[0] = fds[1] = -1;
	child->class->ready(child, signing, child->user);
	return true;
}
