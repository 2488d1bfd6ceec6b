#include "common/crlindex.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct crl_index {
	int fd;
	int64_t entries;
	size_t fences;        /* how many */
	unsigned char *table; /* fences and names as they are in the file */
	size_t table_size;
	X509_NAME **names;
	size_t name_count;
};

/* FNV-1a, folded to 16 bits. */
static void entry_sum(const struct crl_entry *entry, unsigned char text[2])
{
	const unsigned char *bytes = (const unsigned char *)entry;
	uint32_t sum = 2166136261u;

	for (size_t i = 0; i < sizeof *entry; i++)
		if (i < offsetof(struct crl_entry, sum) || i >= offsetof(struct crl_entry, time))
			sum = (sum ^ bytes[i]) * 16777619u;
	sum ^= sum >> 16;
	text[0] = (unsigned char)(sum >> 8);
	text[1] = (unsigned char)sum;
}

void crl_entry_seal(struct crl_entry *entry)
{
	entry_sum(entry, entry->sum);
}

bool crl_entry_is_whole(const struct crl_entry *entry)
{
	unsigned char expected[2];

	entry_sum(entry, expected);
	return memcmp(entry->sum, expected, sizeof expected) == 0;
}

void crl_entry_set_time(struct crl_entry *entry, int64_t seconds)
{
	uint64_t left = (uint64_t)seconds;

	for (size_t i = sizeof entry->time; i-- > 0; left >>= 8)
		entry->time[i] = (unsigned char)left;
}

int64_t crl_entry_time(const struct crl_entry *entry)
{
	uint64_t seconds = *entry->time & 0x80 ? UINT64_MAX : 0;

	for (size_t i = 0; i < sizeof entry->time; i++)
		seconds = seconds << 8 | entry->time[i];
	return (int64_t)seconds;
}

bool crl_entry_set_serial(struct crl_entry *entry, const ASN1_INTEGER *serial)
{
	const unsigned char *data = ASN1_STRING_get0_data(serial);
	int length = ASN1_STRING_length(serial);

	*entry = (struct crl_entry){ 0 };
	for (; length > 1 && !*data; data++)
		length--;
	if (length < 1 || length > CRL_SERIAL_MAX)
		return false;
	entry->length = (unsigned char)length;
	if (ASN1_STRING_type(serial) & V_ASN1_NEG)
		entry->length |= CRL_NEGATIVE;
	memcpy(entry->serial + CRL_SERIAL_MAX - length, data, (size_t)length);
	return true;
}

uint64_t crl_sum(uint64_t sum, const void *bytes, size_t length)
{
	const unsigned char *at = bytes;

	for (size_t i = 0; i < length; i++)
		sum = (sum ^ at[i]) * 1099511628211u;
	return sum;
}

static uint64_t number(const unsigned char *bytes, size_t length)
{
	uint64_t value = 0;

	for (size_t i = 0; i < length; i++)
		value = value << 8 | bytes[i];
	return value;
}

/* Whether the file is as long as TRAILER says; then the sizes of its parts. */
static bool set_sizes(struct crl_index *index, const struct crl_trailer *trailer, off_t file)
{
	uint64_t entries = number(trailer->entries, sizeof trailer->entries);
	uint64_t names_size = number(trailer->names_size, sizeof trailer->names_size);
	uint64_t blocks, size = (uint64_t)file;

	if (memcmp(trailer->magic, CRL_MAGIC, sizeof trailer->magic) != 0 ||
	    entries > size / sizeof(struct crl_entry))
		return false;
	blocks = (entries + CRL_BLOCK - 1) / CRL_BLOCK;
	index->entries = (int64_t)entries;
	index->fences = blocks;
	index->table_size = blocks * CRL_KEY + names_size;
	index->name_count = number(trailer->names, sizeof trailer->names);
	return index->name_count <= CRL_NAMES_MAX &&
	       entries * sizeof(struct crl_entry) + index->table_size + sizeof *trailer == size;
}

static int read_names(struct crl_index *index)
{
	const unsigned char *at = index->table + index->fences * CRL_KEY;
	const unsigned char *end = index->table + index->table_size;

	index->names = calloc(index->name_count + 1, sizeof(X509_NAME *));
	if (!index->names)
		return -ENOMEM;
	for (size_t i = 0; i < index->name_count; i++) {
		const unsigned char *der;
		long length;

		if (end - at < 2)
			return -EIO;
		length = at[0] << 8 | at[1];
		der = at + 2;
		if (end - der < length)
			return -EIO;
		at = der + length;
		index->names[i] = d2i_X509_NAME(NULL, &der, length);
		if (!index->names[i] || der != at) {
			ERR_clear_error();
			return -EIO;
		}
	}
	return at == end ? 0 : -EIO;
}

