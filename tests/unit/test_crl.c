#include "enroll/crl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NOW 1800000000

static EVP_PKEY *key, *other_key;
static X509 *ca, *no_crl_ca;

static X509 *make_ca_with(const char *usage, const EVP_MD *digest)
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
	assert_true(X509_sign(certificate, key, digest) > 0);
	X509_EXTENSION_free(extension);
	X509_NAME_free(name);
	return certificate;
}

static X509 *make_ca(const char *usage)
{
	return make_ca_with(usage, EVP_sha256());
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

/* What was read, with its index. */
struct seen {
	struct crl crl;
	struct crl_facts facts;
	X509_CRL *stub;
	struct crl_entry *entries;
	int body;
};

static void seen_clear(struct seen *seen)
{
	crl_clear(&seen->crl);
	X509_CRL_free(seen->stub);
	free(seen->entries);
	if (seen->body)
		close(seen->body);
	*seen = (struct seen){ 0 };
}

static int make_file(const void *bytes, size_t length)
{
	int fd = memfd_create("file", MFD_CLOEXEC);

	assert_int_equal(write(fd, bytes, length), length);
	return fd;
}

/* Reads number N of TEXT and has SIGNERS judge it. */
static int read_number(const void *text, size_t length, size_t n, STACK_OF(X509) * signers,
                       bool legacy, struct seen *seen, struct error *err)
{
	int fd = make_file(text, length), index = make_file("old", 3);
	struct crl_paths paths = { fd, n, seen->body = make_file("", 0), index, make_file("", 0) };
	struct crl_index *opened = NULL;
	int r = crl_read(&paths, signers, NULL, &seen->crl, err);

	if (r == 0) {
		struct stub stub = { seen->crl.stub, seen->crl.stub_length, seen->crl.digest,
			             seen->crl.digest_length };
		size_t size = (size_t)seen->crl.entries * sizeof *seen->entries;

		seen->entries = malloc(size + 1);
		assert_int_equal(pread(index, seen->entries, size, 0), size);
		assert_int_equal(crl_index_open(index, &opened), 0);
		index = -1;
		seen->stub = stub_crl_new(&stub, opened, err);
		r = seen->stub ? crl_facts_read(seen->stub, NOW, legacy, &seen->facts, err)
		               : -EBADMSG;
	}
	if (r == 0 && !crl_find_signer(seen->stub, signers, err))
		r = -EBADMSG;
	close(fd);
	close(paths.scratch);
	if (index >= 0)
		close(index);
	return r;
}

static int read_as(const void *der, size_t length, X509 *issuer, bool legacy, struct seen *seen,
                   struct error *err)
{
	STACK_OF(X509) *signers = sk_X509_new_null();
	struct error own = { 0 };
	int r;

	sk_X509_push(signers, issuer);
	*seen = (struct seen){ 0 };
	r = read_number(der, length, 0, signers, legacy, seen, &own);
	if (err)
		*err = own;
	assert_true(r == 0 || own.code);
	sk_X509_free(signers);
	return r;
}

/* Frees CRL. */
static void read_good(X509_CRL *crl, struct seen *seen)
{
	struct error err = { 0 };
	size_t length;
	unsigned char *der = finish(crl, key, EVP_sha256(), &length);

	if (read_as(der, length, ca, false, seen, &err) < 0)
		fail_msg("%s", err.text);
	OPENSSL_free(der);
}

static void assert_refused(X509_CRL *crl, EVP_PKEY *signer, const EVP_MD *digest, const char *words)
{
	struct error err = { 0 };
	struct seen seen;
	size_t length;
	unsigned char *der = finish(crl, signer, digest, &length);

	assert_int_equal(read_as(der, length, ca, false, &seen, &err), -EBADMSG);
	if (!strstr(err.text, words))
		fail_msg("\"%s\" does not say \"%s\"", err.text, words);
	seen_clear(&seen);
	OPENSSL_free(der);
}

/* What OpenSSL finds of the serial number in HEX, for ISSUER (NULL: the CA): 0, 1, 2. */
static int look_up(X509_CRL *crl, const char *hex, const X509_NAME *issuer, X509_REVOKED **entry)
{
	X509 *certificate = X509_new();
	BIGNUM *number = NULL;
	ASN1_INTEGER *serial;
	int r;

	BN_hex2bn(&number, hex);
	serial = BN_to_ASN1_INTEGER(number, NULL);
	X509_set_serialNumber(certificate, serial);
	X509_set_issuer_name(certificate, issuer ? issuer : X509_get_subject_name(ca));
	r = X509_CRL_get0_by_cert(crl, entry, certificate);
	X509_free(certificate);
	ASN1_INTEGER_free(serial);
	BN_free(number);
	return r;
}

/* --- tests --- */

static void entries_come_out_sorted_with_reason_and_time(void **state)
{
	static const char long_serial[] = "FF02030405060708090A0B0C0D0E0F1011121314";
	X509_CRL *made = new_crl();
	struct crl_entry *entry;
	struct seen seen;

	(void)state;
	add_entry(made, long_serial, NOW - 3, 1);
	add_entry(made, "02", NOW - 2, -1);
	add_entry(made, "0102", -86400, 8);
	add_entry(made, "-02", NOW, 6);
	add_number(made, "0123456789ABCDEF0123456789ABCDEF01234567");
	read_good(made, &seen);
	assert_int_equal(seen.crl.entries, 4);
	assert_int_equal(seen.facts.this_update, NOW - 60);
	assert_int_equal(seen.facts.next_update, NOW + 3600);
	assert_true(seen.facts.whole);
	assert_string_equal(seen.facts.number, "6495562832581790663061892574634853316331521383");
	entry = seen.entries;
	assert_int_equal(entry[0].length, 1);
	assert_int_equal(entry[0].serial[19], 2);
	assert_int_equal(entry[0].serial[18], 0);
	assert_int_equal(entry[0].reason, CRL_NO_REASON);
	assert_int_equal(crl_entry_time(&entry[0]), NOW - 2);
	assert_int_equal(entry[1].length, 2);
	assert_int_equal(crl_entry_time(&entry[1]), -86400);
	assert_int_equal(entry[2].length, 20);
	assert_int_equal(entry[2].serial[0], 0xff);
	assert_int_equal(entry[2].reason, 1);
	assert_int_equal(entry[3].length, CRL_NEGATIVE | 1);
	seen_clear(&seen);
}

static void openssl_finds_in_a_stub_what_it_finds_in_the_whole(void **state)
{
	static const char *const serials[] = { "01",   "02",
		                               "-02",  "FE",
		                               "-01",  "00",
		                               "0102", "FF02030405060708090A0B0C0D0E0F1011121314" };
	X509_CRL *made = new_crl(), *whole;
	const unsigned char *at;
	unsigned char *der;
	struct seen seen;
	size_t length;

	(void)state;
	add_entry(made, serials[7], NOW - 3, 1);
	add_entry(made, "02", NOW - 2, -1);
	add_entry(made, "-02", NOW, 6);
	add_entry(made, "00", NOW, 6);
	at = der = finish(made, key, EVP_sha256(), &length);
	whole = d2i_X509_CRL(NULL, &at, (long)length);
	assert_int_equal(read_as(der, length, ca, false, &seen, NULL), 0);
	assert_int_equal(X509_CRL_verify(seen.stub, key), 1);
	assert_int_equal(X509_CRL_verify(seen.stub, other_key), 0);
	for (size_t i = 0; i < COUNT(serials); i++) {
		X509_REVOKED *one = NULL, *other = NULL;
		int found = look_up(whole, serials[i], NULL, &one);

		assert_int_equal(look_up(seen.stub, serials[i], NULL, &other), found);
		if (found)
			assert_int_equal(ASN1_TIME_compare(X509_REVOKED_get0_revocationDate(one),
			                                   X509_REVOKED_get0_revocationDate(other)),
			                 0);
		if (found)
			assert_int_equal(X509_REVOKED_get_ext_count(one),
			                 X509_REVOKED_get_ext_count(other));
	}
	assert_true(stub_crl_is_whole(seen.stub));
	seen_clear(&seen);
	X509_CRL_free(whole);
	OPENSSL_free(der);
}

static void only_a_delta_takes_a_certificate_off(void **state)
{
	X509_CRL *made = new_crl();
	ASN1_INTEGER *base = ASN1_INTEGER_new();
	struct seen seen;

	(void)state;
	add_entry(made, "05", NOW, 8);
	read_good(made, &seen);
	assert_int_equal(look_up(seen.stub, "05", NULL, NULL), 1);
	seen_clear(&seen);
	made = new_crl();
	add_entry(made, "05", NOW, 8);
	add_number(made, "07");
	ASN1_INTEGER_set(base, 3);
	X509_CRL_add1_ext_i2d(made, NID_delta_crl, base, 1, 0);
	read_good(made, &seen);
	assert_string_equal(seen.facts.base, "3");
	assert_int_equal(look_up(seen.stub, "05", NULL, NULL), 2);
	seen_clear(&seen);
	ASN1_INTEGER_free(base);
}

static void many_entries_are_merged_out_of_runs(void **state)
{
	enum { MANY = 70000 };
	X509_CRL *made = new_crl();
	char hex[16];
	struct seen seen;

	(void)state;
	for (unsigned i = 0; i < MANY; i++) { /* each once, in no order */
		snprintf(hex, sizeof hex, "%06X", 1 + i * 7919 % MANY);
		add_entry(made, hex, NOW, -1);
	}
	read_good(made, &seen);
	assert_int_equal(seen.crl.entries, MANY);
	for (int i = 1; i < MANY; i++)
		assert_true(memcmp(&seen.entries[i - 1], &seen.entries[i], CRL_SERIAL_KEY) < 0);
	for (unsigned i = 0; i <= MANY + 1; i += 1 + i % 97) {
		snprintf(hex, sizeof hex, "%06X", i);
		assert_int_equal(look_up(seen.stub, hex, NULL, NULL), i > 0 && i <= MANY);
	}
	snprintf(hex, sizeof hex, "%06X", MANY);
	assert_int_equal(look_up(seen.stub, hex, NULL, NULL), 1);
	seen_clear(&seen);
}

static void an_empty_crl_is_one(void **state)
{
	struct seen seen;

	(void)state;
	read_good(new_crl(), &seen);
	assert_int_equal(seen.crl.entries, 0);
	assert_string_equal(seen.facts.number, "");
	assert_int_equal(look_up(seen.stub, "01", NULL, NULL), 0);
	seen_clear(&seen);
}

static X509_NAME *make_name(const char *cn)
{
	X509_NAME *name = X509_NAME_new();

	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)cn, -1, -1, 0);
	return name;
}

