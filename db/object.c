#include "db/sql.h"

#include <errno.h>

#define OBJECT "SELECT id,kind,name,created,config,edition,state,since,last_error FROM object "

int db_object_add(struct db *db, enum kind kind, const char *name, int64_t now, int64_t *id)
{
	int r = sql_run(db, "INSERT INTO object (kind,name,created,since) VALUES (?,?,?,?)", "itii",
	                (int64_t)kind, name, now, now);

	if (r == 0)
		*id = sqlite3_last_insert_rowid(db->sqlite);
	return r;
}

/* Steps STATEMENT, which has OBJECT's columns. */
static int read_object(sqlite3_stmt *statement, struct object *object)
{
	int64_t kind;
	int r = sql_take(statement, "iitiiitit", &object->id, &kind, object->name,
	                 sizeof object->name, &object->created, &object->config, &object->edition,
	                 object->state, sizeof object->state, &object->since, object->last_error,
	                 sizeof object->last_error);

	if (r == 0)
		object->kind = (enum kind)kind;
	return r;
}

int db_object_find(struct db *db, enum kind kind, const char *name, struct object *object)
{
	sqlite3_stmt *statement;
	int r = sql_bind(db, &statement, OBJECT "WHERE kind=? AND name=?", "it", (int64_t)kind,
	                 name);

	return r < 0 ? r : read_object(statement, object);
}

int db_object_get(struct db *db, int64_t id, struct object *object)
{
	sqlite3_stmt *statement;
	int r = sql_bind(db, &statement, OBJECT "WHERE id=?", "i", id);

	return r < 0 ? r : read_object(statement, object);
}

int db_object_next(struct db *db, enum kind kind, int64_t after, struct object *object)
{
	sqlite3_stmt *statement;
	int r = sql_bind(db, &statement, OBJECT "WHERE kind=? AND id>? ORDER BY id LIMIT 1", "ii",
	                 (int64_t)kind, after);

	return r < 0 ? r : read_object(statement, object);
}

int db_object_names(struct db *db, enum kind kind, int64_t after,
                    int (*each)(int64_t id, const char *name, void *user), void *user)
{
	sqlite3_stmt *statement;
	int result, r;

	r = sql_bind(db, &statement, "SELECT id,name FROM object WHERE kind=? AND id>? ORDER BY id",
	             "ii", (int64_t)kind, after);
	if (r < 0)
		return r;
	while (r == 0 && (result = sqlite3_step(statement)) == SQLITE_ROW) {
		const char *name = (const char *)sqlite3_column_text(statement, 1);

		r = name ? each(sqlite3_column_int64(statement, 0), name, user) : -ENOMEM;
	}
	result = sql_done(statement, r == 0 ? result : SQLITE_DONE);
	return r ? r : result;
}

/* Steps STATEMENT, whose columns are those of a `struct overview`. */
static int each_overview(sqlite3_stmt *statement,
                         int (*each)(const struct overview *row, void *user), void *user)
{
	int result = SQLITE_DONE, r = 0;

	while (r == 0 && (result = sqlite3_step(statement)) == SQLITE_ROW) {
		struct overview row = {
			.id = sqlite3_column_int64(statement, 0),
			.name = (const char *)sqlite3_column_text(statement, 1),
			.state = (const char *)sqlite3_column_text(statement, 2),
			.last_error = (const char *)sqlite3_column_text(statement, 3),
			.request = (enum request_state)sqlite3_column_int(statement, 4),
			.not_after = sqlite3_column_int64(statement, 5),
		};

		r = row.name && row.state && row.last_error ? each(&row, user) : -ENOMEM;
	}
	result = sql_done(statement, result);
	return r < 0 ? r : result;
}

