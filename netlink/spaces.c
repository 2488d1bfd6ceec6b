/*
 * The network namespaces that tunnels are in: their sockets, and the kernel behind them, which is
 * read, made what tunnels say, and heard.
 */
#include "common/log.h"
#include "netlink/charon.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RETRY_MS    5000 /* what the kernel did not take is tried again */
#define SOON_MS     50   /* between two readings of the kernel */
#define COUNTERS_MS 1000
#define FEW_TUNNELS 100 /* whose counters are read each second, and not each fifth */

static struct {
	struct space *spaces;
	uint32_t range;
	bool all_told, untold; /* some could not be read: what is ours and nobody's stays */
	uv_timer_t again, soon, counters;
} s;

static struct tunnel *next_in(const struct tunnel *before)
{
	struct tunnel *tunnel = ipsec_next(before->id);

	while (tunnel && tunnel->space != before->space)
		tunnel = ipsec_next(tunnel->id);
	return tunnel;
}

static struct tunnel *first_in(struct space *space)
{
	return next_in(&(struct tunnel){ .space = space });
}

/* --- the kernel --- */

static void settle_stale(uv_timer_t *timer);

static void read_later(uint64_t milliseconds)
{
	if (!uv_is_active((uv_handle_t *)&s.again) || uv_timer_get_due_in(&s.again) > milliseconds)
		uv_timer_start(&s.again, settle_stale, milliseconds, 0);
}

/* All that is due in SPACE. */
static void apply(struct space *space)
{
	struct tunnel **due;
	size_t count = ipsec_take_due(space, &due);

	if (space->xfrm)
		space_apply(space, due, count);
	for (size_t k = 0; k < count; k++) {
		if (!space->xfrm)
			error_set(&due[k]->failure, -ENOENT, "%s", space->reason);
		ipsec_outcome(due[k]);
	}
	if (space->stale)
		read_later(RETRY_MS);
}

void spaces_apply(void)
{
	for (struct space *space = s.spaces; space && s.all_told; space = space->following)
		if (space->xfrm || *space->reason)
			apply(space);
}

static void apply_soon(uv_timer_t *timer)
{
	(void)timer;
	spaces_apply();
}

void ipsec_apply(struct tunnel *tunnel)
{
	tunnel->due = tunnel->asked = true;
	uv_timer_start(&s.soon, apply_soon, 0, 0);
}

/* All that is ours in SPACE, read and put right. ASKED: the store is told of all. */
static void settle(struct space *space, bool asked)
{
	int r;

	if (!s.all_told || !space->xfrm)
		return;
	space->stale = false;
	for (struct tunnel *tunnel = first_in(space); tunnel; tunnel = next_in(tunnel))
		tunnel->sa_count = tunnel->policy_count = 0;
	r = space_read(space, ipsec_owner);
	if (r < 0) {
		log_error("the kernel's SAs and policies cannot be read: %s", strerror(-r));
		space->stale = true;
		read_later(RETRY_MS);
		return;
	}
	for (struct tunnel *tunnel = first_in(space); tunnel; tunnel = next_in(tunnel)) {
		tunnel->due = true;
		tunnel->asked |= asked;
	}
	apply(space);
	if (!s.untold)
		space_sweep(space);
}

static void settle_stale(uv_timer_t *timer)
{
	(void)timer;
	for (struct space *space = s.spaces; space; space = space->following)
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
	          !space_is_ours(space, event->sa.info.reqid) && ipsec_owner(space, &event->sa);

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

/* --- their sockets --- */

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

struct space *space_named(const char *name)
{
	struct space *space = s.spaces;

	while (space && strcmp(space->name, name) != 0)
		space = space->following;
	if (space)
		return space;
	space = calloc(1, sizeof *space);
	if (!space)
		return NULL;
	snprintf(space->name, sizeof space->name, "%s", name);
	space->range = s.range;
	space->monitor = -1;
	space->following = s.spaces;
	s.spaces = space;
	want_namespace(space);
	return space;
}

static void open_space(struct space *space, int *fds)
{
	static const char none[] = "the kernel cannot be watched";
	int r = xfrm_listen(fds[1]);

	space->poll = r == 0 ? calloc(1, sizeof *space->poll) : NULL;
	if (space->poll)
		r = uv_poll_init(ipsec_loop(), space->poll, fds[1]);
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
	for (struct tunnel *tunnel = first_in(space); tunnel; tunnel = next_in(tunnel)) {
		tunnel->sa_count = tunnel->policy_count = 0;
		tunnel->up = false;
		tunnel->due = tunnel->asked = true;
	}
}

void space_take(const struct record *record, int *fds)
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
		spaces_apply();
}

/* A namespace may be deleted and made again, or be there at last. */
static void look_for_namespaces(void)
{
	for (struct space *space = s.spaces; space; space = space->following)
		if (*space->name)
			want_namespace(space);
}

void spaces_told(const struct record *record)
{
	s.all_told = true;
	s.untold = record_find(record, "but");
	for (struct space *space = s.spaces; space; space = space->following)
		settle(space, true);
	spaces_apply();
}

/* --- counters --- */

struct sums {
	struct space *space;
	struct record *record;
};

static void add_counters(const struct sa *sa, void *user)
{
	struct sums *sums = user;
	const struct tunnel *tunnel = sa->info.id.spi ? ipsec_owner(sums->space, sa) : NULL;

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
	if (!fifth && ipsec_count() > FEW_TUNNELS)
		return;
	for (struct space *space = s.spaces; space; space = space->following) {
		struct sums sums = { .space = space, .record = ipsec_frame("counters") };

		if (sums.record && space->xfrm && s.all_told &&
		    xfrm_sa_dump(space->xfrm, add_counters, forget_counters, &sums) == 0 &&
		    record_find(sums.record, "sa"))
			ipsec_send(sums.record);
		else
			record_free(sums.record);
	}
}

void spaces_start(void)
{
	uv_timer_init(ipsec_loop(), &s.again);
	uv_timer_init(ipsec_loop(), &s.soon);
	uv_timer_init(ipsec_loop(), &s.counters);
	uv_timer_start(&s.counters, tell_counters, COUNTERS_MS, COUNTERS_MS);
}

void spaces_begin(uint32_t range)
{
	s.range = range;
	space_named("");
}
