/*
 * TXT records for ACME's dns-01. What is put into a zone is noted in the store before, and stays
 * noted until it is known to be taken away: what was left by a death, a cancelled request or a
 * name server that did not answer is taken away at the next chance.
 */
#ifndef PKIFS_DNSRECORD_H
#define PKIFS_DNSRECORD_H

#include "pkifs/challenge.h"

/*
 * Notes those of RECORD's `challenge` fields that are of dns-01, for PROFILE, whose acme-dns-…
 * settings say how they are put. Inside a change.
 */
int dns_records_note(struct store *store, int64_t profile, const struct record *record);

/*
 * Puts what RECORD, of a request of PROFILE, wants; OPENED as in challenges_open, with the reason
 * if not all could be put. False: it wants none, and OPENED is not called.
 */
bool dns_records_open(struct store *store, int64_t request, int64_t profile,
                      const struct record *record, challenges_opened *opened, void *user);
void dns_records_close(struct store *store, int64_t request);

/* A line of the profile's `status` for each that could not be taken away yet. */
void dns_records_status(const struct object *profile, struct record *status);

/* Takes up what a predecessor noted; once a second, tries again what is due. */
void dns_records_start(struct store *store);
void dns_records_tick(struct store *store);

/* A frame of the supervisor that is about the hook. False: it is not. */
bool dns_records_received(struct store *store, const struct record *record);

#endif
