#include "db/sql.h"

#include <errno.h>

int db_key_add(struct db *db, const struct key_pair *key, int64_t *id)
{
	int r = sql_run(db,
	                "INSERT INTO key_pair (object,type,sealed,public,pem_size,created)"
	                " VALUES (?,?,?,?,?,?)",
	                "itbbii", key->object, key->type, key->sealed.data, key->sealed.length,
	                key->public.data, key->public.length, key->pem_size, key->created);

	if (r == 0)
		*id = sqlite3_last_insert_rowid(db->sqlite);
	return r;
}

int db_key_get(struct db *db, int64_t id, struct key_pair *key)
{
	sqlite3_stmt *statement;
	int r;

	*key = (struct key_pair){ .id = id };
	r = sql_bind(db, &statement,
	             "SELECT object,type,sealed,public,pem_size,created FROM key_pair WHERE id=?",
	             "i", id);
	if (r == 0)
		r = sql_take(statement, "itbbii", &key->object, key->type, sizeof key->type,
		             &key->sealed, &key->public, &key->pem_size, &key->created);
	if (r < 0)
		key_pair_clear(key);
	return r;
}

void key_pair_clear(struct key_pair *key)
{
	blob_clear(&key->sealed);
	blob_clear(&key->public);
}

int db_version_add(struct db *db, const struct version *version, int64_t *id)
{
	int r = sql_run(db,
	                "INSERT INTO version (object,number,key_pair,certificate,chain,facts,"
	                "not_after,created,anchor) SELECT ?1,1+ifnull(max(number),0),"
	                "?2,?3,?4,?5,?6,?7,?8 FROM version WHERE object=?1",
	                "iibbbiit", version->object, version->key_pair, version->certificate.data,
	                version->certificate.length, version->chain.data, version->chain.length,
	                version->facts.data, version->facts.length, version->not_after,
	                version->created, version->anchor);

	if (r == 0)
		*id = sqlite3_last_insert_rowid(db->sqlite);
	return r;
}

int db_version_get(struct db *db, int64_t id, struct version *version)
{
	sqlite3_stmt *statement;
	int r;

	*version = (struct version){ .id = id };
	r = sql_bind(db, &statement,
	             "SELECT object,number,key_pair,certificate,chain,facts,not_after,created,"
	             "anchor FROM version WHERE id=?",
	             "i", id);
	if (r == 0)
		r = sql_take(statement, "iiibbbiit", &version->object, &version->number,
		             &version->key_pair, &version->certificate, &version->chain,
		             &version->facts, &version->not_after, &version->created,
		             version->anchor, sizeof version->anchor);
	if (r < 0)
		version_clear(version);
	return r;
}

int db_version_find(struct db *db, int64_t object, int64_t number, int64_t *id)
{
	return sql_number(db, id, "SELECT id FROM version WHERE object=? AND number=?", "ii",
	                  object, number);
}

int db_version_chained(struct db *db, const struct blob *certificate, int64_t *count)
{
	return sql_number(db, count,
	                  "SELECT count(*) FROM (SELECT 1 FROM object JOIN edition"
	                  " ON edition.id=object.edition JOIN version ON version.id=edition.version"
	                  " WHERE object.kind=2 AND instr(version.chain,?) LIMIT 1)",
	                  "b", certificate->data, certificate->length);
}

int db_version_next(struct db *db, int64_t object, int64_t after, int64_t *id, int64_t *number)
{
	int r = sql_number(db, number,
	                   "SELECT number FROM version WHERE object=? AND number>?"
	                   " ORDER BY number LIMIT 1",
	                   "ii", object, after);

	return r < 0 ? r : db_version_find(db, object, *number, id);
}

void version_clear(struct version *version)
{
	blob_clear(&version->certificate);
	blob_clear(&version->chain);
	blob_clear(&version->facts);
}

int db_edition_add(struct db *db, const struct edition *edition, int64_t *id)
{
	int r = sql_run(db,
	                "INSERT INTO edition (object,created,key_pair,next_key,version,csr,"
	                "certificate,chain,ra,pending,trusted_by,capabilities,crl,next_ca,"
	                "next_by,former,ocsp) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
	                "iiiiibbbbbttibtbb", edition->object, edition->created, edition->key_pair,
	                edition->next_key, edition->version, edition->csr.data, edition->csr.length,
	                edition->certificate.data, edition->certificate.length, edition->chain.data,
	                edition->chain.length, edition->ra.data, edition->ra.length,
	                edition->pending.data, edition->pending.length, edition->trusted_by,
	                edition->capabilities, edition->crl, edition->next.data,
	                edition->next.length, edition->next_by, edition->former.data,
	                edition->former.length, edition->ocsp.data, edition->ocsp.length);

	if (r < 0)
		return r;
	*id = sqlite3_last_insert_rowid(db->sqlite);
	return sql_run(db, "UPDATE object SET edition=? WHERE id=?", "ii", *id, edition->object);
}

