/* What a tunnel's settings mean for the kernel. */
#include "netlink/tunnel.h"

#include "common/hex.h"
#include "common/proposal.h"
#include "common/traffic.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPLAY_WINDOW 64

/*
 * The smaller the number, the earlier a policy is looked at: those of longer prefixes first. Before
 * all others, IPv6 neighbours find each other, which no SA may be needed for.
 */
#define PRIORITY            20000u
#define PRIORITY_NEIGHBOURS 10000u
#define NEIGHBOUR_ASKED     135 /* ICMPv6 (RFC 4861) */
#define NEIGHBOUR_TOLD      136

static int read_address(const char *text, int *family, xfrm_address_t *address)
{
	*family = text && strchr(text, ':') ? AF_INET6 : AF_INET;
	return text && inet_pton(*family, text, address) == 1 ? 0 : -EINVAL;
}

static void read_pair(const char *text, struct sa_pair *pair)
{
	*pair = (struct sa_pair){ 0 };
	if (text && sscanf(text, "%u %u", &pair->in, &pair->out) != 2)
		*pair = (struct sa_pair){ 0 };
}

static void read_pairs(struct tunnel *tunnel)
{
	const struct field *field;
	size_t count = 0;

	read_pair(record_get(tunnel->settings, "current"), &tunnel->current);
	read_pair(record_get(tunnel->settings, "next"), &tunnel->next);
	memset(tunnel->old, 0, sizeof tunnel->old);
	for (size_t i = 0;
	     count < OLD_PAIRS && (field = record_next(tunnel->settings, "old", &i)) != NULL;)
		read_pair(field->value, &tunnel->old[count++]);
}

/* Where only the peer's end is known, ours is whatever the route to it has. */
static void read_ends(struct tunnel *tunnel)
{
	int family = 0;
	bool local = read_address(record_get(tunnel->settings, "local-address"), &family,
	                          &tunnel->local) == 0;

	if (read_address(record_get(tunnel->settings, "remote-address"), &tunnel->family,
	                 &tunnel->remote) < 0 ||
	    (local && family != tunnel->family) ||
	    (!local && !record_is(tunnel->settings, "engine", "charon")))
		tunnel->family = 0;
	if (!local)
		tunnel->local = (xfrm_address_t){ 0 };
}

static enum wish wish_of(const struct record *settings)
{
	static const char *const words[] = {
		[WISH_PASSIVE] = "passive", [WISH_TRAP] = "trap", [WISH_UP] = "yes"
	};
	enum wish wish = WISH_DOWN;

	for (size_t i = WISH_PASSIVE; i < COUNT(words); i++)
		if (record_is(settings, "wanted", words[i]))
			wish = (enum wish)i;
	return wish;
}

int tunnel_read(struct tunnel *tunnel, struct record *record)
{
	const char *cut = record_get(record, "cut"), *mark = record_get(record, "mark");

	record_free(tunnel->settings);
	tunnel->settings = record;
	tunnel->id = record_number(record, "tunnel", 0);
	tunnel->generation = record_number(record, "generation", 0);
	tunnel->fail_closed = !record_is(record, "fail-closed", "no");
	tunnel->failure = (struct error){ 0 };
	snprintf(tunnel->cut, sizeof tunnel->cut, "%s", cut ? cut : "");
	tunnel->external = record_is(record, "engine", "external");
	tunnel->wish = wish_of(record);
	read_ends(tunnel);
	tunnel->mode =
		record_is(record, "mode", "transport") ? XFRM_MODE_TRANSPORT : XFRM_MODE_TUNNEL;
	tunnel->if_id = (uint32_t)record_number(record, "if-id", 0);
	if (!mark || mark_read(mark, &tunnel->mark.v, &tunnel->mark.m) < 0)
		tunnel->mark = (struct xfrm_mark){ 0 };
	read_pairs(tunnel);
	if (tunnel->id <= 0 || tunnel->id >= RANGE_TRAP)
		return error_set(&tunnel->failure, -EOVERFLOW,
		                 "the store has had too many objects for another tunnel");
	return 0;
}

