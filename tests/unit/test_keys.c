#include "common/frame.h"
#include "common/x509.h"
#include "tests/unit/keys_client.h"

#include <errno.h>
#include <openssl/rsa.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const char store_key[] = "0123456789abcdef0123456789abcdef";
static struct keys_client keys; /* one process for the tests that leave it alive */

static int start_keys(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	keys_start(&keys, store_key, 32);
	return 0;
}

static int stop_keys(void **state)
{
	(void)state;
	return keys_stop(&keys);
}

static void a_generated_key_opens_as_the_same_pem_each_time(void **state)
{
	static const struct {
		const char *type, *described;
		int size;
	} types[] = {
		{ "rsa", "rsa 2048", 2048 },   { "rsa", "rsa 2048", 0 },
		{ "ecdsa", "ecdsa 256", 256 }, { "ecdsa", "ecdsa 384", 384 },
		{ "ecdsa", "ecdsa 521", 521 }, { "ed25519", "ed25519", 0 },
		{ "dsa", "dsa 2048", 2048 },
	};
	char text[32];

	(void)state;
	for (size_t i = 0; i < COUNT(types); i++) {
		struct record *key = keys_generate(&keys, types[i].type, types[i].size, 7);
		const struct field *public = record_find(key, "public");
		EVP_PKEY *private = keys_opened(&keys, key, 7), *again = keys_opened(&keys, key, 7);
		EVP_PKEY *half = public_key_from_der(public->value, public->length);

		key_describe(private, text, sizeof text);
		assert_string_equal(text, types[i].described);
		assert_int_equal(EVP_PKEY_eq(private, again), 1);
		assert_int_equal(EVP_PKEY_eq(private, half), 1);
		EVP_PKEY_free(private);
		EVP_PKEY_free(again);
		EVP_PKEY_free(half);
		record_free(key);
	}
}

static struct record *ask_generate(const char *type, int size)
{
	struct record *question = keys_question("generate");

	record_add(question, "key-type", type);
	record_add_number(question, "key-size", size);
	record_add_number(question, "owner", 1);
	return keys_ask(&keys, question, -1);
}

static void a_size_that_the_type_lacks_is_refused_with_the_range(void **state)
{
	(void)state;
	assert_keys_error(ask_generate("rsa", 1024),
	                  "rsa takes a key-size of 2048 to 8192, not 1024");
	assert_keys_error(ask_generate("rsa", 8193), "not 8193");
	assert_keys_error(ask_generate("ecdsa", 255), "256, 384 or 521, not 255");
	assert_keys_error(ask_generate("dsa", 1024), "2048 or 3072, not 1024");
	assert_keys_error(ask_generate("ed448", 0), "rsa, ecdsa, ed25519 or dsa, not \"ed448\"");
}

static void a_sealed_key_opens_only_where_it_belongs(void **state)
{
	struct record *key = keys_generate(&keys, "ecdsa", 256, 7);
	struct record *other = keys_generate(&keys, "ecdsa", 256, 7), *question;
	struct field sealed = *record_find(key, "sealed");

	(void)state;
	assert_keys_error(keys_ask(&keys, keys_open_question(key, 8), -1), "changed or moved");
	question = keys_question("open");
	keys_copy_field(question, key, "sealed");
	keys_copy_field(question, other, "public");
	record_add_number(question, "owner", 7);
	assert_keys_error(keys_ask(&keys, question, -1), "changed or moved");
	for (size_t i = 0; i < sealed.length; i += i < 32 ? 1 : 13) {
		sealed.value[i] ^= 1;
		question = keys_open_question(key, 7);
		assert_keys_error(keys_ask(&keys, question, -1), "what is stored");
		sealed.value[i] ^= 1;
	}
	question = keys_question("open");
	record_add_bytes(question, "sealed", sealed.value, 20);
	keys_copy_field(question, key, "public");
	record_add_number(question, "owner", 7);
	assert_keys_error(keys_ask(&keys, question, -1), "in no known form");
	EVP_PKEY_free(keys_opened(&keys, key, 7));
	record_free(key);
	record_free(other);
}

static struct record *sealed_check(struct keys_client *client)
{
	struct record *answer = keys_ask(client, keys_question("seal-check"), -1);

	assert_non_null(answer);
	assert_non_null(record_get(answer, "sealed"));
	return answer;
}

static struct record *open_check(struct keys_client *client, const struct record *check)
{
	struct record *question = keys_question("open-check");

