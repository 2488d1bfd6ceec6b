#include "pkifs/keys.h"

#include "common/channel.h"
#include "common/confine.h"
#include "common/log.h"
#include "common/x509.h"
#include "pkifs/keymemory.h"
#include "pkifs/offered.h"
#include "pkifs/privatekey.h"
#include "pkifs/seal.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SIGNING_MAX   (256u << 10) /* bytes of a frame on a signing socket */
#define CHANNEL_MAX   1024         /* signing sockets at once */
#define PURPOSE_KEY   "pkifs key"
#define PURPOSE_CHECK "pkifs check"
#define CHECK_TEXT    "this store key opens this store"

static const char *const grant_names[] = { "new", "current", "account" };

/* A worker's signing socket. */
struct signing {
	struct signing *next;
	struct keys *keys;
	struct channel *channel;
	long long number;
	EVP_PKEY *granted[COUNT(grant_names)];
	struct record *waiting; /* the operation that is to be done */
};

struct keys {
	uv_loop_t *loop;
	uv_idle_t work; /* runs while an operation waits */
	struct store_key *store_key;
	struct channel *control;
	struct signing *signings;
	size_t signing_count;
	struct offered *offered;
	bool wrong; /* the store sent a wrong frame */
};

/* A question of the store: its frame, where the answer goes, and what failed. */
struct question {
	struct keys *keys;
	const struct record *record;
	struct record *answer;
	int *fds;
	struct error err;
};

#define WRONG (-EBADMSG) /* the question itself is wrong, not what it asks for */

static void signing_end(struct signing *signing)
{
	struct signing **at = &signing->keys->signings;

	while (*at != signing)
		at = &(*at)->next;
	*at = signing->next;
	signing->keys->signing_count--;
	channel_close(signing->channel);
	record_free(signing->waiting);
	for (size_t i = 0; i < COUNT(grant_names); i++)
		EVP_PKEY_free(signing->granted[i]);
	free(signing);
}

/* The index of a grant's name, or -1. */
static int grant_index(const char *name)
{
	for (size_t i = 0; name && i < COUNT(grant_names); i++)
		if (strcmp(name, grant_names[i]) == 0)
			return (int)i;
	return -1;
}

/* Does what OPERATION asks with KEY. -EBADMSG where it is no operation. */
static int use_key(EVP_PKEY *key, const struct record *operation, unsigned char **out,
                   size_t *length, struct error *err)
{
	const struct field *data = record_find(operation, "data");
	const unsigned char *bytes = data ? (const unsigned char *)data->value : NULL;
	bool decrypt = record_is(operation, "operation", "decrypt");

	if (!data)
		return WRONG;
	if (record_is(operation, "frame", "ecdsa-sign"))
		return private_key_ecdsa(key, bytes, data->length, out, length, err);
	if (record_is(operation, "frame", "dsa-sign"))
		return private_key_dsa(key, bytes, data->length, out, length, err);
	if (record_is(operation, "frame", "sign"))
		return private_key_ed25519(key, bytes, data->length, out, length, err);
	if (!record_is(operation, "frame", "rsa-private") ||
	    (!decrypt && !record_is(operation, "operation", "encrypt")))
		return WRONG;
	return private_key_rsa(key, decrypt, (int)record_number(operation, "padding", -1), bytes,
	                       data->length, out, length, err);
}

/* Answers the operation that waits. -EBADMSG: it is none; another errno: the worker is gone. */
static int signing_work(struct signing *signing)
{
	int grant = grant_index(record_get(signing->waiting, "key")), r;
	struct record *answer = record_new();
	unsigned char *out = NULL;
	struct error err = { 0 };
	size_t length = 0;

	if (!answer)
		return -ENOMEM;
	record_add(answer, "frame", "answer");
	if (grant < 0)
		r = WRONG;
	else if (!signing->granted[grant])
		r = error_set(&err, -EACCES, "no key is granted as \"%s\"", grant_names[grant]);
	else
		r = use_key(signing->granted[grant], signing->waiting, &out, &length, &err);
	if (r == 0)
		record_add_bytes(answer, "data", out, length);
	else
		record_add(answer, "error", err.text);
	OPENSSL_clear_free(out, length);
	record_free(signing->waiting);
	signing->waiting = NULL;
	r = r == WRONG ? r : channel_send(signing->channel, answer, NULL, 0);
	record_free(answer);
	return r;
}

