/*
 * The store between the kernel and its processes: each input is a sequence of steps, FUSE
 * requests and what workers, the keys process and the supervisor do meanwhile. Numbers of inodes
 * and open files are those that were answered, as the kernel's are; names, texts, sizes, offsets,
 * flags, users and processes are whatever the input says, as they are a user's.
 *
 * Each request gets one answer. When all is closed and removed at the end, nothing may be left:
 * no slot, no buffer, no open file, no row, no descriptor.
 */
#include "db/sql.h"
#include "pkifs/jobs.h"
#include "pkifs/secrets.h"
#include "pkifs/tree.h"
#include "pkifs/workers.h"
#include "store_kernel.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define STEPPED 384 /* requests of the input itself */

/* What is left of the input; at its end all is 0. */
struct input {
	const uint8_t *data;
	size_t left;
};

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* --- the input --- */

static uint64_t take(struct input *input, size_t size)
{
	uint64_t number = 0;

	while (size-- > 0) {
		number = number << 8 | (input->left ? *input->data : 0);
		input->data += input->left > 0;
		input->left -= input->left > 0;
	}
	return number;
}

static const char *const names[] = {
	"ca",          "local",
	"a",           "b",
	"config",      "request",
	"status",      "wait",
	"cert.pem",    "chain.pem",
	"fingerprint", "pending.pem",
	"confirm",     "crl.pem",
	"crl.der",     "key.pem",
	"public.pem",  "csr.pem",
	"bundle.pem",  "fullchain.pem",
	"versions",    "1",
	"2",           "README",
	"events",      "watch",
	"status.json", ".a.swp",
	"a.tmp",       "csr.fingerprint",
	"4913",        "-a",
	"config~",     ".publish-1-cert.pem",
};

/* A name of the tree, or the input's own: 1 to 255 bytes, no slash, neither . nor .. */
static void take_name(struct input *input, char name[256])
{
	size_t which = take(input, 1), length;

	if (which < COUNT(names)) {
		strcpy(name, names[which]);
		return;
	}
	length = which == 255 ? 255 : which % 32 + 1;
	for (size_t i = 0; i < length; i++) {
		name[i] = (char)take(input, 1);
		if (name[i] == 0 || name[i] == '/')
			name[i] = 'x';
	}
	name[length] = 0;
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		*name = 'x';
}

static const char *const texts[] = {
	"",
	"enroll\n",
	"cancel\n",
	"generate-key-pair\n",
	"generate-csr\n",
	"generate-self-signed\n",
	"re-enroll\n",
	"refresh-crl\n",
	"unenroll\n",
	"clear-crl\n",
	"clear-certificate\n",
	"clear-key-pair\n",
	"verify\n",
	"yes\n",
	"no\n",
	"enrollment-url = http://127.0.0.1:1/\nenrollment-retry-interval = 0\n",
	"ca-profile = a\nsubject = CN=a.example,O=Example\ndomain-name = a.example\n",
	"subject = CN=a.example,O=Example\ndomain-name = a.example\naction = enroll\n",
	"on-change = /bin/true\nca-profile = a\nkey-type = ecdsa\nkey-size = 256\n",
	"challenge-password = \"word\"\nre-generate-keypair = yes\nca-profile = a\n",
	"tls-ca = a\ncrl-url = http://127.0.0.1:1/crl\n",
	"-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n",
};
#define WORDS COUNT(texts)

/* A text that the tree takes, or one of the input's own. */
static const char *take_text(struct input *input, size_t *length)
{
	size_t which = take(input, 1), key = (which - WORDS) % WORLD_KEYS;
	const char *const made[] = { world->key[key], world->leaf[key], world->own[key], world->ca,
		                     world->crl };
	const char *text;

	if (which < WORDS + WORLD_KEYS * COUNT(made)) {
		text = which < WORDS ? texts[which] : made[(which - WORDS) / WORLD_KEYS];
		*length = strlen(text);
		return text;
	}
	*length = which == 255 ? take(input, 2) : which % 64;
	if (*length > input->left)
		*length = input->left;
	text = (const char *)input->data;
	input->data += *length;
	input->left -= *length;
	return text;
}

