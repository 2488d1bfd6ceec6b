/*
 * The kernel's XFRM tables over netlink: SAs and policies, and what happens to them. libnl builds
 * and takes apart messages; they go to the kernel in batches, since an answer for each of them is
 * what takes the time.
 *
 * The fixed parts are the kernel's own structs (linux/xfrm.h): addresses and SPIs in network order.
 */
#ifndef PKIFS_XFRM_H
#define PKIFS_XFRM_H

#include "common/error.h"
#include "common/proposal.h"

#include <linux/netlink.h>
#include <linux/xfrm.h>
#include <stdint.h>
#include <sys/types.h>

struct xfrm;
struct nl_msg;

#define SA_KEY_MAX 100 /* of the largest cipher and the largest integrity */

struct sa {
	/* saddr, id (daddr, spi, proto), sel, lft, curlft, reqid, family, mode, flags and, up to
	 * 32 packets, replay_window */
	struct xfrm_usersa_info info;
	struct proposal proposal;      /* AEAD, or cipher and integrity; `esn` counts too */
	unsigned char key[SA_KEY_MAX]; /* as many bytes as proposal_key_size says */
	uint32_t replay_window;        /* packets; 0: info.replay_window is meant */
	struct xfrm_mark mark;
	struct xfrm_mark output_mark; /* put on what goes out: m 0: none */
	uint32_t if_id;
	struct xfrm_encap_tmpl encap;     /* UDP encapsulation: type 0: none */
	struct xfrm_user_offload offload; /* ifindex 0: not asked for */
};

struct policy {
	struct xfrm_userpolicy_info info; /* sel, lft, priority, index, dir, action */
	struct xfrm_user_tmpl template;   /* id.proto 0: none */
	struct xfrm_mark mark;
	uint32_t if_id;
};

/* Neither time nor bytes nor packets end what has these. */
void lifetime_endless(struct xfrm_lifetime_cfg *lifetime);

/*
 * xfrm.c. Takes over FD, a NETLINK_XFRM socket (of whichever network namespace). FAILED hears of
 * each message that the kernel does not take, with what was given as ABOUT; it may queue nothing.
 * NULL: no memory.
 */
typedef void xfrm_failed(void *about, const struct error *err, void *user);
struct xfrm *xfrm_open(int fd, xfrm_failed *failed, void *user);
void xfrm_close(struct xfrm *xfrm);

/*
 * Queue a message; a full batch is sent by itself, xfrm_flush sends the rest. 0, or the negative
 * errno of what befell the whole batch: -ENOBUFS and -ETIMEDOUT leave it open what the kernel did,
 * and only a dump tells. What the kernel does not take of a batch (FAILED) is no error of it.
 */
int xfrm_sa_add(struct xfrm *xfrm, const struct sa *sa, bool update, void *about);
int xfrm_sa_delete(struct xfrm *xfrm, const struct sa *sa, void *about);
/* UPDATE: one with the same selector, mark and if_id is replaced, in one step. */
int xfrm_policy_add(struct xfrm *xfrm, const struct policy *policy, bool update, void *about);
/* That with the index of POLICY; where it is 0, that with its selector, mark and if_id. */
int xfrm_policy_delete(struct xfrm *xfrm, const struct policy *policy, void *about);
/* Policies whose prefixes are no shorter than this are found by hash, not by search. */
int xfrm_policy_hash(struct xfrm *xfrm, unsigned char v4_bits, unsigned char v6_bits, void *about);
int xfrm_flush(struct xfrm *xfrm);
/* The netlink number that what we change is told of under (struct xfrm_event, origin). */
uint32_t xfrm_port(const struct xfrm *xfrm);

/*
 * Call EACH for all that the kernel has; keys are left out. What was queued goes first. A dump that
 * the kernel says was overtaken by a change is begun again, after AGAIN (may be NULL).
 */
int xfrm_sa_dump(struct xfrm *xfrm, void (*each)(const struct sa *sa, void *user),
                 void (*again)(void *user), void *user);
int xfrm_policy_dump(struct xfrm *xfrm, void (*each)(const struct policy *policy, void *user),
                     void (*again)(void *user), void *user);

/* Deletes all SAs and policies that have MARK, which must not be empty. */
int xfrm_flush_mark(struct xfrm *xfrm, struct xfrm_mark mark);

/* What the kernel tells. */
enum xfrm_event_kind {
	XFRM_EVENT_ACQUIRE,  /* traffic of POLICY waits for an SA: TEMPLATE says which */
	XFRM_EVENT_EXPIRE,   /* HARD: it is gone */
	XFRM_EVENT_SA,       /* added or changed */
	XFRM_EVENT_SA_GONE,  /* sa.info: what the message has of it */
	XFRM_EVENT_SA_FLUSH, /* all of them */
	XFRM_EVENT_POLICY,   /* added or changed */
	XFRM_EVENT_POLICY_GONE,
	XFRM_EVENT_POLICY_FLUSH,
	XFRM_EVENT_MAPPING, /* the peer's address or port behind NAT: FROM, FROM_PORT */
	XFRM_EVENT_LOST,    /* there was more than the socket could hold: only a dump tells */
};
struct xfrm_event {
	enum xfrm_event_kind kind;
	uint32_t origin; /* netlink number of who caused it; 0: the kernel itself */
	bool hard;
	struct sa sa;
	struct policy policy;
	xfrm_address_t from;
	uint16_t from_port; /* network order */
};

/* Joins FD, a NETLINK_XFRM socket, to what is told. 0 or a negative errno. */
int xfrm_listen(int fd);
/* What PORT caused is not told any more: it fills no buffer. 0 or a negative errno. */
int xfrm_ignore(int fd, uint32_t port);
/* Reads what there is, without waiting. 0, or a negative errno: the socket is of no use any more.
 */
int xfrm_events(int fd, void (*each)(const struct xfrm_event *event, void *user), void *user);

/*
 * xfrm_message.c: messages alone. Encoding: the caller's (nlmsg_free), NULL: no memory. Decoding:
 * of a message that is LENGTH bytes in all; 0, -EBADMSG, or -ENOMSG where it is of no kind that
 * counts here.
 */
struct nl_msg *xfrm_encode_sa(const struct sa *sa, bool update);
struct nl_msg *xfrm_encode_sa_delete(const struct sa *sa);
struct nl_msg *xfrm_encode_policy(const struct policy *policy, bool update);
struct nl_msg *xfrm_encode_policy_delete(const struct policy *policy);
struct nl_msg *xfrm_encode_hash(unsigned char v4_bits, unsigned char v6_bits);
int xfrm_decode(struct nlmsghdr *message, struct xfrm_event *event);

#endif
