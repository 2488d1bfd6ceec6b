#include "pkifs/privatekey.h"

#include <errno.h>
#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/dsa.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>

#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 8192
#define DSA_Q_BITS   256

#define TYPES "rsa (2048 to 8192 bits), ecdsa (P-256, P-384, P-521), ed25519, dsa (2048, 3072)"

static bool rsa_size(long long bits)
{
	return bits >= RSA_BITS_MIN && bits <= RSA_BITS_MAX;
}

static bool dsa_size(long long bits)
{
	return bits == 2048 || bits == 3072;
}

static const char *curve_of(long long bits)
{
	return bits == 256 ? "P-256" : bits == 384 ? "P-384" : bits == 521 ? "P-521" : NULL;
}

static EVP_PKEY *generate_dsa(long long bits)
{
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_id(EVP_PKEY_DSA, NULL);
	EVP_PKEY *parameters = NULL, *key = NULL;

	if (!context || EVP_PKEY_paramgen_init(context) != 1 ||
	    EVP_PKEY_CTX_set_dsa_paramgen_bits(context, (int)bits) != 1 ||
	    EVP_PKEY_CTX_set_dsa_paramgen_q_bits(context, DSA_Q_BITS) != 1 ||
	    EVP_PKEY_paramgen(context, &parameters) != 1)
		goto out;
	EVP_PKEY_CTX_free(context);
	context = EVP_PKEY_CTX_new(parameters, NULL);
	if (context && EVP_PKEY_keygen_init(context) == 1)
		EVP_PKEY_keygen(context, &key);
out:
	EVP_PKEY_free(parameters);
	EVP_PKEY_CTX_free(context);
	return key;
}

int private_key_generate(const char *type, long long size, EVP_PKEY **key, struct error *err)
{
	EVP_PKEY *new = NULL;

	if (strcmp(type, "rsa") == 0) {
		size = size ? size : 2048;
		if (!rsa_size(size))
			return error_set(err, -EINVAL, "rsa takes a key-size of %d to %d, not %lld",
			                 RSA_BITS_MIN, RSA_BITS_MAX, size);
		new = EVP_RSA_gen((size_t)size);
	} else if (strcmp(type, "ecdsa") == 0) {
		size = size ? size : 256;
		if (!curve_of(size))
			return error_set(err, -EINVAL,
			                 "ecdsa takes a key-size of 256, 384 or 521, not %lld",
			                 size);
		new = EVP_EC_gen(curve_of(size));
	} else if (strcmp(type, "dsa") == 0) {
		size = size ? size : 2048;
		if (!dsa_size(size))
			return error_set(err, -EINVAL,
			                 "dsa takes a key-size of 2048 or 3072, not %lld", size);
		new = generate_dsa(size);
	} else if (strcmp(type, "ed25519") == 0) {
		new = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	} else {
		return error_set(err, -EINVAL,
		                 "key-type takes rsa, ecdsa, ed25519 or dsa, not \"%.40s\"", type);
	}
	if (!new)
		return error_openssl(err, -EINVAL, "no %s key could be made", type);
	*key = new;
	return 0;
}

int private_key_to_der(const EVP_PKEY *key, unsigned char **der, size_t *length)
{
	PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(key);
	int size = info ? i2d_PKCS8_PRIV_KEY_INFO(info, NULL) : 0, r = -ENOMEM;
	unsigned char *at;

	if (size > 0 && (at = *der = OPENSSL_secure_malloc((size_t)size))) {
		i2d_PKCS8_PRIV_KEY_INFO(info, &at);
		*length = (size_t)size;
		r = 0;
	}
	PKCS8_PRIV_KEY_INFO_free(info);
	ERR_clear_error();
	return r;
}

EVP_PKEY *private_key_from_der(const unsigned char *der, size_t length)
{
	const unsigned char *at = der;
	PKCS8_PRIV_KEY_INFO *info = NULL;
	EVP_PKEY *key = NULL;

	if (length <= KEY_TEXT_MAX)
		info = d2i_PKCS8_PRIV_KEY_INFO(NULL, &at, (long)length);
	if (info && at == der + length)
		key = EVP_PKCS82PKEY(info);
	PKCS8_PRIV_KEY_INFO_free(info);
	ERR_clear_error();
	return key;
}

int private_key_to_pem(const unsigned char *der, size_t length, BIO **out)
{
	BIO *pem = BIO_new(BIO_s_secmem());

	if (pem && length <= KEY_TEXT_MAX &&
	    PEM_write_bio(pem, PEM_STRING_PKCS8INF, "", der, (long)length) > 0) {
		*out = pem;
		return 0;
	}
	BIO_free(pem);
	ERR_clear_error();
	return -ENOMEM;
}

