"""Attacks on CMP through the mount, a test each; the numbers are those of docs/reliability.md."""

import shutil

from cmp import CERT_CONF, IR, KUR, POLL_REQ, Cmp, CmpCa, events
from harness import main, until
from scep import assert_valid

ONCE = "enrollment-retry = 1\n"
BODIES = 27  # types of messages (RFC 4210 §5.1.2)


class Attacked(Cmp):
    def setUp(self):
        super().setUp()
        self.ca = CmpCa(self, "-P", "ca.pem")
        self.m = self.mount()

    def attack(self, *options, **files):
        """The same CA with bad manners; FILES of another folder stand in place of its own."""
        ca = CmpCa(self, like=self.ca, start=False)
        for name, folder in files.items():
            for end in ("pem", "key"):
                shutil.copy(folder / f"{name}.{end}", ca.folder)
        ca.start(*options)
        return ca

    def asks(self, ca, name, more=ONCE, **settings):
        self.profile(self.m, ca, name, more)
        self.cmp_id(self.m, name, name, **settings)
        self.m.write(f"local/{name}/request", "enroll\n")

    def assert_nothing_taken(self, name, words, request, state="key"):
        self.assertTrue(self.m.ends(f"local/{name}"), name)
        status = self.m.status(f"local/{name}")
        self.assertEqual((status["request"], status["state"]), (request, state), status)
        self.assertIn(words, status["last-error"], name)
        self.assertEqual((self.m.point / "local" / name / "cert.pem").exists(), state == "valid")
        self.assertTrue(any(event["event"] == request and words in event.get("reason", "")
                            for event in events(self.m)), name)

    def nothing_is_taken(self, attacks, request="failed"):
        """Each of ATTACKS (options of the CA, words of the reason) meets a first enrollment by the
        shared secret. The CAs by name."""
        cas = {}
        for name, (options, _) in attacks.items():
            cas[name] = self.attack("-P", "ca.pem", *options)
            self.asks(cas[name], name)
        for name, (_, words) in attacks.items():
            self.assert_nothing_taken(name, words, request)
            self.assertTrue(cas[name].got(IR), name)
            self.assertEqual(self.m.status(f"ca/{name}")["state"], "empty", name)
        self.assertEqual(self.profiles(self.m), sorted(attacks))
        self.asks(self.ca, "good")
        self.assertEqual(self.m.wait("local/good"), "ok")
        return cas

    def enrolled(self, *names):
        """Certificate ids with profiles of their names, which are known by signature from here on."""
        for name in names:
            self.asks(self.ca, name)
        for name in names:
            self.assertEqual(self.m.wait(f"local/{name}"), "ok", name)
            self.m.write(f"local/{name}/config",
                         f"ca-profile = {name}\nsubject = CN={name}.example.net,O=Example\n"
                         f"domain-name = {name}.example.net\nkey-type = ecdsa\n")

    def renews(self, ca, name):
        self.m.write(f"ca/{name}/config", f"protocol = cmpv2\nenrollment-url = {ca.url}\n"
                                          f"enrollment-retry-interval = 0\n{ONCE}")
        self.m.write(f"local/{name}/request", "re-enroll\n")


