"""engine = charon with keys that stay in pkifs: two hosts of a kernel with ESP (user-mode-linux), each
with a charon that has the module pkifs-pkcs11.so, and a pkifs of its own."""

import os
import unittest.mock

import test_charon
import xfrm_hosts
from harness import BIN, main, until
from ike import PLUGINS, Charon, Pki

MODULE = BIN.parent / "lib/pkifs-pkcs11.so"
MODULES = f"plugins {{ pkcs11 {{ modules {{ pkifs {{ path = {MODULE}\n load_certs = no }} }} }} }}"


class Uml(xfrm_hosts.Guest):
    script, seconds = "test_token.py", 290


class Side(test_charon.Side):
    """One whose charon may have the module, and has not the key."""

    def __init__(self, test, host, pki, with_module=True):
        place = str(test.folder / f"sign-{host}/socket")
        module = (PLUGINS + " pkcs11", MODULES) if with_module else ()
        with unittest.mock.patch.dict(os.environ, PKIFS_PKCS11_SOCKET=place), \
                unittest.mock.patch("test_charon.Charon", lambda t, h: Charon(t, h, *module)):
            super().__init__(test, host, pki, f"pkcs11-socket={place}")


class InGuest(test_charon.InGuest):
    def two(self, pki, left=True, **settings):
        """Both sides, the left one with the module or without."""
        both = [Side(self, host, pki, host != "left" or left) for host in ("left", "right")]
        for side in both:
            side.trust()
            side.identify()
            side.tunnel(**settings)
        for side in both:
            self.assertTrue(until(lambda s=side: "added vici connection" in s.charon.said()),
                            side.charon.said() + side.m.log.read_text())
        return both

    def comes_up(self, left, right, *key_at):
        self.assertEqual(left.ask("up"), "ok", left.charon.said()[-5000:] + left.m.log.read_text())
        for side in (left, right):
            side.becomes("up")
        self.passes()
        self.assertEqual(tuple(side.status()["key-at"] for side in (left, right)),
                         key_at or ("pkifs", "pkifs"))

    def keys_stay(self, key):
        left, right = self.two(Pki(self.folder / "pki", key), key_at="pkifs")
        self.comes_up(left, right)
        for side in (left, right):
            self.assertIn("private key from token", side.charon.said())
            self.assertNotIn("private key\n", side.charon.said())

    def test_rsa_keys_stay_in_pkifs(self):
        self.keys_stay("rsa")

    def test_ec_keys_stay_in_pkifs(self):
        self.keys_stay("p384")

    def test_a_charon_without_the_module_gets_the_key_unless_it_must_not(self):
        left, right = self.two(Pki(self.folder / "pki"), left=False)
        self.comes_up(left, right, "charon", "pkifs")
        left.tunnel(key_at="pkifs")
        self.assertEqual(left.ask("down"), "ok")
        self.assertIn("does not find the key by its module", left.ask("up"))
        self.assertEqual(left.status()["state"], "failed")
        left.tunnel(key_at="charon")
        self.comes_up(left, right, "charon", "pkifs")

    def test_an_ed25519_key_is_given_to_charon_unless_it_must_not_be(self):
        left, right = self.two(Pki(self.folder / "pki", "ed25519"))
        self.comes_up(left, right, "charon", "charon")
        left.tunnel(key_at="pkifs")
        self.assertEqual(left.ask("down"), "ok")
        self.assertIn("signs by RSA and EC keys", left.ask("up"))

    def test_a_tunnel_comes_up_by_itself_when_pkifs_is_killed_and_started(self):
        left, right = self.two(Pki(self.folder / "pki"), start="start")
        for side in (left, right):
            side.becomes("up")
        for role in ("keys", "store"):
            before = left.m.children(role)
            left.m.kill(role)
            self.assertTrue(until(lambda old=before, r=role: left.m.children(r) not in ([], old)))
            left.becomes("up")
            self.assertEqual(left.ask("down"), "ok")
            self.comes_up(left, right)

    def test_a_renewal_has_a_key_of_its_own(self):
        pki = Pki(self.folder / "pki")
        left, right = self.two(pki)
        self.comes_up(left, right)
        old = left.charon.said().count("private key from token")
        pki.issue("left", "p384")
        left.identify()
        left.tunnel(esp_lifetime="3601")
        self.assertTrue(until(lambda: left.status().get("version") == "2", 20),
                        left.m.read("ipsec/net/status") + left.charon.said()[-5000:] + right.charon.said()[-4000:])
        self.assertEqual(left.charon.said().count("private key from token"), old + 1)
        self.assertEqual(left.status()["key-at"], "pkifs")
        self.passes()


for name in dir(test_charon.InGuest):  # its own are its file's
    if name.startswith("test_"):
        setattr(InGuest, name, None)


if __name__ == "__main__":
    main()
