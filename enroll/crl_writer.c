#include "enroll/crl_writer.h"

#include "common/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RUN 32768 /* entries that are sorted in memory: 1 MiB */

/* A run in the scratch file, as it is merged. */
struct run {
	int64_t next, end; /* entries of the file */
	struct crl_entry *block;
	int at, count; /* of BLOCK */
};

struct crl_writer {
	int index, scratch;
	struct crl_entry *entries; /* that wait; then the block that is written */
	size_t waiting;
	int64_t count, written;
	size_t runs;
	off_t offset;          /* in the index */
	unsigned char *fences; /* in all */
	size_t fences_room;
	unsigned char *names; /* length and DER of each */
	size_t names_size;
	uint32_t name_count;
};

static int no_memory(struct error *err)
{
	return error_set(err, -ENOMEM, "no memory for the index of a CRL");
}

struct crl_writer *crl_writer_new(int index, int scratch)
{
	struct crl_writer *writer = calloc(1, sizeof *writer);

	if (!writer)
		return NULL;
	writer->index = index;
	writer->scratch = scratch;
	writer->entries = malloc(RUN * sizeof *writer->entries);
	if (writer->entries)
		return writer;
	crl_writer_free(writer);
	return NULL;
}

void crl_writer_free(struct crl_writer *writer)
{
	if (!writer)
		return;
	/* whoever closes it last would wait for its pages to be freed: that may be the store */
	if (writer->runs && ftruncate(writer->scratch, 0) < 0)
		log_warning("the scratch file of a CRL keeps its size: %s", strerror(errno));
	free(writer->entries);
	free(writer->fences);
	free(writer->names);
	free(writer);
}

int crl_writer_issuer(struct crl_writer *writer, const unsigned char *der, size_t length,
                      uint32_t *number, struct error *err)
{
	unsigned char *at = writer->names, *larger;

	for (*number = 1; *number <= writer->name_count; ++*number) {
		size_t size = (size_t)(at[0] << 8 | at[1]);

		if (size == length && memcmp(at + 2, der, length) == 0)
			return 0;
		at += 2 + size;
	}
	if (length > CRL_NAME_SIZE || writer->name_count == CRL_NAMES_MAX)
		return error_set(err, -EBADMSG,
		                 "the CRL speaks of more than %d issuers, or of a long one",
		                 CRL_NAMES_MAX);
	larger = realloc(writer->names, writer->names_size + 2 + length);
	if (!larger)
		return no_memory(err);
	writer->names = larger;
	at = larger + writer->names_size;
	at[0] = (unsigned char)(length >> 8);
	at[1] = (unsigned char)length;
	memcpy(at + 2, der, length);
	writer->names_size += 2 + length;
	writer->name_count++;
	return 0;
}

