/* The keys that were found, as objects: what they are, and who looks for them. */
#include "pkcs11/module.h"

#include "pkcs11/call.h"

#include <stdlib.h>
#include <string.h>

/* Handles are indices and one; a key's public half has an odd handle, its private half the next. */
static struct {
	struct record **keys;
	size_t key_count;
} o;

const struct record *object_key(CK_OBJECT_HANDLE handle)
{
	return handle >= 1 && handle <= 2 * o.key_count ? o.keys[(handle - 1) / 2] : NULL;
}

bool object_is_private(CK_OBJECT_HANDLE handle)
{
	return handle % 2 == 0;
}

bool key_is_ec(const struct record *key)
{
	return record_find(key, "ec-point") != NULL;
}

void objects_free(void)
{
	for (size_t i = 0; i < o.key_count; i++)
		record_free(o.keys[i]);
	free(o.keys);
	objects_lose();
}

void objects_lose(void)
{
	o.keys = NULL;
	o.key_count = 0;
}

/* An attribute's value; BYTES may be one of the others. */
struct value {
	const void *bytes;
	size_t length;
	CK_ULONG number;
	CK_BBOOL flag;
};

static bool number(struct value *value, CK_ULONG is)
{
	value->number = is;
	value->bytes = &value->number;
	value->length = sizeof value->number;
	return true;
}

static bool flag(struct value *value, bool is)
{
	value->flag = is;
	value->bytes = &value->flag;
	value->length = sizeof value->flag;
	return true;
}

/* False: the object has none of that TYPE. Locked. */
static bool get_value(CK_OBJECT_HANDLE handle, CK_ATTRIBUTE_TYPE type, struct value *value)
{
	static const struct {
		CK_ATTRIBUTE_TYPE type;
		const char *name;
	} fields[] = {
		{ CKA_ID, "id" },
		{ CKA_LABEL, "label" },
		{ CKA_MODULUS, "modulus" },
		{ CKA_PUBLIC_EXPONENT, "exponent" },
		{ CKA_EC_PARAMS, "ec-params" },
		{ CKA_EC_POINT, "ec-point" },
	};
	const struct record *key = object_key(handle);
	const struct field *field = NULL;

	for (size_t i = 0; i < COUNT(fields); i++)
		if (fields[i].type == type)
			field = record_find(key, fields[i].name);
	if (field) {
		value->bytes = field->value;
		value->length = field->length;
		return true;
	}
	switch (type) {
	case CKA_CLASS:
		return number(value, object_is_private(handle) ? CKO_PRIVATE_KEY : CKO_PUBLIC_KEY);
	case CKA_KEY_TYPE:
		return number(value, key_is_ec(key) ? CKK_EC : CKK_RSA);
	case CKA_MODULUS_BITS:
		field = record_find(key, "modulus");
		return field && number(value, 8 * field->length);
	case CKA_TOKEN:
		return flag(value, true);
	case CKA_SIGN:
	case CKA_PRIVATE:
	case CKA_SENSITIVE:
	case CKA_ALWAYS_SENSITIVE:
		return flag(value, object_is_private(handle));
	case CKA_ALWAYS_AUTHENTICATE:
	case CKA_MODIFIABLE:
	case CKA_EXTRACTABLE:
	case CKA_DECRYPT:
		return flag(value, false);
	default:
		return false;
	}
}

static bool matches(CK_OBJECT_HANDLE handle, const CK_ATTRIBUTE *template, CK_ULONG count)
{
	struct value value;

	for (CK_ULONG i = 0; i < count; i++)
		if (!get_value(handle, template[i].type, &value) ||
		    value.length != template[i].ulValueLen ||
		    memcmp(value.bytes, template[i].pValue, value.length) != 0)
			return false;
	return true;
}

/* The index of a key that was found (taken over), or -1. Locked. */
static long keep_key(struct record *key)
{
	const struct field *id = record_find(key, "id"), *has;
	struct record **keys;

	for (size_t i = 0; id && i < o.key_count; i++) {
		has = record_find(o.keys[i], "id");
		if (has->length == id->length && memcmp(has->value, id->value, id->length) == 0) {
			record_free(key);
			return (long)i;
		}
	}
	keys = id ? realloc(o.keys, (o.key_count + 1) * sizeof *keys) : NULL;
	if (!keys) {
		record_free(key);
		return -1;
	}
	o.keys = keys;
	keys[o.key_count] = key;
	return (long)o.key_count++;
}

