/* pkictl ca …: CA profiles. */
#include "pkifs/ctl.h"

#include "common/x509.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CERTIFICATE_MAX (1u << 20) /* bytes of a file */
#define CRL_MAX         (256u << 20)

/* Makes the profile where it is not there and saves the settings; as it was after an error. */
static int make_profile(const struct ctl *ctl, const struct arguments *arguments,
                        struct target *target, bool *made, struct error *err)
{
	int r;

	r = target_set(target, "ca", arguments->operands[0], err);
	if (r == 0)
		r = target_make(ctl, target, made, err);
	if (r < 0)
		return r;
	r = ctl_configure(ctl, target, arguments->settings, err);
	if (r < 0 && *made)
		target_remove(ctl, target, NULL);
	return r;
}

int ca_add(const struct ctl *ctl, const struct arguments *arguments, struct error *err)
{
	struct target target;
	bool made = false;
	int r;

	r = make_profile(ctl, arguments, &target, &made, err);
	if (r < 0)
		return r;
	if (!made && !record_count(arguments->settings))
		return error_set(err, -EEXIST, "there is a CA profile %s already", target.name);
	printf("CA profile %s %s\n", target.name, made ? "made" : "changed");
	return 0;
}

/* Prints the profile's `fingerprint`. */
static int print_fingerprints(const struct ctl *ctl, const struct target *target, struct error *err)
{
	size_t length = 0;
	char *text = NULL;
	int r;

	r = ctl_read(ctl, target, "fingerprint", &text, &length, err);
	if (r == 0)
		fwrite(text, 1, length, stdout);
	fflush(stdout);
	text_free(text, length);
	return r;
}

/* Writes `confirm` and says what came of it. */
static int confirm(const struct ctl *ctl, const struct target *target, const char *answer,
                   struct error *err)
{
	char line[256];
	int r;

	snprintf(line, sizeof line, "%s\n", answer);
	r = ctl_write(ctl, target, "confirm", line, strlen(line), 0, err);
	if (r < 0)
		return r;
	if (strcmp(answer, "no") == 0)
		return error_set(err, -ECANCELED, "the CA certificate of %s was not confirmed",
		                 target->name);
	printf("CA profile %s is trusted\n", target->name);
	return 0;
}

/* Confirms by --yes or --fingerprint, else by asking. */
static int confirm_pending(const struct ctl *ctl, const struct target *target,
                           const struct record *options, struct error *err)
{
	const char *expected = record_get(options, "fingerprint");

	if (expected)
		return confirm(ctl, target, expected, err);
	if (record_find(options, "yes"))
		return confirm(ctl, target, "yes", err);
	switch (ask("Do the fingerprints match those that the CA gave you?")) {
	case ANSWER_YES:
		return confirm(ctl, target, "yes", err);
	case ANSWER_NO:
		return confirm(ctl, target, "no", err);
	default:
		return error_set(err, -ECANCELED,
		                 "the CA certificate waits for: pkictl ca confirm %s",
		                 target->name);
	}
}

static int is_unconfirmed(const struct ctl *ctl, const struct target *target, bool *unconfirmed,
                          struct error *err)
{
	char path[PATH_MAX];
	struct record *status = NULL;
	int r;

	ctl_path(ctl, target, "pending.pem", path);
	r = ctl_status(ctl, target, &status, err);
	if (r < 0)
		return r;
	*unconfirmed = record_is(status, "state", "unconfirmed") || access(path, F_OK) == 0 ||
	               record_find(status, "next-ca-waits");
	record_free(status);
	return 0;
}

int ca_enroll(const struct ctl *ctl, const struct arguments *arguments, struct error *err)
{
	struct target target;
	bool unconfirmed = false;
	int r;

	r = target_need(ctl, "ca", arguments->operands[0], &target, err);
	if (r == 0)
		r = ctl_request(ctl, &target, "enroll", arguments->settings, err);
	if (r < 0 || record_find(arguments->options, "no-wait"))
		return r;
	r = wait_for(ctl, &target, arguments->options, err);
	if (r == 0)
		r = is_unconfirmed(ctl, &target, &unconfirmed, err);
	if (r == 0)
		r = print_fingerprints(ctl, &target, err);
	if (r < 0)
		return r;
	if (unconfirmed)
		return confirm_pending(ctl, &target, arguments->options, err);
	printf("CA profile %s is trusted\n", target.name);
	return 0;
}

int ca_confirm(const struct ctl *ctl, const struct arguments *arguments, struct error *err)
{
	struct target target;
	bool unconfirmed = false;
	int r;

	r = target_need(ctl, "ca", arguments->operands[0], &target, err);
	if (r == 0)
		r = is_unconfirmed(ctl, &target, &unconfirmed, err);
	if (r < 0)
		return r;
	if (!unconfirmed)
		return error_set(err, -ENOENT,
		                 "no CA certificate of %s waits to be confirmed; fetch one with "
		                 "pkictl ca enroll %s",
		                 target.name, target.name);
	if (record_find(arguments->options, "no"))
		return confirm(ctl, &target, "no", err) == -ECANCELED ? 0 : err->code;
	r = print_fingerprints(ctl, &target, err);
	return r < 0 ? r : confirm_pending(ctl, &target, arguments->options, err);
}

