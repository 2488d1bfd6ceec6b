"""The tree: its rows, names, attributes, owners, and what may not be done in it."""

import errno
import json
import os
import pathlib
import select
import stat
import subprocess
import time
import unittest

from harness import BIN, Test, main, run, shell, until


class Tree(Test):
    def test_every_file_is_there_with_its_mode(self):
        m = self.mount()
        self.assertEqual(sorted(os.listdir(m.point)),
                         ["README", "acme-challenge", "ca", "events", "ipsec", "local", "metrics",
                          "status", "status.json", "watch"])
        os.mkdir(m.point / "ca/corp")
        os.mkdir(m.point / "local/www")
        os.mkdir(m.point / "ipsec/berlin")
        modes = {"config": 0o640, "request": 0o640, "status": 0o644, "wait": 0o644}
        for kind, more in (("ca/corp", {"confirm": 0o200, "verify": 0o644}),
                           ("local/www", {"versions": 0o755}), ("ipsec/berlin", {})):
            self.assertEqual(sorted(os.listdir(m.point / kind)), sorted({**modes, **more}))
            for name, mode in {**modes, **more}.items():
                self.assertEqual(stat.S_IMODE(os.stat(m.point / kind / name).st_mode), mode, name)

    @unittest.skipUnless(os.geteuid() == 0, "needs another user")
    def test_a_folder_s_mode_leaves_the_owners_of_its_files(self):
        folder = self.mount().point / "local/moded"
        os.mkdir(folder)
        os.chown(folder / "config", 65534, 65534)
        os.chmod(folder, 0o750)
        self.assertEqual(os.stat(folder / "config").st_uid, 65534)
        self.assertEqual(os.stat(folder).st_mode & 0o777, 0o750)
        os.chown(folder, 1, 1)
        self.assertEqual(os.stat(folder / "config").st_uid, 1)

    def test_owner_and_mode_are_kept_and_never_too_wide(self):
        m = self.mount()
        os.mkdir(m.point / "local/www")
        os.chmod(m.point / "local/www/config", 0o660)
        with self.assertRaises(PermissionError):
            os.chmod(m.point / "local/www/status", 0o666)
        if os.geteuid() == 0:
            os.chown(m.point / "local/www", 12, 13)
        m.stop()
        m.start()
        got = os.stat(m.point / "local/www/config")
        self.assertEqual(stat.S_IMODE(got.st_mode), 0o660)
        if os.geteuid() == 0:
            self.assertEqual((got.st_uid, got.st_gid), (12, 13))

    def test_removing(self):
        m = self.mount()
        os.mkdir(m.point / "ca/corp")
        os.mkdir(m.point / "local/www")
        m.write("local/www/config", "ca-profile = corp\n")
        with self.assertRaises(OSError) as caught:
            os.rmdir(m.point / "ca/corp")
        self.assertEqual(caught.exception.errno, errno.EBUSY)
        self.assertEqual(m.status("ca/corp")["last-error"], "ca corp is in use by local www")
        self.assertEqual(run("rm", "-r", m.point / "local/www").stderr, "")
        self.assertEqual(run("rm", "-r", m.point / "ca/corp").stderr, "")
        self.assertEqual(os.listdir(m.point / "ca") + os.listdir(m.point / "local"), [])
        os.mkdir(m.point / "local/www")
        self.assertEqual(m.read("local/www/config"), "")

    def test_status_is_text_and_json(self):
        m = self.mount()
        os.mkdir(m.point / "ca/corp")
        os.mkdir(m.point / "local/www")
        whole = json.loads(m.read("status.json"))
        self.assertEqual(whole["ca"][0]["name"], "corp")
        self.assertEqual(whole["local"][0]["state"], "empty")
        self.assertEqual(list(m.status("local/www"))[:3], ["state", "since", "last-error"])
        self.assertEqual(len(m.read("status").splitlines()), 3)
        self.assertEqual(os.stat(m.point / "status").st_size, len(m.read("status")))

    def test_metrics_are_openmetrics(self):
        try:
            from prometheus_client.openmetrics import parser
        except ImportError:
            self.skipTest("there is no python3-prometheus-client")
        m = self.mount()
        for path in ("ca/corp", "ipsec/berlin"):
            os.mkdir(m.point / path)
        m.self_signed("www")
        families = {family.name: family.samples
                    for family in parser.text_string_to_metric_families(m.read("metrics"))}
        self.assertEqual([sample.labels for sample in families["pkifs_state"]],
                         [{"kind": "ca", "name": "corp", "state": "empty"},
                          {"kind": "local", "name": "www", "state": "valid"},
                          {"kind": "ipsec", "name": "berlin",
                           "state": m.status("ipsec/berlin")["state"]}])
        request, = families["pkifs_request"]
        self.assertEqual(request.labels, {"kind": "local", "name": "www", "request": "done"})
        end, = families["pkifs_not_after_timestamp_seconds"]
        self.assertEqual(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(end.value)),
                         m.status("local/www")["not-after"])
        os.rmdir(m.point / "local/www")
        self.assertNotIn('name="www"', m.read("metrics"))

    def test_watch_tells_what_comes_and_events_what_came(self):
        m = self.mount()
        os.mkdir(m.point / "local/before")
        watcher = subprocess.Popen(["cat", m.point / "watch"], stdout=subprocess.PIPE, text=True)
        self.addCleanup(watcher.wait)
        self.addCleanup(watcher.kill)
        self.addCleanup(watcher.stdout.close)
        time.sleep(0.5)
        os.mkdir(m.point / "local/after")
        event = json.loads(watcher.stdout.readline())
        self.assertEqual((event["event"], event["name"]), ("created", "after"))
        names = [json.loads(line)["name"] for line in m.read("events").splitlines()]
        self.assertEqual(names, ["before", "after"])

    def test_tail_follows_events(self):
        m = self.mount()
        os.mkdir(m.point / "local/a")
        tail = subprocess.Popen(["tail", "-n1", "-f", "-s0.1", m.point / "events"],
                                stdout=subprocess.PIPE, text=True)
        self.addCleanup(tail.wait)
        self.addCleanup(tail.kill)
        self.addCleanup(tail.stdout.close)
        self.assertEqual(json.loads(tail.stdout.readline())["name"], "a")
        os.mkdir(m.point / "local/b")
        self.assertEqual(json.loads(tail.stdout.readline())["name"], "b")

    def test_poll_on_watch(self):
        m = self.mount()
        with open(m.point / "watch", "rb", buffering=0) as watch:
            poll = select.poll()
            poll.register(watch, select.POLLIN)
            self.assertEqual(poll.poll(200), [])
            os.mkdir(m.point / "local/a")
            self.assertEqual(poll.poll(5000), [(watch.fileno(), select.POLLIN)])
            self.assertIn(b"created", watch.read(4096))
            self.assertEqual(poll.poll(200), [])

    def test_a_waiting_reader_dies_when_it_is_killed(self):
        m = self.mount()
        reader = subprocess.Popen(["cat", m.point / "watch"])
        time.sleep(0.5)
        reader.kill()
        self.assertIsNotNone(reader.wait(2))

    def test_everything_ends_but_watch(self):
        m = self.mount()
        os.mkdir(m.point / "ca/corp")
        os.mkdir(m.point / "local/www")
        self.assertEqual(run("df", m.point, timeout=5).returncode, 0)
        self.assertIn("pkifs", run("df", m.point).stdout)
        done = shell(f"cd {m.point} && grep -r zzz ca local status README; ls -lR . | wc -l;"
                     f"cp -a ca local {self.folder}", timeout=20)
        self.assertGreater(int(done.stdout), 10)
        self.assertIn("state", (self.folder / "local/www/status").read_text())

    def test_another_user_sees_but_does_not_read(self):
        if os.geteuid() != 0:
            self.skipTest("needs root")
        m = self.mount()
        os.mkdir(m.point / "local/www")
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        self.assertEqual(run(*nobody, "cat", m.point / "local/www/status").returncode, 0)
        self.assertNotEqual(run(*nobody, "cat", m.point / "local/www/config").returncode, 0)
        self.assertNotEqual(run(*nobody, "mkdir", m.point / "local/x").returncode, 0)


