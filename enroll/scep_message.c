#include "enroll/scep_message.h"

#include <errno.h>
#include <openssl/cms.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Attributes of §3.2.1, each once and signed. */
static const char oid_type[] = "2.16.840.1.113733.1.9.2";
static const char oid_status[] = "2.16.840.1.113733.1.9.3";
static const char oid_fail[] = "2.16.840.1.113733.1.9.4";
static const char oid_sender_nonce[] = "2.16.840.1.113733.1.9.5";
static const char oid_recipient_nonce[] = "2.16.840.1.113733.1.9.6";
static const char oid_transaction[] = "2.16.840.1.113733.1.9.7";
static const char oid_fail_text[] = "1.3.6.1.5.5.7.24.1";

static const struct {
	const char *word;
	unsigned bits;
} capability_words[] = {
	{ "AES", SCEP_AES },         { "DES", SCEP_DES },
	{ "DES3", SCEP_DES3 },       { "GetNextCACert", SCEP_NEXT_CA },
	{ "MD5", SCEP_MD5 },         { "POSTPKIOperation", SCEP_POST },
	{ "Renewal", SCEP_RENEWAL }, { "SCEPStandard", SCEP_AES | SCEP_SHA256 | SCEP_POST },
	{ "SHA-1", SCEP_SHA1 },      { "SHA-256", SCEP_SHA256 },
	{ "SHA-384", SCEP_SHA384 },  { "SHA-512", SCEP_SHA512 },
};

#define CIPHERS (SCEP_AES | SCEP_DES3 | SCEP_DES)
#define DIGESTS (SCEP_SHA1 | SCEP_SHA256 | SCEP_SHA384 | SCEP_SHA512 | SCEP_MD5)

unsigned scep_capabilities(const char *text, size_t length)
{
	static const char space[] = " \t\r\n";
	unsigned bits = 0;
	size_t at = 0;

	while (at < length) {
		size_t word = at;

		while (at < length && text[at] && !strchr(space, text[at]))
			at++;
		for (size_t i = 0; i < COUNT(capability_words); i++)
			if (strlen(capability_words[i].word) == at - word &&
			    strncasecmp(capability_words[i].word, text + word, at - word) == 0)
				bits |= capability_words[i].bits;
		at++;
	}
	return bits;
}

/* The words of BITS within MASK, for a sentence. */
static void capability_text(unsigned bits, char *text, size_t size)
{
	size_t used = 0;

	*text = '\0';
	for (size_t i = 0; i < COUNT(capability_words) && used < size; i++)
		if (!(capability_words[i].bits & ~bits))
			used += (size_t)snprintf(text + used, size - used, "%s%s", used ? ", " : "",
			                         capability_words[i].word);
}

static const EVP_CIPHER *choose_cipher(unsigned capabilities, bool legacy)
{
	if (capabilities & SCEP_AES || !(capabilities & CIPHERS))
		return EVP_aes_128_cbc();
	return legacy && capabilities & SCEP_DES3 ? EVP_des_ede3_cbc() : NULL;
}

static const EVP_MD *choose_digest(unsigned capabilities, const char *wanted, bool legacy)
{
	if (!(capabilities & DIGESTS))
		return EVP_sha256();
	if (wanted && strcmp(wanted, "sha512") == 0 && capabilities & SCEP_SHA512)
		return EVP_sha512();
	if (wanted && strcmp(wanted, "sha384") == 0 && capabilities & SCEP_SHA384)
		return EVP_sha384();
	if (capabilities & SCEP_SHA256)
		return EVP_sha256();
	if (capabilities & SCEP_SHA512)
		return EVP_sha512();
	if (capabilities & SCEP_SHA384)
		return EVP_sha384();
	return legacy && capabilities & SCEP_SHA1 ? EVP_sha1() : NULL;
}

int scep_choose(unsigned capabilities, const char *wanted, bool legacy,
                struct scep_algorithms *algorithms, struct error *err)
{
	char offer[128];

	algorithms->cipher = choose_cipher(capabilities, legacy);
	algorithms->digest = choose_digest(capabilities, wanted, legacy);
	if (algorithms->cipher && algorithms->digest)
		return 0;
	capability_text(capabilities & (CIPHERS | DIGESTS), offer, sizeof offer);
	return error_set(err, -EINVAL, "the CA offers %s; AES and SHA-256 are needed%s", offer,
	                 legacy ? ", or DES3 and SHA-1 as allow-legacy permits"
	                        : " (allow-legacy = yes permits DES3 and SHA-1)");
}

/* --- messages of ours --- */

static int add_attribute(CMS_SignerInfo *signer, const char *oid, int type, const void *value,
                         size_t length)
{
	ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);
	int ok = object && CMS_signed_add1_attr_by_OBJ(signer, object, type, value, (int)length);

	ASN1_OBJECT_free(object);
	return ok;
}

