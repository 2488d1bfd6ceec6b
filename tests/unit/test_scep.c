#include "enroll/certs_only.h"
#include "enroll/scep_message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <openssl/cms.h>
#include <openssl/err.h>
#include <openssl/pkcs7.h>
#include <openssl/provider.h>
#include <openssl/x509v3.h>
#include <string.h>

static const unsigned char nonce[SCEP_NONCE_LENGTH] = "0123456789abcde";
static const char transaction_id[] = "00112233445566778899AABBCCDDEEFF";

static EVP_PKEY *ca_key, *ra_key, *own_key;
static X509 *ca, *ra_signs, *ra_decrypts, *end_entity, *own;
static OSSL_LIB_CTX *legacy;
static OSSL_PROVIDER *providers[2];

/* --- certificates --- */

static void add_extension(X509 *certificate, int nid, const char *value)
{
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

	assert_non_null(extension);
	assert_int_equal(X509_add_ext(certificate, extension, -1), 1);
	X509_EXTENSION_free(extension);
}

static X509 *make(const char *name, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key,
                  const char *constraints, const char *usage)
{
	static long serial = 100;
	X509 *certificate = X509_new();
	X509_NAME *subject = X509_NAME_new();

	X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)name, -1,
	                           -1, 0);
	X509_set_version(certificate, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(certificate), ++serial);
	X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
	X509_gmtime_adj(X509_getm_notAfter(certificate), 86400);
	X509_set_subject_name(certificate, subject);
	X509_set_issuer_name(certificate, issuer ? X509_get_subject_name(issuer) : subject);
	X509_set_pubkey(certificate, key);
	add_extension(certificate, NID_basic_constraints, constraints);
	add_extension(certificate, NID_key_usage, usage);
	assert_true(X509_sign(certificate, issuer_key, EVP_sha256()) > 0);
	X509_NAME_free(subject);
	return certificate;
}

static int set_up(void **state)
{
	(void)state;
	legacy = OSSL_LIB_CTX_new();
	providers[0] = OSSL_PROVIDER_load(legacy, "default");
	providers[1] = OSSL_PROVIDER_load(legacy, "legacy");
	assert_non_null(providers[0]);
	assert_non_null(providers[1]);
	ca_key = EVP_RSA_gen(2048);
	ra_key = EVP_RSA_gen(2048);
	own_key = EVP_RSA_gen(2048);
	ca = make("CA", ca_key, NULL, ca_key, "CA:TRUE", "keyCertSign,cRLSign");
	ra_signs = make("RA signs", ra_key, ca, ca_key, "CA:FALSE", "digitalSignature");
	ra_decrypts = make("RA decrypts", ra_key, ca, ca_key, "CA:FALSE", "keyEncipherment");
	end_entity = make("Entity", ra_key, ca, ca_key, "CA:FALSE", "digitalSignature");
	own = make("gw.example.net", own_key, NULL, own_key, "CA:FALSE", "digitalSignature");
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	X509_free(ca);
	X509_free(ra_signs);
	X509_free(ra_decrypts);
	X509_free(end_entity);
	X509_free(own);
	EVP_PKEY_free(ca_key);
	EVP_PKEY_free(ra_key);
	EVP_PKEY_free(own_key);
	OSSL_PROVIDER_unload(providers[0]);
	OSSL_PROVIDER_unload(providers[1]);
	OSSL_LIB_CTX_free(legacy);
	return 0;
}

static STACK_OF(X509) * stack_of(X509 *one, X509 *other)
{
	STACK_OF(X509) *stack = sk_X509_new_null();

	if (one)
		sk_X509_push(stack, one);
	if (other)
		sk_X509_push(stack, other);
	return stack;
}

/* --- capabilities --- */

static unsigned capabilities(const char *text)
{
	return scep_capabilities(text, strlen(text));
}

