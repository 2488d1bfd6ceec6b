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
};

/* CLIENT is cleared by the caller in either case. 0, -EINVAL, -ENOMEM. */
int cmp_client_open(struct cmp_client *client, struct job *job, struct error *err);
void cmp_client_clear(struct cmp_client *client);

/*
 * The certificate asked for: the job's names and new key, for a message of TYPE (OSSL_CMP_IR …).
 */
int cmp_client_template(struct cmp_client *client, int type, struct error *err);

/* One message and its answer, whatever that is. ANSWER is the caller's (http_answer_clear). */
int cmp_client_send(struct cmp_client *client, const OSSL_CMP_MSG *message, bool own_connection,
                    struct http_answer *answer, struct error *err);

/*
 * cmp_next.c. Asks the CA of an enrollment which root certificate follows the one in `ca`, proven
 * as the enrollment is: cmp_next_read of the answer. No news and no answer are no error.
 */
void cmp_next_ask(struct job *job);

#endif
