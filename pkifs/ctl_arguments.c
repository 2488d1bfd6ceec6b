/* The words behind a subcommand: operands, options, settings. */
#include "pkifs/ctl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool list_has(const char *list, const char *word)
{
	size_t length = strlen(word);

	for (const char *at = list; (at = strstr(at, word)); at++)
		if ((at == list || at[-1] == ' ') && (at[length] == ' ' || !at[length]))
			return true;
	return false;
}

const struct option *find_option(const struct command *command, const char *name, size_t length,
                                 bool letter)
{
	for (size_t i = 0; i < ctl_option_count; i++) {
		const char *has = letter ? ctl_options[i].letter : ctl_options[i].name;

		if (has && strcspn(has, "=") == length && strncmp(has, name, length) == 0 &&
		    list_has(command->options, ctl_options[i].name))
			return &ctl_options[i];
	}
	return NULL;
}

/* The first line of the file PATH is the secret. */
static int secret_from_file(const char *path, char *secret, struct error *err)
{
	size_t length = 0;
	char *text = NULL;
	int r = file_read(path, SECRET_MAX, &text, &length, err);

	if (r < 0)
		return r;
	text[strcspn(text, "\r\n")] = 0;
	strcpy(secret, text);
	text_free(text, length);
	return 0;
}

/* Adds a setting; a secret may be "@FILE" or "-", and does not stay on the command line. */
static int add_setting(const struct key *key, char *value, bool from_file,
                       struct arguments *arguments, struct error *err)
{
	char secret[SECRET_MAX + 1] = "";
	int r = 0;

	if (!(key->flags & KEY_SECRET)) {
		record_add(arguments->settings, key->name, value);
		return 0;
	}
	if (from_file || *value == '@')
		r = secret_from_file(from_file ? value : value + 1, secret, err);
	else if (strcmp(value, "-") == 0)
		r = ask_secret(key->name, secret, err);
	else if (strlen(value) > SECRET_MAX)
		r = error_set(err, CTL_USAGE, "%s is too long", key->name);
	else
		strcpy(secret, value);
	if (r == 0)
		record_add(arguments->settings, key->name, secret);
	explicit_bzero(secret, sizeof secret);
	if (!from_file && *value != '@')
		memset(value, '*', strlen(value));
	return r;
}

const struct key *find_setting(const struct command *command, const char *name, bool *from_file)
{
	size_t length = strlen(name);
	const struct key *key;
	char base[64];

	*from_file = false;
	if (!command->settings || strcmp(name, "action") == 0)
		return NULL;
	key = key_find(command->settings, name);
	if (key || length < 6 || length >= sizeof base || strcmp(name + length - 5, "-file") != 0)
		return key;
	memcpy(base, name, length - 5);
	base[length - 5] = 0;
	key = key_find(command->settings, base);
	*from_file = true;
	return key && (key->flags & KEY_SECRET) ? key : NULL;
}

static int unknown_option(const struct command *command, const char *name, struct error *err)
{
	struct record *one = record_new();
	struct error reason = { 0 };
	const char *nearest = NULL;

	if (one && command->settings) {
		record_add(one, name, "");
		key_check_record(command->settings, one, &reason);
		nearest = strstr(reason.text, "; did you mean ");
	}
	record_free(one);
	if (nearest)
		return error_set(err, CTL_USAGE, "unknown option --%.60s; did you mean --%s", name,
		                 nearest + strlen("; did you mean "));
	return error_set(err, CTL_USAGE, "%s has no option --%.60s", command->name, name);
}

/* How the words of the command line are taken, one after the other. */
struct words {
	char **at;
	int left;
};

/* The argument of an option: behind "=" in its own word, else the next word. */
static int option_argument(struct words *words, char *equals, const char *name, char **argument,
                           struct error *err)
{
	if (equals) {
		*argument = equals + 1;
		return 0;
	}
	if (!words->left)
		return error_set(err, CTL_USAGE, "--%s needs a value", name);
	*argument = *words->at++;
	words->left--;
	return 0;
}

static int read_long_option(const struct command *command, struct words *words, char *word,
                            struct arguments *arguments, struct error *err)
{
	char name[64], *equals = strchr(word, '='), *argument = NULL;
	size_t length = equals ? (size_t)(equals - word) : strlen(word);
	const struct option *option;
	const struct key *key;
	bool from_file;
	int r;

