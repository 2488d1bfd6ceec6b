/*
 * The log: one line a message, to stderr, syslog or the journal. Control characters become `?`.
 */
#ifndef PKIFS_LOG_H
#define PKIFS_LOG_H

#include <stdbool.h>
#include <syslog.h>

/* Opens the log under the name of a part ("store"); TARGET is `stderr`, `syslog` or `journal`. */
void log_open(const char *part, const char *target, int level);

/* LEVEL is syslog's: LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO, LOG_DEBUG. errno is kept. */
__attribute__((format(printf, 2, 3))) void log_write(int level, const char *format, ...);

#define log_error(...)   log_write(LOG_ERR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_WARNING, __VA_ARGS__)
#define log_info(...)    log_write(LOG_INFO, __VA_ARGS__)
#define log_debug(...)   log_write(LOG_DEBUG, __VA_ARGS__)

/* "error" … "debug" to syslog's number, or -1. */
int log_level(const char *name);

/* The name of a syslog level. */
const char *log_level_name(int level);

#endif
