#include "pkifs/validate_part.h"

#include "common/x509.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>

#define RSA_BITS_MIN 2048 /* without allow-legacy */
#define RSA_BITS_MAX 8192 /* as ours; a check of one twice as long takes four times as long */
#define EC_BITS_MIN  224  /* without allow-legacy */
#define BUNDLE_MAX   16   /* each may be asked whether it issued each other */

const char *subject_of(const X509 *certificate, char *text)
{
	char *subject = dn_text(X509_get_subject_name(certificate));

	snprintf(text, PRINTED_NAME, "%s", subject && *subject ? subject : "(without a subject)");
	free(subject);
	return text;
}

static int check_rsa(const EVP_PKEY *key, bool allow_legacy, const char *whose, struct error *err)
{
	int bits = EVP_PKEY_get_bits(key);

	if (bits > RSA_BITS_MAX)
		return error_set(err, -EINVAL, "the RSA key of %s has %d bits, more than %d", whose,
		                 bits, RSA_BITS_MAX);
	if (bits < RSA_BITS_MIN && !allow_legacy)
		return error_set(err, -EINVAL,
		                 "the RSA key of %s has %d bits, fewer than %d; set allow-legacy = "
		                 "yes to accept it",
		                 whose, bits, RSA_BITS_MIN);
	return 0;
}

static int check_ec(const EVP_PKEY *key, bool allow_legacy, const char *whose, struct error *err)
{
	int explicit = 0;

	EVP_PKEY_get_int_param(key, OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS, &explicit);
	if (explicit)
		return error_set(err, -EINVAL, "the EC key of %s spells its curve's parameters out",
		                 whose);
	if (EVP_PKEY_get_bits(key) < EC_BITS_MIN && !allow_legacy)
		return error_set(err, -EINVAL,
		                 "the EC key of %s has %d bits, fewer than %d; set allow-legacy = "
		                 "yes to accept it",
		                 whose, EVP_PKEY_get_bits(key), EC_BITS_MIN);
	return 0;
}

int check_key(const X509 *certificate, bool allow_legacy, struct error *err)
{
	EVP_PKEY *key = X509_get0_pubkey(certificate);
	char whose[PRINTED_NAME];

	subject_of(certificate, whose);
	if (!key)
		return error_openssl(err, -EINVAL, "the key of %s can't be read", whose);
	switch (EVP_PKEY_get_base_id(key)) {
	case EVP_PKEY_RSA:
	case EVP_PKEY_RSA_PSS:
		return check_rsa(key, allow_legacy, whose, err);
	case EVP_PKEY_EC:
		return check_ec(key, allow_legacy, whose, err);
	default:
		return 0;
	}
}

int check_digest(X509 *certificate, bool allow_legacy, struct error *err)
{
	char whose[PRINTED_NAME];
	int digest = NID_undef;

	X509_get_signature_info(certificate, &digest, NULL, NULL, NULL);
	if (digest == NID_md5 || digest == NID_md4 || digest == NID_md2 || digest == NID_md5_sha1)
		return error_set(err, -EINVAL, "%s is signed with %s, which is broken",
		                 subject_of(certificate, whose), OBJ_nid2sn(digest));
	if (digest == NID_sha1 && !allow_legacy)
		return error_set(err, -EINVAL,
		                 "%s is signed with SHA-1; set allow-legacy = yes to accept it",
		                 subject_of(certificate, whose));
	return 0;
}

int check_readable(X509 *certificate, struct error *err)
{
	uint32_t flags = X509_get_extension_flags(certificate);
	char whose[PRINTED_NAME];

	ERR_clear_error();
	if (flags & EXFLAG_INVALID)
		return error_set(err, -EINVAL, "%s has extensions that can't be read",
		                 subject_of(certificate, whose));
	if (flags & EXFLAG_CRITICAL)
		return error_set(err, -EINVAL, "%s has a critical extension that is not known here",
		                 subject_of(certificate, whose));
	return 0;
}

