/*
 * SCEP (RFC 8894) as the worker speaks it.
 *
 * A transaction is in one of these phases; the store keeps it with all that is needed to go on.
 *
 *            checkpoint            PENDING
 *   (none) ------------> sent ----------------> pending --.
 *                        |  ^ \                   ^  |    | PENDING
 *      never connected   |  |  \ answer lost      |  |<---'
 *                        v  |   \                 |  |
 *                      unsent    `-- CertPoll ----'  '--> SUCCESS, FAILURE
 *                                    unknown: the same bytes again
 *
 * The request, with its challenge, leaves once; only a CA that does not know the transaction, or
 * answers polls with an HTTP error, gets the same bytes a second time.
 */
#include "common/log.h"
#include "enroll/crl.h"
#include "enroll/csr.h"
#include "enroll/scep_client.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

/* What the resume-… fields hold. */
struct transaction {
	struct job *job;
	struct authority authority;
	const char *phase; /* "" before the first checkpoint */
	enum scep_type type;
	char id[SCEP_TRANSACTION_MAX + 1];
	unsigned char nonce[SCEP_NONCE_LENGTH];
	unsigned char poll_nonce[SCEP_NONCE_LENGTH];
	X509 *signer;
	EVP_PKEY *key; /* SIGNER's */
	X509_REQ *request;
	unsigned char *message;
	size_t length;
};

static int check_key(const struct record *settings, struct error *err)
{
	static const char *const names[][2] = { { "EC", "ECDSA" },
		                                { "ED25519", "Ed25519" },
		                                { "DSA", "DSA" } };
	const struct field *field = record_find(settings, "public");
	const unsigned char *der = field ? (const unsigned char *)field->value : NULL;
	EVP_PKEY *key = der ? d2i_PUBKEY(NULL, &der, (long)field->length) : NULL;
	const char *name = "This", *id = record_get(settings, "certificate-id");
	int r = 0;

	if (!key)
		return error_openssl(err, -EINVAL, "the job has no readable public key");
	for (size_t i = 0; i < COUNT(names); i++)
		if (EVP_PKEY_is_a(key, names[i][0]))
			name = names[i][1];
	if (!EVP_PKEY_is_a(key, "RSA"))
		r = error_set(err, -EINVAL, "%s Keypair not supported with SCEP for cert_id %s",
		              name, id ? id : "");
	EVP_PKEY_free(key);
	return r;
}

static int check(const struct record *settings, struct error *err)
{
	if (record_is(settings, "action", "enroll"))
		return check_key(settings, err);
	return 0;
}

/* --- the transaction and its resume-… fields --- */

static void add_der(struct record *record, const char *key, unsigned char *der, int size)
{
	if (size > 0)
		record_add_bytes(record, key, der, (size_t)size);
	OPENSSL_free(der);
}

static struct record *resume_write(const struct transaction *t)
{
	struct record *resume = record_new();
	unsigned char *signer = NULL, *request = NULL;
	int signer_size = i2d_X509(t->signer, &signer);
	int request_size = i2d_X509_REQ(t->request, &request);

	if (resume) {
		record_add(resume, "resume-phase", t->phase);
		record_add_number(resume, "resume-type", (long long)t->type);
		record_add(resume, "resume-transaction-id", t->id);
		record_add_bytes(resume, "resume-nonce", t->nonce, sizeof t->nonce);
		record_add_bytes(resume, "resume-poll-nonce", t->poll_nonce, sizeof t->poll_nonce);
		record_add_bytes(resume, "resume-message", t->message, t->length);
	}
	if (!resume || signer_size <= 0 || request_size <= 0) {
		OPENSSL_free(signer);
		OPENSSL_free(request);
		record_free(resume);
		return NULL;
	}
	add_der(resume, "resume-signer", signer, signer_size);
	add_der(resume, "resume-csr", request, request_size);
	return resume;
}

