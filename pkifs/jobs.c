#include "pkifs/jobs.h"

#include "common/log.h"
#include "common/x509.h"
#include "pkifs/object.h"
#include "pkifs/publish.h"
#include "pkifs/tree.h"
#include "pkifs/workers.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BACK_OFF_MAX 60
#define OPEN_SECONDS 2 /* how long a request waits for its writer to close it */

/* A request that runs, or a CRL that its writer waits for. */
struct job {
	struct job *next;
	struct store *store;
	int64_t request, object, profile;
	char action[24];
	struct worker *worker;
	int64_t key;      /* the key that a certificate is asked for */
	uintptr_t number; /* what answers that are still to come know it by */
	struct crl_files crl;
	bool has_crl;
	uint64_t handle; /* a written CRL: its open file, and who waits */
	text_judged *judged;
	void *user;
};

static struct jobs {
	struct store *store;
	struct job *first;
	size_t count;
	uintptr_t last;
} jobs;

static void job_free(struct job *job)
{
	struct job **at = &jobs.first;

	while (*at != job)
		at = &(*at)->next;
	*at = job->next;
	jobs.count--;
	if (job->has_crl)
		crl_files_drop(job->store, &job->crl);
	free(job);
}

/* Ends a job whose request is gone; its worker is killed. */
static void job_abort(struct job *job)
{
	if (job->worker)
		worker_abort(job->worker);
	job_free(job);
}

static struct job *job_new(struct store *store, const char *action)
{
	struct job *job = calloc(1, sizeof *job);

	if (!job)
		return NULL;
	job->store = store;
	snprintf(job->action, sizeof job->action, "%s", action);
	job->number = ++jobs.last;
	job->next = jobs.first;
	jobs.first = job;
	jobs.count++;
	return job;
}

static struct job *job_of(int64_t request)
{
	for (struct job *job = jobs.first; job; job = job->next)
		if (job->request == request && !job->judged)
			return job;
	return NULL;
}

/* The job that an answer or effect is for; NULL: it is no longer wanted. */
static struct job *job_numbered(void *number)
{
	for (struct job *job = jobs.first; job; job = job->next)
		if (job->number == (uintptr_t)number)
			return job;
	return NULL;
}

static void *number_of(const struct job *job)
{
	return (void *)job->number;
}

/* Where a request stands, as the job's steps need it. */
struct standing {
	struct object object, profile; /* a CA profile's request is its own profile's */
	struct request request;
	struct record *config, *settings, *resume; /* config and settings with defaults */
	struct edition edition;
};

static void standing_clear(struct standing *standing)
{
	request_clear(&standing->request);
	record_free(standing->config);
	record_free(standing->settings);
	record_free(standing->resume);
	edition_clear(&standing->edition);
}

static int standing_get(struct store *store, int64_t object, struct standing *standing)
{
	int r;

	*standing = (struct standing){ 0 };
	r = db_object_get(store->db, object, &standing->object);
	if (r == 0)
		r = db_request_get(store->db, object, &standing->request);
	if (r == 0)
		r = store_settings(store, &standing->object, &standing->config);
	standing->profile = standing->object;
	if (r == 0 && standing->object.kind == KIND_LOCAL &&
	    object_profile(store, standing->config, &standing->profile) < 0)
		standing->profile = (struct object){ 0 };
	if (r == 0 && standing->profile.id)
		r = store_settings(store, &standing->profile, &standing->settings);
	if (r == 0)
		r = db_edition_get(store->db, standing->object.edition, &standing->edition);
	if (r == 0)
		r = record_decode((const unsigned char *)standing->request.resume.data,
		                  standing->request.resume.length, &standing->resume);
	if (r < 0)
		standing_clear(standing);
	return r;
}

/* Seconds until the next try: what the profile says, with a tenth of jitter. */
static int64_t delay(const struct standing *standing)
{
	long long interval = standing->settings ? record_number(standing->settings,
	                                                        "enrollment-retry-interval", 900)
	                                        : 0;
	unsigned char random = 0;

	if (interval == 0)
		for (interval = 1;
		     interval < BACK_OFF_MAX && interval < 1ll << standing->request.attempts;)
			interval *= 2;
	if (interval > BACK_OFF_MAX)
		interval = BACK_OFF_MAX < interval ? interval : BACK_OFF_MAX;
	RAND_bytes(&random, 1);
	return interval + (interval * random / 256) / 10;
}

