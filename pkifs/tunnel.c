#include "pkifs/tunnel.h"

#include "common/log.h"
#include "common/proposal.h"
#include "common/traffic.h"
#include "common/x509.h"
#include "pkifs/children.h"
#include "pkifs/engine.h"
#include "pkifs/jobs.h"
#include "pkifs/keyring.h"
#include "pkifs/offer.h"
#include "pkifs/told.h"
#include "pkifs/tunnel_key.h"
#include "pkifs/verdict.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RANGE_META   "ipsec-range"
#define RANGE_BITS   22 /* netlink/tunnel.h */
#define FRAME_LIMIT  (4u << 20)
#define START_AGAIN  60   /* seconds after a start that failed */
#define CUT_AT_ONCE  4000 /* tunnels of a frame */
#define TRUST_PERIOD 10   /* seconds between two looks at what time may end */
#define PEER_ROUNDS  6    /* of such looks, until all peers had their turn */
#define PEER_AGAIN   60   /* seconds until a peer that was not believed may prove itself anew */

static struct {
	struct child *child;
	bool ready;
	int64_t generation, retry;
	int64_t looked; /* at the tunnels' trust */
	bool look;
	bool all;      /* peers too; else a share of them */
	int64_t round; /* whose turn that is */
} t;

/* --- the frame --- */

/* The settings that the kernel needs. */
static void add_settings(const struct record *settings, struct record *frame)
{
	static const char *const keys[] = { "mode",         "local-address", "remote-address",
		                            "local-subnet", "remote-subnet", "fail-closed",
		                            "mark",         "if-id",         "netns",
		                            "engine" };
	const struct field *field;

	for (size_t k = 0; k < COUNT(keys); k++)
		for (size_t i = 0; (field = record_next(settings, keys[k], &i)) != NULL;)
			record_add(frame, keys[k], field->value);
}

/* The keys of a load-sa that is under way. */
static int add_keys(struct store *store, const struct object *object, struct record *frame)
{
	static const char *const keys[] = { "esp", "key-in", "key-out" };
	struct record *fields = NULL;
	struct request request;
	int r = db_request_get(store->db, object->id, &request);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (request.state == REQUEST_RUNNING && strcmp(request.action, "load-sa") == 0)
		r = record_decode((const unsigned char *)request.fields.data, request.fields.length,
		                  &fields);
	if (r == 0 && fields) {
		record_addf(frame, "load", "%lu %lu",
		            strtoul(record_get(fields, "spi-in"), NULL, 0),
		            strtoul(record_get(fields, "spi-out"), NULL, 0));
		for (size_t k = 0; k < COUNT(keys); k++) {
			char name[16];

			snprintf(name, sizeof name, "load-%s", keys[k]);
			record_add(frame, name, record_get(fields, keys[k]));
		}
	}
	request_clear(&request);
	record_free(fields);
	return r;
}

static void send_frame(struct store *store, struct record *frame);

/* The CRLs that VERDICT has are sent once for all whose they are. Inside a change. */
static int tell_crls(struct store *store, struct told *told, struct verdict *verdict)
{
	struct record *frame = verdict->crls;

	if (told->crls_sum == verdict->crls_sum)
		return 0;
	told->crls_sum = verdict->crls_sum;
	verdict->crls = NULL;
	return frame ? store_send_after(store, send_frame, frame) : 0;
}

/* What it stands on, and whether that is believed. */
static int judge(struct store *store, const struct object *object, const struct record *settings,
                 struct told *told, struct verdict **verdicts)
{
	struct verdict *verdict;
	struct trust trust;
	int r;

	free(told->stands_on);
	told->stands_on = tunnel_stands_on(settings);
	r = told->stands_on ? tunnel_verdict(store, told->stands_on, verdicts, &verdict) : -ENOMEM;
	if (r < 0)
		return r;
	r = tell_crls(store, told, verdict);
	if (r < 0)
		return r;
	trust = verdict->trust;
	told->made_of = verdict->made_of;
	r = engine_trust_peer(store, object, settings, &trust);
	if (r < 0)
		return r;
	told->peer = r;
	if (*verdict->trust.cut || !*trust.cut)
		told->peer_cut = 0;
	else if (!told->peer_cut)
		told->peer_cut = store_now(store);
	strcpy(told->trust.cut, trust.cut);
	return 0;
}

