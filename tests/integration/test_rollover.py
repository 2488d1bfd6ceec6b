"""A CA that gets another certificate: the next one is kept beside the one in force, and follows."""

import shutil

import time

from acme import Acme, AcmeTest
from ca_texts import ca_certificate
from cmp import GENM, Cmp, CmpCa
from est import Est, EstServer
from harness import BIN, EC_KEY, main, run, until
from scep import assert_valid
from test_renewal import AUTO, DAY, Renewal, seconds

CAPABILITIES = "AES\nSHA-256\nPOSTPKIOperation\nRenewal\n"


def same(one, other):
    return one.split() == other.split()


class Rollover(Renewal):
    """A CA of a hundred days, whose next certificate begins at its ninetieth-fifth."""

    def short_ca(self, *options, offers=True):
        ca = self.ca()
        ca.stop()
        self.begin = self.clock.now() - DAY
        ca_certificate(ca.folder, "ca", self.begin, self.day(100))
        ca_certificate(ca.folder, "next", self.day(95), self.day(300))
        self.ways = ("-C", CAPABILITIES + ("GetNextCACert\n" if offers else ""), "-n",
                        f"{8 * DAY}s", *options)
        ca.start(*self.ways)
        return ca

    def day(self, count):
        return self.begin + count * DAY

    def roll(self, ca):
        """The CA goes on with its next certificate."""
        ca.stop()
        for suffix in ("pem", "key"):
            shutil.move(ca.folder / f"ca.{suffix}", ca.folder / f"former.{suffix}")
            shutil.move(ca.folder / f"next.{suffix}", ca.folder / f"ca.{suffix}")
        ca.start(*self.ways)

    def trusting(self, ca):
        m = self.mount()
        self.trusted_profile(m, ca.url)
        return m

    def step(self, mount, when, **options):
        """The store looks by itself: a request of a user would come before its own."""
        self.clock.step_to(when, **options)

    def status(self, mount):
        return mount.status("ca/corp")

    def has_next(self, mount):
        return "next-ca" in self.status(mount)

    def near_its_end(self, ca):
        """A mount that knows what follows, at the ninety-first day; www is the CA's till then."""
        m = self.trusting(ca)
        self.step(m, self.day(90.5), synchronised=True)
        self.assertTrue(until(lambda: self.has_next(m)), self.status(m))
        self.certificate_id(m, more=AUTO)
        self.assertEqual(m.request("local/www", "enroll"), "ok")
        return m

    def test_the_next_certificate_is_fetched_at_the_end_and_takes_over_at_its_time(self):
        ca = self.short_ca()
        m = self.near_its_end(ca)
        old, new = ((ca.folder / name).read_text() for name in ("ca.pem", "next.pem"))
        self.assertTrue(same(m.read("ca/corp/next.pem"), new))
        status = self.status(m)
        self.assertEqual(int(seconds(status["next-ca-takes-over"])), int(self.day(95)))
        self.assertEqual(status["next-ca-trusted-by"], "the CA certificate before it")
        self.assertTrue(same(m.read("ca/corp/cert.pem"), old))
        m.kill_all()  # nothing of it is in memory alone
        m.start()
        self.step(m, self.day(95), synchronised=True)
        self.assertTrue(until(lambda: same(m.read("ca/corp/cert.pem"), new)), self.status(m))
        self.assertFalse((m.point / "ca/corp/next.pem").exists())
        status = self.status(m)
        self.assertEqual(status["trusted-by"], "the CA certificate before it")
        self.assertIn("CN=Lab SCEP CA", status["former-ca"])
        self.assertEqual([event["name"] for event in self.events(m, "rollover")], ["corp"])
        # what the former one issued is in force with its whole chain, and is renewed by the new
        self.assertEqual(m.request("local/www", "verify"), "ok")
        self.assertTrue(same(m.read("local/www/chain.pem"), old))
        self.roll(ca)
        self.step(m, self.due(m), synchronised=True)
        self.becomes(m, version=2, request="done")
        assert_valid(self, m, "www", at=self.clock.now())
        self.assertTrue(ca.said("received RenewalReq"), "it is signed by the old certificate")
        # then nobody needs the former one any more
        self.step(m, self.clock.now() + 1.1 * DAY, synchronised=True)
        self.assertTrue(until(lambda: "former-ca" not in self.status(m)), self.status(m))
        self.assertEqual(len(self.events(m, "former-ca-dropped")), 1)

    def test_what_outlives_its_ca_is_renewed_before_that_ends(self):
        """Its config would have it renewed when the CA has ended."""
        ca = self.short_ca("-n", f"{50 * DAY}s")
        m = self.near_its_end(ca)
        status = m.status("local/www")
        self.assertGreater(seconds(status["not-after"]), self.day(140))
        self.assertIn("its CA ends before it", status["warning"])
        self.assertTrue(self.day(98) < self.due(m) < self.day(100), status)
        self.step(m, self.day(95), synchronised=True)
        self.assertTrue(until(lambda: "former-ca" in self.status(m)), self.status(m))
        self.roll(ca)
        self.step(m, self.due(m), synchronised=True)
        self.becomes(m, version=2, request="done")
        self.assertTrue(same(m.read("local/www/chain.pem"), (ca.folder / "ca.pem").read_text()))
        status = m.status("local/www")
        self.assertGreater(self.due(m), self.day(140))
        self.assertNotIn("ends before it", status.get("warning", ""))

    def test_a_ca_that_goes_on_with_its_former_certificate_is_asked_with_that(self):
        ca = self.short_ca()
        ca_certificate(ca.folder, "next", self.begin + 60, self.day(300))
        ca.restart(*self.ways)
        m = self.trusting(ca)
        old = m.read("ca/corp/cert.pem")
        self.assertEqual(m.request("ca/corp", "next-ca"), "ok")
        new = m.read("ca/corp/cert.pem")
        self.assertTrue(same(new, (ca.folder / "next.pem").read_text()), "it is valid already")
        self.certificate_id(m)
        self.assertEqual(m.request("local/www", "enroll"), "ok")
        self.assertTrue(same(m.read("local/www/chain.pem"), old))
        self.roll(ca)
        self.assertEqual(m.request("local/www", "re-enroll"), "ok")
        self.assertTrue(same(m.read("local/www/chain.pem"), new))

    def test_a_ca_that_has_none_yet_is_asked_again(self):
        ca = self.short_ca()
        kept = (ca.folder / "next.pem").read_text()
        (ca.folder / "next.pem").write_text("none yet\n")
        ca.restart(*self.ways)
        m = self.trusting(ca)
        self.step(m, self.day(90.5), synchronised=True)
        self.assertTrue(until(lambda: "has no next certificate yet (HTTP status 404)" in
                              self.status(m)["last-error"]), self.status(m))
        (ca.folder / "next.pem").write_text(kept)
        ca.restart(*self.ways)
        self.step(m, self.day(91.8), synchronised=True)
        self.assertTrue(until(lambda: self.has_next(m)), self.status(m))

    def test_a_ca_that_does_not_offer_it_is_not_asked_by_itself(self):
        ca = self.short_ca(offers=False)
        m = self.trusting(ca)
        self.step(m, self.day(90.5), synchronised=True)
        self.assertTrue(until(lambda: self.events(m, "ca-ends")))
        self.assertIn("does not offer", m.request("ca/corp", "next-ca"))
        self.assertEqual([event["action"] for event in self.events(m, "request")].count("next-ca"),
                         1)

    def after_the_end(self, ca):
        """A mount that learned what follows when its CA certificate had ended: it waits."""
        m = self.trusting(ca)
        m.stop()
        self.clock.step_to(self.day(101), synchronised=True)
        m.start()
        self.assertEqual(m.request("ca/corp", "next-ca"), "ok")
        self.assertIn("for `confirm`", self.status(m)["next-ca-waits"])
        return m

    def test_one_that_comes_after_the_end_waits_for_confirm(self):
        ca = self.short_ca()
        m = self.after_the_end(ca)
        fingerprint = self.status(m)["next-ca-fingerprint-sha256"]
        self.assertIn(fingerprint, m.read("ca/corp/fingerprint"))
        other = ("11" if fingerprint.startswith("00") else "00") + fingerprint[2:]
        self.refused(m, "ca/corp/confirm", other + "\n", "nor a fingerprint")
        self.step(m, self.day(102), synchronised=True)
        self.assertEqual(self.status(m)["state"], "expired", "nobody has confirmed it")
        m.write("ca/corp/confirm", fingerprint + "\n")
        status = self.status(m)
        self.assertEqual((status["state"], status["trusted-by"]), ("trusted", "confirm"))
        self.assertTrue(same(m.read("ca/corp/cert.pem"), (ca.folder / "next.pem").read_text()))

    def test_one_that_is_refused_stays_refused(self):
        m = self.after_the_end(self.short_ca())
        m.write("ca/corp/confirm", "no\n")
        self.assertEqual(m.request("ca/corp", "next-ca"), "ok")
        self.assertFalse(self.has_next(m), self.status(m))
        self.refused(m, "ca/corp/confirm", "yes\n", "no CA certificate waits")

    def test_attack_09_a_next_ca_that_the_ca_did_not_sign(self):
        ca = self.short_ca()
        m = self.trusting(ca)
        before = m.read("ca/corp/cert.pem")
        for attack, words in (("unsigned", "is signed by 0, not by one"),
                              ("rogue-signer", "not signed by the CA certificate in force"),
                              ("impostor", "the signature of the answer is wrong"),
                              ("trailing", "bytes stand behind the end"),
                              ("next-garbage", "is no SCEP message")):
            with self.subTest(attack):
                ca.restart("-a", attack, *self.ways)
                self.assertIn(words, m.request("ca/corp", "next-ca"))
                self.assertTrue(ca.said("sent the next CA certificate"))
                self.assertFalse(self.has_next(m))
                self.assertFalse((m.point / "ca/corp/next.pem").exists())
                self.assertEqual(self.status(m)["request"], "failed")
        self.assertEqual(m.read("ca/corp/cert.pem"), before)
        ca.restart(*self.ways)
        self.assertEqual(m.request("ca/corp", "next-ca"), "ok")
        self.assertTrue(self.has_next(m))


