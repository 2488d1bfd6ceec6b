#include "pkifs/conf.h"

#include "pkifs/keycheck.h"
#include "pkifs/keytable.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONF_MAX    (4u << 20)  /* bytes of a file, and of all sections: one message to the store */
#define VALUE_MAX   4096        /* bytes of a file that holds a value */
#define SECTION_MAX (64u << 10) /* bytes of a section: it becomes a config */

/* What a section declares. */
static const struct section_kind {
	const char *word;
	const struct key_table *table;
} kinds[] = {
	{ "ca", &ca_config_keys },
	{ "local", &local_config_keys },
	{ "ipsec", &ipsec_config_keys },
	{ CONF_DEFAULTS, &local_config_keys },
};

struct section {
	struct section *next;
	const struct section_kind *kind;
	char *name;
	struct record *keys;
};

/* What was read so far. */
struct reading {
	struct record *conf;
	struct section *sections, **last, *section; /* the one that goes on; NULL: the daemon's */
	const char *path;
	bool for_all; /* others may read the file */
};

static int out_of_memory(struct error *err)
{
	return error_set(err, -ENOMEM, "out of memory");
}

/* Reads up to LIMIT bytes of PATH into BYTES (room for one more, a NUL). -EFBIG: there is more. */
static int slurp(const char *path, char *bytes, size_t limit, size_t *length, bool *for_all)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), r = 0; /* a FIFO blocks nobody */
	struct stat file;
	ssize_t got = 1;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &file) < 0 || (!S_ISREG(file.st_mode) && !S_ISCHR(file.st_mode))) {
		close(fd);
		return -EINVAL;
	}
	*for_all = file.st_mode & S_IROTH;
	for (*length = 0; got > 0 && *length <= limit; *length += got > 0 ? (size_t)got : 0)
		got = read(fd, bytes + *length, limit + 1 - *length);
	if (got < 0)
		r = -errno;
	else if (*length > limit)
		r = -EFBIG;
	close(fd);
	bytes[*length <= limit ? *length : limit] = 0;
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

static bool begins(const char *value, const char *word)
{
	return strncmp(value, word, strlen(word)) == 0;
}

static bool is_reference(const char *value)
{
	return begins(value, "@file:") || begins(value, "@credential:");
}

/* Puts the first line of the file that VALUE names into TEXT (room for VALUE_MAX + 1). */
static int read_reference(struct record *conf, const struct key *key, const char *value, char *text,
                          struct error *err)
{
	char credential[PATH_MAX];
	const char *path = value + strlen("@file:");
	bool for_all = false;
	size_t length;
	int r;

	if (begins(value, "@credential:")) {
		r = credential_path(value + strlen("@credential:"), credential, err);
		if (r < 0)
			return r;
		path = credential;
	}
	if (*path != '/') /* the daemon's own folder is another one than its starter's */
		return error_set(err, -EINVAL, "%s does not begin with a /", value);
	r = slurp(path, text, VALUE_MAX, &length, &for_all);
	if (r == -EFBIG)
		return error_set(err, r, "%s has more than %d bytes", value, VALUE_MAX);
	if (r < 0)
		return error_set(err, r, "%s: %s", value, strerror(-r));
	if (strlen(text) != length)
		return error_set(err, -EINVAL, "%s has a NUL byte in it", value);
	text[strcspn(text, "\r\n")] = 0;
	if (for_all && (key->flags & KEY_SECRET))
		record_addf(conf, CONF_WARNING, "%s holds %s and can be read by all: chmod o-r %s",
		            path, key->name, path);
	return 0;
}

