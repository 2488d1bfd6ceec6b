/* Whether what a tunnel stands on is believed: its certificate, and the CAs of its peers. */
#include "common/x509.h"
#include "pkifs/engine.h"
#include "pkifs/object.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int of_certificate(struct store *store, const char *name, char *why, size_t size)
{
	struct version version = { 0 };
	struct edition edition = { 0 };
	char when[RFC3339_MAX];
	struct object object;
	int r = db_object_find(store->db, KIND_LOCAL, name, &object);

	if (r == 0)
		r = db_edition_get(store->db, object.edition, &edition);
	if (r == 0 && edition.version)
		r = db_version_get(store->db, edition.version, &version);
	if (r == 0 && !edition.version) {
		snprintf(why, size, "certificate id %s has no certificate", name);
	} else if (r == 0 && strcmp(object.state, "revoked") == 0) {
		snprintf(why, size, "the certificate of certificate id %s is revoked", name);
	} else if (r == 0 && version.not_after < store_now(store) && store_clock_trusted(store)) {
		rfc3339(version.not_after, when);
		snprintf(why, size, "the certificate of certificate id %s ended at %s", name, when);
	}
	edition_clear(&edition);
	version_clear(&version);
	return r;
}

static int of_profile(struct store *store, const struct object *profile, char *why, size_t size)
{
	struct edition edition = { 0 };
	int r = db_edition_get(store->db, profile->edition, &edition);

	if (r == 0 && !edition.certificate.length)
		snprintf(why, size, "profile %s has no CA certificate", profile->name);
	edition_clear(&edition);
	return r;
}

/* The profile of the certificate id NAME vouches for the peers. */
static int of_own_profile(struct store *store, const char *name, char *why, size_t size)
{
	struct record *settings = NULL;
	struct object object, profile;
	int r = db_object_find(store->db, KIND_LOCAL, name, &object);

	if (r == 0)
		r = store_settings(store, &object, &settings);
	if (r == 0 && object_profile(store, settings, &profile) == 0)
		r = of_profile(store, &profile, why, size);
	record_free(settings);
	return r;
}

int tunnel_trust(struct store *store, const struct record *settings, char *why, size_t size)
{
	const char *name = record_get(settings, "certificate-id");
	const struct field *field;
	struct object profile;
	int r = 0;

	*why = 0;
	if (name && *name)
		r = of_certificate(store, name, why, size);
	if (r == 0 && !*why && name && *name && !record_find(settings, "ca-profile"))
		r = of_own_profile(store, name, why, size);
	for (size_t i = 0;
	     r == 0 && !*why && (field = record_next(settings, "ca-profile", &i)) != NULL;) {
		r = db_object_find(store->db, KIND_CA, field->value, &profile);
		if (r == 0)
			r = of_profile(store, &profile, why, size);
	}
	return r;
}

/* --- many tunnels on the same --- */

char *tunnel_stands_on(const struct record *settings)
{
	static const char *const keys[] = { "certificate-id", "ca-profile" };
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
		free(verdicts->stands_on);
		free(verdicts);
		verdicts = next;
	}
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
		r = tunnel_trust(store, settings, new->why, sizeof new->why);
	record_free(settings);
	if (r < 0) {
		verdicts_free(new);
		return r;
	}
	new->next = *verdicts;
	*verdicts = *found = new;
	return 0;
}
