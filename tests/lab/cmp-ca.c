/*
 * cmp-ca: a CMP CA (RFC 4210) for tests: OpenSSL's server side, which really issues for the key
 * and names asked for. It polls, refuses, sends chains, loses and holds answers, revokes, and
 * has bad manners; cmp-ca-tell.c answers general messages. Each message is a line on stdout, so
 * that tests can count them.
 *
 * DIR holds ca.pem and ca.key, which issue; root.pem (else ca.pem), the only one that is trusted of
 * those above who signs; server.pem and server.key, which sign messages where those asked for them
 * are signed, or with -S always. GET of anything gives the CRL.
 */
#include "tests/lab/cmp-ca.h"
#include "tests/lab/cmp-ca-der.h"

#include "tests/lab/lab-http.h"
#include "tests/lab/lab-x509.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const attack_names[] = {
#define X(name, text) [ATTACK_##name] = (text),
	ATTACKS(X)
#undef X
};

/* A transaction lasts as long as the CA: polls and certConf find it by its id. */
struct transaction {
	struct transaction *next;
	struct lab_ca *ca;
	OSSL_CMP_SRV_CTX *server;
	ASN1_OCTET_STRING *id;
	BIO *waiting; /* the request that is to be decided */
	int polls;    /* "waiting" answers still to come */
	int requests; /* for a certificate */
};

static struct transaction *transactions;

/* --- what the CA issues --- */

static X509 *issue(const struct lab_ca *ca, EVP_PKEY *key, const X509_NAME *subject,
                   const X509_EXTENSIONS *wanted)
{
	int names = X509v3_get_ext_by_NID(wanted, NID_subject_alt_name, -1);
	X509 *certificate = X509_new();

	set_serial(certificate);
	X509_set_version(certificate, X509_VERSION_3);
	X509_set_subject_name(certificate, subject);
	X509_set_issuer_name(certificate, X509_get_subject_name(ca->ca));
	X509_set_pubkey(certificate, key);
	attack_certificate(ca, certificate);
	X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
	X509_gmtime_adj(X509_getm_notAfter(certificate), ca->days * 86400L);
	add_extension(ca->ca, certificate, NID_basic_constraints,
	              ca->attack == ATTACK_CA_TRUE ? "critical,CA:TRUE" : "CA:FALSE");
	add_extension(ca->ca, certificate, NID_key_usage, "critical,digitalSignature");
	add_extension(ca->ca, certificate, NID_ext_key_usage, "serverAuth,clientAuth");
	add_extension(ca->ca, certificate, NID_subject_key_identifier, "hash");
	add_extension(ca->ca, certificate, NID_authority_key_identifier, "keyid");
	if (ca->attack == ATTACK_OTHER_NAME)
		add_extension(ca->ca, certificate, NID_subject_alt_name,
		              "DNS:somebody.else.example");
	else if (names >= 0)
		X509_add_ext(certificate, X509v3_get_ext(wanted, names), -1);
	X509_sign(certificate, ca->ca_key, signing_digest(ca->ca_key));
	return certificate;
}

/* The template's key is its field [6], for which OpenSSL 3.0 has no getter. */
EVP_PKEY *template_key(const OSSL_CRMF_CERTTEMPLATE *template)
{
	unsigned char *der = NULL, *spki;
	const unsigned char *at, *end, *read;
	EVP_PKEY *key = NULL;
	int length, tag, class;
	long size;

	length = ASN1_item_i2d((const ASN1_VALUE *)template, &der,
	                       ASN1_ITEM_rptr(OSSL_CRMF_CERTTEMPLATE));
	at = der;
	end = der + length;
	ASN1_get_object(&at, &size, &tag, &class, length);
	while (!key && at < end && !(ASN1_get_object(&at, &size, &tag, &class, end - at) & 0x80)) {
		if (tag == 6 && class == V_ASN1_CONTEXT_SPECIFIC) {
			unsigned char *to = spki = malloc((size_t)size + 8);

			ASN1_put_object(&to, 1, (int)size, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL);
			memcpy(to, at, (size_t)size);
			read = spki;
			key = d2i_PUBKEY(NULL, &read, to + size - spki);
			free(spki);
		}
		at += size;
	}
	OPENSSL_free(der);
	return key;
}

