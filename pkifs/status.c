/* How everything is: `status` of an object, of all, as JSON, and the line of `wait`. */
#include "common/x509.h"
#include "db/checksum.h"
#include "pkifs/account.h"
#include "pkifs/autoenroll.h"
#include "pkifs/content.h"
#include "pkifs/crl.h"
#include "pkifs/declare.h"
#include "pkifs/dnsrecord.h"
#include "pkifs/keyring.h"
#include "pkifs/object.h"
#include "pkifs/publish.h"
#include "pkifs/renewal.h"
#include "pkifs/rollover.h"
#include "pkifs/tunnel.h"
#include "pkifs/watch.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* A certificate id's or profile's row in the table of all. */
struct summary {
	const char *state;
	int64_t not_after;
	char request[24];
};

static void add_time(struct record *status, const char *key, int64_t seconds)
{
	char text[RFC3339_MAX];

	if (!seconds)
		return;
	rfc3339(seconds, text);
	record_add(status, key, text);
}

static bool is_over(const struct store *store, int64_t not_after)
{
	return not_after && not_after < store_now(store) && store_clock_trusted(store);
}

const char *state_now(const struct store *store, const char *state, int64_t not_after)
{
	return is_over(store, not_after) ? "expired" : state;
}

/* What a request found that was done at once. */
static int add_found(const struct request *request, struct record *status)
{
	struct record *found = NULL;
	int r = 0;

	if (strcmp(request->action, "verify") == 0)
		r = record_decode((const unsigned char *)request->resume.data,
		                  request->resume.length, &found);
	if (found)
		record_append(status, found);
	record_free(found);
	return r;
}

static int add_request(struct store *store, const struct object *object, struct record *status)
{
	struct request request;
	int r = db_request_get(store->db, object->id, &request);

	if (r == -ENOENT) {
		record_add(status, "request", "none");
		return 0;
	}
	if (r < 0)
		return r;
	record_add(status, "request", request_state_name(request.state));
	record_add(status, "action", request.action);
	if (request.state == REQUEST_WAITING) {
		record_add(status, "next-action", request.pending ? "poll the CA" : "try again");
		add_time(status, "next-action-at", request.next_attempt);
		record_add_number(status, "attempts", request.attempts);
	}
	r = add_found(&request, status);
	request_clear(&request);
	return r;
}

static X509 *first_certificate(const struct blob *pem)
{
	STACK_OF(X509) *certificates = NULL;
	X509 *first = NULL;

	if (pem->length && certificates_read(pem->data, pem->length, 50, &certificates, NULL) == 0)
		first = sk_X509_shift(certificates);
	sk_X509_pop_free(certificates, X509_free);
	return first;
}

static int add_crl(struct store *store, const struct object *object, const struct edition *edition,
                   struct record *status)
{
	struct crl crl;
	int r;

	if (!edition->crl)
		return crl_describe(store, object, edition, status);
	r = db_crl_get(store->db, edition->crl, &crl);
	if (r < 0)
		return r;
	if (*crl.number)
		record_add(status, "crl-number", crl.number);
	add_time(status, "crl-this-update", crl.this_update);
	add_time(status, "crl-next-update", crl.next_update);
	record_add_number(status, "crl-entries", crl.entries);
	record_add(status, "crl-source", crl.source);
	return crl_describe(store, object, edition, status);
}

static int add_profile(struct store *store, const struct object *object, struct record *status,
                       struct summary *summary)
{
	struct edition edition;
	X509 *ca;
	int r = db_edition_get(store->db, object->edition, &edition);

	if (r < 0)
		return r;
	ca = first_certificate(&edition.certificate);
	if (ca) {
		certificate_describe(ca, status);
		summary->not_after = asn1_time_seconds(X509_get0_notAfter(ca));
		record_add(status, "trusted-by", edition.trusted_by);
		summary->state = state_now(store, summary->state, summary->not_after);
		rollover_describe(store, &edition, ca, status);
	}
	if (edition.pending.length)
		record_add(status, "pending", "a CA certificate waits for `confirm`");
	if (*edition.capabilities)
		record_add(status, "capabilities", edition.capabilities);
	account_status(store, object, status);
	dns_records_status(object, status);
	keyring_status(object, status);
	r = add_crl(store, object, &edition, status);
	if (r == 0)
		r = crl_fetch_describe(store, object->id, status);
	X509_free(ca);
	edition_clear(&edition);
	return r;
}

