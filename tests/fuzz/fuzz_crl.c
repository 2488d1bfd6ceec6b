/*
 * CRLs, read in one pass, and their indexes. First byte even: the bytes as they are; odd: as a
 * TBSCertList that the CA signs, so that what lies behind the signature is reached too. Its second
 * bit: the bytes are an index.
 */
#include "enroll/crl.h"

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* AlgorithmIdentifier of ecdsa-with-SHA256 */
static const unsigned char algorithm[] = { 0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86,
	                                   0x48, 0xce, 0x3d, 0x04, 0x03, 0x02 };
static EVP_PKEY *key;
static STACK_OF(X509) * signers;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	X509_NAME *name = X509_NAME_new();
	X509 *ca = X509_new();

	(void)argc;
	(void)argv;
	key = EVP_EC_gen("P-256");
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)"CA", -1, -1,
	                           0);
	X509_set_subject_name(ca, name);
	X509_set_pubkey(ca, key);
	X509_NAME_free(name);
	signers = sk_X509_new_null();
	sk_X509_push(signers, ca);
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

/* A file of BYTES. */
static int put(const void *bytes, size_t length)
{
	int fd = memfd_create("file", MFD_CLOEXEC);

	if (fd < 0 || pwrite(fd, bytes, length, 0) != (ssize_t)length)
		abort();
	return fd;
}

/* Whatever its bytes, a look-up in an index ends. */
static void look_up(const unsigned char *bytes, size_t length)
{
	int fd = put(bytes, length);
	X509_NAME *name = X509_get_subject_name(sk_X509_value(signers, 0));
	ASN1_INTEGER *serial = ASN1_INTEGER_new();
	struct crl_index *index;
	struct crl_entry entry;

	ASN1_INTEGER_set(serial, 0x0102);
	if (crl_index_open(fd, &index) == 0) {
		crl_index_find(index, serial, NULL, name, &entry);
		crl_index_find(index, serial, name, name, &entry);
		crl_index_close(index);
	} else {
		close(fd);
	}
	ASN1_INTEGER_free(serial);
}

/* Every entry that was read is found, and OpenSSL agrees on the rest of the CRL. */
static void check(const struct crl *crl, int fd)
{
	struct crl_entry *entries = malloc((size_t)crl->entries * sizeof *entries + 1);
	size_t size = (size_t)crl->entries * sizeof *entries;
	struct crl_facts facts;
	struct error err;
	X509_CRL *stub = crl_stub(crl, &err);

	if (pread(fd, entries, size, 0) != (ssize_t)size)
		abort();
	for (int64_t i = 0; i < crl->entries; i++)
		if ((i && memcmp(&entries[i - 1], &entries[i], CRL_KEY) > 0) ||
		    !crl_entry_is_whole(&entries[i]))
			abort();
	free(entries);
	if (stub && crl_facts_read(stub, 1800000000, true, &facts, &err) == 0)
		crl_find_signer(stub, signers, &err);
	X509_CRL_free(stub);
}

static void read_crl(const unsigned char *bytes, size_t length)
{
	int fd = put(bytes, length), index = put("", 0), scratch = put("", 0);
	struct crl_paths paths = { fd, 0, fd, index, scratch };
	STACK_OF(X509) *certificates = sk_X509_new_null();
	struct crl_index *opened;
	struct error err;
	struct crl crl;

	if (crl_read(&paths, signers, certificates, &crl, &err) == 0) {
		check(&crl, index);
		if (crl_index_open(index, &opened) < 0)
			abort();
		index = -1;
		crl_index_close(opened);
	}
	crl_clear(&crl);
	sk_X509_pop_free(certificates, X509_free);
	close(fd);
	close(scratch);
	if (index >= 0)
		close(index);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned char *der;
	size_t length;

	if (size == 0)
		return 0;
	if (*data & 2) {
		look_up(data + 1, size - 1);
	} else if (*data & 1) {
		der = sign(data + 1, size - 1, &length);
		read_crl(der, length);
		free(der);
	} else {
		read_crl(data + 1, size - 1);
	}
	return 0;
}
