/* Readers that wait: `wait`, `watch`, `events`, and poll(2) on them. */
#include "pkifs/content.h"
#include "pkifs/tree.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

/* Readers that wait: of one user, of all but root and the starter, and of all. */
#define WAITING_A_USER 5000
#define WAITING_OTHERS 6500
#define WAITING_MAX    7500

struct parked {
	struct parked *next, **link;
	struct store *store;
	struct held held;
	struct node node; /* of `wait` */
	uint64_t handle;
	size_t size;
	off_t offset;
	uid_t uid;
};

static size_t parked_count;

static bool may_park(const struct store *store, uid_t uid)
{
	size_t own = 0;

	if (is_trusted(store, uid))
		return parked_count < WAITING_MAX;
	for (const struct parked *parked = store->parked; parked; parked = parked->next)
		own += parked->uid == uid;
	return own < WAITING_A_USER && parked_count < WAITING_OTHERS;
}

static void unpark(struct parked *parked)
{
	*parked->link = parked->next;
	if (parked->next)
		parked->next->link = parked->link;
	parked_count--;
	free(parked);
}

static void interrupted(fuse_req_t req, void *user)
{
	struct parked *parked = user;

	(void)req;
	fuse_reply_err(session_resume(parked->store->session, &parked->held), EINTR);
	unpark(parked);
}

static void park(fuse_req_t req, const struct node *node, size_t size, off_t offset,
                 struct fuse_file_info *fi)
{
	struct store *store = req_store(req);
	struct parked *parked;

	if ((fi->flags & O_NONBLOCK) || fuse_req_interrupted(req)) {
		fuse_reply_err(req, fi->flags & O_NONBLOCK ? EAGAIN : EINTR);
		return;
	}
	parked = may_park(store, fuse_req_ctx(req)->uid) ? calloc(1, sizeof *parked) : NULL;
	if (!parked) {
		fuse_reply_err(req, EBUSY);
		return;
	}
	*parked = (struct parked){ .next = store->parked,
		                   .link = &store->parked,
		                   .store = store,
		                   .size = size,
		                   .offset = offset,
		                   .handle = fi->fh,
		                   .uid = fuse_req_ctx(req)->uid };
	if (node)
		parked->node = *node;
	if (parked->next)
		parked->next->link = &parked->next;
	store->parked = parked;
	parked_count++;
	parked->held = session_hold(store->session, req);
	fuse_req_interrupt_func(req, interrupted, parked);
}

/*
 * Up to SIZE bytes of the endless text of events from AT. Lines that are gone read as empty
 * ones: a reader that was too slow sees that something is missing, at the right offset.
 */
static int read_events(struct store *store, int64_t at, char *bytes, size_t size, size_t *length)
{
	int64_t end, start;
	int r;

	*length = 0;
	r = db_event_end(store->db, &end);
	while (r == 0 && *length < size && at < end) {
		struct blob line = { 0 };
		size_t part;

		r = db_event_at(store->db, at, &start, &line);
		if (r < 0)
			return r == -ENOENT ? 0 : r;
		if (start > at) {
			part = (size_t)(start - at) < size - *length ? (size_t)(start - at)
			                                             : size - *length;
			memset(bytes + *length, '\n', part);
		} else {
			part = line.length - (size_t)(at - start);
			part = part < size - *length ? part : size - *length;
			memcpy(bytes + *length, line.data + (at - start), part);
		}
		blob_clear(&line);
		*length += part;
		at += (int64_t)part;
	}
	return r;
}

void events_read(fuse_req_t req, int64_t start, size_t size, off_t offset)
{
	char *bytes = malloc(size);
	size_t length = 0;
	int64_t at = offset < INT64_MAX - start ? start + offset : INT64_MAX;
	int r = bytes ? read_events(req_store(req), at, bytes, size, &length) : -ENOMEM;

	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_buf(req, bytes, length);
	free(bytes);
}

/* What a reader of `watch` at OFFSET gets now; 0 bytes: it has to wait. */
static int watch_bytes(struct store *store, uint64_t handle, off_t offset, char *bytes, size_t size,
                       size_t *length)
{
	struct open_file *file = open_file_get(store, handle);
	int64_t at;
	int r;

	if (!file)
		return -EBADF;
	at = offset < INT64_MAX - (int64_t)file->start ? (int64_t)file->start + offset : INT64_MAX;
	r = read_events(store, at, bytes, size, length);
	if (r == 0 && *length) /* how far its reader is, for poll */
		file->length = (uint64_t)offset + *length;
	return r;
}

