/*
 * A path as OpenSSL's verifier sees it. Its callback stands between: what it calls an error may be
 * a formality, the last second of a certificate (which counts, RFC 5280 §4.1.2.5), or a question of
 * revocation, which is not decided here but noted for each certificate.
 */
#include "common/x509.h"
#include "pkifs/path_part.h"
#include "pkifs/validate_part.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define CLOCK_SKEW      300 /* seconds that a CA's clock may be ahead of ours */
#define CRL_ISSUERS_MAX 8   /* whose CRLs one certificate may name */

struct verification {
	const struct path_question *question;
	struct path_answer *answer;
	X509_CRL *asked;             /* the one at hand: OpenSSL forgets it after a doubt */
	const X509_CRL *doubtful[2]; /* a complete CRL, its delta: does not prove what it says */
	int error;
	char whose[PRINTED_NAME], issuer[PRINTED_NAME];
	int64_t from, to;
};

/* Contexts that OpenSSL makes by itself, for those who signed CRLs, have the same store. */
static struct verification *verification_of(const X509_STORE_CTX *context)
{
	return X509_STORE_get_ex_data(X509_STORE_CTX_get0_store(context), 0);
}

/* Of OpenSSL's strict checks: what private CAs commonly leave out, and harms nobody. */
static bool is_formality(int error)
{
	return error == X509_V_ERR_MISSING_AUTHORITY_KEY_IDENTIFIER ||
	       error == X509_V_ERR_MISSING_SUBJECT_KEY_IDENTIFIER ||
	       error == X509_V_ERR_AUTHORITY_KEY_IDENTIFIER_CRITICAL ||
	       error == X509_V_ERR_SUBJECT_KEY_IDENTIFIER_CRITICAL ||
	       error == X509_V_ERR_CA_BCONS_NOT_CRITICAL ||
	       error == X509_V_ERR_EMPTY_SUBJECT_SAN_NOT_CRITICAL;
}

static bool is_lack_of_anchor(int error)
{
	return error == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT ||
	       error == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY ||
	       error == X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE ||
	       error == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT ||
	       error == X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN;
}

/* The CRL at hand says nothing that counts. */
static bool makes_doubtful(int error)
{
	return error == X509_V_ERR_UNABLE_TO_DECRYPT_CRL_SIGNATURE ||
	       error == X509_V_ERR_CRL_SIGNATURE_FAILURE ||
	       error == X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER ||
	       error == X509_V_ERR_KEYUSAGE_NO_CRL_SIGN ||
	       error == X509_V_ERR_CRL_PATH_VALIDATION_ERROR ||
	       error == X509_V_ERR_UNHANDLED_CRITICAL_CRL_EXTENSION ||
	       error == X509_V_ERR_DIFFERENT_CRL_SCOPE;
}

static bool is_of_crl(int error)
{
	return makes_doubtful(error) || error == X509_V_ERR_UNABLE_TO_GET_CRL ||
	       error == X509_V_ERR_CRL_NOT_YET_VALID || error == X509_V_ERR_CRL_HAS_EXPIRED ||
	       error == X509_V_ERR_ERROR_IN_CRL_LAST_UPDATE_FIELD ||
	       error == X509_V_ERR_ERROR_IN_CRL_NEXT_UPDATE_FIELD;
}

static void why_unknown(int error, const X509_CRL *crl, char *text, size_t size)
{
	char when[RFC3339_MAX];

	switch (error) {
	case X509_V_ERR_UNABLE_TO_GET_CRL:
		snprintf(text, size, "no CRL that covers it");
		return;
	case X509_V_ERR_CRL_HAS_EXPIRED:
		rfc3339(asn1_time_seconds(X509_CRL_get0_nextUpdate(crl)), when);
		snprintf(text, size, "the CRL was due for renewal at %s", when);
		return;
	case X509_V_ERR_CRL_NOT_YET_VALID:
		rfc3339(asn1_time_seconds(X509_CRL_get0_lastUpdate(crl)), when);
		snprintf(text, size, "the CRL is from the future (%s)", when);
		return;
	default:
		snprintf(text, size, "%s", X509_verify_cert_error_string(error));
	}
}

/* The first doubt is kept, but nothing that is revoked becomes doubtful again. */
static void note_unknown(struct path_revocation *revocation, int error, const X509_CRL *crl)
{
	if (revocation->state == PATH_REVOKED || revocation->state == PATH_UNKNOWN)
		return;
	revocation->state = PATH_UNKNOWN;
	why_unknown(error, crl, revocation->how, sizeof revocation->how);
}

