/* XFRM messages: from structs to bytes, and from bytes that nobody vouches for to structs. */
#include "netlink/xfrm.h"

#include <errno.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <openssl/crypto.h>
#include <string.h>

#define MESSAGE_MAX 1024 /* bytes of any message of ours */

void lifetime_endless(struct xfrm_lifetime_cfg *lifetime)
{
	*lifetime = (struct xfrm_lifetime_cfg){ .soft_byte_limit = XFRM_INF,
		                                .hard_byte_limit = XFRM_INF,
		                                .soft_packet_limit = XFRM_INF,
		                                .hard_packet_limit = XFRM_INF };
}

static struct nl_msg *begin(int type, int flags, const void *fixed, size_t size)
{
	struct nl_msg *message = nlmsg_alloc_size(MESSAGE_MAX);

	if (!message)
		return NULL;
	if (!nlmsg_put(message, 0, 0, type, 0, NLM_F_REQUEST | flags) ||
	    nlmsg_append(message, (void *)(uintptr_t)fixed, size, NLMSG_ALIGNTO) < 0) {
		nlmsg_free(message);
		return NULL;
	}
	return message;
}

/* Ends a message whose last attribute gave R. */
static struct nl_msg *end(struct nl_msg *message, int r)
{
	if (r < 0) {
		nlmsg_free(message);
		return NULL;
	}
	return message;
}

/* An algorithm with its key behind it: all three kinds have name and bits of the key first. */
static int put_algorithm(struct nl_msg *message, const struct transform *transform,
                         const unsigned char *key)
{
	union {
		struct xfrm_algo cipher;
		struct xfrm_algo_auth integrity;
		struct xfrm_algo_aead aead;
		unsigned char bytes[sizeof(struct xfrm_algo_aead) + SA_KEY_MAX];
	} all = { 0 };
	int type = XFRMA_ALG_CRYPT, r;
	size_t size = sizeof all.cipher;

	strncpy(all.cipher.alg_name, transform->kernel, sizeof all.cipher.alg_name - 1);
	all.cipher.alg_key_len = transform->key_size * 8;
	if (transform->kind == TRANSFORM_INTEGRITY) {
		type = XFRMA_ALG_AUTH_TRUNC;
		size = sizeof all.integrity;
		all.integrity.alg_trunc_len = transform->icv_bits;
	} else if (transform->kind == TRANSFORM_AEAD) {
		type = XFRMA_ALG_AEAD;
		size = sizeof all.aead;
		all.aead.alg_icv_len = transform->icv_bits;
	}
	memcpy(all.bytes + size, key, transform->key_size);
	r = nla_put(message, type, (int)(size + transform->key_size), &all);
	OPENSSL_cleanse(&all, sizeof all);
	return r;
}

static int put_algorithms(struct nl_msg *message, const struct sa *sa)
{
	const unsigned char *key = sa->key;
	int r = 0;

	for (size_t kind = TRANSFORM_AEAD; r == 0 && kind <= TRANSFORM_INTEGRITY; kind++) {
		const struct transform *transform = sa->proposal.transforms[kind];

		if (!transform)
			continue;
		r = put_algorithm(message, transform, key);
		key += transform->key_size;
	}
	return r;
}

#define WINDOW_MAX 4096 /* packets: the kernel's */
#define WINDOW_ESN 32   /* the kernel wants one with 64-bit numbers, in either direction */

static bool has_esn(const struct sa *sa)
{
	const struct transform *esn = sa->proposal.transforms[TRANSFORM_ESN];

	return esn && strcmp(esn->name, "esn") == 0;
}

static uint32_t window_of(const struct sa *sa)
{
	uint32_t window = sa->replay_window ? sa->replay_window : sa->info.replay_window;

	return window || !has_esn(sa) ? window : WINDOW_ESN;
}

