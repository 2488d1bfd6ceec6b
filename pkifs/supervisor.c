#include "pkifs/supervisor.h"

#include "common/channel.h"
#include "common/log.h"
#include "pkifs/conf.h"
#include "pkifs/keycheck.h"
#include "pkifs/keytable.h"
#include "pkifs/notify.h"
#include "pkifs/shared.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef START_SECONDS /* a slower one, for valgrind, has its own */
#define START_SECONDS 10
#define STOP_SECONDS  5
#endif
#define QUICK_STARTS    3 /* of stores that died before they were ready, one after the other */
#define COMMAND_SECONDS 60
#define COMMAND_TRIES   3
#define COMMANDS        16  /* that run at once; the others wait */
#define PROCESSES       300 /* of the store's: the most workers there may be, and its other ones */

/* A child of the store's. */
struct process {
	struct process *next;
	long long id;
	pid_t pid;
};

/* An `on-change` that runs, or is to be tried again. */
struct command {
	struct command *next;
	pid_t pid;
	int tries;
	uint64_t started; /* uv_now */
	struct record *record;
};

static struct supervisor {
	struct supervision *given;
	uv_loop_t *loop;
	struct mount *mount;
	struct channel *channel;
	struct process *processes;
	struct command *commands;
	struct record *conf; /* with what the store is told besides */
	int kept[KEPT];
	int self_fd, worker_fd;
	char *program; /* our path; self_fd is what it was when we started */
	pid_t store;
	pid_t successor; /* waits for the store's death; 0: none */
	int successor_fd;
	pid_t rehearsal;   /* of the program on the disk that is to take our place; 0: none */
	bool handing_over; /* as soon as it can be */
	int deaths;        /* of stores in a row that were never ready */
	bool asked;        /* the store, whether it is alive */
	uint64_t asked_at;
	bool ready, stopping;
	uint64_t store_started, unready_since, stopping_since;
	int code;
	uv_signal_t child, term, interrupt, hangup, renewal;
	uv_timer_t tick;
} s;

static const char *setting(const char *name)
{
	return key_value(&daemon_keys, s.conf, name);
}

static bool quiet(void)
{
	return record_is(s.conf, "log", "syslog");
}

static bool separated(void)
{
	return record_is(s.conf, "privilege-separation", "yes");
}

/* Tells whoever started us that the mount answers (READY), or why it never will. */
static void tell_starter(const char *reason)
{
	int null;

	if (s.given->ready_fd < 0)
		return;
	if (write(s.given->ready_fd, reason, strlen(reason)) < 0)
		log_debug("the starter is gone");
	close(s.given->ready_fd);
	s.given->ready_fd = -1;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0 && !record_is(s.conf, "log", "stderr"))
		dup2(null, 2); /* the starter's terminal is not ours */
	if (null >= 0)
		close(null);
}

static void give_up(const char *reason)
{
	log_error("%s", reason);
	notify("STATUS=%s", reason);
	if (!s.ready)
		tell_starter(reason);
	s.code = 1;
	uv_stop(s.loop);
}

static void kill_children(void)
{
	struct process *process;

	while ((process = s.processes)) {
		s.processes = process->next;
		kill(process->pid, SIGKILL);
		free(process);
	}
}

static int pair(int fds[2])
{
	return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0 ? -errno : 0;
}

