/*
 * The programs of `on-change`, which root runs: some at once, the others wait. One that fails is
 * tried again.
 */
#include "common/channel.h"
#include "pkifs/keycheck.h"
#include "pkifs/supervisor.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARGUMENTS 32
#define AT_ONCE   16
#define SECONDS   60 /* that one may run */
#define TRIES     3

/* One that runs, waits, or is to be tried again. */
struct command {
	struct command *next;
	pid_t pid; /* 0: does not run */
	int tries;
	uint64_t started; /* uv_now */
	struct record *record;
};

static struct command *commands;
static int results; /* that the store was told, and has not stored yet */

bool is_trusted_program(const char *path, uid_t owner)
{
	struct stat file;

	return *path == '/' && stat(path, &file) == 0 && S_ISREG(file.st_mode) &&
	       (file.st_uid == 0 || file.st_uid == owner) && (file.st_mode & 022) == 0;
}

void program_signals(void)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL); /* what we ignore is no concern of the program's */
	signal(SIGXFSZ, SIG_DFL);
}

__attribute__((noreturn)) static void become(char **arguments, char **environment)
{
	program_signals();
	umask(022);
	setsid();
	/* here, not in the supervisor: the path may lead into the mount, and hang */
	if (!is_trusted_program(arguments[0], geteuid()))
		_exit(NOT_TRUSTED);
	syscall(SYS_close_range, 3u, ~0u, 0u);
	execve(arguments[0], arguments, environment);
	_exit(127);
}

/* The pid, whose end is seen by SIGCHLD, or a negative errno with ERR. */
static pid_t run(const struct supervision *given, const struct record *asked, struct error *err)
{
	const char *id = record_get(asked, "certificate-id");
	char *text = strdup(record_get(asked, "command")), *save = NULL;
	char *arguments[ARGUMENTS + 1] = { NULL }, *environment[4] = { NULL };
	size_t count = 0;
	pid_t pid = -1;

	if (!text || asprintf(&environment[0], "PKIFS_ID=%s", id) < 0 ||
	    asprintf(&environment[1], "PKIFS_VERSION=%lld", record_number(asked, "version", 0)) <
	            0 ||
	    asprintf(&environment[2], "PKIFS_DIR=%s/local/%s", setting(given, "mount-point"), id) <
	            0) {
		error_set(err, -ENOMEM, "out of memory");
		goto out;
	}
	for (char *word = strtok_r(text, " \t", &save); word && count < ARGUMENTS;
	     word = strtok_r(NULL, " \t", &save))
		arguments[count++] = word;
	if (!count) {
		error_set(err, -EINVAL, "there is no program");
		goto out;
	}
	pid = fork();
	if (pid == 0)
		become(arguments, environment);
	if (pid < 0)
		error_set(err, -errno, "no process can be started: %s", strerror(errno));
out:
	for (size_t i = 0; i < COUNT(environment); i++)
		free(environment[i]);
	free(text);
	return pid < 0 ? err->code : pid;
}

static void done(const struct supervision *given, struct command *command, const char *status)
{
	struct command **at = &commands;
	struct record *answer = record_new();

	while (*at != command)
		at = &(*at)->next;
	*at = command->next;
	if (answer) {
		record_add(answer, "frame", "on-change-done");
		record_add_number(answer, "id", record_number(command->record, "id", 0));
		record_add(answer, "status", status);
		if (channel_send(given->store, answer, NULL, 0) == 0)
			results++;
	}
	record_free(answer);
	record_free(command->record);
	free(command);
}

static void try(const struct supervision *given, struct command *command)
{
	struct error err = { 0 };

	command->tries++;
	command->started = uv_now(given->loop);
	command->pid = run(given, command->record, &err);
	if (command->pid < 0)
		done(given, command, err.text);
}

void command_kept(void)
{
	if (results)
		results--;
}

void commands_store_ended(void)
{
	results = 0; /* its successor asks for what it does not know the end of */
}

static int running(void)
{
	int count = 0;

	for (const struct command *command = commands; command; command = command->next)
		count += command->pid > 0;
	return count;
}

bool commands_have_ended(void)
{
	return !running() && !results;
}

static struct command *oldest_that_waits(void)
{
	struct command *oldest = NULL;

	for (struct command *command = commands; command; command = command->next)
		if (!command->tries)
			oldest = command;
	return oldest;
}

void commands_start(const struct supervision *given)
{
	struct command *next;

	while (running() < AT_ONCE && (next = oldest_that_waits()) != NULL)
		try(given, next);
}

void command_add(struct record *record)
{
	struct command *command = calloc(1, sizeof *command);
	const char *id = record_get(record, "certificate-id");

	/* the id becomes a path in the program's environment */
	if (!command || !record_get(record, "command") || !id || !object_name_is_legal(id)) {
		free(command);
		record_free(record);
		return;
	}
	*command = (struct command){ .next = commands, .record = record };
	commands = command;
}

/* Why it failed, for good. */
static void say_why(const struct command *command, int status, char text[128])
{
	if (WIFSIGNALED(status))
		snprintf(text, 128, "ended by signal %d, tried %d times", WTERMSIG(status),
		         command->tries);
	else if (WEXITSTATUS(status) == NOT_TRUSTED)
		snprintf(text, 128,
		         "not run: there is no such program, or others than its user can change "
		         "it");
	else
		snprintf(text, 128, "exit code %d, tried %d times", WEXITSTATUS(status),
		         command->tries);
}

void command_ended(const struct supervision *given, pid_t pid, int status)
{
	struct command *command = commands;
	char text[128];

	while (command && command->pid != pid)
		command = command->next;
	if (!command)
		return;
	command->pid = 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		done(given, command, "");
	} else if (command->tries < TRIES) {
		try(given, command);
	} else {
		say_why(command, status, text);
		done(given, command, text);
	}
}

void commands_end_late(const struct supervision *given)
{
	for (struct command *command = commands; command; command = command->next)
		if (command->pid > 0 && uv_now(given->loop) - command->started > SECONDS * 1000)
			kill(-command->pid, SIGKILL); /* with all that it started */
}
