/* Commands to charon: what it is told of a tunnel, its key, its connection, and their end. */
#include "netlink/charon_part.h"

#include "common/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_MS    1000 /* after the first attempt that failed, then twice that, … */
#define RETRY_STEPS 6
#define REFUSALS    3 /* of our module's key, before charon gets it */

uint64_t charon_now(void)
{
	return uv_now(ipsec_loop());
}

struct vici *charon_vici(const struct tunnel *tunnel)
{
	return tunnel->space->charon ? tunnel->space->charon->vici : NULL;
}

/* Whether there is to be a connection in charon. */
bool charon_is_usable(const struct tunnel *tunnel)
{
	return !*tunnel->cut && tunnel->wish != WISH_DOWN &&
	       record_find(tunnel->settings, "certificate");
}

/* --- commands --- */

/* A command with up to two arguments about TUNNEL; `busy` until it is answered. */
bool charon_command(struct tunnel *tunnel, const char *name, struct record *message,
                    const char *items, vici_answered *answered)
{
	int r = message && !record_failed(message)
	                ? vici_call(charon_vici(tunnel), name, message, items, answered, tunnel->id)
	                : -ENOMEM;

	record_free(message);
	tunnel->charon->busy = r == 0;
	if (r < 0)
		log_error("charon cannot be told %s: %s", name, strerror(-r));
	return r == 0;
}

struct record *charon_message(const char *key, const char *value)
{
	struct record *message = record_new();

	if (message)
		record_add(message, key, value);
	return message;
}

struct tunnel *charon_answered(int64_t id)
{
	struct tunnel *tunnel = ipsec_find(id);

	if (!tunnel || !tunnel->charon)
		return NULL;
	tunnel->charon->busy = false;
	return tunnel;
}

/* What failed there is no harm in: the next look tells how it is. */
void charon_looks_again(struct vici *vici, int64_t id, const struct record *item,
                        const struct record *answer, const struct error *err, void *user)
{
	struct tunnel *tunnel = charon_answered(id);

	(void)vici;
	(void)item;
	(void)answer;
	if (err)
		log_debug("%s", err->text);
	if (tunnel)
		charon_look(user);
}

void charon_terminate(struct tunnel *tunnel, const char *key, const char *value)
{
	struct record *message = charon_message(key, value);

	if (message) {
		record_add(message, "force", "yes");
		record_add(message, "timeout", "-1");
	}
	charon_command(tunnel, "terminate", message, NULL, charon_looks_again);
}

/* --- what it is told of --- */

void charon_set_why(struct tunnel *tunnel, const char *why)
{
	struct error err = { 0 };

	error_set(&err, -EIO, "%s", why);
	snprintf(tunnel->charon->why, sizeof tunnel->charon->why, "%.255s", err.text);
}

void charon_end_request(struct tunnel *tunnel, const char *failure)
{
	struct charon_tunnel *own = tunnel->charon;

	if (own->action == ACTION_NONE || own->ended)
		return;
	own->ended = true;
	snprintf(own->failure, sizeof own->failure, "%s", failure ? failure : "");
	ipsec_tell(tunnel);
}

void charon_fail_attempt(struct tunnel *tunnel, const char *otherwise)
{
	struct charon_tunnel *own = tunnel->charon;
	unsigned steps = own->failures < RETRY_STEPS ? own->failures : RETRY_STEPS;

	own->begun = 0;
	own->triggered = own->childless = false; /* not every peer can do without */
	own->failures++;
	own->retry = charon_now() + ((uint64_t)RETRY_MS << steps);
	if (!*own->why)
		charon_set_why(tunnel, otherwise);
	if (own->action == ACTION_UP)
		charon_end_request(tunnel, own->why);
	ipsec_tell(tunnel);
}

/* --- credentials and connection --- */

/* A step towards the tunnel failed for good: until something changes, or a while. */
void charon_fail(struct tunnel *tunnel, const char *why)
{
	*tunnel->charon->why = 0;
	charon_fail_attempt(tunnel, why);
}

/* Charon has the key of the version in use, at WHERE, by the name in ANSWER. */
static void took_key(struct tunnel *tunnel, const struct record *answer, const char *where)
{
	struct charon_tunnel *own = tunnel->charon;
	const char *name = record_get(answer, "id");

	own->key = own->version;
	own->key_at = where;
	if (name && strcmp(name, own->key_id) != 0) {
		memcpy(own->old_key, own->key_id, sizeof own->old_key);
		snprintf(own->key_id, sizeof own->key_id, "%s", name);
	}
	ipsec_tell(tunnel);
	charon_step(tunnel);
}

