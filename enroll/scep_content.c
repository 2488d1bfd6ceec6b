/* What SCEP messages carry: envelopes, certs-only content, names of certificates. */
#include "enroll/certs_only.h"
#include "enroll/scep_message.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pkcs7.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <string.h>

/* One sentence for whatever goes wrong from the key to the first byte of the content: a wrong
 * key gives good padding once in 256 times, and nobody is to learn which of them it was. */
static int not_decrypted(struct error *err)
{
	return error_set(err, -EBADMSG, "the answer cannot be decrypted");
}

/* --- envelopes --- */

static bool cipher_allowed(int nid)
{
	return nid == NID_aes_128_cbc || nid == NID_aes_192_cbc || nid == NID_aes_256_cbc ||
	       nid == NID_des_ede3_cbc || nid == NID_des_cbc;
}

static bool is_recipient(const PKCS7_RECIP_INFO *recipient, X509 *certificate)
{
	const PKCS7_ISSUER_AND_SERIAL *id = recipient->issuer_and_serial;

	return OBJ_obj2nid(recipient->key_enc_algor->algorithm) == NID_rsaEncryption &&
	       X509_NAME_cmp(id->issuer, X509_get_issuer_name(certificate)) == 0 &&
	       ASN1_INTEGER_cmp(id->serial, X509_get0_serialNumber(certificate)) == 0;
}

/*
 * Reads DER as PKCS#7 1.5, whose EnvelopedData knows nothing but a key transported to an
 * issuer and serial number: passwords, key agreement and AuthEnvelopedData do not even parse.
 */
static PKCS7 *read_envelope(const unsigned char *der, size_t length, OSSL_LIB_CTX *context,
                            X509 *certificate, int *cipher)
{
	PKCS7 *envelope = PKCS7_new_ex(context, NULL);
	const unsigned char *at = der;
	STACK_OF(PKCS7_RECIP_INFO) * recipients;
	PKCS7_ENC_CONTENT *sealed;

	if (!envelope || !d2i_PKCS7(&envelope, &at, (long)length) || at != der + length ||
	    !PKCS7_type_is_enveloped(envelope) || !envelope->d.enveloped)
		goto fail;
	recipients = envelope->d.enveloped->recipientinfo;
	sealed = envelope->d.enveloped->enc_data;
	if (sk_PKCS7_RECIP_INFO_num(recipients) != 1 || !sealed->enc_data ||
	    !is_recipient(sk_PKCS7_RECIP_INFO_value(recipients, 0), certificate))
		goto fail;
	*cipher = OBJ_obj2nid(sealed->algorithm->algorithm);
	if (cipher_allowed(*cipher))
		return envelope;
fail:
	PKCS7_free(envelope);
	return NULL;
}

int scep_envelope_open(const void *der, size_t length, OSSL_LIB_CTX *context, X509 *certificate,
                       EVP_PKEY *key, unsigned char **content, size_t *content_length, int *cipher,
                       struct error *err)
{
	PKCS7 *envelope = read_envelope(der, length, context, certificate, cipher);
	BIO *out = BIO_new(BIO_s_mem());
	char *bytes = NULL;
	long size = 0;

	if (envelope && out && PKCS7_decrypt(envelope, key, certificate, out, PKCS7_BINARY) == 1)
		size = BIO_get_mem_data(out, &bytes);
	*content = size > 0 ? OPENSSL_memdup(bytes, (size_t)size) : NULL;
	*content_length = (size_t)size;
	PKCS7_free(envelope);
	BIO_free(out);
	ERR_clear_error();
	return *content ? 0 : not_decrypted(err);
}

/* --- certs-only --- */

int scep_content_read(const void *der, size_t length, STACK_OF(X509) * *certificates,
                      unsigned char **crl_der, size_t *crl_length, struct error *err)
{
	PKCS7 *bundle = NULL;
	PKCS7_SIGNED *content = certs_only_open(&bundle, der, length);
	int size, r = 0;

	if (!content) {
		r = not_decrypted(err);
	} else if (certificates) {
		r = certs_only_take(content, certificates, err);
	} else if (sk_X509_CRL_num(content->crl) < 1) {
		r = error_set(err, -EBADMSG, "the answer holds no CRL");
	} else {
		*crl_der = NULL;
		size = i2d_X509_CRL(sk_X509_CRL_value(content->crl, 0), crl_der);
		*crl_length = (size_t)size;
		r = size > 0 ? 0 : error_set(err, -ENOMEM, "no memory");
	}
	PKCS7_free(bundle);
	ERR_clear_error();
	return r;
}

/* --- the CA's certificates --- */

static bool is_ca(X509 *certificate)
{
	return X509_get_extension_flags(certificate) & EXFLAG_CA;
}

