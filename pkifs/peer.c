#include "pkifs/peer.h"

#include "common/x509.h"
#include "pkifs/object.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int peer_trust(struct store *store, const struct record *settings, const struct record *sas,
               struct trust *trust)
{
	const struct field *field;
	struct error err;
	int r = 0;

	for (size_t i = 0;
	     r == 0 && !*trust->cut && (field = record_next(sas, "peer", &i)) != NULL;) {
		STACK_OF(X509) *chain = sk_X509_new_null();
		X509 *certificate = certificate_from_der(field->value, field->length, &err);
		struct trust one = { 0 };

		r = chain && certificate && sk_X509_push(chain, certificate) ? 0 : -EBADMSG;
		if (r == 0)
			r = tunnel_trust_peer(store, settings, chain, &one);
		else
			X509_free(certificate);
		if (*one.cut)
			snprintf(trust->cut, sizeof trust->cut, "the peer: %.380s", one.cut);
		else if (*one.warning)
			memcpy(trust->warning, one.warning, sizeof trust->warning);
		sk_X509_pop_free(chain, X509_free);
	}
	return r;
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
