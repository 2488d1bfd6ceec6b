#include "pkifs/content.h"

#include "common/x509.h"
#include "pkifs/rollover.h"

#include <errno.h>
#include <openssl/pem.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char readme[] =
	"This is pkifs: CA profiles and certificates as files.\n"
	"\n"
	"  ca/<profile>/         a certification authority: config, its certificate, its CRL\n"
	"                        `verify`: write a certificate, read whether it is believed\n"
	"  local/<cert-id>/      a key and its certificate: config, request, cert.pem, key.pem\n"
	"  ipsec/<tunnel>/       an IPsec tunnel: config, request, status\n"
	"  acme-challenge/       what a web server may serve while an ACME CA looks for it\n"
	"  status, events        how everything is, and what happened; `watch` waits for more\n"
	"  metrics               the same as OpenMetrics text, for a collector\n"
	"\n"
	"Writing a `request` file starts work; reading `wait` waits for its end; `status` tells.\n"
	"\n"
	"  mkdir ca/corp\n"
	"  printf 'enrollment-url = http://ca.example.net/scep\\n' > ca/corp/config\n"
	"  echo enroll > ca/corp/request; cat ca/corp/wait ca/corp/fingerprint\n"
	"  echo yes > ca/corp/confirm\n"
	"  mkdir local/www\n"
	"  printf 'ca-profile = corp\\ndomain-name = www.example.net\\n' > local/www/config\n"
	"  printf 'action = enroll\\nchallenge-password = …\\n' > local/www/request\n"
	"  cat local/www/wait; openssl x509 -in local/www/cert.pem -noout -subject\n"
	"\n"
	"The same with questions, tables and help: pkictl --help\n";

int content_add(struct content *content, const char *text, size_t length)
{
	char *new = realloc(content->text, content->length + length + 1);

	if (!new)
		return -ENOMEM;
	if (length)
		memcpy(new + content->length, text, length);
	content->text = new;
	content->length += length;
	new[content->length] = 0;
	return 0;
}

int content_addf(struct content *content, const char *format, ...)
{
	char *text = NULL;
	va_list args;
	int length, r;

	va_start(args, format);
	length = vasprintf(&text, format, args);
	va_end(args);
	if (length < 0)
		return -ENOMEM;
	r = content_add(content, text, (size_t)length);
	free(text);
	return r;
}

int make_readme(struct store *store, const struct node *node, struct content *content)
{
	(void)store;
	(void)node;
	return content_add(content, readme, sizeof readme - 1);
}

int make_empty(struct store *store, const struct node *node, struct content *content)
{
	(void)store;
	(void)node;
	return content_add(content, "", 0);
}

int make_config(struct store *store, const struct node *node, struct content *content)
{
	struct blob text = { 0 };
	int64_t object;
	int r;

	r = db_config_get(store->db, node->number, &object, &content->time, &text);
	if (r == 0)
		r = key_redact(config_table(node->object.kind), text.data, text.length,
		               &content->text, &content->length);
	blob_clear(&text);
	return r;
}

int make_request(struct store *store, const struct node *node, struct content *content)
{
	struct request request;
	int r;

	r = db_request_get(store->db, node->object.id, &request);
	if (r == -ENOENT)
		return content_add(content, "", 0);
	if (r < 0)
		return r;
	content->time = request.created;
	r = key_redact(request_table(node->object.kind), request.text.data, request.text.length,
	               &content->text, &content->length);
	request_clear(&request);
	return r;
}

/* Takes the text of BLOB; -ENOENT where it is empty. */
static int add_blob(struct content *content, const struct blob *blob)
{
	return blob->length ? content_add(content, blob->data, blob->length) : -ENOENT;
}

/* The edition that a node stands for; the caller clears it. */
static int edition_of(struct store *store, const struct node *node, struct content *content,
                      struct edition *edition)
{
	int r = db_edition_get(store->db, node->number, edition);

	content->time = edition->created;
	return r;
}

