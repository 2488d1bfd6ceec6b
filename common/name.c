#include "common/x509.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define NAME_ATTRIBUTES    64   /* of a name that a user writes */
#define COMPARE_ATTRIBUTES 500  /* above it two names from outside are just not the same */
#define VALUE_MAX          1024 /* bytes of an attribute's value */
#define DNS_MAX            253
#define EMAIL_MAX          254

/* Where OpenSSL's short name is another one than people write. Looked at first: OpenSSL's SN is
 * the surname. */
static const struct {
	const char *name;
	int nid;
} attribute_names[] = {
	{ "SN", NID_serialNumber },
	{ "serialNumber", NID_serialNumber },
	{ "E", NID_pkcs9_emailAddress },
	{ "S", NID_stateOrProvinceName },
	{ "surname", NID_surname },
	{ "CN", NID_commonName },
	{ "OU", NID_organizationalUnitName },
	{ "O", NID_organizationName },
	{ "L", NID_localityName },
	{ "ST", NID_stateOrProvinceName },
	{ "C", NID_countryName },
	{ "DC", NID_domainComponent },
	{ "UID", NID_userId },
	{ "STREET", NID_streetAddress },
};

/* OpenSSL knows thousands of short names; an attribute of a name is one that it has limits for,
 * or one below X.520's or the pilot directory's arc. */
static bool is_attribute(int nid)
{
	static const unsigned char x520[] = { 0x55, 0x04 };
	static const unsigned char pilot[] = {
		0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01
	};
	const ASN1_OBJECT *object = nid == NID_undef ? NULL : OBJ_nid2obj(nid);
	const unsigned char *oid;
	size_t length;

	if (!object)
		return false;
	if (ASN1_STRING_TABLE_get(nid))
		return true;
	oid = OBJ_get0_data(object);
	length = OBJ_length(object);
	return (length > sizeof x520 && memcmp(oid, x520, sizeof x520) == 0) ||
	       (length > sizeof pilot && memcmp(oid, pilot, sizeof pilot) == 0);
}

static int attribute_nid(const char *name)
{
	int nid;

	for (size_t i = 0; i < COUNT(attribute_names); i++)
		if (strcasecmp(name, attribute_names[i].name) == 0)
			return attribute_names[i].nid;
	nid = OBJ_sn2nid(name);
	return is_attribute(nid) ? nid : NID_undef;
}

static const char *attribute_name(int nid)
{
	if (nid == NID_surname)
		return "surname";
	return OBJ_nid2sn(nid);
}

struct dn_reader {
	const char *at;
	X509_NAME *name;
	const char *serial;
	struct error *err;
	int set; /* 0: the next attribute begins an RDN; -1: it belongs to the one before */
};

static int read_type(struct dn_reader *reader, char *type, size_t size)
{
	size_t length;

	reader->at += strspn(reader->at, " ");
	length = strspn(reader->at, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	                            "0123456789-.");
	if (!length || length >= size)
		return error_set(reader->err, -EINVAL,
		                 "a name is ATTRIBUTE=VALUE,… as in CN=www.example.net,O=Example; "
		                 "no attribute at \"%.40s\"",
		                 reader->at);
	memcpy(type, reader->at, length);
	type[length] = 0;
	reader->at += length;
	reader->at += strspn(reader->at, " ");
	return 0;
}

