/*
 * A thread whose OPEN was answered ESTALE comes again, within the same open(2), with what the name
 * led to meanwhile; a second ESTALE would be the caller's error. If that has been replaced as well
 * (or was found by another thread, who looked for the same name before), it is shown what is
 * current. Without a LOOKUP in between (/dev/fd/N) it means this very version. A store may die in
 * between: all of it stands in the shared memory, and an OPEN that runs again is refused again.
 */
#include "pkifs/tree.h"

static struct refusal *refusal_of(struct shared *shared, pid_t thread)
{
	for (size_t i = 0; i < REFUSALS; i++)
		if (shared->refusals[i].second && shared->refusals[i].thread == thread)
			return &shared->refusals[i];
	return NULL;
}

void refusal_note(struct store *store, pid_t thread, const struct node *node)
{
	struct shared *shared = store->shared;
	struct refusal *refusal = refusal_of(shared, thread);

	if (!node) {
		if (refusal)
			refusal->second = 0;
		return;
	}
	if (!refusal)
		refusal = &shared->refusals[shared->next_refusal++ % REFUSALS];
	*refusal = (struct refusal){ .thread = thread,
		                     .ino = node_inode(node),
		                     .unique = session_unique(store->session),
		                     .object = node->object.id,
		                     .second = this_second() };
}

void refusal_looked(struct store *store, pid_t thread)
{
	struct refusal *refusal = refusal_of(store->shared, thread);

	if (refusal)
		refusal->looked = true;
}

/* Whether NODE is what came of the refused one. */
static bool is_successor(const struct refusal *refusal, const struct node *node)
{
	return node->file == inode_file(refusal->ino) &&
	       node->number > inode_number(refusal->ino) &&
	       (!refusal->object || refusal->object == node->object.id);
}

bool refusal_is_over(struct store *store, pid_t thread, const struct node *node, uint64_t *shown)
{
	const struct refusal *refusal = refusal_of(store->shared, thread);
	struct node now;

	*shown = 0;
	if (!refusal || !is_recent(refusal->second) ||
	    refusal->unique == session_unique(store->session))
		return false;
	if (!refusal->looked)
		return refusal->ino == node_inode(node);
	if (!is_successor(refusal, node) || node_of(store, &node->object, node->file, &now) < 0)
		return false;
	*shown = node_inode(&now);
	return true;
}
