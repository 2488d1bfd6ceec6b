/*
 * Pages of the store with a checksum, so that what a bad disk has changed is an error and not a
 * certificate: SQLite itself has none. A layer between SQLite and the file (sqlite.org/vfs.html)
 * that fills in, and compares, the eight bytes that SQLite leaves free at the end of each page
 * where byte 20 of the header says so. The write-ahead log has checksums of SQLite's own.
 */
#include "db/checksum.h"

#include "common/log.h"

#include <endian.h>
#include <errno.h>
#include <sqlite3.h>
#include <string.h>

#define PAGE     4096
#define RESERVED 8

/* In the header of the database file, sqlite.org/fileformat2.html §1.3. */
#define MAGIC        "SQLite format 3"
#define AT_PAGE_SIZE 16
#define AT_RESERVED  20
#define HEADER_PART  24

struct file {
	sqlite3_file base; /* what SQLite sees; the file itself stands behind this struct */
	bool checked;
};

static int64_t bad_page;

int64_t checksum_bad_page(void)
{
	return bad_page;
}

static sqlite3_file *below(sqlite3_file *file)
{
	return (sqlite3_file *)((struct file *)file + 1);
}

/* FNV-1a in words: a change of any one word changes it. A page knows its place. */
static uint64_t sum(const unsigned char *page, sqlite3_int64 number)
{
	uint64_t sum = 14695981039346656037u ^ (uint64_t)number, word;

	for (size_t i = 0; i < PAGE - RESERVED; i += sizeof word) {
		memcpy(&word, page + i, sizeof word);
		sum = (sum ^ le64toh(word)) * 1099511628211u;
	}
	return htole64(sum);
}

static void read_header(struct file *file, const unsigned char *header)
{
	file->checked = memcmp(header, MAGIC, sizeof MAGIC) == 0 &&
	                header[AT_PAGE_SIZE] << 8 == PAGE && header[AT_PAGE_SIZE + 1] == 0 &&
	                header[AT_RESERVED] == RESERVED;
}

static bool is_page(const struct file *file, int amount, sqlite3_int64 offset)
{
	return file->checked && amount == PAGE && offset % PAGE == 0;
}

/* A page that was never written, where the file grew over it, is all zeros. */
static bool is_good(const unsigned char *page, sqlite3_int64 number)
{
	uint64_t expected = sum(page, number);

	return memcmp(page + PAGE - RESERVED, &expected, RESERVED) == 0 ||
	       (*page == 0 && memcmp(page, page + 1, PAGE - 1) == 0);
}

static int do_read(sqlite3_file *base, void *bytes, int amount, sqlite3_int64 offset)
{
	struct file *file = (struct file *)base;
	int result = below(base)->pMethods->xRead(below(base), bytes, amount, offset);
	sqlite3_int64 number = offset / PAGE + 1;

	if (result != SQLITE_OK)
		return result;
	if (offset == 0 && amount >= HEADER_PART)
		read_header(file, bytes);
	if (!is_page(file, amount, offset) || is_good(bytes, number))
		return SQLITE_OK;
	if (bad_page != number)
		log_error("page %lld of the store is damaged: its checksum is another one",
		          (long long)number);
	bad_page = number;
	return SQLITE_IOERR_DATA;
}

static int do_write(sqlite3_file *base, const void *bytes, int amount, sqlite3_int64 offset)
{
	struct file *file = (struct file *)base;
	unsigned char page[PAGE];
	uint64_t checksum;

	if (offset == 0 && amount >= HEADER_PART)
		read_header(file, bytes);
	if (is_page(file, amount, offset)) {
		memcpy(page, bytes, PAGE);
		checksum = sum(page, offset / PAGE + 1);
		memcpy(page + PAGE - RESERVED, &checksum, RESERVED);
		bytes = page;
	}
	return below(base)->pMethods->xWrite(below(base), bytes, amount, offset);
}

static int do_close(sqlite3_file *file)
{
	return below(file)->pMethods->xClose(below(file));
}

static int do_truncate(sqlite3_file *file, sqlite3_int64 size)
{
	return below(file)->pMethods->xTruncate(below(file), size);
}

static int do_sync(sqlite3_file *file, int flags)
{
	return below(file)->pMethods->xSync(below(file), flags);
}

static int do_size(sqlite3_file *file, sqlite3_int64 *size)
{
	return below(file)->pMethods->xFileSize(below(file), size);
}

static int do_lock(sqlite3_file *file, int level)
{
	return below(file)->pMethods->xLock(below(file), level);
}

static int do_unlock(sqlite3_file *file, int level)
{
	return below(file)->pMethods->xUnlock(below(file), level);
}

static int do_check_lock(sqlite3_file *file, int *reserved)
{
	return below(file)->pMethods->xCheckReservedLock(below(file), reserved);
}

static int do_control(sqlite3_file *file, int operation, void *argument)
{
	return below(file)->pMethods->xFileControl(below(file), operation, argument);
}

static int do_sector(sqlite3_file *file)
{
	return below(file)->pMethods->xSectorSize(below(file));
}

static int do_characteristics(sqlite3_file *file)
{
	return below(file)->pMethods->xDeviceCharacteristics(below(file));
}

/* Version 1: neither shared memory (the store is one process's) nor mmap(2). */
static const sqlite3_io_methods methods = {
	.iVersion = 1,
	.xClose = do_close,
	.xRead = do_read,
	.xWrite = do_write,
	.xTruncate = do_truncate,
	.xSync = do_sync,
	.xFileSize = do_size,
	.xLock = do_lock,
	.xUnlock = do_unlock,
	.xCheckReservedLock = do_check_lock,
	.xFileControl = do_control,
	.xSectorSize = do_sector,
	.xDeviceCharacteristics = do_characteristics,
};

static int do_open(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *base, int flags,
                   int *opened)
{
	sqlite3_vfs *system = vfs->pAppData;
	struct file *file = (struct file *)base;
	int result;

	if (!(flags & SQLITE_OPEN_MAIN_DB))
		return system->xOpen(system, name, base, flags, opened);
	*file = (struct file){ 0 };
	result = system->xOpen(system, name, below(base), flags, opened);
	if (below(base)->pMethods)
		base->pMethods = &methods;
	return result;
}

int checksum_begin(void)
{
	static sqlite3_vfs vfs;
	sqlite3_vfs *system = sqlite3_vfs_find(NULL);

	if (vfs.zName)
		return 0;
	if (!system)
		return -ENOMEM;
	vfs = *system;
	vfs.zName = CHECKSUM_VFS;
	vfs.szOsFile += (int)sizeof(struct file);
	vfs.pAppData = system;
	vfs.xOpen = do_open;
	return sqlite3_vfs_register(&vfs, 0) == SQLITE_OK ? 0 : -ENOMEM;
}

int checksum_reserve(sqlite3 *sqlite)
{
	int reserved = RESERVED;

	return sqlite3_file_control(sqlite, "main", SQLITE_FCNTL_RESERVE_BYTES, &reserved);
}

bool checksum_is_on(sqlite3 *sqlite)
{
	sqlite3_file *file = NULL;

	return sqlite3_file_control(sqlite, "main", SQLITE_FCNTL_FILE_POINTER, &file) ==
	               SQLITE_OK &&
	       ((struct file *)file)->checked;
}
