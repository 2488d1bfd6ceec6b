#include "pkifs/suggest.h"

#include "common/log.h"
#include "common/x509.h"
#include "pkifs/object.h"
#include "pkifs/renewal.h"
#include "pkifs/work.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

/* Seconds between two questions: what the CA says, within these bounds (RFC 9773 §4.3). */
#define ASK_MIN     60
#define ASK_MAX     86400
#define ASK_DEFAULT 21600
#define ASKED_TWICE 900 /* before a question that was lost is asked again */
#define AT_ONCE     4   /* questions; */
#define SPREAD      300 /* others come some time within these seconds */

static struct {
	int count; /* under way */
} questions;

static void meta_name(char name[64], int64_t object)
{
	snprintf(name, 64, "renewal-info-%lld", (long long)object);
}

static int64_t number(const struct record *record, const char *key)
{
	return record_number(record, key, 0);
}

static void copy(char *to, size_t size, const char *text)
{
	snprintf(to, size, "%s", text ? text : "");
}

int suggestion_get(struct store *store, int64_t object, int64_t row, struct suggestion *suggestion)
{
	struct record *kept = NULL;
	struct blob value = { 0 };
	char name[64];
	int64_t now = store_now(store);
	int r;

	*suggestion = (struct suggestion){ .version = row };
	meta_name(name, object);
	r = db_meta_get(store->db, name, &value);
	if (r == 0)
		r = record_decode((const unsigned char *)value.data, value.length, &kept);
	blob_clear(&value);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	copy(suggestion->url, sizeof suggestion->url, record_get(kept, "url"));
	if (number(kept, "version") == row) {
		suggestion->start = number(kept, "start");
		suggestion->end = number(kept, "end");
		suggestion->at = number(kept, "at");
		suggestion->failures = number(kept, "failures");
		suggestion->ask = number(kept, "ask");
		copy(suggestion->reason, sizeof suggestion->reason, record_get(kept, "reason"));
	}
	if (suggestion->ask > now + ASK_MAX) /* the clock was set back */
		suggestion->ask = now;
	record_free(kept);
	return 0;
}

static int keep(struct store *store, int64_t object, const struct suggestion *suggestion)
{
	struct record *kept = record_new();
	unsigned char *bytes = NULL;
	char name[64];
	size_t length;
	int r;

	if (!kept)
		return -ENOMEM;
	record_add(kept, "url", suggestion->url);
	record_add_number(kept, "version", suggestion->version);
	record_add_number(kept, "start", suggestion->start);
	record_add_number(kept, "end", suggestion->end);
	record_add_number(kept, "at", suggestion->at);
	record_add_number(kept, "ask", suggestion->ask);
	record_add_number(kept, "failures", suggestion->failures);
	record_add(kept, "reason", suggestion->reason);
	meta_name(name, object);
	r = record_encode(kept, &bytes, &length);
	if (r == 0)
		r = db_meta_set(store->db, name, bytes, length);
	OPENSSL_free(bytes);
	record_free(kept);
	return r;
}

int suggestion_forget(struct store *store, const struct object *object)
{
	char name[64];

	meta_name(name, object->id);
	return db_meta_remove(store->db, name);
}

int suggestion_take(struct store *store, const struct object *object, const struct record *result)
{
	struct suggestion suggestion = { .version = 0 };
	const char *url = record_get(result, "renewal-info");

	if (object->kind != KIND_LOCAL || !record_find(result, "certificate"))
		return 0;
	if (!url || strlen(url) >= sizeof suggestion.url)
		return suggestion_forget(store, object);
	copy(suggestion.url, sizeof suggestion.url, url);
	return keep(store, object->id, &suggestion);
}

/* --- the question --- */

struct question {
	struct store *store;
	int64_t object, version;
};

/* A moment of the window, all equally likely. */
static int64_t draw(int64_t start, int64_t end)
{
	uint64_t random = 0;

	RAND_bytes((unsigned char *)&random, sizeof random);
	return end > start ? start + (int64_t)(random % (uint64_t)(end - start + 1)) : start;
}

static void take_window(const struct record *result, struct suggestion *suggestion)
{
	int64_t start = number(result, "window-start"), end = number(result, "window-end");

	if (start != suggestion->start || end != suggestion->end)
		suggestion->at = draw(start, end);
	suggestion->start = start;
	suggestion->end = end;
	suggestion->failures = 0;
	copy(suggestion->reason, sizeof suggestion->reason, record_get(result, "explanation"));
	text_printable(suggestion->reason);
}

