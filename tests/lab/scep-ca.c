/*
 * scep-ca: a SCEP CA (RFC 8894) for tests, for what Debian's scepserver lacks: PENDING and
 * CertPoll, RA certificates, chosen ciphers and digests, refusals, CRLs, answers that get lost,
 * and attacks. Each message is a line on stdout, so that tests can count them.
 *
 * DIR holds ca.pem and ca.key; ra.pem, ra.key for an RA that signs and decrypts, or ra-sign.*
 * and ra-encrypt.* for one of each; next.pem for GetNextCACert; former.pem, the CA certificate
 * before this one, whose certificates still sign renewals; revoked, one serial (hex) a line.
 */
#include "tests/lab/scep-ca.h"

#include "tests/lab/lab-http.h"
#include "tests/lab/lab-x509.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum message_type { RENEWAL = 17, REQUEST = 19, POLL = 20, GET_CRL = 22 };
enum attribute {
	TYPE,
	STATUS,
	FAIL,
	SENDER_NONCE,
	RECIPIENT_NONCE,
	TRANSACTION,
	FAIL_TEXT,
	ATTRIBUTES
};

static const char *const attribute_oids[] = {
	[TYPE] = "2.16.840.1.113733.1.9.2",
	[STATUS] = "2.16.840.1.113733.1.9.3",
	[FAIL] = "2.16.840.1.113733.1.9.4",
	[SENDER_NONCE] = "2.16.840.1.113733.1.9.5",
	[RECIPIENT_NONCE] = "2.16.840.1.113733.1.9.6",
	[TRANSACTION] = "2.16.840.1.113733.1.9.7",
	[FAIL_TEXT] = "1.3.6.1.5.5.7.24.1",
};

static const char *const attack_names[] = {
#define X(name, text) [ATTACK_##name] = (text),
	ATTACKS(X)
#undef X
};

/* A transaction lasts as long as the CA: CertPoll and repetitions find it by its id. */
struct transaction {
	struct transaction *next;
	char id[256];
	X509_REQ *request;
	X509 *certificate; /* once it is issued */
	int polls;         /* PENDING answers still to come */
};

static struct transaction *transactions;

/* One message being answered. */
struct exchange {
	char digest[65]; /* SHA-256 of it, in hex */
	CMS_SignerInfo *asker;
	X509 *to;
	const char *id;
	BIO *content; /* what was in the envelope */
	int type;
};

static ASN1_OBJECT *attribute_oid(enum attribute which)
{
	static ASN1_OBJECT *oids[ATTRIBUTES];

	if (!oids[which])
		oids[which] = OBJ_txt2obj(attribute_oids[which], 1);
	return oids[which];
}

static ASN1_STRING *get(CMS_SignerInfo *signer, enum attribute which, int type)
{
	return CMS_signed_get0_data_by_OBJ(signer, attribute_oid(which), -3, type);
}

static void put(CMS_SignerInfo *signer, enum attribute which, int type, const void *value,
                int length)
{
	CMS_signed_add1_attr_by_OBJ(signer, attribute_oid(which), type, value, length);
}

static void put_text(CMS_SignerInfo *signer, enum attribute which, const char *text)
{
	put(signer, which, V_ASN1_PRINTABLESTRING, text, (int)strlen(text));
}

/* --- what the CA issues --- */

