/* pkictl --complete: what may stand next on a command line, from the tables and the mount. */
#include "pkifs/ctl.h"

#include "pkifs/keycheck.h"

#include <dirent.h>
#include <string.h>

/* What is completed. */
struct line {
	struct ctl ctl; /* root: empty where nothing is mounted */
	const char *word;
	const char *prefix; /* "--key-type=", which stands before the value in the same word */
	int prefix_length;
};

/* The candidate TEXT (LENGTH bytes), where it begins with what is typed. */
static void offer(const struct line *line, const char *lead, const char *text, size_t length)
{
	size_t lead_length = strlen(lead), typed = strlen(line->word);
	char candidate[256];

	if (lead_length + length >= sizeof candidate)
		return;
	memcpy(candidate, lead, lead_length);
	memcpy(candidate + lead_length, text, length);
	candidate[lead_length + length] = 0;
	if (strncmp(candidate, line->word, typed) == 0)
		printf("%.*s%s\n", line->prefix_length, line->prefix, candidate);
}

/* Each of WORDS that is not one of WITHOUT (may be NULL). */
static void offer_words(const struct line *line, const char *words, const char *without)
{
	char word[64];

	for (size_t length; *words; words += length + strspn(words + length, " ")) {
		length = strcspn(words, " ");
		snprintf(word, sizeof word, "%.*s", (int)length, words);
		if (!without || !list_has(without, word))
			offer(line, "", word, length);
	}
}

/* The names of the mount's profiles ("ca") or certificate ids ("local"). */
static void offer_objects(const struct line *line, const char *kind, const char *lead)
{
	char path[PATH_MAX];
	struct dirent *entry;
	DIR *folder;

	if (!*line->ctl.root)
		return;
	ctl_path(&line->ctl, NULL, kind, path);
	folder = opendir(path);
	while (folder && (entry = readdir(folder)))
		if (object_name_is_legal(entry->d_name))
			offer(line, lead, entry->d_name, strlen(entry->d_name));
	if (folder)
		closedir(folder);
}

static void offer_value(const struct line *line, const struct key *key, bool from_file)
{
	key_checker *const files[] = { check_path, check_command, check_program };

	if (key->flags & KEY_CA)
		offer_objects(line, "ca", "");
	else if (key->flags & KEY_LOCAL)
		offer_objects(line, "local", "");
	else if (from_file)
		puts(" files");
	else if (key->flags & KEY_SECRET)
		offer_words(line, "-", NULL);
	else if (key->check == check_words || key->check == check_key_size)
		offer_words(line, key->values, key_later(key));
	else if (key->check == check_key_store)
		offer_words(line, "store", NULL);
	for (size_t i = 0; i < COUNT(files); i++)
		if (key->check == files[i])
			puts(" files");
}

static void offer_options(const struct line *line, const struct command *command)
{
	const struct key_table *settings = command->settings;

	for (size_t i = 0; i < ctl_option_count; i++)
		if (list_has(command->options, ctl_options[i].name))
			offer(line, "--", ctl_options[i].name, strcspn(ctl_options[i].name, "="));
	for (size_t i = 0; settings && i < settings->count; i++) {
		const struct key *key = &settings->keys[i];

		if (!(key->flags & KEY_LATER) && strcmp(key->name, "action") != 0)
			offer(line, "--", key->name, strlen(key->name));
	}
	offer(line, "", "--help", strlen("--help"));
}

/* A command before the one of INDEX begins with the same word; the table is in the order of help.
 */
static bool is_offered(size_t index)
{
	const char *name = ctl_commands[index].name;
	size_t length = strcspn(name, " ");

	for (size_t i = 0; i < index; i++) {
		const char *other = ctl_commands[i].name;

		if (strcspn(other, " ") == length && strncmp(other, name, length) == 0)
			return true;
	}
	return false;
}

/* The first words of all commands, or the second ones of a GROUP. */
static void offer_commands(const struct line *line, const char *group)
{
	size_t skip = group ? strlen(group) + 1 : 0;

	for (size_t i = 0; i < ctl_command_count; i++) {
		const char *name = ctl_commands[i].name;

		if (group && (strncmp(name, group, skip - 1) != 0 || name[skip - 1] != ' '))
			continue;
		if (group || !is_offered(i))
			offer(line, "", name + skip, strcspn(name + skip, " "));
	}
	if (!group)
		offer_words(line, "--help --version -m", NULL);
}