/* Checks one setting of TABLE and puts it into TO; what is to be said about it into CONF. */
static int set(struct record *conf, const struct key_table *table, struct record *to,
               const char *name, const char *value, struct error *err)
{
	const struct key *key = key_find(table, name);
	char text[VALUE_MAX + 1];
	const char *reference = NULL;
	struct record *one = record_new();
	int r = one ? 0 : out_of_memory(err);

	if (r == 0 && key && is_reference(value)) {
		r = read_reference(conf, key, value, text, err);
		reference = value;
		value = text;
	}
	if (r == 0) {
		record_add(one, key ? key->name : name, value);
		r = record_failed(one) ? out_of_memory(err) : key_check_record(table, one, err);
		if (r == -EINVAL && reference && !(key->flags & KEY_SECRET)) /* another's secret? */
			error_set(err, r, "%s does not take the first line of %s", name, reference);
	}
	if (r == 0 && (key->flags & KEY_SECRET) && strcmp(value, "***") == 0)
		r = error_set(err, -EINVAL, "%s = *** is how a secret is shown, not its value",
		              name);
	if (r == 0) {
		if (!(key->flags & KEY_REPEATS))
			record_remove(to, key->name);
		record_append(to, one);
		if (record_failed(to))
			r = out_of_memory(err);
		else if (key->flags & KEY_REPEATS)
			r = key_check_record(table, to, err); /* how often it stands */
	}
	if (reference)
		OPENSSL_cleanse(text, sizeof text);
	record_free(one);
	return r;
}

/* The section of KIND and NAME, made where it is new; NULL: no memory. */
static struct section *section_get(struct reading *reading, const struct section_kind *kind,
                                   const char *name)
{
	struct section *section = reading->sections;

	while (section && (section->kind != kind || strcmp(section->name, name) != 0))
		section = section->next;
	if (section)
		return section;
	section = calloc(1, sizeof *section);
	if (!section)
		return NULL;
	*section = (struct section){ .kind = kind, .name = strdup(name), .keys = record_new() };
	*reading->last = section;
	reading->last = &section->next;
	return section->name && section->keys ? section : NULL;
}

static void sections_free(struct section *section)
{
	while (section) {
		struct section *next = section->next;

		record_free(section->keys);
		free(section->name);
		free(section);
		section = next;
	}
}

static bool is_protocol(const char *name)
{
	const struct key *key = key_find(&ca_config_keys, "protocol");

	return key->check(key, name, NULL) == 0;
}

static int check_head(const struct section_kind *kind, const char *word, const char *name,
                      struct error *err)
{
	if (!kind)
		return error_set(
			err, -EINVAL,
			"[%s]: there are sections [ca NAME], [local NAME], [ipsec NAME] and "
			"[" CONF_DEFAULTS " PROTOCOL]",
			word);
	if (strcmp(word, CONF_DEFAULTS) == 0)
		return is_protocol(name) ? 0
		                         : error_set(err, -EINVAL,
		                                     "[%s %s]: a protocol is scep, cmpv2, acme or "
		                                     "est",
		                                     word, name);
	return object_name_is_legal(name)
	               ? 0
	               : error_set(err, -EINVAL,
	                           "[%s %s]: a name is 1 to 64 letters, digits, \".\", \"_\" or "
	                           "\"-\", and begins with a letter, a digit or \"_\"",
	                           word, name);
}

/* "[local www]", LENGTH bytes: the section goes on from here. */
static int open_section(struct reading *reading, const char *line, size_t length, struct error *err)
{
	const struct section_kind *kind = NULL;
	char text[200], *word = text, *name;
	int r;

	if (length < 2 || line[length - 1] != ']')
		return error_set(err, -EINVAL, "a section is [KIND NAME], alone in its line");
	if (length - 2 >= sizeof text || memchr(line, 0, length))
		return error_set(err, -EINVAL, "the name of a section has up to 64 characters");
	memcpy(text, line + 1, length - 2);
	text[length - 2] = 0;
	word += strspn(word, " \t");
	name = word + strcspn(word, " \t");
	if (*name)
		*name++ = 0;
	name += strspn(name, " \t");
	for (char *end = name + strlen(name); end > name && strchr(" \t", end[-1]);)
		*--end = 0;
	for (size_t i = 0; i < COUNT(kinds); i++)
		if (strcmp(kinds[i].word, word) == 0)
			kind = &kinds[i];
	r = check_head(kind, word, name, err);
	if (r < 0)
		return r;
	reading->section = section_get(reading, kind, name);
	return reading->section ? 0 : out_of_memory(err);
}

