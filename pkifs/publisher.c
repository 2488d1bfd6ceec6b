/*
 * Telling watchers: inotify reports what is done through the mount by others than the one who
 * serves it. So the publisher, a process of its own, renames a hidden name onto each file that
 * is new. It may be killed at any moment: its loss changes nothing.
 *
 * Who watches a file, not its folder, has an inode of the old edition. The hidden name says which
 * edition that was, and for the publisher the file still is that inode: the rename then replaces
 * it, and its watchers see that (ATTRIB, DELETE_SELF), as they would on any file system.
 */
#include "pkifs/publish.h"

#include "common/confine.h"
#include "common/log.h"
#include "pkifs/children.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define BACKLOG (1u << 20) /* bytes that wait for a publisher that is slow */

static struct child *publisher;
static bool is_ready;
static struct record *queued[256];
static size_t queued_count;

/* Editions that were replaced, of which the publisher is to tell or did. */
static struct {
	int64_t object, edition;
} replaced[256];
static size_t next_replaced;

static void ready(struct child *child, int signing, void *user)
{
	(void)user;
	if (signing >= 0)
		close(signing);
	is_ready = true;
	for (size_t i = 0; i < queued_count; i++) {
		child_send(child, queued[i], NULL, 0);
		record_free(queued[i]);
	}
	queued_count = 0;
}

static void received(struct child *child, struct record *record, void *user)
{
	(void)child;
	(void)user;
	record_free(record);
}

static void gone(struct child *child, const char *reason, void *user)
{
	(void)child;
	(void)user;
	log_warning("the publisher is gone: %s", reason);
	publisher = NULL;
	is_ready = false;
}

static void send_message(struct store *store, struct record *record)
{
	static const struct child_class class = { .kind = "publisher",
		                                  .frame_limit = 4096,
		                                  .ready = ready,
		                                  .received = received,
		                                  .gone = gone };

	if (!publisher && !store->stopping)
		publisher = child_start(store, &class, store);
	if (publisher && is_ready && child_pending(publisher) < BACKLOG)
		child_send(publisher, record, NULL, 0);
	else if (publisher && !is_ready && queued_count < COUNT(queued)) {
		queued[queued_count++] = record;
		return;
	}
	record_free(record);
}

bool publisher_replaces(int64_t object, int64_t edition)
{
	for (size_t i = 0; i < COUNT(replaced); i++)
		if (replaced[i].object == object && replaced[i].edition == edition)
			return true;
	return false;
}

int publisher_tell(struct store *store, const struct object *object, int64_t old, uint64_t files)
{
	struct record *record;

	if (!files)
		return 0;
	replaced[next_replaced].object = object->id;
	replaced[next_replaced++].edition = old;
	next_replaced %= COUNT(replaced);
	record = record_new();
	if (!record)
		return -ENOMEM;
	record_add(record, "frame", "publish");
	record_add_number(record, "edition", old);
	record_addf(record, "folder", "%s/%s", kind_name(object->kind), object->name);
	for (enum file file = 0; file < FILES; file++)
		if (files & 1ull << file)
			record_add(record, "name", file_rows[file].name);
	return store_send_after(store, send_message, record);
}

/* One rename; a name that is not there (any more) is no matter. */
static void publish(int mount, const char *folder, long long edition, const char *name)
{
	char hidden[256], shown[256];

	if (snprintf(hidden, sizeof hidden, "%s/" PUBLISH_PREFIX "%lld-%s", folder, edition,
	             name) >= (int)sizeof hidden ||
	    snprintf(shown, sizeof shown, "%s/%s", folder, name) >= (int)sizeof shown)
		return;
	if (renameat(mount, hidden, mount, shown) < 0 && errno != ENOENT)
		log_debug("telling of %s: %s", shown, strerror(errno));
}

int publisher_main(int control, const char *mount_point)
{
	const char *const paths[] = { mount_point, NULL };
	struct record *record = NULL;
	struct error err = { 0 };

	prctl(PR_SET_DUMPABLE, 0);
	if (confine(CONFINED_PUBLISHER, paths, &err) < 0) {
		log_error("the publisher cannot start: %s", err.text);
		return 1;
	}
	while (frame_receive(control, &record, NULL) == 0) {
		/* not kept open: the mount would be busy for ever */
		int mount = open(mount_point, O_PATH | O_DIRECTORY | O_CLOEXEC);
		const char *folder = record_get(record, "folder");
		const struct field *name;

		for (size_t i = 0; folder && (name = record_next(record, "name", &i)) != NULL;)
			publish(mount, folder, record_number(record, "edition", 0), name->value);
		if (mount >= 0)
			close(mount);
		record_free(record);
	}
	return 0;
}
