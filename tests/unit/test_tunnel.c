/* What a tunnel's settings mean for the kernel, and what they say themselves. */
#include "common/hex.h"
#include "common/traffic.h"
#include "netlink/tunnel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#define RANGE 0x40000000u

static struct space space = { .range = RANGE };

/* A tunnel of these KEY, VALUE, …, NULL. */
static struct tunnel tunnel_of(const char *const *settings)
{
	struct tunnel tunnel = { .space = &space };
	struct record *record = record_new();

	record_add(record, "tunnel", "9");
	for (; *settings; settings += 2)
		record_add(record, settings[0], settings[1]);
	tunnel_read(&tunnel, record);
	return tunnel;
}

static const char *const v4[] = { "local-address",
	                          "192.0.2.1",
	                          "remote-address",
	                          "192.0.2.2",
	                          "local-subnet",
	                          "10.1.0.0/24",
	                          "remote-subnet",
	                          "10.2.0.0/16",
	                          "current",
	                          "4097 4098 1 aes256gcm16",
	                          NULL };

static size_t policies_of(const char *const *settings, bool up, struct known_policy **policies)
{
	struct tunnel tunnel = tunnel_of(settings);
	size_t count = 0;

	assert_int_equal(tunnel_policies(&tunnel, up, policies, &count), 0);
	tunnel_clear(&tunnel);
	return count;
}

static void traffic_goes_by_the_pinned_sa(void **state)
{
	struct known_policy *policies;
	const struct policy *out, *in;

	(void)state;
	assert_int_equal(policies_of(v4, true, &policies), 3);
	out = &policies[0].policy;
	in = &policies[1].policy;
	assert_int_equal(out->info.dir, XFRM_POLICY_OUT);
	assert_int_equal(out->info.action, XFRM_POLICY_ALLOW);
	assert_int_equal(out->info.sel.saddr.a4, inet_addr("10.1.0.0"));
	assert_int_equal(out->info.sel.prefixlen_d, 16);
	assert_int_equal(out->template.id.daddr.a4, inet_addr("192.0.2.2"));
	assert_int_equal(out->template.id.spi, htonl(4098));
	assert_int_equal(out->template.reqid, RANGE + 9);
	assert_int_equal(in->info.dir, XFRM_POLICY_IN);
	assert_int_equal(in->template.id.daddr.a4, inet_addr("192.0.2.1"));
	assert_int_equal(in->template.id.spi, 0); /* the peer's old SA counts as well */
	assert_int_equal(policies[2].policy.info.dir, XFRM_POLICY_FWD);
	free(policies);
}

static void without_an_sa_it_is_blocked_unless_it_may_pass(void **state)
{
	static const char *const open[] = {
		"local-subnet", "10.1.0.0/24", "remote-subnet", "10.2.0.0/16", "fail-closed",
		"no",           NULL
	};
	struct known_policy *policies;

	(void)state;
	assert_int_equal(policies_of(v4, false, &policies), 3);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(policies[i].policy.info.action, XFRM_POLICY_BLOCK);
		assert_int_equal(policies[i].policy.template.id.proto, 0);
	}
	free(policies);
	assert_int_equal(policies_of(open, false, &policies), 0);
	free(policies);
}

static void ends_are_the_traffic_where_no_subnet_is_named(void **state)
{
	static const char *const hosts[] = { "local-address", "2001:db8::1", "remote-address",
		                             "2001:db8::2",   "mode",        "transport",
		                             "mark",          "5/0xff",      NULL };
	static const char *const called[] = { "local-address", "192.0.2.1", "remote-address", "any",
		                              NULL };
	struct known_policy *policies;

	(void)state;
	/* out and in, and what lets neighbours find each other in both */
	assert_int_equal(policies_of(hosts, false, &policies), 6);
	assert_int_equal(policies[0].policy.info.sel.prefixlen_s, 128);
	assert_int_equal(policies[0].policy.mark.v, 5);
	for (size_t i = 1; i < 3; i++) {
		assert_int_equal(policies[i].policy.info.action, XFRM_POLICY_ALLOW);
		assert_int_equal(policies[i].policy.info.sel.proto, IPPROTO_ICMPV6);
		assert_int_equal(policies[i].policy.info.sel.sport, htons((uint16_t)(134 + i)));
		assert_true(policies[i].policy.info.priority < policies[0].policy.info.priority);
	}
	assert_int_equal(policies[3].policy.mark.m, 0);
	free(policies);
	assert_int_equal(policies_of(called, false, &policies), 0);
	free(policies);
}

static void each_pair_of_subnets_of_one_family(void **state)
{
	static const char *const many[] = { "local-subnet",
		                            "10.1.0.0/24",
		                            "local-subnet",
		                            "fd00:1::/64:tcp",
		                            "remote-subnet",
		                            "10.2.0.0/24:tcp:443",
		                            "remote-subnet",
		                            "10.3.0.0/24",
		                            "remote-subnet",
		                            "fd00:2::/64",
		                            "remote-subnet",
		                            "fd00:3::/64:udp",
		                            NULL };
	struct known_policy *policies;

	(void)state;
	assert_int_equal(policies_of(many, false, &policies), 9);
	assert_int_equal(policies[0].policy.info.sel.proto, IPPROTO_TCP);
	assert_int_equal(policies[0].policy.info.sel.dport, htons(443));
	assert_int_equal(policies[0].policy.info.sel.dport_mask, 0xffff);
	assert_int_equal(policies[1].policy.info.sel.sport, htons(443));
	assert_true(policies[0].policy.info.priority < policies[3].policy.info.priority);
	assert_int_equal(policies[6].policy.info.sel.family, AF_INET6);
	free(policies);
}

