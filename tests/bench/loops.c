/*
 * loops [-t SECONDS] [-w MICROSECONDS] KIND:PATH...: a process for each KIND:PATH does that
 * one thing again and again, all at the same time, until SECONDS or SIGTERM: `read` opens, reads
 * and closes a file, `stat` asks for attributes, `miss` for those of a name that is not there,
 * `list` reads a folder, and `write` writes the word `verify` over a file.
 *
 * Prints a line for each: how often, and median, 99th percentile and longest in microseconds, and
 * before it for each call that took longer than MICROSECONDS (-w) a line `wait NUMBER BEGIN
 * LENGTH`, BEGIN by CLOCK_MONOTONIC in microseconds. A call that fails ends its process, and the
 * exit code is 1.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define STEPS        16 /* buckets for each doubling: a time is known to 6 % */
#define BUCKETS      (40 * STEPS)
#define WAITS        4096

struct wait {
	int64_t begin, length;
};

struct loop {
	const char *path;
	int (*once)(const char *path);
	int64_t times, longest;   /* nanoseconds */
	int64_t buckets[BUCKETS]; /* how many calls took so long */
	struct wait waits[WAITS];
	int wait_count;
};

static char buffer[1 << 20];
static volatile sig_atomic_t *stopped; /* of all processes */

static int once_read(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		return -errno;
	got = read(fd, buffer, sizeof buffer);
	close(fd);
	return got < 0 ? -errno : got == 0 ? -ENODATA : 0;
}

static int once_stat(const char *path)
{
	struct stat attributes;

	return stat(path, &attributes) < 0 ? -errno : 0;
}

static int once_miss(const char *path)
{
	int r = once_stat(path);

	return r == -ENOENT ? 0 : r == 0 ? -EEXIST : r;
}

static int once_list(const char *path)
{
	DIR *folder = opendir(path);
	int error;

	if (!folder)
		return -errno;
	errno = 0;
	while (readdir(folder))
		;
	error = errno;
	closedir(folder);
	return -error;
}

static int once_write(const char *path)
{
	static const char text[] = "verify\n";
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC), r = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, sizeof text - 1) < 0)
		r = -errno;
	if (close(fd) < 0)
		r = -errno;
	return r;
}

static const struct {
	const char *name;
	int (*once)(const char *path);
} kinds[] = {
	{ "read", once_read }, { "stat", once_stat },   { "miss", once_miss },
	{ "list", once_list }, { "write", once_write },
};

static int64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* Which bucket a time is in: the place of its highest bit, and the bits below that. */
static size_t bucket_of(int64_t nanoseconds)
{
	size_t high = 0;

	while (nanoseconds >= 2 * STEPS) {
		nanoseconds >>= 1;
		high++;
	}
	high = high * STEPS + (size_t)nanoseconds;
	return high < BUCKETS ? high : BUCKETS - 1;
}

/* The longest time of a bucket. */
static int64_t bucket_end(size_t bucket)
{
	size_t high = bucket / STEPS;

	if (high < 2)
		return (int64_t)bucket + 1;
	return (int64_t)(bucket % STEPS + STEPS + 1) << (high - 1);
}

static void loop_run(struct loop *loop, int64_t end, int64_t limit)
{
	int64_t begin = now();

	while (begin < end && !*stopped) {
		int r = loop->once(loop->path);
		int64_t after = now(), length = after - begin;

		if (r < 0) {
			fprintf(stderr, "%s: %s\n", loop->path, strerror(-r));
			_exit(1);
		}
		loop->times++;
		loop->buckets[bucket_of(length)]++;
		if (length > loop->longest)
			loop->longest = length;
		if (limit && length > limit && loop->wait_count < WAITS)
			loop->waits[loop->wait_count++] = (struct wait){ begin, length };
		begin = after;
	}
}

static double percentile(const struct loop *loop, double share)
{
	int64_t left = (int64_t)((double)loop->times * share);
	size_t bucket = 0;

	while (bucket < BUCKETS - 1 && left >= loop->buckets[bucket])
		left -= loop->buckets[bucket++];
	return (double)bucket_end(bucket) / 1000;
}

static void loop_print(const struct loop *loop, int number)
{
	for (int i = 0; i < loop->wait_count; i++)
		printf("wait %d %lld %lld\n", number, (long long)loop->waits[i].begin / 1000,
		       (long long)loop->waits[i].length / 1000);
	printf("%lld %.1f %.1f %.1f\n", (long long)loop->times, percentile(loop, 0.5),
	       percentile(loop, 0.99), (double)loop->longest / 1000);
}

/* What KIND:PATH asks for; false where there is no such kind. */
static bool loop_read(struct loop *loop, const char *text)
{
	for (size_t i = 0; i < COUNT(kinds); i++) {
		size_t length = strlen(kinds[i].name);

		if (strncmp(text, kinds[i].name, length) == 0 && text[length] == ':') {
			loop->once = kinds[i].once;
			loop->path = text + length + 1;
			return true;
		}
	}
	return false;
}

static int usage(const char *program)
{
	fprintf(stderr, "usage: %s [-t SECONDS] [-w MICROSECONDS] KIND:PATH...\n", program);
	return 2;
}

static void stop(int signal)
{
	(void)signal;
	*stopped = 1;
}

static void *shared_new(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	return memory;
}

/* Runs them all until the time is over; 1 where one of them failed. */
static int run_all(struct loop *loops, int count, double seconds, int64_t limit)
{
	int64_t end = now() + (int64_t)(seconds * 1e9);
	int status, failed = 0;

	for (int i = 0; i < count; i++) {
		pid_t child = fork();

		if (child < 0)
			failed = 1;
		if (child == 0) {
			loop_run(&loops[i], end, limit);
			_exit(0);
		}
	}
	while (wait(&status) > 0)
		failed |= status != 0;
	return failed;
}

int main(int argc, char **argv)
{
	double seconds = 1;
	int64_t limit = 0;
	struct loop *loops;
	int option, count, failed;

	while ((option = getopt(argc, argv, "t:w:")) != -1) {
		if (option == 't')
			seconds = strtod(optarg, NULL);
		else if (option == 'w')
			limit = strtoll(optarg, NULL, 10) * 1000;
		else
			return usage(argv[0]);
	}
	count = argc - optind;
	if (count < 1)
		return usage(argv[0]);
	stopped = shared_new(sizeof *stopped);
	loops = shared_new((size_t)count * sizeof *loops);
	signal(SIGTERM, stop);
	for (int i = 0; i < count; i++)
		if (!loop_read(&loops[i], argv[optind + i]))
			return usage(argv[0]);
	failed = run_all(loops, count, seconds, limit);
	for (int i = 0; i < count; i++)
		loop_print(&loops[i], i);
	return failed;
}
