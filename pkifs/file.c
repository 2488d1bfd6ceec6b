#include "pkifs/file.h"

#include "pkifs/content.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define INODE_FILE_SHIFT 56
#define INODE_NUMBER     ((UINT64_C(1) << INODE_FILE_SHIFT) - 1)

/* clang-format off */
const struct file_row file_rows[FILES] = {
	[FILE_ROOT]         = { "", 0, false, NUMBER_ONE, FILE_IS_FOLDER, 0755, 0, NULL },
	[FILE_CA_FOLDER]    = { "ca", FILE_ROOT, false, NUMBER_ONE, FILE_IS_FOLDER, 0755, 0, NULL },
	[FILE_LOCAL_FOLDER] = { "local", FILE_ROOT, false, NUMBER_ONE, FILE_IS_FOLDER, 0755, 0, NULL },
	[FILE_CA]           = { NULL, FILE_CA_FOLDER, false, NUMBER_OBJECT, FILE_IS_FOLDER, 0755, 0, NULL },
	[FILE_LOCAL]        = { NULL, FILE_LOCAL_FOLDER, false, NUMBER_OBJECT, FILE_IS_FOLDER, 0755, 0, NULL },
	[FILE_VERSIONS]     = { "versions", FILE_LOCAL, false, NUMBER_OBJECT, FILE_IS_FOLDER, 0755, 0, NULL },
	[FILE_VERSION]      = { NULL, FILE_VERSIONS, false, NUMBER_VERSION, FILE_IS_FOLDER, 0755, 0, NULL },

	[FILE_README]       = { "README", FILE_ROOT, false, NUMBER_ONE, 0, 0644, 0, make_readme },
	[FILE_STATUS_ALL]   = { "status", FILE_ROOT, false, NUMBER_ONE, FILE_DIRECT | FILE_MADE, 0644, 0, make_status_all },
	[FILE_STATUS_JSON]  = { "status.json", FILE_ROOT, false, NUMBER_ONE, FILE_DIRECT | FILE_MADE, 0644, 0, make_status_json },
	[FILE_METRICS]      = { "metrics", FILE_ROOT, false, NUMBER_ONE, FILE_DIRECT | FILE_MADE, 0644, 0, make_metrics },
	[FILE_EVENTS]       = { "events", FILE_ROOT, false, NUMBER_OFFSET, FILE_DIRECT | FILE_MADE, 0644, 0, NULL },
	[FILE_WATCH]        = { "watch", FILE_ROOT, false, NUMBER_ONE, FILE_DIRECT | FILE_MADE | FILE_WAITS, 0644, 0, make_empty },

	[FILE_CONFIG]       = { "config", FILE_CA, true, NUMBER_CONFIG, FILE_WRITABLE | FILE_DIRECT | FILE_MADE, 0640, 0, make_config },
	[FILE_REQUEST]      = { "request", FILE_CA, true, NUMBER_OBJECT, FILE_WRITABLE | FILE_DIRECT | FILE_MADE, 0640, 0, make_request },
	[FILE_STATUS]       = { "status", FILE_CA, true, NUMBER_OBJECT, FILE_DIRECT | FILE_MADE, 0644, 0, make_status },
	[FILE_WAIT]         = { "wait", FILE_CA, true, NUMBER_OBJECT, FILE_DIRECT | FILE_MADE | FILE_WAITS, 0644, 0, make_empty },

	[FILE_CA_CERT]      = { "cert.pem", FILE_CA, false, NUMBER_EDITION, FILE_WRITABLE | FILE_DIRECT, 0644, 0, make_ca_cert },
	[FILE_CA_CHAIN]     = { "chain.pem", FILE_CA, false, NUMBER_EDITION, 0, 0644, 0, make_ca_chain },
	[FILE_FINGERPRINT]  = { "fingerprint", FILE_CA, false, NUMBER_EDITION, FILE_DIRECT | FILE_MADE, 0644, 0, make_fingerprint },
	[FILE_PENDING]      = { "pending.pem", FILE_CA, false, NUMBER_EDITION, FILE_DIRECT | FILE_MADE, 0644, 0, make_pending },
	[FILE_NEXT]         = { "next.pem", FILE_CA, false, NUMBER_EDITION, FILE_DIRECT | FILE_MADE, 0644, 0, make_next },
	[FILE_CONFIRM]      = { "confirm", FILE_CA, false, NUMBER_OBJECT, FILE_WRITABLE | FILE_DIRECT | FILE_MADE, 0200, 0, make_empty },
	[FILE_CRL_PEM]      = { "crl.pem", FILE_CA, false, NUMBER_EDITION, FILE_WRITABLE | FILE_DIRECT | FILE_LARGE, 0644, 0, make_crl_pem },
	[FILE_CRL_DER]      = { "crl.der", FILE_CA, false, NUMBER_EDITION, 0, 0644, 0, make_crl_der },

	[FILE_KEY]          = { "key.pem", FILE_LOCAL, false, NUMBER_EDITION, FILE_WRITABLE | FILE_DIRECT | FILE_PRIVATE, 0600, 0, make_key },
	[FILE_PUBLIC]       = { "public.pem", FILE_LOCAL, false, NUMBER_EDITION, 0, 0644, 0, make_public },
	[FILE_CSR]          = { "csr.pem", FILE_LOCAL, false, NUMBER_EDITION, 0, 0644, 0, make_csr },
	[FILE_CSR_FINGERPRINT] = { "csr.fingerprint", FILE_LOCAL, false, NUMBER_EDITION, 0, 0644, 0, make_csr_fingerprint },
	[FILE_CERT]         = { "cert.pem", FILE_LOCAL, false, NUMBER_EDITION, FILE_WRITABLE | FILE_DIRECT, 0644, 0, make_cert },
	[FILE_CHAIN]        = { "chain.pem", FILE_LOCAL, false, NUMBER_EDITION, 0, 0644, 0, make_chain },
	[FILE_FULLCHAIN]    = { "fullchain.pem", FILE_LOCAL, false, NUMBER_EDITION, 0, 0644, 0, make_fullchain },
	[FILE_BUNDLE]       = { "bundle.pem", FILE_LOCAL, false, NUMBER_EDITION, FILE_DIRECT | FILE_PRIVATE, 0600, 0, make_bundle },

	[FILE_OCSP]         = { "ocsp.der", FILE_LOCAL, false, NUMBER_EDITION, FILE_DIRECT | FILE_MADE, 0644, 0, make_ocsp },
	[FILE_BUNDLE_OCSP]  = { "bundle.pem.ocsp", FILE_LOCAL, false, NUMBER_EDITION, 0, 0644, 0, make_bundle_ocsp },

	[FILE_OLD_CERT]     = { "cert.pem", FILE_VERSION, false, NUMBER_VERSION, 0, 0644, 0, make_cert },
	[FILE_OLD_FULLCHAIN] = { "fullchain.pem", FILE_VERSION, false, NUMBER_VERSION, 0, 0644, 0, make_fullchain },
	[FILE_OLD_KEY]      = { "key.pem", FILE_VERSION, false, NUMBER_VERSION, FILE_DIRECT | FILE_PRIVATE, 0600, FILE_KEY, make_key },
	[FILE_OLD_BUNDLE]   = { "bundle.pem", FILE_VERSION, false, NUMBER_VERSION, FILE_DIRECT | FILE_PRIVATE, 0600, FILE_BUNDLE, make_bundle },

	[FILE_CHALLENGES]   = { "acme-challenge", FILE_ROOT, false, NUMBER_ONE, FILE_IS_FOLDER, 0755, 0, NULL },
	[FILE_CHALLENGE]    = { NULL, FILE_CHALLENGES, false, NUMBER_CHALLENGE, FILE_DIRECT | FILE_MADE, 0644, 0, make_challenge },

	[FILE_VERIFY]       = { "verify", FILE_CA, false, NUMBER_OBJECT, FILE_WRITABLE | FILE_DIRECT | FILE_MADE, 0644, 0, make_empty },

	[FILE_IPSEC_FOLDER] = { "ipsec", FILE_ROOT, false, NUMBER_ONE, FILE_IS_FOLDER, 0755, 0, NULL },
	[FILE_IPSEC]        = { NULL, FILE_IPSEC_FOLDER, false, NUMBER_OBJECT, FILE_IS_FOLDER, 0755, 0, NULL },
	[FILE_PEER]         = { "peer.pem", FILE_IPSEC, false, NUMBER_EDITION, 0, 0644, 0, make_ca_cert },

	[FILE_TEMPORARY]    = { NULL, FILE_TEMPORARY, false, NUMBER_TEMPORARY, FILE_WRITABLE | FILE_DIRECT | FILE_MADE, 0600, 0, NULL },
};
/* clang-format on */

