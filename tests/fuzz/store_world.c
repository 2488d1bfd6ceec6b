#include "store_world.h"

#include "common/crlindex.h"
#include "common/log.h"
#include "common/x509.h"
#include "pkifs/privatekey.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DAY 86400

struct peer {
	struct peer *next;
	char kind[16];
	struct channel *channel;
	int fd;             /* the same socket, for what is no frame */
	struct record *job; /* a worker's, while it has one */
	int fds[FRAME_FDS]; /* that came with the job */
};

static struct world world;
static struct channel *supervisor;
static struct peer *peers;
static char folder[] = "/dev/shm/pkifs-fuzz-XXXXXX";
static EVP_PKEY *keys[WORLD_KEYS], *ca_key;
static X509 *ca, *leaves[WORLD_KEYS], *owns[WORLD_KEYS];
static unsigned char *crl_der;
static int crl_length;

void must(bool condition)
{
	if (!condition)
		abort();
}

/* --- what there is of keys and certificates --- */

static void extend(X509 *certificate, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX context;
	X509_EXTENSION *extension;

	X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	must(extension && X509_add_ext(certificate, extension, -1));
	X509_EXTENSION_free(extension);
}

/* NAME's certificate by ISSUER (NULL: self-signed by ISSUER_KEY). */
static X509 *certify(const char *name, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key,
                     bool is_ca)
{
	static long serial = 1;
	X509 *certificate = X509_new();
	X509_NAME *subject;

	must(dn_parse(name, NULL, &subject, NULL) == 0);
	X509_set_version(certificate, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++);
	X509_time_adj(X509_getm_notBefore(certificate), -DAY, NULL);
	X509_time_adj(X509_getm_notAfter(certificate), 365L * DAY, NULL);
	X509_set_subject_name(certificate, subject);
	X509_set_issuer_name(certificate, issuer ? X509_get_subject_name(issuer) : subject);
	X509_set_pubkey(certificate, key);
	X509_NAME_free(subject);
	if (is_ca) {
		extend(certificate, certificate, NID_basic_constraints, "critical,CA:TRUE");
		extend(certificate, certificate, NID_key_usage, "critical,keyCertSign,cRLSign");
	} else {
		extend(certificate, certificate, NID_subject_alt_name, "DNS:a.example");
		extend(certificate, certificate, NID_key_usage, "critical,digitalSignature");
	}
	must(X509_sign(certificate, issuer_key, EVP_sha256()) > 0);
	return certificate;
}

static char *text_of(BIO *bio)
{
	char *bytes, *text;
	long length = BIO_get_mem_data(bio, &bytes);

	text = strndup(bytes, (size_t)length);
	BIO_free(bio);
	return text;
}

static char *certificate_text(X509 *certificate)
{
	BIO *bio = BIO_new(BIO_s_mem());

	PEM_write_bio_X509(bio, certificate);
	return text_of(bio);
}

static char *key_text(EVP_PKEY *key)
{
	unsigned char *der;
	size_t length;
	char *text;
	BIO *bio;

	must(private_key_to_der(key, &der, &length) == 0);
	must(private_key_to_pem(der, length, &bio) == 0);
	text = text_of(bio);
	OPENSSL_secure_clear_free(der, length);
	return text;
}

static void make_crl(void)
{
	X509_CRL *crl = X509_CRL_new();
	ASN1_TIME *now = X509_gmtime_adj(NULL, -DAY), *next = X509_gmtime_adj(NULL, DAY);
	ASN1_INTEGER *number = ASN1_INTEGER_new();
	BIO *bio = BIO_new(BIO_s_mem());

	ASN1_INTEGER_set(number, 1);
	X509_CRL_set_version(crl, X509_CRL_VERSION_2);
	X509_CRL_set_issuer_name(crl, X509_get_subject_name(ca));
	X509_CRL_set1_lastUpdate(crl, now);
	X509_CRL_set1_nextUpdate(crl, next);
	X509_CRL_add1_ext_i2d(crl, NID_crl_number, number, 0, 0);
	must(X509_CRL_sign(crl, ca_key, EVP_sha256()) > 0);
	crl_length = i2d_X509_CRL(crl, &crl_der);
	PEM_write_bio_X509_CRL(bio, crl);
	world.crl = text_of(bio);
	ASN1_INTEGER_free(number);
	ASN1_TIME_free(now);
	ASN1_TIME_free(next);
	X509_CRL_free(crl);
}

