/*
 * EST (RFC 7030, 8951) as the worker speaks it.
 *
 *   GET csrattrs ──► the request, checkpoint ──► POST simpleenroll ──┬─► 200: the certificate
 *                        ▲      the same bytes again │   ▲           ├─► 4xx: refused
 *                        │                           │   └───────────┴─► 202, 5xx, no answer: later
 *                        └── where they are tied to a connection (a new request for the same key)
 *
 * All of a job goes over connections of its own, which end with it.
 */
#include "common/log.h"
#include "common/x509.h"
#include "enroll/csr.h"
#include "enroll/est_message.h"
#include "enroll/protocol.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define PATH           "/.well-known/est"
#define ATTRIBUTES_MAX (64u << 10)

struct enrollment {
	struct job *job;
	const char *operation;
	EVP_PKEY *key;     /* the one a certificate is asked for */
	X509 *renewed;     /* the certificate in force; NULL: a first enrollment */
	X509 *certificate; /* who asks: `auth-certificate`, or RENEWED; NULL: nobody */
	X509_REQ *request;
	bool bound; /* REQUEST is good for one connection */
};

static int check_url(const struct record *settings, struct error *err)
{
	const char *url = record_get(settings, "enrollment-url");

	if (!url || strncasecmp(url, "https://", 8) != 0)
		return error_set(err, -EINVAL, "EST needs an enrollment-url with https, not %.200s",
		                 url ? url : "none");
	return 0;
}

static int check(const struct record *settings, struct error *err)
{
	if (record_is(settings, "action", "enroll") && !record_find(settings, "public"))
		return error_set(err, -EINVAL, "the job has no public key");
	return check_url(settings, err);
}

/* --- talking --- */

/* What to do about a refusal with STATUS. */
static const char *remedy(const struct record *settings, long status)
{
	bool user = record_find(settings, "est-user") != NULL;
	bool shown =
		record_find(settings, "certificate") || record_find(settings, "auth-certificate");

	if (status == 403)
		return "; it knows who asks and does not allow it";
	if (status == 404)
		return "; is the enrollment-url right?";
	if (status != 401)
		return "";
	if (user)
		return "; it does not take est-user with est-password";
	return shown ? "; it wants more than a certificate: set est-user and est-password"
	             : "; set est-user and est-password, or auth-certificate-id";
}

/* What the server's status means for the request: R, or -EACCES where it is a refusal. */
static int judge_status(const struct job *job, long status, int r, struct error *err)
{
	struct error said = *err;

	if (r != -EREMOTEIO || status / 100 != 4 || status == 408 || status == 425 || status == 429)
		return r;
	return error_set(err, -EACCES, "the CA refuses the request: %s%s", said.text,
	                 remedy(job->settings, status));
}

/* One operation of the server. The caller clears *ANSWER. As http_do, and -EACCES where it
 * refuses. */
static int talk(struct job *job, const char *operation, struct http_request *request,
                struct http_answer *answer, struct error *err)
{
	const char *base = record_get(job->settings, "enrollment-url");
	char *url = http_url_below(base, PATH, operation);
	int r;

	*answer = (struct http_answer){ .retry_after = -1 };
	if (!url)
		return error_set(err, -EINVAL, "enrollment-url is no URL: %.200s", base);
	request->url = url;
	r = http_do(job->worker->http, request, answer, err);
	free(url);
	job_note_answer(job, answer);
	return judge_status(job, answer->status, r, err);
}

/* The same as whom the certificate id is to the server. */
static int talk_as_us(struct job *job, const char *operation, struct http_request *request,
                      struct http_answer *answer, struct error *err)
{
	request->user = record_get(job->settings, "est-user");
	request->password = record_get(job->settings, "est-password");
	request->digest = true;
	return talk(job, operation, request, answer, err);
}

typedef int certificates_reader(const char *text, size_t length, STACK_OF(X509) * *certificates,
                                struct error *err);

static int add_certificates(struct job *job, const char *key, const struct http_answer *answer,
                            certificates_reader *read, struct error *err)
{
	STACK_OF(X509) *certificates = NULL;
	int r = read((const char *)answer->body, answer->length, &certificates, err);

	for (int i = 0; r == 0 && i < sk_X509_num(certificates); i++) {
		unsigned char *der = NULL;
		size_t length;

		r = certificate_to_der(sk_X509_value(certificates, i), &der, &length);
		if (r == 0)
			record_add_bytes(job->result, key, der, length);
		OPENSSL_free(der);
	}
	if (r == 0)
		record_set(job->result, "answered", "yes");
	sk_X509_pop_free(certificates, X509_free);
	return r;
}

/* --- cacerts --- */

