#include "forge.h"

#include "common/x509.h"

#include <openssl/core_names.h>
#include <openssl/param_build.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

EVP_PKEY *own_key, *ca_key, *sub_key, *other_key;
X509 *ca, *sub;

static void add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
	CONF *conf = NCONF_new(NULL); /* where some kinds of value look for sections */
	X509V3_CTX context;
	X509_EXTENSION *extension;

	if (!value || !*value) {
		NCONF_free(conf);
		return;
	}
	X509V3_set_ctx(&context, issuer ? issuer : certificate, certificate, NULL, NULL, 0);
	X509V3_set_nconf(&context, conf);
	extension = X509V3_EXT_nconf_nid(conf, &context, nid, value);
	NCONF_free(conf);
	assert_non_null(extension);
	X509_add_ext(certificate, extension, -1);
	X509_EXTENSION_free(extension);
}

static void add_unknown(X509 *certificate, const char *oid)
{
	ASN1_OBJECT *object = oid ? OBJ_txt2obj(oid, 1) : NULL;
	ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
	X509_EXTENSION *extension;

	if (object) {
		ASN1_OCTET_STRING_set(value, (const unsigned char *)"\x05\x00", 2);
		extension = X509_EXTENSION_create_by_OBJ(NULL, object, 1, value);
		X509_add_ext(certificate, extension, -1);
		X509_EXTENSION_free(extension);
	}
	ASN1_OBJECT_free(object);
	ASN1_OCTET_STRING_free(value);
}

static void set_names(X509 *certificate, const struct spec *spec)
{
	X509_NAME *name = NULL;

	assert_int_equal(dn_parse(spec->subject ? spec->subject : "CN=a.example,O=Example", NULL,
	                          &name, NULL),
	                 0);
	X509_set_subject_name(certificate, name);
	X509_set_issuer_name(certificate,
	                     spec->issuer ? X509_get_subject_name(spec->issuer) : name);
	X509_NAME_free(name);
}

static void add_extensions(X509 *certificate, const struct spec *spec)
{
	if (spec->version_1)
		return;
	add_extension(certificate, spec->issuer, NID_subject_alt_name, spec->names);
	add_extension(certificate, spec->issuer, NID_key_usage,
	              spec->usage ? spec->usage : "critical,digitalSignature");
	add_extension(certificate, spec->issuer, NID_ext_key_usage, spec->purposes);
	add_extension(certificate, spec->issuer, NID_basic_constraints, spec->basic);
	add_extension(certificate, spec->issuer, NID_name_constraints, spec->constraints);
	add_extension(certificate, spec->issuer, NID_certificate_policies, spec->policies);
	add_extension(certificate, spec->issuer, NID_policy_mappings, spec->mappings);
	add_extension(certificate, spec->issuer, NID_policy_constraints, spec->policy_constraints);
	add_extension(certificate, spec->issuer, NID_crl_distribution_points, spec->crl_points);
	if (spec->alternative)
		X509_add1_ext_i2d(certificate, NID_subject_alt_name, spec->alternative, 0, 0);
	add_unknown(certificate, spec->extra_oid);
	if (spec->no_key_ids)
		return;
	add_extension(certificate, spec->issuer, NID_subject_key_identifier, "hash");
	if (spec->issuer && X509_get0_subject_key_id(spec->issuer))
		add_extension(certificate, spec->issuer, NID_authority_key_identifier, "keyid");
}

X509 *make(struct spec spec)
{
	static long serial = 1;
	X509 *certificate = X509_new();
	EVP_PKEY *key = spec.key ? spec.key : own_key;
	bool usual = !spec.from && !spec.to;

	X509_set_version(certificate, spec.version_1 ? X509_VERSION_1 : X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++);
	ASN1_TIME_adj(X509_getm_notBefore(certificate), NOW, (int)(usual ? -10 : spec.from), 0);
	ASN1_TIME_adj(X509_getm_notAfter(certificate), NOW, (int)(usual ? 365 : spec.to), 0);
	set_names(certificate, &spec);
	X509_set_pubkey(certificate, key);
	add_extensions(certificate, &spec);
	assert_true(X509_sign(certificate, spec.issuer_key ? spec.issuer_key : key,
	                      spec.digest ? spec.digest : EVP_sha256()) > 0);
	return certificate;
}

int make_cas(void **state)
{
	(void)state;
	own_key = EVP_EC_gen("P-256");
	ca_key = EVP_EC_gen("P-256");
	sub_key = EVP_EC_gen("P-256");
	other_key = EVP_EC_gen("P-256");
	ca = MAKE(.subject = "CN=Root", .key = ca_key, .basic = CA_BASIC, .usage = CA_USAGE);
	sub = MAKE(.subject = "CN=Sub", .key = sub_key, .basic = CA_BASIC, .usage = CA_USAGE,
	           FROM_CA);
	return 0;
}

int free_cas(void **state)
{
	(void)state;
	X509_free(ca);
	X509_free(sub);
	EVP_PKEY_free(own_key);
	EVP_PKEY_free(ca_key);
	EVP_PKEY_free(sub_key);
	EVP_PKEY_free(other_key);
	return 0;
}

STACK_OF(X509) * stack_of(X509 *first, ...)
{
	STACK_OF(X509) *stack = sk_X509_new_null();
	va_list args;

	va_start(args, first);
	for (X509 *one = first; one; one = va_arg(args, X509 *))
		X509_add_cert(stack, one, X509_ADD_FLAG_UP_REF);
	va_end(args);
	return stack;
}

void free_stack(STACK_OF(X509) * stack)
{
	sk_X509_pop_free(stack, X509_free);
}

EVP_PKEY *huge_key(int bits)
{
	OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
	BIGNUM *n = BN_new(), *e = BN_new();
	OSSL_PARAM *parameters;
	EVP_PKEY *key = NULL;

	BN_rand(n, bits, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ODD);
	BN_set_word(e, RSA_F4);
	OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n);
	OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e);
	parameters = OSSL_PARAM_BLD_to_param(build);
	EVP_PKEY_fromdata_init(context);
	assert_int_equal(EVP_PKEY_fromdata(context, &key, EVP_PKEY_PUBLIC_KEY, parameters), 1);
	OSSL_PARAM_free(parameters);
	OSSL_PARAM_BLD_free(build);
	EVP_PKEY_CTX_free(context);
	BN_free(n);
	BN_free(e);
	return key;
}

EVP_PKEY *explicit_key(void)
{
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, NULL);
	EVP_PKEY *key = NULL;

	EVP_PKEY_keygen_init(context);
	EVP_PKEY_CTX_set_ec_paramgen_curve_nid(context, NID_X9_62_prime256v1);
	EVP_PKEY_CTX_set_ec_param_enc(context, 0);
	assert_int_equal(EVP_PKEY_keygen(context, &key), 1);
	EVP_PKEY_CTX_free(context);
	return key;
}

X509 *reread(X509 *certificate)
{
	unsigned char *der;
	size_t length;
	X509 *read;

	assert_int_equal(certificate_to_der(certificate, &der, &length), 0);
	read = certificate_from_der(der, length, NULL);
	assert_non_null(read);
	OPENSSL_free(der);
	X509_free(certificate);
	return read;
}
