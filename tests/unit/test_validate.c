#include "common/x509.h"
#include "forge.h"
#include "pkifs/validate.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct record *config;

static int make_world(void **state)
{
	make_cas(state);
	config = record_new();
	record_add(config, "subject", "CN=a.example,O=Example");
	record_add(config, "domain-name", "a.example");
	record_add(config, "ip-address", "192.0.2.1");
	return 0;
}

static int free_world(void **state)
{
	record_free(config);
	return free_cas(state);
}

/* The usual expectation; its anchors are the caller's. */
static struct expectation usual(X509 *anchor)
{
	return (struct expectation){ .key = own_key,
		                     .config = config,
		                     .anchors = anchor ? stack_of(anchor, NULL) : NULL,
		                     .require_anchor = true,
		                     .now = NOW,
		                     .clock_trusted = true };
}

/* Passes: the length of the chain. LEAF is freed. */
static int passes(struct expectation expectation, X509 *leaf, X509 *more)
{
	STACK_OF(X509) *candidates = stack_of(leaf, more, NULL), *chain = NULL;
	struct error err = { 0 };
	X509 *found = NULL;
	int count;

	if (validate_own(&expectation, candidates, &found, &chain, NULL, &err) < 0)
		fail_msg("%s", err.text);
	assert_ptr_equal(found, leaf);
	count = sk_X509_num(chain);
	free_stack(chain);
	free_stack(candidates);
	X509_free(found);
	X509_free(leaf);
	assert_int_equal(ERR_peek_error(), 0);
	return count;
}

/* Is refused with SENTENCE in it. LEAF is freed. */
static void refused(struct expectation expectation, X509 *leaf, X509 *more, const char *sentence)
{
	STACK_OF(X509) *candidates = stack_of(leaf, more, NULL), *chain = NULL;
	struct error err = { 0 };
	X509 *found = NULL;

	assert_int_equal(validate_own(&expectation, candidates, &found, &chain, NULL, &err),
	                 -EINVAL);
	assert_null(found);
	assert_null(chain);
	if (!strstr(err.text, sentence))
		fail_msg("\"%s\" instead of \"%s\"", err.text, sentence);
	free_stack(candidates);
	X509_free(leaf);
	assert_int_equal(ERR_peek_error(), 0);
}

static void a_certificate_as_asked_passes_with_its_chain(void **state)
{
	struct expectation root = usual(ca), below = usual(sub);

	(void)state;
	assert_int_equal(passes(root, MAKE(.names = A_NAMES, FROM_CA), NULL), 1);
	assert_int_equal(passes(root, MAKE(.names = A_NAMES, FROM_SUB), sub), 2);
	/* a confirmed CA that is no root is an anchor all the same */
	assert_int_equal(passes(below, MAKE(.names = A_NAMES, FROM_SUB), NULL), 1);
	free_stack(root.anchors);
	free_stack(below.anchors);
}

static void a_certificate_for_another_key_is_told_apart(void **state)
{
	struct expectation expectation = usual(ca);
	X509 *leaf = MAKE(.names = A_NAMES, FROM_CA, .key = other_key), *found = NULL;
	STACK_OF(X509) *candidates = stack_of(leaf, ca, NULL), *chain = NULL;
	struct error err;

	(void)state;
	assert_int_equal(validate_own(&expectation, candidates, &found, &chain, NULL, &err),
	                 -ENOENT);
	assert_string_equal(err.text, "none of the certificates is for the key asked for");
	free_stack(candidates);
	free_stack(expectation.anchors);
	X509_free(leaf);
}

static void other_names_are_refused_with_what_to_set(void **state)
{
	static const char set[] = "set accept-changed-names = yes to accept it";
	static const char many[] = A_NAMES
		",DNS:a-name-of-which-five-are-too-long-for-a-line-that-people-read-1.example"
		",DNS:a-name-of-which-five-are-too-long-for-a-line-that-people-read-2.example"
		",DNS:a-name-of-which-five-are-too-long-for-a-line-that-people-read-3.example"
		",DNS:a-name-of-which-five-are-too-long-for-a-line-that-people-read-4.example"
		",DNS:a-name-of-which-five-are-too-long-for-a-line-that-people-read-5.example";
	struct expectation expectation = usual(ca);

	(void)state;
	refused(expectation, MAKE(.names = A_NAMES, FROM_CA, .subject = "CN=b.example"), NULL,
	        "the CA changed subject from \"CN=a.example,O=Example\" to \"CN=b.example\"; set "
	        "accept-changed-names = yes to accept it");
	refused(expectation, MAKE(.names = "DNS:a.example", FROM_CA), NULL,
	        "the CA left out IP:192.0.2.1, which was asked for; set");
	refused(expectation, MAKE(.names = A_NAMES ",DNS:evil.example", FROM_CA), NULL,
	        "the CA added DNS:evil.example, which was not asked for; set");
	refused(expectation, MAKE(.names = A_NAMES ",URI:http://x/", FROM_CA), NULL,
	        "the CA added other, which was not asked for");
	refused(expectation, MAKE(FROM_CA), NULL,
	        "left out DNS:a.example, which was asked for, left out IP:192.0.2.1");
	refused(expectation, MAKE(FROM_CA), NULL, set);
	refused(expectation, MAKE(FROM_CA, .names = many), NULL, "(and more); set");
	free_stack(expectation.anchors);
}

