/* pkifs-pkcs11.so, loaded as others load it, and the keys process that answers it. */
#include "common/x509.h"
#include "tests/unit/keys_client.h"

#include <dlfcn.h>
#include <errno.h>
#include <openssl/ec.h>
#include <p11-kit/pkcs11.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define OWNER 7

static const struct {
	const char *type;
	int size;
	CK_MECHANISM_TYPE mechanisms[3]; /* over SHA-256, SHA-384, SHA-512 */
} types[] = {
	{ "rsa", 2048, { CKM_SHA256_RSA_PKCS, CKM_SHA384_RSA_PKCS, CKM_SHA512_RSA_PKCS } },
	{ "ecdsa", 256, { CKM_ECDSA_SHA256, CKM_ECDSA_SHA384, CKM_ECDSA_SHA512 } },
	{ "ecdsa", 384, { CKM_ECDSA_SHA256, CKM_ECDSA_SHA384, CKM_ECDSA_SHA512 } },
	{ "ecdsa", 521, { CKM_ECDSA_SHA256, CKM_ECDSA_SHA384, CKM_ECDSA_SHA512 } },
	{ "ed25519", 0, { 0 } }, /* not lent */
};
enum { RSA2048, P256, P384, P521, ED25519 };

static struct {
	struct keys_client keys;
	struct record *key[COUNT(types)];
	unsigned char id[COUNT(types)][KEY_ID_SIZE];
	int listener;
	struct sockaddr_un place;
	void *module;
	CK_FUNCTION_LIST *p11;
} t;

/* --- the keys process --- */

static void listen_with(uid_t uid)
{
	struct record *question = keys_question("pkcs11");
	struct record *answer;

	record_add_number(question, "uid", uid);
	answer = keys_ask(&t.keys, question, t.listener);
	assert_non_null(answer);
	assert_null(record_get(answer, "error"));
	record_free(answer);
}

static void add_offer(struct record *question, size_t key)
{
	struct record *offer = record_new();
	unsigned char *bytes;
	size_t length;

	record_add_bytes(offer, "id", t.id[key], KEY_ID_SIZE);
	record_add(offer, "label", types[key].type);
	record_add_number(offer, "owner", OWNER);
	keys_copy_field(offer, t.key[key], "sealed");
	keys_copy_field(offer, t.key[key], "public");
	assert_int_equal(record_encode(offer, &bytes, &length), 0);
	record_add_bytes(question, "key", bytes, length);
	OPENSSL_free(bytes);
	record_free(offer);
}

/* Offers the keys of ALL but WITHOUT. */
static void offer_all(int without)
{
	struct record *question = keys_question("offer"), *answer;

	for (size_t i = 0; i < COUNT(types); i++)
		if ((int)i != without)
			add_offer(question, i);
	answer = keys_ask(&t.keys, question, -1);
	assert_non_null(answer);
	assert_null(record_get(answer, "error"));
	record_free(answer);
}

static void load(void)
{
	CK_RV (*get)(CK_FUNCTION_LIST **);

	t.module = dlopen(MODULE, RTLD_NOW | RTLD_LOCAL);
	if (!t.module)
		fail_msg("%s", dlerror());
	*(void **)(&get) = dlsym(t.module, "C_GetFunctionList");
	assert_non_null(get);
	assert_int_equal(get(&t.p11), CKR_OK);
	assert_int_equal(t.p11->C_Initialize(NULL), CKR_OK);
}

static void unload(void)
{
	assert_int_equal(t.p11->C_Finalize(NULL), CKR_OK);
	dlclose(t.module);
}

