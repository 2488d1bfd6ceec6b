/*
 * Keys that live in the keys process. To OpenSSL they are ordinary EVP_PKEYs whose private
 * operation is one frame on the signing socket (docs/architecture.md).
 */
#ifndef PKIFS_SIGNER_H
#define PKIFS_SIGNER_H

#include "common/error.h"

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdbool.h>

struct signer;

/* Takes over the signing socket FD. NULL when there is no memory. */
struct signer *signer_open(int fd);
void signer_close(struct signer *signer);

/*
 * The key granted as NAME ("new", "current", "account") whose public part is SPKI. RSA, DSA and
 * ECDSA keys sign (RSA also decrypts) through OpenSSL's own functions; an Ed25519 key has its
 * public part only and signs by signer_sign_*. The caller owns the key, which must not outlive
 * SIGNER.
 */
EVP_PKEY *signer_key(struct signer *signer, const char *name, const void *spki, size_t length,
                     struct error *err);

/* Sign a request or a certificate with KEY (from signer_key), DIGEST as RFC-fitting for its
 * type (ignored for Ed25519). 0 or a negative errno. */
int signer_sign_request(struct signer *signer, EVP_PKEY *key, X509_REQ *request,
                        const EVP_MD *digest, struct error *err);
int signer_sign_certificate(struct signer *signer, EVP_PKEY *key, X509 *certificate,
                            const EVP_MD *digest, struct error *err);

/* Signs LENGTH bytes with an RSA or ECDSA key; *SIZE is the room in SIGNATURE, then its length. */
int signer_sign_bytes(struct signer *signer, EVP_PKEY *key, const EVP_MD *digest, const void *bytes,
                      size_t length, unsigned char *signature, size_t *size, struct error *err);

/* Whether the keys process has gone away: nothing can be signed any more. */
bool signer_is_lost(const struct signer *signer);

#endif
