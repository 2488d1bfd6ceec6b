/*
 * Declared objects: what the sections of pkifs.conf say about them. The store keeps the section
 * of each object (as a text, its keys in the table's order), so that one that did not change costs
 * nothing, a key that is no longer in it goes back to its default, and a text that is written into
 * `config` can be held to it.
 */
#ifndef PKIFS_DECLARE_H
#define PKIFS_DECLARE_H

#include "pkifs/store.h"

/* Takes the sections out of the settings that the supervisor sent: at the start, and again. */
int declare_take(struct store *store);

/*
 * Makes what is missing, then brings the configs into line: some now, the rest in later turns. One
 * that cannot be has the reason as its last-error, and the others go on.
 */
void declare_apply(struct store *store);

/* The keys that are declared of OBJECT; -ENOENT: it is not. The caller owns *KEYS. */
int declared_keys(struct store *store, const struct object *object, struct record **keys);

/*
 * A config that is written: -EINVAL where it has another value for a declared key; 0 and *MISSING
 * with the declared keys that it leaves out, which it keeps (the caller owns it; may be empty).
 */
int declared_hold(struct store *store, const struct object *object, const struct record *config,
                  struct record **missing, struct error *err);

/* The same for one line of a text. */
int declared_hold_line(struct store *store, const struct object *object, const struct key *key,
                       const char *value, struct error *err);

/* What [auto-re-enrollment PROTOCOL] says (NULL: of any protocol); NULL: nothing. */
const struct record *declared_defaults(const char *protocol);

#endif