static struct who take_who(struct input *input)
{
	static const uint32_t uids[] = { 0, 0, 1000, 65534 };
	const uint32_t pids[] = { (uint32_t)getpid(), 1, 0, 4194305 };
	uint8_t which = (uint8_t)take(input, 1);

	return (struct who){ uids[which % 4], pids[which / 4 % 4] };
}

static uint64_t take_node(struct input *input)
{
	return kernel.nodes[take(input, 1) % kernel.node_count];
}

static struct open_one *take_open(struct input *input)
{
	size_t which = take(input, 1);

	return kernel.open_count ? &kernel.opens[which % kernel.open_count] : NULL;
}

/* --- steps --- */

static void step_lookup(struct input *input)
{
	uint64_t node = take_node(input);
	char name[256];

	take_name(input, name);
	ask_named(FUSE_LOOKUP, node, take_who(input), NULL, 0, name, NULL);
}

static void step_getattr(struct input *input)
{
	struct fuse_getattr_in in = { 0 };

	ask(FUSE_GETATTR, take_node(input), take_who(input), &in, sizeof in);
}

static void step_setattr(struct input *input)
{
	struct fuse_setattr_in in = { .valid = (uint32_t)take(input, 2) & ~(uint32_t)FATTR_FH };
	uint64_t node = take_node(input);
	struct open_one *open = take_open(input);

	in.size = take(input, 1);
	if (in.size == 255)
		in.size = take(input, 8) >> 1;
	in.mode = (uint32_t)take(input, 2);
	in.uid = (uint32_t)take(input, 2);
	in.gid = (uint32_t)take(input, 2);
	if (open && open->node == node && (open->flags & O_ACCMODE) != O_RDONLY) {
		in.valid |= FATTR_FH;
		in.fh = open->fh;
	}
	ask_setattr(node, take_who(input), in);
}

static void step_mkdir(struct input *input)
{
	struct fuse_mkdir_in in = { .mode = (uint32_t)take(input, 2) };
	uint64_t node = take_node(input);
	char name[256];

	take_name(input, name);
	ask_named(FUSE_MKDIR, node, take_who(input), &in, sizeof in, name, NULL);
}

static void remove_by(uint32_t opcode, struct input *input)
{
	uint64_t node = take_node(input);
	char name[256];

	take_name(input, name);
	ask_named(opcode, node, take_who(input), NULL, 0, name, NULL);
}

static void step_rmdir(struct input *input)
{
	remove_by(FUSE_RMDIR, input);
}

static void step_unlink(struct input *input)
{
	remove_by(FUSE_UNLINK, input);
}

static void step_rename(struct input *input)
{
	struct fuse_rename2_in in = { .newdir = take_node(input),
		                      .flags = (uint32_t)take(input, 1) % 8 };
	uint64_t node = take_node(input);
	char name[256], other[256];

	take_name(input, name);
	take_name(input, other);
	ask_named(FUSE_RENAME2, node, take_who(input), &in, sizeof in, name, other);
}

static void step_create(struct input *input)
{
	struct fuse_create_in in = { .flags = (uint32_t)take(input, 2),
		                     .mode = S_IFREG | ((uint32_t)take(input, 2) & 07777) };
	uint64_t node = take_node(input);
	struct asked *request;
	char name[256];

	take_name(input, name);
	turns();
	if (kernel.open_count >= OPENS || (in.flags & O_ACCMODE) == O_ACCMODE)
		return;
	request = ask_named(FUSE_CREATE, node, take_who(input), &in, sizeof in, name, NULL);
	if (request)
		request->flags = in.flags;
	turns();
}

static void step_open(struct input *input)
{
	uint64_t node = take_node(input);
	uint32_t flags = (uint32_t)take(input, 2);

	if ((flags & O_ACCMODE) != O_ACCMODE)
		ask_open(node, flags, take_who(input));
}

static void step_read(struct input *input)
{
	struct open_one *open = take_open(input);
	uint64_t offset = take(input, 1);
	uint32_t size = (uint32_t)take(input, 2);

	if (offset == 255)
		offset = take(input, 8) >> 1;
	if (open)
		ask_read(open, offset, size, take_who(input));
}

static void step_write(struct input *input)
{
	struct open_one *open = take_open(input);
	uint64_t offset = take(input, 1);
	const char *text;
	size_t length;

	if (offset == 255)
		offset = take(input, 8) >> 1;
	text = take_text(input, &length);
	if (open)
		ask_write(open, offset, text, length, take_who(input));
}

