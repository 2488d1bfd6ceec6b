#include "pkifs/store.h"

#include "common/confine.h"
#include "common/log.h"
#include "common/x509.h"
#include "pkifs/challenge.h"
#include "pkifs/children.h"
#include "pkifs/crl.h"
#include "pkifs/declare.h"
#include "pkifs/dnsrecord.h"
#include "pkifs/jobs.h"
#include "pkifs/keyring.h"
#include "pkifs/object.h"
#include "pkifs/offer.h"
#include "pkifs/publish.h"
#include "pkifs/tree.h"
#include "pkifs/tunnel.h"
#include "pkifs/workers.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define EVENTS_KEPT 10000

const struct key_table *config_table(enum kind kind)
{
	return kind == KIND_CA      ? &ca_config_keys
	       : kind == KIND_LOCAL ? &local_config_keys
	                            : &ipsec_config_keys;
}

const struct key_table *request_table(enum kind kind)
{
	return kind == KIND_CA      ? &ca_request_keys
	       : kind == KIND_LOCAL ? &local_request_keys
	                            : &ipsec_request_keys;
}

const char *kind_name(enum kind kind)
{
	return kind == KIND_CA ? "ca" : kind == KIND_LOCAL ? "local" : "ipsec";
}

long store_setting(const struct store *store, const char *name)
{
	const char *value = key_value(&daemon_keys, store->conf, name);

	return value ? strtol(value, NULL, 10) : 0;
}

int store_config(struct store *store, const struct object *object, struct record **config)
{
	struct blob text = { 0 };
	int64_t owner, created;
	int r = db_config_get(store->db, object->config, &owner, &created, &text);

	if (r == 0)
		r = record_parse(text.data, text.length, NULL, config, NULL);
	blob_clear(&text);
	return r;
}

/* What CONFIG of a certificate id leaves to its protocol, which is its own, else its profile's. */
static int add_defaults(struct store *store, const struct record *config, struct record *to)
{
	static const struct {
		const char *key, *value;
	} acme[] = { { "auto-re-enrollment", "enable" },
		     { "re-enroll-trigger-time-percentage", "33" },
		     { "re-generate-keypair", "yes" } };
	const char *protocol = record_get(config, "protocol");
	struct record *settings = NULL;
	const struct record *defaults;
	struct object profile;
	int r = 0;

	if (!protocol && object_profile(store, config, &profile) == 0) {
		r = store_config(store, &profile, &settings);
		protocol = r == 0 ? object_protocol(config, settings) : NULL;
	}
	defaults = protocol ? declared_defaults(protocol) : NULL;
	for (size_t i = 0; defaults && i < record_count(defaults); i++) {
		const struct field *field = record_field(defaults, i);

		if (!key_stands(&local_config_keys, config, field->key))
			record_add_bytes(to, field->key, field->value, field->length);
	}
	for (size_t i = 0; protocol && strcmp(protocol, "acme") == 0 && i < COUNT(acme); i++)
		if (!key_stands(&local_config_keys, config, acme[i].key) &&
		    !record_find(to, acme[i].key))
			record_add(to, acme[i].key, acme[i].value);
	record_free(settings);
	return r;
}

int store_effective(struct store *store, const struct object *object, const struct record *config,
                    struct record **settings)
{
	struct record *whole = record_copy(config);
	int r = whole ? 0 : -ENOMEM;

	if (r == 0 && object->kind == KIND_LOCAL) {
		r = add_defaults(store, config, whole);
		if (!record_get(whole, "auto-enroll") &&
		    db_declared_find(store->db, object->id) == 0)
			record_add(whole, "auto-enroll", "enable");
	}
	if (r == 0 && !(*settings = key_effective(config_table(object->kind), whole)))
		r = -ENOMEM;
	record_free(whole);
	return r;
}

int store_settings(struct store *store, const struct object *object, struct record **settings)
{
	struct record *config = NULL;
	int r = store_config(store, object, &config);

	if (r < 0)
		return r;
	r = store_effective(store, object, config, settings);
	record_free(config);
	return r;
}

int store_event(struct store *store, const struct object *object, const char *name,
                const struct record *more)
{
	json_t *json = json_object();
	char time[RFC3339_MAX], *text = NULL, *line = NULL;
	int r = -ENOMEM, length;

	rfc3339(store_now(store), time);
	if (json) {
		json_object_set_new(json, "time", json_string(time));
		json_object_set_new(json, "event", json_string(name));
		if (object) {
			json_object_set_new(json, "kind", json_string(kind_name(object->kind)));
			json_object_set_new(json, "name", json_string(object->name));
		}
		for (size_t i = 0; more && i < record_count(more); i++) {
			const struct field *field = record_field(more, i);

			json_object_set_new(json, field->key, json_string(field->value));
		}
		text = json_dumps(json, JSON_COMPACT | JSON_PRESERVE_ORDER);
	}
	length = text ? asprintf(&line, "%s\n", text) : -1;
	if (length > 0)
		r = db_event_add(store->db, line, (size_t)length, EVENTS_KEPT);
	store->wake = true;
	if (r == 0)
		log_info("%s %s: %s", object ? kind_name(object->kind) : "",
		         object ? object->name : "", name);
	free(line);
	free(text);
	json_decref(json);
	return r;
}

