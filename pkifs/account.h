/*
 * ACME accounts: one of each profile. Its key is the profile's key pair (of the edition), sealed
 * like all others, and its next one the edition's next; its URL and what the CA's terms are stand
 * in the store's named values.
 */
#ifndef PKIFS_ACCOUNT_H
#define PKIFS_ACCOUNT_H

#include "pkifs/standing.h"
#include "pkifs/workers.h"

/* Whether the request is made in the name of its profile's account. */
bool account_is_used(const struct standing *standing);

/*
 * Has the account's key made where one is needed and none is there, or the one that follows it. 0:
 * nothing to wait for; 1: READY is called when it is durable, or with the REASON why there is none;
 * or a negative errno.
 */
typedef void account_ready_cb(void *user, const char *reason);
int account_prepare(struct store *store, const struct standing *standing, account_ready_cb *ready,
                    void *user);

/* The account has the key that was made for `account-rollover`. Inside a change. */
int account_roll(struct store *store, const struct object *profile);

/*
 * Whether the account has, or may have, another key than that in row KEY (0: none was used) by now,
 * because of an `account-rollover` that is under way, or was meanwhile. *AFTER: seconds until a
 * request that was refused to KEY is worth another try.
 */
bool account_has_changed(struct store *store, const struct standing *standing, int64_t key,
                         long long *after);

/* Adds to a job what it needs to know of the account, and the grant. */
int account_compose(struct store *store, const struct standing *standing, struct worker_job *work);

/* Keeps what RESULT says of the account. Inside a change. */
int account_take(struct store *store, const struct standing *standing, const struct record *result);

/* Lines for the profile's `status`. */
void account_status(struct store *store, const struct object *profile, struct record *status);

/* Whether the profile has one that a CA knows. */
bool account_is_known(struct store *store, const struct object *profile);

/* The account is no more, nor its key; the profile is removed. Inside a change. */
int account_end(struct store *store, const struct object *profile);
int account_forget(struct store *store, const struct object *profile);

#endif
