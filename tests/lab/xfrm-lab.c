/*
 * SAs and policies by netlink/, one line of standard input each, as words:
 *
 *   sa SRC DST SPI REQID MODE PROPOSAL HEXKEY [NAME=NUMBER]...
 *   delete-sa DST SPI
 *   policy DIR SRC/LENGTH DST/LENGTH allow|block [TSRC TDST SPI REQID MODE] [NAME=NUMBER]...
 *   delete-policy DIR SRC/LENGTH DST/LENGTH [NAME=NUMBER]...
 *   flush-mark MARK     what has that mark, with a mask of 255
 *   natt 4|6 PORT       a socket there, that ESP is taken out of UDP at
 *   ike ADDRESS PORT WORD, keepalive ADDRESS PORT    sends them from it
 *   heard               what came there, but for ESP: a line each
 *   follow IN OUT       the SAs of these SPIs go where the last mapping event says
 *   sas, policies       a line each
 *   events              what was told since
 *
 * Each is answered by lines, then "ok" or "failed: WHY". Weak algorithms are taken.
 */
#include "netlink/natt.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/udp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WORDS 24

static struct xfrm *xfrm;
static int monitor;
static struct error failure;

static void failed(void *about, const struct error *err, void *user)
{
	(void)about;
	(void)user;
	failure = *err;
}

static int family_of(const char *text)
{
	return strchr(text, ':') ? AF_INET6 : AF_INET;
}

static int address(const char *text, void *to)
{
	return inet_pton(family_of(text), text, to) == 1 ? 0 : -EINVAL;
}

static uint8_t mode(const char *text)
{
	return strcmp(text, "transport") == 0 ? XFRM_MODE_TRANSPORT : XFRM_MODE_TUNNEL;
}

/* The number of NAME=NUMBER among WORDS, or 0. */
static uint64_t option(char **words, const char *name)
{
	size_t length = strlen(name);

	for (; *words; words++)
		if (strncmp(*words, name, length) == 0 && (*words)[length] == '=')
			return strtoull(*words + length + 1, NULL, 0);
	return 0;
}

static void set_limit(__u64 *limit, uint64_t number)
{
	if (number)
		*limit = number;
}

static void sa_options(char **words, struct sa *sa)
{
	uint16_t port = (uint16_t)option(words, "encap"), to = (uint16_t)option(words, "encap-to");

	sa->replay_window = (uint32_t)option(words, "window");
	sa->mark = (struct xfrm_mark){ .v = (uint32_t)option(words, "mark") };
	sa->mark.m = sa->mark.v ? 255 : 0;
	sa->output_mark = (struct xfrm_mark){ .v = (uint32_t)option(words, "output-mark") };
	sa->output_mark.m = sa->output_mark.v ? 255 : 0;
	sa->if_id = (uint32_t)option(words, "if-id");
	sa->offload.ifindex = (int)option(words, "offload");
	if (port)
		sa->encap = (struct xfrm_encap_tmpl){ .encap_type = UDP_ENCAP_ESPINUDP,
			                              .encap_sport = htons(port),
			                              .encap_dport = htons(to ? to : port) };
	lifetime_endless(&sa->info.lft);
	set_limit(&sa->info.lft.soft_packet_limit, option(words, "soft-packets"));
	set_limit(&sa->info.lft.hard_packet_limit, option(words, "hard-packets"));
	set_limit(&sa->info.lft.soft_byte_limit, option(words, "soft-bytes"));
	set_limit(&sa->info.lft.hard_byte_limit, option(words, "hard-bytes"));
	set_limit(&sa->info.lft.hard_add_expires_seconds, option(words, "hard-seconds"));
}

static int add_sa(char **words)
{
	struct sa sa = { .info = { .family = (uint16_t)family_of(words[1]),
		                   .mode = mode(words[5]),
		                   .reqid = (uint32_t)strtoul(words[4], NULL, 0),
		                   .id.proto = IPPROTO_ESP,
		                   .id.spi = htonl((uint32_t)strtoul(words[3], NULL, 0)) } };
	const char *hex = words[7];
	int r = address(words[1], &sa.info.saddr);

	if (r == 0)
		r = address(words[2], &sa.info.id.daddr);
	if (r == 0)
		r = proposal_read(words[6], false, true, &sa.proposal, &failure);
	for (size_t i = 0; r == 0 && i < proposal_key_size(&sa.proposal); i++, hex += 2)
		if (sscanf(hex, "%2hhx", &sa.key[i]) != 1)
			r = error_set(&failure, -EINVAL, "the key is too short");
	sa_options(words + 8, &sa);
	if (sa.info.mode == XFRM_MODE_TUNNEL)
		sa.info.flags |= XFRM_STATE_AF_UNSPEC;
	return r < 0 ? r : xfrm_sa_add(xfrm, &sa, false, NULL);
}

