/*
 * What users load: certificates, private keys and requests, in PEM, DER and PKCS#7. The same
 * bytes are taken for each of them. Nobody is ever asked for a password, and what was believed
 * of a text is believed of it again.
 */
#include "common/x509.h"
#include "pkifs/privatekey.h"
#include "pkifs/validate.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ui.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define NOW 1798761600 /* 2027-01-01 */

static struct record *config;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
	if (!condition)
		abort();
}

/* OpenSSL would open the terminal. */
static int asked(UI *ui)
{
	(void)ui;
	abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const char text[] = "subject = CN=a.example,O=Example\ndomain-name = a.example\n";
	UI_METHOD *nobody = UI_create_method("nobody");

	(void)argc;
	(void)argv;
	UI_method_set_opener(nobody, asked);
	UI_set_default_method(nobody);
	must(record_parse(text, strlen(text), NULL, &config, NULL) == 0);
	return 0;
}

static bool printable(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			return false;
	return true;
}

/* A sentence is one line, and tells why. */
static void refused(int r, const struct error *err)
{
	must(r < 0 && *err->text && printable(err->text));
}

/* A name survives being shown and written back. */
static void name(const X509_NAME *shown)
{
	char *text = dn_text(shown);
	X509_NAME *again = NULL;
	struct error err = { 0 };

	must(text && printable(text));
	if (dn_parse(text, NULL, &again, &err) == 0)
		X509_NAME_free(again);
	dn_same_attributes(shown, shown);
	free(text);
}

static void alternative_names_of(const X509 *certificate)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		char *text = alternative_name_text(sk_GENERAL_NAME_value(names, i));

		must(text && printable(text));
		free(text);
	}
	GENERAL_NAMES_free(names);
}

static void describe(X509 *certificate)
{
	struct record *status = record_new();

	certificate_describe(certificate, status);
	for (size_t i = 0; i < record_count(status); i++)
		must(printable(record_field(status, i)->value));
	record_free(status);
	name(X509_get_subject_name(certificate));
	name(X509_get_issuer_name(certificate));
	alternative_names_of(certificate);
}

static void same_from_der(X509 *certificate)
{
	unsigned char *der = NULL;
	struct error err = { 0 };
	size_t length;
	X509 *again;

	must(certificate_to_der(certificate, &der, &length) == 0);
	again = certificate_from_der(der, length, &err);
	must(again && X509_cmp(again, certificate) == 0);
	X509_free(again);
	OPENSSL_free(der);
}

static void as_ca(STACK_OF(X509) * certificates)
{
	STACK_OF(X509) *ra = NULL, *issuers = NULL;
	struct error err = { 0 };
	X509 *ca = NULL;
	int r;

	for (int i = 0; i < sk_X509_num(certificates); i++) {
		r = validate_ca(sk_X509_value(certificates, i), NOW, true, false, &err);
		if (r < 0)
			refused(r, &err);
	}
	r = sort_ca_bundle(certificates, &ca, &ra, &issuers, &err);
	if (r < 0)
		refused(r, &err);
	else
		must(ca != NULL);
	X509_free(ca);
	sk_X509_pop_free(ra, X509_free);
	sk_X509_pop_free(issuers, X509_free);
}

/* As a certificate of ours for KEY, trusted by ANCHORS. */
static void as_own(STACK_OF(X509) * certificates, struct expectation expectation)
{
	STACK_OF(X509) *chain = NULL;
	struct record *differences = record_new();
	struct error err = { 0 };
	X509 *leaf = NULL;
	int r;

	expectation.now = NOW;
	expectation.clock_trusted = true;
	r = validate_own(&expectation, certificates, &leaf, &chain, differences, &err);
	if (r < 0)
		refused(r, &err);
	else
		must(EVP_PKEY_eq(X509_get0_pubkey(leaf), expectation.key) == 1);
	X509_free(leaf);
	sk_X509_pop_free(chain, X509_free);
	record_free(differences);
}

static void judge(STACK_OF(X509) * certificates)
{
	X509 *first = sk_X509_value(certificates, 0);
	EVP_PKEY *key = X509_get0_pubkey(first);

	as_ca(certificates);
	if (!key)
		return;
	as_own(certificates, (struct expectation){ .key = key,
	                                           .config = config,
	                                           .anchors = certificates,
	                                           .require_anchor = true });
	as_own(certificates, (struct expectation){ .key = key,
	                                           .config = config,
	                                           .accept_changed_names = true,
	                                           .allow_ca = true,
	                                           .allow_legacy = true });
	as_own(certificates,
	       (struct expectation){
		       .key = key, .previous = first, .config = config, .anchors = certificates });
}

static void as_certificates(const uint8_t *data, size_t size)
{
	STACK_OF(X509) *certificates = NULL, *again = NULL;
	struct error err = { 0 };
	size_t length;
	char *pem;
	int r = certificates_read(data, size, 8, &certificates, &err);

	if (r < 0) {
		refused(r, &err);
		return;
	}
	must(sk_X509_num(certificates) > 0 && sk_X509_num(certificates) <= 8);
	for (int i = 0; i < sk_X509_num(certificates); i++) {
		describe(sk_X509_value(certificates, i));
		same_from_der(sk_X509_value(certificates, i));
	}
	must(certificates_to_pem(certificates, &pem, &length) == 0);
	must(certificates_read(pem, length, 8, &again, &err) == 0);
	must(sk_X509_num(again) == sk_X509_num(certificates));
	free(pem);
	sk_X509_pop_free(again, X509_free);
	judge(certificates);
	sk_X509_pop_free(certificates, X509_free);
}

static void as_key(const uint8_t *data, size_t size)
{
	unsigned char *der = NULL, *public = NULL;
	EVP_PKEY *key = NULL, *again;
	struct error err = { 0 };
	size_t length, public_length;
	char text[32];
	int r = private_key_import(data, size, &key, &err);

	if (r < 0) {
		refused(r, &err);
		must(!key);
		return;
	}
	must(key_describe(key, text, sizeof text) == 0);
	must(private_key_to_der(key, &der, &length) == 0);
	again = private_key_from_der(der, length);
	must(again && EVP_PKEY_eq(key, again) == 1);
	must(public_key_to_der(key, &public, &public_length) == 0);
	EVP_PKEY_free(again);
	again = public_key_from_der(public, public_length);
	must(again && EVP_PKEY_eq(key, again) == 1);
	EVP_PKEY_free(again);
	EVP_PKEY_free(key);
	OPENSSL_secure_clear_free(der, length);
	OPENSSL_free(public);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct error err = { 0 };
	X509 *certificate;

	as_certificates(data, size);
	as_key(data, size);
	certificate = certificate_from_der(data, size, &err);
	if (!certificate)
		refused(-1, &err);
	X509_free(certificate);
	EVP_PKEY_free(public_key_from_der(data, size));
	must(ERR_peek_error() == 0); /* else it would be told of the next one */
	return 0;
}
