"""The walls, and the kills of test_taken.py and test_kill.py, on another kernel: user-mode-linux's
6.1, which has no Landlock."""

import os
import shutil
import subprocess
import unittest

import harness
from harness import BIN, LAB, SANITIZED, many

HERE = LAB.parent / "integration"
# A process takes ten times as long there as here: the check does little of it.
GUEST_SHARE = many(harness.SHARE)
ALL = GUEST_SHARE == 100
LIMIT = 7000 if ALL else 280


@unittest.skipUnless(os.geteuid() == 0 and shutil.which("linux.uml"), "needs user-mode-linux, root")
@unittest.skipIf(SANITIZED, "a guest has not the address space")
class Uml(unittest.TestCase):
    def in_guest(self, file, *tests):
        """Runs TESTS of FILE, which must pass. Readers pause there: its one CPU is a slow one."""
        settings = (f"PKIFS_BIN={BIN}", f"SHARE={GUEST_SHARE}", "PAUSE=0.3", "PATIENCE=120")
        done = subprocess.run(
            [LAB / "uml-run", "-t", str(LIMIT), "-r", HERE.parent.parent, "-r", BIN, "env",
             *settings, "python3", "-B", file, *tests],
            cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        print(done.stdout)
        self.assertEqual(done.returncode, 0)

    def test_the_walls_of_seccomp_alone(self):
        self.in_guest("test_walls.py")

    def test_a_process_killed_when_a_request_is_taken(self):
        some = () if ALL else ("Taken.test_an_open", "Taken.test_a_write")
        self.in_guest("test_taken.py", *some)

    @unittest.skipUnless(ALL, "takes long")
    def test_any_process_killed_at_any_instant(self):
        self.in_guest("test_kill.py", "Enrollments.test_any_process_at_any_instant")


if __name__ == "__main__":
    unittest.main(verbosity=2)
