/*
 * What OpenSSL's path logic leaves aside: a CRL of the CA's that no distribution point of the
 * certificate names, one that it passed over for another, or a delta without a pointer to it. They
 * make nobody good, but whom the CA calls revoked anywhere is revoked, and of whom it may be one
 * that cannot be read is unknown.
 */
#include "common/crlfacts.h"
#include "common/stubcrl.h"
#include "pkifs/crl.h"

#include <errno.h>
#include <stdio.h>

/* The CA's own, signed by one of its keys or by who is vouched for. */
static bool is_proven(const struct crl *crl)
{
	const int64_t proven = CRL_OWN | CRL_TRUSTED;

	return (crl->kind & proven) == proven;
}

/* Whether CRL has CERTIFICATE: 1 and its ENTRY, 0, or a negative errno. */
static int look_up(struct store *store, const struct crl *crl, X509 *certificate,
                   struct crl_entry *entry)
{
	X509_CRL *stub = crl_cached(store, crl, NULL);

	if (!stub)
		return -EIO;
	if (X509_NAME_cmp(X509_CRL_get_issuer(stub), X509_get_issuer_name(certificate)) != 0)
		return 0;
	return stub_crl_find(stub, X509_get0_serialNumber(certificate), X509_CRL_get_issuer(stub),
	                     entry);
}

static bool has_same(const X509_CRL *one, const X509_CRL *other, int nid)
{
	int here = X509_CRL_get_ext_by_NID(one, nid, -1);
	int there = X509_CRL_get_ext_by_NID(other, nid, -1);

	if (here < 0 || there < 0)
		return here == there;
	return ASN1_OCTET_STRING_cmp(X509_EXTENSION_get_data(X509_CRL_get_ext(one, here)),
	                             X509_EXTENSION_get_data(X509_CRL_get_ext(other, there))) == 0;
}

/*
 * Whether both are for the same certificates and reasons: only then do their numbers tell which one
 * is newer (RFC 5280 §5.2.3). Those of two keys of a CA may speak of what each has signed.
 */
static bool has_scope_of(struct store *store, const struct crl *crl, const struct crl *as)
{
	X509_CRL *one = crl_cached(store, crl, NULL), *other = NULL;
	bool same;

	if (!one || !X509_CRL_up_ref(one))
		return false;
	other = crl_cached(store, as, NULL);
	same = other && has_same(one, other, NID_issuing_distribution_point) &&
	       has_same(one, other, NID_authority_key_identifier);
	X509_CRL_free(one);
	return same;
}

/* Whether LATER, a complete CRL, has all that DELTA says, whoever is in it. */
static bool supersedes(const struct crl *later, const struct crl *delta)
{
	return !*later->base && *later->number &&
	       !crl_number_is_lower(later->number, delta->number);
}

/* Whether DELTA, which goes on where COMPLETE ends (§5.2.4), takes CERTIFICATE off, and still may.
 */
static bool frees(struct store *store, const struct crl *delta, const struct crl *complete,
                  X509 *certificate)
{
	struct crl_entry entry;

	return *delta->base && *complete->number &&
	       crl_number_is_lower(complete->number, delta->number) &&
	       !crl_number_is_lower(complete->number, delta->base) &&
	       (!store_clock_trusted(store) || store_now(store) < delta->next_update) &&
	       look_up(store, delta, certificate, &entry) == 1 &&
	       entry.reason == CRL_REASON_REMOVE_FROM_CRL;
}

/* Whether a newer CRL of its scope takes back what CRL says of CERTIFICATE. */
static bool is_taken_back(struct store *store, int64_t profile, const struct crl *crl,
                          X509 *certificate)
{
	struct crl newer = { 0 };

	while (db_crl_next(store->db, profile, newer.id, &newer) == 0)
		if (is_proven(&newer) && has_scope_of(store, &newer, crl) &&
		    (*crl->base ? supersedes(&newer, crl) : frees(store, &newer, crl, certificate)))
			return true;
	return false;
}

static void find_in(struct store *store, int64_t profile, const struct crl *crl, X509 *certificate,
                    struct path_revocation *known)
{
	struct crl_entry entry;
	int found = look_up(store, crl, certificate, &entry);

	if (found < 0) {
		*known = (struct path_revocation){ .state = PATH_UNKNOWN, .reason = -1 };
		snprintf(known->how, sizeof known->how, "a CRL cannot be read");
	}
	if (found != 1 || entry.reason == CRL_REASON_REMOVE_FROM_CRL ||
	    is_taken_back(store, profile, crl, certificate))
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
	struct crl crl = { 0 };
	int ok = 0;
	unsigned long issuer =
		X509_NAME_hash_ex(X509_get_issuer_name(certificate), NULL, NULL, &ok);

	while (known->state != PATH_REVOKED && db_crl_next(store->db, profile, crl.id, &crl) == 0)
		if ((!ok || crl.issuer == (int64_t)(uint32_t)issuer) && is_proven(&crl))
			find_in(store, profile, &crl, certificate, known);
}
