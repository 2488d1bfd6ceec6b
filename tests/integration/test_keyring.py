"""A profile's certificates in a keyring of this machine's kernel, as keyctl(1) sees it."""

import os
import random
import shutil
import subprocess
import time
import unittest

from harness import LIBC, NOBODY, Clock, Test, many, needs_root, run, until
from x509 import Authority

KEYCTL = shutil.which("keyctl")
SYS_KEYCTL = {"x86_64": 250, "aarch64": 219}.get(os.uname().machine)
SEARCH, READ, USER_KEYRING = 10, 11, -4
QUOTA = 200  # keys of an ordinary user's, /proc/sys/kernel/keys/maxkeys


def keyctl(*words, **options):
    return run(KEYCTL, *words, **options)


def der(pem):
    return subprocess.run(["openssl", "x509", "-outform", "DER"], input=pem.encode(), check=True,
                          capture_output=True).stdout


def add(pem, ring, name="probe"):
    """The exit code of one who puts a certificate there."""
    return subprocess.run([KEYCTL, "padd", "asymmetric", name, ring], input=der(pem),
                          capture_output=True, check=False)


def keys_in(ring):
    """How many keys the user's ring of that name has, looked at in microseconds; None: no ring."""
    length = -1
    while length < 0:  # or another one has taken its place
        serial = LIBC.syscall(SYS_KEYCTL, SEARCH, USER_KEYRING, b"keyring", ring.encode(), 0)
        if serial < 0:
            return None
        length = LIBC.syscall(SYS_KEYCTL, READ, serial, None, 0)
    return length // 4


class Ring(Test):
    """With RSA, which all kernels with certificates know."""

    def setUp(self):
        super().setUp()
        if not KEYCTL:
            self.skipTest("there is no keyctl (keyutils)")
        self.name = f"pkifs-test-{random.getrandbits(64):x}"
        self.addCleanup(self.clean)
        self.ca = self.authority("Root")
        self.of_rsa("leaf")
        probe = subprocess.run([KEYCTL, "session", "-", KEYCTL, "padd", "asymmetric", "x", "@s"],
                               input=der(self.ca.pem), capture_output=True, check=False)
        if probe.returncode:
            self.skipTest(f"this kernel takes no certificate: {probe.stderr}")

    def of_rsa(self, name):
        (self.folder / f"{name}.key").write_text(self.rsa_key())

    def authority(self, name):
        self.of_rsa(name)
        return Authority(self.folder, name)

    def clean(self):
        if self.serial():
            keyctl("unlink", self.serial(), "@u")

    def described(self, ring):
        """[(serial, type, description)]"""
        found = []
        for serial in keyctl("rlist", ring).stdout.split():
            words = keyctl("rdescribe", serial).stdout.rstrip("\n").split(";", 4)
            if len(words) == 5:  # it is still there
                found.append((serial, words[0], words[-1]))
        return found

    def serial(self):
        """The ring of that name that its user has."""
        rings = [serial for serial, _, text in self.described("@u") if text == self.name]
        self.assertLessEqual(len(rings), 1)
        return rings[0] if rings else None

    def inside(self):
        """What is in it: names, the CA's first. Nothing but certificates ever is."""
        keys = self.described(self.serial()) if self.serial() else []
        self.assertLessEqual({kind for _, kind, _ in keys}, {"asymmetric"})
        return sorted(text.split()[2] for _, _, text in keys)

    def becomes(self, m, *names):
        if not until(lambda: self.inside() == sorted(names), 20):
            self.fail(f"{self.inside()}, not {names}: {m.read('ca/corp/status')}")

    def says(self, m, words, key="kernel-keyring"):
        if not until(lambda: words in m.status("ca/corp").get(key, ""), 20):
            self.fail(m.read("ca/corp/status"))

    def profile(self, m, ca=None, more=""):
        (m.point / "ca/corp").mkdir()
        m.write("ca/corp/config", f"kernel-keyring = {self.name}\n{more}")
        m.write("ca/corp/cert.pem", (ca or self.ca).pem)

    def gate(self, m, name="gate", ca=None, **options):
        """A certificate id with a certificate."""
        pem = (ca or self.ca).server(f"{name}.example.net", **options)
        (m.point / f"local/{name}").mkdir(exist_ok=True)
        m.write(f"local/{name}/config", "ca-profile = corp\n")
        m.write(f"local/{name}/key.pem", (self.folder / "leaf.key").read_text())
        m.write(f"local/{name}/cert.pem", pem)
        return pem

    def events(self, m):
        return m.read("events").count('"event":"kernel-keyring"')