/* One operation a turn. A worker that was served goes to the end of the line. */
static void work(uv_idle_t *idle)
{
	struct keys *keys = idle->data;
	struct signing **at = &keys->signings, *signing;
	int r;

	while (*at && !(*at)->waiting)
		at = &(*at)->next;
	signing = *at;
	if (!signing) {
		uv_idle_stop(idle);
		return;
	}
	*at = signing->next;
	signing->next = NULL;
	for (at = &keys->signings; *at;)
		at = &(*at)->next;
	*at = signing;
	r = signing_work(signing);
	if (r == WRONG)
		log_warning("signing socket %lld is closed: a wrong frame", signing->number);
	if (r < 0)
		signing_end(signing);
}

/* A second operation before the first one's answer is a wrong frame: a worker does one thing. */
static void signing_received(struct channel *channel, struct record *record, int *fds, int code,
                             void *user)
{
	struct signing *signing = user;

	(void)channel;
	(void)fds;
	if (!record || signing->waiting) {
		if (code != -EPIPE)
			log_warning("signing socket %lld is closed: a wrong frame",
			            signing->number);
		record_free(record);
		signing_end(signing);
		return;
	}
	signing->waiting = record;
	uv_idle_start(&signing->keys->work, work);
}

static struct signing *signing_find(const struct keys *keys, long long number)
{
	struct signing *signing = keys->signings;

	while (signing && signing->number != number)
		signing = signing->next;
	return signing;
}

/* What a sealed key of the question belongs to. False where a field is missing. */
static bool label_of(const struct record *record, const struct field *public,
                     struct seal_label *label)
{
	*label = (struct seal_label){ .purpose = PURPOSE_KEY,
		                      .owner = record_number(record, "owner", -1) };
	if (public) {
		label->public = public->value;
		label->public_length = public->length;
	}
	return label->owner >= 0;
}

/* Answers with KEY: sealed for its owner, its public part and the size of its PEM. */
static int answer_key(struct question *question, const EVP_PKEY *key)
{
	unsigned char *der = NULL, *public = NULL, *sealed = NULL;
	size_t length = 0, public_length = 0, sealed_length = 0;
	struct seal_label label;
	BIO *pem = NULL;
	char *text;
	int r;

	label_of(question->record, NULL, &label);
	r = private_key_to_der(key, &der, &length);
	if (r == 0)
		r = public_key_to_der(key, &public, &public_length);
	if (r == 0)
		r = private_key_to_pem(der, length, &pem);
	if (r < 0) {
		error_set(&question->err, r, "the key cannot be written");
		goto out;
	}
	label.public = public;
	label.public_length = public_length;
	r = seal(question->keys->store_key, &label, der, length, &sealed, &sealed_length,
	         &question->err);
	if (r < 0)
		goto out;
	record_add_bytes(question->answer, "sealed", sealed, sealed_length);
	record_add_bytes(question->answer, "public", public, public_length);
	record_add_number(question->answer, "pem-size", BIO_get_mem_data(pem, &text));
out:
	OPENSSL_secure_clear_free(der, length);
	OPENSSL_free(public);
	OPENSSL_clear_free(sealed, sealed_length);
	BIO_free(pem);
	return r;
}

static int answer_generate(struct question *question)
{
	const char *type = record_get(question->record, "key-type");
	EVP_PKEY *key = NULL;
	int r;

	if (!type || record_number(question->record, "owner", -1) < 0)
		return WRONG;
	r = private_key_generate(type, record_number(question->record, "key-size", 0), &key,
	                         &question->err);
	if (r == 0)
		r = answer_key(question, key);
	EVP_PKEY_free(key);
	return r;
}

static int answer_import(struct question *question)
{
	const struct field *text = record_find(question->record, "text");
	EVP_PKEY *key = NULL;
	int r;

	if (!text || record_number(question->record, "owner", -1) < 0)
		return WRONG;
	r = private_key_import(text->value, text->length, &key, &question->err);
	if (r == 0)
		r = answer_key(question, key);
	EVP_PKEY_free(key);
	return r;
}

/* Opens the question's sealed key: *KEY, and its PKCS#8 in *DER. Both are the caller's. */
static int open_sealed(struct question *question, EVP_PKEY **key, unsigned char **der,
                       size_t *length)
{
	const struct field *sealed = record_find(question->record, "sealed");
	const struct field *public = record_find(question->record, "public");
	unsigned char *has = NULL;
	struct seal_label label;
	size_t size = 0;
	int r;

	if (!sealed || !public || !label_of(question->record, public, &label))
		return WRONG;
	r = unseal(question->keys->store_key, &label, sealed->value, sealed->length, der, length,
	           &question->err);
	if (r < 0)
		return r;
	*key = private_key_from_der(*der, *length);
	if (!*key || public_key_to_der(*key, &has, &size) < 0 || size != public->length ||
	    memcmp(has, public->value, size) != 0)
		r = error_set(&question->err, -EINVAL,
		              "what is stored is not the private key of its public key");
	OPENSSL_free(has);
	return r;
}

