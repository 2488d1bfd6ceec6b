/* The IPsec process: its life, and what it is told of tunnels. */
#include "pkifs/tunnel_part.h"

#include "common/log.h"
#include "pkifs/children.h"
#include "pkifs/engine.h"
#include "pkifs/offer.h"
#include "pkifs/tunnel.h"
#include "pkifs/tunnel_key.h"

#include <errno.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RANGE_META  "ipsec-range"
#define RANGE_BITS  22 /* netlink/tunnel.h */
#define FRAME_LIMIT (4u << 20)
#define START_AGAIN 60 /* seconds after a start that failed */

static struct {
	struct child *child;
	bool ready;
	int64_t generation, retry;
} p;

/* --- the frames --- */

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

/* All of OBJECT for the IPsec process; the caller owns *FRAME. Inside a change. */
static int make_frame(struct store *store, const struct object *object, struct told *told,
                      struct verdict **verdicts, struct record **frame)
{
	struct record *settings = NULL;
	struct record *new = record_new();
	int r = new ? store_settings(store, object, &settings) : -ENOMEM;

	if (r == 0)
		r = tunnel_judge(store, object, settings, told, verdicts);
	if (r == 0) {
		told->generation = ++p.generation;
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

void tunnel_send(struct store *store, struct record *frame)
{
	offer_look(store);
	offer_run(store); /* before charon looks for the key */
	if (p.ready)
		child_send(p.child, frame, NULL, 0);
	record_free(frame);
}

int tunnel_tell(struct store *store, const struct object *object)
{
	struct told *told = told_of(object->id);
	struct verdict *verdicts = NULL;
	struct record *frame = NULL;
	int r = told ? make_frame(store, object, told, &verdicts, &frame) : -ENOMEM;

	verdicts_free(verdicts);
	return r < 0 ? r : store_send_after(store, tunnel_send, frame);
}

void tunnel_send_cut(struct store *store, struct record *frame)
{
	const char *reason = record_get(frame, "reason");
	const struct field *field;

	record_add_number(frame, "generation", ++p.generation);
	for (size_t i = 0; (field = record_next(frame, "tunnel", &i)) != NULL;) {
		struct told *told = told_find(strtoll(field->value, NULL, 10));

		if (!told)
			continue;
		told->generation = p.generation;
		snprintf(told->trust.cut, sizeof told->trust.cut, "%s", reason);
	}
	tunnel_send(store, frame);
}

static void send_simple(const char *name, const char *key, long long value)
{
	struct record *frame = record_new();

	if (!frame)
		return;
	record_add(frame, "frame", name);
	if (key)
		record_add_number(frame, key, value);
	child_send(p.child, frame, NULL, 0);
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

int tunnel_choose_range(struct store *store)
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
		child_send(p.child, frame, NULL, 0);
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
	uint32_t range = 0;

	(void)child;
	if (signing >= 0)
		close(signing);
	if (get_range(store, &range) < 0)
		return;
	store_commit(store); /* what waits for it would be told before `begin` */
	p.ready = true;
	send_simple("begin", "range", range);
	tunnel_change(store, tell_all, "tunnels are told");
}

static void received(struct child *child, struct record *record, void *user)
{
	struct store *store = user;
	int r;

	(void)child;
	if (record_is(record, "frame", "tunnel-is")) {
		r = store_begin(store);
		if (r == 0)
			r = store_end(store, tunnel_take_state(store, record));
		if (r < 0)
			log_error("what became of a tunnel cannot be stored: %s", strerror(-r));
	} else if (record_is(record, "frame", "counters")) {
		told_counters(record);
	} else if (record_is(record, "frame", "want-key")) {
		tunnel_lend_key(store, record, tunnel_send);
	} else if (record_is(record, "frame", "want-namespace") ||
	           record_is(record, "frame", "want-charon")) {
		channel_send(store->supervisor, record, NULL, 0);
	}
	record_free(record);
}

static void gone(struct child *child, const char *reason, void *user)
{
	struct store *store = user;
	bool started = p.ready;
	int r;

	(void)child;
	log_warning("the IPsec process: %s", reason);
	p.child = NULL;
	p.ready = false;
	if (started) { /* what the kernel has stays; the next one goes on */
		store->due = true;
		return;
	}
	p.retry = store_now(store) + START_AGAIN;
	r = store_begin(store);
	if (r == 0)
		store_end(store, tunnel_fail_all(store, reason));
}

static const struct child_class class = {
	.kind = "ipsec",
	.frame_limit = FRAME_LIMIT,
	.ready = ready,
	.received = received,
	.gone = gone,
};

bool tunnel_process_runs(struct store *store)
{
	uint32_t range;

	if (!p.child && store_now(store) >= p.retry && get_range(store, &range) == 0)
		p.child = child_start(store, &class, store);
	return p.ready;
}

void tunnel_process_hurry(void)
{
	p.retry = 0;
}

bool tunnels_received(struct store *store, const struct record *record, int *fds)
{
	size_t count = 0;

	(void)store;
	if (!record_is(record, "frame", "namespace") && !record_is(record, "frame", "charon"))
		return false;
	while (count < 2 && fds[count] >= 0)
		count++;
	if (p.ready)
		child_send(p.child, record, fds, count);
	return true;
}
