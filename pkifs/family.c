/*
 * The family of processes: who has which walls. The store has its children started here; whoever
 * waits in its place, and the store itself, are the supervisor's.
 */
#include "common/channel.h"
#include "common/log.h"
#include "pkifs/supervisor.h"

#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROCESSES 300 /* of the store's: the most workers there may be, and its other ones */

/* A child of the store's. */
struct process {
	struct process *next;
	long long id;
	pid_t pid;
	char kind[16];
};

static struct process *processes;

static bool quiet(const struct supervision *given)
{
	return record_is(given->conf, "log", "syslog");
}

static int pair(int fds[2], struct error *err)
{
	return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0
	               ? error_set(err, -errno, "no socket: %s", strerror(errno))
	               : 0;
}

static void close_all(int *fds, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

static int start_keys(const struct supervision *given, int socket, struct error *err)
{
	static const char *const arguments[] = { "pkifsd", "--keys", NULL, NULL };
	static const char *const unsealed[] = { "pkifsd", "--keys", "unsealed", NULL };
	struct walls walls = { .no_network = true,
		               .quiet = quiet(given),
		               .program = given->self_fd,
		               .fds = { socket, -1, -1, -1 } };
	int key, pid, r = store_key_file(setting(given, "store-key"), &key, err);

	if (r < 0)
		return r;
	walls.user = is_separated(given) ? setting(given, "user") : NULL;
	walls.arguments = key < 0 ? unsealed : arguments;
	walls.fds[1] = key;
	pid = process_start(&walls, err);
	if (key >= 0)
		close(key);
	return pid;
}

static int start_worker(const struct supervision *given, int socket, int signing, struct error *err)
{
	const char *arguments[] = { "pkifs-enroll", setting(given, "log-level"), NULL };
	struct walls walls = { .user = is_separated(given) ? setting(given, "worker-user") : NULL,
		               .arguments = arguments,
		               .quiet = quiet(given),
		               .program = given->worker_fd,
		               .fds = { socket, signing, -1, -1 } };

	return process_start(&walls, err);
}

static int start_publisher(const struct supervision *given, int socket, struct error *err)
{
	const char *arguments[] = { "pkifsd", "--publisher", setting(given, "mount-point"), NULL };
	struct walls walls = { .keep_root_files = is_separated(given),
		               .no_network = true,
		               .arguments = arguments,
		               .quiet = quiet(given),
		               .program = given->self_fd,
		               .fds = { socket, -1, -1, -1 } };

	return process_start(&walls, err);
}

/* Its user is looked for when the first tunnel is made: most have none. */
static int start_ipsec(const struct supervision *given, int socket, struct error *err)
{
	const char *arguments[] = { "pkifs-ipsec", setting(given, "log-level"), NULL };
	const char *user = is_separated(given) ? setting(given, "ipsec-user") : NULL;
	struct walls walls = { .user = user,
		               .net_admin = true,
		               .arguments = arguments,
		               .quiet = quiet(given),
		               .program = given->ipsec_fd,
		               .fds = { socket, -1, -1, -1 } };

	if (geteuid() != 0)
		return error_set(err, -EPERM, "tunnels need pkifsd started by root");
	if (given->ipsec_fd < 0)
		return error_set(err, -ENOENT, "the program pkifs-ipsec is not installed");
	if (user && !getpwnam(user))
		return error_set(err, -ENOENT,
		                 "there is no user %s (ipsec-user): make it with useradd --system "
		                 "--no-create-home %s",
		                 user, user);
	return process_start(&walls, err);
}

int family_store(const struct supervision *given, int *fd, struct error *err)
{
	static const char *const arguments[] = { "pkifsd", "--store", NULL };
	struct walls walls = { .user = is_separated(given) ? setting(given, "user") : NULL,
		               .no_network = true,
		               .arguments = arguments,
		               .quiet = quiet(given),
		               .program = given->self_fd };
	int sockets[2], r;

	r = pair(sockets, err);
	if (r < 0)
		return r;
	walls.fds[0] = sockets[1];
	walls.fds[1] = given->kept[KEPT_FUSE];
	walls.fds[2] = given->kept[KEPT_SHARED];
	walls.fds[3] = given->kept[KEPT_FOLDER];
	r = process_start(&walls, err);
	close(sockets[1]);
	if (r < 0)
		close(sockets[0]);
	else
		*fd = sockets[0];
	return r;
}

static int start_kind(const struct supervision *given, const char *kind, int sockets[4],
                      struct error *err)
{
	int r = pair(sockets, err);

	if (r < 0)
		return r;
	if (strcmp(kind, "keys") == 0)
		return start_keys(given, sockets[1], err);
	if (strcmp(kind, "publisher") == 0)
		return start_publisher(given, sockets[1], err);
	if (strcmp(kind, "ipsec") == 0)
		return start_ipsec(given, sockets[1], err);
	if (strcmp(kind, "worker") != 0)
		return error_set(err, -EINVAL, "there is no such process");
	r = pair(sockets + 2, err);
	return r < 0 ? r : start_worker(given, sockets[1], sockets[3], err);
}

static pid_t start(const struct supervision *given, const char *kind, int sockets[4],
                   struct error *err)
{
	int count = 0;

	for (const struct process *other = processes; other; other = other->next)
		count++;
	if (count >= PROCESSES)
		return error_set(err, -EAGAIN, "the store has %d processes already", count);
	return start_kind(given, kind, sockets, err);
}

void family_start(const struct supervision *given, const struct record *record)
{
	const char *kind = record_get(record, "kind");
	long long id = record_number(record, "id", 0);
	struct process *process = calloc(1, sizeof *process);
	struct record *answer = record_new();
	int sockets[4] = { -1, -1, -1, -1 };
	struct error err = { 0 };
	pid_t pid;

	pid = process && answer && kind ? start(given, kind, sockets, &err)
	                                : error_set(&err, -ENOMEM, "out of memory");
	if (pid < 0) {
		log_error("%s: %s", kind ? kind : "a process", err.text);
		free(process);
	} else {
		*process = (struct process){ .next = processes, .id = id, .pid = pid };
		snprintf(process->kind, sizeof process->kind, "%s", kind);
		processes = process;
	}
	if (answer) {
		const int passed[] = { sockets[0], sockets[2] };
		size_t count = pid < 0 ? 0 : sockets[2] < 0 ? 1 : 2;

		record_add(answer, "frame", pid < 0 ? "not-started" : "started");
		record_add_number(answer, "id", id);
		if (pid < 0)
			record_add(answer, "reason", err.text);
		channel_send(given->store, answer, passed, count);
	}
	record_free(answer);
	close_all(sockets, COUNT(sockets));
}

void family_stop(long long id)
{
	for (struct process *process = processes; process; process = process->next)
		if (process->id == id)
			kill(process->pid, SIGKILL);
}

bool family_ended(pid_t pid, int status)
{
	struct process **at = &processes, *process;

	while (*at && (*at)->pid != pid)
		at = &(*at)->next;
	process = *at;
	if (!process)
		return false;
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
		log_error("%s: a process called what it must not, and was ended for it",
		          process->kind);
	*at = process->next;
	free(process);
	return true;
}

void family_kill(void)
{
	struct process *process;

	while ((process = processes)) {
		processes = process->next;
		kill(process->pid, SIGKILL);
		free(process);
	}
}
