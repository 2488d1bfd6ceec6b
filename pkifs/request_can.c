/* Whether a request can work: what its protocol asks of keys, names, profiles and proofs. */
#include "common/x509.h"
#include "pkifs/account.h"
#include "pkifs/prover.h"
#include "pkifs/request_part.h"
#include "pkifs/validate.h"
#include "pkifs/work.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

static int later(const char *what, struct error *err)
{
	return error_set(err, -EINVAL, "%s is not supported by this version of pkifs", what);
}

static bool speaks(const struct asked *asked, const char *protocol)
{
	return strcmp(object_protocol(asked->config, asked->settings), protocol) == 0;
}

static int check_key_store(const struct asked *asked, struct error *err)
{
	if (record_get(asked->config, "key-store") &&
	    !record_is(asked->config, "key-store", "store"))
		return later("a key in a token (key-store)", err);
	return 0;
}

/* Whether size and type of the key to be made belong together. */
int request_can_key_pair(struct asked *asked, struct error *err)
{
	const char *type = record_get(asked->config, "key-type");
	long long size = record_number(asked->config, "key-size", 0);
	bool ok = !size || strcmp(type, "ed25519") == 0;

	if (strcmp(type, "rsa") == 0)
		ok = ok || (size >= 2048 && size <= 8192);
	else if (strcmp(type, "ecdsa") == 0)
		ok = ok || size == 256 || size == 384 || size == 521;
	else if (strcmp(type, "dsa") == 0)
		ok = ok || size == 2048 || size == 3072;
	if (!ok)
		return error_set(err, -EINVAL, "key-size = %lld does not fit key-type = %s", size,
		                 type);
	return check_key_store(asked, err);
}

static int check_names(struct asked *asked, struct error *err)
{
	const char *const names[] = { "subject", "domain-name", "ip-address", "email" };

	for (size_t i = 0; i < COUNT(names); i++)
		if (record_get(asked->config, names[i]))
			return 0;
	return error_set(err, -EINVAL,
	                 "there is no name to ask for: set subject, domain-name, ip-address or "
	                 "email");
}

int request_can_csr(struct asked *asked, struct error *err)
{
	int r = request_can_key_pair(asked, err);

	return r < 0 ? r : check_names(asked, err);
}

/* What is revoked proves nobody, and is replaced with a new key. */
static bool is_revoked(const struct asked *asked)
{
	return strcmp(asked->object->state, "revoked") == 0;
}

/* The type of the key that a request would be made with: the one that is there, or to be made. */
static void key_type(const struct asked *asked, char *type, size_t size)
{
	int64_t row = asked->edition.next_key ? asked->edition.next_key : asked->edition.key_pair;
	struct key_pair key;

	snprintf(type, size, "%s", record_get(asked->config, "key-type"));
	if (row && !record_is(asked->config, "re-generate-keypair", "yes") && !is_revoked(asked) &&
	    db_key_get(asked->store->db, row, &key) == 0) {
		snprintf(type, size, "%.*s", (int)strcspn(key.type, " "), key.type);
		key_pair_clear(&key);
	}
}

/* A type of key that PROTOCOL can't carry. */
static int refuse_key(const struct asked *asked, const char *type, const char *protocol,
                      struct error *err)
{
	const char *name = strcmp(type, "ecdsa") == 0     ? "ECDSA"
	                   : strcmp(type, "ed25519") == 0 ? "Ed25519"
	                                                  : "DSA";

	return error_set(err, -EINVAL, "%s Keypair not supported with %s for cert_id %s", name,
	                 protocol, asked->object->name);
}

static int check_scep(struct asked *asked, struct error *err)
{
	char type[24];

	key_type(asked, type, sizeof type);
	if (strcmp(type, "rsa") != 0)
		return refuse_key(asked, type, "SCEP", err);
	if (!record_get(asked->config, "domain-name") && !record_get(asked->config, "email") &&
	    !record_get(asked->config, "ip-address"))
		return error_set(err, -EINVAL,
		                 "SCEP needs at least one of domain-name, email and ip-address");
	return 0;
}