static void capabilities_are_read_in_any_case_and_line_end(void **state)
{
	(void)state;
	assert_int_equal(capabilities("aes\r\nSha-256\r\npostPKIOperation"),
	                 SCEP_AES | SCEP_SHA256 | SCEP_POST);
	assert_int_equal(capabilities("Renewal\nDES3\n\nwhat-is-this\nSHA-1\n"),
	                 SCEP_RENEWAL | SCEP_DES3 | SCEP_SHA1);
	assert_int_equal(capabilities("SCEPStandard"), SCEP_AES | SCEP_SHA256 | SCEP_POST);
	assert_int_equal(capabilities("AESX DES33 SHA-2567"), 0);
	assert_int_equal(scep_capabilities("AES\0DES3", 8), SCEP_AES | SCEP_DES3);
	assert_int_equal(capabilities(""), 0);
}

static void algorithms_never_go_below_aes_and_sha_256_unasked(void **state)
{
	static const struct {
		const char *offer, *wanted;
		bool legacy;
		int cipher, digest; /* NID_undef: refused */
	} cases[] = {
		{ "", "sha256", false, NID_aes_128_cbc, NID_sha256 },
		{ "POSTPKIOperation Renewal", "sha256", false, NID_aes_128_cbc, NID_sha256 },
		{ "AES SHA-1 SHA-256 SHA-512", "sha512", false, NID_aes_128_cbc, NID_sha512 },
		{ "AES SHA-256", "sha512", false, NID_aes_128_cbc, NID_sha256 },
		{ "AES SHA-384", "sha256", false, NID_aes_128_cbc, NID_sha384 },
		{ "AES DES3 SHA-1 SHA-256", "sha1", true, NID_aes_128_cbc, NID_sha256 },
		{ "DES3 SHA-256", "sha256", false, NID_undef, NID_undef },
		{ "AES SHA-1", "sha256", false, NID_undef, NID_undef },
		{ "AES MD5", "sha256", true, NID_undef, NID_undef },
		{ "DES SHA-1", "sha256", true, NID_undef, NID_undef },
		{ "DES3 SHA-1", "sha256", true, NID_des_ede3_cbc, NID_sha1 },
	};
	struct scep_algorithms chosen;
	struct error err;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		int r = scep_choose(capabilities(cases[i].offer), cases[i].wanted, cases[i].legacy,
		                    &chosen, &err);

		if (cases[i].cipher == NID_undef) {
			assert_int_equal(r, -EINVAL);
			continue;
		}
		assert_int_equal(r, 0);
		assert_int_equal(EVP_CIPHER_get_nid(chosen.cipher), cases[i].cipher);
		assert_int_equal(EVP_MD_get_type(chosen.digest), cases[i].digest);
	}
}

static void a_refusal_names_what_the_ca_offers(void **state)
{
	struct scep_algorithms chosen;
	struct error err;

	(void)state;
	assert_int_equal(scep_choose(SCEP_DES | SCEP_MD5, NULL, false, &chosen, &err), -EINVAL);
	assert_string_equal(err.text, "the CA offers DES, MD5; AES and SHA-256 are needed "
	                              "(allow-legacy = yes permits DES3 and SHA-1)");
}

/* --- messages of ours --- */

static ASN1_STRING *attribute(CMS_SignerInfo *signer, const char *oid, int type)
{
	ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);
	ASN1_STRING *value = CMS_signed_get0_data_by_OBJ(signer, object, -3, type);

	ASN1_OBJECT_free(object);
	return value;
}

