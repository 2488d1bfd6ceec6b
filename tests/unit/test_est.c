/* enroll/est_message.h: what an EST server sends, and what it wants. */
#include "enroll/est_message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/x509v3.h>
#include <string.h>

/* --- base64 --- */

static void assert_decoded(const char *text, const char *expected)
{
	unsigned char *bytes = NULL;
	size_t size = 0;

	assert_int_equal(est_base64_read(text, strlen(text), &bytes, &size, NULL), 0);
	assert_int_equal(size, strlen(expected));
	assert_memory_equal(bytes, expected, size);
	OPENSSL_free(bytes);
}

static void base64_is_read_whatever_its_lines(void **state)
{
	(void)state;
	assert_decoded("", "");
	assert_decoded("aGVsbG8=", "hello");
	assert_decoded("aGVs\nbG8=\n", "hello");
	assert_decoded("aGVs\r\nbG8=\r\n", "hello");
	assert_decoded(" aGVs\tbG8 = ", "hello");
	assert_decoded("aGk=", "hi");
	assert_decoded("eQ==", "y");
}

static void what_is_no_base64_is_refused(void **state)
{
	static const char *const bad[] = { "a",        "aG",       "aGVsbG8",    "aGVsbG8=-",
		                           "-aGVsbG8", "aGVs-G8=", "aGVs\001G8", "a===",
		                           "====",     "=aGV",     "aG=sbG8=",   "aGVsbG8=aGVs" };
	struct error err;

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		unsigned char *bytes = NULL;
		size_t size = 0;

		if (est_base64_read(bad[i], strlen(bad[i]), &bytes, &size, &err) != -EBADMSG)
			fail_msg("\"%s\" was read", bad[i]);
		assert_null(bytes);
		assert_non_null(strstr(err.text, "no base64"));
	}
	assert_int_equal(est_certificates_read("\n<html>", 7, NULL, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "HTML page"));
}

/* --- attributes --- */

#define OID(hex) "06" hex
#define P_384    "301206072a8648ce3d0201310706052b81040022"
#define RSA_4096 "301106092a864886f70d010101310402021000"
#define K_283    "301206072a8648ce3d0201310706052b81040010" /* a curve that we don't know */

/* The attributes of a sequence of HEX. */
static struct est_attributes attributes_of(const char *hex)
{
	struct est_attributes attributes;
	unsigned char der[512];
	size_t length = 0;
	char *text;

	assert_int_equal(OPENSSL_hexstr2buf_ex(der + 4, sizeof der - 4, &length, hex, '\0'), 1);
	der[0] = 0x30;
	der[1] = 0x82;
	der[2] = (unsigned char)(length >> 8);
	der[3] = (unsigned char)length;
	text = est_base64(der, length + 4);
	assert_int_equal(est_attributes_read(text, strlen(text), &attributes, NULL), 0);
	OPENSSL_free(text);
	return attributes;
}

static void nothing_is_wanted(void **state)
{
	struct est_attributes attributes;
	EVP_PKEY *key = EVP_EC_gen("P-256");

	(void)state;
	assert_int_equal(est_attributes_read(NULL, 0, &attributes, NULL), 0);
	assert_int_equal(key_kinds_check(&attributes.kinds, key, NULL), 0);
	assert_null(est_attributes_digest(&attributes, key, "sha256"));
	assert_false(attributes.binding);
	EVP_PKEY_free(key);
}

static void any_of_the_kinds_that_are_wanted_will_do(void **state)
{
	struct est_attributes attributes = attributes_of(RSA_4096 P_384);
	EVP_PKEY *p256 = EVP_EC_gen("P-256"), *p384 = EVP_EC_gen("P-384");
	struct error err;

	(void)state;
	assert_int_equal(key_kinds_check(&attributes.kinds, p384, NULL), 0);
	assert_int_equal(key_kinds_check(&attributes.kinds, p256, &err), -EINVAL);
	assert_string_equal(err.text,
	                    "the CA does not want a key of ecdsa 256: set key-type = rsa and "
	                    "key-size = 4096, and request generate-key-pair");
	attributes = attributes_of(OID("072a8648ce3d0201"));
	assert_int_equal(key_kinds_check(&attributes.kinds, p256, NULL), 0);
	attributes = attributes_of(K_283);
	assert_int_equal(key_kinds_check(&attributes.kinds, p256, &err), -EINVAL);
	assert_string_equal(err.text,
	                    "the CA wants a kind of key that pkifs does not know, not ecdsa 256");
	EVP_PKEY_free(p256);
	EVP_PKEY_free(p384);
}

static void a_digest_is_chosen_that_fits_the_key(void **state)
{
	/* sha256WithRSAEncryption, ecdsa-with-SHA1, ecdsa-with-SHA384, ecdsa-with-SHA512 */
	struct est_attributes attributes = attributes_of(OID("092a864886f70d01010b") OID(
		"072a8648ce3d0401") OID("082a8648ce3d040303") OID("082a8648ce3d040304"));
	EVP_PKEY *key = EVP_EC_gen("P-256");

	(void)state;
	assert_null(est_attributes_digest(&attributes, key, "sha512"));
	assert_true(EVP_MD_is_a(est_attributes_digest(&attributes, key, "sha256"), "SHA384"));
	attributes = attributes_of(OID("072a8648ce3d0401"));
	assert_null(est_attributes_digest(&attributes, key, "sha256"));
	EVP_PKEY_free(key);
}

