/* Batches to the kernel, its answers, dumps and events. */
#include "netlink/xfrm.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BATCH_MESSAGES 200
#define BATCH_BYTES    (128u << 10)
#define RECEIVE_BYTES  (64u << 10) /* the kernel fills up to 32 KiB of one in a dump */
#define SOCKET_BYTES   (4 << 20)
#define PATIENCE_MS    5000 /* it answers before send(2) returns: whatever is late is lost */
#define DUMP_TRIES     20

/* What of a message is told where the kernel does not take it. */
struct queued {
	const char *verb;
	void *about;
	char what[96];
};

struct xfrm {
	int fd;
	xfrm_failed *failed;
	void *user;
	uint32_t port; /* the socket's netlink number; 0: none, and nothing will be answered */
	uint32_t seq;  /* of the message that was queued last */
	size_t count, used;
	struct queued queued[BATCH_MESSAGES];
	unsigned char bytes[BATCH_BYTES];
};

static uint32_t port_of(int fd)
{
	struct sockaddr_nl own = { 0 };
	socklen_t length = sizeof own;

	return getsockname(fd, (struct sockaddr *)&own, &length) < 0 ? 0 : own.nl_pid;
}

struct xfrm *xfrm_open(int fd, xfrm_failed *failed, void *user)
{
	const struct sockaddr_nl own = { .nl_family = AF_NETLINK };
	const int size = SOCKET_BYTES, on = 1;
	struct xfrm *xfrm = calloc(1, sizeof *xfrm);

	if (!xfrm)
		return NULL;
	xfrm->fd = fd;
	xfrm->failed = failed;
	xfrm->user = user;
	bind(fd, (const struct sockaddr *)&own, sizeof own); /* where it has no number yet */
	xfrm->port = port_of(fd);
	xfrm->seq = (uint32_t)getpid() << 12; /* another one's late answers are not ours */
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
	setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
	setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on); /* no keys in refusals */
	return xfrm;
}

uint32_t xfrm_port(const struct xfrm *xfrm)
{
	return xfrm->port;
}

void xfrm_close(struct xfrm *xfrm)
{
	if (!xfrm)
		return;
	close(xfrm->fd);
	OPENSSL_cleanse(xfrm->bytes, sizeof xfrm->bytes);
	free(xfrm);
}

/*
 * The next datagram of the kernel's (nl_pid 0; anybody may send to a netlink socket) into BUFFER of
 * RECEIVE_BYTES: its length, or a negative errno.
 */
static ssize_t receive(int fd, void *buffer, int flags)
{
	struct sockaddr_nl from = { 0 };
	struct iovec bytes = { .iov_base = buffer, .iov_len = RECEIVE_BYTES };
	struct msghdr header = {
		.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &bytes, .msg_iovlen = 1
	};
	ssize_t length;

	do {
		header.msg_namelen = sizeof from;
		length = recvmsg(fd, &header, flags);
	} while ((length < 0 && errno == EINTR) ||
	         (length >= 0 && (header.msg_namelen != sizeof from || from.nl_pid != 0)));
	if (length < 0)
		return -errno;
	return header.msg_flags & MSG_TRUNC ? -EMSGSIZE : length;
}

static ssize_t receive_soon(int fd, void *buffer)
{
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	ssize_t length = -EAGAIN;

	while (length == -EAGAIN) {
		int r = poll(&ready, 1, PATIENCE_MS);

		if (r == 0)
			return -ETIMEDOUT;
		if (r > 0)
			length = receive(fd, buffer, MSG_DONTWAIT);
		else if (errno != EINTR)
			return -errno;
	}
	return length;
}

/* The kernel's own words about an error, or NULL; they end within the message. */
static const char *extended(struct nlmsghdr *message, int *length)
{
	struct nlattr *attributes[NLMSGERR_ATTR_MAX + 1] = { NULL };
	const int fixed = sizeof(struct nlmsgerr);

	if (!(message->nlmsg_flags & NLM_F_ACK_TLVS) || nlmsg_datalen(message) < fixed ||
	    nla_parse(attributes, NLMSGERR_ATTR_MAX, nlmsg_attrdata(message, fixed),
	              nlmsg_attrlen(message, fixed), NULL) < 0 ||
	    !attributes[NLMSGERR_ATTR_MSG])
		return NULL;
	*length = nla_len(attributes[NLMSGERR_ATTR_MSG]);
	return nla_data(attributes[NLMSGERR_ATTR_MSG]);
}

