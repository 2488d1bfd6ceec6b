/*
 * Changes: a savepoint each, one transaction a turn, and what follows its commit.
 */
#include "common/log.h"
#include "pkifs/jobs.h"
#include "pkifs/store.h"
#include "pkifs/tree.h"
#include "pkifs/watch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct effect {
	struct effect *next;
	void (*done)(void *argument, int code);
	void *argument;
};

bool store_applied(const struct store *store)
{
	uint64_t unique = session_unique(store->session);

	for (size_t i = 0; unique && i < store->applied_count; i++)
		if (store->applied[i] == unique)
			return true;
	return false;
}

int store_begin(struct store *store)
{
	int r = 0;

	if (store_applied(store))
		return 1;
	if (store->begun && !db_in_transaction(store->db))
		return -EIO; /* an error undid it; what is in it is refused by the commit first */
	if (!store->begun) {
		r = db_begin(store->db);
		store->begun = r == 0;
		/* Everything before this has been answered. */
		if (r == 0 && !session_replays(store->session))
			r = db_applied_clear(store->db);
	}
	store->mark = store->last_effect;
	return r < 0 ? r : db_savepoint(store->db);
}

/* What was to follow the change that is undone. */
static void drop_effects(struct store *store, int code)
{
	struct effect *effect = *store->mark, *next;

	*store->mark = NULL;
	store->last_effect = store->mark;
	for (; effect; effect = next) {
		next = effect->next;
		effect->done(effect->argument, code);
		free(effect);
	}
}

int store_end(struct store *store, int r)
{
	uint64_t unique = session_unique(store->session);

	if (r >= 0 && unique)
		r = db_applied_add(store->db, unique);
	if (r >= 0)
		r = db_release(store->db);
	if (r < 0) {
		db_undo(store->db);
		drop_effects(store, r);
	}
	return r;
}

int store_after(struct store *store, void (*done)(void *argument, int code), void *argument)
{
	struct effect *effect = malloc(sizeof *effect);

	if (!effect)
		return -ENOMEM;
	*effect = (struct effect){ .done = done, .argument = argument };
	*store->last_effect = effect;
	store->last_effect = &effect->next;
	return 0;
}

struct message {
	struct store *store;
	void (*send)(struct store *store, struct record *record);
	struct record *record;
};

static void send_message(void *argument, int code)
{
	struct message *message = argument;

	if (code == 0)
		message->send(message->store, message->record);
	else
		record_free(message->record);
	free(message);
}

int store_send_after(struct store *store, void (*send)(struct store *, struct record *),
                     struct record *record)
{
	struct message *message = malloc(sizeof *message);
	int r = -ENOMEM;

	if (message) {
		*message = (struct message){ .store = store, .send = send, .record = record };
		r = store_after(store, send_message, message);
	}
	if (r < 0) {
		record_free(record);
		free(message);
	}
	return r;
}

int store_change(struct store *store, int64_t object, int (*act)(struct store *, int64_t))
{
	int r = store_begin(store);

	return r < 0 ? r : store_end(store, act(store, object));
}

/* Effects may change the store again: those changes have a commit of their own. */
static void run_effects(struct store *store, int code)
{
	struct effect *effect = store->effects, *next;

	store->effects = NULL;
	store->last_effect = &store->effects;
	for (; effect; effect = next) {
		next = effect->next;
		effect->done(effect->argument, code);
		free(effect);
	}
}

void store_commit(struct store *store)
{
	bool more = store->begun || store->effects || store->due;

	while (more) {
		int r = store->begun ? db_commit(store->db) : 0;

		store->begun = false;
		if (r < 0)
			log_error("the store cannot be written: %s", strerror(-r));
		store->changes++;
		session_answers(store->session, r);
		run_effects(store, r);
		if (store->due && store->serving) {
			store->due = false;
			jobs_run(store);
		}
		/* what could not be stored is not tried again in this turn */
		more = r == 0 && (store->begun || store->effects);
	}
	if (store->wake && (store->stopping || !watch_begins())) {
		store->wake = false;
		wait_wake(store);
	}
}
