#include "pkifs/validate_part.h"

#include "common/x509.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PATH_DEPTH 10
#define CLOCK_SKEW 300 /* seconds that a CA's clock may be ahead of ours */
#define JUDGED_MAX 8   /* certificates for one key in one answer */

/* Purposes of which one is enough: TLS server and client, and the three of IKE (RFC 4945
 * §5.1.3.12 and what came before it). */
static bool is_our_purpose(const ASN1_OBJECT *purpose)
{
	static const char *const ike[] = { "1.3.6.1.5.5.7.3.17", "1.3.6.1.5.5.7.3.5",
		                           "1.3.6.1.5.5.7.3.6", "1.3.6.1.5.5.7.3.7",
		                           "1.3.6.1.5.5.8.2.2" };
	int nid = OBJ_obj2nid(purpose);
	char oid[80];

	if (nid == NID_server_auth || nid == NID_client_auth || nid == NID_anyExtendedKeyUsage)
		return true;
	OBJ_obj2txt(oid, sizeof oid, purpose, 1);
	for (size_t i = 0; i < COUNT(ike); i++)
		if (strcmp(oid, ike[i]) == 0)
			return true;
	return false;
}

static int check_usages(X509 *certificate, struct error *err)
{
	EXTENDED_KEY_USAGE *purposes;
	bool fits = false;

	if (!(X509_get_key_usage(certificate) &
	      (KU_DIGITAL_SIGNATURE | KU_NON_REPUDIATION | KU_KEY_ENCIPHERMENT | KU_KEY_AGREEMENT)))
		return error_set(err, -EINVAL,
		                 "the certificate's key usage fits neither server, client nor IKE: "
		                 "it allows no signature and no key exchange");
	purposes = X509_get_ext_d2i(certificate, NID_ext_key_usage, NULL, NULL);
	for (int i = 0; i < sk_ASN1_OBJECT_num(purposes); i++)
		fits = fits || is_our_purpose(sk_ASN1_OBJECT_value(purposes, i));
	if (!purposes)
		fits = true;
	EXTENDED_KEY_USAGE_free(purposes);
	return fits ? 0
	            : error_set(err, -EINVAL,
	                        "the certificate's extended key usage fits neither server, "
	                        "client nor IKE");
}

/* --- the path --- */

/* What the callback below needs. */
struct path {
	const struct expectation *expectation;
	int error, depth;
	char whose[PRINTED_NAME], issuer[PRINTED_NAME];
	int64_t from, to;
};

static int path_index = -1;

/* Of OpenSSL's strict checks: what private CAs commonly leave out, and harms nobody. */
static bool is_formality(int error)
{
	return error == X509_V_ERR_MISSING_AUTHORITY_KEY_IDENTIFIER ||
	       error == X509_V_ERR_MISSING_SUBJECT_KEY_IDENTIFIER ||
	       error == X509_V_ERR_AUTHORITY_KEY_IDENTIFIER_CRITICAL ||
	       error == X509_V_ERR_SUBJECT_KEY_IDENTIFIER_CRITICAL ||
	       error == X509_V_ERR_CA_BCONS_NOT_CRITICAL ||
	       error == X509_V_ERR_CA_CERT_MISSING_KEY_USAGE ||
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

/* Keeps the first error that counts, with the certificate that it is about. */
static int judge_error(int good, X509_STORE_CTX *context)
{
	struct path *path = X509_STORE_CTX_get_ex_data(context, path_index);
	int error = X509_STORE_CTX_get_error(context);
	X509 *certificate = X509_STORE_CTX_get_current_cert(context);
	char *issuer;

	if (good || is_formality(error) ||
	    (is_lack_of_anchor(error) && !path->expectation->require_anchor))
		return 1;
	if (error == X509_V_ERR_CERT_NOT_YET_VALID && certificate &&
	    asn1_time_seconds(X509_get0_notBefore(certificate)) <=
	            path->expectation->now + CLOCK_SKEW)
		return 1;
	path->error = error;
	path->depth = X509_STORE_CTX_get_error_depth(context);
	if (!certificate)
		return 0;
	subject_of(certificate, path->whose);
	issuer = dn_text(X509_get_issuer_name(certificate));
	snprintf(path->issuer, sizeof path->issuer, "%s", issuer ? issuer : "?");
	free(issuer);
	path->from = asn1_time_seconds(X509_get0_notBefore(certificate));
	path->to = asn1_time_seconds(X509_get0_notAfter(certificate));
	return 0;
}

static int path_sentence(const struct path *path, struct error *err)
{
	char time[RFC3339_MAX];

	if (path->error == X509_V_ERR_CERT_HAS_EXPIRED) {
		rfc3339(path->to, time);
		return error_set(err, -EINVAL, "%s expired on %s", path->whose, time);
	}
	if (path->error == X509_V_ERR_CERT_NOT_YET_VALID) {
		rfc3339(path->from, time);
		return error_set(err, -EINVAL, "%s is not valid before %s", path->whose, time);
	}
	if (path->error == X509_V_ERR_CERT_SIGNATURE_FAILURE)
		return error_set(err, -EINVAL, "the signature of %s under %s is wrong",
		                 path->issuer, path->whose);
	if (is_lack_of_anchor(path->error))
		return error_set(err, -EINVAL,
		                 "%s leads to no trusted CA: its issuer is %s; add the missing "
		                 "certificates, or set trust-store = system where the system "
		                 "trusts it",
		                 path->whose, path->issuer);
	return error_set(err, -EINVAL, "%s fails validation: %s",
	                 *path->whose ? path->whose : "the certificate",
	                 X509_verify_cert_error_string(path->error));
}

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

/*
 * Trust: the anchors, and the system's folder where it is asked for. (Its usual loader would
 * take the folder's name from the environment.)
 */
static int trust_store(const struct expectation *expectation, X509_STORE **store, struct error *err)
{
	X509_STORE *new = X509_STORE_new();
	bool good = new;

	for (int i = 0; good && i < sk_X509_num(expectation->anchors); i++)
		good = X509_STORE_add_cert(new, sk_X509_value(expectation->anchors, i));
	if (good && expectation->system_store)
		good = add_system(new);
	if (good) {
		*store = new;
		return 0;
	}
	X509_STORE_free(new);
	return error_openssl(err, -ENOMEM, "the trusted certificates cannot be gathered");
}

/* The candidates that may stand in a path. */
static STACK_OF(X509) * intermediates(STACK_OF(X509) * candidates)
{
	STACK_OF(X509) *found = sk_X509_new_null();

	for (int i = 0; found && i < sk_X509_num(candidates); i++) {
		X509 *certificate = sk_X509_value(candidates, i);

		if (check_issuer(certificate, true, NULL) == 0)
			sk_X509_push(found, certificate);
	}
	ERR_clear_error();
	return found;
}

static int context_init(X509_STORE_CTX *context, X509_STORE *store, X509 *leaf,
                        STACK_OF(X509) * untrusted, struct path *path)
{
	X509_VERIFY_PARAM *parameters;

	if (path_index < 0)
		path_index = X509_STORE_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	if (!X509_STORE_CTX_init(context, store, leaf, untrusted) ||
	    !X509_STORE_CTX_set_ex_data(context, path_index, path))
		return -ENOMEM;
	X509_STORE_CTX_set_verify_cb(context, judge_error);
	parameters = X509_STORE_CTX_get0_param(context);
	X509_VERIFY_PARAM_set_depth(parameters, PATH_DEPTH);
	X509_VERIFY_PARAM_set_flags(parameters,
	                            X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_X509_STRICT);
	if (path->expectation->clock_trusted)
		X509_VERIFY_PARAM_set_time(parameters, (time_t)path->expectation->now);
	else
		X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_NO_CHECK_TIME);
	return 0;
}

