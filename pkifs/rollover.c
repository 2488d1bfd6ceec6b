#include "pkifs/rollover.h"

#include "common/log.h"
#include "common/x509.h"
#include "pkifs/object.h"
#include "pkifs/prover.h"
#include "pkifs/renewal.h"
#include "pkifs/validate.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define DAY        86400
#define NEAR_MAX   (90 * DAY)
#define NEAR       10 /* the part of its lifetime in which a CA certificate is near its end */
#define ASK_PART   8  /* of what is left then, until the CA is asked again */
#define ASK_MIN    5
#define FORMER_MAX 16

/* What `next_by` says besides `confirm` and `ca-fingerprint`. */
#define REFUSED "refused"

/* A profile's CA certificates. */
struct generation {
	struct edition edition;
	STACK_OF(X509) * known; /* the one in force, its issuers, those that went before */
	STACK_OF(X509) * next;  /* the next one, its RAs and issuers */
	X509 *ca;               /* of KNOWN; NULL: none */
};

static void generation_clear(struct generation *g)
{
	edition_clear(&g->edition);
	sk_X509_pop_free(g->known, X509_free);
	sk_X509_pop_free(g->next, X509_free);
}

/* Reads what PROFILE has; the caller clears it. */
static int generation_get(struct store *store, const struct object *profile, struct generation *g)
{
	int r;

	*g = (struct generation){ .known = sk_X509_new_null(), .next = sk_X509_new_null() };
	r = db_edition_get(store->db, profile->edition, &g->edition);
	if (r == 0 && (!g->known || !g->next))
		r = -ENOMEM;
	if (r == 0)
		r = blob_certificates(&g->edition.certificate, g->known);
	if (r == 0)
		g->ca = sk_X509_value(g->known, 0);
	if (r == 0)
		r = blob_certificates(&g->edition.chain, g->known);
	if (r == 0)
		r = blob_certificates(&g->edition.former, g->known);
	if (r == 0 && !rollover_is_refused(&g->edition))
		r = blob_certificates(&g->edition.next, g->next);
	return r;
}

bool rollover_waits(const struct edition *edition)
{
	return edition->next.length && !*edition->next_by;
}

bool rollover_is_refused(const struct edition *edition)
{
	return edition->next.length && strcmp(edition->next_by, REFUSED) == 0;
}

static int64_t begins(const X509 *certificate)
{
	return asn1_time_seconds(X509_get0_notBefore(certificate));
}

static int64_t ends(const X509 *certificate)
{
	return asn1_time_seconds(X509_get0_notAfter(certificate));
}

static int64_t less(int64_t one, int64_t other)
{
	return one < other ? one : other;
}

/* --- when --- */

/* When CA is near its end. */
static int64_t near_end(const X509 *ca)
{
	return ends(ca) - less((ends(ca) - begins(ca)) / NEAR, NEAR_MAX);
}

/* The next one may take over, when its time has come. */
static X509 *successor(const struct generation *g)
{
	return rollover_waits(&g->edition) ? NULL : sk_X509_value(g->next, 0);
}

static bool can_ask(const struct record *settings, const struct edition *edition)
{
	if (!record_get(settings, "enrollment-url") || !edition->certificate.length)
		return false;
	return record_is(settings, "protocol", "est") || record_is(settings, "protocol", "cmpv2") ||
	       (record_is(settings, "protocol", "scep") &&
	        (!*edition->capabilities || /* it was loaded by hand: who knows */
	         strcasestr(edition->capabilities, "GetNextCACert")));
}

static bool wants_to_ask(struct store *store, const struct object *profile,
                         const struct generation *g)
{
	struct record *settings = NULL;
	struct object prover;
	bool wants = !g->edition.next.length && ends(g->ca) > store_now(store) &&
	             store_settings(store, profile, &settings) == 0 &&
	             can_ask(settings, &g->edition) &&
	             (!record_is(settings, "protocol", "cmpv2") ||
	              prover_find(store, profile, &prover) == 0);

	record_free(settings);
	return wants;
}

/* When it is to be asked again, at the end more often. */
static int64_t ask_again(struct store *store, const X509 *ca)
{
	int64_t now = store_now(store), wait = less((ends(ca) - now) / ASK_PART, DAY);

	return now + (wait < ASK_MIN ? ASK_MIN : wait);
}

