/*
 * What getaddrinfo(3) needs of this machine, for a process that may soon open no other file.
 */
#ifndef PKIFS_RESOLVER_H
#define PKIFS_RESOLVER_H

#include <stdint.h>

/* The files that it reads, NULL behind the last. */
extern const char *const resolver_files[];

/* Another number once one of them has been changed, replaced, made or removed. */
uint64_t resolver_stamp(void);

/* Loads the name services that are asked for hosts: programs that glibc would load when needed. */
void resolver_load(void);

#endif
