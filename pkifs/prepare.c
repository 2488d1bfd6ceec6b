/* What must be there before the first store can be started: users, programs, folder, mount. */
#include "common/log.h"
#include "pkifs/shared.h"
#include "pkifs/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int check_users(const struct supervision *given, struct error *err)
{
	const char *const names[] = { "user", "worker-user" };

	for (size_t i = 0; is_separated(given) && i < COUNT(names); i++)
		if (!getpwnam(setting(given, names[i])))
			return error_set(err, -ENOENT,
			                 "there is no user %s: make it with useradd --system "
			                 "--no-create-home %s, or set privilege-separation = no",
			                 setting(given, names[i]), setting(given, names[i]));
	return 0;
}

/* The user that the store runs as, or NULL: who started us. */
static const struct passwd *store_user(const struct supervision *given)
{
	return is_separated(given) ? getpwnam(setting(given, "user")) : NULL;
}

/* Gives what we made for the store to its user. */
static void hand_to_store(const struct supervision *given, const char *path)
{
	const struct passwd *user = store_user(given);

	if (user && lchown(path, user->pw_uid, user->pw_gid) < 0)
		log_debug("%s: %s", path, strerror(errno));
}

static int make_folder(const struct supervision *given, const char *path, struct error *err)
{
	const struct passwd *user = store_user(given);
	struct stat file;

	if (mkdir(path, 0700) == 0)
		hand_to_store(given, path);
	else if (errno != EEXIST)
		return error_set(err, -errno, "the folder %s of the store: %s", path,
		                 strerror(errno));
	if (user && stat(path, &file) == 0 && file.st_uid != user->pw_uid)
		return error_set(
			err, -EPERM,
			"the folder %s of the store does not belong to user %s: chown %s %s", path,
			user->pw_name, user->pw_name, path);
	return 0;
}

/* The lock of one that was killed goes with its last child, a moment later. */
static bool take(int lock)
{
	const struct timespec pause = { .tv_nsec = 50000000 };

	for (int i = 0; flock(lock, LOCK_EX | LOCK_NB) < 0; i++) {
		if (i == 20)
			return false;
		nanosleep(&pause, NULL);
	}
	return true;
}

/*
 * The folder beside the store, which also says who owns the store: a lock on it is held as long
 * as we live. (Nobody but SQLite may open the store's own file.)
 */
static int open_folder(struct supervision *given, struct error *err)
{
	const char *store = setting(given, "store");
	char path[4096], *slash;
	int r, folder, lock;

	snprintf(path, sizeof path, "%s", store);
	slash = strrchr(path, '/');
	if (slash && slash != path) {
		*slash = 0;
		r = make_folder(given, path, err);
		if (r < 0)
			return r;
	}
	snprintf(path, sizeof path, "%s.d", store);
	r = make_folder(given, path, err);
	if (r < 0)
		return r;
	folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	lock = folder < 0 ? -1 : openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (lock < 0)
		return error_set(err, -errno, "the folder %s: %s", path, strerror(errno));
	given->kept[KEPT_FOLDER] = folder;
	given->kept[KEPT_LOCK] = lock;
	if (!take(lock))
		return error_set(err, -EBUSY, "the store %s is in use by another pkifsd", store);
	return 0;
}

/*
 * A program of ours: beside this one (FOLDER) in a build tree, under libexec where installed. PATH
 * is where it was looked for last. The descriptor, or a negative errno.
 */
#define PROGRAM_PATH (4096 + 32)
static int open_program(const char *folder, const char *name, char path[PROGRAM_PATH])
{
	int fd;

	snprintf(path, PROGRAM_PATH, "%s/%s", folder, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		snprintf(path, PROGRAM_PATH, "%s/%s", PKIFS_LIBEXECDIR, name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
	}
	return fd < 0 ? -errno : fd;
}

static int open_programs(struct supervision *given, struct error *err)
{
	char self[4096], path[PROGRAM_PATH], *slash;
	ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);

	if (length < 0)
		return error_set(err, -errno, "/proc/self/exe: %s", strerror(errno));
	self[length] = 0;
	slash = strrchr(self, '/');
	*slash = 0;
	given->ipsec_fd = open_program(self, "pkifs-ipsec", path);
	given->worker_fd = open_program(self, "pkifs-enroll", path);
	given->self_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (given->worker_fd < 0 || given->self_fd < 0)
		return error_set(err, -errno, "%s: %s", path, strerror(errno));
	*slash = '/';
	given->program = strdup(self);
	if (!given->program)
		return error_set(err, -ENOMEM, "out of memory");
	log_info("pkifsd %s with %s", PKIFS_VERSION, path);
	return 0;
}

/* A mount, and what must outlive its stores. */
static int begin(struct supervision *given, struct error *err)
{
	int r = open_folder(given, err);
	int *fuse = &given->kept[KEPT_FUSE];

	if (r == 0)
		r = store_key_make(setting(given, "store-key"), setting(given, "store"), err);
	if (r == 0) {
		r = shared_make(&given->kept[KEPT_SHARED]);
		if (r < 0)
			error_set(err, r, "no shared memory: %s", strerror(-r));
	}
	if (r == 0)
		r = mount_make(setting(given, "mount-point"),
		               record_is(given->conf, "allow-other", "yes"), &given->mount, fuse,
		               err);
	if (r == 0 && fcntl(*fuse, F_SETFL, fcntl(*fuse, F_GETFL) | O_NONBLOCK) < 0)
		r = error_set(err, -errno, "/dev/fuse: %s", strerror(errno));
	return r;
}

/* The same, from the program whose place we took. */
static int go_on(struct supervision *given, struct error *err)
{
	return mount_adopt(setting(given, "mount-point"), given->kept[KEPT_FUSE], &given->mount) < 0
	               ? error_set(err, -ENOMEM, "out of memory")
	               : 0;
}

int prepare_programs(struct supervision *given, struct error *err)
{
	int r = check_users(given, err);

	return r < 0 ? r : open_programs(given, err);
}

int prepare(struct supervision *given, struct error *err)
{
	int r = prepare_programs(given, err);

	if (r == 0)
		r = given->goes_on ? go_on(given, err) : begin(given, err);
	return r;
}
