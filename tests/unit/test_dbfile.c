/* The store's file: what is refused as it is, and that a change is whole or not there. */
#include "db/checksum.h"
#include "db/sql.h"
#include "store_fixture.h"

#include <errno.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* The file's bytes, to see that nothing has touched it. */
static struct blob content(const char *path)
{
	struct blob blob = { 0 };
	FILE *file = fopen(path, "r");
	struct stat attr;

	assert_non_null(file);
	assert_int_equal(fstat(fileno(file), &attr), 0);
	blob.length = (size_t)attr.st_size;
	blob.data = malloc(blob.length + 1);
	assert_non_null(blob.data);
	assert_int_equal(fread(blob.data, 1, blob.length, file), blob.length);
	fclose(file);
	return blob;
}

static rlim_t size_of(const char *path)
{
	struct stat attr;

	return stat(path, &attr) < 0 ? 0 : (rlim_t)attr.st_size;
}

static void put(const char *path, const void *data, size_t length)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(data, 1, length, file), length);
	assert_int_equal(fclose(file), 0);
}

/* Another program's hand on a file that nobody has open. */
static void run_sql(const char *path, const char *sql)
{
	sqlite3 *sqlite = NULL;

	assert_int_equal(checksum_begin(), 0);
	assert_int_equal(sqlite3_open_v2(path, &sqlite, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
	                                 CHECKSUM_VFS),
	                 SQLITE_OK);
	assert_int_equal(sqlite3_exec(sqlite, "PRAGMA locking_mode=EXCLUSIVE", NULL, NULL, NULL),
	                 SQLITE_OK);
	assert_int_equal(sqlite3_exec(sqlite, sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_close(sqlite), SQLITE_OK);
}

static void assert_same(const char *path, struct blob *before)
{
	struct blob after = content(path);

	assert_int_equal(before->length, after.length);
	assert_memory_equal(before->data, after.data, before->length);
	blob_clear(&after);
	blob_clear(before);
}

/* The file, and the log of a crash where there is one. */
static void refused_untouched(struct fixture *f, int code, const char *why)
{
	bool crashed = access(f->wal, F_OK) == 0;
	struct blob before = content(f->path), log = { 0 };
	struct db *db = NULL;
	struct error err = { 0 };

	if (crashed)
		log = content(f->wal);
	if (db_open(f->path, false, &db, &err) != code)
		fail_msg("a file of %zu bytes: \"%s\"", before.length, err.text);
	assert_null(db);
	assert_int_equal(err.code, code);
	if (!strstr(err.text, why))
		fail_msg("\"%s\" does not say \"%s\"", err.text, why);
	assert_same(f->path, &before);
	if (crashed)
		assert_same(f->wal, &log);
	else
		assert_int_equal(access(f->wal, F_OK), -1);
}

/* Opening and closing */

static void what_was_committed_is_there_when_opened_again(void **state)
{
	struct fixture *f = *state;
	struct object object;

	begin(f);
	add_object(f, KIND_CA, "corp");
	assert_false(has_object(f, KIND_LOCAL, "corp"));
	commit(f);
	begin(f);
	add_object(f, KIND_CA, "gone");
	reopen(f); /* a close is no commit */
	assert_int_equal(db_object_find(f->db, KIND_CA, "corp", &object), 0);
	assert_int_equal(object.created, 1000);
	assert_string_equal(object.state, "empty");
	assert_string_equal(object.last_error, "");
	assert_false(has_object(f, KIND_CA, "gone"));
}

static void a_store_has_one_owner(void **state)
{
	struct fixture *f = *state;
	struct db *second = NULL;
	struct error err;

	begin(f);
	add_object(f, KIND_CA, "corp");
	commit(f);
	assert_int_equal(db_open(f->path, false, &second, &err), -EBUSY);
	assert_null(second);
	assert_true(has_object(f, KIND_CA, "corp"));
}

static void an_empty_file_becomes_a_store(void **state)
{
	struct fixture *f = *state;

	put(f->path, "", 0);
	reopen(f);
	begin(f);
	add_object(f, KIND_CA, "corp");
	commit(f);
}

static void another_programs_database_is_refused_untouched(void **state)
{
	struct fixture *f = *state;

	run_sql(f->path, "CREATE TABLE theirs (a); INSERT INTO theirs VALUES (1)");
	refused_untouched(f, -EINVAL, "another program");
	run_sql(f->path, "PRAGMA application_id=77; PRAGMA user_version=1");
	refused_untouched(f, -EINVAL, "another program");
}

static void a_file_that_is_no_database_is_refused_untouched(void **state)
{
	static char text[9000];
	struct fixture *f = *state;

	memset(text, 'x', sizeof text);
	for (size_t length = 2; length < sizeof text; length += 1777) {
		put(f->path, text, length);
		refused_untouched(f, -EIO, f->path);
	}
}

static void a_newer_store_is_refused_untouched(void **state)
{
	struct fixture *f = *state;

	db_close(f->db);
	f->db = NULL;
	run_sql(f->path, "PRAGMA user_version=1000");
	refused_untouched(f, -EINVAL, "schema 1000");
}

static void an_older_store_is_brought_forward(void **state)
{
	struct fixture *f = *state;
	int64_t profile, gate, object;

	begin(f);
	profile = add_object(f, KIND_CA, "corp");
	gate = add_object(f, KIND_LOCAL, "gate");
	commit(f);
	db_close(f->db);
	f->db = NULL;
	run_sql(f->path, "DROP INDEX object_next_action; DROP INDEX object_next_of_profile;"
	                 "ALTER TABLE object DROP COLUMN next_action;"
	                 "ALTER TABLE object DROP COLUMN next_profile;"
	                 "ALTER TABLE object DROP COLUMN failures;"
	                 "DROP INDEX object_to_enroll; ALTER TABLE object DROP COLUMN auto_enroll;"
	                 "ALTER TABLE edition DROP COLUMN next_ca;"
	                 "ALTER TABLE edition DROP COLUMN next_by;"
	                 "ALTER TABLE edition DROP COLUMN former;"
	                 "DROP TABLE crl_url; DROP INDEX crl_kept; DROP INDEX crl_file;"
	                 "ALTER TABLE crl DROP COLUMN file;"
	                 "ALTER TABLE crl DROP COLUMN kept; ALTER TABLE crl DROP COLUMN slot;"
	                 "ALTER TABLE crl DROP COLUMN issuer; ALTER TABLE crl DROP COLUMN base;"
	                 "ALTER TABLE crl DROP COLUMN kind; ALTER TABLE crl DROP COLUMN stub;"
	                 "ALTER TABLE crl DROP COLUMN digest; ALTER TABLE crl DROP COLUMN signer;"
	                 "DROP INDEX object_watch; ALTER TABLE object DROP COLUMN watch;"
	                 "ALTER TABLE object DROP COLUMN revocation;"
	                 "ALTER TABLE edition DROP COLUMN ocsp; DROP TABLE ocsp;"
	                 "DROP TABLE declared; PRAGMA user_version=3");
	reopen(f);
	assert_int_equal(db_declared_next(f->db, 0, &object), -ENOENT);
	assert_int_equal(db_auto_enroll_next(f->db, 0, &object), 0); /* its config may say so */
	assert_true(object == gate && gate > profile);
	assert_int_equal(db_action_to_plan(f->db, 0, &object), 0); /* all may do something */
	assert_true(object == profile);
	assert_int_equal(db_action_to_plan(f->db, profile, &object), 0);
	assert_true(object == gate);
	assert_int_equal(db_action_to_plan(f->db, gate, &object), -ENOENT);
}

static void a_store_without_checksums_gets_them(void **state)
{
	struct fixture *f = *state;
	sqlite3 *plain = NULL;
	struct object object;

	assert_true(checksum_is_on(f->db->sqlite));
	db_close(f->db);
	f->db = NULL;
	unlink(f->path);
	assert_int_equal(sqlite3_open(f->path, &plain), SQLITE_OK);
	assert_int_equal(sqlite3_exec(plain, "PRAGMA application_id=0x706b6973", NULL, NULL, NULL),
	                 SQLITE_OK);
	assert_int_equal(sqlite3_close(plain), SQLITE_OK);
	reopen(f);
	begin(f);
	add_object(f, KIND_CA, "corp");
	commit(f);
	reopen(f); /* what was in the log is in the file */
	assert_true(checksum_is_on(f->db->sqlite));
	assert_int_equal(db_object_find(f->db, KIND_CA, "corp", &object), 0);
}

/* One bit anywhere in a page. */
static void a_flipped_bit_is_found(void **state)
{
	struct fixture *f = *state;
	struct blob whole;

	db_close(f->db);
	f->db = NULL;
	whole = content(f->path);
	for (size_t at = 32; at < whole.length; at += 1021) {
		whole.data[at] ^= 1 << at % 8;
		put(f->path, whole.data, whole.length);
		refused_untouched(f, -EIO, "the store");
		whole.data[at] ^= 1 << at % 8;
	}
	put(f->path, whole.data, whole.length);
	blob_clear(&whole);
	reopen(f);
}

static void a_newer_store_that_crashed_is_refused_with_its_log_untouched(void **state)
{
	struct fixture *f = *state;
	char shared[128];
	int status;
	pid_t pid;

	db_close(f->db);
	f->db = NULL;
	pid = fork();
	if (pid == 0) { /* closes nothing: what it changed is in the log alone */
		sqlite3 *sqlite = NULL;

		_exit(sqlite3_open(f->path, &sqlite) != SQLITE_OK ||
		      sqlite3_exec(sqlite, "PRAGMA user_version=1000", NULL, NULL, NULL) !=
		              SQLITE_OK);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(size_of(f->wal) > 0);
	refused_untouched(f, -EINVAL, "schema 1000");
	snprintf(shared, sizeof shared, "%s-shm", f->path); /* the other program's */
	unlink(shared);
}

static void a_truncated_store_is_refused_untouched(void **state)
{
	struct fixture *f = *state;
	struct blob whole;

	db_close(f->db);
	f->db = NULL;
	whole = content(f->path);
	/* of the last page's end, which may be empty, SQLite has no knowledge */
	for (size_t length = 2; length + 4096 <= whole.length; length += 4001) {
		put(f->path, whole.data, length);
		refused_untouched(f, -EIO, "the store");
	}
	put(f->path, whole.data, whole.length);
	blob_clear(&whole);
	reopen(f);
}

static void a_damaged_page_is_refused_untouched(void **state)
{
	struct fixture *f = *state;
	struct blob whole;

	db_close(f->db);
	f->db = NULL;
	whole = content(f->path);
	memset(whole.data + 4096, 0xff, 4096);
	put(f->path, whole.data, whole.length);
	blob_clear(&whole);
	refused_untouched(f, -EIO, "the store");
}

static void a_link_in_the_stores_place_is_not_followed(void **state)
{
	struct fixture *f = *state;
	char other[128];
	struct db *db = NULL;

	db_close(f->db);
	f->db = NULL;
	snprintf(other, sizeof other, "%s/other", f->folder);
	assert_int_equal(rename(f->path, other), 0);
	assert_int_equal(symlink(other, f->path), 0);
	assert_true(db_open(f->path, false, &db, NULL) < 0);
	assert_int_equal(unlink(other), 0);
}

/* Transactions */

static void one_change_is_undone_and_others_are_kept(void **state)
{
	struct fixture *f = *state;

	begin(f);
	assert_true(db_in_transaction(f->db));
	assert_int_equal(db_savepoint(f->db), 0);
	add_object(f, KIND_CA, "first");
	assert_int_equal(db_release(f->db), 0);
	assert_int_equal(db_savepoint(f->db), 0);
	add_object(f, KIND_CA, "second");
	db_undo(f->db);
	assert_false(has_object(f, KIND_CA, "second"));
	assert_int_equal(db_savepoint(f->db), 0);
	add_object(f, KIND_CA, "third");
	assert_int_equal(db_release(f->db), 0);
	commit(f);
	assert_false(db_in_transaction(f->db));
	reopen(f);
	assert_true(has_object(f, KIND_CA, "first"));
	assert_false(has_object(f, KIND_CA, "second"));
	assert_true(has_object(f, KIND_CA, "third"));
}

static void rolled_back_is_as_if_never_done(void **state)
{
	struct fixture *f = *state;

	begin(f);
	add_object(f, KIND_CA, "first");
	db_rollback(f->db);
	assert_false(db_in_transaction(f->db));
	assert_false(has_object(f, KIND_CA, "first"));
	assert_int_equal(db_commit(f->db), -EIO);
	db_undo(f->db);
	db_rollback(f->db);
	begin(f);
	add_object(f, KIND_CA, "first");
	commit(f);
}

/* Lets the store's files grow no further (or again). */
static void limit_files(rlim_t size)
{
	struct rlimit limit;

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = size < limit.rlim_max ? size : limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void limit_to_now(struct fixture *f)
{
	rlim_t main = size_of(f->path), wal = size_of(f->wal);

	limit_files(main > wal ? main : wal);
}

static void a_commit_that_fails_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	static const char text[300000];
	int64_t object, row;
	int r;

	begin(f);
	object = add_object(f, KIND_CA, "before");
	commit(f);
	for (int i = 0; i < 3; i++) {
		begin(f);
		add_object(f, KIND_CA, "lost");
		assert_int_equal(db_config_set(f->db, object, text, sizeof text, 1, &row), 0);
		limit_to_now(f);
		r = db_commit(f->db);
		limit_files(RLIM_INFINITY);
		assert_true(r == -ENOSPC || r == -EIO);
		assert_false(db_in_transaction(f->db));
		assert_false(has_object(f, KIND_CA, "lost"));
		assert_false(has_config(f, row));
		assert_true(has_object(f, KIND_CA, "before"));
	}
	begin(f);
	add_object(f, KIND_CA, "after");
	commit(f);
	reopen(f);
	assert_true(has_object(f, KIND_CA, "before"));
	assert_true(has_object(f, KIND_CA, "after"));
	assert_false(has_object(f, KIND_CA, "lost"));
}

/*
 * A change that is too large to wait in memory fails before the commit, and SQLite then drops
 * all of the transaction: those whose change was in it must not be told that it is kept.
 */
static void a_disk_that_fills_within_a_change_fails_all_of_the_transaction(void **state)
{
	struct fixture *f = *state;
	char *text = calloc(1, 1 << 20);
	int64_t object, row;
	int r = 0;

	begin(f);
	assert_int_equal(db_savepoint(f->db), 0);
	object = add_object(f, KIND_CA, "first");
	assert_int_equal(db_release(f->db), 0);
	assert_int_equal(db_savepoint(f->db), 0);
	limit_to_now(f);
	for (int i = 0; r == 0 && i < 16; i++)
		r = db_config_set(f->db, object, text, 1 << 20, 1, &row);
	limit_files(RLIM_INFINITY);
	free(text);
	assert_true(r == -ENOSPC || r == -EIO);
	db_undo(f->db);
	assert_true(db_in_transaction(f->db)); /* until its end is told */
	assert_true(db_savepoint(f->db) < 0);
	assert_true(db_commit(f->db) < 0);
	assert_false(db_in_transaction(f->db));
	assert_false(has_object(f, KIND_CA, "first"));
	begin(f);
	assert_int_equal(db_savepoint(f->db), 0);
	add_object(f, KIND_CA, "after");
	assert_int_equal(db_release(f->db), 0);
	commit(f);
	reopen(f);
	assert_true(has_object(f, KIND_CA, "after"));
	assert_false(has_object(f, KIND_CA, "first"));
}

int main(void)
{
#define STORE(name)  cmocka_unit_test_setup_teardown(name, make_store, remove_all)
#define FOLDER(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_all)
	const struct CMUnitTest tests[] = {
		STORE(what_was_committed_is_there_when_opened_again),
		STORE(a_store_has_one_owner),
		FOLDER(an_empty_file_becomes_a_store),
		FOLDER(another_programs_database_is_refused_untouched),
		FOLDER(a_file_that_is_no_database_is_refused_untouched),
		STORE(an_older_store_is_brought_forward),
		STORE(a_store_without_checksums_gets_them),
		STORE(a_flipped_bit_is_found),
		STORE(a_newer_store_is_refused_untouched),
		STORE(a_newer_store_that_crashed_is_refused_with_its_log_untouched),
		STORE(a_truncated_store_is_refused_untouched),
		STORE(a_damaged_page_is_refused_untouched),
		STORE(a_link_in_the_stores_place_is_not_followed),
		STORE(one_change_is_undone_and_others_are_kept),
		STORE(rolled_back_is_as_if_never_done),
		STORE(a_commit_that_fails_leaves_nothing),
		STORE(a_disk_that_fills_within_a_change_fails_all_of_the_transaction),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
