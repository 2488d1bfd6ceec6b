"""engine = charon: strongSwan's daemon makes SAs for tunnels whose policies are pkifs', on two hosts of
a kernel with ESP (user-mode-linux), each with a charon and a pkifs of its own."""

import contextlib
import os
import subprocess
import threading
import time
import unittest

import xfrm_hosts
from harness import Test, until
from ike import Charon, Pki
from xfrm_hosts import ADDRESSES, MARK, on, ping, talk

ESP = 50
ENDS = {"left": ("192.0.2.1", "192.0.2.2"), "right": ("192.0.2.2", "192.0.2.1")}
SUBNETS = {"left": ("10.1.0.0/24", "10.2.0.0/24"), "right": ("10.2.0.0/24", "10.1.0.0/24")}


class Uml(xfrm_hosts.Guest):
    script, seconds = "test_charon.py", 290


class Side:
    """A host with a charon and a pkifs that keys it."""

    path = "ipsec/net"

    def __init__(self, test, host, pki, *options):
        self.test, self.host, self.pki = test, host, pki
        self.charon = Charon(test, host)
        self.m = test.mount(f"store={test.folder}/{host}/store.db", "privilege-separation=yes",
                            "user=daemon", "worker-user=games", "ipsec-user=bin",
                            f"charon-socket={self.charon.socket}", *options, start=False)
        with on(host):
            self.m.start()
        self.tables = getattr(test, host)

    def trust(self):
        (self.m.point / "ca/corp").mkdir()
        self.m.write("ca/corp/cert.pem", self.pki.read("ca.pem"))
        self.m.write("ca/corp/crl.pem", self.pki.read("crl.pem"))

    def identify(self, **options):
        """The host's certificate becomes that of the certificate id `gate`."""
        gate = self.m.point / "local/gate"
        if not gate.exists():
            gate.mkdir()
            self.m.write("local/gate/config", "ca-profile = corp\n")
        self.m.write("local/gate/key.pem", self.pki.read(f"{self.host}.key"))
        self.m.write("local/gate/cert.pem", self.pki.read(f"{self.host}.pem"))

    def tunnel(self, **settings):
        mine, theirs = ENDS[self.host]
        near, far = SUBNETS[self.host]
        settings = {"certificate-id": "gate", "local-address": mine, "remote-address": theirs,
                    "local-subnet": near, "remote-subnet": far,
                    **{key.replace("_", "-"): value for key, value in settings.items()}}
        folder = self.m.point / self.path
        if not folder.exists():
            folder.mkdir()
        self.m.write(f"{self.path}/config",
                     "".join(f"{key} = {value}\n" for key, value in settings.items()))

    def status(self):
        return self.m.status(self.path)

    def ask(self, text):
        return self.m.request(self.path, text)

    def becomes(self, state, seconds=20):
        if not until(lambda: self.status()["state"] == state, seconds):
            self.test.fail(f"{self.host} is not {state}: {self.m.read(f'{self.path}/status')}\n"
                           f"{self.m.log.read_text()[-3000:]}\n{self.charon.said()[-4000:]}")


class InGuest(xfrm_hosts.TwoHosts, Test):
    def setUp(self):
        super().setUp()
        self.addCleanup(self.clean)

    def clean(self):
        """What daemons that are gone left in the kernels."""
        for host in ADDRESSES:
            for what in ("state", "policy"):
                subprocess.run(["ip", "-n", host, "xfrm", what, "flush"], check=True)

    def sides(self, pki=None, **settings):
        pki = pki or Pki(self.folder / "pki")
        both = [Side(self, host, pki) for host in ADDRESSES]
        for side in both:
            side.trust()
            side.identify()
            side.tunnel(**settings)
        for side in both:
            self.assertTrue(until(lambda s=side: "added vici connection" in s.charon.said()),
                            side.m.log.read_text())
        return both

    def bring_up(self, left, right):
        said = left.ask("up")
        if said != "ok":
            self.fail(said + "".join(f"\n{side.charon.said()[-5000:]}\n{side.m.log.read_text()[-3000:]}"
                                     for side in (left, right)))
        for side in (left, right):
            side.becomes("up")

    def up(self, **settings):
        """Both sides, with the tunnel up."""
        left, right = self.sides(**settings)
        self.bring_up(left, right)
        return left, right

    def passes(self):
        self.wire.packets()
        if not talk("10.1.0.1", "10.2.0.1"):
            self.fail("\n".join([str(self.wire.packets()), *self.left("sas"), *self.left("policies"),
                                 *self.right("sas"), *self.right("policies"),
                                 *[m.read("ipsec/net/status") for m in self.mounts],
                                 *[m.read("events") for m in self.mounts],
                                 ]))
        seen = self.wire.packets()
        self.assertFalse([packet for packet in seen if MARK in packet[2]])
        self.assertEqual({packet[0] for packet in seen}, {ESP})

    def is_blocked(self):
        self.wire.packets()
        self.assertFalse(ping("10.1.0.1", "10.2.0.1", patience=0.3))
        self.assertFalse([packet for packet in self.wire.packets() if packet[0] != 17])

    def test_a_tunnel_s_life(self):
        left, right = self.sides()
        self.is_blocked()
        left.becomes("down")
        self.bring_up(left, right)
        self.passes()
        status = left.status()
        self.assertEqual(status["peer-id"], "right.example.net")
        self.assertEqual(status["key-at"], "charon")
        self.assertEqual(status["version"], "1")
        self.assertIn("AES_GCM_16-256", status["esp"])
        self.assertIn("ECP_384", status["ike"])
        self.assertEqual(left.m.read("ipsec/net/peer.pem"), left.pki.read("right.pem"))
        spis = {line.split()[0] for line in left.tables("sas")}
        self.assertEqual(spis, {f"spi={int(status[key], 16):#x}" for key in ("spi-in", "spi-out")})
        self.assertEqual({line.split()[3] for line in left.tables("policies")}, {"spi=0x0"})

        self.assertEqual(left.ask("rekey"), "ok")
        self.assertTrue(until(lambda: left.status()["spi-in"] != status["spi-in"]))
        self.passes()

        self.assertEqual(left.ask("down"), "ok")
        left.becomes("down")
        self.is_blocked()
        self.assertTrue(until(lambda: left.tables("sas") == [] and right.tables("sas") == []))
        self.assertNotIn('"event":"drift"', left.m.read("events") + right.m.read("events"))
        self.assertNotIn("PRIVATE", left.m.log.read_text() + left.charon.said())
        self.assertEqual(left.ask("up"), "ok")
        self.passes()


if __name__ == "__main__":
    unittest.main(verbosity=2)
