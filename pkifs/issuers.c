#include "pkifs/issuers.h"

#include "common/x509.h"
#include "pkifs/object.h"
#include "pkifs/validate.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

#define PATH_MAX_LENGTH 10
#define NAME_DIGITS     16

/* --- who is believed --- */

struct belief {
	struct store *store;
	X509 *leaf;
	STACK_OF(X509) * published, *believed;
	bool by_secret; /* the shared secret proves the answer */
	bool allow_legacy;
};

static bool is_signed_by(X509 *certificate, X509 *issuer)
{
	STACK_OF(X509) *one = sk_X509_new_null();
	bool signed_by = one && sk_X509_push(one, issuer) && certificate_issuer(certificate, one);

	sk_X509_free(one);
	return signed_by;
}

/*
 * A root proves itself by what its own key has signed: the certificate asked for, or one that is
 * believed. A cross certificate proves nothing of who issued it: anybody can make one for the key
 * of a CA.
 */
static bool is_proven_root(const struct belief *belief, X509 *certificate)
{
	if (!belief->by_secret || X509_self_signed(certificate, 1) != 1)
		return false;
	if (is_signed_by(belief->leaf, certificate))
		return true;
	for (int i = 0; i < sk_X509_num(belief->believed); i++)
		if (is_signed_by(sk_X509_value(belief->believed, i), certificate))
			return true;
	return false;
}

static bool is_believed(const struct belief *belief, X509 *certificate)
{
	if (validate_ca(certificate, store_now(belief->store), store_clock_trusted(belief->store),
	                belief->allow_legacy, NULL) < 0)
		return false;
	return (belief->by_secret && certificate_is_in(certificate, belief->published)) ||
	       certificate_issuer(certificate, belief->believed) ||
	       is_proven_root(belief, certificate);
}

/* Until no more are found: each one may prove others. */
static int believe(struct belief *belief, STACK_OF(X509) * certificates)
{
	bool found = true;

	while (found) {
		found = false;
		for (int i = 1; i < sk_X509_num(certificates); i++) {
			X509 *certificate = sk_X509_value(certificates, i);

			if (certificate_is_in(certificate, belief->believed) ||
			    !is_believed(belief, certificate))
				continue;
			if (!X509_up_ref(certificate) ||
			    !sk_X509_push(belief->believed, certificate))
				return -ENOMEM;
			found = true;
		}
	}
	ERR_clear_error();
	return 0;
}

static int add_der(const struct record *result, const char *key, STACK_OF(X509) * to,
                   struct error *err)
{
	const struct field *field;
	size_t index = 0;

	while ((field = record_next(result, key, &index)) && sk_X509_num(to) < CERTIFICATES_MAX) {
		X509 *certificate = certificate_from_der(field->value, field->length, err);

		if (!certificate)
			return -EINVAL;
		if (!sk_X509_push(to, certificate)) {
			X509_free(certificate);
			return -ENOMEM;
		}
	}
	return 0;
}

/* Up from the leaf through those that are believed. */
static int make_path(const struct belief *belief, STACK_OF(X509) * *path)
{
	X509 *at = belief->leaf;

	*path = sk_X509_new_null();
	if (!*path)
		return -ENOMEM;
	while (sk_X509_num(*path) < PATH_MAX_LENGTH &&
	       (at = certificate_issuer(at, belief->believed)) && !certificate_is_in(at, *path))
		if (!X509_up_ref(at) || !sk_X509_push(*path, at))
			return -ENOMEM;
	ERR_clear_error();
	return 0;
}

static int believe_all(struct belief *belief, const struct edition *profile,
                       const struct record *result, STACK_OF(X509) * certificates,
                       STACK_OF(X509) * *path, struct error *err)
{
	int r;

	if (!belief->published || !belief->believed)
		return -ENOMEM;
	r = add_der(result, "published", belief->published, err);
	if (r == 0)
		r = blob_certificates(&profile->certificate, belief->believed);
	if (r == 0)
		r = blob_certificates(&profile->chain, belief->believed);
	if (r == 0)
		r = believe(belief, certificates);
	return r < 0 ? r : make_path(belief, path);
}

