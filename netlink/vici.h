/*
 * VICI, the protocol by which strongSwan's daemon charon is driven (its README.md): packets with a
 * message in each. A message is a record here: a value within sections has their names before its
 * own, with dots ("net.child-sas.net-1.spi-in"), and the items of a list have the list's name with
 * "[]" behind it. What charon sends is not trusted.
 */
#ifndef PKIFS_VICI_H
#define PKIFS_VICI_H

#include "common/record.h"

#include <uv.h>

#define VICI_PACKET_MAX (512u << 10) /* charon's own limit */
#define VICI_VALUE_MAX  65535u       /* bytes of one value */
#define VICI_NAME_MAX   256          /* of a command or event, with its NUL */

enum vici_packet {
	VICI_REQUEST,
	VICI_RESPONSE,
	VICI_NO_COMMAND,
	VICI_REGISTER,
	VICI_UNREGISTER,
	VICI_CONFIRMED,
	VICI_NO_EVENT,
	VICI_EVENT,
};

/*
 * vici_message.c. Encode: a packet with its length before it; NAME and MESSAGE are NULL where the
 * packet has none; *BYTES is the caller's (OPENSSL_clear_free). 0, -EMSGSIZE where it is too large,
 * -ENOMEM. Decode: a packet without its length; NAME is "" where it has none; the caller owns
 * *MESSAGE, NULL where it has none. 0, -EBADMSG, -ENOMEM.
 */
int vici_encode(enum vici_packet type, const char *name, const struct record *message,
                unsigned char **bytes, size_t *length);
int vici_decode(const unsigned char *bytes, size_t length, enum vici_packet *type,
                char name[VICI_NAME_MAX], struct record **message);

/*
 * vici.c: a connection to charon on a loop. One command at a time is under way, the others wait;
 * one that is not answered within two seconds ends the connection.
 */
struct vici;

/* An event that was registered for, and that no command asked for. */
typedef void vici_event(struct vici *vici, const char *name, const struct record *message,
                        void *user);
/* The connection has ended, for the reason ERR; vici_close may be called inside, and must be. */
typedef void vici_gone(struct vici *vici, const struct error *err, void *user);
/*
 * What came of a command, for whoever gave ABOUT: first each item of the list that it asked for
 * (ITEM), then, once, with ITEM NULL, the answer; ERR says why charon refuses it, or NULL. Not
 * called any more when the connection ends.
 */
typedef void vici_answered(struct vici *vici, int64_t about, const struct record *item,
                           const struct record *answer, const struct error *err, void *user);

/* Takes over FD, a connected socket. NULL: no memory, and FD is still the caller's. */
struct vici *vici_open(uv_loop_t *loop, int fd, vici_event *event, vici_gone *gone, void *user);
/* Takes NULL. No call comes after it. */
void vici_close(struct vici *vici);

/* From now on EVENT is told. 0 or a negative errno. */
int vici_register(struct vici *vici, const char *event);
/*
 * Sends COMMAND with MESSAGE (may be NULL; cleansed where it was copied). ITEMS: the event by which
 * charon sends a list, which must be registered for, or NULL. ANSWERED may be NULL. 0 or a negative
 * errno: then nothing was sent.
 */
int vici_call(struct vici *vici, const char *command, const struct record *message,
              const char *items, vici_answered *answered, int64_t about);

#endif
