#include "pkifs/declare.h"

#include "common/log.h"
#include "pkifs/autoenroll.h"
#include "pkifs/conf.h"
#include "pkifs/object.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#define PART          100 /* objects in a turn */
#define AGAIN_MS      5000
#define PROTOCOLS     4
#define CONFIG_MAX    (64u << 10) /* what a user can write back */
#define DEFAULTS_META "auto-re-enrollment"

/* A section of an object. */
struct declaration {
	enum kind kind;
	char name[NAME_MAX_LENGTH + 1];
	const char *text; /* its keys, in the record that SECTIONS has */
	size_t length;
};

/* The steps of applying, in this order. */
enum step { STEP_DEFAULTS, STEP_MAKE, STEP_CONFIGURE, STEP_FORGET, STEP_DONE };

static struct {
	struct record *sections; /* as the supervisor sent them */
	struct declaration *all;
	struct declaration **sorted; /* the same, by kind and name */
	size_t count;
	struct {
		char protocol[8];
		struct record *keys;
	} defaults[PROTOCOLS];
	enum step step;
	size_t next;       /* declaration to be looked at */
	int64_t forgotten; /* declared object that was looked at last */
	uv_timer_t later;
} d;

static int by_name(const void *one, const void *other)
{
	const struct declaration *a = *(const struct declaration *const *)one,
				 *b = *(const struct declaration *const *)other;

	return a->kind != b->kind ? (a->kind < b->kind ? -1 : 1) : strcmp(a->name, b->name);
}

static bool is_declared(const struct object *object)
{
	struct declaration key = { .kind = object->kind };
	const struct declaration *at = &key;

	memcpy(key.name, object->name, sizeof key.name);
	return d.count && bsearch(&at, d.sorted, d.count, sizeof *d.sorted, by_name);
}

static void drop_all(void)
{
	for (size_t i = 0; i < PROTOCOLS; i++) {
		record_free(d.defaults[i].keys);
		d.defaults[i].keys = NULL;
	}
	record_free(d.sections);
	free(d.all);
	free(d.sorted);
	d.sections = NULL;
	d.all = NULL;
	d.sorted = NULL;
	d.count = 0;
}

static int take_defaults(const struct field *protocol, const struct field *keys)
{
	size_t i = 0;

	while (i < PROTOCOLS && d.defaults[i].keys)
		i++;
	if (i == PROTOCOLS || protocol->length >= sizeof d.defaults[i].protocol)
		return -EBADMSG;
	memcpy(d.defaults[i].protocol, protocol->value, protocol->length + 1);
	return record_parse(keys->value, keys->length, NULL, &d.defaults[i].keys, NULL);
}

/* The section that stands from FIRST on, as conf.h describes it. */
static int take_section(size_t first)
{
	const struct field *kind = record_field(d.sections, first),
			   *name = record_field(d.sections, first + 1),
			   *keys = record_field(d.sections, first + 2);
	struct declaration *new = &d.all[d.count];

	if (strcmp(kind->value, CONF_DEFAULTS) == 0)
		return take_defaults(name, keys);
	if (name->length > NAME_MAX_LENGTH)
		return -EBADMSG;
	new->kind = KIND_CA;
	while (new->kind < KIND_IPSEC && strcmp(kind->value, kind_name(new->kind)) != 0)
		new->kind++;
	memcpy(new->name, name->value, name->length + 1);
	new->text = keys->value;
	new->length = keys->length;
	d.sorted[d.count++] = new;
	return 0;
}

/* Moves what is declared out of CONF, which is searched for each setting. */
static void move_sections(struct record *conf)
{
	static const char *const parts[] = { CONF_KIND, CONF_NAME, CONF_KEYS };

	for (size_t i = 0; i < record_count(conf); i++) {
		const struct field *field = record_field(conf, i);

		for (size_t j = 0; j < COUNT(parts); j++)
			if (strcmp(field->key, parts[j]) == 0)
				record_add_bytes(d.sections, field->key, field->value,
				                 field->length);
	}
	for (size_t j = 0; j < COUNT(parts); j++)
		record_remove(conf, parts[j]);
}

int declare_take(struct store *store)
{
	size_t count = record_count(store->conf);
	int r = 0;

	drop_all();
	d.step = STEP_DEFAULTS;
	d.sections = record_new();
	d.all = calloc(count + 1, sizeof *d.all);
	d.sorted = calloc(count + 1, sizeof *d.sorted);
	if (!d.sections || !d.all || !d.sorted)
		return -ENOMEM;
	move_sections(store->conf);
	if (record_failed(d.sections))
		return -ENOMEM;
	for (size_t i = 0; r == 0 && i + 2 < record_count(d.sections); i += 3)
		r = take_section(i);
	if (d.count)
		qsort(d.sorted, d.count, sizeof *d.sorted, by_name);
	return r;
}

const struct record *declared_defaults(const char *protocol)
{
	for (size_t i = 0; i < PROTOCOLS && d.defaults[i].keys; i++)
		if (!protocol || strcmp(d.defaults[i].protocol, protocol) == 0)
			return d.defaults[i].keys;
	return NULL;
}

