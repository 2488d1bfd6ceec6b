/*
 * `kernel-keyring`: a profile's CA certificate and the certificates in force that it vouches for,
 * in a keyring of the kernel. The supervisor keeps the ring (ringkeeper.c); here is what belongs in
 * it, which it is told whole whenever that is something else.
 */
#ifndef PKIFS_KEYRING_H
#define PKIFS_KEYRING_H

#include "pkifs/store.h"

/* What belongs in rings may have changed; which profiles have one. They are looked at soon. */
void keyrings_look(struct store *store);
void keyrings_reconfigured(struct store *store);

/* No two profiles name the same ring: CONFIG is to be OBJECT's. 0 or -EINVAL. */
int keyring_check_config(struct store *store, const struct object *object,
                         const struct record *config, struct error *err);

/* Behind each commit that may matter and each second. */
void keyrings_run(struct store *store);

/* A frame of the supervisor that is about a ring. False: it is not. */
bool keyrings_received(struct store *store, const struct record *record);

/* What `status` says of PROFILE's. */
void keyring_status(const struct object *profile, struct record *status);

#endif
