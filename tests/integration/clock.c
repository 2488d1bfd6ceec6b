/*
 * The clock of the test's own programs: the machine's, and as many seconds as the file `clock`
 * beside the program says (a number of 64 bits; changed while they run). A second number, where
 * there is one, says whether something has synchronised it.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *numbers(void)
{
	static const volatile int64_t *shown;
	static const int64_t none[2];
	char path[4096];
	ssize_t length;
	int fd;

	if (shown)
		return shown;
	shown = none;
	length = readlink("/proc/self/exe", path, sizeof path - 16);
	if (length < 0)
		return shown;
	path[length] = 0;
	strcpy(strrchr(path, '/'), "/clock");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return shown;
	void *bytes = mmap(NULL, sizeof none, PROT_READ, MAP_SHARED, fd, 0);
	if (bytes != MAP_FAILED)
		shown = bytes;
	close(fd);
	return shown;
}

/* A worker can open nothing later. */
__attribute__((constructor)) static void begin(void)
{
	numbers();
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
	int r = (int)syscall(SYS_clock_gettime, clock, time);

	if (r == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		time->tv_sec += numbers()[0];
	return r;
}

time_t time(time_t *to)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (to)
		*to = now.tv_sec;
	return now.tv_sec;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone)
{
	struct timespec now;

	(void)zone;
	clock_gettime(CLOCK_REALTIME, &now);
	time->tv_sec = now.tv_sec;
	time->tv_usec = now.tv_nsec / 1000;
	return 0;
}

int adjtimex(struct timex *timex)
{
	int r = (int)syscall(SYS_adjtimex, timex);

	if (r < 0)
		return r;
	timex->status = numbers()[1] ? 0 : STA_UNSYNC;
	return numbers()[1] ? TIME_OK : TIME_ERROR;
}