int db_overview(struct db *db, int (*each)(const struct overview *row, void *user), void *user)
{
	sqlite3_stmt *statement;
	int r;

	r = sql_bind(
		db, &statement,
		"SELECT o.id,o.name,o.state,o.last_error,ifnull(r.state,0),ifnull(v.not_after,0)"
		" FROM object o LEFT JOIN edition e ON e.id=o.edition"
		" LEFT JOIN version v ON v.id=e.version"
		" LEFT JOIN request r ON r.object=o.id WHERE o.kind=? ORDER BY o.id",
		"i", (int64_t)KIND_LOCAL);
	return r < 0 ? r : each_overview(statement, each, user);
}

int db_vouched(struct db *db, int64_t profile, int64_t limit,
               int (*each)(const struct overview *row, void *user), void *user)
{
	sqlite3_stmt *statement;
	int r;

	r = sql_bind(db, &statement,
	             "SELECT v.id,o.name,o.state,o.last_error,0,v.not_after"
	             " FROM reference r JOIN object o ON o.id=r.object"
	             " JOIN edition e ON e.id=o.edition JOIN version v ON v.id=e.version"
	             " WHERE r.target=? AND o.kind=? AND o.state='valid' AND v.anchor='profile'"
	             " ORDER BY o.id LIMIT ?",
	             "iii", profile, (int64_t)KIND_LOCAL, limit);
	return r < 0 ? r : each_overview(statement, each, user);
}

int db_object_count(struct db *db, enum kind kind, int64_t *count)
{
	return sql_number(db, count, "SELECT count(*) FROM object WHERE kind=?", "i",
	                  (int64_t)kind);
}

int db_object_remove(struct db *db, int64_t id)
{
	int r = sql_run(db, "DELETE FROM file_mode WHERE object=?", "i", id);

	return r < 0 ? r : sql_run(db, "DELETE FROM object WHERE id=?", "i", id);
}

int db_object_set_error(struct db *db, int64_t id, const char *error)
{
	return sql_run(db, "UPDATE object SET last_error=? WHERE id=? AND last_error<>?1", "ti",
	               error, id);
}

int db_object_set_state(struct db *db, int64_t id, const char *state, int64_t since)
{
	return sql_run(db, "UPDATE object SET state=?, since=? WHERE id=?", "tii", state, since,
	               id);
}

int db_config_set(struct db *db, int64_t object, const char *text, size_t length, int64_t now,
                  int64_t *row)
{
	int r = sql_run(db, "INSERT INTO config (object,created,text) VALUES (?,?,?)", "iib",
	                object, now, text, length);

	if (r < 0)
		return r;
	*row = sqlite3_last_insert_rowid(db->sqlite);
	return sql_run(db, "UPDATE object SET config=? WHERE id=?", "ii", *row, object);
}

int db_config_get(struct db *db, int64_t row, int64_t *object, int64_t *created, struct blob *text)
{
	sqlite3_stmt *statement;
	int r;

	r = sql_bind(db, &statement, "SELECT object,created,text FROM config WHERE id=?", "i", row);
	return r < 0 ? r : sql_take(statement, "iib", object, created, text);
}

int db_declared_set(struct db *db, int64_t object, const char *text, size_t length)
{
	return sql_run(db, "INSERT OR REPLACE INTO declared VALUES (?,?)", "ib", object, text,
	               length);
}

int db_declared_get(struct db *db, int64_t object, struct blob *text)
{
	sqlite3_stmt *statement;
	int r = sql_bind(db, &statement, "SELECT text FROM declared WHERE object=?", "i", object);

	return r < 0 ? r : sql_take(statement, "b", text);
}

int db_declared_find(struct db *db, int64_t object)
{
	return sql_number(db, &object, "SELECT object FROM declared WHERE object=?", "i", object);
}

int db_declared_remove(struct db *db, int64_t object)
{
	return sql_run(db, "DELETE FROM declared WHERE object=?", "i", object);
}

int db_declared_next(struct db *db, int64_t after, int64_t *object)
{
	return sql_number(db, object,
	                  "SELECT object FROM declared WHERE object>? ORDER BY object LIMIT 1", "i",
	                  after);
}

