/* What the store keeps: objects, texts, keys, versions, editions, CRLs. */
#include "store_fixture.h"

#include "db/sql.h"

#include <errno.h>
#include <string.h>

/* Objects */

static void objects_are_found_by_kind_name_and_row(void **state)
{
	struct fixture *f = *state;
	struct object object;
	int64_t a, b, count;

	begin(f);
	a = add_object(f, KIND_LOCAL, "a");
	add_object(f, KIND_CA, "a");
	b = add_object(f, KIND_LOCAL, "b");
	assert_int_equal(db_object_add(f->db, KIND_LOCAL, "b", 5, &count), -EEXIST);
	commit(f);
	assert_int_equal(db_object_count(f->db, KIND_LOCAL, &count), 0);
	assert_int_equal(count, 2);
	assert_int_equal(db_object_next(f->db, KIND_LOCAL, 0, &object), 0);
	assert_int_equal(object.id, a);
	assert_int_equal(db_object_next(f->db, KIND_LOCAL, a, &object), 0);
	assert_int_equal(object.id, b);
	assert_int_equal(db_object_next(f->db, KIND_LOCAL, b, &object), -ENOENT);
	assert_int_equal(db_object_get(f->db, b, &object), 0);
	assert_string_equal(object.name, "b");
	assert_int_equal(object.kind, KIND_LOCAL);
	assert_int_equal(db_object_get(f->db, 99, &object), -ENOENT);
	assert_int_equal(db_object_find(f->db, KIND_LOCAL, "' OR 1=1", &object), -ENOENT);
}

static void state_and_last_error_are_kept(void **state)
{
	struct fixture *f = *state;
	struct object object;
	int64_t id;

	begin(f);
	id = add_object(f, KIND_LOCAL, "gate");
	assert_int_equal(db_object_set_state(f->db, id, "current", 2000), 0);
	assert_int_equal(db_object_set_error(f->db, id, "the CA said no"), 0);
	commit(f);
	reopen(f);
	assert_int_equal(db_object_get(f->db, id, &object), 0);
	assert_string_equal(object.state, "current");
	assert_int_equal(object.since, 2000);
	assert_string_equal(object.last_error, "the CA said no");
	assert_int_equal(db_object_set_error(f->db, id, ""), 0);
	assert_int_equal(db_object_get(f->db, id, &object), 0);
	assert_string_equal(object.last_error, "");
}

static void a_row_number_never_comes_back(void **state)
{
	struct fixture *f = *state;
	struct edition edition = { 0 };
	int64_t object, config, row, again, first_config, first_edition;

	begin(f);
	object = add_object(f, KIND_LOCAL, "gate");
	assert_int_equal(db_config_set(f->db, object, "a = 1\n", 6, 1, &first_config), 0);
	edition.object = object;
	assert_int_equal(db_edition_add(f->db, &edition, &first_edition), 0);
	commit(f);
	begin(f);
	assert_int_equal(db_object_remove(f->db, object), 0);
	commit(f);
	reopen(f);
	begin(f);
	again = add_object(f, KIND_LOCAL, "gate");
	assert_true(again > object);
	assert_int_equal(db_config_set(f->db, again, "a = 1\n", 6, 1, &config), 0);
	assert_true(config > first_config);
	edition.object = again;
	assert_int_equal(db_edition_add(f->db, &edition, &row), 0);
	assert_true(row > first_edition);
	commit(f);
}

static void what_is_named_cannot_be_removed(void **state)
{
	struct fixture *f = *state;
	struct object by;
	int64_t profile, gate;

	begin(f);
	profile = add_object(f, KIND_CA, "corp");
	gate = add_object(f, KIND_LOCAL, "gate");
	assert_int_equal(db_reference_find(f->db, profile, &by), -ENOENT);
	assert_int_equal(db_reference_add(f->db, gate, profile), 0);
	assert_int_equal(db_reference_add(f->db, gate, profile), 0); /* two keys, one name */
	assert_int_equal(db_reference_add(f->db, gate, 99), -EEXIST);
	commit(f);
	begin(f);
	assert_int_equal(db_reference_find(f->db, profile, &by), 0);
	assert_string_equal(by.name, "gate");
	assert_int_equal(db_object_remove(f->db, profile), -EEXIST);
	assert_true(has_object(f, KIND_CA, "corp"));
	assert_int_equal(db_reference_clear(f->db, gate), 0);
	assert_int_equal(db_object_remove(f->db, profile), 0);
	commit(f);
	assert_false(has_object(f, KIND_CA, "corp"));
}

