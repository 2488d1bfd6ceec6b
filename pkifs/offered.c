#include "pkifs/offered.h"

#include "common/channel.h"
#include "common/log.h"
#include "common/x509.h"
#include "pkifs/privatekey.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CALLERS     64   /* at once; more wait in the listener's line */
#define CALL_MS     2000 /* what a caller gives us */
#define TICK_MS     50
#define CALL_MAX    (64u << 10) /* bytes of a question */
#define LOG_MS      10000       /* in which there are no more than */
#define LOG_LINES   10          /* lines about callers */
#define EC_SIZE_MAX 66          /* bytes of a coordinate: P-521 */

/* A connection; one question, one answer. */
struct caller {
	struct caller *next; /* who came later */
	struct offered *offered;
	struct channel *channel;
	struct record *question; /* waits for its turn */
	bool answered;
	uint64_t since;
};

struct listener {
	uv_poll_t poll;
	struct offered *offered;
	int fd;
	uid_t uid; /* who may call, beside root */
};

struct offered {
	uv_loop_t *loop;
	uv_idle_t work;  /* runs while a question waits */
	uv_timer_t tick; /* runs while there are callers, or no room */
	struct listener *listener;
	struct caller *callers;
	size_t caller_count;
	struct record **keys;
	size_t key_count;
	offered_opener *open;
	void *user;
	uint64_t logged; /* the first of so many lines */
	unsigned lines;
};

static void came(uv_poll_t *poll, int status, int events);

/* Whoever may call could fill the log. */
static bool may_log(struct offered *offered)
{
	uint64_t now = uv_now(offered->loop);

	if (now - offered->logged >= LOG_MS) {
		offered->logged = now;
		offered->lines = 0;
	}
	return offered->lines++ < LOG_LINES;
}

static void listen_again(struct offered *offered)
{
	if (offered->listener)
		uv_poll_start(&offered->listener->poll, UV_READABLE, came);
}

static void caller_end(struct caller *caller)
{
	struct offered *offered = caller->offered;
	struct caller **at = &offered->callers;

	while (*at != caller)
		at = &(*at)->next;
	*at = caller->next;
	offered->caller_count--;
	channel_close(caller->channel);
	record_free(caller->question);
	free(caller);
	listen_again(offered);
}

/* --- what callers ask --- */

static const struct record *find_key(const struct offered *offered, const struct field *id)
{
	for (size_t i = 0; id && i < offered->key_count; i++) {
		const struct field *has = record_find(offered->keys[i], "id");

		if (has->length == id->length && memcmp(has->value, id->value, id->length) == 0)
			return offered->keys[i];
	}
	return NULL;
}

static void add_number(const EVP_PKEY *key, const char *name, const char *field, struct record *to)
{
	unsigned char bytes[1024 + 8];
	BIGNUM *number = NULL;

	if (EVP_PKEY_get_bn_param(key, name, &number) && BN_num_bytes(number) <= (int)sizeof bytes)
		record_add_bytes(to, field, bytes, (size_t)BN_bn2bin(number, bytes));
	BN_free(number);
}

static void add_der(unsigned char *der, int length, const char *field, struct record *to)
{
	if (length > 0)
		record_add_bytes(to, field, der, (size_t)length);
	OPENSSL_free(der);
}

/* The curve and the point of an EC key, as PKCS#11 has them. */
static void add_ec(const struct field *public, struct record *to)
{
	const unsigned char *at = (const unsigned char *)public->value, *point = NULL;
	X509_PUBKEY *key = d2i_X509_PUBKEY(NULL, &at, (long)public->length);
	ASN1_OCTET_STRING *string = ASN1_OCTET_STRING_new();
	unsigned char *der = NULL;
	X509_ALGOR *algorithm;
	const void *curve;
	int length, type;

	if (key && string && X509_PUBKEY_get0_param(NULL, &point, &length, &algorithm, key) &&
	    ASN1_OCTET_STRING_set(string, point, length)) {
		X509_ALGOR_get0(NULL, &type, &curve, algorithm);
		if (type == V_ASN1_OBJECT) {
			length = i2d_ASN1_OBJECT(curve, &der);
			add_der(der, length, "ec-params", to);
		}
		der = NULL;
		length = i2d_ASN1_OCTET_STRING(string, &der);
		add_der(der, length, "ec-point", to);
	}
	ASN1_OCTET_STRING_free(string);
	X509_PUBKEY_free(key);
}

