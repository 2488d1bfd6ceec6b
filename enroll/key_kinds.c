#include "enroll/key_kinds.h"

#include "common/x509.h"

#include <errno.h>

void key_kinds_add(struct key_kinds *kinds, int type, int bits)
{
	if (kinds->count == KEY_KINDS_MAX)
		return;
	kinds->list[kinds->count].type = type;
	kinds->list[kinds->count++].bits = bits;
}

int key_kind_type(int nid)
{
	return nid == EVP_PKEY_EC || nid == EVP_PKEY_RSA || nid == EVP_PKEY_ED25519 ? nid : 0;
}

int key_kind_curve(const ASN1_TYPE *value)
{
	static const struct {
		int nid, bits;
	} curves[] = { { NID_X9_62_prime256v1, 256 },
		       { NID_secp384r1, 384 },
		       { NID_secp521r1, 521 } };
	int nid = value->type == V_ASN1_OBJECT ? OBJ_obj2nid(value->value.object) : NID_undef;

	for (size_t i = 0; i < COUNT(curves); i++)
		if (curves[i].nid == nid)
			return curves[i].bits;
	return -1;
}

static const char *type_name(int type)
{
	return type == EVP_PKEY_EC ? "ecdsa" : type == EVP_PKEY_RSA ? "rsa" : "ed25519";
}

int key_kinds_check(const struct key_kinds *kinds, const EVP_PKEY *key, struct error *err)
{
	char have[40], size[40] = "";
	size_t known = 0; /* the first kind that we could make */

	if (!kinds->count)
		return 0;
	for (size_t i = 0; i < kinds->count; i++)
		if (kinds->list[i].type == EVP_PKEY_get_base_id(key) &&
		    (!kinds->list[i].bits || kinds->list[i].bits == EVP_PKEY_get_bits(key)))
			return 0;
	key_describe(key, have, sizeof have);
	while (known < kinds->count && !kinds->list[known].type)
		known++;
	if (known == kinds->count)
		return error_set(err, -EINVAL,
		                 "the CA wants a kind of key that pkifs does not know, not %s",
		                 have);
	if (kinds->list[known].bits)
		snprintf(size, sizeof size, " and key-size = %d", kinds->list[known].bits);
	return error_set(err, -EINVAL,
	                 "the CA does not want a key of %s: set key-type = %s%s, and request "
	                 "generate-key-pair",
	                 have, type_name(kinds->list[known].type), size);
}
