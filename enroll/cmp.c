/*
 * CMP (RFC 4210, 9480; HTTP as RFC 6712 has it) as the worker speaks it, on OpenSSL's OSSL_CMP.
 *
 *   ir, cr, kur, p10cr ──► certificate ──► the store judges it ──► certConf ──► pkiConf: done
 *           │                    ▲
 *           └──► "waiting" ──► pollReq ──► pollRep: come again
 *
 * OSSL_CMP keeps a transaction in memory alone. So the store has, with the transaction's id, the
 * answers that make up its state: the last one to the request, and the last pollRep. A new job
 * asks anew, is given these answers back in order, each under the nonce that it answers, and is
 * then where the last one was. What they prove is judged again each time.
 *
 * A message whose answer never came may have done its work. It is noted before it leaves; asked
 * again, what the CA says against it may be about the repetition: the request begins anew once,
 * a confirmation holds.
 */
#include "enroll/cmp_answer.h"
#include "enroll/cmp_path.h"
#include "enroll/cmp_transaction.h"

#include "common/x509.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <string.h>

/* --- messages --- */

/* A stored answer as one to the message that OSSL_CMP has just made. */
static OSSL_CMP_MSG *give_back(struct transaction *t)
{
	const struct message *stored = &t->answers[t->given++];
	OSSL_CMP_MSG *message = cmp_message_read(stored->der, stored->length);

	if (!message)
		t->code = error_set(&t->err, -EINVAL, "the stored CMP answer cannot be read");
	else
		OSSL_CMP_CTX_set1_senderNonce(
			t->client.context,
			OSSL_CMP_HDR_get0_recipNonce(OSSL_CMP_MSG_get0_header(message)));
	return message;
}

static OSSL_CMP_MSG *exchange(struct transaction *t, const OSSL_CMP_MSG *message, int type)
{
	struct http_answer answer;
	OSSL_CMP_MSG *got;

	t->sent = type;
	t->code = cmp_client_send(&t->client, message, &answer, &got, &t->err);
	if (t->code < 0 && !answer.sent)
		t->open = t->repeated == type ? type : NO_MESSAGE;
	if (got) {
		cmp_message_clear(&t->last);
		t->last.der = OPENSSL_memdup(answer.body, answer.length);
		t->last.length = answer.length;
	}
	http_answer_clear(&answer);
	return got;
}

/* OSSL_CMP's way out: everything that it sends comes by here. */
static OSSL_CMP_MSG *transfer(OSSL_CMP_CTX *context, const OSSL_CMP_MSG *message)
{
	struct transaction *t = OSSL_CMP_CTX_get_transfer_cb_arg(context);
	int type = OSSL_CMP_MSG_get_bodytype(message);

	if (t->given < COUNT(t->answers) && t->answers[t->given].der && t->sent == NO_MESSAGE)
		return give_back(t);
	if (type != CERT_CONF) { /* that one's checkpoint asked for the verdict */
		cmp_keep_last(t);
		t->open = type;
		t->code = cmp_checkpoint(t, &t->err);
	}
	return t->code < 0 ? NULL : exchange(t, message, type);
}

/* --- the certificate --- */

static int read_path(const struct transaction *t, struct cmp_path *path)
{
	OSSL_CMP_MSG *answer = cmp_message_read(t->answers[0].der, t->answers[0].length);
	int r = answer ? cmp_path_read(&t->client, answer, t->kept, path) : -ENOMEM;

	OSSL_CMP_MSG_free(answer);
	return r;
}

static int add_certificates(const struct transaction *t, struct record *record)
{
	struct cmp_path path = { 0 };
	int r = read_path(t, &path);

	if (r == 0)
		cmp_path_add(&path, record);
	cmp_path_clear(&path);
	return r;
}

/* Whether the CA is to be asked for its certificates: who issued this one is not known. */
static bool lacks_issuers(const struct transaction *t)
{
	struct cmp_path path = { 0 };
	bool lacks = !record_find(t->kept, "resume-told-by") && read_path(t, &path) == 0 &&
	             !cmp_path_is_whole(&path, t->job->settings);

	cmp_path_clear(&path);
	return lacks;
}

/* What is told once holds until the transaction's end, whoever dies meanwhile. */
static int ask_issuers(struct transaction *t)
{
	int r;

	t->open = NO_MESSAGE;
	r = cmp_checkpoint(t, &t->err);
	if (r == 0)
		cmp_ca_certificates(t->job, t->kept);
	return r;
}

/* Asks the store, before anything is confirmed. What is then durable holds over a restart. */
static int judge(OSSL_CMP_CTX *context, X509 *certificate, int fail, const char **text)
{
	struct transaction *t = OSSL_CMP_CTX_get_certConf_cb_arg(context);
	struct record *resume, *judged = record_new();
	int r = -ENOMEM;

	(void)certificate;
	cmp_keep_last(t);
	if (lacks_issuers(t))
		t->code = ask_issuers(t);
	t->open = CERT_CONF;
	resume = cmp_resume_write(t);
	if (t->code == 0 && resume && judged && add_certificates(t, judged) == 0)
		r = job_judge(t->job, resume, judged, &t->rejected, &t->err);
	record_free(resume);
	record_free(judged);
	t->code = r < 0 ? r : 0;
	if (r <= 0)
		return r < 0 ? 1 << OSSL_CMP_PKIFAILUREINFO_systemUnavail : 0;
	*text = t->rejected.text;
	return fail ? fail : 1 << OSSL_CMP_PKIFAILUREINFO_badCertTemplate;
}

