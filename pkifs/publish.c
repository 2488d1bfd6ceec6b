/* What comes into force: keys, certificates, a CA's certificate. */
#include "pkifs/publish.h"

#include "common/log.h"
#include "common/x509.h"
#include "pkifs/autoenroll.h"
#include "pkifs/believed.h"
#include "pkifs/crl.h"
#include "pkifs/object.h"
#include "pkifs/renewal.h"
#include "pkifs/rollover.h"
#include "pkifs/tunnel.h"
#include "pkifs/validate.h"
#include "pkifs/watch.h"

#include <errno.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>

static const char *state_of(const struct object *object, const struct edition *old,
                            const struct edition *edition)
{
	if (object->kind == KIND_CA)
		return edition->certificate.length ? "trusted"
		       : edition->pending.length   ? "unconfirmed"
		                                   : "empty";
	if (object->kind == KIND_IPSEC)
		return object->state;
	if (edition->version && edition->version == old->version &&
	    strcmp(object->state, "revoked") == 0)
		return "revoked";
	return edition->version      ? "valid"
	       : edition->csr.length ? "csr"
	       : edition->key_pair   ? "key"
	                             : "empty";
}

static bool differs(const struct blob *one, const struct blob *other)
{
	return one->length != other->length ||
	       (one->length && memcmp(one->data, other->data, one->length) != 0);
}

#define OCSP_FILES (1ull << FILE_OCSP | 1ull << FILE_BUNDLE_OCSP)

/* The files of which a watcher is to be told: a bit for each. */
static uint64_t changed_files(const struct object *object, const struct edition *old,
                              const struct edition *new)
{
	uint64_t files = 0;

	if (object->kind == KIND_CA) {
		if (differs(&old->certificate, &new->certificate))
			files |= 1ull << FILE_CA_CERT | 1ull << FILE_CA_CHAIN;
		else if (differs(&old->chain, &new->chain))
			files |= 1ull << FILE_CA_CHAIN;
		if (old->crl != new->crl)
			files |= 1ull << FILE_CRL_PEM | 1ull << FILE_CRL_DER;
		return files;
	}
	if (object->kind == KIND_IPSEC)
		return 1ull << FILE_PEER;
	if (old->version != new->version)
		files |= 1ull << FILE_CERT | 1ull << FILE_CHAIN | 1ull << FILE_FULLCHAIN |
		         1ull << FILE_BUNDLE;
	if (old->key_pair != new->key_pair)
		files |= 1ull << FILE_KEY | 1ull << FILE_PUBLIC;
	if (differs(&old->csr, &new->csr))
		files |= 1ull << FILE_CSR | 1ull << FILE_CSR_FINGERPRINT;
	if (differs(&old->ocsp, &new->ocsp))
		files |= OCSP_FILES;
	return files;
}

int edition_publish(struct store *store, const struct object *object, struct edition *edition)
{
	struct edition old = { 0 };
	const char *state;
	uint64_t files;
	int r;

	r = db_edition_get(store->db, object->edition, &old);
	if (r < 0)
		return r;
	if (old.version != edition->version) /* what was said, was said of another certificate */
		blob_clear(&edition->ocsp);
	state = state_of(object, &old, edition);
	if (object->kind == KIND_CA && edition->certificate.length &&
	    differs(&old.certificate, &edition->certificate))
		r = crl_of_new_ca(store, object, edition);
	files = changed_files(object, &old, edition);
	edition->object = object->id;
	edition->created = store_now(store);
	if (r == 0)
		r = db_edition_add(store->db, edition, &edition->id);
	if (r == 0 && strcmp(state, object->state) != 0)
		r = db_object_set_state(store->db, object->id, state, edition->created);
	if (r == 0 && files != OCSP_FILES && object->kind != KIND_IPSEC) /* nobody's request */
		r = db_object_set_error(store->db, object->id, "");
	row_fades(store, ROW_EDITION, old.id, object->id);
	if (r == 0)
		r = db_prune(store->db, object->id, store_setting(store, "keep-versions"),
		             row_is_open, store);
	if (r == 0)
		r = publisher_tell(store, object, old.id, files);
	if (r == 0 && object->kind == KIND_LOCAL && old.version != edition->version &&
	    edition->version)
		r = on_change_run(store, object, edition->version);
	if (r == 0 && object->kind == KIND_CA && edition->certificate.length &&
	    differs(&old.certificate, &edition->certificate)) {
		r = auto_enroll_trusted(store, object->id);
		if (r == 0)
			r = renewal_trusted(store, object->id);
		if (r == 0)
			r = renewal_plan(store, object->id);
		if (r == 0)
			r = crl_fetch_plan(store, object->id);
	}
	if (r == 0 && object->kind == KIND_LOCAL && old.version != edition->version)
		r = renewal_plan(store, object->id);
	if (r == 0 && object->kind == KIND_LOCAL && old.version != edition->version)
		r = watch_look(store, object->id);
	else if (r == 0 && object->kind == KIND_CA && old.crl != edition->crl)
		r = watch_profile(store, object->id);
	if (object->kind == KIND_CA &&
	    (differs(&old.certificate, &edition->certificate) ||
	     differs(&old.former, &edition->former) || (old.crl && !edition->crl)))
		believed_forget();
	tunnels_look(store);
	edition_clear(&old);
	return r;
}

