/* Whether what a tunnel stands on is believed: its certificate, and the CAs of its peers. */
#include "common/x509.h"
#include "pkifs/engine.h"
#include "pkifs/object.h"

#include <errno.h>
#include <stdio.h>
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
