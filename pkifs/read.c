/* Opening a file, and reading what it holds. */
#include "pkifs/content.h"
#include "pkifs/crl.h"
#include "pkifs/object.h"
#include "pkifs/secrets.h"
#include "pkifs/tree.h"
#include "pkifs/verify.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static bool content_is_kept(enum file file)
{
	enum number number = file_rows[file].number;

	return !(file_rows[file].flags & FILE_WAITS) &&
	       (number == NUMBER_OBJECT || number == NUMBER_ONE);
}

/* An old version whose key is no longer kept: the kernel may still know the name. */
static bool key_is_gone(struct store *store, const struct node *node)
{
	const struct file_row *row = &file_rows[node->file];
	struct content content = { 0 };
	bool gone;

	if (row->number != NUMBER_VERSION || !(row->flags & FILE_PRIVATE))
		return false;
	gone = node_content(store, node, &content) == -ENOENT;
	content_clear(&content);
	return gone;
}

/* The node that OPEN of INO is for; -ESTALE: the kernel is to look its name up again. */
static int node_to_open(struct store *store, fuse_req_t req, uint64_t ino, struct node *node,
                        uint64_t *shown)
{
	const struct open_file *again = open_file_again(store);
	pid_t thread = fuse_req_ctx(req)->pid;
	int r = node_get(store, ino, node);

	*shown = again ? again->shown : 0;
	if (r == 0 && !again &&
	    (key_is_gone(store, node) ||
	     (!node->current && !refusal_is_over(store, thread, node, shown))))
		r = -ESTALE;
	refusal_note(store, thread, r == -ESTALE ? node : NULL);
	return r;
}

void tree_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct store *store = req_store(req);
	bool write = (fi->flags & O_ACCMODE) != O_RDONLY;
	struct content content = { 0 };
	struct open_file *file;
	struct node node;
	uint64_t shown;
	int r;

	r = node_to_open(store, req, ino, &node, &shown);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	fi->direct_io = shown || (file_rows[node.file].flags & FILE_DIRECT);
	fi->keep_cache = !fi->direct_io;
	fi->noflush = !write;
	if (write || node.file == FILE_TEMPORARY) {
		text_open(store, req, &node, fi);
		return;
	}
	if (content_is_kept(node.file))
		r = node_content(store, &node, &content);
	file = r == 0 ? open_file_add(store, req, &node) : NULL;
	if (!file) {
		content_clear(&content);
		fuse_reply_err(req, r < 0 ? -r : ENFILE);
		return;
	}
	file->shown = shown;
	if (node.file == FILE_WATCH && !file->start)
		db_event_end(store->db, (int64_t *)&file->start);
	fi->fh = open_file_handle(store, file);
	snapshot_drop(store->snapshots[fi->fh]);
	store->snapshots[fi->fh] = content.text ? snapshot_take(&content) : NULL;
	content_clear(&content);
	fuse_reply_open(req, fi);
}

/* LENGTH bytes of TEXT from OFFSET, at most SIZE. */
static void reply_slice(fuse_req_t req, const char *text, size_t length, size_t size, off_t offset)
{
	size_t from = (size_t)offset;

	if (from >= length)
		fuse_reply_buf(req, NULL, 0);
	else
		fuse_reply_buf(req, text + from, length - from < size ? length - from : size);
}

static void read_crl(fuse_req_t req, const struct content *content, size_t size, off_t offset)
{
	struct store *store = req_store(req);
	size_t whole = content_size(content), from = (size_t)offset;
	char *bytes = NULL;
	int fd, got = 0;

	if (from >= whole) {
		fuse_reply_buf(req, NULL, 0);
		return;
	}
	size = whole - from < size ? whole - from : size;
	fd = crl_open(store, content->crl, false);
	bytes = malloc(size);
	if (fd < 0 || !bytes)
		got = -EIO;
	else if (content->crl_pem)
		got = pem_crl_read(fd, content->crl_size, from, bytes, size);
	else
		got = (int)pread(fd, bytes, size, offset);
	if (got < 0)
		fuse_reply_err(req, EIO);
	else
		fuse_reply_buf(req, bytes, (size_t)got);
	free(bytes);
	if (fd >= 0)
		close(fd);
}

/* The first READ ends the question; its answer begins where that one is. */
static void verify_read(fuse_req_t req, const struct node *node, size_t size, off_t offset,
                        uint64_t handle)
{
	struct store *store = req_store(req);
	struct open_file *file = open_file_get(store, handle);
	struct snapshot *answer = store->snapshots[handle];
	struct content content = { 0 };
	int r = 0;

	if (file->buffer < 0) { /* nothing was asked */
		fuse_reply_buf(req, NULL, 0);
		return;
	}
	if (file->refused) {
		fuse_reply_err(req, file->refused);
		return;
	}
	if (!file->answered)
		file->start = (uint64_t)offset;
	file->answered = true;
	if (!answer) {
		r = verify_answer(store, &node->object, store->shared->buffers[file->buffer],
		                  file->length, &content);
		if (r == 0 && !(answer = store->snapshots[handle] = snapshot_take(&content)))
			r = -ENOMEM;
		content_clear(&content);
	}
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		reply_slice(req, answer->text, answer->length, size,
		            (uint64_t)offset < file->start ? offset : offset - (off_t)file->start);
}

/* KEPT (or NULL): where a text is kept for the next READ, which finds its end. */
static void read_content(fuse_req_t req, const struct node *node, size_t size, off_t offset,
                         struct snapshot **kept)
{
	struct store *store = req_store(req);
	struct content content = { 0 };
	int r = node_content(store, node, &content);

	if (r < 0)
		fuse_reply_err(req, r == -ENOENT ? ESTALE : -r);
	else if (content.crl)
		read_crl(req, &content, size, offset);
	else if (content.key && (size_t)offset < content.key_size)
		secrets_read(store, req, &content, size, offset);
	else
		reply_slice(req, content.text, content.length, size,
		            offset - (off_t)content.key_size);
	if (r == 0 && kept && content.text && !content.key && !content.crl &&
	    (file_rows[node->file].flags & FILE_DIRECT))
		*kept = snapshot_take(&content);
	content_clear(&content);
}

void tree_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct store *store = req_store(req);
	const struct open_file *file = open_file_get(store, fi->fh);
	struct node node;
	int r = node_get(store, file && file->shown ? file->shown : ino, &node);

	if (r < 0)
		fuse_reply_err(req, -r);
	else if (file && node.file == FILE_VERIFY)
		verify_read(req, &node, size, offset, fi->fh);
	else if (file && file->buffer >= 0)
		reply_slice(req, store->shared->buffers[file->buffer], file->length, size, offset);
	else if (node.file == FILE_WATCH)
		watch_read(req, size, offset, fi);
	else if (node.file == FILE_WAIT)
		wait_read(req, &node, size, offset, fi);
	else if (node.file == FILE_EVENTS)
		events_read(req, node.number, size, offset);
	else if (file && store->snapshots[fi->fh])
		reply_slice(req, store->snapshots[fi->fh]->text, store->snapshots[fi->fh]->length,
		            size, offset);
	else
		read_content(req, &node, size, offset, file ? &store->snapshots[fi->fh] : NULL);
}
