/* What became of tunnels and of their requests, as the IPsec process tells it. */
#include "pkifs/tunnel_part.h"

#include "pkifs/engine.h"

#include <errno.h>
#include <string.h>

/* The request under way of TOLD ends: REASON NULL, or why it failed. */
static int finish(struct store *store, struct told *told, const char *reason)
{
	struct standing standing;
	int r = standing_get(store, told->object, &standing);

	if (r < 0)
		return r;
	if (standing.request.id == told->request && standing.request.state == REQUEST_RUNNING) {
		if (reason)
			r = engine_undo(store, &standing);
		if (r == 0)
			r = standing_finish(store, &standing,
			                    reason ? REQUEST_FAILED : REQUEST_DONE, reason);
	}
	told->request = told->asked = 0;
	standing_clear(&standing);
	return r;
}

static int set_state(struct store *store, const struct object *object, const char *state,
                     const char *reason)
{
	bool news = strcmp(object->state, state) != 0;
	int r = 0;

	if (news)
		r = db_object_set_state(store->db, object->id, state, store_now(store));
	if (r == 0 && news)
		r = store_event_for(store, object, state, reason);
	if (r == 0 && (reason || news))
		r = db_object_set_error(store->db, object->id, reason ? reason : "");
	return r;
}

static int tell_drift(struct store *store, const struct object *object, const char *number)
{
	struct error why = { 0 };

	error_set(&why, -EEXIST,
	          "others had changed %s of its SAs and policies in the kernel: they are as they "
	          "were",
	          number);
	return store_event_for(store, object, "drift", why.text);
}

static bool is_state(const char *state)
{
	static const char *const states[] = { "down", "connecting", "up", "cut", "failed" };

	for (size_t i = 0; state && i < COUNT(states); i++)
		if (strcmp(states[i], state) == 0)
			return true;
	return false;
}

/* The engine's SAs and their peer: the process waits for our word on a peer that is new to it. */
static int take_report(struct store *store, const struct object *object, struct told *told,
                       const struct record *record)
{
	int64_t asking = record_number(record, "asking", 0);
	int r = engine_report(store, object, record);

	told->peer |= record_find(record, "peer") != NULL;
	if (r == 1)
		r = tunnel_look_at(store, told);
	if (r < 0 || *told->trust.cut || !record_find(record, "peer-id") ||
	    asking <= told->approved)
		return r;
	told->approved = asking;
	return tunnel_tell(store, object);
}

int tunnel_take_state(struct store *store, const struct record *record)
{
	const char *state = record_get(record, "state"), *drift = record_get(record, "drift");
	const char *said = record_get(record, "reason"), *reason = NULL, *why_not = NULL;
	struct told *told = told_find(record_number(record, "tunnel", 0));
	struct error why = { 0 }, failure = { 0 };
	struct object object;
	int r;

	if (!told) /* it was removed */
		return 0;
	r = is_state(state) ? db_object_get(store->db, told->object, &object) : -EBADMSG;
	if (r < 0)
		return r;
	if (said) { /* in words of the kernel's */
		error_set(&why, -EIO, "%s", said);
		reason = why.text;
	}
	if (told->request && record_number(record, "generation", 0) >= told->asked &&
	    !record_is(record, "outcome", "pending")) {
		const char *outcome = record_get(record, "outcome");
		bool failed = strcmp(outcome ? outcome : state, "failed") == 0;

		if (failed && record_get(record, "failure")) {
			error_set(&failure, -EIO, "%s", record_get(record, "failure"));
			why_not = failure.text;
		}
		r = finish(store, told,
		           !failed   ? NULL
		           : why_not ? why_not
		           : reason  ? reason
		                     : "the kernel does not take it");
		if (r == 0 && (failed || outcome)) /* how the tunnel is without what was asked */
			r = tunnel_tell(store, &object);
		if (r == 0 && failed && !outcome)
			return 0;
	}
	if (r == 0 && strcmp(state, "cut") == 0 && strcmp(object.state, "cut") != 0 &&
	    record_number(record, "generation", 0) == told->generation)
		r = engine_cut(store, &object);
	if (r == 0)
		r = told_seen(told, record);
	if (r == 0)
		r = take_report(store, &object, told, record);
	if (r == 0)
		r = set_state(store, &object, state, reason);
	return r == 0 && drift ? tell_drift(store, &object, drift) : r;
}

int tunnel_fail_all(struct store *store, const char *reason)
{
	struct object object = { 0 };
	int r = 0;

	while (r == 0 && (r = db_object_next(store->db, KIND_IPSEC, object.id, &object)) == 0) {
		struct told *told = told_of(object.id);

		if (told && told->request)
			r = finish(store, told, reason);
		if (r == 0)
			r = set_state(store, &object, "failed", reason);
	}
	return r == -ENOENT ? 0 : r;
}
