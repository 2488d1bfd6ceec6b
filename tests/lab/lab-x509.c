#include "tests/lab/lab-x509.h"

#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>

BIO *file_open(const char *folder, const char *name)
{
	char path[512];

	snprintf(path, sizeof path, "%s/%s", folder, name);
	return BIO_new_file(path, "r");
}

X509 *load_certificate(const char *folder, const char *name)
{
	BIO *file = file_open(folder, name);
	X509 *certificate = file ? PEM_read_bio_X509(file, NULL, NULL, NULL) : NULL;

	BIO_free(file);
	return certificate;
}

EVP_PKEY *load_key(const char *folder, const char *name)
{
	BIO *file = file_open(folder, name);
	EVP_PKEY *key = file ? PEM_read_bio_PrivateKey(file, NULL, NULL, NULL) : NULL;

	BIO_free(file);
	return key;
}

const EVP_MD *signing_digest(EVP_PKEY *key)
{
	return EVP_PKEY_is_a(key, "ED25519") ? NULL : EVP_sha256();
}

void add_extension(X509 *issuer, X509 *certificate, int nid, const char *value)
{
	X509_EXTENSION *extension;
	X509V3_CTX context;

	X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	if (extension)
		X509_add_ext(certificate, extension, -1);
	X509_EXTENSION_free(extension);
}

void copy_names(X509 *certificate, X509_REQ *request)
{
	STACK_OF(X509_EXTENSION) *wanted = X509_REQ_get_extensions(request);
	int at = X509v3_get_ext_by_NID(wanted, NID_subject_alt_name, -1);

	if (at >= 0)
		X509_add_ext(certificate, X509v3_get_ext(wanted, at), -1);
	sk_X509_EXTENSION_pop_free(wanted, X509_EXTENSION_free);
}

void set_serial(X509 *certificate)
{
	unsigned char bytes[8];
	BIGNUM *number;

	RAND_bytes(bytes, sizeof bytes);
	bytes[0] = (unsigned char)((bytes[0] & 0x3f) | 0x40);
	number = BN_bin2bn(bytes, sizeof bytes, NULL);
	BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate));
	BN_free(number);
}
