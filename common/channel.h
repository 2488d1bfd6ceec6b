/*
 * Frames (common/frame.h) on a libuv loop: never blocks. What can't be sent at once is queued.
 */
#ifndef PKIFS_CHANNEL_H
#define PKIFS_CHANNEL_H

#include "common/frame.h"

#include <uv.h>

struct channel;

/*
 * What came in. The callee owns RECORD and the descriptors in FDS that it takes by setting them
 * to -1; the rest is closed. RECORD is NULL once, at the end: the peer is gone or sent what is
 * no frame (CODE is -EPIPE, -EBADMSG or another negative errno); then only channel_close may
 * follow. The channel may be closed inside the call.
 */
typedef void channel_received(struct channel *channel, struct record *record, int *fds, int code,
                              void *user);

/*
 * Takes over the socket FD (made non-blocking) and reports frames to RECEIVED. A body above
 * LIMIT bytes is a wrong frame. NULL when there is no memory; then FD is still the caller's.
 */
struct channel *channel_open(uv_loop_t *loop, int fd, size_t limit, channel_received *received,
                             void *user);

/* Queues RECORD and a duplicate of each of COUNT descriptors. 0 or a negative errno. */
int channel_send(struct channel *channel, const struct record *record, const int *fds,
                 size_t count);

/* Up to so many FRAMES are delivered in a turn of the loop, before others have theirs (1). */
void channel_take(struct channel *channel, int frames);

/* Bytes that wait to be sent. */
size_t channel_pending(const struct channel *channel);

/* Closes the socket and drops what is queued; takes NULL. No call comes after it. */
void channel_close(struct channel *channel);

#endif
