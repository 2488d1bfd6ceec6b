/*
 * est-ca: an EST server (RFC 7030, 8951) for tests, for nothing in Debian is one: HTTP Basic and
 * Digest, client certificates, 202, csrattrs, channel binding, labels, answers that get lost, and
 * attacks. Each request is a line on stdout, so that tests can count them.
 *
 * DIR holds ca.pem and ca.key, which issue; root.pem above them where ca.pem is an intermediate;
 * tls.pem and tls.key, the server's own; device.pem (may be missing), whose certificates may
 * authenticate a client as ca.pem's may; csrattrs (DER, may be missing). A file answer-OPERATION
 * is sent instead of the answer: a line `STATUS TYPE`, lines of headers, an empty one, the body.
 */
#include "tests/lab/lab-auth.h"
#include "tests/lab/lab-http.h"
#include "tests/lab/lab-x509.h"

#include <openssl/err.h>
#include <openssl/pkcs7.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define BINDING_MAX  64

struct est_ca {
	const char *folder;
	X509 *ca, *root;
	EVP_PKEY *key;
	struct lab_user known;   /* NULL in it: no HTTP authentication */
	bool digest;             /* Digest, not Basic */
	bool client_certificate; /* simpleenroll wants one */
	bool binding;            /* the challengePassword binds to the connection */
	const char *label;       /* NULL: none */
	const char *line_end;    /* of base64; "": one long line */
	const char *attack;
	const char *refuse_text;
	int refuse; /* HTTP status, 0: none */
	int polls;  /* 202 so often for each key */
	int retry_after;
	int drop; /* answers to lose */
	int days;
};

/* One request: who asks, and for what. */
struct asked {
	struct est_ca *ca;
	const struct lab_request *request;
	char operation[32];
	char who[300];
	X509 *peer; /* NULL: no client certificate */
};

static bool is_attack(const struct est_ca *ca, const char *name)
{
	return ca->attack && strcmp(ca->attack, name) == 0;
}

static BIO *text(const char *words)
{
	BIO *out = BIO_new(BIO_s_mem());

	BIO_puts(out, words);
	return out;
}

/* --- base64 --- */

static BIO *to_base64(const struct est_ca *ca, const unsigned char *der, int length)
{
	unsigned char *line = malloc(4 * ((size_t)length / 3 + 1) + 1);
	int step = *ca->line_end ? 48 : length;
	BIO *out = BIO_new(BIO_s_mem());

	for (int i = 0; i < length; i += step) {
		EVP_EncodeBlock(line, der + i, length - i < step ? length - i : step);
		BIO_printf(out, "%s%s", line, ca->line_end);
	}
	free(line);
	return out;
}

/* An answer in base64 (RFC 7030 §4.1.3; RFC 8951 does without the header). */
static void answer_base64(struct lab_answer *answer, const char *type, BIO *body)
{
	answer->status = 200;
	answer->type = type;
	answer->header = "Content-Transfer-Encoding: base64\r\n";
	answer->body = body;
}

static BIO *certs_only(const struct est_ca *ca, X509 *one, X509 *other)
{
	PKCS7 *bundle = PKCS7_new();
	unsigned char *der = NULL;
	BIO *out;
	int length;

	PKCS7_set_type(bundle, NID_pkcs7_signed);
	PKCS7_content_new(bundle, NID_pkcs7_data);
	PKCS7_set_detached(bundle, 1);
	PKCS7_add_certificate(bundle, one);
	if (other)
		PKCS7_add_certificate(bundle, other);
	length = i2d_PKCS7(bundle, &der);
	out = to_base64(ca, der, length);
	PKCS7_free(bundle);
	OPENSSL_free(der);
	return out;
}

/* --- who asks --- */

static bool http_right(const struct asked *asked)
{
	char *header = lab_header(asked->request->head, "Authorization");
	bool right = false;

	if (header && asked->ca->known.name)
		right = asked->ca->digest
		                ? lab_digest_right(header, asked->request, &asked->ca->known)
		                : lab_basic_right(header, &asked->ca->known);
	free(header);
	return right;
}

static void identify(struct asked *asked)
{
	asked->peer = SSL_get1_peer_certificate(asked->request->tls);
	if (http_right(asked))
		snprintf(asked->who, sizeof asked->who, "user %s", asked->ca->known.name);
	else
		snprintf(asked->who, sizeof asked->who, "nobody");
	if (asked->peer) {
		size_t used = strlen(asked->who);

		snprintf(asked->who + used, sizeof asked->who - used, " with ");
		X509_NAME_oneline(X509_get_subject_name(asked->peer), asked->who + used + 6,
		                  (int)(sizeof asked->who - used - 6));
	}
}

