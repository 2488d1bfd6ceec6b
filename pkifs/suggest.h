/*
 * When an ACME CA suggests that certificates are renewed (RFC 9773). The store keeps the answer
 * beside the certificate id, in its named values; renewal.c goes by it.
 *
 * ```
 *   certificate comes, and the CA has an answer ──► ASK is now ──► worker asks ──► window, ASK is
 * later ▲                              │ '──────────────────────────────'
 * ```
 */
#ifndef PKIFS_SUGGEST_H
#define PKIFS_SUGGEST_H

#include "pkifs/standing.h"

struct suggestion {
	char url[512];      /* where the CA is asked; empty: nowhere */
	int64_t version;    /* the row of the certificate that the rest is of */
	int64_t start, end; /* the window; 0: none was named yet */
	int64_t at;         /* the moment of it that was drawn */
	int64_t ask;        /* when the CA is asked again */
	int64_t failures;   /* since it answered */
	char reason[512];   /* a URL of the CA's that explains the window; or empty */
};

/* What is suggested for version ROW of OBJECT; an empty url where nothing can be. */
int suggestion_get(struct store *store, int64_t object, int64_t row, struct suggestion *suggestion);

/* Notes what RESULT, which brings a certificate, says of where to ask. Inside a change. */
int suggestion_take(struct store *store, const struct object *object, const struct record *result);

/* Has the CA asked for OBJECT's certificate; not before it is time by SUGGESTION. Inside a change.
 */
int suggestion_ask(struct store *store, const struct object *object, struct suggestion *suggestion);

/* OBJECT is removed. Inside a change. */
int suggestion_forget(struct store *store, const struct object *object);

/* Lines for `status`. */
void suggestion_describe(const struct suggestion *suggestion, struct record *status);

#endif
