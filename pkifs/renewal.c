#include "pkifs/renewal.h"

#include "common/x509.h"
#include "pkifs/declare.h"
#include "pkifs/keycheck.h"
#include "pkifs/object.h"
#include "pkifs/rollover.h"
#include "pkifs/suggest.h"
#include "pkifs/workers.h"

#include <errno.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#define HOUR 3600
#define DAY  86400

#define PART        64  /* objects in a turn */
#define TRY_PART    8   /* of what is left of the lifetime, between two tries at most */
#define TRY_MIN     5   /* seconds between two tries */
#define REFUSED_MIN 60  /* what was refused is not asked for again sooner than this, at first */
#define SPREAD_PART 10  /* of what is left when it is due, to spread those that are due together */
#define PAUSE_MAX   30  /* while a CA does not answer, before others ask it */
#define AGE_PART    100 /* of the lifetime, before which no certificate is replaced */
#define AGE_MIN     5
#define LATEST_PART 10 /* of the lifetime, which is left whatever a CA suggests */

/* How a certificate id renews by itself. */
struct renewal {
	const char *action;           /* NULL: it does not */
	int64_t profile;              /* the one that is asked, or 0 */
	int64_t interval;             /* seconds between two tries */
	int64_t not_after;            /* of the certificate, or of an issuer that ends before it */
	bool outlives;                /* such an issuer */
	int64_t trigger;              /* when it is due by its config */
	int64_t at;                   /* when it goes: those that are due together are spread */
	struct suggestion suggestion; /* of the CA; url empty: none, or the config knows better */
	char obstacle[160];           /* why it can't */
};

bool renewal_is(const char *action)
{
	return strcmp(action, "re-enroll") == 0 || strcmp(action, "generate-self-signed") == 0;
}

/* When a certificate is due, by what SETTINGS say. */
static int64_t trigger(const struct record *settings, int64_t not_before, int64_t not_after)
{
	int64_t lifetime = not_after - not_before;
	const char *before = record_get(settings, "re-enroll-time");
	int64_t left =
		before ? span_seconds(before)
		       : lifetime *
				 record_number(settings, "re-enroll-trigger-time-percentage", 10) /
				 100;

	return not_after - (left < lifetime ? left : lifetime / 2);
}

/* Certificates that are due together go one after the other, in the same order whenever asked. */
static int64_t spread(const struct record *facts, int64_t left)
{
	const char *text = record_get(facts, "fingerprint-sha256");
	int64_t part = left / SPREAD_PART < DAY ? left / SPREAD_PART : DAY;
	unsigned first = 0, second = 0;

	if (text)
		sscanf(text, "%2x:%2x", &first, &second);
	return part * (first << 8 | second) / 0x10000;
}

static int64_t greater(int64_t one, int64_t other)
{
	return one > other ? one : other;
}

static int64_t less(int64_t one, int64_t other)
{
	return one < other ? one : other;
}

/* What the CA suggests for version ROW, unless somebody has set when to renew. */
static int set_suggestion(struct store *store, const struct object *object,
                          const struct record *settings, int64_t row, struct renewal *renewal)
{
	static const char percentage[] = "re-enroll-trigger-time-percentage";
	const struct record *defaults = declared_defaults("acme");
	struct record *config = NULL;
	int r = 0;

	if (record_get(settings, "re-enroll-time") ||
	    (defaults && record_get(defaults, percentage)))
		return 0;
	r = store_config(store, object, &config);
	if (r == 0 && !key_stands(&local_config_keys, config, percentage))
		r = suggestion_get(store, object->id, row, &renewal->suggestion);
	record_free(config);
	return r;
}

/* What was noted of VERSION as it came into force; the caller's. Nothing is parsed for it again. */
static int read_facts(const struct version *version, struct record **facts)
{
	return record_decode((const unsigned char *)version->facts.data, version->facts.length,
	                     facts);
}

static int64_t fact_time(const struct record *facts, const char *key, int64_t otherwise)
{
	const char *text = record_get(facts, key);
	int64_t time = text ? rfc3339_seconds(text) : -1;

	return time < 0 ? otherwise : time;
}

int64_t renewal_end(const struct version *version)
{
	struct record *facts = NULL;
	int64_t end = version->not_after;

	if (read_facts(version, &facts) == 0)
		end = less(end, fact_time(facts, "chain-not-after", end));
	record_free(facts);
	return end;
}

/*
 * The times of VERSION: one that is revoked is due. A CA that gives short lifetimes, or suggests to
 * renew at once whatever it issued, must not be asked again at once.
 */
