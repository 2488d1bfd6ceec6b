/* Open files, temporary names and hidden names: what the tree remembers between requests. */
#include "pkifs/crl.h"
#include "pkifs/object.h"
#include "pkifs/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TEMPORARIES_A_FOLDER 8
#define TEMPORARIES_KEPT     8 /* for root and the starter */
#define TEMPORARY_SECONDS    600

/*
 * Open files a user: nobody but root and the starter may take them all. Users share a count where
 * their numbers do.
 */
#define USERS        1024
#define FILES_A_USER (OPEN_FILES / 4)
#define FILES_KEPT   (OPEN_FILES / 8) /* for root and the starter */
static uint32_t open_files[USERS], open_by_others;

static size_t lowest_free; /* no file below it is free */

bool is_trusted(const struct store *store, uid_t uid)
{
	return uid == 0 || uid == store->uid;
}

static void count_open(const struct store *store, uid_t uid, int more)
{
	if (is_trusted(store, uid))
		return;
	open_files[uid % USERS] += (uint32_t)more;
	open_by_others += (uint32_t)more;
}

void open_file_count(struct store *store)
{
	for (size_t i = 0; i < store->shared->files_top; i++)
		if (store->shared->files[i].ino)
			count_open(store, store->shared->files[i].uid, 1);
}

static bool may_open(const struct store *store, uid_t uid)
{
	return is_trusted(store, uid) ||
	       (open_files[uid % USERS] < FILES_A_USER && open_by_others < OPEN_FILES - FILES_KEPT);
}

struct open_file *open_file_again(struct store *store)
{
	struct shared *shared = store->shared;
	uint64_t unique = session_unique(store->session);

	for (size_t i = 0; session_replays(store->session) && i < shared->files_top; i++)
		if (shared->files[i].ino && shared->files[i].unique == unique)
			return &shared->files[i];
	return NULL;
}

struct open_file *open_file_add(struct store *store, fuse_req_t req, const struct node *node)
{
	struct shared *shared = store->shared;
	uint64_t unique = session_unique(store->session);
	struct open_file *file = open_file_again(store);

	if (file)
		return file;
	if (!may_open(store, fuse_req_ctx(req)->uid))
		return NULL;
	/* the lowest: what looks at all that are open looks at few */
	for (; lowest_free < OPEN_FILES; lowest_free++) {
		file = &shared->files[lowest_free];
		if (file->ino)
			continue;
		if (lowest_free >= shared->files_top)
			shared->files_top = (uint32_t)lowest_free + 1;
		*file = (struct open_file){ .unique = unique,
			                    .buffer = -1,
			                    .uid = fuse_req_ctx(req)->uid };
		file->ino = node_inode(node);
		count_open(store, file->uid, 1);
		return file;
	}
	return NULL;
}

struct open_file *open_file_get(struct store *store, uint64_t handle)
{
	if (!handle || handle > OPEN_FILES || !store->shared->files[handle - 1].ino)
		return NULL;
	return &store->shared->files[handle - 1];
}

uint64_t open_file_handle(struct store *store, const struct open_file *file)
{
	return (uint64_t)(file - store->shared->files) + 1;
}

void open_file_drop(struct store *store, struct open_file *file)
{
	uint64_t handle = open_file_handle(store, file), ino = file->ino;
	struct temporary *temporary = NULL;

	if (inode_file(ino) == FILE_TEMPORARY)
		temporary = temporary_get(store, ino);
	else
		shared_buffer_free(store->shared, file->buffer);
	if (inode_file(ino) == FILE_CRL_PEM && file->writable)
		crl_incoming_remove(store, handle);
	count_open(store, file->uid, -1);
	snapshot_drop(store->snapshots[handle]);
	store->snapshots[handle] = NULL;
	store->due |= file->request != 0;
	file->ino = 0;
	if (handle - 1 < lowest_free)
		lowest_free = handle - 1;
	while (store->shared->files_top && !store->shared->files[store->shared->files_top - 1].ino)
		store->shared->files_top--;
	if (temporary && !*temporary->name)
		temporary_drop(store, temporary);
}

