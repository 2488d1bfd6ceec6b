#include "pkifs/keycheck.h"

#include "common/ldapurl.h"
#include "common/x509.h"
#include "pkifs/path.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#define OID_MAX 200 /* characters */
#define ALNUM   "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

/* "KEY takes WHAT, not "VALUE"": the form of nearly every refusal. */
static int refuse(const struct key *key, const char *what, const char *value, struct error *err)
{
	if (key->flags & KEY_SECRET)
		return error_set(err, -EINVAL, "%s takes %s", key->name, what);
	return error_set(err, -EINVAL, "%s takes %s, not \"%.80s\"", key->name, what, value);
}

/* "a b c" as "a, b or c". */
static void list_words(const char *words, char *text, size_t size)
{
	size_t used = 0;

	for (; *words && used + 5 < size; words++) {
		if (*words != ' ') {
			text[used++] = *words;
			continue;
		}
		used = (size_t)(stpcpy(text + used, strchr(words + 1, ' ') ? ", " : " or ") - text);
	}
	text[used] = 0;
}

/* True when VALUE (LENGTH bytes) is one of WORDS. */
static bool one_of(const char *words, const char *value, size_t length)
{
	while (*words) {
		size_t word = strcspn(words, " ");

		if (word == length && memcmp(words, value, word) == 0)
			return true;
		words += word + (words[word] == ' ');
	}
	return false;
}

int check_words(const struct key *key, const char *value, struct error *err)
{
	char list[200];

	if (one_of(key->values, value, strlen(value)))
		return 0;
	list_words(key->values, list, sizeof list);
	return refuse(key, list, value, err);
}

/* A decimal number without sign or blanks. False when it is none or does not fit. */
static bool read_number(const char *text, long *number)
{
	char *end;

	if (!isdigit((unsigned char)*text))
		return false;
	errno = 0;
	*number = strtol(text, &end, 10);
	return !*end && !errno;
}

int check_number(const struct key *key, const char *value, struct error *err)
{
	long number;

	if (read_number(value, &number) && number >= key->min && number <= key->max)
		return 0;
	return error_set(err, -EINVAL, "%s takes %ld to %ld %s, not \"%.40s\"", key->name, key->min,
	                 key->max, key->unit, value);
}

int check_key_size(const struct key *key, const char *value, struct error *err)
{
	long bits;

	if (read_number(value, &bits) &&
	    ((bits >= key->min && bits <= key->max) || bits == 256 || bits == 384 || bits == 521))
		return 0;
	return error_set(err, -EINVAL,
	                 "%s takes %ld to %ld (rsa), 256, 384 or 521 (ecdsa) or 2048 or 3072 (dsa) "
	                 "%s, not \"%.40s\"",
	                 key->name, key->min, key->max, key->unit, value);
}

