/* A certificate of ours: judged against its key, its config and its anchor, then in force. */
#include "common/stubcrl.h"
#include "common/x509.h"
#include "pkifs/crl.h"
#include "pkifs/object.h"
#include "pkifs/sources.h"
#include "pkifs/validate.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

/* What judging needs, gathered from the store. */
struct case_file {
	struct edition edition;
	struct record *config, *settings; /* the certificate id's and its profile's */
	struct object profile;            /* id 0: none */
	STACK_OF(X509) * anchors;
	bool acme, system; /* the protocol; the system's store anchors it */
	X509 *previous;
	/* the verdict */
	X509 *leaf;
	STACK_OF(X509) * chain;
	struct record *facts;
	int64_t key;
	const char *anchor;
};

static void case_clear(struct case_file *file)
{
	edition_clear(&file->edition);
	record_free(file->config);
	record_free(file->settings);
	sk_X509_pop_free(file->anchors, X509_free);
	X509_free(file->previous);
	X509_free(file->leaf);
	sk_X509_pop_free(file->chain, X509_free);
	record_free(file->facts);
}

int blob_certificates(const struct blob *pem, STACK_OF(X509) * to)
{
	STACK_OF(X509) *from = NULL;
	int r = 0;

	if (pem->length)
		r = certificates_read(pem->data, pem->length, 50, &from, NULL);
	while (r == 0 && sk_X509_num(from) > 0)
		if (!sk_X509_push(to, sk_X509_shift(from)))
			r = -ENOMEM;
	sk_X509_pop_free(from, X509_free);
	return r;
}

static int add_anchors(struct store *store, const struct object *profile, STACK_OF(X509) * anchors)
{
	struct edition edition;
	int r = db_edition_get(store->db, profile->edition, &edition);

	if (r < 0)
		return r;
	r = blob_certificates(&edition.certificate, anchors);
	if (r == 0)
		r = blob_certificates(&edition.chain, anchors);
	if (r == 0)
		r = blob_certificates(&edition.former, anchors);
	edition_clear(&edition);
	return r;
}

/* An ACME CA is anchored by the system's store until a CA certificate is loaded. */
static void note_protocol(struct case_file *file)
{
	file->acme = strcmp(object_protocol(file->config, file->settings), "acme") == 0;
	file->system = record_is(file->settings, "trust-store", "system") ||
	               (file->acme && !sk_X509_num(file->anchors) &&
	                !record_get(file->settings, "trust-store"));
}

/* The anchors: MORE (may be NULL), and of the profile that the config names, else of all profiles.
 */
static int gather_anchors(struct store *store, struct case_file *file, STACK_OF(X509) * more,
                          struct error *err)
{
	struct object profile;
	int r;

	file->anchors = more ? X509_chain_up_ref(more) : sk_X509_new_null();
	if (!file->anchors)
		return -ENOMEM;
	r = object_profile(store, file->config, &file->profile);
	if (r == 0) {
		r = store_config(store, &file->profile, &file->settings);
		if (r == 0)
			r = add_anchors(store, &file->profile, file->anchors);
		if (r == 0)
			note_protocol(file);
		if (r == 0 && !sk_X509_num(file->anchors) && !file->system)
			r = error_set(err, -EINVAL,
			              "profile %s is not trusted yet: load its CA certificate into "
			              "ca/%s/cert.pem, or enroll and confirm it",
			              file->profile.name, file->profile.name);
		return r;
	}
	file->profile.id = 0;
	file->settings = record_new();
	r = db_object_next(store->db, KIND_CA, 0, &profile);
	for (; r == 0; r = db_object_next(store->db, KIND_CA, profile.id, &profile)) {
		r = add_anchors(store, &profile, file->anchors);
		if (r < 0)
			break;
	}
	return r == -ENOENT ? 0 : r;
}

static int gather(struct store *store, const struct object *object,
                  const struct candidates *candidates, struct case_file *file, struct error *err)
{
	STACK_OF(X509) *current = NULL;
	struct version version = { 0 };
	int r;

	r = db_edition_get(store->db, object->edition, &file->edition);
	if (r == 0)
		r = store_settings(store, object, &file->config);
	if (r == 0)
		r = gather_anchors(store, file, candidates->anchors, err);
	if (r < 0 || !candidates->requested || !file->edition.version)
		return r;
	r = db_version_get(store->db, file->edition.version, &version);
	if (r == 0)
		r = certificates_read(version.certificate.data, version.certificate.length, 1,
		                      &current, err);
	if (r == 0)
		file->previous = sk_X509_shift(current);
	sk_X509_pop_free(current, X509_free);
	version_clear(&version);
	return r;
}