static X509 *issue(struct lab_ca *ca, X509_REQ *request)
{
	X509 *certificate = X509_new();

	X509_set_version(certificate, X509_VERSION_3);
	set_serial(certificate);
	X509_set_subject_name(certificate, X509_REQ_get_subject_name(request));
	X509_set_issuer_name(certificate, X509_get_subject_name(ca->ca));
	X509_set_pubkey(certificate, X509_REQ_get0_pubkey(request));
	attack_certificate(ca, certificate);
	X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
	X509_gmtime_adj(X509_getm_notAfter(certificate), ca->lifetime);
	add_extension(ca->ca, certificate, NID_basic_constraints,
	              ca->attack == ATTACK_CA_TRUE ? "critical,CA:TRUE" : "CA:FALSE");
	add_extension(ca->ca, certificate, NID_key_usage,
	              "critical,digitalSignature,keyEncipherment");
	add_extension(ca->ca, certificate, NID_ext_key_usage, "serverAuth,clientAuth");
	add_extension(ca->ca, certificate, NID_subject_key_identifier, "hash");
	add_extension(ca->ca, certificate, NID_authority_key_identifier, "keyid");
	if (ca->attack == ATTACK_OTHER_NAME)
		add_extension(ca->ca, certificate, NID_subject_alt_name,
		              "DNS:somebody.else.example");
	else
		copy_names(certificate, request);
	sign_certificate(ca, certificate);
	return certificate;
}

static void revoke_line(X509_CRL *crl, char *line)
{
	X509_REVOKED *entry = X509_REVOKED_new();
	ASN1_INTEGER *serial = NULL;
	BIGNUM *number = NULL;
	ASN1_TIME *now = X509_gmtime_adj(NULL, -60);

	line[strcspn(line, "\r\n")] = '\0';
	if (BN_hex2bn(&number, line) > 0) {
		serial = BN_to_ASN1_INTEGER(number, NULL);
		X509_REVOKED_set_serialNumber(entry, serial);
		X509_REVOKED_set_revocationDate(entry, now);
		X509_CRL_add0_revoked(crl, entry);
		entry = NULL;
	}
	X509_REVOKED_free(entry);
	ASN1_INTEGER_free(serial);
	ASN1_TIME_free(now);
	BN_free(number);
}

/* A new CRL at each question, its number the time. */
static X509_CRL *make_crl(const struct lab_ca *ca)
{
	X509_CRL *crl = X509_CRL_new();
	ASN1_TIME *now = X509_gmtime_adj(NULL, -1), *later = X509_gmtime_adj(NULL, 86400);
	ASN1_INTEGER *number = ASN1_INTEGER_new();
	BIO *file = file_open(ca->folder, "revoked");
	char line[128];

	X509_CRL_set_version(crl, X509_CRL_VERSION_2);
	X509_CRL_set_issuer_name(crl, X509_get_subject_name(ca->ca));
	X509_CRL_set1_lastUpdate(crl, now);
	X509_CRL_set1_nextUpdate(crl, later);
	ASN1_INTEGER_set(number, (long)time(NULL));
	X509_CRL_add1_ext_i2d(crl, NID_crl_number, number, 0, 0);
	while (file && BIO_gets(file, line, sizeof line) > 0)
		revoke_line(crl, line);
	X509_CRL_sort(crl);
	X509_CRL_sign(crl, ca->ca_key, signing_digest(ca->ca_key));
	BIO_free(file);
	ASN1_INTEGER_free(number);
	ASN1_TIME_free(now);
	ASN1_TIME_free(later);
	return crl;
}

/* --- CertRep --- */

static void add_attributes(const struct lab_ca *ca, CMS_SignerInfo *signer,
                           const struct exchange *exchange, const char *status, int fail)
{
	ASN1_STRING *nonce = get(exchange->asker, SENDER_NONCE, V_ASN1_OCTET_STRING);
	char text[8];
	unsigned char fresh[16];

	put_text(signer, TYPE, "3");
	put_text(signer, STATUS, status);
	if (*status == '2') {
		snprintf(text, sizeof text, "%d", fail);
		put_text(signer, FAIL, text);
		if (ca->refuse_text)
			put(signer, FAIL_TEXT, V_ASN1_UTF8STRING, ca->refuse_text,
			    (int)strlen(ca->refuse_text));
	}
	RAND_bytes(fresh, sizeof fresh);
	put(signer, SENDER_NONCE, V_ASN1_OCTET_STRING, fresh, sizeof fresh);
	if (ca->attack == ATTACK_NO_NONCE)
		return;
	put_text(signer, TRANSACTION,
	         ca->attack == ATTACK_TRANSACTION ? "0123456789ABCDEF" : exchange->id);
	if (ca->attack == ATTACK_NONCE)
		put(signer, RECIPIENT_NONCE, V_ASN1_OCTET_STRING, fresh, sizeof fresh);
	else if (nonce)
		put(signer, RECIPIENT_NONCE, V_ASN1_OCTET_STRING, ASN1_STRING_get0_data(nonce),
		    ASN1_STRING_length(nonce));
}

