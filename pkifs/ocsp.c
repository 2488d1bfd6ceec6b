#include "pkifs/ocsp.h"

#include "common/log.h"
#include "common/ocsp.h"
#include "common/x509.h"
#include "pkifs/believed.h"
#include "pkifs/watch.h"
#include "pkifs/work.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#define HOUR 3600

#define KEPT_MAX    4096 /* certificates of a profile of which something is known */
#define OF_PROFILE  2    /* questions of a profile at once: a dead server stops no other */
#define PAUSE_MIN   30   /* seconds between two questions, after a failure doubled */
#define PAUSE_MAX   HOUR
#define ASKED_TWICE 120 /* before a question that was lost is asked again */
#define REFRESH_MIN 30  /* an answer is not replaced sooner, nor later */
#define REFRESH_MAX (7 * 24 * HOUR)
#define USED_OFTEN  (HOUR / 2) /* no oftener is noted that one was used */
#define CLOCK_SKEW  300

/* --- what is known --- */

static int name_of(X509 *certificate, unsigned char name[32])
{
	unsigned length = 32;

	return X509_digest(certificate, EVP_sha256(), name, &length) == 1 ? 0 : -ENOMEM;
}

static int find(const struct sources *source, X509 *certificate, struct ocsp_row *row)
{
	unsigned char name[32];
	int r = name_of(certificate, name);

	return r < 0 ? r : db_ocsp_get(source->store->db, source->profile, name, row);
}

static bool is_url(const char *text)
{
	return strncasecmp(text, "http://", 7) == 0 || strncasecmp(text, "https://", 8) == 0;
}

/*
 * The responders of CERTIFICATE: those that SETTINGS name, else those that it names itself. Adds
 * them to RECORD (may be NULL); how many.
 */
static int responders(const struct record *settings, X509 *certificate, struct record *record)
{
	STACK_OF(OPENSSL_STRING) * own;
	const struct field *url;
	size_t index = 0;
	int count = 0;

	for (; (url = record_next(settings, "ocsp-url", &index)); count++)
		if (record)
			record_add(record, "ocsp-url", url->value);
	if (count)
		return count;
	own = X509_get1_ocsp(certificate);
	for (int i = 0; i < sk_OPENSSL_STRING_num(own); i++) {
		const char *text = sk_OPENSSL_STRING_value(own, i);

		if (!is_url(text))
			continue;
		if (record)
			record_add(record, "ocsp-url", text);
		count++;
	}
	X509_email_free(own);
	return count;
}

static bool counts(const struct store *store, const struct ocsp_row *row)
{
	return row->response.length &&
	       (row->until > store_now(store) || !store_clock_trusted(store));
}

void ocsp_verdict(const struct sources *source, X509 *certificate, struct path_revocation *verdict)
{
	struct ocsp_row row = { 0 };
	char time[RFC3339_MAX];

	*verdict = (struct path_revocation){ .state = PATH_UNKNOWN, .reason = -1 };
	if (find(source, certificate, &row) < 0) {
		snprintf(verdict->how, sizeof verdict->how, "%s",
		         responders(source->settings, certificate, NULL)
		                 ? "its OCSP responder was not asked yet"
		                 : "no OCSP responder is known");
		return;
	}
	if (row.response.length && row.status == V_OCSP_CERTSTATUS_REVOKED) {
		verdict->state = PATH_REVOKED;
		verdict->time = row.revoked_at;
		verdict->reason = (int)row.reason;
		snprintf(verdict->how, sizeof verdict->how, "OCSP");
	} else if (counts(source->store, &row)) {
		verdict->state = PATH_GOOD;
		rfc3339(row.until, time);
		snprintf(verdict->how, sizeof verdict->how, "OCSP, valid until %s", time);
	} else {
		snprintf(verdict->how, sizeof verdict->how, "%.159s",
		         *row.error ? row.error : "its OCSP responder was not asked yet");
	}
	ocsp_row_clear(&row);
}

/* --- what is wanted --- */

static int add_der(X509 *certificate, struct blob *blob)
{
	unsigned char *der = NULL;
	int r = certificate_to_der(certificate, &der, &blob->length);

	blob->data = r == 0 ? malloc(blob->length) : NULL;
	if (blob->data)
		memcpy(blob->data, der, blob->length);
	OPENSSL_free(der);
	return blob->data ? 0 : -ENOMEM;
}

static int new_row(const struct sources *source, X509 *certificate, X509 *issuer,
                   struct ocsp_row *row)
{
	int r;

	*row = (struct ocsp_row){ .profile = source->profile };
	r = name_of(certificate, row->name);
	if (r == 0)
		r = add_der(certificate, &row->certificate);
	return r == 0 ? add_der(issuer, &row->issuer) : r;
}

