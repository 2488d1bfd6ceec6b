/*
 * commits FILE SECONDS: how many small rows a second SQLite itself makes durable on FILE's disk,
 * one by one, with the store's settings (db/db.c). Prints the number.
 */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int insert_until(sqlite3_stmt *insert, double end, long *rows)
{
	int result = SQLITE_DONE;

	for (*rows = 0; result == SQLITE_DONE && now() < end; ++*rows) {
		result = sqlite3_step(insert);
		sqlite3_reset(insert);
	}
	return result == SQLITE_DONE ? SQLITE_OK : result;
}

int main(int argc, char **argv)
{
	double seconds = argc == 3 ? strtod(argv[2], NULL) : 0, begin;
	sqlite3_stmt *insert = NULL;
	sqlite3 *db = NULL;
	long rows = 0;
	int result;

	if (seconds <= 0) {
		fprintf(stderr, "usage: %s FILE SECONDS\n", argv[0]);
		return 2;
	}
	result = sqlite3_open(argv[1], &db);
	if (result == SQLITE_OK)
		result = sqlite3_exec(db,
		                      "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL;"
		                      "PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=500;"
		                      "CREATE TABLE t (id INTEGER PRIMARY KEY, text BLOB) STRICT",
		                      NULL, NULL, NULL);
	if (result == SQLITE_OK)
		result = sqlite3_prepare_v2(db, "INSERT INTO t (text) VALUES (zeroblob(100))", -1,
		                            &insert, NULL);
	begin = now();
	if (result == SQLITE_OK)
		result = insert_until(insert, begin + seconds, &rows);
	if (result != SQLITE_OK)
		fprintf(stderr, "%s: %s\n", argv[1], sqlite3_errmsg(db));
	else
		printf("%.1f\n", (double)rows / (now() - begin));
	sqlite3_finalize(insert);
	sqlite3_close(db);
	return result != SQLITE_OK;
}
