/* Statements of the store: prepared once, bound by a short format. Inside db/ only. */
#ifndef PKIFS_DB_SQL_H
#define PKIFS_DB_SQL_H

#include "db/db.h"

#include <sqlite3.h>
#include <stdarg.h>

#define STATEMENTS 128

struct db {
	sqlite3 *sqlite;
	bool begun;     /* a transaction, whose end has not been asked for */
	int64_t events; /* rows of the table, or -1: to be counted */
	struct {
		const char *sql; /* the literal itself is the key */
		sqlite3_stmt *statement;
	} cache[STATEMENTS];
	size_t cached;
};

/*
 * Prepares SQL (a literal; kept for the next call) and binds FORMAT's arguments: `i` int64_t,
 * `t` text (NULL allowed), `b` bytes (pointer, size_t). *STATEMENT is ready to be stepped, and
 * must be given to sql_done.
 */
int sql_bind(struct db *db, sqlite3_stmt **statement, const char *sql, const char *format, ...);

/* Resets; returns the negative errno of SQLite's RESULT (0 for ROW, DONE, OK). */
int sql_done(sqlite3_stmt *statement, int result);

/*
 * A full disk or a read error inside a transaction makes SQLite drop all of it and go on without
 * one. The transaction counts as open until its owner asks for the commit, which then fails, and
 * nothing is written till then: else a later change would be durable by itself, and its commit
 * would speak for the lost ones.
 */
bool sql_lost(const struct db *db);

/* A statement without rows. */
int sql_run(struct db *db, const char *sql, const char *format, ...);

/* A question with one number for an answer; -ENOENT without a row. */
int sql_number(struct db *db, int64_t *number, const char *sql, const char *format, ...);

/*
 * Steps STATEMENT once, copies its columns and resets it. FORMAT, a letter a column, says where to:
 * `i` int64_t *, `t` char * and size_t, `b` struct blob * (the caller clears it, also after an
 * error). -ENOENT without a row: nothing is copied.
 */
int sql_take(sqlite3_stmt *statement, const char *format, ...);

/* SQLite's result code as a negative errno. */
int sql_errno(int result);

/* db/schema.c. Whether the file is ours, or nobody's yet: -EINVAL for another program's, a newer.
 */
int schema_check(struct db *db, struct error *err);
/* Takes the schema of a file that was checked to the newest version. */
int schema_migrate(struct db *db, struct error *err);

#endif
