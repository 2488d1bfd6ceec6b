/* Answers to tls-alpn-01 (RFC 8737; addresses: RFC 8738): a handshake, and not one byte more. */
#include "enroll/respond.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#define PROTOCOL   "acme-tls/1"
#define IDENTIFIER "1.3.6.1.5.5.7.1.31" /* acmeIdentifier */
#define DAY        86400L

struct respond_tls {
	SSL_CTX *context;
	EVP_PKEY *key; /* of all certificates: they prove what is in them, not who we are */
	const struct record *const *answers;
};

/* --- names --- */

void respond_tls_name(const char *name, char *text, size_t size)
{
	unsigned char address[sizeof(struct in6_addr)];
	size_t used = 0;

	if (inet_pton(AF_INET, name, address) == 1) {
		snprintf(text, size, "%d.%d.%d.%d.in-addr.arpa", address[3], address[2], address[1],
		         address[0]);
	} else if (inet_pton(AF_INET6, name, address) == 1) {
		for (size_t i = sizeof address; i-- && used < size;)
			used += (size_t)snprintf(text + used, size - used, "%x.%x.",
			                         address[i] & 15u, address[i] >> 4u);
		snprintf(text + used, used < size ? size - used : 0, "ip6.arpa");
	} else {
		snprintf(text, size, "%s", name);
	}
}

/* The words of a challenge: of TYPE NAME TOKEN ANSWER the second and the last. */
static bool read_challenge(const struct field *field, char *name, size_t size, const char **answer)
{
	const char *words = field->value, *second = strchr(words, ' ');
	const char *third = second ? strchr(second + 1, ' ') : NULL;
	const char *last = third ? strchr(third + 1, ' ') : NULL;

	if (!last || strncmp(words, "tls-alpn-01 ", 12) != 0 || (size_t)(third - second) > size)
		return false;
	snprintf(name, size, "%.*s", (int)(third - second - 1), second + 1);
	*answer = last + 1;
	return true;
}

/* What answers for ASKED, with the NAME that it proves; NULL: nothing is to be proved there. */
static const char *find_answer(const struct record *answers, const char *asked, char *name,
                               size_t size)
{
	const struct field *field;
	const char *answer;
	size_t index = 0;
	char text[256];

	while ((field = record_next(answers, "challenge", &index))) {
		if (!read_challenge(field, name, size, &answer))
			continue;
		respond_tls_name(name, text, sizeof text);
		if (strcasecmp(text, asked) == 0)
			return answer;
	}
	return NULL;
}

/* --- certificates --- */

/* The name and nothing else: GENERAL_NAMEs are made here, not parsed out of a text. */
static bool add_name(X509 *certificate, const char *name)
{
	GENERAL_NAMES *names = GENERAL_NAMES_new();
	GENERAL_NAME *general = GENERAL_NAME_new();
	ASN1_OCTET_STRING *address = a2i_IPADDRESS(name);
	ASN1_IA5STRING *text = address ? NULL : ASN1_IA5STRING_new();
	bool done = names && general && (address || (text && ASN1_STRING_set(text, name, -1)));

	if (done) {
		GENERAL_NAME_set0_value(general, address ? GEN_IPADD : GEN_DNS,
		                        address ? address : text);
		address = text = NULL;
		done = sk_GENERAL_NAME_push(names, general) > 0;
		general = done ? NULL : general;
	}
	done = done && X509_add1_ext_i2d(certificate, NID_subject_alt_name, names, 0, 0) == 1;
	ASN1_OCTET_STRING_free(address);
	ASN1_IA5STRING_free(text);
	GENERAL_NAME_free(general);
	GENERAL_NAMES_free(names);
	return done;
}

static bool add_identifier(X509 *certificate, const char *answer)
{
	unsigned char value[2 + EVP_MAX_MD_SIZE] = { V_ASN1_OCTET_STRING, 32 };
	ASN1_OBJECT *type = OBJ_txt2obj(IDENTIFIER, 1);
	ASN1_OCTET_STRING *octets = ASN1_OCTET_STRING_new();
	X509_EXTENSION *extension = NULL;
	bool done = type && octets &&
	            EVP_Digest(answer, strlen(answer), value + 2, NULL, EVP_sha256(), NULL) == 1 &&
	            ASN1_OCTET_STRING_set(octets, value, 34) == 1;

	if (done)
		extension = X509_EXTENSION_create_by_OBJ(NULL, type, 1, octets);
	done = extension && X509_add_ext(certificate, extension, -1) == 1;
	X509_EXTENSION_free(extension);
	ASN1_OCTET_STRING_free(octets);
	ASN1_OBJECT_free(type);
	return done;
}

