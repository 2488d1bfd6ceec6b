/* pkictl: finding the mount, reading the command line, what it shows, and files it writes. */
#include "common/x509.h"
#include "pkifs/ctl.h"

#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *walk)
{
	(void)info;
	(void)type;
	(void)walk;
	return remove(path);
}

/* A folder that looks like a mount, with a profile and a certificate id of the same name. */
static int set_up(void **state)
{
	static const char *const folders[] = { "ca",      "local",     "ca/corp",
		                               "ca/both", "local/www", "local/both" };
	static const char *const files[] = { "README", "status", "ca/corp/config",
		                             "local/www/request" };
	static struct ctl ctl;
	char root[] = "/tmp/pkictl-XXXXXX", path[PATH_MAX];
	struct error err;

	if (!mkdtemp(root))
		return -1;
	for (size_t i = 0; i < COUNT(folders); i++) {
		snprintf(path, sizeof path, "%s/%s", root, folders[i]);
		if (mkdir(path, 0700) < 0)
			return -1;
	}
	for (size_t i = 0; i < COUNT(files); i++) {
		FILE *file;

		snprintf(path, sizeof path, "%s/%s", root, files[i]);
		file = fopen(path, "w");
		if (!file || fclose(file) != 0)
			return -1;
	}
	ctl = (struct ctl){ .columns = 80 };
	*state = &ctl;
	return ctl_find(&ctl, root, &err);
}

