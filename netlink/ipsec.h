/*
 * What the parts of pkifs-ipsec share: the store's socket and the loop (main.c), the tunnels that
 * it was told of (tunnels.c), and the namespaces that they are in (spaces.c).
 */
#ifndef PKIFS_IPSEC_H
#define PKIFS_IPSEC_H

#include "netlink/tunnel.h"

#include <uv.h>

uv_loop_t *ipsec_loop(void);

/* A frame NAME to the store (NULL: no memory); sends it, and frees it. */
struct record *ipsec_frame(const char *name);
void ipsec_send(struct record *frame);

/* The tunnel with this number, or NULL; the next one behind it (0: the first); how many there are.
 */
struct tunnel *ipsec_find(int64_t id);
struct tunnel *ipsec_next(int64_t id);
size_t ipsec_count(void);
/* Whose SA is: by its reqid, or, of an IKE daemon's, by its ends. */
struct tunnel *ipsec_owner(const struct space *space, const struct sa *sa);
/* A new one (NULL: no memory); it goes, also from the kernel and from charon. */
struct tunnel *ipsec_add(int64_t id);
void ipsec_forget(int64_t id);
/* Those in SPACE that are due, and are not any more: *DUE stands until one is added. */
size_t ipsec_take_due(const struct space *space, struct tunnel ***due);

/* Soon the kernel is made what TUNNEL says, and the store is told; it is told now. */
void ipsec_apply(struct tunnel *tunnel);
void ipsec_tell(struct tunnel *tunnel);
/* What came of TUNNEL. What was found when the kernel was read again is told where it is news. */
void ipsec_outcome(struct tunnel *tunnel);

/* Counts from now on; frame `begin`: the numbers that are ours; `all-told`; `namespace`, with its
 * sockets in FDS (taken by setting them to -1). */
void spaces_start(void);
void spaces_begin(uint32_t range);
void spaces_told(const struct record *record);
void space_take(const struct record *record, int *fds);
/* The one of that name, whose sockets are asked for where it is new; NULL: no memory. */
struct space *space_named(const char *name);
/* All that is due, once all tunnels were told. */
void spaces_apply(void);

#endif
