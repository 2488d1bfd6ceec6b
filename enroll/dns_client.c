#include "enroll/dns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PORT           53
#define ANSWER_SECONDS 10  /* from the connection to the end of an answer */
#define FUDGE          300 /* seconds that clocks may differ (RFC 8945 §10) */

/* Fields of a TSIG record, and what its error says (RFC 8945 §5.2). */
enum { TSIG_MAC = 3, TSIG_ERROR = 5 };
enum { TSIG_BADSIG = 16, TSIG_BADKEY = 17, TSIG_BADTIME = 18 };

/* --- who is asked --- */

static int read_address(const char *text, struct dns_server *server)
{
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)&server->address;
	struct sockaddr_in *four = (struct sockaddr_in *)&server->address;
	const char *colon = strrchr(text, ':');
	char address[INET6_ADDRSTRLEN];
	bool whole = !colon || (*text != '[' && strchr(text, ':') != colon);
	in_port_t port = htons(whole ? PORT : (in_port_t)strtoul(colon + 1, NULL, 10));
	bool bracketed = *text == '[';
	size_t length = (whole ? strlen(text) : (size_t)(colon - text)) - 2 * bracketed;

	if (length >= sizeof address)
		return -EINVAL;
	memcpy(address, text + bracketed, length);
	address[length] = '\0';
	if (inet_pton(AF_INET, address, &four->sin_addr) == 1) {
		four->sin_family = AF_INET;
		four->sin_port = port;
		server->length = sizeof *four;
	} else if (inet_pton(AF_INET6, address, &six->sin6_addr) == 1) {
		six->sin6_family = AF_INET6;
		six->sin6_port = port;
		server->length = sizeof *six;
	} else {
		return -EINVAL;
	}
	return 0;
}

static int read_tsig(const char *tsig, struct dns_server *server)
{
	const char *algorithm = strchr(tsig, ':');
	const char *secret = algorithm ? strchr(algorithm + 1, ':') : NULL;

	if (!secret)
		return -EINVAL;
	server->key = strndup(tsig, (size_t)(algorithm - tsig));
	/* libldns knows algorithms by their names with the final dot, the secret as base64 */
	if (asprintf(&server->algorithm, "%.*s%s", (int)(secret - algorithm - 1), algorithm + 1,
	             secret[-1] == '.' ? "" : ".") < 0)
		server->algorithm = NULL;
	server->secret = strdup(secret + 1);
	return server->key && server->algorithm && server->secret ? 0 : -ENOMEM;
}

int dns_server_read(const char *text, const char *tsig, struct dns_server *server,
                    struct error *err)
{
	int r;

	*server = (struct dns_server){ 0 };
	snprintf(server->title, sizeof server->title, "the name server %s", text);
	r = read_address(text, server);
	if (r < 0)
		return error_set(err, r, "\"%.80s\" is no address of a name server", text);
	r = tsig ? read_tsig(tsig, server) : 0;
	return r < 0 ? error_set(err, r, "the TSIG key is not NAME:ALGORITHM:BASE64") : 0;
}

void dns_server_clear(struct dns_server *server)
{
	free(server->key);
	free(server->algorithm);
	if (server->secret)
		OPENSSL_cleanse(server->secret, strlen(server->secret));
	free(server->secret);
}

/* --- one message and its answer --- */

static time_t seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

static int connect_to(const struct dns_server *server, struct error *err)
{
	struct timeval limit = { .tv_sec = ANSWER_SECONDS };
	int fd = socket(server->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int code;

	if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0 &&
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0 &&
	    connect(fd, (const struct sockaddr *)&server->address, server->length) == 0)
		return fd;
	code = errno == EINPROGRESS ? ETIMEDOUT : errno;
	if (fd >= 0)
		close(fd);
	return error_set(err, -code, "%s is not reached by TCP: %s", server->title, strerror(code));
}

