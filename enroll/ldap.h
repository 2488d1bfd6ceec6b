/*
 * CRLs by LDAP (RFC 4511, 4523): one entry is asked for by its name, for one attribute. libldap has
 * the messages alone: the connection and TLS are ours (enroll/ldap_link.h), so no file, no
 * environment, no other server and no referral has a say.
 */
#ifndef PKIFS_LDAP_H
#define PKIFS_LDAP_H

#include "common/ldapurl.h"

#include <openssl/x509.h>
#include <stdbool.h>
#include <time.h>

#define LDAP_SIZE_MAX (64u << 20) /* of an answer */

struct ldap_request {
	const char *url;
	const char *dn;              /* where the URL has none */
	const char *user, *password; /* a DN and its password; NULL: nobody */
	X509_STORE *anchors;         /* of ldaps servers */
	time_t now;                  /* the time of their certificates; 0: the clock's */
	long seconds;                /* for all of it */
	long patience;               /* seconds without progress; 0: the usual ones */
};

struct ldap_value {
	const unsigned char *bytes;
	size_t length;
};

struct ldap_answer {
	struct ldap_value *values; /* CRLs, it seems: the newest one first */
	size_t count;              /* 1 or more */
	void *message;             /* libldap's, which VALUES are in */
};

/*
 * Asks for the CRLs of a URL. The caller clears *ANSWER (ldap_answer_clear), also after an error.
 * 0; -EREMOTEIO (what the server says), -ENODATA (it has none), -EFBIG, -ETIMEDOUT, -EINVAL,
 * -ENOMEM or what the network said, with ERR filled.
 */
int ldap_fetch(const struct ldap_request *request, struct ldap_answer *answer, struct error *err);
void ldap_answer_clear(struct ldap_answer *answer);

/* Value I into FD, from its beginning and nothing behind it. 0 or a negative errno. */
int ldap_write(const struct ldap_answer *answer, size_t i, int fd, struct error *err);

/* The same over FD, which is connected and is closed in any case; by no TLS. */
int ldap_ask(int fd, const struct ldap_url *url, const struct ldap_request *request,
             struct ldap_answer *answer, struct error *err);

#endif
