/* URLs of LDAP, as an operator or a certificate has them. */
#include "common/ldapurl.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void its_parts_are_decoded(void **state)
{
	static const struct {
		const char *text, *host, *dn, *attribute;
		unsigned port;
		bool tls;
	} rows[] = {
		{ "ldap://ldap.example.net", "ldap.example.net", "", NULL, 389, false },
		{ "LDAPS://ldap.example.net/", "ldap.example.net", "", NULL, 636, true },
		{ "ldap://192.0.2.1:3389/cn=CA,o=Example", "192.0.2.1", "cn=CA,o=Example", NULL,
		  3389, false },
		{ "ldaps://[2001:db8::1]:636/dc=net", "2001:db8::1", "dc=net", NULL, 636, true },
		{ "ldap://[::1]/dc=net??base", "::1", "dc=net", NULL, 389, false },
		{ "ldap://a/cn=M%C3%BCller%5C%2C%20AG?certificateRevocationList;binary?base?"
		  "objectClass=cRLDistributionPoint",
		  "a", "cn=M\xc3\xbcller\\, AG", "certificateRevocationList;binary", 389, false },
		{ "ldap://a/o=x%3Fy?2.5.4.38?BASE", "a", "o=x?y", "2.5.4.38", 389, false },
		{ "ldap://a/?authorityRevocationList?base??x-one=1", "a", "",
		  "authorityRevocationList", 389, false },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct error err = { 0 };
		struct ldap_url url;

		assert_true(ldap_url_is(rows[i].text));
		assert_int_equal(ldap_url_read(rows[i].text, &url, &err), 0);
		assert_string_equal(url.host, rows[i].host);
		assert_int_equal(url.port, rows[i].port);
		assert_int_equal(url.tls, rows[i].tls);
		assert_string_equal(url.dn, rows[i].dn);
		if (rows[i].attribute)
			assert_string_equal(url.attributes[0], rows[i].attribute);
		else
			assert_null(url.attributes[0]);
		assert_null(url.attributes[1]);
		ldap_url_clear(&url);
	}
}

static void several_attributes_are_taken_in_their_order(void **state)
{
	struct ldap_url url;

	(void)state;
	assert_int_equal(ldap_url_read("ldap://a/b?one,two;binary,2.5.4.39", &url, NULL), 0);
	assert_string_equal(url.attributes[0], "one");
	assert_string_equal(url.attributes[1], "two;binary");
	assert_string_equal(url.attributes[2], "2.5.4.39");
	assert_null(url.attributes[3]);
	ldap_url_clear(&url);
}

static void what_is_none_is_refused_with_its_reason(void **state)
{
	static const char *const rows[][2] = {
		{ "http://a/", "this is no LDAP URL" },
		{ "ldap:///cn=a", "needs a host" },
		{ "ldap://:389/", "needs a host" },
		{ "ldap://[::1", "no such host" },
		{ "ldap://[::1]x/", "no such host" },
		{ "ldap://a b/", "no such host" },
		{ "ldap://me@a/", "no such host" },
		{ "ldap://a:0/", "no such port" },
		{ "ldap://a:65536/", "no such port" },
		{ "ldap://a:99999999999999999999/", "no such port" },
		{ "ldap://a:/", "no such port" },
		{ "ldap://a:3x/", "no such port" },
		{ "ldap://a?b", "behind a" },
		{ "ldap://a#b", "behind a" },
		{ "ldap://a/cn=%", "cannot be read" },
		{ "ldap://a/cn=%4", "cannot be read" },
		{ "ldap://a/cn=%4g", "cannot be read" },
		{ "ldap://a/cn=% 4", "cannot be read" },
		{ "ldap://a/cn=%00", "cannot be read" },
		{ "ldap://a/b?c%20d", "no such attribute" },
		{ "ldap://a/b?c,,d", "no such attribute" },
		{ "ldap://a/b?*", "no such attribute" },
		{ "ldap://a/b?1,2,3,4,5,6,7,8", "too many attributes" },
		{ "ldap://a/b?c?sub", "its scope is base" },
		{ "ldap://a/b?c?one", "its scope is base" },
		{ "ldap://a/b?c?base?"
		  "?!bindname=cn=a",
		  "critical" },
		{ "ldap://a/b?c?base??x-a=1,!x-b=2", "critical" },
		{ "ldap://a/b?c?base?d?e?f", "no more parts" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct error err = { 0 };
		struct ldap_url url;

		assert_int_equal(ldap_url_read(rows[i][0], &url, &err), -EINVAL);
		if (!strstr(err.text, rows[i][1]))
			fail_msg("%s: %s", rows[i][0], err.text);
		ldap_url_clear(&url);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(its_parts_are_decoded),
		cmocka_unit_test(several_attributes_are_taken_in_their_order),
		cmocka_unit_test(what_is_none_is_refused_with_its_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