static int add_attributes(CMS_SignerInfo *signer, const struct scep_message *message)
{
	char type[4];
	int length = snprintf(type, sizeof type, "%d", (int)message->type);

	return add_attribute(signer, oid_type, V_ASN1_PRINTABLESTRING, type, (size_t)length) &&
	       add_attribute(signer, oid_transaction, V_ASN1_PRINTABLESTRING,
	                     message->transaction_id, strlen(message->transaction_id)) &&
	       add_attribute(signer, oid_sender_nonce, V_ASN1_OCTET_STRING, message->nonce,
	                     SCEP_NONCE_LENGTH);
}

/* The content in an EnvelopedData for the recipient, as DER to be read; NULL if it fails. */
static BIO *seal(const struct scep_message *message)
{
	BIO *in = BIO_new_mem_buf(message->content, (int)message->length);
	BIO *out = BIO_new(BIO_s_mem());
	STACK_OF(X509) *recipients = sk_X509_new_null();
	CMS_ContentInfo *cms = NULL;

	if (in && out && recipients && sk_X509_push(recipients, message->recipient))
		cms = CMS_encrypt(recipients, in, message->algorithms.cipher, CMS_BINARY);
	if (!cms || !i2d_CMS_bio(out, cms)) {
		BIO_free(out);
		out = NULL;
	}
	CMS_ContentInfo_free(cms);
	sk_X509_free(recipients);
	BIO_free(in);
	return out;
}

int scep_message_make(const struct scep_message *message, unsigned char **der, size_t *length,
                      struct error *err)
{
	const unsigned int flags = CMS_BINARY | CMS_PARTIAL | CMS_NOSMIMECAP;
	BIO *sealed = seal(message);
	CMS_ContentInfo *cms = NULL;
	CMS_SignerInfo *signer = NULL;
	unsigned char *bytes = NULL;
	int size = -1, r = 0;

	if (!sealed) {
		r = error_openssl(err, -EIO, "cannot encrypt a message for the CA");
		goto out;
	}
	cms = CMS_sign(NULL, NULL, NULL, NULL, flags);
	if (cms)
		signer = CMS_add1_signer(cms, message->signer, message->key,
		                         message->algorithms.digest, flags);
	if (signer && add_attributes(signer, message) && CMS_final(cms, sealed, NULL, flags))
		size = i2d_CMS_ContentInfo(cms, &bytes);
	if (size <= 0) {
		r = error_openssl(err, -EIO, "cannot sign a message for the CA");
		goto out;
	}
	*der = bytes;
	*length = (size_t)size;
out:
	CMS_ContentInfo_free(cms);
	BIO_free(sealed);
	return r;
}

/* --- answers --- */

/* The only value of the attribute OID where it has TYPE, or NULL. */
static const ASN1_STRING *attribute(CMS_SignerInfo *signer, const char *oid, int type)
{
	ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);
	const ASN1_STRING *value = NULL;

	if (object)
		value = CMS_signed_get0_data_by_OBJ(signer, object, -3, type);
	ASN1_OBJECT_free(object);
	return value;
}

/* A textual attribute, whatever string type a CA thought fit. */
static const ASN1_STRING *text_attribute(CMS_SignerInfo *signer, const char *oid)
{
	static const int types[] = { V_ASN1_PRINTABLESTRING, V_ASN1_UTF8STRING, V_ASN1_IA5STRING };
	const ASN1_STRING *value = NULL;

	for (size_t i = 0; !value && i < COUNT(types); i++)
		value = attribute(signer, oid, types[i]);
	return value;
}

static bool attribute_is(const ASN1_STRING *value, const void *bytes, size_t length)
{
	return value && (size_t)ASN1_STRING_length(value) == length &&
	       CRYPTO_memcmp(ASN1_STRING_get0_data(value), bytes, length) == 0;
}

/* An attribute of one decimal digit, or -1. */
static int digit_attribute(CMS_SignerInfo *signer, const char *oid)
{
	const ASN1_STRING *value = text_attribute(signer, oid);
	const unsigned char *text = value ? ASN1_STRING_get0_data(value) : NULL;

	if (!text || ASN1_STRING_length(value) != 1 || *text < '0' || *text > '9')
		return -1;
	return *text - '0';
}

static bool digest_allowed(int nid)
{
	return nid == NID_sha1 || nid == NID_sha224 || nid == NID_sha256 || nid == NID_sha384 ||
	       nid == NID_sha512;
}

