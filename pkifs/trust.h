/*
 * Whether what a tunnel stands on is believed: its own certificate, the CAs of its peers, and a
 * peer's certificate. By path_check, with each profile's sources of revocation and what its
 * `crl-on-download-failure` makes of a revocation that is not known.
 */
#ifndef PKIFS_TRUST_H
#define PKIFS_TRUST_H

#include "pkifs/path.h"
#include "pkifs/store.h"

struct trust {
	char cut[400];     /* why the tunnel may not be used; "": it may */
	char warning[400]; /* what is not known, and passes for now; "": nothing */
};

/*
 * TRUST of a tunnel with SETTINGS, but for its peer. 0, or a negative errno where that cannot be
 * found out.
 */
int tunnel_trust(struct store *store, const struct record *settings, struct trust *trust);

/*
 * TRUST of a peer of that tunnel who proved to have the key of the first certificate of CHAIN (the
 * others may be what came with it, in any order; not trusted): one of the tunnel's profiles vouches
 * for it, it is for IKE, a server or a client, it is not revoked, and it has the tunnel's
 * `remote-id`. What is not known of its revocation is asked for, for the next look (tunnels_look):
 * inside a change.
 */
int tunnel_trust_peer(struct store *store, const struct record *settings, STACK_OF(X509) * chain,
                      struct trust *trust);

/* Whether the certificate that a tunnel with CONFIG has, if any, has its `local-id`. 0, or -EINVAL
 * with ERR, which names those that it has. */
int tunnel_check_local_id(struct store *store, const struct record *config, struct error *err);

/* Adds the CA certificates that vouch for a tunnel's peers to CAS; ABOVE: those above them too. */
int tunnel_cas(struct store *store, const struct record *settings, bool above,
               STACK_OF(X509) * cas);

/*
 * Adds the CRLs of those CAs to RECORD, as the fields `crl` (DER): those that VICI, whose values
 * are short, can take, and not more than a frame holds.
 */
#define TUNNEL_CRL_MAX  60000
#define TUNNEL_CRLS_MAX 180000
int tunnel_crls(struct store *store, const struct record *settings, struct record *record);

/* Adds the tunnel's own certificate to ALL, where it has one. */
int tunnel_certificate(struct store *store, const struct record *settings, STACK_OF(X509) * all);

#endif
