/*
 * ACME (RFC 8555) as the worker speaks it.
 *
 *   (none) --newOrder--> order read, its challenges chosen --checkpoint--> challenges posted
 *     ^                                                                        |
 *     | made invalid while nobody answered                 authorizations valid v
 *     '------------------------------------------------------- finalized --> certificate
 *
 * The order's URL and the tokens are stored before a challenge is posted. The store has them
 * answered from the checkpoint on for as long as the job lasts; so a job that takes an order up
 * again begins with the same checkpoint, before it asks anything.
 */
#include "common/log.h"
#include "enroll/acme_client.h"
#include "enroll/csr.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STEPS_MAX     8 /* of an order, which has three */
#define NAMES_LIMIT   100
#define PROOF_SECONDS 120 /* how long a job looks on while the CA examines challenges, */
#define ISSUE_SECONDS 20  /* and while it issues; then it comes again */
#define AGAIN_MAX     2
#define PAUSE_FIRST   50 /* milliseconds between two looks, at first and at most */
#define PAUSE_LAST    3000

/* What proves one name. */
struct proof {
	struct proof *next;
	char *name, *token;
	char *authorization, *challenge; /* URLs; NULL where another job began it */
	bool posted;
	int again; /* how often the CA was told to look again */
};

struct order {
	struct acme acme;
	struct job *job;
	const char *type; /* of the challenges */
	char *url;        /* NULL: none yet */
	json_t *json;
	struct proof *proofs;
	bool resumed; /* another job began it, and nobody answered for a while */
};

static int check(const struct record *settings, struct error *err)
{
	json_t *list = acme_identifiers(settings);
	size_t count = json_array_size(list);

	json_decref(list);
	if (!count)
		return error_set(err, -EINVAL, "ACME needs a domain-name or an ip-address");
	if (count > NAMES_LIMIT)
		return error_set(err, -EINVAL, "%zu names are more than the %d that fit an order",
		                 count, NAMES_LIMIT);
	return 0;
}

/* --- the order and its resume-… fields --- */

static void proofs_free(struct order *order)
{
	struct proof *proof;

	while ((proof = order->proofs)) {
		order->proofs = proof->next;
		free(proof->name);
		free(proof->token);
		free(proof->authorization);
		free(proof->challenge);
		free(proof);
	}
}

static void order_forget(struct order *order)
{
	free(order->url);
	order->url = NULL;
	json_decref(order->json);
	order->json = NULL;
	proofs_free(order);
	order->resumed = false;
}

static struct proof *proof_add(struct order *order, const char *name, const char *token)
{
	struct proof *proof = calloc(1, sizeof *proof);

	if (!proof)
		return NULL;
	proof->name = strdup(name);
	proof->token = strdup(token);
	proof->next = order->proofs;
	order->proofs = proof;
	return proof;
}

/* What answers PROOF: the token and the account's key, or their hash (RFC 8555 §8.1, 8.4). */
static void add_challenge(const struct order *order, const struct proof *proof,
                          struct record *resume)
{
	char *answer = NULL, *hashed = NULL;
	unsigned char hash[SHA256_DIGEST_LENGTH];
	int length = asprintf(&answer, "%s.%s", proof->token, order->acme.key.thumbprint);

	if (length >= 0 && strcmp(order->type, "dns-01") == 0) {
		SHA256((unsigned char *)answer, (size_t)length, hash);
		hashed = base64url(hash, sizeof hash);
	}
	if (length >= 0)
		record_addf(resume, "challenge", "%s %s %s %s", order->type, proof->name,
		            proof->token, hashed ? hashed : answer);
	free(answer);
	free(hashed);
}

/* Stores what is under way; from then on the tokens are answered. */
static int checkpoint(struct order *order, struct error *err)
{
	struct record *resume = record_new();
	int r;

	if (!resume)
		return error_set(err, -ENOMEM, "no memory");
	record_add(resume, "resume-order", order->url);
	for (const struct proof *proof = order->proofs; proof; proof = proof->next) {
		record_addf(resume, "resume-proof", "%s %s", proof->name, proof->token);
		add_challenge(order, proof, resume);
	}
	r = job_checkpoint(order->job, resume, err);
	record_free(resume);
	/* where a web server may answer in our place, nobody else puts records */
	if (r == 0 && *order->job->notice && strcmp(order->type, "dns-01") == 0)
		r = error_set(err, -EREMOTEIO, "%s", order->job->notice);
	return r;
}

