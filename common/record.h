/*
 * The record: an ordered list of key = value pairs. A config file, a request, a job for a worker,
 * its result, a status file and an event are records; only their outer form differs.
 *
 * A value is LENGTH bytes and a NUL behind them, so text can be used as a string. Values may be
 * secrets: a record cleanses them when it drops them.
 */
#ifndef PKIFS_RECORD_H
#define PKIFS_RECORD_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct field {
	char *key;
	char *value;
	size_t length;
	unsigned line; /* in the text it was read from, else 0 */
};

struct record;

/* NULL when there is no memory. The caller owns it. */
struct record *record_new(void);

/* A record of its own with the same fields; NULL when there is no memory or RECORD has failed. */
struct record *record_copy(const struct record *record);

/* Cleanses and frees; takes NULL. */
void record_free(struct record *record);

/*
 * Add a field at the end. Out of memory marks the record as failed (record_failed); every
 * function that encodes or sends a record refuses a failed one, so callers check once.
 */
void record_add(struct record *record, const char *key, const char *value);
void record_add_bytes(struct record *record, const char *key, const void *value, size_t length);
void record_add_number(struct record *record, const char *key, long long value);
__attribute__((format(printf, 3, 4))) void record_addf(struct record *record, const char *key,
                                                       const char *format, ...);

/* Removes all fields of KEY. */
void record_remove(struct record *record, const char *key);

/* Removes all fields of KEY, then adds one with VALUE. */
void record_set(struct record *record, const char *key, const char *value);

/* Adds copies of all fields of FROM. */
void record_append(struct record *record, const struct record *from);

bool record_failed(const struct record *record);
size_t record_count(const struct record *record);
const struct field *record_field(const struct record *record, size_t index);

/* The last field of KEY (later wins), or NULL. */
const struct field *record_find(const struct record *record, const char *key);

/* The next field of KEY at or after *INDEX, which is moved behind it; NULL at the end. */
const struct field *record_next(const struct record *record, const char *key, size_t *index);

/* The last value of KEY, or NULL. The record keeps it. */
const char *record_get(const struct record *record, const char *key);

/* The value of KEY that goes with the N-th of another key: its N-th, or its only one, or NULL. */
const char *record_beside(const struct record *record, const char *key, size_t n);

/* The last value of KEY as a number, or OTHERWISE where it is missing or not one. */
long long record_number(const struct record *record, const char *key, long long otherwise);

/* True when the last value of KEY is VALUE. */
bool record_is(const struct record *record, const char *key, const char *value);

/*
 * Reads text as people write it: LENGTH bytes, not trusted, lines of `key = value`; `#` begins a
 * comment line; a value may stand in double quotes (with \" and \\ inside); CR before the line's
 * end is dropped. With BARE not NULL a text of one single word is the value of the key BARE.
 * The caller owns *RECORD. 0, or -EINVAL (the sentence names the line), -ENOMEM.
 */
int record_parse(const char *text, size_t length, const char *bare, struct record **record,
                 struct error *err);

/*
 * One text line as record_parse takes it, without its newline. 1 and the field's parts (which
 * the caller frees with free) for a setting, 0 for an empty or comment line, -EINVAL, -ENOMEM with
 * the parts NULL.
 */
int record_parse_line(const char *line, size_t length, unsigned number, char **key, char **value,
                      struct error *err);

/*
 * VALUE (one line) as record_parse reads it back: in quotes where it needs them. The caller frees
 * it with free; NULL when memory is out.
 */
char *record_quote(const char *value);

/*
 * The frame's body (common/frame.h): for each field a 16-bit key length, the key, a 32-bit value
 * length, the value; numbers in network order. The caller frees *BYTES (OPENSSL_clear_free).
 * Encoding: -ENOMEM, or -EMSGSIZE for a key or value that these lengths cannot tell. Decoding:
 * -EBADMSG for what is no record, or -ENOMEM.
 */
int record_encode(const struct record *record, unsigned char **bytes, size_t *length);
int record_decode(const unsigned char *bytes, size_t length, struct record **record);

#endif