static void a_message_is_for_the_recipient_alone_and_signed(void **state)
{
	struct scep_message message = { .type = SCEP_RENEWAL_REQ,
		                        .transaction_id = transaction_id,
		                        .nonce = nonce,
		                        .signer = own,
		                        .key = own_key,
		                        .recipient = ra_decrypts,
		                        .algorithms = { EVP_aes_128_cbc(), EVP_sha256() },
		                        .content = (const unsigned char *)"the request",
		                        .length = 11 };
	unsigned char *der = NULL, *content = NULL;
	const unsigned char *at;
	size_t length, content_length;
	CMS_ContentInfo *cms;
	CMS_SignerInfo *signer;
	BIO *sealed = BIO_new(BIO_s_mem());
	char *bytes;
	int cipher;
	long size;

	(void)state;
	assert_int_equal(scep_message_make(&message, &der, &length, NULL), 0);
	assert_null(memmem(der, length, "the request", 11));
	at = der;
	cms = d2i_CMS_ContentInfo(NULL, &at, (long)length);
	assert_non_null(cms);
	assert_int_equal(
		CMS_verify(cms, NULL, NULL, NULL, sealed, CMS_BINARY | CMS_NO_SIGNER_CERT_VERIFY),
		1);
	signer = sk_CMS_SignerInfo_value(CMS_get0_SignerInfos(cms), 0);
	assert_string_equal(ASN1_STRING_get0_data(attribute(signer, "2.16.840.1.113733.1.9.2",
	                                                    V_ASN1_PRINTABLESTRING)),
	                    "17");
	assert_string_equal(ASN1_STRING_get0_data(attribute(signer, "2.16.840.1.113733.1.9.7",
	                                                    V_ASN1_PRINTABLESTRING)),
	                    transaction_id);
	assert_memory_equal(ASN1_STRING_get0_data(attribute(signer, "2.16.840.1.113733.1.9.5",
	                                                    V_ASN1_OCTET_STRING)),
	                    nonce, sizeof nonce);
	size = BIO_get_mem_data(sealed, &bytes);
	assert_int_equal(scep_envelope_open(bytes, (size_t)size, legacy, ra_decrypts, ra_key,
	                                    &content, &content_length, &cipher, NULL),
	                 0);
	assert_int_equal(cipher, NID_aes_128_cbc);
	assert_int_equal(content_length, 11);
	assert_memory_equal(content, "the request", 11);
	OPENSSL_free(content);
	OPENSSL_free(der);
	CMS_ContentInfo_free(cms);
	BIO_free(sealed);
}

/* --- answers --- */

struct forgery { /* defaults are a good SUCCESS of the CA */
	X509 *signer;
	EVP_PKEY *key;
	const EVP_MD *digest;
	const char *type, *status, *fail, *transaction;
	const unsigned char *nonce;
	size_t nonce_length;
	const char *content;
	const char *text;
};

static struct forgery good(void)
{
	return (struct forgery){ .signer = ca,
		                 .key = ca_key,
		                 .digest = EVP_sha256(),
		                 .type = "3",
		                 .status = "0",
		                 .transaction = transaction_id,
		                 .nonce = nonce,
		                 .nonce_length = sizeof nonce,
		                 .content = "envelope" };
}

static void put(CMS_SignerInfo *signer, const char *oid, int type, const void *value, size_t length)
{
	ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);

	if (value)
		assert_int_equal(
			CMS_signed_add1_attr_by_OBJ(signer, object, type, value, (int)length), 1);
	ASN1_OBJECT_free(object);
}

static void put_text(CMS_SignerInfo *signer, const char *oid, const char *text)
{
	put(signer, oid, V_ASN1_PRINTABLESTRING, text, text ? strlen(text) : 0);
}

static unsigned char *forge(const struct forgery *forgery, size_t *length)
{
	unsigned int flags = CMS_BINARY | CMS_PARTIAL | CMS_NOSMIMECAP;
	BIO *content = BIO_new_mem_buf(forgery->content ? forgery->content : "", -1);
	unsigned char *der = NULL;
	CMS_ContentInfo *cms;
	CMS_SignerInfo *signer;

	if (!forgery->content)
		flags |= CMS_DETACHED;
	cms = CMS_sign(NULL, NULL, NULL, NULL, flags);
	signer = CMS_add1_signer(cms, forgery->signer, forgery->key, forgery->digest, flags);
	assert_non_null(signer);
	put_text(signer, "2.16.840.1.113733.1.9.2", forgery->type);
	put_text(signer, "2.16.840.1.113733.1.9.3", forgery->status);
	put_text(signer, "2.16.840.1.113733.1.9.4", forgery->fail);
	put_text(signer, "2.16.840.1.113733.1.9.7", forgery->transaction);
	put(signer, "2.16.840.1.113733.1.9.6", V_ASN1_OCTET_STRING, forgery->nonce,
	    forgery->nonce_length);
	put(signer, "1.3.6.1.5.5.7.24.1", V_ASN1_UTF8STRING, forgery->text,
	    forgery->text ? strlen(forgery->text) : 0);
	assert_int_equal(CMS_final(cms, content, NULL, flags), 1);
	*length = (size_t)i2d_CMS_ContentInfo(cms, &der);
	CMS_ContentInfo_free(cms);
	BIO_free(content);
	return der;
}

