#include "enroll/http.h"

#include <curl/curl.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define REDIRECTS_MAX   3
#define HEADERS_MAX     (64u << 10)
#define CONNECT_SECONDS 10L
#define RETRY_AFTER_MAX 86400
#define TRUST_MAX       (8u << 20)
#define EXCERPT_MAX     80
#define EXPORTER        "EXPORTER-Channel-Binding"
#define EXPORTED        32

/* Whom the job shows to servers that ask for a client certificate. */
struct identity {
	X509 *certificate; /* NULL: nobody */
	STACK_OF(X509) * chain;
	EVP_PKEY *key;
};

struct http {
	CURL *shared; /* lives from job to job */
	CURL *own;    /* the job's, or NULL */
	CURL *curl;   /* the one in use */
	struct identity identity;
	BIO *system_trust; /* PEM */
	BIO *job_trust;    /* PEM of the job's `tls-ca`, or NULL */
	time_t now;
};

/* What comes in during one transfer. */
struct transfer {
	const struct http_request *request;
	struct http_answer *answer;
	CURL *curl;
	size_t limit, received, headers;
	int code; /* why the transfer was ended from here */
};

static BIO *read_system_trust(void)
{
	const char *path = curl_version_info(CURLVERSION_NOW)->cainfo;
	BIO *file = path ? BIO_new_file(path, "r") : NULL;
	BIO *trust = BIO_new(BIO_s_mem());
	char piece[4096];
	size_t total = 0;
	int got;

	while (file && trust && total < TRUST_MAX && (got = BIO_read(file, piece, 4096)) > 0) {
		BIO_write(trust, piece, got);
		total += (size_t)got;
	}
	BIO_free(file);
	return trust;
}

struct http *http_new(void)
{
	struct http *http = calloc(1, sizeof *http);

	if (!http)
		return NULL;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) == 0)
		http->shared = curl_easy_init();
	http->curl = http->shared;
	http->system_trust = read_system_trust();
	if (http->shared && http->system_trust)
		return http;
	http_free(http);
	return NULL;
}

void http_free(struct http *http)
{
	if (!http)
		return;
	http_end(http);
	curl_easy_cleanup(http->shared);
	BIO_free(http->system_trust);
	BIO_free(http->job_trust);
	free(http);
}

void http_end(struct http *http)
{
	curl_easy_cleanup(http->own);
	http->own = NULL;
	http->curl = http->shared;
	X509_free(http->identity.certificate);
	sk_X509_pop_free(http->identity.chain, X509_free);
	EVP_PKEY_free(http->identity.key);
	http->identity = (struct identity){ 0 };
}

int http_identify(struct http *http, X509 *certificate, STACK_OF(X509) * chain, EVP_PKEY *key,
                  struct error *err)
{
	http_end(http);
	http->own = curl_easy_init();
	if (!http->own)
		return error_set(err, -ENOMEM, "no memory");
	http->curl = http->own;
	if (!certificate)
		return 0;
	X509_up_ref(certificate);
	EVP_PKEY_up_ref(key);
	http->identity = (struct identity){ certificate, X509_chain_up_ref(chain), key };
	return 0;
}

int http_begin(struct http *http, const struct record *job, struct error *err)
{
	const struct field *field;
	size_t index = 0;

	http_end(http);
	http->now = (time_t)record_number(job, "now", 0);
	BIO_free(http->job_trust);
	http->job_trust = NULL;
	while ((field = record_next(job, "tls-ca", &index))) {
		const unsigned char *der = (const unsigned char *)field->value;
		X509 *anchor = field->length ? d2i_X509(NULL, &der, (long)field->length) : NULL;
		bool written;

		if (!field->length)
			return error_set(err, -EINVAL,
			                 "the profile that tls-ca names has no CA certificate");
		if (!anchor)
			return error_openssl(err, -EINVAL, "tls-ca is no certificate");
		if (!http->job_trust)
			http->job_trust = BIO_new(BIO_s_mem());
		written = http->job_trust && PEM_write_bio_X509(http->job_trust, anchor);
		X509_free(anchor);
		if (!written)
			return error_set(err, -ENOMEM, "no memory for the anchors of https");
	}
	return 0;
}

