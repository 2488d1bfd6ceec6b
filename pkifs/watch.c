#include "pkifs/watch.h"

#include "common/log.h"
#include "common/x509.h"
#include "pkifs/object.h"
#include "pkifs/ocsp.h"
#include "pkifs/path.h"
#include "pkifs/renewal.h"
#include "pkifs/sources.h"
#include "pkifs/tunnel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PART     2000000 /* nanoseconds of looks in a turn */
#define PAUSE    8       /* milliseconds that others have until the next ones */
#define AT_LEAST 3600    /* seconds between two looks: by then a CRL may have ended */

/* All that is looked at for one certificate id. */
struct look {
	struct store *store;
	const struct object *object;
	struct object profile;            /* the one it names; id 0: none */
	struct record *config, *settings; /* its own and its profile's, with defaults */
	struct edition edition;
	struct version version;
	STACK_OF(X509) * chain; /* leaf first; the last one is the anchor */
	struct path_answer path;
	enum path_state state;
	char how[256]; /* as `status` spells it */
	int64_t again;
	struct blob staple;
};

static void look_clear(struct look *look)
{
	record_free(look->config);
	record_free(look->settings);
	edition_clear(&look->edition);
	version_clear(&look->version);
	sk_X509_pop_free(look->chain, X509_free);
	path_answer_clear(&look->path);
	blob_clear(&look->staple);
}

static int look_begin(struct store *store, const struct object *object, struct look *look)
{
	int r;

	*look = (struct look){ .store = store, .object = object, .path.failed = -1 };
	r = db_edition_get(store->db, object->edition, &look->edition);
	if (r < 0 || !look->edition.version)
		return r < 0 ? r : -ENOENT;
	look->chain = sk_X509_new_null();
	r = look->chain ? db_version_get(store->db, look->edition.version, &look->version)
	                : -ENOMEM;
	if (r == 0)
		r = blob_certificates(&look->version.certificate, look->chain);
	if (r == 0 && look->version.chain.length)
		r = blob_certificates(&look->version.chain, look->chain);
	if (r == 0)
		r = store_settings(store, object, &look->config);
	if (r == 0)
		r = version_profile(store, look->config, &look->version, &look->profile);
	if (r == 0 && look->profile.id)
		r = store_settings(store, &look->profile, &look->settings);
	return r;
}

static bool is_legacy(const struct look *look)
{
	return record_is(look->config, "allow-legacy", "yes") ||
	       (look->settings && record_is(look->settings, "allow-legacy", "yes"));
}

/*
 * The path, with what is known of each certificate's revocation. That it leads to an anchor was
 * decided when it came into force: the last certificate of its chain.
 */
static int check(struct look *look, struct sources *sources)
{
	STACK_OF(X509) *anchors = sk_X509_new_null();
	int last = sk_X509_num(look->chain) - 1, r = -ENOMEM;
	const struct path_question question = {
		.leaf = sk_X509_value(look->chain, 0),
		.untrusted = look->chain,
		.anchors = anchors,
		.no_anchor = true,
		.now = store_now(look->store),
		.clock_trusted = store_clock_trusted(look->store),
		.allow_ca = true,
		.allow_legacy = is_legacy(look),
		.tolerant = true,
		.revocation.accept_unknown = true,
	};
	struct error err = { 0 };

	if (anchors && sk_X509_push(anchors, sk_X509_value(look->chain, last)))
		r = sources_check(sources, &question, &look->path, &err);
	sk_X509_free(anchors);
	if (r == -EINVAL) { /* unless that is what the path fails for */
		look->state = PATH_UNKNOWN;
		snprintf(look->how, sizeof look->how, "unknown (%.200s)", err.text);
	}
	return r == -ENOMEM ? r : 0;
}

/* What is known of one certificate of the path, as `status` spells it. */
static void tell(const struct path_revocation *revocation, char *text, size_t size)
{
	char when[RFC3339_MAX] = "";
	const char *reason = path_reason_name(revocation->reason);

	if (revocation->time)
		rfc3339(revocation->time, when);
	if (revocation->state == PATH_REVOKED)
		snprintf(text, size, "revoked (%s%s%s%s%s)", revocation->how,
		         *when ? ", since " : "", when, *reason ? ", " : "", reason);
	else
		snprintf(text, size, "%s (%s)", revocation->state == PATH_GOOD ? "good" : "unknown",
		         revocation->how);
}

