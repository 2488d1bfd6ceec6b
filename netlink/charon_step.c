/* What is to be done next about a tunnel in charon, and what came of it. */
#include "netlink/charon_part.h"

#include "common/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ATTEMPT_MS 30000 /* until there are SAs */
#define HASTE_MS   400  /* charon has made an IKE SA for what it was to initiate, or says why not */
#define SILENCE_MS 5000 /* or says nothing: it may be slow */
#define CHILD_MS   1500 /* and within that IKE SA the other one */
#define REKEY_MS   10000
#define USE_MS     500
#define FLUSHED_MS 5000
#define LOST_MS    5000

static bool can_initiate(const struct tunnel *tunnel)
{
	return !record_is(tunnel->settings, "remote-address", "any");
}

static void terminate_ike(struct tunnel *tunnel, uint32_t id)
{
	char text[16];

	snprintf(text, sizeof text, "%u", id);
	charon_terminate(tunnel, "ike-id", text);
}

/* --- who the peer is --- */

static bool has_listed(const struct record *listed, const struct field *data)
{
	const struct field *field;

	for (size_t i = 0; (field = record_next(listed, "peer", &i)) != NULL;)
		if (field->length == data->length &&
		    memcmp(field->value, data->value, data->length) == 0)
			return true;
	return false;
}

/* Charon's memory is short: a peer of the same name that it does not know any more is who it was.
 */
static void take_listed(struct charon_tunnel *own)
{
	const char *peer = record_get(own->listed, "peer-id");

	if (!record_find(own->listed, "peer") && own->peers &&
	    record_is(own->peers, "peer-id", peer)) {
		record_free(own->listed);
	} else {
		record_free(own->peers);
		own->peers = own->listed;
	}
	own->listed = NULL;
}

static void certificates_listed(struct vici *vici, int64_t id, const struct record *item,
                                const struct record *answer, const struct error *err, void *user)
{
	struct tunnel *tunnel = ipsec_find(id);
	const struct field *data = item ? record_find(item, "data") : NULL;
	struct charon_tunnel *own = tunnel ? tunnel->charon : NULL;
	struct charon *charon = user;

	(void)vici;
	(void)answer;
	(void)err;
	if (!own || !own->listed)
		return;
	if (item) {
		if (data && !record_is(item, "has_privkey", "yes") &&
		    !has_listed(own->listed, data))
			record_add_bytes(own->listed, "peer", data->value, data->length);
		return;
	}
	own->busy = false;
	take_listed(own);
	if (!record_find(own->peers, "peer") && charon->flushed &&
	    charon_now() - charon->flushed <
	            FLUSHED_MS) { /* it was to forget, a moment too early */
		charon_terminate(tunnel, "ike", own->name);
		return;
	}
	charon->dirty = charon_now();
	tunnel->asking++;
	ipsec_tell(tunnel);
	charon_step(tunnel);
}

/* The last IKE SA that has a child; 0: there is none. */
static uint32_t last_ike(const struct tunnel *tunnel)
{
	uint32_t last = 0;

	for (size_t i = 0; i < tunnel->child_count; i++)
		if (!tunnel->children[i].gone && tunnel->children[i].ike > last)
			last = tunnel->children[i].ike;
	return last;
}

/* True: it was asked for its certificate. */
static bool ask_peer(struct tunnel *tunnel)
{
	struct charon_tunnel *own = tunnel->charon;
	uint32_t last = last_ike(tunnel);
	struct record *message;

	if (!last || last == own->peer_ike)
		return false;
	own->peer_ike = last;
	record_free(own->listed);
	own->listed = charon_message("peer-id", own->sas.peer);
	message = charon_message("type", "X509");
	if (message) {
		record_add(message, "flag", "NONE");
		record_add(message, "subject", own->sas.peer);
	}
	return charon_command(tunnel, "list-certs", message, "list-cert", certificates_listed);
}

/* --- SAs --- */

