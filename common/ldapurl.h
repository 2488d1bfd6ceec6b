/*
 * URLs of LDAP (RFC 4516), as far as they name an attribute of one entry:
 * ldap[s]://HOST[:PORT][/DN[?ATTRIBUTE,...[?base[?FILTER[?EXTENSIONS]]]]].
 */
#ifndef PKIFS_LDAPURL_H
#define PKIFS_LDAPURL_H

#include "common/error.h"

#include <openssl/x509.h>

#define LDAP_ATTRIBUTES_MAX 8

struct ldap_url {
	bool tls;
	char *host; /* a name or an address, without brackets */
	unsigned port;
	char *dn;                              /* as a string (RFC 4514); empty: none */
	char *attributes[LDAP_ATTRIBUTES_MAX]; /* NULL behind the last one */
};

/* Whether TEXT begins as an LDAP URL. */
bool ldap_url_is(const char *text);

/*
 * Reads TEXT, not trusted. The filter is not looked at: one entry is asked for by its name. The
 * caller owns what is in *URL (ldap_url_clear), also after an error. 0, -EINVAL, -ENOMEM.
 */
int ldap_url_read(const char *text, struct ldap_url *url, struct error *err);
void ldap_url_clear(struct ldap_url *url);

/* Whether TEXT is the URL of a server: without a DN. */
bool ldap_server_is(const char *text);

/* Whether both URLs lead to the same server, in the same way: who may see a password for the one is
 * asked by the other. */
bool ldap_server_same(const char *one, const char *other);

/* NAME as a DN's string (RFC 4514), and the URL of its entry at SERVER (ldap_server_is). The caller
 * frees it (free); NULL: no memory. */
char *ldap_dn(const X509_NAME *name);
char *ldap_url_of(const char *server, const X509_NAME *name);

#endif
