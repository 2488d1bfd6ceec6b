#include "common/x509.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <openssl/cms.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int certificates_to_pem(STACK_OF(X509) * certificates, char **pem, size_t *length)
{
	BIO *out = BIO_new(BIO_s_mem());
	char *bytes;
	long size;
	int r = out ? 0 : -ENOMEM;

	for (int i = 0; r == 0 && i < sk_X509_num(certificates); i++)
		if (!PEM_write_bio_X509(out, sk_X509_value(certificates, i)))
			r = -ENOMEM;
	if (r < 0)
		goto out;
	size = BIO_get_mem_data(out, &bytes);
	*pem = malloc((size_t)size + 1);
	if (!*pem) {
		r = -ENOMEM;
		goto out;
	}
	if (size)
		memcpy(*pem, bytes, (size_t)size);
	(*pem)[size] = 0;
	*length = (size_t)size;
out:
	BIO_free(out);
	ERR_clear_error();
	return r;
}

/* What certificates_read has come to. */
struct reading {
	STACK_OF(X509) * certificates;
	int limit;
	struct error *err;
};

/* Takes over CERTIFICATE. */
static int keep(struct reading *reading, X509 *certificate)
{
	if (sk_X509_num(reading->certificates) >= reading->limit) {
		X509_free(certificate);
		return error_set(reading->err, -EINVAL, "there is more than %d certificate%s in it",
		                 reading->limit, reading->limit == 1 ? "" : "s");
	}
	if (sk_X509_push(reading->certificates, certificate))
		return 0;
	X509_free(certificate);
	return error_set(reading->err, -ENOMEM, "out of memory");
}

bool certificate_is_in(const X509 *certificate, const STACK_OF(X509) * certificates)
{
	for (int i = 0; i < sk_X509_num(certificates); i++)
		if (X509_cmp(sk_X509_value(certificates, i), certificate) == 0)
			return true;
	return false;
}

X509 *certificate_issuer(X509 *certificate, STACK_OF(X509) * issuers)
{
	X509 *found = NULL;

	for (int i = 0; !found && i < sk_X509_num(issuers); i++) {
		X509 *issuer = sk_X509_value(issuers, i);
		EVP_PKEY *key = X509_get0_pubkey(issuer);

		if (key && X509_check_issued(issuer, certificate) == X509_V_OK &&
		    X509_verify(certificate, key) == 1)
			found = issuer;
	}
	ERR_clear_error();
	return found;
}

/*
 * The last certificates that were read: OpenSSL takes 0.15 ms for the public key of each, and a
 * CA's is read again with all that it signed. Nobody who was given one changes it.
 */
static _Thread_local struct {
	uint32_t hash;
	X509 *certificate;
} recent[32];

static uint32_t der_hash(const unsigned char *der, size_t length)
{
	uint32_t hash = 2166136261; /* FNV-1a: what it finds is compared whole */

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ der[i]) * 16777619;
	return hash;
}

/* It is DER, byte by byte. */
static bool certificate_is(X509 *certificate, const unsigned char *der, size_t length)
{
	unsigned char *bytes = NULL;
	int size = i2d_X509(certificate, &bytes);
	bool same = size >= 0 && (size_t)size == length && memcmp(bytes, der, length) == 0;

	OPENSSL_free(bytes);
	return same;
}

X509 *certificate_from_der(const void *der, size_t length, struct error *err)
{
	const unsigned char *at = der;
	uint32_t hash = der_hash(der, length);
	size_t place = hash % COUNT(recent);
	X509 *certificate = recent[place].certificate;

	if (certificate && recent[place].hash == hash && certificate_is(certificate, der, length)) {
		X509_up_ref(certificate);
		return certificate;
	}
	certificate = length > LONG_MAX ? NULL : d2i_X509(NULL, &at, (long)length);
	if (!certificate) {
		error_openssl(err, -EINVAL, "it is no certificate that can be read");
		return NULL;
	}
	if (at != (const unsigned char *)der + length) {
		error_set(err, -EINVAL, "there are %zu bytes behind the certificate",
		          length - (size_t)(at - (const unsigned char *)der));
		X509_free(certificate);
		return NULL;
	}
	X509_free(recent[place].certificate);
	X509_up_ref(certificate);
	recent[place].certificate = certificate;
	recent[place].hash = hash;
	return certificate;
}

/* The certificates of a PKCS#7 SignedData (RFC 5652 §5.1); -ENOENT where DER is none. */
static int read_pkcs7(struct reading *reading, const unsigned char *der, size_t length)
{
	const unsigned char *at = der;
	CMS_ContentInfo *cms = d2i_CMS_ContentInfo(NULL, &at, (long)length);
	STACK_OF(X509) *found = NULL;
	X509 *certificate;
	int r = -ENOENT;

	if (!cms || at != der + length || OBJ_obj2nid(CMS_get0_type(cms)) != NID_pkcs7_signed)
		goto out;
	found = CMS_get1_certs(cms);
	for (r = 0; r == 0 && (certificate = sk_X509_shift(found));)
		r = keep(reading, certificate);
out:
	sk_X509_pop_free(found, X509_free);
	CMS_ContentInfo_free(cms);
	ERR_clear_error();
	return r;
}

