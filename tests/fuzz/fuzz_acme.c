/*
 * What an ACME server says of a failure and of other chains, and what anybody asks of the port of
 * http-01: the first byte chooses.
 */
#include "enroll/acme_client.h"
#include "enroll/respond.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
	if (!condition)
		abort();
}

static void problem(const char *text, size_t length)
{
	json_t *json = json_loadb(text, length, JSON_REJECT_DUPLICATES, NULL);
	struct acme_problem problem;

	memset(&problem, 'x', sizeof problem);
	acme_problem_read(json, &problem);
	acme_problem_passes(&problem);
	must(strlen(problem.type) < sizeof problem.type);
	must(*problem.text && strlen(problem.text) < sizeof problem.text);
	for (const char *at = problem.text; *at; at++)
		must((unsigned char)*at >= ' ' && *at != 0x7f);
	json_decref(json);
}

static void request(const char *bytes, size_t length)
{
	static const char true_one[] = "GET /.well-known/acme-challenge/tok HTTP/1.";
	struct record *answers = record_new();
	char text[1024], *copy = malloc(length + 1);
	size_t said;

	must(answers && copy);
	memcpy(copy, bytes, length);
	copy[length] = '\0';
	record_add(answers, "challenge", "http-01 www.example.net tok tok.print");
	record_add(answers, "challenge", "tls-alpn-01 www.example.net other other.print");
	record_add(answers, "challenge", "http-01");
	said = respond_http(copy, length, answers, text, sizeof text);
	must(said < sizeof text && strlen(text) == said);
	must(strncmp(text, "HTTP/1.1 200", 12) != 0 ||
	     strncmp(copy, true_one, sizeof true_one - 1) == 0);
	free(copy);
	record_free(answers);
}

static void links(const char *bytes, size_t length)
{
	char *copy = malloc(length + 1), *target;
	const char *at = copy;

	must(copy);
	memcpy(copy, bytes, length);
	copy[length] = '\0';
	for (const char *before = at; (target = http_link(&at, "alternate")); before = at) {
		must(at > before && !strchr(target, '>'));
		free(target);
	}
	must(!*at && strlen(copy) == (size_t)(at - copy));
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size && data[0] == 'R')
		request((const char *)data + 1, size - 1);
	else if (size && data[0] == 'L')
		links((const char *)data + 1, size - 1);
	else if (size)
		problem((const char *)data + 1, size - 1);
	return 0;
}