static void who_names_goes_with_its_references(void **state)
{
	struct fixture *f = *state;
	struct object by;
	int64_t profile, gate;

	begin(f);
	profile = add_object(f, KIND_CA, "corp");
	gate = add_object(f, KIND_LOCAL, "gate");
	assert_int_equal(db_reference_add(f->db, gate, profile), 0);
	assert_int_equal(db_reference_add(f->db, profile, profile), 0);
	assert_int_equal(db_object_remove(f->db, gate), 0);
	assert_int_equal(db_reference_find(f->db, profile, &by), -ENOENT);
	assert_int_equal(db_object_remove(f->db, profile), 0); /* it named itself alone */
	commit(f);
}

static void an_old_config_lives_until_it_is_pruned(void **state)
{
	struct fixture *f = *state;
	struct object object;
	struct blob text = { 0 };
	int64_t id, old, new, owner, created;

	begin(f);
	id = add_object(f, KIND_CA, "corp");
	assert_int_equal(db_config_set(f->db, id, "a = \0\377", 6, 7, &old), 0);
	assert_int_equal(db_config_set(f->db, id, "", 0, 8, &new), 0);
	commit(f);
	assert_int_equal(db_object_get(f->db, id, &object), 0);
	assert_int_equal(object.config, new);
	assert_int_equal(db_config_get(f->db, old, &owner, &created, &text), 0);
	assert_int_equal(owner, id);
	assert_int_equal(created, 7);
	assert_blob(&text, "a = \0\377", 6);
	assert_int_equal(db_config_get(f->db, new, &owner, &created, &text), 0);
	assert_blob(&text, "", 0);
	assert_int_equal(db_config_get(f->db, 99, &owner, &created, &text), -ENOENT);
}

/* Keys, versions, editions, CRLs */

static int64_t add_key(struct fixture *f, int64_t object)
{
	struct key_pair key = { .object = object, .type = "rsa 2048", .pem_size = 1704 };
	int64_t id;

	key.sealed = bytes("sea\0led", 7);
	key.public = bytes("pub", 3);
	assert_int_equal(db_key_add(f->db, &key, &id), 0);
	key_pair_clear(&key);
	return id;
}

static bool has_key(struct fixture *f, int64_t id)
{
	struct key_pair key;
	int r = db_key_get(f->db, id, &key);

	assert_true(r == 0 || r == -ENOENT);
	key_pair_clear(&key);
	return r == 0;
}

static int64_t add_version(struct fixture *f, int64_t object, int64_t key)
{
	struct version version = { .object = object, .key_pair = key, .not_after = 4102444800 };
	int64_t id;

	strcpy(version.anchor, "profile");
	version.certificate = bytes("cert", 4);
	version.chain = bytes("", 0);
	assert_int_equal(db_version_add(f->db, &version, &id), 0);
	version_clear(&version);
	return id;
}

static void a_key_pair_comes_back_as_it_was(void **state)
{
	struct fixture *f = *state;
	struct key_pair key;
	int64_t object, id;

	begin(f);
	object = add_object(f, KIND_LOCAL, "gate");
	id = add_key(f, object);
	commit(f);
	reopen(f);
	assert_int_equal(db_key_get(f->db, id, &key), 0);
	assert_int_equal(key.object, object);
	assert_string_equal(key.type, "rsa 2048");
	assert_int_equal(key.pem_size, 1704);
	assert_blob(&key.sealed, "sea\0led", 7);
	assert_blob(&key.public, "pub", 3);
	assert_int_equal(db_key_get(f->db, id + 1, &key), -ENOENT);
	key_pair_clear(&key);
}

static void versions_are_numbered_for_each_object(void **state)
{
	struct fixture *f = *state;
	struct version version;
	int64_t a, b, first, second, other, id, number = 0;

	begin(f);
	a = add_object(f, KIND_LOCAL, "a");
	b = add_object(f, KIND_LOCAL, "b");
	first = add_version(f, a, 0);
	other = add_version(f, b, 0);
	second = add_version(f, a, 0);
	commit(f);
	assert_int_equal(db_version_next(f->db, a, 0, &id, &number), 0);
	assert_true(id == first && number == 1);
	assert_int_equal(db_version_next(f->db, a, 1, &id, &number), 0);
	assert_true(id == second && number == 2);
	assert_int_equal(db_version_next(f->db, a, 2, &id, &number), -ENOENT);
	assert_int_equal(db_version_find(f->db, b, 1, &id), 0);
	assert_int_equal(id, other);
	assert_int_equal(db_version_find(f->db, b, 2, &id), -ENOENT);
	assert_int_equal(db_version_get(f->db, second, &version), 0);
	assert_int_equal(version.number, 2);
	assert_int_equal(version.not_after, 4102444800);
	assert_string_equal(version.anchor, "profile");
	assert_blob(&version.certificate, "cert", 4);
	assert_blob(&version.chain, "", 0);
	version_clear(&version);
	assert_int_equal(db_version_get(f->db, 99, &version), -ENOENT);
}

