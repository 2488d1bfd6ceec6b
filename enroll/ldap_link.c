#include "enroll/ldap_link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECT_SECONDS 10
#define PATIENCE        45 /* seconds in which as many bytes come as PACE says, or nobody waits */
#define PACE            16 /* bytes a second */
#define OVERHEAD        (64u << 10) /* bytes of an answer besides its value */

struct ldap_link {
	int fd;
	SSL *tls; /* NULL: none */
	time_t end;
	long patience;
	time_t since; /* the bytes are counted that came since then */
	size_t lately, received;
	bool ended; /* by the server */
	int code;   /* errno of what failed; 0: nothing did */
};

static time_t seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

/* --- TCP --- */

/* Whether FD becomes what EVENTS says before END. */
static bool await(int fd, short events, time_t end)
{
	struct pollfd poller = { .fd = fd, .events = events };
	time_t now = seconds();
	int r;

	do {
		r = now < end ? poll(&poller, 1, (int)(end - now) * 1000) : 0;
		now = seconds();
	} while (r < 0 && errno == EINTR);
	return r > 0;
}

/* A socket that is connected to ADDRESS, or a negative errno. */
static int connect_one(const struct addrinfo *address, time_t end)
{
	int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int code = 0, one = 1;
	socklen_t size = sizeof code;

	if (fd < 0)
		return -errno;
	if (connect(fd, address->ai_addr, address->ai_addrlen) < 0)
		code = errno;
	if (code == EINPROGRESS) {
		code = ETIMEDOUT;
		if (await(fd, POLLOUT, end) &&
		    getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size) < 0)
			code = errno;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (code == 0)
		return fd;
	close(fd);
	return -code;
}

/* A socket to the first of the host's addresses that answers; ERR filled where none does. */
static int connect_to(const struct ldap_url *url, const char *text, struct error *err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found = NULL;
	time_t end = seconds() + CONNECT_SECONDS;
	char port[16];
	int fd = -EHOSTUNREACH;

	snprintf(port, sizeof port, "%u", url->port);
	if (getaddrinfo(url->host, port, &hints, &found) != 0)
		return error_set(err, fd, "cannot reach %.200s: its name is not known", text);
	for (const struct addrinfo *one = found; one && fd < 0; one = one->ai_next)
		fd = connect_one(one, end);
	freeaddrinfo(found);
	if (fd < 0)
		error_set(err, fd, "cannot reach %.200s: %s", text, strerror(-fd));
	return fd;
}

/* --- TLS --- */

/* Whom the server must prove to be, and to whom. */
static bool set_expectations(SSL *tls, const struct ldap_url *url, time_t now)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(tls);

	SSL_set_verify(tls, SSL_VERIFY_PEER, NULL);
	if (now > 0)
		X509_VERIFY_PARAM_set_time(param, now);
	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	if (X509_VERIFY_PARAM_set1_ip_asc(param, url->host) == 1)
		return true;
	return X509_VERIFY_PARAM_set1_host(param, url->host, 0) == 1 &&
	       SSL_set_tlsext_host_name(tls, url->host) == 1;
}

static SSL *tls_new(int fd, const struct ldap_url *url, const struct ldap_request *request)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	SSL *tls = NULL;

	if (context && request->anchors &&
	    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1) {
		SSL_CTX_set1_cert_store(context, request->anchors);
		tls = SSL_new(context);
	}
	SSL_CTX_free(context);
	if (tls && set_expectations(tls, url, request->now) && SSL_set_fd(tls, fd) == 1)
		return tls;
	SSL_free(tls);
	return NULL;
}

/* What OpenSSL waits for after R; 0: nothing, it has failed. */
static short wanted(const SSL *tls, int r)
{
	int code = SSL_get_error(tls, r);

	return code == SSL_ERROR_WANT_READ ? POLLIN : code == SSL_ERROR_WANT_WRITE ? POLLOUT : 0;
}

