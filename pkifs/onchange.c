/*
 * `on-change`: the program that a config names is run by the supervisor after a new version is in
 * force. Kept as "pending" from the version's own commit on, so that a restart does not lose it.
 */
#include "pkifs/publish.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "on-change-"

static void meta_name(char name[64], int64_t object)
{
	snprintf(name, 64, PREFIX "%lld", (long long)object);
}

static void ask_supervisor(struct store *store, struct record *record)
{
	channel_send(store->supervisor, record, NULL, 0);
	record_free(record);
}

static int ask_after(struct store *store, const struct object *object, int64_t number,
                     const char *command)
{
	struct record *record = record_new();

	if (!record)
		return -ENOMEM;
	record_add(record, "frame", "on-change");
	record_add_number(record, "id", object->id);
	record_add(record, "certificate-id", object->name);
	record_add_number(record, "version", number);
	record_add(record, "command", command);
	return store_send_after(store, ask_supervisor, record);
}

int on_change_run(struct store *store, const struct object *object, int64_t row)
{
	struct record *config = NULL;
	struct version version = { 0 };
	const char *command;
	char name[64];
	int r;

	r = store_settings(store, object, &config);
	command = r == 0 ? record_get(config, "on-change") : NULL;
	if (command && *command) {
		meta_name(name, object->id);
		r = db_version_get(store->db, row, &version);
		if (r == 0)
			r = db_meta_set(store->db, name, "pending", 7);
		if (r == 0)
			r = ask_after(store, object, version.number, command);
		version_clear(&version);
	}
	record_free(config);
	return r;
}

static int note_end(struct store *store, const struct record *record)
{
	const char *status = record_get(record, "status");
	struct object object = { .id = record_number(record, "id", 0) };
	struct error err = { 0 };
	char name[64];
	int r;

	if (!status)
		return -EBADMSG;
	meta_name(name, object.id);
	r = db_object_get(store->db, object.id, &object);
	if (r == 0)
		r = db_meta_set(store->db, name, *status ? status : "done",
		                *status ? strlen(status) : 4);
	if (r == 0 && *status) {
		error_set(&err, -EIO, "on-change: %s", status);
		r = db_object_set_error(store->db, object.id, err.text);
	}
	return r;
}

static void tell_kept(void *store, int code)
{
	(void)code; /* what could not be stored is not said again */
	store_tell(store, "on-change-kept", NULL);
}

void on_change_done(struct store *store, const struct record *record)
{
	if (store_begin(store) == 0)
		store_end(store, note_end(store, record));
	if (store_after(store, tell_kept, store) < 0)
		tell_kept(store, -ENOMEM);
}

void on_change_status(struct store *store, const struct object *object, struct record *status)
{
	struct blob value = { 0 };
	char name[64];

	meta_name(name, object->id);
	if (db_meta_get(store->db, name, &value) == 0)
		record_add(status, "on-change-status", value.data);
	blob_clear(&value);
}

void on_change_resume(struct store *store)
{
	char name[64] = PREFIX;

	while (db_meta_next(store->db, name, PREFIX "~", "pending", name, sizeof name) == 0) {
		struct object object;
		struct edition edition = { 0 };
		int r = store_begin(store);

		if (r < 0)
			return;
		if (db_object_get(store->db, strtoll(name + strlen(PREFIX), NULL, 10), &object) ==
		            0 &&
		    db_edition_get(store->db, object.edition, &edition) == 0 && edition.version)
			r = on_change_run(store, &object, edition.version);
		else
			r = db_meta_remove(store->db, name);
		edition_clear(&edition);
		if (store_end(store, r) < 0)
			return;
	}
}
