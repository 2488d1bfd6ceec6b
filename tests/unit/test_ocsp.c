/* What an OCSP answer is worth (common/ocsp.c). */
#include "common/ocsp.h"

#include "common/x509.h"

#include <errno.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define NOW  1800000000
#define HOUR 3600
#define DAY  86400

static EVP_PKEY *ca_key, *responder_key, *other_key;
static X509 *ca, *other_ca, *leaf, *sibling;
static unsigned char nonce[OCSP_NONCE_SIZE] = "the nonce that was sent, 32 byte";

struct spec {
	const char *name;
	X509 *issuer;         /* NULL: self-signed */
	EVP_PKEY *issuer_key; /* and who signs */
	EVP_PKEY *key;
	const char *purposes;
	int from, to; /* days from NOW; both 0: -10, 365 */
};

static void add(X509 *certificate, X509 *issuer, int nid, const char *value)
{
	X509_EXTENSION *extension;
	X509V3_CTX context;

	X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	assert_non_null(extension);
	X509_add_ext(certificate, extension, -1);
	X509_EXTENSION_free(extension);
}

static X509 *make(struct spec spec)
{
	static long serial = 1000;
	X509 *certificate = X509_new(), *issuer = spec.issuer ? spec.issuer : certificate;
	X509_NAME *name = NULL;

	assert_int_equal(dn_parse(spec.name, NULL, &name, NULL), 0);
	X509_set_version(certificate, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++);
	ASN1_TIME_adj(X509_getm_notBefore(certificate), NOW, spec.from ? spec.from : -10, 0);
	ASN1_TIME_adj(X509_getm_notAfter(certificate), NOW, spec.to ? spec.to : 365, 0);
	X509_set_subject_name(certificate, name);
	X509_set_issuer_name(certificate, X509_get_subject_name(issuer));
	X509_set_pubkey(certificate, spec.key);
	if (!spec.issuer)
		add(certificate, issuer, NID_basic_constraints, "critical,CA:TRUE");
	if (spec.purposes)
		add(certificate, issuer, NID_ext_key_usage, spec.purposes);
	assert_true(X509_sign(certificate, spec.issuer_key, EVP_sha256()) > 0);
	X509_NAME_free(name);
	return certificate;
}

static int set_up(void **state)
{
	(void)state;
	ca_key = EVP_EC_gen("P-256");
	responder_key = EVP_EC_gen("P-256");
	other_key = EVP_EC_gen("P-256");
	ca = make((struct spec){ "CN=CA", NULL, ca_key, ca_key, NULL, 0, 0 });
	other_ca = make((struct spec){ "CN=CA", NULL, other_key, other_key, NULL, 0, 0 });
	leaf = make((struct spec){ "CN=leaf", ca, ca_key, responder_key, NULL, 0, 0 });
	sibling = make((struct spec){ "CN=sibling", ca, ca_key, responder_key, NULL, 0, 0 });
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	X509_free(ca);
	X509_free(other_ca);
	X509_free(leaf);
	X509_free(sibling);
	EVP_PKEY_free(ca_key);
	EVP_PKEY_free(responder_key);
	EVP_PKEY_free(other_key);
	return 0;
}

/* --- answers --- */

/* The usual: the CA says that the leaf is good, from an hour ago on, for a day. */
struct answer {
	X509 *signer;  /* NULL: the CA */
	EVP_PKEY *key; /* NULL: the CA's */
	X509 *about;   /* NULL: the leaf */
	X509 *issuer;  /* NULL: the CA */
	int status;
	long from, to;        /* seconds from NOW; TO 0: no nextUpdate; both 0: the usual */
	unsigned char *nonce; /* NULL: none */
	const EVP_MD *digest;
	const char *critical; /* an extension that nobody knows */
	bool without_signer, broken, also_revoked;
};

