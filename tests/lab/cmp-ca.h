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
	X(SENDER, "sender")                                                                        \
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
	X509 *ca, *root, *server; /* what issues, its anchor, and what signs messages */
	EVP_PKEY *ca_key, *server_key;
	STACK_OF(X509) * publish, *extra; /* caPubs and extraCerts of an answer; may be NULL */
	STACK_OF(X509) * told;            /* the CA's certificates, when asked; may be NULL */
	X509_CRL *crl;
	const char *secret;
	bool sign_only, implicit;
	bool tells_nothing, old_crls;
	const char *template; /* what requests are to have; NULL: whatever they want */
	int days;
	int polls;     /* "waiting" answers before the certificate */
	int64_t after; /* checkAfter of each */
	int refuse;    /* bit of PKIFailureInfo, or -1 */
	const char *refuse_text;
	int status;     /* of HTTP; 0: as usual */
	int lose, hold; /* body type whose first answer is lost, or held until `release` is there */
	int number;     /* type that `body` gives to answers; how many are in a `crowd` */
	bool once;      /* a transactionID serves for one request */
	const char *odd; /* what is as good as others, but spelled otherwise; or NULL */
	enum attack attack;
	BIO *kept; /* the first answer, to be replayed */
};

/* cmp-ca.c: the CRL as of now; the key in a request's template, the caller's. */
void sign_crl(struct lab_ca *ca);
EVP_PKEY *template_key(const OSSL_CRMF_CERTTEMPLATE *template);

/* cmp-ca-tell.c: the answer to a general message; 0: there is none. */
int tell(struct lab_ca *ca, const OSSL_CMP_ITAV *asked, STACK_OF(OSSL_CMP_ITAV) * *out);

/* Whether a request is as the CA's template has it. */
bool is_like_template(const struct lab_ca *ca, const OSSL_CRMF_CERTTEMPLATE *request);

/* What is wrong with a certificate before it is signed. */
void attack_certificate(const struct lab_ca *ca, X509 *certificate);

/* ANSWER (DER) as the attack leaves it; freed, and the new one given back. */
BIO *attack_answer(struct lab_ca *ca, const OSSL_CMP_MSG *message, BIO *answer);

/* cmp-ca-odd.c: ANSWER (DER) as the CA's way has it, or signed under the name of SENDER; freed. */
BIO *odd_answer(const struct lab_ca *ca, const OSSL_CMP_MSG *message, BIO *answer);
BIO *rename_sender(const struct lab_ca *ca, BIO *answer, const X509_NAME *sender);

#endif