static bool may_enroll(const struct asked *asked)
{
	bool by_certificate = asked->peer && (asked->ca->client_certificate ||
	                                      strcmp(asked->operation, "simplereenroll") == 0);
	bool free_for_all = !asked->ca->known.name && !asked->ca->client_certificate;

	return by_certificate || strncmp(asked->who, "user", 4) == 0 ||
	       (free_for_all && strcmp(asked->operation, "simpleenroll") == 0);
}

static void ask_who(const struct asked *asked, struct lab_answer *answer)
{
	static char header[200];

	answer->status = 401;
	answer->body = text("who are you?\n");
	if (asked->ca->digest)
		snprintf(header, sizeof header,
		         "WWW-Authenticate: Digest realm=\"est\", qop=\"auth\", nonce=\"%s\"\r\n",
		         asked->ca->known.nonce);
	else
		snprintf(header, sizeof header, "WWW-Authenticate: Basic realm=\"est\"\r\n");
	answer->header = header;
}

/* --- what it issues --- */

/* RFC 7030 §4.2.2: subject and alternative names are those of the certificate. */
static bool same_names(X509_REQ *request, X509 *certificate)
{
	GENERAL_NAMES *have = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
	STACK_OF(X509_EXTENSION) *extensions = X509_REQ_get_extensions(request);
	GENERAL_NAMES *want = X509V3_get_d2i(extensions, NID_subject_alt_name, NULL, NULL);
	unsigned char *one = NULL, *other = NULL;
	int length = i2d_GENERAL_NAMES(have, &one);
	bool same = length == i2d_GENERAL_NAMES(want, &other) &&
	            (length <= 0 || memcmp(one, other, (size_t)length) == 0) &&
	            X509_NAME_cmp(X509_REQ_get_subject_name(request),
	                          X509_get_subject_name(certificate)) == 0;

	OPENSSL_free(one);
	OPENSSL_free(other);
	GENERAL_NAMES_free(have);
	GENERAL_NAMES_free(want);
	sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
	return same;
}

static X509 *issue(const struct est_ca *ca, X509_REQ *request)
{
	EVP_PKEY *other = is_attack(ca, "other-key") ? EVP_EC_gen("P-256") : NULL;
	X509 *certificate = X509_new();

	X509_set_version(certificate, X509_VERSION_3);
	set_serial(certificate);
	X509_set_subject_name(certificate, X509_REQ_get_subject_name(request));
	X509_set_issuer_name(certificate, X509_get_subject_name(ca->ca));
	X509_set_pubkey(certificate, other ? other : X509_REQ_get0_pubkey(request));
	X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
	X509_gmtime_adj(X509_getm_notAfter(certificate), ca->days * 86400L);
	add_extension(ca->ca, certificate, NID_basic_constraints,
	              is_attack(ca, "ca-true") ? "critical,CA:TRUE" : "CA:FALSE");
	add_extension(ca->ca, certificate, NID_key_usage, "critical,digitalSignature");
	add_extension(ca->ca, certificate, NID_ext_key_usage, "serverAuth,clientAuth");
	add_extension(ca->ca, certificate, NID_subject_key_identifier, "hash");
	add_extension(ca->ca, certificate, NID_authority_key_identifier, "keyid");
	if (is_attack(ca, "other-name"))
		add_extension(ca->ca, certificate, NID_subject_alt_name, "DNS:somebody.else");
	else
		copy_names(certificate, request);
	X509_sign(certificate, ca->key, signing_digest(ca->key));
	EVP_PKEY_free(other);
	return certificate;
}

/* What ties a request to its connection (RFC 7030 §3.5, RFC 9266), in base64. */
static void binding_of(SSL *tls, char *words)
{
	unsigned char bytes[BINDING_MAX];
	size_t length = 32;

	if (SSL_version(tls) >= TLS1_3_VERSION)
		SSL_export_keying_material(tls, bytes, length, "EXPORTER-Channel-Binding", 24,
		                           (const unsigned char *)"", 0, 1);
	else
		length = SSL_session_reused(tls) ? SSL_get_finished(tls, bytes, sizeof bytes)
		                                 : SSL_get_peer_finished(tls, bytes, sizeof bytes);
	EVP_EncodeBlock((unsigned char *)words, bytes, (int)length);
}

