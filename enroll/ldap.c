#include "enroll/ldap.h"

#include "enroll/ldap_link.h"

#include <errno.h>
#include <ldap.h>
#include <openldap.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#define ATTRIBUTE  "certificateRevocationList"
#define BINARY     ";binary" /* RFC 4522 */
#define VALUES_MAX 64

/* --- libldap over a link of ours --- */

static int io_setup(Sockbuf_IO_Desc *io, void *link)
{
	io->sbiod_pvt = link;
	return 0;
}

static int io_nothing(Sockbuf_IO_Desc *io)
{
	(void)io;
	return 0;
}

static int io_control(Sockbuf_IO_Desc *io, int option, void *argument)
{
	(void)argument;
	return option == LBER_SB_OPT_DATA_READY && ldap_link_pending(io->sbiod_pvt);
}

static ber_slen_t io_read(Sockbuf_IO_Desc *io, void *bytes, ber_len_t size)
{
	return ldap_link_read(io->sbiod_pvt, bytes, size);
}

static ber_slen_t io_write(Sockbuf_IO_Desc *io, void *bytes, ber_len_t size)
{
	return ldap_link_write(io->sbiod_pvt, bytes, size);
}

static Sockbuf_IO link_io = { io_setup, io_nothing, io_control, io_read, io_write, io_nothing };

/*
 * No file and no environment has a say in what libldap does; what it reads as it begins is read
 * here (the machine's own name, libsasl's list of mechanisms).
 */
static void prepare(void)
{
	static bool done;
	int version;

	if (done)
		return;
	setenv("LDAPNOINIT", "1", 1);
	ldap_get_option(NULL, LDAP_OPT_PROTOCOL_VERSION, &version);
	done = true;
}

/* libldap's handle of LINK; NULL: no memory. */
static LDAP *handle_new(struct ldap_link *link)
{
	int version = LDAP_VERSION3;
	ber_len_t limit = LDAP_SIZE_MAX;
	Sockbuf *buffer = NULL;
	LDAP *ldap = NULL;

	prepare();
	if (ldap_init_fd(ldap_link_fd(link), LDAP_PROTO_EXT, "ldap://server", &ldap) !=
	            LDAP_SUCCESS ||
	    ldap_get_option(ldap, LDAP_OPT_SOCKBUF, &buffer) != LDAP_OPT_SUCCESS ||
	    ber_sockbuf_add_io(buffer, &link_io, LBER_SBIOD_LEVEL_PROVIDER, link) != 0 ||
	    ber_sockbuf_ctrl(buffer, LBER_SB_OPT_SET_MAX_INCOMING, &limit) < 0 ||
	    ldap_set_option(ldap, LDAP_OPT_PROTOCOL_VERSION, &version) != LDAP_OPT_SUCCESS ||
	    ldap_set_option(ldap, LDAP_OPT_REFERRALS, LDAP_OPT_OFF) != LDAP_OPT_SUCCESS) {
		if (ldap)
			ldap_unbind_ext(ldap, NULL, NULL);
		return NULL;
	}
	return ldap;
}

/* --- a conversation --- */

struct conversation {
	LDAP *ldap;
	struct ldap_link *link;
	const char *url;
};

/* libldap gave up, and nothing is wrong with the link: it did not understand what came. */
static int misunderstood(const struct conversation *c, int number, struct error *err)
{
	if (number == ERANGE) /* so it says where a message is longer than it may be */
		return error_set(err, -EFBIG, "%.200s sends more than %u bytes", c->url,
		                 LDAP_SIZE_MAX);
	return error_set(err, -EBADMSG, "%.200s does not speak LDAP", c->url);
}

/* All answers to the request ID; *MESSAGE is the caller's (ldap_msgfree). */
static int await_answer(const struct conversation *c, int id, LDAPMessage **message,
                        struct error *err)
{
	int r, type, number;

	for (;;) {
		struct timeval pause = { .tv_sec = 1 };

		errno = 0;
		type = ldap_result(c->ldap, id, LDAP_MSG_ALL, &pause, message);
		number = errno;
		if (type > 0)
			return 0;
		r = ldap_link_check(c->link, c->url, err);
		if (r == 0 && type < 0)
			r = misunderstood(c, number, err);
		if (r < 0)
			return r;
	}
}

/* What the server says to WHAT in MESSAGE. */
static int judge(const struct conversation *c, const char *what, LDAPMessage *message,
                 struct error *err)
{
	char *more = NULL;
	int code = LDAP_OTHER, r = 0;

	if (ldap_parse_result(c->ldap, message, &code, NULL, &more, NULL, NULL, 0) != LDAP_SUCCESS)
		r = error_set(err, -EBADMSG, "%.200s does not speak LDAP", c->url);
	else if (code == LDAP_REFERRAL)
		r = error_set(err, -EREMOTEIO,
		              "%.200s refers to another server, which is not asked: name that one",
		              c->url);
	else if (code == LDAP_NO_SUCH_OBJECT)
		r = error_set(err, -EREMOTEIO,
		              "%.200s: the server has no such entry, or shows it to others",
		              c->url);
	else if (code != LDAP_SUCCESS)
		r = error_set(err, -EREMOTEIO, "%.200s: the server refuses the %s: %s%s%.100s",
		              c->url, what, ldap_err2string(code), more && *more ? ": " : "",
		              more ? more : "");
	ldap_memfree(more);
	return r;
}

