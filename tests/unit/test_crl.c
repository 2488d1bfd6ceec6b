#include "enroll/crl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NOW 1800000000

static EVP_PKEY *key, *other_key;
static X509 *ca, *no_crl_ca;

static X509 *make_ca(const char *usage)
{
	X509 *certificate = X509_new();
	X509_NAME *name = X509_NAME_new();
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, NID_key_usage, usage);

	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)"CA", -1, -1,
	                           0);
	X509_set_version(certificate, X509_VERSION_3);
	X509_set_subject_name(certificate, name);
	X509_set_issuer_name(certificate, name);
	X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
	X509_gmtime_adj(X509_getm_notAfter(certificate), 86400);
	X509_set_pubkey(certificate, key);
	X509_add_ext(certificate, extension, -1);
	assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
	X509_EXTENSION_free(extension);
	X509_NAME_free(name);
	return certificate;
}

static int set_up(void **state)
{
	(void)state;
	key = EVP_EC_gen("P-256");
	other_key = EVP_EC_gen("P-256");
	ca = make_ca("keyCertSign,cRLSign");
	no_crl_ca = make_ca("keyCertSign");
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	X509_free(ca);
	X509_free(no_crl_ca);
	EVP_PKEY_free(key);
	EVP_PKEY_free(other_key);
	return 0;
}

/* --- CRLs to be read --- */

static X509_CRL *new_crl(void)
{
	X509_CRL *crl = X509_CRL_new();
	ASN1_TIME *time = ASN1_TIME_set(NULL, NOW - 60);

	X509_CRL_set_version(crl, X509_CRL_VERSION_2);
	X509_CRL_set_issuer_name(crl, X509_get_subject_name(ca));
	X509_CRL_set1_lastUpdate(crl, time);
	ASN1_TIME_set(time, NOW + 3600);
	X509_CRL_set1_nextUpdate(crl, time);
	ASN1_TIME_free(time);
	return crl;
}

/* An entry for the serial number in HEX ("-" in front: negative), revoked at TIME. */
static X509_REVOKED *add_entry(X509_CRL *crl, const char *hex, time_t when, int reason)
{
	X509_REVOKED *entry = X509_REVOKED_new();
	ASN1_TIME *time = ASN1_TIME_set(NULL, when);
	ASN1_ENUMERATED *value = ASN1_ENUMERATED_new();
	ASN1_INTEGER *serial;
	BIGNUM *number = NULL;

	assert_true(BN_hex2bn(&number, hex) > 0);
	serial = BN_to_ASN1_INTEGER(number, NULL);
	X509_REVOKED_set_serialNumber(entry, serial);
	X509_REVOKED_set_revocationDate(entry, time);
	ASN1_ENUMERATED_set(value, reason);
	if (reason >= 0)
		X509_REVOKED_add1_ext_i2d(entry, NID_crl_reason, value, 0, 0);
	X509_CRL_add0_revoked(crl, entry);
	ASN1_ENUMERATED_free(value);
	ASN1_INTEGER_free(serial);
	ASN1_TIME_free(time);
	BN_free(number);
	return entry;
}

static void add_number(X509_CRL *crl, const char *hex)
{
	BIGNUM *number = NULL;
	ASN1_INTEGER *value;

	BN_hex2bn(&number, hex);
	value = BN_to_ASN1_INTEGER(number, NULL);
	X509_CRL_add1_ext_i2d(crl, NID_crl_number, value, 0, 0);
	ASN1_INTEGER_free(value);
	BN_free(number);
}

static void add_text_extension(X509_CRL *crl, int nid, const char *value)
{
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

	assert_non_null(extension);
	X509_CRL_add_ext(crl, extension, -1);
	X509_EXTENSION_free(extension);
}

/* Signs and frees CRL; its DER is the caller's. */
static unsigned char *finish(X509_CRL *crl, EVP_PKEY *signer, const EVP_MD *digest, size_t *length)
{
	unsigned char *der = NULL;

	assert_true(X509_CRL_sign(crl, signer, digest) > 0);
	*length = (size_t)i2d_X509_CRL(crl, &der);
	X509_CRL_free(crl);
	return der;
}

