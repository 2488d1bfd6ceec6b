/* What charon says of its SAs (list-sas). */
#include "netlink/charon.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The name of KEY within the section PREFIX, or NULL. */
static const char *within(const char *key, const char *prefix)
{
	size_t length = strlen(prefix);

	return strncmp(key, prefix, length) == 0 && key[length] == '.' ? key + length + 1 : NULL;
}

static void add_word(char text[CHARON_TEXT], const char *separator, const char *word)
{
	size_t used = strlen(text);

	snprintf(text + used, CHARON_TEXT - used, "%s%s", used ? separator : "", word);
}

/* An algorithm of charon's, with its key's size behind. */
static void add_algorithm(char text[CHARON_TEXT], const char *key, const char *value)
{
	static const char *const sizes[] = { "encr-keysize", "integ-keysize" };
	static const char *const names[] = { "encr-alg", "integ-alg", "prf-alg", "dh-group" };

	for (size_t i = 0; i < COUNT(sizes); i++)
		if (strcmp(key, sizes[i]) == 0)
			add_word(text, "-", value);
	for (size_t i = 0; i < COUNT(names); i++)
		if (strcmp(key, names[i]) == 0)
			add_word(text, "/", value);
}

static void take_of_ike(const struct field *field, const char *key, struct charon_sas *into)
{
	struct charon_ike *ike = &into->ikes[into->ike_count - 1];

	if (strcmp(key, "uniqueid") == 0)
		ike->id = (uint32_t)strtoul(field->value, NULL, 10);
	else if (strcmp(key, "state") == 0)
		ike->established = strcmp(field->value, "ESTABLISHED") == 0 ||
		                   strcmp(field->value, "REKEYING") == 0 ||
		                   strcmp(field->value, "REKEYED") == 0;
	else if (strcmp(key, "remote-id") == 0)
		snprintf(into->peer, sizeof into->peer, "%s", field->value);
	else
		add_algorithm(into->ike, key, field->value);
}

static void take_of_child(const struct field *field, const char *key, struct charon_sas *into)
{
	struct child *child = &into->children[into->child_count - 1];

	if (strcmp(key, "spi-in") == 0)
		child->spis.in = (uint32_t)strtoul(field->value, NULL, 16);
	else if (strcmp(key, "spi-out") == 0)
		child->spis.out = (uint32_t)strtoul(field->value, NULL, 16);
	else
		add_algorithm(into->esp, key, field->value);
}

/* KEY is "SECTION.NAME" of a child; another section than the last one is another child. */
static void take_child(const struct field *field, const char *key, const char **section,
                       struct charon_sas *into)
{
	size_t length = strcspn(key, ".");

	if (!key[length])
		return;
	if (!*section || strncmp(*section, key, length + 1) != 0) {
		if (into->child_count == CHILDREN)
			return;
		*section = key;
		*into->esp = 0;
		into->children[into->child_count++] =
			(struct child){ .ike = into->ikes[into->ike_count - 1].id };
	}
	take_of_child(field, key + length + 1, into);
}

/* Those without both SPIs are not there yet. */
static void drop_unfinished(struct charon_sas *into, size_t first)
{
	size_t kept = first;

	for (size_t i = first; i < into->child_count; i++)
		if (into->children[i].spis.in && into->children[i].spis.out)
			into->children[kept++] = into->children[i];
	into->child_count = kept;
}

bool charon_sas_read(const struct record *item, const char *name, struct charon_sas *into)
{
	size_t first = into->child_count;
	const char *section = NULL;
	char children[64];

	snprintf(children, sizeof children, "%s.child-sas", name);
	if (!record_count(item) || !within(record_field(item, 0)->key, name) ||
	    into->ike_count == CHARON_IKES)
		return false;
	into->ikes[into->ike_count++] = (struct charon_ike){ 0 };
	*into->ike = 0;
	for (size_t i = 0; i < record_count(item); i++) {
		const struct field *field = record_field(item, i);
		const char *child = within(field->key, children);
		const char *key = within(field->key, name);

		if (child)
			take_child(field, child, &section, into);
		else if (key)
			take_of_ike(field, key, into);
	}
	drop_unfinished(into, first);
	return true;
}
