#include "pkifs/seal.h"

#include "common/hex.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#define KEY_SIZE      32
#define NONCE_SIZE    12
#define TAG_SIZE      16
#define PURPOSE_MAX   16
#define PLAIN_MAX     (1u << 20)
#define FORM_SEALED   1
#define FORM_UNSEALED 2

struct store_key {
	bool none;
	unsigned char bytes[KEY_SIZE];
	struct error refused; /* why the file is no store key; code 0: it is one */
};

/* 64 digits, and perhaps the end of their line. */
static bool read_digits(char *text, ssize_t length, unsigned char *key)
{
	if (length == 2 * KEY_SIZE + 1 && text[2 * KEY_SIZE] == '\n')
		length--;
	if (length != 2 * KEY_SIZE)
		return false;
	text[length] = 0;
	return hex_read(text, key, KEY_SIZE) == KEY_SIZE;
}

/* Reads up to SIZE bytes of a file; their number or a negative errno. */
static ssize_t read_all(int fd, char *bytes, size_t size)
{
	size_t length = 0;
	ssize_t got;

	while (length < size) {
		got = read(fd, bytes + length, size - length);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		length += (size_t)got;
	}
	return (ssize_t)length;
}

static void read_key(struct store_key *key, int fd)
{
	char text[2 * KEY_SIZE + 2];
	ssize_t length = read_all(fd, text, sizeof text);

	if (length < 0)
		error_set(&key->refused, -EINVAL, "the store key cannot be read: %s",
		          strerror((int)-length));
	else if (length == KEY_SIZE)
		memcpy(key->bytes, text, KEY_SIZE);
	else if (!read_digits(text, length, key->bytes))
		error_set(
			&key->refused, -EINVAL,
			"the store key file is not 32 bytes or 64 hex digits (it has %s%zd bytes)",
			length == sizeof text ? "at least " : "", length);
	OPENSSL_cleanse(text, sizeof text);
}

struct store_key *store_key_open(int fd)
{
	struct store_key *key = OPENSSL_secure_zalloc(sizeof *key);

	if (key && fd >= 0)
		read_key(key, fd);
	else if (key)
		key->none = true;
	if (fd >= 0)
		close(fd);
	return key;
}

void store_key_free(struct store_key *key)
{
	if (key)
		OPENSSL_secure_clear_free(key, sizeof *key);
}

/* The associated data of LABEL into the context. */
static bool add_label(EVP_CIPHER_CTX *context, const struct seal_label *label)
{
	unsigned char data[PURPOSE_MAX + 8 + SHA256_DIGEST_LENGTH], *at = data;
	size_t purpose = strnlen(label->purpose, PURPOSE_MAX - 1);
	int used;

	memcpy(at, label->purpose, purpose);
	at += purpose;
	*at++ = 0;
	for (int shift = 56; shift >= 0; shift -= 8)
		*at++ = (unsigned char)((uint64_t)label->owner >> shift);
	if (!EVP_Digest(label->public ? label->public : "", label->public_length, at, NULL,
	                EVP_sha256(), NULL))
		return false;
	at += SHA256_DIGEST_LENGTH;
	return EVP_CipherUpdate(context, NULL, &used, data, (int)(at - data)) == 1;
}

static bool encrypt(const struct store_key *key, const struct seal_label *label,
                    const unsigned char *plain, size_t length, unsigned char *sealed)
{
	unsigned char *nonce = sealed + 1, *body = nonce + NONCE_SIZE, *tag = body + length;
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	int used, last;
	bool good;

	sealed[0] = FORM_SEALED;
	good = context && RAND_bytes(nonce, NONCE_SIZE) == 1 &&
	       EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), NULL, key->bytes, nonce) == 1 &&
	       add_label(context, label) &&
	       EVP_EncryptUpdate(context, body, &used, plain, (int)length) == 1 &&
	       EVP_EncryptFinal_ex(context, body + used, &last) == 1 &&
	       EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, TAG_SIZE, tag) == 1;
	EVP_CIPHER_CTX_free(context);
	return good;
}

