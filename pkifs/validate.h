/*
 * What the store believes: the last check before a certificate is published. DER from workers
 * and from users is not trusted. No store, no network, no file but the system's trust store.
 */
#ifndef PKIFS_VALIDATE_H
#define PKIFS_VALIDATE_H

#include "common/record.h"
#include "pkifs/path.h"

#include <openssl/x509.h>
#include <stdint.h>

/*
 * What a certificate of ours must be. NOW is Unix seconds; where CLOCK_TRUSTED is false, nothing
 * is refused for its times.
 */
struct expectation {
	EVP_PKEY *key;               /* the public key asked for */
	const struct record *config; /* `subject`, names as asked for; NULL: not compared */
	const char *serial;          /* the device's serial number for `SN` */
	X509 *previous;              /* a renewal is compared with this instead; may be NULL */
	STACK_OF(X509) * anchors;    /* trust only these (the confirmed CA and its issuers) */
	bool system_store;           /* also the system's trust store */
	bool require_anchor;         /* false: a certificate loaded by hand may have none */
	bool accept_changed_names;   /* of a first certificate */
	bool alternative_names_only; /* ACME: the subject is not compared */
	bool allow_legacy;           /* SHA-1, RSA below 2048 */
	bool allow_ca;               /* a self-signed CA of our own */
	int64_t now;
	bool clock_trusted;
	struct path_sources revocation; /* what is known to be revoked is refused */
	struct path_answer *answer;     /* gets the path; the caller's, NULL: not wanted */
};

/*
 * Finds in CANDIDATES the certificate for EXPECTATION's key and checks it: subject and names,
 * not a CA, key strength, digest, usages fit server, client or IKE, times, path to an anchor
 * built from CANDIDATES as intermediates. On success *LEAF is the certificate (reference taken),
 * *CHAIN its issuers up to and with the anchor (empty for a self-signed one; without anchor what
 * could be built), DIFFERENCES (may be NULL) gets a `difference` field for each name that is not
 * as asked. 0; -EINVAL with the first reason in words and what to set; -ENOENT when no candidate
 * has the key.
 */
int validate_own(const struct expectation *expectation, STACK_OF(X509) * candidates, X509 **leaf,
                 STACK_OF(X509) * *chain, struct record *differences, struct error *err);

/*
 * A CA certificate that is to be trusted: CA:TRUE, keyCertSign where it has a key usage, key
 * strong enough, not beyond its time. 0 or -EINVAL. v1 certificates are refused.
 */
int validate_ca(X509 *certificate, int64_t now, bool clock_trusted, bool allow_legacy,
                struct error *err);

/*
 * Sorts what a CA sent (GetCACert) into the CA itself (the issuer of the others, or the only
 * one), RA certificates (issued by it, not CAs) and its issuers. Stacks are the caller's.
 */
int sort_ca_bundle(STACK_OF(X509) * bundle, X509 **ca, STACK_OF(X509) * *ra,
                   STACK_OF(X509) * *issuers, struct error *err);

/*
 * The same for a CA that follows the one that has the certificates KNOWN: what is new in BUNDLE.
 * Cross certificates in it (RFC 4210 §4.4: NewWithOld, OldWithNew) are left out. A new root counts
 * before all; where there is none, other CAs count only if they are ANNOUNCED as the next, since
 * intermediates come and go. -ENOENT: nothing is new.
 */
int sort_next_ca(STACK_OF(X509) * bundle, STACK_OF(X509) * known, bool announced, X509 **ca,
                 STACK_OF(X509) * *ra, STACK_OF(X509) * *issuers, struct error *err);

/*
 * Whether CURRENT vouches for NEXT, which has its name: with its key it signed NEXT, or one of
 * BUNDLE for NEXT's key and name (NewWithOld). What CURRENT signed for another name may be any CA
 * below it. One that has ended vouches for nobody,
 * and none for one that is older (by OldWithNew it would be replaced by the one it followed).
 */
bool vouches_for(X509 *current, X509 *next, STACK_OF(X509) * bundle, int64_t now,
                 bool clock_trusted, bool allow_legacy);

#endif
