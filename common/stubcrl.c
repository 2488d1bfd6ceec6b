#include "common/stubcrl.h"

#include "common/x509.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#define REASONS 11 /* CRLReason is 0 to 10 (RFC 5280 §5.3.1) */

/* What a stub has beside OpenSSL's own. */
struct data {
	struct crl_index *index;
	struct crl_scheme scheme;
	unsigned char digest[EVP_MAX_MD_SIZE];
	size_t digest_length;
	EVP_PKEY *good; /* the key that it was last found to be signed with */
	bool delta, damaged;
};

/* --- signatures --- */

static const EVP_MD *digest_of(const X509_ALGOR *algorithm)
{
	const ASN1_OBJECT *object;

	if (!algorithm)
		return EVP_sha1(); /* RFC 4055 §3.1 */
	X509_ALGOR_get0(&object, NULL, NULL, algorithm);
	return EVP_get_digestbyobj(object);
}

/* MGF1 has the digest as its parameter. */
static const EVP_MD *mask_of(const X509_ALGOR *generator)
{
	X509_ALGOR *algorithm = NULL;
	const EVP_MD *digest = NULL;
	const ASN1_OBJECT *object;
	const void *value;
	int type;

	if (!generator)
		return EVP_sha1();
	X509_ALGOR_get0(&object, &type, &value, generator);
	if (OBJ_obj2nid(object) == NID_mgf1 && type == V_ASN1_SEQUENCE)
		algorithm = ASN1_item_unpack(value, ASN1_ITEM_rptr(X509_ALGOR));
	if (algorithm)
		digest = digest_of(algorithm);
	X509_ALGOR_free(algorithm);
	return digest;
}

static bool read_pss(const X509_ALGOR *algorithm, struct crl_scheme *scheme)
{
	RSA_PSS_PARAMS *parameters = NULL;
	const void *value;
	int type;

	X509_ALGOR_get0(NULL, &type, &value, algorithm);
	if (type == V_ASN1_SEQUENCE)
		parameters = ASN1_item_unpack(value, ASN1_ITEM_rptr(RSA_PSS_PARAMS));
	if (!parameters)
		return false;
	scheme->pss = true;
	scheme->key = EVP_PKEY_RSA;
	scheme->digest = digest_of(parameters->hashAlgorithm);
	scheme->mask = mask_of(parameters->maskGenAlgorithm);
	scheme->salt = parameters->saltLength ? (int)ASN1_INTEGER_get(parameters->saltLength) : 20;
	RSA_PSS_PARAMS_free(parameters);
	return scheme->digest && scheme->mask && scheme->salt >= 0;
}

bool crl_scheme_read(const X509_ALGOR *algorithm, struct crl_scheme *scheme)
{
	const ASN1_OBJECT *object;
	int digest;

	*scheme = (struct crl_scheme){ 0 };
	X509_ALGOR_get0(&object, NULL, NULL, algorithm);
	if (OBJ_obj2nid(object) == NID_rsassaPss)
		return read_pss(algorithm, scheme);
	if (!OBJ_find_sigid_algs(OBJ_obj2nid(object), &digest, &scheme->key))
		return false;
	if (digest != NID_undef)
		scheme->digest = EVP_get_digestbynid(digest);
	return scheme->digest || digest == NID_undef;
}

int crl_signer(const EVP_PKEY *key, unsigned char signer[STUB_SIGNER_MAX])
{
	unsigned char *der = NULL;
	size_t length;
	int r = public_key_to_der(key, &der, &length);

	if (r == 0 && !EVP_Digest(der, length, signer, NULL, EVP_sha256(), NULL))
		r = -ENOMEM;
	OPENSSL_free(der);
	return r;
}

static bool verify_digest(const struct data *data, const ASN1_BIT_STRING *signature, EVP_PKEY *key)
{
	const struct crl_scheme *scheme = &data->scheme;
	EVP_PKEY_CTX *context = NULL;
	bool good;

	if (EVP_PKEY_get_base_id(key) != scheme->key &&
	    !(scheme->pss && EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA_PSS))
		return false;
	context = EVP_PKEY_CTX_new(key, NULL);
	good = context && EVP_PKEY_verify_init(context) > 0;
	if (good && scheme->pss)
		good = EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PSS_PADDING) > 0;
	good = good && EVP_PKEY_CTX_set_signature_md(context, scheme->digest) > 0;
	if (good && scheme->pss)
		good = EVP_PKEY_CTX_set_rsa_mgf1_md(context, scheme->mask) > 0 &&
		       EVP_PKEY_CTX_set_rsa_pss_saltlen(context, scheme->salt) > 0;
	good = good && EVP_PKEY_verify(context, ASN1_STRING_get0_data(signature),
	                               (size_t)ASN1_STRING_length(signature), data->digest,
	                               data->digest_length) == 1;
	EVP_PKEY_CTX_free(context);
	ERR_clear_error();
	return good;
}

