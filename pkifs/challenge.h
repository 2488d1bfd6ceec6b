/*
 * ACME's challenges that are open: the tokens in force, and the worker that answers them on a port
 * that is bound only as long as there are some.
 */
#ifndef PKIFS_CHALLENGE_H
#define PKIFS_CHALLENGE_H

#include "pkifs/store.h"

/* REQUEST's challenges are answered, or (NOTICE, else empty) nobody can answer them here. */
typedef void challenges_opened(void *user, const char *notice);

/*
 * The challenges of REQUEST are those of RECORD's `challenge` fields ("TYPE NAME TOKEN ANSWER")
 * from now on; OPENED is called once, maybe at once, unless they are closed before.
 */
void challenges_open(struct store *store, int64_t request, const struct record *record,
                     challenges_opened *opened, void *user);
void challenges_close(struct store *store, int64_t request);

/* Whether LINE is such a field: a worker may have been taken over, and TOKEN becomes a name. */
bool challenge_is_legal(const char *line);

/* A frame of the supervisor that is about a port. False: it is not. */
bool challenges_received(struct store *store, const struct record *record, int *fds);

/* Asks again for a port that could not be had for a moment. Once a second. */
void challenges_tick(struct store *store);

/*
 * The tokens of http-01 as the tree shows them, each with a number that no other ever has. Next:
 * the first above AFTER, TOKEN with room for CHALLENGE_TOKEN_MAX + 1; find: that of TOKEN. 0 or
 * -ENOENT.
 */
#define CHALLENGE_TOKEN_MAX 128
int challenge_next(int64_t after, int64_t *number, char *token);
int challenge_find(const char *token, int64_t *number);

#endif
