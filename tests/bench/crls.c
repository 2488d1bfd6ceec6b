/*
 * bench-crls CRL CA LEAF FOLDER: reads the CRL as a worker does, and prints: seconds,
 * microseconds of a look-up (half of them hits), of the first path check of LEAF, of a further one.
 */
#include "enroll/crl.h"

#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOOK_UPS 200000
#define CHECKS   200
#define SAMPLES  1000
#define ROUNDS   5

static void must(int good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "bench-crls: %s\n", what);
	exit(1);
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static X509 *read_certificate(const char *path)
{
	FILE *file = fopen(path, "r");
	X509 *certificate = file ? PEM_read_X509(file, NULL, NULL, NULL) : NULL;

	must(certificate != NULL, path);
	fclose(file);
	return certificate;
}

static int make(const char *folder, const char *name)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof path, "%s/%s", folder, name);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	must(fd >= 0, path);
	return fd;
}

/* Serial numbers of the index, each followed by one that is not in it. */
static void choose(int index, int64_t entries, ASN1_INTEGER *serials[SAMPLES])
{
	srandom(1);
	for (size_t i = 0; i < SAMPLES; i++) {
		off_t at = (off_t)(random() % entries) * (off_t)sizeof(struct crl_entry);
		struct crl_entry entry;
		int length;

		must(pread(index, &entry, sizeof entry, at) == sizeof entry, "the index");
		length = entry.length & ~CRL_NEGATIVE;
		if (i % 2)
			entry.serial[CRL_SERIAL_MAX - 1] ^= 1;
		serials[i] = ASN1_INTEGER_new();
		ASN1_STRING_set(serials[i], entry.serial + CRL_SERIAL_MAX - length, length);
	}
}

static double look_up(X509_CRL *crl, ASN1_INTEGER *serials[SAMPLES])
{
	double begin = now();
	struct crl_entry entry;

	for (size_t i = 0; i < LOOK_UPS; i++)
		must(stub_crl_find(crl, serials[i % SAMPLES], NULL, &entry) >= 0, "a look-up");
	return (now() - begin) / LOOK_UPS;
}

/* The certificate is read anew each time: OpenSSL keeps with it what it found. */
static double check(X509_STORE *store, const char *path, X509_CRL *crl)
{
	X509 *leaf = read_certificate(path);
	STACK_OF(X509_CRL) *crls = sk_X509_CRL_new_null();
	X509_STORE_CTX *context = X509_STORE_CTX_new();
	double begin = now(), seconds;

	sk_X509_CRL_push(crls, crl);
	X509_STORE_CTX_init(context, store, leaf, NULL);
	X509_STORE_CTX_set0_crls(context, crls);
	X509_verify_cert(context);
	must(X509_STORE_CTX_get_error(context) == X509_V_ERR_CERT_REVOKED, "it is not revoked");
	seconds = now() - begin;
	X509_STORE_CTX_free(context);
	sk_X509_CRL_free(crls);
	X509_free(leaf);
	return seconds;
}

int main(int argc, char **argv)
{
	struct crl_paths paths = { 0 };
	ASN1_INTEGER *serials[SAMPLES];
	X509_STORE *store = X509_STORE_new();
	struct crl_index *index;
	struct error err = { 0 };
	struct stub stub;
	struct crl crl;
	X509_CRL *read;
	X509 *ca;
	double begin, seconds, best, first, further = 0;

	must(argc == 5, "CRL CA LEAF FOLDER");
	paths.text = open(argv[1], O_RDONLY);
	paths.body = make(argv[4], "body");
	paths.index = make(argv[4], "index");
	paths.scratch = make(argv[4], "scratch");
	begin = now();
	must(crl_read(&paths, NULL, NULL, &crl, &err) == 0, err.text);
	seconds = now() - begin;
	must(crl_index_open(paths.index, &index) == 0, "the index");
	stub = (struct stub){ crl.stub, crl.stub_length, crl.digest, crl.digest_length };
	read = stub_crl_new(&stub, index, &err);
	must(read != NULL, err.text);
	ca = read_certificate(argv[2]);
	X509_STORE_add_cert(store, ca);
	X509_free(ca);
	X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
	first = check(store, argv[3], read);
	for (int i = 0; i < CHECKS; i++)
		further += check(store, argv[3], read) / CHECKS;
	choose(paths.index, crl.entries, serials);
	best = look_up(read, serials);
	for (int i = 0; i < ROUNDS; i++) { /* others may want the processor too */
		double once = look_up(read, serials);

		best = once < best ? once : best;
	}
	printf("%.4f %.3f %.1f %.1f\n", seconds, best * 1e6, first * 1e6, further * 1e6);
	for (size_t i = 0; i < SAMPLES; i++)
		ASN1_INTEGER_free(serials[i]);
	X509_CRL_free(read);
	crl_clear(&crl);
	X509_STORE_free(store);
	return 0;
}
