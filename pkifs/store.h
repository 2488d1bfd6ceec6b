/*
 * The store process: one loop, one writer, no locks. What its parts share.
 */
#ifndef PKIFS_STORE_H
#define PKIFS_STORE_H

#include "common/channel.h"
#include "common/record.h"
#include "db/db.h"
#include "pkifs/keytable.h"
#include "pkifs/session.h"

struct children;
struct parked;
struct snapshot;

struct store {
	uv_loop_t *loop;
	struct db *db;
	struct shared *shared;
	struct session *session;
	struct channel *supervisor;
	struct record *conf; /* pkifs.conf, and what the supervisor adds to it */
	uid_t uid;           /* who owns the tree's files until somebody else is named */
	gid_t gid;
	bool privileged;   /* started by root: KEY_ROOT is for root alone */
	int folder;        /* descriptor of the folder beside the store, for CRLs */
	uint64_t changes;  /* grows with each commit */
	uint64_t *applied; /* changes of a predecessor whose answer is still owed */
	size_t applied_count;

	struct effect *effects, **last_effect; /* wait for the commit */
	struct effect **mark;                  /* those behind it are the change's that is open */
	struct open_file *writer;              /* whose text is being judged */
	bool begun;                            /* a transaction: SQLite may have ended it itself */
	bool due;                              /* a request may begin */
	bool wake;                             /* somebody who waits may have something to read */
	bool serving, stopping;
	struct children *children;
	struct parked *parked;
	struct snapshot *
		*snapshots; /* per open file: the text that its reader sees, where it is made */
	uv_check_t check;   /* commit at the turn's end */
	uv_prepare_t prepare;
	uv_timer_t tick;
};

/* Runs the store on the inherited descriptors until it is told to end; the exit code. */
int store_main(int control_fd, int fuse_fd, int shared_fd, int folder_fd);

/* Its start alone: STORE has nothing but its conf yet. What follows happens on the default loop.
 * 0, or 1 where it cannot be. */
int store_start(struct store *store, int control_fd, int fuse_fd, int shared_fd, int folder_fd);

/* The store key is the right one: requests are served, jobs taken up, the supervisor told. */
void store_serve(struct store *store);

/*
 * change.c. A change: store_begin opens the turn's transaction where none is open, and a savepoint
 * in it; store_end keeps (R >= 0) or drops (R < 0) what came since and returns R, or the store's
 * own error. A change of a FUSE request that a predecessor has already made gives 1 from
 * store_begin: nothing is to be done but to answer.
 */
int store_begin(struct store *store);
bool store_applied(const struct store *store);
int store_end(struct store *store, int r);
/* ACT(OBJECT) as a change of its own. */
int store_change(struct store *store, int64_t object, int (*act)(struct store *, int64_t));

/* Sends the supervisor FRAME; REASON may be NULL. */
void store_tell(struct store *store, const char *frame, const char *reason);

/* CALL, once, in MILLISECONDS: others have their turns before. TIMER's data is the store; its first
 * use makes it. */
void store_later(struct store *store, uv_timer_t *timer, uv_timer_cb call, uint64_t milliseconds);

/* Commits what is open; effects and answers follow. */
void store_commit(struct store *store);

/* Runs DONE(ARGUMENT, 0) after the commit, or DONE(ARGUMENT, -errno) when it failed. */
int store_after(struct store *store, void (*done)(void *argument, int code), void *argument);

/* SEND(RECORD) after the commit; RECORD is freed where that fails, else SEND's. */
int store_send_after(struct store *store, void (*send)(struct store *, struct record *),
                     struct record *record);

/*
 * Adds an event about OBJECT (may be NULL) inside a change: NAME and the fields of MORE (may be
 * NULL). Wakes readers of `watch`.
 */
int store_event(struct store *store, const struct object *object, const char *name,
                const struct record *more);
/* One that has no more to say than why: REASON (may be NULL). */
int store_event_for(struct store *store, const struct object *object, const char *name,
                    const char *reason);

/* Keeps ERR as the object's last-error with an event, inside a change. */
int store_refusal(struct store *store, const struct object *object, const struct error *err);
/* The same as a change of its own. */
void store_refused(struct store *store, const struct object *object, const struct error *err);

/* Unix seconds, and whether that can be true (not before anything we accepted or were built). */
int64_t store_now(const struct store *store);
bool store_clock_trusted(const struct store *store);
/* Whether nothing is to be done on account of what the clock shows; TEXT as status spells it. */
#define CLOCK_DOUBT_MAX 320
bool store_clock_doubt(const struct store *store, char *text, size_t size);
/* Once at the start; each second. */
void clock_load(struct store *store);
void clock_follow(struct store *store);
/* Signed times of accepted objects are a floor for the clock. */
int store_clock_floor(struct store *store, int64_t seconds);
/*
 * Where the clock was set back since *BEFORE (INT64_MAX at first), HURRY(now + SPAN) as a change of
 * its own: what was to come within SPAN seconds is not to come in years.
 */
int store_clock_hurry(struct store *store, int64_t *before, int64_t span,
                      int (*hurry)(struct db *, int64_t latest));

/* The object's config as a record (secrets in clear); the caller owns it. */
int store_config(struct store *store, const struct object *object, struct record **config);
/* The same with the default of each key that is not in it, also of its protocol's
 * [auto-re-enrollment]. */
int store_settings(struct store *store, const struct object *object, struct record **settings);
/* The same of a CONFIG that is not (yet) the object's. */
int store_effective(struct store *store, const struct object *object, const struct record *config,
                    struct record **settings);
const struct key_table *config_table(enum kind kind);
const struct key_table *request_table(enum kind kind);
const char *kind_name(enum kind kind);

/*
 * older.c: tells whether the store is an older copy of the one that was in use here, once, before
 * it serves; and keeps, from then on and every second, how new it is. `status` says OLDER as long
 * as the mount lives.
 */
#define OLDER                                                                                      \
	"this store is an older copy of the one that was last in use here: what was renewed or "   \
	"revoked since is not known in it"
void older_check(struct store *store);
void older_note(struct store *store);

/* A value of pkifs.conf as number. */
long store_setting(const struct store *store, const char *name);

#endif
