#include "pkifs/believed.h"

#include "common/stubcrl.h"
#include "common/x509.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

#define SECONDS 60   /* by then a CRL may have ended */
#define MOST    8192 /* there are not so many tunnels */

struct believed {
	struct believed *next;
	int64_t profile, from, until;
	unsigned char digest[SHA256_DIGEST_LENGTH]; /* of the leaf */
	STACK_OF(X509) * path;                      /* the leaf and all above it */
};

static struct believed *all;
static size_t count;

/* The one at *AT goes. */
static void drop(struct believed **at)
{
	struct believed *one = *at;

	*at = one->next;
	sk_X509_pop_free(one->path, X509_free);
	free(one);
	count--;
}

bool believed_any(void)
{
	return all;
}

void believed_forget(void)
{
	while (all)
		drop(&all);
}

static bool is_in(X509_CRL *crl, STACK_OF(X509) * path)
{
	struct crl_entry entry;

	for (int i = 0; i < sk_X509_num(path); i++) {
		X509 *one = sk_X509_value(path, i);

		if (stub_crl_find(crl, X509_get0_serialNumber(one), X509_get_issuer_name(one),
		                  &entry) != 0) /* or it cannot be looked up */
			return true;
	}
	return false;
}

void believed_hear(X509_CRL *crl)
{
	struct believed **at = &all;

	while (*at)
		if (is_in(crl, (*at)->path))
			drop(at);
		else
			at = &(*at)->next;
}

static struct believed **find(int64_t profile, const unsigned char *digest)
{
	struct believed **at = &all;

	while (*at && ((*at)->profile != profile ||
	               memcmp((*at)->digest, digest, sizeof(*at)->digest) != 0))
		at = &(*at)->next;
	return at;
}

bool believed_still(int64_t profile, X509 *leaf, int64_t now)
{
	unsigned char digest[SHA256_DIGEST_LENGTH];
	const struct believed *one;

	if (X509_digest(leaf, EVP_sha256(), digest, NULL) != 1)
		return false;
	one = *find(profile, digest);
	return one && now >= one->from && now < one->until;
}

void believed_note(int64_t profile, const struct path_answer *answer, int64_t now)
{
	struct believed *new = calloc(1, sizeof *new), **old;

	if (!new)
		return;
	*new = (struct believed){ .profile = profile, .from = now, .until = now + SECONDS };
	new->path = path_issuers(answer);
	if (!new->path ||
	    X509_digest(answer->steps[0].certificate, EVP_sha256(), new->digest, NULL) != 1 ||
	    !X509_add_cert(new->path, answer->steps[0].certificate, X509_ADD_FLAG_UP_REF)) {
		sk_X509_pop_free(new->path, X509_free);
		free(new);
		return;
	}
	for (int i = 0; i < answer->count; i++) {
		int64_t end = asn1_time_seconds(X509_get0_notAfter(answer->steps[i].certificate));

		new->until = end < new->until ? end : new->until;
	}
	old = find(profile, new->digest);
	if (*old)
		drop(old);
	else if (count >= MOST)
		believed_forget();
	new->next = all;
	all = new;
	count++;
}
