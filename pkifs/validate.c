#include "pkifs/validate_part.h"

#include "common/x509.h"
#include "pkifs/path.h"

#include <errno.h>
#include <openssl/err.h>

#define JUDGED_MAX 8 /* certificates for one key in one answer */

/* Judges one candidate that has the right key. *CHAIN is the caller's, and ANSWER in any case. */
static int judge(const struct expectation *expectation, X509 *leaf, STACK_OF(X509) * candidates,
                 STACK_OF(X509) * *chain, struct path_answer *answer, struct record *differences,
                 struct error *err)
{
	const struct path_question question = {
		.leaf = leaf,
		.untrusted = candidates,
		.anchors = expectation->anchors,
		.system_store = expectation->system_store,
		.no_anchor = !expectation->require_anchor,
		.now = expectation->now,
		.clock_trusted = expectation->clock_trusted,
		.purpose = PATH_OWN,
		.allow_ca = expectation->allow_ca,
		.allow_legacy = expectation->allow_legacy,
		.tolerant = true,
		.revocation = expectation->revocation,
	};
	int r;

	r = path_check(&question, answer, err);
	if (r == 0) {
		r = check_names(expectation, leaf, differences, err);
		if (r < 0)
			answer->failed = 0;
	}
	if (r == 0) {
		*chain = path_issuers(answer);
		r = *chain ? 0 : error_set(err, -ENOMEM, "out of memory");
	}
	return r;
}

/* Of two certificates that pass, the later one. */
static bool is_later(const X509 *one, const X509 *other)
{
	return asn1_time_seconds(X509_get0_notBefore(one)) >
	       asn1_time_seconds(X509_get0_notBefore(other));
}

/* What one candidate came to. */
struct verdict {
	int r;
	X509 *leaf;
	STACK_OF(X509) * chain;
	struct path_answer answer;
	struct record *differences;
	struct error err;
};

static void verdict_clear(struct verdict *verdict)
{
	X509_free(verdict->leaf);
	sk_X509_pop_free(verdict->chain, X509_free);
	path_answer_clear(&verdict->answer);
	record_free(verdict->differences);
	*verdict = (struct verdict){ 0 };
}

/* The latest that passes is the best; where none passes, the first refusal is told. */
static bool is_better(const struct verdict *new, const struct verdict *old)
{
	if (old->r == -ENOENT)
		return true;
	return new->r == 0 && (old->r < 0 || is_later(new->leaf, old->leaf));
}

static void judge_candidate(const struct expectation *expectation, X509 *certificate,
                            STACK_OF(X509) * candidates, struct verdict *best)
{
	struct verdict new = { .differences = record_new() };

	if (!new.differences)
		return;
	X509_up_ref(certificate);
	new.leaf = certificate;
	new.r = judge(expectation, certificate, candidates, &new.chain, &new.answer,
	              new.differences, &new.err);
	if (is_better(&new, best)) {
		verdict_clear(best);
		*best = new;
	} else {
		verdict_clear(&new);
	}
}

int validate_own(const struct expectation *expectation, STACK_OF(X509) * candidates, X509 **leaf,
                 STACK_OF(X509) * *chain, struct record *differences, struct error *err)
{
	struct verdict best = { .r = -ENOENT };
	int judged = 0, r;

	error_set(&best.err, -ENOENT, "none of the certificates is for the key asked for");
	for (int i = 0; i < sk_X509_num(candidates) && judged < JUDGED_MAX; i++) {
		X509 *certificate = sk_X509_value(candidates, i);
		EVP_PKEY *key = X509_get0_pubkey(certificate);

		if (!key || EVP_PKEY_eq(key, expectation->key) != 1)
			continue;
		judged++;
		judge_candidate(expectation, certificate, candidates, &best);
	}
	ERR_clear_error();
	r = best.r;
	if (differences && best.differences)
		record_append(differences, best.differences);
	if (r == 0) {
		*leaf = best.leaf;
		*chain = best.chain;
		best.leaf = NULL;
		best.chain = NULL;
	} else {
		error_set(err, r, "%s", best.err.text);
	}
	if (expectation->answer) {
		path_answer_clear(expectation->answer);
		*expectation->answer = best.answer;
		best.answer = (struct path_answer){ 0 };
	}
	verdict_clear(&best);
	return r;
}
