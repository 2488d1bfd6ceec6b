#include "tests/lab/cmp-ca-der.h"

#include "tests/lab/lab-x509.h"

#include <openssl/crmf.h>
#include <openssl/x509.h>
#include <string.h>

bool next_part(const unsigned char **at, const unsigned char *end, struct part *part)
{
	const unsigned char *content = *at;
	int tag, class;

	part->at = *at;
	if (*at >= end || ASN1_get_object(&content, &part->length, &tag, &class, end - *at) & 0x80)
		return false;
	part->content = content;
	part->whole = content + part->length - *at;
	*at += part->whole;
	return true;
}

/* The header's PBMParameter: protectionAlg is [1], an AlgorithmIdentifier. */
static OSSL_CRMF_PBMPARAMETER *pbm_of(const struct part *header)
{
	const unsigned char *at = header->content, *der;
	OSSL_CRMF_PBMPARAMETER *found = NULL;
	const ASN1_STRING *sequence;
	X509_ALGOR *algorithm;
	const void *value;
	struct part part;
	int type;

	while (!found && next_part(&at, header->content + header->length, &part)) {
		if (*part.at != 0xa1)
			continue;
		der = part.content;
		algorithm = d2i_X509_ALGOR(NULL, &der, part.length);
		X509_ALGOR_get0(NULL, &type, &value, algorithm);
		sequence = value;
		if (type == V_ASN1_SEQUENCE) {
			der = ASN1_STRING_get0_data(sequence);
			found = d2i_OSSL_CRMF_PBMPARAMETER(NULL, &der,
			                                   ASN1_STRING_length(sequence));
		}
		X509_ALGOR_free(algorithm);
	}
	return found;
}

X509_NAME *recipient_of(const unsigned char *der, size_t length)
{
	const unsigned char *at = der, *end = der + length;
	struct part part = { 0 };

	for (int depth = 0; depth < 2; depth++) { /* message, header */
		if (!next_part(&at, end, &part))
			return NULL;
		at = part.content;
		end = at + part.length;
	}
	for (int i = 0; i < 3; i++) /* pvno, sender, recipient */
		if (!next_part(&at, end, &part))
			return NULL;
	at = part.content;
	return *part.at == 0xa4 ? d2i_X509_NAME(NULL, &at, part.length) : NULL;
}

static void put_tagged(BIO *out, int constructed, int tag, int class, long length)
{
	unsigned char head[16], *at = head;

	ASN1_put_object(&at, constructed, (int)length, tag, class);
	BIO_write(out, head, (int)(at - head));
}

void put_head(BIO *out, int tag, int class, long length)
{
	put_tagged(out, 1, tag, class, length);
}

/* What is protected. */
static BIO *protected_part(const struct part *header, const struct part *body)
{
	BIO *out = BIO_new(BIO_s_mem());

	put_head(out, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL, header->whole + body->whole);
	BIO_write(out, header->at, (int)header->whole);
	BIO_write(out, body->at, (int)body->whole);
	return out;
}

/* The MAC by SECRET over HEADER and BODY, or a signature, as the bytes of a BIT STRING's value. */
static size_t mac_of(const struct part *header, const struct part *body,
                     const OSSL_CRMF_PBMPARAMETER *pbm, const char *secret, unsigned char **mac)
{
	BIO *protected = protected_part(header, body);
	unsigned char *bytes;
	size_t length = 0;
	long size = BIO_get_mem_data(protected, &bytes);

	OSSL_CRMF_pbm_new(NULL, NULL, pbm, bytes, (size_t)size, (const unsigned char *)secret,
	                  strlen(secret), mac, &length);
	BIO_free(protected);
	return length;
}

static size_t signature_of(const struct part *header, const struct part *body, EVP_PKEY *key,
                           unsigned char **signature)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	BIO *protected = protected_part(header, body);
	unsigned char *bytes;
	long size = BIO_get_mem_data(protected, &bytes);
	size_t length = 1024;

	*signature = OPENSSL_malloc(length);
	if (EVP_DigestSignInit(context, NULL, signing_digest(key), NULL, key) != 1 ||
	    EVP_DigestSign(context, *signature, &length, bytes, (size_t)size) != 1)
		length = 0;
	EVP_MD_CTX_free(context);
	BIO_free(protected);
	return length;
}

/* HEADER and BODY with PROTECTION (freed), and REST behind it. */
static BIO *message_of(const struct part *header, const struct part *body,
                       unsigned char *protection, size_t length, const unsigned char *rest,
                       long rest_length)
{
	BIO *out = BIO_new(BIO_s_mem());
	int bits = (int)length + 1, whole = ASN1_object_size(0, bits, V_ASN1_BIT_STRING);

	put_head(out, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL,
	         header->whole + body->whole + ASN1_object_size(1, whole, 0) + rest_length);
	BIO_write(out, header->at, (int)header->whole);
	BIO_write(out, body->at, (int)body->whole);
	put_head(out, 0, V_ASN1_CONTEXT_SPECIFIC, whole);
	put_tagged(out, 0, V_ASN1_BIT_STRING, V_ASN1_UNIVERSAL, bits);
	BIO_write(out, "", 1); /* no unused bits */
	BIO_write(out, protection, (int)length);
	BIO_write(out, rest, (int)rest_length);
	OPENSSL_free(protection);
	return out;
}

BIO *protect(BIO *message, const char *secret, EVP_PKEY *key)
{
	struct part whole = { 0 }, header = { 0 }, body = { 0 }, old = { 0 };
	const unsigned char *at, *end;
	unsigned char *bytes, *protection = NULL;
	long length = BIO_get_mem_data(message, &bytes);
	OSSL_CRMF_PBMPARAMETER *pbm;
	size_t size;
	BIO *out;

	at = bytes;
	next_part(&at, bytes + length, &whole);
	at = whole.content;
	end = whole.content + whole.length;
	next_part(&at, end, &header);
	next_part(&at, end, &body);
	next_part(&at, end, &old);
	pbm = pbm_of(&header);
	size = pbm ? mac_of(&header, &body, pbm, secret, &protection)
	           : signature_of(&header, &body, key, &protection);
	OSSL_CRMF_PBMPARAMETER_free(pbm);
	out = message_of(&header, &body, protection, size, at, end - at);
	BIO_free(message);
	return out;
}