/* The text of an edition at offset WHICH of its row. */
static int make_text(struct store *store, const struct node *node, struct content *content,
                     size_t which)
{
	struct edition edition;
	int r = edition_of(store, node, content, &edition);

	if (r == 0)
		r = add_blob(content, (const struct blob *)(void *)((char *)&edition + which));
	edition_clear(&edition);
	return r;
}

int make_ca_cert(struct store *store, const struct node *node, struct content *content)
{
	return make_text(store, node, content, offsetof(struct edition, certificate));
}

int make_ca_chain(struct store *store, const struct node *node, struct content *content)
{
	struct edition edition;
	int r = edition_of(store, node, content, &edition);

	if (r == 0)
		r = add_blob(content, &edition.certificate);
	if (r == 0)
		r = content_add(content, edition.chain.data, edition.chain.length);
	edition_clear(&edition);
	return r;
}

int make_pending(struct store *store, const struct node *node, struct content *content)
{
	return make_text(store, node, content, offsetof(struct edition, pending));
}

/* One line per digest over LENGTH bytes of DER. */
static int add_fingerprints(struct content *content, const unsigned char *der, size_t length)
{
	const EVP_MD *const digests[] = { EVP_sha256(), EVP_sha1(), EVP_md5() };
	static const char *const names[] = { "SHA-256", "SHA-1", "MD5" };
	char text[FINGERPRINT_MAX];
	int r = 0;

	for (size_t i = 0; r == 0 && i < COUNT(digests); i++) {
		r = fingerprint(digests[i], der, length, text);
		if (r == 0)
			r = content_addf(content, "%s = %s\n", names[i], text);
	}
	return r;
}

static int add_certificate_fingerprints(struct content *content, const X509 *certificate,
                                        bool named)
{
	unsigned char *der = NULL;
	char *subject = NULL;
	size_t length;
	int r;

	r = certificate_to_der(certificate, &der, &length);
	if (r == 0 && named) {
		subject = dn_text(X509_get_subject_name(certificate));
		r = subject ? content_addf(content, "# %s\n", subject) : -ENOMEM;
	}
	if (r == 0)
		r = add_fingerprints(content, der, length);
	OPENSSL_free(der);
	free(subject);
	return r;
}

int fingerprints_text(const struct blob *pem, struct content *content)
{
	STACK_OF(X509) *certificates = NULL;
	int r = certificates_read(pem->data, pem->length, 100, &certificates, NULL);

	for (int i = 0; r == 0 && i < sk_X509_num(certificates); i++)
		r = add_certificate_fingerprints(content, sk_X509_value(certificates, i),
		                                 sk_X509_num(certificates) > 1);
	sk_X509_pop_free(certificates, X509_free);
	return r;
}

int make_next(struct store *store, const struct node *node, struct content *content)
{
	struct edition edition;
	int r = edition_of(store, node, content, &edition);

	if (r == 0)
		r = rollover_is_refused(&edition) ? -ENOENT : add_blob(content, &edition.next);
	edition_clear(&edition);
	return r;
}

/* Of the CA certificate in force and its RA certificates. */
static int add_trusted_fingerprints(const struct edition *edition, struct content *content)
{
	struct blob all = { 0 };
	int length = asprintf(&all.data, "%s%s", edition->certificate.data,
	                      edition->ra.length ? edition->ra.data : "");
	int r;

	if (length < 0)
		return -ENOMEM;
	all.length = (size_t)length;
	r = fingerprints_text(&all, content);
	free(all.data);
	return r;
}

int make_fingerprint(struct store *store, const struct node *node, struct content *content)
{
	struct edition edition;
	int r = edition_of(store, node, content, &edition);

	if (r < 0)
		return r;
	if (edition.pending.length)
		r = fingerprints_text(&edition.pending, content);
	else if (rollover_waits(&edition))
		r = fingerprints_text(&edition.next, content);
	else if (edition.certificate.length)
		r = add_trusted_fingerprints(&edition, content);
	else
		r = -ENOENT;
	edition_clear(&edition);
	return r;
}

