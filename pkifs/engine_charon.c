/* engine = charon: what the store knows of it; the IPsec process drives it (netlink/charon.h). */
#include "common/hex.h"
#include "common/x509.h"
#include "pkifs/engine_part.h"
#include "pkifs/identity.h"
#include "pkifs/object.h"
#include "pkifs/peer.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- requests --- */

int charon_check(const struct asked *asked, struct error *err)
{
	const char *name = record_get(asked->settings, "certificate-id");
	struct trust trust;
	int r;

	if (strcmp(asked->action, "load-sa") == 0)
		return error_set(
			err, -EINVAL,
			"engine = charon makes its own SAs: load-sa is for engine = manual");
	if (strcmp(asked->action, "down") == 0)
		return 0;
	if (!name || !*name)
		return error_set(err, -EINVAL, "engine = charon needs a certificate-id");
	r = tunnel_trust(asked->store, asked->settings, &trust);
	if (r == 0 && *trust.cut)
		return error_set(err, -EINVAL, "the tunnel is cut: %s", trust.cut);
	if (r == 0 && strcmp(asked->action, "rekey") == 0 && !record_find(asked->sas, "sa"))
		return error_set(err, -EINVAL,
		                 "the tunnel is not up: there are no keys to replace");
	return r;
}

void charon_take(struct store *store, const char *action, const struct record *fields,
                 struct record *sas)
{
	(void)store;
	(void)fields;
	if (strcmp(action, "rekey") != 0)
		record_set(sas, "wanted", strcmp(action, "up") == 0 ? "yes" : "no");
}

/* What could not be brought up is not tried for ever, unless `start` says so. */
void charon_undo(const char *action, struct record *sas)
{
	if (strcmp(action, "up") == 0)
		record_remove(sas, "wanted");
}

/* --- the frame --- */

/* With those above them: charon believes no CA that leads to no root. */
static int add_cas(struct store *store, const struct record *settings, struct record *frame)
{
	STACK_OF(X509) *cas = sk_X509_new_null();
	int r = cas ? tunnel_cas(store, settings, true, cas) : -ENOMEM;

	for (int i = 0; r == 0 && i < sk_X509_num(cas); i++)
		certificate_add(frame, "ca", sk_X509_value(cas, i));
	sk_X509_pop_free(cas, X509_free);
	return r;
}

/* A name that is not given is the certificate's first, and where it has none, charon's choice, the
 * subject. */
static void add_own_id(X509 *certificate, const struct record *settings, struct record *frame)
{
	const char *given = record_get(settings, "local-id");
	struct record *names = record_new();
	const char *first = names ? identity_default(certificate, names) : NULL;

	if (given && *given)
		record_add(frame, "local-id", given);
	else if (first && !record_is(names, "subject", first))
		record_add(frame, "local-id", first);
	record_free(names);
}

/* What pkifs signs with for who asks over PKCS#11 (offer.h), by the name that it has there. */
static void add_handle(X509 *certificate, struct record *frame)
{
	const EVP_PKEY *key = X509_get0_pubkey(certificate);
	unsigned char *der = NULL, id[KEY_ID_SIZE];
	char text[2 * KEY_ID_SIZE + 1];
	size_t length = 0;

	if (!key || (!EVP_PKEY_is_a(key, "RSA") && !EVP_PKEY_is_a(key, "EC")) ||
	    public_key_to_der(key, &der, &length) < 0)
		return;
	if (public_key_id(der, length, id) == 0) {
		hex_write(text, id, sizeof id);
		record_add(frame, "key-handle", text);
	}
	OPENSSL_free(der);
}

static int add_certificate(struct store *store, const struct record *settings, struct record *frame)
{
	STACK_OF(X509) *certificates = sk_X509_new_null();
	struct edition edition = { 0 };
	struct version version = { 0 };
	struct object object;
	int r = certificates ? db_object_find(store->db, KIND_LOCAL,
	                                      record_get(settings, "certificate-id"), &object)
	                     : -ENOMEM;

	if (r == 0)
		r = db_edition_get(store->db, object.edition, &edition);
	if (r == 0 && edition.version)
		r = db_version_get(store->db, edition.version, &version);
	if (r == 0 && version.certificate.length)
		r = blob_certificates(&version.certificate, certificates);
	if (r == 0 && sk_X509_num(certificates)) {
		X509 *certificate = sk_X509_value(certificates, 0);

		record_add_number(frame, "version", version.number);
		certificate_add(frame, "certificate", certificate);
		add_own_id(certificate, settings, frame);
		add_handle(certificate, frame);
	}
	sk_X509_pop_free(certificates, X509_free);
	edition_clear(&edition);
	version_clear(&version);
	return r;
}

