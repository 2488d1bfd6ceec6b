/*
 * The form of VICI's packets: a byte of type; for commands and events a name with its length in a
 * byte; then elements: a byte of kind, a name likewise, a value with its length in two bytes.
 */
#include "netlink/vici.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <string.h>

enum element { SECTION_START = 1, SECTION_END, KEY_VALUE, LIST_START, LIST_ITEM, LIST_END };

#define LENGTH_BYTES 4
#define PATH_BYTES   512 /* of a value's name with all sections before it */

/* --- encoding --- */

struct writer {
	unsigned char *bytes;
	size_t used, room;
	int failed;                /* a negative errno */
	char sections[PATH_BYTES]; /* those that are open, with a dot behind each */
	const char *list;          /* the record's key of the list that is open */
};

static void put(struct writer *writer, const void *bytes, size_t length)
{
	if (!writer->failed && writer->used + length > VICI_PACKET_MAX)
		writer->failed = -EMSGSIZE;
	if (!writer->failed && writer->used + length > writer->room) {
		size_t room = (writer->used + length) * 2;
		unsigned char *more = OPENSSL_clear_realloc(writer->bytes, writer->room, room);

		if (more) {
			writer->bytes = more;
			writer->room = room;
		}
		writer->failed = more ? 0 : -ENOMEM;
	}
	if (writer->failed || !length)
		return;
	memcpy(writer->bytes + writer->used, bytes, length);
	writer->used += length;
}

static void put_byte(struct writer *writer, enum element kind)
{
	const unsigned char byte = (unsigned char)kind;

	put(writer, &byte, 1);
}

static void put_name(struct writer *writer, unsigned kind, const char *name, size_t length)
{
	const unsigned char head[2] = { (unsigned char)kind, (unsigned char)length };

	if (length >= VICI_NAME_MAX && !writer->failed)
		writer->failed = -EMSGSIZE;
	put(writer, head, sizeof head);
	put(writer, name, length);
}

static void put_value(struct writer *writer, const struct field *field)
{
	const unsigned char head[2] = { (unsigned char)(field->length >> 8),
		                        (unsigned char)field->length };

	if (field->length > VICI_VALUE_MAX && !writer->failed)
		writer->failed = -EMSGSIZE;
	put(writer, head, sizeof head);
	put(writer, field->value, field->length);
}

/* Closes the sections that are not before the first COMMON bytes. */
static void close_sections(struct writer *writer, size_t common)
{
	for (size_t i = strlen(writer->sections); i > common; i--)
		if (writer->sections[i - 1] == '.')
			put_byte(writer, SECTION_END);
	writer->sections[common] = 0;
}

/* Opens and closes sections until those are open that KEY begins with; where its own name begins.
 */
static const char *enter(struct writer *writer, const char *key)
{
	const char *name = strrchr(key, '.'), *at;
	size_t common = 0, length;

	name = name ? name + 1 : key;
	length = (size_t)(name - key);
	if (length >= sizeof writer->sections) {
		writer->failed = writer->failed ? writer->failed : -EMSGSIZE;
		return name;
	}
	for (size_t i = 0; i < length && key[i] == writer->sections[i]; i++)
		if (key[i] == '.')
			common = i + 1;
	close_sections(writer, common);
	for (at = key + common; at < name;) {
		size_t part = strcspn(at, ".");

		put_name(writer, SECTION_START, at, part);
		at += part + 1;
	}
	memcpy(writer->sections, key, length);
	writer->sections[length] = 0;
	return name;
}

static void close_list(struct writer *writer)
{
	if (writer->list)
		put_byte(writer, LIST_END);
	writer->list = NULL;
}

static void put_field(struct writer *writer, const struct field *field)
{
	size_t length = strlen(field->key);
	bool list = length > 2 && strcmp(field->key + length - 2, "[]") == 0;

	if (writer->list && (!list || strcmp(writer->list, field->key) != 0))
		close_list(writer);
	if (!list) {
		const char *name = enter(writer, field->key);

		put_name(writer, KEY_VALUE, name, strlen(name));
	} else if (!writer->list) {
		const char *name = enter(writer, field->key);

		put_name(writer, LIST_START, name, strlen(name) - 2);
		writer->list = field->key;
	}
	if (list)
		put_byte(writer, LIST_ITEM);
	put_value(writer, field);
}

