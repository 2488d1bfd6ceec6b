#include "store_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void reopen(struct fixture *f)
{
	struct error err = { 0 };

	db_close(f->db);
	f->db = NULL;
	if (db_open(f->path, false, &f->db, &err) < 0)
		print_error("%s\n", err.text);
	assert_non_null(f->db);
}

int make_folder(void **state)
{
	static struct fixture fixture;

	fixture = (struct fixture){ .folder = "/tmp/pkifs-db-XXXXXX" };
	if (!mkdtemp(fixture.folder))
		return -1;
	snprintf(fixture.path, sizeof fixture.path, "%s/store.db", fixture.folder);
	snprintf(fixture.wal, sizeof fixture.wal, "%s-wal", fixture.path);
	*state = &fixture;
	return 0;
}

int make_store(void **state)
{
	if (make_folder(state) < 0)
		return -1;
	reopen(*state);
	return 0;
}

int remove_all(void **state)
{
	struct fixture *f = *state;

	db_close(f->db);
	unlink(f->path);
	unlink(f->wal);
	return rmdir(f->folder); /* fails when anything else has been left */
}

void begin(struct fixture *f)
{
	assert_int_equal(db_begin(f->db), 0);
}

void commit(struct fixture *f)
{
	assert_int_equal(db_commit(f->db), 0);
}

int64_t add_object(struct fixture *f, enum kind kind, const char *name)
{
	int64_t id = 0;

	assert_int_equal(db_object_add(f->db, kind, name, 1000, &id), 0);
	assert_true(id > 0);
	return id;
}

bool has_object(struct fixture *f, enum kind kind, const char *name)
{
	struct object object;
	int r = db_object_find(f->db, kind, name, &object);

	assert_true(r == 0 || r == -ENOENT);
	return r == 0;
}

struct blob bytes(const void *data, size_t length)
{
	struct blob blob = { .data = malloc(length + 1), .length = length };

	assert_non_null(blob.data);
	memcpy(blob.data, data, length);
	blob.data[length] = 0;
	return blob;
}

void assert_blob(struct blob *blob, const void *data, size_t length)
{
	assert_int_equal(blob->length, length);
	assert_memory_equal(blob->data, data, length);
	assert_int_equal(blob->data[length], 0);
	blob_clear(blob);
	assert_null(blob->data);
}

bool has_config(struct fixture *f, int64_t row)
{
	struct blob text = { 0 };
	int64_t object, created;
	int r = db_config_get(f->db, row, &object, &created, &text);

	blob_clear(&text);
	return r == 0;
}
