/* Requests as users write them: what is asked, and what is done at once. */
#include "common/x509.h"
#include "pkifs/autoenroll.h"
#include "pkifs/crl.h"
#include "pkifs/jobs.h"
#include "pkifs/object.h"
#include "pkifs/request_part.h"
#include "pkifs/tunnel.h"
#include "pkifs/validate.h"
#include "pkifs/verify.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

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
	record_free(asked->found);
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

/* Keeps what is told of ANSWER, which goes, and of which R and ERR came. */
static int note_path(struct asked *asked, struct path_answer *answer, int r,
                     const struct error *err)
{
	int told;

	asked->found = record_new();
	told = asked->found ? verify_lines(answer, err, asked->found) : -ENOMEM;
	path_answer_clear(answer);
	return told < 0 ? told : r;
}

static int verify_ca_now(struct asked *asked, struct error *err)
{
	STACK_OF(X509) *certificates = NULL;
	bool clock_trusted = store_clock_trusted(asked->store);
	struct path_answer answer;
	X509 *ca;
	int r;

	if (!asked->edition.certificate.length)
		return error_set(err, -EINVAL, "there is no CA certificate to verify");
	r = certificates_read(asked->edition.certificate.data, asked->edition.certificate.length, 1,
	                      &certificates, err);
	if (r < 0)
		return r;
	ca = sk_X509_value(certificates, 0);
	r = validate_ca(ca, store_now(asked->store), clock_trusted,
	                record_is(asked->config, "allow-legacy", "yes"), err);
	path_of_anchor(ca, r == 0, clock_trusted, &answer);
	r = note_path(asked, &answer, r, err);
	sk_X509_pop_free(certificates, X509_free);
	return r;
}

static int verify_now(struct asked *asked, struct error *err)
{
	struct path_answer answer = { .failed = -1 };
	struct candidates candidates = { .key = asked->edition.key_pair, .answer = &answer };
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
	r = note_path(asked, &answer, r, err);
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
	{ "enroll", KIND_CA, request_can_ca_enroll, NULL },
	{ "next-ca", KIND_CA, request_can_next_ca, NULL },
	{ "refresh-crl", KIND_CA, request_can_refresh_crl, NULL },
	{ "unenroll", KIND_CA, NULL, unenroll_now },
	{ "clear-crl", KIND_CA, NULL, clear_crl_now },
	{ "verify", KIND_CA, NULL, verify_ca_now },
	{ "account-register", KIND_CA, request_can_account, NULL },
	{ "account-rollover", KIND_CA, request_can_account_known, NULL },
	{ "account-delete", KIND_CA, request_can_account_known, NULL },
	{ "generate-key-pair", KIND_LOCAL, request_can_key_pair, NULL },
	{ "generate-csr", KIND_LOCAL, request_can_csr, NULL },
	{ "generate-self-signed", KIND_LOCAL, request_can_self_signed, NULL },
	{ "enroll", KIND_LOCAL, request_can_enroll, NULL },
	{ "re-enroll", KIND_LOCAL, request_can_re_enroll, NULL },
	{ "verify", KIND_LOCAL, NULL, verify_now },
	{ "revoke", KIND_LOCAL, request_can_revoke, NULL },
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
	unsigned char *fields = NULL, *found = NULL;
	int r;

	r = record_encode(asked->fields, &fields, &request.fields.length);
	if (r == 0 && asked->found)
		r = record_encode(asked->found, &found, &request.resume.length);
	if (r == 0 && !(request.text.data = malloc(length + 1)))
		r = -ENOMEM;
	if (r < 0)
		goto out;
	request.fields.data = (char *)fields;
	request.resume.data = (char *)found;
	memcpy(request.text.data, text, length);
	request.text.length = length;
	snprintf(request.action, sizeof request.action, "%s", asked->action);
	snprintf(request.error, sizeof request.error, "%s", failure ? failure->text : "");
	request.created = request.changed = store_now(asked->store);
	request.profile = asked->object->kind == KIND_CA ? asked->object->id : asked->profile.id;
	r = db_request_add(asked->store->db, &request, &request.id);
	if (r == 0 && asked->store->writer)
		asked->store->writer->request = request.id;
	blob_clear(&request.text);
	if (r == 0)
		r = db_object_set_error(asked->store->db, asked->object->id,
		                        failure ? failure->text : "");
	if (r == 0 && strcmp(asked->action, "enroll") == 0)
		r = auto_enroll_asked(asked->store, asked->object->id);
	asked->store->due = true;
	if (r == 0 && state != REQUEST_QUEUED)
		r = event(asked);
out:
	OPENSSL_clear_free(fields, request.fields.length);
	OPENSSL_free(found);
	return r;
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
		r = error_set(err, -EINVAL, "%s is not supported by this version of pkifs",
		              asked.action);
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