static void changed_names_are_accepted_and_told_where_that_is_set(void **state)
{
	struct expectation expectation = usual(ca);
	X509 *leaf = MAKE(.names = "DNS:b.example", FROM_CA, .subject = "CN=b"), *found = NULL;
	STACK_OF(X509) *candidates = stack_of(leaf, NULL), *chain = NULL;
	struct record *differences = record_new();
	struct error err;

	(void)state;
	expectation.accept_changed_names = true;
	assert_int_equal(validate_own(&expectation, candidates, &found, &chain, differences, &err),
	                 0);
	assert_int_equal(record_count(differences), 4);
	assert_string_equal(record_field(differences, 0)->value,
	                    "changed subject from \"CN=a.example,O=Example\" to \"CN=b\"");
	assert_string_equal(record_field(differences, 3)->value,
	                    "added DNS:b.example, which was not asked for");
	record_free(differences);
	X509_free(found);
	free_stack(chain);
	free_stack(candidates);
	free_stack(expectation.anchors);
	X509_free(leaf);
}

static void order_and_case_of_names_say_nothing(void **state)
{
	struct expectation expectation = usual(ca);

	(void)state;
	assert_int_equal(passes(expectation,
	                        MAKE(.names = "IP:192.0.2.1,DNS:A.Example", FROM_CA,
	                             .subject = "O=EXAMPLE,CN=A.example"),
	                        NULL),
	                 1);
	expectation.alternative_names_only = true;
	assert_int_equal(
		passes(expectation, MAKE(.names = A_NAMES, FROM_CA, .subject = "CN=x"), NULL), 1);
	free_stack(expectation.anchors);
}

static void a_subject_that_is_not_set_is_the_first_domain(void **state)
{
	struct expectation expectation = usual(ca);
	struct record *bare = record_new();

	(void)state;
	record_add(bare, "domain-name", "a.example");
	expectation.config = bare;
	assert_int_equal(passes(expectation,
	                        MAKE(.names = "DNS:a.example", FROM_CA, .subject = "CN=a.example"),
	                        NULL),
	                 1);
	refused(expectation, MAKE(.names = "DNS:a.example", FROM_CA), NULL, "changed subject");
	record_free(bare);
	free_stack(expectation.anchors);
}

static void a_renewal_has_the_names_in_force_or_those_asked_for_now(void **state)
{
	struct expectation expectation = usual(ca);
	X509 *previous = MAKE(.names = "DNS:old.example", FROM_CA, .subject = "CN=old");

	(void)state;
	expectation.previous = previous;
	assert_int_equal(passes(expectation,
	                        MAKE(.names = "DNS:old.example", FROM_CA, .subject = "CN=old"),
	                        NULL),
	                 1);
	assert_int_equal(passes(expectation, MAKE(.names = A_NAMES, FROM_CA), NULL), 1);
	refused(expectation, MAKE(.names = "DNS:x.example", FROM_CA, .subject = "CN=old"), NULL,
	        "left out DNS:old.example, which was in the certificate in force, added "
	        "DNS:x.example, which was not in the certificate in force; ask for these names by "
	        "its config");
	expectation.accept_changed_names = true; /* that was for the first one */
	refused(expectation, MAKE(.names = "DNS:x.example", FROM_CA, .subject = "CN=old"), NULL,
	        "left out DNS:old.example");
	X509_free(previous);
	free_stack(expectation.anchors);
}

static void a_ca_is_not_a_certificate_of_ours(void **state)
{
	struct expectation expectation = usual(ca);

	(void)state;
	refused(expectation, MAKE(.names = A_NAMES, FROM_CA, .basic = CA_BASIC, .usage = CA_USAGE),
	        NULL, "CA:TRUE");
	expectation.allow_ca = true;
	assert_int_equal(
		passes(expectation,
	               MAKE(.names = A_NAMES, FROM_CA, .basic = CA_BASIC, .usage = CA_USAGE), NULL),
		1);
	free_stack(expectation.anchors);
}

