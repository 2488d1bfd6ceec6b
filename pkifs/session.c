#include "pkifs/session.h"

#include "common/log.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* More than what kills by chance; less than what takes the mount away (START_SECONDS). */
#define SUSPICIONS 6

struct answer {
	struct answer *next;
	int slot;
	size_t length;
	char bytes[];
};

struct session {
	struct fuse_session *fuse;
	uv_poll_t poll;
	int fd;
	struct shared *shared;
	const struct session_hooks *hooks;
	void *user;
	int current;       /* slot of the request that runs or is answered, or -1 */
	uint64_t doubtful; /* a predecessor died as it answered this one: it may have been heard */
	int next_small;    /* where to look for a free small slot first */
	bool replaying_init, replaying, polling, started, stopped;
	struct answer *first, **last; /* wait for the commit */
};

static struct session *the_session; /* libfuse's io functions get no pointer of ours at INIT */

static void slot_free(struct session *session, int slot)
{
	struct fuse_in_header *header = shared_slot(session->shared, slot);
	uint32_t length = header->len;

	/* Free first: a successor must not run a request again whose bytes are wiped. */
	__atomic_store_n(&header->len, 0, __ATOMIC_SEQ_CST);
	/* What was written may be a secret. */
	if (header->opcode == FUSE_WRITE || header->opcode == FUSE_SETXATTR)
		OPENSSL_cleanse(header + 1, length - sizeof *header);
}

static bool slot_taken(const struct session *session, int slot)
{
	return shared_slot(session->shared, slot)->len != 0;
}

static int free_large(const struct session *session)
{
	for (int slot = 0; slot < LARGE_SLOTS; slot++)
		if (!slot_taken(session, slot))
			return slot;
	return -1;
}

static void readable(uv_poll_t *poll, int status, int events);

static void keep_polling(struct session *session)
{
	bool wanted = session->started && !session->stopped && free_large(session) >= 0;

	if (wanted && !session->polling)
		uv_poll_start(&session->poll, UV_READABLE, readable);
	else if (!wanted && session->polling)
		uv_poll_stop(&session->poll);
	session->polling = wanted;
}

/* The slot that the answer UNIQUE is for: the current one, or -1 for one that has no slot. */
static int slot_of(const struct session *session, uint64_t unique)
{
	if (session->current >= 0 &&
	    shared_slot(session->shared, session->current)->unique == unique)
		return session->current;
	return -1;
}

static ssize_t send_now(struct session *session, const struct iovec *iov, int count, int slot)
{
	const struct fuse_in_header *header = slot < 0 ? NULL : shared_slot(session->shared, slot);
	const struct fuse_out_header *answer = iov[0].iov_base;
	ssize_t sent;
	int error;

	session->shared->answering = header ? header->unique : 0;
	sent = writev(session->fd, iov, count);
	error = errno;
	if (slot >= 0) {
		if ((sent < 0 || answer->error) && header->unique != session->doubtful &&
		    (header->opcode == FUSE_OPEN || header->opcode == FUSE_CREATE))
			session->hooks->opened_in_vain(header->unique, session->user);
		slot_free(session, slot);
		if (!session->polling)
			keep_polling(session);
	}
	errno = error;
	return sent;
}

static ssize_t send_after_commit(struct session *session, const struct iovec *iov, int count,
                                 size_t length, int slot)
{
	struct answer *answer = malloc(sizeof *answer + length);
	size_t at = 0;

	if (!answer)
		return send_now(session, iov, count, slot);
	*answer = (struct answer){ .slot = slot, .length = length };
	for (int i = 0; i < count; i++) {
		memcpy(answer->bytes + at, iov[i].iov_base, iov[i].iov_len);
		at += iov[i].iov_len;
	}
	*session->last = answer;
	session->last = &answer->next;
	return (ssize_t)length;
}

static ssize_t io_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	struct session *session = the_session;
	const struct fuse_out_header *header = iov[0].iov_base;
	int slot = slot_of(session, header->unique);
	size_t length = 0;

	(void)fd;
	(void)userdata;
	for (int i = 0; i < count; i++)
		length += iov[i].iov_len;
	if (session->replaying_init)
		return (ssize_t)length;
	if (slot >= 0)
		session->current = -1; /* answered: what follows is no part of it */
	if (header->unique && session->hooks->in_transaction(session->user))
		return send_after_commit(session, iov, count, length, slot);
	return send_now(session, iov, count, slot);
}

static ssize_t io_read(int fd, void *bytes, size_t length, void *userdata)
{
	(void)userdata;
	return read(fd, bytes, length);
}

