/*
 *            challenge          socket           worker serves
 *   CLOSED -------------> ASKED ------> STARTING -------------> OPEN
 *     ^ ^                   | taken                               | no challenge left
 *     | '-------------------'                        it is done   v
 *     '--------------------------------------------------------ENDING
 */
#include "pkifs/challenge.h"

#include "common/log.h"
#include "pkifs/content.h"
#include "pkifs/workers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PER_WAITER 128

static struct port {
	const char *type;
	struct store *store;
	enum { CLOSED, ASKED, STARTING, OPEN, ENDING } state;
	struct worker *worker; /* that answers there; it ends with the store */
	char notice[240];      /* why it cannot be had; empty: it can */
} ports[] = { { .type = "http-01" }, { .type = "tls-alpn-01" } };

/* What one request wants to have answered. */
struct waiter {
	struct waiter *next;
	int64_t request;
	int64_t number; /* of its first challenge in the tree */
	struct port *port;
	struct record *challenges; /* of PER_WAITER at most */
	challenges_opened *opened; /* NULL: it was called */
	void *user;
};

static struct waiter *waiters;
static int64_t last_number;

static bool is_wanted(const struct port *port)
{
	for (const struct waiter *waiter = waiters; waiter; waiter = waiter->next)
		if (waiter->port == port)
			return true;
	return false;
}

/* The name that the challenge LINE is about, and its length. */
static const char *name_in(const char *line, size_t *length)
{
	const char *name = strchr(line, ' ') + 1;

	*length = strcspn(name, " ");
	return name;
}

static bool share_a_name(const struct record *one, const struct record *other)
{
	for (size_t i = 0; i < record_count(one); i++)
		for (size_t j = 0; j < record_count(other); j++) {
			size_t length, length2;
			const char *name = name_in(record_field(one, i)->value, &length);
			const char *name2 = name_in(record_field(other, j)->value, &length2);

			if (length == length2 && strncasecmp(name, name2, length) == 0)
				return true;
		}
	return false;
}

/*
 * With tls-alpn-01 a CA asks for a name and does not say for which of its challenges: those of one
 * name are open one after the other.
 */
static bool has_to_wait(const struct waiter *waiter)
{
	if (waiter->port != &ports[1])
		return false;
	for (const struct waiter *other = waiters; other; other = other->next)
		if (other->port == waiter->port && other->number < waiter->number &&
		    share_a_name(other->challenges, waiter->challenges))
			return true;
	return false;
}

/* Calls back who waits for PORT; what they do may change the list. */
static void tell_waiters(const struct port *port)
{
	struct waiter *waiter = waiters;

	while (waiter) {
		challenges_opened *opened = waiter->opened;

		if (waiter->port != port || !opened ||
		    (port->state == OPEN && has_to_wait(waiter))) {
			waiter = waiter->next;
			continue;
		}
		waiter->opened = NULL;
		opened(waiter->user, port->notice);
		waiter = waiters;
	}
}

static void send_tokens(const struct port *port)
{
	struct record *record = record_new();

	if (!record)
		return;
	record_add(record, "frame", "tokens");
	for (const struct waiter *waiter = waiters; waiter; waiter = waiter->next)
		if (waiter->port == port && !has_to_wait(waiter))
			record_append(record, waiter->challenges);
	worker_tell(port->worker, record);
	record_free(record);
}

static void ask_for_port(struct store *store, struct port *port)
{
	struct record *record = record_new();

	if (!record)
		return;
	record_add(record, "frame", "listen");
	record_add(record, "type", port->type);
	if (channel_send(store->supervisor, record, NULL, 0) == 0)
		port->state = ASKED;
	record_free(record);
}

/* Nobody listens there any more. */
static void closed(struct store *store, struct port *port)
{
	struct record *record = record_new();

	port->worker = NULL;
	port->state = CLOSED;
	*port->notice = '\0';
	if (!record)
		return;
	record_add(record, "frame", "listened");
	record_add(record, "type", port->type);
	channel_send(store->supervisor, record, NULL, 0);
	record_free(record);
}

