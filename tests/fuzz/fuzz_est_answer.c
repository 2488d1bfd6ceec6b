/*
 * What an EST server sends: bit 0 of the first byte says whether the rest is attributes or a
 * certs-only message; with bit 1 set the rest is DER and is put into base64 first, so that
 * changes of single bytes get behind it.
 */
#include "enroll/est_message.h"

#include <openssl/crypto.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static EVP_PKEY *keys[3];

static void must(bool condition)
{
	if (!condition)
		abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	keys[0] = EVP_RSA_gen(1024); /* quick */
	keys[1] = EVP_EC_gen("P-256");
	keys[2] = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	must(keys[0] && keys[1] && keys[2]);
	return 0;
}

static void read_attributes(const char *text, size_t length)
{
	struct est_attributes attributes;
	struct error err;

	if (est_attributes_read(text, length, &attributes, &err) == 0) {
		must(attributes.kinds.count <= KEY_KINDS_MAX);
		must(attributes.signature_count <= EST_SIGNATURES_MAX);
		must(strlen(attributes.other) < EST_OTHER_MAX);
		for (size_t i = 0; i < COUNT(keys); i++) {
			if (key_kinds_check(&attributes.kinds, keys[i], &err) < 0)
				must(*err.text != '\0');
			est_attributes_digest(&attributes, keys[i], "sha384");
		}
	}
	est_attributes_clear(&attributes);
}

static void read_certificates(const char *text, size_t length)
{
	STACK_OF(X509) *certificates = NULL;

	if (est_certificates_read(text, length, &certificates, NULL) == 0)
		must(sk_X509_num(certificates) > 0);
	sk_X509_pop_free(certificates, X509_free);
	certificates = NULL;
	if (est_ca_certificates_read(text, length, &certificates, NULL) == 0)
		must(sk_X509_num(certificates) > 0);
	sk_X509_pop_free(certificates, X509_free);
}

/* What is encoded is read back; what is read has the size that it says. */
static void encode_and_decode(const unsigned char *bytes, size_t length, const char *text)
{
	unsigned char *back = NULL;
	size_t size = 0;

	must(est_base64_read(text, strlen(text), &back, &size, NULL) == 0);
	must(size == length && memcmp(back, bytes, length) == 0);
	OPENSSL_free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text;

	if (size == 0)
		return 0;
	if (*data & 2) {
		text = est_base64(data + 1, size - 1);
		encode_and_decode(data + 1, size - 1, text);
	} else {
		text = OPENSSL_strndup((const char *)data + 1, size - 1);
	}
	if (*data & 1)
		read_attributes(text, strlen(text));
	else
		read_certificates(text, strlen(text));
	OPENSSL_free(text);
	return 0;
}
