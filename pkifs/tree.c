#include "pkifs/tree.h"

#include "pkifs/challenge.h"
#include "pkifs/keycheck.h"
#include "pkifs/object.h"
#include "pkifs/publish.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

struct store *req_store(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static void tree_init(void *user, struct fuse_conn_info *connection)
{
	(void)user;
	connection->max_write = WRITE_MAX;
	connection->want &=
		~(unsigned)(FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
	                    FUSE_CAP_SPLICE_MOVE | FUSE_CAP_WRITEBACK_CACHE);
	if (connection->capable & FUSE_CAP_POSIX_ACL)
		connection->want |= FUSE_CAP_POSIX_ACL;
}

pid_t process_of(pid_t thread)
{
	char path[64], line[256];
	int process = 0;
	FILE *status;

	snprintf(path, sizeof path, "/proc/%d/status", (int)thread);
	status = fopen(path, "re");
	if (!status)
		return thread;
	while (!process && fgets(line, sizeof line, status))
		if (strncmp(line, "Tgid:", 5) == 0)
			process = (int)strtol(line + 5, NULL, 10);
	fclose(status);
	return process ? process : thread;
}

/* A node below FOLDER that is an object or a version: named by the store, not by a row. */
static int lookup_row(struct store *store, const struct node *folder, const char *name,
                      struct node *node)
{
	enum kind kind = place_kind(folder->file);
	int64_t number, version;
	char *end;
	int r;

	*node = (struct node){ .current = true };
	if (kind) {
		r = db_object_find(store->db, kind, name, &node->object);
		node->file = kind_folder(kind);
		node->number = node->object.id;
		return r;
	}
	if (folder->file == FILE_CHALLENGES) {
		node->file = FILE_CHALLENGE;
		return challenge_find(name, &node->number);
	}
	if (folder->file != FILE_VERSIONS || !isdigit((unsigned char)*name) || *name == '0')
		return -ENOENT;
	number = strtoll(name, &end, 10);
	if (*end)
		return -ENOENT;
	r = db_version_find(store->db, folder->object.id, number, &version);
	node->object = folder->object;
	node->file = FILE_VERSION;
	node->number = version;
	return r;
}

static int lookup_file(struct store *store, const struct node *folder, const char *name,
                       struct node *node)
{
	enum file file = file_find(folder->file, name);

	if (!file)
		return -ENOENT;
	if (file_rows[file].number == NUMBER_VERSION) {
		*node = (struct node){ .file = file,
			               .number = folder->number,
			               .object = folder->object,
			               .current = true };
		return 0;
	}
	return node_of(store, folder->object.id ? &folder->object : NULL, file, node);
}

/* The thread that looked a hidden name up, and the old inode that it is going to rename onto. */
static struct {
	pid_t thread;
	uint64_t ino;
} publishing;

/* A name of the publisher's (pkifs/publisher.c): the file itself. */
static int lookup_hidden(struct store *store, fuse_req_t req, const struct node *folder,
                         const char *name, struct node *node)
{
	int64_t edition;
	char *end;
	int r;

	/* nobody else may stand where the publisher is looked for */
	if (!is_trusted(store, fuse_req_ctx(req)->uid))
		return -ENOENT;
	edition = strtoll(name + sizeof PUBLISH_PREFIX - 1, &end, 10);
	if (*end != '-' || !publisher_replaces(folder->object.id, edition))
		return -ENOENT;
	r = lookup_file(store, folder, end + 1, node);
	if (r == 0 && file_rows[node->file].number != NUMBER_EDITION)
		return -ENOENT;
	publishing.thread = r == 0 ? fuse_req_ctx(req)->pid : 0;
	publishing.ino = r == 0 ? inode_make(node->file, edition) : 0;
	return r;
}

/* For the publisher, ENTRY of NODE is what the file was: it is there to be replaced. */
static void show_replaced(pid_t thread, const struct node *node, struct fuse_entry_param *entry)
{
	if (publishing.thread != thread || inode_file(publishing.ino) != node->file ||
	    !publisher_replaces(node->object.id, inode_number(publishing.ino)))
		return;
	entry->ino = entry->attr.st_ino = publishing.ino;
	entry->attr_timeout = entry->entry_timeout = 0;
	publishing.thread = 0;
}

/* What NAME in FOLDER is to the process that asks. */
static int lookup(struct store *store, fuse_req_t req, const struct node *folder, const char *name,
                  struct node *node)
{
	const struct temporary *temporary;
	int r;

	if (!(file_rows[folder->file].flags & FILE_IS_FOLDER))
		return -ENOTDIR;
	if (strncmp(name, PUBLISH_PREFIX, sizeof PUBLISH_PREFIX - 1) == 0)
		return lookup_hidden(store, req, folder, name, node);
	r = lookup_row(store, folder, name, node);
	if (r == -ENOENT)
		r = lookup_file(store, folder, name, node);
	if (r == 0 && (file_rows[node->file].flags & FILE_IS_FOLDER) == 0 &&
	    name_hidden(node_inode(folder), node->file, fuse_req_ctx(req)->pid))
		return -ENOENT;
	if (r == -ENOENT && folder->object.id) {
		temporary = temporary_find(store, node_inode(folder), name, fuse_req_ctx(req)->uid);
		if (temporary)
			r = node_get(store, temporary->ino, node);
	}
	return r;
}

static void tree_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct store *store = req_store(req);
	struct fuse_entry_param entry;
	struct node folder, node;
	int r;

	r = node_get(store, parent, &folder);
	if (r == 0)
		r = lookup(store, req, &folder, name, &node);
	if (r == 0)
		r = node_entry(store, &node, &entry);
	if (r == 0 && name[0] != '.')
		show_replaced(fuse_req_ctx(req)->pid, &node, &entry);
	refusal_looked(store, fuse_req_ctx(req)->pid);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_entry(req, &entry);
}

