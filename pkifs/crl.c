/* CRLs: body and index are files beside the store, made by a worker, kept with the CRL's row. */
#include "common/crlentry.h"
#include "common/log.h"
#include "common/x509.h"
#include "pkifs/object.h"
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

int crl_files_new(struct store *store, struct crl_files *files)
{
	unsigned number = 0;
	int fds[2];

	while (number < COUNT(in_use) && in_use[number])
		number++;
	if (number == COUNT(in_use))
		return -EMFILE;
	files->number = number;
	for (int i = 0; i < 2; i++) {
		char name[64];

		new_name(name, number, i);
		fds[i] = openat(store->folder, name,
		                O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fds[i] < 0) {
			int r = -errno;

			if (i)
				close(fds[0]);
			return r;
		}
	}
	files->body = fds[0];
	files->index = fds[1];
	in_use[number] = true;
	return 0;
}

void crl_files_drop(struct store *store, struct crl_files *files)
{
	for (int i = 0; i < 2; i++) {
		char name[64];

		new_name(name, files->number, i);
		unlinkat(store->folder, name, 0);
	}
	close(files->body);
	close(files->index);
	in_use[files->number] = false;
}

/* The files are what the worker said; what a power cut cut short is no CRL that is empty. */
static bool is_whole(int body, int index, const struct crl *crl)
{
	const off_t entry = sizeof(struct crl_entry);
	struct stat file;

	if (body >= 0 && (fstat(body, &file) < 0 || file.st_size != crl->size))
		return false;
	return index < 0 ||
	       (fstat(index, &file) == 0 && crl->entries >= 0 &&
	        crl->entries <= file.st_size / entry && file.st_size == crl->entries * entry);
}

int crl_open_index(struct store *store, const struct crl *crl)
{
	int fd = crl_open(store, crl->id, true);

	if (fd < 0 || is_whole(-1, fd, crl))
		return fd;
	close(fd);
	return -EINVAL;
}

static int keep_files(struct store *store, const struct crl_files *files, int64_t crl)
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

/* CRL numbers as hex, as long as 20 octets: the longer, else the later in order, is higher. */
static bool is_lower(const char *number, const char *than)
{
	while (*number == '0')
		number++;
	while (*than == '0')
		than++;
	if (strlen(number) != strlen(than))
		return strlen(number) < strlen(than);
	return strcasecmp(number, than) < 0;
}

static int check_not_older(struct store *store, const struct edition *edition,
                           const struct crl *crl, struct error *err)
{
	struct crl old;

	if (!edition->crl || db_crl_get(store->db, edition->crl, &old) < 0)
		return 0;
	if (*crl->number && *old.number && is_lower(crl->number, old.number))
		return error_set(err, -EINVAL, "the CRL has number %s, the one in force %s",
		                 crl->number, old.number);
	if (crl->this_update < old.this_update)
		return error_set(err, -EINVAL, "the CRL is older than the one in force");
	return 0;
}

int crl_publish(struct store *store, const struct object *object, struct crl_files *files,
                const struct record *result, const char *source, struct error *err)
{
	struct crl crl = { .object = object->id, .created = store_now(store) };
	struct edition edition;
	int r;

	crl.size = record_number(result, "size", 0);
	crl.entries = record_number(result, "crl-entries", 0);
	crl.this_update = record_number(result, "crl-this-update", 0);
	crl.next_update = record_number(result, "crl-next-update", 0);
	snprintf(crl.source, sizeof crl.source, "%s", source);
	snprintf(crl.number, sizeof crl.number, "%s",
	         record_get(result, "crl-number") ? record_get(result, "crl-number") : "");
	r = db_edition_get(store->db, object->edition, &edition);
	if (r < 0)
		return r;
	r = check_not_older(store, &edition, &crl, err);
	if (r == 0 && !is_whole(files->body, files->index, &crl))
		r = error_set(err, -EINVAL, "the CRL is not as long as its worker says");
	if (r == 0)
		r = db_crl_add(store->db, &crl, &edition.crl);
	if (r == 0)
		r = keep_files(store, files, edition.crl);
	if (r == 0)
		r = edition_publish(store, object, &edition);
	if (r == 0)
		r = store_clock_floor(store, crl.this_update);
	if (r == 0)
		r = store_event(store, object, "crl", NULL);
	if (r == 0)
		r = crl_sweep_after(store);
	edition_clear(&edition);
	return r;
}
