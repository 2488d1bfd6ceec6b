/*
 * What a CMP CA sends, and what the store gives back of it over a restart: bit 0 of the first byte
 * says whether the rest is a message, or what a general message says of the next root CA.
 */
#include "enroll/cmp_answer.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
	if (!condition)
		abort();
}

/* Nobody has proven it: it must be told so, in words, and never be more than that. */
static void read_message(const uint8_t *der, size_t length)
{
	struct record *settings = record_new();
	OSSL_CMP_MSG *message = cmp_message_read(der, length);
	unsigned char *again = NULL;
	struct error err;
	size_t size;

	must(settings != NULL);
	record_add(settings, "ca-secret", "no message's secret");
	if (message) {
		must(!cmp_proven_by_secret(message, record_find(settings, "ca-secret")));
		must(cmp_message_der(message, &again, &size) == 0);
		must(cmp_unproven(der, length, NULL, &err) == -EBADMSG && *err.text);
	}
	OPENSSL_free(again);
	OSSL_CMP_MSG_free(message);
	record_free(settings);
}

static void read_update(const uint8_t *der, size_t length)
{
	struct record *result = record_new();
	ASN1_TYPE *value = d2i_ASN1_TYPE(NULL, &der, (long)length);

	must(result != NULL);
	must(cmp_next_read(value, result) == (record_find(result, "next") != NULL));
	ASN1_TYPE_free(value);
	record_free(result);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	if (*data & 1)
		read_update(data + 1, size - 1);
	else
		read_message(data + 1, size - 1);
	ERR_clear_error();
	return 0;
}
