"""Tunnels keyed by IKE, on a kernel with ESP (user-mode-linux), against strongSwan and libreswan."""

import subprocess
import unittest

import xfrm_hosts
from harness import Test
from ike import Charon, Pki, Pluto
from xfrm_hosts import ADDRESSES, MARK, talk

UDP, ESP = 17, 50


class Uml(xfrm_hosts.Guest):
    script, seconds = "test_ike.py", 290


class InGuest(xfrm_hosts.TwoHosts, Test):
    nat = True

    def setUp(self):
        super().setUp()
        for host in ADDRESSES:
            for what in ("state", "policy"):
                self.addCleanup(subprocess.run, ["ip", "-n", host, "xfrm", what, "flush"],
                                check=True)

    def passes(self, *kinds):
        """A TCP connection goes through the tunnel, and nothing else than KINDS (protocol, or
        protocol and port) is on the wire."""
        self.wire.packets()
        self.assertTrue(talk("10.1.0.1", "10.2.0.1"))
        seen = self.wire.packets()
        self.assertFalse([packet for packet in seen if MARK in packet[2]])
        self.assertEqual({packet[0] for packet in seen}, set(kinds))

    def test_peers_without_pkifs(self):
        """The lab itself: what the other tests stand on."""
        pki = Pki(self.folder / "pki")
        right = Charon(self, "right")
        right.load(pki, "%any", "%any")
        left = Charon(self, "left")
        left.load(pki, "198.51.100.2", "203.0.113.2")
        left.up()
        self.passes(UDP)
        left.stop()
        self.wire.packets()
        self.assertTrue(talk("10.1.0.1", "10.2.0.1"))  # nobody blocks here, and it would be seen
        self.assertTrue([packet for packet in self.wire.packets() if MARK in packet[2]])
        left = Pluto(self, "left")
        left.load(pki, "192.0.2.1", "192.0.2.2")
        left.up()
        self.passes(ESP)


if __name__ == "__main__":
    unittest.main(verbosity=2)
