/* What charon sends: packets of VICI, and what list-sas says. What was read is written as it was.
 */
#include "netlink/charon.h"
#include "netlink/vici.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void compare(const struct record *one, const struct record *other)
{
	if (record_count(one) != record_count(other))
		abort();
	for (size_t i = 0; i < record_count(one); i++) {
		const struct field *a = record_field(one, i), *b = record_field(other, i);

		if (strcmp(a->key, b->key) != 0 || a->length != b->length ||
		    memcmp(a->value, b->value, a->length) != 0)
			abort();
	}
}

static void write_again(enum vici_packet type, const char *name, const struct record *message)
{
	unsigned char *bytes = NULL;
	struct record *again = NULL;
	char again_name[VICI_NAME_MAX];
	enum vici_packet again_type;
	size_t length = 0;

	if (vici_encode(type, *name ? name : NULL, message, &bytes, &length) < 0)
		return;
	if (vici_decode(bytes + 4, length - 4, &again_type, again_name, &again) < 0 ||
	    type != again_type || strcmp(name, again_name) != 0)
		abort();
	compare(message, again);
	record_free(again);
	OPENSSL_clear_free(bytes, length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct charon_sas sas = { 0 };
	struct record *message = NULL;
	char name[VICI_NAME_MAX];
	enum vici_packet type;

	if (vici_decode(data, size, &type, name, &message) < 0)
		return 0;
	if (message) {
		for (int i = 0; i < 3; i++)
			charon_sas_read(message, "pkifs-5", &sas);
		write_again(type, name, message);
	}
	record_free(message);
	return 0;
}