static void make_samples(void)
{
	ca_key = EVP_EC_gen("P-256");
	ca = certify("CN=Root CA,O=Example", ca_key, NULL, ca_key, true);
	world.ca = certificate_text(ca);
	for (size_t i = 0; i < WORLD_KEYS; i++) {
		keys[i] = EVP_EC_gen("P-256");
		leaves[i] = certify("CN=a.example,O=Example", keys[i], ca, ca_key, false);
		owns[i] = certify("CN=a.example,O=Example", keys[i], NULL, keys[i], false);
		world.key[i] = key_text(keys[i]);
		world.leaf[i] = certificate_text(leaves[i]);
		world.own[i] = certificate_text(owns[i]);
	}
	make_crl();
}

/* --- the keys process --- */

/* What seals the key INDEX: its digit. */
static size_t sealed_index(const struct record *question)
{
	const char *sealed = record_get(question, "sealed");

	must(sealed && *sealed >= '0' && *sealed < '0' + WORLD_KEYS);
	return (size_t)(*sealed - '0');
}

static void answer_key(struct record *answer, size_t index)
{
	unsigned char *public;
	size_t length;

	must(public_key_to_der(keys[index], &public, &length) == 0);
	record_addf(answer, "sealed", "%zu", index);
	if (world.mood == KEYS_NO_KEY)
		record_add(answer, "public", "none");
	else
		record_add_bytes(answer, "public", public, length);
	record_add_number(answer, "pem-size", (long long)strlen(world.key[index]));
	OPENSSL_free(public);
}

static void answer_import(const struct record *question, struct record *answer)
{
	const struct field *text = record_find(question, "text");
	struct error err = { 0 };
	EVP_PKEY *key = NULL;
	size_t index = 0;

	must(text != NULL);
	if (private_key_import(text->value, text->length, &key, &err) < 0) {
		record_add(answer, "error", err.text);
		return;
	}
	while (index < WORLD_KEYS && EVP_PKEY_eq(keys[index], key) != 1)
		index++;
	if (index < WORLD_KEYS)
		answer_key(answer, index);
	else
		record_add(answer, "error", "that key is nobody's");
	EVP_PKEY_free(key);
}

static void answer_question(const struct record *question, struct record *answer)
{
	if (record_is(question, "frame", "generate"))
		answer_key(answer, world.next_key++ % WORLD_KEYS);
	else if (record_is(question, "frame", "import"))
		answer_import(question, answer);
	else if (record_is(question, "frame", "open"))
		record_add(answer, "pem", world.key[sealed_index(question)]);
	else if (record_is(question, "frame", "seal-check"))
		record_add(answer, "sealed", "0");
}

static void keys_asked(struct peer *peer, const struct record *question)
{
	struct record *answer = record_new();
	enum keys_mood mood = world.mood;

	record_add(answer, "frame", "answer");
	record_add(answer, "id", record_get(question, "id"));
	if (mood == KEYS_ERROR)
		record_add(answer, "error", "no\nsuch\033 luck");
	else if (mood != KEYS_EMPTY)
		answer_question(question, answer);
	if (mood == KEYS_DIES)
		peer_end(peer);
	else if (mood != KEYS_SILENT)
		channel_send(peer->channel, answer, NULL, 0);
	world.mood = KEYS_GOOD;
	record_free(answer);
}

/* --- workers --- */

static void drop_job(struct peer *peer)
{
	record_free(peer->job);
	peer->job = NULL;
	for (size_t i = 0; i < FRAME_FDS; i++) {
		if (peer->fds[i] >= 0)
			close(peer->fds[i]);
		peer->fds[i] = -1;
	}
}

struct peer *world_worker(size_t index)
{
	size_t count = 0;

	for (struct peer *peer = peers; peer; peer = peer->next)
		count += peer->job != NULL;
	if (!count)
		return NULL;
	index %= count;
	for (struct peer *peer = peers; peer; peer = peer->next)
		if (peer->job && index-- == 0)
			return peer;
	return NULL;
}

/* The sample key that the job is about. */
static size_t job_key(const struct record *job)
{
	const struct field *public = record_find(job, "public");
	size_t index = 0;
	EVP_PKEY *key;

	if (!public)
		return 0;
	key = public_key_from_der(public->value, public->length);
	while (index + 1 < WORLD_KEYS && EVP_PKEY_eq(keys[index], key) != 1)
		index++;
	EVP_PKEY_free(key);
	return index;
}

static void add_certificate(struct record *result, X509 *certificate)
{
	unsigned char *der;
	size_t length;

	must(certificate_to_der(certificate, &der, &length) == 0);
	record_add_bytes(result, "certificate", der, length);
	OPENSSL_free(der);
}