static void add_signer(const struct lab_ca *ca, CMS_ContentInfo *cms,
                       const struct exchange *exchange, const char *status, int fail,
                       unsigned int flags)
{
	const EVP_MD *digest = ca->attack == ATTACK_MD5 ? EVP_md5() : ca->digest;
	X509 *certificate = ca->sign, *rogue = NULL;
	EVP_PKEY *key = ca->sign_key, *rogue_key = NULL;
	CMS_SignerInfo *signer;

	if (ca->attack == ATTACK_ROGUE_SIGNER) {
		certificate = rogue = make_certificate(ca, "end.entity.example", "RSA", &rogue_key);
		key = rogue_key;
	}
	signer = CMS_add1_signer(cms, certificate, key, digest, flags);
	if (signer)
		add_attributes(ca, signer, exchange, status, fail);
	X509_free(rogue);
	EVP_PKEY_free(rogue_key);
}

/* The signed answer; CONTENT is for SUCCESS alone and freed here. */
static BIO *reply(const struct lab_ca *ca, const struct exchange *exchange, const char *status,
                  int fail, BIO *content)
{
	unsigned int flags = CMS_BINARY | CMS_PARTIAL | CMS_NOSMIMECAP;
	BIO *sealed = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
	CMS_ContentInfo *cms;

	if (content && ca->attack != ATTACK_EMPTY && ca->attack != ATTACK_DETACHED) {
		BIO_free(sealed);
		sealed = envelope(ca, exchange->to, content);
	} else if (!content || ca->attack == ATTACK_DETACHED) {
		flags |= CMS_DETACHED;
	}
	cms = CMS_sign(NULL, NULL, NULL, NULL, flags);
	add_signer(ca, cms, exchange, status, fail, flags);
	if (ca->attack == ATTACK_TWO_SIGNERS) /* its certificate is in it already */
		add_signer(ca, cms, exchange, status, fail, flags | CMS_NOCERTS);
	if (!CMS_final(cms, sealed, NULL, flags) || !i2d_CMS_bio(out, cms))
		ERR_print_errors_fp(stderr);
	if (ca->attack == ATTACK_TRAILING)
		BIO_write(out, "", 1);
	if (ca->attack == ATTACK_UNSIGNED) {
		BIO_free(out);
		out = unsigned_answer(sealed);
	}
	if (ca->attack == ATTACK_UNKNOWN_DIGEST)
		unknown_digest(out);
	CMS_ContentInfo_free(cms);
	BIO_free(sealed);
	BIO_free(content);
	return out;
}

static BIO *refuse(const struct lab_ca *ca, const struct exchange *exchange, int fail)
{
	printf("sent FAILURE %d %s\n", fail, exchange->id);
	return reply(ca, exchange, "2", fail, NULL);
}

static BIO *success(struct lab_ca *ca, const struct exchange *exchange, BIO *content)
{
	BIO *answer;

	printf("sent SUCCESS %s\n", exchange->id);
	if (ca->attack == ATTACK_REPLAY && ca->kept) {
		char *bytes;
		long length = BIO_get_mem_data(ca->kept, &bytes);

		BIO_free(content);
		answer = BIO_new(BIO_s_mem());
		BIO_write(answer, bytes, (int)length);
		return answer;
	}
	answer = reply(ca, exchange, "0", 0, content);
	if (ca->attack == ATTACK_REPLAY) {
		char *bytes;
		long length = BIO_get_mem_data(answer, &bytes);

		ca->kept = BIO_new(BIO_s_mem());
		BIO_write(ca->kept, bytes, (int)length);
	}
	return answer;
}