/* True when KEY has each number of NAMES (up to a NULL), none of more than BITS bits: what is
 * longer makes one operation last for hours. */
static bool numbers_fit(const EVP_PKEY *key, const char *const *names, int bits)
{
	bool fit = true;

	for (; fit && *names; names++) {
		BIGNUM *number = NULL;

		fit = EVP_PKEY_get_bn_param(key, *names, &number) && !BN_is_zero(number) &&
		      BN_num_bits(number) <= bits;
		BN_clear_free(number);
	}
	ERR_clear_error();
	return fit;
}

static int check_rsa(const EVP_PKEY *key, struct error *err)
{
	static const char *const exponent[] = { OSSL_PKEY_PARAM_RSA_E, NULL };
	static const char *const private[] = { OSSL_PKEY_PARAM_RSA_D,
		                               OSSL_PKEY_PARAM_RSA_FACTOR1,
		                               OSSL_PKEY_PARAM_RSA_FACTOR2,
		                               OSSL_PKEY_PARAM_RSA_EXPONENT1,
		                               OSSL_PKEY_PARAM_RSA_EXPONENT2,
		                               OSSL_PKEY_PARAM_RSA_COEFFICIENT1,
		                               NULL };
	int bits = EVP_PKEY_get_bits(key);
	BIGNUM *e = NULL;
	bool good;

	if (!rsa_size(bits))
		return error_set(err, -EINVAL, "the RSA key has %d bits; %d to %d are taken", bits,
		                 RSA_BITS_MIN, RSA_BITS_MAX);
	good = numbers_fit(key, exponent, 64) &&
	       EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &e) && BN_is_odd(e) &&
	       !BN_is_one(e);
	BN_free(e);
	if (!good)
		return error_set(err, -EINVAL, "the RSA key's public exponent is none to be used");
	if (!numbers_fit(key, private, bits))
		return error_set(err, -EINVAL,
		                 "the private key is damaged: RSA numbers are missing or too long");
	return 0;
}

static int check_dsa(const EVP_PKEY *key, struct error *err)
{
	static const char *const large[] = { OSSL_PKEY_PARAM_FFC_P, OSSL_PKEY_PARAM_FFC_G,
		                             OSSL_PKEY_PARAM_PUB_KEY, NULL };
	static const char *const small[] = { OSSL_PKEY_PARAM_FFC_Q, OSSL_PKEY_PARAM_PRIV_KEY,
		                             NULL };
	int bits = EVP_PKEY_get_bits(key);

	if (!dsa_size(bits))
		return error_set(err, -EINVAL, "the DSA key has %d bits; 2048 and 3072 are taken",
		                 bits);
	if (!numbers_fit(key, large, bits) || !numbers_fit(key, small, DSA_Q_BITS))
		return error_set(err, -EINVAL,
		                 "the private key is damaged: DSA numbers are missing or too long");
	return 0;
}

static int check_ec(EVP_PKEY *key, struct error *err)
{
	int explicit = 0, nid;
	char group[64] = "";

	EVP_PKEY_get_int_param(key, OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS, &explicit);
	if (explicit)
		return error_set(err, -EINVAL,
		                 "the EC key spells its curve's parameters out; only named curves "
		                 "are taken: P-256, P-384, P-521");
	EVP_PKEY_get_group_name(key, group, sizeof group, NULL);
	nid = OBJ_txt2nid(group);
	if (nid != NID_X9_62_prime256v1 && nid != NID_secp384r1 && nid != NID_secp521r1)
		return error_set(err, -EINVAL,
		                 "the EC key's curve is %s; P-256, P-384 and P-521 are taken",
		                 *group ? group : "unknown");
	return 0;
}

/* Refuses what is no usable key, though it was read as one. */
static int check_type(EVP_PKEY *key, struct error *err)
{
	switch (EVP_PKEY_get_base_id(key)) {
	case EVP_PKEY_RSA:
		return check_rsa(key, err);
	case EVP_PKEY_EC:
		return check_ec(key, err);
	case EVP_PKEY_ED25519:
		return 0;
	case EVP_PKEY_DSA:
		return check_dsa(key, err);
	default:
		return error_set(err, -EINVAL, "the key's type is none of these: " TYPES);
	}
}

