/*
 * The FUSE session over a descriptor and slots that outlive the process (pkifs/shared.h): reads
 * requests, runs them through libfuse's low-level interface, and answers them when what they
 * changed is durable.
 *
 * A turn: everything committed; requests that only read are run at once; then those that may
 * change something, in one transaction. An answer given while a transaction is open waits for
 * its commit, and becomes the commit's error where that fails.
 */
#ifndef PKIFS_SESSION_H
#define PKIFS_SESSION_H

#include "common/error.h"
#include "pkifs/shared.h"

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>
#include <uv.h>

struct session;

/* A request that is answered later. */
struct held {
	fuse_req_t req; /* NULL: none */
	int slot;
};

struct session_hooks {
	void (*before)(void *user); /* commits what is open, before requests are run */
	void (*after)(void *user);  /* commits what the requests changed */
	bool (*in_transaction)(void *user);
	void (*opened_in_vain)(uint64_t unique, void *user); /* nobody got that open's answer */
	void (*ended)(void *user);                           /* the mount is gone */
};

/* Makes the session; nothing is read before session_start. The descriptor FD stays open. */
int session_open(uv_loop_t *loop, int fd, struct shared *shared,
                 const struct fuse_lowlevel_ops *ops, const struct session_hooks *hooks, void *user,
                 struct session **session, struct error *err);

/* Replays INIT and the requests that a predecessor left unanswered, then serves. */
int session_start(struct session *session);

/* Inside a handler: keep the request for later. */
struct held session_hold(struct session *session, fuse_req_t req);

/* Before the fuse_reply_* for a held request: its fuse_req_t. HELD is empty afterwards. */
fuse_req_t session_resume(struct session *session, struct held *held);

/* The number and the raw bytes of the request that runs now. */
uint64_t session_unique(const struct session *session);
const struct fuse_in_header *session_request(const struct session *session);

/* True while the requests that a predecessor left are run again. */
bool session_replays(const struct session *session);

/* Sends the answers that waited, as they are (CODE 0) or each as the error CODE. */
void session_answers(struct session *session, int code);

/* Wakes poll(2) on the file whose kernel handle is POLL. */
void session_wake(struct session *session, uint64_t poll);

/* Stops reading; what is unanswered stays in its slot. */
void session_stop(struct session *session);

#endif
