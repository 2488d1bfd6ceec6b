/* Landlock: which files a process can still reach. */
#include "common/confine.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What came behind the headers of Linux 6.1, by the version that brought it. */
#define FS_TRUNCATE     (1ull << 14) /* 3 */
#define NET_BIND_TCP    (1ull << 0)  /* 4 */
#define FS_IOCTL_DEVICE (1ull << 15) /* 5 */
#define SCOPE_ALL       3ull         /* 6: abstract sockets and signals of others */

/* The kernel takes a shorter one from older programs, so it gets what its version knows. */
struct ruleset {
	uint64_t files, network, scope;
};

int landlock_version(void)
{
	long version =
		syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	return version > 0 ? (int)version : 0;
}

/* A descriptor of all that VERSION can forbid. */
static int ruleset_new(int version)
{
	struct ruleset all = { .files = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1 };
	size_t size = sizeof all.files;

	if (version >= 2)
		all.files |= LANDLOCK_ACCESS_FS_REFER;
	if (version >= 3)
		all.files |= FS_TRUNCATE;
	if (version >= 4) {
		all.network = NET_BIND_TCP;
		size = sizeof all.files + sizeof all.network;
	}
	if (version >= 5)
		all.files |= FS_IOCTL_DEVICE;
	if (version >= 6) {
		all.scope = SCOPE_ALL;
		size = sizeof all;
	}
	return (int)syscall(SYS_landlock_create_ruleset, &all, size, 0);
}

/* One that cannot be opened even here is nobody's loss. */
static void allow(int ruleset, const char *path, unsigned long long rights)
{
	struct landlock_path_beneath_attr below = { .allowed_access = rights };

	below.parent_fd = open(path, O_PATH | O_CLOEXEC);
	if (below.parent_fd < 0)
		return;
	if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &below, 0) < 0)
		log_warning("%s: not let through Landlock: %s", path, strerror(errno));
	close(below.parent_fd);
}

int landlock_close(const char *const *paths, unsigned long long rights, struct error *err)
{
	int version = landlock_version(), ruleset, r = 0;

	if (!version)
		return 0;
	ruleset = ruleset_new(version);
	if (ruleset < 0)
		return error_set(err, -errno, "Landlock cannot be used: %s", strerror(errno));
	for (; paths && *paths; paths++)
		allow(ruleset, *paths, rights);
	if (syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		r = error_set(err, -errno, "Landlock cannot be used: %s", strerror(errno));
	close(ruleset);
	return r;
}
