/* Requests as users write them: what is asked, whether it can work, and what is done at once. */
#include "common/x509.h"
#include "pkifs/account.h"
#include "pkifs/autoenroll.h"
#include "pkifs/crl.h"
#include "pkifs/jobs.h"
#include "pkifs/object.h"
#include "pkifs/prover.h"
#include "pkifs/rollover.h"
#include "pkifs/tunnel.h"
#include "pkifs/validate.h"
#include "pkifs/work.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* What a request is judged by. */
struct asked {
	struct store *store;
	const struct object *object;
	const char *action;
	struct record *fields; /* as written */
	struct record *config; /* the object's, with the request's keys, and defaults */
	char *merged;          /* the config text with the request's keys */
	size_t merged_length;
	struct object profile;   /* the one to ask; id 0: none */
	struct record *settings; /* its config with defaults */
	struct edition edition;
};

struct action {
	const char *name;
	enum kind kind;
	int (*check)(struct asked *asked, struct error *err);
	int (*now)(struct asked *asked, struct error *err); /* done at once, or NULL: a job */
};

static void asked_clear(struct asked *asked)
{
	record_free(asked->fields);
	record_free(asked->config);
	record_free(asked->settings);
	OPENSSL_clear_free(asked->merged, asked->merged ? asked->merged_length + 1 : 0);
	edition_clear(&asked->edition);
}

static int later(const char *what, struct error *err)
{
	return error_set(err, -EINVAL, "%s is not supported by this version of pkifs", what);
}

static const char *protocol_of(const struct asked *asked)
{
	const char *own = record_get(asked->config, "protocol");

	if (own && *own)
		return own;
	return asked->settings ? record_get(asked->settings, "protocol") : "scep";
}

static int check_key_store(const struct asked *asked, struct error *err)
{
	if (record_get(asked->config, "key-store") &&
	    !record_is(asked->config, "key-store", "store"))
		return later("a key in a token (key-store)", err);
	return 0;
}

/* Whether size and type of the key to be made belong together. */
static int check_key_pair(struct asked *asked, struct error *err)
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

static int check_csr(struct asked *asked, struct error *err)
{
	int r = check_key_pair(asked, err);

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
	const char *name = protocol_of(asked);

	for (size_t i = 0; i < COUNT(protocols); i++)
		if (strcasecmp(protocols[i].name, name) == 0)
			return &protocols[i];
	later(name, err);
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
	if (r == 0 && strcasecmp(protocol_of(asked), "cmpv2") == 0)
		r = check_ca_valid(asked, &trusted, err);
	edition_clear(&trusted);
	return r;
}

static int check_enroll(struct asked *asked, struct error *err)
{
	const struct protocol *protocol = find_protocol(asked, err);
	int r;

	r = check_key_pair(asked, err);
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

static int check_re_enroll(struct asked *asked, struct error *err)
{
	if (!asked->edition.version)
		return error_set(err, -EINVAL,
		                 "there is no certificate to renew: request enroll first");
	return check_enroll(asked, err);
}

static int check_self_signed(struct asked *asked, struct error *err)
{
	return check_csr(asked, err);
}

static int check_ca_enroll(struct asked *asked, struct error *err)
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

static int check_next_ca(struct asked *asked, struct error *err)
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

static int check_refresh_crl(struct asked *asked, struct error *err)
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
	if (!url && count == 0 && strcasecmp(protocol_of(asked), "cmpv2") == 0)
		return check_profile_prover(asked, err);
	return 0;
}

static int check_account(struct asked *asked, struct error *err)
{
	const char *url = record_get(asked->config, "enrollment-url");

	if (strcmp(protocol_of(asked), "acme") != 0)
		return error_set(err, -EINVAL, "only ACME has accounts: set protocol = acme");
	if (!url || strncasecmp(url, "https://", 8) != 0)
		return error_set(err, -EINVAL, "ACME needs an enrollment-url with https");
	return 0;
}

static int check_account_known(struct asked *asked, struct error *err)
{
	int r = check_account(asked, err);

	if (r == 0 && !account_is_known(asked->store, asked->object))
		r = error_set(err, -EINVAL, "profile %s has no account", asked->object->name);
	return r;
}

