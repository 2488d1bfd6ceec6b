"""Tunnels whose keys IKE agrees on, on a kernel with ESP (user-mode-linux), with strongSwan and
libreswan as they are."""

import subprocess
import unittest

import xfrm_hosts
from harness import Test, until
from ike import Charon, Pki, Pluto
from xfrm_hosts import ADDRESSES, MARK, on, talk

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

    def start(self, host, *options):
        """A daemon on a host, its processes behind their walls."""
        m = self.mount(f"store={self.folder}/{host}/store.db", "privilege-separation=yes",
                       "user=daemon", "worker-user=games", "ipsec-user=bin", *options, start=False)
        with on(host):
            m.start()
        return m

    def trust(self, m, pki, name="corp"):
        (m.point / "ca" / name).mkdir()
        m.write(f"ca/{name}/cert.pem", pki.read("ca.pem"))
        m.write(f"ca/{name}/crl.pem", pki.read("crl.pem"))

    def tunnel(self, m, name, **settings):
        (m.point / "ipsec" / name).mkdir()
        m.write(f"ipsec/{name}/config", "".join(f"{key.replace('_', '-')} = {value}\n"
                                                for key, value in settings.items()))
        return f"ipsec/{name}"

    def becomes(self, m, path, state):
        if not until(lambda: m.status(path)["state"] == state, 20):
            self.fail(f"not {state}: {m.read(f'{path}/status')}\n{m.log.read_text()[-3000:]}")

    def passes(self, *kinds):
        """A TCP connection goes through the tunnel, and nothing but these KINDS of IP protocols is
        on the wire."""
        self.wire.packets()
        self.assertTrue(talk("10.1.0.1", "10.2.0.1"))
        seen = self.wire.packets()
        self.assertFalse([packet for packet in seen if MARK in packet[2]])
        self.assertEqual({packet[0] for packet in seen}, set(kinds))

    def is_blocked(self):
        self.wire.packets()
        self.assertFalse(talk("10.1.0.1", "10.2.0.1", patience=0.3))
        self.assertFalse([packet for packet in self.wire.packets() if MARK in packet[2]])

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

    def test_daemons_that_are_watched(self):
        """engine = external: strongSwan and libreswan have their own configuration, keys and
        policies; the tunnel shows their SAs, and cuts them."""
        pki = Pki(self.folder / "pki")
        m = self.start("left")
        self.trust(m, pki)
        tunnel = self.tunnel(m, "right", engine="external", ca_profile="corp",
                             local_address="192.0.2.1", remote_address="192.0.2.2",
                             local_subnet="10.1.0.0/24", remote_subnet="10.2.0.0/24")
        self.assertTrue(until(lambda: len(self.left("policies")) == 6))
        self.is_blocked()
        right = Pluto(self, "right")
        right.load(pki, "192.0.2.2", "192.0.2.1")
        left = Charon(self, "left")
        left.load(pki, "192.0.2.1", "192.0.2.2")
        left.up()
        self.becomes(m, tunnel, "up")
        self.passes(ESP)
        before = m.status(tunnel)["spi-out"]
        left.swanctl("--rekey", "--child", "net")
        self.assertTrue(until(lambda: m.status(tunnel).get("spi-out") not in (before, None)))
        self.passes(ESP)
        m.write("ca/corp/request", "unenroll")
        self.becomes(m, tunnel, "cut")
        self.is_blocked()
        self.assertTrue(until(lambda: self.left("sas") == []))
        left.swanctl("--terminate", "--ike", "t", "--timeout", 2)
        left.up()
        self.is_blocked()
        self.assertTrue(until(lambda: self.left("sas") == []))
        self.assertEqual(m.status(tunnel)["state"], "cut")


if __name__ == "__main__":
    unittest.main(verbosity=2)