/* The request that is under way. */
static int add_request(struct store *store, const struct object *object, struct record *frame)
{
	struct request request;
	int r = db_request_get(store->db, object->id, &request);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (request.state == REQUEST_RUNNING) {
		record_add_number(frame, "request", request.id);
		record_add(frame, "action", request.action);
	}
	request_clear(&request);
	return 0;
}

static const char *wanted(const struct record *settings, const struct record *sas)
{
	const char *told = record_get(sas, "wanted"), *start = record_get(settings, "start");

	if (told)
		return told;
	return strcmp(start, "start") == 0  ? "yes"
	       : strcmp(start, "trap") == 0 ? "trap"
	                                    : "passive";
}

int charon_frame(struct store *store, const struct object *object, const struct record *settings,
                 const struct record *sas, struct record *frame)
{
	static const char *const keys[] = { "remote-id",    "ike-proposal", "esp-proposal",
		                            "ike-lifetime", "esp-lifetime", "dpd-interval",
		                            "key-at" };
	const char *name = record_get(settings, "certificate-id");
	const struct field *field;
	int r = 0;

	for (size_t k = 0; k < COUNT(keys); k++)
		for (size_t i = 0; (field = record_next(settings, keys[k], &i)) != NULL;)
			record_add(frame, keys[k], field->value);
	for (size_t i = 0; (field = record_next(sas, "sa", &i)) != NULL;)
		record_add(frame, "sa", field->value);
	record_add(frame, "wanted", wanted(settings, sas));
	if (name && *name)
		r = add_certificate(store, settings, frame);
	if (r == 0)
		r = add_cas(store, settings, frame);
	return r < 0 ? r : add_request(store, object, frame);
}

/* --- what it made --- */

static void copy(const struct record *from, const char *key, struct record *to)
{
	const struct field *field;

	for (size_t i = 0; (field = record_next(from, key, &i)) != NULL;)
		record_add_bytes(to, key, field->value, field->length);
}

static bool is_same(const struct record *one, const struct record *other, const char *key)
{
	const struct field *a, *b;
	size_t i = 0, j = 0;

	do {
		a = record_next(one, key, &i);
		b = record_next(other, key, &j);
		if (!a != !b ||
		    (a && (a->length != b->length || memcmp(a->value, b->value, a->length) != 0)))
			return false;
	} while (a);
	return true;
}

/* True: what REPORT has of KEY is new. */
static bool take(const struct record *report, const char *key, struct record *sas)
{
	if (is_same(report, sas, key))
		return false;
	record_remove(sas, key);
	copy(report, key, sas);
	return true;
}

int charon_report(const struct record *report, struct record *sas)
{
	static const char *const of_peer[] = { "ike", "esp", "peer-id", "peer" };
	bool changed = take(report, "sa", sas), peer = record_find(report, "peer-id");

	if (record_find(report, "key-at")) /* else it is not loaded yet */
		changed |= take(report, "key-at", sas);
	for (size_t k = 0; peer && k < COUNT(of_peer); k++) /* who it is was asked */
		changed |= take(report, of_peer[k], sas);
	return changed;
}

void charon_status(const struct record *settings, const struct record *sas, struct record *status,
                   char in[16], char out[16])
{
	const char *pair = record_get(sas, "sa"), *name = record_get(settings, "certificate-id");
	unsigned spi_in, spi_out;
	long long version;

	if (name && *name && record_get(sas, "key-at"))
		record_add(status, "key-at", record_get(sas, "key-at"));
	if (pair && sscanf(pair, "%u %u %lld", &spi_in, &spi_out, &version) == 3) {
		snprintf(in, 16, "%u", spi_in);
		snprintf(out, 16, "%u", spi_out);
		record_addf(status, "spi-in", "0x%08x", spi_in);
		record_addf(status, "spi-out", "0x%08x", spi_out);
		if (version)
			record_add_number(status, "version", version);
		if (record_get(sas, "ike"))
			record_add(status, "ike", record_get(sas, "ike"));
		if (record_get(sas, "esp"))
			record_add(status, "esp", record_get(sas, "esp"));
	}
	peer_status(sas, status);
}
