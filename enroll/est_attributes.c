/* CsrAttrs: a sequence of OIDs and attributes, each of them a wish. */
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

static int take_attribute(struct est_attributes *attributes, const ASN1_STRING *sequence,
                          struct error *err)
{
	const unsigned char *at = ASN1_STRING_get0_data(sequence);
	const unsigned char *end = at + ASN1_STRING_length(sequence);
	X509_ATTRIBUTE *attribute = d2i_X509_ATTRIBUTE(NULL, &at, end - at);
	int nid, r = 0;

	if (!attribute || at != end) {
		X509_ATTRIBUTE_free(attribute);
		return unreadable(err);
	}
	nid = OBJ_obj2nid(X509_ATTRIBUTE_get0_object(attribute));
	if (nid == NID_ext_req)
		r = take_extensions(attributes, attribute, err);
	else if (key_kind_type(nid))
		take_kinds(attributes, key_kind_type(nid), attribute);
	else
		take_oid(attributes, X509_ATTRIBUTE_get0_object(attribute));
	X509_ATTRIBUTE_free(attribute);
	return r;
}

static int take_wish(struct est_attributes *attributes, const ASN1_TYPE *wish, struct error *err)
{
	if (wish->type == V_ASN1_OBJECT) {
		take_oid(attributes, wish->value.object);
		return 0;
	}
	if (wish->type == V_ASN1_SEQUENCE)
		return take_attribute(attributes, wish->value.sequence, err);
	return unreadable(err);
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
	for (int i = 0; r == 0 && i < sk_ASN1_TYPE_num(wishes); i++)
		r = take_wish(attributes, sk_ASN1_TYPE_value(wishes, i), err);
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
