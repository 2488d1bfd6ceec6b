#include "pkifs/autoenroll.h"

#include "pkifs/object.h"

#include <errno.h>
#include <string.h>

#define PART 32 /* objects in a turn */

/* Whether OBJECT is one that enrolls by itself. A profile that is not declared may be needed. */
static bool is_wanted(struct store *store, const struct object *object,
                      const struct record *settings)
{
	if (object->kind == KIND_LOCAL)
		return record_is(settings, "auto-enroll", "enable");
	return record_get(settings, "ca-fingerprint") &&
	       db_declared_find(store->db, object->id) == 0;
}

int auto_enroll_reconfigured(struct store *store, int64_t id)
{
	struct record *settings = NULL;
	struct object object;
	bool wanted;
	int r = db_object_get(store->db, id, &object);

	if (r == 0)
		r = store_settings(store, &object, &settings);
	if (r < 0)
		return r;
	wanted = is_wanted(store, &object, settings);
	record_free(settings);
	r = db_auto_enroll_set(store->db, id, wanted ? AUTO_ENROLL_DUE : AUTO_ENROLL_OFF);
	if (r == 0 && object.kind == KIND_CA)
		r = db_auto_enroll_profile(store->db, id);
	store->due = true;
	return r;
}

int auto_enroll_all(struct store *store)
{
	store->due = true;
	return db_auto_enroll_all(store->db);
}

int auto_enroll_trusted(struct store *store, int64_t profile)
{
	store->due = true;
	return db_auto_enroll_profile(store->db, profile);
}

int auto_enroll_asked(struct store *store, int64_t object)
{
	int r = db_auto_enroll_move(store->db, object, AUTO_ENROLL_DUE, AUTO_ENROLL_TRIED);

	return r < 0 ? r
	             : db_auto_enroll_move(store->db, object, AUTO_ENROLL_AFTER, AUTO_ENROLL_TRIED);
}

int auto_enroll_ended(struct store *store, int64_t object, bool cancelled)
{
	store->due = true;
	return db_auto_enroll_move(store->db, object, AUTO_ENROLL_AFTER,
	                           cancelled ? AUTO_ENROLL_TRIED : AUTO_ENROLL_DUE);
}

/*
 * With CMPv2 and a secret the CA certificate comes with the first certificate; an ACME CA is
 * anchored by the system's store.
 */
static int brings_trust(struct store *store, const struct object *profile,
                        const struct record *settings)
{
	struct record *asked = NULL;
	const char *protocol;
	int r = store_settings(store, profile, &asked);

	if (r < 0)
		return r;
	protocol = object_protocol(settings, asked);
	r = strcmp(protocol, "acme") == 0 ||
	    (strcmp(protocol, "cmpv2") == 0 && record_get(settings, "ca-secret"));
	record_free(asked);
	return r;
}

/* Whether a certificate can be asked for: the profile is trusted; a negative errno. */
static int is_ready(struct store *store, const struct object *profile,
                    const struct record *settings)
{
	struct edition edition;
	int r = brings_trust(store, profile, settings);

	if (r != 0)
		return r;
	r = db_edition_get(store->db, profile->edition, &edition);
	if (r < 0)
		return r;
	r = edition.certificate.length != 0;
	edition_clear(&edition);
	return r;
}

bool auto_enroll_waits(struct store *store, const struct object *object,
                       const struct edition *edition, struct object *profile)
{
	struct record *settings = NULL;
	bool waits;

	if (edition->version || store_settings(store, object, &settings) < 0)
		return false;
	waits = is_wanted(store, object, settings) &&
	        object_profile(store, settings, profile) == 0 &&
	        is_ready(store, profile, settings) == 0;
	record_free(settings);
	return waits;
}

/* Its profile gets its CA certificate first, if it can do so by itself. */
static int fetch_profile(struct store *store, const struct object *profile)
{
	struct record *settings = NULL;
	int r = store_settings(store, profile, &settings);

	if (r == 0 && record_get(settings, "ca-fingerprint"))
		r = db_auto_enroll_move(store->db, profile->id, AUTO_ENROLL_OFF, AUTO_ENROLL_DUE);
	record_free(settings);
	return r;
}

static int ask(struct store *store, const struct object *object)
{
	int r = request_by_itself(store, object, "enroll\n");

	return r == 1 ? db_auto_enroll_set(store->db, object->id, AUTO_ENROLL_TRIED) : r;
}

/* One whose CA is another than the config knows fetches the right one beside it. */
static int look_at_profile(struct store *store, const struct object *profile,
                           const struct record *settings, const struct edition *edition)
{
	if (!edition->certificate.length || ca_expected(settings, edition) == -EINVAL)
		return ask(store, profile);
	return db_auto_enroll_set(store->db, profile->id, AUTO_ENROLL_TRIED);
}

static int look_at_local(struct store *store, const struct object *object,
                         const struct record *settings, const struct edition *edition)
{
	enum auto_enroll state = AUTO_ENROLL_TRIED;
	struct object profile;
	int r = 0;

	if (!is_wanted(store, object, settings)) {
		state = AUTO_ENROLL_OFF;
	} else if (!edition->version && object_profile(store, settings, &profile) == 0) {
		r = is_ready(store, &profile, settings);
		if (r == 1)
			return ask(store, object);
		if (r == 0)
			r = fetch_profile(store, &profile);
	}
	return r < 0 ? r : db_auto_enroll_set(store->db, object->id, state);
}

/* What failed for a time may be mended: it is tried at once. What the CA is to decide waits. */
static int hurry(struct store *store, struct request *request)
{
	if (request->state != REQUEST_WAITING || request->pending)
		return 0;
	request->next_attempt = 0;
	return db_request_update(store->db, request);
}

static int look(struct store *store, const struct object *object)
{
	struct record *settings = NULL;
	struct edition edition = { 0 };
	struct request request = { 0 };
	int r = db_request_get(store->db, object->id, &request);

	if (r == 0 && request_active(&request)) {
		r = db_auto_enroll_set(store->db, object->id, AUTO_ENROLL_AFTER);
		if (r == 0)
			r = hurry(store, &request);
	} else if (r == 0 || r == -ENOENT) {
		r = store_settings(store, object, &settings);
		if (r == 0)
			r = db_edition_get(store->db, object->edition, &edition);
		if (r == 0)
			r = object->kind == KIND_CA
			            ? look_at_profile(store, object, settings, &edition)
			            : look_at_local(store, object, settings, &edition);
	}
	record_free(settings);
	edition_clear(&edition);
	request_clear(&request);
	return r;
}

void auto_enroll_run(struct store *store)
{
	struct object object = { 0 };
	int r = 0;

	for (int i = 0; r == 0 && i < PART; i++) {
		r = db_auto_enroll_next(store->db, object.id, &object.id);
		if (r == 0)
			r = store_begin(store);
		if (r < 0)
			break; /* no more, or the store can't be written: the next second */
		r = db_object_get(store->db, object.id, &object);
		if (r == 0)
			r = look(store, &object);
		r = store_end(store, r);
	}
}
