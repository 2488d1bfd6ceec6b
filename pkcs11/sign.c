/* Signatures: by which mechanisms, and each by a call of its own. */
#include "pkcs11/module.h"

#include "pkcs11/call.h"

#include <string.h>

#define SIGN_BYTES 60000 /* the longest data that are signed over a digest */

static const struct mechanism {
	CK_MECHANISM_TYPE type;
	bool ec;
	const char *digest; /* NULL: what is signed is one */
	CK_ULONG least, most;
} mechanisms[] = {
	{ CKM_SHA256_RSA_PKCS, false, "sha256", 2048, 8192 },
	{ CKM_SHA384_RSA_PKCS, false, "sha384", 2048, 8192 },
	{ CKM_SHA512_RSA_PKCS, false, "sha512", 2048, 8192 },
	{ CKM_ECDSA, true, NULL, 256, 521 },
	{ CKM_ECDSA_SHA256, true, "sha256", 256, 521 },
	{ CKM_ECDSA_SHA384, true, "sha384", 256, 521 },
	{ CKM_ECDSA_SHA512, true, "sha512", 256, 521 },
};

CK_RV get_mechanism_list(CK_SLOT_ID slot, CK_MECHANISM_TYPE *types, CK_ULONG *count)
{
	CK_RV rv = slot_check(slot);
	bool fits = types && *count >= COUNT(mechanisms);

	if (rv != CKR_OK)
		return rv;
	for (size_t i = 0; fits && i < COUNT(mechanisms); i++)
		types[i] = mechanisms[i].type;
	*count = COUNT(mechanisms);
	return types && !fits ? CKR_BUFFER_TOO_SMALL : CKR_OK;
}

static const struct mechanism *find_mechanism(CK_MECHANISM_TYPE type)
{
	for (size_t i = 0; i < COUNT(mechanisms); i++)
		if (mechanisms[i].type == type)
			return &mechanisms[i];
	return NULL;
}

CK_RV get_mechanism_info(CK_SLOT_ID slot, CK_MECHANISM_TYPE type, CK_MECHANISM_INFO *info)
{
	const struct mechanism *mechanism = find_mechanism(type);
	CK_RV rv = slot_check(slot);

	if (rv == CKR_OK && !mechanism)
		rv = CKR_MECHANISM_INVALID;
	if (rv == CKR_OK)
		*info = (CK_MECHANISM_INFO){ .ulMinKeySize = mechanism->least,
			                     .ulMaxKeySize = mechanism->most,
			                     .flags = CKF_SIGN };
	return rv;
}

CK_RV sign_init(CK_SESSION_HANDLE handle, CK_MECHANISM *given, CK_OBJECT_HANDLE object)
{
	const struct mechanism *mechanism = find_mechanism(given->mechanism);
	const struct record *key;
	CK_RV rv;
	struct session *session = session_take(handle, &rv);

	if (!session)
		return rv;
	key = object_key(object);
	if (session->key)
		return session_give(CKR_OPERATION_ACTIVE);
	if (!mechanism)
		return session_give(CKR_MECHANISM_INVALID);
	if (!key || !object_is_private(object))
		return session_give(CKR_KEY_HANDLE_INVALID);
	if (key_is_ec(key) != mechanism->ec)
		return session_give(CKR_KEY_TYPE_INCONSISTENT);
	session->key = object;
	session->mechanism = mechanism;
	return session_give(CKR_OK);
}

/* What asks for a signature of DATA by the session's key. Locked. */
static struct record *sign_question(const struct session *session, const void *data, size_t length)
{
	const struct field *id = record_find(object_key(session->key), "id");
	struct record *question = record_new();

	if (!question)
		return NULL;
	record_add(question, "frame", "sign");
	record_add_bytes(question, "id", id->value, id->length);
	record_add_bytes(question, "data", data, length);
	if (session->mechanism->digest)
		record_add(question, "digest", session->mechanism->digest);
	return question;
}

static CK_RV take_signature(const struct record *answer, unsigned char *signature, CK_ULONG *length)
{
	const struct field *data = answer ? record_find(answer, "data") : NULL;

	if (!data) /* it is pkifs' log that tells why */
		return answer ? CKR_FUNCTION_FAILED : CKR_DEVICE_ERROR;
	if (data->length > *length)
		return CKR_DEVICE_ERROR;
	memcpy(signature, data->value, data->length);
	*length = data->length;
	return CKR_OK;
}

/* Asked for the size, or with too little room, it goes on; else the operation has ended. */
CK_RV sign(CK_SESSION_HANDLE handle, unsigned char *data, CK_ULONG length, unsigned char *signature,
           CK_ULONG *signature_length)
{
	struct record *question = NULL, *answer;
	CK_ULONG size;
	CK_RV rv;
	struct session *session = session_take(handle, &rv);

	if (!session)
		return rv;
	if (!session->key)
		return session_give(CKR_OPERATION_NOT_INITIALIZED);
	size = (CK_ULONG)record_number(object_key(session->key), "signature-size", 0);
	if (!signature || *signature_length < size) {
		rv = signature ? CKR_BUFFER_TOO_SMALL : CKR_OK;
		*signature_length = size;
		return session_give(rv);
	}
	if (length <= SIGN_BYTES)
		question = sign_question(session, data, length);
	session->key = 0;
	session_give(CKR_OK);
	if (!question)
		return length > SIGN_BYTES ? CKR_DATA_LEN_RANGE : CKR_HOST_MEMORY;
	answer = call(question);
	rv = take_signature(answer, signature, signature_length);
	record_free(answer);
	return rv;
}
