/* pkifs-enroll over its two sockets, against Debian's scepserver and the lab's own SCEP CA. */
#include "enroll/crl.h"
#include "tests/integration/worker/bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <endian.h>
#include <openssl/crypto.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct bench *bench;

/* The CA of one test. Those of the same kind share a folder, so that their keys are made once. */
struct ca {
	const char *program;
	char name[64], *url;
	struct record *fetched;
};

static char running[64]; /* the folder of a CA that a failed test left behind */

static int open_bench(void **state)
{
	(void)state;
	bench = bench_open();
	return 0;
}

static int close_bench(void **state)
{
	(void)state;
	bench_close(bench);
	return 0;
}

static int set_up(void **state)
{
	(void)state;
	bench_start_worker(bench);
	return 0;
}

static int tear_down(void **state)
{
	int status = bench_end_worker(bench);

	(void)state;
	if (*running)
		bench_stop(bench, "scep-server", running);
	*running = '\0';
	bench_port = 0;
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	return 0;
}

/* --- jobs --- */

static struct record *new_job(const char *action, const char *url)
{
	static unsigned number;
	struct record *job = record_new();

	record_add(job, "frame", "job");
	record_add_number(job, "job", ++number);
	record_add(job, "action", action);
	record_add_number(job, "now", time(NULL));
	record_add(job, "protocol", "scep");
	record_add(job, "enrollment-url", url);
	return job;
}

/* Fetches the CA's certificates; the result. */
static struct record *fetch_ca(const char *url)
{
	struct record *result = bench_job(bench, new_job("ca-certificate", url), NULL, 0);

	assert_string_equal(record_get(result, "outcome"), "done");
	return result;
}

static void add_public(struct record *job, const struct record *key)
{
	const struct field *public = record_find(key, "public");

	record_add_bytes(job, "public", public->value, public->length);
}

/* An enrollment at the CA that FETCHED describes. */
static struct record *enroll_job(const char *url, const struct record *fetched)
{
	struct record *job = new_job("enroll", url);
	const struct field *field;
	size_t index = 0;

	for (int i = 0; (field = record_next(fetched, "certificate", &index)); i++)
		record_add_bytes(job, i ? "ra" : "ca", field->value, field->length);
	record_add(job, "capabilities", record_get(fetched, "capabilities"));
	record_add(job, "certificate-id", "office");
	record_add(job, "subject", "CN=gw.example.net");
	record_add(job, "challenge-password", "secret");
	add_public(job, bench->new_key);
	return job;
}

/* Adds what the store would add when it takes up a job again. */
static void add_resume(struct record *job, const struct record *from)
{
	for (size_t i = 0; i < record_count(from); i++) {
		const struct field *field = record_field(from, i);

		if (strncmp(field->key, "resume-", 7) == 0)
			record_add_bytes(job, field->key, field->value, field->length);
	}
}

static bool has_new_key(const X509 *certificate)
{
	const struct field *public = record_find(bench->new_key, "public");
	unsigned char *der = NULL;
	int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);
	bool same = size == (int)public->length && memcmp(der, public->value, public->length) == 0;

	OPENSSL_free(der);
	return same;
}

static X509 *certificate_in(const struct record *result)
{
	const struct field *field;
	size_t index = 0;

	while ((field = record_next(result, "certificate", &index))) {
		const unsigned char *der = (const unsigned char *)field->value;
		X509 *certificate = d2i_X509(NULL, &der, (long)field->length);

		assert_non_null(certificate);
		if (has_new_key(certificate))
			return certificate;
		X509_free(certificate);
	}
	return NULL;
}

static void assert_outcome(const struct record *result, const char *outcome)
{
	if (!record_is(result, "outcome", outcome) && record_get(result, "reason"))
		print_message("reason: %s\n", record_get(result, "reason"));
	assert_string_equal(record_get(result, "outcome"), outcome);
}

static void assert_enrolled(const struct record *result)
{
	X509 *certificate;

	assert_outcome(result, "done");
	certificate = certificate_in(result);
	assert_non_null(certificate);
	X509_free(certificate);
}

static void assert_reason(const struct record *result, const char *words)
{
	const char *reason = record_get(result, "reason");

	assert_non_null(reason);
	if (!strstr(reason, words))
		fail_msg("\"%s\" does not say \"%s\"", reason, words);
}

