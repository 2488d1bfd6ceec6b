/*
 * engine = charon: strongSwan's daemon makes the SAs of a tunnel, driven over VICI; the policies
 * are ours (kernel.c), so that nothing passes in clear whatever becomes of it.
 *
 * Every connection of ours in charon has the name "pkifs-" and the tunnel's reqid; others are left
 * alone. What charon has of a tunnel is asked anew whenever it tells of a change, and the next step
 * follows from that and from what is wanted, so it does not matter which of them died last:
 *
 * ```
 *  cut, or not wanted:  unload-conn ── terminate
 *  else:                key ── load-key ── load-conn ── initiate ── child ── the peer's certificate
 *                         └── with a new certificate: a second IKE SA, then terminate of the first
 *  the store believes the peer ──► the policies lead to the SAs
 * ```
 */
#ifndef PKIFS_CHARON_H
#define PKIFS_CHARON_H

#include "netlink/ipsec.h"

/* The frame `tunnel` was read (tunnel_read): goes on with it; TUNNEL goes. */
void charon_told(struct tunnel *tunnel);
void charon_forget(struct tunnel *tunnel);
/* The kernel is as TUNNEL (of whichever engine) says. */
void charon_applied(struct tunnel *tunnel);

/* Frames of the store: a socket to charon of SPACE (FD taken by setting it to -1), or why there is
 * none; the private key that was asked for. */
void charon_socket(struct space *space, int *fd, const char *reason);
void charon_key(struct tunnel *tunnel, const struct record *frame);

/* The frame `crls`: what all charons are to have, from now on. */
void charon_crls(const struct record *frame);

/* What the kernel tells, where it is of charon's SAs; false: it is not. */
bool charon_event(struct space *space, const struct xfrm_event *event);

/* For the frame `tunnel-is`: the state, and what else is known. */
const char *charon_state(const struct tunnel *tunnel);
void charon_describe(const struct tunnel *tunnel, struct record *frame);

/* charon_conn.c: the message of load-conn for a tunnel with the frame SETTINGS; NULL: no memory. */
struct record *charon_connection(const struct record *settings, const char *name, uint32_t reqid);

/*
 * charon_sas.c: what an item of list-sas tells of the connection NAME. INTO is added to; false
 * where it is of another connection.
 */
#define CHARON_TEXT 256
struct charon_sas {
	struct child children[CHILDREN];
	size_t child_count;
	struct charon_ike {
		uint32_t id;
		bool established;
	} ikes[CHARON_IKES];
	size_t ike_count;
	char peer[CHARON_TEXT];                  /* who the peer of the last one is */
	char ike[CHARON_TEXT], esp[CHARON_TEXT]; /* algorithms, in charon's words */
};
bool charon_sas_read(const struct record *item, const char *name, struct charon_sas *into);

#endif