static bool read_at(int fd, void *to, size_t length, off_t offset)
{
	ssize_t got;

	do {
		got = pread(fd, to, length, offset);
	} while (got < 0 && errno == EINTR);
	return got == (ssize_t)length;
}

static int read_table(struct crl_index *index, const struct crl_trailer *trailer)
{
	off_t offset = (off_t)(index->entries * (int64_t)sizeof(struct crl_entry));
	uint64_t sum;

	index->table = malloc(index->table_size + 1);
	if (!index->table)
		return -ENOMEM;
	if (!read_at(index->fd, index->table, index->table_size, offset))
		return -EIO;
	sum = crl_sum(CRL_SUM, index->table, index->table_size);
	sum = crl_sum(sum, trailer, offsetof(struct crl_trailer, sum));
	return sum == number(trailer->sum, sizeof trailer->sum) ? read_names(index) : -EIO;
}

int crl_index_open(int fd, struct crl_index **index)
{
	struct crl_index *new = calloc(1, sizeof *new);
	struct crl_trailer trailer;
	struct stat file;
	int r = new ? 0 : -ENOMEM;

	if (r == 0) {
		new->fd = fd;
		if (fstat(fd, &file) < 0 || file.st_size < (off_t)sizeof trailer ||
		    !read_at(fd, &trailer, sizeof trailer, file.st_size - (off_t)sizeof trailer) ||
		    !set_sizes(new, &trailer, file.st_size))
			r = -EIO;
	}
	if (r == 0)
		r = read_table(new, &trailer);
	if (r == 0) {
		*index = new;
		return 0;
	}
	if (new)
		new->fd = -1;
	crl_index_close(new);
	return r;
}

void crl_index_close(struct crl_index *index)
{
	if (!index)
		return;
	for (size_t i = 0; index->names && i < index->name_count; i++)
		X509_NAME_free(index->names[i]);
	free(index->names);
	free(index->table);
	if (index->fd >= 0)
		close(index->fd);
	free(index);
}

int64_t crl_index_entries(const struct crl_index *index)
{
	return index->entries;
}

size_t crl_index_memory(const struct crl_index *index)
{
	return sizeof *index + index->table_size + index->name_count * 256;
}

/* The block in which entries with KEY's serial number begin, if there are any. */
static size_t block_of(const struct crl_index *index, const struct crl_entry *key)
{
	size_t low = 0, high = index->fences;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (memcmp(index->table + middle * CRL_KEY, key, CRL_SERIAL_KEY) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low ? low - 1 : 0;
}

/* The entries of BLOCK, which lie between its fences: how many, or -EIO. */
static int read_block(const struct crl_index *index, size_t block, struct crl_entry *entries)
{
	int64_t first = (int64_t)block * CRL_BLOCK, left = index->entries - first;
	size_t count = left < CRL_BLOCK ? (size_t)left : CRL_BLOCK;

	if (!read_at(index->fd, entries, count * sizeof *entries,
	             (off_t)(first * (int64_t)sizeof *entries)))
		return -EIO;
	return (int)count;
}

static bool is_issuer(const struct crl_index *index, const struct crl_entry *entry,
                      const X509_NAME *issuer, const X509_NAME *own)
{
	size_t name = number(entry->issuer, sizeof entry->issuer);

	if (name > index->name_count)
		return false;
	return !issuer || X509_NAME_cmp(name ? index->names[name - 1] : own, issuer) == 0;
}

/* The first of COUNT entries whose serial number is not below KEY's, or -EIO. */
static int lower_bound(const struct crl_entry *entries, int count, const struct crl_entry *key)
{
	int low = 0, high = count;

	while (low < high) {
		int middle = low + (high - low) / 2;

		if (!crl_entry_is_whole(&entries[middle]))
			return -EIO;
		if (memcmp(&entries[middle], key, CRL_SERIAL_KEY) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

int crl_index_find(const struct crl_index *index, const ASN1_INTEGER *serial,
                   const X509_NAME *issuer, const X509_NAME *own, struct crl_entry *entry)
{
	struct crl_entry key, entries[CRL_BLOCK];
	int at, count;

	if (!crl_entry_set_serial(&key, serial))
		return 0; /* no CRL that was taken has one so long */
	for (size_t block = block_of(index, &key); block < index->fences; block++) {
		count = read_block(index, block, entries);
		at = count < 0 ? count : lower_bound(entries, count, &key);
		if (at < 0)
			return at;
		for (; at < count; at++) {
			if (!crl_entry_is_whole(&entries[at]))
				return -EIO;
			if (memcmp(&entries[at], &key, CRL_SERIAL_KEY) != 0)
				return 0;
			*entry = entries[at];
			if (is_issuer(index, entry, issuer, own))
				return 1;
		}
	}
	return 0;
}