int store_event_for(struct store *store, const struct object *object, const char *name,
                    const char *reason)
{
	struct record *more = record_new();
	int r = -ENOMEM;

	if (more) {
		if (reason)
			record_add(more, "reason", reason);
		r = store_event(store, object, name, more);
	}
	record_free(more);
	return r;
}

int store_refusal(struct store *store, const struct object *object, const struct error *err)
{
	int r = db_object_set_error(store->db, object->id, err->text);

	return r < 0 ? r : store_event_for(store, object, "refused", err->text);
}

void store_refused(struct store *store, const struct object *object, const struct error *err)
{
	int r = store_begin(store);

	if (r == 0) {
		r = store_refusal(store, object, err);
		/* not a change of the request: it may be refused again */
		if (r == 0)
			r = db_release(store->db);
		if (r < 0)
			db_undo(store->db);
	}
}

void store_tell(struct store *store, const char *frame, const char *reason)
{
	struct record *record = record_new();

	if (!record)
		return;
	record_add(record, "frame", frame);
	if (reason)
		record_add(record, "reason", reason);
	channel_send(store->supervisor, record, NULL, 0);
	record_free(record);
}

static void stop(struct store *store)
{
	store->stopping = true;
	store_commit(store);
	older_note(store);
	session_stop(store->session);
	uv_stop(store->loop);
}

/* The settings, with what they declare, are there: at the start, or again. */
static void take_declared(struct store *store)
{
	int r = declare_take(store);

	if (r < 0)
		log_error("what is declared cannot be read: %s", strerror(-r));
	else if (store->serving)
		declare_apply(store);
}

/* The files cannot be read again, and all stays as it was. */
static void conf_refused(struct store *store, const struct record *record)
{
	const char *reason = record_get(record, "reason");

	if (reason && store_begin(store) == 0)
		store_end(store, store_event_for(store, NULL, "conf-refused", reason));
}

static void supervisor_said(struct channel *channel, struct record *record, int *fds, int code,
                            void *user)
{
	struct store *store = user;

	(void)channel;
	if (!record) {
		log_error("the supervisor is gone: %s", strerror(-code));
		_exit(1);
	}
	if (children_received(store, record, fds) || challenges_received(store, record, fds) ||
	    dns_records_received(store, record) || tunnels_received(store, record, fds) ||
	    keyrings_received(store, record) || offer_received(store, record, fds)) {
	} else if (record_is(record, "frame", "on-change-done")) {
		on_change_done(store, record);
	} else if (record_is(record, "frame", "conf")) {
		record_free(store->conf);
		store->conf = record;
		take_declared(store);
		return;
	} else if (record_is(record, "frame", "conf-refused")) {
		conf_refused(store, record);
	} else if (record_is(record, "frame", "alive")) {
		if (store->serving)
			store_tell(store, "alive", NULL);
	} else if (record_is(record, "frame", "stop")) {
		stop(store);
	}
	record_free(record);
}

void store_later(struct store *store, uv_timer_t *timer, uv_timer_cb call, uint64_t milliseconds)
{
	if (!timer->data)
		uv_timer_init(store->loop, timer);
	timer->data = store;
	uv_update_time(store->loop); /* from now on, not from when this turn began */
	uv_timer_start(timer, call, milliseconds, 0);
}

static void turn_ends(uv_check_t *check)
{
	store_commit(check->data);
}

static void turn_begins(uv_prepare_t *prepare)
{
	store_commit(prepare->data);
}

static void second(uv_timer_t *timer)
{
	struct store *store = timer->data;

	secrets_tick(store);
	workers_tick(store);
	challenges_tick(store);
	temporary_expire(store);
	if (store->serving) {
		clock_follow(store);
		dns_records_tick(store);
		rows_fade(store);
		jobs_run(store);
	}
	store_commit(store);
	older_note(store);
}

static void hook_before(void *user)
{
	store_commit(user);
}

static bool hook_in_transaction(void *user)
{
	return ((struct store *)user)->begun;
}

static void hook_ended(void *user)
{
	struct store *store = user;

	log_info("the mount is gone");
	stop(store);
}

static const struct session_hooks hooks = {
	.before = hook_before,
	.after = hook_before,
	.in_transaction = hook_in_transaction,
	.opened_in_vain = open_file_in_vain,
	.ended = hook_ended,
};