static STACK_OF(X509) * copies(STACK_OF(X509) * certificates)
{
	return certificates ? X509_chain_up_ref(certificates) : NULL;
}

static OSSL_CMP_PKISI *certify(OSSL_CMP_SRV_CTX *server, const OSSL_CMP_MSG *message, int id,
                               const OSSL_CRMF_MSG *crmf, const X509_REQ *p10, X509 **certificate,
                               STACK_OF(X509) * *chain, STACK_OF(X509) * *publish)
{
	struct transaction *t = OSSL_CMP_SRV_CTX_get0_custom_ctx(server);
	struct lab_ca *ca = t->ca;
	const OSSL_CRMF_CERTTEMPLATE *template = crmf ? OSSL_CRMF_MSG_get0_tmpl(crmf) : NULL;
	X509_EXTENSIONS *asked = NULL;
	EVP_PKEY *key;

	(void)id;
	if (ca->refuse < 0 && template && !is_like_template(ca, template))
		return OSSL_CMP_STATUSINFO_new(OSSL_CMP_PKISTATUS_rejection,
		                               1 << OSSL_CMP_PKIFAILUREINFO_badCertTemplate,
		                               "not as my template has it");
	if (ca->refuse >= 0)
		return OSSL_CMP_STATUSINFO_new(OSSL_CMP_PKISTATUS_rejection, 1 << ca->refuse,
		                               ca->refuse_text);
	if (t->polls > 0 && !t->waiting) {
		t->waiting = BIO_new(BIO_s_mem());
		i2d_OSSL_CMP_MSG_bio(t->waiting, message);
		return OSSL_CMP_STATUSINFO_new(OSSL_CMP_PKISTATUS_waiting, 0, "somebody decides");
	}
	if (template) {
		key = template_key(template);
		*certificate = issue(ca, key, OSSL_CRMF_CERTTEMPLATE_get0_subject(template),
		                     OSSL_CRMF_CERTTEMPLATE_get0_extensions(template));
	} else {
		key = X509_REQ_get_pubkey((X509_REQ *)(uintptr_t)p10);
		asked = X509_REQ_get_extensions((X509_REQ *)(uintptr_t)p10);
		*certificate = issue(ca, key, X509_REQ_get_subject_name(p10), asked);
	}
	EVP_PKEY_free(key);
	sk_X509_EXTENSION_pop_free(asked, X509_EXTENSION_free);
	*chain = copies(ca->extra);
	*publish = copies(ca->publish);
	printf("issued certificate\n");
	return OSSL_CMP_STATUSINFO_new(OSSL_CMP_PKISTATUS_accepted, 0, NULL);
}

/* --- other questions --- */

void sign_crl(struct lab_ca *ca)
{
	ASN1_TIME *now = X509_gmtime_adj(NULL, -1), *later = X509_gmtime_adj(NULL, 86400);
	ASN1_INTEGER *number = ASN1_INTEGER_new();

	X509_CRL_set1_lastUpdate(ca->crl, now);
	X509_CRL_set1_nextUpdate(ca->crl, later);
	ASN1_INTEGER_set(number, (long)time(NULL));
	X509_CRL_add1_ext_i2d(ca->crl, NID_crl_number, number, 0, X509V3_ADD_REPLACE);
	X509_CRL_sort(ca->crl);
	X509_CRL_sign(ca->crl, ca->ca_key, signing_digest(ca->ca_key));
	ASN1_INTEGER_free(number);
	ASN1_TIME_free(now);
	ASN1_TIME_free(later);
}