static bool is_bound(X509_REQ *request, SSL *tls)
{
	int at = X509_REQ_get_attr_by_NID(request, NID_pkcs9_challengePassword, -1);
	ASN1_TYPE *value =
		at < 0 ? NULL : X509_ATTRIBUTE_get0_type(X509_REQ_get_attr(request, at), 0);
	char wanted[2 * BINDING_MAX];

	binding_of(tls, wanted);
	return value && (size_t)ASN1_STRING_length(value->value.asn1_string) == strlen(wanted) &&
	       memcmp(ASN1_STRING_get0_data(value->value.asn1_string), wanted, strlen(wanted)) == 0;
}

/* How often a certificate was asked for the key of REQUEST. */
static int count_of(X509_REQ *request)
{
	static struct {
		char digest[65];
		int count;
	} keys[1000];
	unsigned char *der = NULL;
	char digest[65];
	int length = i2d_PUBKEY(X509_REQ_get0_pubkey(request), &der);
	unsigned char bytes[32];
	size_t i = 0;

	EVP_Digest(der, (size_t)length, bytes, NULL, EVP_sha256(), NULL);
	OPENSSL_free(der);
	for (size_t k = 0; k < sizeof bytes; k++)
		snprintf(digest + 2 * k, 3, "%02x", bytes[k]);
	while (i < COUNT(keys) - 1 && *keys[i].digest && strcmp(keys[i].digest, digest) != 0)
		i++;
	memcpy(keys[i].digest, digest, sizeof digest);
	return ++keys[i].count;
}

/* --- operations --- */

static void print_received(const struct asked *asked, const unsigned char *der, int length)
{
	unsigned char digest[32];

	printf("received %s", asked->operation);
	if (der) {
		EVP_Digest(der, (size_t)length, digest, NULL, EVP_sha256(), NULL);
		printf(" %02x%02x%02x%02x%02x%02x", digest[0], digest[1], digest[2], digest[3],
		       digest[4], digest[5]);
	}
	printf(" as %s\n", asked->who);
}

static void refuse(struct lab_answer *answer, int status, const char *words)
{
	answer->status = status;
	answer->body = text(words);
}

/* What the request is signed with, for tests of csrattrs. */
static void print_request(X509_REQ *request)
{
	STACK_OF(X509_EXTENSION) *extensions = X509_REQ_get_extensions(request);

	printf("request signed by %s, extensions", OBJ_nid2sn(X509_REQ_get_signature_nid(request)));
	for (int i = 0; i < sk_X509_EXTENSION_num(extensions); i++) {
		X509_EXTENSION *extension = sk_X509_EXTENSION_value(extensions, i);
		BIO *value = BIO_new(BIO_s_mem());
		char *bytes;

		X509V3_EXT_print(value, extension, 0, 0);
		BIO_write(value, "", 1);
		BIO_get_mem_data(value, &bytes);
		printf("; %s = %s", OBJ_nid2sn(OBJ_obj2nid(X509_EXTENSION_get_object(extension))),
		       bytes);
		BIO_free(value);
	}
	putchar('\n');
	sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
}

static void enroll_request(const struct asked *asked, X509_REQ *request, struct lab_answer *answer)
{
	struct est_ca *ca = asked->ca;
	X509 *certificate;

	if (X509_REQ_verify(request, X509_REQ_get0_pubkey(request)) != 1) {
		refuse(answer, 400, "the request does not prove its key\n");
	} else if (asked->peer && strcmp(asked->operation, "simplereenroll") == 0 &&
	           !same_names(request, asked->peer)) {
		refuse(answer, 400, "the names are not those of your certificate\n");
	} else if (ca->binding && !is_bound(request, asked->request->tls)) {
		refuse(answer, 400, "the request is not bound to this connection\n");
	} else if (count_of(request) <= ca->polls) {
		refuse(answer, 202, "wait for the operator\n");
		answer->retry_after = ca->retry_after;
	} else {
		certificate = issue(ca, request);
		answer->status = 200;
		answer->type = "application/pkcs7-mime; smime-type=certs-only";
		answer->body = certs_only(ca, certificate, is_attack(ca, "root") ? ca->ca : NULL);
		X509_free(certificate);
		if (ca->drop > 0) {
			ca->drop--;
			answer->drop = true;
		}
	}
	printf("sent %d\n", answer->drop ? 0 : answer->status);
}