static int make_crl(struct store *store, const struct node *node, struct content *content, bool pem)
{
	struct edition edition;
	struct crl crl = { 0 };
	int r = db_edition_get(store->db, node->number, &edition);

	if (r == 0) {
		r = edition.crl ? db_crl_get(store->db, edition.crl, &crl) : -ENOENT;
		edition_clear(&edition);
	}
	content->crl = crl.file;
	content->crl_size = crl.size;
	content->crl_pem = pem;
	content->time = crl.created;
	return r;
}

int make_crl_pem(struct store *store, const struct node *node, struct content *content)
{
	return make_crl(store, node, content, true);
}

int make_crl_der(struct store *store, const struct node *node, struct content *content)
{
	return make_crl(store, node, content, false);
}

/* Key and certificate that a node stands for: those of its edition, or of an old version. */
struct pair {
	struct edition edition;
	struct version version;
	int64_t key;
};

static int pair_get(struct store *store, const struct node *node, struct pair *pair)
{
	int64_t version = node->number;
	int r = 0;

	*pair = (struct pair){ 0 };
	if (file_rows[node->file].number == NUMBER_EDITION) {
		r = db_edition_get(store->db, node->number, &pair->edition);
		version = pair->edition.version;
		pair->key = pair->edition.key_pair;
	}
	if (r == 0 && version)
		r = db_version_get(store->db, version, &pair->version);
	if (file_rows[node->file].number == NUMBER_VERSION)
		pair->key = pair->version.key_pair;
	return r;
}

static void pair_clear(struct pair *pair)
{
	edition_clear(&pair->edition);
	version_clear(&pair->version);
}

enum part { PART_KEY = 1, PART_CERT = 2, PART_CHAIN = 4 };

/* The parts of the pair, in this order; -ENOENT where the first of them is not there. */
static int make_parts(struct store *store, const struct node *node, struct content *content,
                      unsigned parts)
{
	struct key_pair key = { 0 };
	struct pair pair;
	int r = pair_get(store, node, &pair);

	content->time = pair.version.created ? pair.version.created : pair.edition.created;
	if (r == 0 && (parts & ~(unsigned)PART_KEY) && !pair.version.id)
		r = -ENOENT;
	if (r == 0 && (parts & PART_KEY)) {
		r = pair.key ? db_key_get(store->db, pair.key, &key) : -ENOENT;
		content->key = key.id;
		content->key_size = (size_t)key.pem_size;
		key_pair_clear(&key);
	}
	if (r == 0 && (parts & PART_CERT))
		r = add_blob(content, &pair.version.certificate);
	if (r == 0 && (parts & PART_CHAIN))
		r = content_add(content, pair.version.chain.data, pair.version.chain.length);
	pair_clear(&pair);
	return r;
}

int make_key(struct store *store, const struct node *node, struct content *content)
{
	return make_parts(store, node, content, PART_KEY);
}

int make_cert(struct store *store, const struct node *node, struct content *content)
{
	return make_parts(store, node, content, PART_CERT);
}

int make_chain(struct store *store, const struct node *node, struct content *content)
{
	return make_parts(store, node, content, PART_CHAIN);
}

int make_fullchain(struct store *store, const struct node *node, struct content *content)
{
	return make_parts(store, node, content, PART_CERT | PART_CHAIN);
}

int make_bundle(struct store *store, const struct node *node, struct content *content)
{
	return make_parts(store, node, content, PART_KEY | PART_CERT | PART_CHAIN);
}

int make_public(struct store *store, const struct node *node, struct content *content)
{
	struct key_pair key = { 0 };
	EVP_PKEY *public = NULL;
	struct pair pair;
	BIO *bio = NULL;
	char *text;
	long length;
	int r = pair_get(store, node, &pair);

	if (r == 0)
		r = pair.key ? db_key_get(store->db, pair.key, &key) : -ENOENT;
	pair_clear(&pair);
	if (r < 0)
		return r;
	content->time = key.created;
	public = public_key_from_der(key.public.data, key.public.length);
	bio = BIO_new(BIO_s_mem());
	if (!public || !bio || !PEM_write_bio_PUBKEY(bio, public)) {
		r = -ENOMEM;
	} else {
		length = BIO_get_mem_data(bio, &text);
		r = content_add(content, text, (size_t)length);
	}
	BIO_free(bio);
	EVP_PKEY_free(public);
	key_pair_clear(&key);
	return r;
}

