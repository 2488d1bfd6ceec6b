#include "common/ocsp.h"

#include "common/x509.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/rsa.h>
#include <string.h>

#define CLOCK_SKEW   300  /* seconds that a responder's clock may be ahead of ours */
#define OURS_FOR     3600 /* seconds that an answer without nextUpdate counts */
#define KEY_BITS_MAX 16384
#define LEVEL        2 /* OpenSSL's: 112 bits, no SHA-1 */

/* SHA-1 names the certificate and proves nothing; it is what responders know (RFC 5019 §2.1.1). */
static OCSP_CERTID *certificate_id(const struct ocsp_question *question)
{
	return OCSP_cert_to_id(EVP_sha1(), question->certificate, question->issuer);
}

int ocsp_compose(const struct ocsp_question *question, unsigned char **der, size_t *length,
                 struct error *err)
{
	OCSP_REQUEST *request = OCSP_REQUEST_new();
	OCSP_CERTID *id = certificate_id(question);
	unsigned char nonce[OCSP_NONCE_SIZE];
	int size = -1;

	if (question->nonce)
		memcpy(nonce, question->nonce, sizeof nonce);
	if (request && id && OCSP_request_add0_id(request, id)) {
		id = NULL;
		if (!question->nonce || OCSP_request_add1_nonce(request, nonce, sizeof nonce))
			size = i2d_OCSP_REQUEST(request, der);
	}
	OCSP_CERTID_free(id);
	OCSP_REQUEST_free(request);
	if (size < 0)
		return error_openssl(err, -ENOMEM, "the OCSP request cannot be made");
	*length = (size_t)size;
	return 0;
}

static int open_response(const void *der, size_t length, OCSP_BASICRESP **basic, struct error *err)
{
	const unsigned char *at = der;
	OCSP_RESPONSE *response = d2i_OCSP_RESPONSE(NULL, &at, (long)length);
	int status, r = 0;

	if (!response || at != (const unsigned char *)der + length) {
		OCSP_RESPONSE_free(response);
		return error_set(err, -EBADMSG, "this is no OCSP answer");
	}
	status = OCSP_response_status(response);
	if (status == OCSP_RESPONSE_STATUS_SUCCESSFUL) {
		*basic = OCSP_response_get1_basic(response);
		if (!*basic)
			r = error_set(err, -EBADMSG, "the OCSP answer is of an unknown kind");
	} else {
		r = error_set(err, status == OCSP_RESPONSE_STATUS_TRYLATER ? -EAGAIN : -EBADMSG,
		              "the OCSP responder does not answer: %s",
		              OCSP_response_status_str(status));
	}
	OCSP_RESPONSE_free(response);
	return r;
}

/* What we do not know must not be critical (RFC 6960 §4.4). */
static bool is_understood(X509_EXTENSION *extension)
{
	return !X509_EXTENSION_get_critical(extension) ||
	       OBJ_obj2nid(X509_EXTENSION_get_object(extension)) == NID_id_pkix_OCSP_Nonce;
}

static int check_extensions(OCSP_BASICRESP *basic, struct error *err)
{
	bool good = true;

	for (int i = 0; good && i < OCSP_BASICRESP_get_ext_count(basic); i++)
		good = is_understood(OCSP_BASICRESP_get_ext(basic, i));
	for (int i = 0; good && i < OCSP_resp_count(basic); i++) {
		OCSP_SINGLERESP *single = OCSP_resp_get0(basic, i);

		for (int k = 0; good && k < OCSP_SINGLERESP_get_ext_count(single); k++)
			good = is_understood(OCSP_SINGLERESP_get_ext(single, k));
	}
	return good ? 0
	            : error_set(err, -EBADMSG, "the OCSP answer has an unknown critical extension");
}