bool request_is_open(const struct store *store, int64_t request)
{
	for (size_t i = 0; i < store->shared->files_top; i++)
		if (store->shared->files[i].ino && store->shared->files[i].request == request)
			return true;
	return false;
}

void open_file_sweep(struct store *store)
{
	for (size_t i = 0; i < store->shared->files_top; i++)
		if (store->shared->files[i].ino && store->shared->files[i].released)
			open_file_drop(store, &store->shared->files[i]);
}

void open_file_in_vain(uint64_t unique, void *user)
{
	struct store *store = user;

	for (size_t i = 0; i < store->shared->files_top; i++) {
		struct open_file *file = &store->shared->files[i];

		if (file->ino && file->unique == unique)
			open_file_drop(store, file);
	}
}

#define FADES_A_TURN 50
#define RECENT       10 /* seconds: longer than a store that dies takes to be another */

uint32_t this_second(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint32_t)now.tv_sec + 1;
}

bool is_recent(uint32_t second)
{
	return second && this_second() - second <= RECENT;
}

void row_fades(struct store *store, enum row_kind kind, int64_t row, int64_t object)
{
	struct shared *shared = store->shared;

	shared->fading[shared->next_fading++ % FADING] = (struct fading){
		.row = row, .object = object, .kind = kind, .second = this_second()
	};
}

/* The object of one that is no longer recent; they are all forgotten. 0: there is none. */
static int64_t faded(struct shared *shared)
{
	int64_t object = 0;

	for (size_t i = 0; i < FADING; i++) {
		struct fading *fading = &shared->fading[i];

		if (!fading->second || is_recent(fading->second) ||
		    (object && fading->object != object))
			continue;
		object = fading->object;
		fading->second = 0;
	}
	return object;
}

void rows_fade(struct store *store)
{
	int64_t object;

	for (int i = 0; i < FADES_A_TURN && (object = faded(store->shared)); i++) {
		int r = store_begin(store);

		if (r == 0) {
			r = db_prune(store->db, object, store_setting(store, "keep-versions"),
			             row_is_open, store);
			if (store_end(store, r) == 0)
				crl_sweep_after(store); /* one of theirs may be nobody's now */
		}
	}
}

static bool is_of_row(uint64_t ino, enum row_kind kind, int64_t row)
{
	static const enum number numbers[] = {
		[ROW_CONFIG] = NUMBER_CONFIG,
		[ROW_EDITION] = NUMBER_EDITION,
		[ROW_VERSION] = NUMBER_VERSION,
	};

	return ino && inode_number(ino) == row &&
	       file_rows[inode_file(ino)].number == numbers[kind];
}

bool row_is_open(enum row_kind kind, int64_t row, void *user)
{
	const struct shared *shared = ((const struct store *)user)->shared;

	for (size_t i = 0; i < shared->files_top; i++) {
		const struct open_file *file = &shared->files[i];

		if (file->ino &&
		    (is_of_row(file->ino, kind, row) || is_of_row(file->shown, kind, row)))
			return true;
	}
	for (size_t i = 0; i < FADING; i++) {
		const struct fading *fading = &shared->fading[i];

		if (fading->row == row && fading->kind == kind && is_recent(fading->second))
			return true;
	}
	return false;
}

