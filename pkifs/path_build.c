/*
 * Other paths than the one that OpenSSL finds. It follows names and key identifiers, takes the
 * first issuer that fits and never turns back: a certificate that only looks like an issuer would
 * hide the real one, and a cross certificate the path that holds. Here a step is taken only where
 * the signature is right, and each path that leads to an anchor is judged, while the budget lasts:
 * what strangers send must not cost more than they spend.
 */
#include "common/x509.h"
#include "pkifs/path_part.h"
#include "pkifs/validate_part.h"

#include <errno.h>
#include <openssl/err.h>

#define SIGNATURES_MAX 32
#define PATHS_MAX      4

struct walk {
	const struct path_question *question;
	X509_STORE_CTX *trust; /* finds who is trusted by name */
	STACK_OF(X509) * untrusted;
	STACK_OF(X509) * path; /* from the leaf's issuer on; no references */
	int signatures, paths;
	struct path_answer *answer;
	struct error *err;
	int r;
};

/* Names first: a signature is only read where all else fits. */
static bool issued(struct walk *walk, X509 *issuer, X509 *certificate)
{
	if (X509_check_issued(issuer, certificate) != X509_V_OK ||
	    check_issuer(issuer, walk->question->allow_legacy, NULL) < 0 ||
	    walk->signatures >= SIGNATURES_MAX)
		return false;
	walk->signatures++;
	return X509_verify(certificate, X509_get0_pubkey(issuer)) == 1;
}

/* A CA that is in the path already, in this certificate or in another, leads in a circle. */
static bool is_in_path(const struct walk *walk, const X509 *ca)
{
	for (int i = 0; i < sk_X509_num(walk->path); i++) {
		const X509 *other = sk_X509_value(walk->path, i);

		if (X509_NAME_cmp(X509_get_subject_name(other), X509_get_subject_name(ca)) == 0 &&
		    EVP_PKEY_eq(X509_get0_pubkey(other), X509_get0_pubkey(ca)) == 1)
			return true;
	}
	return false;
}

/* OpenSSL takes the first that fits: the path's come before the others, which may sign CRLs. */
static STACK_OF(X509) * path_and_others(const struct walk *walk)
{
	STACK_OF(X509) *all = sk_X509_dup(walk->path);

	for (int i = 0; all && i < sk_X509_num(walk->untrusted); i++)
		if (!X509_add_cert(all, sk_X509_value(walk->untrusted, i), X509_ADD_FLAG_NO_DUP)) {
			sk_X509_free(all);
			return NULL;
		}
	return all;
}

/* Judges the path to ANCHOR. The first one's reason is told where none holds. */
static void judge_path(struct walk *walk, X509 *anchor)
{
	STACK_OF(X509) *untrusted = path_and_others(walk);
	X509_STORE *store = X509_STORE_new();
	struct path_answer answer = { .failed = -1 };
	struct error err = { 0 };
	int r = -ENOMEM;

	if (untrusted && store && X509_STORE_add_cert(store, anchor))
		r = path_attempt(walk->question, store, untrusted, &answer, &err);
	if (r == 0 || (r == -EINVAL && walk->paths == 0)) {
		path_answer_clear(walk->answer);
		*walk->answer = answer;
		error_set(walk->err, err.code, "%s", err.text);
		walk->r = r;
	} else {
		path_answer_clear(&answer);
	}
	walk->paths++;
	X509_STORE_free(store);
	sk_X509_free(untrusted);
}

static bool is_over(const struct walk *walk)
{
	return walk->r == 0 || walk->paths >= PATHS_MAX || walk->signatures >= SIGNATURES_MAX;
}

static void climb(struct walk *walk, X509 *certificate)
{
	STACK_OF(X509) *trusted =
		X509_STORE_CTX_get1_certs(walk->trust, X509_get_issuer_name(certificate));

	for (int i = 0; i < sk_X509_num(trusted) && !is_over(walk); i++)
		if (issued(walk, sk_X509_value(trusted, i), certificate))
			judge_path(walk, sk_X509_value(trusted, i));
	sk_X509_pop_free(trusted, X509_free);
	for (int i = 0; i < sk_X509_num(walk->untrusted) && !is_over(walk); i++) {
		X509 *issuer = sk_X509_value(walk->untrusted, i);

		if (sk_X509_num(walk->path) >= PATH_DEPTH || is_in_path(walk, issuer) ||
		    !issued(walk, issuer, certificate) || !sk_X509_push(walk->path, issuer))
			continue;
		climb(walk, issuer);
		sk_X509_pop(walk->path);
	}
}

int path_try_others(const struct path_question *question, X509_STORE *store,
                    STACK_OF(X509) * untrusted, struct path_answer *answer, struct error *err)
{
	struct walk walk = {
		.question = question,
		.trust = X509_STORE_CTX_new(),
		.untrusted = untrusted,
		.path = sk_X509_new_null(),
		.answer = answer,
		.err = err,
		.r = -EINVAL,
	};

	if (walk.trust && walk.path && X509_STORE_CTX_init(walk.trust, store, NULL, NULL))
		climb(&walk, question->leaf);
	X509_STORE_CTX_free(walk.trust);
	sk_X509_free(walk.path);
	ERR_clear_error();
	return walk.r;
}
