#include "enroll/csr.h"

#include "common/x509.h"

#include <errno.h>
#include <openssl/err.h>
#include <string.h>

#define SERIAL_BITS  127
#define DAYS_DEFAULT 1825
#define DAYS_MAX     4095
#define CN_MAX       64

/* The names that a job asks for. */
struct names {
	X509_NAME *subject;
	GENERAL_NAMES *alternative; /* NULL: none */
};

static void names_clear(struct names *names)
{
	X509_NAME_free(names->subject);
	GENERAL_NAMES_free(names->alternative);
}

/* CN = the first domain name, where it fits; else no attribute at all. */
static int default_subject(const struct record *job, X509_NAME **subject, struct error *err)
{
	size_t index = 0;
	const struct field *domain = record_next(job, "domain-name", &index);

	*subject = X509_NAME_new();
	if (!*subject)
		return error_set(err, -ENOMEM, "out of memory");
	if (!domain || domain->length > CN_MAX)
		return 0;
	if (X509_NAME_add_entry_by_NID(*subject, NID_commonName, MBSTRING_UTF8,
	                               (const unsigned char *)domain->value, (int)domain->length,
	                               -1, 0))
		return 0;
	return error_openssl(err, -EINVAL, "CN cannot hold the domain-name \"%.80s\"",
	                     domain->value);
}

static int names_read(const struct record *job, struct names *names, struct error *err)
{
	const struct field *subject = record_find(job, "subject");
	int r;

	r = alternative_names(job, &names->alternative, err);
	if (r < 0)
		return r;
	if (!subject || !subject->length)
		return default_subject(job, &names->subject, err);
	if (strlen(subject->value) != subject->length)
		return error_set(err, -EINVAL, "subject has a NUL byte in its value");
	return dn_parse(subject->value, record_get(job, "device-serial"), &names->subject, err);
}

/* The names of a certificate, to the letter. */
static int names_copy(const X509 *certificate, struct names *names, struct error *err)
{
	names->subject = X509_NAME_dup(X509_get_subject_name(certificate));
	names->alternative = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
	ERR_clear_error();
	return names->subject ? 0 : error_set(err, -ENOMEM, "out of memory");
}

int csr_digest(const struct record *job, const EVP_MD **digest, struct error *err)
{
	static const char *const taken[] = { "sha256", "sha384", "sha512", "sha1" };
	const char *name = record_get(job, "digest");

	*digest = EVP_sha256();
	if (!name)
		return 0;
	for (size_t i = 0; i < COUNT(taken); i++) {
		if (strcmp(name, taken[i]) != 0)
			continue;
		*digest = EVP_get_digestbyname(name);
		return 0;
	}
	return error_set(err, -EINVAL, "digest takes sha256, sha384 or sha512, not \"%.40s\"",
	                 name);
}

/* Adds an extension as openssl.cnf spells it. */
static bool add_extension(STACK_OF(X509_EXTENSION) * extensions, X509V3_CTX *context, int nid,
                          const char *value)
{
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, context, nid, value);

	if (extension && sk_X509_EXTENSION_push(extensions, extension))
		return true;
	X509_EXTENSION_free(extension);
	return false;
}

/* Critical where it alone names the subject (RFC 5280 §4.2.1.6). */
static bool add_alternative_names(STACK_OF(X509_EXTENSION) * extensions, const struct names *names)
{
	int critical = X509_NAME_entry_count(names->subject) == 0;
	X509_EXTENSION *extension;

	if (!names->alternative)
		return true;
	extension = X509V3_EXT_i2d(NID_subject_alt_name, critical, names->alternative);
	if (extension && sk_X509_EXTENSION_push(extensions, extension))
		return true;
	X509_EXTENSION_free(extension);
	return false;
}

/* Only an RSA key can have keys enciphered to it. */
static const char *usual_key_usage(const EVP_PKEY *key)
{
	return EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA
	               ? "critical,digitalSignature,keyEncipherment"
	               : "critical,digitalSignature";
}

bool csr_takes(const X509_EXTENSION *extension)
{
	int nid = OBJ_obj2nid(X509_EXTENSION_get_object((X509_EXTENSION *)(uintptr_t)extension));

	return nid != NID_subject_alt_name && nid != NID_basic_constraints &&
	       nid != NID_subject_key_identifier && nid != NID_authority_key_identifier;
}

