#include "pkifs/secrets.h"

#include "common/log.h"
#include "pkifs/children.h"
#include "pkifs/object.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GENERATORS   2
#define PROCESSES    (1 + GENERATORS) /* the first one uses keys, the others make them */
#define TRIES        6                /* more than what kills by chance */
#define IDLE_SECONDS 60
/* A process that takes longer is taken for dead: the largest RSA keys need a minute or two. */
#define USE_SECONDS  30
#define MAKE_SECONDS 600

struct question {
	struct question *next;
	struct record *record;
	secrets_answer *answered;
	void *user;
	long long id;
	unsigned tries;
	uint64_t asked; /* uv_now */
	bool sent, once;
	int fds[FRAME_FDS];
	size_t fd_count;
};

static struct keys {
	struct store *store;
	struct child *child;
	bool ready;
	struct question *first;
	int64_t idle_since;
	unsigned incarnation;
} processes[PROCESSES];
static long long last_id;

static void question_free(struct question *question)
{
	for (size_t i = 0; i < question->fd_count; i++)
		close(question->fds[i]);
	record_free(question->record);
	free(question);
}

/* Takes QUESTION out of KEYS' list, answers it and frees it. */
static void answer(struct keys *keys, struct question *question, const struct record *record,
                   const struct error *err)
{
	struct question **at = &keys->first;

	while (*at != question)
		at = &(*at)->next;
	*at = question->next;
	if (!keys->first)
		keys->idle_since = store_now(keys->store);
	question->answered(question->user, record, err);
	question_free(question);
}

static void send_questions(struct keys *keys)
{
	for (struct question *question = keys->first; keys->ready && question;
	     question = question->next) {
		if (question->sent)
			continue;
		question->sent = true;
		question->asked = uv_now(keys->store->loop);
		question->tries++;
		child_send(keys->child, question->record, question->fds, question->fd_count);
	}
}

static void ready(struct child *child, int signing, void *user)
{
	struct keys *keys = user;

	(void)child;
	if (signing >= 0)
		close(signing);
	keys->ready = true;
	keys->incarnation++;
	keys->store->due = true; /* what is offered to others is to be told to this one */
	send_questions(keys);
}

static void received(struct child *child, struct record *record, void *user)
{
	struct keys *keys = user;
	struct question *question = keys->first;
	long long id = record_number(record, "id", 0);
	struct error err = { 0 };

	(void)child;
	while (question && question->id != id)
		question = question->next;
	if (question) {
		if (record_get(record, "error"))
			error_set(&err, -EINVAL, "%s", record_get(record, "error"));
		answer(keys, question, err.code ? NULL : record, &err);
	}
	record_free(record);
}

static void start(struct keys *keys);

/* Drops the questions that can't be asked again. */
static void give_up(struct keys *keys)
{
	struct question *question, *next;
	struct error err;

	error_set(&err, -EAGAIN, "the keys process ended; try again");
	for (question = keys->first; question; question = next) {
		next = question->next;
		question->sent = false;
		if (question->once || question->tries >= TRIES) {
			answer(keys, question, NULL, &err);
			next = keys->first; /* the list may be another one now */
		}
	}
}

static void gone(struct child *child, const char *reason, void *user)
{
	struct keys *keys = user;

	(void)child;
	log_warning("the keys process is gone: %s", reason);
	keys->child = NULL;
	keys->ready = false;
	give_up(keys);
	if (keys == processes || keys->first)
		start(keys);
}

static void start(struct keys *keys)
{
	static const struct child_class class = { .kind = "keys",
		                                  .frame_limit = FRAME_MAX,
		                                  .ready = ready,
		                                  .received = received,
		                                  .gone = gone };

	if (!keys->child && !keys->store->stopping)
		keys->child = child_start(keys->store, &class, keys);
}

/* Where a question goes: slow ones to the generator with the least to do. */
static struct keys *keys_for(struct store *store, bool slow)
{
	struct keys *best = &processes[0];
	size_t least = SIZE_MAX;

