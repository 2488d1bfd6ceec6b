/* The methods of RSA, DSA and EC_KEY are deprecated, but providers have no way to put one operation
 * of a key elsewhere without being one. */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "enroll/signer.h"

#include "common/frame.h"
#include "common/x509.h"

#include <errno.h>
#include <openssl/dsa.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/rsa.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A grant by its name: what a key's callbacks know of it. */
struct grant {
	struct signer *signer;
	const char *name;
};

static const char *const grant_names[] = { "new", "current", "account" };

struct signer {
	int fd;
	struct grant grants[COUNT(grant_names)];
	RSA_METHOD *rsa;
	EC_KEY_METHOD *ec;
	DSA_METHOD *dsa;
	bool lost;        /* the keys process is gone, or does not speak our language */
	struct error err; /* of the last operation */
};

/* Where OpenSSL's objects keep their grant. */
static int rsa_index = -1, ec_index = -1, dsa_index = -1, key_index = -1;

/*
 * Has QUESTION (freed here) answered: *ANSWER is the caller's, and its data in *DATA. 0, or a
 * negative errno with the signer's error filled.
 */
static int ask(struct signer *signer, struct record *question, struct record **answer,
               const struct field **data)
{
	const char *refused;
	int r;

	signer->err = (struct error){ 0 };
	r = frame_send(signer->fd, question, NULL, 0);
	record_free(question);
	if (r == 0)
		r = frame_receive(signer->fd, answer, NULL);
	if (r < 0) {
		signer->lost = true;
		return error_set(&signer->err, r, "the keys process does not answer: %s",
		                 strerror(-r));
	}
	refused = record_get(*answer, "error");
	*data = record_find(*answer, "data");
	if (!refused && *data)
		return 0;
	r = error_set(&signer->err, -EIO, "%s",
	              refused ? refused : "the keys process answers without data");
	record_free(*answer);
	*answer = NULL;
	return r;
}

static struct record *question(const struct grant *grant, const char *frame, const void *data,
                               size_t length)
{
	struct record *record = record_new();

	if (!record)
		return NULL;
	record_add(record, "frame", frame);
	record_add(record, "key", grant->name);
	record_add_bytes(record, "data", data, length);
	return record;
}

/* Asks, and copies an answer of up to ROOM bytes to OUT. Its length, or -1. */
static int ask_into(struct signer *signer, struct record *record, unsigned char *out, size_t room)
{
	struct record *answer = NULL;
	const struct field *data = NULL;
	int length = -1;

	if (!record) {
		error_set(&signer->err, -ENOMEM, "out of memory");
	} else if (ask(signer, record, &answer, &data) == 0) {
		if (data->length <= room) {
			memcpy(out, data->value, data->length);
			length = (int)data->length;
		} else {
			error_set(&signer->err, -EBADMSG,
			          "the keys process answers with %zu bytes instead of up to %zu",
			          data->length, room);
		}
	}
	record_free(answer);
	if (length < 0)
		ERR_raise_data(ERR_LIB_USER, ERR_R_OPERATION_FAIL, "%s", signer->err.text);
	return length;
}

static int rsa_private(const char *operation, int length, const unsigned char *from,
                       unsigned char *to, RSA *rsa, int padding)
{
	const struct grant *grant = RSA_get_ex_data(rsa, rsa_index);
	struct record *record;

	if (!grant || length < 0)
		return -1;
	record = question(grant, "rsa-private", from, (size_t)length);
	if (record) {
		record_add(record, "operation", operation);
		record_add_number(record, "padding", padding);
	}
	return ask_into(grant->signer, record, to, (size_t)RSA_size(rsa));
}

static int rsa_encrypt(int length, const unsigned char *from, unsigned char *to, RSA *rsa,
                       int padding)
{
	return rsa_private("encrypt", length, from, to, rsa, padding);
}

static int rsa_decrypt(int length, const unsigned char *from, unsigned char *to, RSA *rsa,
                       int padding)
{
	return rsa_private("decrypt", length, from, to, rsa, padding);
}

static int ec_sign(int type, const unsigned char *digest, int length, unsigned char *signature,
                   unsigned *signature_length, const BIGNUM *kinv, const BIGNUM *r, EC_KEY *key)
{
	const struct grant *grant = EC_KEY_get_ex_data(key, ec_index);
	int size;

	(void)type;
	(void)kinv;
	(void)r;
	*signature_length = 0;
	if (!grant || length < 0)
		return 0;
	size = ask_into(grant->signer, question(grant, "ecdsa-sign", digest, (size_t)length),
	                signature, (size_t)ECDSA_size(key));
	*signature_length = size > 0 ? (unsigned)size : 0;
	return size > 0;
}