/* A window above 32 packets, and 64-bit numbers, have a bitmap of their own. */
static int put_replay(struct nl_msg *message, const struct sa *sa)
{
	uint32_t window = window_of(sa);
	size_t words = (window + 31) / 32;
	union {
		struct xfrm_replay_state_esn state;
		unsigned char bytes[sizeof(struct xfrm_replay_state_esn) + WINDOW_MAX / 8];
	} replay = { .bytes = { 0 } };

	if (!has_esn(sa) && window <= 32)
		return 0;
	if (window > WINDOW_MAX)
		return -EINVAL;
	replay.state.bmp_len = (uint32_t)words;
	replay.state.replay_window = window;
	return nla_put(message, XFRMA_REPLAY_ESN_VAL,
	               (int)(sizeof replay.state + words * sizeof(uint32_t)), &replay);
}

static int put_mark(struct nl_msg *message, const struct xfrm_mark *mark, uint32_t if_id)
{
	int r = 0;

	if (mark->m)
		r = nla_put(message, XFRMA_MARK, sizeof *mark, mark);
	return r == 0 && if_id ? nla_put_u32(message, XFRMA_IF_ID, if_id) : r;
}

struct nl_msg *xfrm_encode_sa(const struct sa *sa, bool update)
{
	struct xfrm_usersa_info info = sa->info;
	uint32_t window = window_of(sa);
	struct nl_msg *message;
	int r;

	if (has_esn(sa))
		info.flags |= XFRM_STATE_ESN;
	info.replay_window = (uint8_t)(window <= 32 && !has_esn(sa) ? window : 0);
	message = begin(update ? XFRM_MSG_UPDSA : XFRM_MSG_NEWSA,
	                NLM_F_CREATE | (update ? NLM_F_REPLACE : NLM_F_EXCL), &info, sizeof info);
	if (!message)
		return NULL;
	r = put_algorithms(message, sa);
	if (r == 0)
		r = put_replay(message, sa);
	if (r == 0)
		r = put_mark(message, &sa->mark, sa->if_id);
	if (r == 0 && sa->encap.encap_type)
		r = nla_put(message, XFRMA_ENCAP, sizeof sa->encap, &sa->encap);
	if (r == 0 && sa->offload.ifindex)
		r = nla_put(message, XFRMA_OFFLOAD_DEV, sizeof sa->offload, &sa->offload);
	if (r == 0 && sa->output_mark.m) {
		r = nla_put_u32(message, XFRMA_SET_MARK, sa->output_mark.v);
		if (r == 0)
			r = nla_put_u32(message, XFRMA_SET_MARK_MASK, sa->output_mark.m);
	}
	return end(message, r);
}

struct nl_msg *xfrm_encode_sa_delete(const struct sa *sa)
{
	struct xfrm_usersa_id id = { .daddr = sa->info.id.daddr,
		                     .spi = sa->info.id.spi,
		                     .family = sa->info.family,
		                     .proto = sa->info.id.proto };
	struct nl_msg *message = begin(XFRM_MSG_DELSA, 0, &id, sizeof id);

	return message ? end(message, put_mark(message, &sa->mark, 0)) : NULL;
}

struct nl_msg *xfrm_encode_policy(const struct policy *policy, bool update)
{
	struct nl_msg *message = begin(update ? XFRM_MSG_UPDPOLICY : XFRM_MSG_NEWPOLICY,
	                               NLM_F_CREATE | (update ? NLM_F_REPLACE : NLM_F_EXCL),
	                               &policy->info, sizeof policy->info);
	int r = 0;

	if (!message)
		return NULL;
	if (policy->template.id.proto)
		r = nla_put(message, XFRMA_TMPL, sizeof policy->template, &policy->template);
	if (r == 0)
		r = put_mark(message, &policy->mark, policy->if_id);
	return end(message, r);
}

struct nl_msg *xfrm_encode_policy_delete(const struct policy *policy)
{
	struct xfrm_userpolicy_id id = { .sel = policy->info.sel,
		                         .index = policy->info.index,
		                         .dir = policy->info.dir };
	struct nl_msg *message = begin(XFRM_MSG_DELPOLICY, 0, &id, sizeof id);

	return message ? end(message, put_mark(message, &policy->mark, policy->if_id)) : NULL;
}

struct nl_msg *xfrm_encode_hash(unsigned char v4_bits, unsigned char v6_bits)
{
	struct xfrmu_spdhthresh v4 = { .lbits = v4_bits, .rbits = v4_bits };
	struct xfrmu_spdhthresh v6 = { .lbits = v6_bits, .rbits = v6_bits };
	uint32_t flags = 0;
	struct nl_msg *message = begin(XFRM_MSG_NEWSPDINFO, 0, &flags, sizeof flags);
	int r;

