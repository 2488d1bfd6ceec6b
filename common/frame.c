#include "common/frame.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union control {
	struct cmsghdr header;
	char room[CMSG_SPACE(sizeof(int) * FRAME_FDS)];
};

static int send_all(int fd, struct iovec *iov, size_t parts, const int *fds, size_t count)
{
	union control control = { 0 };
	struct msghdr message = { .msg_iov = iov, .msg_iovlen = parts };

	if (count) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int) * count);
		memcpy(CMSG_DATA(&control.header), fds, sizeof(int) * count);
	}
	while (message.msg_iovlen) {
		ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return -errno;
		message.msg_control = NULL;
		message.msg_controllen = 0;
		while (message.msg_iovlen && (size_t)sent >= message.msg_iov->iov_len) {
			sent -= (ssize_t)message.msg_iov->iov_len;
			message.msg_iov++;
			message.msg_iovlen--;
		}
		if (message.msg_iovlen) {
			message.msg_iov->iov_base = (char *)message.msg_iov->iov_base + sent;
			message.msg_iov->iov_len -= (size_t)sent;
		}
	}
	return 0;
}

int frame_send(int fd, const struct record *record, const int *fds, size_t count)
{
	unsigned char *bytes = NULL;
	struct iovec iov[2];
	uint32_t prefix;
	size_t length;
	int r;

	r = record_encode(record, &bytes, &length);
	if (r < 0)
		return r;
	if (length > FRAME_MAX || count > FRAME_FDS) {
		r = -EMSGSIZE;
		goto out;
	}
	prefix = htonl((uint32_t)length);
	iov[0] = (struct iovec){ .iov_base = &prefix, .iov_len = sizeof prefix };
	iov[1] = (struct iovec){ .iov_base = bytes, .iov_len = length };
	r = send_all(fd, iov, length ? 2 : 1, fds, count);
out:
	OPENSSL_clear_free(bytes, length);
	return r;
}

long frame_read(int fd, void *bytes, size_t length, int *fds)
{
	union control control;
	struct iovec iov = { .iov_base = bytes, .iov_len = length };
	struct msghdr message = { .msg_iov = &iov,
		                  .msg_iovlen = 1,
		                  .msg_control = &control,
		                  .msg_controllen = sizeof control };
	ssize_t got;

	do
		got = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		size_t free_slot = 0;
		int passed[FRAME_FDS];

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		memcpy(passed, CMSG_DATA(c), count * sizeof(int));
		for (size_t i = 0; i < count; i++) {
			while (free_slot < FRAME_FDS && fds && fds[free_slot] >= 0)
				free_slot++;
			if (fds && free_slot < FRAME_FDS)
				fds[free_slot] = passed[i];
			else
				close(passed[i]);
		}
	}
	return got;
}

static int read_all(int fd, void *bytes, size_t length, int *fds)
{
	while (length) {
		long got = frame_read(fd, bytes, length, fds);

		if (got <= 0)
			return got < 0 ? (int)got : -EPIPE;
		bytes = (char *)bytes + got;
		length -= (size_t)got;
	}
	return 0;
}

static int receive(int fd, struct record **record, int *fds)
{
	unsigned char *bytes = NULL;
	uint32_t prefix;
	size_t length;
	int r;

	r = read_all(fd, &prefix, sizeof prefix, fds);
	if (r < 0)
		return r;
	length = ntohl(prefix);
	if (length > FRAME_MAX)
		return -EBADMSG;
	bytes = OPENSSL_malloc(length ? length : 1);
	if (!bytes)
		return -ENOMEM;
	r = read_all(fd, bytes, length, fds);
	if (r == 0)
		r = record_decode(bytes, length, record);
	OPENSSL_clear_free(bytes, length);
	return r;
}

int frame_receive(int fd, struct record **record, int *fds)
{
	int r;

	for (size_t i = 0; fds && i < FRAME_FDS; i++)
		fds[i] = -1;
	r = receive(fd, record, fds);
	for (size_t i = 0; r < 0 && fds && i < FRAME_FDS; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
	return r;
}
