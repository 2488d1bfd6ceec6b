/*
 * pkifs-enroll, the worker: takes jobs from the store (descriptor 3), one after the other, and
 * does them with keys that it never sees (descriptor 4, the keys process).
 */
#include "common/confine.h"
#include "common/log.h"
#include "common/resolver.h"
#include "enroll/acme_client.h"
#include "enroll/crl.h"
#include "enroll/csr.h"
#include "enroll/dns.h"
#include "enroll/ocsp.h"
#include "enroll/protocol.h"
#include "enroll/respond.h"

#include <errno.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/provider.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { STORE_FD = 3, SIGNER_FD = 4 };

static const struct protocol *const protocols[] = { &scep_protocol, &cmp_protocol, &acme_protocol,
	                                            &est_protocol };

static const struct protocol *find_protocol(const struct record *settings, struct error *err)
{
	const char *name = record_get(settings, "protocol");

	for (size_t i = 0; name && i < COUNT(protocols); i++)
		if (strcmp(protocols[i]->name, name) == 0)
			return protocols[i];
	error_set(err, -EINVAL, "protocol %.40s: this version does not speak it",
	          name ? name : "(none)");
	return NULL;
}

/* --- actions --- */

static int act_ca_certificate(struct job *job, struct error *err)
{
	const struct protocol *protocol = find_protocol(job->settings, err);

	if (!protocol)
		return -EINVAL;
	if (!protocol->ca_certificate)
		return error_set(err, -EINVAL, "%s brings the CA certificate with the first one",
		                 protocol->name);
	return protocol->ca_certificate(job, err);
}

static int act_next_ca(struct job *job, struct error *err)
{
	const struct protocol *protocol = find_protocol(job->settings, err);

	if (!protocol)
		return -EINVAL;
	if (!protocol->next_ca)
		return error_set(err, -EINVAL, "%s has no question for the next CA certificate",
		                 protocol->name);
	return protocol->next_ca(job, err);
}

static int act_enroll(struct job *job, struct error *err)
{
	const struct protocol *protocol = find_protocol(job->settings, err);
	int r;

	if (!protocol)
		return -EINVAL;
	r = protocol->check(job->settings, err);
	return r < 0 ? r : protocol->enroll(job, err);
}

static int act_crl(struct job *job, struct error *err)
{
	const struct protocol *protocol;

	if (record_find(job->settings, "crl-url"))
		return crl_fetch_job(job, err);
	protocol = find_protocol(job->settings, err);
	if (!protocol)
		return -EINVAL;
	if (!protocol->crl)
		return error_set(err, -EINVAL, "no crl-url, and %s has no way to ask for a CRL",
		                 protocol->name);
	return protocol->crl(job, err);
}

static int act_account(struct job *job, struct error *err)
{
	const struct protocol *protocol = find_protocol(job->settings, err);

	if (protocol && !protocol->account)
		return error_set(err, -EINVAL, "%s has no accounts", protocol->name);
	return protocol ? protocol->account(job, err) : -EINVAL;
}

static int act_revoke(struct job *job, struct error *err)
{
	const struct protocol *protocol = find_protocol(job->settings, err);

	if (!protocol)
		return -EINVAL;
	if (!protocol->revoke)
		return error_set(err, -EINVAL, "%s has no way to revoke a certificate",
		                 protocol->name);
	return protocol->revoke(job, err);
}

/* Adds *DER, of the SIZE that an i2d function gave, and frees it. */
static void add_der(struct record *result, const char *key, unsigned char **der, int size)
{
	if (size > 0)
		record_add_bytes(result, key, *der, (size_t)size);
	OPENSSL_free(*der);
}

static int act_csr(struct job *job, struct error *err)
{
	bool challenge = record_find(job->settings, "challenge-password") != NULL;
	EVP_PKEY *key = job_new_key(job, err);
	X509_REQ *request = NULL;
	unsigned char *der = NULL;
	int r = key ? csr_make(job->worker->signer, key, job->settings, challenge, &request, err)
	            : -EINVAL;

	if (r == 0)
		add_der(job->result, "csr", &der, i2d_X509_REQ(request, &der));
	X509_REQ_free(request);
	EVP_PKEY_free(key);
	return r;
}

