#include "enroll/acme_client.h"

#include "common/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NONCE_MAX   512
#define URL_LIMIT   2000
#define NONCE_TRIES 5

int acme_check_url(const struct acme *acme, const char *url, const char *key, struct error *err)
{
	if (!url || !*url)
		return error_set(err, -EINVAL, "the CA names no URL %s", key);
	if (strlen(url) > URL_LIMIT || !http_may_name(acme->url, url))
		return error_set(err, -EINVAL,
		                 "the CA names as %s the URL %.100s, which is not followed", key,
		                 url);
	return 0;
}

const char *acme_url(const struct acme *acme, const json_t *object, const char *key,
                     struct error *err)
{
	const char *url = acme_text(object, key);

	return acme_check_url(acme, url, key, err) < 0 ? NULL : url;
}

/* --- requests --- */

void acme_answer_clear(struct acme_answer *answer)
{
	http_answer_clear(&answer->http);
	json_decref(answer->json);
	free(answer->location);
	*answer = (struct acme_answer){ 0 };
}

/* One request and its answer: 0 for 2xx; the next nonce is kept. */
static int exchange(struct acme *acme, const struct http_request *request,
                    struct acme_answer *answer, struct error *err)
{
	struct http *http = acme->job->worker->http;
	const char *nonce, *location;
	int r = http_do(http, request, &answer->http, err);

	job_note_answer(acme->job, &answer->http);
	if (!answer->http.status)
		return r;
	nonce = http_header(http, "Replay-Nonce", 0);
	if (nonce && is_base64url(nonce, NONCE_MAX)) {
		free(acme->nonce);
		acme->nonce = strdup(nonce);
	}
	location = http_header(http, "Location", 0);
	answer->location = location ? http_url_from(request->url, location) : NULL;
	if (answer->http.body)
		answer->json = json_loadb((char *)answer->http.body, answer->http.length,
		                          JSON_REJECT_DUPLICATES, NULL);
	if (r == -EREMOTEIO)
		acme_problem_read(answer->json, &answer->problem);
	return r;
}

int acme_get(struct acme *acme, const char *url, struct acme_answer *answer, struct error *err)
{
	struct http_request request = { .url = url };
	int r = exchange(acme, &request, answer, err);

	return r == 0 && !json_is_object(answer->json)
	               ? error_set(err, -EBADMSG, "what %.200s answers is no JSON", url)
	               : r;
}

/* By HEAD, as RFC 8555 (§7.2) has it; GET is for servers that know no HEAD. */
static int take_nonce(struct acme *acme, struct error *err)
{
	struct http_request request = { .head = true };
	struct acme_answer answer = { 0 };
	int r = 0;

	if (acme->nonce)
		return 0;
	request.url = acme_url(acme, acme->directory, "newNonce", err);
	if (!request.url)
		return -EINVAL;
	r = exchange(acme, &request, &answer, err);
	if (!acme->nonce && answer.http.status) {
		acme_answer_clear(&answer);
		request.head = false;
		r = exchange(acme, &request, &answer, err);
	}
	acme_answer_clear(&answer);
	if (acme->nonce)
		return 0;
	return r < 0 ? r : error_set(err, -EBADMSG, "the CA gives no nonce");
}

/* KID: the account, or NULL for the key itself. */
static int post_once(struct acme *acme, const char *kid, const char *url, const char *payload,
                     struct acme_answer *answer, struct error *err)
{
	struct http_request request = { .url = url, .type = "application/jose+json" };
	char *body;
	int r = take_nonce(acme, err);

	if (r < 0)
		return r;
	body = jws_make(&acme->key, kid, acme->nonce, url, payload, err);
	free(acme->nonce); /* it serves once */
	acme->nonce = NULL;
	if (!body)
		return -EIO;
	request.body = body;
	request.length = strlen(body);
	r = exchange(acme, &request, answer, err);
	free(body);
	return r;
}

