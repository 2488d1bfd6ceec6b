/* The kernel made what tunnels say, and read again where it may be something else. */
#include "netlink/tunnel.h"

#include "common/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DIRECTION_BITS 3  /* of a policy's index: the kernel wants the direction there */
#define V4_HASH_BITS   24 /* policies of shorter prefixes are searched one by one */
#define V6_HASH_BITS   48
#define POLICIES_MAX   (RANGE_SIZE >> DIRECTION_BITS)
#define NEW_SAS        4 /* of a tunnel at once: two pairs */

bool space_is_ours(const struct space *space, uint32_t number)
{
	return number - space->range < RANGE_SIZE;
}

/* --- what became of a batch --- */

void space_failed(void *about, const struct error *err, void *user)
{
	struct space *space = user;
	struct known *known = about;
	bool gone = err->code == -ESRCH || err->code == -ENOENT;

	if (gone && !about) /* what is to be deleted is not there: another one was faster */
		return;
	space->stale = true;
	if (known)
		known->refused = true;
	if (known && known->tunnel && !known->tunnel->failure.code)
		known->tunnel->failure = *err;
	else
		log_warning("%s", err->text);
}

/* Sends what is queued. What befell the whole batch leaves nothing certain. 0 or that. */
static int flush(struct space *space)
{
	int r = xfrm_flush(space->xfrm);

	if (r < 0) {
		log_warning("the kernel was not heard: %s", strerror(-r));
		space->stale = true;
	}
	return r;
}

static void queued(struct tunnel *tunnel, int r)
{
	tunnel->changes++;
	tunnel->space->stale |= r < 0;
	if (r < 0 && !tunnel->failure.code)
		error_set(&tunnel->failure, r, "the kernel cannot be told: %s", strerror(-r));
}

/* --- SAs --- */

static bool is_sa(const struct sa *one, const struct sa *other)
{
	return one->info.id.spi == other->info.id.spi && one->info.family == other->info.family &&
	       memcmp(&one->info.id.daddr, &other->info.id.daddr, sizeof one->info.id.daddr) == 0;
}

static struct known_sa *find_sa(const struct tunnel *tunnel, const struct sa *sa)
{
	for (size_t i = 0; i < tunnel->sa_count; i++)
		if (is_sa(&tunnel->sas[i].sa, sa))
			return &tunnel->sas[i];
	return NULL;
}

/* Behind the COUNT of SAS, where there is room. */
static struct known_sa *add_known(struct known_sa *sas, size_t *count, const struct sa *sa)
{
	struct known_sa *known = &sas[(*count)++];

	*known = (struct known_sa){ .sa = *sa };
	explicit_bzero(known->sa.key, sizeof known->sa.key);
	return known;
}

static bool is_half(const struct tunnel *tunnel, uint32_t spi, bool in, const struct sa *sa)
{
	const xfrm_address_t *to = in ? &tunnel->local : &tunnel->remote;

	return sa->info.id.spi == htonl(spi) && sa->info.family == tunnel->family &&
	       memcmp(&sa->info.id.daddr, to, sizeof *to) == 0;
}

static struct known_sa *find_half(const struct tunnel *tunnel, uint32_t spi, bool in)
{
	for (size_t i = 0; i < tunnel->sa_count; i++)
		if (is_half(tunnel, spi, in, &tunnel->sas[i].sa))
			return &tunnel->sas[i];
	return NULL;
}

static bool has_pair(const struct tunnel *tunnel, const struct sa_pair *pair)
{
	return pair->in && tunnel->family && find_half(tunnel, pair->in, true) &&
	       find_half(tunnel, pair->out, false);
}

/* There is room for it: what was queued of others is known by its place. */
static void install_sa(struct tunnel *tunnel, uint32_t spi, bool in)
{
	struct known_sa *known;
	struct sa sa;

	if (find_half(tunnel, spi, in))
		return;
	tunnel_sa(tunnel, spi, in, &sa);
	known = add_known(tunnel->sas, &tunnel->sa_count, &sa);
	known->is = (struct known){ .tunnel = tunnel, .fresh = true };
	queued(tunnel, xfrm_sa_add(tunnel->space->xfrm, &sa, false, known));
	explicit_bzero(&sa, sizeof sa);
}

static void install_pair(struct tunnel *tunnel, const struct sa_pair *pair)
{
	if (!pair->in || !tunnel_has_keys(tunnel, pair))
		return;
	install_sa(tunnel, pair->in, true);
	install_sa(tunnel, pair->out, false);
}