int db_auto_enroll_set(struct db *db, int64_t object, enum auto_enroll state)
{
	return sql_run(db, "UPDATE object SET auto_enroll=?1 WHERE id=?2 AND auto_enroll<>?1", "ii",
	               (int64_t)state, object);
}

int db_auto_enroll_move(struct db *db, int64_t object, enum auto_enroll from, enum auto_enroll to)
{
	return sql_run(db, "UPDATE object SET auto_enroll=? WHERE id=? AND auto_enroll=?", "iii",
	               (int64_t)to, object, (int64_t)from);
}

int db_auto_enroll_profile(struct db *db, int64_t profile)
{
	return sql_run(db,
	               "UPDATE object SET auto_enroll=2 WHERE auto_enroll=1 AND kind=2 AND id IN"
	               " (SELECT object FROM reference WHERE target=?)",
	               "i", profile);
}

int db_auto_enroll_all(struct db *db)
{
	return sql_run(db, "UPDATE object SET auto_enroll=2 WHERE kind=2 AND auto_enroll=1", "");
}

int db_auto_enroll_next(struct db *db, int64_t after, int64_t *object)
{
	return sql_number(db, object,
	                  "SELECT id FROM object WHERE auto_enroll=2 AND id>? ORDER BY id LIMIT 1",
	                  "i", after);
}

int db_reference_clear(struct db *db, int64_t object)
{
	return sql_run(db, "DELETE FROM reference WHERE object=?", "i", object);
}

int db_reference_add(struct db *db, int64_t object, int64_t target)
{
	return sql_run(db, "INSERT OR IGNORE INTO reference VALUES (?,?)", "ii", object, target);
}

int db_reference_find(struct db *db, int64_t target, struct object *by)
{
	int64_t object;
	int r = sql_number(db, &object,
	                   "SELECT object FROM reference WHERE target=?1 AND object<>?1 LIMIT 1",
	                   "i", target);

	return r < 0 ? r : db_object_get(db, object, by);
}

int db_reference_next(struct db *db, int64_t target, int64_t after, struct object *by)
{
	int64_t object;
	int r = sql_number(db, &object,
	                   "SELECT object FROM reference WHERE target=? AND object>?"
	                   " ORDER BY object LIMIT 1",
	                   "ii", target, after);

	return r < 0 ? r : db_object_get(db, object, by);
}

int db_request_add(struct db *db, const struct request *request, int64_t *id)
{
	int r;

	r = sql_run(db, "DELETE FROM request WHERE object=?", "i", request->object);
	if (r == 0)
		r = sql_run(db,
		            "INSERT INTO request (object,action,state,text,fields,resume,attempts,"
		            "next_attempt,created,changed,answered,pending,error,profile)"
		            " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
		            "itibbbiiiiiiti", request->object, request->action,
		            (int64_t)request->state, request->text.data, request->text.length,
		            request->fields.data, request->fields.length, request->resume.data,
		            request->resume.length, request->attempts, request->next_attempt,
		            request->created, request->changed, (int64_t)request->answered,
		            (int64_t)request->pending, request->error, request->profile);
	if (r == 0)
		*id = sqlite3_last_insert_rowid(db->sqlite);
	return r;
}

#define REQUEST                                                                                    \
	"SELECT id,object,action,state,text,fields,resume,attempts,next_attempt,created,changed,"  \
	"answered,pending,error,profile FROM request "

static int read_request(sqlite3_stmt *statement, struct request *request)
{
	int64_t state, answered, pending;
	int r;

	*request = (struct request){ 0 };
	r = sql_take(statement, "iitibbbiiiiiiti", &request->id, &request->object, request->action,
	             sizeof request->action, &state, &request->text, &request->fields,
	             &request->resume, &request->attempts, &request->next_attempt,
	             &request->created, &request->changed, &answered, &pending, request->error,
	             sizeof request->error, &request->profile);
	if (r < 0) {
		request_clear(request);
		return r;
	}
	request->state = (enum request_state)state;
	request->answered = answered;
	request->pending = pending;
	return 0;
}

