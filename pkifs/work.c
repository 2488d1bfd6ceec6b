#include "pkifs/work.h"

#include "common/log.h"
#include "common/x509.h"
#include "pkifs/account.h"
#include "pkifs/issuers.h"
#include "pkifs/prover.h"
#include "pkifs/rollover.h"

#include <errno.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>

int work_add_der(struct record *record, const char *key, const struct blob *pem)
{
	STACK_OF(X509) *certificates = NULL;
	int r = 0;

	if (pem->length)
		r = certificates_read(pem->data, pem->length, 50, &certificates, NULL);
	for (int i = 0; r == 0 && i < sk_X509_num(certificates); i++) {
		unsigned char *der = NULL;
		size_t length;

		r = certificate_to_der(sk_X509_value(certificates, i), &der, &length);
		if (r == 0)
			record_add_bytes(record, key, der, length);
		OPENSSL_free(der);
	}
	sk_X509_pop_free(certificates, X509_free);
	return r;
}

static int add_public(struct store *store, struct record *record, int64_t row)
{
	struct key_pair key;
	int r = db_key_get(store->db, row, &key);

	if (r < 0)
		return r;
	record_add_bytes(record, "public", key.public.data, key.public.length);
	key_pair_clear(&key);
	return 0;
}

bool key_is(struct store *store, int64_t row, const char *type)
{
	struct key_pair key;
	bool is;

	if (!row || db_key_get(store->db, row, &key) < 0)
		return false;
	is = strncmp(key.type, type, strlen(type)) == 0;
	key_pair_clear(&key);
	return is;
}

/*
 * The certificate of version ROW as FIELD with its chain, where it is still valid or ENDED is no
 * matter; and its key, which goes on with what was begun with it.
 */
static int add_identity(struct store *store, int64_t row, const char *field, bool ended,
                        struct worker_job *work)
{
	struct version version;
	int r = db_version_get(store->db, row, &version);

	if (r < 0)
		return r;
	if (ended || version.not_after > store_now(store) || !store_clock_trusted(store)) {
		record_remove(work->record, "chain");
		r = work_add_der(work->record, field, &version.certificate);
		if (r == 0)
			r = work_add_der(work->record, "chain", &version.chain);
	}
	work->grants[1] = (struct grant){ "current", version.key_pair };
	version_clear(&version);
	return r;
}

/* A renewal is signed by the certificate in force, where that is still valid and not revoked; a
 * revocation names it, whatever it is. */
static int add_renewal(struct store *store, const struct standing *standing,
                       struct worker_job *work)
{
	bool revokes = strcmp(standing->request.action, "revoke") == 0;

	if ((strcmp(standing->request.action, "re-enroll") != 0 && !revokes) ||
	    !standing->edition.version ||
	    (!revokes && strcmp(standing->object.state, "revoked") == 0))
		return 0;
	return add_identity(store, standing->edition.version, "certificate", revokes, work);
}

/*
 * With CMPv2 and EST another certificate id may prove us: the first time, or where the key of the
 * certificate in force cannot sign for the protocol.
 */
static int add_prover(struct store *store, const struct standing *standing, struct worker_job *work)
{
	const char *name = record_get(standing->config, "auth-certificate-id");
	bool est = record_is(work->record, "protocol", "est") &&
	           record_is(work->record, "action", "enroll");
	struct edition edition = { 0 };
	struct object prover;
	int r;

	if (!name || !(est || record_is(work->record, "protocol", "cmpv2")) ||
	    (record_find(work->record, "certificate") &&
	     !key_is(store, work->grants[1].key, "ed25519")))
		return 0;
	r = db_object_find(store->db, KIND_LOCAL, name, &prover);
	if (r == 0)
		r = db_edition_get(store->db, prover.edition, &edition);
	if (r == 0 && edition.version)
		r = add_identity(store, edition.version, "auth-certificate", false, work);
	edition_clear(&edition);
	return r == -ENOENT ? 0 : r;
}

/* What goes out of a certificate id's config, and nothing else: with each protocol (NULL), or with
 * one alone. */
static const struct {
	const char *protocol, *names[12];
} own_settings[] = {
	{ NULL,
	  { "subject", "domain-name", "ip-address", "email", "challenge-password", "digest",
	    "validity-period", "key-type", "acme-challenge" } },
	{ "cmpv2", { "ca-reference", "ca-secret", "accept-changed-names" } },
	{ "est", { "est-user", "est-password" } },
	{ "acme", { "acme-profile", "acme-preferred-chain" } },
};