/* The CA's refusal of WHAT in words. */
static int refuse(const char *what, const struct acme_answer *answer, struct error *err)
{
	const struct acme_problem *problem = &answer->problem;
	bool later = acme_problem_passes(problem) || answer->http.status >= 500 ||
	             answer->http.status == 429;

	return error_set(err, later ? -EREMOTEIO : -EACCES, "the CA refuses the %s: %s", what,
	                 problem->text);
}

static int post(struct acme *acme, bool with_account, const char *what, const char *url,
                const char *payload, struct acme_answer *answer, struct error *err)
{
	int r = -EREMOTEIO;

	for (int tries = 0; tries < NONCE_TRIES; tries++) {
		acme_answer_clear(answer);
		r = post_once(acme, with_account ? acme->account : NULL, url, payload, answer, err);
		if (r != -EREMOTEIO)
			break;
		if (strcmp(answer->problem.type, "badNonce") == 0)
			continue;
		if (with_account && !acme->ending &&
		    strcmp(answer->problem.type, "accountDoesNotExist") == 0) {
			r = acme_account(acme, true, err);
			if (r == 0)
				continue;
			return r;
		}
		break;
	}
	if (r == 0 || r == -EREMOTEIO)
		record_set(acme->job->result, "answered", "yes");
	return r == -EREMOTEIO && *answer->problem.type ? refuse(what, answer, err) : r;
}

int acme_post(struct acme *acme, const char *what, const char *url, const char *payload,
              struct acme_answer *answer, struct error *err)
{
	return post(acme, true, what, url, payload, answer, err);
}

int acme_ask(struct acme *acme, const char *what, const char *url, const char *payload,
             struct acme_answer *answer, struct error *err)
{
	int r = acme_post(acme, what, url, payload, answer, err);

	if (r < 0 || json_is_object(answer->json))
		return r;
	return error_set(err, -EBADMSG, "what the CA says to the %s is no JSON", what);
}

/* --- the account --- */

static json_t *contacts(const struct record *settings)
{
	const struct field *field;
	json_t *list = json_array();
	size_t index = 0;

	while (list && (field = record_next(settings, "acme-contact", &index))) {
		char *url = NULL;

		if (asprintf(&url, "mailto:%s", field->value) >= 0) {
			json_array_append_new(list, json_string(url));
			free(url);
		}
	}
	return list;
}

static bool is_bound(const struct acme *acme)
{
	return record_get(acme->job->settings, "acme-eab-kid") &&
	       record_get(acme->job->settings, "acme-eab-key");
}

static int add_binding(struct acme *acme, json_t *payload, const char *url, struct error *err)
{
	const char *kid = record_get(acme->job->settings, "acme-eab-kid");
	const char *secret = record_get(acme->job->settings, "acme-eab-key");
	char *jws;

	if (!is_bound(acme))
		return 0;
	jws = jws_bind(&acme->key, kid, secret, url, err);
	if (!jws)
		return -EINVAL;
	json_object_set_new(payload, "externalAccountBinding", json_loads(jws, 0, NULL));
	free(jws);
	return 0;
}

/* The body of newAccount; the caller's (free). */
static char *account_text(struct acme *acme, const char *url, struct error *err)
{
	json_t *payload = json_pack("{s:b}", "termsOfServiceAgreed", 1);
	json_t *list = contacts(acme->job->settings);
	char *text = NULL;

	if (json_array_size(list))
		json_object_set(payload, "contact", list);
	json_decref(list);
	if (add_binding(acme, payload, url, err) == 0)
		text = json_dumps(payload, JSON_COMPACT);
	json_decref(payload);
	return text;
}

/* What the store keeps of the account. */
static void note_account(struct acme *acme)
{
	const char *terms = acme_text(json_object_get(acme->directory, "meta"), "termsOfService");
	struct record *result = acme->job->result;

	record_set(result, "account-url", acme->account);
	record_remove(result, "account-terms");
	if (terms && strlen(terms) < URL_LIMIT)
		record_add(result, "account-terms", terms);
}

int acme_find_account(struct acme *acme, struct acme_answer *answer, struct error *err)
{
	const char *url = acme_url(acme, acme->directory, "newAccount", err);

	return url ? post(acme, false, "question for the account", url,
	                  "{\"onlyReturnExisting\":true}", answer, err)
	           : -EINVAL;
}

