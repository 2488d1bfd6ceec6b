/*
 * Tunnels in the kernel. Each is told whole (frame `tunnel`): its traffic, its SAs, whether it may
 * be used. What the kernel has is made so, whatever it was before; so the same way serves a new
 * SA, a tunnel that is cut, and all of them after a restart.
 *
 * What is ours is known by its numbers: SAs by reqid, policies by index, both in a range that the
 * store keeps. Nothing else in the kernel is ever changed.
 */
#ifndef PKIFS_TUNNEL_KERNEL_H
#define PKIFS_TUNNEL_KERNEL_H

#include "common/record.h"
#include "netlink/xfrm.h"

#include <uv.h>

/*
 * Of the range: tunnels by their number, policies by a counter. Where a packet is to have SAs made,
 * its policy has a reqid from the second half, which no SA ever has.
 */
#define RANGE_BITS 22
#define RANGE_SIZE (1u << RANGE_BITS)
#define RANGE_TRAP (RANGE_SIZE / 2)

struct sa_pair {
	uint32_t in, out; /* SPIs; 0: there is none */
};

/* What the kernel has of a tunnel, or is to have. */
struct known {
	struct tunnel *tunnel; /* NULL: none that we were told of */
	bool fresh;            /* the kernel is just being given it */
	bool refused;          /* and did not take it */
};
struct known_sa {
	struct known is; /* the first: what xfrm_failed is told ABOUT */
	struct sa sa;
};
struct known_policy {
	struct known is;
	struct policy policy;
};

/* Of an IKE daemon's SAs: a pair, the IKE SA that made it, the certificate's version by which. */
#define CHILDREN    16
#define CHARON_IKES 8
struct child {
	struct sa_pair spis;
	uint32_t ike;
	int64_t version;
	bool gone;      /* the daemon does not know it any more */
	uint64_t since; /* when it was seen first */
};

/* What is to be with a tunnel whose SAs are negotiated. */
enum wish {
	WISH_DOWN,
	WISH_PASSIVE, /* the peer may begin */
	WISH_TRAP,    /* the first packet may, too */
	WISH_UP,
};

struct charon;
struct charon_tunnel;

#define OLD_PAIRS 8
struct tunnel {
	int64_t id, generation;
	struct space *space;
	struct record *settings; /* the frame */
	int family;              /* of its ends; 0: they are not known */
	xfrm_address_t local, remote;
	uint8_t mode;
	struct xfrm_mark mark; /* of what goes out */
	uint32_t if_id;
	struct sa_pair current, next, old[OLD_PAIRS];
	bool fail_closed, up;
	bool external; /* others make its SAs and policies: they are watched, and cut */
	struct charon_tunnel *charon; /* charon makes its SAs; NULL: it does not */
	enum wish wish;
	struct child children[CHILDREN]; /* charon's SAs */
	size_t child_count;
	uint32_t out;   /* SPI of the one that what goes out takes; 0: whichever the kernel takes */
	bool approved;  /* the store believes the peer that they lead to */
	int64_t asking; /* how often it was asked */
	char cut[400];  /* why it may not be used; empty: it may */
	struct error failure;
	unsigned changes; /* made by the last space_apply */
	bool due, asked;  /* to be applied; a frame was about it since */
	const char *told; /* the state that the store was told last */
	struct known_sa *sas;
	size_t sa_count;
	struct known_policy *policies;
	size_t policy_count;
	struct known_policy *wanted; /* meanwhile: what is to be in their place */
	size_t wanted_count;
	bool planned; /* they are known */
};

/* A network namespace. */
struct space {
	struct space *following;
	char name[65];
	struct xfrm *xfrm; /* NULL: not opened yet */
	int monitor;
	uv_poll_t *poll;       /* of the monitor */
	int64_t inode;         /* tells it from others of the name; 0: not known */
	char reason[256];      /* why it cannot be opened */
	struct charon *charon; /* the connection to it; NULL: none was needed yet */
	bool hashed;           /* its policies are found by hash */
	bool stale;            /* the kernel may have something else than we know */
	/* what is ours in the kernel, and was not claimed by a tunnel (yet) */
	struct known_sa *sas;
	size_t sa_count;
	struct known_policy *policies; /* sorted */
	size_t policy_count;
	uint32_t range, last_policy; /* the counter that the last policy's index has */
};

/* tunnel.c. RECORD becomes the tunnel's: what it says is read into it. 0, or a negative errno with
 * its failure set. */
int tunnel_read(struct tunnel *tunnel, struct record *record);
void tunnel_clear(struct tunnel *tunnel);
/* It may not be used any more, for REASON, and has no SAs. */
void tunnel_cut(struct tunnel *tunnel, const char *reason);

/*
 * The policies that TUNNEL is to have, UP or not; the caller frees *POLICIES. 0 or -ENOMEM. An
 * external one has those that block in two halves, since the kernel has one policy at most for a
 * selector, and that one is the others': behind theirs while it is trusted, before them when it is
 * cut.
 */
int tunnel_policies(const struct tunnel *tunnel, bool up, struct known_policy **policies,
                    size_t *count);

uint32_t tunnel_reqid(const struct tunnel *tunnel);

/* SPI's SA, as the settings have it: IN or out; its keys where they are told. */
void tunnel_sa(const struct tunnel *tunnel, uint32_t spi, bool in, struct sa *sa);
/* The keys of the SAs that are to be loaded are told, and are those of PAIR. */
bool tunnel_has_keys(const struct tunnel *tunnel, const struct sa_pair *pair);

/* The same selector, direction, mark and if_id: the kernel has one of them at most. */
int policy_compare(const void *one, const void *other);

/*
 * kernel.c. Makes the kernel what the COUNT of TUNNELS, all in SPACE, say, in as few messages as
 * can be; their `up`, `changes` and `failure` say what came of it.
 */
void space_apply(struct space *space, struct tunnel *const *tunnels, size_t count);
/* Takes all that is TUNNEL's out of the kernel. */
void tunnel_remove(struct tunnel *tunnel);
/* Others added an SA of TUNNEL's, or took it away. */
void tunnel_saw(struct tunnel *tunnel, const struct sa *sa, bool gone);

/*
 * children.c: the SAs that an IKE daemon makes for a tunnel. Up: whether the policies may lead to
 * them; where they lead is taken from them. Want: whether SA is to stay.
 */
bool children_are_up(struct tunnel *tunnel);
bool children_want(const struct tunnel *tunnel, const struct sa *sa);
/* The kernel has both SAs of CHILD. */
bool tunnel_has_child(const struct tunnel *tunnel, const struct child *child);

/*
 * Asks the kernel what it has of ours, and lets FIND say whose it is: SAs go to their tunnels,
 * policies wait to be claimed by space_apply. space_sweep deletes what nobody claimed.
 */
int space_read(struct space *space,
               struct tunnel *(*find)(const struct space *space, const struct sa *sa));
void space_sweep(struct space *space);
bool space_is_ours(const struct space *space, uint32_t number);
/* Whether SA runs between the ends of TUNNEL, in either direction. */
bool tunnel_has_ends(const struct tunnel *tunnel, const struct sa *sa);
/* Whether EVENT is of ours and not by us: the kernel is to be read again. */
bool space_is_touched(const struct space *space, const struct xfrm_event *event);
/* For xfrm_open. */
xfrm_failed space_failed;

#endif
