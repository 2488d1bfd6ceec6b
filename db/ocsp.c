/* What OCSP responders said, and what they are to be asked. */
#include "db/sql.h"

#include <string.h>

#define ROW                                                                                        \
	"SELECT "                                                                                  \
	"id,profile,name,object,certificate,issuer,response,status,reason,revoked_at,until,"       \
	"ask,later,failures,used,error FROM ocsp "

static int read_row(sqlite3_stmt *statement, struct ocsp_row *row)
{
	struct blob name = { 0 };
	int r;

	*row = (struct ocsp_row){ 0 };
	r = sql_take(statement, "iibibbbiiiiiiiit", &row->id, &row->profile, &name, &row->object,
	             &row->certificate, &row->issuer, &row->response, &row->status, &row->reason,
	             &row->revoked_at, &row->until, &row->ask, &row->later, &row->failures,
	             &row->used, row->error, sizeof row->error);
	if (r == 0 && name.length == sizeof row->name)
		memcpy(row->name, name.data, sizeof row->name);
	blob_clear(&name);
	if (r < 0)
		ocsp_row_clear(row);
	return r;
}

int db_ocsp_get(struct db *db, int64_t profile, const unsigned char name[32], struct ocsp_row *row)
{
	sqlite3_stmt *statement;
	int r = sql_bind(db, &statement, ROW "WHERE profile=? AND name=?", "ib", profile, name,
	                 (size_t)32);

	return r < 0 ? r : read_row(statement, row);
}

int db_ocsp_find(struct db *db, int64_t id, struct ocsp_row *row)
{
	sqlite3_stmt *statement;
	int r = sql_bind(db, &statement, ROW "WHERE id=?", "i", id);

	return r < 0 ? r : read_row(statement, row);
}

static int add(struct db *db, struct ocsp_row *row, int64_t keep)
{
	int r = sql_run(db,
	                "DELETE FROM ocsp WHERE id IN (SELECT id FROM ocsp WHERE profile=?"
	                " ORDER BY used DESC, id DESC LIMIT -1 OFFSET ?)",
	                "ii", row->profile, keep - 1);

	if (r == 0)
		r = sql_run(
			db,
			"INSERT INTO ocsp (profile,name,object,certificate,issuer,response,status,"
			"reason,revoked_at,until,ask,later,failures,used,error)"
			" VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
			"ibibbbiiiiiiiit", row->profile, row->name, sizeof row->name, row->object,
			row->certificate.data, row->certificate.length, row->issuer.data,
			row->issuer.length, row->response.data, row->response.length, row->status,
			row->reason, row->revoked_at, row->until, row->ask, row->later,
			row->failures, row->used, row->error);
	if (r == 0)
		row->id = sqlite3_last_insert_rowid(db->sqlite);
	return r;
}

int db_ocsp_put(struct db *db, struct ocsp_row *row, int64_t keep)
{
	if (!row->id)
		return add(db, row, keep);
	return sql_run(db,
	               "UPDATE ocsp SET object=?,response=?,status=?,reason=?,revoked_at=?,until=?,"
	               "ask=?,later=?,failures=?,used=?,error=? WHERE id=?",
	               "ibiiiiiiiiti", row->object, row->response.data, row->response.length,
	               row->status, row->reason, row->revoked_at, row->until, row->ask, row->later,
	               row->failures, row->used, row->error, row->id);
}

int db_ocsp_profile(struct db *db, int64_t after, int64_t now, int64_t *profile)
{
	return sql_number(db, profile,
	                  "SELECT profile FROM ocsp WHERE profile>? AND ask>0 AND ask<=?"
	                  " ORDER BY profile LIMIT 1",
	                  "ii", after, now);
}

int db_ocsp_due(struct db *db, int64_t profile, int64_t now, int64_t *id)
{
	return sql_number(db, id,
	                  "SELECT id FROM ocsp WHERE profile=? AND ask>0 AND ask<=?"
	                  " ORDER BY ask,id LIMIT 1",
	                  "ii", profile, now);
}

int db_ocsp_ask(struct db *db, int64_t id, int64_t ask)
{
	return sql_run(db, "UPDATE ocsp SET ask=? WHERE id=?", "ii", ask, id);
}

int db_ocsp_ask_again(struct db *db, int64_t profile, int64_t ask)
{
	return sql_run(db,
	               "UPDATE ocsp SET ask=?,later=?,failures=0"
	               " WHERE profile=? AND ask>0 AND failures>0",
	               "iii", ask, ask, profile);
}

void ocsp_row_clear(struct ocsp_row *row)
{
	blob_clear(&row->certificate);
	blob_clear(&row->issuer);
	blob_clear(&row->response);
}
