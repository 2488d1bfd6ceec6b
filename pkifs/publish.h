/* What follows when something comes into force: events for watchers, `on-change`. */
#ifndef PKIFS_PUBLISH_H
#define PKIFS_PUBLISH_H

#include "pkifs/tree.h"

/* What hidden names begin with: the number of the edition that was replaced, `-`, the name. */
#define PUBLISH_PREFIX ".publish-"

/*
 * After the commit, the publisher renames hidden names onto FILES (a bit each) of OBJECT through
 * the mount, so that inotify tells and stat is fresh; OLD is the edition that was in force. It is
 * never waited for.
 */
int publisher_tell(struct store *store, const struct object *object, int64_t old, uint64_t files);

/* Whether EDITION was one of OBJECT's that the publisher had to tell the end of. */
bool publisher_replaces(int64_t object, int64_t edition);

/* After the commit, the supervisor runs the config's `on-change` for the version in this row. */
int on_change_run(struct store *store, const struct object *object, int64_t version);
/* The supervisor's `on-change-done`; `on-change-status`; what a predecessor left unfinished. */
void on_change_done(struct store *store, const struct record *record);
void on_change_status(struct store *store, const struct object *object, struct record *status);
void on_change_resume(struct store *store);

/* The publisher's own loop: runs on the socket CONTROL until it ends. */
int publisher_main(int control, const char *mount_point);

#endif
