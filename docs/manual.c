/*
 * manual PAGE.in PAGE: makes a manual page (mdoc(7)) with the lists that come from the tables. A
 * line "@NAME@" of PAGE.in stands for the list NAME; all others are copied.
 */
#include "pkifs/ctl.h"

#include "pkifs/keycheck.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* Characters that every mandoc and groff shows. */
static const struct {
	const char *character, *escape;
} escapes[] = {
	{ "…", "..." },
	{ "–", "\\(en" },
	{ "§", "\\(sc" },
	{ "\\", "\\e" },
};

static void put(const char *text)
{
	while (*text) {
		size_t length = 1, i;

		for (i = 0; i < COUNT(escapes); i++) {
			length = strlen(escapes[i].character);
			if (strncmp(text, escapes[i].character, length) == 0)
				break;
		}
		if (i < COUNT(escapes)) {
			fputs(escapes[i].escape, stdout);
			text += length;
		} else {
			putchar(*text++);
		}
	}
}

/* A line of text: one that begins with . or ' is none of mdoc's own. */
static void put_line(const char *text)
{
	if (*text == '.' || *text == '\'')
		fputs("\\&", stdout);
	put(text);
	putchar('\n');
}

/* TEXT as a sentence; its first word stays as it is where it is no plain word. */
static void put_sentence(const char *text)
{
	size_t word = strspn(text, "abcdefghijklmnopqrstuvwxyz'");

	if (word && text[word] == ' ')
		putchar(toupper((unsigned char)*text++));
	put(text);
	fputs(".\n", stdout);
}

/* "a, b or c" of "a b c". */
static void put_words(const char *words)
{
	for (size_t length; *words; words += length) {
		length = strcspn(words, " ");
		printf("%.*s", (int)length, words);
		if (!words[length])
			break;
		length++;
		fputs(strchr(words + length, ' ') ? ", " : " or ", stdout);
	}
}

static void put_key(const struct key *key)
{
	char placeholder[PLACEHOLDER_MAX];
	bool words = key->check == check_words;

	key_placeholder(key, placeholder);
	if (words || key->unit)
		printf(".It Cm %s\n", key->name);
	else
		printf(".It Cm %s Ar %s\n", key->name, placeholder);
	put_sentence(key->help);
	if (words) {
		fputs("It takes ", stdout);
		put_words(key->values);
		puts(".");
	} else if (key->check == check_number) {
		printf("It takes %ld to %ld %s.\n", key->min, key->max, key->unit);
	}
	if (key->fallback)
		printf("The default is %s.\n", key->fallback);
	if (key->max_count)
		printf("It may stand up to %u times.\n", key->max_count);
	else if (key->flags & KEY_REPEATS)
		puts("It may stand more than once.");
	if (key->flags & KEY_SECRET)
		puts("It is read back as ***.");
	if (key->flags & KEY_ROOT)
		puts("Only root may set it, in a store that root started.");
	if (key->flags & KEY_LATER) {
		puts(".Em \"Without effect in this version.\"");
	} else if (key_later(key)) {
		fputs(".Em \"Not in this version\" :\n", stdout);
		put_words(key_later(key));
		puts(".");
	}
}

static void put_keys(const struct key_table *table)
{
	puts(".Bl -tag -width Ds");
	for (size_t i = 0; i < table->count; i++)
		put_key(&table->keys[i]);
	puts(".El");
}

static void put_ca_keys(void)
{
	put_keys(&ca_config_keys);
}

static void put_local_keys(void)
{
	put_keys(&local_config_keys);
}

static void put_daemon_keys(void)
{
	put_keys(&daemon_keys);
}

/* Of a request the rows that are none of the config's. */
static void put_request_keys(const struct key_table *request, const struct key_table *config)
{
	puts(".Bl -tag -width Ds");
	for (size_t i = 0; i < request->count; i++)
		if (!key_find(config, request->keys[i].name))
			put_key(&request->keys[i]);
	puts(".El");
}

static void put_ca_request(void)
{
	put_request_keys(&ca_request_keys, &ca_config_keys);
}

static void put_verify(void)
{
	put_keys(&verify_keys);
}