int check_time_order(const X509 *certificate, struct error *err)
{
	int64_t from = asn1_time_seconds(X509_get0_notBefore(certificate));
	int64_t to = asn1_time_seconds(X509_get0_notAfter(certificate));
	char whose[PRINTED_NAME], not_before[RFC3339_MAX], not_after[RFC3339_MAX];

	if (from == -1 || to == -1)
		return error_set(err, -EINVAL, "the times of %s can't be read",
		                 subject_of(certificate, whose));
	if (from < to)
		return 0;
	rfc3339(from, not_before);
	rfc3339(to, not_after);
	return error_set(err, -EINVAL, "%s ends on %s, before its beginning on %s",
	                 subject_of(certificate, whose), not_after, not_before);
}

bool is_ca(X509 *certificate)
{
	return X509_get_extension_flags(certificate) & EXFLAG_CA;
}

int check_issuer(X509 *certificate, bool allow_legacy, struct error *err)
{
	char whose[PRINTED_NAME];
	int r;

	r = check_readable(certificate, err);
	if (r < 0)
		return r;
	if (X509_get_version(certificate) != X509_VERSION_3)
		return error_set(err, -EINVAL,
		                 "%s is an X.509 version %ld certificate, which can't say that it "
		                 "is a CA",
		                 subject_of(certificate, whose), X509_get_version(certificate) + 1);
	if (!is_ca(certificate))
		return error_set(err, -EINVAL, "%s is no CA certificate (it has no CA:TRUE)",
		                 subject_of(certificate, whose));
	if (!(X509_get_key_usage(certificate) & KU_KEY_CERT_SIGN))
		return error_set(err, -EINVAL,
		                 "%s may not issue certificates (its key usage lacks keyCertSign)",
		                 subject_of(certificate, whose));
	return check_key(certificate, allow_legacy, err);
}

int validate_ca(X509 *certificate, int64_t now, bool clock_trusted, bool allow_legacy,
                struct error *err)
{
	int64_t end = asn1_time_seconds(X509_get0_notAfter(certificate));
	char whose[PRINTED_NAME], text[RFC3339_MAX];
	int r;

	r = check_issuer(certificate, allow_legacy, err);
	if (r == 0)
		r = check_time_order(certificate, err);
	if (r < 0 || !clock_trusted || now <= end)
		return r;
	rfc3339(end, text);
	return error_set(err, -EINVAL, "the CA certificate %s expired on %s",
	                 subject_of(certificate, whose), text);
}

/* --- what a CA sends --- */

static bool issued(X509 *issuer, X509 *certificate)
{
	bool good = issuer != certificate && check_key(issuer, true, NULL) == 0 &&
	            X509_check_issued(issuer, certificate) == X509_V_OK &&
	            X509_verify(certificate, X509_get0_pubkey(issuer)) == 1;

	ERR_clear_error();
	return good;
}

/* Adds CERTIFICATE with a reference of its own, once. */
static bool add(STACK_OF(X509) * stack, X509 *certificate)
{
	return certificate_is_in(certificate, stack) ||
	       X509_add_cert(stack, certificate, X509_ADD_FLAG_UP_REF) == 1;
}

/* How many of CERTIFICATES ISSUER has issued. */
static int count_issued(X509 *issuer, STACK_OF(X509) * certificates)
{
	int count = 0;

	for (int i = 0; i < sk_X509_num(certificates); i++)
		count += issued(issuer, sk_X509_value(certificates, i));
	return count;
}

/*
 * The CA among AUTHORITIES: the one that issued the others of the bundle, or, where there are
 * only CAs, the one below all of them. NULL with ERR where that is none or more than one.
 */
