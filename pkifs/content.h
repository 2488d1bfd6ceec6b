/* What the files hold: one function per row of file_rows. Fills *CONTENT; -ENOENT: no content. */
#ifndef PKIFS_CONTENT_H
#define PKIFS_CONTENT_H

#include "pkifs/file.h"

typedef int make_content(struct store *store, const struct node *node, struct content *content);

make_content make_readme, make_empty, make_config, make_request, make_ca_cert, make_ca_chain,
	make_fingerprint, make_pending, make_next, make_crl_pem, make_crl_der, make_key,
	make_public, make_csr, make_csr_fingerprint, make_ocsp, make_bundle_ocsp, make_cert,
	make_chain, make_fullchain, make_bundle;

/* pkifs/status.c, metrics.c */
make_content make_status, make_status_all, make_status_json, make_metrics;

/* All that `status` of OBJECT says; the caller owns *STATUS. */
int status_record(struct store *store, const struct object *object, struct record **status);

/* STATE, as long as the certificate holds. */
const char *state_now(const struct store *store, const char *state, int64_t not_after);

/*
 * The tables of all objects cost their number; they are kept until something changes, or time
 * changes them (UNTIL of what MAKE fills), so that stat, open and read make them once, and all
 * readers have the same one.
 */
#define COUNTERS_SECONDS 5 /* what the kernel counts for tunnels comes as often */
struct table {
	struct snapshot *text;
	const char *notice;
	uint64_t changes;
	int64_t made, until;
};
int table_make(struct store *store, struct table *table, struct content *content,
               int (*make)(struct store *store, struct content *content));

/* The line of `wait`, or -EAGAIN while its reader has to wait. */
int make_wait_line(struct store *store, int64_t object, struct content *content);

/* Fingerprints of the certificates in PEM (SHA-256, SHA-1, MD5 each), as `fingerprint` shows. */
int fingerprints_text(const struct blob *pem, struct content *content);

/* A CRL as PEM: its size, and LENGTH bytes at OFFSET made from the DER in FD. */
size_t pem_crl_size(int64_t der_size);
int pem_crl_read(int fd, int64_t der_size, size_t offset, char *bytes, size_t length);

/* Adds text to CONTENT. 0 or -ENOMEM. */
int content_add(struct content *content, const char *text, size_t length);
__attribute__((format(printf, 2, 3))) int content_addf(struct content *content, const char *format,
                                                       ...);

/* challenge.c */
int make_challenge(struct store *store, const struct node *node, struct content *content);

#endif