static int set_times(const struct version *version, const struct record *settings, bool revoked,
                     struct renewal *renewal)
{
	int64_t suggested = renewal->suggestion.at;
	int64_t not_before, lifetime, oldest;
	struct record *facts = NULL;
	int r = read_facts(version, &facts);

	if (r < 0)
		return r;
	not_before = fact_time(facts, "not-before", version->created);
	renewal->not_after = renewal_end(version);
	renewal->outlives = renewal->not_after < version->not_after;
	lifetime = renewal->not_after - not_before;
	renewal->trigger = trigger(settings, not_before, renewal->not_after);
	oldest = version->created + greater(lifetime / AGE_PART, AGE_MIN);
	renewal->at = renewal->trigger + spread(facts, renewal->not_after - renewal->trigger);
	if (suggested) { /* it spreads them itself */
		renewal->trigger = less(suggested, renewal->not_after - lifetime / LATEST_PART);
		renewal->at = renewal->trigger;
		oldest = less(oldest, version->created + HOUR);
	}
	renewal->at =
		greater(renewal->at, less(oldest, (renewal->trigger + renewal->not_after) / 2));
	if (revoked) {
		renewal->trigger = renewal->at = less(renewal->at, version->created + AGE_MIN);
		*renewal->suggestion.url = 0;
	}
	record_free(facts);
	return 0;
}

/* The profile that is asked, and whether it can be. */
static int set_profile(struct store *store, const struct record *settings, struct renewal *renewal)
{
	struct record *profile_settings = NULL;
	struct object profile;
	int r = object_profile(store, settings, &profile);

	if (r == -ENOENT) {
		snprintf(renewal->obstacle, sizeof renewal->obstacle, "ca-profile is not set");
		return 0;
	}
	if (r == 0)
		r = store_settings(store, &profile, &profile_settings);
	if (r < 0)
		return r;
	renewal->profile = profile.id;
	renewal->interval = record_number(profile_settings, "enrollment-retry-interval", 0);
	if (!record_get(profile_settings, "enrollment-url"))
		snprintf(renewal->obstacle, sizeof renewal->obstacle,
		         "profile %s has no enrollment-url", profile.name);
	record_free(profile_settings);
	return 0;
}

/* How OBJECT renews by itself. */
static int understand(struct store *store, const struct object *object, struct renewal *renewal)
{
	struct edition edition = { 0 };
	struct record *settings = NULL;
	struct version version = { 0 };
	int r;

	*renewal = (struct renewal){ 0 };
	r = db_edition_get(store->db, object->edition, &edition);
	if (r == 0 && edition.version)
		r = store_settings(store, object, &settings);
	if (r < 0 || !edition.version || !record_is(settings, "auto-re-enrollment", "enable"))
		goto out;
	r = db_version_get(store->db, edition.version, &version);
	if (r == 0)
		r = set_suggestion(store, object, settings, edition.version, renewal);
	if (r == 0)
		r = set_times(&version, settings, strcmp(object->state, "revoked") == 0, renewal);
	if (r == 0 && strcmp(version.anchor, "self") == 0) {
		renewal->action = "generate-self-signed";
	} else if (r == 0) {
		renewal->action = "re-enroll";
		r = set_profile(store, settings, renewal);
	}
out:
	version_clear(&version);
	edition_clear(&edition);
	record_free(settings);
	return r;
}

int64_t renewal_delay(int64_t failures, int64_t interval, int64_t left)
{
	int64_t delay = greater(interval, 1), most = left > 0 ? left / TRY_PART : HOUR;
	unsigned char random = 0;

	while (--failures > 0 && delay < DAY)
		delay *= 2;
	delay = less(delay, less(greater(most, TRY_MIN), DAY));
	RAND_bytes(&random, 1);
	return delay + delay * random / 256 / 10;
}

/* OBJECT is looked at next when it is due, or may be tried again. */
static int plan(struct store *store, int64_t id, int64_t failures)
{
	struct next_action action = { .at = ACTION_NONE };
	struct renewal renewal;
	struct object object;
	int64_t now = store_now(store);
	int r = db_object_get(store->db, id, &object);

	if (r == 0 && object.kind == KIND_CA) {
		action.failures = failures;
		r = rollover_plan(store, &object, &action);
		return r < 0 ? r : db_action_set(store->db, id, &action);
	}
	if (r == 0)
		r = understand(store, &object, &renewal);
	if (r < 0)
		return r;
	if (renewal.action && !*renewal.obstacle) {
		action = (struct next_action){ renewal.at, renewal.profile, failures };
		if (*renewal.suggestion.url)
			action.at = less(action.at, renewal.suggestion.ask);
		if (failures)
			action.at =
				greater(action.at,
			                now + renewal_delay(failures,
			                                    greater(renewal.interval, REFUSED_MIN),
			                                    renewal.not_after - now));
		action.at = greater(action.at, ACTION_PLAN + 1);
	}
	store->changes++;
	return db_action_set(store->db, id, &action);
}

