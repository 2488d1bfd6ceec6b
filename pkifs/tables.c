#include "pkifs/keycheck.h"

#include <string.h>

/* clang-format off: one row a key, its help below */

#define YES_NO         check_words, 0, 0, "yes no", NULL, 0
#define ENABLE_DISABLE check_words, 0, 0, "enable disable", NULL, 0
#define PROTOCOL       check_words, 0, 0, "scep cmpv2 acme est", NULL, 0
#define TEXT(max)      check_text, 1, max, NULL, NULL, 0
#define PLAIN(check)   check, 0, 0, NULL, NULL, 0

/* Of a request, then (from CA_REQUEST_ONLY on) of the config: any config key may stand in one. */
#define CA_REQUEST_ONLY 1
static const struct key ca_keys[] = {
	{ "action", 0, NULL, check_words, 0, 0,
	  "enroll next-ca unenroll refresh-crl clear-crl verify account-register account-rollover "
	  "account-delete cancel",
	  NULL, 0, "what to do; enroll fetches the CA certificate, next-ca the one that follows" },

	{ "protocol", 0, "scep", PROTOCOL,
	  "what the URL speaks; certificate ids take it from here" },
	{ "ca-identity", 0, NULL, TEXT(255), "the CA's name, as SCEP's GetCACert and CMP want it" },
	{ "enrollment-url", 0, NULL, check_url, 0, 0, "http https", NULL, 0,
	  "SCEP, CMP or EST URL, or the ACME directory" },
	{ "enrollment-retry", 0, "0", check_number, 0, 100, NULL, "times", 0,
	  "sends after a failure and polls of a pending request; 0 = no limit" },
	{ "enrollment-retry-interval", 0, "900", check_number, 0, 3600, NULL, "seconds", 0,
	  "between two tries where the CA names no time; 0 = back off from 1 s to 60 s" },
	{ "ca-fingerprint", KEY_REPEATS, NULL, PLAIN(check_sha256),
	  "a fetched CA certificate with this SHA-256 is confirmed by itself, any other refused" },
	{ "ca-dn", 0, NULL, PLAIN(check_ca_name),
	  "CMPv2: whom to address, and who may sign for the CA (an RA without cmcRA)" },
	{ "trust-store", 0, "profile", check_words, 0, 0, "profile system", NULL, 0,
	  "what anchors certificates issued to us (acme: system while no CA certificate is "
	  "loaded)" },
	{ "revocation-check", 0, "crl", check_words, 0, 0, "crl ocsp ocsp-then-crl disable", NULL,
	  0, "how to learn that a certificate is revoked" },
	{ "crl-url", KEY_REPEATS, NULL, check_crl_url, 0, 0, "http https ldap ldaps", NULL, 3,
	  "where the CRL is; comes before the certificate's own CDP" },
	{ "crl-url-user", KEY_REPEATS, NULL, check_text, 1, 255, NULL, NULL, 3,
	  "user for the CRL's server: one for all or one for each crl-url" },
	{ "crl-url-password", KEY_REPEATS | KEY_SECRET, NULL, check_text, 1, 255, NULL, NULL, 3,
	  "password of crl-url-user" },
	{ "crl-refresh-interval", 0, "24", check_number, 0, 8784, NULL, "hours", 0,
	  "how often to fetch the CRL; 0 = at its nextUpdate" },
	{ "crl-on-download-failure", 0, "reject", check_words, 0, 0, "reject accept", NULL, 0,
	  "peers, while no valid CRL can be had" },
	{ "ocsp-url", KEY_REPEATS, NULL, check_url, 0, 0, "http https", NULL, 2,
	  "OCSP responder; comes before the certificate's own AIA" },
	{ "ocsp-nonce", 0, "enable", ENABLE_DISABLE, "send a nonce with OCSP requests" },
	{ "tls-ca", KEY_CA, NULL, PLAIN(check_object),
	  "profile that authenticates an https server (else the system's trust store)" },
	{ "acme-contact", KEY_REPEATS, NULL, PLAIN(check_mail),
	  "ACME: e-mail address of the account" },
	{ "acme-eab-kid", 0, NULL, TEXT(255), "ACME: key identifier of the external account" },
	{ "acme-eab-key", KEY_SECRET, NULL, PLAIN(check_base64url),
	  "ACME: its HMAC key (base64url)" },
	{ "acme-dns-server", 0, NULL, PLAIN(check_server),
	  "ACME dns-01: name server for RFC 2136 updates" },
	{ "acme-dns-tsig", KEY_SECRET, NULL, PLAIN(check_tsig),
	  "ACME dns-01: NAME:ALGORITHM:BASE64 that signs the updates" },
	{ "acme-dns-hook", KEY_ROOT, NULL, PLAIN(check_program),
	  "ACME dns-01: program that sets and removes the record" },
	{ "allow-legacy", 0, "no", YES_NO, "take SHA-1, 3DES and their like" },
	{ "issuer", KEY_CA, NULL, PLAIN(check_object),
	  "profile of the issuing CA, kept by the daemon for chains" },
	{ "kernel-keyring", KEY_ROOT, NULL, check_keyring, 1, 200, NULL, NULL, 0,
	  "kernel keyring that gets the CA and what it validated" },
};

