/*
 * Who the peer of a tunnel is: `peer-id` and the certificates (`peer`, DER) that it may have proven
 * that with, in the record of the tunnel's SAs. The engine believed them; whether we do is asked
 * again whenever what is known of them may be another.
 */
#ifndef PKIFS_PEER_H
#define PKIFS_PEER_H

#include "pkifs/store.h"

/*
 * Why the peer in SAS may not be spoken with by a tunnel with SETTINGS, or "" in WHY. WANT: what is
 * not known of its certificates' revocation is asked for, inside a change.
 */
int peer_trust(struct store *store, const struct record *settings, const struct record *sas,
               bool want, char *why, size_t size);

/* peer.pem shows the certificate in SAS, where there is one. Inside a change. */
int peer_publish(struct store *store, const struct object *object, const struct record *sas);

/* What `status` says of it. */
void peer_status(const struct record *sas, struct record *status);

/* Calls EACH for every profile that vouches for the peers of a tunnel, until it gives other than 0,
 * and gives that. */
int peer_profiles(struct store *store, const struct record *settings,
                  int (*each)(struct store *store, const struct object *profile, void *user),
                  void *user);

#endif
