/*
 * Requests on their way: what is due, to which process, retried, resumed. A request's state and
 * its protocol's checkpoint are in the store, so that it goes on after a restart where it stood:
 *
 *   queued → running → (waiting until T → running)* → done | failed | rejected
 */
#ifndef PKIFS_JOBS_H
#define PKIFS_JOBS_H

#include "pkifs/secrets.h"
#include "pkifs/store.h"

/* Runs what is due, and takes up what was under way; again at each commit and each second. */
void jobs_run(struct store *store);

/* OBJECT's request ends here, inside a change: cancelled by its user. */
int jobs_cancel(struct store *store, const struct object *object, struct error *err);

/* OBJECT goes: its job is ended after the commit. */
int jobs_forget(struct store *store, int64_t object);

/* OBJECT has a new config, inside a change: a profile's own request that waits is tried now, and
 * the times of others follow it. */
int jobs_reconfigured(struct store *store, const struct object *object);

#endif
