/* Folders: what stands in them. */
#include "pkifs/challenge.h"
#include "pkifs/tree.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

/* One entry into the buffer; false when it is full. */
static bool add_entry(fuse_req_t req, char *bytes, size_t size, size_t *used, const char *name,
                      uint64_t ino, bool folder, off_t next)
{
	struct stat attributes = { .st_ino = ino, .st_mode = folder ? S_IFDIR : S_IFREG };
	size_t need = fuse_add_direntry(req, bytes + *used, size - *used, name, &attributes, next);

	if (need > size - *used)
		return false;
	*used += need;
	return true;
}

/* Offsets: 1 and 2 for . and .., then 3 + the file's row. */
static bool list_files(fuse_req_t req, const struct node *folder, off_t offset, char *bytes,
                       size_t size, size_t *used)
{
	struct store *store = req_store(req);
	bool some = true;

	for (enum file file = FILE_ROOT + 1; some && file < FILES; file++) {
		const struct file_row *row = &file_rows[file];
		bool is_folder = row->flags & FILE_IS_FOLDER;
		struct content content = { 0 };
		struct node node;

		if (!row->name || !file_in_folder(file, folder->file) || offset >= 3 + (off_t)file)
			continue;
		if (row->number == NUMBER_VERSION)
			node = (struct node){ .file = file,
				              .number = folder->number,
				              .object = folder->object };
		else if (node_of(store, folder->object.id ? &folder->object : NULL, file, &node) <
		         0)
			continue;
		if (row->number == NUMBER_EDITION || row->number == NUMBER_VERSION) {
			if (node_content(store, &node, &content) < 0)
				continue;
			content_clear(&content);
		}
		some = add_entry(req, bytes, size, used, row->name, node_inode(&node), is_folder,
		                 3 + (off_t)file);
	}
	return some;
}

/* A listing under way. */
struct listing {
	fuse_req_t req;
	enum file file;
	char *bytes;
	size_t size, *used;
};

static int list_object(int64_t id, const char *name, void *user)
{
	const struct listing *listing = user;

	return !add_entry(listing->req, listing->bytes, listing->size, listing->used, name,
	                  inode_make(listing->file, id), true, 3 + id);
}

/* Offsets: 3 + the object's row, so that a listing goes on where it was. */
static void list_objects(fuse_req_t req, const struct node *folder, off_t offset, char *bytes,
                         size_t size, size_t *used)
{
	enum kind kind = place_kind(folder->file);
	struct listing listing = {
		.req = req, .file = kind_folder(kind), .bytes = bytes, .size = size, .used = used
	};

	db_object_names(req_store(req)->db, kind, offset > 3 ? offset - 3 : 0, list_object,
	                &listing);
}

static void list_versions(fuse_req_t req, const struct node *folder, off_t offset, char *bytes,
                          size_t size, size_t *used)
{
	struct store *store = req_store(req);
	int64_t number = offset > 3 ? offset - 3 : 0, version;
	char name[24];

	while (db_version_next(store->db, folder->object.id, number, &version, &number) == 0) {
		snprintf(name, sizeof name, "%lld", (long long)number);
		if (!add_entry(req, bytes, size, used, name, inode_make(FILE_VERSION, version),
		               true, 3 + number))
			return;
	}
}

/* Offsets: 3 + the challenge's number. */
static void list_challenges(fuse_req_t req, off_t offset, char *bytes, size_t size, size_t *used)
{
	int64_t number = offset > 3 ? offset - 3 : 0;
	char token[CHALLENGE_TOKEN_MAX + 1];

	while (challenge_next(number, &number, token) == 0)
		if (!add_entry(req, bytes, size, used, token, inode_make(FILE_CHALLENGE, number),
		               false, 3 + number))
			return;
}

void tree_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                  struct fuse_file_info *fi)
{
	struct store *store = req_store(req);
	struct node folder;
	size_t used = 0;
	char *bytes;
	int r;

	(void)fi;
	r = node_get(store, ino, &folder);
	bytes = r == 0 ? malloc(size) : NULL;
	if (!bytes) {
		fuse_reply_err(req, r < 0 ? -r : ENOMEM);
		return;
	}
	if (offset < 1)
		add_entry(req, bytes, size, &used, ".", ino, true, 1);
	if (offset < 2)
		add_entry(req, bytes, size, &used, "..", ino, true, 2);
	if (place_kind(folder.file))
		list_objects(req, &folder, offset, bytes, size, &used);
	else if (folder.file == FILE_CHALLENGES)
		list_challenges(req, offset, bytes, size, &used);
	else if (folder.file == FILE_VERSIONS)
		list_versions(req, &folder, offset, bytes, size, &used);
	else
		list_files(req, &folder, offset, bytes, size, &used);
	fuse_reply_buf(req, bytes, used);
	free(bytes);
}