static void step_flush(struct input *input)
{
	struct open_one *open = take_open(input);

	if (open)
		ask_flush(open, take_who(input));
}

static void step_fsync(struct input *input)
{
	struct open_one *open = take_open(input);
	struct fuse_fsync_in in = { 0 };

	if (!open)
		return;
	in.fh = open->fh;
	ask(FUSE_FSYNC, open->node, take_who(input), &in, sizeof in);
}

static void step_release(struct input *input)
{
	struct open_one *open = take_open(input);

	if (open)
		ask_release(open, take_who(input));
}

static void step_readdir(struct input *input)
{
	struct fuse_read_in in = { .size = (uint32_t)take(input, 2), .offset = take(input, 1) };
	struct asked *request;

	if (in.offset == 255)
		in.offset = take(input, 8) >> 1;
	request = ask(FUSE_READDIR, take_node(input), take_who(input), &in, sizeof in);
	if (request)
		request->size = in.size;
}

static void step_poll(struct input *input)
{
	struct open_one *open = take_open(input);
	struct fuse_poll_in in = { .flags = FUSE_POLL_SCHEDULE_NOTIFY, .events = 1 };

	if (!open)
		return;
	in.fh = open->fh;
	in.kh = take(input, 1);
	ask(FUSE_POLL, open->node, take_who(input), &in, sizeof in);
}

static void step_attribute(struct input *input)
{
	static const char *const attributes[] = { "user.pkifs.error", "system.posix_acl_access",
		                                  "security.selinux", "user.x" };
	struct fuse_getxattr_in in = { .size = (uint32_t)take(input, 2) };
	uint64_t node = take_node(input);
	uint8_t which = (uint8_t)take(input, 1);
	struct who who = take_who(input);
	struct asked *request;

	if (which & 128)
		request = ask(FUSE_LISTXATTR, node, who, &in, sizeof in);
	else
		request = ask_named(FUSE_GETXATTR, node, who, &in, sizeof in,
		                    attributes[which % COUNT(attributes)], NULL);
	if (request)
		request->size = in.size;
}

static void step_set_attribute(struct input *input)
{
	struct {
		uint32_t size, flags; /* as it is before FUSE_SETXATTR_EXT */
		char rest[64];
	} in = { .size = (uint32_t)take(input, 1) % 16, .rest = "system.posix_acl_access" };
	uint64_t node = take_node(input);

	ask(FUSE_SETXATTR, node, take_who(input), &in,
	    2 * sizeof(uint32_t) + strlen(in.rest) + 1 + in.size);
}

static void step_statfs(struct input *input)
{
	ask(FUSE_STATFS, take_node(input), take_who(input), NULL, 0);
}

static void step_interrupt(struct input *input)
{
	size_t index = kernel.count ? take(input, 1) % kernel.count : 0;

	if (index < kernel.count && kernel.requests[index].owed && !kernel.requests[index].answered)
		ask_interrupt(index);
}

static void step_forget(struct input *input)
{
	struct fuse_forget_in in = { .nlookup = 1 };

	ask(FUSE_FORGET, take_node(input), (struct who){ 0 }, &in, sizeof in);
}

/* A kind that the store does not know, or does not serve; its body is the input's. */
static void step_other(struct input *input)
{
	static const uint32_t kinds[] = { FUSE_READLINK,   FUSE_SYMLINK, FUSE_MKNOD,
		                          FUSE_LINK,       FUSE_GETLK,   FUSE_SETLK,
		                          FUSE_ACCESS,     FUSE_BMAP,    FUSE_OPENDIR,
		                          FUSE_RELEASEDIR, FUSE_LSEEK,   FUSE_FALLOCATE,
		                          FUSE_FSYNCDIR,   FUSE_SYNCFS,  FUSE_REMOVEXATTR,
		                          FUSE_TMPFILE,    100,          UINT32_MAX };
	uint32_t opcode = kinds[take(input, 1) % COUNT(kinds)];
	uint64_t node = take_node(input);
	uint8_t body[128] = { 0 };

	for (size_t i = 0; i < 64; i++)
		body[i] = (uint8_t)take(input, 1);
	ask(opcode, node, take_who(input), body, sizeof body);
}