/* All of OBJECT for the IPsec process; the caller owns *FRAME. Inside a change. */
static int make_frame(struct store *store, const struct object *object, struct told *told,
                      struct verdict **verdicts, struct record **frame)
{
	struct record *settings = NULL;
	struct record *new = record_new();
	int r = new ? store_settings(store, object, &settings) : -ENOMEM;

	if (r == 0)
		r = judge(store, object, settings, told, verdicts);
	if (r == 0) {
		told->generation = ++t.generation;
		record_add(new, "frame", "tunnel");
		record_add_number(new, "tunnel", object->id);
		record_add_number(new, "generation", told->generation);
		if (*told->trust.cut)
			record_add(new, "cut", told->trust.cut);
		add_settings(settings, new);
		r = engine_frame(store, object, settings, new);
	}
	if (r == 0 && !*told->trust.cut && told->approved >= 0 && record_find(new, "sa"))
		record_add_number(new, "approved", told->approved);
	if (r == 0)
		r = add_keys(store, object, new);
	record_free(settings);
	if (r == 0 && record_failed(new))
		r = -ENOMEM;
	if (r < 0)
		record_free(new);
	else
		*frame = new;
	return r;
}

/* FRAME is taken over. */
static void send_frame(struct store *store, struct record *frame)
{
	offer_look(store);
	offer_run(store); /* before charon looks for the key */
	if (t.ready)
		child_send(t.child, frame, NULL, 0);
	record_free(frame);
}

static void send_forget(struct store *store, struct record *frame)
{
	told_drop(record_number(frame, "tunnel", 0));
	send_frame(store, frame);
}

/* Inside a change: the process is told of OBJECT behind the commit. */
static int tell(struct store *store, const struct object *object)
{
	struct told *told = told_of(object->id);
	struct verdict *verdicts = NULL;
	struct record *frame = NULL;
	int r = told ? make_frame(store, object, told, &verdicts, &frame) : -ENOMEM;

	verdicts_free(verdicts);
	return r < 0 ? r : store_send_after(store, send_frame, frame);
}

static void send_simple(const char *name, const char *key, long long value)
{
	struct record *frame = record_new();

	if (!frame)
		return;
	record_add(frame, "frame", name);
	if (key)
		record_add_number(frame, key, value);
	child_send(t.child, frame, NULL, 0);
	record_free(frame);
}

/* --- the process --- */

/* The numbers by which SAs and policies in the kernel are this store's. */
static int get_range(struct store *store, uint32_t *range)
{
	struct blob value = { 0 };
	int r = db_meta_get(store->db, RANGE_META, &value);

	if (r == 0)
		*range = (uint32_t)strtoul(value.data, NULL, 10);
	blob_clear(&value);
	return r;
}

/* One of 256, so that two stores on one kernel hardly ever take each other's for theirs. */
static int choose_range(struct store *store)
{
	unsigned char random;
	char text[16];
	uint32_t range;
	int r = get_range(store, &range);

	if (r != -ENOENT)
		return r;
	if (RAND_bytes(&random, 1) != 1)
		return -EIO;
	snprintf(text, sizeof text, "%u", 0x40000000u + ((uint32_t)random << RANGE_BITS));
	return db_meta_set(store->db, RANGE_META, text, strlen(text));
}

static void change(struct store *store, int (*act)(struct store *store), const char *what)
{
	int r = store_begin(store);

	if (r == 0)
		r = store_end(store, act(store));
	if (r < 0)
		log_error("%s: %s", what, strerror(-r));
}