/* Takes up what an earlier job left, and has its tokens answered again. */
static int resume(struct order *order, struct error *err)
{
	const struct record *settings = order->job->settings;
	const char *url = record_get(settings, "resume-order");
	const struct field *field;
	size_t index = 0;

	if (!url || !*url)
		return 0;
	order->resumed = true;
	order->url = strdup(url);
	while ((field = record_next(settings, "resume-proof", &index))) {
		char *name = strdup(field->value), *token = name ? strchr(name, ' ') : NULL;

		if (token) {
			*token++ = '\0';
			proof_add(order, name, token);
		}
		free(name);
	}
	return order->proofs ? checkpoint(order, err) : 0;
}

static int new_order(struct order *order, struct error *err)
{
	struct acme_answer answer = { 0 };
	int r = acme_new_order(&order->acme, &answer, err);

	if (r == 0) {
		order->url = answer.location;
		answer.location = NULL;
		order->json = json_incref(answer.json);
	}
	acme_answer_clear(&answer);
	return r;
}

static int read_order(struct order *order, struct error *err)
{
	struct acme_answer answer = { 0 };
	int r = acme_ask(&order->acme, "question for the order", order->url, "", &answer, err);

	if (r == -EREMOTEIO && (answer.http.status == 404 || answer.http.status == 410))
		r = -EACCES; /* it has been cleared away: whatever words that is told in */
	if (r == 0) {
		json_decref(order->json);
		order->json = json_incref(answer.json);
	}
	acme_answer_clear(&answer);
	return r;
}

static bool has_status(const json_t *json, const char *status)
{
	const char *text = acme_text(json, "status");

	return text && strcmp(text, status) == 0;
}

/*
 * Whether an order or authorization is NOT_YET what it is to become; some CAs call one `processing`
 * that RFC 8555 knows no such state of, or an order `valid` before its certificate is there.
 */
static bool is_not_yet(const json_t *json, const char *not_yet)
{
	bool promised = has_status(json, "valid") && json_object_get(json, "finalize") &&
	                !acme_text(json, "certificate");

	return has_status(json, not_yet) || has_status(json, "processing") || promised;
}

/* --- waiting --- */

/*
 * Sleeps for what the last answer says, or PAUSE; JOB_WAITING at END, with a last look there: what
 * is answered here is answered as long as we stay, and some CAs name a day for what takes a moment.
 */
static int pause_for(struct order *order, long *pause, time_t end)
{
	long long after = record_number(order->job->result, "retry-after", 0);
	struct timespec now, span;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (now.tv_sec >= end)
		return JOB_WAITING;
	if (after > end - now.tv_sec)
		after = end - now.tv_sec;
	span = after ? (struct timespec){ .tv_sec = after }
	             : (struct timespec){ *pause / 1000, *pause % 1000 * 1000000 };
	nanosleep(&span, NULL);
	*pause = *pause * 2 < PAUSE_LAST ? *pause * 2 : PAUSE_LAST;
	return 0;
}

/* --- proving the names --- */

/* The challenge of the order's type in AUTHORIZATION; NULL: the CA does not offer it. */
static const json_t *find_challenge(const struct order *order, const json_t *authorization)
{
	const json_t *challenge;
	size_t i;

	json_array_foreach(json_object_get(authorization, "challenges"), i, challenge)
	{
		const char *type = acme_text(challenge, "type");

		if (type && strcmp(type, order->type) == 0)
			return challenge;
	}
	return NULL;
}

/* Notes how the name of AUTHORIZATION, at URL, is to be proved. */
static int choose(struct order *order, const char *url, const json_t *authorization,
                  struct error *err)
{
	const json_t *identifier = json_object_get(authorization, "identifier"), *challenge;
	const char *name = acme_text(identifier, "value"), *type = acme_text(identifier, "type");
	const char *token, *where;
	struct proof *proof;

