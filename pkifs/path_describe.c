/* What was checked of each certificate of a path, in words. */
#include "common/x509.h"
#include "pkifs/path_part.h"
#include "pkifs/validate_part.h"

#include <openssl/err.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* One more thing of it. */
__attribute__((format(printf, 2, 3))) static void add(struct path_step *step, const char *format,
                                                      ...)
{
	size_t used = strlen(step->checked);
	va_list args;

	if (used) {
		snprintf(step->checked + used, sizeof step->checked - used, ", ");
		used = strlen(step->checked);
	}
	va_start(args, format);
	vsnprintf(step->checked + used, sizeof step->checked - used, format, args);
	va_end(args);
}

static void add_times(const struct path_question *question, struct path_step *step)
{
	char from[RFC3339_MAX], to[RFC3339_MAX];

	rfc3339(asn1_time_seconds(X509_get0_notBefore(step->certificate)), from);
	rfc3339(asn1_time_seconds(X509_get0_notAfter(step->certificate)), to);
	add(step, "valid from %s to %s%s", from, to,
	    question->clock_trusted ? "" : " (the clock is not trusted)");
}

static void add_key(struct path_step *step)
{
	char key[80];

	if (key_describe(X509_get0_pubkey(step->certificate), key, sizeof key) == 0)
		add(step, "key %s", key);
}

/* Whose own signature decides nothing. */
static bool is_last(const struct path_answer *answer, int i)
{
	return i > 0 && i == answer->count - 1;
}

static void add_signature(struct path_step *step)
{
	add(step, "signed with %s", OBJ_nid2sn(X509_get_signature_nid(step->certificate)));
}

static void add_leaf(const struct path_question *question, struct path_step *step)
{
	static const char *const purposes[] = {
		[PATH_ANY] = "",
		[PATH_OWN] = "server, client or IKE",
		[PATH_SERVER] = "TLS server",
		[PATH_CLIENT] = "TLS client",
		[PATH_IKE] = "IKE",
		[PATH_TUNNEL] = "a tunnel",
	};

	if (*purposes[question->purpose])
		add(step, "for %s", purposes[question->purpose]);
	if (question->name.kind != PATH_NO_NAME)
		add(step, "has the name %.100s", question->name.text);
	if (question->explicit_policy)
		add(step, "has a policy asked for");
}

static void describe(const struct path_question *question, struct path_answer *answer, int i)
{
	struct path_step *step = &answer->steps[i];

	if (is_last(answer, i) && !question->no_anchor)
		add(step, "trusted");
	add_times(question, step);
	add_key(step);
	if (!is_last(answer, i))
		add_signature(step);
	if (i > 0)
		add(step, "a CA for this path");
	else
		add_leaf(question, step);
}

/* What holds of one without the others but its issuer. */
static void describe_alone(const struct path_question *question, struct path_answer *answer, int i)
{
	struct path_step *step = &answer->steps[i];
	X509 *certificate = step->certificate;

	if (!question->clock_trusted || certificate_is_valid_at(certificate, question->now))
		add_times(question, step);
	if (check_key(certificate, question->allow_legacy, NULL) == 0)
		add_key(step);
	if (i < answer->count - 1 && check_digest(certificate, question->allow_legacy, NULL) == 0 &&
	    X509_verify(certificate, X509_get0_pubkey(answer->steps[i + 1].certificate)) == 1)
		add_signature(step);
	ERR_clear_error();
}

void path_describe(const struct path_question *question, struct path_answer *answer)
{
	for (int i = 0; i < answer->count; i++)
		if (answer->sound)
			describe(question, answer, i);
		else if (i != answer->failed)
			describe_alone(question, answer, i);
}

void path_of_anchor(X509 *anchor, bool good, bool clock_trusted, struct path_answer *answer)
{
	const struct path_question question = { .clock_trusted = clock_trusted };

	*answer = (struct path_answer){ .failed = good ? -1 : 0, .sound = good };
	path_add_step(answer, anchor);
	if (!good)
		return;
	add(answer->steps, "trusted");
	add_times(&question, answer->steps);
	add_key(answer->steps);
	add(answer->steps, "a CA");
}