static int signature_digest(const X509_ALGOR *algorithm)
{
	int digest = NID_undef;
	RSA_PSS_PARAMS *pss;

	if (OBJ_obj2nid(algorithm->algorithm) != NID_rsassaPss) {
		OBJ_find_sigid_algs(OBJ_obj2nid(algorithm->algorithm), &digest, NULL);
		return digest;
	}
	pss = ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(RSA_PSS_PARAMS), algorithm->parameter);
	digest = pss && pss->hashAlgorithm ? OBJ_obj2nid(pss->hashAlgorithm->algorithm) : NID_sha1;
	RSA_PSS_PARAMS_free(pss);
	return digest;
}

/* What OpenSSL's check of the responder's path leaves open: the answer's own digest, and keys so
 * long that a signature takes seconds. */
static int check_signer(const struct ocsp_question *question, OCSP_BASICRESP *basic,
                        STACK_OF(X509) * issuers, struct error *err)
{
	int digest = signature_digest(OCSP_resp_get0_tbs_sigalg(basic));
	X509 *signer = NULL;

	if (OCSP_resp_get0_signer(basic, &signer, issuers) != 1)
		return error_set(err, -EBADMSG,
		                 "the OCSP answer does not come with its signer's certificate");
	if (EVP_PKEY_get_bits(X509_get0_pubkey(signer)) > KEY_BITS_MAX)
		return error_set(err, -EBADMSG, "the OCSP responder's key has more than %d bits",
		                 KEY_BITS_MAX);
	if (digest == NID_md5 || (digest == NID_sha1 && !question->allow_legacy))
		return error_set(err, -EBADMSG, "the OCSP answer is signed with %s%s",
		                 OBJ_nid2sn(digest),
		                 digest == NID_sha1 ? "; set allow-legacy = yes to accept it" : "");
	return 0;
}

static int not_signed(struct error *err)
{
	const char *why = "";
	int flags = 0;

	ERR_peek_last_error_data(&why, &flags); /* what is wrong with the responder's certificate */
	return error_set(err, -EBADMSG,
	                 "the OCSP answer is not signed by the certificate's CA or a responder "
	                 "of its%s%s",
	                 flags & ERR_TXT_STRING && *why ? ": " : "",
	                 flags & ERR_TXT_STRING ? why : "");
}

/*
 * The issuer itself, or one that the issuer's own certificate names a responder: the only anchor
 * is the issuer, whoever else could vouch for a responder.
 */
static int check_signature(const struct ocsp_question *question, OCSP_BASICRESP *basic,
                           struct error *err)
{
	STACK_OF(X509) *issuers = sk_X509_new_null();
	X509_STORE *store = X509_STORE_new();
	X509_VERIFY_PARAM *parameters = store ? X509_STORE_get0_param(store) : NULL;
	int r;

	if (!issuers || !store || !sk_X509_push(issuers, question->issuer) ||
	    !X509_STORE_add_cert(store, question->issuer)) {
		r = error_set(err, -ENOMEM, "out of memory");
		goto out;
	}
	if (question->clock_trusted)
		X509_VERIFY_PARAM_set_time(parameters, (time_t)question->now);
	else
		X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_NO_CHECK_TIME);
	X509_VERIFY_PARAM_set_auth_level(parameters, question->allow_legacy ? 0 : LEVEL);
	r = check_signer(question, basic, issuers, err);
	if (r == 0 &&
	    OCSP_basic_verify(basic, issuers, store, OCSP_PARTIAL_CHAIN | OCSP_NOEXPLICIT) != 1)
		r = not_signed(err);
out:
	sk_X509_free(issuers);
	X509_STORE_free(store);
	return r;
}

static int check_nonce(const struct ocsp_question *question, OCSP_BASICRESP *basic,
                       struct error *err)
{
	int at = OCSP_BASICRESP_get_ext_by_NID(basic, NID_id_pkix_OCSP_Nonce, -1);
	const ASN1_OCTET_STRING *value;
	unsigned char expected[2 + OCSP_NONCE_SIZE] = { V_ASN1_OCTET_STRING, OCSP_NONCE_SIZE };

