/*
 * Messages between pkifs' processes: one record each, on a Unix stream socket. A frame is a
 * 32-bit length in network order and the encoded record; up to FRAME_FDS descriptors may go with
 * it. A peer that sends a wrong frame is the one that is ended.
 *
 * These are the blocking calls of the processes that do one thing at a time (workers); those
 * with a loop use common/channel.h.
 */
#ifndef PKIFS_FRAME_H
#define PKIFS_FRAME_H

#include "common/record.h"

#define FRAME_MAX (8u << 20) /* bytes of a body, far above any legal one */
#define FRAME_FDS 4

/* Sends RECORD and COUNT descriptors (which stay the caller's). 0 or a negative errno. */
int frame_send(int fd, const struct record *record, const int *fds, size_t count);

/*
 * Waits for the next frame. The caller owns *RECORD and the descriptors in FDS (room for
 * FRAME_FDS, -1 where there is none; FDS may be NULL: descriptors are closed, as they are on an
 * error). 0, -EPIPE at the peer's end, -EBADMSG for what is no frame, or another negative errno.
 */
int frame_receive(int fd, struct record **record, int *fds);

/* recvmsg(2) that also takes descriptors (close-on-exec). For channel.c. */
long frame_read(int fd, void *bytes, size_t length, int *fds);

#endif