void watch_read(fuse_req_t req, size_t size, off_t offset, struct fuse_file_info *fi)
{
	char *bytes = malloc(size);
	size_t length = 0;
	int r = bytes ? watch_bytes(req_store(req), fi->fh, offset, bytes, size, &length) : -ENOMEM;

	if (r < 0)
		fuse_reply_err(req, -r);
	else if (length)
		fuse_reply_buf(req, bytes, length);
	else
		park(req, NULL, size, offset, fi);
	free(bytes);
}

void wait_read(fuse_req_t req, const struct node *node, size_t size, off_t offset,
               struct fuse_file_info *fi)
{
	struct store *store = req_store(req);
	struct snapshot *line = store->snapshots[fi->fh];
	struct content content = { 0 };
	int r = 0;

	if (!line) {
		r = make_wait_line(store, node->object.id, &content);
		if (r == 0 && !(line = store->snapshots[fi->fh] = snapshot_take(&content)))
			r = -ENOMEM;
		content_clear(&content);
	}
	if (r == -EAGAIN && offset == 0)
		park(req, node, size, offset, fi);
	else if (r < 0 && r != -EAGAIN)
		fuse_reply_err(req, -r);
	else if (!line || (size_t)offset >= line->length)
		fuse_reply_buf(req, NULL, 0);
	else
		fuse_reply_buf(req, line->text + offset,
		               line->length - (size_t)offset < size ? line->length - (size_t)offset
		                                                    : size);
}

/* Answers PARKED if there is something for it now. */
static void try_again(struct store *store, struct parked *parked)
{
	struct content content = { 0 };
	char bytes[4096];
	size_t length = 0;
	int r;

	if (parked->node.file == FILE_WAIT) {
		r = make_wait_line(store, parked->node.object.id, &content);
		if (r == -EAGAIN)
			return;
		length = content.length < parked->size ? content.length : parked->size;
		if (r == 0)
			memcpy(bytes, content.text, length);
		snapshot_drop(store->snapshots[parked->handle]);
		store->snapshots[parked->handle] = r == 0 ? snapshot_take(&content) : NULL;
		content_clear(&content);
	} else {
		r = watch_bytes(store, parked->handle, parked->offset, bytes,
		                parked->size < sizeof bytes ? parked->size : sizeof bytes, &length);
		if (r == 0 && !length)
			return;
	}
	if (r < 0)
		fuse_reply_err(session_resume(store->session, &parked->held), -r);
	else
		fuse_reply_buf(session_resume(store->session, &parked->held), bytes, length);
	unpark(parked);
}

static bool is_ready(struct store *store, const struct open_file *file)
{
	struct content content = { 0 };
	int64_t end = 0;
	int r;

	switch (inode_file(file->ino)) {
	case FILE_WAIT:
		r = make_wait_line(store, inode_number(file->ino), &content);
		content_clear(&content);
		return r != -EAGAIN;
	case FILE_WATCH:
		db_event_end(store->db, &end);
		return (int64_t)(file->start + file->length) < end;
	default:
		return true;
	}
}

void tree_poll(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi,
               struct fuse_pollhandle *handle)
{
	struct store *store = req_store(req);
	const struct fuse_in_header *header = session_request(store->session);
	const struct fuse_poll_in *in = (const void *)(header + 1);
	struct open_file *file = open_file_get(store, fi->fh);
	unsigned events = POLLIN | POLLRDNORM;

	(void)ino;
	if (!file) {
		fuse_pollhandle_destroy(handle);
		fuse_reply_err(req, EBADF);
		return;
	}
	if (handle) {
		file->poll = in->kh;
		file->polled = true;
		fuse_pollhandle_destroy(handle);
	}
	if (!is_ready(store, file))
		events = 0;
	fuse_reply_poll(req, events);
}

void wait_wake(struct store *store)
{
	struct parked *parked, *next;

	for (parked = store->parked; parked; parked = next) {
		next = parked->next;
		try_again(store, parked);
	}
	for (size_t i = 0; i < store->shared->files_top; i++) {
		struct open_file *file = &store->shared->files[i];

		if (!file->ino || !file->polled || !is_ready(store, file))
			continue;
		file->polled = false;
		session_wake(store->session, file->poll);
	}
}
