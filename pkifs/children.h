/*
 * The processes that work for the store. The supervisor starts them and hands over a socket; one
 * that dies is missed by its socket's end, and its work is begun again by whoever gave it.
 */
#ifndef PKIFS_CHILDREN_H
#define PKIFS_CHILDREN_H

#include "pkifs/store.h"

struct child;

struct child_class {
	const char *kind; /* as the supervisor knows it */
	size_t frame_limit;
	/* it runs; CHANNEL of child_channel can be used. SIGNING: the keys' end of a worker's
	 * signing socket, the callee's, or -1 */
	void (*ready)(struct child *child, int signing, void *user);
	void (*received)(struct child *child, struct record *record, void *user);
	/* it is gone, or could not be started (REASON); CHILD is freed behind the call */
	void (*gone)(struct child *child, const char *reason, void *user);
};

/* Asks for a child. NULL when there is no memory. */
struct child *child_start(struct store *store, const struct child_class *class, void *user);

/* Sends to a child that is ready. 0 or a negative errno. */
int child_send(struct child *child, const struct record *record, const int *fds, size_t count);

/* Bytes that wait to be sent to it. */
size_t child_pending(const struct child *child);

/* Ends it: KILL at once, else by the end of its socket. `gone` is not called. */
void child_end(struct child *child, bool kill);

/* A frame of the supervisor that is about a child. False: it is not. */
bool children_received(struct store *store, const struct record *record, int *fds);

#endif
