#include "store_kernel.h"

#include "pkifs/file.h"

#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct world *world;
struct kernel kernel = { .base = 2 };

static union {
	char bytes[WRITE_MAX + 4096];
	struct fuse_in_header in;
	struct fuse_out_header out;
} buffer;

static void know(uint64_t node)
{
	for (size_t i = 0; i < kernel.node_count; i++)
		if (kernel.nodes[i] == node)
			return;
	if (kernel.node_count < NODES)
		kernel.nodes[kernel.node_count++] = node;
}

static void entry_answered(const char *body, size_t length)
{
	struct fuse_entry_out entry;

	must(length >= sizeof entry);
	memcpy(&entry, body, sizeof entry);
	must(entry.nodeid && entry.nodeid == entry.attr.ino);
	must(S_ISDIR(entry.attr.mode) || S_ISREG(entry.attr.mode));
	know(entry.nodeid);
	kernel.entry = entry.nodeid;
}

static void open_answered(const struct asked *request, uint64_t node, const char *body,
                          size_t length)
{
	struct fuse_open_out open;

	must(length == sizeof open);
	memcpy(&open, body, sizeof open);
	must(kernel.open_count < OPENS);
	kernel.opens[kernel.open_count++] =
		(struct open_one){ .node = node, .fh = open.fh, .flags = request->flags };
}

/* Whole entries, with names that a folder can have. */
static void folder_answered(const char *body, size_t length)
{
	while (length) {
		struct fuse_dirent entry;
		size_t size;

		must(length >= FUSE_NAME_OFFSET);
		memcpy(&entry, body, FUSE_NAME_OFFSET);
		size = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + entry.namelen);
		must(entry.namelen > 0 && entry.namelen < 256 && size <= length);
		must(!memchr(body + FUSE_NAME_OFFSET, '/', entry.namelen) && entry.ino);
		body += size;
		length -= size;
	}
}

/* What programs read can be read by them. */
static void text_answered(const struct asked *request, const char *body, size_t length)
{
	enum file file = inode_file(request->node);
	bool whole = request->offset == 0 && length && length < request->size;

	if (file == FILE_STATUS_JSON && whole) {
		json_t *json = json_loadb(body, length, 0, NULL);

		must(json != NULL);
		json_decref(json);
	}
	if (file == FILE_STATUS || file == FILE_STATUS_ALL || file == FILE_EVENTS ||
	    file == FILE_WAIT)
		for (size_t i = 0; i < length; i++)
			must((unsigned char)body[i] >= 0x20 ? body[i] != 0x7f : body[i] == '\n');
	if (file == FILE_STATUS && whole) {
		struct record *status = NULL;

		must(record_parse(body, length, NULL, &status, NULL) == 0);
		must(record_get(status, "state") != NULL);
		record_free(status);
	}
}

static void body_answered(const struct asked *request, const char *body, size_t length)
{
	switch (request->opcode) {
	case FUSE_LOOKUP:
	case FUSE_MKDIR:
		entry_answered(body, length);
		break;
	case FUSE_CREATE:
		entry_answered(body, length);
		open_answered(request, kernel.entry, body + sizeof(struct fuse_entry_out),
		              length - sizeof(struct fuse_entry_out));
		break;
	case FUSE_OPEN:
		open_answered(request, request->node, body, length);
		break;
	case FUSE_READ:
		must(length <= request->size);
		text_answered(request, body, length);
		break;
	case FUSE_READDIR:
		must(length <= request->size);
		folder_answered(body, length);
		break;
	case FUSE_GETXATTR:
	case FUSE_LISTXATTR:
		must(!request->size || length <= request->size);
		break;
	case FUSE_WRITE:
		must(length == sizeof(struct fuse_write_out));
		break;
	default:
		break;
	}
}

static void answered(const struct fuse_out_header *header, const char *body, size_t length)
{
	uint64_t index = (header->unique - kernel.base) / 2;
	struct asked *request = &kernel.requests[index];

	must(header->unique >= kernel.base && index < kernel.count && !request->answered);
	must(header->error <= 0 && header->error > -512);
	/* libfuse answers an interrupt that found nothing */
	must(request->owed || request->opcode == FUSE_INTERRUPT);
	request->answered = true;
	kernel.owed -= request->owed;
	kernel.error = header->error;
	if (header->error)
		must(length == 0);
	else
		body_answered(request, body, length);
}

static bool drain(void)
{
	bool some = false;
	ssize_t got;

	while ((got = read(world->kernel, &buffer, sizeof buffer)) > 0) {
		must((size_t)got >= sizeof buffer.out && buffer.out.len == (size_t)got);
		if (buffer.out.unique)
			answered(&buffer.out, buffer.bytes + sizeof buffer.out,
			         (size_t)got - sizeof buffer.out);
		else
			must(buffer.out.error == FUSE_NOTIFY_POLL);
		some = true;
	}
	return some;
}

void turns(void)
{
	int quiet = 0;

	while (quiet < 2) {
		world->moved = false;
		uv_run(world->store.loop, UV_RUN_NOWAIT);
		quiet = drain() || world->moved ? 0 : quiet + 1;
	}
}

static bool has_answer(uint32_t opcode)
{
	return opcode != FUSE_FORGET && opcode != FUSE_INTERRUPT;
}

