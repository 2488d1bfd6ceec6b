#include "common/log.h"
#include "pkifs/keys.h"
#include "pkifs/keytable.h"
#include "pkifs/publish.h"
#include "pkifs/store.h"
#include "pkifs/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_CONF "/etc/pkifs/pkifs.conf"

static void usage(FILE *out)
{
	fputs("usage: pkifsd [-f] [-d] [-c FILE] [-s STORE] [-o KEY=VALUE]... [MOUNTPOINT]\n"
	      "\n"
	      "  -f  stay in the foreground          -c  configuration (" DEFAULT_CONF
	      "): a file,\n"
	      "                                          or a folder with pkifs.conf and conf.d\n"
	      "  -d  log at debug level              -s  the store (/var/lib/pkifs/store.db)\n"
	      "  -o  any key of pkifs.conf           -V  version\n"
	      "\n"
	      "Mounts the store (on /pki) and returns once the mount answers. As an ordinary "
	      "user:\n"
	      "\n"
	      "  mkdir -p ~/pki && pkifsd -s ~/pki.db -o store-key=$HOME/pki.key ~/pki\n",
	      out);
}

/* BEFORE and PATH as it is seen from anywhere, for free; NULL: no memory. */
static char *absolute(const char *before, const char *path)
{
	char folder[4096], *text = NULL;
	bool relative = *path != '/' && getcwd(folder, sizeof folder);

	return asprintf(&text, "%s%s%s%s", before, relative ? folder : "", relative ? "/" : "",
	                path) < 0
	               ? NULL
	               : text;
}

/* 0, or the exit code with a message printed. */
static int read_arguments(int argc, char **argv, struct supervision *given)
{
	int option;

	given->conf_path = strdup(DEFAULT_CONF);
	given->conf_is_default = true;
	given->options = calloc((size_t)argc + 1, sizeof *given->options);
	while (given->options && given->conf_path &&
	       (option = getopt(argc, argv, "fdc:s:o:Vh")) != -1) {
		switch (option) {
		case 'f':
			given->foreground = true;
			break;
		case 'd':
			given->debug = true;
			break;
		case 'c':
			free(given->conf_path);
			given->conf_path = absolute("", optarg);
			given->conf_is_default = false;
			break;
		case 's':
			given->options[given->option_count++] = absolute("store=", optarg);
			break;
		case 'o':
			given->options[given->option_count++] = strdup(optarg);
			break;
		case 'V':
			puts("pkifsd " PKIFS_VERSION);
			exit(0);
		case 'h':
			usage(stdout);
			exit(0);
		default:
			usage(stderr);
			return 2;
		}
	}
	if (!given->options || !given->conf_path || argc - optind > 1) {
		usage(stderr);
		return 2;
	}
	if (optind < argc) {
		size_t length = strlen(argv[optind]);

		while (length > 1 && argv[optind][length - 1] == '/')
			argv[optind][--length] = 0;
		given->options[given->option_count++] = absolute("mount-point=", argv[optind]);
	}
	for (int i = 0; i < given->option_count; i++)
		if (!given->options[i]) {
			perror("pkifsd");
			return 1;
		}
	return 0;
}

/* The parent waits for the mount to answer; the child goes on. 0 in the child. */
static int go_background(struct supervision *given)
{
	char reason[512];
	ssize_t length;
	int fds[2], null;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
		perror("pkifsd");
		exit(1);
	}
	if (pid > 0) {
		close(fds[1]);
		length = read(fds[0], reason, sizeof reason - 1);
		reason[length > 0 ? length : 0] = 0;
		if (strcmp(reason, READY) == 0)
			exit(0);
		fprintf(stderr, "pkifsd: %s\n", *reason ? reason : "the daemon ended");
		exit(1);
	}
	close(fds[0]);
	given->ready_fd = fds[1];
	setsid();
	if (chdir("/") < 0)
		perror("pkifsd");
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0) {
		dup2(null, 0);
		dup2(null, 1);
		close(null);
	}
	return 0;
}

static int run_daemon(int argc, char **argv)
{
	static struct supervision given = { .ready_fd = -1 }; /* libuv holds on to what is in it */
	struct error err = { 0 };
	int r;

	if (argc > 2 && strcmp(argv[1], REHEARSE) == 0)
		given.rehearse = argv[2];
	else if (argc > 2 && strcmp(argv[1], GO_ON) == 0)
		given.goes_on = true;
	if (given.goes_on && handover_read(argv[2], given.kept) < 0)
		return 2;
	if (given.rehearse || given.goes_on) { /* a daemon's arguments follow */
		argv[2] = argv[0];
		argc -= 2;
		argv += 2;
	}
	r = read_arguments(argc, argv, &given);
	if (r)
		goto out;
	/* OPENSSL_CONF could load code into a process of root's, or keep it from starting. */
	OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
	r = settings_read(&given, &given.conf, &err);
	if (r < 0) {
		fprintf(stderr, "pkifsd: %s\n", err.text);
		r = 1;
		goto out;
	}
	if (!given.foreground && !given.rehearse && !given.goes_on)
		go_background(&given);
	r = supervise(&given);
out:
	record_free(given.conf);
	free(given.program);
	for (int i = 0; i < given.option_count; i++)
		free(given.options[i]);
	free(given.options);
	free(given.conf_path);
	return r;
}

int main(int argc, char **argv)
{
	/* The supervisor starts its children from this same program. */
	if (argc == 2 && strcmp(argv[1], "--store") == 0)
		return store_main(3, 4, 5, 6);
	if (argc >= 2 && strcmp(argv[1], "--keys") == 0)
		return keys_main(3, argc == 2 ? 4 : -1);
	if (argc == 3 && strcmp(argv[1], "--publisher") == 0)
		return publisher_main(3, argv[2]);
	return run_daemon(argc, argv);
}
