/* Requests, certificates, signatures and decryption with keys that live in the keys process. */
#include "common/x509.h"
#include "enroll/csr.h"
#include "tests/unit/keys_client.h"

#include <errno.h>
#include <openssl/cms.h>
#include <openssl/err.h>
#include <openssl/rsa.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define NOW 1798761600 /* 2027-01-01 */

static const struct {
	const char *type;
	int size;
} types[] = {
	{ "rsa", 2048 }, { "ecdsa", 256 }, { "ecdsa", 521 }, { "ed25519", 0 }, { "dsa", 2048 }
};

static struct keys_client keys;

/* A key in the keys process, and its near end. */
struct remote {
	struct record *made;
	struct signer *signer;
	EVP_PKEY *key;
};

static int start_keys(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	keys_start(&keys, "0123456789abcdef0123456789abcdef", 32);
	return 0;
}

static int stop_keys(void **state)
{
	(void)state;
	return keys_stop(&keys);
}

static struct remote remote_open(const char *type, int size)
{
	struct remote remote = { .made = keys_generate(&keys, type, size, 5) };
	const struct field *public = record_find(remote.made, "public");
	struct error err = { 0 };

	remote.signer = signer_open(keys_grant_new(&keys, "new", remote.made, 5));
	assert_non_null(remote.signer);
	remote.key = signer_key(remote.signer, "new", public->value, public->length, &err);
	if (!remote.key)
		fail_msg("%s", err.text);
	return remote;
}

static void remote_close(struct remote *remote)
{
	EVP_PKEY_free(remote->key);
	signer_close(remote->signer);
	record_free(remote->made);
}

/* The public half by itself, as whoever verifies has it. */
static EVP_PKEY *public_of(const struct remote *remote)
{
	const struct field *public = record_find(remote->made, "public");

	return public_key_from_der(public->value, public->length);
}

static struct record *job_of(const char *subject)
{
	struct record *job = record_new();

	if (subject)
		record_add(job, "subject", subject);
	record_add(job, "domain-name", "www.example.net");
	record_add(job, "ip-address", "192.0.2.1");
	record_add(job, "challenge-password", "Let me in");
	record_add(job, "device-serial", "PN-7");
	record_add_number(job, "now", NOW);
	return job;
}

static X509_REQ *request_of(const struct remote *remote, const struct record *job)
{
	X509_REQ *request = NULL, *read;
	struct error err = { 0 };
	unsigned char *der = NULL;
	const unsigned char *at;
	int length;

	if (csr_make(remote->signer, remote->key, job, true, &request, &err) < 0)
		fail_msg("%s", err.text);
	length = i2d_X509_REQ(request, &der);
	at = der;
	read = d2i_X509_REQ(NULL, &at, length);
	assert_non_null(read);
	assert_ptr_equal(at, der + length);
	OPENSSL_free(der);
	X509_REQ_free(request);
	return read;
}

