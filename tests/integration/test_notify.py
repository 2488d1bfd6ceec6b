"""What the daemon tells the service manager that started it, over a datagram socket as systemd's."""

import os
import pathlib
import shutil
import signal
import socket
import time

from harness import BIN, PATIENCE, Test, main, until

BEAT = 0.4  # seconds of the watchdog: a beat comes four times as often, or at each tick


class Notify(Test):
    def setUp(self):
        super().setUp()
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.manager.close)
        self.manager.settimeout(PATIENCE)

    def started(self, *options, address=None, start=True):
        address = address or str(self.folder / "notify")
        self.manager.bind(address.replace("@", "\0", 1))
        m = self.mount(*options, start=False)
        m.environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": str(int(BEAT * 1e6))}
        if start:
            m.spawn()
        return m

    def told(self, *keys):
        """The next message that has one of KEYS, as a dictionary."""
        while True:
            message = dict(line.split("=", 1)
                           for line in self.manager.recv(4096).decode().splitlines())
            if any(key in message for key in keys):
                return message

    def ready(self):
        message = self.told("READY")
        self.assertEqual(message["READY"], "1")
        return message["STATUS"]

    def silent(self, seconds):
        """Reads away what has come; whether nothing comes in SECONDS after that."""
        self.manager.settimeout(seconds)
        try:
            self.manager.recv(4096)
            return False
        except TimeoutError:
            return True
        finally:
            self.manager.settimeout(PATIENCE)

    def test_it_is_ready_when_the_mount_answers_and_says_when_it_stops(self):
        m = self.started()
        self.assertEqual(self.ready(), f"{m.point} is served")
        self.assertIn("ca", os.listdir(m.point))
        m.daemon.send_signal(signal.SIGTERM)
        self.assertEqual(self.told("STOPPING")["STATUS"], "what runs is parked")
        self.assertEqual(m.daemon.wait(PATIENCE), 0)

    def test_an_abstract_address_is_reached(self):
        self.started(address=f"@pkifs-test-{os.getpid()}-{self.folder.name}")
        self.ready()

    def test_why_it_cannot_start_is_told(self):
        m = self.started(start=False)
        (m.point / "file").touch()
        self.assertIn("is not empty", m.refuses())
        self.assertIn("is not empty", self.told("STATUS")["STATUS"])
        (m.point / "file").unlink()

    def test_its_children_do_not_inherit_the_socket(self):
        m = self.started()
        self.ready()
        self.assertTrue(until(lambda: m.successors() and m.children("keys")))
        for role in ("--store", "keys"):
            for pid in m.children(role):
                self.assertNotIn(b"NOTIFY", pathlib.Path(f"/proc/{pid}/environ").read_bytes())

    def test_it_beats_while_the_store_answers_and_no_longer(self):
        m = self.started()
        self.ready()
        for _ in range(3):
            self.assertEqual(self.told("WATCHDOG")["WATCHDOG"], "1")
        store = m.children("store")[0]
        os.kill(store, signal.SIGSTOP)
        try:
            until(lambda: self.silent(2 * BEAT))
            self.assertTrue(self.silent(4 * BEAT))
        finally:
            os.kill(store, signal.SIGCONT)
        self.told("WATCHDOG")

    def test_a_store_that_died_is_told_of(self):
        m = self.started()
        self.ready()
        m.kill("store")
        self.assertIn("is started again", self.told("STATUS")["STATUS"])
        self.assertEqual(self.ready(), f"{m.point} is served")
        self.told("WATCHDOG")

    def test_a_reload_begins_and_ends(self):
        m = self.started()
        self.ready()
        before = time.monotonic()
        m.daemon.send_signal(signal.SIGHUP)
        message = self.told("RELOADING")
        self.assertEqual(message["RELOADING"], "1")
        self.assertGreaterEqual(int(message["MONOTONIC_USEC"]), int(before * 1e6))
        self.assertEqual(self.ready(), f"{m.point} is served")

    def test_a_reload_that_is_refused_ends_too_and_says_why(self):
        conf = self.folder / "pkifs.conf"
        conf.write_text("workers = 2\n")
        m = self.started(start=False)
        m.under = ("bash", "-c", f'exec "$1" -c {conf} "${{@:2}}"', "_")
        m.spawn()
        self.ready()
        conf.write_text("workers = many\n")
        m.daemon.send_signal(signal.SIGHUP)
        self.told("RELOADING")
        self.assertIn("workers takes 1 to 256", self.ready())

    def test_the_program_that_takes_over_goes_on_telling(self):
        shutil.copytree(BIN, self.folder / "bin")
        m = self.started(start=False)
        m.programs = self.folder / "bin"
        m.spawn()
        self.ready()
        m.daemon.send_signal(signal.SIGUSR2)
        self.assertEqual(self.told("RELOADING")["STATUS"], "the new program takes over")
        self.ready()
        self.told("WATCHDOG")


if __name__ == "__main__":
    main()
