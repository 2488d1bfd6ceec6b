#include "tests/integration/worker/bench.h"

/* cmocka wants these in front of it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

int bench_port;

static struct record *new_key(struct bench *bench, int owner)
{
	struct record *key = keys_generate(&bench->keys, "rsa", 2048, owner);

	record_add_number(key, "owner", owner);
	return key;
}

struct bench *bench_open(void)
{
	struct bench *bench = calloc(1, sizeof *bench);

	assert_non_null(bench);
	strcpy(bench->folder, "/tmp/pkifs-bench-XXXXXX");
	assert_non_null(mkdtemp(bench->folder));
	keys_start(&bench->keys, "0123456789abcdef0123456789abcdef", 32);
	bench->new_key = new_key(bench, 1);
	bench->current_key = new_key(bench, 2);
	return bench;
}

void bench_close(struct bench *bench)
{
	char command[128];

	snprintf(command, sizeof command, "rm -rf '%s'", bench->folder);
	assert_int_equal(system(command), 0);
	record_free(bench->new_key);
	record_free(bench->current_key);
	assert_int_equal(keys_stop(&bench->keys), 0);
	record_free(bench->checkpoint);
	free(bench);
}

/* --- the worker --- */

static _Noreturn void become_worker(int store, int keys)
{
	char path[512];

	snprintf(path, sizeof path, "%s/pkifs-enroll", getenv("PROGRAMS"));
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	store = fcntl(store, F_DUPFD, 100); /* out of the way of 3 and 4 */
	keys = fcntl(keys, F_DUPFD, 100);
	dup2(store, 3);
	dup2(keys, 4);
	close_range(5, ~0U, 0);
	setenv("http_proxy", "http://127.0.0.1:1", 1); /* none of these may matter */
	setenv("SSL_CERT_FILE", "/nonexistent", 1);
	setenv("OPENSSL_CONF", "/nonexistent", 1);
	execl(path, path, "debug", (char *)NULL);
	_exit(127);
}

/* A signing socket with both keys granted. */
static int grant_keys(struct bench *bench)
{
	int fd = keys_grant_new(&bench->keys, "new", bench->new_key,
	                        (int)record_number(bench->new_key, "owner", 0));
	struct record *answer =
		keys_grant(&bench->keys, bench->keys.next_channel - 1, "current",
	                   bench->current_key, (int)record_number(bench->current_key, "owner", 0));

	assert_non_null(answer);
	assert_null(record_get(answer, "error"));
	record_free(answer);
	return fd;
}

void bench_start_worker(struct bench *bench)
{
	int store[2], keys = grant_keys(bench);

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, store), 0);
	bench->worker = fork();
	assert_true(bench->worker >= 0);
	if (bench->worker == 0)
		become_worker(store[1], keys);
	close(store[1]);
	close(keys);
	bench->store = store[0];
}

int bench_end_worker(struct bench *bench)
{
	int status;

	close(bench->store);
	assert_int_equal(waitpid(bench->worker, &status, 0), bench->worker);
	return status;
}

struct record *bench_job(struct bench *bench, struct record *job, const int *fds, size_t count)
{
	struct record *answer = NULL, *go;

	bench->checkpoints = 0;
	assert_int_equal(frame_send(bench->store, job, fds, count), 0);
	for (;;) {
		assert_int_equal(frame_receive(bench->store, &answer, NULL), 0);
		assert_string_equal(record_get(answer, "job"), record_get(job, "job"));
		if (record_is(answer, "frame", "result"))
			break;
		assert_string_equal(record_get(answer, "frame"), "checkpoint");
		record_free(bench->checkpoint);
		bench->checkpoint = answer;
		bench->checkpoints++;
		go = record_new();
		record_add(go, "frame", "go");
		record_add(go, "job", record_get(job, "job"));
		assert_int_equal(frame_send(bench->store, go, NULL, 0), 0);
		record_free(go);
	}
	record_free(job);
	return answer;
}

/* --- servers --- */

/* Below those that the kernel gives to connections, and beside those of the other tests. */
static int free_port(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
		                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	do
		address.sin_port = htons((uint16_t)(30000 + arc4random_uniform(2000)));
	while (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 && errno == EADDRINUSE);
	close(fd);
	return ntohs(address.sin_port);
}

char *bench_serve(struct bench *bench, const char *program, const char *name, const char *variables,
                  const char *options)
{
	char command[1024], line[256] = "", *url;
	FILE *out;

	if (!bench_port)
		bench_port = free_port();
	snprintf(command, sizeof command, "%s/%s/log", bench->folder, name);
	unlink(command); /* what is counted is of this server */
	snprintf(command, sizeof command, "%s '%s/%s' '%s/%s' %d %s", variables, getenv("LAB"),
	         program, bench->folder, name, bench_port, options);
	out = popen(command, "re");
	assert_non_null(out);
	assert_non_null(fgets(line, sizeof line, out));
	assert_int_equal(pclose(out), 0);
	line[strcspn(line, "\n")] = '\0';
	assert_int_equal(strncmp(line, "READY ", 6), 0);
	url = strdup(line + 6);
	assert_non_null(url);
	return url;
}

void bench_stop(struct bench *bench, const char *program, const char *name)
{
	char command[512];

	snprintf(command, sizeof command, "'%s/%s' stop '%s/%s'", getenv("LAB"), program,
	         bench->folder, name);
	assert_int_equal(system(command), 0);
}

unsigned bench_log_count(struct bench *bench, const char *name, const char *start)
{
	char path[256], line[1024];
	unsigned count = 0;
	FILE *log;

	snprintf(path, sizeof path, "%s/%s/log", bench->folder, name);
	log = fopen(path, "re");
	assert_non_null(log);
	while (fgets(line, sizeof line, log))
		if (strncmp(line, start, strlen(start)) == 0)
			count++;
	fclose(log);
	return count;
}