/* Its number as status spells it, and until when it is GOOD for anything. */
static void describe_crl(X509_CRL *crl, bool good, char *text, size_t size)
{
	const ASN1_TIME *next = good ? X509_CRL_get0_nextUpdate(crl) : NULL;
	ASN1_INTEGER *number = X509_CRL_get_ext_d2i(crl, NID_crl_number, NULL, NULL);
	BIGNUM *value = number ? ASN1_INTEGER_to_BN(number, NULL) : NULL;
	char *decimal = value ? BN_bn2dec(value) : NULL, when[RFC3339_MAX] = "";

	if (next)
		rfc3339(asn1_time_seconds(next), when);
	snprintf(text, size, "CRL%s%.50s%s%s", decimal ? " " : "", decimal ? decimal : "",
	         next ? ", valid until " : "", when);
	OPENSSL_free(decimal);
	BN_free(value);
	ASN1_INTEGER_free(number);
}

static bool is_delta(const X509_CRL *crl)
{
	return X509_CRL_get_ext_by_NID(crl, NID_delta_crl, -1) >= 0;
}

static void note_revoked(struct path_revocation *revocation, X509_CRL *crl, X509 *certificate)
{
	ASN1_ENUMERATED *reason = NULL;
	X509_REVOKED *entry = NULL;

	revocation->state = PATH_REVOKED;
	revocation->reason = -1;
	describe_crl(crl, false, revocation->how, sizeof revocation->how);
	if (X509_CRL_get0_by_cert(crl, &entry, certificate) != 1 || !entry)
		return;
	revocation->time = asn1_time_seconds(X509_REVOKED_get0_revocationDate(entry));
	reason = X509_REVOKED_get_ext_d2i(entry, NID_crl_reason, NULL, NULL);
	if (reason)
		revocation->reason = (int)ASN1_ENUMERATED_get(reason);
	ASN1_ENUMERATED_free(reason);
}

/* A CRL's signer that is covered by its own CRL has no other to be asked (PKITS 4.14.30). */
static bool is_own_crl(X509_STORE_CTX *context)
{
	const X509_CRL *crl = X509_STORE_CTX_get0_current_crl(context);
	X509 *signer = X509_STORE_CTX_get_current_cert(context);

	return X509_STORE_CTX_get_error_depth(context) == 0 && crl && signer &&
	       X509_NAME_cmp(X509_CRL_get_issuer(crl), X509_get_subject_name(signer)) == 0;
}

/*
 * Revocation is noted where OpenSSL is in the path; an anchor is trusted as it is (§6.1). The path
 * of one who signed a CRL must hold in all.
 */
static int judge_revocation(struct verification *verification, X509_STORE_CTX *context, int error)
{
	X509_CRL *crl = verification->asked;
	int depth = X509_STORE_CTX_get_error_depth(context);
	bool of_anchor = depth + 1 == sk_X509_num(X509_STORE_CTX_get0_chain(context));
	struct path_revocation *revocation;

	if (X509_STORE_CTX_get0_parent_ctx(context))
		return of_anchor ||
		       (error == X509_V_ERR_CRL_PATH_VALIDATION_ERROR && is_own_crl(context));
	if (of_anchor || depth >= PATH_CERTIFICATES)
		return 1;
	revocation = &verification->answer->steps[depth].revocation;
	if (makes_doubtful(error))
		verification->doubtful[is_delta(crl)] = crl;
	if (error != X509_V_ERR_CERT_REVOKED)
		note_unknown(revocation, error, crl);
	else if (crl != verification->doubtful[is_delta(crl)])
		note_revoked(revocation, crl, X509_STORE_CTX_get_current_cert(context));
	return 1;
}

static bool is_forgiven(const struct verification *verification, int error, const X509 *certificate)
{
	const struct path_question *question = verification->question;

	if (error == X509_V_ERR_CA_CERT_MISSING_KEY_USAGE)
		return true; /* §6.1.4 (n), §6.3.3 (f): "if present" */
	if (is_formality(error))
		return question->tolerant;
	if (is_lack_of_anchor(error))
		return question->no_anchor;
	if (error == X509_V_ERR_CERT_HAS_EXPIRED && certificate)
		return asn1_time_seconds(X509_get0_notAfter(certificate)) == question->now;
	if (error == X509_V_ERR_CERT_NOT_YET_VALID && certificate && question->tolerant)
		return asn1_time_seconds(X509_get0_notBefore(certificate)) <=
		       question->now + CLOCK_SKEW;
	return false;
}

