#include "pkifs/notify.h"

#include "common/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static struct {
	int fd; /* 0: nobody listens */
	char *socket, *usec, *pid;
} state;

static int reach(const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t length = strlen(name);
	int fd;

	if ((*name != '/' && *name != '@') || length >= sizeof address.sun_path)
		return -EINVAL;
	memcpy(address.sun_path, name, length);
	if (*name == '@')
		address.sun_path[0] = 0;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && connect(fd, (const struct sockaddr *)&address,
	                       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd < 0 ? -errno : fd;
}

static char *take(const char *name)
{
	const char *value = getenv(name);
	char *copy = value ? strdup(value) : NULL;

	unsetenv(name);
	return copy;
}

void notify_open(void)
{
	state.socket = take("NOTIFY_SOCKET");
	state.usec = take("WATCHDOG_USEC");
	state.pid = take("WATCHDOG_PID");
	state.fd = state.socket ? reach(state.socket) : 0;
	if (state.fd < 0) {
		log_warning("NOTIFY_SOCKET %s: %s", state.socket, strerror(-state.fd));
		state.fd = 0;
	}
}

static void give(const char *name, const char *value)
{
	if (value)
		setenv(name, value, 1);
}

void notify_hand_over(void)
{
	give("NOTIFY_SOCKET", state.socket);
	give("WATCHDOG_USEC", state.usec);
	give("WATCHDOG_PID", state.pid);
}

void notify(const char *format, ...)
{
	char text[1024];
	va_list args;

	if (!state.fd)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	if (send(state.fd, text, strlen(text), MSG_NOSIGNAL) < 0)
		log_debug("systemd was not told: %s", strerror(errno));
}

void notify_reloading(const char *status)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	notify("RELOADING=1\nMONOTONIC_USEC=%lld\nSTATUS=%s",
	       (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000, status);
}

uint64_t notify_beat(void)
{
	if (!state.fd || !state.usec ||
	    (state.pid && strtol(state.pid, NULL, 10) != (long)getpid()))
		return 0;
	return strtoull(state.usec, NULL, 10) / 4000;
}
