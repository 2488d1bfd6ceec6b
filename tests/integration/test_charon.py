"""engine = charon: strongSwan's daemon makes SAs for tunnels whose policies are pkifs', on two hosts of
a kernel with ESP (user-mode-linux), each with a charon and a pkifs of its own."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import threading
import time
import unittest

import xfrm_hosts
from harness import BIN, GAMES, Test, many, until
from ike import PLUGINS, Charon, Pki
from xfrm_hosts import ADDRESSES, MARK, Stream, on, ping, talk

ESP = 50
LENT = f"""plugins {{ pkcs11 {{ modules {{ pkifs {{
    path = {BIN.parent}/lib/pkifs-pkcs11.so
    load_certs = no }} }} }} }}"""
ENDS = {"left": ("192.0.2.1", "192.0.2.2"), "right": ("192.0.2.2", "192.0.2.1")}
SUBNETS = {"left": ("10.1.0.0/24", "10.2.0.0/24"), "right": ("10.2.0.0/24", "10.1.0.0/24")}


class Uml(xfrm_hosts.Guest):
    script, seconds, variables = "test_charon.py", 580, ("SHARE",)


class Side:
    """A host with a charon and a pkifs that keys it."""

    path = "ipsec/net"

    def __init__(self, test, host, pki, *options, module=False):
        self.test, self.host, self.pki = test, host, pki
        if module:  # the key stays in pkifs
            os.environ["PKIFS_PKCS11_SOCKET"] = f"{test.folder}/{host}.p11/socket"
            options += (f"pkcs11-socket={test.folder}/{host}.p11/socket",)
        self.charon = Charon(test, host, *((f"{PLUGINS} pkcs11", LENT) if module else ()))
        os.environ.pop("PKIFS_PKCS11_SOCKET", None)
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

    def without_spis(self):
        return sorted(line.split()[:3] for line in self.tables("policies"))

    def spis(self):
        return {line.split()[0] for line in self.tables("sas")}

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

    def sides(self, pki=None, module=(), **settings):
        """Both of them; the charons of the hosts in MODULE have the module pkifs-pkcs11.so."""
        pki = pki or Pki(self.folder / "pki")
        both = [Side(self, host, pki, module=host in module) for host in ADDRESSES]
        for side in both:
            side.trust()
            side.identify()
            side.tunnel(**settings)
        for side in both:
            self.assertTrue(until(lambda s=side: "added vici connection" in s.charon.said()),
                            side.m.log.read_text())
        return both

    def tell(self):
        """How it is, for who looks for the reason."""
        return "\n".join([*self.left("sas"), *self.left("policies"), *self.right("sas"),
                          *self.right("policies"),
                          *[m.read("ipsec/net/status") for m in self.mounts]])

    @contextlib.contextmanager
    def stream(self, what, bound):
        """
        Packets in both directions, of which no more than BOUND are lost, none of them in clear. What
        is lost on a machine with nothing else to do is printed; the bounds are of a busy one.
        """
        self.wire.packets()
        with Stream(pace=0.002) as stream:
            yield stream
        seen = self.wire.packets()
        self.assertFalse([packet for packet in seen if MARK in packet[2]])
        lost = [len(numbers) for numbers in stream.lost()]
        print(f"{what}: of {stream.sent['left']} packets each way {lost[0]} and {lost[1]} were lost")
        self.assertLessEqual(max(lost), bound, stream.lost())

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
        self.assertTrue(talk("10.1.0.1", "10.2.0.1"), self.tell())
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
        self.assertIn(f"spi={int(status['spi-out'], 16):#x}",
                      {line.split()[3] for line in left.tables("policies")})

        self.assertEqual(left.ask("rekey"), "ok")
        self.assertTrue(until(lambda: left.status()["spi-in"] != status["spi-in"]))
        self.passes()

        self.assertEqual(left.ask("down"), "ok")
        left.becomes("down")
        self.is_blocked()
        self.assertTrue(until(lambda: left.tables("sas") == [] and right.tables("sas") == []))
        self.assertNotIn('"event":"drift"', left.m.read("events") + right.m.read("events"))
        self.assertNotIn("PRIVATE KEY", left.m.log.read_text() + left.charon.said())
        self.assertEqual(left.ask("up"), "ok")
        self.passes()

    def test_deaths_change_nothing_in_the_kernel(self):
        left, right = self.up()
        policies = left.without_spis()
        for role in ("ipsec", "store"):
            before = left.m.children("ipsec")
            with self.stream(f"{role} killed", 0):
                left.m.kill(role)
                self.assertTrue(until(lambda old=before: left.m.children("ipsec") not in ([], old)))
                left.becomes("up")
                time.sleep(1)
        self.assertEqual(len(left.tables("sas")), 2)
        old = left.spis()
        with self.stream("charon killed", 150):
            left.charon.stop(signal.SIGKILL)
            self.assertTrue(until(lambda: "charon" in left.status()["last-error"]))
            time.sleep(0.3)
            self.assertEqual(left.status()["state"], "up")
            self.assertEqual(left.spis(), old)
            left.charon.start()
            self.assertTrue(until(lambda: len(left.spis()) == 2 and not left.spis() & old),
                            self.tell())
            left.becomes("up")
        self.passes()
        self.assertEqual(left.without_spis(), policies)
        self.assertNotIn('"event":"drift"', left.m.read("events"))

    def test_what_a_rekey_costs(self):
        left, right = self.up()
        for host in ADDRESSES:  # the peer is 80 ms away
            subprocess.run(["tc", "-n", host, "qdisc", "add", "dev", "wan0", "root", "netem", "delay",
                            "40ms"], check=True)
            self.addCleanup(subprocess.run, ["tc", "-n", host, "qdisc", "del", "dev", "wan0", "root"],
                            check=True)
        for side in (left, right):
            with self.stream(f"{side.host} rekeys 3 times", 100):
                for _ in range(3):
                    self.assertEqual(side.ask("rekey"), "ok")
                    time.sleep(0.5)

    def test_a_new_certificate_takes_over(self):
        left, right = self.up()
        time.sleep(1.5)  # charon forgets the certificate that was read
        left.pki.issue("left")
        with self.stream("renewal", 25):
            left.identify()
            self.assertTrue(until(lambda: left.status().get("version") == "2"), self.tell())
            self.assertTrue(until(lambda: left.charon.swanctl("--list-sas").count("ESTABLISHED") == 1))
        self.assertTrue(until(lambda: right.m.read("ipsec/net/peer.pem") == left.pki.read("left.pem")))
        self.assertEqual(len(left.tables("sas")), 2)
        self.passes()

    def test_the_key_stays_in_pkifs(self):
        left, right = self.up(module=ADDRESSES)
        for side in (left, right):
            self.assertEqual(side.status()["key-at"], "pkifs")
            self.assertNotIn("loaded ANY private key", side.charon.said())
        self.passes()
        left.pki.issue("left", "ed25519")  # which no token signs with
        left.identify()
        self.assertTrue(until(lambda: left.status().get("version") == "2"), self.tell())
        self.assertTrue(until(lambda: left.status()["key-at"] == "charon"), self.tell())
        self.passes()

    def test_a_revoked_peer_is_cut(self):
        left, right = self.up()
        left.pki.publish("right")
        left.m.write("ca/corp/crl.pem", left.pki.read("crl.pem"))
        left.becomes("cut")
        self.assertIn("CN=right.example.net is revoked", left.status()["last-error"])
        self.is_blocked()
        self.assertTrue(until(lambda: left.tables("sas") == []))
        right.ask("up")  # charon does not have the connection any more
        time.sleep(0.5)
        self.assertEqual(left.tables("sas"), [])
        self.assertEqual(left.status()["state"], "cut")
        left.pki.publish()
        left.m.write("ca/corp/crl.pem", left.pki.read("crl.pem"))
        left.becomes("up")
        self.passes()

    def test_attack_73_another_one_s_socket(self):
        pki = Pki(self.folder / "pki")
        left = Side(self, "left", pki)
        left.charon.stop()
        left.charon.socket.unlink(missing_ok=True)
        left.trust()
        left.identify()
        left.tunnel(start="start")

        def fails(words):
            self.assertTrue(until(lambda: words in left.status()["last-error"]),
                            left.m.read("ipsec/net/status"))
            self.assertEqual(left.status()["state"], "failed")
            self.is_blocked()
            self.assertIn(words, left.ask("up"))
        fails("No such file or directory")
        for user, words in ((GAMES, "is user 5's, not root's"),
                            (0, "charon did not answer")):
            with socket.socket(socket.AF_UNIX) as fake:
                os.chown(left.charon.folder, user, -1)
                os.setresuid(user, user, 0)  # who listens has the rights of now
                try:
                    fake.bind(str(left.charon.socket))
                    fake.listen()
                finally:
                    os.setresuid(0, 0, 0)
                fails(words)
            left.charon.socket.unlink()
        left.charon.start()
        left.becomes("connecting")

    def test_attack_74_revoked_while_rekeying(self):
        left, right = self.up()
        for i in range(many(100)):
            print("revoked while rekeying", i)
            rekeying = [threading.Thread(target=side.ask, args=("rekey",)) for side in (left, right)]
            for thread in rekeying:
                thread.start()
            time.sleep(random.random() / 20)
            left.pki.publish("right")
            with Stream(pace=0.002) as stream:
                left.m.write("ca/corp/crl.pem", left.pki.read("crl.pem"))
                left.becomes("cut")
                time.sleep(0.1)
                heard = {host: len(numbers) for host, numbers in stream.heard.items()}
                time.sleep(0.3)
                self.assertEqual({host: len(numbers) for host, numbers in stream.heard.items()},
                                 heard)
            self.assertEqual(left.tables("sas"), [])
            for thread in rekeying:
                thread.join()
            left.pki.publish()
            left.m.write("ca/corp/crl.pem", left.pki.read("crl.pem"))
            for side in (left, right):
                side.becomes("up")
            self.passes()

    def test_others_connections_are_left_alone(self):
        left, right = self.up()
        left.charon.load(left.pki, "192.0.2.1", "192.0.2.77")
        left.m.kill("ipsec")
        left.becomes("up")
        before = left.charon.swanctl("--list-conns")
        self.assertIn("t: IKEv2", before)
        (left.m.point / "ipsec/net").rmdir()
        self.assertTrue(until(lambda: "pkifs" not in left.charon.swanctl("--list-conns")))
        self.assertTrue(until(lambda: "pkifs" not in left.charon.swanctl("--list-sas")))
        self.assertIn("t: IKEv2", left.charon.swanctl("--list-conns"))
        self.assertTrue(until(lambda: all(line.startswith(("dir=3", "dir=4"))  # charon's sockets'
                                          for line in left.tables("policies"))))

    def test_a_peer_that_is_not_believed_never_gets_a_packet(self):
        left, right = self.sides()
        left.tunnel(remote_id="*.net")  # to charon * is more than a label
        with Stream(pace=0.002) as stream:
            left.m.write("ipsec/net/request", "up")
            left.becomes("cut")
            time.sleep(0.3)
        self.assertEqual(stream.heard, {"left": set(), "right": set()})
        self.assertIn("the peer is right.example.net, and not what remote-id = *.net stands for",
                      left.status()["last-error"])

    def test_charon_has_the_crl(self):
        left, right = self.sides()
        left.pki.publish("right")
        left.m.write("ca/corp/crl.pem", left.pki.read("crl.pem"))
        self.assertIn("revoked", left.ask("up"))
        self.assertIn("certificate was revoked on", left.charon.said())
        left.pki.publish()
        left.m.write("ca/corp/crl.pem", left.pki.read("crl.pem"))
        self.bring_up(left, right)

    def test_what_starts_it(self):
        left, right = self.sides()
        right.tunnel(remote_address="any")  # it is called
        with self.assertRaises(OSError):
            right.tunnel(remote_address="any", start="trap")
        self.assertIn("start = trap needs an IP address", right.status()["last-error"])
        left.tunnel(start="trap")
        left.becomes("down")
        self.assertTrue(until(lambda: ping("10.1.0.1", "10.2.0.1", patience=0.5)), self.tell())
        left.becomes("up")
        right.becomes("up")
        self.passes()
        left.ask("down")
        self.is_blocked()  # and no packet begins it
        self.assertEqual(left.status()["state"], "down")
        left.tunnel(start="start", remote_id="other.example.net")
        self.assertIn("failed: ", left.ask("up"))
        self.is_blocked()
        left.tunnel(start="start", remote_id="*.example.net")  # as it is tried anyway
        left.becomes("up")
        self.passes()


if __name__ == "__main__":
    unittest.main(verbosity=2)
