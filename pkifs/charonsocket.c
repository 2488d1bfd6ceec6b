/*
 * Connections to strongSwan's daemon charon, for the IPsec process, which can reach no file: it is
 * root who may, and who sees that it is charon's user who listens there.
 */
#include "common/channel.h"
#include "pkifs/keycheck.h"
#include "pkifs/supervisor.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static bool is_believed(const struct supervision *given, uid_t uid)
{
	const struct passwd *user = getpwnam(setting(given, "charon-user"));

	return uid == 0 || (user && user->pw_uid == uid);
}

/* Whoever listens there has its rights from when it began to. */
static int check_peer(const struct supervision *given, int fd, const char *path, struct error *err)
{
	struct ucred peer = { 0 };
	socklen_t length = sizeof peer;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
		return error_set(err, -errno, "who listens at charon's socket %s is not known: %s",
		                 path, strerror(errno));
	if (!is_believed(given, peer.uid))
		return error_set(
			err, -EPERM,
			"charon's socket %s is user %u's, not root's or %s's (charon-user)", path,
			(unsigned)peer.uid, setting(given, "charon-user"));
	return 0;
}

/* Waits for nobody: one whose backlog is full is as good as not there. */
static int open_socket(const struct supervision *given, const char *path, struct error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd, r;

	if ((size_t)snprintf(address.sun_path, sizeof address.sun_path, "%s", path) >=
	    sizeof address.sun_path)
		return error_set(err, -ENAMETOOLONG, "charon's socket %s: the path is too long",
		                 path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) < 0)
		r = error_set(err, -errno, "charon cannot be reached at %s (charon-socket): %s",
		              path, strerror(errno));
	else
		r = check_peer(given, fd, path, err);
	if (r == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return r;
}

void charon_connect(const struct supervision *given, const struct record *record)
{
	const char *name = record_get(record, "netns");
	bool elsewhere = name && object_name_is_legal(name);
	struct record *answer = record_new();
	struct error err = { 0 };
	char path[256];
	int fd;

	if (!answer)
		return;
	snprintf(path, sizeof path, "%s%s%s", setting(given, "charon-socket"), elsewhere ? "." : "",
	         elsewhere ? name : "");
	fd = open_socket(given, path, &err);
	record_add(answer, "frame", "charon");
	record_add(answer, "netns", elsewhere ? name : "");
	if (fd < 0)
		record_add(answer, "reason", err.text);
	channel_send(given->store, answer, &fd, fd >= 0);
	record_free(answer);
	if (fd >= 0)
		close(fd);
}
