"""Many tunnels on a kernel with ESP (user-mode-linux): loaded through the mount, cut together by one
revocation, there again after deaths and lost events. TUNNELS=1000 has more of them than the check's;
what it prints of times is what tests/bench/cuts shows."""

import contextlib
import os
import pickle
import select
import signal
import socket
import subprocess
import time
import unittest

from x509 import Authority
from harness import Test, until
import xfrm_hosts
from xfrm_hosts import MARK, on

COUNT = int(os.environ.get("TUNNELS", "200"))
CONFIG = """engine = manual
local-address = 192.0.2.1
remote-address = 192.0.2.2
local-subnet = 10.1.0.0/24
certificate-id = gate
remote-subnet = {}/24
"""
OTHER = "10.8.0.0"  # where a tunnel leads that has no certificate


def key(seed):
    return bytes((seed * 11 + i * 3 + seed // 256) % 256 for i in range(36)).hex()


def network(number, host=0):
    return f"10.{64 + number // 256}.{number % 256}.{host}"


class Uml(xfrm_hosts.Guest):
    script, seconds, variables = "test_tunnels.py", 290, ("TUNNELS",)


class Stream:
    """Another process sends without end: from the left through the tunnels, every other packet
    through the last one, and from the right through the last one. Its end tells how often and when,
    at last, one was taken from the left (what is blocked is refused), and one arrived there."""

    def __init__(self, count, pause=0.0005):
        self.ours, theirs = socket.socketpair()
        self.child = os.fork()
        if self.child == 0:
            try:
                theirs.sendall(pickle.dumps(self.run(count, pause, theirs)))
            finally:
                os._exit(0)
        theirs.close()

    @staticmethod
    def run(count, pause, control):
        sent, came, number = [0, 0.0], [0, 0.0], 0
        ends = []
        for host, address in (("left", "10.1.0.1"), ("right", network(count - 1, 1))):
            with on(host):
                ends.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            ends[-1].setblocking(False)
            ends[-1].bind((address, 7777))
        left, right = ends
        while not select.select([control], [], [], pause)[0]:
            number += 1
            where = count - 1 if number % 2 else number // 2 % count
            right.sendto(MARK, ("10.1.0.1", 7777))
            with contextlib.suppress(OSError):
                left.sendto(MARK, (network(where, 1), 7777))
                sent[:] = sent[0] + 1, time.monotonic()
            with contextlib.suppress(BlockingIOError):
                while left.recv(100):
                    came[:] = came[0] + 1, time.monotonic()
        control.recv(1)
        left.close()
        right.close()
        return sent, came, number

    def end(self):
        """(how often, when at last) of what was taken, of what arrived; how often it was tried"""
        self.ours.sendall(b"x")
        said = b""
        while block := self.ours.recv(4096):
            said += block
        os.waitpid(self.child, 0)
        self.ours.close()
        return pickle.loads(said)


class InGuest(xfrm_hosts.TwoHosts, Test):
    def setUp(self):
        super().setUp()
        self.m = self.mount(f"store={self.folder}/var/store.db", "privilege-separation=yes",
                            "user=daemon", "worker-user=games", "ipsec-user=bin", start=False)
        self.addCleanup(self.clean)
        with on("left"):
            self.m.start()
            subprocess.run(["ip", "route", "add", "10.64.0.0/10", "via", "192.0.2.2", "src",
                            "10.1.0.1"], check=True)

    def clean(self):
        subprocess.run(["ip", "-n", "left", "route", "del", "10.64.0.0/10"], check=True)
        for host in ("left", "right"):
            for what in ("state", "policy"):
                subprocess.run(["ip", "-n", host, "xfrm", what, "flush"], check=False)

    def certificate(self):
        for folder in ("ca/corp", "local/gate"):
            (self.m.point / folder).mkdir()
        self.authority = Authority(self.folder)
        self.m.write("ca/corp/cert.pem", self.authority.pem)
        self.m.write("ca/corp/crl.pem", self.authority.crl())
        self.m.write("local/gate/config", "ca-profile = corp\n")
        certificate = self.authority.server("gate.example.net")
        self.m.write("local/gate/key.pem", (self.folder / "leaf.key").read_text())
        self.m.write("local/gate/cert.pem", certificate)
        self.assertTrue(until(lambda: "good" in self.m.status("local/gate")["revocation"]))

    def load(self, count):
        """COUNT tunnels, up."""
        begun = time.monotonic()
        for number in range(count):
            self.tunnel(number, CONFIG.format(network(number)))
        for number in range(count):
            self.assertEqual((self.m.point / f"ipsec/t{number}/wait").read_text(), "ok\n")
        print(f"{count} tunnels loaded in {time.monotonic() - begun:.2f} s")

    def tunnel(self, number, config):
        folder = f"ipsec/t{number}"
        (self.m.point / folder).mkdir()
        self.m.write(f"{folder}/config", config)
        spi = 0x1000 + 2 * number
        self.m.write(f"{folder}/request",
                     f"action = load-sa\nspi-in = {spi}\nspi-out = {spi + 1}\n"
                     f"esp = aes256gcm16\nkey-in = {key(2 * number)}\n"
                     f"key-out = {key(2 * number + 1)}\n")

    def peer(self, number):
        """The right host has the other end of that tunnel."""
        subprocess.run(["ip", "-n", "right", "addr", "replace", network(number, 1), "dev", "lan0"],
                       check=True)
        spi = 0x1000 + 2 * number
        ends = "192.0.2.2", "192.0.2.1"
        self.right("sa", *ends, spi, 7, "tunnel", "aes256gcm16", key(2 * number))
        self.right("sa", *ends[::-1], spi + 1, 7, "tunnel", "aes256gcm16", key(2 * number + 1))
        self.right("policy", "out", network(number) + "/24", "10.1.0.0/24", "allow", *ends, spi, 7,
                   "tunnel")

    def kernel(self):
        """How many SAs and policies there are."""
        return len(self.left("sas")), len(self.left("policies"))

    def states(self):
        """How many tunnels are in each state."""
        lines = [line.split() for line in (self.m.point / "status").read_text().splitlines()]
        found = [line[2] for line in lines if line and line[0] == "ipsec"]
        return {state: found.count(state) for state in found}

    def test_one_revocation_cuts_all(self):
        self.certificate()
        self.load(COUNT)
        self.tunnel(COUNT, CONFIG.format(OTHER).replace("certificate-id = gate\n", ""))
        self.assertEqual((self.m.point / f"ipsec/t{COUNT}/wait").read_text(), "ok\n")
        self.assertEqual(self.kernel(), (2 * COUNT + 2, 3 * COUNT + 3))
        self.authority.revoke()
        crl = self.authority.crl()
        self.peer(COUNT - 1)
        stream = Stream(COUNT)
        time.sleep(1)
        begun = time.monotonic()
        self.m.write("ca/corp/crl.pem", crl)
        written = time.monotonic()
        self.assertTrue(until(lambda: self.states() == {"cut": COUNT, "up": 1}),
                        self.states())
        known = time.monotonic()
        time.sleep(0.5)
        (taken, last), (came, arrived), tried = stream.end()
        print(f"{COUNT} tunnels cut: the last packet out {(last - written) * 1e3:.1f} ms, in "
              f"{(arrived - written) * 1e3:.1f} ms after the CRL was acknowledged, whose write took "
              f"{(written - begun) * 1e3:.1f} ms; all told after {(known - begun) * 1e3:.0f} ms; "
              f"{taken} out and {came} in of {tried} packets")
        self.assertGreater(min(taken, came), 100)
        self.assertLess(max(last, arrived), known)
        self.assertEqual(self.kernel(), (2, 3 * COUNT + 3))

    def delete_forwarding(self):
        """Somebody takes a policy of the first tunnel's away, which the stream does not need."""
        self.left("delete-policy", "fwd", network(0) + "/24", "10.1.0.0/24")

    def test_a_restart_finds_all_and_drops_nothing(self):
        self.certificate()
        self.load(COUNT)
        self.peer(COUNT - 1)
        stream = Stream(COUNT)
        self.m.kill_all()
        self.delete_forwarding()
        begun = time.monotonic()
        with on("left"):
            self.m.start()
        mounted = time.monotonic()
        self.assertTrue(until(lambda: self.kernel() == (2 * COUNT, 3 * COUNT)))
        print(f"{COUNT} tunnels found again {time.monotonic() - begun:.2f} s after the start, "
              f"{time.monotonic() - mounted:.2f} s after the mount answered")
        time.sleep(0.5)
        (taken, _), (came, _), tried = stream.end()
        print(f"{taken} out and {came} in of {tried} packets")
        self.assertEqual(taken, tried)
        self.assertGreaterEqual(came, tried - 1)  # the last may be on its way
        self.assertEqual(self.states(), {"up": COUNT})

    def test_attack_71_lost_events_are_made_up_for(self):
        """While the process is stopped its socket runs over, and what it would have been told of
        next is one of ours."""
        self.certificate()
        self.load(1)
        pid, = self.m.children("ipsec")
        os.kill(pid, signal.SIGSTOP)
        other = "out", "10.9.0.0/24", "10.9.1.0/24"
        for _ in range(6000):
            self.left("policy", *other, "block")
            self.left("delete-policy", *other)
        self.delete_forwarding()
        os.kill(pid, signal.SIGCONT)
        self.assertTrue(until(lambda: self.kernel() == (2, 3)))
        self.assertIn('"event":"drift"', (self.m.point / "events").read_text())
        self.delete_forwarding()  # and the next one is heard
        self.assertTrue(until(lambda: self.kernel() == (2, 3)))


if __name__ == "__main__":
    unittest.main(verbosity=2)