static void tell_failure(const struct xfrm *xfrm, const struct queued *queued,
                         struct nlmsghdr *message, int code)
{
	struct error err = { 0 };
	int length = 0;
	const char *words = extended(message, &length);

	if (words)
		error_set(&err, code, "the kernel does not %s %s: %.*s (%s)", queued->verb,
		          queued->what, length, words, strerror(-code));
	else
		error_set(&err, code, "the kernel does not %s %s: %s", queued->verb, queued->what,
		          strerror(-code));
	if (xfrm->failed)
		xfrm->failed(queued->about, &err, xfrm->user);
}

static int answer_code(const struct nlmsgerr *answer)
{
	return answer->error < 0 && answer->error > -4096 ? answer->error : -EPROTO;
}

/* One answer to a message of the batch. 1: the last one's. */
static int take_answer(const struct xfrm *xfrm, struct nlmsghdr *message)
{
	const struct nlmsgerr *answer = nlmsg_data(message);
	uint32_t first = xfrm->seq - (uint32_t)xfrm->count + 1, index = message->nlmsg_seq - first;

	if (message->nlmsg_type != NLMSG_ERROR || index >= xfrm->count ||
	    nlmsg_datalen(message) < (int)sizeof *answer)
		return 0; /* an earlier batch's, or none */
	if (answer->error)
		tell_failure(xfrm, &xfrm->queued[index], message, answer_code(answer));
	return index + 1 == xfrm->count;
}

static int take_answers(const struct xfrm *xfrm)
{
	_Alignas(struct nlmsghdr) unsigned char buffer[RECEIVE_BYTES];
	int done = 0;

	while (!done) {
		ssize_t length = receive_soon(xfrm->fd, buffer);
		int left = (int)length;

		if (length < 0)
			return (int)length;
		for (struct nlmsghdr *message = (void *)buffer; nlmsg_ok(message, left);
		     message = nlmsg_next(message, &left))
			done |= take_answer(xfrm, message);
	}
	return 0;
}

int xfrm_flush(struct xfrm *xfrm)
{
	const struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	struct nlmsghdr *message = (void *)xfrm->bytes;
	int left = (int)xfrm->used, r = 0;

	if (!xfrm->count)
		return 0;
	for (size_t i = 1; i < xfrm->count; i++)
		message = nlmsg_next(message, &left);
	message->nlmsg_flags |= NLM_F_ACK;
	if (sendto(xfrm->fd, xfrm->bytes, xfrm->used, 0, (const struct sockaddr *)&kernel,
	           sizeof kernel) < 0)
		r = -errno;
	OPENSSL_cleanse(xfrm->bytes, xfrm->used);
	if (r == 0)
		r = take_answers(xfrm);
	xfrm->count = xfrm->used = 0;
	return r;
}

/* Takes MESSAGE (NULL: no memory) over. */
static int queue(struct xfrm *xfrm, struct nl_msg *message, const struct queued *queued)
{
	struct nlmsghdr *header;
	size_t size;
	int r = 0;

	if (!message)
		return -ENOMEM;
	header = nlmsg_hdr(message);
	size = NLMSG_ALIGN(header->nlmsg_len);
	if (xfrm->count == BATCH_MESSAGES || xfrm->used + size > BATCH_BYTES)
		r = xfrm_flush(xfrm);
	if (r == 0) {
		header->nlmsg_seq = ++xfrm->seq;
		header->nlmsg_pid =
			xfrm->port; /* by it the kernel tells others whose change it is */
		memcpy(xfrm->bytes + xfrm->used, header, size);
		xfrm->used += size;
		xfrm->queued[xfrm->count++] = *queued;
	}
	OPENSSL_cleanse(header, size); /* there may be a key in it */
	nlmsg_free(message);
	return r;
}

static int queue_sa(struct xfrm *xfrm, struct nl_msg *message, const char *verb,
                    const struct sa *sa, void *about)
{
	struct queued queued = { .verb = verb, .about = about };

	snprintf(queued.what, sizeof queued.what, "the SA of SPI 0x%08x", ntohl(sa->info.id.spi));
	return queue(xfrm, message, &queued);
}

static int queue_policy(struct xfrm *xfrm, struct nl_msg *message, const char *verb,
                        const struct policy *policy, void *about)
{
	static const char *const directions[] = { "in", "out", "fwd" };
	struct queued queued = { .verb = verb, .about = about };

	snprintf(queued.what, sizeof queued.what, "the policy of direction %s",
	         policy->info.dir < COUNT(directions) ? directions[policy->info.dir] : "?");
	return queue(xfrm, message, &queued);
}