/* An extensionRequest of subjectAltName DNS:a, basicConstraints CA:TRUE, and twice keyUsage. */
static void names_are_ours_to_say(void **state)
{
	struct est_attributes attributes =
		attributes_of("304506092a864886f70d01090e31383036300c0603551d11040530038201"
	                      "61300c0603551d13040530030101ff300b0603551d0f040403020308300b"
	                      "0603551d0f040403020308");

	(void)state;
	assert_int_equal(sk_X509_EXTENSION_num(attributes.extensions), 1);
	assert_true(X509v3_get_ext_by_NID(attributes.extensions, NID_key_usage, -1) == 0);
	est_attributes_clear(&attributes);
}

static void what_we_have_nothing_for_is_named(void **state)
{
	struct est_attributes attributes =
		attributes_of(OID("092a864886f70d010907") OID("072b060101010116") OID("03550405"));

	(void)state;
	assert_true(attributes.binding);
	assert_string_equal(attributes.other, "1.3.6.1.1.1.1.22, serialNumber");
}

/*
 * A subject, a key on P-384, extensions: keyUsage (critical) and extendedKeyUsage with their
 * values, subjectAltName and certificatePolicies for us to fill in.
 */
#define TEMPLATE                                                                                   \
	"30818a060b2a864886f70d010910023d317b30790201003018310730050603550403310d300b060355040a0c" \
	"0441636d65a012301006072a8648ce3d020106052b81040022a1463044060b2a864886f70d010910023e3135" \
	"3033300e0603551d0f0101ff04040302030830050603551d1130130603551d25040c300a06082b0601050507" \
	"030230050603551d20"

static void a_template_is_taken_in_place_of_other_wishes(void **state)
{
	/* beside it: RSA, challengePassword, ecdsa-with-SHA384, macAddress */
	struct est_attributes attributes = attributes_of(OID("092a864886f70d010101") OID(
		"092a864886f70d010907") TEMPLATE OID("082a8648ce3d040303") OID("072b060101010116"));
	EVP_PKEY *p256 = EVP_EC_gen("P-256"), *p384 = EVP_EC_gen("P-384");
	X509_EXTENSION *usage;

	(void)state;
	assert_int_equal(attributes.kinds.count, 1);
	assert_int_equal(key_kinds_check(&attributes.kinds, p384, NULL), 0);
	assert_int_equal(key_kinds_check(&attributes.kinds, p256, NULL), -EINVAL);
	assert_int_equal(sk_X509_EXTENSION_num(attributes.extensions), 2);
	usage = sk_X509_EXTENSION_value(attributes.extensions, 0);
	assert_int_equal(OBJ_obj2nid(X509_EXTENSION_get_object(usage)), NID_key_usage);
	assert_int_equal(X509_EXTENSION_get_critical(usage), 1);
	assert_string_equal(attributes.other, "X509v3 Certificate Policies");
	assert_true(attributes.binding);
	assert_int_equal(attributes.signature_count, 1);
	est_attributes_clear(&attributes);
	EVP_PKEY_free(p256);
	EVP_PKEY_free(p384);
}

#define FF_16  "ffffffffffffffffffffffffffffffff"
#define FF_64  FF_16 FF_16 FF_16 FF_16
#define FF_256 FF_64 FF_64 FF_64 FF_64

/* One of RSA, whose placeholder has 2048 bits; and what is none. */
static void a_template_says_the_size_of_an_rsa_key(void **state)
{
	struct est_attributes attributes = attributes_of(
		"30820140060b2a864886f70d010910023d3182012f3082012b020100a0820122300d06092a864886f7"
		"0d01010105000382010f003082010a0282010100" FF_256 "0203010001a100");

	(void)state;
	assert_int_equal(attributes.kinds.count, 1);
	assert_int_equal(attributes.kinds.list[0].type, EVP_PKEY_RSA);
	assert_int_equal(attributes.kinds.list[0].bits, 2048);
	assert_int_equal(est_attributes_read("MBMwEQYLKoZIhvcNAQkQAj0xAjAA", 28, &attributes, NULL),
	                 -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(base64_is_read_whatever_its_lines),
		cmocka_unit_test(what_is_no_base64_is_refused),
		cmocka_unit_test(nothing_is_wanted),
		cmocka_unit_test(any_of_the_kinds_that_are_wanted_will_do),
		cmocka_unit_test(a_digest_is_chosen_that_fits_the_key),
		cmocka_unit_test(names_are_ours_to_say),
		cmocka_unit_test(what_we_have_nothing_for_is_named),
		cmocka_unit_test(a_template_is_taken_in_place_of_other_wishes),
		cmocka_unit_test(a_template_says_the_size_of_an_rsa_key),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