static int read_as(const unsigned char *der, size_t length, X509 *issuer, bool legacy,
                   struct crl *crl, struct error *err)
{
	/* exactly as long as it is: a byte beyond is seen under ASan */
	unsigned char *copy = OPENSSL_memdup(der, length);
	int r = crl_read(copy, length, issuer, NOW, legacy, crl, err);

	OPENSSL_free(copy);
	return r;
}

static void assert_refused(X509_CRL *crl, EVP_PKEY *signer, const EVP_MD *digest, const char *words)
{
	struct error err = { 0 };
	struct crl read;
	size_t length;
	unsigned char *der = finish(crl, signer, digest, &length);

	assert_int_equal(read_as(der, length, ca, false, &read, &err), -EBADMSG);
	if (!strstr(err.text, words))
		fail_msg("\"%s\" does not say \"%s\"", err.text, words);
	crl_clear(&read);
	OPENSSL_free(der);
}

/* --- tests --- */

static void entries_come_out_sorted_with_reason_and_time(void **state)
{
	static const char long_serial[] = "FF02030405060708090A0B0C0D0E0F1011121314";
	X509_CRL *made = new_crl();
	struct crl_entry *entry;
	struct crl crl;
	unsigned char *der;
	size_t length;
	uint64_t time;

	(void)state;
	add_entry(made, long_serial, NOW - 3, 1);
	add_entry(made, "02", NOW - 2, -1);
	add_entry(made, "0102", NOW - 1, 8);
	add_entry(made, "-02", NOW, 6);
	add_number(made, "0123456789ABCDEF0123456789ABCDEF01234567");
	der = finish(made, key, EVP_sha256(), &length);
	assert_int_equal(crl_read(der, length, ca, NOW, false, &crl, NULL), 0);
	assert_int_equal(crl.count, 4);
	assert_int_equal(crl.this_update, NOW - 60);
	assert_int_equal(crl.next_update, NOW + 3600);
	assert_string_equal(crl.number, "6495562832581790663061892574634853316331521383");
	assert_ptr_equal(crl.bytes, der);
	entry = crl.entries;
	assert_int_equal(entry[0].length, 1);
	assert_int_equal(entry[0].serial[19], 2);
	assert_int_equal(entry[0].serial[18], 0);
	assert_int_equal(entry[0].reason, CRL_NO_REASON);
	memcpy(&time, entry[0].time, sizeof time);
	assert_int_equal(be64toh(time), NOW - 2);
	assert_int_equal(entry[1].length, 2);
	assert_int_equal(entry[1].reason, CRL_NO_REASON); /* removeFromCRL frees nothing here */
	assert_int_equal(entry[2].length, 20);
	assert_int_equal(entry[2].serial[0], 0xff);
	assert_int_equal(entry[2].reason, 1);
	assert_int_equal(entry[3].length, CRL_NEGATIVE | 1);
	crl_clear(&crl);
	OPENSSL_free(der);
}

static void an_empty_crl_is_one(void **state)
{
	struct crl crl;
	size_t length;
	unsigned char *der = finish(new_crl(), key, EVP_sha256(), &length);

	(void)state;
	assert_int_equal(read_as(der, length, ca, false, &crl, NULL), 0);
	assert_int_equal(crl.count, 0);
	assert_string_equal(crl.number, "");
	crl_clear(&crl);
	OPENSSL_free(der);
}

static void pem_becomes_der(void **state)
{
	X509_CRL *made = new_crl();
	BIO *pem = BIO_new(BIO_s_mem());
	unsigned char *der = NULL;
	struct crl crl;
	char *text;
	long size;
	int length;

	(void)state;
	add_entry(made, "0A", NOW, 0);
	X509_CRL_sign(made, key, EVP_sha256());
	BIO_puts(pem, "a word before it\n");
	PEM_write_bio_X509_CRL(pem, made);
	length = i2d_X509_CRL(made, &der);
	size = BIO_get_mem_data(pem, &text);
	assert_int_equal(crl_read(text, (size_t)size, ca, NOW, false, &crl, NULL), 0);
	assert_int_equal(crl.size, length);
	assert_memory_equal(crl.bytes, der, (size_t)length);
	crl_clear(&crl);
	X509_CRL_free(made);
	OPENSSL_free(der);
	BIO_free(pem);
}