static void add_issuer(X509_REVOKED *entry, const X509_NAME *issuer)
{
	GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
	GENERAL_NAME *name = GENERAL_NAME_new();

	GENERAL_NAME_set0_value(name, GEN_DIRNAME, X509_NAME_dup(issuer));
	sk_GENERAL_NAME_push(names, name);
	X509_REVOKED_add1_ext_i2d(entry, NID_certificate_issuer, names, 1, 0);
	GENERAL_NAMES_free(names);
}

static void an_indirect_crl_speaks_of_each_issuer_alone(void **state)
{
	X509_NAME *other = make_name("other"), *third = make_name("third");
	X509_CRL *made = new_crl();
	struct seen seen;

	(void)state;
	add_entry(made, "01", NOW, -1);
	add_issuer(add_entry(made, "02", NOW, -1), other);
	add_entry(made, "03", NOW, -1); /* the issuer carries on */
	add_issuer(add_entry(made, "02", NOW, -1), third);
	add_issuer(add_entry(made, "04", NOW, -1), X509_get_subject_name(ca));
	add_text_extension(made, NID_issuing_distribution_point, "critical,indirectCRL:TRUE");
	read_good(made, &seen);
	assert_false(seen.facts.whole);
	assert_int_equal(look_up(seen.stub, "01", NULL, NULL), 1);
	assert_int_equal(look_up(seen.stub, "01", other, NULL), 0);
	assert_int_equal(look_up(seen.stub, "02", NULL, NULL), 0);
	assert_int_equal(look_up(seen.stub, "02", other, NULL), 1);
	assert_int_equal(look_up(seen.stub, "02", third, NULL), 1);
	assert_int_equal(look_up(seen.stub, "03", other, NULL), 1);
	assert_int_equal(look_up(seen.stub, "03", third, NULL), 0);
	assert_int_equal(look_up(seen.stub, "04", NULL, NULL), 1);
	seen_clear(&seen);
	X509_NAME_free(other);
	X509_NAME_free(third);
}

