/* Who a tunnel trusts: its own certificate, and its peer's, by what the store has. */
#include "common/stubcrl.h"
#include "common/x509.h"
#include "forge.h"
#include "pkifs/believed.h"
#include "pkifs/verdict.h"
#include "store_fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct store store;
static struct record *settings; /* the tunnel's */
static int64_t now;

int64_t __wrap_store_now(const struct store *of);
int64_t __wrap_store_now(const struct store *of)
{
	(void)of;
	return now;
}

static struct blob pem_of(X509 *first, ...)
{
	STACK_OF(X509) *all = sk_X509_new_null();
	struct blob pem = { 0 };
	va_list args;

	va_start(args, first);
	for (X509 *one = first; one; one = va_arg(args, X509 *))
		sk_X509_push(all, one);
	va_end(args);
	assert_int_equal(certificates_to_pem(all, &pem.data, &pem.length), 0);
	sk_X509_free(all);
	return pem;
}

static struct object object_of(enum kind kind, const char *name)
{
	struct object object;

	assert_int_equal(db_object_find(store.db, kind, name, &object), 0);
	return object;
}

static void configure(enum kind kind, const char *name, const char *config)
{
	struct object object = object_of(kind, name);
	int64_t row;

	assert_int_equal(db_config_set(store.db, object.id, config, strlen(config), now, &row), 0);
}

/* OBJECT shows EDITION, whose texts are freed. */
static void show(int64_t object, struct edition *edition)
{
	edition->object = object;
	assert_int_equal(db_edition_add(store.db, edition, &edition->id), 0);
	edition_clear(edition);
}

/* The profile NAME with a CA certificate (NULL: none). */
static void profile(struct fixture *f, const char *name, X509 *certificate)
{
	struct edition edition = { 0 };
	int64_t id = has_object(f, KIND_CA, name) ? object_of(KIND_CA, name).id
	                                          : add_object(f, KIND_CA, name);

	configure(KIND_CA, name, "revocation-check = disable\n");
	if (certificate)
		edition.certificate = pem_of(certificate, NULL);
	show(id, &edition);
}

/* The certificate id `gate` with a certificate that ANCHOR vouches for. */
static void gate(struct fixture *f, X509 *certificate, X509 *issuer, const char *anchor)
{
	int64_t id = has_object(f, KIND_LOCAL, "gate") ? object_of(KIND_LOCAL, "gate").id
	                                               : add_object(f, KIND_LOCAL, "gate");
	struct version version = { .object = id, .certificate = pem_of(certificate, NULL) };
	struct edition edition = { 0 };

	configure(KIND_LOCAL, "gate", "ca-profile = corp\n");
	if (issuer)
		version.chain = pem_of(issuer, NULL);
	version.not_after = asn1_time_seconds(X509_get0_notAfter(certificate));
	strcpy(version.anchor, anchor);
	assert_int_equal(db_version_add(store.db, &version, &edition.version), 0);
	version_clear(&version);
	show(id, &edition);
}

static int make_world(void **state)
{
	struct fixture *f;

	if (make_store(state) < 0)
		return -1;
	f = *state;
	now = NOW;
	believed_forget();
	store = (struct store){ .db = f->db, .folder = -1 };
	store.last_effect = &store.effects;
	settings = record_new();
	begin(f);
	profile(f, "corp", ca);
	return 0;
}

static int end_world(void **state)
{
	struct fixture *f = *state;

	record_free(settings);
	db_rollback(f->db);
	return remove_all(state);
}

static void set(const char *key, const char *value)
{
	record_add(settings, key, value);
}

/* What of a tunnel's own trust is told; "": it may be used. */
static const char *own(void)
{
	static struct trust trust;

	assert_int_equal(tunnel_trust(&store, settings, &trust), 0);
	return trust.cut;
}

/* The same of its peer PEER, which is freed, with MORE beside it. */
static const char *peer(X509 *certificate, X509 *more)
{
	static struct trust trust;
	STACK_OF(X509) *chain = stack_of(certificate, more, NULL);

	assert_int_equal(tunnel_trust_peer(&store, settings, chain, &trust), 0);
	free_stack(chain);
	X509_free(certificate);
	return trust.cut;
}

