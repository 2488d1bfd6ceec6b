/*
 * PKCS#10 requests (RFC 2986) and self-signed certificates, made from the settings of a job.
 */
#ifndef PKIFS_CSR_H
#define PKIFS_CSR_H

#include "common/record.h"
#include "enroll/signer.h"

/*
 * A signed request for KEY with the job's `subject` (default: CN = first `domain-name`, else
 * empty), alternative names and, where WITH_CHALLENGE, its `challenge-password`. The caller
 * owns *REQUEST. 0, -EINVAL, or what signing gave.
 */
int csr_make(struct signer *signer, EVP_PKEY *key, const struct record *job, bool with_challenge,
             X509_REQ **request, struct error *err);

/* What a CA wants otherwise than the settings say; NULL: as they say. */
struct csr_wishes {
	const X509 *names_of; /* subject and alternative names are those of this certificate */
	const char *challenge;
	const EVP_MD *digest;
	const STACK_OF(X509_EXTENSION) * extensions; /* beside the names, instead of key usage */
};

/* Whether an extension that a CA wants may be one of a request's: names are ours to say, and what
 * the CA is and whom it certifies are the CA's. */
bool csr_takes(const X509_EXTENSION *extension);

/* The same as WISHES say. */
int csr_make_as(struct signer *signer, EVP_PKEY *key, const struct record *job,
                const struct csr_wishes *wishes, X509_REQ **request, struct error *err);

/*
 * The same names and extensions for KEY where another form of request carries them. The caller
 * owns *SUBJECT and *EXTENSIONS. 0, -EINVAL, -ENOMEM.
 */
int csr_template(const EVP_PKEY *key, const struct record *job, const struct csr_wishes *wishes,
                 X509_NAME **subject, X509_EXTENSIONS **extensions, struct error *err);

/* The job's `digest`; SHA-256 where it names none. 0 or -EINVAL. */
int csr_digest(const struct record *job, const EVP_MD **digest, struct error *err);

/*
 * A self-signed certificate with the job's names, valid from its `now` for `validity-period`
 * days (default 1825), CA:TRUE with keyCertSign and cRLSign where `add-ca-constraint = yes`.
 */
int self_signed_make(struct signer *signer, EVP_PKEY *key, const struct record *job,
                     X509 **certificate, struct error *err);

#endif
