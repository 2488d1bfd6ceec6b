/* CRLs, and where they come from. */
#include "db/sql.h"

#include <errno.h>

#define CRL_COLUMNS                                                                                \
	"id,object,size,number,this_update,next_update,entries,source,created,slot,issuer,base,"   \
	"kind,file"

int db_crl_add(struct db *db, const struct crl *crl, const struct crl_parts *parts, int64_t *id)
{
	int r = sql_run(db,
	                "INSERT INTO crl (object,size,number,this_update,next_update,entries,"
	                "source,created,slot,issuer,base,kind,file,kept,stub,digest,signer)"
	                " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,1,?,?,?)",
	                "iitiiitititiibbb", crl->object, crl->size, crl->number, crl->this_update,
	                crl->next_update, crl->entries, crl->source, crl->created, crl->slot,
	                crl->issuer, crl->base, crl->kind, crl->file, parts->stub.data,
	                parts->stub.length, parts->digest.data, parts->digest.length,
	                parts->signer.data, parts->signer.length);

	if (r == 0)
		*id = sqlite3_last_insert_rowid(db->sqlite);
	return r;
}

static int take(sqlite3_stmt *statement, struct crl *crl)
{
	return sql_take(statement, "iiitiiitititii", &crl->id, &crl->object, &crl->size,
	                crl->number, sizeof crl->number, &crl->this_update, &crl->next_update,
	                &crl->entries, crl->source, sizeof crl->source, &crl->created, crl->slot,
	                sizeof crl->slot, &crl->issuer, crl->base, sizeof crl->base, &crl->kind,
	                &crl->file);
}

int db_crl_get(struct db *db, int64_t id, struct crl *crl)
{
	sqlite3_stmt *statement;
	int r = sql_bind(db, &statement, "SELECT " CRL_COLUMNS " FROM crl WHERE id=?", "i", id);

	return r < 0 ? r : take(statement, crl);
}

int db_crl_of_file(struct db *db, int64_t file)
{
	int64_t id;

	return sql_number(db, &id, "SELECT id FROM crl WHERE file=? LIMIT 1", "i", file);
}

int db_crl_parts(struct db *db, int64_t id, struct crl_parts *parts)
{
	sqlite3_stmt *statement;
	int r;

	*parts = (struct crl_parts){ 0 };
	r = sql_bind(db, &statement, "SELECT stub,digest,signer FROM crl WHERE id=?", "i", id);
	if (r == 0)
		r = sql_take(statement, "bbb", &parts->stub, &parts->digest, &parts->signer);
	if (r < 0)
		crl_parts_clear(parts);
	return r;
}

void crl_parts_clear(struct crl_parts *parts)
{
	blob_clear(&parts->stub);
	blob_clear(&parts->digest);
	blob_clear(&parts->signer);
}

int db_crl_of_slot(struct db *db, int64_t object, const char *slot, struct crl *crl)
{
	sqlite3_stmt *statement;
	int r = sql_bind(db, &statement,
	                 "SELECT " CRL_COLUMNS " FROM crl WHERE kept=1 AND object=? AND slot=?",
	                 "it", object, slot);

	return r < 0 ? r : take(statement, crl);
}

int db_crl_next(struct db *db, int64_t object, int64_t after, struct crl *crl)
{
	sqlite3_stmt *statement;
	int r = sql_bind(db, &statement,
	                 "SELECT " CRL_COLUMNS " FROM crl WHERE kept=1 AND object=? AND id>?"
	                 " ORDER BY id LIMIT 1",
	                 "ii", object, after);

	return r < 0 ? r : take(statement, crl);
}

int db_crl_drop(struct db *db, int64_t object, int64_t id)
{
	return sql_run(db, "UPDATE crl SET kept=0 WHERE kept=1 AND object=?1 AND ?2 IN (0,id)",
	               "ii", object, id);
}

int db_crl_count(struct db *db, int64_t object, int64_t *count, int64_t *size)
{
	int r = sql_number(db, count, "SELECT count(*) FROM crl WHERE kept=1 AND object=?", "i",
	                   object);

	return r < 0 ? r
	             : sql_number(db, size,
	                          "SELECT ifnull(sum(size),0) FROM crl WHERE kept=1 AND object=?",
	                          "i", object);
}

