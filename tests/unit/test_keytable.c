/*
 * The key tables: each row takes what it should and refuses what it should not, and the texts
 * that users wrote survive redaction, restoring and merging.
 */
#include "pkifs/keycheck.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SHA256_HEX "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF"
#define SHA256_COLONS                                                                              \
	"00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:"  \
	"DD:EE:FF"
#define LONG_64  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define LONG_256 LONG_64 LONG_64 LONG_64 LONG_64

struct sample {
	const struct key_table *table;
	const char *key;
	const char *good[8], *bad[10];
};

/* clang-format off */
static const struct sample samples[] = {
	{ &ca_request_keys, "action",
	  { "enroll", "refresh-crl", "account-delete", "cancel" }, { "", "re-enroll", "Enroll", "enrol" } },
	{ &ca_config_keys, "protocol", { "scep", "cmpv2", "acme", "est" }, { "SCEP", "cmp", "" } },
	{ &ca_config_keys, "ca-identity", { "corp", "Zürich CA" }, { "", "a\rb", "\xff", LONG_256 } },
	{ &ca_config_keys, "enrollment-url",
	  { "http://ca.example.net/scep", "https://[2001:db8::1]:8443/x?y=z", "http://192.0.2.1:8080" },
	  { "ldap://ca.example.net", "http://", "http://ca:0/", "http://ca:65536/", "http://a b/",
	    "http://u:p@ca/", "http://ca/\r\nHost: x" } },
	{ &ca_config_keys, "enrollment-retry", { "0", "100" }, { "101", "-1", "", "1x", " 1", "0x1" } },
	{ &ca_config_keys, "enrollment-retry-interval", { "0", "3600" }, { "3601", "1.5" } },
	{ &ca_config_keys, "ca-fingerprint", { SHA256_HEX, SHA256_COLONS },
	  { "", "00:11", SHA256_HEX "00", SHA256_COLONS ":", ":" SHA256_HEX, "g" } },
	{ &ca_config_keys, "ca-dn", { "CN=CA,O=Example" }, { "CA", "SN", "CN=a\nb" } },
	{ &ca_config_keys, "trust-store", { "profile", "system" }, { "both" } },
	{ &ca_config_keys, "revocation-check", { "crl", "ocsp", "ocsp-then-crl", "disable" }, { "no" } },
	{ &ca_config_keys, "crl-url", { "ldap://ldap.example.net", "ldaps://x/CN=a?b", "http://a/b.crl" },
	  { "ftp://a/b", "file:///etc/passwd", "ldap://", "ldap://a/b?c?sub", "ldap://a/%00" } },
	{ &ca_config_keys, "crl-url-user", { "reader" }, { "", "a\tb" } },
	{ &ca_config_keys, "crl-url-password", { "x", "***" }, { "", "a\nb" } },
	{ &ca_config_keys, "crl-refresh-interval", { "0", "8784" }, { "8785" } },
	{ &ca_config_keys, "crl-on-download-failure", { "reject", "accept" }, { "ignore" } },
	{ &ca_config_keys, "ocsp-url", { "http://ocsp.example.net/" }, { "ldap://a" } },
	{ &ca_config_keys, "ocsp-nonce", { "enable", "disable" }, { "yes" } },
	{ &ca_config_keys, "tls-ca", { "web.CA_1-x", LONG_64 },
	  { "", ".hidden", "-x", "a/b", "é", LONG_64 "a" } },
	{ &ca_config_keys, "acme-contact", { "admin@example.net" }, { "admin", "a@b\nc" } },
	{ &ca_config_keys, "acme-eab-kid", { "kid-1" }, { "" } },
	{ &ca_config_keys, "acme-eab-key", { "c2VjcmV0", "YQ", "Y_+=" },
	  { "", "a b", "abcde", "YQ===" } },
	{ &ca_config_keys, "acme-dns-server",
	  { "192.0.2.1", "192.0.2.1:5353", "2001:db8::1", "[2001:db8::1]:53" },
	  { "", "ns.example.net", "192.0.2.1:0", "192.0.2.1:", "[192.0.2.1]:53", "[]:53" } },
	{ &ca_config_keys, "acme-dns-tsig",
	  { "key.example.net:hmac-sha256:c2VjcmV0", "a:HMAC-SHA512.:c2Vj", "a:hmac-sha1:c2Vj" },
	  { "a:b", "a:hmac-sha1:", ":hmac-sha1:c2Vj", "a:.:c2Vj", "a:hmac-sha1:c2V",
	    "a:hmac-sha384:c2Vj" } },
	{ &ca_config_keys, "acme-dns-hook", { "/usr/lib/hook" }, { "hook", "/", "/bin/a b", "" } },
	{ &ca_config_keys, "allow-legacy", { "yes", "no" }, { "true" } },
	{ &ca_config_keys, "issuer", { "root" }, { "a b" } },
	{ &ca_config_keys, "kernel-keyring", { "pkifs", "_tls-7" }, { "", ".ima", "a b" } },

	{ &local_request_keys, "action",
	  { "generate-key-pair", "generate-self-signed", "re-enroll", "clear-certificate" },
	  { "unenroll", "generate" } },
	{ &local_request_keys, "add-ca-constraint", { "yes", "no" }, { "enable" } },
	{ &local_config_keys, "ca-profile", { "corp" }, { "..", "a\nb" } },
	{ &local_config_keys, "protocol", { "est" }, { "http" } },
	{ &local_config_keys, "key-type", { "rsa", "ecdsa", "ed25519", "dsa" }, { "ec", "RSA" } },
	{ &local_config_keys, "key-size", { "256", "384", "521", "2048", "8192" },
	  { "1024", "512", "8193", "", "255" } },
	{ &local_config_keys, "digest", { "sha256", "sha384", "sha512", "sha1" }, { "md5" } },
	{ &local_config_keys, "subject", { "CN=www.example.net,O=Example,C=DE", "CN=a,SN" },
	  { "www", "CN=\x1b[2J", "XX=y" } },
	{ &local_config_keys, "domain-name", { "www.example.net", "*.example.net" },
	  { "", "a b", "a\n", "-x.example.net" } },
	{ &local_config_keys, "ip-address", { "192.0.2.1", "2001:db8::1" }, { "192.0.2", "host" } },
	{ &local_config_keys, "email", { "a@example.net" }, { "a", "" } },
	{ &local_config_keys, "challenge-password", { "x", "pass word" }, { "", LONG_256, "a\nb" } },
	{ &local_config_keys, "ca-reference", { "4711" }, { "" } },
	{ &local_config_keys, "ca-secret", { "s" }, { "" } },
	{ &local_config_keys, "est-user", { "u" }, { "" } },
	{ &local_config_keys, "est-password", { "p" }, { "" } },
	{ &local_config_keys, "auth-certificate-id", { "factory" }, { "/x" } },
	{ &local_config_keys, "acme-challenge", { "http-01", "dns-01", "tls-alpn-01" }, { "http" } },
	{ &local_config_keys, "acme-profile", { "shortlived" }, { "" } },
	{ &local_config_keys, "acme-preferred-chain", { "Root X1" }, { "" } },
	{ &local_config_keys, "accept-changed-names", { "yes" }, { "1" } },
	{ &local_config_keys, "auto-enroll", { "enable" }, { "yes" } },
	{ &local_config_keys, "auto-re-enrollment", { "disable" }, { "no" } },
	{ &local_config_keys, "re-enroll-trigger-time-percentage", { "1", "99" }, { "0", "100", "10%" } },
	{ &local_config_keys, "re-enroll-trigger-time", { "20" }, { "0", "30d" } },
	{ &local_config_keys, "re-enroll-time", { "30d", "12h", "4095d" },
	  { "", "30", "0d", "4096d", "1dh", "d", "99999999999d" } },
	{ &local_config_keys, "re-generate-keypair", { "yes" }, { "enable" } },
	{ &local_config_keys, "validity-period", { "1", "4095" }, { "0", "4096" } },
	{ &local_config_keys, "key-store",
	  { "store", "pkcs11:token=HSM;object=www?pin-source=file:/etc/pin" },
	  { "", "pkcs11:", "pkcs11:token", "pkcs11:token=a b", "pkcs11:token=a?pin-value=1234", "tpm" } },
	{ &local_config_keys, "on-change", { "/usr/bin/systemctl reload nginx" },
	  { "systemctl reload nginx", "/", "", "/bin/x\ny" } },
	{ &local_config_keys, "key-readers", { "user:www-data", "group:ssl-cert" },
	  { "www-data", "user:", "user:-x", "other:x", "user:a b" } },
	{ &local_config_keys, "allow-legacy", { "no" }, { "off" } },

	{ &ipsec_request_keys, "action", { "up", "down", "rekey", "load-sa" }, { "enroll" } },
	{ &ipsec_request_keys, "spi-in", { "256", "0x100", "0xffffffff" },
	  { "", "255", "0x100000000", "-1", "256/1", "x" } },
	{ &ipsec_request_keys, "spi-out", { "4096" }, { "0" } },
	{ &ipsec_request_keys, "esp", { "aes256gcm16", "aes-256-cbc hmac-sha-256-128" },
	  { "", "aes256", "rot13", "aes256-sha256-prfsha256" } },
	{ &ipsec_request_keys, "key-in", { "00ff", "0xABCD" }, { "", "0", "0x", "xy", "00 11" } },
	{ &ipsec_request_keys, "key-out", { "00" }, { "000" } },
	{ &ipsec_config_keys, "certificate-id", { "gate" }, { ".." } },
	{ &ipsec_config_keys, "ca-profile", { "corp" }, { "a b" } },
	{ &ipsec_config_keys, "local-address", { "any", "192.0.2.1", "2001:db8::1", "gw.example.net" },
	  { "", "a b", "192.0.2.1/24" } },
	{ &ipsec_config_keys, "remote-address", { "any" }, { "*" } },
	{ &ipsec_config_keys, "local-id", { "gw.example.net" }, { "", "a\nb", "*.example.net" } },
	{ &ipsec_config_keys, "remote-id", { "*.example.net", "any", "C=DE,CN=*" }, { "", "*", "gw*.example.net" } },
	{ &ipsec_config_keys, "local-subnet",
	  { "10.1.0.0/24", "10.1.0.1", "0.0.0.0/0", "::/0", "fd00::/64:udp:53", "10.0.0.1:tcp:443",
	    "10.1.0.0/24:icmp" },
	  { "", "10.1.0.1/24", "10.1.0.0/33", "10.1.0.0/", "10.1.0.0/24:", "10.1.0.0/24:tcp:65536",
	    "10.1.0.0/24:any:80" } },
	{ &ipsec_config_keys, "remote-subnet", { "10.2.0.0/16" }, { "host" } },
	{ &ipsec_config_keys, "engine", { "charon", "manual", "external", "builtin" }, { "racoon" } },
	{ &ipsec_config_keys, "mode", { "tunnel", "transport" }, { "beet" } },
	{ &ipsec_config_keys, "ike-proposal", { "aes256gcm16-prfsha384-ecp384", "aes256-sha256-x25519" },
	  { "aes256gcm16", "aes256gcm16-prfsha256" } },
	{ &ipsec_config_keys, "esp-proposal", { "aes256gcm16-ecp384-esn", "aes-256-gcm group20" },
	  { "sha256" } },
	{ &ipsec_config_keys, "ike-lifetime", { "60", "604800" }, { "59" } },
	{ &ipsec_config_keys, "esp-lifetime", { "3600" }, { "604801" } },
	{ &ipsec_config_keys, "dpd-interval", { "0", "3600" }, { "3601" } },
	{ &ipsec_config_keys, "start", { "none", "start", "trap" }, { "yes" } },
	{ &ipsec_config_keys, "fail-closed", { "yes", "no" }, { "on" } },
	{ &ipsec_config_keys, "mark", { "5", "0x10/0xff" }, { "", "5/4", "x", "5/0" } },
	{ &ipsec_config_keys, "if-id", { "1" }, { "0", "2147483648" } },
	{ &ipsec_config_keys, "key-at", { "auto", "pkifs", "charon" }, { "", "token" } },
	{ &ipsec_config_keys, "netns", { "blue" }, { "../x", "a/b", "" } },
	{ &ipsec_config_keys, "allow-legacy", { "yes" }, { "1" } },

	{ &daemon_keys, "mount-point", { "/pki" }, { "" } },
	{ &daemon_keys, "store", { "/var/lib/pkifs/store.db", "store.db" }, { "", "a\nb" } },
	{ &daemon_keys, "store-key", { "/etc/pkifs/store.key", "credential:store", "none" },
	  { "", "credential:", "credential:../x" } },
	{ &daemon_keys, "user", { "pkifs" }, { "", "a:b", "-x" } },
	{ &daemon_keys, "worker-user", { "pkifs-net" }, { "a b" } },
	{ &daemon_keys, "ipsec-user", { "pkifs-ipsec" }, { "" } },
	{ &daemon_keys, "charon-socket", { "/run/charon.vici" }, { "" } },
	{ &daemon_keys, "pkcs11-socket", { "/run/pkifs/pkcs11" }, { "" } },
	{ &daemon_keys, "charon-user", { "root" }, { "" } },
	{ &daemon_keys, "privilege-separation", { "yes" }, { "auto" } },
	{ &daemon_keys, "workers", { "1", "256" }, { "0", "257" } },
	{ &daemon_keys, "device-serial", { "auto", "SN-1" }, { "", LONG_64 "a" } },
	{ &daemon_keys, "http-01-listen", { ":80", "127.0.0.1:8080", "[::1]:80" },
	  { "", "80", ":0", "127.0.0.1", "::1:80", "host:80", "[]:80" } },
	{ &daemon_keys, "tls-alpn-01-listen", { ":443" }, { ":x" } },
	{ &daemon_keys, "http-01-firewall", { "none", "nft:inet filter acme", "/usr/lib/open" },
	  { "", "nft:inet filter", "nft:x filter acme", "open", "nft:inet filter acme x" } },
	{ &daemon_keys, "log", { "journal", "syslog", "stderr" }, { "file" } },
	{ &daemon_keys, "log-level", { "error", "debug" }, { "emerg" } },
	{ &daemon_keys, "allow-other", { "no" }, { "root" } },
	{ &daemon_keys, "keep-versions", { "1", "100" }, { "0", "101" } },
};
/* clang-format on */

