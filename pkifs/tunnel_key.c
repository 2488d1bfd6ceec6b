#include "pkifs/tunnel_key.h"

#include "pkifs/secrets.h"

#include <errno.h>
#include <stdlib.h>

struct key_wish {
	struct store *store;
	void (*send)(struct store *store, struct record *frame);
	int64_t tunnel, version;
};

static void key_opened(void *user, const struct record *answer, const struct error *err)
{
	struct key_wish *wish = user;
	const struct field *pem = answer ? record_find(answer, "pem") : NULL;
	struct record *frame = record_new();

	if (frame) {
		record_add(frame, "frame", "key");
		record_add_number(frame, "tunnel", wish->tunnel);
		record_add_number(frame, "version", wish->version);
		if (pem)
			record_add_bytes(frame, "key", pem->value, pem->length);
		else
			record_add(frame, "reason", err->text);
		wish->send(wish->store, frame);
	}
	free(wish);
}

/* The row of the key of VERSION of the tunnel's certificate id. */
static int find_key(struct store *store, int64_t tunnel, int64_t number, int64_t *key)
{
	struct record *settings = NULL;
	struct version version = { 0 };
	struct object object, local;
	int64_t row;
	int r = db_object_get(store->db, tunnel, &object);

	if (r == 0)
		r = store_settings(store, &object, &settings);
	if (r == 0 && (object.kind != KIND_IPSEC || !record_get(settings, "certificate-id") ||
	               !record_is(settings, "engine", "charon")))
		r = -ENOENT;
	if (r == 0)
		r = db_object_find(store->db, KIND_LOCAL, record_get(settings, "certificate-id"),
		                   &local);
	if (r == 0)
		r = db_version_find(store->db, local.id, number, &row);
	if (r == 0)
		r = db_version_get(store->db, row, &version);
	if (r == 0)
		*key = version.key_pair;
	record_free(settings);
	version_clear(&version);
	return r;
}

void tunnel_lend_key(struct store *store, const struct record *record,
                     void (*send)(struct store *store, struct record *frame))
{
	struct key_wish *wish = calloc(1, sizeof *wish);
	const struct error err = { .text = "the private key cannot be read" };
	int64_t key;

	if (!wish)
		return;
	*wish = (struct key_wish){ .store = store,
		                   .send = send,
		                   .tunnel = record_number(record, "tunnel", 0),
		                   .version = record_number(record, "version", 0) };
	if (find_key(store, wish->tunnel, wish->version, &key) < 0 ||
	    secrets_open(store, key, key_opened, wish) < 0)
		key_opened(wish, NULL, &err);
}
