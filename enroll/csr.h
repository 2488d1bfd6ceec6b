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

/*
 * A self-signed certificate with the job's names, valid from its `now` for `validity-period`
 * days (default 1825), CA:TRUE with keyCertSign and cRLSign where `add-ca-constraint = yes`.
 */
int self_signed_make(struct signer *signer, EVP_PKEY *key, const struct record *job,
                     X509 **certificate, struct error *err);

#endif
