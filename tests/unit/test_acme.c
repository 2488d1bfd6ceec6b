#include "enroll/acme_client.h"
#include "enroll/respond.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <openssl/x509v3.h>

#include <cmocka.h>

static struct acme_problem problem_of(const char *text)
{
	json_t *json = json_loads(text, 0, NULL);
	struct acme_problem problem;

	acme_problem_read(json, &problem);
	json_decref(json);
	return problem;
}

static void a_problem_is_told_in_words(void **state)
{
	struct acme_problem problem;

	(void)state;
	problem = problem_of(
		"{\"type\":\"urn:ietf:params:acme:error:rateLimited\",\"detail\":\"later\"}");
	assert_string_equal(problem.type, "rateLimited");
	assert_string_equal(problem.text, "too many requests: later");
	assert_true(acme_problem_passes(&problem));
	problem = problem_of("{\"type\":\"urn:ietf:params:acme:error:caa\",\"detail\":7}");
	assert_string_equal(problem.text, "the name's CAA records forbid it");
	assert_false(acme_problem_passes(&problem));
}

static void what_is_no_problem_document_has_no_type(void **state)
{
	static const char *const texts[] = { "[]", "{}", "{\"type\":\"about:blank\"}", "x" };

	(void)state;
	for (size_t i = 0; i < COUNT(texts); i++) {
		struct acme_problem problem = problem_of(texts[i]);

		assert_string_equal(problem.type, "");
		assert_string_equal(problem.text, "no reason");
		assert_false(acme_problem_passes(&problem));
	}
}

static void a_long_problem_is_cut(void **state)
{
	char text[2000];
	struct acme_problem problem;

	(void)state;
	snprintf(text, sizeof text, "{\"detail\":\"%01500d\"}", 7);
	problem = problem_of(text);
	assert_int_equal(strlen(problem.text), sizeof problem.text - 1);
}

static void base64url_has_no_padding(void **state)
{
	char *text = base64url("\xfb\xff\xfe?", 4);

	(void)state;
	assert_string_equal(text, "-__-Pw");
	assert_true(is_base64url(text, 6));
	assert_false(is_base64url(text, 5));
	free(text);
	assert_false(is_base64url("", 9));
	assert_false(is_base64url("a=", 9));
	assert_false(is_base64url("../a", 9));
}

static void the_secret_of_an_external_account_may_be_padded(void **state)
{
	static char jwk[] = "{}";
	const struct jws_key key = { .jwk = jwk };
	char *plain = jws_bind(&key, "kid", "-_-_YQ", "https://ca.example/", NULL);
	char *padded = jws_bind(&key, "kid", "+/+/YQ==", "https://ca.example/", NULL);

	(void)state;
	assert_non_null(plain);
	assert_string_equal(plain, padded);
	free(plain);
	free(padded);
}

static void a_ca_may_name_other_servers_but_not_this_machine(void **state)
{
	static const struct {
		const char *from, *to;
		bool may;
	} rows[] = {
		{ "https://ca.example/dir", "https://ca.example/order", true },
		{ "https://ca.example/dir", "https://ca.example:8443/order", true },
		{ "https://ca.example/dir", "https://other.example/order?a=b", true },
		{ "https://ca.example/dir", "https://[2001:db8::1]/order", true },
		{ "https://ca.example/dir", "http://ca.example/order", false },
		{ "https://ca.example/dir", "file:///etc/passwd", false },
		{ "https://ca.example/dir", "https://me@ca.example/order", false },
		{ "https://ca.example/dir", "https://ca.example/order#here", false },
		{ "https://ca.example/dir", "https://localhost/order", false },
		{ "https://ca.example/dir", "https://a.LOCALHOST./order", false },
		{ "https://ca.example/dir", "https://127.1/order", false },
		{ "https://ca.example/dir", "https://0x7f000001/order", false },
		{ "https://ca.example/dir", "https://0.0.0.0/order", false },
		{ "https://ca.example/dir", "https://[::1]/order", false },
		{ "https://ca.example/dir", "https://[::ffff:127.0.0.1]/order", false },
		{ "https://ca.example/dir", "https://169.254.169.254/order", false },
		{ "https://ca.example/dir", "https://[fe80::1]/order", false },
		{ "https://ca.example/dir", "/order", false },
		{ "https://ca.example/dir", "", false },
		{ "https://localhost:14000/dir", "https://127.0.0.1:14000/order", true },
		{ "https://localhost:14000/dir", "https://169.254.169.254/order", false },
		{ "https://169.254.1.1/dir", "https://169.254.1.1:99/order", true },
		{ "https://169.254.1.1/dir", "https://169.254.1.2/order", false },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++)
		if (http_may_name(rows[i].from, rows[i].to) != rows[i].may)
			fail_msg("%s from %s", rows[i].to, rows[i].from);
}