static X509 *find_ca(STACK_OF(X509) * authorities, STACK_OF(X509) * others, struct error *err)
{
	char one[PRINTED_NAME], other[PRINTED_NAME];
	X509 *found = NULL;

	for (int i = 0; i < sk_X509_num(authorities); i++) {
		X509 *authority = sk_X509_value(authorities, i);
		bool fits = sk_X509_num(others) > 0 ? count_issued(authority, others) > 0
		                                    : count_issued(authority, authorities) == 0;

		if (!fits)
			continue;
		if (found) {
			error_set(err, -EINVAL,
			          "the CA sent certificates of more than one CA: %s and %s",
			          subject_of(found, one), subject_of(authority, other));
			return NULL;
		}
		found = authority;
	}
	if (!found)
		error_set(err, -EINVAL,
		          "none of the %d certificates that the CA sent issued the others",
		          sk_X509_num(authorities) + sk_X509_num(others));
	return found;
}

/* Splits BUNDLE into CAs and others, each certificate once. */
static int split(STACK_OF(X509) * bundle, STACK_OF(X509) * authorities, STACK_OF(X509) * others,
                 struct error *err)
{
	if (sk_X509_num(bundle) < 1)
		return error_set(err, -EINVAL, "the CA sent no certificate");
	if (sk_X509_num(bundle) > BUNDLE_MAX)
		return error_set(err, -EINVAL, "the CA sent %d certificates, more than %d",
		                 sk_X509_num(bundle), BUNDLE_MAX);
	for (int i = 0; i < sk_X509_num(bundle); i++) {
		X509 *certificate = sk_X509_value(bundle, i);

		if (!add(is_ca(certificate) ? authorities : others, certificate))
			return error_set(err, -ENOMEM, "out of memory");
	}
	if (sk_X509_num(authorities) > 0)
		return 0;
	return error_set(err, -EINVAL, "none of the %d certificates is one of a CA (CA:TRUE)",
	                 sk_X509_num(others));
}

/* Moves up from CA through AUTHORITIES, each of which is taken once. */
static bool climb(X509 *ca, STACK_OF(X509) * authorities, STACK_OF(X509) * issuers)
{
	X509 *below = ca;

	for (int i = 0; i < sk_X509_num(authorities); i++) {
		X509 *above = sk_X509_value(authorities, i);

		if (above == ca || certificate_is_in(above, issuers) || !issued(above, below))
			continue;
		if (!add(issuers, above))
			return false;
		below = above;
		i = -1;
	}
	return true;
}

int sort_ca_bundle(STACK_OF(X509) * bundle, X509 **ca, STACK_OF(X509) * *ra,
                   STACK_OF(X509) * *issuers, struct error *err)
{
	STACK_OF(X509) *authorities = sk_X509_new_null(), *others = sk_X509_new_null();
	STACK_OF(X509) *registration = sk_X509_new_null(), *above = sk_X509_new_null();
	X509 *found = NULL;
	bool good = authorities && others && registration && above;
	int r;

	r = good ? split(bundle, authorities, others, err)
	         : error_set(err, -ENOMEM, "out of memory");
	if (r < 0)
		goto out;
	found = find_ca(authorities, others, err);
	if (!found) {
		r = -EINVAL;
		goto out;
	}
	for (int i = 0; good && i < sk_X509_num(others); i++)
		if (issued(found, sk_X509_value(others, i)))
			good = add(registration, sk_X509_value(others, i));
	if (!good || !climb(found, authorities, above)) {
		r = error_set(err, -ENOMEM, "out of memory");
		goto out;
	}
	X509_up_ref(found);
	*ca = found;
	*ra = registration;
	*issuers = above;
	registration = above = NULL;
out:
	sk_X509_pop_free(authorities, X509_free);
	sk_X509_pop_free(others, X509_free);
	sk_X509_pop_free(registration, X509_free);
	sk_X509_pop_free(above, X509_free);
	return r;
}

/* --- the CA that follows --- */

static bool is_self_signed(X509 *certificate)
{
	bool self = X509_self_signed(certificate, 1) == 1;

	ERR_clear_error();
	return self;
}

static bool has_key_of(STACK_OF(X509) * stack, const X509 *certificate)
{
	for (int i = 0; i < sk_X509_num(stack); i++)
		if (EVP_PKEY_eq(X509_get0_pubkey(sk_X509_value(stack, i)),
		                X509_get0_pubkey(certificate)) == 1)
			return true;
	return false;
}

