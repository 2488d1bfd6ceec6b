#include "common/crlentry.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* FNV-1a, folded to 16 bits. */
static void sum(const struct crl_entry *entry, unsigned char text[2])
{
	const unsigned char *bytes = (const unsigned char *)entry;
	uint32_t sum = 2166136261u;

	for (size_t i = 0; i < sizeof *entry; i++)
		if (i < offsetof(struct crl_entry, sum) || i >= offsetof(struct crl_entry, time))
			sum = (sum ^ bytes[i]) * 16777619u;
	sum ^= sum >> 16;
	text[0] = (unsigned char)(sum >> 8);
	text[1] = (unsigned char)sum;
}

void crl_entry_seal(struct crl_entry *entry)
{
	sum(entry, entry->sum);
}

bool crl_entry_is_whole(const struct crl_entry *entry)
{
	unsigned char expected[2];

	sum(entry, expected);
	return memcmp(entry->sum, expected, sizeof expected) == 0;
}
