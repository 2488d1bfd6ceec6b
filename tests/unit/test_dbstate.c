/* What the store keeps of what goes on: requests, events, modes, named values. */
#include "db/sql.h"
#include "store_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Requests */

static int64_t add_request(struct fixture *f, const char *name, enum request_state standing)
{
	struct request request = { .state = standing, .created = 5, .changed = 6 };
	int64_t id;

	request.object = add_object(f, KIND_LOCAL, name);
	strcpy(request.action, "enroll");
	request.text = bytes("enroll\n", 7);
	request.fields = bytes("\0\1", 2);
	assert_int_equal(db_request_add(f->db, &request, &id), 0);
	request_clear(&request);
	return id;
}

static void a_requests_standing_is_kept(void **state)
{
	struct fixture *f = *state;
	struct request request;
	struct object object;
	int64_t id;

	begin(f);
	id = add_request(f, "gate", REQUEST_QUEUED);
	assert_int_equal(db_object_find(f->db, KIND_LOCAL, "gate", &object), 0);
	assert_int_equal(db_request_checkpoint(f->db, id,
	                                       "id\0"
	                                       "42",
	                                       5, 77),
	                 0);
	assert_int_equal(db_request_get(f->db, object.id, &request), 0);
	assert_int_equal(request.id, id);
	assert_int_equal(request.state, REQUEST_QUEUED);
	assert_int_equal(request.changed, 77);
	assert_false(request.answered || request.pending);
	request.state = REQUEST_WAITING;
	request.attempts = 3;
	request.next_attempt = 500;
	request.answered = request.pending = true;
	strcpy(request.error, "the CA has not decided yet");
	assert_int_equal(db_request_update(f->db, &request), 0);
	request_clear(&request);
	commit(f);
	reopen(f);
	assert_int_equal(db_request_get(f->db, object.id, &request), 0);
	assert_string_equal(request.action, "enroll");
	assert_int_equal(request.state, REQUEST_WAITING);
	assert_true(request.attempts == 3 && request.next_attempt == 500 && request.created == 5);
	assert_true(request.answered && request.pending);
	assert_string_equal(request.error, "the CA has not decided yet");
	assert_blob(&request.text, "enroll\n", 7);
	assert_blob(&request.fields, "\0\1", 2);
	assert_blob(&request.resume,
	            "id\0"
	            "42",
	            5);
}

static void only_active_requests_are_next(void **state)
{
	struct fixture *f = *state;
	struct request request;
	int64_t active[3], after = 0;

	begin(f);
	add_request(f, "a", REQUEST_NONE);
	active[0] = add_request(f, "b", REQUEST_QUEUED);
	add_request(f, "c", REQUEST_DONE);
	active[1] = add_request(f, "d", REQUEST_RUNNING);
	add_request(f, "e", REQUEST_FAILED);
	add_request(f, "f", REQUEST_REJECTED);
	active[2] = add_request(f, "g", REQUEST_WAITING);
	commit(f);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(db_request_next(f->db, after, &request), 0);
		assert_int_equal(request.id, active[i]);
		assert_true(request_active(&request));
		after = request.id;
		request_clear(&request);
	}
	assert_int_equal(db_request_next(f->db, after, &request), -ENOENT);
}

