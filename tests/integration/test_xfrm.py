"""netlink/'s XFRM layer on a kernel with ESP (user-mode-linux): each algorithm and mode with traffic
that nobody on the wire can read, limits, events, errors."""

import contextlib
import socket
import subprocess
import time
import unittest

from harness import until
import xfrm_hosts
from xfrm_hosts import ADDRESSES, MARK, on, ping, talk

KEY = {"aes128gcm16": 20, "aes256gcm16": 36, "chacha20poly1305": 36, "aes128": 16, "aes256": 32,
       "aes128ctr": 20, "aes256ctr": 36, "3des": 24, "sha256": 32, "sha384": 48, "sha512": 64,
       "sha1": 20}
ALGORITHMS = ("aes128gcm16", "aes256gcm16", "chacha20poly1305", "aes256gcm16-esn",
              "aes128-sha256", "aes256-sha384", "aes256-sha512", "aes128ctr-sha256",
              "aes256ctr-sha512-esn", "3des-sha1")


def key(proposal, seed):
    return bytes((seed * 7 + i * 5) % 256 for i in
                 range(sum(KEY[part] for part in proposal.split("-") if part != "esn"))).hex()


class Uml(xfrm_hosts.Guest):
    script, seconds = "test_xfrm.py", 280


class InGuest(xfrm_hosts.TwoHosts):
    spi = 0x1000
    nat = True

    def tunnel(self, proposal, outer, inner, mode="tunnel", more=""):
        """SAs in both directions, and policies: `outer` and `inner` index ADDRESSES. Gives what
        takes it away."""
        InGuest.spi += 2
        out, back = self.spi, self.spi + 1
        local, remote = (ADDRESSES[host][outer] for host in ("left", "right"))
        length = 128 if inner >= 2 else 32
        near, far = (f"{ADDRESSES[host][inner]}/{length}" for host in ("left", "right"))
        for host in (self.left, self.right):
            host("sa", local, remote, out, 7, mode, proposal, key(proposal, 1), more)
            host("sa", remote, local, back, 7, mode, proposal, key(proposal, 2), more)
        for host, (here, there, my, your, mine) in (
                (self.left, (near, far, local, remote, out)),
                (self.right, (far, near, remote, local, back))):
            host("policy", "out", here, there, "allow", my, your, mine, 7, mode)
            host("policy", "in", there, here, "allow", your, my, 0, 7, mode)

        def remove():
            for host, (here, there) in ((self.left, (near, far)), (self.right, (far, near))):
                host.try_("delete-policy", "out", here, there)
                host.try_("delete-policy", "in", there, here)
                host.try_("delete-sa", remote, out)
                host.try_("delete-sa", local, back)
        self.addCleanup(remove)
        return remove

    def passes(self, inner, protocol=50, port=None, **options):
        """Traffic passes, and all of it is ESP."""
        near, far = ADDRESSES["left"][inner], ADDRESSES["right"][inner]
        self.wire.packets()
        self.assertTrue(ping(near, far, **options), "no answer to a ping")
        self.assertTrue(talk(near, far, **options), "no TCP")
        seen = self.wire.packets()
        self.assertGreater(len(seen), 10)
        self.assertEqual({packet[0] for packet in seen}, {protocol})
        if port:
            self.assertEqual({packet[1] for packet in seen}, {port})
        self.assertFalse([packet for packet in seen if MARK in packet[2]])

    def test_the_wire_is_seen(self):
        self.wire.packets()
        self.assertTrue(talk("10.1.0.1", "10.2.0.1"))
        self.assertTrue([packet for packet in self.wire.packets() if MARK in packet[2]])

    def test_each_algorithm(self):
        for proposal in ALGORITHMS:
            with self.subTest(proposal):
                remove = self.tunnel(proposal, 1, 0)
                self.passes(0)
                remove()

    def test_each_mode_and_family(self):
        for mode, outer, inner in (("tunnel", 3, 2), ("tunnel", 1, 2), ("tunnel", 3, 0),
                                   ("transport", 1, 1), ("transport", 3, 3)):
            with self.subTest(mode=mode, outer=outer, inner=inner):
                remove = self.tunnel("aes256gcm16", outer, inner, mode)
                self.passes(inner)
                remove()

    def test_udp_encapsulation(self):
        for host in (self.left, self.right):
            host("natt", 4, 4500)
        self.tunnel("aes256gcm16", 1, 0, more="encap=4500")
        self.passes(0, 17, 4500)

    def heard(self):
        """What came to the right's socket for IKE."""
        found = []
        until(lambda: found.extend(self.right("heard")) or found)
        return [line.split() for line in found]

    def behind_nat(self):
        """The left's tunnel through the router to the right, whose SAs have the port that it shows.
        The SPIs of the right, in and out."""
        here, shown, there = "198.51.100.2", "203.0.113.1", "203.0.113.2"
        for host in (self.left, self.right):
            host("natt", 4, 4500)
        self.left("ike", there, 4500, "hello")
        (address, port, word), = self.heard()
        self.assertEqual((address, word), (shown, "hello"))
        self.assertNotEqual(port, "4500")
        InGuest.spi += 2
        out, back = self.spi, self.spi + 1
        for host, me, you, spis, near, far, seeds, port in (
                (self.left, here, there, (out, back), "10.1.0.1/32", "10.2.0.1/32", (1, 2), 4500),
                (self.right, there, shown, (back, out), "10.2.0.1/32", "10.1.0.1/32", (2, 1), port)):
            self.half(host, me, you, spis[0], seeds[0], "encap=4500", f"encap-to={port}")
            self.half(host, you, me, spis[1], seeds[1], f"encap={port}", "encap-to=4500",
                      "window=32")
            for direction, one, other, ends, spi in (("out", near, far, (me, you), spis[0]),
                                                     ("in", far, near, (you, me), 0)):
                host("policy", direction, one, other, "allow", *ends, spi, 7, "tunnel")
                self.addCleanup(host.try_, "delete-policy", direction, one, other)
        return out, back

    def half(self, host, source, target, spi, seed, *more):
        host("sa", source, target, spi, 7, "tunnel", "aes256gcm16", key("aes256gcm16", seed), *more)
        self.addCleanup(host.try_, "delete-sa", target, spi)

    def test_a_nat_that_changes_its_mind(self):
        """The right follows the peer's port, and the keys and numbers of packets stay."""
        out, back = self.behind_nat()
        self.passes(0, 17)
        self.right("events")
        for state in ("down", "up"):  # the router forgets whom it knew
            subprocess.run(["ip", "-n", "nat", "link", "set", "out0", state], check=True)
        self.assertFalse(ping("10.1.0.1", "10.2.0.1", patience=0.5))
        self.assertIn(f"mapping spi=0x{out:x} reqid=7 from=", "\n".join(self.right("events")))
        before = self.counted(self.right, out)
        self.right("follow", out, back)
        self.passes(0, 17)
        self.assertGreater(self.counted(self.right, out), before)
        self.assertNotIn("mapping", "\n".join(self.right("events")))

    def test_keepalives_are_nobody_s_message(self):
        self.behind_nat()
        self.wire.packets()
        self.left("keepalive", "203.0.113.2", 4500)
        self.left("ike", "203.0.113.2", 4500, "more")
        self.assertEqual([words[2] for words in self.heard()], ["more"])
        self.assertIn(b"\xff", [packet[28:] for _, _, packet in self.wire.packets()])

    def test_ike_passes_where_all_is_blocked(self):
        ends = ["198.51.100.2/32", "203.0.113.2/32"]
        self.left("policy", "out", *ends, "block")
        self.addCleanup(self.left.try_, "delete-policy", "out", *ends)
        for host in (self.left, self.right):
            host("natt", 4, 4500)
        self.left("ike", "203.0.113.2", 4500, "hello")
        self.assertEqual(self.heard()[0][2], "hello")
        with on("left"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            with self.assertRaises(PermissionError):
                other.sendto(b"x", ("203.0.113.2", 4500))

    @staticmethod
    def counted(host, spi):
        """The packets of an SA."""
        return next(int(line.split("packets=")[1].split()[0]) for line in host("sas")
                    if f"spi=0x{spi:x} " in line)

    def test_a_wide_window(self):
        self.tunnel("aes256gcm16-esn", 1, 0, more="window=1024")
        self.passes(0)
        self.assertIn("window=1024 esn=1", self.left("sas")[0])

    def test_a_block_lets_nothing_through(self):
        self.left("policy", "out", "10.1.0.1/32", "10.2.0.1/32", "block")
        self.wire.packets()
        self.assertFalse(ping("10.1.0.1", "10.2.0.1", patience=0.3))
        self.assertEqual(self.wire.packets(), [])
        self.left("delete-policy", "out", "10.1.0.1/32", "10.2.0.1/32")
        self.assertTrue(ping("10.1.0.1", "10.2.0.1"))

    def test_marks(self):
        """Only what has the mark goes that way; and only what has it is flushed."""
        for host in (self.left, self.right):
            host("sa", "192.0.2.1", "192.0.2.2", 0x9001, 8, "tunnel", "aes256gcm16",
                 key("aes256gcm16", 3), *("mark=5",) * (host is self.left))
            host("policy", "fwd", "10.9.0.0/24", "10.9.1.0/24", "block", "mark=5")
        self.left("policy", "out", "10.1.0.1/32", "10.2.0.1/32", "allow", "192.0.2.1", "192.0.2.2",
                  0x9001, 8, "tunnel", "mark=5")
        self.wire.packets()
        self.assertTrue(ping("10.1.0.1", "10.2.0.1"))
        self.assertEqual({packet[0] for packet in self.wire.packets()}, {1})
        self.right("policy", "in", "10.1.0.1/32", "10.2.0.1/32", "allow", "192.0.2.1", "192.0.2.2",
                   0, 8, "tunnel")
        self.assertTrue(ping("10.1.0.1", "10.2.0.1", mark=5))
        self.assertEqual([packet[0] for packet in self.wire.packets()], [50, 1])  # and back
        self.right("delete-policy", "in", "10.1.0.1/32", "10.2.0.1/32")
        self.left("policy", "out", "10.1.0.9/32", "10.2.0.9/32", "block")
        self.left("flush-mark", 5)
        self.assertNotIn("0x9001", "".join(self.left("sas")))
        self.assertEqual(self.left("policies"), ["dir=1 action=1 reqid=0 spi=0x0 mark=0"])
        self.left("delete-policy", "out", "10.1.0.9/32", "10.2.0.9/32")
        self.right("delete-sa", "192.0.2.2", 0x9001)
        self.right("flush-mark", 5)

    def test_each_limit(self):
        """Three packets of 42 bytes go through an SA that ends before."""
        for limit in ("soft-packets=1", "hard-packets=1", "soft-bytes=50", "hard-bytes=50"):
            with self.subTest(limit):
                self.left("events")
                remove = self.tunnel("aes256gcm16", 1, 0, more=limit)
                for _ in range(3):
                    ping("10.1.0.1", "10.2.0.1", patience=0.3)
                self.assertIn(f"expire-{limit[:4]} spi=0x{self.spi:x} reqid=7",
                              "\n".join(self.left("events")))
                remove()

    def test_an_output_mark_is_on_what_goes_out(self):
        rule = "fwmark", "6/255", "prohibit"
        remove = self.tunnel("aes256gcm16", 1, 0, more="output-mark=6")
        self.passes(0)
        subprocess.run(["ip", "-n", "left", "rule", "add", "pref", "1", *rule], check=True)
        self.addCleanup(subprocess.run, ["ip", "-n", "left", "rule", "del", "pref", "1", *rule],
                        check=True)
        self.assertFalse(ping("10.1.0.1", "10.2.0.1", patience=0.3))
        remove()
        self.assertTrue(ping("10.1.0.1", "10.2.0.1"))

    def test_what_is_forwarded_is_blocked(self):
        networks = "fwd", "198.51.100.0/24", "203.0.113.0/24"
        with contextlib.closing(xfrm_hosts.Tables("nat")) as router:
            self.assertTrue(ping("198.51.100.2", "203.0.113.2"))
            router("policy", *networks, "block")
            self.assertFalse(ping("198.51.100.2", "203.0.113.2", patience=0.3))
            router("delete-policy", *networks)
            self.assertTrue(ping("198.51.100.2", "203.0.113.2"))

    def test_output_mark_and_if_id(self):
        self.left("sa", "192.0.2.1", "192.0.2.2", 0x9101, 8, "tunnel", "aes256gcm16",
                  key("aes256gcm16", 3), "output-mark=6", "if-id=12")
        self.assertIn("if-id=12", self.left("sas")[0])
        self.left("delete-sa", "192.0.2.2", 0x9101)

    def test_limits_and_events(self):
        self.left("events")
        self.tunnel("aes256gcm16", 1, 0, more="soft-packets=3")
        self.passes(0)
        told = "\n".join(self.left("events"))
        self.assertIn(f"sa spi=0x{self.spi:x} reqid=7", told)
        self.assertIn("policy spi", told)
        self.assertIn(f"expire-soft spi=0x{self.spi:x} reqid=7", told)
        self.left("sa", "192.0.2.1", "192.0.2.2", 0x9201, 8, "tunnel", "aes256gcm16",
                  key("aes256gcm16", 3), "hard-seconds=1")
        time.sleep(1.5)
        told = "\n".join(self.left("events"))
        self.assertIn("expire-hard spi=0x9201 reqid=8", told)
        self.assertNotIn("0x9201", "\n".join(self.left("sas")))

    def test_an_acquire_and_what_the_kernel_refuses(self):
        self.left("events")
        self.left("policy", "out", "10.1.0.1/32", "10.2.0.1/32", "allow", "192.0.2.1", "192.0.2.2",
                  0, 99, "tunnel")
        self.assertFalse(ping("10.1.0.1", "10.2.0.1", patience=0.3))
        self.assertIn("acquire spi=0x0 reqid=99", "\n".join(self.left("events")))
        self.left("delete-policy", "out", "10.1.0.1/32", "10.2.0.1/32")
        self.assertIn("the kernel does not delete the SA of SPI 0x00000bad",
                      self.left.try_("delete-sa", "192.0.2.2", 0xbad)[1])
        for mode, last in (("tunnel", None), ("tunnel", "the SA of SPI 0x00009301: File exists")):
            why = self.left.try_("sa", "192.0.2.1", "192.0.2.2", 0x9301, 8, mode, "aes256gcm16",
                                 key("aes256gcm16", 3))[1]
            (self.assertIn if last else self.assertEqual)(last, why)
        self.left("delete-sa", "192.0.2.2", 0x9301)

    def test_a_device_that_cannot_is_no_hindrance(self):
        self.left("sa", "192.0.2.1", "192.0.2.2", 0x9302, 8, "tunnel", "aes256gcm16",
                  key("aes256gcm16", 3), "offload=1")
        self.left("delete-sa", "192.0.2.2", 0x9302)


if __name__ == "__main__":
    unittest.main(verbosity=2)