static void tree_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct store *store = req_store(req);
	struct stat attributes;
	struct node node;
	int r;

	(void)fi;
	r = node_get(store, ino, &node);
	if (r == 0)
		r = node_attributes(store, &node, &attributes);
	if (r == -ENOENT) /* written for the first time: there is nothing in it yet */
		r = 0;
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_attr(req, &attributes, node_timeout(node.file));
}

static int set_attributes(struct store *store, fuse_req_t req, const struct node *node,
                          const struct stat *wanted, int to_set, struct fuse_file_info *fi)
{
	const int owner = FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID;
	struct temporary *temporary;
	int r = 0;

	if (to_set & FUSE_SET_ATTR_SIZE)
		r = text_resize(store, req, node, fi ? open_file_get(store, fi->fh) : NULL,
		                wanted->st_size);
	if (r < 0 || !(to_set & owner))
		return r;
	if (node->file == FILE_TEMPORARY) {
		temporary = temporary_get(store, node_inode(node));
		if (temporary && (to_set & FUSE_SET_ATTR_MODE))
			temporary->mode = wanted->st_mode & 0777;
		return temporary ? 0 : -ESTALE;
	}
	r = store_begin(store);
	if (r == 0)
		r = store_end(store, node_set_mode(store, node, wanted, to_set));
	return r < 0 ? r : 0;
}

static void tree_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *wanted, int to_set,
                         struct fuse_file_info *fi)
{
	struct store *store = req_store(req);
	struct stat attributes;
	struct node node;
	int r;

	r = node_get(store, ino, &node);
	if (r == 0)
		r = set_attributes(store, req, &node, wanted, to_set, fi);
	if (r == 0)
		r = node_attributes(store, &node, &attributes);
	if (r == -ENOENT)
		r = 0;
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_attr(req, &attributes, 0);
}

static void tree_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct store *store = req_store(req);
	struct fuse_entry_param entry;
	struct node folder, node;
	int r;

	(void)mode;
	r = node_get(store, parent, &folder);
	if (r == 0 && !place_kind(folder.file))
		r = -EPERM;
	if (r == 0 && !object_name_is_legal(name))
		r = -EINVAL;
	if (r == 0)
		r = store_begin(store);
	if (r == 0)
		r = store_end(store, object_create(store, place_kind(folder.file), name,
		                                   fuse_req_ctx(req)->uid, fuse_req_ctx(req)->gid));
	if (r >= 0)
		r = lookup_row(store, &folder, name, &node);
	if (r == 0)
		r = node_entry(store, &node, &entry);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_entry(req, &entry);
}

static int remove_object(struct store *store, const struct object *object)
{
	struct error err = { 0 };
	int r = store_begin(store);

	if (r == 0)
		r = store_end(store, object_remove(store, object, &err));
	if (r < 0 && err.code)
		store_refused(store, object, &err);
	return r < 0 ? r : 0;
}