static int hex_digit(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	digit = (char)tolower((unsigned char)digit);
	return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* The byte that the escape at *AT (behind its backslash) stands for, or -1. */
static int read_escape(const char **at)
{
	int high = hex_digit(**at), low = high < 0 ? -1 : hex_digit((*at)[1]);

	if (low >= 0) {
		*at += 2;
		return high << 4 | low;
	}
	if (**at && strchr(" \"#+,;<=>\\", **at))
		return (unsigned char)*(*at)++;
	return -1;
}

/* The value up to an unescaped separator; blanks around it count only when escaped. */
static int read_value(struct dn_reader *reader, const char *type, char *value, size_t *length)
{
	size_t end = 0; /* behind the last byte that is no unescaped blank */

	*length = 0;
	reader->at += strspn(reader->at, " ");
	if (*reader->at == '#')
		return error_set(reader->err, -EINVAL,
		                 "%s: a value that begins with \"#\" is written \"\\#\"", type);
	while (*reader->at && !strchr(",+;", *reader->at)) {
		int byte = (unsigned char)*reader->at++;
		bool escaped = byte == '\\';

		if (escaped)
			byte = read_escape(&reader->at);
		if (byte < 0 || (!escaped && strchr("\"<>", byte)))
			return error_set(reader->err, -EINVAL,
			                 "%s: in a value , + \" \\ < > ; stand behind a \"\\\", "
			                 "any other byte as it is or as \\XX",
			                 type);
		if (byte < 0x20 || byte == 0x7f)
			return error_set(reader->err, -EINVAL, "%s has a control character", type);
		if (*length == VALUE_MAX)
			return error_set(reader->err, -EINVAL, "%s has more than %d bytes", type,
			                 VALUE_MAX);
		value[(*length)++] = (char)byte;
		if (escaped || byte != ' ')
			end = *length;
	}
	*length = end;
	value[end] = 0;
	return 0;
}

static int add_attribute(struct dn_reader *reader, const char *type, int nid, const char *value,
                         size_t length)
{
	const ASN1_STRING_TABLE *limits = ASN1_STRING_TABLE_get(nid);
	unsigned long reason;

	if (X509_NAME_entry_count(reader->name) >= NAME_ATTRIBUTES)
		return error_set(reader->err, -EINVAL, "a name has up to %d attributes",
		                 NAME_ATTRIBUTES);
	if (X509_NAME_add_entry_by_NID(reader->name, nid, MBSTRING_UTF8,
	                               (const unsigned char *)value, (int)length, -1, reader->set))
		return 0;
	reason = ERR_peek_last_error();
	ERR_clear_error();
	if (ERR_GET_REASON(reason) == ERR_R_MALLOC_FAILURE)
		return error_set(reader->err, -ENOMEM, "out of memory");
	if (limits && limits->maxsize > 0 &&
	    (ERR_GET_REASON(reason) == ASN1_R_STRING_TOO_LONG ||
	     ERR_GET_REASON(reason) == ASN1_R_STRING_TOO_SHORT))
		return error_set(reader->err, -EINVAL,
		                 "%s takes %ld to %ld characters, not \"%.80s\"", type,
		                 limits->minsize, limits->maxsize, value);
	return error_set(reader->err, -EINVAL,
	                 "%s cannot hold \"%.80s\": a character is not allowed in it", type, value);
}

static int read_attribute(struct dn_reader *reader)
{
	char type[64], value[VALUE_MAX + 1] = "";
	size_t length = 0;
	int nid, r;

	r = read_type(reader, type, sizeof type);
	if (r < 0)
		return r;
	nid = attribute_nid(type);
	if (nid == NID_undef)
		return error_set(reader->err, -EINVAL,
		                 "\"%s\" is no attribute of a name (CN, OU, O, L, ST, C, DC, SN …)",
		                 type);
	if (*reader->at == '=') {
		reader->at++;
		r = read_value(reader, type, value, &length);
		if (r < 0)
			return r;
	} else if (nid != NID_serialNumber || (*reader->at && !strchr(",+;", *reader->at))) {
		return error_set(reader->err, -EINVAL, "%s has no \"=\" behind it", type);
	}
	if (!length && nid == NID_serialNumber && reader->serial) {
		length = strlen(reader->serial);
		return add_attribute(reader, type, nid, reader->serial, length);
	}
	if (!length)
		return error_set(reader->err, -EINVAL, "%s has no value", type);
	return add_attribute(reader, type, nid, value, length);
}

int dn_parse(const char *text, const char *serial, X509_NAME **name, struct error *err)
{
	struct dn_reader reader = { .at = text, .serial = serial, .err = err };
	int r;

	reader.name = X509_NAME_new();
	if (!reader.name)
		return error_set(err, -ENOMEM, "out of memory");
	for (;;) {
		r = read_attribute(&reader);
		if (r < 0 || !*reader.at)
			break;
		reader.set = *reader.at++ == '+' ? -1 : 0;
	}
	if (r < 0)
		X509_NAME_free(reader.name);
	else
		*name = reader.name;
	return r;
}

/* LENGTH bytes with SPECIAL characters behind a backslash and unprintable ones as \XX. */
static void print_escaped(BIO *out, const unsigned char *bytes, size_t length, const char *special)
{
	for (size_t i = 0, size; i < length; i += size) {
		unsigned long code = 0;
		int used = UTF8_getc(bytes + i, length - i > 8 ? 8 : (int)(length - i), &code);
		bool bad = used <= 0 || is_unprintable(code);

		size = used > 0 ? (size_t)used : 1;
		for (size_t j = 0; bad && j < size; j++)
			BIO_printf(out, "\\%02X", bytes[i + j]);
		if (bad)
			continue;
		if (code < 0x80 && strchr(special, (int)code))
			BIO_write(out, "\\", 1);
		BIO_write(out, bytes + i, (int)size);
	}
}

/* The bytes of OUT as a string, which the caller frees; NULL when there is no memory. */
static char *bio_text(BIO *out)
{
	char *bytes, *text;
	long length = BIO_get_mem_data(out, &bytes);

	text = malloc((size_t)length + 1);
	if (!text)
		return NULL;
	if (length)
		memcpy(text, bytes, (size_t)length);
	text[length] = 0;
	return text;
}

static void print_hex(BIO *out, const unsigned char *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
		BIO_printf(out, "%02X", bytes[i]);
}

/* RFC 4514 §2.4. */
static void print_value(BIO *out, const ASN1_STRING *value)
{
	const unsigned char *bytes = ASN1_STRING_get0_data(value);
	size_t length = (size_t)ASN1_STRING_length(value), first = 0, last;
	unsigned char *utf8 = NULL;
	int converted;

	if (ASN1_STRING_type(value) != V_ASN1_UTF8STRING) {
		converted = ASN1_STRING_to_UTF8(&utf8, value);
		if (converted >= 0) {
			bytes = utf8;
			length = (size_t)converted;
		}
	}
	last = length;
	if (length && (*bytes == ' ' || *bytes == '#')) {
		BIO_printf(out, "\\%c", *bytes);
		first = 1;
	}
	if (last > first && bytes[last - 1] == ' ')
		last--;
	print_escaped(out, bytes + first, last - first, ",+\"\\<>;");
	if (last < length)
		BIO_puts(out, "\\ ");
	OPENSSL_free(utf8);
}

static void print_attribute(BIO *out, const X509_NAME_ENTRY *entry)
{
	const ASN1_OBJECT *object = X509_NAME_ENTRY_get_object(entry);
	const ASN1_STRING *value = X509_NAME_ENTRY_get_data(entry);
	int nid = OBJ_obj2nid(object);
	unsigned char *der = NULL;
	char oid[128];
	int length;

	if (is_attribute(nid) && ASN1_STRING_type(value) != V_ASN1_SEQUENCE &&
	    ASN1_STRING_type(value) != V_ASN1_BIT_STRING) {
		BIO_printf(out, "%s=", attribute_name(nid));
		print_value(out, value);
		return;
	}
	OBJ_obj2txt(oid, sizeof oid, object, 1);
	BIO_printf(out, "%s=#", oid);
	length = i2d_ASN1_PRINTABLE(value, &der);
	if (length > 0)
		print_hex(out, der, (size_t)length);
	OPENSSL_free(der);
}

char *dn_text(const X509_NAME *name)
{
	BIO *out = BIO_new(BIO_s_mem());
	char *text;
	int set = 0;

	if (!out)
		return NULL;
	for (int i = 0; i < X509_NAME_entry_count(name); i++) {
		const X509_NAME_ENTRY *entry = X509_NAME_get_entry(name, i);

		if (i)
			BIO_puts(out, X509_NAME_ENTRY_set(entry) == set ? "+" : ",");
		set = X509_NAME_ENTRY_set(entry);
		print_attribute(out, entry);
	}
	text = bio_text(out);
	BIO_free(out);
	ERR_clear_error();
	return text;
}

/* A name of the one attribute INDEX of NAME: OpenSSL then compares type and folded value. */
static X509_NAME *one_attribute(const X509_NAME *name, int index)
{
	X509_NAME *one = X509_NAME_new();

	if (one && X509_NAME_add_entry(one, X509_NAME_get_entry(name, index), -1, 0))
		return one;
	X509_NAME_free(one);
	return NULL;
}

bool dn_same_attributes(const X509_NAME *one, const X509_NAME *other)
{
	int count = X509_NAME_entry_count(one), found = 0;
	X509_NAME *left[COMPARE_ATTRIBUTES] = { 0 };

	if (count != X509_NAME_entry_count(other) || count > COMPARE_ATTRIBUTES)
		return false;
	for (int i = 0; i < count; i++)
		left[i] = one_attribute(other, i);
	for (int i = 0; i < count && found == i; i++) {
		X509_NAME *wanted = one_attribute(one, i);

		for (int j = 0; wanted && j < count; j++) {
			if (!left[j] || X509_NAME_cmp(wanted, left[j]) != 0)
				continue;
			X509_NAME_free(left[j]);
			left[j] = NULL;
			found++;
			break;
		}
		X509_NAME_free(wanted);
	}
	for (int i = 0; i < count; i++)
		X509_NAME_free(left[i]);
	return found == count;
}

/* One label of LENGTH bytes: letters, digits and inner hyphens. */
static bool is_label(const char *text, size_t length)
{
	if (length < 1 || length > 63 || text[0] == '-' || text[length - 1] == '-')
		return false;
	for (size_t i = 0; i < length; i++)
		if (!isalnum((unsigned char)text[i]) && text[i] != '-')
			return false;
	return true;
}

static bool is_host(const char *text)
{
	const char *label = text;
	size_t length;

	if (strlen(text) > DNS_MAX)
		return false;
	for (;; label += length + 1) {
		length = strcspn(label, ".");
		if (!is_label(label, length))
			return false;
		if (!label[length])
			return strspn(label, "0123456789") != length;
	}
}

int check_dns_name(const char *text, struct error *err)
{
	const char *host = strncmp(text, "*.", 2) == 0 ? text + 2 : text;

	if (strlen(text) <= DNS_MAX && is_host(host))
		return 0;
	for (const char *at = text; *at; at++)
		if ((unsigned char)*at >= 0x80)
			return error_set(err, -EINVAL,
			                 "\"%.80s\" is no DNS name as DNS has it: an "
			                 "international name is written in its xn-- form",
			                 text);
	if (check_ip_address(text, NULL) == 0)
		return error_set(err, -EINVAL,
		                 "\"%s\" is an IP address, no DNS name: use "
		                 "ip-address",
		                 text);
	return error_set(err, -EINVAL,
	                 "\"%.80s\" is no DNS name (labels of 1 to 63 letters, digits and inner "
	                 "hyphens with dots between, %d characters at most)",
	                 text, DNS_MAX);
}

int check_ip_address(const char *text, struct error *err)
{
	unsigned char bytes[sizeof(struct in6_addr)];

	if (inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1)
		return 0;
	return error_set(err, -EINVAL,
	                 "\"%.80s\" is no IP address (such as 192.0.2.1 or 2001:db8::1)", text);
}

int check_email(const char *text, struct error *err)
{
	size_t local = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	                            "0123456789!#$%&'*+-/=?^_`{|}~.");

	if (local >= 1 && local <= 64 && text[local] == '@' && *text != '.' &&
	    text[local - 1] != '.' && strlen(text) <= EMAIL_MAX && is_host(text + local + 1))
		return 0;
	return error_set(err, -EINVAL, "\"%.80s\" is no e-mail address (such as a@example.net)",
	                 text);
}

