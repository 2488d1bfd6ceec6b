/* Which system calls are left to whom. */
#include "common/confine.h"

#include "common/log.h"
#include "common/sanitized.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Elsewhere the kernel's calls have other names and arguments, which nobody tried. */
#if defined(__x86_64__) || defined(__aarch64__)
#define KNOWN_MACHINE 1
#else
#define KNOWN_MACHINE 0
#endif

/* --- calls --- */

/* A call with such arguments is let through, or fails with ERROR. */
struct rule {
	int call, error;
	struct scmp_arg_cmp arguments[2];
	unsigned count;
};

#define EQUALS(index, value)                                                                       \
	{                                                                                          \
		index, SCMP_CMP_EQ, value, 0                                                       \
	}
#define DIFFERS(index, value)                                                                      \
	{                                                                                          \
		index, SCMP_CMP_NE, value, 0                                                       \
	}
#define BITS(index, mask, value)                                                                   \
	{                                                                                          \
		index, SCMP_CMP_MASKED_EQ, mask, value                                             \
	}
#define CALL(name)                                                                                 \
	{                                                                                          \
		.call = SCMP_SYS(name)                                                             \
	}
#define FAILS(name, code)                                                                          \
	{                                                                                          \
		.call = SCMP_SYS(name), .error = code                                              \
	}
#define CALL_IF(name, ...)                                                                         \
	{                                                                                          \
		SCMP_SYS(name), 0, { __VA_ARGS__ }, 1                                              \
	}
#define CALL_IF_BOTH(name, ...)                                                                    \
	{                                                                                          \
		SCMP_SYS(name), 0, { __VA_ARGS__ }, 2                                              \
	}
#define FAILS_IF(name, code, ...)                                                                  \
	{                                                                                          \
		SCMP_SYS(name), code, { __VA_ARGS__ }, 1                                           \
	}

/* Computing, waiting, and what goes through descriptors that are open: for all. */
static const struct rule basic[] = {
	CALL(read),
	CALL(readv),
	CALL(write),
	CALL(writev),
	CALL(close),
	CALL(lseek),
	CALL(fstat),
	CALL(newfstatat),
	CALL(recvmsg),
	CALL(sendmsg),
	CALL(recvfrom),
	CALL(sendto),
	CALL(shutdown),
	CALL(poll),
	CALL(ppoll),
	CALL(select),
	CALL(pselect6),
	CALL(epoll_create1),
	CALL(epoll_ctl),
	CALL(epoll_wait),
	CALL(epoll_pwait),
	CALL(eventfd2),
	CALL(pipe2),
	CALL_IF(fcntl, EQUALS(1, F_GETFD)),
	CALL_IF(fcntl, EQUALS(1, F_SETFD)),
	CALL_IF(fcntl, EQUALS(1, F_GETFL)),
	CALL_IF(fcntl, EQUALS(1, F_SETFL)),
	CALL_IF(fcntl, EQUALS(1, F_DUPFD_CLOEXEC)),
	CALL_IF(ioctl, EQUALS(1, FIONBIO)),
	CALL_IF(ioctl, EQUALS(1, FIONREAD)),
	CALL(brk),
	CALL(munmap),
	CALL(mremap),
	CALL(madvise),
	/* no memory ever becomes a program */
	CALL_IF(mmap, BITS(2, PROT_EXEC, 0)),
	CALL_IF(mprotect, BITS(2, PROT_EXEC, 0)),
	FAILS_IF(mmap, EACCES, BITS(2, PROT_EXEC, PROT_EXEC)),
	FAILS_IF(mprotect, EACCES, BITS(2, PROT_EXEC, PROT_EXEC)),
	CALL(futex),
	CALL(sched_yield),
	CALL(sched_getaffinity),
	CALL(getrandom),
	CALL(getpid),
	CALL(gettid),
	CALL(getuid),
	CALL(geteuid),
	CALL(getgid),
	CALL(getegid),
	CALL(sysinfo),
	CALL(uname),
	CALL_IF(prlimit64, EQUALS(2, 0)),
	CALL(clock_gettime),
	CALL(clock_nanosleep),
	CALL(nanosleep),
	CALL(gettimeofday),
	CALL(time),
	CALL(rt_sigprocmask),
	CALL(rt_sigreturn),
	CALL(sigaltstack),
	CALL_IF(rt_sigaction, DIFFERS(0, SIGSYS)),
	CALL(restart_syscall),
	CALL(exit),
	CALL(exit_group),
};

