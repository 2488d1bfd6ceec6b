/*
 * What is known of revocation: a CA's CRL has a sorted index, in which serial numbers are looked
 * up.
 */
#include "common/crlfacts.h"
#include "common/stubcrl.h"
#include "common/x509.h"
#include "pkifs/crl.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/x509v3.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A CA profile as it stands: its CA's name, and its CRL. */
struct issuer {
	int64_t profile, edition, config; /* all that follows is theirs, and changes with them */
	char *subject;                    /* NULL: no CA certificate */
	bool checks;
	struct crl crl;   /* id 0: none */
	bool has_further; /* CRLs beside it */
};

/* Of all profiles, by their rows. */
struct issuers {
	struct issuer *list;
	size_t count;
	uint64_t changes; /* of the store, when this was gathered */
};

/* Whether the profile keeps CRLs beside the one in ISSUER; these change without a new edition. */
static bool has_further(struct store *store, const struct issuer *issuer)
{
	struct crl crl = { 0 };

	while (db_crl_next(store->db, issuer->profile, crl.id, &crl) == 0)
		if (crl.id != issuer->crl.id)
			return true;
	return false;
}

static void issuer_clear(struct issuer *issuer)
{
	free(issuer->subject);
	*issuer = (struct issuer){ 0 };
}

static int read_subject(const struct edition *edition, char **subject)
{
	STACK_OF(X509) *ca = NULL;
	int r = 0;

	if (edition->certificate.length)
		r = certificates_read(edition->certificate.data, edition->certificate.length, 1,
		                      &ca, NULL);
	if (r == 0 && sk_X509_num(ca) > 0)
		*subject = dn_text(X509_get_subject_name(sk_X509_value(ca, 0)));
	sk_X509_pop_free(ca, X509_free);
	return r;
}

static int issuer_read(struct store *store, const struct object *profile, struct issuer *issuer)
{
	struct record *settings = NULL;
	struct edition edition;
	int r = db_edition_get(store->db, profile->edition, &edition);

	*issuer = (struct issuer){ .profile = profile->id,
		                   .edition = profile->edition,
		                   .config = profile->config };
	if (r == 0)
		r = read_subject(&edition, &issuer->subject);
	if (r == 0)
		r = store_config(store, profile, &settings);
	if (r == 0 && edition.crl && db_crl_get(store->db, edition.crl, &issuer->crl) < 0)
		issuer->crl.id = 0;
	issuer->checks = !record_is(settings, "revocation-check", "disable");
	record_free(settings);
	edition_clear(&edition);
	return r;
}

static bool is_same(const struct issuer *issuer, const struct object *profile)
{
	return issuer->profile == profile->id && issuer->edition == profile->edition &&
	       issuer->config == profile->config;
}

/* Gathers all profiles anew; those that are as they were are taken over from OLD. */
static int gather(struct store *store, struct issuers *old, struct issuers *new)
{
	struct object profile = { 0 };
	size_t kept = 0;
	int r;

	while ((r = db_object_next(store->db, KIND_CA, profile.id, &profile)) == 0) {
		struct issuer *list = realloc(new->list, (new->count + 1) * sizeof *list);

		if (!list)
			return -ENOMEM;
		new->list = list;
		while (kept < old->count && old->list[kept].profile < profile.id)
			kept++;
		if (kept < old->count && is_same(&old->list[kept], &profile)) {
			list[new->count] = old->list[kept];
			old->list[kept] = (struct issuer){ .profile = profile.id };
		} else {
			r = issuer_read(store, &profile, &list[new->count]);
			if (r < 0) {
				issuer_clear(&list[new->count]);
				return r;
			}
		}
		list[new->count].has_further = has_further(store, &list[new->count]);
		new->count++;
	}
	return r == -ENOENT ? 0 : r;
}

static void issuers_clear(struct issuers *issuers)
{
	for (size_t i = 0; i < issuers->count; i++)
		issuer_clear(&issuers->list[i]);
	free(issuers->list);
	*issuers = (struct issuers){ 0 };
}

/* All profiles as they are now; NULL where they cannot be read. */
static const struct issuers *issuers_now(struct store *store)
{
	static struct issuers issuers;
	struct issuers new = { .changes = store->changes };

	if (issuers.list && issuers.changes == store->changes && !store->begun)
		return &issuers;
	if (gather(store, &issuers, &new) < 0) {
		issuers_clear(&new);
		return NULL;
	}
	issuers_clear(&issuers);
	issuers = new;
	return &issuers;
}

/* Names in text are compared as RFC 5280 §7.1 wants it: whatever case and number of blanks. */
static bool is_same_name(const char *one, const char *other)
{
	for (;; one++, other++) {
		while (one[0] == ' ' && one[1] == ' ')
			one++;
		while (other[0] == ' ' && other[1] == ' ')
			other++;
		if (tolower((unsigned char)*one) != tolower((unsigned char)*other))
			return false;
		if (!*one)
			return true;
	}
}

static const struct issuer *issuer_of(const struct issuers *issuers, int64_t profile,
                                      const char *name)
{
	for (size_t i = 0; i < issuers->count; i++) {
		const struct issuer *issuer = &issuers->list[i];

		if ((!profile || issuer->profile == profile) && issuer->subject &&
		    is_same_name(issuer->subject, name))
			return issuer;
	}
	return NULL;
}

