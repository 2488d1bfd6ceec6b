/*
 * The program on the disk takes the place of the one that runs. The process stays, and with it
 * its children's parent, the lock on the store, the mount and the memory that outlives a store: to
 * readers it is one more store that died and has a successor.
 *
 * A program that could not go on must find out before it is too late. So it is started once only
 * to try: it reads the same configuration and compares what it would be given (a rehearsal).
 */
#include "pkifs/file.h"
#include "pkifs/notify.h"
#include "pkifs/shared.h"
#include "pkifs/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void handover_layout(char *text, size_t size)
{
	snprintf(text, size, "%d-%zu-%d", SHARED_LAYOUT, sizeof(struct shared), (int)FILES);
}

static bool is_of_place(const char *option)
{
	size_t length = strcspn(option, "=");

	for (size_t i = 0; i < PLACE_SETTINGS; i++)
		if (strlen(place_settings[i]) == length &&
		    strncmp(option, place_settings[i], length) == 0)
			return true;
	return false;
}

/* The arguments of the daemon as it runs, behind two words; NULL: no memory. */
static const char **arguments(const struct supervision *given, const char *how, const char *what)
{
	static char place[PLACE_SETTINGS][PATH_MAX + 32];
	const char **words =
		calloc(((size_t)given->option_count + PLACE_SETTINGS) * 2 + 12, sizeof *words);
	size_t count = 0;

	if (!words)
		return NULL;
	words[count++] = "pkifsd";
	words[count++] = how;
	words[count++] = what;
	if (given->foreground)
		words[count++] = "-f";
	if (given->debug)
		words[count++] = "-d";
	if (!given->conf_is_default) {
		words[count++] = "-c";
		words[count++] = given->conf_path;
	}
	for (int i = 0; i < given->option_count; i++) {
		if (is_of_place(given->options[i]))
			continue;
		words[count++] = "-o";
		words[count++] = given->options[i];
	}
	for (size_t i = 0; i < PLACE_SETTINGS; i++) {
		snprintf(place[i], sizeof place[i], "%s=%s", place_settings[i],
		         setting(given, place_settings[i]));
		words[count++] = "-o";
		words[count++] = place[i];
	}
	return words;
}

static void become(const char *path, const char **words)
{
	if (words)
		execv(path, (char *const *)(const void *)words);
}

int handover_rehearse(const struct supervision *given, struct error *err)
{
	char layout[64];
	const char **words;
	sigset_t none;
	pid_t pid;

	handover_layout(layout, sizeof layout);
	words = arguments(given, REHEARSE, layout);
	pid = words ? fork() : -1;
	if (pid == 0) {
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		signal(SIGUSR2, SIG_IGN);
		become(given->program, words);
		_exit(127);
	}
	free(words);
	return pid < 0 ? error_set(err, -errno, "%s cannot be started: %s", given->program,
	                           strerror(errno))
	               : pid;
}

int handover_become(const struct supervision *given, struct error *err)
{
	const int *kept = given->kept;
	const char **words;
	char numbers[64];
	sigset_t all, before;

	snprintf(numbers, sizeof numbers, "%d,%d,%d,%d", kept[KEPT_FUSE], kept[KEPT_SHARED],
	         kept[KEPT_FOLDER], kept[KEPT_LOCK]);
	words = arguments(given, GO_ON, numbers);
	for (int i = 0; i < KEPT; i++)
		fcntl(kept[i], F_SETFD, 0);
	notify_hand_over();
	sigfillset(&all); /* until the program has its handlers: supervise */
	sigprocmask(SIG_SETMASK, &all, &before);
	become(given->program, words);
	error_set(err, -errno, "%s cannot be started: %s", given->program, strerror(errno));
	sigprocmask(SIG_SETMASK, &before, NULL);
	for (int i = 0; i < KEPT; i++)
		fcntl(kept[i], F_SETFD, FD_CLOEXEC);
	free(words);
	return err->code;
}

int handover_read(const char *numbers, int kept[KEPT])
{
	if (sscanf(numbers, "%d,%d,%d,%d", &kept[KEPT_FUSE], &kept[KEPT_SHARED], &kept[KEPT_FOLDER],
	           &kept[KEPT_LOCK]) != KEPT)
		return -EINVAL;
	for (int i = 0; i < KEPT; i++)
		if (fcntl(kept[i], F_SETFD, FD_CLOEXEC) < 0)
			return -errno;
	return 0;
}
