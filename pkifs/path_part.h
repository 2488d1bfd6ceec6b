/* What the parts of pkifs/path.h share: path.c asks, path_verify.c has OpenSSL verify. */
#ifndef PKIFS_PATH_PART_H
#define PKIFS_PATH_PART_H

#include "pkifs/path.h"

/* The system's trust store and the anchors of QUESTION; the caller's. NULL: no memory. */
X509_STORE *path_trust(const struct path_question *question, struct error *err);

/*
 * Has OpenSSL build and verify a path from STORE and UNTRUSTED. ANSWER gets its certificates, also
 * of one that fails, and what CRLs say of each: whether that is enough is for path.c to decide.
 */
int path_verify(const struct path_question *question, X509_STORE *store, STACK_OF(X509) * untrusted,
                struct path_answer *answer, struct error *err);

/*
 * All that is asked of a path, by path_verify and by ourselves. -EINVAL: this one does not hold;
 * another one may.
 */
int path_attempt(const struct path_question *question, X509_STORE *store,
                 STACK_OF(X509) * untrusted, struct path_answer *answer, struct error *err);

/*
 * Attempts other paths than OpenSSL's choice. Where none holds, -EINVAL, and ANSWER and ERR tell of
 * the first that has an anchor; they are as they were where there is none.
 */
int path_try_others(const struct path_question *question, X509_STORE *store,
                    STACK_OF(X509) * untrusted, struct path_answer *answer, struct error *err);

/* Adds CERTIFICATE to the path that ANSWER tells of. */
void path_add_step(struct path_answer *answer, X509 *certificate);

/* The leaf is for the purpose asked for, and has the name asked for. */
int path_check_purpose(const struct path_question *question, struct error *err);
int path_check_name(const struct path_question *question, struct error *err);

/* Forms that RFC 5280 §4 wants, of all certificates; not where the question is tolerant. */
int path_check_forms(const struct path_question *question, struct path_answer *answer,
                     struct error *err);

/*
 * Says of each certificate what was checked; of a path that fails for more than its revocation,
 * what holds of the others by themselves.
 */
void path_describe(const struct path_question *question, struct path_answer *answer);

/* No name of the leaf evades the name constraints of its CAs. */
int path_check_constraints(const struct path_question *question, struct path_answer *answer,
                           struct error *err);

#endif