static int event(struct store *store, const struct standing *standing, const char *name)
{
	struct record *more = record_new();
	int r = -ENOMEM;

	if (more) {
		record_add(more, "action", standing->request.action);
		if (*standing->request.error)
			record_add(more, "reason", standing->request.error);
		r = store_event(store, &standing->object, name, more);
	}
	record_free(more);
	return r;
}

/* The request stands at STATE from now on. */
static int set_state(struct store *store, struct standing *standing, enum request_state state,
                     const char *error)
{
	int r;

	standing->request.state = state;
	standing->request.changed = store_now(store);
	snprintf(standing->request.error, sizeof standing->request.error, "%s", error ? error : "");
	if (!request_active(&standing->request))
		blob_clear(&standing->request.resume);
	r = db_request_update(store->db, &standing->request);
	if (r == 0 && error)
		r = db_object_set_error(store->db, standing->object.id, error);
	store->wake = true;
	return r;
}

static int finish(struct store *store, struct standing *standing, enum request_state state,
                  const char *error)
{
	int r = set_state(store, standing, state, error);

	return r < 0 ? r : event(store, standing, request_state_name(state));
}

static bool asks_the_network(const char *action)
{
	return strcmp(action, "enroll") == 0 || strcmp(action, "re-enroll") == 0 ||
	       strcmp(action, "refresh-crl") == 0;
}

/* Not now: again after SECONDS (negative: as the profile says), or never where that was the last.
 */
static int try_later(struct store *store, struct standing *standing, bool pending,
                     const char *reason, long long seconds)
{
	long long limit =
		standing->settings ? record_number(standing->settings, "enrollment-retry", 0) : 0;
	int r;

	if (!asks_the_network(standing->request.action))
		return finish(store, standing, REQUEST_FAILED, reason);
	if (limit && standing->request.attempts >= limit) {
		char text[512];

		snprintf(text, sizeof text, "%s, after %lld %s",
		         pending ? "the CA has still not decided" : reason, limit,
		         limit == 1 ? "retry" : "retries");
		return finish(store, standing, REQUEST_FAILED, text);
	}
	standing->request.pending = pending;
	standing->request.attempts++;
	standing->request.next_attempt =
		store_now(store) + (seconds >= 0 ? seconds : delay(standing));
	r = set_state(store, standing, REQUEST_WAITING, pending ? NULL : reason);
	return r < 0 ? r : event(store, standing, pending ? "pending" : "retry");
}

/* The protocol's checkpoint out of RECORD, and which key it is for, into the request. */
static int take_checkpoint(struct standing *standing, const struct record *record, int64_t key)
{
	struct record *resume = record_new();
	unsigned char *bytes = NULL;
	size_t length = 0;
	int r = -ENOMEM;

	for (size_t i = 0; resume && i < record_count(record); i++) {
		const struct field *field = record_field(record, i);

		if (strncmp(field->key, "resume-", 7) == 0)
			record_add_bytes(resume, field->key, field->value, field->length);
	}
	if (resume && record_count(resume)) {
		record_add_number(resume, "key", key);
		r = record_encode(resume, &bytes, &length);
		if (r == 0) {
			blob_clear(&standing->request.resume);
			standing->request.resume.data = malloc(length + 1);
			r = standing->request.resume.data ? 0 : -ENOMEM;
		}
		if (r == 0) {
			memcpy(standing->request.resume.data, bytes, length);
			standing->request.resume.length = length;
		}
		OPENSSL_clear_free(bytes, length);
	} else if (resume) {
		r = 0;
	}
	record_free(resume);
	return r;
}

