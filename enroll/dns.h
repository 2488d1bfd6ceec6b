/*
 * TXT records that ACME's dns-01 wants, put into a zone and taken out of it by dynamic updates
 * (RFC 2136), signed by a TSIG key (RFC 8945). Over TCP alone (RFC 7766): nothing is cut off there,
 * lost, or answered by somebody else.
 */
#ifndef PKIFS_DNS_H
#define PKIFS_DNS_H

#include "enroll/protocol.h"

#include <ldns/ldns.h>
#include <netinet/in.h>

/*
 * The job `dns`: puts the values `value` (they repeat) at `name` and waits until all name servers
 * of the zone serve them, or (`change` = `remove`) takes them away. What else is there stays.
 */
int dns_job(struct job *job, struct error *err);

/* dns_client.c: who is asked, and the key that signs what changes something. */
struct dns_server {
	char title[120]; /* as sentences call it */
	struct sockaddr_storage address;
	socklen_t length;
	char *key, *algorithm, *secret; /* NULL: it is told nothing but questions */
};

/* TEXT is ADDRESS or ADDRESS:PORT, TSIG (may be NULL) NAME:ALGORITHM:BASE64. 0 or -EINVAL. */
int dns_server_read(const char *text, const char *tsig, struct dns_server *server,
                    struct error *err);
void dns_server_clear(struct dns_server *server);

/* What SERVER says of TYPE at NAME, whatever that is; the caller's. */
int dns_ask(const struct dns_server *server, const ldns_rdf *name, ldns_rr_type type,
            ldns_pkt **answer, struct error *err);

/* Has SERVER make CHANGES in ZONE. -EREMOTEIO: it does not, and ERR says why. */
int dns_update(const struct dns_server *server, const ldns_rdf *zone, const ldns_rr_list *changes,
               struct error *err);

#endif