static void add_status(OCSP_BASICRESP *basic, const struct answer *answer, int status)
{
	X509 *about = answer->about ? answer->about : leaf;
	OCSP_CERTID *id = OCSP_cert_to_id(EVP_sha1(), about, answer->issuer ? answer->issuer : ca);
	bool usual = !answer->from && !answer->to;
	ASN1_TIME *revoked = ASN1_TIME_set(NULL, NOW - 2 * HOUR);
	ASN1_TIME *from = ASN1_TIME_set(NULL, NOW + (usual ? -HOUR : answer->from));
	ASN1_TIME *to = ASN1_TIME_set(NULL, NOW + (usual ? DAY : answer->to));

	assert_non_null(OCSP_basic_add1_status(basic, id, status, OCSP_REVOKED_STATUS_KEYCOMPROMISE,
	                                       status == V_OCSP_CERTSTATUS_REVOKED ? revoked : NULL,
	                                       from, usual || answer->to ? to : NULL));
	OCSP_CERTID_free(id);
	ASN1_TIME_free(revoked);
	ASN1_TIME_free(from);
	ASN1_TIME_free(to);
}

static void add_extensions(OCSP_BASICRESP *basic, const struct answer *answer)
{
	ASN1_OBJECT *object = answer->critical ? OBJ_txt2obj(answer->critical, 1) : NULL;
	ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
	X509_EXTENSION *extension;

	if (answer->nonce)
		OCSP_basic_add1_nonce(basic, answer->nonce, OCSP_NONCE_SIZE);
	if (object) {
		ASN1_OCTET_STRING_set(value, (const unsigned char *)"\x05\x00", 2);
		extension = X509_EXTENSION_create_by_OBJ(NULL, object, 1, value);
		OCSP_BASICRESP_add_ext(basic, extension, -1);
		X509_EXTENSION_free(extension);
	}
	ASN1_OBJECT_free(object);
	ASN1_OCTET_STRING_free(value);
}

static unsigned char *compose(const struct answer *answer, size_t *length)
{
	OCSP_BASICRESP *basic = OCSP_BASICRESP_new();
	OCSP_RESPONSE *response;
	unsigned char *der = NULL;

	add_status(basic, answer, answer->status);
	if (answer->also_revoked)
		add_status(basic, answer, V_OCSP_CERTSTATUS_REVOKED);
	add_extensions(basic, answer);
	assert_true(OCSP_basic_sign(basic, answer->signer ? answer->signer : ca,
	                            answer->key ? answer->key : ca_key,
	                            answer->digest ? answer->digest : EVP_sha256(), NULL,
	                            answer->without_signer ? OCSP_NOCERTS : 0));
	response = OCSP_response_create(OCSP_RESPONSE_STATUS_SUCCESSFUL, basic);
	*length = (size_t)i2d_OCSP_RESPONSE(response, &der);
	if (answer->broken) { /* the last byte of the status' times */
		unsigned char *at = memmem(der, *length, "Z", 1);

		at[-1] = at[-1] == '9' ? '8' : at[-1] + 1;
	}
	OCSP_RESPONSE_free(response);
	OCSP_BASICRESP_free(basic);
	return der;
}

static int judge_with(struct answer answer, struct ocsp_question question,
                      struct ocsp_answer *judged, struct error *err)
{
	size_t length;
	unsigned char *der = compose(&answer, &length), *copy = OPENSSL_memdup(der, length);
	int r = ocsp_judge(&question, copy, length, judged, err);

	OPENSSL_free(der);
	OPENSSL_free(copy);
	return r;
}

static struct ocsp_question usual_question(void)
{
	return (struct ocsp_question){
		.certificate = leaf, .issuer = ca, .now = NOW, .clock_trusted = true
	};
}

static int judge(struct answer answer, struct ocsp_answer *judged, struct error *err)
{
	return judge_with(answer, usual_question(), judged, err);
}

static void is_refused(struct answer answer, const char *words)
{
	struct ocsp_answer judged;
	struct error err = { 0 };

	assert_int_equal(judge(answer, &judged, &err), -EBADMSG);
	if (!strstr(err.text, words))
		fail_msg("\"%s\" does not say \"%s\"", err.text, words);
}

static void good_counts_until_next_update(void **state)
{
	struct ocsp_answer judged;

	(void)state;
	assert_int_equal(judge((struct answer){ 0 }, &judged, NULL), 0);
	assert_int_equal(judged.status, V_OCSP_CERTSTATUS_GOOD);
	assert_int_equal(judged.this_update, NOW - HOUR);
	assert_int_equal(judged.until, NOW + DAY);
}

