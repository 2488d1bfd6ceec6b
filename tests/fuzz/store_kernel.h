/*
 * The kernel's end of the store's FUSE descriptor: asks, and sees that each request gets one answer
 * that the kernel and programs can do with. What was asked and answered stands in `kernel`.
 */
#ifndef TESTS_STORE_KERNEL_H
#define TESTS_STORE_KERNEL_H

#include "pkifs/shared.h"
#include "store_world.h"

#define REQUESTS 4096
#define NODES    256
#define OPENS    64
#define DATA_MAX (64u << 10) /* of a WRITE */

struct who {
	uint32_t uid, pid;
};

struct open_one {
	uint64_t node, fh;
	uint32_t flags;
};

/* A request that was sent. */
struct asked {
	uint32_t opcode;
	uint64_t node;
	uint32_t flags, size;
	uint64_t offset;
	bool owed, answered;
};

extern struct kernel {
	uint64_t base; /* the number of this input's first request */
	struct asked requests[REQUESTS];
	size_t count, limit, owed;
	uint64_t nodes[NODES];
	size_t node_count;
	struct open_one opens[OPENS];
	size_t open_count;
	uint64_t folders[3]; /* ca, local, ipsec */
	uint64_t entry; /* of the last LOOKUP, MKDIR or CREATE that was answered; 0: an error */
	int error;      /* of the last answer */
} kernel;

/* The store that is asked. */
extern struct world *world;

/* Until nothing moves any more. */
void turns(void);

/* Sends one with BODY of LENGTH bytes; NULL when the input has had its share. */
struct asked *ask(uint32_t opcode, uint64_t node, struct who who, const void *body, size_t length);
/* One whose body is a struct of SIZE bytes and one or two names behind it. */
struct asked *ask_named(uint32_t opcode, uint64_t node, struct who who, const void *fixed,
                        size_t size, const char *one, const char *other);

/* The node of NAME, or 0. */
uint64_t look_up(uint64_t node, const char *name, struct who who);
void ask_setattr(uint64_t node, struct who who, struct fuse_setattr_in in);
void ask_open(uint64_t node, uint32_t flags, struct who who);
void ask_read(const struct open_one *open, uint64_t offset, uint32_t size, struct who who);
void ask_write(const struct open_one *open, uint64_t offset, const char *text, size_t length,
               struct who who);
void ask_flush(const struct open_one *open, struct who who);
void ask_release(struct open_one *open, struct who who);
/* The request of INDEX. */
void ask_interrupt(size_t index);

/* What `cat` and `> name` do. */
void get(uint64_t node, const char *name, struct who who);
void put(uint64_t node, const char *name, const char *text, size_t length, struct who who);

#endif