static int explain_tls(const SSL *tls, int r, const char *text, struct error *err)
{
	long verdict = SSL_get_verify_result(tls);

	if (wanted(tls, r))
		return error_set(err, -ETIMEDOUT, "%.200s does not answer in time", text);
	if (verdict != X509_V_OK)
		return error_set(err, -EIO, "%.200s does not prove who it is: %s", text,
		                 X509_verify_cert_error_string(verdict));
	if (!ERR_peek_error() ||
	    ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
		return error_set(err, -EIO, "%.200s closes the connection as it begins", text);
	return error_openssl(err, -EIO, "%.200s speaks no TLS that is taken", text);
}

static int begin_tls(struct ldap_link *link, const struct ldap_url *url,
                     const struct ldap_request *request, struct error *err)
{
	time_t end = seconds() + CONNECT_SECONDS;
	int r = 0;

	link->tls = tls_new(link->fd, url, request);
	if (!link->tls)
		return error_openssl(err, -ENOMEM, "TLS cannot begin");
	while (r != 1) {
		ERR_clear_error();
		r = SSL_connect(link->tls);
		if (r != 1 &&
		    (!wanted(link->tls, r) || !await(link->fd, wanted(link->tls, r), end)))
			return explain_tls(link->tls, r, request->url, err);
	}
	return 0;
}

/* --- the link --- */

struct ldap_link *ldap_link_new(int fd, const struct ldap_request *request)
{
	struct ldap_link *link = calloc(1, sizeof *link);
	int flags = fcntl(fd, F_GETFL);

	if (!link || flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
		close(fd);
		free(link);
		return NULL;
	}
	link->fd = fd;
	link->since = seconds();
	link->end = link->since + request->seconds;
	link->patience = request->patience ? request->patience : PATIENCE;
	return link;
}

int ldap_link_open(const struct ldap_url *url, const struct ldap_request *request,
                   struct ldap_link **link, struct error *err)
{
	int fd = connect_to(url, request->url, err), r;

	if (fd < 0)
		return fd;
	*link = ldap_link_new(fd, request);
	if (!*link)
		return error_set(err, -ENOMEM, "no memory");
	r = url->tls ? begin_tls(*link, url, request, err) : 0;
	if (r < 0) {
		ldap_link_close(*link);
		*link = NULL;
	}
	return r;
}

void ldap_link_close(struct ldap_link *link)
{
	if (!link)
		return;
	if (link->tls && !link->code)
		SSL_shutdown(link->tls);
	SSL_free(link->tls);
	ERR_clear_error();
	close(link->fd);
	free(link);
}

int ldap_link_fd(const struct ldap_link *link)
{
	return link->fd;
}

bool ldap_link_pending(const struct ldap_link *link)
{
	return link->tls && SSL_pending(link->tls) > 0;
}

/* errno of what TLS said to R; 0: the end. */
static int tls_errno(SSL *tls, int r)
{
	if (wanted(tls, r))
		return EWOULDBLOCK;
	return SSL_get_error(tls, r) == SSL_ERROR_ZERO_RETURN ? 0 : EIO;
}

static ssize_t receive(struct ldap_link *link, void *bytes, size_t size)
{
	ssize_t got;

	if (!link->tls) {
		do
			got = recv(link->fd, bytes, size, 0);
		while (got < 0 && errno == EINTR);
		return got;
	}
	ERR_clear_error();
	got = SSL_read(link->tls, bytes, size < INT_MAX ? (int)size : INT_MAX);
	if (got > 0)
		return got;
	errno = tls_errno(link->tls, (int)got);
	return errno ? -1 : 0;
}

ssize_t ldap_link_read(struct ldap_link *link, void *bytes, size_t size)
{
	ssize_t got;

	if (link->received > LDAP_SIZE_MAX + OVERHEAD) {
		link->code = errno = EFBIG;
		return -1;
	}
	got = receive(link, bytes, size);
	if (got > 0) {
		link->received += (size_t)got;
		link->lately += (size_t)got;
	}
	link->ended |= got == 0;
	if (got < 0 && errno != EWOULDBLOCK)
		link->code = errno;
	return got;
}

ssize_t ldap_link_write(struct ldap_link *link, const void *bytes, size_t size)
{
	ssize_t sent;

	do {
		ERR_clear_error();
		sent = link->tls ? SSL_write(link->tls, bytes, size < INT_MAX ? (int)size : INT_MAX)
		                 : send(link->fd, bytes, size, MSG_NOSIGNAL);
		if (link->tls && sent <= 0) {
			errno = tls_errno(link->tls, (int)sent);
			sent = -1;
		}
	} while (sent < 0 && (errno == EINTR || errno == EWOULDBLOCK) &&
	         await(link->fd, POLLOUT, link->end));
	if (sent < 0)
		link->code = errno ? errno : EPIPE;
	return sent;
}

int ldap_link_check(struct ldap_link *link, const char *url, struct error *err)
{
	time_t now = seconds();
	bool slow = now >= link->end;

	if (link->code == EFBIG)
		return error_set(err, -EFBIG, "%.200s sends more than %u bytes", url,
		                 LDAP_SIZE_MAX);
	if (link->ended)
		return error_set(err, -EIO, "%.200s closes the connection without an answer", url);
	if (link->code)
		return error_set(err, -link->code, "the connection to %.200s failed: %s", url,
		                 strerror(link->code));
	if (now - link->since >= link->patience) {
		slow |= link->lately < (size_t)(PACE * link->patience);
		link->since = now;
		link->lately = 0;
	}
	if (slow && link->received)
		return error_set(err, -ETIMEDOUT, "%.200s answers too slowly", url);
	return slow ? error_set(err, -ETIMEDOUT, "%.200s does not answer in time", url) : 0;
}
