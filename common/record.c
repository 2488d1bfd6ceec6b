#include "common/record.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct record {
	struct field *fields;
	size_t count, room;
	bool failed;
};

struct record *record_new(void)
{
	return calloc(1, sizeof(struct record));
}

static void field_clear(struct field *field)
{
	free(field->key);
	if (field->value)
		OPENSSL_cleanse(field->value, field->length);
	free(field->value);
}

void record_free(struct record *record)
{
	if (!record)
		return;
	for (size_t i = 0; i < record->count; i++)
		field_clear(&record->fields[i]);
	free(record->fields);
	free(record);
}

static char *copy(const void *bytes, size_t length)
{
	char *new = malloc(length + 1);

	if (!new)
		return NULL;
	if (length)
		memcpy(new, bytes, length);
	new[length] = 0;
	return new;
}

static struct field *new_field(struct record *record)
{
	size_t room = record->room ? record->room * 2 : 8;
	struct field *fields;

	if (record->count < record->room)
		return &record->fields[record->count];
	fields = realloc(record->fields, room * sizeof *fields);
	if (!fields)
		return NULL;
	record->fields = fields;
	record->room = room;
	return &fields[record->count];
}

static void add(struct record *record, const char *key, size_t key_length, const void *value,
                size_t length, unsigned line)
{
	struct field *field;

	if (record->failed)
		return;
	field = new_field(record);
	if (!field) {
		record->failed = true;
		return;
	}
	*field = (struct field){ .length = length, .line = line };
	field->key = copy(key, key_length);
	field->value = copy(value, length);
	if (!field->key || !field->value) {
		field_clear(field);
		record->failed = true;
		return;
	}
	record->count++;
}

void record_add_bytes(struct record *record, const char *key, const void *value, size_t length)
{
	add(record, key, strlen(key), value, length, 0);
}

void record_add(struct record *record, const char *key, const char *value)
{
	record_add_bytes(record, key, value, strlen(value));
}

void record_add_number(struct record *record, const char *key, long long value)
{
	record_addf(record, key, "%lld", value);
}

void record_addf(struct record *record, const char *key, const char *format, ...)
{
	char *text = NULL;
	va_list args;
	int length;

	va_start(args, format);
	length = vasprintf(&text, format, args);
	va_end(args);
	if (length < 0) {
		record->failed = true;
		return;
	}
	record_add_bytes(record, key, text, (size_t)length);
	free(text);
}

void record_remove(struct record *record, const char *key)
{
	size_t kept = 0;

	for (size_t i = 0; i < record->count; i++) {
		if (strcmp(record->fields[i].key, key) == 0)
			field_clear(&record->fields[i]);
		else
			record->fields[kept++] = record->fields[i];
	}
	record->count = kept;
}

void record_set(struct record *record, const char *key, const char *value)
{
	record_remove(record, key);
	record_add(record, key, value);
}

void record_append(struct record *record, const struct record *from)
{
	for (size_t i = 0; i < from->count; i++)
		add(record, from->fields[i].key, strlen(from->fields[i].key), from->fields[i].value,
		    from->fields[i].length, from->fields[i].line);
}

struct record *record_copy(const struct record *record)
{
	struct record *new = record_new();

	if (!new)
		return NULL;
	record_append(new, record);
	if (new->failed || record->failed) {
		record_free(new);
		return NULL;
	}
	return new;
}

bool record_failed(const struct record *record)
{
	return record->failed;
}

size_t record_count(const struct record *record)
{
	return record->count;
}

const struct field *record_field(const struct record *record, size_t index)
{
	return index < record->count ? &record->fields[index] : NULL;
}

const struct field *record_find(const struct record *record, const char *key)
{
	for (size_t i = record->count; i-- > 0;)
		if (strcmp(record->fields[i].key, key) == 0)
			return &record->fields[i];
	return NULL;
}

const struct field *record_next(const struct record *record, const char *key, size_t *index)
{
	while (*index < record->count) {
		const struct field *field = &record->fields[(*index)++];

		if (strcmp(field->key, key) == 0)
			return field;
	}
	return NULL;
}

const char *record_get(const struct record *record, const char *key)
{
	const struct field *field = record_find(record, key);

	return field ? field->value : NULL;
}

const char *record_beside(const struct record *record, const char *key, size_t n)
{
	const struct field *field, *only = NULL;
	size_t count = 0;

	for (size_t i = 0; (field = record_next(record, key, &i)); count++) {
		if (count == n)
			return field->value;
		only = field;
	}
	return count == 1 ? only->value : NULL;
}

long long record_number(const struct record *record, const char *key, long long otherwise)
{
	const char *value = record_get(record, key);
	long long number;
	char *end;

	if (!value || !*value)
		return otherwise;
	errno = 0;
	number = strtoll(value, &end, 10);
	return *end || errno ? otherwise : number;
}

bool record_is(const struct record *record, const char *key, const char *value)
{
	const char *has = record_get(record, key);

	return has && strcmp(has, value) == 0;
}

static void trim(const char **text, size_t *length)
{
	while (*length && isspace((unsigned char)**text)) {
		(*text)++;
		(*length)--;
	}
	while (*length && isspace((unsigned char)(*text)[*length - 1]))
		(*length)--;
}

/* Takes the quotes off in place. False when they do not pair up. */
static bool unquote(char *value)
{
	char *from = value + 1, *to = value;

	for (; *from && *from != '"'; from++) {
		if (*from == '\\' && (from[1] == '"' || from[1] == '\\'))
			from++;
		*to++ = *from;
	}
	if (*from != '"' || from[1])
		return false;
	OPENSSL_cleanse(to, (size_t)(from - to)); /* ends it; the rest may be of a secret */
	return true;
}