static void step_get(struct input *input)
{
	uint64_t node = take_node(input);
	char name[256];

	take_name(input, name);
	get(node, name, take_who(input));
}

static void step_put(struct input *input)
{
	uint64_t node = take_node(input);
	const char *text;
	char name[256];
	size_t length;

	take_name(input, name);
	text = take_text(input, &length);
	put(node, name, text, length, take_who(input));
}

static void worker_text(struct peer *worker, const char *text, size_t length)
{
	struct record *record = NULL;
	struct error err;

	if (record_parse(text, length, "frame", &record, &err) == 0)
		worker_says(worker, record);
	record_free(record);
}

static void step_worker(struct input *input)
{
	uint8_t what = (uint8_t)take(input, 1);
	struct peer *worker;
	const char *text;
	size_t length;

	turns();
	worker = world_worker(what >> 4);
	if (!worker)
		return;
	switch (what % 8) {
	case 0:
		worker_does_it(worker, false, 0, 0);
		break;
	case 1:
		worker_does_it(worker, true, take(input, 2), (unsigned char)take(input, 1));
		break;
	case 2:
		text = take_text(input, &length);
		worker_raw(worker, text, length);
		break;
	case 3:
		peer_end(worker);
		break;
	case 4:
		worker_text(worker, "frame = checkpoint\njob = @job\nresume-a = b\n", 44);
		break;
	case 5:
		worker_text(worker,
		            "frame = result\njob = @job\noutcome = waiting\nretry-after = 0\n", 60);
		break;
	default:
		text = take_text(input, &length);
		worker_text(worker, text, length);
	}
}

static void step_keys(struct input *input)
{
	world->mood = (enum keys_mood)(take(input, 1) % KEYS_MOODS);
}

static void step_start_fails(struct input *input)
{
	world->start_fails = take(input, 1) & 1;
}

static int fails(void *user)
{
	return *(bool *)user;
}

static void step_disk_fails(struct input *input)
{
	turns();
	world->disk_fails = take(input, 1) & 1;
}

static void step_tick(struct input *input)
{
	struct store *store = &world->store;

	(void)input;
	secrets_tick(store);
	workers_tick(store);
	temporary_expire(store);
	jobs_run(store);
	store_commit(store);
}

static void (*const steps[])(struct input *input) = {
	step_put,     step_get,       step_worker,        step_mkdir,      step_lookup,
	step_open,    step_read,      step_write,         step_flush,      step_release,
	step_create,  step_unlink,    step_rename,        step_rmdir,      step_setattr,
	step_getattr, step_readdir,   step_poll,          step_fsync,      step_interrupt,
	step_keys,    step_attribute, step_set_attribute, step_statfs,     step_other,
	step_forget,  step_tick,      step_start_fails,   step_disk_fails,
};

/* --- begin and end --- */

static void ask_init(void)
{
	struct fuse_init_in in = { .major = FUSE_KERNEL_VERSION,
		                   .minor = FUSE_KERNEL_MINOR_VERSION,
		                   .max_readahead = 1 << 17,
		                   .flags = FUSE_ASYNC_READ | FUSE_POSIX_ACL | FUSE_MAX_PAGES };

	kernel.limit = REQUESTS;
	ask(FUSE_INIT, 0, (struct who){ 0 }, &in, sizeof in);
	turns();
	must(kernel.owed == 0 && kernel.error == 0);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	world = world_open();
	for (int i = 0; i < 10 && !world->store.serving; i++)
		uv_run(world->store.loop, UV_RUN_ONCE);
	must(world->store.serving);
	ask_init();
	sqlite3_commit_hook(world->store.db->sqlite, fails, &world->disk_fails);
	return 0;
}

/* How many descriptors are open, but for the pipes: those are of the fuzzer's symbolizer. */
static int descriptors(void)
{
	struct stat file;
	int count = 0;

	for (int fd = 0; fd < 128; fd++)
		count += fstat(fd, &file) == 0 && !S_ISFIFO(file.st_mode);
	return count;
}