static bool write_all(int fd, const char *bytes, size_t length)
{
	while (length) {
		ssize_t n = write(fd, bytes, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		bytes += n;
		length -= (size_t)n;
	}
	return true;
}

static bool keep(struct http_answer *answer, const char *bytes, size_t length)
{
	unsigned char *larger = realloc(answer->body, answer->length + length + 1);

	if (!larger)
		return false;
	memcpy(larger + answer->length, bytes, length);
	answer->body = larger;
	answer->length += length;
	larger[answer->length] = '\0';
	return true;
}

/* A length that is promised may be a lie, or missing: the bytes are counted here. The body of an
 * error is kept for its sentence, never written to the descriptor. */
static size_t body_received(char *bytes, size_t size, size_t count, void *user)
{
	struct transfer *transfer = user;
	size_t length = size * count;
	long status = 0;
	bool kept;

	if (length > transfer->limit - transfer->received) {
		transfer->code = -EFBIG;
		return 0;
	}
	transfer->received += length;
	curl_easy_getinfo(transfer->curl, CURLINFO_RESPONSE_CODE, &status);
	if (transfer->request->fd > 0 && status / 100 == 2) {
		kept = write_all(transfer->request->fd, bytes, length);
		transfer->code = kept ? 0 : -errno;
	} else if (transfer->request->fd > 0 && transfer->received > HTTP_BODY_MAX) {
		kept = true;
	} else {
		kept = keep(transfer->answer, bytes, length);
		transfer->code = kept ? 0 : -ENOMEM;
	}
	return kept ? length : 0;
}

/* What ties a message to this connection: tls-unique of RFC 5929, tls-exporter of RFC 9266. */
static void note_binding(const struct transfer *transfer)
{
	struct http_answer *answer = transfer->answer;
	struct curl_tlssessioninfo *info = NULL;
	SSL *tls;

	if (curl_easy_getinfo(transfer->curl, CURLINFO_TLS_SSL_PTR, &info) != CURLE_OK || !info ||
	    info->backend != CURLSSLBACKEND_OPENSSL || !info->internals)
		return;
	tls = info->internals;
	if (SSL_version(tls) < TLS1_3_VERSION)
		answer->binding_length =
			SSL_get_finished(tls, answer->binding, sizeof answer->binding);
	else if (SSL_export_keying_material(tls, answer->binding, EXPORTED, EXPORTER,
	                                    strlen(EXPORTER), (const unsigned char *)"", 0, 1) == 1)
		answer->binding_length = EXPORTED;
	if (answer->binding_length > sizeof answer->binding)
		answer->binding_length = 0;
}

/* The connection is known to libcurl's caller only as long as something comes in. */
static size_t header_received(char *bytes, size_t size, size_t count, void *user)
{
	struct transfer *transfer = user;

	if (size * count > 5 && memcmp(bytes, "HTTP/", 5) == 0)
		note_binding(transfer);
	transfer->headers += size * count;
	if (transfer->headers <= HEADERS_MAX)
		return size * count;
	transfer->code = -EFBIG;
	return 0;
}

/* A job's time is that of its certificates, whatever the clock says here. */
static CURLcode tls_begins(CURL *curl, void *tls, void *user)
{
	const struct http *http = user;
	const struct identity *identity = &http->identity;
	bool good = true;

	(void)curl;
	if (http->now > 0)
		X509_VERIFY_PARAM_set_time(SSL_CTX_get0_param(tls), http->now);
	if (identity->certificate)
		good = SSL_CTX_use_certificate(tls, identity->certificate) == 1 &&
		       SSL_CTX_use_PrivateKey(tls, identity->key) == 1 &&
		       SSL_CTX_set1_chain(tls, identity->chain) == 1;
	return good ? CURLE_OK : CURLE_SSL_CERTPROBLEM;
}

static BIO *trust_of(const struct http *http)
{
	return http->job_trust ? http->job_trust : http->system_trust;
}

X509_STORE *http_anchors(const struct http *http)
{
	X509_STORE *anchors = X509_STORE_new();
	char *bytes = NULL;
	long length = BIO_get_mem_data(trust_of(http), &bytes);
	BIO *pem = BIO_new_mem_buf(bytes, (int)length);
	X509 *anchor;

	while (anchors && pem && (anchor = PEM_read_bio_X509(pem, NULL, NULL, NULL))) {
		X509_STORE_add_cert(anchors, anchor);
		X509_free(anchor);
	}
	ERR_clear_error();
	BIO_free(pem);
	return anchors;
}

static void set_trust(struct http *http)
{
	BIO *trust = trust_of(http);
	struct curl_blob blob = { .flags = CURL_BLOB_COPY };
	char *bytes = NULL;
	long length = BIO_get_mem_data(trust, &bytes);

	blob.data = bytes;
	blob.len = (size_t)length;
	curl_easy_setopt(http->curl, CURLOPT_CAPATH, NULL);
	curl_easy_setopt(http->curl, CURLOPT_CAINFO, NULL);
	curl_easy_setopt(http->curl, CURLOPT_CAINFO_BLOB, &blob);
	curl_easy_setopt(http->curl, CURLOPT_SSL_CTX_FUNCTION, tls_begins);
	curl_easy_setopt(http->curl, CURLOPT_SSL_CTX_DATA, http);
	curl_easy_setopt(http->curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
}

/* A connection or session that one identity opened is never another's: libcurl would hand it on. */
static void set_sharing(const struct http *http, const struct http_request *request)
{
	curl_easy_setopt(http->curl, CURLOPT_SSL_SESSIONID_CACHE, http->own ? 0L : 1L);
	curl_easy_setopt(http->curl, CURLOPT_FRESH_CONNECT, request->own_connection ? 1L : 0L);
	curl_easy_setopt(http->curl, CURLOPT_FORBID_REUSE, request->own_connection ? 1L : 0L);
}

static void set_user(CURL *curl, const struct http_request *request)
{
	long ways = request->digest ? CURLAUTH_BASIC | CURLAUTH_DIGEST : CURLAUTH_BASIC;

	curl_easy_setopt(curl, CURLOPT_HTTPAUTH, ways);
	curl_easy_setopt(curl, CURLOPT_USERNAME, request->user);
	curl_easy_setopt(curl, CURLOPT_PASSWORD, request->password);
}

static void set_limits(CURL *curl, const struct http_request *request)
{
	long seconds = request->seconds ? request->seconds : HTTP_SECONDS;

	curl_easy_setopt(curl, CURLOPT_TIMEOUT, seconds);
	curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_SECONDS);
	curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 16L);
	curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, 45L);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
	curl_easy_setopt(curl, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(curl, CURLOPT_USERAGENT, "pkifs/" PKIFS_VERSION);
}

