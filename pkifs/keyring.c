#include "pkifs/keyring.h"

#include "common/hex.h"
#include "common/log.h"
#include "common/x509.h"
#include "pkifs/object.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OWNER_META   "keyring-owner"
#define PERIOD       10         /* seconds between two looks at what time may end */
#define AGAIN        60         /* seconds until what the kernel did not take is tried again */
#define CERTIFICATES 1000       /* in a ring */
#define ROOM         (6u << 20) /* bytes of certificates in a frame */

struct ring {
	struct ring *next;
	int64_t profile;
	char name[256];
	bool found;             /* by the scan that runs */
	struct record *told;    /* what it is to have: `ca`, `version` */
	int64_t again;          /* when the supervisor is told once more */
	char text[640];         /* as `status` has it */
	struct record *without; /* fields `without`: what the kernel did not take */
};

static struct {
	struct ring *rings;
	bool scan, look;
	int64_t looked;
} k = { .scan = true };

void keyrings_look(struct store *store)
{
	k.look = store->due = true;
}

void keyrings_reconfigured(struct store *store)
{
	k.scan = store->due = true;
}

/* --- whose the rings are --- */

/* Says to whom rings in the kernel belong: stores have each their own. -ENOENT: none yet. */
static int get_owner(struct store *store, char owner[33])
{
	struct blob value = { 0 };
	int r = db_meta_get(store->db, OWNER_META, &value);

	if (r == 0)
		snprintf(owner, 33, "%s", value.data);
	blob_clear(&value);
	return r;
}

static int make_owner(struct store *store)
{
	unsigned char random[8];
	char text[2 * sizeof random + 1];
	int r;

	if (RAND_bytes(random, sizeof random) != 1)
		return -EIO;
	hex_write(text, random, sizeof random);
	r = store_begin(store);
	if (r == 0)
		r = store_end(store, db_meta_set(store->db, OWNER_META, text, strlen(text)));
	return r;
}

/* --- which there are --- */

static void ring_free(struct ring *ring)
{
	record_free(ring->told);
	record_free(ring->without);
	free(ring);
}

static struct ring *find(int64_t profile)
{
	struct ring *ring = k.rings;

	while (ring && ring->profile != profile)
		ring = ring->next;
	return ring;
}

static int note(int64_t profile, const char *name)
{
	struct ring *ring = find(profile);

	if (ring && strcmp(ring->name, name) == 0) {
		ring->found = true;
		return 0;
	}
	ring = calloc(1, sizeof *ring); /* one of another name will not be found */
	if (!ring)
		return -ENOMEM;
	ring->profile = profile;
	ring->found = true;
	snprintf(ring->name, sizeof ring->name, "%s", name);
	ring->next = k.rings;
	k.rings = ring;
	return 0;
}

/* The supervisor drops those of ours that no profile names. */
static void send_names(struct store *store, const char *owner)
{
	struct record *frame = record_new();

	if (!frame)
		return;
	record_add(frame, "frame", "keyrings");
	record_add(frame, "owner", owner);
	for (const struct ring *ring = k.rings; ring; ring = ring->next)
		record_add(frame, "ring", ring->name);
	channel_send(store->supervisor, frame, NULL, 0);
	record_free(frame);
}

static void forget_others(void)
{
	struct ring **at = &k.rings, *ring;

	while ((ring = *at)) {
		if (ring->found) {
			at = &ring->next;
			continue;
		}
		*at = ring->next;
		ring_free(ring);
	}
}

static int scan(struct store *store)
{
	struct object profile = { 0 };
	char owner[33];
	int r = 0;

	for (struct ring *ring = k.rings; ring; ring = ring->next)
		ring->found = false;
	while (r == 0 && (r = db_object_next(store->db, KIND_CA, profile.id, &profile)) == 0) {
		struct record *settings = NULL;
		const char *name;

		r = store_settings(store, &profile, &settings);
		name = r == 0 ? record_get(settings, "kernel-keyring") : NULL;
		if (name && *name)
			r = note(profile.id, name);
		record_free(settings);
	}
	if (r != -ENOENT)
		return r;
	forget_others();
	r = get_owner(store, owner);
	if (r == -ENOENT && k.rings)
		r = make_owner(store);
	else if (r == 0)
		send_names(store, owner);
	return r == -ENOENT ? 0 : r;
}

/* --- what belongs in one --- */

static bool is_over(const struct store *store, int64_t not_after)
{
	return not_after < store_now(store) && store_clock_trusted(store);
}

struct gathering {
	const struct store *store;
	struct record *wanted;
};

static int add_version(const struct overview *row, void *user)
{
	struct gathering *gathering = user;

	if (!is_over(gathering->store, row->not_after))
		record_addf(gathering->wanted, "version", "%lld %s", (long long)row->id, row->name);
	return 0;
}