int ocsp_want(const struct sources *source, int64_t object, X509 *certificate, X509 *issuer,
              int64_t *again, struct blob *good)
{
	struct store *store = source->store;
	int64_t now = store_now(store);
	struct ocsp_row row = { 0 };
	int r;

	if (!responders(source->settings, certificate, NULL))
		return -ENOENT;
	r = find(source, certificate, &row);
	if (r == -ENOENT)
		r = new_row(source, certificate, issuer, &row);
	if (r == 0) {
		bool set_back = row.later > now + REFRESH_MAX || row.ask > now + PAUSE_MAX;
		bool wanted = set_back || (!row.ask && row.later <= now);

		if (wanted)
			row.ask = row.later = now;
		if (wanted || (object && object != row.object) || now >= row.used + USED_OFTEN ||
		    now < row.used) {
			row.object = object ? object : row.object;
			row.used = now;
			r = db_ocsp_put(store->db, &row, KEPT_MAX);
		}
		store->due |= wanted;
	}
	*again = row.later > now ? row.later : now + PAUSE_MIN;
	if (row.until > now && row.until < *again) /* what it says ends before the next one comes */
		*again = row.until;
	if (r == 0 && good && row.status == V_OCSP_CERTSTATUS_GOOD && counts(store, &row)) {
		*good = row.response;
		row.response = (struct blob){ 0 };
	}
	ocsp_row_clear(&row);
	return r;
}

/* --- the questions --- */

static struct question {
	struct question *next;
	struct store *store;
	int64_t row, profile;
	unsigned char nonce[OCSP_NONCE_SIZE];
	bool has_nonce, allow_legacy;
	int64_t refresh; /* seconds, at most */
} * questions;           /* under way */

static size_t under_way(int64_t profile)
{
	size_t count = 0;

	for (const struct question *question = questions; question; question = question->next)
		count += question->profile == profile;
	return count;
}

static bool is_asked(int64_t row)
{
	const struct question *question = questions;

	while (question && question->row != row)
		question = question->next;
	return question;
}

static void drop(struct question *question)
{
	struct question **at = &questions;

	while (*at != question)
		at = &(*at)->next;
	*at = question->next;
	free(question);
}

static X509 *read_der(const struct blob *blob)
{
	return certificate_from_der(blob->data, blob->length, NULL);
}

/* Who has heard a later word is not to believe an earlier one again, in time or not (attack 41). */
static int check_later(const struct ocsp_question *asked, const struct ocsp_row *row,
                       const struct ocsp_answer *answer, struct error *err)
{
	struct ocsp_question once = *asked;
	struct ocsp_answer kept;
	char time[RFC3339_MAX];

	once.nonce = NULL;
	once.clock_trusted = false;
	if (!row->response.length ||
	    ocsp_judge(&once, row->response.data, row->response.length, &kept, NULL) < 0 ||
	    answer->this_update >= kept.this_update ||
	    (asked->clock_trusted && kept.this_update > asked->now + CLOCK_SKEW))
		return 0;
	rfc3339(answer->this_update, time);
	return error_set(err, -EBADMSG, "the OCSP answer is of %s, older than the one before",
	                 time);
}

/* What the worker brought, judged once more: its word decides nothing. */
static int judge(const struct question *question, const struct ocsp_row *row,
                 const struct field *response, struct ocsp_answer *answer, struct error *err)
{
	struct ocsp_question asked = {
		.certificate = read_der(&row->certificate),
		.issuer = read_der(&row->issuer),
		.nonce = question->has_nonce ? question->nonce : NULL,
		.now = store_now(question->store),
		.clock_trusted = store_clock_trusted(question->store),
		.allow_legacy = question->allow_legacy,
	};
	int r = asked.certificate && asked.issuer
	                ? ocsp_judge(&asked, response->value, response->length, answer, err)
	                : error_set(err, -ENOMEM, "the certificate asked for cannot be read");

	if (r == 0)
		r = check_later(&asked, row, answer, err);
	X509_free(asked.certificate);
	X509_free(asked.issuer);
	return r;
}

/* An answer is replaced halfway, or when the profile's next CRL would come. */
static int64_t refresh(const struct question *question, const struct ocsp_answer *answer)
{
	int64_t now = store_now(question->store), half = (answer->until - answer->this_update) / 2;
	int64_t later = answer->this_update + half;

	if (question->refresh && later > now + question->refresh)
		later = now + question->refresh;
	if (later > now + REFRESH_MAX)
		later = now + REFRESH_MAX;
	return later > now + REFRESH_MIN ? later : now + REFRESH_MIN;
}

static int keep_answer(const struct question *question, struct ocsp_row *row,
                       const struct field *response, const struct ocsp_answer *answer)
{
	blob_clear(&row->response);
	row->response.data = malloc(response->length);
	if (!row->response.data)
		return -ENOMEM;
	memcpy(row->response.data, response->value, response->length);
	row->response.length = response->length;
	row->status = answer->status;
	row->reason = answer->reason;
	row->revoked_at = answer->revoked_at;
	row->until = answer->until;
	row->ask = 0;
	row->later = refresh(question, answer);
	row->failures = 0;
	*row->error = 0;
	return 0;
}

