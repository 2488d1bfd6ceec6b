/*
 * The store: one SQLite file, one owner, all of pkifs' SQL. One function per question or change.
 *
 * Changes run inside a transaction that db_begin opened and become durable with db_commit
 * (WAL, synchronous=FULL: one fsync). Functions return 0 or a negative errno: -ENOENT where
 * there is no such row, -ENOSPC on a full disk, -EIO, -ENOMEM. Times are Unix seconds.
 */
#ifndef PKIFS_DB_H
#define PKIFS_DB_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NAME_MAX_LENGTH 64

enum kind { KIND_CA = 1, KIND_LOCAL = 2, KIND_IPSEC = 3 };

struct db;

/* A value that was read: LENGTH bytes and a NUL. blob_clear cleanses and frees. */
struct blob {
	char *data;
	size_t length;
};
void blob_clear(struct blob *blob);

/*
 * Opens PATH, makes it where it is not there, brings an older schema forward. A file of another
 * program, a newer or damaged store is refused and stays as it is. It is read whole for that, but
 * for one that is CHECKED: a process that did so has died, and another takes over. The caller owns
 * *DB.
 */
int db_open(const char *path, bool checked, struct db **db, struct error *err);
void db_close(struct db *db);

/*
 * One transaction for all changes of a turn; each change between db_savepoint and db_release
 * (keep) or db_undo (drop) fails alone. db_commit makes all durable or none (-ENOSPC, -EIO).
 * When a full disk or a damaged one costs the transaction before its end, it stays open in name:
 * db_savepoint and db_commit answer -EIO.
 */
int db_begin(struct db *db);
int db_commit(struct db *db);
void db_rollback(struct db *db);
bool db_in_transaction(const struct db *db);
int db_savepoint(struct db *db);
int db_release(struct db *db);
void db_undo(struct db *db);

/* What SQLite last said, for a sentence. */
const char *db_reason(const struct db *db);

/* Named values of the store itself. *VALUE is the caller's (blob_clear). */
int db_meta_get(struct db *db, const char *name, struct blob *value);
int db_meta_set(struct db *db, const char *name, const void *value, size_t length);
int db_meta_remove(struct db *db, const char *name);
/* The first name above AFTER and below BEFORE that has VALUE, into NAME (may be AFTER itself). */
int db_meta_next(struct db *db, const char *after, const char *before, const char *value,
                 char *name, size_t size);

/* Of the last request of an object. */
enum request_state {
	REQUEST_NONE,
	REQUEST_QUEUED,
	REQUEST_RUNNING,
	REQUEST_WAITING,
	REQUEST_DONE,
	REQUEST_FAILED,
	REQUEST_REJECTED,
};

/* Objects: CA profiles, certificate ids, tunnels. */
struct object {
	int64_t id;
	enum kind kind;
	char name[NAME_MAX_LENGTH + 1];
	int64_t created;
	int64_t config;  /* row of the config text in force */
	int64_t edition; /* row of what it shows now */
	char state[16];
	int64_t since;
	char last_error[512];
};
int db_object_add(struct db *db, enum kind kind, const char *name, int64_t now, int64_t *id);
int db_object_find(struct db *db, enum kind kind, const char *name, struct object *object);
int db_object_get(struct db *db, int64_t id, struct object *object);
/* The first object of KIND with a row above AFTER; -ENOENT behind the last. */
int db_object_next(struct db *db, enum kind kind, int64_t after, struct object *object);
/*
 * Calls EACH for the objects of KIND with a row above AFTER, by their rows, until it gives other
 * than 0, and gives that; NAME lives for the call.
 */
int db_object_names(struct db *db, enum kind kind, int64_t after,
                    int (*each)(int64_t id, const char *name, void *user), void *user);

/* What the table of all objects shows of a certificate id. Texts live for the call. */
struct overview {
	int64_t id;
	const char *name, *state, *last_error;
	enum request_state request;
	int64_t not_after; /* 0: no certificate */
};
/* Calls EACH for all certificate ids, by their rows, until it fails; gives what it gave. */
int db_overview(struct db *db, int (*each)(const struct overview *row, void *user), void *user);
/* The same, LIMIT at most, for those that refer to PROFILE and have a valid certificate, of which
 * its CA is the anchor: the version in force is its ID, and no request is looked up. */