/* Copies of those that a CA wants; the usual key usage where it is not among them. */
static bool add_wanted(STACK_OF(X509_EXTENSION) * extensions,
                       const STACK_OF(X509_EXTENSION) * wanted, const EVP_PKEY *key)
{
	for (int i = 0; i < sk_X509_EXTENSION_num(wanted); i++) {
		X509_EXTENSION *copy = X509_EXTENSION_dup(sk_X509_EXTENSION_value(wanted, i));

		if (!copy || !sk_X509_EXTENSION_push(extensions, copy)) {
			X509_EXTENSION_free(copy);
			return false;
		}
	}
	return X509v3_get_ext_by_NID(wanted, NID_key_usage, -1) >= 0 ||
	       add_extension(extensions, NULL, NID_key_usage, usual_key_usage(key));
}

static int request_extensions(const EVP_PKEY *key, const struct names *names,
                              const STACK_OF(X509_EXTENSION) * wanted, X509_EXTENSIONS **extensions,
                              struct error *err)
{
	X509_EXTENSIONS *new = sk_X509_EXTENSION_new_null();

	if (new &&add_alternative_names(new, names) && add_wanted(new, wanted, key)) {
		*extensions = new;
		return 0;
	}
	sk_X509_EXTENSION_pop_free(new, X509_EXTENSION_free);
	return error_openssl(err, -EINVAL, "the request's extensions cannot be made");
}

int csr_template(const EVP_PKEY *key, const struct record *job, const struct csr_wishes *wishes,
                 X509_NAME **subject, X509_EXTENSIONS **extensions, struct error *err)
{
	struct names names = { 0 };
	int r;

	r = wishes->names_of ? names_copy(wishes->names_of, &names, err)
	                     : names_read(job, &names, err);
	if (r == 0)
		r = request_extensions(key, &names, wishes->extensions, extensions, err);
	if (r == 0) {
		*subject = names.subject;
		names.subject = NULL;
	}
	names_clear(&names);
	return r;
}

/* PrintableString where it fits: every CA reads that (RFC 2985 §5.4.1). */
static int add_challenge(X509_REQ *request, const char *challenge, struct error *err)
{
	const unsigned char *text = (const unsigned char *)challenge;
	size_t length = strlen(challenge);
	int type = ASN1_PRINTABLE_type(text, (int)length);

	if (length < 1 || length > 255 * 4)
		return error_set(err, -EINVAL, "challenge-password takes 1 to 255 characters");
	if (type != V_ASN1_PRINTABLESTRING)
		type = MBSTRING_UTF8;
	if (X509_REQ_add1_attr_by_NID(request, NID_pkcs9_challengePassword, type, text,
	                              (int)length))
		return 0;
	return error_openssl(err, -EINVAL, "the challenge-password cannot be put into a request");
}

static int request_fill(X509_REQ *request, EVP_PKEY *key, const struct record *job,
                        const struct csr_wishes *wishes, struct error *err)
{
	X509_EXTENSIONS *extensions = NULL;
	X509_NAME *subject = NULL;
	int r;

	r = csr_template(key, job, wishes, &subject, &extensions, err);
	if (r < 0)
		goto out;
	if (!X509_REQ_set_version(request, X509_REQ_VERSION_1) ||
	    !X509_REQ_set_subject_name(request, subject) || !X509_REQ_set_pubkey(request, key)) {
		r = error_openssl(err, -EINVAL, "the request cannot be made");
		goto out;
	}
	if (wishes->challenge)
		r = add_challenge(request, wishes->challenge, err);
	if (r == 0 && !X509_REQ_add_extensions(request, extensions))
		r = error_openssl(err, -EINVAL, "the request's extensions cannot be added");
out:
	X509_NAME_free(subject);
	sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
	return r;
}

int csr_make(struct signer *signer, EVP_PKEY *key, const struct record *job, bool with_challenge,
             X509_REQ **request, struct error *err)
{
	struct csr_wishes wishes = { 0 };

	if (with_challenge)
		wishes.challenge = record_get(job, "challenge-password");
	return csr_make_as(signer, key, job, &wishes, request, err);
}

