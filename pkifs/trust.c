#include "pkifs/trust.h"

#include "common/x509.h"
#include "pkifs/believed.h"
#include "pkifs/crl.h"
#include "pkifs/identity.h"
#include "pkifs/object.h"
#include "pkifs/sources.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((format(printf, 2, 3))) static void cut(struct trust *trust, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(trust->cut, sizeof trust->cut, format, args);
	va_end(args);
	text_printable(trust->cut);
}

static bool is_over(struct store *store, int64_t not_after)
{
	return not_after < store_now(store) && store_clock_trusted(store);
}

/* --- paths --- */

/*
 * QUESTION by what SOURCES know and want: 0 and what came of it in TRUST, or a negative errno.
 * Otherwise as in watch.c: peers are judged as we are.
 */
static int judge(struct sources *sources, struct path_question *question,
                 struct path_answer *answer, struct trust *trust)
{
	const struct record *settings = sources->settings;
	struct error err = { 0 };
	int r;

	question->now = store_now(sources->store);
	question->clock_trusted = store_clock_trusted(sources->store);
	question->allow_legacy |= record_is(settings, "allow-legacy", "yes");
	question->tolerant = true;
	question->revocation.accept_unknown =
		record_is(settings, "crl-on-download-failure", "accept");
	r = sources_check(sources, question, answer, &err);
	if (r == -EINVAL)
		cut(trust, "%s", err.text);
	for (int i = 0; r == 0 && i + 1 < answer->count; i++)
		if (answer->steps[i].revocation.state == PATH_UNKNOWN)
			snprintf(trust->warning, sizeof trust->warning,
			         "crl-on-download-failure = accept: whether %s is revoked is not "
			         "known: %s",
			         answer->steps[i].name, answer->steps[i].revocation.how);
	return r == -EINVAL ? 0 : r;
}

/* Adds the CAs of PROFILE: the one in force and those before it; ABOVE: its issuers as well. */
static int add_cas(struct store *store, const struct object *profile, bool above,
                   STACK_OF(X509) * cas)
{
	struct edition edition = { 0 };
	int r = db_edition_get(store->db, profile->edition, &edition);

	if (r == 0 && edition.certificate.length) {
		r = blob_certificates(&edition.certificate, cas);
		if (r == 0)
			r = blob_certificates(&edition.former, cas);
		if (r == 0 && above)
			r = blob_certificates(&edition.chain, cas);
	}
	edition_clear(&edition);
	return r;
}

/* --- the CAs of peers --- */

static int profile_usable(struct store *store, const struct object *profile, struct trust *trust)
{
	STACK_OF(X509) *cas = sk_X509_new_null();
	int r = cas ? add_cas(store, profile, false, cas) : -ENOMEM;
	char when[RFC3339_MAX];

	*trust = (struct trust){ 0 };
	if (r == 0 && !sk_X509_num(cas)) {
		cut(trust, "profile %s has no CA certificate", profile->name);
	} else if (r == 0) {
		int64_t end = asn1_time_seconds(X509_get0_notAfter(sk_X509_value(cas, 0)));

		rfc3339(end, when);
		if (is_over(store, end))
			cut(trust, "the CA certificate of profile %s ended at %s", profile->name,
			    when);
	}
	sk_X509_pop_free(cas, X509_free);
	return r;
}

/*
 * The next profile that vouches for peers into PROFILE: those that are named, else the certificate
 * id's. *AT is 0 at first. -ENOENT: there is no other.
 */
static int next_profile(struct store *store, const struct record *settings, size_t *at,
                        struct object *profile)
{
	const char *name = record_get(settings, "certificate-id");
	bool first = !*at;
	const struct field *field = record_next(settings, "ca-profile", at);
	struct record *own = NULL;
	struct object object;
	int r;

	if (field)
		return db_object_find(store->db, KIND_CA, field->value, profile);
	if (!first || !name || record_find(settings, "ca-profile"))
		return -ENOENT;
	r = db_object_find(store->db, KIND_LOCAL, name, &object);
	if (r == 0)
		r = store_settings(store, &object, &own);
	if (r == 0)
		r = object_profile(store, own, profile);
	record_free(own);
	return r;
}