/* Who proves us by TLS, `auth-certificate-id` or the certificate in force, can do so. */
static int check_prover(struct asked *asked, struct error *err)
{
	const char *name = record_get(asked->config, "auth-certificate-id");
	bool user = record_get(asked->config, "est-user") != NULL;
	struct edition edition = { 0 };
	struct object prover;
	int r = 0;

	if (!name) {
		if (!user && strcmp(asked->action, "re-enroll") == 0 &&
		    key_is(asked->store, asked->edition.key_pair, "ed25519"))
			r = error_set(err, -EINVAL,
			              "an Ed25519 key cannot sign for TLS here: set est-user and "
			              "est-password, or auth-certificate-id");
		return r;
	}
	r = db_object_find(asked->store->db, KIND_LOCAL, name, &prover);
	if (r == 0)
		r = db_edition_get(asked->store->db, prover.edition, &edition);
	if (r == 0 && (!edition.version || key_is(asked->store, edition.key_pair, "ed25519")))
		r = error_set(
			err, -EINVAL,
			"certificate id %s (auth-certificate-id) has no certificate whose key "
			"signs for TLS (RSA, ECDSA)",
			name);
	edition_clear(&edition);
	return r;
}

static int check_est(struct asked *asked, struct error *err)
{
	bool user = record_get(asked->config, "est-user") != NULL;
	char type[24];
	int r;

	key_type(asked, type, sizeof type);
	if (strcmp(type, "dsa") == 0)
		return refuse_key(asked, type, "EST", err);
	if (user != (record_get(asked->config, "est-password") != NULL))
		return error_set(err, -EINVAL, "EST needs both est-user and est-password");
	/* a renewal has the names of the certificate in force */
	r = strcmp(asked->action, "re-enroll") == 0 ? 0 : check_names(asked, err);
	return r < 0 ? r : check_prover(asked, err);
}

/* Whether the certificate in force signs what is asked: a renewal, a revocation. */
static bool signs_itself(const struct asked *asked)
{
	return strcmp(asked->action, "enroll") != 0 &&
	       prover_can_sign(asked->store, asked->object, &asked->edition);
}

static bool can_be_proven(const struct asked *asked)
{
	const char *name = record_get(asked->config, "auth-certificate-id");
	struct edition edition = { 0 };
	struct object prover;
	bool can;

	if (!name || db_object_find(asked->store->db, KIND_LOCAL, name, &prover) < 0 ||
	    db_edition_get(asked->store->db, prover.edition, &edition) < 0)
		return false;
	can = prover_can_sign(asked->store, &prover, &edition);
	edition_clear(&edition);
	return can;
}

static int check_cmpv2(struct asked *asked, struct error *err)
{
	const char *prover = record_get(asked->config, "auth-certificate-id");

	if (!record_get(asked->config, "subject") && !record_get(asked->config, "domain-name"))
		return error_set(err, -EINVAL, "CMPv2 needs a subject or a domain-name");
	if (signs_itself(asked) || can_be_proven(asked) || prover_has_secret(asked->config))
		return 0;
	if (prover)
		return error_set(err, -EINVAL,
		                 "certificate id %s (auth-certificate-id) has no valid certificate "
		                 "whose key signs CMP messages (RSA, ECDSA, DSA)",
		                 prover);
	if (asked->edition.version && strcmp(asked->action, "enroll") != 0)
		return error_set(
			err, -EINVAL,
			"the certificate in force signs no CMP messages (Ed25519, at its end, or "
			"revoked): set ca-reference and ca-secret, or auth-certificate-id");
	return error_set(err, -EINVAL,
	                 "CMPv2 needs ca-reference and ca-secret, or auth-certificate-id, to be "
	                 "known by");
}

/* Somebody puts the records, and each name is one. */
static int check_dns_01(struct asked *asked, struct error *err)
{
	const struct record *settings = asked->settings;

	if (record_get(asked->config, "ip-address"))
		return error_set(err, -EINVAL,
		                 "acme-challenge = dns-01 proves no ip-address: use http-01");
	if (!record_get(settings, "acme-dns-server") && !record_get(settings, "acme-dns-hook"))
		return error_set(err, -EINVAL,
		                 "acme-challenge = dns-01 needs acme-dns-server or acme-dns-hook "
		                 "in the profile");
	return 0;
}

static int check_acme(struct asked *asked, struct error *err)
{
	const char *challenge = record_get(asked->config, "acme-challenge");
	const struct field *name;
	size_t index = 0;
	char type[24];

	key_type(asked, type, sizeof type);
	if (strcmp(type, "rsa") != 0 && strcmp(type, "ecdsa") != 0)
		return error_set(err, -EINVAL,
		                 "ACME takes an RSA or ECDSA key, not %s: set key-type", type);
	if (record_get(asked->config, "email"))
		return error_set(err, -EINVAL,
		                 "ACME certifies no e-mail address: take email out; the "
		                 "account's is acme-contact of the profile");
	if (!record_get(asked->config, "domain-name") && !record_get(asked->config, "ip-address"))
		return error_set(err, -EINVAL,
		                 "ACME needs at least one of domain-name and ip-address");
	if (strcmp(challenge, "dns-01") == 0)
		return check_dns_01(asked, err);
	while ((name = record_next(asked->config, "domain-name", &index)))
		if (strncmp(name->value, "*.", 2) == 0)
			return error_set(err, -EINVAL, "%s wants acme-challenge = dns-01",
			                 name->value);
	return 0;
}

