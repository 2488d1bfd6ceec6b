/* Bytes as hex digits. */
#ifndef PKIFS_HEX_H
#define PKIFS_HEX_H

#include <stddef.h>

/* Digits, perhaps behind "0x", into up to SIZE bytes: how many, or -EINVAL. */
int hex_read(const char *text, unsigned char *bytes, size_t size);

/* SIZE bytes, in small digits and ended: TEXT has room for 2 * SIZE + 1 characters. */
void hex_write(char *text, const unsigned char *bytes, size_t size);

#endif