int issuers_believed(struct store *store, const struct standing *standing,
                     const struct record *result, STACK_OF(X509) * certificates,
                     STACK_OF(X509) * *path, struct error *err)
{
	struct belief belief = {
		.store = store,
		.leaf = sk_X509_value(certificates, 0),
		.published = sk_X509_new_null(),
		.believed = sk_X509_new_null(),
		.by_secret = record_is(result, "proven-by", "secret"),
		.allow_legacy = record_is(standing->settings, "allow-legacy", "yes"),
	};
	struct edition profile = { 0 };
	int r = db_edition_get(store->db, standing->profile.edition, &profile);

	if (r == 0 && !belief.leaf)
		r = error_set(err, -EINVAL, "the CA sent no certificate");
	if (r == 0)
		r = believe_all(&belief, &profile, result, certificates, path, err);
	if (r == 0 && !profile.certificate.length && !sk_X509_num(*path) &&
	    !record_is(standing->settings, "trust-store", "system"))
		r = error_set(
			err, -EINVAL,
			"profile %s is not trusted yet, and the CA sent no certificate of its "
			"own that is proven: load it into ca/%s/cert.pem",
			standing->profile.name, standing->profile.name);
	edition_clear(&profile);
	sk_X509_pop_free(belief.published, X509_free);
	sk_X509_pop_free(belief.believed, X509_free);
	return r;
}

/* --- which profile gets what --- */

/* CERTIFICATES from index FIRST on as PEM. */
static int to_blob(STACK_OF(X509) * certificates, int first, int count, struct blob *blob)
{
	STACK_OF(X509) *some = sk_X509_new_null();
	int r = some ? 0 : -ENOMEM;

	for (int i = first; r == 0 && i < first + count; i++)
		if (!sk_X509_push(some, sk_X509_value(certificates, i)))
			r = -ENOMEM;
	blob_clear(blob);
	if (r == 0 && sk_X509_num(some) > 0)
		r = certificates_to_pem(some, &blob->data, &blob->length);
	sk_X509_free(some);
	return r;
}

/* Makes number AT of PATH the CA certificate of PROFILE, with what is above it as its chain. */
static int fill(struct store *store, const struct standing *standing, const struct object *profile,
                STACK_OF(X509) * path, int at)
{
	struct edition edition = { 0 };
	int r = db_edition_get(store->db, profile->edition, &edition);

	if (r == 0)
		r = to_blob(path, at, 1, &edition.certificate);
	if (r == 0)
		r = to_blob(path, at + 1, sk_X509_num(path) - at - 1, &edition.chain);
	blob_clear(&edition.pending);
	snprintf(edition.trusted_by, sizeof edition.trusted_by, "the CMP answer to %s",
	         standing->object.name);
	if (r == 0)
		r = edition_publish(store, profile, &edition);
	if (r == 0)
		r = store_event(store, profile, "trusted", NULL);
	edition_clear(&edition);
	return r;
}

/* Writes CHANGES into the config of OBJECT. */
static int configure(struct store *store, const struct object *object, const struct record *changes,
                     struct error *err)
{
	const struct key_table *table = config_table(KIND_CA);
	struct blob old = { 0 };
	char *text = NULL;
	size_t length = 0;
	int64_t owner, created;
	int r;

	r = db_config_get(store->db, object->config, &owner, &created, &old);
	if (r == 0)
		r = key_merge(table, old.data, old.length, changes, &text, &length, err);
	if (r == 0)
		r = config_accept(store, object, text, length, store->uid, false, err);
	OPENSSL_clear_free(text, text ? length + 1 : 0);
	blob_clear(&old);
	return r;
}

static int set_issuer(struct store *store, int64_t below, const char *name, struct error *err)
{
	struct record *changes = record_new();
	struct object object;
	int r = changes ? db_object_get(store->db, below, &object) : -ENOMEM;

	if (r == 0) {
		record_add(changes, "issuer", name);
		r = configure(store, &object, changes, err);
	}
	record_free(changes);
	return r;
}

/* The profile whose CA certificate is CERTIFICATE; -ENOENT where there is none. */
static int find_profile(struct store *store, X509 *certificate, struct object *profile)
{
	struct edition edition;
	int r = db_object_next(store->db, KIND_CA, 0, profile);

	for (; r == 0; r = db_object_next(store->db, KIND_CA, profile->id, profile)) {
		STACK_OF(X509) *one = NULL;
		bool same;

		r = db_edition_get(store->db, profile->edition, &edition);
		if (r < 0)
			return r;
		same = edition.certificate.length &&
		       certificates_read(edition.certificate.data, edition.certificate.length, 1,
		                         &one, NULL) == 0 &&
		       X509_cmp(sk_X509_value(one, 0), certificate) == 0;
		sk_X509_pop_free(one, X509_free);
		edition_clear(&edition);
		if (same)
			return 0;
	}
	return r;
}

