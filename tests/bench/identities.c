/*
 * identities FOLDER NUMBER: writes a CA, FOLDER/ca.pem and FOLDER/ca.key, and NUMBER keys (ECDSA,
 * P-256) with a certificate of that CA each: FOLDER/N.key and FOLDER/N.pem, N from 0. A store of
 * many certificate ids is filled with them.
 */
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#define SECONDS (300 * 86400L)

/* Writes the key or, where there is none, the certificate. */
static bool write_pem(const char *folder, const char *name, EVP_PKEY *key, X509 *certificate)
{
	char path[4096];
	FILE *file;
	bool ok;

	snprintf(path, sizeof path, "%s/%s", folder, name);
	file = fopen(path, "we");
	if (!file)
		return false;
	ok = key ? PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL)
	         : PEM_write_X509(file, certificate);
	return fclose(file) == 0 && ok;
}

static bool add_extension(X509 *certificate, int nid, const char *value)
{
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
	bool ok = extension && X509_add_ext(certificate, extension, -1);

	X509_EXTENSION_free(extension);
	return ok;
}

/* Whom a certificate names, and what stands in it. */
struct contents {
	long serial;
	const char *name, *constraints, *usage;
};

static bool fill(X509 *certificate, const struct contents *contents, EVP_PKEY *key, X509 *issuer,
                 EVP_PKEY *issuer_key)
{
	X509_NAME *subject = X509_get_subject_name(certificate);
	char alternative[80];

	snprintf(alternative, sizeof alternative, "DNS:%s", contents->name);
	return X509_set_version(certificate, X509_VERSION_3) &&
	       ASN1_INTEGER_set(X509_get_serialNumber(certificate), contents->serial) &&
	       X509_gmtime_adj(X509_getm_notBefore(certificate), -3600) &&
	       X509_gmtime_adj(X509_getm_notAfter(certificate), SECONDS) &&
	       X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
	                                  (const unsigned char *)contents->name, -1, -1, 0) &&
	       X509_set_issuer_name(certificate, X509_get_subject_name(issuer)) &&
	       X509_set_pubkey(certificate, key) &&
	       add_extension(certificate, NID_basic_constraints, contents->constraints) &&
	       add_extension(certificate, NID_key_usage, contents->usage) &&
	       add_extension(certificate, NID_subject_alt_name, alternative) &&
	       X509_sign(certificate, issuer_key, EVP_sha256());
}

/* Signed by ISSUER, or NULL: by itself. The certificate is the caller's; NULL where it fails. */
static X509 *certificate_new(const struct contents *contents, EVP_PKEY *key, X509 *issuer,
                             EVP_PKEY *issuer_key)
{
	X509 *certificate = X509_new();

	if (certificate &&
	    fill(certificate, contents, key, issuer ? issuer : certificate, issuer_key))
		return certificate;
	X509_free(certificate);
	return NULL;
}

static bool make(const char *folder, long number, X509 *ca, EVP_PKEY *ca_key)
{
	char name[64], key_file[32], certificate_file[32];
	struct contents contents = { number + 2, name, "critical,CA:FALSE",
		                     "critical,digitalSignature" };
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate;
	bool ok;

	snprintf(name, sizeof name, "host%ld.example.net", number);
	snprintf(key_file, sizeof key_file, "%ld.key", number);
	snprintf(certificate_file, sizeof certificate_file, "%ld.pem", number);
	certificate = key ? certificate_new(&contents, key, ca, ca_key) : NULL;
	ok = certificate && write_pem(folder, key_file, key, NULL) &&
	     write_pem(folder, certificate_file, NULL, certificate);
	X509_free(certificate);
	EVP_PKEY_free(key);
	return ok;
}

int main(int argc, char **argv)
{
	static const struct contents ca_contents = { 1, "Lab CA", "critical,CA:TRUE",
		                                     "critical,keyCertSign,cRLSign" };
	long count = argc == 3 ? strtol(argv[2], NULL, 10) : 0;
	EVP_PKEY *ca_key = EVP_EC_gen("P-256");
	X509 *ca = ca_key ? certificate_new(&ca_contents, ca_key, NULL, ca_key) : NULL;
	bool ok;

	if (count < 1) {
		fprintf(stderr, "usage: %s FOLDER NUMBER\n", argv[0]);
		return 2;
	}
	ok = ca && write_pem(argv[1], "ca.pem", NULL, ca) &&
	     write_pem(argv[1], "ca.key", ca_key, NULL);
	for (long number = 0; ok && number < count; number++)
		ok = make(argv[1], number, ca, ca_key);
	if (!ok)
		fprintf(stderr, "%s: the identities cannot be made\n", argv[1]);
	X509_free(ca);
	EVP_PKEY_free(ca_key);
	return !ok;
}
