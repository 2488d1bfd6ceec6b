/*
 * Questions about certificates (ca/<profile>/verify): settings and PEM, as anybody may write them.
 * The text's own last certificate is the CA, so that its path is built and judged; CRLs in the text
 * are those of the store. A verdict is lines that can be printed, and the same when asked again.
 */
#include "pkifs/identity.h"
#include "pkifs/verify.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define NOW 1798761600 /* 2027-01-01 */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
	if (!condition)
		abort();
}

static STACK_OF(X509_CRL) * crls;

static STACK_OF(X509_CRL) * crls_of(void *user, const X509_NAME *issuer)
{
	STACK_OF(X509_CRL) *found = sk_X509_CRL_new_null();

	(void)user;
	for (int i = 0; i < sk_X509_CRL_num(crls); i++) {
		X509_CRL *crl = sk_X509_CRL_value(crls, i);

		if (X509_NAME_cmp(X509_CRL_get_issuer(crl), issuer) == 0 && X509_CRL_up_ref(crl))
			sk_X509_CRL_push(found, crl);
	}
	return found;
}

static void read_crls(const uint8_t *data, size_t size)
{
	BIO *in = BIO_new_mem_buf(data, (int)size);
	X509_CRL *crl;

	crls = sk_X509_CRL_new_null();
	while (sk_X509_CRL_num(crls) < 4 && (crl = PEM_read_bio_X509_CRL(in, NULL, NULL, NULL)))
		sk_X509_CRL_push(crls, crl);
	BIO_free(in);
	ERR_clear_error();
}

static void printable(const char *text)
{
	for (; *text; text++)
		must(*text == '\n' || ((unsigned char)*text >= 0x20 && *text != 0x7f));
}

/* The verdict on QUESTION; each call gives the same. */
static void judge(struct path_question *asked, struct content *content)
{
	struct path_answer answer;
	struct error err = { 0 };
	int r = path_check(asked, &answer, &err);

	must(r == 0 || (r == -EINVAL && *err.text && answer.failed >= 0));
	must((r == 0) == (answer.failed == -1));
	must(answer.count >= 1 && answer.failed < answer.count);
	must(verify_verdict(&answer, &err, true, content) == 0);
	must(strncmp(content->text, r == 0 ? "ok\n" : "failed: ", r == 0 ? 3 : 8) == 0);
	printable(content->text);
	path_answer_clear(&answer);
}

static void ask(const struct verify_question *question, bool lenient)
{
	STACK_OF(X509) *anchors = sk_X509_new_null();
	struct path_question asked = {
		.now = NOW,
		.clock_trusted = true,
		.anchors = anchors,
		.allow_legacy = lenient,
		.tolerant = lenient,
		.no_anchor = lenient,
		.revocation = { .source = sk_X509_CRL_num(crls) ? PATH_SOURCE_CRL : PATH_SOURCE_OFF,
		                .accept_unknown = lenient,
		                .crls = crls_of },
	};
	struct content first = { 0 }, again = { 0 };
	struct error err = { 0 };
	int count = sk_X509_num(question->certificates);

	must(count >= 1 && count <= VERIFY_CERTIFICATES);
	sk_X509_push(anchors, sk_X509_value(question->certificates, count - 1));
	must(verify_question_ask(question, &asked, &err) == 0); /* the settings were checked */
	judge(&asked, &first);
	judge(&asked, &again);
	must(strcmp(first.text, again.text) == 0);
	content_clear(&first);
	content_clear(&again);
	sk_X509_free(anchors);
}

/* What one end of a tunnel calls itself: each name that a certificate has, it has. */
static void identify(X509 *certificate)
{
	struct record *names = record_new();
	bool found = identity_default(certificate, names);

	must(found == (record_count(names) > 0));
	for (size_t i = 0; i < record_count(names); i++) {
		const struct field *field = record_field(names, i);
		struct path_name name;
		char other[300];

		if (strcmp(field->key, "subject") == 0) /* it may be of more than can be written */
			continue;
		must(identity_check_local(field->value, certificate, NULL) == 0);
		snprintf(other, sizeof other, "*%s", field->value + strcspn(field->value, ".@"));
		if (strcmp(field->key, "domain-name") == 0 &&
		    identity_read(other, &name, NULL) == 0)
			must(identity_fits(&name, certificate));
	}
	record_free(names);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct verify_question question;
	struct error err = { 0 };

	if (verify_question_read((const char *)data, size, &question, &err) == 0) {
		read_crls(data, size);
		ask(&question, false);
		ask(&question, true);
		identify(sk_X509_value(question.certificates, 0));
		sk_X509_CRL_pop_free(crls, X509_CRL_free);
	} else {
		must(*err.text);
		printable(err.text);
	}
	verify_question_clear(&question);
	must(ERR_peek_error() == 0);
	return 0;
}