static const struct key_table *const tables[] = { &ca_config_keys,    &ca_request_keys,
	                                          &local_config_keys, &local_request_keys,
	                                          &ipsec_config_keys, &ipsec_request_keys,
	                                          &daemon_keys };

static int check(const struct key_table *table, const char *key, const char *value,
                 struct error *err)
{
	struct record *record = record_new();
	int r;

	record_add(record, key, value);
	r = key_check_record(table, record, err);
	record_free(record);
	return r;
}

static void good_values_are_taken(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(samples); i++)
		for (const char *const *value = samples[i].good; *value; value++) {
			struct error err = { 0 };

			if (check(samples[i].table, samples[i].key, *value, &err) < 0)
				fail_msg("%s = %s: %s", samples[i].key, *value, err.text);
		}
}

static void bad_values_are_refused_with_the_name_of_the_key(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(samples); i++)
		for (const char *const *value = samples[i].bad;
		     value < samples[i].bad + COUNT(samples[i].bad) && *value; value++) {
			struct error err = { 0 };

			if (check(samples[i].table, samples[i].key, *value, &err) != -EINVAL)
				fail_msg("%s = %s was taken", samples[i].key, *value);
			if (strncmp(err.text, samples[i].key, strlen(samples[i].key)) != 0)
				fail_msg("%s = %s: %s", samples[i].key, *value, err.text);
		}
}