struct temporary *temporary_add(struct store *store, uint64_t folder, const char *name,
                                const struct fuse_ctx *by, mode_t mode)
{
	struct temporary *free_one = NULL;
	int in_folder = 0, left = 0;

	if (strlen(name) >= sizeof free_one->name)
		return NULL;
	temporary_expire(store);
	for (size_t i = 0; i < TEMPORARIES; i++) {
		struct temporary *temporary = &store->shared->temporaries[i];

		if (!temporary->ino) {
			free_one = temporary;
			left++;
		} else if (temporary->folder == folder) {
			in_folder++;
		}
	}
	if (!free_one || in_folder >= TEMPORARIES_A_FOLDER ||
	    (left <= TEMPORARIES_KEPT && !is_trusted(store, by->uid)))
		return NULL;
	*free_one = (struct temporary){ .folder = folder,
		                        .touched = store_now(store),
		                        .uid = by->uid,
		                        .gid = by->gid,
		                        .mode = mode & 0700 };
	free_one->buffer = shared_buffer_take(store->shared, by->uid, !is_trusted(store, by->uid));
	if (free_one->buffer < 0)
		return NULL;
	memcpy(free_one->name, name, strlen(name) + 1);
	free_one->ino = inode_make(FILE_TEMPORARY, (int64_t)++store->shared->next_temporary);
	return free_one;
}

struct temporary *temporary_find(struct store *store, uint64_t folder, const char *name, uid_t uid)
{
	for (size_t i = 0; i < TEMPORARIES; i++) {
		struct temporary *temporary = &store->shared->temporaries[i];

		if (temporary->ino && temporary->folder == folder && temporary->uid == uid &&
		    *temporary->name && strcmp(temporary->name, name) == 0)
			return temporary;
	}
	return NULL;
}

struct temporary *temporary_get(struct store *store, uint64_t ino)
{
	for (size_t i = 0; i < TEMPORARIES; i++)
		if (store->shared->temporaries[i].ino == ino)
			return &store->shared->temporaries[i];
	return NULL;
}

static bool is_open(const struct store *store, uint64_t ino)
{
	for (size_t i = 0; i < store->shared->files_top; i++)
		if (store->shared->files[i].ino == ino)
			return true;
	return false;
}

void temporary_drop(struct store *store, struct temporary *temporary)
{
	*temporary->name = 0; /* those who have it open go on */
	if (is_open(store, temporary->ino))
		return;
	shared_buffer_free(store->shared, temporary->buffer);
	temporary->ino = 0;
}

/* Nobody can come to it any more, or nobody came for long. */
static bool is_forgotten(struct store *store, const struct temporary *temporary)
{
	struct node folder;

	return !*temporary->name || store_now(store) - temporary->touched > TEMPORARY_SECONDS ||
	       node_get(store, temporary->folder, &folder) == -ESTALE;
}

void temporary_expire(struct store *store)
{
	for (size_t i = 0; i < TEMPORARIES; i++) {
		struct temporary *temporary = &store->shared->temporaries[i];

		if (temporary->ino && !is_open(store, temporary->ino) &&
		    is_forgotten(store, temporary))
			temporary_drop(store, temporary);
	}
}

#define HIDDEN_NAMES 128
static struct {
	uint64_t folder;
	enum file file;
	pid_t process;
} hidden[HIDDEN_NAMES];
static unsigned next_hidden, hidden_count;

void name_hide(uint64_t folder, enum file file, pid_t process)
{
	if (!hidden[next_hidden].folder)
		hidden_count++;
	hidden[next_hidden].folder = folder;
	hidden[next_hidden].file = file;
	hidden[next_hidden].process = process;
	next_hidden = (next_hidden + 1) % HIDDEN_NAMES;
}

void name_show(uint64_t folder, enum file file, pid_t process)
{
	for (size_t i = 0; i < HIDDEN_NAMES; i++)
		if (hidden[i].folder == folder && hidden[i].file == file &&
		    hidden[i].process == process) {
			hidden[i].folder = 0;
			hidden_count--;
		}
}

bool name_hidden(uint64_t folder, enum file file, pid_t thread)
{
	pid_t process = 0;

	for (size_t i = 0; hidden_count && i < HIDDEN_NAMES; i++) {
		if (hidden[i].folder != folder || hidden[i].file != file)
			continue;
		if (!process)
			process = process_of(thread);
		if (hidden[i].process == process)
			return true;
	}
	return false;
}
