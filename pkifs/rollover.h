/*
 * A CA certificate that nears its end, and the one that follows it. The next one is kept beside
 * the current one, and takes over when it begins to be valid (RFC 8894 §4.7.1, RFC 4210 §4.4): by
 * itself where the current one vouches for it, else after `confirm`. What went before stays an
 * anchor until it ends, or no certificate in force has it in its chain.
 *
 * ```
 *  result with `next` ──┬─ the current CA signed it ──► next ── it is valid ──► certificate
 *                       └─ nobody knows ──► waits ── `confirm` ──┘       the old one ──► former
 * ```
 * All of it is called inside a change.
 */
#ifndef PKIFS_ROLLOVER_H
#define PKIFS_ROLLOVER_H

#include "pkifs/store.h"

#include <openssl/x509.h>

/* What `trusted-by` says of one that the CA certificate before it vouched for. */
#define ROLLOVER_BY_CA "the CA certificate before it"

/* When the profile OBJECT has something to do, into ACTION (of which `failures` is set). */
int rollover_plan(struct store *store, const struct object *object, struct next_action *action);
/* That time has come: an event, a question to the CA, the take-over. */
int rollover_go(struct store *store, const struct object *object);

/*
 * What a worker's RESULT says of the CA certificate that follows the one of PROFILE:
 *  - `next` (repeats, DER): the next CA certificate and what came with it, in any order: RAs, its
 *    issuers, NewWithOld, OldWithNew; what the profile has already is no news;
 *  - `next-announced` = `yes`: the CA says that this is the next one. Without it (what is
 *    published for all, as EST's /cacerts) only a new root is one;
 *  - `next-answer`: all of an answer that the CA signed (rollover_answer_vouches).
 * 0; -ENOENT: nothing is new; -EINVAL with ERR filled: what came can be no CA certificate.
 */
int rollover_take(struct store *store, const struct object *profile, const struct record *result,
                  struct error *err);

/*
 * The same of a protocol that says nothing of its CA (ACME): what stands above the certificate in
 * RESULT follows where none of it leads to what PROFILE has.
 */
int rollover_take_chain(struct store *store, const struct object *profile,
                        const struct record *result, struct error *err);

/* Whether ANSWER, to GetNextCACert, is CA's own, and NEXT in it; a signature with SHA-1 counts
 * where LEGACY. */
bool rollover_answer_vouches(const struct field *answer, X509 *ca, const X509 *next, bool legacy);

/* A next CA certificate waits for `confirm`; or it was answered with `no`. */
bool rollover_waits(const struct edition *edition);
bool rollover_is_refused(const struct edition *edition);
/* The answer: it may take over (or, where NO, never will). */
int rollover_confirm(struct store *store, const struct object *profile, bool no);

/* Adds to STATUS what follows and what went before, and a warning while CA is near its end. */
void rollover_describe(const struct store *store, const struct edition *edition, const X509 *ca,
                       struct record *status);

#endif