class Answers(Attacked):
    def test_attack_14_and_15_answers_that_are_not_the_cas_or_not_to_us(self):
        self.nothing_is_taken({
            "unprotected": (("-a", "unprotected"), "unproven answer: "),
            "other-secret": (("-a", "other-secret"), "unproven answer: "),
            "nonce": (("-a", "nonce"), "recipnonce"),
            "transaction": (("-a", "transaction"), "transactionid"),
            "signed": (("-S",), "unproven answer: "),
        })

    def test_attack_14_signers_that_do_not_speak_for_the_ca(self):
        """A server of another CA, somebody with a certificate of ours who is no RA, and (attack 15)
        the right one under a name that is not its own."""
        other = CmpCa(self)
        bad = ("stranger", "holder", "renamed")
        self.enrolled(*bad, "good")
        before = {name: self.m.read(f"local/{name}/bundle.pem") for name in bad}
        holder = self.folder / "holder"
        holder.mkdir()
        for end, file in (("pem", "cert.pem"), ("key", "key.pem")):
            (holder / f"server.{end}").write_text(self.m.read(f"local/good/{file}"))
        self.renews(self.attack(server=other.folder), "stranger")
        self.renews(self.attack(server=holder), "holder")
        self.renews(self.attack("-a", "sender"), "renamed")
        for name, bundle in before.items():
            self.assert_nothing_taken(name, "unproven answer: ", "failed", "valid")
            self.assertEqual(self.m.read(f"local/{name}/bundle.pem"), bundle)
        self.renews(self.ca, "good")
        self.assertEqual(self.m.wait("local/good"), "ok")

    def test_attack_15_an_old_answer_is_replayed(self):
        self.enrolled("replay")
        self.cmp_id(self.m, "next", "replay")
        ca = self.attack("-P", "ca.pem", "-I", "-a", "replay")
        self.m.write("ca/replay/config", f"protocol = cmpv2\nenrollment-url = {ca.url}\n"
                                         f"enrollment-retry-interval = 0\n{ONCE}")
        self.cmp_id(self.m, "first", "replay")
        self.assertEqual(self.m.request("local/first", "enroll"), "ok")
        self.m.write("local/next/request", "enroll\n")
        self.assert_nothing_taken("next", "cannot be used", "failed")

    def test_attack_16_a_certificate_for_another_key_or_name(self):
        cas = self.nothing_is_taken({
            "other-key": (("-a", "other-key"), "key"),
            "other-subject": (("-a", "other-subject"), "subject"),
            "other-name": (("-a", "other-name"), "name"),
            "ca-true": (("-a", "ca-true"), "CA"),
        }, "rejected")
        for name, ca in cas.items():
            self.assertEqual(len(ca.said("certConf PKIStatus: rejection")), 1, name)

    def test_attack_19_a_root_that_comes_with_a_signed_answer(self):
        """It lies in caPubs of an answer that is proven by the CA's signature, and is not stored."""
        other = CmpCa(self)
        self.enrolled("www")
        for option in ("-P", "-E"):
            self.renews(self.attack(option, other.folder / "ca.pem"), "www")
            self.assertEqual(self.m.wait("local/www"), "ok")
            self.assertEqual(self.profiles(self.m), ["www"])
            self.assertEqual(self.m.read("ca/www/cert.pem").count("BEGIN"), 1)

    def test_attack_19_a_root_that_issues_beside_the_one_that_is_known(self):
        """The server signs as the CA of the profile wants it; the certificate is another root's,
        which comes along."""
        other = CmpCa(self)
        self.enrolled("www")
        bundle = self.m.read("local/www/bundle.pem")
        for option in ("-P", "-E", "-C"):
            ca = CmpCa(self, like=self.ca, start=False)
            shutil.copy(ca.folder / "ca.pem", ca.folder / "root.pem")
            for end in ("pem", "key"):
                shutil.copy(other.folder / f"ca.{end}", ca.folder)
            ca.start(option, "ca.pem")
            self.renews(ca, "www")
            self.assert_nothing_taken("www", "leads to no trusted CA", "rejected", "valid")
            self.assertEqual(self.m.read("local/www/bundle.pem"), bundle)
            self.assertEqual(self.profiles(self.m), ["www"])
            self.assertEqual(len(ca.said("certConf PKIStatus: rejection")), 1, option)

    def test_attack_21_a_crowd_of_certificates(self):
        """extraCerts beyond what an answer may have, and as many as go into one."""
        self.asks(self.attack("-P", "ca.pem", "-a", "crowd", "-b", 10000), "many")
        self.asks(self.attack("-P", "ca.pem", "-I", "-a", "crowd", "-b", 1500), "some")
        self.assert_nothing_taken("many", "more than 1048576 bytes", "failed")
        self.assertEqual(self.m.wait("local/some"), "ok")
        self.assertEqual(self.profiles(self.m), ["many", "some"])
        self.assertEqual(self.m.read("ca/some/cert.pem").count("BEGIN"), 1)