static ECDSA_SIG *ec_sign_sig(const unsigned char *digest, int length, const BIGNUM *kinv,
                              const BIGNUM *r, EC_KEY *key)
{
	unsigned char signature[256];
	const unsigned char *at = signature;
	unsigned size = 0;

	if (ECDSA_size(key) > (int)sizeof signature ||
	    !ec_sign(0, digest, length, signature, &size, kinv, r, key))
		return NULL;
	return d2i_ECDSA_SIG(NULL, &at, (long)size);
}

static DSA_SIG *dsa_sign(const unsigned char *digest, int length, DSA *dsa)
{
	const struct grant *grant = DSA_get_ex_data(dsa, dsa_index);
	unsigned char signature[256];
	const unsigned char *at = signature;
	int size;

	if (!grant || length < 0)
		return NULL;
	size = ask_into(grant->signer, question(grant, "dsa-sign", digest, (size_t)length),
	                signature, sizeof signature);
	return size > 0 ? d2i_DSA_SIG(NULL, &at, size) : NULL;
}

static bool make_methods(struct signer *signer)
{
	if (rsa_index < 0) {
		rsa_index = RSA_get_ex_new_index(0, NULL, NULL, NULL, NULL);
		ec_index = EC_KEY_get_ex_new_index(0, NULL, NULL, NULL, NULL);
		dsa_index = DSA_get_ex_new_index(0, NULL, NULL, NULL, NULL);
		key_index = EVP_PKEY_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	}
	signer->rsa = RSA_meth_dup(RSA_PKCS1_OpenSSL());
	signer->ec = EC_KEY_METHOD_new(EC_KEY_OpenSSL());
	signer->dsa = DSA_meth_dup(DSA_OpenSSL());
	if (rsa_index < 0 || ec_index < 0 || dsa_index < 0 || key_index < 0 || !signer->rsa ||
	    !signer->ec || !signer->dsa)
		return false;
	RSA_meth_set_priv_enc(signer->rsa, rsa_encrypt);
	RSA_meth_set_priv_dec(signer->rsa, rsa_decrypt);
	RSA_meth_set_flags(signer->rsa, RSA_METHOD_FLAG_NO_CHECK | RSA_FLAG_EXT_PKEY);
	EC_KEY_METHOD_set_sign(signer->ec, ec_sign, NULL, ec_sign_sig);
	DSA_meth_set_sign(signer->dsa, dsa_sign);
	return true;
}

static void signer_free(struct signer *signer)
{
	RSA_meth_free(signer->rsa);
	DSA_meth_free(signer->dsa);
	if (signer->ec)
		EC_KEY_METHOD_free(signer->ec);
	free(signer);
}

struct signer *signer_open(int fd)
{
	struct signer *signer = calloc(1, sizeof *signer);

	if (!signer)
		return NULL;
	if (!make_methods(signer)) {
		signer_free(signer);
		return NULL;
	}
	signer->fd = fd;
	for (size_t i = 0; i < COUNT(grant_names); i++)
		signer->grants[i] = (struct grant){ signer, grant_names[i] };
	return signer;
}

void signer_close(struct signer *signer)
{
	if (!signer)
		return;
	close(signer->fd);
	signer_free(signer);
}

static EVP_PKEY *remote_rsa(struct grant *grant, const EVP_PKEY *public)
{
	const RSA *from = EVP_PKEY_get0_RSA(public);
	EVP_PKEY *key = EVP_PKEY_new();
	BIGNUM *n = from ? BN_dup(RSA_get0_n(from)) : NULL;
	BIGNUM *e = from ? BN_dup(RSA_get0_e(from)) : NULL;
	RSA *rsa = RSA_new();

	if (key && rsa && n && e && RSA_set0_key(rsa, n, e, NULL)) {
		n = e = NULL;
		if (RSA_set_method(rsa, grant->signer->rsa) &&
		    RSA_set_ex_data(rsa, rsa_index, grant) && EVP_PKEY_assign_RSA(key, rsa))
			return key;
	}
	BN_free(n);
	BN_free(e);
	RSA_free(rsa);
	EVP_PKEY_free(key);
	return NULL;
}

