/*
 * CsrAttrs: a sequence of OIDs and attributes, each of them a wish, or (RFC 9908 §3.4) one
 * attribute that is a template of the request: then that alone tells of the key and the extensions.
 */
#include "enroll/csr.h"
#include "enroll/est_message.h"

#include <errno.h>
#include <openssl/asn1t.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>

#define WISHES_MAX     100
#define EXTENSIONS_MAX 20

#define AA_TEMPLATE   "1.2.840.113549.1.9.16.2.61" /* id-aa-certificationRequestInfoTemplate */
#define AA_EXTENSIONS "1.2.840.113549.1.9.16.2.62" /* id-aa-extensionReqTemplate */

/* RFC 9908's ASN.1 */

/* clang-format off */
struct extension_template {
	ASN1_OBJECT *id;
	ASN1_BOOLEAN critical;
	ASN1_OCTET_STRING *value; /* NULL: ours to say */
};
typedef struct extension_template extension_template;
DEFINE_STACK_OF(extension_template)

struct key_template {
	X509_ALGOR *algorithm;
	ASN1_BIT_STRING *public; /* NULL, or of RSA a key of the size that is wanted */
};
typedef struct key_template key_template;

struct request_template {
	ASN1_INTEGER *version;
	ASN1_STRING *subject; /* not looked at: names are ours to say */
	key_template *key;
	STACK_OF(X509_ATTRIBUTE) *attributes;
};

ASN1_SEQUENCE(extension_template) = {
	ASN1_SIMPLE(extension_template, id, ASN1_OBJECT),
	ASN1_OPT(extension_template, critical, ASN1_FBOOLEAN),
	ASN1_OPT(extension_template, value, ASN1_OCTET_STRING),
} static_ASN1_SEQUENCE_END(extension_template)

ASN1_ITEM_TEMPLATE(extension_templates) =
	ASN1_EX_TEMPLATE_TYPE(ASN1_TFLG_SEQUENCE_OF, 0, extensions, extension_template)
static_ASN1_ITEM_TEMPLATE_END(extension_templates)

ASN1_SEQUENCE(key_template) = {
	ASN1_SIMPLE(key_template, algorithm, X509_ALGOR),
	ASN1_OPT(key_template, public, ASN1_BIT_STRING),
} static_ASN1_SEQUENCE_END(key_template)

ASN1_SEQUENCE(request_template) = {
	ASN1_SIMPLE(struct request_template, version, ASN1_INTEGER),
	ASN1_OPT(struct request_template, subject, ASN1_SEQUENCE),
	ASN1_IMP_OPT(struct request_template, key, key_template, 0),
	ASN1_IMP_SET_OF_OPT(struct request_template, attributes, X509_ATTRIBUTE, 1),
} static_ASN1_SEQUENCE_END_name(struct request_template, request_template)
/* clang-format on */

static int unreadable(struct error *err)
{
	return error_openssl(err, -EBADMSG, "the attributes that the server wants cannot be read");
}

static void add_other(struct est_attributes *attributes, const ASN1_OBJECT *oid)
{
	size_t used = strlen(attributes->other);
	char name[80];

	if (OBJ_obj2txt(name, sizeof name, oid, 0) <= 0)
		return;
	if (used + strlen(name) + 3 < sizeof attributes->other)
		snprintf(attributes->other + used, sizeof attributes->other - used, "%s%s",
		         used ? ", " : "", name);
}

/* Adds a signature algorithm; false where it is none. */
static bool add_signature(struct est_attributes *attributes, int nid)
{
	int digest, key;

	if (!OBJ_find_sigid_algs(nid, &digest, &key))
		return false;
	if (attributes->signature_count < EST_SIGNATURES_MAX)
		attributes->signatures[attributes->signature_count++] = nid;
	return true;
}

/* What stands in every request of ours: names, and a usage of the key. */
static bool is_ours(int nid)
{
	return nid == NID_ext_req || nid == NID_subject_alt_name || nid == NID_key_usage;
}

