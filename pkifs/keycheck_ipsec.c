/* The checks of what a tunnel's settings say. */
#include "common/hex.h"
#include "common/proposal.h"
#include "common/traffic.h"
#include "common/x509.h"
#include "pkifs/identity.h"
#include "pkifs/keycheck.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

/* ERR names the key before what REASON says. */
static int explain(const struct key *key, const struct error *reason, struct error *err)
{
	return error_set(err, reason->code, "%s: %s", key->name, reason->text);
}

int check_endpoint(const struct key *key, const char *value, struct error *err)
{
	struct error reason = { 0 };

	if (strcmp(value, "any") == 0 || check_ip_address(value, NULL) == 0)
		return 0;
	return check_dns_name(value, &reason) < 0 ? explain(key, &reason, err) : 0;
}

int check_local_id(const struct key *key, const char *value, struct error *err)
{
	struct error reason = { 0 };

	return identity_check_local(value, NULL, &reason) < 0 ? explain(key, &reason, err) : 0;
}

int check_remote_id(const struct key *key, const char *value, struct error *err)
{
	struct path_name name;
	struct error reason = { 0 };

	return identity_read(value, &name, &reason) < 0 ? explain(key, &reason, err) : 0;
}

int check_traffic(const struct key *key, const char *value, struct error *err)
{
	struct traffic traffic;
	struct error reason = { 0 };

	return traffic_read(value, &traffic, &reason) < 0 ? explain(key, &reason, err) : 0;
}

/* Whether weak algorithms may be named is not judged here: `allow-legacy` may stand below. */
static int check_proposal(const struct key *key, const char *value, bool ike, struct error *err)
{
	struct proposal proposal;
	struct error reason = { 0 };

	return proposal_read(value, ike, true, &proposal, &reason) < 0 ? explain(key, &reason, err)
	                                                               : 0;
}

int check_ike_proposal(const struct key *key, const char *value, struct error *err)
{
	return check_proposal(key, value, true, err);
}

int check_esp_proposal(const struct key *key, const char *value, struct error *err)
{
	return check_proposal(key, value, false, err);
}

int check_mark(const struct key *key, const char *value, struct error *err)
{
	uint32_t mark, mask;

	if (mark_read(value, &mark, &mask) == 0)
		return 0;
	return error_set(err, -EINVAL,
	                 "%s takes VALUE or VALUE/MASK, such as 0x10/0xff, not \"%.40s\"",
	                 key->name, value);
}

/* What ip-netns(8) takes for a name, which becomes part of a path. */
int check_netns(const struct key *key, const char *value, struct error *err)
{
	if (object_name_is_legal(value))
		return 0;
	return error_set(err, -EINVAL, "%s takes the name of a network namespace, not \"%.40s\"",
	                 key->name, value);
}

int check_spi(const struct key *key, const char *value, struct error *err)
{
	uint32_t spi, mask;

	/* those below are reserved (RFC 4303 §2.1) */
	if (!strchr(value, '/') && mark_read(value, &spi, &mask) == 0 && spi > 255)
		return 0;
	return error_set(err, -EINVAL,
	                 "%s takes a number from 256 to 4294967295 (0x100 to 0xffffffff), not "
	                 "\"%.40s\"",
	                 key->name, value);
}

int check_hex(const struct key *key, const char *value, struct error *err)
{
	unsigned char bytes[128];

	if (hex_read(value, bytes, sizeof bytes) > 0)
		return 0;
	return error_set(err, -EINVAL, "%s takes up to %zu bytes as hex digits", key->name,
	                 sizeof bytes);
}