static int read_answer(const unsigned char *der, size_t length, struct scep_answer *answer,
                       struct error *err)
{
	STACK_OF(X509) *signers = stack_of(ca, ra_signs);
	struct scep_expectation expectation = { .transaction_id = transaction_id,
		                                .nonce = nonce,
		                                .signers = signers,
		                                .context = legacy };
	/* exactly as long as it is: a byte beyond is seen under ASan */
	unsigned char *copy = OPENSSL_memdup(der, length);
	int r = scep_answer_read(copy, length, &expectation, answer, err);

	OPENSSL_free(copy);
	sk_X509_free(signers);
	return r;
}

static int judge(const struct forgery *forgery, struct scep_answer *answer, struct error *err)
{
	size_t length;
	unsigned char *der = forge(forgery, &length);
	int r = read_answer(der, length, answer, err);

	OPENSSL_free(der);
	return r;
}

static void answers_of_the_ca_and_of_its_ra_are_taken(void **state)
{
	struct forgery forgery = good();
	struct scep_answer answer;

	(void)state;
	assert_int_equal(judge(&forgery, &answer, NULL), 0);
	assert_int_equal(answer.status, SCEP_SUCCESS);
	assert_int_equal(answer.digest, NID_sha256);
	assert_int_equal(answer.length, 8);
	assert_memory_equal(answer.envelope, "envelope", 8);
	scep_answer_clear(&answer);
	forgery.signer = ra_signs;
	forgery.key = ra_key;
	forgery.digest = EVP_sha1();
	assert_int_equal(judge(&forgery, &answer, NULL), 0);
	assert_int_equal(answer.digest, NID_sha1);
	scep_answer_clear(&answer);
}

static void pending_and_failure_need_no_content(void **state)
{
	struct forgery forgery = good();
	struct scep_answer answer;

	(void)state;
	forgery.content = NULL;
	forgery.status = "3";
	assert_int_equal(judge(&forgery, &answer, NULL), 0);
	assert_int_equal(answer.status, SCEP_PENDING);
	forgery.status = "2";
	forgery.fail = "4";
	forgery.text = "no\nsuch\033[2J";
	assert_int_equal(judge(&forgery, &answer, NULL), 0);
	assert_int_equal(answer.status, SCEP_FAILURE);
	assert_int_equal(answer.fail, 4);
	assert_string_equal(answer.fail_text, "no?such?[2J");
	assert_non_null(strstr(scep_fail_text(4), "badCertId"));
	assert_string_equal(scep_fail_text(9), "it gives no reason");
	assert_string_equal(scep_fail_text(-1), "it gives no reason");
}

static void assert_refused(const struct forgery *forgery, const char *words)
{
	struct scep_answer answer;
	struct error err = { 0 };

	assert_int_equal(judge(forgery, &answer, &err), -EBADMSG);
	if (!strstr(err.text, words))
		fail_msg("\"%s\" does not say \"%s\"", err.text, words);
	assert_null(answer.envelope);
}

static void an_end_entity_of_the_ca_is_no_signer(void **state)
{
	struct forgery forgery = good();

	(void)state;
	forgery.signer = end_entity;
	forgery.key = ra_key;
	assert_refused(&forgery, "neither by the confirmed CA nor by its RA");
}

/* The sender names the CA and signs with another key. */
static void the_cas_name_on_anothers_signature_is_refused(void **state)
{
	X509 *impostor = X509_dup(ca);
	struct forgery forgery = good();

	(void)state;
	X509_set_pubkey(impostor, own_key);
	forgery.signer = impostor;
	forgery.key = own_key;
	assert_refused(&forgery, "signature of the answer is wrong");
	X509_free(impostor);
}