/* A key that the other parts of the file know is not just unknown. */
static int check_place(const struct section *section, const char *name, struct error *err)
{
	static const struct {
		const char *words;
		const struct key_table *table;
	} places[] = {
		{ "stands before the first section", &daemon_keys },
		{ "belongs into a section [ca NAME]", &ca_config_keys },
		{ "belongs into a section [local NAME]", &local_config_keys },
	};
	const struct key_table *here = section ? section->kind->table : &daemon_keys;

	for (size_t i = 0; !key_find(here, name) && i < COUNT(places); i++)
		if (key_find(places[i].table, name))
			return error_set(err, -EINVAL, "%s %s", name, places[i].words);
	return 0;
}

/* What no two certificate ids have in common cannot be the default of all. */
static int check_default(const char *name, struct error *err)
{
	static const char *const own[] = { "auto-enroll", "protocol",   "subject",
		                           "domain-name", "ip-address", "email" };
	const struct key *key = key_find(&local_config_keys, name);
	bool is_own = key && (key->flags & (KEY_CA | KEY_LOCAL));

	for (size_t i = 0; i < COUNT(own); i++)
		is_own = is_own || strcmp(own[i], name) == 0;
	return is_own ? error_set(err, -EINVAL,
	                          "%s is each certificate id's own: it belongs into a section "
	                          "[local NAME]",
	                          name)
	              : 0;
}

static int set_key(struct reading *reading, const char *name, const char *value, struct error *err)
{
	struct section *section = reading->section;
	const struct key *key;
	int r = check_place(section, name, err);

	if (r == 0 && section && strcmp(section->kind->word, CONF_DEFAULTS) == 0)
		r = check_default(name, err);
	if (r == 0)
		r = set(reading->conf, section ? section->kind->table : &daemon_keys,
		        section ? section->keys : reading->conf, name, value, err);
	if (r < 0 || !section || !reading->for_all || is_reference(value))
		return r;
	key = key_find(section->kind->table, name);
	if (key->flags & KEY_SECRET) {
		record_addf(reading->conf, CONF_WARNING,
		            "%s holds %s and can be read by all: chmod o-r %s, or keep it in a "
		            "file of its own (%s = @file:PATH)",
		            reading->path, key->name, reading->path, key->name);
		reading->for_all = false; /* said once */
	}
	return 0;
}

static int read_line(struct reading *reading, const char *line, size_t length, unsigned number,
                     struct error *err)
{
	struct error reason = { 0 };
	char *key = NULL, *value = NULL;
	int r;

	while (length && isspace((unsigned char)*line)) {
		line++;
		length--;
	}
	while (length && isspace((unsigned char)line[length - 1]))
		length--;
	if (length && *line == '[') {
		r = open_section(reading, line, length, &reason);
	} else {
		r = record_parse_line(line, length, number, &key, &value, err);
		if (r <= 0)
			return r;
		r = set_key(reading, key, value, &reason);
		OPENSSL_cleanse(value, strlen(value));
	}
	if (r < 0)
		error_set(err, r, "line %u: %s", number, reason.text);
	free(key);
	free(value);
	return r;
}

static int read_file(struct reading *reading, const char *path, struct error *err)
{
	char *text = OPENSSL_malloc(CONF_MAX + 1), *at = text;
	struct error reason = { 0 };
	unsigned number = 0;
	size_t length = 0, left;
	int r = text ? slurp(path, text, CONF_MAX, &length, &reading->for_all) : -ENOMEM;

	if (r == -EFBIG)
		error_set(&reason, r, "the file has more than %u bytes", CONF_MAX);
	else if (r < 0)
		error_set(&reason, r, "%s", strerror(-r));
	reading->path = path;
	reading->section = NULL;
	left = length;
	while (r >= 0 && left) {
		char *newline = memchr(at, '\n', left);
		size_t line = newline ? (size_t)(newline - at) : left;

		r = read_line(reading, at, line, ++number, &reason);
		line += newline ? 1 : 0;
		at += line;
		left -= line;
	}
	OPENSSL_clear_free(text, length);
	return r < 0 ? error_set(err, r, "%s: %s", path, reason.text) : 0;
}