static void install_sas(struct tunnel *tunnel)
{
	struct known_sa *room;

	if (tunnel->external || tunnel->charon || *tunnel->cut || !tunnel->family ||
	    tunnel->failure.code)
		return;
	room = realloc(tunnel->sas, (tunnel->sa_count + NEW_SAS) * sizeof *room);
	if (!room) {
		queued(tunnel, -ENOMEM);
		return;
	}
	tunnel->sas = room;
	install_pair(tunnel, &tunnel->current);
	install_pair(tunnel, &tunnel->next);
}

/* Of a pair the kernel has both or none. What it did not take is another one's, or nobody's. */
static void settle_sas(struct tunnel *tunnel)
{
	size_t kept = 0;

	for (size_t i = 0; i < tunnel->sa_count; i++) {
		struct known_sa *known = &tunnel->sas[i];

		if (tunnel->failure.code && known->is.fresh && !known->is.refused)
			queued(tunnel, xfrm_sa_delete(tunnel->space->xfrm, &known->sa, NULL));
		if (tunnel->failure.code && known->is.fresh)
			continue;
		known->is.fresh = false;
		tunnel->sas[kept++] = *known;
	}
	tunnel->sa_count = kept;
}

static bool is_of_pair(const struct tunnel *tunnel, const struct sa_pair *pair, const struct sa *sa)
{
	return pair->in &&
	       (is_half(tunnel, pair->in, true, sa) || is_half(tunnel, pair->out, false, sa));
}

static bool is_wanted(const struct tunnel *tunnel, const struct sa *sa)
{
	bool wanted =
		is_of_pair(tunnel, &tunnel->current, sa) || is_of_pair(tunnel, &tunnel->next, sa);

	if (tunnel->charon)
		return !*tunnel->cut && children_want(tunnel, sa);
	for (size_t i = 0; !wanted && i < OLD_PAIRS; i++)
		wanted = is_of_pair(tunnel, &tunnel->old[i], sa);
	return wanted && !*tunnel->cut;
}

static void remove_sas(struct tunnel *tunnel, bool all)
{
	size_t kept = 0;

	for (size_t i = 0; i < tunnel->sa_count; i++) {
		if (!all && is_wanted(tunnel, &tunnel->sas[i].sa))
			tunnel->sas[kept++] = tunnel->sas[i];
		else if (tunnel->charon) /* which may have taken it away itself: no change of others
		                          */
			xfrm_sa_delete(tunnel->space->xfrm, &tunnel->sas[i].sa, NULL);
		else
			queued(tunnel,
			       xfrm_sa_delete(tunnel->space->xfrm, &tunnel->sas[i].sa, NULL));
	}
	tunnel->sa_count = kept;
}

/* --- policies --- */

/* What the kernel has in the place of WANTED, of TUNNEL's or of what nobody has claimed. */
static struct known_policy *find_policy(struct tunnel *tunnel, const struct known_policy *wanted)
{
	struct space *space = tunnel->space;
	struct known_policy *found = NULL;

	for (size_t i = 0; i < tunnel->policy_count; i++)
		if (policy_compare(&tunnel->policies[i], wanted) == 0)
			return &tunnel->policies[i];
	if (space->policy_count)
		found = bsearch(wanted, space->policies, space->policy_count, sizeof *found,
		                policy_compare);
	return found && !found->is.tunnel ? found : NULL;
}

static bool is_same(const struct policy *one, const struct policy *other)
{
	const struct xfrm_user_tmpl *a = &one->template, *b = &other->template;

	return one->info.action == other->info.action &&
	       one->info.priority == other->info.priority && a->id.proto == b->id.proto &&
	       a->id.spi == b->id.spi && a->reqid == b->reqid && a->mode == b->mode &&
	       memcmp(&a->id.daddr, &b->id.daddr, sizeof a->id.daddr) == 0 &&
	       memcmp(&a->saddr, &b->saddr, sizeof a->saddr) == 0;
}

static uint32_t new_index(struct space *space, uint8_t direction)
{
	space->last_policy = (space->last_policy + 1) % POLICIES_MAX;
	return space->range + (space->last_policy << DIRECTION_BITS) + direction;
}

/* A new one is refused where somebody else's stands in its place. */
static void put_policy(struct tunnel *tunnel, struct known_policy *wanted)
{
	struct known_policy *found = find_policy(tunnel, wanted);

	if (!tunnel->space->hashed) {
		tunnel->space->hashed = true;
		xfrm_policy_hash(tunnel->space->xfrm, V4_HASH_BITS, V6_HASH_BITS, NULL);
	}
	wanted->is.tunnel = tunnel;
	wanted->policy.info.index = found ? found->policy.info.index
	                                  : new_index(tunnel->space, wanted->policy.info.dir);
	if (found) {
		found->is.tunnel = tunnel;
		if (is_same(&found->policy, &wanted->policy))
			return;
	}
	queued(tunnel,
	       xfrm_policy_add(tunnel->space->xfrm, &wanted->policy, found != NULL, wanted));
}

