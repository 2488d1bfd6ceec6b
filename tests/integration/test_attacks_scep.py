"""Attacks on SCEP, a test each; the numbers are those of docs/reliability.md."""

import datetime
import os
import shutil

from harness import main, run, until
from scep import Attacked, Ca, Scep, assert_valid


class Answers(Attacked):
    """CertReps that are not the confirmed CA's, or not to our message."""

    def test_attack_01_an_answer_without_a_signature(self):
        self.nothing_is_taken({"unsigned": "signed by 0, not by one"})

    def test_attack_01_an_answer_signed_by_an_end_entity_of_the_ca(self):
        self.nothing_is_taken({"rogue-signer": "neither by the confirmed CA nor by its RA"})

    def test_attack_01_an_answer_with_two_signers(self):
        self.nothing_is_taken({"two-signers": "signed by 2, not by one"})

    def test_attack_02_another_recipient_nonce(self):
        self.nothing_is_taken({"nonce": "not to this message (recipientNonce)"})

    def test_attack_02_another_transaction(self):
        self.nothing_is_taken({"transaction": "belongs to another transaction"})

    def test_attack_02_neither_nonce_nor_transaction(self):
        self.nothing_is_taken({"no-nonce": "belongs to another transaction"})

    def test_attack_02_a_refusal_with_another_nonce_does_not_end_the_request(self):
        ca = Ca(self, "-a", "nonce", "-R", 2)
        m = self.mount()
        self.trusted_profile(m, ca.url)
        self.certificate_id(m)
        self.assertIn("recipientNonce", m.request("local/www", "enroll"))
        ca.restart()
        self.assertTrue(until(lambda: m.status("local/www")["state"] == "valid"))

    def test_attack_03_an_old_success_is_replayed(self):
        ca = Ca(self, "-a", "replay")
        m = self.mount()
        self.trusted_profile(m, ca.url, more=self.PROFILE)
        self.certificate_id(m)
        self.assertEqual(m.request("local/www", "enroll"), "ok")
        self.before = {"www": m.read("local/www/bundle.pem")}
        self.assertIn("another transaction", m.request("local/www", "re-enroll"))
        self.assertTrue(until(lambda: m.status("local/www")["request"] != "waiting" and
                              m.status("local/www")["request"] != "running"))
        self.assert_kept(m, "www", "another transaction", "failed")

    def test_attack_12_an_empty_success(self):
        self.nothing_is_taken({"empty": "says SUCCESS and carries nothing",
                               "detached": "says SUCCESS and carries nothing"})

    def test_attack_12_a_digest_that_is_broken_or_unknown(self):
        self.nothing_is_taken({"md5": "signed with the digest md5, which is not taken",
                               "unknown-digest": "2.16.840.1.101.3.4.2.127, which is not taken"})

    def test_attack_12_a_byte_behind_the_end(self):
        self.nothing_is_taken({"trailing": "bytes stand behind the end"})


class Envelopes(Attacked):
    """Good signatures around envelopes that are not for our key alone."""

    def test_attack_06_an_envelope_for_another_key_says_no_more_than_any_other(self):
        words = "the answer cannot be decrypted"
        reasons = self.nothing_is_taken({"wrong-key": words, "wrong-recipient": words,
                                         "two-recipients": words})
        self.assertEqual(len(set(reasons)), 1, reasons)

    def test_attack_06_an_envelope_for_us_and_somebody_else(self):
        self.nothing_is_taken({"stranger-second": "the answer cannot be decrypted"})

    def test_attack_11_authenticated_envelopes_passwords_and_key_agreement(self):
        self.nothing_is_taken({kind: "the answer cannot be decrypted"
                               for kind in ("auth-enveloped", "password", "key-agree")})