static void tree_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct store *store = req_store(req);
	struct node folder, node;
	int r;

	r = node_get(store, parent, &folder);
	if (r == 0)
		r = lookup(store, req, &folder, name, &node);
	if (r == -ENOENT && store_applied(store))
		r = 1;
	if (r == 0 && !(file_rows[node.file].flags & FILE_IS_FOLDER))
		r = -ENOTDIR;
	if (r == 0 && folder.file == FILE_ROOT)
		r = -EPERM;
	if (r == 0 && folder_kind(node.file))
		r = remove_object(store, &node.object);
	fuse_reply_err(req, r < 0 ? -r : 0); /* `versions` and what is in it: 0, and they stay */
}

static void tree_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct store *store = req_store(req);
	struct statvfs values = { 0 };

	(void)ino;
	if (fstatvfs(store->folder, &values) < 0) {
		fuse_reply_err(req, errno);
		return;
	}
	values.f_namemax = NAME_MAX_LENGTH;
	fuse_reply_statfs(req, &values);
}

static void reply_attribute(fuse_req_t req, const void *value, size_t length, size_t size)
{
	if (!length)
		fuse_reply_err(req, ENODATA);
	else if (!size)
		fuse_reply_xattr(req, length);
	else if (size < length)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, value, length);
}

static void tree_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct store *store = req_store(req);
	unsigned char acl[ACL_MAX];
	struct stat attributes = { 0 };
	struct node node;
	int r = node_get(store, ino, &node);

	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	if (strcmp(name, "user.pkifs.error") == 0 && (file_rows[node.file].flags & FILE_WRITABLE)) {
		reply_attribute(req, node.object.last_error, strlen(node.object.last_error), size);
	} else if (strcmp(name, "system.posix_acl_access") == 0 &&
	           (file_rows[node.file].flags & FILE_PRIVATE)) {
		node_owner(store, &node, &attributes);
		reply_attribute(req, acl,
		                key_readers_acl(store, &node.object, attributes.st_mode, acl),
		                size);
	} else {
		fuse_reply_err(req, ENODATA);
	}
}

static void tree_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	static const char names[] = "user.pkifs.error";
	struct node node;
	int r = node_get(req_store(req), ino, &node);
	bool has =
		r == 0 && (file_rows[node.file].flags & FILE_WRITABLE) && *node.object.last_error;

	if (r < 0)
		fuse_reply_err(req, -r);
	else if (has)
		reply_attribute(req, names, sizeof names, size);
	else if (!size)
		fuse_reply_xattr(req, 0);
	else
		fuse_reply_buf(req, NULL, 0);
}

static void tree_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
                          size_t size, int flags)
{
	(void)ino;
	(void)value;
	(void)size;
	(void)flags;
	/* programs that copy an ACL take the mode alone then; readers are named by key-readers */
	fuse_reply_err(req, strncmp(name, "system.posix_acl", 16) == 0 ? EOPNOTSUPP : EPERM);
}

static void tree_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	(void)ino;
	(void)name;
	fuse_reply_err(req, EPERM);
}

static void tree_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t dev)
{
	(void)parent;
	(void)name;
	(void)mode;
	(void)dev;
	fuse_reply_err(req, EPERM);
}

static void tree_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	(void)target;
	(void)parent;
	(void)name;
	fuse_reply_err(req, EPERM);
}

static void tree_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	(void)ino;
	(void)parent;
	(void)name;
	fuse_reply_err(req, EPERM);
}

const struct fuse_lowlevel_ops tree_ops = {
	.init = tree_init,
	.lookup = tree_lookup,
	.getattr = tree_getattr,
	.setattr = tree_setattr,
	.mkdir = tree_mkdir,
	.rmdir = tree_rmdir,
	.unlink = tree_unlink,
	.rename = tree_rename,
	.open = tree_open,
	.create = tree_create,
	.read = tree_read,
	.write = tree_write,
	.flush = tree_flush,
	.fsync = tree_fsync,
	.release = tree_release,
	.readdir = tree_readdir,
	.statfs = tree_statfs,
	.getxattr = tree_getxattr,
	.listxattr = tree_listxattr,
	.setxattr = tree_setxattr,
	.removexattr = tree_removexattr,
	.mknod = tree_mknod,
	.symlink = tree_symlink,
	.link = tree_link,
	.poll = tree_poll,
};
