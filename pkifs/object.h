/*
 * Objects: what a text that was written into one of their files does. Everything here that
 * changes the store is called inside a change (store_begin); refusals fill ERR with the sentence
 * that becomes last-error.
 */
#ifndef PKIFS_OBJECT_H
#define PKIFS_OBJECT_H

#include "pkifs/file.h"

#include <openssl/x509.h>

#define CERTIFICATES_MAX 100 /* of a worker's result */

int object_create(struct store *store, enum kind kind, const char *name, uid_t uid, gid_t gid);
/* -EBUSY while another object names it. */
int object_remove(struct store *store, const struct object *object, struct error *err);
/* chown of the folder: its owner is handed on to all that is in it. */
int object_hand_over(struct store *store, const struct object *object, enum file folder,
                     const struct file_mode *mode);

/*
 * A text that user UID wrote into FILE (config, request, confirm, cert.pem): judged, and kept
 * unless DRY. 0, -EINVAL, -EBUSY, -EACCES.
 */
int object_accept(struct store *store, const struct object *object, enum file file,
                  const char *text, size_t length, uid_t uid, bool dry, struct error *err);

/* A path is truncated with no file open: an empty text. */
int object_truncate(struct store *store, const struct object *object, enum file file, uid_t uid);

int config_accept(struct store *store, const struct object *object, const char *text, size_t length,
                  uid_t uid, bool dry, struct error *err);

/* Where KEY names an object: 1 and *TARGET (may be NULL); -EINVAL where there is no such. */
int reference_check(struct store *store, const struct key *key, const char *value,
                    struct object *target, struct error *err);

/* request.c */
int request_accept(struct store *store, const struct object *object, const char *text,
                   size_t length, uid_t uid, bool dry, struct error *err);

/* A request that the store makes without a user. 0; 1: it is refused, which is told. */
int request_by_itself(struct store *store, const struct object *object, const char *text);

/* publish.c: a written certificate, `confirm`, and what workers bring. */
int cert_accept(struct store *store, const struct object *object, const char *text, size_t length,
                bool dry, struct error *err);
int ca_cert_accept(struct store *store, const struct object *object, const char *text,
                   size_t length, bool dry, struct error *err);
int confirm_accept(struct store *store, const struct object *object, const char *text,
                   size_t length, bool dry, struct error *err);

/*
 * The edition that OBJECT shows from now on: stored, the state that follows from it, old rows
 * dropped, and the publisher told which names changed.
 */
int edition_publish(struct store *store, const struct object *object, struct edition *edition);

/* A new key pair as the keys process gave it (ANSWER): in force where there is no certificate,
 * else beside it. *KEY (may be NULL) is its row. */
int key_publish(struct store *store, const struct object *object, const struct record *answer,
                int64_t *key);

/* PEM of CERTIFICATES (none: empty), or of CA, then RA and ISSUERS, into BLOB. */
int certificates_blob(STACK_OF(X509) * certificates, struct blob *blob);
int ca_bundle(X509 *ca, STACK_OF(X509) * ra, STACK_OF(X509) * issuers, struct blob *blob);

/* 1: a `ca-fingerprint` of SETTINGS is CA's; 0: there is none; -EINVAL: another's. */
int ca_is_expected(const struct record *settings, X509 *ca, struct error *err);

/* What is judged and changed by an `enroll` of a CA profile. */
int ca_fetched(struct store *store, const struct object *object, const struct record *result,
               struct error *err);

/*
 * Whether the CA certificate in force is one that SETTINGS expect: 1: a `ca-fingerprint` is its, 0:
 * they have none, -EINVAL: another's.
 */
int ca_expected(const struct record *settings, const struct edition *edition);

/*
 * Judges the certificates that came for a key of OBJECT (0: whichever of its keys they have) and
 * makes the version. REQUESTED: they were asked for (subject and names must be as asked).
 */
struct candidates {
	STACK_OF(X509) * certificates;
	int64_t key; /* the key it was asked for, or 0 */
	bool requested;
	bool self_signed;            /* made here */
	STACK_OF(X509) * anchors;    /* believed for it, beside its profile's; or NULL */
	const struct record *result; /* the worker's, whose `note` fields are kept; or NULL */
	struct path_answer *answer;  /* gets the path as it was judged; the caller's, or NULL */
};
int certificate_publish(struct store *store, const struct object *object,
                        const struct candidates *candidates, bool dry, struct error *err);

/* Adds the certificates in PEM to TO. */
int blob_certificates(const struct blob *pem, STACK_OF(X509) * to);

/* The profile that OBJECT's config names; -ENOENT where it names none. */
int object_profile(struct store *store, const struct record *config, struct object *profile);

/* The profile that vouches for VERSION of a certificate id with CONFIG: the one that is named
 * there, else (it was loaded) one whose CA is in the chain; id 0: there is none. */
int version_profile(struct store *store, const struct record *config, const struct version *version,
                    struct object *profile);

/* What is spoken: the protocol of CONFIG, else of its profile's SETTINGS (NULL: there is none). */
const char *object_protocol(const struct record *config, const struct record *settings);

/* POSIX ACL (xattr form) for OBJECT's key-readers over MODE into ACL; its length, 0: none. */
#define ACL_MAX 1024
size_t key_readers_acl(struct store *store, const struct object *object, mode_t mode,
                       unsigned char *acl);

#endif
