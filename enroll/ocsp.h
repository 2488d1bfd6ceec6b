/*
 * The worker's action `ocsp`: asks a certificate's OCSP responders (RFC 6960 App. A, RFC 5019).
 */
#ifndef PKIFS_ENROLL_OCSP_H
#define PKIFS_ENROLL_OCSP_H

#include "enroll/protocol.h"

int ocsp_job(struct job *job, struct error *err);

#endif
