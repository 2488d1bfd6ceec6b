/*
 * What OpenSSL's path logic leaves aside: a CRL of the CA's that no distribution point of the
 * certificate names, or a delta without a pointer to it. They make nobody good, but whom the CA
 * calls revoked anywhere is revoked, and of whom it may be one that cannot be read is unknown.
 */
#include "common/crlfacts.h"
#include "common/stubcrl.h"
#include "pkifs/crl.h"

#include <errno.h>
#include <stdio.h>

/* Whether DELTA says what is new since the complete CRL in force (RFC 5280 §5.2.4). */
static bool is_newer(const struct crl *delta, const struct crl *complete)
{
	return complete->id && *complete->number &&
	       crl_number_is_lower(complete->number, delta->number) &&
	       !crl_number_is_lower(complete->number, delta->base);
}

/* Whether CRL counts; COMPLETE itself where the path made nothing of it (ASKED: it did). */
static bool counts(const struct crl *crl, const struct crl *complete, bool asked)
{
	const int64_t proven = CRL_OWN | CRL_TRUSTED;

	return (crl->kind & proven) == proven && !(asked && crl->id == complete->id) &&
	       (!*crl->base || !(crl->kind & CRL_WHOLE) || is_newer(crl, complete));
}

/* The complete CRL that PROFILE shows; id 0: none. */
static int get_complete(struct store *store, int64_t profile, struct crl *complete)
{
	struct edition edition;
	struct object object;
	int r = db_object_get(store->db, profile, &object);

	*complete = (struct crl){ 0 };
	if (r == 0)
		r = db_edition_get(store->db, object.edition, &edition);
	if (r < 0)
		return r;
	r = edition.crl ? db_crl_get(store->db, edition.crl, complete) : 0;
	edition_clear(&edition);
	return r;
}

static void find_in(struct store *store, const struct crl *crl, X509 *certificate,
                    struct path_revocation *known)
{
	X509_CRL *stub = crl_cached(store, crl, NULL);
	struct crl_entry entry;
	int found = -EIO;

	if (stub &&
	    X509_NAME_cmp(X509_CRL_get_issuer(stub), X509_get_issuer_name(certificate)) != 0)
		return;
	if (stub)
		found = stub_crl_find(stub, X509_get0_serialNumber(certificate),
		                      X509_CRL_get_issuer(stub), &entry);
	if (found < 0) {
		*known = (struct path_revocation){ .state = PATH_UNKNOWN, .reason = -1 };
		snprintf(known->how, sizeof known->how, "a CRL cannot be read");
	}
	if (found != 1 || entry.reason == CRL_REASON_REMOVE_FROM_CRL)
		return;
	*known = (struct path_revocation){
		.state = PATH_REVOKED,
		.time = crl_entry_time(&entry),
		.reason = entry.reason == CRL_NO_REASON ? -1 : entry.reason,
	};
	snprintf(known->how, sizeof known->how, "CRL %.50s", crl->number);
}

void crls_find(struct store *store, int64_t profile, X509 *certificate,
               struct path_revocation *known)
{
	bool asked = known->state == PATH_GOOD;
	struct crl crl = { 0 }, complete;
	int ok = 0;
	unsigned long issuer =
		X509_NAME_hash_ex(X509_get_issuer_name(certificate), NULL, NULL, &ok);

	if (get_complete(store, profile, &complete) < 0)
		return;
	while (known->state != PATH_REVOKED && db_crl_next(store->db, profile, crl.id, &crl) == 0)
		if ((!ok || crl.issuer == (int64_t)(uint32_t)issuer) &&
		    counts(&crl, &complete, asked))
			find_in(store, &crl, certificate, known);
}