/* The digest of SIGNER, or -EBADMSG: none that we take, or not the signature's own. */
static int check_digest(CMS_SignerInfo *signer, struct scep_answer *answer, struct error *err)
{
	X509_ALGOR *digest, *signature;
	const ASN1_OBJECT *object;
	int own = NID_undef;
	char name[64];

	CMS_SignerInfo_get0_algs(signer, NULL, NULL, &digest, &signature);
	X509_ALGOR_get0(&object, NULL, NULL, digest);
	answer->digest = OBJ_obj2nid(object);
	if (!digest_allowed(answer->digest)) {
		OBJ_obj2txt(name, sizeof name, object, 0);
		return error_set(err, -EBADMSG,
		                 "the answer is signed with the digest %s, which "
		                 "is not taken",
		                 name);
	}
	X509_ALGOR_get0(&object, NULL, NULL, signature);
	OBJ_find_sigid_algs(OBJ_obj2nid(object), &own, NULL);
	if (own != NID_undef && own != answer->digest)
		return error_set(err, -EBADMSG, "the answer names two digests for one signature");
	return 0;
}

static bool signed_by_one_of(CMS_SignerInfo *signer, STACK_OF(X509) * signers)
{
	for (int i = 0; i < sk_X509_num(signers); i++)
		if (CMS_SignerInfo_cert_cmp(signer, sk_X509_value(signers, i)) == 0)
			return true;
	return false;
}

/*
 * Verifies the one signature with the key of a certificate that was confirmed, never with one
 * that came in the message: whatever chain or usage that one has decides nothing here.
 */
static int verify(CMS_ContentInfo *cms, CMS_SignerInfo *signer,
                  const struct scep_expectation *expectation, BIO *content, struct error *err)
{
	const unsigned int flags = CMS_BINARY | CMS_NOINTERN | CMS_NO_SIGNER_CERT_VERIFY;
	ASN1_OCTET_STRING **inner = CMS_get0_content(cms);
	BIO *nothing = NULL;
	int ok;

	if (!signed_by_one_of(signer, expectation->signers))
		return error_set(err, -EBADMSG,
		                 "the answer is signed neither by the confirmed CA "
		                 "nor by its RA");
	if (!inner || !*inner) /* PENDING and FAILURE carry no content */
		nothing = BIO_new_mem_buf("", 0);
	ok = CMS_verify(cms, expectation->signers, NULL, nothing, content, flags);
	BIO_free(nothing);
	if (ok != 1)
		return error_openssl(err, -EBADMSG, "the signature of the answer is wrong");
	return 0;
}

/* What must be right before the status counts. */
static int check_attributes(CMS_SignerInfo *signer, const struct scep_expectation *expectation,
                            struct error *err)
{
	if (digit_attribute(signer, oid_type) != SCEP_CERT_REP)
		return error_set(err, -EBADMSG, "the answer is no CertRep");
	if (!attribute_is(text_attribute(signer, oid_transaction), expectation->transaction_id,
	                  strlen(expectation->transaction_id)))
		return error_set(err, -EBADMSG, "the answer belongs to another transaction");
	if (!attribute_is(attribute(signer, oid_recipient_nonce, V_ASN1_OCTET_STRING),
	                  expectation->nonce, SCEP_NONCE_LENGTH))
		return error_set(err, -EBADMSG,
		                 "the answer is not to this message (recipientNonce)");
	return 0;
}

static int take_envelope(BIO *content, struct scep_answer *answer, struct error *err)
{
	char *bytes = NULL;
	long length = BIO_get_mem_data(content, &bytes);

	if (length <= 0)
		return error_set(err, -EBADMSG, "the answer says SUCCESS and carries nothing");
	answer->envelope = OPENSSL_memdup(bytes, (size_t)length);
	answer->length = (size_t)length;
	return answer->envelope ? 0 : error_set(err, -ENOMEM, "no memory");
}

static int take_status(CMS_SignerInfo *signer, BIO *content, struct scep_answer *answer,
                       struct error *err)
{
	const ASN1_STRING *text;
	int status = digit_attribute(signer, oid_status);

	if (status != SCEP_SUCCESS && status != SCEP_FAILURE && status != SCEP_PENDING)
		return error_set(err, -EBADMSG, "the answer has no pkiStatus");
	answer->status = (enum scep_status)status;
	if (status == SCEP_SUCCESS)
		return take_envelope(content, answer, err);
	answer->fail = digit_attribute(signer, oid_fail);
	text = attribute(signer, oid_fail_text, V_ASN1_UTF8STRING);
	if (text) {
		snprintf(answer->fail_text, sizeof answer->fail_text, "%.*s",
		         ASN1_STRING_length(text), (const char *)ASN1_STRING_get0_data(text));
		text_printable(answer->fail_text);
	}
	return 0;
}

/* What BYTES are when they are no CertRep. */
static int not_a_message(const unsigned char *bytes, size_t length, struct error *err)
{
	size_t at = 0;

	while (at < length && bytes[at] <= ' ')
		at++;
	if (length == 0)
		return error_set(err, -EBADMSG, "the answer is empty");
	if (at < length && bytes[at] == '<')
		return error_set(err, -EBADMSG,
		                 "the answer is an HTML page, not SCEP: is the "
		                 "enrollment-url right?");
	return error_set(err, -EBADMSG, "the answer (%zu bytes) is no SCEP message", length);
}