/* Those of TUNNEL's that are not among the COUNT of WANTED. */
static void remove_policies(struct tunnel *tunnel, const struct known_policy *wanted, size_t count)
{
	for (size_t i = 0; i < tunnel->policy_count; i++) {
		size_t j = 0;

		while (j < count && policy_compare(&tunnel->policies[i], &wanted[j]) != 0)
			j++;
		if (j == count)
			queued(tunnel, xfrm_policy_delete(tunnel->space->xfrm,
			                                  &tunnel->policies[i].policy, NULL));
	}
}

/* What the policies are to be; where that cannot be made out, they stay. */
static void plan_policies(struct tunnel *tunnel)
{
	free(tunnel->wanted);
	tunnel->wanted = NULL;
	tunnel->wanted_count = 0;
	tunnel->planned =
		tunnel_policies(tunnel, tunnel->up, &tunnel->wanted, &tunnel->wanted_count) == 0;
	if (!tunnel->planned)
		queued(tunnel, -ENOMEM);
}

/* OUT: those of what goes out; else all others, and then none is left that is not wanted. */
static void put_policies(struct tunnel *tunnel, bool out)
{
	if (!tunnel->planned)
		return;
	for (size_t i = 0; i < tunnel->wanted_count; i++)
		if ((tunnel->wanted[i].policy.info.dir == XFRM_POLICY_OUT) == out)
			put_policy(tunnel, &tunnel->wanted[i]);
	if (out)
		return;
	remove_policies(tunnel, tunnel->wanted, tunnel->wanted_count);
	free(tunnel->policies);
	tunnel->policies = tunnel->wanted;
	tunnel->policy_count = tunnel->wanted_count;
	tunnel->wanted = NULL;
	tunnel->wanted_count = 0;
}

/* --- tunnels --- */

void tunnel_saw(struct tunnel *tunnel, const struct sa *sa, bool gone)
{
	struct known_sa *known = find_sa(tunnel, sa), *room;

	if (gone && known)
		*known = tunnel->sas[--tunnel->sa_count];
	if (gone || known)
		return;
	room = realloc(tunnel->sas, (tunnel->sa_count + 1) * sizeof *room);
	if (!room) {
		queued(tunnel, -ENOMEM);
		return;
	}
	tunnel->sas = room;
	add_known(room, &tunnel->sa_count, sa)->is.tunnel = tunnel;
}

bool tunnel_has_ends(const struct tunnel *tunnel, const struct sa *sa)
{
	const xfrm_address_t *from = &sa->info.saddr, *to = &sa->info.id.daddr;
	size_t size = tunnel->family == AF_INET ? 4 : 16;

	if (!tunnel->family || sa->info.family != tunnel->family)
		return false;
	return (memcmp(from, &tunnel->local, size) == 0 &&
	        memcmp(to, &tunnel->remote, size) == 0) ||
	       (memcmp(from, &tunnel->remote, size) == 0 && memcmp(to, &tunnel->local, size) == 0);
}

/* Others' SAs are theirs as long as the tunnel is trusted. */
static bool external_is_up(const struct tunnel *tunnel)
{
	size_t out = 0;

	for (size_t i = 0; i < tunnel->sa_count; i++)
		out += memcmp(&tunnel->sas[i].sa.info.id.daddr, &tunnel->remote,
		              sizeof tunnel->remote) == 0;
	return out && out < tunnel->sa_count;
}

static void use_sas(struct tunnel *tunnel)
{
	if (!tunnel->external && !tunnel->charon)
		settle_sas(tunnel);
	tunnel->up = !*tunnel->cut && (tunnel->external ? external_is_up(tunnel)
	                               : tunnel->charon ? children_are_up(tunnel)
	                                                : has_pair(tunnel, &tunnel->current));
	plan_policies(tunnel);
	put_policies(tunnel, true);
}

static void end_policies(struct tunnel *tunnel)
{
	put_policies(tunnel, false);
}

/* A policy that the kernel did not take is another one's: it stays when the tunnel goes. */
static void forget_refused_policies(struct tunnel *tunnel)
{
	size_t kept = 0;

	for (size_t i = 0; i < tunnel->policy_count; i++)
		if (!tunnel->policies[i].is.refused)
			tunnel->policies[kept++] = tunnel->policies[i];
	tunnel->policy_count = kept;
}

static void end_sas(struct tunnel *tunnel)
{
	forget_refused_policies(tunnel);
	if (!tunnel->external || *tunnel->cut)
		remove_sas(tunnel, tunnel->external);
}

/*
 * New SAs of all tunnels first, then the policies that use them; the policies that block, those of
 * what goes out before the others, then the SAs that go. There is no moment without a policy, and
 * none that leads to an SA that is not there.
 */
