#include "tests/lab/lab-http.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define REQUEST_MAX (1u << 20)

static int open_listener(int port)
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
static size_t read_request(int fd, char *buffer, size_t *used)
{
	size_t head = 0, body = 0;

	*used = 0;
	while (*used < REQUEST_MAX && (!head || *used < head + body)) {
		ssize_t got = read(fd, buffer + *used, REQUEST_MAX - *used);

		if (got <= 0)
			return 0;
		*used += (size_t)got;
		buffer[*used] = '\0';
		if (!head)
			head = head_length(buffer, &body);
	}
	return *used == head + body ? head : 0;
}

static void send_answer(int fd, const struct lab_answer *answer)
{
	char *bytes = NULL;
	long length = answer->body ? BIO_get_mem_data(answer->body, &bytes) : 0;
	char retry[48] = "";

	if (answer->retry_after)
		snprintf(retry, sizeof retry, "Retry-After: %d\r\n", answer->retry_after);
	dprintf(fd,
	        "HTTP/1.1 %d Lab\r\nContent-Type: %s\r\nContent-Length: %ld\r\n%s"
	        "Connection: close\r\n\r\n",
	        answer->status, answer->type, length, retry);
	while (length > 0) {
		ssize_t sent = write(fd, bytes, (size_t)length);

		if (sent <= 0)
			return;
		bytes += sent;
		length -= sent;
	}
}

static void serve_one(int fd, char *buffer, lab_handler *handler, void *user)
{
	struct timeval patience = { .tv_sec = 5 };
	struct lab_request request = { 0 };
	struct lab_answer answer = { .status = 404, .type = "text/plain" };
	size_t used, head;
	char *target, *end;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	head = read_request(fd, buffer, &used);
	target = head ? strchr(buffer, ' ') : NULL;
	end = target ? strchr(target + 1, ' ') : NULL;
	if (!end)
		return;
	request.body = (unsigned char *)buffer + head;
	request.length = used - head;
	request.post = strncmp(buffer, "POST ", 5) == 0;
	*end = '\0';
	request.target = target + 1;
	handler(&request, &answer, user);
	if (!answer.drop)
		send_answer(fd, &answer);
	BIO_free(answer.body);
}

int lab_http_serve(int port, lab_handler *handler, void *user)
{
	char *buffer = malloc(REQUEST_MAX + 1);
	int listener;

	signal(SIGPIPE, SIG_IGN);
	setlinebuf(stdout); /* whoever has the answer finds the line in the log */
	listener = open_listener(port);
	if (listener < 0 || !buffer) {
		free(buffer);
		return -1;
	}
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0)
			continue;
		serve_one(fd, buffer, handler, user);
		close(fd);
	}
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