static int delete_sa(char **words)
{
	struct sa sa = { .info = { .family = (uint16_t)family_of(words[1]),
		                   .id.proto = IPPROTO_ESP,
		                   .id.spi = htonl((uint32_t)strtoul(words[2], NULL, 0)) } };
	int r = address(words[1], &sa.info.id.daddr);

	return r < 0 ? r : xfrm_sa_delete(xfrm, &sa, NULL);
}

static int network(char *text, xfrm_address_t *to, uint8_t *length)
{
	char *slash = strchr(text, '/');

	if (!slash)
		return -EINVAL;
	*slash = 0;
	*length = (uint8_t)atoi(slash + 1);
	return address(text, to);
}

static int change_policy(char **words, bool delete)
{
	struct policy policy = { .info = { .priority = 1000 } };
	struct xfrm_selector *sel = &policy.info.sel;
	int r;

	policy.info.dir = strcmp(words[1], "in") == 0    ? XFRM_POLICY_IN
	                  : strcmp(words[1], "out") == 0 ? XFRM_POLICY_OUT
	                                                 : XFRM_POLICY_FWD;
	sel->family = (uint16_t)family_of(words[2]);
	r = network(words[2], &sel->saddr, &sel->prefixlen_s);
	if (r == 0)
		r = network(words[3], &sel->daddr, &sel->prefixlen_d);
	policy.if_id = (uint32_t)option(words, "if-id");
	policy.mark = (struct xfrm_mark){ .v = (uint32_t)option(words, "mark") };
	policy.mark.m = policy.mark.v ? 255 : 0;
	if (r < 0 || delete)
		return r < 0 ? r : xfrm_policy_delete(xfrm, &policy, NULL);
	lifetime_endless(&policy.info.lft);
	policy.info.action = strcmp(words[4], "block") == 0 ? XFRM_POLICY_BLOCK : XFRM_POLICY_ALLOW;
	if (words[5] && !strchr(words[5], '=')) {
		struct xfrm_user_tmpl *template = &policy.template;

		template->family = (uint16_t)family_of(words[5]);
		template->id.proto = IPPROTO_ESP;
		template->id.spi = htonl((uint32_t)strtoul(words[7], NULL, 0));
		template->reqid = (uint32_t)strtoul(words[8], NULL, 0);
		template->mode = mode(words[9]);
		template->aalgos = template->ealgos = template->calgos = UINT32_MAX;
		r = address(words[5], &template->saddr);
		if (r == 0)
			r = address(words[6], &template->id.daddr);
	}
	return r < 0 ? r : xfrm_policy_add(xfrm, &policy, true, NULL);
}

static int natt = -1;
static struct xfrm_event mapping;

static int open_natt(char **words)
{
	int family = words[1][0] == '6' ? AF_INET6 : AF_INET;

	if (natt >= 0)
		close(natt);
	natt = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return natt < 0 ? -errno : natt_open(natt, family, (uint16_t)atoi(words[2]));
}

static int send_natt(char **words)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
		                  .sin_port = htons((uint16_t)atoi(words[2])) };
	int r = address(words[1], &to.sin_addr);

	if (r < 0)
		return r;
	return words[3] ? natt_send(natt, (void *)&to, sizeof to, words[3], strlen(words[3]))
	                : natt_keepalive(natt, (void *)&to, sizeof to);
}

static int show_heard(void)
{
	struct sockaddr_storage from;
	char message[100], text[INET6_ADDRSTRLEN];
	ssize_t size;

	while ((size = natt_receive(natt, message, sizeof message, &from)) >= 0) {
		const struct sockaddr_in *in = (void *)&from;

		printf("%s %u %.*s\n", inet_ntop(AF_INET, &in->sin_addr, text, sizeof text),
		       ntohs(in->sin_port), (int)size, message);
	}
	return size == -EAGAIN ? 0 : (int)size;
}

struct wanted {
	uint32_t spi;
	struct sa sa;
};

static void find_sa(const struct sa *sa, void *user)
{
	struct wanted *wanted = user;

	if (ntohl(sa->info.id.spi) == wanted->spi)
		wanted->sa = *sa;
}