/* Bytes of the UTF-8 character at TEXT, 0 where it is none. */
static size_t utf8_character(const unsigned char *text)
{
	static const struct {
		unsigned char mask, lead;
		unsigned long least;
	} forms[] = {
		{ 0x80, 0, 0 }, { 0xe0, 0xc0, 0x80 }, { 0xf0, 0xe0, 0x800 }, { 0xf8, 0xf0, 0x10000 }
	};

	for (size_t i = 0; i < COUNT(forms); i++) {
		unsigned long code = text[0] & (unsigned char)~forms[i].mask;

		if ((text[0] & forms[i].mask) != forms[i].lead)
			continue;
		for (size_t j = 1; j <= i; j++) {
			if ((text[j] & 0xc0) != 0x80)
				return 0;
			code = code << 6 | (text[j] & 0x3f);
		}
		if (code < forms[i].least || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
			return 0;
		return i + 1;
	}
	return 0;
}

/* Characters of TEXT, or -1 where a control character or what is no UTF-8 stands in it. */
static long count_characters(const char *text)
{
	const unsigned char *at = (const unsigned char *)text;
	long count = 0;

	for (size_t size; *at; at += size, count++) {
		size = utf8_character(at);
		if (!size || (size == 1 && iscntrl(*at)))
			return -1;
	}
	return count;
}

int check_text(const struct key *key, const char *value, struct error *err)
{
	long count = count_characters(value);

	if (count < 0)
		return error_set(err, -EINVAL, "%s takes UTF-8 text without control characters",
		                 key->name);
	if (count < key->min || count > key->max)
		return error_set(err, -EINVAL, "%s takes %ld to %ld characters, not %ld", key->name,
		                 key->min, key->max, count);
	return 0;
}

bool object_name_is_legal(const char *name)
{
	size_t length = strspn(name, ALNUM "._-");

	return length >= 1 && length <= 64 && !name[length] && *name != '.' && *name != '-';
}

int check_object(const struct key *key, const char *value, struct error *err)
{
	if (object_name_is_legal(value))
		return 0;
	return refuse(key, "a name (1 to 64 letters, digits, \".\", \"_\" or \"-\")", value, err);
}

int check_peer_name(const struct key *key, const char *value, struct error *err)
{
	struct path_name name;

	(void)key;
	return path_name_read(value, &name, err);
}

int check_oid(const struct key *key, const char *value, struct error *err)
{
	ASN1_OBJECT *object = strlen(value) <= OID_MAX ? OBJ_txt2obj(value, 1) : NULL;

	ASN1_OBJECT_free(object);
	ERR_clear_error();
	return object ? 0 : refuse(key, "an object identifier, such as 1.2.3.4", value, err);
}

static bool is_account(const char *name)
{
	size_t length = strspn(name, ALNUM "._-$");

	return length >= 1 && length <= 32 && !name[length] && *name != '-';
}

int check_account(const struct key *key, const char *value, struct error *err)
{
	return is_account(value) ? 0 : refuse(key, "a user's name", value, err);
}

int check_reader(const struct key *key, const char *value, struct error *err)
{
	const char *name = strchr(value, ':');

	if (name && one_of("user group", value, (size_t)(name - value)) && is_account(name + 1))
		return 0;
	return refuse(key, "user:NAME or group:NAME", value, err);
}

/* A port in TEXT, 1 to 65535. */
static bool is_port(const char *text)
{
	long port;

	return strlen(text) <= 5 && read_number(text, &port) && port >= 1 && port <= 65535;
}

/* HOST[:PORT] of a URL: a name, an IPv4 address or an IPv6 address in brackets. */
static bool is_authority(const char *text, size_t length)
{
	char copy[300], *port;

	if (!length || length >= sizeof copy)
		return false;
	memcpy(copy, text, length);
	copy[length] = 0;
	if (*copy == '[') {
		port = strchr(copy, ']');
		if (!port || (port[1] && port[1] != ':'))
			return false;
		*port++ = 0;
		if (!strchr(copy, ':') || check_ip_address(copy + 1, NULL) < 0)
			return false;
	} else {
		port = copy + strspn(copy, ALNUM "._-");
		if (port == copy || port - copy > 253)
			return false;
	}
	return !*port || (*port == ':' && is_port(port + 1));
}

#define URL_MAX 2048 /* bytes */

int check_url(const struct key *key, const char *value, struct error *err)
{
	size_t scheme = strcspn(value, ":"), length;
	char list[80];

	if (strncmp(value + scheme, "://", 3) != 0 || !one_of(key->values, value, scheme)) {
		list_words(key->values, list, sizeof list);
		return error_set(err, -EINVAL,
		                 "%s takes a URL that begins with %s (then ://), not \"%.80s\"",
		                 key->name, list, value);
	}
	length = strlen(value);
	for (size_t i = 0; i < length; i++)
		if (value[i] <= 0x20 || value[i] >= 0x7f || value[i] == '\\')
			return error_set(
				err, -EINVAL,
				"%s: a URL has no blank, control character or other character "
				"beyond ASCII; write it as %%XX",
				key->name);
	if (length > URL_MAX)
		return error_set(err, -EINVAL, "%s takes up to %d bytes, not %zu", key->name,
		                 URL_MAX, length);
	value += scheme + 3;
	length = strcspn(value, "/?#");
	if (memchr(value, '@', length))
		return error_set(err, -EINVAL, "%s takes no user or password in the URL",
		                 key->name);
	if (!is_authority(value, length))
		return error_set(err, -EINVAL, "%s: \"%.*s\" is not a host[:port]", key->name,
		                 (int)(length < 80 ? length : 80), value);
	return 0;
}

int check_crl_url(const struct key *key, const char *value, struct error *err)
{
	struct error reason = { 0 };
	struct ldap_url url;
	int r = check_url(key, value, err);

	if (r < 0 || !ldap_url_is(value))
		return r;
	r = ldap_url_read(value, &url, &reason);
	ldap_url_clear(&url);
	return r < 0 ? error_set(err, r, "%s: %s", key->name, reason.text) : 0;
}

int check_sha256(const struct key *key, const char *value, struct error *err)
{
	size_t digits = 0, colons = 0;

	for (const char *at = value; *at; at++) {
		if (isxdigit((unsigned char)*at))
			digits++;
		else if (*at == ':' && digits && digits % 2 == 0 && at[1] && at[-1] != ':')
			colons++;
		else
			digits = SIZE_MAX / 2;
	}
	if (digits == 64 && (colons == 0 || colons == 31))
		return 0;
	return refuse(key, "a SHA-256 fingerprint (64 hex digits, colons or not)", value, err);
}

static int check_name(const struct key *key, const char *serial, const char *value,
                      struct error *err)
{
	struct error reason = { 0 };
	X509_NAME *name = NULL;
	int r;

	if (count_characters(value) < 0)
		return check_text(key, value, err);
	r = dn_parse(value, serial, &name, &reason);
	X509_NAME_free(name);
	return r < 0 ? error_set(err, r, "%s: %s", key->name, reason.text) : 0;
}

int check_subject(const struct key *key, const char *value, struct error *err)
{
	return check_name(key, "0", value, err);
}

int check_ca_name(const struct key *key, const char *value, struct error *err)
{
	return check_name(key, NULL, value, err);
}

static int check_by(int (*check)(const char *, struct error *), const struct key *key,
                    const char *value, struct error *err)
{
	struct error reason = { 0 };
	int r = check(value, &reason);

	return r < 0 ? error_set(err, r, "%s: %s", key->name, reason.text) : 0;
}

int check_domain(const struct key *key, const char *value, struct error *err)
{
	return check_by(check_dns_name, key, value, err);
}

int check_address(const struct key *key, const char *value, struct error *err)
{
	return check_by(check_ip_address, key, value, err);
}

int check_mail(const struct key *key, const char *value, struct error *err)
{
	return check_by(check_email, key, value, err);
}

long long span_seconds(const char *text)
{
	char *end;
	long number;

	if (!isdigit((unsigned char)*text))
		return -1;
	errno = 0;
	number = strtol(text, &end, 10);
	if (errno || number > 100000 || !strchr("dh", *end) || !*end || end[1])
		return -1;
	return number * (*end == 'd' ? 86400LL : 3600LL);
}

int check_span(const struct key *key, const char *value, struct error *err)
{
	long long hours = span_seconds(value) / 3600;

	if (hours >= key->min && hours <= key->max)
		return 0;
	return refuse(key, "days or hours (\"30d\", \"12h\"), 1h to 4095d", value, err);
}

static bool is_path(const char *text)
{
	long count = count_characters(text);

	return count > 0 && strlen(text) < PATH_MAX;
}

int check_path(const struct key *key, const char *value, struct error *err)
{
	return is_path(value) ? 0 : refuse(key, "a path", value, err);
}

/* The kernel keeps names with a dot before them for itself. */
int check_keyring(const struct key *key, const char *value, struct error *err)
{
	if (*value && *value != '.' && !strpbrk(value, " \t;"))
		return check_text(key, value, err);
	return refuse(key, "the name of a keyring, without blanks and with no dot before it", value,
	              err);
}

int check_command(const struct key *key, const char *value, struct error *err)
{
	if (is_path(value) && *value == '/' && value[1] && value[1] != ' ')
		return 0;
	return refuse(key, "the absolute path of a program, and its arguments", value, err);
}

int check_program(const struct key *key, const char *value, struct error *err)
{
	if (is_path(value) && *value == '/' && value[1] && !strpbrk(value, " \t"))
		return 0;
	return refuse(key, "the absolute path of a program", value, err);
}

/* ADDRESS:PORT, an IPv6 address in brackets; with ANY the address may be left out. */
static bool is_endpoint(const char *text, bool any)
{
	const char *colon = strrchr(text, ':');
	size_t length = colon ? (size_t)(colon - text) : 0;
	char address[64];

	if (!colon || length >= sizeof address || !is_port(colon + 1))
		return false;
	memcpy(address, text, length);
	address[length] = 0;
	if (*address == '[') {
		if (address[length - 1] != ']' || !strchr(address, ':'))
			return false;
		address[length - 1] = 0;
		return check_ip_address(address + 1, NULL) == 0;
	}
	if (!length)
		return any;
	return !strchr(address, ':') && check_ip_address(address, NULL) == 0;
}

int check_server(const struct key *key, const char *value, struct error *err)
{
	if (check_ip_address(value, NULL) == 0 || is_endpoint(value, false))
		return 0;
	return refuse(key, "an IP address, with :PORT behind it where it is not 53", value, err);
}

int check_listen(const struct key *key, const char *value, struct error *err)
{
	return is_endpoint(value, true) ? 0 : refuse(key, "[ADDRESS]:PORT", value, err);
}

/* Some CAs pad it, or give base64. */
int check_base64url(const struct key *key, const char *value, struct error *err)
{
	size_t length = strspn(value, ALNUM "-_+/"), padding = strspn(value + length, "=");

	if (length >= 1 && length <= 1024 && length % 4 != 1 && padding <= 2 &&
	    !value[length + padding])
		return 0;
	return refuse(key, "base64url text as the CA gave it", value, err);
}

/* Base64 (RFC 4648 §4) with its padding. */
static bool is_base64(const char *text)
{
	size_t length = strspn(text, ALNUM "+/"), padding = strspn(text + length, "=");

	return length && padding <= 2 && !text[length + padding] && (length + padding) % 4 == 0 &&
	       length <= 1024;
}

/* What libldns signs with, by its name in DNS: the final dot may stand there. */
static bool is_tsig_algorithm(const char *text, size_t length)
{
	static const char *const names[] = { "hmac-sha256", "hmac-sha512", "hmac-sha1" };

	if (length && text[length - 1] == '.')
		length--;
	for (size_t i = 0; i < COUNT(names); i++)
		if (strlen(names[i]) == length && strncasecmp(names[i], text, length) == 0)
			return true;
	return false;
}

int check_tsig(const struct key *key, const char *value, struct error *err)
{
	const char *algorithm = strchr(value, ':'), *secret;
	char name[256];

	secret = algorithm ? strchr(algorithm + 1, ':') : NULL;
	if (secret && algorithm - value < (long)sizeof name && is_base64(secret + 1) &&
	    is_tsig_algorithm(algorithm + 1, (size_t)(secret - algorithm - 1))) {
		memcpy(name, value, (size_t)(algorithm - value));
		name[algorithm - value] = 0;
		if (*name && name[strspn(name, ALNUM "._-")] == 0)
			return 0;
	}
	return refuse(key,
	              "NAME:ALGORITHM:BASE64 with ALGORITHM hmac-sha256, hmac-sha512 or hmac-sha1",
	              value, err);
}

/* pkcs11:name=value;…?name=value&…, printable ASCII without blanks. */
static bool is_pkcs11_uri(const char *text)
{
	const char *at = text + strlen("pkcs11:");

	if (strncmp(text, "pkcs11:", strlen("pkcs11:")) != 0 || strlen(text) > 1024)
		return false;
	for (size_t i = 0; text[i]; i++)
		if (text[i] <= 0x20 || text[i] >= 0x7f)
			return false;
	while (*at) {
		size_t name = strspn(at, ALNUM "-_");

		if (!name || at[name] != '=')
			return false;
		at += strcspn(at, ";?&");
		at += *at != 0;
	}
	return text[strlen("pkcs11:")] && !strchr(";?&", text[strlen(text) - 1]);
}

int check_key_store(const struct key *key, const char *value, struct error *err)
{
	if (strcmp(value, "store") == 0)
		return 0;
	if (strncmp(value, "pkcs11:", strlen("pkcs11:")) == 0 && strstr(value, "pin-value="))
		return error_set(err, -EINVAL,
		                 "%s takes no pin-value; give the PIN in a file by pin-source",
		                 key->name);
	return is_pkcs11_uri(value) ? 0 : refuse(key, "store or a PKCS#11 URI", value, err);
}

int check_store_key(const struct key *key, const char *value, struct error *err)
{
	static const char credential[] = "credential:";

	if (strncmp(value, credential, strlen(credential)) == 0) {
		value += strlen(credential);
		if (*value && value[strspn(value, ALNUM "._-")] == 0 && *value != '.')
			return 0;
		return refuse(key, "credential:NAME with a name of a credential", value, err);
	}
	if (strcmp(value, "none") == 0 || is_path(value))
		return 0;
	return refuse(key, "the path of a file, credential:NAME or none", value, err);
}

/* "FAMILY TABLE SET" of nft(8). */
static bool is_nft_set(const char *text)
{
	size_t family = strcspn(text, " "), table, set;

	if (!one_of("ip ip6 inet", text, family) || text[family] != ' ')
		return false;
	text += family + 1;
	table = strspn(text, ALNUM "_-");
	if (!table || text[table] != ' ')
		return false;
	text += table + 1;
	set = strspn(text, ALNUM "_-");
	return set && !text[set];
}

int check_firewall(const struct key *key, const char *value, struct error *err)
{
	if (strcmp(value, "none") == 0 ||
	    (strncmp(value, "nft:", 4) == 0 && is_nft_set(value + 4)) ||
	    check_program(key, value, NULL) == 0)
		return 0;
	return refuse(key, "none, \"nft:FAMILY TABLE SET\" or the absolute path of a program",
	              value, err);
}

/* What a value is called, by its check; words and numbers say it themselves. */
static const struct {
	key_checker *check;
	const char *text;
} placeholders[] = {
	{ check_url, "URL" },
	{ check_crl_url, "URL" },
	{ check_sha256, "FINGERPRINT" },
	{ check_subject, "DN" },
	{ check_ca_name, "DN" },
	{ check_domain, "NAME" },
	{ check_address, "ADDRESS" },
	{ check_mail, "E-MAIL" },
	{ check_peer_name, "NAME" },
	{ check_oid, "OID" },
	{ check_account, "USER" },
	{ check_reader, "user:NAME|group:NAME" },
	{ check_span, "DAYSd|HOURSh" },
	{ check_path, "PATH" },
	{ check_command, "COMMAND" },
	{ check_program, "PROGRAM" },
	{ check_server, "ADDRESS[:PORT]" },
	{ check_listen, "[ADDRESS]:PORT" },
	{ check_tsig, "NAME:ALGORITHM:BASE64" },
	{ check_key_store, "store|URI" },
	{ check_store_key, "PATH|credential:NAME|none" },
	{ check_firewall, "none|nft:SET|PROGRAM" },
	{ check_keyring, "NAME" },
	{ check_local_id, "NAME" },
	{ check_remote_id, "NAME|any" },
	{ check_endpoint, "ADDRESS|NAME|any" },
	{ check_traffic, "CIDR[:PROTOCOL[:PORT]]" },
	{ check_ike_proposal, "ALGORITHMS" },
	{ check_esp_proposal, "ALGORITHMS" },
	{ check_mark, "VALUE[/MASK]" },
	{ check_netns, "NAME" },
	{ check_spi, "NUMBER" },
	{ check_hex, "HEX" },
};

void key_placeholder(const struct key *key, char *text)
{
	const char *name = "TEXT";

	for (size_t i = 0; i < COUNT(placeholders); i++)
		if (placeholders[i].check == key->check)
			name = placeholders[i].text;
	if (key->check == check_object)
		name = key->flags & KEY_CA ? "PROFILE" : "ID";
	if (key->check == check_words)
		name = key->values;
	if (key->unit)
		snprintf(text, PLACEHOLDER_MAX, "%ld-%ld %s", key->min, key->max, key->unit);
	else
		snprintf(text, PLACEHOLDER_MAX, "%s", name);
	for (char *at = text; key->check == check_words && *at; at++)
		if (*at == ' ')
			*at = '|';
}
