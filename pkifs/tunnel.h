/*
 * Tunnels in the store: which SAs they have, whether they are trusted, and the IPsec process, which
 * is told each of them whole whenever something about it changes (netlink/tunnel.h).
 *
 * ```
 *  request ──► SAs noted, durable ──► frame `tunnel` ──► kernel ──► `tunnel-is` ──► state, request
 *  config, trust ────────────────────────┘
 * ```
 *
 * SPIs are noted before the kernel has the SAs, so that none is in it that the store does not know.
 * Keys are kept with the request alone, until the kernel has them.
 */
#ifndef PKIFS_STORE_TUNNEL_H
#define PKIFS_STORE_TUNNEL_H

#include "pkifs/standing.h"

/* What several keys of a tunnel's CONFIG decide together, and with its certificate. */
int tunnel_check_config(struct store *store, const struct record *config, struct error *err);

/* Whether ACTION with the request's FIELDS can be done by the tunnel's engine. */
int tunnel_check_request(struct store *store, const struct object *object, const char *action,
                         const struct record *fields, const struct record *settings,
                         struct error *err);

/* Begins a request, or goes on with one after a restart. */
void tunnel_begin(struct store *store, struct standing *standing);

/* The keys that REQUEST had are nowhere any more: it has ended. Inside a change. */
int tunnel_forget_keys(struct store *store, const struct request *request);

/* It was made, has another config, or goes: inside a change. */
int tunnel_made(struct store *store, const struct object *object);
int tunnel_reconfigured(struct store *store, const struct object *object);
int tunnel_forget(struct store *store, const struct object *object);

/* Who is trusted may have changed: tunnels are looked at behind the commit, the kernel's keyrings
 * soon. */
void tunnels_look(struct store *store);

int tunnel_status(struct store *store, const struct object *object, struct record *status);

/* Once at the start; behind each commit that may matter and each second. */
void tunnels_run(struct store *store);
/* A frame of the supervisor that is about a network namespace. False: it is not. */
bool tunnels_received(struct store *store, const struct record *record, int *fds);

#endif
