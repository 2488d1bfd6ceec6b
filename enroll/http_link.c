/* The header Link (RFC 8288). */
#include "enroll/http.h"

#include <stdlib.h>
#include <string.h>

/* The end of the parameter at TEXT: a semicolon, a comma, or the end; none of them in quotes. */
static const char *parameter_end(const char *text)
{
	for (bool quoted = false; *text; text++) {
		if (*text == '"')
			quoted = !quoted;
		else if (*text == '\\' && quoted && text[1])
			text++;
		else if (!quoted && (*text == ';' || *text == ','))
			break;
	}
	return text;
}

/* Whether the parameter from TEXT to END is rel with RELATION among its words. */
static bool is_relation(const char *text, const char *end, const char *relation)
{
	size_t length = strlen(relation);

	text += strspn(text, " \t");
	if (end - text < 4 || strncasecmp(text, "rel", 3) != 0)
		return false;
	text += 3 + strspn(text + 3, " \t");
	if (*text != '=')
		return false;
	while (text < end) {
		size_t word;

		text += strspn(text, " \t\"=");
		word = strcspn(text, " \t\",;");
		if (text < end && word == length && strncasecmp(text, relation, word) == 0)
			return true;
		if (!word)
			break;
		text += word;
	}
	return false;
}

char *http_link(const char **header, const char *relation)
{
	const char *at = *header;

	for (;;) {
		const char *target, *close;
		bool found = false;

		at += strspn(at, " \t,");
		close = *at == '<' ? strchr(at, '>') : NULL;
		if (!close)
			break;
		target = at + 1;
		for (at = close + 1 + strspn(close + 1, " \t"); *at == ';';) {
			const char *end = parameter_end(at + 1);

			found = found || is_relation(at + 1, end, relation);
			at = end;
		}
		if (*at && *at != ',')
			break;
		if (found) {
			*header = at;
			return strndup(target, (size_t)(close - target));
		}
	}
	*header = at + strlen(at);
	return NULL;
}
