/* The connection to charon, and what it tells: its SAs, its events, its log. */
#include "netlink/charon_part.h"

#include "common/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASK_MS   1000 /* between two tries to reach charon */
#define GONE_MS  60000
#define QUIET_MS 1000 /* behind the last peer that was asked for its certificate */

/* The tunnel of a connection's NAME, as long as the store knows it. */
struct tunnel *charon_named(const struct space *space, const char *name)
{
	unsigned reqid;
	struct tunnel *tunnel;

	if (sscanf(name, "pkifs-%u", &reqid) != 1 || !space_is_ours(space, reqid))
		return NULL;
	tunnel = ipsec_find(reqid - space->range);
	return tunnel && tunnel->charon && tunnel->space == space ? tunnel : NULL;
}

/* The tunnel that a message is about, by its first section. */
static struct tunnel *about(const struct space *space, const struct record *message)
{
	for (size_t i = 0; i < record_count(message); i++)
		if (strchr(record_field(message, i)->key, '.'))
			return charon_named(space, record_field(message, i)->key);
	return NULL;
}

/* --- looks --- */

static bool has_pair(const struct charon_sas *sas, const struct sa_pair *pair)
{
	for (size_t i = 0; i < sas->child_count; i++)
		if (sas->children[i].spis.in == pair->in && sas->children[i].spis.out == pair->out)
			return true;
	return false;
}

static const struct child *known_child(const struct tunnel *tunnel, const struct sa_pair *pair)
{
	for (size_t i = 0; i < tunnel->child_count; i++)
		if (tunnel->children[i].spis.in == pair->in &&
		    tunnel->children[i].spis.out == pair->out)
			return &tunnel->children[i];
	return NULL;
}

/* The children that charon has; those that it has not any more stay as long as the kernel has them,
 * and a while, should they turn up again. True: something changed. */
static bool merge(struct tunnel *tunnel)
{
	struct charon_tunnel *own = tunnel->charon;
	struct child merged[CHILDREN];
	size_t count = 0;
	bool changed;

	for (size_t i = 0; i < tunnel->child_count && count < CHILDREN / 2; i++) {
		struct child child = tunnel->children[i];
		bool was_gone = child.gone;

		child.gone = !has_pair(&own->sas, &child.spis);
		if (child.gone && !was_gone)
			child.since = charon_now();
		if (child.gone &&
		    (tunnel_has_child(tunnel, &child) || charon_now() < child.since + GONE_MS))
			merged[count++] = child;
	}
	for (size_t i = 0; i < own->sas.child_count && count < CHILDREN; i++) {
		struct child child = own->sas.children[i];
		const struct child *known = known_child(tunnel, &child.spis);

		child.since = known ? known->since : charon_now();
		if (known)
			child.version = known->version;
		else if (child.ike > own->old_ike)
			child.version = own->key;
		merged[count++] = child;
	}
	changed = count != tunnel->child_count;
	for (size_t i = 0; !changed && i < count; i++)
		changed = merged[i].spis.in != tunnel->children[i].spis.in ||
		          merged[i].gone != tunnel->children[i].gone;
	if (count)
		memcpy(tunnel->children, merged, count * sizeof *merged);
	tunnel->child_count = count;
	return changed;
}

static void after_look(struct tunnel *tunnel)
{
	tunnel->charon->sas = tunnel->charon->found;
	if (merge(tunnel))
		ipsec_apply(tunnel);
	charon_step(tunnel);
}

static void seen(struct vici *vici, int64_t id, const struct record *item,
                 const struct record *answer, const struct error *err, void *user)
{
	struct charon *charon = user;
	struct tunnel *tunnel = item ? about(charon->space, item) : NULL;

	(void)id;
	(void)answer;
	if (tunnel)
		charon_sas_read(item, tunnel->charon->name, &tunnel->charon->found);
	if (item)
		return;
	charon->looking = false;
	charon->looked = charon->looked || !err;
	charon->since = charon_now();
	for (tunnel = ipsec_next(0); !err && tunnel; tunnel = ipsec_next(tunnel->id))
		if (tunnel->charon && tunnel->space == charon->space)
			after_look(tunnel);
	if (charon->again && charon->vici == vici)
		charon_look(charon);
}

