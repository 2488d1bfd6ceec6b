/*
 * Who is known to a CA by CMPv2: a certificate id, by the certificate in force or by a secret. What
 * concerns a profile alone (its CRL, its next CA certificate) is asked in the name of one of them.
 */
#ifndef PKIFS_PROVER_H
#define PKIFS_PROVER_H

#include "pkifs/object.h"

/* Whether the certificate in force of OBJECT, in its EDITION, can sign CMP messages: it is valid
 * and not revoked, and OpenSSL 3.0 has them signed by no Ed25519 key. */
bool prover_can_sign(struct store *store, const struct object *object,
                     const struct edition *edition);

/* Whether CONFIG, a certificate id's, has a secret that it is known by. */
bool prover_has_secret(const struct record *config);

/* The certificate id that asks the CA of PROFILE: one that signs, else one with a secret. 0, or
 * -ENOENT where nobody can. */
int prover_find(struct store *store, const struct object *profile, struct object *prover);

#endif
