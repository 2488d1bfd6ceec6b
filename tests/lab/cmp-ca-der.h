/*
 * CMP messages in parts, to be put together otherwise than OpenSSL does.
 */
#ifndef CMP_CA_DER_H
#define CMP_CA_DER_H

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <stdbool.h>

/* A part of a message: its DER with tag and length, and what is in it. */
struct part {
	const unsigned char *at, *content;
	long whole, length;
};

/* The part at *AT, which is moved behind it. */
bool next_part(const unsigned char **at, const unsigned char *end, struct part *part);

/* The directoryName that a message (DER) is addressed to, the caller's; NULL: there is none. */
X509_NAME *recipient_of(const unsigned char *der, size_t length);

/* Tag and length of a constructed value. */
void put_head(BIO *out, int tag, int class, long length);

/*
 * MESSAGE (freed) in DER, protected anew as its header says: with a MAC by SECRET, or signed by
 * KEY. What comes behind the protection stays.
 */
BIO *protect(BIO *message, const char *secret, EVP_PKEY *key);

#endif