X509 *respond_tls_certificate(EVP_PKEY *key, const char *name, const char *answer)
{
	static const unsigned char subject[] = "ACME challenge";
	X509 *certificate = X509_new();
	X509_NAME *names = certificate ? X509_get_subject_name(certificate) : NULL;

	if (certificate && X509_set_version(certificate, X509_VERSION_3) == 1 &&
	    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1) == 1 &&
	    X509_gmtime_adj(X509_getm_notBefore(certificate), -DAY) &&
	    X509_gmtime_adj(X509_getm_notAfter(certificate), DAY) &&
	    X509_NAME_add_entry_by_NID(names, NID_commonName, MBSTRING_ASC, subject, -1, -1, 0) ==
	            1 &&
	    X509_set_issuer_name(certificate, names) == 1 &&
	    X509_set_pubkey(certificate, key) == 1 && add_name(certificate, name) &&
	    add_identifier(certificate, answer) && X509_sign(certificate, key, EVP_sha256()) > 0)
		return certificate;
	X509_free(certificate);
	return NULL;
}

/* --- the handshake --- */

/* Who does not ask for this protocol is told nothing of us. */
static int hello_came(SSL *tls, int *alert, void *user)
{
	const unsigned char *extension;
	size_t length;

	(void)user;
	if (SSL_client_hello_get0_ext(tls, TLSEXT_TYPE_application_layer_protocol_negotiation,
	                              &extension, &length) == 1)
		return SSL_CLIENT_HELLO_SUCCESS;
	*alert = SSL_AD_NO_APPLICATION_PROTOCOL;
	return SSL_CLIENT_HELLO_ERROR;
}

static int choose_protocol(SSL *tls, const unsigned char **chosen, unsigned char *length,
                           const unsigned char *offered, unsigned size, void *user)
{
	(void)tls;
	(void)user;
	for (unsigned at = 0; at < size; at += 1u + offered[at])
		if (offered[at] == strlen(PROTOCOL) && at + 1u + offered[at] <= size &&
		    memcmp(offered + at + 1, PROTOCOL, strlen(PROTOCOL)) == 0) {
			*chosen = offered + at + 1;
			*length = offered[at];
			return SSL_TLSEXT_ERR_OK;
		}
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static int choose_certificate(SSL *tls, void *user)
{
	const struct respond_tls *responder = user;
	const char *asked = SSL_get_servername(tls, TLSEXT_NAMETYPE_host_name), *answer;
	X509 *certificate;
	char name[256];
	int r;

	answer = asked ? find_answer(*responder->answers, asked, name, sizeof name) : NULL;
	certificate = answer ? respond_tls_certificate(responder->key, name, answer) : NULL;
	r = certificate && SSL_use_certificate(tls, certificate) == 1 &&
	    SSL_use_PrivateKey(tls, responder->key) == 1;
	X509_free(certificate);
	return r;
}

struct respond_tls *respond_tls_new(const struct record *const *answers)
{
	struct respond_tls *responder = calloc(1, sizeof *responder);

	if (!responder)
		return NULL;
	responder->answers = answers;
	responder->key = EVP_EC_gen("P-256");
	responder->context = SSL_CTX_new(TLS_server_method());
	if (!responder->key || !responder->context) {
		respond_tls_free(responder);
		return NULL;
	}
	SSL_CTX_set_min_proto_version(responder->context, TLS1_2_VERSION);
	SSL_CTX_set_options(responder->context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_num_tickets(responder->context, 0);
	SSL_CTX_set_session_cache_mode(responder->context, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_client_hello_cb(responder->context, hello_came, NULL);
	SSL_CTX_set_alpn_select_cb(responder->context, choose_protocol, NULL);
	SSL_CTX_set_cert_cb(responder->context, choose_certificate, responder);
	return responder;
}

void respond_tls_free(struct respond_tls *responder)
{
	if (!responder)
		return;
	SSL_CTX_free(responder->context);
	EVP_PKEY_free(responder->key);
	free(responder);
}

SSL *respond_tls_begin(const struct respond_tls *responder, int fd)
{
	SSL *tls = SSL_new(responder->context);

	if (tls && SSL_set_fd(tls, fd) == 1)
		return tls;
	SSL_free(tls);
	return NULL;
}

int respond_tls_hear(SSL *tls)
{
	int r;

	ERR_clear_error();
	r = SSL_accept(tls);
	if (r != 1) {
		bool more = SSL_get_error(tls, r) == SSL_ERROR_WANT_READ;

		ERR_clear_error();
		return more ? 0 : -1;
	}
	SSL_shutdown(tls);
	ERR_clear_error();
	return 1;
}