static void what_is_due_is_told_by_profile_and_in_turn(void **state)
{
	static const struct {
		const char *name;
		int64_t profile, next_attempt;
		enum request_state state;
	} rows[] = { { "a", 7, 50, REQUEST_WAITING }, { "b", 7, 200, REQUEST_WAITING },
		     { "c", 7, 0, REQUEST_QUEUED },   { "d", 9, 50, REQUEST_WAITING },
		     { "e", 7, 50, REQUEST_RUNNING }, { "f", 7, 0, REQUEST_DONE },
		     { "g", 0, 0, REQUEST_QUEUED },   { "h", 7, 90000, REQUEST_WAITING } };
	static const char *const in_turn[] = { "c", "a", "e" };
	struct fixture *f = *state;
	struct request request, last = { 0 };
	struct object object;
	int64_t profile, count;

	begin(f);
	for (size_t i = 0; i < COUNT(rows); i++) {
		add_request(f, rows[i].name, rows[i].state);
		assert_int_equal(db_object_find(f->db, KIND_LOCAL, rows[i].name, &object), 0);
		assert_int_equal(db_request_get(f->db, object.id, &request), 0);
		request.profile = rows[i].profile;
		request.next_attempt = rows[i].next_attempt;
		assert_int_equal(db_request_update(f->db, &request), 0);
		request_clear(&request);
	}
	commit(f);
	for (size_t i = 0; i < COUNT(in_turn); i++) {
		assert_int_equal(db_request_due(f->db, 7, 100, &last, &request), 0);
		assert_int_equal(db_object_get(f->db, request.object, &object), 0);
		assert_string_equal(object.name, in_turn[i]);
		last.id = request.id;
		last.next_attempt = request.next_attempt;
		request_clear(&request);
	}
	assert_int_equal(db_request_due(f->db, 7, 100, &last, &request), -ENOENT);
	assert_int_equal(db_request_profile(f->db, -1, &profile), 0);
	assert_int_equal(profile, 0);
	assert_int_equal(db_request_profile(f->db, 0, &profile), 0);
	assert_int_equal(profile, 7);
	assert_int_equal(db_request_profile(f->db, 9, &profile), -ENOENT);
	assert_int_equal(db_request_count(f->db, 7, 5, &count), 0); /* what waits does not count */
	assert_int_equal(count, 1);
	begin(f);
	assert_int_equal(db_request_hurry(f->db, 1000), 0);
	commit(f);
	last = (struct request){ 0 };
	assert_int_equal(db_request_due(f->db, 7, 1, &last, &request), 0);
	last.id = request.id;
	request_clear(&request);
	assert_int_equal(db_request_due(f->db, 7, 1, &last, &request), 0);
	assert_int_equal(db_object_get(f->db, request.object, &object), 0);
	assert_string_equal(object.name, "h");
	request_clear(&request);
	assert_int_equal(db_request_count(f->db, 7, 5, &count), 0);
	assert_int_equal(count, 2);
	assert_int_equal(db_request_count(f->db, 7, 1, &count), 0);
	assert_int_equal(count, 1);
}

static void a_new_request_takes_the_old_ones_place(void **state)
{
	struct fixture *f = *state;
	struct request request = { .state = REQUEST_QUEUED }, got;
	struct object object;
	int64_t old, new;

	begin(f);
	old = add_request(f, "gate", REQUEST_WAITING);
	assert_int_equal(db_object_find(f->db, KIND_LOCAL, "gate", &object), 0);
	request.object = object.id;
	strcpy(request.action, "generate");
	assert_int_equal(db_request_add(f->db, &request, &new), 0);
	commit(f);
	assert_true(new > old);
	assert_int_equal(db_request_get(f->db, object.id, &got), 0);
	assert_int_equal(got.id, new);
	assert_string_equal(got.action, "generate");
	assert_blob(&got.resume, "", 0);
	request_clear(&got);
	begin(f);
	assert_int_equal(db_object_remove(f->db, object.id), 0);
	commit(f);
	assert_int_equal(db_request_get(f->db, object.id, &got), -ENOENT);
	assert_int_equal(db_request_next(f->db, 0, &got), -ENOENT);
}

static void every_state_has_a_name(void **state)
{
	(void)state;
	assert_string_equal(request_state_name(REQUEST_NONE), "none");
	assert_string_equal(request_state_name(REQUEST_WAITING), "waiting");
	assert_string_equal(request_state_name(REQUEST_REJECTED), "rejected");
	assert_string_equal(request_state_name((enum request_state)77), "none");
}

/* Events */

