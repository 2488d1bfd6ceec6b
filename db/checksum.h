/*
 * Checksums of the store's pages: a layer of SQLite's between it and the file.
 */
#ifndef PKIFS_CHECKSUM_H
#define PKIFS_CHECKSUM_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#define CHECKSUM_VFS "pkifs"

/* Makes the layer known as CHECKSUM_VFS. 0, or -ENOMEM. */
int checksum_begin(void);

/* A database that is made, or vacuumed, after this has room for the checksums. SQLITE_OK, or an
 * SQLite error. */
int checksum_reserve(sqlite3 *sqlite);

/* Whether the database's pages have them. */
bool checksum_is_on(sqlite3 *sqlite);

/* The page whose checksum was found wrong last, from 1; 0: none so far. */
int64_t checksum_bad_page(void);

#endif