struct name_form {
	const char *key;
	int type; /* GEN_… */
	int (*check)(const char *text, struct error *err);
};

static const struct name_form name_forms[] = {
	{ "domain-name", GEN_DNS, check_dns_name },
	{ "ip-address", GEN_IPADD, check_ip_address },
	{ "email", GEN_EMAIL, check_email },
};

static ASN1_STRING *name_value(const struct name_form *form, const char *text)
{
	ASN1_STRING *value;

	if (form->type == GEN_IPADD)
		return a2i_IPADDRESS(text);
	value = ASN1_IA5STRING_new();
	if (value && ASN1_STRING_set(value, text, -1))
		return value;
	ASN1_STRING_free(value);
	return NULL;
}

static int add_name(GENERAL_NAMES *names, const struct name_form *form, const struct field *field,
                    struct error *err)
{
	GENERAL_NAME *name = NULL;
	ASN1_STRING *value = NULL;
	int r;

	if (strlen(field->value) != field->length)
		return error_set(err, -EINVAL, "%s has a NUL byte in its value", form->key);
	r = form->check(field->value, err);
	if (r < 0)
		return r;
	name = GENERAL_NAME_new();
	value = name_value(form, field->value);
	if (name && value) {
		GENERAL_NAME_set0_value(name, form->type, value);
		value = NULL;
		if (sk_GENERAL_NAME_push(names, name))
			return 0;
	}
	ASN1_STRING_free(value);
	GENERAL_NAME_free(name);
	return error_set(err, -ENOMEM, "out of memory");
}