/* And of its profile's; and of that of a certificate id that asks for its profile. */
static const char *const profile_names[] = { "enrollment-url", "ca-identity", "ca-dn", NULL };
static const char *const asker_names[] = { "ca-reference", "ca-secret", "digest", NULL };

static void add_settings(struct record *to, const struct record *from, const char *const *names)
{
	const struct field *field;

	for (; *names; names++)
		for (size_t index = 0; (field = record_next(from, *names, &index)) != NULL;)
			record_add(to, *names, field->value);
}

static void add_own_settings(struct record *to, const struct record *config)
{
	for (size_t i = 0; i < COUNT(own_settings); i++)
		if (!own_settings[i].protocol ||
		    record_is(to, "protocol", own_settings[i].protocol))
			add_settings(to, config, own_settings[i].names);
}

int work_add_tls_ca(struct store *store, const struct record *settings, struct record *record)
{
	const char *name = record_get(settings, "tls-ca");
	struct edition edition;
	struct object profile;
	int r = name && *name ? db_object_find(store->db, KIND_CA, name, &profile) : -ENOENT;

	if (r == 0)
		r = db_edition_get(store->db, profile.edition, &edition);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = work_add_der(record, "tls-ca", &edition.certificate);
	if (!edition.certificate.length) /* nobody, and not whom the system trusts */
		record_add(record, "tls-ca", "");
	edition_clear(&edition);
	return r;
}

const char *work_action(const struct standing *standing)
{
	const char *action = standing->request.action;

	if (strncmp(action, "account-", 8) == 0)
		return action;
	if (standing->object.kind == KIND_CA)
		return strcmp(action, "refresh-crl") == 0 ? "crl"
		       : strcmp(action, "next-ca") == 0   ? "next-ca"
		                                          : "ca-certificate";
	if (strcmp(action, "generate-csr") == 0)
		return "csr";
	if (strcmp(action, "revoke") == 0)
		return action;
	return strcmp(action, "generate-self-signed") == 0 ? "self-signed" : "enroll";
}

/* What the request alone says. */
static int add_fields(const struct standing *standing, struct record *record)
{
	struct record *fields = NULL;
	int r;

	if (strcmp(standing->request.action, "generate-self-signed") != 0)
		return 0;
	r = record_decode((const unsigned char *)standing->request.fields.data,
	                  standing->request.fields.length, &fields);
	if (r == 0 && record_is(fields, "add-ca-constraint", "yes"))
		record_add(record, "add-ca-constraint", "yes");
	record_free(fields);
	return r;
}

int work_add_profile(struct store *store, const struct object *profile,
                     const struct record *settings, struct record *record)
{
	struct edition trusted;
	int r;

	if (!profile->id)
		return 0;
	add_settings(record, settings, profile_names);
	r = db_edition_get(store->db, profile->edition, &trusted);
	if (r < 0)
		return r;
	r = work_add_der(record, "ca", &trusted.certificate);
	if (r == 0)
		r = work_add_der(record, "ra", &trusted.ra);
	if (r == 0)
		r = work_add_der(record, "former", &trusted.former);
	if (r == 0 && *trusted.next_by)
		r = work_add_der(record, "signer", &trusted.next);
	if (r == 0 && *trusted.capabilities)
		record_add(record, "capabilities", trusted.capabilities);
	if (r == 0)
		r = work_add_tls_ca(store, settings, record);
	edition_clear(&trusted);
	return r;
}

/* What is asked for a profile by CMP: a certificate id of its own proves us. */
static int add_profile_prover(struct store *store, const struct standing *standing,
                              struct worker_job *work)
{
	struct edition edition = { 0 };
	struct record *config = NULL;
	struct object prover;
	int r;

	if (standing->object.kind != KIND_CA || !record_is(work->record, "protocol", "cmpv2") ||
	    prover_find(store, &standing->object, &prover) < 0)
		return 0;
	r = store_settings(store, &prover, &config);
	if (r == 0)
		r = db_edition_get(store->db, prover.edition, &edition);
	if (r == 0) {
		add_settings(work->record, config, asker_names);
		r = prover_can_sign(store, &prover, &edition)
		            ? add_identity(store, edition.version, "certificate", false, work)
		            : 0;
	}
	edition_clear(&edition);
	record_free(config);
	return r;
}

int work_compose(struct store *store, const struct standing *standing, int64_t key,
                 struct worker_job *work)
{
	struct record *record = work->record;
	const char *serial = record_get(store->conf, "serial-number");
	bool legacy = record_is(standing->config, "allow-legacy", "yes") ||
	              (standing->settings && record_is(standing->settings, "allow-legacy", "yes"));
	int r;