static void a_text_may_hold_several(void **state)
{
	STACK_OF(X509) *signers = sk_X509_new_null();
	BIO *text = BIO_new(BIO_s_mem());
	struct seen seen = { 0 };
	struct error err = { 0 };
	char *bytes, body[4096];
	long size;

	(void)state;
	sk_X509_push(signers, ca);
	BIO_puts(text, "a word before it\r\n");
	for (int i = 0; i < 2; i++) {
		X509_CRL *made = new_crl();

		add_number(made, i ? "0A" : "09");
		X509_CRL_sign(made, key, EVP_sha256());
		PEM_write_bio_X509_CRL(text, made);
		PEM_write_bio_X509(text, ca);
		X509_CRL_free(made);
	}
	size = BIO_get_mem_data(text, &bytes);
	for (size_t i = 0; i < 2; i++) {
		unsigned char *der = NULL;

		assert_int_equal(read_number(bytes, (size_t)size, i, signers, false, &seen, &err),
		                 0);
		assert_int_equal(seen.crl.crls, 2);
		assert_string_equal(seen.facts.number, i ? "10" : "9");
		size_t length = (size_t)pread(seen.body, body, sizeof body, 0);
		assert_int_equal(length, seen.crl.size);
		assert_int_equal(i2d_X509_CRL(seen.stub, &der), length); /* it has no entries */
		assert_memory_equal(body, der, length);
		OPENSSL_free(der);
		seen_clear(&seen);
	}
	assert_int_equal(read_number(bytes, (size_t)size, 2, signers, false, &seen, &err),
	                 -EBADMSG);
	seen_clear(&seen);
	/* cut in the block, or its base64 broken */
	assert_int_equal(read_number(bytes, 200, 0, signers, false, &seen, &err), -EBADMSG);
	seen_clear(&seen);
	sk_X509_free(signers);
	BIO_free(text);
}

