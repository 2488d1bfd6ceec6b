/* What the lab's CMP CA tells in general messages (RFC 9483 §4.3). */
#include "tests/lab/cmp-ca.h"

#include <openssl/crmf.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- DER --- */

/* CONTENT (freed) in a constructed value of this TAG and CLASS. */
static BIO *wrap(int tag, int class, BIO *content)
{
	unsigned char head[16], *at = head, *bytes;
	long length = BIO_get_mem_data(content, &bytes);
	BIO *out = BIO_new(BIO_s_mem());

	ASN1_put_object(&at, 1, (int)length, tag, class);
	BIO_write(out, head, (int)(at - head));
	BIO_write(out, bytes, (int)length);
	BIO_free(content);
	return out;
}

static BIO *sequence(BIO *content)
{
	return wrap(V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL, content);
}

/* A value of what DER (freed) has: a SEQUENCE. */
static ASN1_TYPE *value_of(BIO *der)
{
	ASN1_STRING *text = ASN1_STRING_type_new(V_ASN1_SEQUENCE);
	ASN1_TYPE *value = ASN1_TYPE_new();
	unsigned char *bytes;
	long length = BIO_get_mem_data(der, &bytes);

	ASN1_STRING_set(text, bytes, (int)length);
	ASN1_TYPE_set(value, V_ASN1_SEQUENCE, text);
	BIO_free(der);
	return value;
}

static void put_object(BIO *out, const char *name)
{
	ASN1_OBJECT *object = OBJ_txt2obj(name, 0);
	unsigned char *der = NULL;
	int length = i2d_ASN1_OBJECT(object, &der);

	BIO_write(out, der, length);
	OPENSSL_free(der);
	ASN1_OBJECT_free(object);
}

static void append(BIO *out, BIO *more)
{
	unsigned char *bytes;
	long length = BIO_get_mem_data(more, &bytes);

	BIO_write(out, bytes, (int)length);
	BIO_free(more);
}

/* --- values --- */

static X509 *load_one(const char *name)
{
	BIO *file = BIO_new_file(name, "r");
	X509 *certificate = file ? PEM_read_bio_X509(file, NULL, NULL, NULL) : NULL;

	BIO_free(file);
	ERR_clear_error();
	return certificate;
}

/*
 * RootCaKeyUpdateContent (RFC 9480 §2.15) of next.pem, and next-by-old.pem where that is there:
 * NewWithOld. NULL: nothing follows.
 */
static ASN1_TYPE *key_update(void)
{
	X509 *next = load_one("next.pem"), *link = load_one("next-by-old.pem");
	BIO *out = BIO_new(BIO_s_mem()), *tagged = BIO_new(BIO_s_mem());
	ASN1_TYPE *value = NULL;

	if (next) {
		i2d_X509_bio(out, next);
		if (link) {
			i2d_X509_bio(tagged, link);
			append(out, wrap(0, V_ASN1_CONTEXT_SPECIFIC, tagged));
			tagged = NULL;
		}
		value = value_of(sequence(out));
		out = NULL;
	}
	BIO_free(out);
	BIO_free(tagged);
	X509_free(next);
	X509_free(link);
	return value;
}

static ASN1_TYPE *garbage(void)
{
	BIO *out = BIO_new(BIO_s_mem());

	BIO_write(out, "\x02\x01\x05", 3); /* a number alone */
	return value_of(sequence(out));
}

static ASN1_TYPE *certificates(const struct lab_ca *ca)
{
	BIO *out = BIO_new(BIO_s_mem());

	for (int i = 0; i < sk_X509_num(ca->told); i++)
		i2d_X509_bio(out, sk_X509_value(ca->told, i));
	return value_of(sequence(out));
}

static ASN1_TYPE *crls(struct lab_ca *ca)
{
	BIO *out = BIO_new(BIO_s_mem());

	sign_crl(ca);
	i2d_X509_CRL_bio(out, ca->crl);
	return value_of(sequence(out));
}

/* --- the template --- */

/* A control, with what VALUE (freed) has. */
static BIO *control(const char *type, BIO *value)
{
	BIO *out = BIO_new(BIO_s_mem());

	put_object(out, type);
	append(out, value);
	return sequence(out);
}

