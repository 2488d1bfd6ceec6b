/*
 * A CRL of any size as OpenSSL sees it: an X509_CRL made from the CRL without its entries (the
 * stub), whose look-up asks an index and whose signature is checked with the digest that was made
 * while the body was read. OpenSSL's own logic (scopes, deltas, indirect CRLs) does the rest.
 */
#ifndef PKIFS_STUBCRL_H
#define PKIFS_STUBCRL_H

#include "common/crlindex.h"

#include <openssl/evp.h>
#include <openssl/x509.h>

#define STUB_SIZE_MAX   65536
#define STUB_SIGNER_MAX 32

struct stub {
	const unsigned char *der; /* the CRL without revokedCertificates, as long as it is used */
	size_t length;
	/* Of TBSCertList as it stood in the body, by the signature's own digest; or, with a
	 * signature that has none (Ed25519), the SHA-256 of the public key (SPKI) that the whole
	 * body was checked with. */
	const unsigned char *digest;
	size_t digest_length;
};

/*
 * The X509_CRL of STUB with INDEX, which becomes its own also where it fails (NULL: nothing is ever
 * found in it). NULL with ERR filled.
 */
X509_CRL *stub_crl_new(const struct stub *stub, struct crl_index *index, struct error *err);

/*
 * Whether all look-ups in CRL (stub_crl_new) could be made. Those that could not, for a damaged
 * index, said "revoked, for whatever reason".
 */
bool stub_crl_is_whole(X509_CRL *crl);

/* How many could not, in all CRLs so far: of those between two calls not all can be believed. */
uint64_t stub_crl_failures(void);

/* Looks SERIAL up, whoever's: as crl_index_find. */
int stub_crl_find(X509_CRL *crl, const ASN1_INTEGER *serial, const X509_NAME *issuer,
                  struct crl_entry *entry);

/* Bytes of memory that CRL takes, about. */
size_t stub_crl_memory(X509_CRL *crl);

/* How a signature is made. */
struct crl_scheme {
	const EVP_MD *digest; /* NULL: the algorithm signs the whole */
	int key;              /* EVP_PKEY_… */
	bool pss;
	const EVP_MD *mask;
	int salt;
};

/* Reads the scheme of ALGORITHM; false: it is not known. */
bool crl_scheme_read(const X509_ALGOR *algorithm, struct crl_scheme *scheme);

/* SHA-256 of KEY's SPKI; 0 or -ENOMEM. */
int crl_signer(const EVP_PKEY *key, unsigned char signer[STUB_SIGNER_MAX]);

#endif
