/*
 * pkictl: the command line. It touches the mounted files and nothing else, so a shell script can
 * do all that it does. ctl_command.c has the table of subcommands; ctl_arguments.c reads what
 * stands behind one, ctl_help.c explains it and ctl_complete.c completes it for the shell;
 * ctl_tree.c finds the mount and reads and writes its files; ctl_talk.c talks with the user;
 * ctl_ca.c, ctl_local.c, ctl_verify.c, ctl_show.c, ctl_advice.c and ctl_watch.c are the
 * subcommands.
 *
 * Functions return 0 or a negative code with ERR filled: an errno, or one of the two below.
 */
#ifndef PKIFS_CTL_H
#define PKIFS_CTL_H

#include "pkifs/keytable.h"

#include <limits.h>
#include <stdio.h>
#include <sys/types.h>

#define CTL_USAGE    (-10001) /* the command line is wrong: exit code 2 */
#define CTL_NO_MOUNT (-10002) /* no mount there: exit code 3 */

enum { EXIT_DONE, EXIT_FAILED, EXIT_WRONG_USAGE, EXIT_NO_MOUNT };

#define OPERANDS_MAX 2

/* What stands behind a subcommand. */
struct arguments {
	const char *operands[OPERANDS_MAX];
	unsigned count;
	struct record *options;  /* of pkictl itself: "yes", "timeout" … */
	struct record *settings; /* keys of the object's config */
};

#define RED    "\033[31m"
#define GREEN  "\033[32m"
#define YELLOW "\033[33m"
#define BOLD   "\033[1m"
#define PLAIN  "\033[0m"

struct ctl {
	char root[PATH_MAX]; /* of the mount */
	int columns;         /* of the terminal; very many where there is none */
	bool terminal;       /* stdout is one */
	bool color;          /* stdout is a terminal that wants colours */
};

struct command {
	const char *name; /* "ca enroll" */
	int (*run)(const struct ctl *ctl, const struct arguments *arguments, struct error *err);
	const char *operands; /* "PROFILE [FILE]": as many as words, those in brackets at will */
	const char *options;  /* the words of ctl_options it takes, separated by blanks */
	const struct key_table *settings; /* keys it takes as --KEY VALUE; NULL: none */
	const char *help;                 /* one line */
	const char *example;              /* one or more lines */
};

/* What pkictl itself takes; "=" behind the name: with an argument. */
struct option {
	const char *name, *letter, *argument, *help;
};

/* A profile or certificate id. */
struct target {
	const char *kind; /* "ca", "local" or "ipsec" */
	char name[65];
};

/* ctl_command.c */

extern const struct command ctl_commands[];
extern const struct option ctl_options[];
extern const size_t ctl_command_count, ctl_option_count;

/* The command whose words ARGV begins with, or NULL; *WORDS: how many they are. */
const struct command *find_command(int argc, char **argv, int *words);

/* pkictl as a whole: the exit code. */
int ctl_main(int argc, char **argv);

/* ctl_arguments.c */

/* True when the words of LIST (blanks between) contain WORD. */
bool list_has(const char *list, const char *word);

/* The option of COMMAND that NAME (LENGTH bytes; or its one letter) means, or NULL. */
const struct option *find_option(const struct command *command, const char *name, size_t length,
                                 bool letter);

/* The key that an option's NAME means: itself, or NAME-file for a secret. NULL: none. */
const struct key *find_setting(const struct command *command, const char *name, bool *from_file);

/* Words in TEXT, and how many of them stand outside of brackets. */
unsigned count_operands(const char *text, unsigned *needed);

/*
 * Reads ARGV (COUNT words behind the subcommand) for COMMAND. The caller gives ARGUMENTS back
 * with arguments_clear, also after an error. A secret is wiped from ARGV.
 */
int arguments_read(const struct command *command, int count, char **argv,
                   struct arguments *arguments, struct error *err);
void arguments_clear(struct arguments *arguments);

/* ctl_help.c */

void put_synopsis(const struct command *command, FILE *out);
void put_help(const struct command *command);
void put_overview(FILE *out);

/* The commands that begin with GROUP ("ca", "key", "request"). False where there are none. */
bool put_group(const char *group);

/* ctl_complete.c */

/*
 * Prints what may stand in place of the last of COUNT WORDS, a line each: what the tables know,
 * and names of the mount's objects. " files" or " folders" where those of the system may stand.
 */
void complete(int count, char **words);

/* ctl_tree.c */

/* The mount point in a text as /proc/self/mountinfo (proc(5)): /pki where that is one, else the
 * only one. -ENOENT: none; -EEXIST: several. ROOT has room for PATH_MAX. */
int mount_in_mountinfo(const char *text, char *root);

/* Fills ctl->root: DIR, else PKIFS_MOUNT, else the one that is mounted. CTL_NO_MOUNT. */
int ctl_find(struct ctl *ctl, const char *dir, struct error *err);

