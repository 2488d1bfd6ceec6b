/* What every CA of the lab does with keys and certificates. Nothing here is checked: it is a lab.
 */
#ifndef LAB_X509_H
#define LAB_X509_H

#include <openssl/x509.h>

/* FOLDER/NAME, in PEM; NULL where there is none. The caller owns it. */
BIO *file_open(const char *folder, const char *name);
X509 *load_certificate(const char *folder, const char *name);
EVP_PKEY *load_key(const char *folder, const char *name);

/* What KEY signs with. */
const EVP_MD *signing_digest(EVP_PKEY *key);

/* An extension as openssl.cnf spells it. */
void add_extension(X509 *issuer, X509 *certificate, int nid, const char *value);

/* The alternative names that REQUEST wants. */
void copy_names(X509 *certificate, X509_REQ *request);

/* A random one. */
void set_serial(X509 *certificate);

#endif
