"""Attacks by those who share the machine: on places, names, modes, texts and readers."""

import contextlib
import ctypes
import errno
import json
import mmap
import os
import pathlib
import re
import signal
import socket
import stat
import struct
import subprocess
import threading
import time

from harness import (DAEMON, NEW_MOUNTS, NEW_USERS, NOBODY, PATIENCE, SANITIZED, Test,
                     as_user, attempt, call, main, make_pairs, many, needs_root, run, shell, until)
from storefile import sql

URL = "enrollment-url = http://127.0.0.1:9/scep\n"


def read(path):
    with open(path, "rb") as file:
        return len(file.read())


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
        self.www = self.m.self_signed()

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


class Others(Test):
    """What a user of the machine may do besides, and what he must not spoil by it."""

    @needs_root
    def test_nobody_stands_where_the_publisher_is_looked_for(self):
        m = self.mount()
        www = m.self_signed()
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
        m.self_signed()
        os.mkdir(m.point / "ca/corp")
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