static void add_events(struct fixture *f, int from, int to, int64_t keep)
{
	char line[16];

	for (int i = from; i <= to; i++) {
		int length = snprintf(line, sizeof line, "line %d\n", i);

		assert_int_equal(db_event_add(f->db, line, (size_t)length, keep), 0);
	}
}

static void assert_event(struct fixture *f, int64_t offset, int64_t start, const char *line)
{
	struct blob got = { 0 };
	int64_t at = -1;

	assert_int_equal(db_event_at(f->db, offset, &at, &got), 0);
	assert_int_equal(at, start);
	assert_blob(&got, line, strlen(line));
}

static void events_are_one_text_with_offsets(void **state)
{
	struct fixture *f = *state;
	struct blob line = { 0 };
	int64_t at, end = -1;

	assert_int_equal(db_event_end(f->db, &end), 0);
	assert_int_equal(end, 0);
	assert_int_equal(db_event_back(f->db, 10, &at), 0);
	assert_int_equal(at, 0);
	assert_int_equal(db_event_at(f->db, 0, &at, &line), -ENOENT);
	begin(f);
	add_events(f, 1, 3, 1000); /* 7 bytes each */
	commit(f);
	assert_int_equal(db_event_end(f->db, &end), 0);
	assert_int_equal(end, 21);
	assert_event(f, 0, 0, "line 1\n");
	assert_event(f, 6, 0, "line 1\n");
	assert_event(f, 7, 7, "line 2\n");
	assert_event(f, 10, 7, "line 2\n");
	assert_event(f, 20, 14, "line 3\n");
	assert_int_equal(db_event_at(f->db, 21, &at, &line), -ENOENT);
	assert_int_equal(db_event_at(f->db, 1000, &at, &line), -ENOENT);
	assert_null(line.data);
	assert_int_equal(db_event_back(f->db, 2, &at), 0);
	assert_int_equal(at, 7);
	assert_int_equal(db_event_back(f->db, 1000, &at), 0);
	assert_int_equal(at, 0);
}

static void offsets_stay_when_old_lines_go(void **state)
{
	struct fixture *f = *state;
	int64_t at, end;

	begin(f);
	add_events(f, 1, 9, 3);
	commit(f);
	reopen(f);
	assert_int_equal(db_event_end(f->db, &end), 0);
	assert_int_equal(end, 63);
	assert_int_equal(db_event_back(f->db, 1000, &at), 0);
	assert_int_equal(at, 42);
	assert_event(f, 0, 42, "line 7\n"); /* what stood there is gone: the next there is */
	assert_event(f, 41, 42, "line 7\n");
	assert_event(f, 43, 42, "line 7\n");
	begin(f);
	add_events(f, 5, 5, 1);
	commit(f);
	assert_event(f, 0, 63, "line 5\n");
	assert_int_equal(db_event_end(f->db, &end), 0);
	assert_int_equal(end, 70);
}

/* Small things */

static void named_values_are_set_replaced_and_removed(void **state)
{
	struct fixture *f = *state;
	struct blob value = { 0 };

	assert_int_equal(db_meta_get(f->db, "seal", &value), -ENOENT);
	begin(f);
	assert_int_equal(db_meta_set(f->db, "seal", "one", 3), 0);
	assert_int_equal(db_meta_set(f->db, "seal", "t\0o", 3), 0);
	assert_int_equal(db_meta_set(f->db, "empty", NULL, 0), 0);
	commit(f);
	reopen(f);
	assert_int_equal(db_meta_get(f->db, "seal", &value), 0);
	assert_blob(&value, "t\0o", 3);
	assert_int_equal(db_meta_get(f->db, "empty", &value), 0);
	assert_blob(&value, "", 0);
	begin(f);
	assert_int_equal(db_meta_remove(f->db, "seal"), 0);
	commit(f);
	assert_int_equal(db_meta_get(f->db, "seal", &value), -ENOENT);
}