static void the_newest_edition_is_what_an_object_shows(void **state)
{
	struct fixture *f = *state;
	struct edition edition = { .key_pair = 3, .next_key = 4, .version = 5, .crl = 6 }, got;
	struct object object;
	int64_t first, second;

	begin(f);
	edition.object = add_object(f, KIND_CA, "corp");
	strcpy(edition.trusted_by, "confirm");
	strcpy(edition.capabilities, "AES SHA-256");
	edition.csr = bytes("csr", 3);
	edition.pending = bytes("pending", 7);
	assert_int_equal(db_edition_add(f->db, &edition, &first), 0);
	assert_int_equal(db_edition_add(f->db, &edition, &second), 0);
	commit(f);
	assert_int_equal(db_object_get(f->db, edition.object, &object), 0);
	assert_int_equal(object.edition, second);
	assert_int_equal(db_edition_get(f->db, first, &got), 0);
	assert_true(got.key_pair == 3 && got.next_key == 4 && got.version == 5 && got.crl == 6);
	assert_string_equal(got.trusted_by, "confirm");
	assert_string_equal(got.capabilities, "AES SHA-256");
	assert_blob(&got.csr, "csr", 3);
	assert_blob(&got.certificate, "", 0);
	assert_blob(&got.pending, "pending", 7);
	edition_clear(&got);
	edition_clear(&edition);
	assert_int_equal(db_edition_get(f->db, 99, &got), -ENOENT);
}

static struct blob bytes_of(const char *text)
{
	return (struct blob){ strdup(text), strlen(text) };
}

static void a_profile_keeps_one_crl_of_each_slot(void **state)
{
	struct fixture *f = *state;
	struct crl crl = { .size = 5,
		           .this_update = 1,
		           .next_update = 2,
		           .entries = 3,
		           .kind = 7,
		           .issuer = 0xfedcba98,
		           .file = 1ll << 41 },
		   got;
	struct crl_parts parts = { bytes_of("stub"), bytes_of("digest"), { 0 } }, read;
	int64_t first, second, count, size;

	begin(f);
	crl.object = add_object(f, KIND_CA, "corp");
	strcpy(crl.number, "1461501637330902918203684832716283019655932542975");
	strcpy(crl.source, "file");
	strcpy(crl.base, "12");
	strcpy(crl.slot, "aa");
	assert_int_equal(db_crl_add(f->db, &crl, &parts, &first), 0);
	strcpy(crl.slot, "bb");
	assert_int_equal(db_crl_add(f->db, &crl, &parts, &second), 0);
	commit(f);
	assert_int_equal(db_crl_of_slot(f->db, crl.object, "bb", &got), 0);
	assert_string_equal(got.number, crl.number);
	assert_string_equal(got.source, "file");
	assert_string_equal(got.base, "12");
	assert_string_equal(got.slot, "bb");
	assert_true(got.id == second && got.size == 5 && got.next_update == 2 && got.entries == 3);
	assert_int_equal(db_crl_of_file(f->db, 1ll << 41), 0);
	assert_int_equal(db_crl_of_file(f->db, 1), -ENOENT);
	assert_true(got.file == 1ll << 41);
	assert_true(got.kind == 7 && got.issuer == 0xfedcba98);
	assert_int_equal(db_crl_parts(f->db, second, &read), 0);
	assert_blob(&read.stub, "stub", 4);
	assert_blob(&read.digest, "digest", 6);
	assert_blob(&read.signer, "", 0);
	crl_parts_clear(&read);
	assert_int_equal(db_crl_next(f->db, crl.object, 0, &got), 0);
	assert_int_equal(got.id, first);
	assert_int_equal(db_crl_count(f->db, crl.object, &count, &size), 0);
	assert_true(count == 2 && size == 10);
	begin(f);
	assert_int_equal(db_crl_drop(f->db, crl.object, first), 0);
	commit(f);
	assert_int_equal(db_crl_next(f->db, crl.object, 0, &got), 0);
	assert_int_equal(got.id, second);
	assert_int_equal(db_crl_get(f->db, first, &got), 0); /* an edition may still show it */
	assert_int_equal(db_crl_next(f->db, crl.object, second, &got), -ENOENT);
	assert_int_equal(db_crl_of_slot(f->db, crl.object, "aa", &got), -ENOENT);
	assert_int_equal(db_crl_get(f->db, 99, &got), -ENOENT);
	crl_parts_clear(&parts);
}

