/*
 * XFRM over netlink with a kernel that the test plays: what is sent is read here, and what comes
 * back may be anybody's, cut, late or wrong (attacks 70 and 71). A real one is asked in
 * test_xfrm.py.
 */
#include "netlink/xfrm.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

ssize_t __wrap_sendto(int fd, const void *bytes, size_t length, int flags,
                      const struct sockaddr *to, socklen_t to_length);
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout);

#define DATAGRAMS 16

/* What is sent, and what is answered: a datagram each, or an error. */
static struct {
	unsigned char sent[1 << 17];
	size_t sent_length;
	unsigned sends;
	struct datagram {
		unsigned char bytes[4096];
		size_t length;
		uint32_t pid;
		int error;
		bool truncated;
	} datagrams[DATAGRAMS];
	unsigned count, next;
	void (*answer)(const struct nlmsghdr *message, bool last);
} kernel;

static struct datagram *add_datagram(void)
{
	assert_in_range(kernel.count, 0, DATAGRAMS - 1);
	return memset(&kernel.datagrams[kernel.count++], 0, sizeof(struct datagram));
}

ssize_t __wrap_sendto(int fd, const void *bytes, size_t length, int flags,
                      const struct sockaddr *to, socklen_t to_length)
{
	const struct nlmsghdr *message = bytes;
	int left = (int)length;

	(void)fd;
	(void)flags;
	(void)to;
	(void)to_length;
	assert_in_range(kernel.sent_length + length, 0, sizeof kernel.sent);
	memcpy(kernel.sent + kernel.sent_length, bytes, length);
	kernel.sent_length += length;
	kernel.sends++;
	while (nlmsg_ok(message, left)) {
		int size = (int)NLMSG_ALIGN(message->nlmsg_len);

		if (kernel.answer)
			kernel.answer(message, left <= size);
		message = (const void *)((const char *)message + size);
		left -= size;
	}
	return (ssize_t)length;
}

ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags)
{
	struct datagram *datagram = &kernel.datagrams[kernel.next];
	struct sockaddr_nl from = { .nl_family = AF_NETLINK };

	(void)fd;
	(void)flags;
	if (kernel.next == kernel.count) {
		errno = EAGAIN;
		return -1;
	}
	kernel.next++;
	if (datagram->error) {
		errno = datagram->error;
		return -1;
	}
	from.nl_pid = datagram->pid;
	memcpy(message->msg_name, &from, sizeof from);
	message->msg_namelen = sizeof from;
	message->msg_flags = datagram->truncated ? MSG_TRUNC : 0;
	memcpy(message->msg_iov->iov_base, datagram->bytes, datagram->length);
	return (ssize_t)datagram->length;
}

int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout)
{
	(void)fds;
	(void)count;
	(void)timeout;
	return kernel.next < kernel.count;
}

/* Appends a message to DATAGRAM: TYPE, then SIZE bytes. */
static void add_message(struct datagram *datagram, int type, int flags, uint32_t seq,
                        const void *bytes, size_t size)
{
	struct nlmsghdr header = { .nlmsg_len = (uint32_t)(NLMSG_HDRLEN + size),
		                   .nlmsg_type = (uint16_t)type,
		                   .nlmsg_flags = (uint16_t)flags,
		                   .nlmsg_seq = seq };

	memcpy(datagram->bytes + datagram->length, &header, sizeof header);
	if (size)
		memcpy(datagram->bytes + datagram->length + NLMSG_HDRLEN, bytes, size);
	datagram->length += NLMSG_ALIGN(header.nlmsg_len);
}

static void add_answer(struct datagram *datagram, uint32_t seq, int code)
{
	struct nlmsgerr answer = { .error = code };

	add_message(datagram, NLMSG_ERROR, 0, seq, &answer, sizeof answer);
}

static struct error failures[8];
static void *failed_about[8];
static unsigned failed_count;

static void note_failure(void *about, const struct error *err, void *user)
{
	assert_ptr_equal(user, &kernel);
	failed_about[failed_count] = about;
	failures[failed_count++] = *err;
}

static int open_xfrm(void **state)
{
	memset(&kernel, 0, sizeof kernel);
	failed_count = 0;
	*state = xfrm_open(dup(0), note_failure, &kernel);
	return *state ? 0 : -1;
}

static int close_xfrm(void **state)
{
	xfrm_close(*state);
	return 0;
}

