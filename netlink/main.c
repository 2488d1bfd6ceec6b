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

#include <errno.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define CONTROL     3
#define FRAME_LIMIT (256u << 10)

static struct {
	uv_loop_t *loop;
	struct channel *store;
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

/* RECORD is taken over. */
static void take_tunnel(struct record *record)
{
	const char *name = record_get(record, "netns");
	int64_t id = record_number(record, "tunnel", 0);
	struct space *space = space_named(name ? name : "");
	struct tunnel *tunnel = ipsec_find(id);

	if (tunnel && tunnel->space != space) { /* it moves */
		ipsec_forget(id);
		tunnel = NULL;
	}
	if (!tunnel)
		tunnel = ipsec_add(id);
	if (!tunnel || !space) {
		log_error("out of memory");
		exit(1);
	}
	tunnel->space = space;
	if (tunnel_read(tunnel, record) < 0) {
		ipsec_tell(tunnel);
		return;
	}
	charon_told(tunnel);
	ipsec_apply(tunnel); /* with those whose frames come behind it */
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
	spaces_apply();
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
		spaces_begin((uint32_t)record_number(record, "range", 0));
	} else if (record_is(record, "frame", "namespace")) {
		space_take(record, fds);
	} else if (record_is(record, "frame", "charon")) {
		take_charon(record, fds);
	} else if (record_is(record, "frame", "crls")) {
		charon_crls(record);
	} else if (record_is(record, "frame", "key")) {
		take_key(record);
	} else if (record_is(record, "frame", "cut")) {
		take_cut(record);
	} else if (record_is(record, "frame", "forget")) {
		ipsec_forget(record_number(record, "tunnel", 0));
	} else if (record_is(record, "frame", "all-told")) {
		spaces_told(record);
	}
	record_free(record);
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
	spaces_start();
	return uv_run(i.loop, UV_RUN_DEFAULT);
}
