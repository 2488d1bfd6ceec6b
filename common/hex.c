#include "common/hex.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

static const char digits[] = "0123456789abcdef";

int hex_read(const char *text, unsigned char *bytes, size_t size)
{
	size_t count = 0;

	if (strncasecmp(text, "0x", 2) == 0)
		text += 2;
	for (; *text; text += 2, count++) {
		const char *high = strchr(digits, tolower((unsigned char)text[0]));
		const char *low = text[1] ? strchr(digits, tolower((unsigned char)text[1])) : NULL;

		if (!high || !low || count == size)
			return -EINVAL;
		bytes[count] = (unsigned char)((high - digits) << 4 | (low - digits));
	}
	return count ? (int)count : -EINVAL;
}

void hex_write(char *text, const unsigned char *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		*text++ = digits[bytes[i] >> 4];
		*text++ = digits[bytes[i] & 15];
	}
	*text = 0;
}