/* Bytes of a coordinate of KEY's curve: PKCS#11's signatures are two such numbers. */
static size_t ec_size(const EVP_PKEY *key)
{
	return ((size_t)EVP_PKEY_get_bits(key) + 7) / 8;
}

/* Adds what a caller may know of the key OFFER. Other types than RSA and EC are not lent. */
static int describe(const struct record *offer, struct record *answer)
{
	const struct field *id = record_find(offer, "id"), *public = record_find(offer, "public");
	EVP_PKEY *key = public_key_from_der(public->value, public->length);
	int type = key ? EVP_PKEY_get_base_id(key) : 0, r = 0;
	struct record *told = record_new();
	unsigned char *bytes = NULL;
	size_t length;

	if (!told || (type != EVP_PKEY_RSA && type != EVP_PKEY_EC))
		goto out;
	record_add_bytes(told, "id", id->value, id->length);
	record_add(told, "label", record_get(offer, "label"));
	if (type == EVP_PKEY_RSA) {
		add_number(key, OSSL_PKEY_PARAM_RSA_N, "modulus", told);
		add_number(key, OSSL_PKEY_PARAM_RSA_E, "exponent", told);
		record_add_number(told, "signature-size", EVP_PKEY_get_size(key));
	} else {
		add_ec(public, told);
		record_add_number(told, "signature-size", (long long)(2 * ec_size(key)));
	}
	r = record_encode(told, &bytes, &length);
	if (r == 0)
		record_add_bytes(answer, "key", bytes, length);
	OPENSSL_free(bytes);
out:
	EVP_PKEY_free(key);
	record_free(told);
	ERR_clear_error();
	return told ? r : -ENOMEM;
}

static int answer_find(struct offered *offered, const struct record *question,
                       struct record *answer)
{
	const struct field *id = record_find(question, "id");
	const struct record *key = find_key(offered, id);
	int r = 0;

	if (id)
		return key ? describe(key, answer) : 0;
	for (size_t i = 0; r == 0 && i < offered->key_count; i++)
		r = describe(offered->keys[i], answer);
	return r;
}

/* DER of an ECDSA signature as the two numbers of SIZE bytes that it is. */
static int plain_signature(const unsigned char *der, size_t length, size_t size,
                           unsigned char *plain)
{
	ECDSA_SIG *signature = d2i_ECDSA_SIG(NULL, &der, (long)length);
	bool good = signature && size <= EC_SIZE_MAX &&
	            BN_bn2binpad(ECDSA_SIG_get0_r(signature), plain, (int)size) >= 0 &&
	            BN_bn2binpad(ECDSA_SIG_get0_s(signature), plain + size, (int)size) >= 0;

	ECDSA_SIG_free(signature);
	return good ? 0 : -EINVAL;
}

/* Signs DATA by KEY over its DIGEST. */
static int sign_data(EVP_PKEY *key, const EVP_MD *digest, const struct field *data,
                     unsigned char **out, size_t *length, struct error *err)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	bool good;

	*length = (size_t)EVP_PKEY_get_size(key);
	*out = OPENSSL_malloc(*length);
	good = *out && context && EVP_DigestSignInit(context, NULL, digest, NULL, key) == 1 &&
	       EVP_DigestSign(context, *out, length, (const unsigned char *)data->value,
	                      data->length) == 1;
	EVP_MD_CTX_free(context);
	return good ? 0 : error_openssl(err, -EINVAL, "signing failed");
}

/* The digests that are believed today, by name and size. */
static const EVP_MD *digest_of(const char *name, size_t size)
{
	static const struct {
		const char *name;
		size_t size;
		const EVP_MD *(*digest)(void);
	} digests[] = {
		{ "sha256", 32, EVP_sha256 },
		{ "sha384", 48, EVP_sha384 },
		{ "sha512", 64, EVP_sha512 },
	};

	for (size_t i = 0; i < COUNT(digests); i++)
		if (name ? strcmp(name, digests[i].name) == 0 : size == digests[i].size)
			return digests[i].digest();
	return NULL;
}

