#include "pkifs/supervisor.h"

#include "common/channel.h"
#include "common/confine.h"
#include "common/log.h"
#include "pkifs/conf.h"
#include "pkifs/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef START_SECONDS /* a slower one, for valgrind, has its own */
#define START_SECONDS 10
#define STOP_SECONDS  5
#endif
#define SAID_MAX     (8u << 20) /* bytes of a frame of the store's: one with all of a keyring */
#define QUICK_STARTS 3 /* of stores that died before they were ready, one after the other */

static struct supervisor {
	struct supervision *given;
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
	uv_timer_t tick;
} s;

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
	if (null >= 0 && !record_is(s.given->conf, "log", "stderr"))
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
	uv_stop(s.given->loop);
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
	r = channel_send(s.given->store, record, NULL, 0);
	record_free(record);
	return r;
}

/* None begins while another program is to take our place: that waits for the end of all. */
static void start_commands(void)
{
	if (!s.handing_over)
		commands_start(s.given);
}

/*
 * A store that waits: started, linked, and behind its walls, it reads its settings when its
 * predecessor has died, and readers wait for that much less.
 */
static int make_successor(struct error *err)
{
	int pid = s.successor ? 0 : family_store(s.given, &s.successor_fd, err);

	if (pid > 0)
		s.successor = pid;
	return pid < 0 ? pid : 0;
}

static void have_successor(void)
{
	struct error err = { 0 };

	if (s.ready && !s.stopping && make_successor(&err) < 0)
		log_debug("%s", err.text); /* it is made when it is needed */
}

static void store_said(struct channel *channel, struct record *record, int *fds, int code,
                       void *user)
{
	(void)channel;
	(void)fds;
	(void)user;
	if (!record) { /* its end is seen by SIGCHLD */
		if (code == -EBADMSG)
			kill(s.store, SIGKILL);
		return;
	}
	if (record_is(record, "frame", "on-change")) {
		command_add(record);
		start_commands();
		return;
	}
	if (record_is(record, "frame", "start")) {
		family_start(s.given, record);
	} else if (record_is(record, "frame", "stop")) {
		family_stop(record_number(record, "id", 0));
	} else if (record_is(record, "frame", "listen")) {
		listen_for(s.given, record);
	} else if (record_is(record, "frame", "want-pkcs11")) {
		pkcs11_listen(s.given);
	} else if (record_is(record, "frame", "want-namespace")) {
		netlink_open(s.given, record);
	} else if (record_is(record, "frame", "want-charon")) {
		charon_connect(s.given, record);
	} else if (record_is(record, "frame", "keyring")) {
		ring_keep(s.given, record);
	} else if (record_is(record, "frame", "keyrings")) {
		rings_keep(record);
	} else if (record_is(record, "frame", "listened")) {
		firewall_close(record_get(record, "type") ? record_get(record, "type") : "");
	} else if (record_is(record, "frame", "dns-hook")) {
		hook_start(s.given, record);
	} else if (record_is(record, "frame", "on-change-kept")) {
		command_kept();
	} else if (record_is(record, "frame", "serves")) {
		/* nobody hangs: what may have to be given up is this store, and from here on */
		if (s.unready_since)
			s.unready_since = uv_now(s.given->loop);
	} else if (record_is(record, "frame", "ready")) {
		s.ready = true;
		s.unready_since = 0;
		tell_starter(READY);
		notify("READY=1\nSTATUS=%s is served", setting(s.given, "mount-point"));
		have_successor();
	} else if (record_is(record, "frame", "alive")) {
		s.asked = false;
		notify("WATCHDOG=1");
	} else if (record_is(record, "frame", "fatal")) {
		give_up(record_get(record, "reason") ? record_get(record, "reason") : "");
	} else {
		kill(s.store, SIGKILL); /* it says what is none */
	}
	record_free(record);
}

static int start_store(struct error *err)
{
	int r = make_successor(err);

	if (r < 0)
		return r;
	s.store = s.successor;
	s.successor = 0;
	s.store_started = uv_now(s.given->loop);
	s.asked = false;
	channel_close(s.given->store);
	s.given->store = channel_open(s.given->loop, s.successor_fd, SAID_MAX, store_said, NULL);
	if (!s.given->store)
		return error_set(err, -ENOMEM, "out of memory");
	channel_send(s.given->store, s.given->conf, NULL, 0);
	return 0;
}

