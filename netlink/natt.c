#include "netlink/natt.h"

#include <errno.h>
#include <linux/udp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/uio.h>

static const unsigned char marker[4]; /* no SPI is 0 */

static int set(int fd, int level, int name, const void *value, socklen_t size)
{
	return setsockopt(fd, level, name, value, size) < 0 ? -errno : 0;
}

/* No policy counts for the socket, in either direction. */
static int pass_by_policies(int fd, int family)
{
	int level = family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
	int name = family == AF_INET ? IP_XFRM_POLICY : IPV6_XFRM_POLICY, r = 0;

	for (uint8_t direction = XFRM_POLICY_IN; r == 0 && direction <= XFRM_POLICY_OUT;
	     direction++) {
		struct xfrm_userpolicy_info info = { .sel.family = (uint16_t)family,
			                             .dir = direction,
			                             .action = XFRM_POLICY_ALLOW };

		lifetime_endless(&info.lft);
		r = set(fd, level, name, &info, sizeof info);
	}
	return r;
}

int natt_open(int fd, int family, uint16_t port)
{
	const struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(port) };
	const struct sockaddr_in6 any6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	const int on = 1, encap = UDP_ENCAP_ESPINUDP;
	int r = pass_by_policies(fd, family);

	if (r == 0 && family == AF_INET6) /* IPv4 has a socket of its own */
		r = set(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
	if (r == 0)
		r = set(fd, IPPROTO_UDP, UDP_ENCAP, &encap, sizeof encap);
	if (r < 0)
		return r;
	r = family == AF_INET ? bind(fd, (const struct sockaddr *)&any, sizeof any)
	                      : bind(fd, (const struct sockaddr *)&any6, sizeof any6);
	return r < 0 ? -errno : 0;
}

static int send_parts(int fd, const struct sockaddr *to, socklen_t length, struct iovec *parts,
                      size_t count)
{
	const struct msghdr header = { .msg_name = (void *)(uintptr_t)to,
		                       .msg_namelen = length,
		                       .msg_iov = parts,
		                       .msg_iovlen = count };

	return sendmsg(fd, &header, MSG_DONTWAIT) < 0 ? -errno : 0;
}

int natt_send(int fd, const struct sockaddr *to, socklen_t length, const void *message, size_t size)
{
	struct iovec parts[] = {
		{ .iov_base = (void *)(uintptr_t)marker, .iov_len = sizeof marker },
		{ .iov_base = (void *)(uintptr_t)message, .iov_len = size },
	};

	return send_parts(fd, to, length, parts, COUNT(parts));
}

int natt_keepalive(int fd, const struct sockaddr *to, socklen_t length)
{
	unsigned char byte = 0xff;
	struct iovec part = { .iov_base = &byte, .iov_len = 1 };

	return send_parts(fd, to, length, &part, 1);
}

ssize_t natt_receive(int fd, void *message, size_t size, struct sockaddr_storage *from)
{
	unsigned char begin[sizeof marker];
	struct iovec parts[] = { { .iov_base = begin, .iov_len = sizeof begin },
		                 { .iov_base = message, .iov_len = size } };

	for (;;) {
		struct msghdr header = { .msg_name = from,
			                 .msg_namelen = sizeof *from,
			                 .msg_iov = parts,
			                 .msg_iovlen = COUNT(parts) };
		ssize_t got = recvmsg(fd, &header, MSG_DONTWAIT);

		if (got < 0 && errno != EINTR)
			return -errno;
		if (got > (ssize_t)sizeof marker && !(header.msg_flags & MSG_TRUNC) &&
		    memcmp(begin, marker, sizeof marker) == 0)
			return got - (ssize_t)sizeof marker;
	}
}

/*
 * The kernel takes encapsulation and limits of an update and keeps the SA's keys, but wants to be
 * shown some: those of zeros stand for them.
 */
static int show(struct xfrm *xfrm, const struct sa *sa, void *about)
{
	struct sa shown = *sa;

	memset(shown.key, 0, sizeof shown.key);
	proposal_read("aes128gcm16", false, false, &shown.proposal, NULL);
	return xfrm_sa_add(xfrm, &shown, true, about);
}

int natt_follow(struct xfrm *xfrm, const struct xfrm_event *event, struct sa *in, struct sa *out,
                void *about)
{
	int r;

	if (memcmp(&event->from, &in->info.saddr, in->info.family == AF_INET ? 4 : 16) != 0)
		return -EADDRNOTAVAIL;
	in->encap.encap_sport = out->encap.encap_dport = event->from_port;
	r = show(xfrm, in, about);
	return r < 0 ? r : show(xfrm, out, about);
}
