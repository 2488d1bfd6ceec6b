#include "pkifs/ctl.h"

#include "common/x509.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* States by how they look; all others are plain. */
static const struct {
	const char *state, *color;
} colors[] = {
	{ "trusted", GREEN },  { "valid", GREEN },        { "done", GREEN },
	{ "good", GREEN },     { "unconfirmed", YELLOW }, { "queued", YELLOW },
	{ "running", YELLOW }, { "waiting", YELLOW },     { "expired", RED },
	{ "revoked", RED },    { "failed", RED },         { "rejected", RED },
	{ "up", GREEN },       { "connecting", YELLOW },  { "cut", RED },
};

static const char *state_color(const struct ctl *ctl, const char *state)
{
	for (size_t i = 0; ctl->color && i < COUNT(colors); i++)
		if (strcmp(colors[i].state, state) == 0)
			return colors[i].color;
	return "";
}

/* Columns of UTF-8 TEXT, every character taken for one. */
static size_t text_columns(const char *text)
{
	size_t columns = 0;

	for (; *text; text++)
		columns += ((unsigned char)*text & 0xc0) != 0x80;
	return columns;
}

/* True for control characters, C1's (U+0080 to 9F, two bytes) too. */
static bool is_control(const char *text)
{
	unsigned char byte = (unsigned char)text[0];

	return iscntrl(byte) ||
	       (byte == 0xc2 && (unsigned char)text[1] >= 0x80 && (unsigned char)text[1] <= 0x9f);
}

/* TEXT in exactly WIDTH columns (0: as many as it has), cut with "…"; COLOR around it. */
static void put_cell(const char *text, size_t width, const char *color, FILE *out)
{
	size_t columns = text_columns(text), shown = columns;

	if (width && columns > width)
		shown = width - 1;
	fputs(color, out);
	for (size_t left = shown; *text; text++) {
		if (((unsigned char)*text & 0xc0) != 0x80 && left-- == 0)
			break;
		fputc(is_control(text) ? '?' : *text, out);
		if (is_control(text) && (unsigned char)*text == 0xc2)
			text++;
	}
	if (shown < columns)
		fputs("…", out);
	fputs(*color ? PLAIN : "", out);
	for (; columns < width; columns++)
		fputc(' ', out);
}

void time_distance(long long then, long long now, char *text)
{
	static const struct {
		const char *name;
		long long seconds;
	} units[] = { { "day", 86400 }, { "hour", 3600 }, { "minute", 60 }, { "second", 1 } };
	long long far = then > now ? then - now : now - then, count;
	size_t unit = 0;

	while (unit + 1 < COUNT(units) && far < 2 * units[unit].seconds)
		unit++;
	count = far / units[unit].seconds;
	snprintf(text, 40, then > now ? "in %lld %s%s" : "%lld %s%s ago", count, units[unit].name,
	         count == 1 ? "" : "s");
}

void time_local(long long seconds, char *text)
{
	time_t time = (time_t)seconds;
	struct tm tm;

	if (!localtime_r(&time, &tm) || !strftime(text, 40, "%Y-%m-%d %H:%M:%S", &tm))
		strcpy(text, "?");
}

void show_status(const struct ctl *ctl, const struct record *status, long long now, FILE *out)
{
	size_t width = 0;

	for (size_t i = 0; i < record_count(status); i++) {
		size_t length = strlen(record_field(status, i)->key);

		width = length > width ? length : width;
	}
	for (size_t i = 0; i < record_count(status); i++) {
		const struct field *field = record_field(status, i);
		long long time = rfc3339_seconds(field->value);
		char distance[40];

		if (!field->length)
			continue;
		put_cell(field->key, width, "", out);
		fputs("  ", out);
		put_cell(field->value, 0, state_color(ctl, field->value), out);
		if (time >= 0) {
			time_distance(time, now, distance);
			fprintf(out, " (%s)", distance);
		}
		fputc('\n', out);
	}
}

/* The member KEY of OBJECT as text, "" where there is none. */
static const char *member(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);

	if (json_is_array(value))
		value = json_array_get(value, json_array_size(value) - 1);
	return json_is_string(value) ? json_string_value(value) : "";
}