static void usages_fit_server_client_or_ike(void **state)
{
	static const char *const good[] = { "serverAuth",
		                            "clientAuth",
		                            "serverAuth,clientAuth",
		                            "1.3.6.1.5.5.7.3.17",
		                            "1.3.6.1.5.5.8.2.2,codeSigning",
		                            "anyExtendedKeyUsage" };
	static const char *const bad[] = { "codeSigning", "critical,OCSPSigning,timeStamping" };
	struct expectation expectation = usual(ca);

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++)
		passes(expectation, MAKE(.names = A_NAMES, FROM_CA, .purposes = good[i]), NULL);
	for (size_t i = 0; i < COUNT(bad); i++)
		refused(expectation, MAKE(.names = A_NAMES, FROM_CA, .purposes = bad[i]), NULL,
		        "extended key usage fits neither server, client nor IKE");
	passes(expectation, MAKE(.names = A_NAMES, FROM_CA, .usage = "keyAgreement"), NULL);
	passes(expectation, MAKE(.names = A_NAMES, FROM_CA, .usage = ""), NULL);
	refused(expectation, MAKE(.names = A_NAMES, FROM_CA, .usage = "cRLSign"), NULL,
	        "key usage fits neither server, client nor IKE");
	free_stack(expectation.anchors);
}

static void weak_algorithms_need_allow_legacy_and_md5_never_passes(void **state)
{
	EVP_PKEY *weak = EVP_RSA_gen(1024);
	X509 *weak_ca =
		MAKE(.subject = "CN=Weak", .key = weak, .basic = CA_BASIC, .usage = CA_USAGE);
	struct expectation expectation = usual(ca), by_weak = usual(weak_ca), own = usual(ca);

	(void)state;
	own.key = weak;
	refused(expectation, MAKE(.names = A_NAMES, FROM_CA, .digest = EVP_sha1()), NULL,
	        "is signed with SHA-1; set allow-legacy = yes to accept it");
	refused(own, MAKE(.names = A_NAMES, FROM_CA, .key = weak), NULL,
	        "has 1024 bits, fewer than 2048; set allow-legacy = yes");
	refused(by_weak, MAKE(.names = A_NAMES, .issuer = weak_ca, .issuer_key = weak), NULL,
	        "the RSA key of CN=Weak has 1024 bits");
	expectation.allow_legacy = by_weak.allow_legacy = own.allow_legacy = true;
	passes(expectation, MAKE(.names = A_NAMES, FROM_CA, .digest = EVP_sha1()), NULL);
	passes(own, MAKE(.names = A_NAMES, FROM_CA, .key = weak), NULL);
	passes(by_weak, MAKE(.names = A_NAMES, .issuer = weak_ca, .issuer_key = weak), NULL);
	refused(by_weak,
	        MAKE(.names = A_NAMES, .issuer = weak_ca, .issuer_key = weak, .digest = EVP_md5()),
	        NULL, "is signed with MD5, which is broken");
	EVP_PKEY_free(weak);
	X509_free(weak_ca);
	free_stack(expectation.anchors);
	free_stack(by_weak.anchors);
	free_stack(own.anchors);
}

static void sha_1_on_the_anchor_itself_says_nothing(void **state)
{
	X509 *old = MAKE(.subject = "CN=Root", .key = ca_key, .basic = CA_BASIC, .usage = CA_USAGE,
	                 .digest = EVP_sha1());
	struct expectation expectation = usual(old);

	(void)state;
	passes(expectation, MAKE(.names = A_NAMES, .issuer = old, .issuer_key = ca_key), NULL);
	X509_free(old);
	free_stack(expectation.anchors);
}

static void keys_that_stop_the_machine_are_refused(void **state)
{
	EVP_PKEY *huge = huge_key(16384), *spelled = explicit_key();
	struct expectation expectation = usual(ca);
	X509 *issuer;

	(void)state;
	expectation.allow_legacy = true;
	expectation.key = huge;
	refused(expectation, MAKE(.names = A_NAMES, FROM_CA, .key = huge), NULL,
	        "has 16384 bits, more than 8192");
	expectation.key = spelled;
	refused(expectation, reread(MAKE(.names = A_NAMES, FROM_CA, .key = spelled)), NULL,
	        "spells its curve's parameters out");
	expectation.key = own_key;
	issuer = reread(MAKE(.subject = "CN=Spelled", .key = spelled, .basic = CA_BASIC,
	                     .usage = CA_USAGE, FROM_CA));
	refused(expectation, MAKE(.names = A_NAMES, .issuer = issuer, .issuer_key = spelled),
	        issuer, "CN=Spelled");
	X509_free(issuer);
	EVP_PKEY_free(huge);
	EVP_PKEY_free(spelled);
	free_stack(expectation.anchors);
}