static void take_oid(struct est_attributes *attributes, const ASN1_OBJECT *oid)
{
	int nid = OBJ_obj2nid(oid);

	if (nid == NID_pkcs9_challengePassword)
		attributes->binding = true;
	else if (key_kind_type(nid))
		key_kinds_add(&attributes->kinds, key_kind_type(nid), 0);
	else if (!is_ours(nid) && !add_signature(attributes, nid))
		add_other(attributes, oid);
}

/* --- attributes with values --- */

/* Kinds of key: a curve, or the bits of a modulus, each. */
static void take_kinds(struct est_attributes *attributes, int type, X509_ATTRIBUTE *attribute)
{
	for (int i = 0; i < X509_ATTRIBUTE_count(attribute); i++) {
		const ASN1_TYPE *value = X509_ATTRIBUTE_get0_type(attribute, i);
		long bits = -1;

		if (type == EVP_PKEY_EC)
			bits = key_kind_curve(value);
		else if (value->type == V_ASN1_INTEGER)
			bits = ASN1_INTEGER_get(value->value.integer);
		key_kinds_add(&attributes->kinds, bits > 0 && bits <= 16384 ? type : 0, (int)bits);
	}
	if (X509_ATTRIBUTE_count(attribute) == 0)
		key_kinds_add(&attributes->kinds, type, 0);
}

/* Moves what may stand in a request of ours out of WANTED. */
static bool keep_extensions(struct est_attributes *attributes, STACK_OF(X509_EXTENSION) * wanted)
{
	if (!attributes->extensions)
		attributes->extensions = sk_X509_EXTENSION_new_null();
	while (attributes->extensions && sk_X509_EXTENSION_num(wanted) > 0) {
		X509_EXTENSION *extension = sk_X509_EXTENSION_shift(wanted);
		const ASN1_OBJECT *oid = X509_EXTENSION_get_object(extension);
		bool keep = csr_takes(extension) &&
		            X509v3_get_ext_by_OBJ(attributes->extensions, oid, -1) < 0 &&
		            sk_X509_EXTENSION_num(attributes->extensions) < EXTENSIONS_MAX;

		if (keep && !sk_X509_EXTENSION_push(attributes->extensions, extension))
			return false;
		if (!keep)
			X509_EXTENSION_free(extension);
	}
	return attributes->extensions != NULL;
}

static int take_extensions(struct est_attributes *attributes, X509_ATTRIBUTE *attribute,
                           struct error *err)
{
	for (int i = 0; i < X509_ATTRIBUTE_count(attribute); i++) {
		const ASN1_TYPE *value = X509_ATTRIBUTE_get0_type(attribute, i);
		STACK_OF(X509_EXTENSION) *wanted =
			value->type == V_ASN1_SEQUENCE
				? ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(X509_EXTENSIONS), value)
				: NULL;
		bool kept = wanted && keep_extensions(attributes, wanted);

		sk_X509_EXTENSION_pop_free(wanted, X509_EXTENSION_free);
		if (!kept)
			return unreadable(err);
	}
	return 0;
}

static bool is_called(X509_ATTRIBUTE *attribute, const char *oid)
{
	char name[80];

	return OBJ_obj2txt(name, sizeof name, X509_ATTRIBUTE_get0_object(attribute), 1) > 0 &&
	       strcmp(name, oid) == 0;
}

/* --- the template --- */

/* What a template has of an attribute's only value; the caller's. */
static void *only_value(X509_ATTRIBUTE *attribute, const ASN1_ITEM *item)
{
	const ASN1_TYPE *value = X509_ATTRIBUTE_get0_type(attribute, 0);

	return X509_ATTRIBUTE_count(attribute) == 1 && value->type == V_ASN1_SEQUENCE
	               ? ASN1_TYPE_unpack_sequence(item, value)
	               : NULL;
}

/* Those that have a value; what has none and we have nothing for is named. */
static int take_extension_templates(struct est_attributes *attributes, X509_ATTRIBUTE *attribute,
                                    struct error *err)
{
	STACK_OF(extension_template) *templates =
		only_value(attribute, ASN1_ITEM_rptr(extension_templates));
	STACK_OF(X509_EXTENSION) *wanted = sk_X509_EXTENSION_new_null();
	bool ok = templates && wanted;

