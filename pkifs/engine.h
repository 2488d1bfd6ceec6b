/*
 * Who makes the keys of tunnels (`engine`), and which SAs a tunnel has: named values of the store,
 * a record for each. An engine is a row of a table (engine.c).
 */
#ifndef PKIFS_ENGINE_H
#define PKIFS_ENGINE_H

#include "pkifs/standing.h"
#include "pkifs/trust.h"

/* Seconds that an old pair of SAs is kept after a rekey: the peer may still use it. */
#define RETIRE_SECONDS 30

/* The SAs of OBJECT as the frame `tunnel` has them: `current`, `next`, `old`; the caller's. */
int engine_sas(struct store *store, const struct object *object, struct record **sas);

/* Notes what STANDING's request asks for; takes back what it noted. Inside a change. */
int engine_take(struct store *store, struct standing *standing);
int engine_undo(struct store *store, struct standing *standing);

/* OBJECT is cut: it has no SAs any more. It is removed. Inside a change. */
int engine_cut(struct store *store, const struct object *object);
int engine_forget(struct store *store, const struct object *object);

/* Whether some old pair may be due; drops OBJECT's, 1: there were some. */
bool engine_retire_due(int64_t now);
int engine_retire(struct store *store, const struct object *object);

/* What `status` says of the SAs; the SPIs in use, or "". */
int engine_describe(struct store *store, const struct object *object, const struct record *settings,
                    struct record *status, char in[16], char out[16]);

/* Adds what OBJECT's engine has to be told besides the settings of the traffic. */
int engine_frame(struct store *store, const struct object *object, const struct record *settings,
                 struct record *frame);
/* The IPsec process tells REPORT (frame `tunnel-is`); 1: the SAs or the peer are others than
 * before. Inside a change. */
int engine_report(struct store *store, const struct object *object, const struct record *report);
/* The peer is forgotten: another one may prove who it is. Inside a change. */
int engine_forget_peer(struct store *store, const struct object *object);

/* What is to be said of OBJECT's peer, added to TRUST of the rest; 1: there is one. Inside a
 * change. */
int engine_trust_peer(struct store *store, const struct object *object,
                      const struct record *settings, struct trust *trust);

#endif
