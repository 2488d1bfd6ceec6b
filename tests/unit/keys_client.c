#include "tests/unit/keys_client.h"

#include "common/frame.h"
#include "pkifs/keys.h"

#include <openssl/pem.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* In a child: closes what it inherited from other tests' clients, but for its own two. A control
 * socket that lives on in a sibling would keep its process alive. */
static void keep_only(int one, int other)
{
	for (int fd = 3; fd < 256; fd++)
		if (fd != one && fd != other)
			close(fd);
}

void keys_start(struct keys_client *client, const char *store_key, size_t length)
{
	int ends[2], file[2] = { -1, -1 };

	*client = (struct keys_client){ .next_id = 1, .next_channel = 1 };
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	if (store_key) {
		assert_int_equal(pipe(file), 0);
		assert_int_equal(write(file[1], store_key, length), (ssize_t)length);
		close(file[1]);
	}
	client->pid = fork();
	assert_true(client->pid >= 0);
	if (client->pid == 0) {
		int code;

		keep_only(ends[1], file[0]);
		code = keys_main(ends[1], file[0]);
		prctl(PR_SET_DUMPABLE, 1); /* the leak checker looks into the process */
		exit(code);
	}
	close(ends[1]);
	if (file[0] >= 0)
		close(file[0]);
	client->control = ends[0];
}

int keys_stop(struct keys_client *client)
{
	int status = -1;

	close(client->control);
	waitpid(client->pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

struct record *keys_question(const char *frame)
{
	struct record *question = record_new();

	record_add(question, "frame", frame);
	return question;
}

struct record *keys_ask(struct keys_client *client, struct record *question, int fd)
{
	struct record *answer = NULL;
	long long id = client->next_id++;

	record_add_number(question, "id", id);
	assert_int_equal(frame_send(client->control, question, &fd, fd >= 0), 0);
	record_free(question);
	if (frame_receive(client->control, &answer, NULL) < 0)
		return NULL;
	assert_int_equal(record_number(answer, "id", 0), id);
	return answer;
}

struct record *keys_generate(struct keys_client *client, const char *type, int size, int owner)
{
	struct record *question = keys_question("generate"), *answer;

	record_add(question, "key-type", type);
	record_add_number(question, "key-size", size);
	record_add_number(question, "owner", owner);
	answer = keys_ask(client, question, -1);
	assert_non_null(answer);
	if (record_get(answer, "error"))
		fail_msg("%s", record_get(answer, "error"));
	return answer;
}

void keys_copy_field(struct record *to, const struct record *from, const char *name)
{
	const struct field *field = record_find(from, name);

	record_add_bytes(to, name, field->value, field->length);
}

struct record *keys_grant(struct keys_client *client, long long channel, const char *name,
                          const struct record *key, int owner)
{
	struct record *question = keys_question("grant");

	record_add_number(question, "channel", channel);
	record_add(question, "key", name);
	keys_copy_field(question, key, "sealed");
	keys_copy_field(question, key, "public");
	record_add_number(question, "owner", owner);
	return keys_ask(client, question, -1);
}

int keys_grant_new(struct keys_client *client, const char *name, const struct record *key,
                   int owner)
{
	struct record *question = keys_question("channel"), *answer;
	long long channel = client->next_channel++;
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	record_add_number(question, "channel", channel);
	answer = keys_ask(client, question, ends[1]);
	close(ends[1]);
	assert_non_null(answer);
	assert_null(record_get(answer, "error"));
	record_free(answer);
	answer = keys_grant(client, channel, name, key, owner);
	assert_non_null(answer);
	assert_null(record_get(answer, "error"));
	record_free(answer);
	return ends[0];
}

struct record *keys_open_question(const struct record *key, int owner)
{
	struct record *question = keys_question("open");

	keys_copy_field(question, key, "sealed");
	keys_copy_field(question, key, "public");
	record_add_number(question, "owner", owner);
	return question;
}

EVP_PKEY *keys_opened(struct keys_client *client, const struct record *key, int owner)
{
	struct record *answer = keys_ask(client, keys_open_question(key, owner), -1);
	const struct field *pem;
	EVP_PKEY *found;
	BIO *in;

	assert_non_null(answer);
	pem = record_find(answer, "pem");
	if (!pem)
		fail_msg("%s", record_get(answer, "error"));
	assert_int_equal(pem->length, record_number(key, "pem-size", 0));
	assert_int_equal(strncmp(pem->value, "-----BEGIN PRIVATE KEY-----\n", 28), 0);
	in = BIO_new_mem_buf(pem->value, (int)pem->length);
	found = PEM_read_bio_PrivateKey(in, NULL, NULL, NULL);
	assert_non_null(found);
	BIO_free(in);
	record_free(answer);
	return found;
}

void assert_keys_error(struct record *answer, const char *sentence)
{
	const char *has;

	assert_non_null(answer);
	has = record_get(answer, "error");
	assert_null(record_get(answer, "sealed"));
	assert_null(record_get(answer, "pem"));
	if (!has || !strstr(has, sentence))
		fail_msg("\"%s\" is answered instead of \"%s\"", has ? has : "no error", sentence);
	record_free(answer);
}
