/*
 * What the store's files of tunnels share: requests and configs (tunnel.c), the IPsec process
 * (tunnel_process.c), what became of tunnels (tunnel_state.c), whether they may be used
 * (tunnel_trust.c).
 */
#ifndef PKIFS_TUNNEL_PART_H
#define PKIFS_TUNNEL_PART_H

#include "pkifs/standing.h"
#include "pkifs/told.h"
#include "pkifs/verdict.h"

/* ACT in a change of its own; WHAT is logged where that fails. */
void tunnel_change(struct store *store, int (*act)(struct store *store), const char *what);

/* Inside a change: the process is told of OBJECT behind the commit. */
int tunnel_tell(struct store *store, const struct object *object);
/* For store_send_after: FRAME goes to the process, and is taken over. The second: `cut`, one for
 * all its tunnels. */
void tunnel_send(struct store *store, struct record *frame);
void tunnel_send_cut(struct store *store, struct record *frame);

/* Starts the process where there are tunnels and none runs. Whether it is ready. */
bool tunnel_process_runs(struct store *store);
/* One that could not be started is started at once. */
void tunnel_process_hurry(void);
/* The first tunnel: by which numbers SAs and policies in the kernel are this store's. One range of
 * 256, so that two stores on one kernel hardly ever take each other's for theirs. */
int tunnel_choose_range(struct store *store);

/* The frame `tunnel-is`; or the process cannot be started for REASON. Inside a change. */
int tunnel_take_state(struct store *store, const struct record *record);
int tunnel_fail_all(struct store *store, const char *reason);

/* What OBJECT with SETTINGS stands on, and whether that is believed, into TOLD. VERDICTS are of the
 * same change (verdict.h). Inside it. */
int tunnel_judge(struct store *store, const struct object *object, const struct record *settings,
                 struct told *told, struct verdict **verdicts);
/* Tunnels whose trust is another one now are told so. Inside a change. */
int tunnel_look_at(struct store *store, struct told *told);
int tunnel_look_at_all(struct store *store);
/* Whether all are to be looked at now. */
bool tunnels_look_due(int64_t now);

#endif
