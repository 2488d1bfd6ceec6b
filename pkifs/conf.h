/*
 * pkifs.conf: the daemon's own settings (table daemon_keys), and after them sections that declare
 * objects. A setting is read by key_value(&daemon_keys, conf, NAME), which knows the defaults.
 */
#ifndef PKIFS_CONF_H
#define PKIFS_CONF_H

#include "common/record.h"

/*
 * Fields of the record that are no settings. CONF_KIND, CONF_NAME and CONF_KEYS, one behind the
 * other (and repeated): a section, its keys as a config text; each object once. CONF_WARNING
 * (repeats): a sentence for the log.
 */
#define CONF_KIND    "declared-kind"
#define CONF_NAME    "declared-name"
#define CONF_KEYS    "declared-keys"
#define CONF_WARNING "warning"

/* The kind of a section of defaults, whose name is the protocol's. */
#define CONF_DEFAULTS "auto-re-enrollment"

/*
 * Reads the file PATH. With IS_DEFAULT (nobody named it) a missing one is empty, and the files
 * conf.d/NAME.conf beside it follow in the order of their names; a folder PATH is read as that of
 * the default file. Later wins, and adds to a key that may repeat. `@file:PATH` and
 * `@credential:NAME` (systemd) stand for the first line of that file. The caller owns *CONF
 * (record_free). 0, or a negative errno with a sentence that names file and line.
 */
int conf_read(const char *path, bool is_default, struct record **conf, struct error *err);

/* Sets one key by "KEY=VALUE", as -o gives it: wins over the file. 0, -EINVAL, -ENOMEM. */
int conf_set(struct record *conf, const char *assignment, struct error *err);

#endif
