#include "pkifs/ring.h"

#include <errno.h>
#include <linux/keyctl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* All for who has it and for its user, who need not have it; others may see, read and search. */
#define PERMISSIONS 0x3f3f000bu

static int call(int command, long first, long second, long third)
{
	long r = syscall(SYS_keyctl, command, first, second, third, 0);

	return r < 0 ? -errno : (int)r;
}

int ring_of_user(void)
{
	return call(KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING, 1, 0);
}

int ring_of_process(void)
{
	return call(KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 1, 0);
}

static int add(const char *type, const char *description, const void *payload, size_t length,
               int ring)
{
	long key = syscall(SYS_add_key, type, description, payload, length, ring);
	int r = key < 0 ? -errno : call(KEYCTL_SETPERM, key, PERMISSIONS, 0);

	return r < 0 ? r : (int)key;
}

int ring_make(const char *name, int parent)
{
	return add("keyring", name, NULL, 0, parent);
}

int ring_add(int ring, const char *description, const void *der, size_t length)
{
	return add("asymmetric", description, der, length, ring);
}

int ring_restrict(int ring)
{
	return call(KEYCTL_RESTRICT_KEYRING, ring, (long)"asymmetric",
	            (long)"key_or_keyring:0:chain");
}

int ring_link(int ring, int parent)
{
	return call(KEYCTL_LINK, ring, parent, 0);
}

int ring_unlink(int key, int ring)
{
	return call(KEYCTL_UNLINK, key, ring, 0);
}

int ring_end(int key)
{
	return call(KEYCTL_INVALIDATE, key, 0, 0);
}

int ring_keys(int ring, int32_t **keys)
{
	int size = call(KEYCTL_READ, ring, 0, 0), r = 0;

	*keys = NULL;
	for (;;) {
		*keys = size < 0 ? NULL : malloc((size_t)size + 1);
		if (!*keys)
			return size < 0 ? size : -ENOMEM;
		r = call(KEYCTL_READ, ring, (long)*keys, size);
		if (r <= size)
			break;
		free(*keys); /* it has grown meanwhile */
		size = r;
	}
	if (r < 0) {
		free(*keys);
		*keys = NULL;
		return r;
	}
	return r / (int)sizeof **keys;
}

/* "TYPE;UID;GID;PERMISSIONS;DESCRIPTION" */
bool ring_describe(int key, const char *type, char text[RING_TEXT])
{
	char all[RING_TEXT + 80];
	const char *at = all;
	int r = call(KEYCTL_DESCRIBE, key, (long)all, sizeof all);

	if (r < 0 || (size_t)r > sizeof all || strncmp(all, type, strlen(type)) != 0 ||
	    all[strlen(type)] != ';')
		return false;
	for (int i = 0; at && i < 4; i++)
		at = strchr(at, ';') ? strchr(at, ';') + 1 : NULL;
	if (!at || strlen(at) >= RING_TEXT)
		return false;
	strcpy(text, at);
	return true;
}