/* Requests under way are asked again, with the frames of all tunnels. */
static int tell_all(struct store *store)
{
	struct verdict *verdicts = NULL;
	struct object object = { 0 };
	bool all = true;
	int r;

	while ((r = db_object_next(store->db, KIND_IPSEC, object.id, &object)) == 0) {
		struct told *told = told_of(object.id);
		struct record *frame = NULL;

		if (told) {
			told->approved = 0; /* whoever it was when the SAs were noted */
			told->crls_sum = 0;
		}
		if (!told || make_frame(store, &object, told, &verdicts, &frame) < 0) {
			log_error("tunnel %s cannot be read", object.name);
			all = false;
			continue;
		}
		told->asked = told->request ? told->generation : 0;
		told->approved = -1;
		child_send(t.child, frame, NULL, 0);
		record_free(frame);
	}
	verdicts_free(verdicts);
	/* what nobody was told of may be what blocks one that cannot be read */
	send_simple("all-told", all && r == -ENOENT ? NULL : "but", 1);
	return 0;
}

static void ready(struct child *child, int signing, void *user)
{
	struct store *store = user;
	uint32_t range;

	(void)child;
	if (signing >= 0)
		close(signing);
	if (get_range(store, &range) < 0)
		return;
	store_commit(store); /* what waits for it would be told before `begin` */
	t.ready = true;
	send_simple("begin", "range", range);
	change(store, tell_all, "tunnels are told");
}

/* --- what came of it --- */

int tunnel_forget_keys(struct store *store, const struct request *request)
{
	unsigned char *bytes = NULL;
	struct record *fields = NULL;
	char *text = NULL;
	size_t text_length = 0, length = 0;
	int r = key_redact(&ipsec_request_keys, request->text.data, request->text.length, &text,
	                   &text_length);

	if (r == 0)
		r = record_decode((const unsigned char *)request->fields.data,
		                  request->fields.length, &fields);
	if (r == 0) {
		record_remove(fields, "key-in");
		record_remove(fields, "key-out");
		r = record_encode(fields, &bytes, &length);
	}
	if (r == 0)
		r = db_request_rewrite(store->db, request->id, text, text_length, bytes, length);
	record_free(fields);
	free(text);
	OPENSSL_clear_free(bytes, length);
	return r;
}

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
	struct record *more = record_new();
	int r = more ? 0 : -ENOMEM;

	if (r == 0 && reason)
		record_add(more, "reason", reason);
	if (r == 0 && strcmp(object->state, state) != 0) {
		r = db_object_set_state(store->db, object->id, state, store_now(store));
		if (r == 0)
			r = store_event(store, object, state, more);
	}
	if (r == 0 && (reason || strcmp(object->state, state) != 0))
		r = db_object_set_error(store->db, object->id, reason ? reason : "");
	record_free(more);
	return r;
}

static int tell_drift(struct store *store, const struct object *object, const char *number)
{
	struct record *more = record_new();
	int r = -ENOMEM;

	if (more) {
		record_addf(more, "reason",
		            "others had changed %s of its SAs and policies in the kernel: they are "
		            "as they were",
		            number);
		r = store_event(store, object, "drift", more);
	}
	record_free(more);
	return r;
}

static bool is_state(const char *state)
{
	static const char *const states[] = { "down", "connecting", "up", "cut", "failed" };

	for (size_t i = 0; state && i < COUNT(states); i++)
		if (strcmp(states[i], state) == 0)
			return true;
	return false;
}

static int look_at_one(struct store *store, struct told *told);

/* The engine's SAs and their peer: the process waits for our word on a peer that is new to it. */
static int take_report(struct store *store, const struct object *object, struct told *told,
                       const struct record *record)
{
	int64_t asking = record_number(record, "asking", 0);
	int r = engine_report(store, object, record);

	told->peer |= record_find(record, "peer") != NULL;
	if (r == 1)
		r = look_at_one(store, told);
	if (r < 0 || *told->trust.cut || !record_find(record, "peer-id") ||
	    asking <= told->approved)
		return r;
	told->approved = asking;
	return tell(store, object);
}