static void add_csr(struct record *result, size_t key)
{
	X509_REQ *request = X509_REQ_new();
	unsigned char *der = NULL;
	int length;

	X509_REQ_set_pubkey(request, keys[key]);
	X509_REQ_set_subject_name(request, X509_get_subject_name(leaves[key]));
	must(X509_REQ_sign(request, keys[key], EVP_sha256()) > 0);
	length = i2d_X509_REQ(request, &der);
	record_add_bytes(result, "csr", der, (size_t)length);
	OPENSSL_free(der);
	X509_REQ_free(request);
}

/* An index of ENTRY alone, or of none. */
static void write_index(int fd, const struct crl_entry *entry)
{
	struct crl_trailer trailer = { .magic = CRL_MAGIC };
	uint64_t sum = CRL_SUM;

	trailer.entries[7] = entry != NULL;
	if (entry)
		sum = crl_sum(sum, entry, CRL_KEY);
	sum = crl_sum(sum, &trailer, offsetof(struct crl_trailer, sum));
	for (size_t i = sizeof trailer.sum; i-- > 0; sum >>= 8)
		trailer.sum[i] = (unsigned char)sum;
	must(!entry || (write(fd, entry, sizeof *entry) == sizeof *entry &&
	                write(fd, entry, CRL_KEY) == (ssize_t)CRL_KEY));
	must(write(fd, &trailer, sizeof trailer) == sizeof trailer);
}

/* The CRL, which has no entries, is its own stub. */
static void tell_crl(struct record *result)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	const unsigned char *tbs = crl_der;
	unsigned int length;
	long size;
	int tag, class;

	ASN1_get_object(&tbs, &size, &tag, &class, crl_length);
	must(tbs[1] < 0x82); /* its own header has two or three bytes */
	size = tbs[1] & 0x80 ? 3 + tbs[2] : 2 + tbs[1];
	must(EVP_Digest(tbs, (size_t)size, digest, &length, EVP_sha256(), NULL) == 1);
	record_add_bytes(result, "stub", crl_der, (size_t)crl_length);
	record_add_bytes(result, "digest", digest, length);
}

/*
 * Body, index and scratch are the last three descriptors. REVOKED: the index has an entry for the
 * first certificate, with a time of bytes that are VALUE.
 */
static void add_crl(struct peer *worker, struct record *result, bool revoked, unsigned char value)
{
	int body = worker->fds[worker->fds[3] >= 0 ? 1 : 0];
	int index = worker->fds[worker->fds[3] >= 0 ? 2 : 1];
	struct crl_entry entry = { .length = 1 };

	entry.serial[CRL_SERIAL_MAX - 1] =
		(unsigned char)ASN1_INTEGER_get(X509_get0_serialNumber(leaves[0]));
	memset(entry.time, value, sizeof entry.time);
	crl_entry_seal(&entry);
	write_index(index, revoked ? &entry : NULL);
	must(body >= 0 && write(body, crl_der, (size_t)crl_length) == crl_length);
	tell_crl(result);
	record_add_number(result, "crls", 1);
	record_add_number(result, "crl-entries", revoked);
	record_add_number(result, "size", crl_length);
}

static void add_yield(struct peer *worker, struct record *result, bool change, unsigned char value)
{
	const struct record *job = worker->job;
	size_t key = job_key(job);

	if (record_is(job, "action", "ca-certificate")) {
		add_certificate(result, ca);
		record_add(result, "capabilities", "AES SHA-256");
	} else if (record_is(job, "action", "csr")) {
		add_csr(result, key);
	} else if (record_is(job, "action", "self-signed")) {
		add_certificate(result, owns[key]);
	} else if (record_is(job, "action", "enroll")) {
		add_certificate(result, leaves[key]);
		add_certificate(result, ca);
	} else {
		add_crl(worker, result, change, value);
	}
}

/* A record is of its worker's job until that has its result. */
static void say(struct peer *worker, const struct record *record)
{
	bool ends = record_is(record, "frame", "result");

	channel_send(worker->channel, record, NULL, 0);
	if (ends)
		drop_job(worker);
}

void worker_does_it(struct peer *worker, bool change, size_t at, unsigned char value)
{
	struct record *result = record_new();
	const struct field *field;

	record_add(result, "frame", "result");
	record_add(result, "job", record_get(worker->job, "job"));
	record_add(result, "outcome", "done");
	add_yield(worker, result, change, value);
	field = record_find(result, "certificate");
	if (change && field && field->length)
		field->value[at % field->length] = (char)value;
	say(worker, result);
	record_free(result);
}

void worker_says(struct peer *worker, const struct record *record)
{
	struct record *said = record_new();

	for (size_t i = 0; i < record_count(record); i++) {
		const struct field *field = record_field(record, i);

		if (strcmp(field->value, "@job") == 0)
			record_add(said, field->key, record_get(worker->job, "job"));
		else if (strcmp(field->value, "@ca") == 0)
			add_certificate(said, ca);
		else if (strcmp(field->value, "@leaf") == 0)
			add_certificate(said, leaves[job_key(worker->job)]);
		else
			record_add_bytes(said, field->key, field->value, field->length);
	}
	say(worker, said);
	record_free(said);
}

