"""
A process of the daemon is killed while the store has taken a request and done nothing about it
yet: who made the request gets the right answer, and those around it notice nothing.
"""

import contextlib
import itertools
import multiprocessing
import os

import readers
from harness import LOOKUP, OPEN, PAUSE, READ, ROLES, WRITE, Test, main, many, run, until

KILLS = many(100)  # of each process with each kind of request


class Caller(multiprocessing.Process):
    """Does on demand one of the things in CALLS, in a process that makes no other request."""

    def __init__(self, calls):
        super().__init__(daemon=True)
        self.calls = calls
        self.ours, self.its = multiprocessing.Pipe()

    def run(self):
        with contextlib.suppress(EOFError):
            while True:
                call, *arguments = self.its.recv()
                try:
                    wrong = self.calls[call](*arguments)
                except OSError as error:
                    wrong = repr(error)
                self.its.send(wrong)

    def ask(self, *call):
        self.ours.send(call)

    def answer(self):
        """What was wrong, or None."""
        return self.ours.recv() if self.ours.poll(readers.HANG) else "it hangs"


def pairs(folder):
    """Two keys, and two certificates of the first, in PEM."""
    for name in ("key0", "key1"):
        run("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-out", folder / name)
    certificates = [run("openssl", "req", "-x509", "-key", folder / "key0", "-days", "9",
                        "-subj", f"/CN=loaded {i}").stdout for i in range(2)]
    return [(folder / name).read_text() for name in ("key0", "key1")], certificates


class Taken(Test):
    def setUp(self):
        super().setUp()
        self.m = self.mount()
        for name in ("written", "imported", "loaded", "asked"):
            os.mkdir(self.m.point / "local" / name)
        self.m.write("local/asked/config", "subject = CN=asked\nkey-type = ecdsa\n")
        self.keys, self.certificates = pairs(self.folder)
        self.m.write("local/loaded/key.pem", self.keys[0])
        self.work_for("enroll")
        # a traced store is slow: without a pause the one request that counts would wait for theirs
        self.looking = readers.start(*readers.around(self.m), pause=PAUSE or 0.02)
        key = self.m.read("local/www/key.pem")
        self.caller = Caller({
            LOOKUP: lambda: readers.status_of(self.m.point / "local/www/status"),
            OPEN: lambda: readers.content_of(self.m.point / "local/www/key.pem", key),
            READ: lambda: readers.content_of(self.m.point / "local/www/key.pem", key),
            WRITE: self.m.write})
        self.caller.start()
        self.addCleanup(self.caller.kill)

    def texts(self):
        """What to write, round and round: (file, text, what must hold once it is written)."""
        for i in itertools.count():
            config = f"subject = CN=host{i}\n"
            for path, text in (("local/written/config", config),
                               ("local/imported/key.pem", self.keys[i % 2]),
                               ("local/loaded/cert.pem", self.certificates[i % 2])):
                yield path, text, lambda path=path, text=text: self.m.read(path) == text
            yield "local/asked/request", "generate-csr\n", lambda: self.done("asked")

    def done(self, name):
        status = self.m.status(f"local/{name}")
        return status["request"] == "done" and status["last-error"] == ""

    def work_for(self, role):
        """Whatever makes the store start its process of ROLE."""
        if role == "enroll":
            self.m.write("local/asked/request", "generate-csr\n")
            self.assertTrue(until(lambda: self.done("asked")), self.m.status("local/asked"))
        if role == "publisher":
            self.m.write("local/loaded/cert.pem", self.certificates[0])

    def kill(self, role, opcode, *arguments):
        """Kills the process of ROLE when the store has taken the caller's request OPCODE."""
        if not self.m.children(role):
            self.work_for(role)
        with self.m.killed_at(role, self.caller.pid, opcode):
            self.caller.ask(opcode, *arguments)
        self.assertIsNone(self.caller.answer(), f"{role} killed in {opcode} {arguments[:1]}")

    def kills(self, opcode):
        texts, count = self.texts(), 0
        for role in ROLES:
            for _ in range(KILLS):
                if opcode == WRITE:
                    path, text, holds = next(texts)
                    self.kill(role, WRITE, path, text)
                    self.assertTrue(until(holds), f"{role} killed: {path} is not what was written")
                else:
                    self.kill(role, opcode)
                count += 1
        print(f"{count} kills; {readers.told(readers.finish(self, self.looking))}")

    def test_a_lookup(self):
        self.kills(LOOKUP)

    def test_an_open(self):
        self.kills(OPEN)

    def test_a_read(self):
        self.kills(READ)

    def test_a_write(self):
        self.kills(WRITE)


if __name__ == "__main__":
    main()
