/*
 * What is to be known of a CMP answer (RFC 4210) beyond what OSSL_CMP tells: why it refuses, by
 * whom it is proven, and what it says where it proves nothing.
 */
#ifndef PKIFS_CMP_ANSWER_H
#define PKIFS_CMP_ANSWER_H

#include "common/record.h"

#include <openssl/cmp.h>

/* A message with nothing behind it, the caller's; NULL where it is none. */
OSSL_CMP_MSG *cmp_message_read(const void *der, size_t length);

/* The DER of MESSAGE, the caller's (OPENSSL_free). 0 or -ENOMEM. */
int cmp_message_der(const OSSL_CMP_MSG *message, unsigned char **der, size_t *length);

/* Whether MESSAGE has a MAC by the shared secret: only then are its caPubs the CA's word. */
bool cmp_proven_by_secret(const OSSL_CMP_MSG *message, const struct field *secret);

/* The refusal (PKIStatusInfo) that CONTEXT was given, in words. */
#define CMP_WORDS_MAX 400
void cmp_refusal(const OSSL_CMP_CTX *context, char words[CMP_WORDS_MAX]);

/* Whether it has one of these BITS: what passes with the moment, what a template may
 * mend, what is revoked already. */
#define CMP_PASSES                                                                                 \
	(1 << OSSL_CMP_PKIFAILUREINFO_systemUnavail | 1 << OSSL_CMP_PKIFAILUREINFO_systemFailure)
#define CMP_TEMPLATE                                                                               \
	(1 << OSSL_CMP_PKIFAILUREINFO_badAlg | 1 << OSSL_CMP_PKIFAILUREINFO_badCertTemplate |      \
	 1 << OSSL_CMP_PKIFAILUREINFO_unacceptedExtension |                                        \
	 1 << OSSL_CMP_PKIFAILUREINFO_unacceptedPolicy)
#define CMP_REVOKED (1 << OSSL_CMP_PKIFAILUREINFO_certRevoked)
bool cmp_refusal_is(const OSSL_CMP_CTX *context, int bits);

/*
 * -EBADMSG, with what an answer says that is unprotected, or whose protection is not good. OLD is
 * the certificate that was to be renewed, or NULL. OpenSSL's reason stands in its queue.
 */
int cmp_unproven(const void *der, size_t length, X509 *old, struct error *err);

#endif
