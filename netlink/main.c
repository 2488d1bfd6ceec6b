/*
 * pkifs-ipsec: the process that makes tunnels in the kernel. It has CAP_NET_ADMIN and no more; the
 * store tells it what is to be, and hands it the sockets of each network namespace. It keeps
 * nothing: a successor is told all again and finds the rest in the kernel, so its death changes
 * nothing there.
 */
#include "common/channel.h"
#include "common/confine.h"
#include "common/log.h"
#include "netlink/charon.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define CONTROL      3
#define FRAME_LIMIT  (256u << 10)
#define RETRY_MS     5000 /* what the kernel did not take is tried again */
#define SOON_MS      50   /* between two readings of the kernel */
#define COUNTERS_MS  1000
#define FEW_TUNNELS  100 /* whose counters are read each second, and not each fifth */
#define TUNNELS_STEP 64

static struct {
	uv_loop_t *loop;
	struct channel *store;
	struct space *spaces;
	struct tunnel **tunnels; /* by number */
	struct tunnel **due;     /* room for as many */
	size_t count, room;
	uint32_t range;
	bool all_told, untold; /* some could not be read: what is ours and nobody's stays */
	uv_timer_t again, soon, counters;
} i;

uv_loop_t *ipsec_loop(void)
{
	return i.loop;
}

void ipsec_send(struct record *record)
{
	if (!record || channel_send(i.store, record, NULL, 0) < 0)
		log_error("the store cannot be told: out of memory");
	record_free(record);
}

struct record *ipsec_frame(const char *name)
{
	struct record *record = record_new();

	if (record)
		record_add(record, "frame", name);
	return record;
}

/* --- tunnels by number --- */

