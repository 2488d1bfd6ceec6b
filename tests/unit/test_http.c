/* enroll/http.c against a server that says what each test wants. */
#include "enroll/http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOW 1800000000 /* Fri, 15 Jan 2027 08:00:00 GMT */

static struct http *http;
static pid_t server;
static int port;

/* --- the server --- */

struct reply {
	const char *path, *text;
};

static const struct reply replies[] = {
	{ "GET /good", "200 OK\r\nContent-Length: 4\r\n\r\nbody" },
	{ "POST /good", "200 OK\r\nContent-Length: 6\r\n\r\nposted" },
	{ "GET /once", "302 Found\r\nLocation: /good\r\nContent-Length: 3\r\n\r\nold" },
	{ "GET /loop", "302 Found\r\nLocation: /loop\r\nContent-Length: 0\r\n\r\n" },
	{ "GET /file", "302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n" },
	{ "POST /away", "307 Away\r\nLocation: http://localhost:1/\r\nContent-Length: 0\r\n\r\n" },
	{ "GET /busy",
	  "503 Busy\r\nRetry-After: 120\r\nContent-Length: 13\r\n\r\ntry\r\n  later\r\n" },
	{ "GET /year", "503 Busy\r\nRetry-After: 31536000\r\nContent-Length: 0\r\n\r\n" },
	{ "GET /minus", "503 Busy\r\nRetry-After: -1\r\nContent-Length: 0\r\n\r\n" },
	{ "GET /date", "503 Busy\r\nRetry-After: Fri, 15 Jan 2027 08:01:40 GMT\r\n"
	               "Content-Length: 0\r\n\r\n" },
	{ "GET /1970", "503 Busy\r\nRetry-After: Thu, 01 Jan 1970 00:00:01 GMT\r\n"
	               "Content-Length: 0\r\n\r\n" },
	{ "GET /words", "503 Busy\r\nRetry-After: soon\r\nContent-Length: 0\r\n\r\n" },
	{ "GET /binary", "500 Oh\r\nContent-Length: 5\r\n\r\n\1\2\3ab" },
	{ "GET /gzip", "200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nbomb" },
};

/* A body without an end, or headers without one. */
static void flood(int fd, const char *head, const char *piece)
{
	dprintf(fd, "HTTP/1.1 200 OK\r\n%s", head);
	while (write(fd, piece, strlen(piece)) > 0)
		;
}

static void answer(int fd)
{
	char request[4096];
	ssize_t got = read(fd, request, sizeof request - 1);

	if (got <= 0)
		return;
	request[got] = '\0';
	for (size_t i = 0; i < COUNT(replies); i++)
		if (strncmp(request, replies[i].path, strlen(replies[i].path)) == 0)
			dprintf(fd, "HTTP/1.1 %s", replies[i].text);
	if (strncmp(request, "GET /endless", 12) == 0)
		flood(fd, "\r\n", "more and more ");
	if (strncmp(request, "GET /headers", 12) == 0)
		flood(fd, "", "X-Header: of no use at all\r\n");
	if (strncmp(request, "GET /seen", 9) == 0)
		dprintf(fd, "HTTP/1.1 200 OK\r\nContent-Length: %zd\r\n\r\n%s", got, request);
}

static _Noreturn void serve(int listener)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	for (;;) {
		int fd = accept(listener, NULL, NULL);

		answer(fd);
		close(fd);
	}
}

static int set_up(void **state)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
		                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof address;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(listen(listener, 16), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
	port = ntohs(address.sin_port);
	server = fork();
	if (server == 0)
		serve(listener);
	close(listener);
	setenv("http_proxy", "http://127.0.0.1:1", 1); /* must not matter */
	http = http_new();
	assert_non_null(http);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	http_free(http);
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	return 0;
}

/* --- requests --- */

static int ask(struct http_request request, const char *path, struct http_answer *got,
               struct error *err)
{
	struct record *job = record_new();
	char url[128];
	int r;

	snprintf(url, sizeof url, "http://user:hidden@127.0.0.1:%d%s", port, path);
	request.url = url;
	record_add_number(job, "now", NOW);
	assert_int_equal(http_begin(http, job, err), 0);
	r = http_do(http, &request, got, err);
	record_free(job);
	return r;
}

static void assert_fails(struct http_request request, const char *path, int code, const char *words)
{
	struct http_answer got;
	struct error err = { 0 };

	assert_int_equal(ask(request, path, &got, &err), code);
	if (!strstr(err.text, words))
		fail_msg("\"%s\" does not say \"%s\"", err.text, words);
	assert_null(strstr(err.text, "hidden"));
	http_answer_clear(&got);
}

static void a_body_comes_whole(void **state)
{
	struct http_request post = { .body = "x", .length = 1, .type = "text/plain" };
	struct http_answer got;

	(void)state;
	assert_int_equal(ask((struct http_request){ 0 }, "/good", &got, NULL), 0);
	assert_int_equal(got.status, 200);
	assert_string_equal(got.body, "body");
	assert_int_equal(got.retry_after, -1);
	http_answer_clear(&got);
	assert_int_equal(ask(post, "/good", &got, NULL), 0);
	assert_string_equal(got.body, "posted");
	http_answer_clear(&got);
}