int renewal_plan(struct store *store, int64_t object)
{
	store->due = true;
	return plan(store, object, 0);
}

int renewal_suggested(struct store *store, int64_t object)
{
	struct next_action action;
	int r = db_action_get(store->db, object, &action);

	store->due = true;
	if (r == 0 && action.at != ACTION_NONE) /* else it is being renewed */
		r = plan(store, object, action.failures);
	return r == -ENOENT ? 0 : r;
}

int renewal_reconfigured(struct store *store, int64_t profile)
{
	store->due = true;
	return db_action_plan_profile(store->db, profile);
}

int renewal_trusted(struct store *store, int64_t profile)
{
	store->due = true;
	return db_action_plan_failed(store->db, profile);
}

int renewal_ended(struct store *store, const struct request *request, enum request_state state)
{
	struct next_action action;
	struct object object;
	int r = db_object_get(store->db, request->object, &object);

	if (r < 0 || object.kind != KIND_LOCAL)
		return r;
	r = db_action_get(store->db, request->object, &action);
	if (r < 0)
		return r;
	if (state != REQUEST_DONE && renewal_is(request->action))
		action.failures++;
	else if (action.at != ACTION_NONE) /* it did not wait for this request */
		return 0;
	return plan(store, request->object, action.failures);
}

/* --- what is due --- */

/* CAs that did not answer when they were asked last. */
static struct pause {
	int64_t profile, until;
	int failures;
} pauses[64];

static struct pause *pause_of(int64_t profile)
{
	struct pause *pause = &pauses[(size_t)profile % COUNT(pauses)];

	if (pause->profile != profile)
		*pause = (struct pause){ .profile = profile };
	return pause;
}

static bool is_paused(const struct pause *pause, int64_t now)
{
	return pause->failures && now < pause->until && now >= pause->until - PAUSE_MAX;
}

void renewal_asked(const struct store *store, int64_t profile, bool answered)
{
	struct pause *pause = pause_of(profile);
	int64_t now = store_now(store);

	if (!answered && is_paused(pause, now))
		return; /* the tries of those that wait must not hold up the others for ever */
	pause->failures = answered ? 0 : pause->failures + 1;
	pause->until = answered ? 0 : now + less(5 * pause->failures, PAUSE_MAX);
}

/* Whether one more may ask PROFILE: a part of the workers at once, none where it is silent. */
static bool may_ask(struct store *store, int64_t profile)
{
	int64_t limit = ((int64_t)workers_limit(store) + 1) / 2, count;

	if (is_paused(pause_of(profile), store_now(store)))
		return false;
	return db_request_count(store->db, profile, limit, &count) == 0 && count < limit;
}

static int ask(struct store *store, const struct object *object, struct next_action *action,
               const struct renewal *renewal)
{
	char text[64];
	int r;

	snprintf(text, sizeof text, "%s\n", renewal->action);
	r = request_by_itself(store, object, text);
	if (r == 1)
		return plan(store, object->id, action->failures + 1);
	action->at = ACTION_NONE; /* until the request ends */
	return r < 0 ? r : db_action_set(store->db, object->id, action);
}

/* Whether it is time to ask when to renew, and not to renew. */
static bool is_to_ask(const struct store *store, const struct renewal *renewal)
{
	return *renewal->suggestion.url && store_now(store) < renewal->at;
}

/* OBJECT is due: it asks, unless that is under way, or no longer wanted. */
static int go(struct store *store, int64_t id)
{
	struct next_action action;
	struct request request = { 0 };
	struct renewal renewal;
	struct object object;
	int r = db_object_get(store->db, id, &object);

	if (r == 0 && object.kind == KIND_CA)
		return rollover_go(store, &object);
	if (r == 0)
		r = db_action_get(store->db, id, &action);
	if (r == 0)
		r = understand(store, &object, &renewal);
	if (r < 0)
		return r;
	r = db_request_get(store->db, id, &request);
	if ((r == 0 && request_active(&request)) || !renewal.action || *renewal.obstacle) {
		action.at = ACTION_NONE;
		r = db_action_set(store->db, id, &action);
	} else if ((r == 0 || r == -ENOENT) && is_to_ask(store, &renewal)) {
		r = suggestion_ask(store, &object, &renewal.suggestion);
		if (r == 0)
			r = plan(store, id, action.failures);
	} else if (r == 0 || r == -ENOENT) {
		r = ask(store, &object, &action, &renewal);
	}
	request_clear(&request);
	return r;
}