/* One try with the public key PUBLIC; trust as wide as ANCHOR says. */
static int try_key(struct store *store, const struct candidates *candidates, struct case_file *file,
                   EVP_PKEY *public, const char *anchor, struct error *err)
{
	struct expectation expectation = {
		.key = public,
		.config = candidates->requested ? file->config : NULL,
		.serial = record_get(store->conf, "serial-number"),
		.previous = file->previous,
		.anchors = file->anchors,
		.system_store = strcmp(anchor, "system") == 0,
		.require_anchor = strcmp(anchor, "profile") == 0 || strcmp(anchor, "system") == 0,
		.alternative_names_only = file->acme,
		.accept_changed_names = record_is(file->config, "accept-changed-names", "yes"),
		.allow_legacy = record_is(file->config, "allow-legacy", "yes") ||
		                record_is(file->settings, "allow-legacy", "yes"),
		.allow_ca = !candidates->requested || candidates->self_signed,
		.now = store_now(store),
		.clock_trusted = store_clock_trusted(store),
		.revocation.accept_unknown = true,
		.answer = candidates->answer,
	};
	struct sources sources = { store, file->profile.id, file->settings };
	uint64_t failures = stub_crl_failures();
	int r;

	sources_set(&sources, &expectation.revocation);
	r = validate_own(&expectation, candidates->certificates, &file->leaf, &file->chain,
	                 file->facts, err);
	if (r == 0 || stub_crl_failures() == failures)
		return r;
	expectation.revocation.source = PATH_SOURCE_OFF; /* it cannot be read: nothing is known */
	return validate_own(&expectation, candidates->certificates, &file->leaf, &file->chain,
	                    file->facts, err);
}

static int judge_key(struct store *store, const struct candidates *candidates,
                     struct case_file *file, int64_t key, struct error *err)
{
	static const char *const by_hand[] = { "profile", "system", "none" };
	bool bound = file->profile.id || candidates->requested;
	struct key_pair pair;
	EVP_PKEY *public;
	int r = key ? db_key_get(store->db, key, &pair) : -ENOENT;

	if (r < 0)
		return r;
	public = public_key_from_der(pair.public.data, pair.public.length);
	key_pair_clear(&pair);
	if (!public)
		return -ENOMEM;
	if (candidates->self_signed)
		file->anchor = "self";
	else if (bound)
		file->anchor = file->system ? "system" : "profile";
	if (file->anchor)
		r = try_key(store, candidates, file, public, file->anchor, err);
	else
		for (size_t i = 0; i < COUNT(by_hand) && (i == 0 || (r < 0 && r != -ENOENT)); i++)
			r = try_key(store, candidates, file, public, file->anchor = by_hand[i],
			            err);
	if (r < 0)
		file->anchor = NULL;
	file->key = key;
	EVP_PKEY_free(public);
	return r;
}

/* An anchor that is not a root has issuers that others may need. */
static int lengthen_chain(struct case_file *file)
{
	int count = sk_X509_num(file->chain);
	X509 *at = count ? sk_X509_value(file->chain, count - 1) : NULL;

	while (at && X509_self_signed(at, 0) != 1 && sk_X509_num(file->chain) < CERTIFICATES_MAX &&
	       (at = certificate_issuer(at, file->anchors)))
		if (!X509_up_ref(at) || !sk_X509_push(file->chain, at))
			return -ENOMEM;
	return 0;
}

/* An issuer that ends before the certificate. */
static void note_end(struct case_file *file)
{
	int64_t end = asn1_time_seconds(X509_get0_notAfter(file->leaf)), first = end;
	char time[RFC3339_MAX];

	for (int i = 0; i < sk_X509_num(file->chain); i++) {
		int64_t one = asn1_time_seconds(X509_get0_notAfter(sk_X509_value(file->chain, i)));

		first = one < first ? one : first;
	}
	rfc3339(first, time);
	if (first < end)
		record_add(file->facts, "chain-not-after", time);
}