	record_add(record, "frame", "job");
	record_add_number(record, "job", standing->request.id);
	record_add(record, "action", work_action(standing));
	record_add_number(record, "now", store_now(store));
	record_add(record, "protocol", object_protocol(standing->config, standing->settings));
	if (standing->object.kind == KIND_LOCAL)
		add_own_settings(record, standing->config);
	if (strcmp(standing->request.action, "re-enroll") == 0)
		record_add(record, "renewal", "yes");
	record_add(record, "allow-legacy", legacy ? "yes" : "no");
	record_add(record, standing->object.kind == KIND_CA ? "profile" : "certificate-id",
	           standing->object.name);
	if (serial)
		record_add(record, "device-serial", serial);
	r = add_fields(standing, record);
	if (r == 0)
		r = work_add_profile(store, &standing->profile, standing->settings, record);
	if (r == 0 && strcmp(work_action(standing), "crl") == 0)
		r = crl_add_urls(store, standing->profile.id, standing->settings, record);
	if (r == 0 && key)
		r = add_public(store, record, key);
	if (r == 0)
		r = add_renewal(store, standing, work);
	if (r == 0)
		r = add_prover(store, standing, work);
	if (r == 0)
		r = add_profile_prover(store, standing, work);
	if (r == 0)
		r = account_compose(store, standing, work);
	record_append(record, standing->resume);
	record_remove(record, "key"); /* the row is for us */
	return r;
}

/* The request in DER; NULL where it is none, or not for the key in row KEY. */
static X509_REQ *read_csr(struct store *store, int64_t key, const struct field *der)
{
	const unsigned char *at = (const unsigned char *)der->value, *end = at + der->length;
	X509_REQ *request = d2i_X509_REQ(NULL, &at, (long)der->length);
	EVP_PKEY *ours = NULL, *asked = request ? X509_REQ_get0_pubkey(request) : NULL;
	struct key_pair pair;
	bool ok = false;

	if (at == end && asked && db_key_get(store->db, key, &pair) == 0) {
		ours = public_key_from_der(pair.public.data, pair.public.length);
		ok = ours && EVP_PKEY_eq(ours, asked) == 1 && X509_REQ_verify(request, ours) == 1;
		key_pair_clear(&pair);
	}
	EVP_PKEY_free(ours);
	if (ok)
		return request;
	X509_REQ_free(request);
	return NULL;
}

static int publish_csr(struct store *store, const struct standing *standing, int64_t key,
                       const struct record *result, struct error *err)
{
	const struct field *der = record_find(result, "csr");
	struct edition edition;
	X509_REQ *request = der ? read_csr(store, key, der) : NULL;
	BIO *bio = BIO_new(BIO_s_mem());
	char *text;
	int r;

	r = db_edition_get(store->db, standing->object.edition, &edition);
	if (r == 0 && !request)
		r = error_set(err, -EBADMSG,
		              "the certificate request that was made is not for this key");
	if (r == 0 && (!bio || !PEM_write_bio_X509_REQ(bio, request)))
		r = -ENOMEM;
	if (r == 0) {
		blob_clear(&edition.csr);
		edition.csr.length = (size_t)BIO_get_mem_data(bio, &text);
		edition.csr.data = strndup(text, edition.csr.length);
		r = edition.csr.data ? edition_publish(store, &standing->object, &edition)
		                     : -ENOMEM;
	}
	if (r == 0)
		r = store_event(store, &standing->object, "csr", NULL);
	edition_clear(&edition);
	BIO_free(bio);
	X509_REQ_free(request);
	return r;
}

/* All certificates of RESULT in the fields KEY. */
static int read_certificates(const struct record *result, const char *key,
                             STACK_OF(X509) * certificates, struct error *err)
{
	const struct field *field;
	size_t index = 0;

	while ((field = record_next(result, key, &index))) {
		X509 *certificate;

		if (sk_X509_num(certificates) >= CERTIFICATES_MAX)
			return error_set(err, -EINVAL, "the CA sent more than %d certificates",
			                 CERTIFICATES_MAX);
		certificate = certificate_from_der(field->value, field->length, err);
		if (!certificate || !sk_X509_push(certificates, certificate)) {
			X509_free(certificate);
			return -EINVAL;
		}
	}
	return 0;
}

