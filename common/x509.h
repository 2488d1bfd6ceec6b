/*
 * Helpers on OpenSSL's X.509 that every process shares: names as users write them, certificates
 * as users read them. Input is not trusted; nothing here decides trust.
 */
#ifndef PKIFS_X509_H
#define PKIFS_X509_H

#include "common/error.h"
#include "common/record.h"

#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/*
 * Reads a distinguished name as RFC 4514 writes it ("CN=…,OU=…,O=…,C=…", `\` escapes, hex
 * pairs), attributes CN OU O L ST C DC SN (serialNumber) and the others that OpenSSL knows by
 * short name, encoded in the order written; `SN` with no value takes SERIAL (may be NULL: then
 * -EINVAL). UTF8String but for C, SN (PrintableString) and DC (IA5String). The caller owns
 * *NAME. 0, -EINVAL, -ENOMEM.
 */
int dn_parse(const char *text, const char *serial, X509_NAME **name, struct error *err);

/* NAME on one line in the order encoded, RFC 4514 escapes, control and non-UTF-8 bytes escaped
 * as \XX. The caller frees it; NULL when there is no memory. */
char *dn_text(const X509_NAME *name);

/* True when both have the same attributes (type and value; case and inner spaces folded as
 * RFC 5280 §7.1, whatever string type) in whatever order. */
bool dn_same_attributes(const X509_NAME *one, const X509_NAME *other);

/* Syntax of one alternative name; 0 or -EINVAL with a sentence. A DNS name may begin "*.". */
int check_dns_name(const char *text, struct error *err);
int check_ip_address(const char *text, struct error *err);
int check_email(const char *text, struct error *err);

/*
 * The subjectAltName for all `domain-name`, `ip-address` and `email` fields of CONFIG, in that
 * order. *NAMES is NULL when there is none. The caller owns *NAMES (GENERAL_NAMES_free).
 */
int alternative_names(const struct record *config, GENERAL_NAMES **names, struct error *err);

/* One alternative name as users write it ("DNS:a.example", "IP:192.0.2.1", "email:…", else
 * "other"). The caller frees it. */
char *alternative_name_text(const GENERAL_NAME *name);

/* PEM of certificates, one behind the other. The caller frees *PEM (free). 0, -ENOMEM. */
int certificates_to_pem(STACK_OF(X509) * certificates, char **pem, size_t *length);

/*
 * All certificates in TEXT (LENGTH bytes, not trusted): PEM blocks with anything between them,
 * or one DER certificate, or a PKCS#7 certs-only in PEM or DER. At most LIMIT of them; no bytes
 * behind DER. A private key in TEXT is -EINVAL. The caller owns *CERTIFICATES. 0, -EINVAL.
 */
int certificates_read(const void *text, size_t length, int limit, STACK_OF(X509) * *certificates,
                      struct error *err);

bool certificate_is_in(const X509 *certificate, const STACK_OF(X509) * certificates);

/* The one of ISSUERS (may be NULL) whose name and key CERTIFICATE was issued with, or NULL. */
X509 *certificate_issuer(X509 *certificate, STACK_OF(X509) * issuers);

/* One DER certificate with nothing behind it, or NULL with ERR filled. */
X509 *certificate_from_der(const void *der, size_t length, struct error *err);

/* DER of anything with an i2d function; the caller frees *DER (OPENSSL_free). -ENOMEM. */
int certificate_to_der(const X509 *certificate, unsigned char **der, size_t *length);
/* Adds the DER of CERTIFICATE (NULL: nothing) as KEY. */
void certificate_add(struct record *record, const char *key, const X509 *certificate);
int public_key_to_der(const EVP_PKEY *key, unsigned char **der, size_t *length); /* SPKI */
EVP_PKEY *public_key_from_der(const void *der, size_t length); /* SPKI; NULL if it is none */

/* The subject key identifier of a key (SPKI), as RFC 5280 §4.2.1.2 (1) has it: SHA-1. ID has room
 * for KEY_ID_SIZE. 0, -EINVAL. */
#define KEY_ID_SIZE 20
int public_key_id(const void *der, size_t length, unsigned char *id);

/* "rsa 2048", "ecdsa 256", "ed25519", "dsa 2048": type as config spells it, and bits. */
int key_describe(const EVP_PKEY *key, char *text, size_t size);

/* "AB:CD:…" of DIGEST over DER. TEXT has room for FINGERPRINT_MAX. */
#define FINGERPRINT_MAX (3 * EVP_MAX_MD_SIZE)
int fingerprint(const EVP_MD *digest, const void *der, size_t length, char *text);

/* True when both spell the same hex, with or without colons, in whatever case. */
bool fingerprint_same(const char *one, const char *other);

/* Adds subject, issuer, serial, not-before, not-after, fingerprint-sha256 and key of
 * CERTIFICATE as CONTRACT's status spells them (times RFC 3339 UTC). */
void certificate_describe(const X509 *certificate, struct record *status);

/* ASN.1 time as Unix seconds; -1 when it is none. */
int64_t asn1_time_seconds(const ASN1_TIME *time);

/* Whether NOW (Unix seconds) is in CERTIFICATE's validity, both ends included (RFC 5280 §4.1.2.5).
 */
bool certificate_is_valid_at(const X509 *certificate, int64_t now);

/* Unix seconds as "2026-01-02T03:04:05Z" into TEXT (room for RFC3339_MAX). */
#define RFC3339_MAX 32
void rfc3339(int64_t seconds, char *text);
/* Such a text as Unix seconds, or -1. */
int64_t rfc3339_seconds(const char *text);

#endif
