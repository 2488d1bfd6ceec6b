#include "db/sql.h"

#include <errno.h>
#include <stdio.h>

/* "pkis": says in the file's header whose it is. */
#define APPLICATION_ID 0x706b6973

/*
 * One step per schema version; a released step is never changed, a new one is added. Tables
 * whose row is part of an inode are AUTOINCREMENT: a number never comes back.
 */
static const char *const steps[] = {
	"CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;"
	"CREATE TABLE object (id INTEGER PRIMARY KEY AUTOINCREMENT, kind INTEGER NOT NULL,"
	"  name TEXT NOT NULL, created INTEGER NOT NULL, config INTEGER NOT NULL DEFAULT 0,"
	"  edition INTEGER NOT NULL DEFAULT 0, state TEXT NOT NULL DEFAULT 'empty',"
	"  since INTEGER NOT NULL, last_error TEXT NOT NULL DEFAULT '',"
	"  UNIQUE (kind, name)) STRICT;"
	"CREATE INDEX object_by_kind ON object (kind, id);"
	"CREATE TABLE config (id INTEGER PRIMARY KEY AUTOINCREMENT,"
	"  object INTEGER NOT NULL REFERENCES object ON DELETE CASCADE,"
	"  created INTEGER NOT NULL, text BLOB NOT NULL) STRICT;"
	"CREATE INDEX config_by_object ON config (object);"
	"CREATE TABLE reference (object INTEGER NOT NULL REFERENCES object ON DELETE CASCADE,"
	"  target INTEGER NOT NULL REFERENCES object, PRIMARY KEY (object, target))"
	"  STRICT, WITHOUT ROWID;"
	"CREATE INDEX reference_by_target ON reference (target);"
	"CREATE TABLE key_pair (id INTEGER PRIMARY KEY AUTOINCREMENT,"
	"  object INTEGER NOT NULL REFERENCES object ON DELETE CASCADE, type TEXT NOT NULL,"
	"  sealed BLOB NOT NULL, public BLOB NOT NULL, pem_size INTEGER NOT NULL,"
	"  created INTEGER NOT NULL) STRICT;"
	"CREATE INDEX key_pair_by_object ON key_pair (object);"
	"CREATE TABLE version (id INTEGER PRIMARY KEY AUTOINCREMENT,"
	"  object INTEGER NOT NULL REFERENCES object ON DELETE CASCADE,"
	"  number INTEGER NOT NULL, key_pair INTEGER NOT NULL, certificate BLOB NOT NULL,"
	"  chain BLOB NOT NULL, facts BLOB NOT NULL, not_after INTEGER NOT NULL,"
	"  created INTEGER NOT NULL, anchor TEXT NOT NULL, UNIQUE (object, number)) STRICT;"
	"CREATE TABLE crl (id INTEGER PRIMARY KEY AUTOINCREMENT,"
	"  object INTEGER NOT NULL REFERENCES object ON DELETE CASCADE, size INTEGER NOT NULL,"
	"  number TEXT NOT NULL, this_update INTEGER NOT NULL, next_update INTEGER NOT NULL,"
	"  entries INTEGER NOT NULL, source TEXT NOT NULL, created INTEGER NOT NULL) STRICT;"
	"CREATE INDEX crl_by_object ON crl (object);"
	"CREATE TABLE edition (id INTEGER PRIMARY KEY AUTOINCREMENT,"
	"  object INTEGER NOT NULL REFERENCES object ON DELETE CASCADE,"
	"  created INTEGER NOT NULL, key_pair INTEGER NOT NULL, next_key INTEGER NOT NULL,"
	"  version INTEGER NOT NULL, csr BLOB NOT NULL, certificate BLOB NOT NULL,"
	"  chain BLOB NOT NULL, ra BLOB NOT NULL, pending BLOB NOT NULL,"
	"  trusted_by TEXT NOT NULL, capabilities TEXT NOT NULL, crl INTEGER NOT NULL) STRICT;"
	"CREATE INDEX edition_by_object ON edition (object);"
	"CREATE TABLE request (id INTEGER PRIMARY KEY AUTOINCREMENT,"
	"  object INTEGER NOT NULL UNIQUE REFERENCES object ON DELETE CASCADE,"
	"  action TEXT NOT NULL, state INTEGER NOT NULL, text BLOB NOT NULL,"
	"  fields BLOB NOT NULL, resume BLOB NOT NULL, attempts INTEGER NOT NULL,"
	"  next_attempt INTEGER NOT NULL, created INTEGER NOT NULL, changed INTEGER NOT NULL,"
	"  answered INTEGER NOT NULL, pending INTEGER NOT NULL, error TEXT NOT NULL) STRICT;"
	"CREATE INDEX request_active ON request (id) WHERE state BETWEEN 1 AND 3;"
	"CREATE TABLE file_mode (object INTEGER NOT NULL, file INTEGER NOT NULL,"
	"  uid INTEGER NOT NULL, gid INTEGER NOT NULL, mode INTEGER NOT NULL,"
	"  PRIMARY KEY (object, file)) STRICT, WITHOUT ROWID;"
	"CREATE TABLE event (start INTEGER PRIMARY KEY, line BLOB NOT NULL) STRICT;"
	"CREATE TABLE applied (request INTEGER PRIMARY KEY) STRICT;",
	/* 2: what is due of a profile is found without a look at what is not */
	"ALTER TABLE request ADD COLUMN profile INTEGER NOT NULL DEFAULT 0;"
	"CREATE INDEX request_due ON request (profile, next_attempt, id)"
	"  WHERE state BETWEEN 1 AND 3;",
	/* 3: versions stay for ever, their keys do not: what prunes must not look at them all */
	"CREATE INDEX version_with_key ON version (object, number, key_pair) WHERE key_pair<>0;",
	/* 4: what files declare of an object; which objects enroll by themselves */
	"CREATE TABLE declared (object INTEGER PRIMARY KEY REFERENCES object ON DELETE CASCADE,"
	"  text BLOB NOT NULL) STRICT;"
	"ALTER TABLE object ADD COLUMN auto_enroll INTEGER NOT NULL DEFAULT 0;"
	"UPDATE object SET auto_enroll=2 WHERE kind=2;"
	"CREATE INDEX object_to_enroll ON object (id) WHERE auto_enroll=2;",
	/* 5: when an object does something by itself (1: to be planned) */
	"ALTER TABLE object ADD COLUMN next_action INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE object ADD COLUMN next_profile INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE object ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;"
	"UPDATE object SET next_action=1;"
	"CREATE INDEX object_next_action ON object (next_action, id) WHERE next_action>0;"
	"CREATE INDEX object_next_of_profile ON object (next_profile, next_action, id)"
	"  WHERE next_action>1;",
	/* 6: the CA certificate that follows, and those that went before */
	"ALTER TABLE edition ADD COLUMN next_ca BLOB NOT NULL DEFAULT x'';"
	"ALTER TABLE edition ADD COLUMN next_by TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE edition ADD COLUMN former BLOB NOT NULL DEFAULT x'';",
	/* 7: own certificates are watched; what OCSP responders said */
	"ALTER TABLE object ADD COLUMN watch INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE object ADD COLUMN revocation TEXT NOT NULL DEFAULT '';"
	"UPDATE object SET watch=1 WHERE kind=2;"
	"CREATE INDEX object_watch ON object (watch, id) WHERE watch>0;"
	"ALTER TABLE edition ADD COLUMN ocsp BLOB NOT NULL DEFAULT x'';"
	"CREATE TABLE ocsp (id INTEGER PRIMARY KEY,"
	"  profile INTEGER NOT NULL REFERENCES object ON DELETE CASCADE,"
	"  name BLOB NOT NULL, object INTEGER NOT NULL, certificate BLOB NOT NULL,"
	"  issuer BLOB NOT NULL, response BLOB NOT NULL, status INTEGER NOT NULL,"
	"  reason INTEGER NOT NULL, revoked_at INTEGER NOT NULL, until INTEGER NOT NULL,"
	"  ask INTEGER NOT NULL, later INTEGER NOT NULL, failures INTEGER NOT NULL,"
	"  used INTEGER NOT NULL, error TEXT NOT NULL, UNIQUE (profile, name)) STRICT;"
	"CREATE INDEX ocsp_to_ask ON ocsp (profile, ask, id) WHERE ask>0;"
	"CREATE INDEX ocsp_used ON ocsp (profile, used, id);",
	/* 8: a set of CRLs for each profile, and where they are fetched from */
	"ALTER TABLE crl ADD COLUMN kept INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE crl ADD COLUMN slot TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE crl ADD COLUMN issuer INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE crl ADD COLUMN base TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE crl ADD COLUMN kind INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE crl ADD COLUMN stub BLOB NOT NULL DEFAULT x'';"
	"ALTER TABLE crl ADD COLUMN digest BLOB NOT NULL DEFAULT x'';"
	"ALTER TABLE crl ADD COLUMN signer BLOB NOT NULL DEFAULT x'';"
	"ALTER TABLE crl ADD COLUMN file INTEGER NOT NULL DEFAULT 0;"
	"UPDATE crl SET file=id;"
	"CREATE INDEX crl_file ON crl (file);"
	"CREATE INDEX crl_kept ON crl (object, id) WHERE kept=1;"
	"CREATE TABLE crl_url (id INTEGER PRIMARY KEY,"
	"  object INTEGER NOT NULL REFERENCES object ON DELETE CASCADE, url TEXT NOT NULL,"
	"  kind INTEGER NOT NULL, signer BLOB NOT NULL, next INTEGER NOT NULL,"
	"  failures INTEGER NOT NULL, source TEXT NOT NULL, etag TEXT NOT NULL,"
	"  modified TEXT NOT NULL, error TEXT NOT NULL, used INTEGER NOT NULL, crl INTEGER NOT "
	"NULL,"
	"  UNIQUE (object, url)) STRICT;"
	"CREATE INDEX crl_url_next ON crl_url (next, id);",
};