/* DRY: they are judged, and nothing changes. */
static int take_certificates(struct store *store, const struct standing *standing, int64_t key,
                             const struct record *result, bool dry, struct error *err)
{
	struct candidates candidates = {
		.key = key,
		.requested = true,
		.result = result,
		.self_signed = strcmp(standing->request.action, "generate-self-signed") == 0,
		.certificates = sk_X509_new_null(),
	};
	int r = candidates.certificates ? 0 : -ENOMEM;

	if (r == 0 && record_get(result, "rejected"))
		r = error_set(err, -EINVAL, "%s", record_get(result, "rejected"));
	if (r == 0)
		r = read_certificates(result, "certificate", candidates.certificates, err);
	if (r == 0) /* what a CA publishes may have the intermediates */
		r = read_certificates(result, "next", candidates.certificates, err);
	if (r == 0 && record_get(result, "proven-by"))
		r = issuers_believed(store, standing, result, candidates.certificates,
		                     &candidates.anchors, err);
	if (r == 0)
		r = certificate_publish(store, &standing->object, &candidates, dry, err);
	if (r == 0 && !dry && candidates.anchors)
		r = issuers_keep(store, standing, candidates.anchors, err);
	sk_X509_pop_free(candidates.certificates, X509_free);
	sk_X509_pop_free(candidates.anchors, X509_free);
	return r;
}

int work_judge(struct store *store, const struct standing *standing, int64_t key,
               const struct record *record, struct error *rejected)
{
	int r = 0;

	if (record_find(record, "certificate") && strcmp(work_action(standing), "enroll") == 0)
		r = take_certificates(store, standing, key, record, true, rejected);
	return r < 0 && !rejected->code ? r : 0;
}

/* The CA has revoked it: its next CRL says so, and is asked for at once. */
static int revoked(struct store *store, const struct standing *standing)
{
	static const char text[] = "refresh-crl\n";
	struct error ignored = { 0 };
	int r = store_event(store, &standing->object, "revoked", NULL);

	if (r == 0)
		r = db_savepoint(store->db);
	if (r < 0)
		return r;
	if (request_accept(store, &standing->profile, text, sizeof text - 1, 0, false, &ignored) ==
	    0)
		return db_release(store->db);
	db_undo(store->db); /* there is no way to a CRL, or one is fetched already */
	return 0;
}

/* The answer to `next-ca`. */
static int take_next(struct store *store, const struct standing *standing,
                     const struct record *result, struct error *err)
{
	int r = rollover_take(store, &standing->object, result, err);

	return r == -ENOENT ? error_set(err, -EINVAL,
	                                "the CA names no other CA certificate than "
	                                "those that are known here")
	                    : r;
}

/* A next CA certificate that came with a certificate: what is wrong with it stops no renewal. */
int work_take_next(struct store *store, struct standing *standing, const struct record *result)
{
	struct error err = { 0 };
	int r = db_savepoint(store->db);

	if (r < 0)
		return r;
	r = strcmp(object_protocol(standing->config, standing->settings), "acme") == 0
	            ? rollover_take_chain(store, &standing->profile, result, &err)
	            : rollover_take(store, &standing->profile, result, &err);
	if (r < 0) {
		db_undo(store->db);
		if (err.code)
			log_info("profile %s: %s", standing->profile.name, err.text);
		return r == -ENOENT || err.code ? 0 : r;
	}
	r = db_release(store->db);
	return r < 0 ? r : db_object_get(store->db, standing->profile.id, &standing->profile);
}

/* What `refresh-crl` brought. */
static int take_crl(struct store *store, const struct standing *standing, struct crl_files *files,
                    const struct record *result, struct error *err)
{
	const char *source = record_get(result, "crl-source");
	const struct crl_arrival arrival = {
		.files = files, .result = result, .source = source ? source : "", .fetched = true
	};
	struct crl crl;
	int r = crl_arrive(store, &standing->object, &arrival, &crl, err);

	return r < 0 ? r : crl_refreshed(store, &standing->object, result, &crl);
}

int work_take(struct store *store, const struct standing *standing, int64_t key,
              struct crl_files *crl, const struct record *result, struct error *err)
{
	if (crl)
		return take_crl(store, standing, crl, result, err);
	if (strcmp(standing->request.action, "account-register") == 0)
		return 0;
	if (strcmp(standing->request.action, "account-rollover") == 0)
		return account_roll(store, &standing->object);
	if (strcmp(standing->request.action, "account-delete") == 0)
		return account_end(store, &standing->object);
	if (strcmp(standing->request.action, "next-ca") == 0)
		return take_next(store, standing, result, err);
	if (standing->object.kind == KIND_CA)
		return ca_fetched(store, &standing->object, result, err);
	if (strcmp(standing->request.action, "revoke") == 0)
		return revoked(store, standing);
	if (strcmp(standing->request.action, "generate-csr") == 0)
		return publish_csr(store, standing, key, result, err);
	return take_certificates(store, standing, key, result, false, err);
}
