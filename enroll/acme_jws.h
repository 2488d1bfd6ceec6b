/*
 * JSON Web Signatures as ACME wants them (RFC 7515, 7638, 8555 §6.2): flattened JSON, ES256 by a
 * key that lives elsewhere, HS256 for external accounts (§7.3.4).
 */
#ifndef PKIFS_ACME_JWS_H
#define PKIFS_ACME_JWS_H

#include "common/error.h"
#include "enroll/signer.h"

#include <stdbool.h>

/* An account key; all in it is its own. */
struct jws_key {
	struct signer *signer;
	EVP_PKEY *key;
	char *jwk;           /* its public part as JSON, in the order that thumbprints want */
	char thumbprint[44]; /* of it, base64url */
};

/* The key granted as GRANT with the public part SPKI, P-256. 0 or -EINVAL. */
int jws_key_read(struct signer *signer, const char *grant, const void *spki, size_t length,
                 struct jws_key *key, struct error *err);
void jws_key_clear(struct jws_key *key);

/* LENGTH bytes without padding (RFC 7515 §2). The caller frees it (free); NULL: no memory. */
char *base64url(const void *bytes, size_t length);
/* 1 to LIMIT characters of base64url and nothing else. */
bool is_base64url(const char *text, size_t limit);

/*
 * What is POSTed: PAYLOAD (may be empty) signed by KEY for URL. KID NULL: with the key itself;
 * NONCE NULL: to be POSTed inside another one.
 * NULL with ERR filled; else the caller's (free).
 */
char *jws_make(const struct jws_key *key, const char *kid, const char *nonce, const char *url,
               const char *payload, struct error *err);

/* The binding of an external account KID with its HMAC key SECRET (base64url) to KEY; as above. */
char *jws_bind(const struct jws_key *key, const char *kid, const char *secret, const char *url,
               struct error *err);

#endif