/* Requests that may change the store, or bring a text that is judged. */
static bool may_change(uint32_t opcode)
{
	switch (opcode) {
	case FUSE_MKDIR:
	case FUSE_RMDIR:
	case FUSE_UNLINK:
	case FUSE_RENAME:
	case FUSE_RENAME2:
	case FUSE_CREATE:
	case FUSE_SETATTR:
	case FUSE_SETXATTR:
	case FUSE_REMOVEXATTR:
	case FUSE_WRITE:
	case FUSE_FLUSH:
	case FUSE_RELEASE:
		return true;
	default:
		return false;
	}
}

static bool has_no_answer(uint32_t opcode)
{
	return opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET || opcode == FUSE_INTERRUPT ||
	       opcode == FUSE_DESTROY;
}

static void run(struct session *session, int slot)
{
	struct fuse_in_header *header = shared_slot(session->shared, slot);
	struct fuse_buf buf = { .size = header->len, .mem = header };
	bool silent = has_no_answer(header->opcode);

	session->current = slot;
	session->shared->running = header->unique;
	fuse_session_process_buf(session->fuse, &buf);
	session->shared->running = 0;
	session->current = -1;
	if (silent)
		slot_free(session, slot);
}

/* The request in SLOT (or -1) changes nothing, and opened nothing. */
static bool is_reader(const struct session *session, int slot)
{
	uint32_t opcode;

	if (slot < 0)
		return false;
	opcode = shared_slot(session->shared, slot)->opcode;
	return opcode != FUSE_OPEN && !may_change(opcode);
}

void session_answers(struct session *session, int code)
{
	struct answer *answer;
	int again[SLOTS], count = 0;

	while ((answer = session->first)) {
		struct fuse_out_header error = { .len = sizeof error, .error = code };
		struct iovec iov = { .iov_base = answer->bytes, .iov_len = answer->length };

		session->first = answer->next;
		if (!session->first)
			session->last = &session->first;
		if (code) {
			memcpy(&error.unique,
			       answer->bytes + offsetof(struct fuse_out_header, unique),
			       sizeof error.unique);
			iov = (struct iovec){ .iov_base = &error, .iov_len = sizeof error };
		}
		if (code && is_reader(session, answer->slot))
			again[count++] = answer->slot;
		else
			send_now(session, &iov, 1, answer->slot);
		OPENSSL_cleanse(answer->bytes, answer->length);
		free(answer);
	}
	/* what readers would have seen never came to be: they see what is there */
	for (int i = 0; i < count; i++)
		run(session, again[i]);
	keep_polling(session);
}

/*
 * Moves the request in the large slot LARGE into a small one where it fits, so that few large
 * ones serve many readers that wait. Taken in both for a moment: a successor runs it once.
 */
static int settle(struct session *session, int large)
{
	struct fuse_in_header *from = shared_slot(session->shared, large), *to;
	uint32_t length = from->len;

	if (length > SMALL_SIZE)
		return large;
	for (int i = 0; i < SMALL_SLOTS; i++) {
		int slot = LARGE_SLOTS + (session->next_small + i) % SMALL_SLOTS;

		if (slot_taken(session, slot))
			continue;
		session->next_small = slot - LARGE_SLOTS + 1;
		to = shared_slot(session->shared, slot);
		memcpy((char *)to + sizeof to->len, (char *)from + sizeof from->len,
		       length - sizeof to->len);
		__atomic_store_n(&to->len, length, __ATOMIC_RELEASE);
		slot_free(session, large);
		return slot;
	}
	return large;
}

/* Reads one request. Its slot, -EAGAIN when there is none, -ENODEV at the mount's end. */
static int receive(struct session *session)
{
	int slot = free_large(session);
	struct fuse_in_header *header;
	ssize_t got;

	if (slot < 0)
		return -EAGAIN;
	header = shared_slot(session->shared, slot);
	do
		got = read(session->fd, header, LARGE_SIZE);
	while (got < 0 && (errno == EINTR || errno == ENOENT));
	if (got < 0)
		return -errno;
	if (header->opcode == FUSE_INIT && header->len <= sizeof session->shared->init) {
		memcpy(session->shared->init, header, header->len);
		session->shared->init_length = header->len;
	}
	return settle(session, slot);
}

static void turn(struct session *session)
{
	int changes[LARGE_SLOTS], count = 0, slot = 0;

	session->hooks->before(session->user);
	for (int i = 0; i < LARGE_SLOTS && (slot = receive(session)) >= 0; i++) {
		if (may_change(shared_slot(session->shared, slot)->opcode))
			changes[count++] = slot;
		else
			run(session, slot);
	}
	for (int i = 0; i < count; i++)
		run(session, changes[i]);
	session->hooks->after(session->user);
	if (slot == -ENODEV) {
		session_stop(session);
		session->hooks->ended(session->user);
		return;
	}
	keep_polling(session);
}

