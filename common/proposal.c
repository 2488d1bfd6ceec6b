#include "common/proposal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* clang-format off: one row an algorithm */
static const struct transform transforms[] = {
	{ "aes128gcm16", TRANSFORM_AEAD, "rfc4106(gcm(aes))", 20, 128, false },
	{ "aes192gcm16", TRANSFORM_AEAD, "rfc4106(gcm(aes))", 28, 128, false },
	{ "aes256gcm16", TRANSFORM_AEAD, "rfc4106(gcm(aes))", 36, 128, false },
	{ "chacha20poly1305", TRANSFORM_AEAD, "rfc7539esp(chacha20,poly1305)", 36, 128, false },
	{ "aes128", TRANSFORM_CIPHER, "cbc(aes)", 16, 0, false },
	{ "aes192", TRANSFORM_CIPHER, "cbc(aes)", 24, 0, false },
	{ "aes256", TRANSFORM_CIPHER, "cbc(aes)", 32, 0, false },
	{ "aes128ctr", TRANSFORM_CIPHER, "rfc3686(ctr(aes))", 20, 0, false },
	{ "aes192ctr", TRANSFORM_CIPHER, "rfc3686(ctr(aes))", 28, 0, false },
	{ "aes256ctr", TRANSFORM_CIPHER, "rfc3686(ctr(aes))", 36, 0, false },
	{ "3des", TRANSFORM_CIPHER, "cbc(des3_ede)", 24, 0, true },
	{ "sha256", TRANSFORM_INTEGRITY, "hmac(sha256)", 32, 128, false },
	{ "sha384", TRANSFORM_INTEGRITY, "hmac(sha384)", 48, 192, false },
	{ "sha512", TRANSFORM_INTEGRITY, "hmac(sha512)", 64, 256, false },
	{ "sha1", TRANSFORM_INTEGRITY, "hmac(sha1)", 20, 96, true },
	{ "md5", TRANSFORM_INTEGRITY, "hmac(md5)", 16, 96, true },
	{ "prfsha256", TRANSFORM_PRF, NULL, 0, 0, false },
	{ "prfsha384", TRANSFORM_PRF, NULL, 0, 0, false },
	{ "prfsha512", TRANSFORM_PRF, NULL, 0, 0, false },
	{ "prfsha1", TRANSFORM_PRF, NULL, 0, 0, true },
	{ "modp1024", TRANSFORM_GROUP, NULL, 0, 0, true },
	{ "modp1536", TRANSFORM_GROUP, NULL, 0, 0, true },
	{ "modp2048", TRANSFORM_GROUP, NULL, 0, 0, false },
	{ "modp3072", TRANSFORM_GROUP, NULL, 0, 0, false },
	{ "modp4096", TRANSFORM_GROUP, NULL, 0, 0, false },
	{ "ecp256", TRANSFORM_GROUP, NULL, 0, 0, false },
	{ "ecp384", TRANSFORM_GROUP, NULL, 0, 0, false },
	{ "ecp521", TRANSFORM_GROUP, NULL, 0, 0, false },
	{ "x25519", TRANSFORM_GROUP, NULL, 0, 0, false },
	{ "x448", TRANSFORM_GROUP, NULL, 0, 0, false },
	{ "esn", TRANSFORM_ESN, NULL, 0, 0, false },
	{ "noesn", TRANSFORM_ESN, NULL, 0, 0, false },
};

/* Other spellings: Junos's, and what strongSwan takes besides. */
static const struct {
	const char *name, *transform;
} spellings[] = {
	{ "aes-128-gcm", "aes128gcm16" },
	{ "aes-192-gcm", "aes192gcm16" },
	{ "aes-256-gcm", "aes256gcm16" },
	{ "aes128gcm128", "aes128gcm16" },
	{ "aes256gcm128", "aes256gcm16" },
	{ "chacha20-poly1305", "chacha20poly1305" },
	{ "aes-128-cbc", "aes128" },
	{ "aes-192-cbc", "aes192" },
	{ "aes-256-cbc", "aes256" },
	{ "3des-cbc", "3des" },
	{ "hmac-sha-256-128", "sha256" },
	{ "hmac-sha-384", "sha384" },
	{ "hmac-sha-512", "sha512" },
	{ "hmac-sha1-96", "sha1" },
	{ "hmac-md5-96", "md5" },
	{ "sha-256", "sha256" },
	{ "sha-384", "sha384" },
	{ "sha-512", "sha512" },
	{ "sha2_256", "sha256" },
	{ "sha2_384", "sha384" },
	{ "sha2_512", "sha512" },
	{ "curve25519", "x25519" },
	{ "group2", "modp1024" },
	{ "group5", "modp1536" },
	{ "group14", "modp2048" },
	{ "group15", "modp3072" },
	{ "group16", "modp4096" },
	{ "group19", "ecp256" },
	{ "group20", "ecp384" },
	{ "group21", "ecp521" },
	{ "no-esn", "noesn" },
};
/* clang-format on */