int rollover_plan(struct store *store, const struct object *object, struct next_action *action)
{
	struct generation g;
	int64_t at = INT64_MAX;
	int r = generation_get(store, object, &g);

	if (r == 0 && g.ca && successor(&g))
		at = less(at, begins(successor(&g)));
	if (r == 0 && g.ca && !action->failures)
		at = less(at, near_end(g.ca));
	else if (r == 0 && g.ca && wants_to_ask(store, object, &g))
		at = less(at, ask_again(store, g.ca));
	if (r == 0 && g.edition.former.length)
		at = less(at, store_now(store) + DAY);
	action->at = at == INT64_MAX ? ACTION_NONE : at <= ACTION_PLAN ? ACTION_PLAN + 1 : at;
	action->profile = object->id;
	generation_clear(&g);
	return r;
}

/* --- the take-over --- */

/* What went before is kept as PEM: the one in force and its issuers first, each once, and none
 * that is in force again. */
static int keep_former(const struct generation *g, STACK_OF(X509) * new, struct blob *blob)
{
	STACK_OF(X509) *former = sk_X509_new_null();
	int r = former ? 0 : -ENOMEM;

	for (int i = 0; r == 0 && i < sk_X509_num(g->known); i++) {
		X509 *certificate = sk_X509_value(g->known, i);

		if (!certificate_is_in(certificate, new) && sk_X509_num(former) < FORMER_MAX &&
		    !X509_add_cert(former, certificate,
		                   X509_ADD_FLAG_UP_REF | X509_ADD_FLAG_NO_DUP))
			r = -ENOMEM;
	}
	if (r == 0)
		r = certificates_blob(former, blob);
	sk_X509_pop_free(former, X509_free);
	return r;
}

/* The RAs of the next one, or its issuers. */
static int part_of_next(const struct generation *g, bool authorities, struct blob *blob)
{
	STACK_OF(X509) *part = sk_X509_new_null();
	int r = part ? 0 : -ENOMEM;

	for (int i = 1; r == 0 && i < sk_X509_num(g->next); i++) {
		X509 *certificate = sk_X509_value(g->next, i);
		bool authority = X509_check_ca(certificate) != 0;

		if (authority == authorities && !sk_X509_push(part, certificate))
			r = -ENOMEM;
	}
	if (r == 0)
		r = certificates_blob(part, blob);
	sk_X509_free(part);
	return r;
}

/* Who has taken over. */
static int tell(struct store *store, const struct object *profile, const char *name,
                const X509 *certificate, const char *key, const char *value)
{
	struct record *more = record_new();
	int r = -ENOMEM;

	if (more) {
		certificate_describe(certificate, more);
		if (key)
			record_add(more, key, value);
		r = store_event(store, profile, name, more);
	}
	record_free(more);
	return r;
}

static int take_over(struct store *store, const struct object *profile, struct generation *g)
{
	struct edition *edition = &g->edition;
	X509 *next = sk_X509_value(g->next, 0);
	STACK_OF(X509) *one = sk_X509_new_null();
	int r = one && sk_X509_push(one, next) ? 0 : -ENOMEM;

	if (r == 0)
		r = keep_former(g, g->next, &edition->former);
	if (r == 0)
		r = certificates_blob(one, &edition->certificate);
	if (r == 0)
		r = part_of_next(g, true, &edition->chain);
	if (r == 0)
		r = part_of_next(g, false, &edition->ra);
	if (X509_NAME_cmp(X509_get_subject_name(next), X509_get_subject_name(g->ca)) != 0)
		edition->crl = 0; /* another issuer's */
	memcpy(edition->trusted_by, edition->next_by, sizeof edition->trusted_by);
	*edition->next_by = 0;
	blob_clear(&edition->next);
	if (r == 0)
		r = store_clock_floor(store, begins(next));
	if (r == 0)
		r = edition_publish(store, profile, edition);
	if (r == 0)
		r = tell(store, profile, "rollover", next, "trusted-by", edition->trusted_by);
	sk_X509_free(one);
	return r;
}

/* Its time has come. */
static bool is_due(struct store *store, const struct generation *g)
{
	X509 *next = successor(g);

	return next && g->ca && store_clock_trusted(store) && begins(next) <= store_now(store);
}

