/*
 * SCEP messages (RFC 8894 §3): pkiMessages made and read, capabilities, certs-only content.
 * Nothing here knows of sockets or jobs; what comes in is not trusted.
 */
#ifndef PKIFS_SCEP_MESSAGE_H
#define PKIFS_SCEP_MESSAGE_H

#include "common/error.h"

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdint.h>

#define SCEP_NONCE_LENGTH    16
#define SCEP_TRANSACTION_MAX 64

enum scep_type { /* §3.2.1.2 */
	         SCEP_CERT_REP = 3,
	         SCEP_RENEWAL_REQ = 17,
	         SCEP_PKCS_REQ = 19,
	         SCEP_CERT_POLL = 20,
	         SCEP_GET_CRL = 22,
};

enum scep_status { SCEP_SUCCESS = 0, SCEP_FAILURE = 2, SCEP_PENDING = 3 }; /* §3.2.1.3 */

/* Capabilities, §3.5.2: one bit for each word that we know. */
enum scep_capability {
	SCEP_AES = 1 << 0,
	SCEP_DES3 = 1 << 1,
	SCEP_DES = 1 << 2,
	SCEP_SHA1 = 1 << 3,
	SCEP_SHA256 = 1 << 4,
	SCEP_SHA384 = 1 << 5,
	SCEP_SHA512 = 1 << 6,
	SCEP_MD5 = 1 << 7,
	SCEP_POST = 1 << 8,
	SCEP_RENEWAL = 1 << 9,
	SCEP_NEXT_CA = 1 << 10,
};

/* The bits of the words in TEXT (LENGTH bytes, any white space between them, any case);
 * SCEPStandard is AES, SHA-256 and POST. */
unsigned scep_capabilities(const char *text, size_t length);

/* How requests are protected. */
struct scep_algorithms {
	const EVP_CIPHER *cipher;
	const EVP_MD *digest;
};

/*
 * Chooses from CAPABILITIES: AES-128 and the digest WANTED ("sha256" …) or SHA-256; a CA that
 * names no algorithm is taken to know these. Less, down to 3DES and SHA-1, only where LEGACY;
 * DES and MD5 never. 0, or -EINVAL with a sentence of what the CA offers.
 */
int scep_choose(unsigned capabilities, const char *wanted, bool legacy,
                struct scep_algorithms *algorithms, struct error *err);

/* A message to be made; nothing in it changes hands. */
struct scep_message {
	enum scep_type type;
	const char *transaction_id;
	const unsigned char *nonce; /* SCEP_NONCE_LENGTH bytes */
	X509 *signer;
	EVP_PKEY *key;   /* SIGNER's */
	X509 *recipient; /* the CA or an RA, with an RSA key */
	struct scep_algorithms algorithms;
	const unsigned char *content; /* CSR, IssuerAndSubject, IssuerAndSerialNumber */
	size_t length;
};

/* The caller owns *DER (OPENSSL_free). 0 or a negative errno. */
int scep_message_make(const struct scep_message *message, unsigned char **der, size_t *length,
                      struct error *err);

/* What an answer must be. */
struct scep_expectation {
	const char *transaction_id;
	const unsigned char *nonce; /* that of the message it answers */
	STACK_OF(X509) * signers;   /* the confirmed CA and its RAs: nobody else may sign */
	OSSL_LIB_CTX *context;      /* for reading: with the legacy provider */
};

struct scep_answer {
	enum scep_status status;
	int fail;                /* failInfo, -1: none given */
	char fail_text[128];     /* failInfoText (§3.2.1.4), UTF-8, may be empty */
	int digest;              /* NID of the digest that signs it */
	unsigned char *envelope; /* of SUCCESS; OPENSSL_free */
	size_t length;
};

/* Reads a CertRep. -EBADMSG when it is none, or not the one expected; the caller clears *ANSWER
 * in either case. */
int scep_answer_read(const void *der, size_t length, const struct scep_expectation *expectation,
                     struct scep_answer *answer, struct error *err);
void scep_answer_clear(struct scep_answer *answer);

/*
 * Opens the answer to GetNextCACert (§4.7.1), which CA alone may sign; with SHA-1 only where
 * LEGACY. *CONTENT (OPENSSL_free) is certs-only. -EBADMSG.
 */
int scep_next_ca_open(const void *der, size_t length, X509 *ca, bool legacy, OSSL_LIB_CTX *context,
                      unsigned char **content, size_t *content_length, struct error *err);

/* A failInfo in words. */
const char *scep_fail_text(int fail);

/*
 * Opens the EnvelopedData DER, whose one recipient must be CERTIFICATE by issuer and serial
 * number, with KEY (used for no other kind of recipient). The caller owns *CONTENT
 * (OPENSSL_free); *CIPHER is the NID of what it was encrypted with. -EBADMSG, with the same
 * sentence whatever went wrong inside.
 */
int scep_envelope_open(const void *der, size_t length, OSSL_LIB_CTX *context, X509 *certificate,
                       EVP_PKEY *key, unsigned char **content, size_t *content_length, int *cipher,
                       struct error *err);

/*
 * Reads a degenerate certs-only SignedData (§3.4). CERTIFICATES (may be NULL) gets what it has
 * of them, at least one; CRL_DER (may be NULL) the first CRL (OPENSSL_free). -EBADMSG.
 */
int scep_content_read(const void *der, size_t length, STACK_OF(X509) * *certificates,
                      unsigned char **crl_der, size_t *crl_length, struct error *err);

/* The body of GetCACert by its content: one DER certificate or a certs-only SignedData. The CA
 * comes first in *CERTIFICATES, then RA certificates, each signed by it, then the CA's issuers.
 * -EBADMSG. */
int scep_ca_certificates(const void *body, size_t length, STACK_OF(X509) * *certificates,
                         struct error *err);

/* True when CA signed RA. */
bool scep_is_ra_of(X509 *ra, X509 *ca);

/* Whom requests are encrypted for: the first of RAS (may be NULL) that may be and has an RSA
 * key, else CA. NULL with ERR filled when there is none; no reference is taken. */
X509 *scep_recipient(X509 *ca, STACK_OF(X509) * ras, struct error *err);

/* Who may sign answers: CA and those of RAS that may sign. References are taken; the caller
 * owns the stack (sk_X509_pop_free). NULL: no memory. */
STACK_OF(X509) * scep_signers(X509 *ca, STACK_OF(X509) * ras);

/* Self-signed, of SUBJECT, for the time around NOW (Unix seconds): signs the first request
 * (§2.3). The caller owns it; NULL with ERR filled. */
X509 *scep_self_signed(const X509_NAME *subject, EVP_PKEY *key, int64_t now, const EVP_MD *digest,
                       struct error *err);

/* IssuerAndSubject (§3.3.3). The caller owns *DER (OPENSSL_free). */
int scep_issuer_and_subject(const X509_NAME *issuer, const X509_NAME *subject, unsigned char **der,
                            size_t *length, struct error *err);

/* IssuerAndSerialNumber of CERTIFICATE (§3.3.4). The caller owns *DER (OPENSSL_free). */
int scep_issuer_and_serial(X509 *certificate, unsigned char **der, size_t *length,
                           struct error *err);

#endif