	if (length >= sizeof name)
		return error_set(err, CTL_USAGE, "%s has no option --%.60s", command->name, word);
	memcpy(name, word, length);
	name[length] = 0;
	option = find_option(command, name, length, false);
	if (option && !option->argument) {
		record_set(arguments->options, name, "");
		return equals ? error_set(err, CTL_USAGE, "--%s takes no value", name) : 0;
	}
	key = option ? NULL : find_setting(command, name, &from_file);
	if (!option && !key)
		return unknown_option(command, name, err);
	r = option_argument(words, equals, name, &argument, err);
	if (r == 0 && key)
		return add_setting(key, argument, from_file, arguments, err);
	if (r == 0)
		record_set(arguments->options, name, argument);
	return r;
}

static int read_short_option(const struct command *command, struct words *words, char *word,
                             struct arguments *arguments, struct error *err)
{
	const struct option *option = find_option(command, word, 1, true);
	char name[32], *argument = word + 1;
	int r = 0;

	if (!option || (!option->argument && word[1]))
		return error_set(err, CTL_USAGE, "%s has no option -%.10s", command->name, word);
	snprintf(name, sizeof name, "%.*s", (int)strcspn(option->name, "="), option->name);
	if (!option->argument)
		argument = word;
	else if (!*argument)
		r = option_argument(words, NULL, name, &argument, err);
	if (r == 0)
		record_set(arguments->options, name, option->argument ? argument : "");
	return r;
}

unsigned count_operands(const char *text, unsigned *needed)
{
	unsigned count = 0;

	for (*needed = 0; *text; text += strspn(text, " ")) {
		count++;
		*needed += *text != '[';
		text += strcspn(text, " ");
	}
	return count;
}

static int read_operand(const struct command *command, char *word, struct arguments *arguments,
                        struct error *err)
{
	char *equals = strchr(word, '=');
	const struct key *key;
	bool from_file;
	unsigned needed;

	if (equals) {
		*equals = 0;
		key = find_setting(command, word, &from_file);
		if (key)
			return add_setting(key, equals + 1, from_file, arguments, err);
		if (command->settings && arguments->count)
			return unknown_option(command, word, err);
		*equals = '=';
	}
	if (arguments->count == count_operands(command->operands, &needed))
		return error_set(err, CTL_USAGE, "%s: \"%.60s\" is too much", command->name, word);
	arguments->operands[arguments->count++] = word;
	return 0;
}

static int read_word(const struct command *command, struct words *words, bool *only_operands,
                     struct arguments *arguments, struct error *err)
{
	char *word = *words->at++;

	words->left--;
	if (*only_operands || *word != '-' || !word[1])
		return read_operand(command, word, arguments, err);
	if (strcmp(word, "--") == 0) {
		*only_operands = true;
		return 0;
	}
	if (word[1] == '-')
		return read_long_option(command, words, word + 2, arguments, err);
	return read_short_option(command, words, word + 1, arguments, err);
}

int arguments_read(const struct command *command, int count, char **argv,
                   struct arguments *arguments, struct error *err)
{
	struct words words = { .at = argv, .left = count };
	bool only_operands = false;
	unsigned needed;
	int r = 0;

	*arguments = (struct arguments){ .options = record_new(), .settings = record_new() };
	if (!arguments->options || !arguments->settings)
		return error_set(err, -ENOMEM, "out of memory");
	while (r == 0 && words.left)
		r = read_word(command, &words, &only_operands, arguments, err);
	if (r < 0)
		return r;
	count_operands(command->operands, &needed);
	if (arguments->count < needed)
		return error_set(err, CTL_USAGE, "%s needs %s", command->name, command->operands);
	if (record_failed(arguments->options) || record_failed(arguments->settings))
		return error_set(err, -ENOMEM, "out of memory");
	if (command->settings && key_check_record(command->settings, arguments->settings, err) < 0)
		return err->code = CTL_USAGE;
	return 0;
}

void arguments_clear(struct arguments *arguments)
{
	record_free(arguments->options);
	record_free(arguments->settings);
	*arguments = (struct arguments){ 0 };
}