/* Adds to FOUND what they issued, until no more is found. */
static bool add_all_below(STACK_OF(X509) * found, STACK_OF(X509) * candidates)
{
	for (int i = 0; i < sk_X509_num(found); i++)
		for (int k = 0; k < sk_X509_num(candidates); k++)
			if (issued(sk_X509_value(found, i), sk_X509_value(candidates, k)) &&
			    !add(found, sk_X509_value(candidates, k)))
				return false;
	return true;
}

/* What of BUNDLE is new, without cross certificates: the new roots first, and what is below them.
 */
static bool find_new(STACK_OF(X509) * bundle, STACK_OF(X509) * known, bool announced,
                     STACK_OF(X509) * found)
{
	STACK_OF(X509) *others = sk_X509_new_null();
	bool good = others;

	for (int i = 0; good && i < sk_X509_num(bundle); i++) {
		X509 *certificate = sk_X509_value(bundle, i);

		if (!certificate_is_in(certificate, known) && is_ca(certificate) &&
		    is_self_signed(certificate))
			good = add(found, certificate);
	}
	for (int i = 0; good && i < sk_X509_num(bundle); i++) {
		X509 *certificate = sk_X509_value(bundle, i);

		if (!certificate_is_in(certificate, known) &&
		    !certificate_is_in(certificate, found) &&
		    !(is_ca(certificate) &&
		      (has_key_of(found, certificate) || has_key_of(known, certificate))))
			good = add(others, certificate);
	}
	if (good && sk_X509_num(found))
		good = add_all_below(found, others);
	else
		for (int i = 0; good && announced && i < sk_X509_num(others); i++)
			good = add(found, sk_X509_value(others, i));
	sk_X509_pop_free(others, X509_free);
	return good;
}

int sort_next_ca(STACK_OF(X509) * bundle, STACK_OF(X509) * known, bool announced, X509 **ca,
                 STACK_OF(X509) * *ra, STACK_OF(X509) * *issuers, struct error *err)
{
	STACK_OF(X509) *found = sk_X509_new_null();
	int r;

	if (sk_X509_num(bundle) > BUNDLE_MAX)
		r = error_set(err, -EINVAL, "the CA sent %d certificates, more than %d",
		              sk_X509_num(bundle), BUNDLE_MAX);
	else if (!found || !find_new(bundle, known, announced, found))
		r = error_set(err, -ENOMEM, "out of memory");
	else if (!sk_X509_num(found))
		r = -ENOENT;
	else
		r = sort_ca_bundle(found, ca, ra, issuers, err);
	sk_X509_pop_free(found, X509_free);
	ERR_clear_error();
	return r;
}

static bool begins_before(const X509 *one, const X509 *other)
{
	return asn1_time_seconds(X509_get0_notBefore(one)) <
	       asn1_time_seconds(X509_get0_notBefore(other));
}

static bool is_same_ca(const X509 *one, const X509 *other)
{
	return X509_NAME_cmp(X509_get_subject_name(one), X509_get_subject_name(other)) == 0 &&
	       EVP_PKEY_eq(X509_get0_pubkey(one), X509_get0_pubkey(other)) == 1;
}

bool vouches_for(X509 *current, X509 *next, STACK_OF(X509) * bundle, int64_t now,
                 bool clock_trusted, bool allow_legacy)
{
	bool vouched = false;

	if (validate_ca(current, now, clock_trusted, allow_legacy, NULL) < 0 ||
	    X509_NAME_cmp(X509_get_subject_name(current), X509_get_subject_name(next)) != 0 ||
	    !begins_before(current, next))
		return false;
	for (int i = -1; !vouched && i < sk_X509_num(bundle); i++) {
		X509 *link = i < 0 ? next : sk_X509_value(bundle, i);

		vouched = is_same_ca(link, next) && issued(current, link) &&
		          validate_ca(link, now, clock_trusted, allow_legacy, NULL) == 0 &&
		          check_digest(link, allow_legacy, NULL) == 0;
	}
	ERR_clear_error();
	return vouched;
}
