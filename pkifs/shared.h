/*
 * The memory that the supervisor keeps for the store: what must outlive a store that dies.
 *
 * FUSE requests are read(2) straight into a slot here. A slot is taken while the `len` of its
 * header is not 0, and freed when the request is answered, so that a successor finds each
 * request that the kernel still waits for and runs it again. (Copied here after read(2), a kill
 * in between would leave a reader in D state.) Everything else that an open file needs stands in
 * its struct open_file.
 */
#ifndef PKIFS_SHARED_H
#define PKIFS_SHARED_H

#include <linux/fuse.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A program of another version takes this memory over only where all of it means the same: raise
 * this with every change of a struct below, of what a field means, of what INIT is answered, or of
 * the order of files in inode numbers (pkifs/file.h).
 */
#define SHARED_LAYOUT 6

#define WRITE_MAX   (128u << 10) /* bytes of one WRITE */
#define LARGE_SIZE  (WRITE_MAX + 4096)
#define LARGE_SLOTS 32
#define SMALL_SIZE  512
#define SMALL_SLOTS 8192
#define OPEN_FILES  32768
#define BUFFER_SIZE ((1u << 20) + 4096) /* a key or certificate file, and one byte to see more */
#define BUFFERS     128

/* One open(2). `ino` 0: free. */
struct open_file {
	uint64_t unique; /* of the request that opened it: replayed, it opens once */
	uint64_t ino;
	uint64_t shown;                 /* what its reader sees instead of INO, or 0 */
	uint64_t start;                 /* watch: offset in the endless text of events */
	uint64_t poll;                  /* the kernel's handle of a poll that waits, if polled */
	uint64_t length;                /* bytes in the buffer */
	uint64_t appended, appended_at; /* `unique` of the last WRITE that appended, and where to */
	uint64_t judged; /* `unique` of the request that judged it last: run again, it judges again
	                  */
	int64_t request; /* row of the request that its text became */
	int32_t tgid;    /* the process that opened it to write */
	uint32_t uid;    /* its user */
	int16_t buffer;  /* index of its buffer, or -1 */
	bool polled;
	bool writable;
	bool answered;   /* `verify`: its text has ended, and START is where the answer begins */
	bool cut;        /* truncated: an empty text is meant */
	bool written;    /* something was written since the last judgement */
	bool released;   /* nobody has it open any more; goes when what it said is durable */
	int32_t refused; /* errno of a write that was refused: nothing of this text counts */
};

/* A name that is not ours, in an object's folder: an editor's temporary file. `ino` 0: free. */
struct temporary {
	uint64_t ino;
	uint64_t folder; /* inode of the folder */
	uint64_t length;
	int64_t touched; /* Unix seconds */
	uint32_t uid, gid, mode;
	int16_t buffer;
	char name[256];
};
#define TEMPORARIES 64

/* A thread whose OPEN was answered ESTALE, and will come again (pkifs/refusal.c). */
struct refusal {
	uint64_t ino;    /* what it asked for */
	uint64_t unique; /* the OPEN: a successor may have to refuse it again */
	int64_t object;  /* whose it is, or 0: its row is gone */
	uint32_t second; /* of CLOCK_MONOTONIC; 0: free */
	int32_t thread;  /* 0 where it is in another PID namespace */
	bool looked;     /* it has looked something up since */
};
#define REFUSALS 64

/*
 * A row that was replaced a moment ago. Somebody may have found it and not opened it yet: until
 * then it stays, lest the kernel's next question about it be answered ESTALE.
 */
struct fading {
	int64_t row, object;
	uint32_t second; /* of CLOCK_MONOTONIC; 0: free */
	uint32_t kind;   /* enum row_kind */
};
#define FADING 1024

struct shared {
	uint32_t init_length; /* the kernel's INIT, replayed to each successor */
	char init[4096];
	uint64_t next_temporary;
	uint32_t generation; /* how many stores there were */
	bool older;          /* the store is an older copy of what was in use here */
	/* the request that runs now; a store that finds one here again and again gives it up */
	uint64_t running;
	uint64_t answering; /* the request whose answer is, or was last, on its way to the kernel */
	uint64_t suspect;
	uint32_t suspicions;
	uint32_t next_refusal, next_fading;
	struct fading fading[FADING];
	struct refusal refusals[REFUSALS];
	uint32_t files_top; /* above the highest open file ever used */
	struct open_file files[OPEN_FILES];
	struct temporary temporaries[TEMPORARIES];
	bool buffer_taken[BUFFERS];
	uint32_t buffer_uid[BUFFERS]; /* whose text it is */
	_Alignas(4096) char large[LARGE_SLOTS][LARGE_SIZE];
	_Alignas(4096) char small[SMALL_SLOTS][SMALL_SIZE];
	_Alignas(4096) char buffers[BUFFERS][BUFFER_SIZE];
};

/* Makes the memory (a memfd, so that it can be handed on). The descriptor is the caller's. */
int shared_make(int *fd);
/* Maps it; NULL with errno. */
struct shared *shared_map(int fd);

/*
 * A free buffer's index, or -1. A user who is LIMITED has no more than a quarter of them, and
 * leaves an eighth to those who are not.
 * shared_buffer_free wipes it and gives its memory back.
 */
int16_t shared_buffer_take(struct shared *shared, uint32_t uid, bool limited);
void shared_buffer_free(struct shared *shared, int16_t buffer);

/* The slot of index SLOT: the large ones first, then the small ones. */
#define SLOTS (LARGE_SLOTS + SMALL_SLOTS)
struct fuse_in_header *shared_slot(struct shared *shared, int slot);

#endif
