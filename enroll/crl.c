#include "enroll/crl.h"

#include "common/x509.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <openssl/asn1t.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FUTURE_SECONDS 300

/* A CRL's parts as they stand in its bytes. */
struct slice {
	const unsigned char *at, *end;
};

struct parts {
	struct slice tbs;       /* with its header */
	struct slice before;    /* what TBSCertList holds in front of revokedCertificates */
	struct slice revoked;   /* the entries; empty: none */
	struct slice after;     /* the rest of TBSCertList */
	struct slice inner_alg; /* signature algorithms, with their headers */
	struct slice outer_alg;
	struct slice rest; /* signatureAlgorithm and signatureValue */
};

static int bad(struct error *err, const char *what)
{
	ERR_clear_error();
	return error_set(err, -EBADMSG, "the CRL %s", what);
}

/* The next element of FROM, with its header, and its CONTENT; false at the end or if it is none. */
static bool next_element(struct slice *from, int *tag, struct slice *whole, struct slice *content)
{
	const unsigned char *at = from->at;
	long length;
	int class;

	/* 0x80: an error, 1: indefinite length, which DER does not have */
	if (at >= from->end || ASN1_get_object(&at, &length, tag, &class, from->end - at) & 0x81)
		return false;
	if (class != V_ASN1_UNIVERSAL)
		*tag = -1 - *tag;
	*whole = (struct slice){ from->at, at + length };
	*content = (struct slice){ at, at + length };
	from->at = at + length;
	return true;
}

/* TBSCertList: the first SEQUENCE is the algorithm, that behind a time the entries. */
static bool split_tbs(struct slice tbs, struct parts *parts)
{
	struct slice left = tbs, whole, content;
	bool times = false;
	int tag;

	parts->before = tbs;
	parts->after = parts->revoked = (struct slice){ tbs.end, tbs.end };
	while (left.at < left.end) {
		if (!next_element(&left, &tag, &whole, &content))
			return false;
		if (tag == V_ASN1_SEQUENCE && !parts->inner_alg.at)
			parts->inner_alg = whole;
		if (tag == V_ASN1_UTCTIME || tag == V_ASN1_GENERALIZEDTIME)
			times = true;
		if (tag == V_ASN1_SEQUENCE && times) {
			parts->before.end = whole.at;
			parts->revoked = content;
			parts->after = left;
			return true;
		}
	}
	return parts->inner_alg.at != NULL;
}

static bool split(const unsigned char *bytes, size_t size, struct parts *parts)
{
	struct slice all = { bytes, bytes + size }, list, whole, tbs, content;
	int tag;

	*parts = (struct parts){ 0 };
	if (!next_element(&all, &tag, &whole, &list) || tag != V_ASN1_SEQUENCE ||
	    all.at != all.end || !next_element(&list, &tag, &parts->tbs, &tbs) ||
	    tag != V_ASN1_SEQUENCE || !split_tbs(tbs, parts))
		return false;
	parts->rest = list;
	return next_element(&list, &tag, &parts->outer_alg, &content) &&
	       next_element(&list, &tag, &whole, &content) && list.at == list.end;
}

static size_t slice_size(struct slice slice)
{
	return (size_t)(slice.end - slice.at);
}

static unsigned char *append(unsigned char *to, struct slice from)
{
	memcpy(to, from.at, slice_size(from));
	return to + slice_size(from);
}

/*
 * The CRL without its entries, decoded: all that OpenSSL has to know of it. Decoding the whole
 * takes twenty times its size.
 */
static X509_CRL *decode_frame(const struct parts *parts)
{
	int inner = (int)(slice_size(parts->before) + slice_size(parts->after));
	int list = ASN1_object_size(1, inner, V_ASN1_SEQUENCE) + (int)slice_size(parts->rest);
	int size = ASN1_object_size(1, list, V_ASN1_SEQUENCE);
	unsigned char *der, *to;
	const unsigned char *from;
	X509_CRL *crl;

	if (size <= 0)
		return NULL;
	from = der = to = OPENSSL_malloc((size_t)size);
	if (!der)
		return NULL;
	ASN1_put_object(&to, 1, list, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL);
	ASN1_put_object(&to, 1, inner, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL);
	to = append(to, parts->before);
	to = append(to, parts->after);
	append(to, parts->rest);
	crl = d2i_X509_CRL(NULL, &from, size);
	OPENSSL_free(der);
	return crl;
}