static int not_sent(const struct conversation *c, const char *what, int code, struct error *err)
{
	int r = ldap_link_check(c->link, c->url, err);

	return r < 0 ? r
	             : error_set(err, code == LDAP_NO_MEMORY ? -ENOMEM : -EINVAL,
	                         "the %s cannot be sent to %.200s: %s", what, c->url,
	                         ldap_err2string(code));
}

static int bind_as(const struct conversation *c, const char *user, const char *password,
                   struct error *err)
{
	char *secret = strdup(password);
	struct berval credentials = { strlen(password), secret };
	LDAPMessage *message = NULL;
	int id, code = LDAP_NO_MEMORY, r = 0;

	if (secret)
		code = ldap_sasl_bind(c->ldap, user, LDAP_SASL_SIMPLE, &credentials, NULL, NULL,
		                      &id);
	if (secret)
		OPENSSL_cleanse(secret, credentials.bv_len);
	free(secret);
	r = code == LDAP_SUCCESS ? await_answer(c, id, &message, err)
	                         : not_sent(c, "user", code, err);
	if (r == 0)
		r = judge(c, "user (crl-url-user, crl-url-password)", message, err);
	ldap_msgfree(message);
	return r;
}

/* Those that URL names, or the usual one, each with and without `;binary`: NULL behind the last. */
static void list_attributes(const struct ldap_url *url, char names[][160], char **list)
{
	static char usual[] = ATTRIBUTE;
	char *const one[] = { usual, NULL }, *const *from =
						     *url->attributes ? url->attributes : one;
	size_t count = 0;

	for (; *from; from++, count += 2) {
		size_t length = strlen(*from), tail = strlen(BINARY);

		if (length > tail && strcasecmp(*from + length - tail, BINARY) == 0)
			length -= tail;
		snprintf(names[count], sizeof names[count], "%.*s" BINARY, (int)length, *from);
		snprintf(names[count + 1], sizeof names[count + 1], "%.*s", (int)length, *from);
		list[count] = names[count];
		list[count + 1] = names[count + 1];
	}
	list[count] = NULL;
}

static int search(const struct conversation *c, const struct ldap_url *url, const char *dn,
                  LDAPMessage **message, struct error *err)
{
	char names[2 * LDAP_ATTRIBUTES_MAX][160], *list[2 * LDAP_ATTRIBUTES_MAX + 1];
	int id, code, r;

	list_attributes(url, names, list);
	code = ldap_search_ext(c->ldap, dn, LDAP_SCOPE_BASE, "(objectClass=*)", list, 0, NULL, NULL,
	                       NULL, 1, &id);
	r = code == LDAP_SUCCESS ? await_answer(c, id, message, err)
	                         : not_sent(c, "question", code, err);
	return r < 0 ? r : judge(c, "question", *message, err);
}

/* --- the values --- */

static int add_value(struct ldap_answer *answer, const struct berval *value)
{
	struct ldap_value *larger;

	if (answer->count == VALUES_MAX || !value->bv_len)
		return 0;
	larger = realloc(answer->values, (answer->count + 1) * sizeof *larger);
	if (!larger)
		return -ENOMEM;
	answer->values = larger;
	larger[answer->count++] =
		(struct ldap_value){ (const unsigned char *)value->bv_val, value->bv_len };
	return 0;
}

/* Where the values of the first entry in ANSWER's message are; they stay in it. */
static int list_values(LDAP *ldap, struct ldap_answer *answer)
{
	LDAPMessage *entry = ldap_first_entry(ldap, answer->message);
	struct berval name, *values = NULL;
	BerElement *ber = NULL;
	int r = 0;

	if (!entry || ldap_get_dn_ber(ldap, entry, &ber, &name) != LDAP_SUCCESS)
		return 0;
	while (r == 0 && ldap_get_attribute_ber(ldap, entry, ber, &name, &values) == LDAP_SUCCESS &&
	       name.bv_val) {
		for (size_t i = 0; r == 0 && values && values[i].bv_val; i++)
			r = add_value(answer, &values[i]);
		ber_memfree(values);
		values = NULL;
	}
	ber_free(ber, 0);
	return r;
}

/* --- which of them is the newest --- */

/* What stands at *AT, which moves behind it: its CONTENT, NULL where it does not fit before END. */
static const unsigned char *next_object(const unsigned char **at, const unsigned char *end,
                                        int *tag, long *length)
{
	const unsigned char *content = *at;
	int class, r;

	if (*at >= end)
		return NULL;
	r = ASN1_get_object(&content, length, tag, &class, end - *at);
	if (r & 0x81 || *length > end - content)
		return NULL;
	*at = content + *length;
	*tag |= class;
	return content;
}

