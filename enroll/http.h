/*
 * HTTP for the protocols: one libcurl handle that lives as long as the worker, so that
 * connections stay open from job to job, and one for each job that says who it is. No proxy, no
 * netrc, no cookies, no content encoding; http and https alone; every answer is bounded in time and
 * size.
 */
#ifndef PKIFS_HTTP_H
#define PKIFS_HTTP_H

#include "common/record.h"

#include <openssl/x509.h>
#include <stdbool.h>

#define HTTP_BODY_MAX    (1u << 20)
#define HTTP_SECONDS     60
#define HTTP_BINDING_MAX 64

struct http;

struct http_request {
	const char *url;
	const char *user, *password; /* NULL: none; never sent to another host */
	bool digest;                 /* Digest too, where the server asks for it; else Basic */
	const void *body;            /* NULL: GET */
	bool head;                   /* HEAD */
	size_t length;
	const char *type;            /* Content-Type of the body */
	const char *header;          /* a further header line of the body; NULL: none */
	const char *etag, *modified; /* of a GET: what is here already (If-None-Match,
	                              * If-Modified-Since); NULL: nothing */
	size_t limit;                /* bytes of an answer; 0: HTTP_BODY_MAX */
	long seconds;                /* for all of it; 0: HTTP_SECONDS */
	int fd;                      /* the answer's body is written there; 0: kept in memory */
	bool own_connection; /* a connection that is not used again or before: libcurl repeats
	                      * a request by itself when an old connection proves dead */
};

struct http_answer {
	long status;         /* 0: the server said nothing */
	bool sent;           /* bytes of the request may have reached the server */
	int retry_after;     /* seconds, 0 to 86400; -1: the server did not say */
	unsigned char *body; /* and a NUL behind it; NULL where it went to a descriptor */
	size_t length;
	bool connected; /* not all of it went over a connection that was open before */
	unsigned char binding[HTTP_BINDING_MAX]; /* what ties to the connection it came over */
	size_t binding_length;                   /* 0: nothing does */
};

/* Reads the system's trust store, so that no file is needed later. NULL: no memory. */
struct http *http_new(void);
void http_free(struct http *http);

/*
 * Takes from JOB what concerns all of its connections: `now`, and `tls-ca` (DER, repeats) as
 * the only anchors of https servers (default: the system's). 0, -EINVAL, -ENOMEM.
 */
int http_begin(struct http *http, const struct record *job, struct error *err);

/*
 * The job's requests go over connections of its own from here on, which no other job sees, to no
 * server but the one of their URL, and show CERTIFICATE with CHAIN and KEY where the server asks
 * (NULL: nobody). References are taken. http_begin and http_end close them. 0, -ENOMEM.
 */
int http_identify(struct http *http, X509 *certificate, STACK_OF(X509) * chain, EVP_PKEY *key,
                  struct error *err);
void http_end(struct http *http);

/* The job's anchors of servers, for what is no HTTP; the caller's. NULL: no memory. */
X509_STORE *http_anchors(const struct http *http);

/*
 * One request and its answer, at most three redirects included (http and https alone, a POST
 * to the same host alone). ANSWER is filled in either case and the caller's (http_answer_clear).
 * 0 when the status is 2xx, or 304 where the request says what is here already; else -EREMOTEIO
 * (another status), -EFBIG, -ETIMEDOUT, -EINVAL or what the network said.
 */
int http_do(struct http *http, const struct http_request *request, struct http_answer *answer,
            struct error *err);

/* The INDEXth header NAME of the last answer, or NULL; HTTP keeps it until the next request. */
const char *http_header(struct http *http, const char *name, size_t index);

void http_answer_clear(struct http_answer *answer);

/*
 * URL with NAME=VALUE behind its query (VALUE as it is, it is escaped here; NULL: no change).
 * The caller frees it (free); NULL when URL is none or there is no memory.
 */
char *http_url_add(const char *url, const char *name, const char *value);

/* URL/NAME; OTHERWISE is its path where it has none. As http_url_add. */
char *http_url_below(const char *url, const char *otherwise, const char *name);

/* True when both URLs have the same scheme, host and port. */
bool http_same_server(const char *one, const char *other);

/*
 * Whether the server of FROM may name TO, of its own or of another server, as the place of what
 * concerns us: by https, no user in it, no fragment; this machine only if FROM is that too, and
 * what only its link leads to only if it is FROM's host. Who answers there is for TLS to prove.
 */
bool http_may_name(const char *from, const char *to);

/* REFERENCE, as found at URL, as a whole URL. The caller frees it (free); NULL as above. */
char *http_url_from(const char *url, const char *reference);

/*
 * The target of the next link of RELATION in *HEADER, the value of a Link header (RFC 8288), which
 * then stands behind it. The caller frees it (free); NULL: no more.
 */
char *http_link(const char **header, const char *relation);

/* URL for sentences: no user, password, query or fragment. The caller frees it (free). */
char *http_url_text(const char *url);

#endif