static int add_certificate(struct store *store, const struct object *object,
                           const struct edition *edition, struct record *status,
                           struct summary *summary)
{
	struct version version;
	struct record *facts = NULL;
	char revocation[256] = "";
	int r = db_version_get(store->db, edition->version, &version);

	if (r == 0)
		r = record_decode((const unsigned char *)version.facts.data, version.facts.length,
		                  &facts);
	if (r < 0) {
		version_clear(&version);
		return r;
	}
	record_append(status, facts);
	if (watch_tell(store, object, revocation, sizeof revocation) == 1)
		summary->state = "revoked";
	summary->not_after = version.not_after;
	summary->state = state_now(store, summary->state, version.not_after);
	record_add(status, "revocation", revocation);
	record_add(status, "trust", version.anchor);
	record_add_number(status, "version", version.number);
	if (!record_get(status, "next-action")) {
		record_add(status, "next-action", "expire");
		add_time(status, "next-action-at", version.not_after);
	}
	record_free(facts);
	version_clear(&version);
	return 0;
}

static int add_keys(struct store *store, const struct edition *edition, struct record *status)
{
	struct key_pair key;
	int r = 0;

	if (edition->key_pair && !edition->version) {
		r = db_key_get(store->db, edition->key_pair, &key);
		if (r == 0)
			record_add(status, "key", key.type);
		key_pair_clear(&key);
	}
	if (r == 0 && edition->next_key) {
		r = db_key_get(store->db, edition->next_key, &key);
		if (r == 0)
			record_add(status, "next-key", key.type);
		key_pair_clear(&key);
	}
	return r;
}

static int add_local(struct store *store, const struct object *object, struct record *status,
                     struct summary *summary)
{
	struct object profile = { 0 };
	struct edition edition;
	int r = db_edition_get(store->db, object->edition, &edition);

	if (r < 0)
		return r;
	r = add_keys(store, &edition, status);
	on_change_status(store, object, status);
	if (!record_get(status, "next-action") &&
	    auto_enroll_waits(store, object, &edition, &profile))
		record_addf(status, "next-action", "enroll as soon as profile %s is trusted",
		            profile.name);
	if (r == 0 && edition.version)
		r = renewal_describe(store, object, status);
	if (r == 0 && edition.version)
		r = add_certificate(store, object, &edition, status, summary);
	edition_clear(&edition);
	return r;
}

/* The keys that pkifs.conf has of it. */
static int add_declared(struct store *store, const struct object *object, struct record *status)
{
	struct record *keys = NULL;
	char names[512] = "";
	size_t used = 0;
	int r = declared_keys(store, object, &keys);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	for (size_t i = 0; i < record_count(keys) && used < sizeof names; i++) {
		const char *name = record_field(keys, i)->key;

		if (i == 0 || strcmp(name, record_field(keys, i - 1)->key) != 0)
			used += (size_t)snprintf(names + used, sizeof names - used, "%s%s",
			                         used ? " " : "", name);
	}
	record_add(status, "declared", names);
	record_free(keys);
	return 0;
}

/* All of `status`; the caller owns *STATUS. */
static int describe(struct store *store, const struct object *object, struct record **status,
                    struct summary *summary)
{
	struct record *more = record_new();
	char doubt[CLOCK_DOUBT_MAX];
	int64_t since = object->since;
	int r = -ENOMEM;

	*status = record_new();
	*summary = (struct summary){ .state = object->state };
	if (*status && more)
		r = add_request(store, object, more);
	if (r == 0)
		r = object->kind == KIND_CA      ? add_profile(store, object, more, summary)
		    : object->kind == KIND_LOCAL ? add_local(store, object, more, summary)
		                                 : tunnel_status(store, object, more);
	if (r == 0)
		r = add_declared(store, object, more);
	if (r == 0 && strcmp(summary->state, "expired") == 0)
		since = summary->not_after;
	if (r == 0) {
		record_add(*status, "state", summary->state);
		add_time(*status, "since", since);
		record_add(*status, "last-error", object->last_error);
		record_append(*status, more);
		if (store_clock_doubt(store, doubt, sizeof doubt))
			record_add(*status, "clock", doubt);
		snprintf(summary->request, sizeof summary->request, "%s",
		         record_get(more, "request"));
		if (record_failed(*status))
			r = -ENOMEM;
	}
	record_free(more);
	if (r < 0) {
		record_free(*status);
		*status = NULL;
	}
	return r;
}