static struct sa some_sa(const char *proposal)
{
	struct sa sa = { .info = { .family = AF_INET, .reqid = 7, .mode = XFRM_MODE_TUNNEL } };
	struct error err = { 0 };

	if (proposal_read(proposal, false, false, &sa.proposal, &err) < 0)
		fail_msg("%s", err.text);
	inet_pton(AF_INET, "192.0.2.1", &sa.info.saddr);
	inet_pton(AF_INET, "192.0.2.2", &sa.info.id.daddr);
	sa.info.id.spi = htonl(0x1234);
	sa.info.id.proto = IPPROTO_ESP;
	lifetime_endless(&sa.info.lft);
	for (size_t i = 0; i < sizeof sa.key; i++)
		sa.key[i] = (unsigned char)i;
	return sa;
}

static const struct nlattr *attribute(struct nl_msg *message, size_t fixed, int type)
{
	return nlmsg_find_attr(nlmsg_hdr(message), (int)fixed, type);
}

static void an_sa_has_its_keys_in_their_places(void **state)
{
	struct sa sa = some_sa("aes256-sha512");
	struct nl_msg *message = xfrm_encode_sa(&sa, false);
	const struct xfrm_algo *cipher =
		nla_data(attribute(message, sizeof sa.info, XFRMA_ALG_CRYPT));
	const struct xfrm_algo_auth *integrity =
		nla_data(attribute(message, sizeof sa.info, XFRMA_ALG_AUTH_TRUNC));

	(void)state;
	assert_int_equal(nlmsg_hdr(message)->nlmsg_type, XFRM_MSG_NEWSA);
	assert_true(nlmsg_hdr(message)->nlmsg_flags & NLM_F_EXCL);
	assert_string_equal(cipher->alg_name, "cbc(aes)");
	assert_int_equal(cipher->alg_key_len, 256);
	assert_memory_equal(cipher->alg_key, sa.key, 32);
	assert_string_equal(integrity->alg_name, "hmac(sha512)");
	assert_int_equal(integrity->alg_trunc_len, 256);
	assert_memory_equal(integrity->alg_key, sa.key + 32, 64);
	assert_null(attribute(message, sizeof sa.info, XFRMA_REPLAY_ESN_VAL));
	nlmsg_free(message);
}

static void all_else_of_an_sa_comes_back(void **state)
{
	struct sa sa = some_sa("aes128gcm16-esn");
	struct xfrm_event event;
	struct nl_msg *message;

	(void)state;
	sa.replay_window = 1024;
	sa.mark = (struct xfrm_mark){ .v = 5, .m = 255 };
	sa.output_mark = (struct xfrm_mark){ .v = 6, .m = 15 };
	sa.if_id = 9;
	sa.encap = (struct xfrm_encap_tmpl){ .encap_type = 2, .encap_sport = htons(4500) };
	sa.offload.ifindex = 3;
	message = xfrm_encode_sa(&sa, true);
	assert_int_equal(nlmsg_hdr(message)->nlmsg_type, XFRM_MSG_UPDSA);
	assert_int_equal(xfrm_decode(nlmsg_hdr(message), &event), 0);
	assert_int_equal(event.kind, XFRM_EVENT_SA);
	assert_true(event.sa.info.flags & XFRM_STATE_ESN);
	assert_int_equal(event.sa.info.replay_window, 0);
	assert_int_equal(event.sa.replay_window, 1024);
	assert_memory_equal(&event.sa.mark, &sa.mark, sizeof sa.mark);
	assert_memory_equal(&event.sa.output_mark, &sa.output_mark, sizeof sa.mark);
	assert_int_equal(event.sa.if_id, 9);
	assert_int_equal(event.sa.encap.encap_sport, htons(4500));
	assert_int_equal(event.sa.offload.ifindex, 3);
	assert_int_equal(event.sa.key[1], 0); /* keys are never read back */
	nlmsg_free(message);
}

static void a_policy_comes_back(void **state)
{
	struct policy policy = { .info = { .dir = XFRM_POLICY_OUT, .priority = 77, .index = 25 },
		                 .template = { .id.proto = IPPROTO_ESP, .reqid = 12 },
		                 .if_id = 4 };
	struct xfrm_event event;
	struct nl_msg *message = xfrm_encode_policy(&policy, true);

	(void)state;
	assert_int_equal(xfrm_decode(nlmsg_hdr(message), &event), 0);
	assert_int_equal(event.kind, XFRM_EVENT_POLICY);
	assert_int_equal(event.policy.template.reqid, 12);
	assert_int_equal(event.policy.info.priority, 77);
	assert_int_equal(event.policy.if_id, 4);
	nlmsg_free(message);
	message = xfrm_encode_policy_delete(&policy);
	assert_int_equal(xfrm_decode(nlmsg_hdr(message), &event), 0);
	assert_int_equal(event.kind, XFRM_EVENT_POLICY_GONE);
	assert_int_equal(event.policy.info.dir, XFRM_POLICY_OUT);
	nlmsg_free(message);
}