static void names_of_a_value_come_in_order(void **state)
{
	static const char *const names[] = { "job-3", "job-1", "job-2", "jo", "jobs" };
	struct fixture *f = *state;
	char name[32] = "job-";

	begin(f);
	for (size_t i = 0; i < COUNT(names); i++)
		assert_int_equal(db_meta_set(f->db, names[i], "pending", 7), 0);
	assert_int_equal(db_meta_set(f->db, "job-2", "done", 4), 0);
	commit(f);
	assert_int_equal(db_meta_next(f->db, name, "job-~", "pending", name, sizeof name), 0);
	assert_string_equal(name, "job-1");
	assert_int_equal(db_meta_next(f->db, name, "job-~", "pending", name, sizeof name), 0);
	assert_string_equal(name, "job-3");
	assert_int_equal(db_meta_next(f->db, name, "job-~", "pending", name, sizeof name), -ENOENT);
}

static void modes_belong_to_a_file_and_go_with_its_object(void **state)
{
	struct fixture *f = *state;
	struct file_mode mode = { .uid = 4294967294, .gid = 5, .mode = 0640 }, got;
	int64_t object;

	begin(f);
	object = add_object(f, KIND_LOCAL, "gate");
	assert_int_equal(db_mode_set(f->db, object, 3, &mode), 0);
	assert_int_equal(db_mode_set(f->db, 0, 3, &mode), 0);
	mode.mode = 0600;
	assert_int_equal(db_mode_set(f->db, object, 3, &mode), 0);
	commit(f);
	assert_int_equal(db_mode_get(f->db, object, 3, &got), 0);
	assert_true(got.uid == 4294967294 && got.gid == 5 && got.mode == 0600);
	assert_int_equal(db_mode_get(f->db, object, 4, &got), -ENOENT);
	begin(f);
	assert_int_equal(db_object_remove(f->db, object), 0);
	commit(f);
	assert_int_equal(db_mode_get(f->db, object, 3, &got), -ENOENT);
	assert_int_equal(db_mode_get(f->db, 0, 3, &got), 0);
	assert_int_equal(got.mode, 0640);
}

static void what_is_declared_goes_with_its_object(void **state)
{
	struct fixture *f = *state;
	struct blob text = { 0 };
	int64_t gate, door, object;

	begin(f);
	gate = add_object(f, KIND_LOCAL, "gate");
	door = add_object(f, KIND_LOCAL, "door");
	assert_int_equal(db_declared_get(f->db, gate, &text), -ENOENT);
	assert_int_equal(db_declared_set(f->db, door, "", 0), 0);
	assert_int_equal(db_declared_set(f->db, gate, "digest = sha1\n", 14), 0);
	assert_int_equal(db_declared_set(f->db, gate, "digest = sha384\n", 16), 0);
	commit(f);
	assert_int_equal(db_declared_get(f->db, gate, &text), 0);
	assert_string_equal(text.data, "digest = sha384\n");
	blob_clear(&text);
	assert_int_equal(db_declared_get(f->db, door, &text), 0);
	assert_int_equal(text.length, 0);
	blob_clear(&text);
	assert_int_equal(db_declared_next(f->db, 0, &object), 0);
	assert_true(object == gate);
	assert_int_equal(db_declared_next(f->db, gate, &object), 0);
	assert_true(object == door);
	begin(f);
	assert_int_equal(db_declared_remove(f->db, door), 0);
	assert_int_equal(db_object_remove(f->db, gate), 0);
	commit(f);
	assert_int_equal(db_declared_next(f->db, 0, &object), -ENOENT);
}

static int64_t next_to_enroll(struct fixture *f, int64_t after)
{
	int64_t object;
	int r = db_auto_enroll_next(f->db, after, &object);

	assert_true(r == 0 || r == -ENOENT);
	return r == 0 ? object : 0;
}

