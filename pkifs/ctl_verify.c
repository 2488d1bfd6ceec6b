/*
 * pkictl verify: somebody else's certificate, judged by a profile's `verify`; pkictl request
 * verify: one of the store's own.
 */
#include "common/x509.h"
#include "pkifs/ctl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_MAX (1u << 20) /* bytes of a certificate file */

/* The first one is judged, and that is not who issued the next: a text in the wrong order. */
static int check_order(STACK_OF(X509) * certificates, struct error *err)
{
	X509 *first = sk_X509_value(certificates, 0), *next = sk_X509_value(certificates, 1);

	if (!next || X509_check_issued(first, next) != X509_V_OK)
		return 0;
	return error_set(err, -EINVAL,
	                 "the first certificate is the issuer of the next one: the one to be "
	                 "judged comes first, then its chain");
}

/* SETTINGS and the certificates of FILE as `verify` takes them. */
static int compose(const char *file, const struct record *settings, char **text, size_t *length,
                   struct error *err)
{
	STACK_OF(X509) *certificates = NULL;
	struct record *asked = record_copy(settings);
	char *bytes = NULL, *head = NULL, *pem = NULL;
	size_t size = 0, head_length = 0, pem_length = 0;
	int r = asked ? 0 : -ENOMEM;

	if (r == 0)
		r = file_read(file, FILE_MAX, &bytes, &size, err);
	if (r == 0 && certificates_read(bytes, size, 100, &certificates, err) < 0)
		r = -EINVAL;
	if (r == 0)
		r = check_order(certificates, err);
	if (r == 0)
		r = certificates_to_pem(certificates, &pem, &pem_length);
	if (r == 0) {
		record_set(asked, "detail", "yes");
		r = key_merge(&verify_keys, "", 0, asked, &head, &head_length, err);
	}
	if (r == 0) {
		*length = head_length + pem_length;
		*text = malloc(*length + 1);
		r = *text ? 0 : -ENOMEM;
	}
	if (r == 0) {
		memcpy(*text, head, head_length);
		memcpy(*text + head_length, pem, pem_length + 1);
	}
	text_free(bytes, size);
	text_free(head, head_length);
	free(pem);
	sk_X509_pop_free(certificates, X509_free);
	record_free(asked);
	return r < 0 && !err->code ? error_set(err, r, "%s: %s", file, strerror(-r)) : r;
}

/* Writes TEXT to FD and reads the answer from it. */
static int talk(int fd, const char *text, size_t length, char **answer, size_t *answer_length)
{
	char *bytes = malloc(FILE_MAX + 1);
	ssize_t part = 0;
	size_t done = 0;

	if (!bytes)
		return -ENOMEM;
	while (done < length && (part = write(fd, text + done, length - done)) > 0)
		done += (size_t)part;
	for (done = 0; part > 0 && done < FILE_MAX;) {
		part = read(fd, bytes + done, FILE_MAX - done);
		if (part > 0)
			done += (size_t)part;
	}
	if (part < 0) {
		int r = -errno;

		free(bytes);
		return r;
	}
	bytes[done] = 0;
	*answer = bytes;
	*answer_length = done;
	return 0;
}

static int question(const struct ctl *ctl, const struct target *profile, const char *text,
                    size_t length, char **answer, size_t *answer_length, struct error *err)
{
	char path[PATH_MAX];
	int fd, r;

	ctl_path(ctl, profile, "verify", path);
	fd = open(path, O_RDWR | O_CLOEXEC);
	r = fd < 0 ? -errno : talk(fd, text, length, answer, answer_length);
	if (fd >= 0)
		close(fd);
	return r < 0 ? error_set(err, r, "ca/%s/verify: %s", profile->name, strerror(-r)) : 0;
}

