/*
 * The lab's CMP CA: what its service (cmp-ca.c) and its bad manners (cmp-ca-attack.c) share.
 */
#ifndef CMP_CA_H
#define CMP_CA_H

#include <openssl/cmp.h>
#include <stdbool.h>
#include <stdint.h>

/* What the CA can do wrong: the name for -a. */
#define ATTACKS(X)                                                                                 \
	X(NONE, "none")                                                                            \
	X(UNPROTECTED, "unprotected")                                                              \
	X(OTHER_SECRET, "other-secret")                                                            \
	X(NONCE, "nonce")                                                                          \
	X(TRANSACTION, "transaction")                                                              \
	X(REPLAY, "replay")                                                                        \
	X(BODY, "body")                                                                            \
	X(BODIES, "bodies")                                                                        \
	X(CROWD, "crowd")                                                                          \
	X(CUT, "cut")                                                                              \
	X(HTML, "html")                                                                            \
	X(CONFIRM_ERROR, "confirm-error")                                                          \
	X(OTHER_KEY, "other-key")                                                                  \
	X(OTHER_NAME, "other-name")                                                                \
	X(OTHER_SUBJECT, "other-subject")                                                          \
	X(CA_TRUE, "ca-true")                                                                      \
	X(GENM_GARBAGE, "genm-garbage")

enum attack {
#define X(name, text) ATTACK_##name,
	ATTACKS(X)
#undef X
};

struct lab_ca {
	X509 *ca, *server; /* what issues, and what signs messages */
	EVP_PKEY *ca_key, *server_key;
	STACK_OF(X509) * publish, *extra; /* caPubs and extraCerts of an answer; may be NULL */
	X509_CRL *crl;
	const char *secret;
	bool sign_only, implicit;
	int days;
	int polls;     /* "waiting" answers before the certificate */
	int64_t after; /* checkAfter of each */
	int refuse;    /* bit of PKIFailureInfo, or -1 */
	const char *refuse_text;
	int lose, hold; /* body type whose first answer is lost, or held until `release` is there */
	int number;     /* type that `body` gives to answers; how many are in a `crowd` */
	bool once;      /* a transactionID serves for one request */
	enum attack attack;
	BIO *kept; /* the first answer, to be replayed */
};

/* What is wrong with a certificate before it is signed. */
void attack_certificate(const struct lab_ca *ca, X509 *certificate);

/* ANSWER (DER) as the attack leaves it; freed, and the new one given back. */
BIO *attack_answer(struct lab_ca *ca, const OSSL_CMP_MSG *message, BIO *answer);

#endif
