/* What pkictl says about itself. */
#include "pkifs/ctl.h"

#include <string.h>

/* TEXT in lines of up to 78 columns, INDENT blanks before each. */
static void put_wrapped(const char *text, int indent)
{
	int column = 0;

	while (*text) {
		int word = (int)strcspn(text, " ");

		if (column && column + 1 + word > 78) {
			putchar('\n');
			column = 0;
		}
		column += column ? printf(" %.*s", word, text)
		                 : printf("%*s%.*s", indent, "", word, text);
		text += word;
		text += strspn(text, " ");
	}
	putchar('\n');
}

static void put_key(const struct key *key)
{
	char placeholder[PLACEHOLDER_MAX];

	key_placeholder(key, placeholder);
	printf("  --%s %s", key->name, placeholder);
	if (key->fallback)
		printf(" (%s)", key->fallback);
	if (key->flags & KEY_REPEATS)
		printf("; may repeat");
	if (key->flags & KEY_SECRET)
		printf("; @FILE, or - to be asked");
	if (key->flags & KEY_ROOT)
		printf("; root only");
	putchar('\n');
	put_wrapped(key->help, 8);
	if (key_later(key))
		printf("        not in this version: %s\n", key_later(key));
}

static void put_settings(const struct key_table *table)
{
	char later[1024] = "";
	size_t used = 0;

	printf("\nSettings, %s (also as KEY=VALUE):\n",
	       table == &verify_keys ? "for this question" : "saved in the object's config");
	for (size_t i = 0; i < table->count; i++) {
		const struct key *key = &table->keys[i];

		if (key->flags & KEY_LATER)
			used += (size_t)snprintf(later + used, sizeof later - used, "%s%s",
			                         used ? " " : "", key->name);
		else if (strcmp(key->name, "action") != 0)
			put_key(key);
		if (used >= sizeof later)
			used = sizeof later - 1;
	}
	if (*later) {
		printf("\nWithout effect in this version (they are known and checked):\n");
		put_wrapped(later, 2);
	}
}

void put_synopsis(const struct command *command, FILE *out)
{
	fprintf(out, "usage: pkictl [-m DIR] %s%s%s%s%s\n", command->name,
	        *command->operands ? " " : "", command->operands,
	        *command->options ? " [options]" : "",
	        command->settings ? " [--KEY VALUE]..." : "");
}

static void put_indented(const char *text)
{
	for (; *text; text++) {
		if (*text != '\n')
			putchar(*text);
		else
			printf("\n  ");
	}
}

void put_help(const struct command *command)
{
	put_synopsis(command, stdout);
	printf("\n%s: %s\n\nFor example:\n  ", command->name, command->help);
	put_indented(command->example);
	printf("\n\nOptions:\n");
	for (size_t i = 0; i < ctl_option_count; i++) {
		const struct option *option = &ctl_options[i];
		char text[64];

		if (!list_has(command->options, option->name))
			continue;
		snprintf(text, sizeof text, "%s%s%s--%.*s %s", option->letter ? "-" : "",
		         option->letter ? option->letter : "", option->letter ? ", " : "",
		         (int)strcspn(option->name, "="), option->name,
		         option->argument ? option->argument : "");
		printf("  %-24s %s\n", text, option->help);
	}
	printf("  %-24s %s\n", "-m DIR", "the mount (else PKIFS_MOUNT, else the one mounted)");
	if (command->settings)
		put_settings(command->settings);
}

void put_overview(FILE *out)
{
	fputs("usage: pkictl [-m DIR] COMMAND ...\n\n"
	      "Certificates and CA profiles of the store that pkifsd has mounted.\n\n",
	      out);
	for (size_t i = 0; i < ctl_command_count; i++)
		fprintf(out, "  %-20s %s\n", ctl_commands[i].name, ctl_commands[i].help);
	fputs("\nFrom nothing to a certificate:\n"
	      "  pkictl ca add corp --enrollment-url http://ca.example.net/scep\n"
	      "  pkictl ca enroll corp\n"
	      "  pkictl enroll www --ca-profile corp --domain-name www.example.net \\\n"
	      "         --challenge-password -\n"
	      "  pkictl show www\n\n"
	      "pkictl COMMAND --help tells all about one. Exit codes: 0 done, 1 failed (the\n"
	      "reason is on stderr), 2 wrong usage, 3 no mount there.\n",
	      out);
}

bool put_group(const char *group)
{
	size_t length = strlen(group);
	bool any = false;

	for (size_t i = 0; i < ctl_command_count; i++) {
		if (strncmp(ctl_commands[i].name, group, length) != 0 ||
		    ctl_commands[i].name[length] != ' ')
			continue;
		fprintf(stderr, "%s  %-20s %s\n", any ? "" : "usage: pkictl COMMAND ...\n\n",
		        ctl_commands[i].name, ctl_commands[i].help);
		any = true;
	}
	return any;
}
