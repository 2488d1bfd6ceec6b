#include "tests/lab/lab-auth.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

unsigned char *lab_base64_read(const char *text, size_t length, int *size)
{
	unsigned char *out = malloc(length + 4);
	EVP_ENCODE_CTX *decoder = EVP_ENCODE_CTX_new();
	int rest = 0;

	EVP_DecodeInit(decoder);
	if (EVP_DecodeUpdate(decoder, out, size, (const unsigned char *)text, (int)length) < 0 ||
	    EVP_DecodeFinal(decoder, out + *size, &rest) < 0)
		*size = rest = 0;
	*size += rest;
	EVP_ENCODE_CTX_free(decoder);
	return out;
}

static void hash(const char *algorithm, const char *words, char *hex)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned length = 0;

	EVP_Digest(words, strlen(words), digest, &length, EVP_get_digestbyname(algorithm), NULL);
	for (unsigned i = 0; i < length; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

/* The value of NAME in the parameters of Digest; "" where it is not there. */
static const char *parameter(const char *header, const char *name, char *value, size_t size)
{
	char pattern[32];
	const char *at;

	snprintf(pattern, sizeof pattern, " %s=", name);
	at = strstr(header, pattern);
	*value = '\0';
	if (at) {
		at += strlen(pattern);
		at += *at == '"';
		snprintf(value, size, "%.*s", (int)strcspn(at, "\","), at);
	}
	return value;
}

bool lab_digest_right(const char *header, const struct lab_request *request,
                      const struct lab_user *user)
{
	char value[5][200], words[1000], one[65], two[65], wanted[65], given[100];

	snprintf(words, sizeof words, "%s:est:%s", user->name, user->password);
	hash("MD5", words, one);
	snprintf(words, sizeof words, "%s:%s", request->post ? "POST" : "GET",
	         parameter(header, "uri", value[0], sizeof value[0]));
	hash("MD5", words, two);
	snprintf(words, sizeof words, "%s:%s:%s:%s:%s:%s", one,
	         parameter(header, "nonce", value[1], sizeof value[1]),
	         parameter(header, "nc", value[2], sizeof value[2]),
	         parameter(header, "cnonce", value[3], sizeof value[3]),
	         parameter(header, "qop", value[4], sizeof value[4]), two);
	hash("MD5", words, wanted);
	return strcmp(value[1], user->nonce) == 0 && strcmp(value[0], request->target) == 0 &&
	       strcmp(parameter(header, "response", given, sizeof given), wanted) == 0;
}

bool lab_basic_right(const char *header, const struct lab_user *user)
{
	unsigned char *given;
	char wanted[300];
	bool right;
	int length;

	if (strncmp(header, "Basic ", 6) != 0)
		return false;
	snprintf(wanted, sizeof wanted, "%s:%s", user->name, user->password);
	given = lab_base64_read(header + 6, strlen(header + 6), &length);
	right = (size_t)length == strlen(wanted) && memcmp(given, wanted, (size_t)length) == 0;
	free(given);
	return right;
}