/* HEADERS with NAME: VALUE (NULL: without) behind them. */
static struct curl_slist *add_header(struct curl_slist *headers, const char *name,
                                     const char *value)
{
	char line[512];

	if (!value)
		return headers;
	snprintf(line, sizeof line, "%s: %s", name, value);
	return curl_slist_append(headers, line);
}

/* The headers of a GET that asks for what is new, the caller's. */
static struct curl_slist *set_condition(CURL *curl, const struct http_request *request)
{
	struct curl_slist *headers = add_header(NULL, "If-None-Match", request->etag);

	headers = add_header(headers, "If-Modified-Since", request->modified);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	return headers;
}

/* The headers of the request, the caller's (curl_slist_free_all); NULL: none of our own. */
static struct curl_slist *set_body(CURL *curl, const struct http_request *request)
{
	struct curl_slist *headers = NULL;
	char line[128];

	if (!request->body)
		return set_condition(curl, request);
	snprintf(line, sizeof line, "Content-Type: %s", request->type);
	headers = curl_slist_append(NULL, line);
	headers = curl_slist_append(headers, "Expect:");
	if (request->own_connection) /* some servers wait for the next request on it */
		headers = curl_slist_append(headers, "Connection: close");
	if (request->header)
		headers = curl_slist_append(headers, request->header);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->length);
	curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body);
	return headers;
}