static void revoked_has_time_and_reason(void **state)
{
	struct ocsp_answer judged;

	(void)state;
	assert_int_equal(
		judge((struct answer){ .status = V_OCSP_CERTSTATUS_REVOKED }, &judged, NULL), 0);
	assert_int_equal(judged.status, V_OCSP_CERTSTATUS_REVOKED);
	assert_int_equal(judged.reason, OCSP_REVOKED_STATUS_KEYCOMPROMISE);
	assert_int_equal(judged.revoked_at, NOW - 2 * HOUR);
	assert_int_equal(judge((struct answer){ .also_revoked = true }, &judged, NULL), 0);
	assert_int_equal(judged.status, V_OCSP_CERTSTATUS_REVOKED);
}

static void without_next_update_it_counts_an_hour(void **state)
{
	struct ocsp_answer judged;

	(void)state;
	assert_int_equal(judge((struct answer){ .from = -60 }, &judged, NULL), 0);
	assert_int_equal(judged.until, NOW - 60 + HOUR);
	is_refused((struct answer){ .from = -HOUR - 1 }, "too old");
}

static void a_delegate_of_the_issuer_may_sign(void **state)
{
	X509 *delegate = make(
		(struct spec){ "CN=responder", ca, ca_key, responder_key, "OCSPSigning", 0, 0 });
	struct ocsp_answer judged;

	(void)state;
	assert_int_equal(
		judge((struct answer){ .signer = delegate, .key = responder_key }, &judged, NULL),
		0);
	is_refused(
		(struct answer){ .signer = delegate, .key = responder_key, .without_signer = true },
		"signer's certificate");
	X509_free(delegate);
}

/* An expired delegate, one without OCSPSigning, a sibling CA, another CA's delegate. */
static void attack_40_unauthorised_responders(void **state)
{
	X509 *late =
		make((struct spec){ "CN=late", ca, ca_key, responder_key, "OCSPSigning", -20, -1 });
	X509 *server =
		make((struct spec){ "CN=server", ca, ca_key, responder_key, "serverAuth", 0, 0 });
	X509 *plain = make((struct spec){ "CN=plain", ca, ca_key, responder_key, NULL, 0, 0 });
	X509 *others = make((struct spec){ "CN=others", other_ca, other_key, responder_key,
	                                   "OCSPSigning", 0, 0 });
	struct answer delegated = { .signer = late, .key = responder_key };

	(void)state;
	is_refused(delegated, "expired");
	delegated.signer = server;
	is_refused(delegated, "not signed by");
	delegated.signer = plain;
	is_refused(delegated, "not signed by");
	delegated.signer = others;
	is_refused(delegated, "not signed by");
	is_refused((struct answer){ .signer = other_ca, .key = other_key }, "not signed by");
	is_refused((struct answer){ .broken = true }, "not signed by");
	X509_free(late);
	X509_free(server);
	X509_free(plain);
	X509_free(others);
}

/* Another serial, another issuer's, no or another nonce, a week old, tryLater, `unknown`. */
static void attack_41_answers_to_other_questions(void **state)
{
	struct ocsp_question question = usual_question();
	unsigned char other[OCSP_NONCE_SIZE] = "another one";
	OCSP_RESPONSE *later = OCSP_response_create(OCSP_RESPONSE_STATUS_TRYLATER, NULL);
	struct ocsp_answer judged;
	struct error err = { 0 };
	unsigned char *der = NULL;
	int length = i2d_OCSP_RESPONSE(later, &der);

	(void)state;
	is_refused((struct answer){ .about = sibling }, "another certificate");
	is_refused((struct answer){ .issuer = other_ca }, "not signed by");
	is_refused((struct answer){ .from = -7 * DAY, .to = -DAY }, "too old");
	is_refused((struct answer){ .from = HOUR, .to = DAY }, "to come");
	is_refused((struct answer){ .from = DAY, .to = -DAY }, "times");
	is_refused((struct answer){ .status = V_OCSP_CERTSTATUS_UNKNOWN }, "does not know");
	assert_int_equal(ocsp_judge(&question, der, (size_t)length, &judged, &err), -EAGAIN);
	assert_non_null(strstr(err.text, "trylater"));
	question.nonce = nonce;
	assert_int_equal(judge_with((struct answer){ .nonce = nonce }, question, &judged, &err), 0);
	assert_int_equal(judge_with((struct answer){ 0 }, question, &judged, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "no nonce"));
	assert_int_equal(judge_with((struct answer){ .nonce = other }, question, &judged, &err),
	                 -EBADMSG);
	assert_non_null(strstr(err.text, "another nonce"));
	OPENSSL_free(der);
	OCSP_RESPONSE_free(later);
}