/* What READ finds in the answer, as the result's KEY. */
static int cacerts(struct job *job, const char *key, certificates_reader *read, struct error *err)
{
	struct http_request request = { 0 };
	struct http_answer answer = { 0 };
	int r = check_url(job->settings, err);

	if (r == 0)
		r = talk(job, "cacerts", &request, &answer, err);
	if (r == 0)
		r = add_certificates(job, key, &answer, read, err);
	http_answer_clear(&answer);
	return r;
}

static int ca_certificate(struct job *job, struct error *err)
{
	return cacerts(job, "certificate", est_ca_certificates_read, err);
}

/* All that the CA publishes: also what it signed with its old key for the new one (§4.1.3). */
static int next_ca(struct job *job, struct error *err)
{
	return cacerts(job, "next", est_certificates_read, err);
}

/* --- who asks --- */

static int read_certificates(const struct record *settings, const char *key,
                             STACK_OF(X509) * *certificates, struct error *err)
{
	const struct field *field;
	size_t index = 0;

	*certificates = sk_X509_new_null();
	while (*certificates && (field = record_next(settings, key, &index))) {
		X509 *certificate = certificate_from_der(field->value, field->length, err);

		if (!certificate || !sk_X509_push(*certificates, certificate)) {
			X509_free(certificate);
			return -EINVAL;
		}
	}
	return *certificates ? 0 : error_set(err, -ENOMEM, "no memory");
}

/*
 * The job's own connections, and the certificate that they show. A key that cannot sign for TLS
 * from here is not shown: then the server knows us by est-user.
 */
static int identify(struct enrollment *e, struct error *err)
{
	struct worker *worker = e->job->worker;
	STACK_OF(X509) *chain = NULL;
	unsigned char *spki = NULL;
	EVP_PKEY *public, *key = NULL;
	size_t length;
	int r = read_certificates(e->job->settings, "chain", &chain, err);

	public = e->certificate ? X509_get0_pubkey(e->certificate) : NULL;
	if (r == 0 && public && !EVP_PKEY_is_a(public, "ED25519")) {
		r = public_key_to_der(public, &spki, &length);
		if (r == 0)
			key = signer_key(worker->signer, "current", spki, length, err);
		if (!key)
			r = -EINVAL;
	}
	if (r == 0)
		r = http_identify(worker->http, key ? e->certificate : NULL, chain, key, err);
	OPENSSL_free(spki);
	EVP_PKEY_free(key);
	sk_X509_pop_free(chain, X509_free);
	return r;
}

/* --- the request --- */

/* GET csrattrs, which a server need not have; *ANSWER keeps what ties to the connection. */
static int ask_attributes(struct enrollment *e, struct est_attributes *attributes,
                          struct http_answer *answer, struct error *err)
{
	struct http_request request = { .limit = ATTRIBUTES_MAX };
	int r = talk_as_us(e->job, "csrattrs", &request, answer, err);

	if (r < 0 && (answer->status == 404 || answer->status == 405 || answer->status == 501)) {
		http_answer_clear(answer);
		r = 0;
	}
	if (r == 0)
		r = est_attributes_read((const char *)answer->body, answer->length, attributes,
		                        err);
	if (r == 0 && *attributes->other) {
		char note[sizeof attributes->other + 64];

		snprintf(note, sizeof note, "the CA asks for what was not sent: %s",
		         attributes->other);
		record_add(e->job->result, "note", note);
	}
	return r;
}

/* What ties the request to the connection over which ANSWER came. */
static int bind_to(struct enrollment *e, const struct http_answer *answer, char **binding,
                   struct error *err)
{
	if (!answer->binding_length)
		return error_set(err, -EIO,
		                 "the CA wants the request tied to its connection, and there is "
		                 "nothing to tie it to");
	*binding = est_base64(answer->binding, answer->binding_length);
	e->bound = true;
	return *binding ? 0 : error_set(err, -ENOMEM, "no memory");
}

static int make_request(struct enrollment *e, struct error *err)
{
	const struct record *settings = e->job->settings;
	struct est_attributes attributes = { 0 };
	struct http_answer answer = { 0 };
	struct csr_wishes wishes = { 0 };
	char *binding = NULL;
	int r = ask_attributes(e, &attributes, &answer, err);

	if (r == 0)
		r = key_kinds_check(&attributes.kinds, e->key, err);
	if (r == 0 && attributes.binding)
		r = bind_to(e, &answer, &binding, err);
	if (r == 0) {
		wishes.challenge = binding;
		wishes.digest =
			est_attributes_digest(&attributes, e->key, record_get(settings, "digest"));
		wishes.extensions = attributes.extensions;
		wishes.names_of = e->renewed; /* RFC 7030 §4.2.2: to the letter */
		X509_REQ_free(e->request);
		e->request = NULL;
		r = csr_make_as(e->job->worker->signer, e->key, settings, &wishes, &e->request,
		                err);
	}
	http_answer_clear(&answer);
	est_attributes_clear(&attributes);
	OPENSSL_free(binding);
	return r;
}

