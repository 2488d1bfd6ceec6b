#include "pkifs/path_part.h"

#include "common/x509.h"
#include "pkifs/validate_part.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <string.h>

void path_answer_clear(struct path_answer *answer)
{
	for (int i = 0; i < answer->count; i++)
		X509_free(answer->steps[i].certificate);
	*answer = (struct path_answer){ .failed = -1 };
}

STACK_OF(X509) * path_issuers(const struct path_answer *answer)
{
	STACK_OF(X509) *issuers = sk_X509_new_null();

	for (int i = 1; issuers && i < answer->count; i++)
		if (!X509_add_cert(issuers, answer->steps[i].certificate, X509_ADD_FLAG_UP_REF)) {
			sk_X509_pop_free(issuers, X509_free);
			return NULL;
		}
	return issuers;
}

const char *path_reason_name(int reason)
{
	static const char *const names[] = {
		"unspecified",      "key compromise",
		"CA compromise",    "affiliation changed",
		"superseded",       "cessation of operation",
		"on hold",          "",
		"removed from CRL", "privilege withdrawn",
		"AA compromise",
	};

	return reason >= 0 && (size_t)reason < COUNT(names) ? names[reason] : "";
}

void path_add_step(struct path_answer *answer, X509 *certificate)
{
	struct path_step *step = &answer->steps[answer->count];

	if (answer->count == PATH_CERTIFICATES)
		return;
	X509_up_ref(certificate);
	step->certificate = certificate;
	subject_of(certificate, step->name);
	text_printable(step->name);
	answer->count++;
}

/* Signs CRLs, and says so. */
static bool is_crl_signer(X509 *certificate)
{
	return X509_get_extension_flags(certificate) & EXFLAG_KUSAGE &&
	       X509_get_key_usage(certificate) & KU_CRL_SIGN;
}

/* The certificates that may stand between leaf and anchor, or between a CRL and its CA. */
static STACK_OF(X509) * intermediates(STACK_OF(X509) * candidates)
{
	STACK_OF(X509) *found = sk_X509_new_null();

	for (int i = 0; found && i < sk_X509_num(candidates); i++) {
		X509 *certificate = sk_X509_value(candidates, i);

		if (check_issuer(certificate, true, NULL) == 0 ||
		    (is_crl_signer(certificate) && check_key(certificate, true, NULL) == 0))
			sk_X509_push(found, certificate);
	}
	ERR_clear_error();
	return found;
}

/* A self-signed certificate is its own path: OpenSSL leaves such a signature unread. */
static int check_self_signature(X509 *leaf, struct error *err)
{
	bool good;

	if (!(X509_get_extension_flags(leaf) & EXFLAG_SS))
		return 0;
	good = X509_verify(leaf, X509_get0_pubkey(leaf)) == 1;
	ERR_clear_error();
	return good ? 0 : error_set(err, -EINVAL, "the certificate's own signature is wrong");
}

static int check_leaf(const struct path_question *question, struct error *err)
{
	X509 *leaf = question->leaf;
	int r;

	r = check_readable(leaf, err);
	if (r == 0)
		r = check_time_order(leaf, err);
	if (r == 0)
		r = check_key(leaf, question->allow_legacy, err);
	if (r == 0)
		r = path_check_purpose(question, err);
	return r == 0 ? check_self_signature(leaf, err) : r;
}

/* The last one is the anchor, whose own signature decides nothing. */
static int check_chain(const struct path_question *question, struct path_answer *answer,
                       struct error *err)
{
	int r = 0;

	for (int i = 0; r == 0 && i < answer->count; i++) {
		X509 *certificate = answer->steps[i].certificate;

		if (i > 0)
			r = check_issuer(certificate, question->allow_legacy, err);
		if (r == 0 && (i == 0 || i < answer->count - 1))
			r = check_digest(certificate, question->allow_legacy, err);
		if (r < 0)
			answer->failed = i;
	}
	return r;
}

/* Intermediates that are self-issued do not count, as in a CA's own limit (§4.2.1.9). */
static int check_depth(const struct path_question *question, struct path_answer *answer,
                       struct error *err)
{
	int depth = 0;

