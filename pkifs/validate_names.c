#include "pkifs/validate_part.h"

#include "common/x509.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define CN_MAX 64

/* What a certificate is compared with. */
struct wanted {
	const char *by; /* who has other names: "asked for" … */
	X509_NAME *subject;
	GENERAL_NAMES *names;
};

static void wanted_clear(struct wanted *wanted)
{
	X509_NAME_free(wanted->subject);
	GENERAL_NAMES_free(wanted->names);
}

/* The names as csr_make (enroll/csr.h) puts them into a request. */
static int wanted_by_config(const struct expectation *expectation, struct wanted *wanted,
                            struct error *err)
{
	const char *subject = record_get(expectation->config, "subject");
	size_t index = 0;
	const struct field *domain = record_next(expectation->config, "domain-name", &index);
	int r;

	wanted->by = "asked for";
	r = alternative_names(expectation->config, &wanted->names, err);
	if (r < 0)
		return r;
	if (subject && *subject)
		return dn_parse(subject, expectation->serial, &wanted->subject, err);
	wanted->subject = X509_NAME_new();
	if (wanted->subject &&
	    (!domain || domain->length > CN_MAX ||
	     X509_NAME_add_entry_by_NID(wanted->subject, NID_commonName, MBSTRING_UTF8,
	                                (const unsigned char *)domain->value, (int)domain->length,
	                                -1, 0)))
		return 0;
	return error_openssl(err, -ENOMEM, "the names asked for cannot be written");
}

static int wanted_by_previous(const X509 *previous, struct wanted *wanted, struct error *err)
{
	wanted->by = "in the certificate in force";
	wanted->subject = X509_NAME_dup(X509_get_subject_name(previous));
	wanted->names = X509_get_ext_d2i(previous, NID_subject_alt_name, NULL, NULL);
	return wanted->subject ? 0 : error_set(err, -ENOMEM, "out of memory");
}

/* The case of DNS names and of e-mail domains says nothing; all else is compared as encoded. */
static bool same_name(GENERAL_NAME *one, GENERAL_NAME *other)
{
	const ASN1_STRING *left, *right;
	int type, other_type;

	left = GENERAL_NAME_get0_value(one, &type);
	right = GENERAL_NAME_get0_value(other, &other_type);
	if (type != other_type)
		return false;
	if (type != GEN_DNS && type != GEN_EMAIL)
		return GENERAL_NAME_cmp(one, other) == 0;
	return ASN1_STRING_length(left) == ASN1_STRING_length(right) &&
	       !memchr(ASN1_STRING_get0_data(left), 0, (size_t)ASN1_STRING_length(left)) &&
	       strncasecmp((const char *)ASN1_STRING_get0_data(left),
	                   (const char *)ASN1_STRING_get0_data(right),
	                   (size_t)ASN1_STRING_length(left)) == 0;
}

static bool has_name(const GENERAL_NAMES *names, GENERAL_NAME *name)
{
	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++)
		if (same_name(sk_GENERAL_NAME_value(names, i), name))
			return true;
	return false;
}

/* Adds a difference for each of NAMES that is not among OTHERS. */
static void compare_names(const GENERAL_NAMES *names, const GENERAL_NAMES *others,
                          const char *change, const char *was, const char *by,
                          struct record *differences)
{
	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
		char *text;

		if (has_name(others, name))
			continue;
		text = alternative_name_text(name);
		record_addf(differences, "difference", "%s %.*s, which %s %s", change, PRINTED_NAME,
		            text ? text : "?", was, by);
		free(text);
	}
}

/* Adds a `difference` field to DIFFERENCES for each name that is not as WANTED. */
static void compare(const struct wanted *wanted, const X509 *leaf, bool subject_too,
                    struct record *differences)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
	const X509_NAME *subject = X509_get_subject_name(leaf);
	char *from, *to;

	if (subject_too && !dn_same_attributes(wanted->subject, subject)) {
		from = dn_text(wanted->subject);
		to = dn_text(subject);
		record_addf(differences, "difference", "changed subject from \"%.*s\" to \"%.*s\"",
		            PRINTED_NAME, from ? from : "?", PRINTED_NAME, to ? to : "?");
		free(from);
		free(to);
	}
	compare_names(wanted->names, names, "left out", "was", wanted->by, differences);
	compare_names(names, wanted->names, "added", "was not", wanted->by, differences);
	GENERAL_NAMES_free(names);
}

/* The differences of LEAF to what one side wants. */
static int differences_to(const struct expectation *expectation, bool to_previous, const X509 *leaf,
                          struct record **differences, struct error *err)
{
	struct wanted wanted = { 0 };
	int r;

	r = to_previous ? wanted_by_previous(expectation->previous, &wanted, err)
	                : wanted_by_config(expectation, &wanted, err);
	*differences = r == 0 ? record_new() : NULL;
	if (*differences)
		compare(&wanted, leaf, !expectation->alternative_names_only, *differences);
	else if (r == 0)
		r = error_set(err, -ENOMEM, "out of memory");
	wanted_clear(&wanted);
	return r;
}

/* A sentence with all DIFFERENCES that there is room for. */
static int refuse(const struct record *differences, const char *to_do, struct error *err)
{
	char text[sizeof err->text - 100] = "";
	size_t used = 0, i = 0;

	for (; i < record_count(differences); i++) {
		const struct field *field = record_field(differences, i);

		if (used && used + field->length + 2 >= sizeof text)
			break;
		used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", used ? ", " : "",
		                         field->value);
	}
	return error_set(err, -EINVAL, "the CA %s%s; %s to accept it", text,
	                 i < record_count(differences) ? " (and more)" : "", to_do);
}

int check_names(const struct expectation *expectation, const X509 *leaf, struct record *differences,
                struct error *err)
{
	struct record *found = NULL, *asked = NULL;
	int r = 0;

	if (expectation->previous)
		r = differences_to(expectation, true, leaf, &found, err);
	if (r == 0 && expectation->config && (!found || record_count(found) > 0))
		r = differences_to(expectation, false, leaf, &asked, err);
	if (r < 0 || (!found && !asked) || (asked && record_count(asked) == 0))
		goto out;
	if (!found) {
		found = asked;
		asked = NULL;
	}
	if (record_count(found) == 0)
		goto out;
	if (differences)
		record_append(differences, found);
	if (expectation->previous)
		r = refuse(found, "ask for these names by its config", err);
	else if (!expectation->accept_changed_names)
		r = refuse(found, "set accept-changed-names = yes", err);
out:
	record_free(found);
	record_free(asked);
	return r;
}
