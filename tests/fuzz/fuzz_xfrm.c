/*
 * What a netlink socket brings: events, or the answers to a batch and to a dump. The first byte
 * says which; then come datagrams: two bytes of length, one whose first bit says that another
 * process sent it, and the bytes.
 */
#include "netlink/xfrm.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
ssize_t __wrap_sendto(int fd, const void *bytes, size_t length, int flags,
                      const struct sockaddr *to, socklen_t to_length);
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout);

static const uint8_t *rest;
static size_t left;
static uint32_t seq;

/* Answers find their question by its number: what asks for number N gets that of the N-th. */
ssize_t __wrap_sendto(int fd, const void *bytes, size_t length, int flags,
                      const struct sockaddr *to, socklen_t to_length)
{
	(void)fd;
	(void)flags;
	(void)to;
	(void)to_length;
	seq = ((const struct nlmsghdr *)bytes)->nlmsg_seq;
	return (ssize_t)length;
}

int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout)
{
	(void)fds;
	(void)count;
	(void)timeout;
	return left >= 3;
}

ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags)
{
	struct sockaddr_nl from = { .nl_family = AF_NETLINK };
	size_t length;

	(void)fd;
	(void)flags;
	errno = EAGAIN;
	if (left < 3)
		return -1;
	length = (size_t)(rest[0] | rest[1] << 8);
	from.nl_pid = rest[2] & 1;
	errno = ENOBUFS;
	if (rest[2] & 2)
		length = 0;
	else
		errno = 0;
	rest += 3;
	left -= 3;
	if (errno)
		return -1;
	if (length > left)
		length = left;
	memcpy(message->msg_name, &from, sizeof from);
	message->msg_namelen = sizeof from;
	message->msg_flags = 0;
	memcpy(message->msg_iov->iov_base, rest, length);
	if (length >= NLMSG_HDRLEN)
		((struct nlmsghdr *)message->msg_iov->iov_base)->nlmsg_seq += seq;
	rest += length;
	left -= length;
	return (ssize_t)length;
}

static void see_event(const struct xfrm_event *event, void *user)
{
	*(unsigned *)user += event->kind;
}

static void see_sa(const struct sa *sa, void *user)
{
	*(unsigned *)user += sa->info.reqid;
}

static void see_policy(const struct policy *policy, void *user)
{
	*(unsigned *)user += policy->template.reqid;
}

static void see_failure(void *about, const struct error *err, void *user)
{
	(void)about;
	if (err->code >= 0 || strchr(err->text, '\n'))
		abort();
	*(unsigned *)user += 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct policy policy = { .info.priority = 1 };
	unsigned sum = 0;
	struct xfrm *xfrm = xfrm_open(dup(0), see_failure, &sum);

	if (!xfrm || !size) {
		xfrm_close(xfrm);
		return 0;
	}
	rest = data + 1;
	left = size - 1;
	if (data[0] % 4 == 0) {
		xfrm_events(0, see_event, &sum);
	} else if (data[0] % 4 == 1) {
		xfrm_policy_add(xfrm, &policy, true, NULL);
		xfrm_policy_delete(xfrm, &policy, NULL);
		xfrm_flush(xfrm);
	} else if (data[0] % 4 == 2) {
		xfrm_sa_dump(xfrm, see_sa, NULL, &sum);
	} else {
		xfrm_policy_dump(xfrm, see_policy, NULL, &sum);
	}
	xfrm_close(xfrm);
	return 0;
}