/* No answer: what is known counts on, and the question is asked ever later, within the hour. */
static void keep_failure(const struct question *question, struct ocsp_row *row,
                         const struct record *result, const char *reason)
{
	long long said = result ? record_number(result, "retry-after", -1) : -1;
	int64_t pause = PAUSE_MIN, now = store_now(question->store);

	row->failures++;
	for (int64_t i = 1; i < row->failures && pause < PAUSE_MAX; i++)
		pause *= 2;
	if (said > pause)
		pause = said;
	row->later = now + (pause < PAUSE_MAX ? pause : PAUSE_MAX);
	row->ask = now < row->used + 2 * HOUR ? row->later : 0;
	snprintf(row->error, sizeof row->error, "%s", reason);
}

static int take(const struct question *question, const struct record *result, const char *reason)
{
	struct store *store = question->store;
	const struct field *response = NULL;
	struct ocsp_answer answer;
	struct error err = { 0 };
	struct ocsp_row row;
	int r = db_ocsp_find(store->db, question->row, &row);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (!result)
		error_set(&err, -EIO, "%s", reason);
	else if (!record_is(result, "outcome", "done"))
		error_set(&err, -EIO, "%s",
		          record_get(result, "reason") ? record_get(result, "reason") : "?");
	else if (!(response = record_find(result, "ocsp")))
		error_set(&err, -EBADMSG, "the worker brought no OCSP answer");
	else
		judge(question, &row, response, &answer, &err);
	if (!err.code)
		r = keep_answer(question, &row, response, &answer);
	else
		keep_failure(question, &row, result, err.text);
	if (r == 0)
		r = db_ocsp_put(store->db, &row, KEPT_MAX);
	believed_forget(); /* it may be of a CA above peers, too */
	if (r == 0)
		r = row.object ? watch_look(store, row.object) : watch_profile(store, row.profile);
	ocsp_row_clear(&row);
	return r;
}

static void received(void *user, struct record *record, const char *reason)
{
	struct question *question = user;
	struct store *store = question->store;
	int r = store_begin(store);

	if (r == 0)
		store_end(store, take(question, record, reason));
	drop(question);
	record_free(record);
	store->due = true;
}

static int compose(struct question *question, const struct ocsp_row *row,
                   const struct record *settings, struct record *record)
{
	struct store *store = question->store;
	X509 *certificate = read_der(&row->certificate);

	if (!certificate)
		return -ENOMEM;
	question->allow_legacy = record_is(settings, "allow-legacy", "yes");
	question->refresh = record_number(settings, "crl-refresh-interval", 24) * HOUR;
	question->has_nonce = record_is(settings, "ocsp-nonce", "enable");
	record_add(record, "frame", "job");
	record_add_number(record, "job", 0);
	record_add(record, "action", "ocsp");
	record_add_number(record, "now", store_now(store));
	record_add(record, "clock-trusted", store_clock_trusted(store) ? "yes" : "no");
	record_add(record, "allow-legacy", question->allow_legacy ? "yes" : "no");
	record_add_bytes(record, "certificate", row->certificate.data, row->certificate.length);
	record_add_bytes(record, "ca", row->issuer.data, row->issuer.length);
	if (question->has_nonce) {
		RAND_bytes(question->nonce, sizeof question->nonce);
		record_add_bytes(record, "nonce", question->nonce, sizeof question->nonce);
	}
	responders(settings, certificate, record);
	X509_free(certificate);
	return work_add_tls_ca(store, settings, record);
}

/* Gives the question of ROW to a worker. */
static int ask(struct store *store, const struct ocsp_row *row)
{
	struct worker_job work = { .received = received, .record = record_new() };
	struct question *question = calloc(1, sizeof *question);
	struct record *settings = NULL;
	struct object profile;
	int r = question && work.record ? 0 : -ENOMEM;

	if (r == 0)
		r = db_object_get(store->db, row->profile, &profile);
	if (r == 0)
		r = store_settings(store, &profile, &settings);
	if (r == 0) {
		*question = (struct question){ .store = store,
			                       .row = row->id,
			                       .profile = row->profile };
		r = compose(question, row, settings, work.record);
	}
	record_free(settings);
	work.user = question;
	if (r == 0 && worker_give(store, &work)) {
		question->next = questions;
		questions = question;
		return 0;
	}
	if (r < 0) /* else it is freed already */
		record_free(work.record);
	free(question);
	return r < 0 ? r : -ENOMEM;
}

/* One question of PROFILE, as a change of its own: it is asked again if this process dies now. */
static int ask_one(struct store *store, int64_t profile)
{
	int64_t id, now = store_now(store);
	struct ocsp_row row;
	int r = db_ocsp_due(store->db, profile, now, &id);

	if (r == 0)
		r = db_ocsp_find(store->db, id, &row);
	if (r < 0)
		return r;
	r = store_begin(store);
	if (r == 0)
		r = store_end(store, db_ocsp_ask(store->db, id, now + ASKED_TWICE));
	if (r == 0 && !is_asked(id))
		r = ask(store, &row);
	ocsp_row_clear(&row);
	return r;
}

/* Each profile has its turn. */
void ocsp_run(struct store *store)
{
	int64_t profile = 0, now = store_now(store);

	if (store->stopping)
		return;
	while (db_ocsp_profile(store->db, profile, now, &profile) == 0)
		while (under_way(profile) < OF_PROFILE && ask_one(store, profile) == 0)
			;
}
