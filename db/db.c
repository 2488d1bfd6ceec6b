#include "db/db.h"

#include "common/log.h"
#include "db/checksum.h"
#include "db/sql.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/*
 * EXCLUSIVE before anything is read: one process owns the file, and there is no -shm file, whose
 * pages would raise SIGBUS on a full disk. What writes to the file comes after the checks: a file
 * that is not ours stays as it is.
 */
static const char reading[] = "PRAGMA locking_mode=EXCLUSIVE; PRAGMA foreign_keys=ON;"
			      "PRAGMA secure_delete=ON; PRAGMA trusted_schema=OFF;"
			      "PRAGMA cell_size_check=ON; PRAGMA temp_store=MEMORY;"
			      "PRAGMA cache_size=-16384;"; /* KiB: 10,000 certificate ids */
static const char writing[] = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
			      "PRAGMA wal_autocheckpoint=500; PRAGMA journal_size_limit=4194304;";

/* Why SQLite cannot read the store at PATH. */
static int unreadable(const struct db *db, int r, const char *path, struct error *err)
{
	int64_t page = checksum_bad_page();

	if (page)
		return error_set(err, -EIO, "the store %s is damaged: page %lld was changed", path,
		                 (long long)page);
	return error_set(err, r, "the store %s cannot be read: %s", path, db_reason(db));
}

static int check_whole(struct db *db, const char *path, struct error *err)
{
	sqlite3_stmt *statement = NULL;
	int result, r = 0;

	result = sqlite3_prepare_v2(db->sqlite, "PRAGMA quick_check(1)", -1, &statement, NULL);
	if (result == SQLITE_OK)
		result = sqlite3_step(statement);
	if (result != SQLITE_ROW)
		r = unreadable(db, sql_errno(result), path, err);
	else if (strcmp((const char *)sqlite3_column_text(statement, 0), "ok") != 0)
		r = error_set(err, -EIO, "the store %s is damaged: %s", path,
		              sqlite3_column_text(statement, 0));
	sqlite3_finalize(statement);
	return r;
}

static int run_settings(struct db *db, const char *settings, const char *path, struct error *err)
{
	int r = sql_errno(sqlite3_exec(db->sqlite, settings, NULL, NULL, NULL));

	return r == 0 ? 0
	              : error_set(err, r, "the store %s cannot be opened: %s", path,
	                          sqlite3_errmsg(db->sqlite));
}

/* Whether a crash has left its log beside the file. */
static bool has_log(const char *path)
{
	char name[4096];
	struct stat file;

	snprintf(name, sizeof name, "%s-wal", path);
	return stat(name, &file) == 0 && file.st_size > 0;
}

/* Whether closing leaves the log as it is, or puts what is in it into the file. */
static void keep_log(struct db *db, bool keep)
{
	sqlite3_db_config(db->sqlite, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, (int)keep, NULL);
}

/* A store from before there were checksums gets them; without room for a copy, another time. */
static void add_checksums(struct db *db)
{
	if (!checksum_is_on(db->sqlite) &&
	    sqlite3_exec(db->sqlite, "VACUUM", NULL, NULL, NULL) != SQLITE_OK)
		log_warning("the store has no checksums, and gets none: %s", db_reason(db));
}

int db_open(const char *path, bool checked, struct db **db, struct error *err)
{
	struct db *new = calloc(1, sizeof *new);
	bool crashed = has_log(path);
	int r;

	if (!new)
		return error_set(err, -ENOMEM, "out of memory");
	new->events = -1;
	r = checksum_begin();
	if (r == 0)
		r = sql_errno(sqlite3_open_v2(path, &new->sqlite,
		                              SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
		                                      SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_NOMUTEX |
		                                      SQLITE_OPEN_EXRESCODE,
		                              CHECKSUM_VFS));
	if (r < 0)
		error_set(err, r, "the store %s cannot be opened: %s", path,
		          new->sqlite ? sqlite3_errmsg(new->sqlite) : "out of memory");
	if (r == 0)
		keep_log(new, crashed);
	if (r == 0)
		r = run_settings(new, reading, path, err);
	if (r == 0 && !checked)
		r = check_whole(new, path, err);
	if (r == 0)
		r = schema_check(new, err);
	if (r == 0)
		keep_log(new, false);
	if (r == 0)
		r = sql_errno(checksum_reserve(new->sqlite));
	if (r == 0)
		r = run_settings(new, writing, path, err);
	if (r == 0)
		r = schema_migrate(new, err);
	if (r < 0) {
		db_close(new);
		return r;
	}
	add_checksums(new);
	*db = new;
	return 0;
}

void db_close(struct db *db)
{
	if (!db)
		return;
	for (size_t i = 0; i < db->cached; i++)
		sqlite3_finalize(db->cache[i].statement);
	sqlite3_close(db->sqlite);
	free(db);
}

int db_begin(struct db *db)
{
	int r = sql_run(db, "BEGIN IMMEDIATE", "");

	if (r == 0)
		db->begun = true;
	return r;
}

int db_commit(struct db *db)
{
	int r = db->begun && !sql_lost(db) ? sql_run(db, "COMMIT", "") : -EIO;

	if (r < 0)
		db_rollback(db);
	db->begun = false;
	return r;
}

