/* The worker's actions that bring a CRL: from a file, from URLs. */
#include "common/x509.h"
#include "enroll/crl.h"
#include "enroll/ldap.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define FETCH_SECONDS 900
#define READ_NICE     10
#define TAG_MAX       200 /* bytes of a server's ETag or Last-Modified that are kept */

/* The certificates of the CA, by whose key its CRLs may be signed. */
static int read_signers(const struct job *job, STACK_OF(X509) * signers, struct error *err)
{
	static const char *const keys[] = { "ca", "former", "next", "signer" };

	for (size_t i = 0; i < COUNT(keys); i++) {
		const struct field *field;
		size_t index = 0;

		while ((field = record_next(job->settings, keys[i], &index))) {
			X509 *signer = certificate_from_der(field->value, field->length, err);

			if (!signer || !sk_X509_push(signers, signer)) {
				X509_free(signer);
				return -EINVAL;
			}
		}
	}
	if (sk_X509_num(signers) == 0)
		return error_set(err, -EINVAL, "no CA certificate to check a CRL with");
	return 0;
}

/* What the store is told of CRL. */
static void tell(const struct crl *crl, struct record *result)
{
	record_add_bytes(result, "stub", crl->stub, crl->stub_length);
	record_add_bytes(result, "digest", crl->digest, crl->digest_length);
	record_add_number(result, "crl-entries", (long long)crl->entries);
	record_add_number(result, "size", (long long)crl->size);
}

/* Whether CRL is one to be taken: what it says, and who signed it. */
static int judge(const struct job *job, const struct crl *crl, STACK_OF(X509) * signers,
                 struct error *err)
{
	X509_CRL *stub = crl_stub(crl, err);
	struct crl_facts facts;
	int r = stub ? 0 : -EBADMSG;

	if (r == 0)
		r = crl_facts_read(stub, record_number(job->settings, "now", 0),
		                   record_is(job->settings, "allow-legacy", "yes"), &facts, err);
	if (r == 0 && record_is(job->settings, "complete", "yes") && *facts.base)
		r = error_set(err, -EBADMSG, "the CRL is a delta CRL: a complete one is needed");
	else if (r == 0 && record_is(job->settings, "complete", "yes") && !facts.whole)
		r = error_set(err, -EBADMSG,
		              "the CRL is indirect or speaks of some certificates or reasons "
		              "alone: a complete one is needed");
	if (r == 0 && !crl_find_signer(stub, signers, err))
		r = -EBADMSG;
	X509_CRL_free(stub);
	return r;
}

/* A CRL that is read. */
struct reading {
	const struct crl_paths *paths;
	STACK_OF(X509) * signers, *certificates;
	struct crl *crl;
	struct error *err;
	int result;
};

static void *read_behind(void *user)
{
	struct reading *reading = user;

	setpriority(PRIO_PROCESS, 0, READ_NICE); /* this thread's alone */
	reading->result = crl_read(reading->paths, reading->signers, reading->certificates,
	                           reading->crl, reading->err);
	return NULL;
}

/*
 * Reads it behind all others who want the processor: a large one takes a second of it, and what
 * the store has to do takes microseconds. A thread, for its priority never comes back.
 */
static int read_crl(const struct crl_paths *paths, STACK_OF(X509) * signers,
                    STACK_OF(X509) * certificates, struct crl *crl, struct error *err)
{
	struct reading reading = { paths, signers, certificates, crl, err, 0 };
	pthread_t thread;

	if (pthread_create(&thread, NULL, read_behind, &reading) != 0)
		return crl_read(paths, signers, certificates, crl, err);
	pthread_join(thread, NULL);
	return reading.result;
}

int crl_accept(struct job *job, struct error *err)
{
	const struct crl_paths paths = { job->fds[0], 0, job->fds[0], job->fds[1], job->fds[2] };
	STACK_OF(X509) *signers = sk_X509_new_null();
	struct crl crl = { 0 };
	int r = signers ? read_signers(job, signers, err) : -ENOMEM;

	if (r == 0)
		r = read_crl(&paths, signers, NULL, &crl, err);
	if (r == 0)
		r = judge(job, &crl, signers, err);
	if (r == 0)
		tell(&crl, job->result);
	crl_clear(&crl);
	sk_X509_pop_free(signers, X509_free);
	return r;
}

int crl_put(struct job *job, const void *der, size_t length, struct error *err)
{
	if (ftruncate(job->fds[0], 0) < 0 || pwrite(job->fds[0], der, length, 0) != (ssize_t)length)
		return error_set(err, -EIO, "cannot write the CRL: %s", strerror(errno));
	return crl_accept(job, err);
}

static bool have_descriptors(const struct job *job, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (job->fds[i] < 0)
			return false;
	return true;
}

static void tell_certificates(STACK_OF(X509) * certificates, struct record *result)
{
	for (int i = 0; i < sk_X509_num(certificates); i++) {
		unsigned char *der = NULL;
		size_t length;

		if (certificate_to_der(sk_X509_value(certificates, i), &der, &length) == 0)
			record_add_bytes(result, "certificate", der, length);
		OPENSSL_free(der);
	}
}