/* The leaf's own state, unless one above it is revoked; of a path that fails before that, check()'s
 * word stands. */
static void conclude(struct look *look)
{
	for (int i = 0; i < look->path.count; i++) {
		const struct path_step *step = &look->path.steps[i];
		char text[sizeof look->how];

		if (step->revocation.state == PATH_UNCHECKED ||
		    (i > 0 &&
		     (step->revocation.state != PATH_REVOKED || look->state == PATH_REVOKED)))
			continue;
		look->state = step->revocation.state;
		tell(&step->revocation, text, sizeof text);
		if (i == 0)
			snprintf(look->how, sizeof look->how, "%s", text);
		else
			snprintf(look->how, sizeof look->how,
			         "revoked (its issuer %.80s is %.150s)", step->name, text);
	}
}

/*
 * The responder of an own certificate is asked whatever the profile checks by: a server staples the
 * answer.
 */
static int want(struct look *look, struct sources *sources)
{
	int64_t again = look->again;
	int r = 0;

	if (!look->path.sound)
		return 0;
	if (look->path.count > 1)
		r = ocsp_want(sources, look->object->id, look->path.steps[0].certificate,
		              look->path.steps[1].certificate, &again, &look->staple);
	if (again < look->again)
		look->again = again;
	return r < 0 && r != -ENOENT ? r : sources_want(sources, look->object->id, &look->path);
}

static void set_unchecked(struct look *look, const char *why)
{
	look->state = PATH_UNCHECKED;
	snprintf(look->how, sizeof look->how, "unchecked (%s)", why);
}

/* What the responder calls revoked is revoked, whatever the profile checks by. */
static void hear_responder(struct look *look, struct sources *sources)
{
	struct path_revocation told;

	if (look->path.count < 2 || look->path.steps[0].revocation.state == PATH_REVOKED)
		return;
	ocsp_verdict(sources, look->path.steps[0].certificate, &told);
	if (told.state == PATH_REVOKED)
		look->path.steps[0].revocation = told;
}

/* Whether the certificate is looked after at all. */
static bool is_checked(struct look *look)
{
	if (!look->profile.id || sk_X509_num(look->chain) < 2)
		set_unchecked(look, "no profile has its issuer");
	else if (record_is(look->settings, "revocation-check", "disable"))
		set_unchecked(look, "revocation-check = disable");
	else
		return true;
	return false;
}

/* What is known now; where WANTED, the rest is asked for. */
static int look_at(struct look *look, bool wanted)
{
	struct sources sources = { look->store, look->profile.id, look->settings };
	int r;

	look->again = store_now(look->store) + AT_LEAST;
	if (!is_checked(look))
		return 0;
	r = check(look, &sources);
	if (r < 0)
		return r;
	hear_responder(look, &sources);
	conclude(look);
	return wanted ? want(look, &sources) : 0;
}

/* A staple is for servers: one that says anything but "good" would be of no use to them. */
static int staple(struct look *look)
{
	struct edition *edition = &look->edition;
	bool same = edition->ocsp.length == look->staple.length &&
	            (!edition->ocsp.length ||
	             memcmp(edition->ocsp.data, look->staple.data, edition->ocsp.length) == 0);

	if (same)
		return 0;
	blob_clear(&edition->ocsp);
	edition->ocsp = look->staple;
	look->staple = (struct blob){ 0 };
	return edition_publish(look->store, look->object, edition);
}

static int tell_event(const struct look *look, const char *name)
{
	struct record *facts = NULL, *more = record_new();
	int r = more ? 0 : -ENOMEM;

	if (r == 0)
		r = record_decode((const unsigned char *)look->version.facts.data,
		                  look->version.facts.length, &facts);
	if (r == 0) {
		record_add(more, "serial", record_get(facts, "serial"));
		record_add(more, "revocation", look->how);
		r = store_event(look->store, look->object, name, more);
	}
	record_free(facts);
	record_free(more);
	return r;
}

/* What is revoked stays so until somebody says that it is good again, or nobody is to ask. */
static bool stays_revoked(const struct look *look)
{
	return strcmp(look->object->state, "revoked") == 0 && look->state == PATH_UNKNOWN;
}