#define PEER(...) MAKE(.subject = "CN=peer", .names = A_NAMES, __VA_ARGS__)

static void says(const char *said, const char *words)
{
	if (!*words && *said)
		fail_msg("\"%s\"", said);
	if (!strstr(said, words))
		fail_msg("\"%s\" instead of \"%s\"", said, words);
}

static void a_peer_is_one_of_the_profiles(void **state)
{
	struct fixture *f = *state;
	X509 *stranger =
		MAKE(.subject = "CN=CA", .basic = CA_BASIC, .usage = CA_USAGE, .key = other_key);

	says(peer(PEER(FROM_CA), NULL), "ca-profile names none");
	set("ca-profile", "corp");
	says(peer(PEER(FROM_CA), NULL), "");
	says(peer(PEER(FROM_SUB), sub), "");
	says(peer(PEER(FROM_SUB), NULL), "CN=peer");
	says(peer(PEER(.issuer = stranger, .issuer_key = other_key), stranger), "CN=");
	profile(f, "other", stranger);
	set("ca-profile", "other");
	says(peer(PEER(.issuer = stranger, .issuer_key = other_key), NULL), "");
	says(peer(PEER(FROM_CA), NULL), "");
	profile(f, "corp", NULL);
	says(peer(PEER(FROM_CA), NULL), "CN=peer");
	says(peer(PEER(.issuer = stranger, .issuer_key = other_key), NULL), "");
	X509_free(stranger);
}

static void a_peer_of_the_ca_before_is_one(void **state)
{
	struct object corp = object_of(KIND_CA, "corp");
	X509 *next =
		MAKE(.subject = "CN=CA 2", .basic = CA_BASIC, .usage = CA_USAGE, .key = other_key);
	struct edition edition = { .certificate = pem_of(next, NULL),
		                   .former = pem_of(ca, NULL),
		                   .chain = pem_of(sub, NULL) };

	(void)state;
	set("ca-profile", "corp");
	show(corp.id, &edition);
	says(peer(PEER(FROM_CA), NULL), "");
	says(peer(PEER(.issuer = next, .issuer_key = other_key), NULL), "");
	X509_free(next);
	edition = (struct edition){ .certificate = pem_of(sub, NULL), .chain = pem_of(ca, NULL) };
	show(corp.id, &edition); /* its root vouches for others as well */
	says(peer(PEER(FROM_SUB), NULL), "");
	says(peer(PEER(FROM_CA), NULL), "CN=peer");
}

/* An IKE daemon may tell of the peer's certificate alone. */
static void who_stands_between_may_be_known(void **state)
{
	struct fixture *f = *state;
	X509 *mine = PEER(FROM_SUB);

	set("ca-profile", "corp");
	says(peer(PEER(FROM_SUB), NULL), "CN=peer");
	profile(f, "sub", sub);
	assert_int_equal(db_reference_add(store.db, object_of(KIND_CA, "sub").id,
	                                  object_of(KIND_CA, "corp").id),
	                 0);
	says(peer(PEER(FROM_SUB), NULL), "");
	assert_int_equal(db_reference_clear(store.db, object_of(KIND_CA, "sub").id), 0);
	says(peer(PEER(FROM_SUB), NULL), "CN=peer");
	gate(f, mine, sub, "profile");
	set("certificate-id", "gate");
	says(peer(PEER(FROM_SUB), NULL), "");
	X509_free(mine);
}

static void what_a_peer_is_for(void **state)
{
	static const struct {
		const char *usage, *purposes, *said;
	} cases[] = {
		{ NULL, "serverAuth", "" },
		{ NULL, "clientAuth", "" },
		{ NULL, "1.3.6.1.5.5.7.3.17", "" },
		{ NULL, NULL, "" },
		{ "nonRepudiation", NULL, "" },
		{ NULL, "codeSigning", "is not for IKE: its extended key usage" },
		{ "keyEncipherment", NULL, "is not for IKE: its key usage allows no signature" },
	};

	(void)state;
	set("ca-profile", "corp");
	for (size_t i = 0; i < COUNT(cases); i++)
		says(peer(PEER(FROM_CA, .usage = cases[i].usage, .purposes = cases[i].purposes),
		          NULL),
		     cases[i].said);
	X509_up_ref(sub);
	says(peer(sub, NULL), "is a CA certificate");
}

