/*
 * Answers to ACME's challenges on the socket that the store hands over (docs/architecture.md): a
 * job that lasts as long as a challenge is open.
 */
#ifndef PKIFS_RESPOND_H
#define PKIFS_RESPOND_H

#include "enroll/protocol.h"

/* Returns when the store says `end`. 0, or a negative errno. */
int respond_job(struct job *job, struct error *err);

/*
 * The answer to the LENGTH bytes REQUEST (a NUL behind them; with their blank line, or the end of
 * what came): HTTP for TEXT, of SIZE bytes; its length. ANSWERS holds the `challenge` fields in
 * force.
 */
size_t respond_http(const char *request, size_t length, const struct record *answers, char *text,
                    size_t size);

#endif
