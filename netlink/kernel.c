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

bool space_is_ours(const struct space *space, uint32_t number)
{
	return number - space->range < RANGE_SIZE;
}

/* --- what became of a batch --- */

/* What `about` points to begins with its tunnel, in both cases. */
struct known {
	struct tunnel *tunnel;
};

void space_failed(void *about, const struct error *err, void *user)
{
	struct space *space = user;
	const struct known *known = about;
	bool gone = err->code == -ESRCH || err->code == -ENOENT;

	if (gone && !about) /* what is to be deleted is not there: another one was faster */
		return;
	space->stale = true;
	if (known && known->tunnel && !known->tunnel->failure.code)
		known->tunnel->failure = *err;
	else
		log_warning("%s", err->text);
}

/* Sends what is queued. What befell the whole batch leaves nothing certain. */
static void flush(struct tunnel *tunnel, struct space *space)
{
	int r = xfrm_flush(space->xfrm);

	if (r == 0)
		return;
	space->stale = true;
	if (tunnel && !tunnel->failure.code)
		error_set(&tunnel->failure, r, "the kernel was not heard: %s", strerror(-r));
}

static void queued(struct tunnel *tunnel, int r)
{
	tunnel->changes++;
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

static struct known_sa *add_known(struct known_sa **sas, size_t *count, const struct sa *sa)
{
	struct known_sa *more = realloc(*sas, (*count + 1) * sizeof *more);

	if (!more)
		return NULL;
	*sas = more;
	more += (*count)++;
	*more = (struct known_sa){ .sa = *sa };
	return more;
}

static bool has_sa(const struct tunnel *tunnel, uint32_t spi, bool in)
{
	struct sa sa;

	tunnel_sa(tunnel, spi, in, &sa);
	return find_sa(tunnel, &sa) != NULL;
}

static bool has_pair(const struct tunnel *tunnel, const struct sa_pair *pair)
{
	return pair->in && tunnel->family && has_sa(tunnel, pair->in, true) &&
	       has_sa(tunnel, pair->out, false);
}

static void install_sa(struct tunnel *tunnel, uint32_t spi, bool in)
{
	struct known_sa *known;
	struct sa sa;

	tunnel_sa(tunnel, spi, in, &sa);
	if (find_sa(tunnel, &sa))
		return;
	known = add_known(&tunnel->sas, &tunnel->sa_count, &sa);
	if (!known) {
		queued(tunnel, -ENOMEM);
		return;
	}
	memset(known->sa.key, 0, sizeof known->sa.key);
	known->tunnel = tunnel;
	queued(tunnel, xfrm_sa_add(tunnel->space->xfrm, &sa, false, known));
	flush(tunnel, tunnel->space); /* KNOWN may move */
	explicit_bzero(&sa, sizeof sa);
	if (tunnel->failure.code)
		tunnel->sa_count--;
}

/* Both or none. */
static void install_pair(struct tunnel *tunnel, const struct sa_pair *pair)
{
	struct sa in;

	if (!pair->in || *tunnel->cut || !tunnel->family || tunnel->failure.code ||
	    !tunnel_has_keys(tunnel, pair))
		return;
	install_sa(tunnel, pair->in, true);
	if (!tunnel->failure.code)
		install_sa(tunnel, pair->out, false);
	if (!tunnel->failure.code || has_pair(tunnel, pair))
		return;
	tunnel_sa(tunnel, pair->in, true, &in);
	if (find_sa(tunnel, &in)) {
		xfrm_sa_delete(tunnel->space->xfrm, &in, NULL);
		flush(NULL, tunnel->space);
		tunnel->sa_count--;
	}
}

static bool is_of_pair(const struct tunnel *tunnel, const struct sa_pair *pair, const struct sa *sa)
{
	struct sa in, out;

	tunnel_sa(tunnel, pair->in, true, &in);
	tunnel_sa(tunnel, pair->out, false, &out);
	return pair->in && (is_sa(sa, &in) || is_sa(sa, &out));
}

static bool is_wanted(const struct tunnel *tunnel, const struct sa *sa)
{
	bool wanted =
		is_of_pair(tunnel, &tunnel->current, sa) || is_of_pair(tunnel, &tunnel->next, sa);

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
	return found && !found->tunnel ? found : NULL;
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
	wanted->tunnel = tunnel;
	wanted->policy.info.index = found ? found->policy.info.index
	                                  : new_index(tunnel->space, wanted->policy.info.dir);
	if (found) {
		found->tunnel = tunnel;
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

static void set_policies(struct tunnel *tunnel, bool up)
{
	struct known_policy *wanted = NULL;
	size_t count = 0;

	if (tunnel_policies(tunnel, up, &wanted, &count) < 0) {
		queued(tunnel, -ENOMEM);
		return;
	}
	for (size_t i = 0; i < count; i++)
		put_policy(tunnel, &wanted[i]);
	remove_policies(tunnel, wanted, count);
	flush(tunnel, tunnel->space);
	free(tunnel->policies);
	tunnel->policies = wanted;
	tunnel->policy_count = count;
}

/* --- tunnels --- */

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

/* Others' SAs are theirs as long as the tunnel is trusted; then policies block first, too. */
static void apply_external(struct tunnel *tunnel)
{
	size_t out = 0;

	for (size_t i = 0; i < tunnel->sa_count; i++)
		out += memcmp(&tunnel->sas[i].sa.info.id.daddr, &tunnel->remote,
		              sizeof tunnel->remote) == 0;
	tunnel->up = !*tunnel->cut && out && out < tunnel->sa_count;
	set_policies(tunnel, tunnel->up);
	if (*tunnel->cut)
		remove_sas(tunnel, true);
	flush(tunnel, tunnel->space);
}

void tunnel_saw(struct tunnel *tunnel, const struct sa *sa, bool gone)
{
	struct known_sa *known = find_sa(tunnel, sa);

	if (gone && known)
		*known = tunnel->sas[--tunnel->sa_count];
	else if (!gone && !known)
		known = add_known(&tunnel->sas, &tunnel->sa_count, sa);
	if (!gone && known)
		known->tunnel = tunnel;
}

/* The SA with this SPI, or NULL: SPIs are of the one who gets the packets, so two may be equal. */
static const struct sa *sa_of_spi(const struct tunnel *tunnel, uint32_t spi)
{
	for (size_t i = 0; i < tunnel->sa_count; i++)
		if (tunnel->sas[i].sa.info.id.spi == htonl(spi))
			return &tunnel->sas[i].sa;
	return NULL;
}

bool tunnel_has_child(const struct tunnel *tunnel, const struct child *child)
{
	return sa_of_spi(tunnel, child->spis.in) && sa_of_spi(tunnel, child->spis.out);
}

/* The last of charon's children that the kernel has, or NULL. */
static const struct child *live_child(const struct tunnel *tunnel)
{
	const struct child *live = NULL;

	for (size_t i = 0; i < tunnel->child_count; i++)
		if (tunnel_has_child(tunnel, &tunnel->children[i]) &&
		    (!live || live->gone || !tunnel->children[i].gone))
			live = &tunnel->children[i];
	return live;
}

/* The policies lead where the SAs do, also where the settings do not say it. */
static void take_ends(struct tunnel *tunnel, const struct child *child)
{
	const struct sa *in = sa_of_spi(tunnel, child->spis.in);

	tunnel->family = in->info.family;
	tunnel->local = in->info.id.daddr;
	tunnel->remote = in->info.saddr;
}

static bool is_gone(const struct tunnel *tunnel, const struct sa *sa)
{
	for (size_t i = 0; i < tunnel->child_count; i++) {
		const struct child *child = &tunnel->children[i];

		if (child->gone && (sa->info.id.spi == htonl(child->spis.in) ||
		                    sa->info.id.spi == htonl(child->spis.out)))
			return true;
	}
	return false;
}

/* What charon has forgotten, as it does when it dies, serves until there is another one. */
static void remove_gone(struct tunnel *tunnel, bool all)
{
	size_t kept = 0;

	for (size_t i = 0; i < tunnel->sa_count; i++)
		if (all || is_gone(tunnel, &tunnel->sas[i].sa))
			xfrm_sa_delete(tunnel->space->xfrm, &tunnel->sas[i].sa, NULL);
		else
			tunnel->sas[kept++] = tunnel->sas[i];
	tunnel->sa_count = kept;
}

/*
 * charon makes SAs, and policies lead to them once the store believes the peer; then also to those
 * by which charon replaces them, before it tells of them.
 */
static void apply_charon(struct tunnel *tunnel)
{
	bool usable = !*tunnel->cut && tunnel->wanted != WANTED_NO;
	const struct child *child = live_child(tunnel);

	if (child)
		take_ends(tunnel, child);
	if (!tunnel->sa_count)
		tunnel->approved = false;
	tunnel->up = usable && tunnel->approved && tunnel->sa_count >= 2;
	set_policies(tunnel, tunnel->up);
	if (!usable || (child && !child->gone))
		remove_gone(tunnel, !usable);
	flush(tunnel, tunnel->space);
}

/*
 * New SAs first, then the policies that use them; the policies that block, then the SAs that go.
 * There is no moment without a policy, and none that leads to an SA that is not there.
 */
void tunnel_apply(struct tunnel *tunnel)
{
	tunnel->failure = (struct error){ 0 };
	tunnel->changes = 0;
	if (tunnel->external) {
		apply_external(tunnel);
		return;
	}
	if (tunnel->charon) {
		apply_charon(tunnel);
		return;
	}
	install_pair(tunnel, &tunnel->current);
	install_pair(tunnel, &tunnel->next);
	tunnel->up = !*tunnel->cut && has_pair(tunnel, &tunnel->current);
	set_policies(tunnel, tunnel->up);
	remove_sas(tunnel, false);
	flush(tunnel, tunnel->space);
}

void tunnel_remove(struct tunnel *tunnel)
{
	if (!tunnel->space->xfrm)
		return;
	if (!tunnel->external)
		remove_sas(tunnel, true);
	remove_policies(tunnel, NULL, 0);
	flush(NULL, tunnel->space);
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
	struct tunnel *tunnel;
	struct known_sa *known;

	tunnel = sa->info.id.spi ? reader->find(space, sa) : NULL;
	if (!sa->info.id.spi || (!tunnel && !space_is_ours(space, sa->info.reqid)))
		return;
	if (tunnel && find_sa(tunnel, sa)) /* read twice: a dump that was begun again */
		return;
	known = tunnel ? add_known(&tunnel->sas, &tunnel->sa_count, sa)
	               : add_known(&space->sas, &space->sa_count, sa);
	if (known)
		known->tunnel = tunnel;
	reader->failed |= !known;
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
		if (!space->policies[i].tunnel)
			xfrm_policy_delete(space->xfrm, &space->policies[i].policy, NULL);
	for (size_t i = 0; i < space->sa_count; i++)
		xfrm_sa_delete(space->xfrm, &space->sas[i].sa, NULL);
	flush(NULL, space);
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