static void close_all(int *fds, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

static int start_keys(int socket, struct error *err)
{
	static const char *const arguments[] = { "pkifsd", "--keys", NULL, NULL };
	static const char *const unsealed[] = { "pkifsd", "--keys", "unsealed", NULL };
	struct walls walls = { .no_network = true,
		               .quiet = quiet(),
		               .program = s.self_fd,
		               .fds = { socket, -1, -1, -1 } };
	int key, pid, r = store_key_file(setting("store-key"), &key, err);

	if (r < 0)
		return r;
	walls.user = separated() ? setting("user") : NULL;
	walls.arguments = key < 0 ? unsealed : arguments;
	walls.fds[1] = key;
	pid = process_start(&walls, err);
	if (key >= 0)
		close(key);
	return pid;
}

static int start_worker(int socket, int signing, struct error *err)
{
	const char *arguments[] = { "pkifs-enroll", setting("log-level"), NULL };
	struct walls walls = { .user = separated() ? setting("worker-user") : NULL,
		               .arguments = arguments,
		               .quiet = quiet(),
		               .program = s.worker_fd,
		               .fds = { socket, signing, -1, -1 } };

	return process_start(&walls, err);
}

static int start_publisher(int socket, struct error *err)
{
	const char *arguments[] = { "pkifsd", "--publisher", setting("mount-point"), NULL };
	struct walls walls = { .keep_root_files = separated(),
		               .no_network = true,
		               .arguments = arguments,
		               .quiet = quiet(),
		               .program = s.self_fd,
		               .fds = { socket, -1, -1, -1 } };

	return process_start(&walls, err);
}

static void reply(const char *frame, long long id, const char *key, const char *value,
                  const int *fds, size_t count)
{
	struct record *record = record_new();

	if (!record)
		return;
	record_add(record, "frame", frame);
	record_add_number(record, "id", id);
	if (key)
		record_add(record, key, value);
	channel_send(s.channel, record, fds, count);
	record_free(record);
}

/* REASON may be NULL. */
static int tell_store(const char *frame, const char *reason)
{
	struct record *record = record_new();
	int r;

	if (!record)
		return -ENOMEM;
	record_add(record, "frame", frame);
	if (reason)
		record_add(record, "reason", reason);
	r = channel_send(s.channel, record, NULL, 0);
	record_free(record);
	return r;
}

static int start_kind(const char *kind, int sockets[4], struct error *err)
{
	int r = pair(sockets);

	if (r < 0)
		return error_set(err, r, "no socket: %s", strerror(-r));
	if (strcmp(kind, "keys") == 0)
		return start_keys(sockets[1], err);
	if (strcmp(kind, "publisher") == 0)
		return start_publisher(sockets[1], err);
	if (strcmp(kind, "worker") != 0)
		return error_set(err, -EINVAL, "there is no such process");
	r = pair(sockets + 2);
	if (r < 0)
		return error_set(err, r, "no socket: %s", strerror(-r));
	return start_worker(sockets[1], sockets[3], err);
}

static void start_child(const struct record *record)
{
	const char *kind = record_get(record, "kind");
	long long id = record_number(record, "id", 0);
	int sockets[4] = { -1, -1, -1, -1 }, pid, passed[2];
	struct process *process = calloc(1, sizeof *process);
	struct error err = { 0 };
	int count = 0;

	for (const struct process *other = s.processes; other; other = other->next)
		count++;
	if (count >= PROCESSES)
		pid = error_set(&err, -EAGAIN, "the store has %d processes already", count);
	else
		pid = process && kind ? start_kind(kind, sockets, &err)
		                      : error_set(&err, -ENOMEM, "out of memory");
	if (pid < 0) {
		log_error("%s: %s", kind ? kind : "a process", err.text);
		reply("not-started", id, "reason", err.text, NULL, 0);
		free(process);
	} else {
		*process = (struct process){ .next = s.processes, .id = id, .pid = pid };
		s.processes = process;
		passed[0] = sockets[0];
		passed[1] = sockets[2];
		reply("started", id, NULL, NULL, passed, sockets[2] < 0 ? 1 : 2);
	}
	close_all(sockets, COUNT(sockets));
}

static void stop_child(long long id)
{
	for (struct process *process = s.processes; process; process = process->next)
		if (process->id == id)
			kill(process->pid, SIGKILL);
}

static void command_done(struct command *command, const char *status)
{
	struct command **at = &s.commands;

	while (*at != command)
		at = &(*at)->next;
	*at = command->next;
	reply("on-change-done", record_number(command->record, "id", 0), "status", status, NULL, 0);
	record_free(command->record);
	free(command);
}

static void command_try(struct command *command)
{
	struct error err = { 0 };

	command->tries++;
	command->started = uv_now(s.loop);
	command->pid = command_start(record_get(command->record, "command"),
	                             record_get(command->record, "certificate-id"),
	                             record_number(command->record, "version", 0),
	                             setting("mount-point"), geteuid(), &err);
	if (command->pid < 0)
		command_done(command, err.text);
}

static int commands_running(void)
{
	int running = 0;

	for (const struct command *command = s.commands; command; command = command->next)
		running += command->pid > 0;
	return running;
}

/* Starts the oldest of those that wait, where one may run. False: nothing is to be started. */
static bool command_next(void)
{
	struct command *oldest = NULL;

	for (struct command *command = s.commands; command; command = command->next)
		if (!command->tries)
			oldest = command;
	if (!oldest || s.handing_over || commands_running() >= COMMANDS)
		return false;
	command_try(oldest);
	return true;
}

static void command_new(struct record *record)
{
	struct command *command = calloc(1, sizeof *command);
	const char *id = record_get(record, "certificate-id");

	/* the id becomes a path in the program's environment */
	if (!command || !record_get(record, "command") || !id || !object_name_is_legal(id)) {
		free(command);
		record_free(record);
		return;
	}
	*command = (struct command){ .next = s.commands, .record = record };
	s.commands = command;
	command_next();
}

static void command_ended(struct command *command, int status)
{
	char text[128] = "";

	command->pid = 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		command_done(command, "");
		return;
	}
	if (command->tries < COMMAND_TRIES) {
		command_try(command);
		return;
	}
	if (WIFSIGNALED(status))
		snprintf(text, sizeof text, "ended by signal %d, tried %d times", WTERMSIG(status),
		         command->tries);
	else if (WEXITSTATUS(status) == NOT_TRUSTED)
		snprintf(
			text, sizeof text,
			"not run: there is no such program, or others than its user can change it");
	else
		snprintf(text, sizeof text, "exit code %d, tried %d times", WEXITSTATUS(status),
		         command->tries);
	command_done(command, text);
}