/* What each protocol that we speak asks of a certificate id and of its profile. */
static const struct protocol {
	const char *name, *title;
	int (*check)(struct asked *asked, struct error *err);
	bool fetches; /* the CA certificate, before anything else */
	bool tls;     /* and nothing else */
} protocols[] = {
	{ "scep", "SCEP", check_scep, true, false },
	{ "cmpv2", "CMPv2", check_cmpv2, false, false },
	{ "acme", "ACME", check_acme, false, true },
	{ "est", "EST", check_est, true, true },
};

static const struct protocol *find_protocol(const struct asked *asked, struct error *err)
{
	for (size_t i = 0; i < COUNT(protocols); i++)
		if (speaks(asked, protocols[i].name))
			return &protocols[i];
	later(object_protocol(asked->config, asked->settings), err);
	return NULL;
}

/* The profile that `tls-ca` names has an anchor: the system's store does not take its place. */
static int check_tls_ca(struct asked *asked, const char *name, struct error *err)
{
	struct edition edition = { 0 };
	struct object profile;
	int r = db_object_find(asked->store->db, KIND_CA, name, &profile);

	if (r == 0)
		r = db_edition_get(asked->store->db, profile.edition, &edition);
	if (r == 0 && !edition.certificate.length)
		r = error_set(
			err, -EINVAL,
			"profile %s (tls-ca) is not trusted yet: load its CA certificate into "
			"ca/%s/cert.pem",
			name, name);
	edition_clear(&edition);
	return r;
}

/* SETTINGS, a profile's, lead to a server that PROTOCOL can be spoken with. */
static int check_server(struct asked *asked, const struct protocol *protocol,
                        const struct record *settings, struct error *err)
{
	const char *url = record_get(settings, "enrollment-url");
	const char *anchor = record_get(settings, "tls-ca");
	bool tls = strncasecmp(url, "https://", 8) == 0;

	if (protocol->tls && !tls)
		return error_set(err, -EINVAL, "%s needs https: enrollment-url is %.200s",
		                 protocol->title, url);
	return tls && anchor && *anchor ? check_tls_ca(asked, anchor, err) : 0;
}

/*
 * With CMPv2 and a shared secret the CA certificate comes with the first certificate; an ACME CA is
 * anchored by the system's store where no CA certificate is loaded.
 */
static bool brings_trust(const struct asked *asked, const struct protocol *protocol)
{
	return protocol->check == check_acme ||
	       (protocol->check == check_cmpv2 && prover_has_secret(asked->config) &&
	        !signs_itself(asked) && !can_be_proven(asked));
}

/* A CA certificate that has ended proves no answer. */
static int check_ca_valid(const struct asked *asked, const struct edition *trusted,
                          struct error *err)
{
	STACK_OF(X509) *certificates = NULL;
	struct error why = { 0 };
	int r = certificates_read(trusted->certificate.data, trusted->certificate.length, 1,
	                          &certificates, err);

	if (r == 0 && validate_ca(sk_X509_value(certificates, 0), store_now(asked->store),
	                          store_clock_trusted(asked->store),
	                          record_is(asked->settings, "allow-legacy", "yes"), &why) < 0)
		r = error_set(err, -EINVAL,
		              "the CA certificate of profile %s cannot prove an answer: %s",
		              asked->profile.name, why.text);
	sk_X509_pop_free(certificates, X509_free);
	return r;
}

static int check_trusted(const struct asked *asked, struct error *err)
{
	struct edition trusted = { 0 };
	int r = db_edition_get(asked->store->db, asked->profile.edition, &trusted);

	if (r == 0 && !trusted.certificate.length)
		r = error_set(err, -EINVAL,
		              "profile %s is not trusted yet: enroll and confirm it, or load its "
		              "CA certificate into ca/%s/cert.pem",
		              asked->profile.name, asked->profile.name);
	if (r == 0 && speaks(asked, "cmpv2"))
		r = check_ca_valid(asked, &trusted, err);
	edition_clear(&trusted);
	return r;
}

