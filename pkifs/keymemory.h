/*
 * The memory of the keys process: not dumped, not swapped where that can be had, unseen by other
 * processes of the same user, and wiped when it is freed.
 */
#ifndef PKIFS_KEYMEMORY_H
#define PKIFS_KEYMEMORY_H

/*
 * Once, as the first thing that a process does: what OpenSSL allocated before it is not wiped.
 * What the system refuses is logged and gone without.
 */
void keymemory_init(void);

#endif