/* Asks charon what it has. */
void charon_look(struct charon *charon)
{
	if (!charon->vici)
		return;
	charon->again = charon->looking;
	if (charon->looking)
		return;
	for (struct tunnel *tunnel = ipsec_next(0); tunnel; tunnel = ipsec_next(tunnel->id))
		if (tunnel->charon)
			tunnel->charon->found = (struct charon_sas){ 0 };
	charon->looking = vici_call(charon->vici, "list-sas", NULL, "list-sa", seen, 0) == 0;
}

/* --- the connection to charon --- */

/* What of charon's log tells why there are no SAs. */
static bool tells_why(const char *line)
{
	static const char *const words[] = { "notify error", "no trusted",     "constraint",
		                             "unacceptable", "giving up",      "no private key",
		                             "revoked",      "failed",         "no issuer",
		                             "unable",       "no matching",    "no proposal",
		                             "not found",    "did not answer", "untrusted" };

	for (size_t i = 0; i < COUNT(words); i++)
		if (strstr(line, words[i]))
			return true;
	return false;
}

static void hear_log(const struct charon *charon, const struct record *message)
{
	const char *name = record_get(message, "ikesa-name"), *line = record_get(message, "msg");
	struct tunnel *tunnel = name ? charon_named(charon->space, name) : NULL;
	char why[256];
	int length;

	if (!tunnel || !line || *tunnel->charon->why || !tells_why(line))
		return;
	for (length = (int)strlen(line); length > 0 && line[length - 1] == ' ';)
		length--;
	snprintf(why, sizeof why, "charon says: %.*s", length, line);
	charon_set_why(tunnel, why);
}

/* Both ends have the new SAs: the peer has said so, or was told. */
static void hear_rekey(struct tunnel *tunnel, const struct record *message)
{
	static const char end[] = ".new.spi-out";

	for (size_t i = 0; i < record_count(message); i++) {
		const struct field *field = record_field(message, i);
		size_t length = strlen(field->key);

		if (length < sizeof end || strcmp(field->key + length + 1 - sizeof end, end) != 0)
			continue;
		tunnel->out = (uint32_t)strtoul(field->value, NULL, 16);
		ipsec_apply(tunnel);
	}
}

static void event(struct vici *vici, const char *name, const struct record *message, void *user)
{
	struct charon *charon = user;
	struct tunnel *tunnel;

	(void)vici;
	if (strcmp(name, "log") == 0) {
		hear_log(charon, message);
		return;
	}
	tunnel = about(charon->space, message);
	if (tunnel && strcmp(name, "child-rekey") == 0)
		hear_rekey(tunnel, message);
	if (tunnel)
		charon_look(charon);
}

/* Tells the store of all tunnels that need CHARON. */
static void tell_all(const struct charon *charon)
{
	for (struct tunnel *tunnel = ipsec_next(0); tunnel; tunnel = ipsec_next(tunnel->id))
		if (tunnel->charon && tunnel->space == charon->space)
			ipsec_tell(tunnel);
}

static void lose(struct charon *charon, const char *why)
{
	bool new = strcmp(charon->reason, why) != 0;

	snprintf(charon->reason, sizeof charon->reason, "%s", why);
	for (struct tunnel *tunnel = ipsec_next(0); tunnel; tunnel = ipsec_next(tunnel->id))
		if (tunnel->charon && tunnel->space == charon->space &&
		    tunnel->charon->action != ACTION_NONE && charon_is_usable(tunnel))
			charon_end_request(tunnel, why);
	if (new)
		tell_all(charon);
}

/* Another charon knows nothing of what this one was told. */
static void forget_told(struct charon_tunnel *own)
{
	record_free(own->loaded);
	own->loaded = NULL;
	own->clean = own->busy = false;
	own->key = own->asked = own->handed = 0;
	own->key_at = NULL;
	own->begun = own->retry = 0;
	own->failures = 0;
	own->old_ike = own->peer_ike = 0;
	*own->key_id = *own->old_key = 0;
	own->sas = own->found = (struct charon_sas){ 0 };
}