static void a_peer_has_its_time(void **state)
{
	(void)state;
	set("ca-profile", "corp");
	says(peer(PEER(FROM_CA, .from = -9, .to = -1), NULL), "CN=peer expired on");
	says(peer(PEER(FROM_CA, .from = 2, .to = 9), NULL), "CN=peer");
	says(peer(PEER(FROM_CA, .from = -9, .to = 9), NULL), "");
}

static void a_peer_has_the_remote_id(void **state)
{
	static const struct {
		const char *wanted, *said;
	} cases[] = {
		{ "any", "" },
		{ "a.example", "" },
		{ "192.0.2.1", "" },
		{ "*.example", "" },
		{ "CN=peer", "" },
		{ "b.example", "the peer is a.example, and not what remote-id = b.example" },
		{ "peer", "the peer is a.example" },
		{ "*.a.example", "the peer is a.example" },
	};

	(void)state;
	set("ca-profile", "corp");
	for (size_t i = 0; i < COUNT(cases); i++) {
		record_set(settings, "remote-id", cases[i].wanted);
		says(peer(PEER(FROM_CA), NULL), cases[i].said);
	}
}

/* Until something is heard, for a minute, and not beyond its end. */
static void who_was_believed_still_is(void **state)
{
	static const char *const unknown = "whether CN=peer is revoked is not known";
	struct fixture *f = *state;
	X509 *long_lived = PEER(FROM_CA), *ends = PEER(FROM_CA, .from = -1, .to = 1);

	set("ca-profile", "corp");
	for (int i = 0; i < 2; i++) {
		X509_up_ref(long_lived);
		says(peer(long_lived, NULL), i == 0 ? "" : unknown);
		believed_forget();
		configure(KIND_CA, "corp", i == 0 ? "" : "revocation-check = disable\n");
	}
	X509_up_ref(long_lived);
	says(peer(long_lived, NULL), "");
	configure(KIND_CA, "corp", ""); /* unheard */
	X509_up_ref(long_lived);
	says(peer(long_lived, NULL), "");
	set("remote-id", "b.example"); /* that is asked each time */
	X509_up_ref(long_lived);
	says(peer(long_lived, NULL), "not what remote-id");
	set("remote-id", "any");
	now += 60;
	X509_up_ref(long_lived);
	says(peer(long_lived, NULL), unknown);

	profile(f, "corp", ca);
	now = NOW + DAY - 5;
	X509_up_ref(ends);
	says(peer(ends, NULL), "");
	now = NOW + DAY + 5;
	X509_up_ref(ends);
	says(peer(ends, NULL), "CN=peer expired on");
	X509_free(long_lived);
	X509_free(ends);
}

/* An index with an entry for the serial number of REVOKED. */
static struct crl_index *index_of(const X509 *revoked)
{
	struct crl_trailer trailer = { .magic = CRL_MAGIC, .entries = { [7] = 1 } };
	struct crl_entry entry = { .reason = CRL_NO_REASON };
	int fd = memfd_create("index", MFD_CLOEXEC);
	struct crl_index *index;
	uint64_t sum;

	assert_true(crl_entry_set_serial(&entry, X509_get0_serialNumber(revoked)));
	crl_entry_seal(&entry);
	sum = crl_sum(CRL_SUM, &entry, CRL_KEY);
	sum = crl_sum(sum, &trailer, offsetof(struct crl_trailer, sum));
	for (size_t i = sizeof trailer.sum; i-- > 0; sum >>= 8)
		trailer.sum[i] = (unsigned char)sum;
	assert_int_equal(write(fd, &entry, sizeof entry), sizeof entry);
	assert_int_equal(write(fd, &entry, CRL_KEY), CRL_KEY);
	assert_int_equal(write(fd, &trailer, sizeof trailer), sizeof trailer);
	assert_int_equal(crl_index_open(fd, &index), 0);
	return index;
}

