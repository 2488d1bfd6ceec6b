#include "common/log.h"

#include "common/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const names[] = {
	[LOG_ERR] = "error", [LOG_WARNING] = "warning", [LOG_NOTICE] = "notice",
	[LOG_INFO] = "info", [LOG_DEBUG] = "debug",
};

static struct {
	const char *part;
	int level;
	enum { TO_STDERR, TO_SYSLOG, TO_JOURNAL } target;
} state = { .part = "pkifs", .level = LOG_INFO };

void log_open(const char *part, const char *target, int level)
{
	state.part = part;
	state.level = level;
	state.target = TO_STDERR;
	if (strcmp(target, "syslog") == 0)
		state.target = TO_SYSLOG;
	else if (strcmp(target, "journal") == 0)
		state.target = TO_JOURNAL;
	if (state.target == TO_SYSLOG)
		openlog("pkifsd", LOG_PID, LOG_DAEMON);
}

void log_write(int level, const char *format, ...)
{
	int error = errno;
	char text[1024];
	va_list args;

	if (level > state.level)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	text_printable(text);
	if (state.target == TO_SYSLOG)
		syslog(level, "%s: %s", state.part, text);
	else if (state.target == TO_JOURNAL) /* sd-daemon(3): the level in front of the line */
		fprintf(stderr, "<%d>%s: %s\n", level, state.part, text);
	else
		fprintf(stderr, "pkifsd %s: %s\n", state.part, text);
	errno = error;
}

int log_level(const char *name)
{
	for (size_t i = 0; i < COUNT(names); i++)
		if (names[i] && strcmp(names[i], name) == 0)
			return (int)i;
	return -1;
}

const char *log_level_name(int level)
{
	return level >= 0 && (size_t)level < COUNT(names) && names[level] ? names[level] : "info";
}
