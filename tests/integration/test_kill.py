"""Processes of the daemon are killed at any instant: readers notice nothing, requests end well."""

import concurrent.futures
import contextlib
import itertools
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import time
import unittest

import readers
from harness import LOOKUP, PATIENCE, ROLES, SANITIZED, Test, main, many, run, until
from scep import Ca, assert_valid

STORE_KILLS = many(2000)
KILLS = many(1000)   # of each process in turn, under enrollments
ROUNDS = many(100)   # of all processes at once
WRITERS = 4
GONE = 10            # seconds without a store, after which the mount is taken away


class Kill(Test):
    def test_readers_do_not_notice_a_killed_store(self):
        m = self.mount()
        looking = readers.start(*readers.around(m))
        begin = time.monotonic()
        store, slowest, kills = [], 0, 0
        # goes on, on a slow machine, until each reader has come round often enough to have met it
        while kills < STORE_KILLS or (time.monotonic() - begin < 4 * PATIENCE and any(
                reader.rounds.value <= STORE_KILLS / 2 for reader in looking)):
            kills += 1
            self.assertTrue(until(lambda: m.children("store") not in ([], store)))
            store = m.children("store")
            asked = time.monotonic()
            self.assertIn("subject = CN=www\n", m.read("local/www/config"))
            slowest = max(slowest, time.monotonic() - asked)
            time.sleep(random.uniform(0, 0.1))  # at any instant
            os.kill(store[0], signal.SIGKILL)
        m.read("status")
        seconds = time.monotonic() - begin
        results = readers.finish(self, looking)
        for times, _ in results:  # how often is a matter of speed
            self.assertGreater(times, 2)
        print(f"{kills} kills in {seconds:.1f} s, {readers.told(results)}")
        self.assertLess(slowest, readers.HANG)
        self.assertIsNone(m.daemon.poll())

    def test_writers_do_not_notice_a_killed_store(self):
        m = self.mount()
        os.mkdir(m.point / "local/www")
        end = time.monotonic() + 5
        kills = writes = 0
        while time.monotonic() < end or writes <= 20:
            m.write("local/www/config", f"subject = CN=host{writes}\n")
            if writes % 3 == 0:
                m.kill("store")
                kills += 1
            self.assertEqual(m.read("local/www/config"), f"subject = CN=host{writes}\n")
            writes += 1
        print(f"{writes} writes, {kills} kills")