/* Seconds until the next question: after a failure later and later. */
static int64_t pause_of(const struct suggestion *suggestion, const struct record *result)
{
	long long said = result ? record_number(result, "retry-after", -1) : -1;
	int64_t pause = ASK_DEFAULT;

	if (suggestion->failures && suggestion->failures < 9)
		pause = (int64_t)ASK_MIN << (suggestion->failures - 1);
	if (said >= 0)
		pause = said;
	return pause < ASK_MIN ? ASK_MIN : pause > ASK_MAX ? ASK_MAX : pause;
}

/* What came of the question; RESULT may be NULL. The certificate may be another one by now. */
static int answer(struct question *question, const struct record *result)
{
	struct store *store = question->store;
	struct suggestion suggestion;
	struct object object;
	int r = db_object_get(store->db, question->object, &object);

	if (r == 0)
		r = suggestion_get(store, question->object, question->version, &suggestion);
	if (r < 0 || !*suggestion.url)
		return r == -ENOENT ? 0 : r;
	if (result && record_is(result, "outcome", "done")) {
		take_window(result, &suggestion);
	} else {
		suggestion.failures++;
		log_info("%s: when to renew is not known: %s", object.name,
		         result && record_get(result, "reason") ? record_get(result, "reason")
		                                                : "the worker ended");
	}
	suggestion.ask = store_now(store) + pause_of(&suggestion, result);
	r = keep(store, question->object, &suggestion);
	return r < 0 ? r : renewal_suggested(store, question->object);
}

static void received(void *user, struct record *record, const char *reason)
{
	struct question *question = user;
	struct store *store = question->store;
	int r = store_begin(store);

	(void)reason;
	questions.count--;
	if (r == 0)
		store_end(store, answer(question, record));
	record_free(record);
	free(question);
	store->wake = true;
}

/* The frame of the job: whom to ask, and of which certificate. */
static int compose(struct store *store, const struct object *object,
                   const struct suggestion *suggestion, struct record *record)
{
	struct record *config = NULL, *settings = NULL;
	struct object profile = { 0 };
	struct version version;
	const char *directory;
	int r = store_settings(store, object, &config);

	if (r == 0)
		r = object_profile(store, config, &profile);
	if (r == 0)
		r = store_settings(store, &profile, &settings);
	directory = r == 0 ? record_get(settings, "enrollment-url") : NULL;
	if (r == 0)
		r = directory ? db_version_get(store->db, suggestion->version, &version) : -ENOENT;
	if (r == 0) {
		record_add(record, "frame", "job");
		record_add_number(record, "job", 0);
		record_add(record, "action", "renewal-info");
		record_add(record, "protocol", "acme");
		record_add_number(record, "now", store_now(store));
		record_add(record, "enrollment-url", directory);
		record_add(record, "renewal-info", suggestion->url);
		r = work_add_der(record, "certificate", &version.certificate);
		version_clear(&version);
	}
	if (r == 0)
		r = work_add_tls_ca(store, settings, record);
	record_free(config);
	record_free(settings);
	return r;
}

int suggestion_ask(struct store *store, const struct object *object, struct suggestion *suggestion)
{
	struct worker_job work = { .received = received };
	struct question *question;
	int r;

	suggestion->ask =
		store_now(store) + (questions.count < AT_ONCE ? ASKED_TWICE : draw(1, SPREAD));
	r = keep(store, object->id, suggestion);
	if (r < 0 || questions.count >= AT_ONCE)
		return r;
	question = malloc(sizeof *question);
	work.record = record_new();
	r = question && work.record ? compose(store, object, suggestion, work.record) : -ENOMEM;
	if (r == 0) {
		*question = (struct question){ store, object->id, suggestion->version };
		work.user = question;
		if (worker_give(store, &work)) {
			questions.count++;
			return 0;
		}
		work.record = NULL;
	}
	record_free(work.record);
	free(question);
	return r == -ENOENT ? 0 : r;
}

void suggestion_describe(const struct suggestion *suggestion, struct record *status)
{
	char start[RFC3339_MAX], end[RFC3339_MAX];

	if (!suggestion->start)
		return;
	rfc3339(suggestion->start, start);
	rfc3339(suggestion->end, end);
	record_addf(status, "acme-renewal-window", "%s to %s", start, end);
	if (*suggestion->reason)
		record_add(status, "acme-renewal-reason", suggestion->reason);
}