void tunnel_clear(struct tunnel *tunnel)
{
	record_free(tunnel->settings);
	free(tunnel->sas);
	free(tunnel->policies);
	free(tunnel->wanted);
}

void tunnel_cut(struct tunnel *tunnel, const char *reason)
{
	snprintf(tunnel->cut, sizeof tunnel->cut, "%s", reason);
	tunnel->current = tunnel->next = (struct sa_pair){ 0 };
	memset(tunnel->old, 0, sizeof tunnel->old);
}

uint32_t tunnel_reqid(const struct tunnel *tunnel)
{
	return tunnel->space->range + (uint32_t)tunnel->id;
}

/* The SA's mark is that of what goes out: what comes in is found by its address and SPI. */
void tunnel_sa(const struct tunnel *tunnel, uint32_t spi, bool in, struct sa *sa)
{
	const char *esp = record_get(tunnel->settings, "load-esp");
	const char *key = record_get(tunnel->settings, in ? "load-key-in" : "load-key-out");

	*sa = (struct sa){ .info = { .family = (uint16_t)tunnel->family,
		                     .reqid = tunnel_reqid(tunnel),
		                     .mode = tunnel->mode },
		           .replay_window = in ? REPLAY_WINDOW : 0,
		           .if_id = tunnel->if_id };
	sa->info.saddr = in ? tunnel->remote : tunnel->local;
	sa->info.id.daddr = in ? tunnel->local : tunnel->remote;
	sa->info.id.spi = htonl(spi);
	sa->info.id.proto = IPPROTO_ESP;
	if (sa->info.mode == XFRM_MODE_TUNNEL)
		sa->info.flags = XFRM_STATE_AF_UNSPEC;
	else
		sa->info.sel.family = (uint16_t)tunnel->family;
	if (!in)
		sa->mark = tunnel->mark;
	lifetime_endless(&sa->info.lft);
	if (esp && key && proposal_read(esp, false, true, &sa->proposal, NULL) == 0)
		hex_read(key, sa->key, sizeof sa->key);
}

bool tunnel_has_keys(const struct tunnel *tunnel, const struct sa_pair *pair)
{
	static const char *const keys[] = { "load-key-in", "load-key-out" };
	const char *esp = record_get(tunnel->settings, "load-esp");
	unsigned char bytes[SA_KEY_MAX];
	struct proposal proposal;
	struct sa_pair load;
	bool whole = esp && proposal_read(esp, false, true, &proposal, NULL) == 0;

	read_pair(record_get(tunnel->settings, "load"), &load);
	for (size_t i = 0; whole && i < COUNT(keys); i++) {
		const char *key = record_get(tunnel->settings, keys[i]);

		whole = key &&
		        hex_read(key, bytes, sizeof bytes) == (int)proposal_key_size(&proposal);
	}
	OPENSSL_cleanse(bytes, sizeof bytes);
	return whole && load.in && load.in == pair->in && load.out == pair->out;
}

/* --- policies --- */

struct policies {
	struct known_policy *all;
	size_t count;
};

static void set_side(const struct traffic *traffic, xfrm_address_t *address, uint8_t *length,
                     __be16 *port, __be16 *port_mask)
{
	memcpy(address, traffic->address, sizeof traffic->address);
	*length = traffic->length;
	*port = htons(traffic->port);
	*port_mask = traffic->port ? 0xffff : 0;
}

/* From ONE to OTHER. */
static void set_selector(const struct traffic *one, const struct traffic *other,
                         struct xfrm_selector *sel)
{
	*sel = (struct xfrm_selector){ .family = (uint16_t)one->family };
	set_side(one, &sel->saddr, &sel->prefixlen_s, &sel->sport, &sel->sport_mask);
	set_side(other, &sel->daddr, &sel->prefixlen_d, &sel->dport, &sel->dport_mask);
	sel->proto = one->protocol ? one->protocol : other->protocol;
}

/* Whether a packet without an SA is to have one made. */
static bool traps(const struct tunnel *tunnel)
{
	return tunnel->charon && tunnel->wish == WISH_TRAP && !*tunnel->cut && tunnel->family;
}