	if (!name || !type || !acme_is_asked(order->job->settings, type, name))
		return error_set(err, -EINVAL,
		                 "the CA wants proof for %.100s, which was not asked for",
		                 name ? name : "no name");
	challenge = find_challenge(order, authorization);
	if (!challenge)
		return error_set(err, -EINVAL, "the CA offers no challenge %s for %s", order->type,
		                 name);
	token = acme_text(challenge, "token");
	if (!token || !is_base64url(token, ACME_TOKEN_MAX))
		return error_set(err, -EINVAL, "the CA's token for %s is none: %.40s", name,
		                 token ? token : "(missing)");
	where = acme_url(&order->acme, challenge, "url", err);
	if (!where)
		return -EINVAL;
	proof = proof_add(order, name, token);
	if (!proof)
		return error_set(err, -ENOMEM, "no memory");
	proof->posted = !has_status(challenge, "pending");
	proof->authorization = strdup(url);
	proof->challenge = strdup(where);
	return 0;
}

/* Reads all authorizations of the order; those that are pending become proofs. */
static int read_authorizations(struct order *order, struct error *err)
{
	const json_t *list = json_object_get(order->json, "authorizations");
	int r = json_array_size(list) > NAMES_LIMIT ? -EINVAL : 0;

	if (r < 0)
		return error_set(err, r, "the CA wants more than %d proofs", NAMES_LIMIT);
	proofs_free(order);
	for (size_t i = 0; r == 0 && i < json_array_size(list); i++) {
		const char *url = json_string_value(json_array_get(list, i));
		struct acme_answer answer = { 0 };

		r = acme_check_url(&order->acme, url, "authorization", err);
		if (r == 0)
			r = acme_ask(&order->acme, "question for an authorization", url, "",
			             &answer, err);
		if (r == 0 && is_not_yet(answer.json, "pending"))
			r = choose(order, url, answer.json, err);
		else if (r == 0 && !has_status(answer.json, "valid"))
			r = error_set(err, -EACCES, "an authorization of the order is void");
		acme_answer_clear(&answer);
	}
	return r;
}

static int post_challenge(struct order *order, const struct proof *proof, struct error *err)
{
	struct acme_answer answer = { 0 };
	int r = acme_post(&order->acme, "answer to a challenge", proof->challenge, "{}", &answer,
	                  err);

	acme_answer_clear(&answer);
	return r;
}

static int post_challenges(struct order *order, struct error *err)
{
	int r = 0;

	for (struct proof *proof = order->proofs; r == 0 && proof; proof = proof->next)
		if (!proof->posted)
			r = post_challenge(order, proof, err);
	return r;
}

/* Why the CA did not believe PROOF. */
static int unproved(const struct order *order, const struct proof *proof,
                    const json_t *authorization, struct error *err)
{
	const json_t *challenge = find_challenge(order, authorization);
	const char *port = strcmp(order->type, "http-01") == 0 ? "80" : "443";
	const char *here = order->job->notice;
	struct acme_problem problem;
	int code;

	acme_problem_read(json_object_get(challenge, "error"), &problem);
	code = acme_problem_passes(&problem) ? -EREMOTEIO : -EACCES;
	if (strcmp(problem.type, "connection") == 0 && strcmp(order->type, "dns-01") != 0)
		return error_set(err, code, "port %s of %s was not reached%s%s; %s", port,
		                 proof->name, *here ? ": " : "", here, problem.text);
	return error_set(err, code, "the CA found no proof for %s%s%s: %s", proof->name,
	                 *here ? ": " : "", here, problem.text);
}

/*
 * The authorization is pending. A CA may have looked, found nothing, and look again when it is told
 * to (§8.2): it is told some times, ever later.
 */
static int look_again(struct order *order, struct proof *proof, const json_t *authorization,
                      struct error *err)
{
	const json_t *challenge = find_challenge(order, authorization);
	struct timespec span = { .tv_sec = 1L << proof->again };

	if (has_status(challenge, "invalid"))
		return unproved(order, proof, authorization, err);
	if (!has_status(challenge, "pending") ||
	    !json_is_object(json_object_get(challenge, "error")))
		return 0;
	if (proof->again++ == AGAIN_MAX) {
		unproved(order, proof, authorization, err); /* for now: the order is good still */
		return -EREMOTEIO;
	}
	nanosleep(&span, NULL);
	return post_challenge(order, proof, err);
}