static int set_up(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	t.place.sun_family = AF_UNIX;
	snprintf(t.place.sun_path, sizeof t.place.sun_path, "/tmp/pkifs-pkcs11-%d", getpid());
	t.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(t.listener, (struct sockaddr *)&t.place, sizeof t.place), 0);
	assert_int_equal(chmod(t.place.sun_path, 0666), 0); /* the mode is not what refuses here */
	assert_int_equal(listen(t.listener, 256), 0);
	setenv("PKIFS_PKCS11_SOCKET", t.place.sun_path, 1);
	keys_start(&t.keys, NULL, 0);
	for (size_t i = 0; i < COUNT(types); i++) {
		const struct field *public;

		t.key[i] = keys_generate(&t.keys, types[i].type, types[i].size, OWNER);
		public = record_find(t.key[i], "public");
		assert_int_equal(public_key_id(public->value, public->length, t.id[i]), 0);
	}
	offer_all(-1);
	listen_with(0);
	load();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	unload();
	for (size_t i = 0; i < COUNT(types); i++)
		record_free(t.key[i]);
	close(t.listener);
	unlink(t.place.sun_path);
	return keys_stop(&t.keys);
}

/* --- what a program does --- */

static CK_SESSION_HANDLE open_session(void)
{
	CK_SESSION_HANDLE session;

	assert_int_equal(t.p11->C_OpenSession(0, CKF_SERIAL_SESSION, NULL, NULL, &session), CKR_OK);
	return session;
}

/* The objects that are found, up to MOST; RV where that fails. */
static CK_ULONG find(CK_ATTRIBUTE *template, CK_ULONG count, CK_OBJECT_HANDLE *objects,
                     CK_ULONG most, CK_RV *rv)
{
	CK_SESSION_HANDLE session = open_session();
	CK_ULONG found = 0;

	*rv = t.p11->C_FindObjectsInit(session, template, count);
	if (*rv == CKR_OK) {
		assert_int_equal(t.p11->C_FindObjects(session, objects, most, &found), CKR_OK);
		assert_int_equal(t.p11->C_FindObjectsFinal(session), CKR_OK);
	}
	t.p11->C_CloseSession(session);
	return found;
}

/* The private key, or 0. */
static CK_OBJECT_HANDLE find_key(size_t key, CK_RV *rv)
{
	CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
	CK_ATTRIBUTE template[] = { { CKA_CLASS, &class, sizeof class },
		                    { CKA_ID, t.id[key], KEY_ID_SIZE } };
	CK_OBJECT_HANDLE object;

	return find(template, COUNT(template), &object, 1, rv) == 1 ? object : 0;
}

static CK_RV sign(CK_OBJECT_HANDLE object, CK_MECHANISM_TYPE type, const void *data, size_t length,
                  unsigned char *signature, CK_ULONG *size)
{
	CK_MECHANISM mechanism = { type, NULL, 0 };
	CK_SESSION_HANDLE session = open_session();
	unsigned char *bytes = malloc(length ? length : 1);
	CK_RV rv;

	memcpy(bytes, data, length);
	rv = t.p11->C_SignInit(session, &mechanism, object);
	if (rv == CKR_OK)
		rv = t.p11->C_Sign(session, bytes, length, signature, size);
	free(bytes);
	t.p11->C_CloseSession(session);
	return rv;
}

/* Whether SIGNATURE as PKCS#11 has it is one of DATA by the key. */
static bool verifies(size_t key, const EVP_MD *digest, const void *data, size_t length,
                     const unsigned char *signature, size_t size)
{
	const struct field *public = record_find(t.key[key], "public");
	EVP_PKEY *pkey = public_key_from_der(public->value, public->length);
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	unsigned char *der = NULL;
	bool good;

	if (key != RSA2048) {
		ECDSA_SIG *plain = ECDSA_SIG_new();
		int half = (int)size / 2, der_size;

		ECDSA_SIG_set0(plain, BN_bin2bn(signature, half, NULL),
		               BN_bin2bn(signature + half, half, NULL));
		der_size = i2d_ECDSA_SIG(plain, &der);
		ECDSA_SIG_free(plain);
		signature = der;
		size = (size_t)der_size;
	}
	good = EVP_DigestVerifyInit(context, NULL, digest, NULL, pkey) == 1 &&
	       EVP_DigestVerify(context, signature, size, data, length) == 1;
	OPENSSL_free(der);
	EVP_MD_CTX_free(context);
	EVP_PKEY_free(pkey);
	return good;
}

static const char text[] = "what is to be signed";

