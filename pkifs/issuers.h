/*
 * The CA certificates that come with a certificate (CMPv2): which of them are believed, and the
 * profiles that get them. There is no enrollment of the CA before it, so this is where trust in it
 * begins.
 */
#ifndef PKIFS_ISSUERS_H
#define PKIFS_ISSUERS_H

#include "pkifs/standing.h"

#include <openssl/x509.h>

/*
 * Of CERTIFICATES (the one asked for first) those that stand above it and are believed, nearest
 * first, into *PATH (the caller's). Believed is what the profile has; in an answer that the shared
 * secret proves what the CA published with it, and a root that itself signed the certificate or a
 * CA certificate that is believed; and whatever is signed by one that is believed. -EINVAL where
 * the profile has no CA certificate and gets none.
 */
int issuers_believed(struct store *store, const struct standing *standing,
                     const struct record *result, STACK_OF(X509) * certificates,
                     STACK_OF(X509) * *path, struct error *err);

/*
 * The first of PATH becomes the profile's CA certificate where it has none. Each further one that
 * is in no profile gets a profile of its own, named by the last 16 digits of its serial number
 * (hex, as status prints it), with -00 to -99 behind where that is taken.
 */
int issuers_keep(struct store *store, const struct standing *standing, STACK_OF(X509) * path,
                 struct error *err);

#endif