static void what_does_not_belong_to_the_message_is_refused(void **state)
{
	struct forgery forgery = good();

	(void)state;
	forgery.transaction = "FFEEDDCCBBAA99887766554433221100";
	assert_refused(&forgery, "another transaction");
	forgery.transaction = NULL;
	assert_refused(&forgery, "another transaction");
	forgery = good();
	forgery.nonce = (const unsigned char *)"fedcba9876543210";
	assert_refused(&forgery, "recipientNonce");
	forgery.nonce = NULL;
	assert_refused(&forgery, "recipientNonce");
	forgery = good();
	forgery.nonce_length = 8;
	assert_refused(&forgery, "recipientNonce");
	forgery = good();
	forgery.type = "19";
	assert_refused(&forgery, "no CertRep");
	forgery = good();
	forgery.status = "1";
	assert_refused(&forgery, "no pkiStatus");
	forgery.status = NULL;
	assert_refused(&forgery, "no pkiStatus");
	forgery = good();
	forgery.content = NULL;
	assert_refused(&forgery, "carries nothing");
	forgery.content = "";
	assert_refused(&forgery, "carries nothing");
}

static void md5_and_unknown_digests_are_refused(void **state)
{
	static const unsigned char sha256_oid[] = { 0x60, 0x86, 0x48, 0x01, 0x65,
		                                    0x03, 0x04, 0x02, 1 };
	struct forgery forgery = good();
	struct scep_answer answer;
	struct error err;
	size_t length;
	unsigned char *der = forge(&forgery, &length), *at;

	(void)state;
	at = der;
	while ((at = memmem(at, length - (size_t)(at - der), sha256_oid, sizeof sha256_oid)))
		at[sizeof sha256_oid - 1] = 0x7f;
	assert_int_equal(read_answer(der, length, &answer, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "is not taken"));
	OPENSSL_free(der);
	forgery.digest = EVP_md5();
	assert_refused(&forgery, "digest md5");
}

static void a_byte_behind_the_end_and_every_shorter_answer_are_refused(void **state)
{
	struct forgery forgery = good();
	struct scep_answer answer;
	struct error err;
	size_t length;
	unsigned char *der = forge(&forgery, &length), *longer = OPENSSL_zalloc(length + 1);

	(void)state;
	memcpy(longer, der, length);
	assert_int_equal(read_answer(longer, length + 1, &answer, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "behind the end"));
	for (size_t cut = 1; cut < length; cut++)
		assert_int_equal(read_answer(der, cut, &answer, NULL), -EBADMSG);
	OPENSSL_free(longer);
	OPENSSL_free(der);
}

/* Whatever single byte is changed: refused, or the same answer (a byte outside of what counts,
 * such as the unused certificate). */
static void no_changed_byte_changes_the_answer(void **state)
{
	struct forgery forgery = good();
	struct scep_answer answer;
	size_t length;
	unsigned char *der = forge(&forgery, &length);

	(void)state;
	for (size_t i = 0; i < length; i++) {
		der[i] ^= 0x20;
		if (read_answer(der, length, &answer, NULL) == 0) {
			assert_int_equal(answer.status, SCEP_SUCCESS);
			assert_int_equal(answer.length, 8);
			assert_memory_equal(answer.envelope, "envelope", 8);
		}
		scep_answer_clear(&answer);
		der[i] ^= 0x20;
	}
	OPENSSL_free(der);
}

static void a_page_is_called_a_page(void **state)
{
	struct scep_answer answer;
	struct error err;

	(void)state;
	assert_int_equal(read_answer((const unsigned char *)" \n<html>", 8, &answer, &err),
	                 -EBADMSG);
	assert_non_null(strstr(err.text, "HTML page"));
	assert_int_equal(read_answer((const unsigned char *)"", 0, &answer, &err), -EBADMSG);
	assert_string_equal(err.text, "the answer is empty");
}

/* --- envelopes --- */

static unsigned char *seal(X509 *to, const EVP_CIPHER *cipher, const char *text, size_t *length)
{
	BIO *in = BIO_new_mem_buf(text, -1);
	STACK_OF(X509) *recipients = stack_of(to, NULL);
	CMS_ContentInfo *cms = CMS_encrypt(recipients, in, cipher, CMS_BINARY);
	unsigned char *der = NULL;

	assert_non_null(cms);
	*length = (size_t)i2d_CMS_ContentInfo(cms, &der);
	CMS_ContentInfo_free(cms);
	sk_X509_free(recipients);
	BIO_free(in);
	return der;
}

