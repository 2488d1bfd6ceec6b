/* Taking requests: request.c, and request_can.c, which says whether they can work. */
#ifndef PKIFS_REQUEST_PART_H
#define PKIFS_REQUEST_PART_H

#include "pkifs/object.h"

/* What a request is judged by. */
struct asked {
	struct store *store;
	const struct object *object;
	const char *action;
	struct record *fields; /* as written */
	struct record *config; /* the object's, with the request's keys, and defaults */
	char *merged;          /* the config text with the request's keys */
	size_t merged_length;
	struct object profile;   /* the one to ask; id 0: none */
	struct record *settings; /* its config with defaults */
	struct edition edition;
	struct record *found; /* by a request that is done at once; NULL: nothing */
};

/* Whether what is ASKED can work with what is there. 0, or a negative errno with ERR. */
int request_can_key_pair(struct asked *asked, struct error *err);
int request_can_csr(struct asked *asked, struct error *err);
int request_can_enroll(struct asked *asked, struct error *err);
int request_can_re_enroll(struct asked *asked, struct error *err);
int request_can_self_signed(struct asked *asked, struct error *err);
int request_can_ca_enroll(struct asked *asked, struct error *err);
int request_can_next_ca(struct asked *asked, struct error *err);
int request_can_refresh_crl(struct asked *asked, struct error *err);
int request_can_account(struct asked *asked, struct error *err);
int request_can_account_known(struct asked *asked, struct error *err);
int request_can_revoke(struct asked *asked, struct error *err);

#endif