	if (!message)
		return NULL;
	r = nla_put(message, XFRMA_SPD_IPV4_HTHRESH, sizeof v4, &v4);
	if (r == 0)
		r = nla_put(message, XFRMA_SPD_IPV6_HTHRESH, sizeof v6, &v6);
	return end(message, r);
}

/* Copies the attribute TYPE of SIZE bytes; false where it is not there or shorter. */
static bool get(struct nlattr **attributes, int type, void *to, size_t size)
{
	const struct nlattr *attribute = attributes[type];

	if (!attribute || nla_len(attribute) < (int)size)
		return false;
	memcpy(to, nla_data(attribute), size);
	return true;
}

/* Marks, encapsulation and what else stands beside the fixed part of an SA; no keys. */
static void decode_sa_attributes(struct nlattr **attributes, struct sa *sa)
{
	struct xfrm_replay_state_esn replay;

	get(attributes, XFRMA_MARK, &sa->mark, sizeof sa->mark);
	get(attributes, XFRMA_IF_ID, &sa->if_id, sizeof sa->if_id);
	get(attributes, XFRMA_ENCAP, &sa->encap, sizeof sa->encap);
	get(attributes, XFRMA_OFFLOAD_DEV, &sa->offload, sizeof sa->offload);
	if (get(attributes, XFRMA_SET_MARK, &sa->output_mark.v, sizeof sa->output_mark.v) &&
	    !get(attributes, XFRMA_SET_MARK_MASK, &sa->output_mark.m, sizeof sa->output_mark.m))
		sa->output_mark.m = UINT32_MAX;
	if (get(attributes, XFRMA_REPLAY_ESN_VAL, &replay, sizeof replay))
		sa->replay_window = replay.replay_window;
}

static void decode_policy_attributes(struct nlattr **attributes, struct policy *policy)
{
	get(attributes, XFRMA_TMPL, &policy->template, sizeof policy->template);
	get(attributes, XFRMA_MARK, &policy->mark, sizeof policy->mark);
	get(attributes, XFRMA_IF_ID, &policy->if_id, sizeof policy->if_id);
}

static int decode_acquire(const void *fixed, struct nlattr **attributes, struct xfrm_event *event)
{
	const struct xfrm_user_acquire *acquire = fixed;

	event->kind = XFRM_EVENT_ACQUIRE;
	event->policy.info = acquire->policy;
	event->sa.info.saddr = acquire->saddr;
	event->sa.info.id = acquire->id;
	event->sa.info.sel = acquire->sel;
	event->sa.info.seq = acquire->seq;
	decode_policy_attributes(attributes, &event->policy);
	return 0;
}

static int decode_expire(const void *fixed, struct nlattr **attributes, struct xfrm_event *event)
{
	const struct xfrm_user_expire *expire = fixed;

	event->kind = XFRM_EVENT_EXPIRE;
	event->hard = expire->hard;
	event->sa.info = expire->state;
	decode_sa_attributes(attributes, &event->sa);
	return 0;
}

static int decode_sa(const void *fixed, struct nlattr **attributes, struct xfrm_event *event)
{
	event->kind = XFRM_EVENT_SA;
	memcpy(&event->sa.info, fixed, sizeof event->sa.info);
	decode_sa_attributes(attributes, &event->sa);
	return 0;
}

static int decode_sa_gone(const void *fixed, struct nlattr **attributes, struct xfrm_event *event)
{
	const struct xfrm_usersa_id *id = fixed;

	event->kind = XFRM_EVENT_SA_GONE;
	if (!get(attributes, XFRMA_SA, &event->sa.info, sizeof event->sa.info)) {
		event->sa.info.id.daddr = id->daddr;
		event->sa.info.id.spi = id->spi;
		event->sa.info.id.proto = id->proto;
		event->sa.info.family = id->family;
	}
	decode_sa_attributes(attributes, &event->sa);
	return 0;
}

