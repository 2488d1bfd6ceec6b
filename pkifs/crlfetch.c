/*
 * Where CRLs come from by themselves: what a profile's config says, and the distribution points of
 * certificates that were validated. Each is a row with the time of its next fetch; a failing one
 * waits longer and longer, and holds up no other.
 */
#include "common/log.h"
#include "common/x509.h"
#include "pkifs/crl.h"
#include "pkifs/work.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HOUR 3600
#define DAY  86400

#define AT_ONCE     8  /* fetches */
#define OF_PROFILE  2  /* of these */
#define RETRY_FIRST 60 /* seconds, doubled with each failure */
#define RETRY_LAST  HOUR
#define NEXT_MIN    1  /* second between two fetches that succeed */
#define MARGIN_PART 10 /* of a CRL's time, before whose end the next one is fetched */
#define MARGIN_MAX  HOUR
#define JITTER_PART 20
#define CONFIGURED  "" /* the row of what the config says */
#define FETCH_URLS  3  /* tried in one job */

struct fetch {
	struct fetch *next;
	struct store *store;
	int64_t row, profile;
	struct crl_files files;
};

static struct fetch *fetches; /* under way */

/* --- when --- */

static int64_t jitter(int64_t delay)
{
	unsigned char random = 0;

	RAND_bytes(&random, 1);
	return delay / JITTER_PART * random / 256;
}

static int64_t less(int64_t one, int64_t other)
{
	return one < other ? one : other;
}

/* When to ask again for what CRL (id 0: nothing) says now: some time before its end. */
static int64_t next_time(const struct store *store, const struct record *settings,
                         const struct crl *crl)
{
	int64_t interval = record_number(settings, "crl-refresh-interval", 24) * HOUR;
	int64_t now = store_now(store), delay = interval ? interval : DAY, margin, left;

	if (crl->id && crl->next_update) {
		margin = less((crl->next_update - crl->this_update) / MARGIN_PART, MARGIN_MAX);
		left = crl->next_update - now;
		if (interval == 0 || left - margin < delay)
			delay = left > 2 * margin ? left - margin : left / 2;
	}
	delay -= jitter(delay);
	return now + (delay > NEXT_MIN ? delay : NEXT_MIN);
}

static int64_t retry_time(const struct store *store, int64_t failures, long long said)
{
	int64_t delay = failures < 7 ? (int64_t)RETRY_FIRST << (failures - 1) : RETRY_LAST;

	delay = less(delay, RETRY_LAST);
	if (said > delay)
		delay = less(said, DAY);
	return store_now(store) + delay + jitter(delay);
}

/* --- which --- */

static bool checks_crls(const struct record *settings)
{
	return record_is(settings, "revocation-check", "crl") ||
	       record_is(settings, "revocation-check", "ocsp-then-crl");
}

/* The CA itself gave it, by its protocol. */
static bool is_asked_of_ca(const char *source)
{
	return strcmp(source, "GetCRL") == 0 || strcmp(source, "CMP") == 0;
}

/* --- the job --- */

static void add_all(struct record *to, const struct record *from, const char *key)
{
	const struct field *field;
	size_t index = 0;

	while ((field = record_next(from, key, &index)))
		record_add(to, key, field->value);
}

int crl_add_urls(struct store *store, int64_t profile, const struct record *settings,
                 struct record *record)
{
	struct crl_url url;
	int64_t after = 0;
	int count = 0;

	if (record_get(settings, "crl-url")) {
		add_all(record, settings, "crl-url");
		add_all(record, settings, "crl-url-user");
		add_all(record, settings, "crl-url-password");
		record_add(record, "complete", "yes");
		return 0;
	}
	while (count < FETCH_URLS && db_crl_url_next(store->db, profile, after, &url) == 0) {
		after = url.id;
		if (*url.url && (url.kind & CRL_OWN)) {
			record_add(record, "crl-url", url.url);
			count++;
		}
		crl_url_clear(&url);
	}
	return 0;
}

/* What the server called what is still here of URL, and can be read. */
static void add_condition(struct store *store, const struct crl_url *url, struct record *record)
{
	struct crl crl, kept;

	if (!url->crl || db_crl_get(store->db, url->crl, &crl) < 0 ||
	    db_crl_of_slot(store->db, url->object, crl.slot, &kept) < 0 || kept.id != crl.id ||
	    !crl_cached(store, &crl, NULL))
		return;
	record_add(record, "crl-source", url->source);
	if (*url->etag)
		record_add(record, "etag", url->etag);
	if (*url->modified)
		record_add(record, "modified", url->modified);
}