static bool issued(X509 *issuer, X509 *subject)
{
	return issuer != subject && X509_check_issued(issuer, subject) == X509_V_OK;
}

/*
 * How near CANDIDATE is to being the CA that enrolls: the issuer of an RA certificate, else one
 * that issued no other CA here, else any CA.
 */
static int rank(X509 *candidate, STACK_OF(X509) * all)
{
	bool issues_ra = false, issues_ca = false;

	if (!is_ca(candidate))
		return 0;
	for (int i = 0; i < sk_X509_num(all); i++) {
		X509 *other = sk_X509_value(all, i);

		if (issued(candidate, other) && !is_ca(other))
			issues_ra = true;
		else if (issued(candidate, other) && !issued(other, candidate))
			issues_ca = true;
	}
	return issues_ra ? 3 : issues_ca ? 1 : 2;
}

static X509 *find_ca(STACK_OF(X509) * all)
{
	X509 *best = NULL;
	int best_rank = 0;

	for (int i = 0; i < sk_X509_num(all); i++) {
		int r = rank(sk_X509_value(all, i), all);

		if (r > best_rank) {
			best = sk_X509_value(all, i);
			best_rank = r;
		}
	}
	return best;
}

/* ALL in the order CA, RAs, other CAs; references are taken. */
static STACK_OF(X509) * in_order(STACK_OF(X509) * all, X509 *ca)
{
	STACK_OF(X509) *sorted = sk_X509_new_null();
	int ok = sorted && X509_add_cert(sorted, ca, X509_ADD_FLAG_UP_REF);

	for (int pass = 0; pass < 2; pass++)
		for (int i = 0; ok && i < sk_X509_num(all); i++) {
			X509 *certificate = sk_X509_value(all, i);

			if (certificate != ca && is_ca(certificate) == (pass == 1))
				ok = X509_add_cert(sorted, certificate,
				                   X509_ADD_FLAG_UP_REF | X509_ADD_FLAG_NO_DUP);
		}
	if (ok)
		return sorted;
	sk_X509_pop_free(sorted, X509_free);
	return NULL;
}

static STACK_OF(X509) * read_single(const unsigned char *body, size_t length)
{
	const unsigned char *at = body;
	X509 *certificate = d2i_X509(NULL, &at, (long)length);
	STACK_OF(X509) *stack = certificate && at == body + length ? sk_X509_new_null() : NULL;

	if (stack && sk_X509_push(stack, certificate))
		return stack;
	X509_free(certificate);
	sk_X509_free(stack);
	ERR_clear_error();
	return NULL;
}

static int not_certificates(const unsigned char *body, size_t length, struct error *err)
{
	size_t at = 0;

	while (at < length && body[at] <= ' ')
		at++;
	if (at < length && body[at] == '<')
		return error_set(err, -EBADMSG,
		                 "GetCACert gave an HTML page, not a certificate: is the "
		                 "enrollment-url right?");
	return error_set(err, -EBADMSG,
	                 "what GetCACert gave (%zu bytes) is neither a certificate nor a bundle",
	                 length);
}

bool scep_is_ra_of(X509 *ra, X509 *ca)
{
	bool signed_by = X509_check_issued(ca, ra) == X509_V_OK &&
	                 X509_verify(ra, X509_get0_pubkey(ca)) == 1;

	ERR_clear_error();
	return signed_by;
}

/* Who confirms the CA's fingerprint confirms its RAs with it: only its signature makes them so.
 * A certificate that bears its name alone would get the challenges. */
static int check_ras(STACK_OF(X509) * all, X509 *ca, struct error *err)
{
	for (int i = 0; i < sk_X509_num(all); i++) {
		X509 *certificate = sk_X509_value(all, i);

		if (!is_ca(certificate) && !scep_is_ra_of(certificate, ca))
			return error_set(err, -EBADMSG,
			                 "GetCACert gave an RA certificate that the CA did not "
			                 "sign");
	}
	return 0;
}

int scep_ca_certificates(const void *body, size_t length, STACK_OF(X509) * *certificates,
                         struct error *err)
{
	STACK_OF(X509) *all = read_single(body, length);
	PKCS7 *bundle = NULL;
	PKCS7_SIGNED *content = all ? NULL : certs_only_open(&bundle, body, length);
	X509 *ca;
	int r = 0;

	if (content)
		r = certs_only_take(content, &all, err);
	else if (!all)
		r = not_certificates(body, length, err);
	if (r < 0)
		goto out;
	ca = find_ca(all);
	if (!ca) {
		r = error_set(err, -EBADMSG, "GetCACert gave no CA certificate");
		goto out;
	}
	r = check_ras(all, ca, err);
	if (r < 0)
		goto out;
	*certificates = in_order(all, ca);
	if (!*certificates)
		r = error_set(err, -ENOMEM, "no memory");
out:
	sk_X509_pop_free(all, X509_free);
	PKCS7_free(bundle);
	ERR_clear_error();
	return r;
}