static int check_signature(const struct parts *parts, X509_CRL *frame, X509 *ca, bool legacy,
                           struct error *err)
{
	const ASN1_BIT_STRING *signature;
	const X509_ALGOR *algorithm;
	const ASN1_OBJECT *object;
	X509_ALGOR *copy;
	ASN1_STRING *tbs = NULL;
	int digest = NID_undef, ok = 0;

	if (slice_size(parts->inner_alg) != slice_size(parts->outer_alg) ||
	    memcmp(parts->inner_alg.at, parts->outer_alg.at, slice_size(parts->inner_alg)) != 0)
		return bad(err, "names two algorithms for its signature");
	X509_CRL_get0_signature(frame, &signature, &algorithm);
	X509_ALGOR_get0(&object, NULL, NULL, algorithm);
	OBJ_find_sigid_algs(OBJ_obj2nid(object), &digest, NULL);
	if (digest == NID_md5 || digest == NID_md4 || digest == NID_md2)
		return bad(err, "is signed with MD5, which is not taken");
	if (digest == NID_sha1 && !legacy)
		return bad(err, "is signed with SHA-1 (allow-legacy = yes takes it)");
	copy = X509_ALGOR_dup(algorithm);
	tbs = ASN1_STRING_type_new(V_ASN1_SEQUENCE);
	if (copy && tbs && ASN1_STRING_set(tbs, parts->tbs.at, (int)slice_size(parts->tbs)))
		/* a SEQUENCE as ASN1_STRING is encoded as the bytes it holds */
		ok = ASN1_item_verify(ASN1_ITEM_rptr(ASN1_SEQUENCE), copy, signature, tbs,
		                      X509_get0_pubkey(ca));
	X509_ALGOR_free(copy);
	ASN1_STRING_free(tbs);
	return ok == 1 ? 0 : bad(err, "is not signed by the CA: its signature is wrong");
}

static int check_issuer(X509_CRL *frame, X509 *ca, struct error *err)
{
	if (X509_NAME_cmp(X509_CRL_get_issuer(frame), X509_get_subject_name(ca)) != 0)
		return bad(err, "is of another issuer than the CA");
	if (!(X509_get_key_usage(ca) & KU_CRL_SIGN))
		return bad(err, "cannot be from this CA: its certificate lacks cRLSign");
	return 0;
}

/* Only a CRL that speaks of all certificates and all reasons can say of one that it is good. */
static int check_scope(X509_CRL *frame, struct error *err)
{
	ISSUING_DIST_POINT *scope;
	bool whole;
	int critical;

	if (X509_CRL_get_ext_by_NID(frame, NID_delta_crl, -1) >= 0)
		return bad(err, "is a delta CRL: a complete one is needed");
	scope = X509_CRL_get_ext_d2i(frame, NID_issuing_distribution_point, &critical, NULL);
	if (!scope)
		return critical == -1 ? 0 : bad(err, "has a scope that cannot be read");
	whole = scope->onlyuser <= 0 && scope->onlyCA <= 0 && scope->onlyattr <= 0 &&
	        scope->indirectCRL <= 0 && !scope->onlysomereasons;
	ISSUING_DIST_POINT_free(scope);
	if (!whole)
		return bad(err, "is indirect or speaks of some certificates or reasons alone: a "
		                "complete one is needed");
	return 0;
}

static int check_extensions(X509_CRL *frame, struct error *err)
{
	for (int i = 0; i < X509_CRL_get_ext_count(frame); i++) {
		X509_EXTENSION *extension = X509_CRL_get_ext(frame, i);
		int nid = OBJ_obj2nid(X509_EXTENSION_get_object(extension));

		if (X509_EXTENSION_get_critical(extension) && nid != NID_crl_number &&
		    nid != NID_issuing_distribution_point && nid != NID_authority_key_identifier)
			return bad(err, "has a critical extension that is not known");
	}
	return 0;
}

