#include "pkifs/workers.h"

#include "common/log.h"
#include "common/resolver.h"
#include "pkifs/children.h"
#include "pkifs/secrets.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define IDLE_SECONDS 60
/* No job takes longer: each of its few exchanges has a limit of a minute (enroll/http.h). */
#ifndef JOB_SECONDS
#define JOB_SECONDS 900
#endif

struct worker {
	struct worker *next;
	struct store *store;
	struct child *child;
	long long channel;    /* its number at the keys process */
	unsigned incarnation; /* of the keys process that has its signing socket */
	uint64_t resolver;    /* the files that it can still read are those of then */
	unsigned steps;       /* answers of the keys process that are still to come */
	bool ready, busy, sent, doomed;
	bool failing; /* its job could not be handed over: ended by the next tick */
	struct worker_job job;
	long long number; /* of the job, 0: one that knows no checkpoint */
	uint64_t given;   /* uv_now */
	int64_t idle_since;
};

static struct worker *workers;
static long long last_channel;

size_t workers_limit(const struct store *store)
{
	return (size_t)store_setting(store, "workers");
}

static void clear_job(struct worker *worker)
{
	record_free(worker->job.record);
	for (size_t i = 0; i < worker->job.fd_count; i++)
		close(worker->job.fds[i]);
	worker->job = (struct worker_job){ 0 };
	worker->busy = worker->sent = false;
	worker->idle_since = store_now(worker->store);
}

static void worker_free(struct worker *worker)
{
	struct worker **at = &workers;

	while (*at != worker)
		at = &(*at)->next;
	*at = worker->next;
	clear_job(worker);
	free(worker);
}

/* WORKER is gone, or of no more use. Who waits for its job is told REASON (may be NULL: not). */
static void retire(struct worker *worker, const char *reason)
{
	struct worker_job job = worker->job;
	bool tell = worker->busy && reason;

	if (worker->steps) { /* answers are to come that name it */
		worker->doomed = true;
		worker->busy = false;
		worker->child = NULL;
	} else {
		worker_free(worker);
	}
	if (tell)
		job.received(job.user, NULL, reason);
}

static void keys_answered(void *user, const struct record *answer, const struct error *err);

static int ask_keys(struct worker *worker, struct record *question, const int *fds, size_t count)
{
	int r;

	record_add_number(question, "channel", worker->channel);
	r = secrets_ask(worker->store, question, false, fds, count, keys_answered, worker);
	if (r == 0)
		worker->steps++;
	return r;
}

static int ask_grant(struct worker *worker, const struct grant *grant)
{
	struct record *question = record_new();
	struct key_pair key;
	int r = question ? db_key_get(worker->store->db, grant->key, &key) : -ENOMEM;

	if (r < 0) {
		record_free(question);
		return r;
	}
	record_add(question, "frame", "grant");
	record_add(question, "key", grant->name);
	record_add_number(question, "owner", key.object);
	record_add_bytes(question, "sealed", key.sealed.data, key.sealed.length);
	record_add_bytes(question, "public", key.public.data, key.public.length);
	key_pair_clear(&key);
	return ask_keys(worker, question, NULL, 0);
}

/* Sends the job once the worker runs and its keys are granted. */
static void advance(struct worker *worker)
{
	if (!worker->busy || worker->sent || !worker->ready || worker->steps || worker->failing)
		return;
	worker->sent = true;
	if (child_send(worker->child, worker->job.record, worker->job.fds, worker->job.fd_count) <
	    0)
		worker->failing = true;
	record_free(worker->job.record);
	worker->job.record = NULL;
}

static void grant_all(struct worker *worker)
{
	for (size_t i = 0; i < COUNT(worker->job.grants); i++)
		if (worker->job.grants[i].key && ask_grant(worker, &worker->job.grants[i]) < 0)
			worker->failing = true;
	advance(worker);
}

static void keys_answered(void *user, const struct record *answer, const struct error *err)
{
	struct worker *worker = user;

	(void)answer;
	worker->steps--;
	if (worker->doomed) {
		if (!worker->steps)
			worker_free(worker);
		return;
	}
	if (err->code) {
		child_end(worker->child, true);
		worker->child = NULL;
		retire(worker, err->text);
		return;
	}
	advance(worker);
}

static void ready(struct child *child, int signing, void *user)
{
	struct worker *worker = user;
	struct record *question = record_new();
	int r = -ENOMEM;

	(void)child;
	worker->ready = true;
	worker->incarnation = secrets_incarnation(worker->store);
	if (question) {
		record_add(question, "frame", "channel");
		r = ask_keys(worker, question, &signing, 1);
	}
	close(signing);
	if (r < 0) {
		child_end(worker->child, true);
		worker->child = NULL;
		retire(worker, "out of memory");
		return;
	}
	if (worker->busy)
		grant_all(worker);
}

static void revoke_all(struct worker *worker)
{
	struct record *question = record_new();

	if (!question)
		return;
	record_add(question, "frame", "revoke");
	ask_keys(worker, question, NULL, 0);
}

