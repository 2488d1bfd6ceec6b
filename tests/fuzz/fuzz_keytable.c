/*
 * Texts as users write them: the first byte chooses the table. What passes the checks must come
 * back the same from redaction and restoring, and be found again after merging.
 */
#include "pkifs/keytable.h"

#include <openssl/crypto.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const struct key_table *const tables[] = { &ca_config_keys, &local_config_keys,
	                                          &local_request_keys, &daemon_keys };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
	if (!condition)
		abort();
}

/* True when both hold the same fields in the same order. */
static bool same(const struct record *one, const struct record *other)
{
	if (record_count(one) != record_count(other))
		return false;
	for (size_t i = 0; i < record_count(one); i++)
		if (strcmp(record_field(one, i)->key, record_field(other, i)->key) != 0 ||
		    strcmp(record_field(one, i)->value, record_field(other, i)->value) != 0)
			return false;
	return true;
}

/* A table's secret that repeats no key: only the last of several is kept by ***. */
static bool has_repeated_secret(const struct key_table *table, const struct record *record)
{
	for (size_t i = 0; i < record_count(record); i++) {
		const struct field *field = record_field(record, i);
		const struct key *key = key_find(table, field->key);

		if ((key->flags & KEY_SECRET) && !(key->flags & KEY_REPEATS) &&
		    record_find(record, field->key) != field)
			return true;
	}
	return false;
}

static void redact_and_restore(const struct key_table *table, const char *text, size_t length,
                               const struct record *record)
{
	struct record *again = NULL;
	char *redacted, *restored;
	size_t redacted_length, restored_length;
	struct error err;

	must(key_redact(table, text, length, &redacted, &redacted_length) == 0);
	must(key_restore(table, redacted, redacted_length, record, &restored, &restored_length,
	                 &err) == 0);
	must(record_parse(restored, restored_length, NULL, &again, &err) == 0);
	must(has_repeated_secret(table, record) || same(record, again));
	free(redacted);
	OPENSSL_clear_free(restored, restored_length + 1);
	record_free(again);
}

static void merge(const struct key_table *table, const char *text, size_t length,
                  const struct record *record)
{
	struct record *again = NULL;
	size_t merged_length;
	struct error err;
	char *merged;

	must(key_merge(table, text, length, record, &merged, &merged_length, &err) == 0);
	must(record_parse(merged, merged_length, NULL, &again, &err) == 0);
	for (size_t i = 0; i < record_count(record); i++) {
		const char *key = record_field(record, i)->key;

		must(strcmp(key_value(table, record, key), key_value(table, again, key)) == 0);
	}
	OPENSSL_clear_free(merged, merged_length + 1);
	record_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct key_table *table;
	const char *text = (const char *)data + 1;
	struct record *record = NULL, *effective;
	struct error err;

	if (!size)
		return 0;
	table = tables[data[0] % COUNT(tables)];
	size--;
	if (record_parse(text, size, "action", &record, &err) < 0)
		return 0;
	if (key_check_record(table, record, &err) == 0) {
		effective = key_effective(table, record);
		must(effective != NULL);
		must(key_check_record(table, effective, &err) == 0);
		record_free(effective);
		if (memchr(text, '=', size)) {
			redact_and_restore(table, text, size, record);
			merge(table, text, size, record);
		}
	}
	record_free(record);
	return 0;
}
