/*
 * The worker with its walls, taken over: a job whose subject is CN=DEED or CN=DEED ARGUMENT does
 * that, and is answered with what came of it. Linked so that main.c's frame_receive is this one.
 */
#include "common/frame.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <netdb.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int __real_frame_receive(int fd, struct record **record, int *fds);
int __wrap_frame_receive(int fd, struct record **record, int *fds);

/* Deeds give -1 and errno where they fail. */

static int read_file(const char *path)
{
	return open(path, O_RDONLY);
}

static int list_folder(const char *path)
{
	return open(path, O_RDONLY | O_DIRECTORY);
}

static int write_file(const char *path)
{
	return open(path, O_WRONLY);
}

static int make_file(const char *path)
{
	return open(path, O_RDWR | O_CREAT, 0600);
}

static int remove_file(const char *path)
{
	return unlink(path);
}

static int local_socket(const char *path)
{
	(void)path;
	return socket(AF_UNIX, SOCK_STREAM, 0);
}

static int local_datagrams(const char *path)
{
	int fds[2];

	(void)path;
	return socketpair(AF_UNIX, SOCK_DGRAM, 0, fds);
}

static int packets(const char *path)
{
	(void)path;
	return socket(AF_PACKET, SOCK_RAW, 0);
}

static int raw(const char *path)
{
	(void)path;
	return socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
}

static int audit(const char *path)
{
	(void)path;
	return socket(AF_NETLINK, SOCK_RAW, 9);
}

static int serve(const char *path)
{
	(void)path;
	return listen(socket(AF_INET, SOCK_STREAM, 0), 1);
}

static int client(const char *path)
{
	(void)path;
	return socket(AF_INET, SOCK_STREAM, 0);
}

static int new_code(const char *path)
{
	void *at = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)path;
	return at == MAP_FAILED ? -1 : 0;
}

static int turned_code(const char *path)
{
	void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)path;
	return mprotect(at, 4096, PROT_READ | PROT_EXEC);
}

static int signal_parent(const char *path)
{
	(void)path;
	return kill(getppid(), 0);
}

static int take_sigsys(const char *path)
{
	(void)path;
	return signal(SIGSYS, SIG_IGN) == SIG_ERR ? -1 : 0;
}

static int execute(const char *path)
{
	return execl(path, path, NULL);
}

static int copy_itself(const char *path)
{
	(void)path;
	return fork();
}

static int trace(const char *path)
{
	(void)path;
	return (int)ptrace(PTRACE_SEIZE, getppid(), 0, 0);
}

static int ask_keyring(const char *path)
{
	(void)path;
	return (int)syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, -3, 0);
}

static int leave(const char *path)
{
	(void)path;
	return unshare(CLONE_NEWUSER);
}

static const struct {
	const char *name;
	int (*act)(const char *argument);
} deeds[] = {
	{ "read", read_file },
	{ "list", list_folder },
	{ "write", write_file },
	{ "make", make_file },
	{ "remove", remove_file },
	{ "local-socket", local_socket },
	{ "local-datagrams", local_datagrams },
	{ "packets", packets },
	{ "raw", raw },
	{ "audit", audit },
	{ "serve", serve },
	{ "client", client },
	{ "new-code", new_code },
	{ "turned-code", turned_code },
	{ "signal-parent", signal_parent },
	{ "take-sigsys", take_sigsys },
	{ "execute", execute },
	{ "copy-itself", copy_itself },
	{ "trace", trace },
	{ "ask-keyring", ask_keyring },
	{ "leave", leave },
};

static void resolve(const char *name, char *said, size_t size)
{
	struct addrinfo hints = { .ai_family = strchr(name, ':') ? AF_INET6 : AF_INET };
	struct addrinfo *found = NULL;
	int code = getaddrinfo(name, NULL, &hints, &found);

	if (code)
		snprintf(said, size, "%s", gai_strerror(code));
	else if (found->ai_family == AF_INET)
		inet_ntop(AF_INET, &((struct sockaddr_in *)found->ai_addr)->sin_addr, said,
		          (socklen_t)size);
	else
		snprintf(said, size, "by interface %u",
		         ((struct sockaddr_in6 *)found->ai_addr)->sin6_scope_id);
	if (found)
		freeaddrinfo(found);
}

/* What came of the deed that TEXT names. */
static void do_deed(char *text, char *said, size_t size)
{
	char *argument = strchr(text, ' ');

	if (argument)
		*argument++ = '\0';
	snprintf(said, size, "no deed");
	if (argument && strcmp(text, "resolve") == 0)
		resolve(argument, said, size);
	for (size_t i = 0; i < sizeof deeds / sizeof *deeds; i++)
		if (strcmp(deeds[i].name, text) == 0)
			snprintf(said, size, "%s",
			         deeds[i].act(argument) < 0 ? strerror(errno) : "it can");
}

int __wrap_frame_receive(int fd, struct record **record, int *fds)
{
	char text[512], said[512];
	int r;

	while ((r = __real_frame_receive(fd, record, fds)) == 0) {
		const char *subject = record_get(*record, "subject");
		struct record *answer = record_new();

		if (!answer)
			_exit(1);
		snprintf(text, sizeof text, "%s", subject ? subject + strlen("CN=") : "");
		do_deed(text, said, sizeof said);
		record_add(answer, "frame", "result");
		record_add_number(answer, "job", record_number(*record, "job", 0));
		record_add(answer, "outcome", "refused");
		record_add(answer, "reason", said);
		frame_send(fd, answer, NULL, 0);
		record_free(answer);
		record_free(*record);
		*record = NULL;
	}
	return r;
}