static int write_at(int fd, const void *bytes, size_t length, off_t offset, struct error *err)
{
	const char *at = bytes;

	while (length) {
		ssize_t n = pwrite(fd, at, length, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return error_set(err, n < 0 ? -errno : -EIO,
			                 "cannot write the index of the CRL: %s",
			                 strerror(n < 0 ? errno : EIO));
		at += n;
		offset += n;
		length -= (size_t)n;
	}
	return 0;
}

static int append(struct crl_writer *writer, const void *bytes, size_t length, struct error *err)
{
	int r = write_at(writer->index, bytes, length, writer->offset, err);

	writer->offset += (off_t)length;
	return r;
}

static int compare(const void *one, const void *other)
{
	return memcmp(one, other, sizeof(struct crl_entry));
}

static void sort(struct crl_writer *writer)
{
	for (size_t i = 1; i < writer->waiting; i++) {
		if (compare(&writer->entries[i - 1], &writer->entries[i]) > 0) {
			qsort(writer->entries, writer->waiting, sizeof *writer->entries, compare);
			return;
		}
	}
}

int crl_writer_add(struct crl_writer *writer, const struct crl_entry *entry, struct error *err)
{
	const size_t size = RUN * sizeof *entry;
	int r;

	if (writer->waiting == RUN) {
		sort(writer);
		r = write_at(writer->scratch, writer->entries, size, (off_t)(writer->runs * size),
		             err);
		if (r < 0)
			return r;
		writer->runs++;
		writer->waiting = 0;
	}
	writer->entries[writer->waiting++] = *entry;
	writer->count++;
	return 0;
}

/* --- the end --- */

/* The fence of each block of what is written now. */
static int add_fences(struct crl_writer *writer, const struct crl_entry *entries, size_t count,
                      struct error *err)
{
	for (size_t i = 0; i < count; i++) {
		size_t fence = (size_t)(writer->written / CRL_BLOCK);
		size_t room = 2 * writer->fences_room + 64;
		unsigned char *larger;

		if (writer->written++ % CRL_BLOCK)
			continue;
		if (fence == writer->fences_room) {
			larger = realloc(writer->fences, room * CRL_KEY);
			if (!larger)
				return no_memory(err);
			writer->fences = larger;
			writer->fences_room = room;
		}
		memcpy(writer->fences + fence * CRL_KEY, &entries[i], CRL_KEY);
	}
	return 0;
}

static int write_entries(struct crl_writer *writer, const struct crl_entry *entries, size_t count,
                         struct error *err)
{
	int r = add_fences(writer, entries, count, err);

	return r < 0 ? r : append(writer, entries, count * sizeof *entries, err);
}

/* The run's next entry is block[at]; 1, 0 at its end, or a negative errno. */
static int run_next(const struct crl_writer *writer, struct run *run, struct error *err)
{
	int64_t left = run->end - run->next;
	size_t size;

	if (++run->at < run->count)
		return 1;
	if (left == 0)
		return 0;
	run->at = 0;
	run->count = left < CRL_BLOCK ? (int)left : CRL_BLOCK;
	size = (size_t)run->count * sizeof *run->block;
	if (pread(writer->scratch, run->block, size,
	          (off_t)(run->next * (int64_t)sizeof *run->block)) != (ssize_t)size)
		return error_set(err, -EIO, "cannot read the runs of the CRL's index");
	run->next += run->count;
	return 1;
}

static const struct crl_entry *first(const struct run *run)
{
	return &run->block[run->at];
}

/* Heap of runs by their first entries: moves the one at I down to its place. */
static void sift(struct run *heap, size_t count, size_t i)
{
	for (size_t child; (child = 2 * i + 1) < count; i = child) {
		struct run run;

		if (child + 1 < count && compare(first(&heap[child + 1]), first(&heap[child])) < 0)
			child++;
		if (compare(first(&heap[i]), first(&heap[child])) <= 0)
			return;
		run = heap[i];
		heap[i] = heap[child];
		heap[child] = run;
	}
}

static int merge_runs(struct crl_writer *writer, struct run *heap, size_t count, struct error *err)
{
	size_t filled = 0;
	int r = 0;

	for (size_t i = count; i-- > 0;)
		sift(heap, count, i);
	while (r >= 0 && count) {
		writer->entries[filled++] = *first(heap);
		r = run_next(writer, heap, err);
		if (r == 0) { /* it goes to the end, and is freed with the others */
			struct run ended = *heap;

			*heap = heap[--count];
			heap[count] = ended;
		}
		if (r >= 0)
			sift(heap, count, 0);
		if (r >= 0 && (filled == RUN || !count)) {
			r = write_entries(writer, writer->entries, filled, err);
			filled = 0;
		}
	}
	return r < 0 ? r : 0;
}

static int merge(struct crl_writer *writer, struct error *err)
{
	size_t count = writer->runs;
	struct run *heap = calloc(count, sizeof *heap);
	int r = heap ? 0 : no_memory(err);

	for (size_t i = 0; r >= 0 && i < count; i++) {
		heap[i].next = (int64_t)i * RUN;
		heap[i].end =
			heap[i].next + RUN < writer->count ? heap[i].next + RUN : writer->count;
		heap[i].block = malloc(CRL_BLOCK * sizeof *heap[i].block);
		r = heap[i].block ? run_next(writer, &heap[i], err) : no_memory(err);
	}
	if (r >= 0)
		r = merge_runs(writer, heap, count, err);
	for (size_t i = 0; heap && i < count; i++)
		free(heap[i].block);
	free(heap);
	return r;
}

static void put_number(unsigned char *to, size_t length, uint64_t value)
{
	for (; length-- > 0; value >>= 8)
		to[length] = (unsigned char)value;
}

static int write_end(struct crl_writer *writer, struct error *err)
{
	size_t fences = (size_t)((writer->written + CRL_BLOCK - 1) / CRL_BLOCK) * CRL_KEY;
	struct crl_trailer trailer = { .magic = CRL_MAGIC };
	uint64_t sum;
	int r;

	put_number(trailer.entries, sizeof trailer.entries, (uint64_t)writer->written);
	put_number(trailer.names, sizeof trailer.names, writer->name_count);
	put_number(trailer.names_size, sizeof trailer.names_size, writer->names_size);
	sum = crl_sum(CRL_SUM, writer->fences, fences);
	sum = crl_sum(sum, writer->names, writer->names_size);
	sum = crl_sum(sum, &trailer, offsetof(struct crl_trailer, sum));
	put_number(trailer.sum, sizeof trailer.sum, sum);
	r = append(writer, writer->fences, fences, err);
	if (r == 0)
		r = append(writer, writer->names, writer->names_size, err);
	if (r == 0)
		r = append(writer, &trailer, sizeof trailer, err);
	if (r == 0 && ftruncate(writer->index, writer->offset) < 0)
		r = error_set(err, -errno, "cannot write the index of the CRL: %s",
		              strerror(errno));
	return r;
}

int crl_writer_finish(struct crl_writer *writer, int64_t *count, struct error *err)
{
	int r = 0;

	sort(writer);
	if (writer->runs) {
		r = write_at(writer->scratch, writer->entries,
		             writer->waiting * sizeof *writer->entries,
		             (off_t)(writer->runs++ * RUN * sizeof *writer->entries), err);
		if (r == 0)
			r = merge(writer, err);
	} else {
		r = write_entries(writer, writer->entries, writer->waiting, err);
	}
	*count = writer->written;
	return r < 0 ? r : write_end(writer, err);
}
