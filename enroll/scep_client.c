#include "enroll/scep_client.h"

#include "common/x509.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

/* --- the job's settings --- */

static int read_ras(const struct record *settings, struct authority *authority, struct error *err)
{
	const struct field *field;
	size_t index = 0;

	authority->ras = sk_X509_new_null();
	while ((field = record_next(settings, "ra", &index))) {
		X509 *ra = field_certificate(field, "RA certificate", err);

		if (!ra)
			return -EINVAL;
		if (!scep_is_ra_of(ra, authority->ca)) {
			X509_free(ra);
			return error_set(err, -EINVAL, "an RA certificate is not signed by the CA");
		}
		if (!authority->ras || !sk_X509_push(authority->ras, ra)) {
			X509_free(ra);
			return error_set(err, -ENOMEM, "no memory");
		}
	}
	return 0;
}

void authority_clear(struct authority *authority)
{
	X509_free(authority->ca);
	sk_X509_pop_free(authority->ras, X509_free);
	sk_X509_pop_free(authority->signers, X509_free);
}

int authority_read(const struct record *settings, struct authority *authority, struct error *err)
{
	const struct field *words = record_find(settings, "capabilities");
	int r;

	authority->url = record_get(settings, "enrollment-url");
	if (!authority->url)
		return error_set(err, -EINVAL, "no enrollment-url");
	authority->ca = field_certificate(record_find(settings, "ca"), "CA certificate", err);
	if (!authority->ca)
		return -EINVAL;
	r = read_ras(settings, authority, err);
	if (r < 0)
		return r;
	authority->recipient = scep_recipient(authority->ca, authority->ras, err);
	if (!authority->recipient)
		return -EINVAL;
	authority->signers = scep_signers(authority->ca, authority->ras);
	if (!authority->signers)
		return error_set(err, -ENOMEM, "no memory");
	if (words)
		authority->capabilities = scep_capabilities(words->value, words->length);
	return scep_choose(authority->capabilities, record_get(settings, "digest"),
	                   record_is(settings, "allow-legacy", "yes"), &authority->algorithms, err);
}

/* --- talking --- */

/* URL?operation=OPERATION, and message=MESSAGE where it is not NULL. */
static char *operation_url(const char *url, const char *operation, const char *message)
{
	char *first = http_url_add(url, "operation", operation);
	char *second = first ? http_url_add(first, "message", message) : NULL;

	free(first);
	return second;
}

static int get(struct job *job, const char *operation, struct http_answer *answer,
               struct error *err)
{
	const char *base = record_get(job->settings, "enrollment-url");
	char *url = base ? operation_url(base, operation, record_get(job->settings, "ca-identity"))
	                 : NULL;
	struct http_request request = { .url = url };
	int r;

	if (!url)
		return error_set(err, -EINVAL, "enrollment-url is no URL: %.200s",
		                 base ? base : "");
	r = http_do(job->worker->http, &request, answer, err);
	job_note_answer(job, answer);
	free(url);
	return r;
}

static char *base64(const unsigned char *bytes, size_t length)
{
	unsigned char *text = malloc(4 * ((length + 2) / 3) + 1);

	if (text)
		EVP_EncodeBlock(text, bytes, (int)length);
	return (char *)text;
}

/* Sends the message by POST, or by GET to a CA that does not offer POST. */
static int send_message(struct job *job, const struct authority *authority,
                        const unsigned char *message, size_t length, struct http_answer *answer,
                        struct error *err)
{
	struct http_request request = { .type = "application/x-pki-message" };
	char *text = NULL, *url;
	int r;

	if (authority->capabilities & SCEP_POST) {
		request.body = message;
		request.length = length;
	} else {
		text = base64(message, length);
		if (!text)
			return error_set(err, -ENOMEM, "no memory");
	}
	url = operation_url(authority->url, "PKIOperation", text);
	free(text);
	if (!url)
		return error_set(err, -EINVAL, "enrollment-url is no URL: %.200s", authority->url);
	request.url = url;
	request.own_connection = record_find(job->settings, "challenge-password") != NULL;
	r = http_do(job->worker->http, &request, answer, err);
	job_note_answer(job, answer);
	free(url);
	return r;
}

static void note_once(struct record *result, const char *text)
{
	const struct field *field;
	size_t index = 0;

	while ((field = record_next(result, "note", &index)))
		if (strcmp(field->value, text) == 0)
			return;
	record_add(result, "note", text);
}

