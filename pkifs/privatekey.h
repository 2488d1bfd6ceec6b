/*
 * Private keys as the keys process handles them: made, read from what users write, used. Text
 * from users is not trusted. No sentence quotes a byte of a key.
 */
#ifndef PKIFS_PRIVATEKEY_H
#define PKIFS_PRIVATEKEY_H

#include "common/error.h"

#include <openssl/evp.h>
#include <stdbool.h>

#define KEY_TEXT_MAX (1u << 20) /* bytes of a written key */

/*
 * A new key of TYPE (rsa, ecdsa, ed25519, dsa) and SIZE in bits (0: the type's default). Takes
 * seconds for large RSA and for DSA. The caller owns *KEY. 0, -EINVAL.
 */
int private_key_generate(const char *type, long long size, EVP_PKEY **key, struct error *err);

/*
 * The one private key in TEXT: PKCS#8, PKCS#1 or SEC 1 in PEM with anything around it, or in DER
 * with nothing behind it. Of a type and size that private_key_generate makes. The caller owns
 * *KEY. 0, -EINVAL, -EFBIG.
 */
int private_key_import(const void *text, size_t length, EVP_PKEY **key, struct error *err);

/* PKCS#8, unencrypted (RFC 5208); the caller frees *DER (OPENSSL_secure_clear_free). */
int private_key_to_der(const EVP_PKEY *key, unsigned char **der, size_t *length);
/* NULL when it is none, or bytes stand behind it. */
EVP_PKEY *private_key_from_der(const unsigned char *der, size_t length);

/* The PEM of that DER, the same each time; the caller frees OUT (BIO_free, which cleanses). */
int private_key_to_pem(const unsigned char *der, size_t length, BIO **out);

/*
 * One private operation. *OUT is the caller's (OPENSSL_clear_free). The padding is OpenSSL's
 * number. Every decryption that fails fails with the same sentence (RFC 3218 §2.3.2). 0, -EINVAL.
 */
int private_key_rsa(EVP_PKEY *key, bool decrypt, int padding, const unsigned char *data,
                    size_t length, unsigned char **out, size_t *out_length, struct error *err);
int private_key_ecdsa(EVP_PKEY *key, const unsigned char *digest, size_t length,
                      unsigned char **out, size_t *out_length, struct error *err);
int private_key_dsa(EVP_PKEY *key, const unsigned char *digest, size_t length, unsigned char **out,
                    size_t *out_length, struct error *err);
int private_key_ed25519(EVP_PKEY *key, const unsigned char *data, size_t length,
                        unsigned char **out, size_t *out_length, struct error *err);

#endif
