#include "pkifs/conf.h"

#include "pkifs/keytable.h"

#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONF_MAX  65536 /* bytes of a file */
#define VALUE_MAX 4096  /* bytes of a value that stands in a file of its own */

/* Reads up to LIMIT bytes of PATH into BYTES (room for one more, a NUL). -EFBIG: there is more. */
static int slurp(const char *path, char *bytes, size_t limit, size_t *length)
{
	FILE *file = fopen(path, "re");
	int r = 0;

	if (!file)
		return -errno;
	*length = fread(bytes, 1, limit, file);
	if (ferror(file))
		r = errno ? -errno : -EIO;
	else if (fgetc(file) != EOF)
		r = -EFBIG;
	bytes[*length] = 0;
	fclose(file);
	return r;
}

/* The path that `@credential:NAME` means. */
static int credential_path(const char *name, char *path, struct error *err)
{
	const char *folder = getenv("CREDENTIALS_DIRECTORY");

	if (!folder)
		return error_set(
			err, -ENOENT,
			"@credential:%s: systemd passed no credentials (set LoadCredential "
			"in the unit)",
			name);
	if (!*name || strchr(name, '/') || *name == '.')
		return error_set(err, -EINVAL, "@credential:%s is no name of a credential", name);
	if (snprintf(path, PATH_MAX, "%s/%s", folder, name) >= PATH_MAX)
		return error_set(err, -ENAMETOOLONG, "@credential:%s is too long", name);
	return 0;
}

/* Puts the first line of the file that VALUE names into TEXT (room for VALUE_MAX + 1). */
static int read_reference(const char *value, char *text, struct error *err)
{
	char credential[PATH_MAX];
	const char *path = value + strlen("@file:");
	size_t length;
	int r;

	if (strncmp(value, "@credential:", strlen("@credential:")) == 0) {
		r = credential_path(value + strlen("@credential:"), credential, err);
		if (r < 0)
			return r;
		path = credential;
	}
	r = slurp(path, text, VALUE_MAX, &length);
	if (r < 0)
		return error_set(err, r, "%s: %s", value, strerror(-r));
	text[strcspn(text, "\r\n")] = 0;
	return 0;
}

static bool is_reference(const char *value)
{
	return strncmp(value, "@file:", strlen("@file:")) == 0 ||
	       strncmp(value, "@credential:", strlen("@credential:")) == 0;
}

/* Checks one setting and puts it into CONF. */
static int set(struct record *conf, const char *key, const char *value, struct error *err)
{
	char text[VALUE_MAX + 1];
	struct record *one = record_new();
	int r = 0;

	if (!one)
		return error_set(err, -ENOMEM, "out of memory");
	if (is_reference(value)) {
		r = read_reference(value, text, err);
		value = text;
	}
	if (r == 0)
		record_add(one, key, value);
	if (r == 0 && record_failed(one))
		r = error_set(err, -ENOMEM, "out of memory");
	if (r == 0)
		r = key_check_record(&daemon_keys, one, err);
	if (r == 0) {
		record_remove(conf, key);
		record_append(conf, one);
		if (record_failed(conf))
			r = error_set(err, -ENOMEM, "out of memory");
	}
	if (value == text)
		OPENSSL_cleanse(text, sizeof text);
	record_free(one);
	return r;
}

static int set_line(struct record *conf, const char *line, size_t length, unsigned number,
                    struct error *err)
{
	char *key = NULL, *value = NULL;
	size_t blanks = 0;
	int r;

	while (blanks < length && (line[blanks] == ' ' || line[blanks] == '\t'))
		blanks++;
	if (blanks < length && line[blanks] == '[')
		return error_set(err, -EINVAL,
		                 "line %u: objects can't be declared in this file yet; make them "
		                 "under the mount point (mkdir ca/NAME) instead of in sections",
		                 number);
	r = record_parse_line(line, length, number, &key, &value, err);
	if (r > 0) {
		struct error reason = { 0 };

		r = set(conf, key, value, &reason);
		if (r < 0)
			error_set(err, r, "line %u: %s", number, reason.text);
		free(key);
		free(value);
	}
	return r;
}

static int read_file(const char *path, struct record *conf, struct error *err)
{
	char *text = malloc(CONF_MAX + 1), *at = text;
	struct error reason = { 0 };
	unsigned number = 0;
	size_t left = 0;
	int r = text ? slurp(path, text, CONF_MAX, &left) : -ENOMEM;

	if (r < 0)
		error_set(&reason, r, "%s", strerror(-r));
	while (r == 0 && left) {
		char *newline = memchr(at, '\n', left);
		size_t line = newline ? (size_t)(newline - at) : left;

		r = set_line(conf, at, line, ++number, &reason);
		line += newline ? 1 : 0;
		at += line;
		left -= line;
	}
	free(text);
	return r < 0 ? error_set(err, r, "%s: %s", path, reason.text) : 0;
}

/* The files conf.d/NAME.conf beside PATH. */
static int read_folder(const char *path, struct record *conf, struct error *err)
{
	const char *slash = strrchr(path, '/');
	int folder = slash ? (int)(slash + 1 - path) : 0, r = 0;
	char pattern[PATH_MAX];
	glob_t found = { 0 };

	if (snprintf(pattern, sizeof pattern, "%.*sconf.d/*.conf", folder, path) >= PATH_MAX)
		return 0;
	if (glob(pattern, 0, NULL, &found) == 0)
		for (size_t i = 0; r == 0 && i < found.gl_pathc; i++)
			r = read_file(found.gl_pathv[i], conf, err);
	globfree(&found);
	return r;
}

int conf_read(const char *path, bool is_default, struct record **conf, struct error *err)
{
	struct record *new = record_new();
	int r;

	if (!new)
		return error_set(err, -ENOMEM, "out of memory");
	r = read_file(path, new, err);
	if (r == -ENOENT && is_default)
		r = 0;
	if (r == 0 && is_default)
		r = read_folder(path, new, err);
	if (r < 0)
		goto out;
	*conf = new;
	new = NULL;
out:
	record_free(new);
	return r;
}

int conf_set(struct record *conf, const char *assignment, struct error *err)
{
	const char *equals = strchr(assignment, '=');
	char *key;
	int r;

	if (!equals || equals == assignment)
		return error_set(err, -EINVAL, "\"%.80s\" is not KEY=VALUE", assignment);
	key = strndup(assignment, (size_t)(equals - assignment));
	if (!key)
		return error_set(err, -ENOMEM, "out of memory");
	r = set(conf, key, equals + 1, err);
	free(key);
	return r;
}