static X509 *certificate_of(const struct remote *remote, const struct record *job)
{
	X509 *certificate = NULL, *read;
	struct error err = { 0 };
	unsigned char *der = NULL;
	size_t length;

	if (self_signed_make(remote->signer, remote->key, job, &certificate, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(certificate_to_der(certificate, &der, &length), 0);
	read = certificate_from_der(der, length, &err);
	assert_non_null(read);
	OPENSSL_free(der);
	X509_free(certificate);
	return read;
}

static void requests_of_every_key_type_verify(void **state)
{
	struct record *job = job_of("CN=www.example.net,O=Example");

	(void)state;
	for (size_t i = 0; i < COUNT(types); i++) {
		struct remote remote = remote_open(types[i].type, types[i].size);
		EVP_PKEY *public = public_of(&remote);
		X509_REQ *request = request_of(&remote, job);

		assert_int_equal(X509_REQ_verify(request, public), 1);
		assert_int_equal(EVP_PKEY_eq(X509_REQ_get0_pubkey(request), public), 1);
		X509_REQ_free(request);
		EVP_PKEY_free(public);
		remote_close(&remote);
	}
	record_free(job);
}

static void self_signed_certificates_of_every_key_type_verify(void **state)
{
	struct record *job = job_of("CN=www.example.net,O=Example");

	(void)state;
	for (size_t i = 0; i < COUNT(types); i++) {
		struct remote remote = remote_open(types[i].type, types[i].size);
		EVP_PKEY *public = public_of(&remote);
		X509 *certificate = certificate_of(&remote, job);

		assert_int_equal(X509_verify(certificate, public), 1);
		assert_int_equal(X509_get_signature_nid(certificate),
		                 OBJ_obj2nid(X509_get0_tbs_sigalg(certificate)->algorithm));
		assert_int_equal(X509_check_private_key(certificate, remote.key), 1);
		X509_free(certificate);
		EVP_PKEY_free(public);
		remote_close(&remote);
	}
	record_free(job);
}

static char *names_of(GENERAL_NAMES *names)
{
	char *all = strdup(""), *text, *longer;

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		text = alternative_name_text(sk_GENERAL_NAME_value(names, i));
		assert_true(asprintf(&longer, "%s%s ", all, text) > 0);
		free(all);
		free(text);
		all = longer;
	}
	return all;
}

static void assert_request_names(const struct remote *remote, const struct record *job,
                                 const char *subject, bool critical)
{
	X509_REQ *request = request_of(remote, job);
	STACK_OF(X509_EXTENSION) *extensions = X509_REQ_get_extensions(request);
	GENERAL_NAMES *names;
	int is_critical = -2;
	char *text;

	text = dn_text(X509_REQ_get_subject_name(request));
	assert_string_equal(text, subject);
	free(text);
	names = X509V3_get_d2i(extensions, NID_subject_alt_name, &is_critical, NULL);
	assert_int_equal(is_critical, critical);
	text = names_of(names);
	assert_string_equal(text, critical ? "email:a@example.net "
	                                   : "DNS:www.example.net IP:192.0.2.1 ");
	free(text);
	GENERAL_NAMES_free(names);
	sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
	X509_REQ_free(request);
}

static void a_request_has_the_names_asked_for(void **state)
{
	struct remote remote = remote_open("ecdsa", 256);
	struct record *job = job_of("CN=a,OU=b,O=c,SN"), *bare = job_of(NULL);
	struct record *mail = record_new();

	(void)state;
	assert_request_names(&remote, job, "CN=a,OU=b,O=c,serialNumber=PN-7", false);
	assert_request_names(&remote, bare, "CN=www.example.net", false);
	record_add(mail, "email", "a@example.net");
	assert_request_names(&remote, mail, "", true);
	record_free(job);
	record_free(bare);
	record_free(mail);
	remote_close(&remote);
}

/* The challenge password of a request; the type of its string in *TYPE. */
static char *challenge_of(X509_REQ *request, int *type)
{
	int at = X509_REQ_get_attr_by_NID(request, NID_pkcs9_challengePassword, -1);
	const ASN1_TYPE *value;

	if (at < 0)
		return NULL;
	value = X509_ATTRIBUTE_get0_type(X509_REQ_get_attr(request, at), 0);
	*type = value->type;
	return strndup((const char *)ASN1_STRING_get0_data(value->value.asn1_string),
	               (size_t)ASN1_STRING_length(value->value.asn1_string));
}

static void a_request_has_its_challenge_where_it_is_wanted(void **state)
{
	struct remote remote = remote_open("ecdsa", 256);
	struct record *job = job_of("CN=a");
	X509_REQ *request = request_of(&remote, job);
	struct error err;
	int type;
	char *text;

	(void)state;
	text = challenge_of(request, &type);
	assert_string_equal(text, "Let me in");
	assert_int_equal(type, V_ASN1_PRINTABLESTRING);
	free(text);
	X509_REQ_free(request);
	record_set(job, "challenge-password", "gr\xc3\xbc\xc3\x9f & *");
	request = request_of(&remote, job);
	text = challenge_of(request, &type);
	assert_string_equal(text, "gr\xc3\xbc\xc3\x9f & *");
	assert_int_equal(type, V_ASN1_UTF8STRING);
	free(text);
	X509_REQ_free(request);
	assert_int_equal(csr_make(remote.signer, remote.key, job, false, &request, &err), 0);
	assert_null(challenge_of(request, &type));
	X509_REQ_free(request);
	record_free(job);
	remote_close(&remote);
}

static void only_an_rsa_request_asks_for_key_encipherment(void **state)
{
	struct record *job = job_of("CN=a");

	(void)state;
	for (size_t i = 0; i < COUNT(types); i++) {
		struct remote remote = remote_open(types[i].type, types[i].size);
		X509_REQ *request = request_of(&remote, job);
		STACK_OF(X509_EXTENSION) *extensions = X509_REQ_get_extensions(request);
		ASN1_BIT_STRING *usage = X509V3_get_d2i(extensions, NID_key_usage, NULL, NULL);

		assert_int_equal(ASN1_BIT_STRING_get_bit(usage, 0), 1);
		assert_int_equal(ASN1_BIT_STRING_get_bit(usage, 2),
		                 strcmp(types[i].type, "rsa") == 0);
		ASN1_BIT_STRING_free(usage);
		sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
		X509_REQ_free(request);
		remote_close(&remote);
	}
	record_free(job);
}

static void the_digest_is_the_one_asked_for(void **state)
{
	static const struct {
		const char *digest;
		int rsa, ecdsa;
	} digests[] = {
		{ "sha256", NID_sha256WithRSAEncryption, NID_ecdsa_with_SHA256 },
		{ "sha384", NID_sha384WithRSAEncryption, NID_ecdsa_with_SHA384 },
		{ "sha512", NID_sha512WithRSAEncryption, NID_ecdsa_with_SHA512 },
		{ "sha1", NID_sha1WithRSAEncryption, NID_ecdsa_with_SHA1 },
	};
	struct remote rsa = remote_open("rsa", 2048), ecdsa = remote_open("ecdsa", 256);
	struct record *job = job_of("CN=a");
	struct error err;
	X509_REQ *request = NULL;

	(void)state;
	for (size_t i = 0; i < COUNT(digests); i++) {
		record_set(job, "digest", digests[i].digest);
		request = request_of(&rsa, job);
		assert_int_equal(X509_REQ_get_signature_nid(request), digests[i].rsa);
		X509_REQ_free(request);
		request = request_of(&ecdsa, job);
		assert_int_equal(X509_REQ_get_signature_nid(request), digests[i].ecdsa);
		X509_REQ_free(request);
	}
	record_set(job, "digest", "md5");
	request = NULL;
	assert_int_equal(csr_make(rsa.signer, rsa.key, job, true, &request, &err), -EINVAL);
	assert_null(request);
	assert_string_equal(err.text, "digest takes sha256, sha384 or sha512, not \"md5\"");
	record_free(job);
	remote_close(&rsa);
	remote_close(&ecdsa);
}

static void a_self_signed_certificate_is_what_its_job_says(void **state)
{
	struct remote remote = remote_open("rsa", 2048);
	struct record *job = job_of(NULL);
	X509 *certificate = certificate_of(&remote, job), *other;
	GENERAL_NAMES *names;
	char *text;

	(void)state;
	assert_int_equal(asn1_time_seconds(X509_get0_notBefore(certificate)), NOW);
	assert_int_equal(asn1_time_seconds(X509_get0_notAfter(certificate)), NOW + 1825 * 86400ll);
	assert_int_equal(X509_check_ca(certificate), 0);
	assert_int_equal(X509_get_key_usage(certificate),
	                 KU_DIGITAL_SIGNATURE | KU_KEY_ENCIPHERMENT);
	assert_int_equal(X509_get_extended_key_usage(certificate), XKU_SSL_SERVER | XKU_SSL_CLIENT);
	assert_non_null(X509_get0_subject_key_id(certificate));
	names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
	text = names_of(names);
	assert_string_equal(text, "DNS:www.example.net IP:192.0.2.1 ");
	free(text);
	GENERAL_NAMES_free(names);
	record_set(job, "validity-period", "30");
	record_set(job, "add-ca-constraint", "yes");
	other = certificate_of(&remote, job);
	assert_int_equal(asn1_time_seconds(X509_get0_notAfter(other)), NOW + 30 * 86400ll);
	assert_int_equal(X509_check_ca(other), 1);
	assert_int_equal(X509_get_key_usage(other), KU_KEY_CERT_SIGN | KU_CRL_SIGN);
	assert_int_not_equal(ASN1_INTEGER_cmp(X509_get0_serialNumber(certificate),
	                                      X509_get0_serialNumber(other)),
	                     0);
	X509_free(certificate);
	X509_free(other);
	record_free(job);
	remote_close(&remote);
}

static void assert_job_refused(const struct remote *remote, struct record *job,
                               const char *sentence)
{
	X509 *certificate = NULL;
	struct error err;

	assert_int_equal(self_signed_make(remote->signer, remote->key, job, &certificate, &err),
	                 -EINVAL);
	assert_null(certificate);
	assert_string_equal(err.text, sentence);
	record_free(job);
}

static void a_job_that_cannot_be_is_refused_in_words(void **state)
{
	struct remote remote = remote_open("ecdsa", 256);
	struct record *job = record_new();

	(void)state;
	record_add_number(job, "now", NOW);
	assert_job_refused(&remote, job,
	                   "a self-signed certificate needs a subject, or a domain-name of up to "
	                   "64 characters");
	job = job_of("CN=a");
	record_remove(job, "now");
	assert_job_refused(&remote, job, "the job does not say what time it is");
	job = job_of("CN=a");
	record_add(job, "validity-period", "4096");
	assert_job_refused(&remote, job, "validity-period takes 1 to 4095 days, not 4096");
	job = job_of("CN=a,SN");
	record_remove(job, "device-serial");
	assert_job_refused(&remote, job, "SN has no value");
	job = job_of(NULL);
	record_add_bytes(job, "subject", "CN=a\0b", 6);
	assert_job_refused(&remote, job, "subject has a NUL byte in its value");
	remote_close(&remote);
}

static void rsa_signs_with_pss_as_well(void **state)
{
	struct remote remote = remote_open("rsa", 2048);
	EVP_PKEY *public = public_of(&remote);
	EVP_MD_CTX *sign = EVP_MD_CTX_new(), *verify = EVP_MD_CTX_new();
	unsigned char signature[256];
	size_t length = sizeof signature;
	EVP_PKEY_CTX *context;

	(void)state;
	assert_int_equal(EVP_DigestSignInit(sign, &context, EVP_sha256(), NULL, remote.key), 1);
	assert_true(EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PSS_PADDING) > 0);
	assert_int_equal(EVP_DigestSign(sign, signature, &length, (const unsigned char *)"a", 1),
	                 1);
	assert_int_equal(EVP_DigestVerifyInit(verify, &context, EVP_sha256(), NULL, public), 1);
	assert_true(EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PSS_PADDING) > 0);
	assert_int_equal(EVP_DigestVerify(verify, signature, length, (const unsigned char *)"a", 1),
	                 1);
	EVP_MD_CTX_free(sign);
	EVP_MD_CTX_free(verify);
	EVP_PKEY_free(public);
	remote_close(&remote);
}