/* A child of the certificate that is to be used. */
bool charon_has_current(const struct tunnel *tunnel)
{
	const struct charon_tunnel *own = tunnel->charon;

	for (size_t i = 0; i < tunnel->child_count; i++)
		if (!tunnel->children[i].gone && tunnel->children[i].ike > own->old_ike)
			return true;
	return false;
}

/* Charon lists them in no order. */
static bool is_newer(const struct child *child, const struct child *than)
{
	return !than || child->ike > than->ike ||
	       (child->ike == than->ike && child->since > than->since);
}

static const struct child *newest(const struct tunnel *tunnel)
{
	const struct child *found = NULL;

	for (size_t i = 0; i < tunnel->child_count; i++) {
		const struct child *child = &tunnel->children[i];

		if (!child->gone && tunnel_has_child(tunnel, child) && is_newer(child, found))
			found = child;
	}
	return found;
}

/* By then the peer has what it agreed on. */
static void use_newest(struct tunnel *tunnel)
{
	const struct child *child = newest(tunnel);

	if (!child || child->spis.out == tunnel->out || charon_now() < child->since + USE_MS)
		return;
	tunnel->out = child->spis.out;
	ipsec_apply(tunnel);
}

/* The peer, too, had time to use SAs that replace those of an earlier IKE SA. */
static bool is_settled(const struct tunnel *tunnel)
{
	const struct child *child = newest(tunnel);

	return child && child->ike > tunnel->charon->old_ike && child->spis.out == tunnel->out &&
	       charon_now() > child->since + 2 * USE_MS;
}

/* An IKE SA of an earlier certificate; 0: there is none. */
static uint32_t old_ike(const struct charon_tunnel *own)
{
	for (size_t i = 0; i < own->sas.ike_count; i++)
		if (own->sas.ikes[i].id <= own->old_ike)
			return own->sas.ikes[i].id;
	return 0;
}

/* The IKE SA that an attempt has made, or NULL. */
static const struct charon_ike *new_ike(const struct charon_tunnel *own)
{
	for (size_t i = 0; i < own->sas.ike_count; i++)
		if (own->sas.ikes[i].id > own->old_ike)
			return &own->sas.ikes[i];
	return NULL;
}

static void initiated(struct vici *vici, int64_t id, const struct record *item,
                      const struct record *answer, const struct error *err, void *user)
{
	struct tunnel *tunnel = charon_answered(id);

	(void)vici;
	(void)item;
	(void)answer;
	if (!tunnel)
		return;
	if (err)
		charon_fail(tunnel, err->text);
	else
		charon_look(user);
}

static void initiate(struct tunnel *tunnel)
{
	struct charon_tunnel *own = tunnel->charon;
	struct record *message = charon_message("child", own->name);

	if (message) {
		record_add(message, "ike", own->name);
		record_add(message, "timeout", "-1"); /* not to be waited for */
	}
	own->begun = charon_now();
	*own->why = 0;
	charon_command(tunnel, "initiate", message, NULL, initiated);
	ipsec_tell(tunnel);
}

/* An attempt is under way: what has come of it? */
static void follow_attempt(struct tunnel *tunnel)
{
	struct charon_tunnel *own = tunnel->charon;
	const struct charon_ike *ike = new_ike(own);
	uint64_t since = tunnel->space->charon->since, age = charon_now() - own->begun;

	if (age > ATTEMPT_MS)
		charon_fail_attempt(tunnel, "the peer did not answer within 30 s");
	else if (!ike && since > own->begun + (*own->why ? HASTE_MS : SILENCE_MS))
		charon_fail_attempt(tunnel, "charon gave up, and did not say why");
	else if (ike && ike->established && since > own->begun + CHILD_MS)
		charon_fail_attempt(tunnel, "the peer made no SAs for the traffic");
	else
		return;
	if (ike && !own->busy)
		terminate_ike(tunnel, ike->id);
}

/* The kernel has SAs that others are to follow. */
static bool has_some(const struct tunnel *tunnel)
{
	for (size_t i = 0; i < tunnel->child_count; i++)
		if (tunnel_has_child(tunnel, &tunnel->children[i]))
			return true;
	return false;
}

