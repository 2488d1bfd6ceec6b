#include "enroll/respond.h"

#include "common/frame.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS    64
#define REQUEST_MAX    4096
#define ASK_SECONDS    10 /* for a whole request */
#define DRAIN_SECONDS  2  /* for what a client still sends behind its answer */
#define CHALLENGE_PATH "/.well-known/acme-challenge/"

struct connection {
	int fd;   /* -1: free */
	SSL *tls; /* NULL: HTTP */
	time_t until;
	unsigned long turn; /* grows from one to the next */
	bool answered;      /* what still comes is thrown away */
	size_t length;
	char request[REQUEST_MAX];
};

struct responder {
	struct job *job;
	int listening;
	struct record *record;        /* of the store */
	const struct record *answers; /* the same; `challenge`: TYPE NAME TOKEN ANSWER */
	struct respond_tls *tls;      /* NULL: HTTP is spoken */
	unsigned long turns;
	struct connection connections[CONNECTIONS];
};

static time_t seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

/* --- HTTP --- */

/* What answers the token at PATH, up to a blank; its length in *LENGTH. NULL: no such token. */
static const char *find_answer(const struct record *answers, const char *token, size_t size,
                               size_t *length)
{
	const struct field *field;
	size_t index = 0;

	while ((field = record_next(answers, "challenge", &index))) {
		char *words = field->value, *name = strchr(words, ' ');
		char *known = name ? strchr(name + 1, ' ') : NULL;
		char *answer = known ? strchr(known + 1, ' ') : NULL;

		if (!answer || strncmp(words, "http-01 ", 8) != 0 ||
		    (size_t)(answer - known - 1) != size || memcmp(known + 1, token, size) != 0)
			continue;
		*length = strlen(answer + 1);
		return answer + 1;
	}
	return NULL;
}

static size_t say(char *text, size_t size, const char *status, const char *body, size_t length)
{
	return (size_t)snprintf(text, size,
	                        "HTTP/1.1 %s\r\nContent-Type: application/octet-stream\r\n"
	                        "Content-Length: %zu\r\nConnection: close\r\n\r\n%.*s",
	                        status, length, (int)length, body);
}

size_t respond_http(const char *request, size_t length, const struct record *answers, char *text,
                    size_t size)
{
	static const char method[] = "GET ", version[] = " HTTP/1.";
	const char *end = memchr(request, '\n', length), *path = request + sizeof method - 1,
		   *blank;
	size_t prefix = strlen(CHALLENGE_PATH), answer_length;
	const char *answer;

	if (!end || memchr(request, '\0', length) ||
	    strncmp(request, method, sizeof method - 1) != 0)
		return say(text, size, "400 Bad Request", "", 0);
	blank = memchr(path, ' ', (size_t)(end - path));
	if (!blank || strncmp(blank, version, sizeof version - 1) != 0)
		return say(text, size, "400 Bad Request", "", 0);
	answer = (size_t)(blank - path) > prefix && memcmp(path, CHALLENGE_PATH, prefix) == 0
	                 ? find_answer(answers, path + prefix, (size_t)(blank - path) - prefix,
	                               &answer_length)
	                 : NULL;
	return answer ? say(text, size, "200 OK", answer, answer_length)
	              : say(text, size, "404 Not Found", "", 0);
}

/* --- connections --- */

static void hang_up(struct connection *connection)
{
	SSL_free(connection->tls);
	close(connection->fd);
	connection->tls = NULL;
	connection->fd = -1;
}

/* A place for one more: the one that has waited longest goes, so that nobody is kept out. */
static struct connection *make_room(struct responder *responder)
{
	struct connection *oldest = responder->connections;

	for (size_t i = 0; i < CONNECTIONS; i++) {
		struct connection *connection = &responder->connections[i];

		if (connection->fd < 0)
			return connection;
		if (connection->turn < oldest->turn)
			oldest = connection;
	}
	hang_up(oldest);
	return oldest;
}

