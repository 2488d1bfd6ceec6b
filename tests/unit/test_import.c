/* Private keys that a user writes: which are taken, and why others are not. */
#include "tests/unit/keys_client.h"

#include <openssl/core_names.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct keys_client keys;

static int start_keys(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	keys_start(&keys, NULL, 0);
	return 0;
}

static int stop_keys(void **state)
{
	(void)state;
	return keys_stop(&keys);
}

static struct record *import(const void *text, size_t length)
{
	struct record *question = keys_question("import");

	record_add_bytes(question, "text", text, length);
	record_add_number(question, "owner", 9);
	return keys_ask(&keys, question, -1);
}

static EVP_PKEY *new_dsa(void)
{
	struct record *made = keys_generate(&keys, "dsa", 2048, 1);
	EVP_PKEY *key = keys_opened(&keys, made, 1);

	record_free(made);
	return key;
}

static EVP_PKEY *new_key(const char *type)
{
	EVP_PKEY *key = NULL;

	if (strcmp(type, "rsa") == 0)
		key = EVP_RSA_gen(2048);
	else if (strcmp(type, "dsa") == 0)
		key = new_dsa();
	else if (strcmp(type, "ed25519") == 0)
		key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	else
		key = EVP_EC_gen(type);
	assert_non_null(key);
	return key;
}

static BIO *pem_of(EVP_PKEY *key, bool traditional, const char *password)
{
	BIO *out = BIO_new(BIO_s_mem());
	const EVP_CIPHER *cipher = password ? EVP_aes_128_cbc() : NULL;
	int length = password ? (int)strlen(password) : 0;
	int good;

	if (traditional)
		good = PEM_write_bio_PrivateKey_traditional(
			out, key, cipher, (const unsigned char *)password, length, NULL, NULL);
	else
		good = PEM_write_bio_PKCS8PrivateKey(out, key, cipher, password, length, NULL,
		                                     NULL);
	assert_true(good);
	return out;
}

static void assert_imported(const void *text, size_t length, EVP_PKEY *key)
{
	struct record *answer = import(text, length);
	EVP_PKEY *found;

	assert_non_null(answer);
	if (record_get(answer, "error"))
		fail_msg("%s", record_get(answer, "error"));
	found = keys_opened(&keys, answer, 9);
	assert_int_equal(EVP_PKEY_eq(found, key), 1);
	EVP_PKEY_free(found);
	record_free(answer);
}

static void assert_bio_imported(BIO *bio, EVP_PKEY *key)
{
	char *text;
	long length = BIO_get_mem_data(bio, &text);

	assert_imported(text, (size_t)length, key);
	BIO_free(bio);
}

static void assert_import_refused(const void *text, size_t length, const char *sentence)
{
	assert_keys_error(import(text, length), sentence);
}

static void assert_bio_refused(BIO *bio, const char *sentence)
{
	char *text;
	long length = BIO_get_mem_data(bio, &text);

	assert_import_refused(text, (size_t)length, sentence);
	BIO_free(bio);
}

static void keys_are_imported_from_pem_and_der(void **state)
{
	static const char *const types[] = { "rsa", "P-256", "P-384", "P-521", "ed25519", "dsa" };

	(void)state;
	for (size_t i = 0; i < COUNT(types); i++) {
		EVP_PKEY *key = new_key(types[i]);
		PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(key);
		unsigned char *der = NULL;
		int length = i2d_PKCS8_PRIV_KEY_INFO(info, &der);

		assert_bio_imported(pem_of(key, false, NULL), key);
		assert_imported(der, (size_t)length, key);
		PKCS8_PRIV_KEY_INFO_free(info);
		OPENSSL_free(der);
		if (strcmp(types[i], "ed25519") != 0) {
			assert_bio_imported(pem_of(key, true, NULL), key);
			der = NULL;
			length = i2d_PrivateKey(key, &der);
			assert_imported(der, (size_t)length, key);
			OPENSSL_free(der);
		}
		EVP_PKEY_free(key);
	}
}

static void what_stands_around_a_pem_key_is_no_hindrance(void **state)
{
	static const char before[] = "\xef\xbb\xbf# my key\r\n-----BEGIN CERTIFICATE-----\nMAA=\n"
				     "-----END CERTIFICATE-----\n-----BEGIN EC PARAMETERS-----\n"
				     "BggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
	EVP_PKEY *key = new_key("P-256");
	BIO *pem = pem_of(key, true, NULL), *all = BIO_new(BIO_s_mem());
	char *text;
	long length = BIO_get_mem_data(pem, &text);

	(void)state;
	BIO_puts(all, before);
	BIO_write(all, text, (int)length);
	BIO_puts(all, "the end, without a newline");
	assert_bio_imported(all, key);
	BIO_free(pem);
	EVP_PKEY_free(key);
}

