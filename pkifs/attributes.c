/* Owners, modes, sizes and times of the tree's files. */
#include "pkifs/content.h"
#include "pkifs/object.h"
#include "pkifs/tree.h"

#include <errno.h>
#include <sys/stat.h>

#define LONG_TIMEOUT  3600.0
#define SHORT_TIMEOUT 1.0

void node_owner(struct store *store, const struct node *node, struct stat *attributes)
{
	const struct file_row *row = &file_rows[node->file];
	enum file folder = node->object.id ? kind_folder(node->object.kind) : FILE_ROOT;
	enum file own = row->mode_of ? row->mode_of : node->file;
	struct file_mode mode;

	attributes->st_uid = store->uid;
	attributes->st_gid = store->gid;
	attributes->st_mode = row->mode;
	if (!node->object.id && row->number != NUMBER_ONE)
		return;
	if (db_mode_get(store->db, node->object.id, own, &mode) == 0) {
		attributes->st_uid = mode.uid;
		attributes->st_gid = mode.gid;
		attributes->st_mode = mode.mode;
	} else if (node->object.id && db_mode_get(store->db, node->object.id, folder, &mode) == 0) {
		attributes->st_uid = mode.uid;
		attributes->st_gid = mode.gid;
	}
}

static int folder_links(struct store *store, const struct node *node)
{
	int64_t count = 0;

	if (place_kind(node->file))
		db_object_count(store->db, place_kind(node->file), &count);
	return 2 + (int)count;
}

static int temporary_attributes(struct store *store, const struct node *node,
                                struct stat *attributes)
{
	const struct temporary *temporary = temporary_get(store, node_inode(node));

	if (!temporary)
		return -ESTALE;
	attributes->st_mode = S_IFREG | temporary->mode;
	attributes->st_uid = temporary->uid;
	attributes->st_gid = temporary->gid;
	attributes->st_size = (off_t)temporary->length;
	attributes->st_mtim.tv_sec = temporary->touched;
	return 0;
}

static int content_attributes(struct store *store, const struct node *node, struct stat *attributes)
{
	struct content content = { 0 };
	int64_t end;
	int r;

	if (node->file == FILE_EVENTS) {
		r = db_event_end(store->db, &end);
		attributes->st_size = end - node->number;
		attributes->st_mtim.tv_sec = store_now(store);
		return r;
	}
	r = node_content(store, node, &content);
	attributes->st_size = (off_t)content_size(&content);
	attributes->st_mtim.tv_sec = content.time;
	content_clear(&content);
	return r;
}

int node_attributes(struct store *store, const struct node *node, struct stat *attributes)
{
	unsigned char acl[ACL_MAX];
	int r = 0;

	*attributes = (struct stat){ .st_nlink = 1, .st_blksize = 4096 };
	attributes->st_ino = inode_make(node->file, node->number);
	if (node->file == FILE_TEMPORARY) {
		r = temporary_attributes(store, node, attributes);
	} else if (file_rows[node->file].flags & FILE_IS_FOLDER) {
		node_owner(store, node, attributes);
		attributes->st_mode |= S_IFDIR;
		attributes->st_nlink = (nlink_t)folder_links(store, node);
		attributes->st_mtim.tv_sec = node->object.created;
	} else {
		node_owner(store, node, attributes);
		attributes->st_mode |= S_IFREG;
		/* with an ACL, the group's bits are its mask (acl(5)), and 0 would mean nobody */
		if ((file_rows[node->file].flags & FILE_PRIVATE) &&
		    key_readers_acl(store, &node->object, attributes->st_mode, acl))
			attributes->st_mode |= S_IRGRP;
		r = content_attributes(store, node, attributes);
	}
	attributes->st_blocks = (attributes->st_size + 511) / 512;
	attributes->st_ctim = attributes->st_atim = attributes->st_mtim;
	return r;
}

double node_timeout(enum file file)
{
	if (file_rows[file].flags & FILE_MADE)
		return 0;
	return file_rows[file].flags & FILE_WRITABLE ? SHORT_TIMEOUT : LONG_TIMEOUT;
}

int node_entry(struct store *store, const struct node *node, struct fuse_entry_param *entry)
{
	*entry = (struct fuse_entry_param){
		.ino = node_inode(node),
		.attr_timeout = node_timeout(node->file),
		.entry_timeout = file_rows[node->file].flags & FILE_MADE ? 0 : LONG_TIMEOUT,
	};
	return node_attributes(store, node, &entry->attr);
}

int node_set_mode(struct store *store, const struct node *node, const struct stat *wanted,
                  int to_set)
{
	const struct file_row *row = &file_rows[node->file];
	enum file own = row->mode_of ? row->mode_of : node->file;
	mode_t mode = wanted->st_mode & 07777;
	struct file_mode new;
	struct stat now = { 0 };

	node_owner(store, node, &now);
	new = (struct file_mode){ .uid = now.st_uid, .gid = now.st_gid, .mode = now.st_mode };
	if (to_set & FUSE_SET_ATTR_MODE) {
		if ((mode & 07000) || ((row->flags & FILE_PRIVATE) && (mode & 0007)))
			return -EPERM;
		if (!(row->flags & (FILE_WRITABLE | FILE_IS_FOLDER)) && (mode & 0022))
			return -EPERM;
		if (node->file == FILE_OLD_KEY)
			return -EPERM;
		new.mode = mode;
	}
	if (to_set & FUSE_SET_ATTR_UID)
		new.uid = wanted->st_uid;
	if (to_set & FUSE_SET_ATTR_GID)
		new.gid = wanted->st_gid;
	if (folder_kind(node->file) && (to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)))
		return object_hand_over(store, &node->object, node->file, &new);
	return db_mode_set(store->db, node->object.id, own, &new);
}
