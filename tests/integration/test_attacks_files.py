"""Attacks by those who share the machine: on names, keys, texts, readers, and on our memory."""

import contextlib
import ctypes
import errno
import json
import mmap
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import ssl
import stat
import struct
import subprocess
import threading
import time
import unittest

from harness import (BIN, DAEMON, GAMES, LIBC, NEW_MOUNTS, NEW_USERS, NOBODY, PATIENCE, SANITIZED,
                     Test, as_user, attempt, main, make_pairs, many, run, shell, until)
from scep import Ca
from storefile import sql

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
        m = self.mount(start=False)
        os.chown(m.folder, NOBODY, NOBODY)  # else the store would be the reason
        m.under = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
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

        wrong = []

        def write(text):
            try:
                for _ in range(5):
                    with open(self.config, "r+b", buffering=0) as file:
                        os.ftruncate(file.fileno(), 0)
                        for at in range(0, len(text), 4000):
                            file.write(text[at:at + 4000].encode())
            except OSError as error:
                wrong.append(error)

        def look():
            while not end.is_set() and not wrong:
                try:
                    with open(self.config, "rb", buffering=0) as file:
                        seen.add(file.read().decode())
                except OSError as error:
                    wrong.append(error)

        writers = [threading.Thread(target=write, args=(text,)) for text in texts]
        reader = threading.Thread(target=look)
        for thread in (reader, *writers):
            thread.start()
        for thread in writers:
            thread.join()
        end.set()
        reader.join()
        self.assertEqual(wrong, [])
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


