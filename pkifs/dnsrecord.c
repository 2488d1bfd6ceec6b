/*
 *            wanted             put by a worker or the hook
 *   ABSENT ----------> PUTTING ----------------------------> PUT
 *                         | not put: who waits is told        | not wanted any more
 *                         v                                   v
 *                       LEFT ----------> REMOVING ----------> (gone)
 *                         ^  due            | not removed
 *                         '-----------------'
 */
#include "pkifs/dnsrecord.h"

#include "common/log.h"
#include "pkifs/workers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX      "dns-record "
#define NOTED       "noted"
#define AT_ONCE     8
#define START_PAUSE 10 /* seconds for jobs of before to say what they still want */
#define PAUSE_FIRST 10 /* between two tries to remove, at first and at most */
#define PAUSE_LAST  3600
#define TRIES       100 /* some days; then it stays */
#define ACCIDENTS   3   /* deaths of a worker that count for nothing */
#define OWNER_SIZE  280 /* _acme-challenge. and a name */
#define META_MAX    400

struct dns_record {
	struct dns_record *next;
	int64_t profile, request; /* request 0: nobody wants it any more */
	char *name, *value;
	enum { ABSENT, PUTTING, PUT, LEFT, REMOVING } state;
	struct change *change; /* that it is part of; NULL: none */
	int64_t due;           /* Unix seconds: when to remove it */
	int tries;
	char reason[240]; /* why it could not be removed */
};

/* What a worker or the hook is doing: to some records of one name. */
struct change {
	struct change *next;
	struct store *store;
	int64_t profile, number;
	bool put, by_hook;
	char name[OWNER_SIZE];
};

struct waiter {
	struct waiter *next;
	int64_t request;
	bool failed;
	challenges_opened *opened;
	void *user;
};

static struct dns_record *records;
static struct change *changes;
static struct waiter *waiters;
static int64_t last_change;

/* --- what is noted --- */

static void meta_name(char name[META_MAX], int64_t profile, const char *owner, const char *value)
{
	snprintf(name, META_MAX, PREFIX "%lld %s %s", (long long)profile, owner, value);
}

/* NAME and VALUE of a line "dns-01 NAME TOKEN VALUE" as the record has them; false: it is none. */
static bool read_line(const char *line, char name[OWNER_SIZE], char value[64])
{
	char bare[254], token[CHALLENGE_TOKEN_MAX + 1];
	int end = 0;

	if (!challenge_is_legal(line) ||
	    sscanf(line, "dns-01 %253s %128s %63s%n", bare, token, value, &end) != 3 || line[end])
		return false;
	snprintf(name, OWNER_SIZE, "_acme-challenge.%s", bare);
	return true;
}

int dns_records_note(struct store *store, int64_t profile, const struct record *record)
{
	const struct field *field;
	size_t index = 0;
	int r = 0;

	while (r == 0 && (field = record_next(record, "challenge", &index))) {
		char name[OWNER_SIZE], value[64], meta[META_MAX];

		if (!read_line(field->value, name, value))
			continue;
		meta_name(meta, profile, name, value);
		r = db_meta_set(store->db, meta, NOTED, strlen(NOTED));
	}
	return r;
}

static struct dns_record *find(int64_t profile, const char *name, const char *value)
{
	struct dns_record *record = records;

	while (record && (record->profile != profile || strcmp(record->name, name) != 0 ||
	                  strcmp(record->value, value) != 0))
		record = record->next;
	return record;
}

static struct dns_record *add(int64_t profile, const char *name, const char *value)
{
	struct dns_record *record = calloc(1, sizeof *record);

	if (!record)
		return NULL;
	record->profile = profile;
	record->name = strdup(name);
	record->value = strdup(value);
	if (!record->name || !record->value) {
		free(record->name);
		free(record->value);
		free(record);
		return NULL;
	}
	record->next = records;
	records = record;
	return record;
}