static int checkpoint(struct enrollment *e, const unsigned char *der, size_t length,
                      struct error *err)
{
	struct record *resume = record_new();
	int r;

	if (!resume)
		return error_set(err, -ENOMEM, "no memory");
	record_add_bytes(resume, "resume-csr", der, length);
	record_add(resume, "resume-bound", e->bound ? "yes" : "no");
	r = job_checkpoint(e->job, resume, err);
	record_free(resume);
	return r;
}

/* The request of an earlier try where it is good for this one, else a new one. */
static int take_request(struct enrollment *e, struct error *err)
{
	const struct field *csr = record_find(e->job->settings, "resume-csr");
	const unsigned char *der = csr ? (const unsigned char *)csr->value : NULL;

	if (!csr || record_is(e->job->settings, "resume-bound", "yes"))
		return make_request(e, err);
	e->request = d2i_X509_REQ(NULL, &der, (long)csr->length);
	return e->request ? 0 : error_openssl(err, -EINVAL, "the stored request cannot be read");
}

/* Sends DER. What a server refuses that saw another connection than the one that the request is
 * tied to is no refusal. */
static int send_request(struct enrollment *e, const unsigned char *der, size_t length,
                        struct http_answer *answer, struct error *err)
{
	struct http_request request = { .type = "application/pkcs10",
		                        .header = "Content-Transfer-Encoding: base64" };
	char *text = est_base64(der, length);
	int r;

	if (!text)
		return error_set(err, -ENOMEM, "no memory");
	request.body = text;
	request.length = strlen(text);
	r = talk_as_us(e->job, e->operation, &request, answer, err);
	OPENSSL_clear_free(text, strlen(text));
	if (r == -EACCES && e->bound && answer->connected)
		r = error_set(err, -EIO,
		              "the connection ended that the request was tied to, as the CA wants");
	return r;
}

static int take_answer(struct enrollment *e, const struct http_answer *answer, struct error *err)
{
	if (answer->status == 200)
		return add_certificates(e->job, "certificate", answer, est_certificates_read, err);
	if (answer->status != 202)
		return error_set(err, -EBADMSG, "the server answers with HTTP status %ld",
		                 answer->status);
	record_set(e->job->result, "answered", "yes");
	return JOB_WAITING;
}

static int run(struct enrollment *e, struct error *err)
{
	struct http_answer answer = { 0 };
	struct error ignored = { 0 };
	unsigned char *der = NULL;
	int size, r;

	r = identify(e, err);
	if (r == 0 && e->renewed && next_ca(e->job, &ignored) < 0)
		log_info("what the CA publishes cannot be had now: %s", ignored.text);
	if (r == 0)
		r = take_request(e, err);
	if (r < 0)
		return r;
	size = i2d_X509_REQ(e->request, &der);
	if (size <= 0)
		return error_openssl(err, -EIO, "cannot encode the request");
	r = checkpoint(e, der, (size_t)size, err);
	if (r == 0)
		r = send_request(e, der, (size_t)size, &answer, err);
	if (r == 0)
		r = take_answer(e, &answer, err);
	http_answer_clear(&answer);
	OPENSSL_clear_free(der, (size_t)size);
	return r;
}

/* The certificate in FIELD, where there is one. */
static int read_certificate(const struct field *field, X509 **certificate, struct error *err)
{
	if (field)
		*certificate = certificate_from_der(field->value, field->length, err);
	return field && !*certificate ? -EINVAL : 0;
}

static int enroll(struct job *job, struct error *err)
{
	const struct field *public = record_find(job->settings, "public");
	const struct field *current = record_find(job->settings, "certificate");
	const struct field *prover = record_find(job->settings, "auth-certificate");
	struct enrollment e = { .job = job,
		                .operation = current ? "simplereenroll" : "simpleenroll" };
	int r = read_certificate(current, &e.renewed, err);

	if (r == 0)
		r = read_certificate(prover ? prover : current, &e.certificate, err);
	if (r == 0) {
		e.key = signer_key(job->worker->signer, "new", public->value, public->length, err);
		r = e.key ? run(&e, err) : -EINVAL;
	}
	X509_REQ_free(e.request);
	X509_free(e.renewed);
	X509_free(e.certificate);
	EVP_PKEY_free(e.key);
	return r;
}

const struct protocol est_protocol = {
	.name = "est",
	.check = check,
	.ca_certificate = ca_certificate,
	.next_ca = next_ca,
	.enroll = enroll,
};