static int publish_csr(struct store *store, const struct standing *standing,
                       const struct record *result)
{
	const struct field *der = record_find(result, "csr");
	const unsigned char *at = der ? (const unsigned char *)der->value : NULL;
	struct edition edition;
	X509_REQ *request = der ? d2i_X509_REQ(NULL, &at, (long)der->length) : NULL;
	BIO *bio = BIO_new(BIO_s_mem());
	char *text;
	int r;

	r = db_edition_get(store->db, standing->object.edition, &edition);
	if (r == 0 && (!request || !bio || !PEM_write_bio_X509_REQ(bio, request)))
		r = -EBADMSG;
	if (r == 0) {
		blob_clear(&edition.csr);
		edition.csr.length = (size_t)BIO_get_mem_data(bio, &text);
		edition.csr.data = strndup(text, edition.csr.length);
		r = edition.csr.data ? edition_publish(store, &standing->object, &edition)
		                     : -ENOMEM;
	}
	if (r == 0)
		r = store_event(store, &standing->object, "csr", NULL);
	edition_clear(&edition);
	BIO_free(bio);
	X509_REQ_free(request);
	return r;
}

static int publish_certificates(struct job *job, const struct standing *standing,
                                const struct record *result, struct error *err)
{
	struct candidates candidates = {
		.key = job->key,
		.requested = true,
		.self_signed = strcmp(job->action, "generate-self-signed") == 0,
		.certificates = sk_X509_new_null(),
	};
	const struct field *field;
	size_t index = 0;
	int r = candidates.certificates ? 0 : -ENOMEM;

	while (r == 0 && (field = record_next(result, "certificate", &index))) {
		X509 *certificate = certificate_from_der(field->value, field->length, err);

		if (!certificate || !sk_X509_push(candidates.certificates, certificate)) {
			X509_free(certificate);
			r = -EINVAL;
		}
	}
	if (r == 0)
		r = certificate_publish(job->store, &standing->object, &candidates, false, err);
	sk_X509_pop_free(candidates.certificates, X509_free);
	return r;
}

/* What the worker brought, into the store; -EINVAL with ERR: it is not what was asked for. */
static int take_result(struct job *job, const struct standing *standing,
                       const struct record *result, struct error *err)
{
	const char *source = record_get(standing->config, "crl-url");
	struct store *store = job->store;

	if (job->has_crl)
		return crl_publish(store, &standing->object, &job->crl, result,
		                   source ? source : "SCEP GetCRL", err);
	if (standing->object.kind == KIND_CA)
		return ca_fetched(store, &standing->object, result, err);
	if (strcmp(job->action, "generate-csr") == 0)
		return publish_csr(store, standing, result);
	return publish_certificates(job, standing, result, err);
}

/* The result inside a change. */
static int apply(struct job *job, const struct record *result)
{
	const char *reason = record_get(result, "reason") ? record_get(result, "reason") : "";
	struct store *store = job->store;
	struct error err = { 0 };
	struct standing standing;
	long long after = record_number(result, "retry-after", -1);
	int r = standing_get(store, job->object, &standing);

	if (r < 0)
		return r;
	standing.request.answered |= record_is(result, "answered", "yes") ||
	                             record_is(result, "outcome", "done") ||
	                             record_is(result, "outcome", "refused");
	r = take_checkpoint(&standing, result, job->key);
	if (r < 0) {
	} else if (record_is(result, "outcome", "done")) {
		int taken = db_savepoint(store->db);

		if (taken == 0)
			taken = take_result(job, &standing, result, &err);
		if (taken < 0)
			db_undo(store->db);
		else
			db_release(store->db);
		if (taken == 0)
			r = finish(store, &standing, REQUEST_DONE, NULL);
		else if (err.code)
			r = finish(store, &standing, REQUEST_REJECTED, err.text);
		else
			r = taken;
	} else if (record_is(result, "outcome", "waiting")) {
		r = try_later(store, &standing, true, reason, after);
	} else if (record_is(result, "outcome", "refused")) {
		r = finish(store, &standing, REQUEST_FAILED, reason);
	} else {
		r = try_later(store, &standing, false, reason, after);
	}
	standing_clear(&standing);
	return r;
}

/* The job has no result: its process ended, or the store could not take what it brought. */
static void failed(struct job *job, const char *reason)
{
	struct store *store = job->store;
	struct standing standing;
	int r = store_begin(store);

	if (r < 0)
		return; /* the store is full: the request is still `running`, and taken up again */
	r = standing_get(store, job->object, &standing);
	if (r == 0) {
		if (standing.request.id == job->request)
			r = try_later(store, &standing, false, reason, -1);
		standing_clear(&standing);
	}
	store_end(store, r);
}

