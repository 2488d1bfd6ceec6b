/* The daemon's settings: from the files and the command line, with what only root can know. */
#include "pkifs/conf.h"
#include "pkifs/keytable.h"
#include "pkifs/supervisor.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *setting(const struct supervision *given, const char *name)
{
	return key_value(&daemon_keys, given->conf, name);
}

bool is_separated(const struct supervision *given)
{
	return record_is(given->conf, "privilege-separation", "yes");
}

/* The device's serial number, which only root may read. */
static void add_serial(struct record *conf)
{
	const char *given = key_value(&daemon_keys, conf, "device-serial");
	char text[65] = "";
	ssize_t length = 0;
	int fd;

	if (strcmp(given, "auto") != 0) {
		record_set(conf, "serial-number", given);
		return;
	}
	fd = open("/sys/class/dmi/id/product_serial", O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		length = read(fd, text, sizeof text - 1);
		close(fd);
	}
	while (length > 0 && isspace((unsigned char)text[length - 1]))
		text[--length] = 0;
	if (length > 0)
		record_set(conf, "serial-number", text);
}

/* systemd has connected our standard error to its journal. */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat file;

	return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
	       fstat(2, &file) == 0 && file.st_dev == device && file.st_ino == inode;
}

const char *const place_settings[PLACE_SETTINGS] = { "mount-point", "store",
	                                             "store-key",   "user",
	                                             "worker-user", "privilege-separation" };

/* What CONF says about these counts at the next start: all processes have to agree. */
static void keep_place(const struct supervision *given, struct record *conf)
{
	for (size_t i = 0; i < PLACE_SETTINGS; i++)
		record_set(conf, place_settings[i], setting(given, place_settings[i]));
}

/* The settings of READ with their defaults, and what the store is told besides. */
static int complete(const struct supervision *given, const struct record *read,
                    struct record **conf)
{
	bool root = geteuid() == 0;

	*conf = key_effective(&daemon_keys, read);
	if (!*conf)
		return -ENOMEM;
	if (!record_get(*conf, "privilege-separation"))
		record_add(*conf, "privilege-separation", root ? "yes" : "no");
	if (!record_get(*conf, "allow-other"))
		record_add(*conf, "allow-other", root ? "yes" : "no");
	if (!record_get(*conf, "log"))
		record_add(*conf, "log",
		           stderr_is_journal() ? "journal"
		           : given->foreground ? "stderr"
		                               : "syslog");
	if (given->debug)
		record_set(*conf, "log-level", "debug");
	if (!root)
		record_set(*conf, "privilege-separation", "no");
	record_add(*conf, "frame", "conf");
	record_add_number(*conf, "owner-uid", geteuid());
	record_add_number(*conf, "owner-gid", getegid());
	add_serial(*conf);
	if (given->conf)
		keep_place(given, *conf);
	return record_failed(*conf) ? -ENOMEM : 0;
}

int settings_read(const struct supervision *given, struct record **conf, struct error *err)
{
	struct record *read = NULL, *new = NULL;
	int r = conf_read(given->conf_path, given->conf_is_default, &read, err);

	for (int i = 0; r == 0 && i < given->option_count; i++)
		r = conf_set(read, given->options[i], err);
	if (r == 0 && complete(given, read, &new) < 0)
		r = error_set(err, -ENOMEM, "out of memory");
	record_free(read);
	if (r < 0)
		record_free(new);
	else
		*conf = new;
	return r;
}
