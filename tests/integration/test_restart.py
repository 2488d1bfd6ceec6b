"""The daemon ends, in order or not, while a request is in any of its states: it goes on."""

import contextlib
import os
import pathlib
import signal
import subprocess

from harness import Test, main, until
from scep import Ca, assert_valid


class Restart(Test):
    def setUp(self):
        super().setUp()
        self.m = self.mount()

    def again(self, how):
        """Ends the daemon (SIGTERM), or every process of it at once (SIGKILL), and starts it."""
        if how == signal.SIGKILL:
            self.m.kill_all()
        else:
            self.assertEqual(self.m.stop(), 0)
        self.m.start()

    def asked(self, state, more=""):
        """A request of `www` that has come to STATE."""
        self.certificate_id(self.m, more=more)
        self.m.write("local/www/request", "enroll\n")
        self.assertTrue(until(lambda: self.m.status("local/www")["request"] == state),
                        self.m.status("local/www"))

    def ends_valid(self):
        self.assertTrue(until(lambda: self.m.status("local/www")["state"] == "valid"),
                        self.m.status("local/www"))
        self.assertEqual(self.m.wait("local/www"), "ok")
        assert_valid(self, self.m, "www", version=1)

    def for_both(self, check):
        for how in (signal.SIGTERM, signal.SIGKILL):
            with self.subTest(how.name):
                if (self.m.point / "ca/corp").exists():
                    os.rmdir(self.m.point / "local/www")
                    os.rmdir(self.m.point / "ca/corp")
                check(how)

    @contextlib.contextmanager
    def silent(self, ca):
        """CA takes connections and does not answer."""
        pid = int((ca.folder / "pid").read_text())
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def test_queued(self):
        self.m = self.mount("workers=1")

        def check(how):
            ca = Ca(self)
            self.trusted_profile(self.m, ca.url)
            self.certificate_id(self.m, "first")
            with self.silent(ca):
                self.m.write("local/first/request", "enroll\n")
                self.assertTrue(until(
                    lambda: self.m.status("local/first")["request"] == "running"))
                self.asked("queued")
                self.again(how)
            self.ends_valid()
            self.assertEqual(self.m.wait("local/first"), "ok")
            os.rmdir(self.m.point / "local/first")

        self.for_both(check)

    def test_running(self):
        def check(how):
            ca = Ca(self)
            self.trusted_profile(self.m, ca.url)
            with self.silent(ca):
                self.asked("running")
                self.assertTrue(until(lambda: self.m.children("enroll")))
                self.again(how)
            self.ends_valid()
            self.assertEqual(len({line.split()[-1] for line in ca.said("received")}), 1)

        self.for_both(check)

    def test_while_its_key_is_made(self):
        def check(how):
            ca = Ca(self)
            self.trusted_profile(self.m, ca.url)
            self.asked("running", "key-size = 4096\n")
            self.again(how)
            self.ends_valid()
            self.assertEqual(self.m.status("local/www")["key"], "rsa 4096")

        self.for_both(check)

    def test_pending(self):
        def check(how):
            ca = Ca(self, "-w", 2)
            self.trusted_profile(self.m, ca.url, more="enrollment-retry-interval = 3600\n")
            self.asked("waiting")
            self.assertEqual(self.m.status("local/www")["next-action"], "poll the CA")
            key = self.m.read("local/www/key.pem")
            self.again(how)
            self.assertEqual(self.m.status("local/www")["next-action"], "poll the CA")
            self.m.write("ca/corp/config",
                         f"enrollment-url = {ca.url}\nenrollment-retry-interval = 0\n")
            self.ends_valid()
            self.assertEqual(self.m.read("local/www/key.pem"), key)
            self.assertEqual(len(ca.said("received PKCSReq")), 1)
            self.assertEqual(len(ca.said("received CertPoll")), 2)
            self.assertEqual(len({line.split()[-1] for line in ca.said("received")}), 1)

        self.for_both(check)

    def test_waiting_for_the_next_try(self):
        def check(how):
            ca = Ca(self)
            self.trusted_profile(self.m, ca.url)
            ca.stop()
            self.asked("waiting")
            self.again(how)
            status = self.m.status("local/www")
            self.assertIn(status["request"], ("waiting", "running"))
            self.assertNotEqual(status["last-error"], "")
            ca.start()
            self.ends_valid()
            self.assertEqual(len(ca.said("received PKCSReq")), 1)

        self.for_both(check)

    def test_an_answer_that_was_lost(self):
        def check(how):
            once = self.folder / f"once-{how.name}"
            once.write_text("secret\n")
            ca = Ca(self, "-1", once, "-k", 1)
            self.trusted_profile(self.m, ca.url)
            self.asked("waiting")
            self.again(how)
            self.ends_valid()
            self.assertEqual(len(ca.said("received PKCSReq")), 1)

        self.for_both(check)

    def test_done(self):
        def check(how):
            ca = Ca(self)
            self.trusted_profile(self.m, ca.url)
            self.certificate_id(self.m)
            self.assertEqual(self.m.request("local/www", "enroll"), "ok")
            files = ("local/www/bundle.pem", "local/www/config", "local/www/request",
                     "ca/corp/cert.pem", "ca/corp/config", "local/www/versions/1/bundle.pem")
            before = {path: self.m.read(path) for path in files}
            status, events = self.m.status("local/www"), self.m.read("events")
            self.again(how)
            for path in files:
                self.assertEqual(self.m.read(path), before[path], path)
            self.assertEqual(self.m.status("local/www"), status)
            self.assertTrue(self.m.read("events").startswith(events))
            self.assertEqual(self.m.wait("local/www"), "ok")

        self.for_both(check)

    def test_a_renewal_with_a_new_key(self):
        def check(how):
            ca = Ca(self)
            self.trusted_profile(self.m, ca.url)
            self.certificate_id(self.m)
            self.assertEqual(self.m.request("local/www", "enroll"), "ok")
            old = self.m.read("local/www/bundle.pem")
            ca.restart("-w", 2)
            self.m.write("local/www/request", "action = re-enroll\nre-generate-keypair = yes\n")
            self.assertTrue(until(lambda: self.m.status("local/www")["request"] == "waiting"))
            self.again(how)
            self.assertEqual(self.m.read("local/www/bundle.pem"), old)
            self.assertTrue(until(lambda: self.m.status("local/www")["version"] == "2"))
            assert_valid(self, self.m, "www", version=2)
            self.assertNotEqual(self.m.read("local/www/bundle.pem"), old)
            self.assertEqual(len(ca.said("received RenewalReq")), 1)

        self.for_both(check)

    def test_what_was_acknowledged_is_there(self):
        for i in range(10):
            name = f"host{i}"
            os.mkdir(self.m.point / "local" / name)
            self.m.write(f"local/{name}/config", f"subject = CN={name}\n")
            self.again(signal.SIGKILL)
            for j in range(i + 1):
                self.assertEqual(self.m.read(f"local/host{j}/config"), f"subject = CN=host{j}\n")


