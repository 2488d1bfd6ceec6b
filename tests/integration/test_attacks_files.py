"""Attacks by those who share the machine: on names, keys, texts, readers, and on our memory."""

import contextlib
import ctypes
import errno
import hashlib
import json
import mmap
import os
import pathlib
import re
import resource
import signal
import socket
import stat
import struct
import subprocess
import threading
import time
import unittest

from harness import (BIN, LIBC, NEW_MOUNTS, NEW_USERS, PATIENCE, Test, as_user, attempt, main,
                     make_pairs, many, run, shell, until)
from scep import Ca

NOBODY, DAEMON, GAMES = 65534, 1, 5
URL = "enrollment-url = http://127.0.0.1:9/scep\n"
needs_root = unittest.skipUnless(os.geteuid() == 0, "needs other users")


def read(path):
    with open(path, "rb") as file:
        return len(file.read())


def call(name, *arguments):
    """A function of the C library: what it returns, or its error raised."""
    result = getattr(LIBC, name)(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def rss(pid):
    """Memory in use, in KiB."""
    return int(re.search(r"VmRSS:\s+(\d+)",
                         pathlib.Path(f"/proc/{pid}/status").read_text()).group(1))


def is_sanitized(pid):
    """AddressSanitizer keeps what is freed for a while, and reserves terabytes."""
    size = re.search(r"VmSize:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())
    return int(size.group(1)) > 1 << 32


class Places(Test):
    def test_attack_53_a_mount_point_that_is_not_empty_or_a_link(self):
        m = self.mount(start=False)
        (m.point / "file").touch()
        self.fails_to_start(m, "is not empty")
        (m.point / "file").unlink()
        m.point.rmdir()
        m.point.symlink_to(self.folder)
        self.fails_to_start(m, "is a symbolic link")
        m.point.unlink()
        m.point.touch()
        self.fails_to_start(m, "is no directory")

    @needs_root
    def test_attack_53_a_mount_point_of_somebody_else(self):
        """Its owner could put a link in its place between our look and the mount."""
        m = self.mount(start=False)
        os.chown(m.point, NOBODY, NOBODY)
        self.fails_to_start(m, "belongs to somebody else")
        os.chown(m.point, 0, 0)
        os.chown(m.folder, NOBODY, NOBODY)
        m.prefix = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
        m.log.touch()
        self.fails_to_start(m, "belongs to somebody else")

    def test_attack_53_a_second_daemon_on_the_store_or_the_mount_point(self):
        first = self.mount()
        second = self.mount(start=False)
        second.folder = first.folder
        self.fails_to_start(second, "is in use by another pkifsd")
        self.assertTrue(first.is_mounted())
        third = self.mount(start=False)
        third.point = first.point
        self.fails_to_start(third, "mounted on")
        self.assertTrue(first.is_mounted())


class Handle(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("handle", ctypes.c_char * 128)]


def open_by_handle(path):
    handle, mount = Handle(bytes=128), ctypes.c_int()
    call("name_to_handle_at", -100, os.fsencode(path), ctypes.byref(handle), ctypes.byref(mount), 0)
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    return read(call("open_by_handle_at", folder, ctypes.byref(handle), os.O_RDONLY))


def open_by_path_descriptor(path):
    return read(f"/proc/self/fd/{os.open(path, os.O_PATH)}")


def read_through_a_bind_mount(path):
    call("mount", os.fsencode(os.path.dirname(path)), b"/mnt", None, 4096, None)
    return read("/mnt/" + os.path.basename(path))


class Keys(Test):
    FILES = ("key.pem", "bundle.pem", "versions/1/key.pem", "versions/1/bundle.pem")

    def setUp(self):
        super().setUp()
        self.m = self.mount()
        self.www = self.m.point / "local/www"
        os.mkdir(self.www)
        self.m.write("local/www/config", "subject = CN=www\nkey-type = ecdsa\n")
        self.assertEqual(self.m.request("local/www", "generate-self-signed"), "ok")

    def ways_in(self, path):
        """What a user gets who tries everything: each a negative errno, or he is in."""
        path, tried = str(path), {}
        ours = os.path.join(os.path.dirname(path), "mine")
        with open(path, "rb") as held:
            theirs = f"/proc/{os.getpid()}/fd/{held.fileno()}"

            def try_all():
                for way, act in (
                        ("open", lambda: read(path)),
                        ("open to write", lambda: os.open(path, os.O_RDWR)),
                        ("open to append", lambda: os.open(path, os.O_WRONLY | os.O_APPEND)),
                        ("open by O_PATH", lambda: open_by_path_descriptor(path)),
                        ("open another's descriptor", lambda: read(theirs)),
                        ("open by handle", lambda: open_by_handle(path)),
                        ("chmod", lambda: os.chmod(path, 0o644) or read(path)),
                        ("chown", lambda: os.chown(path, os.getuid(), os.getgid()) or read(path)),
                        ("truncate", lambda: os.truncate(path, 0)),
                        ("rename", lambda: os.rename(path, ours) or read(ours)),
                        ("replace", lambda: os.rename("/etc/hostname", path)),
                        ("link", lambda: os.link(path, ours) or read(ours)),
                        ("link elsewhere", lambda: os.link(path, "/tmp/mine") or read("/tmp/mine")),
                        ("unlink", lambda: os.unlink(path)),
                        ("make a file", lambda: os.open(ours, os.O_CREAT | os.O_WRONLY)),
                        ("ACL", lambda: os.setxattr(path, "system.posix_acl_access", acl(NOBODY))),
                        ("capability", lambda: os.setxattr(path, "security.capability", b"x"))):
                    tried[way] = attempt(act)
                return tried

            yield "another user", as_user(NOBODY, try_all)
            yield "root of a user namespace", as_user(NOBODY, try_all, NEW_USERS | NEW_MOUNTS)
            yield "root of a container", as_user(100000, try_all, NEW_USERS | NEW_MOUNTS, 65536)
            yield "a bind mount", as_user(NOBODY, lambda: {
                "bind": attempt(lambda: read_through_a_bind_mount(path))}, NEW_USERS | NEW_MOUNTS)

    @needs_root
    def test_attack_54_nobody_else_reads_a_key(self):
        refusals = (-errno.EACCES, -errno.EPERM, -errno.EXDEV, -errno.EOPNOTSUPP, -errno.EINVAL,
                    -errno.ELOOP)
        for name in self.FILES:
            before = (self.www / name).read_bytes()
            for who, tried in self.ways_in(self.www / name):
                self.assertIsInstance(tried, dict, f"{who}: {tried}")
                got_in = {way: got for way, got in tried.items() if got not in refusals}
                self.assertEqual(got_in, {}, f"{who}, {name}")
            self.assertEqual((self.www / name).read_bytes(), before)
            self.assertEqual(os.stat(self.www / name).st_mode & 0o777, 0o600)

    def test_attack_54_a_key_is_never_opened_to_all(self):
        for name in self.FILES:
            for mode in (0o604, 0o644, 0o666, 0o602, 0o4600):
                self.assertEqual(attempt(os.chmod, self.www / name, mode), -errno.EPERM,
                                 f"{name} {mode:o}")
            self.assertEqual(os.stat(self.www / name).st_mode & 0o7777, 0o600, name)

    @needs_root
    def test_attack_54_the_mode_of_the_key_holds_for_its_versions(self):
        os.chown(self.www / "key.pem", DAEMON, -1)
        os.chmod(self.www / "key.pem", 0o400)
        got = os.stat(self.www / "versions/1/key.pem")
        self.assertEqual((got.st_uid, stat.S_IMODE(got.st_mode)), (DAEMON, 0o400))
        self.assertEqual(os.stat(self.www / "bundle.pem").st_uid, 0)
        for name, may in (("key.pem", True), ("versions/1/key.pem", True), ("bundle.pem", False)):
            got = as_user(DAEMON, lambda: attempt(read, self.www / name))
            self.assertEqual(got > 0, may, name)


class Names(Test):
    def setUp(self):
        super().setUp()
        self.m = self.mount()
        for name in ("a", "b"):
            os.mkdir(self.m.point / "local" / name)
        os.mkdir(self.m.point / "ca/corp")
        self.a = self.m.point / "local/a"

    def tree(self):
        return sorted(shell(f"cd {self.m.point} && find . -not -path './status*'").stdout.split("\n"))

    def test_attack_55_names_are_judged(self):
        before = self.tree()
        for name in (b".x", b"-x", b"...", b"a b", b"a" * 65, b"a" * 255, "ü".encode(), b"\xff",
                     b"a\nb", b"a\x1b[2J", b"a:b", b"a;b", b"$x", b"*", b"~", b"\\", b"x\x7f"):
            for folder in (b"ca", b"local"):
                got = attempt(os.mkdir, os.path.join(os.fsencode(self.m.point), folder, name))
                self.assertIn(got, (-errno.EINVAL, -errno.ENAMETOOLONG), name)
        for path in (b"x", b"local/a/x", b"local/a/versions/1", b"ca/corp/x"):
            self.assertEqual(attempt(os.mkdir, os.path.join(os.fsencode(self.m.point), path)),
                             -errno.EPERM, path)
        self.assertEqual(attempt(os.mkdir, self.m.point / "local/.."), -errno.EEXIST)
        self.assertEqual(self.tree(), before)
        os.mkdir(self.m.point / "local" / ("a" * 64))

    def test_attack_55_a_name_in_a_config_leads_nowhere_else(self):
        for name in ("../corp", "..", "/etc/passwd", "a" * 65, "corp/config"):
            with self.assertRaises(OSError) as caught:
                self.m.write("local/a/config", f"ca-profile = {name}\n")
            self.assertEqual(caught.exception.errno, errno.EINVAL, name)

    def test_attack_55_links_nodes_and_renames(self):
        before = self.tree()
        point, a, outside = self.m.point, self.a, self.folder / "outside"
        outside.write_text("ca-identity = x\n")
        exchange, no_replace, whiteout = 2, 1, 4

        def renameat2(source, target, flags):
            call("renameat2", -100, os.fsencode(source), -100, os.fsencode(target), flags)

        def bind():
            with socket.socket(socket.AF_UNIX) as listener:
                os.chdir(a)
                try:
                    listener.bind("socket")
                finally:
                    os.chdir("/")

        for code, act in (
                (errno.EPERM, lambda: os.symlink("/etc/passwd", a / "link")),
                (errno.EPERM, lambda: os.symlink("x", point / "link")),
                (errno.EPERM, lambda: os.link(a / "config", a / "link")),
                (errno.EXDEV, lambda: os.link(a / "config", self.folder / "link")),
                (errno.EXDEV, lambda: os.link(outside, a / "config2")),
                (errno.EPERM, lambda: os.mkfifo(a / "fifo")),
                (errno.EPERM, lambda: os.mknod(a / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))),
                (errno.EPERM, bind),
                (errno.EPERM, lambda: os.rename(a, point / "local/c")),
                (errno.EPERM, lambda: os.rename(a, point / "ca/c")),
                (errno.EPERM, lambda: os.rename(point / "local", point / "remote")),
                (errno.EPERM, lambda: os.rename(point / "README", point / "readme")),
                (errno.EXDEV, lambda: os.rename(a / "config", point / "local/b/config")),
                (errno.EXDEV, lambda: os.rename(a / "config", self.folder / "stolen")),
                (errno.EXDEV, lambda: os.rename(outside, a / "config")),
                (errno.EINVAL, lambda: renameat2(a / "config", a / "request", exchange)),
                (errno.EINVAL, lambda: renameat2(a, point / "local/b", exchange)),
                (errno.EINVAL, lambda: renameat2(a / "config", a / "away", whiteout)),
                (errno.EEXIST, lambda: renameat2(a / "config", a / "request", no_replace)),
                (errno.EPERM, lambda: os.rename(a / "config", a / "request")),
                (errno.EOPNOTSUPP, lambda: os.open(a, os.O_TMPFILE | os.O_RDWR))):
            self.assertEqual(attempt(act), -code)
        self.assertEqual(self.tree(), before)

    @needs_root
    def test_attack_55_another_user_makes_moves_and_removes_nothing(self):
        before = self.tree()

        def try_all():
            return [attempt(act) for act in (
                lambda: os.mkdir(self.m.point / "local/x"), lambda: os.rmdir(self.a),
                lambda: os.unlink(self.a / "config"),
                lambda: os.rename(self.a / "config", self.a / "x"),
                lambda: os.open(self.a / "x", os.O_CREAT | os.O_WRONLY),
                lambda: os.open(self.a / "request", os.O_WRONLY))]

        self.assertEqual(set(as_user(NOBODY, try_all)), {-errno.EACCES})
        self.assertEqual(self.tree(), before)


def acl(uid):
    """A POSIX ACL (acl(5)) by which UID reads too, as the kernel takes it."""
    nobody = 0xffffffff
    entries = ((1, 6, nobody), (2, 4, uid), (4, 0, nobody), (0x10, 4, nobody), (0x20, 0, nobody))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


class Attributes(Test):
    @needs_root
    def test_attack_56_attributes_are_ours_alone(self):
        m = self.mount()
        www = m.point / "local/www"
        os.mkdir(www)
        m.write("local/www/config", "key-type = ecdsa\nkey-readers = user:daemon\n")
        self.assertEqual(m.request("local/www", "generate-key-pair"), "ok")
        acl_before = os.getxattr(www / "key.pem", "system.posix_acl_access")
        capability = struct.pack("<5I", 0x02000001, 1 << 21, 0, 0, 0)
        for path in (www, www / "config", www / "key.pem", www / "status", m.point):
            for name, value in (("user.pkifs.error", b"x"), ("user.mine", b"x"),
                                ("security.capability", capability),
                                ("security.selinux", b"system_u:object_r:etc_t:s0\0"),
                                ("security.ima", b"x"), ("trusted.overlay.opaque", b"y")):
                if name.startswith("user.") and path == m.point / "status":
                    continue
                if path.is_dir() and name == "security.capability":
                    continue  # the kernel's own affair
                self.assertEqual(attempt(os.setxattr, path, name, value), -errno.EPERM,
                                 f"{path} {name}")
                self.assertEqual(attempt(os.removexattr, path, name), -errno.EPERM,
                                 f"{path} {name}")
        # Not EPERM: programs that copy ACLs take the mode alone then.
        for path in (www / "key.pem", www / "config"):
            self.assertEqual(attempt(os.setxattr, path, "system.posix_acl_access", acl(NOBODY)),
                             -errno.EOPNOTSUPP)
        self.assertNotEqual(attempt(os.removexattr, www / "key.pem", "system.posix_acl_access"),
                            None)
        self.assertEqual(os.getxattr(www / "key.pem", "system.posix_acl_access"), acl_before)
        self.assertEqual(as_user(NOBODY, lambda: attempt(read, www / "key.pem")), -errno.EACCES)
        self.assertGreater(as_user(DAEMON, lambda: attempt(read, www / "key.pem")), 0)

    @needs_root
    def test_attack_56_another_user_sets_none(self):
        m = self.mount()
        os.mkdir(m.point / "local/www")
        for name in ("user.pkifs.error", "security.ima", "trusted.x", "system.posix_acl_access"):
            got = as_user(NOBODY, lambda: attempt(os.setxattr, m.point / "local/www/config", name,
                                                  acl(NOBODY)))
            self.assertIn(got, (-errno.EACCES, -errno.EPERM), name)


class Writers(Test):
    def setUp(self):
        super().setUp()
        self.m = self.mount()
        for path in ("ca/corp", "local/www"):
            os.mkdir(self.m.point / path)
        self.config = self.m.point / "ca/corp/config"
        self.config.write_text(URL)

    def test_attack_57_beyond_the_limits(self):
        for path, limit in (("ca/corp/config", 64 << 10), ("ca/corp/request", 64 << 10),
                            ("ca/corp/confirm", 64 << 10), ("ca/corp/cert.pem", 1 << 20),
                            ("local/www/key.pem", 1 << 20), ("local/www/cert.pem", 1 << 20),
                            ("ca/corp/crl.pem", 256 << 20), ("local/www/draft", 1 << 20)):
            path = self.m.point / path
            for at in (limit, 1 << 40, (1 << 63) - 4096):
                file = os.open(path, os.O_WRONLY | os.O_CREAT)
                self.assertEqual(attempt(os.pwrite, file, b"x", at), -errno.EFBIG, f"{path} {at}")
                self.assertEqual(attempt(os.ftruncate, file, at + 1), -errno.EFBIG, f"{path} {at}")
                os.close(file)
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            with self.assertRaises(OSError) as caught:
                os.pwrite(file, b"# good\n", 0)
                os.pwrite(file, b"#" * 4096, limit - 2048)
            self.assertEqual(caught.exception.errno, errno.EFBIG, path)
            attempt(os.close, file)
        self.assertEqual(self.config.read_text(), URL)
        self.assertFalse((self.m.point / "local/www/cert.pem").exists())

    def test_attack_57_byte_by_byte_is_one_text(self):
        text = URL + "# " + "x" * 500 + "\nca-identity = slowly\n"
        file = os.open(self.config, os.O_WRONLY | os.O_TRUNC)
        for byte in text.encode():
            os.write(file, bytes([byte]))
            if byte % 16 == 0:
                self.assertEqual(self.config.read_text(), URL)
        os.close(file)
        self.assertEqual(self.config.read_text(), text)

    def test_attack_57_appending_writers(self):
        files = [os.open(self.config, os.O_WRONLY | os.O_APPEND) for _ in range(4)]
        for turn in range(20):
            for number, file in enumerate(files):
                os.write(file, f"# {number} {turn}\n".encode())
        for file in files:
            os.close(file)
        whole = [URL + "".join(f"# {number} {turn}\n" for turn in range(20))
                 for number in range(4)]
        self.assertIn(self.config.read_text(), whole)

    def test_attack_57_two_writers_do_not_mix(self):
        one, other = (URL + f"# {c * 48}\n" * 100 for c in "ab")
        with open(self.config, "w", buffering=64) as first, \
                open(self.config, "w", buffering=64) as second:
            for at in range(0, len(one), 50):
                first.write(one[at:at + 50])
                second.write(other[at:at + 50])
        self.assertIn(self.config.read_text(), (one, other))

    def test_attack_57_many_writers_at_once(self):
        texts = {URL + f"# {c * 48}\n" * 400 for c in "abcdefgh"}
        seen, end = set(), threading.Event()

        def open_again(mode):
            """What is replaced twice within one open(2) is ESTALE."""
            while True:
                with contextlib.suppress(OSError):
                    return open(self.config, mode, buffering=0)

        def write(text):
            for _ in range(5):
                with open_again("r+b") as file:
                    os.ftruncate(file.fileno(), 0)
                    for at in range(0, len(text), 4000):
                        file.write(text[at:at + 4000].encode())

        def look():
            while not end.is_set():
                with open_again("rb") as file:
                    seen.add(file.read().decode())

        writers = [threading.Thread(target=write, args=(text,)) for text in texts]
        reader = threading.Thread(target=look)
        for thread in (reader, *writers):
            thread.start()
        for thread in writers:
            thread.join()
        end.set()
        reader.join()
        self.assertLessEqual(seen, texts | {URL})
        self.assertIn(self.config.read_text(), texts)

    def test_attack_57_mapped_memory(self):
        file = os.open(self.config, os.O_RDWR)
        with self.assertRaises(OSError) as caught:
            mmap.mmap(file, len(URL), mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self.assertEqual(caught.exception.errno, errno.ENODEV)
        with mmap.mmap(file, len(URL), mmap.MAP_PRIVATE,
                       mmap.PROT_READ | mmap.PROT_WRITE) as memory:
            self.assertEqual(memory[:], URL.encode())
            memory[:4] = b"evil"
            self.assertEqual(self.config.read_text(), URL)
        os.close(file)
        self.assertEqual(self.config.read_text(), URL)

    def test_attack_57_a_hole_is_no_text(self):
        for path in (self.config, self.m.point / "local/www/key.pem"):
            file = os.open(path, os.O_WRONLY | os.O_CREAT)
            with self.assertRaises(OSError) as caught:
                os.ftruncate(file, 0)
                os.pwrite(file, b"ca-identity = x\n", 100)
                os.close(file)
            self.assertEqual(caught.exception.errno, errno.EINVAL)
            attempt(os.close, file)
        self.assertEqual(self.config.read_text(), URL)
        self.assertFalse((self.m.point / "local/www/key.pem").exists())

    def test_attack_57_copied_by_the_kernel(self):
        source = self.folder / "source"
        source.write_text(URL + "ca-identity = copied\n" + "# x\n" * 3000)
        size = source.stat().st_size

        def by_splice(file, target):
            ours, theirs = os.pipe()
            for at in range(0, size, 4096):
                part = os.splice(file, theirs, min(4096, size - at))
                while part:
                    part -= os.splice(ours, target, part)
            os.close(ours)
            os.close(theirs)

        for way in (lambda file, target: os.sendfile(target, file, 0, size), by_splice,
                    lambda file, target: os.copy_file_range(file, target, size)):
            self.config.write_text(URL)
            file, target = os.open(source, os.O_RDONLY), os.open(self.config, os.O_WRONLY | os.O_TRUNC)
            got = attempt(way, file, target)
            os.close(file)
            os.close(target)
            if got == -errno.EXDEV:  # copy_file_range of older kernels: nothing was written
                continue
            self.assertTrue(got is None or got == size, got)
            self.assertEqual(self.config.read_text(), source.read_text())
        self.config.write_text(source.read_text())
        file = os.open(self.config, os.O_RDWR)
        self.assertEqual(attempt(call, "fallocate", file, 0, 0, 4096), -errno.EOPNOTSUPP)
        self.assertEqual(attempt(os.posix_fallocate, file, 0, 1 << 30), -errno.EFBIG)
        attempt(os.close, file)
        self.assertEqual(self.config.read_text(), source.read_text())


if __name__ == "__main__":
    main()