class Contents(Attacked):
    """What the right CA puts into a good envelope."""

    def test_attack_04_fifty_strangers_come_along(self):
        m = self.enrolled(Ca(self, "-a", "extra"))
        full = run("openssl", "storeutl", "-noout", "-text", "-certs",
                   m.point / "local/www/fullchain.pem").stdout
        self.assertIn("CN=www.example.net", full)
        self.assertNotIn("Stranger", full)
        self.assertNotIn("nobody", full)
        self.assertEqual(m.read("local/www/fullchain.pem"),
                         m.read("local/www/cert.pem") + m.read("local/www/chain.pem"))
        self.assertEqual(os.listdir(m.point / "ca"), ["corp"])
        self.assertEqual(m.read("ca/corp/cert.pem").count("BEGIN"), 1)
        self.assertEqual(m.read("ca/corp/chain.pem").count("BEGIN"), 1)

    def test_attack_04_a_root_that_comes_along_is_not_trusted(self):
        self.nothing_is_taken({"other-root": "leads to no trusted CA"}, "rejected")

    def test_attack_05_a_crl_and_no_certificate(self):
        self.nothing_is_taken({"crl-only": "the answer holds no certificate"})

    def test_attack_10_another_public_key(self):
        self.nothing_is_taken({"other-key": "no certificate for the key"}, "rejected")

    def test_attack_10_another_public_key_in_a_first_certificate(self):
        ca = Ca(self, "-a", "other-key")
        m = self.mount()
        self.trusted_profile(m, ca.url)
        self.certificate_id(m)
        self.assertIn("no certificate for the key", m.request("local/www", "enroll"))
        status = m.status("local/www")
        self.assertEqual((status["request"], status["state"]), ("rejected", "key"))
        self.assertFalse((m.point / "local/www/cert.pem").exists())

    def test_attack_10_another_subject(self):
        self.nothing_is_taken({"other-subject": "changed subject from"}, "rejected")

    def test_attack_10_another_alternative_name(self):
        self.nothing_is_taken({"other-name": "left out DNS:other-name.example.net"}, "rejected")

    def test_attack_10_a_certificate_of_a_ca(self):
        self.nothing_is_taken({"ca-true": "CA:TRUE"}, "rejected")

    def test_attack_10_accept_changed_names_accepts_names_and_nothing_else(self):
        m = self.mount()
        good = Ca(self)
        for attack, result in (("other-subject", "ok"), ("other-name", "ok"),
                               ("other-key", "failed: "), ("ca-true", "failed: ")):
            ca = Ca(self, "-a", attack, like=good)
            self.trusted_profile(m, ca.url, attack)
            self.certificate_id(m, attack, attack, "accept-changed-names = yes\n")
            self.assertTrue(m.request(f"local/{attack}", "enroll").startswith(result), attack)


class Offers(Scep):
    """GetCACaps comes in the clear, from anybody."""

    def leaves(self, capabilities, digest, cipher, more=""):
        """With such an offer the messages that leave are in DIGEST and CIPHER, all of them."""
        ca = Ca(self, "-C", capabilities)
        m = self.mount()
        self.trusted_profile(m, ca.url)
        self.certificate_id(m, more=more)
        self.assertEqual(m.request("local/www", "enroll"), "ok")
        self.assertEqual(m.request("local/www", "re-enroll"), "ok")
        self.assertEqual(set(ca.said("algorithms")),
                         {f"algorithms: signed with {digest}, sealed with {cipher}"})
        self.assertEqual(len(ca.said("message")), 2)

    def nothing_leaves(self, capabilities, *more):
        """With such an offer no message leaves."""
        ca = Ca(self, "-C", capabilities)
        m = self.mount()
        self.trusted_profile(m, ca.url, more="\n".join(more))
        self.certificate_id(m)
        self.assertIn("AES and SHA-256 are needed", m.request("local/www", "enroll"))
        self.assertEqual(m.status("local/www")["request"], "failed")
        self.assertEqual(ca.said("message"), [])

    def test_attack_07_no_capabilities_at_all(self):
        self.leaves("", "sha256", "aes-128-cbc (2.16.840.1.101.3.4.1.2)")

    def test_attack_07_capabilities_without_algorithms(self):
        self.leaves("POSTPKIOperation\\nRenewal", "sha256",
                    "aes-128-cbc (2.16.840.1.101.3.4.1.2)")

    def test_attack_07_an_offer_of_des_and_md5(self):
        self.nothing_leaves("DES\\nMD5\\nPOSTPKIOperation")

    def test_attack_07_des_and_md5_are_too_little_even_for_allow_legacy(self):
        self.nothing_leaves("DES\\nMD5\\nPOSTPKIOperation", "allow-legacy = yes\n")

    def test_attack_07_aes_without_a_digest_that_is_good_enough(self):
        self.nothing_leaves("AES\\nSHA-1\\nPOSTPKIOperation")

    def test_attack_07_a_good_digest_without_aes(self):
        self.nothing_leaves("DES3\\nSHA-256\\nPOSTPKIOperation")

    def test_attack_07_allow_legacy_goes_down_to_3des_and_sha_1(self):
        self.leaves("DES3\\nSHA-1\\nDES\\nMD5\\nPOSTPKIOperation", "sha1",
                    "des-ede3-cbc (1.2.840.113549.3.7)", "allow-legacy = yes\n")


