#include "pkifs/supervisor.h"

#define FUSE_USE_VERSION 314
#include <dirent.h>
#include <errno.h>
#include <fuse_lowlevel.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct mount {
	struct fuse_session *session; /* only mounts; the store serves. NULL: adopted */
	char *path;
	int fd;
};

/* The type of what is mounted on PATH, or an empty string. mountinfo: asking PATH might hang. */
static void mounted_type(const char *path, char *type, size_t size)
{
	FILE *table = fopen("/proc/self/mountinfo", "re");
	char *line = NULL, *point, *rest;
	size_t room = 0;

	*type = 0;
	while (table && getline(&line, &room, table) > 0) {
		char *at = line;

		for (int i = 0; i < 4 && at; i++)
			at = strchr(at, ' ') ? strchr(at, ' ') + 1 : NULL;
		if (!at)
			continue;
		point = at;
		rest = strstr(point, " - ");
		point[strcspn(point, " ")] = 0;
		if (rest && strcmp(point, path) == 0)
			snprintf(type, size, "%.*s", (int)strcspn(rest + 3, " "), rest + 3);
	}
	free(line);
	if (table)
		fclose(table);
}

static int is_dead(const char *path)
{
	struct stat file;

	return stat(path, &file) < 0 && errno == ENOTCONN;
}

static int detach(const char *path)
{
	char *const arguments[] = { (char[]){ "fusermount3" }, (char[]){ "-u" }, (char[]){ "-z" },
		                    (char[]){ "--" },          strdup(path),     NULL };
	pid_t pid;
	int status = 1;

	if (umount2(path, MNT_DETACH) == 0) {
		free(arguments[4]);
		return 0;
	}
	pid = fork();
	if (pid == 0) {
		execvp(arguments[0], arguments);
		_exit(127);
	}
	if (pid > 0)
		waitpid(pid, &status, 0);
	free(arguments[4]);
	return status == 0 ? 0 : -EBUSY;
}

static int check_empty(const char *path, struct error *err)
{
	DIR *folder = opendir(path);
	struct dirent *entry;
	int r = 0;

	if (!folder)
		return error_set(err, -errno, "the mount point %s cannot be read: %s", path,
		                 strerror(errno));
	while (r == 0 && (entry = readdir(folder)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			r = error_set(err, -ENOTEMPTY, "the mount point %s is not empty", path);
	closedir(folder);
	return r;
}

static int check_place(const char *path, struct error *err)
{
	struct stat file;
	char type[64];

	mounted_type(path, type, sizeof type);
	if (strcmp(type, "fuse.pkifs") == 0) {
		if (!is_dead(path))
			return error_set(err, -EBUSY, "pkifs is mounted on %s already", path);
		if (detach(path) < 0)
			return error_set(err, -EBUSY,
			                 "%s is a dead pkifs mount that cannot be detached: try "
			                 "umount -l %s",
			                 path, path);
	}
	if (lstat(path, &file) < 0)
		return error_set(err, -errno, "the mount point %s: %s; make it with mkdir", path,
		                 strerror(errno));
	if (S_ISLNK(file.st_mode))
		return error_set(err, -ELOOP, "the mount point %s is a symbolic link", path);
	if (!S_ISDIR(file.st_mode))
		return error_set(err, -ENOTDIR, "the mount point %s is no directory", path);
	if (file.st_uid != geteuid()) /* who could put a link in its place */
		return error_set(err, -EPERM, "the mount point %s belongs to somebody else", path);
	return check_empty(path, err);
}

int mount_make(const char *path, bool allow_other, struct mount **mount, int *fd, struct error *err)
{
	static const struct fuse_lowlevel_ops none = { 0 };
	char name[] = "pkifsd", options[128];
	char *argv[] = { name, options, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(2, argv);
	struct mount *new;
	int r;

	r = check_place(path, err);
	if (r < 0)
		return r;
	snprintf(options, sizeof options, "-osubtype=pkifs,fsname=pkifs,default_permissions%s",
	         allow_other ? ",allow_other" : "");
	new = calloc(1, sizeof *new);
	if (!new)
		return error_set(err, -ENOMEM, "out of memory");
	new->session = fuse_session_new(&args, &none, sizeof none, NULL);
	fuse_opt_free_args(&args);
	if (!new->session || fuse_session_mount(new->session, path) < 0) {
		if (new->session)
			fuse_session_destroy(new->session);
		free(new);
		return error_set(err, -EIO,
		                 "%s cannot be mounted (see the message above; is fuse3 "
		                 "installed, and /dev/fuse there?)",
		                 path);
	}
	*fd = fuse_session_fd(new->session);
	*mount = new;
	return 0;
}

int mount_adopt(const char *path, int fd, struct mount **mount)
{
	struct mount *new = calloc(1, sizeof *new);

	if (new)
		*new = (struct mount){ .path = strdup(path), .fd = fd };
	if (!new || !new->path) {
		free(new);
		return -ENOMEM;
	}
	*mount = new;
	return 0;
}

void mount_remove(struct mount *mount)
{
	struct pollfd connection;
	bool gone;

	if (!mount)
		return;
	if (mount->session) {
		fuse_session_unmount(mount->session);
		fuse_session_destroy(mount->session);
	} else {
		connection = (struct pollfd){ .fd = mount->fd };
		gone = poll(&connection, 1, 0) == 1 && connection.revents & POLLERR;
		close(mount->fd);
		if (!gone)
			detach(mount->path);
	}
	free(mount->path);
	free(mount);
}