int vici_encode(enum vici_packet type, const char *name, const struct record *message,
                unsigned char **bytes, size_t *length)
{
	struct writer writer = { .failed = message && record_failed(message) ? -ENOMEM : 0 };
	const unsigned char only_type = (unsigned char)type;
	size_t body;

	put(&writer, "\0\0\0\0", LENGTH_BYTES);
	if (name)
		put_name(&writer, type, name, strlen(name));
	else
		put(&writer, &only_type, 1);
	for (size_t i = 0; message && i < record_count(message); i++)
		put_field(&writer, record_field(message, i));
	close_list(&writer);
	close_sections(&writer, 0);
	if (writer.failed) {
		OPENSSL_clear_free(writer.bytes, writer.room);
		return writer.failed;
	}
	body = writer.used - LENGTH_BYTES;
	for (size_t i = 0; i < LENGTH_BYTES; i++)
		writer.bytes[i] = (unsigned char)(body >> (8 * (LENGTH_BYTES - 1 - i)));
	*bytes = writer.bytes;
	*length = writer.used;
	return 0;
}

/* --- decoding --- */

struct reader {
	const unsigned char *at, *end;
	char path[PATH_BYTES]; /* the open sections, with a dot behind each, and a name */
	size_t length;         /* of the sections alone */
	unsigned depth;
	bool in_list;
};

/* A name behind the sections of the path, without what has a meaning there. */
static int take_name(struct reader *reader)
{
	size_t length, left = (size_t)(reader->end - reader->at);

	if (left < 1)
		return -EBADMSG;
	length = *reader->at;
	if (!length || length >= left ||
	    reader->length + length + sizeof "[]" > sizeof reader->path ||
	    memchr(reader->at + 1, 0, length))
		return -EBADMSG;
	for (size_t i = 0; i < length; i++)
		reader->path[reader->length + i] =
			strchr(".[", reader->at[1 + i]) ? '_' : (char)reader->at[1 + i];
	reader->path[reader->length + length] = 0;
	reader->at += 1 + length;
	return 0;
}

static int take_value(struct reader *reader, struct record *message)
{
	size_t length, left = (size_t)(reader->end - reader->at);

	if (left < 2)
		return -EBADMSG;
	length = (size_t)reader->at[0] << 8 | reader->at[1];
	if (length > left - 2)
		return -EBADMSG;
	record_add_bytes(message, reader->path, reader->at + 2, length);
	reader->at += 2 + length;
	return 0;
}

static int begin_section(struct reader *reader)
{
	int r = take_name(reader);

	if (r < 0)
		return r;
	strcat(reader->path, "."); /* take_name left room */
	reader->length = strlen(reader->path);
	reader->depth++;
	return 0;
}

static int end_section(struct reader *reader)
{
	if (!reader->depth)
		return -EBADMSG;
	reader->depth--;
	do
		reader->length--;
	while (reader->length > 0 && reader->path[reader->length - 1] != '.');
	reader->path[reader->length] = 0;
	return 0;
}

static int take_element(struct reader *reader, struct record *message)
{
	enum element kind = *reader->at++;
	int r;

	if (reader->in_list != (kind == LIST_ITEM || kind == LIST_END))
		return -EBADMSG;
	switch (kind) {
	case SECTION_START:
		return begin_section(reader);
	case SECTION_END:
		return end_section(reader);
	case KEY_VALUE:
		r = take_name(reader);
		return r < 0 ? r : take_value(reader, message);
	case LIST_START:
		reader->in_list = true;
		r = take_name(reader);
		if (r == 0)
			strcat(reader->path, "[]");
		return r;
	case LIST_ITEM:
		return take_value(reader, message);
	case LIST_END:
		reader->in_list = false;
		return 0;
	}
	return -EBADMSG;
}

static int take_message(struct reader *reader, struct record **message)
{
	struct record *new = record_new();
	int r = new ? 0 : -ENOMEM;

	while (r == 0 && reader->at < reader->end)
		r = take_element(reader, new);
	if (r == 0 && (reader->in_list || reader->depth))
		r = -EBADMSG;
	if (r == 0 && record_failed(new))
		r = -ENOMEM;
	if (r == 0)
		*message = new;
	else
		record_free(new);
	return r;
}

int vici_decode(const unsigned char *bytes, size_t length, enum vici_packet *type,
                char name[VICI_NAME_MAX], struct record **message)
{
	struct reader reader = { .at = bytes + 1, .end = bytes + length };
	bool named, carries;
	int r = 0;

	*message = NULL;
	*name = 0;
	if (length < 1 || bytes[0] > VICI_EVENT)
		return -EBADMSG;
	*type = bytes[0];
	named = *type == VICI_REQUEST || *type == VICI_REGISTER || *type == VICI_UNREGISTER ||
	        *type == VICI_EVENT;
	carries = *type == VICI_REQUEST || *type == VICI_RESPONSE || *type == VICI_EVENT;
	if (named) {
		r = take_name(&reader);
		if (r == 0)
			memcpy(name, reader.path, strlen(reader.path) + 1);
	}
	if (r == 0 && carries)
		return take_message(&reader, message);
	return r == 0 && reader.at != reader.end ? -EBADMSG : r;
}