static int answer_open(struct question *question)
{
	unsigned char *der = NULL;
	EVP_PKEY *key = NULL;
	size_t length = 0;
	BIO *pem = NULL;
	char *text;
	long size;
	int r;

	r = open_sealed(question, &key, &der, &length);
	if (r == 0) {
		r = private_key_to_pem(der, length, &pem);
		if (r < 0)
			error_set(&question->err, r, "out of memory");
	}
	if (r == 0) {
		size = BIO_get_mem_data(pem, &text);
		record_add_bytes(question->answer, "pem", text, (size_t)size);
	}
	BIO_free(pem);
	EVP_PKEY_free(key);
	OPENSSL_secure_clear_free(der, length);
	return r;
}

static int answer_channel(struct question *question)
{
	long long number = record_number(question->record, "channel", -1);
	struct keys *keys = question->keys;
	struct signing *signing;

	if (number < 0 || question->fds[0] < 0)
		return WRONG;
	signing = signing_find(keys, number);
	if (signing) /* the number's former worker is gone, and its socket's end on its way */
		signing_end(signing);
	if (keys->signing_count >= CHANNEL_MAX)
		return error_set(&question->err, -ENOSPC, "there are %d signing sockets already",
		                 CHANNEL_MAX);
	signing = calloc(1, sizeof *signing);
	if (signing)
		signing->channel = channel_open(keys->loop, question->fds[0], SIGNING_MAX,
		                                signing_received, signing);
	if (!signing || !signing->channel) {
		free(signing);
		return error_set(&question->err, -ENOMEM, "out of memory");
	}
	question->fds[0] = -1;
	signing->keys = keys;
	signing->number = number;
	signing->next = keys->signings;
	keys->signings = signing;
	keys->signing_count++;
	return 0;
}

static int answer_grant(struct question *question)
{
	long long number = record_number(question->record, "channel", -1);
	int grant = grant_index(record_get(question->record, "key"));
	struct signing *signing = signing_find(question->keys, number);
	unsigned char *der = NULL;
	EVP_PKEY *key = NULL;
	size_t length = 0;
	int r;

	if (number < 0 || grant < 0)
		return WRONG;
	r = open_sealed(question, &key, &der, &length);
	OPENSSL_secure_clear_free(der, length);
	if (r == 0 && !signing)
		r = error_set(&question->err, -EPIPE, "signing socket %lld is closed", number);
	if (r < 0) {
		EVP_PKEY_free(key);
		return r;
	}
	EVP_PKEY_free(signing->granted[grant]);
	signing->granted[grant] = key;
	return 0;
}

static int answer_revoke(struct question *question)
{
	long long number = record_number(question->record, "channel", -1);
	struct signing *signing = signing_find(question->keys, number);

	if (number < 0)
		return WRONG;
	for (size_t i = 0; signing && i < COUNT(grant_names); i++) {
		EVP_PKEY_free(signing->granted[i]);
		signing->granted[i] = NULL;
	}
	return 0;
}

/* The socket at which an IKE daemon's module calls. */
static int answer_pkcs11(struct question *question)
{
	long long uid = record_number(question->record, "uid", -1);

	if (uid < 0 || question->fds[0] < 0)
		return WRONG;
	if (offered_listen(question->keys->offered, question->fds[0], (uid_t)uid) < 0)
		return error_set(&question->err, -ENOMEM, "out of memory");
	question->fds[0] = -1;
	return 0;
}

static int answer_offer(struct question *question)
{
	int r = offered_set(question->keys->offered, question->record);

	return r == -ENOMEM ? error_set(&question->err, r, "out of memory") : r;
}

/* For one signature of the module's. */
static int open_offered(void *user, const struct record *offer, EVP_PKEY **key, struct error *err)
{
	struct question question = { .keys = user, .record = offer };
	unsigned char *der = NULL;
	size_t length = 0;
	int r = open_sealed(&question, key, &der, &length);

	OPENSSL_secure_clear_free(der, length);
	*err = question.err;
	return r;
}

static int answer_seal_check(struct question *question)
{
	const struct seal_label label = { .purpose = PURPOSE_CHECK };
	unsigned char *sealed;
	size_t length;
	int r;

	r = seal(question->keys->store_key, &label, CHECK_TEXT, sizeof CHECK_TEXT, &sealed, &length,
	         &question->err);
	if (r < 0)
		return r;
	record_add_bytes(question->answer, "sealed", sealed, length);
	OPENSSL_clear_free(sealed, length);
	return 0;
}

