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

/* The leaf is for the purpose asked for, and has the name asked for. */
int path_check_purpose(const struct path_question *question, struct error *err);
int path_check_name(const struct path_question *question, struct error *err);

#endif
