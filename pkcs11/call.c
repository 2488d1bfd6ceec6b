#include "pkcs11/call.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define SOCKET     "/run/pkifs/pkcs11" /* pkcs11-socket */
#define ANSWER_MAX (8u << 20)          /* bytes */
#define PAUSE_MS   20                  /* before pkifs is asked again */

static long long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static void pause_ms(long ms)
{
	const struct timespec span = { .tv_nsec = ms * 1000000 };

	nanosleep(&span, NULL);
}

/* A socket to pkifs, or a negative errno. */
static int reach(long long end)
{
	const char *path = secure_getenv("PKIFS_PKCS11_SOCKET");
	struct sockaddr_un place = { .sun_family = AF_UNIX };
	long long left = end - now_ms();
	struct timeval limit = { .tv_sec = left / 1000, .tv_usec = left % 1000 * 1000 };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), r;

	if (fd < 0)
		return -errno;
	snprintf(place.sun_path, sizeof place.sun_path, "%s", path ? path : SOCKET);
	/* connect(2) waits where many do */
	if (left > 0 && setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0 &&
	    connect(fd, (struct sockaddr *)&place, sizeof place) == 0)
		return fd;
	r = left > 0 ? -errno : -ETIMEDOUT;
	close(fd);
	return r;
}

static int send_all(int fd, const unsigned char *bytes, size_t length)
{
	while (length) {
		ssize_t sent = send(fd, bytes, length, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return -errno;
		bytes += sent;
		length -= (size_t)sent;
	}
	return 0;
}

/* LENGTH bytes before END. -EPIPE: there are no more. */
static int read_all(int fd, long long end, unsigned char *bytes, size_t length)
{
	while (length) {
		struct pollfd wait = { .fd = fd, .events = POLLIN };
		long long left = end - now_ms();
		ssize_t got;

		if (left <= 0)
			return -ETIMEDOUT;
		if (poll(&wait, 1, (int)left) <= 0)
			continue;
		got = recv(fd, bytes, length, MSG_DONTWAIT);
		if (got < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -EPIPE;
		bytes += got;
		length -= (size_t)got;
	}
	return 0;
}

static int read_answer(int fd, long long end, struct record **answer)
{
	unsigned char *bytes;
	uint32_t length;
	int r = read_all(fd, end, (unsigned char *)&length, sizeof length);

	if (r < 0)
		return r;
	length = ntohl(length);
	if (length > ANSWER_MAX)
		return -EBADMSG;
	bytes = malloc(length ? length : 1);
	if (!bytes)
		return -ENOMEM;
	r = read_all(fd, end, bytes, length);
	if (r == 0)
		r = record_decode(bytes, length, answer);
	free(bytes);
	return r;
}

static int try(const unsigned char *bytes, size_t length, long long end, struct record **answer)
{
	uint32_t prefix = htonl((uint32_t)length);
	int fd = reach(end), r;

	if (fd < 0)
		return fd;
	r = send_all(fd, (const unsigned char *)&prefix, sizeof prefix);
	if (r == 0)
		r = send_all(fd, bytes, length);
	if (r == 0)
		r = read_answer(fd, end, answer);
	close(fd);
	return r;
}

struct record *call(struct record *question)
{
	long long end = now_ms() + CALL_MS;
	struct record *answer = NULL;
	unsigned char *bytes = NULL;
	size_t length = 0;
	int r = record_encode(question, &bytes, &length);

	record_free(question);
	if (r == 0)
		r = try(bytes, length, end, &answer);
	/* nobody listens, or who listened has ended: its successor begins */
	while ((r == -ECONNREFUSED || r == -EPIPE || r == -ECONNRESET) &&
	       now_ms() + PAUSE_MS < end) {
		pause_ms(PAUSE_MS);
		r = try(bytes, length, end, &answer);
	}
	OPENSSL_clear_free(bytes, length);
	return answer;
}