/* Brings PORT to where the challenges want it. */
static void adjust(struct store *store, struct port *port)
{
	struct record *end;

	if (port->state == CLOSED && is_wanted(port)) {
		ask_for_port(store, port);
	} else if (port->state == OPEN && is_wanted(port)) {
		send_tokens(port); /* before anybody is told that they are answered */
		tell_waiters(port);
	} else if (port->state == OPEN && (end = record_new())) {
		record_add(end, "frame", "end");
		worker_tell(port->worker, end);
		record_free(end);
		port->state = ENDING;
	}
}

/* The worker serves, is done, or is gone. */
static void worker_said(void *user, struct record *record, const char *reason)
{
	struct port *port = user;
	struct store *store = port->store;

	if (record && record_is(record, "frame", "serving")) {
		port->state = OPEN;
	} else {
		if (!record)
			log_warning("%s is answered no more: %s", port->type, reason);
		closed(store, port);
	}
	if (record) /* one that is gone is replaced by the next tick: not as fast as it dies */
		adjust(store, port);
	record_free(record);
}

/* Has FD served by a worker. */
static void serve(struct store *store, struct port *port, int fd)
{
	struct worker_job work = { .record = record_new(),
		                   .received = worker_said,
		                   .user = port,
		                   .responds = true,
		                   .fds = { fd },
		                   .fd_count = 1 };

	if (!work.record) {
		closed(store, port);
		return;
	}
	record_add(work.record, "frame", "job");
	record_add_number(work.record, "job", 0);
	record_add(work.record, "action", "respond");
	record_add(work.record, "type", port->type);
	port->worker = worker_give(store, &work);
	if (port->worker)
		port->state = STARTING;
	else
		closed(store, port);
}

static struct port *find_port(const char *type, size_t length)
{
	for (size_t i = 0; type && i < COUNT(ports); i++)
		if (strlen(ports[i].type) == length && memcmp(ports[i].type, type, length) == 0)
			return &ports[i];
	return NULL;
}

bool challenges_received(struct store *store, const struct record *record, int *fds)
{
	bool listening = record_is(record, "frame", "listening");
	const char *type = record_get(record, "type"), *reason = record_get(record, "reason");
	struct port *port;

	if (!listening && !record_is(record, "frame", "not-listening"))
		return false;
	port = type ? find_port(type, strlen(type)) : NULL;
	if (!port || port->state != ASKED)
		return true;
	port->state = CLOSED;
	if (listening && fds[0] >= 0 && is_wanted(port)) {
		snprintf(port->notice, sizeof port->notice, "%s", reason ? reason : "");
		serve(store, port, fds[0]);
	} else if (listening) {
		closed(store, port);
	} else if (!listening && !record_is(record, "again", "yes")) {
		snprintf(port->notice, sizeof port->notice, "%s", reason ? reason : "");
		tell_waiters(port);
	}
	return true;
}

void challenges_tick(struct store *store)
{
	for (size_t i = 0; i < COUNT(ports); i++)
		if (ports[i].state == CLOSED && !*ports[i].notice)
			adjust(store, &ports[i]);
}

#define ALNUM "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

bool challenge_is_legal(const char *line)
{
	static const struct {
		const char *plain;
		size_t limit;
	} words[] = {
		{ ALNUM "-", 16 },
		{ ALNUM "-_.:", 255 },
		{ ALNUM "-_", CHALLENGE_TOKEN_MAX },
		{ ALNUM "-_.", 255 },
	};

	for (size_t i = 0; i < COUNT(words); i++) {
		size_t length = strspn(line, words[i].plain);

		if (!length || length > words[i].limit ||
		    line[length] != (i + 1 < COUNT(words) ? ' ' : '\0'))
			return false;
		line += length + 1;
	}
	return true;
}

static struct waiter *find_waiter(int64_t request)
{
	struct waiter *waiter = waiters;

	while (waiter && waiter->request != request)
		waiter = waiter->next;
	return waiter;
}

