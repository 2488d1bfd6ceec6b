/*
 * Profiles' certificates in the kernel: what the supervisor does for `kernel-keyring`. It reads no
 * certificate, it hands them on. A ring is linked in its user's keyring, whoever dies, and known by
 * its CA: a key whose description begins as all of this store's do. So nothing is kept here.
 *
 * ```
 *  the store's wish ──► the same CA in the ring of that name? ──┬─► yes: what is missing, what is
 * too much └─► no: a new ring beside, linked when whole
 * ```
 */
#include "common/channel.h"
#include "common/hex.h"
#include "common/log.h"
#include "common/x509.h"
#include "pkifs/ring.h"
#include "pkifs/supervisor.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MINE_MAX 48

/* A certificate that is to be in the ring. */
struct entry {
	const struct field *name, *certificate;
	char text[RING_TEXT]; /* its key's description: "pkifs STORE: NAME FINGERPRINT" */
	int key;              /* 0: it is not in it */
};

/* What the store wants: one ring. */
struct wish {
	const char *ring;
	char mine[MINE_MAX];   /* how descriptions of this store's keys begin */
	int user;              /* the keyring that it is linked in */
	struct entry *entries; /* the CA is the first */
	size_t count;
	int changed;
	struct record *answer;
};

/* --- why not --- */

static const char *reason_of(int code)
{
	static const struct {
		int code;
		const char *text;
	} reasons[] = {
		{ -EDQUOT, "the kernel's quota of keys is used up (/proc/key-users)" },
		{ -ENODEV, "this kernel has no keys that are certificates" },
		{ -ENOSYS, "this kernel has no keyrings" },
		{ -ENOPKG, "this kernel does not know the algorithms of that certificate" },
		{ -ENOENT, "this kernel does not have the algorithm of its signature" },
		{ -ENOKEY, "the one that signed it is not in the keyring, or has no identifier" },
		{ -EKEYREJECTED, "its signature is wrong for the kernel" },
		{ -EBADMSG, "the kernel cannot read it" },
		{ -EPERM, "pkifsd may not use keyrings here" },
	};

	for (size_t i = 0; i < COUNT(reasons); i++)
		if (reasons[i].code == code)
			return reasons[i].text;
	return strerror(-code);
}

/* --- whose they are --- */

static void describe(const struct wish *wish, struct entry *entry)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned int length = 0;
	char text[2 * EVP_MAX_MD_SIZE + 1];

	EVP_Digest(entry->certificate->value, entry->certificate->length, digest, &length,
	           EVP_sha256(), NULL);
	hex_write(text, digest, length);
	snprintf(entry->text, RING_TEXT, "%s%.64s %.64s", wish->mine, entry->name->value, text);
}

/* The keyring of that name; 0: there is none. */
static int find_ring(int in, const char *name)
{
	char text[RING_TEXT];
	int32_t *keys;
	int count = ring_keys(in, &keys), found = 0;

	for (int i = 0; !found && i < count; i++)
		if (ring_describe(keys[i], "keyring", text) && strcmp(text, name) == 0)
			found = keys[i];
	free(keys);
	return found;
}

static bool is_mine(const struct wish *wish, int ring)
{
	char text[RING_TEXT];
	bool mine = false;
	int32_t *keys;
	int count = ring_keys(ring, &keys);

	for (int i = 0; !mine && i < count; i++)
		mine = ring_describe(keys[i], "asymmetric", text) &&
		       strncmp(text, wish->mine, strlen(wish->mine)) == 0;
	free(keys);
	return mine;
}

/* --- one ring --- */

static struct entry *find_entry(const struct wish *wish, const char *text)
{
	for (size_t i = 0; i < wish->count; i++)
		if (strcmp(wish->entries[i].text, text) == 0)
			return &wish->entries[i];
	return NULL;
}

/* Finds what is in RING; what is not wanted any more is nowhere from now on, if PURGE. */
static void look(struct wish *wish, int ring, bool purge)
{
	int32_t *keys;
	int count = ring_keys(ring, &keys);

	for (int i = 0; i < count; i++) {
		char text[RING_TEXT];
		struct entry *entry =
			ring_describe(keys[i], "asymmetric", text) ? find_entry(wish, text) : NULL;

		if (entry) {
			entry->key = keys[i];
		} else if (purge) {
			ring_unlink(keys[i], ring);
			ring_end(keys[i]);
			wish->changed++;
		}
	}
	free(keys);
}

/* Adds what is not in RING yet; the CA is. */
static void fill(struct wish *wish, int ring)
{
	for (size_t i = 1; i < wish->count; i++) {
		struct entry *entry = &wish->entries[i];
		const struct field *certificate = entry->certificate;
		int r = entry->key ? entry->key
		                   : ring_add(ring, entry->text, certificate->value,
		                              certificate->length);

		if (r < 0)
			record_addf(wish->answer, "without", "%s: %s", entry->name->value,
			            reason_of(r));
		wish->changed += r > 0 && !entry->key;
		entry->key = r < 0 ? 0 : r;
	}
}

