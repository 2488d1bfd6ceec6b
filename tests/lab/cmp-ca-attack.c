#include "tests/lab/cmp-ca-der.h"
#include "tests/lab/cmp-ca.h"

#include <openssl/crmf.h>
#include <openssl/x509v3.h>
#include <string.h>

/* Types of bodies that OpenSSL has no public names for (RFC 4210 §5.1.2). */
enum {
	POPDECC = 5,
	RP = 12,
	PKI_CONF = 19,
	NESTED = 20,
	GENM = 21,
	GENP = 22,
	ERROR = 23,
	CERT_CONF = 24,
	POLL_REQ = 25,
	POLL_REP = 26
};

/* Changes the first byte of VALUE where it stands in MESSAGE. */
static void change(BIO *message, const ASN1_OCTET_STRING *value)
{
	unsigned char *bytes, *found;
	long length = BIO_get_mem_data(message, &bytes);

	found = value ? memmem(bytes, (size_t)length, ASN1_STRING_get0_data(value),
	                       (size_t)ASN1_STRING_length(value))
	              : NULL;
	if (found)
		*found ^= 1;
}

/* The shortest content of a body that fits its type; NULL: that of the answer. */
static const char *const bodies[] = {
	[POPDECC] = "\x30\x00",
	[RP] = "\x30\x07\x30\x05\x30\x03\x02\x01\x00",
	[PKI_CONF] = "\x05\x00",
	[NESTED] = "\x30\x00",
	[GENM] = "\x30\x00",
	[GENP] = "\x30\x00",
	[ERROR] = "\x30\x05\x30\x03\x02\x01\x00", /* an error that says "accepted" */
	[CERT_CONF] = "\x30\x00",
	[POLL_REQ] = "\x30\x05\x30\x03\x02\x01\x00",
	[POLL_REP] = "\x30\x0a\x30\x08\x02\x01\x00\x02\x01\x01\x30\x00",
};

/* The body has another type, and its content where that type would not be read with it. */
static BIO *change_body(BIO *message, int type)
{
	const char *content = type < (int)(sizeof bodies / sizeof *bodies) ? bodies[type] : NULL;
	struct part whole = { 0 }, header = { 0 }, body = { 0 };
	BIO *out = BIO_new(BIO_s_mem());
	const unsigned char *at, *end;
	unsigned char *bytes;
	long length = BIO_get_mem_data(message, &bytes), size;

	at = bytes;
	next_part(&at, bytes + length, &whole);
	at = whole.content;
	end = whole.content + whole.length;
	next_part(&at, end, &header);
	next_part(&at, end, &body);
	size = content ? (unsigned char)content[1] + 2 : body.length;
	put_head(out, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL,
	         header.whole + size + (size < 128 ? 2 : body.whole - body.length) + (end - at));
	BIO_write(out, header.at, (int)header.whole);
	put_head(out, type, V_ASN1_CONTEXT_SPECIFIC, size);
	BIO_write(out, content ? (const void *)content : body.content, (int)size);
	BIO_write(out, at, (int)(end - at));
	BIO_free(message);
	return out;
}

/* Nothing covers extraCerts: they are COUNT times the CA's certificate. */
static BIO *crowd(BIO *message, const X509 *certificate, int count)
{
	struct part whole = { 0 }, part = { 0 };
	BIO *out = BIO_new(BIO_s_mem());
	const unsigned char *at, *end;
	unsigned char *bytes, *der = NULL;
	long length = BIO_get_mem_data(message, &bytes), size, all;

	at = bytes;
	next_part(&at, bytes + length, &whole);
	at = whole.content;
	for (int i = 0; i < 3; i++) /* header, body, protection */
		next_part(&at, whole.content + whole.length, &part);
	end = at;
	size = i2d_X509(certificate, &der);
	all = ASN1_object_size(1, (int)(size * count), V_ASN1_SEQUENCE);
	put_head(out, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL,
	         end - whole.content + ASN1_object_size(1, (int)all, 1));
	BIO_write(out, whole.content, (int)(end - whole.content));
	put_head(out, 1, V_ASN1_CONTEXT_SPECIFIC, all);
	put_head(out, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL, size * count);
	for (int i = 0; i < count; i++)
		BIO_write(out, der, (int)size);
	OPENSSL_free(der);
	BIO_free(message);
	return out;
}

static BIO *copy(BIO *message)
{
	char *bytes;
	long length = BIO_get_mem_data(message, &bytes);
	BIO *out = BIO_new(BIO_s_mem());

	BIO_write(out, bytes, (int)length);
	return out;
}

BIO *attack_answer(struct lab_ca *ca, const OSSL_CMP_MSG *message, BIO *answer)
{
	const OSSL_CMP_PKIHEADER *header = OSSL_CMP_MSG_get0_header(message);
	int type;

	switch (ca->attack) {
	case ATTACK_OTHER_SECRET:
		return protect(answer, "another secret", ca->server_key);
	case ATTACK_NONCE:
		change(answer, OSSL_CMP_HDR_get0_recipNonce(header));
		return protect(answer, ca->secret, ca->server_key);
	case ATTACK_TRANSACTION:
		change(answer, OSSL_CMP_HDR_get0_transactionID(header));
		return protect(answer, ca->secret, ca->server_key);
	case ATTACK_SENDER:
		return rename_sender(ca, answer, X509_get_subject_name(ca->ca));
	case ATTACK_BODY:
		return protect(change_body(answer, ca->number), ca->secret, ca->server_key);
	case ATTACK_BODIES: /* each once; the last one is the right one */
		type = ca->number;
		ca->number = type < POLL_REP ? type + 1 : OSSL_CMP_MSG_get_bodytype(message);
		return protect(change_body(answer, type), ca->secret, ca->server_key);
	case ATTACK_CROWD:
		return crowd(answer, ca->ca, ca->number);
	case ATTACK_REPLAY:
		if (!ca->kept) {
			ca->kept = answer;
			return copy(answer);
		}
		BIO_free(answer);
		return copy(ca->kept);
	default:
		return answer;
	}
}

static void name_set(X509 *certificate, const char *text)
{
	X509_NAME *name = X509_NAME_new();

	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)text, -1, -1,
	                           0);
	X509_set_subject_name(certificate, name);
	X509_NAME_free(name);
}

void attack_certificate(const struct lab_ca *ca, X509 *certificate)
{
	EVP_PKEY *key;

	if (ca->attack == ATTACK_OTHER_KEY) {
		key = EVP_EC_gen("P-256");
		X509_set_pubkey(certificate, key);
		EVP_PKEY_free(key);
	}
	if (ca->attack == ATTACK_OTHER_SUBJECT)
		name_set(certificate, "somebody.else.example");
}
