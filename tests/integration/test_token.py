"""engine = charon with keys that stay in pkifs: two hosts of a kernel with ESP (user-mode-linux), each
with a charon that has the module pkifs-pkcs11.so, and a pkifs of its own."""

import test_charon
import xfrm_hosts
from harness import main, until
from ike import Pki
from xfrm_hosts import ADDRESSES


class Uml(xfrm_hosts.Guest):
    script, seconds = "test_token.py", 290


class InGuest(test_charon.InGuest):
    def comes_up(self, left, right, *key_at):
        self.bring_up(left, right)
        self.passes()
        self.assertEqual(tuple(side.status()["key-at"] for side in (left, right)),
                         key_at or ("pkifs", "pkifs"))

    def keys_stay(self, key):
        left, right = self.sides(Pki(self.folder / "pki", key), ADDRESSES, key_at="pkifs")
        self.comes_up(left, right)
        for side in (left, right):
            self.assertIn("private key from token", side.charon.said())
            self.assertNotIn("private key\n", side.charon.said())

    def test_rsa_keys_stay_in_pkifs(self):
        self.keys_stay("rsa")

    def test_ec_keys_stay_in_pkifs(self):
        self.keys_stay("p384")

    def test_a_charon_without_the_module_gets_the_key_unless_it_must_not(self):
        left, right = self.sides(module=("right",))
        self.comes_up(left, right, "charon", "pkifs")
        left.tunnel(key_at="pkifs")
        self.assertEqual(left.ask("down"), "ok")
        self.assertIn("does not find the key by its module", left.ask("up"))
        self.assertEqual(left.status()["state"], "failed")
        left.tunnel(key_at="charon")
        self.comes_up(left, right, "charon", "pkifs")

    def test_an_ed25519_key_is_given_to_charon_unless_it_must_not_be(self):
        left, right = self.sides(Pki(self.folder / "pki", "ed25519"), ADDRESSES)
        self.comes_up(left, right, "charon", "charon")
        left.tunnel(key_at="pkifs")
        self.assertEqual(left.ask("down"), "ok")
        self.assertIn("signs by RSA and EC keys", left.ask("up"))

    def test_a_tunnel_comes_up_by_itself_when_pkifs_is_killed_and_started(self):
        left, right = self.sides(module=ADDRESSES, start="start")
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
        left, right = self.sides(pki, ADDRESSES)
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