/* --- requests --- */

static struct transaction *transaction_find(const char *id)
{
	struct transaction *t = transactions;

	while (t && strcmp(t->id, id) != 0)
		t = t->next;
	return t;
}

static struct transaction *transaction_new(const struct lab_ca *ca, const char *id)
{
	struct transaction *t = calloc(1, sizeof *t);

	snprintf(t->id, sizeof t->id, "%s", id);
	t->polls = ca->polls;
	t->next = transactions;
	transactions = t;
	return t;
}

/* Takes CHALLENGE out of the file of those that serve once; false if it is not in it. */
static bool use_up(const struct lab_ca *ca, const char *challenge)
{
	BIO *file = BIO_new_file(ca->once, "r"), *rest = BIO_new(BIO_s_mem()), *out;
	bool found = false;
	char line[300], *bytes;

	while (file && BIO_gets(file, line, sizeof line) > 0) {
		line[strcspn(line, "\r\n")] = '\0';
		if (!found && strcmp(line, challenge) == 0)
			found = true;
		else
			BIO_printf(rest, "%s\n", line);
	}
	BIO_free(file);
	out = found ? BIO_new_file(ca->once, "w") : NULL;
	if (out) {
		int length = (int)BIO_get_mem_data(rest, &bytes);

		BIO_write(out, bytes, length);
	}
	BIO_free(out);
	BIO_free(rest);
	return found;
}

static bool challenge_right(const struct lab_ca *ca, X509_REQ *request)
{
	int at = X509_REQ_get_attr_by_NID(request, NID_pkcs9_challengePassword, -1);
	ASN1_TYPE *value;
	char given[256];

	if (!*ca->challenge && !ca->once)
		return true;
	value = at < 0 ? NULL : X509_ATTRIBUTE_get0_type(X509_REQ_get_attr(request, at), 0);
	if (!value)
		return false;
	snprintf(given, sizeof given, "%.*s", ASN1_STRING_length(value->value.asn1_string),
	         (const char *)ASN1_STRING_get0_data(value->value.asn1_string));
	return ca->once ? use_up(ca, given) : strcmp(given, ca->challenge) == 0;
}

/* failInfo of what is wrong with REQUEST, or -1. */
static int judge(const struct lab_ca *ca, const struct exchange *exchange, X509_REQ *request)
{
	if (!request || X509_REQ_verify(request, X509_REQ_get0_pubkey(request)) != 1)
		return 2;
	if (exchange->type == RENEWAL)
		return X509_verify(exchange->to, X509_get0_pubkey(ca->ca)) == 1 ||
		                       (ca->former &&
		                        X509_verify(exchange->to, X509_get0_pubkey(ca->former)) ==
		                                1)
		               ? -1
		               : 1;
	return challenge_right(ca, request) ? -1 : 2;
}

static BIO *give(struct lab_ca *ca, const struct exchange *exchange, struct transaction *t)
{
	if (t->polls-- > 0) {
		printf("sent PENDING %s\n", exchange->id);
		return reply(ca, exchange, "3", 0, NULL);
	}
	if (!t->certificate)
		t->certificate = issue(ca, t->request);
	if (ca->attack == ATTACK_CRL_ONLY)
		return success(ca, exchange, certs_only(ca, NULL, make_crl(ca)));
	return success(ca, exchange, certs_only(ca, t->certificate, NULL));
}

