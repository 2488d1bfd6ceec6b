"""Attacks by certificates on `verify`, a test each; those on the path itself are unit tests."""

import base64
import os
import time

from harness import SANITIZED, SHARE, main, many
from x509 import Asked, Authority


def der(pem):
    return base64.b64decode("".join(pem.splitlines()[1:-1]))


def pem(data):
    return (b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(data) +
            b"-----END CERTIFICATE-----\n")


def of_store(m, pid):
    """Its memory in kB, and seconds of the processor that it used."""
    with open(f"/proc/{pid}/status") as status:
        memory = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return memory, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Deceived(Asked):
    """Certificates that want to be taken for others."""

    def test_attack_45_names_in_cn_alone(self):
        m = self.mount()
        self.profile(m)
        for subject, name in (("/CN=a.example", "a.example"), ("/CN=192.0.2.1", "192.0.2.1"),
                              ("/CN=x/emailAddress=me@a.example", "me@a.example")):
            self.assertIn("does not have the",
                          self.ask(m, f"name = {name}\n" + self.ca.issue(subject)))

    def test_attack_47_keys_and_texts_that_cost(self):
        m = self.mount()
        self.profile(m)
        leaf = self.ca.server().encode()
        store = m.children("store")[0]
        for text in (b"a = b\n" * (1 << 17), b"policy = 1.2.3\n" * (1 << 15) + leaf,
                     b"-----BEGIN CERTIFICATE-----\n" * (1 << 15), leaf * 1000,
                     b"name = " + b"a." * (1 << 18) + b"\n" + leaf,
                     b"policy = " + b"1." * 2000 + b"1\n" + leaf, b"\0" * (1 << 20),
                     leaf + b"-----BEGIN X509 CRL-----\n" + b"A" * (1 << 19)):
            _, begun = of_store(m, store)
            answer = self.ask(m, text[:1 << 20])
            _, ended = of_store(m, store)
            self.assertTrue(answer.startswith(("failed: text: ", "ok")), answer)
            if not SANITIZED:
                self.assertLess(ended - begun, 0.5, text[:40])

    def test_attack_50_a_bogus_certificate_is_judged_first_and_the_real_one_still_passes(self):
        m = self.mount()
        self.profile(m)
        sub = Authority(self.folder, "Sub", self.ca)
        (self.folder / "evil").mkdir()
        root = Authority(self.folder / "evil", "Root")
        root.serial = sub.above.serial - 1  # its Sub has the serial number of the real one
        bogus = Authority(self.folder / "evil", "Sub", root)
        leaf = sub.server()
        self.assertNotIn("ok", self.ask(m, bogus.server() + bogus.pem + root.pem))
        self.assertEqual(self.ask(m, leaf + bogus.pem + root.pem + sub.pem), "ok\n")

    def test_attack_60_a_subject_that_is_more_than_a_line(self):
        m = self.mount()
        self.profile(m)
        other = Authority(self.folder, "Other")
        answer = self.ask(m, other.issue("/CN=x\nok/O=\x1b[2J\u202e"))
        self.assertTrue(answer.startswith("failed: "), answer)
        self.assertEqual(answer.count("\n"), 1)
        self.assertTrue(answer[:-1].isprintable(), answer)


class Many(Asked):
    def test_attack_51_as_many_peers_leave_neither_memory_nor_work(self):
        m = self.mount()
        self.profile(m)
        good = der(self.ca.server())
        at = good.index(bytes([2, 1, self.ca.serial])) + 2  # the serial number
        store = m.children("store")[0]
        before = None
        for i in range(100_000 if SHARE >= 100 else many(20_000)):
            peer = bytearray(good)
            peer[at] ^= i & 0x3f
            peer[-4:] = i.to_bytes(4, "big")  # and its signature
            answer = self.ask(m, b"name = a.example\n" + pem(bytes(peer)))
            self.assertTrue(answer.startswith("failed: CN=a.example: "), answer)
            if i == 200:
                before, _ = of_store(m, store)
        after, begun = of_store(m, store)
        time.sleep(0.5)
        _, ended = of_store(m, store)
        if not SANITIZED:
            self.assertLess(after - before, 512)
        self.assertLess(ended - begun, 0.1)


if __name__ == "__main__":
    main()