/* Where the module finds nothing charon gets the key itself, unless it must not. One that was not
 * found may be lent in a moment. */
static void token_loaded(struct vici *vici, int64_t id, const struct record *item,
                         const struct record *answer, const struct error *err, void *user)
{
	struct tunnel *tunnel = charon_answered(id);
	struct charon_tunnel *own;

	(void)vici;
	(void)item;
	(void)user;
	if (!tunnel)
		return;
	own = tunnel->charon;
	own->asked = 0;
	if (!err) {
		own->refusals = 0;
		took_key(tunnel, answer, "pkifs");
	} else if (record_is(tunnel->settings, "key-at", "pkifs")) {
		charon_fail(tunnel, "key-at = pkifs: charon does not find the key by its module "
		                    "pkifs-pkcs11.so");
	} else if (++own->refusals < REFUSALS) {
		own->retry = charon_now() + RETRY_MS;
	} else {
		own->refusals = 0;
		own->handed = own->version;
	}
}

/* True: charon is to sign by our module, or nothing is to be done yet. */
static bool lend_key(struct tunnel *tunnel)
{
	const char *handle = record_get(tunnel->settings, "key-handle");
	bool must = record_is(tunnel->settings, "key-at", "pkifs");
	struct charon_tunnel *own = tunnel->charon;

	if (must && !handle) {
		charon_fail(tunnel, "key-at = pkifs: pkifs-pkcs11.so signs by RSA and EC keys");
		return true;
	}
	if (!must && (!handle || !tunnel->space->charon->tokens || own->handed == own->version ||
	              record_is(tunnel->settings, "key-at", "charon")))
		return false;
	own->asked = own->version;
	charon_command(tunnel, "load-token", charon_message("handle", handle), NULL, token_loaded);
	return true;
}

void charon_want_key(struct tunnel *tunnel)
{
	struct charon_tunnel *own = tunnel->charon;
	struct record *frame;

	if (own->asked == own->version || charon_now() < own->retry || lend_key(tunnel))
		return;
	own->asked = own->version;
	frame = ipsec_frame("want-key");
	if (frame) {
		record_add_number(frame, "tunnel", tunnel->id);
		record_add_number(frame, "version", own->version);
	}
	ipsec_send(frame);
}

static void key_loaded(struct vici *vici, int64_t id, const struct record *item,
                       const struct record *answer, const struct error *err, void *user)
{
	struct tunnel *tunnel = charon_answered(id);

	(void)vici;
	(void)item;
	(void)user;
	if (!tunnel)
		return;
	tunnel->charon->asked = 0;
	if (err)
		charon_fail(tunnel, err->text);
	else
		took_key(tunnel, answer, "charon");
}

void charon_key(struct tunnel *tunnel, const struct record *frame)
{
	struct charon_tunnel *own = tunnel->charon;
	const struct field *key = record_find(frame, "key");
	struct record *message;

	if (!own || record_number(frame, "version", 0) != own->asked || own->busy)
		return;
	if (!key || own->asked != own->version || !charon_vici(tunnel)) {
		own->asked = 0;
		if (!key)
			charon_fail(tunnel, record_get(frame, "reason"));
		return;
	}
	message = charon_message("type", "any");
	if (message)
		record_add_bytes(message, "data", key->value, key->length);
	charon_command(tunnel, "load-key", message, NULL, key_loaded);
}

static bool is_same(const struct record *one, const struct record *other)
{
	if (record_count(one) != record_count(other))
		return false;
	for (size_t i = 0; i < record_count(one); i++) {
		const struct field *a = record_field(one, i), *b = record_field(other, i);

		if (strcmp(a->key, b->key) != 0 || a->length != b->length ||
		    memcmp(a->value, b->value, a->length) != 0)
			return false;
	}
	return true;
}

static void loaded(struct vici *vici, int64_t id, const struct record *item,
                   const struct record *answer, const struct error *err, void *user)
{
	struct tunnel *tunnel = charon_answered(id);

	(void)vici;
	(void)item;
	(void)answer;
	(void)user;
	if (!tunnel)
		return;
	if (err) {
		record_free(tunnel->charon->loaded);
		tunnel->charon->loaded = NULL;
		charon_fail(tunnel, err->text);
		return;
	}
	charon_step(tunnel);
}

