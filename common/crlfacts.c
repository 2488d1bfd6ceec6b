#include "common/crlfacts.h"

#include "common/crlindex.h"
#include "common/stubcrl.h"
#include "common/x509.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <strings.h>

#define FUTURE_SECONDS 300

static int bad(struct error *err, const char *what)
{
	ERR_clear_error();
	return error_set(err, -EBADMSG, "the CRL %s", what);
}

static int check_digest(X509_CRL *crl, bool legacy, struct error *err)
{
	const X509_ALGOR *algorithm;
	struct crl_scheme scheme;
	int digest = NID_undef;

	X509_CRL_get0_signature(crl, NULL, &algorithm);
	if (!crl_scheme_read(algorithm, &scheme))
		return bad(err, "is signed in a way that is not known");
	if (scheme.digest)
		digest = EVP_MD_get_type(scheme.digest);
	if (digest == NID_md5 || digest == NID_md4 || digest == NID_md2)
		return bad(err, "is signed with MD5, which is not taken");
	if (digest == NID_sha1 && !legacy)
		return bad(err, "is signed with SHA-1 (allow-legacy = yes takes it)");
	return 0;
}

static int check_extensions(X509_CRL *crl, struct error *err)
{
	for (int i = 0; i < X509_CRL_get_ext_count(crl); i++) {
		X509_EXTENSION *extension = X509_CRL_get_ext(crl, i);
		int nid = OBJ_obj2nid(X509_EXTENSION_get_object(extension));

		if (X509_EXTENSION_get_critical(extension) && nid != NID_crl_number &&
		    nid != NID_issuing_distribution_point && nid != NID_delta_crl &&
		    nid != NID_authority_key_identifier && nid != NID_freshest_crl)
			return bad(err, "has a critical extension that is not known");
	}
	return 0;
}

/* The number in the extension NID into TEXT (CRL_NUMBER_MAX), empty where there is none. */
static int read_number(X509_CRL *crl, int nid, char *text, struct error *err)
{
	int critical;
	ASN1_INTEGER *number = X509_CRL_get_ext_d2i(crl, nid, &critical, NULL);
	BIGNUM *value = NULL;
	char *decimal = NULL;

	*text = '\0';
	if (!number)
		return critical == -1 ? 0 : bad(err, "has a number that cannot be read");
	if (ASN1_STRING_length(number) <= CRL_SERIAL_MAX)
		value = ASN1_INTEGER_to_BN(number, NULL);
	decimal = value && !BN_is_negative(value) ? BN_bn2dec(value) : NULL;
	if (decimal)
		snprintf(text, CRL_NUMBER_MAX, "%s", decimal);
	OPENSSL_free(decimal);
	BN_free(value);
	ASN1_INTEGER_free(number);
	return *text ? 0 : bad(err, "has a number of more than 20 bytes or below zero");
}

static int read_times(X509_CRL *crl, int64_t now, struct crl_facts *facts, struct error *err)
{
	facts->this_update = asn1_time_seconds(X509_CRL_get0_lastUpdate(crl));
	if (facts->this_update < 0)
		return bad(err, "has no thisUpdate");
	if (now > 0 && facts->this_update > now + FUTURE_SECONDS)
		return error_set(err, -EBADMSG,
		                 "the CRL is from the future: its thisUpdate is %lld s ahead",
		                 (long long)(facts->this_update - now));
	facts->next_update = 0;
	if (!X509_CRL_get0_nextUpdate(crl))
		return 0;
	facts->next_update = asn1_time_seconds(X509_CRL_get0_nextUpdate(crl));
	return facts->next_update < 0 ? bad(err, "has a nextUpdate that cannot be read") : 0;
}

static int read_scope(X509_CRL *crl, struct crl_facts *facts, struct error *err)
{
	ISSUING_DIST_POINT *scope;
	int critical;

	scope = X509_CRL_get_ext_d2i(crl, NID_issuing_distribution_point, &critical, NULL);
	if (!scope && critical != -1)
		return bad(err, "has a scope that cannot be read");
	facts->whole =
		!scope || (scope->onlyuser <= 0 && scope->onlyCA <= 0 && scope->onlyattr <= 0 &&
	                   scope->indirectCRL <= 0 && !scope->onlysomereasons);
	facts->indirect = scope && scope->indirectCRL > 0;
	ISSUING_DIST_POINT_free(scope);
	return 0;
}

