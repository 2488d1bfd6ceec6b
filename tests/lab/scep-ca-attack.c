#include "tests/lab/scep-ca.h"

#include <openssl/pkcs7.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <string.h>

static X509_NAME *name_of(const char *text)
{
	X509_NAME *name = X509_NAME_new();

	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)text, -1, -1,
	                           0);
	return name;
}

X509 *make_certificate(const struct lab_ca *ca, const char *name, const char *type, EVP_PKEY **key)
{
	X509 *certificate = X509_new();
	X509_NAME *subject = name_of(name);

	*key = *type == 'R' ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");
	X509_set_version(certificate, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(certificate), 4711);
	X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
	X509_gmtime_adj(X509_getm_notAfter(certificate), 86400);
	X509_set_subject_name(certificate, subject);
	X509_set_issuer_name(certificate, X509_get_subject_name(ca->ca));
	X509_set_pubkey(certificate, *key);
	X509_sign(certificate, ca->ca_key, EVP_sha256());
	X509_NAME_free(subject);
	return certificate;
}

void attack_certificate(const struct lab_ca *ca, X509 *certificate)
{
	EVP_PKEY *key = NULL;
	X509_NAME *name = NULL;

	if (ca->attack == ATTACK_OTHER_KEY) {
		key = EVP_RSA_gen(2048);
		X509_set_pubkey(certificate, key);
	}
	if (ca->attack == ATTACK_OTHER_SUBJECT) {
		name = name_of("somebody.else.example");
		X509_set_subject_name(certificate, name);
	}
	EVP_PKEY_free(key);
	X509_NAME_free(name);
}

/* A root of its own making, called like nothing that anybody trusts; *KEY is made. */
static X509 *make_root(const struct lab_ca *ca, EVP_PKEY **key)
{
	X509 *root = make_certificate(ca, "Root of nobody", "EC", key);
	X509_EXTENSION *extension =
		X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, "critical,CA:TRUE");

	X509_add_ext(root, extension, -1);
	X509_set_issuer_name(root, X509_get_subject_name(root));
	X509_sign(root, *key, EVP_sha256());
	X509_EXTENSION_free(extension);
	return root;
}

void sign_certificate(struct lab_ca *ca, X509 *certificate)
{
	const EVP_MD *digest = EVP_PKEY_is_a(ca->ca_key, "ED25519") ? NULL : EVP_sha256();
	EVP_PKEY *key = NULL;
	X509 *root = NULL;

	if (ca->attack == ATTACK_OTHER_ROOT) {
		root = make_root(ca, &key);
		X509_set_issuer_name(certificate, X509_get_subject_name(root));
		X509_sign(certificate, key, EVP_sha256());
		X509_free(ca->stranger);
		ca->stranger = root;
		EVP_PKEY_free(key);
	} else {
		X509_sign(certificate, ca->ca_key, digest);
	}
}

/* Fifty certificates that nobody asked for, the CA's own among them and a root of nobody. */
static void add_strangers(const struct lab_ca *ca, PKCS7 *bundle)
{
	EVP_PKEY *key = NULL, *root_key = NULL;
	X509 *stranger = make_certificate(ca, "Stranger", "EC", &key);
	X509 *root = make_root(ca, &root_key);

	for (int i = 0; i < 48; i++)
		PKCS7_add_certificate(bundle, stranger);
	PKCS7_add_certificate(bundle, root);
	PKCS7_add_certificate(bundle, ca->ca);
	X509_free(stranger);
	X509_free(root);
	EVP_PKEY_free(key);
	EVP_PKEY_free(root_key);
}

BIO *certs_only(const struct lab_ca *ca, X509 *certificate, X509_CRL *crl)
{
	BIO *out = BIO_new(BIO_s_mem());
	PKCS7 *bundle = PKCS7_new();

	PKCS7_set_type(bundle, NID_pkcs7_signed);
	PKCS7_content_new(bundle, NID_pkcs7_data);
	PKCS7_set_detached(bundle, 1);
	if (certificate && ca->attack == ATTACK_EXTRA)
		add_strangers(ca, bundle);
	if (certificate && ca->stranger)
		PKCS7_add_certificate(bundle, ca->stranger);
	if (certificate)
		PKCS7_add_certificate(bundle, certificate);
	if (crl)
		PKCS7_add_crl(bundle, crl);
	i2d_PKCS7_bio(out, bundle);
	PKCS7_free(bundle);
	return out;
}