class Starting(Test):

    def test_background_start_returns_when_the_mount_answers(self):
        m = self.mount(start=False)
        done = run(BIN / "pkifsd", "-s", m.folder / "store.db", "-o",
                   f"store-key={m.folder / 'store.key'}",
                   *(["-o", "privilege-separation=no"] if os.geteuid() == 0 else []), m.point)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue((m.point / "README").exists())
        run("fusermount3", "-u", m.point)
        self.assertTrue(until(lambda: run("pgrep", "-f", f"pkifsd .*{m.point}").returncode == 1))

    def test_privilege_separation(self):
        users = ("pkifs", "pkifs-net")
        if os.geteuid() != 0:
            self.skipTest("needs root")
        for user in users:
            if run("id", user).returncode != 0:
                run("useradd", "--system", "--no-create-home", user)
                self.addCleanup(run, "userdel", user)
        m = self.mount("store=%s/var/store.db" % self.folder, "privilege-separation=yes",
                       start=False)
        m.start()
        os.mkdir(m.point / "local/www")
        m.write("local/www/config", "subject = CN=x\n")
        self.assertEqual(m.request("local/www", "generate-self-signed"), "ok")
        for role, user, rights in (("store", "pkifs", 0), ("keys", "pkifs", 0),
                                   ("enroll", "pkifs-net", 0), ("publisher", "root", 2)):
            for pid in m.children(role):
                lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
                status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
                self.assertEqual(status["Uid"].split()[1], run("id", "-u", user).stdout.strip())
                self.assertEqual(int(status["CapEff"], 16), rights, role)
                self.assertEqual(status["NoNewPrivs"], "1")
            self.assertTrue(m.children(role), role)
        self.assertEqual(run("umount", m.point).returncode, 0)
        self.assertEqual(m.daemon.wait(10), 0)
        m.daemon = None


if __name__ == "__main__":
    main()
