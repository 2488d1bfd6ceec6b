/*
 * The programs of `acme-dns-hook`: as the workers' user, with nothing of ours but what they are
 * told in their environment. One that its store no longer waits for is ended.
 */
#include "common/channel.h"
#include "pkifs/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECONDS      300 /* that one may run: it may wait until the world sees the record */
#define FILE_LIMIT   (16u << 20)
#define CANNOT_START 127

struct hook {
	struct hook *next;
	pid_t pid;
	long long id; /* the store's; -1: nobody waits for it any more */
	uint64_t started;
	int said; /* what it wrote to standard error */
	bool late;
};

static struct hook *hooks;

static bool be_user(const struct passwd *user)
{
	return !user || (setgroups(0, NULL) == 0 &&
	                 setresgid(user->pw_gid, user->pw_gid, user->pw_gid) == 0 &&
	                 setresuid(user->pw_uid, user->pw_uid, user->pw_uid) == 0);
}

__attribute__((noreturn)) static void become(const char *program, const struct passwd *user,
                                             int said, char **environment)
{
	char *arguments[] = { strdup(program), NULL };
	struct rlimit limit = { FILE_LIMIT, FILE_LIMIT };
	uid_t owner = user ? 0 : geteuid();
	int null = open("/dev/null", O_RDWR);

	program_signals();
	umask(022);
	setsid();
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(said, 2) < 0 ||
	    setrlimit(RLIMIT_FSIZE, &limit) < 0 || !be_user(user) ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		_exit(CANNOT_START);
	if (!is_trusted_program(program, owner))
		_exit(NOT_TRUSTED);
	syscall(SYS_close_range, 3u, ~0u, 0u);
	execve(program, arguments, environment);
	_exit(CANNOT_START);
}

/* What the program is told; the strings are the caller's. */
static bool make_environment(const struct record *asked, char *environment[4])
{
	static const char *const told[][2] = { { "PKIFS_ACTION", "change" },
		                               { "PKIFS_NAME", "name" },
		                               { "PKIFS_VALUE", "value" } };

	for (size_t i = 0; i < COUNT(told); i++) {
		const char *value = record_get(asked, told[i][1]);

		if (!value || asprintf(&environment[i], "%s=%s", told[i][0], value) < 0) {
			environment[i] = NULL;
			return false;
		}
	}
	return true;
}

static pid_t start(const struct supervision *given, const struct record *asked, int said)
{
	const char *program = record_get(asked, "command");
	const char *name = is_separated(given) ? setting(given, "worker-user") : NULL;
	struct passwd *user = name ? getpwnam(name) : NULL;
	char *environment[4] = { NULL };
	pid_t pid = -1;

	if (program && (user || !name) && make_environment(asked, environment))
		pid = fork();
	if (pid == 0)
		become(program, user, said, environment);
	for (size_t i = 0; i < COUNT(environment); i++)
		free(environment[i]);
	return pid;
}

static void report(const struct supervision *given, long long id, const char *status)
{
	struct record *answer = record_new();

	if (!answer)
		return;
	record_add(answer, "frame", "dns-hook-done");
	record_add_number(answer, "id", id);
	record_add(answer, "status", status);
	channel_send(given->store, answer, NULL, 0);
	record_free(answer);
}

void hook_start(const struct supervision *given, const struct record *asked)
{
	struct hook *hook = calloc(1, sizeof *hook);
	int said = memfd_create("said", MFD_CLOEXEC);
	pid_t pid = hook && said >= 0 ? start(given, asked, said) : -1;

	if (pid < 0) {
		if (said >= 0)
			close(said);
		free(hook);
		report(given, record_number(asked, "id", -1), "acme-dns-hook cannot be started");
		return;
	}
	*hook = (struct hook){ .next = hooks,
		               .pid = pid,
		               .id = record_number(asked, "id", -1),
		               .started = uv_now(given->loop),
		               .said = said };
	hooks = hook;
}

/* The last line that FD's file has, without what is not to be shown. */
static void last_line(int fd, char text[160])
{
	off_t size = lseek(fd, 0, SEEK_END);
	char bytes[512], *end, *line;
	ssize_t got = pread(fd, bytes, sizeof bytes - 1,
	                    size > (off_t)sizeof bytes ? size - (off_t)sizeof bytes + 1 : 0);

	bytes[got > 0 ? got : 0] = '\0';
	end = bytes + strlen(bytes);
	while (end > bytes && strchr("\r\n \t", end[-1]))
		*--end = '\0';
	line = strrchr(bytes, '\n');
	snprintf(text, 160, "%.150s", line ? line + 1 : bytes);
	for (char *at = text; *at; at++)
		if ((unsigned char)*at < 0x20 || (unsigned char)*at >= 0x7f)
			*at = '?';
}

static void say_why(const struct hook *hook, int status, char text[240])
{
	char line[160];

	last_line(hook->said, line);
	if (hook->late)
		snprintf(text, 240, "acme-dns-hook did not end within %d seconds", SECONDS);
	else if (WIFSIGNALED(status))
		snprintf(text, 240, "acme-dns-hook ended by signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status) == NOT_TRUSTED)
		snprintf(text, 240,
		         "acme-dns-hook is not run: there is no such program, or others than root "
		         "can change it");
	else
		snprintf(text, 240, "acme-dns-hook failed (exit code %d)%s%s", WEXITSTATUS(status),
		         *line ? ": " : "", line);
}

bool hook_ended(const struct supervision *given, pid_t pid, int status)
{
	struct hook **at = &hooks, *hook;
	char text[240] = "";

	while (*at && (*at)->pid != pid)
		at = &(*at)->next;
	hook = *at;
	if (!hook)
		return false;
	*at = hook->next;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		say_why(hook, status, text);
	if (hook->id >= 0)
		report(given, hook->id, text);
	close(hook->said);
	free(hook);
	return true;
}

void hooks_end_late(const struct supervision *given)
{
	for (struct hook *hook = hooks; hook; hook = hook->next) {
		if (uv_now(given->loop) - hook->started <= SECONDS * 1000)
			continue;
		hook->late = true;
		kill(-hook->pid, SIGKILL); /* with all that it started */
	}
}

void hooks_store_ended(void)
{
	for (struct hook *hook = hooks; hook; hook = hook->next) {
		hook->id = -1;
		kill(-hook->pid, SIGKILL);
	}
}