int cmp_take(struct transaction *t, struct error *err)
{
	if (add_certificates(t, t->job->result) < 0)
		return error_set(err, -ENOMEM, "out of memory");
	if (t->rejected.code)
		record_add(t->job->result, "rejected", t->rejected.text);
	return JOB_DONE;
}

/* --- enrolling --- */

/* What is asked with: a renewal is signed, or else known by the secret. */
static int choose_type(const struct cmp_client *client)
{
	const struct field *public = record_find(client->job->settings, "public");
	EVP_PKEY *key = public ? public_key_from_der(public->value, public->length) : NULL;
	bool own_hands = key && EVP_PKEY_is_a(key, "ED25519");

	EVP_PKEY_free(key);
	if (own_hands)
		return OSSL_CMP_P10CR;
	if (client->current && client->signer == client->current)
		return OSSL_CMP_KUR;
	return record_is(client->job->settings, "renewal", "yes") ? OSSL_CMP_CR : OSSL_CMP_IR;
}

static int make_request(struct transaction *t, struct error *err)
{
	struct cmp_template template = { 0 };
	int r = cmp_read_template(t, &template, err);

	if (r == 0)
		r = cmp_client_template(&t->client, t->type, template.extensions, err);
	cmp_template_clear(&template);
	return r;
}

static int begin(struct transaction *t, struct error *err)
{
	ASN1_OCTET_STRING *id = ASN1_OCTET_STRING_new();
	OSSL_CMP_CTX *context = t->client.context;
	bool good;
	int r;

	t->type = choose_type(&t->client);
	r = cmp_keep_told(t);
	if (r == 0)
		r = make_request(t, err);
	if (r == 0 && !cmp_resume_read(t, t->type) && RAND_bytes(t->id, sizeof t->id) != 1)
		r = error_openssl(err, -EIO, "no random numbers");
	good = id && ASN1_OCTET_STRING_set(id, t->id, sizeof t->id) &&
	       OSSL_CMP_CTX_set1_transactionID(context, id) &&
	       OSSL_CMP_CTX_set_transfer_cb(context, transfer) &&
	       OSSL_CMP_CTX_set_transfer_cb_arg(context, t) &&
	       OSSL_CMP_CTX_set_certConf_cb(context, judge) &&
	       OSSL_CMP_CTX_set_certConf_cb_arg(context, t) &&
	       OSSL_CMP_CTX_set_option(context, OSSL_CMP_OPT_IMPLICIT_CONFIRM, 1);
	ASN1_OCTET_STRING_free(id);
	return r < 0 || good ? r : error_openssl(err, -ENOMEM, "out of memory");
}

/* Until something real was asked: a stored pollRep alone says again what it said before. */
static int run(struct transaction *t, struct error *err)
{
	int after = -1, r;

	do
		r = OSSL_CMP_try_certreq(t->client.context, t->type, NULL, &after);
	while (r == -1 && t->sent == NO_MESSAGE);
	if (r == 1)
		return cmp_take(t, err);
	if (r == 0)
		return cmp_failed(t, err);
	cmp_keep_last(t);
	cmp_leave(t);
	record_remove(t->job->result, "retry-after");
	record_add_number(t->job->result, "retry-after", after);
	return JOB_WAITING;
}

static int enroll(struct job *job, struct error *err)
{
	struct transaction t = {
		.job = job, .open = NO_MESSAGE, .repeated = NO_MESSAGE, .sent = NO_MESSAGE
	};
	int r = cmp_client_open(&t.client, job, err);

	if (r == 0)
		r = begin(&t, err);
	if (r == 0)
		r = run(&t, err);
	ERR_clear_error();
	cmp_transaction_clear(&t);
	/* with the confirmation behind us nothing is lost if that takes its time */
	if (r == JOB_DONE && record_is(job->settings, "renewal", "yes"))
		cmp_next_ca(job, NULL);
	return r;
}

/* --- revoking --- */

static OSSL_CMP_MSG *transfer_once(OSSL_CMP_CTX *context, const OSSL_CMP_MSG *message)
{
	return exchange(OSSL_CMP_CTX_get_transfer_cb_arg(context), message, RR);
}

/* A certificate that is revoked already is what was wanted: the first answer may have got lost. */
static int revoke(struct job *job, struct error *err)
{
	struct transaction t = { .job = job, .open = NO_MESSAGE, .repeated = NO_MESSAGE };
	OSSL_CMP_CTX *context;
	int r = cmp_client_open(&t.client, job, err);

	context = t.client.context;
	if (r == 0 && !t.client.current)
		r = error_set(err, -EINVAL, "there is no certificate to revoke");
	if (r == 0 && (!OSSL_CMP_CTX_set_transfer_cb(context, transfer_once) ||
	               !OSSL_CMP_CTX_set_transfer_cb_arg(context, &t) ||
	               !OSSL_CMP_CTX_set1_oldCert(context, t.client.current)))
		r = error_openssl(err, -ENOMEM, "out of memory");
	if (r == 0 && OSSL_CMP_exec_RR_ses(context) != 1 && !cmp_refusal_is(context, CMP_REVOKED))
		r = cmp_failed(&t, err);
	ERR_clear_error();
	cmp_transaction_clear(&t);
	return r;
}

static int check(const struct record *settings, struct error *err)
{
	(void)settings;
	(void)err;
	return 0;
}

const struct protocol cmp_protocol = {
	.name = "cmpv2",
	.check = check,
	.enroll = enroll,
	.next_ca = cmp_next_ca,
	.crl = cmp_crl,
	.revoke = revoke,
};