static bool is_valid_ca(const struct store *store, const struct blob *pem)
{
	STACK_OF(X509) *cas = NULL;
	bool valid = certificates_read(pem->data, pem->length, 1, &cas, NULL) == 0 &&
	             !is_over(store, asn1_time_seconds(X509_get0_notAfter(sk_X509_value(cas, 0))));

	sk_X509_pop_free(cas, X509_free);
	return valid;
}

/* `ca`: the certificate in PEM; `version`: numbers and names. Empty: there is no CA. */
static int gather(struct store *store, const struct ring *ring, struct record *wanted)
{
	struct gathering gathering = { store, wanted };
	struct edition edition = { 0 };
	struct object profile;
	int r = db_object_get(store->db, ring->profile, &profile);

	if (r == 0)
		r = db_edition_get(store->db, profile.edition, &edition);
	if (r == 0 && edition.certificate.length && is_valid_ca(store, &edition.certificate)) {
		record_add(wanted, "ca", edition.certificate.data);
		r = db_vouched(store->db, ring->profile, CERTIFICATES, add_version, &gathering);
	}
	edition_clear(&edition);
	return r == 0 && record_failed(wanted) ? -ENOMEM : r;
}

static bool is_same(const struct record *one, const struct record *other)
{
	size_t i = 0;

	if (!one || record_count(one) != record_count(other))
		return false;
	while (i < record_count(one) &&
	       strcmp(record_field(one, i)->value, record_field(other, i)->value) == 0)
		i++;
	return i == record_count(one);
}

/* --- the frame --- */

static bool has(const struct record *frame, const unsigned char *der, size_t length)
{
	const struct field *field;

	for (size_t i = 0; (field = record_next(frame, "certificate", &i)) != NULL;)
		if (field->length == length && memcmp(field->value, der, length) == 0)
			return true;
	return false;
}

/* Once, and as long as there is ROOM, in bytes. */
static int add_certificate(struct record *frame, size_t *room, const char *name,
                           const X509 *certificate)
{
	unsigned char *der = NULL;
	size_t length = 0;
	int r = certificate_to_der(certificate, &der, &length);

	if (r == 0 && length <= *room && !has(frame, der, length)) {
		record_add(frame, "name", name);
		record_add_bytes(frame, "certificate", der, length);
		*room -= length;
	}
	OPENSSL_free(der);
	return r;
}

/* A version's chain below CA, the highest first, then its own. */
static int add_chain(struct store *store, const char *wanted, const X509 *ca, size_t *room,
                     struct record *frame)
{
	STACK_OF(X509) *chain = sk_X509_new_null();
	struct version version = { 0 };
	const char *name = strchr(wanted, ' ') + 1;
	int r = chain ? db_version_get(store->db, strtoll(wanted, NULL, 10), &version) : -ENOMEM;
	int top = 0;

	if (r == 0)
		r = blob_certificates(&version.certificate, chain);
	if (r == 0)
		r = blob_certificates(&version.chain, chain);
	while (r == 0 && top < sk_X509_num(chain) && X509_cmp(sk_X509_value(chain, top), ca) != 0)
		top++;
	if (top == sk_X509_num(chain)) /* of a CA before this one: the kernel has its word */
		top = 1;
	while (r == 0 && top-- > 0)
		r = add_certificate(frame, room, name, sk_X509_value(chain, top));
	version_clear(&version);
	sk_X509_pop_free(chain, X509_free);
	return r;
}

static int add_all(struct store *store, const struct ring *ring, struct record *frame)
{
	const char *pem = record_get(ring->told, "ca");
	STACK_OF(X509) *cas = NULL;
	const struct field *field;
	size_t room = ROOM;
	int r;

	if (!pem)
		return 0;
	r = certificates_read(pem, strlen(pem), 1, &cas, NULL);
	if (r == 0)
		r = add_certificate(frame, &room, "CA", sk_X509_value(cas, 0));
	for (size_t i = 0; r == 0 && (field = record_next(ring->told, "version", &i)) != NULL;)
		r = add_chain(store, field->value, sk_X509_value(cas, 0), &room, frame);
	sk_X509_pop_free(cas, X509_free);
	return r;
}

static int tell(struct store *store, const struct ring *ring)
{
	struct record *frame = record_new();
	char owner[33];
	int r = frame ? get_owner(store, owner) : -ENOMEM;

	if (r == 0) {
		record_add(frame, "frame", "keyring");
		record_add(frame, "owner", owner);
		record_add_number(frame, "profile", ring->profile);
		record_add(frame, "ring", ring->name);
		r = add_all(store, ring, frame);
	}
	if (r == 0)
		r = channel_send(store->supervisor, frame, NULL, 0);
	record_free(frame);
	return r;
}