/* Keeps the first error that counts, with the certificate that it is about. */
static int judge_error(int good, X509_STORE_CTX *context)
{
	struct verification *verification = verification_of(context);
	int error = X509_STORE_CTX_get_error(context);
	X509 *certificate = X509_STORE_CTX_get_current_cert(context);
	char *issuer;

	if (good || is_forgiven(verification, error, certificate))
		return 1;
	if (is_of_crl(error) || error == X509_V_ERR_CERT_REVOKED)
		return judge_revocation(verification, context, error);
	if (X509_STORE_CTX_get0_parent_ctx(context))
		return 0;
	verification->error = error;
	verification->answer->failed = X509_STORE_CTX_get_error_depth(context);
	if (!certificate)
		return 0;
	subject_of(certificate, verification->whose);
	issuer = dn_text(X509_get_issuer_name(certificate));
	snprintf(verification->issuer, sizeof verification->issuer, "%s", issuer ? issuer : "?");
	free(issuer);
	verification->from = asn1_time_seconds(X509_get0_notBefore(certificate));
	verification->to = asn1_time_seconds(X509_get0_notAfter(certificate));
	return 0;
}

static int sentence(const struct verification *verification, struct error *err)
{
	const char *whose = *verification->whose ? verification->whose : "the certificate";
	char time[RFC3339_MAX];

	if (verification->error == X509_V_ERR_CERT_HAS_EXPIRED) {
		rfc3339(verification->to, time);
		return error_set(err, -EINVAL, "%s expired on %s", whose, time);
	}
	if (verification->error == X509_V_ERR_CERT_NOT_YET_VALID) {
		rfc3339(verification->from, time);
		return error_set(err, -EINVAL, "%s is not valid before %s", whose, time);
	}
	if (verification->error == X509_V_ERR_CERT_SIGNATURE_FAILURE)
		return error_set(err, -EINVAL, "the signature of %s under %s is wrong",
		                 verification->issuer, whose);
	if (is_lack_of_anchor(verification->error))
		return error_set(err, -EINVAL, "%s leads to no trusted CA: its issuer is %s%s",
		                 whose, verification->issuer,
		                 verification->question->purpose == PATH_OWN
		                         ? "; add the missing certificates, or set trust-store = "
		                           "system where the system trusts it"
		                         : "");
	return error_set(err, -EINVAL, "%s fails validation: %s", whose,
	                 X509_verify_cert_error_string(verification->error));
}

/* --- what is trusted --- */

/* The certificates in the system's file, read again when it is another one; few systems have it. */
static STACK_OF(X509_OBJECT) * system_file(void)
{
	static X509_STORE *kept;
	static struct stat as;
	struct stat now = { 0 };

	if (stat(X509_get_default_cert_file(), &now) < 0)
		now = (struct stat){ 0 };
	if (!kept || now.st_ino != as.st_ino || now.st_size != as.st_size ||
	    now.st_mtim.tv_sec != as.st_mtim.tv_sec || now.st_mtim.tv_nsec != as.st_mtim.tv_nsec) {
		X509_STORE_free(kept);
		kept = X509_STORE_new();
		as = now;
		if (kept && now.st_size)
			X509_STORE_load_file(kept, X509_get_default_cert_file());
	}
	return kept ? X509_STORE_get0_objects(kept) : NULL;
}

static bool add_system(X509_STORE *store)
{
	STACK_OF(X509_OBJECT) *objects = system_file();
	bool good = X509_STORE_load_path(store, X509_get_default_cert_dir());

	for (int i = 0; good && i < sk_X509_OBJECT_num(objects); i++) {
		X509 *certificate = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(objects, i));

		good = !certificate || X509_STORE_add_cert(store, certificate);
	}
	return good;
}

/* (The system's folder's usual loader would take its name from the environment.) */
X509_STORE *path_trust(const struct path_question *question, struct error *err)
{
	X509_STORE *store = X509_STORE_new();
	bool good = store;

	for (int i = 0; good && i < sk_X509_num(question->anchors); i++)
		good = X509_STORE_add_cert(store, sk_X509_value(question->anchors, i));
	if (good && question->system_store)
		good = add_system(store);
	if (good)
		return store;
	X509_STORE_free(store);
	error_openssl(err, -ENOMEM, "the trusted certificates cannot be gathered");
	return NULL;
}

/* --- CRLs --- */

/* A CRL without a number (§5.2.3) has no place in an order: nobody knows whether it is replayed. */
static bool is_usable(const struct path_question *question, const X509_CRL *crl)
{
	return question->allow_legacy || X509_CRL_get_ext_by_NID(crl, NID_crl_number, -1) >= 0;
}