int alternative_names(const struct record *config, GENERAL_NAMES **names, struct error *err)
{
	GENERAL_NAMES *new = sk_GENERAL_NAME_new_null();
	int r = new ? 0 : error_set(err, -ENOMEM, "out of memory");

	for (size_t i = 0; r == 0 && i < record_count(config); i++) {
		const struct field *field = record_field(config, i);

		for (size_t j = 0; r == 0 && j < COUNT(name_forms); j++)
			if (strcmp(field->key, name_forms[j].key) == 0)
				r = add_name(new, &name_forms[j], field, err);
	}
	if (r == 0) {
		*names = sk_GENERAL_NAME_num(new) > 0 ? new : NULL;
		if (*names)
			new = NULL;
	}
	GENERAL_NAMES_free(new);
	return r;
}

static void print_address(BIO *out, const ASN1_STRING *address)
{
	int length = ASN1_STRING_length(address);
	char text[INET6_ADDRSTRLEN];

	if ((length == 4 || length == 16) &&
	    inet_ntop(length == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(address), text,
	              sizeof text))
		BIO_puts(out, text);
	else
		print_hex(out, ASN1_STRING_get0_data(address), (size_t)length);
}

char *alternative_name_text(const GENERAL_NAME *name)
{
	BIO *out = BIO_new(BIO_s_mem());
	const ASN1_STRING *value;
	char *text;
	int type;

	if (!out)
		return NULL;
	value = GENERAL_NAME_get0_value(name, &type);
	if (type == GEN_DNS || type == GEN_EMAIL) {
		BIO_puts(out, type == GEN_DNS ? "DNS:" : "email:");
		print_escaped(out, ASN1_STRING_get0_data(value), (size_t)ASN1_STRING_length(value),
		              "\\,");
	} else if (type == GEN_IPADD) {
		BIO_puts(out, "IP:");
		print_address(out, value);
	} else {
		BIO_puts(out, "other");
	}
	text = bio_text(out);
	BIO_free(out);
	return text;
}
