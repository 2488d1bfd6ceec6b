#include "pkifs/rollover.h"

#include "common/x509.h"

#include <errno.h>

#define DAY      86400
#define NEAR_MAX (90 * DAY)
#define NEAR     10 /* the part of its lifetime in which a CA certificate is near its end */

/* When CA is near its end. */
static int64_t near_end(const X509 *ca)
{
	int64_t end = asn1_time_seconds(X509_get0_notAfter(ca));
	int64_t part = (end - asn1_time_seconds(X509_get0_notBefore(ca))) / NEAR;

	return end - (part < NEAR_MAX ? part : NEAR_MAX);
}

/* The CA certificate of a profile; the caller's. -ENOENT where there is none. */
static int read_ca(struct store *store, const struct object *object, X509 **ca)
{
	STACK_OF(X509) *certificates = NULL;
	struct edition edition = { 0 };
	int r = db_edition_get(store->db, object->edition, &edition);

	if (r == 0 && !edition.certificate.length)
		r = -ENOENT;
	if (r == 0)
		r = certificates_read(edition.certificate.data, edition.certificate.length, 1,
		                      &certificates, NULL);
	*ca = r == 0 ? sk_X509_shift(certificates) : NULL;
	sk_X509_pop_free(certificates, X509_free);
	edition_clear(&edition);
	return r;
}

int rollover_plan(struct store *store, const struct object *object, struct next_action *action)
{
	X509 *ca;
	int r = read_ca(store, object, &ca);

	action->at = r == 0 && !action->failures ? near_end(ca) : ACTION_NONE;
	action->profile = object->id;
	X509_free(ca);
	return r == -ENOENT ? 0 : r;
}

int rollover_tell(struct store *store, const struct object *object)
{
	struct next_action told = { .at = ACTION_NONE, .profile = object->id, .failures = 1 };
	struct record *more = record_new();
	X509 *ca = NULL;
	char time[RFC3339_MAX];
	int r = more ? read_ca(store, object, &ca) : -ENOMEM;

	if (r == 0) {
		rfc3339(asn1_time_seconds(X509_get0_notAfter(ca)), time);
		record_add(more, "not-after", time);
		r = store_event(store, object, "ca-ends", more);
	}
	if (r == 0)
		r = db_action_set(store->db, object->id, &told);
	X509_free(ca);
	record_free(more);
	return r;
}

void rollover_describe(const struct store *store, const X509 *ca, struct record *status)
{
	int64_t end = asn1_time_seconds(X509_get0_notAfter(ca)), now = store_now(store);

	if (now < near_end(ca) || now > end)
		return;
	record_add(status, "warning",
	           "the CA certificate nears its end, and with it all that it signed: enroll "
	           "fetches the next one beside it");
}
