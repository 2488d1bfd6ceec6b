/*
 * CRLs. First byte even: the bytes as they are; odd: as a TBSCertList that the CA signs, so that
 * what lies behind the signature is reached too.
 */
#include "enroll/crl.h"

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* AlgorithmIdentifier of ecdsa-with-SHA256 */
static const unsigned char algorithm[] = { 0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86,
	                                   0x48, 0xce, 0x3d, 0x04, 0x03, 0x02 };
static EVP_PKEY *key;
static X509 *ca;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	X509_NAME *name = X509_NAME_new();

	(void)argc;
	(void)argv;
	key = EVP_EC_gen("P-256");
	ca = X509_new();
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)"CA", -1, -1,
	                           0);
	X509_set_subject_name(ca, name);
	X509_set_pubkey(ca, key);
	X509_NAME_free(name);
	return 0;
}

/* SEQUENCE { TBS, algorithm, BIT STRING } */
static unsigned char *sign(const uint8_t *tbs, size_t size, size_t *length)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	unsigned char signature[128], *der, *at;
	size_t signed_length = sizeof signature;
	int inner;

	if (EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key) != 1 ||
	    EVP_DigestSign(context, signature, &signed_length, tbs, size) != 1)
		abort();
	EVP_MD_CTX_free(context);
	inner = (int)(size + sizeof algorithm + 3 + signed_length);
	*length = (size_t)ASN1_object_size(1, inner, V_ASN1_SEQUENCE);
	der = at = malloc(*length);
	ASN1_put_object(&at, 1, inner, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL);
	memcpy(at, tbs, size);
	at += size;
	memcpy(at, algorithm, sizeof algorithm);
	at += sizeof algorithm;
	ASN1_put_object(&at, 0, (int)signed_length + 1, V_ASN1_BIT_STRING, V_ASN1_UNIVERSAL);
	*at++ = 0;
	memcpy(at, signature, signed_length);
	return der;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned char *der = NULL;
	size_t length = size - 1;
	struct error err;
	struct crl crl;

	if (size == 0)
		return 0;
	if (*data & 1)
		der = sign(data + 1, size - 1, &length);
	if (crl_read(der ? der : data + 1, length, ca, 1800000000, true, &crl, &err) == 0)
		for (size_t i = 1; i < crl.count; i++)
			if (memcmp(&crl.entries[i - 1], &crl.entries[i], 21) > 0)
				abort();
	crl_clear(&crl);
	free(der);
	return 0;
}
