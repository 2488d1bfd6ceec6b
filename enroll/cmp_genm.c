/*
 * General messages (RFC 9483 §4.3): a question of its own transaction, with one value.
 *
 *   genm { caCerts }                    ──► genp { caCerts }: the CA's certificates
 *   genm { rootCaCert: the one we have} ──► genp { rootCaKeyUpdate }: the root that follows
 *   genm { crlStatusList: the issuer }  ──► genp { crls }, or as RFC 4210 has it,
 *   genm { currentCRL }                 ──► genp { currentCRL }
 *   genm { certReqTemplate }            ──► genp { certReqTemplate }: what requests are to have
 *
 * Not every CA knows them, and none owes an answer. Where they go along with a request, that goes
 * on without one; what is asked for by itself says what came instead.
 */
#include "enroll/cmp_answer.h"
#include "enroll/cmp_client.h"
#include "enroll/cmp_told.h"
#include "enroll/crl.h"

#include "common/x509.h"

#include <errno.h>
#include <openssl/err.h>

#define CERTIFICATES_MAX 20
#define PATIENCE         20          /* seconds for what is small: a request may wait for it */
#define CRL_ANSWER_MAX   (32u << 20) /* it is held in memory a few times */

struct question {
	struct cmp_client client;
	size_t limit; /* bytes of the answer; 0: as usual */
	struct http_answer answer;
	int code; /* why there was no answer */
	struct error err;
};

static OSSL_CMP_MSG *transfer(OSSL_CMP_CTX *context, const OSSL_CMP_MSG *message)
{
	struct question *q = OSSL_CMP_CTX_get_transfer_cb_arg(context);
	OSSL_CMP_MSG *got = NULL;

	q->code = cmp_client_send(&q->client, message, &q->answer, &got, &q->err);
	return got;
}

static void question_clear(struct question *q)
{
	http_answer_clear(&q->answer);
	cmp_client_clear(&q->client);
	ERR_clear_error();
}

static int no_answer(struct question *q, struct error *err)
{
	OSSL_CMP_CTX *context = q->client.context;
	char words[CMP_WORDS_MAX];

	if (q->code < 0)
		return error_set(err, q->code, "%s", q->err.text);
	if (OSSL_CMP_CTX_get_status(context) != OSSL_CMP_PKISTATUS_rejection)
		return cmp_unproven(q->answer.body, q->answer.length, NULL, err);
	cmp_refusal(context, words);
	return error_set(err, cmp_refusal_is(context, CMP_PASSES) ? -EREMOTEIO : -EACCES,
	                 "the CA does not answer this: %s", words);
}

/* Asks for TYPE with VALUE (taken; NULL: none). 0 with a proven answer, or a negative errno. */
static int ask(struct question *q, struct job *job, const char *type, ASN1_TYPE *value,
               struct error *err)
{
	ASN1_OBJECT *object = OBJ_txt2obj(type, 1);
	OSSL_CMP_ITAV *asked = object ? OSSL_CMP_ITAV_create(object, value) : NULL;
	STACK_OF(OSSL_CMP_ITAV) *told = NULL;
	int r = asked ? cmp_client_open(&q->client, job, err)
	              : error_set(err, -ENOMEM, "out of memory");

	q->client.limit = q->limit;
	q->client.seconds = q->limit ? 0 : PATIENCE;
	if (!asked) {
		ASN1_TYPE_free(value);
		ASN1_OBJECT_free(object);
	}
	if (r == 0 && OSSL_CMP_CTX_set_transfer_cb(q->client.context, transfer) &&
	    OSSL_CMP_CTX_set_transfer_cb_arg(q->client.context, q) &&
	    OSSL_CMP_CTX_push0_genm_ITAV(q->client.context, asked)) {
		asked = NULL;
		told = OSSL_CMP_exec_GENM_ses(q->client.context);
		if (!told)
			r = no_answer(q, err);
	} else if (r == 0) {
		r = error_set(err, -ENOMEM, "out of memory");
	}
	OSSL_CMP_ITAV_free(asked);
	sk_OSSL_CMP_ITAV_pop_free(told, OSSL_CMP_ITAV_free);
	return r;
}

/* What the answer says of TYPE, the caller's; NULL: nothing. */
static ASN1_TYPE *told(const struct question *q, const char *type)
{
	return cmp_told_value(q->answer.body, q->answer.length, type);
}

/* --- the next root --- */

