"""SCEP through the mount: real CAs, a CA of the lab for what they lack."""

import errno
import os

from harness import free_port, main, run, until
from scep import Ca, Scep, assert_valid, serial


class ScepServer(Scep):
    """Debian's scepserver with its default settings."""

    def test_enrollment(self):
        m = self.enrolled(Ca(self, script="scep-server"))
        status = m.status("local/www")
        self.assertIn("DES-CBC and SHA-1", status["note"])
        text = run("openssl", "x509", "-in", m.point / "local/www/cert.pem", "-noout", "-subject",
                   "-ext", "subjectAltName").stdout
        self.assertIn("DNS:www.example.net", text)
        self.assertIn("www.example.net", text.splitlines()[0])

    def test_the_plain_ca_of_its_own(self):
        self.enrolled(Ca(self, script="scep-server", CA="plain"))

    def test_renewal_with_the_same_key_and_with_another(self):
        m = self.enrolled(Ca(self, script="scep-server"))
        key, first = m.read("local/www/key.pem"), serial(m.point / "local/www/cert.pem")
        self.assertEqual(m.request("local/www", "re-enroll"), "ok")
        assert_valid(self, m, "www", version=2)
        self.assertEqual(m.read("local/www/key.pem"), key)
        self.assertNotEqual(serial(m.point / "local/www/cert.pem"), first)
        self.assertEqual(m.request("local/www",
                                   "action = re-enroll\nre-generate-keypair = yes"), "ok")
        assert_valid(self, m, "www", version=3)
        self.assertNotEqual(m.read("local/www/key.pem"), key)

    def test_a_wrong_challenge(self):
        ca = Ca(self, script="scep-server")
        m = self.mount()
        self.trusted_profile(m, ca.url)
        self.certificate_id(m, more="challenge-password = wrong\n")
        result = m.request("local/www", "enroll")
        self.assertTrue(result.startswith("failed: the CA refuses"), result)
        self.assertIn("challenge-password", result)
        status = m.status("local/www")
        self.assertEqual((status["request"], status["state"]), ("failed", "key"))
        self.assertIn("challenge-password", status["last-error"])
        self.assertEqual(m.request("local/www", "action = enroll\nchallenge-password = secret"),
                         "ok")
        assert_valid(self, m, "www")
        self.assertNotIn("secret", m.read("local/www/config") + m.read("local/www/request"))