static void take_connections(struct responder *responder)
{
	int fd;

	while ((fd = accept4(responder->listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >=
	       0) {
		struct connection *connection = make_room(responder);

		connection->fd = fd;
		connection->until = seconds() + ASK_SECONDS;
		connection->turn = ++responder->turns;
		connection->answered = false;
		connection->length = 0;
		connection->tls = responder->tls ? respond_tls_begin(responder->tls, fd) : NULL;
		if (responder->tls && !connection->tls)
			hang_up(connection);
	}
}

static void drain(struct connection *connection)
{
	shutdown(connection->fd, SHUT_WR);
	connection->answered = true;
	connection->until = seconds() + DRAIN_SECONDS;
}

static void answer(struct responder *responder, struct connection *connection)
{
	char text[1024];
	size_t length = respond_http(connection->request, connection->length, responder->answers,
	                             text, sizeof text);

	log_debug("a challenge is asked for: %.3s", text + strlen("HTTP/1.1 "));
	if (send(connection->fd, text, length, MSG_NOSIGNAL) < 0) {
		hang_up(connection);
		return;
	}
	drain(connection);
}

static void shake_hands(struct connection *connection)
{
	int r = respond_tls_hear(connection->tls);

	if (r)
		log_debug("a challenge is asked for: %s", r > 0 ? "answered" : "refused");
	if (r)
		drain(connection); /* an alert must arrive too */
}

static bool is_whole(const struct connection *connection)
{
	return connection->length == REQUEST_MAX - 1 ||
	       memmem(connection->request, connection->length, "\r\n\r\n", 4) ||
	       memmem(connection->request, connection->length, "\n\n", 2);
}

static void hear(struct responder *responder, struct connection *connection)
{
	size_t room = REQUEST_MAX - 1 - connection->length;
	char rest[REQUEST_MAX];
	ssize_t got;

	if (connection->tls && !connection->answered) {
		shake_hands(connection);
		return;
	}
	got = connection->answered
	              ? recv(connection->fd, rest, sizeof rest, 0)
	              : recv(connection->fd, connection->request + connection->length, room, 0);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		hang_up(connection);
		return;
	}
	if (connection->answered)
		return;
	connection->length += (size_t)got;
	connection->request[connection->length] = '\0';
	if (is_whole(connection))
		answer(responder, connection);
}

static void hang_up_late(struct responder *responder)
{
	static const char late[] = "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n";
	time_t now = seconds();

	for (size_t i = 0; i < CONNECTIONS; i++) {
		struct connection *connection = &responder->connections[i];

		if (connection->fd < 0 || connection->until > now)
			continue;
		if (!connection->answered && !connection->tls &&
		    send(connection->fd, late, sizeof late - 1, MSG_NOSIGNAL) < 0)
			log_debug("challenge: nobody is told that it took too long");
		hang_up(connection);
	}
}

/* --- the store --- */

/* 0, 1 at the end, or a negative errno. */
static int hear_store(struct responder *responder)
{
	struct pollfd store = { .fd = responder->job->worker->store, .events = POLLIN };
	int r = 0;

	while (r == 0 && poll(&store, 1, 0) > 0) {
		struct record *record = NULL;

		r = frame_receive(store.fd, &record, NULL);
		if (r == 0 && record_is(record, "frame", "tokens")) {
			record_free(responder->record);
			responder->answers = responder->record = record;
			continue;
		}
		if (r == 0)
			r = record_is(record, "frame", "end") ? 1 : -EPROTO;
		record_free(record);
	}
	return r;
}

static int tell_store(struct responder *responder)
{
	struct record *record = record_new();
	int r = -ENOMEM;

	if (record) {
		record_add(record, "frame", "serving");
		record_add_number(record, "job",
		                  record_number(responder->job->settings, "job", -1));
		r = frame_send(responder->job->worker->store, record, NULL, 0);
	}
	record_free(record);
	return r;
}

static int turn(struct responder *responder)
{
	struct pollfd polled[2 + CONNECTIONS] = {
		{ .fd = responder->job->worker->store, .events = POLLIN },
		{ .fd = responder->listening, .events = POLLIN },
	};
	int r;

	for (size_t i = 0; i < CONNECTIONS; i++)
		polled[2 + i] =
			(struct pollfd){ .fd = responder->connections[i].fd, .events = POLLIN };
	if (poll(polled, COUNT(polled), 1000) < 0 && errno != EINTR)
		return -errno;
	r = hear_store(responder); /* first: whoever asks may ask for what it says now */
	if (r)
		return r;
	for (size_t i = 0; i < CONNECTIONS; i++)
		if (polled[2 + i].revents && responder->connections[i].fd == polled[2 + i].fd)
			hear(responder, &responder->connections[i]);
	if (polled[1].revents)
		take_connections(responder);
	hang_up_late(responder);
	return 0;
}

int respond_job(struct job *job, struct error *err)
{
	struct responder *responder = calloc(1, sizeof *responder);
	int r = 0;

	if (!responder)
		return error_set(err, -ENOMEM, "no memory");
	responder->job = job;
	responder->listening = job->fds[0];
	responder->answers = responder->record = record_new();
	if (record_is(job->settings, "type", "tls-alpn-01")) {
		responder->tls = respond_tls_new(&responder->answers);
		r = responder->tls ? 0 : -ENOMEM;
	}
	for (size_t i = 0; i < CONNECTIONS; i++)
		responder->connections[i].fd = -1;
	if (r == 0)
		r = responder->answers ? tell_store(responder) : -ENOMEM;
	while (r == 0)
		r = turn(responder);
	for (size_t i = 0; i < CONNECTIONS; i++)
		if (responder->connections[i].fd >= 0)
			hang_up(&responder->connections[i]);
	shutdown(responder->listening, SHUT_RDWR); /* before the store hears that it is done */
	record_free(responder->record);
	respond_tls_free(responder->tls);
	free(responder);
	return r < 0 ? error_set(err, r, "challenges cannot be answered: %s", strerror(-r)) : 0;
}
