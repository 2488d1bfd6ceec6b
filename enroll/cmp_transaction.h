/*
 * A CMP transaction as a job has it: what cmp.c (its messages), cmp_transaction.c (what is stored
 * of it) and cmp_refusal.c (what it ends with where that is no certificate) share.
 */
#ifndef PKIFS_CMP_TRANSACTION_H
#define PKIFS_CMP_TRANSACTION_H

#include "enroll/cmp_client.h"
#include "enroll/cmp_told.h"

#define ID_LENGTH 16

/* Types of messages that OpenSSL has no public names for (RFC 4210 §5.1.2). */
enum { RR = 11, CERT_CONF = 24, POLL_REQ = 25, POLL_REP = 26 };
#define NO_MESSAGE (-1)

struct message {
	unsigned char *der;
	size_t length;
};

struct transaction {
	struct job *job;
	struct cmp_client client;
	/* what the resume-… fields hold */
	int type; /* OSSL_CMP_IR … */
	unsigned char id[ID_LENGTH];
	struct message answers[2]; /* to the request, and the last pollRep after it */
	int open;                  /* type of a message whose answer we do not have */
	bool anew;                 /* a second one, since the CA did not take up the first */
	struct record *kept;       /* what the CA told: resume-told…, resume-template */
	/* this job */
	int repeated;          /* what was open when it began */
	size_t given;          /* stored answers that were given back */
	int sent;              /* type of the last message that left */
	struct message last;   /* the answer to it, which OSSL_CMP has not judged yet */
	int code;              /* why there was no answer to give to OSSL_CMP, ... */
	struct error err;      /* ... in words */
	struct error rejected; /* why the store does not want the certificate */
};

/* --- cmp_transaction.c --- */

void cmp_message_clear(struct message *message);
void cmp_transaction_clear(struct transaction *t);

/* The resume-… fields, the caller's (record_free); NULL: no memory. */
struct record *cmp_resume_write(const struct transaction *t);

/* Takes up what an earlier job left. False: there is nothing that can be taken up by a request of
 * TYPE. */
bool cmp_resume_read(struct transaction *t, int type);

/* Takes up what the CA told, which stays true for a transaction that begins anew. 0, -ENOMEM. */
int cmp_keep_told(struct transaction *t);

/* What the CA is known to want, if anything. The caller clears *TEMPLATE in either case. */
int cmp_read_template(const struct transaction *t, struct cmp_template *template,
                      struct error *err);

/* OSSL_CMP goes on, so the last answer was good: it is a part of the transaction's state. */
void cmp_keep_last(struct transaction *t);

/* The transaction as it stands is durable before the next message leaves, or as the result leaves
 * it. */
int cmp_checkpoint(struct transaction *t, struct error *err);
void cmp_leave(struct transaction *t);

/* --- cmp.c --- */

/* The certificate goes into the result, or the CA knows why not. */
int cmp_take(struct transaction *t, struct error *err);

/* --- cmp_refusal.c --- */

/* What to make of OSSL_CMP's failure: a step's return (protocol.h). */
int cmp_failed(struct transaction *t, struct error *err);

#endif
