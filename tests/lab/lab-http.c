#include "tests/lab/lab-http.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

int lab_http_listen(int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
		                       .sin_port = htons((uint16_t)port),
		                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof address;
	int one = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
	    bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 64) < 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &length) < 0) {
		perror("listen");
		return -1;
	}
	printf("port %d\n", ntohs(address.sin_port));
	return fd;
}

/* Where the head ends and how long the body is to be; 0 while the head is not complete. */
static size_t head_length(const char *text, size_t *body)
{
	const char *end = strstr(text, "\r\n\r\n");
	const char *header;

	if (!end)
		return 0;
	header = strcasestr(text, "\r\nContent-Length:");
	*body = header && header < end ? strtoul(header + 17, NULL, 10) : 0;
	return (size_t)(end + 4 - text);
}

/* Reads one request into BUFFER; the length of its head, or 0. */
static size_t read_request(BIO *io, char *buffer, size_t *used)
{
	size_t head = 0, body = 0;

	*used = 0;
	while (*used < LAB_REQUEST_MAX && (!head || *used < head + body)) {
		int got = BIO_read(io, buffer + *used, (int)(LAB_REQUEST_MAX - *used));

		if (got <= 0)
			return 0;
		*used += (size_t)got;
		buffer[*used] = '\0';
		if (!head)
			head = head_length(buffer, &body);
	}
	return *used == head + body ? head : 0;
}

/* In one write: a second one would wait for the client's acknowledgement. */
static bool send_answer(BIO *io, const struct lab_answer *answer, bool keep)
{
	BIO *whole = BIO_new(BIO_s_mem());
	char *bytes = NULL;
	long length = answer->body ? BIO_get_mem_data(answer->body, &bytes) : 0;

	BIO_printf(whole, "HTTP/1.1 %d Lab\r\n", answer->status);
	if (answer->type)
		BIO_printf(whole, "Content-Type: %s\r\n", answer->type);
	if (answer->chunked)
		BIO_puts(whole, "Transfer-Encoding: chunked\r\n");
	else
		BIO_printf(whole, "Content-Length: %ld\r\n", length);
	if (answer->retry_after)
		BIO_printf(whole, "Retry-After: %d\r\n", answer->retry_after);
	BIO_printf(whole, "%s%s\r\n", answer->header ? answer->header : "",
	           keep ? "" : "Connection: close\r\n");
	for (long at = 0, size = answer->chunked ? 100 : length; at < length; at += size) {
		if (size > length - at)
			size = length - at;
		if (answer->chunked)
			BIO_printf(whole, "%lx\r\n", size);
		BIO_write(whole, bytes + at, (int)size);
		if (answer->chunked)
			BIO_puts(whole, "\r\n");
	}
	if (answer->chunked)
		BIO_puts(whole, "0\r\n\r\n");
	length = BIO_get_mem_data(whole, &bytes);
	while (length > 0) {
		int sent = BIO_write(io, bytes, (int)length);

		if (sent <= 0)
			break;
		bytes += sent;
		length -= sent;
	}
	BIO_free(whole);
	return length == 0;
}

bool lab_http_exchange(BIO *io, SSL *tls, char *buffer, lab_handler *handler, void *user)
{
	struct lab_request request = { .tls = tls };
	struct lab_answer answer = { .status = 404, .type = "text/plain" };
	size_t used, head = read_request(io, buffer, &used);
	char *target = head ? strchr(buffer, ' ') : NULL;
	char *end = target ? strchr(target + 1, ' ') : NULL;
	bool whole;

	if (!end)
		return false;
	request.body = (unsigned char *)buffer + head;
	request.length = used - head;
	request.post = strncmp(buffer, "POST ", 5) == 0;
	*end = '\0';
	request.target = target + 1;
	request.head = end + 1;
	handler(&request, &answer, user);
	whole = !answer.drop && send_answer(io, &answer, tls != NULL);
	BIO_free(answer.body);
	return whole;
}

int lab_http_serve(int port, lab_handler *handler, void *user)
{
	struct timeval patience = { .tv_sec = 5 };
	char *buffer = malloc(LAB_REQUEST_MAX + 1);
	int listener;

	signal(SIGPIPE, SIG_IGN);
	setlinebuf(stdout); /* whoever has the answer finds the line in the log */
	listener = lab_http_listen(port);
	if (listener < 0 || !buffer) {
		free(buffer);
		return -1;
	}
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		BIO *io = fd < 0 ? NULL : BIO_new_socket(fd, BIO_CLOSE);

		if (!io)
			continue;
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
		lab_http_exchange(io, NULL, buffer, handler, user);
		BIO_free(io);
	}
}

char *lab_header(const char *head, const char *name)
{
	const char *end = strstr(head, "\r\n\r\n"), *at = head;
	size_t length = strlen(name);

	while ((at = strstr(at, "\r\n")) && at < end) {
		at += 2;
		if (strncasecmp(at, name, length) == 0 && at[length] == ':') {
			at += length + 1;
			at += strspn(at, " ");
			return strndup(at, strcspn(at, "\r"));
		}
	}
	return NULL;
}

static int hex_digit(char c)
{
	const char *digits = "0123456789abcdef";
	const char *found = c ? strchr(digits, c | 0x20) : NULL;

	return found ? (int)(found - digits) : -1;
}

char *lab_query(const char *target, const char *name)
{
	const char *at = strchr(target, '?');
	size_t length = strlen(name);
	char *value, *to;

	while (at && (strncmp(at + 1, name, length) != 0 || at[1 + length] != '='))
		at = strchr(at + 1, '&');
	if (!at)
		return NULL;
	at += length + 2;
	to = value = malloc(strlen(at) + 1);
	for (; value && *at && *at != '&'; at++) {
		if (*at == '%' && hex_digit(at[1]) >= 0 && hex_digit(at[2]) >= 0) {
			*to++ = (char)(hex_digit(at[1]) << 4 | hex_digit(at[2]));
			at += 2;
		} else {
			*to++ = *at == '+' ? ' ' : *at;
		}
	}
	if (value)
		*to = '\0';
	return value;
}
