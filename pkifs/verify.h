/*
 * Questions about certificates: the file ca/<profile>/verify. A text has settings (verify_keys),
 * then a certificate with its chain in PEM; the answer changes nothing. And what is told of a path.
 */
#ifndef PKIFS_VERIFY_H
#define PKIFS_VERIFY_H

#include "pkifs/file.h"
#include "pkifs/path.h"

#define VERIFY_CERTIFICATES 32 /* in one text */

/* What a text asks. The caller gives it back with verify_question_clear, also after an error. */
struct verify_question {
	struct record *settings;
	STACK_OF(X509) * certificates; /* the leaf first */
	STACK_OF(ASN1_OBJECT) * policies;
};
int verify_question_read(const char *text, size_t length, struct verify_question *question,
                         struct error *err);
void verify_question_clear(struct verify_question *question);

/* Sets what QUESTION says in ASKED, which lives as long. */
int verify_question_ask(const struct verify_question *question, struct path_question *asked,
                        struct error *err);

/*
 * "ok", or "failed: CERTIFICATE: REASON". With DETAIL a few lines for each certificate of the path
 * follow. 0 or -ENOMEM.
 */
int verify_verdict(const struct path_answer *answer, const struct error *err, bool detail,
                   struct content *content);

/*
 * What DETAIL says, on one line for each certificate: fields `verify`, added to TO. ERR is looked
 * at where the path fails. 0 or -ENOMEM.
 */
int verify_lines(const struct path_answer *answer, const struct error *err, struct record *to);

/*
 * The answer to TEXT (LENGTH bytes, not trusted) by the confirmed CA of PROFILE and its revocation
 * settings. 0, or a negative errno where there is none.
 */
int verify_answer(struct store *store, const struct object *profile, const char *text,
                  size_t length, struct content *content);

#endif