/*
 * The IKE SAs that there are were made otherwise: by another certificate (also where a process
 * before this one did so), or, where CHANGED, for other traffic. Those that follow have their first
 * child in an exchange of its own, which costs the peer less time than one in which it proves
 * itself: so it sends less to SAs that are not here yet.
 */
static void note_old_ikes(struct tunnel *tunnel, bool changed)
{
	struct charon_tunnel *own = tunnel->charon;
	bool old = changed;

	for (size_t i = 0; i < tunnel->child_count; i++)
		old = old || (!tunnel->children[i].gone && tunnel->children[i].version &&
		              tunnel->children[i].version != own->version);
	for (size_t i = 0; old && i < own->sas.ike_count; i++)
		if (own->sas.ikes[i].id > own->old_ike) {
			own->old_ike = own->sas.ikes[i].id;
			own->childless = true;
		}
}

static void load(struct tunnel *tunnel, struct record *connection)
{
	struct charon_tunnel *own = tunnel->charon;
	char key[64];

	own->told = own->childless;
	own->clean = false;
	if (connection && own->childless) {
		snprintf(key, sizeof key, "%s.childless", own->name);
		record_add(connection, key, "force");
	}
	charon_command(tunnel, "load-conn", connection, NULL, loaded);
}

/* True: it is loaded as it is to be. */
bool charon_is_loaded(struct tunnel *tunnel)
{
	struct charon_tunnel *own = tunnel->charon;
	struct record *connection;
	bool same;

	if (own->loaded && own->checked == tunnel->generation && own->told == own->childless)
		return true;
	if (charon_now() < own->retry && !own->loaded)
		return false;
	own->checked = tunnel->generation;
	connection = charon_connection(tunnel->settings, own->name, tunnel_reqid(tunnel));
	same = connection && own->loaded && is_same(connection, own->loaded);
	if (same && own->told == own->childless) {
		record_free(connection);
		return true;
	}
	if (!same) {
		note_old_ikes(tunnel, own->loaded);
		record_free(own->loaded);
		own->loaded = connection ? record_copy(connection) : NULL;
	}
	load(tunnel, connection);
	return false;
}

/* Another tunnel of the namespace needs the key ID. */
static bool is_needed(const struct tunnel *tunnel, const char *id)
{
	for (struct tunnel *other = ipsec_next(0); other; other = ipsec_next(other->id))
		if (other != tunnel && other->charon && other->space == tunnel->space &&
		    strcmp(other->charon->key_id, id) == 0)
			return true;
	return false;
}

/* True: it was told to. */
bool charon_unload_key(struct tunnel *tunnel, char id[64])
{
	bool needed = !*id || is_needed(tunnel, id);
	struct record *message = needed ? NULL : charon_message("id", id);

	*id = 0;
	return !needed && charon_command(tunnel, "unload-key", message, NULL, charon_looks_again);
}

bool charon_recalls_key(struct tunnel *tunnel)
{
	const char *wanted = record_get(tunnel->settings, "key-at");
	struct charon_tunnel *own = tunnel->charon;

	if (!own->key_at || !wanted || strcmp(wanted, "auto") == 0 ||
	    strcmp(wanted, own->key_at) == 0)
		return false;
	own->key_at = NULL;
	own->key = own->asked = 0;
	return charon_unload_key(tunnel, own->key_id);
}

/* Nothing of it is to be in charon. */
void charon_dismantle(struct tunnel *tunnel)
{
	struct charon_tunnel *own = tunnel->charon;

	own->begun = 0;
	own->triggered = false;
	if (!own->clean) {
		own->clean = true;
		record_free(own->loaded);
		own->loaded = NULL;
		charon_command(tunnel, "unload-conn", charon_message("name", own->name), NULL,
		               charon_looks_again);
	} else if (own->sas.ike_count) {
		own->sas.ike_count = 0; /* until the next look */
		charon_terminate(tunnel, "ike", own->name);
	} else if (*own->key_id) {
		own->key = own->asked = 0;
		own->key_at = NULL;
		charon_unload_key(tunnel, own->key_id);
	}
}