/* Ends a worker that is of no more use; who waits for its job is told REASON. */
static void dismiss(struct worker *worker, const char *reason)
{
	log_warning("a worker is ended: %s", reason);
	child_end(worker->child, true);
	worker->child = NULL;
	retire(worker, reason);
}

/* The frames that a worker may send: about the job that it has, and nothing else. */
static bool is_expected(const struct worker *worker, const struct record *record)
{
	if (record_number(record, "job", -1) != worker->number)
		return false;
	return record_is(record, "frame", "result") ||
	       (worker->job.responds && record_is(record, "frame", "serving")) ||
	       (worker->number && record_is(record, "frame", "checkpoint"));
}

static void received(struct child *child, struct record *record, void *user)
{
	struct worker *worker = user;
	struct worker_job job = worker->job;

	(void)child;
	if (!worker->sent || !is_expected(worker, record)) {
		record_free(record);
		dismiss(worker, "the enrollment worker sent what it must not send");
		return;
	}
	if (record_is(record, "frame", "result")) {
		clear_job(worker);
		revoke_all(worker);
	}
	job.received(job.user, record, NULL);
}

static void gone(struct child *child, const char *reason, void *user)
{
	struct worker *worker = user;

	(void)child;
	if (worker->busy)
		log_warning("a worker is gone: %s", reason);
	retire(worker, worker->busy ? "the enrollment worker ended" : NULL);
}

static const struct child_class class = { .kind = "worker",
	                                  .frame_limit = 4u << 20,
	                                  .ready = ready,
	                                  .received = received,
	                                  .gone = gone };

static struct worker *find_idle(const struct store *store)
{
	uint64_t resolver = resolver_stamp();

	for (struct worker *worker = workers; worker; worker = worker->next)
		if (!worker->busy && !worker->doomed && !worker->failing &&
		    worker->resolver == resolver &&
		    (!worker->ready || worker->incarnation == secrets_incarnation(store)))
			return worker;
	return NULL;
}

static struct worker *worker_start(struct store *store)
{
	struct worker *worker = calloc(1, sizeof *worker);

	if (!worker)
		return NULL;
	*worker = (struct worker){ .next = workers, .store = store };
	worker->channel = ++last_channel;
	worker->resolver = resolver_stamp();
	workers = worker;
	worker->child = child_start(store, &class, worker);
	if (!worker->child) {
		worker_free(worker);
		return NULL;
	}
	return worker;
}

struct worker *worker_give(struct store *store, const struct worker_job *job)
{
	struct worker *worker = find_idle(store);

	if (!worker)
		worker = worker_start(store);
	if (!worker) {
		record_free(job->record);
		return NULL;
	}
	worker->job = *job;
	for (size_t i = 0; i < job->fd_count; i++)
		worker->job.fds[i] = fcntl(job->fds[i], F_DUPFD_CLOEXEC, 3);
	worker->number = record_number(job->record, "job", 0);
	worker->given = uv_now(store->loop);
	worker->busy = true;
	worker->sent = false;
	if (worker->ready)
		grant_all(worker);
	return worker;
}

void worker_tell(struct worker *worker, const struct record *record)
{
	if (child_send(worker->child, record, NULL, 0) < 0)
		worker->failing = true;
}

void worker_go(struct worker *worker, long long job, const char *rejected, const char *notice)
{
	struct record *record = record_new();

	if (!record)
		return;
	record_add(record, "frame", "go");
	record_add_number(record, "job", job);
	if (rejected)
		record_add(record, "rejected", rejected);
	if (*notice)
		record_add(record, "notice", notice);
	worker_tell(worker, record);
	record_free(record);
}

void worker_abort(struct worker *worker)
{
	child_end(worker->child, true);
	worker->child = NULL;
	retire(worker, NULL);
}

/* Ends the first worker whose job can't go on. */
static bool dismiss_one(struct store *store)
{
	for (struct worker *worker = workers; worker; worker = worker->next) {
		bool late = uv_now(store->loop) - worker->given > JOB_SECONDS * 1000ull;

		if (!worker->busy || worker->doomed || !(worker->failing || late))
			continue;
		dismiss(worker, late ? "the enrollment worker did not answer in time"
		                     : "the job cannot be handed to the enrollment worker");
		return true;
	}
	return false;
}

void workers_tick(struct store *store)
{
	uint64_t resolver = workers ? resolver_stamp() : 0;
	struct worker *next;

	while (dismiss_one(store)) { /* who is told may give jobs, and change the list */
	}
	for (struct worker *worker = workers; worker; worker = next) {
		bool stale = worker->ready && (worker->resolver != resolver ||
		                               worker->incarnation != secrets_incarnation(store));

		next = worker->next;
		if (worker->busy || worker->doomed || worker->steps ||
		    (!stale && store_now(store) - worker->idle_since < IDLE_SECONDS))
			continue;
		child_end(worker->child, false);
		worker->child = NULL;
		worker_free(worker);
	}
}
