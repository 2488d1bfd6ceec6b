"""OCSP: own certificates are watched, and their answers stapled. Attacks 40 to 42."""

import datetime
import json
import os
import socket
import time

from harness import Clock, EC_KEY, Test, main, run, until
from responder import Authority, Responder, cfssl_responder, openssl_responder
from scep import Ca, Scep, serial


class Watched(Test):
    """A profile whose CA is `self.ca`, and certificates loaded by hand."""

    def setUp(self):
        super().setUp()
        self.ca = Authority(self.folder / "ca")
        self.clock = Clock(self)
        self.m = self.mount(clock=self.clock)

    def profile(self, more, name="corp"):
        os.mkdir(self.m.point / "ca" / name)
        self.m.write(f"ca/{name}/config", more)
        self.m.write(f"ca/{name}/cert.pem", (self.ca.folder / "ca.pem").read_text())

    def loaded(self, name, *extensions, more="", days=30):
        """A certificate id with a certificate of the CA."""
        os.mkdir(self.m.point / "local" / name)
        self.m.write(f"local/{name}/config", f"ca-profile = corp\nsubject = CN={name}\n{more}")
        self.ready_key(self.m, name, *EC_KEY)
        self.assertEqual(self.m.request(f"local/{name}", "generate-csr"), "ok")
        self.m.write(f"local/{name}/cert.pem",
                     self.ca.issue(name, *extensions, days=days,
                                   csr=self.m.read(f"local/{name}/csr.pem")))

    def revocation(self, name):
        return self.m.status(f"local/{name}")["revocation"]

    def becomes(self, name, words):
        if not until(lambda: words in self.revocation(name)):
            self.fail(f"{self.revocation(name)} does not say {words}")

    def events(self, name):
        return [event for event in map(json.loads, self.m.read("events").splitlines())
                if event["event"] == name]