class Steps(Attacked):
    def test_attack_17_the_confirmation_is_refused(self):
        """The first one, by an error that is proven: the certificate does not come into force."""
        ca = self.attack("-P", "ca.pem", "-a", "confirm-error")
        self.asks(ca, "www")
        self.assert_nothing_taken("www", "the CA refuses the confirmation", "failed")
        self.assertEqual(len(ca.got(CERT_CONF)), 1)

    def test_attack_17_a_repeated_confirmation_is_refused(self):
        """The answer to the first one was lost: the CA may have done its work, and does not want it
        twice. The certificate holds, over a restart, and an event says what happened."""
        ca = self.attack("-P", "ca.pem", "-h", CERT_CONF, "-a", "confirm-error")
        self.asks(ca, "www", more="")
        self.assertTrue(until(lambda: ca.said(f"held {CERT_CONF}")))
        self.m.kill_all()
        ca.release()
        self.m.start()
        self.assertEqual(self.m.wait("local/www"), "ok")
        self.assertEqual(self.m.status("local/www")["state"], "valid")
        self.assertEqual((len(ca.said("issued")), len(set(ca.got(CERT_CONF)))), (1, 1))
        words = "did not answer the confirmation when it came first"
        self.assertIn(words, self.m.status("local/www")["note"])
        self.assertTrue(any(words in str(event) for event in events(self.m)), events(self.m))

    def test_attack_18_times_to_ask_again_that_are_none(self):
        """They are bounded, and what waits can be cancelled."""
        times = {"negative": -1, "now": 0, "never": 1 << 31}
        for name, after in times.items():
            self.asks(self.attack("-P", "ca.pem", "-w", 10000, "-t", after), name, more="")
        for name in times:
            self.assertTrue(until(lambda: self.m.status(f"local/{name}")["request"] == "waiting"),
                            name)
            self.m.write(f"local/{name}/request", "cancel\n")
            self.assertEqual(self.m.wait(f"local/{name}"), "failed: cancelled", name)
        ca = self.attack("-P", "ca.pem", "-w", 10000, "-t", 0)
        self.asks(ca, "patient", more="enrollment-retry = 3\n")
        self.assert_nothing_taken("patient", "the CA has still not decided, after 3", "failed")
        self.assertLessEqual(len(ca.got(POLL_REQ)), 4)

    def test_attack_20_every_type_of_body(self):
        """Each with the CA's MAC. All that is asked goes on when the CA does."""
        ca = self.attack("-P", "ca.pem", "-I", "-a", "bodies")
        self.profile(self.m, ca)
        store, keys = self.m.children("store"), min(self.m.children("keys"))
        names = [f"id{i}" for i in range(BODIES)]
        for name in names:
            self.cmp_id(self.m, name)
            self.m.write(f"local/{name}/request", "enroll\n")
        self.assertTrue(until(lambda: len(set(ca.got(IR))) >= BODIES))
        ca.restart("-P", "ca.pem")
        for name in names:
            self.assertTrue(self.m.ends(f"local/{name}"), name)
            assert_valid(self, self.m, name)
        self.assertEqual(self.m.children("store"), store)
        self.assertIn(keys, self.m.children("keys"))

    def test_attack_20_every_type_of_body_in_a_renewal(self):
        """Each signed by the CA. The certificate in force stays so, and is renewed by a good CA."""
        self.profile(self.m, self.ca)
        store, keys = self.m.children("store"), min(self.m.children("keys"))
        names = [f"id{i}" for i in range(BODIES)]
        for name in names:
            self.cmp_id(self.m, name)
            self.m.write(f"local/{name}/request", "enroll\n")
        before = {}
        for name in names:
            self.assertEqual(self.m.wait(f"local/{name}"), "ok", name)
            before[name] = self.m.read(f"local/{name}/bundle.pem")
        self.ca.restart("-P", "ca.pem", "-I", "-a", "bodies")
        for name in names:
            self.m.write(f"local/{name}/request", "re-enroll\n")
        self.assertTrue(until(lambda: len(set(self.ca.got(KUR))) >= BODIES))
        self.ca.stop()
        for name in names:
            status = self.m.status(f"local/{name}")
            self.assertEqual(status["state"], "valid", name)
            if status["version"] == "1":
                self.assertEqual(self.m.read(f"local/{name}/bundle.pem"), before[name], name)
        self.assertTrue(any(self.m.status(f"local/{name}")["version"] == "1" for name in names))
        self.ca.start("-P", "ca.pem")
        for name in names:
            self.assertTrue(self.m.ends(f"local/{name}"), name)
            assert_valid(self, self.m, name, version=2)
        self.assertEqual(self.m.children("store"), store)
        self.assertIn(keys, self.m.children("keys"))


if __name__ == "__main__":
    main()