static void crl_urls_come_by_when_they_are_due(void **state)
{
	struct fixture *f = *state;
	struct crl_url url = { .kind = CRL_OWN, .next = 50, .used = 9 }, got;
	int64_t count;

	begin(f);
	url.object = add_object(f, KIND_CA, "corp");
	url.signer = bytes_of("ca");
	strcpy(url.url, "http://a/");
	assert_int_equal(db_crl_url_add(f->db, &url), 0);
	strcpy(url.url, "http://b/");
	url.next = 40;
	assert_int_equal(db_crl_url_add(f->db, &url), 0);
	url.next = 60;
	url.used = 10;
	assert_int_equal(db_crl_url_add(f->db, &url), 0); /* named again: no later */
	commit(f);
	assert_int_equal(db_crl_url_count(f->db, url.object, &count), 0);
	assert_int_equal(count, 2);
	assert_int_equal(db_crl_url_due(f->db, 39, 0, 0, &got), -ENOENT);
	assert_int_equal(db_crl_url_due(f->db, 60, 0, 0, &got), 0);
	assert_string_equal(got.url, "http://b/");
	assert_true(got.next == 40 && got.used == 10 && got.kind == CRL_OWN);
	assert_blob(&got.signer, "ca", 2);
	crl_url_clear(&got);
	assert_int_equal(db_crl_url_due(f->db, 60, 40, got.id, &got), 0);
	assert_string_equal(got.url, "http://a/");
	strcpy(got.etag, "\"x\"");
	got.next = 1000;
	got.failures = 3;
	begin(f);
	assert_int_equal(db_crl_url_update(f->db, &got), 0);
	assert_int_equal(db_crl_url_hurry(f->db, 500), 0);
	commit(f);
	crl_url_clear(&got);
	assert_int_equal(db_crl_url_find(f->db, url.object, "http://a/", &got), 0);
	assert_true(got.next == 500 && got.failures == 3 && strcmp(got.etag, "\"x\"") == 0);
	crl_url_clear(&got);
	begin(f);
	assert_int_equal(db_crl_url_remove(f->db, url.object, 0), 0);
	commit(f);
	assert_int_equal(db_crl_url_next(f->db, url.object, 0, &got), -ENOENT);
	crl_url_clear(&url);
}

struct open_rows {
	int64_t config, edition, version;
};

static bool is_open(enum row_kind kind, int64_t row, void *user)
{
	const struct open_rows *rows = user;

	return row == (kind == ROW_CONFIG    ? rows->config
	               : kind == ROW_EDITION ? rows->edition
	                                     : rows->version);
}

static bool has_edition(struct fixture *f, int64_t row)
{
	struct edition edition;
	int r = db_edition_get(f->db, row, &edition);

	edition_clear(&edition);
	return r == 0;
}

static void pruning_keeps_what_is_in_force_or_open(void **state)
{
	struct fixture *f = *state;
	struct edition edition = { 0 };
	struct open_rows rows = { 0 };
	int64_t other, config[4], shown[4], key[4];

	begin(f);
	other = add_object(f, KIND_LOCAL, "other");
	assert_int_equal(db_config_set(f->db, other, "x", 1, 1, &config[3]), 0);
	assert_int_equal(db_config_set(f->db, other, "y", 1, 1, &config[0]), 0);
	edition.object = add_object(f, KIND_LOCAL, "gate");
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(db_config_set(f->db, edition.object, "z", 1, 1, &config[i]), 0);
		edition.next_key = key[i] = add_key(f, edition.object);
		assert_int_equal(db_edition_add(f->db, &edition, &shown[i]), 0);
	}
	rows.config = config[0];
	rows.edition = shown[1];
	assert_int_equal(db_prune(f->db, edition.object, 2, is_open, &rows), 0);
	commit(f);
	assert_true(has_config(f, config[0])); /* open */
	assert_false(has_config(f, config[1]));
	assert_true(has_config(f, config[2])); /* in force */
	assert_true(has_config(f, config[3])); /* another object's */
	assert_false(has_edition(f, shown[0]));
	assert_true(has_edition(f, shown[1]) && has_edition(f, shown[2]));
	assert_false(has_key(f, key[0]));
	assert_true(has_key(f, key[1]) && has_key(f, key[2]));
	begin(f);
	rows = (struct open_rows){ 0 };
	assert_int_equal(db_prune(f->db, edition.object, 2, is_open, &rows), 0);
	commit(f);
	assert_false(has_config(f, config[0]) || has_edition(f, shown[1]) || has_key(f, key[1]));
	assert_true(has_config(f, config[2]) && has_edition(f, shown[2]) && has_key(f, key[2]));
}

