#include "pkifs/judge.h"

#include "pkifs/declare.h"
#include "pkifs/object.h"
#include "pkifs/secrets.h"
#include "pkifs/tree.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

bool is_command(enum file file)
{
	return file == FILE_REQUEST || file == FILE_CONFIRM;
}

bool is_never_judged(enum file file)
{
	return file == FILE_TEMPORARY || file == FILE_VERIFY;
}

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
void judge_answer(const struct judging *judging, fuse_req_t req, int r, const struct error *err)
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

	judge_answer(judging, session_resume(judging->store->session, &judging->held), r, err);
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
		judge_answer(judging, req, r, &err);
	}
}

void judge(const struct judging *judging, fuse_req_t req, enum file file, const char *text,
           size_t length, uid_t uid, bool dry)
{
	struct store *store = judging->store;
	struct error err = { 0 };
	int r;

	if (!dry && store_applied(store)) {
		judge_answer(judging, req, 0, &err);
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
	judge_answer(judging, req, r, &err);
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
bool judged_at_once(enum file file, const char *text, size_t length)
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
int judge_lines(struct store *store, const struct node *node, const char *text, size_t from,
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