static int add_key(struct store *store, const struct object *object, const struct record *answer,
                   int64_t *id)
{
	const struct field *sealed = record_find(answer, "sealed"),
			   *public = record_find(answer, "public");
	struct key_pair key = { .object = object->id, .created = store_now(store) };
	EVP_PKEY *parsed;
	int r = -EBADMSG;

	if (!sealed || !public)
		return r;
	parsed = public_key_from_der(public->value, public->length);
	key.pem_size = record_number(answer, "pem-size", 0);
	key.sealed = (struct blob){ sealed->value, sealed->length };
	key.public = (struct blob){ public->value, public->length };
	if (parsed && key.pem_size > 0 && key_describe(parsed, key.type, sizeof key.type) == 0)
		r = db_key_add(store->db, &key, id);
	EVP_PKEY_free(parsed);
	return r;
}

/* The row of KEY_PAIR has this public key. */
static bool is_same_key(struct store *store, int64_t key_pair, const struct field *public)
{
	struct key_pair key;
	bool same;

	if (!key_pair || !public || db_key_get(store->db, key_pair, &key) < 0)
		return false;
	same = key.public.length == public->length &&
	       memcmp(key.public.data, public->value, public->length) == 0;
	key_pair_clear(&key);
	return same;
}

int key_publish(struct store *store, const struct object *object, const struct record *answer,
                int64_t *key)
{
	const struct field *public = record_find(answer, "public");
	struct edition edition;
	int64_t new = 0;
	int r;

	r = db_edition_get(store->db, object->edition, &edition);
	if (r < 0)
		return r;
	if (is_same_key(store, edition.key_pair, public))
		new = edition.key_pair;
	else if (is_same_key(store, edition.next_key, public))
		new = edition.next_key;
	if (new) {
		r = db_object_set_error(store->db, object->id, "");
		goto out;
	}
	r = add_key(store, object, answer, &new);
	if (edition.version || (object->kind == KIND_CA && edition.key_pair)) /* an account's */
		edition.next_key = new;
	else
		edition.key_pair = new;
	blob_clear(&edition.csr); /* it was another key's */
	if (r == 0)
		r = edition_publish(store, object, &edition);
	if (r == 0)
		r = store_event(store, object, "key", NULL);
out:
	edition_clear(&edition);
	if (key)
		*key = new;
	return r;
}

int certificates_blob(STACK_OF(X509) * certificates, struct blob *blob)
{
	blob_clear(blob);
	if (!certificates || !sk_X509_num(certificates))
		return 0;
	return certificates_to_pem(certificates, &blob->data, &blob->length);
}

static int certificate_to_blob(X509 *certificate, struct blob *blob)
{
	STACK_OF(X509) *one = sk_X509_new_null();
	int r = one && sk_X509_push(one, certificate) ? certificates_blob(one, blob) : -ENOMEM;

	sk_X509_free(one);
	return r;
}

/* Makes the CA that BUNDLE brings the one that is trusted, in EDITION. */
static int take_ca(struct store *store, STACK_OF(X509) * bundle, const char *trusted_by,
                   struct edition *edition, const struct record *settings, struct error *err)
{
	STACK_OF(X509) *ra = NULL, *issuers = NULL;
	X509 *ca = NULL;
	int r;

	r = sort_ca_bundle(bundle, &ca, &ra, &issuers, err);
	if (r == 0)
		r = validate_ca(ca, store_now(store), store_clock_trusted(store),
		                record_is(settings, "allow-legacy", "yes"), err);
	if (r == 0)
		r = certificate_to_blob(ca, &edition->certificate);
	if (r == 0)
		r = certificates_blob(issuers, &edition->chain);
	if (r == 0)
		r = certificates_blob(ra, &edition->ra);
	if (r == 0)
		r = store_clock_floor(store, asn1_time_seconds(X509_get0_notBefore(ca)));
	blob_clear(&edition->pending);
	blob_clear(&edition->next);
	*edition->next_by = 0;
	blob_clear(&edition->former);
	snprintf(edition->trusted_by, sizeof edition->trusted_by, "%s", trusted_by);
	X509_free(ca);
	sk_X509_pop_free(ra, X509_free);
	sk_X509_pop_free(issuers, X509_free);
	return r;
}