static int read_number(X509_CRL *frame, struct crl *crl, struct error *err)
{
	int critical;
	ASN1_INTEGER *number = X509_CRL_get_ext_d2i(frame, NID_crl_number, &critical, NULL);
	BIGNUM *value = NULL;
	char *text = NULL;

	if (!number)
		return critical == -1 ? 0 : bad(err, "has a number that cannot be read");
	if (ASN1_STRING_length(number) <= CRL_SERIAL_MAX)
		value = ASN1_INTEGER_to_BN(number, NULL);
	text = value && !BN_is_negative(value) ? BN_bn2dec(value) : NULL;
	if (text)
		snprintf(crl->number, sizeof crl->number, "%s", text);
	OPENSSL_free(text);
	BN_free(value);
	ASN1_INTEGER_free(number);
	return *crl->number ? 0 : bad(err, "has a number of more than 20 bytes or below zero");
}

static int read_times(X509_CRL *frame, int64_t now, struct crl *crl, struct error *err)
{
	crl->this_update = asn1_time_seconds(X509_CRL_get0_lastUpdate(frame));
	if (crl->this_update < 0)
		return bad(err, "has no thisUpdate");
	if (now > 0 && crl->this_update > now + FUTURE_SECONDS)
		return error_set(err, -EBADMSG,
		                 "the CRL is from the future: its thisUpdate is %lld s ahead",
		                 (long long)(crl->this_update - now));
	if (!X509_CRL_get0_nextUpdate(frame))
		return 0;
	crl->next_update = asn1_time_seconds(X509_CRL_get0_nextUpdate(frame));
	return crl->next_update < 0 ? bad(err, "has a nextUpdate that cannot be read") : 0;
}

/* --- entries --- */

static bool read_reason(X509_REVOKED *revoked, struct crl_entry *entry)
{
	int critical;
	ASN1_ENUMERATED *reason =
		X509_REVOKED_get_ext_d2i(revoked, NID_crl_reason, &critical, NULL);
	long value = reason ? ASN1_ENUMERATED_get(reason) : -1;

	ASN1_ENUMERATED_free(reason);
	entry->reason = CRL_NO_REASON;
	if (!reason)
		return critical == -1;
	if (value < 0 || value > 10)
		return false;
	/* removeFromCRL belongs to delta CRLs: here nothing becomes good by it */
	if (value != CRL_REASON_REMOVE_FROM_CRL)
		entry->reason = (unsigned char)value;
	return true;
}

static bool read_entry(X509_REVOKED *revoked, struct crl_entry *entry)
{
	const ASN1_INTEGER *serial = X509_REVOKED_get0_serialNumber(revoked);
	const unsigned char *data = ASN1_STRING_get0_data(serial);
	int length = ASN1_STRING_length(serial);
	uint64_t when =
		htobe64((uint64_t)asn1_time_seconds(X509_REVOKED_get0_revocationDate(revoked)));

	for (; length > 1 && !*data; data++)
		length--;
	if (length < 1 || length > CRL_SERIAL_MAX)
		return false;
	*entry = (struct crl_entry){ .length = (unsigned char)length };
	if (ASN1_STRING_type(serial) & V_ASN1_NEG)
		entry->length |= CRL_NEGATIVE;
	memcpy(entry->serial + CRL_SERIAL_MAX - length, data, (size_t)length);
	memcpy(entry->time, &when, sizeof entry->time);
	for (int i = 0; i < X509_REVOKED_get_ext_count(revoked); i++) {
		X509_EXTENSION *extension = X509_REVOKED_get_ext(revoked, i);
		int nid = OBJ_obj2nid(X509_EXTENSION_get_object(extension));

		if (nid == NID_certificate_issuer ||
		    (X509_EXTENSION_get_critical(extension) && nid != NID_crl_reason))
			return false;
	}
	return when != UINT64_MAX && read_reason(revoked, entry);
}

static int compare_entries(const void *one, const void *other)
{
	return memcmp(one, other, offsetof(struct crl_entry, reason));
}

static struct crl_entry *grow(struct crl *crl, size_t *room)
{
	size_t larger = *room ? 2 * *room : 64;
	struct crl_entry *entries;

	if (crl->count < *room)
		return crl->entries + crl->count++;
	entries = reallocarray(crl->entries, larger, sizeof *entries);
	if (!entries)
		return NULL;
	crl->entries = entries;
	*room = larger;
	return crl->entries + crl->count++;
}

