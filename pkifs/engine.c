#include "common/hex.h"
#include "common/proposal.h"
#include "common/traffic.h"
#include "common/x509.h"
#include "pkifs/engine_part.h"
#include "pkifs/peer.h"
#include "pkifs/trust.h"
#include "pkifs/tunnel.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A pair of SAs as it is noted: two SPIs, its time (made, or when it goes), its algorithms. */
struct pair {
	uint32_t in, out;
	long long time;
	char esp[PROPOSAL_MAX];
};

#define OLD_PAIRS 8

static int64_t next_retirement; /* of all tunnels; 0: not known yet */

static void meta_name(char name[32], int64_t object)
{
	snprintf(name, 32, "tunnel-%lld", (long long)object);
}

int engine_sas(struct store *store, const struct object *object, struct record **sas)
{
	struct blob value = { 0 };
	char name[32];
	int r;

	meta_name(name, object->id);
	r = db_meta_get(store->db, name, &value);
	if (r == -ENOENT) {
		*sas = record_new();
		r = *sas ? 0 : -ENOMEM;
	} else if (r == 0) {
		r = record_decode((const unsigned char *)value.data, value.length, sas);
	}
	blob_clear(&value);
	return r;
}

static bool read_pair(const char *text, struct pair *pair)
{
	*pair = (struct pair){ 0 };
	return text &&
	       sscanf(text, "%u %u %lld %127s", &pair->in, &pair->out, &pair->time, pair->esp) == 4;
}

/* When the first of the old pairs goes. */
static void note_retirements(const struct record *sas)
{
	const struct field *field;
	struct pair pair;

	for (size_t i = 0; (field = record_next(sas, "old", &i)) != NULL;)
		if (read_pair(field->value, &pair) && pair.time < next_retirement)
			next_retirement = pair.time;
}

static int keep_sas(struct store *store, const struct object *object, const struct record *sas)
{
	unsigned char *bytes = NULL;
	size_t length = 0;
	char name[32];
	int r = record_encode(sas, &bytes, &length);

	meta_name(name, object->id);
	if (r == 0)
		r = db_meta_set(store->db, name, bytes, length);
	OPENSSL_free(bytes);
	note_retirements(sas);
	return r;
}

int engine_forget(struct store *store, const struct object *object)
{
	char name[32];

	meta_name(name, object->id);
	return db_meta_remove(store->db, name);
}

static void add_pair(struct record *sas, const char *key, const struct pair *pair)
{
	record_addf(sas, key, "%u %u %lld %s", pair->in, pair->out, pair->time, pair->esp);
}

static size_t count_of(const struct record *record, const char *key)
{
	size_t count = 0;

	for (size_t i = 0; record_next(record, key, &i);)
		count++;
	return count;
}

/* --- manual: SAs are given in requests --- */

/* The algorithms of `esp` are among those of the config, where it has some. */
static int check_esp(const struct asked *asked, struct proposal *proposal, struct error *err)
{
	bool legacy = record_is(asked->settings, "allow-legacy", "yes");
	const struct field *field;
	struct proposal other;
	size_t i = 0;

	if (proposal_read(record_get(asked->fields, "esp"), false, legacy, proposal, err) < 0)
		return -EINVAL;
	while ((field = record_next(asked->settings, "esp-proposal", &i)) != NULL)
		if (proposal_read(field->value, false, legacy, &other, NULL) == 0 &&
		    memcmp(other.transforms, proposal->transforms,
		           (TRANSFORM_INTEGRITY + 1) * sizeof other.transforms[0]) == 0)
			return 0;
	return i == 0 || !record_find(asked->settings, "esp-proposal")
	               ? 0
	               : error_set(err, -EINVAL, "esp = %.60s is none of the esp-proposals",
	                           record_get(asked->fields, "esp"));
}

static int check_keys(const struct asked *asked, const struct proposal *proposal, struct error *err)
{
	static const char *const names[] = { "key-in", "key-out" };
	unsigned char keys[2][128] = { { 0 } };
	size_t size = proposal_key_size(proposal);
	int r = 0;

	for (size_t i = 0; r == 0 && i < COUNT(names); i++)
		if (hex_read(record_get(asked->fields, names[i]), keys[i], sizeof keys[i]) !=
		    (int)size)
			r = error_set(err, -EINVAL, "%s takes %zu bytes with esp = %.60s", names[i],
			              size, record_get(asked->fields, "esp"));
	if (r == 0 && CRYPTO_memcmp(keys[0], keys[1], size) == 0)
		r = error_set(err, -EINVAL,
		              "key-in and key-out are the same: each direction needs its own");
	OPENSSL_cleanse(keys, sizeof keys);
	return r;
}

