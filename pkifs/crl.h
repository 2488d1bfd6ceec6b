/*
 * The CRLs of a profile: its CA's own complete one (`crl.pem`), and all others that may tell of a
 * certificate below it. What changes the store is called inside a change (store_begin).
 */
#ifndef PKIFS_CRLS_H
#define PKIFS_CRLS_H

#include "pkifs/object.h"
#include "pkifs/path.h"

#include <openssl/x509v3.h>

#define CRL_SET_MAX 256 /* CRLs of a profile */

/* A CRL on its way: files beside the store, until it is kept or dropped. */
struct crl_files {
	int body, index, scratch;
	int64_t number; /* in their names */
};
int crl_files_new(struct store *store, struct crl_files *files);
/* A worker has them: the scratch file, which has no name, goes with the worker's descriptor. */
void crl_files_given(struct crl_files *files);
/* Closes them, and removes those that no row has. */
void crl_files_drop(struct store *store, struct crl_files *files);
/* Whether they are as long as CRL says, where a descriptor is not negative. */
bool crl_files_are_whole(int body, int index, const struct crl *crl);

/* A descriptor (the caller's) of the DER body or of the index of a CRL's FILE, or a negative errno.
 */
int crl_open(struct store *store, int64_t file, bool index);
/* The file that a writer of `crl.pem` fills. */
int crl_incoming(struct store *store, uint64_t handle, int flags);
void crl_incoming_remove(struct store *store, uint64_t handle);
/* Removes the files that no row and no open file has. */
void crl_sweep(struct store *store);
/* The same after the commit. */
int crl_sweep_after(struct store *store);

/* Reads those again that an older version has kept without their stubs; once, as the store begins.
 */
void crl_read_again(struct store *store);

/* --- the set (crlset.c) --- */

/* A CRL that a worker has read. */
struct crl_arrival {
	struct crl_files *files;
	const struct record *result;
	const char *source;
	STACK_OF(X509) * beside; /* certificates that came with it; may be NULL */
	bool fetched; /* not written: its signer must be known, and BESIDE is those of a path that
	               * was found good */
};

/*
 * ARRIVAL becomes one of the CRLs of the profile OBJECT, in place of the older one of its slot;
 * *ROW (may be NULL) is it. -EINVAL with ERR: it is not to be believed, or older (attack 35).
 */
int crl_arrive(struct store *store, const struct object *object, const struct crl_arrival *arrival,
               struct crl *row, struct error *err);

/* Forgets all CRLs of OBJECT; EDITION is what it shows, which the caller publishes. */
int crl_forget(struct store *store, const struct object *object, struct edition *edition);

/* EDITION, which OBJECT is to show, has another CA certificate: the own CRLs of one of another name
 * go. */
int crl_of_new_ca(struct store *store, const struct object *object, struct edition *edition);

/* Adds to STATUS what there is beside the one that EDITION shows. */
int crl_describe(struct store *store, const struct object *object, const struct edition *edition,
                 struct record *status);

/* The CA certificates of EDITION, by whose keys its CRLs may be signed. *SIGNERS is the caller's.
 */
int crl_signers(const struct edition *edition, STACK_OF(X509) * *signers);

/* Adds them to a job. */
int crl_add_signers(const struct edition *edition, struct record *record);

/* --- where they are (crllearn.c) --- */

/* NAME (empty: as the config says) is a URL of PROFILE's CRLs; OWN: of those of its CA.
 * Certificates of SIGNER name it (NULL: the config does). */
int crl_url_named(struct store *store, int64_t profile, const char *name, bool own, X509 *signer);
/* The same of all that can be fetched of POINTS, which are freed. */
int crl_learn_points(struct store *store, int64_t profile, CRL_DIST_POINTS *points, bool own,
                     X509 *issuer);

/*
 * CERTIFICATE of ISSUER, in a path that was found good but for revocation, names where CRLs are:
 * they are fetched for PROFILE from now on. Nothing else may be given to this (attack 42).
 */
int crl_learn(struct store *store, int64_t profile, const X509 *certificate, X509 *issuer);
/* The same of LEAF and of CHAIN, its issuers in order. */
int crl_learn_path(struct store *store, int64_t profile, X509 *leaf, STACK_OF(X509) * chain);

/*
 * Adds to a job that fetches URL the user and password of the server in SETTINGS that it leads to:
 * one whose entries certificates name by a DN alone. No other server is told them.
 */
void crl_add_user(const struct record *settings, const char *url, struct record *record);

/* --- fetching (crlfetch.c) --- */

/* PROFILE has another config or CA certificate: what it says is fetched, all else looked at anew.
 */
int crl_fetch_plan(struct store *store, int64_t profile);

/* A `refresh-crl` of OBJECT brought CRL (NULL: nothing new): the rest is fetched as well. */
int crl_refreshed(struct store *store, const struct object *object, const struct record *result,
                  const struct crl *crl);

/* Adds to a job where the CRLs of PROFILE's CA are, as its config or the CA's certificates say. */
int crl_add_urls(struct store *store, int64_t profile, const struct record *settings,
                 struct record *record);

/* The request of our own where only a request can fetch it: a user's goes before. */
#define CRL_BY_ITSELF "# fetched by itself\nrefresh-crl\n"

/* Asks for what is due. */
void crl_fetch_run(struct store *store);

/* Adds to STATUS when the next fetch is, and what failed. */
int crl_fetch_describe(struct store *store, int64_t profile, struct record *status);

/* --- look-ups (crlsource.c) --- */

/*
 * The CRLs of ISSUER, as stubs, that speak for what PROFILE's CA vouches for, for path_check: those
 * of its set, and of the profiles above it (`issuer`). The stack and its references are the
 * caller's; NULL: no memory.
 */
STACK_OF(X509_CRL) * crls_known(struct store *store, int64_t profile, const X509_NAME *issuer);

/* Adds the certificates of those who sign CRLs of PROFILE's set with a key of their own to TO, for
 * a path to be built with. */
int crls_signers(struct store *store, int64_t profile, STACK_OF(X509) * to);

/* Makes KNOWN revoked where any other CRL of PROFILE's CA has CERTIFICATE (crlfinding.c). */
void crls_find(struct store *store, int64_t profile, X509 *certificate,
               struct path_revocation *known);

/* Forgets the stubs of rows that are no more. */
void crls_sweep(struct store *store);

/* The stub of row CRL, which lives until the next call; NULL with ERR: it cannot be read. */
X509_CRL *crl_cached(struct store *store, const struct crl *crl, struct error *err);

#endif
