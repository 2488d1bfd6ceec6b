#include "tests/lab/lab-http.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define PATIENCE 20 /* seconds for a client that says nothing */

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

struct server {
	SSL_CTX *context;
	lab_handler *handler;
	void *user;
};

struct connection {
	const struct server *server;
	int fd;
};

static void in_turn(const struct lab_request *request, struct lab_answer *answer, void *user)
{
	const struct server *server = user;

	pthread_mutex_lock(&turn);
	server->handler(request, answer, server->user);
	pthread_mutex_unlock(&turn);
}

static void *serve(void *argument)
{
	struct connection *connection = argument;
	struct server server = *connection->server;
	struct timeval patience = { .tv_sec = PATIENCE };
	SSL *tls = SSL_new(server.context);
	BIO *io = BIO_new(BIO_f_ssl());
	char *buffer = malloc(LAB_REQUEST_MAX + 1);

	setsockopt(connection->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	if (tls && io && buffer && SSL_set_fd(tls, connection->fd)) {
		BIO_set_ssl(io, tls, BIO_NOCLOSE);
		if (SSL_accept(tls) == 1) {
			while (lab_http_exchange(io, tls, buffer, in_turn, &server))
				;
			SSL_shutdown(tls);
		} else {
			printf("no handshake: %s\n", ERR_reason_error_string(ERR_peek_error()));
		}
	}
	ERR_clear_error();
	BIO_free(io);
	SSL_free(tls);
	free(buffer);
	close(connection->fd);
	free(connection);
	return NULL;
}

int lab_https_serve(int port, SSL_CTX *context, lab_handler *handler, void *user)
{
	struct server server = { context, handler, user };
	int listener;

	signal(SIGPIPE, SIG_IGN);
	setlinebuf(stdout); /* whoever has the answer finds the line in the log */
	listener = lab_http_listen(port);
	if (listener < 0)
		return -1;
	for (;;) {
		struct connection *connection = malloc(sizeof *connection);
		pthread_t thread;

		if (!connection)
			return -1;
		*connection =
			(struct connection){ &server, accept4(listener, NULL, NULL, SOCK_CLOEXEC) };
		if (connection->fd >= 0 && pthread_create(&thread, NULL, serve, connection) == 0) {
			pthread_detach(thread);
		} else {
			close(connection->fd);
			free(connection);
		}
	}
}