static int check_revoke(struct asked *asked, struct error *err)
{
	const struct protocol *protocol = find_protocol(asked, err);

	if (!protocol)
		return -EINVAL;
	if (protocol->check != check_cmpv2 && protocol->check != check_acme)
		return error_set(err, -EINVAL, "%s has no way to revoke a certificate: ask the CA",
		                 protocol->title);
	if (!asked->edition.version)
		return error_set(err, -EINVAL, "there is no certificate to revoke");
	return check_enroll(asked, err);
}

static int unenroll_now(struct asked *asked, struct error *err)
{
	struct edition empty = { .key_pair = asked->edition.key_pair, /* an ACME account's */
		                 .next_key = asked->edition.next_key };
	int r;

	(void)err;
	r = crl_forget(asked->store, asked->object, &empty);
	if (r == 0)
		r = db_crl_url_remove(asked->store->db, asked->object->id, 0);
	if (r == 0)
		r = edition_publish(asked->store, asked->object, &empty);
	return r < 0 ? r : store_event(asked->store, asked->object, "unenrolled", NULL);
}

static int clear_crl_now(struct asked *asked, struct error *err)
{
	int r = crl_forget(asked->store, asked->object, &asked->edition);

	(void)err;
	return r < 0 ? r : edition_publish(asked->store, asked->object, &asked->edition);
}

static int clear_certificate_now(struct asked *asked, struct error *err)
{
	(void)err;
	asked->edition.version = 0;
	if (asked->edition.next_key)
		asked->edition.key_pair = asked->edition.next_key;
	asked->edition.next_key = 0;
	return edition_publish(asked->store, asked->object, &asked->edition);
}

static int clear_key_pair_now(struct asked *asked, struct error *err)
{
	if (asked->edition.next_key)
		asked->edition.next_key = 0;
	else if (asked->edition.version)
		return error_set(err, -EINVAL,
		                 "the key belongs to the certificate in force: request "
		                 "clear-certificate first");
	else
		asked->edition.key_pair = 0;
	blob_clear(&asked->edition.csr);
	return edition_publish(asked->store, asked->object, &asked->edition);
}

static int verify_ca_now(struct asked *asked, struct error *err)
{
	STACK_OF(X509) *certificates = NULL;
	int r;

	if (!asked->edition.certificate.length)
		return error_set(err, -EINVAL, "there is no CA certificate to verify");
	r = certificates_read(asked->edition.certificate.data, asked->edition.certificate.length, 1,
	                      &certificates, err);
	if (r == 0)
		r = validate_ca(sk_X509_value(certificates, 0), store_now(asked->store),
		                store_clock_trusted(asked->store),
		                record_is(asked->config, "allow-legacy", "yes"), err);
	sk_X509_pop_free(certificates, X509_free);
	return r;
}

static int verify_now(struct asked *asked, struct error *err)
{
	struct candidates candidates = { .key = asked->edition.key_pair };
	struct version version;
	char *text = NULL;
	int r;

	if (!asked->edition.version)
		return error_set(err, -EINVAL, "there is no certificate to verify");
	r = db_version_get(asked->store->db, asked->edition.version, &version);
	if (r < 0)
		return r;
	candidates.self_signed = strcmp(version.anchor, "self") == 0;
	if (asprintf(&text, "%s%s", version.certificate.data,
	             version.chain.data ? version.chain.data : "") < 0)
		r = -ENOMEM;
	if (r == 0)
		r = certificates_read(text, strlen(text), 50, &candidates.certificates, err);
	if (r == 0)
		r = certificate_publish(asked->store, asked->object, &candidates, true, err);
	sk_X509_pop_free(candidates.certificates, X509_free);
	version_clear(&version);
	free(text);
	return r;
}

static int check_tunnel(struct asked *asked, struct error *err)
{
	return tunnel_check_request(asked->store, asked->object, asked->action, asked->fields,
	                            asked->config, err);
}

