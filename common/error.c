#include "common/error.h"

#include <openssl/asn1.h>
#include <openssl/err.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool is_unprintable(unsigned long code)
{
	return code < 0x20 || (code >= 0x7f && code < 0xa0) || code > 0x10ffff ||
	       (code >= 0xd800 && code < 0xe000) || (code >= 0x200b && code <= 0x200f) ||
	       (code >= 0x2028 && code <= 0x202e) || (code >= 0x2060 && code <= 0x206f) ||
	       code == 0xfeff;
}

void text_printable(char *text)
{
	int size;

	for (size_t left = strlen(text); left; left -= (size_t)size, text += size) {
		unsigned long code = 0;
		int used = UTF8_getc((unsigned char *)text, left > 8 ? 8 : (int)left, &code);

		size = used > 0 ? used : 1;
		if (used <= 0 || is_unprintable(code))
			memset(text, '?', (size_t)size);
	}
}

__attribute__((format(printf, 3, 0))) static void fill(struct error *err, int code,
                                                       const char *format, va_list args)
{
	if (!err)
		return;
	err->code = code;
	vsnprintf(err->text, sizeof err->text, format, args);
	text_printable(err->text);
}

int error_set(struct error *err, int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fill(err, code, format, args);
	va_end(args);
	return code;
}

int error_openssl(struct error *err, int code, const char *format, ...)
{
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());
	va_list args;
	size_t used;

	va_start(args, format);
	fill(err, code, format, args);
	va_end(args);
	ERR_clear_error();
	if (err && reason) {
		used = strlen(err->text);
		snprintf(err->text + used, sizeof err->text - used, ": %s", reason);
	}
	return code;
}