static void put_local_request(void)
{
	put_request_keys(&local_request_keys, &local_config_keys);
}

static void put_ipsec_keys(void)
{
	put_keys(&ipsec_config_keys);
}

static void put_ipsec_request(void)
{
	put_request_keys(&ipsec_request_keys, &ipsec_config_keys);
}

/* "-o FILE, --output FILE" as macros. */
static void put_option(const struct option *option)
{
	const char *argument = option->argument ? option->argument : "";
	const char *ar = option->argument ? " Ar " : "";

	if (option->letter)
		printf("Fl %s%s%s , ", option->letter, ar, argument);
	printf("Fl -%.*s%s%s", (int)strcspn(option->name, "="), option->name, ar, argument);
}

static void put_options(void)
{
	puts(".Bl -tag -width Ds");
	for (size_t i = 0; i < ctl_option_count; i++) {
		fputs(".It ", stdout);
		put_option(&ctl_options[i]);
		putchar('\n');
		put_sentence(ctl_options[i].help);
	}
	puts(".El");
}

/* "PROFILE [FILE]" as macros. */
static void put_operands(const char *operands)
{
	for (size_t length; *operands; operands += strspn(operands, " ")) {
		length = strcspn(operands, " ");
		if (*operands == '[')
			printf(" Op Ar %.*s", (int)length - 2, operands + 1);
		else
			printf(" Ar %.*s", (int)length, operands);
		operands += length;
	}
}

static void put_command_options(const struct command *command)
{
	const char *before = "Options: ";

	for (size_t i = 0; i < ctl_option_count; i++) {
		const char *name = ctl_options[i].name;

		if (!list_has(command->options, name))
			continue;
		printf("%s\n.Fl -%.*s", before, (int)strcspn(name, "="), name);
		before = " ,";
	}
	if (*before == ' ')
		puts(" .");
	if (command->settings)
		printf("Settings: those of\n.Pa %s .\n", command->settings->title);
}

static void put_example(const char *example)
{
	const char *end;

	puts(".Bd -literal -offset indent");
	for (; *example; example = end + (*end == '\n')) {
		char line[256];
		bool continued = *example == ' ';

		end = example + strcspn(example, "\n");
		snprintf(line, sizeof line, "%s%.*s", continued ? "  " : "$ ", (int)(end - example),
		         example);
		put_line(line);
	}
	puts(".Ed");
}

static void put_commands(void)
{
	puts(".Bl -tag -width Ds");
	for (size_t i = 0; i < ctl_command_count; i++) {
		const struct command *command = &ctl_commands[i];

		printf(".It Cm %s", command->name);
		put_operands(command->operands);
		putchar('\n');
		put_sentence(command->help);
		put_command_options(command);
		put_example(command->example);
	}
	puts(".El");
}

static const struct {
	const char *name;
	void (*put)(void);
} lists[] = {
	{ "@ca-keys@", put_ca_keys },         { "@ca-request@", put_ca_request },
	{ "@local-keys@", put_local_keys },   { "@local-request@", put_local_request },
	{ "@ipsec-keys@", put_ipsec_keys },   { "@ipsec-request@", put_ipsec_request },
	{ "@daemon-keys@", put_daemon_keys }, { "@commands@", put_commands },
	{ "@options@", put_options },         { "@verify@", put_verify },
};

int main(int argc, char **argv)
{
	FILE *page = argc == 3 ? fopen(argv[1], "r") : NULL;
	char line[1024];

	if (!page || !freopen(argv[2], "w", stdout)) {
		fprintf(stderr, "usage: manual PAGE.in PAGE\n");
		return 2;
	}
	while (fgets(line, sizeof line, page)) {
		void (*list)(void) = NULL;

		for (size_t i = 0; i < COUNT(lists); i++)
			if (strncmp(line, lists[i].name, strlen(lists[i].name)) == 0)
				list = lists[i].put;
		if (list) {
			list();
		} else if (*line == '@') {
			fprintf(stderr, "%s: there is no list %s", argv[1], line);
			return 1;
		} else {
			fputs(line, stdout);
		}
	}
	fclose(page);
	return fflush(stdout) < 0;
}
