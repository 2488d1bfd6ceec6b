/*
 * pkifs.conf: the daemon's own settings (table daemon_keys). A value is read by
 * key_value(&daemon_keys, conf, NAME), which knows the defaults.
 */
#ifndef PKIFS_CONF_H
#define PKIFS_CONF_H

#include "common/record.h"

/*
 * Reads the file PATH. With IS_DEFAULT (nobody named it) a missing file is an empty one, and the
 * files conf.d/NAME.conf beside it follow in the order of their names; later wins. `@file:PATH`
 * and `@credential:NAME` (systemd) stand for the first line of that file. Sections, which declare
 * objects, are refused. The caller owns *CONF (record_free). 0, or a negative errno with a
 * sentence that names file and line.
 */
int conf_read(const char *path, bool is_default, struct record **conf, struct error *err);

/* Sets one key by "KEY=VALUE", as -o gives it: wins over the file. 0, -EINVAL, -ENOMEM. */
int conf_set(struct record *conf, const char *assignment, struct error *err);

#endif
