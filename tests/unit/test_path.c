/* path_check: names, purposes, paths that OpenSSL does not find, revocation, and attacks 45 to 51.
 */
#include "common/sanitized.h"
#include "common/x509.h"
#include "forge.h"
#include "pkifs/path.h"

#include <errno.h>
#include <malloc.h>
#include <openssl/err.h>
#include <openssl/rsa.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define SERVER    "DNS:a.example"
#define LEAF(...) MAKE(.subject = "CN=a.example", __VA_ARGS__)

/* A question about LEAF by the root. */
static struct path_question about(X509 *leaf)
{
	return (struct path_question){
		.leaf = leaf, .anchors = stack_of(ca, NULL), .now = NOW, .clock_trusted = true
	};
}

static struct path_name dns(const char *name)
{
	return (struct path_name){ .kind = PATH_DNS, .text = name };
}

/* Takes QUESTION's stacks and leaf. */
static int answer_of(struct path_question question, struct path_answer *answer, struct error *err)
{
	int r = path_check(&question, answer, err);

	free_stack(question.anchors);
	free_stack(question.untrusted);
	X509_free(question.leaf);
	assert_int_equal(ERR_peek_error(), 0);
	return r;
}

static void passes(struct path_question question)
{
	struct path_answer answer;
	struct error err = { 0 };

	if (answer_of(question, &answer, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(answer.failed, -1);
	for (int i = 0; i < answer.count; i++)
		assert_string_not_equal(answer.steps[i].checked, "");
	path_answer_clear(&answer);
}

/* Fails for the certificate number WHICH of the path, with SENTENCE. */
static void fails(struct path_question question, int which, const char *sentence)
{
	struct path_answer answer;
	struct error err = { 0 };

	assert_int_equal(answer_of(question, &answer, &err), -EINVAL);
	if (!strstr(err.text, sentence))
		fail_msg("\"%s\" instead of \"%s\"", err.text, sentence);
	assert_int_equal(answer.failed, which);
	assert_true(answer.count > which);
	path_answer_clear(&answer);
}

static void named(X509 *leaf, enum path_name_kind kind, const char *name, bool has)
{
	struct path_question question = about(leaf);

	question.name = (struct path_name){ .kind = kind, .text = name };
	if (has)
		passes(question);
	else
		fails(question, 0, "does not have the");
}

static void names_of_every_kind_are_found(void **state)
{
	static const char all[] =
		"DNS:a.example,DNS:*.b.example,IP:192.0.2.1,IP:2001:db8::1,email:me@Example.net";
	static const struct {
		const char *name;
		enum path_name_kind kind;
		bool has;
	} names[] = {
		{ "A.example", PATH_DNS, true },         { "x.b.example", PATH_DNS, true },
		{ "x.y.b.example", PATH_DNS, false },    { "b.example", PATH_DNS, false },
		{ "192.0.2.1", PATH_IP, true },          { "192.0.2.2", PATH_IP, false },
		{ "2001:DB8:0::1", PATH_IP, true },      { "me@example.NET", PATH_EMAIL, true },
		{ "ME@example.net", PATH_EMAIL, false }, { "CN=A.example,O=x", PATH_DN, true },
		{ "O=x,CN=a.example", PATH_DN, false },  { "CN=a.example", PATH_DN, false },
	};
	struct path_name read;
	struct error err;

	(void)state;
	for (size_t i = 0; i < COUNT(names); i++) {
		assert_int_equal(path_name_read(names[i].name, &read, &err), 0);
		assert_int_equal(read.kind, names[i].kind);
		named(MAKE(.subject = "CN=a.example,O=x", .names = all, FROM_CA), names[i].kind,
		      names[i].name, names[i].has);
	}
	assert_int_equal(path_name_read("*.b.example", &read, &err), -EINVAL);
	assert_int_equal(path_name_read(".b.example", &read, &err), -EINVAL);
	assert_int_equal(path_name_read("b.example.", &read, &err), -EINVAL);
	assert_int_equal(path_name_read("bücher.example", &read, &err), -EINVAL);
	assert_int_equal(path_name_read("", &read, &err), -EINVAL);
}

static void ike_knows_no_wildcards(void **state)
{
	struct path_question question = about(LEAF(.names = "DNS:*.a.example", FROM_CA));

	(void)state;
	question.purpose = PATH_IKE;
	question.name = dns("x.a.example");
	fails(question, 0, "does not have the DNS name x.a.example");
}

static void purposed(enum path_purpose purpose, const char *usage, const char *purposes,
                     const char *refusal)
{
	struct path_question question =
		about(LEAF(.names = SERVER, .usage = usage, .purposes = purposes, FROM_CA));

	question.purpose = purpose;
	if (refusal)
		fails(question, 0, refusal);
	else
		passes(question);
}

static void a_purpose_wants_its_usages(void **state)
{
	(void)state;
	purposed(PATH_SERVER, NULL, "serverAuth", NULL);
	purposed(PATH_SERVER, NULL, NULL, NULL);
	purposed(PATH_SERVER, NULL, "clientAuth", "purpose");
	purposed(PATH_CLIENT, NULL, "clientAuth", NULL);
	purposed(PATH_CLIENT, NULL, "serverAuth", "purpose");
	purposed(PATH_IKE, NULL, NULL, NULL);
	purposed(PATH_IKE, "nonRepudiation", "1.3.6.1.5.5.7.3.17", NULL);
	purposed(PATH_IKE, "", "1.3.6.1.5.5.8.2.2", NULL);
	purposed(PATH_IKE, NULL, "anyExtendedKeyUsage", NULL);
	purposed(PATH_IKE, NULL, "serverAuth,clientAuth", "is not for IKE: its extended key usage");
	purposed(PATH_IKE, "keyEncipherment", NULL, "is not for IKE: its key usage");
	purposed(PATH_ANY, "keyEncipherment", "codeSigning", NULL);
}

static void a_ca_is_no_peer(void **state)
{
	enum path_purpose purposes[] = { PATH_SERVER, PATH_CLIENT, PATH_IKE };

	(void)state;
	for (size_t i = 0; i < COUNT(purposes); i++) {
		struct path_question question =
			about(LEAF(.names = SERVER, .basic = CA_BASIC,
		                   .usage = "digitalSignature,keyCertSign", FROM_CA));

		question.purpose = purposes[i];
		fails(question, 0, "is a CA certificate (CA:TRUE), no peer's");
	}
}

static void depth_counts_what_a_ca_did_not_issue_to_itself(void **state)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *again = MAKE(.subject = "CN=Sub", .key = key, .basic = CA_BASIC, .usage = CA_USAGE,
	                   FROM_SUB);

	(void)state;
	for (int depth = 0; depth < 2; depth++) {
		struct path_question question =
			about(LEAF(.names = SERVER, .issuer = again, .issuer_key = key));

		question.untrusted = stack_of(sub, again, NULL);
		question.has_depth = true;
		question.depth = depth;
		if (depth)
			passes(question);
		else
			fails(question, 2, "CN=Sub is one more than the 0 intermediate");
	}
	X509_free(again);
	EVP_PKEY_free(key);
}

static void a_policy_that_is_asked_for_must_be_there(void **state)
{
	static const char *const asked[] = { "1.2.3.1", "1.2.3.2" };

	(void)state;
	for (size_t i = 0; i < COUNT(asked); i++) {
		struct path_question question =
			about(LEAF(.names = SERVER, .policies = "1.2.3.1", FROM_CA));
		STACK_OF(ASN1_OBJECT) *policies = sk_ASN1_OBJECT_new_null();

		sk_ASN1_OBJECT_push(policies, OBJ_txt2obj(asked[i], 1));
		question.policies = policies;
		question.explicit_policy = true;
		if (i == 0)
			passes(question);
		else
			fails(question, 0, "no explicit policy");
		sk_ASN1_OBJECT_pop_free(policies, ASN1_OBJECT_free);
	}
}

static void the_last_second_counts(void **state)
{
	struct path_question question = about(LEAF(.names = SERVER, FROM_CA, .from = -9, .to = 1));

	(void)state;
	X509_up_ref(question.leaf);
	question.now = NOW + DAY;
	passes(question);
	question.anchors = stack_of(ca, NULL);
	question.now = NOW + DAY + 1;
	fails(question, 0, "expired on");
}

/* --- paths that OpenSSL does not find --- */

static void attack_50_a_bogus_certificate_first_hides_no_real_one(void **state)
{
	X509 *bogus = MAKE(.subject = "CN=Sub", .key = sub_key, .basic = CA_BASIC,
	                   .usage = CA_USAGE, .issuer = ca, .issuer_key = other_key);
	struct path_question question = about(LEAF(.names = SERVER, FROM_SUB));
	struct path_question alone = about(LEAF(.names = SERVER, FROM_SUB));

	(void)state;
	X509_set_serialNumber(bogus, X509_get_serialNumber(sub));
	X509_sign(bogus, other_key, EVP_sha256());
	alone.untrusted = stack_of(bogus, NULL);
	fails(alone, 1, "the signature of CN=Root under CN=Sub is wrong");
	question.untrusted = stack_of(bogus, sub, NULL);
	passes(question);
	X509_free(bogus);
}

static void attack_50_nor_one_with_another_key(void **state)
{
	X509 *bogus = MAKE(.subject = "CN=Sub", .key = other_key, .basic = CA_BASIC,
	                   .usage = CA_USAGE, FROM_CA, .no_key_ids = true);
	struct path_question question = about(LEAF(.names = SERVER, FROM_SUB, .no_key_ids = true));

	(void)state;
	question.tolerant = true; /* nothing but names leads up */
	question.untrusted = stack_of(bogus, sub, NULL);
	passes(question);
	X509_free(bogus);
}

static void attack_48_neither_a_v1_certificate_nor_a_leaf_issues(void **state)
{
	X509 *old = MAKE(.subject = "CN=Old", .key = sub_key, .version_1 = true, FROM_CA);
	X509 *leaf = LEAF(.names = SERVER, .key = sub_key, FROM_CA);
	X509 *issuers[] = { old, leaf };

	(void)state;
	for (size_t i = 0; i < COUNT(issuers); i++) {
		struct path_question question =
			about(MAKE(.subject = "CN=b.example", .names = "DNS:b.example",
		                   .issuer = issuers[i], .issuer_key = sub_key));

		question.untrusted = stack_of(issuers[i], NULL);
		fails(question, 0, "leads to no trusted CA");
	}
	X509_free(old);
	X509_free(leaf);
}

static void attack_48_of_two_chains_the_good_one_is_found(void **state)
{
	X509 *ended =
		MAKE(.subject = "CN=Sub", .key = sub_key, .basic = CA_BASIC, .usage = CA_USAGE,
	             FROM_CA, .constraints = "critical,excluded;DNS:example");
	struct path_question question = about(LEAF(.names = SERVER, FROM_SUB));

	(void)state;
	question.untrusted = stack_of(ended, sub, NULL);
	passes(question);
	question = about(LEAF(.names = SERVER, FROM_SUB));
	question.untrusted = stack_of(ended, NULL);
	fails(question, 0, "excluded");
	X509_free(ended);
}

/* --- names that deceive --- */

/* A leaf whose one alternative name has these bytes. */
static X509 *with_bytes(int type, const void *bytes, int length)
{
	GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
	GENERAL_NAME *name = GENERAL_NAME_new();
	ASN1_STRING *value =
		ASN1_STRING_type_new(type == GEN_IPADD ? V_ASN1_OCTET_STRING : V_ASN1_IA5STRING);
	X509 *leaf;

	ASN1_STRING_set(value, bytes, length);
	GENERAL_NAME_set0_value(name, type, value);
	sk_GENERAL_NAME_push(names, name);
	leaf = LEAF(.alternative = names, FROM_CA);
	GENERAL_NAMES_free(names);
	return leaf;
}

static void attack_45_names_that_only_look_alike(void **state)
{
	static const struct {
		int type;
		const char *bytes;
		int length;
		const char *name;
	} lies[] = {
		{ GEN_DNS, "a.example\0.evil.example", 23, "a.example" },
		{ GEN_DNS, "*", 1, "a" },
		{ GEN_DNS, "*.example", 9, "x.a.example" },
		{ GEN_DNS, "a.*.example", 11, "a.b.example" },
		{ GEN_DNS, "b\303\274cher.example", 14, "xn--bcher-kva.example" },
		{ GEN_DNS, "xn--*-kva.example", 17, "xn--bcher-kva.example" },
		{ GEN_DNS, "a.example.", 10, "a.example" },
		{ GEN_EMAIL, "me@a.example\0.evil", 18, "me@a.example" },
		{ GEN_EMAIL, "@a.example", 10, "me@a.example" },
		{ GEN_IPADD, "\300\0\002\001\377\377\377\377", 8, "192.0.2.1" },
		{ GEN_IPADD, "\300\0\002", 3, "192.0.2.0" },
	};

	(void)state;
	for (int tolerant = 0; tolerant < 2; tolerant++)
		for (size_t i = 0; i < COUNT(lies); i++) {
			struct path_question question =
				about(with_bytes(lies[i].type, lies[i].bytes, lies[i].length));
			struct error err;

			question.tolerant = tolerant;
			assert_int_equal(path_name_read(lies[i].name, &question.name, &err), 0);
			fails(question, 0, "does not have the");
		}
}

static void attack_45_a_cn_is_nobody_s_name(void **state)
{
	(void)state;
	named(LEAF(FROM_CA), PATH_DNS, "a.example", false);
	named(LEAF(.names = "DNS:b.example", FROM_CA), PATH_DNS, "a.example", false);
	named(LEAF(.names = "email:me@a.example", FROM_CA), PATH_DNS, "a.example", false);
	named(MAKE(.subject = "CN=192.0.2.1", FROM_CA), PATH_IP, "192.0.2.1", false);
}

static void attack_46_excluded_names_are_not_evaded(void **state)
{
	static const struct {
		const char *constraint, *name;
	} tries[] = {
		{ "critical,excluded;DNS:evil.example", "DNS:EVIL.example" },
		{ "critical,excluded;DNS:evil.example", "DNS:www.eViL.example" },
		{ "critical,excluded;DNS:evil.example", "DNS:*.example" },
		{ "critical,excluded;DNS:EVIL.example", "DNS:*.EXAMPLE" },
		{ "critical,excluded;DNS:evil.example", "DNS:evil.example." },
		{ "critical,permitted;DNS:good.example", "DNS:*.example" },
		{ "critical,excluded;email:evil.example", "email:me@EVIL.example" },
		{ "critical,excluded;email:evil.example", "email:me@evil.example." },
		{ "critical,excluded;IP:192.0.2.0/255.255.255.0", "IP:192.0.2.9" },
	};

	(void)state;
	for (int tolerant = 0; tolerant < 2; tolerant++)
		for (size_t i = 0; i < COUNT(tries); i++) {
			X509 *fenced = MAKE(.subject = "CN=Sub", .key = sub_key, .basic = CA_BASIC,
			                    .usage = CA_USAGE, FROM_CA,
			                    .constraints = tries[i].constraint);
			struct path_question question =
				about(LEAF(.names = tries[i].name, .issuer = fenced,
			                   .issuer_key = sub_key));

			question.tolerant = tolerant;
			question.untrusted = stack_of(fenced, NULL);
			fails(question, 0, "");
			X509_free(fenced);
		}
}

/* --- what costs --- */

static double milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* Fails with SENTENCE, and soon. */
static void fails_soon(struct path_question question, const char *sentence)
{
	double begun = milliseconds();
	struct path_answer answer;
	struct error err = { 0 };

	assert_int_equal(answer_of(question, &answer, &err), -EINVAL);
	if (!SANITIZED)
		assert_true(milliseconds() - begun < 1000);
	if (!strstr(err.text, sentence))
		fail_msg("\"%s\" instead of \"%s\"", err.text, sentence);
	path_answer_clear(&answer);
}

/* Ten CAs, each of which maps all policies to all others: without a limit 4^10 nodes. */
static void attack_47_a_policy_tree_that_grows(void **state)
{
	static const char policies[] = "1.2.3.1,1.2.3.2,1.2.3.3,1.2.3.4";
	char mappings[400] = "";
	X509 *cas[9], *above = ca;
	EVP_PKEY *above_key = ca_key;
	struct path_question question;

	(void)state;
	for (int i = 1; i <= 4; i++)
		for (int k = 1; k <= 4; k++)
			sprintf(mappings + strlen(mappings), "%s1.2.3.%d:1.2.3.%d",
			        *mappings ? "," : "", i, k);
	for (size_t i = 0; i < COUNT(cas); i++) {
		char subject[20];

		snprintf(subject, sizeof subject, "CN=%zu", i);
		cas[i] = MAKE(.subject = subject, .key = sub_key, .basic = CA_BASIC,
		              .usage = CA_USAGE, .issuer = above, .issuer_key = above_key,
		              .policies = policies, .mappings = mappings,
		              .policy_constraints = i ? NULL : "critical,requireExplicitPolicy:0");
		above = cas[i];
		above_key = sub_key;
	}
	question = about(LEAF(.names = SERVER, .issuer = above, .issuer_key = sub_key,
	                      .policies = policies));
	question.untrusted = sk_X509_new_null();
	for (size_t i = 0; i < COUNT(cas); i++)
		sk_X509_push(question.untrusted, cas[i]);
	fails_soon(question, "");
}

static void attack_47_keys_that_stop_the_machine(void **state)
{
	EVP_PKEY *huge = huge_key(16384), *spelled = explicit_key();
	X509 *ca_of_huge = MAKE(.subject = "CN=Huge", .key = huge, .basic = CA_BASIC,
	                        .usage = CA_USAGE, FROM_CA);
	X509 *ca_of_spelled = reread(MAKE(.subject = "CN=Spelled", .key = spelled,
	                                  .basic = CA_BASIC, .usage = CA_USAGE, FROM_CA));
	struct path_question question;

	(void)state;
	fails_soon(about(LEAF(.names = SERVER, .key = huge, FROM_CA)), "16384 bits, more than");
	fails_soon(about(reread(LEAF(.names = SERVER, .key = spelled, FROM_CA))), "spells");
	question = about(LEAF(.names = SERVER, .issuer = ca_of_huge, .issuer_key = ca_key));
	question.untrusted = stack_of(ca_of_huge, NULL);
	fails_soon(question, "leads to no trusted CA");
	question = about(LEAF(.names = SERVER, .issuer = ca_of_spelled, .issuer_key = spelled));
	question.untrusted = stack_of(ca_of_spelled, NULL);
	fails_soon(question, "leads to no trusted CA");
	X509_free(ca_of_huge);
	X509_free(ca_of_spelled);
	EVP_PKEY_free(huge);
	EVP_PKEY_free(spelled);
}

/* An extension as a CA would encode it that can do what it likes. */
static X509 *with_extension(int nid, const unsigned char *bytes, int length)
{
	X509 *leaf = LEAF(.names = SERVER, FROM_CA);
	ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
	X509_EXTENSION *extension;

	ASN1_OCTET_STRING_set(value, bytes, length);
	extension = X509_EXTENSION_create_by_NID(NULL, nid, 1, value);
	X509_add_ext(leaf, extension, -1);
	X509_EXTENSION_free(extension);
	ASN1_OCTET_STRING_free(value);
	X509_sign(leaf, ca_key, EVP_sha256());
	return reread(leaf);
}

static void attack_47_a_policy_that_is_none(void **state)
{
	static const unsigned char twice[] = { 0x30, 0x0c, 0x30, 0x04, 0x06, 0x02, 0x2a,
		                               0x03, 0x30, 0x04, 0x06, 0x02, 0x2a, 0x03 };
	static const unsigned char garbage[] = { 0x30, 0x03, 0x02, 0x01, 0x01 };

	(void)state;
	fails_soon(about(with_extension(NID_certificate_policies, twice, sizeof twice)), "policy");
	fails_soon(about(with_extension(NID_certificate_policies, garbage, sizeof garbage)), "");
}

static void attack_47_an_object_identifier_of_4_kb(void **state)
{
	unsigned char bytes[4200] = { 0x30, 0x82, 0x10, 0x64, 0x06, 0x82, 0x10, 0x60, 0x2a };
	struct path_question question;

	(void)state;
	memset(bytes + 9, 0x81, 4191);
	bytes[0x1060 + 7] = 0x01; /* its last arc ends there */
	question = about(with_extension(NID_ext_key_usage, bytes, 0x1064 + 4));
	question.purpose = PATH_IKE;
	fails_soon(question, "");
}

/* --- signatures --- */

static ASN1_BIT_STRING *signature_of(X509 *certificate)
{
	const ASN1_BIT_STRING *signature;

	X509_get0_signature(&signature, NULL, certificate);
	return (ASN1_BIT_STRING *)(uintptr_t)signature;
}

static void attack_49_the_outer_algorithm_is_not_the_inner_one(void **state)
{
	X509 *leaf = LEAF(.names = SERVER, FROM_CA);
	const X509_ALGOR *outer;

	(void)state;
	X509_get0_signature(NULL, &outer, leaf);
	X509_ALGOR_set0((X509_ALGOR *)(uintptr_t)outer, OBJ_nid2obj(NID_ecdsa_with_SHA384),
	                V_ASN1_UNDEF, NULL);
	fails(about(reread(leaf)), 0, "");
}

static void attack_49_a_salt_of_2_to_the_31(void **state)
{
	EVP_PKEY *key = EVP_RSA_gen(2048);
	X509 *rsa = MAKE(.subject = "CN=RSA", .key = key, .basic = CA_BASIC, .usage = CA_USAGE,
	                 FROM_CA);
	X509 *leaf = LEAF(.names = SERVER, .issuer = rsa, .issuer_key = key);
	RSA_PSS_PARAMS *parameters = RSA_PSS_PARAMS_new();
	struct path_question question;
	const X509_ALGOR *outer;

	(void)state;
	parameters->saltLength = ASN1_INTEGER_new();
	ASN1_INTEGER_set_uint64(parameters->saltLength, UINT64_C(1) << 31);
	X509_get0_signature(NULL, &outer, leaf);
	for (int i = 0; i < 2; i++) {
		ASN1_STRING *packed =
			ASN1_item_pack(parameters, ASN1_ITEM_rptr(RSA_PSS_PARAMS), NULL);

		X509_ALGOR_set0((X509_ALGOR *)(uintptr_t)(i ? X509_get0_tbs_sigalg(leaf) : outer),
		                OBJ_nid2obj(NID_rsassaPss), V_ASN1_SEQUENCE, packed);
	}
	RSA_PSS_PARAMS_free(parameters);
	question = about(reread(leaf));
	question.untrusted = stack_of(rsa, NULL);
	fails(question, 0, "");
	X509_free(rsa);
	EVP_PKEY_free(key);
}

/* The smallest S whose cube is not below TARGET. */
static void cube_root(const BIGNUM *target, BIGNUM *s, BN_CTX *context)
{
	BIGNUM *cube = BN_new();

	BN_zero(s);
	for (int bit = BN_num_bits(target) / 3 + 1; bit >= 0; bit--) {
		BN_set_bit(s, bit);
		BN_sqr(cube, s, context);
		BN_mul(cube, cube, s, context);
		if (BN_cmp(cube, target) > 0)
			BN_clear_bit(s, bit);
	}
	BN_add_word(s, 1);
	BN_free(cube);
}

/* Bleichenbacher's: the right beginning, then whatever makes it a cube. */
static void attack_49_a_signature_by_3_with_garbage_behind_it(void **state)
{
	static const unsigned char info[] = { 0x00, 0x30, 0x31, 0x30, 0x0d, 0x06, 0x09,
		                              0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04,
		                              0x02, 0x01, 0x05, 0x00, 0x04, 0x20 };
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_id(EVP_PKEY_RSA, NULL);
	BIGNUM *three = BN_new(), *target, *s = BN_new();
	unsigned char block[256] = { 0, 1, 255, 255, 255, 255, 255, 255, 255, 255 }, *tbs = NULL;
	BN_CTX *numbers = BN_CTX_new();
	struct path_question question;
	EVP_PKEY *key = NULL;
	X509 *rsa, *leaf;
	int length;

	(void)state;
	BN_set_word(three, 3);
	EVP_PKEY_keygen_init(context);
	EVP_PKEY_CTX_set_rsa_keygen_bits(context, 2048);
	EVP_PKEY_CTX_set1_rsa_keygen_pubexp(context, three);
	assert_int_equal(EVP_PKEY_keygen(context, &key), 1);
	rsa = MAKE(.subject = "CN=RSA", .key = key, .basic = CA_BASIC, .usage = CA_USAGE, FROM_CA);
	leaf = LEAF(.names = SERVER, .issuer = rsa, .issuer_key = key);
	length = i2d_re_X509_tbs(leaf, &tbs);
	memcpy(block + 10, info, sizeof info);
	EVP_Digest(tbs, (size_t)length, block + 10 + sizeof info, NULL, EVP_sha256(), NULL);
	target = BN_bin2bn(block, sizeof block, NULL);
	cube_root(target, s, numbers);
	BN_bn2binpad(s, block, sizeof block);
	question = about(leaf);
	question.untrusted = stack_of(rsa, NULL);
	X509_up_ref(leaf);
	passes(question); /* but for its signature it is good */
	ASN1_STRING_set(signature_of(leaf), block, sizeof block);
	for (int i = 0; i < 2; i++) { /* and what failed once fails again */
		X509_up_ref(leaf);
		question = about(leaf);
		question.untrusted = stack_of(rsa, NULL);
		fails(question, 0, "the signature of CN=RSA under CN=a.example is wrong");
	}
	X509_free(leaf);
	X509_free(rsa);
	OPENSSL_free(tbs);
	BN_free(three);
	BN_free(target);
	BN_free(s);
	BN_CTX_free(numbers);
	EVP_PKEY_CTX_free(context);
	EVP_PKEY_free(key);
}

/* Nothing is kept of who was judged; the full run would be 100,000. */
static void attack_51_many_peers_leave_nothing_behind(void **state)
{
	size_t before = 0;

	(void)state;
	for (int i = 0; i < 1100; i++) {
		struct path_question question = about(LEAF(.names = SERVER, FROM_SUB));

		if (i == 100)
			before = mallinfo2().uordblks;
		question.name = dns(i % 2 ? "a.example" : "b.example");
		question.untrusted = stack_of(sub, NULL);
		if (i % 2)
			passes(question);
		else
			fails(question, 0, "b.example");
	}
	assert_true(mallinfo2().uordblks < before + 10000);
}

/* --- revocation --- */

static STACK_OF(X509_CRL) * given; /* what the source below has */

static STACK_OF(X509_CRL) * crls_given(void *user, const X509_NAME *issuer)
{
	STACK_OF(X509_CRL) *found = sk_X509_CRL_new_null();

	(void)user;
	for (int i = 0; i < sk_X509_CRL_num(given); i++) {
		X509_CRL *crl = sk_X509_CRL_value(given, i);

		if (X509_NAME_cmp(X509_CRL_get_issuer(crl), issuer) == 0 && X509_CRL_up_ref(crl))
			sk_X509_CRL_push(found, crl);
	}
	return found;
}

/* ISSUER's CRL, due in DUE days, that revokes REVOKED (or nobody) for key compromise. */
static X509_CRL *make_crl(X509 *issuer, EVP_PKEY *key, const X509 *revoked, int due, bool number)
{
	X509_CRL *crl = X509_CRL_new();
	ASN1_TIME *from = ASN1_TIME_adj(NULL, NOW, -1, 0), *to = ASN1_TIME_adj(NULL, NOW, due, 0);
	ASN1_INTEGER *one = ASN1_INTEGER_new();
	ASN1_ENUMERATED *reason = ASN1_ENUMERATED_new();
	X509_REVOKED *entry = X509_REVOKED_new();

	X509_CRL_set_version(crl, X509_CRL_VERSION_2);
	X509_CRL_set_issuer_name(crl, X509_get_subject_name(issuer));
	X509_CRL_set1_lastUpdate(crl, from);
	X509_CRL_set1_nextUpdate(crl, to);
	ASN1_INTEGER_set(one, 26);
	if (number)
		X509_CRL_add1_ext_i2d(crl, NID_crl_number, one, 0, 0);
	if (revoked) {
		ASN1_ENUMERATED_set(reason, 1);
		X509_REVOKED_set_serialNumber(
			entry, (ASN1_INTEGER *)(uintptr_t)X509_get0_serialNumber(revoked));
		X509_REVOKED_set_revocationDate(entry, from);
		X509_REVOKED_add1_ext_i2d(entry, NID_crl_reason, reason, 0, 0);
		X509_CRL_add0_revoked(crl, X509_REVOKED_dup(entry));
	}
	X509_CRL_sort(crl);
	assert_true(X509_CRL_sign(crl, key, EVP_sha256()) > 0);
	ASN1_TIME_free(from);
	ASN1_TIME_free(to);
	ASN1_INTEGER_free(one);
	ASN1_ENUMERATED_free(reason);
	X509_REVOKED_free(entry);
	return crl;
}

static void give(X509_CRL *crl)
{
	if (!given)
		given = sk_X509_CRL_new_null();
	sk_X509_CRL_push(given, crl);
}

static int take_back(void **state)
{
	(void)state;
	sk_X509_CRL_pop_free(given, X509_CRL_free);
	given = NULL;
	return 0;
}

/* A question about a leaf below Sub (which may be another one) by CRLs. */
static struct path_question by_crl(X509 *leaf)
{
	struct path_question question = about(leaf);

	question.untrusted = stack_of(sub, NULL);
	question.revocation =
		(struct path_sources){ .source = PATH_SOURCE_CRL, .crls = crls_given };
	return question;
}

static void a_crl_tells_good_from_revoked(void **state)
{
	X509 *good = LEAF(.names = SERVER, FROM_SUB), *bad = LEAF(.names = SERVER, FROM_SUB);
	struct path_answer answer;
	struct error err = { 0 };

	(void)state;
	give(make_crl(ca, ca_key, NULL, 9, true));
	give(make_crl(sub, sub_key, bad, 9, true));
	assert_int_equal(answer_of(by_crl(good), &answer, &err), 0);
	assert_int_equal(answer.count, 3);
	assert_int_equal(answer.steps[0].revocation.state, PATH_GOOD);
	assert_int_equal(answer.steps[1].revocation.state, PATH_GOOD);
	assert_int_equal(answer.steps[2].revocation.state, PATH_UNCHECKED);
	assert_string_equal(answer.steps[0].revocation.how,
	                    "CRL 26, valid until 2027-01-10T00:00:00Z");
	path_answer_clear(&answer);
	fails(by_crl(bad), 0,
	      "CN=a.example is revoked since 2026-12-31T00:00:00Z, key compromise (CRL 26)");
}

static void a_revoked_ca_counts(void **state)
{
	(void)state;
	give(make_crl(ca, ca_key, sub, 9, true));
	give(make_crl(sub, sub_key, NULL, 9, true));
	fails(by_crl(LEAF(.names = SERVER, FROM_SUB)), 1, "CN=Sub is revoked");
}

/* What is not known is the caller's to decide. */
static void unknown(const char *why, int which)
{
	struct path_question question = by_crl(LEAF(.names = SERVER, FROM_SUB));

	fails(question, which, why);
	question = by_crl(LEAF(.names = SERVER, FROM_SUB));
	question.revocation.accept_unknown = true;
	passes(question);
	take_back(NULL);
}

static void without_a_valid_crl_policy_decides(void **state)
{
	(void)state;
	unknown("CN=a.example is revoked is not known: no CRL that covers it", 0);
	give(make_crl(sub, sub_key, NULL, 9, true));
	unknown("CN=Sub is revoked is not known: no CRL that covers it", 1);
	give(make_crl(ca, ca_key, NULL, 9, true));
	give(make_crl(sub, sub_key, NULL, 0, true));
	unknown("the CRL was due for renewal at 2027-01-01T00:00:00Z", 0);
	give(make_crl(ca, ca_key, NULL, 9, true));
	give(make_crl(sub, other_key, NULL, 9, true));
	unknown("CRL signature failure", 0);
	give(make_crl(ca, ca_key, NULL, 9, true));
	give(make_crl(sub, sub_key, NULL, 9, false));
	unknown("no CRL that covers it", 0);
}

static void attack_36_accept_never_un_revokes(void **state)
{
	X509 *bad = LEAF(.names = SERVER, FROM_SUB);
	struct path_question question = by_crl(bad);

	(void)state;
	give(make_crl(sub, sub_key, bad, 0, true)); /* and the CA's is missing */
	question.revocation.accept_unknown = true;
	fails(question, 0, "CN=a.example is revoked");
}

/* A CRL that nobody signed revokes nobody. */
static void attack_34_a_forged_crl_revokes_nobody(void **state)
{
	X509 *good = LEAF(.names = SERVER, FROM_SUB);
	struct path_question question = by_crl(good);

	(void)state;
	give(make_crl(ca, ca_key, NULL, 9, true));
	give(make_crl(sub, other_key, good, 9, true));
	question.revocation.accept_unknown = true;
	passes(question);
}

/* Nor one that is out of date as well. */
static void attack_34_an_old_forged_crl_revokes_nobody(void **state)
{
	X509 *good = LEAF(.names = SERVER, FROM_SUB);
	struct path_question question = by_crl(good);

	(void)state;
	give(make_crl(ca, ca_key, NULL, 9, true));
	give(make_crl(sub, other_key, good, 0, true));
	question.revocation.accept_unknown = true;
	passes(question);
}

static enum path_state responder_says;

static void responder(void *user, X509 *certificate, X509 *issuer, struct path_revocation *verdict)
{
	(void)user;
	assert_int_equal(X509_check_issued(issuer, certificate), X509_V_OK);
	verdict->state = responder_says;
	snprintf(verdict->how, sizeof verdict->how, "a responder");
}

static void by_ocsp(enum path_source source, enum path_state says, bool accept, const char *why)
{
	struct path_question question = by_crl(LEAF(.names = SERVER, FROM_SUB));

	question.revocation.source = source;
	question.revocation.ocsp = responder;
	question.revocation.accept_unknown = accept;
	responder_says = says;
	if (why)
		fails(question, 0, why);
	else
		passes(question);
}

static void revoked_by_either_is_revoked(void **state)
{
	X509 *bad = LEAF(.names = SERVER, FROM_SUB);
	struct path_question question;

	(void)state;
	by_ocsp(PATH_SOURCE_OCSP, PATH_GOOD, false, NULL);
	by_ocsp(PATH_SOURCE_OCSP, PATH_REVOKED, true, "is revoked (a responder)");
	by_ocsp(PATH_SOURCE_OCSP, PATH_UNKNOWN, false, "is not known");
	by_ocsp(PATH_SOURCE_OCSP, PATH_UNKNOWN, true, NULL);
	by_ocsp(PATH_SOURCE_OCSP_THEN_CRL, PATH_GOOD, false, NULL);
	by_ocsp(PATH_SOURCE_OCSP_THEN_CRL, PATH_UNKNOWN, false, "no CRL");
	give(make_crl(ca, ca_key, NULL, 9, true));
	give(make_crl(sub, sub_key, bad, 9, true));
	by_ocsp(PATH_SOURCE_OCSP_THEN_CRL, PATH_UNKNOWN, false, NULL);
	by_ocsp(PATH_SOURCE_OCSP_THEN_CRL, PATH_REVOKED, true, "is revoked (a responder)");
	question = by_crl(bad);
	question.revocation.source = PATH_SOURCE_OCSP_THEN_CRL;
	question.revocation.ocsp = responder;
	responder_says = PATH_GOOD;
	fails(question, 0, "is revoked since");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_of_every_kind_are_found),
		cmocka_unit_test(ike_knows_no_wildcards),
		cmocka_unit_test(a_purpose_wants_its_usages),
		cmocka_unit_test(a_ca_is_no_peer),
		cmocka_unit_test(depth_counts_what_a_ca_did_not_issue_to_itself),
		cmocka_unit_test(a_policy_that_is_asked_for_must_be_there),
		cmocka_unit_test(the_last_second_counts),
		cmocka_unit_test(attack_50_a_bogus_certificate_first_hides_no_real_one),
		cmocka_unit_test(attack_50_nor_one_with_another_key),
		cmocka_unit_test(attack_48_neither_a_v1_certificate_nor_a_leaf_issues),
		cmocka_unit_test(attack_48_of_two_chains_the_good_one_is_found),
		cmocka_unit_test(attack_45_names_that_only_look_alike),
		cmocka_unit_test(attack_45_a_cn_is_nobody_s_name),
		cmocka_unit_test(attack_46_excluded_names_are_not_evaded),
		cmocka_unit_test(attack_47_a_policy_tree_that_grows),
		cmocka_unit_test(attack_47_keys_that_stop_the_machine),
		cmocka_unit_test(attack_47_a_policy_that_is_none),
		cmocka_unit_test(attack_47_an_object_identifier_of_4_kb),
		cmocka_unit_test(attack_49_the_outer_algorithm_is_not_the_inner_one),
		cmocka_unit_test(attack_49_a_salt_of_2_to_the_31),
		cmocka_unit_test(attack_49_a_signature_by_3_with_garbage_behind_it),
		cmocka_unit_test(attack_51_many_peers_leave_nothing_behind),
		cmocka_unit_test_teardown(a_crl_tells_good_from_revoked, take_back),
		cmocka_unit_test_teardown(a_revoked_ca_counts, take_back),
		cmocka_unit_test_teardown(without_a_valid_crl_policy_decides, take_back),
		cmocka_unit_test_teardown(attack_36_accept_never_un_revokes, take_back),
		cmocka_unit_test_teardown(attack_34_a_forged_crl_revokes_nobody, take_back),
		cmocka_unit_test_teardown(attack_34_an_old_forged_crl_revokes_nobody, take_back),
		cmocka_unit_test_teardown(revoked_by_either_is_revoked, take_back),
	};

	return cmocka_run_group_tests(tests, make_cas, free_cas);
}
