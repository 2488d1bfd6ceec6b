#include "pkifs/ctl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* clang-format off: tables */

const struct option ctl_options[] = {
	{ "yes", "y", NULL, "do not ask" },
	{ "no", NULL, NULL, "refuse the CA certificate that waits" },
	{ "fingerprint=", NULL, "F", "do not ask: the certificate must have this fingerprint" },
	{ "no-wait", NULL, NULL, "do not wait for the end of the request" },
	{ "timeout=", "t", "SECONDS", "wait this long at most" },
	{ "output=", "o", "FILE", "write to FILE (a private key: readable by its owner alone)" },
	{ "json", NULL, NULL, "as JSON, for programs" },
	{ "cert=", NULL, "FILE", "load this certificate (PEM; its intermediates may follow)" },
	{ "key=", NULL, "FILE", "load this private key (PEM)" },
	{ "chain=", NULL, "FILE", "load its issuers (PEM) with it" },
	{ "crl=", NULL, "FILE", "load this CRL" },
	{ "profile=", NULL, "PROFILE", "by this CA profile (the only one)" },
	{ "cert", NULL, NULL, "the certificate alone" },
	{ "chain", NULL, NULL, "its issuers" },
	{ "fullchain", NULL, NULL, "the certificate and its issuers" },
	{ "csr", NULL, NULL, "the request (PKCS#10) last made" },
	{ "public", NULL, NULL, "the public key" },
	{ "key", NULL, NULL, "the PRIVATE KEY" },
	{ "bundle", NULL, NULL, "the PRIVATE KEY, the certificate and its issuers" },
	{ "crl", NULL, NULL, "the CRL" },
};
const size_t ctl_option_count = COUNT(ctl_options);

#define WAITS " no-wait timeout="

const struct command ctl_commands[] = {
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
	  "pkictl key generate mail --key-type ecdsa --key-size 384" },
	{ "request csr", request_csr, "ID", "output=" WAITS, &local_config_keys,
	  "make a PKCS#10 request (and a key pair if need be)",
	  "pkictl request csr mail --domain-name mail.example.net -o mail.csr" },
	{ "request self-signed", request_self_signed, "ID", WAITS, &local_request_keys,
	  "make a self-signed certificate",
	  "pkictl request self-signed proxy --subject CN=Proxy --add-ca-constraint yes" },
	{ "enroll", local_enroll, "ID", WAITS, &local_config_keys, "get a certificate from the CA",
	  "pkictl enroll www --ca-profile corp --domain-name www.example.net \\\n"
	  "       --challenge-password -" },
	{ "re-enroll", local_re_enroll, "ID", WAITS, &local_config_keys, "renew a certificate now",
	  "pkictl re-enroll www" },
	{ "load", local_load, "ID [FILE]", "cert= key= chain=", &local_config_keys,
	  "load a key and a certificate bought elsewhere (PEM)",
	  "pkictl load shop --key shop.key --cert shop.crt --chain intermediates.crt\n"
	  "pkictl load shop shop.pem" },
	{ "wait", ctl_wait, "ID", "timeout=", NULL,
	  "wait for the end of a request; 1 when it fails, and why", "pkictl wait www -t 60" },
	{ "cancel", ctl_cancel, "ID", "", NULL, "end a request that is under way",
	  "pkictl cancel www" },
	{ "show", ctl_show, "[ID]", "json", NULL, "a table of all, or all about one",
	  "pkictl show\npkictl show www\npkictl show ca/corp --json" },
	{ "verify", ctl_verify, "FILE", "profile=", &verify_keys,
	  "judge somebody else's certificate, and its chain",
	  "pkictl verify peer.pem\n"
	  "pkictl verify peer.pem --profile corp --name gw.example.net --purpose ike" },
	{ "request verify", request_verify, "ID", WAITS, NULL,
	  "judge a certificate of the store, and its chain",
	  "pkictl request verify www\npkictl request verify ca/corp" },
	{ "watch", ctl_watch, "", "json", NULL, "print events as they happen, until interrupted",
	  "pkictl watch" },
	{ "export", ctl_export, "ID", "output= fullchain cert chain csr public key bundle crl",
	  NULL, "print or save a certificate, its chain, key or CRL",
	  "pkictl export www -o www.pem\npkictl export www --bundle -o haproxy.pem\n"
	  "pkictl export corp --crl" },
	{ "rm", ctl_rm, "ID", "yes", NULL, "remove a certificate id (its keys too) or a CA profile",
	  "pkictl rm www" },
};
const size_t ctl_command_count = COUNT(ctl_commands);

/* clang-format on */

const struct command *find_command(int argc, char **argv, int *words)
{
	for (size_t i = 0; i < ctl_command_count; i++) {
		const char *blank = strchr(ctl_commands[i].name, ' ');
		size_t first = strcspn(ctl_commands[i].name, " ");

		if (argc < 1 + (blank ? 1 : 0) || strlen(argv[0]) != first ||
		    strncmp(argv[0], ctl_commands[i].name, first) != 0 ||
		    (blank && strcmp(argv[1], blank + 1) != 0))
			continue;
		*words = blank ? 2 : 1;
		return &ctl_commands[i];
	}
	return NULL;
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

bool terminal_is_able(void)
{
	const char *term = getenv("TERM");

	return term && *term && strcmp(term, "dumb") != 0;
}

static void measure_terminal(struct ctl *ctl)
{
	const char *no_color = getenv("NO_COLOR");
	struct winsize size;

	ctl->columns = INT_MAX / 2; /* nothing is cut for a program that reads it */
	ctl->terminal = isatty(STDOUT_FILENO);
	if (!ctl->terminal)
		return;
	ctl->color = !(no_color && *no_color) && terminal_is_able();
	ctl->columns = 80;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col)
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

static void unknown_command(int argc, char **argv)
{
	char one[KEY_NAME_MAX], two[KEY_NAME_MAX];
	const char *nearest = NULL;
	size_t least = 3;

	snprintf(one, sizeof one, "%s", argv[0]);
	snprintf(two, sizeof two, "%.18s %.18s", argv[0], argc > 1 ? argv[1] : "");
	for (size_t i = 0; i < ctl_command_count; i++) {
		const char *name = ctl_commands[i].name;
		size_t far = name_distance(strchr(name, ' ') ? two : one, name);

		if (far < least) {
			least = far;
			nearest = name;
		}
	}
	fprintf(stderr, "pkictl: there is no command \"%.60s\"%s%s; see pkictl --help\n", argv[0],
	        nearest ? "; did you mean " : "", nearest ? nearest : "");
}

int ctl_main(int argc, char **argv)
{
	const struct command *command;
	const char *mount = NULL;
	bool help = false;
	int words = 0;

	if (argc > 1 && strcmp(argv[1], "--complete") == 0) {
		complete(argc - 2, argv + 2);
		return EXIT_DONE;
	}
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
		unknown_command(argc, argv);
	return EXIT_WRONG_USAGE;
}