static OSSL_CMP_PKISI *take_back(OSSL_CMP_SRV_CTX *server, const OSSL_CMP_MSG *message,
                                 const X509_NAME *issuer, const ASN1_INTEGER *serial)
{
	struct transaction *t = OSSL_CMP_SRV_CTX_get0_custom_ctx(server);
	X509_CRL *crl = t->ca->crl;
	X509_REVOKED *entry, *before;
	ASN1_TIME *now;

	(void)message;
	if (X509_NAME_cmp(issuer, X509_get_subject_name(t->ca->ca)) != 0)
		return OSSL_CMP_STATUSINFO_new(OSSL_CMP_PKISTATUS_rejection,
		                               1 << OSSL_CMP_PKIFAILUREINFO_badCertId,
		                               "not my certificate");
	if (X509_CRL_get0_by_serial(crl, &before, (ASN1_INTEGER *)(uintptr_t)serial) == 1)
		return OSSL_CMP_STATUSINFO_new(OSSL_CMP_PKISTATUS_rejection,
		                               1 << OSSL_CMP_PKIFAILUREINFO_certRevoked,
		                               "revoked before");
	entry = X509_REVOKED_new();
	now = X509_gmtime_adj(NULL, -1);
	X509_REVOKED_set_serialNumber(entry, (ASN1_INTEGER *)(uintptr_t)serial);
	X509_REVOKED_set_revocationDate(entry, now);
	X509_CRL_add0_revoked(crl, entry);
	ASN1_TIME_free(now);
	printf("revoked certificate\n");
	return OSSL_CMP_STATUSINFO_new(OSSL_CMP_PKISTATUS_accepted, 0, NULL);
}

static int inform(OSSL_CMP_SRV_CTX *server, const OSSL_CMP_MSG *message,
                  const STACK_OF(OSSL_CMP_ITAV) * in, STACK_OF(OSSL_CMP_ITAV) * *out)
{
	struct transaction *t = OSSL_CMP_SRV_CTX_get0_custom_ctx(server);

	(void)message;
	return tell(t->ca, sk_OSSL_CMP_ITAV_value(in, 0), out);
}

static void told_error(OSSL_CMP_SRV_CTX *server, const OSSL_CMP_MSG *message,
                       const OSSL_CMP_PKISI *status, const ASN1_INTEGER *code,
                       const OSSL_CMP_PKIFREETEXT *details)
{
	char text[OSSL_CMP_PKISI_BUFLEN];

	(void)server;
	(void)message;
	(void)code;
	(void)details;
	printf("told error %s\n",
	       status ? OSSL_CMP_snprint_PKIStatusInfo(status, text, sizeof text) : "");
}

static int confirmed(OSSL_CMP_SRV_CTX *server, const OSSL_CMP_MSG *message, int id,
                     const ASN1_OCTET_STRING *hash, const OSSL_CMP_PKISI *status)
{
	struct transaction *t = OSSL_CMP_SRV_CTX_get0_custom_ctx(server);
	char text[OSSL_CMP_PKISI_BUFLEN];

	(void)message;
	(void)id;
	(void)hash;
	printf("certConf %s\n",
	       status ? OSSL_CMP_snprint_PKIStatusInfo(status, text, sizeof text) : "accepted");
	return t->ca->attack != ATTACK_CONFIRM_ERROR;
}

static int poll(OSSL_CMP_SRV_CTX *server, const OSSL_CMP_MSG *message, int id,
                OSSL_CMP_MSG **request, int64_t *after)
{
	struct transaction *t = OSSL_CMP_SRV_CTX_get0_custom_ctx(server);

	(void)message;
	(void)id;
	if (!t->waiting)
		return 0;
	*request = NULL;
	*after = t->ca->after;
	if (--t->polls > 0)
		return 1;
	*request = d2i_OSSL_CMP_MSG_bio(t->waiting, NULL);
	return *request != NULL;
}

/* --- messages --- */