/*
 * A store that waits: started, linked, and behind its walls, it reads its settings when its
 * predecessor has died, and readers wait for that much less.
 */
static int make_successor(struct error *err)
{
	static const char *const arguments[] = { "pkifsd", "--store", NULL };
	struct walls walls = { .user = separated() ? setting("user") : NULL,
		               .no_network = true,
		               .arguments = arguments,
		               .quiet = quiet(),
		               .program = s.self_fd };
	int sockets[2], r;

	r = pair(sockets);
	if (r < 0)
		return error_set(err, r, "no socket: %s", strerror(-r));
	walls.fds[0] = sockets[1];
	walls.fds[1] = s.kept[KEPT_FUSE];
	walls.fds[2] = s.kept[KEPT_SHARED];
	walls.fds[3] = s.kept[KEPT_FOLDER];
	r = process_start(&walls, err);
	close(sockets[1]);
	if (r < 0) {
		close(sockets[0]);
		return r;
	}
	s.successor = r;
	s.successor_fd = sockets[0];
	return 0;
}

static void have_successor(void)
{
	struct error err = { 0 };

	if (s.ready && !s.successor && !s.stopping && make_successor(&err) < 0)
		log_debug("%s", err.text); /* it is made when it is needed */
}

static void store_said(struct channel *channel, struct record *record, int *fds, int code,
                       void *user)
{
	const char *frame = record ? record_get(record, "frame") : NULL;

	(void)channel;
	(void)fds;
	(void)user;
	if (!record) { /* its end is seen by SIGCHLD */
		if (code == -EBADMSG)
			kill(s.store, SIGKILL);
		return;
	}
	if (frame && strcmp(frame, "on-change") == 0) {
		command_new(record);
		return;
	}
	if (frame && strcmp(frame, "start") == 0) {
		start_child(record);
	} else if (frame && strcmp(frame, "stop") == 0) {
		stop_child(record_number(record, "id", 0));
	} else if (frame && strcmp(frame, "serves") == 0) {
		/* nobody hangs: what may have to be given up is this store, and from here on */
		if (s.unready_since)
			s.unready_since = uv_now(s.loop);
	} else if (frame && strcmp(frame, "ready") == 0) {
		s.ready = true;
		s.unready_since = 0;
		tell_starter(READY);
		notify("READY=1\nSTATUS=%s is served", setting("mount-point"));
		have_successor();
	} else if (frame && strcmp(frame, "alive") == 0) {
		s.asked = false;
		notify("WATCHDOG=1");
	} else if (frame && strcmp(frame, "fatal") == 0) {
		give_up(record_get(record, "reason") ? record_get(record, "reason") : "");
	} else {
		kill(s.store, SIGKILL); /* it says what is none */
	}
	record_free(record);
}