class Ocsp(Watched):
    def check_staple(self, name, responder="ca"):
        """openssl takes ocsp.der for what it is."""
        done = run("openssl", "ocsp", "-respin", self.m.point / f"local/{name}/ocsp.der",
                   "-issuer", self.ca.folder / "ca.pem", "-cert", self.ca.folder / f"{name}.pem",
                   "-CAfile", self.ca.folder / "ca.pem", "-no_nonce")
        self.assertIn(": good", done.stdout, done.stderr)
        folder = self.m.point / "local" / name
        self.assertEqual((folder / "bundle.pem.ocsp").read_bytes(),
                         (folder / "ocsp.der").read_bytes())

    def test_the_real_responder(self):
        self.ca.issue("ocsp", "extendedKeyUsage=OCSPSigning", "noCheck=ignored")
        self.profile("revocation-check = ocsp\n")
        self.loaded("www")
        url = openssl_responder(self, self.ca, "ocsp")  # its first answer is by the index of now
        self.m.write("ca/corp/config", f"revocation-check = ocsp\nocsp-url = {url}\n")
        self.becomes("www", "good (OCSP, valid until ")
        self.check_staple("www")
        self.assertEqual(self.m.status("local/www")["state"], "valid")

    def test_a_responder_without_nonces(self):
        self.ca.issue("other")
        self.profile("revocation-check = ocsp\nocsp-nonce = disable\n")
        os.mkdir(self.m.point / "local/www")
        self.ready_key(self.m, "www", *EC_KEY)
        self.m.write("local/www/config", "ca-profile = corp\nsubject = CN=www\n")
        self.assertEqual(self.m.request("local/www", "generate-csr"), "ok")
        certificate = self.ca.issue("www", csr=self.m.read("local/www/csr.pem"))
        url = cfssl_responder(self, self.ca, "www")
        self.m.write("ca/corp/config",
                     f"revocation-check = ocsp\nocsp-nonce = disable\nocsp-url = {url}\n")
        self.m.write("local/www/cert.pem", certificate)
        self.becomes("www", "good (OCSP, valid until ")
        self.check_staple("www")

    def test_a_staple_goes_when_it_ends_however_late_the_next_question_is(self):
        responder = Responder(self, self.ca)
        self.profile(f"revocation-check = ocsp\nocsp-url = {responder.url}\n")
        self.loaded("www")
        self.becomes("www", "good (OCSP, valid until ")
        staple = self.m.point / "local/www/ocsp.der"
        self.assertTrue(until(staple.exists))
        said = self.revocation("www").split("until ")[1].rstrip(")")
        end = datetime.datetime.fromisoformat(said.replace("Z", "+00:00")).timestamp()
        responder.answer = lambda der: (503, b"")
        responder.headers["Retry-After"] = "900"
        asked = len(responder.asked)
        self.clock.set(int(end - time.time()) - 60)
        self.assertTrue(until(lambda: len(responder.asked) > asked))
        time.sleep(0.5)  # the store has heard that
        self.assertTrue(staple.exists())
        self.clock.set(int(end - time.time()) + 3)
        self.assertTrue(until(lambda: not staple.exists()))
        self.assertIn("unknown", self.revocation("www"))

    def test_the_certificate_names_its_responder(self):
        responder = Responder(self, self.ca)
        self.profile("")  # CRLs decide, and its staple is kept fresh all the same
        self.loaded("www", f"authorityInfoAccess=OCSP;URI:{responder.url}")
        self.assertTrue(until((self.m.point / "local/www/ocsp.der").exists))
        self.check_staple("www")
        self.assertIn("unknown", self.revocation("www"))

    def test_revoked_is_noticed_and_stays(self):
        responder = Responder(self, self.ca)
        self.profile("revocation-check = ocsp\ncrl-refresh-interval = 1\n"
                     f"ocsp-url = {responder.url}\n")
        self.loaded("www")
        self.becomes("www", "good")
        self.ca.revoke("www")
        self.clock.set(3700)
        self.becomes("www", "revoked (OCSP, since ")
        self.assertEqual(self.m.status("local/www")["state"], "revoked")
        self.assertIn("key compromise", self.revocation("www"))
        self.assertTrue(until(lambda: self.events("revoked")))
        self.assertEqual([event["name"] for event in self.events("revoked")], ["www"])
        self.assertFalse((self.m.point / "local/www/ocsp.der").exists())
        self.assertEqual((self.m.point / "local/www/bundle.pem.ocsp").read_bytes(), b"")
        responder.answer = lambda der: (503, b"")
        self.m.kill_all()
        self.m.start()
        self.assertEqual(self.m.status("local/www")["state"], "revoked")

    def test_revoked_stays_when_the_certificate_has_ended(self):
        """CAs drop what expired from their CRLs."""
        self.profile("")
        self.loaded("www")
        self.loaded("other", days=60)
        self.ca.revoke("www")
        self.m.write("ca/corp/crl.pem", self.ca.crl())
        self.becomes("www", "revoked")
        self.assertTrue(until(lambda: self.events("revoked")))
        (self.ca.folder / "index").write_text("")
        self.clock.set(31 * 86400)
        self.m.write("ca/corp/crl.pem", self.ca.crl(90))
        self.becomes("other", "good (CRL 17,")
        self.assertIn("revoked", self.revocation("www"))
        self.assertEqual(self.events("unrevoked"), [])

    def test_ocsp_then_crl(self):
        responder = Responder(self, self.ca)
        responder.answer = lambda der: (500, b"")
        self.profile(f"revocation-check = ocsp-then-crl\nocsp-url = {responder.url}\n")
        self.loaded("www")
        self.becomes("www", "unknown")
        self.m.write("ca/corp/crl.pem", self.ca.crl())
        self.becomes("www", "good (CRL ")
        responder.answer = responder.honest
        self.clock.set(3700)
        self.becomes("www", "good (OCSP, ")

    def test_get_first_then_post(self):
        responder = Responder(self, self.ca)
        self.profile(f"revocation-check = ocsp\nocsp-nonce = disable\nocsp-url = {responder.url}\n")
        self.loaded("one")
        self.becomes("one", "good")
        self.assertEqual([method for method, _ in responder.asked], ["GET"])
        responder.asked.clear()
        honest = responder.honest
        responder.answer = lambda der: (405, b"") if responder.asked[-1][0] == "GET" else honest(der)
        self.loaded("two")
        self.becomes("two", "good")
        self.assertEqual([method for method, _ in responder.asked], ["GET", "POST"])

    def test_a_dead_responder_is_said_and_the_second_one_asked(self):
        responder = Responder(self, self.ca)
        self.profile("revocation-check = ocsp\nocsp-url = http://127.0.0.1:1\n")
        self.loaded("www")
        self.becomes("www", "unknown (cannot reach http://127.0.0.1:1")
        self.assertEqual(self.m.status("local/www")["state"], "valid")
        self.m.write("ca/corp/config", "revocation-check = ocsp\nocsp-url = http://127.0.0.1:1\n"
                                       f"ocsp-url = {responder.url}\n")
        self.loaded("other")
        self.becomes("other", "good")

    def test_another_config_asks_at_once_what_had_no_answer(self):
        dead, alive = Responder(self, self.ca), Responder(self, self.ca)
        dead.answer = lambda der: (500, b"try %d" % len(dead.asked))
        self.profile(f"revocation-check = ocsp\nocsp-url = {dead.url}\n")
        self.loaded("www")
        self.becomes("www", "try 1")
        for again, seconds in enumerate((60, 180, 360), 2):  # then it waits for minutes
            self.clock.set(seconds)
            self.becomes("www", f"try {again}")
        self.m.write("ca/corp/config", f"revocation-check = ocsp\nocsp-url = {alive.url}\n")
        self.becomes("www", "good (OCSP, ")