static void links_are_found_by_their_relation(void **state)
{
	static const char text[] = "<https://ca.example/dir>;rel=\"index\", </1> ; title=\"a,b;"
				   "rel=alternate\"; rel=up,</2>;a; REL=\"x Alternate\" ,"
				   "</3>;rel=alternate";
	static const char *const none[] = { "",
		                            "</1>",
		                            "</1;rel=alternate",
		                            "x;rel=alternate",
		                            "</1>;rel=\"alternates\"",
		                            "</1>;rel",
		                            "</1>;rel=" };
	const char *at = text;
	char *target;

	(void)state;
	target = http_link(&at, "alternate");
	assert_string_equal(target, "/2");
	free(target);
	target = http_link(&at, "alternate");
	assert_string_equal(target, "/3");
	free(target);
	assert_null(http_link(&at, "alternate"));
	for (size_t i = 0; i < COUNT(none); i++) {
		at = none[i];
		assert_null(http_link(&at, "alternate"));
	}
}

static void only_tokens_in_force_are_answered(void **state)
{
	static const struct {
		const char *request, *answer;
	} rows[] = {
		{ "GET /.well-known/acme-challenge/tok HTTP/1.1\r\n\r\n", "200" },
		{ "GET /.well-known/acme-challenge/other HTTP/1.1\r\n\r\n", "404" },
		{ "GET /.well-known/acme-challenge/to HTTP/1.1\r\n\r\n", "404" },
		{ "GET /.well-known/acme-challenge/ HTTP/1.1\r\n\r\n", "404" },
		{ "GET / HTTP/1.0\r\n\r\n", "404" },
		{ "GET /.well-known/acme-challenge/tok\r\n\r\n", "400" },
		{ "HEAD /.well-known/acme-challenge/tok HTTP/1.1\r\n\r\n", "400" },
		{ "GET /.well-known/acme-challenge/tok HTTP/1.1", "400" },
		{ "", "400" },
	};
	struct record *answers = record_new();
	char text[1024];

	(void)state;
	record_add(answers, "challenge", "http-01 www.example.net tok tok.print");
	record_add(answers, "challenge", "tls-alpn-01 www.example.net other other.print");
	for (size_t i = 0; i < COUNT(rows); i++) {
		respond_http(rows[i].request, strlen(rows[i].request), answers, text, sizeof text);
		assert_memory_equal(text + strlen("HTTP/1.1 "), rows[i].answer, 3);
		assert_int_equal(strstr(text, "tok.print") != NULL, i == 0);
	}
	record_free(answers);
}

static void an_address_is_asked_for_by_its_reverse_name(void **state)
{
	char text[256];

	(void)state;
	respond_tls_name("www.example.net", text, sizeof text);
	assert_string_equal(text, "www.example.net");
	respond_tls_name("192.0.2.17", text, sizeof text);
	assert_string_equal(text, "17.2.0.192.in-addr.arpa");
	respond_tls_name("2001:db8::5:1", text, sizeof text);
	assert_string_equal(text, "1.0.0.0.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2."
	                          "ip6.arpa");
}

/* RFC 8737 §3: one name, and the hash of what answers the challenge, critical. */
static void a_challenges_certificate_proves_one_name(void **state)
{
	static const unsigned char address[] = { 0x20, 1, 13, 0xb8, [15] = 1 };
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *host = respond_tls_certificate(key, "www.example.net", "tok.print");
	X509 *ip = respond_tls_certificate(key, "2001:db8::1", "tok.print");
	ASN1_OBJECT *type = OBJ_txt2obj("1.3.6.1.5.5.7.1.31", 1);
	unsigned char digest[32];
	X509_EXTENSION *extension;
	const ASN1_OCTET_STRING *value;

	(void)state;
	assert_non_null(host);
	assert_non_null(ip);
	assert_int_equal(X509_check_host(host, "www.example.net", 0, 0, NULL), 1);
	assert_int_equal(X509_check_host(host, "mail.example.net", 0, 0, NULL), 0);
	assert_int_equal(X509_check_ip(ip, address, sizeof address, 0), 1);
	assert_int_equal(X509_verify(host, key), 1);
	extension = X509_get_ext(host, X509_get_ext_by_OBJ(host, type, -1));
	assert_non_null(extension);
	assert_int_equal(X509_EXTENSION_get_critical(extension), 1);
	value = X509_EXTENSION_get_data(extension);
	EVP_Digest("tok.print", 9, digest, NULL, EVP_sha256(), NULL);
	assert_int_equal(ASN1_STRING_length(value), 34);
	assert_memory_equal(ASN1_STRING_get0_data(value), "\x04\x20", 2);
	assert_memory_equal(ASN1_STRING_get0_data(value) + 2, digest, 32);
	ASN1_OBJECT_free(type);
	X509_free(host);
	X509_free(ip);
	EVP_PKEY_free(key);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_problem_is_told_in_words),
		cmocka_unit_test(what_is_no_problem_document_has_no_type),
		cmocka_unit_test(a_long_problem_is_cut),
		cmocka_unit_test(base64url_has_no_padding),
		cmocka_unit_test(the_secret_of_an_external_account_may_be_padded),
		cmocka_unit_test(a_ca_may_name_other_servers_but_not_this_machine),
		cmocka_unit_test(links_are_found_by_their_relation),
		cmocka_unit_test(an_address_is_asked_for_by_its_reverse_name),
		cmocka_unit_test(a_challenges_certificate_proves_one_name),
		cmocka_unit_test(only_tokens_in_force_are_answered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
