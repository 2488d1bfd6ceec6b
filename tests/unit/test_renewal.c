/* How long a renewal that failed waits for its next try. */
#include "pkifs/renewal.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define HOUR 3600
#define DAY  86400

/* That the delay is SECONDS, and up to a tenth more. */
static void waits(int64_t failures, int64_t interval, int64_t left, int64_t seconds)
{
	for (int i = 0; i < 100; i++) {
		int64_t delay = renewal_delay(failures, interval, left);

		assert_true(delay >= seconds);
		assert_true(delay <= seconds + seconds / 10);
	}
}

static void a_failing_ca_is_tried_ever_less_often(void **state)
{
	(void)state;
	waits(1, 900, 90 * DAY, 900);
	waits(2, 900, 90 * DAY, 1800);
	waits(5, 900, 90 * DAY, 4 * HOUR);
	waits(8, 900, 90 * DAY, DAY);
	waits(INT64_MAX, 900, 90 * DAY, DAY);
	waits(1, 0, 90 * DAY, 1);
	waits(7, 0, 90 * DAY, 64);
}

static void at_the_end_of_a_lifetime_it_is_tried_more_often(void **state)
{
	(void)state;
	waits(9, 900, 4 * DAY, DAY / 2);
	waits(9, 900, 8 * HOUR, HOUR);
	waits(9, 900, 80, 10);
	waits(1, 900, 80, 10);
}

static void nobody_is_hammered_not_even_then(void **state)
{
	(void)state;
	waits(9, 900, 8, 5);
	waits(9, 900, 1, 5);
	waits(9, 900, 0, HOUR); /* it is over: nothing is left to be saved */
	waits(9, 900, -DAY, HOUR);
	waits(1, 900, -DAY, 900);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_failing_ca_is_tried_ever_less_often),
		cmocka_unit_test(at_the_end_of_a_lifetime_it_is_tried_more_often),
		cmocka_unit_test(nobody_is_hammered_not_even_then),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
