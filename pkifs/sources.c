#include "pkifs/sources.h"

#include "common/stubcrl.h"
#include "pkifs/crl.h"
#include "pkifs/ocsp.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Adds the CRLs of ISSUER that PROFILE knows to ALL. */
static bool add_crls(struct store *store, int64_t profile, const X509_NAME *issuer,
                     STACK_OF(X509_CRL) * all)
{
	STACK_OF(X509_CRL) *crls = crls_known(store, profile, issuer);
	bool whole = crls;

	while (whole && sk_X509_CRL_num(crls) > 0) {
		X509_CRL *crl = sk_X509_CRL_shift(crls);

		whole = sk_X509_CRL_push(all, crl);
		if (!whole)
			X509_CRL_free(crl);
	}
	sk_X509_CRL_pop_free(crls, X509_CRL_free);
	return whole;
}

static STACK_OF(X509_CRL) * crls_of(void *user, const X509_NAME *issuer)
{
	const struct sources *sources = user;
	struct object profile = { 0 };
	STACK_OF(X509_CRL) * all;

	if (sources->profile)
		return crls_known(sources->store, sources->profile, issuer);
	all = sk_X509_CRL_new_null();
	while (all && db_object_next(sources->store->db, KIND_CA, profile.id, &profile) == 0)
		if (!add_crls(sources->store, profile.id, issuer, all))
			break;
	return all;
}

static void verdict_of(void *user, X509 *certificate, X509 *issuer, struct path_revocation *verdict)
{
	(void)issuer;
	ocsp_verdict(user, certificate, verdict);
}

void sources_set(struct sources *sources, struct path_sources *set)
{
	static const struct {
		const char *word;
		enum path_source source;
	} words[] = { { "disable", PATH_SOURCE_OFF },
		      { "ocsp", PATH_SOURCE_OCSP },
		      { "ocsp-then-crl", PATH_SOURCE_OCSP_THEN_CRL } };

	set->source = PATH_SOURCE_CRL;
	for (size_t i = 0; i < COUNT(words); i++)
		if (record_is(sources->settings, "revocation-check", words[i].word))
			set->source = words[i].source;
	set->crls = crls_of;
	set->ocsp = verdict_of;
	set->user = sources;
}

/* "Revoked" was said of what could not be looked up (stub_crl_failures). */
static int tell_unreadable(struct path_answer *answer, int r, struct error *err)
{
	for (int i = 0; i < answer->count; i++) {
		struct path_revocation *known = &answer->steps[i].revocation;

		if (known->state != PATH_REVOKED || strncmp(known->how, "CRL", 3) != 0)
			continue;
		*known = (struct path_revocation){ .state = PATH_UNKNOWN, .reason = -1 };
		snprintf(known->how, sizeof known->how, "the CRL cannot be read");
		if (r == -EINVAL && answer->failed == i)
			error_set(err, r, "whether %s is revoked is not known: %s",
			          answer->steps[i].name, known->how);
	}
	return r;
}

/* The CA's CRLs that the path did not ask. */
static int look_beside(const struct sources *sources, struct path_answer *answer, int r,
                       struct error *err)
{
	for (int i = 0; sources->profile && i + 1 < answer->count; i++) {
		const struct path_step *step = &answer->steps[i];
		struct path_revocation *known = &answer->steps[i].revocation;
		enum path_state was = known->state;

		if (was == PATH_REVOKED)
			continue;
		crls_find(sources->store, sources->profile, step->certificate, known);
		if (known->state == was || (r < 0 && answer->failed < i))
			continue;
		answer->failed = i;
		r = known->state == PATH_REVOKED
		            ? error_set(err, -EINVAL, "%s is revoked (%s)", step->name, known->how)
		            : error_set(err, -EINVAL, "whether %s is revoked is not known: %s",
		                        step->name, known->how);
	}
	return r;
}

int sources_check(struct sources *sources, const struct path_question *question,
                  struct path_answer *answer, struct error *err)
{
	struct path_question asked = *question;
	uint64_t failures = stub_crl_failures();
	STACK_OF(X509) *untrusted =
		question->untrusted ? X509_chain_up_ref(question->untrusted) : sk_X509_new_null();
	int r = untrusted ? 0 : -ENOMEM;

	if (r == 0) /* who signs CRLs by a key of their own may stand in a path as well */
		r = crls_signers(sources->store, sources->profile, untrusted);
	if (r == 0) {
		asked.untrusted = untrusted;
		sources_set(sources, &asked.revocation);
		r = path_check(&asked, answer, err);
		if (stub_crl_failures() != failures)
			r = tell_unreadable(answer, r, err);
		if (asked.revocation.source != PATH_SOURCE_OFF &&
		    asked.revocation.source != PATH_SOURCE_OCSP)
			r = look_beside(sources, answer, r, err);
	}
	sk_X509_pop_free(untrusted, X509_free);
	return r;
}

bool sources_lack(const struct path_revocation *known)
{
	return known->state == PATH_UNKNOWN ||
	       (known->state == PATH_REVOKED &&
	        (known->reason < 0 || known->reason == CRL_REASON_CERTIFICATE_HOLD));
}

int sources_want(struct sources *sources, int64_t object, const struct path_answer *answer)
{
	struct path_sources set;
	int r = 0;

	sources_set(sources, &set);
	for (int i = 0; r == 0 && i + 1 < answer->count; i++) {
		X509 *certificate = answer->steps[i].certificate;
		X509 *issuer = answer->steps[i + 1].certificate;
		int64_t again;

		if (!sources_lack(&answer->steps[i].revocation))
			continue;
		if (set.source != PATH_SOURCE_CRL && set.source != PATH_SOURCE_OFF)
			r = ocsp_want(sources, object, certificate, issuer, &again, NULL);
		if (r == -ENOENT)
			r = 0;
		if (r == 0 && set.source != PATH_SOURCE_OCSP && set.source != PATH_SOURCE_OFF)
			r = crl_learn(sources->store, sources->profile, certificate, issuer);
	}
	return r;
}