/* Both ends are addresses, of one family. */
static int check_ends(const struct asked *asked, struct error *err)
{
	static const char *const names[] = { "local-address", "remote-address" };
	struct traffic ends[2];

	for (size_t i = 0; i < COUNT(names); i++)
		if (traffic_read(record_get(asked->settings, names[i]), &ends[i], NULL) < 0)
			return error_set(err, -EINVAL, "engine = manual needs an IP address as %s",
			                 names[i]);
	return ends[0].family == ends[1].family
	               ? 0
	               : error_set(err, -EINVAL,
	                           "local-address and remote-address are not of one family");
}

static int check_load(const struct asked *asked, struct error *err)
{
	static const char *const names[] = { "spi-in", "spi-out", "esp", "key-in", "key-out" };
	struct proposal proposal;
	int r;

	for (size_t i = 0; i < COUNT(names); i++)
		if (!record_get(asked->fields, names[i]))
			return error_set(err, -EINVAL, "load-sa needs %s", names[i]);
	r = check_ends(asked, err);
	if (r == 0)
		r = check_esp(asked, &proposal, err);
	if (r == 0)
		r = check_keys(asked, &proposal, err);
	if (r == 0 && record_find(asked->sas, "next"))
		r = error_set(err, -EINVAL,
		              "SAs are loaded already that wait for `rekey`: send it first");
	return r;
}

static int check_manual(const struct asked *asked, struct error *err)
{
	struct trust trust;
	int r = tunnel_trust(asked->store, asked->settings, &trust);

	if (r == 0 && *trust.cut && strcmp(asked->action, "down") != 0)
		return error_set(err, -EINVAL, "the tunnel is cut: %s", trust.cut);
	if (r < 0 || strcmp(asked->action, "down") == 0)
		return r;
	if (strcmp(asked->action, "load-sa") == 0)
		return check_load(asked, err);
	if (strcmp(asked->action, "up") == 0)
		return record_find(asked->sas, "current")
		               ? 0
		               : error_set(err, -EINVAL, "no SAs are loaded: send load-sa");
	if (!record_find(asked->sas, "next"))
		return error_set(err, -EINVAL, "no other SAs are loaded: send load-sa first");
	return count_of(asked->sas, "old") < OLD_PAIRS
	               ? 0
	               : error_set(err, -EINVAL, "%d pairs of old SAs are still on their way out",
	                           OLD_PAIRS);
}

/* The pair under KEY goes at TIME. */
static void retire_pair(struct record *sas, const char *key, long long time)
{
	struct pair pair;

	if (read_pair(record_get(sas, key), &pair)) {
		pair.time = time;
		add_pair(sas, "old", &pair);
	}
	record_remove(sas, key);
}

static void take_load(struct store *store, const struct record *fields, struct record *sas)
{
	struct pair pair = { .in = (uint32_t)strtoul(record_get(fields, "spi-in"), NULL, 0),
		             .out = (uint32_t)strtoul(record_get(fields, "spi-out"), NULL, 0),
		             .time = store_now(store) };
	struct proposal proposal;

	if (proposal_read(record_get(fields, "esp"), false, true, &proposal, NULL) == 0)
		proposal_text(&proposal, pair.esp);
	add_pair(sas, record_find(sas, "current") ? "next" : "current", &pair);
}

static void take_manual(struct store *store, const char *action, const struct record *fields,
                        struct record *sas)
{
	struct pair next;

	if (strcmp(action, "load-sa") == 0) {
		take_load(store, fields, sas);
	} else if (strcmp(action, "rekey") == 0 && read_pair(record_get(sas, "next"), &next)) {
		retire_pair(sas, "current", store_now(store) + RETIRE_SECONDS);
		record_remove(sas, "next");
		add_pair(sas, "current", &next);
	} else if (strcmp(action, "down") == 0) {
		record_remove(sas, "current");
		record_remove(sas, "next");
		record_remove(sas, "old");
	}
}

static void describe_pair(const struct record *sas, const char *key, const char *prefix,
                          struct record *status)
{
	char name[24], when[RFC3339_MAX];
	struct pair pair;

