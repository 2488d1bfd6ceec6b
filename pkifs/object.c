#include "pkifs/object.h"

#include "pkifs/account.h"
#include "pkifs/autoenroll.h"
#include "pkifs/believed.h"
#include "pkifs/crl.h"
#include "pkifs/declare.h"
#include "pkifs/jobs.h"
#include "pkifs/keyring.h"
#include "pkifs/renewal.h"
#include "pkifs/suggest.h"
#include "pkifs/tree.h"
#include "pkifs/tunnel.h"
#include "pkifs/watch.h"

#include <errno.h>
#include <grp.h>
#include <openssl/crypto.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int object_create(struct store *store, enum kind kind, const char *name, uid_t uid, gid_t gid)
{
	struct edition edition = { .created = store_now(store) };
	struct file_mode mode = { .uid = uid, .gid = gid, .mode = 0755 };
	struct object object = { .kind = kind };
	int64_t row;
	int r;

	r = db_object_add(store->db, kind, name, store_now(store), &object.id);
	if (r == 0)
		r = db_config_set(store->db, object.id, "", 0, store_now(store), &row);
	edition.object = object.id;
	if (r == 0)
		r = db_edition_add(store->db, &edition, &row);
	if (r == 0 && (uid != store->uid || gid != store->gid))
		r = db_mode_set(store->db, object.id, kind_folder(kind), &mode);
	if (r == 0)
		r = db_object_get(store->db, object.id, &object);
	if (r == 0 && kind == KIND_IPSEC)
		r = tunnel_made(store, &object);
	return r < 0 ? r : store_event(store, &object, "created", NULL);
}

int object_remove(struct store *store, const struct object *object, struct error *err)
{
	struct object by;
	int r;

	if (db_declared_find(store->db, object->id) == 0)
		return error_set(err, -EBUSY,
		                 "%s %s is declared in pkifs.conf: take it out there, then send "
		                 "pkifsd SIGHUP",
		                 kind_name(object->kind), object->name);
	r = db_reference_find(store->db, object->id, &by);
	if (r == 0)
		return error_set(err, -EBUSY, "%s %s is in use by %s %s", kind_name(object->kind),
		                 object->name, kind_name(by.kind), by.name);
	r = jobs_forget(store, object->id);
	if (r == 0 && object->kind == KIND_IPSEC)
		r = tunnel_forget(store, object);
	if (r == 0)
		r = account_forget(store, object);
	if (r == 0)
		r = suggestion_forget(store, object);
	if (r == 0)
		r = store_event(store, object, "removed", NULL);
	if (r == 0 && object->kind == KIND_CA) {
		keyrings_reconfigured(store);
		r = crl_sweep_after(store);
	}
	return r < 0 ? r : db_object_remove(store->db, object->id);
}

int object_hand_over(struct store *store, const struct object *object, enum file folder,
                     const struct file_mode *mode)
{
	struct file_mode own;
	int r = db_mode_set(store->db, object->id, folder, mode);

	for (enum file file = FILE_CONFIG; r == 0 && file < FILES; file++) {
		if (db_mode_get(store->db, object->id, file, &own) < 0)
			continue;
		own.uid = mode->uid;
		own.gid = mode->gid;
		r = db_mode_set(store->db, object->id, file, &own);
	}
	return r;
}

/* Keys that only root may set have the value that they had. */
static int check_root_keys(const struct key_table *table, const struct record *config,
                           const struct record *old, struct error *err)
{
	for (size_t i = 0; i < record_count(config); i++) {
		const struct field *field = record_field(config, i);
		const struct key *key = key_find(table, field->key);

		if (key && (key->flags & KEY_ROOT) && !record_is(old, field->key, field->value))
			return error_set(err, -EACCES, "%s can be set by root alone", key->name);
	}
	return 0;
}

int reference_check(struct store *store, const struct key *key, const char *value,
                    struct object *target, struct error *err)
{
	enum kind kind = key && (key->flags & KEY_CA) ? KIND_CA : KIND_LOCAL;
	struct object found;
	int r;

	if (!key || !(key->flags & (KEY_CA | KEY_LOCAL)) || !*value)
		return 0;
	r = db_object_find(store->db, kind, value, target ? target : &found);
	if (r == -ENOENT)
		return error_set(err, -EINVAL, "%s = %s: there is no %s of that name", key->name,
		                 value, kind == KIND_CA ? "CA profile" : "certificate id");
	return r < 0 ? r : 1;
}

