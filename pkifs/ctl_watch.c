#include "pkifs/ctl.h"

#include "common/x509.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Members that stand at the front of the line, and those that are too much for people. */
static bool is_left_out(const char *key)
{
	static const char *const names[] = { "time", "event",      "kind",
		                             "name", "issuer",     "serial",
		                             "key",  "not-before", "fingerprint-sha256" };

	for (size_t i = 0; i < COUNT(names); i++)
		if (strcmp(names[i], key) == 0)
			return true;
	return false;
}

/* A value as text; NULL for what has none. The caller frees it. */
static char *value_text(const json_t *value)
{
	if (json_is_string(value))
		return strdup(json_string_value(value));
	return json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
}

static void add_members(json_t *event, char *text, size_t size)
{
	const char *key, *between = ": ";
	size_t used = strlen(text);
	json_t *value;

	json_object_foreach(event, key, value)
	{
		char *shown = is_left_out(key) ? NULL : value_text(value);
		bool alone = strcmp(key, "reason") == 0 || strcmp(key, "action") == 0;

		if (shown && *shown) {
			snprintf(text + used, size - used, "%s%s%s%s", between, alone ? "" : key,
			         alone ? "" : " ", shown);
			between = ", ";
		}
		used = strlen(text);
		free(shown);
	}
}

static const char *head(const json_t *event, const char *key)
{
	const char *value = json_string_value(json_object_get(event, key));

	return value ? value : "";
}

bool event_text(const char *line, size_t length, bool local, char *text, size_t size)
{
	char here[40];
	json_t *event = json_loadb(line, length, 0, NULL);
	const char *kind, *time;

	if (!json_is_object(event)) {
		json_decref(event);
		return false;
	}
	kind = head(event, "kind");
	time = head(event, "time");
	if (local && rfc3339_seconds(time) >= 0) {
		time_local(rfc3339_seconds(time), here);
		time = here;
	}
	snprintf(text, size, "%s  %s%s%s  %s", time, kind, *kind ? "/" : "", head(event, "name"),
	         head(event, "event"));
	add_members(event, text, size);
	text_printable(text); /* names and reasons come from outside */
	json_decref(event);
	return true;
}

/* The line's colour by how the event's name sounds. */
static const char *event_color(const char *text)
{
	static const struct {
		const char *name, *color;
	} colors[] = {
		{ "  failed", RED },         { "  rejected", RED },  { "  refused", RED },
		{ "  certificate", GREEN },  { "  trusted", GREEN }, { "  done", GREEN },
		{ "  unconfirmed", YELLOW }, { "  retry", YELLOW },  { "  waiting", YELLOW },
	};

	for (size_t i = 0; i < COUNT(colors); i++)
		if (strstr(text, colors[i].name))
			return colors[i].color;
	return "";
}

static void print_event(const struct ctl *ctl, const struct record *options, const char *line,
                        size_t length)
{
	const char *color;
	char text[2048];

	if (record_find(options, "json")) {
		if (length)
			printf("%.*s\n", (int)length, line);
		return;
	}
	if (!event_text(line, length, ctl->terminal, text, sizeof text))
		return;
	color = ctl->color ? event_color(text) : "";
	printf("%s%s%s\n", color, text, *color ? PLAIN : "");
}

/* Prints the complete lines in BYTES and moves the rest to its begin. */
static size_t print_lines(const struct ctl *ctl, const struct record *options, char *bytes,
                          size_t used)
{
	char *line = bytes, *newline;

	while ((newline = memchr(line, '\n', used - (size_t)(line - bytes)))) {
		print_event(ctl, options, line, (size_t)(newline - line));
		line = newline + 1;
	}
	used -= (size_t)(line - bytes);
	memmove(bytes, line, used);
	fflush(stdout);
	return used;
}

int ctl_watch(const struct ctl *ctl, const struct arguments *arguments, struct error *err)
{
	char path[PATH_MAX], bytes[65536];
	size_t used = 0;
	ssize_t got;
	int fd;

	ctl_path(ctl, NULL, "watch", path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_set(err, -errno, "watch: %s", strerror(errno));
	do {
		got = read(fd, bytes + used, sizeof bytes - used);
		if (got > 0)
			used = print_lines(ctl, arguments->options, bytes, used + (size_t)got);
		if (used == sizeof bytes)
			used = 0; /* a line that no event has: none of ours */
	} while (!ferror(stdout) && (got > 0 || (got < 0 && errno == EINTR)));
	close(fd);
	if (got < 0)
		return error_set(err, errno == ENOTCONN ? CTL_NO_MOUNT : -errno, "watch: %s",
		                 strerror(errno));
	return 0;
}
