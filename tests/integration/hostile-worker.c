/* A worker that was taken over: answers each job with frames that it must not send. */
#include "common/frame.h"

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

int main(void)
{
	struct record *job = NULL;

	while (frame_receive(3, &job, NULL) == 0) {
		long long number = record_number(job, "job", 0);

		say("nonsense", number);
		say("result", number + 1);
		say("result", number);
		say("result", number);
		record_free(job);
	}
	return 0;
}