/* --- where they come from --- */

#define URL_COLUMNS "id,object,url,kind,signer,next,failures,source,etag,modified,error,used,crl"

int db_crl_url_add(struct db *db, const struct crl_url *url)
{
	return sql_run(db,
	               "INSERT INTO crl_url (object,url,kind,signer,next,failures,source,etag,"
	               "modified,error,used,crl) VALUES (?,?,?,?,?,0,'','','','',?,0)"
	               " ON CONFLICT (object,url) DO UPDATE SET used=excluded.used,"
	               "next=min(next,excluded.next),kind=excluded.kind,"
	               "signer=excluded.signer",
	               "itibii", url->object, url->url, url->kind, url->signer.data,
	               url->signer.length, url->next, url->used);
}

int db_crl_url_update(struct db *db, const struct crl_url *url)
{
	return sql_run(db,
	               "UPDATE crl_url SET next=?,failures=?,source=?,etag=?,modified=?,error=?,"
	               "crl=?"
	               " WHERE id=?",
	               "iittttii", url->next, url->failures, url->source, url->etag, url->modified,
	               url->error, url->crl, url->id);
}

static int take_url(sqlite3_stmt *statement, int r, struct crl_url *url)
{
	*url = (struct crl_url){ 0 };
	if (r == 0)
		r = sql_take(statement, "iitibiittttii", &url->id, &url->object, url->url,
		             sizeof url->url, &url->kind, &url->signer, &url->next, &url->failures,
		             url->source, sizeof url->source, url->etag, sizeof url->etag,
		             url->modified, sizeof url->modified, url->error, sizeof url->error,
		             &url->used, &url->crl);
	if (r < 0)
		crl_url_clear(url);
	return r;
}

int db_crl_url_get(struct db *db, int64_t id, struct crl_url *url)
{
	sqlite3_stmt *statement;
	int r = sql_bind(db, &statement, "SELECT " URL_COLUMNS " FROM crl_url WHERE id=?", "i", id);

	return take_url(statement, r, url);
}

int db_crl_url_find(struct db *db, int64_t object, const char *name, struct crl_url *url)
{
	sqlite3_stmt *statement;
	int r = sql_bind(db, &statement,
	                 "SELECT " URL_COLUMNS " FROM crl_url WHERE object=? AND url=?", "it",
	                 object, name);

	return take_url(statement, r, url);
}

int db_crl_url_next(struct db *db, int64_t object, int64_t after, struct crl_url *url)
{
	sqlite3_stmt *statement;
	int r = sql_bind(db, &statement,
	                 "SELECT " URL_COLUMNS " FROM crl_url WHERE object=? AND id>?"
	                 " ORDER BY id LIMIT 1",
	                 "ii", object, after);

	return take_url(statement, r, url);
}

int db_crl_url_due(struct db *db, int64_t now, int64_t next, int64_t after, struct crl_url *url)
{
	sqlite3_stmt *statement;
	int r = sql_bind(db, &statement,
	                 "SELECT " URL_COLUMNS " FROM crl_url WHERE next<=? AND (next,id)>(?,?)"
	                 " ORDER BY next,id LIMIT 1",
	                 "iii", now, next, after);

	return take_url(statement, r, url);
}

int db_crl_url_count(struct db *db, int64_t object, int64_t *count)
{
	return sql_number(db, count, "SELECT count(*) FROM crl_url WHERE object=?", "i", object);
}

int db_crl_url_remove(struct db *db, int64_t object, int64_t id)
{
	return sql_run(db, "DELETE FROM crl_url WHERE object=?1 AND ?2 IN (0,id)", "ii", object,
	               id);
}

int db_crl_url_set_next(struct db *db, int64_t object, int64_t next)
{
	return sql_run(db, "UPDATE crl_url SET next=? WHERE object=?", "ii", next, object);
}

int db_crl_url_hurry(struct db *db, int64_t latest)
{
	return sql_run(db, "UPDATE crl_url SET next=?1 WHERE next>?1", "i", latest);
}

void crl_url_clear(struct crl_url *url)
{
	blob_clear(&url->signer);
}