static void enroll(struct asked *asked, struct lab_answer *answer)
{
	const struct lab_request *request = asked->request;
	int length = 0;
	unsigned char *der = lab_base64_read((const char *)request->body, request->length, &length);
	const unsigned char *at = der;
	X509_REQ *csr = d2i_X509_REQ(NULL, &at, length);

	if (!may_enroll(asked)) {
		ask_who(asked, answer);
	} else {
		print_received(asked, der, length);
		if (asked->ca->refuse)
			refuse(answer, asked->ca->refuse, asked->ca->refuse_text);
		else if (!csr || !request->post)
			refuse(answer, 400, "no certificate request\n");
		else
			print_request(csr), enroll_request(asked, csr, answer);
	}
	X509_REQ_free(csr);
	free(der);
}

static void cacerts(struct asked *asked, struct lab_answer *answer)
{
	print_received(asked, NULL, 0);
	answer_base64(answer, "application/pkcs7-mime",
	              certs_only(asked->ca, asked->ca->ca, asked->ca->root));
}

/* The file csrattrs; with -b the challengePassword alone. */
static void csrattrs(struct asked *asked, struct lab_answer *answer)
{
	static const unsigned char challenge[] = { 0x30, 0x0b, 0x06, 0x09, 0x2a, 0x86, 0x48,
		                                   0x86, 0xf7, 0x0d, 0x01, 0x09, 0x07 };
	BIO *file = file_open(asked->ca->folder, "csrattrs");
	unsigned char der[8192];
	int length = file ? BIO_read(file, der, sizeof der) : 0;

	print_received(asked, NULL, 0);
	BIO_free(file);
	answer->status = 204;
	if (length > 0)
		answer_base64(answer, "application/csrattrs", to_base64(asked->ca, der, length));
	else if (asked->ca->binding)
		answer_base64(answer, "application/csrattrs",
		              to_base64(asked->ca, challenge, sizeof challenge));
}

/* The answer that a test wrote; false where there is none. */
static bool written(const struct asked *asked, struct lab_answer *answer)
{
	static char type[200], headers[4096];
	char name[64], line[1024];
	size_t used = 0;
	BIO *file;
	int got;

	snprintf(name, sizeof name, "answer-%s", asked->operation);
	file = file_open(asked->ca->folder, name);
	if (!file)
		return false;
	got = BIO_gets(file, line, sizeof line);
	if (got <= 0 || sscanf(line, "%d %199[^\r\n]", &answer->status, type) != 2)
		exit(3);
	*headers = '\0';
	while (BIO_gets(file, line, sizeof line) > 0 && *line != '\n')
		used += (size_t)snprintf(headers + used, sizeof headers - used, "%.*s\r\n",
		                         (int)strcspn(line, "\n"), line);
	answer->type = type;
	answer->header = headers;
	answer->body = BIO_new(BIO_s_mem());
	while ((got = BIO_read(file, line, sizeof line)) > 0)
		BIO_write(answer->body, line, got);
	BIO_free(file);
	printf("received %s as %s\nsent what was written\n", asked->operation, asked->who);
	return true;
}

static void handle(const struct lab_request *request, struct lab_answer *answer, void *user)
{
	static const struct {
		const char *name;
		void (*act)(struct asked *asked, struct lab_answer *answer);
	} operations[] = { { "cacerts", cacerts },
		           { "csrattrs", csrattrs },
		           { "simpleenroll", enroll },
		           { "simplereenroll", enroll } };
	struct asked asked = { .ca = user, .request = request };
	const char *label = asked.ca->label;
	char prefix[200];

	snprintf(prefix, sizeof prefix, "/.well-known/est/%s%s", label ? label : "",
	         label ? "/" : "");
	if (strncmp(request->target, prefix, strlen(prefix)) != 0) {
		answer->body = text("there is nothing here\n");
		return;
	}
	identify(&asked);
	for (size_t i = 0; i < COUNT(operations); i++) {
		if (strcmp(request->target + strlen(prefix), operations[i].name) != 0)
			continue;
		snprintf(asked.operation, sizeof asked.operation, "%s", operations[i].name);
		if (!written(&asked, answer))
			operations[i].act(&asked, answer);
	}
	ERR_clear_error();
	X509_free(asked.peer);
}

/* --- start --- */