int declared_keys(struct store *store, const struct object *object, struct record **keys)
{
	struct blob text = { 0 };
	int r = db_declared_get(store->db, object->id, &text);

	if (r == 0)
		r = record_parse(text.data, text.length, NULL, keys, NULL);
	blob_clear(&text);
	return r;
}

/* The next field of KEY, however it is spelled, at or after *INDEX; NULL at the end. */
static const struct field *next_of(const struct key_table *table, const struct record *record,
                                   const struct key *key, size_t *index)
{
	while (*index < record_count(record)) {
		const struct field *field = record_field(record, (*index)++);

		if (key_find(table, field->key) == key)
			return field;
	}
	return NULL;
}

/* Whether ONE and OTHER say the same about KEY. */
static bool is_same(const struct key_table *table, const struct key *key, const struct record *one,
                    const struct record *other)
{
	const struct field *a, *b;
	size_t i = 0, j = 0;

	if (!(key->flags & KEY_REPEATS))
		return strcmp(key_value(table, one, key->name),
		              key_value(table, other, key->name)) == 0;
	do {
		a = next_of(table, one, key, &i);
		b = next_of(table, other, key, &j);
		if (!a != !b || (a && strcmp(a->value, b->value) != 0))
			return false;
	} while (a);
	return true;
}

static int refuse(const struct key *key, struct error *err)
{
	return error_set(err, -EINVAL,
	                 "%s is declared in pkifs.conf, which wins: change it there, then send "
	                 "pkifsd SIGHUP",
	                 key->name);
}

int declared_hold(struct store *store, const struct object *object, const struct record *config,
                  struct record **missing, struct error *err)
{
	const struct key_table *table = config_table(object->kind);
	struct record *keys = NULL;
	int r;

	*missing = record_new();
	if (!*missing)
		return -ENOMEM;
	r = declared_keys(store, object, &keys);
	if (r == -ENOENT)
		return 0;
	for (size_t i = 0; r == 0 && i < record_count(keys); i++) {
		const struct field *field = record_field(keys, i);
		const struct key *key = key_find(table, field->key);

		if (!key) /* of another version */
			continue;
		if (!key_stands(table, config, key->name))
			record_add_bytes(*missing, field->key, field->value, field->length);
		else if (!is_same(table, key, keys, config))
			r = refuse(key, err);
	}
	if (r == 0 && record_failed(*missing))
		r = -ENOMEM;
	record_free(keys);
	return r;
}

int declared_hold_line(struct store *store, const struct object *object, const struct key *key,
                       const char *value, struct error *err)
{
	const struct key_table *table = config_table(object->kind);
	const struct field *field;
	struct record *keys = NULL;
	size_t index = 0;
	int r = declared_keys(store, object, &keys);

	if (r == -ENOENT)
		return 0;
	if (r == 0 && key_stands(table, keys, key->name)) {
		do
			field = next_of(table, keys, key, &index);
		while (field && strcmp(field->value, value) != 0);
		r = field ? 0 : refuse(key, err);
	}
	record_free(keys);
	return r;
}

/* The object is as it was; the reason stands in its last-error. */
static void cannot(struct store *store, const struct declaration *declaration,
                   const struct error *err)
{
	struct object object;

	log_warning("%s %s cannot be as it is declared: %s", kind_name(declaration->kind),
	            declaration->name, err->text);
	if (db_object_find(store->db, declaration->kind, declaration->name, &object) == 0 &&
	    strcmp(object.last_error, err->text) != 0)
		store_refused(store, &object, err);
}

static int make(struct store *store, const struct declaration *declaration)
{
	struct object object;
	int r = db_object_find(store->db, declaration->kind, declaration->name, &object);

	if (r != -ENOENT)
		return r;
	r = store_begin(store);
	if (r == 0)
		r = store_end(store, object_create(store, declaration->kind, declaration->name,
		                                   store->uid, store->gid));
	return r;
}

/* KEYS, and with an empty value those of BEFORE that are no longer among them. */
static struct record *changes(const struct key_table *table, const struct record *keys,
                              const struct record *before)
{
	struct record *changes = record_copy(keys);

	for (size_t i = 0; changes && before && i < record_count(before); i++) {
		const struct key *key = key_find(table, record_field(before, i)->key);

		if (key && !key_stands(table, changes, key->name))
			record_add(changes, key->name, "");
	}
	return changes;
}

/* The object's config text as it is declared now; inside a change. */
static int change(struct store *store, const struct object *object,
                  const struct declaration *declaration, struct error *err)
{
	const struct key_table *table = config_table(object->kind);
	struct record *keys = NULL, *before = NULL, *new = NULL;
	struct blob text = { 0 };
	int64_t owner, created;
	char *merged = NULL;
	size_t length = 0;
	int r;

	r = declared_keys(store, object, &before);
	if (r == 0 || r == -ENOENT)
		r = record_parse(declaration->text, declaration->length, NULL, &keys, err);
	if (r == 0 && !(new = changes(table, keys, before)))
		r = -ENOMEM;
	if (r == 0)
		r = db_config_get(store->db, object->config, &owner, &created, &text);
	if (r == 0)
		r = key_merge(table, text.data, text.length, new, &merged, &length, err);
	if (r == 0 && length > CONFIG_MAX)
		r = error_set(err, -EFBIG, "the config would have more than %u bytes", CONFIG_MAX);
	if (r == 0)
		r = db_declared_set(store->db, object->id, declaration->text, declaration->length);
	if (r == 0)
		r = config_accept(store, object, merged, length, store->uid, false, err);
	if (r == 0) /* also where the config was the same before it was declared */
		r = auto_enroll_reconfigured(store, object->id);
	OPENSSL_clear_free(merged, merged ? length + 1 : 0);
	blob_clear(&text);
	record_free(new);
	record_free(before);
	record_free(keys);
	return r;
}