static int checkpoint(struct transaction *t, const char *phase, struct error *err)
{
	struct record *resume;
	int r;

	t->phase = phase;
	resume = resume_write(t);
	r = resume ? job_checkpoint(t->job, resume, err) : error_set(err, -ENOMEM, "no memory");
	record_free(resume);
	return r;
}

/* The phase as the transaction's result leaves it. */
static void leave(struct transaction *t, const char *phase)
{
	struct record *resume;

	t->phase = phase;
	resume = resume_write(t);
	if (resume)
		record_append(t->job->result, resume);
	record_free(resume);
}

static int read_nonce(const struct record *settings, const char *key, unsigned char *nonce)
{
	const struct field *field = record_find(settings, key);

	if (!field || field->length != SCEP_NONCE_LENGTH)
		return -EINVAL;
	memcpy(nonce, field->value, SCEP_NONCE_LENGTH);
	return 0;
}

static const char *read_phase(const struct record *settings)
{
	static const char *const phases[] = { "unsent", "sent", "pending" };

	for (size_t i = 0; i < COUNT(phases); i++)
		if (record_is(settings, "resume-phase", phases[i]))
			return phases[i];
	return NULL;
}

/* Takes up what an earlier job left. */
static int resume_read(struct transaction *t, struct error *err)
{
	const struct record *settings = t->job->settings;
	const struct field *message = record_find(settings, "resume-message");
	const struct field *csr = record_find(settings, "resume-csr");
	const char *id = record_get(settings, "resume-transaction-id");
	const unsigned char *der = csr ? (const unsigned char *)csr->value : NULL;

	t->phase = read_phase(settings);
	t->type = record_is(settings, "resume-type", "17") ? SCEP_RENEWAL_REQ : SCEP_PKCS_REQ;
	t->request = der ? d2i_X509_REQ(NULL, &der, (long)csr->length) : NULL;
	t->message = message ? OPENSSL_memdup(message->value, message->length) : NULL;
	t->length = message ? message->length : 0;
	if (!t->phase || !t->request || !t->message || !id || strlen(id) > SCEP_TRANSACTION_MAX ||
	    read_nonce(settings, "resume-nonce", t->nonce) < 0 ||
	    read_nonce(settings, "resume-poll-nonce", t->poll_nonce) < 0)
		return error_openssl(err, -EINVAL, "the stored SCEP transaction cannot be read");
	strcpy(t->id, id);
	t->signer = field_certificate(record_find(settings, "resume-signer"),
	                              "certificate that signed the request", err);
	return t->signer ? 0 : -EINVAL;
}

/* --- keys --- */

/* CERTIFICATE has the name of the CA as its issuer, or of one that the CA had before. */
static bool is_of_the_ca(const struct transaction *t, const X509 *certificate)
{
	const X509_NAME *issuer = X509_get_issuer_name(certificate);
	bool same = X509_NAME_cmp(issuer, X509_get_subject_name(t->authority.ca)) == 0;
	const struct field *field;
	size_t index = 0;

	while (!same && (field = record_next(t->job->settings, "former", &index))) {
		X509 *former = field_certificate(field, "former CA certificate", NULL);

		same = former && X509_NAME_cmp(issuer, X509_get_subject_name(former)) == 0;
		X509_free(former);
	}
	return same;
}

/* A renewal signed by the certificate in force, where the CA can do that; else RFC 8894 §2.3
 * has a first request sent again. NULL without error: no renewal. */
static X509 *renewal_signer(const struct transaction *t)
{
	const struct field *field = record_find(t->job->settings, "certificate");
	X509 *certificate = NULL;
	EVP_PKEY *key;

	if (!field || !(t->authority.capabilities & SCEP_RENEWAL))
		return NULL;
	certificate = field_certificate(field, "certificate", NULL);
	key = certificate ? X509_get0_pubkey(certificate) : NULL;
	if (key && EVP_PKEY_is_a(key, "RSA") && is_of_the_ca(t, certificate))
		return certificate;
	X509_free(certificate);
	return NULL;
}