static EVP_PKEY *remote_ec(struct grant *grant, const EVP_PKEY *public)
{
	const EC_KEY *from = EVP_PKEY_get0_EC_KEY(public);
	EVP_PKEY *key = EVP_PKEY_new();
	EC_KEY *ec = EC_KEY_new();

	if (key && ec && from && EC_KEY_set_group(ec, EC_KEY_get0_group(from)) &&
	    EC_KEY_set_public_key(ec, EC_KEY_get0_public_key(from)) &&
	    EC_KEY_set_method(ec, grant->signer->ec) && EC_KEY_set_ex_data(ec, ec_index, grant) &&
	    EVP_PKEY_assign_EC_KEY(key, ec))
		return key;
	EC_KEY_free(ec);
	EVP_PKEY_free(key);
	return NULL;
}

static EVP_PKEY *remote_dsa(struct grant *grant, const EVP_PKEY *public)
{
	const DSA *from = EVP_PKEY_get0_DSA(public);
	EVP_PKEY *key = EVP_PKEY_new();
	BIGNUM *p = from ? BN_dup(DSA_get0_p(from)) : NULL;
	BIGNUM *q = from ? BN_dup(DSA_get0_q(from)) : NULL;
	BIGNUM *g = from ? BN_dup(DSA_get0_g(from)) : NULL;
	BIGNUM *y = from ? BN_dup(DSA_get0_pub_key(from)) : NULL;
	DSA *dsa = DSA_new();

	if (dsa && DSA_set0_pqg(dsa, p, q, g))
		p = q = g = NULL;
	if (dsa && !p && y && DSA_set0_key(dsa, y, NULL)) {
		y = NULL;
		if (key && DSA_set_method(dsa, grant->signer->dsa) &&
		    DSA_set_ex_data(dsa, dsa_index, grant) && EVP_PKEY_assign_DSA(key, dsa))
			return key;
	}
	BN_free(p);
	BN_free(q);
	BN_free(g);
	BN_free(y);
	DSA_free(dsa);
	EVP_PKEY_free(key);
	return NULL;
}

static struct grant *grant_find(struct signer *signer, const char *name)
{
	for (size_t i = 0; i < COUNT(grant_names); i++)
		if (strcmp(name, grant_names[i]) == 0)
			return &signer->grants[i];
	return NULL;
}

EVP_PKEY *signer_key(struct signer *signer, const char *name, const void *spki, size_t length,
                     struct error *err)
{
	struct grant *grant = grant_find(signer, name);
	EVP_PKEY *public = public_key_from_der(spki, length), *key = NULL;
	char described[64] = "unknown";

	if (!grant || !public) {
		error_set(err, -EINVAL,
		          grant ? "the public key cannot be read" : "there is no such grant");
		goto out;
	}
	key_describe(public, described, sizeof described);
	if (EVP_PKEY_get_base_id(public) == EVP_PKEY_RSA) {
		key = remote_rsa(grant, public);
	} else if (EVP_PKEY_get_base_id(public) == EVP_PKEY_EC) {
		key = remote_ec(grant, public);
	} else if (EVP_PKEY_get_base_id(public) == EVP_PKEY_DSA) {
		key = remote_dsa(grant, public);
	} else if (EVP_PKEY_get_base_id(public) == EVP_PKEY_ED25519 &&
	           EVP_PKEY_set_ex_data(public, key_index, grant)) {
		key = public;
		public = NULL;
	}
	if (!key)
		error_openssl(err, -EINVAL, "a key of type %s cannot sign here", described);
out:
	EVP_PKEY_free(public);
	return key;
}

/* AlgorithmIdentifier of Ed25519 (RFC 8410 §3). */
static const unsigned char ed25519_algorithm[] = { 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70 };

#define ED25519_SIGNATURE 64

/*
 * The signed form of TBS (LENGTH bytes): SEQUENCE of it, the algorithm and a BIT STRING with
 * Ed25519's signature by KEY. The caller frees *DER (OPENSSL_free).
 */
static int ed25519_signed(const EVP_PKEY *key, const unsigned char *tbs, size_t length,
                          unsigned char **der, size_t *der_length, struct error *err)
{
	static const unsigned char bit_string[] = { 0x03, ED25519_SIGNATURE + 1, 0x00 };
	const struct grant *grant = EVP_PKEY_get_ex_data(key, key_index);
	size_t body = length + sizeof ed25519_algorithm + sizeof bit_string + ED25519_SIGNATURE;
	unsigned char signature[ED25519_SIGNATURE], *at;
	int size;

	if (!grant)
		return error_set(err, -EINVAL, "the Ed25519 key has no private part here");
	size = ask_into(grant->signer, question(grant, "sign", tbs, length), signature,
	                sizeof signature);
	if (size < 0) {
		ERR_clear_error();
		return error_set(err, grant->signer->err.code, "%s", grant->signer->err.text);
	}
	if (size != ED25519_SIGNATURE)
		return error_set(err, -EBADMSG, "the keys process gave no Ed25519 signature");
	size = ASN1_object_size(1, (int)body, V_ASN1_SEQUENCE);
	*der = size > 0 ? OPENSSL_malloc((size_t)size) : NULL;
	if (!*der)
		return error_set(err, -ENOMEM, "out of memory");
	at = *der;
	ASN1_put_object(&at, 1, (int)body, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL);
	memcpy(at, tbs, length);
	at += length;
	memcpy(at, ed25519_algorithm, sizeof ed25519_algorithm);
	at += sizeof ed25519_algorithm;
	memcpy(at, bit_string, sizeof bit_string);
	memcpy(at + sizeof bit_string, signature, sizeof signature);
	*der_length = (size_t)size;
	return 0;
}

