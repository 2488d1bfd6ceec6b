#include "db/sql.h"

#include <assert.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

int sql_errno(int result)
{
	switch (result & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return 0;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_CONSTRAINT:
		return -EEXIST;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_READONLY:
		return -EROFS;
	default:
		return -EIO;
	}
}

static int prepare(struct db *db, const char *sql, sqlite3_stmt **statement)
{
	int result;

	for (size_t i = 0; i < db->cached; i++)
		if (db->cache[i].sql == sql) {
			*statement = db->cache[i].statement;
			return 0;
		}
	assert(db->cached < STATEMENTS);
	result =
		sqlite3_prepare_v3(db->sqlite, sql, -1, SQLITE_PREPARE_PERSISTENT, statement, NULL);
	if (result != SQLITE_OK)
		return sql_errno(result);
	db->cache[db->cached].sql = sql;
	db->cache[db->cached++].statement = *statement;
	return 0;
}

static int bind(struct db *db, sqlite3_stmt **statement, const char *sql, const char *format,
                va_list args)
{
	int result = SQLITE_OK, r = prepare(db, sql, statement);
	const char *bytes;

	if (r < 0)
		return r;
	for (int i = 1; *format && result == SQLITE_OK; i++) {
		switch (*format++) {
		case 'i':
			result = sqlite3_bind_int64(*statement, i, va_arg(args, int64_t));
			break;
		case 't':
			result = sqlite3_bind_text(*statement, i, va_arg(args, const char *), -1,
			                           SQLITE_STATIC);
			break;
		default:
			bytes = va_arg(args, const char *);
			result = sqlite3_bind_blob64(*statement, i, bytes ? bytes : "",
			                             va_arg(args, size_t), SQLITE_STATIC);
		}
	}
	if (result != SQLITE_OK)
		return sql_done(*statement, result);
	return 0;
}

int sql_bind(struct db *db, sqlite3_stmt **statement, const char *sql, const char *format, ...)
{
	va_list args;
	int r;

	va_start(args, format);
	r = bind(db, statement, sql, format, args);
	va_end(args);
	return r;
}

int sql_done(sqlite3_stmt *statement, int result)
{
	sqlite3_reset(statement);
	sqlite3_clear_bindings(statement);
	return sql_errno(result);
}

bool sql_lost(const struct db *db)
{
	return db->begun && sqlite3_get_autocommit(db->sqlite);
}

int sql_run(struct db *db, const char *sql, const char *format, ...)
{
	sqlite3_stmt *statement;
	va_list args;
	int r;

	va_start(args, format);
	r = bind(db, &statement, sql, format, args);
	va_end(args);
	if (r < 0)
		return r;
	if (sql_lost(db) && !sqlite3_stmt_readonly(statement))
		return sql_done(statement, SQLITE_IOERR);
	return sql_done(statement, sqlite3_step(statement));
}

int sql_number(struct db *db, int64_t *number, const char *sql, const char *format, ...)
{
	sqlite3_stmt *statement;
	va_list args;
	int r, result;

	va_start(args, format);
	r = bind(db, &statement, sql, format, args);
	va_end(args);
	if (r < 0)
		return r;
	result = sqlite3_step(statement);
	if (result == SQLITE_ROW)
		*number = sqlite3_column_int64(statement, 0);
	r = sql_done(statement, result);
	return r == 0 && result == SQLITE_DONE ? -ENOENT : r;
}

static int copy_blob(sqlite3_stmt *statement, int column, struct blob *blob)
{
	const void *bytes = sqlite3_column_blob(statement, column);
	int length = sqlite3_column_bytes(statement, column);

	blob->length = (size_t)length;
	blob->data = malloc(blob->length + 1);
	if (!blob->data) {
		blob->length = 0;
		return -ENOMEM;
	}
	if (length)
		memcpy(blob->data, bytes, blob->length);
	blob->data[length] = 0;
	return 0;
}

static void copy_text(sqlite3_stmt *statement, int column, char *text, size_t size)
{
	const unsigned char *value = sqlite3_column_text(statement, column);
	size_t length = value ? strnlen((const char *)value, size - 1) : 0;

	if (length)
		memcpy(text, value, length);
	text[length] = 0;
}

int sql_take(sqlite3_stmt *statement, const char *format, ...)
{
	int result = sqlite3_step(statement), r = 0;
	va_list args;

	va_start(args, format);
	for (int i = 0; result == SQLITE_ROW && r == 0 && format[i]; i++) {
		if (format[i] == 'i') {
			*va_arg(args, int64_t *) = sqlite3_column_int64(statement, i);
		} else if (format[i] == 't') {
			char *text = va_arg(args, char *);

			copy_text(statement, i, text, va_arg(args, size_t));
		} else {
			r = copy_blob(statement, i, va_arg(args, struct blob *));
		}
	}
	va_end(args);
	if (r == 0 && result == SQLITE_DONE)
		r = -ENOENT;
	result = sql_done(statement, result);
	return result < 0 ? result : r;
}

void blob_clear(struct blob *blob)
{
	if (blob->data)
		OPENSSL_cleanse(blob->data, blob->length);
	free(blob->data);
	*blob = (struct blob){ 0 };
}