static int read_der(struct reading *reading, const unsigned char *der, size_t length)
{
	X509 *certificate;
	int r = read_pkcs7(reading, der, length);

	if (r != -ENOENT)
		return r;
	certificate = certificate_from_der(der, length, reading->err);
	return certificate ? keep(reading, certificate) : -EINVAL;
}

static bool ends_with(const char *text, const char *end)
{
	size_t length = strlen(text), size = strlen(end);

	return length >= size && strcmp(text + length - size, end) == 0;
}

/* One PEM block; those of no interest are passed over. */
static int read_block(struct reading *reading, const char *name, const unsigned char *der,
                      size_t length)
{
	X509 *certificate;
	int r;

	if (ends_with(name, "PRIVATE KEY"))
		return error_set(reading->err, -EINVAL,
		                 "there is a private key among the certificates");
	if (strcmp(name, PEM_STRING_PKCS7) == 0 || strcmp(name, PEM_STRING_PKCS7_SIGNED) == 0 ||
	    strcmp(name, PEM_STRING_CMS) == 0) {
		r = read_pkcs7(reading, der, length);
		return r == -ENOENT
		               ? error_set(reading->err, -EINVAL, "its PKCS#7 block can't be read")
		               : r;
	}
	if (strcmp(name, PEM_STRING_X509) != 0 && strcmp(name, PEM_STRING_X509_OLD) != 0)
		return 0;
	certificate = certificate_from_der(der, length, reading->err);
	return certificate ? keep(reading, certificate) : -EINVAL;
}

static int read_pem(struct reading *reading, const char *text, size_t length)
{
	BIO *in = BIO_new_mem_buf(text, (int)length);
	int r = in ? 0 : error_set(reading->err, -ENOMEM, "out of memory");

	while (r == 0) {
		char *name = NULL, *header = NULL;
		unsigned char *der = NULL;
		long size = 0;

		if (!PEM_read_bio(in, &name, &header, &der, &size)) {
			if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
				r = error_openssl(reading->err, -EINVAL,
				                  "PEM block %d in it is damaged",
				                  sk_X509_num(reading->certificates) + 1);
			break;
		}
		r = read_block(reading, name, der, (size_t)size);
		OPENSSL_free(name);
		OPENSSL_free(header);
		OPENSSL_clear_free(der, (size_t)size);
	}
	BIO_free(in);
	ERR_clear_error();
	return r;
}

int certificates_read(const void *text, size_t length, int limit, STACK_OF(X509) * *certificates,
                      struct error *err)
{
	static const char bom[] = "\xef\xbb\xbf";
	struct reading reading = { .certificates = sk_X509_new_null(), .limit = limit, .err = err };
	const unsigned char *bytes = text;
	int r;

	if (!reading.certificates)
		return error_set(err, -ENOMEM, "out of memory");
	if (length > INT_MAX)
		r = error_set(err, -EINVAL, "%zu bytes are too many", length);
	else if (length && *bytes == 0x30)
		r = read_der(&reading, bytes, length);
	else if (length >= 3 && memcmp(bytes, bom, 3) == 0)
		r = read_pem(&reading, (const char *)bytes + 3, length - 3);
	else
		r = read_pem(&reading, text, length);
	if (r == 0 && sk_X509_num(reading.certificates) == 0)
		r = error_set(err, -EINVAL, "there is no certificate in it");
	if (r < 0) {
		sk_X509_pop_free(reading.certificates, X509_free);
		return r;
	}
	*certificates = reading.certificates;
	return 0;
}

int certificate_to_der(const X509 *certificate, unsigned char **der, size_t *length)
{
	int size;

	*der = NULL;
	size = i2d_X509(certificate, der);
	if (size <= 0)
		return -ENOMEM;
	*length = (size_t)size;
	return 0;
}

void certificate_add(struct record *record, const char *key, const X509 *certificate)
{
	unsigned char *der = NULL;
	size_t length;

	if (certificate && certificate_to_der(certificate, &der, &length) == 0)
		record_add_bytes(record, key, der, length);
	OPENSSL_free(der);
}

int public_key_to_der(const EVP_PKEY *key, unsigned char **der, size_t *length)
{
	int size;

	*der = NULL;
	size = i2d_PUBKEY(key, der);
	if (size <= 0)
		return -ENOMEM;
	*length = (size_t)size;
	return 0;
}

EVP_PKEY *public_key_from_der(const void *der, size_t length)
{
	const unsigned char *at = der;
	EVP_PKEY *key = length > LONG_MAX ? NULL : d2i_PUBKEY(NULL, &at, (long)length);

	if (key && at == (const unsigned char *)der + length)
		return key;
	EVP_PKEY_free(key);
	ERR_clear_error();
	return NULL;
}