static int open_envelope(const unsigned char *der, size_t length, struct error *err)
{
	unsigned char *content = NULL;
	size_t content_length;
	int cipher;
	int r = scep_envelope_open(der, length, legacy, own, own_key, &content, &content_length,
	                           &cipher, err);

	if (r == 0)
		assert_int_equal(content_length, 10);
	OPENSSL_free(content);
	return r;
}

static void envelopes_that_are_broken_anywhere_fail_with_one_text(void **state)
{
	struct error err = { 0 };
	size_t length;
	unsigned char *der = seal(own, EVP_aes_256_cbc(), "0123456789", &length);
	unsigned failures = 0;

	(void)state;
	assert_int_equal(open_envelope(der, length, &err), 0);
	for (size_t i = 0; i < length; i++) {
		unsigned char *content = NULL;
		size_t content_length;
		int cipher;

		der[i] ^= 0x10;
		if (scep_envelope_open(der, length, legacy, own, own_key, &content, &content_length,
		                       &cipher, &err) < 0) {
			failures++;
			assert_string_equal(err.text, "the answer cannot be decrypted");
		}
		OPENSSL_free(content);
		der[i] ^= 0x10;
	}
	assert_true(failures > length / 2);
	OPENSSL_free(der);
}

static void envelopes_for_others_and_of_other_kinds_are_refused(void **state)
{
	struct error err;
	size_t length;
	unsigned char *der = seal(ra_decrypts, EVP_aes_128_cbc(), "0123456789", &length);

	(void)state;
	assert_int_equal(open_envelope(der, length, &err), -EBADMSG);
	assert_string_equal(err.text, "the answer cannot be decrypted");
	OPENSSL_free(der);
	der = seal(own, EVP_aes_128_gcm(), "0123456789", &length);
	assert_int_equal(open_envelope(der, length, &err), -EBADMSG);
	assert_string_equal(err.text, "the answer cannot be decrypted");
	OPENSSL_free(der);
	der = seal(own, EVP_des_ede3_cbc(), "0123456789", &length);
	assert_int_equal(open_envelope(der, length, &err), 0);
	assert_int_equal(open_envelope(der, length - 1, &err), -EBADMSG);
	OPENSSL_free(der);
}

/* --- certs-only --- */

static unsigned char *bundle(X509 *certificate, int times, X509 *last, size_t *length)
{
	PKCS7 *p7 = PKCS7_new();
	unsigned char *der = NULL;

	PKCS7_set_type(p7, NID_pkcs7_signed);
	PKCS7_content_new(p7, NID_pkcs7_data);
	PKCS7_set_detached(p7, 1);
	for (int i = 0; i < times; i++)
		PKCS7_add_certificate(p7, certificate);
	if (last)
		PKCS7_add_certificate(p7, last);
	*length = (size_t)i2d_PKCS7(p7, &der);
	PKCS7_free(p7);
	return der;
}

static void assert_content(int times, int expected, const char *words)
{
	STACK_OF(X509) *certificates = NULL;
	struct error err = { 0 };
	size_t length;
	unsigned char *der = bundle(own, times, NULL, &length);

	assert_int_equal(scep_content_read(der, length, &certificates, NULL, NULL, &err), expected);
	if (expected == 0)
		assert_int_equal(sk_X509_num(certificates), times);
	else
		assert_non_null(strstr(err.text, words));
	sk_X509_pop_free(certificates, X509_free);
	OPENSSL_free(der);
}

static void certificates_are_counted(void **state)
{
	(void)state;
	assert_content(1, 0, NULL);
	assert_content(51, 0, NULL);
	assert_content(CERTS_ONLY_MAX, 0, NULL);
	assert_content(CERTS_ONLY_MAX + 1, -EBADMSG, "101 certificates, more than 100");
	assert_content(0, -EBADMSG, "holds no certificate");
}

