/*
 * NAT traversal (RFC 3947, RFC 3948): ESP in UDP, and IKE on the same port. The kernel takes ESP
 * and keepalives out of what a socket gets and leaves IKE; SAs have the two ports (sa.encap). What
 * IKE daemons outside do by themselves is here for an engine of our own.
 */
#ifndef PKIFS_NATT_H
#define PKIFS_NATT_H

#include "netlink/xfrm.h"

#include <sys/socket.h>

#define NATT_PORT              4500
#define NATT_KEEPALIVE_SECONDS 20 /* without traffic from behind a NAT; RFC 3948, 4 */

/*
 * FD, a UDP socket of FAMILY in whichever network namespace, gets PORT on all addresses. No policy
 * touches what it sends and gets: IKE is not blocked where its tunnel is. CAP_NET_ADMIN is enough.
 * 0 or a negative errno.
 */
int natt_open(int fd, int family, uint16_t port);

/* Sends SIZE bytes of IKE, with the marker that tells them from ESP. 0 or a negative errno. */
int natt_send(int fd, const struct sockaddr *to, socklen_t length, const void *message,
              size_t size);
/* The next message of IKE, without waiting: its size, or a negative errno (-EAGAIN: none). What has
 * no marker, or is longer than SIZE, is left out. */
ssize_t natt_receive(int fd, void *message, size_t size, struct sockaddr_storage *from);
/* One byte, which the peer's kernel drops: NATs on the way keep the mapping. 0 or an errno. */
int natt_keepalive(int fd, const struct sockaddr *to, socklen_t length);

/*
 * The peer of the SAs IN and OUT, as the kernel has them, comes from another port by now: EVENT (of
 * XFRM_EVENT_MAPPING, of IN) says from which. They get it, and keep all else, keys and numbers of
 * packets; queued as by xfrm_sa_add. 0, or a negative errno: -EADDRNOTAVAIL where the address is
 * another one, too, for which there must be new SAs.
 */
int natt_follow(struct xfrm *xfrm, const struct xfrm_event *event, struct sa *in, struct sa *out,
                void *about);

#endif
