/*
 * What stands around a worker in a test: the store's end of its socket, the keys
 * process with two keys, servers of tests/lab in a folder of their own. Everything asserts: a test
 * that cannot set its scene fails.
 */
#ifndef BENCH_H
#define BENCH_H

#include "common/frame.h"
#include "tests/unit/keys_client.h"

#include <sys/types.h>

struct bench {
	char folder[64];
	struct keys_client keys;
	struct record *new_key, *current_key; /* as the keys process made them */
	pid_t worker;
	int store;
	struct record *checkpoint; /* the last one of the last job */
	unsigned checkpoints;
};

/* A folder of its own; the keys process with RSA keys new and current. */
struct bench *bench_open(void);
void bench_close(struct bench *bench);

/* Starts pkifs-enroll, with the keys granted as new and current; ends it and returns its status as
 * waitpid(2) gives it. */
void bench_start_worker(struct bench *bench);
int bench_end_worker(struct bench *bench);

/* Sends JOB (which is freed) with COUNT descriptors, keeps its checkpoints, lets it go on; its
 * result, the caller's. */
struct record *bench_job(struct bench *bench, struct record *job, const int *fds, size_t count);

/* Runs LAB/PROGRAM in the folder NAME on a free port; the URL is the caller's (free). OPTIONS
 * is a shell's words; VARIABLES are set before ("RA=one"). */
char *bench_serve(struct bench *bench, const char *program, const char *name, const char *variables,
                  const char *options);
void bench_stop(struct bench *bench, const char *program, const char *name);

/* How many lines of NAME's log begin with START. */
unsigned bench_log_count(struct bench *bench, const char *name, const char *start);

/* The same port again, for a server that comes back. */
extern int bench_port;

#endif