static void every_row_has_a_sample(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(tables); i++)
		for (size_t j = 0; j < tables[i]->count; j++) {
			const struct key *key = &tables[i]->keys[j];
			bool found = false;

			for (size_t k = 0; k < COUNT(samples); k++)
				found |= key_find(samples[k].table, samples[k].key) == key;
			if (!found)
				fail_msg("%s of %s has no sample", key->name, tables[i]->title);
		}
}

static void defaults_pass_their_own_checks(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(tables); i++)
		for (size_t j = 0; j < tables[i]->count; j++) {
			const struct key *key = &tables[i]->keys[j];
			struct error err = { 0 };

			assert_non_null(key->help);
			assert_true(strlen(key->name) <= 40);
			if (key->fallback && key->check(key, key->fallback, &err) < 0)
				fail_msg("%s", err.text);
		}
}

static void secrets_are_marked_and_no_other_keys(void **state)
{
	static const char secrets[] = " crl-url-password acme-eab-key acme-dns-tsig "
				      "challenge-password ca-secret est-password key-in key-out ";

	(void)state;
	for (size_t i = 0; i < COUNT(tables); i++)
		for (size_t j = 0; j < tables[i]->count; j++) {
			char word[64];

			snprintf(word, sizeof word, " %s ", tables[i]->keys[j].name);
			assert_int_equal((tables[i]->keys[j].flags & KEY_SECRET) != 0,
			                 strstr(secrets, word) != NULL);
		}
}

