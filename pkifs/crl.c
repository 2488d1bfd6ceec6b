/* CRLs: body and index are files beside the store, made by a worker, kept with the CRL's row. */
#include "pkifs/crl.h"

#include "common/crlindex.h"
#include "pkifs/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void file_name(char name[64], int64_t file, bool index)
{
	snprintf(name, 64, "crl-%lld.%s", (long long)file, index ? "idx" : "der");
}

int crl_open(struct store *store, int64_t file, bool index)
{
	char name[64];
	int fd;

	file_name(name, file, index);
	fd = openat(store->folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

int crl_incoming(struct store *store, uint64_t handle, int flags)
{
	char name[64];
	int fd;

	snprintf(name, sizeof name, "incoming-%llu", (unsigned long long)handle);
	fd = openat(store->folder, name, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? -errno : fd;
}

/* --- removing --- */

#define STEP (2 << 20) /* bytes that go in a turn: the kernel frees their pages one by one */

static void go_on(uv_timer_t *timer)
{
	crl_sweep(timer->data);
}

/* The rest goes when others had their turn. */
static void sweep_later(struct store *store)
{
	static uv_timer_t later;

	store_later(store, &later, go_on, 2);
}

/* Removes the file NAME, or shortens it; false: there is more of it. */
static bool remove_step(struct store *store, const char *name)
{
	int fd = openat(store->folder, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat file;
	bool more = fd >= 0 && fstat(fd, &file) == 0 && file.st_size > STEP &&
	            ftruncate(fd, file.st_size - STEP) == 0;

	if (!more)
		unlinkat(store->folder, name, 0);
	if (fd >= 0)
		close(fd);
	return !more;
}

/* The file NAME is nobody's any more; a large one goes bit by bit. */
static void discard(struct store *store, const char *name)
{
	struct stat file;
	char gone[80];

	snprintf(gone, sizeof gone, "gone-%s", name);
	if (fstatat(store->folder, name, &file, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	if (file.st_size <= STEP || renameat(store->folder, name, store->folder, gone) < 0)
		unlinkat(store->folder, name, 0);
	else
		sweep_later(store);
}

void crl_incoming_remove(struct store *store, uint64_t handle)
{
	char name[64];

	snprintf(name, sizeof name, "incoming-%llu", (unsigned long long)handle);
	discard(store, name);
}

/* --- files that are being made --- */

static int64_t under_way[256]; /* numbers of files that are being made; 0: none */

static int64_t *place_of(int64_t number)
{
	for (size_t i = 0; i < COUNT(under_way); i++)
		if (under_way[i] == number)
			return &under_way[i];
	return NULL;
}

/* A number that no file ever had. */
static int64_t draw_number(void)
{
	uint64_t number = 0;

	RAND_bytes((unsigned char *)&number, sizeof number);
	return (int64_t)(number >> 1 | 1ull << 41);
}

/* A new file of that NAME. */
static int make(struct store *store, const char *name)
{
	return openat(store->folder, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
	              0600);
}

int crl_files_new(struct store *store, struct crl_files *files)
{
	int64_t number = draw_number(), *place = place_of(0);
	char body[64], index[64];
	int r = 0;

	*files = (struct crl_files){ .number = number, .body = -1, .index = -1, .scratch = -1 };
	if (!place)
		return -EMFILE;
	*place = number;
	file_name(body, number, false);
	file_name(index, number, true);
	files->scratch = make(store, index);
	if (files->scratch >= 0) /* it has no name */
		unlinkat(store->folder, index, 0);
	if (files->scratch >= 0)
		files->body = make(store, body);
	if (files->body >= 0)
		files->index = make(store, index);
	/* their names are there before their row; now, when nothing waits to be written */
	if (files->index < 0 || fsync(store->folder) < 0) {
		r = -errno;
		crl_files_drop(store, files);
	}
	return r;
}

void crl_files_drop(struct store *store, struct crl_files *files)
{
	const int fds[] = { files->body, files->index, files->scratch };
	int64_t *place = place_of(files->number);
	char name[64];

	for (size_t i = 0; i < COUNT(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	for (int i = 0; i < 2 && db_crl_of_file(store->db, files->number) == -ENOENT; i++) {
		file_name(name, files->number, i);
		discard(store, name);
	}
	if (place)
		*place = 0;
}

void crl_files_given(struct crl_files *files)
{
	close(files->scratch);
	files->scratch = -1;
}

bool crl_files_are_whole(int body, int index, const struct crl *crl)
{
	const off_t entry = sizeof(struct crl_entry);
	struct stat file;

	/* what a power cut cut short is no CRL that is empty; more is for the index to know */
	if (body >= 0 && (fstat(body, &file) < 0 || file.st_size != crl->size))
		return false;
	return index < 0 || (fstat(index, &file) == 0 && crl->entries >= 0 &&
	                     crl->entries <= file.st_size / entry);
}

/* Whether the files NAME belongs to are still wanted. */
static bool is_wanted(struct store *store, const char *name)
{
	unsigned long long handle;
	long long number;

	if (sscanf(name, "crl-%lld.", &number) == 1)
		return place_of(number) || db_crl_of_file(store->db, number) != -ENOENT;
	if (sscanf(name, "incoming-%llu", &handle) == 1) {
		const struct open_file *file = open_file_get(store, handle);

		return file && inode_file(file->ino) == FILE_CRL_PEM;
	}
	return false;
}

void crl_sweep(struct store *store)
{
	int fd = openat(store->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *folder = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	bool whole = true;

	if (!folder) {
		if (fd >= 0)
			close(fd);
		return;
	}
	crls_sweep(store); /* they have their files open */
	while ((entry = readdir(folder)) && whole)
		if (*entry->d_name != '.' && !is_wanted(store, entry->d_name))
			whole = remove_step(store, entry->d_name);
	closedir(folder);
	if (!whole)
		sweep_later(store);
}

static void sweep_after_commit(void *user, int code)
{
	(void)code;
	crl_sweep(user);
}

int crl_sweep_after(struct store *store)
{
	return store_after(store, sweep_after_commit, store);
}