int csr_make_as(struct signer *signer, EVP_PKEY *key, const struct record *job,
                const struct csr_wishes *wishes, X509_REQ **request, struct error *err)
{
	X509_REQ *new = X509_REQ_new();
	const EVP_MD *digest;
	int r;

	if (!new)
		return error_set(err, -ENOMEM, "out of memory");
	r = csr_digest(job, &digest, err);
	if (wishes->digest)
		digest = wishes->digest;
	if (r == 0)
		r = request_fill(new, key, job, wishes, err);
	if (r == 0)
		r = signer_sign_request(signer, key, new, digest, err);
	if (r < 0)
		X509_REQ_free(new);
	else
		*request = new;
	return r;
}

static bool random_serial(X509 *certificate)
{
	BIGNUM *number = BN_new();
	bool good;

	do
		good = number && BN_rand(number, SERIAL_BITS, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY);
	while (good && BN_is_zero(number));
	good = good && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate));
	BN_free(number);
	return good;
}

static int set_times(X509 *certificate, const struct record *job, struct error *err)
{
	long long now = record_number(job, "now", -1);
	long long days = record_number(job, "validity-period", DAYS_DEFAULT);

	if (now < 0)
		return error_set(err, -EINVAL, "the job does not say what time it is");
	if (days < 1 || days > DAYS_MAX)
		return error_set(err, -EINVAL, "validity-period takes 1 to %d days, not %lld",
		                 DAYS_MAX, days);
	if (!ASN1_TIME_adj(X509_getm_notBefore(certificate), (time_t)now, 0, 0) ||
	    !ASN1_TIME_adj(X509_getm_notAfter(certificate), (time_t)now, (int)days, 0))
		return error_openssl(err, -EINVAL, "the certificate's times cannot be written");
	return 0;
}

static int certificate_extensions(X509 *certificate, const EVP_PKEY *key, const struct names *names,
                                  bool ca, struct error *err)
{
	STACK_OF(X509_EXTENSION) *extensions = sk_X509_EXTENSION_new_null();
	X509V3_CTX context;
	bool good;

	X509V3_set_ctx(&context, certificate, certificate, NULL, NULL, 0);
	good = extensions &&
	       add_extension(extensions, &context, NID_basic_constraints,
	                     ca ? "critical,CA:TRUE" : "critical,CA:FALSE") &&
	       add_extension(extensions, &context, NID_key_usage,
	                     ca ? "critical,keyCertSign,cRLSign" : usual_key_usage(key)) &&
	       (ca ||
	        add_extension(extensions, &context, NID_ext_key_usage, "serverAuth,clientAuth")) &&
	       add_extension(extensions, &context, NID_subject_key_identifier, "hash") &&
	       add_alternative_names(extensions, names);
	for (int i = 0; good && i < sk_X509_EXTENSION_num(extensions); i++)
		good = X509_add_ext(certificate, sk_X509_EXTENSION_value(extensions, i), -1);
	sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
	return good ? 0 : error_openssl(err, -EINVAL, "the extensions cannot be made");
}

static int certificate_fill(X509 *certificate, EVP_PKEY *key, const struct record *job,
                            struct error *err)
{
	bool ca = record_is(job, "add-ca-constraint", "yes");
	struct names names = { 0 };
	int r;

	r = names_read(job, &names, err);
	if (r < 0)
		goto out;
	if (X509_NAME_entry_count(names.subject) == 0) {
		r = error_set(err, -EINVAL,
		              "a self-signed certificate needs a subject, or a "
		              "domain-name of up to 64 characters");
		goto out;
	}
	if (!X509_set_version(certificate, X509_VERSION_3) || !random_serial(certificate) ||
	    !X509_set_subject_name(certificate, names.subject) ||
	    !X509_set_issuer_name(certificate, names.subject) || !X509_set_pubkey(certificate, key))
		r = error_openssl(err, -EINVAL, "the certificate cannot be made");
	if (r == 0)
		r = set_times(certificate, job, err);
	if (r == 0)
		r = certificate_extensions(certificate, key, &names, ca, err);
out:
	names_clear(&names);
	return r;
}

int self_signed_make(struct signer *signer, EVP_PKEY *key, const struct record *job,
                     X509 **certificate, struct error *err)
{
	X509 *new = X509_new();
	const EVP_MD *digest;
	int r;

	if (!new)
		return error_set(err, -ENOMEM, "out of memory");
	r = csr_digest(job, &digest, err);
	if (r == 0)
		r = certificate_fill(new, key, job, err);
	if (r == 0)
		r = signer_sign_certificate(signer, key, new, digest, err);
	if (r < 0)
		X509_free(new);
	else
		*certificate = new;
	return r;
}