	for (size_t i = 1; slow && i < PROCESSES; i++) {
		size_t length = 0;

		for (struct question *q = processes[i].first; q; q = q->next)
			length++;
		if (length < least)
			best = &processes[i];
		least = length < least ? length : least;
	}
	best->store = store;
	return best;
}

int secrets_ask(struct store *store, struct record *question, bool slow, const int *fds,
                size_t count, secrets_answer *answered, void *user)
{
	struct keys *keys = keys_for(store, slow);
	struct question *new = calloc(1, sizeof *new), **at = &keys->first;

	if (!new || record_failed(question)) {
		free(new);
		record_free(question);
		return -ENOMEM;
	}
	*new = (struct question){ .record = question,
		                  .answered = answered,
		                  .user = user,
		                  .id = ++last_id,
		                  .once = count > 0 };
	record_add_number(question, "id", new->id);
	for (size_t i = 0; i < count; i++) {
		new->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
		if (new->fds[i] < 0) {
			question_free(new);
			return -EMFILE;
		}
		new->fd_count++;
	}
	while (*at)
		at = &(*at)->next;
	*at = new;
	start(keys);
	send_questions(keys);
	return 0;
}

unsigned secrets_incarnation(const struct store *store)
{
	(void)store;
	return processes[0].incarnation;
}

/* The question that has waited longest has waited too long. */
static bool is_late(const struct keys *keys)
{
	uint64_t limit = keys == processes ? USE_SECONDS : MAKE_SECONDS;

	return keys->ready && keys->first && keys->first->sent &&
	       uv_now(keys->store->loop) - keys->first->asked > limit * 1000;
}

void secrets_tick(struct store *store)
{
	for (size_t i = 0; i < PROCESSES; i++)
		if (is_late(&processes[i])) {
			child_end(processes[i].child, true);
			gone(NULL, "it did not answer in time", &processes[i]);
		}
	for (size_t i = 1; i < PROCESSES; i++) {
		struct keys *keys = &processes[i];

		if (!keys->child || keys->first ||
		    store_now(store) - keys->idle_since < IDLE_SECONDS)
			continue;
		child_end(keys->child, false);
		keys->child = NULL;
		keys->ready = false;
	}
}

struct key_read {
	struct store *store;
	struct held held;
	char *text; /* what follows the key */
	size_t length, key_size, size;
	off_t offset;
};

static void key_opened(void *user, const struct record *record, const struct error *err)
{
	struct key_read *read = user;
	const struct field *pem = record ? record_find(record, "pem") : NULL;
	fuse_req_t req = session_resume(read->store->session, &read->held);
	size_t whole = read->key_size + read->length, from = (size_t)read->offset, length;
	char *bytes;

	if (!pem || pem->length != read->key_size) {
		log_error("a private key cannot be read: %s", err->code ? err->text : "its size");
		fuse_reply_err(req, EIO);
		goto out;
	}
	length = whole - from < read->size ? whole - from : read->size;
	bytes = malloc(whole);
	if (!bytes) {
		fuse_reply_err(req, ENOMEM);
		goto out;
	}
	memcpy(bytes, pem->value, read->key_size);
	if (read->length)
		memcpy(bytes + read->key_size, read->text, read->length);
	fuse_reply_buf(req, bytes + from, length);
	OPENSSL_cleanse(bytes, whole);
	free(bytes);
out:
	free(read->text);
	free(read);
}

/* "open" for a key of the store, or NULL. */
static struct record *open_question(struct store *store, int64_t key)
{
	struct record *question = record_new();
	struct key_pair pair = { 0 };

	if (!question || db_key_get(store->db, key, &pair) < 0) {
		record_free(question);
		return NULL;
	}
	record_add(question, "frame", "open");
	record_add_number(question, "owner", pair.object);
	record_add_bytes(question, "sealed", pair.sealed.data, pair.sealed.length);
	record_add_bytes(question, "public", pair.public.data, pair.public.length);
	key_pair_clear(&pair);
	return question;
}

