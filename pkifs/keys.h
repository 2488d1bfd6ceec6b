/*
 * The keys process: the only one that ever holds the store key or a private key in clear. It
 * makes, reads, seals, opens and uses private keys as the store asks (docs/architecture.md,
 * "Store → keys"), and lets each worker use the keys that were granted to its signing socket
 * ("Worker → keys"), one operation a turn of the loop, so that none waits long for another.
 */
#ifndef PKIFS_KEYS_H
#define PKIFS_KEYS_H

#include <uv.h>

/*
 * Runs until the store closes CONTROL_FD. STORE_KEY_FD is a readable descriptor of the store
 * key's file, or -1 for `store-key = none`. Takes over both. The exit code: 0, or 1 after a wrong
 * frame from the store or where there is no memory.
 */
int keys_main(int control_fd, int store_key_fd);

/*
 * The same on a loop of the caller's, without the care for the process' memory: CONTROL_FD is
 * served until LOOP has nothing left to do; keys_close then gives the exit code. NULL where there
 * is no memory.
 */
struct keys;
struct keys *keys_open(uv_loop_t *loop, int control_fd, int store_key_fd);
int keys_close(struct keys *keys);

#endif