static int follow(char **words)
{
	struct wanted in = { .spi = (uint32_t)strtoul(words[1], NULL, 0) };
	struct wanted out = { .spi = (uint32_t)strtoul(words[2], NULL, 0) };
	int r = xfrm_sa_dump(xfrm, find_sa, NULL, &in);

	if (r == 0)
		r = xfrm_sa_dump(xfrm, find_sa, NULL, &out);
	return r < 0 ? r : natt_follow(xfrm, &mapping, &in.sa, &out.sa, NULL);
}

static void show_sa(const struct sa *sa, void *user)
{
	(void)user;
	printf("spi=0x%x reqid=%u packets=%llu window=%u esn=%d encap=%u mark=%u if-id=%u\n",
	       ntohl(sa->info.id.spi), sa->info.reqid, (unsigned long long)sa->info.curlft.packets,
	       sa->replay_window ? sa->replay_window : sa->info.replay_window,
	       (sa->info.flags & XFRM_STATE_ESN) != 0, ntohs(sa->encap.encap_dport), sa->mark.v,
	       sa->if_id);
}

static void show_policy(const struct policy *policy, void *user)
{
	(void)user;
	if (policy->info.dir > XFRM_POLICY_FWD) /* a socket's own */
		return;
	printf("dir=%u action=%u reqid=%u spi=0x%x mark=%u\n", policy->info.dir,
	       policy->info.action, policy->template.reqid, ntohl(policy->template.id.spi),
	       policy->mark.v);
}

static void show_event(const struct xfrm_event *event, void *user)
{
	static const char *const names[] = { "acquire",  "expire", "sa",          "sa-gone",
		                             "sa-flush", "policy", "policy-gone", "policy-flush",
		                             "mapping",  "lost" };

	(void)user;
	if (event->kind == XFRM_EVENT_MAPPING)
		mapping = *event;
	printf("%s%s spi=0x%x reqid=%u from=%u\n", names[event->kind],
	       event->kind == XFRM_EVENT_EXPIRE ? event->hard ? "-hard" : "-soft" : "",
	       ntohl(event->sa.info.id.spi),
	       event->kind == XFRM_EVENT_ACQUIRE ? event->policy.template.reqid
	                                         : event->sa.info.reqid,
	       ntohs(event->from_port));
}

static int run(char **words)
{
	if (strcmp(words[0], "sa") == 0)
		return add_sa(words);
	if (strcmp(words[0], "delete-sa") == 0)
		return delete_sa(words);
	if (strcmp(words[0], "policy") == 0)
		return change_policy(words, false);
	if (strcmp(words[0], "delete-policy") == 0)
		return change_policy(words, true);
	if (strcmp(words[0], "flush-mark") == 0)
		return xfrm_flush_mark(xfrm, (struct xfrm_mark){ (uint32_t)atoi(words[1]), 255 });
	if (strcmp(words[0], "natt") == 0)
		return open_natt(words);
	if (strcmp(words[0], "ike") == 0 || strcmp(words[0], "keepalive") == 0)
		return send_natt(words);
	if (strcmp(words[0], "heard") == 0)
		return show_heard();
	if (strcmp(words[0], "follow") == 0)
		return follow(words);
	if (strcmp(words[0], "sas") == 0)
		return xfrm_sa_dump(xfrm, show_sa, NULL, NULL);
	if (strcmp(words[0], "policies") == 0)
		return xfrm_policy_dump(xfrm, show_policy, NULL, NULL);
	if (strcmp(words[0], "events") == 0)
		return xfrm_events(monitor, show_event, NULL);
	return -EINVAL;
}

int main(void)
{
	char line[1024];

	xfrm = xfrm_open(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_XFRM), failed, NULL);
	monitor = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_XFRM);
	if (!xfrm || xfrm_listen(monitor) < 0)
		return 1;
	while (fgets(line, sizeof line, stdin)) {
		char *words[WORDS + 1] = { NULL }, *rest = line;
		int r;

		for (size_t i = 0; i < WORDS && (words[i] = strtok_r(rest, " \n", &rest)); i++)
			continue;
		failure = (struct error){ 0 };
		r = run(words);
		if (r == 0)
			r = xfrm_flush(xfrm);
		if (r < 0 && !failure.code)
			error_set(&failure, r, "%s", strerror(-r));
		printf(failure.code ? "failed: %s\n" : "ok\n", failure.text);
		fflush(stdout);
	}
	return 0;
}
