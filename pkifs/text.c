/*
 * Texts on their way in. A writer's bytes stand in a buffer that outlives the store; each
 * complete line, and a text that is one whole word or PEM block, is judged at write(2); the
 * whole text when its writer closes it: at the FLUSH of the process that opened it with
 * something written since, else at RELEASE. That answer is the acknowledgement.
 */
#include "pkifs/crl.h"
#include "pkifs/judge.h"
#include "pkifs/object.h"
#include "pkifs/secrets.h"
#include "pkifs/tree.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define TEXT_LIMIT (64u << 10)
#define CRL_LIMIT  (256ll << 20)

static int64_t limit_of(enum file file)
{
	if (file_rows[file].flags & FILE_LARGE)
		return CRL_LIMIT;
	if (file == FILE_CONFIG || file == FILE_REQUEST || file == FILE_CONFIRM)
		return TEXT_LIMIT;
	return FILE_LIMIT;
}

/* What the buffer of a new writer begins with: what a reader sees now, so that >> works. */
static int preload(struct store *store, const struct node *node, struct open_file *file)
{
	struct content content = { 0 };
	struct node now;
	int r;

	if (file_rows[node->file].flags & (FILE_PRIVATE | FILE_LARGE))
		return 0;
	r = node_of(store, &node->object, node->file, &now);
	if (r == 0)
		r = node_content(store, &now, &content);
	if (r == -ENOENT)
		return 0;
	if (is_command(node->file) ||
	    node->file == FILE_VERIFY) /* said anew each time: an offset counts from here */
		file->start = content.length;
	else if (r == 0 && content.length <= BUFFER_SIZE) {
		memcpy(store->shared->buffers[file->buffer], content.text, content.length);
		file->length = content.length;
	}
	content_clear(&content);
	return r;
}

static int open_text(struct store *store, fuse_req_t req, const struct node *node, bool append,
                     bool create, struct open_file **opened)
{
	struct temporary *temporary = NULL;
	struct open_file *file;
	int r = 0;

	if (!(file_rows[node->file].flags & FILE_WRITABLE))
		return -EACCES;
	if (node->file == FILE_TEMPORARY) {
		temporary = temporary_get(store, node_inode(node));
		if (!temporary)
			return -ESTALE;
	}
	file = open_file_add(store, req, node);
	if (!file)
		return -ENFILE;
	*opened = file;
	file->writable = true;
	if (!file->tgid)
		file->tgid = process_of(fuse_req_ctx(req)->pid);
	if (file->buffer >= 0 || (file_rows[node->file].flags & FILE_LARGE))
		return 0; /* opened by a predecessor; or written to a file of its own */
	file->buffer = temporary ? temporary->buffer
	                         : shared_buffer_take(store->shared, file->uid,
	                                              !is_trusted(store, file->uid));
	file->length = temporary ? temporary->length : 0;
	if (file->buffer < 0)
		r = -ENFILE;
	else if (!temporary && !create)
		r = preload(store, node, file);
	if (!append)
		file->start = 0;
	if (r < 0)
		open_file_drop(store, file);
	return r;
}

void text_open(struct store *store, fuse_req_t req, const struct node *node,
               struct fuse_file_info *fi)
{
	struct open_file *file = NULL;
	int r = open_text(store, req, node, fi->flags & O_APPEND, false, &file);

	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	fi->fh = open_file_handle(store, file);
	fuse_reply_open(req, fi);
}

/* The node for a name that is made: one of ours, or a temporary one. */
static int create_node(struct store *store, fuse_req_t req, const struct node *folder,
                       const char *name, mode_t mode, struct node *node)
{
	const struct fuse_ctx *by = fuse_req_ctx(req);
	enum file file = file_find(folder->file, name);
	struct temporary *temporary;

	if (!folder_kind(folder->file))
		return -EPERM;
	if (file && !(file_rows[file].flags & FILE_WRITABLE))
		return -EACCES;
	if (file) {
		name_show(node_inode(folder), file, process_of(by->pid));
		return node_of(store, &folder->object, file, node);
	}
	temporary = temporary_find(store, node_inode(folder), name, by->uid);
	if (!temporary)
		temporary = temporary_add(store, node_inode(folder), name, by, mode);
	return temporary ? node_get(store, temporary->ino, node) : -ENOSPC;
}