static void old_versions_stay_and_the_keys_of_some(void **state)
{
	struct fixture *f = *state;
	struct edition edition = { 0 };
	struct open_rows rows = { 0 };
	struct version version;
	int64_t key[6], id[6];

	begin(f);
	edition.object = add_object(f, KIND_LOCAL, "gate");
	for (size_t i = 0; i < 6; i++) {
		edition.key_pair = key[i] = add_key(f, edition.object);
		edition.version = id[i] = add_version(f, edition.object, key[i]);
		assert_int_equal(db_edition_add(f->db, &edition, &id[i]), 0);
		id[i] = edition.version;
	}
	rows.version = id[1];
	assert_int_equal(db_prune(f->db, edition.object, 2, is_open, &rows), 0);
	commit(f);
	for (size_t i = 0; i < 6; i++) {
		bool kept = i == 1 || i >= 3; /* open; two old ones and the newest */

		assert_int_equal(db_version_get(f->db, id[i], &version), 0);
		assert_int_equal(version.number, i + 1);
		assert_int_equal(version.key_pair, kept ? key[i] : 0);
		version_clear(&version);
		assert_int_equal(has_key(f, key[i]), kept);
	}
}

static int count_step(void *user)
{
	++*(int64_t *)user;
	return 0;
}

/* Steps of SQLite's machine that one more version of OBJECT and its pruning take. */
static int64_t cost_of_a_version(struct fixture *f, int64_t object)
{
	struct edition edition = { .object = object };
	struct open_rows rows = { 0 };
	int64_t steps = 0, id;

	begin(f);
	edition.key_pair = add_key(f, object);
	sqlite3_progress_handler(f->db->sqlite, 1, count_step, &steps);
	edition.version = add_version(f, object, edition.key_pair);
	assert_int_equal(db_edition_add(f->db, &edition, &id), 0);
	assert_int_equal(db_prune(f->db, object, 2, is_open, &rows), 0);
	sqlite3_progress_handler(f->db->sqlite, 0, NULL, NULL);
	commit(f);
	return steps;
}

static void a_version_costs_the_same_however_many_there_are(void **state)
{
	struct fixture *f = *state;
	int64_t object, few = 0;

	begin(f);
	object = add_object(f, KIND_LOCAL, "gate");
	commit(f);
	for (size_t i = 0; i < 10; i++)
		few = cost_of_a_version(f, object);
	for (size_t i = 0; i < 300; i++)
		cost_of_a_version(f, object);
	assert_in_range(cost_of_a_version(f, object), few / 2, few * 2);
}

int main(void)
{
#define STORE(name) cmocka_unit_test_setup_teardown(name, make_store, remove_all)
	const struct CMUnitTest tests[] = {
		STORE(objects_are_found_by_kind_name_and_row),
		STORE(state_and_last_error_are_kept),
		STORE(a_row_number_never_comes_back),
		STORE(what_is_named_cannot_be_removed),
		STORE(who_names_goes_with_its_references),
		STORE(an_old_config_lives_until_it_is_pruned),
		STORE(a_key_pair_comes_back_as_it_was),
		STORE(versions_are_numbered_for_each_object),
		STORE(the_newest_edition_is_what_an_object_shows),
		STORE(a_profile_keeps_one_crl_of_each_slot),
		STORE(crl_urls_come_by_when_they_are_due),
		STORE(pruning_keeps_what_is_in_force_or_open),
		STORE(old_versions_stay_and_the_keys_of_some),
		STORE(a_version_costs_the_same_however_many_there_are),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