/* What a wrong key makes of an envelope, once in 256 times. */
static void garbage_in_an_envelope_reads_like_a_wrong_key(void **state)
{
	STACK_OF(X509) *certificates = NULL;
	struct error err;

	(void)state;
	assert_int_equal(scep_content_read("\x42garbage", 8, &certificates, NULL, NULL, &err),
	                 -EBADMSG);
	assert_string_equal(err.text, "the answer cannot be decrypted");
}

static void assert_bundle(const unsigned char *der, size_t length, X509 *first, int count)
{
	STACK_OF(X509) *certificates = NULL;
	struct error err = { 0 };

	assert_int_equal(scep_ca_certificates(der, length, &certificates, &err), 0);
	assert_int_equal(sk_X509_num(certificates), count);
	assert_int_equal(X509_cmp(sk_X509_value(certificates, 0), first), 0);
	sk_X509_pop_free(certificates, X509_free);
}

static void the_ca_comes_first_whatever_the_bundles_order(void **state)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *root = make("Root", key, NULL, key, "CA:TRUE", "keyCertSign");
	X509 *issuing = make("Issuing", ca_key, root, key, "CA:TRUE", "keyCertSign");
	unsigned char *der = NULL;
	size_t length;

	(void)state;
	length = (size_t)i2d_X509(ca, &der);
	assert_bundle(der, length, ca, 1);
	OPENSSL_free(der);
	der = bundle(ra_signs, 1, ca, &length);
	assert_bundle(der, length, ca, 2);
	OPENSSL_free(der);
	der = bundle(root, 1, issuing, &length);
	assert_bundle(der, length, issuing, 2);
	OPENSSL_free(der);
	X509_free(root);
	X509_free(issuing);
	EVP_PKEY_free(key);
}

/* The name of the CA, another key: the challenge would be encrypted for whoever made it. */
static void an_ra_that_the_ca_did_not_sign_is_refused(void **state)
{
	X509 *stranger = make("RA", own_key, ca, own_key, "CA:FALSE", "keyEncipherment");
	STACK_OF(X509) *certificates = NULL;
	struct error err;
	size_t length;
	unsigned char *der = bundle(stranger, 1, ca, &length);

	(void)state;
	assert_int_equal(scep_ca_certificates(der, length, &certificates, &err), -EBADMSG);
	assert_string_equal(err.text, "GetCACert gave an RA certificate that the CA did not sign");
	assert_null(certificates);
	OPENSSL_free(der);
	X509_free(stranger);
}

static void what_is_no_ca_certificate_is_refused(void **state)
{
	static const char *const pages[] = { "", "<html>", "AES\nSHA-256", "\x30\x80",
		                             "\x30\x03\x02\x01" };
	STACK_OF(X509) *certificates = NULL;
	struct error err;
	unsigned char *der = NULL, *longer;
	size_t length;

	(void)state;
	for (size_t i = 0; i < COUNT(pages); i++)
		assert_int_equal(
			scep_ca_certificates(pages[i], strlen(pages[i]), &certificates, &err),
			-EBADMSG);
	length = (size_t)i2d_X509(end_entity, &der);
	assert_int_equal(scep_ca_certificates(der, length, &certificates, &err), -EBADMSG);
	assert_string_equal(err.text, "GetCACert gave no CA certificate");
	OPENSSL_free(der);
	der = NULL;
	length = (size_t)i2d_X509(ca, &der);
	longer = OPENSSL_zalloc(length + 1);
	memcpy(longer, der, length);
	assert_int_equal(scep_ca_certificates(longer, length + 1, &certificates, &err), -EBADMSG);
	OPENSSL_free(longer);
	OPENSSL_free(der);
	assert_null(certificates);
}

/* --- roles --- */

