/*
 * The file tree as FUSE sees it: names and attributes (tree.c), folders (list.c), what is read
 * (read.c) and written (text.c), names that go and come (rename.c), and readers that wait (wait.c).
 */
#ifndef PKIFS_TREE_H
#define PKIFS_TREE_H

#include "pkifs/file.h"

extern const struct fuse_lowlevel_ops tree_ops;

struct store *req_store(fuse_req_t req);

/* Attributes of a node; -ENOENT where it has no content. */
int node_attributes(struct store *store, const struct node *node, struct stat *attributes);

/* Owner and mode alone. */
void node_owner(struct store *store, const struct node *node, struct stat *attributes);
/* chmod and chown, kept across restarts and renewals. Inside a change. */
int node_set_mode(struct store *store, const struct node *node, const struct stat *wanted,
                  int to_set);
/* How long the kernel may keep the attributes, in seconds. */
double node_timeout(enum file file);

/* The entry that LOOKUP, MKDIR and CREATE give. */
int node_entry(struct store *store, const struct node *node, struct fuse_entry_param *entry);

/*
 * refusal.c. NODE, which THREAD wants to open, was answered ESTALE, or (NULL) nothing was; the
 * thread looked some name up; and whether it may open NODE, which is no longer current, because it
 * came again: *SHOWN is what it sees instead, or 0.
 */
void refusal_note(struct store *store, pid_t thread, const struct node *node);
void refusal_looked(struct store *store, pid_t thread);
bool refusal_is_over(struct store *store, pid_t thread, const struct node *node, uint64_t *shown);

/* The second it is now, for what is forgotten soon; and whether SECOND was a moment ago. */
uint32_t this_second(void);
bool is_recent(uint32_t second);

/* ROW of OBJECT is being replaced: db_prune is not to take it at once, but rows_fade after all. */
void row_fades(struct store *store, enum row_kind kind, int64_t row, int64_t object);
void rows_fade(struct store *store);

/* Open files: fi->fh is the index + 1. */
/* What a predecessor opened for the request that is run again; else NULL. */
struct open_file *open_file_again(struct store *store);
struct open_file *open_file_add(struct store *store, fuse_req_t req, const struct node *node);
struct open_file *open_file_get(struct store *store, uint64_t handle);
uint64_t open_file_handle(struct store *store, const struct open_file *file);
void open_file_drop(struct store *store, struct open_file *file);
/* For db_prune: somebody has the row open. */
bool row_is_open(enum row_kind kind, int64_t row, void *store);
/* The writer of a request still has it open: shells close in mid-text, and go on. */
bool request_is_open(const struct store *store, int64_t request);
/* Root, or who started us: no limit a user holds for them. */
bool is_trusted(const struct store *store, uid_t uid);
/* Counts what a predecessor's users have open. Once, at the start. */
void open_file_count(struct store *store);
/* Files that a predecessor had judged and did not come to drop. */
void open_file_sweep(struct store *store);
/* Of OPENs whose answer nobody got, or was an error. */
void open_file_in_vain(uint64_t unique, void *store);

/* The process that a thread id of a request belongs to. */
pid_t process_of(pid_t thread);

/* list.c */
void tree_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                  struct fuse_file_info *fi);

/* read.c */
void tree_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void tree_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
               struct fuse_file_info *fi);

/* text.c: texts on their way in; most have up to FILE_LIMIT bytes. */
#define FILE_LIMIT (1u << 20)
void text_open(struct store *store, fuse_req_t req, const struct node *node,
               struct fuse_file_info *fi);
void tree_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                 struct fuse_file_info *fi);
void tree_write(fuse_req_t req, fuse_ino_t ino, const char *bytes, size_t size, off_t offset,
                struct fuse_file_info *fi);
void tree_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void tree_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void tree_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
/* A new size for the text of an open file (FILE), or for NODE's own text (FILE NULL). */
int text_resize(struct store *store, fuse_req_t req, const struct node *node,
                struct open_file *file, off_t size);

/* rename.c */
void tree_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void tree_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
                 const char *newname, unsigned flags);

/* openfile.c: temporary files of editors. NULL: none such, or no room for one more. */
struct temporary *temporary_add(struct store *store, uint64_t folder, const char *name,
                                const struct fuse_ctx *by, mode_t mode);
struct temporary *temporary_find(struct store *store, uint64_t folder, const char *name, uid_t uid);
struct temporary *temporary_get(struct store *store, uint64_t ino);
void temporary_expire(struct store *store);
void temporary_drop(struct store *store, struct temporary *temporary);

/* Names that a process has unlinked: it alone does not see them, until it makes them anew. */
void name_hide(uint64_t folder, enum file file, pid_t process);
void name_show(uint64_t folder, enum file file, pid_t process);
bool name_hidden(uint64_t folder, enum file file, pid_t thread);

/* wait.c: READ of `wait`, `watch` and `events`; poll; what becomes readable at a commit. */
void wait_read(fuse_req_t req, const struct node *node, size_t size, off_t offset,
               struct fuse_file_info *fi);
void watch_read(fuse_req_t req, size_t size, off_t offset, struct fuse_file_info *fi);
void events_read(fuse_req_t req, int64_t start, size_t size, off_t offset);
void tree_poll(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi,
               struct fuse_pollhandle *handle);
void wait_wake(struct store *store);

#endif