static int compose(struct store *store, const struct crl_url *url, const struct object *profile,
                   const struct record *settings, struct record *record)
{
	const char *serial = record_get(store->conf, "serial-number");
	int r;

	record_add(record, "frame", "job");
	record_add_number(record, "job", 0);
	record_add(record, "action", "crl");
	record_add(record, "profile", profile->name);
	record_add_number(record, "now", store_now(store));
	record_add(record, "protocol", record_get(settings, "protocol"));
	record_add(record, "digest", "sha256");
	record_add(record, "allow-legacy",
	           record_is(settings, "allow-legacy", "yes") ? "yes" : "no");
	if (serial)
		record_add(record, "device-serial", serial);
	r = work_add_profile(store, profile, settings, record);
	if (r == 0 && *url->url) {
		record_add(record, "crl-url", url->url);
		crl_add_user(settings, url->url, record);
		record_add_bytes(record, "signer", url->signer.data, url->signer.length);
	} else if (r == 0) {
		r = crl_add_urls(store, profile->id, settings, record);
	}
	add_condition(store, url, record);
	return r;
}

/* --- what comes --- */

static int tell(struct store *store, const struct object *profile, const char *event,
                const char *source, const char *reason)
{
	struct record *more = record_new();
	int r;

	if (!more)
		return -ENOMEM;
	record_add(more, "crl-source", *source ? source : "the config's");
	record_add(more, "reason", reason);
	r = store_event(store, profile, event, more);
	record_free(more);
	return r;
}

/* Nothing came, or what is not to be believed (REFUSED). What is here stays. */
static int note_failure(struct store *store, const struct object *profile, struct crl_url *url,
                        const struct record *result, const char *reason, bool refused)
{
	bool new = strcmp(url->error, reason) != 0;

	log_warning("profile %s: %s", profile->name, reason);
	url->failures++;
	snprintf(url->error, sizeof url->error, "%s", reason);
	url->next = retry_time(store, url->failures,
	                       result ? record_number(result, "retry-after", -1) : -1);
	return new ? tell(store, profile, refused ? "crl-refused" : "crl-failed", url->url, reason)
	           : 0;
}

static void copy(char *to, size_t size, const struct record *result, const char *key)
{
	const char *value = record_get(result, key);

	snprintf(to, size, "%s", value && strlen(value) < size ? value : "");
}

/* CRL is what the server has. Where that is past its time, the server is asked again as if it had
 * not answered. */
static int note_success(struct store *store, const struct object *profile,
                        const struct record *settings, struct crl_url *url,
                        const struct record *result, const struct crl *crl)
{
	char ended[RFC3339_MAX], reason[128];

	url->crl = crl->id;
	copy(url->source, sizeof url->source, result, "crl-source");
	copy(url->etag, sizeof url->etag, result, "etag");
	copy(url->modified, sizeof url->modified, result, "modified");
	if (crl->next_update && crl->next_update <= store_now(store) &&
	    store_clock_trusted(store)) {
		rfc3339(crl->next_update, ended);
		snprintf(reason, sizeof reason, "the CRL that is there ended at %s", ended);
		return note_failure(store, profile, url, result, reason, false);
	}
	url->failures = 0;
	*url->error = '\0';
	url->next = next_time(store, settings, crl);
	return 0;
}

/* A base CRL may name where its deltas are (RFC 5280 §5.2.6). */
static int learn_deltas(struct store *store, const struct crl_url *url, const struct crl *crl)
{
	X509_CRL *stub = crl_cached(store, crl, NULL);
	const unsigned char *der = (const unsigned char *)url->signer.data;
	X509 *signer;
	int r;

	if (!stub || !(crl->kind & CRL_TRUSTED))
		return 0;
	signer = url->signer.length ? d2i_X509(NULL, &der, (long)url->signer.length) : NULL;
	r = crl_learn_points(store, url->object,
	                     X509_CRL_get_ext_d2i(stub, NID_freshest_crl, NULL, NULL), false,
	                     signer);
	X509_free(signer);
	ERR_clear_error();
	return r;
}

static int take(struct store *store, const struct object *profile, struct crl_files *files,
                const struct crl_url *url, const struct record *result, struct crl *crl,
                struct error *err)
{
	struct crl_arrival arrival = { .files = files, .result = result, .fetched = true };
	X509 *signer = url->signer.length
	                       ? certificate_from_der(url->signer.data, url->signer.length, NULL)
	                       : NULL;
	int r = db_savepoint(store->db);