/* Those halves of KEY that TEMPLATE means. Locked. */
static void found_key(struct session *session, struct record *key, const CK_ATTRIBUTE *template,
                      CK_ULONG count)
{
	long index = keep_key(key);

	for (unsigned half = 1; index >= 0 && half <= 2; half++) {
		CK_OBJECT_HANDLE handle = 2 * (CK_ULONG)index + half;

		if (matches(handle, template, count))
			session->found[session->found_count++] = handle;
	}
}

static const CK_ATTRIBUTE *find_attribute(const CK_ATTRIBUTE *template, CK_ULONG count,
                                          CK_ATTRIBUTE_TYPE type)
{
	for (CK_ULONG i = 0; i < count; i++)
		if (template[i].type == type)
			return &template[i];
	return NULL;
}

/* NULL: pkifs cannot be asked. Only keys are here: nobody is asked for anything else. */
static struct record *ask_find(const CK_ATTRIBUTE *template, CK_ULONG count)
{
	const CK_ATTRIBUTE *id = find_attribute(template, count, CKA_ID);
	const CK_ATTRIBUTE *class = find_attribute(template, count, CKA_CLASS);
	struct record *question = record_new();
	CK_OBJECT_CLASS wanted = CKO_PUBLIC_KEY;

	if (class && class->ulValueLen == sizeof wanted)
		memcpy(&wanted, class->pValue, sizeof wanted);
	if (!question || (wanted != CKO_PUBLIC_KEY && wanted != CKO_PRIVATE_KEY))
		return question;
	record_add(question, "frame", "find");
	if (id)
		record_add_bytes(question, "id", id->pValue, id->ulValueLen);
	return call(question);
}

CK_RV find_objects_init(CK_SESSION_HANDLE handle, CK_ATTRIBUTE *template, CK_ULONG count)
{
	struct record *answer, *key;
	const struct field *field;
	struct session *session;
	CK_RV rv;

	if (!session_take(handle, &rv))
		return rv;
	session_give(CKR_OK);
	answer = ask_find(template, count);
	session = answer ? session_take(handle, &rv) : NULL;
	if (!session) {
		record_free(answer);
		return answer ? rv : CKR_DEVICE_ERROR;
	}
	if (session->finding) {
		record_free(answer);
		return session_give(CKR_OPERATION_ACTIVE);
	}
	session->found = calloc(2 * record_count(answer) + 1, sizeof *session->found);
	for (size_t i = 0; session->found && (field = record_next(answer, "key", &i)) != NULL;)
		if (record_decode((const unsigned char *)field->value, field->length, &key) == 0)
			found_key(session, key, template, count);
	session->finding = session->found != NULL;
	record_free(answer);
	return session_give(session->finding ? CKR_OK : CKR_HOST_MEMORY);
}

CK_RV find_objects(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE *objects, CK_ULONG most,
                   CK_ULONG *count)
{
	CK_RV rv;
	struct session *session = session_take(handle, &rv);

	if (!session)
		return rv;
	if (!session->finding)
		return session_give(CKR_OPERATION_NOT_INITIALIZED);
	for (*count = 0; *count < most && session->found_next < session->found_count; ++*count)
		objects[*count] = session->found[session->found_next++];
	return session_give(CKR_OK);
}

CK_RV find_objects_final(CK_SESSION_HANDLE handle)
{
	CK_RV rv;
	struct session *session = session_take(handle, &rv);

	if (!session)
		return rv;
	rv = session->finding ? CKR_OK : CKR_OPERATION_NOT_INITIALIZED;
	free(session->found);
	session->found = NULL;
	session->found_count = session->found_next = 0;
	session->finding = false;
	return session_give(rv);
}

static CK_RV put_value(CK_OBJECT_HANDLE handle, CK_ATTRIBUTE *to)
{
	struct value value;

	if (!get_value(handle, to->type, &value)) {
		to->ulValueLen = CK_UNAVAILABLE_INFORMATION;
		return CKR_ATTRIBUTE_TYPE_INVALID;
	}
	if (to->pValue && to->ulValueLen < value.length) {
		to->ulValueLen = CK_UNAVAILABLE_INFORMATION;
		return CKR_BUFFER_TOO_SMALL;
	}
	if (to->pValue)
		memcpy(to->pValue, value.bytes, value.length);
	to->ulValueLen = value.length;
	return CKR_OK;
}

CK_RV get_attribute_value(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE object, CK_ATTRIBUTE *template,
                          CK_ULONG count)
{
	CK_RV rv, all = CKR_OK;

	if (!session_take(handle, &rv))
		return rv;
	if (!object_key(object))
		return session_give(CKR_OBJECT_HANDLE_INVALID);
	for (CK_ULONG i = 0; i < count; i++) {
		rv = put_value(object, &template[i]);
		all = rv == CKR_OK ? all : rv;
	}
	return session_give(all);
}