const struct key_table ca_config_keys = { "ca/<profile>/config", ca_keys + CA_REQUEST_ONLY,
	                                  COUNT(ca_keys) - CA_REQUEST_ONLY };
const struct key_table ca_request_keys = { "ca/<profile>/request", ca_keys, COUNT(ca_keys) };

static const struct key verification_keys[] = {
	{ "name", 0, NULL, PLAIN(check_peer_name),
	  "whose it must be: a DNS name, an address, an e-mail address or a whole DN" },
	{ "purpose", 0, NULL, check_words, 0, 0, "ike server client", NULL, 0,
	  "what it must be for (anything)" },
	{ "depth", 0, NULL, check_number, 0, 10, NULL, "certificates", 0,
	  "intermediates at most; those that a CA issued to itself do not count" },
	{ "policy", KEY_REPEATS, NULL, check_oid, 0, 0, NULL, NULL, 16,
	  "a policy that the path must have, one of those that are given" },
	{ "detail", 0, "no", YES_NO, "tell what was checked of each certificate, too" },
};

const struct key_table verify_keys = { "ca/<profile>/verify", verification_keys,
	                               COUNT(verification_keys) };

#define LOCAL_REQUEST_ONLY 2
static const struct key local_keys[] = {
	{ "action", 0, NULL, check_words, 0, 0,
	  "generate-key-pair generate-csr generate-self-signed enroll re-enroll verify revoke "
	  "cancel "
	  "clear-key-pair clear-certificate",
	  NULL, 0, "what to do" },
	{ "add-ca-constraint", 0, "no", YES_NO,
	  "generate-self-signed: make a CA (a forward proxy's root)" },

	{ "ca-profile", KEY_CA, NULL, PLAIN(check_object), "the profile to ask" },
	{ "protocol", 0, NULL, PROTOCOL, "how to ask (the profile's protocol)" },
	{ "key-type", 0, "rsa", check_words, 0, 0, "rsa ecdsa ed25519 dsa", NULL, 0,
	  "type of the key pair (dsa: CMPv2 only)" },
	{ "key-size", 0, NULL, check_key_size, 2048, 8192, "2048 3072 4096 256 384 521", "bits", 0,
	  "size of the key pair (rsa 2048, ecdsa 256, dsa 2048)" },
	{ "digest", 0, "sha256", check_words, 0, 0, "sha256 sha384 sha512 sha1", NULL, 0,
	  "hash of signatures; sha1 only with allow-legacy = yes" },
	{ "subject", 0, NULL, PLAIN(check_subject),
	  "distinguished name, \"CN=…,O=…,C=…\" (CN = first domain-name)" },
	{ "domain-name", KEY_REPEATS, NULL, PLAIN(check_domain),
	  "alternative name: DNS name, may begin \"*.\"" },
	{ "ip-address", KEY_REPEATS, NULL, PLAIN(check_address),
	  "alternative name: IPv4 or IPv6 address" },
	{ "email", KEY_REPEATS, NULL, PLAIN(check_mail), "alternative name: e-mail address" },
	{ "challenge-password", KEY_SECRET, NULL, TEXT(255),
	  "SCEP: what the CA knows us by the first time" },
	{ "ca-reference", 0, NULL, TEXT(255), "CMPv2: reference number of the shared secret" },
	{ "ca-secret", KEY_SECRET, NULL, TEXT(255), "CMPv2: the shared secret" },
	{ "est-user", 0, NULL, TEXT(255), "EST: user of HTTP authentication" },
	{ "est-password", KEY_SECRET, NULL, TEXT(255), "EST: password of est-user" },
	{ "auth-certificate-id", KEY_LOCAL, NULL, PLAIN(check_object),
	  "CMPv2, EST: certificate id whose key proves us the first time" },
	{ "acme-challenge", 0, "http-01", check_words, 0, 0, "http-01 dns-01 tls-alpn-01", NULL, 0,
	  "ACME: how to prove that the names are ours" },
	{ "acme-profile", 0, NULL, TEXT(255), "ACME: profile that the CA offers" },
	{ "acme-preferred-chain", 0, NULL, TEXT(255), "ACME: common name of the root to prefer" },
	{ "accept-changed-names", 0, "no", YES_NO,
	  "publish a first certificate whose names differ from those asked for" },
	{ "auto-enroll", 0, "disable", ENABLE_DISABLE, "enroll as soon as the profile is trusted" },
	{ "auto-re-enrollment", 0, "disable", ENABLE_DISABLE,
	  "renew before the end (acme: enable)" },
	{ "re-enroll-trigger-time-percentage", 0, "10", check_number, 1, 99, NULL, "percent", 0,
	  "renew when this much of the lifetime remains (acme: what the CA says, else 33)" },
	{ "re-enroll-time", 0, NULL, check_span, 1, 4095 * 24, NULL, NULL, 0,
	  "renew this long before the end: 30d, 12h; wins over the percentage" },
	{ "re-generate-keypair", 0, "no", YES_NO,
	  "make a new key pair for each renewal (acme: yes)" },
	{ "validity-period", 0, NULL, check_number, 1, 4095, NULL, "days", 0,
	  "lifetime asked of the CA where the protocol can" },
	{ "key-store", 0, "store", PLAIN(check_key_store),
	  "store, or a PKCS#11 URI: the key lives in a token" },
	{ "on-change", KEY_ROOT, NULL, PLAIN(check_command),
	  "program to run after a new version is published" },
	{ "key-readers", KEY_REPEATS, NULL, PLAIN(check_reader),
	  "user:NAME or group:NAME who may read the private key" },
	{ "allow-legacy", 0, "no", YES_NO, "take SHA-1, 3DES and their like" },
};