static BIO *request_received(struct lab_ca *ca, const struct exchange *exchange)
{
	struct transaction *t = ca->forget ? NULL : transaction_find(exchange->id);
	X509_REQ *request = NULL;
	int fail;

	if (ca->refuse >= 0)
		return refuse(ca, exchange, ca->refuse);
	if (t)
		return give(ca, exchange, t);
	request = d2i_X509_REQ_bio(exchange->content, NULL);
	fail = judge(ca, exchange, request);
	if (fail >= 0) {
		X509_REQ_free(request);
		return refuse(ca, exchange, fail);
	}
	t = transaction_new(ca, exchange->id);
	t->request = request;
	return give(ca, exchange, t);
}

static BIO *message_received(struct lab_ca *ca, const struct exchange *exchange)
{
	struct transaction *t;
	X509_CRL *crl;
	BIO *content;

	switch (exchange->type) {
	case REQUEST:
	case RENEWAL:
		printf("received %s %s\n", exchange->type == REQUEST ? "PKCSReq" : "RenewalReq",
		       exchange->id);
		printf("message %s %s\n", exchange->digest, exchange->id);
		return request_received(ca, exchange);
	case POLL:
		printf("received CertPoll %s\n", exchange->id);
		t = ca->forget ? NULL : transaction_find(exchange->id);
		return t ? give(ca, exchange, t) : refuse(ca, exchange, 4);
	case GET_CRL:
		printf("received GetCRL %s\n", exchange->id);
		crl = make_crl(ca);
		content = certs_only(ca, NULL, crl);
		X509_CRL_free(crl);
		return success(ca, exchange, content);
	default:
		return refuse(ca, exchange, 2);
	}
}

static void set_digest(struct exchange *exchange, BIO *message)
{
	unsigned char digest[32];
	char *bytes;
	long length = BIO_get_mem_data(message, &bytes);

	EVP_Digest(bytes, (size_t)length, digest, NULL, EVP_sha256(), NULL);
	for (size_t i = 0; i < sizeof digest; i++)
		snprintf(exchange->digest + 2 * i, 3, "%02x", digest[i]);
}

/* What the message came in, for tests that no worse algorithm left a client. */
static void print_algorithms(CMS_SignerInfo *asker, const CMS_ContentInfo *sealed)
{
	X509_ALGOR *digest, *signature;
	const ASN1_OBJECT *name;
	BIO *text = BIO_new(BIO_s_mem());
	char line[512], *cipher = NULL;

	CMS_SignerInfo_get0_algs(asker, NULL, NULL, &digest, &signature);
	X509_ALGOR_get0(&name, NULL, NULL, digest);
	OBJ_obj2txt(line, sizeof line, name, 0);
	printf("algorithms: signed with %s, ", line);
	if (sealed)
		CMS_ContentInfo_print_ctx(text, sealed, 0, NULL);
	while (!cipher && BIO_gets(text, line, sizeof line) > 0)
		if (strstr(line, "contentEncryptionAlgorithm") &&
		    BIO_gets(text, line, sizeof line) > 0)
			cipher = strstr(line, "algorithm: ");
	printf("sealed with %s", cipher ? cipher + strlen("algorithm: ") : "nothing\n");
	BIO_free(text);
}

/* The answer to one pkiMessage; NULL for what is none. */
static BIO *operation(struct lab_ca *ca, BIO *in)
{
	BIO *sealed = BIO_new(BIO_s_mem()), *answer = NULL;
	struct exchange exchange = { .content = BIO_new(BIO_s_mem()) };
	CMS_ContentInfo *message, *inner = NULL;
	STACK_OF(X509) *signers = NULL;
	ASN1_STRING *type, *id;

	set_digest(&exchange, in);
	message = d2i_CMS_bio(in, NULL);
	if (!message ||
	    !CMS_verify(message, NULL, NULL, NULL, sealed, CMS_BINARY | CMS_NO_SIGNER_CERT_VERIFY))
		goto out;
	signers = CMS_get0_signers(message);
	exchange.to = sk_X509_value(signers, 0);
	exchange.asker = sk_CMS_SignerInfo_value(CMS_get0_SignerInfos(message), 0);
	type = get(exchange.asker, TYPE, V_ASN1_PRINTABLESTRING);
	id = get(exchange.asker, TRANSACTION, V_ASN1_PRINTABLESTRING);
	if (!type || !id)
		goto out;
	exchange.type = (int)strtol((const char *)ASN1_STRING_get0_data(type), NULL, 10);
	exchange.id = (const char *)ASN1_STRING_get0_data(id);
	inner = d2i_CMS_bio(sealed, NULL);
	print_algorithms(exchange.asker, inner);
	if (inner &&
	    CMS_decrypt(inner, ca->encrypt_key, ca->encrypt, NULL, exchange.content, CMS_BINARY))
		answer = message_received(ca, &exchange);
	else
		answer = refuse(ca, &exchange, 1);
out:
	if (!answer)
		ERR_print_errors_fp(stderr);
	sk_X509_free(signers);
	CMS_ContentInfo_free(message);
	CMS_ContentInfo_free(inner);
	BIO_free(sealed);
	BIO_free(exchange.content);
	return answer;
}