/* What the last column says: what went wrong, else what comes next. */
static void remark(const json_t *object, char *text, size_t size)
{
	const char *request = member(object, "request"), *error = member(object, "last-error");
	const char *next = member(object, "next-action"), *at = member(object, "next-action-at");
	bool wrong = strcmp(request, "failed") == 0 || strcmp(request, "rejected") == 0 ||
	             strcmp(request, "waiting") == 0;

	if (strcmp(next, "expire") == 0) /* the column UNTIL says so */
		next = "";
	*text = 0;
	if (*error && (wrong || !*next))
		snprintf(text, size, "%s", error);
	else if (*member(object, "pending") || *member(object, "next-ca-waits") ||
	         strcmp(member(object, "state"), "unconfirmed") == 0)
		snprintf(text, size, "waits for pkictl ca confirm");
	else if (*next)
		snprintf(text, size, "%s%s%s", next, *at ? " at " : "", at);
}

struct table {
	const char *title, *date; /* headings */
	const char *kind, *key;   /* whose, and what the date is */
};

#define NAME_WIDTH   14
#define NAME_LEAST   6
#define NAME_MOST    24
#define STATE_WIDTH  11
#define DATE_WIDTH   10
#define REMARK_LEAST 10
#define REST_WIDTH   9 /* "REQUEST", and the blanks between */

/* Whether the last column has room for some words. */
static bool has_remark(const struct ctl *ctl, size_t name_width)
{
	size_t others = name_width + STATE_WIDTH + DATE_WIDTH + REST_WIDTH + 3;

	return others + REMARK_LEAST <= (size_t)ctl->columns;
}

static void put_head(const struct ctl *ctl, const struct table *table, size_t name_width, FILE *out)
{
	fputs(ctl->color ? BOLD : "", out);
	put_cell(table->title, name_width, "", out);
	fprintf(out, " %-*s %-*s REQUEST", STATE_WIDTH, "STATE", DATE_WIDTH, table->date);
	if (has_remark(ctl, name_width))
		fputs("  REMARK", out);
	fprintf(out, "%s\n", ctl->color ? PLAIN : "");
}

/* Over, or the last tenth of its life. */
static const char *until_color(const json_t *object, long long end, long long now)
{
	long long begin = rfc3339_seconds(member(object, "not-before"));

	if (end < now)
		return RED;
	return begin >= 0 && end - now < (end - begin) / 10 ? YELLOW : "";
}

static void put_row(const struct ctl *ctl, const json_t *object, const char *key, size_t name_width,
                    long long now, FILE *out)
{
	const char *state = member(object, "state"), *request = member(object, "request");
	size_t used = name_width + STATE_WIDTH + DATE_WIDTH + REST_WIDTH + 3;
	char date[DATE_WIDTH + 1] = "-";
	long long time = rfc3339_seconds(member(object, key));
	const char *color = "";
	char note[600];

	if (time >= 0)
		snprintf(date, sizeof date, "%.10s", member(object, key));
	if (time >= 0 && ctl->color && strcmp(key, "not-after") == 0)
		color = until_color(object, time, now);
	remark(object, note, sizeof note);
	put_cell(member(object, "name"), name_width, "", out);
	fputc(' ', out);
	put_cell(*state ? state : "-", STATE_WIDTH, state_color(ctl, state), out);
	fputc(' ', out);
	put_cell(date, DATE_WIDTH, color, out);
	fputc(' ', out);
	if (!*note || !has_remark(ctl, name_width)) {
		put_cell(*request ? request : "-", 0, state_color(ctl, request), out);
	} else {
		put_cell(*request ? request : "-", REST_WIDTH - 1, state_color(ctl, request), out);
		fputc(' ', out);
		if (used + text_columns(note) > (size_t)ctl->columns)
			put_cell(note, (size_t)ctl->columns - used, "", out);
		else
			put_cell(note, 0, "", out);
	}
	fputc('\n', out);
}

static size_t widest_name(const struct ctl *ctl, const json_t *objects)
{
	size_t others = STATE_WIDTH + DATE_WIDTH + REST_WIDTH + 3, room = NAME_WIDTH;
	size_t width = NAME_WIDTH, i;
	json_t *object;

	json_array_foreach(objects, i, object)
	{
		size_t columns = text_columns(member(object, "name"));

		width = columns > width ? columns : width;
	}
	if ((size_t)ctl->columns < others + room) /* a narrow terminal: no REMARK there */
		room = (size_t)ctl->columns > others + NAME_LEAST ? (size_t)ctl->columns - others
		                                                  : NAME_LEAST;
	else
		room = NAME_MOST;
	return width > room ? room : width;
}

