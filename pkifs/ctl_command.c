#include "pkifs/ctl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* clang-format off: tables */

/* What pkictl itself takes; "=" behind the name: with an argument. */
static const struct option {
	const char *name, *letter, *argument, *help;
} options[] = {
	{ "yes", "y", NULL, "do not ask" },
	{ "no", NULL, NULL, "refuse the CA certificate that waits" },
	{ "fingerprint=", NULL, "F", "do not ask: the certificate must have this fingerprint" },
	{ "no-wait", NULL, NULL, "do not wait for the end of the request" },
	{ "timeout=", "t", "SECONDS", "wait this long at most" },
	{ "output=", "o", "FILE", "write to FILE (a private key: readable by its owner alone)" },
	{ "json", NULL, NULL, "as JSON, for programs" },
	{ "cert=", NULL, "FILE", "load this certificate (PEM; its intermediates may follow)" },
	{ "key=", NULL, "FILE", "load this private key (PEM)" },
	{ "crl=", NULL, "FILE", "load this CRL" },
	{ "cert", NULL, NULL, "the certificate alone" },
	{ "chain", NULL, NULL, "its issuers" },
	{ "fullchain", NULL, NULL, "the certificate and its issuers" },
	{ "csr", NULL, NULL, "the request (PKCS#10) last made" },
	{ "public", NULL, NULL, "the public key" },
	{ "key", NULL, NULL, "the PRIVATE KEY" },
	{ "bundle", NULL, NULL, "the PRIVATE KEY, the certificate and its issuers" },
	{ "crl", NULL, NULL, "the CRL" },
};

#define WAITS " no-wait timeout="

static const struct command commands[] = {
	{ "ca add", ca_add, "PROFILE", "", &ca_config_keys,
	  "make a CA profile, or change its settings",
	  "pkictl ca add corp --enrollment-url http://ca.example.net/scep" },
	{ "ca enroll", ca_enroll, "PROFILE", "yes fingerprint=" WAITS, &ca_config_keys,
	  "fetch the CA certificate, show fingerprints, confirm it",
	  "pkictl ca enroll corp\npkictl ca enroll corp --fingerprint 4C:0F:…" },
	{ "ca confirm", ca_confirm, "PROFILE", "yes no fingerprint=", NULL,
	  "confirm (or refuse) a fetched CA certificate", "pkictl ca confirm corp" },
	{ "ca load", ca_load, "PROFILE [FILE]", "yes fingerprint= crl=", &ca_config_keys,
	  "load a CA certificate or a CRL from a file",
	  "pkictl ca load corp ca.pem\npkictl ca load corp --crl corp.crl" },
	{ "ca unenroll", ca_unenroll, "PROFILE", WAITS, NULL,
	  "drop CA certificate and CRL, keep the settings", "pkictl ca unenroll corp" },
	{ "ca show", ca_show, "[PROFILE]", "json", NULL, "how a CA profile is",
	  "pkictl ca show corp" },
	{ "key generate", key_generate, "ID", WAITS, &local_config_keys, "make a key pair",
	  "pkictl key generate www --key-type ecdsa --key-size 384" },
	{ "request csr", request_csr, "ID", "output=" WAITS, &local_config_keys,
	  "make a PKCS#10 request (and a key pair if need be)",
	  "pkictl request csr www --domain-name www.example.net -o www.csr" },
	{ "request self-signed", request_self_signed, "ID", WAITS, &local_request_keys,
	  "make a self-signed certificate",
	  "pkictl request self-signed proxy --subject CN=Proxy --add-ca-constraint yes" },
	{ "enroll", local_enroll, "ID", WAITS, &local_config_keys, "get a certificate from the CA",
	  "pkictl enroll www --ca-profile corp --domain-name www.example.net \\\n"
	  "       --challenge-password -" },
	{ "re-enroll", local_re_enroll, "ID", WAITS, &local_config_keys, "renew a certificate now",
	  "pkictl re-enroll www" },
	{ "load", local_load, "ID", "cert= key=", &local_config_keys,
	  "load a private key, a certificate or both from files",
	  "pkictl load www --key www.key --cert www.pem" },
	{ "wait", ctl_wait, "ID", "timeout=", NULL,
	  "wait for the end of a request; 1 when it fails, and why", "pkictl wait www -t 60" },
	{ "show", ctl_show, "[ID]", "json", NULL, "a table of all, or all about one",
	  "pkictl show\npkictl show www\npkictl show ca/corp --json" },
	{ "verify", ctl_verify, "FILE", "", NULL, "judge somebody else's certificate",
	  "pkictl verify peer.pem" },
	{ "watch", ctl_watch, "", "json", NULL, "print events as they happen, until interrupted",
	  "pkictl watch" },
	{ "export", ctl_export, "ID", "output= fullchain cert chain csr public key bundle crl",
	  NULL, "print or save a certificate, its chain, key or CRL",
	  "pkictl export www -o www.pem\npkictl export www --bundle -o haproxy.pem\n"
	  "pkictl export corp --crl" },
	{ "rm", ctl_rm, "ID", "yes", NULL, "remove a certificate id (its keys too) or a CA profile",
	  "pkictl rm www" },
};

