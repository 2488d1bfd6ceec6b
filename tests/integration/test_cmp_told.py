"""CMPv2: what a CA tells in general messages, and CAs that tell nothing (RFC 9483 §4.3)."""

import time

from ca_texts import ca_certificate
from cmp import GENM, IR, Cmp, CmpCa, certificate, events
from harness import main, until
from scep import assert_valid

CA_CERTS, TEMPLATE, ROOT, STATUS, CURRENT = (f"1.3.6.1.5.5.7.4.{i}" for i in (17, 19, 20, 22, 6))


class Told(Cmp):
    def enrolled(self, *options, more="", **environment):
        self.ca = CmpCa(self, "-P", "ca.pem", *options, **environment)
        self.m = self.mount()
        self.profile(self.m, self.ca, more=more)
        self.cmp_id(self.m)
        self.assertEqual(self.m.request("local/www", "enroll"), "ok")

    def without_secret(self):
        self.m.write("local/www/config", "ca-profile = corp\nsubject = CN=www.example.net,O=Example\n"
                                         "domain-name = www.example.net\nkey-type = ecdsa\n")

    def asked(self, type):
        return len([line for line in self.ca.said("asked about ") if line.split()[2] == type])


class Crls(Told):
    def test_without_a_url_the_crl_comes_by_cmp(self):
        """As RFC 9483 has it, or RFC 4210; known by the certificate in force, or by the secret."""
        for options, types in (((), (STATUS,)), (("-L",), (STATUS, CURRENT))):
            self.enrolled(*options)
            for known_by in ("secret", "certificate"):
                if known_by == "certificate":
                    self.without_secret()
                self.assertEqual(self.m.request("ca/corp", "refresh-crl"), "ok", (options, known_by))
                status = self.m.status("ca/corp")
                self.assertEqual((status["crl-source"], status["crl-entries"]), ("CMP", "0"))
            self.assertEqual([self.asked(type) for type in types], [2] * len(types))

    def test_a_revocation_is_seen(self):
        self.enrolled()
        self.cmp_id(self.m, "mail")
        self.assertEqual(self.m.request("local/mail", "enroll"), "ok")
        self.assertEqual(self.m.request("local/mail", "revoke"), "ok")
        self.assertTrue(until(lambda: self.m.status("local/mail")["state"] == "revoked"))

    def test_a_ca_that_has_none(self):
        self.enrolled()
        self.ca.restart("-P", "ca.pem", "-G")
        self.assertIn("does not answer this", self.m.request("ca/corp", "refresh-crl"))
        self.assertEqual(self.m.status("ca/corp")["request"], "failed")

    def test_nobody_who_could_ask(self):
        ca = CmpCa(self)
        m = self.mount()
        self.profile(m, ca)
        m.write("ca/corp/cert.pem", (ca.folder / "ca.pem").read_text())
        for action in ("refresh-crl", "next-ca"):
            self.refused(m, "ca/corp/request", action, "no certificate id of profile corp is known")


class NextCa(Told):
    def test_asked_by_hand(self):
        self.enrolled()
        self.assertIn("no other CA certificate", self.m.request("ca/corp", "next-ca"))
        begins = time.time() + 2
        for name, more in (("next", {}), ("next-by-old", {"key": "next", "signer": "ca"})):
            ca_certificate(self.ca.folder, name, begins, begins + 99 * 86400,
                           subject="/O=Lab/CN=Lab CMP CA", **more)
        self.assertEqual(self.m.request("ca/corp", "next-ca"), "ok")
        self.assertTrue(until(lambda: self.m.status("ca/corp")["trusted-by"] ==
                              "the CA certificate before it"))
        self.assertEqual(certificate(self.m.point / "ca/corp/cert.pem"),
                         certificate(self.ca.folder / "next.pem"))
        # the server goes on for a while as it did
        self.without_secret()
        self.assertEqual(self.m.request("local/www", "re-enroll"), "ok")
        self.assertEqual(self.m.status("local/www")["version"], "2")

    def test_a_ca_that_does_not_know_the_question(self):
        self.enrolled()
        self.ca.restart("-P", "ca.pem", "-G")
        self.assertIn("the CA does not answer this", self.m.request("ca/corp", "next-ca"))
        self.assertNotIn("next-ca", self.m.status("ca/corp"))
        self.assertEqual(self.m.request("local/www", "re-enroll"), "ok")
        assert_valid(self, self.m, "www", version=2)