/* RECORD is in no zone any more. */
static void forget(struct store *store, struct dns_record *record)
{
	struct dns_record **at = &records;
	char name[META_MAX];

	meta_name(name, record->profile, record->name, record->value);
	if (store_begin(store) == 0)
		store_end(store, db_meta_remove(store->db, name));
	while (*at != record)
		at = &(*at)->next;
	*at = record->next;
	free(record->name);
	free(record->value);
	free(record);
}

/* --- who waits --- */

static struct waiter *waiter_of(int64_t request)
{
	struct waiter *waiter = waiters;

	while (waiter && waiter->request != request)
		waiter = waiter->next;
	return waiter;
}

static void unlink_waiter(struct waiter *waiter)
{
	struct waiter **at = &waiters;

	while (*at != waiter)
		at = &(*at)->next;
	*at = waiter->next;
}

static bool has_all(const struct waiter *waiter)
{
	for (const struct dns_record *record = records; record; record = record->next)
		if (record->request == waiter->request && record->state != PUT)
			return false;
	return true;
}

/* Calls back who has what he waits for, and who can't have it, for REASON. What they do may change
 * all lists. */
static void tell_waiters(const char *reason)
{
	struct waiter *waiter = waiters;

	while (waiter) {
		if (!waiter->failed && !has_all(waiter)) {
			waiter = waiter->next;
			continue;
		}
		unlink_waiter(waiter);
		waiter->opened(waiter->user, waiter->failed ? reason : "");
		free(waiter);
		waiter = waiters;
	}
}

/* RECORD could not be put; it may be there nevertheless. */
static void not_put(struct dns_record *record)
{
	struct waiter *waiter = waiter_of(record->request);

	if (waiter)
		waiter->failed = true;
	record->request = 0;
	record->state = LEFT;
	record->due = 0;
}

/* --- changes --- */

static void adjust(struct store *store);

static void change_free(struct change *change)
{
	struct change **at = &changes;

	while (*at != change)
		at = &(*at)->next;
	*at = change->next;
	free(change);
}

static void not_removed(struct store *store, struct dns_record *record, const char *reason)
{
	int64_t pause = PAUSE_FIRST;

	record->state = LEFT;
	snprintf(record->reason, sizeof record->reason, "%s", reason);
	for (int i = 0; i < record->tries && pause < PAUSE_LAST; i++)
		pause *= 2;
	record->due = store_now(store) + (pause < PAUSE_LAST ? pause : PAUSE_LAST);
	if (!record->tries++)
		log_warning("%s TXT %s is not removed yet: %s", record->name, record->value,
		            reason);
	if (record->tries < TRIES)
		return;
	log_warning("%s TXT %s stays where it is: %s", record->name, record->value, reason);
	forget(store, record);
}

static void change_record(struct store *store, struct dns_record *record, bool put,
                          const char *reason, bool again)
{
	record->change = NULL;
	if (again && record->tries++ < ACCIDENTS) {
		record->state = record->request ? ABSENT : LEFT;
		record->due = 0;
	} else if (put && record->request && !*reason) {
		record->state = PUT;
	} else if (put) {
		not_put(record);
	} else if (record->request) {
		record->state = ABSENT; /* it is wanted again */
	} else if (*reason) {
		not_removed(store, record, reason);
	} else {
		forget(store, record);
	}
}

/* CHANGE has come to its end: it is made (REASON empty), or not, for no fault of its own (AGAIN).
 */
static void changed(struct change *change, const char *reason, bool again)
{
	struct store *store = change->store;
	struct dns_record *record, *next;

	for (record = records; record; record = next) {
		next = record->next;
		if (record->change == change)
			change_record(store, record, change->put, reason, again);
	}
	change_free(change);
	tell_waiters(reason);
	adjust(store);
}

static void worker_said(void *user, struct record *result, const char *reason)
{
	const char *said = result ? record_get(result, "reason") : reason;
	bool done = result && record_is(result, "outcome", "done");
	char text[240];

	snprintf(text, sizeof text, "%s", done ? "" : said && *said ? said : "it failed");
	changed(user, text, !result);
	record_free(result);
}