/* Acts on what is known: the state, an event, another certificate. */
static int act(struct look *look)
{
	bool was = strcmp(look->object->state, "revoked") == 0, is = look->state == PATH_REVOKED;
	struct store *store = look->store;
	int r;

	r = stays_revoked(look)
	            ? db_watch_set(store->db, look->object->id, look->again)
	            : db_watch_keep(store->db, look->object->id, look->again, look->how);
	if (r == 0)
		r = staple(look);
	if (stays_revoked(look))
		return r;
	if (r < 0 || was == is)
		return r;
	r = db_object_set_state(store->db, look->object->id, is ? "revoked" : "valid",
	                        store_now(store));
	tunnels_look(store);
	if (r == 0)
		r = tell_event(look, is ? "revoked" : "unrevoked");
	return r == 0 ? renewal_plan(store, look->object->id) : r;
}

/* Some of those below PROFILE, from the row AFTER on; where there are more, it is due itself. */
static int mark(struct store *store, int64_t profile, int64_t after)
{
	int r = db_watch_profile(store->db, profile, &after);
	char text[24];

	snprintf(text, sizeof text, "%lld", (long long)after);
	return r < 0 ? r
	             : db_watch_keep(store->db, profile, after ? WATCH_NOW : WATCH_NOT,
	                             after ? text : "");
}

static int mark_more(struct store *store, int64_t profile)
{
	char text[24];
	int64_t at;
	int r = db_watch_get(store->db, profile, &at, text, sizeof text);

	return r < 0 ? r : mark(store, profile, strtoll(text, NULL, 10));
}

static int look_now(struct store *store, int64_t id)
{
	struct object object;
	struct look look;
	int r = db_object_get(store->db, id, &object);

	if (r < 0)
		return r;
	if (object.kind == KIND_CA)
		return mark_more(store, id);
	r = look_begin(store, &object, &look);
	if (r == -ENOENT) {
		r = db_watch_keep(store->db, id, WATCH_NOT, "");
	} else if (r == 0) {
		r = look_at(&look, true);
		if (r == 0)
			r = act(&look);
	}
	look_clear(&look);
	return r;
}

int watch_look(struct store *store, int64_t object)
{
	tunnels_look(store);
	return db_watch_set(store->db, object, WATCH_NOW);
}

int watch_profile(struct store *store, int64_t profile)
{
	tunnels_look(store);
	return mark(store, profile, 0);
}

int watch_tell(struct store *store, const struct object *object, char *text, size_t size)
{
	struct look look;
	int64_t at;
	int r = db_watch_get(store->db, object->id, &at, text, size);

	if (r < 0 || at != WATCH_NOW)
		return r < 0 ? r : strcmp(object->state, "revoked") == 0;
	r = look_begin(store, object, &look);
	if (r == 0)
		r = look_at(&look, false);
	if (r == 0 && !stays_revoked(&look))
		snprintf(text, size, "%s", look.how);
	if (r == 0)
		r = look.state == PATH_REVOKED || stays_revoked(&look);
	look_clear(&look);
	return r;
}

/* --- what is due --- */

static uv_timer_t next; /* runs: looks are due when others had their turn */
static bool begins;     /* for the first of them */

static int look_later(struct store *store, int64_t object)
{
	return db_watch_set(store->db, object, store_now(store) + AT_LEAST);
}

static bool is_due(struct store *store, int64_t *object)
{
	int64_t at;

	return db_watch_first(store->db, object, &at) == 0 && at <= store_now(store);
}

static void look_on(uv_timer_t *timer)
{
	struct store *store = timer->data;
	uint64_t begun = uv_hrtime();
	int64_t object;
	int r = 0;

	begins = false;
	while (r == 0 && !store->stopping && is_due(store, &object)) {
		r = store_change(store, object, look_now);
		if (r < 0) {
			log_warning("a certificate's revocation cannot be looked at: %s",
			            strerror(-r));
			r = store_change(store, object, look_later); /* it stops no other */
		}
		if (r == 0 && uv_hrtime() - begun > PART) {
			store_later(store, timer, look_on, PAUSE);
			break;
		}
	}
}

/* Looks have turns of their own: whoever waited for the change that brought them goes first. */
void watch_run(struct store *store)
{
	static int64_t before = INT64_MAX;
	int64_t object;

	if (store->stopping || (next.data && uv_is_active((uv_handle_t *)&next)) ||
	    store_clock_hurry(store, &before, AT_LEAST, db_watch_hurry) < 0)
		return;
	begins = is_due(store, &object);
	if (begins)
		store_later(store, &next, look_on, 1);
}

bool watch_begins(void)
{
	return begins;
}