/* CKR_OK, and the signature verified, or what was said instead. */
static CK_RV try_sign(size_t key)
{
	unsigned char signature[1024];
	CK_ULONG size = sizeof signature;
	CK_OBJECT_HANDLE object;
	CK_RV rv;

	object = find_key(key, &rv);
	if (rv != CKR_OK || !object)
		return rv == CKR_OK ? CKR_KEY_HANDLE_INVALID : rv;
	rv = sign(object, types[key].mechanisms[0], text, sizeof text, signature, &size);
	if (rv == CKR_OK && !verifies(key, EVP_sha256(), text, sizeof text, signature, size))
		return CKR_SIGNATURE_INVALID;
	return rv;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* --- signatures --- */

static void each_mechanism_gives_a_signature_that_openssl_verifies(void **state)
{
	const EVP_MD *digests[] = { EVP_sha256(), EVP_sha384(), EVP_sha512() };
	unsigned char signature[1024], digest[EVP_MAX_MD_SIZE];
	static char data[50000];
	CK_RV rv;

	(void)state;
	memset(data, 'x', sizeof data);
	for (size_t key = 0; key < ED25519; key++) {
		CK_OBJECT_HANDLE object = find_key(key, &rv);

		assert_int_not_equal(object, 0);
		for (size_t i = 0; i < COUNT(digests); i++) {
			CK_ULONG size = sizeof signature;
			unsigned length;

			assert_int_equal(sign(object, types[key].mechanisms[i], data, sizeof data,
			                      signature, &size),
			                 CKR_OK);
			assert_true(verifies(key, digests[i], data, sizeof data, signature, size));
			if (key == RSA2048)
				continue;
			EVP_Digest(data, sizeof data, digest, &length, digests[i], NULL);
			size = sizeof signature;
			assert_int_equal(sign(object, CKM_ECDSA, digest, length, signature, &size),
			                 CKR_OK);
			assert_true(verifies(key, digests[i], data, sizeof data, signature, size));
		}
	}
}

static void what_is_no_digest_is_not_signed(void **state)
{
	unsigned char signature[1024], data[60001] = { 0 };
	CK_ULONG size = sizeof signature;
	CK_OBJECT_HANDLE rsa, ec;
	CK_RV rv;

	(void)state;
	rsa = find_key(RSA2048, &rv);
	ec = find_key(P256, &rv);
	for (size_t length = 0; length < 70; length++)
		if (length != 32 && length != 48 && length != 64)
			assert_int_equal(sign(ec, CKM_ECDSA, data, length, signature, &size),
			                 CKR_FUNCTION_FAILED);
	assert_int_equal(sign(rsa, CKM_RSA_PKCS, data, 32, signature, &size),
	                 CKR_MECHANISM_INVALID);
	assert_int_equal(sign(rsa, CKM_SHA_1, data, 32, signature, &size), CKR_MECHANISM_INVALID);
	assert_int_equal(sign(rsa, CKM_ECDSA, data, 32, signature, &size),
	                 CKR_KEY_TYPE_INCONSISTENT);
	assert_int_equal(sign(rsa, CKM_SHA256_RSA_PKCS, data, sizeof data, signature, &size),
	                 CKR_DATA_LEN_RANGE);
}

static void objects_have_the_attributes_that_programs_ask_for(void **state)
{
	CK_OBJECT_HANDLE objects[32];
	CK_SESSION_HANDLE session = open_session();
	CK_KEY_TYPE type = CKK_EC;
	CK_OBJECT_CLASS certificates = CKO_CERTIFICATE;
	CK_ATTRIBUTE template[] = { { CKA_KEY_TYPE, &type, sizeof type },
		                    { CKA_LABEL, (void *)(uintptr_t) "rsa", 3 } };
	CK_ATTRIBUTE all = { CKA_CLASS, &certificates, sizeof certificates };
	unsigned char id[KEY_ID_SIZE], bytes[4];
	CK_ATTRIBUTE asked[] = { { CKA_ID, id, sizeof id },
		                 { CKA_EC_POINT, bytes, sizeof bytes },
		                 { CKA_PRIVATE_EXPONENT, NULL, 0 },
		                 { CKA_MODULUS, NULL, 0 } };
	CK_RV rv;

	(void)state;
	assert_int_equal(find(NULL, 0, objects, 32, &rv), 8); /* Ed25519 is not lent */
	assert_int_equal(find(template, 1, objects, 32, &rv), 6);
	assert_int_equal(find(template, 2, objects, 32, &rv), 0);
	assert_int_equal(find(template + 1, 1, objects, 32, &rv), 2);
	assert_int_equal(t.p11->C_GetAttributeValue(session, objects[0], asked, 4),
	                 CKR_ATTRIBUTE_TYPE_INVALID);
	assert_memory_equal(id, t.id[RSA2048], KEY_ID_SIZE);
	assert_true(asked[1].ulValueLen == CK_UNAVAILABLE_INFORMATION);
	assert_true(asked[2].ulValueLen == CK_UNAVAILABLE_INFORMATION);
	assert_int_equal(asked[3].ulValueLen, 256);
	asked[0].ulValueLen = 3;
	assert_int_equal(t.p11->C_GetAttributeValue(session, objects[0], asked, 1),
	                 CKR_BUFFER_TOO_SMALL);
	assert_int_equal(find(&all, 1, objects, 32, &rv), 0);
	assert_int_equal(rv, CKR_OK);
	t.p11->C_CloseSession(session);
}

static void wrong_handles_and_orders_are_refused(void **state)
{
	CK_MECHANISM mechanism = { CKM_ECDSA_SHA256, NULL, 0 };
	CK_SESSION_HANDLE session = open_session(), other;
	unsigned char data[4] = { 0 }, signature[64];
	CK_ULONG size = 0, none = 0;
	CK_OBJECT_HANDLE object, found;
	CK_RV rv;

	(void)state;
	object = find_key(P256, &rv);
	assert_int_equal(t.p11->C_Initialize(NULL), CKR_CRYPTOKI_ALREADY_INITIALIZED);
	assert_int_equal(t.p11->C_OpenSession(1, CKF_SERIAL_SESSION, NULL, NULL, &other),
	                 CKR_SLOT_ID_INVALID);
	assert_int_equal(
		t.p11->C_OpenSession(0, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &other),
		CKR_TOKEN_WRITE_PROTECTED);
	assert_int_equal(t.p11->C_CloseSession(99999), CKR_SESSION_HANDLE_INVALID);
	assert_int_equal(t.p11->C_Sign(session, data, 4, signature, &size),
	                 CKR_OPERATION_NOT_INITIALIZED);
	assert_int_equal(t.p11->C_FindObjects(session, &found, 1, &none),
	                 CKR_OPERATION_NOT_INITIALIZED);
	assert_int_equal(t.p11->C_SignInit(session, &mechanism, 999), CKR_KEY_HANDLE_INVALID);
	assert_int_equal(t.p11->C_SignInit(session, &mechanism, object - 1), /* its public half */
	                 CKR_KEY_HANDLE_INVALID);
	assert_int_equal(t.p11->C_SignInit(session, &mechanism, object), CKR_OK);
	assert_int_equal(t.p11->C_SignInit(session, &mechanism, object), CKR_OPERATION_ACTIVE);
	assert_int_equal(t.p11->C_Sign(session, data, 4, NULL, &size), CKR_OK);
	assert_int_equal(size, 64);
	size = 63;
	assert_int_equal(t.p11->C_Sign(session, data, 4, signature, &size), CKR_BUFFER_TOO_SMALL);
	assert_int_equal(t.p11->C_Sign(session, data, 4, signature, &size), CKR_OK);
	assert_true(verifies(P256, EVP_sha256(), data, 4, signature, size));
	assert_int_equal(t.p11->C_WaitForSlotEvent(0, NULL, NULL), CKR_FUNCTION_NOT_SUPPORTED);
	assert_int_equal(t.p11->C_GenerateKeyPair(session, NULL, NULL, 0, NULL, 0, NULL, NULL),
	                 CKR_FUNCTION_NOT_SUPPORTED);
	t.p11->C_CloseSession(session);
}

static void a_key_that_is_withdrawn_signs_no_more(void **state)
{
	unsigned char signature[1024];
	CK_ULONG size = sizeof signature;
	CK_OBJECT_HANDLE object;
	CK_RV rv;

	(void)state;
	object = find_key(P384, &rv);
	offer_all(P384);
	assert_int_equal(sign(object, CKM_ECDSA_SHA256, text, sizeof text, signature, &size),
	                 CKR_FUNCTION_FAILED);
	assert_int_equal(find_key(P384, &rv), 0);
	assert_int_equal(try_sign(P256), CKR_OK);
	offer_all(-1);
	assert_int_equal(try_sign(P384), CKR_OK);
}

/* --- hostile callers --- */

static int connect_to(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&t.place, sizeof t.place), 0);
	return fd;
}

