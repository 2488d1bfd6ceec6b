#include "pkifs/jobs.h"

#include "common/log.h"
#include "common/x509.h"
#include "pkifs/account.h"
#include "pkifs/autoenroll.h"
#include "pkifs/challenge.h"
#include "pkifs/crl.h"
#include "pkifs/dnsrecord.h"
#include "pkifs/keyring.h"
#include "pkifs/object.h"
#include "pkifs/ocsp.h"
#include "pkifs/publish.h"
#include "pkifs/renewal.h"
#include "pkifs/standing.h"
#include "pkifs/suggest.h"
#include "pkifs/tree.h"
#include "pkifs/tunnel.h"
#include "pkifs/watch.h"
#include "pkifs/work.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OPEN_SECONDS 2 /* how long a request waits for its writer to close it */

/* A request that runs. */
struct job {
	struct job *next;
	struct store *store;
	int64_t request, object, profile;
	char action[24];
	struct worker *worker;
	int64_t key;      /* the key that a certificate is asked for */
	int64_t account;  /* the key that signs for the ACME account */
	uintptr_t number; /* what answers that are still to come know it by */
	struct crl_files crl;
	bool has_crl;
	struct error rejected;     /* why what the last checkpoint brought would not be taken */
	struct record *challenges; /* of its last checkpoint */
};

static struct jobs {
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
	job->store->due = true; /* another one may run */
	if (job->has_crl)
		crl_files_drop(job->store, &job->crl);
	challenges_close(job->store, job->request);
	dns_records_close(job->store, job->request);
	record_free(job->challenges);
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
		if (job->request == request)
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

/* The worker did it: what it brought comes into force, or is rejected and leaves no trace. */
static int take_done(struct job *job, struct standing *standing, const struct record *result)
{
	struct db *db = job->store->db;
	struct error err = { 0 };
	int r = db_savepoint(db);

	if (r == 0)
		r = work_take(job->store, standing, job->key, job->has_crl ? &job->crl : NULL,
		              result, &err);
	if (r < 0)
		db_undo(db);
	else
		r = db_release(db);
	if (r < 0 && err.code)
		return standing_finish(job->store, standing, REQUEST_REJECTED, err.text);
	return r < 0 ? r : standing_finish(job->store, standing, REQUEST_DONE, NULL);
}

/* The result inside a change. */
static int apply(struct job *job, const struct record *result)
{
	const char *reason = record_get(result, "reason") ? record_get(result, "reason") : "";
	long long after = record_number(result, "retry-after", -1);
	bool done = record_is(result, "outcome", "done");
	bool refused = record_is(result, "outcome", "refused");
	bool pending = record_is(result, "outcome", "waiting"), other_key;
	long long again = 0;
	struct standing standing;
	int r = standing_get(job->store, job->object, &standing);

	if (r < 0)
		return r;
	other_key = account_has_changed(job->store, &standing, job->account, &again);
	if (refused && other_key) { /* the CA refused a key that is its account's no more */
		refused = false;
		after = again;
	}
	standing.request.answered |= done || refused || record_is(result, "answered", "yes");
	if (job->profile)
		renewal_asked(job->store, job->profile, done || refused || pending);
	if (standing.request.id == job->request) /* else nobody asks for it any more */
		r = standing_checkpoint(&standing, result, job->key);
	else
		r = 1;
	if (r == 0 && !other_key)
		r = account_take(job->store, &standing, result);
	if (r == 0 && job->profile && standing.object.kind == KIND_LOCAL)
		r = work_take_next(job->store, &standing, result);
	if (r == 0 && done)
		r = suggestion_take(job->store, &standing.object, result);
	if (r == 0 && done)
		r = take_done(job, &standing, result);
	else if (r == 0 && refused)
		r = standing_finish(job->store, &standing, REQUEST_FAILED, reason);
	else if (r == 0)
		r = standing_later(job->store, &standing, pending, reason, after);
	standing_clear(&standing);
	return r < 0 ? r : 0;
}

/* At once, or with a REASON after the retry interval. */
static int try_again(struct store *store, struct standing *standing, const char *reason)
{
	if (reason)
		return standing_later(store, standing, false, reason, -1);
	standing->request.pending = false;
	standing->request.next_attempt = 0;
	return standing_set(store, standing, REQUEST_WAITING, NULL);
}

/*
 * The job has no result: its process ended, or the store could not take what it brought. REASON as
 * in try_again.
 */
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
			r = try_again(store, &standing, reason);
		standing_clear(&standing);
	}
	store_end(store, r);
}