/* UP: to the SAs that are there; else to none, and whoever makes them is told of a packet. */
static void set_template(const struct tunnel *tunnel, bool up, uint8_t direction,
                         struct xfrm_user_tmpl *template)
{
	bool out = direction == XFRM_POLICY_OUT;

	template->family = (uint16_t)tunnel->family;
	template->saddr = out ? tunnel->local : tunnel->remote;
	template->id.daddr = out ? tunnel->remote : tunnel->local;
	template->id.proto = IPPROTO_ESP;
	/* without it the kernel takes any SA of the reqid; what comes in may have an older one */
	template->id.spi = !out || !up      ? 0
	                   : tunnel->charon ? htonl(tunnel->out)
	                                    : htonl(tunnel->current.out);
	template->reqid = tunnel_reqid(tunnel) + (up ? 0 : RANGE_TRAP);
	template->mode = tunnel->mode;
	template->aalgos = template->ealgos = template->calgos = UINT32_MAX;
}

static struct policy *add_policy(const struct tunnel *tunnel, struct policies *policies,
                                 uint8_t direction)
{
	struct known_policy *more =
		realloc(policies->all, (policies->count + 1) * sizeof *policies->all);
	struct policy *policy;

	if (!more)
		return NULL;
	policies->all = more;
	more += policies->count++;
	memset(more, 0, sizeof *more);
	policy = &more->policy;
	policy->mark = direction == XFRM_POLICY_OUT ? tunnel->mark : (struct xfrm_mark){ 0 };
	policy->if_id = tunnel->if_id;
	policy->info.dir = direction;
	policy->info.share = XFRM_SHARE_ANY;
	lifetime_endless(&policy->info.lft);
	return policy;
}

/* What lets ICMPv6 TYPE through in DIRECTION, of traffic that SEL selects. */
static int add_neighbours(const struct tunnel *tunnel, struct policies *policies,
                          const struct xfrm_selector *sel, uint8_t direction)
{
	static const uint16_t types[] = { NEIGHBOUR_ASKED, NEIGHBOUR_TOLD };

	if (sel->family != AF_INET6 || (sel->proto && sel->proto != IPPROTO_ICMPV6))
		return 0;
	for (size_t i = 0; i < COUNT(types); i++) {
		struct policy *policy = add_policy(tunnel, policies, direction);

		if (!policy)
			return -ENOMEM;
		policy->info.sel = *sel;
		policy->info.sel.proto = IPPROTO_ICMPV6;
		policy->info.sel.sport = htons(types[i]); /* where a selector has the type */
		policy->info.sel.sport_mask = 0xffff;
		policy->info.sel.dport = policy->info.sel.dport_mask = 0;
		policy->info.priority = PRIORITY_NEIGHBOURS;
		policy->info.action = XFRM_POLICY_ALLOW;
	}
	return 0;
}

#define PRIORITY_LAST 4000000000u /* behind all that an IKE daemon makes */
#define PRIORITY_CUT  1u          /* before it */

/* SEL has all ports on one side: there HALF of them. */
static void take_half(struct xfrm_selector *sel, int half)
{
	__be16 *port = sel->sport_mask ? &sel->dport : &sel->sport;
	__be16 *mask = sel->sport_mask ? &sel->dport_mask : &sel->sport_mask;

	*port = htons(half ? 0x8000 : 0);
	*mask = htons(0x8000);
}

static int add_halves(const struct tunnel *tunnel, struct policies *policies,
                      const struct xfrm_selector *sel, uint8_t direction)
{
	int halves = sel->sport_mask && sel->dport_mask ? 1 : 2;

	for (int half = 0; half < halves; half++) {
		struct policy *policy = add_policy(tunnel, policies, direction);

		if (!policy)
			return -ENOMEM;
		policy->info.sel = *sel;
		if (halves == 2)
			take_half(&policy->info.sel, half);
		policy->info.priority = *tunnel->cut ? PRIORITY_CUT : PRIORITY_LAST;
		policy->info.action = XFRM_POLICY_BLOCK;
	}
	return 0;
}

