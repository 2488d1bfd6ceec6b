/*
 * Who the peer of a tunnel is: `peer-id` and the certificates (`peer`, DER) that it may have proven
 * that with, in the record of the tunnel's SAs. The engine believed them; whether we do is asked
 * again whenever what is known of them may be another.
 */
#ifndef PKIFS_PEER_H
#define PKIFS_PEER_H

#include "pkifs/trust.h"

/*
 * Adds to TRUST of a tunnel with SETTINGS, that is not cut, what is to be said of the peer in SAS.
 * Inside a change (tunnel_trust_peer).
 */
int peer_trust(struct store *store, const struct record *settings, const struct record *sas,
               struct trust *trust);

/* peer.pem shows the certificate in SAS, where there is one. Inside a change. */
int peer_publish(struct store *store, const struct object *object, const struct record *sas);

/* What `status` says of it. */
void peer_status(const struct record *sas, struct record *status);

#endif
