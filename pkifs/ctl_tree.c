#include "pkifs/ctl.h"

#include "pkifs/keycheck.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define TREE_TEXT_MAX (300u << 20) /* bytes: above the largest file there is, a CRL in PEM */

/* The next word of *TEXT (blanks between words) into WORD, its octal escapes undone. */
static bool mountinfo_word(const char **text, char *word, size_t size)
{
	const char *at = *text;
	size_t used = 0;

	at += strspn(at, " ");
	if (!*at || *at == '\n')
		return false;
	for (; *at && *at != ' ' && *at != '\n'; at++) {
		unsigned value = (unsigned char)*at;

		if (*at == '\\' && strspn(at + 1, "01234567") >= 3) {
			value = (unsigned)((at[1] - '0') * 64 + (at[2] - '0') * 8 + (at[3] - '0'));
			at += 3;
		}
		if (used + 1 < size)
			word[used++] = (char)value;
	}
	word[used] = 0;
	*text = at;
	return true;
}

/* The mount point of a line where a pkifs is mounted. */
static bool mountinfo_line(const char *line, char *root)
{
	char word[PATH_MAX];
	unsigned number = 0;

	while (mountinfo_word(&line, number == 4 ? root : word, PATH_MAX)) {
		if (number++ > 5 && strcmp(word, "-") == 0)
			return mountinfo_word(&line, word, sizeof word) &&
			       strcmp(word, "fuse.pkifs") == 0;
	}
	return false;
}

int mount_in_mountinfo(const char *text, char *root)
{
	char path[PATH_MAX];
	unsigned count = 0;

	while (*text) {
		if (mountinfo_line(text, path)) {
			strcpy(root, path);
			if (strcmp(path, "/pki") == 0)
				return 0;
			count++;
		}
		text += strcspn(text, "\n");
		text += *text == '\n';
	}
	if (!count)
		return -ENOENT;
	return count > 1 ? -EEXIST : 0;
}

static int find_mounted(struct ctl *ctl, struct error *err)
{
	size_t length;
	char *text;
	int r;

	r = file_read("/proc/self/mountinfo", 16u << 20, &text, &length, err);
	if (r < 0)
		return r;
	r = mount_in_mountinfo(text, ctl->root);
	text_free(text, length);
	if (r == -EEXIST)
		return error_set(err, CTL_NO_MOUNT,
		                 "several stores are mounted; name one with -m DIR");
	if (r < 0)
		return error_set(err, CTL_NO_MOUNT,
		                 "no store is mounted (start pkifsd, or name a mount with -m DIR)");
	return 0;
}

int ctl_find(struct ctl *ctl, const char *dir, struct error *err)
{
	static const char *const files[] = { "README", "status" };
	char path[PATH_MAX];
	int r;

	if (!dir)
		dir = getenv("PKIFS_MOUNT");
	if (dir && *dir && strlen(dir) < sizeof ctl->root - 128) {
		strcpy(ctl->root, dir);
	} else {
		r = find_mounted(ctl, err);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < COUNT(files); i++) {
		ctl_path(ctl, NULL, files[i], path);
		if (access(path, F_OK) == 0)
			continue;
		if (errno == ENOTCONN)
			return error_set(err, CTL_NO_MOUNT,
			                 "the daemon that served %s is gone; start pkifsd again",
			                 ctl->root);
		return error_set(err, CTL_NO_MOUNT, "no store is mounted at %s", ctl->root);
	}
	return 0;
}

void ctl_path(const struct ctl *ctl, const struct target *target, const char *file, char *path)
{
	/* ctl_find left 128 bytes: folder, a name of 64, the longest file */
	char *at = stpcpy(path, ctl->root);

	if (target)
		snprintf(at, 128, "/%s/%s%s%s", target->kind, target->name, *file ? "/" : "", file);
	else
		snprintf(at, 128, "/%s", file);
}

int target_set(struct target *target, const char *kind, const char *name, struct error *err)
{
	if (!object_name_is_legal(name))
		return error_set(err, CTL_USAGE,
		                 "\"%.80s\" is no name: 1 to 64 letters, digits, \".\", \"_\" or "
		                 "\"-\", not beginning with \".\" or \"-\"",
		                 name);
	target->kind = kind;
	strcpy(target->name, name);
	return 0;
}

