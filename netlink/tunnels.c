/* The tunnels that the store has told us of, by number, and what it is told of each. */
#include "netlink/charon.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TUNNELS_STEP 64

static struct {
	struct tunnel **tunnels; /* by number */
	struct tunnel **due;     /* room for as many */
	size_t count, room;
} t;

static size_t place_of(int64_t id)
{
	size_t low = 0, high = t.count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (t.tunnels[middle]->id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct tunnel *ipsec_find(int64_t id)
{
	size_t at = place_of(id);

	return at < t.count && t.tunnels[at]->id == id ? t.tunnels[at] : NULL;
}

struct tunnel *ipsec_next(int64_t id)
{
	size_t at = place_of(id + 1);

	return at < t.count ? t.tunnels[at] : NULL;
}

struct tunnel *ipsec_owner(const struct space *space, const struct sa *sa)
{
	if (space_is_ours(space, sa->info.reqid)) {
		struct tunnel *tunnel = ipsec_find(sa->info.reqid - space->range);

		return tunnel && tunnel->space == space && !tunnel->external ? tunnel : NULL;
	}
	for (size_t k = 0; k < t.count; k++)
		if (t.tunnels[k]->external && t.tunnels[k]->space == space &&
		    tunnel_has_ends(t.tunnels[k], sa))
			return t.tunnels[k];
	return NULL;
}

static int make_room(struct tunnel ***tunnels)
{
	struct tunnel **more = realloc(*tunnels, (t.room + TUNNELS_STEP) * sizeof(struct tunnel *));

	if (!more)
		return -ENOMEM;
	*tunnels = more;
	return 0;
}

struct tunnel *ipsec_add(int64_t id)
{
	struct tunnel *tunnel = calloc(1, sizeof *tunnel), **at;

	if (t.count == t.room && make_room(&t.tunnels) == 0 && make_room(&t.due) == 0)
		t.room += TUNNELS_STEP;
	if (!tunnel || t.count == t.room) {
		free(tunnel);
		return NULL;
	}
	at = t.tunnels + place_of(id);
	memmove(at + 1, at, (size_t)(t.tunnels + t.count - at) * sizeof(struct tunnel *));
	*at = tunnel;
	t.count++;
	tunnel->id = id;
	return tunnel;
}

void ipsec_forget(int64_t id)
{
	struct tunnel *tunnel = ipsec_find(id);
	size_t at = place_of(id);

	if (!tunnel)
		return;
	tunnel_remove(tunnel);
	charon_forget(tunnel);
	tunnel_clear(tunnel);
	free(tunnel);
	t.count--;
	memmove(t.tunnels + at, t.tunnels + at + 1, (t.count - at) * sizeof(struct tunnel *));
}

size_t ipsec_take_due(const struct space *space, struct tunnel ***due)
{
	size_t count = 0;

	for (size_t k = 0; k < t.count; k++) {
		if (t.tunnels[k]->space != space || !t.tunnels[k]->due)
			continue;
		t.tunnels[k]->due = false;
		t.due[count++] = t.tunnels[k];
	}
	*due = t.due;
	return count;
}

size_t ipsec_count(void)
{
	return t.count;
}

/* --- what the store is told --- */

static void tell_reason(const struct tunnel *tunnel, struct record *record)
{
	bool gone = tunnel->current.in && !tunnel->up;

	if (tunnel->failure.code)
		record_add(record, "reason", tunnel->failure.text);
	else if (*tunnel->cut)
		record_add(record, "reason", tunnel->cut);
	else if (gone)
		record_add(record, "reason",
		           "the kernel no longer has the SAs: load others with load-sa");
}

/* What an IKE daemon has made. */
static void tell_sas(const struct tunnel *tunnel, struct record *record)
{
	for (size_t k = 0; tunnel->external && k < tunnel->sa_count; k++) {
		const struct xfrm_usersa_info *info = &tunnel->sas[k].sa.info;
		bool out = memcmp(&info->id.daddr, &tunnel->remote, sizeof info->id.daddr) == 0;

		record_addf(record, out ? "spi-out" : "spi-in", "0x%08x", ntohl(info->id.spi));
	}
}

static const char *state_of(const struct tunnel *tunnel)
{
	return tunnel->failure.code ? "failed"
	       : *tunnel->cut       ? "cut"
	       : tunnel->up         ? "up"
	       : tunnel->charon     ? charon_state(tunnel)
	                            : "down";
}

/* DRIFT: others had changed what is ours. */
static void tell(struct tunnel *tunnel, bool drift)
{
	struct record *record = ipsec_frame("tunnel-is");

	tunnel->told = state_of(tunnel);
	tunnel->asked = false;
	if (record) {
		record_add_number(record, "tunnel", tunnel->id);
		record_add_number(record, "generation", tunnel->generation);
		record_add(record, "state", tunnel->told);
		tell_reason(tunnel, record);
		tell_sas(tunnel, record);
		if (tunnel->charon)
			charon_describe(tunnel, record);
		if (drift)
			record_add_number(record, "drift", tunnel->changes);
	}
	ipsec_send(record);
}

/* The kernel has them, or will not: they are used once. */
static void forget_keys(const struct tunnel *tunnel)
{
	record_remove(tunnel->settings, "load");
	record_remove(tunnel->settings, "load-key-in");
	record_remove(tunnel->settings, "load-key-out");
}

void ipsec_outcome(struct tunnel *tunnel)
{
	bool news = !tunnel->told || strcmp(tunnel->told, state_of(tunnel)) != 0;
	bool drift = !tunnel->asked && tunnel->changes && !tunnel->external && tunnel->told &&
	             strcmp(tunnel->told, "failed") != 0 && !(tunnel->charon && news);

	forget_keys(tunnel);
	if (tunnel->asked || tunnel->changes || tunnel->external || news)
		tell(tunnel, drift);
	charon_applied(tunnel);
}

void ipsec_tell(struct tunnel *tunnel)
{
	tell(tunnel, false);
}