/*
 * Asks for URL as long as its status is NOT_YET, some seconds at most: then JOB_WAITING. *JSON,
 * what was said last, is the caller's. PROOF: what URL is the authorization of, or NULL.
 */
static int await(struct order *order, struct proof *proof, const char *url, const char *not_yet,
                 json_t **json, struct error *err)
{
	const char *what = proof ? "question for an authorization" : "question for the order";
	struct acme_answer answer = { 0 };
	struct timespec now;
	long pause = PAUSE_FIRST;
	time_t end;
	int r;

	clock_gettime(CLOCK_MONOTONIC, &now);
	end = now.tv_sec + (proof ? PROOF_SECONDS : ISSUE_SECONDS);
	for (;;) {
		acme_answer_clear(&answer);
		r = acme_ask(&order->acme, what, url, "", &answer, err);
		if (r < 0 || !is_not_yet(answer.json, not_yet))
			break;
		r = proof ? look_again(order, proof, answer.json, err) : 0;
		if (r == 0)
			r = pause_for(order, &pause, end);
		if (r)
			break;
	}
	if (r >= 0) {
		json_decref(*json);
		*json = json_incref(answer.json);
	}
	acme_answer_clear(&answer);
	return r;
}

static int await_proofs(struct order *order, struct error *err)
{
	int r = 0;

	for (struct proof *proof = order->proofs; r == 0 && proof; proof = proof->next) {
		json_t *authorization = NULL;

		r = await(order, proof, proof->authorization, "pending", &authorization, err);
		if (r == 0 && !has_status(authorization, "valid"))
			r = unproved(order, proof, authorization, err);
		if (r == JOB_WAITING) /* it may ask in between: back to our place */
			record_set(order->job->result, "retry-after", "1");
		json_decref(authorization);
	}
	return r;
}

static int prove(struct order *order, struct error *err)
{
	int r = read_authorizations(order, err);

	if (r == 0)
		r = checkpoint(order, err);
	if (r == 0)
		r = post_challenges(order, err);
	return r == 0 ? await_proofs(order, err) : r;
}

/* --- the certificate --- */

/* The CSR as base64url, with the alternative names alone: an ACME CA decides the subject. */
static char *make_csr(struct order *order, struct error *err)
{
	struct job *job = order->job;
	const struct field *public = record_find(job->settings, "public");
	struct record *names = record_copy(job->settings);
	EVP_PKEY *key = NULL;
	X509_REQ *request = NULL;
	unsigned char *der = NULL;
	char *text = NULL;
	int size;

	if (names) {
		record_remove(names, "subject");
		key = signer_key(job->worker->signer, "new", public->value, public->length, err);
	}
	if (key && csr_make(job->worker->signer, key, names, false, &request, err) == 0 &&
	    (size = i2d_X509_REQ(request, &der)) > 0)
		text = base64url(der, (size_t)size);
	OPENSSL_free(der);
	X509_REQ_free(request);
	EVP_PKEY_free(key);
	record_free(names);
	return text;
}

static int finalize(struct order *order, struct error *err)
{
	const char *url = acme_url(&order->acme, order->json, "finalize", err);
	char *csr = url ? make_csr(order, err) : NULL;
	struct acme_answer answer = { 0 };
	char *text = NULL;
	int r;

	if (!csr)
		return -EINVAL;
	if (asprintf(&text, "{\"csr\":\"%s\"}", csr) < 0)
		text = NULL;
	r = text ? acme_ask(&order->acme, "certificate request", url, text, &answer, err)
	         : error_set(err, -ENOMEM, "no memory");
	if (r == 0) {
		json_decref(order->json);
		order->json = json_incref(answer.json);
	}
	acme_answer_clear(&answer);
	free(text);
	free(csr);
	return r;
}

static int download(struct order *order, struct error *err)
{
	const char *url = acme_url(&order->acme, order->json, "certificate", err);
	const char *info = acme_text(order->acme.directory, "renewalInfo");

	if (info)
		record_set(order->job->result, "renewal-info", info);
	return url ? acme_chain(&order->acme, url, err) : -EINVAL;
}

