/*
 * Whether a certificate is to be believed: RFC 5280's path validation, one function for all who
 * ask (our own certificates, peers, `verify`). OpenSSL's verifier with its strict switches, and
 * checks of our own where that is too lax. No store, no network, no file but the system's trust
 * store; certificates, CRLs and names are not trusted.
 */
#ifndef PKIFS_PATH_H
#define PKIFS_PATH_H

#include "common/error.h"

#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdint.h>

#define PATH_DEPTH        10               /* intermediates of a path, whatever is asked for */
#define PATH_CERTIFICATES (PATH_DEPTH + 2) /* and the leaf and the anchor */
#define PATH_NAME         100              /* bytes of a certificate's name in a sentence */

enum path_purpose {
	PATH_ANY,
	PATH_OWN,    /* one of ours: server, client or IKE; a CA's only with allow_ca */
	PATH_SERVER, /* TLS */
	PATH_CLIENT,
	PATH_IKE,    /* RFC 4945 */
	PATH_TUNNEL, /* a tunnel's peer: IKE, or a server or client, which most CAs call it */
};

enum path_name_kind { PATH_NO_NAME, PATH_DNS, PATH_IP, PATH_EMAIL, PATH_DN };

struct path_name {
	enum path_name_kind kind;
	const char *text;
};

/* What kind of name TEXT is, and whether it can be one. 0 or -EINVAL. */
int path_name_read(const char *text, struct path_name *name, struct error *err);

enum path_state { PATH_UNCHECKED, PATH_GOOD, PATH_REVOKED, PATH_UNKNOWN };

/* What is known of a certificate's revocation. */
struct path_revocation {
	enum path_state state;
	int64_t time;  /* revoked since; 0: not known */
	int reason;    /* RFC 5280 §5.3.1; negative: none */
	char how[160]; /* how it is known, or why not */
};

enum path_source { PATH_SOURCE_OFF, PATH_SOURCE_CRL, PATH_SOURCE_OCSP, PATH_SOURCE_OCSP_THEN_CRL };

/*
 * Where revocation is known from. CRLS gives those of ISSUER (each with a reference that becomes
 * the caller's, the stack too; NULL: none), complete ones and deltas; they may be stubs whose
 * entries are elsewhere. OCSP fills VERDICT (good, revoked or unknown) for a certificate of ISSUER.
 * By more than one source, what one calls revoked is revoked.
 */
struct path_sources {
	enum path_source source;
	bool accept_unknown; /* crl-on-download-failure = accept; never un-revokes */
	STACK_OF(X509_CRL) * (*crls)(void *user, const X509_NAME *issuer);
	void (*ocsp)(void *user, X509 *certificate, X509 *issuer, struct path_revocation *verdict);
	void *user;
};

/* NOW is Unix seconds; where CLOCK_TRUSTED is false, nothing is refused for its times. */
struct path_question {
	X509 *leaf;
	STACK_OF(X509) * untrusted; /* what may stand in the path, in any order; may be NULL */
	STACK_OF(X509) * anchors;   /* CAs that are trusted, roots or not; may be NULL */
	bool system_store;          /* also the system's trust store */
	bool no_anchor;             /* a path that leads to no anchor passes as well */
	int64_t now;
	bool clock_trusted;
	enum path_purpose purpose;
	bool allow_ca;
	struct path_name name;
	bool has_depth;
	int depth;                        /* intermediates that are not self-issued, at most */
	STACK_OF(ASN1_OBJECT) * policies; /* user-initial-policy-set; NULL: any */
	bool explicit_policy, inhibit_mapping, inhibit_any_policy;
	bool allow_legacy; /* SHA-1, RSA below 2048, DSA, CRLs without a number */
	bool tolerant;     /* of forms that private CAs are careless of, and that harm nobody */
	struct path_sources revocation;
};

/* One certificate of the path. */
struct path_step {
	X509 *certificate;    /* a reference of the answer's */
	char name[PATH_NAME]; /* its subject */
	char checked[400];    /* what was checked of it, and holds; "" of the one that fails */
	struct path_revocation revocation;
};

/* STEPS: the leaf first, up to the anchor; what could be built where that failed. */
struct path_answer {
	struct path_step steps[PATH_CERTIFICATES];
	int count;
	int failed; /* the step that fails, -1: none */
	bool sound; /* but for revocation, all holds: its responders may be asked */
};

/*
 * Answers QUESTION; the answer is the caller's in either case (path_answer_clear). 0: the path
 * holds. -EINVAL: it does not, with a sentence that names the first certificate that fails, and
 * why. -ENOMEM.
 */
int path_check(const struct path_question *question, struct path_answer *answer, struct error *err);

void path_answer_clear(struct path_answer *answer);

/* The answer of a CA that is trusted as it is, and GOOD or not (validate_ca): it is all the path.
 */
void path_of_anchor(X509 *anchor, bool good, bool clock_trusted, struct path_answer *answer);

/* The answer's certificates as a stack of new references, without the leaf; NULL: no memory. */
STACK_OF(X509) * path_issuers(const struct path_answer *answer);

/* "key compromise" …; "" where there is none. */
const char *path_reason_name(int reason);

#endif
