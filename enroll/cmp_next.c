/*
 * The root CA certificate that follows, asked for in a general message (RFC 9483 §4.3.2):
 *
 *   genm { id-it-rootCaCert: the one that we have } ──► genp { id-it-rootCaKeyUpdate }
 *
 * Not every CA knows it, and none owes it: without an answer that is proven there is no news.
 */
#include "enroll/cmp_answer.h"
#include "enroll/cmp_client.h"

#include <openssl/err.h>

/* OpenSSL 3.0 has no names for them (RFC 9480 §2.15, §2.14). */
#define ID_IT_ROOT_CA_CERT       "1.3.6.1.5.5.7.4.20"
#define ID_IT_ROOT_CA_KEY_UPDATE "1.3.6.1.5.5.7.4.18"

static OSSL_CMP_MSG *transfer(OSSL_CMP_CTX *context, const OSSL_CMP_MSG *message)
{
	struct cmp_client *client = OSSL_CMP_CTX_get_transfer_cb_arg(context);
	struct http_answer answer;
	OSSL_CMP_MSG *got = NULL;

	if (cmp_client_send(client, message, false, &answer, NULL) == 0)
		got = cmp_message_read(answer.body, answer.length);
	http_answer_clear(&answer);
	return got;
}

/* The question, with the CA certificate DER that is to be followed. */
static OSSL_CMP_ITAV *question(const struct field *ca)
{
	ASN1_TYPE *value = ASN1_TYPE_new();
	ASN1_STRING *der = ASN1_STRING_type_new(V_ASN1_SEQUENCE);
	ASN1_OBJECT *type = OBJ_txt2obj(ID_IT_ROOT_CA_CERT, 1);

	if (value && type && der && ASN1_STRING_set(der, ca->value, (int)ca->length)) {
		ASN1_TYPE_set(value, V_ASN1_SEQUENCE, der);
		return OSSL_CMP_ITAV_create(type, value);
	}
	ASN1_STRING_free(der);
	ASN1_TYPE_free(value);
	ASN1_OBJECT_free(type);
	return NULL;
}

static void ask(struct cmp_client *client, OSSL_CMP_ITAV *asked)
{
	ASN1_OBJECT *wanted = OBJ_txt2obj(ID_IT_ROOT_CA_KEY_UPDATE, 1);
	STACK_OF(OSSL_CMP_ITAV) *told = NULL;

	if (OSSL_CMP_CTX_push0_genm_ITAV(client->context, asked))
		told = OSSL_CMP_exec_GENM_ses(client->context);
	else
		OSSL_CMP_ITAV_free(asked);
	for (int i = 0; wanted && i < sk_OSSL_CMP_ITAV_num(told); i++) {
		const OSSL_CMP_ITAV *item = sk_OSSL_CMP_ITAV_value(told, i);

		if (OBJ_cmp(OSSL_CMP_ITAV_get0_type(item), wanted) == 0 &&
		    cmp_next_read(OSSL_CMP_ITAV_get0_value(item), client->job->result))
			break;
	}
	sk_OSSL_CMP_ITAV_pop_free(told, OSSL_CMP_ITAV_free);
	ASN1_OBJECT_free(wanted);
}

void cmp_next_ask(struct job *job)
{
	const struct field *ca = record_find(job->settings, "ca");
	struct cmp_client client = { 0 };
	OSSL_CMP_ITAV *asked = ca ? question(ca) : NULL;

	if (asked && cmp_client_open(&client, job, NULL) == 0 &&
	    OSSL_CMP_CTX_set_transfer_cb(client.context, transfer) &&
	    OSSL_CMP_CTX_set_transfer_cb_arg(client.context, &client)) {
		ask(&client, asked);
		asked = NULL;
	}
	OSSL_CMP_ITAV_free(asked);
	cmp_client_clear(&client);
	ERR_clear_error();
}