int acme_account(struct acme *acme, bool renew, struct error *err)
{
	const json_t *meta = json_object_get(acme->directory, "meta");
	const char *url = acme_url(acme, acme->directory, "newAccount", err);
	struct acme_answer answer = { 0 };
	struct error ignored = { 0 };
	char *text;
	int r = 0;

	if (!url)
		return -EINVAL;
	if (acme->account && !renew)
		return 0;
	if (json_is_true(json_object_get(meta, "externalAccountRequired")) && !is_bound(acme))
		return error_set(err, -EINVAL,
		                 "the CA wants an external account: set acme-eab-kid and "
		                 "acme-eab-key");
	text = account_text(acme, url, err);
	r = text ? post(acme, false, "account", url, text, &answer, err) : -EINVAL;
	/* An external account may serve once, and may have: for the account whose key is ours. */
	if (r == -EACCES && is_bound(acme) && acme_find_account(acme, &answer, &ignored) == 0)
		r = 0;
	acme->made = answer.http.status == 201;
	if (r == 0)
		r = acme_check_url(acme, answer.location, "account", err);
	if (r == 0) {
		free(acme->account);
		acme->account = answer.location;
		answer.location = NULL;
		note_account(acme);
	}
	acme_answer_clear(&answer);
	free(text);
	return r;
}

static int change_account(struct acme *acme, json_t *change, struct error *err)
{
	char *text = change ? json_dumps(change, JSON_COMPACT) : NULL;
	struct acme_answer answer = { 0 };
	int r = text ? acme_post(acme, "change of the account", acme->account, text, &answer, err)
	             : error_set(err, -ENOMEM, "no memory");

	acme_answer_clear(&answer);
	free(text);
	json_decref(change);
	return r;
}

int acme_account_update(struct acme *acme, struct error *err)
{
	note_account(acme);
	if (acme->made) /* with them */
		return 0;
	return change_account(acme, json_pack("{s:o}", "contact", contacts(acme->job->settings)),
	                      err);
}

/* One that the CA has put an end to itself is no more either. */
int acme_account_delete(struct acme *acme, struct error *err)
{
	static const char *const gone[] = { "accountDoesNotExist", "unauthorized" };
	struct acme_answer answer = { 0 };
	int r;

	acme->ending = true;
	r = acme_post(acme, "end of the account", acme->account, "{\"status\":\"deactivated\"}",
	              &answer, err);
	for (size_t i = 0; r == -EACCES && i < COUNT(gone); i++)
		if (strcmp(answer.problem.type, gone[i]) == 0) {
			log_info("%s", err->text);
			r = 0;
		}
	acme_answer_clear(&answer);
	return r;
}

/* --- the directory --- */

int acme_begin(struct acme *acme, struct error *err)
{
	struct acme_answer answer = { 0 };
	int r = acme_get(acme, acme->url, &answer, err);

	if (r == 0) {
		acme->directory = json_incref(answer.json);
		if (!acme_url(acme, acme->directory, "newOrder", err))
			r = -EINVAL;
	}
	acme_answer_clear(&answer);
	return r < 0 ? r : acme_account(acme, false, err);
}

int acme_open(struct acme *acme, struct job *job, struct error *err)
{
	const struct field *public = record_find(job->settings, "account-public");
	const char *account = record_get(job->settings, "account-url");

	*acme = (struct acme){ .job = job, .url = record_get(job->settings, "enrollment-url") };
	if (!acme->url || strncasecmp(acme->url, "https://", 8) != 0)
		return error_set(err, -EINVAL, "ACME needs an enrollment-url with https");
	if (!public)
		return error_set(err, -EINVAL, "the job has no account key");
	acme->account = account ? strdup(account) : NULL;
	return jws_key_read(job->worker->signer, "account", public->value, public->length,
	                    &acme->key, err);
}

void acme_close(struct acme *acme)
{
	jws_key_clear(&acme->key);
	json_decref(acme->directory);
	free(acme->account);
	free(acme->nonce);
}