static void who_enrolls_by_itself_moves_from_state_to_state(void **state)
{
	struct fixture *f = *state;
	int64_t profile, gate, door;

	begin(f);
	profile = add_object(f, KIND_CA, "corp");
	gate = add_object(f, KIND_LOCAL, "gate");
	door = add_object(f, KIND_LOCAL, "door");
	assert_int_equal(db_reference_add(f->db, gate, profile), 0);
	assert_true(next_to_enroll(f, 0) == 0);
	assert_int_equal(db_auto_enroll_set(f->db, gate, AUTO_ENROLL_DUE), 0);
	assert_int_equal(db_auto_enroll_set(f->db, profile, AUTO_ENROLL_DUE), 0);
	assert_true(next_to_enroll(f, 0) == profile);
	assert_true(next_to_enroll(f, profile) == gate);
	assert_int_equal(db_auto_enroll_move(f->db, gate, AUTO_ENROLL_AFTER, AUTO_ENROLL_OFF), 0);
	assert_true(next_to_enroll(f, profile) == gate);
	assert_int_equal(db_auto_enroll_move(f->db, gate, AUTO_ENROLL_DUE, AUTO_ENROLL_TRIED), 0);
	assert_int_equal(db_auto_enroll_set(f->db, door, AUTO_ENROLL_TRIED), 0);
	assert_true(next_to_enroll(f, profile) == 0);
	assert_int_equal(db_auto_enroll_profile(f->db, profile), 0); /* who names it, and tried */
	assert_true(next_to_enroll(f, profile) == gate);
	assert_true(next_to_enroll(f, gate) == 0);
	assert_int_equal(db_auto_enroll_set(f->db, gate, AUTO_ENROLL_OFF), 0);
	assert_int_equal(db_auto_enroll_profile(f->db, profile), 0);
	assert_true(next_to_enroll(f, profile) == 0);
	assert_int_equal(db_auto_enroll_set(f->db, profile, AUTO_ENROLL_TRIED), 0);
	assert_int_equal(db_auto_enroll_all(f->db), 0); /* certificate ids that were tried */
	assert_true(next_to_enroll(f, 0) == door);
	assert_true(next_to_enroll(f, door) == 0);
	commit(f);
}

/* The certificate id that asks PROFILE first, or 0. */
static int64_t first_due(struct fixture *f, int64_t profile, int64_t now)
{
	int64_t object;
	int r = db_action_due(f->db, profile, now, &object);

	assert_true(r == 0 || r == -ENOENT);
	return r == 0 ? object : 0;
}

static void set_action(struct fixture *f, int64_t object, int64_t at, int64_t profile,
                       int64_t failures)
{
	struct next_action action = { at, profile, failures };

	assert_int_equal(db_action_set(f->db, object, &action), 0);
}

static int64_t action_at(struct fixture *f, int64_t object)
{
	struct next_action action;

	assert_int_equal(db_action_get(f->db, object, &action), 0);
	return action.at;
}

static void what_is_due_is_found_by_profile_in_order(void **state)
{
	struct fixture *f = *state;
	int64_t corp, home, gate, door, wall, found;

	begin(f);
	corp = add_object(f, KIND_CA, "corp");
	home = add_object(f, KIND_CA, "home");
	gate = add_object(f, KIND_LOCAL, "gate");
	door = add_object(f, KIND_LOCAL, "door");
	wall = add_object(f, KIND_LOCAL, "wall");
	assert_int_equal(db_action_first(f->db, &found), -ENOENT);
	set_action(f, gate, 300, home, 0);
	set_action(f, door, 200, home, 0);
	set_action(f, wall, 100, corp, 0);
	assert_int_equal(db_action_first(f->db, &found), 0);
	assert_true(found == 100);
	assert_int_equal(db_action_profile(f->db, -1, &found), 0);
	assert_true(found == corp);
	assert_int_equal(db_action_profile(f->db, corp, &found), 0);
	assert_true(found == home);
	assert_int_equal(db_action_profile(f->db, home, &found), -ENOENT);
	assert_true(first_due(f, home, 199) == 0);
	assert_true(first_due(f, home, 200) == door);
	set_action(f, door, ACTION_NONE, home, 0);
	assert_true(first_due(f, home, 300) == gate);
	assert_true(first_due(f, corp, 300) == wall);
	commit(f);
}