int db_vouched(struct db *db, int64_t profile, int64_t limit,
               int (*each)(const struct overview *row, void *user), void *user);
int db_object_count(struct db *db, enum kind kind, int64_t *count);
int db_object_remove(struct db *db, int64_t id);
int db_object_set_error(struct db *db, int64_t id, const char *error);
int db_object_set_state(struct db *db, int64_t id, const char *state, int64_t since);

/* Config texts. The one in force is the object's; others live on for those who have them open. */
int db_config_set(struct db *db, int64_t object, const char *text, size_t length, int64_t now,
                  int64_t *row);
int db_config_get(struct db *db, int64_t row, int64_t *object, int64_t *created, struct blob *text);

/* What the files of the daemon declare of an object: lines of a config text. -ENOENT: nothing. */
int db_declared_set(struct db *db, int64_t object, const char *text, size_t length);
int db_declared_get(struct db *db, int64_t object, struct blob *text);
int db_declared_remove(struct db *db, int64_t object);
/* 0: something is declared of it; -ENOENT. */
int db_declared_find(struct db *db, int64_t object);
/* The first object above AFTER that is declared; -ENOENT behind the last. */
int db_declared_next(struct db *db, int64_t after, int64_t *object);

/* How far an object is with enrolling by itself. */
enum auto_enroll {
	AUTO_ENROLL_OFF,
	AUTO_ENROLL_TRIED, /* with its config and its profile's as they are */
	AUTO_ENROLL_DUE,   /* to be looked at */
	AUTO_ENROLL_AFTER, /* to be looked at when the request under way has ended */
};
int db_auto_enroll_set(struct db *db, int64_t object, enum auto_enroll state);
/* From one state to another; another one stays. */
int db_auto_enroll_move(struct db *db, int64_t object, enum auto_enroll from, enum auto_enroll to);
/* Certificate ids that were tried are due: those that name PROFILE; all. */
int db_auto_enroll_profile(struct db *db, int64_t profile);
int db_auto_enroll_all(struct db *db);
/* The first object above AFTER that is due; -ENOENT behind the last. */
int db_auto_enroll_next(struct db *db, int64_t after, int64_t *object);

/*
 * What an object is to do by itself next: a certificate id renews, a profile tells that its CA
 * nears its end. AT is when, or one of these.
 */
#define ACTION_NONE 0
#define ACTION_PLAN 1 /* it is to be found out when */
struct next_action {
	int64_t at, profile; /* the one that is asked, or 0 */
	int64_t failures; /* since the certificate is in force; of a profile: 0 until it has told */
};
int db_action_set(struct db *db, int64_t object, const struct next_action *action);
int db_action_get(struct db *db, int64_t object, struct next_action *action);
/* When the first of all is due (ACTION_PLAN before all others), or -ENOENT. */
int db_action_first(struct db *db, int64_t *at);
/* The first object above AFTER that is to be planned, or -ENOENT. */
int db_action_to_plan(struct db *db, int64_t after, int64_t *object);
/* The first profile above AFTER (-1: of all) that something is to be asked of, or -ENOENT. */
int db_action_profile(struct db *db, int64_t after, int64_t *profile);
/* The object that is to ask PROFILE first, and not after NOW; -ENOENT. */
int db_action_due(struct db *db, int64_t profile, int64_t now, int64_t *object);
/* Plans again: all certificate ids; those that name PROFILE; of these, those that failed. */
int db_action_plan_all(struct db *db);
int db_action_plan_profile(struct db *db, int64_t profile);
int db_action_plan_failed(struct db *db, int64_t profile);
/* The same for failures' next tries that are later than LATEST. */
int db_action_hurry(struct db *db, int64_t latest);

/*
 * What is known of the revocation of a certificate id's certificate, as `status` spells it, and
 * when it is to be looked at again: WATCH_NOT (there is none), WATCH_NOW, or a time. Of a profile,
 * WATCH_NOW says that some below it are still to be marked: those behind the row in the text.
 */
