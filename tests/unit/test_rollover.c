#include "common/x509.h"
#include "pkifs/rollover.h"

#include <openssl/cms.h>
#include <openssl/pkcs7.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static EVP_PKEY *ca_key, *other_key;
static X509 *ca, *other, *next;

static X509 *certificate(const char *name, EVP_PKEY *key)
{
	X509 *new = X509_new();
	X509_NAME *subject = NULL;

	assert_int_equal(dn_parse(name, NULL, &subject, NULL), 0);
	X509_set_version(new, X509_VERSION_3);
	X509_set_subject_name(new, subject);
	X509_set_issuer_name(new, subject);
	ASN1_INTEGER_set(X509_get_serialNumber(new), 1);
	X509_gmtime_adj(X509_getm_notBefore(new), 0);
	X509_gmtime_adj(X509_getm_notAfter(new), 86400);
	X509_set_pubkey(new, key);
	assert_true(X509_sign(new, key, EVP_sha256()));
	X509_NAME_free(subject);
	return new;
}

static int begin(void **state)
{
	(void)state;
	ca_key = EVP_RSA_gen(2048);
	other_key = EVP_RSA_gen(2048);
	ca = certificate("CN=CA", ca_key);
	other = certificate("CN=CA", other_key); /* the same name and serial number */
	next = certificate("CN=CA", other_key);
	return 0;
}

static int end(void **state)
{
	(void)state;
	EVP_PKEY_free(ca_key);
	EVP_PKEY_free(other_key);
	X509_free(ca);
	X509_free(other);
	X509_free(next);
	return 0;
}

/* A certs-only message with CERTIFICATE. */
static BIO *certs_only(X509 *certificate_in)
{
	BIO *out = BIO_new(BIO_s_mem());
	PKCS7 *message = PKCS7_new();

	assert_true(PKCS7_set_type(message, NID_pkcs7_signed));
	assert_true(PKCS7_content_new(message, NID_pkcs7_data));
	assert_true(PKCS7_add_certificate(message, certificate_in));
	assert_true(i2d_PKCS7_bio(out, message));
	PKCS7_free(message);
	return out;
}

/* Whether an answer with NEXT, which SIGNER signs, vouches for WHOM. */
static bool vouches(X509 *signer, EVP_PKEY *key, const EVP_MD *digest, X509 *second,
                    const X509 *whom, bool legacy)
{
	BIO *content = certs_only(next);
	CMS_ContentInfo *cms = CMS_sign(NULL, NULL, NULL, content, CMS_BINARY | CMS_PARTIAL);
	struct field answer = { 0 };
	unsigned char *der = NULL;
	bool vouched;

	assert_non_null(CMS_add1_signer(cms, signer, key, digest, CMS_BINARY));
	if (second)
		assert_non_null(CMS_add1_signer(cms, second, other_key, digest, CMS_BINARY));
	assert_true(CMS_final(cms, content, NULL, CMS_BINARY));
	answer.length = (size_t)i2d_CMS_ContentInfo(cms, &der);
	answer.value = (char *)der;
	vouched = rollover_answer_vouches(&answer, ca, whom, legacy);
	der[answer.length - 1] ^= 1; /* the signature's last byte */
	assert_false(rollover_answer_vouches(&answer, ca, whom, legacy));
	OPENSSL_free(der);
	CMS_ContentInfo_free(cms);
	BIO_free(content);
	return vouched;
}

static void the_ca_vouches_for_what_it_signed(void **state)
{
	(void)state;
	assert_true(vouches(ca, ca_key, EVP_sha256(), NULL, next, false));
	assert_true(vouches(ca, ca_key, EVP_sha512(), NULL, next, false));
	assert_false(vouches(ca, ca_key, EVP_sha256(), NULL, ca, false));
}

static void nobody_else_vouches_whatever_name_is_used(void **state)
{
	(void)state;
	assert_false(vouches(other, other_key, EVP_sha256(), NULL, next, false));
	assert_false(vouches(ca, ca_key, EVP_sha256(), other, next, false));
}

static void a_weak_digest_vouches_for_nothing(void **state)
{
	(void)state;
	assert_false(vouches(ca, ca_key, EVP_sha1(), NULL, next, false));
	assert_true(vouches(ca, ca_key, EVP_sha1(), NULL, next, true));
	assert_false(vouches(ca, ca_key, EVP_md5(), NULL, next, true));
}

static void what_is_no_answer_vouches_for_nothing(void **state)
{
	char number[] = "\x30\x03\x02\x01\x05";
	struct field answer = { .value = number, .length = 5 };
	BIO *bare = certs_only(next); /* without a signature */
	char *bytes;

	(void)state;
	assert_false(rollover_answer_vouches(&answer, ca, next, true));
	answer.length = (size_t)BIO_get_mem_data(bare, &bytes);
	answer.value = bytes;
	assert_false(rollover_answer_vouches(&answer, ca, next, true));
	BIO_free(bare);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_ca_vouches_for_what_it_signed),
		cmocka_unit_test(nobody_else_vouches_whatever_name_is_used),
		cmocka_unit_test(a_weak_digest_vouches_for_nothing),
		cmocka_unit_test(what_is_no_answer_vouches_for_nothing),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
