/*
 * The index of a CRL: a line for each serial number, sorted by its first 21 bytes. A worker writes
 * it, the store looks things up in it.
 */
#ifndef PKIFS_CRLENTRY_H
#define PKIFS_CRLENTRY_H

#include <assert.h>
#include <stdbool.h>

/*
 * Serial numbers are magnitudes without leading zeros, at the end of their room; CRL_NEGATIVE
 * marks a negative one.
 */
#define CRL_NEGATIVE   0x80
#define CRL_NO_REASON  255
#define CRL_SERIAL_MAX 20

struct crl_entry {
	unsigned char length; /* of the serial number, and CRL_NEGATIVE */
	unsigned char serial[CRL_SERIAL_MAX];
	unsigned char reason;  /* CRLReason (RFC 5280 §5.3.1), or CRL_NO_REASON */
	unsigned char sum[2];  /* of the other bytes */
	unsigned char time[8]; /* Unix seconds, network order */
};
static_assert(sizeof(struct crl_entry) == 32, "files are read by it");

/* Sets the sum; and whether it fits: a bad disk must not turn what is revoked good. */
void crl_entry_seal(struct crl_entry *entry);
bool crl_entry_is_whole(const struct crl_entry *entry);

#endif