class CaCertificates(Told):
    """Where an answer has no issuers, the CA is asked for them before it is told of anything."""

    def ask(self, *options, expect="ok", load=None, **environment):
        self.ca = CmpCa(self, *options, **environment)
        self.m = self.mount()
        self.profile(self.m, self.ca)
        if load:
            self.m.write("ca/corp/cert.pem", (self.ca.folder / load).read_text())
        self.cmp_id(self.m)
        self.assertIn(expect, self.m.request("local/www", "enroll"))

    def test_the_secret_vouches_for_them(self):
        self.ask("-C", "ca.pem")
        assert_valid(self, self.m, "www", version=1)
        self.assertEqual(self.m.status("ca/corp")["trusted-by"], "the CMP answer to www")
        self.assertEqual((self.asked(CA_CERTS), len(self.ca.got(IR))), (1, 1))
        # what is known is not asked again
        self.assertEqual(self.m.request("local/www", "re-enroll"), "ok")
        self.assertEqual(self.asked(CA_CERTS), 1)

    def test_a_chain(self):
        self.ask("-C", "chain.pem", CHAIN="three")
        self.assertEqual(len(self.profiles(self.m)), 3)
        self.assertEqual(self.m.read("local/www/chain.pem").count("BEGIN"), 3)

    def test_a_chain_under_a_root_that_is_known_and_a_signature(self):
        """The intermediate CAs come by a message that nothing but the root vouches for."""
        self.ask("-C", "upper.pem", "-E", "ca.pem", load="root.pem", CHAIN="three")
        self.assertEqual(self.asked(CA_CERTS), 1)
        self.without_secret()
        self.assertEqual(self.m.request("local/www", "re-enroll"), "ok")
        status = self.m.status("local/www")
        self.assertEqual((status["state"], status["version"]), ("valid", "2"))

    def test_attack_19_a_signature_by_somebody_unknown_vouches_for_nothing(self):
        self.ask("-S", "-C", "ca.pem", "-E", "ca.pem", expect="unproven answer")

    def test_a_ca_that_does_not_know_the_question(self):
        for options in ((), ("-G",), ("-k", GENM)):
            self.ask(*options, expect="load it into ca/corp/cert.pem")
            self.assertEqual((self.asked(CA_CERTS), len(self.ca.got(IR))), (1, 1), options)
            self.assertEqual(self.m.status("local/www")["request"], "rejected")

    def test_over_a_restart_they_are_asked_once(self):
        """All die while the confirmation is out, and the CA tells nothing any more."""
        ca = self.ca = CmpCa(self, "-C", "ca.pem", "-h", 24)
        m = self.mount()
        self.profile(m, ca)
        self.cmp_id(m)
        m.write("local/www/request", "enroll\n")
        self.assertTrue(until(lambda: ca.said("held 24")))
        m.kill_all()
        ca.release()
        m.start()
        self.assertEqual(m.wait("local/www"), "ok")
        assert_valid(self, m, "www", version=1)
        self.assertEqual((self.asked(CA_CERTS), len(set(ca.got(IR)))), (1, 1))


class Templates(Told):
    """A CA that refuses what it is asked for may say what it wants."""

    def ask(self, *options, key="key-type = ecdsa"):
        self.ca = CmpCa(self, "-P", "ca.pem", *options)
        self.m = self.mount()
        self.profile(self.m, self.ca)
        self.cmp_id(self.m, key=key)
        self.m.write("local/www/request", "enroll\n")
        self.assertTrue(self.m.ends("local/www"))

    def test_another_key_is_told_in_a_sentence(self):
        for kind, key, wanted in (("ec:384", "key-type = ecdsa", "key-type = ecdsa and key-size = 384"),
                                  ("rsa:3072", "key-type = ecdsa", "key-type = rsa and key-size = 3072")):
            self.ask("-K", kind, key=key)
            status = self.m.status("local/www")
            self.assertEqual(status["request"], "failed")
            self.assertIn("badCertTemplate", status["last-error"])
            self.assertIn(f"does not want a key of ecdsa 256: set {wanted}", status["last-error"])
            self.m.write("local/www/request", "action = generate-key-pair\n" +
                         wanted.replace(" and ", "\n") + "\n")
            self.assertEqual(self.m.wait("local/www"), "ok")
            self.assertEqual(self.m.request("local/www", "enroll"), "ok")

    def test_extensions_are_taken_up(self):
        self.ask("-K", "eku")
        assert_valid(self, self.m, "www", version=1)
        self.assertEqual((len(self.ca.got(IR)), self.asked(TEMPLATE)), (2, 1))
        self.assertTrue(any("begins anew with the extensions" in event.get("reason", "")
                            for event in events(self.m)))

    def test_it_is_asked_after_a_refusal_alone_and_needs_no_answer(self):
        self.ask()
        self.assertEqual(self.asked(TEMPLATE), 0)
        for options in ((), ("-G",)):
            self.ask("-R", 19, "-T", "no", *options)
            self.assertEqual(self.m.status("local/www")["last-error"],
                             "the CA refuses the request: badCertTemplate: the certificate asked "
                             "for is not valid or complete, no")
            self.assertEqual((len(self.ca.got(IR)), self.asked(TEMPLATE)), (1, 1))


if __name__ == "__main__":
    main()