int tunnel_cas(struct store *store, const struct record *settings, bool above, STACK_OF(X509) * cas)
{
	struct object profile;
	size_t at = 0;
	int r;

	while ((r = next_profile(store, settings, &at, &profile)) == 0)
		if ((r = add_cas(store, &profile, above, cas)) < 0)
			return r;
	return r == -ENOENT ? 0 : r;
}

static int add_crl(struct store *store, const struct object *profile, int64_t *room,
                   struct record *record)
{
	struct edition edition = { 0 };
	struct crl crl = { 0 };
	char *bytes = NULL;
	int r = db_edition_get(store->db, profile->edition, &edition), fd = -1;

	if (r == 0 && edition.crl && db_crl_get(store->db, edition.crl, &crl) == 0 &&
	    crl.size <= TUNNEL_CRL_MAX && crl.size <= *room)
		fd = crl_open(store, crl.file, false);
	if (fd >= 0)
		bytes = malloc((size_t)crl.size + 1);
	if (bytes && pread(fd, bytes, (size_t)crl.size, 0) == crl.size) {
		record_add_bytes(record, "crl", bytes, (size_t)crl.size);
		*room -= crl.size;
	}
	if (fd >= 0)
		close(fd);
	free(bytes);
	edition_clear(&edition);
	return r;
}

int tunnel_crls(struct store *store, const struct record *settings, struct record *record)
{
	int64_t room = TUNNEL_CRLS_MAX;
	struct object profile;
	size_t at = 0;
	int r;

	while ((r = next_profile(store, settings, &at, &profile)) == 0)
		if ((r = add_crl(store, &profile, &room, record)) < 0)
			return r;
	return r == -ENOENT ? 0 : r;
}

/* An engine that does not know the peer's certificate does not know which CA vouched for it. */
static bool any_may_vouch(const struct record *settings)
{
	return !record_is(settings, "engine", "manual") &&
	       !record_is(settings, "engine", "external");
}

static int of_cas(struct store *store, const struct record *settings, struct trust *trust)
{
	struct object profile;
	size_t at = 0;
	int r;

	while ((r = next_profile(store, settings, &at, &profile)) == 0) {
		r = profile_usable(store, &profile, trust);
		if (r < 0 || (!*trust->cut) == any_may_vouch(settings))
			return r;
	}
	return r == -ENOENT ? 0 : r;
}

/* --- our own certificate --- */

/* What judging it needs. */
struct own {
	struct store *store;
	struct object object, profile;    /* profile.id 0: none */
	struct record *config, *settings; /* its own and its profile's, with defaults */
	struct version version;
	STACK_OF(X509) * chain, *anchors;
};

static void own_clear(struct own *own)
{
	record_free(own->config);
	record_free(own->settings);
	version_clear(&own->version);
	sk_X509_pop_free(own->chain, X509_free);
	sk_X509_pop_free(own->anchors, X509_free);
}

static int read_own(struct own *own, int64_t version)
{
	int r = db_version_get(own->store->db, version, &own->version);

	own->chain = sk_X509_new_null();
	own->anchors = sk_X509_new_null();
	if (r == 0 && (!own->chain || !own->anchors))
		r = -ENOMEM;
	if (r == 0)
		r = blob_certificates(&own->version.certificate, own->chain);
	if (r == 0)
		r = blob_certificates(&own->version.chain, own->chain);
	if (r == 0)
		r = store_settings(own->store, &own->object, &own->config);
	if (r == 0)
		r = version_profile(own->store, own->config, &own->version, &own->profile);
	if (r == 0 && own->profile.id)
		r = store_settings(own->store, &own->profile, &own->settings);
	if (r == 0 && own->profile.id)
		r = add_cas(own->store, &own->profile, true, own->anchors);
	return r;
}

static void set_revoked(const struct own *own, struct trust *trust)
{
	cut(trust, "the certificate of certificate id %s is revoked", own->object.name);
}