/* Whether what the private part signs is good for the public part: cheaper than proving primes. */
static int check_pair(EVP_PKEY *key, struct error *err)
{
	static const unsigned char text[] = "pkifs";
	EVP_MD_CTX *sign = EVP_MD_CTX_new(), *verify = EVP_MD_CTX_new();
	const EVP_MD *digest = EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519 ? NULL : EVP_sha256();
	unsigned char signature[RSA_BITS_MAX / 8];
	size_t length = sizeof signature;
	bool good;

	good = sign && verify && EVP_DigestSignInit(sign, NULL, digest, NULL, key) == 1 &&
	       EVP_DigestSign(sign, signature, &length, text, sizeof text) == 1 &&
	       EVP_DigestVerifyInit(verify, NULL, digest, NULL, key) == 1 &&
	       EVP_DigestVerify(verify, signature, length, text, sizeof text) == 1;
	EVP_MD_CTX_free(sign);
	EVP_MD_CTX_free(verify);
	ERR_clear_error();
	return good ? 0 : error_set(err, -EINVAL, "the private key is damaged: it does not sign");
}

#define OPEN_IT                                                                                    \
	"the private key is encrypted; write it as `openssl pkey -in FILE` prints it (it asks "    \
	"for "                                                                                     \
	"the password)"

/* A key in one of the old forms, whose DER does not say its type. */
static EVP_PKEY *read_old(int type, const unsigned char *der, size_t length, size_t *used)
{
	const unsigned char *at = der;
	EVP_PKEY *key = d2i_PrivateKey(type, NULL, &at, (long)length);

	ERR_clear_error();
	*used = (size_t)(at - der);
	return key;
}

static int took(EVP_PKEY *key, size_t used, size_t length, EVP_PKEY **out, struct error *err)
{
	if (!key)
		return error_set(err, -EINVAL, "the private key cannot be read: it is damaged");
	if (used != length) {
		EVP_PKEY_free(key);
		return error_set(err, -EINVAL, "there are %zu bytes behind the private key",
		                 length - used);
	}
	*out = key;
	return 0;
}

/* PKCS#8; -ENOENT where it is not even that. */
static int read_pkcs8(const unsigned char *der, size_t length, EVP_PKEY **key, struct error *err)
{
	const unsigned char *at = der;
	PKCS8_PRIV_KEY_INFO *info = d2i_PKCS8_PRIV_KEY_INFO(NULL, &at, (long)length);
	const ASN1_OBJECT *algorithm;
	char name[80] = "";
	EVP_PKEY *new;

	if (!info) {
		ERR_clear_error();
		return -ENOENT;
	}
	new = EVP_PKCS82PKEY(info);
	if (!new &&PKCS8_pkey_get0(&algorithm, NULL, NULL, NULL, info))
		OBJ_obj2txt(name, sizeof name, algorithm, 0);
	PKCS8_PRIV_KEY_INFO_free(info);
	ERR_clear_error();
	if (!new)
		return error_set(err, -EINVAL,
		                 "the private key (%s) cannot be read: it is damaged, or none of "
		                 "these: " TYPES,
		                 name);
	return took(new, (size_t)(at - der), length, key, err);
}

/* What a DER file holds instead of a key; -ENOENT where it is none of these. Asked before the old
 * forms are tried: OpenSSL's decoders would look for the password of an encrypted one. */
static int name_other_der(const unsigned char *der, size_t length, struct error *err)
{
	static const struct {
		const ASN1_ITEM *(*item)(void);
		const char *sentence;
	} others[] = {
		{ X509_SIG_it, OPEN_IT },
		{ X509_it, "that is a certificate, not a private key" },
		{ X509_REQ_it, "that is a certificate request, not a private key" },
		{ X509_PUBKEY_it, "that is a public key, not a private key" },
		{ PKCS12_it,
		  "that is PKCS#12; write what `openssl pkcs12 -in FILE -nodes` prints" },
	};

	for (size_t i = 0; i < COUNT(others); i++) {
		const unsigned char *at = der;
		ASN1_VALUE *value = ASN1_item_d2i(NULL, &at, (long)length, others[i].item());

		ERR_clear_error();
		if (!value)
			continue;
		ASN1_item_free(value, others[i].item());
		return error_set(err, -EINVAL, "%s", others[i].sentence);
	}
	return -ENOENT;
}

static int import_der(const unsigned char *der, size_t length, EVP_PKEY **key, struct error *err)
{
	static const int old[] = { EVP_PKEY_RSA, EVP_PKEY_EC, EVP_PKEY_DSA };
	int r = read_pkcs8(der, length, key, err);

	if (r == -ENOENT)
		r = name_other_der(der, length, err);
	for (size_t i = 0; r == -ENOENT && i < COUNT(old); i++) {
		size_t used;
		EVP_PKEY *new = read_old(old[i], der, length, &used);

		if (new)
			r = took(new, used, length, key, err);
	}
	if (r == -ENOENT)
		r = error_set(err, -EINVAL, "there is no private key in it that can be read");
	return r;
}