/* An envelope for it names us and is locked for somebody else. */
X509 *impostor(X509 *certificate, EVP_PKEY **key)
{
	X509 *copy = X509_dup(certificate);
	EVP_PKEY *other = EVP_RSA_gen(2048);

	X509_set_pubkey(copy, other);
	if (key)
		*key = other;
	else
		EVP_PKEY_free(other);
	return copy;
}

static CMS_ContentInfo *password_envelope(BIO *content)
{
	static const unsigned char secret[] = "secret";
	unsigned int flags = CMS_BINARY | CMS_PARTIAL;
	CMS_ContentInfo *cms = CMS_encrypt(NULL, NULL, EVP_aes_128_cbc(), flags);

	CMS_add0_recipient_password(cms, -1, NID_id_alg_PWRI_KEK, NID_undef,
	                            (unsigned char *)OPENSSL_memdup(secret, 6), 6, NULL);
	CMS_final(cms, content, NULL, flags);
	return cms;
}

static CMS_ContentInfo *encrypt_for(STACK_OF(X509) * recipients, BIO *content,
                                    const EVP_CIPHER *cipher)
{
	return CMS_encrypt(recipients, content, cipher, CMS_BINARY);
}

BIO *envelope(const struct lab_ca *ca, X509 *to, BIO *content)
{
	STACK_OF(X509) *recipients = sk_X509_new_null();
	const EVP_CIPHER *cipher = ca->cipher;
	BIO *out = BIO_new(BIO_s_mem());
	CMS_ContentInfo *cms;
	EVP_PKEY *key = NULL;
	X509 *other = NULL;

	if (ca->attack == ATTACK_WRONG_KEY || ca->attack == ATTACK_TWO_RECIPIENTS)
		other = impostor(to, NULL);
	else if (ca->attack == ATTACK_WRONG_RECIPIENT || ca->attack == ATTACK_STRANGER_SECOND)
		other = make_certificate(ca, "Other", "RSA", &key);
	else if (ca->attack == ATTACK_KEY_AGREE)
		other = make_certificate(ca, "Other", "EC", &key);
	else if (ca->attack == ATTACK_AUTH_ENVELOPED)
		cipher = EVP_aes_128_gcm();
	if (ca->attack == ATTACK_STRANGER_SECOND) /* recipients are sorted */
		ASN1_INTEGER_set_int64(X509_get_serialNumber(other), INT64_MAX);
	if (other && ca->attack != ATTACK_STRANGER_SECOND)
		sk_X509_push(recipients, other);
	if (!other || ca->attack == ATTACK_TWO_RECIPIENTS || ca->attack == ATTACK_STRANGER_SECOND)
		sk_X509_push(recipients, to);
	if (other && ca->attack == ATTACK_STRANGER_SECOND)
		sk_X509_push(recipients, other);
	cms = ca->attack == ATTACK_PASSWORD ? password_envelope(content)
	                                    : encrypt_for(recipients, content, cipher);
	i2d_CMS_bio(out, cms);
	CMS_ContentInfo_free(cms);
	sk_X509_free(recipients);
	X509_free(other);
	EVP_PKEY_free(key);
	return out;
}

BIO *unsigned_answer(BIO *sealed)
{
	PKCS7 *answer = PKCS7_new();
	BIO *out = BIO_new(BIO_s_mem());
	char *bytes;
	int length = (int)BIO_get_mem_data(sealed, &bytes);

	PKCS7_set_type(answer, NID_pkcs7_signed);
	PKCS7_content_new(answer, NID_pkcs7_data);
	ASN1_OCTET_STRING_set(answer->d.sign->contents->d.data, (unsigned char *)bytes, length);
	i2d_PKCS7_bio(out, answer);
	PKCS7_free(answer);
	return out;
}

void unknown_digest(BIO *answer)
{
	static const unsigned char sha256[] = {
		0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01
	};
	char *bytes;
	long length = BIO_get_mem_data(answer, &bytes);
	char *end = bytes + length, *at;

	while ((at = memmem(bytes, (size_t)(end - bytes), sha256, sizeof sha256))) {
		at[sizeof sha256 - 1] = 0x7f;
		bytes = at + sizeof sha256;
	}
}