/* SIZE bytes to come until END, however small the pieces. */
static int receive(int fd, unsigned char *bytes, size_t size, time_t end)
{
	while (size) {
		ssize_t got = recv(fd, bytes, size, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got == 0)
			return -ECONNRESET;
		if (got < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		bytes += got;
		size -= (size_t)got;
		if (size && seconds() >= end)
			return -ETIMEDOUT;
	}
	return 0;
}

static int send_all(int fd, const unsigned char *bytes, size_t size)
{
	while (size) {
		ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		bytes += sent;
		size -= (size_t)sent;
	}
	return 0;
}

/* QUESTION's SIZE bytes to SERVER, what comes back into *BYTES, the caller's. */
static int transfer(const struct dns_server *server, const uint8_t *question, size_t size,
                    uint8_t **bytes, size_t *length, struct error *err)
{
	unsigned char prefix[2] = { (unsigned char)(size >> 8), (unsigned char)size };
	time_t end = seconds() + ANSWER_SECONDS;
	int fd = connect_to(server, err), r;

	if (fd < 0)
		return fd;
	r = send_all(fd, prefix, sizeof prefix);
	if (r == 0)
		r = send_all(fd, question, size);
	if (r == 0)
		r = receive(fd, prefix, sizeof prefix, end);
	if (r == 0) {
		*length = (size_t)prefix[0] << 8 | prefix[1];
		*bytes = malloc(*length + 1);
		r = *bytes ? receive(fd, *bytes, *length, end) : -ENOMEM;
	}
	close(fd);
	return r < 0 ? error_set(err, r, "%s does not answer: %s", server->title, strerror(-r)) : 0;
}

/* Sends QUESTION; the answer, and its bytes for the signature, are the caller's. */
static int exchange(const struct dns_server *server, const ldns_pkt *question, ldns_pkt **answer,
                    uint8_t **bytes, size_t *length, struct error *err)
{
	uint8_t *wire = NULL;
	size_t size;
	int r;

	if (ldns_pkt2wire(&wire, question, &size) != LDNS_STATUS_OK || size > UINT16_MAX)
		r = error_set(err, -EINVAL, "what is to be said to %s fits no message",
		              server->title);
	else
		r = transfer(server, wire, size, bytes, length, err);
	LDNS_FREE(wire);
	if (r == 0 && (ldns_wire2pkt(answer, *bytes, *length) != LDNS_STATUS_OK ||
	               !ldns_pkt_qr(*answer) || ldns_pkt_id(*answer) != ldns_pkt_id(question) ||
	               ldns_pkt_get_opcode(*answer) != ldns_pkt_get_opcode(question)))
		r = error_set(err, -EBADMSG, "%s answers with what is no answer", server->title);
	return r;
}

int dns_ask(const struct dns_server *server, const ldns_rdf *name, ldns_rr_type type,
            ldns_pkt **answer, struct error *err)
{
	ldns_pkt *question = ldns_pkt_query_new(ldns_rdf_clone(name), type, LDNS_RR_CLASS_IN, 0);
	uint8_t *bytes = NULL;
	size_t length;
	int r = question ? 0 : error_set(err, -ENOMEM, "no memory");

	*answer = NULL;
	if (r == 0) {
		ldns_pkt_set_random_id(question);
		r = exchange(server, question, answer, &bytes, &length, err);
	}
	if (r < 0) {
		ldns_pkt_free(*answer);
		*answer = NULL;
	}
	ldns_pkt_free(question);
	free(bytes);
	return r;
}

/* --- updates --- */

static unsigned tsig_error(const ldns_pkt *answer)
{
	const ldns_rr *tsig = ldns_pkt_tsig(answer);
	const ldns_rdf *code = tsig ? ldns_rr_rdf(tsig, TSIG_ERROR) : NULL;

	return code && ldns_rdf_get_type(code) == LDNS_RDF_TYPE_INT16 ? ldns_rdf2native_int16(code)
	                                                              : 0;
}

/* Why SERVER does not do it. */
static int refused(const struct dns_server *server, const char *zone, const ldns_pkt *answer,
                   struct error *err)
{
	ldns_pkt_rcode code = ldns_pkt_get_rcode(answer);
	char *name = ldns_pkt_rcode2str(code);
	const char *key = server->key ? server->key : "(none)";

	if (tsig_error(answer) == TSIG_BADKEY)
		error_set(err, -EREMOTEIO,
		          "%s does not know the TSIG key %s, or not as %s (BADKEY)", server->title,
		          key, server->algorithm ? server->algorithm : "");
	else if (tsig_error(answer) == TSIG_BADSIG)
		error_set(err, -EREMOTEIO, "%s knows the TSIG key %s with another secret (BADSIG)",
		          server->title, key);
	else if (tsig_error(answer) == TSIG_BADTIME)
		error_set(err, -EREMOTEIO,
		          "the clock of %s and the one here differ by more than %d seconds "
		          "(BADTIME)",
		          server->title, FUDGE);
	else if (code == LDNS_RCODE_REFUSED && !server->key)
		error_set(err, -EREMOTEIO,
		          "%s refuses to change the zone %s; acme-dns-tsig is not set (REFUSED)",
		          server->title, zone);
	else if (code == LDNS_RCODE_REFUSED)
		error_set(err, -EREMOTEIO,
		          "%s does not let the TSIG key %s change the zone %s (REFUSED)",
		          server->title, key, zone);
	else if (code == LDNS_RCODE_NOTAUTH)
		error_set(err, -EREMOTEIO, "%s takes no changes of the zone %s (NOTAUTH)",
		          server->title, zone);
	else
		error_set(err, -EREMOTEIO, "%s does not change the zone %s: %s", server->title,
		          zone, name ? name : "it does not say why");
	LDNS_FREE(name);
	return err->code;
}

/* ANSWER is what SERVER says to QUESTION, and nobody else. */
static bool is_signed(const struct dns_server *server, const ldns_pkt *question, ldns_pkt *answer,
                      const uint8_t *bytes, size_t length)
{
	return !server->key ||
	       (ldns_pkt_tsig(answer) &&
	        ldns_pkt_tsig_verify(answer, bytes, length, server->key, server->secret,
	                             ldns_rr_rdf(ldns_pkt_tsig(question), TSIG_MAC)));
}

static int sign(const struct dns_server *server, ldns_pkt *question, struct error *err)
{
	ldns_status status;

	if (!server->key)
		return 0;
	status = ldns_pkt_tsig_sign(question, server->key, server->secret, FUDGE, server->algorithm,
	                            NULL);
	return status == LDNS_STATUS_OK ? 0
	                                : error_set(err, -EINVAL, "the TSIG key %s cannot sign: %s",
	                                            server->key, ldns_get_errorstr_by_id(status));
}

int dns_update(const struct dns_server *server, const ldns_rdf *zone, const ldns_rr_list *changes,
               struct error *err)
{
	ldns_pkt *question, *answer = NULL;
	char *name = ldns_rdf2str(zone);
	uint8_t *bytes = NULL;
	size_t length;
	int r;

	question = ldns_update_pkt_new(ldns_rdf_clone(zone), LDNS_RR_CLASS_IN, NULL, changes, NULL);
	if (!question || !name) {
		r = error_set(err, -ENOMEM, "no memory");
		goto out;
	}
	ldns_pkt_set_random_id(question);
	r = sign(server, question, err);
	if (r == 0)
		r = exchange(server, question, &answer, &bytes, &length, err);
	if (r == 0 && ldns_pkt_get_rcode(answer) != LDNS_RCODE_NOERROR)
		r = refused(server, name, answer, err);
	else if (r == 0 && !is_signed(server, question, answer, bytes, length))
		r = error_set(err, -EBADMSG, "%s answers, but not signed by the TSIG key %s",
		              server->title, server->key);
out:
	ldns_pkt_free(question);
	ldns_pkt_free(answer);
	LDNS_FREE(name);
	free(bytes);
	return r;
}
