/*
 * `http-01-firewall`: what is opened with the port of a challenge, and closed with it, whoever
 * dies. The supervisor waits for the program, which has some seconds: the CA is asked to come only
 * when the way is free.
 */
#include "common/log.h"
#include "pkifs/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NFT     "/usr/sbin/nft"
#define SECONDS 5
#define SAID    160

/* What is open: of http-01 and of tls-alpn-01 at most. */
static struct gate {
	char *how;     /* the setting that opened it; NULL: it is closed */
	char port[16]; /* a service's name is none that we take */
} gates[2];

/* --- programs --- */

__attribute__((noreturn)) static void become(char *const *arguments, int said)
{
	static char path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin", language[] = "LC_ALL=C.UTF-8";
	static char *environment[] = { path, language, NULL };
	int null = open("/dev/null", O_RDWR);

	program_signals();
	dup2(null, 0);
	dup2(null, 1);
	dup2(said, 2);
	syscall(SYS_close_range, 3u, ~0u, 0u);
	if (chdir("/") == 0)
		execve(arguments[0], arguments, environment);
	dprintf(2, "%s\n", strerror(errno));
	_exit(127);
}

/* The first line of what comes from FD within SECONDS. False: it does not end by then. */
static bool read_line(int fd, char *text, size_t size)
{
	struct pollfd polled = { .fd = fd, .events = POLLIN };
	char rest[256];
	size_t used = 0;
	bool ended = false;

	for (int left = SECONDS * 10; left && !ended;) {
		int r = poll(&polled, 1, 100);
		ssize_t got = r > 0 ? read(fd, rest, sizeof rest) : -1;

		ended = r > 0 && got <= 0;
		left -= r == 0;
		for (ssize_t i = 0; i < got && used < size - 1; i++)
			text[used++] = rest[i];
	}
	text[used] = '\0';
	text[strcspn(text, "\n")] = '\0';
	text_printable(text);
	return ended;
}

static int run(char *const *arguments, struct error *err)
{
	char said[SAID] = "";
	int pipes[2], status = 0;
	bool ended;
	pid_t pid;

	if (pipe2(pipes, O_CLOEXEC) < 0)
		return error_set(err, -errno, "%s", strerror(errno));
	pid = fork();
	if (pid == 0)
		become(arguments, pipes[1]);
	close(pipes[1]);
	ended = pid > 0 && read_line(pipes[0], said, sizeof said);
	close(pipes[0]);
	if (pid < 0)
		return error_set(err, -EAGAIN, "no process can be started");
	if (!ended)
		kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return error_set(err, -EIO, "%s: %s", arguments[0],
	                 !ended  ? "it does not end"
	                 : *said ? said
	                         : "it failed");
}

/* Opens or closes PORT as HOW, the setting, has it. */
static int turn(const char *how, bool open, const char *port, struct error *err)
{
	char *copy = strdup(how), element[32], *words = NULL;
	char *arguments[8] = { NULL };
	int r;

	if (!copy)
		return error_set(err, -ENOMEM, "no memory");
	snprintf(element, sizeof element, "{ %s }", port);
	if (strncmp(copy, "nft:", 4) == 0) {
		static char nft[] = NFT, add[] = "add", delete[] = "delete", kind[] = "element";
		char *family = strtok_r(copy + 4, " ", &words);
		char *table = strtok_r(NULL, " ", &words), *set = strtok_r(NULL, " ", &words);
		char *const all[] = { nft, open ? add : delete, kind, family, table, set, element };

		memcpy(arguments, all, sizeof all);
	} else {
		static char opens[] = "open", closes[] = "close";

		arguments[0] = copy;
		arguments[1] = open ? opens : closes;
		arguments[2] = strchr(element, ' ') + 1;
		arguments[2][strcspn(arguments[2], " ")] = '\0';
	}
	r = run(arguments, err);
	free(copy);
	return r;
}

/* --- gates --- */

static struct gate *gate_of(const char *type)
{
	return &gates[strcmp(type, "tls-alpn-01") == 0];
}

static const char *wanted(const struct supervision *given)
{
	const char *how = setting(given, "http-01-firewall");

	return strcmp(how, "none") == 0 ? NULL : how;
}

int firewall_open(const struct supervision *given, const char *type, const char *port,
                  struct error *err)
{
	const char *how = wanted(given);
	struct gate *gate = gate_of(type);
	struct error why = { 0 };

	firewall_close(type);
	if (!how)
		return 0;
	gate->how = strdup(how); /* also where it fails: half of it may be done */
	snprintf(gate->port, sizeof gate->port, "%s", port);
	if (turn(how, true, port, &why) == 0)
		return 0;
	log_error("http-01-firewall: %s", why.text);
	return error_set(err, why.code, "http-01-firewall did not open port %s: %s", port,
	                 why.text);
}

void firewall_close(const char *type)
{
	struct gate *gate = gate_of(type);
	struct error why = { 0 };

	if (!gate->how)
		return;
	if (turn(gate->how, false, gate->port, &why) < 0)
		log_error("http-01-firewall: port %s is not closed: %s", gate->port, why.text);
	free(gate->how);
	gate->how = NULL;
}

void firewall_close_all(void)
{
	firewall_close("http-01");
	firewall_close("tls-alpn-01");
}

void firewall_begin(const struct supervision *given)
{
	static const char *const keys[] = { "http-01-listen", "tls-alpn-01-listen" };
	const char *how = wanted(given);

	for (size_t i = 0; how && i < COUNT(keys); i++) {
		const char *address = setting(given, keys[i]), *colon = strrchr(address, ':');
		struct error why = { 0 };

		if (turn(how, false, colon ? colon + 1 : address, &why) < 0)
			log_debug("http-01-firewall: %s", why.text); /* it was closed */
	}
}