void tree_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                 struct fuse_file_info *fi)
{
	struct store *store = req_store(req);
	struct fuse_entry_param entry;
	struct open_file *file = NULL;
	struct node folder, node;
	int r;

	r = node_get(store, parent, &folder);
	if (r == 0)
		r = create_node(store, req, &folder, name, mode, &node);
	if (r == 0)
		r = open_text(store, req, &node, fi->flags & O_APPEND, true, &file);
	if (r == 0)
		r = node_entry(store, &node, &entry);
	if (r == -ENOENT) { /* nothing in it yet; if it is refused, there is no such file */
		entry.entry_timeout = entry.attr_timeout = 0;
		r = 0;
	}
	if (r < 0) {
		if (file)
			open_file_drop(store, file);
		fuse_reply_err(req, -r);
		return;
	}
	file->cut = node.file == FILE_CONFIG; /* an empty one is meant, if nothing is written */
	fi->direct_io = 1;
	fi->fh = open_file_handle(store, file);
	fuse_reply_create(req, &entry, fi);
}

static int put_bytes(struct store *store, struct open_file *file, const char *bytes, size_t size,
                     uint64_t at)
{
	enum file which = inode_file(file->ino);
	struct temporary *temporary;
	char *text;
	int fd, r = 0;

	if (at + size > (uint64_t)limit_of(which))
		return -EFBIG;
	temporary = which == FILE_TEMPORARY ? temporary_get(store, file->ino) : NULL;
	if (temporary) /* others may have it open too */
		file->length = temporary->length;
	if (which == FILE_CRL_PEM) {
		if (crl_is_judged(open_file_handle(store, file)))
			return -EBUSY; /* what is checked is what will be stored */
		fd = crl_incoming(store, open_file_handle(store, file), O_CREAT | O_RDWR);
		if (fd < 0)
			return fd;
		if (pwrite(fd, bytes, size, (off_t)at) != (ssize_t)size)
			r = errno ? -errno : -ENOSPC;
		close(fd);
	} else {
		text = store->shared->buffers[file->buffer];
		if (at > file->length)
			memset(text + file->length, 0, at - file->length);
		memcpy(text + at, bytes, size);
	}
	if (r == 0 && at + size > file->length)
		file->length = at + size;
	if (temporary) {
		temporary->length = file->length;
		temporary->touched = store_now(store);
	}
	return r;
}

/*
 * Where a WRITE goes. The kernel appends at the end of what the file shows, but a writer's text
 * is his own: it goes to that one's end, and a WRITE that runs again to where it went before.
 */
static uint64_t place(struct store *store, struct open_file *file, uint64_t offset, bool append)
{
	const struct temporary *temporary = temporary_get(store, file->ino);

	if (!append)
		return offset >= file->start ? offset - file->start : 0;
	if (file->appended != session_unique(store->session)) {
		file->appended_at = temporary ? temporary->length : file->length;
		file->appended = session_unique(store->session);
	}
	return file->appended_at;
}

void tree_write(fuse_req_t req, fuse_ino_t ino, const char *bytes, size_t size, off_t offset,
                struct fuse_file_info *fi)
{
	struct store *store = req_store(req);
	struct open_file *file = open_file_get(store, fi->fh);
	struct judging judging = { .store = store, .handle = fi->fh, .written = size };
	struct error err = { 0 };
	uint64_t at = (uint64_t)offset;
	struct node node;
	char *text;
	int r;

	r = node_get(store, ino, &node);
	if (r == 0 && (!file || !file->writable))
		r = -EIO; /* what was written before is lost */
	if (r == 0 && file->answered)
		r = -EINVAL; /* the question has ended */
	if (r == 0)
		at = place(store, file, at, fi->flags & O_APPEND);
	if (r == 0) {
		judging.object = node.object;
		r = put_bytes(store, file, bytes, size, at);
	}
	if (node.file == FILE_VERIFY && r == -EFBIG)
		file->refused = -r;             /* half a question has no answer */
	else if (r == -EFBIG || r == -ENOSPC) { /* what would be left is half a text */
		error_set(&err, r, "%s", r == -EFBIG ? "the text is too long" : strerror(-r));
		judge_answer(&judging, req, r, &err);
		return;
	}
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	if (!is_never_judged(node.file))
		file->written = true;
	if (is_never_judged(node.file) || node.file == FILE_CRL_PEM) {
		fuse_reply_write(req, size);
		return;
	}
	text = store->shared->buffers[file->buffer];
	r = judge_lines(store, &node, text, at, file->length, &err);
	if (r < 0)
		judge_answer(&judging, req, r, &err);
	else if (judged_at_once(node.file, text, file->length))
		judge(&judging, req, node.file, text, file->length, fuse_req_ctx(req)->uid, true);
	else
		fuse_reply_write(req, size);
}