EST_NAME = "/O=Lab/CN=Lab EST CA"


class InCacerts(Est):
    """EST: what the CA publishes (RFC 7030 §4.1.3) is looked at with each renewal."""

    def setUp(self):
        super().setUp()
        self.server = EstServer(self)
        self.server.stop()
        self.certificate("ca", begun=10 * DAY)
        self.server.start("-u", "est:secret")
        self.m = self.mount_with(self.server)
        self.est_id(self.m)
        self.assertEqual(self.m.request("local/www", "enroll"), "ok")
        self.old = self.m.read("ca/corp/cert.pem")

    def certificate(self, name, begun=60, **how):
        """FOLDER/NAME.pem, a CA certificate that is valid now, since so many seconds."""
        now = time.time()
        return ca_certificate(self.server.folder, name, now - begun, now + 100 * DAY,
                              **{"subject": EST_NAME, "kind": EC_KEY, **how})

    def roll(self, new, *published):
        """The CA goes on as NEW, and publishes these files as well."""
        folder = self.server.folder
        self.server.stop()
        shutil.copy(folder / "ca.pem", folder / "device.pem")  # it still knows its own
        shutil.copy(folder / "ca.pem", folder / "old.pem")
        shutil.copy(folder / "ca.key", folder / "old.key")
        shutil.copy(new, folder / "ca.pem")
        shutil.copy(new.with_suffix(".key"), folder / "ca.key")
        self.server.answers("cacerts", 200, "application/pkcs7-mime",
                            body=self.bundle(folder / "old.pem", new, *published))
        self.server.start("-u", "est:secret")

    def assert_waits(self, new):
        """NEW is kept, and is nobody's anchor; the certificate in force is as it was."""
        status = self.m.status("ca/corp")
        self.assertIn("for `confirm`", status["next-ca-waits"])
        self.assertTrue(same(self.m.read("ca/corp/next.pem"), new.read_text()))
        self.assertEqual(self.m.read("ca/corp/cert.pem"), self.old)
        status = self.m.status("local/www")
        self.assertEqual((status["state"], status["version"]), ("valid", "1"))

    def test_a_new_root_that_the_old_one_vouches_for_takes_over_by_itself(self):
        new = self.certificate("new")
        self.roll(new, self.certificate("new-by-old", key="new", signer="ca"))
        self.assertEqual(self.m.request("local/www", "re-enroll"), "ok")
        self.assertTrue(same(self.m.read("ca/corp/cert.pem"), new.read_text()))
        assert_valid(self, self.m, "www", version=2)
        self.assertTrue(same(self.m.read("local/www/chain.pem"), new.read_text()))
        self.assertEqual(self.m.status("ca/corp")["trusted-by"], "the CA certificate before it")
        # the same again says nothing new, nor does the old one's being published with its link
        self.server.answers("cacerts", 200, "application/pkcs7-mime", body=self.bundle(
            new, self.server.folder / "old.pem",
            self.certificate("old-by-new", key="old", signer="new")))
        self.assertEqual(self.m.request("local/www", "re-enroll"), "ok")
        self.assertNotIn("next-ca", self.m.status("ca/corp"))
        self.assertTrue(same(self.m.read("ca/corp/cert.pem"), new.read_text()))

    def test_attack_31_a_new_root_that_nobody_vouches_for_waits_for_confirm(self):
        new = self.certificate("new")
        self.roll(new)
        self.assertIn("leads to no trusted CA", self.m.request("local/www", "re-enroll"))
        self.assertEqual(self.m.status("local/www")["request"], "rejected")
        self.assert_waits(new)
        done = run(BIN / "pkictl", "-m", self.m.point, "ca", "confirm", "corp", "--fingerprint",
                   self.m.status("ca/corp")["next-ca-fingerprint-sha256"])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.m.request("local/www", "re-enroll"), "ok")
        assert_valid(self, self.m, "www", version=2)

    def test_attack_31_only_the_one_in_force_can_vouch_and_only_for_its_own_name(self):
        other = "/O=Lab/CN=Somebody below it"
        self.certificate("evil")
        for name, subject, signer in (("forged", EST_NAME, "evil"), ("below", other, "ca")):
            with self.subTest(name):
                new = self.certificate(name, subject=subject)
                link = self.certificate(f"{name}-link", key=name, signer=signer, subject=subject)
                self.server.answers("cacerts", 200, "application/pkcs7-mime", body=self.bundle(
                    self.server.folder / "ca.pem", new, link))
                self.assertEqual(self.m.request("ca/corp", "next-ca"), "ok")
                self.assert_waits(new)

    def test_intermediates_change_and_the_anchor_stays(self):
        root = self.server.folder / "ca.pem"
        self.server.stop()
        for name in ("one", "two"):
            shutil.copy(root, self.server.folder / "root.pem")
            self.certificate(name, subject=f"/O=Lab/CN=Lab EST {name}", signer="ca")
        shutil.copy(self.server.folder / "ca.key", self.server.folder / "root.key")
        for version, name in ((2, "one"), (3, "two")):
            intermediate = self.server.folder / f"{name}.pem"
            shutil.copy(self.server.folder / "root.pem", self.server.folder / "device.pem")
            shutil.copy(intermediate, self.server.folder / "ca.pem")
            shutil.copy(intermediate.with_suffix(".key"), self.server.folder / "ca.key")
            self.server.restart("-u", "est:secret")
            self.assertEqual(self.m.request("local/www", "re-enroll"), "ok")
            status = self.m.status("local/www")
            self.assertEqual((status["version"], status["issuer"]),
                             (str(version), f"O=Lab,CN=Lab EST {name}"))
            self.assertTrue(same(self.m.read("local/www/chain.pem"),
                                 intermediate.read_text() + self.old))
        self.assertNotIn("next-ca", self.m.status("ca/corp"))
        self.assertEqual(self.m.read("ca/corp/cert.pem"), self.old)


