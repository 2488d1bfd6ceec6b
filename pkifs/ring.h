/*
 * Keyrings of the kernel (keyrings(7)), by its own calls: no library is needed for so few. A key is
 * named by its serial number; what gives one gives a negative errno instead.
 */
#ifndef PKIFS_RING_H
#define PKIFS_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RING_TEXT 256 /* of a key's description */

/* The user's own, which outlives all of their processes; ours, which goes with this one. */
int ring_of_user(void);
int ring_of_process(void);

/* A keyring of that name in PARENT, in which everybody may look. */
int ring_make(const char *name, int parent);

/* A certificate, LENGTH bytes of DER, as a key in RING. */
int ring_add(int ring, const char *description, const void *der, size_t length);

/* From now on RING takes only what a key in it has signed. */
int ring_restrict(int ring);

/* RING stands in PARENT, in place of the one of its name; KEY stands in RING no more. */
int ring_link(int ring, int parent);
int ring_unlink(int key, int ring);
/* KEY is nowhere any more. */
int ring_end(int key);

/* The keys in RING into *KEYS (the caller's: free); how many. */
int ring_keys(int ring, int32_t **keys);

/* Whether KEY is one of TYPE ("keyring", "asymmetric"); its description into TEXT. */
bool ring_describe(int key, const char *type, char text[RING_TEXT]);

#endif
