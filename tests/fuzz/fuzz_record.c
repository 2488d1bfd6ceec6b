/*
 * Records: as people write them (first byte even) and as frames carry them (odd). What was read
 * must come back the same from encoding and decoding.
 */
#include "common/record.h"

#include <openssl/crypto.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
	if (!condition)
		abort();
}

static void same(const struct record *one, const struct record *other)
{
	must(record_count(one) == record_count(other));
	for (size_t i = 0; i < record_count(one); i++) {
		const struct field *a = record_field(one, i), *b = record_field(other, i);

		must(strcmp(a->key, b->key) == 0 && a->length == b->length &&
		     memcmp(a->value, b->value, a->length) == 0 && a->value[a->length] == '\0');
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct record *record = NULL, *again = NULL;
	unsigned char *bytes = NULL;
	size_t length = 0;
	struct error err;
	int r;

	if (size == 0)
		return 0;
	if (*data & 1)
		r = record_decode(data + 1, size - 1, &record);
	else
		r = record_parse((const char *)data + 1, size - 1, *data & 2 ? "action" : NULL,
		                 &record, &err);
	if (r == 0 && record_encode(record, &bytes, &length) == 0) {
		must(record_decode(bytes, length, &again) == 0);
		same(record, again);
	}
	OPENSSL_clear_free(bytes, length);
	record_free(again);
	record_free(record);
	return 0;
}
