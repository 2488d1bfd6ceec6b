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
		{ "\n[ca corp]\n", "line 2: objects can't be declared" },
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

static void a_file_that_is_too_big_or_a_folder_is_refused(void **state)
{
	struct place *place = *state;
	struct record *conf = NULL;
	struct error err = { 0 };
	FILE *file;

	assert_true(conf_read(place->folder, false, &conf, &err) < 0);
	file = fopen(place->conf, "w");
	assert_non_null(file);
	for (int i = 0; i < 70000; i++)
		fputc('\n', file);
	fclose(file);
	assert_int_equal(conf_read(place->conf, true, &conf, &err), -EFBIG);
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
		cmocka_unit_test_setup_teardown(a_file_that_is_too_big_or_a_folder_is_refused,
		                                set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
