#include "enroll/cmp_transaction.h"

#include "enroll/cmp_answer.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <string.h>

void cmp_message_clear(struct message *message)
{
	OPENSSL_free(message->der);
	*message = (struct message){ 0 };
}

void cmp_transaction_clear(struct transaction *t)
{
	cmp_client_clear(&t->client);
	cmp_message_clear(&t->answers[0]);
	cmp_message_clear(&t->answers[1]);
	cmp_message_clear(&t->last);
	record_free(t->kept);
}

struct record *cmp_resume_write(const struct transaction *t)
{
	struct record *resume = record_new();

	if (!resume)
		return NULL;
	record_add_number(resume, "resume-type", t->type);
	record_add_bytes(resume, "resume-transaction", t->id, sizeof t->id);
	record_add_number(resume, "resume-open", t->open);
	record_add(resume, "resume-anew", t->anew ? "yes" : "no");
	for (size_t i = 0; i < COUNT(t->answers) && t->answers[i].der; i++)
		record_add_bytes(resume, "resume-answer", t->answers[i].der, t->answers[i].length);
	record_append(resume, t->kept);
	return resume;
}

void cmp_leave(struct transaction *t)
{
	struct record *resume = t->sent == RR ? NULL : cmp_resume_write(t);

	if (resume)
		record_append(t->job->result, resume);
	record_free(resume);
}

int cmp_checkpoint(struct transaction *t, struct error *err)
{
	struct record *resume = cmp_resume_write(t);
	int r = resume ? job_checkpoint(t->job, resume, err)
	               : error_set(err, -ENOMEM, "out of memory");

	record_free(resume);
	return r;
}

int cmp_keep_told(struct transaction *t)
{
	static const char *const keys[] = { "resume-told", "resume-told-by", "resume-template" };
	const struct field *field;

	t->kept = record_new();
	for (size_t i = 0; t->kept && i < COUNT(keys); i++)
		for (size_t index = 0;
		     (field = record_next(t->job->settings, keys[i], &index)) != NULL;)
			record_add_bytes(t->kept, keys[i], field->value, field->length);
	return t->kept && !record_failed(t->kept) ? 0 : -ENOMEM;
}

int cmp_read_template(const struct transaction *t, struct cmp_template *template, struct error *err)
{
	const struct field *field = record_find(t->kept, "resume-template");

	return field ? cmp_told_template(field->value, field->length, template, err) : 0;
}

bool cmp_resume_read(struct transaction *t, int type)
{
	const struct record *settings = t->job->settings;
	const struct field *id = record_find(settings, "resume-transaction"), *answer;
	size_t index = 0;

	t->anew = record_is(settings, "resume-anew", "yes");
	if (!id || id->length != ID_LENGTH || record_number(settings, "resume-type", -1) != type)
		return false;
	memcpy(t->id, id->value, ID_LENGTH);
	t->open = t->repeated = (int)record_number(settings, "resume-open", NO_MESSAGE);
	for (size_t i = 0; i < COUNT(t->answers) &&
	                   (answer = record_next(settings, "resume-answer", &index)) != NULL;
	     i++) {
		t->answers[i].der = OPENSSL_memdup(answer->value, answer->length);
		t->answers[i].length = answer->length;
	}
	return true;
}

void cmp_keep_last(struct transaction *t)
{
	OSSL_CMP_MSG *message = t->last.der ? cmp_message_read(t->last.der, t->last.length) : NULL;
	bool poll = message && OSSL_CMP_MSG_get_bodytype(message) == POLL_REP;

	if (!message)
		return;
	cmp_message_clear(&t->answers[1]);
	if (!poll)
		cmp_message_clear(&t->answers[0]);
	t->answers[poll] = t->last;
	t->last = (struct message){ 0 };
	t->open = NO_MESSAGE;
	record_set(t->job->result, "answered", "yes");
	OSSL_CMP_MSG_free(message);
}