	if (!question->nonce)
		return 0;
	if (at < 0)
		return error_set(err, -EBADMSG,
		                 "the OCSP answer has no nonce, so it may be an old one; set "
		                 "ocsp-nonce = disable where the responder knows none");
	memcpy(expected + 2, question->nonce, OCSP_NONCE_SIZE);
	value = X509_EXTENSION_get_data(OCSP_BASICRESP_get_ext(basic, at));
	if (ASN1_STRING_length(value) != sizeof expected ||
	    memcmp(ASN1_STRING_get0_data(value), expected, sizeof expected) != 0)
		return error_set(err, -EBADMSG,
		                 "the OCSP answer has another nonce than was sent: it is an old "
		                 "one, or another's");
	return 0;
}

static int check_times(const struct ocsp_question *question, const struct ocsp_answer *answer,
                       struct error *err)
{
	char time[RFC3339_MAX];

	if (answer->this_update < 0 || answer->until < answer->this_update)
		return error_set(err, -EBADMSG, "the OCSP answer's times are none");
	if (!question->clock_trusted)
		return 0;
	rfc3339(answer->this_update, time);
	if (answer->this_update > question->now + CLOCK_SKEW)
		return error_set(err, -EBADMSG, "the OCSP answer is of %s, which is to come", time);
	if (answer->until <= question->now)
		return error_set(err, -EBADMSG, "the OCSP answer is of %s, too old to count", time);
	return 0;
}

static void read_single(OCSP_SINGLERESP *single, struct ocsp_answer *answer)
{
	ASN1_GENERALIZEDTIME *revoked = NULL, *this_update = NULL, *next_update = NULL;

	answer->status = OCSP_single_get0_status(single, &answer->reason, &revoked, &this_update,
	                                         &next_update);
	answer->revoked_at = revoked ? asn1_time_seconds(revoked) : 0;
	answer->this_update = this_update ? asn1_time_seconds(this_update) : -1;
	answer->until =
		next_update ? asn1_time_seconds(next_update) : answer->this_update + OURS_FOR;
}

/* Of several answers about one certificate, `revoked` counts, then `unknown`. */
static int rank(int status)
{
	return status == V_OCSP_CERTSTATUS_REVOKED ? V_OCSP_CERTSTATUS_UNKNOWN + 1 : status;
}

/* What it says of the certificate. */
static int find_answer(const struct ocsp_question *question, OCSP_BASICRESP *basic,
                       struct ocsp_answer *answer, struct error *err)
{
	OCSP_CERTID *id = certificate_id(question);
	int found = -1, r;

	if (!id)
		return error_set(err, -ENOMEM, "out of memory");
	for (int at = -1; (at = OCSP_resp_find(basic, id, at)) >= 0;) {
		struct ocsp_answer one = { 0 };

		read_single(OCSP_resp_get0(basic, at), &one);
		if (rank(one.status) <= found)
			continue;
		found = rank(one.status);
		*answer = one;
	}
	OCSP_CERTID_free(id);
	if (found < 0)
		return error_set(err, -EBADMSG, "the OCSP answer is about another certificate");
	r = check_times(question, answer, err);
	if (r == 0 && answer->status == V_OCSP_CERTSTATUS_UNKNOWN)
		r = error_set(err, -EBADMSG, "the OCSP responder does not know the certificate");
	return r;
}

int ocsp_judge(const struct ocsp_question *question, const void *der, size_t length,
               struct ocsp_answer *answer, struct error *err)
{
	OCSP_BASICRESP *basic = NULL;
	int r;

	if (length > OCSP_ANSWER_MAX)
		return error_set(err, -EBADMSG, "the OCSP answer has %zu bytes, more than %u",
		                 length, OCSP_ANSWER_MAX);
	r = open_response(der, length, &basic, err);
	if (r == 0)
		r = check_signature(question, basic, err);
	if (r == 0)
		r = check_extensions(basic, err);
	if (r == 0)
		r = check_nonce(question, basic, err);
	if (r == 0)
		r = find_answer(question, basic, answer, err);
	OCSP_BASICRESP_free(basic);
	ERR_clear_error();
	return r;
}