/* The steps of SQLite's machine that the questions about what is due have cost so far. */
static int steps_of_questions(struct fixture *f)
{
	int steps = 0;

	for (size_t i = 0; i < f->db->cached; i++) {
		sqlite3_stmt *statement = f->db->cache[i].statement;

		if (strncmp(sqlite3_sql(statement), "SELECT", 6) != 0 ||
		    !strstr(sqlite3_sql(statement), "next_action"))
			continue;
		assert_int_equal(sqlite3_stmt_status(statement, SQLITE_STMTSTATUS_FULLSCAN_STEP, 0),
		                 0);
		steps += sqlite3_stmt_status(statement, SQLITE_STMTSTATUS_VM_STEP, 1);
	}
	return steps;
}

static int cost_with(struct fixture *f, int ids, int64_t profile)
{
	char name[24];
	int64_t found;

	begin(f);
	for (int i = 0; i < ids; i++) {
		snprintf(name, sizeof name, "id%d-%d", ids, i);
		set_action(f, add_object(f, KIND_LOCAL, name), 1000 + i, profile, 0);
	}
	commit(f);
	steps_of_questions(f);
	assert_int_equal(db_action_first(f->db, &found), 0);
	assert_true(found == 1000);
	assert_int_equal(db_action_to_plan(f->db, 0, &found), -ENOENT);
	assert_int_equal(db_action_profile(f->db, -1, &found), 0);
	assert_true(first_due(f, profile, 999) == 0);
	return steps_of_questions(f);
}

static void finding_what_is_due_costs_the_same_however_many_ids_there_are(void **state)
{
	struct fixture *f = *state;
	int64_t profile;
	int few;

	begin(f);
	profile = add_object(f, KIND_CA, "corp");
	commit(f);
	few = cost_with(f, 10, profile);
	assert_true(few > 0);
	assert_int_equal(cost_with(f, 5000, profile), few);
}

static void who_failed_is_planned_again_with_its_profile(void **state)
{
	struct fixture *f = *state;
	int64_t corp, gate, door, found;

	begin(f);
	corp = add_object(f, KIND_CA, "corp");
	gate = add_object(f, KIND_LOCAL, "gate");
	door = add_object(f, KIND_LOCAL, "door");
	assert_int_equal(db_reference_add(f->db, gate, corp), 0);
	assert_int_equal(db_reference_add(f->db, door, corp), 0);
	set_action(f, gate, 300, corp, 2);
	set_action(f, door, 300, corp, 0);
	assert_int_equal(db_action_hurry(f->db, 300), 0);
	assert_true(action_at(f, gate) == 300);
	assert_int_equal(db_action_hurry(f->db, 299), 0); /* the clock was set back */
	assert_true(action_at(f, gate) == ACTION_PLAN && action_at(f, door) == 300);
	set_action(f, gate, 300, corp, 2);
	assert_int_equal(db_action_plan_failed(f->db, corp), 0);
	assert_true(action_at(f, gate) == ACTION_PLAN && action_at(f, door) == 300);
	assert_int_equal(db_action_to_plan(f->db, 0, &found), 0);
	assert_true(found == gate && first_due(f, corp, 300) == door);
	assert_int_equal(db_action_plan_profile(f->db, corp), 0);
	assert_true(action_at(f, door) == ACTION_PLAN);
	set_action(f, door, ACTION_NONE, 0, 0);
	assert_int_equal(db_action_plan_all(f->db), 0);
	assert_true(action_at(f, door) == ACTION_PLAN && action_at(f, corp) == ACTION_NONE);
	commit(f);
}