	for (int i = 1; question->has_depth && i < answer->count - 1; i++) {
		if (X509_get_extension_flags(answer->steps[i].certificate) & EXFLAG_SI)
			continue;
		if (++depth > question->depth) {
			answer->failed = i;
			return error_set(err, -EINVAL,
			                 "%s is one more than the %d intermediate certificates "
			                 "allowed",
			                 answer->steps[i].name, question->depth);
		}
	}
	return 0;
}

/* What OCSP says of a certificate, beside what CRLs do. */
static void ask_ocsp(const struct path_question *question, struct path_answer *answer, int i)
{
	struct path_revocation *known = &answer->steps[i].revocation;
	struct path_revocation told = { .state = PATH_UNKNOWN, .reason = -1 };

	if (!question->revocation.ocsp)
		snprintf(told.how, sizeof told.how, "there is nobody to ask");
	else
		question->revocation.ocsp(question->revocation.user, answer->steps[i].certificate,
		                          answer->steps[i + 1].certificate, &told);
	if (known->state == PATH_REVOKED ||
	    (told.state == PATH_UNKNOWN && question->revocation.source != PATH_SOURCE_OCSP))
		return;
	*known = told;
}

/* Where no CRL was wanted, found or out of date, and none had it, OpenSSL found it good. */
static int check_revocation(const struct path_question *question, struct path_answer *answer,
                            struct error *err)
{
	const struct path_sources *sources = &question->revocation;

	for (int i = 0; sources->source != PATH_SOURCE_OFF && i < answer->count - 1; i++) {
		struct path_step *step = &answer->steps[i];

		if (sources->source != PATH_SOURCE_OCSP && step->revocation.state == PATH_UNCHECKED)
			step->revocation.state = PATH_GOOD;
		if (sources->source != PATH_SOURCE_CRL)
			ask_ocsp(question, answer, i);
	}
	for (int i = 0; sources->source != PATH_SOURCE_OFF && i < answer->count - 1; i++) {
		const struct path_step *step = &answer->steps[i];
		char when[RFC3339_MAX] = "";

		answer->failed = i;
		if (step->revocation.state == PATH_REVOKED) {
			if (step->revocation.time > 0)
				rfc3339(step->revocation.time, when);
			return error_set(err, -EINVAL, "%s is revoked%s%s%s%s (%s)", step->name,
			                 *when ? " since " : "", when,
			                 *path_reason_name(step->revocation.reason) ? ", " : "",
			                 path_reason_name(step->revocation.reason),
			                 step->revocation.how);
		}
		if (step->revocation.state == PATH_UNKNOWN && !sources->accept_unknown)
			return error_set(err, -EINVAL, "whether %s is revoked is not known: %s",
			                 step->name, step->revocation.how);
	}
	answer->failed = -1;
	return 0;
}

int path_attempt(const struct path_question *question, X509_STORE *store,
                 STACK_OF(X509) * untrusted, struct path_answer *answer, struct error *err)
{
	int r;

	r = path_verify(question, store, untrusted, answer, err);
	if (r == 0)
		r = check_chain(question, answer, err);
	if (r == 0)
		r = path_check_forms(question, answer, err);
	if (r == 0)
		r = path_check_constraints(question, answer, err);
	if (r == 0)
		r = check_depth(question, answer, err);
	answer->sound = r == 0;
	if (r == 0)
		r = check_revocation(question, answer, err);
	return r;
}

/* No other path makes a certificate good that its issuer has revoked. */
static bool is_revoked(const struct path_answer *answer)
{
	return answer->count && answer->failed == 0 &&
	       answer->steps[0].revocation.state == PATH_REVOKED;
}

int path_check(const struct path_question *question, struct path_answer *answer, struct error *err)
{
	STACK_OF(X509) *untrusted = intermediates(question->untrusted);
	X509_STORE *store = NULL;
	int r;

	*answer = (struct path_answer){ .failed = 0 };
	r = untrusted ? check_leaf(question, err) : error_set(err, -ENOMEM, "out of memory");
	if (r == 0)
		r = path_check_name(question, err);
	if (r == 0) {
		store = path_trust(question, err);
		r = store ? path_attempt(question, store, untrusted, answer, err) : -ENOMEM;
	}
	if (r == -EINVAL && store && !is_revoked(answer))
		r = path_try_others(question, store, untrusted, answer, err);
	if (answer->count == 0)
		path_add_step(answer, question->leaf);
	path_describe(question, answer);
	X509_STORE_free(store);
	sk_X509_free(untrusted);
	ERR_clear_error();
	return r;
}