class Trust(Scep):
    """How a profile comes to trust its CA."""

    def setUp(self):
        super().setUp()
        self.ca = Ca(self)
        self.m = self.mount()
        os.mkdir(self.m.point / "ca/corp")
        self.m.write("ca/corp/config", f"enrollment-url = {self.ca.url}\n")

    def test_fingerprints_are_shown_before_they_are_confirmed(self):
        self.assertEqual(self.m.request("ca/corp", "enroll"), "ok")
        self.assertEqual(self.m.status("ca/corp")["state"], "unconfirmed")
        shown = self.m.read("ca/corp/fingerprint")
        for digest in ("sha256", "sha1", "md5"):
            self.assertIn(self.ca.fingerprint(digest), shown)
        self.assertEqual(self.m.read("ca/corp/pending.pem").split(),
                         (self.ca.folder / "ca.pem").read_text().split())
        self.assertFalse((self.m.point / "ca/corp/cert.pem").exists())
        right = self.ca.fingerprint("sha1")
        wrong = ("0" if right[0] != "0" else "1") + right[1:]
        self.refused(self.m, "ca/corp/confirm", wrong + "\n", "fingerprint")
        self.assertIn(f'last-error = "\\"{wrong}', self.m.read("ca/corp/status"))
        self.assertEqual(self.m.status("ca/corp")["state"], "unconfirmed")
        self.m.write("ca/corp/confirm", right.replace(":", "").lower() + "\n")
        status = self.m.status("ca/corp")
        self.assertEqual((status["state"], status["trusted-by"]), ("trusted", "confirm"))

    def test_no_drops_what_waits(self):
        self.assertEqual(self.m.request("ca/corp", "enroll"), "ok")
        self.m.write("ca/corp/confirm", "no\n")
        self.assertEqual(self.m.status("ca/corp")["state"], "empty")
        self.assertFalse((self.m.point / "ca/corp/pending.pem").exists())
        self.refused(self.m, "ca/corp/confirm", "yes\n", "no CA certificate waits")

    def test_a_known_fingerprint_confirms_by_itself(self):
        self.assertEqual(self.m.request(
            "ca/corp", f"action = enroll\nca-fingerprint = {self.ca.fingerprint()}"), "ok")
        status = self.m.status("ca/corp")
        self.assertEqual((status["state"], status["trusted-by"]), ("trusted", "ca-fingerprint"))

    def test_another_than_the_known_fingerprint_is_rejected(self):
        result = self.m.request("ca/corp", f"action = enroll\nca-fingerprint = {'AB:' * 31}AB")
        self.assertTrue(result.startswith("failed: "), result)
        self.assertIn(self.ca.fingerprint(), result)
        status = self.m.status("ca/corp")
        self.assertEqual((status["state"], status["request"]), ("empty", "rejected"))
        self.assertFalse((self.m.point / "ca/corp/pending.pem").exists())

    def test_unenroll_and_enroll_again(self):
        self.assertEqual(self.m.request("ca/corp", "enroll"), "ok")
        self.m.write("ca/corp/confirm", "yes\n")
        self.certificate_id(self.m)
        self.assertEqual(self.m.request("local/www", "enroll"), "ok")
        self.assertEqual(self.m.request("ca/corp", "unenroll"), "ok")
        self.assertEqual(self.m.status("ca/corp")["state"], "empty")
        self.assertIn(self.ca.url, self.m.read("ca/corp/config"))
        self.refused(self.m, "local/www/request", "re-enroll\n", "not trusted")
        self.assertEqual(self.m.request("ca/corp", "enroll"), "ok")
        self.m.write("ca/corp/confirm", self.ca.fingerprint() + "\n")
        self.assertEqual(self.m.request("local/www", "re-enroll"), "ok")
        assert_valid(self, self.m, "www", version=2)


class Refusals(Scep):
    """What cannot work is refused as it is written."""

    def setUp(self):
        super().setUp()
        self.m = self.mount()
        os.mkdir(self.m.point / "ca/corp")
        self.m.write("ca/corp/config", "enrollment-url = http://127.0.0.1:9/scep\n")

    def test_keys_that_scep_cannot_carry(self):
        self.certificate_id(self.m)
        for kind, word in (("ecdsa", "ECDSA"), ("ed25519", "Ed25519")):
            self.refused(self.m, "local/www/request", f"action = enroll\nkey-type = {kind}\n", word)
            self.assertEqual(self.m.status("local/www")["last-error"],
                             f"{word} Keypair not supported with SCEP for cert_id www")
            self.assertNotIn(kind, self.m.read("local/www/config"))
            self.assertFalse((self.m.point / "local/www/key.pem").exists())
        self.m.write("local/www/config", "ca-profile = corp\nkey-type = ecdsa\n")
        self.assertEqual(self.m.request("local/www", "generate-key-pair"), "ok")
        self.m.write("local/www/config", "ca-profile = corp\nkey-type = rsa\n")
        self.refused(self.m, "local/www/request", "enroll\n",
                     "ECDSA Keypair not supported with SCEP for cert_id www")

    def test_no_names(self):
        os.mkdir(self.m.point / "local/www")
        self.m.write("local/www/config", "ca-profile = corp\nsubject = CN=www\n")
        self.refused(self.m, "local/www/request", "enroll\n", "domain-name")

    def test_no_profile(self):
        os.mkdir(self.m.point / "local/www")
        self.m.write("local/www/config", "domain-name = www.example.net\n")
        self.refused(self.m, "local/www/request", "enroll\n", "ca-profile is not set")

    def test_no_certificate_to_renew(self):
        self.certificate_id(self.m)
        self.refused(self.m, "local/www/request", "re-enroll\n", "no certificate to renew")