/* The key of the certificate that signs, and the certificate where the request begins here. */
static int take_signer(struct transaction *t, EVP_PKEY *key, struct error *err)
{
	if (!t->signer) {
		t->signer = renewal_signer(t);
		t->type = t->signer ? SCEP_RENEWAL_REQ : SCEP_PKCS_REQ;
	}
	if (!t->signer)
		t->signer = scep_self_signed(X509_REQ_get_subject_name(t->request), key,
		                             record_number(t->job->settings, "now", 0),
		                             t->authority.algorithms.digest, err);
	if (!t->signer)
		return -EIO;
	if (t->type == SCEP_RENEWAL_REQ) {
		t->key = job_key_of(t->job, t->signer, err);
	} else {
		EVP_PKEY_up_ref(key);
		t->key = key;
	}
	return t->key ? 0 : -EINVAL;
}

static int random_id(struct transaction *t, struct error *err)
{
	unsigned char bytes[16];

	if (RAND_bytes(bytes, sizeof bytes) != 1 || RAND_bytes(t->nonce, sizeof t->nonce) != 1)
		return error_openssl(err, -EIO, "no random numbers");
	for (size_t i = 0; i < sizeof bytes; i++)
		snprintf(t->id + 2 * i, 3, "%02X", bytes[i]);
	return 0;
}

/* A message of T but for its content. */
static struct scep_message message_of(const struct transaction *t, enum scep_type type)
{
	return (struct scep_message){ .type = type,
		                      .transaction_id = t->id,
		                      .nonce = type == SCEP_CERT_POLL ? t->poll_nonce : t->nonce,
		                      .signer = t->signer,
		                      .key = t->key,
		                      .recipient = t->authority.recipient,
		                      .algorithms = t->authority.algorithms };
}

static int make_message(struct transaction *t, struct error *err)
{
	struct scep_message message = message_of(t, t->type);
	unsigned char *csr = NULL;
	int size = i2d_X509_REQ(t->request, &csr);
	int r;

	if (size <= 0)
		return error_openssl(err, -EIO, "cannot encode the request");
	message.content = csr;
	message.length = (size_t)size;
	r = scep_message_make(&message, &t->message, &t->length, err);
	OPENSSL_cleanse(csr, (size_t)size); /* it holds the challenge */
	OPENSSL_free(csr);
	return r;
}

static int begin(struct transaction *t, EVP_PKEY *key, struct error *err)
{
	const struct record *settings = t->job->settings;
	bool challenge = record_find(settings, "challenge-password") != NULL;
	int r;

	r = random_id(t, err);
	if (r == 0)
		r = csr_make(t->job->worker->signer, key, settings, challenge, &t->request, err);
	if (r == 0)
		r = take_signer(t, key, err);
	if (r == 0)
		r = make_message(t, err);
	return r;
}

static void transaction_clear(struct transaction *t)
{
	authority_clear(&t->authority);
	X509_free(t->signer);
	EVP_PKEY_free(t->key);
	X509_REQ_free(t->request);
	OPENSSL_free(t->message);
}

/* --- the exchange --- */

static enum reply exchange_in(struct transaction *t, const unsigned char *nonce,
                              const unsigned char *message, size_t length,
                              struct scep_answer *answer, int *code, struct error *err)
{
	struct scep_expectation expectation = { .transaction_id = t->id,
		                                .nonce = nonce,
		                                .signers = t->authority.signers,
		                                .context = t->job->worker->legacy };

	return scep_exchange(t->job, &t->authority, &expectation, message, length, answer, code,
	                     err);
}

/* SUCCESS: the certificates go into the result, as they came. */
static int take_certificates(struct transaction *t, const struct scep_answer *answer,
                             struct error *err)
{
	STACK_OF(X509) *certificates = NULL;
	unsigned char *content = NULL;
	size_t length;
	int r;

