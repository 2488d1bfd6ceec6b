/*
 * What a SCEP server sends. The low bits of the first byte choose what the rest is taken for;
 * with bit 2 clear the rest changes bytes of a good one (offset, offset, value), so that keys
 * that are new in each run need no copy in a file.
 */
#include "enroll/scep_message.h"

#include <openssl/cms.h>
#include <openssl/pkcs7.h>
#include <openssl/provider.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct sample {
	unsigned char *der;
	size_t length;
};

static const unsigned char nonce[SCEP_NONCE_LENGTH] = "0123456789abcde";
static const char transaction_id[] = "00112233445566778899AABBCCDDEEFF";
static OSSL_LIB_CTX *legacy;
static EVP_PKEY *key;
static X509 *certificate;
static STACK_OF(X509) * signers;
static struct sample answer, envelope, bundle;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
	if (!condition)
		abort();
}

static void put(CMS_SignerInfo *signer, const char *oid, int type, const void *value, int length)
{
	ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);

	must(CMS_signed_add1_attr_by_OBJ(signer, object, type, value, length));
	ASN1_OBJECT_free(object);
}

static void make_bundle(void)
{
	PKCS7 *p7 = PKCS7_new();

	PKCS7_set_type(p7, NID_pkcs7_signed);
	PKCS7_content_new(p7, NID_pkcs7_data);
	PKCS7_set_detached(p7, 1);
	PKCS7_add_certificate(p7, certificate);
	bundle.length = (size_t)i2d_PKCS7(p7, &bundle.der);
	PKCS7_free(p7);
}

static void make_envelope(void)
{
	BIO *in = BIO_new_mem_buf(bundle.der, (int)bundle.length);
	CMS_ContentInfo *cms = CMS_encrypt(signers, in, EVP_aes_128_cbc(), CMS_BINARY);

	envelope.length = (size_t)i2d_CMS_ContentInfo(cms, &envelope.der);
	CMS_ContentInfo_free(cms);
	BIO_free(in);
}

static void make_answer(void)
{
	const unsigned int flags = CMS_BINARY | CMS_PARTIAL | CMS_NOSMIMECAP;
	BIO *in = BIO_new_mem_buf(envelope.der, (int)envelope.length);
	CMS_ContentInfo *cms = CMS_sign(NULL, NULL, NULL, NULL, flags);
	CMS_SignerInfo *signer = CMS_add1_signer(cms, certificate, key, EVP_sha256(), flags);

	put(signer, "2.16.840.1.113733.1.9.2", V_ASN1_PRINTABLESTRING, "3", 1);
	put(signer, "2.16.840.1.113733.1.9.3", V_ASN1_PRINTABLESTRING, "0", 1);
	put(signer, "2.16.840.1.113733.1.9.7", V_ASN1_PRINTABLESTRING, transaction_id, 32);
	put(signer, "2.16.840.1.113733.1.9.6", V_ASN1_OCTET_STRING, nonce, sizeof nonce);
	must(CMS_final(cms, in, NULL, flags));
	answer.length = (size_t)i2d_CMS_ContentInfo(cms, &answer.der);
	CMS_ContentInfo_free(cms);
	BIO_free(in);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	X509_NAME *name = X509_NAME_new();

	(void)argc;
	(void)argv;
	legacy = OSSL_LIB_CTX_new();
	must(OSSL_PROVIDER_load(legacy, "default") && OSSL_PROVIDER_load(legacy, "legacy"));
	key = EVP_RSA_gen(1024); /* quick */
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)"CA", -1, -1,
	                           0);
	certificate = scep_self_signed(name, key, 1800000000, EVP_sha256(), NULL);
	must(certificate != NULL);
	signers = sk_X509_new_null();
	sk_X509_push(signers, certificate);
	make_bundle();
	make_envelope();
	make_answer();
	X509_NAME_free(name);
	return 0;
}

static void read_answer(const unsigned char *der, size_t length)
{
	struct scep_expectation expectation = { .transaction_id = transaction_id,
		                                .nonce = nonce,
		                                .signers = signers,
		                                .context = legacy };
	struct scep_answer read;
	struct error err;

	if (scep_answer_read(der, length, &expectation, &read, &err) == 0)
		must(read.length == envelope.length &&
		     memcmp(read.envelope, envelope.der, envelope.length) == 0);
	scep_answer_clear(&read);
}

/* An answer to GetNextCACert is signed in the same way, and carries what is not looked at here. */
static void open_next_ca(const unsigned char *der, size_t length)
{
	unsigned char *content = NULL;
	size_t content_length;
	struct error err;

	if (scep_next_ca_open(der, length, certificate, false, legacy, &content, &content_length,
	                      &err) == 0)
		must(content_length == envelope.length &&
		     memcmp(content, envelope.der, envelope.length) == 0);
	OPENSSL_free(content);
}

static void open_envelope(const unsigned char *der, size_t length)
{
	unsigned char *content = NULL;
	size_t content_length;
	struct error err;
	int cipher;

	if (scep_envelope_open(der, length, legacy, certificate, key, &content, &content_length,
	                       &cipher, &err) < 0)
		must(strcmp(err.text, "the answer cannot be decrypted") == 0);
	OPENSSL_free(content);
}

static void read_bundle(const unsigned char *der, size_t length)
{
	STACK_OF(X509) *certificates = NULL;
	unsigned char *crl = NULL;
	struct error err;
	size_t crl_length;

	if (scep_content_read(der, length, &certificates, NULL, NULL, &err) == 0)
		must(sk_X509_num(certificates) > 0);
	sk_X509_pop_free(certificates, X509_free);
	certificates = NULL;
	scep_content_read(der, length, NULL, &crl, &crl_length, &err);
	OPENSSL_free(crl);
	if (scep_ca_certificates(der, length, &certificates, &err) == 0)
		must(sk_X509_num(certificates) > 0);
	sk_X509_pop_free(certificates, X509_free);
}

static void read_as(unsigned kind, const unsigned char *bytes, size_t length)
{
	struct scep_algorithms chosen;

	switch (kind) {
	case 0:
		read_answer(bytes, length);
		open_next_ca(bytes, length);
		break;
	case 1:
		open_envelope(bytes, length);
		break;
	case 2:
		read_bundle(bytes, length);
		break;
	default:
		scep_choose(scep_capabilities((const char *)bytes, length), "sha512", true, &chosen,
		            NULL);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct sample *const samples[] = { &answer, &envelope, &bundle, &bundle };
	const struct sample *sample;
	unsigned char *changed;

	if (size == 0)
		return 0;
	if (*data & 4) {
		read_as(*data & 3, data + 1, size - 1);
		return 0;
	}
	sample = samples[*data & 3];
	changed = malloc(sample->length);
	memcpy(changed, sample->der, sample->length);
	for (size_t i = 1; i + 2 < size; i += 3)
		changed[((size_t)data[i] << 8 | data[i + 1]) % sample->length] = data[i + 2];
	read_as(*data & 3, changed, sample->length);
	free(changed);
	return 0;
}