static void an_encrypted_key_is_refused_with_how_to_open_it(void **state)
{
	EVP_PKEY *key = new_key("rsa");
	BIO *der = BIO_new(BIO_s_mem());

	(void)state;
	assert_bio_refused(pem_of(key, false, "secret"), "openssl pkey -in FILE");
	assert_bio_refused(pem_of(key, true, "secret"), "openssl pkey -in FILE");
	assert_true(i2d_PKCS8PrivateKey_bio(der, key, EVP_aes_128_cbc(), "secret", 6, NULL, NULL));
	assert_bio_refused(der, "openssl pkey -in FILE");
	EVP_PKEY_free(key);
}

static EVP_PKEY *explicit_parameters(void)
{
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, NULL);
	EVP_PKEY *key = NULL;

	EVP_PKEY_keygen_init(context);
	EVP_PKEY_CTX_set_ec_paramgen_curve_nid(context, NID_X9_62_prime256v1);
	EVP_PKEY_CTX_set_ec_param_enc(context, 0);
	assert_int_equal(EVP_PKEY_keygen(context, &key), 1);
	EVP_PKEY_CTX_free(context);
	return key;
}

static void keys_of_no_use_are_refused_each_with_its_reason(void **state)
{
	EVP_PKEY *curve = EVP_EC_gen("secp256k1"), *spelled = explicit_parameters();
	EVP_PKEY *small = EVP_RSA_gen(1024), *other = EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
	EVP_PKEY *pss = EVP_PKEY_Q_keygen(NULL, NULL, "ED448");

	(void)state;
	assert_bio_refused(pem_of(curve, false, NULL), "the EC key's curve is secp256k1");
	assert_bio_refused(pem_of(spelled, false, NULL), "spells its curve's parameters out");
	assert_bio_refused(pem_of(spelled, true, NULL), "spells its curve's parameters out");
	assert_bio_refused(pem_of(small, false, NULL), "the RSA key has 1024 bits");
	assert_bio_refused(pem_of(other, false, NULL), "the key's type is none of these");
	assert_bio_refused(pem_of(pss, false, NULL), "the key's type is none of these");
	EVP_PKEY_free(curve);
	EVP_PKEY_free(spelled);
	EVP_PKEY_free(small);
	EVP_PKEY_free(other);
	EVP_PKEY_free(pss);
}

static BIO *joined(BIO *one, BIO *other)
{
	char *text;
	long length = BIO_get_mem_data(other, &text);

	BIO_write(one, text, (int)length);
	BIO_free(other);
	return one;
}

static void add_number(BIO *out, const BIGNUM *number)
{
	ASN1_INTEGER *integer = BN_to_ASN1_INTEGER(number, NULL);
	unsigned char *der = NULL;
	int length = i2d_ASN1_INTEGER(integer, &der);

	BIO_write(out, der, length);
	OPENSSL_free(der);
	ASN1_INTEGER_free(integer);
}

/* PKCS#1 of KEY as only a hostile hand writes it: its number INDEX has BITS bits. */
static BIO *pkcs1_with_long(EVP_PKEY *key, size_t index, int bits)
{
	static const char *const names[] = {
		OSSL_PKEY_PARAM_RSA_N,         OSSL_PKEY_PARAM_RSA_E,
		OSSL_PKEY_PARAM_RSA_D,         OSSL_PKEY_PARAM_RSA_FACTOR1,
		OSSL_PKEY_PARAM_RSA_FACTOR2,   OSSL_PKEY_PARAM_RSA_EXPONENT1,
		OSSL_PKEY_PARAM_RSA_EXPONENT2, OSSL_PKEY_PARAM_RSA_COEFFICIENT1
	};
	BIO *body = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
	BIGNUM *number = BN_new();
	unsigned char head[8], *at = head;
	char *text;
	long length;

	add_number(body, number);
	for (size_t i = 0; i < COUNT(names); i++) {
		assert_int_equal(EVP_PKEY_get_bn_param(key, names[i], &number), 1);
		if (i == index)
			BN_rand(number, bits, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ODD);
		add_number(body, number);
	}
	length = BIO_get_mem_data(body, &text);
	ASN1_put_object(&at, 1, (int)length, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL);
	BIO_write(out, head, (int)(at - head));
	joined(out, body);
	BN_free(number);
	return out;
}

