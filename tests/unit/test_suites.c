/*
 * The suites that others made for path validation: NIST's PKITS (all 249 of tests/data/pkits.tsv,
 * its certificates and CRLs from Debian's python3-cryptography-vectors) and x509-limbo
 * (tests/data/limbo.json.xz). What differs from what they expect stands in docs/validation.md, and
 * here, so that nothing differs unseen.
 */
#include "common/sanitized.h"
#include "common/x509.h"
#include "enroll/crl.h"
#include "pkifs/path.h"

#include <errno.h>
#include <jansson.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define PKITS  "/usr/lib/python3/dist-packages/cryptography_vectors/x509/PKITS_data"
#define POLICY "2.16.840.1.101.3.2.1.48." /* NIST-test-policy-N */

/*
 * OpenSSL 3.0 keeps the policy constraints of a certificate that has no policies for good, 42 bytes
 * a check; it comes to that only in a path whose signatures lead to a trusted CA.
 */
void __lsan_disable(void) __attribute__((weak)), __lsan_enable(void) __attribute__((weak));
#define LEAKS "rfc5280::pc::ica-noncritical-pc"

/* What one case gives to path_check. */
struct given {
	STACK_OF(X509) * anchors, *untrusted;
	STACK_OF(X509_CRL) * crls;
	STACK_OF(ASN1_OBJECT) * policies;
};

/* The suites run with CRLs as OpenSSL decodes them, and as the store has them: stubs and indexes.
 */
static bool with_stubs;

static int put(const void *bytes, size_t length)
{
	int fd = memfd_create("file", MFD_CLOEXEC);

	assert_int_equal(write(fd, bytes, length), length);
	return fd;
}

/* CRL as a worker reads it; NULL: it is refused. */
static X509_CRL *make_stub(X509_CRL *crl, STACK_OF(X509) * signers)
{
	unsigned char *der = NULL;
	int length = i2d_X509_CRL(crl, &der), body = put(der, (size_t)length);
	struct crl_paths paths = { body, 0, body, put("", 0), put("", 0) };
	struct crl_index *index = NULL;
	X509_CRL *made = NULL;
	struct crl read;
	struct stub stub;

	if (crl_read(&paths, signers, NULL, &read, NULL) == 0) {
		assert_int_equal(crl_index_open(paths.index, &index), 0);
		paths.index = -1;
		stub = (struct stub){ read.stub, read.stub_length, read.digest,
			              read.digest_length };
		made = stub_crl_new(&stub, index, NULL);
	}
	crl_clear(&read);
	OPENSSL_free(der);
	close(body);
	close(paths.scratch);
	if (paths.index >= 0)
		close(paths.index);
	return made;
}

/* Adds CRL, whose reference is taken. */
static void add_crl(struct given *given, X509_CRL *crl)
{
	X509_CRL *stub;

	assert_non_null(crl);
	if (with_stubs) {
		stub = make_stub(crl, given->untrusted);
		X509_CRL_free(crl);
		crl = stub;
	}
	if (crl)
		sk_X509_CRL_push(given->crls, crl);
}

static void given_clear(struct given *given)
{
	sk_X509_pop_free(given->anchors, X509_free);
	sk_X509_pop_free(given->untrusted, X509_free);
	sk_X509_CRL_pop_free(given->crls, X509_CRL_free);
	sk_ASN1_OBJECT_pop_free(given->policies, ASN1_OBJECT_free);
}

static STACK_OF(X509_CRL) * crls_of(void *user, const X509_NAME *issuer)
{
	STACK_OF(X509_CRL) *given = user, *found = sk_X509_CRL_new_null();

	for (int i = 0; i < sk_X509_CRL_num(given); i++) {
		X509_CRL *crl = sk_X509_CRL_value(given, i);

		if (X509_NAME_cmp(X509_CRL_get_issuer(crl), issuer) != 0)
			continue;
		X509_CRL_up_ref(crl);
		sk_X509_CRL_push(found, crl);
	}
	return found;
}

static double milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* Whether the answer is as EXPECTED; the differences are counted in DIFFERENCES. */
static void compare(const char *id, bool expected, const struct path_question *question,
                    char *const *known, int *differences)
{
	struct path_answer answer;
	struct error err = { 0 };
	bool is_known = false, good;
	double begun = milliseconds();

	if (__lsan_disable && strcmp(id, LEAKS) == 0)
		__lsan_disable();
	good = path_check(question, &answer, &err) == 0;
	if (__lsan_enable && strcmp(id, LEAKS) == 0)
		__lsan_enable();
	if (!SANITIZED)
		assert_true(milliseconds() - begun < 1000); /* the pathological cases, too */
	path_answer_clear(&answer);
	assert_int_equal(ERR_peek_error(), 0);
	if (getenv("SUITES_TOLD"))
		printf("%s\t%s\t%s\t%s\n", id, expected ? "accept" : "reject",
		       good ? "accept" : "reject", err.text);
	for (; *known && !is_known; known++)
		is_known = strcmp(*known, id) == 0;
	if ((good == expected) != is_known)
		return;
	printf("%s: %s, expected %s%s: %s\n", id, good ? "accepted" : "rejected",
	       expected ? "accept" : "reject", is_known ? " (and noted as one that differs)" : "",
	       err.text);
	++*differences;
}