int request_can_enroll(struct asked *asked, struct error *err)
{
	const struct protocol *protocol = find_protocol(asked, err);
	int r;

	r = request_can_key_pair(asked, err);
	if (r == 0)
		r = protocol ? protocol->check(asked, err) : -EINVAL;
	if (r < 0)
		return r;
	if (!asked->profile.id)
		return error_set(err, -EINVAL, "ca-profile is not set: which CA is to be asked?");
	if (!record_get(asked->settings, "enrollment-url"))
		return error_set(err, -EINVAL, "profile %s has no enrollment-url",
		                 asked->profile.name);
	r = check_server(asked, protocol, asked->settings, err);
	return r < 0 || brings_trust(asked, protocol) ? r : check_trusted(asked, err);
}

int request_can_re_enroll(struct asked *asked, struct error *err)
{
	if (!asked->edition.version)
		return error_set(err, -EINVAL,
		                 "there is no certificate to renew: request enroll first");
	return request_can_enroll(asked, err);
}

int request_can_self_signed(struct asked *asked, struct error *err)
{
	return request_can_csr(asked, err);
}

int request_can_ca_enroll(struct asked *asked, struct error *err)
{
	const struct protocol *protocol = find_protocol(asked, err);

	if (!protocol)
		return -EINVAL;
	if (!protocol->fetches)
		return error_set(err, -EINVAL,
		                 "with %s the CA certificate comes with the certificates: there is "
		                 "nothing to fetch; request enroll of a certificate id",
		                 protocol->title);
	if (!record_get(asked->config, "enrollment-url"))
		return error_set(err, -EINVAL, "enrollment-url is not set");
	return check_server(asked, protocol, asked->config, err);
}

/* By CMP a profile's own questions are asked in the name of one of its certificate ids. */
static int check_profile_prover(const struct asked *asked, struct error *err)
{
	struct object prover;

	if (prover_find(asked->store, asked->object, &prover) == 0)
		return 0;
	return error_set(err, -EINVAL,
	                 "no certificate id of profile %s is known to its CA: one needs a "
	                 "certificate whose key signs CMP messages, or ca-reference and ca-secret",
	                 asked->object->name);
}

int request_can_next_ca(struct asked *asked, struct error *err)
{
	const struct protocol *protocol = find_protocol(asked, err);
	int r = 0;

	if (!protocol)
		return -EINVAL;
	if (!asked->edition.certificate.length)
		return error_set(err, -EINVAL, "profile %s is not trusted yet: request enroll",
		                 asked->object->name);
	if (!record_get(asked->config, "enrollment-url"))
		return error_set(err, -EINVAL, "enrollment-url is not set");
	if (protocol->check == check_cmpv2)
		r = check_profile_prover(asked, err);
	else if (!protocol->fetches)
		r = error_set(err, -EINVAL, "%s has no question for the next CA certificate",
		              protocol->title);
	return r < 0 ? r : check_server(asked, protocol, asked->config, err);
}

int request_can_refresh_crl(struct asked *asked, struct error *err)
{
	const char *url = record_get(asked->config, "crl-url");
	int64_t count = 0;

	if (!asked->edition.certificate.length)
		return error_set(err, -EINVAL, "profile %s is not trusted yet",
		                 asked->object->name);
	db_crl_url_count(asked->store->db, asked->object->id, &count);
	if (!url && count == 0 && !record_get(asked->config, "enrollment-url"))
		return error_set(err, -EINVAL,
		                 "neither crl-url nor enrollment-url is set, and no certificate "
		                 "of the CA that is known here names where its CRL is");
	if (!url && count == 0 && speaks(asked, "cmpv2"))
		return check_profile_prover(asked, err);
	return 0;
}

int request_can_account(struct asked *asked, struct error *err)
{
	const char *url = record_get(asked->config, "enrollment-url");

	if (!speaks(asked, "acme"))
		return error_set(err, -EINVAL, "only ACME has accounts: set protocol = acme");
	if (!url || strncasecmp(url, "https://", 8) != 0)
		return error_set(err, -EINVAL, "ACME needs an enrollment-url with https");
	return 0;
}

int request_can_account_known(struct asked *asked, struct error *err)
{
	int r = request_can_account(asked, err);

	if (r == 0 && !account_is_known(asked->store, asked->object))
		r = error_set(err, -EINVAL, "profile %s has no account", asked->object->name);
	return r;
}

int request_can_revoke(struct asked *asked, struct error *err)
{
	const struct protocol *protocol = find_protocol(asked, err);

	if (!protocol)
		return -EINVAL;
	if (protocol->check != check_cmpv2 && protocol->check != check_acme)
		return error_set(err, -EINVAL, "%s has no way to revoke a certificate: ask the CA",
		                 protocol->title);
	if (!asked->edition.version)
		return error_set(err, -EINVAL, "there is no certificate to revoke");
	return request_can_enroll(asked, err);
}