class Authorities(Scep):
    """Somebody else's CA certificate where ours was expected."""

    def setUp(self):
        super().setUp()
        self.ca = Ca(self)
        self.m = self.mount()

    def swapped_for(self, other):
        """CA corp is confirmed, www enrolled; then another fetch, from OTHER. What waits."""
        self.trusted_profile(self.m, self.ca.url)
        self.certificate_id(self.m)
        self.assertEqual(self.m.request("local/www", "enroll"), "ok")
        before = self.m.read("ca/corp/cert.pem")
        self.assertEqual(self.m.request(
            "ca/corp", f"action = enroll\nenrollment-url = {other.url}\n"
                       "enrollment-retry = 1\nenrollment-retry-interval = 0"), "ok")
        status = self.m.status("ca/corp")
        self.assertEqual((status["state"], status["trusted-by"]), ("trusted", "confirm"))
        self.assertIn("pending", status)
        self.assertEqual(self.m.read("ca/corp/cert.pem"), before)
        return self.m.read("ca/corp/pending.pem")

    def test_attack_08_nothing_is_asked_of_a_ca_that_nobody_confirmed(self):
        os.mkdir(self.m.point / "ca/corp")
        self.m.write("ca/corp/config", f"enrollment-url = {self.ca.url}\n")
        self.certificate_id(self.m)
        for _ in range(2):
            self.refused(self.m, "local/www/request", "enroll\n",
                         "profile corp is not trusted yet")
            self.assertEqual(self.m.request("ca/corp", "enroll"), "ok")
        self.assertEqual(self.ca.said("message"), [])
        self.m.write("ca/corp/confirm", "no\n")
        self.assertEqual(self.m.status("ca/corp")["state"], "empty")

    def test_attack_08_a_swapped_ca_waits_and_gets_no_challenge(self):
        thief = Ca(self)
        self.assertEqual(self.swapped_for(thief).split(),
                         (thief.folder / "ca.pem").read_text().split())
        result = self.m.request("local/www", "re-enroll")
        self.assertTrue(result.startswith("failed: "), result)
        self.assertEqual(thief.said("received"), [], "the thief could read a request")
        assert_valid(self, self.m, "www", version=1)
        before = self.m.read("ca/corp/cert.pem")
        self.m.write("ca/corp/confirm", "no\n")
        self.assertEqual(self.m.read("ca/corp/cert.pem"), before)
        self.assertFalse((self.m.point / "ca/corp/pending.pem").exists())

    def test_attack_08_an_ra_that_the_ca_did_not_sign(self):
        ca = Ca(self, RA="one")
        ca.stop()
        for name in ("ca.pem", "ca.key"):
            shutil.copy(self.ca.folder / name, ca.folder / name)
        ca.start()
        os.mkdir(self.m.point / "ca/corp")
        self.m.write("ca/corp/config", f"enrollment-url = {ca.url}\nenrollment-retry = 1\n"
                                       "enrollment-retry-interval = 0\n")
        self.assertIn("an RA certificate that the CA did not sign",
                      self.m.request("ca/corp", "enroll"))
        self.assertEqual(self.m.status("ca/corp")["state"], "empty")
        self.assertFalse((self.m.point / "ca/corp/pending.pem").exists())

    def test_attack_09_a_next_ca_that_nobody_signed_waits_whatever_its_name(self):
        next_ca = Ca(self, "-a", "next-ca", like=self.ca)
        waiting = self.swapped_for(next_ca)
        self.assertEqual(waiting.split(), (next_ca.folder / "next.pem").read_text().split())
        # the one in force goes on until somebody confirms
        self.assertEqual(self.m.request("local/www", "re-enroll"), "ok")
        assert_valid(self, self.m, "www", version=2)


class Decisions(Scep):
    """A CA that never decides."""

    def test_attack_13_pending_for_ever_ends_by_enrollment_retry(self):
        ca = Ca(self, "-w", 1000)
        m = self.mount()
        self.trusted_profile(m, ca.url, more="enrollment-retry = 2\n")
        self.certificate_id(m)
        m.write("local/www/request", "enroll\n")
        self.assertTrue(until(lambda: m.status("local/www")["request"] == "failed"),
                        m.status("local/www"))
        self.assertEqual(m.wait("local/www"),
                         "failed: the CA has still not decided, after 2 retries")
        self.assertEqual(len(ca.said("received PKCSReq")), 1)
        self.assertEqual(len(ca.said("received CertPoll")), 2)
        self.assertFalse((m.point / "local/www/cert.pem").exists())

    def test_attack_13_a_ca_that_says_when_is_not_polled_more_often(self):
        ca = Ca(self, "-w", 1000, "-t", 3600)
        m = self.mount()
        self.trusted_profile(m, ca.url)
        self.certificate_id(m)
        m.write("local/www/request", "enroll\n")
        self.assertTrue(until(lambda: m.status("local/www")["request"] == "waiting"))
        due = datetime.datetime.fromisoformat(m.status("local/www")["next-action-at"])
        self.assertGreater((due - datetime.datetime.now(datetime.timezone.utc)).seconds, 3000)
        m.write("local/www/request", "cancel\n")
        self.assertEqual(m.wait("local/www"), "failed: cancelled")


if __name__ == "__main__":
    main()
