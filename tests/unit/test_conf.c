/* pkifs.conf: what is read, what wins, and what is refused with its file and line. */
#include "pkifs/conf.h"

#include "pkifs/keytable.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct place {
	char folder[64], conf[128], other[128];
};

static void put(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static int set_up(void **state)
{
	static struct place place;
	char conf_d[128];

	strcpy(place.folder, "/tmp/pkifs-conf-XXXXXX");
	if (!mkdtemp(place.folder))
		return -1;
	snprintf(place.conf, sizeof place.conf, "%s/pkifs.conf", place.folder);
	snprintf(conf_d, sizeof conf_d, "%s/conf.d", place.folder);
	snprintf(place.other, sizeof place.other, "%s/conf.d/10-site.conf", place.folder);
	*state = &place;
	return mkdir(conf_d, 0700);
}

static int tear_down(void **state)
{
	struct place *place = *state;
	char conf_d[128];

	snprintf(conf_d, sizeof conf_d, "%s/conf.d", place->folder);
	unlink(place->conf);
	unlink(place->other);
	rmdir(conf_d);
	return rmdir(place->folder);
}

static void a_missing_default_file_is_no_error(void **state)
{
	struct place *place = *state;
	struct record *conf = NULL;
	struct error err = { 0 };

	assert_int_equal(conf_read(place->conf, true, &conf, &err), 0);
	assert_string_equal(key_value(&daemon_keys, conf, "mount-point"), "/pki");
	record_free(conf);
	conf = NULL;
	assert_int_equal(conf_read(place->conf, false, &conf, &err), -ENOENT);
	assert_non_null(strstr(err.text, place->conf));
	assert_null(conf);
}

static void the_command_line_wins(void **state)
{
	struct place *place = *state;
	struct record *conf = NULL;
	struct error err = { 0 };

	put(place->conf, "# here\nworkers = 4\nmount-point = \"/srv/my pki\"\n");
	assert_int_equal(conf_read(place->conf, false, &conf, &err), 0);
	assert_string_equal(key_value(&daemon_keys, conf, "mount-point"), "/srv/my pki");
	assert_int_equal(conf_set(conf, "workers=8", &err), 0);
	assert_string_equal(key_value(&daemon_keys, conf, "workers"), "8");
	assert_int_equal(conf_set(conf, "workers=0", &err), -EINVAL);
	assert_string_equal(err.text, "workers takes 1 to 256 processes, not \"0\"");
	assert_string_equal(key_value(&daemon_keys, conf, "workers"), "8");
	assert_int_equal(conf_set(conf, "workers", &err), -EINVAL);
	assert_int_equal(conf_set(conf, "=8", &err), -EINVAL);
	assert_int_equal(conf_set(conf, "worker=8", &err), -EINVAL);
	assert_non_null(strstr(err.text, "did you mean workers?"));
	record_free(conf);
}

static void the_folder_beside_a_default_file_belongs_to_it(void **state)
{
	struct place *place = *state;
	struct record *conf = NULL;
	struct error err = { 0 };

	put(place->conf, "workers = 4\nkeep-versions = 5\n");
	put(place->other, "workers = 6\n");
	assert_int_equal(conf_read(place->conf, true, &conf, &err), 0);
	assert_string_equal(key_value(&daemon_keys, conf, "workers"), "6");
	assert_string_equal(key_value(&daemon_keys, conf, "keep-versions"), "5");
	record_free(conf);
	put(place->other, "workers = many\n");
	assert_int_equal(conf_read(place->conf, true, &conf, &err), -EINVAL);
	assert_non_null(strstr(err.text, "10-site.conf: line 1: workers takes"));
}

static void a_value_may_stand_in_a_file(void **state)
{
	struct place *place = *state;
	struct record *conf = NULL;
	struct error err = { 0 };
	char text[256];

	put(place->other, "SN-4711\nand more\n");
	snprintf(text, sizeof text, "device-serial = @file:%s\n", place->other);
	put(place->conf, text);
	assert_int_equal(conf_read(place->conf, false, &conf, &err), 0);
	assert_string_equal(key_value(&daemon_keys, conf, "device-serial"), "SN-4711");
	snprintf(text, sizeof text, "%s/conf.d", place->folder);
	setenv("CREDENTIALS_DIRECTORY", text, 1);
	assert_int_equal(conf_set(conf, "device-serial=@credential:10-site.conf", &err), 0);
	assert_int_equal(conf_set(conf, "device-serial=@credential:../pkifs.conf", &err), -EINVAL);
	assert_int_equal(conf_set(conf, "device-serial=@credential:none", &err), -ENOENT);
	unsetenv("CREDENTIALS_DIRECTORY");
	assert_int_equal(conf_set(conf, "device-serial=@credential:10-site.conf", &err), -ENOENT);
	record_free(conf);
}

static void wrong_lines_are_refused_with_file_and_line(void **state)
{
	static const char *const wrong[][2] = {
		{ "workers = 4\nworkers = 0\n", "line 2: workers takes 1 to 256" },
		{ "[ca corp]\n\nprotocol = x.509\n", "line 3: protocol takes scep, cmpv2, acme" },
		{ "[ca corp]\ncolour = red\n", "line 2: unknown key \"colour\"" },
		{ "[local www]\nworkers = 4\n", "line 2: workers stands before the first section" },
		{ "subject = CN=a\n", "line 1: subject belongs into a section [local NAME]" },
		{ "[local www]\nenrollment-url = http://a\n",
		  "line 2: enrollment-url belongs into a section [ca NAME]" },
		{ "[local www]\nchallenge-password = ***\n",
		  "line 2: challenge-password = *** is how a secret is shown" },
		{ "[local www]\nchallenge-password = @file:secret\n",
		  "line 2: @file:secret does not begin with a /" },
		{ "[local www\n", "line 1: a section is [KIND NAME]" },
		{ "[local www] # mine\n", "line 1: a section is [KIND NAME]" },
		{ "[]\n", "line 1: []: there are sections [ca NAME], [local NAME]" },
		{ "[host www]\n", "line 1: [host]: there are sections [ca NAME]" },
		{ "[local]\n", "line 1: [local ]: a name is 1 to 64" },
		{ "[local .www]\n", "line 1: [local .www]: a name is 1 to 64" },
		{ "[local a b]\n", "line 1: [local a b]: a name is 1 to 64" },
		{ "[ipsec berlin]\nmode = both\n", "line 2: mode takes tunnel or transport" },
		{ "[auto-re-enrollment ssh]\n", "line 1: [auto-re-enrollment ssh]: a protocol is" },
		{ "[auto-re-enrollment scep]\nsubject = CN=a\n",
		  "line 2: subject is each certificate id's own" },
		{ "[auto-re-enrollment scep]\nauto-enroll = enable\n",
		  "line 2: auto-enroll is each certificate id's own" },
		{ "[auto-re-enrollment scep]\nca-profile = corp\n",
		  "line 2: ca-profile is each certificate id's own" },
		{ "[ca corp]\ncrl-url = http://a\ncrl-url = http://b\ncrl-url = http://c\n"
		  "crl-url = http://d\n",
		  "line 5: crl-url may stand up to 3 times, not 4" },
		{ "mount-point\n", "line 1 is not" },
		{ "store = \"x\n", "line 1: the value of store lacks its closing quote" },
		{ "log = a\x01\n", "line 1 has a control character" },
	};
	struct place *place = *state;

	for (size_t i = 0; i < COUNT(wrong); i++) {
		struct record *conf = NULL;
		struct error err = { 0 };

		put(place->conf, wrong[i][0]);
		assert_int_equal(conf_read(place->conf, true, &conf, &err), -EINVAL);
		assert_null(conf);
		assert_non_null(strstr(err.text, wrong[i][1]));
		assert_non_null(strstr(err.text, "pkifs.conf: "));
	}
}

static void a_file_that_is_too_big_is_refused(void **state)
{
	struct place *place = *state;
	struct record *conf = NULL;
	struct error err = { 0 };
	FILE *file;

	file = fopen(place->conf, "w");
	assert_non_null(file);
	for (int i = 0; i <= 4 << 20; i++)
		fputc('\n', file);
	fclose(file);
	assert_int_equal(conf_read(place->conf, true, &conf, &err), -EFBIG);
	assert_non_null(strstr(err.text, "more than 4194304 bytes"));
}

/* The NTH section that is declared, its kind and name in a line before its keys, or NULL. */
static const char *declared(const struct record *conf, size_t nth)
{
	const struct field *kind = NULL;
	static char text[1024];
	size_t index = 0;

	for (size_t i = 0; i <= nth; i++)
		kind = record_next(conf, CONF_KIND, &index);
	if (!kind)
		return NULL;
	assert_string_equal(record_field(conf, index)->key, CONF_NAME);
	assert_string_equal(record_field(conf, index + 1)->key, CONF_KEYS);
	snprintf(text, sizeof text, "%s %s\n%s", kind->value, record_field(conf, index)->value,
	         record_field(conf, index + 1)->value);
	return text;
}

static void sections_declare_objects(void **state)
{
	struct place *place = *state;
	struct record *conf = NULL;
	struct error err = { 0 };

	put(place->conf, "workers = 4\n"
	                 "# the office\n"
	                 "[ca corp]\n"
	                 "enrollment-url = http://ca.example/scep\n"
	                 "\n"
	                 "  [ local   www ]  \r\n"
	                 "domain-name = b.example\n"
	                 "domain-name = a.example\n"
	                 "ca-profile = none\n"
	                 "ca-profile = corp\n"
	                 "challenge-password = \"a \\\"b\\\" \"\n"
	                 "re-enroll-trigger-time = 30\n"
	                 "[local empty]\n");
	assert_int_equal(conf_read(place->conf, false, &conf, &err), 0);
	assert_string_equal(key_value(&daemon_keys, conf, "workers"), "4");
	assert_string_equal(declared(conf, 0), "ca corp\n"
	                                       "enrollment-url = http://ca.example/scep\n");
	assert_string_equal(declared(conf, 1), "local www\n"
	                                       "ca-profile = corp\n"
	                                       "domain-name = b.example\n"
	                                       "domain-name = a.example\n"
	                                       "challenge-password = \"a \\\"b\\\" \"\n"
	                                       "re-enroll-trigger-time-percentage = 30\n");
	assert_string_equal(declared(conf, 2), "local empty\n");
	assert_null(declared(conf, 3));
	record_free(conf);
}

static void a_later_file_adds_to_a_section(void **state)
{
	struct place *place = *state;
	struct record *conf = NULL;
	struct error err = { 0 };

	put(place->conf, "[local www]\nkey-size = 2048\nemail = a@example.net\n");
	put(place->other, "workers = 6\n"
	                  "[local www]\nkey-size = 4096\nemail = b@example.net\n"
	                  "[local mail]\n"
	                  "[local www]\ndigest = sha384\n");
	assert_int_equal(conf_read(place->folder, false, &conf, &err), 0);
	assert_string_equal(key_value(&daemon_keys, conf, "workers"), "6");
	assert_string_equal(declared(conf, 0), "local www\n"
	                                       "key-size = 4096\n"
	                                       "digest = sha384\n"
	                                       "email = a@example.net\n"
	                                       "email = b@example.net\n");
	assert_string_equal(declared(conf, 1), "local mail\n");
	assert_null(declared(conf, 2));
	record_free(conf);
}

static void a_file_that_is_named_alone_has_no_folder(void **state)
{
	struct place *place = *state;
	struct record *conf = NULL;
	struct error err = { 0 };

	put(place->conf, "[local www]\n");
	put(place->other, "[local mail]\n");
	assert_int_equal(conf_read(place->conf, false, &conf, &err), 0);
	assert_null(declared(conf, 1));
	record_free(conf);
	assert_int_equal(unlink(place->conf), 0);
	conf = NULL;
	assert_int_equal(conf_read(place->folder, false, &conf, &err), 0);
	assert_string_equal(declared(conf, 0), "local mail\n");
	record_free(conf);
}

static void a_reference_that_is_missing_is_no_missing_file(void **state)
{
	struct place *place = *state;
	struct record *conf = NULL;
	struct error err = { 0 };

	put(place->conf, "device-serial = @file:/nowhere/serial\n");
	assert_true(conf_read(place->conf, true, &conf, &err) < 0);
	assert_non_null(strstr(err.text, "line 1: @file:/nowhere/serial: No such file"));
}

static void a_value_in_a_file_keeps_its_limits(void **state)
{
	struct place *place = *state;
	char text[5000], line[256];
	struct record *conf = NULL;
	struct error err = { 0 };

	snprintf(line, sizeof line, "[local www]\nchallenge-password = @file:%s\n", place->other);
	put(place->conf, line);
	memset(text, 's', sizeof text);
	text[sizeof text - 1] = 0;
	put(place->other, text);
	assert_true(conf_read(place->conf, false, &conf, &err) < 0);
	assert_non_null(strstr(err.text, "has more than 4096 bytes"));
	text[256] = 0;
	put(place->other, text);
	assert_int_equal(conf_read(place->conf, false, &conf, &err), -EINVAL);
	assert_non_null(strstr(err.text, "1 to 255 characters, not 256"));
	assert_null(strstr(err.text, "ssss"));
	text[255] = 0;
	put(place->other, text);
	assert_int_equal(conf_read(place->conf, false, &conf, &err), 0);
	record_free(conf);
	conf = NULL;
	snprintf(line, sizeof line, "[local www]\nkey-size = @file:%s\n", place->other);
	put(place->conf, line);
	assert_int_equal(conf_read(place->conf, false, &conf, &err), -EINVAL);
	assert_non_null(strstr(err.text, "line 2: key-size does not take the first line of @file"));
	assert_null(strstr(err.text, "ssss"));
}

static void secrets_that_all_can_read_are_told(void **state)
{
	struct place *place = *state;
	struct record *conf = NULL;
	struct error err = { 0 };
	size_t count = 0;
	char text[512];

	put(place->other, "secret\n");
	snprintf(text, sizeof text,
	         "[local a]\nchallenge-password = s1\n[local b]\nchallenge-password = s2\n"
	         "[local c]\nchallenge-password = @file:%s\n",
	         place->other);
	put(place->conf, text);
	assert_int_equal(chmod(place->conf, 0600), 0);
	assert_int_equal(chmod(place->other, 0640), 0);
	assert_int_equal(conf_read(place->conf, false, &conf, &err), 0);
	assert_null(record_get(conf, CONF_WARNING));
	record_free(conf);
	conf = NULL;
	assert_int_equal(chmod(place->conf, 0644), 0);
	assert_int_equal(chmod(place->other, 0604), 0);
	assert_int_equal(conf_read(place->conf, false, &conf, &err), 0);
	for (size_t i = 0; i < record_count(conf); i++) {
		const struct field *field = record_field(conf, i);

		if (strcmp(field->key, CONF_WARNING) != 0)
			continue;
		snprintf(text, sizeof text, "chmod o-r %s", count ? place->other : place->conf);
		assert_non_null(strstr(field->value, text));
		assert_non_null(strstr(field->value, "challenge-password"));
		count++;
	}
	assert_int_equal(count, 2); /* once for each file */
	record_free(conf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_missing_default_file_is_no_error, set_up,
		                                tear_down),
		cmocka_unit_test_setup_teardown(the_command_line_wins, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_folder_beside_a_default_file_belongs_to_it,
		                                set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_value_may_stand_in_a_file, set_up, tear_down),
		cmocka_unit_test_setup_teardown(wrong_lines_are_refused_with_file_and_line, set_up,
		                                tear_down),
		cmocka_unit_test_setup_teardown(a_file_that_is_too_big_is_refused, set_up,
		                                tear_down),
		cmocka_unit_test_setup_teardown(sections_declare_objects, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_later_file_adds_to_a_section, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_file_that_is_named_alone_has_no_folder, set_up,
		                                tear_down),
		cmocka_unit_test_setup_teardown(a_reference_that_is_missing_is_no_missing_file,
		                                set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_value_in_a_file_keeps_its_limits, set_up,
		                                tear_down),
		cmocka_unit_test_setup_teardown(secrets_that_all_can_read_are_told, set_up,
		                                tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
