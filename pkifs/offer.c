#include "pkifs/offer.h"

#include "common/log.h"
#include "common/x509.h"
#include "pkifs/secrets.h"
#include "pkifs/told.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <string.h>
#include <unistd.h>

#define ASK_AGAIN 60              /* seconds after the supervisor had no socket */
#define OFFER_MAX (FRAME_MAX / 2) /* bytes of keys, far more than a machine's tunnels need */
/* A look that took more than so many milliseconds is followed by a rest of ten times as long. */
#define QUICK 5

static struct {
	bool look;
	uint64_t next; /* uv_now, not before that */
	int listener;  /* when has_listener */
	bool has_listener;
	long long uid;
	int64_t asked;                            /* the supervisor */
	unsigned incarnation;                     /* of the keys process that was told */
	unsigned char told[SHA256_DIGEST_LENGTH]; /* of the frame that it was told */
} o = { .look = true };

void offer_look(struct store *store)
{
	o.look = store->due = true;
}

/* --- what is offered --- */

static bool has(const struct record *record, const char *key, const void *value, size_t length)
{
	const struct field *field;

	for (size_t i = 0; (field = record_next(record, key, &i)) != NULL;)
		if (field->length == length && memcmp(field->value, value, length) == 0)
			return true;
	return false;
}

struct offers {
	struct store *store;
	struct record *frame, *done; /* what tunnels stand on, and keys, that are in the frame */
	size_t size;
};

static int add_offer(struct offers *offers, const struct record *offer)
{
	unsigned char *bytes;
	size_t length;
	int r = record_encode(offer, &bytes, &length);

	if (r < 0)
		return r;
	if (offers->size + length <= OFFER_MAX)
		record_add_bytes(offers->frame, "key", bytes, length);
	else
		log_warning("there are more keys of tunnels than pkifs-pkcs11.so can be offered");
	offers->size += length;
	OPENSSL_clear_free(bytes, length);
	return 0;
}

static int add_key(struct offers *offers, int64_t row, const char *label)
{
	struct record *offer = record_new();
	unsigned char id[KEY_ID_SIZE];
	struct key_pair key;
	int r = offer ? db_key_get(offers->store->db, row, &key) : -ENOMEM;

	if (r < 0) {
		record_free(offer);
		return r;
	}
	r = public_key_id(key.public.data, key.public.length, id);
	if (r == 0 && !has(offers->done, "id", id, sizeof id)) {
		record_add_bytes(offer, "id", id, sizeof id);
		record_add(offer, "label", label);
		record_add_number(offer, "owner", key.object);
		record_add_bytes(offer, "sealed", key.sealed.data, key.sealed.length);
		record_add_bytes(offer, "public", key.public.data, key.public.length);
		r = add_offer(offers, offer);
		record_add_bytes(offers->done, "id", id, sizeof id);
	}
	key_pair_clear(&key);
	record_free(offer);
	return r == -EINVAL ? 0 : r;
}

/* The keys of all certificates of NAME that have not ended: who has an older one under way still
 * signs by it. */
static int add_certificate_id(struct offers *offers, const char *name)
{
	int64_t number = 0, now = store_now(offers->store), row;
	bool ends = store_clock_trusted(offers->store);
	struct db *db = offers->store->db;
	struct version version;
	struct object object;
	int r = db_object_find(db, KIND_LOCAL, name, &object);

	while (r == 0 && (r = db_version_next(db, object.id, number, &row, &number)) == 0) {
		r = db_version_get(db, row, &version);
		if (r == 0 && version.key_pair && !(ends && version.not_after < now))
			r = add_key(offers, version.key_pair, name);
		if (r == 0)
			version_clear(&version);
	}
	return r == -ENOENT ? 0 : r;
}

/* A tunnel that is cut, or has another engine, lends nothing. */
static int add_tunnel(struct offers *offers, const struct told *told)
{
	size_t length = told->stands_on ? strlen(told->stands_on) : 0;
	struct record *settings = NULL;
	const char *name;
	int r;

	if (!length || *told->trust.cut ||
	    has(offers->done, "stands-on", told->stands_on, length)) /* as most do */
		return 0;
	record_add(offers->done, "stands-on", told->stands_on);
	r = record_parse(told->stands_on, length, NULL, &settings, NULL);
	name = r == 0 ? record_get(settings, "certificate-id") : NULL;
	if (name && *name && record_is(settings, "engine", "charon"))
		r = add_certificate_id(offers, name);
	record_free(settings);
	return r;
}

