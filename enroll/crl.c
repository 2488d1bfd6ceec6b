#include "enroll/crl.h"

#include "common/x509.h"
#include "enroll/crl_input.h"
#include "enroll/crl_writer.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ISSUERS_MAX 8 /* names of one certificateIssuer */
#define TIME_MAX    32

struct slice {
	const unsigned char *at, *end;
};

/* A header that is read: what follows it has LENGTH bytes. */
struct head {
	int tag; /* the identifier's byte */
	size_t size, length;
};

struct reader {
	struct crl_input *input;
	struct crl_writer *writer;
	unsigned char *inner, *rest; /* of the stub: TBSCertList, and what follows it */
	size_t inner_size, rest_size;
	size_t algorithm, algorithm_size; /* in INNER */
	uint64_t tbs, tbs_end;            /* in the body */
	bool digests;
	ASN1_INTEGER *serial;          /* of the entry that is read */
	uint32_t issuers[ISSUERS_MAX]; /* certificateIssuer of the last entry that has one */
	size_t issuer_count;
	uint64_t entries;
};

static int bad(struct error *err, const char *what)
{
	ERR_clear_error();
	return error_set(err, -EBADMSG, "the CRL %s", what);
}

/* --- entries --- */

/* The next element of FROM: its TAG (the identifier's byte) and CONTENT. False: there is none. */
static bool next_element(struct slice *from, int *tag, struct slice *content)
{
	const unsigned char *at = from->at;
	long length;
	int number, class;

	/* 0x80: an error, 1: indefinite length, which DER does not have */
	if (at >= from->end ||
	    ASN1_get_object(&at, &length, &number, &class, from->end - at) & 0x81)
		return false;
	*tag = *from->at;
	*content = (struct slice){ at, at + length };
	from->at = at + length;
	return true;
}

static bool is_element(struct slice *from, int wanted, struct slice *content)
{
	int tag;

	return next_element(from, &tag, content) && tag == wanted;
}

static size_t slice_size(struct slice slice)
{
	return (size_t)(slice.end - slice.at);
}

#define SEQUENCE (V_ASN1_SEQUENCE | V_ASN1_CONSTRUCTED)

static bool read_time(struct slice *from, struct crl_entry *entry)
{
	unsigned char text[TIME_MAX];
	struct slice content;
	ASN1_TIME time = { .data = text };
	int64_t seconds;

	if (!next_element(from, &time.type, &content) ||
	    (time.type != V_ASN1_UTCTIME && time.type != V_ASN1_GENERALIZEDTIME) ||
	    slice_size(content) >= sizeof text)
		return false;
	time.length = (int)slice_size(content);
	memcpy(text, content.at, slice_size(content));
	text[time.length] = '\0';
	seconds = asn1_time_seconds(&time);
	crl_entry_set_time(entry, seconds);
	return seconds != -1;
}

/* CRLReason ::= ENUMERATED */
static bool read_reason(struct slice value, struct crl_entry *entry)
{
	struct slice content;

	if (!is_element(&value, V_ASN1_ENUMERATED, &content) || value.at != value.end ||
	    slice_size(content) != 1 || *content.at > 10)
		return false;
	entry->reason = *content.at;
	return true;
}

/* CertificateIssuer ::= GeneralNames; those that are directory names count. */
static int read_issuers(struct reader *reader, struct slice value, struct error *err)
{
	struct slice names, name;
	int tag, r = 0;

	if (!is_element(&value, SEQUENCE, &names) || value.at != value.end)
		return -EBADMSG;
	reader->issuer_count = 0;
	while (r == 0 && names.at < names.end) {
		const unsigned char *at;
		X509_NAME *read;
		bool good;

		if (!next_element(&names, &tag, &name))
			return -EBADMSG;
		if (tag != (V_ASN1_CONTEXT_SPECIFIC | V_ASN1_CONSTRUCTED | GEN_DIRNAME))
			continue;
		at = name.at;
		read = d2i_X509_NAME(NULL, &at, name.end - name.at);
		good = read && at == name.end && reader->issuer_count < ISSUERS_MAX;
		X509_NAME_free(read);
		r = good ? crl_writer_issuer(reader->writer, name.at, slice_size(name),
		                             &reader->issuers[reader->issuer_count++], err)
		         : -EBADMSG;
	}
	return reader->issuer_count ? r : -EBADMSG;
}