class Watchers(Test):
    """Readers of `watch`, in processes of many threads."""

    COUNT = many(5000)
    A_PROCESS = 250

    def watch(self, count, last):
        """A process of COUNT readers that read to the event of LAST; tells how many did."""
        script = f"""
import resource, sys, threading
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
threading.stack_size(256 << 10)
files = [open("{self.m.point}/watch", "rb", buffering=0) for _ in range({count})]
seen = set()
def follow(file):
    text = b""
    while b'"{last}"' not in text:
        text += file.read(1 << 16)
    seen.add(text[:text.index(b"\\n", text.index(b'"{last}"'))])
threads = [threading.Thread(target=follow, args=(file,)) for file in files]
for thread in threads: thread.start()
print("ready", flush=True)
for thread in threads: thread.join()
print(len(threads), len(seen), flush=True)
"""
        process = subprocess.Popen(["python3", "-c", script], stdout=subprocess.PIPE, text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def setUp(self):
        super().setUp()
        self.m = self.mount()
        self.store, = self.m.children("store")

    def test_attack_58_many_watchers_and_one_that_never_reads(self):
        lazy = os.open(self.m.point / "watch", os.O_RDONLY)
        before = rss(self.store)
        counts = [min(self.A_PROCESS, self.COUNT - at)
                  for at in range(0, self.COUNT, self.A_PROCESS)]
        watchers = [self.watch(count, "last") for count in counts]
        for watcher in watchers:
            self.assertEqual(watcher.stdout.readline(), "ready\n")
        for number in range(10):
            os.mkdir(self.m.point / f"local/n{number}")
        begin = time.monotonic()
        os.mkdir(self.m.point / "local/last")
        for watcher, count in zip(watchers, counts):
            self.assertEqual(watcher.stdout.readline(), f"{count} 1\n", "all see the same lines")
        seconds, more = time.monotonic() - begin, rss(self.store) - before
        print(f"{self.COUNT} watchers have the last event after {seconds * 1000:.0f} ms; the store "
              f"grew by {more} KiB")
        if not SANITIZED:
            self.assertLess(more, 64 << 10)
        self.assertEqual(os.read(lazy, 1 << 20).count(b"\n"), 11)
        os.close(lazy)
        self.assertEqual(self.m.children("store"), [self.store])

    def test_attack_58_a_killed_reader_is_gone(self):
        times = []
        for _ in range(5):
            reader = subprocess.Popen(["cat", self.m.point / "watch"])
            stack = pathlib.Path(f"/proc/{reader.pid}/syscall")
            until(lambda: stack.read_text().startswith("0 "))  # read(2)
            begin = time.monotonic()
            reader.kill()
            self.assertEqual(reader.wait(PATIENCE), -signal.SIGKILL)
            times.append(time.monotonic() - begin)
        print(f"gone after {max(times) * 1000:.0f} ms at most")

    def test_attack_58_lines_that_are_gone_are_seen_as_missing(self):
        lazy = os.open(self.m.point / "watch", os.O_RDONLY)
        os.mkdir(self.m.point / "local/first")
        length = len(os.pread(lazy, 1 << 16, 0))
        self.m.stop()
        # as if thousands had come: the oldest lines are gone, one is kept
        store = self.m.folder / "store.db"
        end = sql(store, "SELECT max(start + length(line)) FROM event")[0][0]
        sql(store, f"INSERT INTO event VALUES ({end}, CAST('{{\"name\":\"kept\"}}\n' AS BLOB))",
            f"DELETE FROM event WHERE start < {end}")
        os.close(lazy)
        self.m.start()
        with open(self.m.point / "events", "rb") as events:
            offset = os.stat(self.m.point / "events").st_ino & ((1 << 56) - 1)
            self.assertEqual(offset, length, "where the first line that is kept begins")
            self.assertEqual(json.loads(events.readline())["name"], "kept")


class Held(Test):
    def test_attack_59_a_descriptor_keeps_its_bytes_over_many_renewals(self):
        m = self.mount()
        www = m.point / "local/www"
        os.mkdir(www)
        pairs = make_pairs(self.folder, 4)
        names = ("key.pem", "cert.pem", "bundle.pem", "fullchain.pem", "public.pem",
                 "versions/1/key.pem", "versions/1/bundle.pem", "config")

        def renew(number):
            key, certificate = pairs[number % len(pairs)]
            m.write("local/www/key.pem", key)
            m.write("local/www/cert.pem", certificate)

        m.write("local/www/config", "subject = CN=held\n")
        renew(0)
        held = [os.open(www / name, os.O_RDONLY) for name in names]
        self.addCleanup(lambda: [attempt(os.close, file) for file in held])
        before = [os.pread(file, 1 << 16, 0) for file in held]
        m.write("local/www/config", "subject = CN=other\n")
        store, = m.children("store")
        for number in range(1, 30):
            renew(number)
        small, renewals = rss(store), many(1000)
        for number in range(renewals):
            renew(number)
        more = rss(store) - small
        print(f"{renewals} renewals: the store grew by {more} KiB")
        self.assertEqual([os.pread(file, 1 << 16, 0) for file in held], before)
        if not SANITIZED:
            self.assertLess(more, 16 << 10)
        self.assertFalse((www / "versions/1/key.pem").exists() and
                         os.path.exists(www / "versions/2/key.pem"))
        for file in held:
            os.close(file)


class Secrets(Test):
    SECRETS = {"challenge-password": "hunter2-challenge", "ca-secret": "hunter2-ca-secret",
               "est-password": "hunter2-est"}
    CA_SECRETS = {"crl-url-password": "hunter2-crl", "acme-eab-key": "aHVudGVyMi1lYWI"}

    def texts(self, mount):
        """All that anybody can see of the daemon, as (where, bytes)."""
        yield "the log", mount.log.read_bytes()
        for folder, _, names in os.walk(mount.point):
            for name in names:
                path = pathlib.Path(folder, name)
                if name in ("wait", "watch", "confirm"):
                    continue
                with contextlib.suppress(FileNotFoundError):
                    yield str(path), path.read_bytes()
                with contextlib.suppress(OSError):
                    yield f"error of {path}", os.getxattr(path, "user.pkifs.error")
        pids = [mount.daemon.pid] + [pid for role in ("store", "keys", "publisher", "enroll")
                                     for pid in mount.children(role)]
        self.assertGreaterEqual(len(pids), 3)
        for pid in pids:
            for name in ("cmdline", "environ", "comm"):
                yield f"{name} of {pid}", pathlib.Path(f"/proc/{pid}/{name}").read_bytes()

    def assert_nowhere(self, mount, *secrets):
        for where, text in self.texts(mount):
            for secret in secrets:
                self.assertNotIn(secret.encode(), text, where)

    def test_attack_61_secrets_are_seen_nowhere(self):
        m = self.mount("log-level=debug")
        ca = Ca(self)
        self.trusted_profile(m, ca.url, more="crl-url = http://127.0.0.1:9/crl\n"
                             "crl-url-user = me\n" +
                             "".join(f"{key} = {value}\n" for key, value in
                                     self.CA_SECRETS.items()))
        self.certificate_id(m, more="key-type = rsa\n" + "".join(
            f"{key} = {value}\n" for key, value in self.SECRETS.items()))
        for text in ("enroll", "action = re-enroll\nchallenge-password = hunter2-asked"):
            m.request("local/www", text)
        self.assertIn("***", m.read("local/www/config"))
        self.assertIn("***", m.read("local/www/request"))
        m.request("ca/corp", "refresh-crl")
        self.assert_nowhere(m, "hunter2", "aHVudGVyMi1lYWI")

    def test_attack_61_a_refused_secret_is_not_quoted(self):
        m = self.mount("log-level=debug")
        for path in ("ca/corp", "local/www"):
            os.mkdir(m.point / path)
        for path, line in (("local/www", "challenge-password = hunter2" + "x" * 300),
                           ("local/www", "challenge-password hunter2"),
                           ("local/www", "challenge-pasword = hunter2"),
                           ("local/www", 'challenge-password = "hunter2'),
                           ("local/www", "challenge-password = hunter2\x01"),
                           ("ca/corp", "acme-eab-key = hunter2 !"),
                           ("ca/corp", "acme-dns-tsig = hunter2")):
            for file in ("config", "request"):
                got = attempt(m.write, f"{path}/{file}", line + "\n")
                self.assertEqual(got, -errno.EINVAL, line)
                self.assert_nowhere(m, "hunter2")

    @unittest.skipIf(SANITIZED, "sanitizers tell of each crash themselves")
    def test_attack_61_a_process_that_crashes_leaves_no_core(self):
        place = self.folder / "crashed"
        place.mkdir()
        limit = resource.getrlimit(resource.RLIMIT_CORE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_CORE, limit)
        resource.setrlimit(resource.RLIMIT_CORE, (limit[1], limit[1]))
        shell("kill -SEGV $$", cwd=place)
        if not os.listdir(place):
            self.skipTest("nothing leaves a core here")
        shutil.rmtree(place)
        place.mkdir()
        m = self.mount(start=False)
        m.under = ["env", "-C", place]
        m.start()
        os.mkdir(m.point / "local/www")
        m.write("local/www/config", "subject = CN=www\nkey-type = ecdsa\n")
        self.assertEqual(m.request("local/www", "generate-self-signed"), "ok")
        for role in ("enroll", "publisher", "keys", "store"):
            pid = m.children(role)[0]
            self.assertEqual(os.readlink(f"/proc/{pid}/cwd"), str(place))
            os.kill(pid, signal.SIGSEGV)
            self.assertTrue(until(lambda: pid not in m.children(role)), role)
            self.assertEqual(os.listdir(place), [], role)
        m.daemon.send_signal(signal.SIGSEGV)
        self.assertEqual(m.daemon.wait(PATIENCE), -signal.SIGSEGV)
        m.stop()
        self.assertEqual(os.listdir(place), [])

    def test_attack_61_what_is_exported_is_the_owner_s_alone(self):
        m = self.mount()
        os.mkdir(m.point / "local/www")
        m.write("local/www/config", "subject = CN=www\nkey-type = ecdsa\n")
        self.assertEqual(m.request("local/www", "generate-self-signed"), "ok")
        new, old = self.folder / "new.pem", self.folder / "old.pem"
        old.touch(0o644)
        spy = os.open(old, os.O_RDONLY)
        for option in ("--key", "--bundle"):
            for path in (new, old):
                done = shell(f"umask 0; {BIN}/pkictl -m {m.point} export www {option} -o {path}")
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
                self.assertIn("PRIVATE KEY", path.read_text())
        self.assertEqual(os.read(spy, 4096), b"", "who had it open reads no key")
        os.close(spy)


def find(pid, *needles):
    """How often NEEDLES stand in the memory of PID."""
    count = 0
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
            at, end = (int(word, 16) for word in line.split()[0].split("-"))
            if end - at > 1 << 30 or "r" not in line.split()[1] or "[v" in line:
                continue  # a sanitizer's, or the kernel's
            with contextlib.suppress(OSError):
                memory.seek(at)
                text = memory.read(end - at)
                count += sum(text.count(needle) for needle in needles)
    return count


class Memory(Test):
    def peek(self, pid):
        """The ways into the memory of PID that are open to who asks."""
        def steal_descriptor():
            return call("syscall", 438, os.pidfd_open(pid), 0, 0)  # pidfd_getfd

        def vm_read():
            buffer = (ctypes.c_char * 8)()
            here = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 8)
            return call("process_vm_readv", pid, here, 1, here, 1, 0)

        refused = (-errno.EACCES, -errno.EPERM)
        return [way for way, act in (
            ("mem", lambda: os.open(f"/proc/{pid}/mem", os.O_RDONLY)),
            ("mem to write", lambda: os.open(f"/proc/{pid}/mem", os.O_RDWR)),
            ("maps", lambda: read(f"/proc/{pid}/maps")),
            ("environ", lambda: read(f"/proc/{pid}/environ")),
            ("auxv", lambda: read(f"/proc/{pid}/auxv")),
            ("fd", lambda: os.listdir(f"/proc/{pid}/fd")),
            ("exe", lambda: os.readlink(f"/proc/{pid}/exe")),
            ("a descriptor", steal_descriptor), ("process_vm_readv", vm_read),
            ("ptrace", lambda: call("ptrace", 0x4206, pid, 0, 0))) if attempt(act) not in refused]

    @needs_root
    def test_attack_62_the_daemon_s_own_user_reads_no_memory(self):
        m = self.mount(f"store={self.folder}/var/store.db", "privilege-separation=yes",
                       "user=daemon", "worker-user=games", start=False)
        m.start()
        os.mkdir(m.point / "local/www")
        m.write("local/www/config", "subject = CN=www\nkey-type = ecdsa\n")
        self.assertEqual(m.request("local/www", "generate-self-signed"), "ok")
        for role, uid in (("store", DAEMON), ("keys", DAEMON), ("enroll", GAMES)):
            pids = m.children(role)
            self.assertTrue(pids, role)
            for pid in pids:
                self.assertIn(f"Uid:\t{uid}\t", pathlib.Path(f"/proc/{pid}/status").read_text())
                self.assertEqual(as_user(uid, lambda: self.peek(pid)), [], role)

    @needs_root
    def test_attack_62_a_user_s_own_daemon_is_no_open_book(self):
        m = self.mount(start=False)
        m.by_nobody()
        for role, pid in (("store", m.children("store")[0]), ("keys", m.children("keys")[0]),
                          ("supervisor", m.daemon.pid)):
            self.assertTrue(until(lambda: not as_user(NOBODY, lambda: self.peek(pid)), 5), role)

    @needs_root
    def test_attack_62_what_was_used_is_wiped(self):
        m = self.mount()
        www = m.point / "local/www"
        os.mkdir(www)
        (key, certificate), = make_pairs(self.folder, 1)
        der = subprocess.run(["openssl", "pkey", "-outform", "DER"], input=key.encode(),
                             capture_output=True, check=True).stdout
        number = der[der.index(b"\x02\x01\x01\x04\x20") + 5:][:32]
        needles = (number, number[::-1], key.splitlines()[1].encode()[8:56],
                   key.splitlines()[2].encode()[:20])
        m.write("local/www/key.pem", key)
        m.write("local/www/cert.pem", certificate)
        for name in ("key.pem", "bundle.pem", "versions/1/key.pem"):
            self.assertEqual(m.read(f"local/www/{name}")[:len(key)], key)
        self.assertEqual(m.request("local/www", "action = generate-csr\nsubject = CN=x"), "ok")
        for role in ("store", "keys", "enroll", "publisher"):
            for pid in m.children(role):
                self.assertTrue(until(lambda: find(pid, *needles) == 0, 5),
                                f"{role}: {[find(pid, needle) for needle in needles]}")
        self.assertEqual(find(m.daemon.pid, *needles), 0, "the supervisor")
        with open(www / "key.pem") as file:  # that they would be found
            self.assertEqual(file.read(), key)
        self.assertGreater(find(os.getpid(), *needles), 0)


