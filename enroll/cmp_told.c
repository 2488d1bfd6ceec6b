#include "enroll/cmp_told.h"

#include "common/x509.h"
#include "enroll/csr.h"

#include <errno.h>
#include <openssl/asn1t.h>
#include <openssl/crmf.h>
#include <openssl/err.h>
#include <string.h>

#define EXTENSIONS_MAX 20

/*
 * A PKIMessage with a genp. OpenSSL reads some values into structures of its own, which depend on
 * its version; this reads all alike: an InfoTypeAndValue has the shape of an AlgorithmIdentifier.
 */
typedef struct {
	ASN1_TYPE *header;
	STACK_OF(X509_ALGOR) * told;
	ASN1_BIT_STRING *protection;
	STACK_OF(X509) * extra;
} TOLD;

/* RootCaKeyUpdateContent (RFC 9480 §2.15) */
typedef struct {
	X509 *new_with_new, *new_with_old, *old_with_new;
} KEY_UPDATE;

/* CertReqTemplateContent (RFC 9480 §2.16); controls have the shape of an AlgorithmIdentifier */
typedef struct {
	OSSL_CRMF_CERTTEMPLATE *template;
	STACK_OF(X509_ALGOR) * keys;
} TEMPLATE;

/* CRLStatus (RFC 9480 §2.14) as we ask it, and a list of one */
typedef struct {
	GENERAL_NAMES *issuer;
} CRL_STATUS;
typedef struct {
	CRL_STATUS *first;
} CRL_STATUSES;

/* clang-format off */
ASN1_SEQUENCE(TOLD) = {
	ASN1_SIMPLE(TOLD, header, ASN1_ANY),
	ASN1_EXP_SEQUENCE_OF(TOLD, told, X509_ALGOR, 22),
	ASN1_EXP_OPT(TOLD, protection, ASN1_BIT_STRING, 0),
	ASN1_EXP_SEQUENCE_OF_OPT(TOLD, extra, X509, 1),
} static_ASN1_SEQUENCE_END(TOLD)

ASN1_SEQUENCE(KEY_UPDATE) = {
	ASN1_SIMPLE(KEY_UPDATE, new_with_new, X509),
	ASN1_EXP_OPT(KEY_UPDATE, new_with_old, X509, 0),
	ASN1_EXP_OPT(KEY_UPDATE, old_with_new, X509, 1),
} static_ASN1_SEQUENCE_END(KEY_UPDATE)

ASN1_SEQUENCE(TEMPLATE) = {
	ASN1_SIMPLE(TEMPLATE, template, OSSL_CRMF_CERTTEMPLATE),
	ASN1_SEQUENCE_OF_OPT(TEMPLATE, keys, X509_ALGOR),
} static_ASN1_SEQUENCE_END(TEMPLATE)

ASN1_SEQUENCE(CRL_STATUS) = {
	ASN1_EXP(CRL_STATUS, issuer, GENERAL_NAMES, 1),
} static_ASN1_SEQUENCE_END(CRL_STATUS)

ASN1_SEQUENCE(CRL_STATUSES) = {
	ASN1_SIMPLE(CRL_STATUSES, first, CRL_STATUS),
} static_ASN1_SEQUENCE_END(CRL_STATUSES)
/* clang-format on */

static bool is(const ASN1_OBJECT *type, const char *oid)
{
	char text[64];

	return OBJ_obj2txt(text, sizeof text, type, 1) > 0 && strcmp(text, oid) == 0;
}

ASN1_TYPE *cmp_told_value(const void *der, size_t length, const char *type)
{
	const unsigned char *at = der;
	ASN1_VALUE *read = ASN1_item_d2i(NULL, &at, (long)length, ASN1_ITEM_rptr(TOLD));
	TOLD *message = (TOLD *)read;
	ASN1_TYPE *value = NULL;

	for (int i = 0; message && i < sk_X509_ALGOR_num(message->told); i++) {
		X509_ALGOR *item = sk_X509_ALGOR_value(message->told, i);

		if (!value && is(item->algorithm, type)) {
			value = item->parameter;
			item->parameter = NULL;
		}
	}
	ASN1_item_free(read, ASN1_ITEM_rptr(TOLD));
	return value;
}

STACK_OF(ASN1_TYPE) * cmp_told_list(const ASN1_TYPE *value)
{
	const unsigned char *at;

	if (!value || value->type != V_ASN1_SEQUENCE)
		return NULL;
	at = value->value.sequence->data;
	return d2i_ASN1_SEQUENCE_ANY(NULL, &at, value->value.sequence->length);
}

