/*
 * Answers to ACME's challenges on the socket that the store hands over (docs/architecture.md): a
 * job that lasts as long as a challenge is open.
 */
#ifndef PKIFS_RESPOND_H
#define PKIFS_RESPOND_H

#include "enroll/protocol.h"

#include <openssl/ssl.h>

/* Returns when the store says `end`. 0, or a negative errno. */
int respond_job(struct job *job, struct error *err);

/*
 * The answer to the LENGTH bytes REQUEST (a NUL behind them; with their blank line, or the end of
 * what came): HTTP for TEXT, of SIZE bytes; its length. ANSWERS holds the `challenge` fields in
 * force.
 */
size_t respond_http(const char *request, size_t length, const struct record *answers, char *text,
                    size_t size);

/*
 * respond_tls.c: tls-alpn-01, with a certificate for the name that a client asks for, if *ANSWERS
 * then holds a `challenge` field for it. NULL: no memory.
 */
struct respond_tls;
struct respond_tls *respond_tls_new(const struct record *const *answers);
void respond_tls_free(struct respond_tls *responder);
/* A connection at FD, the caller's (SSL_free); NULL: no memory. */
SSL *respond_tls_begin(const struct respond_tls *responder, int fd);
/* Something came: 1 the client has its answer, 0 more is to come, -1 there is none for it. */
int respond_tls_hear(SSL *tls);
/* NAME as a client says it in SNI: for an address its name in the reverse tree (RFC 8738 §6). */
void respond_tls_name(const char *name, char *text, size_t size);
/* What proves NAME to who looks for ANSWER; the caller's. NULL: no memory. */
X509 *respond_tls_certificate(EVP_PKEY *key, const char *name, const char *answer);

#endif