static void a_number_that_takes_hours_to_use_is_refused(void **state)
{
	EVP_PKEY *key = new_key("rsa");

	(void)state;
	assert_bio_imported(pkcs1_with_long(key, 99, 0), key);
	assert_bio_refused(pkcs1_with_long(key, 0, 500000), "the RSA key has 500000 bits");
	assert_bio_refused(pkcs1_with_long(key, 1, 2000), "public exponent");
	for (size_t i = 2; i < 8; i++)
		assert_bio_refused(pkcs1_with_long(key, i, 500000),
		                   "RSA numbers are missing or too long");
	EVP_PKEY_free(key);
}

static void what_is_not_one_key_is_refused_in_words(void **state)
{
	static const char certificate[] = "-----BEGIN CERTIFICATE-----\nMAA=\n"
					  "-----END CERTIFICATE-----\n";
	static const char ssh[] = "-----BEGIN OPENSSH PRIVATE KEY-----\nMAA=\n"
				  "-----END OPENSSH PRIVATE KEY-----\n";
	EVP_PKEY *key = new_key("P-256");
	BIO *pem, *two = joined(pem_of(key, false, NULL), pem_of(key, true, NULL));
	unsigned char *der = NULL, *longer;
	int length = i2d_PrivateKey(key, &der);

	(void)state;
	assert_bio_refused(two, "more than one private key");
	assert_import_refused("", 0, "no private key in it");
	assert_import_refused("hello\n", 6, "no private key in it");
	assert_import_refused(certificate, strlen(certificate),
	                      "there is a CERTIFICATE in it, but no private key");
	assert_import_refused(ssh, strlen(ssh), "OPENSSH PRIVATE KEY");
	longer = calloc(1, (size_t)length + 1);
	memcpy(longer, der, (size_t)length);
	assert_import_refused(longer, (size_t)length + 1, "1 bytes behind the private key");
	assert_import_refused(der, (size_t)length - 1, "no private key in it that can be read");
	free(longer);
	OPENSSL_free(der);
	der = NULL;
	length = i2d_PUBKEY(key, &der);
	assert_import_refused(der, (size_t)length, "that is a public key");
	OPENSSL_free(der);
	pem = pem_of(key, false, NULL);
	assert_import_refused("-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n", 59,
	                      "cannot be read");
	length = (int)BIO_get_mem_data(pem, (char **)&longer);
	assert_import_refused(longer, (size_t)length - 30, "PEM block in it is damaged");
	BIO_free(pem);
	EVP_PKEY_free(key);
}

static void a_megabyte_and_a_byte_is_too_much_for_a_key(void **state)
{
	size_t length = (1u << 20) + 1;
	char *text = malloc(length);

	(void)state;
	memset(text, 'a', length);
	assert_import_refused(text, length, "1048577 bytes are too many");
	assert_import_refused(text, length - 1, "no private key in it");
	free(text);
}

static void every_cut_and_flipped_key_is_survived(void **state)
{
	EVP_PKEY *key = new_key("P-256");
	PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(key);
	unsigned char *der = NULL;
	size_t length = (size_t)i2d_PKCS8_PRIV_KEY_INFO(info, &der);

	(void)state;
	for (size_t i = 0; i < length; i++) {
		assert_import_refused(der, i, "");
		der[i] ^= 0x41;
		record_free(import(der, length));
		der[i] ^= 0x41;
	}
	assert_imported(der, length, key);
	PKCS8_PRIV_KEY_INFO_free(info);
	OPENSSL_free(der);
	EVP_PKEY_free(key);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_are_imported_from_pem_and_der),
		cmocka_unit_test(what_stands_around_a_pem_key_is_no_hindrance),
		cmocka_unit_test(an_encrypted_key_is_refused_with_how_to_open_it),
		cmocka_unit_test(keys_of_no_use_are_refused_each_with_its_reason),
		cmocka_unit_test(a_number_that_takes_hours_to_use_is_refused),
		cmocka_unit_test(what_is_not_one_key_is_refused_in_words),
		cmocka_unit_test(a_megabyte_and_a_byte_is_too_much_for_a_key),
		cmocka_unit_test(every_cut_and_flipped_key_is_survived),
	};

	return cmocka_run_group_tests(tests, start_keys, stop_keys);
}