/*
 * An IKE SA whose children charon believes in and the kernel has not: they came while the tunnel
 * was to be down. Nobody else would end it, for its peer answers. 0: there is none.
 */
static uint32_t hollow_ike(const struct tunnel *tunnel)
{
	uint32_t found = 0;

	for (size_t i = 0; i < tunnel->child_count; i++) {
		const struct child *child = &tunnel->children[i];

		if (child->gone)
			continue;
		if (tunnel_has_child(tunnel, child) || charon_now() < child->since + LOST_MS)
			return 0;
		found = child->ike;
	}
	return found;
}

static void attempt(struct tunnel *tunnel)
{
	struct charon_tunnel *own = tunnel->charon;

	if (charon_has_current(tunnel)) {
		own->begun = 0;
		own->failures = 0;
		own->triggered = false;
		*own->why = 0;
	} else if (own->begun) {
		follow_attempt(tunnel);
	} else if ((tunnel->wish == WISH_UP || own->triggered || has_some(tunnel)) &&
	           can_initiate(tunnel) && charon_now() >= own->retry) {
		initiate(tunnel);
	}
}

static uint32_t last_spi(const struct tunnel *tunnel)
{
	const struct child *child = newest(tunnel);

	return child ? child->spis.in : 0;
}

/* True: a command was sent. */
static bool follow_rekey(struct tunnel *tunnel)
{
	struct charon_tunnel *own = tunnel->charon;

	if (own->action != ACTION_REKEY || own->ended)
		return false;
	if (!own->sent && last_spi(tunnel)) {
		own->sent = true;
		own->spi = last_spi(tunnel);
		*own->why = 0;
		return charon_command(tunnel, "rekey", charon_message("child", own->name), NULL,
		                      charon_looks_again);
	}
	if (own->sent && last_spi(tunnel) && last_spi(tunnel) != own->spi)
		charon_end_request(tunnel, NULL);
	else if (charon_now() - own->since > REKEY_MS)
		charon_end_request(tunnel, *own->why ? own->why : "the peer did not take new keys");
	return false;
}

static void follow_request(struct tunnel *tunnel)
{
	const struct charon_tunnel *own = tunnel->charon;

	if (own->action == ACTION_UP || own->action == ACTION_REKEY) {
		if (!charon_is_usable(tunnel))
			charon_end_request(tunnel, *tunnel->cut ? tunnel->cut : "it is not wanted");
		else if (own->sent && !tunnel->sa_count)
			charon_end_request(tunnel, "the SAs went away meanwhile");
	}
	if (own->action == ACTION_DOWN ||
	    (own->action == ACTION_UP && (tunnel->up || !can_initiate(tunnel))))
		charon_end_request(tunnel, NULL);
}

/* The next thing to be done about TUNNEL, one at a time. */
void charon_step(struct tunnel *tunnel)
{
	struct charon_tunnel *own = tunnel->charon;
	const struct charon *charon = tunnel->space->charon;
	uint32_t hollow;

	if (!tunnel->sa_count) /* whoever comes next is asked who it is */
		own->peer_ike = 0;
	follow_request(tunnel);
	if (!charon || !charon->vici || !charon->looked || own->busy)
		return;
	if (!charon_is_usable(tunnel)) {
		charon_dismantle(tunnel);
		return;
	}
	hollow = hollow_ike(tunnel);
	if (hollow) {
		terminate_ike(tunnel, hollow);
		return;
	}
	if (ask_peer(tunnel))
		return;
	if (charon_recalls_key(tunnel))
		return;
	if (own->key != own->version) {
		charon_want_key(tunnel);
		return;
	}
	if (!charon_is_loaded(tunnel) || follow_rekey(tunnel))
		return;
	own->childless &= old_ike(own) != 0;
	use_newest(tunnel);
	if (old_ike(own) && is_settled(tunnel) && tunnel->up)
		terminate_ike(tunnel, old_ike(own));
	else if (*own->old_key && !old_ike(own))
		charon_unload_key(tunnel, own->old_key);
	else
		attempt(tunnel);
}