int status_record(struct store *store, const struct object *object, struct record **status)
{
	struct summary summary;

	return describe(store, object, status, &summary);
}

/* One line, whatever is in the value: some of it came from a CA. */
static int add_line(struct content *content, const struct field *field)
{
	char *value = strdup(field->value), *quoted;
	int r = -ENOMEM;

	if (value)
		text_printable(value);
	quoted = value && *value ? record_quote(value) : value;
	if (quoted)
		r = content_addf(content, "%s =%s%s\n", field->key, *quoted ? " " : "", quoted);
	if (quoted != value)
		free(quoted);
	free(value);
	return r;
}

int make_status(struct store *store, const struct node *node, struct content *content)
{
	struct record *status = NULL;
	struct summary summary;
	int r = describe(store, &node->object, &status, &summary);

	for (size_t i = 0; r == 0 && i < record_count(status); i++)
		r = add_line(content, record_field(status, i));
	content->time = store_now(store);
	record_free(status);
	return r;
}

/* It says something that changes when the certificate ends. */
static void changes_at(struct store *store, struct content *content, int64_t not_after)
{
	if (not_after >= store_now(store) && not_after < content->until)
		content->until = not_after + 1;
}

static int add_row(struct store *store, struct content *content, enum kind kind, const char *name,
                   const struct summary *summary, const char *last_error)
{
	char expiry[RFC3339_MAX] = "-";

	changes_at(store, content, summary->not_after);
	if (summary->not_after)
		rfc3339(summary->not_after, expiry);
	expiry[10] = 0; /* the day is enough here */
	return content_addf(content, "%-6s %-24s %-12s %-9s %-11s %s\n", kind_name(kind), name,
	                    summary->state, summary->request, expiry, last_error);
}

static int add_object_row(struct store *store, const struct object *object, struct content *content)
{
	struct record *status = NULL;
	struct summary summary;
	int r = describe(store, object, &status, &summary);

	if (r == 0)
		r = add_row(store, content, object->kind, object->name, &summary,
		            object->last_error);
	record_free(status);
	return r;
}

struct rows {
	struct store *store;
	struct content *content;
};

/* Without all that `status` of a certificate id says: there may be very many. */
static int add_local_row(const struct overview *row, void *user)
{
	const struct rows *rows = user;
	struct summary summary = { .not_after = row->not_after };

	summary.state = state_now(rows->store, row->state, row->not_after);
	snprintf(summary.request, sizeof summary.request, "%s", request_state_name(row->request));
	return add_row(rows->store, rows->content, KIND_LOCAL, row->name, &summary,
	               row->last_error);
}

/* Calls ADD for each object, profiles first. */
static int for_all(struct store *store, struct content *content, const enum kind kind,
                   int (*add)(struct store *, const struct object *, struct content *))
{
	struct object object = { 0 };
	int r = 0;

	while (r == 0 && (r = db_object_next(store->db, kind, object.id, &object)) == 0)
		r = add(store, &object, content);
	return r == -ENOENT ? 0 : r;
}

/* What is wrong with the store itself, or NULL. */
static const char *notice(const struct store *store)
{
	if (checksum_bad_page())
		return "a part of this store was changed on its disk and cannot be read: put a "
		       "backup back";
	return store->shared->older ? OLDER : NULL;
}

#define TABLE_SECONDS 60 /* what a CRL's age does to it is seen then */

static bool is_fresh(const struct store *store, const struct table *table)
{
	int64_t now = store_now(store);

	return table->text && table->changes == store->changes && table->notice == notice(store) &&
	       now >= table->made && now < table->until;
}

int table_make(struct store *store, struct table *table, struct content *content,
               int (*make)(struct store *store, struct content *content))
{
	struct content new = { .until = store_now(store) + TABLE_SECONDS };
	struct snapshot *text;
	int r = 0;

	if (!is_fresh(store, table)) {
		table->made = store_now(store);
		r = make(store, &new);
		table->until = new.until;
		text = r == 0 ? snapshot_take(&new) : NULL;
		content_clear(&new);
		if (!text)
			return r < 0 ? r : -ENOMEM;
		snapshot_drop(table->text);
		table->text = text;
		table->changes = store->changes;
		table->notice = notice(store);
	}
	table->text->users++;
	content->shared = table->text;
	content->text = table->text->text;
	content->length = table->text->length;
	content->time = table->made;
	return 0;
}

