/*
 * The bytes of a CRL as they come: out of a file with DER or PEM, some at a time, with the digest
 * of a part of them.
 */
#ifndef PKIFS_CRL_INPUT_H
#define PKIFS_CRL_INPUT_H

#include "common/error.h"

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdint.h>

#define CRL_PIECE 65536 /* bytes that can be looked at together */

struct crl_input;

/*
 * Begins the CRL number SKIP (from 0) in the file FD. DER is copied to the file BODY, from its
 * beginning; BODY may be FD. CERTIFICATES (may be NULL) gets those that stand in a PEM text in
 * front of it. *INPUT is the caller's (crl_input_free). 0, -EBADMSG, -ENOMEM, or what read(2) says.
 */
int crl_input_begin(int fd, int body, size_t skip, STACK_OF(X509) * certificates,
                    struct crl_input **input, struct error *err);
void crl_input_free(struct crl_input *input); /* takes NULL */

/* The next LENGTH bytes (CRL_PIECE at most), or NULL with ERR filled: -EBADMSG where it ends. */
const unsigned char *crl_input_look(struct crl_input *input, size_t length, struct error *err);
/* Goes on by LENGTH bytes, which were looked at. */
void crl_input_skip(struct crl_input *input, size_t length);
/* How many bytes were gone over. */
uint64_t crl_input_at(const struct crl_input *input);

/*
 * What is gone over from here on is digested; DIGEST may be said later, as long as all of it can be
 * looked at. crl_input_digest ends that.
 */
void crl_input_mark(struct crl_input *input);
int crl_input_set_digest(struct crl_input *input, const EVP_MD *digest, struct error *err);
int crl_input_digest(struct crl_input *input, unsigned char *digest, size_t *length);

/*
 * The CRL must end here. The rest of a PEM text is read: *CRLS becomes the number of those in it,
 * CERTIFICATES (may be NULL) gets what stands behind. BODY has its length. 0, -EBADMSG.
 */
int crl_input_end(struct crl_input *input, STACK_OF(X509) * certificates, size_t *crls,
                  struct error *err);

#endif
