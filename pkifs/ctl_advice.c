/* pkictl show ID: in words what is wrong, what to do about it, and what comes next. */
#include "pkifs/ctl.h"

#include "common/x509.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* By state. "%s" is the object's name. */
static const struct advice {
	const char *kind, *state, *wrong, *to_do;
} advices[] = {
	{ "ca", "empty", "there is no CA certificate yet",
	  "pkictl ca enroll %s fetches it (with --enrollment-url URL where none is set yet), "
	  "pkictl ca load %s FILE takes it from a file" },
	{ "ca", "unconfirmed",
	  "the CA certificate that was fetched is not trusted before somebody compared "
	  "fingerprints",
	  "pkictl ca confirm %s" },
	{ "ca", "expired", "the CA certificate is over: nothing that it signed is trusted",
	  "pkictl ca enroll %s fetches the next one, pkictl ca load %s FILE loads it" },
	{ "local", "empty", "there is neither key nor certificate yet",
	  "pkictl enroll %s --ca-profile PROFILE --domain-name NAME" },
	{ "local", "key", "there is a key, but no certificate yet",
	  "pkictl enroll %s asks the CA, pkictl load %s FILE takes one from a file" },
	{ "local", "csr", "there is no certificate yet",
	  "give the CA what pkictl export %s --csr prints, and its answer to pkictl load %s FILE" },
	{ "local", "expired", "the certificate is over", "pkictl re-enroll %s" },
	{ "local", "revoked", "the certificate, or one above it, is revoked",
	  "pkictl re-enroll %s --re-generate-keypair yes" },
};

/* What is printed, and what about. */
struct page {
	const struct ctl *ctl;
	const struct target *target;
	const struct record *status;
	FILE *out;
	bool begun;
};

static const char *get(const struct page *page, const char *key)
{
	const char *value = record_get(page->status, key);

	return value ? value : "";
}

/* "Wrong: TEXT" or its like; no control characters, as some of it came from outside. */
static void put(struct page *page, const char *label, const char *color, const char *text)
{
	const char *plain = page->ctl->color ? PLAIN : "";
	char *copy = strdup(text);

	if (!copy)
		return;
	text_printable(copy);
	fprintf(page->out, "%s%s%s%s %s\n", page->begun ? "" : "\n", page->ctl->color ? color : "",
	        label, plain, copy);
	page->begun = true;
	free(copy);
}

/* The same; each "%s" of FORMAT is the object's name. */
static void put_named(struct page *page, const char *label, const char *color, const char *format)
{
	char text[400];
	size_t used = 0;

	while (*format && used + sizeof page->target->name < sizeof text) {
		if (strncmp(format, "%s", 2) == 0) {
			used = (size_t)(stpcpy(text + used, page->target->name) - text);
			format += 2;
		} else {
			text[used++] = *format++;
		}
	}
	text[used] = 0;
	put(page, label, color, text);
}

/* ERROR is about another request, which came while ACTION was under way. */
static bool is_of_another(const char *error, const char *action)
{
	size_t length = strlen(action);

	return strncmp(error, action, length) == 0 && strncmp(error + length, " is ", 4) == 0;
}

/* What went wrong with what was asked or written last. False where nothing did. */
static bool about_request(struct page *page)
{
	const char *request = get(page, "request"), *error = get(page, "last-error");
	const char *action = get(page, "action");
	bool over = strcmp(request, "failed") == 0 || strcmp(request, "rejected") == 0;
	char text[900];

	if (!*error)
		return false;
	if (strcmp(request, "waiting") == 0 && !is_of_another(error, action))
		snprintf(text, sizeof text, "the last try of %s failed: %s", action, error);
	else if (over)
		snprintf(text, sizeof text, "%s has %s: %s", action, request, error);
	else if (strcmp(page->target->kind, "ipsec") == 0) /* what became of it since, perhaps */
		snprintf(text, sizeof text, "%s", error);
	else
		snprintf(text, sizeof text, "what was written last was refused: %s", error);
	put(page, "Wrong:", RED, text);
	if (!over || !strstr(action, "enroll"))
		return over;
	snprintf(text, sizeof text, "mend that, then pkictl %s%s %%s",
	         *page->target->kind == 'c' ? "ca " : "", action);
	put_named(page, "To do:", BOLD, text);
	return true;
}

