/*
 * The lab's SCEP CA: what its message part (scep-ca.c) and its bad manners (scep-ca-attack.c)
 * share.
 */
#ifndef SCEP_CA_H
#define SCEP_CA_H

#include <openssl/cms.h>
#include <openssl/x509.h>
#include <stdbool.h>

/* What the CA can do wrong: the name for -a, and the part of the answer it spoils. */
#define ATTACKS(X)                                                                                 \
	X(NONE, "none")                                                                            \
	X(UNSIGNED, "unsigned")                                                                    \
	X(ROGUE_SIGNER, "rogue-signer")                                                            \
	X(TWO_SIGNERS, "two-signers")                                                              \
	X(MD5, "md5")                                                                              \
	X(UNKNOWN_DIGEST, "unknown-digest")                                                        \
	X(NONCE, "nonce")                                                                          \
	X(TRANSACTION, "transaction")                                                              \
	X(NO_NONCE, "no-nonce")                                                                    \
	X(REPLAY, "replay")                                                                        \
	X(EMPTY, "empty")                                                                          \
	X(DETACHED, "detached")                                                                    \
	X(TRAILING, "trailing")                                                                    \
	X(HTML, "html")                                                                            \
	X(WRONG_KEY, "wrong-key")                                                                  \
	X(WRONG_RECIPIENT, "wrong-recipient")                                                      \
	X(TWO_RECIPIENTS, "two-recipients")                                                        \
	X(STRANGER_SECOND, "stranger-second")                                                      \
	X(AUTH_ENVELOPED, "auth-enveloped")                                                        \
	X(PASSWORD, "password")                                                                    \
	X(KEY_AGREE, "key-agree")                                                                  \
	X(EXTRA, "extra")                                                                          \
	X(OTHER_ROOT, "other-root")                                                                \
	X(CRL_ONLY, "crl-only")                                                                    \
	X(OTHER_KEY, "other-key")                                                                  \
	X(OTHER_SUBJECT, "other-subject")                                                          \
	X(OTHER_NAME, "other-name")                                                                \
	X(CA_TRUE, "ca-true")                                                                      \
	X(NEXT_CA, "next-ca")                                                                      \
	X(NEXT_GARBAGE, "next-garbage")                                                            \
	X(IMPOSTOR, "impostor")

enum attack {
#define X(name, text) ATTACK_##name,
	ATTACKS(X)
#undef X
};

struct lab_ca {
	X509 *ca, *sign, *encrypt; /* SIGN and ENCRYPT are CA's where there is no RA */
	X509 *next, *former;       /* the CA certificates after and before CA; may be NULL */
	EVP_PKEY *ca_key, *sign_key, *encrypt_key;
	const char *folder;
	const char *caps;
	const char *challenge;
	const char *once; /* file of challenges that serve one transaction each */
	const EVP_CIPHER *cipher;
	const EVP_MD *digest;
	long lifetime;   /* of what it issues, in seconds */
	int polls;       /* PENDING answers before the certificate */
	int retry_after; /* seconds, with PENDING */
	int refuse;      /* failInfo, or -1 */
	const char *refuse_text;
	int drop;    /* answers to lose */
	bool forget; /* no memory of transactions: CertPoll is refused, as by scepserver */
	enum attack attack;
	BIO *kept;      /* the first SUCCESS, to be replayed */
	X509 *stranger; /* the root that comes along with what it signed */
};

/* What is wrong with a certificate before it is signed. */
void attack_certificate(const struct lab_ca *ca, X509 *certificate);

/* Signs CERTIFICATE, or has a root sign it that nobody knows. */
void sign_certificate(struct lab_ca *ca, X509 *certificate);

/* The certs-only content, with what else the attack puts into it; NULL without memory. */
BIO *certs_only(const struct lab_ca *ca, X509 *certificate, X509_CRL *crl);

/* CERTIFICATE with another public key in it; the private part in *KEY (may be NULL). */
X509 *impostor(X509 *certificate, EVP_PKEY **key);

/* CONTENT in an envelope for TO, or the attack's idea of one. */
BIO *envelope(const struct lab_ca *ca, X509 *to, BIO *content);

/* SEALED in a SignedData that nobody signed. */
BIO *unsigned_answer(BIO *sealed);

/* Makes the digest of ANSWER one that nobody knows. */
void unknown_digest(BIO *answer);

/* A certificate that CA signed for a new key of TYPE ("RSA" 2048, "EC" P-256); *KEY is made. */
X509 *make_certificate(const struct lab_ca *ca, const char *name, const char *type, EVP_PKEY **key);

#endif
