/*
 * Objects that enroll by themselves: a certificate id with `auto-enroll`, as soon as its profile is
 * trusted; a profile with a `ca-fingerprint`, where it is declared or such a certificate id needs
 * it. Each is tried once (with all the tries of its request) with a config of its own and of its
 * profile; again when one of them changes. All but auto_enroll_run is called inside a change.
 */
#ifndef PKIFS_AUTOENROLL_H
#define PKIFS_AUTOENROLL_H

#include "pkifs/store.h"

/* OBJECT has another config, or is declared, or no longer. */
int auto_enroll_reconfigured(struct store *store, int64_t object);
/* All certificate ids may have other settings. */
int auto_enroll_all(struct store *store);
/* PROFILE is trusted, with another certificate than before. */
int auto_enroll_trusted(struct store *store, int64_t profile);
/* An `enroll` of OBJECT was asked for: it is the try with the config as it is. */
int auto_enroll_asked(struct store *store, int64_t object);
/* A request of OBJECT ended; CANCELLED by its user. */
int auto_enroll_ended(struct store *store, int64_t object, bool cancelled);

/* Makes requests for those that are due. */
void auto_enroll_run(struct store *store);

/* The profile that OBJECT waits for until it enrolls by itself, into NAME; false: it does not. */
bool auto_enroll_waits(struct store *store, const struct object *object,
                       const struct edition *edition, struct object *profile);

#endif
