#include "enroll/dns.h"

#include "common/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TTL             60
#define ALIASES         8
#define SERVERS         32 /* addresses of a zone's name servers that are looked at */
#define SERVE_SECONDS   60 /* that all of them may take to serve a record, */
#define SILENCE_SECONDS 10 /* and how long one is asked that does not answer at all */
#define PAUSE_FIRST     50 /* milliseconds between two looks, at first and at most */
#define PAUSE_LAST      2000

static bool same_name(const ldns_rdf *one, const ldns_rdf *other)
{
	return ldns_dname_compare(one, other) == 0;
}

/* The first record of TYPE at NAME in LIST; NULL: there is none. */
static const ldns_rr *find(const ldns_rr_list *list, const ldns_rdf *name, ldns_rr_type type)
{
	for (size_t i = 0; i < ldns_rr_list_rr_count(list); i++) {
		const ldns_rr *record = ldns_rr_list_rr(list, i);

		if (ldns_rr_get_type(record) == type && same_name(ldns_rr_owner(record), name))
			return record;
	}
	return NULL;
}

static int no_memory(struct error *err)
{
	return error_set(err, -ENOMEM, "no memory");
}

/* --- where a record belongs --- */

/* Follows what SERVER knows as aliases of *NAME, which becomes where they lead. */
static int follow_aliases(const struct dns_server *server, ldns_rdf **name, struct error *err)
{
	for (int i = 0; i < ALIASES; i++) {
		ldns_pkt *answer = NULL;
		const ldns_rr *alias;
		ldns_rdf *target = NULL;
		int r = dns_ask(server, *name, LDNS_RR_TYPE_CNAME, &answer, err);

		if (r < 0)
			return r;
		alias = find(ldns_pkt_answer(answer), *name, LDNS_RR_TYPE_CNAME);
		if (alias && ldns_rr_rdf(alias, 0))
			target = ldns_rdf_clone(ldns_rr_rdf(alias, 0));
		ldns_pkt_free(answer);
		if (!alias)
			return 0;
		if (!target)
			return no_memory(err);
		ldns_rdf_deep_free(*name);
		*name = target;
	}
	return error_set(err, -ELOOP, "the record's name is an alias that leads nowhere");
}

/* Whether ANSWER says that NAME is somebody else's: a delegation. */
static bool is_referral(const ldns_pkt *answer)
{
	const ldns_rr_list *list = ldns_pkt_authority(answer);
	bool somebody = false;

	for (size_t i = 0; i < ldns_rr_list_rr_count(list); i++)
		somebody |= ldns_rr_get_type(ldns_rr_list_rr(list, i)) == LDNS_RR_TYPE_NS;
	return somebody && !ldns_pkt_aa(answer) && !ldns_pkt_ra(answer) &&
	       ldns_pkt_get_rcode(answer) == LDNS_RCODE_NOERROR &&
	       !ldns_rr_list_rr_count(ldns_pkt_answer(answer));
}

/* SERVER's zone that NAME is in, by going up from it; *ZONE is the caller's. */
static int find_zone(const struct dns_server *server, const ldns_rdf *name, ldns_rdf **zone,
                     struct error *err)
{
	ldns_rdf *at = ldns_rdf_clone(name);
	char *text = ldns_rdf2str(name);
	int r = at && text ? 0 : no_memory(err);

	while (r == 0 && !*zone) {
		ldns_pkt *answer = NULL;
		ldns_rdf *above;

		if (!ldns_dname_label_count(at)) {
			r = error_set(err, -EREMOTEIO, "%s has no zone that %s is in",
			              server->title, text);
			break;
		}
		r = dns_ask(server, at, LDNS_RR_TYPE_SOA, &answer, err);
		if (r < 0)
			break;
		if (ldns_pkt_aa(answer) && find(ldns_pkt_answer(answer), at, LDNS_RR_TYPE_SOA))
			*zone = ldns_rdf_clone(at);
		else if (is_referral(answer))
			r = error_set(err, -EREMOTEIO, "%s says that %s is other name servers'",
			              server->title, text);
		ldns_pkt_free(answer);
		above = ldns_dname_left_chop(at);
		ldns_rdf_deep_free(at);
		at = above;
		if (!at)
			r = no_memory(err);
	}
	ldns_rdf_deep_free(at);
	LDNS_FREE(text);
	return r;
}

/* --- the record --- */

