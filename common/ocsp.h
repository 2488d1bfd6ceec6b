/*
 * OCSP (RFC 6960, RFC 5019): what is asked of a responder, and what its answer is worth. The worker
 * asks with it which responder to believe, and the store decides with it. No network.
 */
#ifndef PKIFS_OCSP_H
#define PKIFS_OCSP_H

#include "common/error.h"

#include <openssl/ocsp.h>
#include <stdint.h>

#define OCSP_ANSWER_MAX (64u << 10)
#define OCSP_NONCE_SIZE 32 /* RFC 8954 §2.1 */

/* Of which certificate, when (Unix seconds), and how strictly. */
struct ocsp_question {
	X509 *certificate, *issuer;
	const unsigned char *nonce; /* OCSP_NONCE_SIZE bytes; NULL: none is sent or looked for */
	int64_t now;
	bool clock_trusted; /* false: no time is judged */
	bool allow_legacy;  /* SHA-1 signatures, weak keys */
};

struct ocsp_answer {
	int status;                 /* V_OCSP_CERTSTATUS_GOOD or V_OCSP_CERTSTATUS_REVOKED */
	int reason;                 /* CRLReason, or -1 */
	int64_t revoked_at;         /* Unix seconds */
	int64_t this_update, until; /* until when it counts */
};

/* DER of the request; the caller frees *DER (OPENSSL_free). 0, -ENOMEM. */
int ocsp_compose(const struct ocsp_question *question, unsigned char **der, size_t *length,
                 struct error *err);

/*
 * Judges the answer in DER (not trusted): signed by the issuer, or by a responder to whom the
 * issuer's own certificate says so (RFC 6960 §4.2.2.2); for this certificate; in time; with the
 * nonce, if there is one. 0 with ANSWER filled; -EBADMSG with the reason in words for anything that
 * is no such answer, `unknown` as well; -EAGAIN where the responder says to come again.
 */
int ocsp_judge(const struct ocsp_question *question, const void *der, size_t length,
               struct ocsp_answer *answer, struct error *err);

#endif
