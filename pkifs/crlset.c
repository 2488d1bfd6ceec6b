/*
 * The CRLs that a profile keeps: one of each slot (issuer, scope, key, delta or not). The CA's own
 * must be signed by a key that the CA has or vouches for. Those of other issuers may come before
 * their signers are known: they count only in a path that brings one (OpenSSL looks at each).
 */
#include "common/crlfacts.h"
#include "common/hex.h"
#include "common/stubcrl.h"
#include "common/x509.h"
#include "pkifs/believed.h"
#include "pkifs/crl.h"
#include "pkifs/validate.h"
#include "pkifs/watch.h"
#include "pkifs/work.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

#define SET_SIZE_MAX (1ll << 30) /* bytes of them */

/* --- who may sign --- */

static int add_certificates(const struct blob *pem, STACK_OF(X509) * to)
{
	return pem->length ? blob_certificates(pem, to) : 0;
}

int crl_signers(const struct edition *edition, STACK_OF(X509) * *signers)
{
	int r;

	*signers = sk_X509_new_null();
	if (!*signers)
		return -ENOMEM;
	r = add_certificates(&edition->certificate, *signers);
	if (r == 0)
		r = add_certificates(&edition->former, *signers);
	if (r == 0 && *edition->next_by)
		r = add_certificates(&edition->next, *signers);
	if (r < 0) {
		sk_X509_pop_free(*signers, X509_free);
		*signers = NULL;
	}
	return r;
}

int crl_add_signers(const struct edition *edition, struct record *record)
{
	int r = work_add_der(record, "signer", &edition->former);

	return r == 0 && *edition->next_by ? work_add_der(record, "signer", &edition->next) : r;
}

/* Whether CERTIFICATE, if its issuer is believed, is made to sign, and may do so now. */
static bool may_sign(const struct store *store, X509 *certificate)
{
	if (!(X509_get_extension_flags(certificate) & EXFLAG_KUSAGE))
		return false; /* anybody's */
	return !store_clock_trusted(store) ||
	       certificate_is_valid_at(certificate, store_now(store));
}

static int add_all(STACK_OF(X509) * certificates, STACK_OF(X509) * to)
{
	for (int i = 0; i < sk_X509_num(certificates); i++) {
		X509 *certificate = sk_X509_value(certificates, i);

		X509_up_ref(certificate);
		if (!sk_X509_push(to, certificate)) {
			X509_free(certificate);
			return -ENOMEM;
		}
	}
	return 0;
}

/*
 * Those of BESIDE that SIGNERS vouch for, directly or by CAs between, become signers as well: each
 * one may prove others, so it goes on until no more are found.
 */
static int believe(const struct store *store, STACK_OF(X509) * beside, STACK_OF(X509) * signers)
{
	STACK_OF(X509) *cas = X509_chain_up_ref(signers);
	bool found = cas != NULL;

	while (found) {
		found = false;
		for (int i = 0; i < sk_X509_num(beside); i++) {
			X509 *certificate = sk_X509_value(beside, i);

			if (certificate_is_in(certificate, signers) ||
			    !may_sign(store, certificate) || !certificate_issuer(certificate, cas))
				continue;
			X509_up_ref(certificate);
			if (!sk_X509_push(signers, certificate))
				X509_free(certificate);
			else
				found = true;
			if (X509_check_ca(certificate) != 1)
				continue;
			X509_up_ref(certificate);
			if (!sk_X509_push(cas, certificate))
				X509_free(certificate);
		}
	}
	sk_X509_pop_free(cas, X509_free);
	ERR_clear_error();
	return cas ? 0 : -ENOMEM;
}

/* --- a CRL that comes --- */

/* What there is to know of it. */
struct judged {
	struct edition edition; /* of its profile */
	struct record *settings;
	STACK_OF(X509) * signers;
	X509_CRL *stub;
	struct crl_facts facts;
	struct crl_parts parts;
};

static void judged_clear(struct judged *judged)
{
	edition_clear(&judged->edition);
	record_free(judged->settings);
	sk_X509_pop_free(judged->signers, X509_free);
	X509_CRL_free(judged->stub);
	crl_parts_clear(&judged->parts);
}