/* Its path to the CA of its profile, which may be another one by now, and its revocation. */
static int judge_own(struct own *own, struct trust *trust)
{
	struct sources sources = { own->store, own->profile.id, own->settings };
	const char *anchor = own->version.anchor;
	struct path_answer answer = { .failed = -1 };
	struct path_question question = {
		.leaf = sk_X509_value(own->chain, 0),
		.untrusted = own->chain,
		.anchors = own->anchors,
		.system_store = strcmp(anchor, "system") == 0,
		.allow_ca = true,
		.allow_legacy = record_is(own->config, "allow-legacy", "yes"),
	};
	int r;

	if (strcmp(anchor, "self") == 0 || strcmp(anchor, "none") == 0)
		return 0; /* nobody vouches for it, and nobody says that it is revoked */
	if (!own->profile.id || (!sk_X509_num(own->anchors) && !question.system_store)) {
		cut(trust, "no profile has the CA of certificate id %s any more", own->object.name);
		return 0;
	}
	r = judge(&sources, &question, &answer, trust);
	if (*trust->cut && answer.steps[0].revocation.state == PATH_REVOKED)
		set_revoked(own, trust);
	path_answer_clear(&answer);
	return r;
}

static int of_certificate(struct store *store, const char *name, struct trust *trust)
{
	struct own own = { .store = store };
	struct edition edition = { 0 };
	char when[RFC3339_MAX];
	int r = db_object_find(store->db, KIND_LOCAL, name, &own.object);

	if (r == 0)
		r = db_edition_get(store->db, own.object.edition, &edition);
	if (r == 0 && edition.version)
		r = read_own(&own, edition.version);
	if (r == 0 && !edition.version) {
		cut(trust, "certificate id %s has no certificate", name);
	} else if (r == 0 && strcmp(own.object.state, "revoked") == 0) {
		set_revoked(&own, trust);
	} else if (r == 0 && is_over(store, own.version.not_after)) {
		rfc3339(own.version.not_after, when);
		cut(trust, "the certificate of certificate id %s ended at %s", name, when);
	} else if (r == 0) {
		r = judge_own(&own, trust);
	}
	edition_clear(&edition);
	own_clear(&own);
	return r;
}

int tunnel_certificate(struct store *store, const struct record *settings, STACK_OF(X509) * all)
{
	const char *name = record_get(settings, "certificate-id");
	struct edition edition = { 0 };
	struct version version = { 0 };
	struct object object;
	int r = name && *name ? db_object_find(store->db, KIND_LOCAL, name, &object) : -ENOENT;

	if (r == 0)
		r = db_edition_get(store->db, object.edition, &edition);
	if (r == 0 && edition.version)
		r = db_version_get(store->db, edition.version, &version);
	if (r == 0 && version.certificate.length)
		r = blob_certificates(&version.certificate, all);
	edition_clear(&edition);
	version_clear(&version);
	return r == -ENOENT ? 0 : r;
}

int tunnel_check_local_id(struct store *store, const struct record *config, struct error *err)
{
	const char *id = record_get(config, "local-id");
	const char *name = record_get(config, "certificate-id");
	struct own own = { .store = store };
	struct edition edition = { 0 };
	struct error reason = { 0 };
	int r;

	if (!id || !*id || !name || !*name)
		return 0;
	r = db_object_find(store->db, KIND_LOCAL, name, &own.object);
	if (r == 0)
		r = db_edition_get(store->db, own.object.edition, &edition);
	if (r == 0 && edition.version)
		r = read_own(&own, edition.version);
	if (r == 0 && edition.version)
		r = identity_check_local(id, sk_X509_value(own.chain, 0), &reason);
	if (reason.code)
		error_set(err, r, "local-id: %s", reason.text);
	edition_clear(&edition);
	own_clear(&own);
	return r;
}

/* --- all of it --- */

int tunnel_trust(struct store *store, const struct record *settings, struct trust *trust)
{
	const char *name = record_get(settings, "certificate-id");
	struct trust cas = { 0 };
	struct error err = { 0 };
	int r = 0;

	*trust = (struct trust){ 0 };
	if (name && *name)
		r = of_certificate(store, name, trust);
	if (r == 0 && !*trust->cut)
		r = of_cas(store, settings, &cas);
	if (*cas.cut)
		*trust = cas;
	if (r == 0 && !*trust->cut && tunnel_check_local_id(store, settings, &err) == -EINVAL)
		cut(trust, "%s", err.text);
	return r;
}

/* --- a peer's certificate --- */

/*
 * Adds what may stand between a peer and the CA, and did not come with it: our own certificate has
 * the same issuers often.
 */