static int read_entries(struct slice revoked, struct crl *crl, struct error *err)
{
	bool sorted = true;
	size_t room = 0;

	while (revoked.at < revoked.end) {
		X509_REVOKED *one = d2i_X509_REVOKED(NULL, &revoked.at, revoked.end - revoked.at);
		struct crl_entry *entry = one ? grow(crl, &room) : NULL;
		bool good = entry && read_entry(one, entry);

		X509_REVOKED_free(one);
		if (one && !entry)
			return error_set(err, -ENOMEM, "no memory for a CRL of %zu entries",
			                 crl->count);
		if (!good) {
			ERR_clear_error();
			return error_set(err, -EBADMSG, "entry %zu of the CRL cannot be taken",
			                 crl->count);
		}
		crl_entry_seal(entry);
		if (crl->count > 1 && compare_entries(entry - 1, entry) > 0)
			sorted = false;
	}
	if (!sorted)
		qsort(crl->entries, crl->count, sizeof *crl->entries, compare_entries);
	return 0;
}

/* --- all of it --- */

static bool is_pem(const unsigned char *bytes, size_t length)
{
	return length > 0 && *bytes != (V_ASN1_SEQUENCE | V_ASN1_CONSTRUCTED) &&
	       memmem(bytes, length, "-----BEGIN ", 11);
}

static int decode_pem(const void *bytes, size_t length, struct crl *crl, struct error *err)
{
	BIO *in = BIO_new_mem_buf(bytes, (int)length);
	char *name = NULL, *header = NULL;
	long size = 0;

	if (!in || !PEM_read_bio(in, &name, &header, &crl->der, &size) ||
	    strcmp(name, PEM_STRING_X509_CRL) != 0)
		size = 0;
	BIO_free(in);
	OPENSSL_free(name);
	OPENSSL_free(header);
	crl->bytes = crl->der;
	crl->size = (size_t)size;
	return size > 0 ? 0 : bad(err, "is neither DER nor PEM");
}

int crl_read(const void *bytes, size_t length, X509 *ca, int64_t now, bool legacy, struct crl *crl,
             struct error *err)
{
	X509_CRL *frame = NULL;
	struct parts parts;
	int r = 0;

	*crl = (struct crl){ .bytes = bytes, .size = length };
	if (length > CRL_SIZE_MAX)
		return error_set(err, -EBADMSG, "the CRL has %zu bytes, more than %u", length,
		                 CRL_SIZE_MAX);
	if (is_pem(bytes, length))
		r = decode_pem(bytes, length, crl, err);
	if (r == 0 && !split(crl->bytes, crl->size, &parts))
		r = bad(err, "is no DER of a CRL");
	frame = r == 0 ? decode_frame(&parts) : NULL;
	if (r == 0 && !frame)
		r = bad(err, "cannot be read");
	if (r == 0)
		r = check_issuer(frame, ca, err);
	if (r == 0)
		r = check_signature(&parts, frame, ca, legacy, err);
	if (r == 0)
		r = check_scope(frame, err);
	if (r == 0)
		r = check_extensions(frame, err);
	if (r == 0)
		r = read_number(frame, crl, err);
	if (r == 0)
		r = read_times(frame, now, crl, err);
	if (r == 0)
		r = read_entries(parts.revoked, crl, err);
	X509_CRL_free(frame);
	return r;
}

void crl_clear(struct crl *crl)
{
	OPENSSL_free(crl->der);
	free(crl->entries);
	*crl = (struct crl){ 0 };
}

static int write_file(int fd, const void *bytes, size_t length)
{
	const char *at = bytes;

	if (lseek(fd, 0, SEEK_SET) < 0 || ftruncate(fd, 0) < 0)
		return -errno;
	while (length) {
		ssize_t n = write(fd, at, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += n;
		length -= (size_t)n;
	}
	/* the store keeps it when it is told of it: its row must not outlive the bytes */
	return fsync(fd) < 0 ? -errno : 0;
}

int crl_write(const struct crl *crl, int body, int index, struct error *err)
{
	int r = write_file(body, crl->bytes, crl->size);

	if (r == 0)
		r = write_file(index, crl->entries, crl->count * sizeof *crl->entries);
	if (r < 0)
		return error_set(err, r, "cannot write the CRL: %s", strerror(-r));
	return 0;
}
