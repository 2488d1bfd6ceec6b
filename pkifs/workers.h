/*
 * The enrollment workers: started on demand, kept from job to job, ended when idle for a minute.
 * Each has a signing socket to the keys process, on which the keys of its job are granted to it
 * while the job lasts.
 */
#ifndef PKIFS_WORKERS_H
#define PKIFS_WORKERS_H

#include "pkifs/store.h"

struct worker;

/* A key that the job may use: "new", "current" or "account", and its row. */
struct grant {
	const char *name;
	int64_t key;
};

struct worker_job {
	struct record *record;  /* the job's frame; the worker's own from worker_give on */
	struct grant grants[3]; /* key 0: none */
	int fds[FRAME_FDS];     /* duplicated */
	size_t fd_count;
	bool responds; /* it also sends `serving` */
	/* A frame for the job (the callee frees it): `checkpoint` (unless the job's number is 0) or
	 * `result`. After a result the worker is free again. NULL with REASON: the worker ended,
	 * sent what it must not, or did not answer in time; the job ended with it. */
	void (*received)(void *user, struct record *record, const char *reason);
	void *user;
};

/* How many jobs may run now, all in all. */
size_t workers_limit(const struct store *store);

/* Gives the job to a worker. NULL when there is no memory: the record is freed then. */
struct worker *worker_give(struct store *store, const struct worker_job *job);

/*
 * Tells the worker that its checkpoint is durable; REJECTED (may be NULL), why what it brought to
 * be judged would not be taken; NOTICE (may be empty), why its challenges cannot be served.
 */
void worker_go(struct worker *worker, long long job, const char *rejected, const char *notice);

/* Sends RECORD to a worker that has its job. */
void worker_tell(struct worker *worker, const struct record *record);

/* The job is no longer wanted: its worker is killed. Nothing is reported. */
void worker_abort(struct worker *worker);

/* Ends what has been idle for a minute. Once a second. */
void workers_tick(struct store *store);

#endif