/* Of the OIDs 2.5.29.x, x. */
enum { EXTENSION_REASON = 21, EXTENSION_ISSUER = 29, EXTENSION_OTHER = -1 };

static int extension_kind(struct slice oid)
{
	bool known = slice_size(oid) == 3 && oid.at[0] == 0x55 && oid.at[1] == 0x1d;

	return known ? oid.at[2] : EXTENSION_OTHER;
}

static int read_extension(struct reader *reader, struct slice extension, struct crl_entry *entry,
                          struct error *err)
{
	struct slice oid, value;
	bool critical = false;
	int tag;

	if (!is_element(&extension, V_ASN1_OBJECT, &oid) || !next_element(&extension, &tag, &value))
		return -EBADMSG;
	if (tag == V_ASN1_BOOLEAN) {
		critical = slice_size(value) == 1 && *value.at;
		if (!next_element(&extension, &tag, &value))
			return -EBADMSG;
	}
	if (tag != V_ASN1_OCTET_STRING || extension.at != extension.end)
		return -EBADMSG;
	switch (extension_kind(oid)) {
	case EXTENSION_REASON:
		return read_reason(value, entry) ? 0 : -EBADMSG;
	case EXTENSION_ISSUER:
		return read_issuers(reader, value, err);
	default: /* what must be understood, and is not */
		return critical ? -EBADMSG : 0;
	}
}

static int add_entry(struct reader *reader, struct crl_entry *entry, struct error *err)
{
	size_t count = reader->issuer_count ? reader->issuer_count : 1;
	int r = 0;

	for (size_t i = 0; r == 0 && i < count; i++) {
		uint32_t issuer = reader->issuer_count ? reader->issuers[i] : 0;

		entry->issuer[0] = (unsigned char)(issuer >> 16);
		entry->issuer[1] = (unsigned char)(issuer >> 8);
		entry->issuer[2] = (unsigned char)issuer;
		crl_entry_seal(entry);
		r = crl_writer_add(reader->writer, entry, err);
	}
	return r;
}

/* The entry in CONTENT. */
static int read_entry(struct reader *reader, struct slice content, struct error *err)
{
	struct slice extensions, extension;
	struct crl_entry entry;
	int r = 0;

	if (!d2i_ASN1_INTEGER(&reader->serial, &content.at, content.end - content.at) ||
	    !crl_entry_set_serial(&entry, reader->serial))
		return -EBADMSG;
	entry.reason = CRL_NO_REASON;
	if (!read_time(&content, &entry))
		return -EBADMSG;
	if (content.at < content.end) {
		if (!is_element(&content, SEQUENCE, &extensions) || content.at != content.end)
			return -EBADMSG;
		while (r == 0 && extensions.at < extensions.end)
			r = is_element(&extensions, SEQUENCE, &extension)
			            ? read_extension(reader, extension, &entry, err)
			            : -EBADMSG;
	}
	return r == 0 ? add_entry(reader, &entry, err) : r;
}

/* --- the list --- */

/* The header that comes next, within what ends at END. */
static int read_head(struct reader *reader, uint64_t end, struct head *head, struct error *err)
{
	const unsigned char *at = crl_input_look(reader->input, 2, err);
	size_t count;

	if (!at)
		return err && err->code ? err->code : -EBADMSG;
	*head = (struct head){ .tag = at[0], .size = 2, .length = at[1] };
	if (at[1] & 0x80) {
		count = at[1] & 0x7f;
		if (count < 1 || count > 4)
			return bad(err, "is no DER of a CRL");
		head->size += count;
		head->length = 0;
		at = crl_input_look(reader->input, head->size, err);
		if (!at)
			return -EBADMSG;
		for (size_t i = 0; i < count; i++)
			head->length = head->length << 8 | at[2 + i];
	}
	if ((head->tag & V_ASN1_PRIMITIVE_TAG) == V_ASN1_PRIMITIVE_TAG ||
	    crl_input_at(reader->input) + head->size + head->length > end)
		return bad(err, "is no DER of a CRL");
	return 0;
}

