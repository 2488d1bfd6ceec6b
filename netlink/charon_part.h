/* What the files of engine = charon share. */
#ifndef PKIFS_CHARON_PART_H
#define PKIFS_CHARON_PART_H

#include "netlink/charon.h"
#include "netlink/vici.h"

/* The connection to charon in a namespace. */
struct charon {
	struct charon *following;
	struct space *space;
	struct vici *vici; /* NULL: none */
	char reason[256];  /* why there is none */
	uint64_t next;     /* when it is asked for */
	bool looking;      /* a list-sas is under way */
	bool again;        /* another one is to follow */
	bool looked;       /* what charon has is known */
	bool tokens;       /* it can have keys elsewhere (plugin pkcs11) */
	uint64_t since;    /* of the last look that was whole */
	uint64_t dirty; /* since when its memory has certificates that were read; 0: it has none */
	uint64_t flushed; /* when it forgot the last ones */
};

enum action { ACTION_NONE, ACTION_UP, ACTION_DOWN, ACTION_REKEY };

struct charon_tunnel {
	char name[32];
	struct charon_sas sas, found; /* as of the last look; of the one under way */
	int64_t checked;              /* generation of the frame that `loaded` is known to fit */
	struct record *loaded;        /* the connection that charon has; NULL: none, or unknown */
	bool clean;                   /* charon has nothing of it */
	bool busy;                    /* a command is under way */
	int64_t version;              /* of the certificate to be used */
	int64_t key, asked;           /* of the key that charon has; that the store was asked for */
	char key_id[64], old_key[64]; /* charon's names of it, and of the one before */
	bool childless, told;  /* an IKE SA is to be made first, and then its child; as loaded */
	const char *key_at;    /* "pkifs" or "charon", which then has the key; NULL: neither */
	int64_t handed;        /* of the key that charon gets, for its module has it not */
	unsigned refusals;     /* of the module's */
	uint32_t old_ike;      /* IKE SAs up to this one are of an earlier certificate */
	uint64_t begun, retry; /* an attempt; not before */
	unsigned failures;
	bool triggered;        /* by a packet */
	char why[256];         /* the last attempt failed */
	uint32_t peer_ike;     /* whose peer the store was told of */
	struct record *peers;  /* `peer-id`, `peer`: certificates */
	struct record *listed; /* those of a list-certs under way */
	/* a request */
	int64_t request;
	enum action action;
	uint64_t since;
	bool ended, sent;
	uint32_t spi; /* of the child that is to be rekeyed */
	char failure[256];
};

uint64_t charon_now(void);

/* charon_crl.c: gives CHARON all CRLs. */
void charon_push_crls(const struct charon *charon);
/* Calls EACH for the charons that can be reached. */
void charons_each(void (*each)(const struct charon *charon));

/* charon_link.c: asks charon what it has, and goes on from that. Once a tick: asks for a socket
 * where there is none, looks where something is under way. */
void charon_look(struct charon *charon);
void charon_attend(struct charon *charon);
/* The tunnel of a connection's NAME, as long as the store knows it, or NULL. */
struct tunnel *charon_named(const struct space *space, const char *name);
struct vici *charon_vici(const struct tunnel *tunnel); /* NULL: charon cannot be reached */

/* charon_step.c: does the next thing about TUNNEL, one at a time. */
void charon_step(struct tunnel *tunnel);
/* Charon has SAs that were made with the certificate in use. */
bool charon_has_current(const struct tunnel *tunnel);

/*
 * charon_load.c. A command about TUNNEL, which is `busy` until charon_answered; MESSAGE (NULL: no
 * memory) is freed. False: it could not be sent. For most it is enough to look again behind it.
 */
bool charon_command(struct tunnel *tunnel, const char *name, struct record *message,
                    const char *items, vici_answered *answered);
struct tunnel *charon_answered(int64_t id); /* NULL: the tunnel is gone */
vici_answered charon_looks_again;
struct record *charon_message(const char *key, const char *value);
void charon_terminate(struct tunnel *tunnel, const char *key, const char *value);

/* Whether there is to be a connection in charon. */
bool charon_is_usable(const struct tunnel *tunnel);
/* Towards it. Loaded: true: it is, as it is to be; else it is being loaded. */
void charon_want_key(struct tunnel *tunnel);
/* True: it is where it must not be any more (key-at), and is being taken away. */
bool charon_recalls_key(struct tunnel *tunnel);
bool charon_is_loaded(struct tunnel *tunnel);
/* Away from it, or from a key that nobody needs: true: it is being unloaded. */
void charon_dismantle(struct tunnel *tunnel);
bool charon_unload_key(struct tunnel *tunnel, char id[64]);

/* Why there are no SAs, for users. */
void charon_set_why(struct tunnel *tunnel, const char *why);
/* An attempt failed, OTHERWISE where charon did not say why; a command did, for WHY. */
void charon_fail_attempt(struct tunnel *tunnel, const char *otherwise);
void charon_fail(struct tunnel *tunnel, const char *why);
/* The request under way has ended: FAILURE, or NULL. */
void charon_end_request(struct tunnel *tunnel, const char *failure);

#endif
