/* What certificate ids do by themselves, and when: columns of theirs with an index each question.
 */
#include "db/sql.h"

int db_action_set(struct db *db, int64_t object, const struct next_action *action)
{
	return sql_run(db, "UPDATE object SET next_action=?,next_profile=?,failures=? WHERE id=?",
	               "iiii", action->at, action->profile, action->failures, object);
}

int db_action_get(struct db *db, int64_t object, struct next_action *action)
{
	sqlite3_stmt *statement;
	int r = sql_bind(db, &statement,
	                 "SELECT next_action,next_profile,failures FROM object WHERE id=?", "i",
	                 object);

	return r < 0 ? r
	             : sql_take(statement, "iii", &action->at, &action->profile, &action->failures);
}

int db_action_first(struct db *db, int64_t *at)
{
	return sql_number(db, at,
	                  "SELECT next_action FROM object WHERE next_action>0"
	                  " ORDER BY next_action LIMIT 1",
	                  "");
}

int db_action_to_plan(struct db *db, int64_t after, int64_t *object)
{
	return sql_number(db, object,
	                  "SELECT id FROM object WHERE next_action>0 AND next_action=1 AND id>?"
	                  " ORDER BY id LIMIT 1",
	                  "i", after);
}

int db_action_profile(struct db *db, int64_t after, int64_t *profile)
{
	return sql_number(db, profile,
	                  "SELECT next_profile FROM object WHERE next_action>1 AND next_profile>?"
	                  " ORDER BY next_profile LIMIT 1",
	                  "i", after);
}

int db_action_due(struct db *db, int64_t profile, int64_t now, int64_t *object)
{
	return sql_number(db, object,
	                  "SELECT id FROM object WHERE next_action>1 AND next_profile=?"
	                  " AND next_action<=? ORDER BY next_action,id LIMIT 1",
	                  "ii", profile, now);
}

int db_action_plan_all(struct db *db)
{
	return sql_run(db, "UPDATE object SET next_action=1 WHERE kind=2", "");
}

int db_action_plan_profile(struct db *db, int64_t profile)
{
	return sql_run(db,
	               "UPDATE object SET next_action=1 WHERE kind=2 AND id IN"
	               " (SELECT object FROM reference WHERE target=?)",
	               "i", profile);
}

int db_action_plan_failed(struct db *db, int64_t profile)
{
	return sql_run(db,
	               "UPDATE object SET next_action=1,failures=0 WHERE failures>0 AND id IN"
	               " (SELECT object FROM reference WHERE target=?)",
	               "i", profile);
}

int db_action_hurry(struct db *db, int64_t latest)
{
	return sql_run(db,
	               "UPDATE object SET next_action=1 WHERE next_action>0 AND next_action>?"
	               " AND failures>0",
	               "i", latest);
}
