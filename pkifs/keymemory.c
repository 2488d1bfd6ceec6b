#include "pkifs/keymemory.h"

#include "common/log.h"

#include <malloc.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

/* Bytes for private keys that are open at once; below what an ordinary process may lock. */
#define SECURE_HEAP  (4u << 20)
#define SECURE_LEAST 32

static void *allocate(size_t size, const char *file, int line)
{
	(void)file;
	(void)line;
	return malloc(size);
}

static void wipe(void *bytes, const char *file, int line)
{
	(void)file;
	(void)line;
	if (bytes)
		explicit_bzero(bytes, malloc_usable_size(bytes));
	free(bytes);
}

/* realloc(3) would leave the old bytes where they were. */
static void *resize(void *bytes, size_t size, const char *file, int line)
{
	size_t has = bytes ? malloc_usable_size(bytes) : 0;
	void *new;

	if (!size) {
		wipe(bytes, file, line);
		return NULL;
	}
	if (size <= has)
		return bytes;
	new = malloc(size);
	if (!new)
		return NULL;
	if (bytes)
		memcpy(new, bytes, has);
	wipe(bytes, file, line);
	return new;
}

static void lock_memory(void)
{
	struct rlimit limit = { 0 };
	int locked;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_MEMLOCK, &limit);
		if (limit.rlim_max == RLIM_INFINITY)
			mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
	}
	locked = CRYPTO_secure_malloc_init(SECURE_HEAP, SECURE_LEAST);
	if (locked != 1 && !CRYPTO_secure_malloc_initialized())
		log_warning("there is no memory set apart for private keys");
	else if (locked != 1)
		log_warning("memory for private keys is not locked: it may be swapped "
		            "(RLIMIT_MEMLOCK is %llu bytes)",
		            (unsigned long long)limit.rlim_cur);
}

void keymemory_init(void)
{
	const struct rlimit none = { 0 };

	setrlimit(RLIMIT_CORE, &none);
	prctl(PR_SET_DUMPABLE, 0);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	/* OpenSSL's decoders free the bytes of a key as they are. */
	CRYPTO_set_mem_functions(allocate, resize, wipe);
	lock_memory();
}
