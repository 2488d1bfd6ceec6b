/*
 * Texts on their way in. A writer's bytes stand in a buffer that outlives the store; each
 * complete line, and a text that is one whole word or PEM block, is judged at write(2); the
 * whole text when its writer closes it: at the FLUSH of the process that opened it with
 * something written since, else at RELEASE. That answer is the acknowledgement.
 */
#include "pkifs/content.h"
#include "pkifs/declare.h"
#include "pkifs/object.h"
#include "pkifs/publish.h"
#include "pkifs/secrets.h"
#include "pkifs/tree.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEXT_LIMIT (64u << 10)
#define FILE_LIMIT (1u << 20)
#define CRL_LIMIT  (256ll << 20)

static int64_t limit_of(enum file file)
{
	if (file_rows[file].flags & FILE_LARGE)
		return CRL_LIMIT;
	if (file == FILE_CONFIG || file == FILE_REQUEST || file == FILE_CONFIRM)
		return TEXT_LIMIT;
	return FILE_LIMIT;
}

static bool is_command(enum file file)
{
	return file == FILE_REQUEST || file == FILE_CONFIRM;
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
	if (is_command(node->file)) /* said anew each time: an offset counts from here */
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

	if (folder->file != FILE_CA && folder->file != FILE_LOCAL)
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

/* How a judgement is answered. */
struct judging {
	struct store *store;
	struct held held;
	struct object object;
	uint64_t handle; /* of the open file, or 0 */
	size_t written;  /* answer of a WRITE; else 0 */
	bool release;    /* the open file goes with it */
	bool rename;     /* EINVAL means something else there */
	uint64_t source; /* the temporary file that is renamed: gone when its text is taken */
};

/* What goes when a text is durable: a store that dies before leaves it to its successor. */
struct leftover {
	struct store *store;
	uint64_t handle; /* of an open file that nobody has open any more, or 0 */
	uint64_t source; /* of a temporary file that was renamed, or 0 */
};

static void clear_away(void *argument, int code)
{
	struct leftover *left = argument;
	struct open_file *file = open_file_get(left->store, left->handle);
	struct temporary *source = left->source ? temporary_get(left->store, left->source) : NULL;

	if (file) /* also when it could not be stored: nobody is left who could be told */
		open_file_drop(left->store, file);
	if (source && code == 0)
		temporary_drop(left->store, source);
	free(left);
}

static void clear_away_after(struct store *store, uint64_t handle, uint64_t source)
{
	struct open_file *file = open_file_get(store, handle);
	struct leftover *left = malloc(sizeof *left);

	if (file)
		file->released = true;
	if (left)
		*left = (struct leftover){ store, handle, source };
	if (!left || store_after(store, clear_away, left) < 0) {
		free(left);
		if (file)
			open_file_drop(store, file);
	}
}

/* The verdict R on the text of JUDGING's file: kept for the reader of errors, and answered. */
static void verdict(const struct judging *judging, fuse_req_t req, int r, const struct error *err)
{
	struct store *store = judging->store;
	struct open_file *file = open_file_get(store, judging->handle);

	if (r < 0)
		store_refused(store, &judging->object, err);
	if (file && r < 0)
		file->refused = -r;
	if (file && !judging->written) {
		file->written = file->cut = false;
		file->judged = session_unique(store->session);
	}
	if (file && judging->release)
		clear_away_after(store, judging->handle, 0);
	if (r == 0 && judging->source)
		clear_away_after(store, 0, judging->source);
	if (r == 0 && judging->written)
		fuse_reply_write(req, judging->written);
	else
		fuse_reply_err(req, judging->release                  ? 0
		                    : judging->rename && r == -EINVAL ? EBADMSG
		                                                      : -r);
}

static void judged_later(void *user, int r, const struct error *err)
{
	struct judging *judging = user;

	verdict(judging, session_resume(judging->store->session, &judging->held), r, err);
	free(judging);
}

/* Judges what another process has to look at: a private key, a CRL. */
static void judge_later(const struct judging *judging, fuse_req_t req, enum file file,
                        const char *text, size_t length, bool dry)
{
	struct store *store = judging->store;
	struct judging *later = malloc(sizeof *later);
	struct error err = { 0 };
	int r = -ENOMEM;

	if (later) {
		*later = *judging;
		later->held = session_hold(store->session, req);
		if (file == FILE_KEY)
			r = secrets_import(store, &judging->object, text, length, dry, judged_later,
			                   later, &err);
		else
			r = crl_judge(store, &judging->object, judging->handle, judged_later, later,
			              &err);
	}
	if (r < 0) {
		free(later);
		verdict(judging, req, r, &err);
	}
}

static void judge(const struct judging *judging, fuse_req_t req, enum file file, const char *text,
                  size_t length, uid_t uid, bool dry)
{
	struct store *store = judging->store;
	struct error err = { 0 };
	int r;

	if (!dry && store_applied(store)) {
		verdict(judging, req, 0, &err);
		return;
	}
	if (file == FILE_KEY || file == FILE_CRL_PEM) {
		judge_later(judging, req, file, text, length, dry);
		return;
	}
	store->writer = open_file_get(store, judging->handle);
	r = dry ? 0 : store_begin(store);
	if (r == 0) {
		r = object_accept(store, &judging->object, file, text, length, uid, dry, &err);
		if (!dry)
			r = store_end(store, r);
	}
	store->writer = NULL;
	if (r < 0 && !err.code)
		error_set(&err, r, "the store cannot be written: %s", strerror(-r));
	verdict(judging, req, r, &err);
}

/* The last line of PEM ends it: "-----END …-----". */
static bool is_whole_pem(const char *text, size_t length)
{
	const char *line;

	while (length && isspace((unsigned char)text[length - 1]))
		length--;
	if (length < 16 || memcmp(text + length - 5, "-----", 5) != 0)
		return false;
	line = memrchr(text, '\n', length);
	line = line ? line + 1 : text;
	return (size_t)(text + length - line) > 14 && memcmp(line, "-----END ", 9) == 0;
}

static bool is_one_word(const char *text, size_t length)
{
	size_t word = 0;

	while (word < length && (isalnum((unsigned char)text[word]) || strchr("-_:", text[word])))
		word++;
	return word && word + 1 == length && text[word] == '\n';
}

/* Whether what stands in the buffer after a write can be judged as a whole already. */
static bool judged_at_once(enum file file, const char *text, size_t length)
{
	if (is_command(file))
		return is_one_word(text, length);
	return (file == FILE_CERT || file == FILE_CA_CERT || file == FILE_KEY) &&
	       is_whole_pem(text, length);
}

static int check_setting(struct store *store, const struct object *object, const struct key *key,
                         const char *value, struct error *err)
{
	int r = reference_check(store, key, value, NULL, err);

	return r < 0 ? r : declared_hold_line(store, object, key, value, err);
}

/* Checks each line of a config or request that became complete with the bytes FROM … TO. */
static int check_lines(struct store *store, const struct node *node, const char *text, size_t from,
                       size_t to, struct error *err)
{
	const struct key_table *table = node->file == FILE_CONFIG
	                                        ? config_table(node->object.kind)
	                                        : request_table(node->object.kind);
	const char *line = memrchr(text, '\n', from), *end;
	int r = 0;

	if (node->file != FILE_CONFIG && node->file != FILE_REQUEST)
		return 0;
	line = line ? line + 1 : text;
	while (r >= 0 && (end = memchr(line, '\n', to - (size_t)(line - text)))) {
		struct field field = { 0 };
		size_t length = (size_t)(end - line);
		bool bare =
			line == text && node->file == FILE_REQUEST && is_one_word(line, length + 1);

		for (const char *at = text; at < line; at++)
			field.line += *at == '\n';
		field.line++;
		if (!bare)
			r = record_parse_line(line, length, field.line, &field.key, &field.value,
			                      err);
		if (r == 1 && strcmp(field.value, "***") != 0) {
			field.length = strlen(field.value);
			r = key_check_field(table, &field, err);
			if (r == 0)
				r = check_setting(store, &node->object, key_find(table, field.key),
				                  field.value, err);
		}
		if (field.value)
			OPENSSL_cleanse(field.value, strlen(field.value));
		free(field.key);
		free(field.value);
		line = end + 1;
	}
	return r < 0 ? r : 0;
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
	if (r == 0)
		at = place(store, file, at, fi->flags & O_APPEND);
	if (r == 0) {
		judging.object = node.object;
		r = put_bytes(store, file, bytes, size, at);
	}
	if (r == -EFBIG || r == -ENOSPC) { /* what would be left is half a text */
		error_set(&err, r, "%s", r == -EFBIG ? "the text is too long" : strerror(-r));
		verdict(&judging, req, r, &err);
		return;
	}
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	if (node.file != FILE_TEMPORARY)
		file->written = true;
	if (node.file == FILE_TEMPORARY || node.file == FILE_CRL_PEM) {
		fuse_reply_write(req, size);
		return;
	}
	text = store->shared->buffers[file->buffer];
	r = check_lines(store, &node, text, at, file->length, &err);
	if (r < 0)
		verdict(&judging, req, r, &err);
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

	if (!file || !is_to_judge(store, file) || inode_file(ino) == FILE_TEMPORARY ||
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
		if (inode_file(ino) != FILE_TEMPORARY && (is_to_judge(store, file) || file->cut) &&
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

void tree_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
                 const char *newname, unsigned flags)
{
	struct store *store = req_store(req);
	const struct fuse_ctx *by = fuse_req_ctx(req);
	struct judging judging = { .store = store, .rename = true };
	struct temporary *from, *onto;
	struct node folder;
	enum file file;
	int r;

	r = node_get(store, parent, &folder);
	if (r == 0 && (parent != newparent || (flags & ~(unsigned)RENAME_NOREPLACE)))
		r = flags                                                               ? -EINVAL
		    : folder.file == FILE_CA_FOLDER || folder.file == FILE_LOCAL_FOLDER ? -EPERM
		                                                                        : -EXDEV;
	if (r == 0 && folder.file != FILE_CA && folder.file != FILE_LOCAL)
		r = -EPERM;
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	if (strncmp(name, PUBLISH_PREFIX, sizeof PUBLISH_PREFIX - 1) == 0) {
		const char *shown = strchr(name + sizeof PUBLISH_PREFIX - 1, '-');

		/* the event is all it is for */
		fuse_reply_err(req, shown && strcmp(shown + 1, newname) == 0 ? 0 : EPERM);
		return;
	}
	file = file_find(folder.file, newname);
	from = temporary_find(store, parent, name, by->uid);
	if (!from && file_find(folder.file, name)) {
		r = file ? -EPERM
		         : rename_away(store, req, &folder, file_find(folder.file, name), newname);
		fuse_reply_err(req, -r);
	} else if (!from) { /* run again: it has its new name already */
		onto = session_replays(store->session)
		               ? temporary_find(store, parent, newname, by->uid)
		               : NULL;
		fuse_reply_err(req, onto ? 0 : ENOENT);
	} else if (file && !(file_rows[file].flags & FILE_WRITABLE)) {
		fuse_reply_err(req, EACCES);
	} else if (file && file != FILE_CRL_PEM) {
		judging.object = folder.object;
		judging.source = from->ino;
		name_show(parent, file, process_of(by->pid));
		judge(&judging, req, file, store->shared->buffers[from->buffer], from->length,
		      by->uid, false);
	} else if (file) {
		fuse_reply_err(req, EXDEV); /* mv copies then, and its close is judged */
	} else if (strlen(newname) >= sizeof from->name) {
		fuse_reply_err(req, ENAMETOOLONG);
	} else {
		onto = temporary_find(store, parent, newname, by->uid);
		if (onto && onto != from)
			temporary_drop(store, onto);
		memcpy(from->name, newname, strlen(newname) + 1);
		fuse_reply_err(req, 0);
	}
}
