/* A store in a folder of its own, for the tests of db/. */
#ifndef TESTS_STORE_FIXTURE_H
#define TESTS_STORE_FIXTURE_H

#include "db/db.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct fixture {
	char folder[64], path[96], wal[128];
	struct db *db;
};

/* Closes the store and opens it again. */
void reopen(struct fixture *f);

/* Set-up and teardown: a folder, also with a store in it; it must hold nothing else at the end. */
int make_folder(void **state);
int make_store(void **state);
int remove_all(void **state);

void begin(struct fixture *f);
void commit(struct fixture *f);
int64_t add_object(struct fixture *f, enum kind kind, const char *name);
bool has_object(struct fixture *f, enum kind kind, const char *name);
bool has_config(struct fixture *f, int64_t row);

/* A copy, which is the caller's. */
struct blob bytes(const void *data, size_t length);

/* That BLOB has these bytes and a NUL behind them; clears it. */
void assert_blob(struct blob *blob, const void *data, size_t length);

#endif
