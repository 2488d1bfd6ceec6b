/*
 * Which keys an IKE daemon may sign with over PKCS#11: those of the certificate ids that tunnels
 * with `engine = charon` use. The keys process is told all of them whenever that changes
 * (pkifs/offered.h), and has the socket that the supervisor keeps; each key is known by its subject
 * key identifier, so a certificate id's old and new keys are there side by side.
 */
#ifndef PKIFS_OFFER_H
#define PKIFS_OFFER_H

#include "pkifs/store.h"

/* What tunnels are told (pkifs/told.h), or certificates, may be other ones now. */
void offer_look(struct store *store);

/* Behind each commit that may matter and each second, once all tunnels have been told. */
void offer_run(struct store *store);

/* A frame of the supervisor that is about the socket. False: it is not. */
bool offer_received(struct store *store, const struct record *record, int *fds);

#endif