	keys_copy_field(question, check, "sealed");
	return keys_ask(client, question, -1);
}

static void another_store_key_is_told_from_the_right_one(void **state)
{
	static const char hex[] =
		"3031323334353637383961626364656630313233343536373839616263646566\n";
	struct record *check = sealed_check(&keys), *key = keys_generate(&keys, "ed25519", 0, 3);
	struct record *answer;
	struct keys_client other;

	(void)state;
	answer = open_check(&keys, check);
	assert_null(record_get(answer, "error"));
	record_free(answer);
	keys_start(&other, hex, sizeof hex - 1); /* the same key in its other form */
	answer = open_check(&other, check);
	assert_null(record_get(answer, "error"));
	record_free(answer);
	EVP_PKEY_free(keys_opened(&other, key, 3));
	assert_int_equal(keys_stop(&other), 0);
	keys_start(&other, "0123456789abcdef0123456789abcdeX", 32);
	assert_keys_error(open_check(&other, check), "the store key does not open this store");
	assert_keys_error(keys_ask(&other, keys_open_question(key, 3), -1),
	                  "the store key is another one");
	assert_int_equal(keys_stop(&other), 0);
	record_free(check);
	record_free(key);
}

static void unsealed_and_sealed_are_never_mistaken(void **state)
{
	struct record *check = sealed_check(&keys), *key = keys_generate(&keys, "ed25519", 0, 3);
	struct record *bare_check, *bare;
	struct keys_client none;

	(void)state;
	keys_start(&none, NULL, 0);
	bare_check = sealed_check(&none);
	bare = keys_generate(&none, "ed25519", 0, 3);
	EVP_PKEY_free(keys_opened(&none, bare, 3));
	record_free(open_check(&none, bare_check));
	assert_keys_error(open_check(&none, check), "store-key = none is set");
	assert_keys_error(keys_ask(&none, keys_open_question(key, 3), -1),
	                  "store-key = none is set");
	assert_keys_error(open_check(&keys, bare_check), "was made with store-key = none");
	assert_keys_error(keys_ask(&keys, keys_open_question(bare, 3), -1),
	                  "was made with store-key = none");
	assert_int_equal(keys_stop(&none), 0);
	record_free(check);
	record_free(key);
	record_free(bare_check);
	record_free(bare);
}

static void an_unsealed_key_opens_only_with_its_public_key(void **state)
{
	struct record *one, *other, *question;
	struct keys_client none;

	(void)state;
	keys_start(&none, NULL, 0);
	one = keys_generate(&none, "ecdsa", 256, 3);
	other = keys_generate(&none, "ecdsa", 256, 3);
	question = keys_question("open");
	keys_copy_field(question, one, "sealed");
	keys_copy_field(question, other, "public");
	record_add_number(question, "owner", 3);
	assert_keys_error(keys_ask(&none, question, -1), "not the private key of its public key");
	assert_int_equal(keys_stop(&none), 0);
	record_free(one);
	record_free(other);
}

static void a_file_that_is_no_store_key_refuses_every_use(void **state)
{
	static const char no_hex[] =
		"zz3132333435363738396162636465663031323334353637383961626364656"
		"f";
	const char *const texts[] = { "", "short", "0123456789abcdef0123456789abcdef\n", no_hex };
	struct keys_client client;

	(void)state;
	for (size_t i = 0; i < COUNT(texts); i++) {
		keys_start(&client, texts[i], strlen(texts[i]));
		assert_keys_error(keys_ask(&client, keys_question("seal-check"), -1),
		                  "the store key file is not 32 bytes or 64 hex digits");
		assert_int_equal(keys_stop(&client), 0);
	}
}

/* The answer on a signing socket; NULL when the socket was closed. QUESTION is freed. */
static struct record *sign(int fd, struct record *question)
{
	struct record *answer = NULL;

	if (frame_send(fd, question, NULL, 0) < 0 || frame_receive(fd, &answer, NULL) < 0)
		answer = NULL;
	record_free(question);
	return answer;
}

static struct record *operation(const char *frame, const char *key, const void *data, size_t length)
{
	struct record *question = keys_question(frame);

	record_add(question, "key", key);
	record_add_bytes(question, "data", data, length);
	return question;
}

static struct record *rsa_operation(const char *operation_name, int padding, const void *data,
                                    size_t length)
{
	struct record *question = operation("rsa-private", "new", data, length);

	record_add(question, "operation", operation_name);
	record_add_number(question, "padding", padding);
	return question;
}