/* --- HTTP --- */

static BIO *base64_decode(const char *text)
{
	BIO *in = BIO_push(BIO_new(BIO_f_base64()), BIO_new_mem_buf(text, -1));
	BIO *out = BIO_new(BIO_s_mem());
	char piece[1024];
	int got;

	BIO_set_flags(in, BIO_FLAGS_BASE64_NO_NL);
	while ((got = BIO_read(in, piece, sizeof piece)) > 0)
		BIO_write(out, piece, got);
	BIO_free_all(in);
	return out;
}

static BIO *text(const char *words)
{
	BIO *out = BIO_new(BIO_s_mem());

	BIO_puts(out, words);
	return out;
}

static BIO *ca_certificates(const struct lab_ca *ca, struct lab_answer *answer)
{
	BIO *out = BIO_new(BIO_s_mem());
	PKCS7 *bundle;

	if (ca->sign == ca->ca || ca->attack == ATTACK_NEXT_CA) {
		answer->type = "application/x-x509-ca-cert";
		i2d_X509_bio(out, ca->attack == ATTACK_NEXT_CA ? ca->next : ca->ca);
		return out;
	}
	answer->type = "application/x-x509-ca-ra-cert";
	bundle = PKCS7_new();
	PKCS7_set_type(bundle, NID_pkcs7_signed);
	PKCS7_content_new(bundle, NID_pkcs7_data);
	PKCS7_set_detached(bundle, 1);
	PKCS7_add_certificate(bundle, ca->sign);
	if (ca->encrypt != ca->sign)
		PKCS7_add_certificate(bundle, ca->encrypt);
	PKCS7_add_certificate(bundle, ca->ca);
	i2d_PKCS7_bio(out, bundle);
	PKCS7_free(bundle);
	return out;
}

/* §4.7.1: signed by the CA, also where an RA signs all else. */
static BIO *next_certificate(const struct lab_ca *ca)
{
	BIO *content = certs_only(ca, ca->next, NULL), *out = BIO_new(BIO_s_mem());
	X509 *signer = ca->ca, *rogue = NULL;
	EVP_PKEY *key = ca->ca_key, *rogue_key = NULL;
	CMS_ContentInfo *cms;

	if (ca->attack == ATTACK_UNSIGNED || ca->attack == ATTACK_NEXT_GARBAGE) {
		BIO_free(out);
		out = ca->attack == ATTACK_UNSIGNED ? unsigned_answer(content)
		                                    : text("no certificate at all");
		BIO_free(content);
		return out;
	}
	if (ca->attack == ATTACK_ROGUE_SIGNER)
		signer = rogue = make_certificate(ca, "end.entity.example", "RSA", &rogue_key);
	if (ca->attack == ATTACK_IMPOSTOR)
		signer = rogue = impostor(ca->ca, &rogue_key);
	if (rogue)
		key = rogue_key;
	cms = CMS_sign(signer, key, NULL, content, CMS_BINARY);
	i2d_CMS_bio(out, cms);
	if (ca->attack == ATTACK_TRAILING)
		BIO_write(out, "", 1);
	CMS_ContentInfo_free(cms);
	BIO_free(content);
	X509_free(rogue);
	EVP_PKEY_free(rogue_key);
	return out;
}

