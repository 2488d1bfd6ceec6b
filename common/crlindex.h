/*
 * The index of a CRL: a file in which a serial number is found by one read. A worker writes it, the
 * store looks things up in it.
 *
 * ```
 *  struct crl_entry …      sorted by their keys
 *  CRL_KEY bytes …         fences: the key of each CRL_BLOCK-th entry
 *  length (2), DER …       names of issuers that are not the CRL's own (indirect CRLs)
 *  struct crl_trailer
 * ```
 * Numbers are in network order.
 */
#ifndef PKIFS_CRLINDEX_H
#define PKIFS_CRLINDEX_H

#include "common/error.h"

#include <assert.h>
#include <openssl/asn1.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Serial numbers are magnitudes without leading zeros, at the end of their room; CRL_NEGATIVE
 * marks a negative one.
 */
#define CRL_NEGATIVE   0x80
#define CRL_NO_REASON  255
#define CRL_SERIAL_MAX 20
#define CRL_BLOCK      128  /* entries */
#define CRL_NAMES_MAX  1024 /* issuers in one indirect CRL */
#define CRL_NAME_SIZE  8192 /* bytes of such a name */

struct crl_entry {
	unsigned char length; /* of the serial number, and CRL_NEGATIVE */
	unsigned char serial[CRL_SERIAL_MAX];
	unsigned char issuer[3]; /* number of its name in the table, from 1; 0: the CRL's own */
	unsigned char reason;    /* CRLReason (RFC 5280 §5.3.1), or CRL_NO_REASON */
	unsigned char sum[2];    /* of the other bytes */
	unsigned char time[5];   /* Unix seconds, two's complement */
};
static_assert(sizeof(struct crl_entry) == 32, "files are read by it");

#define CRL_SERIAL_KEY offsetof(struct crl_entry, issuer) /* what a look-up compares */
#define CRL_KEY        offsetof(struct crl_entry, reason) /* what entries are sorted by */

struct crl_trailer {
	unsigned char magic[8];
	unsigned char entries[8];
	unsigned char names[4];      /* how many */
	unsigned char names_size[4]; /* bytes */
	unsigned char sum[8];        /* of all behind the entries, but for itself */
};
#define CRL_MAGIC "pkifsCR1"

/* Sets the sum; and whether it fits: a bad disk must not turn what is revoked good. */
void crl_entry_seal(struct crl_entry *entry);
bool crl_entry_is_whole(const struct crl_entry *entry);
void crl_entry_set_time(struct crl_entry *entry, int64_t seconds);
int64_t crl_entry_time(const struct crl_entry *entry);

/* The serial number's part of *ENTRY; the rest is zero. False: it is longer than a CRL may say. */
bool crl_entry_set_serial(struct crl_entry *entry, const ASN1_INTEGER *serial);

/* A running sum (FNV-1a), begun with CRL_SUM. */
#define CRL_SUM 14695981039346656037u
uint64_t crl_sum(uint64_t sum, const void *bytes, size_t length);

struct crl_index;

/*
 * Opens the index in FD, which is *INDEX's from then on. What is needed of all of it is read: two
 * bytes of memory for ten entries. 0; -EIO: it is damaged; -ENOMEM. FD is the caller's then.
 */
int crl_index_open(int fd, struct crl_index **index);
void crl_index_close(struct crl_index *index); /* takes NULL */
int64_t crl_index_entries(const struct crl_index *index);
size_t crl_index_memory(const struct crl_index *index); /* bytes */

/*
 * Looks SERIAL of ISSUER up in the CRL of OWN: 1 and *ENTRY, 0 where it is not in it, -EIO. ISSUER
 * NULL: of whatever issuer.
 */
int crl_index_find(const struct crl_index *index, const ASN1_INTEGER *serial,
                   const X509_NAME *issuer, const X509_NAME *own, struct crl_entry *entry);

#endif
