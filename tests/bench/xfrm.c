/*
 * How fast SAs and policies get into the kernel: by netlink/, and by libnl-xfrm, a message at a
 * time. tests/bench/xfrm runs it beside `ip -batch`.
 *
 *   bench-xfrm ours|libnl|ip COUNT    `ip` prints the batches for it: sa.batch, policy.batch
 */
#include "netlink/xfrm.h"

#include <arpa/inet.h>
#include <netlink/netlink.h>
#include <netlink/xfrm/lifetime.h>
#include <netlink/xfrm/sa.h>
#include <netlink/xfrm/selector.h>
#include <netlink/xfrm/sp.h>
#include <netlink/xfrm/template.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define KEY_BYTES 36
#define REQID     1u
#define FIRST_SPI 0x10000u

/* Each policy is for another host. */
static uint32_t host(unsigned i)
{
	return htonl(10u << 24 | 128u << 16 | i);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fail(const char *what)
{
	fprintf(stderr, "bench-xfrm: %s\n", what);
	exit(1);
}

static void refused(void *about, const struct error *err, void *user)
{
	(void)about;
	(void)user;
	fail(err->text);
}

static void ours_sa(struct xfrm *xfrm, const struct proposal *proposal, unsigned i)
{
	struct sa sa = { .proposal = *proposal,
		         .info = { .family = AF_INET,
		                   .reqid = REQID + i,
		                   .mode = XFRM_MODE_TUNNEL,
		                   .replay_window = 32 } };

	sa.info.saddr.a4 = inet_addr("192.0.2.1");
	sa.info.id.daddr.a4 = inet_addr("192.0.2.2");
	sa.info.id.spi = htonl(FIRST_SPI + i);
	sa.info.id.proto = IPPROTO_ESP;
	lifetime_endless(&sa.info.lft);
	memset(sa.key, (int)i, KEY_BYTES);
	if (xfrm_sa_add(xfrm, &sa, false, NULL) < 0)
		fail("no SA");
}

static void ours_policy(struct xfrm *xfrm, unsigned i)
{
	struct policy policy = {
		.info = { .dir = XFRM_POLICY_OUT, .priority = 1000 },
		.template = { .family = AF_INET, .reqid = REQID + i, .mode = XFRM_MODE_TUNNEL }
	};
	struct xfrm_selector *sel = &policy.info.sel;

	sel->family = AF_INET;
	sel->saddr.a4 = host(i);
	sel->prefixlen_s = 32;
	sel->daddr.a4 = inet_addr("10.2.0.0");
	sel->prefixlen_d = 24;
	policy.template.saddr.a4 = inet_addr("192.0.2.1");
	policy.template.id.daddr.a4 = inet_addr("192.0.2.2");
	policy.template.id.proto = IPPROTO_ESP;
	policy.template.aalgos = policy.template.ealgos = policy.template.calgos = UINT32_MAX;
	lifetime_endless(&policy.info.lft);
	if (xfrm_policy_add(xfrm, &policy, false, NULL) < 0)
		fail("no policy");
}

static struct nl_addr *nl_host(uint32_t address)
{
	return nl_addr_build(AF_INET, &address, sizeof address);
}

static struct xfrmnl_ltime_cfg *nl_endless(void)
{
	struct xfrmnl_ltime_cfg *lifetime = xfrmnl_ltime_cfg_alloc();

	xfrmnl_ltime_cfg_set_soft_bytelimit(lifetime, XFRM_INF);
	xfrmnl_ltime_cfg_set_hard_bytelimit(lifetime, XFRM_INF);
	xfrmnl_ltime_cfg_set_soft_packetlimit(lifetime, XFRM_INF);
	xfrmnl_ltime_cfg_set_hard_packetlimit(lifetime, XFRM_INF);
	return lifetime;
}

static void libnl_sa(struct nl_sock *socket, unsigned i)
{
	struct xfrmnl_ltime_cfg *lifetime = nl_endless();
	struct xfrmnl_sa *sa = xfrmnl_sa_alloc();
	struct nl_addr *from = nl_host(inet_addr("192.0.2.1")),
		       *to = nl_host(inet_addr("192.0.2.2"));
	char key[KEY_BYTES];

	memset(key, (int)i, sizeof key);
	xfrmnl_sa_set_saddr(sa, from);
	xfrmnl_sa_set_daddr(sa, to);
	xfrmnl_sa_set_spi(sa, FIRST_SPI + i);
	xfrmnl_sa_set_proto(sa, IPPROTO_ESP);
	xfrmnl_sa_set_family(sa, AF_INET);
	xfrmnl_sa_set_reqid(sa, REQID + i);
	xfrmnl_sa_set_mode(sa, XFRM_MODE_TUNNEL);
	xfrmnl_sa_set_replay_window(sa, 32);
	xfrmnl_sa_set_lifetime_cfg(sa, lifetime);
	xfrmnl_sa_set_aead_params(sa, "rfc4106(gcm(aes))", KEY_BYTES * 8, 128, key);
	if (xfrmnl_sa_add(socket, sa, 0) < 0)
		fail("libnl: no SA");
	xfrmnl_ltime_cfg_put(lifetime);
	nl_addr_put(from);
	nl_addr_put(to);
	xfrmnl_sa_put(sa);
}

static void libnl_policy(struct nl_sock *socket, unsigned i)
{
	struct nl_addr *addresses[] = { nl_host(host(i)), nl_host(inet_addr("10.2.0.0")),
		                        nl_host(inet_addr("192.0.2.1")),
		                        nl_host(inet_addr("192.0.2.2")) };
	struct xfrmnl_ltime_cfg *lifetime = nl_endless();
	struct xfrmnl_user_tmpl *template = xfrmnl_user_tmpl_alloc();
	struct xfrmnl_sel *sel = xfrmnl_sel_alloc();
	struct xfrmnl_sp *policy = xfrmnl_sp_alloc();

	xfrmnl_sel_set_family(sel, AF_INET);
	xfrmnl_sel_set_saddr(sel, addresses[0]);
	xfrmnl_sel_set_prefixlen_s(sel, 32);
	xfrmnl_sel_set_daddr(sel, addresses[1]);
	xfrmnl_sel_set_prefixlen_d(sel, 24);
	xfrmnl_sp_set_sel(policy, sel);
	xfrmnl_sp_set_lifetime_cfg(policy, lifetime);
	xfrmnl_sp_set_dir(policy, XFRM_POLICY_OUT);
	xfrmnl_sp_set_action(policy, XFRM_POLICY_ALLOW);
	xfrmnl_sp_set_priority(policy, 1000);
	xfrmnl_sp_set_share(policy, XFRM_SHARE_ANY);
	xfrmnl_user_tmpl_set_family(template, AF_INET);
	xfrmnl_user_tmpl_set_saddr(template, addresses[2]);
	xfrmnl_user_tmpl_set_daddr(template, addresses[3]);
	xfrmnl_user_tmpl_set_proto(template, IPPROTO_ESP);
	xfrmnl_user_tmpl_set_reqid(template, REQID + i);
	xfrmnl_user_tmpl_set_mode(template, XFRM_MODE_TUNNEL);
	xfrmnl_user_tmpl_set_aalgos(template, ~0u);
	xfrmnl_user_tmpl_set_ealgos(template, ~0u);
	xfrmnl_user_tmpl_set_calgos(template, ~0u);
	xfrmnl_sp_add_usertemplate(policy, template);
	if (xfrmnl_sp_add(socket, policy, 0) < 0)
		fail("libnl: no policy");
	for (size_t k = 0; k < COUNT(addresses); k++)
		nl_addr_put(addresses[k]);
	xfrmnl_sel_put(sel);
	xfrmnl_ltime_cfg_put(lifetime);
	xfrmnl_sp_put(policy);
}

static void print_batches(unsigned count)
{
	FILE *sas = fopen("sa.batch", "w"), *policies = fopen("policy.batch", "w");

	if (!sas || !policies)
		fail("no file");
	for (unsigned i = 0; i < count; i++) {
		uint32_t address = ntohl(host(i));

		fprintf(sas,
		        "xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x%x reqid %u "
		        "mode tunnel replay-window 32 aead rfc4106(gcm(aes)) 0x%072x 128\n",
		        FIRST_SPI + i, REQID + i, i + 1);
		fprintf(policies,
		        "xfrm policy add src 10.%u.%u.%u/32 dst 10.2.0.0/24 dir out priority 1000 "
		        "tmpl src 192.0.2.1 dst 192.0.2.2 proto esp reqid %u mode tunnel\n",
		        address >> 16 & 255, address >> 8 & 255, address & 255, REQID + i);
	}
	if (fclose(sas) || fclose(policies))
		fail("no file");
}

static void tell(const char *what, unsigned count, double begin)
{
	printf("%s %.0f\n", what, count / (now() - begin));
}

static void measure_ours(unsigned count)
{
	struct xfrm *xfrm = xfrm_open(socket(AF_NETLINK, SOCK_RAW, NETLINK_XFRM), refused, NULL);
	struct proposal proposal;
	double begin = now();

	proposal_read("aes256gcm16", false, false, &proposal, NULL);
	for (unsigned i = 0; i < count; i++)
		ours_sa(xfrm, &proposal, i);
	if (!xfrm || xfrm_flush(xfrm) < 0)
		fail("no answer");
	tell("sas", count, begin);
	begin = now();
	xfrm_policy_hash(xfrm, 24, 48, NULL); /* as netlink/kernel.c does */
	for (unsigned i = 0; i < count; i++)
		ours_policy(xfrm, i);
	if (xfrm_flush(xfrm) < 0)
		fail("no answer");
	tell("policies", count, begin);
	xfrm_close(xfrm);
}

static void measure_libnl(unsigned count)
{
	struct nl_sock *socket = nl_socket_alloc();
	double begin = now();

	if (!socket || nl_connect(socket, NETLINK_XFRM) < 0)
		fail("no socket");
	for (unsigned i = 0; i < count; i++)
		libnl_sa(socket, i);
	tell("sas", count, begin);
	begin = now();
	for (unsigned i = 0; i < count; i++)
		libnl_policy(socket, i);
	tell("policies", count, begin);
	nl_socket_free(socket);
}

int main(int argc, char **argv)
{
	unsigned count = argc == 3 ? (unsigned)atoi(argv[2]) : 0;

	if (!count)
		fail("ours|libnl|ip COUNT");
	if (strcmp(argv[1], "ours") == 0)
		measure_ours(count);
	else if (strcmp(argv[1], "libnl") == 0)
		measure_libnl(count);
	else
		print_batches(count);
	return 0;
}