static void times_count_only_by_a_clock_that_is_trusted(void **state)
{
	struct expectation expectation = usual(ca);
	struct spec early = { .names = A_NAMES, FROM_CA, .from = 1, .to = 9 };
	struct spec late = { .names = A_NAMES, FROM_CA, .from = -9, .to = -1 };
	struct spec turned = { .names = A_NAMES, FROM_CA, .from = 9, .to = -9 };

	(void)state;
	refused(expectation, make(early), NULL,
	        "CN=a.example,O=Example is not valid before 2027-01-02T00:00:00Z");
	refused(expectation, make(late), NULL,
	        "CN=a.example,O=Example expired on 2026-12-31T00:00:00Z");
	refused(expectation, make(turned), NULL, "before its beginning");
	expectation.now = NOW + DAY - 200; /* the CA's clock is a little ahead */
	passes(expectation, make(early), NULL);
	expectation.now = NOW;
	expectation.clock_trusted = false;
	passes(expectation, make(early), NULL);
	passes(expectation, make(late), NULL);
	refused(expectation, make(turned), NULL, "before its beginning");
	free_stack(expectation.anchors);
}

static void an_unknown_issuer_counts_only_where_no_anchor_is_needed(void **state)
{
	X509 *evil =
		MAKE(.subject = "CN=Evil", .key = other_key, .basic = CA_BASIC, .usage = CA_USAGE);
	struct spec spec = { .names = A_NAMES, .issuer = evil, .issuer_key = other_key };
	struct expectation expectation = usual(ca);

	(void)state;
	refused(expectation, make(spec), evil, "leads to no trusted CA");
	refused(expectation, make(spec), NULL, "its issuer is CN=Evil");
	expectation.require_anchor = false;
	assert_int_equal(passes(expectation, make(spec), evil), 1);
	assert_int_equal(passes(expectation, make(spec), NULL), 0);
	X509_free(evil);
	free_stack(expectation.anchors);
}

static void the_system_s_trust_is_not_what_the_environment_says(void **state)
{
	char folder[] = "/tmp/validate-XXXXXX", file[64];
	struct expectation expectation = usual(NULL);
	FILE *out;

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(file, sizeof file, "%s/%08lx.0", folder, X509_subject_name_hash(ca));
	out = fopen(file, "w");
	assert_non_null(out);
	PEM_write_X509(out, ca);
	fclose(out);
	setenv("SSL_CERT_DIR", folder, 1);
	setenv("SSL_CERT_FILE", file, 1);
	expectation.system_store = true;
	refused(expectation, MAKE(.names = A_NAMES, FROM_CA), NULL, "leads to no trusted CA");
	unsetenv("SSL_CERT_DIR");
	unsetenv("SSL_CERT_FILE");
	unlink(file);
	rmdir(folder);
}

static void a_path_leads_over_the_anchor_though_a_cross_certificate_came_along(void **state)
{
	X509 *evil =
		MAKE(.subject = "CN=Evil", .key = other_key, .basic = CA_BASIC, .usage = CA_USAGE);
	X509 *cross = MAKE(.subject = "CN=Sub", .key = sub_key, .basic = CA_BASIC,
	                   .usage = CA_USAGE, .issuer = evil, .issuer_key = other_key);
	X509 *leaf = MAKE(.names = A_NAMES, FROM_SUB), *found = NULL;
	STACK_OF(X509) *candidates = stack_of(cross, evil, leaf, NULL), *chain = NULL;
	struct expectation expectation = usual(sub);
	struct error err;

	(void)state;
	assert_int_equal(validate_own(&expectation, candidates, &found, &chain, NULL, &err), 0);
	assert_int_equal(sk_X509_num(chain), 1);
	assert_int_equal(X509_cmp(sk_X509_value(chain, 0), sub), 0);
	X509_free(found);
	free_stack(chain);
	free_stack(candidates);
	free_stack(expectation.anchors);
	X509_free(leaf);
	X509_free(cross);
	X509_free(evil);
}

static void only_a_ca_may_issue(void **state)
{
	X509 *plain = MAKE(.subject = "CN=Plain", .key = sub_key, FROM_CA);
	X509 *old = MAKE(.subject = "CN=Old", .key = sub_key, .version_1 = true, FROM_CA);
	X509 *mute = MAKE(.subject = "CN=Mute", .key = sub_key, .basic = CA_BASIC,
	                  .usage = "critical,digitalSignature", FROM_CA);
	X509 *issuers[] = { plain, old, mute };
	struct expectation expectation = usual(ca);

	(void)state;
	for (size_t i = 0; i < COUNT(issuers); i++) {
		refused(expectation,
		        MAKE(.names = A_NAMES, .issuer = issuers[i], .issuer_key = sub_key),
		        issuers[i], "");
		expectation.require_anchor = false;
		assert_int_equal(
			passes(expectation,
		               MAKE(.names = A_NAMES, .issuer = issuers[i], .issuer_key = sub_key),
		               issuers[i]),
			0); /* it is no part of the chain */
		expectation.require_anchor = true;
		X509_free(issuers[i]);
	}
	free_stack(expectation.anchors);
}