static void a_weak_signature_needs_legacy(void **state)
{
	struct ocsp_question question = usual_question();
	struct ocsp_answer judged;

	(void)state;
	is_refused((struct answer){ .digest = EVP_sha1() }, "allow-legacy");
	question.allow_legacy = true;
	assert_int_equal(
		judge_with((struct answer){ .digest = EVP_sha1() }, question, &judged, NULL), 0);
}

static void an_unknown_critical_extension_is_refused(void **state)
{
	(void)state;
	is_refused((struct answer){ .critical = "1.3.6.1.4.1.55555.1" }, "critical");
}

static void an_untrusted_clock_judges_no_time(void **state)
{
	struct ocsp_question question = usual_question();
	struct ocsp_answer judged;

	(void)state;
	question.clock_trusted = false;
	question.now = 0;
	assert_int_equal(judge_with((struct answer){ 0 }, question, &judged, NULL), 0);
}

static void what_is_no_answer_is_refused(void **state)
{
	struct ocsp_question question = usual_question();
	struct answer answer = { 0 };
	struct ocsp_answer judged;
	size_t length;
	unsigned char *der = compose(&answer, &length);

	(void)state;
	for (size_t cut = 0; cut < length; cut += 7) {
		unsigned char *part = OPENSSL_memdup(der, cut ? cut : 1);

		assert_int_equal(ocsp_judge(&question, part, cut, &judged, NULL), -EBADMSG);
		OPENSSL_free(part);
	}
	der = OPENSSL_realloc(der, OCSP_ANSWER_MAX + 1);
	assert_int_equal(ocsp_judge(&question, der, length + 1, &judged, NULL), -EBADMSG);
	assert_int_equal(ocsp_judge(&question, der, OCSP_ANSWER_MAX + 1, &judged, NULL), -EBADMSG);
	OPENSSL_free(der);
}

static void the_request_names_the_certificate(void **state)
{
	struct ocsp_question question = usual_question();
	OCSP_CERTID *id = OCSP_cert_to_id(EVP_sha1(), leaf, ca);
	OCSP_REQUEST *request;
	const unsigned char *at;
	unsigned char *der = NULL;
	size_t length;

	(void)state;
	question.nonce = nonce;
	assert_int_equal(ocsp_compose(&question, &der, &length, NULL), 0);
	at = der;
	request = d2i_OCSP_REQUEST(NULL, &at, (long)length);
	assert_non_null(request);
	assert_int_equal(OCSP_request_onereq_count(request), 1);
	assert_int_equal(OCSP_id_cmp(id, OCSP_onereq_get0_id(OCSP_request_onereq_get0(request, 0))),
	                 0);
	assert_true(OCSP_REQUEST_get_ext_by_NID(request, NID_id_pkix_OCSP_Nonce, -1) >= 0);
	OCSP_REQUEST_free(request);
	OCSP_CERTID_free(id);
	OPENSSL_free(der);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_counts_until_next_update),
		cmocka_unit_test(revoked_has_time_and_reason),
		cmocka_unit_test(without_next_update_it_counts_an_hour),
		cmocka_unit_test(a_delegate_of_the_issuer_may_sign),
		cmocka_unit_test(attack_40_unauthorised_responders),
		cmocka_unit_test(attack_41_answers_to_other_questions),
		cmocka_unit_test(a_weak_signature_needs_legacy),
		cmocka_unit_test(an_unknown_critical_extension_is_refused),
		cmocka_unit_test(an_untrusted_clock_judges_no_time),
		cmocka_unit_test(what_is_no_answer_is_refused),
		cmocka_unit_test(the_request_names_the_certificate),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
