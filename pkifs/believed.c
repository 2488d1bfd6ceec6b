#include "pkifs/believed.h"

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
};

static struct believed *all;
static size_t count;

void believed_forget(void)
{
	struct believed *next;

	for (; all; all = next) {
		next = all->next;
		free(all);
	}
	count = 0;
}

static struct believed *find(int64_t profile, const unsigned char *digest)
{
	struct believed *one = all;

	while (one &&
	       (one->profile != profile || memcmp(one->digest, digest, sizeof one->digest) != 0))
		one = one->next;
	return one;
}

bool believed_still(int64_t profile, X509 *leaf, int64_t now)
{
	unsigned char digest[SHA256_DIGEST_LENGTH];
	const struct believed *one;

	if (X509_digest(leaf, EVP_sha256(), digest, NULL) != 1)
		return false;
	one = find(profile, digest);
	return one && now >= one->from && now < one->until;
}

void believed_note(int64_t profile, const struct path_answer *answer, int64_t now)
{
	struct believed new = { .profile = profile, .from = now, .until = now + SECONDS };
	struct believed *one;

	if (X509_digest(answer->steps[0].certificate, EVP_sha256(), new.digest, NULL) != 1)
		return;
	for (int i = 0; i < answer->count; i++) {
		int64_t end = asn1_time_seconds(X509_get0_notAfter(answer->steps[i].certificate));

		new.until = end < new.until ? end : new.until;
	}
	one = find(profile, new.digest);
	if (!one && count >= MOST)
		believed_forget();
	if (!one && (one = malloc(sizeof *one))) {
		new.next = all;
		all = one;
		count++;
	} else if (one) {
		new.next = one->next;
	}
	if (one)
		*one = new;
}