/* --- PKITS --- */

static BIO *open_vector(const char *folder, const char *name, const char *end)
{
	char path[300];
	BIO *in;

	snprintf(path, sizeof path, "%s/%s/%s.%s", PKITS, folder, name, end);
	in = BIO_new_file(path, "rb");
	if (!in)
		fail_msg("%s is missing: install the packages of `packaging/deps check`", path);
	return in;
}

static void read_certificates(char *names, STACK_OF(X509) * into)
{
	for (char *rest = names, *name; (name = strtok_r(rest, ",", &rest));) {
		BIO *in = open_vector("certs", name, "crt");
		X509 *certificate = d2i_X509_bio(in, NULL);

		assert_non_null(certificate);
		sk_X509_push(into, certificate);
		BIO_free(in);
	}
}

static void read_crls(char *names, struct given *into)
{
	for (char *rest = names, *name; (name = strtok_r(rest, ",", &rest));) {
		BIO *in = open_vector("crls", name, "crl");

		add_crl(into, d2i_X509_CRL_bio(in, NULL));
		BIO_free(in);
	}
}

static void read_policies(char *names, STACK_OF(ASN1_OBJECT) * into)
{
	for (char *rest = names, *name; (name = strtok_r(rest, ",", &rest));) {
		char oid[80];

		if (strcmp(name, "anyPolicy") == 0)
			continue;
		snprintf(oid, sizeof oid, POLICY "%s", strrchr(name, '-') + 1);
		sk_ASN1_OBJECT_push(into, OBJ_txt2obj(oid, 1));
	}
}

/* The columns: test title anchor intermediates ee crls policies flags constrained expected */
static void pkits_case(char *line, int *differences)
{
	static char dsa[] = "4.1.5", *const known[] = { dsa, NULL };
	struct given given = { sk_X509_new_null(), sk_X509_new_null(), sk_X509_CRL_new_null(),
		               sk_ASN1_OBJECT_new_null() };
	STACK_OF(X509) *leaf = sk_X509_new_null();
	char *column[10], *rest = line;

	for (size_t i = 0; i < COUNT(column); i++)
		assert_non_null(column[i] = strsep(&rest, "\t\n"));
	read_certificates(column[2], given.anchors);
	read_certificates(column[3], given.untrusted);
	read_certificates(column[4], leaf);
	read_crls(column[5], &given);
	read_policies(column[6], given.policies);
	compare(column[0], strcmp(column[9], "accept") == 0,
	        &(struct path_question){
			.leaf = sk_X509_value(leaf, 0),
			.untrusted = given.untrusted,
			.anchors = given.anchors,
			.now = time(NULL),
			.clock_trusted = true,
			.policies = given.policies,
			.explicit_policy = strcmp(column[7], "explicit") == 0,
			.inhibit_mapping = strcmp(column[7], "inhibit_map") == 0,
			.inhibit_any_policy = strcmp(column[7], "inhibit_any") == 0,
			.allow_legacy = true,
			.tolerant = true,
			.revocation = { .source = PATH_SOURCE_CRL,
	                                .crls = crls_of,
	                                .user = given.crls },
		},
	        known, differences);
	sk_X509_pop_free(leaf, X509_free);
	given_clear(&given);
}

static void attack_44_pkits_is_judged_as_nist_expects(void **state)
{
	FILE *table = fopen(SUITES "/pkits.tsv", "r");
	char line[1000];
	int count = 0, differences = 0;

	(void)state;
	assert_non_null(table);
	while (fgets(line, sizeof line, table))
		if (*line != '#') {
			pkits_case(line, &differences);
			count++;
		}
	fclose(table);
	assert_int_equal(count, 249);
	assert_int_equal(differences, 0);
}

/* --- x509-limbo --- */

static json_t *read_limbo(void)
{
	FILE *in = popen("xz -dc " SUITES "/limbo.json.xz", "r");
	json_error_t error;
	json_t *suite;

	assert_non_null(in);
	suite = json_loadf(in, 0, &error);
	if (pclose(in) != 0 || !suite)
		fail_msg("limbo.json.xz can't be read: %s", error.text);
	return suite;
}

static void add_pem(const char *text, STACK_OF(X509) * into)
{
	BIO *in = BIO_new_mem_buf(text, -1);
	X509 *certificate;

	while ((certificate = PEM_read_bio_X509(in, NULL, NULL, NULL)))
		sk_X509_push(into, certificate);
	BIO_free(in);
	ERR_clear_error();
}

