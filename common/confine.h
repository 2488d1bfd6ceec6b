/*
 * The walls that a process builds around itself once it has all that it needs: Landlock for files,
 * seccomp for all else that the kernel could be asked. They never come down again.
 */
#ifndef PKIFS_CONFINE_H
#define PKIFS_CONFINE_H

#include "common/error.h"

enum confined {
	CONFINED_WORKER,
	CONFINED_KEYS,
	CONFINED_PUBLISHER,
	CONFINED_STORE,
	CONFINED_IPSEC
};

/*
 * Confines this process, which has one thread yet, as WHO. A worker can still read the files of
 * PATHS (those that are there; NULL ends them); the publisher can rename files below the folder
 * that is the first of them; the others take none. What they must not do either fails or, where
 * nobody does it by mistake, ends the process with SIGSYS and a line on standard error. What the
 * kernel lacks is left out (confine_lacks says so once, for all). 0, or a negative errno with ERR.
 */
int confine(enum confined who, const char *const *paths, struct error *err);

/* What this kernel lacks for walls, as words for the log; NULL: nothing. */
const char *confine_lacks(void);

/*
 * landlock.c. From now on no file can be opened, made, removed or renamed, but RIGHTS hold for
 * PATHS and what is below them. The second: the kernel's version of Landlock; 0: it has none.
 */
int landlock_close(const char *const *paths, unsigned long long rights, struct error *err);
int landlock_version(void);

#endif