static const struct rule worker[] = {
	/* TCP and UDP of the internet; the addresses of this machine (getaddrinfo) */
	CALL_IF_BOTH(socket, EQUALS(0, AF_INET), EQUALS(2, 0)),
	CALL_IF_BOTH(socket, EQUALS(0, AF_INET), EQUALS(2, IPPROTO_TCP)),
	CALL_IF_BOTH(socket, EQUALS(0, AF_INET), EQUALS(2, IPPROTO_UDP)),
	CALL_IF_BOTH(socket, EQUALS(0, AF_INET6), EQUALS(2, 0)),
	CALL_IF_BOTH(socket, EQUALS(0, AF_INET6), EQUALS(2, IPPROTO_TCP)),
	CALL_IF_BOTH(socket, EQUALS(0, AF_INET6), EQUALS(2, IPPROTO_UDP)),
	CALL_IF_BOTH(socket, EQUALS(0, AF_NETLINK), EQUALS(2, 0)),
	/* a name service of this machine is asked in vain, and the others as if it were not there
	 */
	FAILS_IF(socket, EAFNOSUPPORT, EQUALS(0, AF_UNIX)),
	/* one of datagrams could be sent to anybody's socket */
	CALL_IF_BOTH(socketpair, EQUALS(0, AF_UNIX), BITS(1, 0xf, SOCK_STREAM)),
	CALL(connect),
	CALL(bind),
	CALL(accept4),
	CALL(getsockname),
	CALL(getpeername),
	CALL(getsockopt),
	CALL_IF(setsockopt, EQUALS(1, SOL_SOCKET)),
	CALL_IF(setsockopt, EQUALS(1, IPPROTO_TCP)),
	CALL_IF(setsockopt, EQUALS(1, IPPROTO_IP)),
	CALL_IF(setsockopt, EQUALS(1, IPPROTO_IPV6)),
	CALL(sendmmsg),
	/* a resolver's files; which those are is Landlock's to say */
	CALL_IF(openat, BITS(2, O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND, O_RDONLY)),
	FAILS_IF(openat, EACCES, BITS(2, O_WRONLY, O_WRONLY)),
	FAILS_IF(openat, EACCES, BITS(2, O_RDWR, O_RDWR)),
	CALL(statx),
	CALL_IF(ioctl, EQUALS(1, SIOCGIFINDEX)), /* fe80::1%eth0 */
	/* a CRL on its way */
	CALL(memfd_create),
	CALL(ftruncate),
	CALL(fsync),
	CALL(pread64),
	CALL(pwrite64),
	/* libcurl's thread for names, ours for a CRL */
	CALL_IF(clone, BITS(0, CLONE_THREAD, CLONE_THREAD)),
	CALL_IF_BOTH(setpriority, EQUALS(0, PRIO_PROCESS), EQUALS(1, 0)),
	CALL(set_robust_list),
	CALL(rseq),
};

static const struct rule keys[] = {
	/* callers at the socket that it is handed, and who they are */
	CALL(accept4),
	CALL_IF_BOTH(getsockopt, EQUALS(1, SOL_SOCKET), EQUALS(2, SO_PEERCRED)),
	FAILS(openat, EACCES),
};

static const struct rule publisher[] = {
	CALL_IF(openat, BITS(2, O_PATH, O_PATH)),
	CALL(renameat),
	CALL(renameat2),
};

/* Its sockets come from the supervisor. */
static const struct rule ipsec[] = {
	CALL(bind),
	CALL(getsockname),
	CALL_IF(setsockopt, EQUALS(1, SOL_SOCKET)),
	CALL_IF(setsockopt, EQUALS(1, SOL_NETLINK)),
	FAILS(openat, EACCES),
};

/* A store uses more of libraries than a list could promise to know. */
static const struct rule store[] = {
	FAILS_IF(socket, EAFNOSUPPORT, DIFFERS(0, AF_UNIX)),
	FAILS(clone3, ENOSYS), /* its flags cannot be seen: glibc takes clone instead */
};

/* What nobody calls by mistake: it ends the process, and the log names it. */
static const struct fatal {
	int call;
	const char *name;
} fatal[] = {
#define FATAL(name)                                                                                \
	{                                                                                          \
		SCMP_SYS(name), #name                                                              \
	}
	FATAL(execve),
	FATAL(execveat),
	FATAL(fork),
	FATAL(vfork),
	FATAL(clone), /* of another process */
	FATAL(ptrace),
	FATAL(process_vm_readv),
	FATAL(process_vm_writev),
	FATAL(pidfd_getfd),
	FATAL(bpf),
	FATAL(perf_event_open),
	FATAL(userfaultfd),
	FATAL(add_key),
	FATAL(request_key),
	FATAL(keyctl),
	FATAL(unshare),
	FATAL(setns),
	FATAL(chroot),
	FATAL(pivot_root),
	FATAL(mount),
	FATAL(umount2),
	FATAL(move_mount),
	FATAL(open_tree),
	FATAL(fsopen),
	FATAL(open_by_handle_at),
	FATAL(init_module),
	FATAL(finit_module),
	FATAL(delete_module),
	FATAL(kexec_load),
	FATAL(kexec_file_load),
#undef FATAL
};

