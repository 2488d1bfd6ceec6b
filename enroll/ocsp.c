#include "enroll/ocsp.h"

#include "common/ocsp.h"
#include "common/x509.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_SECONDS 15
#define GET_MAX        255 /* bytes of the whole URL (RFC 5019 §5) */

/* The URL of a GET: base64 of the request, escaped, behind URL; NULL: too long, or no memory. */
static char *get_url(const char *url, const unsigned char *der, size_t length)
{
	char base64[GET_MAX + 3], *text = NULL, *to;
	size_t size = strlen(url);

	if (strchr(url, '?') || size + 1 + (length + 2) / 3 * 4 > GET_MAX)
		return NULL;
	EVP_EncodeBlock((unsigned char *)base64, der, (int)length);
	text = malloc(size + 1 + 3 * strlen(base64) + 1);
	if (!text)
		return NULL;
	memcpy(text, url, size);
	to = text + size;
	if (!size || to[-1] != '/')
		*to++ = '/';
	for (const char *from = base64; *from; from++)
		if (*from == '+' || *from == '/' || *from == '=')
			to += sprintf(to, "%%%02X", (unsigned char)*from);
		else
			*to++ = *from;
	*to = 0;
	return text;
}

/* The request by GET, which caches along the way answer as well, else by POST. */
static int exchange(struct job *job, const char *url, const struct ocsp_question *question,
                    const unsigned char *der, size_t length, struct http_answer *answer,
                    struct error *err)
{
	struct http_request post = { .url = url,
		                     .body = der,
		                     .length = length,
		                     .type = "application/ocsp-request",
		                     .limit = OCSP_ANSWER_MAX,
		                     .seconds = ANSWER_SECONDS };
	struct http_request get = { .limit = OCSP_ANSWER_MAX, .seconds = ANSWER_SECONDS };
	char *whole = question->nonce ? NULL : get_url(url, der, length);
	int r = -EREMOTEIO;

	if (whole) {
		get.url = whole;
		r = http_do(job->worker->http, &get, answer, err);
		free(whole);
		if (r != -EREMOTEIO)
			return r;
		http_answer_clear(answer);
	}
	return http_do(job->worker->http, &post, answer, err);
}

static int ask(struct job *job, const char *url, const struct ocsp_question *question,
               const unsigned char *der, size_t length, struct error *err)
{
	struct http_answer answer = { 0 };
	struct ocsp_answer judged;
	int r;

	r = exchange(job, url, question, der, length, &answer, err);
	job_note_answer(job, &answer);
	if (r == 0)
		r = ocsp_judge(question, answer.body, answer.length, &judged, err);
	if (r == 0) {
		record_add_bytes(job->result, "ocsp", answer.body, answer.length);
		record_add(job->result, "ocsp-source", url);
	}
	http_answer_clear(&answer);
	return r;
}

int ocsp_job(struct job *job, struct error *err)
{
	const struct field *nonce = record_find(job->settings, "nonce"), *url;
	struct ocsp_question question = {
		.now = record_number(job->settings, "now", 0),
		.clock_trusted = record_is(job->settings, "clock-trusted", "yes"),
		.allow_legacy = record_is(job->settings, "allow-legacy", "yes"),
	};
	unsigned char *der = NULL;
	size_t length, index = 0;
	int r = -EINVAL;

	if (nonce && nonce->length != OCSP_NONCE_SIZE)
		return error_set(err, -EINVAL, "a nonce has %d bytes", OCSP_NONCE_SIZE);
	question.nonce = nonce ? (const unsigned char *)nonce->value : NULL;
	question.certificate =
		field_certificate(record_find(job->settings, "certificate"), "certificate", err);
	question.issuer = question.certificate ? field_certificate(record_find(job->settings, "ca"),
	                                                           "issuer", err)
	                                       : NULL;
	if (question.issuer)
		r = ocsp_compose(&question, &der, &length, err);
	if (r == 0)
		r = error_set(err, -EINVAL, "no OCSP responder is known");
	while (der && r < 0 && (url = record_next(job->settings, "ocsp-url", &index)))
		r = ask(job, url->value, &question, der, length, err);
	OPENSSL_free(der);
	X509_free(question.certificate);
	X509_free(question.issuer);
	return r;
}