static int look_at(struct store *store, struct ring *ring)
{
	struct record *wanted = record_new();
	int64_t now = store_now(store);
	int r = wanted ? gather(store, ring, wanted) : -ENOMEM;

	if (r == 0 && (!is_same(ring->told, wanted) || now >= ring->again)) {
		record_free(ring->told);
		ring->told = wanted;
		r = tell(store, ring);
		ring->again = r < 0 ? now : INT64_MAX;
		return r;
	}
	record_free(wanted);
	return r;
}

void keyrings_run(struct store *store)
{
	int64_t now = store_now(store);
	int r = 0;

	/* once a second at most: many certificates may come at once */
	if (now == k.looked || !(k.scan || k.look || now - k.looked >= PERIOD || now < k.looked))
		return;
	if (k.scan)
		r = scan(store);
	if (r < 0)
		log_error("kernel-keyring: %s", strerror(-r));
	k.scan = k.look = false;
	k.looked = now;
	for (struct ring *ring = k.rings; ring; ring = ring->next)
		if ((r = look_at(store, ring)) < 0)
			log_error("keyring %s: %s", ring->name, strerror(-r));
}

/* --- what came of it --- */

static int tell_event(struct store *store, const struct ring *ring)
{
	struct record *more = record_new();
	struct object profile;
	int r = more ? db_object_get(store->db, ring->profile, &profile) : -ENOMEM;

	if (r == 0) {
		record_add(more, "kernel-keyring", ring->text);
		record_append(more, ring->without);
		r = store_event(store, &profile, "kernel-keyring", more);
	}
	record_free(more);
	return r == -ENOENT ? 0 : r;
}

static void describe(struct ring *ring, const struct record *record)
{
	const char *reason = record_get(record, "reason");
	long long count = record_number(record, "count", 0);

	if (!reason && !count)
		reason = "the profile has no CA certificate in force";
	if (reason)
		snprintf(ring->text, sizeof ring->text, "%s: none: %s", ring->name, reason);
	else
		snprintf(ring->text, sizeof ring->text, "%s: %lld certificate%s", ring->name, count,
		         count == 1 ? ", the CA's" : "s");
	text_printable(ring->text);
}

static int take(struct store *store, struct ring *ring, const struct record *record)
{
	struct record *without = record_new();
	char before[sizeof ring->text];
	const struct field *field;
	bool same;

	if (!without)
		return -ENOMEM;
	for (size_t i = 0; (field = record_next(record, "without", &i)) != NULL;)
		record_add(without, "without", field->value);
	strcpy(before, ring->text);
	describe(ring, record);
	same = strcmp(before, ring->text) == 0 && is_same(ring->without, without);
	record_free(ring->without);
	ring->without = without;
	if (record_count(without) || record_find(record, "reason"))
		ring->again = store_now(store) + AGAIN;
	/* after a restart all may be as it was */
	if (same || (!*before && !record_number(record, "changed", 0) &&
	             !record_find(record, "reason") && !record_count(without)))
		return 0;
	return tell_event(store, ring);
}

bool keyrings_received(struct store *store, const struct record *record)
{
	struct ring *ring;
	int r;

	if (!record_is(record, "frame", "keyring-is"))
		return false;
	ring = find(record_number(record, "profile", 0));
	if (ring && record_is(record, "ring", ring->name)) {
		r = store_begin(store);
		if (r == 0)
			r = store_end(store, take(store, ring, record));
		if (r < 0)
			log_error("keyring %s: %s", ring->name, strerror(-r));
	}
	return true;
}

void keyring_status(const struct object *profile, struct record *status)
{
	const struct ring *ring = find(profile->id);
	const struct field *field;

	if (!ring || !*ring->text)
		return;
	record_add(status, "kernel-keyring", ring->text);
	for (size_t i = 0; (field = record_next(ring->without, "without", &i)) != NULL;)
		record_add(status, "kernel-keyring-without", field->value);
}

int keyring_check_config(struct store *store, const struct object *object,
                         const struct record *config, struct error *err)
{
	const char *name = record_get(config, "kernel-keyring");
	struct object other = { 0 };
	int r = 0;

	if (!name || !*name)
		return 0;
	while (r == 0 && (r = db_object_next(store->db, KIND_CA, other.id, &other)) == 0) {
		struct record *settings = NULL;

		r = other.id == object->id ? 0 : store_config(store, &other, &settings);
		if (r == 0 && settings && record_is(settings, "kernel-keyring", name))
			r = error_set(err, -EINVAL, "kernel-keyring = %.100s is profile %s's", name,
			              other.name);
		record_free(settings);
	}
	return r == -ENOENT ? 0 : r;
}