static void what_the_ca_did_not_sign_is_refused(void **state)
{
	X509_CRL *foreign = new_crl();
	X509_NAME *name = make_name("B");
	struct error err;
	struct seen seen;
	unsigned char *der;
	size_t length;

	(void)state;
	assert_refused(new_crl(), other_key, EVP_sha256(), "its signature is wrong");
	X509_CRL_set_issuer_name(foreign, name);
	assert_refused(foreign, key, EVP_sha256(), "another issuer");
	der = finish(new_crl(), key, EVP_sha256(), &length);
	assert_int_equal(read_as(der, length, no_crl_ca, false, &seen, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "lacks cRLSign"));
	seen_clear(&seen);
	OPENSSL_free(der);
	X509_NAME_free(name);
}

static void every_kind_of_signature_is_checked(void **state)
{
	EVP_PKEY *keys[] = { EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), EVP_RSA_gen(2048),
		             EVP_RSA_gen(2048), EVP_EC_gen("P-384") };
	EVP_PKEY *own = key;

	(void)state;
	for (size_t i = 0; i < COUNT(keys); i++) {
		X509_CRL *made = new_crl();
		EVP_MD_CTX *context = EVP_MD_CTX_new();
		EVP_PKEY_CTX *parameters;
		unsigned char *der = NULL;
		struct error err = { 0 };
		struct seen seen;
		X509 *issuer;
		int length;

		key = keys[i];
		issuer = make_ca_with("keyCertSign,cRLSign", i ? EVP_sha256() : NULL);
		add_entry(made, "05", NOW, -1);
		assert_int_equal(EVP_DigestSignInit(context, &parameters, i ? EVP_sha384() : NULL,
		                                    NULL, key),
		                 1);
		if (i == 2) {
			EVP_PKEY_CTX_set_rsa_padding(parameters, RSA_PKCS1_PSS_PADDING);
			EVP_PKEY_CTX_set_rsa_pss_saltlen(parameters, 48);
		}
		assert_true(X509_CRL_sign_ctx(made, context) > 0);
		length = i2d_X509_CRL(made, &der);
		if (read_as(der, (size_t)length, issuer, false, &seen, &err) < 0)
			fail_msg("%zu: %s", i, err.text);
		assert_int_equal(X509_CRL_verify(seen.stub, key), 1);
		assert_int_equal(X509_CRL_verify(seen.stub, own), 0);
		assert_int_equal(look_up(seen.stub, "05", NULL, NULL), 1);
		seen_clear(&seen);
		der[length / 2] ^= 1; /* in the entry's neighbourhood */
		assert_int_equal(read_as(der, (size_t)length, issuer, false, &seen, &err),
		                 -EBADMSG);
		seen_clear(&seen);
		OPENSSL_free(der);
		EVP_MD_CTX_free(context);
		X509_CRL_free(made);
		X509_free(issuer);
		EVP_PKEY_free(keys[i]);
	}
	key = own;
}

