#include "enroll/cmp_answer.h"

#include <errno.h>
#include <openssl/err.h>
#include <string.h>

OSSL_CMP_MSG *cmp_message_read(const void *der, size_t length)
{
	BIO *in = BIO_new_mem_buf(der, (int)length);
	OSSL_CMP_MSG *message = in ? d2i_OSSL_CMP_MSG_bio(in, NULL) : NULL;

	if (message && BIO_pending(in) > 0) {
		OSSL_CMP_MSG_free(message);
		message = NULL;
	}
	BIO_free(in);
	return message;
}

int cmp_message_der(const OSSL_CMP_MSG *message, unsigned char **der, size_t *length)
{
	BIO *out = BIO_new(BIO_s_mem());
	char *bytes = NULL;
	long size = 0;

	*der = NULL;
	if (out && i2d_OSSL_CMP_MSG_bio(out, message))
		size = BIO_get_mem_data(out, &bytes);
	if (size > 0)
		*der = OPENSSL_memdup(bytes, (size_t)size);
	*length = (size_t)size;
	BIO_free(out);
	return *der ? 0 : -ENOMEM;
}

bool cmp_proven_by_secret(const OSSL_CMP_MSG *message, const struct field *secret)
{
	OSSL_CMP_CTX *context = secret ? OSSL_CMP_CTX_new(NULL, NULL) : NULL;
	bool proven;

	/* with no anchor and no certificate, nothing but the MAC can prove it */
	proven = context && OSSL_CMP_CTX_set_log_verbosity(context, 0) &&
	         OSSL_CMP_CTX_set1_secretValue(context, (const unsigned char *)secret->value,
	                                       (int)secret->length) &&
	         OSSL_CMP_validate_msg(context, message) == 1;
	OSSL_CMP_CTX_free(context);
	ERR_clear_error();
	return proven;
}

/* --- refusals --- */

/* PKIFailureInfo (RFC 4210 §5.2.3), by its bits. */
static const char *const failures[] = {
	"badAlg: the algorithm is unknown or not taken",
	"badMessageCheck: the message's protection is not good",
	"badRequest: this is not permitted or supported",
	"badTime: the message's time is too far from the CA's",
	"badCertId: no certificate is like that",
	"badDataFormat: the data has the wrong format",
	"wrongAuthority: another CA is meant",
	"incorrectData: the requester's data is incorrect",
	"missingTimeStamp: the time stamp is missing",
	"badPOP: the proof of possession failed",
	"certRevoked: the certificate is revoked already",
	"certConfirmed: the certificate is confirmed already",
	"wrongIntegrity: protected by secret instead of signature, or the other way round",
	"badRecipientNonce: the recipient's nonce is missing or wrong",
	"timeNotAvailable: the CA's clock is not available",
	"unacceptedPolicy: the policy is not taken",
	"unacceptedExtension: an extension is not taken",
	"addInfoNotAvailable: additional information is not available",
	"badSenderNonce: the sender's nonce is missing or wrong",
	"badCertTemplate: the certificate asked for is not valid or complete",
	"signerNotTrusted: the signer is unknown or not trusted",
	"transactionIdInUse: the transaction is in use already",
	"unsupportedVersion: the version is not supported",
	"notAuthorized: not authorised to ask for this",
	"systemUnavail: the CA is not available at the moment",
	"systemFailure: the CA has a failure",
	"duplicateCertReq: such a certificate exists already",
};

static void add_words(char words[CMP_WORDS_MAX], const char *text, size_t length)
{
	size_t used = strlen(words);

	snprintf(words + used, CMP_WORDS_MAX - used, "%s%.*s", used ? ", " : "", (int)length, text);
}

void cmp_refusal(const OSSL_CMP_CTX *context, char words[CMP_WORDS_MAX])
{
	const OSSL_CMP_PKIFREETEXT *texts = OSSL_CMP_CTX_get0_statusString(context);
	int bits = OSSL_CMP_CTX_get_failInfoCode(context);

	*words = '\0';
	for (size_t i = 0; bits > 0 && i < COUNT(failures); i++)
		if (bits & 1 << i)
			add_words(words, failures[i], strlen(failures[i]));
	for (int i = 0; i < sk_ASN1_UTF8STRING_num(texts) && i < 8; i++) {
		const ASN1_UTF8STRING *text = sk_ASN1_UTF8STRING_value(texts, i);

		add_words(words, (const char *)ASN1_STRING_get0_data(text),
		          (size_t)ASN1_STRING_length(text));
	}
	if (!*words)
		add_words(words, "no reason given", strlen("no reason given"));
}

bool cmp_refusal_is(const OSSL_CMP_CTX *context, int bits)
{
	int has = OSSL_CMP_CTX_get_failInfoCode(context);

	return has > 0 && (has & bits);
}

