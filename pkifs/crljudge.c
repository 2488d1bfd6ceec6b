/*
 * CRLs that somebody writes: each is read by a worker, while the writer waits; then all are taken,
 * or none.
 */
#include "common/log.h"
#include "common/x509.h"
#include "pkifs/crl.h"
#include "pkifs/secrets.h"
#include "pkifs/work.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEXT_CRLS_MAX 64

/* One of the CRLs of the text. */
struct part {
	struct crl_files files;
	struct record *result;
};

struct judgement {
	struct judgement *next;
	struct store *store;
	int64_t object;
	uint64_t handle; /* the open file that is written */
	int text;
	char source[256];
	struct part parts[TEXT_CRLS_MAX];
	size_t count; /* of those that were begun */
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

static void judgement_free(struct judgement *judgement)
{
	if (!judgement)
		return;
	for (size_t i = 0; i < judgement->count; i++) {
		crl_files_drop(judgement->store, &judgement->parts[i].files);
		record_free(judgement->parts[i].result);
	}
	if (judgement->text >= 0)
		close(judgement->text);
	free(judgement);
}

/* The certificates that stand in the text. */
static int read_beside(const struct judgement *judgement, STACK_OF(X509) * beside)
{
	const struct field *field;
	size_t index = 0;

	/* each part's result has all of them */
	while ((field = record_next(judgement->parts[0].result, "certificate", &index))) {
		X509 *certificate = certificate_from_der(field->value, field->length, NULL);

		if (!certificate || !sk_X509_push(beside, certificate)) {
			X509_free(certificate);
			return certificate ? -ENOMEM : -EINVAL;
		}
	}
	return 0;
}

static int take_all(struct judgement *judgement, struct error *err)
{
	struct crl_arrival arrival = { .source = judgement->source, .beside = sk_X509_new_null() };
	struct store *store = judgement->store;
	int r = arrival.beside ? read_beside(judgement, arrival.beside) : -ENOMEM;

	for (size_t i = 0; r == 0 && i < judgement->count; i++) {
		struct object object; /* its edition may be another one with each CRL */

		arrival.files = &judgement->parts[i].files;
		arrival.result = judgement->parts[i].result;
		r = db_object_get(store->db, judgement->object, &object);
		if (r == 0)
			r = crl_arrive(store, &object, &arrival, NULL, err);
	}
	sk_X509_pop_free(arrival.beside, X509_free);
	return r;
}

static void finish(struct judgement *judgement, int r, struct error *err)
{
	struct store *store = judgement->store;

	if (r == 0)
		r = store_begin(store);
	if (r == 0)
		r = store_end(store, take_all(judgement, err));
	if (r < 0 && !err->code)
		error_set(err, r, "the CRL cannot be stored: %s", strerror(-r));
	end(judgement);
	judgement->judged(judgement->user, r, err);
	judgement_free(judgement);
}

static int give(struct judgement *judgement);

/* The worker has read one; or has not. */
static void received(void *user, struct record *result, const char *reason)
{
	struct judgement *judgement = user;
	struct part *part = &judgement->parts[judgement->count - 1];
	struct error err = { 0 };
	int r = 0;

	part->result = result;
	if (!result)
		r = error_set(&err, -EIO, "%s; try again", reason);
	else if (!record_is(result, "outcome", "done"))
		r = error_set(&err, -EINVAL, "%s",
		              record_get(result, "reason") ? record_get(result, "reason") : "");
	else if (record_number(result, "crls", 0) > TEXT_CRLS_MAX)
		r = error_set(&err, -EINVAL, "the text has more than %d CRLs", TEXT_CRLS_MAX);
	else if (record_number(result, "crls", 0) > (long long)judgement->count) {
		r = give(judgement);
		if (r == 0)
			return;
	}
	finish(judgement, r, &err);
}

static int add_settings(const struct judgement *judgement, struct record *record)
{
	struct store *store = judgement->store;
	struct edition edition = { 0 };
	struct object object;
	int r = db_object_get(store->db, judgement->object, &object);

	record_add(record, "frame", "job");
	record_add(record, "job", "0");
	record_add(record, "action", "crl-check");
	record_add_number(record, "now", store_now(store));
	record_add_number(record, "number", (long long)judgement->count - 1);
	if (r == 0)
		r = db_edition_get(store->db, object.edition, &edition);
	if (r == 0)
		r = work_add_der(record, "ca", &edition.certificate);
	if (r == 0)
		r = crl_add_signers(&edition, record);
	edition_clear(&edition);
	return r;
}

/* The job for the next one: the written text, and where the worker puts DER and index. */
static int give(struct judgement *judgement)
{
	struct part *part = &judgement->parts[judgement->count];
	struct worker_job work = { .received = received, .user = judgement };
	int r = crl_files_new(judgement->store, &part->files);

	if (r < 0)
		return r;
	judgement->count++;
	work.record = record_new();
	r = work.record ? add_settings(judgement, work.record) : -ENOMEM;
	work.fds[0] = judgement->text;
	work.fds[1] = part->files.body;
	work.fds[2] = part->files.index;
	work.fds[3] = part->files.scratch;
	work.fd_count = 4;
	if (r < 0) {
		record_free(work.record);
		return r;
	}
	if (!worker_give(judgement->store, &work))
		return -ENOMEM;
	crl_files_given(&part->files);
	return 0;
}

int crl_judge(struct store *store, const struct object *object, uint64_t handle, text_judged *done,
              void *user, struct error *err)
{
	struct judgement *judgement = calloc(1, sizeof *judgement);
	struct edition edition = { 0 };
	int r = judgement ? 0 : -ENOMEM;

	if (r == 0) {
		*judgement = (struct judgement){ .store = store,
			                         .object = object->id,
			                         .handle = handle,
			                         .judged = done,
			                         .user = user };
		snprintf(judgement->source, sizeof judgement->source, "a written file");
		judgement->text = crl_incoming(store, handle, O_RDONLY);
		r = judgement->text < 0 ? judgement->text : 0;
	}
	if (r == 0)
		r = db_edition_get(store->db, object->edition, &edition);
	if (r == 0 && !edition.certificate.length)
		r = error_set(err, -EINVAL, "profile %s has no CA certificate yet", object->name);
	if (r == 0)
		r = give(judgement);
	if (r == 0)
		begin(judgement);
	edition_clear(&edition);
	if (r < 0) {
		if (!err->code)
			error_set(err, r, "the CRL cannot be judged: %s", strerror(-r));
		judgement_free(judgement);
	}
	return r;
}

/* --- CRLs from before there were stubs --- */

static void read_again(void *user, int code, const struct error *err)
{
	(void)user;
	if (code < 0)
		log_warning("a CRL of an older version cannot be read: %s", err->text);
}

static int judge_again(struct store *store, int64_t profile, const struct crl *crl)
{
	struct judgement *judgement = calloc(1, sizeof *judgement);
	int r;

	if (!judgement)
		return -ENOMEM;
	*judgement = (struct judgement){
		.store = store, .object = profile, .handle = UINT64_MAX, .judged = read_again
	};
	snprintf(judgement->source, sizeof judgement->source, "%s", crl->source);
	judgement->text = crl_open(store, crl->file, false);
	r = judgement->text < 0 ? judgement->text : give(judgement);
	if (r == 0)
		begin(judgement);
	else
		judgement_free(judgement);
	return r;
}

void crl_read_again(struct store *store)
{
	struct object profile = { 0 };
	struct edition edition;
	struct crl crl;

	while (db_object_next(store->db, KIND_CA, profile.id, &profile) == 0) {
		if (db_edition_get(store->db, profile.edition, &edition) < 0)
			continue;
		if (edition.crl && db_crl_get(store->db, edition.crl, &crl) == 0 && !*crl.slot)
			judge_again(store, profile.id, &crl);
		edition_clear(&edition);
	}
}
