/*
 * What a CRL says of itself: number, times, and of whom it speaks.
 */
#ifndef PKIFS_CRLFACTS_H
#define PKIFS_CRLFACTS_H

#include "common/error.h"

#include <openssl/x509.h>
#include <stdint.h>

#define CRL_NUMBER_MAX 64
#define CRL_SLOT_MAX   32

struct crl_facts {
	char number[CRL_NUMBER_MAX];      /* decimal; empty: the CRL has none */
	char base[CRL_NUMBER_MAX];        /* of a delta CRL: that of its base; empty: it is none */
	int64_t this_update, next_update; /* Unix seconds; NEXT_UPDATE 0: none */
	bool whole;                       /* it speaks of all certificates of its issuer alone */
	bool indirect;                    /* it may speak of other issuers' */
	uint32_t issuer;                  /* X509_NAME_hash: equal for names that are */
	/* Of issuer, scope, key (authorityKeyIdentifier) and whether it is a delta: of two CRLs in
	 * which it is the same, the newer replaces the other. */
	unsigned char slot[CRL_SLOT_MAX];
};

/*
 * Reads FACTS of CRL, which may be a stub. NOW is Unix seconds (0: not compared): thisUpdate may be
 * 5 min after it. Signed with SHA-1: only where LEGACY; with MD5: never. A critical extension that
 * is not known, a scope or number that cannot be read, a delta without a number: -EBADMSG with ERR
 * filled.
 */
int crl_facts_read(X509_CRL *crl, int64_t now, bool legacy, struct crl_facts *facts,
                   struct error *err);

/* Whether NUMBER is lower than THAN; both are decimal. */
bool crl_number_is_lower(const char *number, const char *than);

/*
 * The first of SIGNERS (may be NULL) whose name is the CRL's issuer, who may sign CRLs, and whose
 * key did; else NULL with ERR filled.
 */
X509 *crl_find_signer(X509_CRL *crl, STACK_OF(X509) * signers, struct error *err);

#endif
