/*
 * A connection to an LDAP server, by TLS where its URL says so: bounded in time, in bytes, and in
 * how slowly they may come.
 */
#ifndef PKIFS_LDAP_LINK_H
#define PKIFS_LDAP_LINK_H

#include "enroll/ldap.h"

struct ldap_link;

/* To the server of URL. 0: the caller closes it (ldap_link_close). */
int ldap_link_open(const struct ldap_url *url, const struct ldap_request *request,
                   struct ldap_link **link, struct error *err);
/* Of FD, which is connected and the link's from here on, also where this is NULL: no memory. */
struct ldap_link *ldap_link_new(int fd, const struct ldap_request *request);
void ldap_link_close(struct ldap_link *link);

int ldap_link_fd(const struct ldap_link *link);
bool ldap_link_pending(
	const struct ldap_link *link); /* bytes are there that poll(2) does not see */

/* What there is, up to SIZE bytes; 0 at the end; -1 with errno, EWOULDBLOCK where nothing is. */
ssize_t ldap_link_read(struct ldap_link *link, void *bytes, size_t size);
/* -1 with errno. */
ssize_t ldap_link_write(struct ldap_link *link, const void *bytes, size_t size);

/* 0, or why the server of URL is not waited for any more, with ERR filled. */
int ldap_link_check(struct ldap_link *link, const char *url, struct error *err);

#endif