/* What the operand number COUNT of COMMAND may be. */
static void offer_operand(const struct line *line, const struct command *command, unsigned count)
{
	const char *operand = command->operands;

	for (; *operand && count; count--) {
		operand += strcspn(operand, " ");
		operand += strspn(operand, " ");
	}
	operand += *operand == '[';
	if (strncmp(operand, "FILE", strlen("FILE")) == 0)
		puts(" files");
	if (strncmp(operand, "PROFILE", strlen("PROFILE")) == 0)
		offer_objects(line, "ca", "");
	if (strncmp(operand, "ID", strlen("ID")) != 0)
		return;
	offer_objects(line, "local", "");
	if (command->settings) /* else an ID may be either */
		return;
	offer_objects(line, "ca", "");
	if (*line->word) {
		offer_objects(line, "ca", "ca/");
		offer_objects(line, "local", "local/");
		offer_objects(line, "ipsec", "ipsec/");
	}
}

/* The option or setting that WORD (LENGTH bytes, dashes left out) is; true: it wants a value. */
static bool wants_value(const struct command *command, const char *word, size_t length, bool letter,
                        const struct key **key, bool *from_file)
{
	const struct option *option = find_option(command, word, length, letter);
	char name[64];

	*key = NULL;
	if (option)
		return option->argument != NULL;
	if (letter || length >= sizeof name)
		return false;
	memcpy(name, word, length);
	name[length] = 0;
	*key = find_setting(command, name, from_file);
	return *key != NULL;
}

/* "--KEY=VALUE" or "KEY=VALUE" in one word. False where the last word is none. */
static bool complete_assignment(struct line *line, const struct command *command)
{
	const char *name = line->word + (strncmp(line->word, "--", 2) == 0 ? 2 : 0);
	const char *equals = strchr(line->word, '=');
	bool from_file = false;
	const struct key *key;

	if (!equals ||
	    !wants_value(command, name, (size_t)(equals - name), false, &key, &from_file))
		return false;
	line->prefix = line->word;
	line->prefix_length = (int)(equals + 1 - line->word);
	line->word = equals + 1;
	if (key)
		offer_value(line, key, from_file);
	else
		puts(" files");
	return true;
}

static void complete_arguments(struct line *line, const struct command *command, int count,
                               char **words)
{
	const struct key *key = NULL;
	bool wanted = false, from_file = false;
	unsigned operands = 0;

	for (int i = 0; i < count; i++) {
		const char *word = words[i];

		if (wanted) { /* this is the value */
			wanted = false;
		} else if (*word == '-' && word[1]) {
			bool letter = word[1] != '-';

			word += letter ? 1 : 2;
			wanted = !strchr(word, '=') && (!letter || !word[1]) &&
			         wants_value(command, word, strlen(word), letter, &key, &from_file);
		} else if (!strchr(word, '=')) {
			operands++;
		}
	}
	if (wanted && key)
		offer_value(line, key, from_file);
	else if (wanted && strcmp(words[count - 1], "--profile") == 0)
		offer_objects(line, "ca", "");
	else if (wanted)
		puts(" files");
	else if (complete_assignment(line, command))
		return;
	else if (*line->word == '-')
		offer_options(line, command);
	else
		offer_operand(line, command, operands);
}

void complete(int count, char **words)
{
	struct line line = { .word = count ? words[count - 1] : "", .prefix = "" };
	const char *mount = NULL;
	const struct command *command;
	int kept = 0, taken = 0;

	for (int i = 0; i < count; i++)
		if (strcmp(words[i], "-m") == 0 && i + 2 < count)
			mount = words[++i];
		else if (i + 1 < count)
			words[kept++] = words[i];
	if (kept && strcmp(words[kept - 1], "-m") == 0) {
		puts(" folders");
		return;
	}
	if (ctl_find(&line.ctl, mount, NULL) < 0)
		*line.ctl.root = 0;
	command = find_command(kept, words, &taken);
	if (command)
		complete_arguments(&line, command, kept - taken, words + taken);
	else if (kept < 2)
		offer_commands(&line, kept ? words[0] : NULL);
}
