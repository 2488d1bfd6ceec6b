"""A daemon's whole life under valgrind, which has nothing to say."""

import os
import pathlib
import shutil
import signal
import unittest

os.environ.setdefault("PATIENCE", "300")  # valgrind is slow, a busy machine makes it slower
# vgdb finds a process by these and its number; what pkifsd starts has none of them
for variable in ("USER", "LOGNAME", "HOST"):
    os.environ.pop(variable, None)

from harness import BIN, RSA_KEY, SANITIZED, Test, main, many, run, until
from scep import Ca, assert_valid

SUPPRESSIONS = pathlib.Path(__file__).resolve().parent.parent / "valgrind.supp"
VALGRIND = ("valgrind", "-q", "--trace-children=yes", "--error-exitcode=99",
            "--read-inline-info=no", f"--suppressions={SUPPRESSIONS}")
MEMORY = ("--leak-check=full", "--show-leak-kinds=definite,possible",
          "--errors-for-leak-kinds=definite,possible")
THREADS = ("--tool=helgrind",)
# What valgrind says of a system call that it does not know: the program sees ENOSYS.
UNKNOWN_CALL = ("WARNING: unhandled", "You may be able to write", "Read the file README_MISSING",
                "Nevertheless we consider", "it at http://valgrind.org")


@unittest.skipUnless(shutil.which("valgrind"), "valgrind is not installed")
@unittest.skipIf(SANITIZED, "the sanitizers watch already")
class Valgrind(Test):
    maxDiff = None  # all that it says
    def setUp(self):
        super().setUp()
        self.logs = self.folder / "valgrind"
        self.logs.mkdir()

    def words(self, tool=MEMORY):
        return (*VALGRIND, *tool, f"--log-file={self.logs}/%p", self.pipes())

    def pipes(self):
        """Where vgdb and the processes meet; by default their TMPDIR, which is not the same."""
        return f"--vgdb-prefix={self.folder}/vgdb"

    def assert_silent(self):
        """What valgrind said of any process."""
        for log in sorted(self.logs.iterdir()):
            said = [line for line in log.read_text(errors="replace").splitlines()
                    if not any(words in line for words in UNKNOWN_CALL)]
            self.assertEqual("\n".join(said), "")

    def watched_mount(self, tool=MEMORY):
        """A mount whose processes all run under valgrind: its pkifsd is a program of our own."""
        folder = self.folder / "bin"
        folder.mkdir()
        wrapper = folder / "pkifsd"
        wrapper.write_text(f"#!/bin/sh\nexec {' '.join(self.words(tool))} "
                           f"{BIN.parent}/tests/pkifsd-patient \"$@\"\n")
        wrapper.chmod(0o755)
        m = self.mount(start=False)
        m.programs = folder
        return m.start()

    def end(self, mount):
        """Ends the daemon. What its processes have lost is asked before: one that is killed has no
        last word."""
        children = pathlib.Path(f"/proc/{mount.daemon.pid}/task/{mount.daemon.pid}/children")
        for pid in children.read_text().split():
            # one that has just begun is not to be asked yet, and one may end meanwhile
            self.assertTrue(until(lambda pid=pid: self.is_whole(pid) or
                                  not os.path.exists(f"/proc/{pid}")), pid)
        code = mount.stop()
        self.assert_silent()
        self.assertEqual(code, 0)

    def is_whole(self, pid):
        """Whether process PID could be asked, and has lost nothing."""
        done = run("vgdb", self.pipes(), f"--pid={pid}", "leak_check", "full", "definiteleak",
                   timeout=600)
        self.assertNotIn("definitely lost", done.stdout)
        return done.returncode == 0

    @staticmethod
    def read_all(mount):
        for folder, _, names in os.walk(mount.point):
            for name in names:
                if name not in ("watch", "wait", "confirm"):
                    (pathlib.Path(folder) / name).read_bytes()

    @unittest.skipIf(many(100) < 100, "minutes: in the full runs")
    def test_a_whole_life(self):
        ca = Ca(self)
        m = self.watched_mount()
        self.trusted_profile(m, ca.url)
        self.certificate_id(m)
        self.ready_key(m, "www", *RSA_KEY)
        self.assertEqual(m.request("local/www", "enroll"), "ok")
        self.assertEqual(m.request("local/www", "re-enroll"), "ok")
        self.assertEqual(m.request("ca/corp", "refresh-crl"), "ok")
        assert_valid(self, m, "www", version=2)
        os.mkdir(m.point / "local/own")
        m.write("local/own/config", "subject = CN=own\nkey-type = ecdsa\n")
        for action in ("generate-csr", "generate-self-signed", "generate-self-signed"):
            self.assertEqual(m.request("local/own", action), "ok")
        self.read_all(m)
        m.write("local/own/key.pem", m.read("local/www/key.pem"))
        with open(m.point / "local/own/notes", "w") as notes:
            notes.write("a temporary file")
        os.chmod(m.point / "local/own/key.pem", 0o640)
        for file, text in (("request", "fly\n"), ("config", "key-size = 1\n"),
                           ("cert.pem", "-----BEGIN CERTIFICATE-----\nno\n")):
            with self.assertRaises(OSError):
                m.write(f"local/own/{file}", text)
        with open(m.point / "ca/corp/crl.pem") as crl:
            m.write("ca/corp/crl.pem", crl.read())
        ca.restart("-R", "2")
        self.assertIn("the CA refuses", m.request("local/www", "re-enroll"))
        ca.restart("-a", "html")
        self.assertIn("failed: ", m.request("local/www", "re-enroll"))
        self.assertTrue(until(lambda: m.status("local/www")["request"] == "waiting"))
        m.write("local/www/request", "cancel\n")
        self.assertEqual(m.wait("local/www"), "failed: cancelled")
        os.rmdir(m.point / "local/own")
        self.end(m)

    def test_a_store_that_is_killed(self):
        """Its successor takes over what was open and under way."""
        m = self.watched_mount()
        os.mkdir(m.point / "local/own")
        with open(m.point / "local/own/config", "w") as config:
            config.write("subject = CN=own\n")
            m.kill("store", signal.SIGKILL)
            config.write("key-type = ecdsa\n")
        self.assertEqual(m.request("local/own", "generate-self-signed"), "ok")
        self.read_all(m)
        with self.assertRaises(OSError):
            m.write("local/own/request", "fly\n")
        self.end(m)

    def test_the_thread_that_resolves_names(self):
        """The only second thread there is, libcurl's in a worker: helgrind has nothing to say."""
        m = self.watched_mount(THREADS)
        for name in ("nobody", "nowhere"):
            os.mkdir(m.point / "ca" / name)
            m.write(f"ca/{name}/config", f"enrollment-url = http://{name}.invalid/scep\n")
            self.assertIn("cannot reach", m.request(f"ca/{name}", "enroll"))
        self.assertEqual(m.stop(), 0)
        self.assert_silent()


if __name__ == "__main__":
    main()