int renewal_plan_again(struct store *store, int64_t object)
{
	struct next_action action;
	int r = db_action_get(store->db, object, &action);

	return r < 0 ? r : plan(store, object, action.failures);
}

/* One that can't be looked at stops no other, here and below. */
static int plan_some(struct store *store, int *room)
{
	int64_t object = 0;
	int r = 0;

	for (; *room > 0 && db_action_to_plan(store->db, object, &object) == 0; (*room)--)
		r = (int)less(r, store_change(store, object, renewal_plan_again));
	return r;
}

static int ask_profile(struct store *store, int64_t profile, int *room)
{
	int64_t object, now = store_now(store);
	int r = 0;

	while (r == 0 && *room > 0 && may_ask(store, profile) &&
	       db_action_due(store->db, profile, now, &object) == 0) {
		(*room)--;
		r = store_change(store, object, go);
	}
	return r;
}

/* Each profile has its turn, the one behind the last one's first. */
static int ask_some(struct store *store, int *room)
{
	static int64_t last = -1;
	int64_t first = last, profile;
	bool round = false;
	int r = 0;

	while (*room > 0) {
		if (db_action_profile(store->db, last, &profile) < 0) {
			if (round)
				break;
			round = true;
			last = -1;
			continue;
		}
		last = profile;
		if (round && profile > first)
			break;
		r = (int)less(r, ask_profile(store, profile, room));
	}
	return r;
}

static void go_on(uv_timer_t *timer)
{
	renewal_run(timer->data);
}

/* The rest of what is due, when others had their turn. */
static void wait_for_turn(struct store *store)
{
	static uv_timer_t later;

	store_later(store, &later, go_on, 1);
}

void renewal_run(struct store *store)
{
	char doubt[CLOCK_DOUBT_MAX];
	static int64_t before = INT64_MAX;
	int room = PART;
	int64_t at;
	int r;

	if (store->stopping || store_clock_hurry(store, &before, 2 * DAY, db_action_hurry) < 0 ||
	    db_action_first(store->db, &at) < 0 || at > store_now(store))
		return;
	r = plan_some(store, &room);
	if (!store_clock_doubt(store, doubt, sizeof doubt))
		r = (int)less(r, ask_some(store, &room));
	if (r == 0 && room == 0)
		wait_for_turn(store);
}

/* --- what is told --- */

/* What is left when it is due is little. */
static void warn(const struct renewal *renewal, struct record *status)
{
	long long left = renewal->not_after - renewal->trigger;
	char time[RFC3339_MAX];

	if (left < 2 * renewal->interval)
		record_addf(status, "warning",
		            "when it renews, %lld s are left: less than two retries of %lld s",
		            left, (long long)renewal->interval);
	else if (left < DAY)
		record_addf(status, "warning", "when it renews, %lld s are left: less than 24 h",
		            left);
	rfc3339(renewal->not_after, time);
	if (renewal->outlives)
		record_addf(status, "warning",
		            "its CA ends before it, at %s: it renews before that", time);
}

int renewal_describe(struct store *store, const struct object *object, struct record *status)
{
	struct next_action action;
	struct renewal renewal;
	char time[RFC3339_MAX];
	int r = understand(store, object, &renewal);

	if (r == 0)
		r = db_action_get(store->db, object->id, &action);
	if (r < 0 || !renewal.action)
		return r;
	if (*renewal.obstacle) {
		record_addf(status, "warning", "it can't renew by itself: %s", renewal.obstacle);
		return 0;
	}
	warn(&renewal, status);
	suggestion_describe(&renewal.suggestion, status);
	if (record_get(status, "next-action") || action.at == ACTION_NONE)
		return 0;
	record_add(status, "next-action", renewal.action);
	if (action.at > ACTION_PLAN) { /* what it asks before then is of no interest */
		rfc3339(action.failures ? action.at : renewal.at, time);
		record_add(status, "next-action-at", time);
	}
	if (action.failures)
		record_add_number(status, "attempts", action.failures);
	return 0;
}
