/*
 * pkifs-pkcs11.so: private keys that stay in pkifs, for a program that speaks PKCS#11 2.40, such as
 * strongSwan's charon. One token; its objects are the public and the private halves of the keys of
 * certificate ids that tunnels use (CKA_ID: subject key identifier; CKA_LABEL: certificate id).
 * All that is kept here is what was found; each look and each signature is a call of its own
 * (pkcs11/call.h), so there is nothing that a restart of pkifs could lose.
 */
#include "pkcs11/call.h"

#include <p11-kit/pkcs11.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLOT       0
#define SIGN_BYTES 60000 /* the longest data that are signed over a digest */

struct session {
	bool open, finding;
	CK_OBJECT_HANDLE *found;
	size_t found_count, found_next;
	CK_OBJECT_HANDLE key; /* that is to sign; 0: none */
	const struct mechanism *mechanism;
};

/* Handles are indices and one; a key's public half has an odd handle, its private half the next. */
static struct {
	pthread_mutex_t lock;
	pid_t process; /* that has initialised us: a child has not */
	struct session *sessions;
	size_t session_count;
	struct record **keys;
	size_t key_count;
} m = { .lock = PTHREAD_MUTEX_INITIALIZER };

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

static bool is_ready(void)
{
	return m.process == getpid();
}

/* Locks, and finds the session; NULL (unlocked): RV says why. */
static struct session *take(CK_SESSION_HANDLE handle, CK_RV *rv)
{
	if (!is_ready()) {
		*rv = CKR_CRYPTOKI_NOT_INITIALIZED;
		return NULL;
	}
	pthread_mutex_lock(&m.lock);
	if (handle >= 1 && handle <= m.session_count && m.sessions[handle - 1].open)
		return &m.sessions[handle - 1];
	pthread_mutex_unlock(&m.lock);
	*rv = CKR_SESSION_HANDLE_INVALID;
	return NULL;
}

static CK_RV give(CK_RV rv)
{
	pthread_mutex_unlock(&m.lock);
	return rv;
}

/* The key that HANDLE is a half of, or NULL. Locked. */
static const struct record *key_of(CK_OBJECT_HANDLE handle)
{
	return handle >= 1 && handle <= 2 * m.key_count ? m.keys[(handle - 1) / 2] : NULL;
}

static bool is_private(CK_OBJECT_HANDLE handle)
{
	return handle % 2 == 0;
}

static bool is_ec(const struct record *key)
{
	return record_find(key, "ec-point") != NULL;
}

/* --- the module, its slot and its token --- */

static void session_close(struct session *session)
{
	free(session->found);
	*session = (struct session){ 0 };
}

static CK_RV initialize(void *given)
{
	const CK_C_INITIALIZE_ARGS *arguments = given;

	if (is_ready())
		return CKR_CRYPTOKI_ALREADY_INITIALIZED;
	if (arguments && arguments->pReserved)
		return CKR_ARGUMENTS_BAD;
	if (arguments && arguments->CreateMutex && !(arguments->flags & CKF_OS_LOCKING_OK))
		return CKR_CANT_LOCK;
	if (m.process) { /* forked: whoever held the lock is not here, nor is what it changed */
		m.sessions = NULL;
		m.keys = NULL;
		m.session_count = m.key_count = 0;
		pthread_mutex_init(&m.lock, NULL);
	}
	m.process = getpid();
	return CKR_OK;
}

static CK_RV finalize(void *reserved)
{
	if (reserved)
		return CKR_ARGUMENTS_BAD;
	if (!is_ready())
		return CKR_CRYPTOKI_NOT_INITIALIZED;
	pthread_mutex_lock(&m.lock);
	for (size_t i = 0; i < m.session_count; i++)
		session_close(&m.sessions[i]);
	for (size_t i = 0; i < m.key_count; i++)
		record_free(m.keys[i]);
	free(m.sessions);
	free(m.keys);
	m.sessions = NULL;
	m.keys = NULL;
	m.session_count = m.key_count = 0;
	m.process = 0;
	return give(CKR_OK);
}

/* TEXT as PKCS#11 has it: filled with blanks. */
static void put_text(unsigned char *to, size_t size, const char *text)
{
	memset(to, ' ', size);
	memcpy(to, text, strlen(text));
}

static CK_RV get_info(CK_INFO *info)
{
	*info = (CK_INFO){ .cryptokiVersion = { 2, 40 } };
	put_text(info->manufacturerID, sizeof info->manufacturerID, "pkifs");
	put_text(info->libraryDescription, sizeof info->libraryDescription, "keys in pkifs");
	return is_ready() ? CKR_OK : CKR_CRYPTOKI_NOT_INITIALIZED;
}