/* Takes over what may and is due, as of now. */
static int follow(struct store *store, int64_t id)
{
	struct object profile;
	struct generation g = { 0 };
	int r = db_object_get(store->db, id, &profile);

	if (r == 0)
		r = generation_get(store, &profile, &g);
	if (r == 0 && is_due(store, &g))
		r = take_over(store, &profile, &g);
	else if (r == 0)
		r = renewal_plan_again(store, id);
	generation_clear(&g);
	return r;
}

/* --- what went before --- */

static int is_needed(struct store *store, X509 *certificate, bool *needed)
{
	STACK_OF(X509) *one = sk_X509_new_null();
	struct blob pem = { 0 };
	int64_t count = 0;
	int r = one && sk_X509_push(one, certificate) ? certificates_blob(one, &pem) : -ENOMEM;

	*needed = false;
	if (r == 0 && (!store_clock_trusted(store) || ends(certificate) >= store_now(store)))
		r = db_version_chained(store->db, &pem, &count);
	*needed = count > 0;
	blob_clear(&pem);
	sk_X509_free(one);
	return r;
}

/* Those that have ended, or that no certificate in force has in its chain, are anchors no more. */
static int drop_former(struct store *store, const struct object *profile, struct generation *g)
{
	STACK_OF(X509) *all = sk_X509_new_null(), *left = sk_X509_new_null();
	int r = all && left ? blob_certificates(&g->edition.former, all) : -ENOMEM;

	for (int i = 0; r == 0 && i < sk_X509_num(all); i++) {
		X509 *certificate = sk_X509_value(all, i);
		bool needed;

		r = is_needed(store, certificate, &needed);
		if (r == 0 && needed && !sk_X509_push(left, certificate))
			r = -ENOMEM;
		else if (r == 0 && !needed)
			r = tell(store, profile, "former-ca-dropped", certificate, NULL, NULL);
	}
	if (r == 0 && sk_X509_num(left) < sk_X509_num(all)) {
		r = certificates_blob(left, &g->edition.former);
		if (r == 0)
			r = edition_publish(store, profile, &g->edition);
	}
	sk_X509_free(left);
	sk_X509_pop_free(all, X509_free);
	return r;
}

/* --- what is due --- */

static int tell_of_end(struct store *store, const struct object *profile, const X509 *ca)
{
	struct record *more = record_new();
	char time[RFC3339_MAX];
	int r = -ENOMEM;

	if (more) {
		rfc3339(ends(ca), time);
		record_add(more, "not-after", time);
		r = store_event(store, profile, "ca-ends", more);
	}
	record_free(more);
	return r;
}

/* A request of a user, or one that is still under way, comes first. */
static int ask(struct store *store, const struct object *profile)
{
	struct request request = { 0 };
	int r = db_request_get(store->db, profile->id, &request);
	bool busy = r == 0 && request_active(&request);

	request_clear(&request);
	if (busy || (r < 0 && r != -ENOENT))
		return busy ? 0 : r;
	r = request_by_itself(store, profile, "next-ca\n");
	return r < 0 ? r : 0;
}

int rollover_go(struct store *store, const struct object *object)
{
	struct generation g = { 0 };
	struct next_action action;
	struct object profile = *object;
	int r = db_action_get(store->db, object->id, &action);

	if (r == 0)
		r = generation_get(store, object, &g);
	if (r == 0 && is_due(store, &g)) {
		r = take_over(store, object, &g);
		goto out;
	}
	if (r == 0 && g.edition.former.length)
		r = drop_former(store, object, &g);
	if (r == 0)
		r = db_object_get(store->db, object->id, &profile);
	if (r == 0 && g.ca && store_now(store) >= near_end(g.ca)) {
		if (!action.failures)
			r = tell_of_end(store, &profile, g.ca);
		action.failures = 1;
		if (r == 0 && wants_to_ask(store, &profile, &g))
			r = ask(store, &profile);
	}
	if (r == 0)
		r = db_action_set(store->db, object->id, &action);
	if (r == 0)
		r = renewal_plan_again(store, object->id);
out:
	generation_clear(&g);
	return r;
}

/* --- what a CA says --- */

static int read_ders(const struct record *result, const char *key, STACK_OF(X509) * *certificates,
                     struct error *err)
{
	const struct field *field;
	size_t index = 0;

