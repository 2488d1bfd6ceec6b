/*
 * What workers are given and what they bring: a job's frame out of a request, and its result into
 * the store (docs/architecture.md, "Store → worker").
 */
#ifndef PKIFS_WORK_H
#define PKIFS_WORK_H

#include "pkifs/crl.h"
#include "pkifs/object.h"
#include "pkifs/standing.h"
#include "pkifs/workers.h"

/* The worker's word for the request's action. */
const char *work_action(const struct standing *standing);

/* The frame of the job for a request with the key in row KEY, and a renewal's second grant. */
int work_compose(struct store *store, const struct standing *standing, int64_t key,
                 struct worker_job *work);

/* Whether the key in ROW is of TYPE ("rsa", "ed25519" …). */
bool key_is(struct store *store, int64_t row, const char *type);

/* Adds the DER of each certificate in PEM as KEY. */
int work_add_der(struct record *record, const char *key, const struct blob *pem);

/* Adds where PROFILE with SETTINGS is asked, and whom it trusts. */
int work_add_profile(struct store *store, const struct object *profile,
                     const struct record *settings, struct record *record);

/* Adds the CA that authenticates the https server of a profile with SETTINGS. */
int work_add_tls_ca(struct store *store, const struct record *settings, struct record *record);

/*
 * What a worker brought, into the store, inside a change. CRL is not NULL where it was asked for
 * one. -EINVAL with ERR: it is not what was asked for.
 */
int work_take(struct store *store, const struct standing *standing, int64_t key,
              struct crl_files *crl, const struct record *result, struct error *err);

/*
 * What a result of whatever outcome says of the next CA certificate of the profile that was asked
 * (rollover.h). STANDING's profile is then as it is now.
 */
int work_take_next(struct store *store, struct standing *standing, const struct record *result);

/*
 * Whether that would be taken, for a worker that tells the CA: 0, also where RECORD has nothing to
 * be judged; REJECTED is filled where it would not. Nothing changes.
 */
int work_judge(struct store *store, const struct standing *standing, int64_t key,
               const struct record *record, struct error *rejected);

#endif