/* Copies the element of HEAD behind *SIZE bytes of TO. */
static int keep_element(struct reader *reader, const struct head *head, unsigned char *to,
                        size_t *size, struct error *err)
{
	size_t whole = head->size + head->length;
	const unsigned char *at;

	if (whole > STUB_SIZE_MAX - *size)
		return bad(err, "has too much beside its entries");
	at = crl_input_look(reader->input, whole, err);
	if (!at)
		return -EBADMSG;
	memcpy(to + *size, at, whole);
	*size += whole;
	crl_input_skip(reader->input, whole);
	return 0;
}

static int read_entries(struct reader *reader, const struct head *list, struct error *err)
{
	uint64_t end;
	int r = 0;

	crl_input_skip(reader->input, list->size);
	end = crl_input_at(reader->input) + list->length;
	while (r == 0 && crl_input_at(reader->input) < end) {
		const unsigned char *at = NULL;
		struct head head;

		reader->entries++;
		r = read_head(reader, end, &head, err);
		if (r == 0)
			at = crl_input_look(reader->input, head.size + head.length, err);
		if (!at)
			return -EBADMSG;
		at += head.size;
		r = head.tag == SEQUENCE
		            ? read_entry(reader, (struct slice){ at, at + head.length }, err)
		            : -EBADMSG;
		crl_input_skip(reader->input, head.size + head.length);
	}
	if (r == -EBADMSG && !err->code) {
		ERR_clear_error();
		error_set(err, -EBADMSG, "entry %llu of the CRL cannot be taken",
		          (unsigned long long)reader->entries);
	}
	return r;
}

/* The algorithm, which stands last in INNER, says how all of TBSCertList is digested. */
static int begin_digest(struct reader *reader, struct error *err)
{
	const unsigned char *at = reader->inner + reader->algorithm;
	X509_ALGOR *algorithm = d2i_X509_ALGOR(NULL, &at, (long)reader->algorithm_size);
	struct crl_scheme scheme;
	bool known = algorithm && crl_scheme_read(algorithm, &scheme);

	X509_ALGOR_free(algorithm);
	if (!known)
		return bad(err, "is signed in a way that is not known");
	reader->digests = scheme.digest != NULL;
	/* what signs the whole is checked at the end: any digest will do */
	return crl_input_set_digest(reader->input, scheme.digest ? scheme.digest : EVP_sha256(),
	                            err);
}

/* TBSCertList: the first SEQUENCE is the algorithm, that behind a time the entries. */
static int read_tbs(struct reader *reader, uint64_t list_end, struct error *err)
{
	bool times = false, entries = false;
	struct head head;
	int r;

	crl_input_mark(reader->input);
	reader->tbs = crl_input_at(reader->input);
	r = read_head(reader, list_end, &head, err);
	if (r == 0 && head.tag != SEQUENCE)
		r = bad(err, "is no DER of a CRL");
	if (r < 0)
		return r;
	crl_input_skip(reader->input, head.size);
	reader->tbs_end = crl_input_at(reader->input) + head.length;
	while (r == 0 && crl_input_at(reader->input) < reader->tbs_end) {
		r = read_head(reader, reader->tbs_end, &head, err);
		times |= head.tag == V_ASN1_UTCTIME || head.tag == V_ASN1_GENERALIZEDTIME;
		if (r == 0 && head.tag == SEQUENCE && times && !entries) {
			entries = true;
			r = read_entries(reader, &head, err);
			continue;
		}
		if (r == 0 && head.tag == SEQUENCE && !reader->algorithm_size) {
			reader->algorithm = reader->inner_size;
			reader->algorithm_size = head.size + head.length;
		}
		if (r == 0)
			r = keep_element(reader, &head, reader->inner, &reader->inner_size, err);
		if (r == 0 && reader->inner_size == reader->algorithm + reader->algorithm_size)
			r = begin_digest(reader, err);
	}
	if (r == 0 && !reader->algorithm_size)
		r = bad(err, "is no DER of a CRL");
	return r;
}