static int retry_after(const struct http *http)
{
	struct curl_header *header;
	long long seconds;
	char *end;

	if (curl_easy_header(http->curl, "Retry-After", 0, CURLH_HEADER, -1, &header))
		return -1;
	errno = 0;
	seconds = strtoll(header->value, &end, 10);
	if (end == header->value || *end) {
		seconds = curl_getdate(header->value, NULL);
		if (seconds < 0)
			return -1;
		seconds -= http->now;
	}
	if (seconds < 0)
		return 0;
	return (int)(seconds > RETRY_AFTER_MAX ? RETRY_AFTER_MAX : seconds);
}

/* Of libcurl's failures those that a person meets, for behind the URL; others keep its words. */
static const char *cause_of(CURLcode code)
{
	static const struct {
		CURLcode code;
		const char *words;
	} causes[] = {
		{ CURLE_GOT_NOTHING, "closes the connection without an answer" },
		{ CURLE_OUT_OF_MEMORY, "sends a header line without end" }, /* its name for it */
		{ CURLE_PARTIAL_FILE, "breaks off in the middle of its answer" },
		{ CURLE_UNSUPPORTED_PROTOCOL, "does not speak HTTP" },
		{ CURLE_WEIRD_SERVER_REPLY, "does not speak HTTP" },
	};

	for (size_t i = 0; i < COUNT(causes); i++)
		if (causes[i].code == code)
			return causes[i].words;
	return NULL;
}

/* What libcurl, or the operating system below it, says about a failure without a cause above. */
static int explain_other(CURLcode code, long system, const char *details, const char *url,
                         struct error *err)
{
	const char *words = *details ? details : curl_easy_strerror(code);

	if (code == CURLE_RECV_ERROR && system == ECONNRESET)
		return error_set(err, -EIO, "%s resets the connection", url);
	if (system == ENOTCONN || strstr(details, "getpeername")) /* in the midst of it */
		return error_set(err, -EIO, "%s closes the connection as it begins", url);
	if (code == CURLE_RECV_ERROR)
		return error_set(err, -EIO, "%s sends an answer that cannot be read: %s", url,
		                 words);
	return error_set(err, -EIO, "the transfer from %s failed: %s", url, words);
}

/* The server's own word for why it ends TLS, at the end of libcurl's DETAILS; NULL: it said none.
 */
static const char *alert_in(const char *details)
{
	const char *alert = strstr(details, " alert ");

	return alert ? alert + strlen(" alert ") : NULL;
}

static int explain_alert(const struct http *http, const char *alert, const char *url,
                         struct error *err)
{
	int length = (int)strcspn(alert, ",\r\n");

	if (http->identity.certificate)
		return error_set(err, -EIO,
		                 "%s does not take the certificate that it was shown: %.*s", url,
		                 length, alert);
	return error_set(err, -EIO, "%s ends TLS: %.*s", url, length, alert);
}

/* Why nobody could be spoken to. */
static int explain_connection(CURLcode code, long system, const char *url, struct error *err)
{
	if (code == CURLE_COULDNT_RESOLVE_HOST)
		return error_set(err, -EHOSTUNREACH, "cannot reach %s: its name is not known", url);
	if (code == CURLE_COULDNT_CONNECT && system)
		return error_set(err, -EHOSTUNREACH, "cannot reach %s: %s", url,
		                 strerror((int)system));
	return error_set(err, -ETIMEDOUT, "cannot reach %s: Connection timed out", url);
}

/* Why the transfer was ended from here, with its CODE. */
static int explain_own(const struct transfer *transfer, const char *url, struct error *err)
{
	if (transfer->code != -EFBIG)
		return error_set(err, transfer->code, "cannot keep what %s sends: %s", url,
		                 strerror(-transfer->code));
	if (transfer->headers > HEADERS_MAX)
		return error_set(err, -EFBIG, "%s sends more than %u bytes of headers", url,
		                 HEADERS_MAX);
	return error_set(err, -EFBIG, "%s sends more than %zu bytes", url, transfer->limit);
}