bool dns_records_received(struct store *store, const struct record *record)
{
	long long number = record_number(record, "id", -1);
	const char *status = record_get(record, "status");
	struct change *change = changes;

	(void)store;
	if (!record_is(record, "frame", "dns-hook-done"))
		return false;
	while (change && (!change->by_hook || change->number != number))
		change = change->next;
	if (change)
		changed(change, status ? status : "it failed", false);
	return true;
}

/* Has CHANGE made; 0, or a negative errno. */
static int make(struct change *change, const struct record *settings)
{
	static const char *const needed[] = { "acme-dns-server", "acme-dns-tsig" };
	struct worker_job work = { .record = record_new(),
		                   .received = worker_said,
		                   .user = change };
	const char *hook = record_get(settings, "acme-dns-hook");
	int r = 0;

	if (!work.record)
		return -ENOMEM;
	record_add(work.record, "name", change->name);
	record_add(work.record, "change", change->put ? "add" : "remove");
	for (const struct dns_record *record = records; record; record = record->next)
		if (record->change == change)
			record_add(work.record, "value", record->value);
	if (change->by_hook) {
		record_add(work.record, "frame", "dns-hook");
		record_add_number(work.record, "id", change->number);
		record_add(work.record, "command", hook);
		r = channel_send(change->store->supervisor, work.record, NULL, 0);
		record_free(work.record);
		return r;
	}
	record_add(work.record, "frame", "job");
	record_add_number(work.record, "job", 0);
	record_add(work.record, "action", "dns");
	for (size_t i = 0; i < COUNT(needed); i++)
		if (record_get(settings, needed[i]))
			record_add(work.record, needed[i], record_get(settings, needed[i]));
	return worker_give(change->store, &work) ? 0 : -ENOMEM;
}

/* Whether another change may begin beside those that are under way. */
static bool may_begin(const struct dns_record *record, bool by_hook)
{
	size_t count = 0;

	for (const struct change *change = changes; change; change = change->next) {
		count++;
		if (change->profile == record->profile &&
		    (by_hook || strcmp(change->name, record->name) == 0))
			return false; /* a hook reads what is there, and writes it all */
	}
	return count < AT_ONCE;
}

/* The change that RECORD needs, with all that go with it. */
static int begin(struct store *store, struct dns_record *record, const struct record *settings,
                 bool by_hook)
{
	struct change *change = calloc(1, sizeof *change);
	const char *name = record->name;
	int64_t profile = record->profile;
	bool put = record->state == ABSENT;
	int r;

	if (!change)
		return -ENOMEM;
	*change = (struct change){
		.next = changes, .store = store, .profile = profile, .put = put, .by_hook = by_hook
	};
	if (!last_change)
		last_change = store_now(store) * 1000; /* none of a predecessor's */
	change->number = ++last_change;
	snprintf(change->name, sizeof change->name, "%s", name);
	changes = change;
	for (; record; record = record->next) {
		if (record->profile != profile || strcmp(record->name, name) != 0 ||
		    record->state != (put ? ABSENT : LEFT))
			continue;
		record->change = change;
		record->state = put ? PUTTING : REMOVING;
		if (by_hook)
			break;
	}
	r = make(change, settings);
	if (r < 0)
		changed(change, strerror(-r), false);
	return r;
}

static int settings_of(struct store *store, int64_t profile, struct record **settings)
{
	struct object object;
	int r = db_object_get(store->db, profile, &object);

	return r < 0 ? r : store_settings(store, &object, settings);
}