static void applied_requests_are_told_in_order_until_cleared(void **state)
{
	struct fixture *f = *state;
	uint64_t unique = 0;

	assert_int_equal(db_applied_next(f->db, 0, &unique), -ENOENT);
	begin(f);
	assert_int_equal(db_applied_add(f->db, 900), 0);
	assert_int_equal(db_applied_add(f->db, 12), 0);
	assert_int_equal(db_applied_add(f->db, 12), 0);
	assert_int_equal(db_applied_add(f->db, 1ull << 40), 0);
	commit(f);
	reopen(f);
	assert_int_equal(db_applied_next(f->db, 0, &unique), 0);
	assert_true(unique == 12);
	assert_int_equal(db_applied_next(f->db, 12, &unique), 0);
	assert_true(unique == 900);
	assert_int_equal(db_applied_next(f->db, 900, &unique), 0);
	assert_true(unique == 1ull << 40);
	assert_int_equal(db_applied_next(f->db, unique, &unique), -ENOENT);
	begin(f);
	assert_int_equal(db_applied_clear(f->db), 0);
	commit(f);
	assert_int_equal(db_applied_next(f->db, 0, &unique), -ENOENT);
}

/* What is known of certificates */

static void those_a_profile_vouches_for_are_marked_bit_by_bit(void **state)
{
	enum { IDS = 600 };
	struct fixture *f = *state;
	int64_t ids[IDS], after = 0, at, corp, below, other;
	int calls = 0;
	char name[64];

	begin(f);
	corp = add_object(f, KIND_CA, "corp");
	below = add_object(f, KIND_CA, "below");
	other = add_object(f, KIND_CA, "other");
	assert_int_equal(db_reference_add(f->db, below, corp), 0);
	for (int i = 0; i < IDS; i++) {
		const int64_t profiles[] = { corp, below, 0, other };

		snprintf(name, sizeof name, "id%d", i);
		ids[i] = add_object(f, KIND_LOCAL, name);
		if (profiles[i % 4])
			assert_int_equal(db_reference_add(f->db, ids[i], profiles[i % 4]), 0);
		assert_int_equal(db_watch_set(f->db, ids[i], i == 8 ? WATCH_NOT : 1000), 0);
	}
	do {
		assert_int_equal(db_watch_profile(f->db, corp, &after), 0);
		calls++;
	} while (after);
	commit(f);
	assert_int_equal(calls, 3);
	for (int i = 0; i < IDS; i++) {
		assert_int_equal(db_watch_get(f->db, ids[i], &at, name, sizeof name), 0);
		assert_int_equal(at, i == 8 ? WATCH_NOT : i % 4 == 3 ? 1000 : WATCH_NOW);
	}
}

int main(void)
{
#define STORE(name) cmocka_unit_test_setup_teardown(name, make_store, remove_all)
	const struct CMUnitTest tests[] = {
		STORE(a_requests_standing_is_kept),
		STORE(only_active_requests_are_next),
		STORE(what_is_due_is_told_by_profile_and_in_turn),
		STORE(a_new_request_takes_the_old_ones_place),
		cmocka_unit_test(every_state_has_a_name),
		STORE(events_are_one_text_with_offsets),
		STORE(offsets_stay_when_old_lines_go),
		STORE(named_values_are_set_replaced_and_removed),
		STORE(names_of_a_value_come_in_order),
		STORE(modes_belong_to_a_file_and_go_with_its_object),
		STORE(what_is_declared_goes_with_its_object),
		STORE(who_enrolls_by_itself_moves_from_state_to_state),
		STORE(what_is_due_is_found_by_profile_in_order),
		STORE(finding_what_is_due_costs_the_same_however_many_ids_there_are),
		STORE(who_failed_is_planned_again_with_its_profile),
		STORE(applied_requests_are_told_in_order_until_cleared),
		STORE(those_a_profile_vouches_for_are_marked_bit_by_bit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
