/* pkictl key, request, enroll, re-enroll, load, wait, export, rm. */
#include "pkifs/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PEM_MAX (1u << 20) /* bytes of a key or certificate file */

/* Writes SIZE bytes to a new file that takes PATH's place whole; only its owner reads a SECRET. */
static int save(const char *path, const char *text, size_t length, bool secret, struct error *err)
{
	char draft[PATH_MAX];
	mode_t mask;
	size_t done = 0;
	int fd, r = 0;

	if (snprintf(draft, sizeof draft, "%s.XXXXXX", path) >= PATH_MAX)
		return error_set(err, -ENAMETOOLONG, "the name of the file is too long");
	fd = mkostemp(draft, O_CLOEXEC); /* 0600 */
	if (fd < 0)
		return error_set(err, -errno, "%s: %s", path, strerror(errno));
	mask = umask(0);
	umask(mask);
	if (!secret && fchmod(fd, 0644 & ~mask) < 0)
		r = -errno;
	while (r == 0 && done < length) {
		ssize_t put = write(fd, text + done, length - done);

		if (put > 0)
			done += (size_t)put;
		else if (errno != EINTR)
			r = -errno;
	}
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (close(fd) < 0 && r == 0)
		r = -errno;
	if (r == 0 && rename(draft, path) < 0)
		r = -errno;
	if (r < 0)
		unlink(draft);
	return r < 0 ? error_set(err, r, "%s: %s", path, strerror(-r)) : 0;
}

/* FILE of TARGET to standard output, or to where --output says. */
static int export_file(const struct ctl *ctl, const struct target *target, const char *file,
                       const struct record *options, struct error *err)
{
	const char *output = record_get(options, "output");
	bool secret = strcmp(file, "key.pem") == 0 || strcmp(file, "bundle.pem") == 0;
	size_t length = 0;
	char *text = NULL;
	int r;

	r = ctl_read(ctl, target, file, &text, &length, err);
	if (r == -ENOENT)
		error_set(err, r, "%s/%s has no %s yet", target->kind, target->name, file);
	if (r < 0)
		return r;
	if (output && strcmp(output, "-") != 0)
		r = save(output, text, length, secret, err);
	else if (fwrite(text, 1, length, stdout) != length || fflush(stdout) < 0)
		r = error_set(err, -EIO, "standard output: %s", strerror(errno));
	text_free(text, length);
	if (r == 0 && output && strcmp(output, "-") != 0)
		printf("%s of %s written to %s\n", file, target->name, output);
	return r;
}

/* Makes the certificate id where it is not there, and writes the request, settings and all. */
static int make_and_request(const struct ctl *ctl, const struct arguments *arguments,
                            const char *action, struct target *target, struct error *err)
{
	const char *name = arguments->operands[0];
	bool made = false;
	int r;

	if (strncmp(name, "local/", strlen("local/")) == 0)
		name += strlen("local/");
	r = target_set(target, "local", name, err);
	if (r == 0)
		r = target_make(ctl, target, &made, err);
	if (r < 0)
		return r;
	r = ctl_request(ctl, target, action, arguments->settings, err);
	if (r < 0) {
		if (made)
			target_remove(ctl, target, NULL);
		return r;
	}
	return wait_for(ctl, target, arguments->options, err);
}

int key_generate(const struct ctl *ctl, const struct arguments *arguments, struct error *err)
{
	struct target target;
	int r = make_and_request(ctl, arguments, "generate-key-pair", &target, err);

	if (r == 0 && !record_find(arguments->options, "no-wait"))
		printf("key pair of %s made\n", target.name);
	return r;
}

int request_csr(const struct ctl *ctl, const struct arguments *arguments, struct error *err)
{
	struct target target;
	int r = make_and_request(ctl, arguments, "generate-csr", &target, err);

	if (r < 0 || record_find(arguments->options, "no-wait"))
		return r;
	return export_file(ctl, &target, "csr.pem", arguments->options, err);
}

/* What there is now, in one line. */
static int print_certificate(const struct ctl *ctl, const struct target *target,
                             const struct record *options, struct error *err)
{
	struct record *status = NULL;
	const char *subject, *until;
	int r;

	if (record_find(options, "no-wait"))
		return 0;
	r = ctl_status(ctl, target, &status, err);
	if (r < 0)
		return r;
	subject = record_get(status, "subject");
	until = record_get(status, "not-after");
	printf("certificate of %s: %s, until %s\n", target->name, subject ? subject : "?",
	       until ? until : "?");
	record_free(status);
	return 0;
}