/* Each object that CONFIG names exists; with KEEP they are noted as in use by OBJECT. */
static int check_references(struct store *store, const struct object *object,
                            const struct record *config, bool keep, struct error *err)
{
	const struct key_table *table = config_table(object->kind);
	int r = keep ? db_reference_clear(store->db, object->id) : 0;

	for (size_t i = 0; r >= 0 && i < record_count(config); i++) {
		const struct field *field = record_field(config, i);
		struct object target;

		r = reference_check(store, key_find(table, field->key), field->value, &target, err);
		if (r == 1 && keep)
			r = db_reference_add(store->db, object->id, target.id);
	}
	return r < 0 ? r : 0;
}

/* What depends on a config that is another one now. */
static int follow_config(struct store *store, const struct object *object)
{
	int r;

	tunnels_look(store);
	if (object->kind == KIND_CA) {
		believed_forget();
		keyrings_reconfigured(store);
	}
	if (object->kind == KIND_IPSEC)
		return tunnel_reconfigured(store, object);
	r = object->kind == KIND_CA ? renewal_reconfigured(store, object->id)
	                            : renewal_plan(store, object->id);
	if (r < 0)
		return r;
	return object->kind == KIND_CA ? watch_profile(store, object->id)
	                               : watch_look(store, object->id);
}

static int keep_config(struct store *store, const struct object *object, const char *text,
                       size_t length, const struct record *config, struct error *err)
{
	struct blob old = { 0 };
	int64_t row, owner, created;
	bool same;
	int r;

	r = db_config_get(store->db, object->config, &owner, &created, &old);
	same = r == 0 && old.length == length && memcmp(old.data, text, length) == 0;
	blob_clear(&old);
	if (same)
		return db_object_set_error(store->db, object->id, "");
	r = db_config_set(store->db, object->id, text, length, store_now(store), &row);
	if (r == 0)
		r = check_references(store, object, config, true, err);
	if (r == 0)
		r = db_object_set_error(store->db, object->id, "");
	row_fades(store, ROW_CONFIG, object->config, object->id);
	if (r == 0)
		r = db_prune(store->db, object->id, store_setting(store, "keep-versions"),
		             row_is_open, store);
	if (r == 0)
		r = jobs_reconfigured(store, object);
	if (r == 0)
		r = auto_enroll_reconfigured(store, object->id);
	if (r == 0 && object->kind == KIND_CA)
		r = crl_fetch_plan(store, object->id);
	if (r == 0 && object->kind == KIND_CA) /* perhaps of another responder */
		r = db_ocsp_ask_again(store->db, object->id, store_now(store));
	if (r == 0)
		r = follow_config(store, object);
	return r < 0 ? r : store_event(store, object, "config", NULL);
}

/* TEXT, read as CONFIG, does not contradict what is declared; what it leaves out of it is added. */
static int keep_declared(struct store *store, const struct object *object, char **text,
                         size_t *length, struct record **config, struct error *err)
{
	const struct key_table *table = config_table(object->kind);
	struct record *missing = NULL;
	char *whole = NULL;
	size_t whole_length = 0;
	int r = declared_hold(store, object, *config, &missing, err);

	if (r == 0 && record_count(missing)) {
		r = key_merge(table, *text, *length, missing, &whole, &whole_length, err);
		if (r == 0) {
			OPENSSL_clear_free(*text, *length + 1);
			record_free(*config);
			*text = whole;
			*length = whole_length;
			*config = NULL;
			r = record_parse(whole, whole_length, NULL, config, err);
		}
	}
	record_free(missing);
	return r;
}

int config_accept(struct store *store, const struct object *object, const char *text, size_t length,
                  uid_t uid, bool dry, struct error *err)
{
	const struct key_table *table = config_table(object->kind);
	struct record *old = NULL, *config = NULL;
	size_t whole_length = 0;
	char *whole = NULL;
	int r;

	r = store_config(store, object, &old);
	if (r == 0)
		r = key_restore(table, text, length, old, &whole, &whole_length, err);
	if (r == 0)
		r = record_parse(whole, whole_length, NULL, &config, err);
	if (r == 0)
		r = key_check_record(table, config, err);
	if (r == 0)
		r = keep_declared(store, object, &whole, &whole_length, &config, err);
	if (r == 0 && store->privileged && uid != 0)
		r = check_root_keys(table, config, old, err);
	if (r == 0)
		r = check_references(store, object, config, false, err);
	if (r == 0 && object->kind == KIND_IPSEC)
		r = tunnel_check_config(store, config, err);
	if (r == 0 && object->kind == KIND_CA)
		r = keyring_check_config(store, object, config, err);
	if (r == 0 && !dry)
		r = keep_config(store, object, whole, whole_length, config, err);
	OPENSSL_clear_free(whole, whole ? whole_length + 1 : 0);
	record_free(old);
	record_free(config);
	return r;
}