def keys_of(mount):
    """Its keys process, found as soon as it runs: it is at work for a moment only."""
    listed = pathlib.Path(f"/proc/{mount.daemon.pid}/task/{mount.daemon.pid}/children")
    if not listed.exists():  # as the kernel was built
        return mount.children("keys")
    found = []
    for pid in listed.read_text().split():
        with contextlib.suppress(OSError):
            if b"--keys" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(int(pid))
    return found


class Start(Test):
    def serves_without_its_keys(self):
        """Whether a new store answers while its keys process is stopped. (It may have been too late
        to stop it.)"""
        m = self.mount(start=False)
        m.under = ("nice", "-n", "19")  # so that we are there in time on a busy machine, too
        m.spawn()
        while not (found := keys_of(m)):
            pass
        os.kill(found[0], signal.SIGSTOP)
        listing = subprocess.Popen(["ls", m.point], stdout=subprocess.PIPE)
        with listing:
            try:
                listing.wait(1.5)
                return b"README" in listing.stdout.read()
            except subprocess.TimeoutExpired:
                return False
            finally:
                os.kill(found[0], signal.SIGCONT)
                self.assertTrue(until(m.is_mounted))

    def test_nothing_is_served_before_the_store_key_is_known(self):
        """What came so early was run once more when it was."""
        self.assertTrue(any(not self.serves_without_its_keys() for _ in range(10)))


if __name__ == "__main__":
    main()