static int take_field(const struct record *result, const char *key, struct blob *blob)
{
	const struct field *field = record_find(result, key);

	if (!field)
		return -EINVAL;
	blob->data = malloc(field->length + 1);
	if (!blob->data)
		return -ENOMEM;
	memcpy(blob->data, field->value, field->length);
	blob->data[field->length] = '\0';
	blob->length = field->length;
	return 0;
}

static int read_stub(const struct record *result, struct judged *judged, struct error *err)
{
	struct crl_parts *parts = &judged->parts;
	struct stub stub;
	int r = take_field(result, "stub", &parts->stub);

	if (r == 0)
		r = take_field(result, "digest", &parts->digest);
	if (r < 0)
		return error_set(err, r, "the worker did not say what is in the CRL");
	stub = (struct stub){ (unsigned char *)parts->stub.data, parts->stub.length,
		              (unsigned char *)parts->digest.data, parts->digest.length };
	judged->stub = stub_crl_new(&stub, NULL, err);
	return judged->stub ? 0 : -EINVAL;
}

/* Who signed it: the CA with one of its keys, or who is vouched for. */
static int set_kind(struct store *store, const struct crl_arrival *arrival, struct judged *judged,
                    struct crl *crl, struct error *err)
{
	X509_NAME *issuer = X509_CRL_get_issuer(judged->stub);
	X509 *ca = sk_X509_value(judged->signers, 0), *signer;
	int own = sk_X509_num(judged->signers);
	unsigned char *der = NULL;
	size_t length;
	int r;

	crl->kind = judged->facts.whole ? CRL_WHOLE : 0;
	if (judged->facts.indirect)
		crl->kind |= CRL_INDIRECT;
	if (X509_NAME_cmp(issuer, X509_get_subject_name(ca)) == 0)
		crl->kind |= CRL_OWN;
	r = arrival->fetched ? add_all(arrival->beside, judged->signers)
	                     : believe(store, arrival->beside, judged->signers);
	if (r < 0)
		return r;
	signer = crl_find_signer(judged->stub, judged->signers, err);
	if (signer)
		crl->kind |= CRL_TRUSTED;
	else if (arrival->fetched || (crl->kind & CRL_OWN))
		return -EINVAL;
	if (err)
		*err = (struct error){ 0 };
	for (int i = 0; i < own; i++)
		if (signer == sk_X509_value(judged->signers, i))
			signer = NULL; /* that one is kept anyway */
	if (!signer)
		return 0;
	r = certificate_to_der(signer, &der, &length);
	if (r == 0) {
		judged->parts.signer = (struct blob){ malloc(length + 1), length };
		if (judged->parts.signer.data)
			memcpy(judged->parts.signer.data, der, length);
		else
			r = -ENOMEM;
	}
	OPENSSL_free(der);
	return r;
}

static int judge(struct store *store, const struct object *object,
                 const struct crl_arrival *arrival, struct judged *judged, struct crl *crl,
                 struct error *err)
{
	const struct crl_facts *facts = &judged->facts;
	int r = db_edition_get(store->db, object->edition, &judged->edition);

	if (r == 0 && !judged->edition.certificate.length)
		return error_set(err, -EINVAL, "profile %s has no CA certificate", object->name);
	if (r == 0)
		r = store_config(store, object, &judged->settings);
	if (r == 0)
		r = crl_signers(&judged->edition, &judged->signers);
	if (r == 0)
		r = read_stub(arrival->result, judged, err);
	if (r == 0)
		r = crl_facts_read(judged->stub, store_clock_trusted(store) ? store_now(store) : 0,
		                   record_is(judged->settings, "allow-legacy", "yes"),
		                   &judged->facts, err);
	if (r == 0)
		r = set_kind(store, arrival, judged, crl, err);
	if (r < 0)
		return r == -EBADMSG ? -EINVAL : r;
	crl->this_update = facts->this_update;
	crl->next_update = facts->next_update;
	crl->issuer = facts->issuer;
	snprintf(crl->number, sizeof crl->number, "%s", facts->number);
	snprintf(crl->base, sizeof crl->base, "%s", facts->base);
	hex_write(crl->slot, facts->slot, sizeof facts->slot);
	return 0;
}