#define WATCH_NOT 0
#define WATCH_NOW 1
int db_watch_set(struct db *db, int64_t object, int64_t at);
int db_watch_get(struct db *db, int64_t object, int64_t *at, char *revocation, size_t size);
int db_watch_keep(struct db *db, int64_t object, int64_t at, const char *revocation);
/* The object that is to be looked at first, and when, or -ENOENT. */
int db_watch_first(struct db *db, int64_t *object, int64_t *at);
/*
 * Some of those whose certificate PROFILE may vouch for are to be looked at now: of the rows behind
 * *AFTER, which is where the next ones are (0: these were the last).
 */
int db_watch_profile(struct db *db, int64_t profile, int64_t *after);
/* Times later than LATEST are now. */
int db_watch_hurry(struct db *db, int64_t latest);

/*
 * What the OCSP responders of a profile's CA said of a certificate (its SHA-256 is NAME); asked
 * for an own certificate of OBJECT, or somebody's (0).
 */
struct ocsp_row {
	int64_t id, profile, object;
	unsigned char name[32];
	struct blob certificate, issuer;           /* DER */
	struct blob response;                      /* DER; empty: nothing yet */
	int64_t status, reason, revoked_at, until; /* struct ocsp_answer */
	int64_t ask;                               /* when it is to be asked, 0: nobody wants it */
	int64_t later;                             /* not before that */
	int64_t failures, used;
	char error[512]; /* why the last question had no answer */
};
/* -ENOENT: nothing is known. The caller clears it. */
int db_ocsp_get(struct db *db, int64_t profile, const unsigned char name[32], struct ocsp_row *row);
int db_ocsp_find(struct db *db, int64_t id, struct ocsp_row *row);
/* Keeps ROW: its own (id), or a new one in place of what was least used of more than KEEP. */
int db_ocsp_put(struct db *db, struct ocsp_row *row, int64_t keep);
/* The first profile above AFTER that is to be asked by NOW, or -ENOENT. */
int db_ocsp_profile(struct db *db, int64_t after, int64_t now, int64_t *profile);
/* The question of PROFILE that is due first, and not after NOW. */
int db_ocsp_due(struct db *db, int64_t profile, int64_t now, int64_t *id);
int db_ocsp_ask(struct db *db, int64_t id, int64_t ask);
/* What PROFILE's responders did not answer is to be asked again at ASK. */
int db_ocsp_ask_again(struct db *db, int64_t profile, int64_t ask);
void ocsp_row_clear(struct ocsp_row *row);

/* Who names whom (`ca-profile`, `tls-ca`, …): what is named can't be removed. */
int db_reference_clear(struct db *db, int64_t object);
int db_reference_add(struct db *db, int64_t object, int64_t target);
/* The name of an object that refers to TARGET, or -ENOENT. */
int db_reference_find(struct db *db, int64_t target, struct object *by);
/* The first object above AFTER that refers to TARGET; -ENOENT behind the last. */
int db_reference_next(struct db *db, int64_t target, int64_t after, struct object *by);

/* Key pairs, sealed. */
struct key_pair {
	int64_t id, object;
	char type[24]; /* "rsa 2048" */
	struct blob sealed, public;
	int64_t pem_size, created;
};
int db_key_add(struct db *db, const struct key_pair *key, int64_t *id);
int db_key_get(struct db *db, int64_t id, struct key_pair *key);
void key_pair_clear(struct key_pair *key);

/* Versions: key, certificate and chain of one generation of a certificate id. */
struct version {
	int64_t id, object, number, key_pair; /* key_pair 0: its key is no longer kept */
	struct blob certificate, chain;       /* PEM */
	struct blob facts; /* encoded record: what status shows of the certificate */
	int64_t not_after, created;
	char anchor[24]; /* who vouches for it: "profile", "system", "none", "self" */
};
int db_version_add(struct db *db, const struct version *version, int64_t *id);
int db_version_get(struct db *db, int64_t id, struct version *version);
int db_version_find(struct db *db, int64_t object, int64_t number, int64_t *id);
/* How many versions in force have the certificate in PEM in their chain; at most 1 is told. */
int db_version_chained(struct db *db, const struct blob *certificate, int64_t *count);
/* The first version of OBJECT numbered above AFTER. */
int db_version_next(struct db *db, int64_t object, int64_t after, int64_t *id, int64_t *number);
void version_clear(struct version *version);

/*
 * CRLs: the row; body and index are files beside the store. A profile keeps one of each slot: of
 * issuer, scope, key and whether it is a delta.
 */
