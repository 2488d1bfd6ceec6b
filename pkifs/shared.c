#include "pkifs/shared.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int shared_make(int *fd)
{
	*fd = memfd_create("pkifs", MFD_CLOEXEC);
	if (*fd < 0)
		return -errno;
	if (ftruncate(*fd, sizeof(struct shared)) < 0) {
		close(*fd);
		return -errno;
	}
	return 0;
}

struct shared *shared_map(int fd)
{
	struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
	                             MAP_SHARED | MAP_NORESERVE, fd, 0);

	if (shared == MAP_FAILED)
		return NULL;
	madvise(shared, sizeof *shared, MADV_DONTDUMP);
	/* The kernel must be able to fill a slot without taking memory first. */
	madvise(shared->large, sizeof shared->large, MADV_POPULATE_WRITE);
	return shared;
}

int16_t shared_buffer_take(struct shared *shared, uint32_t uid, bool limited)
{
	int16_t free_one = -1;
	int own = 0, left = 0;

	for (int16_t i = 0; i < BUFFERS; i++) {
		if (!shared->buffer_taken[i]) {
			free_one = free_one < 0 ? i : free_one;
			left++;
		} else if (shared->buffer_uid[i] == uid) {
			own++;
		}
	}
	if (free_one < 0 || (limited && (own >= BUFFERS / 4 || left <= BUFFERS / 8)))
		return -1;
	shared->buffer_taken[free_one] = true;
	shared->buffer_uid[free_one] = uid;
	return free_one;
}

void shared_buffer_free(struct shared *shared, int16_t buffer)
{
	if (buffer < 0)
		return;
	/* Freed pages of shared memory read as zero: what was written here is gone. */
	if (madvise(shared->buffers[buffer], BUFFER_SIZE, MADV_REMOVE) < 0)
		OPENSSL_cleanse(shared->buffers[buffer], BUFFER_SIZE);
	shared->buffer_taken[buffer] = false;
}

struct fuse_in_header *shared_slot(struct shared *shared, int slot)
{
	void *bytes = slot < LARGE_SLOTS ? shared->large[slot] : shared->small[slot - LARGE_SLOTS];

	return bytes;
}