static void add_pems(const json_t *texts, STACK_OF(X509) * into)
{
	for (size_t i = 0; i < json_array_size(texts); i++)
		add_pem(json_string_value(json_array_get(texts, i)), into);
}

static void add_crls(const json_t *texts, struct given *into)
{
	for (size_t i = 0; i < json_array_size(texts); i++) {
		BIO *in = BIO_new_mem_buf(json_string_value(json_array_get(texts, i)), -1);

		add_crl(into, PEM_read_bio_X509_CRL(in, NULL, NULL, NULL));
		BIO_free(in);
	}
}

static int64_t limbo_time(const json_t *test)
{
	const char *text = json_string_value(json_object_get(test, "validation_time"));
	struct tm when = { 0 };

	if (!text)
		return time(NULL);
	assert_non_null(strptime(text, "%Y-%m-%dT%H:%M:%S", &when)); /* all are in UTC */
	return timegm(&when);
}

static struct path_name limbo_name(const json_t *test)
{
	const json_t *name = json_object_get(test, "expected_peer_name");
	const char *kind;

	if (!json_is_object(name))
		name = json_array_get(json_object_get(test, "expected_peer_names"), 0);
	kind = json_string_value(json_object_get(name, "kind"));
	return (struct path_name){
		.kind = !kind                      ? PATH_NO_NAME
		        : strcmp(kind, "DNS") == 0 ? PATH_DNS
		        : strcmp(kind, "IP") == 0  ? PATH_IP
		                                   : PATH_EMAIL,
		.text = json_string_value(json_object_get(name, "value")),
	};
}

/* The cases that differ, as docs/validation.md tells. */
static char **limbo_known(void)
{
	static char lines[64][100], *known[65];
	FILE *in = fopen(SUITES "/limbo-differs.txt", "r");
	size_t count = 0;

	assert_non_null(in);
	while (count < COUNT(lines) && fgets(lines[count], sizeof lines[count], in)) {
		lines[count][strcspn(lines[count], "\n")] = 0;
		known[count] = lines[count];
		count++;
	}
	fclose(in);
	known[count] = NULL;
	return known;
}

static void limbo_case(const json_t *test, char *const *known, int *differences)
{
	struct given given = { sk_X509_new_null(), sk_X509_new_null(), sk_X509_CRL_new_null(),
		               NULL };
	const json_t *depth = json_object_get(test, "max_chain_depth");
	const char *kind = json_string_value(json_object_get(test, "validation_kind"));
	STACK_OF(X509) *leaf = sk_X509_new_null();
	bool revocation;

	add_pems(json_object_get(test, "trusted_certs"), given.anchors);
	add_pems(json_object_get(test, "untrusted_intermediates"), given.untrusted);
	add_pem(json_string_value(json_object_get(test, "peer_certificate")), leaf);
	add_crls(json_object_get(test, "crls"), &given);
	revocation = sk_X509_CRL_num(given.crls) > 0;
	compare(json_string_value(json_object_get(test, "id")),
	        strcmp(json_string_value(json_object_get(test, "expected_result")), "SUCCESS") == 0,
	        &(struct path_question){
			.leaf = sk_X509_value(leaf, 0),
			.untrusted = given.untrusted,
			.anchors = given.anchors,
			.now = limbo_time(test),
			.clock_trusted = true,
			.purpose = strcmp(kind, "SERVER") == 0 ? PATH_SERVER : PATH_CLIENT,
			.name = limbo_name(test),
			.has_depth = json_is_integer(depth),
			.depth = (int)json_integer_value(depth),
			.revocation = { .source = revocation ? PATH_SOURCE_CRL : PATH_SOURCE_OFF,
	                                .crls = crls_of,
	                                .user = given.crls },
		},
	        known, differences);
	sk_X509_pop_free(leaf, X509_free);
	given_clear(&given);
}

static void attack_44_limbo_is_judged_by_the_standard(void **state)
{
	json_t *suite = read_limbo(), *tests = json_object_get(suite, "testcases");
	char *const *known = limbo_known();
	int differences = 0;

	(void)state;
	assert_int_equal(json_array_size(tests), 208);
	for (size_t i = 0; i < json_array_size(tests); i++)
		limbo_case(json_array_get(tests, i), known, &differences);
	json_decref(suite);
	assert_int_equal(differences, 0);
}

static void pkits_is_judged_the_same_with_stubs(void **state)
{
	with_stubs = true;
	attack_44_pkits_is_judged_as_nist_expects(state);
}

static void limbo_is_judged_the_same_with_stubs(void **state)
{
	attack_44_limbo_is_judged_by_the_standard(state);
	with_stubs = false;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(attack_44_pkits_is_judged_as_nist_expects),
		cmocka_unit_test(attack_44_limbo_is_judged_by_the_standard),
		cmocka_unit_test(pkits_is_judged_the_same_with_stubs),
		cmocka_unit_test(limbo_is_judged_the_same_with_stubs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