enum crl_kind {
	CRL_TRUSTED = 1 /* its signer was known when it came */,
	CRL_OWN = 2 /* the profile's CA's */,
	CRL_WHOLE = 4,   /* its scope: all certificates of its issuer, and no others */
	CRL_INDIRECT = 8 /* it may speak of other issuers' */
};
struct crl {
	int64_t id, object, size, this_update, next_update, entries, created;
	int64_t issuer; /* a hash of the name */
	int64_t kind;   /* of enum crl_kind */
	int64_t file;   /* in the names of its files */
	char number[64];
	char base[64]; /* a delta's: the number of its base; else empty */
	char source[256];
	char slot[65];
};
/* What OpenSSL has to know of it (common/stubcrl.h); and the signer's certificate in DER, where it
 * is another than the CA's. */
struct crl_parts {
	struct blob stub, digest, signer;
};
int db_crl_add(struct db *db, const struct crl *crl, const struct crl_parts *parts, int64_t *id);
int db_crl_get(struct db *db, int64_t id, struct crl *crl);
/* 0: a CRL has the files of this number; -ENOENT. */
int db_crl_of_file(struct db *db, int64_t file);
int db_crl_parts(struct db *db, int64_t id, struct crl_parts *parts);
void crl_parts_clear(struct crl_parts *parts);
/* The signer of the first CRL behind the row *AFTER that OBJECT keeps with one, or -ENOENT. */
int db_crl_signer_next(struct db *db, int64_t object, int64_t *after, struct blob *signer);
/* The CRL that OBJECT keeps of SLOT, or -ENOENT. */
int db_crl_of_slot(struct db *db, int64_t object, const char *slot, struct crl *crl);
/* The first that OBJECT keeps above row AFTER, or -ENOENT. */
int db_crl_next(struct db *db, int64_t object, int64_t after, struct crl *crl);
/* OBJECT keeps it no longer (ID 0: it keeps none); editions that show it still may. */
int db_crl_drop(struct db *db, int64_t object, int64_t id);
/* How many OBJECT keeps, and their bytes. */
int db_crl_count(struct db *db, int64_t object, int64_t *count, int64_t *size);

/* Where CRLs of a profile are fetched from, and when. */
struct crl_url {
	int64_t id, object;
	char url[1024];     /* empty: as the profile's config says */
	int64_t kind;       /* CRL_OWN: it is the CA's certificates that name it */
	struct blob signer; /* DER of who issued the certificate that names it */
	int64_t next, failures;
	char source[1024]; /* of what came last: its URL, and what the server calls it */
	char etag[256], modified[64];
	char error[512];
	int64_t used; /* when a certificate named it last */
	int64_t crl;  /* the row of what came last */
};
/* Adds it, or notes that it is used again (USED, and NEXT where that is sooner). */
int db_crl_url_add(struct db *db, const struct crl_url *url);
int db_crl_url_update(struct db *db, const struct crl_url *url);
int db_crl_url_get(struct db *db, int64_t id, struct crl_url *url);
int db_crl_url_find(struct db *db, int64_t object, const char *name, struct crl_url *url);
/* The first of OBJECT above AFTER; the first by NEXT and row behind those, not after NOW. */
int db_crl_url_next(struct db *db, int64_t object, int64_t after, struct crl_url *url);
int db_crl_url_due(struct db *db, int64_t now, int64_t next, int64_t after, struct crl_url *url);
int db_crl_url_count(struct db *db, int64_t object, int64_t *count);
/* Removes it (ID 0: all of OBJECT). */
int db_crl_url_remove(struct db *db, int64_t object, int64_t id);
/* All of OBJECT are due at NEXT; of all objects those that are later than LATEST are due then. */
int db_crl_url_set_next(struct db *db, int64_t object, int64_t next);
int db_crl_url_hurry(struct db *db, int64_t latest);
void crl_url_clear(struct crl_url *url);

/*
 * Editions: what an object shows. Each change of a key, certificate, request or CRL is a new
 * row, so that all names change in the same instant and an inode is one edition.
 */