class ByGeneralMessage(Cmp):
    """CMP: a renewal asks which root follows (RFC 9483 §4.3.2)."""

    def setUp(self):
        super().setUp()
        self.ca = CmpCa(self, "-P", "ca.pem")
        self.m = self.mount()
        self.profile(self.m, self.ca)
        self.cmp_id(self.m)
        self.assertEqual(self.m.request("local/www", "enroll"), "ok")
        self.assertEqual(self.ca.got(GENM), [], "nothing follows what was just got to know")
        self.old = self.m.read("ca/corp/cert.pem")

    def certificate(self, name, begins=-60, **how):
        now = time.time()
        return ca_certificate(self.ca.folder, name, now + begins, now + 1000 * DAY,
                              **{"subject": "/O=Lab/CN=Lab CMP CA", **how})

    def renew(self, version):
        self.assertEqual(self.m.request("local/www", "re-enroll"), "ok")
        assert_valid(self, self.m, "www", version=version)

    def test_a_new_root_that_the_old_one_vouches_for_takes_over_by_itself(self):
        new = self.certificate("next", begins=60)
        self.certificate("next-by-old", begins=60, key="next", signer="ca")
        self.renew(2)
        self.assertEqual(len(self.ca.got(GENM)), 1)
        status = self.m.status("ca/corp")
        self.assertEqual(status["next-ca-trusted-by"], "the CA certificate before it")
        self.assertTrue(same(self.m.read("ca/corp/next.pem"), new.read_text()))
        self.assertEqual(self.m.read("ca/corp/cert.pem"), self.old, "it is not valid yet")

    def test_attack_31_a_new_root_that_nobody_vouches_for_waits_for_confirm(self):
        new = self.certificate("next")
        self.renew(2)
        status = self.m.status("ca/corp")
        self.assertIn("for `confirm`", status["next-ca-waits"])
        self.assertEqual(self.m.read("ca/corp/cert.pem"), self.old)
        self.m.write("ca/corp/confirm", status["next-ca-fingerprint-sha256"] + "\n")
        self.assertTrue(same(self.m.read("ca/corp/cert.pem"), new.read_text()))

    def test_a_ca_that_says_nothing_or_garbage_is_no_hindrance(self):
        self.certificate("next")
        for version, manners in enumerate((("-k", GENM), ("-a", "genm-garbage")), 2):
            self.ca.restart("-P", "ca.pem", *manners)
            self.renew(version)
            self.assertEqual(len(self.ca.got(GENM)), version - 1)
            self.assertNotIn("next-ca", self.m.status("ca/corp"))


