/*
 * CRLs for charon, which then refuses by itself whom a CA revoked. It has what the store has, and
 * fetches nothing by itself.
 */
#include "netlink/charon_part.h"

#include <string.h>

#define CRLS 32

/* The last ones that the store sent; each as a record with the field `data`. */
static struct record *crls[CRLS];
static size_t next;

/* Behind it what charon remembers of others is forgotten, which would count before. */
static void push(const struct charon *charon, const struct record *crl)
{
	struct record *flush = charon_message("type", "X509_CRL");

	vici_call(charon->vici, "load-cert", crl, NULL, NULL, 0);
	if (flush)
		vici_call(charon->vici, "flush-certs", flush, NULL, NULL, 0);
	record_free(flush);
}

void charon_push_crls(const struct charon *charon)
{
	for (size_t i = 0; i < CRLS; i++)
		if (crls[(next + i) % CRLS])
			push(charon, crls[(next + i) % CRLS]);
}

static bool is_known(const struct field *crl)
{
	for (size_t i = 0; i < CRLS; i++) {
		const struct field *known = crls[i] ? record_find(crls[i], "data") : NULL;

		if (known && known->length == crl->length &&
		    memcmp(known->value, crl->value, crl->length) == 0)
			return true;
	}
	return false;
}

static void push_newest(const struct charon *charon)
{
	push(charon, crls[(next + CRLS - 1) % CRLS]);
}

void charon_crls(const struct record *frame)
{
	const struct field *crl;

	for (size_t i = 0; (crl = record_next(frame, "crl", &i)) != NULL;) {
		struct record *new;

		if (is_known(crl))
			continue;
		new = charon_message("type", "X509_CRL");
		if (!new)
			return;
		record_add_bytes(new, "data", crl->value, crl->length);
		record_free(crls[next]);
		crls[next] = new;
		next = (next + 1) % CRLS;
		charons_each(push_newest);
	}
}