static int start_store(struct error *err)
{
	int r = s.successor ? 0 : make_successor(err);

	if (r < 0)
		return r;
	s.store = s.successor;
	s.successor = 0;
	s.store_started = uv_now(s.loop);
	s.asked = false;
	channel_close(s.channel);
	s.channel = channel_open(s.loop, s.successor_fd, 1u << 20, store_said, NULL);
	if (!s.channel)
		return error_set(err, -ENOMEM, "out of memory");
	channel_send(s.channel, s.conf, NULL, 0);
	return 0;
}

static void store_ended(int status)
{
	struct error err = { 0 };

	s.store = 0;
	kill_children();
	if (s.stopping || (WIFEXITED(status) && WEXITSTATUS(status) == 0)) {
		uv_stop(s.loop);
		return;
	}
	if (s.code)
		return;
	if (!s.unready_since)
		s.unready_since = uv_now(s.loop);
	log_warning("the store ended (%s %d): started again",
	            WIFSIGNALED(status) ? "signal" : "exit code",
	            WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	notify("STATUS=the store ended and is started again");
	s.deaths = s.ready || uv_now(s.loop) - s.store_started >= 1000 ? 0 : s.deaths + 1;
	if (s.deaths > QUICK_STARTS)
		return; /* the tick starts it: not as fast as it dies */
	s.ready = false;
	if (start_store(&err) < 0)
		log_error("%s", err.text);
}

/*
 * The program on the disk takes our place. To the store this is a death like others: what it has
 * not answered stands in the shared memory. Not while a program of on-change runs: whoever takes
 * our place would not know what came of it.
 */
static void hand_over(void)
{
	struct error err = { 0 };
	int status = 0;

	if (!s.handing_over || !s.ready || s.stopping || commands_running())
		return;
	s.handing_over = false;
	notify_reloading("the new program takes over");
	kill(s.store, SIGKILL);
	waitpid(s.store, &status, 0);
	for (const struct process *process = s.processes; process; process = process->next)
		kill(process->pid, SIGKILL);
	handover_become(s.given, s.conf, s.program, s.kept, &err);
	log_error("%s: this program goes on", err.text);
	store_ended(status);
}

static void rehearsed(int status)
{
	s.rehearsal = 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		s.handing_over = true;
		hand_over();
	} else {
		log_error("the program %s cannot go on where this one is, which stays: restart "
		          "pkifsd to have it",
		          s.program);
	}
}

/* SIGUSR2: the program on the disk is another one. */
static void renew(uv_signal_t *signal, int number)
{
	struct error err = { 0 };
	int pid;

	(void)signal;
	(void)number;
	if (s.rehearsal || s.stopping)
		return;
	pid = handover_rehearse(s.given, s.conf, s.program, &err);
	if (pid < 0)
		log_error("%s", err.text);
	else
		s.rehearsal = pid;
}

static void child_ended(uv_signal_t *signal, int number)
{
	pid_t pid;
	int status;

	(void)signal;
	(void)number;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct process **at = &s.processes, *process;
		struct command *command = s.commands;

		if (pid == s.store) {
			store_ended(status);
			continue;
		}
		if (pid == s.rehearsal) {
			rehearsed(status);
			continue;
		}
		if (pid == s.successor) {
			close(s.successor_fd);
			s.successor = 0;
			continue;
		}
		while (*at && (*at)->pid != pid)
			at = &(*at)->next;
		process = *at;
		if (process) {
			*at = process->next;
			free(process);
			continue;
		}
		while (command && command->pid != pid)
			command = command->next;
		if (command)
			command_ended(command, status);
	}
}

