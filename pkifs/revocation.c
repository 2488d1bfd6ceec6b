/*
 * What is known of revocation: a CA's CRL has a sorted index, in which serial numbers are looked
 * up.
 */
#include "common/crlentry.h"
#include "common/x509.h"
#include "pkifs/object.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
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
	struct crl crl; /* id 0: none */
};

/* Of all profiles, by their rows. */
struct issuers {
	struct issuer *list;
	size_t count;
	uint64_t changes; /* of the store, when this was gathered */
};

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

/* What an entry begins with: SERIAL is hexadecimal, with a `-` where it is negative. */
static int serial_key(const char *serial, struct crl_entry *key)
{
	bool negative = *serial == '-';
	const char *digits = strcmp(serial, "0") == 0 ? "00" : serial + negative;
	unsigned char bytes[CRL_SERIAL_MAX];
	size_t length;

	if (!OPENSSL_hexstr2buf_ex(bytes, sizeof bytes, &length, digits, '\0')) {
		ERR_clear_error();
		return -EINVAL;
	}
	*key = (struct crl_entry){ .length = (unsigned char)(length |
		                                             (negative ? CRL_NEGATIVE : 0)) };
	memcpy(key->serial + CRL_SERIAL_MAX - length, bytes, length);
	return 0;
}

/* Finds the entry that begins as WANTED among COUNT of INDEX: 1, 0, or a negative errno. */
static int find(int index, off_t count, const struct crl_entry *wanted, struct crl_entry *entry)
{
	off_t low = 0, high = count;

	while (low < high) {
		off_t middle = low + (high - low) / 2;
		int order;

		if (pread(index, entry, sizeof *entry, middle * (off_t)sizeof *entry) !=
		            sizeof *entry ||
		    !crl_entry_is_whole(entry))
			return -EIO;
		order = memcmp(wanted, entry, offsetof(struct crl_entry, reason));
		if (order == 0)
			return 1;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return 0;
}

/* Looks SERIAL up: 1 revoked (*TIME and *REASON), 0 not, or a negative errno. */
static int look_up(struct store *store, const struct crl *crl, const char *serial, int64_t *time,
                   int *reason)
{
	struct crl_entry wanted, entry;
	uint64_t seconds = 0; /* the worker's, whatever they are */
	int index, r = serial_key(serial, &wanted);

	if (r < 0)
		return r;
	index = crl_open_index(store, crl);
	if (index < 0)
		return index;
	r = find(index, crl->entries, &wanted, &entry);
	close(index);
	for (size_t i = 0; r == 1 && i < sizeof entry.time; i++)
		seconds = seconds << 8 | entry.time[i];
	*time = (int64_t)seconds;
	*reason = r == 1 ? entry.reason : CRL_NO_REASON;
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

static int describe_lookup(struct store *store, const struct crl *crl, const char *serial,
                           char *text, size_t size)
{
	char when[RFC3339_MAX], expiry[RFC3339_MAX];
	int64_t time;
	int reason, r;

	r = look_up(store, crl, serial, &time, &reason);
	if (r < 0) {
		snprintf(text, size, "unknown (the CRL cannot be read)");
		return 0;
	}
	rfc3339(crl->next_update, expiry);
	if (r == 1) {
		rfc3339(time, when);
		snprintf(text, size, "revoked (CRL %s, since %s%s)", crl->number, when,
		         reason_name(reason));
		return 1;
	}
	if (crl->next_update && crl->next_update < store_now(store) && store_clock_trusted(store))
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
	else if (!issuer->crl.id)
		snprintf(text, size, "unknown (no CRL)");
	else
		return describe_lookup(store, &issuer->crl, serial, text, size);
	return 0;
}
