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

/* The same in the namespace NAME, as ip-netns(8) makes them. Nothing else runs meanwhile. */
static int open_there(const char *name, int fds[2], struct error *err)
{
	char path[128];
	int here, there, r;

	if (!object_name_is_legal(name))
		return error_set(err, -EINVAL, "there is no such network namespace");
	snprintf(path, sizeof path, "/run/netns/%s", name);
	there = open(path, O_RDONLY | O_CLOEXEC);
	if (there < 0)
		return error_set(err, -errno, "the network namespace %s (netns): %s", name,
		                 strerror(errno));
	here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (here < 0 || setns(there, CLONE_NEWNET) < 0)
		r = error_set(err, -errno, "the network namespace %s (netns): %s", name,
		              strerror(errno));
	else
		r = open_sockets(fds, err);
	if (here >= 0 && setns(here, CLONE_NEWNET) < 0)
		abort(); /* all that is started from here would be in the wrong one */
	if (here >= 0)
		close(here);
	close(there);
	return r;
}

void netlink_open(const struct supervision *given, const struct record *record)
{
	const char *name = record_get(record, "netns");
	struct record *answer = record_new();
	int fds[2] = { -1, -1 }, r;
	struct error err = { 0 };

	if (!answer)
		return;
	r = name && *name ? open_there(name, fds, &err) : open_sockets(fds, &err);
	record_add(answer, "frame", "namespace");
	record_add(answer, "netns", name ? name : "");
	if (r < 0)
		record_add(answer, "reason", err.text);
	channel_send(given->store, answer, fds, r < 0 ? 0 : 2);
	record_free(answer);
	for (int i = 0; i < 2; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}