static int method_verify(X509_CRL *crl, EVP_PKEY *key)
{
	struct data *data = X509_CRL_get_meth_data(crl);
	unsigned char signer[STUB_SIGNER_MAX];
	const ASN1_BIT_STRING *signature;
	bool good;

	if (data->good && EVP_PKEY_eq(data->good, key) == 1)
		return 1;
	X509_CRL_get0_signature(crl, &signature, NULL);
	if (signature->flags & 7) /* a signature is whole bytes */
		return 0;
	if (data->scheme.digest) {
		good = verify_digest(data, signature, key);
	} else {
		good = data->digest_length == sizeof signer && crl_signer(key, signer) == 0 &&
		       memcmp(data->digest, signer, sizeof signer) == 0;
	}
	if (good && EVP_PKEY_up_ref(key)) {
		EVP_PKEY_free(data->good);
		data->good = key;
	}
	return good;
}

/* --- entries --- */

/* An entry for REASON (REASONS: none), of whatever certificate. */
static bool add_example(X509_CRL *crl, int reason)
{
	X509_REVOKED *entry = X509_REVOKED_new();
	ASN1_INTEGER *serial = ASN1_INTEGER_new();
	ASN1_ENUMERATED *value = ASN1_ENUMERATED_new();
	ASN1_TIME *time = ASN1_TIME_set(NULL, 0);
	bool good = entry && serial && value && time && ASN1_INTEGER_set(serial, reason + 1) &&
	            ASN1_ENUMERATED_set(value, reason) &&
	            X509_REVOKED_set_serialNumber(entry, serial) &&
	            X509_REVOKED_set_revocationDate(entry, time);

	if (good && reason < REASONS)
		good = X509_REVOKED_add1_ext_i2d(entry, NID_crl_reason, value, 0, 0) == 1;
	ASN1_INTEGER_free(serial);
	ASN1_ENUMERATED_free(value);
	ASN1_TIME_free(time);
	if (good && X509_CRL_add0_revoked(crl, entry))
		return true;
	X509_REVOKED_free(entry);
	return false;
}

/*
 * A CRL with an entry of each reason. A look-up gives OpenSSL an X509_REVOKED whose reason it has
 * read itself, and only decoding a CRL makes it do so.
 */
static X509_CRL *make_examples(void)
{
	X509_CRL *crl = X509_CRL_new(), *decoded = NULL;
	ASN1_TIME *time = ASN1_TIME_set(NULL, 0);
	EVP_PKEY *key = EVP_EC_gen("P-256");
	unsigned char *der = NULL;
	const unsigned char *at;
	int length = 0;
	bool good = crl && time && key && X509_CRL_set_version(crl, X509_CRL_VERSION_2) &&
	            X509_CRL_set1_lastUpdate(crl, time);

	for (int reason = 0; good && reason <= REASONS; reason++)
		good = add_example(crl, reason);
	if (good && X509_CRL_sign(crl, key, EVP_sha256()) > 0)
		length = i2d_X509_CRL(crl, &der);
	at = der;
	if (length > 0)
		decoded = d2i_X509_CRL(NULL, &at, length);
	OPENSSL_free(der);
	EVP_PKEY_free(key);
	ASN1_TIME_free(time);
	X509_CRL_free(crl);
	return decoded;
}

/* Those of the examples, by their reasons; false: no memory. */
static bool take_examples(X509_REVOKED *by_reason[REASONS + 1])
{
	static X509_CRL *examples; /* owns them */
	ASN1_INTEGER *serial = ASN1_INTEGER_new();
	bool good;

	if (!examples)
		examples = make_examples();
	good = examples && serial;
	for (int i = 0; good && i <= REASONS; i++)
		good = ASN1_INTEGER_set(serial, i + 1) &&
		       X509_CRL_get0_by_serial(examples, &by_reason[i], serial);
	ASN1_INTEGER_free(serial);
	return good;
}

/* The example that says what ENTRY says (NULL: any); it lives until the next look-up. NULL: no
 * memory. */
