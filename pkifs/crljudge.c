/* A CRL that somebody writes: judged by a worker, while its writer waits. */
#include "pkifs/object.h"
#include "pkifs/secrets.h"
#include "pkifs/work.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct judgement {
	struct judgement *next;
	struct store *store;
	int64_t object;
	uint64_t handle; /* the open file that is written */
	struct crl_files files;
	text_judged *judged;
	void *user;
};

static struct judgement *judgements; /* those under way */

bool crl_is_judged(uint64_t handle)
{
	for (const struct judgement *judgement = judgements; judgement; judgement = judgement->next)
		if (judgement->handle == handle)
			return true;
	return false;
}

static void begin(struct judgement *judgement)
{
	judgement->next = judgements;
	judgements = judgement;
}

static void end(struct judgement *judgement)
{
	struct judgement **at = &judgements;

	while (*at != judgement)
		at = &(*at)->next;
	*at = judgement->next;
}

static void judged(void *user, struct record *result, const char *reason)
{
	struct judgement *judgement = user;
	struct store *store = judgement->store;
	struct error err = { 0 };
	struct object object;
	int r = 0;

	if (!result)
		r = error_set(&err, -EIO, "%s; try again", reason);
	else if (!record_is(result, "outcome", "done"))
		r = error_set(&err, -EINVAL, "%s",
		              record_get(result, "reason") ? record_get(result, "reason") : "");
	if (r == 0)
		r = store_begin(store);
	if (r == 0) {
		r = db_object_get(store->db, judgement->object, &object);
		if (r == 0)
			r = crl_publish(store, &object, &judgement->files, result, "a written file",
			                &err);
		r = store_end(store, r);
	}
	if (r < 0 && !err.code)
		error_set(&err, r, "the CRL cannot be stored: %s", strerror(-r));
	crl_files_drop(store, &judgement->files);
	end(judgement);
	judgement->judged(judgement->user, r, &err);
	record_free(result);
	free(judgement);
}

/* The job: the written body (FD), and where the worker puts DER and index. */
static int give(struct judgement *judgement, const struct blob *ca, int fd)
{
	struct worker_job work = { .record = record_new(),
		                   .received = judged,
		                   .user = judgement,
		                   .fds = { fd, judgement->files.body, judgement->files.index },
		                   .fd_count = 3 };
	int r;

	if (!work.record)
		return -ENOMEM;
	record_add(work.record, "frame", "job");
	record_add(work.record, "job", "0");
	record_add(work.record, "action", "crl-check");
	record_add_number(work.record, "now", store_now(judgement->store));
	r = work_add_der(work.record, "ca", ca);
	if (r < 0) {
		record_free(work.record);
		return r;
	}
	return worker_give(judgement->store, &work) ? 0 : -ENOMEM;
}

int crl_judge(struct store *store, const struct object *object, uint64_t handle, text_judged *done,
              void *user, struct error *err)
{
	struct judgement *judgement = calloc(1, sizeof *judgement);
	struct edition edition = { 0 };
	bool made = false;
	int fd = crl_incoming(store, handle, O_RDONLY);
	int r = fd < 0 ? fd : judgement ? 0 : -ENOMEM;

	if (r == 0)
		r = db_edition_get(store->db, object->edition, &edition);
	if (r == 0 && !edition.certificate.length)
		r = error_set(err, -EINVAL, "profile %s has no CA certificate yet", object->name);
	if (r == 0) {
		*judgement = (struct judgement){ .store = store,
			                         .object = object->id,
			                         .handle = handle,
			                         .judged = done,
			                         .user = user };
		r = crl_files_new(store, &judgement->files);
		made = r == 0;
	}
	if (r == 0)
		r = give(judgement, &edition.certificate, fd);
	if (r == 0)
		begin(judgement);
	edition_clear(&edition);
	if (fd >= 0)
		close(fd);
	if (r < 0) {
		if (!err->code)
			error_set(err, r, "the CRL cannot be judged: %s", strerror(-r));
		if (made)
			crl_files_drop(store, &judgement->files);
		free(judgement);
	}
	return r;
}