static void a_key_is_used_only_where_and_as_it_was_granted(void **state)
{
	struct record *key = keys_generate(&keys, "ecdsa", 256, 7), *question, *answer;
	int one = keys_grant_new(&keys, "new", key, 7);
	int other = keys_grant_new(&keys, "current", key, 7);
	unsigned char digest[32] = { 1 };

	(void)state;
	answer = sign(one, operation("ecdsa-sign", "new", digest, sizeof digest));
	assert_non_null(record_get(answer, "data"));
	record_free(answer);
	assert_keys_error(sign(one, operation("ecdsa-sign", "current", digest, sizeof digest)),
	                  "no key is granted as \"current\"");
	assert_keys_error(sign(other, operation("ecdsa-sign", "new", digest, sizeof digest)),
	                  "no key is granted as \"new\"");
	assert_keys_error(sign(one, operation("sign", "new", "a", 1)), "no Ed25519 key");
	assert_keys_error(sign(one, rsa_operation("encrypt", RSA_PKCS1_PADDING, "a", 1)),
	                  "no RSA key");
	assert_keys_error(sign(one, operation("ecdsa-sign", "new", "", 0)), "no digest");
	question = keys_question("revoke");
	record_add_number(question, "channel", keys.next_channel - 2);
	record_free(keys_ask(&keys, question, -1));
	assert_keys_error(sign(one, operation("ecdsa-sign", "new", digest, sizeof digest)),
	                  "no key is granted as \"new\"");
	answer = sign(other, operation("ecdsa-sign", "current", digest, sizeof digest));
	assert_non_null(record_get(answer, "data"));
	record_free(answer);
	close(one);
	close(other);
	record_free(key);
}

static void a_grant_for_another_owner_is_refused(void **state)
{
	struct record *key = keys_generate(&keys, "ecdsa", 256, 7);
	int fd = keys_grant_new(&keys, "new", key, 7);

	(void)state;
	assert_keys_error(keys_grant(&keys, keys.next_channel - 1, "current", key, 8),
	                  "changed or moved");
	assert_keys_error(keys_grant(&keys, 9999, "new", key, 7), "signing socket 9999 is closed");
	close(fd);
	record_free(key);
}

static void every_decryption_that_fails_says_the_same(void **state)
{
	struct record *key = keys_generate(&keys, "rsa", 2048, 7), *answer;
	const struct field *spki = record_find(key, "public");
	EVP_PKEY *public = public_key_from_der(spki->value, spki->length);
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(public, NULL);
	int fd = keys_grant_new(&keys, "new", key, 7);
	unsigned char text[256], zero[256] = { 0 }, ones[256];
	size_t length = sizeof text;
	char *said;

	(void)state;
	memset(ones, 0xff, sizeof ones);
	EVP_PKEY_encrypt_init(context);
	EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING);
	assert_int_equal(EVP_PKEY_encrypt(context, text, &length, (const unsigned char *)"abc", 3),
	                 1);
	answer = sign(fd, rsa_operation("decrypt", RSA_PKCS1_PADDING, text, length));
	assert_int_equal(record_find(answer, "data")->length, 3);
	assert_string_equal(record_get(answer, "data"), "abc");
	record_free(answer);
	answer = sign(fd, rsa_operation("decrypt", RSA_PKCS1_PADDING, zero, sizeof zero));
	said = strdup(record_get(answer, "error"));
	record_free(answer);
	text[3] ^= 1;
	assert_keys_error(sign(fd, rsa_operation("decrypt", RSA_PKCS1_PADDING, text, length)),
	                  said);
	assert_keys_error(sign(fd, rsa_operation("decrypt", RSA_PKCS1_PADDING, text, 5)), said);
	assert_keys_error(sign(fd, rsa_operation("decrypt", RSA_PKCS1_PADDING, ones, 256)), said);
	assert_keys_error(sign(fd, rsa_operation("decrypt", RSA_PKCS1_OAEP_PADDING, zero, 256)),
	                  said);
	assert_keys_error(sign(fd, rsa_operation("decrypt", 77, zero, 256)), "padding 77");
	free(said);
	close(fd);
	EVP_PKEY_CTX_free(context);
	EVP_PKEY_free(public);
	record_free(key);
}

