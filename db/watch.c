/* What is known of the revocation of own certificates, and when that is looked at. */
#include "db/sql.h"

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

/* Those that name PROFILE, or a profile below it, or none. */
int db_watch_profile(struct db *db, int64_t profile)
{
	return sql_run(db,
	               "UPDATE object SET watch=1 WHERE kind=2 AND watch>1 AND (id IN"
	               " (SELECT object FROM reference WHERE target=?1 OR target IN"
	               "  (SELECT object FROM reference WHERE target=?1))"
	               " OR NOT EXISTS (SELECT 1 FROM reference f JOIN object t ON t.id=f.target"
	               "  WHERE f.object=object.id AND t.kind=1))",
	               "i", profile);
}

int db_watch_hurry(struct db *db, int64_t latest)
{
	return sql_run(db, "UPDATE object SET watch=1 WHERE watch>?", "i", latest);
}
