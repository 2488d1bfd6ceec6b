/* Problem documents (RFC 7807, RFC 8555 §6.7) in plain words. */
#include "enroll/acme_client.h"

#include <string.h>

#define URN "urn:ietf:params:acme:error:"

static const struct {
	const char *type, *words;
	bool passes; /* the same request may be taken later */
} kinds[] = {
	{ "accountDoesNotExist", "it does not know the account", false },
	{ "alreadyReplaced", "the certificate is being renewed by another order", false },
	{ "alreadyRevoked", "the certificate is revoked already", false },
	{ "badCSR", "it does not take the certificate request", false },
	{ "badNonce", "it takes no nonce, not even its own", true },
	{ "badPublicKey", "it does not take the key", false },
	{ "badRevocationReason", "it does not take the reason", false },
	{ "badSignatureAlgorithm", "it does not take the signature's algorithm", false },
	{ "caa", "the name's CAA records forbid it", false },
	{ "compound", "several things are wrong", false },
	{ "connection", "it could not connect", true },
	{ "dns", "a DNS query failed", true },
	{ "externalAccountRequired",
	  "it wants an external account: set acme-eab-kid and acme-eab-key", false },
	{ "incorrectResponse", "what it found was not the answer to its challenge", false },
	{ "invalidContact", "it does not take acme-contact", false },
	{ "invalidProfile", "it does not offer this acme-profile", false },
	{ "malformed", "it does not understand", false },
	{ "orderNotReady", "the order is not ready", true },
	{ "rateLimited", "too many requests", true },
	{ "rejectedIdentifier", "it issues nothing for this name", false },
	{ "serverInternal", "an error of its own", true },
	{ "tls", "TLS failed", true },
	{ "unauthorized", "it is not allowed", false },
	{ "unsupportedContact", "it does not take this kind of acme-contact", false },
	{ "unsupportedIdentifier", "it issues nothing for this kind of name", false },
	{ "userActionRequired", "somebody must look at", false },
};

static const char *words_of(const char *type)
{
	for (size_t i = 0; i < COUNT(kinds); i++)
		if (strcmp(kinds[i].type, type) == 0)
			return kinds[i].words;
	return *type ? type : "no reason";
}

bool acme_problem_passes(const struct acme_problem *problem)
{
	for (size_t i = 0; i < COUNT(kinds); i++)
		if (strcmp(kinds[i].type, problem->type) == 0)
			return kinds[i].passes;
	return false;
}

const char *acme_text(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

/* What stands behind the URN; empty where it is another one. */
static const char *type_of(const json_t *json)
{
	const char *type = acme_text(json, "type");

	return type && strncmp(type, URN, strlen(URN)) == 0 ? type + strlen(URN) : "";
}

/* Adds BEFORE and TEXT as far as there is room. */
static void add(struct acme_problem *problem, const char *before, const char *text)
{
	size_t used = strlen(problem->text);

	if (text && *text && used < sizeof problem->text - 1)
		snprintf(problem->text + used, sizeof problem->text - used, "%s%s", before, text);
}

void acme_problem_read(const json_t *json, struct acme_problem *problem)
{
	const json_t *more = json_object_get(json, "subproblems"), *one;
	const char *type = type_of(json);
	size_t i;

	snprintf(problem->type, sizeof problem->type, "%s", type);
	problem->text[0] = '\0';
	add(problem, "", words_of(type));
	if (strcmp(type, "userActionRequired") == 0)
		add(problem, " ", acme_text(json, "instance"));
	add(problem, ": ", acme_text(json, "detail"));
	json_array_foreach(more, i, one)
	{
		const char *name = acme_text(json_object_get(one, "identifier"), "value");

		add(problem, "; ", name ? name : "besides");
		add(problem, ": ", words_of(type_of(one)));
		add(problem, ": ", acme_text(one, "detail"));
	}
	text_printable(problem->text);
}
