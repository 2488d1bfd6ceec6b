/* The certificate that an order yields, by the chain that is preferred (RFC 8555 §7.4.2). */
#include "common/log.h"
#include "common/x509.h"
#include "enroll/acme_client.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#define CERTIFICATES_LIMIT 50
#define ALTERNATES_LIMIT   8

/* The URLs of other chains that the last answer, of URL, names; how many. */
static size_t alternates(const struct acme *acme, const char *url, char *urls[ALTERNATES_LIMIT])
{
	const char *header;
	size_t count = 0;

	for (size_t i = 0; (header = http_header(acme->job->worker->http, "Link", i)); i++) {
		char *target;

		while (count < ALTERNATES_LIMIT && (target = http_link(&header, "alternate"))) {
			urls[count] = http_url_from(url, target);
			free(target);
			count += urls[count] != NULL;
		}
	}
	return count;
}

static int fetch(struct acme *acme, const char *url, STACK_OF(X509) * *chain, struct error *err)
{
	struct acme_answer answer = { 0 };
	int r = acme_post(acme, "question for the certificate", url, "", &answer, err);

	if (r == 0 && !answer.http.length)
		r = error_set(err, -EBADMSG, "the CA sends an empty certificate");
	if (r == 0)
		r = certificates_read(answer.http.body, answer.http.length, CERTIFICATES_LIMIT,
		                      chain, err);
	acme_answer_clear(&answer);
	return r;
}

/* Whether CHAIN leads to the root NAME. */
static bool leads_to(STACK_OF(X509) * chain, const char *name)
{
	const X509 *top = sk_X509_value(chain, sk_X509_num(chain) - 1);
	const X509_NAME *issuer = X509_get_issuer_name(top);
	int at = X509_NAME_get_index_by_NID(issuer, NID_commonName, -1);
	unsigned char *text = NULL;
	bool same;

	if (at < 0 || ASN1_STRING_to_UTF8(
			      &text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(issuer, at))) < 0)
		return false;
	same = strcmp((const char *)text, name) == 0;
	OPENSSL_free(text);
	return same;
}

/*
 * Puts the first of the COUNT alternates that leads to PREFERRED into the place of CHAIN. One that
 * cannot be had is no reason to go without a certificate.
 */
static void prefer(struct acme *acme, char *const *urls, size_t count, const char *preferred,
                   STACK_OF(X509) * *chain)
{
	for (size_t i = 0; i < count; i++) {
		STACK_OF(X509) *other = NULL;
		struct error err = { 0 };
		int r = acme_check_url(acme, urls[i], "alternate", &err);

		if (r == 0)
			r = fetch(acme, urls[i], &other, &err);
		if (r < 0) {
			log_warning("a chain is not looked at: %s", err.text);
			continue;
		}
		if (leads_to(other, preferred)) {
			sk_X509_pop_free(*chain, X509_free);
			*chain = other;
			return;
		}
		sk_X509_pop_free(other, X509_free);
	}
	record_addf(acme->job->result, "note",
	            "the CA offers no chain to %s (acme-preferred-chain): it is its own",
	            preferred);
}

int acme_chain(struct acme *acme, const char *url, struct error *err)
{
	const char *preferred = record_get(acme->job->settings, "acme-preferred-chain");
	char *urls[ALTERNATES_LIMIT] = { NULL };
	STACK_OF(X509) *chain = NULL;
	size_t count;
	int r = fetch(acme, url, &chain, err);

	if (r < 0)
		return r;
	count = alternates(acme, url, urls);
	if (preferred && !leads_to(chain, preferred))
		prefer(acme, urls, count, preferred, &chain);
	for (int i = 0; r == 0 && i < sk_X509_num(chain); i++) {
		unsigned char *der = NULL;
		size_t length;

		r = certificate_to_der(sk_X509_value(chain, i), &der, &length);
		if (r == 0)
			record_add_bytes(acme->job->result, "certificate", der, length);
		OPENSSL_free(der);
	}
	for (size_t i = 0; i < count; i++)
		free(urls[i]);
	sk_X509_pop_free(chain, X509_free);
	return r;
}