/* "key = value" lines, those of a certificate's indented below it. */
static void print_path(const char *lines)
{
	for (const char *end; *lines; lines = end + (*end == '\n')) {
		const char *value = strstr(lines, " = ");
		bool whose = strncmp(lines, "certificate = ", 14) == 0;

		end = lines + strcspn(lines, "\n");
		if (!value || value > end)
			continue;
		if (whose)
			printf("  %.*s\n", (int)(end - value - 3), value + 3);
		else
			printf("      %.*s: %.*s\n", (int)(value - lines), lines,
			       (int)(end - value - 3), value + 3);
	}
}

/* Prints what PROFILE says; 0, or -EPROTO with its first line. */
static int ask_profile(const struct ctl *ctl, const char *file, const struct target *profile,
                       const char *text, size_t length, struct error *err)
{
	size_t answer_length = 0, first;
	char *answer = NULL;
	int r = question(ctl, profile, text, length, &answer, &answer_length, err);

	if (r < 0)
		return r;
	first = strcspn(answer, "\n");
	if (strncmp(answer, "ok\n", 3) == 0)
		printf("%s: ok, by profile %s\n", file, profile->name);
	else
		r = error_set(err, -EPROTO, "%s: %.*s (by profile %s)", file, (int)first, answer,
		              profile->name);
	if (r == 0 || strncmp(answer, "failed: text: ", 14) != 0)
		print_path(answer + first);
	free(answer);
	return r;
}

/* The only profile that there is. */
static int only_profile(const struct ctl *ctl, struct target *profile, struct error *err)
{
	char path[PATH_MAX];
	struct dirent *entry;
	int count = 0, r = 0;
	DIR *folder;

	ctl_path(ctl, NULL, "ca", path);
	folder = opendir(path);
	if (!folder)
		return error_set(err, -errno, "%s: %s", path, strerror(errno));
	while (r == 0 && (entry = readdir(folder)))
		if (*entry->d_name != '.' && ++count == 1)
			r = target_set(profile, "ca", entry->d_name, err);
	closedir(folder);
	if (r == 0 && count != 1)
		r = error_set(err, CTL_USAGE, "%s: say whose by --profile PROFILE",
		              count ? "there are several profiles" : "there is no CA profile");
	return r;
}

int ctl_verify(const struct ctl *ctl, const struct arguments *arguments, struct error *err)
{
	const char *name = record_get(arguments->options, "profile");
	const char *file = arguments->operands[0];
	struct target profile;
	size_t length = 0;
	char *text = NULL;
	int r;

	r = name ? target_need(ctl, "ca", name, &profile, err) : only_profile(ctl, &profile, err);
	if (r == 0)
		r = compose(file, arguments->settings, &text, &length, err);
	if (r == 0)
		r = ask_profile(ctl, strcmp(file, "-") == 0 ? "standard input" : file, &profile,
		                text, length, err);
	free(text);
	return r;
}

/* The lines `verify` of STATUS, as print_path prints those of a file. What is quoted in them has
 * each ";" behind a backslash. */
static void print_lines(const struct record *status)
{
	const struct field *field;
	size_t index = 0;

	while ((field = record_next(status, "verify", &index))) {
		const char *part = field->value, *indent = "  ", *end;

		for (; *part; part = end + (*end ? 2 : 0), indent = "      ") {
			for (end = part; *end && strncmp(end, "; ", 2) != 0; end++)
				end += *end == '\\' && end[1];
			printf("%s%.*s\n", indent, (int)(end - part), part);
		}
	}
}

int request_verify(const struct ctl *ctl, const struct arguments *arguments, struct error *err)
{
	struct record *status = NULL;
	struct target target;
	int r, said;

	r = target_find(ctl, arguments->operands[0], &target, err);
	if (r == 0)
		r = ctl_request(ctl, &target, "verify", arguments->settings, err);
	if (r < 0 || record_find(arguments->options, "no-wait"))
		return r;
	r = wait_for(ctl, &target, arguments->options, err);
	if (r < 0 && r != -EPROTO)
		return r;
	said = ctl_status(ctl, &target, &status, r < 0 ? NULL : err);
	if (said == 0 && r == 0)
		printf("%s: ok\n", target.name);
	if (said == 0)
		print_lines(status);
	record_free(status);
	return r < 0 ? r : said;
}
