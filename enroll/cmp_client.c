#include "enroll/cmp_client.h"

#include "common/x509.h"
#include "enroll/cmp_answer.h"
#include "enroll/csr.h"

#include <errno.h>
#include <openssl/err.h>
#include <string.h>

/* --- whose answers are believed --- */

/* Nobody may answer for the CA who is only another holder of one of its certificates. */
static bool may_answer(const struct cmp_client *client, X509 *signer)
{
	EXTENDED_KEY_USAGE *usages = X509_get_ext_d2i(signer, NID_ext_key_usage, NULL, NULL);
	bool good = X509_check_ca(signer) == 1;

	for (int i = 0; !good && i < sk_ASN1_OBJECT_num(usages); i++) {
		int usage = OBJ_obj2nid(sk_ASN1_OBJECT_value(usages, i));

		good = usage == NID_cmcCA || usage == NID_cmcRA;
	}
	EXTENDED_KEY_USAGE_free(usages);
	return good || (client->server &&
	                X509_NAME_cmp(X509_get_subject_name(signer), client->server) == 0);
}

static int judge_signer(int ok, X509_STORE_CTX *path)
{
	const struct cmp_client *client =
		X509_STORE_get_ex_data(X509_STORE_CTX_get0_store(path), 0);

	if (!ok || X509_STORE_CTX_get_error_depth(path) > 0 ||
	    may_answer(client, X509_STORE_CTX_get_current_cert(path)))
		return ok;
	X509_STORE_CTX_set_error(path, X509_V_ERR_INVALID_PURPOSE);
	return 0;
}

/* Adds all certificates of the job in the fields KEY. */
static bool add_anchors(X509_STORE *store, const struct record *settings, const char *key)
{
	const struct field *field;
	size_t index = 0;
	bool good = true;

	while (good && (field = record_next(settings, key, &index))) {
		X509 *anchor = certificate_from_der(field->value, field->length, NULL);

		good = anchor && X509_STORE_add_cert(store, anchor);
		X509_free(anchor);
	}
	return good;
}

/* The profile's CA anchors what is signed, and as long as it is valid the one before, whose servers
 * may go on for a while; where none is known yet, only the secret proves. */
static int trust(struct cmp_client *client, struct error *err)
{
	const struct record *settings = client->job->settings;
	X509_STORE *store = X509_STORE_new();
	X509_VERIFY_PARAM *parameters = store ? X509_STORE_get0_param(store) : NULL;

	if (!store || !add_anchors(store, settings, "ca") ||
	    !add_anchors(store, settings, "former") || !X509_STORE_set_ex_data(store, 0, client))
		goto fail;
	X509_STORE_set_verify_cb(store, judge_signer);
	X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_PARTIAL_CHAIN);
	X509_VERIFY_PARAM_set_time(parameters, (time_t)record_number(settings, "now", 0));
	/* a CA's own certificate often may sign certificates and CRLs alone */
	if (OSSL_CMP_CTX_set_option(client->context, OSSL_CMP_OPT_IGNORE_KEYUSAGE, 1) &&
	    OSSL_CMP_CTX_set0_trustedStore(client->context, store))
		return 0;
fail:
	X509_STORE_free(store);
	return error_openssl(err, -ENOMEM, "the CA cannot be made an anchor");
}

/* --- how we are known --- */

static bool is_ed25519(const EVP_PKEY *key)
{
	return key && EVP_PKEY_is_a(key, "ED25519");
}

static X509 *read_certificate(const struct record *settings, const char *name)
{
	return field_certificate(record_find(settings, name), name, NULL);
}

/* The certificate in force signs, or the one that proves us the first time, or neither. */
static void choose_signer(struct cmp_client *client)
{
	const struct record *settings = client->job->settings;

	client->current = read_certificate(settings, "certificate");
	client->signer = read_certificate(settings, "auth-certificate");
	if (!client->signer && client->current) {
		X509_up_ref(client->current);
		client->signer = client->current;
	}
	if (client->signer && is_ed25519(X509_get0_pubkey(client->signer))) {
		X509_free(client->signer);
		client->signer = NULL;
	}
}

/* The CA need not know who stands between the signer and its root: our messages say so. */
static bool set_chain(struct cmp_client *client)
{
	STACK_OF(X509) *chain = sk_X509_new_null();
	const struct field *field;
	size_t index = 0;
	bool good = chain != NULL;

	while (good && (field = record_next(client->job->settings, "chain", &index))) {
		X509 *certificate = certificate_from_der(field->value, field->length, NULL);

		good = certificate && sk_X509_push(chain, certificate);
		if (!good)
			X509_free(certificate);
	}
	good = good && OSSL_CMP_CTX_set1_untrusted(client->context, chain);
	sk_X509_pop_free(chain, X509_free);
	return good;
}