static int take_state(struct store *store, const struct record *record)
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
			r = tell(store, &object);
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

static void received(struct child *child, struct record *record, void *user)
{
	struct store *store = user;
	int r;

	(void)child;
	if (record_is(record, "frame", "tunnel-is")) {
		r = store_begin(store);
		if (r == 0)
			r = store_end(store, take_state(store, record));
		if (r < 0)
			log_error("what became of a tunnel cannot be stored: %s", strerror(-r));
	} else if (record_is(record, "frame", "counters")) {
		told_counters(record);
	} else if (record_is(record, "frame", "want-key")) {
		tunnel_lend_key(store, record, send_frame);
	} else if (record_is(record, "frame", "want-namespace") ||
	           record_is(record, "frame", "want-charon")) {
		channel_send(store->supervisor, record, NULL, 0);
	}
	record_free(record);
}

/* It cannot be started: all that waits for it is told so. */
static int fail_all(struct store *store, const char *reason)
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

static void gone(struct child *child, const char *reason, void *user)
{
	struct store *store = user;
	bool started = t.ready;
	int r;

	(void)child;
	log_warning("the IPsec process: %s", reason);
	t.child = NULL;
	t.ready = false;
	if (started) { /* what the kernel has stays; the next one goes on */
		store->due = true;
		return;
	}
	t.retry = store_now(store) + START_AGAIN;
	r = store_begin(store);
	if (r == 0)
		store_end(store, fail_all(store, reason));
}

static const struct child_class class = {
	.kind = "ipsec",
	.frame_limit = FRAME_LIMIT,
	.ready = ready,
	.received = received,
	.gone = gone,
};

bool tunnels_received(struct store *store, const struct record *record, int *fds)
{
	size_t count = 0;

	(void)store;
	if (!record_is(record, "frame", "namespace") && !record_is(record, "frame", "charon"))
		return false;
	while (count < 2 && fds[count] >= 0)
		count++;
	if (t.ready)
		child_send(t.child, record, fds, count);
	return true;
}

/* --- what users do --- */

static int begin(struct store *store, struct standing *standing)
{
	struct told *told = told_of(standing->object.id);
	int r = told ? 0 : -ENOMEM;

	if (r == 0 && standing->request.state == REQUEST_QUEUED) {
		r = engine_take(store, standing);
		if (r == 0)
			r = standing_set(store, standing, REQUEST_RUNNING, NULL);
		if (r == 0)
			r = standing_event(store, standing, "request");
	}
	if (r == 0)
		r = tell(store, &standing->object);
	if (r == 0) {
		told->request = standing->request.id;
		told->asked = told->generation;
	}
	return r;
}

void tunnel_begin(struct store *store, struct standing *standing)
{
	const struct told *told = told_of(standing->object.id);
	int r;

	if (!told || told->request == standing->request.id)
		return;
	t.retry = 0; /* a process that could not be started is tried again */
	r = store_begin(store);
	if (r == 0)
		r = store_end(store, begin(store, standing));
	if (r < 0)
		log_error("the request of tunnel %s cannot be begun: %s", standing->object.name,
		          strerror(-r));
}

int tunnel_made(struct store *store, const struct object *object)
{
	int r = choose_range(store);

	store->due = true;
	return r < 0 ? r : db_object_set_state(store->db, object->id, "down", store_now(store));
}

int tunnel_reconfigured(struct store *store, const struct object *object)
{
	struct object now;
	int r = db_object_get(store->db, object->id, &now);

	return r < 0 ? r : tell(store, &now);
}

int tunnel_forget(struct store *store, const struct object *object)
{
	struct record *frame = record_new();
	int r = frame ? engine_forget(store, object) : -ENOMEM;

	if (frame) {
		record_add(frame, "frame", "forget");
		record_add_number(frame, "tunnel", object->id);
	}
	if (r < 0)
		record_free(frame);
	return r < 0 ? r : store_send_after(store, send_forget, frame);
}

