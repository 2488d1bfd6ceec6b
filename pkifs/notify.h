/*
 * What systemd is told: sd_notify(3)'s protocol, which is one datagram a message and promised to
 * stay. libsystemd would bring four compression libraries and libgcrypt into a process of root's.
 */
#ifndef PKIFS_NOTIFY_H
#define PKIFS_NOTIFY_H

#include <stdint.h>

/* Takes the socket's name and the watchdog's out of the environment: they are for us alone. */
void notify_open(void);

/* Puts them back, for a program that goes on in this process. */
void notify_hand_over(void);

/* Sends assignments, one a line; nothing where nobody asked for them. */
__attribute__((format(printf, 1, 2))) void notify(const char *format, ...);

/* RELOADING=1 with its time; READY=1 ends it. */
void notify_reloading(const char *status);

/* How often WATCHDOG=1 is to be sent, in milliseconds; 0: never. */
uint64_t notify_beat(void);

#endif
