/* The worker's actions that bring a CRL: from a file, from URLs. */
#include "common/x509.h"
#include "enroll/crl.h"
#include "enroll/ldap.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FETCH_SECONDS 900

int crl_accept(struct job *job, const void *bytes, size_t length, size_t first, struct error *err)
{
	const struct field *field = record_find(job->settings, "ca");
	const unsigned char *der = field ? (const unsigned char *)field->value : NULL;
	X509 *ca = der ? d2i_X509(NULL, &der, (long)field->length) : NULL;
	struct crl crl = { 0 };
	int r;

	if (!ca) {
		r = error_openssl(err, -EINVAL, "no CA certificate to check a CRL with");
		goto out;
	}
	r = crl_read(bytes, length, ca, record_number(job->settings, "now", 0),
	             record_is(job->settings, "allow-legacy", "yes"), &crl, err);
	if (r == 0)
		r = crl_write(&crl, job->fds[first], job->fds[first + 1], err);
	if (r < 0)
		goto out;
	if (*crl.number)
		record_add(job->result, "crl-number", crl.number);
	record_add_number(job->result, "crl-this-update", crl.this_update);
	if (crl.next_update)
		record_add_number(job->result, "crl-next-update", crl.next_update);
	record_add_number(job->result, "crl-entries", (long long)crl.count);
	record_add_number(job->result, "size", (long long)crl.size);
out:
	crl_clear(&crl);
	X509_free(ca);
	return r;
}

static bool have_descriptors(const struct job *job, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (job->fds[i] < 0)
			return false;
	return true;
}

/* Maps FD and judges it. */
static int accept_file(struct job *job, int fd, size_t first, struct error *err)
{
	struct stat info;
	void *bytes;
	int r;

	if (fstat(fd, &info) < 0)
		return error_set(err, -errno, "cannot read the CRL: %s", strerror(errno));
	if (info.st_size > CRL_SIZE_MAX)
		return error_set(err, -EBADMSG, "the CRL has %lld bytes, more than %u",
		                 (long long)info.st_size, CRL_SIZE_MAX);
	if (info.st_size == 0)
		return error_set(err, -EBADMSG, "the CRL is empty");
	bytes = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (bytes == MAP_FAILED)
		return error_set(err, -errno, "cannot read the CRL: %s", strerror(errno));
	r = crl_accept(job, bytes, (size_t)info.st_size, first, err);
	munmap(bytes, (size_t)info.st_size);
	return r;
}

int crl_check_job(struct job *job, struct error *err)
{
	int r;

	if (!have_descriptors(job, 3))
		return error_set(err, -EINVAL, "crl-check needs three descriptors");
	r = accept_file(job, job->fds[0], 1, err);
	return r == -EBADMSG ? -EINVAL : r; /* the file will be no better next time */
}

/* The N-th value of KEY, or its only one; NULL when there is none. */
static const char *value_for(const struct record *settings, const char *key, size_t n)
{
	const struct field *field, *last = NULL;
	size_t index = 0;

	for (size_t i = 0; (field = record_next(settings, key, &index)); i++) {
		last = field;
		if (i == n)
			return field->value;
	}
	index = 0;
	record_next(settings, key, &index);
	return last && !record_next(settings, key, &index) ? last->value : NULL;
}

/* What an LDAP server has at URL; of several the newest that can be taken. */
static int fetch_by_ldap(struct job *job, const char *url, size_t n, int fd, struct error *err)
{
	const struct field *field = record_find(job->settings, "ca");
	X509 *ca = field ? certificate_from_der(field->value, field->length, err) : NULL;
	struct ldap_request request = { .url = url,
		                        .user = value_for(job->settings, "crl-url-user", n),
		                        .password = value_for(job->settings, "crl-url-password", n),
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
		r = ldap_write(&answer, i, fd, err);
		if (r == 0)
			r = accept_file(job, fd, 0, err);
		if (r == 0)
			break;
	}
	ldap_answer_clear(&answer);
	X509_STORE_free(request.anchors);
	X509_free(ca);
	free(dn);
	return r;
}

/* The body comes into memory that is not ours alone to count: a file without a name. */
static int fetch_one(struct job *job, const char *url, size_t n, struct error *err)
{
	struct http_request request = { .url = url,
		                        .limit = CRL_SIZE_MAX,
		                        .seconds = FETCH_SECONDS };
	struct http_answer answer = { 0 };
	int r;

	request.user = value_for(job->settings, "crl-url-user", n);
	request.password = request.user ? value_for(job->settings, "crl-url-password", n) : NULL;
	request.fd = memfd_create("crl", MFD_CLOEXEC);
	if (request.fd < 0)
		return error_set(err, -errno, "no memory for a CRL: %s", strerror(errno));
	if (ldap_url_is(url)) {
		r = fetch_by_ldap(job, url, n, request.fd, err);
		close(request.fd);
		return r;
	}
	r = http_do(job->worker->http, &request, &answer, err);
	job_note_answer(job, &answer);
	if (r == 0)
		r = accept_file(job, request.fd, 0, err);
	http_answer_clear(&answer);
	close(request.fd);
	return r;
}

int crl_fetch_job(struct job *job, struct error *err)
{
	const struct field *url;
	size_t index = 0;
	int r = -EINVAL;

	if (!have_descriptors(job, 2))
		return error_set(err, -EINVAL, "crl needs two descriptors");
	for (size_t n = 0; (url = record_next(job->settings, "crl-url", &index)); n++) {
		r = fetch_one(job, url->value, n, err);
		if (r == 0) {
			record_add(job->result, "crl-source", url->value);
			return 0;
		}
	}
	return r;
}
