"""The way to the port of a challenge is open as long as the port is, whoever dies meanwhile."""

import json
import os
import signal
import threading
import unittest

from acme import AcmeTest
from acme_fake import FakeAcme, once
from harness import LIBC, PATIENCE, call, main, needs_root, run, until

NEW_NETWORK = 0x40000000


def in_own_network(test):
    """This thread, and whatever it starts, has a network of its own for the rest of TEST."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    test.addCleanup(os.close, before)
    try:
        call("unshare", NEW_NETWORK)
    except OSError as error:
        raise unittest.SkipTest(f"no network of its own: {error}")
    test.addCleanup(LIBC.setns, before, NEW_NETWORK)
    assert run("ip", "link", "set", "lo", "up").returncode == 0


@needs_root
class Nft(AcmeTest):
    def setUp(self):
        super().setUp()
        in_own_network(self)
        self.ca = FakeAcme(self)
        rules = (f"add table inet filter\n"
                 f"add set inet filter pki {{ type inet_service; }}\n"
                 f"add chain inet filter input {{ type filter hook input priority 0; }}\n"
                 f"add rule inet filter input tcp dport @pki accept\n"
                 f"add rule inet filter input tcp dport {self.ca.http} drop\n")
        done = run("nft", "-f", "-", input=rules)
        self.assertEqual(done.returncode, 0, done.stderr)

    def open_ports(self):
        said = json.loads(run("nft", "-j", "list", "set", "inet", "filter", "pki").stdout)
        return [port for part in said["nftables"] for port in part.get("set", {}).get("elem", [])]

    def guarded(self):
        mount = self.acme_mount(self.ca, "http-01-firewall=nft:inet filter pki")
        self.profile(mount, self.ca)
        self.certificate_id(mount)
        return mount

    def test_it_is_open_while_a_challenge_is(self):
        seen = []
        run("nft", "add", "element", "inet", "filter", "pki", f"{{ {self.ca.http} }}")
        mount = self.guarded()
        self.assertTrue(until(lambda: not self.open_ports()), "a crash has left it open")
        self.ca.changes["/challenge"] = lambda _, answer: seen.append(self.open_ports()) or answer
        self.assertEqual(mount.request("local/www", "enroll"), "ok")
        self.assertEqual(seen, [[self.ca.http]])
        self.assertTrue(until(lambda: not self.open_ports()))

    def test_whoever_dies_it_is_closed(self):
        mount = self.guarded()
        for action, role in (("enroll", "enroll"), ("re-enroll", "store")):
            self.ca.changes["/finalize"] = once(
                lambda _, answer, role=role: mount.kill(role) or answer)
            self.assertEqual(mount.request("local/www", action), "ok", role)
            self.assertTrue(until(lambda: not self.open_ports()), role)

        # the supervisor itself
        asked, dead = threading.Event(), threading.Event()

        def dies(_server, answer):
            asked.set()
            dead.wait(PATIENCE)
            return answer

        self.addCleanup(dead.set)
        self.ca.changes["/challenge"] = once(dies)
        mount.write("local/www/request", "re-enroll\n")
        self.assertTrue(asked.wait(PATIENCE))
        mount.daemon.send_signal(signal.SIGSTOP)  # so that it sees none of the others die
        mount.kill_all()
        dead.set()
        self.assertEqual(self.open_ports(), [self.ca.http])
        mount.start()
        self.assertEqual(mount.wait("local/www"), "ok")
        self.assertTrue(until(lambda: not self.open_ports()))

        # and one that is told to end
        self.ca.changes["/challenge"] = once(lambda _, answer: mount.stop() is None or answer)
        mount.write("local/www/request", "re-enroll\n")
        self.assertTrue(until(lambda: mount.daemon is None))
        self.assertEqual(self.open_ports(), [])


class Program(AcmeTest):
    def guarded(self, text):
        program = self.folder / "gate"
        program.write_text("#!/bin/sh\n" + text)
        program.chmod(0o755)
        self.ca = FakeAcme(self)
        mount = self.acme_mount(self.ca, f"http-01-firewall={program}")
        return mount

    def test_it_is_told_what_to_do_and_nothing_else(self):
        said = self.folder / "said"
        mount = self.guarded(f'echo "$@" >>{said}\nenv >>{said}\n')
        self.profile(mount, self.ca)
        self.certificate_id(mount)
        self.assertEqual(mount.request("local/www", "enroll"), "ok")
        http, tls = self.ca.http, self.ca.tls
        self.assertTrue(until(lambda: said.read_text().count("close") == 3))
        lines = [line for line in said.read_text().splitlines() if "=" not in line]
        self.assertEqual(lines, [f"close {http}", f"close {tls}", f"open {http}", f"close {http}"])
        names = {line.split("=")[0] for line in said.read_text().splitlines() if "=" in line}
        self.assertLessEqual(names, {"PATH", "LC_ALL", "PWD", "_", "SHLVL", "OLDPWD"})

    def test_what_it_cannot_do_is_told_with_the_challenge(self):
        mount = self.guarded("echo not allowed >&2\nexit 1\n")
        self.ca.examine = lambda number: self.ca.orders[number].update(status="invalid")
        reason = self.waits(mount, self.ca)
        self.assertIn(f"http-01-firewall did not open port {self.ca.http}: ", reason)
        self.assertIn("gate: not allowed", reason)


if __name__ == "__main__":
    main()