/*
 * It was shown a certificate and ended without a word: with TLS 1.3 it looks at it after the
 * handshake, and its alert may be lost.
 */
static bool is_silent(const struct http *http, const struct transfer *transfer, const char *details)
{
	return http->identity.certificate && !transfer->headers && transfer->code == 0 &&
	       !alert_in(details);
}

static int doubt_certificate(int code, struct error *err)
{
	struct error cause;

	if (!err || code != -EIO)
		return code;
	cause = *err;
	return error_set(err, code, "%s: it may not take the certificate that it was shown",
	                 cause.text);
}

/* Why the transfer failed, in words. */
static int explain(const struct http *http, const struct transfer *transfer, CURLcode code,
                   const char *details, const char *url, struct error *err)
{
	long system = 0;
	char *text = http_url_text(url);
	const char *cause = cause_of(code);
	int r;

	curl_easy_getinfo(http->curl, CURLINFO_OS_ERRNO, &system);
	if (!text)
		r = error_set(err, -ENOMEM, "no memory");
	else if (transfer->code < 0)
		r = explain_own(transfer, text, err);
	else if (code == CURLE_OPERATION_TIMEDOUT && transfer->received)
		r = error_set(err, -ETIMEDOUT, "%s answers too slowly", text);
	else if (code == CURLE_OPERATION_TIMEDOUT && transfer->answer->sent)
		r = error_set(err, -ETIMEDOUT, "%s does not answer in time", text);
	else if (code == CURLE_OPERATION_TIMEDOUT || code == CURLE_COULDNT_CONNECT ||
	         code == CURLE_COULDNT_RESOLVE_HOST)
		r = explain_connection(code, system, text, err);
	else if (cause && transfer->answer->sent)
		r = error_set(err, -EIO, "%s %s", text, cause);
	else if (alert_in(details))
		r = explain_alert(http, alert_in(details), text, err);
	else
		r = explain_other(code, system, details, text, err);
	free(text);
	return is_silent(http, transfer, details) ? doubt_certificate(r, err) : r;
}

/* One transfer, no redirects: 0 when the server gave a whole answer, whatever its status. */
static int transfer_once(struct http *http, const struct http_request *request, const char *url,
                         bool trusted, struct http_answer *answer, struct error *err)
{
	struct transfer transfer = { .request = request, .answer = answer, .curl = http->curl };
	char details[CURL_ERROR_SIZE] = "";
	struct curl_slist *headers;
	long sent = 0, connections = 0;
	CURLcode code;

	transfer.limit = request->limit ? request->limit : HTTP_BODY_MAX;
	curl_easy_reset(http->curl);
	set_limits(http->curl, request);
	set_sharing(http, request);
	set_trust(http);
	headers = set_body(http->curl, request);
	if (request->head)
		curl_easy_setopt(http->curl, CURLOPT_NOBODY, 1L);
	curl_easy_setopt(http->curl, CURLOPT_URL, url);
	if (request->user && trusted)
		set_user(http->curl, request);
	curl_easy_setopt(http->curl, CURLOPT_ERRORBUFFER, details);
	curl_easy_setopt(http->curl, CURLOPT_WRITEFUNCTION, body_received);
	curl_easy_setopt(http->curl, CURLOPT_WRITEDATA, &transfer);
	curl_easy_setopt(http->curl, CURLOPT_HEADERFUNCTION, header_received);
	curl_easy_setopt(http->curl, CURLOPT_HEADERDATA, &transfer);
	curl_easy_setopt(http->curl, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)transfer.limit);
	code = curl_easy_perform(http->curl);
	if (code == CURLE_FILESIZE_EXCEEDED) /* its Content-Length says so */
		transfer.code = -EFBIG;
	curl_easy_setopt(http->curl, CURLOPT_ERRORBUFFER, NULL);
	curl_easy_getinfo(http->curl, CURLINFO_REQUEST_SIZE, &sent);
	curl_easy_getinfo(http->curl, CURLINFO_RESPONSE_CODE, &answer->status);
	curl_easy_getinfo(http->curl, CURLINFO_NUM_CONNECTS, &connections);
	answer->sent |= sent > 0;
	answer->connected |= connections > 0;
	answer->retry_after = retry_after(http);
	curl_slist_free_all(headers);
	return code ? explain(http, &transfer, code, details, url, err) : 0;
}

