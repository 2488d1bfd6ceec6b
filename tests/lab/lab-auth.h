/* HTTP's ways to say who one is: Basic (RFC 7617) and Digest (RFC 7616, MD5 with qop=auth). */
#ifndef LAB_AUTH_H
#define LAB_AUTH_H

#include "tests/lab/lab-http.h"

#include <stddef.h>

struct lab_user {
	const char *name, *password;
	char nonce[33]; /* that Digest is offered with */
};

/* Whether HEADER (an Authorization) is USER's; of Digest, for REQUEST. */
bool lab_basic_right(const char *header, const struct lab_user *user);
bool lab_digest_right(const char *header, const struct lab_request *request,
                      const struct lab_user *user);

/* Decodes TEXT with or without line ends. The caller frees it (free). */
unsigned char *lab_base64_read(const char *text, size_t length, int *size);

#endif