static void start(struct ca *ca, const char *variables, const char *options)
{
	snprintf(ca->name, sizeof ca->name, "%s%s", ca->program, variables);
	for (char *c = ca->name; *c; c++)
		if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789", *c | 0x20))
			*c = '-';
	free(ca->url);
	ca->url = bench_serve(bench, ca->program, ca->name, variables, options);
	strcpy(running, ca->name);
}

static struct ca serve(const char *program, const char *variables, const char *options)
{
	struct ca ca = { .program = program };

	start(&ca, variables, options);
	ca.fetched = fetch_ca(ca.url);
	return ca;
}

static void stop(struct ca *ca)
{
	bench_stop(bench, ca->program, ca->name);
	*running = '\0';
	record_free(ca->fetched);
	free(ca->url);
}

static unsigned log_count(const struct ca *ca, const char *start_of_line)
{
	return bench_log_count(bench, ca->name, start_of_line);
}

static struct record *enroll(const struct ca *ca)
{
	return bench_job(bench, enroll_job(ca->url, ca->fetched), NULL, 0);
}

static struct record *resume(const struct ca *ca, const struct record *from)
{
	struct record *job = enroll_job(ca->url, ca->fetched);

	add_resume(job, from);
	return bench_job(bench, job, NULL, 0);
}

/* --- scepserver --- */

static void scepserver_enrolls_and_its_old_algorithms_are_noted(void **state)
{
	struct ca ca = serve("scep-server", "", "");
	struct record *result = enroll(&ca);

	(void)state;
	assert_enrolled(result);
	assert_string_equal(record_get(result, "note"), "the CA answers in DES-CBC and SHA-1");
	assert_string_equal(record_get(bench->checkpoint, "resume-phase"), "sent");
	record_free(result);
	stop(&ca);
}

static void a_ca_without_digitalsignature_is_taken_as_it_is_the_confirmed_one(void **state)
{
	struct ca ca = serve("scep-server", "CA=plain", "");
	struct record *result = enroll(&ca);

	(void)state;
	assert_enrolled(result);
	record_free(result);
	stop(&ca);
}

static void scepserver_renews_with_the_certificate_in_force(void **state)
{
	struct ca ca = serve("scep-server", "", "-challenge ''");
	struct record *first, *job, *renewed;
	const struct field *field;
	size_t index = 0;
	struct record *swap;

	(void)state;
	first = enroll(&ca);
	assert_enrolled(first);
	swap = bench->new_key;
	field = record_next(first, "certificate", &index);
	bench_end_worker(bench);
	bench->new_key = bench->current_key;
	bench->current_key = swap;
	bench_start_worker(bench);
	job = enroll_job(ca.url, ca.fetched);
	record_remove(job, "challenge-password");
	record_add_bytes(job, "certificate", field->value, field->length);
	renewed = bench_job(bench, job, NULL, 0);
	assert_enrolled(renewed);
	assert_string_equal(record_get(bench->checkpoint, "resume-type"), "17");
	record_free(first);
	record_free(renewed);
	stop(&ca);
}

static void scepserver_without_polling_gets_the_same_bytes_again(void **state)
{
	struct ca ca = serve("scep-server", "", "");
	struct record *first = enroll(&ca), *sent = record_copy(bench->checkpoint), *second;

	(void)state;
	assert_enrolled(first);
	second = resume(&ca, sent);
	assert_true(record_find(bench->checkpoint, "resume-message")->length ==
	                    record_find(sent, "resume-message")->length &&
	            memcmp(record_get(bench->checkpoint, "resume-message"),
	                   record_get(sent, "resume-message"),
	                   record_find(sent, "resume-message")->length) == 0);
	assert_non_null(record_get(second, "outcome"));
	assert_false(record_is(second, "outcome", "waiting"));
	record_free(first);
	record_free(second);
	record_free(sent);
	stop(&ca);
}

/* --- pending, lost and repeated --- */