int xfrm_sa_add(struct xfrm *xfrm, const struct sa *sa, bool update, void *about)
{
	return queue_sa(xfrm, xfrm_encode_sa(sa, update), "take", sa, about);
}

int xfrm_sa_delete(struct xfrm *xfrm, const struct sa *sa, void *about)
{
	return queue_sa(xfrm, xfrm_encode_sa_delete(sa), "delete", sa, about);
}

int xfrm_policy_add(struct xfrm *xfrm, const struct policy *policy, bool update, void *about)
{
	return queue_policy(xfrm, xfrm_encode_policy(policy, update), "take", policy, about);
}

int xfrm_policy_delete(struct xfrm *xfrm, const struct policy *policy, void *about)
{
	return queue_policy(xfrm, xfrm_encode_policy_delete(policy), "delete", policy, about);
}

int xfrm_policy_hash(struct xfrm *xfrm, unsigned char v4_bits, unsigned char v6_bits, void *about)
{
	const struct queued queued = { .verb = "take",
		                       .about = about,
		                       .what = "the thresholds of its policies' hash" };

	return queue(xfrm, xfrm_encode_hash(v4_bits, v6_bits), &queued);
}

/* Whoever a dump is for. */
struct dump {
	void (*sa)(const struct sa *sa, void *user);
	void (*policy)(const struct policy *policy, void *user);
	void *user;
};

/* 1: it was the dump's last; -EINTR: a change came between. */
static int take_dumped(const struct dump *dump, struct nlmsghdr *message, uint32_t seq)
{
	const struct nlmsgerr *answer = nlmsg_data(message);
	struct xfrm_event event;

	if (message->nlmsg_seq != seq)
		return 0;
	if (message->nlmsg_flags & NLM_F_DUMP_INTR)
		return -EINTR;
	if (message->nlmsg_type == NLMSG_DONE)
		return 1;
	if (message->nlmsg_type == NLMSG_ERROR)
		return nlmsg_datalen(message) < (int)sizeof *answer ? -EBADMSG
		       : answer->error                              ? answer_code(answer)
		                                                    : 1;
	if (xfrm_decode(message, &event) < 0)
		return 0;
	if (event.kind == XFRM_EVENT_SA && dump->sa)
		dump->sa(&event.sa, dump->user);
	else if (event.kind == XFRM_EVENT_POLICY && dump->policy)
		dump->policy(&event.policy, dump->user);
	return 0;
}

static int dump_once(struct xfrm *xfrm, int type, const struct dump *dump)
{
	_Alignas(struct nlmsghdr) unsigned char buffer[RECEIVE_BYTES];
	const struct nlmsghdr request = { .nlmsg_len = NLMSG_HDRLEN,
		                          .nlmsg_type = (uint16_t)type,
		                          .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
		                          .nlmsg_seq = ++xfrm->seq };
	const struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	int r = 0;

	if (sendto(xfrm->fd, &request, sizeof request, 0, (const struct sockaddr *)&kernel,
	           sizeof kernel) < 0)
		return -errno;
	while (r == 0) {
		ssize_t length = receive_soon(xfrm->fd, buffer);
		int left = (int)length;

		if (length < 0)
			return (int)length;
		for (struct nlmsghdr *message = (void *)buffer; r == 0 && nlmsg_ok(message, left);
		     message = nlmsg_next(message, &left))
			r = take_dumped(dump, message, request.nlmsg_seq);
	}
	return r < 0 ? r : 0;
}

/* The rest of a dump that is no longer wanted. */
static void drain(int fd)
{
	_Alignas(struct nlmsghdr) unsigned char buffer[RECEIVE_BYTES];
	ssize_t length;

	do {
		length = receive(fd, buffer, MSG_DONTWAIT);
	} while (length >= 0 || length == -EMSGSIZE || length == -ENOBUFS);
}

static int dump_all(struct xfrm *xfrm, int type, const struct dump *dump, void (*again)(void *user))
{
	int r = xfrm_flush(xfrm);

	for (int tries = 0; r == 0 && tries < DUMP_TRIES; tries++) {
		r = dump_once(xfrm, type, dump);
		if (r != -EINTR && r != -ENOBUFS)
			return r;
		drain(xfrm->fd);
		if (again)
			again(dump->user);
		r = 0;
	}
	return r < 0 ? r : -EINTR;
}

int xfrm_sa_dump(struct xfrm *xfrm, void (*each)(const struct sa *sa, void *user),
                 void (*again)(void *user), void *user)
{
	const struct dump dump = { .sa = each, .user = user };

	return dump_all(xfrm, XFRM_MSG_GETSA, &dump, again);
}