static void transaction_protect(const struct lab_ca *ca, OSSL_CMP_CTX *context)
{
	X509_STORE *trusted = X509_STORE_new();

	X509_STORE_add_cert(trusted, ca->root);
	OSSL_CMP_CTX_set0_trustedStore(context, trusted);
	if (ca->server) {
		OSSL_CMP_CTX_set1_cert(context, ca->server);
		OSSL_CMP_CTX_set1_pkey(context, ca->server_key);
	}
	OSSL_CMP_CTX_set_option(context, OSSL_CMP_OPT_UNPROTECTED_SEND,
	                        ca->attack == ATTACK_UNPROTECTED);
	if (ca->sign_only)
		return;
	if (ca->odd && strcmp(ca->odd, "sha1") == 0)
		OSSL_CMP_CTX_set_option(context, OSSL_CMP_OPT_OWF_ALGNID, NID_sha1);
	else
		OSSL_CMP_CTX_set_option(context, OSSL_CMP_OPT_MAC_ALGNID, NID_hmacWithSHA256);
	OSSL_CMP_CTX_set1_secretValue(context, (const unsigned char *)ca->secret,
	                              (int)strlen(ca->secret));
}

static struct transaction *transaction_of(struct lab_ca *ca, const OSSL_CMP_MSG *message)
{
	const ASN1_OCTET_STRING *id =
		OSSL_CMP_HDR_get0_transactionID(OSSL_CMP_MSG_get0_header(message));
	struct transaction *t = transactions;

	while (t && id && ASN1_OCTET_STRING_cmp(t->id, id) != 0)
		t = t->next;
	if (t || !id)
		return t;
	t = calloc(1, sizeof *t);
	t->ca = ca;
	t->id = ASN1_OCTET_STRING_dup(id);
	t->polls = ca->polls;
	t->server = OSSL_CMP_SRV_CTX_new(NULL, NULL);
	transaction_protect(ca, OSSL_CMP_SRV_CTX_get0_cmp_ctx(t->server));
	OSSL_CMP_SRV_CTX_init(t->server, t, certify, take_back, inform, told_error, confirmed,
	                      poll);
	OSSL_CMP_SRV_CTX_set_grant_implicit_confirm(t->server, ca->implicit);
	t->next = transactions;
	transactions = t;
	return t;
}

static bool asks_for_certificate(int body)
{
	return body == OSSL_CMP_IR || body == OSSL_CMP_CR || body == OSSL_CMP_P10CR ||
	       body == OSSL_CMP_KUR;
}

/* Whether the answer to a message of type BODY is to be lost; it waits where it is to be held. */
static bool interfere(struct lab_ca *ca, int body)
{
	bool lost = body == ca->lose;

	if (lost) {
		printf("lost %d\n", body);
		ca->lose = -1;
	}
	if (body == ca->hold) {
		printf("held %d\n", body);
		ca->hold = -1;
		while (access("release", F_OK) != 0)
			usleep(10000);
	}
	return lost;
}

static BIO *text(const char *words)
{
	BIO *out = BIO_new(BIO_s_mem());

	BIO_puts(out, words);
	return out;
}

static void print_line(const char *what, int body, const struct transaction *t)
{
	char *hex = OPENSSL_buf2hexstr(ASN1_STRING_get0_data(t->id), 4);

	printf("%s %d %s\n", what, body, hex);
	OPENSSL_free(hex);
}

static BIO *answer_message(struct lab_ca *ca, BIO *in, struct lab_answer *answer)
{
	OSSL_CMP_MSG *message = d2i_OSSL_CMP_MSG_bio(in, NULL), *reply = NULL;
	struct transaction *t = message ? transaction_of(ca, message) : NULL;
	int body = message ? OSSL_CMP_MSG_get_bodytype(message) : -1;
	BIO *out = NULL;

	if (t) {
		print_line("got", body, t);
		t->requests += asks_for_certificate(body);
		if (ca->once && t->requests > 1 && asks_for_certificate(body))
			ca->refuse = OSSL_CMP_PKIFAILUREINFO_transactionIdInUse;
		reply = OSSL_CMP_SRV_process_request(t->server, message);
		if (ca->once && ca->refuse == OSSL_CMP_PKIFAILUREINFO_transactionIdInUse)
			ca->refuse = -1;
	}
	if (reply) {
		print_line("sent", OSSL_CMP_MSG_get_bodytype(reply), t);
		out = BIO_new(BIO_s_mem());
		i2d_OSSL_CMP_MSG_bio(out, reply);
		out = attack_answer(ca, reply, odd_answer(ca, reply, out));
	}
	answer->drop = interfere(ca, body) || ca->attack == ATTACK_CUT;
	ERR_print_errors_fp(stdout);
	OSSL_CMP_MSG_free(message);
	OSSL_CMP_MSG_free(reply);
	return out;
}

