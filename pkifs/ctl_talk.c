#include "pkifs/ctl.h"

#include "common/x509.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static long long monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* One line on the terminal that is written over again: what is waited for and since when. */
static void show_progress(const struct ctl *ctl, const struct target *target, long long seconds)
{
	const char *request, *action, *next, *at;
	struct record *status = NULL;
	char since[40], when[40] = "", line[256];

	if (ctl_status(ctl, target, &status, NULL) < 0)
		return;
	request = record_get(status, "request");
	action = record_get(status, "action");
	next = record_get(status, "next-action");
	at = record_get(status, "next-action-at");
	if (at && rfc3339_seconds(at) >= 0)
		time_local(rfc3339_seconds(at), when);
	time_local((long long)time(NULL) - seconds, since);
	/* the days are known to whoever waits */
	snprintf(line, sizeof line, "%s/%s: %s %s since %s (%lld s)%s%s%s%s", target->kind,
	         target->name, action ? action : "", request ? request : "waiting", since + 11,
	         seconds, request && strcmp(request, "waiting") == 0 && next ? ", next: " : "",
	         request && strcmp(request, "waiting") == 0 && next ? next : "",
	         *when && next ? " at " : "", *when && next ? when + 11 : "");
	text_printable(line);
	fprintf(stderr, "\r\033[K%.*s", ctl->columns > 20 ? ctl->columns - 1 : 79, line);
	fflush(stderr);
	record_free(status);
}

/* Waits until FD can be read or UNTIL (monotonic ms, -1: for ever) has come. */
static int wait_readable(const struct ctl *ctl, const struct target *target, int fd,
                         long long until)
{
	long long begin = monotonic_ms(), now = begin;
	bool terminal = isatty(STDERR_FILENO) && terminal_is_able(), shown = false;
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	int r;

	do {
		long long left = until < 0 ? 60000 : until - now;

		left = left < 0 ? 0 : left;
		left = terminal && left > 1000 ? 1000 : left;
		r = poll(&poll_fd, 1, left > 60000 ? 60000 : (int)left);
		if (r < 0 && errno != EINTR)
			r = -errno;
		now = monotonic_ms();
		if (terminal && r == 0) {
			show_progress(ctl, target, (now - begin) / 1000);
			shown = true;
		}
	} while (r == 0 && (until < 0 || now < until));
	if (shown)
		fputs("\r\033[K", stderr);
	if (r < 0)
		return r;
	return r ? 0 : -ETIMEDOUT;
}

/* The line of `wait`, without its newline. */
static int read_line(int fd, char *line, size_t size)
{
	size_t used = 0;
	ssize_t got;

	do {
		got = read(fd, line + used, size - 1 - used);
		if (got > 0)
			used += (size_t)got;
		line[used] = 0;
	} while ((got > 0 && used < size - 1 && !strchr(line, '\n')) ||
	         (got < 0 && errno == EINTR));
	if (got < 0)
		return -errno;
	line[strcspn(line, "\n")] = 0;
	return 0;
}

static int read_timeout(const struct record *options, long long *until, struct error *err)
{
	const char *text = record_get(options, "timeout");
	char *end;
	long seconds;

	*until = -1;
	if (!text)
		return 0;
	errno = 0;
	seconds = strtol(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || seconds > 100000000)
		return error_set(err, CTL_USAGE, "--timeout takes seconds, not \"%.40s\"", text);
	*until = monotonic_ms() + seconds * 1000LL;
	return 0;
}

int wait_for(const struct ctl *ctl, const struct target *target, const struct record *options,
             struct error *err)
{
	char path[PATH_MAX], line[600];
	long long until;
	int fd, r;

	if (record_find(options, "no-wait"))
		return 0;
	r = read_timeout(options, &until, err);
	if (r < 0)
		return r;
	ctl_path(ctl, target, "wait", path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	r = fd < 0 ? -errno : wait_readable(ctl, target, fd, until);
	if (r == 0)
		r = read_line(fd, line, sizeof line);
	if (fd >= 0)
		close(fd);
	if (r == -ETIMEDOUT)
		return error_set(
			err, r,
			"the request for %s is still under way (pkictl wait %s/%s waits on)",
			target->name, target->kind, target->name);
	if (r < 0)
		return error_set(err, r, "%s/%s/wait: %s", target->kind, target->name,
		                 strerror(-r));
	if (strncmp(line, "failed: ", 8) == 0)
		return error_set(err, -EPROTO, "%s", line + 8);
	return 0;
}

enum answer ask(const char *question)
{
	char line[64];

	for (;;) {
		fprintf(stderr, "%s [yes,no] (no) ", question);
		fflush(stderr);
		if (!fgets(line, sizeof line, stdin)) {
			fputc('\n', stderr);
			return ANSWER_NONE;
		}
		line[strcspn(line, "\r\n")] = 0;
		if (strcmp(line, "yes") == 0 || strcmp(line, "y") == 0)
			return ANSWER_YES;
		if (!*line || strcmp(line, "no") == 0 || strcmp(line, "n") == 0)
			return ANSWER_NO;
	}
}

int ask_secret(const char *name, char *secret, struct error *err)
{
	struct termios before, silent;
	bool terminal = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &before) == 0;
	char *got;

	if (terminal) {
		silent = before;
		/* no signals while the echo is off: they would leave the terminal without it */
		silent.c_lflag &= ~(tcflag_t)(ECHO | ISIG);
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent); /* before anybody answers */
		fprintf(stderr, "%s: ", name);
		fflush(stderr);
	}
	setvbuf(stdin, NULL, _IONBF, 0); /* no copy of the secret in stdio's buffer */
	got = fgets(secret, SECRET_MAX + 1, stdin);
	if (terminal) {
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
		fputc('\n', stderr);
	}
	if (!got)
		return error_set(err, CTL_USAGE, "%s: nothing was entered", name);
	secret[strcspn(secret, "\r\n")] = 0;
	return 0;
}