static BIO *pki_operation(struct lab_ca *ca, const struct lab_request *request,
                          struct lab_answer *answer)
{
	char *message = request->post ? NULL : lab_query(request->target, "message");
	BIO *in = message ? base64_decode(message)
	                  : BIO_new_mem_buf(request->body, (int)request->length);
	bool unasked = request->post && !strstr(ca->caps, "POSTPKIOperation") &&
	               !strstr(ca->caps, "SCEPStandard");
	BIO *out = unasked ? NULL : operation(ca, in);

	if (out && ca->drop > 0) {
		ca->drop--;
		answer->drop = true;
	}
	answer->type = "application/x-pki-message";
	answer->retry_after = ca->retry_after;
	BIO_free(in);
	free(message);
	return out;
}

static BIO *crl_file(const struct lab_ca *ca)
{
	BIO *out = BIO_new(BIO_s_mem());
	X509_CRL *crl = make_crl(ca);

	i2d_X509_CRL_bio(out, crl);
	X509_CRL_free(crl);
	return out;
}

static void handle(const struct lab_request *request, struct lab_answer *answer, void *user)
{
	struct lab_ca *ca = user;
	char *name = lab_query(request->target, "operation");

	if (ca->attack == ATTACK_HTML) {
		answer->body = text("<html><body>Please log in</body></html>");
		answer->type = "text/html";
	} else if (strncmp(request->target, "/crl", 4) == 0) {
		answer->body = crl_file(ca);
		answer->type = "application/pkix-crl";
	} else if (name && strcmp(name, "GetCACaps") == 0) {
		answer->body = text(ca->caps);
	} else if (name && strcmp(name, "GetCACert") == 0) {
		answer->body = ca_certificates(ca, answer);
	} else if (name && strcmp(name, "GetNextCACert") == 0 && ca->next) {
		answer->body = next_certificate(ca);
		answer->type = "application/x-x509-next-ca-cert";
		puts("sent the next CA certificate");
	} else if (name && strcmp(name, "PKIOperation") == 0) {
		answer->body = pki_operation(ca, request, answer);
	}
	answer->status = answer->body                                 ? 200
	                 : name && strcmp(name, "GetNextCACert") != 0 ? 500
	                                                              : 404;
	free(name);
}

/* --- start --- */

static int load(struct lab_ca *ca)
{
	ca->ca = load_certificate(ca->folder, "ca.pem");
	ca->ca_key = load_key(ca->folder, "ca.key");
	ca->next = load_certificate(ca->folder, "next.pem");
	ca->former = load_certificate(ca->folder, "former.pem");
	ca->sign = load_certificate(ca->folder, "ra-sign.pem");
	if (ca->sign) {
		ca->sign_key = load_key(ca->folder, "ra-sign.key");
		ca->encrypt = load_certificate(ca->folder, "ra-encrypt.pem");
		ca->encrypt_key = load_key(ca->folder, "ra-encrypt.key");
	} else {
		ca->sign = ca->encrypt = load_certificate(ca->folder, "ra.pem");
		ca->sign_key = ca->encrypt_key = load_key(ca->folder, "ra.key");
	}
	if (!ca->sign) {
		ca->sign = ca->encrypt = ca->ca;
		ca->sign_key = ca->encrypt_key = ca->ca_key;
	}
	ERR_clear_error();
	if (ca->ca && ca->ca_key && ca->sign && ca->sign_key && ca->encrypt && ca->encrypt_key)
		return 0;
	fprintf(stderr, "scep-ca: a certificate or a key is missing in %s\n", ca->folder);
	return -1;
}