static void store_ended(int status)
{
	struct error err = { 0 };

	s.store = 0;
	family_kill();
	firewall_close_all();
	commands_store_ended();
	hooks_store_ended();
	if (s.stopping || (WIFEXITED(status) && WEXITSTATUS(status) == 0)) {
		uv_stop(s.given->loop);
		return;
	}
	if (s.code)
		return;
	if (!s.unready_since)
		s.unready_since = uv_now(s.given->loop);
	log_warning("the store ended (%s %d): started again",
	            WIFSIGNALED(status) ? "signal" : "exit code",
	            WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	notify("STATUS=the store ended and is started again");
	s.deaths = s.ready || uv_now(s.given->loop) - s.store_started >= 1000 ? 0 : s.deaths + 1;
	if (s.deaths > QUICK_STARTS)
		return; /* the tick starts it: not as fast as it dies */
	s.ready = false;
	if (start_store(&err) < 0)
		log_error("%s", err.text);
}

/*
 * The program on the disk takes our place. To the store this is a death like others: what it has
 * not answered stands in the shared memory. Not while a program of on-change runs, or the store
 * has not stored what came of it: whoever takes our place would run it again.
 */
static void hand_over(void)
{
	struct error err = { 0 };
	int status = 0;

	if (!s.handing_over || !s.ready || s.stopping || !commands_have_ended())
		return;
	s.handing_over = false;
	notify_reloading("the new program takes over");
	kill(s.store, SIGKILL);
	waitpid(s.store, &status, 0);
	family_kill();
	firewall_close_all();
	hooks_store_ended();
	handover_become(s.given, &err);
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
		          s.given->program);
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
	pid = handover_rehearse(s.given, &err);
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
		if (pid == s.store) {
			store_ended(status);
		} else if (pid == s.rehearsal) {
			rehearsed(status);
		} else if (pid == s.successor) {
			close(s.successor_fd);
			s.successor = 0;
		} else if (!family_ended(pid, status) && !hook_ended(s.given, pid, status)) {
			command_ended(s.given, pid, status);
		}
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
	s.stopping_since = uv_now(s.given->loop);
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
	uint64_t now = uv_now(s.given->loop);
	struct error err = { 0 };

	(void)timer;
	commands_end_late(s.given);
	hooks_end_late(s.given);
	if (!s.stopping)
		start_commands();
	hand_over();
	beat(now);
	if (s.stopping && now - s.stopping_since > STOP_SECONDS * 1000) {
		if (s.store)
			kill(s.store, SIGKILL);
		uv_stop(s.given->loop);
	}
	if (s.unready_since && now - s.unready_since > START_SECONDS * 1000)
		give_up("the store cannot be started: the mount is taken away");
	else if (!s.store && !s.stopping && !s.code && start_store(&err) < 0)
		log_error("%s", err.text);
	else
		have_successor();
}

/* What conf_read has to say. */
static void log_warnings(struct record *conf)
{
	const struct field *warning;

	for (size_t i = 0; (warning = record_next(conf, CONF_WARNING, &i)) != NULL;)
		log_warning("%s", warning->value);
	record_remove(conf, CONF_WARNING);
}

/* SIGHUP: the files are read again. */
static void reload(uv_signal_t *signal, int number)
{
	struct record *conf = NULL;
	struct error err = { 0 };

	(void)signal;
	(void)number;
	notify_reloading("the configuration is read again");
	if (settings_read(s.given, &conf, &err) < 0) {
		log_error("the configuration stays as it was: %s", err.text);
		tell_store("conf-refused", err.text);
		notify("READY=1\nSTATUS=the configuration stays as it was: %s", err.text);
		return;
	}
	record_free(s.given->conf);
	s.given->conf = conf;
	log_warnings(conf);
	channel_send(s.given->store, conf, NULL, 0);
	pkcs11_reload(s.given);
	log_info("the configuration is read again");
	notify("READY=1\nSTATUS=%s is served", setting(s.given, "mount-point"));
}

/* Whether we could take the place of the program that started us to see it: the exit code. */
static int rehearse(void)
{
	struct error err = { 0 };
	char ours[64];
	int r = prepare_programs(s.given, &err);

	handover_layout(ours, sizeof ours);
	if (r == 0 && strcmp(ours, s.given->rehearse) != 0)
		r = error_set(&err, -EINVAL,
		              "pkifsd %s keeps its memory in another way than the one that runs",
		              PKIFS_VERSION);
	if (r < 0)
		log_error("%s", err.text);
	return r < 0;
}

static void start_loop(void)
{
	static const struct {
		int number;
		uv_signal_cb seen;
	} rows[] = {
		{ SIGCHLD, child_ended }, { SIGTERM, stop },  { SIGINT, stop },
		{ SIGHUP, reload },       { SIGUSR2, renew },
	};
	static uv_signal_t signals[COUNT(rows)];

	for (size_t i = 0; i < COUNT(rows); i++) {
		uv_signal_init(s.given->loop, &signals[i]);
		uv_signal_start(&signals[i], rows[i].seen, rows[i].number);
	}
	uv_timer_init(s.given->loop, &s.tick);
	uv_timer_start(&s.tick, tick, 200, 200);
}

int supervise(struct supervision *given)
{
	struct error err = { 0 };
	sigset_t none;

	s = (struct supervisor){ .given = given };
	given->loop = uv_default_loop();
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	prctl(PR_SET_DUMPABLE, 0); /* it keeps the memory that texts are written to */
	umask(077);
	log_open("supervisor", setting(given, "log"), log_level(setting(given, "log-level")));
	notify_open();
	if (given->rehearse)
		return rehearse();
	log_warnings(given->conf);
	if (confine_lacks())
		log_warning("this kernel has no %s: the processes' walls are lower",
		            confine_lacks());
	start_loop();
	sigemptyset(&none); /* blocked where we take another program's place */
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (prepare(given, &err) < 0 || start_store(&err) < 0)
		give_up(err.text);
	else
		s.unready_since = uv_now(given->loop);
	firewall_begin(given);
	if (!s.code)
		uv_run(given->loop, UV_RUN_DEFAULT);
	if (s.store)
		kill(s.store, SIGKILL);
	family_kill();
	firewall_close_all();
	pkcs11_close();
	mount_remove(given->mount);
	tell_starter("the daemon ended");
	return s.code;
}
