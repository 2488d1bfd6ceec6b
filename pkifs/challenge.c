/*
 *            challenge          socket           worker serves
 *   CLOSED -------------> ASKED ------> STARTING -------------> OPEN
 *     ^ ^                   | taken                               | no challenge left
 *     | '-------------------'                        it is done   v
 *     '--------------------------------------------------------ENDING
 */
#include "pkifs/challenge.h"

#include "common/log.h"
#include "pkifs/workers.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORDS      4 /* TYPE NAME TOKEN ANSWER */
#define LINE_LIMIT 1024

static struct port {
	const char *type;
	struct store *store;
	enum { CLOSED, ASKED, STARTING, OPEN, ENDING } state;
	struct worker *worker; /* that answers there; it ends with the store */
	char notice[192];      /* why it cannot be had; empty: it can */
} ports[] = { { .type = "http-01" }, { .type = "tls-alpn-01" } };

/* What one request wants to have answered. */
struct waiter {
	struct waiter *next;
	int64_t request;
	struct port *port;
	struct record *challenges;
	challenges_opened *opened; /* NULL: it was called */
	void *user;
};

static struct waiter *waiters;

static bool is_wanted(const struct port *port)
{
	for (const struct waiter *waiter = waiters; waiter; waiter = waiter->next)
		if (waiter->port == port)
			return true;
	return false;
}

/* Calls back who waits for PORT; what they do may change the list. */
static void tell_waiters(const struct port *port)
{
	struct waiter *waiter = waiters;

	while (waiter) {
		challenges_opened *opened = waiter->opened;

		if (waiter->port != port || !opened) {
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
		if (waiter->port == port)
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
		*port->notice = '\0';
	} else {
		if (!record)
			log_warning("%s is answered no more: %s", port->type, reason);
		port->worker = NULL;
		port->state = CLOSED;
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

	port->state = CLOSED;
	if (!work.record)
		return;
	record_add(work.record, "frame", "job");
	record_add_number(work.record, "job", 0);
	record_add(work.record, "action", "respond");
	record_add(work.record, "type", port->type);
	port->worker = worker_give(store, &work);
	if (port->worker)
		port->state = STARTING;
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
		serve(store, port, fds[0]);
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

/* Whether LINE is what it must be: a worker may have been taken over. */
static bool is_challenge(const char *line)
{
	static const char plain[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.:";
	int words = 1;

	if (strlen(line) > LINE_LIMIT)
		return false;
	while (*line) {
		size_t length = strspn(line, plain);

		if (!length || (line[length] && line[length] != ' '))
			return false;
		line += length + (line[length] == ' ');
		words += line[-1] == ' ';
	}
	return words == WORDS;
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
	waiter->request = request;
	waiter->challenges = record_new();
	while (waiter->challenges && (field = record_next(record, "challenge", &index))) {
		struct port *port = find_port(field->value, strcspn(field->value, " "));

		if (!port || (waiter->port && port != waiter->port) || !is_challenge(field->value))
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
