/*
 * What a CMP CA sends, and what the store gives back of it over a restart: bit 0 of the first byte
 * says whether the rest is a message, or what a general message has as a value.
 */
#include "enroll/cmp_answer.h"
#include "enroll/cmp_told.h"

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

static void read_value(const uint8_t *der, size_t length)
{
	const uint8_t *at = der;
	struct record *result = record_new();
	ASN1_TYPE *value = d2i_ASN1_TYPE(NULL, &at, (long)length);
	STACK_OF(ASN1_TYPE) *list = cmp_told_list(value);
	struct cmp_template template;
	struct error err = { 0 };

	must(result != NULL);
	must(cmp_told_next(value, result) == (record_find(result, "next") != NULL));
	must(cmp_told_template(der, length, &template, &err) == (err.code ? -EBADMSG : 0));
	must(template.kinds.count <= KEY_KINDS_MAX);
	cmp_template_clear(&template);
	sk_ASN1_TYPE_pop_free(list, ASN1_TYPE_free);
	ASN1_TYPE_free(value);
	record_free(result);
}

static void read_answer(const uint8_t *der, size_t length)
{
	static const char *const types[] = { ID_IT_CA_CERTS, ID_IT_ROOT_CA_KEY_UPDATE, ID_IT_CRLS,
		                             ID_IT_CURRENT_CRL, ID_IT_CERT_REQ_TEMPLATE };

	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		ASN1_TYPE_free(cmp_told_value(der, length, types[i]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	if (*data & 1)
		read_value(data + 1, size - 1);
	else
		read_message(data + 1, size - 1);
	read_answer(data + 1, size - 1);
	ERR_clear_error();
	return 0;
}