	*certificates = sk_X509_new_null();
	while (*certificates && (field = record_next(result, key, &index))) {
		X509 *certificate = certificate_from_der(field->value, field->length, err);

		if (!certificate || sk_X509_num(*certificates) >= CERTIFICATES_MAX ||
		    !sk_X509_push(*certificates, certificate)) {
			X509_free(certificate);
			return error_set(err, -EINVAL,
			                 "the CA sent a next certificate that can't be read");
		}
	}
	return *certificates ? 0 : -ENOMEM;
}

/* Who vouches for NEXT; "" where it waits for `confirm`. */
static const char *voucher(struct store *store, const struct record *settings, X509 *ca, X509 *next,
                           STACK_OF(X509) * bundle, const struct record *result)
{
	bool legacy = record_is(settings, "allow-legacy", "yes");
	int64_t now = store_now(store);
	bool trusted = store_clock_trusted(store);
	const struct field *answer = record_find(result, "next-answer");

	if (ca_is_expected(settings, next, NULL) == 1)
		return "ca-fingerprint";
	if (answer && rollover_answer_vouches(answer, ca, next, legacy) &&
	    validate_ca(ca, now, trusted, legacy, NULL) == 0)
		return ROLLOVER_BY_CA;
	if (vouches_for(ca, next, bundle, now, trusted, legacy))
		return ROLLOVER_BY_CA;
	return "";
}

/* Whether BY for NEXT says more than what is kept. */
static bool is_news(const struct generation *g, X509 *next, const char *by)
{
	STACK_OF(X509) *kept = sk_X509_new_null();
	bool same;

	if (!kept || blob_certificates(&g->edition.next, kept) < 0 || !sk_X509_num(kept)) {
		sk_X509_pop_free(kept, X509_free);
		return true;
	}
	same = X509_cmp(sk_X509_value(kept, 0), next) == 0;
	sk_X509_pop_free(kept, X509_free);
	if (rollover_is_refused(&g->edition))
		return !same;
	/* nobody's word against somebody's */
	return *by ? !same || !*g->edition.next_by : !same && !*g->edition.next_by;
}

static int keep_next(struct store *store, const struct object *profile, struct generation *g,
                     X509 *next, const char *by)
{
	char time[RFC3339_MAX];
	int r;

	snprintf(g->edition.next_by, sizeof g->edition.next_by, "%s", by);
	rfc3339(begins(next), time);
	r = edition_publish(store, profile, &g->edition);
	if (r == 0)
		r = tell(store, profile, "next-ca", next, *by ? "takes-over" : "waits-for",
		         *by ? time : "confirm");
	return r < 0 ? r : follow(store, profile->id);
}

static int take(struct store *store, const struct object *profile, struct generation *g,
                STACK_OF(X509) * bundle, const struct record *result, struct error *err)
{
	STACK_OF(X509) *ra = NULL, *issuers = NULL;
	struct record *settings = NULL;
	X509 *next = NULL;
	const char *by = NULL;
	int r = store_settings(store, profile, &settings);

	if (r == 0)
		r = sort_next_ca(bundle, g->known, record_is(result, "next-announced", "yes"),
		                 &next, &ra, &issuers, err);
	if (r == 0)
		r = validate_ca(next, store_now(store), store_clock_trusted(store),
		                record_is(settings, "allow-legacy", "yes"), err);
	if (r == 0) {
		by = voucher(store, settings, g->ca, next, bundle, result);
		if (is_news(g, next, by))
			r = ca_bundle(next, ra, issuers, &g->edition.next);
		else
			by = NULL;
	}
	if (r == 0 && by)
		r = keep_next(store, profile, g, next, by);
	record_free(settings);
	X509_free(next);
	sk_X509_pop_free(ra, X509_free);
	sk_X509_pop_free(issuers, X509_free);
	return r;
}

int rollover_take(struct store *store, const struct object *profile, const struct record *result,
                  struct error *err)
{
	STACK_OF(X509) *bundle = NULL;
	struct generation g;
	int r = generation_get(store, profile, &g);

	if (r == 0 && (!g.ca || !record_find(result, "next")))
		r = -ENOENT;
	if (r == 0)
		r = read_ders(result, "next", &bundle, err);
	if (r == 0)
		r = take(store, profile, &g, bundle, result, err);
	sk_X509_pop_free(bundle, X509_free);
	generation_clear(&g);
	return r;
}

/* Moves the CA certificates of ALL to BUNDLE; 1 where one of ALL is known, or issued by one that
 * is.
 */
