#include "pkifs/tunnel.h"

#include "common/log.h"
#include "common/proposal.h"
#include "common/traffic.h"
#include "pkifs/engine.h"
#include "pkifs/offer.h"
#include "pkifs/tunnel_part.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

void tunnel_change(struct store *store, int (*act)(struct store *store), const char *what)
{
	int r = store_begin(store);

	if (r == 0)
		r = store_end(store, act(store));
	if (r < 0)
		log_error("%s: %s", what, strerror(-r));
}

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
		r = tunnel_tell(store, &standing->object);
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
	tunnel_process_hurry(); /* one that could not be started is tried again */
	r = store_begin(store);
	if (r == 0)
		r = store_end(store, begin(store, standing));
	if (r < 0)
		log_error("the request of tunnel %s cannot be begun: %s", standing->object.name,
		          strerror(-r));
}

int tunnel_made(struct store *store, const struct object *object)
{
	int r = tunnel_choose_range(store);

	store->due = true;
	return r < 0 ? r : db_object_set_state(store->db, object->id, "down", store_now(store));
}

int tunnel_reconfigured(struct store *store, const struct object *object)
{
	struct object now;
	int r = db_object_get(store->db, object->id, &now);

	return r < 0 ? r : tunnel_tell(store, &now);
}

static void send_forget(struct store *store, struct record *frame)
{
	told_drop(record_number(frame, "tunnel", 0));
	tunnel_send(store, frame);
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

/* Old SAs whose time has come are taken away. */
static int retire(struct store *store)
{
	struct object object = { 0 };
	int r = 0;

	while (r == 0 && (r = db_object_next(store->db, KIND_IPSEC, object.id, &object)) == 0)
		if ((r = engine_retire(store, &object)) == 1)
			r = tunnel_tell(store, &object);
	return r == -ENOENT ? 0 : r;
}

void tunnels_run(struct store *store)
{
	int64_t now = store_now(store);

	if (!tunnel_process_runs(store))
		return;
	if (tunnels_look_due(now))
		tunnel_change(store, tunnel_look_at_all,
		              "the trust of tunnels cannot be looked at");
	if (engine_retire_due(now))
		tunnel_change(store, retire, "old SAs cannot be taken away");
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