class Life(Ring):
    def test_what_the_ca_vouches_for_is_in_it(self):
        m = self.mount()
        self.profile(m)
        self.becomes(m, "CA")
        self.says(m, f"{self.name}: 1 certificate, the CA's")
        first = self.serial()
        m.self_signed("own")  # nobody vouches for it
        one = self.gate(m)
        self.gate(m, "other")
        self.becomes(m, "CA", "gate", "other")
        self.says(m, ": 3 certificates")
        self.assertEqual(self.serial(), first)
        self.assertEqual(keyctl("search", "@u", "keyring", self.name).stdout.strip(), first)

        with self.subTest("nobody else comes in"):
            stranger = self.authority("Stranger")
            self.assertNotEqual(add(stranger.pem, first).returncode, 0)
            self.assertNotEqual(add(stranger.server(), first).returncode, 0)
            self.becomes(m, "CA", "gate", "other")

        with self.subTest("revoked"):
            key, = (key for key, _, text in self.described(first) if " other " in text)
            self.ca.revoke()
            m.write("ca/corp/crl.pem", self.ca.crl())
            self.becomes(m, "CA", "gate")
            self.assertNotEqual(keyctl("rdescribe", key).returncode, 0)

        with self.subTest("another in its place"):
            before = self.described(first)
            self.assertNotEqual(self.gate(m), one)
            self.assertTrue(until(lambda: self.inside() == ["CA", "gate"] and
                                  self.described(first) != before, 20))
        with self.subTest("gone"):
            m.request("local/gate", "clear-certificate")
            self.becomes(m, "CA")
        self.assertGreaterEqual(self.events(m), 4)
        m.write("ca/corp/config", "\n")
        self.assertTrue(until(lambda: not self.serial(), 20))
        self.assertNotEqual(keyctl("rdescribe", first).returncode, 0)
        self.assertNotIn("kernel-keyring", m.status("ca/corp"))

    def test_intermediates_are_in_it(self):
        self.of_rsa("Sub")
        sub = Authority(self.folder, "Sub", above=self.ca)
        m = self.mount()
        self.profile(m)
        pem = sub.server("gate.example.net")
        (m.point / "local/gate").mkdir()
        m.write("local/gate/config", "ca-profile = corp\n")
        m.write("local/gate/key.pem", (self.folder / "leaf.key").read_text())
        m.write("local/gate/cert.pem", pem + sub.pem)
        self.becomes(m, "CA", "gate", "gate")

    def test_a_new_ca_has_a_new_ring(self):
        m = self.mount()
        self.profile(m)
        self.gate(m)
        self.becomes(m, "CA", "gate")
        first = self.serial()
        keys = [key for key, _, _ in self.described(first)]
        m.request("ca/corp", "unenroll")
        self.says(m, "none: the profile has no CA certificate in force")
        self.assertIsNone(self.serial())
        for key in (first, *keys):
            self.assertNotEqual(keyctl("rdescribe", key).returncode, 0)
        other = self.authority("Other")
        m.write("ca/corp/cert.pem", other.pem)
        self.becomes(m, "CA")
        self.says(m, "gate: the one that signed it is not in the keyring",
                  "kernel-keyring-without")
        self.gate(m, ca=other)
        self.becomes(m, "CA", "gate")
        second = self.serial()
        m.write("ca/corp/cert.pem", self.ca.pem)  # at once
        self.assertTrue(until(lambda: self.serial() not in (None, second), 20))
        self.assertNotEqual(keyctl("rdescribe", second).returncode, 0)
        self.becomes(m, "CA")

    def test_nobody_sees_half_of_it(self):
        other = self.authority("Other")
        m = self.mount()
        self.profile(m)
        for i in range(8):
            self.gate(m, f"gate{i}")
        self.assertTrue(until(lambda: len(self.inside()) == 9, 20))
        seen = set()
        for turn in range(4):
            m.write("ca/corp/cert.pem", (other, self.ca)[turn % 2].pem)
            wanted, end = (1, 9)[turn % 2], time.monotonic() + 20
            while time.monotonic() < end and wanted not in seen:
                seen.add(keys_in(self.name))
            self.assertIn(wanted, seen)
            self.assertLessEqual(seen, {1, 9})  # of one CA or the other
            seen.clear()

    def test_what_the_kernel_does_not_take_is_told(self):
        ecdsa = Authority(self.folder, "Curves")
        m = self.mount()
        self.profile(m, ca=ecdsa)
        if add(ecdsa.pem, "@t").returncode:
            self.says(m, "none: its CA certificate is not taken: this kernel does not")
            self.assertIsNone(self.serial())
        else:
            self.becomes(m, "CA")
        m.write("ca/corp/cert.pem", self.ca.pem)
        self.becomes(m, "CA")

    def test_others_rings_are_theirs(self):
        theirs = keyctl("newring", self.name, "@u").stdout.strip()
        keyctl("add", "user", "something", "theirs", theirs)
        m = self.mount()
        self.profile(m)
        self.says(m, "there is a keyring of that name that is not this store's")
        self.assertEqual(self.serial(), theirs)
        self.assertEqual([text for _, _, text in self.described(theirs)], ["something"])
        m.stop()  # else it takes the place
        other = self.mount()  # neither is that of another store
        keyctl("unlink", theirs, "@u")
        self.profile(other)
        self.becomes(other, "CA")
        mine = self.serial()
        m.start()
        self.says(m, "that is not this store's")
        self.assertEqual(self.serial(), mine)

    def test_names_are_judged(self):
        m = self.mount()
        self.profile(m)
        (m.point / "ca/other").mkdir()
        for name, why in ((".ima", "with no dot before it"), ("a b", "without blanks"),
                          (self.name, f"kernel-keyring = {self.name} is profile corp's")):
            with self.assertRaises(OSError):
                m.write("ca/other/config", f"kernel-keyring = {name}\n")
            self.assertIn(why, m.status("ca/other")["last-error"])