/* What status should say of the CA: that its answers are as old as these. */
static void note_legacy(struct record *result, int cipher, int digest)
{
	bool old_cipher = cipher == NID_des_cbc || cipher == NID_des_ede3_cbc;
	bool old_digest = digest == NID_sha1;
	char text[128];

	if (!old_cipher && !old_digest)
		return;
	snprintf(text, sizeof text, "the CA answers in %s%s%s",
	         old_cipher ? OBJ_nid2sn(cipher) : "", old_cipher && old_digest ? " and " : "",
	         old_digest ? "SHA-1" : "");
	note_once(result, text);
}

/* Opens the envelope of a SUCCESS. The caller owns *CONTENT (OPENSSL_free). */
int scep_open_answer(struct job *job, const struct scep_answer *answer, X509 *signer, EVP_PKEY *key,
                     unsigned char **content, size_t *length, struct error *err)
{
	int cipher = NID_undef;
	int r = scep_envelope_open(answer->envelope, answer->length, job->worker->legacy, signer,
	                           key, content, length, &cipher, err);

	if (r == 0)
		note_legacy(job->result, cipher, answer->digest);
	return r;
}

int scep_refused(const struct scep_answer *answer, const char *what, struct error *err)
{
	return error_set(err, -EACCES, "the CA refuses the %s: %s%s%s", what,
	                 scep_fail_text(answer->fail), *answer->fail_text ? ": " : "",
	                 answer->fail_text);
}

/* --- GetCACaps, GetCACert --- */

/* The printable words of BODY, a blank between them, as the result keeps them. */
static void add_capabilities(struct record *result, const struct http_answer *answer)
{
	char text[1024];
	size_t used = 0;

	for (size_t i = 0; i < answer->length && used < sizeof text - 1; i++) {
		unsigned char c = answer->body[i];

		if (c > ' ' && c < 0x7f)
			text[used++] = (char)c;
		else if (used && text[used - 1] != ' ')
			text[used++] = ' ';
	}
	while (used && text[used - 1] == ' ')
		used--;
	text[used] = '\0';
	if (!scep_capabilities(text, used))
		*text = '\0'; /* an error page, or nothing that we know */
	record_add(result, "capabilities", text);
}

static int add_ders(struct record *result, const char *key, STACK_OF(X509) * certificates)
{
	for (int i = 0; i < sk_X509_num(certificates); i++) {
		unsigned char *der = NULL;
		int size = i2d_X509(sk_X509_value(certificates, i), &der);

		if (size <= 0)
			return -ENOMEM;
		record_add_bytes(result, key, der, (size_t)size);
		OPENSSL_free(der);
	}
	return 0;
}

int scep_ca_certificate(struct job *job, struct error *err)
{
	struct http_answer answer = { 0 };
	STACK_OF(X509) *certificates = NULL;
	int r;

	r = get(job, "GetCACaps", &answer, err);
	if (r < 0 && r != -EREMOTEIO) /* a CA without GetCACaps is still one */
		goto out;
	if (r < 0) {
		http_answer_clear(&answer);
		answer.length = 0;
	}
	add_capabilities(job->result, &answer);
	http_answer_clear(&answer);
	r = get(job, "GetCACert", &answer, err);
	if (r == 0)
		r = scep_ca_certificates(answer.body, answer.length, &certificates, err);
	if (r == 0)
		r = add_ders(job->result, "certificate", certificates);
	if (r == 0)
		record_set(job->result, "answered", "yes");
out:
	http_answer_clear(&answer);
	sk_X509_pop_free(certificates, X509_free);
	return r;
}

/* --- GetNextCACert --- */

/* A status of the server itself; others are for later, or of somebody between. */
static bool is_server_error(long status)
{
	return status == 500 || status == 501 ||
	       (status / 100 == 4 && status != 408 && status != 429);
}

static int ask_offers_next(struct job *job, struct error *err)
{
	struct http_answer answer = { 0 };
	int r = get(job, "GetCACaps", &answer, err);

	if (r == 0 && !(scep_capabilities((const char *)answer.body, answer.length) & SCEP_NEXT_CA))
		r = error_set(err, -EACCES,
		              "the CA does not offer to tell its next certificate (GetNextCACert)");
	http_answer_clear(&answer);
	return r;
}