/* What QUESTION asks of KEY: a digest signed (EC), or data over a digest. */
static int sign(EVP_PKEY *key, const struct record *question, struct record *answer,
                struct error *err)
{
	const struct field *data = record_find(question, "data");
	const char *name = record_get(question, "digest");
	const EVP_MD *digest = data ? digest_of(name, data->length) : NULL;
	bool ec = EVP_PKEY_get_base_id(key) == EVP_PKEY_EC;
	unsigned char *out = NULL, plain[2 * EC_SIZE_MAX];
	size_t length = 0;
	int r;

	if (!digest || (!ec && EVP_PKEY_get_base_id(key) != EVP_PKEY_RSA))
		return error_set(err, -EINVAL,
		                 "signatures are made by RSA and EC keys over SHA-256, SHA-384 "
		                 "and SHA-512");
	r = name ? sign_data(key, digest, data, &out, &length, err)
	         : private_key_ecdsa(key, (const unsigned char *)data->value, data->length, &out,
	                             &length, err);
	if (r == 0 && ec) {
		r = plain_signature(out, length, ec_size(key), plain);
		length = 2 * ec_size(key);
	}
	if (r == 0)
		record_add_bytes(answer, "data", ec ? plain : out, length);
	OPENSSL_free(out);
	return r;
}

/* The key is opened for each signature, and closed behind it. */
static int answer_sign(struct offered *offered, const struct record *question,
                       struct record *answer)
{
	const struct record *offer = find_key(offered, record_find(question, "id"));
	struct error err = { 0 };
	EVP_PKEY *key = NULL;
	int r;

	if (!offer)
		r = error_set(&err, -EACCES, "a signature was asked of a key that no tunnel uses");
	else
		r = offered->open(offered->user, offer, &key, &err);
	if (r == 0)
		r = sign(key, question, answer, &err);
	EVP_PKEY_free(key);
	if (r < 0)
		record_add(answer, "error", err.text);
	if (r < 0 && may_log(offered))
		log_warning("pkifs-pkcs11.so: %s%s%s", offer ? record_get(offer, "label") : "",
		            offer ? ": " : "", err.text);
	return 0;
}

/* -EBADMSG: that is no question. */
static int answer(struct caller *caller)
{
	struct record *question = caller->question, *answer = record_new();
	int r = answer ? -EBADMSG : -ENOMEM;

	caller->question = NULL;
	caller->answered = true;
	if (answer)
		record_add(answer, "frame", "answer");
	if (answer && record_is(question, "frame", "find"))
		r = answer_find(caller->offered, question, answer);
	else if (answer && record_is(question, "frame", "sign"))
		r = answer_sign(caller->offered, question, answer);
	if (r == 0)
		r = channel_send(caller->channel, answer, NULL, 0);
	record_free(question);
	record_free(answer);
	return r;
}

/* --- the calls --- */

/* One question a turn, who came first. */
static void work(uv_idle_t *idle)
{
	struct offered *offered = idle->data;
	struct caller *caller = offered->callers;

	while (caller && !caller->question)
		caller = caller->next;
	if (!caller)
		uv_idle_stop(idle);
	else if (answer(caller) < 0)
		caller_end(caller);
}

/* A second question, or what is none: a wrong frame. At last the caller closes. */
static void received(struct channel *channel, struct record *record, int *fds, int code, void *user)
{
	struct caller *caller = user;

	(void)channel;
	(void)fds;
	if (!record || caller->question || caller->answered) {
		if (code != -EPIPE && may_log(caller->offered))
			log_warning("pkifs-pkcs11.so: a caller sent a wrong frame");
		record_free(record);
		caller_end(caller);
		return;
	}
	caller->question = record;
	uv_idle_start(&caller->offered->work, work);
}

/* Nobody waits any more for an answer to those that are late. */
static void tick(uv_timer_t *timer)
{
	struct offered *offered = timer->data;
	struct caller *next;

	listen_again(offered);
	if (!offered->callers)
		uv_timer_stop(timer);
	for (struct caller *caller = offered->callers; caller; caller = next) {
		next = caller->next;
		if (uv_now(offered->loop) - caller->since >= CALL_MS)
			caller_end(caller);
	}
}

/* Deaf for a moment: there is no room. */
static void rest(struct offered *offered)
{
	uv_poll_stop(&offered->listener->poll);
	uv_timer_start(&offered->tick, tick, TICK_MS, TICK_MS);
}

/* For one more: where all are taken, the first one goes that has its answer or says nothing. */
static bool make_room(struct offered *offered)
{
	struct caller *caller = offered->callers;

	if (offered->caller_count < CALLERS)
		return true;
	while (caller && caller->question)
		caller = caller->next;
	if (caller)
		caller_end(caller);
	return caller != NULL;
}

