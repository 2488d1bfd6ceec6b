#include "pkifs/verify.h"

#include "common/log.h"
#include "common/x509.h"
#include "pkifs/content.h"
#include "pkifs/object.h"
#include "pkifs/sources.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- the text --- */

void verify_question_clear(struct verify_question *question)
{
	record_free(question->settings);
	sk_X509_pop_free(question->certificates, X509_free);
	sk_ASN1_OBJECT_pop_free(question->policies, ASN1_OBJECT_free);
	*question = (struct verify_question){ 0 };
}

static int read_policies(struct verify_question *question, struct error *err)
{
	const struct field *field;

	question->policies = sk_ASN1_OBJECT_new_null();
	for (size_t i = 0; (field = record_next(question->settings, "policy", &i));) {
		ASN1_OBJECT *policy = OBJ_txt2obj(field->value, 1);

		if (!policy || !sk_ASN1_OBJECT_push(question->policies, policy)) {
			ASN1_OBJECT_free(policy);
			return error_openssl(err, -ENOMEM, "the policies can't be read");
		}
	}
	return 0;
}

/* The settings end where PEM begins. */
int verify_question_read(const char *text, size_t length, struct verify_question *question,
                         struct error *err)
{
	const char *pem = memmem(text, length, "-----BEGIN ", 11);
	size_t settings = pem ? (size_t)(pem - text) : length;
	int r;

	*question = (struct verify_question){ 0 };
	r = record_parse(text, settings, NULL, &question->settings, err);
	if (r == 0)
		r = key_check_record(&verify_keys, question->settings, err);
	if (r == 0)
		r = read_policies(question, err);
	if (r == 0 && !pem)
		r = error_set(err, -EINVAL, "there is no certificate in it");
	if (r == 0)
		r = certificates_read(pem, length - settings, VERIFY_CERTIFICATES,
		                      &question->certificates, err);
	if (r == 0 && sk_X509_num(question->certificates) < 1)
		r = error_set(err, -EINVAL, "there is no certificate in it");
	ERR_clear_error();
	return r;
}

int verify_question_ask(const struct verify_question *question, struct path_question *asked,
                        struct error *err)
{
	static const struct {
		const char *name;
		enum path_purpose purpose;
	} purposes[] = {
		{ "ike", PATH_IKE },
		{ "server", PATH_SERVER },
		{ "client", PATH_CLIENT },
	};
	const char *name = record_get(question->settings, "name");

	asked->leaf = sk_X509_value(question->certificates, 0);
	asked->untrusted = question->certificates;
	for (size_t i = 0; i < COUNT(purposes); i++)
		if (record_is(question->settings, "purpose", purposes[i].name))
			asked->purpose = purposes[i].purpose;
	asked->has_depth = record_get(question->settings, "depth");
	asked->depth = (int)record_number(question->settings, "depth", 0);
	asked->policies = question->policies;
	asked->explicit_policy = sk_ASN1_OBJECT_num(question->policies) > 0;
	return name ? path_name_read(name, &asked->name, err) : 0;
}

/* --- the answer --- */

static const char *state_name(enum path_state state)
{
	static const char *const names[] = {
		[PATH_UNCHECKED] = "unchecked",
		[PATH_GOOD] = "good",
		[PATH_REVOKED] = "revoked",
		[PATH_UNKNOWN] = "unknown",
	};

	return names[state];
}

/* The sentence begins with the certificate's name where that is what it is about. */
static const char *reason_of(const char *name, const char *sentence)
{
	size_t length = strlen(name);

	return strncmp(sentence, name, length) == 0 && sentence[length] == ' '
	               ? sentence + length + 1
	               : sentence;
}

/* That of the certificate that fails; NULL where it is not about one. */
static const char *failed_name(const struct path_answer *answer)
{
	return answer->failed >= 0 && answer->failed < answer->count
	               ? answer->steps[answer->failed].name
	               : NULL;
}

/* What is said of certificate I of the path; the caller owns it. NULL: no memory. */
static struct record *step_record(const struct path_answer *answer, const struct error *err, int i)
{
	const struct path_step *step = &answer->steps[i];
	const struct path_revocation *known = &step->revocation;
	/* an anchor may have been looked up, too, but nothing comes of it */
	const char *how = known->state == PATH_UNCHECKED ? "" : known->how;
	struct record *record = record_new();

	if (!record)
		return NULL;
	record_add(record, "certificate", step->name);
	if (i == answer->failed)
		record_add(record, "failed", reason_of(step->name, err->text));
	if (!answer->sound && i != answer->failed && failed_name(answer))
		record_addf(record, "checked", "in part, for %s fails%s%s", failed_name(answer),
		            *step->checked ? ": " : "", step->checked);
	else if (*step->checked)
		record_add(record, "checked", step->checked);
	record_addf(record, "revocation", "%s%s%s%s", state_name(known->state), *how ? " (" : "",
	            how, *how ? ")" : "");
	return record;
}

/* TEXT as a part of a line: each ";", as names have it (RFC 4514), behind a backslash, and no
 * backslash before what ends the part. */
static int add_part(const char *text, struct content *content)
{
	int r = 0;

	while (r == 0 && *text) {
		size_t plain = strcspn(text, ";\\"), pair = text[plain] == '\\' && text[plain + 1];

		r = content_addf(content, "%.*s", (int)(plain + 2 * pair), text);
		text += plain + 2 * pair;
		if (r == 0 && !pair && *text)
			r = content_addf(content, "\\%c", *text++);
	}
	return r;
}

