/* What an order asks for (RFC 8555 §7.4; RFC 8738, RFC 9773 §5, certificate profiles). */
#include "enroll/acme_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *key, *type;
} name_keys[] = { { "domain-name", "dns" }, { "ip-address", "ip" } };

/* NAME without the "*." of a wildcard. */
static const char *bare(const char *name)
{
	return strncmp(name, "*.", 2) == 0 ? name + 2 : name;
}

/* NAME as it is compared: an address in the one form that RFC 8738 takes. */
static const char *canonical(const char *name, char text[INET6_ADDRSTRLEN])
{
	static const int families[] = { AF_INET, AF_INET6 };
	unsigned char address[sizeof(struct in6_addr)];

	for (size_t i = 0; i < COUNT(families); i++)
		if (inet_pton(families[i], name, address) == 1 &&
		    inet_ntop(families[i], address, text, INET6_ADDRSTRLEN))
			return text;
	return name;
}

bool acme_is_asked(const struct record *settings, const char *type, const char *name)
{
	char ours[INET6_ADDRSTRLEN], theirs[INET6_ADDRSTRLEN];
	const struct field *field;

	for (size_t i = 0; i < COUNT(name_keys); i++)
		for (size_t index = 0; strcmp(type, name_keys[i].type) == 0 &&
		                       (field = record_next(settings, name_keys[i].key, &index));)
			if (strcasecmp(canonical(bare(field->value), ours),
			               canonical(bare(name), theirs)) == 0)
				return true;
	return false;
}

json_t *acme_identifiers(const struct record *settings)
{
	json_t *list = json_array();
	char text[INET6_ADDRSTRLEN];
	const struct field *field;

	for (size_t i = 0; i < COUNT(name_keys); i++)
		for (size_t index = 0;
		     list && (field = record_next(settings, name_keys[i].key, &index));)
			json_array_append_new(list,
			                      json_pack("{s:s, s:s}", "type", name_keys[i].type,
			                                "value", canonical(field->value, text)));
	return list;
}

/* PROFILE is refused here where the CA does not offer it: some take an order for any. */
static int check_profile(const struct acme *acme, const char *profile, struct error *err)
{
	json_t *meta = json_object_get(acme->directory, "meta");
	json_t *offered = json_object_get(meta, "profiles");
	char names[200] = "";
	const char *name;
	json_t *about;

	if (json_object_get(offered, profile))
		return 0;
	json_object_foreach(offered, name, about)
	{
		size_t used = strlen(names);

		snprintf(names + used, sizeof names - used, "%s%.40s", used ? ", " : "", name);
	}
	return error_set(err, -EINVAL, "the CA does not offer acme-profile %s, but %s", profile,
	                 *names ? names : "none at all");
}

/* The body of newOrder, REPLACES what it names or NULL; the caller's (free). */
static char *order_text(const struct record *settings, const char *replaces)
{
	json_t *payload =
		json_pack("{s:o, s:s*, s:s*}", "identifiers", acme_identifiers(settings), "profile",
	                  record_get(settings, "acme-profile"), "replaces", replaces);
	char *text = payload ? json_dumps(payload, JSON_COMPACT) : NULL;

	json_decref(payload);
	return text;
}

static int order_once(struct acme *acme, const char *url, const char *replaces,
                      struct acme_answer *answer, struct error *err)
{
	char *text = order_text(acme->job->settings, replaces);
	int r = text ? acme_ask(acme, "order", url, text, answer, err)
	             : error_set(err, -ENOMEM, "no memory");

	free(text);
	return r;
}

/* Whether the order may be taken where it does not name what it replaces. */
static bool may_replace_nothing(const struct acme_answer *answer)
{
	static const char *const types[] = { "alreadyReplaced", "malformed", "unauthorized" };

	for (size_t i = 0; i < COUNT(types); i++)
		if (strcmp(answer->problem.type, types[i]) == 0)
			return true;
	return false;
}

int acme_new_order(struct acme *acme, struct acme_answer *answer, struct error *err)
{
	const struct record *settings = acme->job->settings;
	const char *url = acme_url(acme, acme->directory, "newOrder", err);
	const char *profile = record_get(settings, "acme-profile");
	bool ari = acme_text(acme->directory, "renewalInfo") != NULL;
	char *replaces = ari ? acme_certificate_id(settings) : NULL;
	int r = url ? 0 : -EINVAL;

	if (r == 0 && profile)
		r = check_profile(acme, profile, err);
	if (r == 0)
		r = order_once(acme, url, replaces, answer, err);
	if (r == -EACCES && replaces && may_replace_nothing(answer)) {
		acme_answer_clear(answer);
		r = order_once(acme, url, NULL, answer, err);
	}
	if (r == 0)
		r = acme_check_url(acme, answer->location, "order", err);
	free(replaces);
	return r;
}