static int decode_policy(const void *fixed, struct nlattr **attributes, struct xfrm_event *event)
{
	event->kind = XFRM_EVENT_POLICY;
	memcpy(&event->policy.info, fixed, sizeof event->policy.info);
	decode_policy_attributes(attributes, &event->policy);
	return 0;
}

static int decode_policy_gone(const void *fixed, struct nlattr **attributes,
                              struct xfrm_event *event)
{
	const struct xfrm_userpolicy_id *id = fixed;

	event->kind = XFRM_EVENT_POLICY_GONE;
	if (!get(attributes, XFRMA_POLICY, &event->policy.info, sizeof event->policy.info)) {
		event->policy.info.sel = id->sel;
		event->policy.info.index = id->index;
		event->policy.info.dir = id->dir;
	}
	decode_policy_attributes(attributes, &event->policy);
	return 0;
}

static int decode_mapping(const void *fixed, struct nlattr **attributes, struct xfrm_event *event)
{
	const struct xfrm_user_mapping *mapping = fixed;

	(void)attributes;
	event->kind = XFRM_EVENT_MAPPING;
	event->sa.info.id.daddr = mapping->id.daddr;
	event->sa.info.id.spi = mapping->id.spi;
	event->sa.info.id.proto = mapping->id.proto;
	event->sa.info.family = mapping->id.family;
	event->sa.info.reqid = mapping->reqid;
	event->sa.info.saddr = mapping->old_saddr;
	event->from = mapping->new_saddr;
	event->from_port = mapping->new_sport;
	return 0;
}

static int decode_sa_flush(const void *fixed, struct nlattr **attributes, struct xfrm_event *event)
{
	(void)fixed;
	(void)attributes;
	event->kind = XFRM_EVENT_SA_FLUSH;
	return 0;
}

static int decode_policy_flush(const void *fixed, struct nlattr **attributes,
                               struct xfrm_event *event)
{
	(void)fixed;
	(void)attributes;
	event->kind = XFRM_EVENT_POLICY_FLUSH;
	return 0;
}

/* clang-format off */
static const struct {
	uint16_t type;
	size_t size; /* of the fixed part */
	int (*decode)(const void *fixed, struct nlattr **attributes, struct xfrm_event *event);
} kinds[] = {
	{ XFRM_MSG_NEWSA, sizeof(struct xfrm_usersa_info), decode_sa },
	{ XFRM_MSG_UPDSA, sizeof(struct xfrm_usersa_info), decode_sa },
	{ XFRM_MSG_DELSA, sizeof(struct xfrm_usersa_id), decode_sa_gone },
	{ XFRM_MSG_EXPIRE, sizeof(struct xfrm_user_expire), decode_expire },
	{ XFRM_MSG_FLUSHSA, sizeof(struct xfrm_usersa_flush), decode_sa_flush },
	{ XFRM_MSG_NEWPOLICY, sizeof(struct xfrm_userpolicy_info), decode_policy },
	{ XFRM_MSG_UPDPOLICY, sizeof(struct xfrm_userpolicy_info), decode_policy },
	{ XFRM_MSG_DELPOLICY, sizeof(struct xfrm_userpolicy_id), decode_policy_gone },
	{ XFRM_MSG_FLUSHPOLICY, 0, decode_policy_flush },
	{ XFRM_MSG_ACQUIRE, sizeof(struct xfrm_user_acquire), decode_acquire },
	{ XFRM_MSG_MAPPING, sizeof(struct xfrm_user_mapping), decode_mapping },
};
/* clang-format on */

int xfrm_decode(struct nlmsghdr *message, struct xfrm_event *event)
{
	struct nlattr *attributes[XFRMA_MAX + 1] = { NULL };

	memset(event, 0, sizeof *event);
	event->origin = message->nlmsg_pid;
	for (size_t i = 0; i < COUNT(kinds); i++) {
		if (kinds[i].type != message->nlmsg_type)
			continue;
		if (nlmsg_datalen(message) < (int)kinds[i].size ||
		    nla_parse(attributes, XFRMA_MAX, nlmsg_attrdata(message, (int)kinds[i].size),
		              nlmsg_attrlen(message, (int)kinds[i].size), NULL) < 0)
			return -EBADMSG;
		return kinds[i].decode(nlmsg_data(message), attributes, event);
	}
	return -ENOMSG;
}