	for (int i = 0; ok && i < sk_extension_template_num(templates); i++) {
		const extension_template *one = sk_extension_template_value(templates, i);
		X509_EXTENSION *extension = NULL;

		if (!one->value && !is_ours(OBJ_obj2nid(one->id)))
			add_other(attributes, one->id);
		if (!one->value)
			continue;
		extension =
			X509_EXTENSION_create_by_OBJ(NULL, one->id, one->critical != 0, one->value);
		ok = extension && sk_X509_EXTENSION_push(wanted, extension);
	}
	ok = ok && keep_extensions(attributes, wanted);
	sk_X509_EXTENSION_pop_free(wanted, X509_EXTENSION_free);
	ASN1_item_free((ASN1_VALUE *)templates, ASN1_ITEM_rptr(extension_templates));
	return ok ? 0 : unreadable(err);
}

/* Bits of the RSA key in PUBLIC; 0: there is none. */
static int rsa_bits(const ASN1_BIT_STRING *public)
{
	const unsigned char *at = public ? ASN1_STRING_get0_data(public) : NULL;
	EVP_PKEY *key =
		at ? d2i_PublicKey(EVP_PKEY_RSA, NULL, &at, ASN1_STRING_length(public)) : NULL;
	int bits = key ? EVP_PKEY_get_bits(key) : 0;

	EVP_PKEY_free(key);
	return bits;
}

static void take_key_template(struct est_attributes *attributes, const key_template *template)
{
	const ASN1_TYPE *parameter = template->algorithm->parameter;
	int type = key_kind_type(OBJ_obj2nid(template->algorithm->algorithm)), bits = 0;

	if (type == EVP_PKEY_EC && parameter)
		bits = key_kind_curve(parameter);
	else if (type == EVP_PKEY_RSA)
		bits = rsa_bits(template->public);
	key_kinds_add(&attributes->kinds, bits >= 0 ? type : 0, bits);
}

static int take_attribute(struct est_attributes *attributes, X509_ATTRIBUTE *attribute,
                          struct error *err);

static int take_template(struct est_attributes *attributes, X509_ATTRIBUTE *attribute,
                         struct error *err)
{
	struct request_template *template = only_value(attribute, ASN1_ITEM_rptr(request_template));
	int r = template ? 0 : unreadable(err);

	if (r == 0 && template->key)
		take_key_template(attributes, template->key);
	for (int i = 0; r == 0 && i < sk_X509_ATTRIBUTE_num(template->attributes); i++)
		r = take_attribute(attributes, sk_X509_ATTRIBUTE_value(template->attributes, i),
		                   err);
	ASN1_item_free((ASN1_VALUE *)template, ASN1_ITEM_rptr(request_template));
	return r;
}

/* --- all wishes --- */

static int take_attribute(struct est_attributes *attributes, X509_ATTRIBUTE *attribute,
                          struct error *err)
{
	int nid = OBJ_obj2nid(X509_ATTRIBUTE_get0_object(attribute));

	if (nid == NID_ext_req)
		return take_extensions(attributes, attribute, err);
	if (is_called(attribute, AA_EXTENSIONS))
		return take_extension_templates(attributes, attribute, err);
	if (key_kind_type(nid))
		take_kinds(attributes, key_kind_type(nid), attribute);
	else
		take_oid(attributes, X509_ATTRIBUTE_get0_object(attribute));
	return 0;
}

/* The attribute that WISH is, the caller's; NULL where it is none. */
static X509_ATTRIBUTE *read_attribute(const ASN1_TYPE *wish)
{
	return wish->type == V_ASN1_SEQUENCE
	               ? ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(X509_ATTRIBUTE), wish)
	               : NULL;
}