static int ed25519_sign_request(const EVP_PKEY *key, X509_REQ *request, struct error *err)
{
	unsigned char *tbs = NULL, *der = NULL;
	const unsigned char *at;
	size_t length = 0;
	int size = i2d_re_X509_REQ_tbs(request, &tbs), r;

	if (size <= 0)
		return error_openssl(err, -EINVAL, "the request cannot be encoded");
	r = ed25519_signed(key, tbs, (size_t)size, &der, &length, err);
	at = der;
	if (r == 0 && !d2i_X509_REQ(&request, &at, (long)length))
		r = error_openssl(err, -EINVAL, "the signed request cannot be read");
	OPENSSL_clear_free(tbs, (size_t)size); /* a challenge password stands in it */
	OPENSSL_clear_free(der, length);
	return r;
}

/* The algorithm stands inside what is signed too, and only signing puts it there: so a key that
 * is thrown away signs first. */
static int ed25519_prepare(X509 *certificate, struct error *err)
{
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	int good = key && X509_sign(certificate, key, NULL) > 0;

	EVP_PKEY_free(key);
	return good ? 0 : error_openssl(err, -EINVAL, "the certificate cannot be signed");
}

static int ed25519_sign_certificate(const EVP_PKEY *key, X509 *certificate, struct error *err)
{
	unsigned char *tbs = NULL, *der = NULL;
	const unsigned char *at;
	size_t length = 0;
	int size, r;

	r = ed25519_prepare(certificate, err);
	if (r < 0)
		return r;
	size = i2d_re_X509_tbs(certificate, &tbs);
	if (size <= 0)
		return error_openssl(err, -EINVAL, "the certificate cannot be encoded");
	r = ed25519_signed(key, tbs, (size_t)size, &der, &length, err);
	at = der;
	if (r == 0 && !d2i_X509(&certificate, &at, (long)length))
		r = error_openssl(err, -EINVAL, "the signed certificate cannot be read");
	OPENSSL_free(tbs);
	OPENSSL_free(der);
	return r;
}

/* What a signature by OpenSSL's own functions came to. */
static int signed_by_openssl(const struct signer *signer, int good, struct error *err)
{
	if (good > 0)
		return 0;
	if (!signer->err.code)
		return error_openssl(err, -EINVAL, "signing failed");
	ERR_clear_error();
	return error_set(err, signer->err.code, "%s", signer->err.text);
}

int signer_sign_request(struct signer *signer, EVP_PKEY *key, X509_REQ *request,
                        const EVP_MD *digest, struct error *err)
{
	signer->err = (struct error){ 0 };
	if (EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519)
		return ed25519_sign_request(key, request, err);
	return signed_by_openssl(signer, X509_REQ_sign(request, key, digest), err);
}

int signer_sign_certificate(struct signer *signer, EVP_PKEY *key, X509 *certificate,
                            const EVP_MD *digest, struct error *err)
{
	signer->err = (struct error){ 0 };
	if (EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519)
		return ed25519_sign_certificate(key, certificate, err);
	return signed_by_openssl(signer, X509_sign(certificate, key, digest), err);
}

int signer_sign_bytes(struct signer *signer, EVP_PKEY *key, const EVP_MD *digest, const void *bytes,
                      size_t length, unsigned char *signature, size_t *size, struct error *err)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	int good;

	signer->err = (struct error){ 0 };
	good = context && EVP_DigestSignInit(context, NULL, digest, NULL, key) == 1 &&
	       EVP_DigestSign(context, signature, size, bytes, length) == 1;
	EVP_MD_CTX_free(context);
	return signed_by_openssl(signer, good, err);
}

bool signer_is_lost(const struct signer *signer)
{
	return signer->lost;
}