static int pragma(struct db *db, const char *sql, int64_t *number)
{
	sqlite3_stmt *statement;
	int result = sqlite3_prepare_v2(db->sqlite, sql, -1, &statement, NULL);

	if (result != SQLITE_OK)
		return sql_errno(result);
	result = sqlite3_step(statement);
	*number = sqlite3_column_int64(statement, 0);
	sqlite3_finalize(statement);
	return sql_errno(result);
}

static int apply(struct db *db, size_t step)
{
	char footer[128];
	int r;

	r = sql_errno(sqlite3_exec(db->sqlite, "BEGIN IMMEDIATE", NULL, NULL, NULL));
	if (r < 0)
		return r;
	snprintf(footer, sizeof footer, "PRAGMA application_id=%d; PRAGMA user_version=%zu; COMMIT",
	         APPLICATION_ID, step + 1);
	r = sql_errno(sqlite3_exec(db->sqlite, steps[step], NULL, NULL, NULL));
	if (r == 0)
		r = sql_errno(sqlite3_exec(db->sqlite, footer, NULL, NULL, NULL));
	if (r < 0)
		sqlite3_exec(db->sqlite, "ROLLBACK", NULL, NULL, NULL);
	return r;
}

static int unreadable(const struct db *db, int r, struct error *err)
{
	return error_set(err, r, "the store cannot be read: %s", db_reason(db));
}

int schema_check(struct db *db, struct error *err)
{
	int64_t owner, version, tables;
	int r;

	r = pragma(db, "PRAGMA application_id", &owner);
	if (r == 0)
		r = pragma(db, "PRAGMA user_version", &version);
	if (r == 0)
		r = pragma(db, "SELECT count(*) FROM sqlite_schema", &tables);
	if (r < 0)
		return unreadable(db, r, err);
	if (owner != APPLICATION_ID && (owner || version || tables))
		return error_set(err, -EINVAL, "the file is an SQLite database of another program");
	if (version < 0 || version > (int64_t)COUNT(steps))
		return error_set(err, -EINVAL,
		                 "the store has schema %lld, this pkifs knows up to %zu: it was "
		                 "written by a newer pkifs",
		                 (long long)version, COUNT(steps));
	return 0;
}

int schema_migrate(struct db *db, struct error *err)
{
	int64_t version;
	int r = pragma(db, "PRAGMA user_version", &version);

	if (r < 0)
		return unreadable(db, r, err);
	for (size_t step = (size_t)version; step < COUNT(steps); step++) {
		r = apply(db, step);
		if (r < 0)
			return error_set(err, r, "the store's schema cannot be made: %s",
			                 db_reason(db));
	}
	return 0;
}
