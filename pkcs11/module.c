/*
 * pkifs-pkcs11.so: private keys that stay in pkifs, for a program that speaks PKCS#11 2.40, such as
 * strongSwan's charon. One token; its objects are the public and the private halves of the keys of
 * certificate ids that tunnels use (CKA_ID: subject key identifier; CKA_LABEL: certificate id).
 * All that is kept here is what was found; each look and each signature is a call of its own
 * (pkcs11/call.h), so there is nothing that a restart of pkifs could lose.
 */
#include "pkcs11/module.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLOT 0

static struct {
	pthread_mutex_t lock;
	pid_t process; /* that has initialised us: a child has not */
	struct session *sessions;
	size_t session_count;
} m = { .lock = PTHREAD_MUTEX_INITIALIZER };

static bool is_ready(void)
{
	return m.process == getpid();
}

struct session *session_take(CK_SESSION_HANDLE handle, CK_RV *rv)
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

CK_RV session_give(CK_RV rv)
{
	pthread_mutex_unlock(&m.lock);
	return rv;
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
		m.session_count = 0;
		objects_lose();
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
	objects_free();
	free(m.sessions);
	m.sessions = NULL;
	m.session_count = 0;
	m.process = 0;
	return session_give(CKR_OK);
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

CK_RV slot_check(CK_SLOT_ID slot)
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
	return slot_check(slot);
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
	return slot_check(slot);
}

/* --- sessions --- */

static CK_RV open_session(CK_SLOT_ID slot, CK_FLAGS flags, void *user, CK_NOTIFY notify,
                          CK_SESSION_HANDLE *handle)
{
	struct session *sessions;
	CK_RV rv = slot_check(slot);
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
			return session_give(CKR_HOST_MEMORY);
		memset(sessions + i, 0, (i + 16) * sizeof *sessions);
		m.sessions = sessions;
		m.session_count = 2 * i + 16;
	}
	m.sessions[i].open = true;
	*handle = i + 1;
	return session_give(CKR_OK);
}

static CK_RV close_session(CK_SESSION_HANDLE handle)
{
	CK_RV rv;
	struct session *session = session_take(handle, &rv);

	if (!session)
		return rv;
	session_close(session);
	return session_give(CKR_OK);
}

static CK_RV close_all_sessions(CK_SLOT_ID slot)
{
	CK_RV rv = slot_check(slot);

	if (rv != CKR_OK)
		return rv;
	pthread_mutex_lock(&m.lock);
	for (size_t i = 0; i < m.session_count; i++)
		session_close(&m.sessions[i]);
	return session_give(CKR_OK);
}

/* Who may call is logged in: nobody looks for a PIN then. */
static CK_RV get_session_info(CK_SESSION_HANDLE handle, CK_SESSION_INFO *info)
{
	CK_RV rv;

	if (!session_take(handle, &rv))
		return rv;
	*info = (CK_SESSION_INFO){ .slotID = SLOT,
		                   .state = CKS_RO_USER_FUNCTIONS,
		                   .flags = CKF_SERIAL_SESSION };
	return session_give(CKR_OK);
}

static CK_RV login(CK_SESSION_HANDLE handle, CK_USER_TYPE who, unsigned char *pin, CK_ULONG length)
{
	CK_RV rv;

	(void)who;
	(void)pin;
	(void)length;
	return session_take(handle, &rv) ? session_give(CKR_OK) : rv;
}

static CK_RV logout(CK_SESSION_HANDLE handle)
{
	CK_RV rv;

	return session_take(handle, &rv) ? session_give(CKR_OK) : rv;
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
