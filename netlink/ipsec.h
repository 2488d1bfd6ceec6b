/*
 * What the parts of pkifs-ipsec ask of its main program: the store's socket, the loop, and the
 * tunnels that it was told of.
 */
#ifndef PKIFS_IPSEC_H
#define PKIFS_IPSEC_H

#include "netlink/tunnel.h"

#include <uv.h>

uv_loop_t *ipsec_loop(void);

/* A frame NAME to the store (NULL: no memory); sends it, and frees it. */
struct record *ipsec_frame(const char *name);
void ipsec_send(struct record *frame);

/* The tunnel with this number, or NULL; the next one behind it (0: the first). */
struct tunnel *ipsec_find(int64_t id);
struct tunnel *ipsec_next(int64_t id);

/* Soon the kernel is made what TUNNEL says, and the store is told; it is told now. */
void ipsec_apply(struct tunnel *tunnel);
void ipsec_tell(struct tunnel *tunnel);

#endif
