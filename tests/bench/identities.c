/*
 * identities FOLDER NUMBER: writes NUMBER keys (ECDSA, P-256) with a self-signed certificate each:
 * FOLDER/N.key and FOLDER/N.pem, N from 0. A store of many certificate ids is filled with them.
 */
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#define DAYS (300 * 86400L)

static FILE *create(const char *folder, long number, const char *suffix)
{
	char path[4096];

	snprintf(path, sizeof path, "%s/%ld.%s", folder, number, suffix);
	return fopen(path, "we");
}

static bool write_key(const char *folder, long number, EVP_PKEY *key)
{
	FILE *file = create(folder, number, "key");
	bool ok = file && PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL);

	return file && fclose(file) == 0 && ok;
}

static bool write_certificate(const char *folder, long number, X509 *certificate)
{
	FILE *file = create(folder, number, "pem");
	bool ok = file && PEM_write_X509(file, certificate);

	return file && fclose(file) == 0 && ok;
}

static bool add_extension(X509 *certificate, int nid, const char *value)
{
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
	bool ok = extension && X509_add_ext(certificate, extension, -1);

	X509_EXTENSION_free(extension);
	return ok;
}

static bool fill(X509 *certificate, long number, EVP_PKEY *key)
{
	X509_NAME *name = X509_get_subject_name(certificate);
	char common[64], alternative[80];

	snprintf(common, sizeof common, "host%ld.example.net", number);
	snprintf(alternative, sizeof alternative, "DNS:%s", common);
	return X509_set_version(certificate, X509_VERSION_3) &&
	       ASN1_INTEGER_set(X509_get_serialNumber(certificate), number + 1) &&
	       X509_gmtime_adj(X509_getm_notBefore(certificate), -3600) &&
	       X509_gmtime_adj(X509_getm_notAfter(certificate), DAYS) &&
	       X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)common,
	                                  -1, -1, 0) &&
	       X509_set_issuer_name(certificate, name) && X509_set_pubkey(certificate, key) &&
	       add_extension(certificate, NID_subject_alt_name, alternative) &&
	       add_extension(certificate, NID_key_usage, "critical,digitalSignature") &&
	       X509_sign(certificate, key, EVP_sha256());
}

static bool make(const char *folder, long number)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = X509_new();
	bool ok = key && certificate && fill(certificate, number, key) &&
	          write_key(folder, number, key) && write_certificate(folder, number, certificate);

	X509_free(certificate);
	EVP_PKEY_free(key);
	return ok;
}

int main(int argc, char **argv)
{
	long count = argc == 3 ? strtol(argv[2], NULL, 10) : 0;

	if (count < 1) {
		fprintf(stderr, "usage: %s FOLDER NUMBER\n", argv[0]);
		return 2;
	}
	for (long number = 0; number < count; number++)
		if (!make(argv[1], number)) {
			fprintf(stderr, "%s/%ld: cannot be made\n", argv[1], number);
			return 1;
		}
	return 0;
}
