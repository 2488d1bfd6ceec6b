#include "pkifs/verdict.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *tunnel_stands_on(const struct record *settings)
{
	static const char *const keys[] = { "certificate-id", "ca-profile", "local-id", "engine" };
	const struct field *field;
	size_t size = 0;
	char *text = NULL;
	FILE *file = open_memstream(&text, &size);

	if (!file)
		return NULL;
	for (size_t k = 0; k < COUNT(keys); k++)
		for (size_t i = 0; (field = record_next(settings, keys[k], &i)) != NULL;)
			fprintf(file, "%s = %s\n", keys[k], field->value);
	if (fclose(file) == 0)
		return text;
	free(text);
	return NULL;
}

void verdicts_free(struct verdict *verdicts)
{
	while (verdicts) {
		struct verdict *next = verdicts->next;

		record_free(verdicts->ended);
		record_free(verdicts->crls);
		free(verdicts->stands_on);
		free(verdicts);
		verdicts = next;
	}
}

/* The first bytes of a digest of each: an engine that is given them is to be told of others. */
static int sum_up(struct store *store, const struct record *settings, uint64_t *sum)
{
	STACK_OF(X509) *all = sk_X509_new_null();
	unsigned char digest[EVP_MAX_MD_SIZE];
	uint64_t part;
	int r = all ? tunnel_cas(store, settings, true, all) : -ENOMEM;

	if (r == 0)
		r = tunnel_certificate(store, settings, all);
	for (int i = 0; r == 0 && i < sk_X509_num(all); i++) {
		if (X509_digest(sk_X509_value(all, i), EVP_sha256(), digest, NULL) != 1)
			r = -ENOMEM;
		memcpy(&part, digest, sizeof part);
		*sum = (*sum << 1 | *sum >> 63) ^ part;
	}
	sk_X509_pop_free(all, X509_free);
	return r;
}

static int read_crls(struct store *store, const struct record *settings, struct verdict *verdict)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	const struct field *crl;
	uint64_t part;
	int r;

	verdict->crls = record_new();
	if (!verdict->crls)
		return -ENOMEM;
	record_add(verdict->crls, "frame", "crls");
	r = tunnel_crls(store, settings, verdict->crls);
	for (size_t i = 0; r == 0 && (crl = record_next(verdict->crls, "crl", &i)) != NULL;) {
		if (EVP_Digest(crl->value, crl->length, digest, NULL, EVP_sha256(), NULL) != 1)
			r = -ENOMEM;
		memcpy(&part, digest, sizeof part);
		verdict->crls_sum ^= part;
	}
	return r;
}

int tunnel_verdict(struct store *store, const char *stands_on, struct verdict **verdicts,
                   struct verdict **found)
{
	struct record *settings = NULL;
	struct verdict *new;
	int r;

	for (*found = *verdicts; *found; *found = (*found)->next)
		if (strcmp((*found)->stands_on, stands_on) == 0)
			return 0;
	new = calloc(1, sizeof *new);
	if (new)
		new->stands_on = strdup(stands_on);
	r = new &&new->stands_on ? record_parse(stands_on, strlen(stands_on), NULL, &settings, NULL)
	                         : -ENOMEM;
	if (r == 0)
		r = tunnel_trust(store, settings, &new->trust);
	if (r == 0 && record_is(settings, "engine", "charon"))
		r = sum_up(store, settings, &new->made_of);
	if (r == 0 && record_is(settings, "engine", "charon"))
		r = read_crls(store, settings, new);
	record_free(settings);
	if (r < 0) {
		verdicts_free(new);
		return r;
	}
	new->next = *verdicts;
	*verdicts = *found = new;
	return 0;
}