/* A ring that has no name yet: what dies now leaves nothing. */
static int make(struct wish *wish, struct error *err)
{
	struct entry *ca = &wish->entries[0];
	int aside = ring_of_process();
	int ring = aside < 0 ? aside : ring_make(wish->ring, aside), r;

	if (ring < 0)
		return error_set(err, ring, "%s", reason_of(ring));
	wish->changed++;
	r = ring_add(ring, ca->text, ca->certificate->value, ca->certificate->length);
	ca->key = r;
	if (r < 0)
		error_set(err, r, "its CA certificate is not taken: %s", reason_of(r));
	else if ((r = ring_restrict(ring)) < 0)
		error_set(err, r, "it cannot be restricted to what its CA signed: %s",
		          reason_of(r));
	if (r == 0) {
		fill(wish, ring);
		r = ring_link(ring, wish->user);
		if (r < 0)
			error_set(err, r, "%s", reason_of(r));
	}
	ring_unlink(ring, aside);
	return r < 0 ? r : ring;
}

/* RING and its keys are no more. */
static void drop(struct wish *wish, int ring)
{
	int32_t *keys;
	int count = ring_keys(ring, &keys);

	ring_end(ring); /* first: nobody sees it become empty */
	for (int i = 0; i < count; i++)
		ring_end(keys[i]);
	wish->changed++;
	free(keys);
}

/* The ring's number; 0: there is none, as is wanted; or a negative errno with ERR. */
static int keep(struct wish *wish, struct error *err)
{
	int old = find_ring(wish->user, wish->ring), new = 0;

	if (old && !is_mine(wish, old))
		return error_set(err, -EEXIST,
		                 "there is a keyring of that name that is not this store's: it is "
		                 "left as it is");
	if (old)
		look(wish, old, false);
	if (wish->count && wish->entries[0].key) {
		look(wish, old, true);
		fill(wish, old);
		return old;
	}
	for (size_t i = 0; i < wish->count; i++) /* what is there is another CA's */
		wish->entries[i].key = 0;
	if (wish->count)
		new = make(wish, err);
	if (old && new <= 0) /* else another has its place: the kernel unlinks by the name */
		ring_unlink(old, wish->user);
	if (old)
		drop(wish, old);
	return new;
}

/* --- what the store says --- */

static bool read_owner(const struct record *record, struct wish *wish)
{
	const char *owner = record_get(record, "owner");

	*wish = (struct wish){ .user = ring_of_user() };
	snprintf(wish->mine, sizeof wish->mine, "pkifs %.32s: ", owner ? owner : "");
	return owner;
}

static bool read_wish(const struct record *record, struct wish *wish)
{
	size_t n = 0, c = 0;

	if (!read_owner(record, wish))
		return false;
	wish->ring = record_get(record, "ring");
	wish->entries = calloc(record_count(record), sizeof *wish->entries);
	wish->answer = record_new();
	while (wish->entries) {
		struct entry *entry = &wish->entries[wish->count];

		entry->name = record_next(record, "name", &n);
		entry->certificate = record_next(record, "certificate", &c);
		if (!entry->name || !entry->certificate)
			break;
		describe(wish, entry);
		wish->count++;
	}
	return wish->ring && wish->entries && wish->answer && record_get(record, "profile");
}

static long long count_in(const struct wish *wish)
{
	long long count = 0;

	for (size_t i = 0; i < wish->count; i++)
		count += wish->entries[i].key > 0;
	return count;
}

void ring_keep(const struct supervision *given, const struct record *record)
{
	struct error err = { 0 };
	struct wish wish;
	int r;

	if (read_wish(record, &wish)) {
		r = wish.user < 0 ? error_set(&err, wish.user, "%s", reason_of(wish.user))
		                  : keep(&wish, &err);
		record_add(wish.answer, "frame", "keyring-is");
		record_add(wish.answer, "profile", record_get(record, "profile"));
		record_add(wish.answer, "ring", wish.ring);
		record_add_number(wish.answer, "changed", wish.changed);
		record_add_number(wish.answer, "count", r > 0 ? count_in(&wish) : 0);
		if (r < 0)
			record_add(wish.answer, "reason", err.text);
		channel_send(given->store, wish.answer, NULL, 0);
	}
	record_free(wish.answer);
	free(wish.entries);
}

static bool is_named(const struct record *record, const char *ring)
{
	const struct field *field;

	for (size_t i = 0; (field = record_next(record, "ring", &i)) != NULL;)
		if (strcmp(field->value, ring) == 0)
			return true;
	return false;
}

void rings_keep(const struct record *record)
{
	char text[RING_TEXT];
	struct wish wish;
	int32_t *rings;
	int count;

	if (!read_owner(record, &wish) || wish.user < 0)
		return;
	count = ring_keys(wish.user, &rings);
	for (int i = 0; i < count; i++)
		if (ring_describe(rings[i], "keyring", text) && !is_named(record, text) &&
		    is_mine(&wish, rings[i])) {
			ring_unlink(rings[i], wish.user);
			drop(&wish, rings[i]);
		}
	free(rings);
}