	if (!read_pair(record_get(sas, key), &pair))
		return;
	snprintf(name, sizeof name, "%sspi-in", prefix);
	record_addf(status, name, "0x%08x", pair.in);
	snprintf(name, sizeof name, "%sspi-out", prefix);
	record_addf(status, name, "0x%08x", pair.out);
	snprintf(name, sizeof name, "%sesp", prefix);
	record_add(status, name, pair.esp);
	rfc3339(pair.time, when);
	snprintf(name, sizeof name, "%sloaded", prefix);
	record_add(status, name, when);
}

static void status_manual(const struct record *settings, const struct record *sas,
                          struct record *status, char in[16], char out[16])
{
	struct pair pair;

	(void)settings;
	describe_pair(sas, "current", "", status);
	describe_pair(sas, "next", "next-", status);
	if (read_pair(record_get(sas, "current"), &pair)) {
		snprintf(in, 16, "%u", pair.in);
		snprintf(out, 16, "%u", pair.out);
	}
}

/* The kernel did not take a pair: it is not noted any more. */
static void undo_manual(const char *action, struct record *sas)
{
	if (strcmp(action, "load-sa") == 0)
		record_remove(sas, record_find(sas, "next") ? "next" : "current");
}

/* --- external: an IKE daemon that nobody here speaks with makes SAs --- */

static int check_external(const struct asked *asked, struct error *err)
{
	return error_set(err, -EINVAL,
	                 "engine = external: %s is for the IKE daemon to do; pkifs watches its SAs "
	                 "and cuts them",
	                 asked->action);
}

/* --- the engines --- */

static const struct engine {
	const char *name;
	/* both NULL: not in this version */
	int (*check)(const struct asked *asked, struct error *err);
	void (*take)(struct store *store, const char *action, const struct record *fields,
	             struct record *sas);
	/* what ACTION noted is taken back; NULL: nothing */
	void (*undo)(const char *action, struct record *sas);
	/* NULL: the record of SAs as it is */
	int (*frame)(struct store *store, const struct object *object,
	             const struct record *settings, const struct record *sas, struct record *frame);
	int (*report)(const struct record *report, struct record *sas); /* NULL: of no interest */
	void (*status)(const struct record *settings, const struct record *sas,
	               struct record *status, char in[16], char out[16]);
} engines[] = {
	{ "charon", charon_check, charon_take, charon_undo, charon_frame, charon_report,
	  charon_status },
	{ "manual", check_manual, take_manual, undo_manual, NULL, NULL, status_manual },
	{ "external", check_external, NULL, NULL, NULL, NULL, status_manual },
	{ "builtin", NULL, NULL, NULL, NULL, NULL, status_manual },
};

static const struct engine *engine_of(const struct record *settings)
{
	const char *name = record_get(settings, "engine");

	for (size_t i = 0; name && i < COUNT(engines); i++)
		if (strcmp(engines[i].name, name) == 0)
			return &engines[i];
	return NULL;
}

int tunnel_check_request(struct store *store, const struct object *object, const char *action,
                         const struct record *fields, const struct record *settings,
                         struct error *err)
{
	const struct engine *engine = engine_of(settings);
	struct asked asked = { .store = store,
		               .object = object,
		               .action = action,
		               .fields = fields,
		               .settings = settings };
	struct record *sas = NULL;
	int r;

	if (!engine || !engine->check)
		return error_set(err, -EINVAL,
		                 "engine = %s is not supported by this version of pkifs: there are "
		                 "charon, manual and external",
		                 engine ? engine->name : "?");
	r = engine_sas(store, object, &sas);
	asked.sas = sas;
	if (r == 0)
		r = engine->check(&asked, err);
	record_free(sas);
	return r;
}

int engine_take(struct store *store, struct standing *standing)
{
	const struct engine *engine = engine_of(standing->config);
	struct record *sas = NULL, *fields = NULL;
	int r = record_decode((const unsigned char *)standing->request.fields.data,
	                      standing->request.fields.length, &fields);

	if (r == 0)
		r = engine_sas(store, &standing->object, &sas);
	if (r == 0 && engine && engine->take)
		engine->take(store, standing->request.action, fields, sas);
	if (r == 0)
		r = keep_sas(store, &standing->object, sas);
	record_free(sas);
	record_free(fields);
	return r;
}

