/*
 * What an EST server (RFC 7030, 8951) sends, taken apart: base64, certs-only messages, the
 * attributes that it wants in a request. Nothing here knows of sockets or jobs; what comes in is
 * not trusted.
 */
#ifndef PKIFS_EST_MESSAGE_H
#define PKIFS_EST_MESSAGE_H

#include "common/error.h"
#include "enroll/key_kinds.h"

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdbool.h>

/* Decodes TEXT, whatever line ends stand in it (RFC 8951 §2.1). The caller owns *BYTES
 * (OPENSSL_free). 0, -EBADMSG, -ENOMEM. */
int est_base64_read(const char *text, size_t length, unsigned char **bytes, size_t *size,
                    struct error *err);

/* TEXT for BYTES on one line. The caller frees it (OPENSSL_free); NULL: no memory. */
char *est_base64(const unsigned char *bytes, size_t length);

/* The certificates of a certs-only message in base64, at least one, as they come. The caller owns
 * *CERTIFICATES. 0, -EBADMSG, -ENOMEM. */
int est_certificates_read(const char *text, size_t length, STACK_OF(X509) * *certificates,
                          struct error *err);

/*
 * The same for cacerts. A CA whose key rolls over also sends its old root, and each root signed by
 * the other (RFC 7030 §4.1.3, RFC 4210 §4.4.1): of those *CERTIFICATES has the newest root alone.
 */
int est_ca_certificates_read(const char *text, size_t length, STACK_OF(X509) * *certificates,
                             struct error *err);

#define EST_SIGNATURES_MAX 16
#define EST_OTHER_MAX      160

/* What csrattrs wants (RFC 7030 §4.5.2, RFC 9908). */
struct est_attributes {
	bool binding; /* a challengePassword that ties the request to the connection */
	struct key_kinds kinds;
	int signatures[EST_SIGNATURES_MAX]; /* NIDs of algorithms, any of them */
	size_t signature_count;
	STACK_OF(X509_EXTENSION) * extensions; /* but for names, which are ours to say */
	char other[EST_OTHER_MAX];             /* names of what we have nothing for */
};

/* Reads CsrAttrs in base64; an empty body wants nothing. The caller clears *ATTRIBUTES in either
 * case. 0, -EBADMSG, -ENOMEM. */
int est_attributes_read(const char *text, size_t length, struct est_attributes *attributes,
                        struct error *err);
void est_attributes_clear(struct est_attributes *attributes);

/* What to sign a request for KEY with instead of WANTED ("sha256" …); NULL: as it is. */
const EVP_MD *est_attributes_digest(const struct est_attributes *attributes, const EVP_PKEY *key,
                                    const char *wanted);

#endif