static void stop(uv_signal_t *signal, int number)
{
	(void)signal;
	(void)number;
	if (s.stopping)
		return;
	s.stopping = true;
	notify("STOPPING=1\nSTATUS=what runs is parked");
	s.stopping_since = uv_now(s.loop);
	tell_store("stop", NULL);
}

/* Whoever watches over us hears of us as long as the store takes turns. */
static void beat(uint64_t now)
{
	if (!notify_beat() || !s.ready || s.asked || now - s.asked_at < notify_beat())
		return;
	s.asked = tell_store("alive", NULL) == 0;
	s.asked_at = now;
}

static void tick(uv_timer_t *timer)
{
	uint64_t now = uv_now(s.loop);
	struct error err = { 0 };

	(void)timer;
	for (struct command *command = s.commands; command; command = command->next)
		if (command->pid > 0 && now - command->started > COMMAND_SECONDS * 1000)
			kill(-command->pid, SIGKILL); /* with all that it started */
	while (!s.stopping && command_next()) {
	}
	hand_over();
	beat(now);
	if (s.stopping && now - s.stopping_since > STOP_SECONDS * 1000) {
		if (s.store)
			kill(s.store, SIGKILL);
		uv_stop(s.loop);
	}
	if (s.unready_since && now - s.unready_since > START_SECONDS * 1000)
		give_up("the store cannot be started: the mount is taken away");
	else if (!s.store && !s.stopping && !s.code && start_store(&err) < 0)
		log_error("%s", err.text);
	else
		have_successor();
}

/* The device's serial number, which only root may read. */
static void add_serial(struct record *conf)
{
	const char *given = key_value(&daemon_keys, conf, "device-serial");
	char text[65] = "";
	ssize_t length = 0;
	int fd;

	if (strcmp(given, "auto") != 0) {
		record_set(conf, "serial-number", given);
		return;
	}
	fd = open("/sys/class/dmi/id/product_serial", O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		length = read(fd, text, sizeof text - 1);
		close(fd);
	}
	while (length > 0 && isspace((unsigned char)text[length - 1]))
		text[--length] = 0;
	if (length > 0)
		record_set(conf, "serial-number", text);
}

/* systemd has connected our standard error to its journal. */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat file;

	return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
	       fstat(2, &file) == 0 && file.st_dev == device && file.st_ino == inode;
}

/* The settings with their defaults, and what the store is told besides. */
static int complete_conf(const struct supervision *given, struct record **conf)
{
	bool root = geteuid() == 0;

	*conf = key_effective(&daemon_keys, given->conf);
	if (!*conf)
		return -ENOMEM;
	if (!record_get(*conf, "privilege-separation"))
		record_add(*conf, "privilege-separation", root ? "yes" : "no");
	if (!record_get(*conf, "allow-other"))
		record_add(*conf, "allow-other", root ? "yes" : "no");
	if (!record_get(*conf, "log"))
		record_add(*conf, "log",
		           stderr_is_journal() ? "journal"
		           : given->foreground ? "stderr"
		                               : "syslog");
	if (given->debug)
		record_set(*conf, "log-level", "debug");
	if (!root)
		record_set(*conf, "privilege-separation", "no");
	record_add(*conf, "frame", "conf");
	record_add_number(*conf, "owner-uid", geteuid());
	record_add_number(*conf, "owner-gid", getegid());
	add_serial(*conf);
	return record_failed(*conf) ? -ENOMEM : 0;
}

/* What conf_read has to say. */
static void log_warnings(struct record *conf)
{
	const struct field *warning;

	for (size_t i = 0; (warning = record_next(conf, CONF_WARNING, &i)) != NULL;)
		log_warning("%s", warning->value);
	record_remove(conf, CONF_WARNING);
}

static void refuse_conf(const struct error *err)
{
	log_error("the configuration stays as it was: %s", err->text);
	tell_store("conf-refused", err->text);
}

