#include "pkifs/standing.h"

#include "pkifs/autoenroll.h"
#include "pkifs/object.h"
#include "pkifs/renewal.h"
#include "pkifs/tunnel.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#define BACK_OFF_MAX 60
/* What a CA may say about when to come again: not at once for ever (nor never). */
#define AFTER_MIN 1

void standing_clear(struct standing *standing)
{
	request_clear(&standing->request);
	record_free(standing->config);
	record_free(standing->settings);
	record_free(standing->resume);
	edition_clear(&standing->edition);
}

int standing_get(struct store *store, int64_t object, struct standing *standing)
{
	int r;

	*standing = (struct standing){ 0 };
	r = db_object_get(store->db, object, &standing->object);
	if (r == 0)
		r = db_request_get(store->db, object, &standing->request);
	if (r == 0)
		r = store_settings(store, &standing->object, &standing->config);
	if (standing->object.kind == KIND_CA)
		standing->profile = standing->object;
	else if (r == 0 && standing->object.kind == KIND_LOCAL &&
	         object_profile(store, standing->config, &standing->profile) < 0)
		standing->profile = (struct object){ 0 };
	if (r == 0 && standing->profile.id)
		r = store_settings(store, &standing->profile, &standing->settings);
	if (r == 0)
		r = db_edition_get(store->db, standing->object.edition, &standing->edition);
	if (r == 0)
		r = record_decode((const unsigned char *)standing->request.resume.data,
		                  standing->request.resume.length, &standing->resume);
	if (r < 0)
		standing_clear(standing);
	return r;
}

/* A renewal: ever later, but often enough before the certificate ends. */
static int64_t renewal_wait(struct store *store, const struct standing *standing, int64_t interval)
{
	struct version version = { 0 };
	int64_t left = 0;

	if (db_version_get(store->db, standing->edition.version, &version) == 0)
		left = renewal_end(&version) - store_now(store);
	version_clear(&version);
	return renewal_delay(standing->request.attempts, interval, left);
}

int64_t standing_delay(struct store *store, const struct standing *standing)
{
	long long interval = 0;
	unsigned char random = 0;

	if (standing->settings)
		interval = record_number(standing->settings, "enrollment-retry-interval", 0);
	if (renewal_is(standing->request.action) && !standing->request.pending)
		return renewal_wait(store, standing, interval);
	if (interval == 0) {
		for (interval = 1;
		     interval < 1ll << (standing->request.attempts < 31 ? standing->request.attempts
		                                                        : 31) &&
		     interval < BACK_OFF_MAX;)
			interval *= 2;
		interval = interval < BACK_OFF_MAX ? interval : BACK_OFF_MAX;
	}
	RAND_bytes(&random, 1);
	return interval + interval * random / 256 / 10;
}

int standing_event(struct store *store, const struct standing *standing, const char *name)
{
	struct record *more = record_new();
	int r = -ENOMEM;

	if (more) {
		record_add(more, "action", standing->request.action);
		if (*standing->request.error)
			record_add(more, "reason", standing->request.error);
		r = store_event(store, &standing->object, name, more);
	}
	record_free(more);
	return r;
}

int standing_set(struct store *store, struct standing *standing, enum request_state state,
                 const char *error)
{
	int r;

	standing->request.state = state;
	standing->request.changed = store_now(store);
	snprintf(standing->request.error, sizeof standing->request.error, "%s", error ? error : "");
	text_printable(standing->request.error); /* it may be a worker's */
	if (!request_active(&standing->request))
		blob_clear(&standing->request.resume);
	r = db_request_update(store->db, &standing->request);
	if (r == 0 && error)
		r = db_object_set_error(store->db, standing->object.id, standing->request.error);
	store->wake = true;
	return r;
}

int standing_finish(struct store *store, struct standing *standing, enum request_state state,
                    const char *error)
{
	int r = standing_set(store, standing, state, error);

	if (r == 0 && standing->object.kind == KIND_IPSEC)
		r = tunnel_forget_keys(store, &standing->request);
	if (r == 0)
		r = auto_enroll_ended(store, standing->object.id, false);
	if (r == 0)
		r = renewal_ended(store, &standing->request, state);
	return r < 0 ? r : standing_event(store, standing, request_state_name(state));
}

static bool asks_the_network(const char *action)
{
	return strcmp(action, "enroll") == 0 || strcmp(action, "re-enroll") == 0 ||
	       strcmp(action, "refresh-crl") == 0 || strcmp(action, "next-ca") == 0 ||
	       strcmp(action, "revoke") == 0 || strncmp(action, "account-", 8) == 0;
}

/* Not now: again after SECONDS (negative: as the profile says), or never where that was the last.
 */
int standing_later(struct store *store, struct standing *standing, bool pending, const char *reason,
                   long long seconds)
{
	long long limit =
		standing->settings ? record_number(standing->settings, "enrollment-retry", 0) : 0;
	int r;

	if (!asks_the_network(standing->request.action))
		return standing_finish(store, standing, REQUEST_FAILED, reason);
	if (limit && standing->request.attempts >= limit) {
		char text[512];

		snprintf(text, sizeof text, "%s, after %lld %s",
		         pending ? "the CA has still not decided" : reason, limit,
		         limit == 1 ? "retry" : "retries");
		return standing_finish(store, standing, REQUEST_FAILED, text);
	}
	if (seconds >= 0)
		seconds = seconds < AFTER_MIN         ? AFTER_MIN
		          : seconds > STANDING_LATEST ? STANDING_LATEST
		                                      : seconds;
	standing->request.pending = pending;
	standing->request.attempts++;
	standing->request.next_attempt =
		store_now(store) + (seconds >= 0 ? seconds : standing_delay(store, standing));
	r = standing_set(store, standing, REQUEST_WAITING, pending ? NULL : reason);
	return r < 0 ? r : standing_event(store, standing, pending ? "pending" : "retry");
}

int standing_checkpoint(struct standing *standing, const struct record *record, int64_t key)
{
	struct record *resume = record_new();
	unsigned char *bytes = NULL;
	size_t length = 0;
	int r = -ENOMEM;

	for (size_t i = 0; resume && i < record_count(record); i++) {
		const struct field *field = record_field(record, i);

		if (strncmp(field->key, "resume-", 7) == 0)
			record_add_bytes(resume, field->key, field->value, field->length);
	}
	if (resume && record_count(resume)) {
		record_add_number(resume, "key", key);
		r = record_encode(resume, &bytes, &length);
		if (r == 0) {
			blob_clear(&standing->request.resume);
			standing->request.resume.data = malloc(length + 1);
			r = standing->request.resume.data ? 0 : -ENOMEM;
		}
		if (r == 0) {
			memcpy(standing->request.resume.data, bytes, length);
			standing->request.resume.length = length;
		}
		OPENSSL_clear_free(bytes, length);
	} else if (resume) {
		r = 0;
	}
	record_free(resume);
	return r;
}
