#include "common/error.h"

#include <openssl/err.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void text_printable(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			*text = '?';
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