	r = scep_open_answer(t->job, answer, t->signer, t->key, &content, &length, err);
	if (r == 0)
		r = scep_content_read(content, length, &certificates, NULL, NULL, err);
	for (int i = 0; r == 0 && i < sk_X509_num(certificates); i++) {
		unsigned char *der = NULL;
		int size = i2d_X509(sk_X509_value(certificates, i), &der);

		add_der(t->job->result, "certificate", der, size);
	}
	sk_X509_pop_free(certificates, X509_free);
	OPENSSL_free(content);
	return r;
}

/* A valid answer to the request or to a poll of it. */
static int take_answer(struct transaction *t, const struct scep_answer *answer, struct error *err)
{
	int r;

	switch (answer->status) {
	case SCEP_PENDING:
		leave(t, "pending");
		return JOB_WAITING;
	case SCEP_FAILURE:
		return scep_refused(answer, "request", err);
	case SCEP_SUCCESS:
		break;
	}
	r = take_certificates(t, answer, err);
	if (r < 0)
		leave(t, t->phase);
	return r;
}

/* Sends the stored bytes; the checkpoint says that they may have left. */
static int send_request(struct transaction *t, struct error *err)
{
	struct scep_answer answer;
	enum reply reply;
	int r;

	reply = exchange_in(t, t->nonce, t->message, t->length, &answer, &r, err);
	if (reply == REPLY_VALID)
		r = take_answer(t, &answer, err);
	else
		leave(t, reply == REPLY_UNSENT ? "unsent" : "sent");
	scep_answer_clear(&answer);
	return r;
}

static int make_poll(struct transaction *t, unsigned char **message, size_t *length,
                     struct error *err)
{
	struct scep_message poll = message_of(t, SCEP_CERT_POLL);
	unsigned char *names = NULL;
	int r;

	if (RAND_bytes(t->poll_nonce, sizeof t->poll_nonce) != 1)
		return error_openssl(err, -EIO, "no random numbers");
	r = scep_issuer_and_subject(X509_get_subject_name(t->authority.ca),
	                            X509_REQ_get_subject_name(t->request), &names, &poll.length,
	                            err);
	poll.content = names;
	if (r == 0)
		r = scep_message_make(&poll, message, length, err);
	OPENSSL_free(names);
	return r;
}

/*
 * Asks for the transaction. After a request whose answer was lost, a CA that says that it does
 * not know it, or a server that cannot be polled, gets the request again. What is no answer at
 * all says nothing of that: it may come from anybody, and a challenge may serve once.
 */
static int poll_request(struct transaction *t, struct error *err)
{
	bool pending = strcmp(t->phase, "pending") == 0;
	unsigned char *message = NULL;
	struct scep_answer answer = { 0 };
	enum reply reply;
	size_t length;
	int r;

	r = make_poll(t, &message, &length, err);
	if (r == 0)
		r = checkpoint(t, t->phase, err);
	if (r < 0)
		goto out;
	reply = exchange_in(t, t->poll_nonce, message, length, &answer, &r, err);
	if (reply == REPLY_VALID && (pending || answer.status != SCEP_FAILURE)) {
		r = take_answer(t, &answer, err);
	} else if (!pending && (reply == REPLY_VALID || reply == REPLY_ERROR)) {
		log_info("the CA does not know transaction %s: the request is sent again", t->id);
		r = send_request(t, err);
	} else {
		leave(t, t->phase);
	}
out:
	scep_answer_clear(&answer);
	OPENSSL_free(message);
	return r;
}

static int run(struct transaction *t, EVP_PKEY *key, struct error *err)
{
	bool fresh = !record_find(t->job->settings, "resume-phase");
	int r;

	if (fresh) {
		r = begin(t, key, err);
	} else {
		r = resume_read(t, err);
		if (r == 0)
			r = take_signer(t, key, err);
	}
	if (r < 0)
		return r;
	if (!fresh && strcmp(t->phase, "unsent") != 0)
		return poll_request(t, err);
	r = checkpoint(t, "sent", err);
	return r < 0 ? r : send_request(t, err);
}

