#include "pkifs/told.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 1024

static struct told *all[BUCKETS]; /* by object */

static struct told **bucket_of(int64_t object)
{
	return &all[(uint64_t)object % BUCKETS];
}

static struct told *first_from(size_t bucket)
{
	while (bucket < BUCKETS && !all[bucket])
		bucket++;
	return bucket < BUCKETS ? all[bucket] : NULL;
}

struct told *told_next(const struct told *told)
{
	if (told && told->next)
		return told->next;
	return first_from(told ? (size_t)(bucket_of(told->object) - all) + 1 : 0);
}

struct told *told_find(int64_t object)
{
	struct told *told = *bucket_of(object);

	while (told && told->object != object)
		told = told->next;
	return told;
}

struct told *told_of(int64_t object)
{
	struct told *told = told_find(object), **bucket = bucket_of(object);

	if (told)
		return told;
	told = calloc(1, sizeof *told);
	if (told) {
		told->object = object;
		told->approved = -1;
		told->next = *bucket;
		*bucket = told;
	}
	return told;
}

void told_drop(int64_t object)
{
	struct told **at = bucket_of(object), *told;

	while (*at && (*at)->object != object)
		at = &(*at)->next;
	told = *at;
	if (!told)
		return;
	*at = told->next;
	free(told->stands_on);
	record_free(told->counters);
	record_free(told->seen);
	free(told);
}

int told_seen(struct told *told, const struct record *record)
{
	static const char *const keys[] = { "spi-in", "spi-out" };
	struct record *seen = record_new();
	const struct field *field;

	for (size_t k = 0; seen && k < COUNT(keys); k++)
		for (size_t i = 0; (field = record_next(record, keys[k], &i)) != NULL;)
			record_add(seen, keys[k], field->value);
	record_free(told->seen);
	told->seen = seen;
	return seen && !record_failed(seen) ? 0 : -ENOMEM;
}

void told_counters(const struct record *record)
{
	const struct field *field;

	for (struct told *told = NULL; (told = told_next(told));) {
		record_free(told->counters);
		told->counters = NULL;
	}
	for (size_t i = 0; (field = record_next(record, "sa", &i)) != NULL;) {
		const char *rest = strchr(field->value, ' ');
		struct told *told = told_find(strtoll(field->value, NULL, 10));

		if (told && !told->counters)
			told->counters = record_new();
		if (rest && told && told->counters)
			record_add(told->counters, "sa", rest + 1);
	}
}

static void add_counters(const struct told *told, const char *spi, const char *name,
                         struct record *status)
{
	size_t length = strlen(spi);
	const struct field *field;

	for (size_t i = 0;
	     told->counters && (field = record_next(told->counters, "sa", &i)) != NULL;) {
		unsigned long long bytes, packets;
		char key[24];

		if (strncmp(field->value, spi, length) != 0 || field->value[length] != ' ' ||
		    sscanf(field->value + length, "%llu %llu", &bytes, &packets) != 2)
			continue;
		snprintf(key, sizeof key, "bytes-%s", name);
		record_add_number(status, key, (long long)bytes);
		snprintf(key, sizeof key, "packets-%s", name);
		record_add_number(status, key, (long long)packets);
	}
}

/* The SPIs of the last pair in decimal, as counters have them. */
static void seen_numbers(const struct record *seen, char in[16], char out[16])
{
	const char *spi_in = record_get(seen, "spi-in"), *spi_out = record_get(seen, "spi-out");

	if (spi_in && spi_out) {
		snprintf(in, 16, "%lu", strtoul(spi_in, NULL, 16));
		snprintf(out, 16, "%lu", strtoul(spi_out, NULL, 16));
	}
}

void told_describe(const struct told *told, char in[16], char out[16], struct record *status)
{
	if (!*in && told->seen) {
		record_append(status, told->seen);
		seen_numbers(told->seen, in, out);
	}
	if (!*in)
		return;
	add_counters(told, in, "in", status);
	add_counters(told, out, "out", status);
}