/* clang-format on */

/* True when the words of LIST (blanks between) contain WORD. */
static bool list_has(const char *list, const char *word)
{
	size_t length = strlen(word);

	for (const char *at = list; (at = strstr(at, word)); at++)
		if ((at == list || at[-1] == ' ') && (at[length] == ' ' || !at[length]))
			return true;
	return false;
}

/* The option of COMMAND that NAME (LENGTH bytes; or its one letter) means. */
static const struct option *find_option(const struct command *command, const char *name,
                                        size_t length, bool letter)
{
	for (size_t i = 0; i < COUNT(options); i++) {
		const char *has = letter ? options[i].letter : options[i].name;

		if (has && strcspn(has, "=") == length && strncmp(has, name, length) == 0 &&
		    list_has(command->options, options[i].name))
			return &options[i];
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

/* The key that an option's NAME means: itself, or NAME-file for a secret. */
static const struct key *find_setting(const struct command *command, const char *name,
                                      bool *from_file)
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

/* Words in TEXT, and how many of them stand outside of brackets. */
static unsigned count_operands(const char *text, unsigned *needed)
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

/* What the key takes: "a|b", "0-100 times", else VALUE. */
static void put_key(const struct key *key)
{
	printf("  --%s ", key->name);
	if (key->values && !strstr(key->values, "http"))
		for (const char *at = key->values; *at; at++)
			putchar(*at == ' ' ? '|' : *at);
	else if (key->values)
		printf("URL");
	else if (key->unit)
		printf("%ld-%ld %s", key->min, key->max, key->unit);
	else
		printf("VALUE");
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
}

static void put_synopsis(const struct command *command, FILE *out)
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

static void put_help(const struct command *command)
{
	put_synopsis(command, stdout);
	printf("\n%s: %s\n\nFor example:\n  ", command->name, command->help);
	put_indented(command->example);
	printf("\n\nOptions:\n");
	for (size_t i = 0; i < COUNT(options); i++) {
		const struct option *option = &options[i];
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
	if (!command->settings)
		return;
	printf("\nSettings, saved in the object's config (also as KEY=VALUE):\n");
	for (size_t i = 0; i < command->settings->count; i++)
		if (strcmp(command->settings->keys[i].name, "action") != 0)
			put_key(&command->settings->keys[i]);
}

static void put_overview(FILE *out)
{
	fputs("usage: pkictl [-m DIR] COMMAND ...\n\n"
	      "Certificates and CA profiles of the store that pkifsd has mounted.\n\n",
	      out);
	for (size_t i = 0; i < COUNT(commands); i++)
		fprintf(out, "  %-20s %s\n", commands[i].name, commands[i].help);
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

/* The command whose words ARGV begins with; *WORDS: how many they are. */
static const struct command *find_command(int argc, char **argv, int *words)
{
	for (size_t i = 0; i < COUNT(commands); i++) {
		const char *blank = strchr(commands[i].name, ' ');
		size_t first = strcspn(commands[i].name, " ");

		if (argc < 1 + (blank ? 1 : 0) || strlen(argv[0]) != first ||
		    strncmp(argv[0], commands[i].name, first) != 0 ||
		    (blank && strcmp(argv[1], blank + 1) != 0))
			continue;
		*words = blank ? 2 : 1;
		return &commands[i];
	}
	return NULL;
}

/* The commands that begin with GROUP ("ca", "key", "request"). False where there are none. */
static bool put_group(const char *group)
{
	size_t length = strlen(group);
	bool any = false;

	for (size_t i = 0; i < COUNT(commands); i++) {
		if (strncmp(commands[i].name, group, length) != 0 ||
		    commands[i].name[length] != ' ')
			continue;
		fprintf(stderr, "%s  %-20s %s\n", any ? "" : "usage: pkictl COMMAND ...\n\n",
		        commands[i].name, commands[i].help);
		any = true;
	}
	return any;
}

static int report(const struct command *command, int code, const struct error *err)
{
	fprintf(stderr, "pkictl: %s\n", err->text);
	if (code == CTL_USAGE) {
		put_synopsis(command, stderr);
		fprintf(stderr, "pkictl %s --help tells more\n", command->name);
		return EXIT_WRONG_USAGE;
	}
	return code == CTL_NO_MOUNT || code == -ENOTCONN ? EXIT_NO_MOUNT : EXIT_FAILED;
}

static void measure_terminal(struct ctl *ctl)
{
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
	struct winsize size;

	ctl->columns = 80;
	if (!isatty(STDOUT_FILENO))
		return;
	ctl->color = !(no_color && *no_color) && !(term && strcmp(term, "dumb") == 0);
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 80)
		ctl->columns = size.ws_col;
}

static int run(const struct command *command, const char *mount, int count, char **argv)
{
	struct arguments arguments;
	struct error err = { 0 };
	struct ctl ctl = { 0 };
	int r;

	measure_terminal(&ctl);
	r = arguments_read(command, count, argv, &arguments, &err);
	if (r == 0)
		r = ctl_find(&ctl, mount, &err);
	if (r == 0)
		r = command->run(&ctl, &arguments, &err);
	if (r == 0 && (fflush(stdout) < 0 || ferror(stdout)))
		r = error_set(&err, -EIO, "standard output: %s", strerror(errno));
	arguments_clear(&arguments);
	return r < 0 ? report(command, r, &err) : EXIT_DONE;
}

/* Takes "-m DIR" and "--help" out of ARGV, wherever they stand before a "--". */
static int take_global(int argc, char **argv, const char **mount, bool *help)
{
	int kept = 0;

	for (int i = 0; i < argc; i++) {
		if (strcmp(argv[i], "--") == 0) {
			while (i < argc)
				argv[kept++] = argv[i++];
			break;
		}
		if (strcmp(argv[i], "-m") == 0 && i + 1 < argc)
			*mount = argv[++i];
		else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			*help = true;
		else
			argv[kept++] = argv[i];
	}
	return kept;
}

int ctl_main(int argc, char **argv)
{
	const struct command *command;
	const char *mount = NULL;
	bool help = false;
	int words = 0;

	argc = take_global(argc - 1, ++argv, &mount, &help);
	if (argc == 1 && strcmp(argv[0], "--version") == 0) {
		puts("pkictl " PKIFS_VERSION);
		return EXIT_DONE;
	}
	command = find_command(argc, argv, &words);
	if (command && help) {
		put_help(command);
		return EXIT_DONE;
	}
	if (command)
		return run(command, mount, argc - words, argv + words);
	if (help || (argc == 1 && strcmp(argv[0], "help") == 0)) {
		if (!argc || !put_group(argv[0]))
			put_overview(stdout);
		return EXIT_DONE;
	}
	if (!argc) {
		put_overview(stderr);
		return EXIT_WRONG_USAGE;
	}
	if (!put_group(argv[0]))
		fprintf(stderr, "pkictl: there is no command \"%.60s\"; see pkictl --help\n",
		        argv[0]);
	return EXIT_WRONG_USAGE;
}
