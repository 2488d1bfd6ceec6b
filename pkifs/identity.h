/*
 * Who the two ends of a tunnel are: `local-id`, `remote-id`, and the names that a certificate has
 * for IKE: DNS names, IP addresses, e-mail addresses, the whole DN. A CN is nobody's name.
 * Certificates are not trusted here.
 */
#ifndef PKIFS_IDENTITY_H
#define PKIFS_IDENTITY_H

#include "common/record.h"
#include "pkifs/path.h"

/*
 * Reads a `remote-id`: a name, `any` (PATH_NO_NAME), or one with `*` as the first label of a DNS
 * name, as the part before @, or as the value of an RDN. TEXT lives as long as NAME. 0 or -EINVAL.
 */
int identity_read(const char *text, struct path_name *name, struct error *err);

/* Whether CERTIFICATE has a name that NAME stands for. */
bool identity_fits(const struct path_name *name, X509 *certificate);

/*
 * The names of CERTIFICATE as config spells them, as the fields `domain-name`, `ip-address`,
 * `email` and `subject` of NAMES; those that can be none are left out.
 */
void identity_names(X509 *certificate, struct record *names);

/*
 * A `local-id`: one name, without `*`, which CERTIFICATE has (NULL: that is not looked at). 0, or
 * -EINVAL: ERR names those that it has.
 */
int identity_check_local(const char *text, X509 *certificate, struct error *err);

/* Who CERTIFICATE says that we are where the config does not: the first of its names, in NAMES. */
const char *identity_default(X509 *certificate, struct record *names);

#endif