/* A CRL that was in force may not come back (RFC 5280 §5.2.3), nor one of nobody go in its place.
 */
static int check_replaces(const struct crl *crl, const struct crl *old, struct error *err)
{
	if (*crl->number && *old->number && crl_number_is_lower(crl->number, old->number))
		return error_set(err, -EINVAL, "the CRL has number %s, the one in force %s",
		                 crl->number, old->number);
	if (crl->this_update < old->this_update)
		return error_set(err, -EINVAL, "the CRL is older than the one in force");
	if (!(crl->kind & CRL_TRUSTED) && (old->kind & CRL_TRUSTED))
		return error_set(
			err, -EINVAL,
			"nobody who is known here signed the CRL, unlike the one in force");
	return 0;
}

static int check_room(struct store *store, const struct crl *crl, struct error *err)
{
	int64_t count, size;
	int r = db_crl_count(store->db, crl->object, &count, &size);

	if (r == 0 && (count >= CRL_SET_MAX || size + crl->size > SET_SIZE_MAX))
		r = error_set(err, -EINVAL,
		              "the profile has %lld CRLs of %lld bytes, and keeps no more: "
		              "clear-crl drops them",
		              (long long)count, (long long)size);
	return r;
}

/* The CA's complete ones, which speak of all. */
static bool is_complete(const struct crl *crl)
{
	return (crl->kind & CRL_OWN) && (crl->kind & CRL_WHOLE) && !*crl->base;
}

/* Takes the place of the older one of its slot. A CRL from before there were slots has none. */
static int replace(struct store *store, const struct crl *crl, const struct crl *shown,
                   struct error *err)
{
	struct crl old;
	int r = db_crl_of_slot(store->db, crl->object, crl->slot, &old);

	if (r == -ENOENT && shown->id && !*shown->slot && is_complete(crl)) {
		old = *shown;
		r = 0;
	}
	if (r == -ENOENT)
		return check_room(store, crl, err);
	if (r == 0)
		r = check_replaces(crl, &old, err);
	return r == 0 ? db_crl_drop(store->db, crl->object, old.id) : r;
}

/* Whether CRL is shown from now on: the CA's newest complete one is. */
static bool is_shown(const struct crl *crl, const struct crl *shown)
{
	return is_complete(crl) && (!shown->id || strcmp(crl->slot, shown->slot) == 0 ||
	                            crl->this_update >= shown->this_update);
}

static int tell(struct store *store, const struct object *object, const struct crl *crl)
{
	struct record *more = record_new();
	int r;

	if (!more)
		return -ENOMEM;
	if (*crl->number)
		record_add(more, "crl-number", crl->number);
	if (*crl->base)
		record_add(more, "crl-base", crl->base);
	record_add_number(more, "crl-entries", crl->entries);
	record_add(more, "crl-source", crl->source);
	r = store_event(store, object, "crl", more);
	record_free(more);
	return r;
}

/* The CA's own, complete and in force, changes nothing for peers who are not in it. */
static void tell_believers(struct store *store, const struct crl *crl)
{
	const int64_t plain = CRL_TRUSTED | CRL_OWN | CRL_WHOLE;
	int64_t now = store_now(store);
	X509_CRL *stub = NULL;

	if (!believed_any())
		return;
	if ((crl->kind & (plain | CRL_INDIRECT)) == plain && !*crl->base &&
	    crl->this_update <= now && now < crl->next_update)
		stub = crl_cached(store, crl, NULL);
	if (stub)
		believed_hear(stub);
	else
		believed_forget();
}

int crl_arrive(struct store *store, const struct object *object, const struct crl_arrival *arrival,
               struct crl *row, struct error *err)
{
	struct crl crl = { .object = object->id,
		           .created = store_now(store),
		           .file = arrival->files->number },
		   shown = { 0 };
	struct judged judged = { 0 };
	int r;