static void what_the_ca_did_not_sign_is_refused(void **state)
{
	X509_CRL *foreign = new_crl();
	X509_NAME *name = X509_NAME_new();
	struct error err;
	struct crl crl;
	unsigned char *der;
	size_t length;

	(void)state;
	assert_refused(new_crl(), other_key, EVP_sha256(), "its signature is wrong");
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)"B", -1, -1,
	                           0);
	X509_CRL_set_issuer_name(foreign, name);
	assert_refused(foreign, key, EVP_sha256(), "another issuer");
	der = finish(new_crl(), key, EVP_sha256(), &length);
	assert_int_equal(read_as(der, length, no_crl_ca, false, &crl, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "lacks cRLSign"));
	crl_clear(&crl);
	OPENSSL_free(der);
	X509_NAME_free(name);
}

static void sha_1_is_for_those_who_allow_it(void **state)
{
	struct crl crl;
	size_t length;
	unsigned char *der = finish(new_crl(), key, EVP_sha1(), &length);

	(void)state;
	assert_int_equal(read_as(der, length, ca, true, &crl, NULL), 0);
	crl_clear(&crl);
	OPENSSL_free(der);
	assert_refused(new_crl(), key, EVP_sha1(), "SHA-1");
}

static void partial_and_delta_crls_are_refused(void **state)
{
	static const char *const scopes[] = { "onlyuser:TRUE", "onlyCA:TRUE", "onlyAA:TRUE",
		                              "indirectCRL:TRUE", "onlysomereasons:keyCompromise" };
	X509_CRL *crl = new_crl();
	ASN1_INTEGER *base = ASN1_INTEGER_new();

	(void)state;
	for (size_t i = 0; i < COUNT(scopes); i++) {
		X509_CRL *partial = new_crl();

		add_text_extension(partial, NID_issuing_distribution_point, scopes[i]);
		assert_refused(partial, key, EVP_sha256(), "a complete one is needed");
	}
	ASN1_INTEGER_set(base, 1);
	X509_CRL_add1_ext_i2d(crl, NID_delta_crl, base, 1, 0);
	assert_refused(crl, key, EVP_sha256(), "is a delta CRL");
	ASN1_INTEGER_free(base);
}

static void a_distribution_point_alone_is_no_limit(void **state)
{
	X509_CRL *made = new_crl();
	struct crl crl;
	unsigned char *der;
	size_t length;

	(void)state;
	add_text_extension(made, NID_issuing_distribution_point,
	                   "critical,fullname:URI:http://crl.example/ca.crl");
	der = finish(made, key, EVP_sha256(), &length);
	assert_int_equal(read_as(der, length, ca, false, &crl, NULL), 0);
	crl_clear(&crl);
	OPENSSL_free(der);
}

static void critical_extensions_that_are_not_known_are_refused(void **state)
{
	X509_CRL *crl = new_crl();
	X509_REVOKED *entry;
	ASN1_INTEGER *value = ASN1_INTEGER_new();

	(void)state;
	ASN1_INTEGER_set(value, 1);
	X509_CRL_add1_ext_i2d(crl, NID_inhibit_any_policy, value, 1, 0);
	assert_refused(crl, key, EVP_sha256(), "critical extension");
	crl = new_crl();
	entry = add_entry(crl, "05", NOW, -1);
	X509_REVOKED_add1_ext_i2d(entry, NID_inhibit_any_policy, value, 1, 0);
	assert_refused(crl, key, EVP_sha256(), "entry 1 of the CRL");
	ASN1_INTEGER_free(value);
}

static void an_entry_of_another_issuer_is_refused(void **state)
{
	X509_CRL *crl = new_crl();
	X509_REVOKED *entry = add_entry(crl, "05", NOW, -1);
	GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
	GENERAL_NAME *name = GENERAL_NAME_new();

	(void)state;
	GENERAL_NAME_set0_value(name, GEN_DIRNAME, X509_NAME_dup(X509_get_subject_name(ca)));
	sk_GENERAL_NAME_push(names, name);
	X509_REVOKED_add1_ext_i2d(entry, NID_certificate_issuer, names, 0, 0);
	assert_refused(crl, key, EVP_sha256(), "entry 1 of the CRL");
	GENERAL_NAMES_free(names);
}

