/*
 * The parts of pkifs/validate.h: what validate.c, validate_ca.c and validate_names.c share. All
 * give 0, or -EINVAL with a sentence that names the certificate.
 */
#ifndef PKIFS_VALIDATE_PART_H
#define PKIFS_VALIDATE_PART_H

#include "pkifs/validate.h"

#define PRINTED_NAME 100 /* bytes of a name in a sentence */

/* The subject of a certificate for a sentence, in TEXT (room for PRINTED_NAME). */
const char *subject_of(const X509 *certificate, char *text);

/* The key: neither too weak nor so large that it stops the machine; a named curve. */
int check_key(const X509 *certificate, bool allow_legacy, struct error *err);

/* The digest that its issuer signed it with. */
int check_digest(X509 *certificate, bool allow_legacy, struct error *err);

/* Its extensions can be read, and the critical ones are known. */
int check_readable(X509 *certificate, struct error *err);

/* It begins before it ends. */
int check_time_order(const X509 *certificate, struct error *err);

/* It says that it is a CA. */
bool is_ca(X509 *certificate);

/* It may vouch for others, whatever its times. */
int check_issuer(X509 *certificate, bool allow_legacy, struct error *err);

/*
 * The names of LEAF. A renewal has those of the certificate in force, or those that are asked for
 * now: its user may have changed them. All others have those asked for. DIFFERENCES (may be
 * NULL) gets a `difference` field for each one that differs.
 */
int check_names(const struct expectation *expectation, const X509 *leaf, struct record *differences,
                struct error *err);

#endif
