#include "pkifs/prover.h"

#include "pkifs/work.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

bool prover_can_sign(struct store *store, const struct object *object,
                     const struct edition *edition)
{
	struct version version;
	bool can;

	if (!edition->version || strcmp(object->state, "revoked") == 0 ||
	    db_version_get(store->db, edition->version, &version) < 0)
		return false;
	can = version.key_pair && !key_is(store, version.key_pair, "ed25519") &&
	      (version.not_after > store_now(store) || !store_clock_trusted(store));
	version_clear(&version);
	return can;
}

bool prover_has_secret(const struct record *config)
{
	return record_get(config, "ca-reference") && record_get(config, "ca-secret");
}

/* How OBJECT, which names PROFILE somewhere, is known to its CA: 2 by signature, 1 by secret. */
static int strength(struct store *store, const struct object *object, const struct object *profile)
{
	struct edition edition = { 0 };
	struct record *config = NULL;
	struct object asked;
	const char *protocol;
	int found = 0;

	if (object->kind != KIND_LOCAL || store_settings(store, object, &config) < 0)
		return 0;
	protocol = record_get(config, "protocol");
	if (object_profile(store, config, &asked) == 0 && asked.id == profile->id &&
	    (!protocol || strcasecmp(protocol, "cmpv2") == 0) &&
	    db_edition_get(store->db, object->edition, &edition) == 0)
		found = prover_can_sign(store, object, &edition) ? 2 : prover_has_secret(config);
	edition_clear(&edition);
	record_free(config);
	return found;
}

int prover_find(struct store *store, const struct object *profile, struct object *prover)
{
	struct object object = { 0 };
	int best = 0, r;

	while (best < 2 &&
	       (r = db_reference_next(store->db, profile->id, object.id, &object)) == 0) {
		int found = strength(store, &object, profile);

		if (found > best) {
			best = found;
			*prover = object;
		}
	}
	return best ? 0 : -ENOENT;
}