static void pending_is_polled_in_the_same_transaction(void **state)
{
	struct ca ca = serve("scep-ca-server", "", "-c secret -w 2 -t 7");
	struct record *first = enroll(&ca), *second, *third;

	(void)state;
	assert_outcome(first, "waiting");
	assert_string_equal(record_get(first, "resume-phase"), "pending");
	assert_string_equal(record_get(first, "retry-after"), "7");
	second = resume(&ca, first);
	assert_outcome(second, "waiting");
	assert_string_equal(record_get(second, "resume-transaction-id"),
	                    record_get(first, "resume-transaction-id"));
	third = resume(&ca, second);
	assert_enrolled(third);
	assert_int_equal(log_count(&ca, "received PKCSReq"), 1);
	assert_int_equal(log_count(&ca, "received CertPoll"), 2);
	record_free(first);
	record_free(second);
	record_free(third);
	stop(&ca);
}

static void a_lost_answer_is_asked_for_and_the_challenge_not_sent_again(void **state)
{
	struct ca ca = serve("scep-ca-server", "", "-c secret -k 1");
	struct record *lost = enroll(&ca), *found;

	(void)state;
	assert_outcome(lost, "failed");
	assert_string_equal(record_get(lost, "resume-phase"), "sent");
	found = resume(&ca, lost);
	assert_enrolled(found);
	assert_int_equal(log_count(&ca, "received PKCSReq"), 1);
	assert_int_equal(log_count(&ca, "received CertPoll"), 1);
	record_free(lost);
	record_free(found);
	stop(&ca);
}

static void a_ca_that_forgot_gets_the_same_bytes_again(void **state)
{
	struct ca ca = serve("scep-ca-server", "", "-c secret -k 1 -f");
	struct record *lost = enroll(&ca), *found;

	(void)state;
	assert_outcome(lost, "failed");
	found = resume(&ca, lost);
	assert_enrolled(found);
	assert_int_equal(log_count(&ca, "received PKCSReq"), 2);
	record_free(lost);
	record_free(found);
	stop(&ca);
}

static void a_pending_request_that_the_ca_forgot_is_refused(void **state)
{
	struct ca ca = serve("scep-ca-server", "", "-w 9");
	struct record *pending = enroll(&ca), *gone;

	(void)state;
	assert_outcome(pending, "waiting");
	bench_stop(bench, ca.program, ca.name);
	start(&ca, "", "");
	gone = resume(&ca, pending);
	assert_outcome(gone, "refused");
	assert_reason(gone, "badCertId");
	record_free(pending);
	record_free(gone);
	stop(&ca);
}

static void a_server_that_is_away_gets_the_request_when_it_is_back(void **state)
{
	struct ca ca = serve("scep-ca-server", "", "-c secret");
	struct record *away, *back;

	(void)state;
	bench_stop(bench, ca.program, ca.name);
	away = enroll(&ca);
	assert_outcome(away, "failed");
	assert_reason(away, "cannot reach http://127.0.0.1");
	assert_reason(away, "Connection refused");
	assert_string_equal(record_get(away, "resume-phase"), "unsent");
	assert_null(record_get(away, "answered"));
	start(&ca, "", "-c secret");
	back = resume(&ca, away);
	assert_enrolled(back);
	assert_int_equal(log_count(&ca, "received CertPoll"), 0);
	record_free(away);
	record_free(back);
	stop(&ca);
}

static void a_challenge_that_serves_once_is_used_once(void **state)
{
	char options[128], path[96];
	struct record *lost, *found;
	struct ca ca;
	FILE *once;

	(void)state;
	snprintf(path, sizeof path, "%s/once", bench->folder);
	once = fopen(path, "we");
	assert_non_null(once);
	fputs("secret\n", once);
	fclose(once);
	snprintf(options, sizeof options, "-1 '%s' -k 1", path);
	ca = serve("scep-ca-server", "RA=two", options);
	lost = enroll(&ca);
	assert_outcome(lost, "failed");
	found = resume(&ca, lost);
	assert_enrolled(found);
	record_free(lost);
	record_free(found);
	stop(&ca);
}

/* --- RAs, algorithms, ways --- */

static void enrolls_through(const char *variables, const char *options)
{
	struct ca ca = serve("scep-ca-server", variables, options);
	struct record *result = enroll(&ca);

	assert_enrolled(result);
	record_free(result);
	stop(&ca);
}

static void an_ra_that_signs_and_decrypts_serves(void **state)
{
	(void)state;
	enrolls_through("RA=one", "-c secret");
}