static void a_cut_message_is_none(void **state)
{
	struct sa sa = some_sa("aes256gcm16");
	struct nl_msg *message = xfrm_encode_sa(&sa, false);
	struct xfrm_event event;

	(void)state;
	for (uint32_t length = NLMSG_HDRLEN; length < NLMSG_HDRLEN + sizeof sa.info; length++) {
		nlmsg_hdr(message)->nlmsg_len = length;
		assert_int_equal(xfrm_decode(nlmsg_hdr(message), &event), -EBADMSG);
	}
	nlmsg_free(message);
}

static void answer_all(const struct nlmsghdr *message, bool last)
{
	if (last)
		add_answer(add_datagram(), message->nlmsg_seq, 0);
}

static void many_go_in_one(void **state)
{
	struct sa sa = some_sa("aes256gcm16");

	kernel.answer = answer_all;
	for (int i = 0; i < 50; i++)
		assert_int_equal(xfrm_sa_add(*state, &sa, false, NULL), 0);
	assert_int_equal(kernel.sends, 0);
	assert_int_equal(xfrm_flush(*state), 0);
	assert_int_equal(kernel.sends, 1);
	assert_int_equal(failed_count, 0);
	assert_int_equal(xfrm_flush(*state), 0);
	assert_int_equal(kernel.sends, 1);
}

/* The kernel takes all but the second. */
static void refuse_second(const struct nlmsghdr *message, bool last)
{
	static const char words[] = "Invalid\nkey";
	struct {
		struct nlmsgerr answer;
		struct nlattr attribute;
		char text[sizeof words];
	} refusal = { .answer.error = -EINVAL,
		      .attribute = { .nla_len = sizeof(struct nlattr) + sizeof words,
		                     .nla_type = NLMSGERR_ATTR_MSG } };

	memcpy(refusal.text, words, sizeof words);
	if (last) {
		add_message(add_datagram(), NLMSG_ERROR, NLM_F_ACK_TLVS, message->nlmsg_seq - 1,
		            &refusal, sizeof refusal);
		add_answer(add_datagram(), message->nlmsg_seq, 0);
	}
}

static void whose_message_failed_is_told_with_the_kernel_s_words(void **state)
{
	struct sa sa = some_sa("aes256gcm16");
	int about[3];

	kernel.answer = refuse_second;
	for (int i = 0; i < 3; i++)
		assert_int_equal(xfrm_sa_add(*state, &sa, false, &about[i]), 0);
	assert_int_equal(xfrm_flush(*state), 0);
	assert_int_equal(failed_count, 1);
	assert_ptr_equal(failed_about[0], &about[1]);
	assert_int_equal(failures[0].code, -EINVAL);
	assert_string_equal(failures[0].text,
	                    "the kernel does not take the SA of SPI 0x00001234: Invalid?key "
	                    "(Invalid argument)");
}

/* Before the true answer come others: another's, cut, of another number, late. */
static void deceive(const struct nlmsghdr *message, bool last)
{
	struct datagram *other;

	if (!last)
		return;
	other = add_datagram(); /* another process than the kernel */
	add_answer(other, message->nlmsg_seq, -EPERM);
	other->pid = 4711;
	other = add_datagram(); /* too short for an answer */
	add_message(other, NLMSG_ERROR, 0, message->nlmsg_seq, "ab", 2);
	other = add_datagram(); /* longer than its datagram */
	add_answer(other, message->nlmsg_seq, -EPERM);
	other->length -= 8;
	other = add_datagram(); /* shorter than a header says that it is */
	add_answer(other, message->nlmsg_seq, -EPERM);
	((struct nlmsghdr *)(void *)other->bytes)->nlmsg_len = 3;
	other = add_datagram(); /* of an earlier batch, and of one to come */
	add_answer(other, message->nlmsg_seq - 1, -EPERM);
	add_answer(other, message->nlmsg_seq + 1, -EPERM);
	add_answer(add_datagram(), message->nlmsg_seq, 0);
}

