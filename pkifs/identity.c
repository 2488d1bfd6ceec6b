#include "pkifs/identity.h"

#include "common/x509.h"
#include "pkifs/path_part.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* In the order in which one is chosen. */
static const char *const kinds[] = { "domain-name", "ip-address", "email", "subject" };

/* --- what a certificate has --- */

static void add_alternative(const GENERAL_NAME *name, struct record *names)
{
	char *text = alternative_name_text(name), *value = text ? strchr(text, ':') : NULL;

	if (!value) { /* of a kind that is none of IKE's */
		free(text);
		return;
	}
	value++;
	if (strncmp(text, "DNS:", 4) == 0 && *value != '*' && check_dns_name(value, NULL) == 0)
		record_add(names, "domain-name", value);
	else if (strncmp(text, "IP:", 3) == 0 && check_ip_address(value, NULL) == 0)
		record_add(names, "ip-address", value);
	else if (strncmp(text, "email:", 6) == 0 && check_email(value, NULL) == 0)
		record_add(names, "email", value);
	free(text);
}

void identity_names(X509 *certificate, struct record *names)
{
	GENERAL_NAMES *alternative =
		X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
	char *subject = dn_text(X509_get_subject_name(certificate));

	for (int i = 0; i < sk_GENERAL_NAME_num(alternative); i++)
		add_alternative(sk_GENERAL_NAME_value(alternative, i), names);
	if (subject && *subject)
		record_add(names, "subject", subject);
	free(subject);
	GENERAL_NAMES_free(alternative);
	ERR_clear_error();
}

const char *identity_default(X509 *certificate, struct record *names)
{
	const struct field *field = NULL;

	identity_names(certificate, names);
	for (size_t k = 0; !field && k < COUNT(kinds); k++) {
		size_t first = 0;

		field = record_next(names, kinds[k], &first);
	}
	return field ? field->value : NULL;
}

/* --- `remote-id` --- */

static bool is_wildcard(const struct path_name *name)
{
	return (name->kind == PATH_DNS || name->kind == PATH_EMAIL) && *name->text == '*';
}

int identity_read(const char *text, struct path_name *name, struct error *err)
{
	*name = (struct path_name){ .text = text };
	if (strcmp(text, "any") == 0)
		return 0;
	if (strncmp(text, "*.", 2) == 0) {
		name->kind = PATH_DNS;
		return check_dns_name(text, err);
	}
	if (strchr(text, '*') && !strchr(text, '=') && strncmp(text, "*@", 2) != 0)
		return error_set(err, -EINVAL,
		                 "\"%.80s\": * stands for the first label of a DNS name, for all "
		                 "before @, or for the value of an RDN",
		                 text);
	return path_name_read(text, name, err);
}

/* A value of the same attribute, with case and blanks as RFC 5280 §7.1 has it, or `*`. */
static bool rdn_fits(const X509_NAME_ENTRY *wanted, const X509_NAME_ENTRY *had)
{
	const ASN1_STRING *value = X509_NAME_ENTRY_get_data(wanted);
	X509_NAME *one = NULL, *other = NULL;
	bool same;

	if (X509_NAME_ENTRY_set(wanted) != X509_NAME_ENTRY_set(had) ||
	    OBJ_cmp(X509_NAME_ENTRY_get_object(wanted), X509_NAME_ENTRY_get_object(had)) != 0)
		return false;
	if (ASN1_STRING_length(value) == 1 && *ASN1_STRING_get0_data(value) == '*')
		return true;
	one = X509_NAME_new();
	other = X509_NAME_new();
	same = one && other && X509_NAME_add_entry(one, wanted, -1, 0) &&
	       X509_NAME_add_entry(other, had, -1, 0) && X509_NAME_cmp(one, other) == 0;
	X509_NAME_free(one);
	X509_NAME_free(other);
	return same;
}

static bool dn_fits(const char *text, const X509 *certificate)
{
	const X509_NAME *had = X509_get_subject_name(certificate);
	X509_NAME *wanted = NULL;
	bool fits;

	if (dn_parse(text, NULL, &wanted, NULL) < 0)
		return false;
	fits = X509_NAME_entry_count(wanted) == X509_NAME_entry_count(had);
	for (int i = 0; fits && i < X509_NAME_entry_count(wanted); i++)
		fits = rdn_fits(X509_NAME_get_entry(wanted, i), X509_NAME_get_entry(had, i));
	X509_NAME_free(wanted);
	return fits;
}

/* What stands behind the `*` ends a name of CERTIFICATE, with one label or local part before it. */
static bool wildcard_fits(const struct path_name *name, X509 *certificate)
{
	bool dns = name->kind == PATH_DNS, fits = false;
	struct record *names = record_new();
	const struct field *field;

	if (names)
		identity_names(certificate, names);
	for (size_t i = 0;
	     names && (field = record_next(names, dns ? "domain-name" : "email", &i)) != NULL;) {
		const char *rest = strchr(field->value, dns ? '.' : '@');

		fits = fits || (rest && strcasecmp(rest, name->text + 1) == 0);
	}
	record_free(names);
	return fits;
}

bool identity_fits(const struct path_name *name, X509 *certificate)
{
	const struct path_question exact = { .leaf = certificate,
		                             .purpose = PATH_IKE, /* it knows no wildcards */
		                             .name = *name };

	if (is_wildcard(name))
		return wildcard_fits(name, certificate);
	if (name->kind == PATH_DN)
		return dn_fits(name->text, certificate);
	return path_check_name(&exact, NULL) == 0;
}

/* --- `local-id` --- */

/* Those of all kinds, one behind the other. */
static void list_names(X509 *certificate, char *text, size_t size)
{
	struct record *names = record_new();
	size_t used = 0;

	if (names)
		identity_names(certificate, names);
	for (size_t i = 0; names && i < record_count(names) && used < size; i++)
		used += (size_t)snprintf(text + used, size - used, "%s%s", i ? ", " : "",
		                         record_field(names, i)->value);
	record_free(names);
}

int identity_check_local(const char *text, X509 *certificate, struct error *err)
{
	char names[300] = "none";
	struct path_name name;
	int r;

	if (strchr(text, '*'))
		return error_set(err, -EINVAL, "\"%.80s\" is no name of one peer", text);
	r = path_name_read(text, &name, err);
	if (r < 0 || !certificate || identity_fits(&name, certificate))
		return r;
	list_names(certificate, names, sizeof names);
	return error_set(err, -EINVAL, "%.80s is not in the certificate, which has: %s", text,
	                 names);
}
