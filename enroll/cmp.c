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
#include "enroll/cmp_client.h"
#include "enroll/cmp_path.h"
#include "enroll/cmp_told.h"

#include "common/x509.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <string.h>

#define ID_LENGTH 16

/* Types of messages that OpenSSL has no public names for (RFC 4210 §5.1.2). */
enum { RR = 11, CERT_CONF = 24, POLL_REQ = 25, POLL_REP = 26 };
#define NO_MESSAGE (-1)

struct message {
	unsigned char *der;
	size_t length;
};

struct transaction {
	struct job *job;
	struct cmp_client client;
	/* what the resume-… fields hold */
	int type; /* OSSL_CMP_IR … */
	unsigned char id[ID_LENGTH];
	struct message answers[2]; /* to the request, and the last pollRep after it */
	int open;                  /* type of a message whose answer we do not have */
	bool anew;                 /* a second one, since the CA did not take up the first */
	struct record *kept;       /* what the CA told: resume-told…, resume-template */
	/* this job */
	int repeated;          /* what was open when it began */
	size_t given;          /* stored answers that were given back */
	int sent;              /* type of the last message that left */
	struct message last;   /* the answer to it, which OSSL_CMP has not judged yet */
	int code;              /* why there was no answer to give to OSSL_CMP, ... */
	struct error err;      /* ... in words */
	struct error rejected; /* why the store does not want the certificate */
};

static void message_clear(struct message *message)
{
	OPENSSL_free(message->der);
	*message = (struct message){ 0 };
}

static void transaction_clear(struct transaction *t)
{
	cmp_client_clear(&t->client);
	message_clear(&t->answers[0]);
	message_clear(&t->answers[1]);
	message_clear(&t->last);
	record_free(t->kept);
}

/* --- the resume-… fields --- */

static struct record *resume_write(const struct transaction *t)
{
	struct record *resume = record_new();

	if (!resume)
		return NULL;
	record_add_number(resume, "resume-type", t->type);
	record_add_bytes(resume, "resume-transaction", t->id, sizeof t->id);
	record_add_number(resume, "resume-open", t->open);
	record_add(resume, "resume-anew", t->anew ? "yes" : "no");
	for (size_t i = 0; i < COUNT(t->answers) && t->answers[i].der; i++)
		record_add_bytes(resume, "resume-answer", t->answers[i].der, t->answers[i].length);
	record_append(resume, t->kept);
	return resume;
}

/* The transaction as the job's result leaves it. */
static void leave(struct transaction *t)
{
	struct record *resume = t->sent == RR ? NULL : resume_write(t);

	if (resume)
		record_append(t->job->result, resume);
	record_free(resume);
}

static int checkpoint(struct transaction *t, struct error *err)
{
	struct record *resume = resume_write(t);
	int r = resume ? job_checkpoint(t->job, resume, err)
	               : error_set(err, -ENOMEM, "out of memory");

	record_free(resume);
	return r;
}

/* What the CA told stays true for a transaction that begins anew. */
static int keep_told(struct transaction *t)
{
	static const char *const keys[] = { "resume-told", "resume-told-by", "resume-template" };
	const struct field *field;

	t->kept = record_new();
	for (size_t i = 0; t->kept && i < COUNT(keys); i++)
		for (size_t index = 0;
		     (field = record_next(t->job->settings, keys[i], &index)) != NULL;)
			record_add_bytes(t->kept, keys[i], field->value, field->length);
	return t->kept && !record_failed(t->kept) ? 0 : -ENOMEM;
}

/* What the CA is known to want, if anything. The caller clears *TEMPLATE in either case. */
static int read_template(const struct transaction *t, struct cmp_template *template,
                         struct error *err)
{
	const struct field *field = record_find(t->kept, "resume-template");

	return field ? cmp_told_template(field->value, field->length, template, err) : 0;
}

/* Takes up what an earlier job left. False: there is nothing that can be taken up. */
static bool resume_read(struct transaction *t, int type)
{
	const struct record *settings = t->job->settings;
	const struct field *id = record_find(settings, "resume-transaction"), *answer;
	size_t index = 0;

	t->anew = record_is(settings, "resume-anew", "yes");
	if (!id || id->length != ID_LENGTH || record_number(settings, "resume-type", -1) != type)
		return false;
	memcpy(t->id, id->value, ID_LENGTH);
	t->open = t->repeated = (int)record_number(settings, "resume-open", NO_MESSAGE);
	for (size_t i = 0; i < COUNT(t->answers) &&
	                   (answer = record_next(settings, "resume-answer", &index)) != NULL;
	     i++) {
		t->answers[i].der = OPENSSL_memdup(answer->value, answer->length);
		t->answers[i].length = answer->length;
	}
	return true;
}

/* --- messages --- */

/* OSSL_CMP goes on, so the last answer was good: it is a part of the transaction's state. */
static void keep_last(struct transaction *t)
{
	OSSL_CMP_MSG *message = t->last.der ? cmp_message_read(t->last.der, t->last.length) : NULL;
	bool poll = message && OSSL_CMP_MSG_get_bodytype(message) == POLL_REP;

	if (!message)
		return;
	message_clear(&t->answers[1]);
	if (!poll)
		message_clear(&t->answers[0]);
	t->answers[poll] = t->last;
	t->last = (struct message){ 0 };
	t->open = NO_MESSAGE;
	record_set(t->job->result, "answered", "yes");
	OSSL_CMP_MSG_free(message);
}

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
	t->code = cmp_client_send(&t->client, message, 0, &answer, &got, &t->err);
	if (t->code < 0 && !answer.sent)
		t->open = t->repeated == type ? type : NO_MESSAGE;
	if (got) {
		message_clear(&t->last);
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
		keep_last(t);
		t->open = type;
		t->code = checkpoint(t, &t->err);
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
	r = checkpoint(t, &t->err);
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
	keep_last(t);
	if (lacks_issuers(t))
		t->code = ask_issuers(t);
	t->open = CERT_CONF;
	resume = resume_write(t);
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

/* --- what came of it --- */

static int take(struct transaction *t, struct error *err)
{
	if (add_certificates(t, t->job->result) < 0)
		return error_set(err, -ENOMEM, "out of memory");
	if (t->rejected.code)
		record_add(t->job->result, "rejected", t->rejected.text);
	return JOB_DONE;
}

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
	if (!key || read_template(t, &template, NULL) < 0) {
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
		return take(t, err);
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
		leave(t);
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

	leave(t);
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

static int failed(struct transaction *t, struct error *err)
{
	if (t->rejected.code && t->code == 0)
		return take(t, err);
	if (t->code < 0) {
		leave(t);
		return error_set(err, t->code, "%s", t->err.text);
	}
	if (OSSL_CMP_CTX_get_status(t->client.context) == OSSL_CMP_PKISTATUS_rejection)
		return refused(t, err);
	if (t->last.der)
		return unusable(t, err);
	return error_openssl(err, -EINVAL, "the CMP message cannot be made");
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
	int r = read_template(t, &template, err);

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
	r = keep_told(t);
	if (r == 0)
		r = make_request(t, err);
	if (r == 0 && !resume_read(t, t->type) && RAND_bytes(t->id, sizeof t->id) != 1)
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
		return take(t, err);
	if (r == 0)
		return failed(t, err);
	keep_last(t);
	leave(t);
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
	transaction_clear(&t);
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
		r = failed(&t, err);
	ERR_clear_error();
	transaction_clear(&t);
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
