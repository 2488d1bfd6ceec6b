/*
 * Certificate ids that renew by themselves (`auto-re-enrollment`): when, and what is asked. A
 * column of the store says when each is to be looked at next; it is judged by the wall clock at
 * each wake-up of the store, never by a timer. All but renewal_run is called inside a change.
 *
 * ```
 *  certificate in force, config changed ──► planned (AT) ── it is due ──► request `re-enroll`
 *                                               ▲                              │
 *                   ever later, at the end of the lifetime sooner ◄── it failed ┘
 * ```
 */
#ifndef PKIFS_RENEWAL_H
#define PKIFS_RENEWAL_H

#include "pkifs/store.h"

/* OBJECT, a profile as well, has another certificate or another config: it is planned afresh. */
int renewal_plan(struct store *store, int64_t object);
/* OBJECT may have something else to do; what failed before still counts. */
int renewal_plan_again(struct store *store, int64_t object);
/* PROFILE has another config: those that name it may renew in another way, or not. */
int renewal_reconfigured(struct store *store, int64_t profile);
/* PROFILE is trusted anew: what failed may go now. */
int renewal_trusted(struct store *store, int64_t profile);
/* The CA of OBJECT said when to renew its certificate, or did not. */
int renewal_suggested(struct store *store, int64_t object);
/* REQUEST ended in STATE. */
int renewal_ended(struct store *store, const struct request *request, enum request_state state);

/* Asks for what is due. */
void renewal_run(struct store *store);

/* The CA of PROFILE was asked: whether it answered. */
void renewal_asked(const struct store *store, int64_t profile, bool answered);

/*
 * Seconds until the next try after so many FAILURES (1 or more), of a certificate that has so many
 * seconds LEFT: INTERVAL, doubled each time up to a day, but a part of what is left at most; with
 * jitter.
 */
int64_t renewal_delay(int64_t failures, int64_t interval, int64_t left);
/* When VERSION must have been replaced: its end, or that of an issuer that ends before it. */
int64_t renewal_end(const struct version *version);
/* Whether a request of this ACTION renews. */
bool renewal_is(const char *action);

/* Adds to STATUS what OBJECT does by itself next, and what there is to warn of. */
int renewal_describe(struct store *store, const struct object *object, struct record *status);

#endif
