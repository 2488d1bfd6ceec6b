/*
 * The private key of a tunnel for an engine outside: on its way to charon, where that cannot have
 * it signed here (offer.h).
 */
#ifndef PKIFS_TUNNEL_KEY_H
#define PKIFS_TUNNEL_KEY_H

#include "pkifs/store.h"

/* Answers the frame `want-key` in RECORD: SEND is given the frame `key`, perhaps later, and frees
 * it.
 */
void tunnel_lend_key(struct store *store, const struct record *record,
                     void (*send)(struct store *store, struct record *frame));

#endif
