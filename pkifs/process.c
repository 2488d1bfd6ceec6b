/* Starting processes within their walls. */
#include "pkifs/supervisor.h"

#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static int drop_rights(const struct walls *walls, const struct passwd *user)
{
	if (geteuid() != 0)
		return 0;
	if (walls->no_network && unshare(CLONE_NEWNET) < 0)
		return -errno;
	capng_clear(CAPNG_SELECT_BOTH);
	if (walls->keep_root_files)
		capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED | CAPNG_BOUNDING_SET,
		             CAP_DAC_OVERRIDE);
	if (walls->net_admin)
		capng_update(CAPNG_ADD,
		             CAPNG_EFFECTIVE | CAPNG_PERMITTED | CAPNG_INHERITABLE |
		                     (user ? 0 : CAPNG_BOUNDING_SET),
		             CAP_NET_ADMIN);
	if (user && capng_change_id((int)user->pw_uid, (int)user->pw_gid,
	                            CAPNG_DROP_SUPP_GRP | CAPNG_CLEAR_BOUNDING) < 0)
		return -EPERM;
	if (user) /* that of another user survives execve(2) in the ambient set alone */
		return walls->net_admin && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE,
		                                 CAP_NET_ADMIN, 0, 0) < 0
		               ? -errno
		               : 0;
	if (walls->keep_root_files || walls->no_network || walls->net_admin)
		return capng_apply(CAPNG_SELECT_BOTH) < 0 ? -EPERM : 0;
	return 0;
}

/* Puts the descriptors at 3, 4, … and closes all others but the standard ones. */
static int place_descriptors(const struct walls *walls)
{
	int high[COUNT(walls->fds)], count = 0;

	while (count < (int)COUNT(walls->fds) && walls->fds[count] >= 0) {
		high[count] = fcntl(walls->fds[count], F_DUPFD, 32);
		if (high[count] < 0)
			return -errno;
		count++;
	}
	for (int i = 0; i < count; i++)
		if (dup2(high[i], 3 + i) < 0)
			return -errno;
	if (syscall(SYS_close_range, (unsigned)(3 + count), 31u, 4u /* CLOEXEC */) < 0)
		return -errno;
	if (syscall(SYS_close_range, 32u, ~0u, 4u) < 0)
		return -errno;
	return 0;
}

__attribute__((noreturn)) static void become(const struct walls *walls, const struct passwd *user,
                                             pid_t parent)
{
	static char language[] = "LC_ALL=C.UTF-8";
	static char *environment[] = { language, NULL };
	sigset_t none;
	int program, null, r;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGUSR2, SIG_IGN); /* the supervisor's: whoever sends it to all of us means that */
	program = fcntl(walls->program, F_DUPFD_CLOEXEC, 64);
	setsid();
	null = walls->quiet ? open("/dev/null", O_RDWR | O_CLOEXEC) : -1;
	if (null >= 0)
		dup2(null, 2);
	r = program < 0 ? -errno : place_descriptors(walls);
	if (r == 0)
		r = drop_rights(walls, user);
	if (r == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		r = -errno;
	if (r == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		r = -errno;
	if (r == 0 && getppid() != parent)
		_exit(1);
	if (r == 0) {
		fexecve(program, (char *const *)(const void *)walls->arguments, environment);
		r = -errno;
	}
	fprintf(stderr, "pkifsd: a process cannot be started: %s\n", strerror(-r));
	_exit(127);
}

int process_start(const struct walls *walls, struct error *err)
{
	struct passwd *user = walls->user ? getpwnam(walls->user) : NULL;
	pid_t parent = getpid(), pid;

	if (walls->user && !user)
		return error_set(err, -ENOENT, "there is no user %s", walls->user);
	pid = fork();
	if (pid == 0)
		become(walls, user, parent);
	if (pid < 0)
		return error_set(err, -errno, "no process can be started: %s", strerror(errno));
	return pid;
}
