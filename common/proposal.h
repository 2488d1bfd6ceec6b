/*
 * Proposals: which algorithms IKE and ESP may use, in strongSwan's spelling ("aes256gcm16-ecp384")
 * or Junos's ("aes-256-cbc hmac-sha-256-128 group14"; RFC 8221, RFC 8247).
 */
#ifndef PKIFS_PROPOSAL_H
#define PKIFS_PROPOSAL_H

#include "common/error.h"

enum transform_kind {
	TRANSFORM_AEAD,
	TRANSFORM_CIPHER,
	TRANSFORM_INTEGRITY,
	TRANSFORM_PRF,
	TRANSFORM_GROUP,
	TRANSFORM_ESN,
	TRANSFORM_KINDS
};

struct transform {
	const char *name; /* strongSwan's */
	enum transform_kind kind;
	const char *kernel; /* what the kernel's crypto calls it; NULL: not of ESP */
	unsigned key_size;  /* bytes, with the salt or nonce at its end */
	unsigned icv_bits;  /* of what proves integrity */
	bool legacy;        /* weaker than RFC 8221 wants it today */
};

/* What a proposal names of each kind, or NULL. */
struct proposal {
	const struct transform *transforms[TRANSFORM_KINDS];
};

/* Longest text of one, and of its normal form. */
#define PROPOSAL_MAX 128

/*
 * TEXT as a user wrote it, for IKE or else for ESP. 0, or -EINVAL with ERR: unknown words, parts
 * that are missing or do not belong together, and what is weak without ALLOW_LEGACY.
 */
int proposal_read(const char *text, bool ike, bool allow_legacy, struct proposal *proposal,
                  struct error *err);

/* In strongSwan's spelling. */
void proposal_text(const struct proposal *proposal, char text[PROPOSAL_MAX]);

/* Bytes of key that one ESP SA of PROPOSAL takes: the cipher's, then those of the integrity. */
size_t proposal_key_size(const struct proposal *proposal);

#endif