/* Whether the other end closes within SECONDS. */
static bool is_closed(int fd, int seconds)
{
	struct timeval limit = { .tv_sec = seconds };
	char byte;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	return recv(fd, &byte, 1, 0) == 0 || errno == ECONNRESET;
}

static void callers_that_say_nothing_hinder_nobody(void **state)
{
	int silent[200];
	double before;

	(void)state;
	for (size_t i = 0; i < COUNT(silent); i++)
		silent[i] = connect_to();
	before = now();
	for (size_t i = 0; i < 20; i++)
		assert_int_equal(try_sign(P256), CKR_OK);
	assert_true(now() - before < 2);
	assert_true(is_closed(silent[0], 1)); /* it had to make room */
	assert_true(is_closed(silent[COUNT(silent) - 1], 4));
	for (size_t i = 0; i < COUNT(silent); i++)
		close(silent[i]);
}

static void wrong_frames_end_their_caller_alone(void **state)
{
	static const struct {
		const char *bytes;
		size_t length;
	} frames[] = {
		{ "\xff\xff\xff\xff", 4 },        /* longer than any */
		{ "\0\1\0\1", 4 },                /* by one byte */
		{ "\0\0\0\0", 4 },                /* no question */
		{ "\0\0\0\3abc", 7 },             /* no record */
		{ "GET / HTTP/1.0\r\n\r\n", 18 }, /* somebody else's */
		{ "\0\0\0\xf\0\5frame\0\0\0\4sign",
		  19 }, /* refused: an answer, then a second one */
	};

	(void)state;
	for (size_t i = 0; i < COUNT(frames); i++) {
		int fd = connect_to();
		bool refused = i == COUNT(frames) - 1;

		assert_int_equal(send(fd, frames[i].bytes, frames[i].length, MSG_NOSIGNAL),
		                 (ssize_t)frames[i].length);
		if (refused) {
			char answer[512];

			assert_true(recv(fd, answer, sizeof answer, 0) > 4);
			send(fd, frames[i].bytes, frames[i].length, MSG_NOSIGNAL);
		}
		assert_true(is_closed(fd, 4));
		close(fd);
		assert_int_equal(try_sign(P256), CKR_OK);
	}
}