/* Judges the whole text of an open file and answers REQ. */
static void complete(struct store *store, fuse_req_t req, const struct node *node,
                     struct open_file *file, bool release)
{
	struct judging judging = { .store = store,
		                   .handle = open_file_handle(store, file),
		                   .object = node->object,
		                   .release = release };
	const char *text = file->buffer >= 0 ? store->shared->buffers[file->buffer] : "";

	if (file->refused) {
		int refused = file->refused;

		if (release)
			open_file_drop(store, file);
		fuse_reply_err(req, release ? 0 : refused);
		return;
	}
	if (is_command(node->file) && !file->length) { /* `> request` asks for nothing */
		file->cut = false;
		if (release)
			open_file_drop(store, file);
		fuse_reply_err(req, 0);
		return;
	}
	judge(&judging, req, node->file, text, file->length, file->uid, false);
}

/*
 * There is a text to be judged; also the one that this very request judged in a store that died:
 * whether that became durable is known only by asking for it again.
 */
static bool is_to_judge(const struct store *store, const struct open_file *file)
{
	return file->written || file->judged == session_unique(store->session);
}

/* Whether THREAD is one of PROCESS. */
static bool is_process(pid_t thread, pid_t process)
{
	return thread == process || process_of(thread) == process;
}

void tree_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct store *store = req_store(req);
	struct open_file *file = open_file_get(store, fi->fh);
	struct node node;
	int r;

	if (!file || !is_to_judge(store, file) || is_never_judged(inode_file(ino)) ||
	    !is_process(fuse_req_ctx(req)->pid, file->tgid)) {
		fuse_reply_err(req, 0);
		return;
	}
	r = node_get(store, ino, &node);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		complete(store, req, &node, file, false);
}

void tree_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)ino;
	(void)datasync;
	(void)fi;
	fuse_reply_err(req, 0); /* a text counts, and is durable, when it is closed */
}

void tree_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct store *store = req_store(req);
	struct open_file *file = open_file_get(store, fi->fh);
	struct node node;

	if (file && file->ino == ino) {
		if (!is_never_judged(inode_file(ino)) && (is_to_judge(store, file) || file->cut) &&
		    node_get(store, ino, &node) == 0) {
			complete(store, req, &node, file, true);
			return;
		}
		open_file_drop(store, file);
	}
	fuse_reply_err(req, 0);
}

/*
 * The file that O_TRUNC is for: the kernel sends its SETATTR after OPEN, without a handle, from
 * the process that opens. NULL: a path was truncated.
 */
static struct open_file *truncating(struct store *store, fuse_req_t req, const struct node *node)
{
	pid_t thread = fuse_req_ctx(req)->pid;
	struct open_file *newest = NULL;

	for (size_t i = 0; i < store->shared->files_top; i++) {
		struct open_file *file = &store->shared->files[i];

		if (file->ino == node_inode(node) && file->writable && !file->written &&
		    (!newest || file->unique > newest->unique) && is_process(thread, file->tgid))
			newest = file;
	}
	return newest;
}

int text_resize(struct store *store, fuse_req_t req, const struct node *node,
                struct open_file *file, off_t size)
{
	struct temporary *temporary = NULL;
	uint64_t *length;
	char *text;

	if (!(file_rows[node->file].flags & FILE_WRITABLE))
		return -EACCES;
	if (size > limit_of(node->file))
		return -EFBIG;
	if (node->file == FILE_TEMPORARY)
		temporary = temporary_get(store, node_inode(node));
	if (!file && size == 0)
		file = truncating(store, req, node);
	if (!file && !temporary)
		return size ? -EPERM
		            : object_truncate(store, &node->object, node->file,
		                              fuse_req_ctx(req)->uid);
	length = temporary ? &temporary->length : &file->length;
	if (file && !temporary) {
		file->cut = true;
		file->refused = 0;
		file->start = 0;
	}
	if (file && node->file == FILE_CRL_PEM) {
		crl_incoming_remove(store, open_file_handle(store, file));
		file->length = 0;
		return size ? -EPERM : 0;
	}
	text = store->shared->buffers[temporary ? temporary->buffer : file->buffer];
	if ((uint64_t)size > *length)
		memset(text + *length, 0, (size_t)size - *length);
	*length = (uint64_t)size;
	if (file)
		file->length = (uint64_t)size;
	return 0;
}