int public_key_id(const void *der, size_t length, unsigned char *id)
{
	const unsigned char *at = der, *bits;
	X509_PUBKEY *public = length > LONG_MAX ? NULL : d2i_X509_PUBKEY(NULL, &at, (long)length);
	int size, r = -EINVAL;

	if (public && X509_PUBKEY_get0_param(NULL, &bits, &size, NULL, public) &&
	    EVP_Digest(bits, (size_t)size, id, NULL, EVP_sha1(), NULL) == 1)
		r = 0;
	X509_PUBKEY_free(public);
	ERR_clear_error();
	return r;
}

int key_describe(const EVP_PKEY *key, char *text, size_t size)
{
	static const struct {
		int type;
		bool sized;
		const char *name;
	} types[] = {
		{ EVP_PKEY_RSA, true, "rsa" },          { EVP_PKEY_RSA_PSS, true, "rsa-pss" },
		{ EVP_PKEY_EC, true, "ecdsa" },         { EVP_PKEY_DSA, true, "dsa" },
		{ EVP_PKEY_ED25519, false, "ed25519" }, { EVP_PKEY_ED448, false, "ed448" },
	};

	for (size_t i = 0; key && i < COUNT(types); i++) {
		if (EVP_PKEY_get_base_id(key) != types[i].type)
			continue;
		if (types[i].sized)
			snprintf(text, size, "%s %d", types[i].name, EVP_PKEY_get_bits(key));
		else
			snprintf(text, size, "%s", types[i].name);
		return 0;
	}
	snprintf(text, size, "unknown");
	return -EINVAL;
}

int fingerprint(const EVP_MD *digest, const void *der, size_t length, char *text)
{
	unsigned char hash[EVP_MAX_MD_SIZE];
	unsigned size;

	if (!EVP_Digest(der, length, hash, &size, digest, NULL))
		return -EINVAL;
	for (unsigned i = 0; i < size; i++)
		snprintf(text + 3 * i, 4, i + 1 < size ? "%02X:" : "%02X", hash[i]);
	return 0;
}

bool fingerprint_same(const char *one, const char *other)
{
	size_t digits = 0;

	for (;; one++, other++) {
		one += strspn(one, ":");
		other += strspn(other, ":");
		if (!*one || !*other)
			return !*one && !*other && digits > 0 && digits % 2 == 0;
		if (!isxdigit((unsigned char)*one) ||
		    tolower((unsigned char)*one) != tolower((unsigned char)*other))
			return false;
		digits++;
	}
}

int64_t asn1_time_seconds(const ASN1_TIME *time)
{
	struct tm tm = { 0 };

	if (!time || !ASN1_TIME_to_tm(time, &tm)) {
		ERR_clear_error();
		return -1;
	}
	return timegm(&tm);
}

bool certificate_is_valid_at(const X509 *certificate, int64_t now)
{
	return asn1_time_seconds(X509_get0_notBefore(certificate)) <= now &&
	       asn1_time_seconds(X509_get0_notAfter(certificate)) >= now;
}

void rfc3339(int64_t seconds, char *text)
{
	time_t time = seconds;
	struct tm tm;

	if (!gmtime_r(&time, &tm) || !strftime(text, RFC3339_MAX, "%Y-%m-%dT%H:%M:%SZ", &tm))
		snprintf(text, RFC3339_MAX, "unknown");
}

int64_t rfc3339_seconds(const char *text)
{
	struct tm tm = { 0 };
	const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);

	if (!end)
		return -1;
	if (*end == '.')
		end += 1 + strspn(end + 1, "0123456789");
	return strcmp(end, "Z") == 0 ? timegm(&tm) : -1;
}

static void describe_name(struct record *status, const char *key, const X509_NAME *name)
{
	char *text = dn_text(name);

	record_add(status, key, text ? text : "unknown");
	free(text);
}

static void describe_serial(struct record *status, const X509 *certificate)
{
	BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), NULL);
	char *text = number ? BN_bn2hex(number) : NULL;

	record_add(status, "serial", text ? text : "unknown");
	OPENSSL_free(text);
	BN_free(number);
}

static void describe_time(struct record *status, const char *key, const ASN1_TIME *time)
{
	char text[RFC3339_MAX];
	int64_t seconds = asn1_time_seconds(time);

	rfc3339(seconds, text);
	record_add(status, key, seconds == -1 ? "unknown" : text);
}

void certificate_describe(const X509 *certificate, struct record *status)
{
	char text[FINGERPRINT_MAX] = "unknown";
	unsigned char *der = NULL;
	size_t length;

	describe_name(status, "subject", X509_get_subject_name(certificate));
	describe_name(status, "issuer", X509_get_issuer_name(certificate));
	describe_serial(status, certificate);
	describe_time(status, "not-before", X509_get0_notBefore(certificate));
	describe_time(status, "not-after", X509_get0_notAfter(certificate));
	if (certificate_to_der(certificate, &der, &length) == 0)
		fingerprint(EVP_sha256(), der, length, text);
	record_add(status, "fingerprint-sha256", text);
	OPENSSL_free(der);
	key_describe(X509_get0_pubkey(certificate), text, sizeof text);
	record_add(status, "key", text);
	ERR_clear_error();
}