static void redirects_are_few_and_stay_with_http(void **state)
{
	struct http_request get = { 0 };
	struct http_request post = { .body = "x", .length = 1, .type = "text/plain" };
	struct http_answer got;

	(void)state;
	assert_int_equal(ask(get, "/once", &got, NULL), 0);
	assert_string_equal(got.body, "body");
	http_answer_clear(&got);
	assert_fails(get, "/loop", -ELOOP, "more than 3 redirects");
	assert_fails(get, "/file", -EREMOTEIO, "which is not followed");
	assert_fails(post, "/away", -EREMOTEIO, "to another server");
}

static void a_status_is_told_with_what_the_server_wrote(void **state)
{
	struct http_request get = { 0 };
	char words[128];

	(void)state;
	snprintf(words, sizeof words,
	         "http://127.0.0.1:%d/busy answered with HTTP status 503: try later", port);
	assert_fails(get, "/busy?password=hidden", -EREMOTEIO, words);
	assert_fails(get, "/binary", -EREMOTEIO, "/binary answered with HTTP status 500");
}

static void retry_after_is_bounded(void **state)
{
	static const struct {
		const char *path;
		int seconds;
	} cases[] = { { "/busy", 120 }, { "/year", 86400 }, { "/minus", 0 },
		      { "/date", 100 }, { "/1970", 0 },     { "/words", -1 } };
	struct http_answer got;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		assert_int_equal(ask((struct http_request){ 0 }, cases[i].path, &got, NULL),
		                 -EREMOTEIO);
		assert_int_equal(got.retry_after, cases[i].seconds);
		http_answer_clear(&got);
	}
}

static void endless_answers_are_cut(void **state)
{
	struct http_request get = { .limit = 100000 };

	(void)state;
	assert_fails(get, "/endless", -EFBIG, "sends more than 100000 bytes");
	assert_fails(get, "/headers", -EFBIG, "sends more than");
}

static void compressed_bodies_stay_as_they_are(void **state)
{
	struct http_answer got;

	(void)state;
	assert_int_equal(ask((struct http_request){ 0 }, "/gzip", &got, NULL), 0);
	assert_string_equal(got.body, "bomb");
	http_answer_clear(&got);
	assert_int_equal(ask((struct http_request){ 0 }, "/seen", &got, NULL), 0);
	assert_null(strcasestr((char *)got.body, "Accept-Encoding"));
	assert_non_null(strstr((char *)got.body, "User-Agent: pkifs/" PKIFS_VERSION));
	http_answer_clear(&got);
}

static void a_descriptor_gets_the_body_and_no_error_page(void **state)
{
	struct http_request get = { .fd = memfd_create("body", MFD_CLOEXEC) };
	struct http_answer got;
	char bytes[16] = "";

	(void)state;
	assert_int_equal(ask(get, "/busy", &got, NULL), -EREMOTEIO);
	http_answer_clear(&got);
	assert_int_equal(ask(get, "/once", &got, NULL), 0);
	assert_int_equal(pread(get.fd, bytes, sizeof bytes, 0), 4);
	assert_string_equal(bytes, "body");
	http_answer_clear(&got);
	close(get.fd);
}

static void who_cannot_be_reached_is_named_without_secrets(void **state)
{
	struct http_request get = { .url = "http://user:hidden@127.0.0.1:1/x?y=hidden" };
	struct http_answer got;
	struct error err;

	(void)state;
	assert_int_equal(http_do(http, &get, &got, &err), -EHOSTUNREACH);
	assert_string_equal(err.text, "cannot reach http://127.0.0.1:1/x: Connection refused");
	assert_false(got.sent);
	get.url = "ftp://127.0.0.1/";
	assert_true(http_do(http, &get, &got, &err) < 0);
	get.url = "no url";
	assert_true(http_do(http, &get, &got, &err) < 0);
}

static void urls_keep_their_query_and_escape_what_is_added(void **state)
{
	char *url = http_url_add("http://ca.example/scep?ca=1", "message", "A b+/&");

	(void)state;
	assert_string_equal(url, "http://ca.example/scep?ca=1&message=A%20b%2b%2f%26");
	free(url);
	assert_null(http_url_add("::", "a", "b"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_body_comes_whole),
		cmocka_unit_test(redirects_are_few_and_stay_with_http),
		cmocka_unit_test(a_status_is_told_with_what_the_server_wrote),
		cmocka_unit_test(retry_after_is_bounded),
		cmocka_unit_test(endless_answers_are_cut),
		cmocka_unit_test(compressed_bodies_stay_as_they_are),
		cmocka_unit_test(a_descriptor_gets_the_body_and_no_error_page),
		cmocka_unit_test(who_cannot_be_reached_is_named_without_secrets),
		cmocka_unit_test(urls_keep_their_query_and_escape_what_is_added),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
