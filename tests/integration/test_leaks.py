"""Thousands of requests of each kind: no process holds more memory, descriptors, children."""

import contextlib
import itertools
import os
import pathlib
import signal
import subprocess
import urllib.request

from harness import EC_KEY, RSA_KEY, SANITIZED, Test, free_port, main, many, run, until
from scep import Ca, assert_valid

ROLES = ("store", "keys", "publisher", "enroll")
# Growth of memory that is no leak: what malloc and SQLite keep, in steps of pages.
BYTES_EACH, BYTES_ANYWAY = 100, 512 << 10
CACHE = 16 << 20  # of SQLite's
WORKERS = 4
# Certificate ids that are asked for at the same time.
TOGETHER = 8


def memory(pid, field):
    """A field of /proc/PID/status in bytes."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) << 10
    return 0


def entries(folder):
    return len(os.listdir(folder))


def children_of(pid):
    """Pids of PID's children, those that nobody has waited for as well."""
    return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


class Figures:
    """What each process of a mount holds now, and what is beside its store."""

    def __init__(self, mount):
        pids = {role: mount.children(role) for role in ROLES}
        pids["supervisor"] = [mount.daemon.pid]
        self.bytes, self.descriptors, self.threads = {}, {}, {}
        for role, found in pids.items():
            self.bytes[role] = self.most(found, lambda pid: memory(pid, "RssAnon"))
            self.descriptors[role] = self.most(found, lambda pid: entries(f"/proc/{pid}/fd"))
            self.threads[role] = self.most(found, lambda pid: entries(f"/proc/{pid}/task"))
        self.pids = {role: sorted(found) for role, found in pids.items()}
        self.children = len(children_of(mount.daemon.pid))
        self.beside = entries(mount.folder) + entries(mount.folder / "store.db.d")
        self.size = os.path.getsize(mount.folder / "store.db")
        self.log = os.path.getsize(mount.folder / "store.db-wal")

    @staticmethod
    def most(pids, figure):
        """The largest FIGURE of PIDS; of one that is just ending there is none."""
        found = [0]
        for pid in pids:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found.append(figure(pid))
        return max(found)