static void cms_is_signed_and_opened_with_a_remote_key(void **state)
{
	struct remote remote = remote_open("rsa", 2048);
	struct record *job = job_of("CN=a");
	X509 *certificate = certificate_of(&remote, job);
	STACK_OF(X509) *recipients = sk_X509_new_null();
	BIO *in = BIO_new_mem_buf("hello", 5), *out = BIO_new(BIO_s_mem());
	CMS_ContentInfo *cms;
	char text[8] = "";

	(void)state;
	sk_X509_push(recipients, certificate);
	cms = CMS_encrypt(recipients, in, EVP_aes_128_cbc(), CMS_BINARY);
	assert_non_null(cms);
	assert_int_equal(CMS_decrypt(cms, remote.key, certificate, NULL, out, 0), 1);
	assert_int_equal(BIO_read(out, text, sizeof text - 1), 5);
	assert_string_equal(text, "hello");
	CMS_ContentInfo_free(cms);
	BIO_free(in);
	in = BIO_new_mem_buf("hello", 5);
	cms = CMS_sign(certificate, remote.key, NULL, in, CMS_BINARY);
	assert_non_null(cms);
	assert_int_equal(CMS_verify(cms, NULL, NULL, NULL, out, CMS_NO_SIGNER_CERT_VERIFY), 1);
	CMS_ContentInfo_free(cms);
	BIO_free(in);
	BIO_free(out);
	sk_X509_free(recipients);
	X509_free(certificate);
	record_free(job);
	remote_close(&remote);
}

