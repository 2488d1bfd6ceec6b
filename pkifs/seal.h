/*
 * Sealing: private keys at rest under the store key.
 *
 * Sealed: byte 1, 12 bytes of random nonce, AES-256-GCM ciphertext, 16 bytes of tag. The
 * associated data are the label's purpose with its NUL, its owner (64 bits, network order) and
 * the SHA-256 of its public key, so that a sealed key opens only where it belongs.
 *
 * Unsealed (`store-key = none`): byte 2 and the bytes themselves. Each is refused where the other
 * is in force.
 */
#ifndef PKIFS_SEAL_H
#define PKIFS_SEAL_H

#include "common/error.h"

#include <stdint.h>

struct store_key;

/* What a sealed text belongs to. */
struct seal_label {
	const char *purpose;
	int64_t owner;
	const void *public; /* SPKI; NULL with length 0 where there is none */
	size_t public_length;
};

/*
 * Reads the store key from FD, which it takes over: 32 bytes, or 64 hex digits with or without a
 * newline; FD -1 is `store-key = none`. A file that is neither makes a store key that refuses
 * every use, so that the reason reaches whoever asks. NULL when there is no memory.
 */
struct store_key *store_key_open(int fd);
void store_key_free(struct store_key *key);

/* The caller frees *SEALED (OPENSSL_clear_free: it may be unsealed). 0, -EINVAL, -ENOMEM. */
int seal(const struct store_key *key, const struct seal_label *label, const void *plain,
         size_t length, unsigned char **sealed, size_t *sealed_length, struct error *err);

/* The caller frees *PLAIN (OPENSSL_secure_clear_free). 0, -EINVAL, -ENOMEM. */
int unseal(const struct store_key *key, const struct seal_label *label, const void *sealed,
           size_t sealed_length, unsigned char **plain, size_t *length, struct error *err);

#endif