static int answer_open_check(struct question *question)
{
	const struct field *sealed = record_find(question->record, "sealed");
	const struct seal_label label = { .purpose = PURPOSE_CHECK };
	unsigned char *plain = NULL;
	struct error why;
	size_t length = 0;
	int r;

	if (!sealed)
		return WRONG;
	r = unseal(question->keys->store_key, &label, sealed->value, sealed->length, &plain,
	           &length, &why);
	if (r == 0 && (length != sizeof CHECK_TEXT || memcmp(plain, CHECK_TEXT, length) != 0))
		r = error_set(&why, -EINVAL, "its check is another one");
	OPENSSL_secure_clear_free(plain, length);
	return r < 0 ? error_set(&question->err, r, "the store key does not open this store: %s",
	                         why.text)
	             : 0;
}

static const struct {
	const char *frame;
	int (*answer)(struct question *question);
} questions[] = {
	{ "generate", answer_generate },
	{ "import", answer_import },
	{ "open", answer_open },
	{ "channel", answer_channel },
	{ "grant", answer_grant },
	{ "revoke", answer_revoke },
	{ "pkcs11", answer_pkcs11 },
	{ "offer", answer_offer },
	{ "seal-check", answer_seal_check },
	{ "open-check", answer_open_check },
};

static int answer(struct question *question)
{
	const char *id = record_get(question->record, "id");
	int r = WRONG;

	if (!id)
		return WRONG;
	record_add(question->answer, "frame", "answer");
	record_add(question->answer, "id", id);
	for (size_t i = 0; i < COUNT(questions); i++)
		if (record_is(question->record, "frame", questions[i].frame))
			r = questions[i].answer(question);
	if (r == WRONG)
		return r;
	if (r < 0)
		record_add(question->answer, "error", question->err.text);
	return channel_send(question->keys->control, question->answer, NULL, 0);
}

static void end(struct keys *keys)
{
	while (keys->signings)
		signing_end(keys->signings);
	channel_close(keys->control);
	keys->control = NULL;
	offered_end(keys->offered);
	uv_close((uv_handle_t *)&keys->work, NULL);
}

static void control_received(struct channel *channel, struct record *record, int *fds, int code,
                             void *user)
{
	struct keys *keys = user;
	struct question question = { .keys = keys, .record = record, .fds = fds };

	(void)channel;
	if (record) {
		question.answer = record_new();
		code = question.answer ? answer(&question) : -ENOMEM;
	}
	record_free(question.answer);
	record_free(record);
	if (code == 0)
		return;
	keys->wrong = code != -EPIPE;
	if (keys->wrong)
		log_error("the store's frame cannot be answered: %s", strerror(-code));
	end(keys);
}

struct keys *keys_open(uv_loop_t *loop, int control_fd, int store_key_fd)
{
	struct keys *keys = calloc(1, sizeof *keys);
	struct store_key *store_key = store_key_open(store_key_fd);

	if (keys && store_key)
		keys->offered = offered_open(loop, open_offered, keys);
	if (keys && keys->offered)
		keys->control = channel_open(loop, control_fd, FRAME_MAX, control_received, keys);
	if (!keys || !keys->control) {
		store_key_free(store_key);
		free(keys);
		close(control_fd);
		return NULL;
	}
	keys->loop = loop;
	keys->store_key = store_key;
	uv_idle_init(loop, &keys->work);
	keys->work.data = keys;
	return keys;
}

int keys_close(struct keys *keys)
{
	bool wrong = keys->wrong;

	store_key_free(keys->store_key);
	offered_free(keys->offered);
	free(keys);
	return wrong ? 1 : 0;
}

int keys_main(int control_fd, int store_key_fd)
{
	struct error err = { 0 };
	struct keys *keys;
	uv_loop_t loop;
	int code;

	keymemory_init();
	OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG, NULL);
	keys = uv_loop_init(&loop) == 0 ? keys_open(&loop, control_fd, store_key_fd) : NULL;
	if (!keys) {
		log_error("the keys process has no memory");
		return 1;
	}
	if (confine(CONFINED_KEYS, NULL, &err) < 0) {
		log_error("the keys process cannot start: %s", err.text);
		return 1;
	}
	uv_run(&loop, UV_RUN_DEFAULT);
	code = keys_close(keys);
	uv_loop_close(&loop);
	return code;
}