/* The caller owns *FRAME. */
static int make_frame(struct store *store, struct record **frame)
{
	struct offers offers = { .store = store, .frame = record_new(), .done = record_new() };
	const struct told *told = NULL;
	int r = offers.frame && offers.done ? 0 : -ENOMEM;

	if (r == 0)
		record_add(offers.frame, "frame", "offer");
	while (r == 0 && (told = told_next(told)))
		r = add_tunnel(&offers, told);
	if (r == 0 && record_failed(offers.frame))
		r = -ENOMEM;
	record_free(offers.done);
	if (r < 0)
		record_free(offers.frame);
	else
		*frame = offers.frame;
	return r;
}

/* --- who is told --- */

/* One that died before it took the socket, or the keys, is not the one that was told. */
static void answered(void *user, const struct record *answer, const struct error *err)
{
	(void)answer;
	if (!err->code)
		return;
	log_warning("keys cannot be offered to pkifs-pkcs11.so: %s", err->text);
	o.incarnation = 0;
	offer_look(user);
}

static int hand_listener(struct store *store)
{
	struct record *frame = record_new();

	if (!frame)
		return -ENOMEM;
	record_add(frame, "frame", "pkcs11");
	record_add_number(frame, "uid", o.uid);
	return secrets_ask(store, frame, false, &o.listener, 1, answered, store);
}

/* FRAME is taken over. */
static int hand_keys(struct store *store, struct record *frame, bool again)
{
	unsigned char *bytes = NULL, digest[SHA256_DIGEST_LENGTH];
	size_t length = 0;
	int r = record_encode(frame, &bytes, &length);

	if (r == 0 && EVP_Digest(bytes, length, digest, NULL, EVP_sha256(), NULL) != 1)
		r = -ENOMEM;
	OPENSSL_clear_free(bytes, length);
	if (r < 0 || (!again && memcmp(digest, o.told, sizeof digest) == 0)) {
		record_free(frame);
		return r;
	}
	memcpy(o.told, digest, sizeof digest);
	return secrets_ask(store, frame, false, NULL, 0, answered, store);
}

/* The socket is asked for as soon as somebody may need it. */
static void want_listener(struct store *store)
{
	int64_t now = store_now(store);

	if (now >= o.asked && now - o.asked < ASK_AGAIN)
		return;
	o.asked = now;
	store_tell(store, "want-pkcs11", NULL);
}

static int offer(struct store *store, unsigned incarnation)
{
	struct record *frame = NULL;
	bool again = incarnation != o.incarnation;
	int r = make_frame(store, &frame);

	if (r == 0 && !o.has_listener) {
		if (record_find(frame, "key"))
			want_listener(store);
		record_free(frame);
		return 0;
	}
	o.incarnation = incarnation;
	if (r == 0)
		r = hand_keys(store, frame, again);
	/* and then those who wait for it: nobody is told that there are none */
	return r == 0 && again ? hand_listener(store) : r;
}

void offer_run(struct store *store)
{
	unsigned incarnation = secrets_incarnation(store);
	uint64_t now = uv_now(store->loop), took = uv_hrtime();

	if (store->stopping || !incarnation || now < o.next ||
	    !(o.look || (o.has_listener && incarnation != o.incarnation)))
		return;
	o.look = false;
	if (offer(store, incarnation) < 0) {
		log_error("keys cannot be offered to pkifs-pkcs11.so");
		o.incarnation = 0;
		o.look = true;
	}
	took = (uv_hrtime() - took) / 1000000;
	o.next = took > QUICK ? now + 10 * took : 0;
}

bool offer_received(struct store *store, const struct record *record, int *fds)
{
	if (!record_is(record, "frame", "pkcs11"))
		return false;
	if (fds[0] < 0) {
		log_warning("there is no socket for pkifs-pkcs11.so: %s",
		            record_get(record, "reason") ? record_get(record, "reason") : "");
		return true;
	}
	if (o.has_listener)
		close(o.listener);
	o.listener = fds[0];
	fds[0] = -1;
	o.has_listener = true;
	o.uid = record_number(record, "uid", 0);
	o.incarnation = 0;
	offer_look(store);
	return true;
}