int cmp_next_ca(struct job *job, struct error *err)
{
	const struct field *ca = record_find(job->settings, "ca");
	const unsigned char *at = ca ? (const unsigned char *)ca->value : NULL;
	X509 *root = at ? d2i_X509(NULL, &at, (long)ca->length) : NULL;
	ASN1_TYPE *value = root ? ASN1_TYPE_pack_sequence(ASN1_ITEM_rptr(X509), root, NULL) : NULL;
	struct question q = { 0 };
	int r = value ? ask(&q, job, ID_IT_ROOT_CA_CERT, value, err)
	              : error_set(err, -EINVAL, "there is no CA certificate to be followed");

	if (r == 0) {
		value = told(&q, ID_IT_ROOT_CA_KEY_UPDATE);
		if (value && !cmp_told_next(value, job->result))
			r = error_set(err, -EBADMSG,
			              "what the CA says of its next certificate "
			              "cannot be read");
		ASN1_TYPE_free(value);
	}
	X509_free(root);
	question_clear(&q);
	return r;
}

/* --- the CA's certificates --- */

void cmp_ca_certificates(struct job *job, struct record *resume)
{
	struct question q = { 0 };
	STACK_OF(ASN1_TYPE) *list = NULL;
	OSSL_CMP_MSG *message = NULL;
	ASN1_TYPE *value = NULL;

	if (ask(&q, job, ID_IT_CA_CERTS, NULL, NULL) == 0) {
		value = told(&q, ID_IT_CA_CERTS);
		list = cmp_told_list(value);
		message = cmp_message_read(q.answer.body, q.answer.length);
	}
	for (int i = 0; i < sk_ASN1_TYPE_num(list) && i < CERTIFICATES_MAX; i++) {
		const ASN1_TYPE *one = sk_ASN1_TYPE_value(list, i);

		if (one->type == V_ASN1_SEQUENCE)
			record_add_bytes(resume, "resume-told", one->value.sequence->data,
			                 (size_t)one->value.sequence->length);
	}
	record_add(resume, "resume-told-by",
	           message && cmp_proven_by_secret(message, q.client.secret) ? "secret"
	                                                                     : "signature");
	sk_ASN1_TYPE_pop_free(list, ASN1_TYPE_free);
	ASN1_TYPE_free(value);
	OSSL_CMP_MSG_free(message);
	question_clear(&q);
}

/* --- the CRL --- */

/* The first CRL that VALUE has, as a list or by itself, is good. */
static int accept_crl(struct job *job, ASN1_TYPE *value, bool is_list, struct error *err)
{
	STACK_OF(ASN1_TYPE) *list = is_list ? cmp_told_list(value) : NULL;
	const ASN1_TYPE *crl = is_list ? NULL : value;
	int r = error_set(err, -EBADMSG, "the CA's answer has no CRL");

	for (int i = 0; r < 0 && (i == 0 || i < sk_ASN1_TYPE_num(list)); i++) {
		if (is_list)
			crl = sk_ASN1_TYPE_value(list, i);
		if (crl && crl->type == V_ASN1_SEQUENCE)
			r = crl_put(job, crl->value.sequence->data,
			            (size_t)crl->value.sequence->length, err);
	}
	if (r == 0)
		record_add(job->result, "crl-source", "CMP");
	sk_ASN1_TYPE_pop_free(list, ASN1_TYPE_free);
	return r;
}

static int ask_crl(struct job *job, const char *type, ASN1_TYPE *value, const char *answered,
                   struct error *err)
{
	struct question q = { .limit = CRL_ANSWER_MAX };
	int r = ask(&q, job, type, value, err);

	if (r == 0) {
		value = told(&q, answered);
		r = accept_crl(job, value, type != answered, err);
		ASN1_TYPE_free(value);
	}
	question_clear(&q);
	return r;
}

int cmp_crl(struct job *job, struct error *err)
{
	X509 *ca = field_certificate(record_find(job->settings, "ca"), "CA certificate", NULL);
	ASN1_TYPE *question = ca ? cmp_crl_question(X509_get_subject_name(ca)) : NULL;
	int r = -EINVAL;

	if (question)
		r = ask_crl(job, ID_IT_CRL_STATUS_LIST, question, ID_IT_CRLS, err);
	if (r == -EACCES || r == -EBADMSG) /* it may be older than that question */
		r = ask_crl(job, ID_IT_CURRENT_CRL, NULL, ID_IT_CURRENT_CRL, err);
	X509_free(ca);
	return r;
}

/* --- what a request is to have --- */

void cmp_template_ask(struct job *job, struct record *resume)
{
	struct question q = { 0 };
	ASN1_TYPE *value = NULL;

	if (ask(&q, job, ID_IT_CERT_REQ_TEMPLATE, NULL, NULL) == 0)
		value = told(&q, ID_IT_CERT_REQ_TEMPLATE);
	if (value && value->type == V_ASN1_SEQUENCE)
		record_add_bytes(resume, "resume-template", value->value.sequence->data,
		                 (size_t)value->value.sequence->length);
	ASN1_TYPE_free(value);
	question_clear(&q);
}