int xfrm_policy_dump(struct xfrm *xfrm, void (*each)(const struct policy *policy, void *user),
                     void (*again)(void *user), void *user)
{
	const struct dump dump = { .policy = each, .user = user };

	return dump_all(xfrm, XFRM_MSG_GETPOLICY, &dump, again);
}

/* What is to be deleted: nothing can be queued while a dump is read. */
struct marked {
	struct xfrm_mark mark;
	struct sa *sas;
	struct policy *policies;
	size_t sa_count, policy_count;
	bool failed;
};

static void forget_marked(void *user)
{
	struct marked *marked = user;

	marked->sa_count = marked->policy_count = 0;
}

static void mark_sa(const struct sa *sa, void *user)
{
	struct marked *marked = user;
	struct sa *more;

	if (sa->mark.v != marked->mark.v || sa->mark.m != marked->mark.m)
		return;
	more = realloc(marked->sas, (marked->sa_count + 1) * sizeof *more);
	marked->failed |= !more;
	if (!more)
		return;
	marked->sas = more;
	more[marked->sa_count++] = *sa;
}

static void mark_policy(const struct policy *policy, void *user)
{
	struct marked *marked = user;
	struct policy *more;

	if (policy->mark.v != marked->mark.v || policy->mark.m != marked->mark.m)
		return;
	more = realloc(marked->policies, (marked->policy_count + 1) * sizeof *more);
	marked->failed |= !more;
	if (!more)
		return;
	marked->policies = more;
	more[marked->policy_count++] = *policy;
}

int xfrm_flush_mark(struct xfrm *xfrm, struct xfrm_mark mark)
{
	struct marked marked = { .mark = mark };
	int r = mark.m ? xfrm_sa_dump(xfrm, mark_sa, forget_marked, &marked) : -EINVAL;

	for (size_t i = 0; r == 0 && i < marked.sa_count; i++)
		r = xfrm_sa_delete(xfrm, &marked.sas[i], NULL);
	if (r == 0)
		r = xfrm_policy_dump(xfrm, mark_policy, forget_marked, &marked);
	for (size_t i = 0; r == 0 && i < marked.policy_count; i++)
		r = xfrm_policy_delete(xfrm, &marked.policies[i], NULL);
	if (r == 0)
		r = xfrm_flush(xfrm);
	free(marked.sas);
	free(marked.policies);
	return r == 0 && marked.failed ? -ENOMEM : r;
}

int xfrm_listen(int fd)
{
	static const int groups[] = { XFRMNLGRP_ACQUIRE, XFRMNLGRP_EXPIRE, XFRMNLGRP_SA,
		                      XFRMNLGRP_POLICY, XFRMNLGRP_MAPPING };
	const struct sockaddr_nl own = { .nl_family = AF_NETLINK };
	const int size = SOCKET_BYTES;

	/* one that has no number yet is told nothing: the kernel's is 0 too */
	if (bind(fd, (const struct sockaddr *)&own, sizeof own) < 0 && errno != EINVAL)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
	for (size_t i = 0; i < COUNT(groups); i++)
		if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &groups[i],
		               sizeof groups[i]) < 0)
			return -errno;
	return 0;
}

int xfrm_ignore(int fd, uint32_t port)
{
	struct sock_filter steps[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct nlmsghdr, nlmsg_pid)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl(port), 0, 1), /* it reads big-endian */
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
	};
	const struct sock_fprog program = { .len = COUNT(steps), .filter = steps };

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0 ? -errno
	                                                                                  : 0;
}

int xfrm_events(int fd, void (*each)(const struct xfrm_event *event, void *user), void *user)
{
	_Alignas(struct nlmsghdr) unsigned char buffer[RECEIVE_BYTES];
	struct xfrm_event event;

	for (;;) {
		ssize_t length = receive(fd, buffer, MSG_DONTWAIT);
		int left = (int)length;

		if (length == -EAGAIN)
			return 0;
		if (length == -ENOBUFS || length == -EMSGSIZE) {
			event = (struct xfrm_event){ .kind = XFRM_EVENT_LOST };
			each(&event, user);
			continue;
		}
		if (length < 0)
			return (int)length;
		for (struct nlmsghdr *message = (void *)buffer; nlmsg_ok(message, left);
		     message = nlmsg_next(message, &left))
			if (xfrm_decode(message, &event) == 0)
				each(&event, user);
	}
}