static int act_self_signed(struct job *job, struct error *err)
{
	EVP_PKEY *key = job_new_key(job, err);
	X509 *certificate = NULL;
	unsigned char *der = NULL;
	int r = key ? self_signed_make(job->worker->signer, key, job->settings, &certificate, err)
	            : -EINVAL;

	if (r == 0)
		add_der(job->result, "certificate", &der, i2d_X509(certificate, &der));
	X509_free(certificate);
	EVP_PKEY_free(key);
	return r;
}

static const struct action {
	const char *name;
	int (*act)(struct job *job, struct error *err);
} actions[] = {
	{ "account-delete", act_account },
	{ "account-register", act_account },
	{ "account-rollover", act_account },
	{ "ca-certificate", act_ca_certificate },
	{ "crl", act_crl },
	{ "crl-check", crl_check_job },
	{ "csr", act_csr },
	{ "dns", dns_job },
	{ "enroll", act_enroll },
	{ "next-ca", act_next_ca },
	{ "ocsp", ocsp_job },
	{ "renewal-info", acme_renewal_info },
	{ "revoke", act_revoke },
	{ "respond", respond_job },
	{ "self-signed", act_self_signed },
};

/* --- jobs --- */

/* Has the store keep RESUME, and judge JUDGED (may be NULL): its answer, the caller's. */
static int ask_store(struct job *job, const struct record *resume, const struct record *judged,
                     struct record **answer, struct error *err)
{
	long long number = record_number(job->settings, "job", -1);
	struct record *message = record_new();
	int r = -ENOMEM;

	if (message) {
		record_add(message, "frame", "checkpoint");
		record_add_number(message, "job", number);
		record_append(message, resume);
		if (judged)
			record_append(message, judged);
		r = frame_send(job->worker->store, message, NULL, 0);
	}
	if (r == 0)
		r = frame_receive(job->worker->store, answer, NULL);
	if (r == 0 &&
	    (!record_is(*answer, "frame", "go") || record_number(*answer, "job", -1) != number))
		r = -EPROTO;
	if (r == 0)
		snprintf(job->notice, sizeof job->notice, "%s",
		         record_get(*answer, "notice") ? record_get(*answer, "notice") : "");
	if (r < 0)
		error_set(err, r, "the store did not keep the checkpoint: %s", strerror(-r));
	record_free(message);
	return r;
}

int job_checkpoint(struct job *job, const struct record *resume, struct error *err)
{
	struct record *answer = NULL;
	int r = ask_store(job, resume, NULL, &answer, err);

	record_free(answer);
	return r;
}

int job_judge(struct job *job, const struct record *resume, const struct record *judged,
              struct error *why, struct error *err)
{
	struct record *answer = NULL;
	const char *reason;
	int r = ask_store(job, resume, judged, &answer, err);

	reason = r == 0 ? record_get(answer, "rejected") : NULL;
	if (reason) {
		error_set(why, -EINVAL, "%s", reason);
		r = 1;
	}
	record_free(answer);
	return r;
}

void job_note_answer(struct job *job, const struct http_answer *answer)
{
	record_remove(job->result, "retry-after");
	if (answer->retry_after >= 0)
		record_add_number(job->result, "retry-after", answer->retry_after);
}

static const char *outcome(int r)
{
	if (r == JOB_DONE)
		return "done";
	if (r == JOB_WAITING)
		return "waiting";
	return r == -EACCES || r == -EINVAL ? "refused" : "failed";
}

static int do_action(struct job *job, struct error *err)
{
	const char *name = record_get(job->settings, "action");
	int r = http_begin(job->worker->http, job->settings, err);

	if (r < 0)
		return r;
	for (size_t i = 0; name && i < COUNT(actions); i++)
		if (strcmp(actions[i].name, name) == 0)
			return actions[i].act(job, err);
	return error_set(err, -EINVAL, "action %.40s is none", name ? name : "(none)");
}