/* Each of the job's values as a change (RFC 2136 §2.5): of these records and no others. */
static ldns_rr_list *make_changes(const struct record *settings, const ldns_rdf *name, bool put)
{
	ldns_rr_list *list = ldns_rr_list_new();
	const struct field *field;
	size_t index = 0;

	while (list && (field = record_next(settings, "value", &index))) {
		ldns_rr *record = ldns_rr_new();
		ldns_rdf *value = NULL, *owner = ldns_rdf_clone(name);

		if (!record || !owner || ldns_str2rdf_str(&value, field->value) != LDNS_STATUS_OK) {
			ldns_rdf_deep_free(owner);
			ldns_rr_free(record);
			ldns_rr_list_deep_free(list);
			return NULL;
		}
		ldns_rr_set_owner(record, owner);
		ldns_rr_set_type(record, LDNS_RR_TYPE_TXT);
		ldns_rr_set_class(record, put ? LDNS_RR_CLASS_IN : LDNS_RR_CLASS_NONE);
		ldns_rr_set_ttl(record, put ? TTL : 0);
		ldns_rr_push_rdf(record, value);
		ldns_rr_list_push_rr(list, record);
	}
	return list;
}

/* --- the name servers that the CA may ask --- */

struct servers {
	struct dns_server list[SERVERS];
	bool serves[SERVERS], heard[SERVERS];
	size_t count;
};

static void add_server(struct servers *servers, const char *name, const struct sockaddr *address,
                       socklen_t length)
{
	struct dns_server *server = &servers->list[servers->count];
	char text[INET6_ADDRSTRLEN] = "";

	if (servers->count == SERVERS || length > sizeof server->address)
		return;
	getnameinfo(address, length, text, sizeof text, NULL, 0, NI_NUMERICHOST);
	*server = (struct dns_server){ .length = length };
	memcpy(&server->address, address, length);
	snprintf(server->title, sizeof server->title, "the name server %.30s (%s)", name, text);
	servers->count++;
}

/* The addresses of TYPE that SERVER itself knows of NAME. */
static void add_known(const struct dns_server *server, struct servers *servers,
                      const ldns_rdf *name, const char *text, ldns_rr_type type)
{
	ldns_pkt *answer = NULL;
	struct error err = { 0 };
	const ldns_rr_list *list;

	if (dns_ask(server, name, type, &answer, &err) < 0)
		return;
	list = ldns_pkt_answer(answer);
	for (size_t i = 0; i < ldns_rr_list_rr_count(list); i++) {
		const ldns_rr *record = ldns_rr_list_rr(list, i);
		struct sockaddr_storage *address;
		size_t length;

		if (ldns_rr_get_type(record) != type || !ldns_rr_rdf(record, 0))
			continue;
		address = ldns_rdf2native_sockaddr_storage(ldns_rr_rdf(record, 0), 53, &length);
		if (address)
			add_server(servers, text, (struct sockaddr *)address, (socklen_t)length);
		LDNS_FREE(address);
	}
	ldns_pkt_free(answer);
}

/* And those that the system knows, where SERVER knows none. */
static void add_resolved(struct servers *servers, const char *name)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found = NULL;

	if (getaddrinfo(name, "53", &hints, &found) != 0)
		return;
	for (const struct addrinfo *one = found; one; one = one->ai_next)
		add_server(servers, name, one->ai_addr, one->ai_addrlen);
	freeaddrinfo(found);
}

static int find_servers(const struct dns_server *server, const ldns_rdf *zone,
                        struct servers *servers, struct error *err)
{
	ldns_pkt *answer = NULL;
	int r = dns_ask(server, zone, LDNS_RR_TYPE_NS, &answer, err);
	const ldns_rr_list *list = r == 0 ? ldns_pkt_answer(answer) : NULL;

	for (size_t i = 0; r == 0 && i < ldns_rr_list_rr_count(list); i++) {
		const ldns_rr *record = ldns_rr_list_rr(list, i);
		size_t before = servers->count;
		char *text;

		if (ldns_rr_get_type(record) != LDNS_RR_TYPE_NS || !ldns_rr_rdf(record, 0))
			continue;
		text = ldns_rdf2str(ldns_rr_rdf(record, 0));
		if (!text)
			r = no_memory(err);
		if (text) {
			add_known(server, servers, ldns_rr_rdf(record, 0), text, LDNS_RR_TYPE_A);
			add_known(server, servers, ldns_rr_rdf(record, 0), text, LDNS_RR_TYPE_AAAA);
		}
		if (text && servers->count == before)
			add_resolved(servers, text);
		LDNS_FREE(text);
	}
	ldns_pkt_free(answer);
	return r;
}