static const struct cell {
	const struct rule *rules;
	size_t count;
	bool all;      /* but what the rules say */
	bool no_files; /* but the paths, with these rights of Landlock's */
	unsigned long long rights;
} cells[] = {
	[CONFINED_WORKER] = { worker, COUNT(worker), false, true, LANDLOCK_ACCESS_FS_READ_FILE },
	[CONFINED_KEYS] = { keys, COUNT(keys), false, true, 0 },
	[CONFINED_PUBLISHER] = { publisher, COUNT(publisher), false, true,
	                         LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_FILE },
	[CONFINED_IPSEC] = { ipsec, COUNT(ipsec), false, true, 0 },
	[CONFINED_STORE] = { store, COUNT(store), true, false, 0 },
};

/* --- the end of one that calls what is fatal --- */

/* By write(2) alone: the process may have been anywhere. */
static void say(const char *text)
{
	if (write(STDERR_FILENO, text, strlen(text)) < 0)
		return; /* nobody reads it */
}

/* The second signal, which nothing catches any more, ends the process. */
static void die(int signal_number, siginfo_t *info, void *context)
{
	const char *name = "what it must not";

	(void)context;
	for (size_t i = 0; i < COUNT(fatal); i++)
		if (fatal[i].call == info->si_syscall)
			name = fatal[i].name;
	say("pkifsd: a process is ended: it called ");
	say(name);
	say("\n");
	raise(signal_number);
	_exit(1);
}

static int catch_fatal(void)
{
	struct sigaction action = { .sa_sigaction = die,
		                    .sa_flags = (int)(SA_SIGINFO | SA_RESETHAND | SA_NODEFER) };

	return sigaction(SIGSYS, &action, NULL) < 0 ? -errno : 0;
}

/* --- the filter --- */

static int add_rules(scmp_filter_ctx filter, const struct rule *rules, size_t count)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < count; i++)
		r = seccomp_rule_add_array(filter,
		                           rules[i].error ? SCMP_ACT_ERRNO((uint32_t)rules[i].error)
		                                          : SCMP_ACT_ALLOW,
		                           rules[i].call, rules[i].count, rules[i].arguments);
	return r;
}

static int add_fatal(scmp_filter_ctx filter)
{
	const struct scmp_arg_cmp other_process = BITS(0, CLONE_THREAD, 0);
	int r = 0;

	for (size_t i = 0; r == 0 && i < COUNT(fatal); i++)
		r = seccomp_rule_add_array(filter, SCMP_ACT_TRAP, fatal[i].call,
		                           fatal[i].call == SCMP_SYS(clone), &other_process);
	return r;
}

/* Signals of its own, as abort(3) needs one. */
static int add_own_signals(scmp_filter_ctx filter)
{
	const struct scmp_arg_cmp self = EQUALS(0, (scmp_datum_t)getpid());

	return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, &self);
}

/* A call that is not known fails as on an older kernel: libraries then take another. */
static int filter_close(const struct cell *cell, struct error *err)
{
	scmp_filter_ctx filter = seccomp_init(cell->all ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(ENOSYS));
	int r = filter ? 0 : -ENOMEM;

	if (r == 0)
		r = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (r == 0)
		r = add_rules(filter, cell->rules, cell->count);
	if (r == 0)
		r = add_fatal(filter);
	if (r == 0 && !cell->all)
		r = add_rules(filter, basic, COUNT(basic));
	if (r == 0 && !cell->all)
		r = add_own_signals(filter);
	if (r == 0)
		r = catch_fatal();
	if (r == 0)
		r = seccomp_load(filter);
	seccomp_release(filter);
	return r < 0 ? error_set(err, r, "seccomp cannot be used: %s", strerror(-r)) : 0;
}

static bool has_seccomp(void)
{
	const uint32_t action = SECCOMP_RET_TRAP;

	return KNOWN_MACHINE && syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

/* --- all of it --- */

const char *confine_lacks(void)
{
	if (SANITIZED)
		return NULL;
	if (!has_seccomp())
		return landlock_version() ? "seccomp" : "seccomp and Landlock";
	return landlock_version() ? NULL : "Landlock";
}

int confine(enum confined who, const char *const *paths, struct error *err)
{
	const struct cell *cell = &cells[who];
	int r = 0;

	if (SANITIZED) /* what they start as they report asks for more than we know */
		return 0;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_set(err, -errno, "no_new_privs: %s", strerror(errno));
	if (cell->no_files)
		r = landlock_close(paths, cell->rights, err);
	return r == 0 && has_seccomp() ? filter_close(cell, err) : r;
}