static int enroll(struct job *job, struct error *err)
{
	struct transaction t = { .job = job, .phase = "" };
	EVP_PKEY *key = NULL;
	int r;

	r = authority_read(job->settings, &t.authority, err);
	if (r == 0)
		r = authority_follow(job, &t.authority, err);
	if (r < 0)
		goto out;
	key = job_new_key(job, err);
	r = key ? run(&t, key, err) : -EINVAL;
out:
	EVP_PKEY_free(key);
	transaction_clear(&t);
	return r;
}

/* --- GetCRL --- */

/* Who asks: the certificate in force with its key, or somebody made up for this question, since
 * a CRL is public. */
static int crl_asker(struct job *job, const struct authority *authority, X509 **asker,
                     EVP_PKEY **key, struct error *err)
{
	const struct field *field = record_find(job->settings, "certificate");
	X509_NAME *name;

	if (field) {
		*asker = field_certificate(field, "certificate", err);
		if (*asker)
			*key = job_key_of(job, *asker, err);
		return *key ? 0 : -EINVAL;
	}
	name = X509_NAME_new();
	*key = EVP_RSA_gen(2048);
	if (name && *key &&
	    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)"pkifs",
	                               -1, -1, 0))
		*asker = scep_self_signed(name, *key, record_number(job->settings, "now", 0),
		                          authority->algorithms.digest, err);
	X509_NAME_free(name);
	return *asker ? 0 : error_openssl(err, -EIO, "cannot make a key to ask for the CRL with");
}

static int make_crl_request(struct transaction *t, struct error *err)
{
	struct scep_message message = message_of(t, SCEP_GET_CRL);
	bool ours = record_find(t->job->settings, "certificate") != NULL;
	unsigned char *id = NULL;
	int r;

	r = random_id(t, err);
	if (r == 0)
		r = scep_issuer_and_serial(ours ? t->signer : t->authority.ca, &id, &message.length,
		                           err);
	message.content = id;
	if (r == 0)
		r = scep_message_make(&message, &t->message, &t->length, err);
	OPENSSL_free(id);
	return r;
}

static int take_crl(struct transaction *t, const struct scep_answer *answer, struct error *err)
{
	unsigned char *content = NULL, *der = NULL;
	size_t length, size;
	int r;

	if (answer->status == SCEP_FAILURE)
		return scep_refused(answer, "question for its CRL", err);
	if (answer->status != SCEP_SUCCESS)
		return error_set(err, -EBADMSG, "the CA answers PENDING to GetCRL");
	r = scep_open_answer(t->job, answer, t->signer, t->key, &content, &length, err);
	if (r == 0)
		r = scep_content_read(content, length, NULL, &der, &size, err);
	if (r == 0)
		r = crl_put(t->job, der, size, err);
	if (r == 0)
		record_add(t->job->result, "crl-source", "GetCRL");
	OPENSSL_free(content);
	OPENSSL_free(der);
	return r;
}

static int get_crl(struct job *job, struct error *err)
{
	struct transaction t = { .job = job, .phase = "" };
	struct scep_answer answer = { 0 };
	int r;

	r = authority_read(job->settings, &t.authority, err);
	if (r == 0)
		r = crl_asker(job, &t.authority, &t.signer, &t.key, err);
	if (r == 0)
		r = make_crl_request(&t, err);
	if (r == 0 &&
	    exchange_in(&t, t.nonce, t.message, t.length, &answer, &r, err) == REPLY_VALID)
		r = take_crl(&t, &answer, err);
	scep_answer_clear(&answer);
	transaction_clear(&t);
	return r;
}

const struct protocol scep_protocol = {
	.name = "scep",
	.check = check,
	.ca_certificate = scep_ca_certificate,
	.next_ca = scep_next_ca,
	.enroll = enroll,
	.crl = get_crl,
};