static CK_RV get_slot_list(CK_BBOOL present, CK_SLOT_ID *slots, CK_ULONG *count)
{
	CK_RV rv = slots && *count < 1 ? CKR_BUFFER_TOO_SMALL : CKR_OK;

	(void)present;
	if (!is_ready())
		return CKR_CRYPTOKI_NOT_INITIALIZED;
	if (slots && rv == CKR_OK)
		slots[0] = SLOT;
	*count = 1;
	return rv;
}

static CK_RV check_slot(CK_SLOT_ID slot)
{
	if (!is_ready())
		return CKR_CRYPTOKI_NOT_INITIALIZED;
	return slot == SLOT ? CKR_OK : CKR_SLOT_ID_INVALID;
}

static CK_RV get_slot_info(CK_SLOT_ID slot, CK_SLOT_INFO *info)
{
	*info = (CK_SLOT_INFO){ .flags = CKF_TOKEN_PRESENT };
	put_text(info->slotDescription, sizeof info->slotDescription, "pkifs");
	put_text(info->manufacturerID, sizeof info->manufacturerID, "pkifs");
	return check_slot(slot);
}

static CK_RV get_token_info(CK_SLOT_ID slot, CK_TOKEN_INFO *info)
{
	*info = (CK_TOKEN_INFO){ .flags = CKF_TOKEN_INITIALIZED | CKF_WRITE_PROTECTED,
		                 .ulMaxSessionCount = CK_EFFECTIVELY_INFINITE,
		                 .ulSessionCount = CK_UNAVAILABLE_INFORMATION,
		                 .ulRwSessionCount = CK_UNAVAILABLE_INFORMATION,
		                 .ulTotalPublicMemory = CK_UNAVAILABLE_INFORMATION,
		                 .ulFreePublicMemory = CK_UNAVAILABLE_INFORMATION,
		                 .ulTotalPrivateMemory = CK_UNAVAILABLE_INFORMATION,
		                 .ulFreePrivateMemory = CK_UNAVAILABLE_INFORMATION };
	put_text(info->label, sizeof info->label, "pkifs");
	put_text(info->manufacturerID, sizeof info->manufacturerID, "pkifs");
	put_text(info->model, sizeof info->model, "pkifs");
	put_text(info->serialNumber, sizeof info->serialNumber, "1");
	put_text(info->utcTime, sizeof info->utcTime, "");
	return check_slot(slot);
}