/* The last digits of its serial number, filled up with 0. */
static void digits_of(const X509 *certificate, char name[NAME_DIGITS + 1])
{
	struct record *facts = record_new();
	const char *serial;
	size_t length;

	if (facts)
		certificate_describe(certificate, facts);
	serial = facts ? record_get(facts, "serial") : NULL;
	length = serial ? strlen(serial) : 0;
	if (length > NAME_DIGITS)
		serial += length - NAME_DIGITS;
	snprintf(name, NAME_DIGITS + 1, "%.*s%s",
	         length < NAME_DIGITS ? (int)(NAME_DIGITS - length) : 0, "0000000000000000",
	         serial ? serial : "");
	record_free(facts);
}

/* A name for its profile that is free; -EEXIST where all are taken. */
static int free_name(struct store *store, X509 *certificate, char *name, size_t size)
{
	char digits[NAME_DIGITS + 1];
	struct object taken;
	int r;

	digits_of(certificate, digits);
	snprintf(name, size, "%s", digits);
	r = db_object_find(store->db, KIND_CA, name, &taken);
	for (int i = 0; r == 0 && i < 100; i++) {
		snprintf(name, size, "%s-%02d", digits, i);
		r = db_object_find(store->db, KIND_CA, name, &taken);
	}
	return r == -ENOENT ? 0 : r == 0 ? -EEXIST : r;
}

static int not_kept(struct store *store, const struct standing *standing, const char *name)
{
	struct error why = { 0 };

	error_set(&why, -EEXIST,
	          "a CA certificate that came with the one of %s is not stored: all names up to %s "
	          "are taken",
	          standing->object.name, name);
	return store_event_for(store, &standing->profile, "not-stored", why.text);
}

/* How revocation is checked and what is allowed is as for the profile that was asked. */
static int inherit(struct store *store, const struct standing *standing,
                   const struct object *profile, struct error *err)
{
	static const char *const keys[] = {
		"protocol",   "revocation-check", "crl-refresh-interval", "crl-on-download-failure",
		"ocsp-nonce", "allow-legacy"
	};
	struct record *config = NULL, *changes = record_new();
	int r = changes ? store_config(store, &standing->profile, &config) : -ENOMEM;

	for (size_t i = 0; r == 0 && i < COUNT(keys); i++)
		if (record_get(config, keys[i]))
			record_add(changes, keys[i], record_get(config, keys[i]));
	if (r == 0)
		r = configure(store, profile, changes, err);
	record_free(config);
	record_free(changes);
	return r;
}

/* Makes the profile for number AT of PATH. -EEXIST: it cannot have one. */
static int make_profile(struct store *store, const struct standing *standing, STACK_OF(X509) * path,
                        int at, struct object *profile, struct error *err)
{
	char name[NAME_DIGITS + 16];
	int r = free_name(store, sk_X509_value(path, at), name, sizeof name);

	if (r == -EEXIST)
		return not_kept(store, standing, name) < 0 ? -EIO : r;
	if (r == 0)
		r = object_create(store, KIND_CA, name, store->uid, store->gid);
	if (r == 0)
		r = db_object_find(store->db, KIND_CA, name, profile);
	if (r == 0)
		r = inherit(store, standing, profile, err);
	if (r == 0)
		r = db_object_find(store->db, KIND_CA, name, profile);
	return r < 0 ? r : fill(store, standing, profile, path, at);
}

int issuers_keep(struct store *store, const struct standing *standing, STACK_OF(X509) * path,
                 struct error *err)
{
	struct edition edition = { 0 };
	int64_t below = 0; /* the profile whose issuer the next one is */
	int r = db_edition_get(store->db, standing->profile.edition, &edition);

	for (int i = 0; r == 0 && i < sk_X509_num(path); i++) {
		struct object profile = standing->profile;
		bool made = false;

		if (i == 0 && !edition.certificate.length) {
			r = fill(store, standing, &profile, path, i);
			made = true;
		} else {
			r = find_profile(store, sk_X509_value(path, i), &profile);
			if (r == -ENOENT) {
				r = make_profile(store, standing, path, i, &profile, err);
				made = true;
			}
		}
		if (r == -EEXIST) {
			r = 0;
			break;
		}
		if (r == 0 && below)
			r = set_issuer(store, below, profile.name, err);
		below = made ? profile.id : 0;
	}
	if (r == 0 && sk_X509_num(path) > 0)
		r = store_clock_floor(
			store, asn1_time_seconds(X509_get0_notBefore(sk_X509_value(path, 0))));
	edition_clear(&edition);
	return r;
}