void worker_raw(struct peer *worker, const void *bytes, size_t length)
{
	send(worker->fd, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* --- the processes and their supervisor --- */

void peer_end(struct peer *peer)
{
	struct peer **at = &peers;

	while (*at != peer)
		at = &(*at)->next;
	*at = peer->next;
	drop_job(peer);
	shutdown(peer->fd, SHUT_RDWR);
	close(peer->fd);
	channel_close(peer->channel);
	free(peer);
}

void peers_end(void)
{
	while (peers)
		peer_end(peers);
}

static void peer_told(struct channel *channel, struct record *record, int *fds, int code,
                      void *user)
{
	struct peer *peer = user;

	(void)channel;
	(void)code;
	world.moved = true;
	if (!record) {
		peer_end(peer);
		return;
	}
	if (strcmp(peer->kind, "keys") == 0) {
		keys_asked(peer, record);
	} else if (record_is(record, "frame", "job")) {
		drop_job(peer);
		peer->job = record;
		memcpy(peer->fds, fds, sizeof peer->fds);
		for (size_t i = 0; i < FRAME_FDS; i++)
			fds[i] = -1;
		return;
	}
	record_free(record);
}

static void start_peer(const char *kind, const char *id)
{
	struct peer *peer = calloc(1, sizeof *peer);
	struct record *started = record_new();
	int ends[2], signing[2];

	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, signing) == 0);
	*peer = (struct peer){ .next = peers, .fd = fcntl(ends[0], F_DUPFD_CLOEXEC, 3) };
	snprintf(peer->kind, sizeof peer->kind, "%s", kind);
	for (size_t i = 0; i < FRAME_FDS; i++)
		peer->fds[i] = -1;
	peer->channel = channel_open(world.store.loop, ends[0], FRAME_MAX, peer_told, peer);
	peers = peer;
	record_add(started, "frame", "started");
	record_add(started, "id", id);
	channel_send(supervisor, started, (int[]){ ends[1], signing[1] },
	             strcmp(kind, "worker") == 0 ? 2 : 1);
	record_free(started);
	close(ends[1]);
	close(signing[0]);
	close(signing[1]);
}

static void answer_store(const char *frame, const char *id, const char *key, const char *value)
{
	struct record *answer = record_new();

	record_add(answer, "frame", frame);
	record_add(answer, "id", id);
	record_add(answer, key, value);
	channel_send(supervisor, answer, NULL, 0);
	record_free(answer);
}

static void store_said(struct channel *channel, struct record *record, int *fds, int code,
                       void *user)
{
	(void)channel;
	(void)fds;
	(void)code;
	(void)user;
	world.moved = true;
	must(record && !record_is(record, "frame", "fatal"));
	if (record_is(record, "frame", "start")) {
		if (world.start_fails || record_is(record, "kind", "ipsec")) /* no IPsec here */
			answer_store("not-started", record_get(record, "id"), "reason", "no room");
		else
			start_peer(record_get(record, "kind"), record_get(record, "id"));
		world.start_fails = false;
	} else if (record_is(record, "frame", "on-change")) {
		answer_store("on-change-done", record_get(record, "id"), "status",
		             record_number(record, "version", 0) % 2 ? "" : "exit code 1");
	}
	record_free(record);
}

static void remove_folder(void)
{
	char command[64];

	snprintf(command, sizeof command, "rm -r %s", folder);
	if (system(command) != 0)
		fprintf(stderr, "%s stays\n", folder);
}

/* The folder of the CRLs, in which the store keeps nothing that is not its own. */
static int crl_folder(void)
{
	char path[64];

	snprintf(path, sizeof path, "%s/crl", folder);
	must(mkdir(path, 0700) == 0);
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

struct world *world_open(void)
{
	int control[2], fuse[2], shared, size = 1 << 22;

	log_open("store", "stderr", LOG_CRIT);
	must(mkdtemp(folder) != NULL);
	atexit(remove_folder);
	make_samples();
	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control) == 0);
	must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fuse) == 0);
	for (int i = 0; i < 2; i++)
		setsockopt(fuse[i], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
	must(shared_make(&shared) == 0);
	world.store.conf = record_new();
	record_addf(world.store.conf, "store", "%s/store.db", folder);
	must(store_start(&world.store, control[1], fuse[1], shared, crl_folder()) == 0);
	supervisor = channel_open(world.store.loop, control[0], FRAME_MAX, store_said, NULL);
	world.kernel = fuse[0];
	return &world;
}
