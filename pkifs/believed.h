/*
 * Peers that were believed a moment ago. To judge a path takes half a millisecond of signatures,
 * and tunnels are looked at whenever anything changes: what has no bearing on a peer must not cost
 * that for each. Only who was found good, with nothing unknown, is kept, for a minute at most.
 */
#ifndef PKIFS_BELIEVED_H
#define PKIFS_BELIEVED_H

#include "pkifs/path.h"

/* Somebody is. */
bool believed_any(void);

/* Whether PROFILE's CA was found to vouch for LEAF, and nothing has been heard since. */
bool believed_still(int64_t profile, X509 *leaf, int64_t now);

/* ANSWER says so. */
void believed_note(int64_t profile, const struct path_answer *answer, int64_t now);

/* CRL (a stub) says of those who are in it what nobody has heard: they are not believed any more.
 */
void believed_hear(X509_CRL *crl);

/* A CA, a config of its profile, or what else is known of revocation is another one. */
void believed_forget(void);

#endif
