"""Each way in which people and programs write a file, and what a reader sees meanwhile."""

import errno
import os
import subprocess
import unittest

from harness import Test, main, run, shell, until

URL = "enrollment-url = http://127.0.0.1:9/scep\n"


class Writing(Test):
    def setUp(self):
        super().setUp()
        self.m = self.mount()
        os.mkdir(self.m.point / "ca/corp")
        self.config = self.m.point / "ca/corp/config"
        self.source = self.folder / "source"
        self.source.write_text("# from a file\n" + URL)

    def test_ways_of_writing(self):
        for way in (f"cp {self.source} config", f"cat {self.source} > config",
                    f"tee config < {self.source} > /dev/null",
                    f"install -m 640 {self.source} config",
                    f"cp --remove-destination {self.source} config",
                    f"cp {self.source} x.tmp && mv x.tmp config",
                    f"dd if={self.source} of=config bs=7 status=none",
                    f"python3 -c 'open(\"config\", \"w\").write(open(\"{self.source}\").read())'",
                    f"rm config; cp {self.source} config",
                    f"bash -c 'while read -r line; do echo \"$line\"; done < {self.source} > config'"):
            self.m.write("ca/corp/config", "ca-identity = before\n")
            done = shell(f"cd {self.m.point}/ca/corp && {way}")
            self.assertEqual((done.returncode, done.stderr), (0, ""), way)
            self.assertEqual(self.config.read_text(), self.source.read_text(), way)
            self.assertEqual(self.config.stat().st_size, self.source.stat().st_size, way)

    def test_editors(self):
        self.config.write_text(URL + "ca-identity = before\n")
        done = shell(f"cd {self.m.point}/ca/corp && sed -i s/before/after/ config")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(self.config.read_text(), URL + "ca-identity = after\n")
        if not shell("command -v vim.tiny").stdout:
            self.skipTest("vim.tiny is not installed")
        for options in ("", "set backup", "set nowritebackup", "set backupcopy=yes"):
            done = run("vim.tiny", "-n", "-es", "-u", "NONE", "-c", options, "-c",
                       "%s/after/vim/e", "-c", "wq", self.config)
            self.assertEqual(self.config.read_text(), URL + "ca-identity = vim\n", options)
            self.config.write_text(URL + "ca-identity = after\n")

    def test_appending_and_truncating(self):
        self.config.write_text(URL)
        shell(f"echo 'ca-identity = x' >> {self.config}")
        self.assertEqual(self.config.read_text(), URL + "ca-identity = x\n")
        self.config.write_text(URL.strip())
        shell(f"echo 'ca-identity = x' >> {self.config}")
        self.assertEqual(self.config.read_text(), URL + "ca-identity = x\n")
        os.truncate(self.config, 0)
        self.assertEqual(self.config.read_text(), "")
        self.config.write_text(URL)
        self.assertEqual(shell(f": > {self.config}").returncode, 0)
        # nothing was written, so the last close counts, and the kernel tells of it when it likes
        self.assertTrue(until(lambda: self.config.read_text() == ""))

    def test_what_is_wrong_is_said_where_it_is_written(self):
        self.config.write_text(URL)
        done = shell(f"echo 'enrollment-retry = 101' > {self.config}")
        self.assertIn("Invalid argument", done.stderr)
        words = "line 1: enrollment-retry takes 0 to 100 times, not \"101\""
        self.assertEqual(os.getxattr(self.config, "user.pkifs.error").decode(), words)
        self.assertEqual(self.m.status("ca/corp")["last-error"], words)
        self.assertEqual(self.config.read_text(), URL)
        for command in ("cp /etc/passwd config", "cat /etc/passwd > config",
                        "tee config < /etc/passwd", "cp /etc/passwd t; mv t config",
                        "echo 'tls-ca = nobody' > config"):
            done = shell(f"cd {self.m.point}/ca/corp && {command}")
            self.assertRegex(done.stderr, "Invalid argument|Bad message", command)
            self.assertEqual(self.config.read_text(), URL, command)

    def test_one_request_of_many_writes(self):
        os.mkdir(self.m.point / "local/www")
        script = ("{ echo 'action = generate-key-pair'; date > /dev/null; echo '# later';"
                  f" echo 'key-type = ecdsa'; }} > {self.m.point}/local/www/request")
        for sh in ("bash", "dash"):
            before = self.m.read("events").count('"request"')
            self.assertEqual(run(sh, "-c", script).stderr, "")
            self.assertEqual(self.m.wait("local/www"), "ok")
            self.assertEqual(self.m.read("events").count('"request"'), before + 1)
        self.assertEqual(self.m.status("local/www")["key"], "ecdsa 256")

    def test_an_open_reader_keeps_its_text(self):
        self.config.write_text(URL)
        with open(self.config) as reader:
            self.assertEqual(reader.read(4), URL[:4])
            shell(f"echo 'ca-identity = other' > {self.config}")
            self.assertEqual(reader.read(), URL[4:])
            self.assertEqual(os.fstat(reader.fileno()).st_size, len(URL))
        self.assertEqual(self.config.read_text(), "ca-identity = other\n")

    def test_unlinking_changes_nothing_for_others(self):
        self.config.write_text(URL)
        script = (f"import os; os.unlink('{self.config}'); print(os.path.exists('{self.config}'));"
                  f"print(open('/proc/1/cmdline').read() and os.system('cat {self.config}'))")
        done = run("python3", "-c", script)
        self.assertIn("False", done.stdout)
        self.assertIn(URL, done.stdout)
        self.assertEqual(self.config.read_text(), URL)

    def test_secrets_are_shown_as_stars_and_may_be_written_back(self):
        os.mkdir(self.m.point / "local/www")
        path = self.m.point / "local/www/config"
        path.write_text("# mine\nca-profile = corp\nchallenge-password = hunter2\n")
        self.assertEqual(path.read_text(), "# mine\nca-profile = corp\nchallenge-password = ***\n")
        path.write_text(path.read_text() + "subject = CN=x\n")
        self.assertIn("challenge-password = ***", path.read_text())
        self.m.stop()
        self.assertIn(b"hunter2", (self.m.folder / "store.db").read_bytes() +
                      b"".join(p.read_bytes() for p in self.m.folder.glob("store.db-*")))
        self.assertNotIn("hunter2", self.m.log.read_text())

    def test_temporary_names_are_few_and_private(self):
        folder = self.m.point / "ca/corp"
        for number in range(8):
            (folder / f"t{number}").write_text("x" * 1000)
        with self.assertRaises(OSError) as caught:
            (folder / "t8").write_text("x")
        self.assertEqual(caught.exception.errno, errno.ENOSPC)
        self.assertEqual((folder / "t3").read_text(), "x" * 1000)
        self.assertNotIn("t3", os.listdir(folder))
        for number in range(8):
            (folder / f"t{number}").unlink()
        self.assertFalse((folder / "t3").exists())

    def test_temporary_names_go_with_their_folder(self):
        """There is room for 64 in all: those of a folder that is gone must not fill it."""
        for _ in range(65):
            os.mkdir(self.m.point / "ca/guest")
            (self.m.point / "ca/guest/notes").write_text("x")
            os.rmdir(self.m.point / "ca/guest")

    def test_a_second_request_is_busy(self):
        self.config.write_text(URL + "enrollment-retry-interval = 3600\n")
        self.m.write("ca/corp/request", "enroll\n")
        self.assertTrue(self.m.wait("ca/corp").startswith("failed: "))
        with self.assertRaises(OSError) as caught:
            self.m.write("ca/corp/request", "enroll\n")
        self.assertEqual(caught.exception.errno, errno.EBUSY)
        self.m.write("ca/corp/request", "cancel\n")
        self.assertEqual(self.m.wait("ca/corp"), "failed: cancelled")


if __name__ == "__main__":
    main()
