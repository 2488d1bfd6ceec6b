/*
 * killer STORE VICTIM CALLER OPCODE
 *
 * Waits until the process STORE has taken a FUSE request OPCODE of the process CALLER from the
 * kernel, and ends VICTIM while STORE stands still at that point: the request is taken and
 * unanswered, and nothing has been done about it. STORE may be the VICTIM. Says "ready" once no
 * request goes by unseen any more.
 */
#include <errno.h>
#include <limits.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define AT_CALL (SIGTRAP | 0x80) /* PTRACE_O_TRACESYSGOOD */

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "killer: %s: %s\n", what, strerror(errno));
	exit(1);
}

static bool is_fuse(pid_t pid, long long fd)
{
	char path[64], target[PATH_MAX];
	ssize_t length;

	snprintf(path, sizeof path, "/proc/%d/fd/%lld", pid, fd);
	length = readlink(path, target, sizeof target);
	return length == (ssize_t)strlen("/dev/fuse") && memcmp(target, "/dev/fuse", 9) == 0;
}

/* The 32 bits at ADDRESS in the memory of PID. */
static uint32_t peek(pid_t pid, unsigned long long address)
{
	return (uint32_t)ptrace(PTRACE_PEEKDATA, pid, address, NULL);
}

/* Whether the call that STORE stands at has just taken the request that we wait for. */
static bool took(pid_t store, pid_t caller, uint32_t opcode)
{
	struct user_regs_struct regs;

	if (ptrace(PTRACE_GETREGS, store, NULL, &regs) < 0)
		fail("registers");
	/* as the call begins its result is -ENOSYS */
	if (regs.orig_rax != SYS_read ||
	    (long long)regs.rax < (long long)sizeof(struct fuse_in_header) ||
	    !is_fuse(store, (long long)regs.rdi))
		return false;
	return peek(store, regs.rsi + offsetof(struct fuse_in_header, opcode)) == opcode &&
	       peek(store, regs.rsi + offsetof(struct fuse_in_header, pid)) == (uint32_t)caller;
}

/* Lets STORE run to the begin or end of its next call. */
static void step(pid_t store)
{
	int status, passed = 0;

	do {
		if (ptrace(PTRACE_SYSCALL, store, NULL, passed) < 0)
			fail("the store cannot go on");
		if (waitpid(store, &status, 0) < 0 || !WIFSTOPPED(status))
			fail("the store ended before the request came");
		passed = status >> 16 ? 0 : WSTOPSIG(status); /* a signal, which it gets */
	} while (WSTOPSIG(status) != AT_CALL);
}

/*
 * The publisher may wait for an answer of the store's, and cannot die before it has it: the store
 * does not stand still for ever.
 */
#define STANDSTILL 200 /* ms */

static void end(pid_t victim)
{
	struct pollfd gone = { .fd = (int)syscall(SYS_pidfd_open, victim, 0), .events = POLLIN };

	if (gone.fd < 0 && errno == ESRCH) /* a worker that nobody needed ended by itself */
		return;
	if (gone.fd < 0 || kill(victim, SIGKILL) < 0 || poll(&gone, 1, STANDSTILL) < 0)
		fail("the victim");
}

static pid_t number(const char *text)
{
	return (pid_t)strtol(text, NULL, 10);
}

int main(int argc, char **argv)
{
	pid_t store, victim, caller;
	int status;

	if (argc != 5)
		return 2;
	store = number(argv[1]);
	victim = number(argv[2]);
	caller = number(argv[3]);
	if (ptrace(PTRACE_SEIZE, store, NULL, PTRACE_O_TRACESYSGOOD) < 0 ||
	    ptrace(PTRACE_INTERRUPT, store, NULL, NULL) < 0 || waitpid(store, &status, 0) < 0)
		fail("the store cannot be traced");
	puts("ready");
	fflush(stdout);
	do
		step(store);
	while (!took(store, caller, (uint32_t)number(argv[4])));
	if (victim == store) {
		kill(store, SIGKILL);
		waitpid(store, &status, 0);
	} else {
		end(victim);
		ptrace(PTRACE_DETACH, store, NULL, NULL);
	}
	return 0;
}
