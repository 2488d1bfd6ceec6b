/*
 * The store's side of the keys process: what it is asked, and the tree's use of it. Questions
 * survive the death of a keys process; a question that kills it six times is given up.
 */
#ifndef PKIFS_SECRETS_H
#define PKIFS_SECRETS_H

#include "pkifs/file.h"

/* The keys process' answer (the callee's to read, not to keep), or NULL and ERR. */
typedef void secrets_answer(void *user, const struct record *answer, const struct error *err);

/* How a text was judged, later: 0 or a negative errno with ERR. */
typedef void text_judged(void *user, int r, const struct error *err);

/*
 * Asks the keys process; QUESTION becomes its own (freed also on failure). SLOW questions (key
 * generation) go to a process of their own. COUNT descriptors are duplicated; a question with
 * descriptors is not repeated. 0 or a negative errno: then ANSWERED is not called.
 */
int secrets_ask(struct store *store, struct record *question, bool slow, const int *fds,
                size_t count, secrets_answer *answered, void *user);

/* Has the keys process open the key pair of row KEY: `pem` in its answer. 0 or a negative errno. */
int secrets_open(struct store *store, int64_t key, secrets_answer *answered, void *user);

/* Changes each time that the main keys process is another one: grants and channels are gone. */
unsigned secrets_incarnation(const struct store *store);

/* Answers a READ of a file that begins with a private key. */
void secrets_read(struct store *store, fuse_req_t req, const struct content *content, size_t size,
                  off_t offset);

/* Judges a written private key, and keeps it unless DRY. */
int secrets_import(struct store *store, const struct object *object, const char *text,
                   size_t length, bool dry, text_judged *judged, void *user, struct error *err);

/* Judges a written CRL in the file of the open file HANDLE by a worker, and keeps it. */
int crl_judge(struct store *store, const struct object *object, uint64_t handle,
              text_judged *judged, void *user, struct error *err);
/* Whether what was written to HANDLE is being judged: nothing may be written to it meanwhile. */
bool crl_is_judged(uint64_t handle);

/* Compares the store key with the one that the store was made with; fatal where it differs. */
int secrets_check(struct store *store);

/* Ends generators that have nothing to do. Once a second. */
void secrets_tick(struct store *store);

#endif