int engine_undo(struct store *store, struct standing *standing)
{
	const struct engine *engine = engine_of(standing->config);
	struct record *sas = NULL;
	int r;

	if (!engine || !engine->undo)
		return 0;
	r = engine_sas(store, &standing->object, &sas);
	if (r == 0) {
		engine->undo(standing->request.action, sas);
		r = keep_sas(store, &standing->object, sas);
	}
	record_free(sas);
	return r;
}

int engine_frame(struct store *store, const struct object *object, const struct record *settings,
                 struct record *frame)
{
	const struct engine *engine = engine_of(settings);
	struct record *sas = NULL;
	int r = engine_sas(store, object, &sas);

	if (r == 0 && engine && engine->frame)
		r = engine->frame(store, object, settings, sas, frame);
	else if (r == 0)
		record_append(frame, sas);
	record_free(sas);
	return r;
}

int engine_report(struct store *store, const struct object *object, const struct record *report)
{
	struct record *settings = NULL, *sas = NULL;
	int r = store_settings(store, object, &settings), changed = 0;
	const struct engine *engine = r == 0 ? engine_of(settings) : NULL;

	if (engine && engine->report) {
		r = engine_sas(store, object, &sas);
		changed = r == 0 ? engine->report(report, sas) : 0;
		if (changed)
			r = keep_sas(store, object, sas);
		if (r == 0 && changed)
			r = peer_publish(store, object, sas);
	}
	record_free(settings);
	record_free(sas);
	return r < 0 ? r : changed;
}

int engine_trust_peer(struct store *store, const struct object *object,
                      const struct record *settings, struct trust *trust)
{
	struct record *sas = NULL;
	int r = engine_sas(store, object, &sas);
	bool peer = r == 0 && record_find(sas, "peer");

	if (peer && !*trust->cut)
		r = peer_trust(store, settings, sas, trust);
	record_free(sas);
	return r < 0 ? r : peer;
}

/* Of what is noted, KEYS alone stay; nothing of them: nothing is noted. */
static int keep_only(struct store *store, const struct object *object, const char *const *keys)
{
	struct record *sas = NULL, *kept = record_new();
	const struct field *field;
	int r = kept ? engine_sas(store, object, &sas) : -ENOMEM;

	for (; r == 0 && *keys; keys++)
		for (size_t i = 0; (field = record_next(sas, *keys, &i)) != NULL;)
			record_add_bytes(kept, *keys, field->value, field->length);
	if (r == 0)
		r = record_count(kept) ? keep_sas(store, object, kept)
		                       : engine_forget(store, object);
	record_free(sas);
	record_free(kept);
	return r;
}

/* The user's wish stays, and who it was that is not believed. */
int engine_cut(struct store *store, const struct object *object)
{
	static const char *const kept[] = { "wanted", "peer-id", "peer", NULL };

	return keep_only(store, object, kept);
}

int engine_forget_peer(struct store *store, const struct object *object)
{
	static const char *const kept[] = { "wanted", NULL };

	return keep_only(store, object, kept);
}

bool engine_retire_due(int64_t now)
{
	return now >= next_retirement;
}

int engine_retire(struct store *store, const struct object *object)
{
	struct record *sas = NULL, *kept = record_new();
	int64_t now = store_now(store);
	int r = kept ? engine_sas(store, object, &sas) : -ENOMEM;

	if (next_retirement <= now)
		next_retirement = INT64_MAX;
	for (size_t i = 0; r == 0 && i < record_count(sas); i++) {
		const struct field *field = record_field(sas, i);
		struct pair pair;

		if (strcmp(field->key, "old") != 0 ||
		    (read_pair(field->value, &pair) && pair.time > now &&
		     pair.time <= now + RETIRE_SECONDS))
			record_add(kept, field->key, field->value);
	}
	if (r == 0 && record_count(kept) < record_count(sas)) {
		r = keep_sas(store, object, kept);
		r = r < 0 ? r : 1;
	} else if (r == 0) {
		note_retirements(kept);
	}
	record_free(sas);
	record_free(kept);
	return r;
}

int engine_describe(struct store *store, const struct object *object, const struct record *settings,
                    struct record *status, char in[16], char out[16])
{
	const struct engine *engine = engine_of(settings);
	struct record *sas = NULL;
	int r = engine_sas(store, object, &sas);

	if (r == 0 && engine)
		engine->status(settings, sas, status, in, out);
	record_free(sas);
	return r;
}