static int tear_down(void **state)
{
	struct ctl *ctl = *state;

	return nftw(ctl->root, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

#define OTHER "22 1 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n"
#define PKI   "90 1 0:50 / /pki rw,nosuid shared:9 master:1 - fuse.pkifs pkifs rw,user_id=0\n"
#define HOME  "91 1 0:51 / /home/a\\040b/pki rw - fuse.pkifs pkifs rw,user_id=1000\n"
#define TRICK "92 1 0:52 / /fuse.pkifs rw - fuse.sshfs fuse.pkifs rw\n"

static void the_mount_is_found_in_mountinfo(void **state)
{
	char root[PATH_MAX];

	(void)state;
	assert_int_equal(mount_in_mountinfo(OTHER PKI, root), 0);
	assert_string_equal(root, "/pki");
	assert_int_equal(mount_in_mountinfo(HOME OTHER TRICK, root), 0);
	assert_string_equal(root, "/home/a b/pki");
	assert_int_equal(mount_in_mountinfo(HOME PKI, root), 0);
	assert_string_equal(root, "/pki");
	assert_int_equal(mount_in_mountinfo(HOME HOME, root), -EEXIST);
	assert_int_equal(mount_in_mountinfo(OTHER TRICK, root), -ENOENT);
	assert_int_equal(mount_in_mountinfo("", root), -ENOENT);
	assert_int_equal(mount_in_mountinfo("90 1 0:50 / /pki", root), -ENOENT);
	assert_int_equal(mount_in_mountinfo("\n\n-\n", root), -ENOENT);
}

static void a_folder_that_is_no_mount_is_refused(void **state)
{
	struct ctl ctl;
	struct error err;

	(void)state;
	assert_int_equal(ctl_find(&ctl, "/proc", &err), CTL_NO_MOUNT);
	assert_string_equal(err.text, "no store is mounted at /proc");
}

static void a_name_finds_its_object_unless_it_is_both(void **state)
{
	const struct ctl *ctl = *state;
	struct target target;
	struct error err;

	assert_int_equal(target_find(ctl, "corp", &target, &err), 0);
	assert_string_equal(target.kind, "ca");
	assert_int_equal(target_find(ctl, "local/both", &target, &err), 0);
	assert_string_equal(target.kind, "local");
	assert_string_equal(target.name, "both");
	assert_int_equal(target_find(ctl, "both", &target, &err), CTL_USAGE);
	assert_int_equal(target_find(ctl, "ca/www", &target, &err), -ENOENT);
	assert_int_equal(target_find(ctl, "../corp", &target, &err), CTL_USAGE);
	assert_int_equal(target_find(ctl, "ca/../local", &target, &err), CTL_USAGE);
}

static const struct command command = {
	.name = "test",
	.operands = "ID [FILE]",
	.options = "yes timeout= key",
	.settings = &local_request_keys,
};

static int read_words(struct arguments *arguments, struct error *err, const char *first, ...)
{
	static char copies[8][128];
	char *words[8];
	int count = 0, r;
	va_list args;

	va_start(args, first);
	for (const char *word = first; word; word = va_arg(args, const char *)) {
		snprintf(copies[count], sizeof copies[count], "%s", word);
		words[count] = copies[count];
		count++;
	}
	va_end(args);
	*err = (struct error){ 0 };
	r = arguments_read(&command, count, words, arguments, err);
	for (int i = 0; i < count; i++)
		assert_null(strstr(copies[i], "hunter2"));
	return r;
}

static void settings_stand_as_options_and_as_assignments(void **state)
{
	struct arguments arguments;
	struct error err;
	size_t index = 0;

	(void)state;
	assert_int_equal(read_words(&arguments, &err, "www", "--domain-name", "a.example", "-t5",
	                            "domain-name=b.example", "--digest=sha384", "--yes", NULL),
	                 0);
	assert_string_equal(arguments.operands[0], "www");
	assert_int_equal(arguments.count, 1);
	assert_string_equal(record_get(arguments.options, "timeout"), "5");
	assert_non_null(record_find(arguments.options, "yes"));
	assert_string_equal(record_get(arguments.settings, "digest"), "sha384");
	assert_string_equal(record_next(arguments.settings, "domain-name", &index)->value,
	                    "a.example");
	assert_string_equal(record_next(arguments.settings, "domain-name", &index)->value,
	                    "b.example");
	arguments_clear(&arguments);
	assert_int_equal(read_words(&arguments, &err, "www", "--", "--yes", NULL), 0);
	assert_string_equal(arguments.operands[1], "--yes");
	arguments_clear(&arguments);
}

static void a_secret_does_not_stay_on_the_command_line(void **state)
{
	struct arguments arguments;
	struct error err;

	(void)state; /* read_words looks whether it is gone */
	assert_int_equal(
		read_words(&arguments, &err, "www", "--challenge-password", "hunter2", NULL), 0);
	assert_string_equal(record_get(arguments.settings, "challenge-password"), "hunter2");
	arguments_clear(&arguments);
	assert_int_equal(read_words(&arguments, &err, "www", "ca-secret=hunter2", NULL), 0);
	assert_string_equal(record_get(arguments.settings, "ca-secret"), "hunter2");
	arguments_clear(&arguments);
}

static void a_secret_comes_from_a_file(void **state)
{
	const struct ctl *ctl = *state;
	struct arguments arguments;
	struct error err;
	char path[PATH_MAX], at[PATH_MAX + 1];
	FILE *file;

	snprintf(path, sizeof path, "%.100s/secret", ctl->root);
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(" pass word\r\nmore\n", file);
	fclose(file);
	snprintf(at, sizeof at, "@%s", path);
	assert_int_equal(read_words(&arguments, &err, "www", "--challenge-password", at, NULL), 0);
	assert_string_equal(record_get(arguments.settings, "challenge-password"), " pass word");
	arguments_clear(&arguments);
	assert_int_equal(
		read_words(&arguments, &err, "www", "--challenge-password-file", path, NULL), 0);
	assert_string_equal(record_get(arguments.settings, "challenge-password"), " pass word");
	arguments_clear(&arguments);
	assert_int_equal(
		read_words(&arguments, &err, "www", "--challenge-password", "@/nonexistent", NULL),
		-ENOENT);
	arguments_clear(&arguments);
}

static void wrong_words_are_refused_as_usage(void **state)
{
	static const struct {
		const char *words[4], *sentence;
	} wrong[] = {
		{ { NULL }, "test needs ID [FILE]" },
		{ { "a", "b", "c" }, "test: \"c\" is too much" },
		{ { "a", "--keysize", "1" }, "unknown option --keysize; did you mean --key-size?" },
		{ { "a", "--colour", "1" }, "test has no option --colour" },
		{ { "a", "--action", "enroll" }, "test has no option --action" },
		{ { "a", "-x" }, "test has no option -x" },
		{ { "a", "--yes=no" }, "--yes takes no value" },
		{ { "a", "--digest" }, "--digest needs a value" },
		{ { "a", "-t" }, "--timeout needs a value" },
		{ { "a", "--digest-file", "x" }, "test has no option --digest-file" },
		{ { "a", "--validity-period", "0" },
		  "validity-period takes 1 to 4095 days, not \"0\"" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(wrong); i++) {
		const char *const *words = wrong[i].words;
		struct arguments arguments;
		struct error err;

		assert_int_equal(read_words(&arguments, &err, words[0], words[1], words[2], NULL),
		                 CTL_USAGE);
		assert_string_equal(err.text, wrong[i].sentence);
		arguments_clear(&arguments);
	}
}

static char *read_back(const struct ctl *ctl, const struct target *target, const char *file)
{
	static char copy[1024];
	size_t length;
	char *text;

	assert_int_equal(ctl_read(ctl, target, file, &text, &length, NULL), 0);
	assert_true(length < sizeof copy);
	memcpy(copy, text, length + 1);
	text_free(text, length);
	return copy;
}

static void settings_are_saved_beside_what_is_there(void **state)
{
	static const char old[] = "# mine\nprotocol = scep\nacme-eab-key = ***\n";
	const struct ctl *ctl = *state;
	struct record *settings = record_new();
	struct target target;
	struct error err;

	assert_int_equal(target_set(&target, "ca", "corp", &err), 0);
	assert_int_equal(ctl_write(ctl, &target, "config", old, strlen(old), 0, &err), 0);
	record_add(settings, "protocol", "est");
	record_add(settings, "ca-identity", "x");
	assert_int_equal(ctl_configure(ctl, &target, settings, &err), 0);
	assert_string_equal(read_back(ctl, &target, "config"),
	                    "# mine\nprotocol = est\nacme-eab-key = ***\nca-identity = x\n");
	record_free(settings);
}

static void a_request_holds_action_and_settings(void **state)
{
	const struct ctl *ctl = *state;
	struct record *settings = record_new();
	struct target target;
	struct error err;

	assert_int_equal(target_set(&target, "local", "www", &err), 0);
	record_add(settings, "challenge-password", " x ");
	assert_int_equal(ctl_request(ctl, &target, "enroll", settings, &err), 0);
	assert_string_equal(read_back(ctl, &target, "request"),
	                    "action = enroll\nchallenge-password = \" x \"\n");
	assert_int_equal(ctl_write(ctl, &target, "confirm", "yes\n", 4, 0, &err), -ENOENT);
	assert_non_null(strstr(err.text, "local/www/confirm can't be written"));
	record_free(settings);
}

static void the_end_of_a_request_is_waited_for(void **state)
{
	static const struct {
		const char *line;
		int code;
	} ends[] = { { "ok\n", 0 }, { "none\n", 0 }, { "failed: the CA says no\n", -EPROTO } };
	const struct ctl *ctl = *state;
	struct record *options = record_new();
	struct target target;
	struct error err;

	assert_int_equal(target_set(&target, "local", "www", &err), 0);
	for (size_t i = 0; i < COUNT(ends); i++) {
		assert_int_equal(ctl_write(ctl, &target, "wait", ends[i].line, strlen(ends[i].line),
		                           0600, &err),
		                 0);
		assert_int_equal(wait_for(ctl, &target, options, &err), ends[i].code);
	}
	assert_string_equal(err.text, "the CA says no");
	record_free(options);
}

static void a_wait_that_is_too_long_says_how_to_go_on(void **state)
{
	const struct ctl *ctl = *state;
	struct record *options = record_new();
	struct target target;
	struct error err;
	char path[PATH_MAX];

	assert_int_equal(target_set(&target, "local", "www", &err), 0);
	ctl_path(ctl, &target, "wait", path);
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	/* a writer that says nothing; O_RDWR so that neither side waits for the other */
	FILE *writer = fopen(path, "r+");

	assert_non_null(writer);
	record_add(options, "timeout", "0");
	assert_int_equal(wait_for(ctl, &target, options, &err), -ETIMEDOUT);
	assert_non_null(strstr(err.text, "pkictl wait local/www"));
	fclose(writer);
	record_set(options, "timeout", "soon");
	assert_int_equal(wait_for(ctl, &target, options, &err), CTL_USAGE);
	record_free(options);
}

static void times_are_told_by_their_distance(void **state)
{
	char text[40];

	(void)state;
	assert_int_equal(rfc3339_seconds("1970-01-02T00:00:01Z"), 86401);
	assert_int_equal(rfc3339_seconds("2026-01-01"), -1);
	assert_int_equal(rfc3339_seconds(""), -1);
	time_distance(86400 * 3, 0, text);
	assert_string_equal(text, "in 3 days");
	time_distance(0, 5400, text);
	assert_string_equal(text, "90 minutes ago");
	time_distance(0, 1, text);
	assert_string_equal(text, "1 second ago");
}

static const char json[] =
	"{\"ca\":[{\"name\":\"corp\",\"state\":\"unconfirmed\"}],\"local\":["
	"{\"name\":\"a-very-long-name-of-a-certificate-id-that-nobody-would-give\","
	"\"state\":\"valid\",\"not-after\":\"2027-11-23T10:00:00Z\",\"request\":\"failed\","
	"\"last-error\":\"the CA refused: badRequest: ünïcödé and many more words that go on\"},"
	"{\"name\":\"\\u001b[2J\\n\",\"state\":\"\\u009b2J\"},"
	"{\"name\":7,\"state\":null},{}]}";

static void the_table_fits_eighty_columns(void **state)
{
	struct ctl *ctl = *state;
	char *text = NULL, *rest, *line;
	size_t length, lines = 0;
	FILE *out = open_memstream(&text, &length);
	struct error err;

	assert_non_null(out);
	assert_int_equal(show_table(ctl, json, strlen(json), 0, out, &err), 0);
	fclose(out);
	assert_non_null(strstr(text, "a-very-long-name"));
	assert_non_null(strstr(text, "2027-11-23"));
	assert_non_null(strstr(text, "the CA refused"));
	assert_null(strchr(text, '\033'));
	assert_non_null(strstr(text, "?[2J?"));
	assert_null(strstr(text, "\xc2\x9b"));
	rest = text;
	while ((line = strsep(&rest, "\n"))) {
		size_t columns = 0;

		for (lines++; *line; line++)
			columns += ((unsigned char)*line & 0xc0) != 0x80;
		assert_true(columns <= 80);
	}
	assert_int_equal(lines, 9);
	free(text);
	assert_int_equal(show_table(ctl, "{", 1, 0, stdout, &err), -EBADMSG);
}

static void a_tunnel_says_since_when_and_why(void **state)
{
	static const char tunnels[] =
		"{\"ipsec\":[{\"name\":\"berlin\",\"state\":\"cut\",\"request\":\"done\","
		"\"since\":\"2026-11-23T10:00:00Z\",\"last-error\":\"gate is revoked\"}]}";
	struct target target = { .kind = "ipsec" };
	struct record *status = record_new();
	char *text = NULL;
	size_t length;
	FILE *out = open_memstream(&text, &length);

	assert_non_null(out);
	assert_int_equal(show_table(*state, tunnels, strlen(tunnels), 0, out, NULL), 0);
	record_add(status, "state", "cut");
	record_add(status, "request", "done");
	record_add(status, "last-error", "gate is revoked");
	show_advice(*state, &target, status, 0, out);
	fclose(out);
	assert_non_null(
		strstr(text, "berlin         cut         2026-11-23 done     gate is revoked"));
	assert_non_null(strstr(text, "Wrong: gate is revoked\n"));
	record_free(status);
	free(text);
}

static void what_is_revoked_is_not_said_to_expire(void **state)
{
	struct target target = { .kind = "local", .name = "www" };
	struct record *status = record_new();
	char *text = NULL;
	size_t length;
	FILE *out = open_memstream(&text, &length);

	assert_non_null(out);
	record_add(status, "state", "revoked");
	record_add(status, "next-action", "expire");
	record_add(status, "next-action-at", "2027-11-23T10:00:00Z");
	show_advice(*state, &target, status, 0, out);
	fclose(out);
	assert_non_null(strstr(text, "To do: pkictl re-enroll www --re-generate-keypair yes\n"));
	assert_null(strstr(text, "Next:"));
	record_free(status);
	free(text);
}

static void colours_are_for_terminals(void **state)
{
	struct ctl ctl = { .columns = 80, .color = true };
	size_t length;
	char *text = NULL;
	FILE *out = open_memstream(&text, &length);
	struct error err;

	(void)state;
	assert_non_null(out);
	assert_int_equal(show_table(&ctl, json, strlen(json), 0, out, &err), 0);
	fclose(out);
	assert_non_null(strstr(text, "\033[31mfailed"));
	free(text);
}

static void an_event_is_one_readable_line(void **state)
{
	static const char event[] =
		"{\"time\":\"2026-11-23T10:00:00Z\",\"event\":\"enrolled\",\"kind\":\"local\","
		"\"name\":\"www\",\"serial\":\"01\",\"version\":2,\"reason\":\"a\\u001b[2Jb\\n\"}";
	char text[64];

	(void)state;
	assert_true(event_text(event, strlen(event), false, text, sizeof text));
	assert_string_equal(text, "2026-11-23T10:00:00Z  local/www  enrolled: version 2, a?[2Jb?");
	assert_true(event_text("{}", 2, true, text, sizeof text));
	assert_false(event_text("", 0, true, text, sizeof text));
	assert_false(event_text("[1]", 3, true, text, sizeof text));
	assert_true(event_text(event, strlen(event), false, text, 20));
	assert_int_equal(strlen(text), 19);
}

/* Runs pkictl with its output thrown away; *TEXT (the caller's, free) gets what it printed. */
static int run(char **text, const char *first, ...)
{
	static char copies[8][PATH_MAX];
	char *argv[10] = { (char[]){ "pkictl" } };
	FILE *out = tmpfile(), *stdout_was = stdout, *stderr_was = stderr;
	int argc = 1, code;
	long length;
	va_list args;

	assert_non_null(out);
	va_start(args, first);
	for (const char *word = first; word; word = va_arg(args, const char *)) {
		snprintf(copies[argc], PATH_MAX, "%s", word);
		argv[argc] = copies[argc];
		argc++;
	}
	va_end(args);
	stdout = stderr = out;
	code = ctl_main(argc, argv);
	stdout = stdout_was;
	stderr = stderr_was;
	length = ftell(out);
	*text = calloc(1, (size_t)length + 1);
	assert_non_null(*text);
	rewind(out);
	assert_int_equal(fread(*text, 1, (size_t)length, out), length);
	fclose(out);
	return code;
}

static void exit_codes_tell_what_went_wrong(void **state)
{
	const struct ctl *ctl = *state;
	static const struct {
		const char *words[4];
		int code;
		const char *says;
	} runs[] = {
		{ { "--help" }, EXIT_DONE, "From nothing to a certificate" },
		{ { "--version" }, EXIT_DONE, PKIFS_VERSION },
		{ { NULL }, EXIT_WRONG_USAGE, "usage: pkictl" },
		{ { "ca" }, EXIT_WRONG_USAGE, "ca enroll" },
		{ { "frobnicate" }, EXIT_WRONG_USAGE, "no command \"frobnicate\"" },
		{ { "wait" }, EXIT_WRONG_USAGE, "wait needs ID" },
		{ { "enroll", "../x" }, EXIT_WRONG_USAGE, "is no name" },
		{ { "ca", "add", "x", "--protocol=x" }, EXIT_WRONG_USAGE, "protocol takes" },
		{ { "ca", "add", "corp" }, EXIT_FAILED, "there is a CA profile corp already" },
		{ { "wait", "nobody" }, EXIT_FAILED, "there is no CA profile or" },
		{ { "verify", "x.pem" }, EXIT_WRONG_USAGE, "there are several profiles" },
		{ { "verify", "x.pem", "--profile=corp" }, EXIT_FAILED, "x.pem: No such file" },
		{ { "export", "ca/corp" }, EXIT_FAILED, "has no cert.pem yet" },
		{ { "export", "ca/corp", "--key" }, EXIT_WRONG_USAGE, "name one file" },
		{ { "-m", "/proc", "show" }, EXIT_NO_MOUNT, "no store is mounted at /proc" },
		{ { "-m/proc" }, EXIT_WRONG_USAGE, "no command" },
	};

	setenv("PKIFS_MOUNT", ctl->root, 1);
	for (size_t i = 0; i < COUNT(runs); i++) {
		const char *const *words = runs[i].words;
		char *text = NULL;
		int code = run(&text, words[0], words[1], words[2], words[3], NULL);

		if (code != runs[i].code || !strstr(text, runs[i].says))
			fail_msg("pkictl %s …: %d and \"%s\"", words[0] ? words[0] : "", code,
			         text);
		free(text);
	}
	unsetenv("PKIFS_MOUNT");
}

static void every_command_explains_itself_by_example(void **state)
{
	char *overview = NULL, *rest, *line;
	unsigned commands = 0;

	(void)state;
	assert_int_equal(run(&overview, "--help", NULL), EXIT_DONE);
	rest = strstr(overview, "\n  ca add");
	assert_non_null(rest);
	rest++;
	while ((line = strsep(&rest, "\n")) && *line) {
		char first[32] = "", second[32] = "", *text = NULL;

		assert_true(strlen(line) <= 80);
		line[22] = 0;
		assert_true(sscanf(line, "%31s %31s", first, second) >= 1);
		assert_int_equal(run(&text, first, "--help", *second ? second : NULL, NULL),
		                 EXIT_DONE);
		assert_non_null(strstr(text, "For example:\n  pkictl"));
		free(text);
		commands++;
	}
	assert_int_equal(commands, 20);
	free(overview);
}

static void an_exported_key_is_its_owners_alone(void **state)
{
	const struct ctl *ctl = *state;
	char path[PATH_MAX], *text = NULL;
	struct target target;
	struct stat info;
	struct error err;

	assert_int_equal(target_set(&target, "local", "www", &err), 0);
	assert_int_equal(ctl_write(ctl, &target, "key.pem", "KEY\n", 4, 0600, &err), 0);
	assert_int_equal(ctl_write(ctl, &target, "cert.pem", "CERT\n", 5, 0644, &err), 0);
	snprintf(path, sizeof path, "%.100s/exported", ctl->root);
	assert_int_equal(run(&text, "-m", ctl->root, "export", "www", "--key", "-o", path, NULL),
	                 0);
	free(text);
	assert_int_equal(stat(path, &info), 0);
	assert_int_equal(info.st_mode & 0777, 0600);
	umask(022);
	assert_int_equal(run(&text, "-m", ctl->root, "export", "www", "--cert", "-o", path, NULL),
	                 0);
	free(text);
	assert_int_equal(stat(path, &info), 0);
	assert_int_equal(info.st_mode & 0777, 0644);
	assert_int_equal(info.st_size, 5);
	assert_int_equal(run(&text, "-m", ctl->root, "export", "www", "--cert", NULL), 0);
	assert_string_equal(text, "CERT\n");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_mount_is_found_in_mountinfo),
		cmocka_unit_test(a_folder_that_is_no_mount_is_refused),
		cmocka_unit_test(a_name_finds_its_object_unless_it_is_both),
		cmocka_unit_test(settings_stand_as_options_and_as_assignments),
		cmocka_unit_test(a_secret_does_not_stay_on_the_command_line),
		cmocka_unit_test(a_secret_comes_from_a_file),
		cmocka_unit_test(wrong_words_are_refused_as_usage),
		cmocka_unit_test(settings_are_saved_beside_what_is_there),
		cmocka_unit_test(a_request_holds_action_and_settings),
		cmocka_unit_test(the_end_of_a_request_is_waited_for),
		cmocka_unit_test(a_wait_that_is_too_long_says_how_to_go_on),
		cmocka_unit_test(times_are_told_by_their_distance),
		cmocka_unit_test(the_table_fits_eighty_columns),
		cmocka_unit_test(a_tunnel_says_since_when_and_why),
		cmocka_unit_test(what_is_revoked_is_not_said_to_expire),
		cmocka_unit_test(colours_are_for_terminals),
		cmocka_unit_test(an_event_is_one_readable_line),
		cmocka_unit_test(exit_codes_tell_what_went_wrong),
		cmocka_unit_test(every_command_explains_itself_by_example),
		cmocka_unit_test(an_exported_key_is_its_owners_alone),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