static void an_ike_daemon_s_selectors_stay_free(void **state)
{
	const char *settings[] = {
		"engine",      "external", "local-subnet", "10.1.0.0/24", "remote-subnet",
		"10.2.0.0/24", NULL,       NULL,           NULL
	};
	struct known_policy *policies;

	(void)state;
	assert_int_equal(policies_of(settings, true, &policies), 6);
	for (size_t i = 0; i < 6; i++) {
		assert_int_equal(policies[i].policy.info.action, XFRM_POLICY_BLOCK);
		assert_int_equal(policies[i].policy.info.sel.sport, i % 2 ? htons(0x8000) : 0);
		assert_int_equal(policies[i].policy.info.sel.sport_mask, htons(0x8000));
		assert_true(policies[i].policy.info.priority > 1000000);
	}
	free(policies);
	settings[6] = "cut";
	settings[7] = "revoked";
	assert_int_equal(policies_of(settings, false, &policies), 6);
	assert_int_equal(policies[0].policy.info.priority, 1);
	free(policies);
}

static void keys_count_for_their_pair_alone_and_when_they_are_whole(void **state)
{
	static char key[73];
	const char *settings[] = { "local-address",
		                   "192.0.2.1",
		                   "remote-address",
		                   "192.0.2.2",
		                   "load",
		                   "1 2",
		                   "load-esp",
		                   "aes256gcm16",
		                   "load-key-in",
		                   key,
		                   "load-key-out",
		                   key,
		                   NULL };
	const struct sa_pair mine = { 1, 2 }, other = { 1, 3 }, none = { 0, 0 };
	struct tunnel tunnel;
	struct sa sa;

	(void)state;
	memset(key, '7', 72);
	tunnel = tunnel_of(settings);
	assert_true(tunnel_has_keys(&tunnel, &mine));
	assert_false(tunnel_has_keys(&tunnel, &other));
	assert_false(tunnel_has_keys(&tunnel, &none));
	tunnel_sa(&tunnel, 2, false, &sa);
	assert_int_equal(sa.info.id.daddr.a4, inet_addr("192.0.2.2"));
	assert_int_equal(sa.key[35], 0x77);
	tunnel_clear(&tunnel);
	key[70] = 0; /* a byte is missing */
	tunnel = tunnel_of(settings);
	assert_false(tunnel_has_keys(&tunnel, &mine));
	tunnel_clear(&tunnel);
}

static void events_of_ours_by_others_count(void **state)
{
	struct xfrm_event event = { .kind = XFRM_EVENT_SA_GONE, .origin = 4711 };
	struct space ours = { .range = RANGE };

	(void)state;
	ours.xfrm = xfrm_open(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE), NULL, NULL);
	event.sa.info.reqid = RANGE + 5;
	assert_true(space_is_touched(&ours, &event));
	event.sa.info.reqid = RANGE + RANGE_SIZE;
	assert_false(space_is_touched(&ours, &event));
	event.sa.info.reqid = RANGE - 1;
	assert_false(space_is_touched(&ours, &event));
	event.kind = XFRM_EVENT_EXPIRE; /* the soft limit ends nothing */
	event.sa.info.reqid = RANGE;
	assert_false(space_is_touched(&ours, &event));
	event.hard = true;
	assert_true(space_is_touched(&ours, &event));
	event.origin = xfrm_port(ours.xfrm);
	assert_false(space_is_touched(&ours, &event));
	event.kind = XFRM_EVENT_LOST;
	assert_true(space_is_touched(&ours, &event));
	xfrm_close(ours.xfrm);
}

static void settings_are_read_exactly(void **state)
{
	struct traffic traffic;
	uint32_t value, mask;
	unsigned char bytes[4];
	char text[5];

	(void)state;
	assert_int_equal(traffic_read("fd00::/8:udp:53", &traffic, NULL), 0);
	assert_int_equal(traffic.family, AF_INET6);
	assert_int_equal(traffic.length, 8);
	assert_int_equal(traffic.port, 53);
	assert_int_equal(traffic_read("10.0.0.1:17", &traffic, NULL), 0);
	assert_int_equal(traffic.length, 32);
	assert_int_equal(traffic.protocol, 17);
	assert_int_equal(mark_read("0x10/0xf0", &value, &mask), 0);
	assert_int_equal(value, 16);
	assert_int_equal(mask, 240);
	assert_int_equal(mark_read("4294967296", &value, &mask), -EINVAL);
	assert_int_equal(hex_read("0x00fF", bytes, sizeof bytes), 2);
	assert_int_equal(bytes[1], 255);
	assert_int_equal(hex_read("0011223344", bytes, sizeof bytes), -EINVAL);
	hex_write(text, (const unsigned char[]){ 0x0f, 0xa0 }, 2);
	assert_string_equal(text, "0fa0");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(traffic_goes_by_the_pinned_sa),
		cmocka_unit_test(without_an_sa_it_is_blocked_unless_it_may_pass),
		cmocka_unit_test(ends_are_the_traffic_where_no_subnet_is_named),
		cmocka_unit_test(each_pair_of_subnets_of_one_family),
		cmocka_unit_test(an_ike_daemon_s_selectors_stay_free),
		cmocka_unit_test(keys_count_for_their_pair_alone_and_when_they_are_whole),
		cmocka_unit_test(events_of_ours_by_others_count),
		cmocka_unit_test(settings_are_read_exactly),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
