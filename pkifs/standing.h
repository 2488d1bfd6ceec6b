/*
 * Where a request stands, and how it goes on. Everything that changes it is called inside a
 * change (store_begin).
 */
#ifndef PKIFS_STANDING_H
#define PKIFS_STANDING_H

#include "pkifs/store.h"

/* No next try is further away than these seconds, whatever a CA says. */
#define STANDING_LONGEST 86400

/* All that the steps of a job need to know. */
struct standing {
	struct object object, profile; /* a CA profile's request is its own profile's */
	struct request request;
	struct record *config, *settings, *resume; /* config and settings with defaults */
	struct edition edition;
};

/* Reads the standing of OBJECT's request. 0: the caller clears it. */
int standing_get(struct store *store, int64_t object, struct standing *standing);
void standing_clear(struct standing *standing);

/* No request waits longer than that for its next try, in seconds. */
#define STANDING_LATEST 86400

/* Seconds until the next try: what the profile says, with a tenth of jitter; of a renewal more and
 * more, as long as its certificate has time. */
int64_t standing_delay(struct store *store, const struct standing *standing);

/* An event NAME with the request's action and error. */
int standing_event(struct store *store, const struct standing *standing, const char *name);

/* The request is in STATE from now on; ERROR (may be NULL) becomes last-error. */
int standing_set(struct store *store, struct standing *standing, enum request_state state,
                 const char *error);
/* The same for its end, with an event. */
int standing_finish(struct store *store, struct standing *standing, enum request_state state,
                    const char *error);

/* Not now: again after SECONDS (negative: as the profile says), or never where that was the last.
 * PENDING: the CA has not decided yet. */
int standing_later(struct store *store, struct standing *standing, bool pending, const char *reason,
                   long long seconds);

/* The protocol's checkpoint (`resume-…` fields) out of RECORD, and the row of the KEY that it is
 * for, into the request. */
int standing_checkpoint(struct standing *standing, const struct record *record, int64_t key);

#endif
