#include "pkifs/keytable.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#define ROWS_MAX 64 /* of a table */

static const char hidden[] = "***";

/* Other spellings of a key. */
static const struct {
	const char *spelling, *name;
} aliases[] = {
	{ "re-enroll-trigger-time", "re-enroll-trigger-time-percentage" },
};

static const struct key *find_exactly(const struct key_table *table, const char *name)
{
	for (size_t i = 0; i < table->count; i++)
		if (strcmp(table->keys[i].name, name) == 0)
			return &table->keys[i];
	return NULL;
}

const struct key *key_find(const struct key_table *table, const char *name)
{
	for (size_t i = 0; i < COUNT(aliases); i++)
		if (strcmp(aliases[i].spelling, name) == 0)
			name = aliases[i].name;
	return find_exactly(table, name);
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

size_t name_distance(const char *one, const char *other)
{
	size_t rows[3][KEY_NAME_MAX + 1], columns = strlen(other);
	size_t *before = rows[0], *last = rows[1], *now = rows[2], *spare;

	for (size_t j = 0; j <= columns; j++)
		last[j] = j;
	for (size_t i = 1; one[i - 1]; i++) {
		now[0] = i;
		for (size_t j = 1; j <= columns; j++) {
			now[j] = least(least(last[j], now[j - 1]) + 1,
			               last[j - 1] + (one[i - 1] != other[j - 1]));
			if (i > 1 && j > 1 && one[i - 1] == other[j - 2] &&
			    one[i - 2] == other[j - 1])
				now[j] = least(now[j], before[j - 2] + 1);
		}
		spare = before;
		before = last;
		last = now;
		now = spare;
	}
	return last[columns];
}

static int unknown_key(const struct key_table *table, const char *name, struct error *err)
{
	size_t length = strlen(name), nearest = length / 3 + 1;
	const char *suggestion = NULL;

	for (size_t i = 0; i < table->count && length <= KEY_NAME_MAX; i++) {
		size_t far = name_distance(name, table->keys[i].name);

		if (far < nearest) {
			nearest = far;
			suggestion = table->keys[i].name;
		}
	}
	if (suggestion)
		return error_set(err, -EINVAL, "unknown key \"%s\"; did you mean %s?", name,
		                 suggestion);
	return error_set(err, -EINVAL, "unknown key \"%.80s\"", name);
}

static int check_value(const struct key_table *table, const struct field *field, struct error *err)
{
	const struct key *key = key_find(table, field->key);

	if (!key)
		return unknown_key(table, field->key, err);
	if (strlen(field->value) != field->length)
		return error_set(err, -EINVAL, "%s has a NUL byte in its value", key->name);
	if ((key->flags & KEY_SECRET) && strcmp(field->value, hidden) == 0)
		return 0; /* "as it was": key_restore knows whether there was one */
	return key->check(key, field->value, err);
}

int key_check_field(const struct key_table *table, const struct field *field, struct error *err)
{
	struct error reason = { 0 };
	int r = check_value(table, field, &reason);

	if (r == 0)
		return 0;
	if (field->line)
		return error_set(err, r, "line %u: %s", field->line, reason.text);
	return error_set(err, r, "%s", reason.text);
}

static size_t count_fields(const struct record *record, const char *key)
{
	size_t index = 0, count = 0;

	while (record_next(record, key, &index))
		count++;
	return count;
}

int key_check_record(const struct key_table *table, const struct record *record, struct error *err)
{
	for (size_t i = 0; i < record_count(record); i++) {
		int r = key_check_field(table, record_field(record, i), err);

		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < table->count; i++) {
		const struct key *key = &table->keys[i];
		size_t count = key->max_count ? count_fields(record, key->name) : 0;

		if (count > key->max_count)
			return error_set(err, -EINVAL, "%s may stand up to %u times, not %zu",
			                 key->name, key->max_count, count);
	}
	return 0;
}

bool key_stands(const struct key_table *table, const struct record *record, const char *name)
{
	const struct key *key = key_find(table, name);

	for (size_t i = 0; i < record_count(record); i++)
		if (key_find(table, record_field(record, i)->key) == key)
			return key != NULL;
	return false;
}

const char *key_value(const struct key_table *table, const struct record *record, const char *name)
{
	const struct key *key = key_find(table, name);

	if (!key)
		return NULL;
	for (size_t i = record_count(record); i-- > 0;)
		if (key_find(table, record_field(record, i)->key) == key)
			return record_field(record, i)->value;
	return key->fallback;
}

struct record *key_effective(const struct key_table *table, const struct record *record)
{
	struct record *effective = record_new();

	if (!effective)
		return NULL;
	for (size_t i = 0; i < record_count(record); i++) {
		const struct field *field = record_field(record, i);
		const struct key *key = key_find(table, field->key);

		record_add_bytes(effective, key ? key->name : field->key, field->value,
		                 field->length);
	}
	for (size_t i = 0; i < table->count; i++)
		if (table->keys[i].fallback && !record_find(effective, table->keys[i].name))
			record_add(effective, table->keys[i].name, table->keys[i].fallback);
	if (record_failed(effective) || record_failed(record)) {
		record_free(effective);
		return NULL;
	}
	return effective;
}

/* A text that grows, with secrets in it: cleansed when it moves or goes. */
struct text {
	char *bytes;
	size_t length, room;
	bool failed;
};

static void text_add(struct text *text, const char *bytes, size_t length)
{
	size_t room = (text->length + length + 1) * 2;
	char *bigger;

	if (text->failed)
		return;
	if (text->length + length + 1 > text->room) {
		bigger = OPENSSL_clear_realloc(text->bytes, text->room, room);
		if (!bigger) {
			text->failed = true;
			return;
		}
		text->bytes = bigger;
		text->room = room;
	}
	if (length)
		memcpy(text->bytes + text->length, bytes, length);
	text->length += length;
	text->bytes[text->length] = 0;
}

static void text_clear(struct text *text)
{
	OPENSSL_clear_free(text->bytes, text->room);
	*text = (struct text){ 0 };
}

/*
 * Hands the text over as bytes for OPENSSL_clear_free with LENGTH + 1: what lies behind them is
 * given up first, with nothing of value in it.
 */
static int text_take(struct text *text, char **out, size_t *length)
{
	char *exact = NULL;

	text_add(text, "", 0);
	if (!text->failed)
		exact = OPENSSL_malloc(text->length + 1);
	if (!exact) {
		text_clear(text);
		return -ENOMEM;
	}
	memcpy(exact, text->bytes, text->length + 1);
	*out = exact;
	*length = text->length;
	text_clear(text);
	return 0;
}

/* VALUE may be a secret. */
static void text_add_value(struct text *text, const char *value)
{
	char *quoted = record_quote(value);

	if (!quoted) {
		text->failed = true;
		return;
	}
	text_add(text, quoted, strlen(quoted));
	OPENSSL_cleanse(quoted, strlen(quoted));
	free(quoted);
}

/* A line of a text, newline included, and the parts of a setting in it. */
struct line {
	const char *bytes;
	size_t length;
	const struct key *key;      /* NULL: no setting, or none of the table's */
	size_t value, value_length; /* where its value stands, blanks around it left out */
};

/* As record_parse sees it: what it takes for a setting must not be missed here. */
static bool is_blank(char c)
{
	return isspace((unsigned char)c);
}

static const struct key *key_of_line(const struct key_table *table, const char *bytes,
                                     size_t length)
{
	char name[KEY_NAME_MAX + 1];

	while (length && is_blank(*bytes)) {
		bytes++;
		length--;
	}
	while (length && is_blank(bytes[length - 1]))
		length--;
	if (!length || length > KEY_NAME_MAX || *bytes == '#')
		return NULL;
	memcpy(name, bytes, length);
	name[length] = 0;
	return key_find(table, name);
}

/* The next line at *TEXT, which moves behind it. False at the end. */
static bool next_line(const struct key_table *table, const char **text, size_t *left,
                      struct line *line)
{
	const char *newline, *equals;

	if (!*left)
		return false;
	newline = memchr(*text, '\n', *left);
	*line = (struct line){ .bytes = *text, .length = *left };
	if (newline)
		line->length = (size_t)(newline + 1 - *text);
	*text += line->length;
	*left -= line->length;
	equals = memchr(line->bytes, '=', line->length);
	if (!equals)
		return true;
	line->key = key_of_line(table, line->bytes, (size_t)(equals - line->bytes));
	line->value = (size_t)(equals + 1 - line->bytes);
	line->value_length = line->length - line->value;
	while (line->value_length && is_blank(line->bytes[line->value + line->value_length - 1]))
		line->value_length--;
	while (line->value_length && is_blank(line->bytes[line->value])) {
		line->value++;
		line->value_length--;
	}
	return true;
}

/* The line with another value. */
static void text_add_line(struct text *text, const struct line *line, const char *value, bool as_is)
{
	size_t end = line->value + line->value_length;

	text_add(text, line->bytes, line->value);
	if (as_is)
		text_add(text, value, strlen(value));
	else
		text_add_value(text, value);
	text_add(text, line->bytes + end, line->length - end);
}

int key_redact(const struct key_table *table, const char *text, size_t length, char **out,
               size_t *out_length)
{
	struct text new = { 0 };
	struct line line;

	while (next_line(table, &text, &length, &line)) {
		if (line.key && (line.key->flags & KEY_SECRET))
			text_add_line(&new, &line, hidden, true);
		else
			text_add(&new, line.bytes, line.length);
	}
	text_add(&new, "", 0);
	*out = new.failed ? NULL : malloc(new.length + 1);
	*out_length = new.length;
	if (*out)
		memcpy(*out, new.bytes, new.length + 1);
	text_clear(&new);
	return *out ? 0 : -ENOMEM;
}

static bool is_hidden(const struct line *line)
{
	const char *value = line->bytes + line->value;
	size_t length = line->value_length;

	if (!line->key || !(line->key->flags & KEY_SECRET))
		return false;
	if (length == 5 && value[0] == '"' && value[4] == '"') {
		value++;
		length = 3;
	}
	return length == strlen(hidden) && memcmp(value, hidden, length) == 0;
}

/* The value in OLD that stands for the *** in the line of KEY that is the NTH of its key. */
static const char *old_value(const struct key *key, const struct record *old, size_t nth)
{
	const struct field *field = NULL;
	size_t index = 0;

	if (!old)
		return NULL;
	if (!(key->flags & KEY_REPEATS))
		return record_get(old, key->name);
	for (size_t i = 0; i <= nth; i++)
		field = record_next(old, key->name, &index);
	return field ? field->value : NULL;
}

static void text_end_line(struct text *text)
{
	if (text->length && text->bytes[text->length - 1] != '\n')
		text_add(text, "\n", 1);
}

int key_restore(const struct key_table *table, const char *text, size_t length,
                const struct record *old, char **out, size_t *out_length, struct error *err)
{
	size_t seen[ROWS_MAX] = { 0 }; /* lines of each key, by its row */
	struct text new = { 0 };
	unsigned number = 0;
	struct line line;

	assert(table->count <= ROWS_MAX);
	while (next_line(table, &text, &length, &line)) {
		size_t row = line.key ? (size_t)(line.key - table->keys) : 0;
		const char *value;

		number++;
		if (is_hidden(&line)) {
			value = old_value(line.key, old, seen[row]);
			if (!value) {
				text_clear(&new);
				return error_set(err, -EINVAL,
				                 "line %u: %s = *** keeps the value it has, but "
				                 "there is none yet; write the value itself",
				                 number, line.key->name);
			}
			text_add_line(&new, &line, value, false);
		} else {
			text_add(&new, line.bytes, line.length);
		}
		if (line.key)
			seen[row]++;
	}
	text_end_line(&new);
	if (text_take(&new, out, out_length) < 0)
		return error_set(err, -ENOMEM, "out of memory");
	return 0;
}

/* All fields of KEY in CHANGES as lines. */
static void text_add_fields(struct text *text, const struct key_table *table,
                            const struct record *changes, const struct key *key)
{
	const struct field *last = NULL;

	text_end_line(text);
	for (size_t i = 0; i < record_count(changes); i++) {
		const struct field *field = record_field(changes, i);

		if (key_find(table, field->key) != key)
			continue;
		last = field;
		if (!(key->flags & KEY_REPEATS) || !*field->value)
			continue;
		text_add(text, key->name, strlen(key->name));
		text_add(text, " = ", 3);
		text_add_value(text, field->value);
		text_add(text, "\n", 1);
	}
	if (last && *last->value && !(key->flags & KEY_REPEATS)) {
		text_add(text, key->name, strlen(key->name));
		text_add(text, " = ", 3);
		text_add_value(text, last->value);
		text_add(text, "\n", 1);
	}
}

int key_merge(const struct key_table *table, const char *text, size_t length,
              const struct record *changes, char **out, size_t *out_length, struct error *err)
{
	bool written[ROWS_MAX] = { false }; /* by row */
	struct text new = { 0 };
	struct line line;

	assert(table->count <= ROWS_MAX);
	while (next_line(table, &text, &length, &line)) {
		size_t row = line.key ? (size_t)(line.key - table->keys) : 0;

		if (!line.key || !key_stands(table, changes, line.key->name))
			text_add(&new, line.bytes, line.length);
		else if (!written[row])
			text_add_fields(&new, table, changes, line.key);
		if (line.key)
			written[row] = true;
	}
	for (size_t i = 0; i < table->count; i++)
		if (!written[i] && key_stands(table, changes, table->keys[i].name))
			text_add_fields(&new, table, changes, &table->keys[i]);
	if (text_take(&new, out, out_length) < 0)
		return error_set(err, -ENOMEM, "out of memory");
	return 0;
}