	arrival.source = record_get(result, "crl-source");
	arrival.beside = sk_X509_new_null();
	if (signer && arrival.beside && sk_X509_push(arrival.beside, signer))
		signer = NULL;
	if (r == 0 && record_is(result, "not-modified", "yes"))
		r = db_crl_get(store->db, url->crl, crl);
	else if (r == 0)
		r = crl_arrive(store, profile, &arrival, crl, err);
	if (r < 0)
		db_undo(store->db);
	else
		r = db_release(store->db);
	sk_X509_pop_free(arrival.beside, X509_free);
	X509_free(signer);
	return r;
}

/* The result of FETCH (may be NULL) inside a change. */
static int apply(struct fetch *fetch, const struct record *result, const char *reason)
{
	struct store *store = fetch->store;
	struct record *settings = NULL;
	struct object profile;
	struct error err = { 0 };
	struct crl_url url;
	struct crl crl = { 0 };
	int r = db_crl_url_get(store->db, fetch->row, &url);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = db_object_get(store->db, url.object, &profile);
	if (r == 0)
		r = store_settings(store, &profile, &settings);
	if (r < 0)
		goto out;
	if (!result || !record_is(result, "outcome", "done")) {
		r = note_failure(store, &profile, &url, result,
		                 result ? record_get(result, "reason") : reason, false);
	} else {
		r = take(store, &profile, &fetch->files, &url, result, &crl, &err);
		if (r == 0)
			r = note_success(store, &profile, settings, &url, result, &crl);
		else if (err.code)
			r = note_failure(store, &profile, &url, result, err.text, true);
	}
	if (r == 0)
		r = db_crl_url_update(store->db, &url);
	if (r == 0 && crl.id)
		r = learn_deltas(store, &url, &crl);
out:
	record_free(settings);
	crl_url_clear(&url);
	return r;
}

static void fetch_free(struct fetch *fetch)
{
	struct fetch **at = &fetches;

	while (*at != fetch)
		at = &(*at)->next;
	*at = fetch->next;
	crl_files_drop(fetch->store, &fetch->files);
	fetch->store->due = true;
	free(fetch);
}

static void received(void *user, struct record *record, const char *reason)
{
	struct fetch *fetch = user;
	struct store *store = fetch->store;
	int r = store_begin(store);

	if (r == 0)
		store_end(store, apply(fetch, record, reason));
	record_free(record);
	fetch_free(fetch);
	store->wake = true;
}

static int begin(struct store *store, const struct crl_url *url, const struct object *profile,
                 const struct record *settings)
{
	struct worker_job work = { .record = record_new(), .received = received };
	struct fetch *fetch = calloc(1, sizeof *fetch);
	int r = work.record && fetch ? compose(store, url, profile, settings, work.record)
	                             : -ENOMEM;

	if (r == 0)
		r = crl_files_new(store, &fetch->files);
	if (r < 0) {
		record_free(work.record);
		free(fetch);
		return r;
	}
	fetch->store = store;
	fetch->row = url->id;
	fetch->profile = url->object;
	fetch->next = fetches;
	fetches = fetch;
	work.user = fetch;
	work.fds[0] = fetch->files.body;
	work.fds[1] = fetch->files.index;
	work.fds[2] = fetch->files.scratch;
	work.fd_count = 3;
	if (worker_give(store, &work)) {
		crl_files_given(&fetch->files);
		return 0;
	}
	fetch_free(fetch);
	return -ENOMEM;
}

/* --- what is due --- */

static bool is_under_way(int64_t row)
{
	for (const struct fetch *fetch = fetches; fetch; fetch = fetch->next)
		if (fetch->row == row)
			return true;
	return false;
}

/* How many run (PROFILE 0: of all). */
static int running(int64_t profile)
{
	int count = 0;

	for (const struct fetch *fetch = fetches; fetch; fetch = fetch->next)
		count += !profile || fetch->profile == profile;
	return count;
}

/* Whether the config's way brings what certificates of the CA name. */
static bool is_brought(struct store *store, const struct crl_url *url)
{
	struct crl_url configured;
	bool brought;

	if (!*url->url || !(url->kind & CRL_OWN) ||
	    db_crl_url_find(store->db, url->object, CONFIGURED, &configured) < 0)
		return false;
	brought = configured.failures == 0;
	crl_url_clear(&configured);
	return brought;
}

static int postpone(struct store *store, struct crl_url *url, int64_t delay)
{
	int r = store_begin(store);

	url->next = store_now(store) + delay;
	return r < 0 ? r : store_end(store, db_crl_url_update(store->db, url));
}

