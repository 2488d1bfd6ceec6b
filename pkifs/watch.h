/*
 * Own certificates are watched: what is known of their revocation, and of that of the CAs above
 * them, is looked at when something new is known, and now and then. A column of the store says
 * when; what came of it is what `status` tells.
 */
#ifndef PKIFS_WATCH_H
#define PKIFS_WATCH_H

#include "pkifs/store.h"

/* Something about OBJECT's certificate may be known now; about those that PROFILE's CA issued.
 * Inside a change. */
int watch_look(struct store *store, int64_t object);
int watch_profile(struct store *store, int64_t profile);

/* Looks at what is due, in a turn of its own. */
void watch_run(struct store *store);
/* Whether that turn is to come: who waited for what brought it finds what comes of it. */
bool watch_begins(void);

/* What is known of OBJECT's certificate into TEXT, as `status` spells it; 1: it is revoked. */
int watch_tell(struct store *store, const struct object *object, char *text, size_t size);

#endif
