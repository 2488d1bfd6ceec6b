#include "enroll/acme_jws.h"

#include <errno.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>

#define COORDINATE 32 /* bytes of a P-256 coordinate, and of half a signature */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

char *base64url(const void *bytes, size_t length)
{
	char *text = malloc(4 * ((length + 2) / 3) + 1);
	size_t used;

	if (!text)
		return NULL;
	used = (size_t)EVP_EncodeBlock((unsigned char *)text, bytes, (int)length);
	while (used && text[used - 1] == '=')
		used--;
	text[used] = '\0';
	for (char *at = text; *at; at++)
		*at = *at == '+' ? '-' : *at == '/' ? '_' : *at;
	return text;
}

bool is_base64url(const char *text, size_t limit)
{
	size_t length = strspn(text, alphabet);

	return length >= 1 && length <= limit && !text[length];
}

/* TEXT, padded or not, in bytes; the caller frees *BYTES (OPENSSL_clear_free). */
static int from_base64url(const char *text, unsigned char **bytes, size_t *length)
{
	size_t size = strcspn(text, "="), padded = (size + 3) / 4 * 4;
	char *copy = OPENSSL_malloc(padded + 1);
	int got = -1;

	*bytes = OPENSSL_malloc(padded / 4 * 3 + 1);
	if (copy && *bytes) {
		snprintf(copy, padded + 1, "%.*s%.*s", (int)size, text, (int)(padded - size),
		         "===");
		for (char *at = copy; *at; at++)
			*at = *at == '-' ? '+' : *at == '_' ? '/' : *at;
		got = EVP_DecodeBlock(*bytes, (unsigned char *)copy, (int)padded);
	}
	OPENSSL_clear_free(copy, padded + 1);
	*length = got < 0 ? 0 : (size_t)got - (padded - size);
	if (got >= 0)
		return 0;
	OPENSSL_free(*bytes);
	*bytes = NULL;
	return -EINVAL;
}

/* The coordinates in the SPKI of a P-256 key: a bit string of 04, X, Y. */
static const unsigned char *point_of(X509_PUBKEY *public)
{
	const unsigned char *point = NULL;
	int length = 0;

	if (!public || !X509_PUBKEY_get0_param(NULL, &point, &length, NULL, public) ||
	    length != 1 + 2 * COORDINATE || point[0] != POINT_CONVERSION_UNCOMPRESSED)
		return NULL;
	return point + 1;
}

static int make_jwk(struct jws_key *key, const unsigned char *point, struct error *err)
{
	char *x = base64url(point, COORDINATE), *y = base64url(point + COORDINATE, COORDINATE);
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned size = 0;
	char *thumbprint = NULL;

	if (!x || !y ||
	    asprintf(&key->jwk, "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"%s\",\"y\":\"%s\"}", x,
	             y) < 0)
		key->jwk = NULL;
	free(x);
	free(y);
	if (key->jwk &&
	    EVP_Digest(key->jwk, strlen(key->jwk), digest, &size, EVP_sha256(), NULL) == 1)
		thumbprint = base64url(digest, size);
	if (!thumbprint)
		return error_set(err, -ENOMEM, "no memory for the account key");
	snprintf(key->thumbprint, sizeof key->thumbprint, "%s", thumbprint);
	free(thumbprint);
	return 0;
}

int jws_key_read(struct signer *signer, const char *grant, const void *spki, size_t length,
                 struct jws_key *key, struct error *err)
{
	const unsigned char *at = spki, *point;
	X509_PUBKEY *public = d2i_X509_PUBKEY(NULL, &at, (long)length);
	int r;

	*key = (struct jws_key){ .signer = signer };
	point = point_of(public);
	if (!point)
		r = error_openssl(err, -EINVAL, "the account key is not one of P-256");
	else
		r = make_jwk(key, point, err);
	X509_PUBKEY_free(public);
	if (r == 0)
		key->key = signer_key(signer, grant, spki, length, err);
	if (r == 0 && !key->key)
		r = -EINVAL;
	if (r < 0)
		jws_key_clear(key);
	return r;
}

