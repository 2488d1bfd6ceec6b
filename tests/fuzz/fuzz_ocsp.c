/*
 * OCSP answers: as they are, and signed anew by the CA, so that what lies behind the signature is
 * reached too. Serial number 1 is asked for, of a CA whose name and key are those of the seeds'.
 */
#include "common/ocsp.h"

#include <openssl/pem.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define NOW 1795000000

static const char pem[] = "-----BEGIN PRIVATE KEY-----\n"
			  "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgI+W6U5+LsaieF+wD\n"
			  "9GJ103r2BRoeHkf+rrYg85EsNkChRANCAARtU3zPoFaVVflEl6Xpe4RRt/TzSBP9\n"
			  "pKrEAotR4QjZZJMQf8iITU12IxpMD9vRKHVF9w5r2T7/PDWA443xpC1K\n"
			  "-----END PRIVATE KEY-----\n";

static EVP_PKEY *key;
static X509 *ca, *leaf;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static X509 *make(long serial)
{
	X509 *certificate = X509_new();
	X509_NAME *name = X509_NAME_new();

	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)"CA", -1, -1,
	                           0);
	X509_set_version(certificate, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial);
	ASN1_TIME_set(X509_getm_notBefore(certificate), 0);
	ASN1_TIME_set(X509_getm_notAfter(certificate), NOW * 2ll);
	X509_set_subject_name(certificate, name);
	X509_set_issuer_name(certificate, name);
	X509_set_pubkey(certificate, key);
	X509_sign(certificate, key, EVP_sha256());
	X509_NAME_free(name);
	return certificate;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	BIO *bio = BIO_new_mem_buf(pem, -1);

	(void)argc;
	(void)argv;
	key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
	BIO_free(bio);
	ca = make(99);
	leaf = make(1);
	return 0;
}

/* What is inside of DATA, signed by the CA; NULL: nothing is. */
static unsigned char *sign(const uint8_t *data, size_t size, int *length)
{
	OCSP_RESPONSE *response = d2i_OCSP_RESPONSE(NULL, &data, (long)size), *new = NULL;
	OCSP_BASICRESP *basic = response ? OCSP_response_get1_basic(response) : NULL;
	unsigned char *der = NULL;

	if (basic && OCSP_basic_sign(basic, ca, key, EVP_sha256(), NULL, 0))
		new = OCSP_response_create(OCSP_RESPONSE_STATUS_SUCCESSFUL, basic);
	if (new)
		*length = i2d_OCSP_RESPONSE(new, &der);
	OCSP_BASICRESP_free(basic);
	OCSP_RESPONSE_free(response);
	OCSP_RESPONSE_free(new);
	return der;
}

static void judge(const unsigned char *der, size_t length)
{
	static const unsigned char nonce[OCSP_NONCE_SIZE];
	struct ocsp_question question = {
		.certificate = leaf, .issuer = ca, .now = NOW, .clock_trusted = true
	};
	struct ocsp_answer answer;
	struct error err = { 0 };

	if (ocsp_judge(&question, der, length, &answer, &err) == 0 &&
	    (answer.until <= NOW || answer.status == V_OCSP_CERTSTATUS_UNKNOWN))
		abort();
	question.nonce = nonce;
	question.clock_trusted = false;
	ocsp_judge(&question, der, length, &answer, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned char *der;
	int length = 0;

	judge(data, size);
	der = sign(data, size, &length);
	if (der && length > 0)
		judge(der, (size_t)length);
	OPENSSL_free(der);
	return 0;
}