static const struct {
	enum file place, folder;
} kinds[] = {
	[KIND_CA] = { FILE_CA_FOLDER, FILE_CA },
	[KIND_LOCAL] = { FILE_LOCAL_FOLDER, FILE_LOCAL },
	[KIND_IPSEC] = { FILE_IPSEC_FOLDER, FILE_IPSEC },
};

enum file kind_folder(enum kind kind)
{
	return kinds[kind].folder;
}

enum kind folder_kind(enum file file)
{
	for (enum kind kind = KIND_CA; kind <= KIND_IPSEC; kind++)
		if (kinds[kind].folder == file)
			return kind;
	return 0;
}

enum kind place_kind(enum file place)
{
	for (enum kind kind = KIND_CA; kind <= KIND_IPSEC; kind++)
		if (kinds[kind].place == place)
			return kind;
	return 0;
}

uint64_t inode_make(enum file file, int64_t number)
{
	return (uint64_t)file << INODE_FILE_SHIFT | ((uint64_t)number & INODE_NUMBER);
}

enum file inode_file(uint64_t ino)
{
	return (enum file)(ino >> INODE_FILE_SHIFT);
}

int64_t inode_number(uint64_t ino)
{
	return (int64_t)(ino & INODE_NUMBER);
}

uint64_t node_inode(const struct node *node)
{
	return inode_make(node->file, node->number);
}

