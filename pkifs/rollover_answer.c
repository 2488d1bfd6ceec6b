/*
 * The answer to GetNextCACert (RFC 8894 §4.7.1): a SignedData of the CA in force, in which a
 * certs-only message is. A worker has taken it apart; whether it vouches is found out here, where
 * no worker's word counts.
 */
#include "common/x509.h"
#include "pkifs/object.h"
#include "pkifs/rollover.h"

#include <openssl/cms.h>
#include <openssl/err.h>

/* One signer, and a digest that still proves something. */
static bool is_signed_well(CMS_ContentInfo *cms, bool legacy)
{
	static const int good[] = { NID_sha256, NID_sha384, NID_sha512 };
	STACK_OF(CMS_SignerInfo) *signers = CMS_get0_SignerInfos(cms);
	X509_ALGOR *digest = NULL;
	int nid;

	if (sk_CMS_SignerInfo_num(signers) != 1)
		return false;
	CMS_SignerInfo_get0_algs(sk_CMS_SignerInfo_value(signers, 0), NULL, NULL, &digest, NULL);
	nid = digest ? OBJ_obj2nid(digest->algorithm) : NID_undef;
	for (size_t i = 0; i < COUNT(good); i++)
		if (nid == good[i])
			return true;
	return legacy && nid == NID_sha1;
}

/* CERTIFICATE is one of those in CONTENT. */
static bool is_in(BIO *content, const X509 *certificate)
{
	STACK_OF(X509) *all = NULL;
	char *bytes;
	long length = BIO_get_mem_data(content, &bytes);
	bool found = length > 0 &&
	             certificates_read(bytes, (size_t)length, CERTIFICATES_MAX, &all, NULL) == 0 &&
	             certificate_is_in(certificate, all);

	sk_X509_pop_free(all, X509_free);
	return found;
}

bool rollover_answer_vouches(const struct field *answer, X509 *ca, const X509 *next, bool legacy)
{
	const unsigned char *at = (const unsigned char *)answer->value;
	CMS_ContentInfo *cms = d2i_CMS_ContentInfo(NULL, &at, (long)answer->length);
	STACK_OF(X509) *signer = sk_X509_new_null();
	BIO *content = BIO_new(BIO_s_mem());
	bool vouches;

	vouches = cms && signer && content && sk_X509_push(signer, ca) &&
	          OBJ_obj2nid(CMS_get0_type(cms)) == NID_pkcs7_signed &&
	          is_signed_well(cms, legacy) &&
	          CMS_verify(cms, signer, NULL, NULL, content,
	                     CMS_BINARY | CMS_NOINTERN | CMS_NO_SIGNER_CERT_VERIFY) == 1 &&
	          is_in(content, next);
	CMS_ContentInfo_free(cms);
	sk_X509_free(signer);
	BIO_free(content);
	ERR_clear_error();
	return vouches;
}
