#include "enroll/crl_input.h"

#include "common/x509.h"
#include "enroll/crl.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE               1024 /* bytes of a text that are looked at together; longer lines come in parts */
#define CERTIFICATES_LIMIT 100

#define BEGIN "-----BEGIN "
#define END   "-----END "

struct crl_input {
	int fd, body;
	off_t from, to;               /* in these files */
	unsigned char raw[CRL_PIECE]; /* of the text */
	size_t raw_at, raw_end;
	unsigned char der[2 * CRL_PIECE];
	size_t at, end;     /* of what can be looked at */
	uint64_t gone_over; /* in front of it */
	bool pem, inside;   /* INSIDE: the CRL's block has not ended */
	EVP_ENCODE_CTX *base64;
	size_t crls; /* that began */
	bool marked;
	EVP_MD_CTX *digest; /* NULL: not known yet */
	size_t digested;    /* in DER, from where it is not */
};

static int bad(struct error *err, const char *what)
{
	ERR_clear_error();
	return error_set(err, -EBADMSG, "the CRL %s", what);
}

/* More of the file behind what is left of RAW: 1, 0 at its end, or a negative errno. */
static int fill_raw(struct crl_input *input, struct error *err)
{
	ssize_t got;

	memmove(input->raw, input->raw + input->raw_at, input->raw_end - input->raw_at);
	input->raw_end -= input->raw_at;
	input->raw_at = 0;
	do {
		got = pread(input->fd, input->raw + input->raw_end,
		            sizeof input->raw - input->raw_end, input->from);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return error_set(err, -errno, "cannot read the CRL: %s", strerror(errno));
	input->raw_end += (size_t)got;
	input->from += got;
	return got > 0;
}

/* The next line, or LINE - 1 bytes of it, without its end: 1, 0 at the end of the text, or a
 * negative errno. */
static int read_line(struct crl_input *input, char line[LINE], struct error *err)
{
	unsigned char *end;
	size_t length;
	int r = 1;

	if (input->raw_end - input->raw_at < LINE)
		r = fill_raw(input, err);
	if (r < 0)
		return r;
	length = input->raw_end - input->raw_at;
	if (length == 0)
		return 0;
	if (length > LINE - 1)
		length = LINE - 1;
	end = memchr(input->raw + input->raw_at, '\n', length);
	if (end)
		length = (size_t)(end - input->raw) - input->raw_at;
	memcpy(line, input->raw + input->raw_at, length);
	line[length] = '\0';
	input->raw_at += length + (end != NULL);
	return 1;
}

static bool begins(const char *line, const char *with)
{
	return strncmp(line, with, strlen(with)) == 0;
}

static bool begins_crl(const char *line)
{
	return begins(line, BEGIN PEM_STRING_X509_CRL "-----") || begins(line, BEGIN "CRL-----");
}

static bool begins_certificate(const char *line)
{
	return begins(line, BEGIN PEM_STRING_X509 "-----") ||
	       begins(line, BEGIN PEM_STRING_X509_TRUSTED "-----");
}

/* Base64 of LINE behind *LENGTH bytes of TO. */
static int decode_line(struct crl_input *input, const char *line, unsigned char *to, size_t *length,
                       struct error *err)
{
	int got = 0;

	if (EVP_DecodeUpdate(input->base64, to + *length, &got, (const unsigned char *)line,
	                     (int)strlen(line)) < 0)
		return bad(err, "is no PEM: its base64 is broken");
	*length += (size_t)got;
	return 0;
}

static int decode_end(struct crl_input *input, unsigned char *to, size_t *length, struct error *err)
{
	int got = 0;

	if (EVP_DecodeFinal(input->base64, to + *length, &got) < 0)
		return bad(err, "is no PEM: its base64 is broken");
	*length += (size_t)got;
	return 0;
}

static int read_certificate(struct crl_input *input, STACK_OF(X509) * certificates,
                            struct error *err)
{
	unsigned char *der = malloc(CRL_PIECE);
	X509 *certificate = NULL;
	char line[LINE];
	size_t length = 0;
	int r = der ? 1 : error_set(err, -ENOMEM, "no memory for a CRL");

	EVP_DecodeInit(input->base64);
	while (r == 1) {
		r = read_line(input, line, err);
		if (r == 1 && begins(line, END))
			break;
		if (r == 0)
			r = bad(err, "stands beside a certificate that does not end");
		else if (r == 1 && length > CRL_PIECE - LINE)
			r = bad(err, "stands beside a certificate that is too long");
		else if (r == 1 && decode_line(input, line, der, &length, err) < 0)
			r = -EBADMSG;
	}
	if (r == 1)
		r = decode_end(input, der, &length, err);
	if (r == 0 && certificates && sk_X509_num(certificates) < CERTIFICATES_LIMIT) {
		certificate = certificate_from_der(der, length, err);
		if (!certificate || !sk_X509_push(certificates, certificate)) {
			X509_free(certificate);
			r = -EBADMSG;
		}
	}
	free(der);
	return r;
}

/* Goes to the next CRL of the text: 1, 0 where there is none, or a negative errno. */
static int next_block(struct crl_input *input, STACK_OF(X509) * certificates, struct error *err)
{
	char line[LINE];
	int r;

	while ((r = read_line(input, line, err)) == 1) {
		if (begins_crl(line)) {
			input->crls++;
			return 1;
		}
		if (begins_certificate(line))
			r = read_certificate(input, certificates, err);
		else if (begins(line, BEGIN) && strstr(line, "PRIVATE KEY"))
			r = bad(err, "stands beside a private key");
		if (r < 0)
			return r;
	}
	return r;
}

static int write_body(struct crl_input *input, const unsigned char *bytes, size_t length,
                      struct error *err)
{
	if (input->to + (off_t)length > CRL_SIZE_MAX)
		return error_set(err, -EFBIG, "the CRL has more than %u bytes", CRL_SIZE_MAX);
	if (input->fd == input->body && !input->pem) { /* it is there */
		input->to += (off_t)length;
		return 0;
	}
	while (length) {
		ssize_t n = pwrite(input->body, bytes, length, input->to);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return error_set(err, n < 0 ? -errno : -EIO, "cannot write the CRL: %s",
			                 strerror(n < 0 ? errno : EIO));
		bytes += n;
		input->to += n;
		length -= (size_t)n;
	}
	return 0;
}

/* DER of the next lines behind what there is. The block ends with its own line. */
static int fill_pem(struct crl_input *input, struct error *err)
{
	char line[LINE];
	size_t end = input->end;
	int r = 0;

	while (r == 0 && input->inside && sizeof input->der - end > CRL_PIECE / 2) {
		r = read_line(input, line, err);
		if (r == 0)
			return bad(err, "is cut off: its PEM does not end");
		if (r < 0)
			return r;
		input->inside = !begins(line, END);
		r = input->inside ? decode_line(input, line, input->der, &end, err)
		                  : decode_end(input, input->der, &end, err);
	}
	if (r == 0)
		r = write_body(input, input->der + input->end, end - input->end, err);
	input->end = end;
	return r;
}

static int fill_der(struct crl_input *input, struct error *err)
{
	size_t length;
	int r = 1;

	if (input->raw_at == input->raw_end)
		r = fill_raw(input, err);
	if (r < 0)
		return r;
	length = input->raw_end - input->raw_at;
	input->inside = length > 0;
	if (length > sizeof input->der - input->end)
		length = sizeof input->der - input->end;
	memcpy(input->der + input->end, input->raw + input->raw_at, length);
	r = write_body(input, input->der + input->end, length, err);
	input->raw_at += length;
	input->end += length;
	return r;
}

/* What was gone over is digested, and leaves the buffer. */
static int make_room(struct crl_input *input, struct error *err)
{
	if (input->marked && input->digest &&
	    !EVP_DigestUpdate(input->digest, input->der + input->digested,
	                      input->at - input->digested))
		return error_openssl(err, -ENOMEM, "the CRL cannot be digested");
	if (input->marked && !input->digest)
		return bad(err, "begins in a way that no CRL does");
	memmove(input->der, input->der + input->at, input->end - input->at);
	input->gone_over += input->at;
	input->end -= input->at;
	input->at = input->digested = 0;
	return 0;
}

/* LENGTH bytes can be looked at, or all that is left. */
static int fill(struct crl_input *input, size_t length, struct error *err)
{
	int r = 0;

	while (r == 0 && input->inside && input->end - input->at < length) {
		if (input->end == sizeof input->der ||
		    (input->pem && sizeof input->der - input->end <= CRL_PIECE / 2))
			r = make_room(input, err);
		if (r == 0)
			r = input->pem ? fill_pem(input, err) : fill_der(input, err);
	}
	return r;
}

const unsigned char *crl_input_look(struct crl_input *input, size_t length, struct error *err)
{
	if (length > CRL_PIECE) {
		bad(err, "has an element that is too long");
		return NULL;
	}
	if (fill(input, length, err) < 0)
		return NULL;
	if (input->end - input->at < length) {
		bad(err, "is no DER of a CRL: it is cut off");
		return NULL;
	}
	return input->der + input->at;
}

void crl_input_skip(struct crl_input *input, size_t length)
{
	input->at += length;
}

uint64_t crl_input_at(const struct crl_input *input)
{
	return input->gone_over + input->at;
}

void crl_input_mark(struct crl_input *input)
{
	input->marked = true;
	input->digested = input->at;
}

int crl_input_set_digest(struct crl_input *input, const EVP_MD *digest, struct error *err)
{
	input->digest = EVP_MD_CTX_new();
	if (input->digest && EVP_DigestInit_ex(input->digest, digest, NULL))
		return 0;
	return error_openssl(err, -ENOMEM, "the CRL cannot be digested");
}

int crl_input_digest(struct crl_input *input, unsigned char *digest, size_t *length)
{
	unsigned int size = 0;

	if (!EVP_DigestUpdate(input->digest, input->der + input->digested,
	                      input->at - input->digested) ||
	    !EVP_DigestFinal_ex(input->digest, digest, &size))
		return -ENOMEM;
	input->marked = false;
	*length = size;
	return 0;
}

/* The first byte tells DER from a text. */
static int begin(struct crl_input *input, size_t skip, STACK_OF(X509) * certificates,
                 struct error *err)
{
	int r = fill_raw(input, err);

	if (r == 0)
		return bad(err, "is empty");
	if (r < 0)
		return r;
	input->pem = *input->raw != (V_ASN1_SEQUENCE | V_ASN1_CONSTRUCTED);
	if (!input->pem) {
		input->crls = 1;
		input->inside = true;
		return skip ? bad(err, "is the only one in its file") : 0;
	}
	for (size_t i = 0; i <= skip; i++) {
		r = next_block(input, certificates, err);
		if (r <= 0)
			return r < 0 ? r : bad(err, "is neither DER nor PEM with a block X509 CRL");
	}
	EVP_DecodeInit(input->base64);
	input->inside = true;
	return 0;
}

int crl_input_begin(int fd, int body, size_t skip, STACK_OF(X509) * certificates,
                    struct crl_input **input, struct error *err)
{
	struct crl_input *new = malloc(sizeof *new);
	int r;

	*input = NULL;
	if (!new)
		return error_set(err, -ENOMEM, "no memory for a CRL");
	memset(new, 0, sizeof *new);
	new->fd = fd;
	new->body = body;
	new->base64 = EVP_ENCODE_CTX_new();
	r = new->base64 ? begin(new, skip, certificates, err)
	                : error_set(err, -ENOMEM, "no memory for a CRL");
	if (r == 0)
		*input = new;
	else
		crl_input_free(new);
	return r;
}

void crl_input_free(struct crl_input *input)
{
	if (!input)
		return;
	EVP_ENCODE_CTX_free(input->base64);
	EVP_MD_CTX_free(input->digest);
	free(input);
}

int crl_input_end(struct crl_input *input, STACK_OF(X509) * certificates, size_t *crls,
                  struct error *err)
{
	int r = fill(input, 1, err);

	if (r == 0 && input->end > input->at)
		r = bad(err, "is no DER of a CRL: something stands behind it");
	/* a text longer than its body was read to its end before the body's is cut there */
	while (r == 0 && input->pem && (r = next_block(input, certificates, err)) == 1)
		r = 0;
	if (r == 0 && ftruncate(input->body, input->to) < 0)
		r = error_set(err, -errno, "cannot write the CRL: %s", strerror(errno));
	*crls = input->crls;
	return r;
}
