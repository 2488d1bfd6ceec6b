/*
 * Judging what is written: whether a text can be taken, and its writer's answer. A refusal is one
 * sentence, kept for who asks for it.
 */
#ifndef PKIFS_JUDGE_H
#define PKIFS_JUDGE_H

#include "pkifs/file.h"

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

/* It is said anew each time: an empty text says nothing. */
bool is_command(enum file file);

/* It changes nothing when it is closed: a question, or no name of ours. */
bool is_never_judged(enum file file);

/* What stands in the buffer after a write can be judged as a whole already. */
bool judged_at_once(enum file file, const char *text, size_t length);

/*
 * Judges a whole text that user UID wrote to FILE, and answers REQ; later, where another process
 * has to look at it. DRY: nothing is changed, for its writer has not closed it.
 */
void judge(const struct judging *judging, fuse_req_t req, enum file file, const char *text,
           size_t length, uid_t uid, bool dry);

/*
 * Each line of a config or request that became complete with the bytes FROM … TO. 0, or a negative
 * errno with ERR.
 */
int judge_lines(struct store *store, const struct node *node, const char *text, size_t from,
                size_t to, struct error *err);

/* The verdict R (0, or a negative errno with ERR): kept for who reads errors, and REQ's answer. */
void judge_answer(const struct judging *judging, fuse_req_t req, int r, const struct error *err);

#endif