/* Whether ANSWER, about NAME, has all RECORDS. */
static bool has_all(const ldns_pkt *answer, const ldns_rr_list *records)
{
	const ldns_rr_list *served = ldns_pkt_answer(answer);

	for (size_t i = 0; i < ldns_rr_list_rr_count(records); i++) {
		const ldns_rr *wanted = ldns_rr_list_rr(records, i);
		bool found = false;

		for (size_t j = 0; j < ldns_rr_list_rr_count(served); j++) {
			const ldns_rr *record = ldns_rr_list_rr(served, j);

			found |= ldns_rr_get_type(record) == LDNS_RR_TYPE_TXT &&
			         ldns_rr_rd_count(record) == 1 &&
			         same_name(ldns_rr_owner(record), ldns_rr_owner(wanted)) &&
			         ldns_rdf_compare(ldns_rr_rdf(record, 0), ldns_rr_rdf(wanted, 0)) ==
			                 0;
		}
		if (!found)
			return false;
	}
	return true;
}

/* Looks at SERVERS' number I: whether it serves RECORDS, or need not be asked any more. */
static bool look(struct servers *servers, size_t i, const ldns_rr_list *records, bool patient)
{
	const ldns_rdf *name = ldns_rr_owner(ldns_rr_list_rr(records, 0));
	struct error err = { 0 };
	ldns_pkt *answer = NULL;
	int r = dns_ask(&servers->list[i], name, LDNS_RR_TYPE_TXT, &answer, &err);

	servers->heard[i] |= r == 0;
	servers->serves[i] = r == 0 && has_all(answer, records);
	if (r < 0 && !servers->heard[i] &&
	    (!patient || r == -ENETUNREACH || r == -EADDRNOTAVAIL || r == -EAFNOSUPPORT)) {
		log_warning("%s: it is not waited for", err.text);
		servers->serves[i] = true;
	}
	ldns_pkt_free(answer);
	return servers->serves[i];
}

/*
 * Waits until all name servers of ZONE serve RECORDS: the CA may ask any. One that cannot be
 * reached from here may be reached by the CA: it stops nothing.
 */
static int await(const struct dns_server *server, const ldns_rdf *zone, const ldns_rr_list *records,
                 struct error *err)
{
	struct servers *servers = calloc(1, sizeof *servers);
	struct timespec begun, now;
	long pause = PAUSE_FIRST;
	size_t last = 0;
	int r = servers ? find_servers(server, zone, servers, err) : no_memory(err);

	clock_gettime(CLOCK_MONOTONIC, &begun);
	for (bool all = false; r == 0 && !all;) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		all = true;
		for (size_t i = 0; i < servers->count; i++)
			if (!servers->serves[i] &&
			    !look(servers, i, records,
			          now.tv_sec - begun.tv_sec < SILENCE_SECONDS)) {
				all = false;
				last = i;
			}
		if (!all && now.tv_sec - begun.tv_sec >= SERVE_SECONDS)
			r = error_set(err, -ETIMEDOUT,
			              "%s does not serve the record within %d seconds",
			              servers->list[last].title, SERVE_SECONDS);
		if (!all && r == 0)
			nanosleep(&(struct timespec){ pause / 1000, pause % 1000 * 1000000 }, NULL);
		pause = pause * 2 < PAUSE_LAST ? pause * 2 : PAUSE_LAST;
	}
	free(servers);
	return r;
}

/* --- the job --- */

int dns_job(struct job *job, struct error *err)
{
	const char *server_text = record_get(job->settings, "acme-dns-server");
	const char *text = record_get(job->settings, "name");
	bool put = !record_is(job->settings, "change", "remove");
	ldns_rdf *name = text ? ldns_dname_new_frm_str(text) : NULL, *zone = NULL;
	ldns_rr_list *changes = NULL;
	struct dns_server server = { 0 };
	int r;

	if (!name)
		return error_set(err, -EINVAL, "\"%.260s\" is too long for a name in DNS",
		                 text ? text : "");
	r = dns_server_read(server_text ? server_text : "",
	                    record_get(job->settings, "acme-dns-tsig"), &server, err);
	if (r == 0)
		r = follow_aliases(&server, &name, err);
	if (r == 0)
		r = find_zone(&server, name, &zone, err);
	if (r == 0) {
		changes = make_changes(job->settings, name, put);
		r = changes && ldns_rr_list_rr_count(changes) ? 0 : no_memory(err);
	}
	if (r == 0)
		r = dns_update(&server, zone, changes, err);
	if (r == 0 && put)
		r = await(&server, zone, changes, err);
	ldns_rr_list_deep_free(changes);
	ldns_rdf_deep_free(name);
	ldns_rdf_deep_free(zone);
	dns_server_clear(&server);
	return r;
}