/* Controls for `ec:BITS` (id-regCtrl-algId) or `rsa:BITS` (id-regCtrl-rsaKeyLen). */
static BIO *key_spec(const char *kind)
{
	BIO *value = BIO_new(BIO_s_mem()), *number = BIO_new(BIO_s_mem());
	int bits = atoi(strchr(kind, ':') + 1);

	if (strncmp(kind, "ec:", 3) == 0) {
		put_object(value, "id-ecPublicKey");
		put_object(value, bits == 384 ? "secp384r1" : "prime256v1");
		BIO_free(number);
		return sequence(control("1.3.6.1.5.5.7.5.1.11", sequence(value)));
	}
	BIO_write(number,
	          (const unsigned char[]){ 2, 2, (unsigned char)(bits >> 8),
	                                   (unsigned char)(bits & 0xff) },
	          4);
	BIO_free(value);
	return sequence(control("1.3.6.1.5.5.7.5.1.12", number));
}

/* CertReqTemplateContent (RFC 9480 §2.16) */
static ASN1_TYPE *template_of(const struct lab_ca *ca)
{
	BIO *out = BIO_new(BIO_s_mem()), *wanted = BIO_new(BIO_s_mem());
	X509_EXTENSION *usage;
	unsigned char *der = NULL;
	int length;

	if (strcmp(ca->template, "eku") == 0) {
		usage = X509V3_EXT_conf_nid(NULL, NULL, NID_ext_key_usage, "serverAuth");
		length = i2d_X509_EXTENSION(usage, &der);
		BIO_write(wanted, der, length);
		X509_EXTENSION_free(usage);
		OPENSSL_free(der);
		append(out, sequence(wrap(9, V_ASN1_CONTEXT_SPECIFIC, wanted)));
	} else {
		append(out, sequence(wanted));
		append(out, key_spec(ca->template));
	}
	return value_of(sequence(out));
}

bool is_like_template(const struct lab_ca *ca, const OSSL_CRMF_CERTTEMPLATE *request)
{
	const char *bits = ca->template ? strchr(ca->template, ':') : NULL;
	EVP_PKEY *key;
	bool same;

	if (!ca->template)
		return true;
	if (!bits)
		return X509v3_get_ext_by_NID(OSSL_CRMF_CERTTEMPLATE_get0_extensions(request),
		                             NID_ext_key_usage, -1) >= 0;
	key = template_key(request);
	same = EVP_PKEY_is_a(key, *ca->template == 'e' ? "EC" : "RSA") &&
	       EVP_PKEY_get_bits(key) == atoi(bits + 1);
	EVP_PKEY_free(key);
	return same;
}

/* --- messages --- */

/* The value that answers TYPE, and *ANSWER, its type; NULL: nothing is known of it. */
static ASN1_TYPE *answer_to(struct lab_ca *ca, const char *type, const char **answer)
{
	*answer = type;
	if (strcmp(type, "1.3.6.1.5.5.7.4.20") == 0) { /* id-it-rootCaCert */
		*answer = "1.3.6.1.5.5.7.4.18";
		return ca->attack == ATTACK_GENM_GARBAGE ? garbage() : key_update();
	}
	if (strcmp(type, "1.3.6.1.5.5.7.4.17") == 0 && ca->told) /* id-it-caCerts */
		return certificates(ca);
	if (strcmp(type, "1.3.6.1.5.5.7.4.19") == 0 && ca->template) /* id-it-certReqTemplate */
		return template_of(ca);
	if (strcmp(type, "1.3.6.1.5.5.7.4.22") == 0 && !ca->old_crls) { /* id-it-crlStatusList */
		*answer = "1.3.6.1.5.5.7.4.23";
		return crls(ca);
	}
	return NULL;
}

int tell(struct lab_ca *ca, const OSSL_CMP_ITAV *asked, STACK_OF(OSSL_CMP_ITAV) * *out)
{
	const char *answer;
	ASN1_TYPE *value;
	char type[64] = "";

	if (asked)
		OBJ_obj2txt(type, sizeof type, OSSL_CMP_ITAV_get0_type(asked), 1);
	printf("asked about %s\n", type);
	if (ca->tells_nothing)
		return 0;
	*out = sk_OSSL_CMP_ITAV_new_null();
	value = answer_to(ca, type, &answer);
	if (value) {
		sk_OSSL_CMP_ITAV_push(*out, OSSL_CMP_ITAV_create(OBJ_txt2obj(answer, 1), value));
	} else if (strcmp(type, "1.3.6.1.5.5.7.4.6") == 0) { /* OpenSSL wants a CRL for it */
		sign_crl(ca);
		sk_OSSL_CMP_ITAV_push(
			*out, OSSL_CMP_ITAV_create(OBJ_txt2obj(answer, 1),
		                                   (ASN1_TYPE *)(void *)X509_CRL_dup(ca->crl)));
	}
	return 1;
}