static void drop(struct waiter *waiter)
{
	struct waiter **at = &waiters;

	while (*at != waiter)
		at = &(*at)->next;
	*at = waiter->next;
	record_free(waiter->challenges);
	free(waiter);
}

/* Takes over those of RECORD's fields that are challenges of one type. NULL: there are none. */
static struct waiter *waiter_new(int64_t request, const struct record *record)
{
	struct waiter *waiter = calloc(1, sizeof *waiter);
	const struct field *field;
	size_t index = 0;

	if (!waiter)
		return NULL;
	if (!last_number)
		last_number = store_now(NULL) * PER_WAITER; /* none of a predecessor's */
	waiter->request = request;
	waiter->number = last_number += PER_WAITER;
	waiter->challenges = record_new();
	while (waiter->challenges && record_count(waiter->challenges) < PER_WAITER &&
	       (field = record_next(record, "challenge", &index))) {
		struct port *port = find_port(field->value, strcspn(field->value, " "));

		if (!port || (waiter->port && port != waiter->port) ||
		    !challenge_is_legal(field->value))
			continue;
		waiter->port = port;
		record_add(waiter->challenges, "challenge", field->value);
	}
	waiter->next = waiters;
	waiters = waiter;
	if (waiter->port)
		return waiter;
	drop(waiter);
	return NULL;
}

void challenges_open(struct store *store, int64_t request, const struct record *record,
                     challenges_opened *opened, void *user)
{
	struct waiter *old = find_waiter(request), *waiter;

	waiter = waiter_new(request, record);
	if (!waiter) {
		challenges_close(store, request);
		opened(user, "");
		return;
	}
	if (old)
		drop(old);
	waiter->opened = opened;
	waiter->user = user;
	waiter->port->store = store;
	adjust(store, waiter->port);
}

void challenges_close(struct store *store, int64_t request)
{
	struct waiter *waiter = find_waiter(request);
	struct port *port;

	if (!waiter)
		return;
	port = waiter->port;
	drop(waiter);
	if (port->state == OPEN)
		adjust(store, port);
	if (!is_wanted(port))
		*port->notice = '\0';
}

/* --- the tree's acme-challenge --- */

/* The TOKEN and what answers it, in LINE. */
static const char *words_of(const char *line, char *token)
{
	const char *first = strchr(strchr(line, ' ') + 1, ' ') + 1, *answer = strchr(first, ' ');

	snprintf(token, CHALLENGE_TOKEN_MAX + 1, "%.*s", (int)(answer - first), first);
	return answer + 1;
}

/*
 * The http-01 challenge with the smallest number above AFTER: what answers it, with its NUMBER and
 * TOKEN; NULL: there is none.
 */
static const char *next(int64_t after, int64_t *number, char *token)
{
	const char *line = NULL;
	int64_t found = 0;

	for (const struct waiter *waiter = waiters; waiter; waiter = waiter->next) {
		int64_t first = waiter->number > after ? waiter->number : after + 1;

		if (waiter->port != &ports[0] || (line && first > found) ||
		    first >= waiter->number + (int64_t)record_count(waiter->challenges))
			continue;
		found = first;
		line = record_field(waiter->challenges, (size_t)(first - waiter->number))->value;
	}
	*number = found;
	return line ? words_of(line, token) : NULL;
}

int challenge_next(int64_t after, int64_t *number, char *token)
{
	return next(after, number, token) ? 0 : -ENOENT;
}

int challenge_find(const char *token, int64_t *number)
{
	char other[CHALLENGE_TOKEN_MAX + 1];

	*number = 0;
	while (next(*number, number, other))
		if (strcmp(token, other) == 0)
			return 0;
	return -ENOENT;
}

int make_challenge(struct store *store, const struct node *node, struct content *content)
{
	char token[CHALLENGE_TOKEN_MAX + 1];
	int64_t number;
	const char *answer = next(node->number - 1, &number, token);

	content->time = store_now(store);
	return answer && number == node->number ? content_addf(content, "%s", answer) : -ENOENT;
}
