/*
 * What OCSP responders say of certificates: asked by workers, judged here, kept in the store until
 * it no longer counts.
 *
 * ```
 *  ocsp_want ──► row: ASK ──► job `ocsp` ──► judged ──► row: answer, LATER ──► its id is looked at
 *                               (no answer: ASK again, ever later)
 * ```
 */
#ifndef PKIFS_STORE_OCSP_H
#define PKIFS_STORE_OCSP_H

#include "pkifs/path.h"
#include "pkifs/sources.h"

/*
 * What is known of CERTIFICATE, for path_sources: good or revoked as long as the answer
 * counts (revoked: until there is another), else unknown with the reason.
 */
void ocsp_verdict(const struct sources *source, X509 *certificate, struct path_revocation *verdict);

/*
 * CERTIFICATE of ISSUER has a good path, so its responders may be asked (no others ever are),
 * unless what they said will do. For an own certificate, OBJECT is looked at when there is an
 * answer; 0: nobody's. Inside a change. *AGAIN: when to come again; *GOOD (may be NULL, the caller
 * clears it): the answer in DER, where it counts and says "good". 0; -ENOENT: no responder is
 * known.
 */
int ocsp_want(const struct sources *source, int64_t object, X509 *certificate, X509 *issuer,
              int64_t *again, struct blob *good);

/* Asks what is to be asked. */
void ocsp_run(struct store *store);

#endif
