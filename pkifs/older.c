/*
 * Whether the store is an older copy of the one that was last in use here: a backup that was put
 * back, a disk that was set back. It does not know what was renewed or revoked since.
 *
 * Events are one endless text, whose end never goes back. The end is kept in a file beside the
 * store, after it is durable in the store itself: what is kept is never ahead of it.
 */
#include "common/log.h"
#include "pkifs/store.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_NAME ".newest"
#define DIGITS    20 /* always as many: a new number is written over the old one */

static int64_t kept = -1;           /* what the file says; -1: there is none */
static uint64_t noted = UINT64_MAX; /* changes of the store when the file was right */

void older_check(struct store *store)
{
	char text[DIGITS + 1] = "";
	int fd = openat(store->folder, FILE_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	int64_t end = 0;

	if (fd >= 0) {
		if (read(fd, text, DIGITS) == DIGITS)
			kept = strtoll(text, NULL, 10);
		close(fd);
	}
	if (db_event_end(store->db, &end) < 0 || end >= kept)
		return;
	store->shared->older = true;
	log_error("%s", OLDER);
	if (store_begin(store) == 0)
		store_end(store, store_event(store, NULL, "older-store", NULL));
}

static void keep(struct store *store, int64_t end)
{
	char text[DIGITS + 2];
	int fd =
		openat(store->folder, FILE_NAME, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return;
	snprintf(text, sizeof text, "%0*" PRId64 "\n", DIGITS, end);
	if (write(fd, text, DIGITS + 1) == DIGITS + 1)
		kept = end;
	close(fd);
}

void older_note(struct store *store)
{
	int64_t end;

	if (store->begun || store->changes == noted || db_event_end(store->db, &end) < 0)
		return;
	if (end != kept)
		keep(store, end);
	if (end == kept)
		noted = store->changes;
}