/* Adds those of ISSUER to CRLS. */
static bool add_crls(const struct path_question *question, const X509_NAME *issuer,
                     STACK_OF(X509_CRL) * crls)
{
	STACK_OF(X509_CRL) *found = question->revocation.crls(question->revocation.user, issuer);
	X509_CRL *crl;
	bool good = true;

	while ((crl = sk_X509_CRL_shift(found))) {
		good = good && (!is_usable(question, crl) || sk_X509_CRL_push(crls, crl));
		if (!good || !is_usable(question, crl))
			X509_CRL_free(crl);
	}
	sk_X509_CRL_free(found);
	return good;
}

/* An indirect CRL (§4.2.1.13, cRLIssuer) is another's than the certificate's. */
static bool add_indirect(const struct path_question *question, const X509 *certificate,
                         STACK_OF(X509_CRL) * crls)
{
	CRL_DIST_POINTS *points =
		X509_get_ext_d2i(certificate, NID_crl_distribution_points, NULL, NULL);
	int asked = 0;
	bool good = true;

	for (int i = 0; i < sk_DIST_POINT_num(points); i++) {
		const GENERAL_NAMES *names = sk_DIST_POINT_value(points, i)->CRLissuer;

		for (int k = 0; good && k < sk_GENERAL_NAME_num(names); k++) {
			const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, k);

			if (name->type == GEN_DIRNAME && asked++ < CRL_ISSUERS_MAX)
				good = add_crls(question, name->d.directoryName, crls);
		}
	}
	CRL_DIST_POINTS_free(points);
	return good;
}

static STACK_OF(X509_CRL) * look_crls_up(const X509_STORE_CTX *context, const X509_NAME *issuer)
{
	const struct verification *verification = verification_of(context);
	const struct path_question *question = verification->question;
	const X509 *certificate = X509_STORE_CTX_get_current_cert(context);
	STACK_OF(X509_CRL) *crls = sk_X509_CRL_new_null();

	if (crls && question->revocation.crls && add_crls(question, issuer, crls) &&
	    (!certificate || add_indirect(question, certificate, crls)))
		return crls;
	sk_X509_CRL_pop_free(crls, X509_CRL_free);
	return NULL;
}

static X509_STORE_CTX_check_crl_fn check_crl; /* OpenSSL's own */
static X509_STORE_CTX_cert_crl_fn look_entry_up;

/* A complete CRL is checked first, then its delta; then the delta is asked, then the other. */
static int note_checked(X509_STORE_CTX *context, X509_CRL *crl)
{
	struct verification *verification = verification_of(context);

	if (!X509_STORE_CTX_get0_parent_ctx(context)) {
		verification->asked = crl;
		verification->doubtful[1] = NULL;
		if (!is_delta(crl))
			verification->doubtful[0] = NULL;
	}
	return check_crl(context, crl);
}

static bool is_over(const struct path_question *question, const X509_CRL *crl)
{
	const ASN1_TIME *next = X509_CRL_get0_nextUpdate(crl);

	return question->clock_trusted && next && asn1_time_seconds(next) <= question->now;
}

/*
 * Notes which CRL a certificate was looked up in; the newest word is a delta's, asked first. One
 * that is over, which OpenSSL asks as well, takes nobody off (2) its complete CRL any more.
 */
static int note_crl(X509_STORE_CTX *context, X509_CRL *crl, X509 *certificate)
{
	struct verification *verification = verification_of(context);
	struct path_answer *answer = verification->answer;
	int depth = X509_STORE_CTX_get_error_depth(context), found;
	bool over = is_over(verification->question, crl);

	if (!X509_STORE_CTX_get0_parent_ctx(context) && depth < PATH_CERTIFICATES) {
		struct path_revocation *revocation = &answer->steps[depth].revocation;

		verification->asked = crl;
		if (revocation->state == PATH_UNCHECKED && !*revocation->how && !over)
			describe_crl(crl, true, revocation->how, sizeof revocation->how);
	}
	found = look_entry_up(context, crl, certificate);
	return found == 2 && over ? 1 : found;
}

static bool is_by_crl(const struct path_question *question)
{
	return question->revocation.source == PATH_SOURCE_CRL ||
	       question->revocation.source == PATH_SOURCE_OCSP_THEN_CRL;
}

/* --- the verifier --- */