/* signatureAlgorithm, which must be the one in front, and signatureValue. */
static int read_rest(struct reader *reader, uint64_t list_end, struct error *err)
{
	struct head head;
	int r = 0;

	for (int i = 0; r == 0 && i < 2; i++) {
		r = read_head(reader, list_end, &head, err);
		if (r == 0)
			r = keep_element(reader, &head, reader->rest, &reader->rest_size, err);
		if (r == 0 && i == 0 &&
		    (reader->rest_size != reader->algorithm_size ||
		     memcmp(reader->rest, reader->inner + reader->algorithm,
		            reader->algorithm_size) != 0))
			r = bad(err, "names two algorithms for its signature");
	}
	if (r == 0 && crl_input_at(reader->input) != list_end)
		r = bad(err, "is no DER of a CRL");
	return r;
}

static int make_stub(const struct reader *reader, struct crl *crl, struct error *err)
{
	int inner = (int)reader->inner_size;
	int list = ASN1_object_size(1, inner, V_ASN1_SEQUENCE) + (int)reader->rest_size;
	int size = ASN1_object_size(1, list, V_ASN1_SEQUENCE);
	unsigned char *to;

	if (size > STUB_SIZE_MAX)
		return bad(err, "has too much beside its entries");
	crl->stub = to = malloc((size_t)size);
	if (!to)
		return error_set(err, -ENOMEM, "no memory for a CRL");
	crl->stub_length = (size_t)size;
	ASN1_put_object(&to, 1, list, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL);
	ASN1_put_object(&to, 1, inner, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL);
	memcpy(to, reader->inner, reader->inner_size);
	memcpy(to + reader->inner_size, reader->rest, reader->rest_size);
	return 0;
}

static int read_list(struct reader *reader, struct crl *crl, struct error *err)
{
	struct head head;
	uint64_t end;
	int r = read_head(reader, CRL_SIZE_MAX, &head, err);

	if (r == 0 && head.tag != SEQUENCE)
		r = bad(err, "is no DER of a CRL");
	if (r < 0)
		return r;
	crl_input_skip(reader->input, head.size);
	end = crl_input_at(reader->input) + head.length;
	r = read_tbs(reader, end, err);
	if (r == 0 && crl_input_digest(reader->input, crl->digest, &crl->digest_length) < 0)
		r = error_openssl(err, -ENOMEM, "the CRL cannot be digested");
	if (r == 0)
		r = read_rest(reader, end, err);
	if (r == 0)
		r = make_stub(reader, crl, err);
	crl->size = end;
	return r;
}

/* --- signatures without a digest --- */

static bool is_signed(X509_CRL *stub, const unsigned char *tbs, size_t length, EVP_PKEY *key)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	const ASN1_BIT_STRING *signature;
	bool good;

	X509_CRL_get0_signature(stub, &signature, NULL);
	good = context && EVP_DigestVerifyInit(context, NULL, NULL, NULL, key) == 1 &&
	       EVP_DigestVerify(context, ASN1_STRING_get0_data(signature),
	                        (size_t)ASN1_STRING_length(signature), tbs, length) == 1;
	EVP_MD_CTX_free(context);
	ERR_clear_error();
	return good;
}