struct pem_block {
	char *name, *header;
	unsigned char *der;
	long length;
};

static void block_free(struct pem_block *block)
{
	OPENSSL_secure_free(block->name);
	OPENSSL_secure_free(block->header);
	OPENSSL_secure_clear_free(block->der, (size_t)block->length);
	*block = (struct pem_block){ 0 };
}

/* The private key of a PEM block, *KEY as it was where it holds something else. */
static int read_key_block(const struct pem_block *block, EVP_PKEY **key, struct error *err)
{
	static const struct {
		const char *name;
		int type;
	} old[] = {
		{ PEM_STRING_RSA, EVP_PKEY_RSA },
		{ PEM_STRING_ECPRIVATEKEY, EVP_PKEY_EC },
		{ PEM_STRING_DSA, EVP_PKEY_DSA },
	};
	size_t name = strlen(block->name), suffix = strlen("PRIVATE KEY"), used;
	EVP_PKEY *new;
	int r;

	if (name < suffix || strcmp(block->name + name - suffix, "PRIVATE KEY") != 0)
		return 0;
	if (*key)
		return error_set(err, -EINVAL,
		                 "there is more than one private key in it; write one alone");
	if (strcmp(block->name, PEM_STRING_PKCS8) == 0 || strstr(block->header, "ENCRYPTED"))
		return error_set(err, -EINVAL, OPEN_IT);
	if (strcmp(block->name, PEM_STRING_PKCS8INF) == 0) {
		r = read_pkcs8(block->der, (size_t)block->length, key, err);
		return r == -ENOENT ? took(NULL, 0, 0, key, err) : r;
	}
	for (size_t i = 0; i < COUNT(old); i++) {
		if (strcmp(block->name, old[i].name) != 0)
			continue;
		new = read_old(old[i].type, block->der, (size_t)block->length, &used);
		return took(new, used, (size_t)block->length, key, err);
	}
	return error_set(err, -EINVAL,
	                 "a key in the form \"%.40s\" is not taken; PKCS#8, PKCS#1 and SEC 1 are "
	                 "(`openssl pkey`, `ssh-keygen -p -m PKCS8`)",
	                 block->name);
}

static int no_key(const char *seen, struct error *err)
{
	if (*seen)
		return error_set(err, -EINVAL, "there is a %.40s in it, but no private key", seen);
	return error_set(err, -EINVAL, "there is no private key in it");
}

