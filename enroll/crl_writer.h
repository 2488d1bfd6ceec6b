/*
 * Makes the index of a CRL (common/crlindex.h) out of its entries in whatever order, in memory that
 * grows by two bytes for ten entries: sorted runs in a file, then a merge.
 */
#ifndef PKIFS_CRL_WRITER_H
#define PKIFS_CRL_WRITER_H

#include "common/crlindex.h"

struct crl_writer;

/* Writes to the file INDEX; SCRATCH is for the runs. The caller's (crl_writer_free); NULL: no
 * memory. */
struct crl_writer *crl_writer_new(int index, int scratch);
void crl_writer_free(struct crl_writer *writer); /* takes NULL */

/* The number of the issuer in DER, which may be new. 0, -EBADMSG (too many of them), -ENOMEM. */
int crl_writer_issuer(struct crl_writer *writer, const unsigned char *der, size_t length,
                      uint32_t *number, struct error *err);

/* Adds ENTRY, which is sealed. 0 or a negative errno with ERR filled. */
int crl_writer_add(struct crl_writer *writer, const struct crl_entry *entry, struct error *err);

/* Writes what is left; *COUNT is the number of entries. */
int crl_writer_finish(struct crl_writer *writer, int64_t *count, struct error *err);

#endif