static CK_RV get_mechanism_list(CK_SLOT_ID slot, CK_MECHANISM_TYPE *types, CK_ULONG *count)
{
	CK_RV rv = check_slot(slot);
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

static CK_RV get_mechanism_info(CK_SLOT_ID slot, CK_MECHANISM_TYPE type, CK_MECHANISM_INFO *info)
{
	const struct mechanism *mechanism = find_mechanism(type);
	CK_RV rv = check_slot(slot);

	if (rv == CKR_OK && !mechanism)
		rv = CKR_MECHANISM_INVALID;
	if (rv == CKR_OK)
		*info = (CK_MECHANISM_INFO){ .ulMinKeySize = mechanism->least,
			                     .ulMaxKeySize = mechanism->most,
			                     .flags = CKF_SIGN };
	return rv;
}

/* --- sessions --- */

static CK_RV open_session(CK_SLOT_ID slot, CK_FLAGS flags, void *user, CK_NOTIFY notify,
                          CK_SESSION_HANDLE *handle)
{
	struct session *sessions;
	CK_RV rv = check_slot(slot);
	size_t i = 0;

	(void)user;
	(void)notify;
	if (rv != CKR_OK)
		return rv;
	if (!(flags & CKF_SERIAL_SESSION))
		return CKR_SESSION_PARALLEL_NOT_SUPPORTED;
	if (flags & CKF_RW_SESSION)
		return CKR_TOKEN_WRITE_PROTECTED;
	pthread_mutex_lock(&m.lock);
	while (i < m.session_count && m.sessions[i].open)
		i++;
	if (i == m.session_count) {
		sessions = realloc(m.sessions, (2 * i + 16) * sizeof *sessions);
		if (!sessions)
			return give(CKR_HOST_MEMORY);
		memset(sessions + i, 0, (i + 16) * sizeof *sessions);
		m.sessions = sessions;
		m.session_count = 2 * i + 16;
	}
	m.sessions[i].open = true;
	*handle = i + 1;
	return give(CKR_OK);
}

static CK_RV close_session(CK_SESSION_HANDLE handle)
{
	CK_RV rv;
	struct session *session = take(handle, &rv);

	if (!session)
		return rv;
	session_close(session);
	return give(CKR_OK);
}

static CK_RV close_all_sessions(CK_SLOT_ID slot)
{
	CK_RV rv = check_slot(slot);

	if (rv != CKR_OK)
		return rv;
	pthread_mutex_lock(&m.lock);
	for (size_t i = 0; i < m.session_count; i++)
		session_close(&m.sessions[i]);
	return give(CKR_OK);
}

/* Who may call is logged in: nobody looks for a PIN then. */
static CK_RV get_session_info(CK_SESSION_HANDLE handle, CK_SESSION_INFO *info)
{
	CK_RV rv;

	if (!take(handle, &rv))
		return rv;
	*info = (CK_SESSION_INFO){ .slotID = SLOT,
		                   .state = CKS_RO_USER_FUNCTIONS,
		                   .flags = CKF_SERIAL_SESSION };
	return give(CKR_OK);
}

static CK_RV login(CK_SESSION_HANDLE handle, CK_USER_TYPE who, unsigned char *pin, CK_ULONG length)
{
	CK_RV rv;

	(void)who;
	(void)pin;
	(void)length;
	return take(handle, &rv) ? give(CKR_OK) : rv;
}

static CK_RV logout(CK_SESSION_HANDLE handle)
{
	CK_RV rv;

	return take(handle, &rv) ? give(CKR_OK) : rv;
}

/* --- objects --- */

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
	const struct record *key = key_of(handle);
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
		return number(value, is_private(handle) ? CKO_PRIVATE_KEY : CKO_PUBLIC_KEY);
	case CKA_KEY_TYPE:
		return number(value, is_ec(key) ? CKK_EC : CKK_RSA);
	case CKA_MODULUS_BITS:
		field = record_find(key, "modulus");
		return field && number(value, 8 * field->length);
	case CKA_TOKEN:
		return flag(value, true);
	case CKA_SIGN:
	case CKA_PRIVATE:
	case CKA_SENSITIVE:
	case CKA_ALWAYS_SENSITIVE:
		return flag(value, is_private(handle));
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

	for (size_t i = 0; id && i < m.key_count; i++) {
		has = record_find(m.keys[i], "id");
		if (has->length == id->length && memcmp(has->value, id->value, id->length) == 0) {
			record_free(key);
			return (long)i;
		}
	}
	keys = id ? realloc(m.keys, (m.key_count + 1) * sizeof *keys) : NULL;
	if (!keys) {
		record_free(key);
		return -1;
	}
	m.keys = keys;
	keys[m.key_count] = key;
	return (long)m.key_count++;
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

static CK_RV find_objects_init(CK_SESSION_HANDLE handle, CK_ATTRIBUTE *template, CK_ULONG count)
{
	struct record *answer, *key;
	const struct field *field;
	struct session *session;
	CK_RV rv;

	if (!take(handle, &rv))
		return rv;
	give(CKR_OK);
	answer = ask_find(template, count);
	session = answer ? take(handle, &rv) : NULL;
	if (!session) {
		record_free(answer);
		return answer ? rv : CKR_DEVICE_ERROR;
	}
	if (session->finding) {
		record_free(answer);
		return give(CKR_OPERATION_ACTIVE);
	}
	session->found = calloc(2 * record_count(answer) + 1, sizeof *session->found);
	for (size_t i = 0; session->found && (field = record_next(answer, "key", &i)) != NULL;)
		if (record_decode((const unsigned char *)field->value, field->length, &key) == 0)
			found_key(session, key, template, count);
	session->finding = session->found != NULL;
	record_free(answer);
	return give(session->finding ? CKR_OK : CKR_HOST_MEMORY);
}

static CK_RV find_objects(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE *objects, CK_ULONG most,
                          CK_ULONG *count)
{
	CK_RV rv;
	struct session *session = take(handle, &rv);

	if (!session)
		return rv;
	if (!session->finding)
		return give(CKR_OPERATION_NOT_INITIALIZED);
	for (*count = 0; *count < most && session->found_next < session->found_count; ++*count)
		objects[*count] = session->found[session->found_next++];
	return give(CKR_OK);
}

static CK_RV find_objects_final(CK_SESSION_HANDLE handle)
{
	CK_RV rv;
	struct session *session = take(handle, &rv);

	if (!session)
		return rv;
	rv = session->finding ? CKR_OK : CKR_OPERATION_NOT_INITIALIZED;
	free(session->found);
	session->found = NULL;
	session->found_count = session->found_next = 0;
	session->finding = false;
	return give(rv);
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

static CK_RV get_attribute_value(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE object,
                                 CK_ATTRIBUTE *template, CK_ULONG count)
{
	CK_RV rv, all = CKR_OK;

	if (!take(handle, &rv))
		return rv;
	if (!key_of(object))
		return give(CKR_OBJECT_HANDLE_INVALID);
	for (CK_ULONG i = 0; i < count; i++) {
		rv = put_value(object, &template[i]);
		all = rv == CKR_OK ? all : rv;
	}
	return give(all);
}

/* --- signatures --- */

static CK_RV sign_init(CK_SESSION_HANDLE handle, CK_MECHANISM *given, CK_OBJECT_HANDLE object)
{
	const struct mechanism *mechanism = find_mechanism(given->mechanism);
	const struct record *key;
	CK_RV rv;
	struct session *session = take(handle, &rv);

	if (!session)
		return rv;
	key = key_of(object);
	if (session->key)
		return give(CKR_OPERATION_ACTIVE);
	if (!mechanism)
		return give(CKR_MECHANISM_INVALID);
	if (!key || !is_private(object))
		return give(CKR_KEY_HANDLE_INVALID);
	if (is_ec(key) != mechanism->ec)
		return give(CKR_KEY_TYPE_INCONSISTENT);
	session->key = object;
	session->mechanism = mechanism;
	return give(CKR_OK);
}

/* What asks for a signature of DATA by the session's key. Locked. */
static struct record *sign_question(const struct session *session, const void *data, size_t length)
{
	const struct field *id = record_find(key_of(session->key), "id");
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
static CK_RV sign(CK_SESSION_HANDLE handle, unsigned char *data, CK_ULONG length,
                  unsigned char *signature, CK_ULONG *signature_length)
{
	struct record *question = NULL, *answer;
	CK_ULONG size;
	CK_RV rv;
	struct session *session = take(handle, &rv);

	if (!session)
		return rv;
	if (!session->key)
		return give(CKR_OPERATION_NOT_INITIALIZED);
	size = (CK_ULONG)record_number(key_of(session->key), "signature-size", 0);
	if (!signature || *signature_length < size) {
		rv = signature ? CKR_BUFFER_TOO_SMALL : CKR_OK;
		*signature_length = size;
		return give(rv);
	}
	if (length <= SIGN_BYTES)
		question = sign_question(session, data, length);
	session->key = 0;
	give(CKR_OK);
	if (!question)
		return length > SIGN_BYTES ? CKR_DATA_LEN_RANGE : CKR_HOST_MEMORY;
	answer = call(question);
	rv = take_signature(answer, signature, signature_length);
	record_free(answer);
	return rv;
}

/* --- the list --- */

static CK_RV not_supported(void)
{
	return CKR_FUNCTION_NOT_SUPPORTED;
}

CK_RV C_GetFunctionList(CK_FUNCTION_LIST **list);

static CK_FUNCTION_LIST functions = {
	.version = { 2, 40 },
	.C_Initialize = initialize,
	.C_Finalize = finalize,
	.C_GetInfo = get_info,
	.C_GetFunctionList = C_GetFunctionList,
	.C_GetSlotList = get_slot_list,
	.C_GetSlotInfo = get_slot_info,
	.C_GetTokenInfo = get_token_info,
	.C_GetMechanismList = get_mechanism_list,
	.C_GetMechanismInfo = get_mechanism_info,
	.C_OpenSession = open_session,
	.C_CloseSession = close_session,
	.C_CloseAllSessions = close_all_sessions,
	.C_GetSessionInfo = get_session_info,
	.C_Login = login,
	.C_Logout = logout,
	.C_GetAttributeValue = get_attribute_value,
	.C_FindObjectsInit = find_objects_init,
	.C_FindObjects = find_objects,
	.C_FindObjectsFinal = find_objects_final,
	.C_SignInit = sign_init,
	.C_Sign = sign,
};

/* All others are there and say that they are not: one function for all, whatever it is given. */
static void fill(void)
{
	CK_RV (*none)(void) = not_supported;
	size_t first = offsetof(CK_FUNCTION_LIST, C_Initialize);
	unsigned char *at = (unsigned char *)&functions + first;
	const unsigned char *end = (unsigned char *)(&functions + 1);
	CK_RV (*has)(void);

	for (; at < end; at += sizeof has) {
		memcpy(&has, at, sizeof has);
		if (!has)
			memcpy(at, &none, sizeof none);
	}
}

__attribute__((visibility("default"))) CK_RV C_GetFunctionList(CK_FUNCTION_LIST **list)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	if (!list)
		return CKR_ARGUMENTS_BAD;
	pthread_once(&once, fill);
	*list = &functions;
	return CKR_OK;
}