/* One of the CRLs that somebody wrote; whether it is taken, the store decides. */
int crl_check_job(struct job *job, struct error *err)
{
	const struct crl_paths paths = { job->fds[0],
		                         (size_t)record_number(job->settings, "number", 0),
		                         job->fds[1], job->fds[2], job->fds[3] };
	STACK_OF(X509) *signers = sk_X509_new_null(), *certificates = sk_X509_new_null();
	struct crl crl = { 0 };
	int r = signers && certificates ? 0 : -ENOMEM;

	if (r == 0 && !have_descriptors(job, 4))
		r = error_set(err, -EINVAL, "crl-check needs four descriptors");
	if (r == 0)
		r = read_signers(job, signers, err);
	if (r == 0)
		r = read_crl(&paths, signers, certificates, &crl, err);
	if (r == 0) {
		tell(&crl, job->result);
		tell_certificates(certificates, job->result);
		record_add_number(job->result, "crls", (long long)crl.crls);
	}
	crl_clear(&crl);
	sk_X509_pop_free(signers, X509_free);
	sk_X509_pop_free(certificates, X509_free);
	return r == -EBADMSG ? -EINVAL : r; /* the file will be no better next time */
}

/* What the server calls this CRL, for the next time. */
static void note_tag(struct job *job, const char *header, const char *key)
{
	const char *value = http_header(job->worker->http, header, 0);

	record_remove(job->result, key);
	if (value && strlen(value) <= TAG_MAX)
		record_add(job->result, key, value);
}

/* 0: the CRL is in the body; 1: it is the one that is here already. */
static int fetch_http(struct job *job, const char *url, size_t n, struct error *err)
{
	bool known = record_is(job->settings, "crl-source", url);
	struct http_request request = {
		.url = url, .limit = CRL_SIZE_MAX, .seconds = FETCH_SECONDS, .fd = job->fds[0]
	};
	struct http_answer answer = { 0 };
	int r;

	request.user = record_beside(job->settings, "crl-url-user", n);
	request.password =
		request.user ? record_beside(job->settings, "crl-url-password", n) : NULL;
	request.etag = known ? record_get(job->settings, "etag") : NULL;
	request.modified = known ? record_get(job->settings, "modified") : NULL;
	r = http_do(job->worker->http, &request, &answer, err);
	job_note_answer(job, &answer);
	if (r == 0) {
		note_tag(job, "ETag", "etag");
		note_tag(job, "Last-Modified", "modified");
	}
	if (r == 0 && answer.status == 304)
		r = 1;
	http_answer_clear(&answer);
	return r;
}

/* What an LDAP server has at URL; of several the newest that can be taken. */
static int fetch_ldap(struct job *job, const char *url, size_t n, struct error *err)
{
	const struct field *field = record_find(job->settings, "ca");
	X509 *ca = field ? certificate_from_der(field->value, field->length, err) : NULL;
	struct ldap_request request = { .url = url,
		                        .user = record_beside(job->settings, "crl-url-user", n),
		                        .password =
		                                record_beside(job->settings, "crl-url-password", n),
		                        .now = record_number(job->settings, "now", 0),
		                        .seconds = FETCH_SECONDS };
	char *dn = ca ? ldap_dn(X509_get_subject_name(ca)) : NULL;
	struct ldap_answer answer;
	int r;

	request.dn = dn;
	if (strncasecmp(url, "ldaps:", 6) == 0)
		request.anchors = http_anchors(job->worker->http);
	r = ldap_fetch(&request, &answer, err);
	for (size_t i = 0; i < answer.count; i++) {
		r = ldap_write(&answer, i, job->fds[0], err);
		if (r == 0)
			r = crl_accept(job, err);
		if (r == 0)
			break;
	}
	ldap_answer_clear(&answer);
	X509_STORE_free(request.anchors);
	X509_free(ca);
	free(dn);
	return r;
}

static int fetch_one(struct job *job, const char *url, size_t n, struct error *err)
{
	int r;

	if (lseek(job->fds[0], 0, SEEK_SET) < 0 || ftruncate(job->fds[0], 0) < 0)
		return error_set(err, -errno, "cannot write the CRL: %s", strerror(errno));
	if (ldap_url_is(url))
		return fetch_ldap(job, url, n, err);
	if (strncasecmp(url, "http://", 7) != 0 && strncasecmp(url, "https://", 8) != 0)
		return error_set(err, -EINVAL, "%.100s: CRLs come by http, https and LDAP alone",
		                 url);
	r = fetch_http(job, url, n, err);
	if (r == 1)
		record_add(job->result, "not-modified", "yes");
	return r == 0 ? crl_accept(job, err) : r == 1 ? 0 : r;
}

int crl_fetch_job(struct job *job, struct error *err)
{
	const struct field *url;
	size_t index = 0;
	int r = -EINVAL;

	if (!have_descriptors(job, 3))
		return error_set(err, -EINVAL, "crl needs three descriptors");
	for (size_t n = 0; (url = record_next(job->settings, "crl-url", &index)); n++) {
		r = fetch_one(job, url->value, n, err);
		if (r == 0) {
			record_add(job->result, "crl-source", url->value);
			return 0;
		}
	}
	return r;
}
