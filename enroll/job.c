#include "enroll/protocol.h"

#include "common/x509.h"

#include <errno.h>
#include <openssl/crypto.h>

EVP_PKEY *job_new_key(const struct job *job, struct error *err)
{
	const struct field *public = record_find(job->settings, "public");

	if (public)
		return signer_key(job->worker->signer, "new", public->value, public->length, err);
	error_set(err, -EINVAL, "the job has no public key");
	return NULL;
}

EVP_PKEY *job_key_of(const struct job *job, const X509 *certificate, struct error *err)
{
	unsigned char *spki = NULL;
	int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &spki);
	EVP_PKEY *key = NULL;

	if (size > 0)
		key = signer_key(job->worker->signer, "current", spki, (size_t)size, err);
	else
		error_openssl(err, -EINVAL, "the public key cannot be encoded");
	OPENSSL_free(spki);
	return key;
}

X509 *field_certificate(const struct field *field, const char *what, struct error *err)
{
	X509 *certificate = field ? certificate_from_der(field->value, field->length, NULL) : NULL;

	if (!certificate)
		error_set(err, -EINVAL, "the job has no readable %s", what);
	return certificate;
}