static void a_v1_anchor_vouches_for_nobody(void **state)
{
	X509 *old = MAKE(.subject = "CN=Old", .key = ca_key, .version_1 = true);
	struct expectation expectation = usual(old);

	(void)state;
	refused(expectation, MAKE(.names = A_NAMES, .issuer = old, .issuer_key = ca_key), NULL,
	        "CN=Old");
	X509_free(old);
	free_stack(expectation.anchors);
}

static void a_wrong_signature_is_refused(void **state)
{
	struct expectation expectation = usual(ca);

	(void)state;
	refused(expectation, MAKE(.names = A_NAMES, .issuer = ca, .issuer_key = other_key), NULL,
	        "the signature of CN=Root under CN=a.example,O=Example is wrong");
	refused(expectation, MAKE(.names = A_NAMES, .issuer_key = other_key), NULL,
	        "the certificate's own signature is wrong");
	expectation.require_anchor = false;
	refused(expectation, MAKE(.names = A_NAMES, .issuer_key = other_key), NULL,
	        "the certificate's own signature is wrong");
	free_stack(expectation.anchors);
}

static void a_path_keeps_the_limits_of_its_cas(void **state)
{
	X509 *end = MAKE(.subject = "CN=End", .key = sub_key, FROM_CA,
	                 .basic = "critical,CA:TRUE,pathlen:0", .usage = CA_USAGE);
	X509 *below = MAKE(.subject = "CN=Below", .key = other_key, .basic = CA_BASIC,
	                   .usage = CA_USAGE, .issuer = end, .issuer_key = sub_key);
	X509 *fenced = MAKE(.subject = "CN=Fenced", .key = sub_key, FROM_CA, .basic = CA_BASIC,
	                    .usage = CA_USAGE, .constraints = "critical,excluded;DNS:example.net");
	struct expectation expectation = usual(ca), constrained = usual(ca);
	STACK_OF(X509) *both = stack_of(end, NULL);
	struct record *names = record_new();

	(void)state;
	sk_X509_push(expectation.anchors, end);
	X509_up_ref(end);
	refused(expectation, MAKE(.names = A_NAMES, .issuer = below, .issuer_key = other_key),
	        below, "path length");
	record_add(names, "subject", "CN=a");
	record_add(names, "domain-name", "www.EXAMPLE.net");
	constrained.config = names;
	refused(constrained,
	        MAKE(.subject = "CN=a", .names = "DNS:www.EXAMPLE.net", .issuer = fenced,
	             .issuer_key = sub_key),
	        fenced, "excluded");
	record_free(names);
	free_stack(both);
	free_stack(expectation.anchors);
	free_stack(constrained.anchors);
	X509_free(end);
	X509_free(below);
	X509_free(fenced);
}

static void a_critical_extension_that_nobody_knows_is_refused(void **state)
{
	struct expectation expectation = usual(ca);

	(void)state;
	refused(expectation, MAKE(.names = A_NAMES, FROM_CA, .extra_oid = "1.3.6.1.4.1.9999.1"),
	        NULL, "critical extension that is not known");
	free_stack(expectation.anchors);
}

/* What plain SCEP servers issue: no CN and no key identifiers in the CA, client alone below it. */
static void a_plain_scep_ca_passes(void **state)
{
	X509 *plain = MAKE(.subject = "C=US,O=scep-ca,OU=SCEP CA", .key = ca_key,
	                   .basic = "CA:TRUE", .usage = "keyCertSign,cRLSign", .no_key_ids = true);
	struct expectation expectation = usual(plain);
	struct error err = { 0 };

	(void)state;
	assert_int_equal(validate_ca(plain, NOW, true, false, &err), 0);
	assert_int_equal(passes(expectation,
	                        MAKE(.names = A_NAMES, .issuer = plain, .issuer_key = ca_key,
	                             .purposes = "clientAuth", .no_key_ids = true,
	                             .subject = "O=Example,CN=a.example"),
	                        NULL),
	                 1);
	X509_free(plain);
	free_stack(expectation.anchors);
}