static int take_next(struct job *job, const struct http_answer *answer, struct error *err)
{
	const struct field *ca = record_find(job->settings, "ca");
	X509 *signer = field_certificate(ca, "CA certificate", err);
	STACK_OF(X509) *certificates = NULL;
	unsigned char *content = NULL;
	size_t length;
	int r = -EINVAL;

	if (signer)
		r = scep_next_ca_open(answer->body, answer->length, signer,
		                      record_is(job->settings, "allow-legacy", "yes"),
		                      job->worker->legacy, &content, &length, err);
	if (r == 0)
		r = scep_content_read(content, length, &certificates, NULL, NULL, err);
	if (r == 0)
		r = add_ders(job->result, "next", certificates);
	if (r == 0) {
		record_add(job->result, "next-announced", "yes");
		record_add_bytes(job->result, "next-answer", answer->body, answer->length);
	}
	X509_free(signer);
	OPENSSL_free(content);
	sk_X509_pop_free(certificates, X509_free);
	return r == -EBADMSG ? -EACCES : r; /* it will say the same again */
}

int scep_next_ca(struct job *job, struct error *err)
{
	struct http_answer answer = { 0 };
	int r = ask_offers_next(job, err);

	if (r == 0)
		r = get(job, "GetNextCACert", &answer, err);
	if (r == -EREMOTEIO && is_server_error(answer.status))
		r = error_set(err, -EACCES, "the CA has no next certificate yet (HTTP status %ld)",
		              answer.status);
	if (r == 0)
		r = take_next(job, &answer, err);
	http_answer_clear(&answer);
	return r;
}

/* --- a CA that rolls over --- */

/* CERTIFICATE is one of those that the CA had before, and has not ended. */
static bool is_former(const struct record *settings, X509 *certificate)
{
	long long now = record_number(settings, "now", 0);
	const struct field *field;
	size_t index = 0;
	bool found = false;

	while (!found && (field = record_next(settings, "former", &index))) {
		X509 *former = field_certificate(field, "former CA certificate", NULL);

		found = former && X509_cmp(former, certificate) == 0 &&
		        asn1_time_seconds(X509_get0_notAfter(former)) >= now;
		X509_free(former);
	}
	return found;
}

/* The CA is the first of CERTIFICATES, which has these RAs. */
static int authority_become(struct authority *authority, STACK_OF(X509) * certificates,
                            struct error *err)
{
	authority_clear(authority);
	authority->ca = X509_dup(sk_X509_value(certificates, 0));
	authority->ras = sk_X509_new_null();
	authority->signers = NULL;
	for (int i = 1; authority->ca && authority->ras && i < sk_X509_num(certificates); i++) {
		X509 *ra = sk_X509_value(certificates, i);

		if (scep_is_ra_of(ra, authority->ca) &&
		    !X509_add_cert(authority->ras, ra, X509_ADD_FLAG_UP_REF))
			return error_set(err, -ENOMEM, "no memory");
	}
	if (authority->ca && authority->ras)
		authority->signers = scep_signers(authority->ca, authority->ras);
	if (!authority->signers)
		return error_set(err, -ENOMEM, "no memory");
	authority->recipient = scep_recipient(authority->ca, authority->ras, err);
	return authority->recipient ? 0 : -EINVAL;
}

int authority_follow(struct job *job, struct authority *authority, struct error *err)
{
	STACK_OF(X509) *certificates = NULL;
	struct http_answer answer = { 0 };
	struct error ignored = { 0 };
	int r = 0;

	if (!record_find(job->settings, "former"))
		return 0;
	if (get(job, "GetCACert", &answer, &ignored) == 0 &&
	    scep_ca_certificates(answer.body, answer.length, &certificates, &ignored) == 0 &&
	    is_former(job->settings, sk_X509_value(certificates, 0)))
		r = authority_become(authority, certificates, err);
	http_answer_clear(&answer);
	sk_X509_pop_free(certificates, X509_free);
	return r;
}

/* --- one message --- */

enum reply scep_exchange(struct job *job, const struct authority *authority,
                         const struct scep_expectation *expectation, const unsigned char *message,
                         size_t length, struct scep_answer *answer, int *code, struct error *err)
{
	struct http_answer http = { 0 };
	enum reply reply = REPLY_INVALID;

	*answer = (struct scep_answer){ .fail = -1 };
	*code = send_message(job, authority, message, length, &http, err);
	if (*code < 0 && http.status == 0) {
		reply = http.sent ? REPLY_LOST : REPLY_UNSENT;
	} else if (*code == -EREMOTEIO && is_server_error(http.status)) {
		reply = REPLY_ERROR;
	} else if (*code == 0) {
		*code = scep_answer_read(http.body, http.length, expectation, answer, err);
		if (*code == 0) {
			reply = REPLY_VALID;
			record_set(job->result, "answered", "yes");
		}
	}
	http_answer_clear(&http);
	return reply;
}