static const struct action actions[] = {
	{ "enroll", KIND_CA, check_ca_enroll, NULL },
	{ "next-ca", KIND_CA, check_next_ca, NULL },
	{ "refresh-crl", KIND_CA, check_refresh_crl, NULL },
	{ "unenroll", KIND_CA, NULL, unenroll_now },
	{ "clear-crl", KIND_CA, NULL, clear_crl_now },
	{ "verify", KIND_CA, NULL, verify_ca_now },
	{ "account-register", KIND_CA, check_account, NULL },
	{ "account-rollover", KIND_CA, check_account_known, NULL },
	{ "account-delete", KIND_CA, check_account_known, NULL },
	{ "generate-key-pair", KIND_LOCAL, check_key_pair, NULL },
	{ "generate-csr", KIND_LOCAL, check_csr, NULL },
	{ "generate-self-signed", KIND_LOCAL, check_self_signed, NULL },
	{ "enroll", KIND_LOCAL, check_enroll, NULL },
	{ "re-enroll", KIND_LOCAL, check_re_enroll, NULL },
	{ "verify", KIND_LOCAL, NULL, verify_now },
	{ "revoke", KIND_LOCAL, check_revoke, NULL },
	{ "clear-key-pair", KIND_LOCAL, NULL, clear_key_pair_now },
	{ "clear-certificate", KIND_LOCAL, NULL, clear_certificate_now },
	{ "up", KIND_IPSEC, check_tunnel, NULL },
	{ "down", KIND_IPSEC, check_tunnel, NULL },
	{ "rekey", KIND_IPSEC, check_tunnel, NULL },
	{ "load-sa", KIND_IPSEC, check_tunnel, NULL },
};

static const struct action *action_find(enum kind kind, const char *name)
{
	for (size_t i = 0; i < COUNT(actions); i++)
		if (actions[i].kind == kind && strcmp(actions[i].name, name) == 0)
			return &actions[i];
	return NULL;
}

/* The request's own words that are no settings: they are not saved with the config. */
static bool is_setting(enum kind kind, const char *key)
{
	return key_find(config_table(kind), key) != NULL;
}

static int settings_of(const struct asked *asked, struct record **settings)
{
	*settings = record_new();
	if (!*settings)
		return -ENOMEM;
	for (size_t i = 0; i < record_count(asked->fields); i++) {
		const struct field *field = record_field(asked->fields, i);

		if (is_setting(asked->object->kind, field->key) && strcmp(field->value, "***") != 0)
			record_add_bytes(*settings, field->key, field->value, field->length);
	}
	return record_failed(*settings) ? -ENOMEM : 0;
}

/* Reads the text, merges its settings with the config, and looks the profile up. */
static int understand(struct asked *asked, const char *text, size_t length, struct error *err)
{
	const struct key_table *table = config_table(asked->object->kind);
	struct record *settings = NULL, *config = NULL;
	struct blob old = { 0 };
	int64_t object, created;
	int r;

	r = record_parse(text, length, "action", &asked->fields, err);
	if (r == 0)
		r = key_check_record(request_table(asked->object->kind), asked->fields, err);
	if (r == 0 && !(asked->action = record_get(asked->fields, "action")))
		r = error_set(err, -EINVAL, "the request has no action");
	if (r == 0)
		r = settings_of(asked, &settings);
	if (r == 0)
		r = db_config_get(asked->store->db, asked->object->config, &object, &created, &old);
	if (r == 0)
		r = key_merge(table, old.data, old.length, settings, &asked->merged,
		              &asked->merged_length, err);
	if (r == 0)
		r = record_parse(asked->merged, asked->merged_length, NULL, &config, err);
	if (r == 0)
		r = store_effective(asked->store, asked->object, config, &asked->config);
	if (r == 0)
		r = db_edition_get(asked->store->db, asked->object->edition, &asked->edition);
	if (r == 0 && asked->object->kind == KIND_LOCAL &&
	    object_profile(asked->store, config, &asked->profile) == 0)
		r = store_settings(asked->store, &asked->profile, &asked->settings);
	record_free(settings);
	record_free(config);
	blob_clear(&old);
	return r;
}

static int check_not_busy(const struct asked *asked, struct error *err)
{
	struct request request;
	bool busy;

	if (db_request_get(asked->store->db, asked->object->id, &request) < 0)
		return 0;
	/* what is asked by itself will be again; its own writer may go on with a request, as long
	 * as it has not begun */
	busy = request_active(&request) && strcmp(request.action, "next-ca") != 0 &&
	       !(request.text.data && strcmp(request.text.data, CRL_BY_ITSELF) == 0) &&
	       !(asked->store->writer && asked->store->writer->request == request.id &&
	         request.state == REQUEST_QUEUED);
	if (busy)
		error_set(err, -EBUSY, "%s is %s; write `cancel` to end it", request.action,
		          request_state_name(request.state));
	request_clear(&request);
	return busy ? -EBUSY : 0;
}