static size_t place_of(int64_t id)
{
	size_t low = 0, high = i.count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (i.tunnels[middle]->id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct tunnel *ipsec_find(int64_t id)
{
	size_t at = place_of(id);

	return at < i.count && i.tunnels[at]->id == id ? i.tunnels[at] : NULL;
}

struct tunnel *ipsec_next(int64_t id)
{
	size_t at = place_of(id + 1);

	return at < i.count ? i.tunnels[at] : NULL;
}

/* Whose SA is: by its reqid, or, of an IKE daemon's, by its ends. */
static struct tunnel *find_owner(const struct space *space, const struct sa *sa)
{
	if (space_is_ours(space, sa->info.reqid)) {
		struct tunnel *tunnel = ipsec_find(sa->info.reqid - space->range);

		return tunnel && tunnel->space == space && !tunnel->external ? tunnel : NULL;
	}
	for (size_t k = 0; k < i.count; k++)
		if (i.tunnels[k]->external && i.tunnels[k]->space == space &&
		    tunnel_has_ends(i.tunnels[k], sa))
			return i.tunnels[k];
	return NULL;
}

static int make_room(struct tunnel ***tunnels)
{
	struct tunnel **more = realloc(*tunnels, (i.room + TUNNELS_STEP) * sizeof(struct tunnel *));

	if (!more)
		return -ENOMEM;
	*tunnels = more;
	return 0;
}

static struct tunnel *add(int64_t id)
{
	struct tunnel *tunnel = calloc(1, sizeof *tunnel), **at;

	if (i.count == i.room && make_room(&i.tunnels) == 0 && make_room(&i.due) == 0)
		i.room += TUNNELS_STEP;
	if (!tunnel || i.count == i.room) {
		free(tunnel);
		return NULL;
	}
	at = i.tunnels + place_of(id);
	memmove(at + 1, at, (size_t)(i.tunnels + i.count - at) * sizeof(struct tunnel *));
	*at = tunnel;
	i.count++;
	tunnel->id = id;
	return tunnel;
}

static void forget(int64_t id)
{
	struct tunnel *tunnel = ipsec_find(id);
	size_t at = place_of(id);

	if (!tunnel)
		return;
	tunnel_remove(tunnel);
	charon_forget(tunnel);
	tunnel_clear(tunnel);
	free(tunnel);
	i.count--;
	memmove(i.tunnels + at, i.tunnels + at + 1, (i.count - at) * sizeof(struct tunnel *));
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

/* --- the kernel --- */

static void settle_stale(uv_timer_t *timer);

static void read_later(uint64_t milliseconds)
{
	if (!uv_is_active((uv_handle_t *)&i.again) || uv_timer_get_due_in(&i.again) > milliseconds)
		uv_timer_start(&i.again, settle_stale, milliseconds, 0);
}

/* The kernel has them, or will not: they are used once. */
static void forget_keys(const struct tunnel *tunnel)
{
	record_remove(tunnel->settings, "load");
	record_remove(tunnel->settings, "load-key-in");
	record_remove(tunnel->settings, "load-key-out");
}

/* What came of TUNNEL. What was found when the kernel was read again is told where it is news. */
static void tell_outcome(struct tunnel *tunnel)
{
	bool news = !tunnel->told || strcmp(tunnel->told, state_of(tunnel)) != 0;
	bool drift = !tunnel->asked && tunnel->changes && !tunnel->external && tunnel->told &&
	             strcmp(tunnel->told, "failed") != 0 && !(tunnel->charon && news);

	forget_keys(tunnel);
	if (tunnel->asked || tunnel->changes || tunnel->external || news)
		tell(tunnel, drift);
	charon_applied(tunnel);
}

/* All that is due in SPACE. */
static void apply(struct space *space)
{
	size_t count = 0;

	for (size_t k = 0; k < i.count; k++) {
		if (i.tunnels[k]->space != space || !i.tunnels[k]->due)
			continue;
		i.tunnels[k]->due = false;
		i.due[count++] = i.tunnels[k];
	}
	if (space->xfrm)
		space_apply(space, i.due, count);
	for (size_t k = 0; k < count; k++) {
		if (!space->xfrm)
			error_set(&i.due[k]->failure, -ENOENT, "%s", space->reason);
		tell_outcome(i.due[k]);
	}
	if (space->stale)
		read_later(RETRY_MS);
}

static void apply_all(void)
{
	for (struct space *space = i.spaces; space && i.all_told; space = space->following)
		if (space->xfrm || *space->reason)
			apply(space);
}

static void apply_soon(uv_timer_t *timer)
{
	(void)timer;
	apply_all();
}

void ipsec_apply(struct tunnel *tunnel)
{
	tunnel->due = tunnel->asked = true;
	uv_timer_start(&i.soon, apply_soon, 0, 0);
}

void ipsec_tell(struct tunnel *tunnel)
{
	tell(tunnel, false);
}

/* All that is ours in SPACE, read and put right. ASKED: the store is told of all. */
static void settle(struct space *space, bool asked)
{
	int r;

	if (!i.all_told || !space->xfrm)
		return;
	space->stale = false;
	for (size_t k = 0; k < i.count; k++)
		if (i.tunnels[k]->space == space)
			i.tunnels[k]->sa_count = i.tunnels[k]->policy_count = 0;
	r = space_read(space, find_owner);
	if (r < 0) {
		log_error("the kernel's SAs and policies cannot be read: %s", strerror(-r));
		space->stale = true;
		read_later(RETRY_MS);
		return;
	}
	for (size_t k = 0; k < i.count; k++)
		if (i.tunnels[k]->space == space) {
			i.tunnels[k]->due = true;
			i.tunnels[k]->asked |= asked;
		}
	apply(space);
	if (!i.untold)
		space_sweep(space);
}

static void settle_stale(uv_timer_t *timer)
{
	(void)timer;
	for (struct space *space = i.spaces; space; space = space->following)
		if (space->stale)
			settle(space, false);
}

static void see_event(const struct xfrm_event *event, void *user)
{
	struct space *space = user;
	bool watched;

	if (charon_event(space, event))
		return;
	watched = (event->kind == XFRM_EVENT_SA || event->kind == XFRM_EVENT_SA_GONE ||
	           event->kind == XFRM_EVENT_EXPIRE) &&
	          !space_is_ours(space, event->sa.info.reqid) && find_owner(space, &event->sa);

	if (watched || space_is_touched(space, event)) {
		space->stale = true;
		read_later(SOON_MS);
	}
}

static void kernel_told(uv_poll_t *poll, int status, int events)
{
	struct space *space = poll->data;

	(void)events;
	if (xfrm_events(space->monitor, see_event, space) < 0) {
		log_error("the kernel tells no more of namespace \"%s\"", space->name);
		uv_poll_stop(poll);
	} else if (status < 0) { /* the socket ran over: libuv takes it for broken, and stopped */
		uv_poll_start(poll, UV_READABLE, kernel_told);
	}
}

/* --- what the store says --- */

/* SPACE's sockets, or others where its name stands for another namespace by now. */
static void want_namespace(const struct space *space)
{
	struct record *record = ipsec_frame("want-namespace");

	if (record) {
		record_add(record, "netns", space->name);
		record_add_number(record, "inode", space->inode);
	}
	ipsec_send(record);
}

static struct space *space_named(const char *name)
{
	struct space *space = i.spaces;

	while (space && strcmp(space->name, name) != 0)
		space = space->following;
	if (space)
		return space;
	space = calloc(1, sizeof *space);
	if (!space)
		return NULL;
	snprintf(space->name, sizeof space->name, "%s", name);
	space->range = i.range;
	space->monitor = -1;
	space->following = i.spaces;
	i.spaces = space;
	want_namespace(space);
	return space;
}

static void open_space(struct space *space, int *fds)
{
	static const char none[] = "the kernel cannot be watched";
	int r = xfrm_listen(fds[1]);

	space->poll = r == 0 ? calloc(1, sizeof *space->poll) : NULL;
	if (space->poll)
		r = uv_poll_init(i.loop, space->poll, fds[1]);
	space->xfrm = space->poll && r == 0 ? xfrm_open(fds[0], space_failed, space) : NULL;
	if (!space->xfrm) {
		snprintf(space->reason, sizeof space->reason, "%s: %s", none, strerror(-r));
		return;
	}
	xfrm_ignore(fds[1], xfrm_port(space->xfrm));
	space->monitor = fds[1];
	fds[0] = fds[1] = -1;
	space->poll->data = space;
	uv_poll_start(space->poll, UV_READABLE, kernel_told);
}

static void free_handle(uv_handle_t *handle)
{
	free(handle);
}

/* What was in it is not ours any more: there is no way to it. */
static void close_space(struct space *space)
{
	if (!space->xfrm)
		return;
	uv_close((uv_handle_t *)space->poll, free_handle);
	close(space->monitor);
	xfrm_close(space->xfrm);
	space->xfrm = NULL;
	space->monitor = -1;
	space->hashed = false;
	for (size_t k = 0; k < i.count; k++)
		if (i.tunnels[k]->space == space) {
			i.tunnels[k]->sa_count = i.tunnels[k]->policy_count = 0;
			i.tunnels[k]->up = false;
			i.tunnels[k]->due = i.tunnels[k]->asked = true;
		}
}

static void take_namespace(const struct record *record, int *fds)
{
	const char *name = record_get(record, "netns"), *reason = record_get(record, "reason");
	int64_t inode = record_number(record, "inode", 0);
	struct space *space = name ? space_named(name) : NULL;

	if (!space || (space->xfrm && !reason && inode == space->inode))
		return;
	close_space(space);
	space->inode = reason ? 0 : inode;
	snprintf(space->reason, sizeof space->reason, "%s", reason ? reason : "");
	if (!reason)
		open_space(space, fds);
	if (space->xfrm)
		settle(space, true);
	else
		apply_all();
}

/* A namespace may be deleted and made again, or be there at last. */
static void look_for_namespaces(void)
{
	for (struct space *space = i.spaces; space; space = space->following)
		if (*space->name)
			want_namespace(space);
}

/* RECORD is taken over. */
static void take_tunnel(struct record *record)
{
	const char *name = record_get(record, "netns");
	int64_t id = record_number(record, "tunnel", 0);
	struct space *space = space_named(name ? name : "");
	struct tunnel *tunnel = ipsec_find(id);

	if (tunnel && tunnel->space != space) { /* it moves */
		forget(id);
		tunnel = NULL;
	}
	if (!tunnel)
		tunnel = add(id);
	if (!tunnel || !space) {
		log_error("out of memory");
		exit(1);
	}
	tunnel->space = space;
	if (tunnel_read(tunnel, record) < 0) {
		tell(tunnel, false);
		return;
	}
	charon_told(tunnel);
	tunnel->due = tunnel->asked = true;
	uv_timer_start(&i.soon, apply_soon, 0, 0); /* with those whose frames come behind it */
}

/* Those whose trust has ended: at once, and all in one. */
static void take_cut(const struct record *record)
{
	int64_t generation = record_number(record, "generation", 0);
	const char *reason = record_get(record, "reason");
	const struct field *field;

	for (size_t k = 0; reason && (field = record_next(record, "tunnel", &k)) != NULL;) {
		struct tunnel *tunnel = ipsec_find(strtoll(field->value, NULL, 10));

		if (!tunnel)
			continue;
		tunnel_cut(tunnel, reason);
		tunnel->generation = generation;
		tunnel->due = tunnel->asked = true;
	}
	apply_all();
}

static void take_charon(const struct record *record, int *fds)
{
	const char *name = record_get(record, "netns");
	struct space *space = name ? space_named(name) : NULL;

	if (space)
		charon_socket(space, &fds[0], record_get(record, "reason"));
}

static void take_key(const struct record *record)
{
	struct tunnel *tunnel = ipsec_find(record_number(record, "tunnel", 0));

	if (tunnel)
		charon_key(tunnel, record);
}

static void take_all_told(const struct record *record)
{
	i.all_told = true;
	i.untold = record_find(record, "but");
	for (struct space *space = i.spaces; space; space = space->following)
		settle(space, true);
	apply_all();
}

static void received(struct channel *channel, struct record *record, int *fds, int code, void *user)
{
	(void)channel;
	(void)user;
	if (!record) {
		log_debug("the store is gone: %s", strerror(-code));
		exit(0);
	}
	if (record_is(record, "frame", "tunnel")) {
		take_tunnel(record);
		return;
	}
	if (record_is(record, "frame", "begin")) {
		i.range = (uint32_t)record_number(record, "range", 0);
		space_named("");
	} else if (record_is(record, "frame", "namespace")) {
		take_namespace(record, fds);
	} else if (record_is(record, "frame", "charon")) {
		take_charon(record, fds);
	} else if (record_is(record, "frame", "crls")) {
		charon_crls(record);
	} else if (record_is(record, "frame", "key")) {
		take_key(record);
	} else if (record_is(record, "frame", "cut")) {
		take_cut(record);
	} else if (record_is(record, "frame", "forget")) {
		forget(record_number(record, "tunnel", 0));
	} else if (record_is(record, "frame", "all-told")) {
		take_all_told(record);
	}
	record_free(record);
}

/* --- counters --- */

struct sums {
	struct space *space;
	struct record *record;
};

static void add_counters(const struct sa *sa, void *user)
{
	struct sums *sums = user;
	const struct tunnel *tunnel = sa->info.id.spi ? find_owner(sums->space, sa) : NULL;

	if (tunnel)
		record_addf(sums->record, "sa", "%lld %u %llu %llu", (long long)tunnel->id,
		            ntohl(sa->info.id.spi), (unsigned long long)sa->info.curlft.bytes,
		            (unsigned long long)sa->info.curlft.packets);
}

static void forget_counters(void *user)
{
	record_remove(((struct sums *)user)->record, "sa");
}

static void tell_counters(uv_timer_t *timer)
{
	static unsigned seconds;
	bool fifth = seconds++ % 5 == 0;

	(void)timer;
	if (fifth)
		look_for_namespaces();
	if (!fifth && i.count > FEW_TUNNELS)
		return;
	for (struct space *space = i.spaces; space; space = space->following) {
		struct sums sums = { .space = space, .record = ipsec_frame("counters") };

		if (sums.record && space->xfrm && i.all_told &&
		    xfrm_sa_dump(space->xfrm, add_counters, forget_counters, &sums) == 0 &&
		    record_find(sums.record, "sa"))
			ipsec_send(sums.record);
		else
			record_free(sums.record);
	}
}

int main(int argc, char **argv)
{
	struct rlimit no_core = { 0, 0 };
	struct error err = { 0 };

	signal(SIGPIPE, SIG_IGN);
	setrlimit(RLIMIT_CORE, &no_core);
	prctl(PR_SET_DUMPABLE, 0); /* keys on their way into the kernel */
	log_open("ipsec", "stderr", argc > 1 ? log_level(argv[1]) : LOG_INFO);
	i.loop = uv_default_loop();
	i.store = channel_open(i.loop, CONTROL, FRAME_LIMIT, received, NULL);
	if (!i.store) {
		fputs("pkifs-ipsec is started by pkifsd\n", stderr);
		return 1;
	}
	channel_take(i.store, 16); /* and goes to the kernel in one batch */
	if (confine(CONFINED_IPSEC, NULL, &err) < 0) {
		log_error("%s", err.text);
		return 1;
	}
	uv_timer_init(i.loop, &i.again);
	uv_timer_init(i.loop, &i.soon);
	uv_timer_init(i.loop, &i.counters);
	uv_timer_start(&i.counters, tell_counters, COUNTERS_MS, COUNTERS_MS);
	return uv_run(i.loop, UV_RUN_DEFAULT);
}