static void requests_go_to_who_decrypts_and_answers_come_from_who_signs(void **state)
{
	STACK_OF(X509) *ras = stack_of(ra_signs, ra_decrypts), *signers;
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *ec = make("EC CA", key, NULL, key, "CA:TRUE", "keyCertSign");
	struct error err;

	(void)state;
	assert_ptr_equal(scep_recipient(ca, ras, &err), ra_decrypts);
	assert_ptr_equal(scep_recipient(ca, NULL, &err), ca);
	assert_ptr_equal(scep_recipient(ec, ras, &err), ra_decrypts);
	assert_null(scep_recipient(ec, NULL, &err));
	assert_int_equal(err.code, -EINVAL);
	signers = scep_signers(ca, ras);
	assert_int_equal(sk_X509_num(signers), 2);
	assert_ptr_equal(sk_X509_value(signers, 0), ca);
	assert_ptr_equal(sk_X509_value(signers, 1), ra_signs);
	sk_X509_pop_free(signers, X509_free);
	sk_X509_free(ras);
	X509_free(ec);
	EVP_PKEY_free(key);
}

static void the_signer_of_a_first_request_has_its_subject_and_key(void **state)
{
	X509 *certificate = scep_self_signed(X509_get_subject_name(own), own_key, 1800000000,
	                                     EVP_sha256(), NULL);

	(void)state;
	assert_non_null(certificate);
	assert_int_equal(X509_verify(certificate, own_key), 1);
	assert_int_equal(
		X509_NAME_cmp(X509_get_subject_name(certificate), X509_get_subject_name(own)), 0);
	X509_free(certificate);
}

static void names_of_certificates_are_encoded(void **state)
{
	unsigned char *der = NULL;
	size_t length;
	PKCS7_ISSUER_AND_SERIAL *id;
	const unsigned char *at;

	(void)state;
	assert_int_equal(scep_issuer_and_serial(end_entity, &der, &length, NULL), 0);
	at = der;
	id = d2i_PKCS7_ISSUER_AND_SERIAL(NULL, &at, (long)length);
	assert_non_null(id);
	assert_int_equal(X509_NAME_cmp(id->issuer, X509_get_subject_name(ca)), 0);
	assert_int_equal(ASN1_INTEGER_cmp(id->serial, X509_get0_serialNumber(end_entity)), 0);
	PKCS7_ISSUER_AND_SERIAL_free(id);
	OPENSSL_free(der);
	assert_int_equal(scep_issuer_and_subject(X509_get_subject_name(ca),
	                                         X509_get_subject_name(own), &der, &length, NULL),
	                 0);
	assert_int_equal(der[0], V_ASN1_SEQUENCE | V_ASN1_CONSTRUCTED);
	assert_int_equal((size_t)der[1] + 2, length);
	OPENSSL_free(der);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(capabilities_are_read_in_any_case_and_line_end),
		cmocka_unit_test(algorithms_never_go_below_aes_and_sha_256_unasked),
		cmocka_unit_test(a_refusal_names_what_the_ca_offers),
		cmocka_unit_test(a_message_is_for_the_recipient_alone_and_signed),
		cmocka_unit_test(answers_of_the_ca_and_of_its_ra_are_taken),
		cmocka_unit_test(pending_and_failure_need_no_content),
		cmocka_unit_test(an_end_entity_of_the_ca_is_no_signer),
		cmocka_unit_test(the_cas_name_on_anothers_signature_is_refused),
		cmocka_unit_test(what_does_not_belong_to_the_message_is_refused),
		cmocka_unit_test(md5_and_unknown_digests_are_refused),
		cmocka_unit_test(a_byte_behind_the_end_and_every_shorter_answer_are_refused),
		cmocka_unit_test(no_changed_byte_changes_the_answer),
		cmocka_unit_test(a_page_is_called_a_page),
		cmocka_unit_test(envelopes_that_are_broken_anywhere_fail_with_one_text),
		cmocka_unit_test(envelopes_for_others_and_of_other_kinds_are_refused),
		cmocka_unit_test(certificates_are_counted),
		cmocka_unit_test(garbage_in_an_envelope_reads_like_a_wrong_key),
		cmocka_unit_test(the_ca_comes_first_whatever_the_bundles_order),
		cmocka_unit_test(an_ra_that_the_ca_did_not_sign_is_refused),
		cmocka_unit_test(what_is_no_ca_certificate_is_refused),
		cmocka_unit_test(requests_go_to_who_decrypts_and_answers_come_from_who_signs),
		cmocka_unit_test(the_signer_of_a_first_request_has_its_subject_and_key),
		cmocka_unit_test(names_of_certificates_are_encoded),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
