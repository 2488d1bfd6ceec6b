"""Tunnels: folders that make SAs and policies on a kernel with ESP (user-mode-linux), beside a peer
that is keyed by hand."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
import unittest

from x509 import Authority
from harness import Test, until
from storefile import sql
import xfrm_hosts
from xfrm_hosts import MARK, Tables, on, ping, talk

CONFIG = """engine = manual
local-address = 192.0.2.1
remote-address = 192.0.2.2
local-subnet = 10.1.0.0/24
remote-subnet = 10.2.0.0/24
"""
CAP_NET_ADMIN = 1 << 12


def key(seed):
    return bytes((seed * 11 + i) % 256 for i in range(36)).hex()


class Uml(xfrm_hosts.Guest):
    script, seconds = "test_ipsec.py", 290


class InGuest(xfrm_hosts.TwoHosts, Test):
    def start(self):
        """A daemon on the left host, its processes behind their walls."""
        m = self.mount(f"store={self.folder}/var/store.db", "privilege-separation=yes", "user=daemon",
                       "worker-user=games", "ipsec-user=bin", start=False)
        self.addCleanup(self.clean)
        with on("left"):
            m.start()
        return m

    def clean(self):
        """What a daemon that is gone left in the kernels."""
        for host in ("left", "right"):
            for what in ("state", "policy"):
                subprocess.run(["ip", "-n", host, "xfrm", what, "flush"], check=False)

    def tunnel(self, m, name="berlin", config=CONFIG):
        folder = m.point / "ipsec" / name
        folder.mkdir()
        (folder / "config").write_text(config)
        return folder

    def peer(self, first, spi_in, spi_out, seed):
        """The right host has the other end of a pair."""
        self.right("sa", "192.0.2.1", "192.0.2.2", spi_out, 7, "tunnel", "aes256gcm16",
                   key(seed + 1), "window=32")
        self.right("sa", "192.0.2.2", "192.0.2.1", spi_in, 7, "tunnel", "aes256gcm16", key(seed))
        self.right("policy", "out", "10.2.0.0/24", "10.1.0.0/24", "allow", "192.0.2.2",
                   "192.0.2.1", spi_in, 7, "tunnel")
        if first:
            for direction in ("in", "fwd"):
                self.right("policy", direction, "10.1.0.0/24", "10.2.0.0/24", "allow",
                           "192.0.2.1", "192.0.2.2", 0, 7, "tunnel")

    def ask(self, folder, text):
        (folder / "request").write_text(text)
        return (folder / "wait").read_text().strip()

    def load(self, folder, spi_in, spi_out, seed):
        return self.ask(folder, f"action = load-sa\nspi-in = {spi_in}\nspi-out = {spi_out}\n"
                                f"esp = aes-256-gcm\nkey-in = {key(seed)}\n"
                                f"key-out = {key(seed + 1)}\n")

    def status(self, folder):
        lines = (folder / "status").read_text().splitlines()
        return dict(line.split(" =", 1) for line in lines)

    def state(self, folder):
        return self.status(folder)["state"].strip()

    def becomes(self, folder, state):
        if not until(lambda: self.state(folder) == state, 20):
            self.fail(f"not {state}: " + (folder / "status").read_text())

    def up(self, m, name="berlin"):
        folder = self.tunnel(m, name)
        self.peer(True, 0x1001, 0x1002, 1)
        self.assertEqual(self.load(folder, 0x1001, 0x1002, 1), "ok")
        return folder

    def spis(self):
        """The SPIs of ESP on the wire since the last look, towards the right."""
        return {int.from_bytes(packet[2][20:24], "big") for packet in self.wire.packets()
                if packet[0] == 50 and packet[2][16:20] == bytes((192, 0, 2, 2))}

    def is_blocked(self):
        self.wire.packets()
        self.assertFalse(ping("10.1.0.1", "10.2.0.1", patience=0.3))
        self.assertEqual(self.wire.packets(), [])

    def passes(self):
        self.wire.packets()
        self.assertTrue(talk("10.1.0.1", "10.2.0.1"))
        seen = self.wire.packets()
        self.assertEqual({packet[0] for packet in seen}, {50})
        self.assertFalse([packet for packet in seen if MARK in packet[2]])

    def test_a_tunnel_s_life(self):
        m = self.start()
        self.assertTrue(ping("10.1.0.1", "10.2.0.1"))
        folder = self.tunnel(m)
        self.assertEqual(sorted(os.listdir(folder)), ["config", "request", "status", "wait"])
        self.assertTrue(until(lambda: len(self.left("policies")) == 3))
        self.is_blocked()
        pid, = m.children("ipsec")
        with open(f"/proc/{pid}/status") as file:
            walls = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        self.assertEqual(walls["Uid"].split(), ["2"] * 4)
        for rights in ("CapEff", "CapPrm", "CapAmb"):
            self.assertEqual(int(walls[rights], 16), CAP_NET_ADMIN, rights)
        self.assertEqual(int(walls["CapBnd"], 16), 0)
        self.assertEqual(self.state(folder), "down")

        self.peer(True, 0x1001, 0x1002, 1)
        self.assertEqual(self.load(folder, 0x1001, 0x1002, 1), "ok")
        self.assertEqual(self.state(folder), "up")
        self.passes()
        self.assertIn("key-in = ***", (folder / "request").read_text())
        self.assertEqual(self.status(folder)["esp"], " aes256gcm16")

        self.peer(False, 0x2001, 0x2002, 3)
        self.assertEqual(self.load(folder, 0x2001, 0x2002, 3), "ok")
        self.passes()
        self.wire.packets()
        ping("10.1.0.1", "10.2.0.1")
        self.assertEqual(self.spis(), {0x1002})  # the new ones are there, and wait
        self.assertEqual(self.ask(folder, "rekey"), "ok")
        ping("10.1.0.1", "10.2.0.1")
        self.assertEqual(self.spis(), {0x2002})
        self.assertEqual(len(self.left("sas")), 4)  # the peer may still use the old ones
        self.assertIn("packets-out", self.until_counted(folder))
        self.assertTrue(until(lambda: 'pkifs_tunnel_packets_total{name="berlin",direction="out"} '
                              in (m.point / "metrics").read_text()))
        self.assertIn('name="berlin",state="up"} 1', (m.point / "metrics").read_text())

        before = time.monotonic()
        self.assertEqual(self.ask(folder, "down"), "ok")
        self.assertEqual(self.state(folder), "down")
        self.assertEqual(self.left("sas"), [])
        self.is_blocked()
        self.assertLess(time.monotonic() - before, 20)
        events = (m.point / "events").read_text()
        for event in ("up", "down", "created"):
            self.assertIn(f'"event":"{event}","kind":"ipsec","name":"berlin"', events)
        folder.rmdir()
        self.assertTrue(until(lambda: self.left("policies") == []))

    def until_counted(self, folder):
        until(lambda: "packets-out" in self.status(folder), 15)
        return self.status(folder)

    def test_old_sas_go(self):
        m = self.start()
        folder = self.up(m)
        self.load(folder, 0x2001, 0x2002, 3)
        self.assertEqual(self.ask(folder, "rekey"), "ok")
        self.assertEqual(len(self.left("sas")), 4)
        time.clock_settime(time.CLOCK_REALTIME, time.time() + 28)  # the guest's alone
        self.assertEqual(len(self.left("sas")), 4)
        self.assertTrue(until(lambda: len(self.left("sas")) == 2))
        self.assertEqual({line.split()[0] for line in self.left("sas")},
                         {"spi=0x2001", "spi=0x2002"})

    def test_what_cannot_be(self):
        m = self.start()
        folder = self.tunnel(m)
        good = {"action": "load-sa", "spi-in": "0x1001", "spi-out": "0x1002", "esp": "aes256gcm16",
                "key-in": key(1), "key-out": key(2)}
        for change, why in (
                ({"key-in": key(1)[2:]}, "key-in takes 36 bytes with esp = aes256gcm16"),
                ({"key-in": key(2)}, "key-in and key-out are the same"),
                ({"spi-in": "255"}, "spi-in takes a number from 256"),
                ({"esp": "3des-sha256"}, "3des is weak"),
                ({"esp": "aes256"}, "needs something that proves integrity"),
                ({"key-out": "xyz"}, "key-out takes up to 128 bytes as hex digits"),
                ({"engine": "builtin"}, "engine = builtin is not supported by this version"),
                ({"remote-address": "any"}, "needs an IP address as remote-address"),
                ({"action": "rekey"}, "no other SAs are loaded"),
                ({"action": "up"}, "no SAs are loaded")):
            text = "".join(f"{name} = {value}\n" for name, value in {**good, **change}.items())
            with self.assertRaises(OSError):
                (folder / "request").write_text(text)
            self.assertIn(why, self.status(folder)["last-error"])
        for line, why in (("local-subnet = 10.1.0.1/24", "bits behind its prefix"),
                          ("mark = 5/4", "mark takes VALUE"),
                          ("netns = ../x", "name of a network namespace"),
                          ("esp-proposal = 3des-sha256", "3des is weak"),
                          ("certificate-id = nobody", "there is no certificate id")):
            with self.assertRaises(OSError):
                (folder / "config").write_text(CONFIG + line + "\n")
            self.assertIn(why, self.status(folder)["last-error"])
        self.assertEqual(self.state(folder), "down")

    @contextlib.contextmanager
    def stream(self):
        """Pings all the time, each of which must be answered."""
        lost, sent, end = [], [], threading.Event()

        def send():
            while not end.is_set():
                sent.append(1)
                if not ping("10.1.0.1", "10.2.0.1", patience=2):
                    lost.append(len(sent))
        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()
        print(f"{len(sent)} pings, lost: {lost}")
        self.assertEqual(lost, [])
        self.assertGreater(len(sent), 3)

    def test_deaths_change_nothing_in_the_kernel(self):
        m = self.start()
        folder = self.up(m)
        before = self.left("policies")
        for role in ("ipsec", "store"):
            with self.subTest(role), self.stream():
                old = m.children("ipsec")
                m.kill(role)
                self.assertTrue(until(lambda: m.children("ipsec") not in ([], old)))
                self.assertEqual(self.state(folder), "up")
                time.sleep(0.5)
        with self.subTest("all"), self.stream():
            m.kill_all()
            with on("left"):
                m.start()
            self.assertTrue(until(lambda: m.children("ipsec")))
            self.assertEqual(self.state(folder), "up")
            time.sleep(0.5)
        self.assertEqual(self.left("policies"), before)
        self.assertEqual(self.load(folder, 0x2001, 0x2002, 3), "ok")
        self.assertNotIn('"event":"drift"', (m.point / "events").read_text())

    def test_attack_72_others_sas_and_policies_are_theirs(self):
        self.left("sa", "192.0.2.9", "192.0.2.1", 0x1001, 7, "tunnel", "aes256gcm16", key(9))
        self.left("policy", "out", "10.1.0.0/24", "10.2.0.0/24", "block", "mark=9")
        m = self.start()
        folder = self.tunnel(m)
        self.peer(True, 0x1001, 0x1002, 1)
        why = self.load(folder, 0x1001, 0x1002, 1)
        self.assertIn("failed: the kernel does not take the SA of SPI 0x00001001: ", why)
        self.assertEqual(len(self.left("sas")), 1)
        self.is_blocked()
        self.peer(False, 0x3001, 0x3002, 1)
        self.assertEqual(self.load(folder, 0x3001, 0x3002, 1), "ok")
        self.passes()

        for damage in (("delete-policy", "out", "10.1.0.0/24", "10.2.0.0/24"),
                       ("policy", "out", "10.1.0.0/24", "10.2.0.0/24", "allow")):
            with self.subTest(damage):
                before = (m.point / "events").read_text().count('"event":"drift"')
                self.left(*damage)
                self.assertTrue(until(lambda: (m.point / "events").read_text().count(
                    '"event":"drift"') > before))
                self.passes()
        self.left("delete-sa", "192.0.2.2", 0x3002)
        self.becomes(folder, "down")
        self.assertIn("no longer has the SAs", self.status(folder)["last-error"])
        self.is_blocked()
        folder.rmdir()
        self.assertTrue(until(lambda: len(self.left("policies")) == 1))
        self.assertEqual(self.left("policies"), ["dir=1 action=1 reqid=0 spi=0x0 mark=9"])
        self.assertEqual([line.split()[0] for line in self.left("sas")], ["spi=0x1001"])

    def test_one_that_stands_in_a_policy_s_place_is_told(self):
        self.left("policy", "out", "10.1.0.0/24", "10.2.0.0/24", "allow")
        m = self.start()
        folder = self.tunnel(m)
        self.becomes(folder, "failed")
        self.assertIn("the policy of direction out: File exists", self.status(folder)["last-error"])
        self.left("delete-policy", "out", "10.1.0.0/24", "10.2.0.0/24")
        self.becomes(folder, "down")  # by itself, soon
        self.is_blocked()

        self.left("policy", "out", "10.1.0.9/32", "10.2.0.9/32", "allow")
        other = self.tunnel(m, "other", CONFIG.replace("0.0/24", "0.9/32"))
        self.becomes(other, "failed")
        other.rmdir()
        self.assertTrue(until(lambda: len(self.left("policies")) == 4))
        self.assertIn("dir=1 action=0 reqid=0 spi=0x0 mark=0", self.left("policies"))

    def test_a_restart_after_a_reboot_blocks(self):
        m = self.start()
        folder = self.up(m)
        m.kill_all()
        for what in ("state", "policy"):
            subprocess.run(["ip", "-n", "left", "xfrm", what, "flush"], check=True)
        with on("left"):
            m.start()
        self.becomes(folder, "down")
        self.assertIn("no longer has the SAs", self.status(folder)["last-error"])
        self.is_blocked()

    def test_one_that_cannot_be_read_is_not_unblocked(self):
        m = self.start()
        self.up(m)
        self.tunnel(m, "paris", CONFIG.replace("10.2.0.0", "10.3.0.0"))
        self.assertTrue(until(lambda: len(self.left("policies")) == 6))
        before = sorted(self.left("policies"))
        m.stop()
        sql(self.folder / "var/store.db", "UPDATE meta SET value=x'ff' WHERE name LIKE 'tunnel-%'")
        with on("left"):
            m.start()
        self.assertTrue(until(lambda: "tunnel berlin cannot be read" in m.log.read_text()))
        self.becomes(m.point / "ipsec/paris", "down")
        time.sleep(0.3)
        self.assertEqual(sorted(self.left("policies")), before)

    def test_ipv6_neighbours_find_each_other(self):
        """Host to host, where nothing else passes in clear."""
        ends = "2001:db8::1", "2001:db8::2"
        m = self.start()
        folder = self.tunnel(m, config="engine = manual\nmode = transport\n"
                                       f"local-address = {ends[0]}\nremote-address = {ends[1]}\n")
        self.assertTrue(until(lambda: len(self.left("policies")) == 6))
        self.assertFalse(ping(*ends, patience=0.3))
        sa = 7, "transport", "aes256gcm16"
        for direction, spi, seed in ((1, 0x1002, 2), (-1, 0x1001, 1)):
            self.right("sa", *ends[::direction], spi, *sa, key(seed))
        self.right("policy", "out", "2001:db8::2/128", "2001:db8::1/128", "allow", *ends[::-1],
                   0x1001, 7, "transport")
        for kind in ("135", "136"):
            for direction, one, other in (("out", *ends[::-1]), ("in", *ends)):
                subprocess.run(["ip", "-n", "right", "xfrm", "policy", "add", "src", one, "dst",
                                other, "proto", "ipv6-icmp", "type", kind, "dir", direction,
                                "priority", "1"], check=True)
        self.assertEqual(self.load(folder, 0x1001, 0x1002, 1), "ok")
        for host in ("left", "right"):
            subprocess.run(["ip", "-n", host, "neigh", "flush", "dev", "wan0"], check=True)
        self.wire.packets()
        self.assertTrue(ping(*ends))
        self.assertEqual({packet[0] for packet in self.wire.packets()}, {50})
        self.assertEqual(self.ask(folder, "down"), "ok")
        self.assertFalse(ping(*ends, patience=0.3))

    def test_another_network_namespace(self):
        subprocess.run(["ip", "netns", "add", "spare"], check=True)
        m = self.start()
        there = self.tunnel(m, "there", CONFIG + "netns = spare\n")
        self.is_blocked_in("spare")
        self.assertEqual(self.left("policies"), [])
        nowhere = self.tunnel(m, "nowhere", CONFIG + "netns = nowhere\n")
        self.becomes(nowhere, "failed")
        self.assertIn("network namespace nowhere (netns): No such file",
                      self.status(nowhere)["last-error"])

        subprocess.run(["ip", "netns", "add", "nowhere"], check=True)
        self.becomes(nowhere, "down")
        self.is_blocked_in("nowhere")
        self.assertEqual(self.load(there, 0x1001, 0x1002, 1), "ok")
        for again in (True, False):
            subprocess.run(["ip", "netns", "del", "spare"], check=True)
            if again:
                subprocess.run(["ip", "netns", "add", "spare"], check=True)
            self.becomes(there, "down" if again else "failed")
            if again:
                self.is_blocked_in("spare")
        self.assertIn("network namespace spare (netns): No such file",
                      self.status(there)["last-error"])

    def is_blocked_in(self, namespace):
        with contextlib.closing(Tables(namespace)) as tables:
            self.assertTrue(until(lambda: len(tables("policies")) == 3))

    @contextlib.contextmanager
    def packets(self):
        """UDP goes through the tunnel all the time; gives a function: when the wire had it last."""
        end, seen = threading.Event(), [0.0]

        def send():
            with on("left"):
                sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with sender:
                sender.bind(("10.1.0.1", 0))
                while not end.is_set():
                    with contextlib.suppress(OSError):  # blocked
                        sender.sendto(MARK, ("10.2.0.1", 7777))
                    if self.wire.packets():
                        seen[0] = time.monotonic()
        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield lambda: seen[0]
        finally:
            end.set()
            thread.join()

    def test_external_sas_are_watched_and_cut(self):
        """An IKE daemon (played by hand) makes SAs and policies of its own."""
        m = self.start()
        (m.point / "ca/corp").mkdir()
        pem = Authority(self.folder).pem
        (m.point / "ca/corp/cert.pem").write_text(pem)
        folder = self.tunnel(m, config=CONFIG.replace("manual", "external") +
                             "ca-profile = corp\n")
        self.assertTrue(until(lambda: len(self.left("policies")) == 6))
        self.is_blocked()
        with self.assertRaises(OSError):
            (folder / "request").write_text("up")
        self.assertIn("is for the IKE daemon to do", self.status(folder)["last-error"])

        def connect(out, back):
            self.left("sa", "192.0.2.1", "192.0.2.2", out, 7, "tunnel", "aes256gcm16", key(2))
            self.left("sa", "192.0.2.2", "192.0.2.1", back, 7, "tunnel", "aes256gcm16", key(1))
            for direction, near, far, one, other in (
                    ("out", "10.1.0.0/24", "10.2.0.0/24", "192.0.2.1", "192.0.2.2"),
                    ("in", "10.2.0.0/24", "10.1.0.0/24", "192.0.2.2", "192.0.2.1")):
                self.left("policy", direction, near, far, "allow", one, other, 0, 7, "tunnel")
        connect(0x1002, 0x1001)
        self.peer(True, 0x1001, 0x1002, 1)
        self.becomes(folder, "up")
        self.passes()
        self.assertEqual(self.status(folder)["spi-out"], " 0x00001002")
        self.assertTrue(until(lambda: "packets-in" in self.status(folder), 15))

        self.left("delete-sa", "192.0.2.2", 0x1002)
        self.becomes(folder, "down")
        self.left("sa", "192.0.2.1", "192.0.2.2", 0x1002, 7, "tunnel", "aes256gcm16", key(2))
        self.becomes(folder, "up")
        (m.point / "ca/corp/request").write_text("unenroll")
        self.becomes(folder, "cut")
        self.assertEqual(self.left("sas"), [])
        self.is_blocked()
        connect(0x2002, 0x2001)  # it does not notice, and rekeys
        self.is_blocked()
        self.assertTrue(until(lambda: self.left("sas") == []))
        self.assertEqual(self.state(folder), "cut")

        (m.point / "ca/corp/cert.pem").write_text(pem)
        self.becomes(folder, "down")
        self.right("delete-sa", "192.0.2.2", 0x1002)  # its window has what was before
        self.right("sa", "192.0.2.1", "192.0.2.2", 0x1002, 7, "tunnel", "aes256gcm16", key(2))
        connect(0x1002, 0x1001)
        self.becomes(folder, "up")
        self.passes()
        folder.rmdir()
        self.assertTrue(until(lambda: len(self.left("policies")) == 2))
        self.assertEqual(len(self.left("sas")), 2)
        self.passes()

    def test_revocation_cuts_and_how_fast(self):
        m = self.start()
        (m.point / "ca/corp").mkdir()
        (m.point / "local/gate").mkdir()
        authority = Authority(self.folder)
        (m.point / "ca/corp/cert.pem").write_text(authority.pem)
        (m.point / "ca/corp/crl.pem").write_text(authority.crl())
        (m.point / "local/gate/config").write_text("ca-profile = corp\n")
        certificate = authority.server("gate.example.net")
        (m.point / "local/gate/key.pem").write_text((self.folder / "leaf.key").read_text())
        (m.point / "local/gate/cert.pem").write_text(certificate)
        folder = self.tunnel(m, config=CONFIG + "certificate-id = gate\n")
        self.peer(True, 0x1001, 0x1002, 1)
        self.assertEqual(self.load(folder, 0x1001, 0x1002, 1), "ok")
        for path in ("local/gate", "ca/corp"):
            with self.assertRaises(OSError):
                (m.point / path).rmdir()
        self.assertTrue(until(lambda: "good" in self.status(m.point / "local/gate")["revocation"]))
        authority.revoke()
        crl = authority.crl()
        with self.packets() as last:
            time.sleep(0.3)
            self.assertTrue(last())
            (m.point / "ca/corp/crl.pem").write_text(crl)
            self.becomes(folder, "cut")
            told = time.monotonic()
            time.sleep(1)
            self.assertLess(last(), told + 0.5)  # this thread may see it late
        self.assertEqual(self.left("sas"), [])
        self.is_blocked()
        self.assertIn("the certificate of certificate id gate is revoked",
                      self.status(folder)["last-error"])
        with self.assertRaises(OSError):
            (folder / "request").write_text("up")
        self.assertIn("the tunnel is cut", self.status(folder)["last-error"])

    def test_how_fast_a_cut_is(self):
        m = self.start()
        folder = self.trusted(m)
        with self.packets() as last:
            time.sleep(0.3)
            begun = time.monotonic()
            (m.point / "ca/corp/request").write_text("unenroll")
            self.becomes(folder, "cut")
            told = time.monotonic()
            time.sleep(1)
            print(f"the last packet {(last() - begun) * 1e3:.1f} ms after the write began")
            self.assertLess(last(), told + 0.5)

    def trusted(self, m):
        """A tunnel with a CA, up."""
        (m.point / "ca/corp").mkdir()
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:P-256", "-nodes", "-keyout", "/dev/null", "-subj",
                        "/CN=CA", "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-out",
                        self.folder / "ca.pem"], check=True, capture_output=True)
        (m.point / "ca/corp/cert.pem").write_bytes((self.folder / "ca.pem").read_bytes())
        folder = self.tunnel(m, config=CONFIG + "ca-profile = corp\n")
        self.peer(True, 0x1001, 0x1002, 1)
        self.assertEqual(self.load(folder, 0x1001, 0x1002, 1), "ok")
        self.passes()
        return folder

    def test_no_ca_no_tunnel(self):
        m = self.start()
        folder = self.trusted(m)
        with self.assertRaises(OSError):
            (m.point / "ca/corp").rmdir()
        self.assertIn("in use by ipsec berlin", (m.point / "ca/corp/status").read_text())
        (m.point / "ca/corp/request").write_text("unenroll")
        self.becomes(folder, "cut")
        self.is_blocked()
        self.assertEqual(self.left("sas"), [])
        self.assertIn("profile corp has no CA certificate", self.status(folder)["last-error"])
        (m.point / "ca/corp/cert.pem").write_bytes((self.folder / "ca.pem").read_bytes())
        self.becomes(folder, "down")
        self.assertEqual(self.load(folder, 0x3001, 0x3002, 1), "ok")

    def test_no_crl_no_tunnel(self):
        m = self.start()
        authority = Authority(self.folder)
        for name in ("ca/corp", "local/gate"):
            (m.point / name).mkdir()
        (m.point / "ca/corp/config").write_text("kernel-keyring = corp\n")
        (m.point / "ca/corp/cert.pem").write_text(authority.pem)
        (m.point / "local/gate/config").write_text("ca-profile = corp\n")
        certificate = authority.server("gate.example.net")
        (m.point / "local/gate/key.pem").write_text((self.folder / "leaf.key").read_text())
        (m.point / "local/gate/cert.pem").write_text(certificate)
        folder = self.tunnel(m, config=CONFIG + "certificate-id = gate\n")
        self.becomes(folder, "cut")
        self.assertIn("is revoked is not known", self.status(folder)["last-error"])
        self.is_blocked()
        self.peer(True, 0x1001, 0x1002, 1)
        with self.assertRaises(OSError):
            self.load(folder, 0x1001, 0x1002, 1)
        (m.point / "ca/corp/crl.pem").write_text(authority.crl())
        self.becomes(folder, "down")
        self.assertEqual(self.load(folder, 0x1001, 0x1002, 1), "ok")
        self.passes()
        (m.point / "ca/corp/request").write_text("clear-crl")
        self.becomes(folder, "cut")
        self.is_blocked()
        self.assertEqual(self.left("sas"), [])
        # a guest's kernel is without
        self.assertIn("corp: none: ", self.status(m.point / "ca/corp")["kernel-keyring"])

    def test_attack_75_killed_in_a_cut(self):
        m = self.start()
        folder = self.trusted(m)
        pid, = m.children("ipsec")
        os.kill(pid, signal.SIGSTOP)
        (m.point / "ca/corp/request").write_text("unenroll")
        os.kill(pid, signal.SIGKILL)
        self.becomes(folder, "cut")
        self.is_blocked()
        self.assertEqual(self.left("sas"), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