/* CMP wants to know who asks: it goes as a request, which has all that proves us. */
static int ask_by_request(struct store *store, const struct object *profile, struct crl_url *url)
{
	int r = store_begin(store);

	if (r < 0)
		return r;
	url->next = retry_time(store, ++url->failures, -1); /* unless it brings one */
	r = db_crl_url_update(store->db, url);
	if (r == 0)
		r = request_by_itself(store, profile, CRL_BY_ITSELF);
	return store_end(store, r);
}

/* URL is due. */
static void go(struct store *store, struct crl_url *url)
{
	struct record *settings = NULL;
	struct edition edition = { 0 };
	struct object profile;
	int r = db_object_get(store->db, url->object, &profile);

	if (r == 0)
		r = store_settings(store, &profile, &settings);
	if (r == 0)
		r = db_edition_get(store->db, profile.edition, &edition);
	if (r == 0 && (!checks_crls(settings) || !edition.certificate.length))
		postpone(store, url, DAY); /* another config plans it again */
	else if (r == 0 && is_brought(store, url))
		postpone(store, url, RETRY_LAST);
	else if (r == 0 && strcmp(url->source, "CMP") == 0)
		ask_by_request(store, &profile, url);
	else if (r == 0 && begin(store, url, &profile, settings) < 0)
		postpone(store, url, RETRY_FIRST);
	edition_clear(&edition);
	record_free(settings);
}

void crl_fetch_run(struct store *store)
{
	static int64_t before = INT64_MAX;
	int64_t next = 0, after = 0, now = store_now(store);
	struct crl_url url;

	if (store->stopping)
		return;
	store_clock_hurry(store, &before, DAY, db_crl_url_hurry);
	while (running(0) < AT_ONCE && db_crl_url_due(store->db, now, next, after, &url) == 0) {
		next = url.next;
		after = url.id;
		if (!is_under_way(url.id) && running(url.object) < OF_PROFILE)
			go(store, &url);
		crl_url_clear(&url);
	}
}

/* --- what others tell --- */

int crl_fetch_plan(struct store *store, int64_t profile)
{
	struct record *settings = NULL;
	struct crl_url url;
	struct object object;
	int r = db_object_get(store->db, profile, &object);

	if (r == 0)
		r = store_settings(store, &object, &settings);
	if (r < 0)
		return r;
	if (record_get(settings, "crl-url")) {
		r = crl_url_named(store, profile, CONFIGURED, true, NULL);
	} else if (db_crl_url_find(store->db, profile, CONFIGURED, &url) == 0) {
		if (!is_asked_of_ca(url.source))
			r = db_crl_url_remove(store->db, profile, url.id);
		crl_url_clear(&url);
	}
	record_free(settings);
	store->due = true;
	return r < 0 ? r : db_crl_url_set_next(store->db, profile, store_now(store));
}

int crl_refreshed(struct store *store, const struct object *object, const struct record *result,
                  const struct crl *crl)
{
	struct record *settings = NULL;
	struct crl_url url = { 0 };
	const char *source = record_get(result, "crl-source");
	int64_t now = store_now(store);
	int r = store_settings(store, object, &settings);

	if (r == 0)
		r = db_crl_url_set_next(store->db, object->id, now);
	if (r == 0 && source && is_asked_of_ca(source))
		r = crl_url_named(store, object->id, CONFIGURED, true, NULL);
	if (r == 0) {
		r = db_crl_url_find(store->db, object->id, CONFIGURED, &url);
		if (r == -ENOENT && source)
			r = db_crl_url_find(store->db, object->id, source, &url);
	}
	if (r == 0)
		r = note_success(store, object, settings, &url, result, crl);
	if (r == 0)
		r = db_crl_url_update(store->db, &url);
	if (r == 0)
		r = learn_deltas(store, &url, crl);
	crl_url_clear(&url);
	record_free(settings);
	store->due = true;
	return r == -ENOENT ? 0 : r;
}

int crl_fetch_describe(struct store *store, int64_t profile, struct record *status)
{
	char at[RFC3339_MAX];
	struct crl_url url;
	int64_t after = 0, next = INT64_MAX;
	int r;

	while ((r = db_crl_url_next(store->db, profile, after, &url)) == 0) {
		after = url.id;
		next = less(next, url.next);
		if (*url.error)
			record_addf(status, "crl-fetch-error", "%s%s%s", url.url,
			            *url.url ? ": " : "", url.error);
		crl_url_clear(&url);
	}
	rfc3339(next, at);
	if (next != INT64_MAX)
		record_add(status, "crl-next-fetch", at);
	return r == -ENOENT ? 0 : r;
}