static void a_secret_is_never_quoted(void **state)
{
	static const char *const wrong[][2] = {
		{ "challenge-password", LONG_256 },
		{ "challenge-password", "hunter2\xff" },
		{ "acme-eab-key", "hunter2===" },
		{ "acme-dns-tsig", "hunter2" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(wrong); i++) {
		const struct key_table *table = i < 2 ? &local_config_keys : &ca_config_keys;
		struct error err = { 0 };

		assert_int_equal(check(table, wrong[i][0], wrong[i][1], &err), -EINVAL);
		assert_null(strstr(err.text, "hunter2"));
		assert_null(strstr(err.text, "aaaa"));
	}
}

static void assert_refused(const struct key_table *table, const char *text, const char *sentence)
{
	struct record *record = NULL;
	struct error err = { 0 };

	assert_int_equal(record_parse(text, strlen(text), NULL, &record, &err), 0);
	assert_int_equal(key_check_record(table, record, &err), -EINVAL);
	assert_string_equal(err.text, sentence);
	record_free(record);
}

static void out_of_range_is_refused_with_the_range(void **state)
{
	(void)state;
	assert_refused(&ca_config_keys, "# CA\nenrollment-retry = 101\n",
	               "line 2: enrollment-retry takes 0 to 100 times, not \"101\"");
	assert_refused(&ca_config_keys, "protocol = cmp\n",
	               "line 1: protocol takes scep, cmpv2, acme or est, not \"cmp\"");
}

static void an_unknown_key_is_refused_with_the_nearest(void **state)
{
	(void)state;
	assert_refused(&ca_config_keys, "enrolment-url = http://a/\n",
	               "line 1: unknown key \"enrolment-url\"; did you mean enrollment-url?");
	assert_refused(&local_config_keys, "keysize = 2048\n",
	               "line 1: unknown key \"keysize\"; did you mean key-size?");
	assert_refused(&ca_config_keys, "colour = red\n", "line 1: unknown key \"colour\"");
	assert_refused(&ca_config_keys, LONG_64 " = 1\n", "line 1: unknown key \"" LONG_64 "\"");
	assert_refused(&ca_config_keys, "action = enroll\n", "line 1: unknown key \"action\"");
}

static void a_repeating_key_has_its_limit(void **state)
{
	static const char text[] = "crl-url = http://a/\ncrl-url = http://b/\ncrl-url = http://c/\n"
				   "crl-url = http://d/\n";

	(void)state;
	assert_refused(&ca_config_keys, text, "crl-url may stand up to 3 times, not 4");
}

static void a_nul_in_a_value_is_refused(void **state)
{
	struct record *record = record_new();
	struct error err = { 0 };

	(void)state;
	record_add_bytes(record, "domain-name", "a.example\0.evil", 15);
	assert_int_equal(key_check_record(&local_config_keys, record, &err), -EINVAL);
	assert_string_equal(err.text, "domain-name has a NUL byte in its value");
	record_free(record);
}

static void later_wins_and_defaults_fill_the_rest(void **state)
{
	struct record *record = record_new(), *effective;

	(void)state;
	record_add(record, "digest", "sha384");
	record_add(record, "digest", "sha512");
	record_add(record, "re-enroll-trigger-time", "20");
	assert_string_equal(key_value(&local_config_keys, record, "digest"), "sha512");
	assert_string_equal(key_value(&local_config_keys, record, "key-type"), "rsa");
	assert_string_equal(
		key_value(&local_config_keys, record, "re-enroll-trigger-time-percentage"), "20");
	assert_null(key_value(&local_config_keys, record, "subject"));
	assert_null(key_value(&local_config_keys, record, "no-such-key"));
	effective = key_effective(&local_config_keys, record);
	assert_string_equal(record_get(effective, "re-enroll-trigger-time-percentage"), "20");
	assert_null(record_get(effective, "re-enroll-trigger-time"));
	assert_string_equal(record_get(effective, "acme-challenge"), "http-01");
	assert_null(record_get(effective, "subject"));
	record_free(effective);
	record_free(record);
}

static void redaction_hides_secrets_and_nothing_else(void **state)
{
	static const char text[] = "# mine\n\nsubject = CN=a  \r\n  challenge-password=\"a b\"\r\n"
				   "ca-secret =\tx = y\nest-password = last";
	static const char redacted[] = "# mine\n\nsubject = CN=a  \r\n  challenge-password=***\r\n"
				       "ca-secret =\t***\nest-password = ***";
	static const char blanks[] = "\f\vca-secret\f= x\v\n";
	size_t length;
	char *out;

	(void)state;
	assert_int_equal(key_redact(&local_config_keys, text, strlen(text), &out, &length), 0);
	assert_string_equal(out, redacted);
	assert_int_equal(length, strlen(redacted));
	free(out);
	assert_int_equal(key_redact(&local_config_keys, blanks, strlen(blanks), &out, &length), 0);
	assert_string_equal(out, "\f\vca-secret\f= ***\v\n");
	free(out);
	assert_int_equal(key_redact(&local_config_keys, "", 0, &out, &length), 0);
	assert_int_equal(length, 0);
	free(out);
}

static struct record *parsed(const char *text)
{
	struct record *record = NULL;

	assert_int_equal(record_parse(text, strlen(text), NULL, &record, NULL), 0);
	return record;
}

static void what_is_redacted_can_be_written_back(void **state)
{
	static const char text[] = "# one\ncrl-url-password = \" a\\\"b\\\\ \"\n"
				   "crl-url-password=second\nprotocol = scep\nacme-eab-key = YQ\n";
	struct record *old = parsed(text), *new;
	char *redacted, *restored;
	size_t length;

	(void)state;
	assert_int_equal(key_redact(&ca_config_keys, text, strlen(text), &redacted, &length), 0);
	assert_null(strstr(redacted, "second"));
	assert_int_equal(
		key_restore(&ca_config_keys, redacted, length, old, &restored, &length, NULL), 0);
	assert_string_equal(restored, text);
	new = parsed(restored);
	assert_string_equal(record_get(new, "crl-url-password"), "second");
	assert_string_equal(record_field(new, 0)->value, " a\"b\\ ");
	OPENSSL_clear_free(restored, length + 1);
	free(redacted);
	record_free(old);
	record_free(new);
}

static void hidden_secrets_keep_their_place_when_others_change(void **state)
{
	static const char text[] = "crl-url-password = changed\ncrl-url-password = \"***\"\n";
	struct record *old = parsed("crl-url-password = first\ncrl-url-password = second\n");
	size_t length;
	char *out;

	(void)state;
	assert_int_equal(key_restore(&ca_config_keys, text, strlen(text), old, &out, &length, NULL),
	                 0);
	assert_string_equal(out, "crl-url-password = changed\ncrl-url-password = second\n");
	OPENSSL_clear_free(out, length + 1);
	record_free(old);
}

static void the_last_line_is_ended(void **state)
{
	static const char text[] = "subject = CN=a";
	size_t length;
	char *out;

	(void)state;
	assert_int_equal(
		key_restore(&local_config_keys, text, strlen(text), NULL, &out, &length, NULL), 0);
	assert_string_equal(out, "subject = CN=a\n");
	OPENSSL_clear_free(out, length + 1);
	assert_int_equal(key_restore(&local_config_keys, "", 0, NULL, &out, &length, NULL), 0);
	assert_int_equal(length, 0);
	OPENSSL_clear_free(out, length + 1);
}

static void a_hidden_secret_that_never_was_is_refused(void **state)
{
	static const char text[] = "subject = CN=a\nchallenge-password = ***\n";
	struct record *old = parsed("est-password = x\n");
	struct error err = { 0 };
	size_t length;
	char *out;

	(void)state;
	assert_int_equal(
		key_restore(&local_config_keys, text, strlen(text), old, &out, &length, &err),
		-EINVAL);
	assert_non_null(strstr(err.text, "line 2: challenge-password"));
	assert_int_equal(
		key_restore(&local_config_keys, text, strlen(text), NULL, &out, &length, &err),
		-EINVAL);
	record_free(old);
}

static void assert_merged(const char *text, const char *changes, const char *expected)
{
	struct record *record = parsed(changes);
	size_t length;
	char *out;

	assert_int_equal(
		key_merge(&local_config_keys, text, strlen(text), record, &out, &length, NULL), 0);
	assert_string_equal(out, expected);
	assert_int_equal(length, strlen(expected));
	OPENSSL_clear_free(out, length + 1);
	record_free(record);
}

static void merging_keeps_comments_and_order(void **state)
{
	(void)state;
	assert_merged("# a\ndomain-name = a\nsubject = CN=a\ndomain-name = b\n# end\n",
	              "action = enroll\ndomain-name = c\ndomain-name = d\ndigest = sha384\n",
	              "# a\ndomain-name = c\ndomain-name = d\nsubject = CN=a\n# end\n"
	              "digest = sha384\n");
	assert_merged("", "digest = sha1\ndigest = sha512\n", "digest = sha512\n");
	assert_merged("subject = CN=a", "email = a@b", "subject = CN=a\nemail = a@b\n");
	assert_merged("re-enroll-trigger-time = 5\n", "re-enroll-trigger-time-percentage = 6\n",
	              "re-enroll-trigger-time-percentage = 6\n");
	assert_merged("", "challenge-password = \" \\\"x \"\n",
	              "challenge-password = \" \\\"x \"\n");
	assert_merged("subject = CN=a\n", "action = enroll\n", "subject = CN=a\n");
}

static void merging_an_empty_value_takes_the_key_out(void **state)
{
	(void)state;
	assert_merged("# a\ndomain-name = a\nsubject = CN=a\ndomain-name = b\n",
	              "domain-name =\ndigest =\n", "# a\nsubject = CN=a\n");
	assert_merged("subject = CN=a\nemail = a@b", "subject =\n", "email = a@b");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_values_are_taken),
		cmocka_unit_test(bad_values_are_refused_with_the_name_of_the_key),
		cmocka_unit_test(every_row_has_a_sample),
		cmocka_unit_test(defaults_pass_their_own_checks),
		cmocka_unit_test(secrets_are_marked_and_no_other_keys),
		cmocka_unit_test(a_secret_is_never_quoted),
		cmocka_unit_test(out_of_range_is_refused_with_the_range),
		cmocka_unit_test(an_unknown_key_is_refused_with_the_nearest),
		cmocka_unit_test(a_repeating_key_has_its_limit),
		cmocka_unit_test(a_nul_in_a_value_is_refused),
		cmocka_unit_test(later_wins_and_defaults_fill_the_rest),
		cmocka_unit_test(redaction_hides_secrets_and_nothing_else),
		cmocka_unit_test(what_is_redacted_can_be_written_back),
		cmocka_unit_test(hidden_secrets_keep_their_place_when_others_change),
		cmocka_unit_test(the_last_line_is_ended),
		cmocka_unit_test(a_hidden_secret_that_never_was_is_refused),
		cmocka_unit_test(merging_keeps_comments_and_order),
		cmocka_unit_test(merging_an_empty_value_takes_the_key_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
