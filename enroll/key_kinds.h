/*
 * The kinds of key that a CA wants requests for, against the one that we have.
 */
#ifndef PKIFS_KEY_KINDS_H
#define PKIFS_KEY_KINDS_H

#include "common/error.h"

#include <openssl/asn1.h>
#include <openssl/evp.h>

#define KEY_KINDS_MAX 16

/* Any of them will do; none: whatever it is. */
struct key_kinds {
	struct {
		int type; /* EVP_PKEY_RSA, EVP_PKEY_EC, EVP_PKEY_ED25519, 0: one that we don't know
		           */
		int bits; /* 0: any size */
	} list[KEY_KINDS_MAX];
	size_t count;
};

/* What is beyond the table's end is left out. */
void key_kinds_add(struct key_kinds *kinds, int type, int bits);

/* The type of keys of an algorithm (NID), or 0. */
int key_kind_type(int nid);

/* The bits of a curve that VALUE, an algorithm's parameters, names; -1: none of ours. */
int key_kind_curve(const ASN1_TYPE *value);

/* 0 where KEY is one of them, else -EINVAL with what to set. */
int key_kinds_check(const struct key_kinds *kinds, const EVP_PKEY *key, struct error *err);

#endif