static int event(const struct asked *asked)
{
	struct record *more = record_new(); /* not the fields: they may have secrets */
	int r = -ENOMEM;

	if (more) {
		record_add(more, "action", asked->action);
		r = store_event(asked->store, asked->object, "request", more);
	}
	record_free(more);
	return r;
}

/* Keeps the request: as a job, or with its result. */
static int keep(struct asked *asked, const char *text, size_t length, enum request_state state,
                const struct error *failure)
{
	struct request request = { .object = asked->object->id, .state = state };
	unsigned char *fields = NULL;
	int r;

	r = record_encode(asked->fields, &fields, &request.fields.length);
	if (r < 0)
		return r;
	request.fields.data = (char *)fields;
	request.text.data = malloc(length + 1);
	if (!request.text.data) {
		OPENSSL_clear_free(fields, request.fields.length);
		return -ENOMEM;
	}
	memcpy(request.text.data, text, length);
	request.text.length = length;
	snprintf(request.action, sizeof request.action, "%s", asked->action);
	snprintf(request.error, sizeof request.error, "%s", failure ? failure->text : "");
	request.created = request.changed = store_now(asked->store);
	request.profile = asked->object->kind == KIND_CA ? asked->object->id : asked->profile.id;
	r = db_request_add(asked->store->db, &request, &request.id);
	if (r == 0 && asked->store->writer)
		asked->store->writer->request = request.id;
	OPENSSL_clear_free(fields, request.fields.length);
	request.fields = (struct blob){ 0 };
	request_clear(&request);
	if (r == 0)
		r = db_object_set_error(asked->store->db, asked->object->id,
		                        failure ? failure->text : "");
	if (r == 0 && strcmp(asked->action, "enroll") == 0)
		r = auto_enroll_asked(asked->store, asked->object->id);
	asked->store->due = true;
	return r < 0 || state == REQUEST_QUEUED ? r : event(asked);
}

static int carry_out(struct asked *asked, const struct action *action, const char *text,
                     size_t length, struct error *err)
{
	bool verify = strcmp(action->name, "verify") == 0;
	int r = action->now ? action->now(asked, err) : 0;

	if (r < 0 && verify && err->code) /* judged, and found wanting: that is the result */
		return keep(asked, text, length, REQUEST_FAILED, err);
	if (r < 0)
		return r;
	return keep(asked, text, length, action->now ? REQUEST_DONE : REQUEST_QUEUED, NULL);
}

int request_by_itself(struct store *store, const struct object *object, const char *text)
{
	struct error err = { 0 };
	int r = db_savepoint(store->db);

	if (r < 0)
		return r;
	r = request_accept(store, object, text, strlen(text), 0, false, &err);
	if (r == 0)
		return db_release(store->db);
	db_undo(store->db);
	if (!err.code)
		return r;
	r = store_refusal(store, object, &err);
	return r < 0 ? r : 1;
}

int request_accept(struct store *store, const struct object *object, const char *text,
                   size_t length, uid_t uid, bool dry, struct error *err)
{
	struct asked asked = { .store = store, .object = object };
	const struct action *action = NULL;
	struct object now = *object;
	int r;

	r = understand(&asked, text, length, err);
	if (r == 0 && strcmp(asked.action, "cancel") == 0) {
		r = dry ? 0 : jobs_cancel(store, object, err);
		asked_clear(&asked);
		return r;
	}
	if (r == 0)
		r = check_not_busy(&asked, err);
	if (r == 0 && !(action = action_find(object->kind, asked.action)))
		r = later(asked.action, err);
	if (r == 0)
		r = config_accept(store, object, asked.merged, asked.merged_length, uid, true, err);
	if (r == 0 && action->check)
		r = action->check(&asked, err);
	if (r == 0 && !dry)
		r = config_accept(store, object, asked.merged, asked.merged_length, uid, false,
		                  err);
	if (r == 0 && !dry)
		r = db_object_get(store->db, object->id, &now);
	if (r == 0 && !dry) {
		asked.object = &now;
		r = carry_out(&asked, action, text, length, err);
	}
	asked_clear(&asked);
	return r;
}