static void judged_crl(struct job *job, const struct record *result, const char *reason)
{
	struct store *store = job->store;
	struct error err = { 0 };
	struct object object;
	int r = 0;

	if (!result)
		r = error_set(&err, -EIO, "%s; try again", reason);
	else if (!record_is(result, "outcome", "done"))
		r = error_set(&err, -EINVAL, "%s",
		              record_get(result, "reason") ? record_get(result, "reason") : "");
	if (r == 0)
		r = store_begin(store);
	if (r == 0) {
		r = db_object_get(store->db, job->object, &object);
		if (r == 0)
			r = crl_publish(store, &object, &job->crl, result, "a written file", &err);
		r = store_end(store, r);
	}
	if (r < 0 && !err.code)
		error_set(&err, r, "the CRL cannot be stored: %s", strerror(-r));
	crl_incoming_remove(store, job->handle);
	job->judged(job->user, r, &err);
}

static void checkpoint_done(void *user, int code)
{
	struct job *job = job_numbered(user);

	if (job && code == 0)
		worker_go(job->worker, job->request);
	else if (job) /* what can't be stored must not be sent */
		job_abort(job);
}

static void checkpoint(struct job *job, const struct record *record)
{
	struct store *store = job->store;
	struct standing standing;
	int r = store_begin(store);

	if (r == 0) {
		r = standing_get(store, job->object, &standing);
		if (r == 0) {
			r = take_checkpoint(&standing, record, job->key);
			if (r == 0)
				r = db_request_checkpoint(
					store->db, job->request, standing.request.resume.data,
					standing.request.resume.length, store_now(store));
			standing_clear(&standing);
		}
		r = store_end(store, r);
	}
	if (r == 0)
		r = store_after(store, checkpoint_done, number_of(job));
	if (r < 0) {
		failed(job, "the store cannot be written");
		job_abort(job);
	}
}

static void received(void *user, struct record *record, const char *reason)
{
	struct job *job = user;
	struct store *store = job->store;
	int r;

	if (record && record_is(record, "frame", "checkpoint") && !job->judged) {
		checkpoint(job, record);
		record_free(record);
		return;
	}
	job->worker = NULL;
	if (job->judged) {
		judged_crl(job, record, reason);
	} else if (!record) {
		failed(job, reason);
	} else {
		r = store_begin(store);
		if (r == 0)
			r = store_end(store, apply(job, record));
		if (r < 0)
			failed(job, "the store cannot be written");
	}
	record_free(record);
	job_free(job);
	store->wake = true;
}

/* Adds the DER of each certificate in PEM as KEY. */
static int add_der(struct record *record, const char *key, const struct blob *pem)
{
	STACK_OF(X509) *certificates = NULL;
	int r = 0;

	if (pem->length)
		r = certificates_read(pem->data, pem->length, 50, &certificates, NULL);
	for (int i = 0; r == 0 && i < sk_X509_num(certificates); i++) {
		unsigned char *der = NULL;
		size_t length;

		r = certificate_to_der(sk_X509_value(certificates, i), &der, &length);
		if (r == 0)
			record_add_bytes(record, key, der, length);
		OPENSSL_free(der);
	}
	sk_X509_pop_free(certificates, X509_free);
	return r;
}

static int add_public(struct store *store, struct record *record, int64_t row)
{
	struct key_pair key;
	int r = db_key_get(store->db, row, &key);

	if (r < 0)
		return r;
	record_add_bytes(record, "public", key.public.data, key.public.length);
	key_pair_clear(&key);
	return 0;
}

/* A renewal is signed by the certificate in force, where that is still valid. */
static int add_renewal(struct store *store, const struct standing *standing,
                       struct worker_job *work)
{
	struct version version;
	int r;

	if (strcmp(standing->request.action, "re-enroll") != 0 || !standing->edition.version)
		return 0;
	r = db_version_get(store->db, standing->edition.version, &version);
	if (r < 0)
		return r;
	if (version.not_after > store_now(store) || !store_clock_trusted(store)) {
		r = add_der(work->record, "certificate", &version.certificate);
		work->grants[1] = (struct grant){ "current", version.key_pair };
	}
	version_clear(&version);
	return r;
}

