/* CRLs as OpenSSL sees them, for paths: read once, and kept in bounded memory. */
#include "common/log.h"
#include "common/stubcrl.h"
#include "common/x509.h"
#include "pkifs/crl.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CACHED_MAX  CRL_SET_MAX /* each has a descriptor; one profile's are read once */
#define CACHED_SIZE (64u << 20) /* bytes of all of them; one may be more */
#define ABOVE_MAX   8           /* profiles above another */

/*
 * The stub of a CRL by the number of its files, which never come back. (A row's does, where a
 * change that added one was undone.)
 */
struct cached {
	int64_t file;
	X509_CRL *crl;
	size_t size;
	uint64_t used;
};

static struct {
	struct cached list[CACHED_MAX];
	size_t count, size;
	uint64_t clock;
} cache;

static void forget(size_t i)
{
	X509_CRL_free(cache.list[i].crl);
	cache.size -= cache.list[i].size;
	cache.list[i] = cache.list[--cache.count];
}

static void make_room(size_t size)
{
	while (cache.count && (cache.count == CACHED_MAX || cache.size + size > CACHED_SIZE)) {
		size_t oldest = 0;

		for (size_t i = 1; i < cache.count; i++)
			if (cache.list[i].used < cache.list[oldest].used)
				oldest = i;
		forget(oldest);
	}
}

static int read_index(struct store *store, const struct crl *crl, struct crl_index **index,
                      struct error *err)
{
	int fd = crl_open(store, crl->file, true), r;

	*index = NULL;
	if (fd < 0)
		return error_set(err, fd, "the index of the CRL cannot be read: %s", strerror(-fd));
	r = crl_index_open(fd, index);
	if (r < 0)
		close(fd);
	if (r == 0 && crl_index_entries(*index) == crl->entries)
		return 0;
	crl_index_close(*index);
	*index = NULL;
	return error_set(err, -EIO, "the index of the CRL is damaged");
}

static X509_CRL *read_crl(struct store *store, const struct crl *crl, struct error *err)
{
	struct crl_index *index;
	struct crl_parts parts;
	struct stub stub;
	X509_CRL *read;

	if (db_crl_parts(store->db, crl->id, &parts) < 0) {
		error_set(err, -EIO, "the CRL cannot be read");
		return NULL;
	}
	stub = (struct stub){ (unsigned char *)parts.stub.data, parts.stub.length,
		              (unsigned char *)parts.digest.data, parts.digest.length };
	read = read_index(store, crl, &index, err) < 0 ? NULL : stub_crl_new(&stub, index, err);
	crl_parts_clear(&parts);
	return read;
}

X509_CRL *crl_cached(struct store *store, const struct crl *crl, struct error *err)
{
	X509_CRL *read;
	size_t size;

	for (size_t i = 0; i < cache.count; i++) {
		if (cache.list[i].file != crl->file)
			continue;
		if (!stub_crl_is_whole(cache.list[i].crl)) { /* the disk may have been mended */
			forget(i);
			break;
		}
		cache.list[i].used = ++cache.clock;
		return cache.list[i].crl;
	}
	read = read_crl(store, crl, err);
	if (!read)
		return NULL;
	size = stub_crl_memory(read);
	make_room(size);
	cache.list[cache.count++] = (struct cached){ crl->file, read, size, ++cache.clock };
	cache.size += size;
	return read;
}

void crls_sweep(struct store *store)
{
	for (size_t i = cache.count; i-- > 0;)
		if (db_crl_of_file(store->db, cache.list[i].file) == -ENOENT)
			forget(i);
}

/* The profile above PROFILE, 0: none. */
static int64_t profile_above(struct store *store, int64_t profile)
{
	struct object object, above = { 0 };
	struct record *config;
	const char *issuer;

	if (db_object_get(store->db, profile, &object) < 0 ||
	    store_config(store, &object, &config) < 0)
		return 0;
	issuer = record_get(config, "issuer");
	if (!issuer || db_object_find(store->db, KIND_CA, issuer, &above) < 0)
		above.id = 0;
	record_free(config);
	return above.id;
}

/* Those of PROFILE's own set. OpenSSL looks at whom an indirect one speaks of. */
static void add_crls(struct store *store, int64_t profile, const X509_NAME *issuer, int64_t hash,
                     STACK_OF(X509_CRL) * crls)
{
	struct crl crl = { 0 };
	struct error err;

	while (db_crl_next(store->db, profile, crl.id, &crl) == 0) {
		X509_CRL *stub;

		if (crl.issuer != hash && !(crl.kind & CRL_INDIRECT))
			continue;
		stub = crl_cached(store, &crl, &err);
		if (!stub) {
			log_error("CRL %lld: %s", (long long)crl.id, err.text);
			continue;
		}
		if (!(crl.kind & CRL_INDIRECT) &&
		    X509_NAME_cmp(X509_CRL_get_issuer(stub), issuer) != 0)
			continue;
		if (X509_CRL_up_ref(stub) && !sk_X509_CRL_push(crls, stub))
			X509_CRL_free(stub);
	}
}

STACK_OF(X509_CRL) * crls_known(struct store *store, int64_t profile, const X509_NAME *issuer)
{
	STACK_OF(X509_CRL) *crls = sk_X509_CRL_new_null();
	int64_t row = profile;
	int known = 0;
	unsigned long hash = X509_NAME_hash_ex(issuer, NULL, NULL, &known);

	for (int i = 0; crls && known && row && i < ABOVE_MAX; i++) {
		add_crls(store, row, issuer, (int64_t)(uint32_t)hash, crls);
		row = profile_above(store, row);
	}
	return crls;
}

int crls_signers(struct store *store, int64_t profile, STACK_OF(X509) * to)
{
	struct blob der;
	int64_t after = 0;
	int r;

	while ((r = db_crl_signer_next(store->db, profile, &after, &der)) == 0) {
		X509 *signer = certificate_from_der(der.data, der.length, NULL);

		blob_clear(&der);
		if (signer && !sk_X509_push(to, signer)) {
			X509_free(signer);
			return -ENOMEM;
		}
	}
	return r == -ENOENT ? 0 : r;
}