/* The one of SIGNERS who signed STUB's whole body becomes its digest. */
static bool find_signer(X509_CRL *stub, const unsigned char *tbs, size_t length,
                        STACK_OF(X509) * signers, struct crl *crl)
{
	const X509_ALGOR *algorithm;
	struct crl_scheme scheme;

	X509_CRL_get0_signature(stub, NULL, &algorithm);
	if (!crl_scheme_read(algorithm, &scheme))
		return false;
	for (int i = 0; i < sk_X509_num(signers); i++) {
		X509 *signer = sk_X509_value(signers, i);
		EVP_PKEY *key = X509_get0_pubkey(signer);

		if (X509_NAME_cmp(X509_get_subject_name(signer), X509_CRL_get_issuer(stub)) == 0 &&
		    key && EVP_PKEY_get_base_id(key) == scheme.key &&
		    is_signed(stub, tbs, length, key) && crl_signer(key, crl->digest) == 0) {
			crl->digest_length = STUB_SIGNER_MAX;
			return true;
		}
	}
	return false;
}

static int check_whole(const struct reader *reader, int body, STACK_OF(X509) * signers,
                       STACK_OF(X509) * certificates, struct crl *crl, struct error *err)
{
	size_t length = (size_t)(reader->tbs_end - reader->tbs);
	X509_CRL *stub = crl_stub(crl, err);
	unsigned char *map;

	crl->digest_length = 0;
	if (!stub)
		return -EBADMSG;
	map = mmap(NULL, (size_t)reader->tbs_end, PROT_READ, MAP_PRIVATE, body, 0);
	if (map == MAP_FAILED) {
		X509_CRL_free(stub);
		return error_set(err, -errno, "cannot read the CRL: %s", strerror(errno));
	}
	if (!find_signer(stub, map + reader->tbs, length, signers, crl))
		find_signer(stub, map + reader->tbs, length, certificates, crl);
	munmap(map, (size_t)reader->tbs_end);
	X509_CRL_free(stub);
	return 0;
}

/* --- all of it --- */

static int begin(struct reader *reader, const struct crl_paths *paths,
                 STACK_OF(X509) * certificates, struct error *err)
{
	reader->writer = crl_writer_new(paths->index, paths->scratch);
	reader->serial = ASN1_INTEGER_new();
	reader->inner = malloc(STUB_SIZE_MAX);
	reader->rest = malloc(STUB_SIZE_MAX);
	if (!reader->writer || !reader->serial || !reader->inner || !reader->rest)
		return error_set(err, -ENOMEM, "no memory for a CRL");
	return crl_input_begin(paths->text, paths->body, paths->number, certificates,
	                       &reader->input, err);
}

int crl_read(const struct crl_paths *paths, STACK_OF(X509) * signers, STACK_OF(X509) * certificates,
             struct crl *crl, struct error *err)
{
	struct reader reader = { 0 };
	struct error own = { 0 };
	int r;

	*crl = (struct crl){ 0 };
	r = begin(&reader, paths, certificates, &own);
	if (r == 0)
		r = read_list(&reader, crl, &own);
	if (r == 0)
		r = crl_input_end(reader.input, certificates, &crl->crls, &own);
	if (r == 0)
		r = crl_writer_finish(reader.writer, &crl->entries, &own);
	if (r == 0 && !reader.digests)
		r = check_whole(&reader, paths->body, signers, certificates, crl, &own);
	/* the store keeps them when it is told of them: its row must not outlive the bytes */
	if (r == 0 && (fsync(paths->body) < 0 || fsync(paths->index) < 0))
		r = error_set(&own, -errno, "cannot write the CRL: %s", strerror(errno));
	ERR_clear_error();
	crl_input_free(reader.input);
	crl_writer_free(reader.writer);
	ASN1_INTEGER_free(reader.serial);
	free(reader.inner);
	free(reader.rest);
	if (r < 0 && err)
		*err = own;
	return r;
}

void crl_clear(struct crl *crl)
{
	free(crl->stub);
	*crl = (struct crl){ 0 };
}

X509_CRL *crl_stub(const struct crl *crl, struct error *err)
{
	const struct stub stub = { crl->stub, crl->stub_length, crl->digest, crl->digest_length };

	return stub_crl_new(&stub, NULL, err);
}