static void reload(uv_signal_t *signal, int number)
{
	struct record *read = NULL, *conf = NULL, *old = s.given->conf;
	struct error err = { 0 };
	int r;

	(void)signal;
	(void)number;
	notify_reloading("the configuration is read again");
	r = conf_read(s.given->conf_path, s.given->conf_is_default, &read, &err);
	for (int i = 0; r == 0 && i < s.given->option_count; i++)
		r = conf_set(read, s.given->options[i], &err);
	if (r == 0) {
		s.given->conf = read;
		r = complete_conf(s.given, &conf);
	}
	if (r < 0) {
		s.given->conf = old;
		record_free(read);
		record_free(conf);
		refuse_conf(&err);
		notify("READY=1\nSTATUS=the configuration stays as it was: %s", err.text);
		return;
	}
	record_free(old);
	record_free(s.conf);
	s.conf = conf;
	log_warnings(conf);
	channel_send(s.channel, conf, NULL, 0);
	log_info("the configuration is read again");
	notify("READY=1\nSTATUS=%s is served", setting("mount-point"));
}

static int check_users(struct error *err)
{
	const char *const names[] = { "user", "worker-user" };

	for (size_t i = 0; separated() && i < COUNT(names); i++)
		if (!getpwnam(setting(names[i])))
			return error_set(err, -ENOENT,
			                 "there is no user %s: make it with useradd --system "
			                 "--no-create-home %s, or set privilege-separation = no",
			                 setting(names[i]), setting(names[i]));
	return 0;
}

/* The user that the store runs as, or NULL: who started us. */
static const struct passwd *store_user(void)
{
	return separated() ? getpwnam(setting("user")) : NULL;
}

/* Gives what we made for the store to its user. */
static void hand_to_store(const char *path)
{
	const struct passwd *user = store_user();

	if (user && lchown(path, user->pw_uid, user->pw_gid) < 0)
		log_debug("%s: %s", path, strerror(errno));
}

static int make_folder(const char *path, struct error *err)
{
	const struct passwd *user = store_user();
	struct stat file;

	if (mkdir(path, 0700) == 0)
		hand_to_store(path);
	else if (errno != EEXIST)
		return error_set(err, -errno, "the folder %s of the store: %s", path,
		                 strerror(errno));
	if (user && stat(path, &file) == 0 && file.st_uid != user->pw_uid)
		return error_set(
			err, -EPERM,
			"the folder %s of the store does not belong to user %s: chown %s %s", path,
			user->pw_name, user->pw_name, path);
	return 0;
}

/*
 * The folder beside the store, which also says who owns the store: a lock on it is held as long
 * as we live. (Nobody but SQLite may open the store's own file.)
 */
static int open_folder(struct error *err)
{
	const char *store = setting("store");
	char path[4096], *slash;
	int r, folder, lock;

	snprintf(path, sizeof path, "%s", store);
	slash = strrchr(path, '/');
	if (slash && slash != path) {
		*slash = 0;
		r = make_folder(path, err);
		if (r < 0)
			return r;
	}
	snprintf(path, sizeof path, "%s.d", store);
	r = make_folder(path, err);
	if (r < 0)
		return r;
	folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (folder < 0)
		return error_set(err, -errno, "the folder %s: %s", path, strerror(errno));
	lock = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = lock < 0 ? -errno : 0;
	s.kept[KEPT_FOLDER] = folder;
	s.kept[KEPT_LOCK] = lock;
	if (r == 0 && flock(lock, LOCK_EX | LOCK_NB) < 0)
		return error_set(err, -EBUSY, "the store %s is in use by another pkifsd", store);
	return r;
}

/* The other programs: beside this one in a build tree, under libexec where installed. */
static int open_programs(struct error *err)
{
	char self[4096], path[4096 + 32], *slash;
	ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);

	if (length < 0)
		return error_set(err, -errno, "/proc/self/exe: %s", strerror(errno));
	self[length] = 0;
	slash = strrchr(self, '/');
	*slash = 0;
	snprintf(path, sizeof path, "%s/pkifs-enroll", self);
	s.worker_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (s.worker_fd < 0) {
		snprintf(path, sizeof path, "%s/pkifs-enroll", PKIFS_LIBEXECDIR);
		s.worker_fd = open(path, O_RDONLY | O_CLOEXEC);
	}
	s.self_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (s.worker_fd < 0 || s.self_fd < 0)
		return error_set(err, -errno, "%s: %s", path, strerror(errno));
	*slash = '/';
	s.program = strdup(self);
	if (!s.program)
		return error_set(err, -ENOMEM, "out of memory");
	log_info("pkifsd %s with %s", PKIFS_VERSION, path);
	return 0;
}

