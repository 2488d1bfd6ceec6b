/*
 * The socket at which pkifs-pkcs11.so calls: made here, because its folder and its owner want root,
 * and kept, so that callers wait in its line while the processes that answer them are made anew.
 */
#include "common/channel.h"
#include "common/log.h"
#include "pkifs/supervisor.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 256

static int listener = -1;
static struct sockaddr_un place = { .sun_family = AF_UNIX };
static uid_t caller; /* who may call, beside root */

/* The folder of PATH, where only that is missing, as /run/pkifs is at each start. */
static void make_folder(const char *path)
{
	const char *slash = strrchr(path, '/');
	char folder[sizeof place.sun_path];

	snprintf(folder, sizeof folder, "%.*s", (int)(slash - path), path);
	if (mkdir(folder, 0700) == 0 && chmod(folder, 0755) < 0)
		log_debug("%s: %s", folder, strerror(errno));
}

/* Listens at PATH: made under another name, so that who calls meanwhile finds one or the other. */
static int listen_at(const char *path, uid_t uid, struct error *err)
{
	struct sockaddr_un new = { .sun_family = AF_UNIX };
	int fd;

	if (strlen(path) + sizeof ".new" > sizeof new.sun_path)
		return error_set(err, -ENAMETOOLONG, "pkcs11-socket takes %zu characters at most",
		                 sizeof new.sun_path - sizeof ".new");
	make_folder(path);
	snprintf(new.sun_path, sizeof new.sun_path, "%.100s.new", path);
	unlink(new.sun_path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && bind(fd, (struct sockaddr *)&new, sizeof new) == 0 &&
	    chmod(new.sun_path, 0600) == 0 &&
	    (uid == geteuid() || lchown(new.sun_path, uid, (gid_t)-1) == 0) &&
	    listen(fd, BACKLOG) == 0 && rename(new.sun_path, path) == 0)
		return fd;
	error_set(err, -errno, "pkcs11-socket = %s cannot be had: %s", path, strerror(errno));
	unlink(new.sun_path);
	if (fd >= 0)
		close(fd);
	return err->code;
}

/* The socket as the settings have it now. */
static int renew(const struct supervision *given, struct error *err)
{
	const char *path = setting(given, "pkcs11-socket"), *user = setting(given, "charon-user");
	const struct passwd *account = getpwnam(user);
	int fd;

	if (!account)
		return error_set(err, -ENOENT, "there is no user %s (charon-user)", user);
	if (listener >= 0 && caller == account->pw_uid && strcmp(place.sun_path, path) == 0)
		return 0;
	fd = listen_at(path, account->pw_uid, err);
	if (fd < 0)
		return fd;
	if (listener >= 0 && strcmp(place.sun_path, path) != 0)
		unlink(place.sun_path);
	if (listener >= 0)
		close(listener);
	listener = fd;
	caller = account->pw_uid;
	snprintf(place.sun_path, sizeof place.sun_path, "%s", path);
	return 0;
}

void pkcs11_listen(const struct supervision *given)
{
	struct record *answer = record_new();
	struct error err = { 0 };
	int r = answer ? renew(given, &err) : -ENOMEM;

	if (!answer)
		return;
	record_add(answer, "frame", "pkcs11");
	if (r < 0)
		record_add(answer, "reason", err.text);
	else
		record_add_number(answer, "uid", caller);
	channel_send(given->store, answer, &listener, r < 0 ? 0 : 1);
	record_free(answer);
}

void pkcs11_reload(const struct supervision *given)
{
	if (listener >= 0)
		pkcs11_listen(given);
}

void pkcs11_close(void)
{
	if (listener < 0)
		return;
	unlink(place.sun_path);
	close(listener);
	listener = -1;
}
