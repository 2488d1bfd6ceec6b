/*
 * Certificate revocation lists (RFC 5280 §5), of any size: read in one pass, in bounded memory.
 */
#ifndef PKIFS_CRL_H
#define PKIFS_CRL_H

#include "common/crlfacts.h"
#include "common/stubcrl.h"
#include "enroll/protocol.h"

#define CRL_SIZE_MAX (256u << 20)

/* Where a CRL comes from, and where it goes. */
struct crl_paths {
	int text;      /* DER, or PEM with one or several of them */
	size_t number; /* which of these, from 0 */
	int body;      /* DER; may be TEXT */
	int index;     /* common/crlindex.h */
	int scratch;
};

struct crl {
	unsigned char *stub; /* without the entries (common/stubcrl.h) */
	size_t stub_length;
	unsigned char digest[EVP_MAX_MD_SIZE];
	size_t digest_length;
	uint64_t size; /* of the body */
	int64_t entries;
	size_t crls; /* in the text */
};

/*
 * Reads a CRL, which is not trusted, and fills body and index, from their beginnings. CERTIFICATES
 * (may be NULL) gets those that stand beside it. A signature that has no digest is checked here,
 * with SIGNERS and CERTIFICATES. The caller owns what is in *CRL (crl_clear), also after an error.
 * 0, -EBADMSG, -EFBIG, -ENOMEM, or what the files say, with ERR filled.
 */
int crl_read(const struct crl_paths *paths, STACK_OF(X509) * signers, STACK_OF(X509) * certificates,
             struct crl *crl, struct error *err);
void crl_clear(struct crl *crl);

/* Its X509_CRL, without an index; NULL with ERR filled. */
X509_CRL *crl_stub(const struct crl *crl, struct error *err);

/* Actions of the worker. */
int crl_check_job(struct job *job, struct error *err); /* `crl-check` */
int crl_fetch_job(struct job *job, struct error *err); /* `crl` with `crl-url` */

/* The job's CAs judge the CRL in the body (descriptor 0), which is DER or PEM; it goes to index and
 * scratch (1 and 2) and into the result. */
int crl_accept(struct job *job, struct error *err);
/* The same with a CRL that is in memory. */
int crl_put(struct job *job, const void *der, size_t length, struct error *err);

#endif
