"""What a tunnel's own certificate stands on, without any ESP: a request says whether the tunnel is
cut before it says that there are no SAs. (test_ipsec.py sees traffic end.)"""

import json
import unittest

from harness import Clock, Test, needs_root, until
from x509 import Authority

CONFIG = """engine = manual
local-address = 192.0.2.1
remote-address = 192.0.2.2
certificate-id = gate
"""
FREE = "no SAs are loaded"  # nothing else is in the way
DAY = 86400


@needs_root
class Trust(Test):
    def setUp(self):
        super().setUp()
        self.ca = Authority(self.folder, "Root")
        self.m = self.mount(start=False)
        self.m.under = ["unshare", "-n"]  # its tunnels block nobody's traffic, nor do others' its

    def set_clock(self):
        self.clock = Clock(self)
        self.m.programs = self.clock.programs

    def tunnel(self, profile="", days=30, crl=True, more=""):
        """With a certificate of the profile corp's."""
        m = self.m
        m.start()
        (m.point / "ca/corp").mkdir()
        m.write("ca/corp/config", f"crl-refresh-interval = 0\n{profile}")
        m.write("ca/corp/cert.pem", self.ca.pem)
        (m.point / "local/gate").mkdir()
        m.write("local/gate/config", "ca-profile = corp\n")
        pem = self.ca.server("gate.example.net", days=days)
        m.write("local/gate/key.pem", (self.folder / "leaf.key").read_text())
        m.write("local/gate/cert.pem", pem)
        if crl:
            m.write("ca/corp/crl.pem", self.ca.crl())
        (m.point / "ipsec/berlin").mkdir()
        m.write("ipsec/berlin/config", CONFIG + more)

    def is_told(self):
        """What stands in the way of `up`."""
        with self.assertRaises(OSError):
            self.m.write("ipsec/berlin/request", "up")
        return self.m.status("ipsec/berlin")["last-error"]

    def becomes(self, words):
        if not until(lambda: words in self.is_told(), 20):
            self.fail(self.is_told())

    def events(self, name):
        """Those of the tunnel."""
        found = [json.loads(line) for line in self.m.read("events").splitlines()]
        return [event for event in found if (event["event"], event.get("name")) == (name, "berlin")]

    def test_without_a_crl_it_is_cut_until_there_is_one(self):
        self.tunnel(crl=False)
        self.becomes("the tunnel is cut: whether CN=gate.example.net is revoked is not known")
        self.assertTrue(until(lambda: self.m.status("ipsec/berlin")["state"] in ("cut", "failed")))
        self.m.write("ca/corp/crl.pem", self.ca.crl())
        self.becomes(FREE)

    def test_a_crl_that_is_over_cuts_it(self):
        self.set_clock()
        self.tunnel()
        self.becomes(FREE)
        self.clock.set(2 * DAY, synchronised=True)
        self.becomes("the tunnel is cut: whether CN=gate.example.net is revoked is not known")
        self.m.write("ca/corp/crl.pem", self.ca.crl(hours=100))
        self.becomes(FREE)

    def test_accept_lets_it_be_and_says_so(self):
        self.tunnel("crl-on-download-failure = accept\n", crl=False)
        self.becomes(FREE)
        words = "crl-on-download-failure = accept: whether CN=gate.example.net is revoked"
        self.assertTrue(until(lambda: words in self.m.status("ipsec/berlin").get("warning", "")))
        self.assertTrue(until(lambda: self.events("accepted-unchecked")))
        self.assertIn(words, self.events("accepted-unchecked")[0]["reason"])
        self.assertIn(words, self.m.log.read_text())
        self.m.write("ca/corp/crl.pem", self.ca.crl())
        self.assertTrue(until(lambda: "warning" not in self.m.status("ipsec/berlin")))
        self.ca.revoke()
        self.m.write("ca/corp/crl.pem", self.ca.crl())  # accepted or not
        self.becomes("the certificate of certificate id gate is revoked")
        self.assertEqual(len(self.events("accepted-unchecked")), 1)

    def test_disable_asks_nobody(self):
        self.tunnel("revocation-check = disable\n", crl=False)
        self.becomes(FREE)

    def test_revoked_and_replaced(self):
        self.tunnel()
        self.becomes(FREE)
        self.ca.revoke()
        self.m.write("ca/corp/crl.pem", self.ca.crl())
        self.becomes("the certificate of certificate id gate is revoked")
        self.m.write("local/gate/cert.pem", self.ca.server("gate.example.net"))
        self.becomes(FREE)

    def test_its_end(self):
        self.set_clock()
        self.tunnel("revocation-check = disable\n", days=1)
        self.becomes(FREE)
        self.clock.set(2 * DAY, synchronised=True)
        self.becomes("the certificate of certificate id gate ended at")
        self.m.write("local/gate/cert.pem", self.ca.server("gate.example.net"))
        self.becomes(FREE)

    def test_its_ca_is_no_more(self):
        self.tunnel("revocation-check = disable\n")
        self.becomes(FREE)
        self.m.request("ca/corp", "unenroll")
        self.becomes("no profile has the CA of certificate id gate any more")
        self.m.write("ca/corp/cert.pem", Authority(self.folder, "Other").pem)
        self.becomes("the tunnel is cut: ")  # its certificate is not of that one
        self.m.write("ca/corp/cert.pem", self.ca.pem)
        self.becomes(FREE)

    def test_one_of_two_cas_of_peers_is_no_more(self):
        self.tunnel()
        (self.m.point / "ca/peers").mkdir()
        self.m.write("ca/peers/cert.pem", Authority(self.folder, "Peers").pem)
        self.m.write("ipsec/berlin/config", CONFIG + "ca-profile = corp\nca-profile = peers\n")
        self.becomes(FREE)
        self.m.request("ca/peers", "unenroll")
        self.becomes("profile peers has no CA certificate")

    def test_names(self):
        self.tunnel(more="local-id = gate.example.net\nremote-id = *.example.net\n")
        self.becomes(FREE)
        for line, why in (
                ("local-id = other.example.net",
                 "other.example.net is not in the certificate, which has: gate.example.net, "
                 "CN=gate.example.net"),
                ("local-id = *.example.net", "local-id: \"*.example.net\" is no name of one peer"),
                ("remote-id = gate*", "* stands for the first label of a DNS name"),
                ("remote-id = a..b", "remote-id: \"a..b\" is no DNS name")):
            with self.assertRaises(OSError):
                self.m.write("ipsec/berlin/config", CONFIG + line + "\n")
            self.assertIn(why, self.m.status("ipsec/berlin")["last-error"])
        self.m.write("local/gate/cert.pem", self.ca.server("other.example.net"))
        self.becomes("local-id: gate.example.net is not in the certificate, which has: other")


if __name__ == "__main__":
    unittest.main(verbosity=2)