static int take_wish(struct est_attributes *attributes, const ASN1_TYPE *wish, struct error *err)
{
	X509_ATTRIBUTE *attribute = read_attribute(wish);
	int r = 0;

	if (attribute)
		r = take_attribute(attributes, attribute, err);
	else if (wish->type == V_ASN1_OBJECT)
		take_oid(attributes, wish->value.object);
	else
		r = unreadable(err);
	X509_ATTRIBUTE_free(attribute);
	return r;
}

/* 1: one of WISHES was a template, and is taken; 0: none is. */
static int find_template(struct est_attributes *attributes, const STACK_OF(ASN1_TYPE) * wishes,
                         struct error *err)
{
	int found = 0;

	for (int i = 0; !found && i < sk_ASN1_TYPE_num(wishes); i++) {
		X509_ATTRIBUTE *attribute = read_attribute(sk_ASN1_TYPE_value(wishes, i));

		if (attribute && is_called(attribute, AA_TEMPLATE)) {
			found = take_template(attributes, attribute, err);
			found = found < 0 ? found : 1;
		}
		X509_ATTRIBUTE_free(attribute);
	}
	return found;
}

/* Beside a template: how to sign, of which that says nothing, and what ties to the connection. */
static bool goes_beyond(const ASN1_TYPE *wish)
{
	int digest, key, nid = wish->type == V_ASN1_OBJECT ? OBJ_obj2nid(wish->value.object) : 0;

	return nid == NID_pkcs9_challengePassword || OBJ_find_sigid_algs(nid, &digest, &key);
}

static int take_wishes(struct est_attributes *attributes, const STACK_OF(ASN1_TYPE) * wishes,
                       struct error *err)
{
	int found = find_template(attributes, wishes, err), r = found < 0 ? found : 0;

	for (int i = 0; r == 0 && i < sk_ASN1_TYPE_num(wishes); i++) {
		const ASN1_TYPE *wish = sk_ASN1_TYPE_value(wishes, i);

		if (!found || goes_beyond(wish))
			r = take_wish(attributes, wish, err);
	}
	return r;
}

int est_attributes_read(const char *text, size_t length, struct est_attributes *attributes,
                        struct error *err)
{
	STACK_OF(ASN1_TYPE) *wishes = NULL;
	const unsigned char *at;
	unsigned char *der = NULL;
	size_t size = 0;
	int r;

	*attributes = (struct est_attributes){ 0 };
	if (!length)
		return 0;
	r = est_base64_read(text, length, &der, &size, err);
	if (r < 0)
		return r;
	at = der;
	wishes = d2i_ASN1_SEQUENCE_ANY(NULL, &at, (long)size);
	if (!wishes || at != der + size || sk_ASN1_TYPE_num(wishes) > WISHES_MAX)
		r = unreadable(err);
	if (r == 0)
		r = take_wishes(attributes, wishes, err);
	sk_ASN1_TYPE_pop_free(wishes, ASN1_TYPE_free);
	OPENSSL_free(der);
	ERR_clear_error();
	return r;
}

void est_attributes_clear(struct est_attributes *attributes)
{
	sk_X509_EXTENSION_pop_free(attributes->extensions, X509_EXTENSION_free);
	attributes->extensions = NULL;
}

/* --- against what we have --- */

const EVP_MD *est_attributes_digest(const struct est_attributes *attributes, const EVP_PKEY *key,
                                    const char *wanted)
{
	static const int taken[] = { NID_sha256, NID_sha384, NID_sha512 };
	const EVP_MD *first = NULL, *ours = EVP_get_digestbyname(wanted ? wanted : "sha256");

	for (size_t i = 0; i < attributes->signature_count; i++) {
		int digest = NID_undef, type = NID_undef;

		OBJ_find_sigid_algs(attributes->signatures[i], &digest, &type);
		if (key_kind_type(type) != EVP_PKEY_get_base_id(key))
			continue;
		if (ours && EVP_MD_get_type(ours) == digest)
			return NULL;
		for (size_t k = 0; k < COUNT(taken); k++)
			if (taken[k] == digest && !first)
				first = EVP_get_digestbynid(digest);
	}
	return first;
}
