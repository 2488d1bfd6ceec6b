/* Who a certificate says its owner is, against `local-id` and `remote-id`. */
#include "forge.h"
#include "pkifs/identity.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define SUBJECT "C=DE,O=Example,CN=gate"
#define NAMES                                                                                      \
	"DNS:gate.example.net,DNS:*.wild.example,IP:192.0.2.1,IP:2001:db8::1,"                     \
	"email:Ops@example.net,URI:urn:x"

static X509 *gate; /* has them all */

static int make_gate(void **state)
{
	if (make_cas(state) < 0)
		return -1;
	gate = MAKE(.subject = SUBJECT, .names = NAMES);
	return gate ? 0 : -1;
}

static int free_gate(void **state)
{
	X509_free(gate);
	return free_cas(state);
}

static bool fits(const char *wanted)
{
	struct path_name name;
	struct error err = { 0 };

	if (identity_read(wanted, &name, &err) < 0)
		fail_msg("%s", err.text);
	return identity_fits(&name, gate);
}

static void these_fit(const char *const *names, size_t count, bool expected)
{
	for (size_t i = 0; i < count; i++)
		if (fits(names[i]) != expected)
			fail_msg("%s %s", names[i], expected ? "does not fit" : "fits");
}

static void whole_names_fit(void **state)
{
	static const char *const good[] = {
		"any",
		"gate.example.net",
		"GATE.Example.NET",
		"192.0.2.1",
		"2001:DB8:0::1",
		"Ops@example.net",
		"Ops@EXAMPLE.net",
		SUBJECT,
		"C=de,O=example,CN=Gate",
	};
	static const char *const bad[] = {
		"gate",
		"example.net",
		"gate.example.net.evil",
		"a.gate.example.net",
		"a.wild.example", /* IKE knows no wildcards in certificates (RFC 4945 5.1.3.4) */
		"192.0.2.10",
		"2001:db8::2",
		"ops@example.net", /* the part before @ is what its domain makes of it */
		"example.net@example.net",
		"CN=gate",
		"CN=gate,O=Example,C=DE",
		"C=DE,O=Example,CN=gate,OU=x",
	};

	(void)state;
	these_fit(good, COUNT(good), true);
	these_fit(bad, COUNT(bad), false);
}

static void a_wildcard_is_one_label_or_rdn(void **state)
{
	static const char *const good[] = {
		"*.example.net",       "*.EXAMPLE.net", "*@example.net",
		"C=DE,O=Example,CN=*", "C=DE,O=*,CN=*",
	};
	static const char *const bad[] = {
		"*.net",          "*.gate.example.net",         "*.xample.net",
		"*.wild.example", /* `*` is no label that somebody has */
		"*@ample.net",    "*@gate.example.net",         "CN=*",
		"O=Example,CN=*", "C=DE,O=Example,OU=Lab,CN=*", "C=DE,O=*,OU=*",
		"C=DE,CN=*,O=*",
	};

	(void)state;
	these_fit(good, COUNT(good), true);
	these_fit(bad, COUNT(bad), false);
}

static void other_wildcards_are_refused(void **state)
{
	static const char *const refused[] = { "*",
		                               "gate*.example.net",
		                               "a.*.example.net",
		                               "**.net",
		                               "o*@example.net",
		                               "*@*",
		                               "192.0.2.*",
		                               "*@",
		                               "a..b",
		                               "",
		                               "@example.net",
		                               "gate.example.net." };

	(void)state;
	for (size_t i = 0; i < COUNT(refused); i++) {
		struct path_name name;
		struct error err = { 0 };

		if (identity_read(refused[i], &name, &err) == 0)
			fail_msg("\"%s\" is taken", refused[i]);
		assert_string_not_equal(err.text, "");
	}
}

static void a_cn_is_no_name(void **state)
{
	X509 *host = MAKE(.subject = "CN=host.example.net", .names = NULL);
	struct path_name name;

	(void)state;
	assert_int_equal(identity_read("host.example.net", &name, NULL), 0);
	assert_false(identity_fits(&name, host));
	assert_int_equal(identity_read("*.example.net", &name, NULL), 0);
	assert_false(identity_fits(&name, host));
	assert_int_equal(identity_read("CN=host.example.net", &name, NULL), 0);
	assert_true(identity_fits(&name, host));
	X509_free(host);
}

/* Attack 45: what a NUL hides. */
static void a_name_with_a_nul_is_none(void **state)
{
	static const char text[] = "gate.example.net\0.evil.example";
	GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
	GENERAL_NAME *one = GENERAL_NAME_new();
	ASN1_IA5STRING *value = ASN1_IA5STRING_new();
	struct path_name name;
	X509 *forged;

	(void)state;
	ASN1_STRING_set(value, text, sizeof text - 1);
	GENERAL_NAME_set0_value(one, GEN_DNS, value);
	sk_GENERAL_NAME_push(names, one);
	forged = MAKE(.subject = "CN=x", .alternative = names);
	for (size_t i = 0; i < 3; i++) {
		static const char *const wanted[] = { "gate.example.net", "*.example.net",
			                              "*.evil.example" };

		assert_int_equal(identity_read(wanted[i], &name, NULL), 0);
		assert_false(identity_fits(&name, forged));
	}
	GENERAL_NAMES_free(names);
	X509_free(forged);
}

static void ours_is_one_that_the_certificate_has(void **state)
{
	static const char *const refused[] = { "*.example.net", "other.example.net", "C=DE,CN=*" };
	struct error err = { 0 };

	(void)state;
	assert_int_equal(identity_check_local("192.0.2.1", gate, NULL), 0);
	assert_int_equal(identity_check_local(SUBJECT, gate, NULL), 0);
	assert_int_equal(identity_check_local("other.example.net", NULL, NULL), 0);
	for (size_t i = 0; i < COUNT(refused); i++)
		assert_int_equal(identity_check_local(refused[i], gate, &err), -EINVAL);
	assert_int_equal(identity_check_local(refused[1], gate, &err), -EINVAL);
	assert_string_equal(err.text,
	                    "other.example.net is not in the certificate, which has: "
	                    "gate.example.net, 192.0.2.1, 2001:db8::1, Ops@example.net, " SUBJECT);
}

static void the_first_is_ours(void **state)
{
	static const struct {
		const char *names, *first;
	} cases[] = {
		{ "email:a@example.net,IP:192.0.2.7,DNS:b.example", "b.example" },
		{ "email:a@example.net,IP:192.0.2.7,DNS:*.example", "192.0.2.7" },
		{ "email:a@example.net", "a@example.net" },
		{ NULL, "CN=x" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		X509 *one = MAKE(.subject = "CN=x", .names = cases[i].names);
		struct record *names = record_new();

		assert_string_equal(identity_default(one, names), cases[i].first);
		record_free(names);
		X509_free(one);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_names_fit),
		cmocka_unit_test(a_wildcard_is_one_label_or_rdn),
		cmocka_unit_test(other_wildcards_are_refused),
		cmocka_unit_test(a_cn_is_no_name),
		cmocka_unit_test(a_name_with_a_nul_is_none),
		cmocka_unit_test(ours_is_one_that_the_certificate_has),
		cmocka_unit_test(the_first_is_ours),
	};

	return cmocka_run_group_tests(tests, make_gate, free_gate);
}
