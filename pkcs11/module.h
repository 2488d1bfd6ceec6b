/*
 * What the module's files share: the module, its token and sessions (module.c), objects
 * (objects.c), signatures (sign.c). Functions of PKCS#11 have their names there without C_.
 */
#ifndef PKIFS_PKCS11_MODULE_H
#define PKIFS_PKCS11_MODULE_H

#include "common/record.h"

#include <p11-kit/pkcs11.h>

struct session {
	bool open, finding;
	CK_OBJECT_HANDLE *found;
	size_t found_count, found_next;
	CK_OBJECT_HANDLE key; /* that is to sign; 0: none */
	const struct mechanism *mechanism;
};

/* Locks, and finds the session; NULL (unlocked): RV says why. */
struct session *session_take(CK_SESSION_HANDLE handle, CK_RV *rv);
/* Unlocks, and gives RV. */
CK_RV session_give(CK_RV rv);

CK_RV slot_check(CK_SLOT_ID slot);

/* The key that HANDLE is a half of, or NULL. Locked. */
const struct record *object_key(CK_OBJECT_HANDLE handle);
bool object_is_private(CK_OBJECT_HANDLE handle);
bool key_is_ec(const struct record *key);
/* All keys go; or they are where nobody may look, in a process that was forked from ours. */
void objects_free(void);
void objects_lose(void);

CK_RV find_objects_init(CK_SESSION_HANDLE handle, CK_ATTRIBUTE *template, CK_ULONG count);
CK_RV find_objects(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE *objects, CK_ULONG most,
                   CK_ULONG *count);
CK_RV find_objects_final(CK_SESSION_HANDLE handle);
CK_RV get_attribute_value(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE object, CK_ATTRIBUTE *template,
                          CK_ULONG count);

CK_RV get_mechanism_list(CK_SLOT_ID slot, CK_MECHANISM_TYPE *types, CK_ULONG *count);
CK_RV get_mechanism_info(CK_SLOT_ID slot, CK_MECHANISM_TYPE type, CK_MECHANISM_INFO *info);
CK_RV sign_init(CK_SESSION_HANDLE handle, CK_MECHANISM *given, CK_OBJECT_HANDLE object);
/* Asked for the size, or with too little room, it goes on; else the operation has ended. */
CK_RV sign(CK_SESSION_HANDLE handle, unsigned char *data, CK_ULONG length, unsigned char *signature,
           CK_ULONG *signature_length);

#endif