static void add_settings(struct record *to, const struct record *from)
{
	static const char *const names[] = { "enrollment-url", "ca-identity", "crl-url",
		                             "crl-url-user", "crl-url-password" };
	const struct field *field;

	for (size_t i = 0; i < COUNT(names); i++)
		for (size_t index = 0; (field = record_next(from, names[i], &index)) != NULL;)
			record_add(to, names[i], field->value);
}

static const char *worker_action(const struct standing *standing)
{
	const char *action = standing->request.action;

	if (standing->object.kind == KIND_CA)
		return strcmp(action, "refresh-crl") == 0 ? "crl" : "ca-certificate";
	if (strcmp(action, "generate-csr") == 0)
		return "csr";
	return strcmp(action, "generate-self-signed") == 0 ? "self-signed" : "enroll";
}

/* The job's frame. */
static int compose(struct job *job, const struct standing *standing, struct worker_job *work)
{
	struct record *record = work->record;
	struct store *store = job->store;
	struct record *fields = NULL;
	struct edition trusted = { 0 };
	const char *serial = record_get(store->conf, "serial-number");
	bool legacy = record_is(standing->config, "allow-legacy", "yes") ||
	              (standing->settings && record_is(standing->settings, "allow-legacy", "yes"));
	int r = 0;

	record_add(record, "frame", "job");
	record_add_number(record, "job", job->request);
	record_add(record, "action", worker_action(standing));
	record_add_number(record, "now", store_now(store));
	record_append(record, standing->config);
	if (standing->settings && standing->object.kind == KIND_LOCAL)
		add_settings(record, standing->settings);
	record_set(record, "allow-legacy", legacy ? "yes" : "no");
	if (!record_get(record, "protocol"))
		record_add(record, "protocol",
		           standing->settings ? record_get(standing->settings, "protocol")
		                              : "scep");
	record_add(record, standing->object.kind == KIND_CA ? "profile" : "certificate-id",
	           standing->object.name);
	if (serial)
		record_add(record, "device-serial", serial);
	if (strcmp(job->action, "generate-self-signed") == 0) {
		r = record_decode((const unsigned char *)standing->request.fields.data,
		                  standing->request.fields.length, &fields);
		if (r == 0 && record_is(fields, "add-ca-constraint", "yes"))
			record_add(record, "add-ca-constraint", "yes");
		record_free(fields);
	}
	if (r == 0 && standing->profile.id)
		r = db_edition_get(store->db, standing->profile.edition, &trusted);
	if (r == 0)
		r = add_der(record, "ca", &trusted.certificate);
	if (r == 0)
		r = add_der(record, "ra", &trusted.ra);
	if (r == 0 && *trusted.capabilities)
		record_add(record, "capabilities", trusted.capabilities);
	edition_clear(&trusted);
	if (r == 0 && job->key)
		r = add_public(store, record, job->key);
	if (r == 0)
		r = add_renewal(store, standing, work);
	record_append(record, standing->resume);
	return r;
}

/* Hands the job to a worker. */
static int give(struct job *job, const struct standing *standing)
{
	struct worker_job work = { .record = record_new(), .received = received, .user = job };
	int r;

	if (!work.record)
		return -ENOMEM;
	work.grants[0] = (struct grant){ "new", job->key };
	r = compose(job, standing, &work);
	if (r == 0 && strcmp(worker_action(standing), "crl") == 0) {
		r = crl_files_new(job->store, &job->crl);
		job->has_crl = r == 0;
		work.fds[0] = job->crl.body;
		work.fds[1] = job->crl.index;
		work.fd_count = 2;
	}
	if (r < 0) {
		record_free(work.record);
		return r;
	}
	job->worker = worker_give(job->store, &work);
	return job->worker ? 0 : -ENOMEM;
}

static void key_made(void *user, const struct record *answer, const struct error *err);

static int ask_key(struct job *job, const struct standing *standing)
{
	struct record *question = record_new();

	if (!question)
		return -ENOMEM;
	record_add(question, "frame", "generate");
	record_add(question, "key-type", record_get(standing->config, "key-type"));
	if (record_get(standing->config, "key-size"))
		record_add(question, "key-size", record_get(standing->config, "key-size"));
	record_add_number(question, "owner", job->object);
	return secrets_ask(job->store, question, true, NULL, 0, key_made, number_of(job));
}

