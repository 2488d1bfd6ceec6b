/* Whether tunnels may be used: judged as they are told, and looked at again and again. */
#include "pkifs/tunnel_part.h"

#include "common/log.h"
#include "pkifs/engine.h"
#include "pkifs/keyring.h"
#include "pkifs/offer.h"
#include "pkifs/tunnel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CUT_AT_ONCE  4000 /* tunnels of a frame */
#define TRUST_PERIOD 10   /* seconds between two looks at what time may end */
#define PEER_ROUNDS  6    /* of such looks, until all peers had their turn */
#define PEER_AGAIN   60   /* seconds until a peer that was not believed may prove itself anew */

static struct {
	int64_t looked;
	bool look;
	bool all;      /* peers too; else a share of them */
	int64_t round; /* whose turn that is */
} t;

/* The CRLs that VERDICT has are sent once for all whose they are. Inside a change. */
static int tell_crls(struct store *store, struct told *told, struct verdict *verdict)
{
	struct record *frame = verdict->crls;

	if (told->crls_sum == verdict->crls_sum)
		return 0;
	told->crls_sum = verdict->crls_sum;
	verdict->crls = NULL;
	return frame ? store_send_after(store, tunnel_send, frame) : 0;
}

int tunnel_judge(struct store *store, const struct object *object, const struct record *settings,
                 struct told *told, struct verdict **verdicts)
{
	struct verdict *verdict;
	struct trust trust;
	int r;

	free(told->stands_on);
	told->stands_on = tunnel_stands_on(settings);
	r = told->stands_on ? tunnel_verdict(store, told->stands_on, verdicts, &verdict) : -ENOMEM;
	if (r < 0)
		return r;
	r = tell_crls(store, told, verdict);
	if (r < 0)
		return r;
	trust = verdict->trust;
	told->made_of = verdict->made_of;
	r = engine_trust_peer(store, object, settings, &trust);
	if (r < 0)
		return r;
	told->peer = r;
	if (*verdict->trust.cut || !*trust.cut)
		told->peer_cut = 0;
	else if (!told->peer_cut)
		told->peer_cut = store_now(store);
	strcpy(told->trust.cut, trust.cut);
	return 0;
}

/* It may be used, though not all is known (crl-on-download-failure = accept): that is told. */
static int tell_warning(struct store *store, struct told *told, const char *warning)
{
	struct object object;
	int r;

	if (strcmp(warning, told->trust.warning) == 0)
		return 0;
	strcpy(told->trust.warning, warning);
	r = *warning ? db_object_get(store->db, told->object, &object) : 0;
	if (r < 0 || !*warning)
		return r;
	log_warning("tunnel %s: %s", object.name, warning);
	return store_event_for(store, &object, "accepted-unchecked", warning);
}

/* What cuts tunnels for REASON; their numbers are added. The caller's; NULL: no memory. */
static struct record *cut_frame(const char *reason)
{
	struct record *frame = record_new();

	if (frame) {
		record_add(frame, "frame", "cut");
		record_add(frame, "reason", reason);
	}
	return frame;
}

static int add_ended(struct store *store, struct verdict *verdict, const struct told *told)
{
	struct record *frame = verdict->ended;
	int r = 0;

	if (!frame)
		frame = verdict->ended = cut_frame(verdict->trust.cut);
	if (!frame)
		return -ENOMEM;
	record_add_number(frame, "tunnel", told->object);
	if (record_count(frame) >= CUT_AT_ONCE) {
		verdict->ended = NULL;
		r = store_send_after(store, tunnel_send_cut, frame);
	}
	return r;
}

/*
 * The same for its peer. One that is not believed is forgotten after a while: the peer may have
 * another certificate by now. Not all are due in each round.
 */
static int look_at_peer(struct store *store, struct told *told, struct trust *trust)
{
	bool due = t.all || (told->object + t.round) % PEER_ROUNDS == 0;
	struct record *settings = NULL;
	struct object object;
	int r;

	if (told->peer_cut && store_now(store) - told->peer_cut >= PEER_AGAIN) {
		told->peer = false;
		r = db_object_get(store->db, told->object, &object);
		return r < 0 ? r : engine_forget_peer(store, &object);
	}
	if (!due) { /* what was said of it stands */
		if (told->peer_cut)
			*trust = told->trust;
		else if (!*trust->warning)
			memcpy(trust->warning, told->trust.warning, sizeof trust->warning);
		return 0;
	}
	r = db_object_get(store->db, told->object, &object);
	if (r == 0)
		r = store_settings(store, &object, &settings);
	if (r == 0)
		r = engine_trust_peer(store, &object, settings, trust);
	record_free(settings);
	return r < 0 ? r : 0;
}

static int cut_for_peer(struct store *store, struct told *told, const char *reason)
{
	struct record *frame = cut_frame(reason);

	if (!frame)
		return -ENOMEM;
	told->peer_cut = store_now(store);
	record_add_number(frame, "tunnel", told->object);
	return store_send_after(store, tunnel_send_cut, frame);
}

/* A tunnel whose trust is another one now is told so. */
static int look_at(struct store *store, struct told *told, struct verdict **verdicts)
{
	struct verdict *verdict;
	struct object object;
	struct trust trust;
	int r = tunnel_verdict(store, told->stands_on, verdicts, &verdict);

	if (r == 0)
		r = tell_crls(store, told, verdict);
	if (r < 0)
		return r;
	trust = verdict->trust;
	if (told->peer && !*trust.cut)
		r = look_at_peer(store, told, &trust);
	if (r == 0)
		r = tell_warning(store, told, trust.warning);
	if (r < 0 || (strcmp(trust.cut, told->trust.cut) == 0 && told->made_of == verdict->made_of))
		return r;
	if (*verdict->trust.cut)
		return add_ended(store, verdict, told);
	if (*trust.cut)
		return cut_for_peer(store, told, trust.cut);
	r = db_object_get(store->db, told->object, &object);
	return r < 0 ? r : tunnel_tell(store, &object);
}

static int send_ended(struct store *store, struct verdict *verdicts, int r)
{
	for (struct verdict *verdict = verdicts; r == 0 && verdict; verdict = verdict->next) {
		if (verdict->ended)
			r = store_send_after(store, tunnel_send_cut, verdict->ended);
		verdict->ended = NULL;
	}
	verdicts_free(verdicts);
	return r;
}

int tunnel_look_at(struct store *store, struct told *told)
{
	struct verdict *verdicts = NULL;
	int r;

	if (!told->stands_on)
		return 0;
	t.all = true;
	r = look_at(store, told, &verdicts);
	return send_ended(store, verdicts, r);
}

int tunnel_look_at_all(struct store *store)
{
	struct verdict *verdicts = NULL;
	struct told *told = NULL;
	int r = 0;

	t.round++;
	while (r == 0 && (told = told_next(told)))
		if (told->stands_on)
			r = look_at(store, told, &verdicts);
	return send_ended(store, verdicts, r);
}

void tunnels_look(struct store *store)
{
	t.look = store->due = true;
	keyrings_look(store);
	offer_look(store);
}

bool tunnels_look_due(int64_t now)
{
	if (!t.look && now - t.looked < TRUST_PERIOD && now >= t.looked)
		return false;
	t.all = t.look;
	t.look = false;
	t.looked = now;
	return true;
}