void jws_key_clear(struct jws_key *key)
{
	EVP_PKEY_free(key->key);
	free(key->jwk);
	key->key = NULL;
	key->jwk = NULL;
}

/* R and S behind each other (RFC 7518 §3.4), base64url. */
static char *raw_signature(const unsigned char *der, size_t length)
{
	const unsigned char *at = der;
	ECDSA_SIG *signature = d2i_ECDSA_SIG(NULL, &at, (long)length);
	unsigned char raw[2 * COORDINATE];
	const BIGNUM *r, *s;
	char *text = NULL;

	if (!signature)
		return NULL;
	ECDSA_SIG_get0(signature, &r, &s);
	if (BN_bn2binpad(r, raw, COORDINATE) == COORDINATE &&
	    BN_bn2binpad(s, raw + COORDINATE, COORDINATE) == COORDINATE)
		text = base64url(raw, sizeof raw);
	ECDSA_SIG_free(signature);
	return text;
}

static char *sign_account(const struct jws_key *key, const char *input, struct error *err)
{
	unsigned char der[128];
	size_t length = sizeof der;
	char *text;

	if (signer_sign_bytes(key->signer, key->key, EVP_sha256(), input, strlen(input), der,
	                      &length, err) < 0)
		return NULL;
	text = raw_signature(der, length);
	if (!text)
		error_openssl(err, -EIO, "the account key's signature cannot be read");
	return text;
}

static char *sign_secret(const char *secret, const char *input, struct error *err)
{
	unsigned char mac[EVP_MAX_MD_SIZE], *bytes = NULL;
	unsigned size = 0;
	size_t length;
	char *text = NULL;

	if (from_base64url(secret, &bytes, &length) == 0 &&
	    HMAC(EVP_sha256(), bytes, (int)length, (const unsigned char *)input, strlen(input), mac,
	         &size))
		text = base64url(mac, size);
	OPENSSL_clear_free(bytes, length);
	if (!text)
		error_openssl(err, -EINVAL, "acme-eab-key cannot be used");
	return text;
}

/* HEADER is taken over. SECRET NULL: signed by KEY. */
static char *assemble(const struct jws_key *key, const char *secret, json_t *header,
                      const char *payload, struct error *err)
{
	char *head = header ? json_dumps(header, JSON_COMPACT) : NULL;
	char *first = head ? base64url(head, strlen(head)) : NULL;
	char *second = base64url(payload, strlen(payload));
	char *input = NULL, *third = NULL, *whole = NULL;

	if (!first || !second || asprintf(&input, "%s.%s", first, second) < 0) {
		input = NULL;
		error_set(err, -ENOMEM, "no memory for a request");
	} else {
		third = secret ? sign_secret(secret, input, err) : sign_account(key, input, err);
	}
	if (third &&
	    asprintf(&whole, "{\"protected\":\"%s\",\"payload\":\"%s\",\"signature\":\"%s\"}",
	             first, second, third) < 0) {
		whole = NULL;
		error_set(err, -ENOMEM, "no memory for a request");
	}
	json_decref(header);
	free(head);
	free(first);
	free(second);
	free(third);
	free(input);
	return whole;
}

char *jws_make(const struct jws_key *key, const char *kid, const char *nonce, const char *url,
               const char *payload, struct error *err)
{
	json_t *header = json_pack("{s:s, s:s*, s:s}", "alg", "ES256", "nonce", nonce, "url", url);

	if (header && kid)
		json_object_set_new(header, "kid", json_string(kid));
	else if (header)
		json_object_set_new(header, "jwk", json_loads(key->jwk, 0, NULL));
	return assemble(key, NULL, header, payload, err);
}

char *jws_bind(const struct jws_key *key, const char *kid, const char *secret, const char *url,
               struct error *err)
{
	json_t *header = json_pack("{s:s, s:s, s:s}", "alg", "HS256", "kid", kid, "url", url);

	return assemble(key, secret, header, key->jwk, err);
}