static const struct transform *find(const char *name)
{
	for (size_t i = 0; i < COUNT(transforms); i++)
		if (strcmp(transforms[i].name, name) == 0)
			return &transforms[i];
	return NULL;
}

/* Whether NAME stands at the beginning of TEXT, as a whole word: its length, or 0. */
static size_t begins(const char *text, const char *name)
{
	size_t length = strlen(name);

	return strncmp(text, name, length) == 0 && (!text[length] || strchr("- ,", text[length]))
	               ? length
	               : 0;
}

/* The longest word that TEXT begins with: "aes-256-gcm" is one of them, and so is "sha256". */
static const struct transform *next_word(const char *text, size_t *length)
{
	const struct transform *found = NULL;

	*length = 0;
	for (size_t i = 0; i < COUNT(transforms); i++) {
		size_t this = begins(text, transforms[i].name);

		if (this > *length) {
			*length = this;
			found = &transforms[i];
		}
	}
	for (size_t i = 0; i < COUNT(spellings); i++) {
		size_t this = begins(text, spellings[i].name);

		if (this > *length) {
			*length = this;
			found = find(spellings[i].transform);
		}
	}
	return found;
}

static int check_parts(const char *text, bool ike, const struct proposal *proposal,
                       struct error *err)
{
	const struct transform *const *parts = proposal->transforms;
	bool aead = parts[TRANSFORM_AEAD], integrity = parts[TRANSFORM_INTEGRITY];

	if (aead == (parts[TRANSFORM_CIPHER] != NULL))
		return error_set(err, -EINVAL, "\"%.100s\" names %s", text,
		                 aead ? "two ciphers: write a proposal for each" : "no cipher");
	if (!ike && (parts[TRANSFORM_PRF] || aead == integrity))
		return error_set(err, -EINVAL, "\"%.100s\": %s", text,
		                 parts[TRANSFORM_PRF] ? "ESP has no PRF"
		                 : aead ? "a cipher that proves integrity itself takes no other"
		                        : "the cipher needs something that proves integrity, "
		                          "such as sha256");
	if (ike && !parts[TRANSFORM_GROUP])
		return error_set(err, -EINVAL, "\"%.100s\" names no group, such as ecp384", text);
	if (ike && !parts[TRANSFORM_PRF] && !integrity)
		return error_set(err, -EINVAL, "\"%.100s\" names no PRF, such as prfsha384", text);
	return 0;
}

int proposal_read(const char *text, bool ike, bool allow_legacy, struct proposal *proposal,
                  struct error *err)
{
	*proposal = (struct proposal){ 0 };
	if (strlen(text) >= PROPOSAL_MAX)
		return error_set(err, -EINVAL, "\"%.40s…\" is too long for a proposal", text);
	for (const char *at = text; at += strspn(at, "- ,"), *at;) {
		size_t length;
		const struct transform *transform = next_word(at, &length);

		if (!transform)
			return error_set(err, -EINVAL, "\"%.100s\": \"%.*s\" is no algorithm", text,
			                 (int)strcspn(at, " ,"), at);
		if (proposal->transforms[transform->kind])
			return error_set(err, -EINVAL,
			                 "\"%.100s\" names both %s and %s: write a proposal for "
			                 "each",
			                 text, proposal->transforms[transform->kind]->name,
			                 transform->name);
		if (transform->legacy && !allow_legacy)
			return error_set(err, -EINVAL, "%s is weak: it takes allow-legacy = yes",
			                 transform->name);
		proposal->transforms[transform->kind] = transform;
		at += length;
	}
	return check_parts(text, ike, proposal, err);
}

void proposal_text(const struct proposal *proposal, char text[PROPOSAL_MAX])
{
	size_t used = 0;

	*text = 0;
	for (size_t i = 0; i < TRANSFORM_KINDS; i++)
		if (proposal->transforms[i])
			used += (size_t)snprintf(text + used, PROPOSAL_MAX - used, "%s%s",
			                         used ? "-" : "", proposal->transforms[i]->name);
}

size_t proposal_key_size(const struct proposal *proposal)
{
	size_t size = 0;

	for (size_t i = TRANSFORM_AEAD; i <= TRANSFORM_INTEGRITY; i++)
		size += proposal->transforms[i] ? proposal->transforms[i]->key_size : 0;
	return size;
}