/* An order that the CA gave up, in words. */
static int failed_order(const struct order *order, struct error *err)
{
	struct acme_problem problem;

	acme_problem_read(json_object_get(order->json, "error"), &problem);
	return error_set(err, acme_problem_passes(&problem) ? -EREMOTEIO : -EACCES,
	                 "the CA gave the order up (%.20s): %s",
	                 acme_text(order->json, "status") ? acme_text(order->json, "status")
	                                                  : "no status",
	                 problem.text);
}

/* From wherever the order stands to its certificate. */
static int pursue(struct order *order, struct error *err)
{
	int r = 0;

	for (int steps = 0; r == 0 && steps < STEPS_MAX; steps++) {
		const char *now = "processing";

		if (has_status(order->json, "ready")) {
			r = finalize(order, err);
			continue;
		}
		if (has_status(order->json, "pending")) {
			r = prove(order, err);
			now = "pending";
		} else if (!is_not_yet(order->json, now)) {
			break;
		}
		if (r == 0)
			r = await(order, NULL, order->url, now, &order->json, err);
	}
	if (r)
		return r;
	return has_status(order->json, "valid") ? download(order, err) : failed_order(order, err);
}

/*
 * An order that another job began may be worth nothing any more, because nobody answered its
 * challenges meanwhile: then a new one takes its place at once.
 */
static int run(struct order *order, struct error *err)
{
	int r = order->url ? read_order(order, err) : new_order(order, err);

	if (r == 0)
		r = pursue(order, err);
	if (order->resumed &&
	    (r == -EACCES || r == -EINVAL || has_status(order->json, "invalid"))) {
		log_info("the order is replaced by a new one: %s", err->text);
		order_forget(order);
		r = new_order(order, err);
		if (r == 0)
			r = pursue(order, err);
	}
	return r;
}

static int enroll(struct job *job, struct error *err)
{
	struct order order = { .job = job, .type = record_get(job->settings, "acme-challenge") };
	int r;

	if (!order.type)
		order.type = "http-01";
	r = acme_open(&order.acme, job, err);
	if (r == 0)
		r = resume(&order, err);
	if (r == 0)
		r = acme_begin(&order.acme, err);
	if (r == 0)
		r = run(&order, err);
	order_forget(&order);
	acme_close(&order.acme);
	return r;
}

static int account(struct job *job, struct error *err)
{
	static const struct {
		const char *action;
		int (*act)(struct acme *acme, struct error *err);
	} actions[] = { { "account-register", acme_account_update },
		        { "account-delete", acme_account_delete },
		        { "account-rollover", acme_account_roll } };
	struct acme acme;
	int r = acme_open(&acme, job, err);

	if (r == 0)
		r = acme_begin(&acme, err);
	for (size_t i = 0; r == 0 && i < COUNT(actions); i++)
		if (record_is(job->settings, "action", actions[i].action)) {
			r = actions[i].act(&acme, err);
			break;
		}
	acme_close(&acme);
	return r;
}

/* By the account that it was issued to (§7.6). */
static int revoke(struct job *job, struct error *err)
{
	const struct field *field = record_find(job->settings, "certificate");
	char *certificate = field ? base64url(field->value, field->length) : NULL, *text = NULL;
	struct acme_answer answer = { 0 };
	const char *url = NULL;
	struct acme acme;
	int r = acme_open(&acme, job, err);

	if (r == 0)
		r = acme_begin(&acme, err);
	if (r == 0)
		url = acme_url(&acme, acme.directory, "revokeCert", err);
	if (certificate && asprintf(&text, "{\"certificate\":\"%s\"}", certificate) < 0)
		text = NULL;
	if (r == 0 && !text)
		r = error_set(err, -EINVAL, "the job has no certificate to revoke");
	else if (r == 0)
		r = url ? acme_post(&acme, "revocation", url, text, &answer, err) : -EINVAL;
	if (r == -EACCES && strcmp(answer.problem.type, "alreadyRevoked") == 0)
		r = 0;
	acme_answer_clear(&answer);
	acme_close(&acme);
	free(certificate);
	free(text);
	return r;
}

static int ca_certificate(struct job *job, struct error *err)
{
	(void)job;
	return error_set(err, -EINVAL, "an ACME CA's certificate comes with the certificates");
}

const struct protocol acme_protocol = {
	.name = "acme",
	.check = check,
	.ca_certificate = ca_certificate,
	.enroll = enroll,
	.revoke = revoke,
	.account = account,
};
