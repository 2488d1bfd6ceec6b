#include "pkifs/peer.h"

#include "common/x509.h"
#include "pkifs/object.h"
#include "pkifs/sources.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The profile of the certificate id NAME. */
static int own_profile(struct store *store, const char *name, struct object *profile)
{
	struct record *settings = NULL;
	struct object object;
	int r = db_object_find(store->db, KIND_LOCAL, name, &object);

	if (r == 0)
		r = store_settings(store, &object, &settings);
	if (r == 0)
		r = object_profile(store, settings, profile);
	record_free(settings);
	return r;
}

int peer_profiles(struct store *store, const struct record *settings,
                  int (*each)(struct store *store, const struct object *profile, void *user),
                  void *user)
{
	const char *name = record_get(settings, "certificate-id");
	const struct field *field;
	struct object profile;
	int r = 0;

	if (!record_find(settings, "ca-profile") && name && *name) {
		r = own_profile(store, name, &profile);
		return r == -ENOENT ? 0 : r < 0 ? r : each(store, &profile, user);
	}
	for (size_t i = 0; r == 0 && (field = record_next(settings, "ca-profile", &i)) != NULL;) {
		r = db_object_find(store->db, KIND_CA, field->value, &profile);
		if (r == 0)
			r = each(store, &profile, user);
	}
	return r;
}

/* --- whether it is believed --- */

struct judged {
	X509 *certificate;
	bool want;
	struct error err;
};

/* The CA of PROFILE and those before it; what may stand below them into UNTRUSTED. */
static int read_cas(struct store *store, const struct object *profile, STACK_OF(X509) * anchors,
                    STACK_OF(X509) * untrusted)
{
	struct edition edition = { 0 };
	int r = db_edition_get(store->db, profile->edition, &edition);

	if (r == 0 && edition.certificate.length)
		r = blob_certificates(&edition.certificate, anchors);
	if (r == 0 && edition.former.length)
		r = blob_certificates(&edition.former, anchors);
	if (r == 0 && edition.chain.length)
		r = blob_certificates(&edition.chain, untrusted);
	edition_clear(&edition);
	return r;
}

static int check(struct store *store, const struct object *profile,
                 const struct path_question *question, struct judged *judged)
{
	struct sources sources = { .store = store, .profile = profile->id };
	struct path_answer answer = { .failed = -1 };
	struct path_question asked = *question;
	struct record *settings = NULL;
	int r = store_settings(store, profile, &settings);

	if (r == 0) {
		asked.allow_legacy = record_is(settings, "allow-legacy", "yes");
		asked.revocation.accept_unknown =
			record_is(settings, "crl-on-download-failure", "accept");
		sources.settings = settings;
		judged->err = (struct error){ 0 };
		r = sources_check(&sources, &asked, &answer, &judged->err);
		if (judged->want && answer.sound && r != -ENOMEM &&
		    sources_want(&sources, 0, &answer) < 0)
			r = -EIO;
	}
	path_answer_clear(&answer);
	record_free(settings);
	return r;
}

/* 1: PROFILE vouches for the certificate. */
static int judge(struct store *store, const struct object *profile, void *user)
{
	struct judged *judged = user;
	STACK_OF(X509) *anchors = sk_X509_new_null(), *untrusted = sk_X509_new_null();
	const struct path_question question = {
		.leaf = judged->certificate,
		.untrusted = untrusted,
		.anchors = anchors,
		.now = store_now(store),
		.clock_trusted = store_clock_trusted(store),
		.purpose = PATH_OWN, /* server, client or IKE */
		.tolerant = true,
	};
	int r = anchors && untrusted ? read_cas(store, profile, anchors, untrusted) : -ENOMEM;

	if (r == 0)
		r = check(store, profile, &question, judged);
	sk_X509_pop_free(anchors, X509_free);
	sk_X509_pop_free(untrusted, X509_free);
	return r == 0 ? 1 : r == -EINVAL ? 0 : r;
}

int peer_trust(struct store *store, const struct record *settings, const struct record *sas,
               bool want, char *why, size_t size)
{
	struct judged judged = { .want = want };
	const struct field *field;
	int r = 1;

	*why = 0;
	for (size_t i = 0; r == 1 && (field = record_next(sas, "peer", &i)) != NULL;) {
		judged.certificate = certificate_from_der(field->value, field->length, &judged.err);
		r = judged.certificate ? peer_profiles(store, settings, judge, &judged) : 0;
		X509_free(judged.certificate);
	}
	if (r == 0)
		snprintf(why, size, "the peer's certificate: %.200s",
		         judged.err.code ? judged.err.text : "no profile vouches for it");
	return r < 0 ? r : 0;
}

/* --- what is shown --- */

/* The only certificate that it may be, or NULL. */
static X509 *the_one(const struct record *sas)
{
	const struct field *field, *other;
	struct error err;
	size_t i = 0;

	field = record_next(sas, "peer", &i);
	other = record_next(sas, "peer", &i);
	return field && !other ? certificate_from_der(field->value, field->length, &err) : NULL;
}

int peer_publish(struct store *store, const struct object *object, const struct record *sas)
{
	struct edition edition = { 0 }, old = { 0 };
	STACK_OF(X509) *stack = sk_X509_new_null();
	X509 *certificate = the_one(sas);
	int r = stack ? db_edition_get(store->db, object->edition, &old) : -ENOMEM;

	if (r == 0 && certificate && !sk_X509_push(stack, certificate))
		r = -ENOMEM;
	if (r == 0)
		r = certificates_blob(stack, &edition.certificate);
	if (r == 0 &&
	    (old.certificate.length != edition.certificate.length ||
	     (old.certificate.length &&
	      memcmp(old.certificate.data, edition.certificate.data, old.certificate.length) != 0)))
		r = edition_publish(store, object, &edition);
	sk_X509_free(stack);
	X509_free(certificate);
	edition_clear(&old);
	edition_clear(&edition);
	return r;
}

static void add_fingerprint(const struct field *field, struct record *status)
{
	char text[FINGERPRINT_MAX];

	if (fingerprint(EVP_sha256(), field->value, field->length, text) == 0)
		record_add(status, "peer-fingerprint-sha256", text);
}

void peer_status(const struct record *sas, struct record *status)
{
	const char *id = record_get(sas, "peer-id");
	X509 *certificate = the_one(sas);
	const struct field *field;

	if (!id)
		return;
	record_add(status, "peer-id", id);
	if (!record_find(sas, "peer"))
		record_add(status, "peer-certificate",
		           "not known: whether it is revoked is not looked at");
	else if (!certificate)
		record_add(status, "peer-certificate", "one of several that carry this name");
	for (size_t i = 0; (field = record_next(sas, "peer", &i)) != NULL;)
		add_fingerprint(field, status);
	X509_free(certificate);
}