int show_table(const struct ctl *ctl, const char *json, size_t length, long long now, FILE *out,
               struct error *err)
{
	static const struct table tables[] = {
		{ "CA PROFILE", "CA UNTIL", "ca", "not-after" },
		{ "CERTIFICATE ID", "UNTIL", "local", "not-after" },
		{ "TUNNEL", "SINCE", "ipsec", "since" },
	};
	json_error_t reason;
	json_t *root = json_loadb(json, length, 0, &reason);
	bool any = false;

	if (!root)
		return error_set(err, -EBADMSG, "status.json can't be read: %s", reason.text);
	for (size_t i = 0; i < COUNT(tables); i++) {
		const json_t *objects = json_object_get(root, tables[i].kind);
		size_t width = widest_name(ctl, objects), row;
		json_t *object;

		if (!json_array_size(objects))
			continue;
		if (any)
			fputc('\n', out);
		any = true;
		put_head(ctl, &tables[i], width, out);
		json_array_foreach(objects, row, object)
			put_row(ctl, object, tables[i].key, width, now, out);
	}
	json_decref(root);
	if (!any)
		fputs("There is no CA profile and no certificate id yet; pkictl ca add --help "
		      "shows how to begin.\n",
		      out);
	return 0;
}

/* Prints the object of status.json that TARGET is. */
static int print_object(const struct target *target, const char *json, size_t length,
                        struct error *err)
{
	json_error_t reason;
	json_t *root = json_loadb(json, length, 0, &reason), *object;
	int r = -ENOENT;
	size_t row;

	if (!root)
		return error_set(err, -EBADMSG, "status.json can't be read: %s", reason.text);
	json_array_foreach(json_object_get(root, target->kind), row, object)
	{
		if (strcmp(member(object, "name"), target->name) != 0)
			continue;
		json_dumpf(object, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
		fputc('\n', stdout);
		r = 0;
	}
	json_decref(root);
	if (r < 0)
		return error_set(err, r, "status.json does not know %s", target->name);
	return 0;
}

static int show_all(const struct ctl *ctl, const struct record *options, struct error *err)
{
	size_t length = 0;
	char *json = NULL;
	int r;

	r = ctl_read(ctl, NULL, "status.json", &json, &length, err);
	if (r == 0 && record_find(options, "json"))
		fwrite(json, 1, length, stdout);
	else if (r == 0)
		r = show_table(ctl, json, length, (long long)time(NULL), stdout, err);
	text_free(json, length);
	return r;
}

static int show_one(const struct ctl *ctl, const struct target *target,
                    const struct record *options, struct error *err)
{
	struct record *status = NULL;
	size_t length = 0;
	char *json = NULL;
	int r;

	if (record_find(options, "json")) {
		r = ctl_read(ctl, NULL, "status.json", &json, &length, err);
		if (r == 0)
			r = print_object(target, json, length, err);
		text_free(json, length);
		return r;
	}
	r = ctl_status(ctl, target, &status, err);
	if (r == 0) {
		printf("%s%s/%s%s\n", ctl->color ? BOLD : "", target->kind, target->name,
		       ctl->color ? PLAIN : "");
		show_status(ctl, status, (long long)time(NULL), stdout);
		show_advice(ctl, target, status, (long long)time(NULL), stdout);
	}
	record_free(status);
	return r;
}

int ctl_show(const struct ctl *ctl, const struct arguments *arguments, struct error *err)
{
	struct target target;
	int r;

	if (!arguments->count)
		return show_all(ctl, arguments->options, err);
	r = target_find(ctl, arguments->operands[0], &target, err);
	return r < 0 ? r : show_one(ctl, &target, arguments->options, err);
}

int ca_show(const struct ctl *ctl, const struct arguments *arguments, struct error *err)
{
	struct target target;
	int r;

	if (!arguments->count)
		return show_all(ctl, arguments->options, err);
	r = target_need(ctl, "ca", arguments->operands[0], &target, err);
	return r < 0 ? r : show_one(ctl, &target, arguments->options, err);
}