static void attack_70_answers_of_others_are_none(void **state)
{
	struct sa sa = some_sa("aes256gcm16");

	kernel.answer = deceive;
	assert_int_equal(xfrm_sa_add(*state, &sa, false, NULL), 0);
	assert_int_equal(xfrm_flush(*state), 0);
	assert_int_equal(failed_count, 0);
	assert_int_equal(kernel.next, kernel.count);
}

static void attack_70_silence_ends(void **state)
{
	struct sa sa = some_sa("aes256gcm16");

	assert_int_equal(xfrm_sa_add(*state, &sa, false, NULL), 0);
	assert_int_equal(xfrm_flush(*state), -ETIMEDOUT);
	kernel.answer = answer_all; /* and the next one is not misled by it */
	assert_int_equal(xfrm_sa_add(*state, &sa, false, NULL), 0);
	assert_int_equal(xfrm_flush(*state), 0);
}

static unsigned dumped, begun_again;

static void count_sa(const struct sa *sa, void *user)
{
	(void)user;
	assert_int_equal(sa->info.reqid, 7);
	dumped++;
}

static void begin_again(void *user)
{
	(void)user;
	begun_again++;
	dumped = 0;
}

/* The first dump was overtaken by a change; the second is whole, in two datagrams. */
static void dump_twice(const struct nlmsghdr *message, bool last)
{
	struct sa sa = some_sa("aes256gcm16");
	struct datagram *datagram = add_datagram();
	int done = 0;

	(void)last;
	add_message(datagram, XFRM_MSG_NEWSA, kernel.sends == 1 ? NLM_F_DUMP_INTR : 0,
	            message->nlmsg_seq, &sa.info, sizeof sa.info);
	add_message(datagram, XFRM_MSG_NEWSA, 0, message->nlmsg_seq + 9, &sa.info, sizeof sa.info);
	datagram = add_datagram();
	add_message(datagram, XFRM_MSG_NEWSA, 0, message->nlmsg_seq, &sa.info, sizeof sa.info);
	add_message(datagram, NLMSG_DONE, 0, message->nlmsg_seq, &done, sizeof done);
}

static void a_dump_that_was_overtaken_begins_again(void **state)
{
	kernel.answer = dump_twice;
	dumped = begun_again = 0;
	assert_int_equal(xfrm_sa_dump(*state, count_sa, begin_again, NULL), 0);
	assert_int_equal(begun_again, 1);
	assert_int_equal(dumped, 2);
}

static enum xfrm_event_kind seen[8];
static unsigned seen_count;

static void note_event(const struct xfrm_event *event, void *user)
{
	(void)user;
	seen[seen_count++] = event->kind;
}

static void attack_71_lost_events_are_told(void **state)
{
	struct xfrm_user_expire expire = { .hard = 1 };
	struct sa sa = some_sa("aes256gcm16");
	struct datagram *other;

	(void)state;
	seen_count = 0;
	add_datagram()->error = ENOBUFS;
	other = add_datagram();
	add_message(other, XFRM_MSG_NEWSA, 0, 0, &sa.info, sizeof sa.info);
	other->pid = 4711;
	other = add_datagram();
	other->truncated = true;
	other = add_datagram();
	add_message(other, XFRM_MSG_EXPIRE, 0, 0, &expire, sizeof expire);
	add_message(other, XFRM_MSG_EXPIRE, 0, 0, &expire, 8);
	assert_int_equal(xfrm_events(0, note_event, NULL), 0);
	assert_int_equal(seen_count, 3);
	assert_int_equal(seen[0], XFRM_EVENT_LOST);
	assert_int_equal(seen[1], XFRM_EVENT_LOST);
	assert_int_equal(seen[2], XFRM_EVENT_EXPIRE);
}

int main(void)
{
#define ON_A_SOCKET(test) cmocka_unit_test_setup_teardown(test, open_xfrm, close_xfrm)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_sa_has_its_keys_in_their_places),
		cmocka_unit_test(all_else_of_an_sa_comes_back),
		cmocka_unit_test(a_policy_comes_back),
		cmocka_unit_test(a_cut_message_is_none),
		ON_A_SOCKET(many_go_in_one),
		ON_A_SOCKET(whose_message_failed_is_told_with_the_kernel_s_words),
		ON_A_SOCKET(attack_70_answers_of_others_are_none),
		ON_A_SOCKET(attack_70_silence_ends),
		ON_A_SOCKET(a_dump_that_was_overtaken_begins_again),
		ON_A_SOCKET(attack_71_lost_events_are_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
