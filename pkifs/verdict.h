/*
 * Whether tunnels are trusted, of many at once: those that stand on the same certificate and CAs
 * are judged once.
 */
#ifndef PKIFS_VERDICT_H
#define PKIFS_VERDICT_H

#include "pkifs/trust.h"

/* Those of a tunnel's SETTINGS that its trust depends on, as text; the caller frees it. NULL: no
 * memory. */
char *tunnel_stands_on(const struct record *settings);

/* What was found of those that stand on the same, for one look at all tunnels. */
struct verdict {
	struct verdict *next;
	char *stands_on;
	struct trust trust;
	uint64_t made_of;    /* another one where the certificate or the CAs are others */
	struct record *crls; /* the frame for an engine that is given the CRLs; NULL: it was sent */
	uint64_t crls_sum;   /* another one where they are others; 0: there are none */
	struct record *ended; /* the frame for those that are cut now */
};
/* That about STANDS_ON, found among VERDICTS or added to them. 0 or a negative errno. */
int tunnel_verdict(struct store *store, const char *stands_on, struct verdict **verdicts,
                   struct verdict **found);
void verdicts_free(struct verdict *verdicts);

#endif