int object_accept(struct store *store, const struct object *object, enum file file,
                  const char *text, size_t length, uid_t uid, bool dry, struct error *err)
{
	switch (file) {
	case FILE_CONFIG:
		return config_accept(store, object, text, length, uid, dry, err);
	case FILE_REQUEST:
		return request_accept(store, object, text, length, uid, dry, err);
	case FILE_CONFIRM:
		return confirm_accept(store, object, text, length, dry, err);
	case FILE_CA_CERT:
		return ca_cert_accept(store, object, text, length, dry, err);
	case FILE_CERT:
		return cert_accept(store, object, text, length, dry, err);
	default:
		return error_set(err, -EACCES, "%s cannot be written", file_rows[file].name);
	}
}

int object_truncate(struct store *store, const struct object *object, enum file file, uid_t uid)
{
	struct error err = { 0 };
	int r;

	if (file != FILE_CONFIG) /* nothing else means anything when it is empty */
		return 0;
	r = store_begin(store);
	if (r == 0)
		r = store_end(store, config_accept(store, object, "", 0, uid, false, &err));
	return r < 0 ? r : 0;
}

int object_profile(struct store *store, const struct record *config, struct object *profile)
{
	const char *name = record_get(config, "ca-profile");

	return name && *name ? db_object_find(store->db, KIND_CA, name, profile) : -ENOENT;
}

int version_profile(struct store *store, const struct record *config, const struct version *version,
                    struct object *profile)
{
	struct edition edition;
	bool found = false;
	int r;

	*profile = (struct object){ 0 };
	if (object_profile(store, config, profile) == 0)
		return 0;
	while (!found && (r = db_object_next(store->db, KIND_CA, profile->id, profile)) == 0) {
		r = db_edition_get(store->db, profile->edition, &edition);
		if (r < 0)
			return r;
		found = edition.certificate.length && version->chain.length &&
		        strstr(version->chain.data, edition.certificate.data);
		edition_clear(&edition);
	}
	if (!found)
		profile->id = 0;
	return found || r == -ENOENT ? 0 : r;
}

const char *object_protocol(const struct record *config, const struct record *settings)
{
	const char *protocol = record_get(config, "protocol");

	if (!protocol && settings)
		protocol = record_get(settings, "protocol");
	return protocol ? protocol : "scep";
}

static unsigned char *put16(unsigned char *at, unsigned value)
{
	*at++ = (unsigned char)value;
	*at++ = (unsigned char)(value >> 8);
	return at;
}

/* One entry of acl(5)'s extended attribute: tag, permissions, id; little endian. */
static unsigned char *put_entry(unsigned char *at, unsigned tag, unsigned permissions, uint32_t id)
{
	at = put16(at, tag);
	at = put16(at, permissions);
	at = put16(at, id & 0xffff);
	return put16(at, id >> 16);
}

/* The id that "user:NAME" or "group:NAME" means; false where there is none (any more). */
static bool reader_id(const char *reader, bool *group, uint32_t *id)
{
	const char *name = strchr(reader, ':');
	struct passwd *user;
	struct group *members;

	*group = strncmp(reader, "group:", 6) == 0;
	if (!name)
		return false;
	user = *group ? NULL : getpwnam(name + 1);
	members = *group ? getgrnam(name + 1) : NULL;
	if (!user && !members)
		return false;
	*id = user ? user->pw_uid : members->gr_gid;
	return true;
}

size_t key_readers_acl(struct store *store, const struct object *object, mode_t mode,
                       unsigned char *acl)
{
	enum { USER_OBJ = 1, USER = 2, GROUP_OBJ = 4, GROUP = 8, MASK = 16, OTHER = 32 };
	const uint32_t nobody = UINT32_MAX;
	struct record *config = NULL;
	const struct field *field;
	unsigned char *at = acl;
	bool some = false;

	if (store_settings(store, object, &config) < 0)
		return 0;
	at = put_entry(put16(put16(at, 2), 0), USER_OBJ, mode >> 6 & 7, nobody);
	for (int groups = 0; groups < 2; groups++) { /* users first, as acl(5) wants them */
		if (groups)
			at = put_entry(at, GROUP_OBJ, mode >> 3 & 7, nobody);
		for (size_t i = 0; (field = record_next(config, "key-readers", &i)) != NULL;) {
			bool group;
			uint32_t id;

			if (!reader_id(field->value, &group, &id) || group != (groups == 1) ||
			    at - acl > ACL_MAX - 32)
				continue;
			at = put_entry(at, group ? GROUP : USER, 4, id);
			some = true;
		}
	}
	at = put_entry(at, MASK, 4 | (mode >> 3 & 7), nobody);
	at = put_entry(at, OTHER, mode & 7, nobody);
	record_free(config);
	return some ? (size_t)(at - acl) : 0;
}