struct asked *ask(uint32_t opcode, uint64_t node, struct who who, const void *body, size_t length)
{
	static char message[sizeof buffer];
	struct fuse_in_header header = { .len = (uint32_t)(sizeof header + length),
		                         .opcode = opcode,
		                         .nodeid = node,
		                         .uid = who.uid,
		                         .gid = who.uid,
		                         .pid = who.pid };
	struct asked *request = &kernel.requests[kernel.count];

	if (kernel.count >= kernel.limit || sizeof header + length > sizeof message)
		return NULL;
	header.unique = kernel.base + 2 * kernel.count;
	memcpy(message, &header, sizeof header);
	if (length)
		memcpy(message + sizeof header, body, length);
	*request = (struct asked){ .opcode = opcode, .node = node, .owed = has_answer(opcode) };
	kernel.count++;
	kernel.owed += request->owed;
	kernel.entry = 0;
	must(write(world->kernel, message, header.len) == (ssize_t)header.len);
	return request;
}

struct asked *ask_named(uint32_t opcode, uint64_t node, struct who who, const void *fixed,
                        size_t size, const char *one, const char *other)
{
	char body[1024];
	size_t length = size, part = strlen(one) + 1;

	if (size)
		memcpy(body, fixed, size);
	memcpy(body + length, one, part);
	length += part;
	if (other) {
		part = strlen(other) + 1;
		memcpy(body + length, other, part);
		length += part;
	}
	return ask(opcode, node, who, body, length);
}

uint64_t look_up(uint64_t node, const char *name, struct who who)
{
	ask_named(FUSE_LOOKUP, node, who, NULL, 0, name, NULL);
	turns();
	return kernel.entry;
}

void ask_setattr(uint64_t node, struct who who, struct fuse_setattr_in in)
{
	ask(FUSE_SETATTR, node, who, &in, sizeof in);
}

void ask_open(uint64_t node, uint32_t flags, struct who who)
{
	struct fuse_open_in in = { .flags = flags };
	struct asked *request;

	turns();
	if (kernel.open_count >= OPENS)
		return;
	request = ask(FUSE_OPEN, node, who, &in, sizeof in);
	if (request)
		request->flags = flags;
	turns();
}

void ask_read(const struct open_one *open, uint64_t offset, uint32_t size, struct who who)
{
	struct fuse_read_in in = {
		.fh = open->fh, .offset = offset, .size = size, .flags = open->flags
	};
	struct asked *request;

	if ((open->flags & O_ACCMODE) == O_WRONLY)
		return;
	request = ask(FUSE_READ, open->node, who, &in, sizeof in);
	if (request) {
		request->size = size;
		request->offset = offset;
	}
}

void ask_write(const struct open_one *open, uint64_t offset, const char *text, size_t length,
               struct who who)
{
	static char body[DATA_MAX + sizeof(struct fuse_write_in)];
	struct fuse_write_in in = {
		.fh = open->fh, .offset = offset, .size = (uint32_t)length, .flags = open->flags
	};

	if ((open->flags & O_ACCMODE) == O_RDONLY)
		return;
	memcpy(body, &in, sizeof in);
	if (length)
		memcpy(body + sizeof in, text, length);
	ask(FUSE_WRITE, open->node, who, body, sizeof in + length);
}

void ask_flush(const struct open_one *open, struct who who)
{
	struct fuse_flush_in in = { .fh = open->fh };

	if ((open->flags & O_ACCMODE) != O_RDONLY)
		ask(FUSE_FLUSH, open->node, who, &in, sizeof in);
}

void ask_release(struct open_one *open, struct who who)
{
	struct fuse_release_in in = { .fh = open->fh, .flags = open->flags };

	if (ask(FUSE_RELEASE, open->node, who, &in, sizeof in)) /* else it is closed at the end */
		*open = kernel.opens[--kernel.open_count];
}

void ask_interrupt(size_t index)
{
	struct fuse_interrupt_in in = { .unique = kernel.base + 2 * index };

	ask(FUSE_INTERRUPT, 0, (struct who){ 0 }, &in, sizeof in);
}

void get(uint64_t node, const char *name, struct who who)
{
	size_t before = kernel.open_count;
	uint64_t file = look_up(node, name, who);

	if (file)
		ask_open(file, O_RDONLY, who);
	if (kernel.open_count == before)
		return;
	ask_read(&kernel.opens[kernel.open_count - 1], 0, DATA_MAX, who);
	turns();
	ask_release(&kernel.opens[kernel.open_count - 1], who);
}

void put(uint64_t node, const char *name, const char *text, size_t length, struct who who)
{
	size_t before = kernel.open_count;
	uint64_t file = look_up(node, name, who);
	struct fuse_create_in create = { .flags = O_WRONLY | O_TRUNC, .mode = S_IFREG | 0644 };
	struct asked *request;

	if (file) {
		ask_open(file, O_WRONLY, who);
	} else if (before < OPENS) {
		request = ask_named(FUSE_CREATE, node, who, &create, sizeof create, name, NULL);
		if (request)
			request->flags = O_WRONLY;
		turns();
	}
	if (kernel.open_count == before)
		return;
	ask_setattr(kernel.opens[before].node, who,
	            (struct fuse_setattr_in){ .valid = FATTR_SIZE | FATTR_FH,
	                                      .fh = kernel.opens[before].fh });
	ask_write(&kernel.opens[before], 0, text, length, who);
	turns();
	ask_flush(&kernel.opens[before], who);
	turns();
	ask_release(&kernel.opens[before], who);
}