static void sha_1_is_for_those_who_allow_it(void **state)
{
	struct seen seen;
	size_t length;
	unsigned char *der = finish(new_crl(), key, EVP_sha1(), &length);

	(void)state;
	assert_int_equal(read_as(der, length, ca, true, &seen, NULL), 0);
	seen_clear(&seen);
	OPENSSL_free(der);
	assert_refused(new_crl(), key, EVP_sha1(), "SHA-1");
}

static void scopes_are_told_apart(void **state)
{
	static const char *const scopes[] = { "onlyuser:TRUE",
		                              "onlyCA:TRUE",
		                              "onlyAA:TRUE",
		                              "indirectCRL:TRUE",
		                              "onlysomereasons:keyCompromise",
		                              "critical,fullname:URI:http://crl.example/ca.crl" };
	unsigned char slots[COUNT(scopes) + 1][CRL_SLOT_MAX];
	struct seen seen;

	(void)state;
	read_good(new_crl(), &seen);
	memcpy(slots[COUNT(scopes)], seen.facts.slot, CRL_SLOT_MAX);
	seen_clear(&seen);
	for (size_t i = 0; i < COUNT(scopes); i++) {
		X509_CRL *partial = new_crl();

		add_text_extension(partial, NID_issuing_distribution_point, scopes[i]);
		read_good(partial, &seen);
		assert_int_equal(seen.facts.whole, i == COUNT(scopes) - 1);
		memcpy(slots[i], seen.facts.slot, CRL_SLOT_MAX);
		seen_clear(&seen);
	}
	for (size_t i = 0; i < COUNT(slots); i++)
		for (size_t j = 0; j < i; j++)
			assert_memory_not_equal(slots[i], slots[j], CRL_SLOT_MAX);
}