int request_self_signed(const struct ctl *ctl, const struct arguments *arguments, struct error *err)
{
	struct target target;
	int r = make_and_request(ctl, arguments, "generate-self-signed", &target, err);

	return r < 0 ? r : print_certificate(ctl, &target, arguments->options, err);
}

int local_enroll(const struct ctl *ctl, const struct arguments *arguments, struct error *err)
{
	struct target target;
	int r = make_and_request(ctl, arguments, "enroll", &target, err);

	return r < 0 ? r : print_certificate(ctl, &target, arguments->options, err);
}

int local_re_enroll(const struct ctl *ctl, const struct arguments *arguments, struct error *err)
{
	struct target target;
	int r;

	r = target_need(ctl, "local", arguments->operands[0], &target, err);
	if (r == 0)
		r = ctl_request(ctl, &target, "re-enroll", arguments->settings, err);
	if (r == 0)
		r = wait_for(ctl, &target, arguments->options, err);
	return r < 0 ? r : print_certificate(ctl, &target, arguments->options, err);
}

/* What a text of several PEM blocks has of one kind. */
struct blocks {
	const char *kind; /* what the label ends with */
	char *text;       /* text_free */
	size_t length;
};

/* Adds those blocks of TEXT whose label ends with KIND; all of it where ALL. */
static int add_blocks(struct blocks *blocks, const char *text, size_t length, bool all)
{
	char *bigger = OPENSSL_zalloc(blocks->length + length + 2);
	char end[40];

	if (!bigger)
		return -ENOMEM;
	snprintf(end, sizeof end, "%s-----", blocks->kind);
	if (blocks->length)
		memcpy(bigger, blocks->text, blocks->length);
	text_free(blocks->text, blocks->length);
	blocks->text = bigger;
	if (all) {
		memcpy(bigger + blocks->length, text, length);
		blocks->length += length;
		return 0;
	}
	/* blocks end with their line and do not overlap, so there is room for all, newlines too */
	for (const char *at = text; (at = strstr(at, "-----BEGIN "));) {
		size_t label = strcspn(at, "\r\n"), size;
		const char *last = strstr(at, "-----END ");

		if (!last)
			break;
		size = (size_t)(last - at) + strcspn(last, "\n");
		if (label >= strlen(end) &&
		    strncmp(at + label - strlen(end), end, strlen(end)) == 0) {
			memcpy(bigger + blocks->length, at, size);
			blocks->length += size;
			bigger[blocks->length++] = '\n';
		}
		at += size;
	}
	return 0;
}

/* Reads the file PATH (NULL: none) into what it may have something of. */
static int read_blocks(const char *path, struct blocks *key, struct blocks *certificates,
                       struct error *err)
{
	struct blocks *const both[] = { key, certificates };
	size_t length = 0, before = 0, after = 0;
	char *text = NULL;
	int r = path ? file_read(path, PEM_MAX, &text, &length, err) : 0;

	for (size_t i = 0; r == 0 && text && i < COUNT(both); i++) {
		if (!both[i])
			continue;
		before += both[i]->length;
		r = add_blocks(both[i], text, length, false);
		after += both[i]->length;
	}
	if (r == 0 && text && before == after && key && certificates)
		r = error_set(err, -EINVAL,
		              "%s: there is neither key nor certificate in PEM in it%s", path,
		              *text == '0' /* a SEQUENCE */
		                      ? "; of DER, `openssl x509 -inform DER` makes that, of "
		                        "PKCS#12 `openssl pkcs12 -in FILE -nodes`"
		                      : "");
	else if (r == 0 && text && before == after) /* the store says what is wrong with it */
		r = add_blocks(key ? key : certificates, text, length, true);
	text_free(text, length);
	return r == -ENOMEM ? error_set(err, r, "out of memory") : r;
}

/* Writes what there is to FILE of TARGET. */
static int load_blocks(const struct ctl *ctl, const struct target *target,
                       const struct blocks *blocks, const char *file, mode_t mode,
                       struct error *err)
{
	if (!blocks->length)
		return 0;
	return ctl_write(ctl, target, file, blocks->text, blocks->length, mode, err);
}

/* Key and certificates: from the file that has all, and from those that have one. */
static int gather(const struct arguments *arguments, struct blocks *key,
                  struct blocks *certificates, struct error *err)
{
	const struct record *options = arguments->options;
	const char *all = arguments->count > 1 ? arguments->operands[1] : NULL;
	int r;

	if (!all && !record_count(options))
		return error_set(err, CTL_USAGE,
		                 "name what to load: a FILE that has all, or --key FILE, "
		                 "--cert FILE, --chain FILE");
	r = read_blocks(record_get(options, "key"), key, NULL, err);
	if (r == 0)
		r = read_blocks(record_get(options, "cert"), NULL, certificates, err);
	if (r == 0)
		r = read_blocks(all, key, certificates, err);
	if (r == 0)
		r = read_blocks(record_get(options, "chain"), NULL, certificates, err);
	return r;
}

