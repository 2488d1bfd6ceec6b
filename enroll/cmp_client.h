/*
 * A CMP context of OpenSSL's as a job wants it: whom it asks, how its messages are protected,
 * whose answers it believes. What a transaction is made of stands in cmp.c.
 */
#ifndef PKIFS_CMP_CLIENT_H
#define PKIFS_CMP_CLIENT_H

#include "enroll/protocol.h"

#include <openssl/cmp.h>

struct cmp_client {
	struct job *job;
	OSSL_CMP_CTX *context;
	X509 *current;              /* the certificate in force; NULL: none to be renewed */
	X509 *signer;               /* whose key protects our messages; NULL: the secret does */
	const struct field *secret; /* NULL: none */
	X509_NAME *server;          /* `ca-dn`: whom to address, and whose signature is good */
	size_t limit;               /* bytes of an answer; 0: as usual */
	long seconds;               /* for it; 0: as usual */
};

/* CLIENT is cleared by the caller in either case. 0, -EINVAL, -ENOMEM. */
int cmp_client_open(struct cmp_client *client, struct job *job, struct error *err);
void cmp_client_clear(struct cmp_client *client);

/*
 * The certificate asked for: the job's names and new key, for a message of TYPE (OSSL_CMP_IR …),
 * with the extensions that the CA wants in it (may be NULL).
 */
int cmp_client_template(struct cmp_client *client, int type, const X509_EXTENSIONS *wanted,
                        struct error *err);

/*
 * One message and its answer: 0 with *GOT, the caller's, whatever it says and whoever says it.
 * ANSWER, which has its bytes, is the caller's in either case (http_answer_clear). Each has a
 * connection of its own: what is sent twice is sent by us.
 */
int cmp_client_send(struct cmp_client *client, const OSSL_CMP_MSG *message,
                    struct http_answer *answer, OSSL_CMP_MSG **got, struct error *err);

/* --- cmp_genm.c: questions, proven as the job's other messages are --- */

/* Steps of protocol.h. */
int cmp_next_ca(struct job *job, struct error *err);
int cmp_crl(struct job *job, struct error *err);

/* Adds the CA's certificates (`resume-told`, DER, repeats) and what proves them
 * (`resume-told-by` = `secret`, `signature`): a CA that does not know the question has none. */
void cmp_ca_certificates(struct job *job, struct record *resume);

/* Adds what the CA wants in requests (`resume-template`: cmp_told_template), where it says so. */
void cmp_template_ask(struct job *job, struct record *resume);

#endif
