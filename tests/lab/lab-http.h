/*
 * The least HTTP server that a lab CA needs: one request at a time. Without TLS every connection
 * is closed behind its answer.
 */
#ifndef LAB_HTTP_H
#define LAB_HTTP_H

#include <openssl/bio.h>
#include <openssl/types.h>
#include <stdbool.h>

struct lab_request {
	bool post;
	const char *target; /* path and query as sent */
	const char *head;   /* the header lines */
	SSL *tls;           /* NULL: there is none */
	const unsigned char *body;
	size_t length;
};

struct lab_answer {
	int status;
	const char *type; /* NULL: not told */
	bool chunked;
	BIO *body;          /* freed by the server */
	int retry_after;    /* seconds; 0: no header */
	const char *header; /* a further line, with CR LF; NULL: none */
	bool drop;          /* close the connection without a word */
};

typedef void lab_handler(const struct lab_request *request, struct lab_answer *answer, void *user);

/* Serves 127.0.0.1:PORT (0: any; the one taken is printed) until a signal; -1 if it cannot. */
int lab_http_serve(int port, lab_handler *handler, void *user);

/*
 * The same with TLS as CONTEXT says (lab-https.c): a connection stays open as long as its client
 * wants, others are served meanwhile; HANDLER is called for one request at a time.
 */
int lab_https_serve(int port, SSL_CTX *context, lab_handler *handler, void *user);

/* What both are made of: a listening socket (-1: none), and one request on IO with its answer;
 * false when the connection has ended. BUFFER has room for LAB_REQUEST_MAX and a NUL. */
#define LAB_REQUEST_MAX (1u << 20)
int lab_http_listen(int port);
bool lab_http_exchange(BIO *io, SSL *tls, char *buffer, lab_handler *handler, void *user);

/* The value of header NAME in HEAD; NULL if it is not there. The caller frees it (free). */
char *lab_header(const char *head, const char *name);

/* The value of NAME in the query of TARGET, its %XX undone; NULL if it is not there. The caller
 * frees it (free). */
char *lab_query(const char *target, const char *name);

#endif