static void a_self_signed_certificate_has_no_chain(void **state)
{
	struct expectation expectation = usual(NULL);
	X509 *own = MAKE(.names = A_NAMES, .basic = "critical,CA:FALSE");
	X509 *own_ca = MAKE(.names = A_NAMES, .basic = CA_BASIC, .usage = CA_USAGE);

	(void)state;
	X509_up_ref(own);
	refused(expectation, own, NULL, "leads to no trusted CA");
	expectation.require_anchor = false;
	assert_int_equal(passes(expectation, own, NULL), 0);
	expectation.allow_ca = true;
	assert_int_equal(passes(expectation, own_ca, NULL), 0);
}

static void of_several_that_pass_the_latest_is_taken(void **state)
{
	X509 *bad = MAKE(.names = A_NAMES, .issuer = ca, .issuer_key = other_key);
	X509 *old = MAKE(.names = A_NAMES, FROM_CA, .from = -20, .to = 300);
	X509 *new = MAKE(.names = A_NAMES, FROM_CA, .from = -1, .to = 300);
	STACK_OF(X509) *candidates = stack_of(bad, ca, old, new, old, NULL), *chain = NULL;
	struct expectation expectation = usual(ca);
	X509 *found = NULL;
	struct error err;

	(void)state;
	assert_int_equal(validate_own(&expectation, candidates, &found, &chain, NULL, &err), 0);
	assert_ptr_equal(found, new);
	X509_free(found);
	free_stack(chain);
	free_stack(candidates);
	free_stack(expectation.anchors);
	X509_free(bad);
	X509_free(old);
	X509_free(new);
}

static void assert_ca(X509 *certificate, bool clock_trusted, bool legacy, const char *sentence)
{
	struct error err = { 0 };
	int r = validate_ca(certificate, NOW, clock_trusted, legacy, &err);

	assert_int_equal(r, sentence ? -EINVAL : 0);
	if (sentence && !strstr(err.text, sentence))
		fail_msg("\"%s\" instead of \"%s\"", err.text, sentence);
	X509_free(certificate);
}

static void a_ca_is_trusted_only_if_it_is_one(void **state)
{
	struct spec late = { .basic = CA_BASIC, .usage = CA_USAGE, .from = -9, .to = -1 };
	EVP_PKEY *weak = EVP_RSA_gen(1024);

	(void)state;
	assert_ca(MAKE(.basic = CA_BASIC, .usage = CA_USAGE), true, false, NULL);
	assert_ca(MAKE(.basic = CA_BASIC, .usage = ""), true, false, NULL);
	assert_ca(MAKE(.usage = ""), true, false, "no CA certificate");
	assert_ca(MAKE(.basic = "CA:FALSE"), true, false, "no CA certificate");
	assert_ca(MAKE(.basic = CA_BASIC), true, false, "lacks keyCertSign");
	assert_ca(MAKE(.version_1 = true), true, true, "version 1");
	assert_ca(MAKE(.basic = CA_BASIC, .usage = CA_USAGE, .extra_oid = "1.3.6.1.4.1.9999.1"),
	          true, false, "critical extension");
	assert_ca(make(late), true, false, "expired on 2026-12-31T00:00:00Z");
	assert_ca(make(late), false, false, NULL);
	assert_ca(MAKE(.basic = CA_BASIC, .usage = CA_USAGE, .key = weak), true, false,
	          "1024 bits");
	assert_ca(MAKE(.basic = CA_BASIC, .usage = CA_USAGE, .key = weak), true, true, NULL);
	EVP_PKEY_free(weak);
}

/* Sorts and compares; the stacks are compared by their sizes and first ones. */
static void assert_sorted(STACK_OF(X509) * bundle, X509 *expected, int ra_count, X509 *first_issuer,
                          int issuer_count)
{
	STACK_OF(X509) *ra = NULL, *issuers = NULL;
	struct error err = { 0 };
	X509 *found = NULL;

	if (sort_ca_bundle(bundle, &found, &ra, &issuers, &err) < 0)
		fail_msg("%s", err.text);
	assert_ptr_equal(found, expected);
	assert_int_equal(sk_X509_num(ra), ra_count);
	assert_int_equal(sk_X509_num(issuers), issuer_count);
	if (first_issuer)
		assert_ptr_equal(sk_X509_value(issuers, 0), first_issuer);
	X509_free(found);
	free_stack(ra);
	free_stack(issuers);
	free_stack(bundle);
}

static void assert_unsorted(STACK_OF(X509) * bundle, const char *sentence)
{
	STACK_OF(X509) *ra = NULL, *issuers = NULL;
	struct error err = { 0 };
	X509 *found = NULL;

	assert_int_equal(sort_ca_bundle(bundle, &found, &ra, &issuers, &err), -EINVAL);
	assert_null(found);
	assert_null(ra);
	assert_null(issuers);
	if (!strstr(err.text, sentence))
		fail_msg("\"%s\" instead of \"%s\"", err.text, sentence);
	free_stack(bundle);
}