struct edition {
	int64_t id, object, created;
	/* a certificate id */
	int64_t key_pair, next_key, version;
	struct blob csr;  /* PEM */
	struct blob ocsp; /* the responder's answer for the version's certificate, DER */
	/* a CA profile; PEM texts */
	struct blob certificate, chain, ra, pending;
	struct blob next;   /* the CA certificate that follows, its RAs and issuers */
	struct blob former; /* those that went before, which may still end chains */
	char trusted_by[96];
	char next_by[96]; /* who vouches for NEXT; empty: it waits for `confirm` */
	char capabilities[256];
	int64_t crl;
};
int db_edition_add(struct db *db, const struct edition *edition, int64_t *id);
int db_edition_get(struct db *db, int64_t id, struct edition *edition);
void edition_clear(struct edition *edition);

/*
 * Drops what is no longer in force: texts, editions, and keys of versions older than the KEEP
 * newest. IS_OPEN(kind of row, row) says what somebody still has open.
 */
enum row_kind { ROW_CONFIG, ROW_EDITION, ROW_VERSION };
int db_prune(struct db *db, int64_t object, int64_t keep,
             bool (*is_open)(enum row_kind, int64_t row, void *user), void *user);

/* The object that a row belongs to. */
int db_owner(struct db *db, enum row_kind kind, int64_t row, int64_t *object);

/* The last request of an object. */
struct request {
	int64_t id, object;
	int64_t profile; /* that it counts for, or 0 */
	char action[24];
	enum request_state state;
	struct blob text;   /* as written */
	struct blob fields; /* encoded record */
	struct blob resume; /* encoded record: the protocol's checkpoint, or what `verify` found */
	int64_t attempts, next_attempt, created, changed;
	bool answered; /* the CA has answered at least once */
	bool pending;  /* waits for the CA's decision (else for the next try) */
	char error[512];
};
int db_request_add(struct db *db, const struct request *request, int64_t *id);
int db_request_get(struct db *db, int64_t object, struct request *request);
/* The request with the smallest row above AFTER that is queued, running or waiting. */
int db_request_next(struct db *db, int64_t after, struct request *request);
/* The first profile above AFTER that has such a request, or -ENOENT. */
int db_request_profile(struct db *db, int64_t after, int64_t *profile);
/*
 * Such a request of PROFILE whose next attempt is not after NOW: the first by next attempt and row
 * behind those of LAST (all 0: the first of all).
 */
int db_request_due(struct db *db, int64_t profile, int64_t now, const struct request *last,
                   struct request *request);
/* How many requests of PROFILE are queued or run; not more than LIMIT are counted. */
int db_request_count(struct db *db, int64_t profile, int64_t limit, int64_t *count);
/* Next attempts that are later than LATEST are due at once. */
int db_request_hurry(struct db *db, int64_t latest);
/* What was asked, as text and as fields, is kept in another form: without its secrets. */
int db_request_rewrite(struct db *db, int64_t id, const char *text, size_t text_length,
                       const void *fields, size_t fields_length);
int db_request_update(struct db *db, const struct request *request);
int db_request_checkpoint(struct db *db, int64_t id, const void *resume, size_t length,
                          int64_t now);
void request_clear(struct request *request);
const char *request_state_name(enum request_state state);
bool request_active(const struct request *request);

/* Owner, group and mode that a user set. OBJECT 0: the root's own files. */
struct file_mode {
	uint32_t uid, gid, mode;
};
int db_mode_get(struct db *db, int64_t object, unsigned file, struct file_mode *mode);
int db_mode_set(struct db *db, int64_t object, unsigned file, const struct file_mode *mode);

/*
 * Events are one endless text; a row's key is the offset of its line in it. db_event_add drops
 * lines so that the last KEEP rows stay.
 */
int db_event_add(struct db *db, const char *line, size_t length, int64_t keep);
int db_event_end(struct db *db, int64_t *end);                    /* offset behind the last */
int db_event_back(struct db *db, int64_t lines, int64_t *offset); /* start of the last LINES */
/* The line that OFFSET lies in, or the next one there is, else -ENOENT; *START its offset. */
int db_event_at(struct db *db, int64_t offset, int64_t *start, struct blob *line);

/* FUSE requests whose change is in the store, by their `unique`. For one mount only. */
int db_applied_add(struct db *db, uint64_t unique);
/* The smallest above AFTER, or -ENOENT. */
int db_applied_next(struct db *db, uint64_t after, uint64_t *unique);
int db_applied_clear(struct db *db);

#endif
