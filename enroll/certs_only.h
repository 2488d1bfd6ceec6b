/*
 * Degenerate certs-only messages (RFC 8894 §3.4, RFC 8951 §2.3): SignedData that carries
 * certificates and CRLs and that nobody signed. What comes in is not trusted.
 */
#ifndef PKIFS_CERTS_ONLY_H
#define PKIFS_CERTS_ONLY_H

#include "common/error.h"

#include <openssl/pkcs7.h>

#define CERTS_ONLY_MAX 100

/* The content of DER with nothing behind it, and *BUNDLE that keeps it (PKCS7_free, in either
 * case); NULL where it is none. */
PKCS7_SIGNED *certs_only_open(PKCS7 **bundle, const void *der, size_t length);

/* The certificates in CONTENT, at least one. The caller owns *CERTIFICATES. 0, -EBADMSG. */
int certs_only_take(const PKCS7_SIGNED *content, STACK_OF(X509) * *certificates, struct error *err);

#endif
