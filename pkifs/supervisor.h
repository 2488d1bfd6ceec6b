/*
 * The supervisor: root, and small. It mounts, keeps what must outlive the store (the FUSE
 * descriptor, the shared memory), starts the other processes within their walls, and runs what
 * needs root. It never touches a path under the mount: it would wait for a store that is dead.
 */
#ifndef PKIFS_SUPERVISOR_H
#define PKIFS_SUPERVISOR_H

#include "common/record.h"

#include <sys/types.h>
#include <uv.h>

/* What the program goes on with that takes this one's place: descriptors. */
enum kept { KEPT_FUSE, KEPT_SHARED, KEPT_FOLDER, KEPT_LOCK, KEPT };

struct channel;
struct mount;

struct supervision {
	struct record *conf; /* the settings, complete, and what the store is told besides */
	bool foreground, debug;
	char *conf_path; /* read again at SIGHUP */
	bool conf_is_default;
	char **options; /* -o, again too */
	int option_count;
	const char *rehearse; /* only see whether we could go on with this layout; NULL: no */
	bool goes_on;         /* in the place of another program, with KEPT */
	int ready_fd; /* told READY when the mount answers, or why it never will; -1: nobody */

	int kept[KEPT];
	struct mount *mount;
	int self_fd, worker_fd; /* our programs */
	int ipsec_fd;           /* the same; -1: not installed */
	char *program;          /* our path; self_fd is what it was when we started */
	uv_loop_t *loop;
	struct channel *store; /* that one which lives */
};
#define READY "ready"

/* Runs until it is told to end. The exit code. */
int supervise(struct supervision *supervision);

/*
 * settings.c. Reads files and options: at the start, and again, where what GIVEN has of the places
 * of store and mount (place_settings) stays. The caller owns *CONF. 0, or a negative errno with ERR
 * and *CONF as it was.
 */
#define PLACE_SETTINGS 6
extern const char *const place_settings[PLACE_SETTINGS];
int settings_read(const struct supervision *given, struct record **conf, struct error *err);
const char *setting(const struct supervision *given, const char *name);
/* The processes run as users of their own. */
bool is_separated(const struct supervision *given);

/*
 * prepare.c: what must be there before the first store, or its first part: users and programs. 0,
 * or a negative errno with ERR.
 */
int prepare(struct supervision *given, struct error *err);
int prepare_programs(struct supervision *given, struct error *err);

/* mount.c: mounts at PATH; *FD is the caller's. Refuses, in words, what is no place for it. */
int mount_make(const char *path, bool allow_other, struct mount **mount, int *fd,
               struct error *err);
/* The mount at PATH that another program made, behind FD. */
int mount_adopt(const char *path, int fd, struct mount **mount);
void mount_remove(struct mount *mount);

/*
 * handover.c: the program at our path takes our place, with the arguments in GIVEN, and
 * place_settings as they are in its conf, whatever the file says by now. Rehearse: starts it to
 * see whether it could (exit code 0); the pid, or a negative errno with ERR. Become: returns only
 * where that failed. Read: what the new program was given.
 */
#define REHEARSE "--rehearse"
#define GO_ON    "--go-on"
void handover_layout(char *text, size_t size);
int handover_rehearse(const struct supervision *given, struct error *err);
int handover_become(const struct supervision *given, struct error *err);
int handover_read(const char *numbers, int kept[KEPT]);

/*
 * storekey.c. PATH is the setting store-key: a file, `credential:NAME` (systemd's), or `none`.
 * The file: *FD is the caller's, -1 for `none`. Making: together with a new STORE, never for an old
 * one. Both 0, or a negative errno with ERR.
 */
int store_key_file(const char *path, int *fd, struct error *err);
int store_key_make(const char *path, const char *store, struct error *err);

/* process.c: a child's walls. */
struct walls {
	const char *user;     /* NULL: stays who it is */
	bool keep_root_files; /* root without rights but that of reaching every file */
	bool no_network;
	bool net_admin; /* no right but that of CAP_NET_ADMIN */
	bool quiet;     /* standard error goes nowhere: the log has another place */
	const char *const *arguments;
	int fds[4];  /* become 3, 4, … in the child; -1 ends them */
	int program; /* descriptor of the program */
};
/* The pid, or a negative errno with ERR. */
int process_start(const struct walls *walls, struct error *err);

/*
 * family.c. A store that waits for its settings at the other end of *FD: the pid, or a negative
 * errno with ERR. And the children of the store: RECORD says which it wants; it is told what came
 * of it. Ended, with waitpid(2)'s STATUS: false where PID is none of them.
 */
int family_store(const struct supervision *given, int *fd, struct error *err);
void family_start(const struct supervision *given, const struct record *record);
void family_stop(long long id);
bool family_ended(pid_t pid, int status);
void family_kill(void);

/* netns.c: the store is sent the sockets that the IPsec process needs, or why it gets none. */
void netlink_open(const struct supervision *given, const struct record *record);
/* charonsocket.c: the same of a connection to charon. */
void charon_connect(const struct supervision *given, const struct record *record);

/*
 * ringkeeper.c: the kernel's keyring that RECORD names has what it says, and the store is told what
 * came of it. And: rings of the store that RECORD does not name are no more.
 */
void ring_keep(const struct supervision *given, const struct record *record);
void rings_keep(const struct record *record);

/*
 * pkcs11.c: the store is sent the socket at which pkifs-pkcs11.so calls, or why it has none; again
 * where the settings are others and it had one. Close: nobody will answer there any more.
 */
void pkcs11_listen(const struct supervision *given);
void pkcs11_reload(const struct supervision *given);
void pkcs11_close(void);

/* listen.c: the store is sent a socket for the challenges that RECORD names, or why it has none. */
void listen_for(const struct supervision *given, const struct record *record);

/*
 * firewall.c. Open: the way to PORT, of challenges of TYPE; a negative errno with ERR where that
 * fails. Begin: closes what a supervisor that died may have left open.
 */
int firewall_open(const struct supervision *given, const char *type, const char *port,
                  struct error *err);
void firewall_close(const char *type);
void firewall_close_all(void);
void firewall_begin(const struct supervision *given);

/*
 * commands.c: the programs of `on-change`. Add takes RECORD over, and the program waits; start
 * lets those run that there is room for; the store is told what came of each.
 */
void command_add(struct record *record);
void commands_start(const struct supervision *given);
void command_ended(const struct supervision *given, pid_t pid, int status);
void command_kept(void); /* the store has stored what came of one */
void commands_store_ended(void);
bool commands_have_ended(void); /* none runs, and what came of them is stored */
void commands_end_late(const struct supervision *given);

/* A program that root had set must be one that only root, or OWNER, could have put there; the exit
 * code of a child that was to become another. */
#define NOT_TRUSTED 126
bool is_trusted_program(const char *path, uid_t owner);

/* In a child that is to become a program of the user's: signals as that expects them. */
void program_signals(void);

/*
 * dnshook.c: the programs of `acme-dns-hook`, as commands.c has those of `on-change`. Start: the
 * one that ASKED names; the store is told what came of it. Ended: false where PID is none of them.
 */
void hook_start(const struct supervision *given, const struct record *asked);
bool hook_ended(const struct supervision *given, pid_t pid, int status);
void hooks_end_late(const struct supervision *given);
void hooks_store_ended(void);

#endif