/* By the state of what is in force. */
static void about_state(struct page *page)
{
	const struct advice *advice = NULL;

	for (size_t i = 0; i < COUNT(advices); i++)
		if (strcmp(advices[i].kind, page->target->kind) == 0 &&
		    strcmp(advices[i].state, get(page, "state")) == 0)
			advice = &advices[i];
	if (advice) {
		put(page, "Wrong:", RED, advice->wrong);
		put_named(page, "To do:", BOLD, advice->to_do);
		return;
	}
	if (*get(page, "pending") || *get(page, "next-ca-waits"))
		put_named(page, "To do:", BOLD,
		          "pkictl ca confirm %s decides about a new CA certificate");
	if (strcmp(get(page, "trust"), "none") == 0) {
		put(page, "Wrong:", YELLOW,
		    "neither a CA profile nor a CA of the system has issued it: nobody can judge "
		    "it");
		put(page, "To do:", BOLD, "pkictl ca load PROFILE FILE loads its CA");
	}
}

/* How a certificate is renewed, by what anchors it. */
static const char *renewal(const struct page *page)
{
	const char *trust = get(page, "trust");

	if (strcmp(trust, "none") == 0)
		return "pkictl load %s FILE loads the next one";
	if (strcmp(trust, "self") == 0)
		return "pkictl request self-signed %s renews it";
	return "pkictl re-enroll %s renews it";
}

/* `next-action` as a sentence has it. */
static const char *told(const char *next)
{
	if (strcmp(next, "expire") == 0)
		return "expires";
	return strcmp(next, "re-enroll") == 0 || strcmp(next, "generate-self-signed") == 0
	               ? "renews by itself"
	               : next;
}

static void about_next(struct page *page, long long now)
{
	const char *next = get(page, "next-action");
	bool expires = strcmp(next, "expire") == 0;
	long long at = rfc3339_seconds(get(page, "next-action-at"));
	char text[300], when[40] = "", distance[40] = "";

	if (!*next || (expires && strcmp(get(page, "state"), "revoked") == 0))
		return;
	if (at >= 0) {
		time_local(at, when);
		time_distance(at, now, distance);
	}
	snprintf(text, sizeof text, "%s%s%s%s%s%s%s", told(next), *when ? " at " : "", when,
	         *when ? ", " : "", distance, expires ? "; " : "", expires ? renewal(page) : "");
	put_named(page, "Next: ", BOLD, text);
}

/* What may go wrong later. */
static void about_warnings(struct page *page)
{
	const struct field *field;
	char text[400];

	for (size_t i = 0; (field = record_next(page->status, "warning", &i)) != NULL;)
		put(page, "Mind: ", YELLOW, field->value);
	if (*get(page, "clock")) {
		snprintf(text, sizeof text, "the clock is %s", get(page, "clock"));
		put(page, "Mind: ", YELLOW, text);
	}
}

void show_advice(const struct ctl *ctl, const struct target *target, const struct record *status,
                 long long now, FILE *out)
{
	struct page page = { .ctl = ctl, .target = target, .status = status, .out = out };
	const char *request = get(&page, "request");
	bool told = about_request(&page);

	if (strcmp(request, "waiting") == 0)
		put_named(&page, "To do:", BOLD,
		          "pkictl wait %s waits on, pkictl cancel %s ends it");
	else if (strcmp(request, "queued") == 0 || strcmp(request, "running") == 0)
		put_named(&page, "To do:", BOLD, "pkictl wait %s waits for its end");
	else if (!told)
		about_state(&page);
	about_warnings(&page);
	about_next(&page, now);
}