/* Begins what RECORD needs. True: the lists may have changed. */
static bool advance(struct store *store, struct dns_record *record)
{
	struct record *settings = NULL;
	const char *reason = NULL;
	bool by_hook, known, changed_lists = true;

	if (record->change || record->state == PUT ||
	    (record->state == LEFT && record->due > store_now(store)))
		return false;
	known = settings_of(store, record->profile, &settings) == 0;
	by_hook = known && record_get(settings, "acme-dns-hook");
	if (!known)
		reason = "its profile is gone";
	else if (!by_hook && !record_get(settings, "acme-dns-server"))
		reason = "the profile has neither acme-dns-server nor acme-dns-hook";
	if (reason && record->state == ABSENT) {
		not_put(record);
		tell_waiters(reason);
	} else if (reason && known) {
		not_removed(store, record, reason);
	} else if (reason) {
		log_warning("%s TXT %s stays where it is: %s", record->name, record->value, reason);
		forget(store, record);
	} else if (may_begin(record, by_hook)) {
		begin(store, record, settings, by_hook);
	} else {
		changed_lists = false;
	}
	record_free(settings);
	return changed_lists;
}

/* Brings all records to where they are wanted. */
static void adjust(struct store *store)
{
	static bool busy;
	struct dns_record *record = records;

	if (busy || store->stopping) /* whoever is busy begins anew */
		return;
	busy = true;
	while (record)
		record = advance(store, record) ? records : record->next;
	busy = false;
}

/* --- requests --- */

static void disown(int64_t request)
{
	for (struct dns_record *record = records; record; record = record->next)
		if (record->request == request)
			record->request = 0;
}

/* What nobody wants any more goes. */
static void leave(void)
{
	for (struct dns_record *record = records; record; record = record->next)
		if (!record->request && (record->state == PUT || record->state == ABSENT)) {
			record->state = LEFT;
			record->due = 0;
		}
}

static bool want(int64_t request, int64_t profile, const char *name, const char *value)
{
	struct dns_record *record = find(profile, name, value);

	if (!record)
		record = add(profile, name, value);
	if (!record)
		return false;
	record->request = request;
	if (record->state == LEFT)
		record->state = ABSENT; /* it is put again, which does no harm */
	return true;
}

bool dns_records_open(struct store *store, int64_t request, int64_t profile,
                      const struct record *record, challenges_opened *opened, void *user)
{
	char name[OWNER_SIZE], value[64];
	const struct field *field;
	struct waiter *waiter = NULL;
	size_t index = 0;

	disown(request); /* what an order of before wanted */
	while ((field = record_next(record, "challenge", &index))) {
		if (!read_line(field->value, name, value))
			continue;
		if (!waiter)
			waiter = calloc(1, sizeof *waiter);
		if (!waiter)
			break;
		waiter->failed |= !want(request, profile, name, value);
	}
	leave();
	if (waiter) {
		waiter->next = waiters;
		waiter->request = request;
		waiter->opened = opened;
		waiter->user = user;
		waiters = waiter;
	}
	adjust(store);
	tell_waiters("no memory");
	return waiter;
}

void dns_records_close(struct store *store, int64_t request)
{
	struct waiter *waiter = waiter_of(request);

	if (waiter) {
		unlink_waiter(waiter);
		free(waiter);
	}
	disown(request);
	leave();
	adjust(store);
}

void dns_records_status(const struct object *profile, struct record *status)
{
	for (const struct dns_record *record = records; record; record = record->next)
		if (record->profile == profile->id && record->state != PUT && *record->reason)
			record_addf(status, "acme-dns-left", "%s %s: %s", record->name,
			            record->value, record->reason);
}

void dns_records_start(struct store *store)
{
	char meta[META_MAX] = PREFIX;

	while (db_meta_next(store->db, meta, PREFIX "~", NOTED, meta, sizeof meta) == 0) {
		char name[OWNER_SIZE], value[64];
		struct dns_record *record;
		long long profile;

		if (sscanf(meta, PREFIX "%lld %259s %63s", &profile, name, value) != 3)
			continue;
		record = add(profile, name, value);
		if (!record)
			return;
		record->state = LEFT;
		record->due = store_now(store) + START_PAUSE;
	}
}

void dns_records_tick(struct store *store)
{
	adjust(store);
}