/* 0, also where it cannot be; another error is the store's own, and all is tried again. */
static int configure(struct store *store, const struct declaration *declaration)
{
	struct error err = { 0 };
	struct blob before = { 0 };
	struct object object;
	bool same;
	int r;

	r = db_object_find(store->db, declaration->kind, declaration->name, &object);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = db_declared_get(store->db, object.id, &before);
	same = r == 0 && before.length == declaration->length &&
	       memcmp(before.data, declaration->text, before.length) == 0;
	blob_clear(&before);
	if (same)
		return 0;
	r = store_begin(store);
	if (r == 0)
		r = store_end(store, change(store, &object, declaration, &err));
	if (r < 0 && err.code) {
		cannot(store, declaration, &err);
		r = 0;
	}
	return r;
}

/* The next declared object, which may have left the files: its config stays. */
static int forget(struct store *store)
{
	struct object object;
	int r = db_declared_next(store->db, d.forgotten, &d.forgotten);

	if (r == 0)
		r = db_object_get(store->db, d.forgotten, &object);
	if (r < 0 || is_declared(&object))
		return r;
	r = store_begin(store);
	if (r < 0)
		return r;
	r = db_declared_remove(store->db, object.id);
	if (r == 0)
		r = auto_enroll_reconfigured(store, object.id);
	if (r == 0)
		r = store_event(store, &object, "undeclared", NULL);
	return store_end(store, r);
}

/* The defaults of a protocol changed: certificate ids have another config. */
static int compare_defaults(struct store *store)
{
	struct record *now = record_new();
	unsigned char *bytes = NULL;
	struct blob before = { 0 };
	size_t length = 0;
	bool same;
	int r = -ENOMEM;

	for (size_t i = 0; now && i < PROTOCOLS && d.defaults[i].keys; i++) {
		record_add(now, "protocol", d.defaults[i].protocol);
		record_append(now, d.defaults[i].keys);
	}
	if (now)
		r = record_encode(now, &bytes, &length);
	record_free(now);
	if (r < 0)
		return r;
	r = db_meta_get(store->db, DEFAULTS_META, &before);
	same = before.length == length && (!length || memcmp(before.data, bytes, length) == 0);
	blob_clear(&before);
	r = r == -ENOENT ? 0 : r;
	if (r == 0 && !same) {
		r = store_begin(store);
		if (r == 0) {
			r = db_meta_set(store->db, DEFAULTS_META, bytes, length);
			if (r == 0)
				r = auto_enroll_all(store);
			if (r == 0)
				r = db_action_plan_all(store->db);
			r = store_end(store, r);
		}
	}
	OPENSSL_clear_free(bytes, length);
	return r;
}

/* One step for one object. 0; 1: all is done; else an error of the store's. */
static int go_on(struct store *store)
{
	int r;

	switch (d.step) {
	case STEP_DEFAULTS:
		r = compare_defaults(store);
		if (r == 0)
			d.step = STEP_MAKE;
		d.next = 0;
		return r;
	case STEP_MAKE:
	case STEP_CONFIGURE:
		if (d.next == d.count) {
			d.step++;
			d.next = 0;
			d.forgotten = 0;
			return 0;
		}
		r = d.step == STEP_MAKE ? make(store, &d.all[d.next])
		                        : configure(store, &d.all[d.next]);
		if (r == 0)
			d.next++;
		return r;
	case STEP_FORGET:
		r = forget(store);
		if (r == -ENOENT)
			d.step = STEP_DONE;
		return r == -ENOENT ? 0 : r;
	default:
		return 1;
	}
}

static void go_on_later(uv_timer_t *timer)
{
	declare_apply(timer->data);
}

/* What was done is durable, or (a full disk) all of it is to be looked at again. */
static void committed(void *user, int code)
{
	if (code == 0)
		return;
	log_warning("what is declared cannot be stored, and is tried again: %s", strerror(-code));
	d.step = STEP_DEFAULTS;
	store_later(user, &d.later, go_on_later, AGAIN_MS);
}

void declare_apply(struct store *store)
{
	int r = 0;

	for (int i = 0; r == 0 && i < PART; i++)
		r = go_on(store);
	if (r < 0)
		committed(store, r);
	else if (store->begun && store_after(store, committed, store) < 0)
		committed(store, -ENOMEM);
	else if (r == 0)
		store_later(store, &d.later, go_on_later, 1);
}