UTF8, T61 = b"\x0c", b"\x14"  # tags of ASN.1 strings


def self_signed(key, name, tag=UTF8):
    """A certificate, in PEM, of a CA whose CN is NAME, bytes as they are."""
    def openssl(*arguments, text):
        return subprocess.run(["openssl", *map(str, arguments)], input=text, capture_output=True,
                              check=True).stdout

    place = b"A" * len(name)
    pem = openssl("req", "-x509", "-key", key, "-days", "9", "-subj", f"/O=Lab/CN={place.decode()}",
                  "-utf8", "-addext", "keyUsage=critical,keyCertSign,cRLSign", text=b"")
    size = bytes([len(name)])
    der = ssl.PEM_cert_to_DER_cert(pem.decode()).replace(UTF8 + size + place, tag + size + name)
    body = der[4:8 + int.from_bytes(der[6:8], "big")]
    signature = openssl("dgst", "-sha256", "-sign", key, text=body)
    return ssl.DER_cert_to_PEM_cert(der[:-len(signature)] + signature)


class Subjects(Test):
    #       one line             clears     quotes    C1: CSI       turns what follows around
    EVIL = b"a\nstate = valid" + b"\x1b[2J" + b'"\\' + b"\xc2\x9b" + b"\xe2\x80\xae" + b"z"
    NO_UTF8 = b"\xff\xc3(\x9b2J"

    def assert_harmless(self, text, where):
        self.assertNotRegex(text.decode(), "[\0-\x09\x0b-\x1f\x7f-\x9f\u202e]", where)

    def setUp(self):
        super().setUp()
        self.m = self.mount("log-level=debug")
        self.key = self.folder / "key"
        run("openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out",
            self.key)

    def test_attack_60_a_subject_is_one_line(self):
        names = {"plain": (b"A" * 9, UTF8), "evil": (self.EVIL, UTF8),
                 "bytes": (self.EVIL + self.NO_UTF8, T61)}
        for name, (subject, tag) in names.items():
            certificate = self_signed(self.key, subject, tag)
            os.mkdir(self.m.point / f"local/{name}")
            os.mkdir(self.m.point / f"ca/{name}")
            self.m.write(f"local/{name}/key.pem", self.key.read_text())
            self.m.write(f"local/{name}/cert.pem", certificate)
            self.m.write(f"ca/{name}/cert.pem", certificate)
        for kind in ("local", "ca"):
            keys, plain = ([line.split(" =")[0] for line in
                            self.m.read(f"{kind}/{name}/status").splitlines()]
                           for name in ("evil", "plain"))
            self.assertEqual(keys, plain)
            self.assertIn("\\0Astate", self.m.status(f"{kind}/evil")["subject"])
            self.assertEqual(self.m.status(f"{kind}/evil")["state"],
                             self.m.status(f"{kind}/plain")["state"])
        self.assertEqual(len(self.m.read("status").splitlines()), 1 + 2 * len(names))
        for entry in json.loads(self.m.read("status.json"))["local"]:
            self.assertNotIn("\n", entry["subject"])
        for line in self.m.read("events").splitlines():
            json.loads(line)
        for name in names:
            for path in ("status", "status.json", "events", f"local/{name}/status",
                         f"ca/{name}/status", f"ca/{name}/fingerprint"):
                self.assert_harmless((self.m.point / path).read_bytes(), path)
            for words in (("show",), ("show", f"local/{name}"), ("ca", "show", name)):
                done = subprocess.run([BIN / "pkictl", "-m", self.m.point, *words],
                                      capture_output=True, check=True)
                self.assert_harmless(done.stdout + done.stderr, words)
        self.assert_harmless(self.m.log.read_bytes(), "the log")

    def test_attack_60_a_subject_that_is_no_utf8_is_refused(self):
        os.mkdir(self.m.point / "ca/corp")
        got = attempt(self.m.write, "ca/corp/cert.pem", self_signed(self.key, self.NO_UTF8))
        self.assertEqual(got, -errno.EINVAL)
        self.assert_harmless((self.m.point / "ca/corp/status").read_bytes(), "status")
        self.assert_harmless(self.m.log.read_bytes(), "the log")

    def test_attack_60_a_value_that_is_refused_is_one_line(self):
        os.mkdir(self.m.point / "ca/corp")
        config = self.m.point / "ca/corp/config"
        for value in (b"\x1b[2J", b"a\x07", b"\xff\xfe", b"\xc3(", b"\xc2\x9b2J", b"a\r",
                      b"\xe2\x80\xae1", b"\xed\xa0\x80", b"\0", b"x" * 37 + "ü".encode() * 9):
            for key in (b"enrollment-retry", b"protocol", b"enrollment-url", b"x" + value):
                self.assertEqual(attempt(config.write_bytes, key + b" = " + value + b"\n"),
                                 -errno.EINVAL, value)
                for where, text in (("status", self.m.point / "ca/corp/status"),
                                    ("all", self.m.point / "status"), ("log", self.m.log),
                                    ("events", self.m.point / "events")):
                    self.assert_harmless(text.read_bytes(), f"{where}: {key} = {value}")
                self.assert_harmless(os.getxattr(config, "user.pkifs.error"), value)
                last = json.loads(self.m.read("events").splitlines()[-1])
                self.assertEqual(last["reason"], self.m.status("ca/corp")["last-error"])
                json.loads(self.m.read("status.json"))
        self.assertEqual(config.read_bytes(), b"")


