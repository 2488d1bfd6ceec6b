/*
 * What RFC 5280 §4 asks of a certificate's form, and OpenSSL does not look at. A form that is
 * wrong is how two programs come to see two different things in one certificate.
 */
#include "common/x509.h"
#include "pkifs/path_part.h"
#include "pkifs/validate_part.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SERIAL_MAX 20 /* octets, §4.1.2.2 */
#define TEXT_MAX   254

/* --- names --- */

/* A string of a certificate as text; NULL where it has a NUL or is too long for a name. */
static const char *text_of(const ASN1_STRING *string, char text[TEXT_MAX + 1])
{
	int length = ASN1_STRING_length(string);

	if (length > TEXT_MAX || memchr(ASN1_STRING_get0_data(string), 0, (size_t)length))
		return NULL;
	memcpy(text, ASN1_STRING_get0_data(string), (size_t)length);
	text[length] = 0;
	return text;
}

/* Nothing that a constraint could miss: no dot at the end, no `*` but a first label (§4.2.1.6). */
static bool is_well_formed(const GENERAL_NAME *name)
{
	char text[TEXT_MAX + 1];
	const ASN1_STRING *value;
	int type;

	value = GENERAL_NAME_get0_value(name, &type);
	switch (type) {
	case GEN_DNS:
		return text_of(value, text) && check_dns_name(text, NULL) == 0;
	case GEN_EMAIL:
		return text_of(value, text) && check_email(text, NULL) == 0;
	case GEN_IPADD:
		return ASN1_STRING_length(value) == 4 || ASN1_STRING_length(value) == 16;
	default:
		return true;
	}
}

static int check_alternative_names(X509 *certificate, const char *whose, struct error *err)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
	int r = 0;

	for (int i = 0; r == 0 && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
		char *text = is_well_formed(name) ? NULL : alternative_name_text(name);

		if (text)
			r = error_set(err, -EINVAL,
			              "%s has an alternative name that is none: %.100s", whose,
			              text);
		free(text);
	}
	GENERAL_NAMES_free(names);
	return r;
}

/* --- name constraints --- */

/* §4.2.1.10: a host name, with no dot before it; nothing is the whole tree. */
static bool is_constraint(const GENERAL_SUBTREE *subtree)
{
	char text[TEXT_MAX + 1];
	const ASN1_STRING *value;
	int type;

	value = GENERAL_NAME_get0_value(subtree->base, &type);
	if (type != GEN_DNS || ASN1_STRING_length(value) == 0)
		return true;
	return text_of(value, text) && *text != '*' && check_dns_name(text, NULL) == 0;
}

static bool are_constraints(STACK_OF(GENERAL_SUBTREE) * subtrees)
{
	for (int i = 0; i < sk_GENERAL_SUBTREE_num(subtrees); i++)
		if (!is_constraint(sk_GENERAL_SUBTREE_value(subtrees, i)))
			return false;
	return true;
}

static int check_constraints(X509 *certificate, bool is_leaf, const char *whose, struct error *err)
{
	int critical = 0, r = 0;
	NAME_CONSTRAINTS *constraints =
		X509_get_ext_d2i(certificate, NID_name_constraints, &critical, NULL);

	if (!constraints)
		return 0;
	if (is_leaf)
		r = error_set(err, -EINVAL, "%s has name constraints, which only a CA may have",
		              whose);
	else if (!critical)
		r = error_set(err, -EINVAL, "the name constraints of %s are not critical", whose);
	else if (sk_GENERAL_SUBTREE_num(constraints->permittedSubtrees) <= 0 &&
	         sk_GENERAL_SUBTREE_num(constraints->excludedSubtrees) <= 0)
		r = error_set(err, -EINVAL, "the name constraints of %s are empty", whose);
	else if (!are_constraints(constraints->permittedSubtrees) ||
	         !are_constraints(constraints->excludedSubtrees))
		r = error_set(err, -EINVAL, "a name constraint of %s is no DNS name", whose);
	NAME_CONSTRAINTS_free(constraints);
	return r;
}

/* Whether "*.REST" stands for EXCLUDED too, which is one label below REST. */
static bool covers(const char *wildcard, const char *excluded)
{
	const char *rest = strchr(excluded, '.');

	return strncmp(wildcard, "*.", 2) == 0 && rest && strcasecmp(wildcard + 2, rest + 1) == 0;
}

static bool is_excluded(const GENERAL_NAME *name, const NAME_CONSTRAINTS *constraints)
{
	char text[TEXT_MAX + 1], base[TEXT_MAX + 1];

	if (name->type != GEN_DNS || !text_of(name->d.dNSName, text) || *text != '*')
		return false;
	for (int i = 0; i < sk_GENERAL_SUBTREE_num(constraints->excludedSubtrees); i++) {
		const GENERAL_NAME *excluded =
			sk_GENERAL_SUBTREE_value(constraints->excludedSubtrees, i)->base;

		if (excluded->type == GEN_DNS && text_of(excluded->d.dNSName, base) &&
		    covers(text, base))
			return true;
	}
	return false;
}

