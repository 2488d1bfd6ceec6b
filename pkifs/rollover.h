/* A CA certificate that nears its end. */
#ifndef PKIFS_ROLLOVER_H
#define PKIFS_ROLLOVER_H

#include "pkifs/store.h"

#include <openssl/x509.h>

/* When the profile OBJECT has something to tell, into ACTION (of which `failures` is set). */
int rollover_plan(struct store *store, const struct object *object, struct next_action *action);
/* That time has come: an event, once for each CA certificate. Inside a change. */
int rollover_tell(struct store *store, const struct object *object);
/* Adds a warning to STATUS while CA is near its end. */
void rollover_describe(const struct store *store, const X509 *ca, struct record *status);

#endif