/* A mount, and what must outlive its stores. */
static int begin(struct error *err)
{
	int r = open_folder(err);
	int *fuse = &s.kept[KEPT_FUSE];

	if (r == 0)
		r = store_key_make(setting("store-key"), setting("store"), err);
	if (r == 0)
		r = shared_make(&s.kept[KEPT_SHARED]);
	if (r < 0 && !err->code)
		error_set(err, r, "no shared memory: %s", strerror(-r));
	if (r == 0)
		r = mount_make(setting("mount-point"), record_is(s.conf, "allow-other", "yes"),
		               &s.mount, fuse, err);
	if (r == 0 && fcntl(*fuse, F_SETFL, fcntl(*fuse, F_GETFL) | O_NONBLOCK) < 0)
		r = error_set(err, -errno, "/dev/fuse: %s", strerror(errno));
	return r;
}

/* The same, from the program whose place we took. */
static int go_on(struct error *err)
{
	memcpy(s.kept, s.given->kept, sizeof s.kept);
	return mount_adopt(setting("mount-point"), s.kept[KEPT_FUSE], &s.mount) < 0
	               ? error_set(err, -ENOMEM, "out of memory")
	               : 0;
}

static int prepare(struct error *err)
{
	int r = check_users(err);

	if (r == 0)
		r = open_programs(err);
	if (r == 0)
		r = s.given->goes_on ? go_on(err) : begin(err);
	if (r == 0)
		r = start_store(err);
	return r;
}

/* Whether we could take the place of a program with the layout in GIVEN: the exit code. */
static int rehearse(const char *theirs)
{
	struct error err = { 0 };
	char ours[64];
	int r = check_users(&err);

	handover_layout(ours, sizeof ours);
	if (r == 0)
		r = open_programs(&err);
	if (r == 0 && strcmp(ours, theirs) != 0)
		r = error_set(&err, -EINVAL,
		              "pkifsd %s keeps its memory in another way than the one that runs",
		              PKIFS_VERSION);
	if (r < 0)
		log_error("%s", err.text);
	return r < 0;
}

static void start_loop(void)
{
	uv_signal_init(s.loop, &s.child);
	uv_signal_start(&s.child, child_ended, SIGCHLD);
	uv_signal_init(s.loop, &s.term);
	uv_signal_start(&s.term, stop, SIGTERM);
	uv_signal_init(s.loop, &s.interrupt);
	uv_signal_start(&s.interrupt, stop, SIGINT);
	uv_signal_init(s.loop, &s.hangup);
	uv_signal_start(&s.hangup, reload, SIGHUP);
	uv_signal_init(s.loop, &s.renewal);
	uv_signal_start(&s.renewal, renew, SIGUSR2);
	uv_timer_init(s.loop, &s.tick);
	uv_timer_start(&s.tick, tick, 200, 200);
}

int supervise(struct supervision *given)
{
	struct error err = { 0 };
	sigset_t none;

	s = (struct supervisor){ .given = given, .loop = uv_default_loop() };
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	prctl(PR_SET_DUMPABLE, 0); /* it keeps the memory that texts are written to */
	umask(077);
	if (complete_conf(given, &s.conf) < 0)
		return 1;
	log_open("supervisor", setting("log"), log_level(setting("log-level")));
	notify_open();
	if (given->rehearse)
		return rehearse(given->rehearse);
	log_warnings(s.conf);
	start_loop();
	sigemptyset(&none); /* blocked where we take another program's place */
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (prepare(&err) < 0)
		give_up(err.text);
	else
		s.unready_since = uv_now(s.loop);
	if (!s.code)
		uv_run(s.loop, UV_RUN_DEFAULT);
	if (s.store)
		kill(s.store, SIGKILL);
	kill_children();
	mount_remove(s.mount);
	tell_starter("the daemon ended");
	record_free(s.conf);
	free(s.program);
	return s.code;
}
