/*
 * What a CA tells in general messages (RFC 4210 §5.3.19, RFC 9480 §2.14 to 2.16): a genp taken
 * apart. Nothing here is proven by being read.
 */
#ifndef PKIFS_CMP_TOLD_H
#define PKIFS_CMP_TOLD_H

#include "common/record.h"
#include "enroll/key_kinds.h"

#include <openssl/x509.h>

/* OpenSSL 3.0 has no names for most of them. */
#define ID_IT_CURRENT_CRL        "1.3.6.1.5.5.7.4.6"
#define ID_IT_CA_CERTS           "1.3.6.1.5.5.7.4.17"
#define ID_IT_ROOT_CA_KEY_UPDATE "1.3.6.1.5.5.7.4.18"
#define ID_IT_CERT_REQ_TEMPLATE  "1.3.6.1.5.5.7.4.19"
#define ID_IT_ROOT_CA_CERT       "1.3.6.1.5.5.7.4.20"
#define ID_IT_CRL_STATUS_LIST    "1.3.6.1.5.5.7.4.22"
#define ID_IT_CRLS               "1.3.6.1.5.5.7.4.23"

/* The value of TYPE in the genp message DER, the caller's (ASN1_TYPE_free); NULL: it has none. */
ASN1_TYPE *cmp_told_value(const void *der, size_t length, const char *type);

/* The members of VALUE, a SEQUENCE OF, the caller's; NULL: it is none. */
STACK_OF(ASN1_TYPE) * cmp_told_list(const ASN1_TYPE *value);

/*
 * Adds to RESULT the certificates of a rootCaKeyUpdate's VALUE that its root CA goes on with:
 * `next` (DER, repeats) and `next-announced`. False: it is none, nothing was added.
 */
bool cmp_told_next(const ASN1_TYPE *value, struct record *result);

/* What the CA wants in requests, but for names. */
struct cmp_template {
	struct key_kinds kinds;
	X509_EXTENSIONS *extensions; /* NULL: none */
};

/* Reads a certReqTemplate's value. The caller clears *TEMPLATE in either case. 0, -EBADMSG. */
int cmp_told_template(const void *der, size_t length, struct cmp_template *template,
                      struct error *err);
void cmp_template_clear(struct cmp_template *template);

/* The question (crlStatusList) for the CRL of ISSUER, whatever its age; NULL: no memory. */
ASN1_TYPE *cmp_crl_question(const X509_NAME *issuer);

#endif
