/* A program of its own: the memory is set up before OpenSSL's first allocation. */
#include "pkifs/keymemory.h"
#include "pkifs/privatekey.h"

#include <openssl/crypto.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmocka.h>

#define NEEDLE  16
#define SECRET  40 /* where an EC key's private number stands in its PKCS#8, with room before */
#define WINDOW  (1u << 20)
#define MAP_MAX (1ul << 30) /* what is larger is a sanitizer's */

static unsigned char needle[NEEDLE]; /* inverted, so that it is not found itself */
static unsigned char window[WINDOW];

static void remember(const unsigned char *secret)
{
	for (int i = 0; i < NEEDLE; i++)
		needle[i] = (unsigned char)~secret[i];
}

static bool is_needle(const unsigned char *bytes)
{
	for (int i = 0; i < NEEDLE; i++)
		if (bytes[i] != (unsigned char)~needle[i])
			return false;
	return true;
}

/* How often the needle stands in memory from FROM to TO. */
static int count_between(unsigned long from, unsigned long to)
{
	int count = 0;

	for (; from < to; from += WINDOW) {
		struct iovec here = { window, WINDOW };
		struct iovec there = { 0 };
		ssize_t got;

		there.iov_base = (void *)(uintptr_t)from;
		there.iov_len = to - from < WINDOW ? to - from : WINDOW;
		got = process_vm_readv(getpid(), &here, 1, &there, 1, 0);
		for (ssize_t i = 0; i + NEEDLE <= got; i++)
			count += is_needle(window + i);
		explicit_bzero(window, WINDOW);
	}
	return count;
}

static int count_in_memory(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned long from, to;
	char line[512], rights[8];
	int count = 0;

	assert_non_null(maps);
	while (fgets(line, sizeof line, maps))
		if (sscanf(line, "%lx-%lx %7s", &from, &to, rights) == 3 && rights[0] == 'r' &&
		    rights[1] == 'w' && to - from < MAP_MAX)
			count += count_between(from, to);
	fclose(maps);
	return count;
}

/* Makes a key, writes, reads and uses it as the keys process does. */
static void live_a_key_s_life(bool keep, unsigned char **kept, size_t *length)
{
	EVP_PKEY *key = NULL, *again = NULL;
	unsigned char *out = NULL;
	struct error err;
	size_t size;
	BIO *pem = NULL;
	char *text;

	assert_int_equal(private_key_generate("ecdsa", 256, &key, &err), 0);
	assert_int_equal(private_key_to_der(key, kept, length), 0);
	remember(*kept + SECRET);
	assert_int_equal(private_key_to_pem(*kept, *length, &pem), 0);
	size = (size_t)BIO_get_mem_data(pem, &text);
	assert_int_equal(private_key_import(text, size, &again, &err), 0);
	EVP_PKEY_free(again);
	again = private_key_from_der(*kept, *length);
	assert_non_null(again);
	assert_int_equal(
		private_key_ecdsa(again, (const unsigned char *)"abcd", 4, &out, &size, &err), 0);
	OPENSSL_free(out);
	BIO_free(pem);
	EVP_PKEY_free(again);
	EVP_PKEY_free(key);
	if (keep)
		return;
	OPENSSL_secure_clear_free(*kept, *length);
	*kept = NULL;
}

static void freed_memory_holds_no_key(void **state)
{
	unsigned char *der;
	size_t length;

	(void)state;
	live_a_key_s_life(true, &der, &length);
	assert_int_equal(count_in_memory(), 1); /* so it is seen where it is */
	OPENSSL_secure_clear_free(der, length);
	assert_int_equal(count_in_memory(), 0);
	for (int i = 0; i < 10; i++) {
		live_a_key_s_life(false, &der, &length);
		assert_int_equal(count_in_memory(), 0);
	}
}

static void private_keys_are_in_the_secure_heap(void **state)
{
	unsigned char *der;
	size_t length;

	(void)state;
	live_a_key_s_life(true, &der, &length);
	assert_true(CRYPTO_secure_allocated(der));
	OPENSSL_secure_clear_free(der, length);
}

static void the_process_leaves_no_core_and_is_not_looked_into(void **state)
{
	struct rlimit core;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_CORE, &core), 0);
	assert_int_equal(core.rlim_max, 0);
	assert_int_equal(prctl(PR_GET_DUMPABLE), 0);
}

static int let_the_leak_checker_in(void **state)
{
	(void)state;
	prctl(PR_SET_DUMPABLE, 1);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(freed_memory_holds_no_key),
		cmocka_unit_test(private_keys_are_in_the_secure_heap),
		cmocka_unit_test(the_process_leaves_no_core_and_is_not_looked_into),
	};

	keymemory_init();
	return cmocka_run_group_tests(tests, NULL, let_the_leak_checker_in);
}
