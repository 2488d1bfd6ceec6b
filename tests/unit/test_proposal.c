/* Proposals of IKE and ESP, in both spellings. */
#include "common/proposal.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void both_spellings_mean_the_same(void **state)
{
	static const struct {
		const char *text, *normal;
		bool ike;
		size_t key;
	} rows[] = {
		{ "aes256gcm16", "aes256gcm16", false, 36 },
		{ "aes-256-gcm", "aes256gcm16", false, 36 },
		{ "aes128gcm16-ecp256", "aes128gcm16-ecp256", false, 20 },
		{ "chacha20poly1305-x25519-esn", "chacha20poly1305-x25519-esn", false, 36 },
		{ "aes256-sha512", "aes256-sha512", false, 96 },
		{ "aes128ctr-sha256", "aes128ctr-sha256", false, 52 },
		{ "aes-256-cbc hmac-sha-256-128 group14", "aes256-sha256-modp2048", false, 64 },
		{ "aes-256-cbc,sha-384,group20", "aes256-sha384-ecp384", true, 80 },
		{ "aes256gcm16-prfsha384-ecp384", "aes256gcm16-prfsha384-ecp384", true, 36 },
		{ "aes-128-cbc-hmac-sha-384-no-esn", "aes128-sha384-noesn", false, 64 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct error err = { 0 };
		struct proposal proposal;
		char text[PROPOSAL_MAX];

		if (proposal_read(rows[i].text, rows[i].ike, false, &proposal, &err) < 0)
			fail_msg("%s: %s", rows[i].text, err.text);
		proposal_text(&proposal, text);
		assert_string_equal(text, rows[i].normal);
		assert_int_equal(proposal_key_size(&proposal), rows[i].key);
	}
}

static void what_is_wrong_is_said(void **state)
{
	static const struct {
		const char *text, *why;
		bool ike;
	} rows[] = {
		{ "", "names no cipher", false },
		{ "sha256", "names no cipher", false },
		{ "aes256", "needs something that proves integrity", false },
		{ "aes256gcm16-sha256", "takes no other", false },
		{ "aes256-aes128-sha256", "names both aes256 and aes128", false },
		{ "aes256gcm16-aes256", "two ciphers", false },
		{ "aes256-sha256-prfsha256", "ESP has no PRF", false },
		{ "aes256gcm8", "\"aes256gcm8\" is no algorithm", false },
		{ "aes256gcm16x", "is no algorithm", false },
		{ "3des-sha256", "3des is weak", false },
		{ "aes256-md5", "md5 is weak", false },
		{ "aes-256-cbc hmac-sha1-96", "sha1 is weak", false },
		{ "aes256gcm16-prfsha256", "names no group", true },
		{ "aes256gcm16-ecp256", "names no PRF", true },
		{ "aes256-sha256-modp1024", "modp1024 is weak", true },
		{ "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
		  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		  "too long", false },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct error err = { 0 };
		struct proposal proposal;

		assert_int_equal(proposal_read(rows[i].text, rows[i].ike, false, &proposal, &err),
		                 -EINVAL);
		if (!strstr(err.text, rows[i].why))
			fail_msg("%s: %s", rows[i].text, err.text);
	}
}

static void what_is_weak_needs_leave(void **state)
{
	struct proposal proposal;

	(void)state;
	assert_int_equal(proposal_read("3des-cbc hmac-md5-96", false, true, &proposal, NULL), 0);
	assert_int_equal(proposal_key_size(&proposal), 40);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_spellings_mean_the_same),
		cmocka_unit_test(what_is_wrong_is_said),
		cmocka_unit_test(what_is_weak_needs_leave),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