class Leaks(Test):
    options = (f"workers={WORKERS}", "log-level=error")

    def setUp(self):
        super().setUp()
        self.m = self.mount()
        self.fill_cache()

    def fill_cache(self):
        """SQLite's cache grows to its limit of 2 MB: that is not to be taken for a leak."""
        for i in range(40):
            os.mkdir(self.m.point / f"local/filler{i}")
            self.m.write(f"local/filler{i}/config", ("#" + 99 * "x" + "\n") * 640)
        for i in range(40):
            self.m.read(f"local/filler{i}/config")

    def ids(self, config="", profile=None, count=TOGETHER):
        """New certificate ids with ready keys: RSA for a PROFILE, else EC."""
        names = [f"{profile or 'self'}{i}" for i in range(count)]
        for name in names:
            if profile:
                self.certificate_id(self.m, name, profile, config)
                self.ready_key(self.m, name, *RSA_KEY)
            else:
                os.mkdir(self.m.point / "local" / name)
                self.m.write(f"local/{name}/config", f"subject = CN={name}\n{config}")
                self.ready_key(self.m, name, *EC_KEY)
        return names

    def requests(self, names, request, expected):
        """One unit is one request of each of NAMES, all under way together."""
        def is_over(name):
            return self.m.status(f"local/{name}")["request"] in ("done", "failed", "rejected")

        def unit():
            for name in names:
                self.m.write(f"local/{name}/request", request)
            for name in names:
                self.assertIn(expected, self.m.read(f"local/{name}/wait"))
                # `wait` tells of a failure before its retries are over
                self.assertTrue(until(lambda name=name: is_over(name)), name)
        return unit, len(names)

    def flat(self, what, times, unit, each=1, grows=0, same=ROLES):
        """
        Does UNIT, which is EACH requests, until there were TIMES; in the second half nothing
        grows, but for the store's file where requests add GROWS bytes to it.
        """
        half = max(1, times // each // 2)
        for _ in range(half):
            unit()
        before = Figures(self.m)
        for _ in range(half):
            unit()
        after = Figures(self.m)
        done = half * each
        self.report(what, done, before, after)
        for role in same:
            if role != "enroll":
                self.assertEqual(after.pids[role], before.pids[role], f"the {role} died")
        for role in after.pids:
            if not set(after.pids[role]) & set(before.pids[role]):
                continue  # others than before, which begin anew
            if not SANITIZED:
                # SQLite keeps some of a file that grows
                cached = min(max(0, after.size - before.size), CACHE) if role == "store" else 0
                self.assertLess(after.bytes[role] - before.bytes[role] - cached,
                                max(BYTES_EACH * done, BYTES_ANYWAY), f"memory of {role}")
            self.assertLessEqual(after.descriptors[role], before.descriptors[role] + WORKERS,
                                 f"descriptors of {role}")
        # the store and its successor, keys, publisher
        self.assertLessEqual(after.children, 4 + WORKERS, "children")
        # those of a CRL that was just replaced stay for some seconds
        self.assertTrue(until(lambda: Figures(self.m).beside <= before.beside),
                        f"{before.beside} files beside the store, now {after.beside}")
        self.assertLess(after.log, 8 << 20, "the write-ahead log")
        # what is kept besides: the last 10,000 events
        self.assertLess(after.size - before.size, (grows + 800) * done + (1 << 20), "the store")

    @staticmethod
    def report(what, done, before, after):
        """A line for each process: what it holds, and how much more for each of DONE."""
        print(f"\n{what}: {done} after as many")
        for role, pids in after.pids.items():
            if set(pids) & set(before.pids[role]):
                more = (after.bytes[role] - before.bytes[role]) / done
                descriptors = after.descriptors[role] - before.descriptors[role]
                print(f"  {role}: {after.bytes[role] >> 10} kB, {more:+.1f} bytes each; "
                      f"{after.descriptors[role]} descriptors, {descriptors:+d}")
        print(f"  {after.children} children; the store {(after.size - before.size) / done:+.0f} "
              f"bytes each, its log {after.log >> 10} kB", flush=True)

    # What must be flat.

    def test_requests(self):
        names = self.ids("key-type = ecdsa\n")
        self.flat("requests", many(10000), *self.requests(names, "generate-csr\n", "ok"))

    def test_renewals_by_scep(self):
        ca = Ca(self, "-f")
        self.trusted_profile(self.m, ca.url)
        names = self.ids(profile="corp")
        self.requests(names, "enroll\n", "ok")[0]()
        self.flat("renewals by SCEP", many(5000), *self.requests(names, "re-enroll\n", "ok"),
                  grows=4000)
        assert_valid(self, self.m, names[0])

    def test_renewals_by_itself(self):
        names = self.ids("key-type = ecdsa\n")
        unit, each = self.requests(names, "generate-self-signed\n", "ok")
        self.flat("self-signed renewals", many(5000), unit, each, grows=4000)
        self.assertEqual(self.m.status(f"local/{names[0]}")["state"], "valid")

    def failing(self, expected, count=TOGETHER, wrong=(), url=None):
        """Enrollments with a CA that was trusted, and is now WRONG or at another URL."""
        ca = Ca(self)
        self.trusted_profile(self.m, ca.url)
        ca.restart(*wrong)
        self.m.write("ca/corp/config", f"enrollment-url = {url or ca.url}\n"
                     "enrollment-retry = 1\nenrollment-retry-interval = 0\n")
        return self.requests(self.ids(profile="corp", count=count), "enroll\n", expected)

    def test_refused_by_the_ca(self):
        self.flat("refused by the CA", many(2500),
                  *self.failing("the CA refuses", wrong=("-R", 2)))

    def test_answered_with_garbage(self):
        self.flat("answered with garbage", many(2500),
                  *self.failing("failed: ", 5 * TOGETHER, wrong=("-a", "html")))

    def test_nobody_listens(self):
        self.flat("nobody listens", many(2500),
                  *self.failing("failed: cannot reach", 5 * TOGETHER,
                                url=f"http://127.0.0.1:{free_port()}/scep"))

    def test_refused_as_they_are_written(self):
        name = self.ids("key-type = ecdsa\n", count=1)[0]
        texts = itertools.cycle((
            ("request", "enroll\n"), ("request", "action = fly\n"),
            ("config", "key-size = 1\n"), ("cert.pem", "-----BEGIN CERTIFICATE-----\nno\n"),
            ("key.pem", "-----BEGIN PRIVATE KEY-----\nMC4=\n-----END PRIVATE KEY-----\n")))

        def refused():
            file, text = next(texts)
            with self.assertRaises(OSError):
                self.m.write(f"local/{name}/{file}", text)
        self.flat("refused as they are written", many(2500), refused)

    def test_objects_come_and_go(self):
        key = self.ids("key-type = ecdsa\n", count=1)[0]

        def come_and_go():
            os.mkdir(self.m.point / "local/guest")
            self.m.write("local/guest/config", "subject = CN=guest\n")
            self.m.write("local/guest/key.pem", self.m.read(f"local/{key}/key.pem"))
            os.mkdir(self.m.point / "ca/guest")
            with open(self.m.point / "local/guest/notes", "w") as file:
                file.write("a temporary file")
            os.rename(self.m.point / "local/guest/notes", self.m.point / "local/guest/note")
            os.chmod(self.m.point / "local/guest/key.pem", 0o640)
            os.rmdir(self.m.point / "ca/guest")
            os.rmdir(self.m.point / "local/guest")
        self.flat("objects that come and go", many(2000), come_and_go)

    def test_readers_come_and_go(self):
        name = self.ids("key-type = ecdsa\n", count=1)[0]
        self.assertEqual(self.m.request(f"local/{name}", "generate-self-signed"), "ok")
        folder = self.m.point / "local" / name

        def read_all():
            for entry in os.scandir(folder):
                if entry.is_file() and entry.name != "watch" and entry.stat().st_mode & 0o400:
                    with open(entry.path, "rb") as file:
                        file.read()
            for file in ("status", "status.json", "events", "README", "metrics"):
                if (self.m.point / file).exists():
                    self.m.read(file)
        self.flat("reads of all files", many(1000), read_all)

    def test_those_who_watch_come_and_go(self):
        """Readers that wait are killed; a poll is given up."""
        def watch():
            with open(self.m.point / "watch", "rb") as file:
                reader = subprocess.Popen(["cat"], stdin=file, stdout=subprocess.DEVNULL)
            stat = pathlib.Path(f"/proc/{reader.pid}/wchan")
            self.assertTrue(until(lambda: "fuse" in stat.read_text() or
                                  "request_wait" in stat.read_text()))
            reader.kill()
            reader.wait()
        self.flat("readers of watch", many(500), watch)

    def test_crls_come_again_and_again(self):
        ca = Ca(self)
        self.trusted_profile(self.m, ca.url)
        with urllib.request.urlopen(ca.url.replace("/scep", "/crl")) as answer:
            crl = answer.read()

        def load():
            with open(self.m.point / "ca/corp/crl.pem", "wb") as file:
                file.write(crl)
            self.m.read("ca/corp/crl.pem")
        self.flat("CRLs", many(500), load)
        self.assertEqual(self.m.status("ca/corp")["crl-entries"], "0")

    def test_processes_that_die_are_forgotten(self):
        names = self.ids("key-type = ecdsa\n", count=2)
        unit, _ = self.requests(names, "generate-csr\n", "")  # some meet the death, and fail
        roles = itertools.cycle(("enroll", "keys", "publisher"))

        def die():
            unit()
            self.m.kill(next(roles), signal.SIGKILL)
        self.flat("deaths of a process", many(300), die, same=("store",))

    def test_one_thread_each(self):
        """
        So nothing is locked, nothing races. (A worker resolves a server's name in a thread of
        libcurl's: test_valgrind.py looks at it.)
        """
        ca = Ca(self)
        self.trusted_profile(self.m, ca.url)
        name = self.ids(profile="corp", count=1)[0]
        seen = set()
        self.m.write(f"local/{name}/request", "enroll\n")
        while True:
            figures = Figures(self.m)
            self.assertEqual(max(figures.threads.values()), 1, figures.threads)
            seen |= {role for role, pids in figures.pids.items() if pids}
            if self.m.status(f"local/{name}")["state"] == "valid":
                break
        self.assertEqual(seen, {"supervisor", *ROLES})


if __name__ == "__main__":
    main()