static enum attack attack_named(const char *name)
{
	for (size_t i = 0; i < sizeof attack_names / sizeof attack_names[0]; i++)
		if (strcmp(attack_names[i], name) == 0)
			return (enum attack)i;
	fprintf(stderr, "scep-ca: no attack is called %s\n", name);
	exit(2);
}

static _Noreturn void usage(void)
{
	fputs("usage: scep-ca -p PORT -d DIR [-1 FILE] [-C CAPS] [-R FAILINFO] [-T TEXT]\n"
	      "               [-a ATTACK] [-c CHALLENGE] [-e CIPHER] [-f] [-g DIGEST] [-k COUNT]\n"
	      "               [-n DAYS|SECONDSs] [-t SECONDS] [-w POLLS]\n"
	      "-1 FILE      challenges, one a line, each good for one transaction\n"
	      "-f           forget transactions: CertPoll is refused\n"
	      "-k COUNT     lose the first COUNT answers\n"
	      "-t SECONDS   Retry-After\n"
	      "-w POLLS     PENDING so often before the certificate\n"
	      "attacks:",
	      stderr);
	for (size_t i = 0; i < sizeof attack_names / sizeof attack_names[0]; i++)
		fprintf(stderr, " %s", attack_names[i]);
	fputc('\n', stderr);
	exit(2);
}

/* CAPS may be given with \n between its words. */
static const char *unescape(const char *caps)
{
	char *copy = strdup(caps), *at = copy;

	while (at && (at = strstr(at, "\\n"))) {
		*at = '\n';
		memmove(at + 1, at + 2, strlen(at + 2) + 1);
	}
	return copy;
}

static int number(const char *text)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (end == text || *end || n < 0 || n > 65535)
		usage();
	return (int)n;
}

/* "30": days, "90s": seconds */
static long seconds(const char *text)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (end == text || n <= 0 || (*end && strcmp(end, "s") != 0))
		usage();
	return *end ? n : n * 86400;
}

/* clang-format off */
static void option(struct lab_ca *ca, int c, int *port)
{
	switch (c) {
	case 'p': *port = number(optarg); break;
	case 'd': ca->folder = optarg; break;
	case '1': ca->once = optarg; break;
	case 'C': ca->caps = unescape(optarg); break;
	case 'R': ca->refuse = number(optarg); break;
	case 'T': ca->refuse_text = optarg; break;
	case 'a': ca->attack = attack_named(optarg); break;
	case 'c': ca->challenge = optarg; break;
	case 'e': ca->cipher = EVP_get_cipherbyname(optarg); break;
	case 'f': ca->forget = true; break;
	case 'g': ca->digest = EVP_get_digestbyname(optarg); break;
	case 'k': ca->drop = number(optarg); break;
	case 'n': ca->lifetime = seconds(optarg); break;
	case 't': ca->retry_after = number(optarg); break;
	case 'w': ca->polls = number(optarg); break;
	default: usage();
	}
}
/* clang-format on */

int main(int argc, char **argv)
{
	struct lab_ca ca = {
		.caps = "AES\nDES3\nPOSTPKIOperation\nRenewal\nSCEPStandard\nSHA-256\nSHA-384\n"
			"SHA-512\n",
		.challenge = "",
		.cipher = EVP_aes_128_cbc(),
		.digest = EVP_sha256(),
		.lifetime = 30 * 86400L,
		.refuse = -1,
	};
	int port = -1, c;

	OSSL_PROVIDER_load(NULL, "default");
	OSSL_PROVIDER_load(NULL, "legacy"); /* DES answers */
	while ((c = getopt(argc, argv, "p:d:1:C:R:T:a:c:e:fg:k:n:t:w:")) != -1)
		option(&ca, c, &port);
	if (port < 0 || !ca.folder || !ca.cipher || !ca.digest)
		usage();
	if (load(&ca) < 0)
		return 1;
	return lab_http_serve(port, handle, &ca) < 0;
}