static void a_grant_that_ended_signs_no_more(void **state)
{
	struct record *job = job_of("CN=a"), *question;
	X509_REQ *request = NULL;
	struct error err;

	(void)state;
	for (size_t i = 0; i < COUNT(types); i++) {
		struct remote remote = remote_open(types[i].type, types[i].size);

		question = keys_question("revoke");
		record_add_number(question, "channel", keys.next_channel - 1);
		record_free(keys_ask(&keys, question, -1));
		assert_int_equal(csr_make(remote.signer, remote.key, job, true, &request, &err),
		                 -EIO);
		assert_null(request);
		assert_string_equal(err.text, "no key is granted as \"new\"");
		assert_int_equal(ERR_peek_error(), 0);
		remote_close(&remote);
	}
	record_free(job);
}

static void a_key_that_cannot_sign_here_is_refused_in_words(void **state)
{
	struct record *key = keys_generate(&keys, "ecdsa", 256, 5);
	const struct field *public = record_find(key, "public");
	struct signer *signer = signer_open(keys_grant_new(&keys, "new", key, 5));
	EVP_PKEY *other = EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
	unsigned char *spki = NULL;
	int length = i2d_PUBKEY(other, &spki);
	struct error err;

	(void)state;
	assert_null(signer_key(signer, "new", spki, (size_t)length, &err));
	assert_non_null(strstr(err.text, "cannot sign here"));
	assert_null(signer_key(signer, "new", "junk", 4, &err));
	assert_string_equal(err.text, "the public key cannot be read");
	assert_null(signer_key(signer, "old", public->value, public->length, &err));
	OPENSSL_free(spki);
	EVP_PKEY_free(other);
	signer_close(signer);
	signer_close(NULL);
	record_free(key);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_of_every_key_type_verify),
		cmocka_unit_test(self_signed_certificates_of_every_key_type_verify),
		cmocka_unit_test(a_request_has_the_names_asked_for),
		cmocka_unit_test(a_request_has_its_challenge_where_it_is_wanted),
		cmocka_unit_test(only_an_rsa_request_asks_for_key_encipherment),
		cmocka_unit_test(the_digest_is_the_one_asked_for),
		cmocka_unit_test(a_self_signed_certificate_is_what_its_job_says),
		cmocka_unit_test(a_job_that_cannot_be_is_refused_in_words),
		cmocka_unit_test(rsa_signs_with_pss_as_well),
		cmocka_unit_test(cms_is_signed_and_opened_with_a_remote_key),
		cmocka_unit_test(a_grant_that_ended_signs_no_more),
		cmocka_unit_test(a_key_that_cannot_sign_here_is_refused_in_words),
	};

	return cmocka_run_group_tests(tests, start_keys, stop_keys);
}