static void what_a_ca_sent_is_sorted(void **state)
{
	X509 *sign = MAKE(.subject = "CN=RA", .key = other_key, FROM_SUB);
	X509 *encrypt =
		MAKE(.subject = "CN=RA", .key = own_key, .usage = "keyEncipherment", FROM_SUB);
	X509 *stranger = MAKE(.subject = "CN=Stranger", .key = own_key, .issuer = ca,
	                      .issuer_key = other_key);

	(void)state;
	assert_sorted(stack_of(ca, NULL), ca, 0, NULL, 0);
	assert_sorted(stack_of(sign, encrypt, sub, NULL), sub, 2, NULL, 0);
	assert_sorted(stack_of(ca, sign, sub, encrypt, NULL), sub, 2, ca, 1);
	assert_sorted(stack_of(ca, sub, NULL), sub, 0, ca, 1);
	assert_sorted(stack_of(sub, ca, sub, ca, NULL), sub, 0, ca, 1);
	assert_sorted(stack_of(sub, sign, stranger, NULL), sub, 1, NULL, 0);
	X509_free(sign);
	X509_free(encrypt);
	X509_free(stranger);
}

static void what_is_no_bundle_of_one_ca_is_refused(void **state)
{
	X509 *evil =
		MAKE(.subject = "CN=Evil", .key = other_key, .basic = CA_BASIC, .usage = CA_USAGE);
	X509 *leaf = MAKE(FROM_SUB), *stranger = MAKE(.issuer = evil, .issuer_key = other_key);
	X509 *forged = MAKE(.issuer = ca, .issuer_key = other_key);
	STACK_OF(X509) *many = sk_X509_new_null();

	(void)state;
	assert_unsorted(stack_of(NULL, NULL), "sent no certificate");
	assert_unsorted(stack_of(leaf, NULL), "none of the 1 certificates is one of a CA");
	assert_unsorted(stack_of(ca, evil, NULL), "more than one CA: CN=Root and CN=Evil");
	assert_unsorted(stack_of(sub, evil, leaf, stranger, NULL), "more than one CA");
	assert_unsorted(stack_of(ca, stranger, NULL), "none of the 2 certificates");
	assert_unsorted(stack_of(ca, forged, NULL), "none of the 2 certificates");
	for (int i = 0; i < 17; i++)
		X509_add_cert(many, ca, X509_ADD_FLAG_UP_REF);
	assert_unsorted(many, "sent 17 certificates, more than 16");
	X509_free(evil);
	X509_free(leaf);
	X509_free(stranger);
	X509_free(forged);
}

/* A CA's next certificate, of another key; and what links the two. */
#define ROOT .subject = "CN=Root", .basic = CA_BASIC, .usage = CA_USAGE
#define NEXT ROOT, .key = other_key, .from = -1, .to = 900

static int sort_next(STACK_OF(X509) * bundle, bool announced, X509 **found, int *issuer_count)
{
	STACK_OF(X509) *ra = NULL, *issuers = NULL, *known = stack_of(ca, NULL);
	int r = sort_next_ca(bundle, known, announced, found, &ra, &issuers, NULL);

	*issuer_count = sk_X509_num(issuers);
	free_stack(ra);
	free_stack(issuers);
	free_stack(known);
	free_stack(bundle);
	return r;
}

static void the_next_ca_is_found_among_what_ties_it_to_the_one_before(void **state)
{
	X509 *next = MAKE(NEXT), *new_with_old = MAKE(NEXT, FROM_CA);
	X509 *old_with_new = MAKE(ROOT, .key = ca_key, .issuer = next, .issuer_key = other_key);
	X509 *below = MAKE(.subject = "CN=Below", .basic = CA_BASIC, .usage = CA_USAGE,
	                   .issuer = next, .issuer_key = other_key);
	X509 *found = NULL;
	int count;

	(void)state;
	assert_int_equal(sort_next(stack_of(ca, old_with_new, new_with_old, next, NULL), false,
	                           &found, &count),
	                 0);
	assert_ptr_equal(found, next);
	X509_free(found);
	assert_int_equal(sort_next(stack_of(next, below, sub, NULL), false, &found, &count), 0);
	assert_ptr_equal(found, below); /* SUB is not its */
	assert_int_equal(count, 1);
	X509_free(found);
	/* nothing is new; an intermediate is only where it is announced */
	assert_int_equal(sort_next(stack_of(ca, NULL), true, &found, &count), -ENOENT);
	assert_int_equal(sort_next(stack_of(ca, sub, NULL), false, &found, &count), -ENOENT);
	assert_int_equal(sort_next(stack_of(ca, sub, NULL), true, &found, &count), 0);
	assert_ptr_equal(found, sub);
	X509_free(found);
	X509_free(next);
	X509_free(new_with_old);
	X509_free(old_with_new);
	X509_free(below);
}