/* --- answers that prove nothing --- */

struct unproven {
	const void *der;
	size_t length;
};

/* Gives the answer back as if it were one to whatever is asked here. */
static OSSL_CMP_MSG *give(OSSL_CMP_CTX *context, const OSSL_CMP_MSG *question)
{
	const struct unproven *unproven = OSSL_CMP_CTX_get_transfer_cb_arg(context);
	OSSL_CMP_MSG *message = cmp_message_read(unproven->der, unproven->length);
	const OSSL_CMP_PKIHEADER *header = message ? OSSL_CMP_MSG_get0_header(message) : NULL;

	(void)question;
	if (!header)
		return NULL;
	OSSL_CMP_CTX_set1_transactionID(context, OSSL_CMP_HDR_get0_transactionID(header));
	OSSL_CMP_CTX_set1_senderNonce(context, OSSL_CMP_HDR_get0_recipNonce(header));
	return message;
}

/* A context that believes refusals as they are, and trusts nobody. */
static OSSL_CMP_CTX *credulous(struct unproven *unproven, X509 *old)
{
	OSSL_CMP_CTX *context = OSSL_CMP_CTX_new(NULL, NULL);
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");

	if (context && key && OSSL_CMP_CTX_set0_newPkey(context, 0, key)) {
		key = NULL;
		if (OSSL_CMP_CTX_set_log_verbosity(context, 0) &&
		    OSSL_CMP_CTX_set_transfer_cb(context, give) &&
		    OSSL_CMP_CTX_set_transfer_cb_arg(context, unproven) &&
		    OSSL_CMP_CTX_set1_referenceValue(context, (const unsigned char *)"?", 1) &&
		    OSSL_CMP_CTX_set_option(context, OSSL_CMP_OPT_UNPROTECTED_SEND, 1) &&
		    OSSL_CMP_CTX_set_option(context, OSSL_CMP_OPT_UNPROTECTED_ERRORS, 1) &&
		    OSSL_CMP_CTX_set_option(context, OSSL_CMP_OPT_POPO_METHOD,
		                            OSSL_CRMF_POPO_NONE) &&
		    (!old || OSSL_CMP_CTX_set1_oldCert(context, old)))
			return context;
	}
	EVP_PKEY_free(key);
	OSSL_CMP_CTX_free(context);
	return NULL;
}

/* The question that a message of this type answers; an error answers any. */
static void ask_again(OSSL_CMP_CTX *context, const struct unproven *unproven)
{
	OSSL_CMP_MSG *message = cmp_message_read(unproven->der, unproven->length);
	int type = message ? OSSL_CMP_MSG_get_bodytype(message) : -1, after;

	if (type == OSSL_CMP_KUR + 1 || type == OSSL_CMP_CR + 1)
		OSSL_CMP_try_certreq(context, type - 1, NULL, &after);
	else if (type >= 0)
		OSSL_CMP_try_certreq(context, OSSL_CMP_IR, NULL, &after);
	OSSL_CMP_MSG_free(message);
}

/* Why OpenSSL believes nothing of it, for who can do something about that. */
static const char *why_unproven(void)
{
	static const struct {
		int reason;
		const char *words;
	} reasons[] = {
		{ CMP_R_MISSING_PROTECTION, "it is not protected" },
		{ CMP_R_WRONG_PBM_VALUE, "it is protected by another secret" },
		{ CMP_R_MISSING_TRUST_ANCHOR,
		  "it is signed, and the profile has no CA certificate to prove that: load it" },
		{ CMP_R_NO_SUITABLE_SENDER_CERT,
		  "it is signed, and no certificate came that fits its sender and signature" },
		{ CMP_R_POTENTIALLY_INVALID_CERTIFICATE,
		  "who signed it does not speak for the CA (an RA: see ca-dn)" },
	};
	unsigned long first = ERR_peek_error();
	const char *words = ERR_reason_error_string(first);

	for (size_t i = 0; ERR_GET_LIB(first) == ERR_LIB_CMP && i < COUNT(reasons); i++)
		if (reasons[i].reason == ERR_GET_REASON(first))
			return reasons[i].words;
	return words ? words : "it has no good protection";
}

int cmp_unproven(const void *der, size_t length, X509 *old, struct error *err)
{
	const char *reason = why_unproven();
	struct unproven unproven = { der, length };
	OSSL_CMP_CTX *context = credulous(&unproven, old);
	char words[CMP_WORDS_MAX] = "";

	if (context)
		ask_again(context, &unproven);
	if (context && OSSL_CMP_CTX_get_status(context) == OSSL_CMP_PKISTATUS_rejection)
		cmp_refusal(context, words);
	OSSL_CMP_CTX_free(context);
	ERR_clear_error();
	return error_set(err, -EBADMSG, "unproven answer: %s", *words ? words : reason);
}