static X509_REVOKED *example_of(const struct crl_entry *entry)
{
	static X509_REVOKED *by_reason[REASONS + 1];
	static bool ready;
	X509_REVOKED *example;
	ASN1_TIME *time;

	if (!ready)
		ready = take_examples(by_reason);
	if (!ready || !entry)
		return ready ? by_reason[REASONS] : NULL;
	example = by_reason[entry->reason < REASONS ? entry->reason : REASONS];
	time = ASN1_TIME_set(NULL, (time_t)crl_entry_time(entry));
	if (time)
		X509_REVOKED_set_revocationDate(example, time);
	ASN1_TIME_free(time);
	return example;
}

static uint64_t failures;

uint64_t stub_crl_failures(void)
{
	return failures;
}

int stub_crl_find(X509_CRL *crl, const ASN1_INTEGER *serial, const X509_NAME *issuer,
                  struct crl_entry *entry)
{
	struct data *data = X509_CRL_get_meth_data(crl);
	int r = 0;

	if (data->index)
		r = crl_index_find(data->index, serial, issuer, X509_CRL_get_issuer(crl), entry);
	if (r < 0) {
		data->damaged = true;
		failures++;
	}
	if (r == 1 && entry->reason == CRL_REASON_REMOVE_FROM_CRL && !data->delta)
		entry->reason = CRL_NO_REASON; /* only a delta CRL takes anybody off (§5.3.1) */
	return r;
}

/* 1: revoked, 2: no longer (removeFromCRL), 0: not in it. ISSUER NULL: the CRL's own. */
static int method_lookup(X509_CRL *crl, X509_REVOKED **revoked, const ASN1_INTEGER *serial,
                         const X509_NAME *issuer)
{
	struct crl_entry entry = { .reason = CRL_NO_REASON };
	X509_REVOKED *example;
	int r = stub_crl_find(crl, serial, issuer ? issuer : X509_CRL_get_issuer(crl), &entry);

	if (r == 0)
		return 0;
	if (r < 0) /* who cannot be looked up is not good */
		entry = (struct crl_entry){ .reason = CRL_NO_REASON };
	example = example_of(&entry);
	if (revoked)
		*revoked = example;
	return entry.reason == CRL_REASON_REMOVE_FROM_CRL ? 2 : 1;
}

/* --- the X509_CRL --- */

static int method_init(X509_CRL *crl)
{
	X509_CRL_set_meth_data(crl, NULL);
	return 1;
}

static int method_free(X509_CRL *crl)
{
	struct data *data = X509_CRL_get_meth_data(crl);

	if (data) {
		crl_index_close(data->index);
		EVP_PKEY_free(data->good);
		free(data);
	}
	return 1;
}

/* OpenSSL takes the method of the CRLs that it decodes from a variable of its own. */
static X509_CRL *decode(const struct stub *stub)
{
	static X509_CRL_METHOD *method;
	const unsigned char *at = stub->der;
	X509_CRL *crl;

	if (!method)
		method =
			X509_CRL_METHOD_new(method_init, method_free, method_lookup, method_verify);
	if (!method)
		return NULL;
	X509_CRL_set_default_method(method);
	crl = d2i_X509_CRL(NULL, &at, (long)stub->length);
	X509_CRL_set_default_method(NULL);
	if (crl && at == stub->der + stub->length)
		return crl;
	X509_CRL_free(crl);
	return NULL;
}

X509_CRL *stub_crl_new(const struct stub *stub, struct crl_index *index, struct error *err)
{
	struct data *data = calloc(1, sizeof *data);
	X509_CRL *crl = data && example_of(NULL) ? decode(stub) : NULL;
	const X509_ALGOR *algorithm;

	if (!crl) {
		error_openssl(err, -EBADMSG, "the CRL cannot be read");
		goto failed;
	}
	X509_CRL_get0_signature(crl, NULL, &algorithm);
	if (!crl_scheme_read(algorithm, &data->scheme) || stub->digest_length > EVP_MAX_MD_SIZE) {
		error_openssl(err, -EBADMSG, "the CRL is signed in a way that is not known");
		goto failed;
	}
	if (stub->digest_length)
		memcpy(data->digest, stub->digest, stub->digest_length);
	data->digest_length = stub->digest_length;
	data->delta = X509_CRL_get_ext_by_NID(crl, NID_delta_crl, -1) >= 0;
	data->index = index;
	X509_CRL_set_meth_data(crl, data);
	return crl;
failed:
	crl_index_close(index);
	X509_CRL_free(crl);
	free(data);
	return NULL;
}

bool stub_crl_is_whole(X509_CRL *crl)
{
	const struct data *data = X509_CRL_get_meth_data(crl);

	return !data->damaged;
}

size_t stub_crl_memory(X509_CRL *crl)
{
	const struct data *data = X509_CRL_get_meth_data(crl);

	return 8192 + (data->index ? crl_index_memory(data->index) : 0);
}
