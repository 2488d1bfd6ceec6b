/*
 * A worker that was taken over: answers each job with what it must not send. The file `manner`
 * beside the program says with what.
 */
#include "common/frame.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void say(const char *frame, long long job)
{
	struct record *record = record_new();

	if (!record)
		_exit(1);
	record_add(record, "frame", frame);
	record_add_number(record, "job", job);
	record_add(record, "outcome", "done");
	frame_send(3, record, NULL, 0);
	record_free(record);
}

static void say_bytes(const char *bytes, size_t length)
{
	if (write(3, bytes, length) < 0)
		_exit(1);
}

static void nonsense(long long job)
{
	say("nonsense", job);
}

static void other_job(long long job)
{
	say("result", job + 1);
}

static void checkpoint_of_other_job(long long job)
{
	say("checkpoint", job + 1);
	say("result", job);
}

static void garbage(long long job)
{
	static const char bytes[] = "\0\0\0\x10 what is no record ";

	(void)job;
	say_bytes(bytes, sizeof bytes);
}

static void two_gib(long long job)
{
	(void)job;
	say_bytes("\x80\0\0\0 and so on", 13);
}

static void half(long long job)
{
	(void)job;
	say_bytes("\0\0\1\0 not all of it", 18);
	_exit(0);
}

static const struct {
	const char *name;
	void (*answer)(long long job);
} manners[] = {
	{ "nonsense", nonsense },
	{ "other-job", other_job },
	{ "checkpoint", checkpoint_of_other_job },
	{ "garbage", garbage },
	{ "two-gib", two_gib },
	{ "half", half },
};

static void read_manner(char *manner, size_t size)
{
	char path[4096];
	ssize_t length = readlink("/proc/self/exe", path, sizeof path - 16);
	FILE *file;

	if (length < 0)
		_exit(1);
	path[length] = 0;
	strcpy(strrchr(path, '/'), "/manner");
	file = fopen(path, "r");
	if (!file || !fgets(manner, (int)size, file))
		_exit(1);
	fclose(file);
}

int main(void)
{
	struct record *job = NULL;
	char manner[32];

	read_manner(manner, sizeof manner);
	while (frame_receive(3, &job, NULL) == 0) {
		for (size_t i = 0; i < sizeof manners / sizeof *manners; i++)
			if (strcmp(manners[i].name, manner) == 0)
				manners[i].answer(record_number(job, "job", 0));
		record_free(job);
	}
	return 0;
}