static void half_a_question_ends_in_two_seconds(void **state)
{
	double before = now();
	int fd = connect_to();

	(void)state;
	assert_int_equal(send(fd, "\0\0\0\x20\0", 5, 0), 5);
	assert_int_equal(try_sign(P256), CKR_OK);
	assert_true(is_closed(fd, 4));
	assert_true(now() - before < 4);
	close(fd);
}

static void another_user_is_not_answered(void **state)
{
	int status;
	pid_t child;

	(void)state;
	if (getuid() != 0)
		skip();
	child = fork();
	if (child == 0) {
		int fd;

		if (setuid(65534) < 0)
			_exit(9);
		fd = connect_to();
		_exit(is_closed(fd, 1) ? 0 : 1);
	}
	waitpid(child, &status, 0);
	assert_int_equal(status, 0);
	listen_with(65534); /* now that one may */
	child = fork();
	if (child == 0)
		_exit(setuid(65534) < 0 || is_closed(connect_to(), 1) ? 1 : 0);
	waitpid(child, &status, 0);
	assert_int_equal(status, 0);
	assert_int_equal(try_sign(P256), CKR_OK); /* and root */
}

/* --- many, and deaths --- */

static void *sign_in_thread(void *result)
{
	*(CK_RV *)result = try_sign(P256);
	return NULL;
}