class AtTheTop(AcmeTest):
    """ACME says nothing of its CA: only the chain shows it."""

    def test_a_chain_that_ends_at_another_root_waits_for_confirm(self):
        ca = Acme(self)
        m = self.acme_mount(ca)
        self.profile(m, ca)
        self.certificate_id(m)
        self.assertEqual(m.request("local/www", "enroll"), "ok")
        before, bundle = m.read("ca/corp/cert.pem"), m.read("local/www/bundle.pem")
        ca.stop()
        ca.start()  # pebble has another root each time
        self.assertIn("leads to no trusted CA", m.request("local/www", "re-enroll"))
        status = m.status("ca/corp")
        self.assertIn("for `confirm`", status["next-ca-waits"])
        self.assertEqual(m.read("ca/corp/cert.pem"), before)
        self.assertEqual(m.read("local/www/bundle.pem"), bundle)
        m.write("ca/corp/confirm", status["next-ca-fingerprint-sha256"] + "\n")
        self.assertEqual(m.request("local/www", "re-enroll"), "ok")
        self.assertEqual(m.status("local/www")["version"], "2")
        # what was confirmed is the highest that the server sends: no root
        verified = run("openssl", "verify", "-partial_chain", "-CAfile", m.point / "ca/corp/cert.pem",
                       m.point / "local/www/cert.pem")
        self.assertEqual(verified.returncode, 0, verified.stdout + verified.stderr)


if __name__ == "__main__":
    main()