static SSL_CTX *tls_context(struct est_ca *ca, int version)
{
	SSL_CTX *context = SSL_CTX_new(TLS_server_method());
	X509 *certificate = load_certificate(ca->folder, "tls.pem");
	X509 *device = load_certificate(ca->folder, "device.pem");
	EVP_PKEY *key = load_key(ca->folder, "tls.key");
	X509_STORE *trusted = SSL_CTX_get_cert_store(context);

	X509_STORE_add_cert(trusted, ca->root ? ca->root : ca->ca);
	if (device)
		X509_STORE_add_cert(trusted, device);
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_session_id_context(context, (const unsigned char *)"est", 3);
	if (version)
		SSL_CTX_set_max_proto_version(context, version);
	if (!certificate || !key || SSL_CTX_use_certificate(context, certificate) != 1 ||
	    SSL_CTX_use_PrivateKey(context, key) != 1)
		context = NULL;
	return context;
}

static _Noreturn void usage(void)
{
	fputs("usage: est-ca -p PORT -d DIR [-u USER:PASSWORD] [-D] [-C] [-b] [-l LABEL]\n"
	      "              [-a ATTACK] [-R STATUS] [-T TEXT] [-k COUNT] [-n DAYS] [-t SECONDS]\n"
	      "              [-w POLLS] [-e lf|crlf|none] [-2]\n"
	      "-2           TLS 1.2 at most\n"
	      "-C           simpleenroll takes a client certificate\n"
	      "-D           Digest, not Basic\n"
	      "-a ATTACK    other-key, other-name, ca-true, root (it comes along)\n"
	      "-b           requests must be bound to their connection\n"
	      "-e END       of the lines of base64 (crlf)\n"
	      "-k COUNT     lose the first COUNT answers\n"
	      "-t SECONDS   Retry-After\n"
	      "-w POLLS     202 so often before the certificate\n",
	      stderr);
	exit(2);
}

static void set_user(struct est_ca *ca, char *both)
{
	char *colon = strchr(both, ':');

	if (!colon)
		usage();
	*colon = '\0';
	ca->known.name = both;
	ca->known.password = colon + 1;
}

static const char *line_end(const char *name)
{
	if (strcmp(name, "crlf") == 0)
		return "\r\n";
	return strcmp(name, "lf") == 0 ? "\n" : "";
}

/* clang-format off */
static void option(struct est_ca *ca, int c, int *port, int *version)
{
	switch (c) {
	case 'p': *port = atoi(optarg); break;
	case 'd': ca->folder = optarg; break;
	case '2': *version = TLS1_2_VERSION; break;
	case 'C': ca->client_certificate = true; break;
	case 'D': ca->digest = true; break;
	case 'R': ca->refuse = atoi(optarg); break;
	case 'T': ca->refuse_text = optarg; break;
	case 'a': ca->attack = optarg; break;
	case 'b': ca->binding = true; break;
	case 'e': ca->line_end = line_end(optarg); break;
	case 'k': ca->drop = atoi(optarg); break;
	case 'l': ca->label = optarg; break;
	case 'n': ca->days = atoi(optarg); break;
	case 't': ca->retry_after = atoi(optarg); break;
	case 'u': set_user(ca, optarg); break;
	case 'w': ca->polls = atoi(optarg); break;
	default: usage();
	}
}
/* clang-format on */

int main(int argc, char **argv)
{
	struct est_ca ca = { .days = 30, .line_end = "\r\n", .refuse_text = "", .retry_after = 1 };
	int port = -1, version = 0, c;
	unsigned char random[16];
	SSL_CTX *context;

	while ((c = getopt(argc, argv, "p:d:2CDR:T:a:be:k:l:n:t:u:w:")) != -1)
		option(&ca, c, &port, &version);
	if (port < 0 || !ca.folder)
		usage();
	RAND_bytes(random, sizeof random);
	for (size_t i = 0; i < sizeof random; i++)
		snprintf(ca.known.nonce + 2 * i, 3, "%02x", random[i]);
	ca.ca = load_certificate(ca.folder, "ca.pem");
	ca.key = load_key(ca.folder, "ca.key");
	ca.root = load_certificate(ca.folder, "root.pem");
	ERR_clear_error();
	context = ca.ca && ca.key ? tls_context(&ca, version) : NULL;
	if (!context) {
		fprintf(stderr, "est-ca: a certificate or a key is missing in %s\n", ca.folder);
		return 1;
	}
	return lab_https_serve(port, context, handle, &ca) < 0;
}