/* The object that the row of the node's number belongs to. */
static int owner_of(struct store *store, const struct node *node, int64_t *object)
{
	*object = 0;
	switch (file_rows[node->file].number) {
	case NUMBER_OBJECT:
		*object = node->number;
		return 0;
	case NUMBER_CONFIG:
		return db_owner(store->db, ROW_CONFIG, node->number, object);
	case NUMBER_EDITION:
		return db_owner(store->db, ROW_EDITION, node->number, object);
	case NUMBER_VERSION:
		return db_owner(store->db, ROW_VERSION, node->number, object);
	default:
		return 0;
	}
}

static bool is_current(const struct node *node)
{
	switch (file_rows[node->file].number) {
	case NUMBER_CONFIG:
		return node->object.config == node->number;
	case NUMBER_EDITION:
		return node->object.edition == node->number;
	default:
		return true;
	}
}

int node_get(struct store *store, uint64_t ino, struct node *node)
{
	int64_t object;
	int r;

	*node = (struct node){ .file = inode_file(ino), .number = inode_number(ino) };
	if (node->file >= FILES)
		return -ESTALE;
	r = owner_of(store, node, &object);
	if (r == 0 && object)
		r = db_object_get(store->db, object, &node->object);
	if (r == 0 && object && !file_rows[node->file].shared &&
	    folder_kind(file_rows[node->file].folder) &&
	    folder_kind(file_rows[node->file].folder) != node->object.kind)
		r = -ENOENT;
	node->current = r == 0 && is_current(node);
	return r == -ENOENT ? -ESTALE : r;
}

bool file_in_folder(enum file file, enum file folder)
{
	const struct file_row *row = &file_rows[file];

	return file != FILE_ROOT &&
	       (row->folder == folder || (row->shared && folder_kind(folder) != 0));
}

enum file file_find(enum file folder, const char *name)
{
	for (enum file file = FILE_ROOT + 1; file < FILES; file++)
		if (file_rows[file].name && file_in_folder(file, folder) &&
		    strcmp(file_rows[file].name, name) == 0)
			return file;
	return FILE_ROOT;
}

int node_of(struct store *store, const struct object *object, enum file file, struct node *node)
{
	int r = 0;

	*node = (struct node){ .file = file, .current = true };
	if (object)
		node->object = *object;
	switch (file_rows[file].number) {
	case NUMBER_ONE:
		node->number = 1;
		break;
	case NUMBER_OBJECT:
		node->number = object->id;
		break;
	case NUMBER_CONFIG:
		node->number = object->config;
		break;
	case NUMBER_EDITION:
		node->number = object->edition;
		break;
	case NUMBER_OFFSET:
		r = db_event_back(store->db, 1000, &node->number);
		break;
	default:
		return -ENOENT;
	}
	return r;
}

int node_content(struct store *store, const struct node *node, struct content *content)
{
	const struct file_row *row = &file_rows[node->file];
	int r;

	*content = (struct content){ .time = node->object.id ? node->object.created : 0 };
	if (!row->make)
		return -ENOENT;
	r = row->make(store, node, content);
	if (r < 0)
		content_clear(content);
	return r;
}

struct snapshot *snapshot_take(struct content *content)
{
	struct snapshot *snapshot = content->shared;

	if (!snapshot) {
		snapshot = malloc(sizeof *snapshot);
		if (!snapshot)
			return NULL;
		*snapshot = (struct snapshot){ .users = 1,
			                       .text = content->text,
			                       .length = content->length };
	}
	content->shared = NULL;
	content->text = NULL;
	return snapshot;
}

void snapshot_drop(struct snapshot *snapshot)
{
	if (!snapshot || --snapshot->users)
		return;
	free(snapshot->text);
	free(snapshot);
}

void content_clear(struct content *content)
{
	if (content->shared)
		snapshot_drop(content->shared);
	else
		free(content->text);
	*content = (struct content){ 0 };
}

size_t content_size(const struct content *content)
{
	if (content->crl)
		return content->crl_pem ? pem_crl_size(content->crl_size)
		                        : (size_t)content->crl_size;
	return content->key_size + content->length;
}