void db_rollback(struct db *db)
{
	db->events = -1;
	if (!sqlite3_get_autocommit(db->sqlite))
		sql_run(db, "ROLLBACK", "");
	db->begun = false;
}

bool db_in_transaction(const struct db *db)
{
	return db->begun;
}

int db_savepoint(struct db *db)
{
	return sql_lost(db) ? -EIO : sql_run(db, "SAVEPOINT change", "");
}

int db_release(struct db *db)
{
	return sql_run(db, "RELEASE change", "");
}

void db_undo(struct db *db)
{
	db->events = -1;
	if (!sqlite3_get_autocommit(db->sqlite)) {
		sql_run(db, "ROLLBACK TO change", "");
		sql_run(db, "RELEASE change", "");
	}
}

const char *db_reason(const struct db *db)
{
	return sqlite3_errmsg(db->sqlite);
}

int db_meta_get(struct db *db, const char *name, struct blob *value)
{
	sqlite3_stmt *statement;
	int r = sql_bind(db, &statement, "SELECT value FROM meta WHERE name=?", "t", name);

	return r < 0 ? r : sql_take(statement, "b", value);
}

int db_meta_set(struct db *db, const char *name, const void *value, size_t length)
{
	return sql_run(db, "INSERT OR REPLACE INTO meta (name, value) VALUES (?,?)", "tb", name,
	               value, length);
}

int db_meta_remove(struct db *db, const char *name)
{
	return sql_run(db, "DELETE FROM meta WHERE name=?", "t", name);
}

int db_meta_next(struct db *db, const char *after, const char *before, const char *value,
                 char *name, size_t size)
{
	sqlite3_stmt *statement;
	int r;

	r = sql_bind(db, &statement,
	             "SELECT name FROM meta WHERE name>? AND name<? AND value=CAST(? AS BLOB)"
	             " ORDER BY name LIMIT 1",
	             "ttt", after, before, value);
	return r < 0 ? r : sql_take(statement, "t", name, size);
}

int db_mode_get(struct db *db, int64_t object, unsigned file, struct file_mode *mode)
{
	int64_t uid, gid, bits;
	sqlite3_stmt *statement;
	int r;

	r = sql_bind(db, &statement, "SELECT uid,gid,mode FROM file_mode WHERE object=? AND file=?",
	             "ii", object, (int64_t)file);
	if (r == 0)
		r = sql_take(statement, "iii", &uid, &gid, &bits);
	if (r == 0)
		*mode = (struct file_mode){ (uint32_t)uid, (uint32_t)gid, (uint32_t)bits };
	return r;
}

int db_mode_set(struct db *db, int64_t object, unsigned file, const struct file_mode *mode)
{
	return sql_run(db, "INSERT OR REPLACE INTO file_mode VALUES (?,?,?,?,?)", "iiiii", object,
	               (int64_t)file, (int64_t)mode->uid, (int64_t)mode->gid, (int64_t)mode->mode);
}

int db_event_end(struct db *db, int64_t *end)
{
	return sql_number(db, end,
	                  "SELECT ifnull((SELECT start+length(line) FROM event"
	                  " ORDER BY start DESC LIMIT 1), 0)",
	                  "");
}

int db_event_add(struct db *db, const char *line, size_t length, int64_t keep)
{
	int64_t end;
	int r;

	r = db_event_end(db, &end);
	if (r == 0 && db->events < 0)
		r = sql_number(db, &db->events, "SELECT count(*) FROM event", "");
	if (r == 0)
		r = sql_run(db, "INSERT INTO event VALUES (?,?)", "ib", end, line, length);
	if (r == 0)
		db->events++;
	while (r == 0 && db->events > keep) {
		r = sql_run(db, "DELETE FROM event WHERE start=(SELECT min(start) FROM event)", "");
		db->events--;
	}
	return r;
}

int db_event_back(struct db *db, int64_t lines, int64_t *offset)
{
	int r = sql_number(db, offset,
	                   "SELECT min(start) FROM (SELECT start FROM event ORDER BY start DESC"
	                   " LIMIT ?)",
	                   "i", lines);

	return r;
}

int db_event_at(struct db *db, int64_t offset, int64_t *start, struct blob *line)
{
	sqlite3_stmt *statement;
	int r;

	r = sql_bind(db, &statement,
	             "SELECT start, line FROM event WHERE start >= ifnull((SELECT start FROM event"
	             " WHERE start <= ?1 ORDER BY start DESC LIMIT 1), ?1)"
	             " AND start+length(line) > ?1 ORDER BY start LIMIT 1",
	             "i", offset);
	return r < 0 ? r : sql_take(statement, "ib", start, line);
}

int db_applied_add(struct db *db, uint64_t unique)
{
	return sql_run(db, "INSERT OR IGNORE INTO applied VALUES (?)", "i", (int64_t)unique);
}

int db_applied_next(struct db *db, uint64_t after, uint64_t *unique)
{
	int64_t number;
	int r = sql_number(db, &number,
	                   "SELECT request FROM applied WHERE request>? ORDER BY request LIMIT 1",
	                   "i", (int64_t)after);

	if (r == 0)
		*unique = (uint64_t)number;
	return r;
}

int db_applied_clear(struct db *db)
{
	return sql_run(db, "DELETE FROM applied", "");
}