static void assert_vouched(X509 *current, X509 *next, X509 *link, bool expected)
{
	STACK_OF(X509) *bundle = stack_of(next, link, NULL);

	assert_int_equal(vouches_for(current, next, bundle, NOW, true, false), expected);
	free_stack(bundle);
}

static void a_ca_vouches_for_what_has_its_name_and_follows_it(void **state)
{
	X509 *next = MAKE(NEXT), *link = MAKE(NEXT, FROM_CA), *forged = MAKE(NEXT, .issuer = ca);
	X509 *weak = MAKE(NEXT, FROM_CA, .digest = EVP_sha1());
	X509 *leaf = MAKE(.subject = "CN=Root", .key = other_key, FROM_CA);
	X509 *older = MAKE(ROOT, .key = other_key, .from = -20, .to = 900);
	X509 *older_link = MAKE(ROOT, .key = other_key, FROM_CA, .from = -20, .to = 900);
	X509 *ended = MAKE(ROOT, .key = other_key, FROM_CA, .from = -5, .to = -1);
	X509 *longer = MAKE(ROOT, .key = ca_key, .from = -1, .to = 900);
	X509 *over = MAKE(ROOT, .key = ca_key, .from = -50, .to = -1);

	(void)state;
	assert_vouched(ca, next, link, true);
	assert_vouched(ca, longer, NULL, true); /* the same key goes on */
	assert_vouched(ca, next, NULL, false);
	assert_vouched(ca, next, forged, false);
	assert_vouched(ca, next, ended, false);
	assert_vouched(ca, next, leaf, false);
	assert_vouched(ca, next, weak, false);
	assert_vouched(ca, sub, NULL, false); /* one of another name is below it */
	assert_vouched(ca, older, older_link, false);
	assert_vouched(over, next, link, false);
	assert_vouched(sub, next, link, false);
	X509_free(next);
	X509_free(link);
	X509_free(older);
	X509_free(older_link);
	X509_free(forged);
	X509_free(ended);
	X509_free(leaf);
	X509_free(weak);
	X509_free(longer);
	X509_free(over);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_certificate_as_asked_passes_with_its_chain),
		cmocka_unit_test(a_certificate_for_another_key_is_told_apart),
		cmocka_unit_test(other_names_are_refused_with_what_to_set),
		cmocka_unit_test(changed_names_are_accepted_and_told_where_that_is_set),
		cmocka_unit_test(order_and_case_of_names_say_nothing),
		cmocka_unit_test(a_subject_that_is_not_set_is_the_first_domain),
		cmocka_unit_test(a_renewal_has_the_names_in_force_or_those_asked_for_now),
		cmocka_unit_test(a_ca_is_not_a_certificate_of_ours),
		cmocka_unit_test(usages_fit_server_client_or_ike),
		cmocka_unit_test(weak_algorithms_need_allow_legacy_and_md5_never_passes),
		cmocka_unit_test(sha_1_on_the_anchor_itself_says_nothing),
		cmocka_unit_test(keys_that_stop_the_machine_are_refused),
		cmocka_unit_test(times_count_only_by_a_clock_that_is_trusted),
		cmocka_unit_test(an_unknown_issuer_counts_only_where_no_anchor_is_needed),
		cmocka_unit_test(the_system_s_trust_is_not_what_the_environment_says),
		cmocka_unit_test(
			a_path_leads_over_the_anchor_though_a_cross_certificate_came_along),
		cmocka_unit_test(only_a_ca_may_issue),
		cmocka_unit_test(a_v1_anchor_vouches_for_nobody),
		cmocka_unit_test(a_wrong_signature_is_refused),
		cmocka_unit_test(a_path_keeps_the_limits_of_its_cas),
		cmocka_unit_test(a_critical_extension_that_nobody_knows_is_refused),
		cmocka_unit_test(a_plain_scep_ca_passes),
		cmocka_unit_test(a_self_signed_certificate_has_no_chain),
		cmocka_unit_test(of_several_that_pass_the_latest_is_taken),
		cmocka_unit_test(a_ca_is_trusted_only_if_it_is_one),
		cmocka_unit_test(what_a_ca_sent_is_sorted),
		cmocka_unit_test(what_is_no_bundle_of_one_ca_is_refused),
		cmocka_unit_test(the_next_ca_is_found_among_what_ties_it_to_the_one_before),
		cmocka_unit_test(a_ca_vouches_for_what_has_its_name_and_follows_it),
	};

	return cmocka_run_group_tests(tests, make_world, free_world);
}