/* A CRL of the root's that has REVOKED in it. */
static X509_CRL *crl_of(const X509 *revoked)
{
	unsigned char *der = NULL, digest[32] = { 0 };
	X509_CRL *whole = X509_CRL_new(), *stub;
	ASN1_TIME *from = ASN1_TIME_set(NULL, NOW - DAY), *to = ASN1_TIME_set(NULL, NOW + DAY);
	struct error err = { 0 };
	int length;

	X509_CRL_set_version(whole, X509_CRL_VERSION_2);
	X509_CRL_set_issuer_name(whole, X509_get_subject_name(ca));
	X509_CRL_set1_lastUpdate(whole, from);
	X509_CRL_set1_nextUpdate(whole, to);
	assert_true(X509_CRL_sign(whole, ca_key, EVP_sha256()) > 0);
	length = i2d_X509_CRL(whole, &der);
	stub = stub_crl_new(&(struct stub){ der, (size_t)length, digest, sizeof digest },
	                    index_of(revoked), &err);
	if (!stub)
		fail_msg("%s", err.text);
	OPENSSL_free(der);
	X509_CRL_free(whole);
	ASN1_TIME_free(from);
	ASN1_TIME_free(to);
	return stub;
}

/* A CRL changes nothing for those who are not in it. */
static void who_is_in_a_crl_is_judged_again(void **state)
{
	X509 *good = PEER(FROM_CA), *bad = PEER(FROM_CA), *below = PEER(FROM_SUB);
	int64_t corp = object_of(KIND_CA, "corp").id;
	X509 *const all[] = { good, bad, below };
	X509_CRL *crl;

	(void)state;
	assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(bad), 4711), 1);
	assert_true(X509_sign(bad, ca_key, EVP_sha256()) > 0);
	set("ca-profile", "corp");
	for (size_t i = 0; i < COUNT(all); i++) {
		X509_up_ref(all[i]);
		says(peer(all[i], sub), "");
		assert_true(believed_still(corp, all[i], now));
	}
	crl = crl_of(bad);
	believed_hear(crl);
	X509_CRL_free(crl);
	assert_true(believed_still(corp, good, now));
	assert_false(believed_still(corp, bad, now));
	assert_true(believed_still(corp, below, now));
	crl = crl_of(sub);
	believed_hear(crl);
	X509_CRL_free(crl);
	assert_false(believed_still(corp, below, now));
	for (size_t i = 0; i < COUNT(all); i++)
		X509_free(all[i]);
}

/* There is no CRL: crl-on-download-failure decides. */
static void what_is_not_known_is_refused_or_told(void **state)
{
	X509 *certificate = PEER(FROM_CA);
	STACK_OF(X509) *chain = stack_of(certificate, NULL);
	struct trust trust;

	(void)state;
	set("ca-profile", "corp");
	configure(KIND_CA, "corp", "");
	assert_int_equal(tunnel_trust_peer(&store, settings, chain, &trust), 0);
	says(trust.cut, "whether CN=peer is revoked is not known");
	assert_string_equal(trust.warning, "");
	configure(KIND_CA, "corp", "crl-on-download-failure = accept\n");
	assert_int_equal(tunnel_trust_peer(&store, settings, chain, &trust), 0);
	says(trust.cut, "");
	says(trust.warning, "whether CN=peer is revoked is not known");
	free_stack(chain);
	X509_free(certificate);
}

static void our_certificate_is_judged_by_its_profile(void **state)
{
	struct fixture *f = *state;
	X509 *mine = PEER(FROM_CA), *own_root = PEER();

	set("certificate-id", "gate");
	add_object(f, KIND_LOCAL, "gate");
	configure(KIND_LOCAL, "gate", "ca-profile = corp\n");
	show(object_of(KIND_LOCAL, "gate").id, &(struct edition){ 0 });
	says(own(), "certificate id gate has no certificate");
	gate(f, mine, ca, "profile");
	says(own(), "");
	configure(KIND_CA, "corp", "");
	says(own(), "whether CN=peer is revoked is not known");
	configure(KIND_CA, "corp", "crl-on-download-failure = accept\n");
	says(own(), "");
	now = NOW + 366L * DAY;
	says(own(), "the certificate of certificate id gate ended at");
	now = NOW;
	assert_int_equal(
		db_object_set_state(store.db, object_of(KIND_LOCAL, "gate").id, "revoked", now), 0);
	says(own(), "the certificate of certificate id gate is revoked");
	assert_int_equal(
		db_object_set_state(store.db, object_of(KIND_LOCAL, "gate").id, "valid", now), 0);
	profile(f, "corp", NULL);
	says(own(), "no profile has the CA of certificate id gate any more");
	gate(f, own_root, NULL, "self");
	profile(f, "other", ca);
	set("ca-profile", "other");
	says(own(), "");
	X509_free(mine);
	X509_free(own_root);
}