/* A SignedData over data with exactly one signer and no byte behind it, or NULL. */
static CMS_ContentInfo *read_signed(const unsigned char *bytes, size_t length,
                                    const struct scep_expectation *expectation, struct error *err)
{
	CMS_ContentInfo *cms = CMS_ContentInfo_new_ex(expectation->context, NULL);
	const unsigned char *at = bytes;
	int signers;

	if (!cms || !d2i_CMS_ContentInfo(&cms, &at, (long)length) ||
	    OBJ_obj2nid(CMS_get0_type(cms)) != NID_pkcs7_signed ||
	    OBJ_obj2nid(CMS_get0_eContentType(cms)) != NID_pkcs7_data) {
		not_a_message(bytes, length, err);
		goto fail;
	}
	if (at != bytes + length) {
		error_set(err, -EBADMSG, "bytes stand behind the end of the answer");
		goto fail;
	}
	signers = sk_CMS_SignerInfo_num(CMS_get0_SignerInfos(cms));
	if (signers == 1)
		return cms;
	error_set(err, -EBADMSG, "the answer is signed by %d, not by one",
	          signers < 0 ? 0 : signers);
fail:
	CMS_ContentInfo_free(cms);
	return NULL;
}

int scep_answer_read(const void *der, size_t length, const struct scep_expectation *expectation,
                     struct scep_answer *answer, struct error *err)
{
	CMS_ContentInfo *cms;
	CMS_SignerInfo *signer;
	BIO *content = NULL;
	int r;

	*answer = (struct scep_answer){ .fail = -1 };
	cms = read_signed(der, length, expectation, err);
	if (!cms) {
		r = -EBADMSG;
		goto out;
	}
	signer = sk_CMS_SignerInfo_value(CMS_get0_SignerInfos(cms), 0);
	content = BIO_new(BIO_s_mem());
	r = content ? check_digest(signer, answer, err) : error_set(err, -ENOMEM, "no memory");
	if (r == 0)
		r = verify(cms, signer, expectation, content, err);
	if (r == 0)
		r = check_attributes(signer, expectation, err);
	if (r == 0)
		r = take_status(signer, content, answer, err);
out:
	CMS_ContentInfo_free(cms);
	BIO_free(content);
	ERR_clear_error();
	return r;
}

void scep_answer_clear(struct scep_answer *answer)
{
	OPENSSL_free(answer->envelope);
	answer->envelope = NULL;
	answer->length = 0;
}

int scep_next_ca_open(const void *der, size_t length, X509 *ca, bool legacy, OSSL_LIB_CTX *context,
                      unsigned char **content, size_t *content_length, struct error *err)
{
	struct scep_expectation expectation = { .signers = sk_X509_new_null(), .context = context };
	struct scep_answer answer = { .fail = -1 };
	BIO *inner = BIO_new(BIO_s_mem());
	CMS_ContentInfo *cms = NULL;
	CMS_SignerInfo *signer;
	int r = -ENOMEM;

	if (inner && expectation.signers && sk_X509_push(expectation.signers, ca)) {
		cms = read_signed(der, length, &expectation, err);
		r = cms ? 0 : -EBADMSG;
	}
	signer = cms ? sk_CMS_SignerInfo_value(CMS_get0_SignerInfos(cms), 0) : NULL;
	if (r == 0)
		r = check_digest(signer, &answer, err);
	if (r == 0 && answer.digest == NID_sha1 && !legacy)
		r = error_set(err, -EBADMSG,
		              "the next CA certificate is signed with SHA-1; set allow-legacy = "
		              "yes to accept it");
	if (r == 0 && !signed_by_one_of(signer, expectation.signers))
		r = error_set(
			err, -EBADMSG,
			"the next CA certificate is not signed by the CA certificate in force");
	if (r == 0)
		r = verify(cms, signer, &expectation, inner, err);
	if (r == 0)
		r = take_envelope(inner, &answer, err);
	*content = answer.envelope;
	*content_length = answer.length;
	CMS_ContentInfo_free(cms);
	sk_X509_free(expectation.signers);
	BIO_free(inner);
	ERR_clear_error();
	return r;
}

const char *scep_fail_text(int fail)
{
	static const char *const texts[] = {
		"it does not take the algorithms of the request (badAlg)",
		"it could not verify the signature of the request (badMessageCheck)",
		"it does not permit the request (badRequest; is the challenge-password right?)",
		"the time of the request is too far from its own (badTime)",
		"it has no certificate that fits (badCertId)",
	};

	return fail >= 0 && (size_t)fail < COUNT(texts) ? texts[fail] : "it gives no reason";
}
