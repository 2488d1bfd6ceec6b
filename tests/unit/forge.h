/* Certificates of all kinds, right and wrong, for tests. */
#ifndef PKIFS_FORGE_H
#define PKIFS_FORGE_H

#include <openssl/x509v3.h>
#include <stdbool.h>

#define NOW 1798761600 /* 2027-01-01 */
#define DAY 86400

/* What a certificate is made of; NULL and 0 are the usual. */
struct spec {
	const char *subject;
	const char *names;     /* subjectAltName as openssl.cnf spells it */
	const char *usage;     /* keyUsage; "": none */
	const char *purposes;  /* extendedKeyUsage */
	const char *basic;     /* basicConstraints; "": none */
	const char *extra_oid; /* a critical extension that nobody knows */
	X509 *issuer;          /* NULL: self-signed */
	EVP_PKEY *issuer_key;  /* NULL: its own key */
	EVP_PKEY *key;         /* NULL: own_key */
	const EVP_MD *digest;  /* NULL: SHA-256 */
	long from, to;         /* days from NOW; both 0: -10, 365 */
	bool version_1, no_key_ids;
	const char *constraints; /* nameConstraints */
	const char *policies, *policy_constraints, *mappings, *crl_points;
	GENERAL_NAMES *alternative; /* as it is, beside NAMES; not freed */
};

extern EVP_PKEY *own_key, *ca_key, *sub_key, *other_key;
extern X509 *ca, *sub; /* a root, and a CA below it */

/* The keys and CAs above: a group's setup and teardown. */
int make_cas(void **state);
int free_cas(void **state);

X509 *make(struct spec spec);

#define CA_BASIC  "critical,CA:TRUE"
#define CA_USAGE  "critical,keyCertSign,cRLSign"
#define FROM_CA   .issuer = ca, .issuer_key = ca_key
#define FROM_SUB  .issuer = sub, .issuer_key = sub_key
#define MAKE(...) make((struct spec){ __VA_ARGS__ })
#define A_NAMES   "DNS:a.example,IP:192.0.2.1"

/* A stack of its own references, up to the NULL. */
STACK_OF(X509) * stack_of(X509 *first, ...);
void free_stack(STACK_OF(X509) * stack);

/* A public key of a modulus that nobody could factor or wait for. */
EVP_PKEY *huge_key(int bits);
/* One that spells its curve out. */
EVP_PKEY *explicit_key(void);

/* The same certificate as others read it; CERTIFICATE is freed. */
X509 *reread(X509 *certificate);

#endif