static void a_wrong_frame_on_a_signing_socket_closes_that_socket_alone(void **state)
{
	struct record *key = keys_generate(&keys, "ecdsa", 256, 7), *answer;
	int good = keys_grant_new(&keys, "new", key, 7);
	unsigned char digest[32] = { 1 };

	(void)state;
	for (int i = 0; i < 5; i++) {
		int fd = keys_grant_new(&keys, "new", key, 7);
		struct record *wrong = i == 0   ? operation("generate", "new", digest, 32)
		                       : i == 1 ? operation("ecdsa-sign", "other", digest, 32)
		                       : i == 2 ? rsa_operation("sign", 1, digest, 32)
		                                : keys_question("ecdsa-sign");

		if (i == 4) { /* no frame at all: 2 GiB are announced */
			assert_int_equal(write(fd, "\x80\0\0\0\0", 5), 5);
			record_free(wrong);
			wrong = record_new();
		}
		assert_null(sign(fd, wrong));
		close(fd);
		answer = sign(good, operation("ecdsa-sign", "new", digest, sizeof digest));
		assert_non_null(answer);
		record_free(answer);
	}
	close(good);
	record_free(key);
}

static void operations_that_come_together_are_answered_one_after_the_other(void **state)
{
	struct record *key = keys_generate(&keys, "ecdsa", 256, 7);
	struct record *one = operation("ecdsa-sign", "new", "abcd", 4), *answer = NULL;
	unsigned char *bytes, twice[400] = { 0 };
	int fd = keys_grant_new(&keys, "new", key, 7);
	size_t length;

	(void)state;
	assert_int_equal(record_encode(one, &bytes, &length), 0);
	assert_true(length < 200);
	twice[3] = (unsigned char)length;
	memcpy(twice + 4, bytes, length);
	memcpy(twice + 4 + length, twice, 4 + length);
	assert_int_equal(write(fd, twice, 2 * (4 + length)), (ssize_t)(2 * (4 + length)));
	for (int i = 0; i < 2; i++) {
		assert_int_equal(frame_receive(fd, &answer, NULL), 0);
		assert_non_null(record_find(answer, "data"));
		record_free(answer);
	}
	OPENSSL_free(bytes);
	record_free(one);
	record_free(key);
	close(fd);
}

static void a_wrong_frame_from_the_store_ends_the_process(void **state)
{
	static const char *const frames[] = { "",        "generate", "import",     "open",
		                              "channel", "grant",    "open-check", "revoke" };
	struct keys_client client;

	(void)state;
	for (size_t i = 0; i < COUNT(frames); i++) {
		keys_start(&client, store_key, 32);
		assert_null(keys_ask(&client, keys_question(frames[i]), -1));
		assert_int_equal(keys_stop(&client), 1);
	}
}

static void the_process_ends_with_its_store_though_workers_live(void **state)
{
	struct keys_client client;
	struct record *key, *answer = NULL;
	int fd;

	(void)state;
	keys_start(&client, store_key, 32);
	key = keys_generate(&client, "ecdsa", 256, 7);
	fd = keys_grant_new(&client, "new", key, 7);
	assert_int_equal(keys_stop(&client), 0);
	assert_int_equal(frame_receive(fd, &answer, NULL), -EPIPE);
	close(fd);
	record_free(key);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_generated_key_opens_as_the_same_pem_each_time),
		cmocka_unit_test(a_size_that_the_type_lacks_is_refused_with_the_range),
		cmocka_unit_test(a_sealed_key_opens_only_where_it_belongs),
		cmocka_unit_test(another_store_key_is_told_from_the_right_one),
		cmocka_unit_test(unsealed_and_sealed_are_never_mistaken),
		cmocka_unit_test(an_unsealed_key_opens_only_with_its_public_key),
		cmocka_unit_test(a_file_that_is_no_store_key_refuses_every_use),
		cmocka_unit_test(a_key_is_used_only_where_and_as_it_was_granted),
		cmocka_unit_test(a_grant_for_another_owner_is_refused),
		cmocka_unit_test(every_decryption_that_fails_says_the_same),
		cmocka_unit_test(a_wrong_frame_on_a_signing_socket_closes_that_socket_alone),
		cmocka_unit_test(operations_that_come_together_are_answered_one_after_the_other),
		cmocka_unit_test(a_wrong_frame_from_the_store_ends_the_process),
		cmocka_unit_test(the_process_ends_with_its_store_though_workers_live),
	};

	return cmocka_run_group_tests(tests, start_keys, stop_keys);
}
