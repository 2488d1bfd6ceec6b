/*
 * Sockets in network namespaces: the IPsec process has no right to enter one. It gets two of
 * NETLINK_XFRM for each, and CAP_NET_ADMIN is enough for the rest.
 */
#include "common/channel.h"
#include "pkifs/keycheck.h"
#include "pkifs/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_sockets(int fds[2], struct error *err)
{
	for (int i = 0; i < 2; i++) {
		fds[i] = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_XFRM);
		if (fds[i] < 0)
			return error_set(err, -errno, "the kernel has no IPsec (XFRM): %s",
			                 strerror(errno));
	}
	return 0;
}

/* The same in the namespace that is open as THERE. Nothing else runs meanwhile. */
static int open_there(int there, int fds[2], struct error *err)
{
	int here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), r;

	if (here < 0 || setns(there, CLONE_NEWNET) < 0)
		r = error_set(err, -errno, "it cannot be entered: %s", strerror(errno));
	else
		r = open_sockets(fds, err);
	if (here >= 0 && setns(here, CLONE_NEWNET) < 0)
		abort(); /* all that is started from here would be in the wrong one */
	if (here >= 0)
		close(here);
	return r;
}

/*
 * Those in the namespace NAME, as ip-netns(8) makes them, whose *INODE is given back. 1: it is the
 * one with that *INODE; there are none.
 */
static int open_named(const char *name, int64_t *inode, int fds[2], struct error *err)
{
	struct error why = { 0 };
	struct stat facts;
	char path[128];
	int there, r;

	if (!object_name_is_legal(name))
		return error_set(err, -EINVAL, "there is no such network namespace");
	snprintf(path, sizeof path, "/run/netns/%s", name);
	there = open(path, O_RDONLY | O_CLOEXEC);
	if (there < 0 || fstat(there, &facts) < 0)
		r = error_set(&why, -errno, "%s", strerror(errno));
	else if (*inode && *inode == (int64_t)facts.st_ino)
		r = 1;
	else
		r = open_there(there, fds, &why);
	if (r == 0)
		*inode = (int64_t)facts.st_ino;
	if (r < 0)
		error_set(err, r, "the network namespace %s (netns): %s", name, why.text);
	if (there >= 0)
		close(there);
	return r;
}

void netlink_open(const struct supervision *given, const struct record *record)
{
	const char *name = record_get(record, "netns");
	int64_t inode = record_number(record, "inode", 0);
	struct record *answer = record_new();
	int fds[2] = { -1, -1 }, r;
	struct error err = { 0 };

	if (!answer)
		return;
	r = name && *name ? open_named(name, &inode, fds, &err) : open_sockets(fds, &err);
	record_add(answer, "frame", "namespace");
	record_add(answer, "netns", name ? name : "");
	record_add_number(answer, "inode", inode);
	if (r < 0)
		record_add(answer, "reason", err.text);
	if (r < 1)
		channel_send(given->store, answer, fds, r < 0 ? 0 : 2);
	record_free(answer);
	for (int i = 0; i < 2; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}
