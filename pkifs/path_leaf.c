/* What the leaf of a path is for, and whose it is. */
#include "common/x509.h"
#include "pkifs/path_part.h"
#include "pkifs/validate_part.h"

#include <errno.h>
#include <string.h>

/* --- purpose --- */

#define KU_SIGNATURE (KU_DIGITAL_SIGNATURE | KU_NON_REPUDIATION)

/* RFC 4945 §5.1.3.12, and what came before it. */
static bool is_ike_purpose(const ASN1_OBJECT *purpose)
{
	static const char *const ike[] = { "1.3.6.1.5.5.7.3.17", "1.3.6.1.5.5.7.3.5",
		                           "1.3.6.1.5.5.7.3.6", "1.3.6.1.5.5.7.3.7",
		                           "1.3.6.1.5.5.8.2.2" };
	char oid[80];

	if (OBJ_obj2nid(purpose) == NID_anyExtendedKeyUsage)
		return true;
	OBJ_obj2txt(oid, sizeof oid, purpose, 1);
	for (size_t i = 0; i < COUNT(ike); i++)
		if (strcmp(oid, ike[i]) == 0)
			return true;
	return false;
}

/* Purposes of which one is enough: TLS server and client, and those of IKE. */
static bool is_our_purpose(const ASN1_OBJECT *purpose)
{
	int nid = OBJ_obj2nid(purpose);

	return nid == NID_server_auth || nid == NID_client_auth || is_ike_purpose(purpose);
}

/* Without an extended key usage any purpose fits. */
static bool has_purpose(const X509 *certificate, bool (*fits)(const ASN1_OBJECT *))
{
	EXTENDED_KEY_USAGE *purposes = X509_get_ext_d2i(certificate, NID_ext_key_usage, NULL, NULL);
	bool found = !purposes;

	for (int i = 0; i < sk_ASN1_OBJECT_num(purposes); i++)
		found = found || fits(sk_ASN1_OBJECT_value(purposes, i));
	EXTENDED_KEY_USAGE_free(purposes);
	return found;
}

static int check_own(const struct path_question *question, struct error *err)
{
	X509 *leaf = question->leaf;

	if (is_ca(leaf))
		return question->allow_ca
		               ? 0
		               : error_set(err, -EINVAL,
		                           "the certificate is one of a CA (CA:TRUE), and none was "
		                           "asked for");
	if (!(X509_get_key_usage(leaf) & (KU_SIGNATURE | KU_KEY_ENCIPHERMENT | KU_KEY_AGREEMENT)))
		return error_set(err, -EINVAL,
		                 "the certificate's key usage fits neither server, client nor IKE: "
		                 "it allows no signature and no key exchange");
	if (!has_purpose(leaf, is_our_purpose))
		return error_set(err, -EINVAL,
		                 "the certificate's extended key usage fits neither server, "
		                 "client nor IKE");
	return 0;
}

/* RFC 4945 §5.1.3.2, §5.1.3.12. OpenSSL knows the purposes of TLS, but not this one. */
static int check_ike(X509 *leaf, bool strict, const char *whose, struct error *err)
{
	if (!(X509_get_key_usage(leaf) & KU_SIGNATURE))
		return error_set(err, -EINVAL,
		                 "%s is not for IKE: its key usage allows no signature", whose);
	if (!has_purpose(leaf, strict ? is_ike_purpose : is_our_purpose))
		return error_set(err, -EINVAL,
		                 "%s is not for IKE: its extended key usage has neither ipsecIKE "
		                 "nor any%s",
		                 whose, strict ? "" : ", nor serverAuth or clientAuth");
	return 0;
}

int path_check_purpose(const struct path_question *question, struct error *err)
{
	char whose[PRINTED_NAME];

	if (question->purpose == PATH_ANY)
		return 0;
	if (question->purpose == PATH_OWN)
		return check_own(question, err);
	subject_of(question->leaf, whose);
	if (is_ca(question->leaf) && !question->allow_ca)
		return error_set(err, -EINVAL, "%s is a CA certificate (CA:TRUE), no peer's",
		                 whose);
	if (question->purpose != PATH_IKE && question->purpose != PATH_TUNNEL)
		return 0;
	return check_ike(question->leaf, question->purpose == PATH_IKE, whose, err);
}

/* --- name --- */

int path_name_read(const char *text, struct path_name *name, struct error *err)
{
	X509_NAME *dn = NULL;
	int r;

	name->text = text;
	if (check_ip_address(text, NULL) == 0) {
		name->kind = PATH_IP;
		return 0;
	}
	if (strchr(text, '=')) {
		name->kind = PATH_DN;
		r = dn_parse(text, NULL, &dn, err);
		X509_NAME_free(dn);
		return r;
	}
	if (strchr(text, '@')) {
		name->kind = PATH_EMAIL;
		return check_email(text, err);
	}
	name->kind = PATH_DNS;
	if (*text == '*')
		return error_set(err, -EINVAL, "\"%.80s\" is no name of one peer", text);
	return check_dns_name(text, err);
}

/* The whole name in its order, with case and blanks as RFC 5280 §7.1 has it. */
static int has_dn(const X509 *leaf, const char *text)
{
	X509_NAME *dn = NULL;
	int found = 0;

	if (dn_parse(text, NULL, &dn, NULL) == 0)
		found = X509_NAME_cmp(dn, X509_get_subject_name(leaf)) == 0;
	X509_NAME_free(dn);
	return found;
}

/* A CN is nobody's DNS name (RFC 6125 §6.4.4). IKE knows no wildcards. */
static int has_name(const struct path_question *question)
{
	const struct path_name *name = &question->name;
	unsigned flags = X509_CHECK_FLAG_NEVER_CHECK_SUBJECT |
	                 X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
	                 (question->purpose == PATH_IKE ? X509_CHECK_FLAG_NO_WILDCARDS : 0);

	switch (name->kind) {
	case PATH_DNS:
		return X509_check_host(question->leaf, name->text, 0, flags, NULL);
	case PATH_IP:
		return X509_check_ip_asc(question->leaf, name->text, flags);
	case PATH_EMAIL:
		return X509_check_email(question->leaf, name->text, 0, flags);
	case PATH_DN:
		return has_dn(question->leaf, name->text);
	default:
		return 1;
	}
}

int path_check_name(const struct path_question *question, struct error *err)
{
	static const char *const kinds[] = {
		[PATH_DNS] = "DNS name",
		[PATH_IP] = "IP address",
		[PATH_EMAIL] = "e-mail address",
		[PATH_DN] = "subject",
	};
	char whose[PRINTED_NAME];

	if (has_name(question) == 1)
		return 0;
	return error_set(err, -EINVAL, "%s does not have the %s %.200s",
	                 subject_of(question->leaf, whose), kinds[question->name.kind],
	                 question->name.text);
}
