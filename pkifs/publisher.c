/*
 * Telling watchers: inotify reports what is done through the mount by others than the one who
 * serves it. So the publisher, a process of its own, renames a hidden name onto each file that
 * is new. It may be killed at any moment: its loss changes nothing.
 */
#include "pkifs/publish.h"

#include "common/log.h"
#include "pkifs/children.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BACKLOG (1u << 20) /* bytes that wait for a publisher that is slow */

static struct child *publisher;
static bool is_ready;
static struct record *queued[256];
static size_t queued_count;

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
	if (publisher && is_ready)
		child_send(publisher, record, NULL, 0);
	else if (publisher && queued_count < COUNT(queued)) {
		queued[queued_count++] = record;
		return;
	}
	record_free(record);
}

int publisher_tell(struct store *store, const struct object *object, uint64_t files)
{
	struct record *record;

	if (!files)
		return 0;
	record = record_new();
	if (!record)
		return -ENOMEM;
	record_add(record, "frame", "publish");
	record_addf(record, "folder", "%s/%s", kind_name(object->kind), object->name);
	for (enum file file = 0; file < FILES; file++)
		if (files & 1ull << file)
			record_add(record, "name", file_rows[file].name);
	return store_send_after(store, send_message, record);
}

/* One rename; a name that is not there (any more) is no matter. */
static void publish(int mount, const char *folder, const char *name)
{
	char hidden[256], shown[256];

	if (snprintf(hidden, sizeof hidden, "%s/.publish-%s", folder, name) >= (int)sizeof hidden ||
	    snprintf(shown, sizeof shown, "%s/%s", folder, name) >= (int)sizeof shown)
		return;
	if (renameat(mount, hidden, mount, shown) < 0 && errno != ENOENT)
		log_debug("telling of %s: %s", shown, strerror(errno));
}

int publisher_main(int control, const char *mount_point)
{
	struct record *record = NULL;

	while (frame_receive(control, &record, NULL) == 0) {
		/* not kept open: the mount would be busy for ever */
		int mount = open(mount_point, O_PATH | O_DIRECTORY | O_CLOEXEC);
		const char *folder = record_get(record, "folder");
		const struct field *name;

		for (size_t i = 0; folder && (name = record_next(record, "name", &i)) != NULL;)
			publish(mount, folder, name->value);
		if (mount >= 0)
			close(mount);
		record_free(record);
	}
	return 0;
}