static unsigned long flags_of(const struct path_question *question)
{
	return X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_X509_STRICT | X509_V_FLAG_POLICY_CHECK |
	       X509_V_FLAG_TRUSTED_FIRST |
	       (question->clock_trusted ? 0 : X509_V_FLAG_NO_CHECK_TIME) |
	       (question->explicit_policy ? X509_V_FLAG_EXPLICIT_POLICY : 0) |
	       (question->inhibit_mapping ? X509_V_FLAG_INHIBIT_MAP : 0) |
	       (question->inhibit_any_policy ? X509_V_FLAG_INHIBIT_ANY : 0) |
	       (is_by_crl(question)
	                ? X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL |
	                          X509_V_FLAG_EXTENDED_CRL_SUPPORT | X509_V_FLAG_USE_DELTAS
	                : 0);
}

static bool add_policy(X509_VERIFY_PARAM *parameters, const ASN1_OBJECT *which)
{
	ASN1_OBJECT *policy = OBJ_dup(which);

	if (policy && X509_VERIFY_PARAM_add0_policy(parameters, policy))
		return true;
	ASN1_OBJECT_free(policy);
	return false;
}

/* Without any of the user's own, all policies will do: anyPolicy (§6.1.1 (c)). */
static bool add_policies(X509_VERIFY_PARAM *parameters, const struct path_question *question)
{
	if (sk_ASN1_OBJECT_num(question->policies) <= 0)
		return add_policy(parameters, OBJ_nid2obj(NID_any_policy));
	for (int i = 0; i < sk_ASN1_OBJECT_num(question->policies); i++)
		if (!add_policy(parameters, sk_ASN1_OBJECT_value(question->policies, i)))
			return false;
	return true;
}

/* What OpenSSL itself does with a CRL, as a store says that is nobody's yet. */
static bool know_openssl(X509_STORE_CTX *context, X509_STORE *store)
{
	if (check_crl)
		return true;
	if (!X509_STORE_CTX_init(context, store, NULL, NULL))
		return false;
	check_crl = X509_STORE_CTX_get_check_crl(context);
	look_entry_up = X509_STORE_CTX_get_cert_crl(context);
	X509_STORE_CTX_cleanup(context);
	return true;
}

static bool context_init(X509_STORE_CTX *context, X509_STORE *store, STACK_OF(X509) * untrusted,
                         struct verification *verification)
{
	const struct path_question *question = verification->question;
	X509_VERIFY_PARAM *parameters;

	if (!X509_STORE_set_ex_data(store, 0, verification) || !know_openssl(context, store))
		return false;
	X509_STORE_set_lookup_crls(store, look_crls_up);
	X509_STORE_set_check_crl(store, note_checked);
	X509_STORE_set_cert_crl(store, note_crl);
	if (!X509_STORE_CTX_init(context, store, question->leaf, untrusted))
		return false;
	X509_STORE_CTX_set_verify_cb(context, judge_error);
	parameters = X509_STORE_CTX_get0_param(context);
	X509_VERIFY_PARAM_set_depth(parameters, PATH_DEPTH);
	X509_VERIFY_PARAM_set_flags(parameters, flags_of(question));
	if (question->clock_trusted)
		X509_VERIFY_PARAM_set_time(parameters, (time_t)question->now);
	if (question->purpose == PATH_SERVER)
		X509_VERIFY_PARAM_set_purpose(parameters, X509_PURPOSE_SSL_SERVER);
	if (question->purpose == PATH_CLIENT)
		X509_VERIFY_PARAM_set_purpose(parameters, X509_PURPOSE_SSL_CLIENT);
	return add_policies(parameters, question);
}

int path_verify(const struct path_question *question, X509_STORE *store, STACK_OF(X509) * untrusted,
                struct path_answer *answer, struct error *err)
{
	struct verification verification = { .question = question, .answer = answer };
	X509_STORE_CTX *context = X509_STORE_CTX_new();
	STACK_OF(X509) *chain = NULL;
	int r = 0;

	if (!context || !context_init(context, store, untrusted, &verification))
		r = error_set(err, -ENOMEM, "out of memory");
	else if (X509_verify_cert(context) <= 0)
		r = verification.error ? sentence(&verification, err)
		                       : error_openssl(err, -EINVAL, "the path can't be verified");
	if (context)
		chain = X509_STORE_CTX_get0_chain(context);
	for (int i = 0; i < sk_X509_num(chain); i++)
		path_add_step(answer, sk_X509_value(chain, i));
	X509_STORE_CTX_free(context);
	X509_STORE_set_ex_data(store, 0, NULL);
	ERR_clear_error();
	return r;
}