void space_apply(struct space *space, struct tunnel *const *tunnels, size_t count)
{
	static void (*const steps[])(struct tunnel * tunnel) = { install_sas, use_sas, end_policies,
		                                                 end_sas };
	int r = 0;

	for (size_t i = 0; i < count; i++) {
		tunnels[i]->failure = (struct error){ 0 };
		tunnels[i]->changes = 0;
	}
	for (size_t step = 0; step < COUNT(steps); step++) {
		for (size_t i = 0; i < count; i++)
			steps[step](tunnels[i]);
		r = flush(space) < 0 ? -EIO : r;
	}
	for (size_t i = 0; r < 0 && i < count; i++)
		if (!tunnels[i]->failure.code)
			error_set(&tunnels[i]->failure, r, "the kernel was not heard");
}

void tunnel_remove(struct tunnel *tunnel)
{
	if (!tunnel->space->xfrm)
		return;
	if (!tunnel->external)
		remove_sas(tunnel, true);
	remove_policies(tunnel, NULL, 0);
	flush(tunnel->space);
}

/* --- reading the kernel --- */

struct reader {
	struct space *space;
	struct tunnel *(*find)(const struct space *space, const struct sa *sa);
	bool failed;
};

static void read_sa(const struct sa *sa, void *user)
{
	struct reader *reader = user;
	struct space *space = reader->space;
	struct tunnel *tunnel = sa->info.id.spi ? reader->find(space, sa) : NULL;
	struct known_sa **sas = tunnel ? &tunnel->sas : &space->sas, *more;
	size_t *count = tunnel ? &tunnel->sa_count : &space->sa_count;

	if (!sa->info.id.spi || (!tunnel && !space_is_ours(space, sa->info.reqid)))
		return;
	if (tunnel && find_sa(tunnel, sa)) /* read twice: a dump that was begun again */
		return;
	more = realloc(*sas, (*count + 1) * sizeof *more);
	reader->failed |= !more;
	if (!more)
		return;
	*sas = more;
	add_known(more, count, sa)->is.tunnel = tunnel;
}

static void read_policy(const struct policy *policy, void *user)
{
	struct reader *reader = user;
	struct space *space = reader->space;
	struct known_policy *more;
	uint32_t number = (policy->info.index - space->range) >> DIRECTION_BITS;

	if (!space_is_ours(space, policy->info.index))
		return;
	more = realloc(space->policies, (space->policy_count + 1) * sizeof *more);
	reader->failed |= !more;
	if (!more)
		return;
	space->policies = more;
	more += space->policy_count++;
	*more = (struct known_policy){ .policy = *policy };
	if (number > space->last_policy)
		space->last_policy = number;
}

static void forget_policies(void *user)
{
	((struct reader *)user)->space->policy_count = 0;
}

int space_read(struct space *space,
               struct tunnel *(*find)(const struct space *space, const struct sa *sa))
{
	struct reader reader = { .space = space, .find = find };
	int r;

	space->sa_count = space->policy_count = 0;
	r = xfrm_sa_dump(space->xfrm, read_sa, NULL, &reader);
	if (r == 0)
		r = xfrm_policy_dump(space->xfrm, read_policy, forget_policies, &reader);
	if (space->policy_count)
		qsort(space->policies, space->policy_count, sizeof *space->policies,
		      policy_compare);
	return r == 0 && reader.failed ? -ENOMEM : r;
}

void space_sweep(struct space *space)
{
	for (size_t i = 0; i < space->policy_count; i++)
		if (!space->policies[i].is.tunnel)
			xfrm_policy_delete(space->xfrm, &space->policies[i].policy, NULL);
	for (size_t i = 0; i < space->sa_count; i++)
		xfrm_sa_delete(space->xfrm, &space->sas[i].sa, NULL);
	flush(space);
	space->policy_count = space->sa_count = 0;
}

bool space_is_touched(const struct space *space, const struct xfrm_event *event)
{
	if (event->kind != XFRM_EVENT_LOST && event->origin == xfrm_port(space->xfrm))
		return false;
	switch (event->kind) {
	case XFRM_EVENT_LOST:
	case XFRM_EVENT_SA_FLUSH:
	case XFRM_EVENT_POLICY_FLUSH:
		return true;
	case XFRM_EVENT_SA:
	case XFRM_EVENT_SA_GONE:
		return space_is_ours(space, event->sa.info.reqid);
	case XFRM_EVENT_EXPIRE:
		return event->hard && space_is_ours(space, event->sa.info.reqid);
	case XFRM_EVENT_POLICY:
	case XFRM_EVENT_POLICY_GONE:
		return space_is_ours(space, event->policy.info.index);
	default:
		return false;
	}
}