int db_request_get(struct db *db, int64_t object, struct request *request)
{
	sqlite3_stmt *statement;
	int r = sql_bind(db, &statement, REQUEST "WHERE object=?", "i", object);

	return r < 0 ? r : read_request(statement, request);
}

int db_request_next(struct db *db, int64_t after, struct request *request)
{
	sqlite3_stmt *statement;
	int r = sql_bind(db, &statement,
	                 REQUEST "WHERE state BETWEEN 1 AND 3 AND id>? ORDER BY id LIMIT 1", "i",
	                 after);

	return r < 0 ? r : read_request(statement, request);
}

int db_request_profile(struct db *db, int64_t after, int64_t *profile)
{
	return sql_number(db, profile,
	                  "SELECT profile FROM request WHERE state BETWEEN 1 AND 3 AND profile>?"
	                  " ORDER BY profile LIMIT 1",
	                  "i", after);
}

int db_request_due(struct db *db, int64_t profile, int64_t now, const struct request *last,
                   struct request *request)
{
	sqlite3_stmt *statement;
	int r = sql_bind(db, &statement,
	                 REQUEST "WHERE state BETWEEN 1 AND 3 AND profile=? AND next_attempt<=?"
	                         " AND (next_attempt,id)>(?,?) ORDER BY next_attempt,id LIMIT 1",
	                 "iiii", profile, now, last->next_attempt, last->id);

	return r < 0 ? r : read_request(statement, request);
}

int db_request_count(struct db *db, int64_t profile, int64_t limit, int64_t *count)
{
	return sql_number(db, count,
	                  "SELECT count(*) FROM (SELECT 1 FROM request WHERE state BETWEEN 1 AND 3"
	                  " AND profile=? AND next_attempt=0 LIMIT ?)",
	                  "ii", profile, limit);
}

int db_request_hurry(struct db *db, int64_t latest)
{
	return sql_run(db,
	               "UPDATE request SET next_attempt=0 WHERE state BETWEEN 1 AND 3"
	               " AND next_attempt>?",
	               "i", latest);
}

int db_request_update(struct db *db, const struct request *request)
{
	return sql_run(db,
	               "UPDATE request SET state=?,resume=?,attempts=?,next_attempt=?,changed=?,"
	               "answered=?,pending=?,error=?,profile=? WHERE id=?",
	               "ibiiiiitii", (int64_t)request->state, request->resume.data,
	               request->resume.length, request->attempts, request->next_attempt,
	               request->changed, (int64_t)request->answered, (int64_t)request->pending,
	               request->error, request->profile, request->id);
}

int db_request_rewrite(struct db *db, int64_t id, const char *text, size_t text_length,
                       const void *fields, size_t fields_length)
{
	return sql_run(db, "UPDATE request SET text=?,fields=? WHERE id=?", "bbi", text,
	               text_length, fields, fields_length, id);
}

int db_request_checkpoint(struct db *db, int64_t id, const void *resume, size_t length, int64_t now)
{
	return sql_run(db, "UPDATE request SET resume=?,changed=? WHERE id=?", "bii", resume,
	               length, now, id);
}

void request_clear(struct request *request)
{
	blob_clear(&request->text);
	blob_clear(&request->fields);
	blob_clear(&request->resume);
}

const char *request_state_name(enum request_state state)
{
	static const char *const names[] = {
		[REQUEST_NONE] = "none",         [REQUEST_QUEUED] = "queued",
		[REQUEST_RUNNING] = "running",   [REQUEST_WAITING] = "waiting",
		[REQUEST_DONE] = "done",         [REQUEST_FAILED] = "failed",
		[REQUEST_REJECTED] = "rejected",
	};

	return (size_t)state < COUNT(names) ? names[state] : "none";
}

bool request_active(const struct request *request)
{
	return request->state >= REQUEST_QUEUED && request->state <= REQUEST_WAITING;
}
