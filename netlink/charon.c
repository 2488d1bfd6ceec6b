#include "netlink/charon_part.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TICK_MS 250

static struct {
	struct charon *first;
	uv_timer_t tick;
	bool ticks;
} c;

static void tick(uv_timer_t *timer)
{
	(void)timer;
	for (struct charon *charon = c.first; charon; charon = charon->following)
		charon_attend(charon);
	for (struct tunnel *tunnel = ipsec_next(0); tunnel; tunnel = ipsec_next(tunnel->id))
		if (tunnel->charon)
			charon_step(tunnel);
}

void charons_each(void (*each)(const struct charon *charon))
{
	for (struct charon *charon = c.first; charon; charon = charon->following)
		if (charon->vici)
			each(charon);
}

/* --- the store --- */

static bool join(struct space *space)
{
	if (!c.ticks) {
		c.ticks = true;
		uv_timer_init(ipsec_loop(), &c.tick);
		uv_timer_start(&c.tick, tick, 0, TICK_MS);
	}
	if (space->charon)
		return true;
	space->charon = calloc(1, sizeof *space->charon);
	if (!space->charon)
		return false;
	space->charon->space = space;
	space->charon->following = c.first;
	c.first = space->charon;
	return true;
}

static void take_request(struct tunnel *tunnel)
{
	static const char *const words[] = {
		[ACTION_UP] = "up", [ACTION_DOWN] = "down", [ACTION_REKEY] = "rekey"
	};
	struct charon_tunnel *own = tunnel->charon;
	int64_t request = record_number(tunnel->settings, "request", 0);

	if (!request || request == own->request) {
		own->action = request ? own->action : ACTION_NONE;
		return;
	}
	own->request = request;
	own->action = ACTION_NONE;
	own->ended = own->sent = false;
	own->since = charon_now();
	for (size_t i = ACTION_UP; i < COUNT(words); i++)
		if (record_is(tunnel->settings, "action", words[i]))
			own->action = (enum action)i;
	if (own->action == ACTION_UP) {
		own->retry = 0;
		own->failures = 0;
		if (!own->begun) /* else charon may be saying why just now */
			*own->why = 0;
	}
}

/* What the store noted of the SAs: a process before this one told it. */
static void take_noted(struct tunnel *tunnel)
{
	const struct field *field;

	for (size_t i = 0; tunnel->child_count < CHILDREN &&
	                   (field = record_next(tunnel->settings, "sa", &i)) != NULL;) {
		struct child child = { 0 };
		long long version;

		if (sscanf(field->value, "%u %u %lld", &child.spis.in, &child.spis.out, &version) !=
		    3)
			continue;
		child.version = version;
		tunnel->children[tunnel->child_count++] = child;
	}
}

void charon_told(struct tunnel *tunnel)
{
	struct charon_tunnel *own = tunnel->charon;

	if (!record_is(tunnel->settings, "engine", "charon")) {
		if (own)
			charon_forget(tunnel);
		return;
	}
	if (!join(tunnel->space))
		return;
	if (!own) {
		own = tunnel->charon = calloc(1, sizeof *own);
		if (!own)
			return;
		snprintf(own->name, sizeof own->name, "pkifs-%u", tunnel_reqid(tunnel));
		take_noted(tunnel);
	}
	if (own->version != record_number(tunnel->settings, "version", 0))
		own->refusals = 0;
	own->version = record_number(tunnel->settings, "version", 0);
	if (record_number(tunnel->settings, "approved", -1) == tunnel->asking)
		tunnel->approved = true;
	take_request(tunnel);
	uv_timer_start(&c.tick, tick, 0, TICK_MS);
}

void charon_applied(struct tunnel *tunnel)
{
	if (tunnel->charon)
		charon_step(tunnel);
}

