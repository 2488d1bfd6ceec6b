"""The programs on the disk are replaced under a daemon that runs: it goes on as the new ones."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess

import readers
from harness import BIN, PATIENCE, Mount, Test, main, many, run, until

UPGRADES = many(200)


class Upgrade(Test):
    def setUp(self):
        super().setUp()
        self.programs = self.folder / "bin"
        shutil.copytree(BIN, self.programs)

    def mount(self, *options, start=True):
        m = super().mount(*options, start=False)
        m.programs = self.programs
        return m.start() if start else m

    def replace(self, program, by):
        """As a package manager does it: the new file is renamed onto the old one."""
        shutil.copy(by, self.programs / "new")
        os.rename(self.programs / "new", self.programs / program)

    def upgrade(self, m):
        """New programs, and the daemon told of them: whether it goes on as the new one."""
        before = m.children("store")
        for program in ("pkifs-enroll", "pkifsd"):
            self.replace(program, BIN / program)
        os.kill(m.daemon.pid, signal.SIGUSR2)
        return until(lambda: self.is_new(m) and m.children("store") not in ([], before))

    @staticmethod
    def is_new(m):
        return not os.readlink(f"/proc/{m.daemon.pid}/exe").endswith(" (deleted)")

    def test_readers_do_not_notice_it(self):
        m = self.mount()
        looking = readers.start(*readers.around(m))
        path = m.point / "local/www/bundle.pem"
        with open(path, "rb", buffering=0) as bundle:
            whole = path.read_bytes()
            for turn in range(UPGRADES):
                self.assertTrue(self.upgrade(m), m.log.read_text())
                self.assertEqual(os.pread(bundle.fileno(), len(whole) + 1, 0), whole, turn)
        print(f"{UPGRADES} upgrades, {readers.told(readers.finish(self, looking))}")
        self.assertEqual(m.stop(), 0)
        self.assertFalse(os.path.ismount(m.point))

    def test_a_writer_goes_on_and_a_waiting_reader_gets_its_answer(self):
        m = self.mount()
        os.mkdir(m.point / "local/other")
        with subprocess.Popen(["head", "-n1", m.point / "watch"], text=True,
                              stdout=subprocess.PIPE) as watcher, \
             open(m.point / "local/other/config", "w") as config:
            self.addCleanup(watcher.kill)
            self.assertTrue(until(lambda: self.has_open(watcher.pid, m.point / "watch")))
            config.write("subject = CN=before\n")
            config.flush()
            self.assertTrue(self.upgrade(m), m.log.read_text())
            config.write("# behind it\n")
            config.close()
            self.assertEqual(m.read("local/other/config"), "subject = CN=before\n# behind it\n")
            os.mkdir(m.point / "local/third")
            self.assertIn('"time"', watcher.communicate(timeout=PATIENCE)[0])

    @staticmethod
    def has_open(pid, path):
        with contextlib.suppress(OSError):
            return str(path) in (os.readlink(fd) for fd in
                                 pathlib.Path(f"/proc/{pid}/fd").iterdir())
        return False

    def test_a_program_that_cannot_go_on_is_not_begun_with(self):
        m = self.mount()
        store, pid = m.children("store"), m.daemon.pid
        broken = self.folder / "broken"
        for text in ("#!/bin/sh\nexit 1\n", "", "#!/nowhere\n"):
            with self.subTest(text):
                before = m.log.read_text().count("cannot go on")
                broken.write_text(text)
                broken.chmod(0o755)
                self.replace("pkifsd", broken)
                os.kill(pid, signal.SIGUSR2)
                self.assertTrue(until(
                    lambda: m.log.read_text().count("cannot go on") == before + 1))
                self.assertEqual(m.children("store"), store)
        self.assertIn("restart pkifsd", m.log.read_text())
        self.assertTrue(self.upgrade(m))

    def test_another_layout_or_a_broken_configuration_is_found_before_it_is_too_late(self):
        def says(*arguments):
            done = run(self.programs / "pkifsd", "--rehearse", *arguments)
            self.assertEqual(done.returncode, 1, done.stderr)
            return done.stderr

        here = ("-f", "-o", "privilege-separation=no", self.folder)
        self.assertIn("another way", says("0-0-0", *here))
        self.assertIn("workers", says("0-0-0", "-o", "workers=none", *here))
        self.assertIn("no user nobody-here", says(
            "0-0-0", "-f", "-o", "privilege-separation=yes", "-o", "user=nobody-here", self.folder))

    def running_on_change(self):
        """A store that waits for the end of a program of on-change: when the file `goes` goes."""
        m = self.mount()
        script, goes, notes = (self.folder / name for name in ("script", "goes", "notes"))
        goes.write_text("")
        script.write_text(f"#!/bin/sh\necho $PKIFS_ID >>{notes}\n"
                          f"while [ -e {goes} ]; do sleep 0.05; done\n")
        script.chmod(0o755)
        os.mkdir(m.point / "local/www")
        m.write("local/www/config",
                f"subject = CN=x\nkey-type = ecdsa\non-change = {script}\n")
        self.assertEqual(m.request("local/www", "generate-self-signed"), "ok")
        self.assertTrue(until(notes.exists))
        return m, script, goes, notes

    def test_what_a_certificate_asked_for_is_run_to_its_end_and_once(self):
        m, _, goes, notes = self.running_on_change()
        self.replace("pkifsd", BIN / "pkifsd")
        os.kill(m.daemon.pid, signal.SIGUSR2)
        self.assertEqual(m.status("local/www")["on-change-status"], "pending")
        self.assertFalse(self.is_new(m))
        goes.unlink()
        self.assertTrue(until(lambda: self.is_new(m)))
        self.assertTrue(until(lambda: m.status("local/www")["on-change-status"] == "done"))
        self.assertEqual(notes.read_text(), "www\n")

    def test_what_came_of_it_is_stored_before_another_program_takes_over(self):
        m, script, goes, notes = self.running_on_change()
        self.replace("pkifsd", BIN / "pkifsd")
        store, = m.children("store")
        os.kill(store, signal.SIGSTOP)  # it hears of the end late
        os.kill(m.daemon.pid, signal.SIGUSR2)
        goes.unlink()
        self.assertTrue(until(lambda: not run("pgrep", "-f", script).stdout))
        self.assertFalse(until(lambda: self.is_new(m), seconds=1))
        os.kill(store, signal.SIGCONT)
        self.assertTrue(until(lambda: self.is_new(m)))
        self.assertTrue(until(lambda: m.status("local/www")["on-change-status"] == "done"))
        self.assertEqual(notes.read_text(), "www\n")

    def test_the_store_is_locked_and_its_mount_kept_whatever_the_configuration_says_by_now(self):
        m = self.mount()
        conf = self.folder / "pkifs.conf"
        conf.write_text(f"store-key = {m.folder}/store.key\nprivilege-separation = no\n")
        m.stop()
        m.options = ()
        with contextlib.chdir(self.folder):  # a relative path is meant from here
            done = run(self.programs / "pkifsd", "-o", f"device-serial={self.folder.name}", "-c",
                       "pkifs.conf", "-s", "m0/store.db", "-o", "log=syslog", "m0/pki")
        self.assertEqual(done.returncode, 0, done.stderr)
        pids = []

        def is_one():  # a process that was just forked looks like the daemon until its own begins
            pids[:] = map(int, run("pgrep", "-f", f"pkifsd .*={self.folder.name}").stdout.split())
            return len(pids) == 1
        self.assertTrue(until(is_one), pids)
        try:
            conf.write_text(f"store = {self.folder}/elsewhere.db\nmount-point = {self.folder}\n"
                            f"store-key = {self.folder}/other.key\nprivilege-separation = no\n")
            for program in ("pkifs-enroll", "pkifsd"):
                self.replace(program, BIN / program)
            os.kill(pids[0], signal.SIGUSR2)
            self.assertTrue(until(lambda: not os.readlink(
                f"/proc/{pids[0]}/exe").endswith("(deleted)")))
            os.mkdir(m.point / "local/www")
            m.write("local/www/config", "subject = CN=www\nkey-type = ecdsa\n")
            self.assertEqual(m.request("local/www", "generate-self-signed"), "ok")
            self.assertFalse((self.folder / "other.key").exists())
            second = Mount(m.folder)
            second.point = self.folder / "second"
            second.point.mkdir()
            self.assertIn("in use by another pkifsd", second.refuses())
        finally:
            os.kill(pids[0], signal.SIGTERM)
        self.assertTrue(until(lambda: not os.path.exists(f"/proc/{pids[0]}")))
        self.assertFalse(os.path.ismount(m.point))

    def test_an_ordinary_user_s_daemon_goes_on_too(self):
        if os.geteuid() != 0 or not shutil.which("setpriv"):
            self.skipTest("needs root, and setpriv")
        m = self.mount(start=False)
        shutil.chown(m.folder, 65534, 65534)
        shutil.chown(m.point, 65534, 65534)
        m.under = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        look = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "ls", m.point)
        m.start(expect=False)
        self.assertTrue(until(lambda: "ca" in run(*look).stdout), m.log.read_text())
        self.assertTrue(self.upgrade(m), m.log.read_text())
        self.assertIn("ca", run(*look).stdout)
        self.assertEqual(m.stop(), 0)
        self.assertFalse(str(m.point) in pathlib.Path("/proc/self/mounts").read_text())


if __name__ == "__main__":
    main()