class Attacks(Watched):
    def asked_by(self, responder, nonce="disable"):
        """A certificate id whose only responder is RESPONDER: what is known of it."""
        self.profile(f"revocation-check = ocsp\nocsp-nonce = {nonce}\nocsp-url = {responder.url}\n")
        self.loaded("www")
        self.assertTrue(until(lambda: responder.asked))
        self.assertTrue(until(lambda: "not asked" not in self.revocation("www")))
        self.assertFalse((self.m.point / "local/www/ocsp.der").exists())
        return self.revocation("www")

    def test_attack_40_a_responder_that_the_ca_did_not_name(self):
        self.ca.issue("rogue", "extendedKeyUsage=serverAuth")
        self.assertIn("unknown (the OCSP answer is not signed by",
                      self.asked_by(Responder(self, self.ca, "rogue")))

    def test_attack_41_an_old_answer_again(self):
        responder = Responder(self, self.ca)
        first = []

        def again(der):
            first.append(responder.honest(der))
            return first[0]
        responder.answer = again
        self.profile(f"revocation-check = ocsp\ncrl-refresh-interval = 1\n"
                     f"ocsp-url = {responder.url}\n")
        self.loaded("www")
        self.becomes("www", "good")
        self.ca.revoke("www")
        self.clock.set(3700)
        self.assertTrue(until(lambda: len(first) == 2))
        self.assertIn("good", self.revocation("www"), "what was said still counts")
        responder.answer = responder.honest
        self.clock.set(3800)  # what was no answer is asked again soon
        self.becomes("www", "revoked")

    def test_attack_41_an_old_answer_frees_nobody(self):
        """Without a nonce: it is in time, but there is a newer one."""
        responder = Responder(self, self.ca)
        self.profile("revocation-check = ocsp\nocsp-nonce = disable\ncrl-refresh-interval = 1\n"
                     f"ocsp-url = {responder.url}\n")
        first = []

        def keep(der):
            first.append(responder.honest(der))
            return first[0]
        responder.answer = keep
        self.loaded("www")
        self.becomes("www", "good")
        self.ca.revoke("www")
        time.sleep(1.1)  # thisUpdate is a second
        responder.answer = responder.honest
        self.clock.set(3700)
        self.becomes("www", "revoked")
        asked = len(responder.asked)
        responder.answer = lambda der: first[0]
        self.clock.set(2 * 3700)
        self.assertTrue(until(lambda: len(responder.asked) > asked))
        time.sleep(0.5)
        self.assertIn("revoked", self.revocation("www"))
        self.assertEqual(self.events("unrevoked"), [])

    def test_attack_41_another_certificate_is_good(self):
        other = Authority(self.folder / "other", "Lab CA")
        responder = Responder(self, other)
        self.assertIn("unknown (the OCSP answer is not signed by", self.asked_by(responder))

    def test_attack_41_later(self):
        responder = Responder(self, self.ca)
        responder.answer = lambda der: bytes((0x30, 3, 0x0a, 1, 3))
        self.assertIn("unknown (the OCSP responder does not answer: trylater)",
                      self.asked_by(responder))

    def test_attack_42_an_unvalidated_certificate_names_its_responder(self):
        responder = Responder(self, self.ca)
        self.profile("revocation-check = ocsp\n")
        self.loaded("www")
        other = Authority(self.folder / "other", "Lab CA")
        forged = other.issue("www", f"authorityInfoAccess=OCSP;URI:{responder.url}",
                             csr=self.m.read("local/www/csr.pem"))
        with self.assertRaises(OSError):
            self.m.write("local/www/cert.pem", forged)
        self.loaded("mail", f"authorityInfoAccess=OCSP;URI:{responder.url}")
        self.becomes("mail", "good")
        self.assertEqual(len(responder.asked), 1)

    def test_files_and_our_own_sockets_are_no_responders(self):
        self.profile("revocation-check = ocsp\n")
        self.loaded("www", "authorityInfoAccess=OCSP;URI:file:///etc/passwd,OCSP;URI:ldap://127.0.0.1")
        self.assertIn("no OCSP responder is known", self.revocation("www"))

    def test_silence_delays_nobody_else(self):
        """Responders that take the request and say nothing; one of another profile answers."""
        silent = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.addCleanup(silent.close)
        good = Responder(self, self.ca)
        self.profile(f"revocation-check = ocsp\nocsp-url = http://127.0.0.1:{silent.getsockname()[1]}\n")
        for name in ("a", "b", "c", "d"):
            self.loaded(name)
        self.profile(f"revocation-check = ocsp\nocsp-url = {good.url}\n", "other")
        begun = time.monotonic()
        self.loaded("www", more="ca-profile = other\n")
        self.becomes("www", "good")
        self.assertLess(time.monotonic() - begun, 14, "as long as one silent responder takes")


class Replaced(Scep):
    def test_a_revoked_certificate_is_replaced_with_a_new_key(self):
        ca = Ca(self, "-c", "secret")
        m = self.enrolled(ca, "auto-re-enrollment = enable")
        key = m.read("local/www/public.pem")
        (ca.folder / "revoked").write_text(serial(m.point / "local/www/cert.pem") + "\n")
        self.assertEqual(m.request("ca/corp", "refresh-crl"), "ok")
        self.assertTrue(until(lambda: m.status("local/www")["version"] == "2"))
        status = m.status("local/www")
        self.assertEqual(status["state"], "valid")
        self.assertNotEqual(m.read("local/www/public.pem"), key)
        self.assertEqual(ca.said("received RenewalReq"), [], "what is revoked proves nobody")
        names = [json.loads(line)["event"] for line in m.read("events").splitlines()]
        self.assertLess(names.index("revoked"), len(names) - names[::-1].index("certificate"))


if __name__ == "__main__":
    main()
