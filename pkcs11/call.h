/*
 * One call to pkifs: a short connection, a question and its answer (docs/architecture.md,
 * "PKCS#11 module → keys"). Whoever loads the module waits two seconds for it at most.
 */
#ifndef PKIFS_PKCS11_CALL_H
#define PKIFS_PKCS11_CALL_H

#include "common/record.h"

#define CALL_MS 2000

/*
 * Sends QUESTION (freed here) and waits for the answer, the caller's; NULL where there is none in
 * time. A pkifs that just restarts is asked again.
 */
struct record *call(struct record *question);

#endif
