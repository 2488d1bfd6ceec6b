#include "common/x509.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static EVP_PKEY *key; /* made once: P-256 */

static int make_key(void **state)
{
	(void)state;
	key = EVP_EC_gen("P-256");
	return key ? 0 : -1;
}

static int free_key(void **state)
{
	(void)state;
	EVP_PKEY_free(key);
	return 0;
}

static X509_NAME *parsed(const char *text, const char *serial)
{
	struct error err = { 0 };
	X509_NAME *name = NULL;

	if (dn_parse(text, serial, &name, &err) < 0)
		fail_msg("%s: %s", text, err.text);
	return name;
}

static void assert_printed(const char *text, const char *printed)
{
	X509_NAME *name = parsed(text, NULL), *again;
	char *out = dn_text(name);

	assert_string_equal(out, printed);
	again = parsed(out, NULL);
	assert_int_equal(X509_NAME_cmp(name, again), 0);
	X509_NAME_free(again);
	X509_NAME_free(name);
	free(out);
}

static void a_name_is_printed_as_it_was_written(void **state)
{
	(void)state;
	assert_printed("CN=a", "CN=a");
	assert_printed(" CN = a b , O=c ", "CN=a b,O=c");
	assert_printed("cn=a,ou=b,o=c,l=d,st=e,c=DE,dc=f,dc=g",
	               "CN=a,OU=b,O=c,L=d,ST=e,C=DE,DC=f,DC=g");
	assert_printed("CN=a,OU=b,OU=c", "CN=a,OU=b,OU=c");
	assert_printed("CN=a+OU=b,O=c", "CN=a+OU=b,O=c");
	assert_printed("SN=4711,CN=a", "serialNumber=4711,CN=a");
	assert_printed("surname=Doe,GN=Jo,title=x,UID=u", "surname=Doe,GN=Jo,title=x,UID=u");
	assert_printed("emailAddress=a@example.net", "emailAddress=a@example.net");
	assert_printed("CN=a\\,b\\+c\\\"d\\\\e\\<f\\>g\\;h", "CN=a\\,b\\+c\\\"d\\\\e\\<f\\>g\\;h");
	assert_printed("CN=\\#a", "CN=\\#a");
	assert_printed("CN=\\ a\\ ", "CN=\\ a\\ ");
	assert_printed("CN=\\ ", "CN=\\ ");
	assert_printed("CN=a=b\\=c", "CN=a=b=c");
	assert_printed("CN=M\xc3\xbcller", "CN=M\xc3\xbcller");
	assert_printed("CN=M\\C3\\bcller", "CN=M\xc3\xbcller");
}

static void the_string_types_are_those_of_rfc_5280(void **state)
{
	static const int types[] = { V_ASN1_UTF8STRING, V_ASN1_PRINTABLESTRING,
		                     V_ASN1_PRINTABLESTRING, V_ASN1_IA5STRING };
	X509_NAME *name = parsed("CN=a,C=DE,SN=1,DC=x", NULL);

	(void)state;
	assert_int_equal(X509_NAME_entry_count(name), (int)COUNT(types));
	for (int i = 0; i < (int)COUNT(types); i++)
		assert_int_equal(
			ASN1_STRING_type(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, i))),
			types[i]);
	X509_NAME_free(name);
}

static void sn_alone_takes_the_device_s_serial_number(void **state)
{
	static const char *const texts[] = { "CN=a,SN", "CN=a,SN=", "CN=a, sn ", "CN=a,SN= " };

	(void)state;
	for (size_t i = 0; i < COUNT(texts); i++) {
		X509_NAME *name = parsed(texts[i], "PN-7");
		char *out = dn_text(name);

		assert_string_equal(out, "CN=a,serialNumber=PN-7");
		X509_NAME_free(name);
		free(out);
	}
}

static void assert_name_refused(const char *text, const char *sentence)
{
	struct error err = { 0 };
	X509_NAME *name = NULL;

	assert_int_equal(dn_parse(text, NULL, &name, &err), -EINVAL);
	assert_null(name);
	if (!strstr(err.text, sentence))
		fail_msg("\"%s\" is refused with \"%s\"", text, err.text);
	assert_int_equal(ERR_peek_error(), 0);
}

