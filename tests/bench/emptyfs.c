/*
 * emptyfs [-d] FILE MOUNTPOINT: a FUSE file system that does nothing: its one file,
 * MOUNTPOINT/local/www/file, has the bytes of FILE. As pkifs does it: libfuse's low level, one
 * thread, long timeouts, no FLUSH. -d: direct_io, so that the kernel keeps nothing of it.
 * What open, read and close cost here, they cost in every FUSE file system.
 */
#define FUSE_USE_VERSION 314

#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LONG_TIMEOUT 86400
#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Each inode is the only name in the one before; the last is the file. */
static const char *const names[] = { "", "local", "www", "file" };

static char bytes[1 << 20];
static size_t length;
static bool direct;

static struct stat attributes_of(fuse_ino_t ino)
{
	bool folder = ino < COUNT(names);

	return (struct stat){ .st_ino = ino,
		              .st_mode = folder ? S_IFDIR | 0755 : S_IFREG | 0644,
		              .st_nlink = 1,
		              .st_size = folder ? 0 : (off_t)length };
}

static void empty_init(void *user, struct fuse_conn_info *connection)
{
	(void)user;
	connection->want &=
		~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
}

static void empty_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param entry = { .ino = parent + 1,
		                          .attr_timeout = LONG_TIMEOUT,
		                          .entry_timeout = LONG_TIMEOUT };

	if (parent >= COUNT(names) || strcmp(name, names[parent]) != 0) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	entry.attr = attributes_of(entry.ino);
	fuse_reply_entry(req, &entry);
}

static void empty_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat attributes = attributes_of(ino);

	(void)fi;
	fuse_reply_attr(req, &attributes, LONG_TIMEOUT);
}

static void empty_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	fi->direct_io = direct;
	fi->keep_cache = !direct;
	fi->noflush = 1;
	fuse_reply_open(req, fi);
}

static void empty_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                       struct fuse_file_info *fi)
{
	size_t at = (size_t)offset < length ? (size_t)offset : length;

	(void)ino;
	(void)fi;
	fuse_reply_buf(req, bytes + at, size < length - at ? size : length - at);
}

static const struct fuse_lowlevel_ops ops = {
	.init = empty_init,
	.lookup = empty_lookup,
	.getattr = empty_getattr,
	.open = empty_open,
	.read = empty_read,
};

static int load(const char *path)
{
	FILE *file = fopen(path, "re");

	if (!file)
		return -errno;
	length = fread(bytes, 1, sizeof bytes, file);
	fclose(file);
	return length ? 0 : -EIO;
}

static int serve(const char *mountpoint)
{
	char program[] = "emptyfs", o[] = "-o", options[] = "default_permissions,fsname=emptyfs";
	char *argv[] = { program, o, options, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(3, argv);
	struct fuse_session *session = fuse_session_new(&args, &ops, sizeof ops, NULL);
	int r = 1;

	if (!session)
		return 1;
	if (fuse_set_signal_handlers(session) == 0 &&
	    fuse_session_mount(session, mountpoint) == 0) {
		r = fuse_session_loop(session) < 0;
		fuse_session_unmount(session);
	}
	fuse_session_destroy(session);
	fuse_opt_free_args(&args);
	return r;
}

int main(int argc, char **argv)
{
	int r;

	direct = argc == 4 && strcmp(argv[1], "-d") == 0;
	if (argc != 3 + direct) {
		fprintf(stderr, "usage: %s [-d] FILE MOUNTPOINT\n", argv[0]);
		return 2;
	}
	r = load(argv[1 + direct]);
	if (r < 0) {
		fprintf(stderr, "%s: %s\n", argv[1 + direct], strerror(-r));
		return 1;
	}
	return serve(argv[2 + direct]);
}