static void readable(uv_poll_t *poll, int status, int events)
{
	(void)status;
	(void)events;
	turn(poll->data);
}

int session_open(uv_loop_t *loop, int fd, struct shared *shared,
                 const struct fuse_lowlevel_ops *ops, const struct session_hooks *hooks, void *user,
                 struct session **session, struct error *err)
{
	static const struct fuse_custom_io io = { .writev = io_writev, .read = io_read };
	char name[] = "pkifs", *argv[] = { name, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	struct session *new = calloc(1, sizeof *new);
	int r;

	if (!new)
		return error_set(err, -ENOMEM, "out of memory");
	*new = (struct session){
		.fd = fd, .shared = shared, .hooks = hooks, .user = user, .current = -1
	};
	new->last = &new->first;
	new->fuse = fuse_session_new(&args, ops, sizeof *ops, user);
	fuse_opt_free_args(&args);
	r = new->fuse ? fuse_session_custom_io(new->fuse, &io, fd) : -ENOMEM;
	if (r == 0)
		r = uv_poll_init(loop, &new->poll, fd);
	if (r < 0) {
		free(new);
		return error_set(err, r, "the FUSE session cannot be made: %s", strerror(-r));
	}
	new->poll.data = new;
	the_session = new;
	*session = new;
	return 0;
}

/*
 * A request that ends each store that runs it would take the mount down: the sixth time it is
 * answered EIO unread.
 */
static bool ends_stores(struct session *session)
{
	struct shared *shared = session->shared;

	if (!shared->running)
		return false;
	if (shared->suspect != shared->running)
		shared->suspicions = 0;
	shared->suspect = shared->running;
	shared->running = 0;
	return ++shared->suspicions >= SUSPICIONS;
}

static void refuse(struct session *session, int slot)
{
	struct fuse_in_header *header = shared_slot(session->shared, slot);
	struct fuse_out_header error = { .len = sizeof error, .error = -EIO };
	struct iovec iov = { .iov_base = &error, .iov_len = sizeof error };

	log_error("a request of kind %u ended the store %d times, and is given up", header->opcode,
	          SUSPICIONS);
	error.unique = header->unique;
	send_now(session, &iov, 1, slot);
}

static bool answered_twice(const struct session *session, int slot)
{
	uint64_t unique = shared_slot(session->shared, slot)->unique;

	for (int other = 0; other < LARGE_SLOTS; other++)
		if (other != slot && slot_taken(session, other) &&
		    shared_slot(session->shared, other)->unique == unique)
			return true;
	return false;
}

int session_start(struct session *session)
{
	struct fuse_buf init = { .size = session->shared->init_length,
		                 .mem = session->shared->init };
	bool suspicious = ends_stores(session);
	int count = 0;

	session->doubtful = session->shared->answering;

	if (init.size) {
		session->replaying_init = true;
		fuse_session_process_buf(session->fuse, &init);
		session->replaying_init = false;
	}
	session->replaying = true;
	for (int slot = SLOTS - 1; slot >= 0; slot--) {
		if (!slot_taken(session, slot))
			continue;
		if (slot >= LARGE_SLOTS && answered_twice(session, slot)) {
			slot_free(session, slot);
			continue;
		}
		count++;
		if (suspicious &&
		    shared_slot(session->shared, slot)->unique == session->shared->suspect)
			refuse(session, slot);
		else
			run(session, slot);
	}
	session->replaying = false;
	if (count)
		log_info("took over %d requests that were under way", count);
	session->hooks->after(session->user);
	session->started = true;
	keep_polling(session);
	return 0;
}

struct held session_hold(struct session *session, fuse_req_t req)
{
	return (struct held){ .req = req, .slot = session->current };
}

fuse_req_t session_resume(struct session *session, struct held *held)
{
	fuse_req_t req = held->req;

	session->current = held->slot;
	held->req = NULL;
	return req;
}

uint64_t session_unique(const struct session *session)
{
	return session->current < 0 ? 0 : session_request(session)->unique;
}

const struct fuse_in_header *session_request(const struct session *session)
{
	return session->current < 0 ? NULL : shared_slot(session->shared, session->current);
}

bool session_replays(const struct session *session)
{
	return session->replaying;
}

void session_wake(struct session *session, uint64_t poll)
{
	struct {
		struct fuse_out_header header;
		struct fuse_notify_poll_wakeup_out out;
	} message = { .header = { .len = sizeof message, .error = FUSE_NOTIFY_POLL },
		      .out = { .kh = poll } };

	if (write(session->fd, &message, sizeof message) < 0 && errno != ENOENT)
		log_warning("waking a poll failed: %s", strerror(errno));
}

void session_stop(struct session *session)
{
	session->stopped = true;
	keep_polling(session);
}
