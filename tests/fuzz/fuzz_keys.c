/*
 * The keys process as the store and the workers talk to it. The input is a sequence of pieces: a
 * byte that says what it is, a byte of length, and the bytes.
 *
 *   even: to the store's control socket      odd: to the signing socket of bits 5 and 6
 *   bit 1: the bytes as they are             else a record as text, sent as a frame
 *   bit 2: with a descriptor                 (a signing socket of its own, its number bits 5, 6)
 *   bit 3: the signing socket ends           (odd alone)
 *
 * A value of `@ec`, `@rsa`, `@ed` in a text stands for a key that was sealed here, so that no
 * ciphertext need stand in a seed. Each frame gets one answer, or ends its sender.
 */
#include "common/frame.h"
#include "common/log.h"
#include "pkifs/keys.h"
#include "pkifs/privatekey.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define SOCKETS 4
#define OWNER   7

struct sample {
	const char *name;
	char *pem;
	size_t length;
	struct record *sealed; /* the answer to its import */
};

static struct sample samples[] = { { .name = "@ec" }, { .name = "@rsa" }, { .name = "@ed" } };

/* One of our ends. RAW: what went into it need not be frames, so that nothing is owed. */
struct end {
	int fd;
	bool raw;
};

static struct world {
	uv_loop_t loop;
	struct keys *keys;
	struct end control, signing[SOCKETS];
} world;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int __real_private_key_generate(const char *type, long long size, EVP_PKEY **key,
                                struct error *err);
int __wrap_private_key_generate(const char *type, long long size, EVP_PKEY **key,
                                struct error *err);

static void must(bool condition)
{
	if (!condition)
		abort();
}

/* The slow types are as good as a quick one. */
int __wrap_private_key_generate(const char *type, long long size, EVP_PKEY **key, struct error *err)
{
	bool slow = strcmp(type, "rsa") == 0 || strcmp(type, "dsa") == 0;

	return __real_private_key_generate(slow ? "ed25519" : type, size, key, err);
}

static void turns(void)
{
	for (int i = 0; i < 6; i++) /* a frame in, an operation, its answer out */
		uv_run(&world.loop, UV_RUN_NOWAIT);
}

static int store_key(void)
{
	int fd = memfd_create("store-key", MFD_CLOEXEC);

	must(write(fd, "0123456789abcdef0123456789abcdef", 32) == 32 && lseek(fd, 0, 0) == 0);
	return fd;
}

static void start(void)
{
	int ends[2];

	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
	world.control = (struct end){ .fd = ends[0] };
	for (int i = 0; i < SOCKETS; i++)
		world.signing[i] = (struct end){ .fd = -1 };
	world.keys = keys_open(&world.loop, ends[1], store_key());
	must(world.keys != NULL);
}

static void end_now(struct end *end)
{
	if (end->fd >= 0)
		close(end->fd);
	end->fd = -1;
}

/* It ends whatever it was sent. */
static void stop(void)
{
	end_now(&world.control);
	turns();
	must(!uv_loop_alive(&world.loop));
	keys_close(world.keys);
	for (int i = 0; i < SOCKETS; i++)
		end_now(&world.signing[i]);
}

/* The answer at END, NULL where it was ended instead. One or the other is owed. */
static struct record *answer_of(struct end *end)
{
	struct record *answer = NULL;
	char byte;

	turns();
	if (recv(end->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0) {
		must(errno == ECONNRESET || end->raw);
		return NULL;
	}
	if (frame_receive(end->fd, &answer, NULL) < 0) {
		end_now(end);
		return NULL;
	}
	must(record_is(answer, "frame", "answer"));
	return answer;
}

static void make_sample(struct sample *sample, EVP_PKEY *key)
{
	struct record *question = record_new();
	unsigned char *der;
	size_t length;
	BIO *pem;
	char *text;

	must(private_key_to_der(key, &der, &length) == 0);
	must(private_key_to_pem(der, length, &pem) == 0);
	sample->length = (size_t)BIO_get_mem_data(pem, &text);
	sample->pem = strndup(text, sample->length);
	record_add(question, "frame", "import");
	record_add_number(question, "id", 1);
	record_add_number(question, "owner", OWNER);
	record_add_bytes(question, "text", sample->pem, sample->length);
	must(frame_send(world.control.fd, question, NULL, 0) == 0);
	sample->sealed = answer_of(&world.control);
	must(record_find(sample->sealed, "sealed") != NULL);
	record_free(question);
	BIO_free(pem);
	OPENSSL_secure_clear_free(der, length);
	EVP_PKEY_free(key);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	log_open("keys", "stderr", LOG_CRIT); /* it tells of every wrong frame */
	uv_loop_init(&world.loop);
	start();
	make_sample(&samples[0], EVP_EC_gen("P-256"));
	make_sample(&samples[1], EVP_RSA_gen(2048));
	make_sample(&samples[2], EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"));
	stop();
	return 0;
}

/* FIELD into RECORD, with the sample's own bytes where it names one. */
static void add(struct record *record, const struct field *field)
{
	for (size_t i = 0; i < COUNT(samples); i++) {
		const struct field *value = record_find(samples[i].sealed, field->key);

		if (strcmp(field->value, samples[i].name) != 0)
			continue;
		if (value)
			record_add_bytes(record, field->key, value->value, value->length);
		else
			record_add_bytes(record, field->key, samples[i].pem, samples[i].length);
		return;
	}
	record_add_bytes(record, field->key, field->value, field->length);
}

static void send_text(struct end *end, const uint8_t *text, size_t length, int fd)
{
	struct record *parsed = NULL, *record;
	struct error err;

	if (record_parse((const char *)text, length, "frame", &parsed, &err) < 0)
		return;
	record = record_new();
	for (size_t i = 0; i < record_count(parsed); i++)
		add(record, record_field(parsed, i));
	if (frame_send(end->fd, record, &fd, fd >= 0) == 0)
		record_free(answer_of(end));
	record_free(record);
	record_free(parsed);
}

static void send_raw(struct end *end, const uint8_t *bytes, size_t length)
{
	end->raw = true;
	if (send(end->fd, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
		record_free(answer_of(end));
}

static void piece(uint8_t kind, const uint8_t *bytes, size_t length)
{
	struct end *signing = &world.signing[kind >> 5 & 3];
	struct end *end = kind & 1 ? signing : &world.control;
	int ends[2] = { -1, -1 };

	if (end->fd < 0)
		return;
	if ((kind & 1) && (kind & 8)) {
		end_now(end);
		turns();
		return;
	}
	if (kind & 2) {
		send_raw(end, bytes, length);
		return;
	}
	if (kind & 4)
		must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
	send_text(end, bytes, length, ends[1]);
	if (ends[1] >= 0)
		close(ends[1]);
	if (kind & 1)
		close(ends[0]);
	else if (ends[0] >= 0) {
		end_now(signing);
		/* in a control socket that holds half a frame, it waits with it */
		*signing = (struct end){ .fd = ends[0], .raw = world.control.raw };
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t at = 0;

	start();
	while (at + 2 < size) {
		size_t length = data[at + 1] < size - at - 2 ? data[at + 1] : size - at - 2;

		piece(data[at], data + at + 2, length);
		at += 2 + length;
	}
	stop();
	return 0;
}
