#include "enroll/cmp_answer.h"
#include "enroll/cmp_transaction.h"

#include <errno.h>
#include <openssl/err.h>

/* The next job is to begin with another transaction, and at once. */
static void begin_anew(struct transaction *t)
{
	record_add(t->job->result, "resume-anew", t->anew ? "yes" : "no");
	record_append(t->job->result, t->kept);
	record_remove(t->job->result, "retry-after");
	record_add_number(t->job->result, "retry-after", 0);
}

/*
 * The CA refuses what was asked for, in WORDS, and may say what it wants instead: a key that we can
 * name in a sentence, or extensions that the next request will have. Names are not taken from it.
 */
static int refused_by_template(struct transaction *t, const char *words, struct error *err)
{
	bool known = record_find(t->kept, "resume-template") != NULL;
	int r = error_set(err, -EACCES, "the CA refuses the request: %s", words);
	EVP_PKEY *key = job_new_key(t->job, NULL);
	struct cmp_template template = { 0 };
	struct error why = { 0 };

	if (!known)
		cmp_template_ask(t->job, t->kept);
	if (!key || cmp_read_template(t, &template, NULL) < 0) {
		/* nothing is known of what it wants */
	} else if (key_kinds_check(&template.kinds, key, &why) < 0) {
		error_set(err, r, "the CA refuses the request: %s; %s", words, why.text);
	} else if (template.extensions && !known) {
		begin_anew(t);
		r = error_set(err, -EREMOTEIO,
		              "the CA refuses the request (%s): it begins anew with the "
		              "extensions that the CA names",
		              words);
	}
	cmp_template_clear(&template);
	EVP_PKEY_free(key);
	return r;
}

/* A refusal that the CA's protection proves. */
static int refused(struct transaction *t, struct error *err)
{
	bool again = t->repeated != NO_MESSAGE && t->repeated == t->sent;
	char words[CMP_WORDS_MAX];

	cmp_refusal(t->client.context, words);
	record_set(t->job->result, "answered", "yes");
	if (t->sent == CERT_CONF && again) {
		record_add(t->job->result, "note",
		           "the CA did not answer the confirmation when it came first");
		return cmp_take(t, err);
	}
	if (t->sent == CERT_CONF)
		return error_set(err, -EACCES, "the CA refuses the confirmation: %s", words);
	if (again && !t->anew) {
		t->anew = true;
		begin_anew(t);
		return error_set(err, -EREMOTEIO,
		                 "the CA does not take the request up where it stood (%s): it "
		                 "begins anew",
		                 words);
	}
	if (cmp_refusal_is(t->client.context, CMP_PASSES)) {
		t->open = NO_MESSAGE;
		cmp_leave(t);
		return error_set(err, -EREMOTEIO, "the CA cannot decide now: %s", words);
	}
	if (t->sent != RR && cmp_refusal_is(t->client.context, CMP_TEMPLATE))
		return refused_by_template(t, words, err);
	return error_set(err, -EACCES, "the CA refuses the request: %s", words);
}

/* An answer that OSSL_CMP does not take. */
static int unusable(struct transaction *t, struct error *err)
{
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());
	OSSL_CMP_MSG *message = cmp_message_read(t->last.der, t->last.length);
	int r;

	cmp_leave(t);
	ERR_set_mark();
	if (message && OSSL_CMP_validate_msg(t->client.context, message) == 1) {
		r = error_set(err, -EBADMSG, "the CA's answer cannot be used: %s",
		              reason ? reason : "it is no answer to this");
		ERR_clear_error();
	} else {
		ERR_pop_to_mark();
		r = cmp_unproven(t->last.der, t->last.length, t->client.current, err);
	}
	OSSL_CMP_MSG_free(message);
	return r;
}

int cmp_failed(struct transaction *t, struct error *err)
{
	if (t->rejected.code && t->code == 0)
		return cmp_take(t, err);
	if (t->code < 0) {
		cmp_leave(t);
		return error_set(err, t->code, "%s", t->err.text);
	}
	if (OSSL_CMP_CTX_get_status(t->client.context) == OSSL_CMP_PKISTATUS_rejection)
		return refused(t, err);
	if (t->last.der)
		return unusable(t, err);
	return error_openssl(err, -EINVAL, "the CMP message cannot be made");
}
