/*
 * Keys that the keys process lends to an IKE daemon: a program of this machine finds them and has
 * them sign, over a local socket (docs/architecture.md, "PKCS#11 module → keys"), and never sees
 * them. A caller gets one answer for its connection, within two seconds. One that says nothing, or
 * wrong things, costs nobody else anything: calls take turns, one in each turn of the loop.
 */
#ifndef PKIFS_OFFERED_H
#define PKIFS_OFFERED_H

#include "common/record.h"

#include <openssl/evp.h>
#include <sys/types.h>
#include <uv.h>

struct offered;

/* Opens the sealed key in the fields of OFFER; *KEY is the callee's gift. 0 or a negative errno. */
typedef int offered_opener(void *user, const struct record *offer, EVP_PKEY **key,
                           struct error *err);

/* Serves on LOOP once there is a listener. NULL when there is no memory. */
struct offered *offered_open(uv_loop_t *loop, offered_opener *open, void *user);

/* Callers come at FD (taken over), which listens: root, and UID. 0, or -ENOMEM and FD is kept. */
int offered_listen(struct offered *offered, int fd, uid_t uid);

/*
 * All that is offered from now on: the fields `key` of RECORD, each a record of `id` (what callers
 * know it by), `label`, and what the opener needs. 0, -EBADMSG or -ENOMEM and all is as it was.
 */
int offered_set(struct offered *offered, const struct record *record);

/* Ends all calls and closes what LOOP has; then, when LOOP has ended, frees. Both take NULL. */
void offered_end(struct offered *offered);
void offered_free(struct offered *offered);

#endif