class Swaps(Test):
    """What was checked is what is stored."""

    def setUp(self):
        super().setUp()
        self.m = self.mount()
        self.www = self.m.point / "local/www"
        os.mkdir(self.www)
        (self.one, _), (self.two, _) = make_pairs(self.folder, 2)
        self.bad = self.two.replace(self.two[80:84], "AAAA")

    def public(self, key):
        return subprocess.run(["openssl", "pkey", "-pubout"], input=key, capture_output=True,
                              text=True, check=True).stdout

    def assert_has(self, key):
        self.assertEqual(self.m.read("local/www/key.pem"), key)
        self.assertEqual(self.m.read("local/www/public.pem"), self.public(key))

    def test_attack_63_a_key_that_is_replaced_before_it_is_closed(self):
        self.m.write("local/www/key.pem", self.one)
        for text, kept in ((self.bad, self.one), ("x" * len(self.two), self.one),
                           (self.two, self.two)):
            file = os.open(self.www / "key.pem", os.O_WRONLY | os.O_TRUNC)
            os.pwrite(file, self.one.encode(), 0)  # good so far
            got = attempt(os.pwrite, file, text.encode(), 0)
            got = (got if got < 0 else None, attempt(os.close, file))
            self.assertEqual(-errno.EINVAL in got, kept != text, got)
            self.assert_has(kept)

    def test_attack_63_two_writers_of_a_key(self):
        files = [os.open(self.www / "key.pem", os.O_WRONLY | os.O_CREAT) for _ in range(2)]
        for file, key in zip(files, (self.one, self.two)):
            os.write(file, key[:60].encode())
        for file, key in zip(files, (self.one, self.two)):
            os.write(file, key[60:].encode())
        for file, key in zip(files, (self.one, self.two)):
            os.close(file)
            self.assert_has(key)

    def test_attack_63_a_temporary_file_that_is_written_while_it_is_renamed(self):
        self.m.write("local/www/key.pem", self.one)
        end, wrong = threading.Event(), []

        def look():
            while not end.is_set():
                with contextlib.suppress(OSError):
                    key = self.m.read("local/www/key.pem")
                    if key not in (self.one, self.two):
                        wrong.append(key)

        looker = threading.Thread(target=look)
        looker.start()
        try:
            for turn in range(10):
                draft = os.open(self.www / "draft", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                os.write(draft, self.two.encode())
                writer = threading.Thread(target=lambda: [
                    attempt(os.pwrite, draft, text.encode(), 0)
                    for text in (self.bad, self.one, self.two, self.bad) * 3])
                writer.start()
                attempt(os.rename, self.www / "draft", self.www / "key.pem")
                writer.join()
                os.close(draft)
                attempt(os.unlink, self.www / "draft")
                key = self.m.read("local/www/key.pem")
                self.assertIn(key, (self.one, self.two))
                self.assert_has(key)
        finally:
            end.set()
            looker.join()
        self.assertEqual(wrong, [])

    def test_attack_63_a_renamed_file_is_ours_no_more(self):
        draft = os.open(self.www / "draft", os.O_RDWR | os.O_CREAT, 0o600)
        os.write(draft, self.one.encode())
        os.rename(self.www / "draft", self.www / "key.pem")
        attempt(os.pwrite, draft, self.two.encode(), 0)
        attempt(os.ftruncate, draft, 0)
        os.close(draft)
        self.assert_has(self.one)

    def test_attack_63_a_crl_that_is_judged_is_not_written_to(self):
        os.mkdir(self.m.point / "ca/corp")
        ca, crl = self.folder / "ca", self.m.point / "ca/corp/crl.pem"
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=Lab CA",
            "-keyout", ca.with_suffix(".key"), "-out", ca.with_suffix(".pem"), "-addext",
            "keyUsage=critical,keyCertSign,cRLSign")
        (self.folder / "index").touch()
        (self.folder / "number").write_text("10\n")
        (self.folder / "conf").write_text(
            f"[ca]\ndefault_ca=c\n[c]\ndatabase={self.folder}/index\n"
            f"crlnumber={self.folder}/number\ndefault_md=sha256\ndefault_crl_days=7\n")
        made = run("openssl", "ca", "-config", self.folder / "conf", "-cert",
                   ca.with_suffix(".pem"), "-keyfile", ca.with_suffix(".key"), "-gencrl")
        text = made.stdout[made.stdout.index("-----BEGIN"):]
        self.m.write("ca/corp/cert.pem", ca.with_suffix(".pem").read_text())
        self.m.write("ca/corp/crl.pem", text)  # so that there is a worker
        workers = self.m.children("enroll")
        self.assertTrue(workers)
        file = os.open(crl, os.O_WRONLY | os.O_TRUNC)
        os.write(file, text.encode())
        self.m.kill("enroll", signal.SIGSTOP)
        closed = []
        closer = threading.Thread(target=lambda: closed.append(attempt(os.close, os.dup(file))))
        closer.start()
        try:
            self.assertTrue(until(lambda: attempt(os.pwrite, file, text[:9].encode(), 0) ==
                                  -errno.EBUSY, 10), "it is written to while it is judged")
        finally:
            self.m.kill("enroll", signal.SIGCONT)
            closer.join(PATIENCE)
        self.assertEqual(closed, [None])
        os.close(file)
        self.assertEqual(self.m.status("ca/corp")["crl-entries"], "0")