/* A sentence for a status that is not 2xx, with the first words of a body that is text. */
static int refuse_status(const char *url, const struct http_answer *answer, struct error *err)
{
	char *text = http_url_text(url);
	char excerpt[EXCERPT_MAX + 1] = "";
	size_t used = 0;

	for (size_t i = 0; i < answer->length && used < EXCERPT_MAX; i++) {
		unsigned char c = answer->body[i];

		if (c < 9 || (c > 13 && c < 32) || c >= 0x7f) {
			used = 0;
			break;
		}
		if (c > 32 || (used && excerpt[used - 1] != ' '))
			excerpt[used++] = c > 32 ? (char)c : ' ';
	}
	while (used && excerpt[used - 1] == ' ')
		used--;
	excerpt[used] = '\0';
	error_set(err, -EREMOTEIO, "%s answered with HTTP status %ld%s%s", text ? text : "",
	          answer->status, used ? ": " : "", excerpt);
	free(text);
	return -EREMOTEIO;
}

/* The URL that REDIRECT leads to where it may be followed, else NULL with ERR filled. */
static char *follow(struct http *http, const struct http_request *request, const char *url,
                    struct error *err)
{
	char *target = NULL, *text = http_url_text(url);

	curl_easy_getinfo(http->curl, CURLINFO_REDIRECT_URL, &target);
	if (!target)
		error_set(err, -EREMOTEIO, "%s redirects to nowhere", text);
	else if (strncasecmp(target, "https://", 8) != 0 &&
	         (strncasecmp(target, "http://", 7) != 0 || strncasecmp(url, "https:", 6) == 0))
		error_set(err, -EREMOTEIO, "%s redirects to %.100s, which is not followed", text,
		          target);
	else if ((request->body || http->own) && !http_same_server(url, target))
		error_set(err, -EREMOTEIO, "%s redirects a request to another server, %.100s", text,
		          target);
	else {
		free(text);
		return strdup(target);
	}
	free(text);
	return NULL;
}

static bool is_redirect(long status)
{
	return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

static int too_many_redirects(const char *url, struct error *err)
{
	char *text = http_url_text(url);

	error_set(err, -ELOOP, "%s leads through more than %d redirects", text ? text : "",
	          REDIRECTS_MAX);
	free(text);
	return -ELOOP;
}

int http_do(struct http *http, const struct http_request *request, struct http_answer *answer,
            struct error *err)
{
	char *url = strdup(request->url), *next;
	bool trusted = true;
	int r = url ? 0 : error_set(err, -ENOMEM, "no memory");

	*answer = (struct http_answer){ .retry_after = -1 };
	for (int hops = 0; r == 0; hops++) {
		r = transfer_once(http, request, url, trusted, answer, err);
		if (r < 0 || !is_redirect(answer->status))
			break;
		if (hops == REDIRECTS_MAX) {
			r = too_many_redirects(request->url, err);
			break;
		}
		next = follow(http, request, url, err);
		if (!next) {
			r = -EREMOTEIO;
			break;
		}
		trusted = trusted && http_same_server(url, next);
		free(url);
		url = next;
		free(answer->body);
		answer->body = NULL;
		answer->length = 0;
	}
	if (r == 0 && answer->status / 100 != 2 &&
	    !(answer->status == 304 && (request->etag || request->modified)))
		r = refuse_status(url, answer, err);
	free(url);
	return r;
}

const char *http_header(struct http *http, const char *name, size_t index)
{
	struct curl_header *header;

	return curl_easy_header(http->curl, name, index, CURLH_HEADER, -1, &header) ? NULL
	                                                                            : header->value;
}

void http_answer_clear(struct http_answer *answer)
{
	free(answer->body);
	answer->body = NULL;
	answer->length = 0;
}
