/*
 * The key tables: one row per setting of an object's config, of a request and of pkifs.conf.
 * Parsing, checking, defaults, redaction, completion and the manual's lists all come from here;
 * a new setting is one row.
 */
#ifndef PKIFS_KEYTABLE_H
#define PKIFS_KEYTABLE_H

#include "common/record.h"

enum key_flag {
	KEY_SECRET = 1,  /* shown as *** */
	KEY_REPEATS = 2, /* may stand more than once (up to max_count where that is not 0) */
	KEY_ROOT = 4,    /* only root may set it (in a store started by root) */
	KEY_CA = 8,      /* names a CA profile that must exist */
	KEY_LOCAL = 16,  /* names a certificate id that must exist */
	KEY_LATER = 32,  /* known and checked, without effect in this version */
};

struct key {
	const char *name;
	unsigned flags;
	const char *fallback; /* the default as text, or NULL */
	/* 0, or -EINVAL with a sentence that names key, range and value (secrets are not quoted) */
	int (*check)(const struct key *key, const char *value, struct error *err);
	long min, max;
	const char *values; /* the words it takes (of a size: the usual ones), by blanks, or NULL */
	const char *unit;   /* "seconds", "times" … or NULL */
	unsigned max_count; /* of a repeating key; 0: no limit */
	const char *help;   /* one line, for pkictl's help and the manual */
};

struct key_table {
	const char *title; /* "ca/<profile>/config" */
	const struct key *keys;
	size_t count;
};

extern const struct key_table ca_config_keys, ca_request_keys;
extern const struct key_table ipsec_config_keys, ipsec_request_keys;
extern const struct key_table verify_keys;
extern const struct key_table local_config_keys, local_request_keys;
extern const struct key_table daemon_keys;

/* What stands for a value in help and manual: "URL", "yes|no", "1-99 percent". */
#define PLACEHOLDER_MAX 256
void key_placeholder(const struct key *key, char *text);

/* Those of its values that this version takes without effect or refuses, by blanks, or NULL. */
const char *key_later(const struct key *key);

/* The row of NAME (other spellings that the contract takes included), or NULL. */
const struct key *key_find(const struct key_table *table, const char *name);

/* Letters to insert, delete, change or swap to make ONE of OTHER; both up to KEY_NAME_MAX. */
#define KEY_NAME_MAX 40
size_t name_distance(const char *one, const char *other);

/* One field: known, in range. Errors begin "line N: " where the field has a line. */
int key_check_field(const struct key_table *table, const struct field *field, struct error *err);

/* Every field of RECORD, and how often each stands. 0 or -EINVAL. */
int key_check_record(const struct key_table *table, const struct record *record, struct error *err);

/* Whether RECORD has the key NAME, however it is spelled. */
bool key_stands(const struct key_table *table, const struct record *record, const char *name);

/* The last value of NAME in RECORD, or its default; NULL when it has neither. */
const char *key_value(const struct key_table *table, const struct record *record, const char *name);

/* RECORD with the default of each missing key added; the caller owns it. NULL: no memory. */
struct record *key_effective(const struct key_table *table, const struct record *record);

/*
 * TEXT (as the user wrote it) with the value of every secret as ***; comments, order and blanks
 * are kept. The caller frees *OUT (free; no secret in it). 0, -ENOMEM.
 */
int key_redact(const struct key_table *table, const char *text, size_t length, char **out,
               size_t *out_length);

/*
 * TEXT with each secret written as *** replaced by the value that OLD (may be NULL) has for that
 * key; in the n-th line of a repeating key by the n-th value, so that its neighbours may change.
 * Its last line is ended, so that what is appended is a line of its own.
 * -EINVAL where OLD has none. The caller frees *OUT
 * (OPENSSL_clear_free with *OUT_LENGTH + 1).
 */
int key_restore(const struct key_table *table, const char *text, size_t length,
                const struct record *old, char **out, size_t *out_length, struct error *err);

/*
 * TEXT with the lines of every key in CHANGES replaced by CHANGES' own fields (where the key
 * stood, else at the end; one with an empty value takes its key out): how the keys that stand in
 * a request, or are declared, are saved with the config. The caller frees *OUT as above.
 */
int key_merge(const struct key_table *table, const char *text, size_t length,
              const struct record *changes, char **out, size_t *out_length, struct error *err);

#endif