/* OpenSSL compares a wildcard as if `*` were its first label. */
static int check_wildcards(const struct path_answer *answer, X509 *ca, struct error *err)
{
	NAME_CONSTRAINTS *constraints = X509_get_ext_d2i(ca, NID_name_constraints, NULL, NULL);
	GENERAL_NAMES *names = NULL;
	bool excluded = false;

	if (!constraints)
		return 0;
	names = X509_get_ext_d2i(answer->steps[0].certificate, NID_subject_alt_name, NULL, NULL);
	for (int i = 0; !excluded && i < sk_GENERAL_NAME_num(names); i++)
		excluded = is_excluded(sk_GENERAL_NAME_value(names, i), constraints);
	GENERAL_NAMES_free(names);
	NAME_CONSTRAINTS_free(constraints);
	return excluded ? error_set(err, -EINVAL,
	                            "a wildcard of %s stands for a name that its CA must not issue",
	                            answer->steps[0].name)
	                : 0;
}

int path_check_constraints(const struct path_question *question, struct path_answer *answer,
                           struct error *err)
{
	bool constrained = false;
	int r = 0;

	for (int i = 1; r == 0 && i < answer->count; i++) {
		X509 *ca = answer->steps[i].certificate;

		constrained |= X509_get_ext_by_NID(ca, NID_name_constraints, -1) >= 0;
		r = check_wildcards(answer, ca, err);
	}
	if (r == 0 && (constrained || !question->tolerant))
		r = check_alternative_names(answer->steps[0].certificate, answer->steps[0].name,
		                            err);
	if (r < 0)
		answer->failed = 0;
	return r;
}

/* --- the others --- */

static bool is_readable(X509_EXTENSION *extension)
{
	const X509V3_EXT_METHOD *method = X509V3_EXT_get(extension);
	void *value;

	if (!method)
		return true; /* unknown: critical ones are refused elsewhere */
	value = X509V3_EXT_d2i(extension);
	if (value && method->it)
		ASN1_item_free(value, ASN1_ITEM_ptr(method->it));
	else if (value)
		method->ext_free(value);
	return value;
}

static int check_extensions(const X509 *certificate, const char *whose, struct error *err)
{
	int constraints = X509_get_ext_by_NID(certificate, NID_policy_constraints, -1);

	for (int i = 0; i < X509_get_ext_count(certificate); i++) {
		X509_EXTENSION *extension = X509_get_ext(certificate, i);
		char name[80];

		if (is_readable(extension))
			continue;
		OBJ_obj2txt(name, sizeof name, X509_EXTENSION_get_object(extension), 0);
		return error_set(err, -EINVAL, "the extension %s of %s can't be read", name, whose);
	}
	if (constraints >= 0 &&
	    !X509_EXTENSION_get_critical(X509_get_ext(certificate, constraints)))
		return error_set(err, -EINVAL, "the policy constraints of %s are not critical",
		                 whose);
	return 0;
}

static int check_serial(const X509 *certificate, const char *whose, struct error *err)
{
	const ASN1_INTEGER *serial = X509_get0_serialNumber(certificate);
	BIGNUM *value = ASN1_INTEGER_to_BN(serial, NULL);
	bool good = value && !BN_is_negative(value) && !BN_is_zero(value) &&
	            ASN1_STRING_length(serial) <= SERIAL_MAX;

	BN_free(value);
	return good ? 0
	            : error_set(
			      err, -EINVAL,
			      "the serial number of %s is zero, negative or longer than %d octets",
			      whose, SERIAL_MAX);
}

/* Whose key it was signed with is said by that key (§4.2.1.1); whether at all, OpenSSL looks. */
static int check_key_identifier(const X509 *certificate, const char *whose, struct error *err)
{
	AUTHORITY_KEYID *identifier =
		X509_get_ext_d2i(certificate, NID_authority_key_identifier, NULL, NULL);
	bool good = !identifier || identifier->keyid;

	AUTHORITY_KEYID_free(identifier);
	return good ? 0
	            : error_set(err, -EINVAL,
	                        "the authority key identifier of %s has no key identifier", whose);
}

/* Keys that are sound, but that nobody makes any more. */
static int check_usual_key(const X509 *certificate, const char *whose, struct error *err)
{
	const EVP_PKEY *key = X509_get0_pubkey(certificate);

	if (EVP_PKEY_get_base_id(key) == EVP_PKEY_DSA)
		return error_set(err, -EINVAL,
		                 "%s has a DSA key; set allow-legacy = yes to accept it", whose);
	if (EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA && EVP_PKEY_get_bits(key) % 8)
		return error_set(err, -EINVAL,
		                 "the RSA key of %s has %d bits, no whole number of octets; set "
		                 "allow-legacy = yes to accept it",
		                 whose, EVP_PKEY_get_bits(key));
	return 0;
}

static int check_one(const struct path_question *question, const struct path_step *step,
                     bool is_leaf, bool is_anchor, struct error *err)
{
	X509 *certificate = step->certificate;
	int r;

	r = check_extensions(certificate, step->name, err);
	if (r == 0 && X509_get_version(certificate) != X509_VERSION_3)
		r = error_set(err, -EINVAL, "%s is no X.509 version 3 certificate", step->name);
	if (r == 0 && !is_anchor)
		r = check_serial(certificate, step->name, err);
	if (r == 0 && !is_anchor)
		r = check_key_identifier(certificate, step->name, err);
	if (r == 0)
		r = check_constraints(certificate, is_leaf, step->name, err);
	if (r == 0 && !question->allow_legacy)
		r = check_usual_key(certificate, step->name, err);
	return r;
}

int path_check_forms(const struct path_question *question, struct path_answer *answer,
                     struct error *err)
{
	int r = 0;

	for (int i = 0; r == 0 && !question->tolerant && i < answer->count; i++) {
		r = check_one(question, &answer->steps[i], i == 0, i == answer->count - 1, err);
		if (r < 0)
			answer->failed = i;
	}
	ERR_clear_error();
	return r;
}