int ca_cert_accept(struct store *store, const struct object *object, const char *text,
                   size_t length, bool dry, struct error *err)
{
	STACK_OF(X509) *bundle = NULL;
	struct record *settings = NULL;
	struct edition edition = { 0 };
	int r;

	r = certificates_read(text, length, 50, &bundle, err);
	if (r == 0)
		r = store_config(store, object, &settings);
	if (r == 0)
		r = db_edition_get(store->db, object->edition, &edition);
	if (r == 0 && dry)
		blob_clear(&edition.pending);
	if (r == 0)
		r = take_ca(store, bundle, "a written file", &edition, settings, err);
	if (r == 0 && !dry)
		r = edition_publish(store, object, &edition);
	if (r == 0 && !dry)
		r = store_event(store, object, "trusted", NULL);
	sk_X509_pop_free(bundle, X509_free);
	record_free(settings);
	edition_clear(&edition);
	return r;
}

/* Whether EXPECTED (text as a user gives it) is a fingerprint of one of CERTIFICATES. */
static bool has_fingerprint(STACK_OF(X509) * certificates, const char *expected)
{
	const EVP_MD *const digests[] = { EVP_sha256(), EVP_sha1(), EVP_md5() };
	char text[FINGERPRINT_MAX];
	bool found = false;

	for (int i = 0; !found && i < sk_X509_num(certificates); i++) {
		unsigned char *der = NULL;
		size_t length;

		if (certificate_to_der(sk_X509_value(certificates, i), &der, &length) < 0)
			return false;
		for (size_t k = 0; !found && k < COUNT(digests); k++)
			found = fingerprint(digests[k], der, length, text) == 0 &&
			        fingerprint_same(text, expected);
		OPENSSL_free(der);
	}
	return found;
}

/*
 * Which of the CA certificates that wait WORD (`yes`, `no`, a fingerprint) means, in BUNDLE: 0 the
 * one that was fetched, 1 the next one.
 */
static int which_waits(const struct edition *edition, const char *word, STACK_OF(X509) * *bundle,
                       struct error *err)
{
	bool plain = strcmp(word, "yes") == 0 || strcmp(word, "no") == 0;
	bool fetched = edition->pending.length, next = rollover_waits(edition);
	int r = 0;

	if (!fetched && !next)
		return error_set(err, -EINVAL,
		                 "no CA certificate waits for confirmation; write `enroll` to "
		                 "request");
	if (plain && fetched && next)
		return error_set(err, -EINVAL,
		                 "two CA certificates wait for confirmation (pending.pem, "
		                 "next.pem): write the fingerprint of the one that is meant");
	if (fetched)
		r = certificates_read(edition->pending.data, edition->pending.length, 50, bundle,
		                      err);
	if (r < 0 || (fetched && (plain || has_fingerprint(*bundle, word))))
		return r;
	sk_X509_pop_free(*bundle, X509_free);
	*bundle = NULL;
	if (next)
		r = certificates_read(edition->next.data, edition->next.length, 50, bundle, err);
	if (r < 0 || (next && (plain || has_fingerprint(*bundle, word))))
		return r < 0 ? r : 1;
	return error_set(err, -EINVAL,
	                 "\"%.100s\" is neither yes, no, nor a fingerprint of the CA certificate "
	                 "that waits",
	                 word);
}

/* The fetched one is the profile's from now on, or (NO) is dropped. */
static int confirm_fetched(struct store *store, const struct object *object,
                           struct edition *edition, STACK_OF(X509) * bundle, bool no, bool dry,
                           struct error *err)
{
	struct record *settings = NULL;
	int r = 0;

	if (no)
		blob_clear(&edition->pending);
	else
		r = store_config(store, object, &settings);
	if (r == 0 && !no)
		r = take_ca(store, bundle, "confirm", edition, settings, err);
	if (r == 0 && !dry)
		r = edition_publish(store, object, edition);
	if (r == 0 && !dry)
		r = store_event(store, object, no ? "refused" : "trusted", NULL);
	record_free(settings);
	return r;
}

int confirm_accept(struct store *store, const struct object *object, const char *text,
                   size_t length, bool dry, struct error *err)
{
	STACK_OF(X509) *bundle = NULL;
	struct edition edition = { 0 };
	char word[256];
	bool no;
	int r;

	snprintf(word, sizeof word, "%.*s", (int)(length < 255 ? length : 255), text);
	word[strcspn(word, "\r\n")] = 0;
	no = strcmp(word, "no") == 0;
	r = db_edition_get(store->db, object->edition, &edition);
	if (r == 0)
		r = which_waits(&edition, word, &bundle, err);
	if (r == 0)
		r = confirm_fetched(store, object, &edition, bundle, no, dry, err);
	else if (r == 1)
		r = dry ? 0 : rollover_confirm(store, object, no);
	sk_X509_pop_free(bundle, X509_free);
	edition_clear(&edition);
	return r;
}

