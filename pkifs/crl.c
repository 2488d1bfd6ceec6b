/* CRLs: body and index are files beside the store, made by a worker, kept with the CRL's row. */
#include "pkifs/crl.h"

#include "common/crlindex.h"
#include "pkifs/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void kept_name(char name[64], int64_t crl, bool index)
{
	snprintf(name, 64, "crl-%lld.%s", (long long)crl, index ? "idx" : "der");
}

static void new_name(char name[64], unsigned number, bool index)
{
	snprintf(name, 64, "new-%u.%s", number, index ? "idx" : "der");
}

int crl_open(struct store *store, int64_t crl, bool index)
{
	char name[64];
	int fd;

	kept_name(name, crl, index);
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

void crl_incoming_remove(struct store *store, uint64_t handle)
{
	char name[64];

	snprintf(name, sizeof name, "incoming-%llu", (unsigned long long)handle);
	unlinkat(store->folder, name, 0);
}

static bool in_use[256]; /* numbers of files that are being made */

/* A new file of that NAME, which a predecessor may have left. */
static int make(struct store *store, const char *name)
{
	return openat(store->folder, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
	              0600);
}

int crl_files_new(struct store *store, struct crl_files *files)
{
	char body[64], index[64];
	unsigned number = 0;
	int r = 0;

	while (number < COUNT(in_use) && in_use[number])
		number++;
	if (number == COUNT(in_use))
		return -EMFILE;
	new_name(body, number, false);
	new_name(index, number, true);
	*files = (struct crl_files){ .number = number, .body = -1, .index = -1 };
	files->scratch = make(store, index);
	if (files->scratch >= 0) /* it has no name */
		unlinkat(store->folder, index, 0);
	if (files->scratch >= 0)
		files->body = make(store, body);
	if (files->body >= 0)
		files->index = make(store, index);
	in_use[number] = true;
	if (files->index < 0) {
		r = -errno;
		crl_files_drop(store, files);
	}
	return r;
}

void crl_files_drop(struct store *store, struct crl_files *files)
{
	const int fds[] = { files->body, files->index, files->scratch };
	char name[64];

	for (int i = 0; i < 2; i++) {
		new_name(name, files->number, i);
		unlinkat(store->folder, name, 0);
	}
	for (size_t i = 0; i < COUNT(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	in_use[files->number] = false;
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

int crl_files_keep(struct store *store, const struct crl_files *files, int64_t crl)
{
	for (int i = 0; i < 2; i++) {
		char from[64], to[64];

		new_name(from, files->number, i);
		kept_name(to, crl, i);
		if (renameat(store->folder, from, store->folder, to) < 0)
			return -errno;
	}
	return fsync(store->folder) < 0 ? -errno : 0;
}

/* Whether the files NAME belongs to are still wanted. */
static bool is_wanted(struct store *store, const char *name)
{
	unsigned long long handle;
	unsigned number;
	long long id;
	struct crl crl;

	if (sscanf(name, "crl-%lld.", &id) == 1)
		return db_crl_get(store->db, id, &crl) == 0;
	if (sscanf(name, "incoming-%llu", &handle) == 1) {
		const struct open_file *file = open_file_get(store, handle);

		return file && inode_file(file->ino) == FILE_CRL_PEM;
	}
	return sscanf(name, "new-%u.", &number) == 1 && number < COUNT(in_use) && in_use[number];
}

void crl_sweep(struct store *store)
{
	int fd = openat(store->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *folder = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!folder) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((entry = readdir(folder)))
		if (*entry->d_name != '.' && !is_wanted(store, entry->d_name))
			unlinkat(store->folder, entry->d_name, 0);
	closedir(folder);
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