static int add_whole(const struct tunnel *tunnel, bool up, struct policies *policies,
                     const struct xfrm_selector *sel, uint8_t direction)
{
	unsigned bits = sel->family == AF_INET ? 64 : 256;
	struct policy *policy = add_policy(tunnel, policies, direction);

	if (!policy)
		return -ENOMEM;
	policy->info.sel = *sel;
	policy->info.priority =
		PRIORITY + (bits - sel->prefixlen_s - sel->prefixlen_d) * 2 + !sel->proto;
	policy->info.action = up || traps(tunnel) ? XFRM_POLICY_ALLOW : XFRM_POLICY_BLOCK;
	if (up || traps(tunnel))
		set_template(tunnel, up, direction, &policy->template);
	return 0;
}

static int add_direction(const struct tunnel *tunnel, bool up, struct policies *policies,
                         const struct xfrm_selector *sel, uint8_t direction)
{
	int r = tunnel->external ? add_halves(tunnel, policies, sel, direction)
	                         : add_whole(tunnel, up, policies, sel, direction);

	if (r < 0 || direction == XFRM_POLICY_FWD)
		return r;
	return add_neighbours(tunnel, policies, sel, direction);
}

static int add_traffic(const struct tunnel *tunnel, bool up, struct policies *policies,
                       const struct traffic *near, const struct traffic *far)
{
	struct xfrm_selector out, in;
	int r;

	if (near->family != far->family ||
	    (near->protocol && far->protocol && near->protocol != far->protocol))
		return 0;
	set_selector(near, far, &out);
	set_selector(far, near, &in);
	r = add_direction(tunnel, up, policies, &out, XFRM_POLICY_OUT);
	if (r == 0)
		r = add_direction(tunnel, up, policies, &in, XFRM_POLICY_IN);
	if (r == 0 && tunnel->mode == XFRM_MODE_TUNNEL)
		r = add_direction(tunnel, up, policies, &in, XFRM_POLICY_FWD);
	return r;
}

/* What stands under KEY, or the tunnel's own end, ADDRESS: the next at *INDEX. */
static bool next_traffic(const struct tunnel *tunnel, const char *key,
                         const xfrm_address_t *address, size_t *index, struct traffic *traffic)
{
	const struct field *field = record_next(tunnel->settings, key, index);

	if (field)
		return traffic_read(field->value, traffic, NULL) == 0;
	if (record_find(tunnel->settings, key) || !tunnel->family || *index == SIZE_MAX)
		return false;
	*index = SIZE_MAX; /* once */
	*traffic = (struct traffic){ .family = tunnel->family,
		                     .length = tunnel->family == AF_INET ? 32 : 128 };
	memcpy(traffic->address, address, tunnel->family == AF_INET ? 4 : 16);
	return true;
}

int tunnel_policies(const struct tunnel *tunnel, bool up, struct known_policy **all, size_t *count)
{
	struct policies policies = { 0 };
	struct traffic near, far;
	bool some = tunnel->fail_closed || traps(tunnel) || (tunnel->external ? *tunnel->cut : up);
	int r = 0;

	for (size_t i = 0;
	     r == 0 && some && next_traffic(tunnel, "local-subnet", &tunnel->local, &i, &near);)
		for (size_t j = 0;
		     r == 0 && next_traffic(tunnel, "remote-subnet", &tunnel->remote, &j, &far);)
			r = add_traffic(tunnel, up, &policies, &near, &far);
	if (r < 0) {
		free(policies.all);
		return r;
	}
	*all = policies.all;
	*count = policies.count;
	return 0;
}

static int compare(const void *one, const void *other, size_t size)
{
	return memcmp(one, other, size);
}

int policy_compare(const void *one, const void *other)
{
	const struct policy *a = &((const struct known_policy *)one)->policy;
	const struct policy *b = &((const struct known_policy *)other)->policy;
	int r = compare(&a->info.sel, &b->info.sel, sizeof a->info.sel);

	if (r == 0)
		r = a->info.dir - b->info.dir;
	if (r == 0)
		r = compare(&a->mark, &b->mark, sizeof a->mark);
	return r ? r : compare(&a->if_id, &b->if_id, sizeof a->if_id);
}