const struct key_table local_config_keys = { "local/<certificate-id>/config",
	                                     local_keys + LOCAL_REQUEST_ONLY,
	                                     COUNT(local_keys) - LOCAL_REQUEST_ONLY };
const struct key_table local_request_keys = { "local/<certificate-id>/request", local_keys,
	                                      COUNT(local_keys) };

#define IPSEC_REQUEST_ONLY 6
static const struct key ipsec_keys[] = {
	{ "action", 0, NULL, check_words, 0, 0, "up down rekey load-sa cancel", NULL, 0,
	  "what to do; load-sa (engine manual) loads a pair of SAs, rekey moves the traffic to "
	  "it" },
	{ "spi-in", 0, NULL, PLAIN(check_spi), "load-sa: SPI of the SA that comes in" },
	{ "spi-out", 0, NULL, PLAIN(check_spi), "load-sa: SPI of the SA that goes out" },
	{ "esp", 0, NULL, PLAIN(check_esp_proposal),
	  "load-sa: its algorithms, as in esp-proposal" },
	{ "key-in", KEY_SECRET, NULL, PLAIN(check_hex),
	  "load-sa: its keys: the cipher's with its salt, then the integrity's" },
	{ "key-out", KEY_SECRET, NULL, PLAIN(check_hex), "load-sa: the same of what goes out" },

	{ "certificate-id", KEY_LOCAL, NULL, PLAIN(check_object), "who we are" },
	{ "ca-profile", KEY_CA | KEY_REPEATS, NULL, PLAIN(check_object),
	  "whose peers are believed (the certificate id's profile)" },
	{ "local-address", 0, "any", PLAIN(check_endpoint), "our end of the tunnel" },
	{ "remote-address", 0, "any", PLAIN(check_endpoint), "the peer's end; any: it calls us" },
	{ "local-id", 0, NULL, PLAIN(check_local_id),
	  "who we say that we are, of what the certificate has" },
	{ "remote-id", 0, "any", PLAIN(check_remote_id),
	  "who the peer must prove to be; * stands for one label or RDN" },
	{ "local-subnet", KEY_REPEATS, NULL, check_traffic, 0, 0, NULL, NULL, 16,
	  "what is protected on our side (the address itself)" },
	{ "remote-subnet", KEY_REPEATS, NULL, check_traffic, 0, 0, NULL, NULL, 16,
	  "what is protected on the peer's side (the address itself)" },
	{ "engine", 0, "charon", check_words, 0, 0, "charon builtin manual external", NULL, 0,
	  "who makes the keys" },
	{ "key-at", 0, "auto", check_words, 0, 0, "auto pkifs charon", NULL, 0,
	  "charon: pkifs signs for it (pkifs-pkcs11.so), or it gets the key; auto: what works" },
	{ "mode", 0, "tunnel", check_words, 0, 0, "tunnel transport", NULL, 0,
	  "whole packets, or what is in them" },
	{ "ike-proposal", KEY_REPEATS, NULL, check_ike_proposal, 0, 0, NULL, NULL, 8,
	  "algorithms of IKE" },
	{ "esp-proposal", KEY_REPEATS, NULL, check_esp_proposal, 0, 0, NULL, NULL, 8,
	  "algorithms of ESP; a load-sa takes no others" },
	{ "ike-lifetime", 0, "14400", check_number, 60, 604800, NULL, "seconds", 0,
	  "until IKE has other keys" },
	{ "esp-lifetime", 0, "3600", check_number, 60, 604800, NULL, "seconds", 0,
	  "until ESP has other keys" },
	{ "dpd-interval", 0, "30", check_number, 0, 3600, NULL, "seconds", 0,
	  "how often a silent peer is asked; 0 = never" },
	{ "start", 0, "none", check_words, 0, 0, "none start trap", NULL, 0,
	  "start: at once; trap: with the first packet" },
	{ "fail-closed", 0, "yes", YES_NO, "block the traffic while no SA is up" },
	{ "mark", 0, NULL, PLAIN(check_mark), "packets' mark (ip-xfrm(8))" },
	{ "if-id", 0, NULL, check_number, 1, 2147483647, NULL, "of an xfrm interface", 0,
	  "traffic of that interface alone" },
	{ "netns", 0, NULL, PLAIN(check_netns), "the network namespace that it is in" },
	{ "allow-legacy", 0, "no", YES_NO, "take SHA-1, 3DES and their like" },
};

