/* What pkictl reads of a mount, which need not be one of ours: no crash, one printable line. */
#include "common/x509.h"
#include "pkifs/ctl.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_table(const char *json, size_t size)
{
	struct ctl ctl = { .columns = 80 };
	char *text = NULL;
	size_t length;
	FILE *out = open_memstream(&text, &length);
	struct error err;

	if (!out)
		abort();
	show_table(&ctl, json, size, 0, out, &err);
	fclose(out);
	if (strpbrk(text, "\033\r\b"))
		abort();
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char line[256], root[PATH_MAX], *text = malloc(size + 1);

	if (!text)
		abort();
	memcpy(text, data, size);
	text[size] = 0;
	if (event_text(text, size, size & 1, line, sizeof line) && strpbrk(line, "\n\033\177"))
		abort();
	mount_in_mountinfo(text, root);
	rfc3339_seconds(text);
	try_table(text, size);
	free(text);
	return 0;
}
