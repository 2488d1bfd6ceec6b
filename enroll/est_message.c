#include "enroll/est_message.h"

#include "enroll/certs_only.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <string.h>

char *est_base64(const unsigned char *bytes, size_t length)
{
	unsigned char *text = OPENSSL_malloc(4 * ((length + 2) / 3) + 1);

	if (text)
		EVP_EncodeBlock(text, bytes, (int)length);
	return (char *)text;
}

/* TEXT without its white space; *SIZE is what is left. NULL: no memory. */
static unsigned char *squeeze(const char *text, size_t length, size_t *size)
{
	unsigned char *clean = OPENSSL_malloc(length + 1);

	*size = 0;
	for (size_t i = 0; clean && i < length; i++)
		if (!strchr(" \t\r\n", text[i]) || !text[i])
			clean[(*size)++] = (unsigned char)text[i];
	return clean;
}

int est_base64_read(const char *text, size_t length, unsigned char **bytes, size_t *size,
                    struct error *err)
{
	size_t left, padding = 0;
	unsigned char *clean = squeeze(text, length, &left);
	int got = -1;

	if (!clean)
		return error_set(err, -ENOMEM, "no memory");
	while (padding < 2 && padding < left && clean[left - 1 - padding] == '=')
		padding++;
	*bytes = OPENSSL_malloc(left + 1);
	/* EVP_DecodeBlock takes a '=' anywhere, for no bits at all */
	if (*bytes && !memchr(clean, '=', left - padding))
		got = EVP_DecodeBlock(*bytes, clean, (int)left);
	OPENSSL_free(clean);
	/* it drops dashes at the end: then a part is missing */
	if (got >= 0 && (size_t)got == left / 4 * 3 && left % 4 == 0) {
		*size = (size_t)got - padding;
		return 0;
	}
	ERR_clear_error();
	OPENSSL_free(*bytes);
	*bytes = NULL;
	if (text[strspn(text, " \t\r\n")] == '<')
		return error_set(err, -EBADMSG,
		                 "the server sends an HTML page: is the enrollment-url right?");
	return error_set(err, -EBADMSG, "what the server sends (%zu bytes) is no base64", length);
}

int est_certificates_read(const char *text, size_t length, STACK_OF(X509) * *certificates,
                          struct error *err)
{
	unsigned char *der = NULL;
	PKCS7 *bundle = NULL;
	PKCS7_SIGNED *content;
	size_t size = 0;
	int r = est_base64_read(text, length, &der, &size, err);

	if (r < 0)
		return r;
	content = certs_only_open(&bundle, der, size);
	r = content ? certs_only_take(content, certificates, err)
	            : error_set(err, -EBADMSG, "what the server sends is no certs-only message");
	PKCS7_free(bundle);
	OPENSSL_free(der);
	ERR_clear_error();
	return r;
}

static bool is_self_issued(const X509 *certificate)
{
	return X509_NAME_cmp(X509_get_subject_name(certificate),
	                     X509_get_issuer_name(certificate)) == 0;
}

static bool ends_before(const X509 *one, const X509 *other)
{
	return ASN1_TIME_compare(X509_get0_notAfter(one), X509_get0_notAfter(other)) < 0;
}

/* Whether CERTIFICATE is a root of old, or ties two roots, beside a newer root of its name. */
static bool is_superseded(X509 *certificate, STACK_OF(X509) * all)
{
	bool root = X509_self_signed(certificate, 1) == 1, superseded = false;

	for (int i = 0; !superseded && i < sk_X509_num(all); i++) {
		X509 *other = sk_X509_value(all, i);

		superseded = other != certificate &&
		             X509_NAME_cmp(X509_get_subject_name(other),
		                           X509_get_subject_name(certificate)) == 0 &&
		             X509_self_signed(other, 1) == 1 &&
		             (!root || ends_before(certificate, other));
	}
	return superseded;
}

int est_ca_certificates_read(const char *text, size_t length, STACK_OF(X509) * *certificates,
                             struct error *err)
{
	STACK_OF(X509) *all = NULL;
	bool whole;
	int r = est_certificates_read(text, length, &all, err);

	if (r < 0)
		return r;
	*certificates = sk_X509_new_null();
	whole = *certificates != NULL;
	for (int i = 0; whole && i < sk_X509_num(all); i++) {
		X509 *certificate = sk_X509_value(all, i);

		if (!is_self_issued(certificate) || !is_superseded(certificate, all))
			whole = X509_add_cert(*certificates, certificate, X509_ADD_FLAG_UP_REF);
	}
	sk_X509_pop_free(all, X509_free);
	ERR_clear_error();
	if (whole)
		return 0;
	sk_X509_pop_free(*certificates, X509_free);
	*certificates = NULL;
	return error_set(err, -ENOMEM, "no memory");
}
