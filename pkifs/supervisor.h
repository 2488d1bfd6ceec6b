/*
 * The supervisor: root, and small. It mounts, keeps what must outlive the store (the FUSE
 * descriptor, the shared memory), starts the other processes within their walls, and runs what
 * needs root. It never touches a path under the mount: it would wait for a store that is dead.
 */
#ifndef PKIFS_SUPERVISOR_H
#define PKIFS_SUPERVISOR_H

#include "common/record.h"

#include <sys/types.h>

/* What the program goes on with that takes this one's place: descriptors. */
enum kept { KEPT_FUSE, KEPT_SHARED, KEPT_FOLDER, KEPT_LOCK, KEPT };

struct supervision {
	struct record *conf; /* the daemon's settings */
	bool foreground, debug;
	char *conf_path; /* read again at SIGHUP */
	bool conf_is_default;
	char **options; /* -o, again too */
	int option_count;
	const char *rehearse; /* only see whether we could go on with this layout; NULL: no */
	bool goes_on;         /* in the place of another program, with KEPT */
	int kept[KEPT];
	int ready_fd; /* told READY when the mount answers, or why it never will; -1: nobody */
};
#define READY "ready"

/* Runs until it is told to end. The exit code. */
int supervise(struct supervision *supervision);

/* mount.c: mounts at PATH; *FD is the caller's. Refuses, in words, what is no place for it. */
struct mount;
int mount_make(const char *path, bool allow_other, struct mount **mount, int *fd,
               struct error *err);
/* The mount at PATH that another program made, behind FD. */
int mount_adopt(const char *path, int fd, struct mount **mount);
void mount_remove(struct mount *mount);

/*
 * handover.c: the program at PATH takes this one's place, with the arguments in GIVEN, and store
 * and mount point as they are in CONF, whatever the file says by now. Rehearse: starts it to see
 * whether it could (exit code 0); the pid, or a negative errno with ERR. Become: returns only where
 * that failed. Read: what the new program was given.
 */
#define REHEARSE "--rehearse"
#define GO_ON    "--go-on"
void handover_layout(char *text, size_t size);
int handover_rehearse(const struct supervision *given, const struct record *conf, const char *path,
                      struct error *err);
int handover_become(const struct supervision *given, const struct record *conf, const char *path,
                    const int kept[KEPT], struct error *err);
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
	bool quiet; /* standard error goes nowhere: the log has another place */
	const char *const *arguments;
	int fds[4];  /* become 3, 4, … in the child; -1 ends them */
	int program; /* descriptor of the program */
};
/* The pid, or a negative errno with ERR. */
int process_start(const struct walls *walls, struct error *err);

/* Exit code of a program that is not there, or that others than its user could change. */
#define NOT_TRUSTED 126

/* onchange: root runs a program of the config. The pid; its end is seen by SIGCHLD. */
int command_start(const char *command, const char *id, long long version, const char *mount_point,
                  uid_t owner, struct error *err);

#endif