class Enrollments(Test):
    """Certificate ids of two CAs, enrolled and renewed again and again."""

    def setUp(self):
        super().setUp()
        self.m = self.mount()
        self.lab = Ca(self, "-w", 1)
        debian = Ca(self, script="scep-server")
        self.versions = {}  # name: the version that its last accepted request is to bring
        self.profiles = {}
        for profile, ca, count in (("lab", self.lab, 6), ("debian", debian, 3)):
            self.trusted_profile(self.m, ca.url, profile, "enrollment-retry-interval = 1\n")
            for i in range(count):
                name = f"{profile}{i}"
                self.profiles[name] = profile
                self.certificate_id(self.m, name, profile)
                self.ask(name)

    def ask(self, name):
        version = self.versions.get(name, 0) + 1
        renewal = f"action = re-enroll\nre-generate-keypair = {'yes' if version % 2 else 'no'}\n"
        self.m.write(f"local/{name}/request", renewal if version > 1 else "action = enroll\n")
        self.versions[name] = version

    def is_done(self, name):
        """Whether nothing is under way; a request that is done has brought its version."""
        status = self.m.status(f"local/{name}")
        if self.profiles[name] == "debian" and "badRequest" in status["last-error"]:
            # scepserver, sent the same message while it is still at it, now and then says so
            self.versions[name] -= 1
            self.ask(name)
            return False
        self.assertIn(status["request"], ("queued", "running", "waiting", "done"), status)
        if status["request"] == "done":
            self.assertEqual(status["version"], str(self.versions[name]), status)
        return status["request"] == "done"

    def all_end_valid(self):
        """Each request has brought its version, and was one transaction with one message."""
        for name, profile in self.profiles.items():
            self.assertTrue(until(lambda: self.is_done(name), 3 * PATIENCE),
                            self.m.status(f"local/{name}"))
            assert_valid(self, self.m, name, profile, self.versions[name])
        messages = self.lab.messages()
        self.assertEqual([t for t, different in messages.items() if len(different) > 1], [],
                         "a request went out twice with different bytes")
        self.assertEqual(len(messages), sum(version for name, version in self.versions.items()
                                            if self.profiles[name] == "lab"),
                         "a request was asked for in two transactions")
        return sum(self.versions.values())

    def test_any_process_at_any_instant(self):
        looking = readers.start(*readers.around(self.m))
        names, kills = itertools.cycle(list(self.versions)), dict.fromkeys(ROLES, 0)
        begin = time.monotonic()
        while sum(kills.values()) < KILLS:
            role = random.choice(ROLES)
            time.sleep(random.uniform(0, 0.1))
            for pid in self.m.children(role)[:1]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    kills[role] += 1
            name = next(names)
            if self.is_done(name):
                self.ask(name)
        seconds = time.monotonic() - begin
        count = self.all_end_valid()
        print(f"{kills} killed in {seconds:.1f} s, {count} certificates; "
              f"{readers.told(readers.finish(self, looking))}")

    def writer(self, i, acknowledged):
        """Writes a config again and again until the mount is gone; says what was accepted."""
        with contextlib.suppress(OSError):
            for number in itertools.count(acknowledged.value + 1):
                self.m.write(f"local/written{i}/config", f"subject = CN=host{number}\n")
                acknowledged.value = number

    def clean_store(self):
        """What SQLite says of the store's file as the kill left it."""
        copy = self.folder / "copy"
        copy.mkdir(exist_ok=True)
        for name in ("store.db", "store.db-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(self.m.folder / name, copy)
        with contextlib.closing(sqlite3.connect(copy / "store.db")) as store:
            self.assertEqual(store.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
        shutil.rmtree(copy)

    def test_all_processes_at_once(self):
        accepted = [multiprocessing.Value("q", 0) for _ in range(WRITERS)]
        for i in range(WRITERS):
            os.mkdir(self.m.point / f"local/written{i}")
        for _ in range(ROUNDS):
            writers = [multiprocessing.Process(target=self.writer, args=(i, accepted[i]))
                       for i in range(WRITERS)]
            for writer in writers:
                writer.start()
            for name in self.versions:
                if self.is_done(name):
                    self.ask(name)
            time.sleep(random.uniform(0, 0.3))
            self.m.kill_all()
            for writer in writers:
                writer.join(readers.HANG)
                self.assertEqual(writer.exitcode, 0, "a writer hangs or failed")
            self.clean_store()
            self.m.start()
            for i, last in enumerate(accepted):
                text = self.m.read(f"local/written{i}/config")
                number = int(text.strip().removeprefix("subject = CN=host") or 0)
                self.assertIn(number, (last.value, last.value + 1), "an accepted write is lost")
                last.value = number
        print(f"{ROUNDS} times all killed, {sum(last.value for last in accepted)} writes, "
              f"{self.all_end_valid()} certificates")


class Gone(Test):
    """A store that can't be started again: the mount is taken away, and nobody hangs on it."""

    def gone(self, m, end_store, reason):
        """END_STORE(M) leaves it without a store; how long after that the mount is gone."""
        point = m.point
        with concurrent.futures.ThreadPoolExecutor() as callers:
            end_store(m)
            begin = time.monotonic()
            waits = [callers.submit(run, *command, timeout=GONE + readers.HANG) for command in (
                ("stat", point / "local/www/status"), ("cat", point / "local/www/config"),
                ("ls", point / "local/www"), ("cp", "/dev/null", point / "local/www/config"),
                ("cat", point / "watch"))]
            code = m.daemon.wait(GONE + readers.HANG)
            seconds = time.monotonic() - begin
            for wait in waits:
                self.assertNotEqual(wait.result().returncode, 0, wait.result().args)
        self.assertEqual(code, 1)
        self.assertFalse(os.path.ismount(point))
        self.assertEqual(os.listdir(point), [])
        self.assertIn(reason, m.log.read_text())
        self.mounts.remove(m)
        print(f"gone after {seconds:.1f} s")
        return seconds

    def with_an_object(self):
        m = self.mount()
        os.mkdir(m.point / "local/www")
        return m

    def test_a_store_that_is_none_any_more(self):
        def replace(m):
            (m.folder / "foreign").write_text("not a store\n" * 1000)
            os.replace(m.folder / "foreign", m.folder / "store.db")
            os.unlink(m.folder / "store.db-wal")
            m.kill("store")
        self.gone(self.with_an_object(), replace, "store.db")

    @unittest.skipIf(SANITIZED, "the limit of addresses ends all of it")
    def test_a_store_that_dies_as_it_starts(self):
        def starve(m):  # no room for the memory that it shares with the supervisor
            self.assertTrue(until(m.successors))
            for pid in (m.daemon.pid, *m.successors()):
                resource.prlimit(pid, resource.RLIMIT_AS, (1 << 26, 1 << 26))
            m.kill("store")
        seconds = self.gone(self.with_an_object(), starve,
                            "the store cannot be started: the mount is taken away")
        self.assertGreater(seconds, GONE - 1, "it was given up too soon")

    def test_a_store_that_hangs_as_it_starts(self):
        def stop(m):
            answered = True
            while answered:  # it may be quicker than we are, and is ready only after it answered
                asker = subprocess.Popen(
                    ["sh", "-c", "read _; exec stat \"$0\"", m.point / "local/www/status"],
                    stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                old = m.children("store")
                with m.killed_at("store", asker.pid, LOOKUP):
                    asker.stdin.close()
                self.assertTrue(until(lambda: m.children("store") not in ([], old)))
                m.kill("store", signal.SIGSTOP)
                self.addCleanup(asker.wait)
                answered = until(lambda: asker.poll() is not None, 1)
                if answered:
                    m.kill("store", signal.SIGCONT)
        seconds = self.gone(self.with_an_object(), stop,
                            "the store cannot be started: the mount is taken away")
        self.assertGreater(seconds, GONE - 2, "it was given up too soon")


if __name__ == "__main__":
    main()
