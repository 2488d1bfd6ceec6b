#include "enroll/certs_only.h"

#include <errno.h>
#include <openssl/x509.h>

PKCS7_SIGNED *certs_only_open(PKCS7 **bundle, const void *der, size_t length)
{
	const unsigned char *at = der;

	*bundle = d2i_PKCS7(NULL, &at, (long)length);
	if (!*bundle || at != (const unsigned char *)der + length || !PKCS7_type_is_signed(*bundle))
		return NULL;
	return (*bundle)->d.sign;
}

int certs_only_take(const PKCS7_SIGNED *content, STACK_OF(X509) * *certificates, struct error *err)
{
	int count = sk_X509_num(content->cert);

	if (count <= 0)
		return error_set(err, -EBADMSG, "the answer holds no certificate");
	if (count > CERTS_ONLY_MAX)
		return error_set(err, -EBADMSG, "the answer holds %d certificates, more than %d",
		                 count, CERTS_ONLY_MAX);
	*certificates = X509_chain_up_ref(content->cert);
	return *certificates ? 0 : error_set(err, -ENOMEM, "no memory");
}
