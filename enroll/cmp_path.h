/*
 * The certificate that a CMP CA gave, what came with it, and what of that the secret vouches for.
 */
#ifndef PKIFS_CMP_PATH_H
#define PKIFS_CMP_PATH_H

#include "enroll/cmp_client.h"

struct cmp_path {
	STACK_OF(X509) * path;      /* the certificate, and what may stand above it */
	STACK_OF(X509) * published; /* all that the shared secret vouches for */
	bool by_secret;             /* the secret proves the answer */
};

/*
 * Reads what CLIENT's context was given by ANSWER, and by a question before (the `resume-told…`
 * fields of KEPT). The caller clears *PATH in either case. 0, -ENOMEM.
 */
int cmp_path_read(const struct cmp_client *client, const OSSL_CMP_MSG *answer,
                  const struct record *kept, struct cmp_path *path);
void cmp_path_clear(struct cmp_path *path);

/* Whether it leads to a root, or to a certificate that the job has. */
bool cmp_path_is_whole(const struct cmp_path *path, const struct record *settings);

/* Adds it as a result has it: `certificate`, `published`, `proven-by`. */
void cmp_path_add(const struct cmp_path *path, struct record *record);

#endif