/*
 * A process of ours died with the job: it is taken up again at once. Where that happens again and
 * again, the job itself may be the cause.
 */
#define ACCIDENTS 3
static void had_accident(struct job *job, const char *reason)
{
	static struct {
		int64_t request;
		int count;
	} accidents[64];
	size_t slot = (size_t)job->request % COUNT(accidents);

	if (accidents[slot].request != job->request)
		accidents[slot].count = 0;
	accidents[slot].request = job->request;
	failed(job, ++accidents[slot].count > ACCIDENTS ? reason : NULL);
}

static void challenges_answered(void *user, const char *notice)
{
	struct job *job = job_numbered(user);

	if (job && job->worker)
		worker_go(job->worker, job->request, job->rejected.code ? job->rejected.text : NULL,
		          notice);
}

static void checkpoint_done(void *user, int code)
{
	struct job *job = job_numbered(user);

	if (!job)
		return;
	if (code < 0) /* what can't be stored must not be sent */
		job_abort(job);
	else if (!dns_records_open(job->store, job->request, job->profile, job->challenges,
	                           challenges_answered, number_of(job)))
		challenges_open(job->store, job->request, job->challenges, challenges_answered,
		                number_of(job));
}

static void checkpoint(struct job *job, const struct record *record)
{
	struct store *store = job->store;
	struct standing standing;
	int r = store_begin(store);

	record_free(job->challenges);
	job->challenges = record_copy(record);
	if (!job->challenges && r == 0)
		r = store_end(store, -ENOMEM);
	if (r == 0) {
		r = standing_get(store, job->object, &standing);
		if (r == 0) {
			job->rejected = (struct error){ 0 };
			r = work_judge(store, &standing, job->key, record, &job->rejected);
			if (r == 0)
				r = standing_checkpoint(&standing, record, job->key);
			if (r == 0)
				r = dns_records_note(store, job->profile, record);
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

	if (record && record_is(record, "frame", "checkpoint")) {
		checkpoint(job, record);
		record_free(record);
		return;
	}
	job->worker = NULL;
	if (!record) {
		had_accident(job, reason);
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

/* Hands the job to a worker. */
static int give(struct job *job, const struct standing *standing)
{
	struct worker_job work = { .record = record_new(), .received = received, .user = job };
	int r;

	if (!work.record)
		return -ENOMEM;
	work.grants[0] = (struct grant){ "new", job->key };
	r = work_compose(job->store, standing, job->key, &work);
	job->account = account_is_used(standing) ? work.grants[2].key : 0;
	if (r == 0 && strcmp(work_action(standing), "crl") == 0) {
		r = crl_files_new(job->store, &job->crl);
		job->has_crl = r == 0;
		work.fds[0] = job->crl.body;
		work.fds[1] = job->crl.index;
		work.fds[2] = job->crl.scratch;
		work.fd_count = 3;
	}
	if (r < 0) {
		record_free(work.record);
		return r;
	}
	job->worker = worker_give(job->store, &work);
	if (job->worker && job->has_crl)
		crl_files_given(&job->crl);
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
	bool anew = (record_is(standing->config, "re-generate-keypair", "yes") ||
	             strcmp(standing->object.state, "revoked") == 0) &&
	            standing->edition.version;

	if (resumed)
		return resumed;
	if (strcmp(standing->request.action, "revoke") == 0)
		return standing->edition.key_pair;
	if (standing->edition.next_key)
		return standing->edition.next_key;
	return anew ? 0 : standing->edition.key_pair;
}

static bool needs_key(const struct standing *standing)
{
	return standing->object.kind == KIND_LOCAL;
}

static void step(struct job *job);

static void account_ready(void *user, const char *reason)
{
	struct job *job = job_numbered(user);

	if (job && *reason) {
		failed(job, reason);
		job_free(job);
	} else if (job) {
		step(job);
	}
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
	r = account_prepare(store, &standing, account_ready, number_of(job));
	if (r == 0)
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
		r = standing_finish(job->store, &standing, REQUEST_DONE, NULL);
	standing_clear(&standing);
	return r;
}

static void key_made(void *user, const struct record *answer, const struct error *err)
{
	struct job *job = job_numbered(user);
	struct store *store;
	int r = 0;

	if (!job)
		return;
	store = job->store;
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

static bool may_run(const struct store *store)
{
	return jobs.count < workers_limit(store);
}

/* Whether another job may ask PROFILE: no profile has more than half of the workers. */
static bool may_ask(const struct store *store, int64_t profile)
{
	size_t share = (workers_limit(store) + 1) / 2, same = 0;

	for (const struct job *job = jobs.first; job; job = job->next)
		same += job->profile == profile;
	return may_run(store) && (!profile || same < share);
}

/* Neither under way, nor still being written. */
static bool may_begin(struct store *store, const struct request *request)
{
	int64_t age = store_now(store) - request->created;

	return !job_of(request->id) &&
	       (request->state != REQUEST_QUEUED || !request_is_open(store, request->id) ||
	        age < 0 || age >= OPEN_SECONDS);
}

static int run_state(struct store *store, struct standing *standing)
{
	bool first = standing->request.state == REQUEST_QUEUED;
	char error[sizeof standing->request.error];
	int r;

	memcpy(error, standing->request.error, sizeof error);
	r = standing_set(store, standing, REQUEST_RUNNING, *error ? error : NULL);
	return r == 0 && first ? standing_event(store, standing, "request") : r;
}

static void begin(struct store *store, const struct request *request)
{
	struct standing standing;
	struct job *job;
	int r = standing_get(store, request->object, &standing);

	if (r < 0)
		return;
	if (standing.object.kind == KIND_IPSEC) { /* that is done by another process */
		tunnel_begin(store, &standing);
		standing_clear(&standing);
		return;
	}
	standing.request.profile = standing.profile.id; /* the config may name another one now */
	standing.request.next_attempt = 0; /* whatever the clock says after a restart */
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

/* Begins what is due of PROFILE (0: what asks none). */
static void run_profile(struct store *store, int64_t profile)
{
	struct request request, last = { 0 };
	int64_t now = store_now(store);

	while (may_ask(store, profile) &&
	       db_request_due(store->db, profile, now, &last, &request) == 0) {
		last.id = request.id;
		last.next_attempt = request.next_attempt;
		if (may_begin(store, &request))
			begin(store, &request);
		request_clear(&request);
	}
}

void jobs_run(struct store *store)
{
	static int64_t last; /* the profile that had its turn last */
	static int64_t before = INT64_MAX;
	int64_t first = last, profile;
	bool round = false; /* all above it were asked: on with the lowest */

	if (store->stopping)
		return;
	store_clock_hurry(store, &before, STANDING_LATEST, db_request_hurry);
	while (may_run(store)) {
		if (db_request_profile(store->db, last, &profile) == 0) {
			last = profile;
			run_profile(store, profile);
		} else if (!round) {
			round = true;
			last = -1;
		} else {
			break;
		}
		if (round && last >= first)
			break;
	}
	auto_enroll_run(store); /* what they ask for begins when that is durable */
	renewal_run(store);
	crl_fetch_run(store);
	watch_run(store);
	ocsp_run(store);
	tunnels_run(store);
	keyrings_run(store);
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

	while (job && job->object != object)
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
		r = auto_enroll_ended(store, object->id, true);
		if (r == 0)
			r = standing_finish(store, &standing, REQUEST_FAILED, "cancelled");
		if (r == 0)
			r = jobs_forget(store, object->id);
	}
	standing_clear(&standing);
	return r;
}

/* A profile's own request may be of what was mended: it is tried now, and `wait` waits for that. */
static int reconfigured(struct store *store, struct standing *standing, const struct object *object)
{
	struct request *request = &standing->request;
	bool own = request->object == object->id;

	request->next_attempt =
		own ? store_now(store) : request->changed + standing_delay(store, standing);
	if (own)
		*request->error = '\0';
	return db_request_update(store->db, request);
}

int jobs_reconfigured(struct store *store, const struct object *object)
{
	struct request request;
	int64_t after = 0;
	int r = 0;

	if (object->kind != KIND_CA)
		return 0;
	while (r == 0 && db_request_next(store->db, after, &request) == 0) {
		struct standing standing;

		after = request.id;
		if (request.state == REQUEST_WAITING && request.profile == object->id &&
		    standing_get(store, request.object, &standing) == 0) {
			r = reconfigured(store, &standing, object);
			standing_clear(&standing);
		}
		request_clear(&request);
	}
	return r;
}
