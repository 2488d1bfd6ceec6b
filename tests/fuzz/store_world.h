/*
 * The store in this process, with all that it talks to: the kernel's end of its FUSE descriptor,
 * the supervisor, the keys process, the publisher and workers, each played here on the same loop.
 * Keys and certificates are made once; their texts differ from run to run, what they say does not.
 */
#ifndef TESTS_STORE_WORLD_H
#define TESTS_STORE_WORLD_H

#include "pkifs/store.h"

#include <openssl/x509.h>

#define WORLD_KEYS 3

/* What the keys process does with questions, one after the other; then it behaves again. */
enum keys_mood {
	KEYS_GOOD,
	KEYS_ERROR,
	KEYS_EMPTY,
	KEYS_NO_KEY,
	KEYS_DIES,
	KEYS_SILENT,
	KEYS_MOODS
};

struct world {
	struct store store;
	int kernel; /* our end of the FUSE descriptor: a request or an answer a message */
	bool moved; /* a frame came since this was cleared */
	enum keys_mood mood;
	bool start_fails; /* the next process cannot be started */
	bool disk_fails;  /* no commit succeeds */
	size_t next_key;  /* which one the next `generate` gives */
	/* PEM: of each key, its certificate, one that it signed itself; the CA's and its CRL */
	char *key[WORLD_KEYS], *leaf[WORLD_KEYS], *own[WORLD_KEYS], *ca, *crl;
};

/* A process of the store's that is played here. */
struct peer;

/* Once. */
struct world *world_open(void);

/* The INDEXth worker that has a job (they are counted round), or NULL. */
struct peer *world_worker(size_t index);

/*
 * What a good worker sends for its job. With CHANGE a bad one: the byte AT of its last certificate
 * is VALUE, or its CRL's index has an entry with such bytes.
 */
void worker_does_it(struct peer *worker, bool change, size_t at, unsigned char value);
/* RECORD with what stands for something: `@job`, `@ca`, `@leaf`. */
void worker_says(struct peer *worker, const struct record *record);
void worker_raw(struct peer *worker, const void *bytes, size_t length);

/* The socket of one peer, or of all, ends. */
void peer_end(struct peer *peer);
void peers_end(void);

void must(bool condition);

#endif