static void an_ra_of_two_certificates_without_renewal_serves(void **state)
{
	(void)state;
	enrolls_through("RA=two", "-c secret -C 'POSTPKIOperation\\nSHA-1\\nSHA-256\\nAES\\n'");
}

static void a_ca_with_an_ec_key_serves_through_its_ra(void **state)
{
	(void)state;
	enrolls_through("CA=ec:P-256 RA=one", "-c secret");
}

static void without_post_the_message_goes_by_get(void **state)
{
	(void)state;
	enrolls_through("", "-c secret -C 'SHA-256\\nAES'");
}

static void without_capabilities_aes_and_sha_256_are_assumed(void **state)
{
	(void)state;
	enrolls_through("", "-c secret -C ''");
}

static void a_larger_digest_is_used_where_the_ca_has_it(void **state)
{
	(void)state;
	enrolls_through("", "-c secret -g sha512 -e aes-256-cbc");
}

static void below_aes_and_sha_256_nothing_leaves(void **state)
{
	struct ca ca =
		serve("scep-ca-server", "", "-c secret -C 'DES3\\nSHA-1\\nPOSTPKIOperation'");
	struct record *result = enroll(&ca);

	(void)state;
	assert_outcome(result, "refused");
	assert_reason(result, "the CA offers DES3, SHA-1; AES and SHA-256 are needed");
	assert_int_equal(log_count(&ca, "received"), 0);
	assert_int_equal(bench->checkpoints, 0);
	record_free(result);
	stop(&ca);
}

static void allow_legacy_goes_down_to_3des_and_no_further(void **state)
{
	struct ca ca = serve("scep-ca-server", "", "-c secret -C 'DES3\\nSHA-1'");
	struct record *job = enroll_job(ca.url, ca.fetched), *result;

	(void)state;
	record_add(job, "allow-legacy", "yes");
	result = bench_job(bench, job, NULL, 0);
	assert_enrolled(result);
	record_free(result);
	job = enroll_job(ca.url, ca.fetched);
	record_add(job, "allow-legacy", "yes");
	record_set(job, "capabilities", "DES MD5");
	result = bench_job(bench, job, NULL, 0);
	assert_outcome(result, "refused");
	record_free(result);
	stop(&ca);
}

static void renewal_without_the_capability_is_a_first_request(void **state)
{
	struct ca ca = serve("scep-ca-server", "", "-C 'POSTPKIOperation\\nAES\\nSHA-256'");
	struct record *first = enroll(&ca), *job, *renewed;
	const struct field *field = record_find(first, "certificate");

	(void)state;
	assert_enrolled(first);
	job = enroll_job(ca.url, ca.fetched);
	record_add_bytes(job, "certificate", field->value, field->length);
	renewed = bench_job(bench, job, NULL, 0);
	assert_enrolled(renewed);
	assert_int_equal(log_count(&ca, "received PKCSReq"), 2);
	record_free(first);
	record_free(renewed);
	stop(&ca);
}

static void an_ecdsa_key_is_refused_by_name(void **state)
{
	struct ca ca = serve("scep-ca-server", "", "");
	struct record *job = enroll_job(ca.url, ca.fetched), *result;
	struct record *key = keys_generate(&bench->keys, "ecdsa", 256, 3);

	(void)state;
	record_remove(job, "public");
	add_public(job, key);
	result = bench_job(bench, job, NULL, 0);
	assert_outcome(result, "refused");
	assert_string_equal(record_get(result, "reason"),
	                    "ECDSA Keypair not supported with SCEP for cert_id office");
	record_free(key);
	record_free(result);
	stop(&ca);
}

static void a_refusal_is_final_and_says_why(void **state)
{
	struct ca ca = serve("scep-ca-server", "", "-R 2 -T 'not on Sundays'");
	struct record *result = enroll(&ca);

	(void)state;
	assert_outcome(result, "refused");
	assert_reason(result, "badRequest");
	assert_reason(result, "not on Sundays");
	assert_string_equal(record_get(result, "answered"), "yes");
	record_free(result);
	stop(&ca);
}

static void a_wrong_challenge_is_refused(void **state)
{
	struct ca ca = serve("scep-server", "", "-challenge other");
	struct record *result = enroll(&ca);

	(void)state;
	assert_outcome(result, "refused");
	assert_reason(result, "badRequest");
	record_free(result);
	stop(&ca);
}

