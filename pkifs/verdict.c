#include "pkifs/verdict.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *tunnel_stands_on(const struct record *settings)
{
	static const char *const keys[] = { "certificate-id", "ca-profile", "local-id", "engine" };
	const struct field *field;
	size_t size = 0;
	char *text = NULL;
	FILE *file = open_memstream(&text, &size);

	if (!file)
		return NULL;
	for (size_t k = 0; k < COUNT(keys); k++)
		for (size_t i = 0; (field = record_next(settings, keys[k], &i)) != NULL;)
			fprintf(file, "%s = %s\n", keys[k], field->value);
	if (fclose(file) == 0)
		return text;
	free(text);
	return NULL;
}

void verdicts_free(struct verdict *verdicts)
{
	while (verdicts) {
		struct verdict *next = verdicts->next;

		record_free(verdicts->ended);
		free(verdicts->stands_on);
		free(verdicts);
		verdicts = next;
	}
}

int tunnel_verdict(struct store *store, const char *stands_on, struct verdict **verdicts,
                   struct verdict **found)
{
	struct record *settings = NULL;
	struct verdict *new;
	int r;

	for (*found = *verdicts; *found; *found = (*found)->next)
		if (strcmp((*found)->stands_on, stands_on) == 0)
			return 0;
	new = calloc(1, sizeof *new);
	if (new)
		new->stands_on = strdup(stands_on);
	r = new &&new->stands_on ? record_parse(stands_on, strlen(stands_on), NULL, &settings, NULL)
	                         : -ENOMEM;
	if (r == 0)
		r = tunnel_trust(store, settings, &new->trust);
	record_free(settings);
	if (r < 0) {
		verdicts_free(new);
		return r;
	}
	new->next = *verdicts;
	*verdicts = *found = new;
	return 0;
}