static int make_rows(struct store *store, struct content *content)
{
	struct rows rows = { .store = store, .content = content };
	int r = content_addf(content, "%-6s %-24s %-12s %-9s %-11s %s\n", "KIND", "NAME", "STATE",
	                     "REQUEST", "NOT-AFTER", "LAST-ERROR");

	if (r == 0)
		r = for_all(store, content, KIND_CA, add_object_row);
	if (r == 0)
		r = db_overview(store->db, add_local_row, &rows);
	if (r == 0)
		r = for_all(store, content, KIND_IPSEC, add_object_row);
	return r == 0 && notice(store) ? content_addf(content, "# %s\n", notice(store)) : r;
}

int make_status_all(struct store *store, const struct node *node, struct content *content)
{
	static struct table table;

	(void)node;
	return table_make(store, &table, content, make_rows);
}

/* Keys may repeat: then the value is a list. */
static int add_member(json_t *json, const struct field *field)
{
	json_t *value = json_stringn(field->value, field->length), *old, *list;

	if (!value) /* no valid UTF-8 */
		value = json_string("?");
	old = json_object_get(json, field->key);
	if (!old)
		return json_object_set_new(json, field->key, value);
	if (json_is_array(old))
		return json_array_append_new(old, value);
	list = json_array();
	json_array_append(list, old);
	json_array_append_new(list, value);
	return json_object_set_new(json, field->key, list);
}

static int add_json(struct store *store, const struct object *object, struct content *content)
{
	struct record *status = NULL;
	struct summary summary;
	json_t *json = json_object();
	char *text = NULL;
	int r = json ? describe(store, object, &status, &summary) : -ENOMEM;

	if (r == 0)
		changes_at(store, content, summary.not_after);
	if (r == 0 && record_find(status, "packets-in"))
		content->until = store_now(store) + COUNTERS_SECONDS;
	if (r == -EIO) { /* one that cannot be read hides no other */
		json_object_set_new(json, "last-error", json_string("cannot be read"));
		r = 0;
	}
	if (r == 0)
		json_object_set_new(json, "name", json_string(object->name));
	for (size_t i = 0; r == 0 && status && i < record_count(status); i++)
		if (add_member(json, record_field(status, i)) < 0)
			r = -ENOMEM;
	if (r == 0 && !(text = json_dumps(json, JSON_COMPACT | JSON_PRESERVE_ORDER)))
		r = -ENOMEM;
	if (r == 0)
		r = content_addf(content, "%s%s",
		                 content->text[content->length - 1] == '[' ? "" : ",\n", text);
	free(text);
	json_decref(json);
	record_free(status);
	return r;
}

static int make_objects(struct store *store, struct content *content)
{
	int r = content_addf(content, "{\"ca\":[");

	if (r == 0)
		r = for_all(store, content, KIND_CA, add_json);
	if (r == 0)
		r = content_addf(content, "],\n\"local\":[");
	if (r == 0)
		r = for_all(store, content, KIND_LOCAL, add_json);
	if (r == 0)
		r = content_addf(content, "],\n\"ipsec\":[");
	if (r == 0)
		r = for_all(store, content, KIND_IPSEC, add_json);
	if (r == 0)
		r = content_addf(content, "]");
	if (r == 0 && notice(store))
		r = content_addf(content, ",\n\"notice\":\"%s\"", notice(store));
	return r == 0 ? content_addf(content, "}\n") : r;
}

int make_status_json(struct store *store, const struct node *node, struct content *content)
{
	static struct table table;

	(void)node;
	return table_make(store, &table, content, make_objects);
}

int make_wait_line(struct store *store, int64_t object, struct content *content)
{
	struct request request;
	int r = db_request_get(store->db, object, &request);

	if (r == -ENOENT)
		return content_addf(content, "none\n");
	if (r < 0)
		return r;
	if (request.state == REQUEST_DONE)
		r = content_addf(content, "ok\n");
	else if (!request_active(&request) || (!request.answered && *request.error))
		r = content_addf(content, "failed: %s\n", request.error);
	else
		r = -EAGAIN;
	request_clear(&request);
	return r;
}