static void print_recipient(const struct lab_request *request)
{
	X509_NAME *name = recipient_of(request->body, request->length);
	BIO *out = BIO_new_fp(stdout, BIO_NOCLOSE);

	BIO_puts(out, "addressed to ");
	if (name && X509_NAME_entry_count(name))
		X509_NAME_print_ex(out, name, 0, XN_FLAG_ONELINE);
	else
		BIO_puts(out, "nobody");
	BIO_puts(out, "\n");
	BIO_free(out);
	X509_NAME_free(name);
}

/* What HTTP allows. */
static void odd_transport(const struct lab_ca *ca, struct lab_answer *answer)
{
	const char *odd = ca->odd ? ca->odd : "";

	answer->chunked = strcmp(odd, "chunked") == 0;
	if (strcmp(odd, "untyped") == 0)
		answer->type = NULL;
	else if (strcmp(odd, "charset") == 0)
		answer->type = "application/PKIXCMP; charset=binary";
}

static void handle(const struct lab_request *request, struct lab_answer *answer, void *user)
{
	struct lab_ca *ca = user;
	BIO *in;

	if (ca->attack == ATTACK_HTML) {
		answer->body = text("<html><body>Please log in</body></html>");
		answer->type = "text/html";
	} else if (request->post) {
		in = BIO_new_mem_buf(request->body, (int)request->length);
		print_recipient(request);
		answer->body = answer_message(ca, in, answer);
		answer->type = "application/pkixcmp";
		odd_transport(ca, answer);
		BIO_free(in);
	} else {
		sign_crl(ca);
		answer->body = BIO_new(BIO_s_mem());
		i2d_X509_CRL_bio(answer->body, ca->crl);
		answer->type = "application/pkix-crl";
	}
	answer->status = answer->body ? 200 : 400;
	if (request->post && answer->body && ca->status)
		answer->status = ca->status;
}

/* --- start --- */

static STACK_OF(X509) * load_all(const char *name)
{
	STACK_OF(X509) *found = sk_X509_new_null();
	BIO *file = BIO_new_file(name, "r");
	X509 *certificate;

	while (file && (certificate = PEM_read_bio_X509(file, NULL, NULL, NULL)))
		sk_X509_push(found, certificate);
	BIO_free(file);
	if (!sk_X509_num(found)) {
		fprintf(stderr, "cmp-ca: there is no certificate in %s\n", name);
		exit(1);
	}
	ERR_clear_error();
	return found;
}

/* The key in NAME, without which there is nothing to do. */
static EVP_PKEY *need_key(const char *name)
{
	EVP_PKEY *key = load_key(".", name);

	if (!key) {
		fprintf(stderr, "cmp-ca: there is no key in %s\n", name);
		exit(1);
	}
	return key;
}

static void load(struct lab_ca *ca)
{
	ca->ca = sk_X509_value(load_all("ca.pem"), 0);
	ca->ca_key = need_key("ca.key");
	ca->root = access("root.pem", R_OK) == 0 ? sk_X509_value(load_all("root.pem"), 0) : ca->ca;
	ca->server = sk_X509_value(load_all("server.pem"), 0);
	ca->server_key = need_key("server.key");
	ca->crl = X509_CRL_new();
	X509_CRL_set_version(ca->crl, X509_CRL_VERSION_2);
	X509_CRL_set_issuer_name(ca->crl, X509_get_subject_name(ca->ca));
}

static enum attack attack_named(const char *name)
{
	for (size_t i = 0; i < sizeof attack_names / sizeof attack_names[0]; i++)
		if (strcmp(attack_names[i], name) == 0)
			return (enum attack)i;
	fprintf(stderr, "cmp-ca: no attack is called %s\n", name);
	exit(2);
}