const struct key_table ipsec_config_keys = { "ipsec/<tunnel>/config",
	                                     ipsec_keys + IPSEC_REQUEST_ONLY,
	                                     COUNT(ipsec_keys) - IPSEC_REQUEST_ONLY };
const struct key_table ipsec_request_keys = { "ipsec/<tunnel>/request", ipsec_keys,
	                                      COUNT(ipsec_keys) };

static const struct key conf_keys[] = {
	{ "mount-point", 0, "/pki", PLAIN(check_path), "where the tree is mounted" },
	{ "store", 0, "/var/lib/pkifs/store.db", PLAIN(check_path), "the database" },
	{ "store-key", 0, "/etc/pkifs/store.key", PLAIN(check_store_key),
	  "the key that seals private keys: a file, credential:NAME, or none" },
	{ "user", 0, "pkifs", PLAIN(check_account), "user of the store and of the keys process" },
	{ "worker-user", 0, "pkifs-net", PLAIN(check_account), "user of the enrollment workers" },
	{ "ipsec-user", 0, "pkifs-ipsec", PLAIN(check_account), "user of the IPsec process" },
	{ "charon-socket", 0, "/var/run/charon.vici", PLAIN(check_path),
	  "strongSwan's VICI socket; of a network namespace NAME the same with .NAME behind" },
	{ "pkcs11-socket", 0, "/run/pkifs/pkcs11", PLAIN(check_path),
	  "where charon's module pkifs-pkcs11.so has keys of tunnels sign" },
	{ "charon-user", 0, "root", PLAIN(check_account),
	  "charon's user: who may be behind its socket, and call at ours, beside root" },
	{ "privilege-separation", 0, NULL, YES_NO,
	  "run each process as its own user (yes as root, else no)" },
	{ "workers", 0, "16", check_number, 1, 256, NULL, "processes", 0,
	  "enrollment workers at once" },
	{ "device-serial", 0, "auto", TEXT(64),
	  "serial number for SN in subjects; auto: the device's own" },
	{ "http-01-listen", 0, ":80", PLAIN(check_listen),
	  "where ACME's http-01 is answered while a challenge is open" },
	{ "tls-alpn-01-listen", 0, ":443", PLAIN(check_listen),
	  "where ACME's tls-alpn-01 is answered while a challenge is open" },
	{ "http-01-firewall", 0, "none", PLAIN(check_firewall),
	  "what to open while a challenge is under way" },
	{ "log", 0, NULL, check_words, 0, 0, "journal syslog stderr", NULL, 0,
	  "where the log goes (stderr in the foreground, else the journal)" },
	{ "log-level", 0, "info", check_words, 0, 0, "error warning notice info debug", NULL, 0,
	  "the least severe messages to log" },
	{ "allow-other", 0, NULL, YES_NO,
	  "others than the starter see the mount (yes as root, else no)" },
	{ "keep-versions", 0, "2", check_number, 1, 100, NULL, "versions", 0,
	  "old versions of a certificate whose keys are kept" },
};

const struct key_table daemon_keys = { "pkifs.conf", conf_keys, COUNT(conf_keys) };

/* Values that a row takes (with the first of them) and this version has no code for. */
static const struct {
	const char *key, *values;
} later[] = {
	{ "key-store", "pkcs11" },
	{ "engine", "builtin" },
};

/* clang-format on */

const char *key_later(const struct key *key)
{
	for (size_t i = 0; i < COUNT(later); i++) {
		const char *values = later[i].values;

		if (strcmp(later[i].key, key->name) == 0 &&
		    (!key->values ||
		     memmem(key->values, strlen(key->values), values, strcspn(values, " "))))
			return values;
	}
	return NULL;
}