static int is_conf(const struct dirent *entry)
{
	size_t length = strlen(entry->d_name);

	return *entry->d_name != '.' && length > 5 &&
	       strcmp(entry->d_name + length - 5, ".conf") == 0;
}

static int by_name(const struct dirent **one, const struct dirent **other)
{
	return strcmp((*one)->d_name, (*other)->d_name);
}

/* The files NAME.conf of the folder conf.d beside PATH. */
static int read_folder(struct reading *reading, const char *path, struct error *err)
{
	const char *slash = strrchr(path, '/');
	int beside = slash ? (int)(slash + 1 - path) : 0, count, r = 0;
	char folder[PATH_MAX], file[PATH_MAX + 256];
	struct dirent **found = NULL;

	if (snprintf(folder, sizeof folder, "%.*sconf.d", beside, path) >= PATH_MAX)
		return 0;
	count = scandir(folder, &found, is_conf, by_name);
	if (count < 0 && errno != ENOENT)
		return error_set(err, -errno, "%s: %s", folder, strerror(errno));
	for (int i = 0; i < count; i++) {
		snprintf(file, sizeof file, "%s/%s", folder, found[i]->d_name);
		if (r == 0)
			r = read_file(reading, file, err);
		free(found[i]);
	}
	free(found);
	return r;
}

/* The sections as conf.h has them. */
static int put_sections(const struct section *section, struct record *conf, struct error *err)
{
	size_t all = 0;
	int r = 0;

	for (; r == 0 && section; section = section->next) {
		const char *kind = section->kind->word;
		char *text = NULL;
		size_t length = 0;

		r = key_merge(section->kind->table, "", 0, section->keys, &text, &length, err);
		all += length;
		if (r == 0 && length > SECTION_MAX)
			r = error_set(err, -EFBIG, "[%s %s] has more than %u bytes", kind,
			              section->name, SECTION_MAX);
		else if (r == 0 && all > CONF_MAX)
			r = error_set(err, -EFBIG, "all sections together have more than %u bytes",
			              CONF_MAX);
		if (r == 0) {
			record_add(conf, CONF_KIND, kind);
			record_add(conf, CONF_NAME, section->name);
			record_add_bytes(conf, CONF_KEYS, text, length);
		}
		OPENSSL_clear_free(text, text ? length + 1 : 0);
	}
	return r;
}

int conf_read(const char *path, bool is_default, struct record **conf, struct error *err)
{
	struct reading reading = { .conf = record_new(), .last = &reading.sections };
	char file[PATH_MAX];
	struct stat folder;
	int r;

	if (!reading.conf)
		return out_of_memory(err);
	if (stat(path, &folder) == 0 && S_ISDIR(folder.st_mode) &&
	    snprintf(file, sizeof file, "%s/pkifs.conf", path) < PATH_MAX) {
		path = file;
		is_default = true;
	}
	r = is_default && access(path, F_OK) < 0 && errno == ENOENT
	            ? 0
	            : read_file(&reading, path, err);
	if (r == 0 && is_default)
		r = read_folder(&reading, path, err);
	if (r == 0)
		r = put_sections(reading.sections, reading.conf, err);
	if (r == 0 && record_failed(reading.conf))
		r = out_of_memory(err);
	if (r == 0) {
		*conf = reading.conf;
		reading.conf = NULL;
	}
	sections_free(reading.sections);
	record_free(reading.conf);
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
		return out_of_memory(err);
	r = set(conf, &daemon_keys, conf, key, equals + 1, err);
	free(key);
	return r;
}