/* The changes that a predecessor made and may not have answered. */
static int load_applied(struct store *store)
{
	uint64_t unique = 0;

	if (!store->shared->init_length) /* a new mount: its requests count from the start */
		return 0;
	while (db_applied_next(store->db, unique, &unique) == 0) {
		uint64_t *more = realloc(store->applied, (store->applied_count + 1) * sizeof *more);

		if (!more)
			return -ENOMEM;
		store->applied = more;
		store->applied[store->applied_count++] = unique;
	}
	return 0;
}

static int fatal(struct store *store, const char *reason)
{
	log_error("%s", reason);
	store_tell(store, "fatal", reason);
	return 1;
}

static void start_loop(struct store *store)
{
	uv_check_init(store->loop, &store->check);
	uv_prepare_init(store->loop, &store->prepare);
	uv_timer_init(store->loop, &store->tick);
	store->check.data = store->prepare.data = store->tick.data = store;
	uv_check_start(&store->check, turn_ends);
	uv_prepare_start(&store->prepare, turn_begins);
	uv_timer_start(&store->tick, second, 1000, 1000);
}

static int open_store(struct store *store, int control_fd, int fuse_fd, struct error *err)
{
	int r;

	store->loop = uv_default_loop();
	store->last_effect = &store->effects;
	store->snapshots = calloc(OPEN_FILES + 1, sizeof *store->snapshots);
	store->supervisor =
		channel_open(store->loop, control_fd, FRAME_MAX, supervisor_said, store);
	if (!store->snapshots || !store->supervisor)
		return error_set(err, -ENOMEM, "out of memory");
	r = db_open(key_value(&daemon_keys, store->conf, "store"), store->shared->init_length != 0,
	            &store->db, err);
	if (r < 0)
		return r;
	clock_load(store);
	r = load_applied(store);
	if (r < 0)
		return error_set(err, r, "the store cannot be read: %s", strerror(-r));
	return session_open(store->loop, fuse_fd, store->shared, &tree_ops, &hooks, store,
	                    &store->session, err);
}

/* Requests that wait for a dead predecessor's answer do not wait for the keys process as well. */
static void serve_requests(struct store *store)
{
	if (store->serving)
		return;
	store->serving = true;
	session_start(store->session);
	open_file_sweep(store);
	free(store->applied);
	store->applied = NULL;
	store->applied_count = 0;
}

/*
 * Nothing is written before the store key is known to be the right one, and a full disk is no
 * reason not to serve: the first change clears these as well.
 */
static void forget_applied(struct store *store)
{
	int r = store->shared->init_length ? 0 : db_applied_clear(store->db);

	if (r < 0)
		log_warning("the store cannot be written: %s", strerror(-r));
}

void store_serve(struct store *store)
{
	forget_applied(store);
	if (!store->shared->init_length)
		older_check(store);
	serve_requests(store);
	declare_apply(store);
	dns_records_start(store);
	crl_read_again(store);
	jobs_run(store);
	on_change_resume(store);
	store_commit(store);
	older_note(store);
	store_tell(store, "ready", NULL);
}

int store_start(struct store *store, int control_fd, int fuse_fd, int shared_fd, int folder_fd)
{
	struct error err = { 0 };

	store->folder = folder_fd;
	store->uid = (uid_t)record_number(store->conf, "owner-uid", 0);
	store->gid = (gid_t)record_number(store->conf, "owner-gid", 0);
	store->privileged = store->uid == 0;
	store->shared = shared_map(shared_fd);
	if (!store->shared)
		return 1;
	store->shared->generation++;
	if (open_store(store, control_fd, fuse_fd, &err) < 0)
		return fatal(store, err.text);
	start_loop(store);
	take_declared(store);
	open_file_count(store);
	crl_sweep(store);
	secrets_check(store);
	if (store->shared->init_length) {
		serve_requests(store);
		store_tell(store, "serves", NULL);
	}
	return 0;
}

int store_main(int control_fd, int fuse_fd, int shared_fd, int folder_fd)
{
	static struct store store; /* for all of the process' life */
	struct rlimit no_core = { 0, 0 };
	struct error err = { 0 };

	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_CORE, &no_core);
	prctl(PR_SET_DUMPABLE, 0); /* passwords, and keys on their way to readers */
	OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG, NULL);
	if (confine(CONFINED_STORE, NULL, &err) < 0) {
		log_error("the store cannot start: %s", err.text);
		return 1;
	}
	if (frame_receive(control_fd, &store.conf, NULL) < 0) /* its predecessor lives till then */
		return 1;
	prctl(PR_SET_NAME, "pkifsd-store"); /* so that one sees which of two it is */
	log_open("store", key_value(&daemon_keys, store.conf, "log"),
	         log_level(key_value(&daemon_keys, store.conf, "log-level")));
	if (store_start(&store, control_fd, fuse_fd, shared_fd, folder_fd))
		return 1;
	uv_run(store.loop, UV_RUN_DEFAULT);
	db_close(store.db);
	return 0;
}
