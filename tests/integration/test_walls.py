"""The walls around the processes: what one could do that was taken over."""

import contextlib
import ctypes
import os
import pathlib
import shutil
import socket
import struct
import threading
import unittest

from harness import BIN, PATIENCE, SANITIZED, Test, main, run, until, watched

# Deeds of the worker that was taken over (taken-worker.c), and what comes of them: by Landlock,
FILES = {
    "read /etc/passwd": "Permission denied",
    "read {store}": "Permission denied",
    "read {key}": "Permission denied",
    "read /proc/self/maps": "Permission denied",
    "list /": "Permission denied",
}
# by seccomp,
REFUSED = {
    "write /dev/null": "Permission denied",
    "make {folder}/new": "Permission denied",
    "remove {store}": "Function not implemented",
    "local-socket": "Address family not supported by protocol",
    "local-datagrams": "Function not implemented",
    "packets": "Function not implemented",
    "raw": "Function not implemented",
    "audit": "Function not implemented",
    "serve": "Function not implemented",
    "new-code": "Permission denied",
    "turned-code": "Permission denied",
    "signal-parent": "Function not implemented",
    "take-sigsys": "Function not implemented",
}
# and the call that ends it.
FATAL = {
    "execute /bin/true": "execve",
    "copy-itself": "clone",
    "trace": "ptrace",
    "ask-keyring": "keyctl",
    "leave": "unshare",
}


def seccomp_of(pid):
    """2: there is a filter."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(status.split("Seccomp:")[1].split()[0])


def has_landlock():
    libc = ctypes.CDLL(None)
    return libc.syscall(444, None, 0, 1) > 0  # landlock_create_ruleset: its version


class NameServer:
    """Answers all questions for addresses with ANSWER, at ADDRESS."""

    def __init__(self, test, address, answer):
        self.answer = socket.inet_aton(answer)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 53))
        threading.Thread(target=self.serve, daemon=True).start()
        test.addCleanup(self.socket.close)

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                question, who = self.socket.recvfrom(512)
                if question:
                    self.socket.sendto(self.reply(question), who)

    def reply(self, question):
        end = question.index(b"\0", 12) + 5
        return (question[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0) + question[12:end]
                + b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 0, 4) + self.answer)


@unittest.skipIf(SANITIZED, "the sanitizers need more than the walls let through")
class Walls(Test):
    def taken(self):
        """A mount whose workers were taken over."""
        programs = self.folder / "programs"
        programs.mkdir()
        shutil.copy(BIN / "pkifsd", programs)
        shutil.copy(BIN.parent / "tests/taken/pkifs-enroll", programs)
        m = self.mount(start=False)
        m.programs = programs
        return m

    def ask(self, m, deed):
        """What comes of DEED."""
        return m.request("local/www", f"action = generate-csr\nsubject = CN={deed}")

    def assert_walls(self, m):
        """Each process has its filter, and the publisher can still tell of a change."""
        www = m.self_signed()
        with watched(www / "cert.pem", "attrib", "delete_self") as watcher:
            self.assertEqual(m.request("local/www", "generate-self-signed"), "ok")
            self.assertEqual(watcher.wait(PATIENCE), 0, m.log.read_text())
        for role in ("store", "keys", "publisher", "enroll"):
            with self.subTest(role):
                self.assertTrue(until(lambda role=role: m.children(role)))
                for pid in m.children(role):
                    self.assertEqual(seccomp_of(pid), 2)
        for pid in m.successors():
            self.assertTrue(until(lambda pid=pid: seccomp_of(pid) == 2))
        self.assertNotIn("seccomp", m.log.read_text())

    def test_each_process_has_its_walls(self):
        self.assert_walls(self.mount())

    @unittest.skipUnless(os.geteuid() == 0, "only root can start processes of other users")
    def test_each_process_of_a_user_of_its_own_has_its_walls(self):
        m = self.mount(f"store={self.folder}/var/store.db", "privilege-separation=yes",
                       "user=daemon", "worker-user=games", "log-level=debug")
        self.assert_walls(m)
        self.assertNotIn("telling of", m.log.read_text())

    def test_a_worker_reaches_nothing_of_this_machine(self):
        m = self.taken().start()
        os.mkdir(m.point / "local/www")
        places = {"store": m.folder / "store.db", "key": m.folder / "store.key",
                  "folder": m.folder}
        no_landlock = "this kernel has no Landlock" in m.log.read_text()
        self.assertEqual(no_landlock, not has_landlock())
        for deed, words in (REFUSED if no_landlock else FILES | REFUSED).items():
            with self.subTest(deed):
                self.assertIn(words, self.ask(m, deed.format(**places)))
        self.assertIn("it can", self.ask(m, "client"))
        self.assertTrue((m.folder / "store.db").exists())
        self.assertFalse((m.folder / "new").exists())

    def test_what_nobody_does_by_mistake_ends_a_worker(self):
        m = self.taken().start()
        os.mkdir(m.point / "local/www")
        for deed, name in FATAL.items():
            with self.subTest(deed):
                self.assertIn("the enrollment worker ended", self.ask(m, deed))
                self.assertTrue(until(lambda name=name: f"it called {name}\n" in
                                      m.log.read_text()))
        self.assertIn("worker: a process called what it must not", m.log.read_text())
        self.assertIn("it can", self.ask(m, "client"))

    @unittest.skipUnless(os.geteuid() == 0, "only root can give a daemon an /etc of its own")
    def test_names_resolve_and_a_changed_resolver_is_followed(self):
        for number in (1, 2):
            NameServer(self, f"127.77.0.{number}", f"192.0.2.{number}")
        etc = self.folder / "etc"
        etc.mkdir()
        for name in ("passwd", "group", "ssl", "ld.so.cache", "fuse.conf"):
            run("cp", "-a", f"/etc/{name}", etc)
        (etc / "nsswitch.conf").write_text("hosts: files nothing [!UNAVAIL=return] dns\n")
        (etc / "hosts").write_text("192.0.2.9 ours.example.net\n")
        (etc / "first").write_text("nameserver 127.77.0.1\n")
        (etc / "resolv.conf").symlink_to("first")
        m = self.taken()
        m.under = ["unshare", "-m", "sh", "-c", f'mount --bind {etc} /etc && exec "$@"', "sh"]
        point, m.is_mounted = m.point, lambda: m.children("store") and m.children("keys")
        m.start()
        m.point = pathlib.Path(f"/proc/{m.daemon.pid}/root{point}")
        self.assertTrue(until(lambda: (m.point / "README").exists()))
        os.mkdir(m.point / "local/www")

        def resolves(name, address):
            self.assertIn(address, self.ask(m, f"resolve {name}.example.net"))

        resolves("ours", "192.0.2.9")
        resolves("other", "192.0.2.1")
        self.assertIn("by interface 1", self.ask(m, "resolve fe80::1%lo"))
        (etc / "first").write_text("nameserver 127.77.0.2\n")  # the same file
        resolves("other", "192.0.2.2")
        (etc / "second").write_text("nameserver 127.77.0.1\n")
        (etc / "second").rename(etc / "first")  # another one under its name
        resolves("other", "192.0.2.1")
        (etc / "new").write_text("192.0.2.10 ours.example.net\n")
        (etc / "new").rename(etc / "hosts")
        resolves("ours", "192.0.2.10")
        self.assertEqual(m.log.read_text().count("a worker is gone"), 0)


if __name__ == "__main__":
    main()
