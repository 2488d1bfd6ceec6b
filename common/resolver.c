#include "common/resolver.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define SERVICES "/etc/nsswitch.conf"

const char *const resolver_files[] = { "/etc/resolv.conf", "/etc/hosts",    SERVICES,
	                               "/etc/host.conf",   "/etc/gai.conf", NULL };

/* FNV-1a */
static uint64_t add(uint64_t stamp, uint64_t number)
{
	for (int i = 0; i < 8; i++, number >>= 8)
		stamp = (stamp ^ (number & 0xff)) * 0x100000001b3;
	return stamp;
}

uint64_t resolver_stamp(void)
{
	uint64_t stamp = 0xcbf29ce484222325;

	for (const char *const *path = resolver_files; *path; path++) {
		struct stat file = { 0 };

		if (stat(*path, &file) < 0)
			file = (struct stat){ 0 };
		stamp = add(stamp, file.st_dev);
		stamp = add(stamp, file.st_ino);
		stamp = add(stamp, (uint64_t)file.st_mtim.tv_sec);
		stamp = add(stamp, (uint64_t)file.st_mtim.tv_nsec);
	}
	return stamp;
}

/* `files` and `dns` are in glibc itself; where there is no such library, nothing is lost. */
static void load_service(const char *name)
{
	char library[64];

	if (*name == '[' || strcmp(name, "files") == 0 || strcmp(name, "dns") == 0)
		return;
	if (snprintf(library, sizeof library, "libnss_%s.so.2", name) < (int)sizeof library)
		dlopen(library, RTLD_NOW);
}

void resolver_load(void)
{
	FILE *file = fopen(SERVICES, "re");
	char line[512], *rest = NULL, *word;

	while (file && fgets(line, sizeof line, file)) {
		word = strtok_r(line, " \t\n", &rest);
		if (!word || strcmp(word, "hosts:") != 0)
			continue;
		while ((word = strtok_r(NULL, " \t\n", &rest)) && *word != '#')
			load_service(word);
	}
	if (file)
		fclose(file);
}
