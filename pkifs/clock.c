/*
 * The time, and what is believed of it. A machine may boot with a clock years off, before or behind
 * the true time: nothing expires or is renewed on account of that.
 *
 * A clock is behind when it shows less than a signed time that was accepted, or than when this
 * program was built. It is ahead when it leaps by more than a year over all that and over what it
 * has shown before; that may be true, of a machine that stood still for so long: the kernel knows
 * when something that measures time has set the clock, and a certificate or CRL that was signed
 * now proves it as well. What a wrong clock shows is never kept.
 */
#include "common/x509.h"
#include "pkifs/store.h"

#include <stdlib.h>
#include <string.h>
#include <sys/timex.h>
#include <time.h>

#define DAY  86400
#define LEAP (366 * DAY)

/* Signed times that we accepted, and when this program was built. */
static int64_t clock_floor = PKIFS_BUILD_TIME;
/* The latest time that a trusted clock has shown, about: kept each day. */
static int64_t clock_seen;

int64_t store_now(const struct store *store)
{
	struct timespec now;

	(void)store;
	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec;
}

bool store_clock_trusted(const struct store *store)
{
	return store_now(store) >= clock_floor;
}

/* Something that measures time (NTP, a GPS receiver) has set the clock. */
static bool is_synchronised(void)
{
	struct timex timex = { 0 };
	int r = adjtimex(&timex);

	return r >= 0 && r != TIME_ERROR && !(timex.status & STA_UNSYNC);
}

static int64_t latest(void)
{
	return clock_seen > clock_floor ? clock_seen : clock_floor;
}

bool store_clock_doubt(const struct store *store, char *text, size_t size)
{
	char last[RFC3339_MAX];

	if (!store_clock_trusted(store)) {
		snprintf(text, size,
		         "not trusted: it is before times that were signed; nothing expires or is "
		         "renewed on it");
		return true;
	}
	if (store_now(store) <= latest() + LEAP || is_synchronised())
		return false;
	rfc3339(latest(), last);
	snprintf(text, size,
	         "doubtful: it is more than a year ahead of %s, the last time that was known; "
	         "nothing renews by itself before it is synchronised, or something is signed at "
	         "its time (re-enroll does it)",
	         last);
	return true;
}

static void load(struct store *store, const char *name, int64_t *to)
{
	struct blob value = { 0 };
	long long seconds;

	if (db_meta_get(store->db, name, &value) == 0) {
		seconds = strtoll(value.data, NULL, 10);
		if (seconds > *to)
			*to = seconds;
	}
	blob_clear(&value);
}

void clock_load(struct store *store)
{
	load(store, "clock-floor", &clock_floor);
	load(store, "clock-seen", &clock_seen);
}

static int keep(struct store *store, const char *name, int64_t *what, int64_t seconds)
{
	char text[24];

	*what = seconds;
	snprintf(text, sizeof text, "%lld", (long long)seconds);
	return db_meta_set(store->db, name, text, strlen(text));
}

int store_clock_floor(struct store *store, int64_t seconds)
{
	if (seconds <= clock_floor || seconds > store_now(store))
		return 0;
	return keep(store, "clock-floor", &clock_floor, seconds);
}

int store_clock_hurry(struct store *store, int64_t *before, int64_t span,
                      int (*hurry)(struct db *, int64_t))
{
	int64_t now = store_now(store);
	bool back = now < *before;
	int r = 0;

	*before = now;
	if (back)
		r = store_begin(store);
	return back && r == 0 ? store_end(store, hurry(store->db, now + span)) : r;
}

void clock_follow(struct store *store)
{
	char doubt[CLOCK_DOUBT_MAX];
	int64_t now = store_now(store);

	if (now < latest() + DAY || store_clock_doubt(store, doubt, sizeof doubt))
		return;
	if (store_begin(store) == 0)
		store_end(store, keep(store, "clock-seen", &clock_seen, now));
}