bool target_exists(const struct ctl *ctl, const struct target *target)
{
	char path[PATH_MAX];

	ctl_path(ctl, target, "", path);
	return access(path, F_OK) == 0;
}

int target_need(const struct ctl *ctl, const char *kind, const char *name, struct target *target,
                struct error *err)
{
	size_t length = strlen(kind);
	int r;

	if (strncmp(name, kind, length) == 0 && name[length] == '/')
		name += length + 1;
	r = target_set(target, kind, name, err);
	if (r == 0 && !target_exists(ctl, target))
		r = error_set(err, -ENOENT, "there is no %s %s",
		              *kind == 'c'   ? "CA profile"
		              : *kind == 'l' ? "certificate id"
		                             : "tunnel",
		              name);
	return r;
}

int target_find(const struct ctl *ctl, const char *text, struct target *target, struct error *err)
{
	struct target ca, local;
	bool is_ca, is_local;
	int r;

	if (strncmp(text, "ca/", 3) == 0)
		return target_need(ctl, "ca", text, target, err);
	if (strncmp(text, "local/", 6) == 0)
		return target_need(ctl, "local", text, target, err);
	if (strncmp(text, "ipsec/", 6) == 0)
		return target_need(ctl, "ipsec", text, target, err);
	r = target_set(&ca, "ca", text, err);
	if (r == 0)
		r = target_set(&local, "local", text, err);
	if (r < 0)
		return r;
	is_ca = target_exists(ctl, &ca);
	is_local = target_exists(ctl, &local);
	if (is_ca && is_local)
		return error_set(err, CTL_USAGE,
		                 "%s is a profile and a certificate id: say ca/%s or local/%s",
		                 text, text, text);
	if (!is_ca && !is_local)
		return error_set(err, -ENOENT, "there is no CA profile or certificate id %s", text);
	*target = is_ca ? ca : local;
	return 0;
}

int target_make(const struct ctl *ctl, const struct target *target, bool *made, struct error *err)
{
	char path[PATH_MAX];

	ctl_path(ctl, target, "", path);
	*made = mkdir(path, 0755) == 0;
	if (*made || errno == EEXIST)
		return 0;
	return error_set(err, -errno, "%s/%s can't be made: %s", target->kind, target->name,
	                 strerror(errno));
}

void text_free(char *text, size_t length)
{
	OPENSSL_clear_free(text, text ? length + 1 : 0);
}

/* Reads FD to its end. */
static int read_all(int fd, size_t limit, char **text, size_t *length)
{
	size_t used = 0, room = 0;
	char *bytes = NULL, *bigger;
	ssize_t got;

	for (;;) {
		if (used == room) {
			bigger = OPENSSL_clear_realloc(bytes, room ? room + 1 : 0, room * 2 + 8193);
			if (!bigger) {
				text_free(bytes, room);
				return -ENOMEM;
			}
			bytes = bigger;
			room = room * 2 + 8192;
		}
		got = read(fd, bytes + used, room - used);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		used += (size_t)got;
		if (used > limit) {
			text_free(bytes, room);
			return -EFBIG;
		}
	}
	if (got < 0) {
		text_free(bytes, room);
		return -errno;
	}
	/* the block is larger than LENGTH says: nothing of it stays behind the text */
	OPENSSL_cleanse(bytes + used, room - used);
	bytes[used] = 0;
	*text = bytes;
	*length = used;
	return 0;
}

int file_read(const char *path, size_t limit, char **text, size_t *length, struct error *err)
{
	int fd = strcmp(path, "-") == 0 ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
	int r = fd < 0 ? -errno : read_all(fd, limit, text, length);

	if (fd >= 0)
		close(fd);
	if (r == -EFBIG)
		return error_set(err, r, "%s is larger than %zu bytes", path, limit);
	return r < 0 ? error_set(err, r, "%s: %s", path, strerror(-r)) : 0;
}

int ctl_read(const struct ctl *ctl, const struct target *target, const char *file, char **text,
             size_t *length, struct error *err)
{
	char path[PATH_MAX];

	ctl_path(ctl, target, file, path);
	return file_read(path, TREE_TEXT_MAX, text, length, err);
}

int ctl_status(const struct ctl *ctl, const struct target *target, struct record **status,
               struct error *err)
{
	struct record *new = NULL;
	char *text = NULL, *rest, *line;
	size_t length = 0;
	int r;

