/*
 * One error: a negative errno and one plain sentence with the values that matter. Whoever knows
 * the values fills it; the sentence travels unchanged to the log, last-error, events and pkictl.
 */
#ifndef PKIFS_ERROR_H
#define PKIFS_ERROR_H

#include <stdbool.h>
#include <stddef.h>

struct error {
	int code;       /* negative errno, 0 while there is none */
	char text[512]; /* one line, no control characters, no secret */
};

/*
 * Fills ERR (may be NULL) and returns CODE, so that callers write `return error_set(...)`.
 * What is unprintable in arguments becomes `?` (text_printable); a longer sentence is cut.
 */
__attribute__((format(printf, 3, 4))) int error_set(struct error *err, int code, const char *format,
                                                    ...);

/* The same, with OpenSSL's newest reason behind the sentence, and its error queue emptied. */
__attribute__((format(printf, 3, 4))) int error_openssl(struct error *err, int code,
                                                        const char *format, ...);

/* Controls, and what reorders or ends a line where it is shown: not to be shown as it is. */
bool is_unprintable(unsigned long code);

/* Makes TEXT one printable line in place: what is unprintable or no UTF-8 becomes `?`. */
void text_printable(char *text);

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#endif