/* SERIAL is hexadecimal, with a `-` where it is negative; the caller's. */
static ASN1_INTEGER *read_serial(const char *serial)
{
	BIGNUM *number = NULL;
	ASN1_INTEGER *read = NULL;

	if (BN_hex2bn(&number, serial) == (int)strlen(serial))
		read = BN_to_ASN1_INTEGER(number, NULL);
	BN_free(number);
	return read;
}

/* What the CRLs of an issuer say of a certificate. */
struct finding {
	bool revoked;
	struct crl by; /* which of them says so */
	int64_t time;
	int reason;
};

/* Asks CRL for SERIAL: 0 or -EIO. Complete ones come before deltas, which may take it off. */
static int ask(struct store *store, const struct crl *crl, const ASN1_INTEGER *serial,
               struct finding *finding)
{
	X509_CRL *stub = crl_cached(store, crl, NULL);
	struct crl_entry entry;
	int r;

	if (!stub)
		return -EIO;
	r = stub_crl_find(stub, serial, X509_CRL_get_issuer(stub), &entry);
	if (r <= 0)
		return r;
	if (*crl->base && entry.reason == CRL_REASON_REMOVE_FROM_CRL) {
		if (crl->kind & CRL_WHOLE)
			finding->revoked = false;
		return 0;
	}
	*finding = (struct finding){ true, *crl, crl_entry_time(&entry), entry.reason };
	if (entry.reason == CRL_REASON_REMOVE_FROM_CRL)
		finding->reason = CRL_NO_REASON;
	return 0;
}

/* Whether DELTA says what is new since COMPLETE (RFC 5280 §5.2.4). */
static bool is_newer(const struct crl *delta, const struct crl *complete)
{
	return *delta->base && complete->id && *complete->number &&
	       crl_number_is_lower(complete->number, delta->number) &&
	       !crl_number_is_lower(complete->number, delta->base);
}

/* Looks SERIAL up in the CRLs of ISSUER: 0 and *FINDING, or a negative errno. */
static int look_up(struct store *store, const struct issuer *issuer, const char *serial,
                   struct finding *finding)
{
	ASN1_INTEGER *number = read_serial(serial);
	struct crl crl = { 0 };
	int r = number ? 0 : -EINVAL;

	*finding = (struct finding){ 0 };
	if (r == 0 && issuer->crl.id)
		r = ask(store, &issuer->crl, number, finding);
	/* those for a part can only revoke; a newer one's delta comes behind its base */
	while (r == 0 && issuer->has_further &&
	       db_crl_next(store->db, issuer->profile, crl.id, &crl) == 0) {
		const int64_t counts = CRL_OWN | CRL_TRUSTED;

		if (crl.id != issuer->crl.id && (crl.kind & counts) == counts &&
		    (!*crl.base || !(crl.kind & CRL_WHOLE) || is_newer(&crl, &issuer->crl)))
			r = ask(store, &crl, number, finding);
	}
	ASN1_INTEGER_free(number);
	return r;
}

/* RFC 5280 §5.3.1 */
static const char *reason_name(int reason)
{
	static const char *const names[] = {
		", unspecified",      ", key compromise",
		", CA compromise",    ", affiliation changed",
		", superseded",       ", cessation of operation",
		", on hold",          "",
		", removed from CRL", ", privilege withdrawn",
		", AA compromise",
	};

	return reason >= 0 && (size_t)reason < COUNT(names) ? names[reason] : "";
}

static int describe_lookup(struct store *store, const struct issuer *issuer, const char *serial,
                           char *text, size_t size)
{
	const struct crl *crl = &issuer->crl;
	char when[RFC3339_MAX], expiry[RFC3339_MAX];
	struct finding finding;

	if (look_up(store, issuer, serial, &finding) < 0) {
		snprintf(text, size, "unknown (the CRL cannot be read)");
		return 0;
	}
	if (finding.revoked) {
		rfc3339(finding.time, when);
		snprintf(text, size, "revoked (CRL %s, since %s%s)", finding.by.number, when,
		         reason_name(finding.reason));
		return 1;
	}
	rfc3339(crl->next_update, expiry);
	if (!crl->id)
		snprintf(text, size, "unknown (no complete CRL)");
	else if (crl->next_update && crl->next_update < store_now(store) &&
	         store_clock_trusted(store))
		snprintf(text, size, "unknown (the CRL was due for renewal at %s)", expiry);
	else
		snprintf(text, size, "good (CRL %s, valid until %s)", crl->number, expiry);
	return 0;
}

int revocation_of(struct store *store, int64_t profile, const struct record *facts, char *text,
                  size_t size)
{
	const char *name = record_get(facts, "issuer"), *serial = record_get(facts, "serial");
	const struct issuers *issuers = issuers_now(store);
	const struct issuer *issuer =
		issuers && name && serial ? issuer_of(issuers, profile, name) : NULL;

	if (!issuer)
		snprintf(text, size, "unchecked (no profile has its issuer)");
	else if (!issuer->checks)
		snprintf(text, size, "unchecked (revocation-check = disable)");
	else if (!issuer->crl.id && !issuer->has_further)
		snprintf(text, size, "unknown (no CRL)");
	else
		return describe_lookup(store, issuer, serial, text, size);
	return 0;
}
