/* A tunnel's connection as charon is told of it (load-conn). */
#include "netlink/charon.h"

#include "common/proposal.h"
#include "common/traffic.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

/* What is offered where the config names nothing: charon's own choice takes SHA-1 as well. */
static const char *const ike_proposals[] = {
	"aes256gcm16-aes128gcm16-prfsha384-prfsha256-ecp384-ecp256-x25519-modp3072-modp2048",
	"aes256-aes128-sha384-sha256-prfsha384-prfsha256-ecp384-ecp256-x25519-modp3072-modp2048",
	NULL,
};
static const char *const esp_proposals[] = {
	"aes256gcm16-aes128gcm16-ecp384-ecp256-x25519-modp3072-modp2048",
	"aes256gcm16-aes128gcm16",
	"aes256-aes128-sha384-sha256-ecp384-ecp256-x25519-modp3072-modp2048",
	"aes256-aes128-sha384-sha256",
	NULL,
};

struct connection {
	struct record *message;
	const struct record *settings;
	const char *name;
};

/* VALUE under KEY within our section of the message. */
static void add(const struct connection *connection, const char *key, const char *value)
{
	char path[128];

	snprintf(path, sizeof path, "%s.%s", connection->name, key);
	record_add(connection->message, path, value);
}

static void add_number(const struct connection *connection, const char *key, long long value)
{
	char text[24];

	snprintf(text, sizeof text, "%lld", value);
	add(connection, key, text);
}

static void add_seconds(const struct connection *connection, const char *key, const char *setting)
{
	char text[32];

	snprintf(text, sizeof text, "%llds", record_number(connection->settings, setting, 0));
	add(connection, key, text);
}

/* All values of SETTING, which are certificates. */
static void add_certificates(const struct connection *connection, const char *key,
                             const char *setting)
{
	const struct field *field;
	char path[128];

	snprintf(path, sizeof path, "%s.%s", connection->name, key);
	for (size_t i = 0; (field = record_next(connection->settings, setting, &i)) != NULL;)
		record_add_bytes(connection->message, path, field->value, field->length);
}

static void add_address(const struct connection *connection, const char *key, const char *setting)
{
	const char *address = record_get(connection->settings, setting);

	add(connection, key, !address || strcmp(address, "any") == 0 ? "%any" : address);
}

static void add_proposals(const struct connection *connection, const char *key, const char *setting,
                          bool ike)
{
	const char *const *otherwise = ike ? ike_proposals : esp_proposals;
	const struct field *field;
	char text[PROPOSAL_MAX];
	struct proposal proposal;

	for (size_t i = 0; (field = record_next(connection->settings, setting, &i)) != NULL;)
		if (proposal_read(field->value, ike, true, &proposal, NULL) == 0) {
			proposal_text(&proposal, text);
			add(connection, key, text);
		}
	for (; !record_find(connection->settings, setting) && *otherwise; otherwise++)
		add(connection, key, *otherwise);
}

/* "10.1.0.0/24[6/443]" */
static void add_traffic(const struct connection *connection, const char *key, const char *setting)
{
	char address[INET6_ADDRSTRLEN], text[INET6_ADDRSTRLEN + 32];
	const struct field *field;
	struct traffic traffic;

	for (size_t i = 0; (field = record_next(connection->settings, setting, &i)) != NULL;) {
		if (traffic_read(field->value, &traffic, NULL) < 0 ||
		    !inet_ntop(traffic.family, traffic.address, address, sizeof address))
			continue;
		if (traffic.protocol || traffic.port)
			snprintf(text, sizeof text, "%s/%d[%d/%d]", address, traffic.length,
			         traffic.protocol, traffic.port);
		else
			snprintf(text, sizeof text, "%s/%d", address, traffic.length);
		add(connection, key, text);
	}
	if (!record_find(connection->settings, setting))
		add(connection, key, "dynamic");
}

static void add_ends(const struct connection *connection)
{
	const char *local = record_get(connection->settings, "local-id");
	const char *remote = record_get(connection->settings, "remote-id");

	add(connection, "local.auth", "pubkey");
	if (local)
		add(connection, "local.id", local);
	add_certificates(connection, "local.certs[]", "certificate");
	add(connection, "remote.auth", "pubkey");
	add(connection, "remote.id", !remote || strcmp(remote, "any") == 0 ? "%any" : remote);
	/* any other CA that charon has would be believed as well */
	add_certificates(connection, "remote.cacerts[]", "ca");
}

static void add_marks(const struct connection *connection, const char *child)
{
	const char *mark = record_get(connection->settings, "mark");
	long long if_id = record_number(connection->settings, "if-id", 0);
	char key[96];

	if (mark) {
		snprintf(key, sizeof key, "%s.mark_out", child);
		add(connection, key, mark);
	}
	for (int out = 0; if_id && out < 2; out++) {
		snprintf(key, sizeof key, "%s.%s", child, out ? "if_id_out" : "if_id_in");
		add_number(connection, key, if_id);
	}
}

/* The policies are ours, and lead to SAs of this reqid. */
static void add_child(const struct connection *connection, uint32_t reqid)
{
	char child[64], key[96];
	const struct {
		const char *key, *value;
	} plain[] = {
		{ "mode",
		  record_is(connection->settings, "mode", "transport") ? "transport" : "tunnel" },
		{ "policies", "no" },
		{ "start_action", "none" },
		{ "close_action", "none" },
		{ "dpd_action", "clear" },
	};

	snprintf(child, sizeof child, "children.%s", connection->name);
	for (size_t i = 0; i < COUNT(plain); i++) {
		snprintf(key, sizeof key, "%s.%s", child, plain[i].key);
		add(connection, key, plain[i].value);
	}
	snprintf(key, sizeof key, "%s.reqid", child);
	add_number(connection, key, reqid);
	snprintf(key, sizeof key, "%s.rekey_time", child);
	add_seconds(connection, key, "esp-lifetime");
	add_marks(connection, child);
	snprintf(key, sizeof key, "%s.local_ts[]", child);
	add_traffic(connection, key, "local-subnet");
	snprintf(key, sizeof key, "%s.remote_ts[]", child);
	add_traffic(connection, key, "remote-subnet");
	snprintf(key, sizeof key, "%s.esp_proposals[]", child);
	add_proposals(connection, key, "esp-proposal", false);
}

struct record *charon_connection(const struct record *settings, const char *name, uint32_t reqid)
{
	const struct connection connection = { record_new(), settings, name };

	if (!connection.message)
		return NULL;
	add(&connection, "version", "2");
	add(&connection, "mobike", "no");
	add(&connection, "send_cert", "always");
	add_seconds(&connection, "rekey_time", "ike-lifetime");
	add_seconds(&connection, "dpd_delay", "dpd-interval");
	add_address(&connection, "local_addrs[]", "local-address");
	add_address(&connection, "remote_addrs[]", "remote-address");
	add_proposals(&connection, "proposals[]", "ike-proposal", true);
	add_ends(&connection);
	add_child(&connection, reqid);
	if (record_failed(connection.message)) {
		record_free(connection.message);
		return NULL;
	}
	return connection.message;
}