/* --- roles --- */

static bool has_rsa(X509 *certificate)
{
	EVP_PKEY *key = X509_get0_pubkey(certificate);

	return key && EVP_PKEY_is_a(key, "RSA");
}

X509 *scep_recipient(X509 *ca, STACK_OF(X509) * ras, struct error *err)
{
	for (int i = 0; i < sk_X509_num(ras); i++) {
		X509 *ra = sk_X509_value(ras, i);

		if (has_rsa(ra) && X509_get_key_usage(ra) & KU_KEY_ENCIPHERMENT)
			return ra;
	}
	if (has_rsa(ca))
		return ca;
	error_set(err, -EINVAL,
	          "the CA's key is not RSA and no RA certificate is for encryption: "
	          "SCEP cannot reach it");
	return NULL;
}

STACK_OF(X509) * scep_signers(X509 *ca, STACK_OF(X509) * ras)
{
	STACK_OF(X509) *signers = sk_X509_new_null();
	int ok = signers && X509_add_cert(signers, ca, X509_ADD_FLAG_UP_REF);

	for (int i = 0; ok && i < sk_X509_num(ras); i++) {
		X509 *ra = sk_X509_value(ras, i);

		if (X509_get_key_usage(ra) & (KU_DIGITAL_SIGNATURE | KU_NON_REPUDIATION))
			ok = X509_add_cert(signers, ra, X509_ADD_FLAG_UP_REF);
	}
	if (ok)
		return signers;
	sk_X509_pop_free(signers, X509_free);
	return NULL;
}

static int set_serial(X509 *certificate)
{
	unsigned char bytes[8];
	BIGNUM *number = NULL;
	int ok = RAND_bytes(bytes, sizeof bytes) == 1;

	bytes[0] = (unsigned char)((bytes[0] & 0x3f) | 0x40);
	number = ok ? BN_bin2bn(bytes, sizeof bytes, NULL) : NULL;
	ok = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate));
	BN_free(number);
	return ok;
}

X509 *scep_self_signed(const X509_NAME *subject, EVP_PKEY *key, int64_t now, const EVP_MD *digest,
                       struct error *err)
{
	const time_t day = 86400;
	X509 *certificate = X509_new();

	if (certificate && X509_set_version(certificate, X509_VERSION_3) &&
	    set_serial(certificate) &&
	    ASN1_TIME_adj(X509_getm_notBefore(certificate), (time_t)now - day, 0, 0) &&
	    ASN1_TIME_adj(X509_getm_notAfter(certificate), (time_t)now + 365 * day, 0, 0) &&
	    X509_set_subject_name(certificate, subject) &&
	    X509_set_issuer_name(certificate, subject) && X509_set_pubkey(certificate, key) &&
	    X509_sign(certificate, key, digest))
		return certificate;
	error_openssl(err, -EIO, "cannot make the certificate that signs the request");
	X509_free(certificate);
	return NULL;
}

int scep_issuer_and_subject(const X509_NAME *issuer, const X509_NAME *subject, unsigned char **der,
                            size_t *length, struct error *err)
{
	int inner = i2d_X509_NAME(issuer, NULL) + i2d_X509_NAME(subject, NULL);
	int size = ASN1_object_size(1, inner, V_ASN1_SEQUENCE);
	unsigned char *at = size > 0 ? OPENSSL_malloc((size_t)size) : NULL;

	if (!at)
		return error_set(err, -ENOMEM, "no memory");
	*der = at;
	*length = (size_t)size;
	ASN1_put_object(&at, 1, inner, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL);
	i2d_X509_NAME(issuer, &at);
	i2d_X509_NAME(subject, &at);
	return 0;
}

int scep_issuer_and_serial(X509 *certificate, unsigned char **der, size_t *length,
                           struct error *err)
{
	PKCS7_ISSUER_AND_SERIAL *id = PKCS7_ISSUER_AND_SERIAL_new();
	int size = -1;

	*der = NULL;
	if (id && X509_NAME_set(&id->issuer, X509_get_issuer_name(certificate)) &&
	    ASN1_STRING_copy(id->serial, X509_get0_serialNumber(certificate)))
		size = i2d_PKCS7_ISSUER_AND_SERIAL(id, der);
	PKCS7_ISSUER_AND_SERIAL_free(id);
	*length = (size_t)size;
	return size > 0 ? 0 : error_set(err, -ENOMEM, "no memory");
}
