/*
 * The ports of ACME's challenges: bound here, because that wants root, and handed over; nothing is
 * kept of them, so they are free again as soon as whoever answers there closes them.
 */
#include "common/channel.h"
#include "common/log.h"
#include "pkifs/supervisor.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 128

/* ADDRESS:PORT taken apart; HOST has brackets removed and may be empty. */
static void split(const char *text, char *host, size_t size, const char **port)
{
	const char *colon = strrchr(text, ':');

	*port = colon ? colon + 1 : text;
	if (*text == '[' && colon && colon[-1] == ']')
		snprintf(host, size, "%.*s", (int)(colon - text - 2), text + 1);
	else
		snprintf(host, size, "%.*s", colon ? (int)(colon - text) : 0, text);
}

/* A socket that listens at ADDRESS, or a negative errno. */
static int listen_at(const struct addrinfo *address)
{
	int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int yes = 1, no = 0, r;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	if (address->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
	if (bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	r = -errno;
	close(fd);
	return r;
}

/* One socket for all addresses where HOST is empty: IPv6's takes IPv4 as well. */
static int listen_to(const char *host, const char *port)
{
	const int families[] = { AF_INET6, AF_INET };
	int r = -EADDRNOTAVAIL;

	for (size_t i = 0; i < COUNT(families); i++) {
		struct addrinfo hints = { .ai_family = families[i],
			                  .ai_socktype = SOCK_STREAM,
			                  .ai_flags =
			                          AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV };
		struct addrinfo *found = NULL;

		if (getaddrinfo(*host ? host : NULL, port, &hints, &found) != 0)
			continue;
		r = listen_at(found);
		freeaddrinfo(found);
		if (r >= 0 || r == -EADDRINUSE || r == -EACCES)
			break;
	}
	return r;
}

/* --- who has it --- */

/* The inodes of sockets that listen on PORT, in TABLE of /proc/net. How many were found. */
static size_t listeners(const char *table, unsigned port, unsigned long *inodes, size_t room)
{
	FILE *file = fopen(table, "re");
	char line[512];
	size_t count = 0;

	while (file && count < room && fgets(line, sizeof line, file)) {
		unsigned local, state;
		unsigned long inode;

		if (sscanf(line,
		           " %*u: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s %*u %*u %lu",
		           &local, &state, &inode) == 3 &&
		    local == port && state == 0x0a)
			inodes[count++] = inode;
	}
	if (file)
		fclose(file);
	return count;
}

/* Whether a process has one of these sockets open. */
static bool holds(const char *pid, const unsigned long *inodes, size_t count)
{
	char path[300], target[64], wanted[64];
	struct dirent *entry;
	bool found = false;
	DIR *folder;

	snprintf(path, sizeof path, "/proc/%.20s/fd", pid);
	folder = opendir(path);
	while (folder && !found && (entry = readdir(folder))) {
		ssize_t length;

		snprintf(path, sizeof path, "/proc/%.20s/fd/%.20s", pid, entry->d_name);
		length = readlink(path, target, sizeof target - 1);
		target[length > 0 ? length : 0] = '\0';
		for (size_t i = 0; i < count && !found; i++) {
			snprintf(wanted, sizeof wanted, "socket:[%lu]", inodes[i]);
			found = strcmp(target, wanted) == 0;
		}
	}
	if (folder)
		closedir(folder);
	return found;
}

static void name_of(const char *pid, char *name, size_t size)
{
	char path[64];
	FILE *file;

	snprintf(path, sizeof path, "/proc/%.20s/comm", pid);
	file = fopen(path, "re");
	if (!file || !fgets(name, (int)size, file))
		snprintf(name, size, "a program");
	name[strcspn(name, "\n")] = '\0';
	if (file)
		fclose(file);
}

/* Who listens on PORT: "nginx (process 123)". */
static void find_holder(const char *port, char *text, size_t size)
{
	static const char *const tables[] = { "/proc/net/tcp", "/proc/net/tcp6" };
	unsigned number = (unsigned)strtoul(port, NULL, 10);
	unsigned long inodes[16];
	struct dirent *entry;
	size_t count = 0;
	char name[32];
	DIR *processes;

	snprintf(text, size, "another program");
	for (size_t i = 0; i < COUNT(tables); i++)
		count += listeners(tables[i], number, inodes + count, COUNT(inodes) - count);
	processes = opendir("/proc");
	while (count && processes && (entry = readdir(processes))) {
		if (!isdigit((unsigned char)entry->d_name[0]) ||
		    !holds(entry->d_name, inodes, count))
			continue;
		name_of(entry->d_name, name, sizeof name);
		snprintf(text, size, "%s (process %.20s)", name, entry->d_name);
		break;
	}
	if (processes)
		closedir(processes);
}

/* --- the store's question --- */

static void explain(const char *mount, const char *key, const char *address, const char *port,
                    int code, char *text, size_t size)
{
	char holder[64];

	if (code == -EADDRINUSE)
		find_holder(port, holder, sizeof holder);
	if (code == -EADDRINUSE && strcmp(key, "http-01-listen") != 0) {
		snprintf(text, size, "port %s here is taken by %s", port, holder);
	} else if (code == -EADDRINUSE) {
		snprintf(text, size,
		         "port %s here is taken by %s, which has to serve %.80s/acme-challenge/",
		         port, holder, mount);
	} else {
		snprintf(text, size, "%s = %s cannot be had here: %s", key, address,
		         strerror(-code));
	}
}

void listen_for(const struct supervision *given, const struct record *record)
{
	const char *type = record_get(record, "type"), *port;
	struct record *answer = record_new();
	char key[32], host[64], reason[240] = "";
	struct error err = { 0 };
	const char *address;
	int fd;

	if (!answer)
		return;
	snprintf(key, sizeof key, "%s-listen",
	         type && strcmp(type, "tls-alpn-01") == 0 ? "tls-alpn-01" : "http-01");
	address = setting(given, key);
	split(address, host, sizeof host, &port);
	fd = listen_to(host, port);
	if (fd < 0)
		explain(setting(given, "mount-point"), key, address, port, fd, reason,
		        sizeof reason);
	if (fd >= 0 && firewall_open(given, type ? type : "", port, &err) < 0)
		snprintf(reason, sizeof reason, "%.239s", err.text);
	record_add(answer, "frame", fd < 0 ? "not-listening" : "listening");
	record_add(answer, "type", type ? type : "");
	if (fd == -EADDRINUSE && strstr(reason, "by pkifs-enroll ")) /* on its way out */
		record_add(answer, "again", "yes");
	if (*reason)
		record_add(answer, "reason", reason);
	channel_send(given->store, answer, &fd, fd < 0 ? 0 : 1);
	record_free(answer);
	if (fd >= 0)
		close(fd);
}
