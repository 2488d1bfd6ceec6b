/*
 * What is known of tunnels in memory: what the IPsec process was told, and what it tells.
 */
#ifndef PKIFS_TOLD_H
#define PKIFS_TOLD_H

#include "pkifs/trust.h"

struct told {
	struct told *next;
	int64_t object, generation; /* of the last frame */
	int64_t request, asked;     /* the request under way, and its frame's generation */
	struct trust trust;
	uint64_t made_of;        /* verdict.h */
	uint64_t crls_sum;       /* the same */
	char *stands_on;         /* the settings that its trust depends on (verdict.h) */
	int64_t approved;        /* of the times that the process asked about a peer; -1: none */
	int64_t peer_cut;        /* since when it is cut for its peer; 0: it is not */
	bool peer;               /* who the peer is, is noted */
	struct record *counters; /* fields `sa`: SPI, bytes, packets */
	struct record *seen;     /* `spi-in`, `spi-out`: SAs that others made */
};

/* OBJECT's, or NULL; made where there is none (NULL: no memory); forgotten. */
struct told *told_find(int64_t object);
struct told *told_of(int64_t object);
void told_drop(int64_t object);
/* That behind TOLD, in no order (NULL: the first); NULL at the end. */
struct told *told_next(const struct told *told);

/* The SAs that an engine which is watched has made (frame `tunnel-is`). 0 or -ENOMEM. */
int told_seen(struct told *told, const struct record *record);

/* Frame `counters`. */
void told_counters(const struct record *record);

/* What `status` says of the SAs seen, and of what was counted: of SPIs IN and OUT, where they are
 * known, else of those that were seen. */
void told_describe(const struct told *told, char in[16], char out[16], struct record *status);

#endif