static void impossible_values_are_refused(void **state)
{
	X509_CRL *crl = new_crl();

	(void)state;
	add_entry(crl, "010203040506070809101112131415161718192021", NOW, -1);
	assert_refused(crl, key, EVP_sha256(), "entry 1 of the CRL");
	crl = new_crl();
	add_entry(crl, "01", NOW, 99);
	assert_refused(crl, key, EVP_sha256(), "entry 1 of the CRL");
	crl = new_crl();
	add_number(crl, "-01");
	assert_refused(crl, key, EVP_sha256(), "number");
}

static void a_crl_from_the_future_is_refused_beyond_five_minutes(void **state)
{
	X509_CRL *made = new_crl();
	ASN1_TIME *time = ASN1_TIME_set(NULL, NOW + 300);
	struct crl crl;
	unsigned char *der;
	size_t length;

	(void)state;
	X509_CRL_set1_lastUpdate(made, time);
	der = finish(made, key, EVP_sha256(), &length);
	assert_int_equal(read_as(der, length, ca, false, &crl, NULL), 0);
	crl_clear(&crl);
	OPENSSL_free(der);
	made = new_crl();
	ASN1_TIME_set(time, NOW + 301);
	X509_CRL_set1_lastUpdate(made, time);
	assert_refused(made, key, EVP_sha256(), "301 s ahead");
	ASN1_TIME_free(time);
}

static void no_shorter_longer_or_changed_crl_is_taken(void **state)
{
	X509_CRL *made = new_crl();
	struct crl crl;
	unsigned char *der, *longer;
	size_t length;

	(void)state;
	add_entry(made, "0102", NOW, 4);
	add_number(made, "07");
	der = finish(made, key, EVP_sha256(), &length);
	for (size_t cut = 1; cut < length; cut++) {
		assert_int_equal(read_as(der, cut, ca, false, &crl, NULL), -EBADMSG);
		crl_clear(&crl);
	}
	for (size_t i = 0; i < length; i++) {
		der[i] ^= 0x04;
		assert_int_equal(read_as(der, length, ca, false, &crl, NULL), -EBADMSG);
		crl_clear(&crl);
		der[i] ^= 0x04;
	}
	longer = OPENSSL_zalloc(length + 1);
	memcpy(longer, der, length);
	assert_int_equal(read_as(longer, length + 1, ca, false, &crl, NULL), -EBADMSG);
	crl_clear(&crl);
	OPENSSL_free(longer);
	OPENSSL_free(der);
}

static void der_and_index_are_written_over_what_was_there(void **state)
{
	int body = memfd_create("body", MFD_CLOEXEC), index = memfd_create("index", MFD_CLOEXEC);
	X509_CRL *made = new_crl();
	unsigned char bytes[2048];
	struct crl crl;
	unsigned char *der;
	size_t length;

	(void)state;
	assert_int_equal(ftruncate(body, 100000), 0);
	assert_int_equal(ftruncate(index, 100000), 0);
	add_entry(made, "0102", NOW, 4);
	der = finish(made, key, EVP_sha256(), &length);
	assert_int_equal(crl_read(der, length, ca, NOW, false, &crl, NULL), 0);
	assert_int_equal(crl_write(&crl, body, index, NULL), 0);
	assert_int_equal(pread(body, bytes, sizeof bytes, 0), length);
	assert_memory_equal(bytes, der, length);
	assert_int_equal(pread(index, bytes, sizeof bytes, 0), sizeof(struct crl_entry));
	assert_memory_equal(bytes, crl.entries, sizeof(struct crl_entry));
	crl_clear(&crl);
	OPENSSL_free(der);
	close(body);
	close(index);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(entries_come_out_sorted_with_reason_and_time),
		cmocka_unit_test(an_empty_crl_is_one),
		cmocka_unit_test(pem_becomes_der),
		cmocka_unit_test(what_the_ca_did_not_sign_is_refused),
		cmocka_unit_test(sha_1_is_for_those_who_allow_it),
		cmocka_unit_test(partial_and_delta_crls_are_refused),
		cmocka_unit_test(a_distribution_point_alone_is_no_limit),
		cmocka_unit_test(critical_extensions_that_are_not_known_are_refused),
		cmocka_unit_test(an_entry_of_another_issuer_is_refused),
		cmocka_unit_test(impossible_values_are_refused),
		cmocka_unit_test(a_crl_from_the_future_is_refused_beyond_five_minutes),
		cmocka_unit_test(no_shorter_longer_or_changed_crl_is_taken),
		cmocka_unit_test(der_and_index_are_written_over_what_was_there),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