/* crlNumber of the EXTENSIONS, the caller's; NULL: it is not there. */
static ASN1_INTEGER *read_number(const unsigned char *extensions, long length)
{
	STACK_OF(X509_EXTENSION) *list = d2i_X509_EXTENSIONS(NULL, &extensions, length);
	ASN1_INTEGER *number = X509V3_get_d2i(list, NID_crl_number, NULL, NULL);

	sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
	ERR_clear_error();
	return number;
}

/* The number of the CRL in VALUE, whose entries are passed over; as above. */
static ASN1_INTEGER *number_of(const struct ldap_value *value)
{
	const unsigned char *at = value->bytes, *end = at + value->length, *content = NULL;
	int tag = 0;
	long length = 0;

	for (int depth = 0; depth < 2; depth++) { /* CertificateList, TBSCertList */
		at = next_object(&at, end, &tag, &length);
		if (!at || tag != V_ASN1_SEQUENCE)
			return NULL;
		end = at + length;
	}
	while ((content = next_object(&at, end, &tag, &length)))
		if (tag == V_ASN1_CONTEXT_SPECIFIC)
			return read_number(content, length);
	return NULL;
}

/* An entry may have several CRLs, in no order: the highest number comes first. */
static void sort(struct ldap_answer *answer)
{
	ASN1_INTEGER *numbers[VALUES_MAX];

	for (size_t i = 0; i < answer->count; i++) {
		struct ldap_value value = answer->values[i];
		ASN1_INTEGER *number = number_of(&value);
		size_t at = i;

		for (; number && at > 0 &&
		       (!numbers[at - 1] || ASN1_INTEGER_cmp(numbers[at - 1], number) < 0);
		     at--) {
			numbers[at] = numbers[at - 1];
			answer->values[at] = answer->values[at - 1];
		}
		numbers[at] = number;
		answer->values[at] = value;
	}
	for (size_t i = 0; i < answer->count; i++)
		ASN1_INTEGER_free(numbers[i]);
}

/* --- all of it --- */

void ldap_answer_clear(struct ldap_answer *answer)
{
	free(answer->values);
	ldap_msgfree(answer->message);
	*answer = (struct ldap_answer){ 0 };
}

int ldap_write(const struct ldap_answer *answer, size_t i, int fd, struct error *err)
{
	struct ldap_value value = answer->values[i];
	off_t at = 0;

	if (ftruncate(fd, 0) < 0)
		return error_set(err, -errno, "cannot keep a CRL: %s", strerror(errno));
	while (value.length) {
		ssize_t n = pwrite(fd, value.bytes, value.length, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return error_set(err, n ? -errno : -EIO, "cannot keep a CRL: %s",
			                 strerror(n ? errno : EIO));
		value.bytes += n;
		value.length -= (size_t)n;
		at += n;
	}
	return 0;
}

static int converse(struct ldap_link *link, const struct ldap_url *url,
                    const struct ldap_request *request, struct ldap_answer *answer,
                    struct error *err)
{
	struct conversation c = { handle_new(link), link, request->url };
	LDAPMessage *message = NULL;
	int r = c.ldap ? 0 : error_set(err, -ENOMEM, "no memory");

	if (r == 0 && request->user)
		r = bind_as(&c, request->user, request->password, err);
	if (r == 0)
		r = search(&c, url, *url->dn ? url->dn : request->dn, &message, err);
	answer->message = message;
	if (r == 0 && list_values(c.ldap, answer) < 0)
		r = error_set(err, -ENOMEM, "no memory");
	if (r == 0 && !answer->count)
		r = error_set(err, -ENODATA, "%.200s: the entry has no CRL", request->url);
	sort(answer);
	if (c.ldap)
		ldap_unbind_ext(c.ldap, NULL, NULL);
	return r;
}

static int check(const struct ldap_url *url, const struct ldap_request *request, struct error *err)
{
	if (!*url->dn && !(request->dn && *request->dn))
		return error_set(err, -EINVAL, "%.200s names no entry", request->url);
	/* a user without a password is nobody, and no error (RFC 4513 §5.1.2) */
	if (request->user && !(request->password && *request->password))
		return error_set(err, -EINVAL, "LDAP needs crl-url-password beside crl-url-user");
	return 0;
}

int ldap_ask(int fd, const struct ldap_url *url, const struct ldap_request *request,
             struct ldap_answer *answer, struct error *err)
{
	struct ldap_link *link = ldap_link_new(fd, request);
	int r = link ? check(url, request, err) : error_set(err, -ENOMEM, "no memory");

	*answer = (struct ldap_answer){ 0 };
	if (r == 0)
		r = converse(link, url, request, answer, err);
	ldap_link_close(link);
	return r;
}

int ldap_fetch(const struct ldap_request *request, struct ldap_answer *answer, struct error *err)
{
	struct ldap_link *link = NULL;
	struct ldap_url url;
	int r = ldap_url_read(request->url, &url, err);

	*answer = (struct ldap_answer){ 0 };
	if (r == 0)
		r = check(&url, request, err);
	if (r == 0)
		r = ldap_link_open(&url, request, &link, err);
	if (r == 0)
		r = converse(link, &url, request, answer, err);
	ldap_link_close(link);
	ldap_url_clear(&url);
	return r;
}