char *record_quote(const char *value)
{
	size_t length = strlen(value);
	char *quoted = malloc(2 * length + 3), *to = quoted;

	if (!quoted)
		return NULL;
	if (length && *value != '"' && !isspace((unsigned char)*value) &&
	    !isspace((unsigned char)value[length - 1]))
		return memcpy(quoted, value, length + 1);
	*to++ = '"';
	for (; *value; value++) {
		if (*value == '"' || *value == '\\')
			*to++ = '\\';
		*to++ = *value;
	}
	*to++ = '"';
	*to = 0;
	return quoted;
}

static bool key_is_word(const char *key, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (!isalnum((unsigned char)key[i]) && key[i] != '-' && key[i] != '_')
			return false;
	return length > 0;
}

int record_parse_line(const char *line, size_t length, unsigned number, char **key, char **value,
                      struct error *err)
{
	const char *equals, *text;
	size_t left;
	int r;

	trim(&line, &length);
	if (!length || *line == '#')
		return 0;
	for (size_t i = 0; i < length; i++)
		if (iscntrl((unsigned char)line[i]) && line[i] != '\t')
			return error_set(err, -EINVAL, "line %u has a control character", number);
	equals = memchr(line, '=', length);
	if (!equals)
		return error_set(err, -EINVAL, "line %u is not \"key = value\"", number);
	text = equals + 1;
	left = length - (size_t)(text - line);
	length = (size_t)(equals - line);
	trim(&line, &length);
	trim(&text, &left);
	if (!key_is_word(line, length))
		return error_set(err, -EINVAL, "line %u is not \"key = value\"", number);
	*key = copy(line, length);
	*value = copy(text, left);
	if (*key && *value && (**value != '"' || unquote(*value)))
		return 1;
	if (!*key || !*value)
		r = error_set(err, -ENOMEM, "out of memory");
	else
		r = error_set(err, -EINVAL, "line %u: the value of %s lacks its closing quote",
		              number, *key);
	if (*value)
		OPENSSL_cleanse(*value, left);
	free(*key);
	free(*value);
	*key = *value = NULL;
	return r;
}

/* The single word of a text such as "enroll\n", or a length of 0. */
static size_t bare_word(const char **text, size_t length)
{
	trim(text, &length);
	if (length > 64 || !key_is_word(*text, length))
		return 0;
	return length;
}

int record_parse(const char *text, size_t length, const char *bare, struct record **record,
                 struct error *err)
{
	struct record *new = record_new();
	const char *word = text, *end = text + length;
	unsigned number = 0;
	size_t size;
	int r = 0;

	if (!new)
		return error_set(err, -ENOMEM, "out of memory");
	size = bare && length ? bare_word(&word, length) : 0;
	if (size) {
		add(new, bare, strlen(bare), word, size, 1);
		text = end;
	}
	while (text < end && r >= 0) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		size_t line = (size_t)((newline ? newline : end) - text);
		char *key = NULL, *value = NULL;

		r = record_parse_line(text, line, ++number, &key, &value, err);
		if (r > 0) {
			add(new, key, strlen(key), value, strlen(value), number);
			OPENSSL_cleanse(value, strlen(value));
			free(key);
			free(value);
		}
		text += line + (newline ? 1 : 0);
	}
	if (r >= 0 && new->failed)
		r = error_set(err, -ENOMEM, "out of memory");
	if (r < 0) {
		record_free(new);
		return r;
	}
	*record = new;
	return 0;
}

static unsigned char *put(unsigned char *at, size_t number, int size)
{
	while (size-- > 0)
		*at++ = (unsigned char)(number >> (8 * size));
	return at;
}

int record_encode(const struct record *record, unsigned char **bytes, size_t *length)
{
	size_t size = 0, key;
	unsigned char *at;

	if (record->failed)
		return -ENOMEM;
	for (size_t i = 0; i < record->count; i++)
		size += 6 + strlen(record->fields[i].key) + record->fields[i].length;
	for (size_t i = 0; i < record->count; i++)
		if (strlen(record->fields[i].key) > UINT16_MAX ||
		    record->fields[i].length > UINT32_MAX)
			return -EMSGSIZE;
	at = *bytes = OPENSSL_malloc(size ? size : 1);
	if (!at)
		return -ENOMEM;
	*length = size;
	for (size_t i = 0; i < record->count; i++) {
		const struct field *field = &record->fields[i];

		key = strlen(field->key);
		at = put(at, key, 2);
		memcpy(at, field->key, key);
		at = put(at + key, field->length, 4);
		memcpy(at, field->value, field->length);
		at += field->length;
	}
	return 0;
}

/* Takes a length of SIZE bytes and as many bytes as it says; NULL when they are not all there. */
static const unsigned char *take(const unsigned char **at, size_t *left, int size, size_t *length)
{
	const unsigned char *bytes;

	if (*left < (size_t)size)
		return NULL;
	*left -= (size_t)size;
	for (*length = 0; size > 0; size--)
		*length = *length << 8 | *(*at)++;
	if (*left < *length)
		return NULL;
	bytes = *at;
	*at += *length;
	*left -= *length;
	return bytes;
}

int record_decode(const unsigned char *bytes, size_t length, struct record **record)
{
	struct record *new = record_new();

	if (!new)
		return -ENOMEM;
	while (length && !new->failed) {
		size_t key_length, value_length;
		const unsigned char *key = take(&bytes, &length, 2, &key_length);
		const unsigned char *value = key ? take(&bytes, &length, 4, &value_length) : NULL;

		if (!value || !key_is_word((const char *)key, key_length)) {
			record_free(new);
			return -EBADMSG;
		}
		add(new, (const char *)key, key_length, value, value_length, 0);
	}
	if (new->failed) {
		record_free(new);
		return -ENOMEM;
	}
	*record = new;
	return 0;
}