static void what_is_no_name_is_refused_in_words(void **state)
{
	char many[1000] = "OU=a", big[1200] = "CN=";

	(void)state;
	assert_name_refused("", "no attribute at \"\"");
	assert_name_refused("www", "\"www\" is no attribute");
	assert_name_refused("CN", "CN has no \"=\"");
	assert_name_refused("CN=", "CN has no value");
	assert_name_refused("CN=a,", "no attribute at \"\"");
	assert_name_refused("CN=a,,O=b", "no attribute at \",O=b\"");
	assert_name_refused("CN=a,SN", "SN has no value");
	assert_name_refused("XX=y", "\"XX\" is no attribute");
	assert_name_refused("SHA256=y", "\"SHA256\" is no attribute");
	assert_name_refused("CN=\"a\"", "behind a");
	assert_name_refused("CN=a\\", "behind a");
	assert_name_refused("CN=a\\x", "behind a");
	assert_name_refused("CN=a\\4", "behind a");
	assert_name_refused("CN=#0401", "\\#");
	assert_name_refused("CN=\x1b[2J", "control character");
	assert_name_refused("CN=a\\00b", "control character");
	assert_name_refused("CN=a\\0Ab", "control character");
	assert_name_refused("CN=\xff", "not allowed");
	assert_name_refused("C=Germany", "C takes 2 to 2 characters, not \"Germany\"");
	assert_name_refused("DC=\xc3\xbc", "not allowed");
	assert_name_refused("CN=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	                    "CN takes 1 to 64 characters");
	for (int i = 0; i < 64; i++)
		strcat(many, ",OU=a");
	assert_name_refused(many, "up to 64 attributes");
	memset(big + 3, 'a', 1100);
	assert_name_refused(big, "more than 1024 bytes");
}

/* A certificate as hostile peers make them: NAME as it is. */
static X509_NAME *raw_name(int type, const char *bytes, int length)
{
	X509_NAME *name = X509_NAME_new();

	assert_true(X509_NAME_add_entry_by_NID(name, NID_commonName, type,
	                                       (const unsigned char *)bytes, length, -1, 0));
	return name;
}

static void a_name_from_outside_stays_on_one_line(void **state)
{
	static const struct {
		int type;
		const char *bytes, *printed;
		int length;
	} names[] = {
		{ V_ASN1_UTF8STRING, "a\nb\x1b[2J", "CN=a\\0Ab\\1B[2J", 7 },
		{ V_ASN1_UTF8STRING, "a\0b", "CN=a\\00b", 3 },
		{ V_ASN1_UTF8STRING, "\xff\xc3", "CN=\\FF\\C3", 2 },
		{ V_ASN1_UTF8STRING, "\xc2\x9b", "CN=\\C2\\9B", 2 },
		{ V_ASN1_UTF8STRING, "\xe2\x80\xae", "CN=\\E2\\80\\AE", 3 },
		{ V_ASN1_T61STRING, "\xfc", "CN=\xc3\xbc", 1 },
		{ V_ASN1_BMPSTRING, "\0a\0,", "CN=a\\,", 4 },
		{ V_ASN1_UTF8STRING, "", "CN=", 0 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(names); i++) {
		X509_NAME *name = raw_name(names[i].type, names[i].bytes, names[i].length);
		char *out = dn_text(name);

		assert_string_equal(out, names[i].printed);
		free(out);
		X509_NAME_free(name);
	}
}

static void names_are_the_same_in_any_order_and_spelling(void **state)
{
	X509_NAME *one = parsed("CN=Ab  c,O=x,OU=y,OU=z", NULL);
	X509_NAME *other = parsed("OU=Z,OU=y,O=X,CN=aB c", NULL);
	X509_NAME *twice = parsed("CN=Ab c,O=x,OU=y,OU=y", NULL);
	X509_NAME *fewer = parsed("CN=Ab c,O=x,OU=y", NULL);
	X509_NAME *types = parsed("O=Ab c,CN=x,OU=y,OU=z", NULL);
	X509_NAME *printable = raw_name(V_ASN1_PRINTABLESTRING, "a", 1);
	X509_NAME *utf8 = raw_name(V_ASN1_UTF8STRING, "A", 1);
	X509_NAME *nul = raw_name(V_ASN1_UTF8STRING, "a\0b", 3);

	(void)state;
	assert_true(dn_same_attributes(one, other));
	assert_false(dn_same_attributes(one, twice));
	assert_false(dn_same_attributes(twice, one));
	assert_false(dn_same_attributes(one, fewer));
	assert_false(dn_same_attributes(fewer, one));
	assert_false(dn_same_attributes(one, types));
	assert_true(dn_same_attributes(printable, utf8));
	assert_false(dn_same_attributes(utf8, nul));
	X509_NAME_free(one);
	X509_NAME_free(other);
	X509_NAME_free(twice);
	X509_NAME_free(fewer);
	X509_NAME_free(types);
	X509_NAME_free(printable);
	X509_NAME_free(utf8);
	X509_NAME_free(nul);
}

#define LABEL_63 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static void each_alternative_name_is_checked(void **state)
{
	static const struct {
		int (*check)(const char *, struct error *);
		const char *good[7], *bad[12];
	} checks[] = {
		{ check_dns_name,
		  { "a", "a.example", "*.example.net", "x-1.example", "xn--mller-kva.example",
		    LABEL_63 ".example" },
		  { "", ".", "a.", ".a", "a..b", "-a", "a-", "a b", "*", "a.*.b", LABEL_63 "a" } },
		{ check_ip_address,
		  { "192.0.2.1", "2001:db8::1", "::" },
		  { "", "192.0.2", "192.0.2.256", "host", "fe80::1%lo", "1.2.3.4/8" } },
		{ check_email,
		  { "a@example.net", "a.b+c@x" },
		  { "", "a", "@x", "a@", "a@@x", ".a@x", "a.@x", "a b@x", "a@*.x", "\"a\"@x" } },
	};
	struct error err;

	(void)state;
	for (size_t i = 0; i < COUNT(checks); i++) {
		for (size_t j = 0; j < COUNT(checks[i].good) && checks[i].good[j]; j++)
			assert_int_equal(checks[i].check(checks[i].good[j], &err), 0);
		for (size_t j = 0; j < COUNT(checks[i].bad) && checks[i].bad[j]; j++)
			if (checks[i].check(checks[i].bad[j], &err) != -EINVAL)
				fail_msg("\"%s\" is taken", checks[i].bad[j]);
	}
	check_dns_name("192.0.2.1", &err);
	assert_string_equal(err.text,
	                    "\"192.0.2.1\" is an IP address, no DNS name: use ip-address");
	check_dns_name("m\xc3\xbcller.example", &err);
	assert_non_null(strstr(err.text, "xn--"));
}

static void alternative_names_keep_their_order(void **state)
{
	static const char *const printed[] = { "DNS:b.example", "IP:192.0.2.1", "DNS:a.example",
		                               "email:a@example.net", "IP:2001:db8::1" };
	struct record *config = record_new();
	GENERAL_NAMES *names = NULL;
	struct error err;

	(void)state;
	assert_int_equal(alternative_names(config, &names, &err), 0);
	assert_null(names);
	record_add(config, "domain-name", "b.example");
	record_add(config, "ip-address", "192.0.2.1");
	record_add(config, "subject", "CN=x");
	record_add(config, "domain-name", "a.example");
	record_add(config, "email", "a@example.net");
	record_add(config, "ip-address", "2001:db8::1");
	assert_int_equal(alternative_names(config, &names, &err), 0);
	assert_int_equal(sk_GENERAL_NAME_num(names), (int)COUNT(printed));
	for (int i = 0; i < (int)COUNT(printed); i++) {
		char *text = alternative_name_text(sk_GENERAL_NAME_value(names, i));

		assert_string_equal(text, printed[i]);
		free(text);
	}
	GENERAL_NAMES_free(names);
	names = NULL;
	record_add_bytes(config, "domain-name", "a.example\0.evil", 15);
	assert_int_equal(alternative_names(config, &names, &err), -EINVAL);
	assert_null(names);
	record_free(config);
}

static void an_alternative_name_from_outside_is_escaped(void **state)
{
	GENERAL_NAME *name = GENERAL_NAME_new();
	ASN1_STRING *value = ASN1_IA5STRING_new();
	char *text;

	(void)state;
	ASN1_STRING_set(value, "a\n,DNS:b\0c", 10);
	GENERAL_NAME_set0_value(name, GEN_DNS, value);
	text = alternative_name_text(name);
	assert_string_equal(text, "DNS:a\\0A\\,DNS:b\\00c");
	free(text);
	GENERAL_NAME_free(name);
}

static X509 *certificate_of(const char *subject)
{
	X509_NAME *name = parsed(subject, NULL);
	X509 *certificate = X509_new();

	X509_set_version(certificate, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(certificate), 0x1234);
	ASN1_TIME_set_string(X509_getm_notBefore(certificate), "20260102030405Z");
	ASN1_TIME_set_string(X509_getm_notAfter(certificate), "20991231235959Z");
	X509_set_subject_name(certificate, name);
	X509_set_issuer_name(certificate, name);
	X509_set_pubkey(certificate, key);
	assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
	X509_NAME_free(name);
	return certificate;
}

static STACK_OF(X509) * two_certificates(void)
{
	STACK_OF(X509) *stack = sk_X509_new_null();

	sk_X509_push(stack, certificate_of("CN=one"));
	sk_X509_push(stack, certificate_of("CN=two"));
	return stack;
}

static void assert_read(const void *text, size_t length, const char *first, int count)
{
	STACK_OF(X509) *found = NULL;
	struct error err = { 0 };
	char *subject;

	if (certificates_read(text, length, 2, &found, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(sk_X509_num(found), count);
	subject = dn_text(X509_get_subject_name(sk_X509_value(found, 0)));
	assert_string_equal(subject, first);
	free(subject);
	sk_X509_pop_free(found, X509_free);
}

static void assert_unread(const void *text, size_t length, const char *sentence)
{
	STACK_OF(X509) *found = NULL;
	struct error err = { 0 };

	assert_int_equal(certificates_read(text, length, 2, &found, &err), -EINVAL);
	assert_null(found);
	if (!strstr(err.text, sentence))
		fail_msg("refused with \"%s\"", err.text);
	assert_int_equal(ERR_peek_error(), 0);
}

static void certificates_are_read_from_pem_with_anything_between(void **state)
{
	STACK_OF(X509) *two = two_certificates();
	char *pem, *text, *crlf, *to;
	size_t length;

	(void)state;
	assert_int_equal(certificates_to_pem(two, &pem, &length), 0);
	assert_int_equal(strlen(pem), length);
	assert_read(pem, length, "CN=one", 2);
	assert_true(asprintf(&text,
	                     "\xef\xbb\xbf%ssubject: x\n\n%s-----BEGIN X509 CRL-----\n"
	                     "MAA=\n-----END X509 CRL-----\nend",
	                     "", pem) > 0);
	assert_read(text, strlen(text), "CN=one", 2);
	crlf = to = malloc(2 * length);
	for (const char *from = pem; *from; from++) {
		if (*from == '\n')
			*to++ = '\r';
		*to++ = *from;
	}
	assert_read(crlf, (size_t)(to - crlf), "CN=one", 2);
	free(crlf);
	free(text);
	free(pem);
	sk_X509_pop_free(two, X509_free);
}

/* What `openssl crl2pkcs7 -nocrl` makes. */
static int certs_only(STACK_OF(X509) * certificates, unsigned char **der)
{
	PKCS7 *pkcs7 = PKCS7_new();
	int size;

	PKCS7_set_type(pkcs7, NID_pkcs7_signed);
	PKCS7_content_new(pkcs7, NID_pkcs7_data);
	PKCS7_set_detached(pkcs7, 1);
	for (int i = 0; i < sk_X509_num(certificates); i++)
		PKCS7_add_certificate(pkcs7, sk_X509_value(certificates, i));
	*der = NULL;
	size = i2d_PKCS7(pkcs7, der);
	PKCS7_free(pkcs7);
	assert_true(size > 0);
	return size;
}

static void certificates_are_read_from_der(void **state)
{
	X509 *certificate = certificate_of("CN=two");
	unsigned char *der, *longer;
	size_t length;

	(void)state;
	assert_int_equal(certificate_to_der(certificate, &der, &length), 0);
	assert_read(der, length, "CN=two", 1);
	longer = calloc(1, length + 1);
	memcpy(longer, der, length);
	assert_unread(longer, length + 1, "1 bytes behind");
	assert_unread(der, length - 1, "no certificate that can be read");
	free(longer);
	OPENSSL_free(der);
	X509_free(certificate);
}

static void certificates_are_read_from_pkcs7(void **state)
{
	STACK_OF(X509) *two = two_certificates();
	BIO *pem = BIO_new(BIO_s_mem());
	unsigned char *der, *longer;
	int size = certs_only(two, &der);
	char *text;

	(void)state;
	assert_read(der, (size_t)size, "CN=one", 2);
	PEM_write_bio(pem, PEM_STRING_PKCS7, "", der, size);
	size = (int)BIO_get_mem_data(pem, &text);
	assert_read(text, (size_t)size, "CN=one", 2);
	OPENSSL_free(der);
	size = certs_only(two, &der);
	longer = calloc(1, (size_t)size + 1);
	memcpy(longer, der, (size_t)size);
	assert_unread(longer, (size_t)size + 1, "no certificate that can be read");
	free(longer);
	OPENSSL_free(der);
	BIO_free(pem);
	sk_X509_pop_free(two, X509_free);
}

static void what_is_no_certificate_is_refused_in_words(void **state)
{
	static const char broken[] =
		"-----BEGIN CERTIFICATE-----\nMIIB!\n-----END CERTIFICATE-----\n";
	static const char empty[] =
		"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
	static const char private[] = "-----BEGIN EC PRIVATE KEY-----\nMAA=\n"
				      "-----END EC PRIVATE KEY-----\n";
	STACK_OF(X509) *two = two_certificates();
	char *pem, *text;
	size_t length;

	(void)state;
	assert_unread("", 0, "no certificate in it");
	assert_unread("hello\n", 6, "no certificate in it");
	assert_unread(broken, strlen(broken), "PEM block 1 in it is damaged");
	assert_unread(empty, strlen(empty), "no certificate that can be read");
	assert_unread(private, strlen(private), "private key among");
	assert_int_equal(certificates_to_pem(two, &pem, &length), 0);
	assert_unread(pem, length - 20, "PEM block 2 in it is damaged");
	assert_true(asprintf(&text, "%s%s", pem, pem) > 0);
	assert_unread(text, strlen(text), "more than 2 certificates");
	free(text);
	free(pem);
	sk_X509_pop_free(two, X509_free);
}

static void every_cut_and_flipped_certificate_is_survived(void **state)
{
	X509 *certificate = certificate_of("CN=one");
	struct error err;
	unsigned char *der;
	size_t length;

	(void)state;
	assert_int_equal(certificate_to_der(certificate, &der, &length), 0);
	for (size_t i = 0; i < length; i++) {
		unsigned char *cut = malloc(i ? i : 1);

		memcpy(cut, der, i);
		assert_null(certificate_from_der(cut, i, &err));
		free(cut);
		der[i] ^= 0xff;
		X509_free(certificate_from_der(der, length, &err));
		der[i] ^= 0xff;
	}
	OPENSSL_free(der);
	X509_free(certificate);
}

static void a_certificate_is_described_as_status_spells_it(void **state)
{
	X509 *certificate = certificate_of("CN=one,O=x");
	struct record *status = record_new();

	(void)state;
	certificate_describe(certificate, status);
	assert_string_equal(record_get(status, "subject"), "CN=one,O=x");
	assert_string_equal(record_get(status, "issuer"), "CN=one,O=x");
	assert_string_equal(record_get(status, "serial"), "1234");
	assert_string_equal(record_get(status, "not-before"), "2026-01-02T03:04:05Z");
	assert_string_equal(record_get(status, "not-after"), "2099-12-31T23:59:59Z");
	assert_string_equal(record_get(status, "key"), "ecdsa 256");
	assert_int_equal(strlen(record_get(status, "fingerprint-sha256")), 95);
	record_free(status);
	X509_free(certificate);
}

static void fingerprints_are_compared_with_or_without_colons(void **state)
{
	char text[FINGERPRINT_MAX];

	(void)state;
	assert_int_equal(fingerprint(EVP_md5(), "abc", 3, text), 0);
	assert_string_equal(text, "90:01:50:98:3C:D2:4F:B0:D6:96:3F:7D:28:E1:7F:72");
	assert_true(fingerprint_same(text, "900150983cd24fb0d6963f7d28e17f72"));
	assert_false(fingerprint_same(text, "900150983cd24fb0d6963f7d28e17f73"));
	assert_false(fingerprint_same(text, "900150983cd24fb0d6963f7d28e17f"));
	assert_false(fingerprint_same(text, "900150983cd24fb0d6963f7d28e17f7200"));
	assert_false(fingerprint_same("", ""));
	assert_false(fingerprint_same(":", ":"));
	assert_false(fingerprint_same("zz", "zz"));
}

static void a_public_key_goes_to_der_and_back(void **state)
{
	unsigned char *der, *longer;
	char text[32];
	EVP_PKEY *back;
	size_t length;

	(void)state;
	assert_int_equal(public_key_to_der(key, &der, &length), 0);
	back = public_key_from_der(der, length);
	assert_int_equal(EVP_PKEY_eq(back, key), 1);
	assert_int_equal(key_describe(back, text, sizeof text), 0);
	assert_string_equal(text, "ecdsa 256");
	longer = calloc(1, length + 1);
	memcpy(longer, der, length);
	assert_null(public_key_from_der(longer, length + 1));
	assert_null(public_key_from_der(der, length - 1));
	assert_null(public_key_from_der("", 0));
	free(longer);
	EVP_PKEY_free(back);
	OPENSSL_free(der);
}

static void times_are_written_as_rfc_3339(void **state)
{
	char text[RFC3339_MAX];

	(void)state;
	rfc3339(0, text);
	assert_string_equal(text, "1970-01-01T00:00:00Z");
	rfc3339(253402300799, text);
	assert_string_equal(text, "9999-12-31T23:59:59Z");
	rfc3339(INT64_MAX, text);
	assert_string_equal(text, "unknown");
	assert_int_equal(asn1_time_seconds(NULL), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_name_is_printed_as_it_was_written),
		cmocka_unit_test(the_string_types_are_those_of_rfc_5280),
		cmocka_unit_test(sn_alone_takes_the_device_s_serial_number),
		cmocka_unit_test(what_is_no_name_is_refused_in_words),
		cmocka_unit_test(a_name_from_outside_stays_on_one_line),
		cmocka_unit_test(names_are_the_same_in_any_order_and_spelling),
		cmocka_unit_test(each_alternative_name_is_checked),
		cmocka_unit_test(alternative_names_keep_their_order),
		cmocka_unit_test(an_alternative_name_from_outside_is_escaped),
		cmocka_unit_test(certificates_are_read_from_pem_with_anything_between),
		cmocka_unit_test(certificates_are_read_from_der),
		cmocka_unit_test(certificates_are_read_from_pkcs7),
		cmocka_unit_test(what_is_no_certificate_is_refused_in_words),
		cmocka_unit_test(every_cut_and_flipped_certificate_is_survived),
		cmocka_unit_test(a_certificate_is_described_as_status_spells_it),
		cmocka_unit_test(fingerprints_are_compared_with_or_without_colons),
		cmocka_unit_test(a_public_key_goes_to_der_and_back),
		cmocka_unit_test(times_are_written_as_rfc_3339),
	};

	return cmocka_run_group_tests(tests, make_key, free_key);
}