static void attack_37_a_delta_without_a_number_is_refused(void **state)
{
	X509_CRL *crl = new_crl();
	ASN1_INTEGER *base = ASN1_INTEGER_new();

	(void)state;
	ASN1_INTEGER_set(base, 1);
	X509_CRL_add1_ext_i2d(crl, NID_delta_crl, base, 1, 0);
	assert_refused(crl, key, EVP_sha256(), "is a delta CRL without a number");
	ASN1_INTEGER_free(base);
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

static void attack_36_a_crl_from_the_future_is_refused_beyond_five_minutes(void **state)
{
	X509_CRL *made = new_crl();
	ASN1_TIME *time = ASN1_TIME_set(NULL, NOW + 300);
	struct seen seen;

	(void)state;
	X509_CRL_set1_lastUpdate(made, time);
	read_good(made, &seen);
	seen_clear(&seen);
	made = new_crl();
	ASN1_TIME_set(time, NOW + 301);
	X509_CRL_set1_lastUpdate(made, time);
	assert_refused(made, key, EVP_sha256(), "301 s ahead");
	ASN1_TIME_free(time);
}

static void no_shorter_longer_or_changed_crl_is_taken(void **state)
{
	X509_CRL *made = new_crl();
	struct seen seen;
	unsigned char *der, *longer;
	size_t length;

	(void)state;
	add_entry(made, "0102", NOW, 4);
	add_number(made, "07");
	der = finish(made, key, EVP_sha256(), &length);
	for (size_t cut = 1; cut < length; cut++) {
		assert_int_equal(read_as(der, cut, ca, false, &seen, NULL), -EBADMSG);
		seen_clear(&seen);
	}
	for (size_t i = 0; i < length; i++) {
		der[i] ^= 0x04;
		assert_int_equal(read_as(der, length, ca, false, &seen, NULL), -EBADMSG);
		seen_clear(&seen);
		der[i] ^= 0x04;
	}
	longer = OPENSSL_zalloc(length + 1);
	memcpy(longer, der, length);
	assert_int_equal(read_as(longer, length + 1, ca, false, &seen, NULL), -EBADMSG);
	seen_clear(&seen);
	OPENSSL_free(longer);
	OPENSSL_free(der);
}

/* Every byte of an index matters: a damaged one finds what it should, or says that it cannot. */
static void attack_66_no_damaged_index_frees_anybody(void **state)
{
	X509_CRL *made = new_crl();
	unsigned char bytes[16384];
	struct seen seen;
	size_t length;
	char hex[8];
	int fd = memfd_create("index", MFD_CLOEXEC), scratch = memfd_create("s", MFD_CLOEXEC);
	unsigned char *der;

	(void)state;
	for (int i = 1; i <= 300; i++) {
		snprintf(hex, sizeof hex, "%04X", i);
		add_entry(made, hex, NOW, -1);
	}
	der = finish(made, key, EVP_sha256(), &length);
	seen.body = make_file(der, length);
	struct crl_paths paths = { seen.body, 0, seen.body, fd, scratch };
	assert_int_equal(crl_read(&paths, NULL, NULL, &seen.crl, NULL), 0);
	length = (size_t)pread(fd, bytes, sizeof bytes, 0);
	for (size_t i = 0; i < length; i++) {
		struct stub stub = { seen.crl.stub, seen.crl.stub_length, seen.crl.digest,
			             seen.crl.digest_length };
		int damaged = memfd_create("damaged", MFD_CLOEXEC);
		struct crl_index *index;
		X509_CRL *crl;

		bytes[i] ^= 0x10;
		assert_int_equal(write(damaged, bytes, length), length);
		bytes[i] ^= 0x10;
		if (crl_index_open(damaged, &index) < 0) {
			close(damaged);
			continue;
		}
		crl = stub_crl_new(&stub, index, NULL);
		for (size_t serial = 1; serial <= 300; serial += i % 101 ? 37 : 1) {
			snprintf(hex, sizeof hex, "%04zX", serial);
			assert_int_equal(look_up(crl, hex, NULL, NULL), 1);
		}
		X509_CRL_free(crl);
	}
	crl_clear(&seen.crl);
	OPENSSL_free(der);
	close(seen.body);
	close(fd);
	close(scratch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(entries_come_out_sorted_with_reason_and_time),
		cmocka_unit_test(openssl_finds_in_a_stub_what_it_finds_in_the_whole),
		cmocka_unit_test(only_a_delta_takes_a_certificate_off),
		cmocka_unit_test(many_entries_are_merged_out_of_runs),
		cmocka_unit_test(an_empty_crl_is_one),
		cmocka_unit_test(an_indirect_crl_speaks_of_each_issuer_alone),
		cmocka_unit_test(a_text_may_hold_several),
		cmocka_unit_test(what_the_ca_did_not_sign_is_refused),
		cmocka_unit_test(every_kind_of_signature_is_checked),
		cmocka_unit_test(sha_1_is_for_those_who_allow_it),
		cmocka_unit_test(scopes_are_told_apart),
		cmocka_unit_test(attack_37_a_delta_without_a_number_is_refused),
		cmocka_unit_test(critical_extensions_that_are_not_known_are_refused),
		cmocka_unit_test(impossible_values_are_refused),
		cmocka_unit_test(attack_36_a_crl_from_the_future_is_refused_beyond_five_minutes),
		cmocka_unit_test(no_shorter_longer_or_changed_crl_is_taken),
		cmocka_unit_test(attack_66_no_damaged_index_frees_anybody),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