class Others(Test):
    """What a user of the machine may do besides, and what he must not spoil by it."""

    @needs_root
    def test_nobody_stands_where_the_publisher_is_looked_for(self):
        m = self.mount()
        www = m.point / "local/www"
        os.mkdir(www)
        m.write("local/www/config", "subject = CN=www\nkey-type = ecdsa\n")
        self.assertEqual(m.request("local/www", "generate-self-signed"), "ok")
        edition = os.stat(www / "cert.pem").st_ino & ((1 << 56) - 1)
        self.assertEqual(m.request("local/www", "generate-self-signed"), "ok")
        hidden = www / f".publish-{edition}-cert.pem"
        self.assertEqual(as_user(NOBODY, lambda: attempt(lambda: os.stat(hidden).st_size)),
                         -errno.ENOENT)
        self.assertGreater(os.stat(hidden).st_size, 0)

    @needs_root
    def test_users_with_objects_of_their_own_do_not_take_all_there_is(self):
        m = self.mount()
        users = range(2001, 2006)
        for user in users:
            for number in range(3):
                os.mkdir(m.point / f"local/u{user}-{number}")
                os.chown(m.point / f"local/u{user}-{number}", user, user)

        def take(user, ends):
            """Opens all that USER gets, until the other end is closed."""
            os.setresuid(user, user, user)
            names = opened = 0
            for number in range(3):
                folder = m.point / f"local/u{user}-{number}"
                for name in [f"draft{i}" for i in range(20)] + ["config"] * 60:
                    try:
                        os.open(folder / name, os.O_WRONLY | os.O_CREAT)
                        opened += 1
                    except OSError as error:
                        assert error.errno in (errno.ENFILE, errno.ENOSPC), error
            os.write(ends[1], b"x")
            ends[0].read()

        os.mkdir(m.point / "local/www")
        for user in users:
            done, go = os.pipe(), os.pipe()
            child = os.fork()
            if child == 0:
                os.close(go[1])
                with contextlib.suppress(BaseException), open(go[0], "rb") as wait:
                    take(user, (wait, done[1]))
                os._exit(0)
            os.close(done[1])
            os.close(go[0])
            self.addCleanup(os.waitpid, child, 0)
            self.addCleanup(os.close, go[1])
            self.assertEqual(os.read(done[0], 1), b"x")
            os.close(done[0])
        done = shell("sed -i s/x/y/ config; echo 'subject = CN=www' > config; mv config c; "
                     "cp c config", cwd=m.point / "local/www")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(m.read("local/www/config"), "subject = CN=www\n")

    def test_odd_calls_on_every_file(self):
        m = self.mount()
        for path in ("local/www", "ca/corp"):
            os.mkdir(m.point / path)
        m.write("local/www/config", "subject = CN=www\nkey-type = ecdsa\n")
        self.assertEqual(m.request("local/www", "generate-self-signed"), "ok")
        store = m.children("store")
        for folder, folders, names in os.walk(m.point):
            descriptor = os.open(folder, os.O_RDONLY)
            for at in (1, 3, 1 << 32, (1 << 63) - 1):
                os.lseek(descriptor, at, os.SEEK_SET)
                got = attempt(os.listdir, descriptor)
                self.assertIsInstance(got, list, f"{folder} from {at}")
            os.close(descriptor)
            for name in names:
                if name in ("watch", "wait", "confirm"):
                    continue
                path = os.path.join(folder, name)
                file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
                whole = os.pread(file, 1 << 20, 0)
                for at in (len(whole), 1 << 32, 1 << 62):
                    self.assertEqual(os.pread(file, 1 << 20, at), b"", f"{path} from {at}")
                for at in range(0, len(whole), 97):
                    self.assertEqual(os.pread(file, 7, at), whole[at:at + 7], path)
                for whence in (os.SEEK_HOLE, os.SEEK_DATA):
                    attempt(os.lseek, file, 0, whence)
                for request in (0x5401, 0x80086601, 0xc0189436, 0x40049409):
                    self.assertLess(attempt(call, "ioctl", file, request, 0), 0, path)
                os.close(file)
                direct = os.open(path, os.O_RDONLY | os.O_DIRECT)
                block = mmap.mmap(-1, 1 << 16)
                self.assertEqual(os.preadv(direct, [block], 0), min(len(whole), 1 << 16), path)
                self.assertEqual(block[:len(whole)], whole[:1 << 16], path)
                os.close(direct)
        self.assertEqual(m.children("store"), store)


if __name__ == "__main__":
    main()
