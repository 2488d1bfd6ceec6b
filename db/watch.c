/* What is known of the revocation of own certificates, and when that is looked at. */
#include "db/sql.h"

#include <errno.h>

int db_watch_set(struct db *db, int64_t object, int64_t at)
{
	return sql_run(db, "UPDATE object SET watch=? WHERE id=?", "ii", at, object);
}

int db_watch_get(struct db *db, int64_t object, int64_t *at, char *revocation, size_t size)
{
	sqlite3_stmt *statement;
	int r = sql_bind(db, &statement, "SELECT watch,revocation FROM object WHERE id=?", "i",
	                 object);

	return r < 0 ? r : sql_take(statement, "it", at, revocation, size);
}

int db_watch_keep(struct db *db, int64_t object, int64_t at, const char *revocation)
{
	return sql_run(db, "UPDATE object SET watch=?, revocation=? WHERE id=?", "iti", at,
	               revocation, object);
}

int db_watch_first(struct db *db, int64_t *object, int64_t *at)
{
	sqlite3_stmt *statement;
	int r = sql_bind(db, &statement,
	                 "SELECT id,watch FROM object WHERE watch>0 ORDER BY watch,id LIMIT 1", "");

	return r < 0 ? r : sql_take(statement, "ii", object, at);
}

/* Rows are passed over by number, whosever they are: what a call costs is bounded. */
int db_watch_profile(struct db *db, int64_t profile, int64_t *after)
{
	int64_t last;
	int r = sql_number(db, &last,
	                   "SELECT id FROM object WHERE kind=2 AND id>? ORDER BY id"
	                   " LIMIT 1 OFFSET 255",
	                   "i", *after);
	bool more = r == 0;

	if (r < 0 && r != -ENOENT)
		return r;
	r = sql_run(db,
	            "UPDATE object SET watch=1 WHERE kind=2 AND id>?2 AND id<=?3 AND watch>1 AND"
	            " (EXISTS (SELECT 1 FROM reference r WHERE r.object=object.id AND (r.target=?1"
	            "   OR EXISTS (SELECT 1 FROM reference WHERE object=r.target AND target=?1)))"
	            " OR NOT EXISTS (SELECT 1 FROM reference r JOIN object t ON t.id=r.target"
	            "  WHERE r.object=object.id AND t.kind=1))",
	            "iii", profile, *after, more ? last : INT64_MAX);
	*after = more ? last : 0;
	return r;
}

int db_watch_hurry(struct db *db, int64_t latest)
{
	return sql_run(db, "UPDATE object SET watch=1 WHERE watch>?", "i", latest);
}