static int sign_by_certificate(struct cmp_client *client, struct error *err)
{
	EVP_PKEY *key = job_key_of(client->job, client->signer, err);
	int r = key ? 0 : -EINVAL;

	if (r == 0 && (!OSSL_CMP_CTX_set1_cert(client->context, client->signer) ||
	               !OSSL_CMP_CTX_set1_pkey(client->context, key) || !set_chain(client)))
		r = error_openssl(err, -EINVAL, "the certificate cannot sign CMP messages");
	EVP_PKEY_free(key);
	return r;
}

static int protect_by_secret(struct cmp_client *client, struct error *err)
{
	const struct field *reference = record_find(client->job->settings, "ca-reference");

	client->secret = record_find(client->job->settings, "ca-secret");
	if (!client->secret || !reference)
		return error_set(err, -EINVAL,
		                 "nothing proves us to the CA: set ca-reference and ca-secret, or "
		                 "auth-certificate-id (an Ed25519 key signs no CMP messages)");
	if (OSSL_CMP_CTX_set1_referenceValue(client->context,
	                                     (const unsigned char *)reference->value,
	                                     (int)reference->length) &&
	    OSSL_CMP_CTX_set1_secretValue(client->context,
	                                  (const unsigned char *)client->secret->value,
	                                  (int)client->secret->length) &&
	    OSSL_CMP_CTX_set_option(client->context, OSSL_CMP_OPT_OWF_ALGNID, NID_sha256) &&
	    OSSL_CMP_CTX_set_option(client->context, OSSL_CMP_OPT_MAC_ALGNID, NID_hmacWithSHA256))
		return 0;
	return error_openssl(err, -EINVAL, "ca-reference and ca-secret cannot be used");
}

/* A name as users write one: a DN, or what the CA is called. */
static int read_name(const char *text, X509_NAME **name, struct error *err)
{
	X509_NAME *new;

	if (strchr(text, '='))
		return dn_parse(text, NULL, name, err);
	new = X509_NAME_new();
	if (new &&X509_NAME_add_entry_by_NID(new, NID_commonName, MBSTRING_UTF8,
	                                     (const unsigned char *)text, -1, -1, 0)) {
		*name = new;
		return 0;
	}
	X509_NAME_free(new);
	return error_openssl(err, -EINVAL, "ca-identity is no name");
}

/* Whom to address: `ca-dn`, else the CA of the profile, else `ca-identity`, else nobody by name.
 * An identity says nothing of who may answer. */
static int address(struct cmp_client *client, const X509 *ca, struct error *err)
{
	const char *dn = record_get(client->job->settings, "ca-dn");
	const char *identity = record_get(client->job->settings, "ca-identity");
	X509_NAME *called = NULL;
	const X509_NAME *recipient;
	int r = 0;

	if (dn)
		r = dn_parse(dn, NULL, &client->server, err);
	else if (!ca && identity && *identity)
		r = read_name(identity, &called, err);
	recipient = client->server ? client->server : ca ? X509_get_subject_name(ca) : called;
	if (r == 0 && recipient && !OSSL_CMP_CTX_set1_recipient(client->context, recipient))
		r = error_openssl(err, -ENOMEM, "out of memory");
	X509_NAME_free(called);
	return r;
}

int cmp_client_open(struct cmp_client *client, struct job *job, struct error *err)
{
	X509 *ca = read_certificate(job->settings, "ca");
	const EVP_MD *digest;
	int r;

	*client = (struct cmp_client){ .job = job, .context = OSSL_CMP_CTX_new(NULL, NULL) };
	r = csr_digest(job->settings, &digest, err);
	if (r == 0 && (!client->context || !OSSL_CMP_CTX_set_log_verbosity(client->context, 0) ||
	               !OSSL_CMP_CTX_set_option(client->context, OSSL_CMP_OPT_DIGEST_ALGNID,
	                                        EVP_MD_get_type(digest))))
		r = error_openssl(err, -ENOMEM, "no CMP context can be made");
	if (r == 0) {
		choose_signer(client);
		r = client->signer ? sign_by_certificate(client, err)
		                   : protect_by_secret(client, err);
	}
	if (r == 0 && ca)
		r = trust(client, err);
	if (r == 0)
		r = address(client, ca, err);
	X509_free(ca);
	return r;
}