static void begin(void)
{
	const struct who root = { 0 };

	kernel.base += 2 * kernel.count;
	kernel.count = kernel.owed = kernel.open_count = 0;
	kernel.limit = STEPPED;
	kernel.nodes[0] = FUSE_ROOT_ID;
	kernel.node_count = 1;
	world->next_key = 0;
	kernel.folders[0] = look_up(FUSE_ROOT_ID, "ca", root);
	kernel.folders[1] = look_up(FUSE_ROOT_ID, "local", root);
	kernel.folders[2] = look_up(FUSE_ROOT_ID, "ipsec", root);
}

/* Whoever still waits is interrupted, and all that is open is closed. */
static void close_all(void)
{
	const struct who root = { 0 };
	size_t count = kernel.count;

	kernel.limit = REQUESTS;
	for (size_t i = 0; kernel.owed && i < count; i++)
		if (kernel.requests[i].owed && !kernel.requests[i].answered)
			ask_interrupt(i);
	turns();
	while (kernel.open_count)
		ask_release(&kernel.opens[0], root);
	turns();
	for (size_t i = 0; i < TEMPORARIES; i++) {
		struct temporary *temporary = &world->store.shared->temporaries[i];
		struct who who = { .uid = temporary->uid };

		if (temporary->ino && *temporary->name)
			ask_named(FUSE_UNLINK, temporary->folder, who, NULL, 0, temporary->name,
			          NULL);
	}
	turns();
	temporary_expire(&world->store); /* those in folders that never came to be */
}

static uint64_t folder_of(const struct object *object)
{
	return kernel.folders[object->kind - KIND_CA];
}

static void remove_object(const struct object *object)
{
	ask_named(FUSE_RMDIR, folder_of(object), (struct who){ 0 }, NULL, 0, object->name, NULL);
	turns();
}

/* Names nobody any more. */
static void empty_config(const struct object *object)
{
	uint64_t folder = look_up(folder_of(object), object->name, (struct who){ 0 });

	put(folder, "config", "#\n", 2, (struct who){ 0 });
	turns();
}

static void each(void (*act)(const struct object *object))
{
	for (enum kind kind = KIND_CA; kind <= KIND_IPSEC; kind++) {
		struct object object = { 0 };

		while (db_object_next(world->store.db, kind, object.id, &object) == 0)
			act(&object);
	}
}

static int64_t rows(const char *sql)
{
	sqlite3_stmt *statement;
	int64_t number;

	must(sqlite3_prepare_v2(world->store.db->sqlite, sql, -1, &statement, NULL) == SQLITE_OK);
	must(sqlite3_step(statement) == SQLITE_ROW);
	number = sqlite3_column_int64(statement, 0);
	sqlite3_finalize(statement);
	return number;
}

static void nothing_is_left(void)
{
	static int before;
	const struct store *store = &world->store;
	const struct shared *shared = store->shared;

	must(kernel.owed == 0);
	must(!store->begun && !store->effects && !store->parked && !store->writer);
	for (size_t i = 0; i < shared->files_top; i++)
		must(!shared->files[i].ino);
	for (size_t i = 0; i < TEMPORARIES; i++)
		must(!shared->temporaries[i].ino);
	for (size_t i = 0; i < BUFFERS; i++)
		must(!shared->buffer_taken[i]);
	for (int i = 0; i < SLOTS; i++)
		must(!shared_slot(store->shared, i)->len);
	must(rows("SELECT (SELECT count(*) FROM object) + (SELECT count(*) FROM config) +"
	          "(SELECT count(*) FROM edition) + (SELECT count(*) FROM key_pair) +"
	          "(SELECT count(*) FROM version) + (SELECT count(*) FROM request) +"
	          "(SELECT count(*) FROM crl) + (SELECT count(*) FROM file_mode WHERE "
	          "object<>0)") == 0);
	must(!before || descriptors() == before);
	before = descriptors();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = { data, size };

	begin();
	while (input.left) {
		uint8_t kind = (uint8_t)take(&input, 1);

		steps[(kind & 127) % COUNT(steps)](&input);
		if (!(kind & 128))
			turns();
	}
	turns();
	world->mood = KEYS_GOOD;
	world->start_fails = world->disk_fails = false;
	peers_end(); /* who waited for one of them is answered */
	turns();
	close_all();
	each(empty_config);
	each(remove_object);
	peers_end();
	turns();
	nothing_is_left();
	sqlite3_exec(world->store.db->sqlite, "DELETE FROM event", NULL, NULL, NULL);
	return 0;
}