class LabCa(Scep):
    def test_pending_then_issued(self):
        ca = Ca(self, "-w", 2)
        m = self.enrolled(ca)
        self.assertEqual(len(ca.said("received PKCSReq")), 1)
        self.assertEqual(len(ca.said("received CertPoll")), 2)
        self.assertEqual(len({line.split()[-1] for line in ca.said("received")}), 1)
        self.assertEqual(m.status("local/www")["request"], "done")

    def test_a_pending_request_can_be_cancelled(self):
        ca = Ca(self, "-w", 1000)
        m = self.mount()
        self.trusted_profile(m, ca.url)
        self.certificate_id(m)
        m.write("local/www/request", "enroll\n")
        self.assertTrue(until(lambda: m.status("local/www")["request"] == "waiting"))
        status = m.status("local/www")
        self.assertEqual((status["next-action"], status["state"]), ("poll the CA", "key"))
        self.refused(m, "local/www/request", "enroll\n", "", code=errno.EBUSY)
        m.write("local/www/request", "cancel\n")
        self.assertEqual(m.wait("local/www"), "failed: cancelled")
        first = {line.split()[-1] for line in ca.said("received")}
        ca.restart()
        self.assertEqual(m.request("local/www", "enroll"), "ok")
        self.assertNotIn(ca.said("received")[-1].split()[-1], first)
        assert_valid(self, m, "www", version=1)

    def test_each_refusal_has_its_words(self):
        ca = Ca(self)
        m = self.mount()
        self.trusted_profile(m, ca.url)
        for fail, word in enumerate(("badAlg", "badMessageCheck", "badRequest", "badTime",
                                     "badCertId")):
            ca.restart("-R", fail, "-T", "ask at the desk")
            self.certificate_id(m, f"f{fail}")
            result = m.request(f"local/f{fail}", "enroll")
            self.assertTrue(result.startswith("failed: the CA refuses the request: "), result)
            self.assertIn(word, result)
            self.assertTrue(result.endswith(": ask at the desk"), result)
            self.assertEqual(m.status(f"local/f{fail}")["last-error"],
                             result.removeprefix("failed: "))
            self.assertEqual(m.status(f"local/f{fail}")["request"], "failed")

    def enrolled_by_an_ra(self, ca, count):
        m = self.mount()
        os.mkdir(m.point / "ca/corp")
        m.write("ca/corp/config", f"enrollment-url = {ca.url}\n")
        self.assertEqual(m.request("ca/corp", "enroll"), "ok")
        self.assertEqual(m.read("ca/corp/fingerprint").count("SHA-256"), 1 + count)
        m.write("ca/corp/confirm", "yes\n")
        shown = m.read("ca/corp/fingerprint")
        self.assertEqual(shown.count("SHA-256"), 1 + count, shown)
        self.assertIn(ca.fingerprint(), shown.splitlines()[1])
        self.certificate_id(m)
        self.assertEqual(m.request("local/www", "enroll"), "ok")
        assert_valid(self, m, "www")

    def test_an_ra_that_signs_and_decrypts(self):
        self.enrolled_by_an_ra(Ca(self, RA="one"), 1)

    def test_an_ra_of_two(self):
        self.enrolled_by_an_ra(Ca(self, RA="two"), 2)

    def test_a_one_time_challenge_survives_a_lost_answer(self):
        once = self.folder / "once"
        once.write_text("first\nsecret\n")
        ca = Ca(self, "-1", once, "-k", 1, RA="two")
        m = self.mount()
        self.trusted_profile(m, ca.url)
        self.certificate_id(m)
        m.write("local/www/request", "enroll\n")
        self.assertTrue(until(lambda: m.status("local/www")["state"] == "valid"),
                        m.status("local/www"))
        assert_valid(self, m, "www", version=1)
        self.assertEqual(len(ca.said("received PKCSReq")), 1)
        self.assertEqual(len(ca.said("received CertPoll")), 1)
        self.assertEqual(once.read_text(), "first\n")

    def test_a_ca_that_forgets_gets_the_same_request_again(self):
        ca = Ca(self, "-f", "-k", 1)
        m = self.mount()
        self.trusted_profile(m, ca.url)
        self.certificate_id(m)
        m.write("local/www/request", "enroll\n")
        self.assertTrue(until(lambda: m.status("local/www")["state"] == "valid"))
        self.assertEqual(len({line.split()[-1] for line in ca.said("received")}), 1)
        self.assertEqual(len(ca.said("received PKCSReq")), 2)

    def test_a_ca_that_takes_get_only(self):
        self.enrolled(Ca(self, "-C", "AES\\nSHA-256\\nRenewal"))

    def test_strong_algorithms(self):
        m = self.enrolled(Ca(self, "-e", "aes-256-cbc", "-g", "sha512"), "digest = sha512")
        self.assertNotIn("note", m.status("local/www"))

    def test_renewal_is_signed_by_the_certificate_in_force(self):
        ca = Ca(self, "-c", "secret")
        m = self.enrolled(ca)
        self.assertEqual(m.request("local/www", "re-enroll"), "ok")
        self.assertEqual(len(ca.said("received RenewalReq")), 1)
        self.assertEqual(m.request("local/www",
                                   "action = re-enroll\nre-generate-keypair = yes"), "ok")
        assert_valid(self, m, "www", version=3)
        self.assertEqual(len(ca.said("received RenewalReq")), 2)

    def test_the_crl_by_getcrl(self):
        ca = Ca(self)
        m = self.enrolled(ca)
        self.assertEqual(m.request("ca/corp", "refresh-crl"), "ok")
        self.assertEqual(m.status("ca/corp")["crl-source"], "GetCRL")
        self.assertTrue(m.status("local/www")["revocation"].startswith("good"))
        (ca.folder / "revoked").write_text(serial(m.point / "local/www/cert.pem") + "\n")
        number = m.status("ca/corp")["crl-number"]
        # a CRL's number is the CA's time in seconds
        self.assertTrue(until(lambda: m.request("ca/corp", "refresh-crl") == "ok" and
                              m.status("ca/corp")["crl-number"] != number))
        self.assertEqual(m.status("ca/corp")["crl-entries"], "1")
        self.assertEqual(m.status("local/www")["state"], "revoked")
        self.assertEqual(run("openssl", "crl", "-in", m.point / "ca/corp/crl.pem", "-CAfile",
                             m.point / "ca/corp/cert.pem", "-noout").returncode, 0)

    def test_a_dead_port_is_tried_until_it_answers(self):
        ca = Ca(self)
        m = self.mount()
        self.trusted_profile(m, ca.url)
        ca.stop()
        self.certificate_id(m)
        result = m.request("local/www", "enroll")
        self.assertTrue(result.startswith("failed: "), result)
        self.assertIn(m.status("local/www")["request"], ("waiting", "running"))
        ca.start()
        self.assertTrue(until(lambda: m.status("local/www")["state"] == "valid"))
        self.assertEqual(m.wait("local/www"), "ok")
        self.assertEqual(len(ca.said("received PKCSReq")), 1)
        self.assertEqual(m.status("local/www")["last-error"], "")

    def test_a_typo_in_the_path_is_told_at_once(self):
        m = self.mount()
        os.mkdir(m.point / "ca/corp")
        m.write("ca/corp/config", f"enrollment-url = {Ca(self, script='scep-server').url}s\n")
        self.assertIn("HTTP status 404", m.request("ca/corp", "enroll"))
        self.assertEqual(m.status("ca/corp")["request"], "waiting")

    def test_tries_at_a_dead_port_are_counted(self):
        m = self.mount()
        os.mkdir(m.point / "ca/corp")
        m.write("ca/corp/config", f"enrollment-url = http://127.0.0.1:{free_port()}/scep\n"
                                  "enrollment-retry = 1\nenrollment-retry-interval = 0\n")
        m.write("ca/corp/request", "enroll\n")
        self.assertTrue(until(lambda: m.status("ca/corp")["request"] == "failed"))
        self.assertTrue(m.wait("ca/corp").startswith("failed: "))

    def test_many_at_the_same_time(self):
        ca = Ca(self, "-w", 1)
        m = self.mount()
        self.trusted_profile(m, ca.url)
        names = [f"host{i}" for i in range(12)]
        for name in names:
            self.certificate_id(m, name)
            m.write(f"local/{name}/request", "enroll\n")
        for name in names:
            self.assertEqual(m.wait(f"local/{name}"), "ok", name)
            assert_valid(self, m, name, version=1)
        self.assertEqual(len(ca.said("received PKCSReq")), len(names))


if __name__ == "__main__":
    main()