static int import_pem(const void *text, size_t length, EVP_PKEY **key, struct error *err)
{
	BIO *in = BIO_new_mem_buf(text, (int)length);
	struct pem_block block = { 0 };
	char seen[64] = "";
	int r = in ? 0 : error_set(err, -ENOMEM, "out of memory");

	while (r == 0 && PEM_read_bio_ex(in, &block.name, &block.header, &block.der, &block.length,
	                                 PEM_FLAG_SECURE)) {
		r = read_key_block(&block, key, err);
		snprintf(seen, sizeof seen, "%s", block.name);
		block_free(&block);
	}
	if (r == 0 && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
		r = error_set(err, -EINVAL, "a PEM block in it is damaged");
	else if (r == 0 && !*key)
		r = no_key(seen, err);
	BIO_free(in);
	ERR_clear_error();
	return r;
}

int private_key_import(const void *text, size_t length, EVP_PKEY **key, struct error *err)
{
	static const char bom[] = "\xef\xbb\xbf";
	const unsigned char *bytes = text;
	EVP_PKEY *new = NULL;
	int r;

	if (length > KEY_TEXT_MAX)
		return error_set(err, -EFBIG, "%zu bytes are too many for a key (%u at most)",
		                 length, KEY_TEXT_MAX);
	if (length && *bytes == 0x30)
		r = import_der(bytes, length, &new, err);
	else if (length >= 3 && memcmp(bytes, bom, 3) == 0)
		r = import_pem(bytes + 3, length - 3, &new, err);
	else
		r = import_pem(bytes, length, &new, err);
	if (r == 0)
		r = check_type(new, err);
	if (r == 0)
		r = check_pair(new, err);
	if (r < 0)
		EVP_PKEY_free(new);
	else
		*key = new;
	return r;
}

/* Room for what a private operation of KEY yields. */
static unsigned char *room_for(EVP_PKEY *key, size_t *length)
{
	*length = (size_t)EVP_PKEY_get_size(key);
	return OPENSSL_zalloc(*length ? *length : 1);
}

static bool rsa_decrypt(EVP_PKEY_CTX *context, int padding, const unsigned char *data,
                        size_t length, unsigned char *out, size_t *out_length)
{
	return EVP_PKEY_decrypt_init(context) == 1 &&
	       EVP_PKEY_CTX_set_rsa_padding(context, padding) == 1 &&
	       EVP_PKEY_decrypt(context, out, out_length, data, length) == 1;
}

static bool rsa_encrypt(EVP_PKEY_CTX *context, int padding, const unsigned char *data,
                        size_t length, unsigned char *out, size_t *out_length)
{
	return EVP_PKEY_sign_init(context) == 1 &&
	       EVP_PKEY_CTX_set_rsa_padding(context, padding) == 1 &&
	       EVP_PKEY_sign(context, out, out_length, data, length) == 1;
}

int private_key_rsa(EVP_PKEY *key, bool decrypt, int padding, const unsigned char *data,
                    size_t length, unsigned char **out, size_t *out_length, struct error *err)
{
	EVP_PKEY_CTX *context = NULL;
	unsigned char *new;
	size_t room;
	bool good;

	if (EVP_PKEY_get_base_id(key) != EVP_PKEY_RSA)
		return error_set(err, -EINVAL, "the key is no RSA key");
	if (padding != RSA_PKCS1_PADDING && padding != RSA_NO_PADDING &&
	    !(decrypt && padding == RSA_PKCS1_OAEP_PADDING))
		return error_set(err, -EINVAL, "RSA padding %d is not taken", padding);
	new = room_for(key, &room);
	context = EVP_PKEY_CTX_new(key, NULL);
	if (!new || !context) {
		good = false;
	} else if (decrypt) {
		*out_length = room;
		good = rsa_decrypt(context, padding, data, length, new, out_length);
	} else {
		*out_length = room;
		good = rsa_encrypt(context, padding, data, length, new, out_length);
	}
	EVP_PKEY_CTX_free(context);
	ERR_clear_error();
	if (good) {
		*out = new;
		return 0;
	}
	OPENSSL_clear_free(new, room);
	return error_set(err, -EINVAL, "%s with the RSA key failed",
	                 decrypt ? "decrypting" : "signing");
}

/* A signature of DIGEST by KEY, which must be of TYPE (NAME in sentences). */
static int sign_digest(EVP_PKEY *key, int type, const char *name, const unsigned char *digest,
                       size_t length, unsigned char **out, size_t *out_length, struct error *err)
{
	EVP_PKEY_CTX *context;
	bool good;

	if (EVP_PKEY_get_base_id(key) != type)
		return error_set(err, -EINVAL, "the key is no %s key", name);
	if (length < 1 || length > EVP_MAX_MD_SIZE)
		return error_set(err, -EINVAL, "%zu bytes are no digest", length);
	*out = room_for(key, out_length);
	context = EVP_PKEY_CTX_new(key, NULL);
	good = *out && context && EVP_PKEY_sign_init(context) == 1 &&
	       EVP_PKEY_sign(context, *out, out_length, digest, length) == 1;
	EVP_PKEY_CTX_free(context);
	if (good)
		return 0;
	OPENSSL_free(*out);
	*out = NULL;
	return error_openssl(err, -EINVAL, "signing with the %s key failed", name);
}

int private_key_ecdsa(EVP_PKEY *key, const unsigned char *digest, size_t length,
                      unsigned char **out, size_t *out_length, struct error *err)
{
	return sign_digest(key, EVP_PKEY_EC, "ECDSA", digest, length, out, out_length, err);
}

int private_key_dsa(EVP_PKEY *key, const unsigned char *digest, size_t length, unsigned char **out,
                    size_t *out_length, struct error *err)
{
	return sign_digest(key, EVP_PKEY_DSA, "DSA", digest, length, out, out_length, err);
}

int private_key_ed25519(EVP_PKEY *key, const unsigned char *data, size_t length,
                        unsigned char **out, size_t *out_length, struct error *err)
{
	EVP_MD_CTX *context;
	bool good;

	if (EVP_PKEY_get_base_id(key) != EVP_PKEY_ED25519)
		return error_set(err, -EINVAL, "the key is no Ed25519 key");
	*out = room_for(key, out_length);
	context = EVP_MD_CTX_new();
	good = *out && context && EVP_DigestSignInit(context, NULL, NULL, NULL, key) == 1 &&
	       EVP_DigestSign(context, *out, out_length, data, length) == 1;
	EVP_MD_CTX_free(context);
	if (good)
		return 0;
	OPENSSL_free(*out);
	*out = NULL;
	return error_openssl(err, -EINVAL, "signing with the Ed25519 key failed");
}