static int above_unknown(const struct generation *g, STACK_OF(X509) * all, STACK_OF(X509) * bundle)
{
	for (int i = 0; i < sk_X509_num(all); i++) {
		X509 *certificate = sk_X509_value(all, i);

		if (certificate_issuer(certificate, g->known) ||
		    certificate_is_in(certificate, g->known))
			return 1;
		if (X509_check_ca(certificate) &&
		    !X509_add_cert(bundle, certificate, X509_ADD_FLAG_UP_REF))
			return -ENOMEM;
	}
	return sk_X509_num(bundle) ? 0 : 1;
}

int rollover_take_chain(struct store *store, const struct object *profile,
                        const struct record *result, struct error *err)
{
	STACK_OF(X509) *all = NULL, *bundle = sk_X509_new_null();
	struct record *announced = record_new();
	struct generation g;
	int r = generation_get(store, profile, &g);

	if (r == 0 && (!bundle || !announced))
		r = -ENOMEM;
	if (r == 0 && g.ca)
		r = read_ders(result, "certificate", &all, err);
	if (r == 0)
		r = g.ca ? above_unknown(&g, all, bundle) : 1;
	if (r == 0) {
		record_add(announced, "next-announced", "yes");
		r = take(store, profile, &g, bundle, announced, err);
	}
	ERR_clear_error();
	record_free(announced);
	sk_X509_pop_free(all, X509_free);
	sk_X509_pop_free(bundle, X509_free);
	generation_clear(&g);
	return r == 1 ? -ENOENT : r;
}

/* --- `confirm` --- */

int rollover_confirm(struct store *store, const struct object *profile, bool no)
{
	struct edition edition;
	int r = db_edition_get(store->db, profile->edition, &edition);

	if (r < 0)
		return r;
	snprintf(edition.next_by, sizeof edition.next_by, "%s", no ? REFUSED : "confirm");
	r = edition_publish(store, profile, &edition);
	if (r == 0)
		r = store_event(store, profile, no ? "refused" : "trusted", NULL);
	edition_clear(&edition);
	return r < 0 ? r : follow(store, profile->id);
}

/* --- what is told --- */

static void add_subject(struct record *status, const char *key, const X509 *certificate)
{
	char *subject = dn_text(X509_get_subject_name(certificate)), time[RFC3339_MAX];

	rfc3339(ends(certificate), time);
	record_addf(status, key, "%s, until %s", subject ? subject : "?", time);
	free(subject);
}

static void describe_next(const struct edition *edition, struct record *status)
{
	STACK_OF(X509) *next = sk_X509_new_null();
	char text[FINGERPRINT_MAX], time[RFC3339_MAX];
	unsigned char *der = NULL;
	size_t length;

	if (next && !rollover_is_refused(edition) && blob_certificates(&edition->next, next) == 0 &&
	    sk_X509_num(next) && certificate_to_der(sk_X509_value(next, 0), &der, &length) == 0 &&
	    fingerprint(EVP_sha256(), der, length, text) == 0) {
		add_subject(status, "next-ca", sk_X509_value(next, 0));
		record_add(status, "next-ca-fingerprint-sha256", text);
		rfc3339(begins(sk_X509_value(next, 0)), time);
		record_add(status, "next-ca-takes-over", time);
		if (rollover_waits(edition))
			record_add(status, "next-ca-waits",
			           "for `confirm` with its fingerprint: the CA certificate in "
			           "force does not vouch for it");
		else
			record_add(status, "next-ca-trusted-by", edition->next_by);
	}
	OPENSSL_free(der);
	sk_X509_pop_free(next, X509_free);
}

void rollover_describe(const struct store *store, const struct edition *edition, const X509 *ca,
                       struct record *status)
{
	STACK_OF(X509) *former = sk_X509_new_null();
	int64_t now = store_now(store);

	describe_next(edition, status);
	if (former && blob_certificates(&edition->former, former) == 0)
		for (int i = 0; i < sk_X509_num(former); i++)
			add_subject(status, "former-ca", sk_X509_value(former, i));
	sk_X509_pop_free(former, X509_free);
	if (now < near_end(ca) || now > ends(ca) || (edition->next.length && *edition->next_by))
		return;
	record_add(status, "warning",
	           "the CA certificate nears its end, and with it all that it signed: enroll "
	           "fetches the next one beside it");
}