bool cmp_told_next(const ASN1_TYPE *value, struct record *result)
{
	KEY_UPDATE *update =
		value ? ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(KEY_UPDATE), value) : NULL;

	if (update) {
		certificate_add(result, "next", update->new_with_new);
		certificate_add(result, "next", update->new_with_old);
		record_add(result, "next-announced", "yes");
	}
	ASN1_item_free((ASN1_VALUE *)update, ASN1_ITEM_rptr(KEY_UPDATE));
	return update != NULL;
}

/* --- what requests are to have --- */

/* The algorithm that VALUE, a control's, names. */
static void take_algorithm(struct cmp_template *template, const ASN1_TYPE *value)
{
	X509_ALGOR *algorithm =
		value ? ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(X509_ALGOR), value) : NULL;
	int type = algorithm ? key_kind_type(OBJ_obj2nid(algorithm->algorithm)) : 0, bits = 0;

	if (type == EVP_PKEY_EC && algorithm->parameter)
		bits = key_kind_curve(algorithm->parameter);
	key_kinds_add(&template->kinds, bits < 0 ? 0 : type, bits < 0 ? 0 : bits);
	X509_ALGOR_free(algorithm);
}

/* id-regCtrl-algId and id-regCtrl-rsaKeyLen (RFC 9480 §2.16), any of them. */
static void take_keys(struct cmp_template *template, const STACK_OF(X509_ALGOR) * controls)
{
	for (int i = 0; i < sk_X509_ALGOR_num(controls); i++) {
		const X509_ALGOR *control = sk_X509_ALGOR_value(controls, i);
		const ASN1_TYPE *value = control->parameter;

		if (is(control->algorithm, "1.3.6.1.5.5.7.5.1.11"))
			take_algorithm(template, value);
		else if (is(control->algorithm, "1.3.6.1.5.5.7.5.1.12") && value &&
		         value->type == V_ASN1_INTEGER)
			key_kinds_add(&template->kinds, EVP_PKEY_RSA,
			              (int)ASN1_INTEGER_get(value->value.integer));
	}
}

/* One without a value is for us to say something in. */
static int take_extensions(struct cmp_template *template, X509_EXTENSIONS *wanted)
{
	for (int i = 0; i < sk_X509_EXTENSION_num(wanted); i++) {
		X509_EXTENSION *extension = sk_X509_EXTENSION_value(wanted, i);

		if (!csr_takes(extension) ||
		    ASN1_STRING_length(X509_EXTENSION_get_data(extension)) == 0 ||
		    X509v3_get_ext_by_OBJ(template->extensions,
		                          X509_EXTENSION_get_object(extension), -1) >= 0)
			continue;
		if (sk_X509_EXTENSION_num(template->extensions) >= EXTENSIONS_MAX ||
		    !X509v3_add_ext(&template->extensions, extension, -1))
			return -EBADMSG;
	}
	return 0;
}

int cmp_told_template(const void *der, size_t length, struct cmp_template *template,
                      struct error *err)
{
	const unsigned char *at = der;
	ASN1_VALUE *read = ASN1_item_d2i(NULL, &at, (long)length, ASN1_ITEM_rptr(TEMPLATE));
	const TEMPLATE *told = (TEMPLATE *)read;
	int r = told ? 0 : -EBADMSG;

	*template = (struct cmp_template){ 0 };
	if (told) {
		take_keys(template, told->keys);
		r = take_extensions(template,
		                    OSSL_CRMF_CERTTEMPLATE_get0_extensions(told->template));
	}
	ASN1_item_free(read, ASN1_ITEM_rptr(TEMPLATE));
	return r < 0 ? error_openssl(err, r, "the CA's template cannot be read") : 0;
}

void cmp_template_clear(struct cmp_template *template)
{
	sk_X509_EXTENSION_pop_free(template->extensions, X509_EXTENSION_free);
	template->extensions = NULL;
}

/* --- CRLs --- */

ASN1_TYPE *cmp_crl_question(const X509_NAME *issuer)
{
	GENERAL_NAMES *names = GENERAL_NAMES_new();
	GENERAL_NAME *name = GENERAL_NAME_new();
	X509_NAME *copy = X509_NAME_dup(issuer);
	CRL_STATUS status = { .issuer = names };
	CRL_STATUSES list = { .first = &status };
	ASN1_TYPE *value = NULL;

	if (names && name && copy && sk_GENERAL_NAME_push(names, name)) {
		GENERAL_NAME_set0_value(name, GEN_DIRNAME, copy);
		value = ASN1_TYPE_pack_sequence(ASN1_ITEM_rptr(CRL_STATUSES), &list, NULL);
		name = NULL;
		copy = NULL;
	}
	X509_NAME_free(copy);
	GENERAL_NAME_free(name);
	GENERAL_NAMES_free(names);
	return value;
}