static void other_protocols_and_actions_are_refused_in_words(void **state)
{
	struct record *job = new_job("enroll", "http://127.0.0.1:1/"), *result;

	(void)state;
	record_set(job, "protocol", "ocsp");
	result = bench_job(bench, job, NULL, 0);
	assert_outcome(result, "refused");
	assert_reason(result, "protocol ocsp");
	record_free(result);
	result = bench_job(bench, new_job("dance", "http://127.0.0.1:1/"), NULL, 0);
	assert_outcome(result, "refused");
	assert_string_equal(record_get(result, "reason"), "action dance is none");
	record_free(result);
}

static void a_page_that_is_not_scep_is_named(void **state)
{
	struct record *result;
	struct ca ca = { .program = "scep-ca-server" };

	(void)state;
	start(&ca, "", "-a html");
	result = bench_job(bench, new_job("ca-certificate", ca.url), NULL, 0);
	assert_outcome(result, "failed");
	assert_reason(result, "HTML page");
	record_free(result);
	stop(&ca);
}

static void a_wrong_path_is_no_answer_of_the_ca(void **state)
{
	struct record *result;
	struct ca ca = serve("scep-server", "", "");
	char url[128];

	(void)state;
	snprintf(url, sizeof url, "http://127.0.0.1:%d/typo", bench_port);
	result = bench_job(bench, new_job("ca-certificate", url), NULL, 0);
	assert_outcome(result, "failed");
	assert_reason(result, "HTTP status 404");
	assert_null(record_get(result, "answered"));
	record_free(result);
	stop(&ca);
}

/* --- attacks --- */

static void attack_fails(const char *attack, const char *words)
{
	char options[64];
	struct record *result;
	struct ca ca;

	snprintf(options, sizeof options, "-c secret -a %s", attack);
	ca = serve("scep-ca-server", "", options);
	result = enroll(&ca);
	if (!record_is(result, "outcome", "failed"))
		fail_msg("%s: %s", attack, record_get(result, "outcome"));
	assert_reason(result, words);
	assert_null(record_find(result, "certificate"));
	record_free(result);
	stop(&ca);
}

