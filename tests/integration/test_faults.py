"""Stores that die in the middle of what they do, greedy users."""

import os
import pathlib
import resource
import shutil
import signal
import subprocess
import unittest

from harness import PATIENCE, Test, main, run, shell, until
from scep import Ca


@unittest.skipUnless(shutil.which("strace"), "strace is not installed")
class Dying(Test):
    """What a close(2) has acknowledged is there after a kill at any write to the store's file."""

    def setUp(self):
        super().setUp()
        self.m = self.mount()
        os.mkdir(self.m.point / "ca/corp")

    @staticmethod
    def traced_or_gone(pid):
        """The one killed before may be still about to go when the next is looked for."""
        try:
            return "TracerPid:\t0" not in pathlib.Path(f"/proc/{pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return True

    def kill_at(self, call, count, command, role="store"):
        """The command's result; each store (or ROLE) dies at its COUNTth CALL meanwhile."""
        victims = [str(pid) for pid in self.m.children(role)]
        trace = subprocess.Popen(
            ["strace", "-qq", *(f"-p{pid}" for pid in victims), "-o", "/dev/null",
             "-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={count}"],
            stderr=subprocess.DEVNULL)
        try:
            for pid in victims:
                self.assertTrue(until(lambda pid=pid: self.traced_or_gone(pid)))
            done = shell(command, cwd=self.m.point)
        finally:
            trace.terminate()
            trace.wait()
        self.assertTrue(until(lambda: self.m.is_mounted() and self.m.children("store")))
        return done

    def test_a_written_text(self):
        for call, count in (("pwrite64", 1), ("pwrite64", 3), ("fdatasync", 1), ("writev", 4),
                            ("writev", 6), ("writev", 8)):
            text = f"ca-identity = {call}{count}\n"
            done = self.kill_at(call, count, f"printf '{text}' > ca/corp/config")
            self.assertEqual((done.returncode, done.stderr), (0, ""), text)
            self.assertEqual(self.m.read("ca/corp/config"), text)

    def test_a_folder_is_made_and_removed_once(self):
        for number, (call, count) in enumerate((("pwrite64", 1), ("fdatasync", 1))):
            for command in (f"mkdir ca/new{number}", f"rmdir ca/new{number}"):
                done = self.kill_at(call, count, command)
                self.assertEqual((done.returncode, done.stderr), (0, ""), f"{command}, {call}")

    def test_a_text_that_its_opener_does_not_close_last(self):
        for call, count in (("pwrite64", 1), ("pwrite64", 3), ("fdatasync", 1)):
            text = f"ca-identity = last-{call}{count}\n"
            self.kill_at(call, count, "exec 3> ca/corp/config; "
                         f"(sleep 0.2; printf '{text}' >&3; exec 3>&-; sleep 0.5) & exec 3>&-; wait")
            self.assertTrue(until(lambda: self.m.read("ca/corp/config") == text), text)

    def test_an_open_of_what_was_replaced(self):
        """The kernel is told to look again; who dies before it has said so has said nothing."""
        os.mkdir(self.m.point / "local/own")
        self.m.write("local/own/config", "subject = CN=own\nkey-type = ecdsa\n")
        self.assertEqual(self.m.request("local/own", "generate-self-signed"), "ok")
        for count in range(1, 4):
            before = self.m.read("local/own/cert.pem")
            self.m.kill("publisher", signal.SIGSTOP)  # the kernel's name stays the old one's
            self.assertEqual(self.m.request("local/own", "generate-self-signed"), "ok")
            done = self.kill_at("writev", count, "cat local/own/cert.pem")
            self.assertEqual((done.returncode, done.stderr), (0, ""), count)
            self.assertNotEqual(done.stdout, before, count)
            self.assertEqual(done.stdout, self.m.read("local/own/cert.pem"), count)

    def test_a_text_that_comes_by_rename(self):
        for call, count in (("pwrite64", 1), ("pwrite64", 3), ("fdatasync", 1), ("writev", 9)):
            name = f"ca-identity = {call}{count}"
            self.m.write("ca/corp/new", name + "\n")
            done = self.kill_at(call, count, "mv ca/corp/new ca/corp/config")
            self.assertEqual((done.returncode, done.stderr), (0, ""), name)
            self.assertEqual(self.m.read("ca/corp/config"), name + "\n")
            self.assertFalse((self.m.point / "ca/corp/new").exists())

    def test_a_signature_under_way(self):
        """Another keys process makes it, and nobody is told that anything failed."""
        os.rmdir(self.m.point / "ca/corp")
        self.trusted_profile(self.m, Ca(self).url)
        self.certificate_id(self.m)
        self.assertEqual(self.m.request("local/www", "enroll"), "ok")
        died = 0
        for count in range(1, 13):
            keys = self.m.children("keys")
            done = self.kill_at("recvmsg", count, "echo re-enroll > local/www/request; "
                                "cat local/www/wait", "keys")
            self.assertEqual((done.stdout, done.stderr), ("ok\n", ""), count)
            died += self.m.children("keys") != keys
        self.assertGreater(died, 5)


class Renaming(Test):
    def test_a_refused_rename_leaves_the_source(self):
        m = self.mount()
        os.mkdir(m.point / "ca/corp")
        m.write("ca/corp/new", "crl-refresh-interval = never\n")
        with self.assertRaises(OSError):
            os.rename(m.point / "ca/corp/new", m.point / "ca/corp/config")
        self.assertEqual(m.read("ca/corp/new"), "crl-refresh-interval = never\n")
        self.assertEqual(m.read("ca/corp/config"), "")


@unittest.skipUnless(os.geteuid() == 0, "needs another user")
class Greedy(Test):
    def test_nobody_takes_all_open_files(self):
        m = self.mount()
        self.folder.chmod(0o755)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < 20000:
            self.skipTest("few descriptors")
        greedy = (f"import os, resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (20000, {hard}))"
                  f"\nos.setuid(65534)\nn = 0\nheld = []\ntry:\n  while n < 19000:\n"
                  f"    held.append(os.open('{m.point}/README', 0)); n += 1\n"
                  f"except OSError as e:\n  print(n, e.errno, flush=True)\nimport sys; sys.stdin.read()\n")
        with subprocess.Popen(["python3", "-c", greedy], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True) as other:
            self.assertEqual(other.stdout.readline().split(), ["8192", "23"])
            self.assertIn("pkifs", m.read("README"))
            self.assertEqual(run("setpriv", "--reuid", "1", "--clear-groups", "cat",
                                 m.point / "README").returncode, 0)
            other.stdin.close()
            other.wait(PATIENCE)
        self.assertEqual(run("setpriv", "--reuid", "65534", "--clear-groups", "cat",
                             m.point / "README").returncode, 0)


if __name__ == "__main__":
    main()
