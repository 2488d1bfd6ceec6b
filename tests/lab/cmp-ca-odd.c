/* Answers of the lab's CMP CA that are as good as others, but spelled otherwise. */
#include "tests/lab/cmp-ca-der.h"
#include "tests/lab/cmp-ca.h"

#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>

/* The fields of a header by their tags (RFC 4210 §5.1.1); sender and recipient have none. */
enum { TIME = 0xa0, ALGORITHM = 0xa1, SENDER_KID = 0xa2, RECIPIENT_KID = 0xa3, FREE_TEXT = 0xa7 };

#define CP 3 /* OpenSSL has no public name for it */

/* What a header has beside the names. */
enum manner {
	USUAL,
	BARE,   /* nothing that can be left out */
	CHATTY, /* more than is of use */
	SIGNED  /* a signature where a MAC was asked with */
};

/* A directoryName, or the empty one (NULL-DN) where NAME is NULL. */
static BIO *general_name(const X509_NAME *name)
{
	X509_NAME *empty = X509_NAME_new();
	BIO *out = BIO_new(BIO_s_mem());
	unsigned char *der = NULL;
	int length = i2d_X509_NAME(name ? name : empty, &der);

	put_head(out, 4, V_ASN1_CONTEXT_SPECIFIC, length);
	BIO_write(out, der, length);
	OPENSSL_free(der);
	X509_NAME_free(empty);
	return out;
}

static void append(BIO *out, BIO *more)
{
	unsigned char *bytes;
	long length = BIO_get_mem_data(more, &bytes);

	BIO_write(out, bytes, (int)length);
	BIO_free(more);
}

/* freeText and generalInfo that nobody has use for. */
static void put_chatter(BIO *out)
{
	static const unsigned char chatter[] = {
		0xa7, 0x09, 0x30, 0x07, 0x0c, 0x05, 'h',  'e',  'l',  'l',  'o', /* freeText */
		0xa8, 0x0a, 0x30, 0x08, 0x30, 0x06, 0x06, 0x02, 0x2a, 0x03, 0x05, 0x00,
	};

	BIO_write(out, chatter, sizeof chatter);
}

/* protectionAlg: ecdsa-with-SHA256, what a server with the usual key signs with. */
static void put_signature_algorithm(BIO *out)
{
	static const unsigned char algorithm[] = { ALGORITHM, 0x0c, 0x30, 0x0a, 0x06, 0x08, 0x2a,
		                                   0x86,      0x48, 0xce, 0x3d, 0x04, 0x03, 0x02 };

	BIO_write(out, algorithm, sizeof algorithm);
}

/* HEADER with this name of the sender (NULL: an empty one), and nobody as recipient. */
static BIO *header_of(const struct part *header, const X509_NAME *sender, enum manner manner)
{
	const unsigned char *at = header->content, *end = at + header->length;
	BIO *content = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
	struct part field;
	unsigned char *bytes;
	long length;

	for (int i = 0; next_part(&at, end, &field); i++) {
		int tag = *field.at;
		bool spare = tag == TIME || tag == SENDER_KID || tag == RECIPIENT_KID ||
		             tag >= FREE_TEXT;

		if (i == 1 || i == 2)
			append(content, general_name(i == 1 ? sender : NULL));
		else if (manner == SIGNED && tag == ALGORITHM)
			put_signature_algorithm(content);
		else if (!(manner == BARE && spare) && !(manner == CHATTY && tag >= FREE_TEXT) &&
		         !(manner == SIGNED && tag == SENDER_KID))
			BIO_write(content, field.at, (int)field.whole);
	}
	if (manner == CHATTY)
		put_chatter(content);
	length = BIO_get_mem_data(content, &bytes);
	put_head(out, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL, length);
	append(out, content);
	return out;
}

/* MESSAGE (freed) with another header, and protected anew. */
static BIO *change_header(const struct lab_ca *ca, BIO *message, const X509_NAME *sender,
                          enum manner manner)
{
	struct part whole = { 0 }, header = { 0 };
	unsigned char *bytes;
	long length = BIO_get_mem_data(message, &bytes), size;
	const unsigned char *at = bytes, *end;
	BIO *new, *out = BIO_new(BIO_s_mem());

	next_part(&at, bytes + length, &whole);
	at = whole.content;
	end = whole.content + whole.length;
	next_part(&at, end, &header);
	new = header_of(&header, sender, manner);
	size = BIO_get_mem_data(new, &bytes);
	put_head(out, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL, size + (end - at));
	append(out, new);
	BIO_write(out, at, (int)(end - at));
	BIO_free(message);
	return protect(out, ca->secret, ca->server_key);
}

BIO *rename_sender(const struct lab_ca *ca, BIO *answer, const X509_NAME *sender)
{
	return change_header(ca, answer, sender, USUAL);
}

/* certReqId of the answer to a p10cr: 0 and -1 are both in use (RFC 4210, RFC 9480). */
static BIO *change_id(const struct lab_ca *ca, BIO *message, bool negative)
{
	struct part whole = { 0 }, header = { 0 }, body = { 0 };
	unsigned char *bytes, *found;
	long length = BIO_get_mem_data(message, &bytes);
	const unsigned char *at = bytes;

	next_part(&at, bytes + length, &whole);
	at = whole.content;
	next_part(&at, bytes + length, &header);
	next_part(&at, bytes + length, &body);
	found = memmem(body.at, (size_t)body.whole, "\x02\x01", 2); /* no caPubs precede it */
	if (found)
		found[2] = negative ? 0xff : 0;
	return protect(message, ca->secret, ca->server_key);
}

BIO *odd_answer(const struct lab_ca *ca, const OSSL_CMP_MSG *message, BIO *answer)
{
	const char *odd = ca->odd;
	int type = OSSL_CMP_MSG_get_bodytype(message);

	if (!odd)
		return answer;
	if (strcmp(odd, "nobody") == 0)
		return change_header(ca, answer, NULL, USUAL);
	if (strcmp(odd, "bare") == 0)
		return change_header(ca, answer, NULL, BARE);
	if (strcmp(odd, "chatty") == 0)
		return change_header(ca, answer, X509_get_subject_name(ca->ca), CHATTY);
	if (strcmp(odd, "signs") == 0)
		return change_header(ca, answer, X509_get_subject_name(ca->server), SIGNED);
	if (strncmp(odd, "id-", 3) == 0 && type == CP)
		return change_id(ca, answer, strcmp(odd, "id-minus") == 0);
	return answer;
}