static void forged_answers_fail_and_say_why(void **state)
{
	static const char *const attacks[][2] = {
		{ "unsigned", "signed by 0, not by one" },
		{ "rogue-signer", "neither by the confirmed CA" },
		{ "two-signers", "signed by 2, not by one" },
		{ "md5", "digest md5" },
		{ "nonce", "recipientNonce" },
		{ "transaction", "another transaction" },
		{ "no-nonce", "another transaction" },
		{ "empty", "carries nothing" },
		{ "trailing", "bytes stand behind" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(attacks); i++)
		attack_fails(attacks[i][0], attacks[i][1]);
}

static void bad_envelopes_fail_with_one_text(void **state)
{
	static const char *const attacks[] = { "wrong-key",      "wrong-recipient",
		                               "two-recipients", "auth-enveloped",
		                               "password",       "key-agree" };

	(void)state;
	for (size_t i = 0; i < COUNT(attacks); i++)
		attack_fails(attacks[i], "the answer cannot be decrypted");
}

static void a_crl_in_place_of_a_certificate_fails(void **state)
{
	(void)state;
	attack_fails("crl-only", "holds no certificate");
}

static void an_old_success_does_not_answer_a_new_request(void **state)
{
	struct ca ca = serve("scep-ca-server", "", "-c secret -a replay");
	struct record *first = enroll(&ca), *second;

	(void)state;
	assert_enrolled(first);
	second = enroll(&ca);
	assert_outcome(second, "failed");
	assert_reason(second, "another transaction");
	record_free(first);
	record_free(second);
	stop(&ca);
}

static void fifty_extra_certificates_come_along_for_the_store_to_judge(void **state)
{
	(void)state;
	enrolls_through("", "-c secret -a extra");
}

/* --- CRLs --- */

static struct record *crl_job(const struct ca *ca, const int fds[3], const char *url)
{
	struct record *job = enroll_job(ca->url, ca->fetched);

	record_set(job, "action", "crl");
	if (url)
		record_add(job, "crl-url", url);
	return bench_job(bench, job, fds, 3);
}

/* What is left of a CRL without its entries has its number. */
static void check_stub(const struct field *stub)
{
	const unsigned char *at = stub ? (const unsigned char *)stub->value : NULL;
	X509_CRL *crl = at ? d2i_X509_CRL(NULL, &at, (long)stub->length) : NULL;

	assert_non_null(crl);
	assert_true(X509_CRL_get_ext_by_NID(crl, NID_crl_number, -1) >= 0);
	assert_null(X509_CRL_get_REVOKED(crl));
	X509_CRL_free(crl);
}

static void revoke_serial(const struct ca *ca, const char *serial)
{
	char path[192];
	FILE *list;

	snprintf(path, sizeof path, "%s/%s/revoked", bench->folder, ca->name);
	list = fopen(path, "ae");
	assert_non_null(list);
	fprintf(list, "%s\n", serial);
	fclose(list);
}

static void check_crl(const struct ca *ca, const char *url)
{
	const int fds[] = { memfd_create("body", 0), memfd_create("index", 0),
		            memfd_create("scratch", 0) };
	struct record *result = crl_job(ca, fds, url);
	struct crl_entry entries[2];

	assert_outcome(result, "done");
	assert_string_equal(record_get(result, "crl-entries"), "2");
	check_stub(record_find(result, "stub"));
	assert_int_equal(lseek(fds[0], 0, SEEK_END), record_number(result, "size", -1));
	assert_int_equal(pread(fds[1], entries, sizeof entries, 0), sizeof entries);
	assert_int_equal(entries[0].length, 1);
	assert_int_equal(entries[0].serial[CRL_SERIAL_MAX - 1], 7);
	assert_int_equal(entries[1].length, 2);
	record_free(result);
	for (size_t i = 0; i < COUNT(fds); i++)
		close(fds[i]);
}

static void crls_come_by_getcrl_and_by_url(void **state)
{
	struct ca ca = serve("scep-ca-server", "RA=one", "");
	char url[128];

	(void)state;
	revoke_serial(&ca, "1234");
	revoke_serial(&ca, "07");
	check_crl(&ca, NULL);
	snprintf(url, sizeof url, "http://127.0.0.1:%d/crl", bench_port);
	check_crl(&ca, url);
	stop(&ca);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(scepserver_enrolls_and_its_old_algorithms_are_noted),
		TEST(a_ca_without_digitalsignature_is_taken_as_it_is_the_confirmed_one),
		TEST(scepserver_renews_with_the_certificate_in_force),
		TEST(scepserver_without_polling_gets_the_same_bytes_again),
		TEST(pending_is_polled_in_the_same_transaction),
		TEST(a_lost_answer_is_asked_for_and_the_challenge_not_sent_again),
		TEST(a_ca_that_forgot_gets_the_same_bytes_again),
		TEST(a_pending_request_that_the_ca_forgot_is_refused),
		TEST(a_server_that_is_away_gets_the_request_when_it_is_back),
		TEST(a_challenge_that_serves_once_is_used_once),
		TEST(an_ra_that_signs_and_decrypts_serves),
		TEST(an_ra_of_two_certificates_without_renewal_serves),
		TEST(a_ca_with_an_ec_key_serves_through_its_ra),
		TEST(without_post_the_message_goes_by_get),
		TEST(without_capabilities_aes_and_sha_256_are_assumed),
		TEST(a_larger_digest_is_used_where_the_ca_has_it),
		TEST(below_aes_and_sha_256_nothing_leaves),
		TEST(allow_legacy_goes_down_to_3des_and_no_further),
		TEST(renewal_without_the_capability_is_a_first_request),
		TEST(an_ecdsa_key_is_refused_by_name),
		TEST(a_refusal_is_final_and_says_why),
		TEST(a_wrong_challenge_is_refused),
		TEST(other_protocols_and_actions_are_refused_in_words),
		TEST(a_page_that_is_not_scep_is_named),
		TEST(a_wrong_path_is_no_answer_of_the_ca),
		TEST(forged_answers_fail_and_say_why),
		TEST(bad_envelopes_fail_with_one_text),
		TEST(a_crl_in_place_of_a_certificate_fails),
		TEST(an_old_success_does_not_answer_a_new_request),
		TEST(fifty_extra_certificates_come_along_for_the_store_to_judge),
		TEST(crls_come_by_getcrl_and_by_url),
	};

	return cmocka_run_group_tests(tests, open_bench, close_bench);
}