static void our_name_is_one_that_it_has(void **state)
{
	struct fixture *f = *state;
	X509 *mine = PEER(FROM_CA);
	struct error err = { 0 };

	set("certificate-id", "gate");
	gate(f, mine, ca, "profile");
	set("local-id", "192.0.2.1");
	assert_int_equal(tunnel_check_local_id(&store, settings, &err), 0);
	says(own(), "");
	set("local-id", "b.example");
	assert_int_equal(tunnel_check_local_id(&store, settings, &err), -EINVAL);
	says(err.text, "b.example is not in the certificate, which has: a.example, 192.0.2.1, "
	               "CN=peer");
	says(own(), "local-id: b.example is not in the certificate");
	X509_free(mine);
}

/* An engine that does not know its peer's certificate needs all of its CAs. */
static void cas_that_are_no_more(void **state)
{
	struct fixture *f = *state;
	STACK_OF(X509) *cas = sk_X509_new_null();

	profile(f, "other", NULL);
	set("engine", "charon");
	set("ca-profile", "other");
	says(own(), "profile other has no CA certificate");
	set("ca-profile", "corp");
	says(own(), "");
	assert_int_equal(tunnel_cas(&store, settings, false, cas), 0);
	assert_int_equal(sk_X509_num(cas), 1);
	record_set(settings, "engine", "manual");
	says(own(), "profile other has no CA certificate");
	now = NOW + 9999L * DAY;
	record_set(settings, "ca-profile", "corp");
	says(own(), "the CA certificate of profile corp ended at");
	free_stack(cas);
}

/* Where they are many, what stands on the same is judged once. */
static void a_verdict_is_for_all_that_stand_on_the_same(void **state)
{
	struct fixture *f = *state;
	struct verdict *verdicts = NULL, *first, *second, *other;
	X509 *mine = PEER(FROM_CA);
	char *stands_on;

	set("certificate-id", "gate");
	set("engine", "charon");
	gate(f, mine, ca, "profile");
	stands_on = tunnel_stands_on(settings);
	assert_int_equal(tunnel_verdict(&store, stands_on, &verdicts, &first), 0);
	says(first->trust.cut, "");
	configure(KIND_CA, "corp", "");
	assert_int_equal(tunnel_verdict(&store, stands_on, &verdicts, &second), 0);
	assert_ptr_equal(second, first);
	free(stands_on);
	set("ca-profile", "corp");
	stands_on = tunnel_stands_on(settings);
	assert_int_equal(tunnel_verdict(&store, stands_on, &verdicts, &other), 0);
	says(other->trust.cut, "whether CN=peer is revoked is not known");
	verdicts_free(verdicts);
	free(stands_on);
	X509_free(mine);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_world, end_world)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_peer_is_one_of_the_profiles),
		TEST(a_peer_of_the_ca_before_is_one),
		TEST(who_stands_between_may_be_known),
		TEST(what_a_peer_is_for),
		TEST(a_peer_has_its_time),
		TEST(a_peer_has_the_remote_id),
		TEST(who_was_believed_still_is),
		TEST(who_is_in_a_crl_is_judged_again),
		TEST(what_is_not_known_is_refused_or_told),
		TEST(our_certificate_is_judged_by_its_profile),
		TEST(our_name_is_one_that_it_has),
		TEST(cas_that_are_no_more),
		TEST(a_verdict_is_for_all_that_stand_on_the_same),
	};

	return cmocka_run_group_tests(tests, make_cas, free_cas);
}
