/*
 * What a protocol is to the worker: a row of functions. A new protocol is one file and one row
 * in protocols[] (main.c).
 */
#ifndef PKIFS_PROTOCOL_H
#define PKIFS_PROTOCOL_H

#include "common/frame.h"
#include "enroll/http.h"
#include "enroll/signer.h"

#include <openssl/types.h>

/* What lives as long as the worker. */
struct worker {
	int store; /* the socket */
	struct signer *signer;
	struct http *http;
	OSSL_LIB_CTX *legacy; /* also reads what the default context no longer does */
};

/* One job: what was asked, what came with it, what is to be said of it. */
struct job {
	struct worker *worker;
	const struct record *settings;
	int fds[FRAME_FDS];    /* -1 where there is none */
	struct record *result; /* what the action yields; `outcome` and `reason` are main.c's */
	char notice[256];      /* what the store said with the last `go`; empty: nothing */
};

/* What a step returns besides a negative errno. */
#define JOB_DONE    0
#define JOB_WAITING 1 /* the CA has not decided: come again */

/*
 * Steps return JOB_DONE, JOB_WAITING, or a negative errno with ERR filled: -EACCES (the CA
 * refuses) and -EINVAL (it cannot be asked like this) are final; all others are retried.
 */
struct protocol {
	const char *name;
	/* What can be said of a job before anything is done for it: 0 or -EINVAL. */
	int (*check)(const struct record *settings, struct error *err);
	int (*ca_certificate)(struct job *job, struct error *err);
	int (*enroll)(struct job *job, struct error *err);
	/* the CA certificate that follows (docs/architecture.md, `next-ca`); NULL: no way */
	int (*next_ca)(struct job *job, struct error *err);
	int (*crl)(struct job *job, struct error *err);    /* NULL: the protocol has no way */
	int (*revoke)(struct job *job, struct error *err); /* NULL: the protocol has no way */
	/* `account-register`, `account-rollover`, `account-delete`; NULL: there are no accounts */
	int (*account)(struct job *job, struct error *err);
};

extern const struct protocol scep_protocol, cmp_protocol, acme_protocol, est_protocol;

/*
 * Stores the resume-… fields of RESUME, which replace all earlier ones, and waits until they
 * are durable: only then may what they describe leave the machine. 0 or a negative errno.
 */
int job_checkpoint(struct job *job, const struct record *resume, struct error *err);

/*
 * The same, and asks the store what it thinks of the certificates in JUDGED: 0 where it would take
 * them, 1 where it would not, with its reason in WHY; else a negative errno with ERR filled.
 */
int job_judge(struct job *job, const struct record *resume, const struct record *judged,
              struct error *why, struct error *err);

/* The key that a certificate is asked for, and that of CERTIFICATE ("current"); the caller's. */
EVP_PKEY *job_new_key(const struct job *job, struct error *err);
EVP_PKEY *job_key_of(const struct job *job, const X509 *certificate, struct error *err);

/* The certificate in FIELD, the caller's; NULL with ERR filled, where WHAT names it. */
X509 *field_certificate(const struct field *field, const char *what, struct error *err);

/* Notes in the result what an HTTP exchange says to the retries: Retry-After. */
void job_note_answer(struct job *job, const struct http_answer *answer);

#endif