static bool hash_extension(EVP_MD_CTX *hash, X509_CRL *crl, int nid)
{
	int at = X509_CRL_get_ext_by_NID(crl, nid, -1);
	const ASN1_OCTET_STRING *value = NULL;
	unsigned char begin[4] = { at < 0 };
	size_t length = 0;

	if (at >= 0) {
		value = X509_EXTENSION_get_data(X509_CRL_get_ext(crl, at));
		length = (size_t)ASN1_STRING_length(value);
	}
	for (size_t i = 1; i < sizeof begin; i++)
		begin[i] = (unsigned char)(length >> (8 * i - 8));
	return EVP_DigestUpdate(hash, begin, sizeof begin) &&
	       (!value || EVP_DigestUpdate(hash, ASN1_STRING_get0_data(value), length));
}

static int read_slot(X509_CRL *crl, struct crl_facts *facts, struct error *err)
{
	unsigned char begin[1 + CRL_SLOT_MAX] = { *facts->base != '\0' };
	const X509_NAME *issuer = X509_CRL_get_issuer(crl);
	EVP_MD_CTX *hash = EVP_MD_CTX_new();
	int ok = 0;
	bool good;

	facts->issuer = (uint32_t)X509_NAME_hash_ex(issuer, NULL, NULL, &ok);
	good = ok && hash && X509_NAME_digest(issuer, EVP_sha256(), begin + 1, NULL) &&
	       EVP_DigestInit_ex(hash, EVP_sha256(), NULL) &&
	       EVP_DigestUpdate(hash, begin, sizeof begin) &&
	       hash_extension(hash, crl, NID_issuing_distribution_point) &&
	       hash_extension(hash, crl, NID_authority_key_identifier) &&
	       EVP_DigestFinal_ex(hash, facts->slot, NULL);
	EVP_MD_CTX_free(hash);
	return good ? 0 : error_openssl(err, -ENOMEM, "no memory for a CRL");
}

int crl_facts_read(X509_CRL *crl, int64_t now, bool legacy, struct crl_facts *facts,
                   struct error *err)
{
	int r = check_digest(crl, legacy, err);

	*facts = (struct crl_facts){ 0 };
	if (r == 0)
		r = check_extensions(crl, err);
	if (r == 0)
		r = read_number(crl, NID_crl_number, facts->number, err);
	if (r == 0)
		r = read_number(crl, NID_delta_crl, facts->base, err);
	if (r == 0 && *facts->base && !*facts->number)
		r = bad(err, "is a delta CRL without a number");
	if (r == 0)
		r = read_times(crl, now, facts, err);
	if (r == 0)
		r = read_scope(crl, facts, err);
	return r == 0 ? read_slot(crl, facts, err) : r;
}

bool crl_number_is_lower(const char *number, const char *than)
{
	while (*number == '0')
		number++;
	while (*than == '0')
		than++;
	if (strlen(number) != strlen(than))
		return strlen(number) < strlen(than);
	return strcmp(number, than) < 0;
}

X509 *crl_find_signer(X509_CRL *crl, STACK_OF(X509) * signers, struct error *err)
{
	X509_NAME *issuer = X509_CRL_get_issuer(crl);
	bool named = false, may_sign = false;

	for (int i = 0; i < sk_X509_num(signers); i++) {
		X509 *signer = sk_X509_value(signers, i);

		if (X509_NAME_cmp(issuer, X509_get_subject_name(signer)) != 0)
			continue;
		named = true;
		if (!(X509_get_key_usage(signer) & KU_CRL_SIGN))
			continue;
		may_sign = true;
		if (X509_CRL_verify(crl, X509_get0_pubkey(signer)) == 1)
			return signer;
	}
	bad(err, !named     ? "is of another issuer than the CA"
	         : may_sign ? "is not signed by the CA: its signature is wrong"
	                    : "cannot be from this CA: its certificate lacks cRLSign");
	return NULL;
}
