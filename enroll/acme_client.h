/*
 * Talking to an ACME server (RFC 8555 §6): its directory, nonces, signed requests, problem
 * documents, the account.
 */
#ifndef PKIFS_ACME_CLIENT_H
#define PKIFS_ACME_CLIENT_H

#include "enroll/acme_jws.h"
#include "enroll/protocol.h"

#include <jansson.h>

#define ACME_TOKEN_MAX 128

struct acme {
	struct job *job;
	const char *url; /* of the directory; see http_may_name for all others */
	struct jws_key key;
	json_t *directory;
	char *account; /* its URL; NULL: not known */
	bool made;     /* just now */
	bool ending;   /* it is to be no more: none is made in its place */
	char *nonce;   /* for the next request; NULL: to be asked for */
};

/* What a problem document says (RFC 7807). */
struct acme_problem {
	char type[40];  /* "badNonce"; empty: it is none of ACME's */
	char text[440]; /* in words, subproblems included */
};

struct acme_answer {
	struct http_answer http;
	json_t *json;   /* NULL where the body is none */
	char *location; /* NULL: none */
	struct acme_problem problem;
};

/* Reads the job's account key; asks nobody yet. What was opened is closed in any case. */
int acme_open(struct acme *acme, struct job *job, struct error *err);
void acme_close(struct acme *acme);

/* Asks for the directory, and makes the account where there is none or RENEW. */
int acme_begin(struct acme *acme, struct error *err);
int acme_account(struct acme *acme, bool renew, struct error *err);
/* The account as the job's settings have it; the account is no more. After acme_begin. */
int acme_account_update(struct acme *acme, struct error *err);
int acme_account_delete(struct acme *acme, struct error *err);
/* The CA's account of our key as ANSWER's location, the caller's; nothing is made. */
int acme_find_account(struct acme *acme, struct acme_answer *answer, struct error *err);
/* acme_rollover.c. The account has the job's new key from now on. */
int acme_account_roll(struct acme *acme, struct error *err);

/* Asks for URL without a signature: a JSON object, or an error; the caller clears ANSWER. */
int acme_get(struct acme *acme, const char *url, struct acme_answer *answer, struct error *err);

/*
 * POSTs PAYLOAD to URL, or asks for what is there (PAYLOAD ""). A rejected nonce is replaced, and a
 * forgotten account made anew, for some tries. 0 when the CA accepts; else ERR says what of WHAT it
 * refuses, as -EACCES (final) or -EREMOTEIO (for later), or what http_do gave. The caller clears
 * ANSWER.
 */
int acme_post(struct acme *acme, const char *what, const char *url, const char *payload,
              struct acme_answer *answer, struct error *err);
/* The same where the answer must be a JSON object: else -EBADMSG. */
int acme_ask(struct acme *acme, const char *what, const char *url, const char *payload,
             struct acme_answer *answer, struct error *err);
void acme_answer_clear(struct acme_answer *answer);

/* The string KEY of OBJECT that is a URL which the CA may name; NULL with ERR filled. */
const char *acme_url(const struct acme *acme, const json_t *object, const char *key,
                     struct error *err);
int acme_check_url(const struct acme *acme, const char *url, const char *key, struct error *err);

/*
 * acme_order.c. An order for the names of the job, in ANSWER, the caller's. Those names as
 * identifiers, the caller's; whether NAME of TYPE is one of them, or what proves one.
 */
int acme_new_order(struct acme *acme, struct acme_answer *answer, struct error *err);
json_t *acme_identifiers(const struct record *settings);
bool acme_is_asked(const struct record *settings, const char *type, const char *name);

/*
 * acme_chain.c. The certificate at URL and its chain as `certificate`s of the job's result; of
 * those that the CA offers the one of `acme-preferred-chain`.
 */
int acme_chain(struct acme *acme, const char *url, struct error *err);

/*
 * acme_renewal.c. The job `renewal-info`: when to renew its `certificate`. The identifier of that
 * (RFC 9773 §4.1), the caller's (free), NULL: it has none. A time of RFC 3339 in Unix seconds; 0:
 * it is none that could be.
 */
int acme_renewal_info(struct job *job, struct error *err);
char *acme_certificate_id(const struct record *job);
long long acme_time(const char *text);

/* acme_problem.c. The string KEY of OBJECT, or NULL; JSON may be whatever came. */
const char *acme_text(const json_t *object, const char *key);
void acme_problem_read(const json_t *json, struct acme_problem *problem);
/* Whether what PROBLEM tells of may be gone by itself. */
bool acme_problem_passes(const struct acme_problem *problem);

#endif