int secrets_open(struct store *store, int64_t key, secrets_answer *answered, void *user)
{
	struct record *question = open_question(store, key);

	return question ? secrets_ask(store, question, false, NULL, 0, answered, user) : -ENOENT;
}

void secrets_read(struct store *store, fuse_req_t req, const struct content *content, size_t size,
                  off_t offset)
{
	struct record *question = open_question(store, content->key);
	struct key_read *read = calloc(1, sizeof *read);
	int r = -ENOMEM;

	if (question && read) {
		*read = (struct key_read){ .store = store,
			                   .length = content->length,
			                   .key_size = content->key_size,
			                   .size = size,
			                   .offset = offset };
		read->held = session_hold(store->session, req);
		read->text = content->length ? strdup(content->text) : NULL;
		r = secrets_ask(store, question, false, NULL, 0, key_opened, read);
		question = NULL;
	}
	if (r < 0) {
		record_free(question);
		if (read)
			free(read->text);
		free(read);
		fuse_reply_err(req, -r);
	}
}

struct import {
	struct store *store;
	int64_t object;
	bool dry;
	text_judged *judged;
	void *user;
};

static void imported(void *user, const struct record *record, const struct error *failure)
{
	struct import *import = user;
	struct error err = *failure;
	struct object object;
	int r = err.code;

	if (r == 0 && !import->dry) {
		r = store_begin(import->store);
		if (r == 0) {
			r = db_object_get(import->store->db, import->object, &object);
			if (r == 0)
				r = key_publish(import->store, &object, record, NULL);
			r = store_end(import->store, r);
		}
		if (r < 0)
			error_set(&err, r, "the key cannot be stored: %s", strerror(-r));
	}
	import->judged(import->user, r, &err);
	free(import);
}

int secrets_import(struct store *store, const struct object *object, const char *text,
                   size_t length, bool dry, text_judged *judged, void *user, struct error *err)
{
	struct record *question = record_new();
	struct import *import = calloc(1, sizeof *import);
	int r = -ENOMEM;

	if (question && import) {
		*import = (struct import){ .store = store,
			                   .object = object->id,
			                   .dry = dry,
			                   .judged = judged,
			                   .user = user };
		record_add(question, "frame", "import");
		record_add_number(question, "owner", object->id);
		record_add_bytes(question, "text", text, length);
		r = secrets_ask(store, question, false, NULL, 0, imported, import);
		question = NULL;
	}
	if (r < 0) {
		record_free(question);
		free(import);
		error_set(err, r, "out of memory");
	}
	return r;
}

static void fatal(struct store *store, const char *reason)
{
	struct record *record = record_new();

	if (!record)
		return;
	record_add(record, "frame", "fatal");
	record_add(record, "reason", reason);
	channel_send(store->supervisor, record, NULL, 0);
	record_free(record);
}

static void key_checked(void *user, const struct record *record, const struct error *err)
{
	struct store *store = user;
	const struct field *sealed = record ? record_find(record, "sealed") : NULL;
	int r;

	if (err->code) {
		fatal(store, err->text);
		return;
	}
	if (sealed) {
		r = store_begin(store);
		if (r == 0)
			r = store_end(store, db_meta_set(store->db, "store-key-check",
			                                 sealed->value, sealed->length));
		if (r < 0) {
			fatal(store, "the store cannot be written");
			return;
		}
	}
	store_serve(store);
}

int secrets_check(struct store *store)
{
	struct record *question = record_new();
	struct blob sealed = { 0 };
	int r;

	if (!question)
		return -ENOMEM;
	r = db_meta_get(store->db, "store-key-check", &sealed);
	record_add(question, "frame", r == 0 ? "open-check" : "seal-check");
	if (r == 0)
		record_add_bytes(question, "sealed", sealed.data, sealed.length);
	blob_clear(&sealed);
	return secrets_ask(store, question, false, NULL, 0, key_checked, store);
}