static void two_hundred_sign_at_once(void **state)
{
	pthread_t threads[200];
	CK_RV results[200];

	(void)state;
	for (size_t i = 0; i < COUNT(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, sign_in_thread, &results[i]), 0);
	for (size_t i = 0; i < COUNT(threads); i++)
		pthread_join(threads[i], NULL);
	for (size_t i = 0; i < COUNT(threads); i++)
		assert_int_equal(results[i], CKR_OK);
}

static void kill_keys(void)
{
	kill(t.keys.pid, SIGKILL);
	keys_stop(&t.keys);
}

/* Its successor, as the store begins it: callers come last. */
static void succeed_keys(void)
{
	keys_start(&t.keys, NULL, 0);
	offer_all(-1);
	listen_with(0);
}

static void a_keys_process_that_is_killed_costs_a_wait(void **state)
{
	pthread_t threads[50];
	CK_RV results[50];

	(void)state;
	for (size_t i = 0; i < COUNT(threads); i++)
		pthread_create(&threads[i], NULL, sign_in_thread, &results[i]);
	kill_keys();
	succeed_keys();
	for (size_t i = 0; i < COUNT(threads); i++)
		pthread_join(threads[i], NULL);
	for (size_t i = 0; i < COUNT(threads); i++)
		assert_int_equal(results[i], CKR_OK);
	assert_int_equal(try_sign(P256), CKR_OK);
}

static void nobody_waits_longer_than_two_seconds(void **state)
{
	double before;

	(void)state;
	kill_keys();
	before = now();
	assert_int_equal(try_sign(P256), CKR_DEVICE_ERROR);
	assert_true(now() - before > 1.5 && now() - before < 2.5);
	setenv("PKIFS_PKCS11_SOCKET", "/nowhere", 1);
	before = now();
	assert_int_equal(try_sign(P256), CKR_DEVICE_ERROR);
	assert_true(now() - before < 0.5);
	setenv("PKIFS_PKCS11_SOCKET", t.place.sun_path, 1);
	succeed_keys();
	assert_int_equal(try_sign(P256), CKR_OK);
}

static void a_child_begins_anew(void **state)
{
	int status;
	pid_t child;

	(void)state;
	child = fork();
	if (child == 0) {
		CK_INFO info;

		if (t.p11->C_GetInfo(&info) != CKR_CRYPTOKI_NOT_INITIALIZED)
			_exit(1);
		if (t.p11->C_Initialize(NULL) != CKR_OK)
			_exit(2);
		_exit(try_sign(P256) == CKR_OK ? 0 : 3);
	}
	waitpid(child, &status, 0);
	assert_int_equal(status, 0);
	assert_int_equal(try_sign(P256), CKR_OK);
}

static void it_is_unloaded_and_loaded_again(void **state)
{
	(void)state;
	for (int i = 0; i < 20; i++) {
		unload();
		load();
		assert_int_equal(try_sign(P256), CKR_OK);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_mechanism_gives_a_signature_that_openssl_verifies),
		cmocka_unit_test(what_is_no_digest_is_not_signed),
		cmocka_unit_test(objects_have_the_attributes_that_programs_ask_for),
		cmocka_unit_test(wrong_handles_and_orders_are_refused),
		cmocka_unit_test(a_key_that_is_withdrawn_signs_no_more),
		cmocka_unit_test(callers_that_say_nothing_hinder_nobody),
		cmocka_unit_test(wrong_frames_end_their_caller_alone),
		cmocka_unit_test(half_a_question_ends_in_two_seconds),
		cmocka_unit_test(another_user_is_not_answered),
		cmocka_unit_test(two_hundred_sign_at_once),
		cmocka_unit_test(a_keys_process_that_is_killed_costs_a_wait),
		cmocka_unit_test(nobody_waits_longer_than_two_seconds),
		cmocka_unit_test(a_child_begins_anew),
		cmocka_unit_test(it_is_unloaded_and_loaded_again),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
