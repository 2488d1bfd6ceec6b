/* The store key: 64 hexadecimal digits in a file of root's, which the keys process alone reads. */
#include "common/hex.h"
#include "common/log.h"
#include "pkifs/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int store_key_file(const char *path, int *fd, struct error *err)
{
	const char *folder = getenv("CREDENTIALS_DIRECTORY");
	char name[4096];

	*fd = -1;
	if (strcmp(path, "none") == 0)
		return 0;
	if (strncmp(path, "credential:", 11) == 0) {
		if (!folder)
			return error_set(err, -ENOENT,
			                 "store-key = %s, but systemd gave no credentials", path);
		snprintf(name, sizeof name, "%s/%s", folder, path + 11);
		path = name;
	}
	*fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (*fd < 0)
		return error_set(err, -errno, "store-key %s: %s", path, strerror(errno));
	return 0;
}

int store_key_make(const char *path, const char *store, struct error *err)
{
	unsigned char key[32];
	char text[65];
	struct stat file;
	int fd, r = 0;

	if (strcmp(path, "none") == 0) {
		log_warning("store-key = none: private keys are stored unsealed");
		return 0;
	}
	if (strncmp(path, "credential:", 11) == 0)
		return 0;
	if (lstat(path, &file) == 0) {
		if (!S_ISREG(file.st_mode))
			return error_set(err, -EINVAL, "store-key %s is no plain file", path);
		if (file.st_mode & 077)
			return error_set(err, -EPERM,
			                 "store-key %s can be read by others: chmod 600 %s", path,
			                 path);
		return 0;
	}
	if (lstat(store, &file) == 0)
		return error_set(err, -ENOENT,
		                 "store-key %s is not there, but the store %s is: without its key "
		                 "the private keys in it are lost; put the file back",
		                 path, store);
	if (RAND_priv_bytes(key, sizeof key) != 1)
		return error_set(err, -EIO, "no random numbers");
	hex_write(text, key, sizeof key);
	text[64] = '\n';
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, text, sizeof text) != sizeof text || fsync(fd) < 0)
		r = error_set(err, -errno,
		              "store-key %s cannot be made: %s; set store-key to a path where it "
		              "can, or to none",
		              path, strerror(errno));
	if (fd >= 0)
		close(fd);
	if (fd >= 0 && r < 0) /* half a key */
		unlink(path);
	OPENSSL_cleanse(key, sizeof key);
	OPENSSL_cleanse(text, sizeof text);
	return r;
}