int tunnel_check_config(struct store *store, const struct record *config, struct error *err)
{
	static const char *const keys[] = { "ike-proposal", "esp-proposal" };
	const char *peer = record_get(config, "remote-address");
	bool legacy = record_is(config, "allow-legacy", "yes");
	const struct field *field;
	struct proposal proposal;
	struct traffic end;

	for (size_t k = 0; k < COUNT(keys); k++)
		for (size_t i = 0; (field = record_next(config, keys[k], &i)) != NULL;)
			if (proposal_read(field->value, k == 0, legacy, &proposal, err) < 0)
				return -EINVAL;
	if (record_is(config, "start", "trap") && (!peer || traffic_read(peer, &end, NULL) < 0))
		return error_set(err, -EINVAL,
		                 "start = trap needs an IP address as remote-address: packets wait "
		                 "for SAs that lead there");
	return tunnel_check_local_id(store, config, err);
}

/* --- what is due --- */

void tunnels_look(struct store *store)
{
	t.look = store->due = true;
	keyrings_look(store);
	offer_look(store);
}

/* It may be used, though not all is known (crl-on-download-failure = accept): that is told. */
static int tell_warning(struct store *store, struct told *told, const char *warning)
{
	struct object object;
	struct record *more;
	int r;

	if (strcmp(warning, told->trust.warning) == 0)
		return 0;
	strcpy(told->trust.warning, warning);
	r = *warning ? db_object_get(store->db, told->object, &object) : 0;
	if (r < 0 || !*warning)
		return r;
	log_warning("tunnel %s: %s", object.name, warning);
	more = record_new();
	if (!more)
		return -ENOMEM;
	record_add(more, "reason", warning);
	r = store_event(store, &object, "accepted-unchecked", more);
	record_free(more);
	return r;
}

/* Behind the commit: they are cut, all by one frame, which is taken over. */
static void send_cut(struct store *store, struct record *frame)
{
	const char *reason = record_get(frame, "reason");
	const struct field *field;

	record_add_number(frame, "generation", ++t.generation);
	for (size_t i = 0; (field = record_next(frame, "tunnel", &i)) != NULL;) {
		struct told *told = told_find(strtoll(field->value, NULL, 10));

		if (!told)
			continue;
		told->generation = t.generation;
		snprintf(told->trust.cut, sizeof told->trust.cut, "%s", reason);
	}
	send_frame(store, frame);
}

static int add_ended(struct store *store, struct verdict *verdict, const struct told *told)
{
	struct record *frame = verdict->ended;
	int r = 0;

	if (!frame) {
		frame = verdict->ended = record_new();
		if (!frame)
			return -ENOMEM;
		record_add(frame, "frame", "cut");
		record_add(frame, "reason", verdict->trust.cut);
	}
	record_add_number(frame, "tunnel", told->object);
	if (record_count(frame) >= CUT_AT_ONCE) {
		verdict->ended = NULL;
		r = store_send_after(store, send_cut, frame);
	}
	return r;
}

/*
 * The same for its peer. One that is not believed is forgotten after a while: the peer may have
 * another certificate by now. Not all are due in each round.
 */
static int look_at_peer(struct store *store, struct told *told, struct trust *trust)
{
	bool due = t.all || (told->object + t.round) % PEER_ROUNDS == 0;
	struct record *settings = NULL;
	struct object object;
	int r;

	if (told->peer_cut && store_now(store) - told->peer_cut >= PEER_AGAIN) {
		told->peer = false;
		r = db_object_get(store->db, told->object, &object);
		return r < 0 ? r : engine_forget_peer(store, &object);
	}
	if (!due) { /* what was said of it stands */
		if (told->peer_cut)
			*trust = told->trust;
		else if (!*trust->warning)
			memcpy(trust->warning, told->trust.warning, sizeof trust->warning);
		return 0;
	}
	r = db_object_get(store->db, told->object, &object);
	if (r == 0)
		r = store_settings(store, &object, &settings);
	if (r == 0)
		r = engine_trust_peer(store, &object, settings, trust);
	record_free(settings);
	return r < 0 ? r : 0;
}

