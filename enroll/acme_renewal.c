/* When a certificate is to be renewed, as its CA suggests (RFC 9773). */
#include "enroll/acme_client.h"

#include <errno.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SERIAL_MAX  64
#define REASON_MAX  500
#define FIRST_TIME  946684800LL    /* 2000 */
#define LATEST_TIME 253402300799LL /* 9999 */

char *acme_certificate_id(const struct record *job)
{
	const struct field *field = record_find(job, "certificate");
	const unsigned char *at = field ? (const unsigned char *)field->value : NULL;
	X509 *certificate = field ? d2i_X509(NULL, &at, (long)field->length) : NULL;
	const ASN1_OCTET_STRING *issuer =
		certificate ? X509_get0_authority_key_id(certificate) : NULL;
	const ASN1_INTEGER *serial = certificate ? X509_get0_serialNumber(certificate) : NULL;
	unsigned char bytes[SERIAL_MAX], *end = bytes + 2;
	char *first = NULL, *second = NULL, *id = NULL;
	int size = serial ? i2d_ASN1_INTEGER(serial, NULL) : 0;

	if (issuer && ASN1_STRING_length(issuer) > 0 && size > 2 && size < SERIAL_MAX) {
		end = bytes;
		i2d_ASN1_INTEGER(serial, &end);
		first = base64url(ASN1_STRING_get0_data(issuer),
		                  (size_t)ASN1_STRING_length(issuer));
		second = base64url(bytes + 2, (size_t)size - 2); /* behind tag and length */
	}
	if (first && second && asprintf(&id, "%s.%s", first, second) < 0)
		id = NULL;
	X509_free(certificate);
	free(first);
	free(second);
	return id;
}

/* A time of RFC 3339 in Unix seconds; 0: it is none. */
long long acme_time(const char *text)
{
	struct tm parts = { 0 };
	const char *rest = text ? strptime(text, "%Y-%m-%dT%H:%M:%S", &parts) : NULL;
	int hours = 0, minutes = 0, length = 0;
	long long seconds;
	char sign = '+';

	if (rest && *rest == '.')
		rest += 1 + strspn(rest + 1, "0123456789");
	if (!rest)
		return 0;
	if (strcasecmp(rest, "Z") != 0 &&
	    (sscanf(rest, "%c%2d:%2d%n", &sign, &hours, &minutes, &length) != 3 || rest[length] ||
	     (sign != '+' && sign != '-') || hours < 0 || minutes < 0))
		return 0;
	seconds = timegm(&parts);
	seconds += (hours * 60LL + minutes) * (sign == '+' ? -60 : 60);
	return seconds < FIRST_TIME || seconds > LATEST_TIME ? 0 : seconds;
}

static int take_window(struct job *job, const json_t *json, struct error *err)
{
	const json_t *window = json_object_get(json, "suggestedWindow");
	const char *reason = acme_text(json, "explanationURL");
	long long start = acme_time(acme_text(window, "start"));
	long long end = acme_time(acme_text(window, "end"));

	if (!start || end <= start)
		return error_set(err, -EBADMSG, "the CA suggests no time to renew: %.40s to %.40s",
		                 acme_text(window, "start") ? acme_text(window, "start") : "none",
		                 acme_text(window, "end") ? acme_text(window, "end") : "none");
	record_add_number(job->result, "window-start", start);
	record_add_number(job->result, "window-end", end);
	if (reason && strlen(reason) < REASON_MAX)
		record_add(job->result, "explanation", reason);
	return 0;
}

int acme_renewal_info(struct job *job, struct error *err)
{
	struct acme acme = { .job = job, .url = record_get(job->settings, "enrollment-url") };
	const char *where = record_get(job->settings, "renewal-info");
	char *id = acme_certificate_id(job->settings), *url = NULL;
	struct acme_answer answer = { 0 };
	int r = acme.url ? acme_check_url(&acme, where, "renewalInfo", err) : -EINVAL;

	if (r == 0 && !id)
		r = error_set(err, -EINVAL, "the certificate does not name its issuer's key");
	if (r == 0)
		url = http_url_below(where, "", id);
	if (r == 0 && !url)
		r = error_set(err, -ENOMEM, "no memory");
	if (r == 0)
		r = acme_get(&acme, url, &answer, err);
	if (r == 0)
		r = take_window(job, answer.json, err);
	acme_answer_clear(&answer);
	acme_close(&acme);
	free(url);
	free(id);
	return r;
}
