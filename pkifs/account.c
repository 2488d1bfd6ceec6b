#include "pkifs/account.h"

#include "pkifs/object.h"
#include "pkifs/publish.h"
#include "pkifs/secrets.h"
#include "pkifs/work.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#define ROLLING_SECONDS 5 /* what a CA takes to change a key, and we to learn that it did */

/* What is kept, as the status says it; `directory` is the URL that it was made at. */
static const char *const kept[][2] = {
	{ "account-url", "acme-key-id" },
	{ "account-terms", "acme-terms" },
};

static void meta_name(char name[64], int64_t profile)
{
	snprintf(name, 64, "acme-account-%lld", (long long)profile);
}

bool account_is_used(const struct standing *standing)
{
	const char *protocol = object_protocol(standing->config, standing->settings);
	const char *action = work_action(standing);

	return standing->profile.id && strcmp(protocol, "acme") == 0 &&
	       (strcmp(action, "enroll") == 0 || strcmp(action, "revoke") == 0 ||
	        strncmp(action, "account-", 8) == 0);
}

/* The row of the account's key, or of its NEXT one; 0: none yet. */
static int key_of(struct store *store, const struct object *profile, bool next, int64_t *key)
{
	struct edition edition;
	int r = db_edition_get(store->db, profile->edition, &edition);

	if (r < 0)
		return r;
	*key = next && edition.key_pair ? edition.next_key : edition.key_pair;
	edition_clear(&edition);
	return 0;
}

/* A key on its way. */
struct making {
	struct store *store;
	int64_t profile;
	bool next;
	account_ready_cb *ready;
	void *user;
};

static void end(struct making *making, const char *reason)
{
	making->ready(making->user, reason);
	free(making);
}

static void key_durable(void *user, int code)
{
	end(user, code < 0 ? "the account key cannot be stored" : "");
}

/* Another job may have been first: its key stays. */
static int keep_key(struct making *making, const struct record *answer)
{
	struct object profile;
	int64_t key = 0;
	int r = db_object_get(making->store->db, making->profile, &profile);

	if (r == 0)
		r = key_of(making->store, &profile, making->next, &key);
	return r < 0 || key ? r : key_publish(making->store, &profile, answer, &key);
}

static void key_made(void *user, const struct record *answer, const struct error *err)
{
	struct making *making = user;
	struct store *store = making->store;
	int r;

	if (!answer) {
		end(making, err->text);
		return;
	}
	r = store_begin(store);
	if (r == 0)
		r = store_end(store, keep_key(making, answer));
	if (r == 0)
		r = store_after(store, key_durable, making);
	if (r < 0)
		key_durable(making, r);
}

int account_prepare(struct store *store, const struct standing *standing, account_ready_cb *ready,
                    void *user)
{
	bool next = strcmp(standing->request.action, "account-rollover") == 0;
	struct record *question;
	struct making *making;
	int64_t key = 0;
	int r;

	if (!account_is_used(standing))
		return 0;
	r = key_of(store, &standing->profile, next, &key);
	if (r < 0 || key)
		return r;
	making = malloc(sizeof *making);
	question = record_new();
	if (!making || !question) {
		free(making);
		record_free(question);
		return -ENOMEM;
	}
	*making = (struct making){ store, standing->profile.id, next, ready, user };
	record_add(question, "frame", "generate");
	record_add(question, "key-type", "ecdsa");
	record_add_number(question, "key-size", 256);
	record_add_number(question, "owner", standing->profile.id);
	r = secrets_ask(store, question, true, NULL, 0, key_made, making);
	if (r == 0)
		return 1;
	free(making);
	return r;
}

static int read_account(struct store *store, int64_t profile, struct record **account)
{
	struct blob value = { 0 };
	char name[64];
	int r;

	meta_name(name, profile);
	r = db_meta_get(store->db, name, &value);
	if (r == 0)
		r = record_decode((const unsigned char *)value.data, value.length, account);
	blob_clear(&value);
	return r;
}

/* The account's URL where it was made at this directory; else what a new one needs. */
static int add_account(struct store *store, const struct standing *standing, struct record *record)
{
	static const char *const needed[] = { "acme-contact", "acme-eab-kid", "acme-eab-key" };
	const char *directory = record_get(standing->settings, "enrollment-url");
	struct record *account = NULL;
	const struct field *field;
	int r = read_account(store, standing->profile.id, &account);

	if (r == 0 && directory && record_is(account, "directory", directory))
		record_add(record, "account-url", record_get(account, "account-url"));
	for (size_t i = 0; i < COUNT(needed); i++)
		for (size_t index = 0;
		     (field = record_next(standing->settings, needed[i], &index)) != NULL;)
			record_add(record, needed[i], field->value);
	record_free(account);
	return r == -ENOENT ? 0 : r;
}