static int cut_for_peer(struct store *store, struct told *told, const char *reason)
{
	struct record *frame = record_new();

	if (!frame)
		return -ENOMEM;
	told->peer_cut = store_now(store);
	record_add(frame, "frame", "cut");
	record_add(frame, "reason", reason);
	record_add_number(frame, "tunnel", told->object);
	return store_send_after(store, send_cut, frame);
}

/* A tunnel whose trust is another one now is told so. */
static int look_at(struct store *store, struct told *told, struct verdict **verdicts)
{
	struct verdict *verdict;
	struct object object;
	struct trust trust;
	int r = tunnel_verdict(store, told->stands_on, verdicts, &verdict);

	if (r == 0)
		r = tell_crls(store, told, verdict);
	if (r < 0)
		return r;
	trust = verdict->trust;
	if (told->peer && !*trust.cut)
		r = look_at_peer(store, told, &trust);
	if (r == 0)
		r = tell_warning(store, told, trust.warning);
	if (r < 0 || (strcmp(trust.cut, told->trust.cut) == 0 && told->made_of == verdict->made_of))
		return r;
	if (*verdict->trust.cut)
		return add_ended(store, verdict, told);
	if (*trust.cut)
		return cut_for_peer(store, told, trust.cut);
	r = db_object_get(store->db, told->object, &object);
	return r < 0 ? r : tell(store, &object);
}

static int send_ended(struct store *store, struct verdict *verdicts, int r)
{
	for (struct verdict *verdict = verdicts; r == 0 && verdict; verdict = verdict->next) {
		if (verdict->ended)
			r = store_send_after(store, send_cut, verdict->ended);
		verdict->ended = NULL;
	}
	verdicts_free(verdicts);
	return r;
}

static int look_at_one(struct store *store, struct told *told)
{
	struct verdict *verdicts = NULL;
	int r;

	if (!told->stands_on)
		return 0;
	t.all = true;
	r = look_at(store, told, &verdicts);
	return send_ended(store, verdicts, r);
}

static int look_at_all(struct store *store)
{
	struct verdict *verdicts = NULL;
	struct told *told = NULL;
	int r = 0;

	t.round++;
	while (r == 0 && (told = told_next(told)))
		if (told->stands_on)
			r = look_at(store, told, &verdicts);
	return send_ended(store, verdicts, r);
}

/* Old SAs whose time has come are taken away. */
static int retire(struct store *store)
{
	struct object object = { 0 };
	int r = 0;

	while (r == 0 && (r = db_object_next(store->db, KIND_IPSEC, object.id, &object)) == 0)
		if ((r = engine_retire(store, &object)) == 1)
			r = tell(store, &object);
	return r == -ENOENT ? 0 : r;
}

void tunnels_run(struct store *store)
{
	int64_t now = store_now(store);
	uint32_t range;

	if (!t.child && now >= t.retry && get_range(store, &range) == 0)
		t.child = child_start(store, &class, store);
	if (!t.ready)
		return;
	if (t.look || now - t.looked >= TRUST_PERIOD || now < t.looked) {
		t.all = t.look;
		t.look = false;
		t.looked = now;
		change(store, look_at_all, "the trust of tunnels cannot be looked at");
	}
	if (engine_retire_due(now))
		change(store, retire, "old SAs cannot be taken away");
	offer_run(store);
}

int tunnel_status(struct store *store, const struct object *object, struct record *status)
{
	struct told *told = told_of(object->id);
	struct record *settings = NULL;
	char in[16] = "", out[16] = "";
	int r = told ? store_settings(store, object, &settings) : -ENOMEM;

	if (r == 0)
		record_add(status, "engine", record_get(settings, "engine"));
	if (r == 0 && *told->trust.warning)
		record_add(status, "warning", told->trust.warning);
	if (r == 0)
		r = engine_describe(store, object, settings, status, in, out);
	record_free(settings);
	if (r == 0)
		told_describe(told, in, out, status);
	return r;
}
