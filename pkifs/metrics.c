/*
 * `metrics`: how everything is, as OpenMetrics text for a collector. Families stand one after the
 * other, so that each object's part of each is made first.
 */
#include "pkifs/content.h"

#include "common/x509.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum family {
	METRIC_STATE,
	METRIC_REQUEST,
	METRIC_NOT_AFTER,
	METRIC_CRL,
	METRIC_BYTES,
	METRIC_PACKETS,
	METRICS
};

/* clang-format off */
static const struct {
	const char *name, *type, *unit, *help;
} families[METRICS] = {
	[METRIC_STATE]     = { "pkifs_state", "gauge", NULL, "The state of an object, as in its status." },
	[METRIC_REQUEST]   = { "pkifs_request", "gauge", NULL, "What came of an object's last request." },
	[METRIC_NOT_AFTER] = { "pkifs_not_after_timestamp_seconds", "gauge", "seconds", "When a certificate in force ends." },
	[METRIC_CRL]       = { "pkifs_crl_next_update_timestamp_seconds", "gauge", "seconds", "When a profile's CRL is over." },
	[METRIC_BYTES]     = { "pkifs_tunnel_bytes", "counter", "bytes", "What a tunnel's SAs in use have carried." },
	[METRIC_PACKETS]   = { "pkifs_tunnel_packets", "counter", "packets", "The same in packets." },
};
/* clang-format on */

struct metrics {
	struct store *store;
	struct content parts[METRICS];
};

static int add_state(struct metrics *metrics, enum kind kind, const char *name, const char *state,
                     const char *request, int64_t not_after)
{
	int r = content_addf(&metrics->parts[METRIC_STATE],
	                     "pkifs_state{kind=\"%s\",name=\"%s\",state=\"%s\"} 1\n",
	                     kind_name(kind), name, state);

	if (r == 0 && strcmp(request, "none") != 0)
		r = content_addf(&metrics->parts[METRIC_REQUEST],
		                 "pkifs_request{kind=\"%s\",name=\"%s\",request=\"%s\"} 1\n",
		                 kind_name(kind), name, request);
	if (r == 0 && not_after > 0)
		r = content_addf(&metrics->parts[METRIC_NOT_AFTER],
		                 "%s{kind=\"%s\",name=\"%s\"} %lld\n",
		                 families[METRIC_NOT_AFTER].name, kind_name(kind), name,
		                 (long long)not_after);
	return r;
}

/* A certificate id, without all that its `status` says: there may be very many. */
static int add_local(const struct overview *row, void *user)
{
	struct metrics *metrics = user;

	return add_state(metrics, KIND_LOCAL, row->name,
	                 state_now(metrics->store, row->state, row->not_after),
	                 request_state_name(row->request), row->not_after);
}

/* What the kernel has counted. */
static int add_counters(struct metrics *metrics, const char *name, const struct record *status)
{
	static const char *const directions[] = { "in", "out" }, *const what[] = { "bytes",
		                                                                   "packets" };
	int r = 0;

	for (size_t i = 0; r == 0 && i < COUNT(what) * COUNT(directions); i++) {
		const char *unit = what[i / COUNT(directions)], *direction = directions[i % 2];
		char key[24];

		snprintf(key, sizeof key, "%s-%s", unit, direction);
		if (record_find(status, key))
			r = content_addf(&metrics->parts[METRIC_BYTES + i / COUNT(directions)],
			                 "pkifs_tunnel_%s_total{name=\"%s\",direction=\"%s\"} %s\n",
			                 unit, name, direction, record_get(status, key));
	}
	return r;
}

/* A profile or a tunnel, by what its `status` says. */
static int add_object(struct metrics *metrics, const struct object *object)
{
	struct record *status = NULL;
	const char *until;
	int r = status_record(metrics->store, object, &status);

	if (r == 0)
		r = add_state(metrics, object->kind, object->name, record_get(status, "state"),
		              record_get(status, "request"),
		              record_find(status, "not-after")
		                      ? rfc3339_seconds(record_get(status, "not-after"))
		                      : 0);
	until = r == 0 ? record_get(status, "crl-next-update") : NULL;
	if (until)
		r = content_addf(&metrics->parts[METRIC_CRL], "%s{name=\"%s\"} %lld\n",
		                 families[METRIC_CRL].name, object->name,
		                 (long long)rfc3339_seconds(until));
	if (r == 0)
		r = add_counters(metrics, object->name, status);
	record_free(status);
	return r;
}

static int add_objects(struct metrics *metrics, enum kind kind)
{
	struct object object = { 0 };
	int r = 0;

	while (r == 0 && (r = db_object_next(metrics->store->db, kind, object.id, &object)) == 0)
		r = add_object(metrics, &object);
	return r == -ENOENT ? 0 : r;
}

static int join(const struct metrics *metrics, struct content *content)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < METRICS; i++) {
		const struct content *part = &metrics->parts[i];

		r = content_addf(content, "# TYPE %s %s\n", families[i].name, families[i].type);
		if (r == 0 && families[i].unit)
			r = content_addf(content, "# UNIT %s %s\n", families[i].name,
			                 families[i].unit);
		if (r == 0)
			r = content_addf(content, "# HELP %s %s\n", families[i].name,
			                 families[i].help);
		if (r == 0)
			r = content_add(content, part->text, part->length);
	}
	return r == 0 ? content_addf(content, "# EOF\n") : r;
}

static int make(struct store *store, struct content *content)
{
	struct metrics metrics = { .store = store };
	int r = add_objects(&metrics, KIND_CA);

	if (r == 0)
		r = db_overview(store->db, add_local, &metrics);
	if (r == 0)
		r = add_objects(&metrics, KIND_IPSEC);
	if (r == 0)
		r = join(&metrics, content);
	for (size_t i = 0; i < METRICS; i++)
		content_clear(&metrics.parts[i]);
	content->until = store_now(store) + COUNTERS_SECONDS;
	return r;
}

int make_metrics(struct store *store, const struct node *node, struct content *content)
{
	static struct table table;

	(void)node;
	return table_make(store, &table, content, make);
}