/* The key that the request is made with: that of its checkpoint, the newest, or 0: to be made. */
static int64_t choose_key(const struct standing *standing)
{
	int64_t resumed = record_number(standing->resume, "key", 0);
	bool anew = record_is(standing->config, "re-generate-keypair", "yes") &&
	            standing->edition.version;

	if (resumed)
		return resumed;
	if (standing->edition.next_key)
		return standing->edition.next_key;
	return anew ? 0 : standing->edition.key_pair;
}

static bool needs_key(const struct standing *standing)
{
	return standing->object.kind == KIND_LOCAL;
}

/* The next step of a job that has just begun, or has its key. Ends the job where it fails. */
static void step(struct job *job)
{
	struct store *store = job->store;
	struct standing standing;
	int r = standing_get(store, job->object, &standing);

	if (r < 0 || standing.request.id != job->request) {
		if (r == 0)
			standing_clear(&standing);
		job_free(job);
		return;
	}
	if (needs_key(&standing) && !job->key) {
		if (strcmp(job->action, "generate-key-pair") != 0)
			job->key = choose_key(&standing);
		if (!job->key) {
			r = ask_key(job, &standing);
			goto out;
		}
	}
	r = give(job, &standing);
out:
	standing_clear(&standing);
	if (r < 0) {
		failed(job, strerror(-r));
		job_free(job);
	}
}

static void key_durable(void *user, int code)
{
	struct job *job = job_numbered(user);

	if (!job)
		return;
	if (code == 0 && strcmp(job->action, "generate-key-pair") != 0) {
		step(job);
		return;
	}
	if (code < 0)
		failed(job, "the key cannot be stored");
	job_free(job);
}

/* Keeps the key that was made; generate-key-pair ends with it. */
static int keep_key(struct job *job, const struct record *answer)
{
	struct standing standing;
	int r = standing_get(job->store, job->object, &standing);

	if (r < 0)
		return r;
	r = key_publish(job->store, &standing.object, answer, &job->key);
	if (r == 0 && strcmp(job->action, "generate-key-pair") == 0)
		r = finish(job->store, &standing, REQUEST_DONE, NULL);
	standing_clear(&standing);
	return r;
}

static void key_made(void *user, const struct record *answer, const struct error *err)
{
	struct job *job = job_numbered(user);
	struct store *store = jobs.store;
	int r = 0;

	if (!job)
		return;
	if (answer) {
		r = store_begin(store);
		if (r == 0)
			r = store_end(store, keep_key(job, answer));
		if (r == 0)
			r = store_after(store, key_durable, number_of(job));
	}
	if (!answer || r < 0) {
		failed(job, answer ? "the key cannot be stored" : err->text);
		job_free(job);
	}
}

/* Whether another job may ask PROFILE: no profile has more than half of the workers. */
static bool may_run(const struct store *store, int64_t profile)
{
	size_t limit = workers_limit(store), share = (limit + 1) / 2, same = 0;

	for (const struct job *job = jobs.first; job; job = job->next)
		same += job->profile == profile;
	return jobs.count < limit && (!profile || same < share);
}

static bool is_due(struct store *store, const struct request *request)
{
	if (job_of(request->id))
		return false;
	if (request->state == REQUEST_QUEUED && request_is_open(store, request->id) &&
	    store_now(store) - request->created < OPEN_SECONDS)
		return false;
	return request->state != REQUEST_WAITING || request->next_attempt <= store_now(store);
}

static int run_state(struct store *store, struct standing *standing)
{
	bool first = standing->request.state == REQUEST_QUEUED;
	char error[sizeof standing->request.error];
	int r;

	memcpy(error, standing->request.error, sizeof error);
	r = set_state(store, standing, REQUEST_RUNNING, *error ? error : NULL);
	return r == 0 && first ? event(store, standing, "request") : r;
}