void cmp_client_clear(struct cmp_client *client)
{
	OSSL_CMP_CTX_free(client->context);
	X509_free(client->current);
	X509_free(client->signer);
	X509_NAME_free(client->server);
}

/* --- what is asked for --- */

/* The request in PKCS#10, which an Ed25519 key signs by our own hands. */
static int set_csr(struct cmp_client *client, EVP_PKEY *key, const X509_EXTENSIONS *wanted,
                   struct error *err)
{
	X509_REQ *request = NULL;
	int r;

	r = csr_make_as(client->job->worker->signer, key, client->job->settings,
	                &(struct csr_wishes){ .extensions = wanted }, &request, err);
	if (r == 0 && !OSSL_CMP_CTX_set1_p10CSR(client->context, request))
		r = error_openssl(err, -EINVAL, "the request cannot be set");
	X509_REQ_free(request);
	return r;
}

static int set_names(struct cmp_client *client, int type, const EVP_PKEY *key,
                     const X509_EXTENSIONS *wanted, struct error *err)
{
	const struct record *settings = client->job->settings;
	long long days = record_number(settings, "validity-period", 0);
	struct csr_wishes wishes = { .extensions = wanted };
	X509_EXTENSIONS *extensions = NULL;
	X509_NAME *subject = NULL;
	int r;

	/* where the CA decides on names, it decided on those in force (RFC 9483 §4.1.3) */
	if (type == OSSL_CMP_KUR && record_is(settings, "accept-changed-names", "yes"))
		wishes.names_of = client->current;
	r = csr_template(key, settings, &wishes, &subject, &extensions, err);
	if (r < 0)
		return r;
	if (!OSSL_CMP_CTX_set1_subjectName(client->context, subject) ||
	    (days > 0 &&
	     !OSSL_CMP_CTX_set_option(client->context, OSSL_CMP_OPT_VALIDITY_DAYS, (int)days)))
		r = error_openssl(err, -EINVAL, "the names cannot be set");
	if (r == 0 && OSSL_CMP_CTX_set0_reqExtensions(client->context, extensions))
		extensions = NULL;
	else if (r == 0)
		r = error_openssl(err, -EINVAL, "the extensions cannot be set");
	X509_NAME_free(subject);
	sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
	return r;
}

int cmp_client_template(struct cmp_client *client, int type, const X509_EXTENSIONS *wanted,
                        struct error *err)
{
	EVP_PKEY *key = job_new_key(client->job, err);
	int r;

	if (!key)
		return -EINVAL;
	r = set_names(client, type, key, wanted, err);
	if (r == 0 && type == OSSL_CMP_P10CR)
		r = set_csr(client, key, wanted, err);
	if (r == 0 && type == OSSL_CMP_KUR &&
	    !OSSL_CMP_CTX_set1_oldCert(client->context, client->current))
		r = error_openssl(err, -EINVAL, "the certificate in force cannot be set");
	if (r == 0 && OSSL_CMP_CTX_set0_newPkey(client->context, type != OSSL_CMP_P10CR, key))
		return 0;
	EVP_PKEY_free(key);
	return r < 0 ? r : error_openssl(err, -EINVAL, "the new key cannot be set");
}

/* --- talking --- */

/* Some servers send their refusals with an HTTP status of their own. */
static bool is_answer(int r, const struct http_answer *answer)
{
	return r == 0 || (r == -EREMOTEIO && answer->body && *answer->body == 0x30);
}

int cmp_client_send(struct cmp_client *client, const OSSL_CMP_MSG *message,
                    struct http_answer *answer, OSSL_CMP_MSG **got, struct error *err)
{
	struct job *job = client->job;
	struct http_request request = { .url = record_get(job->settings, "enrollment-url"),
		                        .type = "application/pkixcmp",
		                        .limit = client->limit,
		                        .seconds = client->seconds,
		                        .own_connection = true };
	unsigned char *der;
	int r;

	*answer = (struct http_answer){ 0 };
	*got = NULL;
	if (!request.url)
		return error_set(err, -EINVAL, "no enrollment-url");
	r = cmp_message_der(message, &der, &request.length);
	if (r < 0)
		return error_openssl(err, r, "the message cannot be encoded");
	request.body = der;
	r = http_do(job->worker->http, &request, answer, err);
	job_note_answer(job, answer);
	OPENSSL_free(der);
	ERR_clear_error(); /* what comes now is about the answer */
	if (is_answer(r, answer))
		*got = cmp_message_read(answer->body, answer->length);
	if (*got)
		return 0;
	return r < 0 ? r : error_set(err, -EBADMSG, "the server's answer is no CMP message");
}
