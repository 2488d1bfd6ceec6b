/*
 * SCEP with one CA: its settings, its plain questions, one message and its answer. What a
 * transaction is made of stands in scep.c.
 */
#ifndef PKIFS_SCEP_CLIENT_H
#define PKIFS_SCEP_CLIENT_H

#include "enroll/protocol.h"
#include "enroll/scep_message.h"

/* The CA as the job describes it. */
struct authority {
	const char *url;
	X509 *ca;
	STACK_OF(X509) * ras, *signers;
	X509 *recipient; /* CA or one of RAS */
	unsigned capabilities;
	struct scep_algorithms algorithms;
};

/*
 * Reads the job's `ca`, `ra`, `capabilities`, `digest`, `allow-legacy`: all is settled before a
 * message is made. The caller clears *AUTHORITY in either case; SETTINGS must outlive it. 0,
 * -EINVAL where SCEP with this CA is impossible or below what is allowed, -ENOMEM.
 */
int authority_read(const struct record *settings, struct authority *authority, struct error *err);
void authority_clear(struct authority *authority);

/*
 * A CA that rolled over may go on for a while with the certificate it had before, which is trusted
 * till it ends: AUTHORITY becomes that one where GetCACert says so. What else is said there counts
 * for nothing. 0, or as authority_read.
 */
int authority_follow(struct job *job, struct authority *authority, struct error *err);

/* What came of a message, for the next step to choose. */
enum reply {
	REPLY_LOST,    /* nothing, or no whole answer, came back */
	REPLY_UNSENT,  /* there was never a connection */
	REPLY_INVALID, /* something came back that is no answer to it */
	REPLY_ERROR,   /* an HTTP status says that the server cannot do this */
	REPLY_VALID,
};

/*
 * Sends MESSAGE (by POST where the CA offers it, else GET) and reads its answer, which the
 * caller clears. *CODE is 0 for REPLY_VALID, else a negative errno, with ERR filled.
 */
enum reply scep_exchange(struct job *job, const struct authority *authority,
                         const struct scep_expectation *expectation, const unsigned char *message,
                         size_t length, struct scep_answer *answer, int *code, struct error *err);

/* Opens the envelope of a SUCCESS; old algorithms become a `note`. The caller owns *CONTENT
 * (OPENSSL_free). */
int scep_open_answer(struct job *job, const struct scep_answer *answer, X509 *signer, EVP_PKEY *key,
                     unsigned char **content, size_t *length, struct error *err);

/* -EACCES, with the CA's failInfo as the reason why WHAT is refused. */
int scep_refused(const struct scep_answer *answer, const char *what, struct error *err);

/* GetCACaps and GetCACert: the action `ca-certificate`. */
int scep_ca_certificate(struct job *job, struct error *err);

/* GetNextCACert (§4.7): the action `next-ca`. */
int scep_next_ca(struct job *job, struct error *err);

#endif