static int judge(struct store *store, const struct candidates *candidates, struct case_file *file,
                 struct error *err)
{
	int r;

	if (candidates->key) {
		r = judge_key(store, candidates, file, candidates->key, err);
	} else {
		r = judge_key(store, candidates, file, file->edition.next_key, err);
		if (r == -ENOENT)
			r = judge_key(store, candidates, file, file->edition.key_pair, err);
	}
	if (r == -ENOENT && candidates->requested)
		return error_set(err, -EINVAL,
		                 "the CA sent no certificate for the key that it was asked with");
	if (r == -ENOENT && !file->edition.key_pair)
		return error_set(err, -EINVAL,
		                 "there is no key yet: write key.pem first, or request "
		                 "generate-key-pair");
	if (r == -ENOENT)
		return error_set(err, -EINVAL,
		                 "no certificate in it is for the key of this certificate id: "
		                 "write the matching key.pem first");
	if (r < 0)
		return r;
	r = lengthen_chain(file);
	if (r < 0)
		return r;
	certificate_describe(file->leaf, file->facts);
	note_end(file);
	return 0;
}

/* The judged certificate as a version, in force from here on. */
static int put_in_force(struct store *store, const struct object *object,
                        const struct candidates *candidates, struct case_file *file)
{
	const struct field *note;
	size_t index = 0;
	STACK_OF(X509) *leaf = sk_X509_new_null();
	struct version version = { .object = object->id,
		                   .key_pair = file->key,
		                   .created = store_now(store) };
	unsigned char *facts = NULL;
	int r = -ENOMEM;

	snprintf(version.anchor, sizeof version.anchor, "%s", file->anchor);
	version.not_after = asn1_time_seconds(X509_get0_notAfter(file->leaf));
	while (candidates->result && (note = record_next(candidates->result, "note", &index)))
		record_add(file->facts, "note", note->value);
	if (leaf && sk_X509_push(leaf, file->leaf))
		r = certificates_to_pem(leaf, &version.certificate.data,
		                        &version.certificate.length);
	if (r == 0 && sk_X509_num(file->chain) > 0)
		r = certificates_to_pem(file->chain, &version.chain.data, &version.chain.length);
	if (r == 0)
		r = record_encode(file->facts, &facts, &version.facts.length);
	version.facts.data = (char *)facts;
	if (r == 0)
		r = db_version_add(store->db, &version, &file->edition.version);
	OPENSSL_free(facts);
	version.facts = (struct blob){ 0 };
	version_clear(&version);
	sk_X509_free(leaf);
	file->edition.key_pair = file->key;
	if (file->edition.next_key == file->key)
		file->edition.next_key = 0;
	if (r == 0)
		r = edition_publish(store, object, &file->edition);
	/* a time that nobody vouches for may be our own clock's */
	if (r == 0 && strcmp(file->anchor, "self") != 0 && strcmp(file->anchor, "none") != 0)
		r = store_clock_floor(store, asn1_time_seconds(X509_get0_notBefore(file->leaf)));
	return r < 0 ? r : store_event(store, object, "certificate", file->facts);
}

int certificate_publish(struct store *store, const struct object *object,
                        const struct candidates *candidates, bool dry, struct error *err)
{
	struct case_file file = { .facts = record_new() };
	int r = -ENOMEM;

	if (file.facts)
		r = gather(store, object, candidates, &file, err);
	if (r == 0)
		r = judge(store, candidates, &file, err);
	if (r == 0 && !dry)
		r = put_in_force(store, object, candidates, &file);
	if (r == 0 && !dry && strcmp(file.anchor, "profile") == 0)
		r = crl_learn_path(store, file.profile.id, file.leaf, file.chain);
	case_clear(&file);
	return r;
}

int cert_accept(struct store *store, const struct object *object, const char *text, size_t length,
                bool dry, struct error *err)
{
	struct candidates candidates = { 0 };
	int r;

	r = certificates_read(text, length, 50, &candidates.certificates, err);
	if (r == 0)
		r = certificate_publish(store, object, &candidates, dry, err);
	sk_X509_pop_free(candidates.certificates, X509_free);
	return r;
}
