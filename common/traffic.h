/*
 * What a tunnel's settings say, as the store judges it and the IPsec process uses it: which traffic
 * (`local-subnet`), a mark.
 */
#ifndef PKIFS_TRAFFIC_H
#define PKIFS_TRAFFIC_H

#include "common/error.h"

#include <stdint.h>

/* One side of traffic: a network, and perhaps protocol and port (0: any). */
struct traffic {
	int family; /* AF_INET, AF_INET6 */
	unsigned char address[16];
	unsigned char length; /* of the prefix */
	unsigned char protocol;
	uint16_t port;
};

/* "10.1.0.0/24", "10.1.0.1:tcp:443", "fd00::/64:udp:53". 0, or -EINVAL with ERR. */
int traffic_read(const char *text, struct traffic *traffic, struct error *err);

/* "5", "0x5/0xff". 0 or -EINVAL. */
int mark_read(const char *text, uint32_t *value, uint32_t *mask);

#endif