int make_csr(struct store *store, const struct node *node, struct content *content)
{
	return make_text(store, node, content, offsetof(struct edition, csr));
}

int make_ocsp(struct store *store, const struct node *node, struct content *content)
{
	return make_text(store, node, content, offsetof(struct edition, ocsp));
}

/* HAProxy fills an empty one by its socket, where it would not one that is missing. */
int make_bundle_ocsp(struct store *store, const struct node *node, struct content *content)
{
	struct edition edition;
	int r = edition_of(store, node, content, &edition);

	if (r == 0)
		r = edition.version ? content_add(content, edition.ocsp.data, edition.ocsp.length)
		                    : -ENOENT;
	edition_clear(&edition);
	return r;
}

int make_csr_fingerprint(struct store *store, const struct node *node, struct content *content)
{
	unsigned char *der = NULL;
	char *name = NULL, *header = NULL;
	BIO *bio = NULL;
	long length = 0;
	int r = make_csr(store, node, content);

	if (r < 0)
		return r;
	bio = BIO_new_mem_buf(content->text, (int)content->length);
	if (!bio || !PEM_read_bio(bio, &name, &header, &der, &length))
		r = -EIO;
	free(content->text);
	content->text = NULL;
	content->length = 0;
	if (r == 0)
		r = add_fingerprints(content, der, (size_t)length);
	BIO_free(bio);
	OPENSSL_free(name);
	OPENSSL_free(header);
	OPENSSL_free(der);
	return r;
}

static const char crl_begin[] = "-----BEGIN X509 CRL-----\n",
		  crl_end[] = "-----END X509 CRL-----\n";
#define PEM_LINE     65 /* 64 characters for 48 bytes, and the newline */
#define PEM_LINE_DER 48

size_t pem_crl_size(int64_t der_size)
{
	size_t size = (size_t)der_size, rest = size % PEM_LINE_DER;

	return sizeof crl_begin - 1 + size / PEM_LINE_DER * PEM_LINE +
	       (rest ? (rest + 2) / 3 * 4 + 1 : 0) + sizeof crl_end - 1;
}

/* Line NUMBER of the base64 text, with its newline, into LINE; its length or a negative errno. */
static int pem_crl_line(int fd, int64_t der_size, size_t number, char line[PEM_LINE + 1])
{
	int64_t at = (int64_t)number * PEM_LINE_DER;
	unsigned char der[PEM_LINE_DER];
	int length = (int)(der_size - at < PEM_LINE_DER ? der_size - at : PEM_LINE_DER);

	if (pread(fd, der, (size_t)length, at) != length)
		return -EIO;
	length = EVP_EncodeBlock((unsigned char *)line, der, length);
	line[length] = '\n';
	return length + 1;
}

int pem_crl_read(int fd, int64_t der_size, size_t offset, char *bytes, size_t length)
{
	size_t head = sizeof crl_begin - 1, tail = pem_crl_size(der_size) - (sizeof crl_end - 1);
	char line[PEM_LINE + 1];
	size_t done = 0;

	while (done < length) {
		const char *from = line;
		size_t skip, part;
		int size;

		if (offset < head) {
			from = crl_begin;
			skip = offset;
			size = (int)head;
		} else if (offset < tail) {
			skip = (offset - head) % PEM_LINE;
			size = pem_crl_line(fd, der_size, (offset - head) / PEM_LINE, line);
		} else {
			from = crl_end;
			skip = offset - tail;
			size = sizeof crl_end - 1;
		}
		if (size < 0)
			return size;
		if (skip >= (size_t)size)
			break;
		part = (size_t)size - skip < length - done ? (size_t)size - skip : length - done;
		memcpy(bytes + done, from + skip, part);
		done += part;
		offset += part;
	}
	return (int)done;
}