static int caller_new(struct offered *offered, int fd)
{
	struct caller *caller = calloc(1, sizeof *caller), **at = &offered->callers;

	if (!caller)
		return -ENOMEM;
	caller->channel = channel_open(offered->loop, fd, CALL_MAX, received, caller);
	if (!caller->channel) {
		free(caller);
		return -ENOMEM;
	}
	caller->offered = offered;
	caller->since = uv_now(offered->loop);
	while (*at)
		at = &(*at)->next;
	*at = caller;
	offered->caller_count++;
	if (!uv_is_active((uv_handle_t *)&offered->tick))
		uv_timer_start(&offered->tick, tick, TICK_MS, TICK_MS);
	return 0;
}

/*
 * One caller a turn, so that those before it are read first: whoever asks something has done so
 * when we look.
 */
static void came(uv_poll_t *poll, int status, int events)
{
	const struct listener *listener = poll->data;
	struct offered *offered = listener->offered;
	struct ucred who = { .uid = (uid_t)-1 };
	socklen_t size = sizeof who;
	int fd;

	(void)status;
	(void)events;
	fd = make_room(offered) ? accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)
	                        : -1;
	if (fd < 0) {
		rest(offered);
		return;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) < 0 ||
	    (who.uid != 0 && who.uid != listener->uid)) {
		if (may_log(offered))
			log_warning("pkifs-pkcs11.so: user %u may not call (charon-user)", who.uid);
		close(fd);
	} else if (caller_new(offered, fd) < 0) {
		close(fd);
	}
}

static void listener_done(uv_handle_t *handle)
{
	struct listener *listener = handle->data;

	close(listener->fd);
	free(listener);
}

static void listener_close(struct offered *offered)
{
	if (offered->listener)
		uv_close((uv_handle_t *)&offered->listener->poll, listener_done);
	offered->listener = NULL;
}

int offered_listen(struct offered *offered, int fd, uid_t uid)
{
	struct listener *listener = calloc(1, sizeof *listener);

	if (!listener || uv_poll_init(offered->loop, &listener->poll, fd) < 0) {
		free(listener);
		return -ENOMEM;
	}
	listener->offered = offered;
	listener->fd = fd;
	listener->uid = uid;
	listener->poll.data = listener;
	listener_close(offered);
	offered->listener = listener;
	uv_poll_start(&listener->poll, UV_READABLE, came);
	return 0;
}

/* --- what is offered --- */

static void keys_free(struct record **keys, size_t count)
{
	for (size_t i = 0; i < count; i++)
		record_free(keys[i]);
	free(keys);
}

int offered_set(struct offered *offered, const struct record *record)
{
	struct record **keys = calloc(record_count(record) + 1, sizeof *keys);
	const struct field *field;
	size_t count = 0;
	int r = keys ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && (field = record_next(record, "key", &i)) != NULL;) {
		r = record_decode((const unsigned char *)field->value, field->length, &keys[count]);
		if (r == 0 &&
		    (!record_find(keys[count], "id") || !record_find(keys[count], "label") ||
		     !record_find(keys[count], "public")))
			r = -EBADMSG;
		count++;
	}
	if (r < 0) {
		keys_free(keys, count);
		return r;
	}
	keys_free(offered->keys, offered->key_count);
	offered->keys = keys;
	offered->key_count = count;
	return 0;
}

struct offered *offered_open(uv_loop_t *loop, offered_opener *open, void *user)
{
	struct offered *offered = calloc(1, sizeof *offered);

	if (!offered)
		return NULL;
	offered->loop = loop;
	offered->open = open;
	offered->user = user;
	uv_idle_init(loop, &offered->work);
	uv_timer_init(loop, &offered->tick);
	offered->work.data = offered->tick.data = offered;
	return offered;
}

void offered_end(struct offered *offered)
{
	if (!offered)
		return;
	listener_close(offered);
	while (offered->callers)
		caller_end(offered->callers);
	uv_close((uv_handle_t *)&offered->work, NULL);
	uv_close((uv_handle_t *)&offered->tick, NULL);
}

void offered_free(struct offered *offered)
{
	if (!offered)
		return;
	keys_free(offered->keys, offered->key_count);
	free(offered);
}