static void begin(struct store *store, const struct request *request)
{
	struct standing standing;
	struct job *job;
	int r = standing_get(store, request->object, &standing);

	if (r < 0)
		return;
	if (!may_run(store, standing.profile.id)) {
		standing_clear(&standing);
		return;
	}
	job = job_new(store, request->action);
	r = job ? store_begin(store) : -ENOMEM;
	if (r == 0)
		r = store_end(store, run_state(store, &standing));
	if (r == 0) {
		job->request = request->id;
		job->object = request->object;
		job->profile = standing.profile.id;
	} else if (job) {
		job_free(job);
	}
	standing_clear(&standing);
	if (r == 0)
		step(job);
}

void jobs_run(struct store *store)
{
	struct request request;
	int64_t after = 0;

	if (store->stopping)
		return;
	while (db_request_next(store->db, after, &request) == 0) {
		after = request.id;
		if (is_due(store, &request))
			begin(store, &request);
		request_clear(&request);
	}
}

void jobs_start(struct store *store)
{
	jobs.store = store;
	jobs_run(store);
}

static void abort_after_commit(void *user, int code)
{
	struct job *job = job_numbered(user);

	if (job && code == 0)
		job_abort(job);
}

int jobs_forget(struct store *store, int64_t object)
{
	struct job *job = jobs.first;

	while (job && (job->object != object || job->judged))
		job = job->next;
	return job ? store_after(store, abort_after_commit, number_of(job)) : 0;
}

int jobs_cancel(struct store *store, const struct object *object, struct error *err)
{
	struct standing standing;
	int r = standing_get(store, object->id, &standing);

	if (r == -ENOENT)
		return error_set(err, -EINVAL, "there is no request to cancel");
	if (r < 0)
		return r;
	if (!request_active(&standing.request)) {
		r = error_set(err, -EINVAL, "there is no request under way: the last one is %s",
		              request_state_name(standing.request.state));
	} else {
		r = finish(store, &standing, REQUEST_FAILED, "cancelled");
		if (r == 0)
			r = jobs_forget(store, object->id);
	}
	standing_clear(&standing);
	return r;
}

int jobs_reconfigured(struct store *store, const struct object *object, const struct record *config)
{
	struct request request;
	int64_t after = 0;
	int r = 0;

	(void)config;
	if (object->kind != KIND_CA)
		return 0;
	while (r == 0 && db_request_next(store->db, after, &request) == 0) {
		struct standing standing;

		after = request.id;
		if (request.state == REQUEST_WAITING &&
		    standing_get(store, request.object, &standing) == 0) {
			if (standing.profile.id == object->id) {
				standing.request.next_attempt = request.changed + delay(&standing);
				r = db_request_update(store->db, &standing.request);
			}
			standing_clear(&standing);
		}
		request_clear(&request);
	}
	return r;
}

int crl_judge(struct store *store, const struct object *object, uint64_t handle,
              text_judged *judged, void *user, struct error *err)
{
	struct worker_job work = { .record = record_new(), .received = received };
	struct job *job = job_new(store, "crl-check");
	struct edition edition = { 0 };
	int fd = crl_incoming(store, handle, O_RDONLY), r = fd < 0 ? fd : 0;

	if (!job || !work.record)
		r = -ENOMEM;
	if (r == 0)
		r = db_edition_get(store->db, object->edition, &edition);
	if (r == 0 && !edition.certificate.length)
		r = error_set(err, -EINVAL, "profile %s has no CA certificate yet", object->name);
	if (r == 0)
		r = crl_files_new(store, &job->crl);
	if (r == 0) {
		job->has_crl = true;
		job->object = object->id;
		job->handle = handle;
		job->judged = judged;
		work.user = job;
		job->user = user;
		record_add(work.record, "frame", "job");
		record_add(work.record, "job", "0");
		record_add(work.record, "action", "crl-check");
		record_add_number(work.record, "now", store_now(store));
		r = add_der(work.record, "ca", &edition.certificate);
		work.fds[0] = fd;
		work.fds[1] = job->crl.body;
		work.fds[2] = job->crl.index;
		work.fd_count = 3;
	}
	edition_clear(&edition);
	if (r == 0) {
		job->worker = worker_give(store, &work);
		r = job->worker ? 0 : -ENOMEM;
	} else {
		record_free(work.record);
	}
	if (fd >= 0)
		close(fd);
	if (r < 0) {
		if (!err->code)
			error_set(err, r, "the CRL cannot be judged: %s", strerror(-r));
		if (job)
			job_free(job);
	}
	return r;
}