/* All certificates of a worker's result. */
static int result_certificates(const struct record *result, STACK_OF(X509) * *certificates,
                               struct error *err)
{
	const struct field *field;
	size_t index = 0;

	*certificates = sk_X509_new_null();
	while (*certificates && (field = record_next(result, "certificate", &index))) {
		X509 *certificate;

		if (sk_X509_num(*certificates) >= CERTIFICATES_MAX)
			return error_set(err, -EINVAL, "the CA sent more than %d certificates",
			                 CERTIFICATES_MAX);
		certificate = certificate_from_der(field->value, field->length, err);
		if (!certificate)
			return -EINVAL;
		if (!sk_X509_push(*certificates, certificate)) {
			X509_free(certificate);
			return -ENOMEM;
		}
	}
	return *certificates ? 0 : -ENOMEM;
}

int ca_is_expected(const struct record *settings, X509 *ca, struct error *err)
{
	const struct field *field;
	unsigned char *der = NULL;
	char text[FINGERPRINT_MAX];
	size_t index = 0, length;
	int r = 0;

	if (certificate_to_der(ca, &der, &length) < 0 ||
	    fingerprint(EVP_sha256(), der, length, text) < 0)
		r = -ENOMEM;
	while (r <= 0 && r != -ENOMEM && (field = record_next(settings, "ca-fingerprint", &index)))
		r = fingerprint_same(field->value, text) ? 1 : -EINVAL;
	OPENSSL_free(der);
	if (r == -EINVAL)
		error_set(err, r,
		          "the CA sent a certificate with SHA-256 fingerprint %s, which is "
		          "no ca-fingerprint of the config",
		          text);
	return r;
}

int ca_expected(const struct record *settings, const struct edition *edition)
{
	STACK_OF(X509) *certificates = NULL;
	int r = certificates_read(edition->certificate.data, edition->certificate.length, 1,
	                          &certificates, NULL);

	if (r == 0 && strcmp(edition->trusted_by, ROLLOVER_BY_CA) == 0)
		r = 1; /* one that was expected vouched for it */
	else if (r == 0)
		r = ca_is_expected(settings, sk_X509_value(certificates, 0), NULL);
	sk_X509_pop_free(certificates, X509_free);
	return r;
}

int ca_bundle(X509 *ca, STACK_OF(X509) * ra, STACK_OF(X509) * issuers, struct blob *blob)
{
	STACK_OF(X509) *all = sk_X509_new_null();
	bool whole = all && sk_X509_push(all, ca);
	int r;

	for (int i = 0; whole && i < sk_X509_num(ra); i++)
		whole = sk_X509_push(all, sk_X509_value(ra, i));
	for (int i = 0; whole && i < sk_X509_num(issuers); i++)
		whole = sk_X509_push(all, sk_X509_value(issuers, i));
	r = whole ? certificates_blob(all, blob) : -ENOMEM;
	sk_X509_free(all);
	return r;
}

int ca_fetched(struct store *store, const struct object *object, const struct record *result,
               struct error *err)
{
	STACK_OF(X509) *bundle = NULL, *ra = NULL, *issuers = NULL;
	struct record *settings = NULL;
	struct edition edition = { 0 };
	X509 *ca = NULL;
	int r, expected;

	r = result_certificates(result, &bundle, err);
	if (r == 0)
		r = sort_ca_bundle(bundle, &ca, &ra, &issuers, err);
	if (r == 0)
		r = store_config(store, object, &settings);
	if (r == 0)
		r = db_edition_get(store->db, object->edition, &edition);
	expected = r == 0 ? ca_is_expected(settings, ca, err) : r;
	if (expected >= 0)
		r = validate_ca(ca, store_now(store), store_clock_trusted(store),
		                record_is(settings, "allow-legacy", "yes"), err);
	else
		r = expected;
	if (r == 0 && record_get(result, "capabilities"))
		snprintf(edition.capabilities, sizeof edition.capabilities, "%s",
		         record_get(result, "capabilities"));
	if (r == 0 && expected == 1)
		r = take_ca(store, bundle, "ca-fingerprint", &edition, settings, err);
	else if (r == 0)
		r = ca_bundle(ca, ra, issuers, &edition.pending);
	if (r == 0)
		r = edition_publish(store, object, &edition);
	if (r == 0)
		r = store_event(store, object, expected == 1 ? "trusted" : "unconfirmed", NULL);
	X509_free(ca);
	sk_X509_pop_free(ra, X509_free);
	sk_X509_pop_free(issuers, X509_free);
	sk_X509_pop_free(bundle, X509_free);
	record_free(settings);
	edition_clear(&edition);
	return r;
}
