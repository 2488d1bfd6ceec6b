/* What the engines' rows share (engine.c, engine_charon.c). */
#ifndef PKIFS_ENGINE_PART_H
#define PKIFS_ENGINE_PART_H

#include "pkifs/engine.h"

/* A request that is to be judged. */
struct asked {
	struct store *store;
	const struct object *object;
	const char *action;
	const struct record *fields, *settings, *sas;
};

/* charon: strongSwan's daemon. The record of SAs has `wanted` (yes, no; absent: as `start` says),
 * `sa` (in, out, version), `key-at`, and who the peer is (peer.h). */
int charon_check(const struct asked *asked, struct error *err);
void charon_take(struct store *store, const char *action, const struct record *fields,
                 struct record *sas);
void charon_undo(const char *action, struct record *sas);
int charon_frame(struct store *store, const struct object *object, const struct record *settings,
                 const struct record *sas, struct record *frame);
/* The IPsec process tells REPORT of what there is: into SAS, where that is new. 1: it is. */
int charon_report(const struct record *report, struct record *sas);
void charon_status(const struct record *settings, const struct record *sas, struct record *status,
                   char in[16], char out[16]);

#endif