int db_edition_get(struct db *db, int64_t id, struct edition *edition)
{
	sqlite3_stmt *statement;
	int r;

	*edition = (struct edition){ .id = id };
	r = sql_bind(db, &statement,
	             "SELECT object,created,key_pair,next_key,version,csr,certificate,chain,ra,"
	             "pending,trusted_by,capabilities,crl,next_ca,next_by,former,ocsp"
	             " FROM edition WHERE id=?",
	             "i", id);
	if (r == 0)
		r = sql_take(statement, "iiiiibbbbbttibtbb", &edition->object, &edition->created,
		             &edition->key_pair, &edition->next_key, &edition->version,
		             &edition->csr, &edition->certificate, &edition->chain, &edition->ra,
		             &edition->pending, edition->trusted_by, sizeof edition->trusted_by,
		             edition->capabilities, sizeof edition->capabilities, &edition->crl,
		             &edition->next, edition->next_by, sizeof edition->next_by,
		             &edition->former, &edition->ocsp);
	if (r < 0)
		edition_clear(edition);
	return r;
}

void edition_clear(struct edition *edition)
{
	blob_clear(&edition->csr);
	blob_clear(&edition->certificate);
	blob_clear(&edition->chain);
	blob_clear(&edition->ra);
	blob_clear(&edition->pending);
	blob_clear(&edition->next);
	blob_clear(&edition->former);
	blob_clear(&edition->ocsp);
}

struct prune {
	enum row_kind kind;
	const char *old;    /* the first old row of object ?1 above ?2, where ?3 are kept */
	const char *remove; /* what to do with it */
};

static const struct prune prunes[] = {
	{ ROW_CONFIG,
	  "SELECT id FROM config WHERE object=?1 AND id>?2 AND ?3>=0"
	  " AND id<>(SELECT config FROM object WHERE id=?1) ORDER BY id LIMIT 1",
	  "DELETE FROM config WHERE id=?" },
	{ ROW_EDITION,
	  "SELECT id FROM edition WHERE object=?1 AND id>?2 AND ?3>=0"
	  " AND id<>(SELECT edition FROM object WHERE id=?1) ORDER BY id LIMIT 1",
	  "DELETE FROM edition WHERE id=?" },
	{ ROW_VERSION,
	  "SELECT id FROM version WHERE object=?1 AND id>?2 AND key_pair<>0 AND number<"
	  "(SELECT number FROM version WHERE object=?1 ORDER BY number DESC LIMIT 1 OFFSET ?3)"
	  " ORDER BY id LIMIT 1",
	  "UPDATE version SET key_pair=0 WHERE id=?" },
};

static const char *const orphans[] = {
	"DELETE FROM key_pair WHERE object=?1"
	" AND id NOT IN (SELECT key_pair FROM version WHERE object=?1 AND key_pair<>0)"
	" AND id NOT IN (SELECT key_pair FROM edition WHERE object=?1)"
	" AND id NOT IN (SELECT next_key FROM edition WHERE object=?1)",
	"DELETE FROM crl WHERE object=?1 AND kept=0"
	" AND id NOT IN (SELECT crl FROM edition WHERE object=?1)",
};

int db_prune(struct db *db, int64_t object, int64_t keep,
             bool (*is_open)(enum row_kind, int64_t row, void *user), void *user)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < COUNT(prunes); i++) {
		int64_t row = 0;

		while ((r = sql_number(db, &row, prunes[i].old, "iii", object, row, keep)) == 0) {
			if (is_open(prunes[i].kind, row, user))
				continue;
			r = sql_run(db, prunes[i].remove, "i", row);
			if (r < 0)
				return r;
		}
		if (r == -ENOENT)
			r = 0;
	}
	for (size_t i = 0; r == 0 && i < COUNT(orphans); i++)
		r = sql_run(db, orphans[i], "i", object);
	return r;
}

int db_owner(struct db *db, enum row_kind kind, int64_t row, int64_t *object)
{
	static const char *const questions[] = {
		[ROW_CONFIG] = "SELECT object FROM config WHERE id=?",
		[ROW_EDITION] = "SELECT object FROM edition WHERE id=?",
		[ROW_VERSION] = "SELECT object FROM version WHERE id=?",
	};

	return sql_number(db, object, questions[kind], "i", row);
}