/* SEALED without its first byte. */
static bool decrypt(const struct store_key *key, const struct seal_label *label,
                    const unsigned char *sealed, size_t length, unsigned char *plain)
{
	const unsigned char *body = sealed + NONCE_SIZE;
	unsigned char tag[TAG_SIZE];
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	int used, last;
	bool good;

	memcpy(tag, body + length, TAG_SIZE);
	good = context &&
	       EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), NULL, key->bytes, sealed) == 1 &&
	       add_label(context, label) &&
	       EVP_DecryptUpdate(context, plain, &used, body, (int)length) == 1 &&
	       EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, TAG_SIZE, tag) == 1 &&
	       EVP_DecryptFinal_ex(context, plain + used, &last) == 1;
	EVP_CIPHER_CTX_free(context);
	return good;
}

int seal(const struct store_key *key, const struct seal_label *label, const void *plain,
         size_t length, unsigned char **sealed, size_t *sealed_length, struct error *err)
{
	size_t room = 1 + NONCE_SIZE + length + TAG_SIZE;
	unsigned char *new;

	if (key->refused.code)
		return error_set(err, -EINVAL, "%s", key->refused.text);
	if (length > PLAIN_MAX)
		return error_set(err, -EINVAL, "%zu bytes are too many to be sealed", length);
	new = OPENSSL_malloc(room);
	if (!new)
		return error_set(err, -ENOMEM, "out of memory");
	if (key->none) {
		new[0] = FORM_UNSEALED;
		memcpy(new + 1, plain, length);
		room = 1 + length;
	} else if (!encrypt(key, label, plain, length, new)) {
		OPENSSL_clear_free(new, room);
		return error_openssl(err, -EINVAL, "sealing failed");
	}
	*sealed = new;
	*sealed_length = room;
	return 0;
}

/* Whether the form of a sealed text is the one that the store key asks for. */
static int check_form(const struct store_key *key, const unsigned char *sealed, size_t length,
                      struct error *err)
{
	size_t least = key->none ? 1 : 1 + NONCE_SIZE + TAG_SIZE;

	if (key->refused.code)
		return error_set(err, -EINVAL, "%s", key->refused.text);
	if (length && sealed[0] == FORM_SEALED && key->none)
		return error_set(
			err, -EINVAL,
			"the store was made with a store key, but store-key = none is set");
	if (length && sealed[0] == FORM_UNSEALED && !key->none)
		return error_set(
			err, -EINVAL,
			"the store was made with store-key = none, but a store key is set");
	if (length < least || length > PLAIN_MAX ||
	    sealed[0] != (key->none ? FORM_UNSEALED : FORM_SEALED))
		return error_set(err, -EINVAL, "what is stored is in no known form");
	return 0;
}

int unseal(const struct store_key *key, const struct seal_label *label, const void *sealed,
           size_t sealed_length, unsigned char **plain, size_t *length, struct error *err)
{
	const unsigned char *bytes = sealed;
	unsigned char *new;
	size_t size;
	int r;

	r = check_form(key, bytes, sealed_length, err);
	if (r < 0)
		return r;
	size = sealed_length - (key->none ? 1 : 1 + NONCE_SIZE + TAG_SIZE);
	new = OPENSSL_secure_malloc(size ? size : 1);
	if (!new)
		return error_set(err, -ENOMEM, "out of memory");
	if (key->none) {
		memcpy(new, bytes + 1, size);
	} else if (!decrypt(key, label, bytes + 1, size, new)) {
		OPENSSL_secure_clear_free(new, size);
		ERR_clear_error();
		return error_set(err, -EINVAL,
		                 "what is stored was changed or moved, or the store key is another "
		                 "one than it was sealed with");
	}
	*plain = new;
	*length = size;
	return 0;
}