static int add_own_chain(struct store *store, const struct record *settings, STACK_OF(X509) * to)
{
	const char *name = record_get(settings, "certificate-id");
	struct edition edition = { 0 };
	struct version version = { 0 };
	struct object object;
	int r;

	if (!name || !*name)
		return 0;
	r = db_object_find(store->db, KIND_LOCAL, name, &object);
	if (r == 0)
		r = db_edition_get(store->db, object.edition, &edition);
	if (r == 0 && edition.version)
		r = db_version_get(store->db, edition.version, &version);
	if (r == 0)
		r = blob_certificates(&version.chain, to);
	edition_clear(&edition);
	version_clear(&version);
	return r;
}

/* The same of CAs that have a profile and PROFILE as their issuer. */
static int add_cas_below(struct store *store, const struct object *profile, STACK_OF(X509) * to)
{
	struct object by = { 0 };
	int r = 0;

	while (r == 0 && (r = db_reference_next(store->db, profile->id, by.id, &by)) == 0)
		if (by.kind == KIND_CA)
			r = add_cas(store, &by, false, to);
	return r == -ENOENT ? 0 : r;
}

/* By PROFILE; CHAIN gets more issuers. */
static int of_peer_by(struct store *store, const struct object *profile, STACK_OF(X509) * chain,
                      bool *sound, struct trust *trust)
{
	struct sources sources = { .store = store, .profile = profile->id };
	struct path_answer answer = { .failed = -1 };
	struct path_question question = { .leaf = sk_X509_value(chain, 0),
		                          .untrusted = chain,
		                          .anchors = sk_X509_new_null(),
		                          .purpose = PATH_TUNNEL };
	struct record *settings = NULL;
	int r = question.anchors ? store_settings(store, profile, &settings) : -ENOMEM;

	sources.settings = settings;
	if (r == 0)
		r = add_cas(store, profile, false, question.anchors);
	if (r == 0)
		r = add_cas_below(store, profile, chain);
	if (r == 0 && !sk_X509_num(question.anchors))
		cut(trust, "profile %s has no CA certificate", profile->name);
	else if (r == 0)
		r = judge(&sources, &question, &answer, trust);
	*sound = answer.sound;
	if (r == 0 && answer.sound)
		r = sources_want(&sources, 0, &answer);
	if (r == 0 && !*trust->cut && !*trust->warning && store_clock_trusted(store))
		believed_note(profile->id, &answer, store_now(store));
	path_answer_clear(&answer);
	record_free(settings);
	sk_X509_pop_free(question.anchors, X509_free);
	return r;
}

/* It has the name that the config wants. */
static void check_remote_id(const struct record *settings, X509 *peer, struct trust *trust)
{
	const char *wanted = record_get(settings, "remote-id");
	struct record *names = record_new();
	struct path_name name;
	const char *first;

	if (wanted && (identity_read(wanted, &name, NULL) < 0 || !identity_fits(&name, peer))) {
		first = names ? identity_default(peer, names) : NULL;
		cut(trust, "the peer is %.100s, and not what remote-id = %.100s stands for",
		    first ? first : "nobody", wanted);
	}
	record_free(names);
}

static int of_peer(struct store *store, const struct record *settings, STACK_OF(X509) * chain,
                   struct trust *trust)
{
	X509 *leaf = sk_X509_value(chain, 0);
	struct object profile;
	bool sound = false, found = false;
	size_t at = 0;
	int r;

	*trust = (struct trust){ 0 };
	cut(trust, "no profile vouches for the peer: ca-profile names none");
	while (!found && (r = next_profile(store, settings, &at, &profile)) == 0) {
		struct trust one = { 0 };
		bool one_sound = believed_still(profile.id, leaf, store_now(store));

		if (!one_sound)
			r = of_peer_by(store, &profile, chain, &one_sound, &one);
		if (r < 0)
			return r;
		found = !*one.cut;
		if (found || !sound) /* what is said of its revocation says more */
			*trust = one;
		sound = sound || one_sound;
	}
	if (found)
		check_remote_id(settings, leaf, trust);
	return found || r == -ENOENT ? 0 : r;
}

int tunnel_trust_peer(struct store *store, const struct record *settings, STACK_OF(X509) * chain,
                      struct trust *trust)
{
	STACK_OF(X509) *all = sk_X509_num(chain) < 1 ? NULL : X509_chain_up_ref(chain);
	int r = all ? add_own_chain(store, settings, all) : -EINVAL;

	if (r == 0)
		r = of_peer(store, settings, all, trust);
	sk_X509_pop_free(all, X509_free);
	return r;
}
