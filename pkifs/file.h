/*
 * The tree's files: one row each. An inode's number says everything by itself: the row of its
 * file, and the row in the store that its content comes from. Content of an inode never changes;
 * what changes gets a new inode, and OPEN of the old one is answered ESTALE.
 */
#ifndef PKIFS_FILE_H
#define PKIFS_FILE_H

#include "pkifs/store.h"

/* Owners and modes are stored under these numbers: what is new goes to the end. */
enum file {
	FILE_ROOT, /* row 0, number 1: FUSE's root inode */
	FILE_CA_FOLDER,
	FILE_LOCAL_FOLDER,
	FILE_CA,
	FILE_LOCAL,
	FILE_VERSIONS,
	FILE_VERSION,
	FILE_README,
	FILE_STATUS_ALL,
	FILE_STATUS_JSON,
	FILE_EVENTS,
	FILE_WATCH,
	FILE_CONFIG,
	FILE_REQUEST,
	FILE_STATUS,
	FILE_WAIT,
	FILE_CA_CERT,
	FILE_CA_CHAIN,
	FILE_FINGERPRINT,
	FILE_PENDING,
	FILE_CONFIRM,
	FILE_CRL_PEM,
	FILE_CRL_DER,
	FILE_KEY,
	FILE_PUBLIC,
	FILE_CSR,
	FILE_CSR_FINGERPRINT,
	FILE_CERT,
	FILE_CHAIN,
	FILE_FULLCHAIN,
	FILE_BUNDLE,
	FILE_OLD_CERT,
	FILE_OLD_FULLCHAIN,
	FILE_OLD_KEY,
	FILE_OLD_BUNDLE,
	FILE_CHALLENGES,
	FILE_CHALLENGE,
	FILE_TEMPORARY,
	FILE_NEXT,
	FILE_OCSP,
	FILE_BUNDLE_OCSP,
	FILE_VERIFY,
	FILE_IPSEC_FOLDER,
	FILE_IPSEC,
	FILE_PEER,
	FILE_METRICS,
	FILES,
};

/* What an inode's number is the row of. */
enum number {
	NUMBER_ONE,
	NUMBER_OBJECT,
	NUMBER_CONFIG,
	NUMBER_EDITION,
	NUMBER_VERSION,
	NUMBER_OFFSET,
	NUMBER_CHALLENGE, /* challenge.h; in memory alone */
	NUMBER_TEMPORARY
};

enum file_flag {
	FILE_IS_FOLDER = 1,
	FILE_WRITABLE = 2,
	FILE_PRIVATE = 4, /* holds a key: never open to all */
	FILE_DIRECT = 8,  /* never in the page cache */
	FILE_MADE = 16,   /* made when it is opened; its size may change: no time-outs */
	FILE_WAITS = 32,  /* a READ may wait, poll works */
	FILE_LARGE = 64,  /* up to a CRL's size */
};

/*
 * What is read from a file: a private key's PEM (KEY, of KEY_SIZE bytes; asked of the keys
 * process), then TEXT; or the CRL in the file CRL, in PEM or DER.
 */
struct snapshot;
struct content {
	char *text;
	size_t length;
	struct snapshot *shared; /* TEXT is its */
	int64_t key;
	size_t key_size;
	int64_t crl, crl_size;
	bool crl_pem;
	int64_t time;  /* of last change */
	int64_t until; /* when it changes by itself, or 0 */
};

/* A text that several readers see. */
struct snapshot {
	unsigned users;
	char *text;
	size_t length;
};
/* Takes CONTENT's text; the caller's share of it (snapshot_drop), or NULL for want of memory. */
struct snapshot *snapshot_take(struct content *content);
void snapshot_drop(struct snapshot *snapshot);

struct node;
struct file_row {
	const char *name;
	enum file folder; /* all kinds of objects share the rows whose folder is FILE_CA … */
	bool shared;      /* … and SHARED */
	enum number number;
	unsigned flags;
	mode_t mode;
	enum file mode_of; /* whose owner and mode it has, where another's (else 0) */
	int (*make)(struct store *store, const struct node *node, struct content *content);
};

extern const struct file_row file_rows[FILES];

/* An inode taken apart, with its object. */
struct node {
	enum file file;
	int64_t number;
	struct object object; /* id 0: none */
	bool current;         /* this is what a new open gets */
};

uint64_t inode_make(enum file file, int64_t number);
enum file inode_file(uint64_t ino);
int64_t inode_number(uint64_t ino);
/* -ESTALE where the object or row is gone. */
int node_get(struct store *store, uint64_t ino, struct node *node);
uint64_t node_inode(const struct node *node);

/* The folder of an object of KIND. */
enum file kind_folder(enum kind kind);
/* Whose folder FILE is; what stands in the folder PLACE; 0: none. */
enum kind folder_kind(enum file file);
enum kind place_kind(enum file place);

/* The row of NAME in a folder of the kind FOLDER, or 0. */
enum file file_find(enum file folder, const char *name);
bool file_in_folder(enum file file, enum file folder);

/* The node of FILE in the folder of OBJECT as it is now. */
int node_of(struct store *store, const struct object *object, enum file file, struct node *node);

/* What the file holds; -ENOENT where it has no content (yet). content_clear frees. */
int node_content(struct store *store, const struct node *node, struct content *content);
void content_clear(struct content *content);
size_t content_size(const struct content *content);

#endif