static void gone(struct vici *vici, const struct error *err, void *user)
{
	struct charon *charon = user;

	log_warning("%s", err->text);
	charon->vici = NULL;
	charon->looking = charon->looked = charon->again = false;
	charon->next = charon_now() + ASK_MS;
	vici_close(vici);
	for (struct tunnel *tunnel = ipsec_next(0); tunnel; tunnel = ipsec_next(tunnel->id))
		if (tunnel->charon && tunnel->space == charon->space)
			forget_told(tunnel->charon);
	lose(charon, err->text);
}

static void stats_told(struct vici *vici, int64_t id, const struct record *item,
                       const struct record *answer, const struct error *err, void *user)
{
	struct charon *charon = user;
	const struct field *field;

	(void)vici;
	(void)id;
	(void)item;
	charon->tokens = false;
	for (size_t i = 0; !err && (field = record_next(answer, "plugins[]", &i)) != NULL;)
		charon->tokens |= strcmp(field->value, "pkcs11") == 0;
}

/* Connections of tunnels that are not there any more. */
static void conns_listed(struct vici *vici, int64_t id, const struct record *item,
                         const struct record *answer, const struct error *err, void *user)
{
	struct charon *charon = user;
	const struct field *field;
	unsigned reqid;

	(void)id;
	(void)item;
	for (size_t i = 0; !err && (field = record_next(answer, "conns[]", &i)) != NULL;) {
		struct record *unload, *end;

		if (sscanf(field->value, "pkifs-%u", &reqid) != 1 ||
		    !space_is_ours(charon->space, reqid) ||
		    charon_named(charon->space, field->value))
			continue;
		unload = charon_message("name", field->value);
		end = charon_message("ike", field->value);
		vici_call(vici, "unload-conn", unload, NULL, NULL, 0);
		vici_call(vici, "terminate", end, NULL, NULL, 0);
		record_free(unload);
		record_free(end);
	}
}

void charon_socket(struct space *space, int *fd, const char *reason)
{
	static const char *const events[] = { "list-sa",     "list-cert",  "child-updown",
		                              "child-rekey", "ike-updown", "ike-rekey",
		                              "log" };
	struct charon *charon = space->charon;

	if (!charon || charon->vici)
		return;
	if (*fd >= 0)
		charon->vici = vici_open(ipsec_loop(), *fd, event, gone, charon);
	if (!charon->vici) {
		lose(charon, reason ? reason : "charon cannot be spoken with: out of memory");
		return;
	}
	*fd = -1;
	*charon->reason = 0;
	for (size_t i = 0; i < COUNT(events); i++)
		vici_register(charon->vici, events[i]);
	vici_call(charon->vici, "stats", NULL, NULL, stats_told, 0);
	vici_call(charon->vici, "get-conns", NULL, NULL, conns_listed, 0);
	charon_push_crls(charon);
	charon_look(charon);
}

static bool is_attempting(const struct charon *charon)
{
	for (struct tunnel *tunnel = ipsec_next(0); tunnel; tunnel = ipsec_next(tunnel->id))
		if (tunnel->charon && tunnel->space == charon->space &&
		    (tunnel->charon->begun ||
		     (tunnel->charon->action == ACTION_REKEY && !tunnel->charon->ended)))
			return true;
	return false;
}

static void ask_for(struct charon *charon)
{
	struct record *frame;

	if (charon_now() < charon->next)
		return;
	charon->next = charon_now() + ASK_MS;
	frame = ipsec_frame("want-charon");
	if (frame)
		record_add(frame, "netns", charon->space->name);
	ipsec_send(frame);
}

/* What was read is forgotten, in a quiet moment: so the next peer's certificate is found alone. */
static void forget_certificates(struct charon *charon)
{
	struct record *message;

	if (!charon->dirty || charon_now() < charon->dirty + QUIET_MS)
		return;
	message = charon_message("type", "X509");
	charon->dirty = 0;
	charon->flushed = charon_now();
	if (message)
		vici_call(charon->vici, "flush-certs", message, NULL, NULL, 0);
	record_free(message);
}

void charon_attend(struct charon *charon)
{
	if (!charon->vici)
		ask_for(charon);
	else if (is_attempting(charon))
		charon_look(charon);
	else
		forget_certificates(charon);
}
