/*
 * Who names where CRLs are: a profile's config, and the distribution points of certificates that
 * were validated. Each is a row that crlfetch.c asks.
 */
#include "common/ldapurl.h"
#include "common/x509.h"
#include "pkifs/crl.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define DAY      86400
#define URLS_MAX 64 /* of a profile */

static bool is_fetched(const char *url)
{
	static const char *const schemes[] = { "http://", "https://", "ldap://", "ldaps://" };

	for (size_t i = 0; i < COUNT(schemes); i++)
		if (strncasecmp(url, schemes[i], strlen(schemes[i])) == 0)
			return true;
	return false;
}

static bool is_printable(const char *text)
{
	for (; *text; text++)
		if (*text <= ' ' || *text > '~')
			return false;
	return true;
}

/* Makes room for one more: the one goes that was named longest ago. */
static int make_room(struct store *store, int64_t profile)
{
	struct crl_url url = { 0 };
	int64_t count, oldest = 0, used = INT64_MAX, after = 0;
	int r = db_crl_url_count(store->db, profile, &count);

	if (r < 0 || count < URLS_MAX)
		return r;
	while (db_crl_url_next(store->db, profile, after, &url) == 0) {
		after = url.id;
		if (*url.url && url.used < used) {
			oldest = url.id;
			used = url.used;
		}
		crl_url_clear(&url);
	}
	return db_crl_url_remove(store->db, profile, oldest);
}

int crl_url_named(struct store *store, int64_t profile, const char *name, bool own, X509 *signer)
{
	struct crl_url url = { .object = profile, .kind = own ? CRL_OWN : 0 }, known;
	unsigned char *der = NULL;
	int r = db_crl_url_find(store->db, profile, name, &known);

	url.used = url.next = store_now(store);
	if (r == 0) {
		bool fresh = *name && url.used - known.used < DAY && url.used >= known.used;

		url.next = known.next;
		crl_url_clear(&known);
		if (fresh)
			return 0;
	} else if (r == -ENOENT) {
		r = make_room(store, profile);
	}
	snprintf(url.url, sizeof url.url, "%s", name);
	if (r == 0 && signer)
		r = certificate_to_der(signer, &der, &url.signer.length);
	url.signer.data = (char *)der;
	if (r == 0)
		r = db_crl_url_add(store->db, &url);
	OPENSSL_free(der);
	store->due = true;
	return r;
}

/*
 * A distribution point that is a DN is an entry of each LDAP server that the config names without
 * one (RFC 5280 §4.2.1.13).
 */
static int learn_entry(struct store *store, int64_t profile, const X509_NAME *entry, bool own,
                       X509 *issuer)
{
	struct record *settings = NULL;
	const struct field *server;
	struct object object;
	size_t index = 0;
	int r = db_object_get(store->db, profile, &object);

	if (r == 0)
		r = store_settings(store, &object, &settings);
	while (r == 0 && (server = record_next(settings, "crl-url", &index))) {
		char *text =
			ldap_server_is(server->value) ? ldap_url_of(server->value, entry) : NULL;

		if (text && strlen(text) < sizeof((struct crl_url){ 0 }).url)
			r = crl_url_named(store, profile, text, own, issuer);
		free(text);
	}
	record_free(settings);
	return r;
}

void crl_add_user(const struct record *settings, const char *url, struct record *record)
{
	const struct field *server;
	size_t index = 0;

	for (size_t n = 0; (server = record_next(settings, "crl-url", &index)); n++) {
		const char *user = record_beside(settings, "crl-url-user", n);
		const char *password = record_beside(settings, "crl-url-password", n);

		if (!ldap_server_is(server->value) || !ldap_server_same(server->value, url))
			continue;
		if (user)
			record_add(record, "crl-url-user", user);
		if (user && password)
			record_add(record, "crl-url-password", password);
		return;
	}
}

/* The names of a distribution point that can be fetched. */
static int learn_point(struct store *store, int64_t profile, const DIST_POINT *point, bool own,
                       X509 *issuer)
{
	const GENERAL_NAMES *names = point->distpoint && point->distpoint->type == 0
	                                     ? point->distpoint->name.fullname
	                                     : NULL;
	int r = 0;

	for (int i = 0; r == 0 && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
		const ASN1_IA5STRING *uri =
			name->type == GEN_URI ? name->d.uniformResourceIdentifier : NULL;
		char text[sizeof((struct crl_url){ 0 }).url];

		if (name->type == GEN_DIRNAME)
			r = learn_entry(store, profile, name->d.directoryName, own, issuer);
		if (!uri || uri->length >= (int)sizeof text ||
		    strnlen((char *)uri->data, (size_t)uri->length) != (size_t)uri->length)
			continue;
		memcpy(text, uri->data, (size_t)uri->length);
		text[uri->length] = '\0';
		if (is_printable(text) && is_fetched(text))
			r = crl_url_named(store, profile, text, own, issuer);
	}
	return r;
}

int crl_learn_points(struct store *store, int64_t profile, CRL_DIST_POINTS *points, bool own,
                     X509 *issuer)
{
	int r = 0;

	for (int i = 0; r == 0 && i < sk_DIST_POINT_num(points); i++)
		r = learn_point(store, profile, sk_DIST_POINT_value(points, i), own, issuer);
	CRL_DIST_POINTS_free(points);
	return r;
}

/* Whether CERTIFICATE is the CA of PROFILE. */
static bool is_ca_of(struct store *store, int64_t profile, X509 *certificate)
{
	STACK_OF(X509) *signers = NULL;
	struct edition edition = { 0 };
	struct object object;
	bool same = false;

	if (db_object_get(store->db, profile, &object) == 0 &&
	    db_edition_get(store->db, object.edition, &edition) == 0 &&
	    crl_signers(&edition, &signers) == 0)
		same = certificate_is_in(certificate, signers);
	sk_X509_pop_free(signers, X509_free);
	edition_clear(&edition);
	return same;
}

int crl_learn(struct store *store, int64_t profile, const X509 *certificate, X509 *issuer)
{
	bool own = is_ca_of(store, profile, issuer);
	int r = crl_learn_points(
		store, profile,
		X509_get_ext_d2i(certificate, NID_crl_distribution_points, NULL, NULL), own,
		issuer);

	if (r == 0) /* deltas are wanted beside whatever complete one there is */
		r = crl_learn_points(store, profile,
		                     X509_get_ext_d2i(certificate, NID_freshest_crl, NULL, NULL),
		                     false, issuer);
	ERR_clear_error();
	return r;
}

int crl_learn_path(struct store *store, int64_t profile, X509 *leaf, STACK_OF(X509) * chain)
{
	X509 *certificate = leaf;
	int r = 0;

	for (int i = 0; r == 0 && profile && i < sk_X509_num(chain); i++) {
		r = crl_learn(store, profile, certificate, sk_X509_value(chain, i));
		certificate = sk_X509_value(chain, i);
	}
	return r;
}
