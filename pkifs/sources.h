/*
 * Where it is known from whether what a profile's CA vouches for is revoked: its CRLs (crl.h) and
 * what its OCSP responders said (ocsp.h), as its config wants them.
 */
#ifndef PKIFS_SOURCES_H
#define PKIFS_SOURCES_H

#include "pkifs/path.h"
#include "pkifs/store.h"

struct sources {
	struct store *store;
	int64_t profile;               /* 0: the CRLs of all */
	const struct record *settings; /* the profile's, with defaults */
};

/* What SOURCES know, for path_check; they must live as long as SET is used. */
void sources_set(struct sources *sources, struct path_sources *set);

/*
 * path_check of QUESTION with what SOURCES know; its policy (accept_unknown) is the caller's.
 * A CRL that cannot be read makes `unknown`, and the path fails.
 */
int sources_check(struct sources *sources, const struct path_question *question,
                  struct path_answer *answer, struct error *err);

/*
 * Has asked and fetched what is not known of a path that is sound, for the next question. For an
 * own certificate OBJECT is looked at when there is an answer, else 0. Inside a change.
 */
int sources_want(struct sources *sources, int64_t object, const struct path_answer *answer);

#endif