void charon_forget(struct tunnel *tunnel)
{
	struct charon_tunnel *own = tunnel->charon;

	if (!own)
		return;
	if (charon_vici(tunnel)) {
		struct record *unload = charon_message("name", own->name);

		if (unload)
			vici_call(charon_vici(tunnel), "unload-conn", unload, NULL, NULL, 0);
		record_free(unload);
		charon_terminate(tunnel, "ike", own->name);
		charon_unload_key(tunnel, own->key_id);
	}
	record_free(own->loaded);
	record_free(own->peers);
	record_free(own->listed);
	free(own);
	tunnel->charon = NULL;
	tunnel->child_count = 0;
	tunnel->approved = false;
}

/* --- the kernel --- */

static void trigger(struct space *space, const struct xfrm_event *event)
{
	struct tunnel *tunnel =
		ipsec_find(event->policy.template.reqid - space->range - RANGE_TRAP);

	if (!tunnel || !tunnel->charon || tunnel->space != space)
		return;
	tunnel->charon->triggered = true;
	charon_step(tunnel);
}

bool charon_event(struct space *space, const struct xfrm_event *event)
{
	bool gone_too = event->kind == XFRM_EVENT_SA_GONE ||
	                (event->kind == XFRM_EVENT_EXPIRE && event->hard);
	struct tunnel *tunnel;

	if (event->kind == XFRM_EVENT_ACQUIRE &&
	    space_is_ours(space, event->policy.template.reqid)) {
		trigger(space, event);
		return true;
	}
	if ((event->kind != XFRM_EVENT_SA && !gone_too) ||
	    !space_is_ours(space, event->sa.info.reqid))
		return false;
	tunnel = ipsec_find(event->sa.info.reqid - space->range);
	if (!tunnel || !tunnel->charon || tunnel->space != space)
		return false;
	if (event->origin == xfrm_port(space->xfrm) || !event->sa.info.id.spi)
		return true;
	tunnel_saw(tunnel, &event->sa, gone_too);
	ipsec_apply(tunnel);
	return true;
}

/* --- what is told --- */

const char *charon_state(const struct tunnel *tunnel)
{
	const struct charon_tunnel *own = tunnel->charon;
	const struct charon *charon = tunnel->space->charon;

	if (!charon_is_usable(tunnel))
		return "down";
	if (!charon->vici && *charon->reason)
		return "failed";
	if (own->begun || tunnel->wish == WISH_UP || charon_has_current(tunnel))
		return "connecting";
	return *own->why ? "failed" : "down";
}

static void describe_request(const struct charon_tunnel *own, struct record *frame)
{
	if (own->action == ACTION_NONE)
		return;
	record_add(frame, "outcome", !own->ended ? "pending" : *own->failure ? "failed" : "done");
	if (own->ended && *own->failure)
		record_add(frame, "failure", own->failure);
}

/* The one that is used comes first. */
static void describe_children(const struct tunnel *tunnel, bool used, struct record *frame)
{
	for (size_t i = 0; i < tunnel->child_count; i++) {
		const struct child *child = &tunnel->children[i];

		if ((child->spis.out == tunnel->out) == used && tunnel_has_child(tunnel, child))
			record_addf(frame, "sa", "%u %u %lld", child->spis.in, child->spis.out,
			            (long long)child->version);
	}
}

void charon_describe(const struct tunnel *tunnel, struct record *frame)
{
	const struct charon_tunnel *own = tunnel->charon;
	const struct charon *charon = tunnel->space->charon;

	if (!tunnel->failure.code && !*tunnel->cut && charon_is_usable(tunnel) && !charon->vici)
		record_add(frame, "reason", charon->reason);
	else if (!tunnel->failure.code && !*tunnel->cut && !tunnel->up && *own->why)
		record_add(frame, "reason", own->why);
	describe_request(own, frame);
	if (own->key == own->version && own->key_at)
		record_add(frame, "key-at", own->key_at);
	record_add_number(frame, "asking", tunnel->asking);
	describe_children(tunnel, true, frame);
	describe_children(tunnel, false, frame);
	if (tunnel->child_count && *own->sas.ike)
		record_add(frame, "ike", own->sas.ike);
	if (tunnel->child_count && *own->sas.esp)
		record_add(frame, "esp", own->sas.esp);
	if (own->peers)
		record_append(frame, own->peers);
}
