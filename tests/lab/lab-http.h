/*
 * The least HTTP server that a lab CA needs: one request at a time, every connection closed
 * behind its answer.
 */
#ifndef LAB_HTTP_H
#define LAB_HTTP_H

#include <openssl/bio.h>
#include <stdbool.h>

struct lab_request {
	bool post;
	const char *target; /* path and query as sent */
	const unsigned char *body;
	size_t length;
};

struct lab_answer {
	int status;
	const char *type;
	BIO *body;       /* freed by the server */
	int retry_after; /* seconds; 0: no header */
	bool drop;       /* close the connection without a word */
};

typedef void lab_handler(const struct lab_request *request, struct lab_answer *answer, void *user);

/* Serves 127.0.0.1:PORT (0: any; the one taken is printed) until a signal; -1 if it cannot. */
int lab_http_serve(int port, lab_handler *handler, void *user);

/* The value of NAME in the query of TARGET, its %XX undone; NULL if it is not there. The caller
 * frees it (free). */
char *lab_query(const char *target, const char *name);

#endif
