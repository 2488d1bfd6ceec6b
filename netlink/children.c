#include "netlink/tunnel.h"

#include <arpa/inet.h>

/* The SA with this SPI, or NULL: SPIs are of the one who gets the packets, so two may be equal. */
static const struct sa *sa_of_spi(const struct tunnel *tunnel, uint32_t spi)
{
	for (size_t i = 0; i < tunnel->sa_count; i++)
		if (tunnel->sas[i].sa.info.id.spi == htonl(spi))
			return &tunnel->sas[i].sa;
	return NULL;
}

bool tunnel_has_child(const struct tunnel *tunnel, const struct child *child)
{
	return sa_of_spi(tunnel, child->spis.in) && sa_of_spi(tunnel, child->spis.out);
}

/* The last one that the kernel has, before all one that the daemon knows; or NULL. */
static const struct child *live_child(const struct tunnel *tunnel)
{
	const struct child *live = NULL;

	for (size_t i = 0; i < tunnel->child_count; i++)
		if (tunnel_has_child(tunnel, &tunnel->children[i]) &&
		    (!live || live->gone || !tunnel->children[i].gone))
			live = &tunnel->children[i];
	return live;
}

/* The policies lead where the SAs do, also where the settings do not say it. */
static void take_ends(struct tunnel *tunnel, const struct child *child)
{
	const struct sa *in = sa_of_spi(tunnel, child->spis.in);

	tunnel->family = in->info.family;
	tunnel->local = in->info.id.daddr;
	tunnel->remote = in->info.saddr;
}

/* What the daemon has forgotten, as it does when it dies, serves until there is another one. */
bool children_want(const struct tunnel *tunnel, const struct sa *sa)
{
	const struct child *live = live_child(tunnel);

	if (tunnel->wish == WISH_DOWN)
		return false;
	for (size_t i = 0; live && !live->gone && i < tunnel->child_count; i++) {
		const struct child *child = &tunnel->children[i];

		if (child->gone && (sa->info.id.spi == htonl(child->spis.in) ||
		                    sa->info.id.spi == htonl(child->spis.out)))
			return false;
	}
	return true;
}

/*
 * charon has new SAs in the kernel before the peer has its own, and counts on a policy that names
 * the SPI: what goes out stays with the one that it has until that goes, or somebody knows better.
 */
static void choose(struct tunnel *tunnel, const struct child *live)
{
	const struct sa *out = tunnel->out ? sa_of_spi(tunnel, tunnel->out) : NULL;

	if (!out || !children_want(tunnel, out))
		tunnel->out = live ? live->spis.out : 0;
}

/* Once the store believes the peer; then also SAs by which the daemon replaces those that it told
 * of, before it tells of them. */
bool children_are_up(struct tunnel *tunnel)
{
	const struct child *live = live_child(tunnel);

	if (live)
		take_ends(tunnel, live);
	choose(tunnel, live);
	if (!tunnel->sa_count)
		tunnel->approved = false;
	return tunnel->wish != WISH_DOWN && tunnel->approved && tunnel->sa_count >= 2;
}