/* Takes NAME for a KIND; CTL_USAGE where no object can have it. */
int target_set(struct target *target, const char *kind, const char *name, struct error *err);

/* The object that TEXT names: "ca/corp", "local/www", or the name of one of both. */
int target_find(const struct ctl *ctl, const char *text, struct target *target, struct error *err);

/* The same where it must be a KIND that is there. */
int target_need(const struct ctl *ctl, const char *kind, const char *name, struct target *target,
                struct error *err);

bool target_exists(const struct ctl *ctl, const struct target *target);

/* Makes the object; *MADE tells whether it is new. */
int target_make(const struct ctl *ctl, const struct target *target, bool *made, struct error *err);
int target_remove(const struct ctl *ctl, const struct target *target, struct error *err);

/* The path of FILE of TARGET, or of the mount itself where TARGET is NULL. */
void ctl_path(const struct ctl *ctl, const struct target *target, const char *file, char *path);

/* Reads a whole file of the tree; the caller frees *TEXT (text_free). -ENOENT: no content. */
int ctl_read(const struct ctl *ctl, const struct target *target, const char *file, char **text,
             size_t *length, struct error *err);

/*
 * Writes a file of the tree in one piece. MODE is that of a file with no content yet, 0 for one
 * that is always there. A refusal is the sentence of its user.pkifs.error.
 */
int ctl_write(const struct ctl *ctl, const struct target *target, const char *file,
              const char *text, size_t length, mode_t mode, struct error *err);

/* The lines of TARGET's `status`; the caller owns *STATUS. */
int ctl_status(const struct ctl *ctl, const struct target *target, struct record **status,
               struct error *err);

/* Saves SETTINGS in TARGET's config; comments, order and hidden secrets stay. */
int ctl_configure(const struct ctl *ctl, const struct target *target, const struct record *settings,
                  struct error *err);

/* Writes TARGET's request: ACTION and SETTINGS. */
int ctl_request(const struct ctl *ctl, const struct target *target, const char *action,
                const struct record *settings, struct error *err);

/* Any file of up to LIMIT bytes, "-" for standard input. The caller frees *TEXT (text_free). */
int file_read(const char *path, size_t limit, char **text, size_t *length, struct error *err);

/* Cleanses and frees; takes NULL. */
void text_free(char *text, size_t length);

/* ctl_talk.c */

/* Waits for the end of TARGET's request; a progress line where stderr is a terminal. 0 when it
 * is done; -EPROTO with the reason; -ETIMEDOUT. --timeout and --no-wait of OPTIONS hold. */
int wait_for(const struct ctl *ctl, const struct target *target, const struct record *options,
             struct error *err);

enum answer { ANSWER_NO, ANSWER_YES, ANSWER_NONE };

/* QUESTION, then " [yes,no] (no) ", until the answer is one. ANSWER_NONE: input has ended. */
enum answer ask(const char *question);

/* A secret for the key NAME: typed without echo, or the first line of standard input. Room for
 * SECRET_MAX + 1. */
#define SECRET_MAX 4096
int ask_secret(const char *name, char *secret, struct error *err);

/* ctl_show.c */

/* The distance from NOW to THEN in words: "in 364 days", "2 hours ago". Room for 40 bytes. */
void time_distance(long long then, long long now, char *text);

/* The table of all objects from the text of status.json; NOW is Unix seconds. */
int show_table(const struct ctl *ctl, const char *json, size_t length, long long now, FILE *out,
               struct error *err);

/* Unix seconds as "2026-01-02 03:04:05" where the user lives. Room for 40 bytes. */
void time_local(long long seconds, char *text);

/* Whether TERM can move its cursor and have colours. */
bool terminal_is_able(void);

/* STATUS line by line, aligned. */
void show_status(const struct ctl *ctl, const struct record *status, long long now, FILE *out);

/* ctl_advice.c */

/* What is wrong with TARGET by its STATUS, what to do, and what comes next: a few lines. */
void show_advice(const struct ctl *ctl, const struct target *target, const struct record *status,
                 long long now, FILE *out);

/* ctl_watch.c */

/* One event (a JSON object) as a line for people, its time LOCAL or as it is; false where LINE is
 * none. */
bool event_text(const char *line, size_t length, bool local, char *text, size_t size);

/* The subcommands. */
typedef int ctl_run(const struct ctl *ctl, const struct arguments *arguments, struct error *err);
ctl_run ca_add, ca_enroll, ca_confirm, ca_load, ca_unenroll, ca_show;
ctl_run key_generate, request_csr, request_self_signed, request_verify;
ctl_run local_enroll, local_re_enroll, local_load;
ctl_run ctl_wait, ctl_cancel, ctl_show, ctl_verify, ctl_watch, ctl_export, ctl_rm;

#endif