	r = ctl_read(ctl, target, "status", &text, &length, err);
	if (r < 0)
		return r;
	new = record_new();
	rest = text;
	while (new && (line = strsep(&rest, "\n"))) {
		char *equals = strstr(line, " = ");

		if (!equals)
			equals = strstr(line, " =");
		if (!equals)
			continue;
		*equals = 0;
		record_add(new, line, equals[2] ? equals + 3 : "");
	}
	text_free(text, length);
	if (!new || record_failed(new)) {
		record_free(new);
		return error_set(err, -ENOMEM, "out of memory");
	}
	*status = new;
	return 0;
}

/* Why TARGET refused what was done at PATH: in the store's own words where it has some. */
static int refused(const struct ctl *ctl, const struct target *target, const char *path, int code,
                   struct error *err)
{
	const char *name = path + strlen(ctl->root) + 1, *said = NULL;
	struct record *status = NULL;
	char reason[512];
	ssize_t length = -1;

	if (code != -ENOTCONN && code != -ENOENT)
		length = getxattr(path, "user.pkifs.error", reason, sizeof reason - 1);
	reason[length > 0 ? length : 0] = 0;
	reason[strcspn(reason, "\n")] = 0;
	/* a file with no content yet has no attributes */
	if (!*reason && (code == -EINVAL || code == -EBUSY) &&
	    ctl_status(ctl, target, &status, NULL) == 0)
		said = record_get(status, "last-error");
	if (said)
		snprintf(reason, sizeof reason, "%s", said);
	record_free(status);
	if (*reason)
		return error_set(err, code, "%s", reason);
	if (code == -EBUSY)
		return error_set(err, code, "%s: a request is still under way", name);
	return error_set(err, code, "%s: %s", name, strerror(-code));
}

int target_remove(const struct ctl *ctl, const struct target *target, struct error *err)
{
	char path[PATH_MAX];

	ctl_path(ctl, target, "", path);
	return rmdir(path) == 0 ? 0 : refused(ctl, target, path, -errno, err);
}

int ctl_write(const struct ctl *ctl, const struct target *target, const char *file,
              const char *text, size_t length, mode_t mode, struct error *err)
{
	char path[PATH_MAX];
	ssize_t put = 0;
	int fd, r = 0;

	ctl_path(ctl, target, file, path);
	fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC | (mode ? O_CREAT : 0), mode);
	if (fd < 0)
		return error_set(err, -errno, "%s/%s/%s can't be written: %s", target->kind,
		                 target->name, file, strerror(errno));
	for (size_t done = 0; r == 0 && done < length; done += (size_t)put) {
		put = write(fd, text + done, length - done);
		if (put < 0 && errno == EINTR)
			put = 0;
		else if (put < 0)
			r = -errno;
	}
	if (close(fd) < 0 && r == 0)
		r = -errno;
	return r < 0 ? refused(ctl, target, path, r, err) : 0;
}

int ctl_configure(const struct ctl *ctl, const struct target *target, const struct record *settings,
                  struct error *err)
{
	const struct key_table *table = *target->kind == 'c'   ? &ca_config_keys
	                                : *target->kind == 'l' ? &local_config_keys
	                                                       : &ipsec_config_keys;
	char *old = NULL, *new = NULL;
	size_t old_length = 0, new_length = 0;
	int r;

	if (!record_count(settings))
		return 0;
	r = ctl_read(ctl, target, "config", &old, &old_length, err);
	if (r == 0)
		r = key_merge(table, old, old_length, settings, &new, &new_length, err);
	if (r == 0)
		r = ctl_write(ctl, target, "config", new, new_length, 0, err);
	text_free(old, old_length);
	text_free(new, new_length);
	return r;
}

int ctl_request(const struct ctl *ctl, const struct target *target, const char *action,
                const struct record *settings, struct error *err)
{
	const struct key_table *table = *target->kind == 'c'   ? &ca_request_keys
	                                : *target->kind == 'l' ? &local_request_keys
	                                                       : &ipsec_request_keys;
	struct record *request = record_new();
	char *text = NULL;
	size_t length = 0;
	int r = request ? 0 : error_set(err, -ENOMEM, "out of memory");

	if (r == 0) {
		record_add(request, "action", action);
		record_append(request, settings);
		r = key_merge(table, "", 0, request, &text, &length, err);
	}
	if (r == 0)
		r = ctl_write(ctl, target, "request", text, length, 0, err);
	text_free(text, length);
	record_free(request);
	return r;
}
