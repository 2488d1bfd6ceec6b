/* Another key for the account (RFC 8555 §7.3.5). The store has it before the CA is told of it. */
#include "enroll/acme_client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * Whether the account is NEXT's already: the answer to an earlier job may have been lost. 0: it is
 * not, 1: it is.
 */
static int is_done(struct acme *acme, const struct jws_key *next, struct error *err)
{
	struct acme_answer answer = { 0 };
	struct jws_key current = acme->key;
	int r;

	acme->key = *next;
	r = acme_find_account(acme, &answer, err);
	acme->key = current;
	if (r == 0 && answer.location && strcmp(answer.location, acme->account) == 0)
		r = 1;
	else if (r == 0)
		r = error_set(err, -EACCES, "the new key is that of another account, %.200s",
		              answer.location ? answer.location : "without a URL");
	else if (r == -EACCES)
		r = 0;
	acme_answer_clear(&answer);
	return r;
}

static int change(struct acme *acme, const struct jws_key *next, struct error *err)
{
	const char *url = acme_url(acme, acme->directory, "keyChange", err);
	json_t *payload = json_pack("{s:s, s:o}", "account", acme->account, "oldKey",
	                            json_loads(acme->key.jwk, 0, NULL));
	char *text = payload ? json_dumps(payload, JSON_COMPACT) : NULL;
	char *inner = url && text ? jws_make(next, NULL, NULL, url, text, err) : NULL;
	struct acme_answer answer = { 0 };
	int r = inner ? acme_post(acme, "new account key", url, inner, &answer, err) : -EINVAL;

	acme_answer_clear(&answer);
	free(inner);
	free(text);
	json_decref(payload);
	return r;
}

int acme_account_roll(struct acme *acme, struct error *err)
{
	const struct field *public = record_find(acme->job->settings, "account-next-public");
	struct jws_key next;
	int r;

	if (!public)
		return error_set(err, -EINVAL, "the job has no new account key");
	r = jws_key_read(acme->job->worker->signer, "new", public->value, public->length, &next,
	                 err);
	if (r < 0)
		return r;
	acme->ending = true; /* no other account is made in its place */
	r = is_done(acme, &next, err);
	if (r == 0)
		r = change(acme, &next, err);
	jws_key_clear(&next);
	return r < 0 ? r : 0;
}