/* Prints CERTIFICATE's fingerprints; *SAME tells whether EXPECTED (may be NULL) is one of them. */
static int show_fingerprints(const X509 *certificate, const char *expected, bool *same,
                             struct error *err)
{
	const EVP_MD *const digests[] = { EVP_sha256(), EVP_sha1(), EVP_md5() };
	static const char *const names[] = { "SHA-256", "SHA-1", "MD5" };
	char *subject = dn_text(X509_get_subject_name(certificate)), text[FINGERPRINT_MAX];
	unsigned char *der = NULL;
	size_t length = 0;
	int r;

	r = subject ? certificate_to_der(certificate, &der, &length) : -ENOMEM;
	if (r == 0)
		printf("# %s\n", subject);
	for (size_t i = 0; r == 0 && i < COUNT(digests); i++) {
		r = fingerprint(digests[i], der, length, text);
		if (r == 0)
			printf("%s = %s\n", names[i], text);
		if (r == 0 && expected && fingerprint_same(expected, text))
			*same = true;
	}
	fflush(stdout);
	OPENSSL_free(der);
	free(subject);
	return r < 0 ? error_set(err, r, "a fingerprint can't be made: %s", strerror(-r)) : 0;
}

/* Shows what is in PEM and lets the user decide. */
static int agree(const char *pem, size_t length, const struct record *options, struct error *err)
{
	const char *expected = record_get(options, "fingerprint");
	STACK_OF(X509) *certificates = NULL;
	bool same = false;
	int r;

	r = certificates_read(pem, length, 100, &certificates, err);
	if (r == 0 && sk_X509_num(certificates) == 0)
		r = error_set(err, -EINVAL, "there is no certificate in the file");
	for (int i = 0; r == 0 && i < sk_X509_num(certificates); i++)
		r = show_fingerprints(sk_X509_value(certificates, i), expected, &same, err);
	sk_X509_pop_free(certificates, X509_free);
	if (r < 0 || same)
		return r;
	if (expected)
		return error_set(
			err, -EINVAL,
			"none of the fingerprints is %.200s: the certificate was not loaded",
			expected);
	if (record_find(options, "yes") ||
	    ask("Do you want to load this CA certificate?") == ANSWER_YES)
		return 0;
	return error_set(err, -ECANCELED, "the CA certificate was not loaded");
}

static int load_certificate(const struct ctl *ctl, const struct target *target,
                            const struct arguments *arguments, struct error *err)
{
	size_t length = 0;
	char *text = NULL;
	int r;

	r = file_read(arguments->operands[1], CERTIFICATE_MAX, &text, &length, err);
	if (r == 0)
		r = agree(text, length, arguments->options, err);
	if (r == 0)
		r = ctl_write(ctl, target, "cert.pem", text, length, 0644, err);
	if (r == 0)
		printf("CA certificate of %s loaded\n", target->name);
	text_free(text, length);
	return r;
}

static int load_crl(const struct ctl *ctl, const struct target *target, const char *path,
                    struct error *err)
{
	size_t length = 0;
	char *text = NULL;
	int r;

	r = file_read(path, CRL_MAX, &text, &length, err);
	if (r == 0)
		r = ctl_write(ctl, target, "crl.pem", text, length, 0644, err);
	if (r == 0)
		printf("CRL of %s loaded\n", target->name);
	text_free(text, length);
	return r;
}

int ca_load(const struct ctl *ctl, const struct arguments *arguments, struct error *err)
{
	const char *crl = record_get(arguments->options, "crl");
	struct target target;
	bool made = false;
	int r;

	if (arguments->count < 2 && !crl)
		return error_set(err, CTL_USAGE,
		                 "name the FILE of the CA certificate, or --crl FILE");
	r = make_profile(ctl, arguments, &target, &made, err);
	if (r < 0)
		return r;
	if (arguments->count == 2)
		r = load_certificate(ctl, &target, arguments, err);
	if (r == 0 && crl)
		r = load_crl(ctl, &target, crl, err);
	if (r < 0 && made)
		target_remove(ctl, &target, NULL);
	return r;
}

int ca_unenroll(const struct ctl *ctl, const struct arguments *arguments, struct error *err)
{
	struct target target;
	int r;

	r = target_need(ctl, "ca", arguments->operands[0], &target, err);
	if (r == 0)
		r = ctl_request(ctl, &target, "unenroll", arguments->settings, err);
	if (r == 0)
		r = wait_for(ctl, &target, arguments->options, err);
	if (r == 0)
		printf("CA certificate and CRL of %s dropped\n", target.name);
	return r;
}