/* The public part of the key in ROW as FIELD, and its grant. */
static int add_key(struct store *store, struct worker_job *work, const char *field,
                   struct grant *grant, const char *name, int64_t row)
{
	struct key_pair pair;
	int r = db_key_get(store->db, row, &pair);

	if (r < 0)
		return r;
	record_add_bytes(work->record, field, pair.public.data, pair.public.length);
	*grant = (struct grant){ name, row };
	key_pair_clear(&pair);
	return 0;
}

int account_compose(struct store *store, const struct standing *standing, struct worker_job *work)
{
	struct edition edition;
	int r;

	if (!account_is_used(standing))
		return 0;
	r = db_edition_get(store->db, standing->profile.edition, &edition);
	if (r < 0)
		return r;
	r = add_key(store, work, "account-public", &work->grants[2], "account", edition.key_pair);
	if (r == 0 && strcmp(standing->request.action, "account-rollover") == 0)
		r = add_key(store, work, "account-next-public", &work->grants[0], "new",
		            edition.next_key);
	edition_clear(&edition);
	return r < 0 ? r : add_account(store, standing, work->record);
}

int account_take(struct store *store, const struct standing *standing, const struct record *result)
{
	const char *directory;
	struct record *account;
	unsigned char *bytes = NULL;
	char name[64];
	size_t length;
	int r;

	if (!record_get(result, "account-url") || !account_is_used(standing))
		return 0;
	directory = record_get(standing->settings, "enrollment-url");
	if (!directory)
		return 0;
	account = record_new();
	if (!account)
		return -ENOMEM;
	record_add(account, "directory", directory);
	for (size_t i = 0; i < COUNT(kept); i++)
		if (record_get(result, kept[i][0]))
			record_add(account, kept[i][0], record_get(result, kept[i][0]));
	meta_name(name, standing->profile.id);
	r = record_encode(account, &bytes, &length);
	if (r == 0)
		r = db_meta_set(store->db, name, bytes, length);
	OPENSSL_free(bytes);
	record_free(account);
	return r;
}

void account_status(struct store *store, const struct object *profile, struct record *status)
{
	struct record *account = NULL;

	if (read_account(store, profile->id, &account) < 0)
		return;
	for (size_t i = 0; i < COUNT(kept); i++)
		if (record_get(account, kept[i][0]))
			record_add(status, kept[i][1], record_get(account, kept[i][0]));
	record_free(account);
}

bool account_is_known(struct store *store, const struct object *profile)
{
	struct record *account = NULL;
	int r = read_account(store, profile->id, &account);

	record_free(account);
	return r == 0;
}

static bool is_rolling(struct store *store, const struct object *profile)
{
	struct request request;
	bool rolling;

	if (db_request_get(store->db, profile->id, &request) < 0)
		return false;
	rolling = request_active(&request) && strcmp(request.action, "account-rollover") == 0;
	request_clear(&request);
	return rolling;
}

bool account_has_changed(struct store *store, const struct standing *standing, int64_t key,
                         long long *after)
{
	int64_t now = 0;

	if (!key || standing->object.kind == KIND_CA || !standing->profile.id)
		return false;
	if (key_of(store, &standing->profile, false, &now) == 0 && now && now != key)
		*after = 1;
	else if (is_rolling(store, &standing->profile))
		*after = ROLLING_SECONDS;
	else
		return false;
	return true;
}

int account_roll(struct store *store, const struct object *profile)
{
	struct edition edition;
	int r = db_edition_get(store->db, profile->edition, &edition);

	if (r < 0)
		return r;
	edition.key_pair = edition.next_key;
	edition.next_key = 0;
	r = edition_publish(store, profile, &edition);
	edition_clear(&edition);
	return r < 0 ? r : store_event(store, profile, "account-key", NULL);
}

int account_end(struct store *store, const struct object *profile)
{
	struct edition edition;
	int r = db_edition_get(store->db, profile->edition, &edition);

	if (r < 0)
		return r;
	edition.key_pair = edition.next_key = 0; /* a CA takes it no more */
	r = edition_publish(store, profile, &edition);
	edition_clear(&edition);
	return r < 0 ? r : account_forget(store, profile);
}

int account_forget(struct store *store, const struct object *profile)
{
	char name[64];

	meta_name(name, profile->id);
	return db_meta_remove(store->db, name);
}