/* The same as lines or on ONE_LINE. */
static int add_step(const struct path_answer *answer, const struct error *err, int i, bool one_line,
                    struct content *content)
{
	struct record *record = step_record(answer, err, i);
	int r = record && !record_failed(record) ? 0 : -ENOMEM;

	for (size_t k = 0; r == 0 && k < record_count(record); k++) {
		const struct field *field = record_field(record, k);

		if (!one_line)
			r = content_addf(content, "%s = %s\n", field->key, field->value);
		else if (k > 0)
			r = content_addf(content, "; %s: ", field->key);
		if (r == 0 && one_line)
			r = add_part(field->value, content);
	}
	record_free(record);
	return r;
}

int verify_verdict(const struct path_answer *answer, const struct error *err, bool detail,
                   struct content *content)
{
	const char *name = failed_name(answer) ? failed_name(answer) : "text";
	int r;

	r = err->code == 0
	            ? content_addf(content, "ok\n")
	            : content_addf(content, "failed: %s: %s\n", name, reason_of(name, err->text));
	for (int i = 0; r == 0 && detail && i < answer->count; i++)
		r = add_step(answer, err, i, false, content);
	return r;
}

int verify_lines(const struct path_answer *answer, const struct error *err, struct record *to)
{
	int r = 0;

	for (int i = 0; r == 0 && i < answer->count; i++) {
		struct content line = { 0 };

		r = add_step(answer, err, i, true, &line);
		if (r == 0)
			record_add_bytes(to, "verify", line.text, line.length);
		content_clear(&line);
	}
	return r;
}

/* --- the profile --- */

/*
 * What is not known of a path that is otherwise sound is asked for: no others name whom to ask
 * (attack 42). The answer is for the next question.
 */
static int want(struct sources *sources, const struct path_answer *answer)
{
	bool known = true;
	int r;

	for (int i = 0; i + 1 < answer->count; i++)
		known = known && !sources_lack(&answer->steps[i].revocation);
	r = known ? 1 : store_begin(sources->store); /* 1: a store that died has done it */
	return r ? r : store_end(sources->store, sources_want(sources, 0, answer));
}

/* One whose revocation is not known passes (crl-on-download-failure = accept): that is told. */
static int tell_accepted(struct store *store, const struct object *profile,
                         const struct path_answer *answer)
{
	const struct path_step *unknown = NULL;
	struct record *more;
	int r;

	for (int i = 0; !unknown && i + 1 < answer->count; i++)
		if (answer->steps[i].revocation.state == PATH_UNKNOWN)
			unknown = &answer->steps[i];
	if (!unknown || (r = store_begin(store)) != 0)
		return 0;
	more = record_new();
	if (more) {
		record_add(more, "subject", unknown->name);
		record_add(more, "reason", unknown->revocation.how);
		log_warning("profile %s: %s passes, though whether it is revoked is not known: %s",
		            profile->name, unknown->name, unknown->revocation.how);
	}
	r = more ? store_event(store, profile, "accepted-unchecked", more) : -ENOMEM;
	record_free(more);
	return store_end(store, r);
}

/* The CA that the profile has confirmed, and nobody else. */
static int read_anchor(struct store *store, const struct object *profile, STACK_OF(X509) * *anchors,
                       struct error *err)
{
	struct edition edition = { 0 };
	int r = db_edition_get(store->db, profile->edition, &edition);

	if (r == 0 && !edition.certificate.length)
		r = error_set(err, -EINVAL, "profile %s is not trusted yet", profile->name);
	if (r == 0)
		r = certificates_read(edition.certificate.data, edition.certificate.length, 1,
		                      anchors, err);
	edition_clear(&edition);
	return r;
}

static int ask(struct store *store, const struct object *profile,
               const struct verify_question *question, struct path_answer *answer,
               struct error *err)
{
	struct sources sources = { .store = store, .profile = profile->id };
	struct path_question asked = {
		.now = store_now(store),
		.clock_trusted = store_clock_trusted(store),
	};
	struct record *settings = NULL;
	int r;

	r = read_anchor(store, profile, &asked.anchors, err);
	if (r == 0)
		r = store_settings(store, profile, &settings);
	if (r == 0)
		r = verify_question_ask(question, &asked, err);
	if (r == 0) {
		asked.allow_legacy = record_is(settings, "allow-legacy", "yes");
		asked.tolerant = asked.allow_legacy; /* who is that old is of no better form */
		asked.revocation.accept_unknown =
			record_is(settings, "crl-on-download-failure", "accept");
		sources.settings = settings;
		r = sources_check(&sources, &asked, answer, err);
		if (answer->sound)
			want(&sources, answer);
		if (r == 0)
			tell_accepted(store, profile, answer);
	}
	record_free(settings);
	sk_X509_pop_free(asked.anchors, X509_free);
	return r;
}

int verify_answer(struct store *store, const struct object *profile, const char *text,
                  size_t length, struct content *content)
{
	struct path_answer answer = { .failed = -1 };
	struct verify_question question;
	struct error err = { 0 };
	bool detail;
	int r;

	r = verify_question_read(text, length, &question, &err);
	detail = r == 0 && record_is(question.settings, "detail", "yes");
	if (r == 0)
		r = ask(store, profile, &question, &answer, &err);
	if (r == 0 || err.code)
		r = verify_verdict(&answer, &err, detail, content);
	path_answer_clear(&answer);
	verify_question_clear(&question);
	return r;
}
