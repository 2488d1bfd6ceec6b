/*
 * Callers of lent keys, up to four at once. The input is a sequence of pieces: a byte that says
 * what it is, a byte of length, and the bytes.
 *
 *   bits 0 and 1: which caller; one that is not there comes
 *   bit 2: the bytes as they are   else a record as text, sent as a frame
 *   bit 3: the caller goes
 *
 * A value of `@ec`, `@rsa`, `@ed` stands for a key's id. What is answered to a whole question is
 * one frame, or an end; a signature that is given is one by that key.
 */
#include "common/frame.h"
#include "common/log.h"
#include "common/x509.h"
#include "pkifs/offered.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/rsa.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CALLERS 4

static struct sample {
	const char *name;
	EVP_PKEY *key;
	unsigned char id[KEY_ID_SIZE];
} samples[] = { { .name = "@ec" }, { .name = "@rsa" }, { .name = "@ed" } };

static uv_loop_t loop;
static struct offered *offered;
static struct sockaddr_un place = { .sun_family = AF_UNIX };
static int callers[CALLERS];

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
	if (!condition)
		abort();
}

static void turns(void)
{
	for (int i = 0; i < 8; i++) /* the caller, its frame, the answer, the end */
		uv_run(&loop, UV_RUN_NOWAIT);
}

static int open_key(void *user, const struct record *offer, EVP_PKEY **key, struct error *err)
{
	(void)user;
	(void)err;
	*key = samples[record_number(offer, "owner", 0)].key;
	return EVP_PKEY_up_ref(*key) == 1 ? 0 : -ENOMEM;
}

static void add_offer(struct record *frame, long long number)
{
	struct sample *sample = &samples[number];
	struct record *offer = record_new();
	unsigned char *bytes;
	size_t length;

	must(public_key_to_der(sample->key, &bytes, &length) == 0);
	must(public_key_id(bytes, length, sample->id) == 0);
	record_add_bytes(offer, "id", sample->id, sizeof sample->id);
	record_add(offer, "label", sample->name);
	record_add_number(offer, "owner", number);
	record_add_bytes(offer, "public", bytes, length);
	OPENSSL_free(bytes);
	must(record_encode(offer, &bytes, &length) == 0);
	record_add_bytes(frame, "key", bytes, length);
	OPENSSL_free(bytes);
	record_free(offer);
}

/* An address without a file. */
static int listen_here(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(place.sun_path + 1, sizeof place.sun_path - 1, "pkifs-fuzz-%d", getpid());
	must(bind(fd, (struct sockaddr *)&place, sizeof place) == 0 && listen(fd, 8) == 0);
	return fd;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct record *frame = record_new();

	(void)argc;
	(void)argv;
	log_open("keys", "stderr", LOG_CRIT); /* it tells of wrong frames */
	samples[0].key = EVP_EC_gen("P-256");
	samples[1].key = EVP_RSA_gen(2048);
	samples[2].key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	uv_loop_init(&loop);
	offered = offered_open(&loop, open_key, NULL);
	for (size_t i = 0; i < COUNT(samples); i++)
		add_offer(frame, (long long)i);
	must(offered_set(offered, frame) == 0);
	record_free(frame);
	must(offered_listen(offered, listen_here(), getuid()) == 0);
	for (int i = 0; i < CALLERS; i++)
		callers[i] = -1;
	return 0;
}

static void go(int *caller)
{
	if (*caller >= 0)
		close(*caller);
	*caller = -1;
	turns();
}

static void come(int *caller)
{
	*caller = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(connect(*caller, (struct sockaddr *)&place, sizeof place) == 0);
	turns();
}

/* Ids by their names. */
static struct record *question_of(const uint8_t *text, size_t length)
{
	struct record *parsed = NULL, *question;

	if (record_parse((const char *)text, length, "frame", &parsed, NULL) < 0)
		return NULL;
	question = record_new();
	for (size_t i = 0; i < record_count(parsed); i++) {
		const struct field *field = record_field(parsed, i);
		size_t s = 0;

		while (s < COUNT(samples) && strcmp(field->value, samples[s].name) != 0)
			s++;
		if (s < COUNT(samples))
			record_add_bytes(question, field->key, samples[s].id, KEY_ID_SIZE);
		else
			record_add_bytes(question, field->key, field->value, field->length);
	}
	record_free(parsed);
	return question;
}

/* A signature is the length that its key makes. */
static void check(const struct record *question, const struct record *answer)
{
	const struct field *id = record_find(question, "id"), *data = record_find(answer, "data");

	must(record_is(answer, "frame", "answer"));
	if (!data)
		return;
	must(record_is(question, "frame", "sign") && id && id->length == KEY_ID_SIZE);
	must(memcmp(id->value, samples[2].id, KEY_ID_SIZE) != 0);
	must(data->length == (memcmp(id->value, samples[0].id, KEY_ID_SIZE) == 0 ? 64 : 256));
}

/* The first on its connection has an answer, or the connection ends. */
static void ask(int *caller, const struct record *question)
{
	struct record *answer = NULL;
	char byte;

	if (frame_send(*caller, question, NULL, 0) < 0) {
		go(caller);
		return;
	}
	turns();
	must(recv(*caller, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || errno != EAGAIN);
	if (frame_receive(*caller, &answer, NULL) < 0) {
		go(caller);
		return;
	}
	check(question, answer);
	record_free(answer);
}

static void piece(uint8_t kind, const uint8_t *bytes, size_t length)
{
	int *caller = &callers[kind & 3];
	struct record *question;

	if (kind & 8) {
		go(caller);
		return;
	}
	if (kind & 4) {
		if (*caller < 0)
			come(caller);
		send(*caller, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT);
		turns();
		return;
	}
	question = question_of(bytes, length);
	if (!question)
		return;
	go(caller); /* half a frame may stand before it */
	come(caller);
	ask(caller, question);
	record_free(question);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t at = 0;

	while (at + 2 < size) {
		size_t length = data[at + 1] < size - at - 2 ? data[at + 1] : size - at - 2;

		piece(data[at], data + at + 2, length);
		at += 2 + length;
	}
	for (int i = 0; i < CALLERS; i++)
		go(&callers[i]);
	return 0;
}