/* Does one job and says so. 0, or a negative errno when this worker can go on no more. */
static int do_job(struct worker *worker, const struct record *settings, const int *fds)
{
	struct job job = { .worker = worker, .settings = settings, .result = record_new() };
	struct error err = { 0 };
	int r;

	if (!job.result)
		return -ENOMEM;
	memcpy(job.fds, fds, sizeof job.fds);
	record_add(job.result, "frame", "result");
	record_add_number(job.result, "job", record_number(settings, "job", -1));
	r = do_action(&job, &err);
	http_end(worker->http);
	ERR_clear_error();
	record_add(job.result, "outcome", outcome(r));
	if (r < 0)
		record_add(job.result, "reason", err.text);
	log_debug("job %lld: %s%s%s", record_number(settings, "job", -1), outcome(r),
	          r < 0 ? ": " : "", r < 0 ? err.text : "");
	if (r < 0 && signer_is_lost(worker->signer)) /* another worker takes the job up again */
		r = -EPIPE;
	else
		r = frame_send(worker->store, job.result, NULL, 0);
	record_free(job.result);
	return r;
}

static int serve(struct worker *worker)
{
	struct record *settings = NULL;
	int fds[FRAME_FDS];
	int r;

	for (;;) {
		r = frame_receive(worker->store, &settings, fds);
		if (r < 0)
			break;
		r = record_is(settings, "frame", "job") ? do_job(worker, settings, fds) : -EPROTO;
		for (size_t i = 0; i < COUNT(fds); i++)
			if (fds[i] >= 0)
				close(fds[i]);
		record_free(settings);
		settings = NULL;
		if (r < 0)
			break;
	}
	if (r == -EPIPE) /* the store is gone, or done with us */
		return 0;
	log_error("the store's socket: %s", strerror(-r));
	return 1;
}

/* --- start --- */

/* What the default context leaves to the past is read in a context of its own. */
static OSSL_LIB_CTX *open_legacy(OSSL_PROVIDER **providers)
{
	OSSL_LIB_CTX *context = OSSL_LIB_CTX_new();

	if (!context)
		return NULL;
	providers[0] = OSSL_PROVIDER_load(context, "default");
	providers[1] = OSSL_PROVIDER_load(context, "legacy");
	if (!providers[1])
		log_warning("OpenSSL's legacy provider is missing: answers in DES cannot be read");
	ERR_clear_error();
	return context;
}

static void close_legacy(OSSL_LIB_CTX *context, OSSL_PROVIDER **providers)
{
	for (size_t i = 0; i < 2; i++)
		if (providers[i])
			OSSL_PROVIDER_unload(providers[i]);
	OSSL_LIB_CTX_free(context);
}

/* Nothing of whoever started us: no environment, no core dumps, no ptrace, no fatal signals of
 * full disks and closed sockets. */
static void shed(void)
{
	clearenv();
	tzset();
	prctl(PR_SET_DUMPABLE, 0);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	setpriority(PRIO_PROCESS, 0, 10); /* who reads the mount goes before a large CRL */
}

/* Behind the walls no file is read any more but those that say how names are looked up. */
static bool build_walls(void)
{
	struct error err = { 0 };

	resolver_load();
	json_object_seed(0); /* from /dev/urandom; later from the time, which others know */
	OPENSSL_init_ssl(OPENSSL_INIT_LOAD_CONFIG, NULL);
	ERR_clear_error();
	if (confine(CONFINED_WORKER, resolver_files, &err) == 0)
		return true;
	log_error("the worker cannot start: %s", err.text);
	return false;
}

int main(int argc, char **argv)
{
	struct worker worker = { .store = STORE_FD };
	OSSL_PROVIDER *providers[2] = { NULL };
	int level = argc > 1 ? log_level(argv[1]) : LOG_INFO;
	int status = 1;

	shed();
	log_open("worker", "stderr", level < 0 ? LOG_INFO : level);
	worker.legacy = open_legacy(providers);
	worker.http = http_new();
	worker.signer = signer_open(SIGNER_FD);
	if (!worker.legacy || !worker.http || !worker.signer)
		log_error("the worker cannot start: no memory or no OpenSSL");
	else if (build_walls())
		status = serve(&worker);
	signer_close(worker.signer);
	http_free(worker.http);
	close_legacy(worker.legacy, providers);
	return status;
}
