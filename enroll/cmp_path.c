#include "enroll/cmp_path.h"

#include "common/x509.h"
#include "enroll/cmp_answer.h"

#include <errno.h>
#include <openssl/err.h>

#define PATH_MAX_LENGTH 20

/* Adds to PATH those of POOL that may stand above what is in it, by their names. */
static bool add_above(STACK_OF(X509) * path, STACK_OF(X509) * pool)
{
	for (int i = 0; i < sk_X509_num(path); i++) {
		const X509_NAME *issuer = X509_get_issuer_name(sk_X509_value(path, i));

		for (int k = 0; k < sk_X509_num(pool) && sk_X509_num(path) < PATH_MAX_LENGTH; k++) {
			X509 *certificate = sk_X509_value(pool, k);

			if (X509_NAME_cmp(X509_get_subject_name(certificate), issuer) == 0 &&
			    !X509_add_cert(path, certificate,
			                   X509_ADD_FLAG_UP_REF | X509_ADD_FLAG_NO_DUP))
				return false;
		}
	}
	return true;
}

/* All certificates of RECORD in the fields KEY that can be read. */
static STACK_OF(X509) * read_all(const struct record *record, const char *key)
{
	STACK_OF(X509) *found = sk_X509_new_null();
	const struct field *field;
	size_t index = 0;

	while (found && (field = record_next(record, key, &index))) {
		X509 *certificate = certificate_from_der(field->value, field->length, NULL);

		if (certificate && !sk_X509_push(found, certificate))
			X509_free(certificate);
	}
	return found;
}

/*
 * The MAC vouches for caPubs (RFC 4210 §5.3.2) and for what was told in a message of its own, never
 * for extraCerts, which lie outside it.
 */
int cmp_path_read(const struct cmp_client *client, const OSSL_CMP_MSG *answer,
                  const struct record *kept, struct cmp_path *path)
{
	STACK_OF(X509) *publish = OSSL_CMP_CTX_get1_caPubs(client->context);
	STACK_OF(X509) *extra = OSSL_CMP_CTX_get1_extraCertsIn(client->context);
	STACK_OF(X509) *told = read_all(kept, "resume-told"), *all = sk_X509_new_null();
	X509 *certificate = OSSL_CMP_CTX_get0_newCert(client->context);
	const int shared = X509_ADD_FLAG_UP_REF;
	bool good;

	*path = (struct cmp_path){ .path = sk_X509_new_null(),
		                   .published = sk_X509_new_null(),
		                   .by_secret = cmp_proven_by_secret(answer, client->secret) };
	good = path->path && path->published && told && all && X509_add_certs(all, publish, 0) &&
	       X509_add_certs(all, told, 0) && X509_add_certs(all, extra, 0) &&
	       (!certificate || X509_add_cert(path->path, certificate, shared)) &&
	       add_above(path->path, all) &&
	       (!path->by_secret || X509_add_certs(path->published, publish, shared)) &&
	       (!record_is(kept, "resume-told-by", "secret") ||
	        X509_add_certs(path->published, told, shared));
	sk_X509_free(all);
	sk_X509_pop_free(publish, X509_free);
	sk_X509_pop_free(extra, X509_free);
	sk_X509_pop_free(told, X509_free);
	return good ? 0 : -ENOMEM;
}

void cmp_path_clear(struct cmp_path *path)
{
	sk_X509_pop_free(path->path, X509_free);
	sk_X509_pop_free(path->published, X509_free);
}

bool cmp_path_is_whole(const struct cmp_path *path, const struct record *settings)
{
	static const char *const known[] = { "ca", "chain" };
	X509 *top = sk_X509_value(path->path, sk_X509_num(path->path) - 1);
	bool whole = X509_self_signed(top, 0) == 1;

	for (size_t i = 0; !whole && i < COUNT(known); i++) {
		STACK_OF(X509) *issuers = read_all(settings, known[i]);

		whole = certificate_issuer(top, issuers) != NULL;
		sk_X509_pop_free(issuers, X509_free);
	}
	ERR_clear_error();
	return whole;
}

void cmp_path_add(const struct cmp_path *path, struct record *record)
{
	for (int i = 0; i < sk_X509_num(path->path); i++) {
		X509 *certificate = sk_X509_value(path->path, i);

		certificate_add(record, "certificate", certificate);
		if (i > 0 && certificate_is_in(certificate, path->published))
			certificate_add(record, "published", certificate);
	}
	record_add(record, "proven-by", path->by_secret ? "secret" : "signature");
}
