/* Names that go and come: unlink and rename, as editors do it. */
#include "pkifs/judge.h"
#include "pkifs/publish.h"
#include "pkifs/tree.h"

#include <errno.h>
#include <string.h>

void tree_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct store *store = req_store(req);
	const struct fuse_ctx *by = fuse_req_ctx(req);
	struct temporary *temporary;
	struct node folder;
	enum file file;
	int r;

	r = node_get(store, parent, &folder);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	file = file_find(folder.file, name);
	temporary = file ? NULL : temporary_find(store, parent, name, by->uid);
	if (folder.file == FILE_ROOT)
		r = EPERM;
	else if (file) /* what it held stays in force */
		name_hide(parent, file, process_of(by->pid));
	else if (temporary)
		temporary_drop(store, temporary);
	else
		r = session_replays(store->session) ? 0
		                                    : ENOENT; /* run again: it is gone already */
	fuse_reply_err(req, r);
}

/* A name of ours is moved away: it stays, and the new name gets a copy (but of a key). */
static int rename_away(struct store *store, fuse_req_t req, const struct node *folder,
                       enum file file, const char *newname)
{
	const struct fuse_ctx *by = fuse_req_ctx(req);
	struct temporary *temporary = temporary_find(store, node_inode(folder), newname, by->uid);
	struct content content = { 0 };
	struct node node;
	int r;

	if (!temporary)
		temporary = temporary_add(store, node_inode(folder), newname, by, 0600);
	if (!temporary)
		return -ENOSPC;
	r = node_of(store, &folder->object, file, &node);
	if (r == 0 && !(file_rows[file].flags & (FILE_PRIVATE | FILE_LARGE)))
		r = node_content(store, &node, &content);
	if (r == 0 && content.length <= FILE_LIMIT) {
		memcpy(store->shared->buffers[temporary->buffer], content.text ? content.text : "",
		       content.length);
		temporary->length = content.length;
	}
	content_clear(&content);
	name_hide(node_inode(folder), file, process_of(by->pid));
	return r;
}

/* Whether anything in FOLDER can be renamed to a name in NEWPARENT. */
static int check_places(const struct node *folder, fuse_ino_t newparent, unsigned flags)
{
	bool of_folders = place_kind(folder->file);
	bool moves = newparent != node_inode(folder);

	if (flags & ~(unsigned)RENAME_NOREPLACE || (moves && flags))
		return -EINVAL;
	if (moves && !of_folders)
		return -EXDEV;
	return folder_kind(folder->file) ? 0 : -EPERM;
}

static bool is_published(const char *name)
{
	return strncmp(name, PUBLISH_PREFIX, sizeof PUBLISH_PREFIX - 1) == 0;
}

/* The publisher's rename of a hidden NAME: the event is all it is for. */
static int rename_published(const char *name, const char *newname)
{
	const char *shown = strchr(name + sizeof PUBLISH_PREFIX - 1, '-');

	return shown && strcmp(shown + 1, newname) == 0 ? 0 : -EPERM;
}

/* 0 or a negative errno; 1: its text is judged, and the writer answered by that. */
static int rename_temporary(struct store *store, fuse_req_t req, const struct node *folder,
                            struct temporary *from, const char *newname)
{
	const struct fuse_ctx *by = fuse_req_ctx(req);
	const struct judging judging = {
		.store = store, .rename = true, .object = folder->object, .source = from->ino
	};
	enum file file = file_find(folder->file, newname);
	struct temporary *onto;

	if (!file) {
		if (strlen(newname) >= sizeof from->name)
			return -ENAMETOOLONG;
		onto = temporary_find(store, node_inode(folder), newname, by->uid);
		if (onto && onto != from)
			temporary_drop(store, onto);
		memcpy(from->name, newname, strlen(newname) + 1);
		return 0;
	}
	if (!(file_rows[file].flags & FILE_WRITABLE))
		return -EACCES;
	if (file == FILE_CRL_PEM)
		return -EXDEV; /* mv copies then, and its close is judged */
	name_show(node_inode(folder), file, process_of(by->pid));
	judge(&judging, req, file, store->shared->buffers[from->buffer], from->length, by->uid,
	      false);
	return 1;
}

void tree_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
                 const char *newname, unsigned flags)
{
	struct store *store = req_store(req);
	uid_t uid = fuse_req_ctx(req)->uid;
	struct temporary *from;
	struct node folder;
	enum file file;
	int r;

	r = node_get(store, parent, &folder);
	if (r == 0)
		r = check_places(&folder, newparent, flags);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	file = file_find(folder.file, name);
	from = temporary_find(store, parent, name, uid);
	if (is_published(name))
		r = rename_published(name, newname);
	else if (from)
		r = rename_temporary(store, req, &folder, from, newname);
	else if (file)
		r = file_find(folder.file, newname)
		            ? -EPERM
		            : rename_away(store, req, &folder, file, newname);
	else if (!session_replays(store->session) || /* run again: it has its new name already */
	         !temporary_find(store, parent, newname, uid))
		r = -ENOENT;
	if (r <= 0)
		fuse_reply_err(req, -r);
}