/* CHAIN begins with the leaf; its last one is the anchor, whose own signature decides nothing. */
static int check_chain(const struct expectation *expectation, STACK_OF(X509) * chain,
                       struct error *err)
{
	int count = sk_X509_num(chain), r = 0;

	for (int i = 0; r == 0 && i < count; i++) {
		X509 *certificate = sk_X509_value(chain, i);

		if (i > 0)
			r = check_issuer(certificate, expectation->allow_legacy, err);
		if (r == 0 && (i == 0 || i < count - 1))
			r = check_digest(certificate, expectation->allow_legacy, err);
	}
	return r;
}

/* A path for LEAF, in CHAIN with the leaf itself at its beginning; the caller's. */
static int find_path(const struct expectation *expectation, X509 *leaf, STACK_OF(X509) * candidates,
                     STACK_OF(X509) * *chain, struct error *err)
{
	STACK_OF(X509) *untrusted = intermediates(candidates);
	X509_STORE_CTX *context = X509_STORE_CTX_new();
	struct path path = { .expectation = expectation };
	X509_STORE *store = NULL;
	int r;

	r = trust_store(expectation, &store, err);
	if (r < 0)
		goto out;
	if (!context || !untrusted || context_init(context, store, leaf, untrusted, &path) < 0) {
		r = error_set(err, -ENOMEM, "out of memory");
		goto out;
	}
	if (X509_verify_cert(context) > 0)
		*chain = X509_STORE_CTX_get1_chain(context);
	else
		r = path_sentence(&path, err);
	if (r == 0 && !*chain)
		r = error_set(err, -ENOMEM, "out of memory");
out:
	X509_STORE_CTX_free(context);
	X509_STORE_free(store);
	sk_X509_free(untrusted);
	ERR_clear_error();
	return r;
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

/* --- the whole --- */

static int check_leaf(const struct expectation *expectation, X509 *leaf, struct error *err)
{
	int r;

	r = check_readable(leaf, err);
	if (r == 0)
		r = check_time_order(leaf, err);
	if (r == 0)
		r = check_key(leaf, expectation->allow_legacy, err);
	if (r == 0 && is_ca(leaf) && !expectation->allow_ca)
		r = error_set(err, -EINVAL,
		              "the certificate is one of a CA (CA:TRUE), and none was "
		              "asked for");
	if (r == 0 && !is_ca(leaf))
		r = check_usages(leaf, err);
	return r == 0 ? check_self_signature(leaf, err) : r;
}

/* Judges one candidate that has the right key. *CHAIN is the caller's. */
static int judge(const struct expectation *expectation, X509 *leaf, STACK_OF(X509) * candidates,
                 STACK_OF(X509) * *chain, struct record *differences, struct error *err)
{
	int r;

	r = check_leaf(expectation, leaf, err);
	if (r == 0)
		r = find_path(expectation, leaf, candidates, chain, err);
	if (r == 0)
		r = check_chain(expectation, *chain, err);
	if (r == 0)
		r = check_names(expectation, leaf, differences, err);
	if (r == 0)
		X509_free(sk_X509_shift(*chain));
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
	struct record *differences;
	struct error err;
};

static void verdict_clear(struct verdict *verdict)
{
	X509_free(verdict->leaf);
	sk_X509_pop_free(verdict->chain, X509_free);
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
	new.r = judge(expectation, certificate, candidates, &new.chain, new.differences, &new.err);
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
	verdict_clear(&best);
	return r;
}
