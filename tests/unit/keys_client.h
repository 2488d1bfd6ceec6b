/*
 * The keys process for tests: keys_main in a child, questions to it over its control socket.
 */
#ifndef PKIFS_KEYS_CLIENT_H
#define PKIFS_KEYS_CLIENT_H

#include "common/record.h"

#include <openssl/evp.h>
#include <sys/types.h>

struct keys_client {
	pid_t pid;
	int control;
	long long next_id, next_channel;
};

/* STORE_KEY is what the store key's file holds, NULL for `store-key = none`. */
void keys_start(struct keys_client *client, const char *store_key, size_t length);

/* Closes the control socket; the exit code of the process. */
int keys_stop(struct keys_client *client);

/*
 * Sends QUESTION (freed here) with FD where that is not -1; the answer is the caller's, NULL when
 * the process ended instead.
 */
struct record *keys_ask(struct keys_client *client, struct record *question, int fd);

/* A question with its frame set. */
struct record *keys_question(const char *frame);

/* Adds the field NAME of FROM. */
void keys_copy_field(struct record *to, const struct record *from, const char *name);

/* Asks for a new key of OWNER; the test fails where there is none. */
struct record *keys_generate(struct keys_client *client, const char *type, int size, int owner);

/* What asks for KEY (an answer with it) of OWNER, and the key; the test fails where there is none.
 */
struct record *keys_open_question(const struct record *key, int owner);
EVP_PKEY *keys_opened(struct keys_client *client, const struct record *key, int owner);

/* ANSWER (freed here) refuses with SENTENCE in it. */
void assert_keys_error(struct record *answer, const char *sentence);

/* A new signing socket with KEY (an answer of keys_generate for OWNER) granted as NAME. */
int keys_grant_new(struct keys_client *client, const char *name, const struct record *key,
                   int owner);

/* Asks for KEY under another name or on another channel; the answer is the caller's. */
struct record *keys_grant(struct keys_client *client, long long channel, const char *name,
                          const struct record *key, int owner);

#endif