static _Noreturn void usage(void)
{
	fputs("usage: cmp-ca -p PORT -d DIR [-1GILS] [-C FILE] [-E FILE] [-H STATUS] [-K KIND]\n"
	      "              [-O ODD] [-P FILE] [-R BIT] [-T TEXT]\n"
	      "              [-a ATTACK] [-b NUMBER] [-h TYPE] [-k TYPE] [-n DAYS] [-s SECRET]\n"
	      "              [-t SECONDS] [-w POLLS]\n"
	      "-1           a transactionID serves for one request for a certificate\n"
	      "-C FILE      certificates to tell when asked for the CA's\n"
	      "-E, -P FILE  certificates to send as extraCerts, as caPubs\n"
	      "-G           general messages are refused\n"
	      "-K KIND      the template: keys of ec:BITS, rsa:BITS, or `eku`, an extension\n"
	      "-L           CRLs are told as RFC 4210 has it alone\n"
	      "-b NUMBER    of the attack: the type of `body`, how many in a `crowd`\n"
	      "-I           grant implicitConfirm\n"
	      "-R BIT       refuse with this bit of PKIFailureInfo, and -T TEXT\n"
	      "-S           sign all messages, have no secret\n"
	      "-O ODD       nobody, bare, chatty, signs, id-zero, id-minus, sha1, chunked, "
	      "untyped, "
	      "charset\n"
	      "-H STATUS    the HTTP status of every CMP answer\n"
	      "-h, -k TYPE  hold (until DIR/release is there), lose the first answer to this type\n"
	      "-t SECONDS   checkAfter\n"
	      "-w POLLS     \"waiting\" so often before the certificate\n"
	      "attacks:",
	      stderr);
	for (size_t i = 0; i < sizeof attack_names / sizeof attack_names[0]; i++)
		fprintf(stderr, " %s", attack_names[i]);
	fputc('\n', stderr);
	exit(2);
}

static long number(const char *digits)
{
	char *end;
	long n = strtol(digits, &end, 10);

	if (end == digits || *end)
		usage();
	return n;
}

/* clang-format off */
static void option(struct lab_ca *ca, int c, int *port)
{
	switch (c) {
	case 'p': *port = (int)number(optarg); break;
	case 'd': if (chdir(optarg) < 0) usage(); break;
	case '1': ca->once = true; break;
	case 'C': ca->told = load_all(optarg); break;
	case 'E': ca->extra = load_all(optarg); break;
	case 'G': ca->tells_nothing = true; break;
	case 'H': ca->status = (int)number(optarg); break;
	case 'I': ca->implicit = true; break;
	case 'K': ca->template = optarg; break;
	case 'L': ca->old_crls = true; break;
	case 'O': ca->odd = optarg; break;
	case 'P': ca->publish = load_all(optarg); break;
	case 'R': ca->refuse = (int)number(optarg); break;
	case 'S': ca->sign_only = true; break;
	case 'T': ca->refuse_text = optarg; break;
	case 'a': ca->attack = attack_named(optarg); break;
	case 'b': ca->number = (int)number(optarg); break;
	case 'h': ca->hold = (int)number(optarg); break;
	case 'k': ca->lose = (int)number(optarg); break;
	case 'n': ca->days = (int)number(optarg); break;
	case 's': ca->secret = optarg; break;
	case 't': ca->after = number(optarg); break;
	case 'w': ca->polls = (int)number(optarg); break;
	default: usage();
	}
}
/* clang-format on */

int main(int argc, char **argv)
{
	struct lab_ca ca = {
		.secret = "secret", .days = 30, .after = 1, .refuse = -1, .lose = -1, .hold = -1
	};
	int port = -1, c;

	while ((c = getopt(argc, argv, "p:d:1C:E:GH:IK:LO:P:R:ST:a:b:h:k:n:s:t:w:")) != -1)
		option(&ca, c, &port);
	if (port < 0)
		usage();
	load(&ca);
	return lab_http_serve(port, handle, &ca) < 0;
}
