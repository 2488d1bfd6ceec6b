/*
 * Certificate revocation lists (RFC 5280 §5), of any size: checked in one pass, entry by entry.
 */
#ifndef PKIFS_CRL_H
#define PKIFS_CRL_H

#include "common/crlentry.h"
#include "enroll/protocol.h"

#include <openssl/x509.h>
#include <stdint.h>

#define CRL_SIZE_MAX (256u << 20)

struct crl {
	unsigned char *der; /* where it had to be decoded from PEM, else NULL */
	const unsigned char *bytes;
	size_t size;
	struct crl_entry *entries;
	size_t count;
	char number[64];                  /* decimal; empty: the CRL has none */
	int64_t this_update, next_update; /* Unix seconds; NEXT_UPDATE 0: none */
};

/*
 * Reads the complete, direct CRL of CA in BYTES (DER or PEM, not trusted, used as long as *CRL
 * lives): issuer, signature, the CA's right to sign, scope, critical extensions, thisUpdate not
 * more than 5 min after NOW (Unix seconds, 0: not compared); SHA-1 only where LEGACY. The caller
 * owns what is in *CRL (crl_clear), also after an error. 0, -EBADMSG, -ENOMEM with ERR filled.
 */
int crl_read(const void *bytes, size_t length, X509 *ca, int64_t now, bool legacy, struct crl *crl,
             struct error *err);
void crl_clear(struct crl *crl);

/* Writes DER to BODY and the index to INDEX, both from their beginning. 0 or a negative errno. */
int crl_write(const struct crl *crl, int body, int index, struct error *err);

/* Actions of the worker. */
int crl_check_job(struct job *job, struct error *err); /* `crl-check` */
int crl_fetch_job(struct job *job, struct error *err); /* `crl` with `crl-url` */

/* The job's `ca` judges BYTES; what is good goes to its descriptors FIRST (body) and the next
 * (index) and into its result. */
int crl_accept(struct job *job, const void *bytes, size_t length, size_t first, struct error *err);

#endif
