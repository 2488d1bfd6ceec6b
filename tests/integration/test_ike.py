"""Tunnels whose keys IKE agrees on, on a kernel with ESP (user-mode-linux), with strongSwan and
libreswan as they are."""

import os
import re
import shutil
import subprocess
import sys
import time
import unittest

import xfrm_hosts
from harness import BIN, LAB, SANITIZED, Test, many, run, until
from ike import KEYS, NETWORKS, Charon, Pki, Pluto
from xfrm_hosts import ADDRESSES, MARK, Stream, on, ping, talk

sys.path.append(str(LAB.parent / "docs"))
from test_examples import is_like, of_markdown  # noqa: E402

UDP, ESP = 17, 50
# Ways from the left to the right, as the left's tunnel has them.
SUBNETS = {"local_subnet": "10.1.0.0/24", "remote_subnet": "10.2.0.0/24"}
CABLE = {**SUBNETS, "local_address": "192.0.2.1", "remote_address": "192.0.2.2"}
ROUTER = {**SUBNETS, "local_address": "198.51.100.2", "remote_address": "203.0.113.2"}


def keyed(way, **more):
    """Settings of the left's tunnel that goes this way."""
    return {**way, "certificate_id": "gate", "remote_id": "right.example.net", **more}


def resident(pid):
    """Memory of a process, in MiB."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) // 256


class Uml(xfrm_hosts.Guest):
    script, seconds, variables = "test_ike.py", 400, ("SHARE",)


@unittest.skipUnless(os.geteuid() == 0 and shutil.which("linux.uml"), "needs user-mode-linux, root")
@unittest.skipIf(SANITIZED or xfrm_hosts.IN_GUEST, "a guest has not the address space")
class Quickstart(unittest.TestCase):
    def test_its_story(self):
        """packaging/quickstart --ipsec, with these programs."""
        root = LAB.parent.parent
        done = run(LAB / "uml-run", "-t", 240, "-r", root, "-r", BIN.parent, "env",
                   f"PATH={BIN}:{os.environ['PATH']}", root / "packaging/quickstart-ipsec",
                   timeout=260)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("All of it works", done.stdout)
        self.assertNotIn("command not found", done.stdout)


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

    def own(self, m, pki, host, name="gate", profile="corp"):
        """The host's certificate."""
        (m.point / "local" / name).mkdir()
        m.write(f"local/{name}/config", f"ca-profile = {profile}\n")
        m.write(f"local/{name}/key.pem", pki.read(f"{host}.key"))
        try:
            m.write(f"local/{name}/cert.pem", pki.read(f"{host}.pem"))
        except OSError:
            self.fail(m.read(f"local/{name}/status") + m.log.read_text())

    def site(self, host, pki, *options):
        """A charon on a host, with a pkifs that drives it, trusts PKI, and has its certificate."""
        charon = Charon(self, host)
        m = self.start(host, f"charon-socket={charon.socket}", *options)
        self.trust(m, pki)
        self.own(m, pki, host)
        return m, charon

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
        self.assertFalse(ping("10.1.0.1", "10.2.0.1", patience=0.3))
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

    def test_daemons_that_are_watched(self):
        """engine = external: strongSwan and libreswan have their own configuration, keys and
        policies; the tunnel shows their SAs, and cuts them."""
        pki = Pki(self.folder / "pki")
        m = self.start("left")
        self.trust(m, pki)
        tunnel = self.tunnel(m, "right", **CABLE, engine="external", ca_profile="corp")
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

    def brought_up(self, m, tunnel, *kinds):
        """`up` is asked for, and traffic passes."""
        try:
            self.assertEqual(m.request(tunnel, "up"), "ok")
        except (AssertionError, OSError):
            self.fail(m.read(f"{tunnel}/status") + m.log.read_text()[-3000:])
        self.assertEqual(m.status(tunnel)["state"], "up")
        self.passes(*kinds)

    def test_strongswan_with_keys_of_each_kind(self):
        pki = Pki(self.folder / "pki")
        m, _ = self.site("left", pki)
        right = Charon(self, "right")
        for key in KEYS:
            with self.subTest(key):
                for host in ADDRESSES:
                    pki.issue(host, key)
                right.load(pki, "192.0.2.2", "%any")
                self.own(m, pki, "left", key)
                tunnel = self.tunnel(m, f"with-{key}", **keyed(CABLE, certificate_id=key))
                self.brought_up(m, tunnel, ESP)
                self.assertIn(pki.fingerprint("right"), m.read(f"{tunnel}/status"))
                self.assertEqual(m.request(tunnel, "down"), "ok")
                self.assertFalse(right.is_up())
                self.is_blocked()
                (m.point / tunnel).rmdir()

    def test_libreswan_with_keys_of_each_kind(self):
        pki = Pki(self.folder / "pki")
        m, _ = self.site("left", pki)
        for key, authby in (("rsa", "rsasig"), ("p384", "ecdsa")):  # P-256: where it is revoked
            with self.subTest(key):
                for host in ADDRESSES:
                    pki.issue(host, key)
                right = Pluto(self, "right", f"pluto-{key}")
                right.load(pki, "192.0.2.2", "192.0.2.1", authby=authby)
                self.own(m, pki, "left", key)
                tunnel = self.tunnel(m, f"with-{key}", **keyed(CABLE, certificate_id=key))
                self.brought_up(m, tunnel, ESP)
                self.assertEqual(m.request(tunnel, "down"), "ok")
                right.stop()
                (m.point / tunnel).rmdir()

    def test_behind_a_router(self):
        pki = Pki(self.folder / "pki")
        m, _ = self.site("left", pki)
        right = Charon(self, "right")
        right.load(pki, "%any", "%any")
        tunnel = self.tunnel(m, "right", **keyed(ROUTER))
        self.brought_up(m, tunnel, UDP)
        self.wire.packets()
        self.assertTrue(ping("10.1.0.1", "10.2.0.1"))
        self.assertIn(4500, [packet[1] for packet in self.wire.packets()])
        self.assertEqual(m.request(tunnel, "rekey"), "ok")
        self.passes(UDP)

    def test_who_waits_for_a_peer_behind_a_router(self):
        pki = Pki(self.folder / "pki")
        m, _ = self.site("right", pki)
        tunnel = self.tunnel(m, "left", certificate_id="gate", remote_id="*.example.net",
                             local_subnet="10.2.0.0/24", remote_subnet="10.1.0.0/24")
        left = Charon(self, "left")
        left.load(pki, "198.51.100.2", "203.0.113.2")
        left.up()
        self.becomes(m, tunnel, "up")
        self.passes(UDP)
        self.assertEqual(m.status(tunnel)["peer-id"], "left.example.net")
        left.load(pki, "192.0.2.1", "192.0.2.2")  # and by the cable
        left.swanctl("--terminate", "--ike", "t")
        self.becomes(m, tunnel, "down")
        left.up()
        self.becomes(m, tunnel, "up")
        self.passes(ESP)

    def test_ipv6(self):
        pki = Pki(self.folder / "pki")
        m, _ = self.site("left", pki)
        right = Charon(self, "right")
        right.load(pki, "2001:db8::2", "%any", networks={
            host: f"{NETWORKS[host]},fd00:{number}::/64"
            for number, host in enumerate(ADDRESSES, 1)})
        tunnel = self.tunnel(m, "right", certificate_id="gate", remote_id="right.example.net",
                             local_address="2001:db8::1", remote_address="2001:db8::2",
                             local_subnet="fd00:1::/64", remote_subnet="fd00:2::/64")
        self.assertEqual(m.request(tunnel, "up"), "ok", m.read(f"{tunnel}/status"))
        self.wire.packets()
        self.assertTrue(talk("fd00:1::1", "fd00:2::1"))
        self.assertEqual({packet[0] for packet in self.wire.packets()}, {ESP})

    def test_another_peer_than_the_one_that_is_meant(self):
        pki = Pki(self.folder / "pki")
        m, _ = self.site("left", pki)
        right = Charon(self, "right")
        right.load(pki, "%any", "%any")
        for meant, why in (("paris.example.net", "charon says: received AUTHENTICATION_FAILED"),
                           ("*.paris.example.net", "identity '*.paris.example.net' required")):
            tunnel = self.tunnel(m, f"to-{len(meant)}", **keyed(CABLE, remote_id=meant))
            self.assertIn("failed: ", m.request(tunnel, "up"))
            self.becomes(m, tunnel, "failed")
            self.assertIn(why, m.status(tunnel)["last-error"])
            self.is_blocked()
            (m.point / tunnel).rmdir()

    def test_a_peer_of_another_ca_of_the_same_name(self):
        pki, forger = Pki(self.folder / "pki"), Pki(self.folder / "forged")
        m, _ = self.site("left", pki)
        right = Charon(self, "right")
        (forger.folder / "ca.pem").write_text(pki.read("ca.pem"))  # it believes us
        right.load(forger, "192.0.2.2", "192.0.2.1")
        tunnel = self.tunnel(m, "right", **keyed(CABLE))
        self.assertIn("failed: ", m.request(tunnel, "up"))
        self.assertIn("no issuer certificate found for \"CN=right.example.net\"",
                      m.status(tunnel)["last-error"])
        with self.assertRaises(AssertionError):
            right.up()
        self.assertNotEqual(m.status(tunnel)["state"], "up")
        self.is_blocked()

    def test_renewal_under_a_stream(self):
        pki = Pki(self.folder / "pki")
        m, _ = self.site("left", pki)
        right = Charon(self, "right")
        right.load(pki, "192.0.2.2", "%any")
        tunnel = self.tunnel(m, "right", **keyed(CABLE))
        self.brought_up(m, tunnel, ESP)
        before = m.status(tunnel)["spi-out"]
        with Stream() as stream:
            pki.issue("left")
            m.write("local/gate/key.pem", pki.read("left.key"))
            m.write("local/gate/cert.pem", pki.read("left.pem"))
            self.assertTrue(until(lambda: m.status(tunnel).get("spi-out") not in (before, None), 8))
            self.assertTrue(until(lambda: right.swanctl("--list-sas").count("ESTABLISHED") == 1))
        there, back = stream.lost()
        print(f"renewal: of {stream.sent} packets lost towards the peer {there}, back {back}")
        for numbers in (there, back):
            self.assertLess(len(numbers) * stream.pace, 0.05)
        self.assertEqual(m.status(tunnel)["state"], "up")
        self.assertEqual(m.status(tunnel)["version"], "2")

    def test_the_guide_until_the_peer_is_revoked(self):
        """docs/guides/ipsec.md, with a libreswan at the right."""
        pki = Pki(self.folder / "pki")
        m, _ = self.site("left", pki)
        right = Pluto(self, "right")
        right.load(pki, "192.0.2.2", "192.0.2.1")
        guide = LAB.parent.parent / "docs/guides/ipsec.md"
        config, = re.findall(r"^`/pki/ipsec/right/config`:\n\n```ini\n(.*?)^```", guide.read_text(),
                             re.M | re.S)
        _, examples = of_markdown(guide)[0]
        examples = [example for example in examples if "/pki/ipsec/" in example.command]
        self.assertEqual(len(examples), 6)

        def types(example):
            done = run("bash", "-c", example.command.replace("/pki/", f"{m.point}/"))
            self.assertEqual(done.returncode, 0, f"{example.command}: {done.stderr}")
            self.assertTrue(is_like(example.output, done.stdout.splitlines()),
                            f"{example.command} prints\n{done.stdout}")
        types(examples[0])
        m.write("ipsec/right/config", config)
        for example in examples[1:5]:
            types(example)
        self.passes(ESP)
        pki.publish("right")
        m.write("ca/corp/crl.pem", pki.read("crl.pem"))
        self.becomes(m, "ipsec/right", "cut")
        types(examples[5])
        self.assertEqual(self.left("sas"), [])
        self.is_blocked()
        m.write("ipsec/right/request", "up")  # the peer shows the same one again
        self.assertTrue(until(lambda: m.status("ipsec/right")["request"] == "failed", 20))
        self.is_blocked()
        self.assertIn("revoked", m.status("ipsec/right")["last-error"])

    def test_many_tunnels(self):
        pki = Pki(self.folder / "pki")
        m, charon = self.site("left", pki)
        begin = time.monotonic()
        for i in range(many(1000)):
            net = f"{i // 250}.{i % 250}"
            self.tunnel(m, f"t{i}", certificate_id="gate", remote_id=f"h{i}.example.net",
                        local_address="192.0.2.1", remote_address=f"100.64.{net}",
                        local_subnet="10.1.0.0/24", remote_subnet=f"10.{64 + i // 250}.{i % 250}.0/24")
        written = time.monotonic()
        self.assertTrue(until(lambda: charon.swanctl("--list-conns", "--raw").count("list-conn event")
                              == many(1000), 60))
        print(f"{many(1000)} tunnels: written in {written - begin:.1f} s, in charon after "
              f"{time.monotonic() - begin:.1f} s; MiB:",
              {name: resident(pid) for name, pid in (
                  ("store", m.children("store")[0]), ("pkifs-ipsec", m.children("ipsec")[0]),
                  ("charon", charon.process.pid))})


if __name__ == "__main__":
    unittest.main(verbosity=2)
