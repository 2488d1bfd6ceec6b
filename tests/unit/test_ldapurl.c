/* URLs of LDAP, as an operator or a certificate has them. */
#include "common/ldapurl.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
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

static void a_server_is_the_same_if_a_password_for_it_is_safe_there(void **state)
{
	static const char server[] = "ldap://ldap.example.net";
	static const char *const same[] = {
		"ldap://ldap.example.net/cn=a",        "LDAP://LDAP.example.net:389/cn=a?b",
		"ldap://ldap.example.net/@evil/cn=a",
	}, *const others[] = {
		"ldaps://ldap.example.net/cn=a",       "ldap://ldap.example.net:636/cn=a",
		"ldap://ldap.example.net.evil/cn=a",   "ldap://ldap.example.ne/cn=a",
		"ldap://ldap.example.net@evil/cn=a",   "ldap://evil/ldap://ldap.example.net",
		"ldap://ldap.example.net:3890/cn=a",   "http://ldap.example.net:389/",
		"ldap://ldap.example.net/cn=%",        "",
	};

	(void)state;
	for (size_t i = 0; i < COUNT(same); i++)
		assert_true(ldap_server_same(server, same[i]));
	for (size_t i = 0; i < COUNT(others); i++) {
		assert_false(ldap_server_same(server, others[i]));
		assert_false(ldap_server_same(others[i], server));
	}
	assert_true(ldap_server_is("ldap://a"));
	assert_true(ldap_server_is("ldaps://a:3/?b"));
	assert_false(ldap_server_is("ldap://a/cn=b"));
	assert_false(ldap_server_is("http://a"));
}

static void an_entry_stands_between_the_server_and_its_attributes(void **state)
{
	static const char *const rows[][2] = {
		{ "ldap://a", "ldap://a/CN=b%5C,%20c" },
		{ "ldaps://a:3/", "ldaps://a:3/CN=b%5C,%20c" },
		{ "ldap://[::1]/?d?base", "ldap://[::1]/CN=b%5C,%20c?d?base" },
	};
	X509_NAME *name = X509_NAME_new();

	(void)state;
	assert_true(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
	                                       (const unsigned char *)"b, c", -1, -1, 0));
	for (size_t i = 0; i < COUNT(rows); i++) {
		char *url = ldap_url_of(rows[i][0], name);

		assert_string_equal(url, rows[i][1]);
		free(url);
	}
	X509_NAME_free(name);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(its_parts_are_decoded),
		cmocka_unit_test(several_attributes_are_taken_in_their_order),
		cmocka_unit_test(what_is_none_is_refused_with_its_reason),
		cmocka_unit_test(a_server_is_the_same_if_a_password_for_it_is_safe_there),
		cmocka_unit_test(an_entry_stands_between_the_server_and_its_attributes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