class Ends(Ring):
    def test_deaths_change_nothing(self):
        m = self.mount()
        self.profile(m)
        self.gate(m)
        self.becomes(m, "CA", "gate")
        before = self.described(self.serial()), self.events(m)
        for role in ("store", "all"):
            with self.subTest(role):
                if role == "all":
                    m.kill_all()
                    self.assertEqual(self.described(self.serial()), before[0])
                    m.start()
                else:
                    m.kill(role)
                self.says(m, ": 2 certificates")
                self.assertEqual((self.described(self.serial()), self.events(m)), before)

    def test_what_changed_meanwhile_is_made_good(self):
        m = self.mount()
        self.profile(m)
        self.gate(m)
        self.becomes(m, "CA", "gate")
        m.stop()
        keyctl("clear", self.serial())  # by somebody
        add(self.ca.pem, self.serial())
        m.start()
        self.says(m, "that is not this store's")  # nothing in it says so
        keyctl("unlink", self.serial(), "@u")
        m.stop()
        m.start()
        self.becomes(m, "CA", "gate")
        for key, _, text in self.described(self.serial()):
            if " gate " in text:
                keyctl("unlink", key, self.serial())
        m.kill("store")
        self.becomes(m, "CA", "gate")

    def test_a_profile_that_goes_takes_it_along(self):
        m = self.mount()
        self.profile(m)
        self.becomes(m, "CA")
        (m.point / "ca/corp").rmdir()
        self.assertTrue(until(lambda: not self.serial(), 20))
        self.profile(m)
        self.becomes(m, "CA")
        (m.point / "ca/corp").rmdir()
        m.kill_all()  # before it can, perhaps
        m.start()
        self.assertTrue(until(lambda: not self.serial(), 20))

    def test_killed_at_any_moment_it_is_whole(self):
        """The CA and all that it vouches for, of one CA or the other, or no ring."""
        other = self.authority("Other")
        m = self.mount()
        self.profile(m)
        for i in range(8):
            self.gate(m, f"gate{i}")
        gates = [f"gate{i}" for i in range(8)]
        self.becomes(m, "CA", *gates)
        for turn in range(many(60)):
            m.write("ca/corp/cert.pem", (other, self.ca)[turn % 2].pem)
            time.sleep(random.random() * 1.2)  # it is looked at once a second
            m.kill_all()
            self.assertIn(self.inside(), (["CA"], ["CA", *gates]))
            m.start()
        m.write("ca/corp/cert.pem", self.ca.pem)
        self.becomes(m, "CA", *gates)

    def test_what_ends_is_taken_out(self):
        clock = Clock(self)
        m = self.mount(clock=clock)
        self.profile(m)
        self.gate(m, days=1)
        self.becomes(m, "CA", "gate")
        clock.set(2 * 86400, synchronised=True)
        self.becomes(m, "CA")
        clock.set(60 * 86400, synchronised=True)
        self.says(m, "no CA certificate in force")
        self.assertIsNone(self.serial())

    @needs_root
    def test_quota(self):
        """An ordinary user's, which is small."""
        m = self.mount(start=False)
        as_nobody = m.by_nobody()
        user = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
        self.addCleanup(run, *user, KEYCTL, "clear", "@u")
        fill = f"for i in $(seq {QUOTA}); do {KEYCTL} newring x$i @u || exit 0; done"
        run(*user, "sh", "-c", fill)

        def status():
            return run(*as_nobody, "cat", m.point / "ca/corp/status").stdout
        text = f"mkdir ca/corp && echo kernel-keyring = {self.name} > ca/corp/config && " \
               "cat > ca/corp/cert.pem"
        done = run(*as_nobody, "sh", "-c", f"cd {m.point} && {text}", input=self.ca.pem)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(until(lambda: "the kernel's quota of keys is used up" in status(), 20),
                        status())
        run(*user, KEYCTL, "clear", "@u")


if __name__ == "__main__":
    unittest.main(verbosity=2)
