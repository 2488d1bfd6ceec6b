/* CRLs that the store has, for those who validate a path. */
#include "common/x509.h"
#include "pkifs/object.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <unistd.h>

#define WHOLE_MAX (256 << 10) /* bytes: reading one that is larger holds others up */

static X509_CRL *read_whole(struct store *store, const struct crl *crl)
{
	unsigned char *der = crl->size <= WHOLE_MAX ? malloc((size_t)crl->size) : NULL;
	const unsigned char *at = der;
	X509_CRL *whole = NULL;
	int fd = der ? crl_open(store, crl->id, false) : -1;

	if (fd >= 0 && read(fd, der, (size_t)crl->size) == crl->size)
		whole = d2i_X509_CRL(NULL, &at, (long)crl->size);
	if (fd >= 0)
		close(fd);
	free(der);
	ERR_clear_error();
	return whole;
}

STACK_OF(X509_CRL) *
	crls_known(struct store *store, const struct object *profile, const X509_NAME *issuer)
{
	STACK_OF(X509_CRL) *found = sk_X509_CRL_new_null();
	X509_CRL *whole = NULL;
	struct edition edition = { 0 };
	struct crl crl;

	if (db_edition_get(store->db, profile->edition, &edition) == 0 && edition.crl &&
	    db_crl_get(store->db, edition.crl, &crl) == 0)
		whole = read_whole(store, &crl);
	edition_clear(&edition);
	if (whole && (!found || X509_NAME_cmp(X509_CRL_get_issuer(whole), issuer) != 0 ||
	              !sk_X509_CRL_push(found, whole)))
		X509_CRL_free(whole);
	return found;
}
