/*
 * pkifs.conf as an administrator writes it: what is refused has a sentence with its file; what is
 * taken gives sections that the store can read, and that read again are the same.
 */
#include "pkifs/conf.h"
#include "pkifs/declare.h"

#include <openssl/crypto.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
	if (!condition)
		abort();
}

/* Reads LENGTH bytes of TEXT as a file; NULL: refused. */
static struct record *read_text(const void *text, size_t length)
{
	static char path[32];
	static int fd = -1;
	struct record *conf = NULL;
	struct error err = { 0 };

	if (fd < 0) {
		fd = memfd_create("pkifs.conf", MFD_CLOEXEC);
		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	}
	must(fd >= 0 && ftruncate(fd, 0) == 0);
	must(pwrite(fd, text, length, 0) == (ssize_t)length);
	if (conf_read(path, false, &conf, &err) == 0)
		return conf;
	must(conf == NULL && strncmp(err.text, path, strlen(path)) == 0);
	return NULL;
}

static const struct key_table *table_of(const struct field *kind)
{
	return strcmp(kind->value, "ca") == 0 ? &ca_config_keys : &local_config_keys;
}

/* The sections of CONF as a file; each is checked on the way. The caller frees it. */
static char *write_again(const struct record *conf)
{
	const struct field *kind;
	char *text = NULL;
	size_t size;
	FILE *file = open_memstream(&text, &size);

	for (size_t i = 0; (kind = record_next(conf, CONF_KIND, &i)) != NULL;) {
		const struct field *name = record_field(conf, i), *keys = record_field(conf, i + 1);
		struct record *record = NULL;

		must(strcmp(name->key, CONF_NAME) == 0 && strcmp(keys->key, CONF_KEYS) == 0);
		must(strlen(keys->value) == keys->length);
		must(record_parse(keys->value, keys->length, NULL, &record, NULL) == 0);
		must(key_check_record(table_of(kind), record, NULL) == 0);
		record_free(record);
		fprintf(file, "[%s %s]\n%s", kind->value, name->value, keys->value);
	}
	fclose(file);
	return text;
}

static void compare(const struct record *one, const struct record *other, const char *key)
{
	const struct field *a, *b;
	size_t i = 0, j = 0;

	do {
		a = record_next(one, key, &i);
		b = record_next(other, key, &j);
		must(!a == !b && (!a || strcmp(a->value, b->value) == 0));
	} while (a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const parts[] = { CONF_KIND, CONF_NAME, CONF_KEYS };
	static const char *const protocols[] = { "scep", "cmpv2", "acme", "est" };
	struct record *conf = read_text(data, size), *again;
	static struct store store;
	char *text;

	if (!conf)
		return 0;
	text = write_again(conf);
	again = read_text(text, strlen(text));
	must(again != NULL);
	for (size_t i = 0; i < COUNT(parts); i++)
		compare(conf, again, parts[i]);
	free(text);
	record_free(again);
	store.conf = conf;
	must(declare_take(&store) == 0);
	for (size_t i = 0; i < COUNT(parts); i++)
		must(record_find(conf, parts[i]) == NULL);
	for (size_t i = 0; i < COUNT(protocols); i++) {
		const struct record *defaults = declared_defaults(protocols[i]);

		must(!defaults || key_check_record(&local_config_keys, defaults, NULL) == 0);
	}
	record_free(conf);
	return 0;
}