	crl.size = record_number(arrival->result, "size", 0);
	crl.entries = record_number(arrival->result, "crl-entries", 0);
	snprintf(crl.source, sizeof crl.source, "%s", arrival->source);
	r = judge(store, object, arrival, &judged, &crl, err);
	if (r == 0 && judged.edition.crl && db_crl_get(store->db, judged.edition.crl, &shown) < 0)
		shown.id = 0;
	if (r == 0)
		r = replace(store, &crl, &shown, err);
	if (r == 0 && !crl_files_are_whole(arrival->files->body, arrival->files->index, &crl))
		r = error_set(err, -EINVAL, "the CRL is not as long as its worker says");
	if (r == 0)
		r = db_crl_add(store->db, &crl, &judged.parts, &crl.id);
	if (r == 0 && is_shown(&crl, &shown)) {
		judged.edition.crl = crl.id;
		r = edition_publish(store, object, &judged.edition);
	}
	if (r == 0 && (crl.kind & CRL_TRUSTED))
		r = store_clock_floor(store, crl.this_update);
	if (r == 0)
		tell_believers(store, &crl);
	if (r == 0)
		r = watch_profile(store, object->id);
	if (r == 0)
		r = tell(store, object, &crl);
	if (r == 0)
		r = crl_sweep_after(store);
	judged_clear(&judged);
	if (row)
		*row = crl;
	return r;
}

int crl_forget(struct store *store, const struct object *object, struct edition *edition)
{
	int r = db_crl_drop(store->db, object->id, 0);

	edition->crl = 0;
	believed_forget();
	if (r == 0)
		r = watch_profile(store, object->id);
	return r < 0 ? r : crl_sweep_after(store);
}

int crl_of_new_ca(struct store *store, const struct object *object, struct edition *edition)
{
	STACK_OF(X509) *ca = NULL;
	struct crl crl = { 0 };
	int known = 0, r;
	unsigned long hash;

	r = certificates_read(edition->certificate.data, edition->certificate.length, 1, &ca, NULL);
	if (r < 0)
		return r;
	hash = X509_NAME_hash_ex(X509_get_subject_name(sk_X509_value(ca, 0)), NULL, NULL, &known);
	while (known && (r = db_crl_next(store->db, object->id, crl.id, &crl)) == 0) {
		if (!(crl.kind & CRL_OWN) || crl.issuer == (int64_t)(uint32_t)hash)
			continue;
		if (edition->crl == crl.id)
			edition->crl = 0;
		r = db_crl_drop(store->db, object->id, crl.id);
		if (r < 0)
			break;
	}
	sk_X509_pop_free(ca, X509_free);
	return r == -ENOENT ? 0 : r;
}

/* --- what status says --- */

static const char *kind_text(const struct crl *crl)
{
	if (*crl->base)
		return "delta";
	return crl->kind & CRL_WHOLE ? "complete" : "for a part";
}

/* The issuer's name, the caller's; NULL where the CRL cannot be read. */
static char *issuer_text(struct store *store, const struct crl *crl)
{
	X509_CRL *stub = crl_cached(store, crl, NULL);

	return stub ? dn_text(X509_CRL_get_issuer(stub)) : NULL;
}

int crl_describe(struct store *store, const struct object *object, const struct edition *edition,
                 struct record *status)
{
	struct crl crl = { 0 };
	int r;

	while ((r = db_crl_next(store->db, object->id, crl.id, &crl)) == 0) {
		char until[RFC3339_MAX], *issuer;

		if (crl.id == edition->crl)
			continue;
		issuer = crl.kind & CRL_OWN ? NULL : issuer_text(store, &crl);
		rfc3339(crl.next_update, until);
		record_addf(status, "crl-further", "%s%s%s%s%s, %lld entries, until %s%s, %s",
		            kind_text(&crl), *crl.number ? " " : "", crl.number,
		            issuer ? " of " : "", issuer ? issuer : "", (long long)crl.entries,
		            crl.next_update ? until : "another comes",
		            crl.kind & CRL_TRUSTED ? "" : ", its signer is not known yet",
		            crl.source);
		free(issuer);
	}
	return r == -ENOENT ? 0 : r;
}