int local_load(const struct ctl *ctl, const struct arguments *arguments, struct error *err)
{
	struct blocks key = { .kind = "PRIVATE KEY" }, certificates = { .kind = "CERTIFICATE" };
	bool made = false, key_loaded = false;
	struct target target;
	int r;

	r = gather(arguments, &key, &certificates, err);
	if (r == 0)
		r = target_set(&target, "local", arguments->operands[0], err);
	if (r == 0)
		r = target_make(ctl, &target, &made, err);
	if (r == 0)
		r = ctl_configure(ctl, &target, arguments->settings, err);
	if (r == 0) /* the key first: a certificate without one is refused */
		r = load_blocks(ctl, &target, &key, "key.pem", 0600, err);
	key_loaded = r == 0 && key.length;
	if (r == 0)
		r = load_blocks(ctl, &target, &certificates, "cert.pem", 0644, err);
	if (r < 0 && made) {
		target_remove(ctl, &target, NULL);
		key_loaded = false;
	}
	if (key_loaded) /* not before: with what was made for it the key is gone again */
		printf("key.pem of %s loaded\n", target.name);
	if (r == 0 && certificates.length)
		printf("cert.pem of %s loaded\n", target.name);
	text_free(key.text, key.length);
	text_free(certificates.text, certificates.length);
	return r;
}

int ctl_cancel(const struct ctl *ctl, const struct arguments *arguments, struct error *err)
{
	struct target target;
	int r;

	r = target_find(ctl, arguments->operands[0], &target, err);
	if (r == 0)
		r = ctl_request(ctl, &target, "cancel", arguments->settings, err);
	if (r == 0)
		printf("request for %s/%s cancelled\n", target.kind, target.name);
	return r;
}

int ctl_wait(const struct ctl *ctl, const struct arguments *arguments, struct error *err)
{
	struct target target;
	int r;

	r = target_find(ctl, arguments->operands[0], &target, err);
	return r < 0 ? r : wait_for(ctl, &target, arguments->options, err);
}

/* What can be exported, by option; the first of a kind is what is without any. */
static const struct {
	const char *kind, *option, *file;
} exports[] = {
	{ "ca", "cert", "cert.pem" },    { "ca", "chain", "chain.pem" },
	{ "ca", "crl", "crl.pem" },      { "local", "fullchain", "fullchain.pem" },
	{ "local", "cert", "cert.pem" }, { "local", "chain", "chain.pem" },
	{ "local", "csr", "csr.pem" },   { "local", "public", "public.pem" },
	{ "local", "key", "key.pem" },   { "local", "bundle", "bundle.pem" },
};

int ctl_export(const struct ctl *ctl, const struct arguments *arguments, struct error *err)
{
	const char *file = NULL, *first = NULL;
	struct target target;
	unsigned count = 0;
	int r;

	r = target_find(ctl, arguments->operands[0], &target, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < COUNT(exports); i++) {
		if (strcmp(exports[i].kind, target.kind) != 0)
			continue;
		first = first ? first : exports[i].file;
		if (!record_find(arguments->options, exports[i].option))
			continue;
		file = exports[i].file;
		count++;
	}
	if (!first)
		return error_set(err, CTL_USAGE, "%s/%s has nothing to export", target.kind,
		                 target.name);
	if (count > 1 || (!count && record_count(arguments->options) >
	                                    (record_find(arguments->options, "output") ? 1 : 0)))
		return error_set(err, CTL_USAGE, "name one file that a %s has",
		                 *target.kind == 'c' ? "CA profile" : "certificate id");
	return export_file(ctl, &target, file ? file : first, arguments->options, err);
}

int ctl_rm(const struct ctl *ctl, const struct arguments *arguments, struct error *err)
{
	struct target target;
	char question[160];
	int r;

	r = target_find(ctl, arguments->operands[0], &target, err);
	if (r < 0)
		return r;
	snprintf(question, sizeof question, "Remove %s/%s%s?", target.kind, target.name,
	         *target.kind == 'c' ? "" : ", its keys and its history");
	if (!record_find(arguments->options, "yes") && ask(question) != ANSWER_YES)
		return error_set(err, -ECANCELED, "%s/%s was not removed", target.kind,
		                 target.name);
	r = target_remove(ctl, &target, err);
	if (r == 0)
		printf("%s/%s removed\n", target.kind, target.name);
	return r;
}
